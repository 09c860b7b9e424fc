//! The thread of bindings: its settings, and the shard of each bridge.

use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use crate::broker::router::{Place, Slots};
use crate::config::{Config, Dapr};
use crate::dapr::{self, App, Bound, Bring, OnFailure, Sidecar};
use crate::files;
use crate::metrics::journal::Journal;
use crate::runtime::{self, Post, SocketFile};
use crate::service::dead_letters;
use crate::shard::mail::Mail;
use crate::shard::session_of_bridge;

use super::check::{Line, Verdict};

/// The file of messages that applications have refused, below the data directory.
const LETTERS: &str = "binding-dead-letters.jsonl";
/// Bounds of the file: 256 MiB in all.
const LETTERS_BYTES_MAX: u64 = 64 << 20;
const LETTERS_FILES: u32 = 4;

/// The thread, if there are bindings.
pub(super) struct Bindings {
    thread: dapr::Bindings,
    /// Sessions of the bridges, by index.
    sessions: Arc<Mutex<Vec<String>>>,
    #[allow(dead_code, reason = "held, not read: the sockets' files go with it, after the thread")]
    sockets: Vec<SocketFile>,
}

impl Bindings {
    /// Starts the thread, if the configuration has bindings. `bring`: takes components of a sidecar.
    ///
    /// # Errors
    /// Its address or a socket cannot be bound, or the thread cannot be made.
    pub(super) fn start(
        config: &Config,
        (post, slots): (&Post<Mail>, &Arc<Slots>),
        journal: &Arc<Journal>,
        bring: Bring,
    ) -> Result<Option<Self>, String> {
        let Some(dapr) = &config.dapr else { return Ok(None) };
        let sessions = Arc::<Mutex<Vec<String>>>::default();
        let (known, post, slots) = (Arc::clone(&sessions), post.clone(), Arc::clone(slots));
        let post = move |ask: dapr::Ask| {
            let known = known.lock().unwrap_or_else(PoisonError::into_inner);
            // The thread gets the bindings after the shards.
            let place = known.get(ask.bridge()).map_or(Place::Here(0), |session| slots.place(session));
            let Place::Here(shard) = place else { return Err(ask) };
            match post.send(shard, Mail::Binding(ask)) {
                Err(Mail::Binding(ask)) if !post.has_ended(shard) => Err(ask),
                _ => Ok(()),
            }
        };
        let bound = dapr.sockets.as_ref().map_or(Ok(Vec::new()), |dir| listen(dir, dapr.socket_mode))?;
        let (sockets, files) = bound.into_iter().map(|(kind, socket, file)| ((kind, socket), file)).unzip();
        let sidecar = Sidecar { sockets, bring };
        let thread = dapr::Bindings::start(settings(config, dapr), sidecar, Arc::new(post), Arc::clone(journal));
        let thread = thread.map_err(|(error, at)| {
            format!("Dapr's API cannot listen on {at}: {error}; http and grpc in [dapr] set its addresses, \"off\" disables them")
        })?;
        if let Some(address) = thread.http() {
            tracing::info!(%address, "Dapr's API is served");
        }
        if let Some(address) = thread.grpc() {
            tracing::info!(%address, "Dapr's gRPC API is served");
        }
        if let Some(dir) = &dapr.sockets {
            tracing::info!(directory = %dir.display(), "components of a sidecar of Dapr are served");
        }
        let bindings = Self { thread, sessions, sockets: files };
        bindings.set(config);
        Ok(Some(bindings))
    }

    /// Sets the bindings of a configuration that all shards have, or will have before they get mail.
    pub(super) fn set(&self, config: &Config) {
        let sessions = config.bridges.iter().map(session_of_bridge).collect();
        *self.sessions.lock().unwrap_or_else(PoisonError::into_inner) = sessions;
        self.thread.set(all(config));
    }

    /// The channel to the thread.
    pub(super) fn app(&self) -> App {
        self.thread.app()
    }

    /// The thread's counters.
    pub(super) fn numbers(&self) -> Arc<dapr::Numbers> {
        self.thread.numbers()
    }
}

/// Opens the sockets of a directory, each with the type of its components and its file.
fn listen(dir: &Path, mode: u32) -> Result<Vec<(&'static str, UnixListener, SocketFile)>, String> {
    let failed = |path: &Path, error: std::io::Error| {
        format!("components cannot listen on {}: {error}; sockets in [dapr] names its directory", path.display())
    };
    files::make_dirs(dir).map_err(|error| failed(dir, error))?;
    let one = |(name, kind): (&str, &'static str)| {
        let path = dir.join(name);
        let (socket, file) = runtime::listen(&path, mode).map_err(|error| failed(&path, error))?;
        Ok((kind, socket, file))
    };
    dapr::SOCKETS.into_iter().map(one).collect()
}

fn all(config: &Config) -> Vec<Bound> {
    let of = |(at, bridge): (usize, &crate::config::Bridge)| {
        let binding = bridge.binding.as_ref().filter(|_| !bridge.is_removed)?;
        Some((at, bridge.name.clone(), Arc::clone(binding)))
    };
    config.bridges.iter().enumerate().filter_map(of).collect()
}

fn settings(config: &Config, of: &Dapr) -> dapr::Settings {
    dapr::Settings {
        app_id: of.app_id.clone(),
        http: of.http,
        grpc: of.grpc,
        app: of.app.as_deref().and_then(|url| dapr::Address::parse(url).ok()),
        api_token: of.api_token.clone(),
        app_token: of.app_token.clone(),
        body_bytes_max: config.mqtt.packet_bytes_max as usize,
        letters: dead_letters::Settings { path: letters(config), bytes_max: LETTERS_BYTES_MAX, files: LETTERS_FILES },
    }
}

/// Reports each component's bridge, and the sockets for components of a sidecar.
pub(super) fn check(config: &Config, lines: &mut Vec<Line>) {
    if let Some(dir) = config.dapr.as_ref().and_then(|dapr| dapr.sockets.as_ref()) {
        let names = dapr::SOCKETS.map(|(name, kind)| format!("{kind} ({name})")).join(" and ");
        let text = format!("{names} in {}: a sidecar brings their metadata when it starts", dir.display());
        lines.push(Line { verdict: Verdict::Ok, about: "components of a sidecar".to_owned(), text });
    }
    for (_, name, binding) in all(config) {
        let about = format!("component {} ({})", binding.component, binding.kind);
        let bridge = config.bridges.iter().find(|bridge| bridge.name == name);
        let filter = bridge.and_then(|bridge| bridge.ins.first()).and_then(|of| of.asked().next()).unwrap_or_default();
        if let Some(gives) = &binding.gives {
            let topic =
                gives.topic.as_ref().map_or_else(|| "no topic of its own".to_owned(), |topic| format!("{topic:?}"));
            let retain = if gives.retain { ", retained" } else { "" };
            let text = format!("output to {topic} at QoS {}{retain}, as bridge {name}", gives.qos);
            lines.push(Line { verdict: Verdict::Ok, about: about.clone(), text });
        }
        if let Some(takes) = &binding.takes {
            let retries = match takes.retries {
                None => "retries without end".to_owned(),
                Some(0) => "no retries".to_owned(),
                Some(1) => "1 retry".to_owned(),
                Some(most) => format!("{most} retries"),
            };
            let then = match &takes.on_failure {
                OnFailure::File => format!("then a dead letter in {}", letters(config).display()),
                OnFailure::Topic(topic) => format!("then a dead letter at {topic:?}"),
                OnFailure::Drop => "then it is dropped".to_owned(),
                OnFailure::Keep => "then it stays with the remote".to_owned(),
            };
            let app = config.dapr.as_ref().and_then(|dapr| dapr.app.as_deref()).unwrap_or_default();
            let route = if app.starts_with("grpc:") { &binding.component } else { &takes.route };
            let text = format!("input from {filter:?} to {app}/{route}, as bridge {name}: {retries}, {then}");
            lines.push(Line { verdict: Verdict::Ok, about, text });
        }
    }
}

fn letters(config: &Config) -> std::path::PathBuf {
    config.service.data_dir.join(LETTERS)
}
