//! The control plane: one ordinary thread with a small tokio runtime that serves `/healthz`, `/readyz`, `/metrics` and
//! `/api/v1`. It reads boards, heartbeats and the journal of events, and asks shards by mail; it never waits for one
//! without a bound, and no shard ever waits for it. `docs/API.md` describes it.

#![forbid(unsafe_code)]

mod auth;
mod bans;
mod bridges;
mod change;
mod clients;
mod config_file;
mod connections;
mod content;
mod described;
mod events;
mod files;
mod flow;
mod guesses;
mod histograms;
#[cfg(any(test, feature = "testing"))]
mod idle;
mod letter_topics;
mod letters;
mod live;
mod login;
mod obstacles;
mod overview;
mod own_token;
mod pages;
mod partitions;
mod past;
mod problem;
mod publish;
mod reload;
mod retained;
mod rules;
mod serve;
mod shares;
mod shown;
mod slots;
mod sources;
mod spool;
mod test_client;
mod tokens;
mod top;
mod traced;
mod traces;
mod trial;
mod users;

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{SystemTime, UNIX_EPOCH};

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use rustls::ServerConfig;
use tokio::sync::{Semaphore, oneshot};
use utoipa::OpenApi;
use utoipa::openapi::RefOr;
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityRequirement, SecurityScheme};
use utoipa_axum::router::OpenApiRouter;

pub use self::bridges::Bridge;
pub use self::config_file::{ConfigFile, difference, etag};
pub use self::connections::{CONNECTIONS_MAX, Connections, NUMBERS};
pub use self::content::Content;
pub use self::described::{Cluster, Dashboard, DeadLetters, Described, Listener, Sink};
pub use self::letter_topics::{
    DeadLetter, LetterAbout, LetterFile, LetterPlace, LetterPlaces, LetterSent, LetterTopic, LettersAsk, LettersFound,
    LettersSent, LettersToSend, LettersWanted,
};
pub use self::live::Live;
pub use self::login::Logins;
pub use self::obstacles::Obstacles;
pub use self::own_token::OwnToken;
pub use self::past::{PastAgainst, PastAsk, PastCounts, PastExample, PastFate, PastResult, PastRun};
use self::problem::Problem;
pub use self::reload::{
    FileAnswer, KeysAnswer, Mistake, Part, ReloadAnswer, ReloadRefused, Reloaded, Reloads, To, Wanted,
};
pub use self::rules::{RawFields, Rule, RuleAsk, RuleTrial};
pub use self::shown::Shown;
pub use self::sources::Source;
pub use self::tokens::{Role, Tokens};
pub use self::traces::Traces;
pub use self::trial::{
    BridgeTrial, BrokerTrial, ClusterTrial, Finding, Header, MessageTrial, RecordTrial, SampleMessage, SourceTrial,
    TopicTrial, TrialAnswer, Trials,
};
pub use self::users::{
    AccessTried, Auth, AuthAnswer, AuthAsk, AuthTold, PermissionsChecked, PermissionsFile, TriedAction, UserOfFile,
    UsersFound,
};
use forebay_base::in_use;
use forebay_guard::bans::Bans;
use forebay_metrics::collector::{Boards, Extra, render};
use forebay_metrics::exposition::Format;
use forebay_metrics::inspect::Shards;
use forebay_metrics::journal::Journal;
use forebay_metrics::lag::Lag;
use forebay_metrics::samples::Samples;
use forebay_metrics::source_lag::SourceLag;
use forebay_metrics::time::rfc3339;
use forebay_service::telemetry::Tracer;

/// Why the process is not healthy; `None` while every shard's loop runs.
pub type Health = dyn Fn() -> Option<String> + Send + Sync;

/// The version that `-V` prints after the name, and the commit and target that it was built from.
pub const VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), " (", env!("FOREBAY_BUILD"), ")");

/// Limit of concurrent event streams.
pub const STREAMS_MAX: usize = 16;

/// The log's level at run time.
pub trait LogControl: Send + Sync {
    /// The filter in force.
    fn level(&self) -> String;
    /// Changes the filter.
    ///
    /// # Errors
    /// Why the filter is invalid.
    fn set_level(&self, level: &str) -> Result<(), String>;
}

/// Everything that the control plane shows.
#[derive(Clone)]
pub struct View {
    /// Numbers of the shards.
    pub boards: Arc<Boards>,
    /// Numbers of other threads.
    pub extra: Vec<Arc<dyn Extra>>,
    /// Whether listeners are open; false again while draining.
    pub ready: Arc<AtomicBool>,
    /// Reasons why the instance wants no new clients.
    pub obstacles: Arc<Obstacles>,
    /// Health check: whether a shard's loop has stalled.
    pub health: Arc<Health>,
    /// Events.
    pub journal: Arc<Journal>,
    /// Age of the oldest record that is not in Kafka, by sink.
    pub lag: Arc<Lag>,
    /// Unread records in the partitions of sources.
    pub source_lag: Arc<SourceLag>,
    /// Readings of the boards of the last seconds.
    pub samples: Arc<Samples>,
    /// Names and settings of the objects that the numbers belong to.
    pub described: Arc<Described>,
    /// The way to ask shards.
    pub shards: Arc<dyn Shards>,
    /// The log.
    pub log: Arc<dyn LogControl>,
    /// The way to reload and change the configuration.
    pub reloads: Arc<dyn Reloads>,
    /// The way to run trials.
    pub trials: Arc<dyn Trials>,
    /// Tokens of `/api/v1`; `None`: only this machine may use it.
    pub tokens: Option<Arc<Tokens>>,
    /// The token for this machine; `None`: there is none.
    pub own_token: Option<Arc<OwnToken>>,
    /// TLS of new connections; `None`: no TLS.
    pub tls: Option<Arc<ServerConfig>>,
    /// When the process started.
    pub started: SystemTime,
    /// I/O interface of the shards: `ring` or `epoll`.
    pub io: &'static str,
    /// Exporter of spans of requests.
    pub tracer: Tracer,
    /// Permits of event streams.
    pub streams: Arc<Semaphore>,
    /// Logins of browsers.
    pub logins: Arc<Logins>,
    /// Live numbers, and the history of the last hours.
    pub live: Arc<Live>,
    /// Traces of clients and topics.
    pub traces: Arc<Traces>,
    /// Bans of clients, users and addresses.
    pub bans: Arc<Bans>,
}

impl View {
    /// Whether the instance wants new clients: listeners are open, nothing is in the way of sessions, and the instance was not drained.
    fn is_ready(&self) -> bool {
        self.ready.load(Ordering::Acquire) && self.obstacles.first().is_none() && !self.shards.is_drained()
    }

    fn started_at(&self) -> String {
        let since = self.started.duration_since(UNIX_EPOCH).unwrap_or_default();
        rfc3339(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
    }

    fn sink_named(&self, name: &str) -> Option<usize> {
        self.shown_sinks().find(|index| self.described.sinks[*index].name == name)
    }

    /// Indexes of the sinks of the configuration, and of removed ones that still hold records.
    fn shown_sinks(&self) -> impl Iterator<Item = usize> {
        let is_shown = |(index, sink): &(usize, &Sink)| !sink.is_removed || self.boards.holds_records(*index);
        self.described.sinks.iter().enumerate().filter(is_shown).map(|(index, _)| index)
    }

    /// Indexes of the clusters of the configuration.
    fn shown_clusters(&self) -> impl Iterator<Item = usize> {
        self.described.clusters.iter().enumerate().filter(|(_, cluster)| !cluster.is_removed).map(|(index, _)| index)
    }

    fn no_sink(&self, name: &str) -> Problem {
        Problem::not_found(format!("no sink {name:?}; /api/v1/sinks lists them"))
    }

    /// The sink that a query names, if any.
    fn wanted_sink(&self, name: Option<&str>) -> Result<Option<usize>, Problem> {
        let Some(name) = name else { return Ok(None) };
        let index = self.sink_named(name);
        index.map(Some).ok_or_else(|| Problem::bad_request(format!("no sink {name:?}; /api/v1/sinks lists them")))
    }
}

/// The running control plane.
#[derive(Debug)]
pub struct Control {
    addr: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Control {
    /// Binds before it returns, so that the caller learns of an address in use, and serves on a thread of its own.
    ///
    /// # Errors
    /// The address cannot be bound, or the thread cannot be made.
    pub fn start(bind: SocketAddr, shown: Shown, connections: Arc<Connections>) -> io::Result<Self> {
        let listener = in_use::wait(io::ErrorKind::AddrInUse, in_use::ATTEMPTS, || TcpListener::bind(bind))?;
        listener.set_nonblocking(true)?;
        let addr = listener.local_addr()?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        shown.view().logins.served_at(addr.port());
        let (stop, stopped) = oneshot::channel::<()>();
        let router = router(shown.clone(), addr.ip().to_canonical().is_loopback());
        let thread = std::thread::Builder::new().name("control".into()).spawn(move || {
            runtime.block_on(async move {
                let listener = match tokio::net::TcpListener::from_std(listener) {
                    Ok(listener) => listener,
                    Err(error) => return tracing::error!(%error, "control plane cannot serve"),
                };
                tokio::select! {
                    () = serve::serve(listener, shown, router, connections) => {}
                    _ = stopped => {}
                }
            });
        })?;
        Ok(Self { addr, stop: Some(stop), thread: Some(thread) })
    }

    /// Bound address (with the real port if 0 was requested).
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        self.stop.take();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

#[derive(OpenApi)]
#[openapi(
    info(title = "Forebay", description = "Admin API of Forebay: MQTT in front of Apache Kafka.", license(name = "Apache-2.0", identifier = "Apache-2.0")),
    servers((url = "/")),
    tags(
        (name = "service", description = "The service as a whole"),
        (name = "listeners", description = "Where clients connect"),
        (name = "broker", description = "The instances of `[broker]`"),
        (name = "clients", description = "Clients and their sessions"),
        (name = "users", description = "Users and permissions: the files of `[auth.NAME]`"),
        (name = "retained", description = "Retained messages"),
        (name = "sinks", description = "From MQTT to Kafka"),
        (name = "sources", description = "From Kafka to MQTT"),
        (name = "bridges", description = "To other MQTT brokers, and from them"),
        (name = "rules", description = "SQL between messages and sinks"),
        (name = "kafka", description = "Kafka clusters and topics"),
        (name = "spool", description = "The disk buffer"),
        (name = "events", description = "What happened"),
        (name = "live", description = "Numbers as they come, and of the last hours"),
        (name = "log", description = "The log"),
        (name = "traces", description = "Packets of a client, and messages of a topic"),
    )
)]
struct Description;

/// `/api/v1` and its description.
fn api() -> (Router<Shown>, utoipa::openapi::OpenApi) {
    let mut description = Description::openapi();
    let bearer = SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer));
    description.components.get_or_insert_default().add_security_scheme("token", bearer);
    // Without control.tokens_file reading needs no token.
    let token = SecurityRequirement::new("token", Vec::<String>::new());
    description.security = Some(vec![token.clone(), SecurityRequirement::default()]);
    let (router, mut description) = OpenApiRouter::with_openapi(description)
        .merge(overview::routes())
        .merge(spool::routes())
        .merge(flow::routes())
        .merge(slots::routes())
        .merge(clients::routes())
        .merge(retained::routes())
        .merge(shares::routes())
        .merge(partitions::routes())
        .merge(sources::routes())
        .merge(bridges::routes())
        .merge(rules::routes())
        .merge(past::routes())
        .merge(events::routes())
        .merge(login::routes())
        .merge(live::routes())
        .merge(histograms::routes())
        .merge(letters::routes())
        .merge(letter_topics::routes())
        .merge(reload::routes())
        .merge(change::routes())
        .merge(trial::routes())
        .merge(top::routes())
        .merge(traces::routes())
        .merge(publish::routes())
        .merge(bans::routes())
        .merge(config_file::routes())
        .merge(users::routes())
        .split_for_parts();
    describe_responses(&mut description);
    for item in description.paths.paths.values_mut() {
        let changes = [&mut item.put, &mut item.post, &mut item.delete].into_iter().flatten();
        changes.for_each(|operation| operation.security = Some(vec![token.clone()]));
    }
    (router, description)
}

/// OpenAPI requires a description of each response: the status in words, where the operation has no other.
fn describe_responses(description: &mut utoipa::openapi::OpenApi) {
    for item in description.paths.paths.values_mut() {
        let operations = [&mut item.get, &mut item.put, &mut item.post, &mut item.delete];
        for (status, response) in
            operations.into_iter().flatten().flat_map(|operation| &mut operation.responses.responses)
        {
            if let RefOr::T(response) = response
                && response.description.is_empty()
            {
                let status = status.parse().ok().and_then(|status| StatusCode::from_u16(status).ok());
                response.description =
                    status.and_then(|status| status.canonical_reason()).unwrap_or_default().to_owned();
            }
        }
    }
}

/// Builds the router. `is_local`: only this machine can reach the address.
fn router(shown: Shown, is_local: bool) -> Router {
    let (api, description) = api();
    let description = Arc::new(description.to_pretty_json().unwrap_or_default());
    let describe = move || {
        let description = Arc::clone(&description);
        async move { ([(header::CONTENT_TYPE, "application/json")], description.to_string()) }
    };
    let guard = axum::middleware::from_fn_with_state(shown.clone(), auth::guard);
    let api = api
        .route("/api/v1/openapi.json", get(describe))
        .method_not_allowed_fallback(problem::no_such_method)
        .route_layer(guard)
        .route_layer(axum::middleware::from_fn_with_state(shown.clone(), traced::traced));
    let mut open = Router::new()
        .route("/", get(index))
        .route("/ui", get(files::with_slash))
        .route("/ui/", get(files::page))
        .route("/ui/{*path}", get(files::below))
        .route("/ui/mqtt", get(test_client::connect))
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics));
    if is_local {
        open = open.route_layer(axum::middleware::from_fn_with_state(shown.clone(), auth::guard_of_loopback));
    }
    open.merge(api)
        .fallback(problem::no_such_path)
        .method_not_allowed_fallback(problem::no_such_method)
        .layer(axum::middleware::from_fn(files::headers))
        .with_state(shown)
}

async fn index() -> &'static str {
    "Forebay\n\
     /ui/                  the dashboard\n\
     /healthz              200 while every shard's event loop runs\n\
     /readyz               200 while clients are accepted\n\
     /metrics              Prometheus or OpenMetrics text\n\
     /api/v1/status        the service as a whole\n\
     /api/v1/openapi.json  description of the admin API\n"
}

async fn healthz(State(view): State<Arc<View>>) -> impl IntoResponse {
    match (view.health)() {
        None => (StatusCode::OK, "ok\n".to_owned()),
        Some(why) => (StatusCode::SERVICE_UNAVAILABLE, why + "\n"),
    }
}

async fn readyz(State(view): State<Arc<View>>) -> impl IntoResponse {
    if view.is_ready() {
        let not_taken = view.shards.slots().map_or_else(Vec::new, |slots| slots.not_taken);
        let line = |(slot, why): &(u16, Arc<str>)| format!("slot {slot} cannot be taken up: {why}\n");
        return (StatusCode::OK, format!("ready\n{}", not_taken.iter().map(line).collect::<String>()));
    }
    let why = match view.obstacles.first() {
        Some(why) if view.ready.load(Ordering::Acquire) => format!("sessions wait for Kafka: {why}\n"),
        Some(why) => format!("not accepting clients: {why}\n"),
        None if view.ready.load(Ordering::Acquire) => "drained: clients are to connect to other instances\n".to_owned(),
        None => "not accepting clients\n".to_owned(),
    };
    (StatusCode::SERVICE_UNAVAILABLE, why)
}

async fn metrics(State(view): State<Arc<View>>, headers: HeaderMap) -> impl IntoResponse {
    let format = Format::accepted(headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok()));
    ([(header::CONTENT_TYPE, format.content_type())], render(&view.boards, &view.extra, format))
}

#[cfg(test)]
mod tests {
    use super::*;
    use forebay_metrics::inspect::{Answer, Ask, SeekTo, SlotTable};
    use std::io::{Read, Write};

    fn ask(addr: SocketAddr, path: &str) -> String {
        let mut socket = std::net::TcpStream::connect(addr).expect("connect");
        write!(socket, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").expect("ask");
        let mut answer = String::new();
        socket.read_to_string(&mut answer).expect("answer");
        answer
    }

    #[test]
    fn readiness_and_health_follow_what_they_watch() {
        let boards = Boards::default();
        let (ready, sick) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        let watched = Arc::clone(&sick);
        let health = Arc::new(move || watched.load(Ordering::Relaxed).then(|| "shard 1 stands still".to_owned()));
        let view = View { ready: Arc::clone(&ready), health, ..View::idle(boards, Described::default()) };
        let control =
            Control::start(([127, 0, 0, 1], 0).into(), Shown::new(view), Arc::new(Connections::new(8))).expect("start");
        assert!(ask(control.addr(), "/readyz").starts_with("HTTP/1.1 503"));
        ready.store(true, Ordering::Release);
        assert!(ask(control.addr(), "/readyz").starts_with("HTTP/1.1 200"));
        assert!(ask(control.addr(), "/healthz").starts_with("HTTP/1.1 200"));
        sick.store(true, Ordering::Relaxed);
        assert!(ask(control.addr(), "/healthz").contains("shard 1 stands still"));
        assert!(ask(control.addr(), "/metrics").starts_with("HTTP/1.1 200"));
        let busy = ask(control.addr(), "/api/v1/clients");
        assert!(busy.starts_with("HTTP/1.1 503") && busy.contains("application/problem+json"), "{busy}");
    }

    /// The shards of a broker of which one slot cannot be taken up.
    struct WithoutSlot;

    impl Shards for WithoutSlot {
        fn count(&self) -> usize {
            1
        }

        fn shared_subscriptions(&self) -> usize {
            0
        }

        fn owner(&self, _of: &str) -> usize {
            0
        }

        fn slots(&self) -> Option<SlotTable> {
            let not_taken = vec![(7, Arc::from("its format is version 9"))];
            Some(SlotTable { nobody: vec![7], not_taken, ..SlotTable::default() })
        }

        fn place(&self, text: &str) -> Result<SeekTo, String> {
            Err(format!("no {text}"))
        }

        fn ask(&self, _shard: usize, _ask: Ask, _answer: Answer) -> bool {
            false
        }
    }

    /// A slot that cannot be taken up is named with the reason. The instance is ready: it serves the others.
    #[test]
    fn finding_q59_a_slot_that_cannot_be_taken_up_is_named_with_its_reason() {
        let ready = Arc::new(AtomicBool::new(true));
        let view = View { ready, shards: Arc::new(WithoutSlot), ..View::idle(Boards::default(), Described::default()) };
        let control =
            Control::start(([127, 0, 0, 1], 0).into(), Shown::new(view), Arc::new(Connections::new(8))).expect("start");
        let said = ask(control.addr(), "/readyz");
        let why = "\r\n\r\nready\nslot 7 cannot be taken up: its format is version 9\n";
        assert!(said.starts_with("HTTP/1.1 200") && said.ends_with(why), "{said}");
        let slots = ask(control.addr(), "/api/v1/broker/slots");
        let why = r#""nobody":[7],"not_taken":[{"slot":7,"reason":"its format is version 9"}]"#;
        assert!(slots.starts_with("HTTP/1.1 200") && slots.contains(why), "{slots}");
    }

    /// An address that is in use is retried for a second: by then the address of a killed process is free.
    #[test]
    fn finding_d_an_address_in_use_is_tried_for_a_second() {
        let held = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
        let boards = Boards::default();
        let shown = Shown::new(View::idle(boards, Described::default()));
        let (addr, begin) = (held.local_addr().expect("bound"), std::time::Instant::now());
        let refused = Control::start(addr, shown, Arc::new(Connections::new(8))).expect_err("it is in use");
        assert_eq!(refused.kind(), io::ErrorKind::AddrInUse);
        assert!(begin.elapsed() >= std::time::Duration::from_millis(900), "{:?}", begin.elapsed());
    }

    /// A foreign page with a name that resolves to 127.0.0.1 reads nothing.
    #[test]
    fn finding_w7_what_needs_no_token_asks_for_the_host_too() {
        let boards = Boards::default();
        let view = View::idle(boards, Described::default());
        let start = |ip: [u8; 4]| {
            Control::start((ip, 0).into(), Shown::new(view.clone()), Arc::new(Connections::new(8))).expect("start")
        };
        let status = |control: &Control, path: &str, host: &str| {
            let addr = SocketAddr::from(([127, 0, 0, 1], control.addr().port()));
            let mut socket = std::net::TcpStream::connect(addr).expect("connect");
            write!(socket, "GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n").expect("ask");
            let mut answer = String::new();
            socket.read_to_string(&mut answer).expect("answer");
            answer.split(' ').nth(1).expect("a status").to_owned()
        };
        let (local, wide) = (start([127, 0, 0, 1]), start([0, 0, 0, 0]));
        for path in ["/", "/healthz", "/readyz", "/metrics"] {
            assert_eq!(status(&local, path, "rebound.example:8080"), "403", "{path}");
            for host in ["127.0.0.1:8080", "localhost", "[::1]:8080"] {
                assert_ne!(status(&local, path, host), "403", "{path} {host}");
            }
            // Any host that can reach the machine may read there.
            assert_ne!(status(&wide, path, "node-7:8080"), "403", "{path}");
        }
    }

    #[test]
    fn every_operation_says_what_it_is_and_names_are_unique() {
        let (_, description) = api();
        let mut ids = Vec::new();
        for (path, item) in &description.paths.paths {
            for operation in [&item.get, &item.post, &item.put, &item.delete].into_iter().flatten() {
                assert!(operation.summary.as_ref().is_some_and(|summary| !summary.is_empty()), "{path}");
                ids.push(operation.operation_id.clone().expect("an id"));
            }
        }
        let count = ids.len();
        ids.sort();
        ids.dedup();
        assert!(count > 15 && ids.len() == count, "{ids:?}");
    }
}
