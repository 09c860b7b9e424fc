//! `forebay run`: from a configuration to a running service, and back to nothing.

use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use crate::config::{Config, EMBEDDED, LogFormat};
use crate::control::{Control, View};
use crate::embedded::{self, EmbeddedLog};
use crate::limits::MAILBOX_LETTERS_MAX;
use crate::metrics::board::Board;
use crate::metrics::collector::{Boards, Extra};
use crate::metrics::spec::Layout;
use crate::runtime::{self, Listeners, Post, ShardThread, Watchdog};
use crate::service::preflight::Host;
use crate::service::{log, notify, resolver, signals};
use crate::shard::mail::{Mail, Notice};
use crate::shard::{Core, Surroundings};

/// Why the service did not start or did not end well, in words for a person.
type Failure = String;

/// What the waiting main thread hears.
enum Event {
    Shard(Notice),
    Signal(&'static str),
}

/// Runs the service until a signal ends it.
#[must_use]
pub fn run(config: Config) -> ExitCode {
    let logging = match log::start(log_format(&config), config.log.level.as_str()) {
        Ok(guard) => guard,
        Err(error) => return failed(&error),
    };
    let outcome = Service::start(config).and_then(Service::serve);
    drop(logging);
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failed(&error),
    }
}

fn failed(error: &str) -> ExitCode {
    eprintln!("forebay: {error}");
    ExitCode::FAILURE
}

struct Service {
    config: Arc<Config>,
    embedded: Option<EmbeddedLog>,
    control: Option<Control>,
    shards: Vec<ShardThread>,
    heard: Receiver<Event>,
    post: Post<Mail>,
    ready: Arc<AtomicBool>,
    mqtt: Vec<SocketAddr>,
}

impl Service {
    fn start(mut config: Config) -> Result<Self, Failure> {
        preflight(config.service.shards)?;
        let data_dir = config.service.data_dir.clone();
        std::fs::create_dir_all(&data_dir)
            .map_err(|e| format!("data directory {}: {e}; `service.data_dir` (or --data-dir) moves it", data_dir.display()))?;
        let embedded = start_embedded(&mut config)?;
        let shards = config.service.shards;
        let listeners = bind_listeners(&config)?;
        let mqtt = listeners.local_addrs();
        let config = Arc::new(config);

        let (tell, heard) = channel();
        signals::watch(tell.clone(), Event::Signal).map_err(|e| format!("signals: {e}"))?;
        let (notices, notice) = channel();
        std::thread::spawn(move || notice.iter().try_for_each(|n| tell.send(Event::Shard(n))));
        let (post, mailboxes) = runtime::mailboxes(shards, MAILBOX_LETTERS_MAX);
        let resolver = resolver::start().map_err(|e| format!("resolver: {e}"))?;
        let around = Surroundings { config: Arc::clone(&config), post: post.clone(), resolver, notices };
        let layout = Layout { sinks: config.sinks.len(), clusters: config.clusters.len() };
        let boards: Vec<Arc<Board>> = (0..shards).map(|_| Arc::new(Board::new(layout.len()))).collect();
        let settings = config.runtime_settings();
        let (mut threads, mut hearts) = (Vec::new(), Vec::new());
        for (mailbox, (board, sockets)) in mailboxes.into_iter().zip(boards.iter().zip(listeners.per_shard())) {
            let index = threads.len();
            let (around, board) = (around.clone(), Arc::clone(board));
            let make = move |index| Core::new(index, around, board);
            let spawned = runtime::spawn(index, &settings, sockets, mailbox, make);
            let running = spawned.map_err(|e| format!("shard {index} does not start: {e}"))?;
            hearts.push(running.heartbeat);
            threads.push(running.thread);
        }
        let ready = Arc::new(AtomicBool::new(false));
        let boards = Arc::new(Boards {
            shards: boards,
            sinks: config.sinks.iter().map(|s| s.name.clone()).collect(),
            clusters: config.clusters.iter().map(|c| c.name.clone()).collect(),
        });
        let extra = embedded.iter().map(|log| log.counters() as Arc<dyn Extra>).collect();
        let control = start_control(&config, boards, extra, Arc::clone(&ready), hearts)?;
        Ok(Self { config, embedded, control, shards: threads, heard, post, ready, mqtt })
    }

    fn serve(self) -> Result<(), Failure> {
        let mut started = 0;
        let signal = loop {
            match self.heard.recv() {
                Ok(Event::Shard(Notice::Started(_))) => {
                    started += 1;
                    if started == self.shards.len() {
                        self.ready.store(true, Ordering::Release);
                        self.greet();
                        notify::ready("accepting devices");
                    }
                }
                Ok(Event::Shard(Notice::Drained { shard, .. })) => return Err(format!("shard {shard} ended by itself")),
                Ok(Event::Signal(signal)) => break signal,
                Err(_) => return Err("all shards ended".into()),
            }
        };
        self.drain(signal)
    }

    /// Says where it listens and what to type next.
    fn greet(&self) {
        for addr in &self.mqtt {
            println!("mqtt listening on {addr}");
        }
        if let Some(control) = &self.control {
            println!("control listening on http://{}", control.addr());
        }
        if let Some(log) = &self.embedded {
            println!("embedded log listening on {}", log.local_addr());
        }
        let sink = self.config.sinks.first().and_then(|s| s.topic.as_literal());
        if let (Some(mqtt), Some(log), Some(topic)) = (self.mqtt.first(), &self.embedded, sink) {
            let kafka = log.local_addr();
            println!("\nPublish something:\n  mosquitto_pub -h {} -p {} -q 1 -t hello -m world", mqtt.ip(), mqtt.port());
            println!("and read it as a Kafka record:\n  kcat -b {kafka} -C -t {topic} -o beginning -e -f '%k: %s\\n'");
            println!("\nCtrl-C ends it; `forebay --help` tells the rest.");
        }
    }

    fn drain(mut self, signal: &str) -> Result<(), Failure> {
        let grace = self.config.service.drain_grace;
        tracing::info!(signal, ?grace, "draining: no new devices, finishing what is in flight");
        self.ready.store(false, Ordering::Release);
        notify::stopping(u32::try_from(grace.as_secs()).unwrap_or(u32::MAX));
        for shard in 0..self.shards.len() {
            let mut letter = Mail::Drain { grace };
            while let Err(back) = self.post.send(shard, letter) {
                letter = back;
                std::thread::sleep(Duration::from_millis(1));
            }
        }
        let (rows_left, connections_left) = self.await_drained(grace)?;
        for shard in self.shards.drain(..) {
            let _ = shard.join();
        }
        drop(self.control.take());
        if let Some(log) = self.embedded.take() {
            log.stop();
        }
        if rows_left == 0 {
            tracing::info!("drained: everything taken is in Kafka");
        } else {
            tracing::warn!(
                rows_left,
                connections_left,
                "grace over: these messages are not in Kafka; at `replicated` their publishers were not answered and send again"
            );
        }
        Ok(())
    }

    fn await_drained(&self, grace: Duration) -> Result<(u64, usize), Failure> {
        // The shards keep the grace themselves; this is for one that stands still.
        let deadline = Instant::now() + grace + Duration::from_secs(5);
        let (mut left, mut rows, mut connections) = (self.shards.len(), 0, 0);
        while left > 0 {
            match self.heard.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(Event::Shard(Notice::Drained { rows_left, connections_left, .. })) => {
                    left -= 1;
                    rows += rows_left;
                    connections += connections_left;
                }
                Ok(Event::Shard(Notice::Started(_))) => {}
                Ok(Event::Signal(_)) => return Err("second signal: ended without finishing the drain".into()),
                Err(RecvTimeoutError::Timeout) => return Err(format!("{left} shards did not finish draining")),
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        Ok((rows, connections))
    }
}

fn preflight(shards: usize) -> Result<(), Failure> {
    let host = Host::read(runtime::probe().map_err(|e| e.to_string()));
    let findings = host.findings(shards);
    for finding in findings.iter().filter(|f| !f.fatal) {
        tracing::warn!("{finding}");
    }
    let fatal: Vec<String> = findings.iter().filter(|f| f.fatal).map(ToString::to_string).collect();
    if fatal.is_empty() { Ok(()) } else { Err(fatal.join("\nforebay: ")) }
}

/// Starts the embedded log, and tells the cluster that stands for it where it listens.
fn start_embedded(config: &mut Config) -> Result<Option<EmbeddedLog>, Failure> {
    let Some(settings) = config.embedded_settings() else { return Ok(None) };
    let log = EmbeddedLog::start(settings).map_err(|e| e.to_string())?;
    config.point_embedded_cluster_at(log.local_addr());
    Ok(Some(log))
}

fn bind_listeners(config: &Config) -> Result<Listeners, Failure> {
    let addrs: Vec<SocketAddr> = config.listeners.iter().map(|l| l.bind).collect();
    Listeners::bind(&addrs, config.service.shards)
        .map_err(|e| format!("{e}; `listener.bind` (or --listen) moves it"))
}

fn start_control(
    config: &Config,
    boards: Arc<Boards>,
    extra: Vec<Arc<dyn Extra>>,
    ready: Arc<AtomicBool>,
    hearts: Vec<Heartbeat>,
) -> Result<Option<Control>, Failure> {
    let Some(bind) = config.control.bind else { return Ok(None) };
    let health = Box::new(move || {
        let stalled = hearts.iter().enumerate().find(|(_, heart)| heart.stalled());
        stalled.map(|(shard, _)| format!("shard {shard} stands still"))
    });
    Control::start(bind, View { boards, extra, ready, health })
        .map(Some)
        .map_err(|e| format!("control on {bind}: {e}; `control.bind` (or --control) moves it, \"off\" turns it off"))
}
