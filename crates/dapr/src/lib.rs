//! Dapr's bindings: an application publishes to a remote by HTTP or gRPC, and is called for each message of a remote; or a sidecar of Dapr does
//! both for it, and has bindings here as its pluggable components.
//!
//! The documents that describe bindings are read elsewhere ([`crate::config`]), and the remotes are those of bridges. This module
//! knows neither: it serves and calls HTTP and gRPC on a thread of its own, and exchanges mail with the shards that have the
//! bridges.
//!
//! | file | |
//! |---|---|
//! | `serve` | the HTTP API |
//! | `grpc` | the gRPC API, and components of a sidecar, with the feature of that name |
//! | `output` | publishes of applications, by either API |
//! | `mail` | mail between the shards and the thread |
//! | `calls` | messages of remotes for the application: order, retries, dead letters |
//! | `app` | calls of the application, by HTTP or gRPC |
//! | `proto` | the messages of gRPC |

#![forbid(unsafe_code)]

mod app;
mod calls;
#[cfg(feature = "grpc")]
mod grpc;
mod json;
mod mail;
mod numbers;
mod output;
#[cfg(feature = "grpc")]
mod proto;
mod serve;

use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpListener};
use std::num::NonZeroUsize;
use std::os::unix::net::UnixListener;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;
use std::{fmt, io};

use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tokio::sync::{oneshot, watch};

pub use self::mail::{Answer, App, Ask, Call, Create, Outcome};
pub use self::numbers::{NUMBERS, Numbers};
use forebay_base::in_use;
use forebay_guard::secure::Secret;
use forebay_metrics::journal::Journal;
use forebay_service::service::dead_letters;

/// The properties of a Dapr component beyond those of its bridge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Binding {
    /// Name of the component, by which the application knows it.
    pub component: String,
    /// The type: `bindings.mqtt` or `bindings.mqtt3`.
    pub kind: &'static str,
    /// Whether a sidecar has brought it: the sidecar is then called in the place of the application.
    pub is_brought: bool,
    /// The output binding; `None`: there is none, or on another connection.
    pub gives: Option<Gives>,
    /// The input binding; `None`: there is none, or on another connection.
    pub takes: Option<Takes>,
}

/// The output of a binding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gives {
    /// Topic at the remote of messages that name none; `None`: the component's topic is a filter.
    pub topic: Option<String>,
    /// QoS, 0 to 2.
    pub qos: u8,
    /// Whether the remote is to retain the messages.
    pub retain: bool,
}

/// The input of a binding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Takes {
    /// The path that is called, without the first `/`.
    pub route: String,
    /// Whether the application is asked first whether it wants messages.
    pub is_asked: bool,
    /// Retries of a message that the application refuses; `None`: without end.
    pub retries: Option<u32>,
    /// The most calls at a time.
    pub concurrency: NonZeroUsize,
    /// The treatment of a message that is refused after all retries.
    pub on_failure: OnFailure,
}

/// The treatment of a message that the application has refused after all retries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OnFailure {
    /// The message is written to the file of dead letters, then acknowledged.
    File,
    /// The message is published to this topic of the remote, and acknowledged when the remote has it.
    Topic(String),
    /// The message is acknowledged and dropped.
    Drop,
    /// The message is not acknowledged: the remote still has it.
    Keep,
}

/// A component that a sidecar has brought: the contents of its document, with secrets filled in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Brought {
    /// The name.
    pub component: String,
    /// The type: `bindings.mqtt` or `bindings.mqtt3`.
    pub kind: &'static str,
    /// The metadata. Every value may be secret.
    pub properties: BTreeMap<String, Secret>,
}

/// Why a component is not in the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NotBrought {
    /// Another change is under way, or the service is still starting.
    Busy(String),
    /// The component is invalid.
    Wrong(String),
}

/// Takes the outcome for a component, once it is in force.
pub type BroughtAnswer = Box<dyn FnOnce(Result<(), NotBrought>) + Send>;

/// Takes a component into the configuration. It does not block.
pub type Bring = Arc<dyn Fn(Brought, BroughtAnswer) + Send + Sync>;

/// The sockets of components, and their types: a component `bindings.NAME` of a sidecar is one of that type here.
pub const SOCKETS: [(&str, &str); 2] = [("mqtt.sock", "bindings.mqtt"), ("mqtt3.sock", "bindings.mqtt3")];

/// The connection of a sidecar.
pub struct Sidecar {
    /// Sockets that the sidecar connects to, each with the type of its components.
    pub sockets: Vec<(&'static str, UnixListener)>,
    /// Takes the components that the sidecar brings.
    pub bring: Bring,
}

/// Whether this build has gRPC.
pub const HAS_GRPC: bool = cfg!(feature = "grpc");

/// The address of the application.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// Whether the application is called by gRPC.
    pub is_grpc: bool,
    /// The host; an IPv6 address is in brackets.
    pub host: String,
    /// The port.
    pub port: u16,
}

impl Address {
    /// Reads the URL of an application: `http://HOST[:PORT]`, or `grpc://HOST:PORT`.
    ///
    /// # Errors
    /// Why the URL is refused.
    pub fn parse(url: &str) -> Result<Self, String> {
        let wrong = || format!("{url:?} is not like \"http://127.0.0.1:8000\" or \"grpc://127.0.0.1:9000\"");
        let (scheme, rest) = url.split_once("://").ok_or_else(wrong)?;
        let is_grpc = match scheme {
            "http" => false,
            "grpc" => true,
            "https" | "grpcs" => {
                return Err(format!("{scheme} is not supported: http://HOST:PORT or grpc://HOST:PORT"));
            }
            _ => return Err(wrong()),
        };
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        let has_port = rest.rfind(':').is_some_and(|colon| rest.rfind(']').is_none_or(|bracket| bracket < colon));
        let (host, port) = match has_port {
            true => rest.rsplit_once(':').ok_or_else(wrong)?,
            false if is_grpc => return Err(wrong()),
            false => (rest, "80"),
        };
        let is_named = host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-_[]:".contains(&byte));
        match port.parse() {
            Ok(port) if port > 0 && !host.is_empty() && is_named => Ok(Self { is_grpc, host: host.to_owned(), port }),
            _ => Err(wrong()),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

/// A binding in force: its bridge's place in the configuration, its bridge's name, and its other properties.
pub type Bound = (usize, String, Arc<Binding>);

/// A message to the thread of bindings.
#[derive(Debug)]
enum Told {
    Call(Call),
    Bindings(Vec<Bound>),
}

/// Settings of the thread.
#[derive(Debug)]
pub struct Settings {
    /// ID of the application.
    pub app_id: Option<String>,
    /// The address of the HTTP API.
    pub http: Option<SocketAddr>,
    /// The address of the gRPC API.
    pub grpc: Option<SocketAddr>,
    /// The application.
    pub app: Option<Address>,
    /// The token that requests must have.
    pub api_token: Option<Secret>,
    /// The token that the application is sent.
    pub app_token: Option<Secret>,
    /// The longest body of a request.
    pub body_bytes_max: usize,
    /// The file of messages that the application has refused.
    pub letters: dead_letters::Settings,
}

/// Sends mail to the shard that has a bridge.
///
/// # Errors
/// The shard's mailbox is full.
pub type Post = Arc<dyn Fn(Ask) -> Result<(), Ask> + Send + Sync>;

/// The state that all tasks of the thread share.
struct Shared {
    settings: Settings,
    post: Post,
    journal: Arc<Journal>,
    numbers: Arc<Numbers>,
    bindings: watch::Sender<Arc<Vec<Bound>>>,
    next: AtomicU64,
    #[cfg(feature = "grpc")]
    bring: Bring,
    #[cfg(feature = "grpc")]
    streams: grpc::Streams,
}

impl Shared {
    fn bindings(&self) -> Arc<Vec<Bound>> {
        Arc::clone(&self.bindings.borrow())
    }

    /// Sends a request to a shard, waiting while its mailbox is full.
    async fn ask(&self, mut ask: Ask) {
        while let Err(back) = (self.post)(ask) {
            ask = back;
            tokio::time::sleep(MAILBOX_AGAIN).await;
        }
    }

    /// Publishes a message, and returns its outcome within [`CREATED_WITHIN`], or a little later.
    async fn create(&self, bridge: usize, topic: String, payload: Vec<u8>, (qos, retain): (u8, bool)) -> Outcome {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let (tell, mut told) = oneshot::channel();
        let answer = Answer::new(move |outcome| drop(tell.send(outcome)));
        let create = Create { bridge, number, topic, payload, qos, retain, answer };
        let in_time = tokio::time::timeout(CREATED_WITHIN, async {
            self.ask(Ask::Create(create)).await;
            (&mut told).await
        });
        let stopping =
            || Outcome::Unknown("outcome unknown: the service is stopping, or the binding was removed".to_owned());
        if let Ok(outcome) = in_time.await {
            return outcome.unwrap_or_else(|_| stopping());
        }
        self.ask(Ask::Withdraw { bridge, number }).await;
        told.await.unwrap_or_else(|_| stopping())
    }
}

fn lock<T>(of: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The longest wait of a request for the remote.
pub const CREATED_WITHIN: Duration = Duration::from_secs(10);
/// The most bytes of a gRPC message beside its payload.
#[cfg(feature = "grpc")]
const MORE_BYTES: usize = 64 << 10;
/// The wait before a shard with a full mailbox is asked again.
const MAILBOX_AGAIN: Duration = Duration::from_millis(1);

/// A listener at an address, if there is one.
fn bound(address: Option<SocketAddr>) -> Result<Option<TcpListener>, (io::Error, String)> {
    let Some(address) = address else { return Ok(None) };
    let listener = in_use::wait(io::ErrorKind::AddrInUse, in_use::ATTEMPTS, || TcpListener::bind(address));
    let listener = listener.and_then(|listener| listener.set_nonblocking(true).map(|()| listener));
    listener.map(Some).map_err(|error| (error, address.to_string()))
}

/// Serves the connections of a listener, if there is one, while it is polled.
async fn served<F: Future<Output = ()>>(
    listener: Option<TcpListener>,
    serve: impl FnOnce(tokio::net::TcpListener) -> F,
) {
    match listener.map(tokio::net::TcpListener::from_std) {
        Some(Ok(listener)) => serve(listener).await,
        Some(Err(error)) => tracing::error!(%error, "Dapr's API cannot be served"),
        None => std::future::pending().await,
    }
}

#[cfg(feature = "grpc")]
async fn served_by_grpc(
    listener: Option<TcpListener>,
    sockets: Vec<(&'static str, UnixListener)>,
    shared: &Arc<Shared>,
) {
    for (kind, socket) in sockets {
        match tokio::net::UnixListener::from_std(socket) {
            Ok(socket) => drop(tokio::spawn(grpc::serve_components(socket, kind, Arc::clone(shared)))),
            Err(error) => tracing::error!(%error, kind, "components cannot be served"),
        }
    }
    served(listener, |listener| grpc::serve_api(listener, Arc::clone(shared))).await;
}

/// Serves nothing: a build without gRPC is configured with neither address nor sockets.
#[cfg(not(feature = "grpc"))]
async fn served_by_grpc(_: Option<TcpListener>, _: Vec<(&'static str, UnixListener)>, _: &Arc<Shared>) {
    std::future::pending().await
}

/// The thread of bindings, which ends when this is dropped.
#[derive(Debug)]
pub struct Bindings {
    tell: UnboundedSender<Told>,
    numbers: Arc<Numbers>,
    http: Option<SocketAddr>,
    grpc: Option<SocketAddr>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Bindings {
    /// Binds the sockets, then serves and calls on a thread of its own.
    ///
    /// # Errors
    /// An address cannot be bound, or the thread cannot be made; and the address.
    pub fn start(
        settings: Settings,
        sidecar: Sidecar,
        post: Post,
        journal: Arc<Journal>,
    ) -> Result<Self, (io::Error, String)> {
        let (http, grpc) = (bound(settings.http)?, bound(settings.grpc)?);
        let addr = |of: &Option<TcpListener>| of.as_ref().and_then(|listener| listener.local_addr().ok());
        let (http_addr, grpc_addr) = (addr(&http), addr(&grpc));
        let of_thread = |error| (error, "its thread".to_owned());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(of_thread)?;
        let (tell, told) = unbounded_channel();
        let (stop, stopped) = oneshot::channel::<()>();
        let numbers = Arc::<Numbers>::default();
        let Sidecar { sockets, bring } = sidecar;
        #[cfg(not(feature = "grpc"))]
        drop(bring);
        let shared = Arc::new(Shared {
            settings,
            post,
            journal,
            numbers: Arc::clone(&numbers),
            bindings: watch::Sender::default(),
            next: AtomicU64::new(0),
            #[cfg(feature = "grpc")]
            bring,
            #[cfg(feature = "grpc")]
            streams: grpc::Streams::default(),
        });
        let thread = std::thread::Builder::new().name("bindings".into()).spawn(move || {
            runtime.block_on(async {
                tokio::select! {
                    () = calls::run(told, Arc::clone(&shared)) => {}
                    () = served(http, |listener| serve::serve(listener, Arc::clone(&shared))) => {}
                    () = served_by_grpc(grpc, sockets, &shared) => {}
                    _ = stopped => {}
                }
            });
        });
        let thread = thread.map_err(of_thread)?;
        Ok(Self { tell, numbers, http: http_addr, grpc: grpc_addr, stop: Some(stop), thread: Some(thread) })
    }

    /// The channel to the application.
    #[must_use]
    pub fn app(&self) -> App {
        let tell = self.tell.clone();
        App::new(move |call| tell.send(Told::Call(call)).is_ok())
    }

    /// Sets the bindings, each with its place among the bridges and its name.
    pub fn set(&self, bindings: Vec<Bound>) {
        // The thread ends with this.
        let _ = self.tell.send(Told::Bindings(bindings));
    }

    /// The address of the HTTP API.
    #[must_use]
    pub fn http(&self) -> Option<SocketAddr> {
        self.http
    }

    /// The address of the gRPC API.
    #[must_use]
    pub fn grpc(&self) -> Option<SocketAddr> {
        self.grpc
    }

    /// The thread's counters.
    #[must_use]
    pub fn numbers(&self) -> Arc<Numbers> {
        Arc::clone(&self.numbers)
    }
}

impl Drop for Bindings {
    fn drop(&mut self) {
        drop(self.stop.take());
        self.thread.take().into_iter().for_each(|thread| drop(thread.join()));
    }
}
