//! Overview of the service: status, version, configuration, listeners, clusters, sinks and dead letters.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::View;
use super::described::{ClusterStatus, DeadLetterStatus, ListenerStatus, SinkStatus};
use super::letter_topics::LetterPlaces;
use super::problem::{Named, Problem};
use forebay_metrics::machine;
use forebay_metrics::spec::ShardMetric as M;

pub(super) fn routes() -> OpenApiRouter<super::Shown> {
    OpenApiRouter::new()
        .routes(routes!(status))
        .routes(routes!(version))
        .routes(routes!(config))
        .routes(routes!(listeners))
        .routes(routes!(clusters))
        .routes(routes!(cluster))
        .routes(routes!(sinks))
        .routes(routes!(sink))
        .routes(routes!(dead_letters))
}

/// The service as a whole.
#[derive(Debug, Serialize, ToSchema)]
struct Status {
    /// Whether clients should connect here; false while the service starts or stops, and after the instance was drained.
    ready: bool,
    /// Whether every shard's event loop runs.
    healthy: bool,
    /// Why the service is not healthy.
    reason: Option<String>,
    version: &'static str,
    /// Time at which the process began, RFC 3339.
    #[schema(format = DateTime)]
    started_at: String,
    uptime_seconds: u64,
    shards: usize,
    /// I/O interface of the shards: `ring` or `epoll` (`service.io`).
    io: &'static str,
    /// Open client connections.
    connections: u64,
    /// Sessions of clients, connected or not.
    sessions: u64,
    /// Subscriptions of sessions.
    subscriptions: u64,
    /// Number of different shared subscriptions.
    shares: usize,
    /// Messages of QoS 1 and 2 that are queued for clients, for members of shared subscriptions, and for remotes of bridges.
    queued_messages: u64,
    /// Messages of QoS 1 and 2 that clients and remotes of bridges were sent and have not acknowledged.
    unacknowledged_messages: u64,
    /// Age of the oldest queued or unacknowledged message, among sessions that outlive their connection; 0: none.
    oldest_message_seconds: f64,
    /// Retained messages.
    retained_messages: u64,
    /// Connections that are not being read: backpressure.
    paused_connections: u64,
    sinks: Vec<NamedState>,
    sources: Vec<NamedState>,
    rules: Vec<NamedState>,
    bridges: Vec<NamedState>,
}

/// Name and state of a sink, source, rule or bridge.
#[derive(Debug, Serialize, ToSchema)]
struct NamedState {
    name: String,
    /// State as in the list of sinks, sources, rules or bridges.
    state: &'static str,
    reason: Option<String>,
}

/// The service as a whole.
#[utoipa::path(get, path = "/api/v1/status", tag = "service", responses((status = 200, body = Status)))]
async fn status(State(view): State<Arc<View>>) -> Json<Status> {
    let (span, layout) = (view.samples.span(&view.boards), view.boards.layout());
    let reason = (view.health)();
    let of = |metric: M| span.now.place(metric as usize);
    let sources = view.shown_sources().map(|index| {
        let (state, reason) = view.source_state(&span, index, &[]);
        NamedState { name: view.described.sources[index].name.clone(), state, reason }
    });
    let rules = view.shown_rules().map(|index| {
        let rule = &view.described.rules[index];
        NamedState { name: rule.name.clone(), state: rule.state(), reason: None }
    });
    let bridges = view.shown_bridges().map(|index| {
        let (state, reason) = view.bridge_state(&span, index);
        NamedState { name: view.described.bridges[index].name.clone(), state, reason }
    });
    let sinks = view.shown_sinks().map(|index| view.described.sink((&span, &view.lag, &view.journal), layout, index));
    Json(Status {
        ready: view.is_ready(),
        healthy: reason.is_none(),
        reason,
        version: env!("CARGO_PKG_VERSION"),
        started_at: view.started_at(),
        uptime_seconds: view.started.elapsed().unwrap_or_default().as_secs(),
        shards: view.shards.count(),
        io: view.io,
        connections: of(M::ConnectionsOpen),
        sessions: of(M::Sessions),
        subscriptions: of(M::Subscriptions),
        shares: view.shards.shared_subscriptions(),
        queued_messages: of(M::CopiesQueued),
        unacknowledged_messages: of(M::CopiesInFlight),
        oldest_message_seconds: view.boards.oldest_s(M::CopiesOldest),
        retained_messages: of(M::RetainedMessages),
        paused_connections: of(M::StalledConnections),
        sinks: sinks.map(|sink| NamedState { name: sink.name, state: sink.state, reason: sink.reason }).collect(),
        sources: sources.collect(),
        rules: rules.collect(),
        bridges: bridges.collect(),
    })
}

/// The version.
#[derive(Debug, Serialize, ToSchema)]
struct Version {
    version: &'static str,
    /// Commit and target of the build.
    build: &'static str,
    /// Kernel version of the machine.
    kernel: String,
    /// Limit of the process's open descriptors; null: no limit.
    descriptors_max: Option<u64>,
    /// Limit of the process's memory: the machine's, or that of its control group.
    memory_bytes_max: Option<u64>,
}

/// The version of the program.
#[utoipa::path(get, path = "/api/v1/version", tag = "service", responses((status = 200, body = Version)))]
async fn version() -> Json<Version> {
    let system = rustix::system::uname();
    let text = |part: &std::ffi::CStr| part.to_string_lossy().into_owned();
    Json(Version {
        version: env!("CARGO_PKG_VERSION"),
        build: env!("FOREBAY_BUILD"),
        kernel: format!("{} {} {}", text(system.sysname()), text(system.release()), text(system.machine())),
        descriptors_max: rustix::process::getrlimit(rustix::process::Resource::Nofile).current,
        memory_bytes_max: machine::memory().map(|(bytes, _)| bytes),
    })
}

/// The configuration in force: file, environment and options together, with every default, without secrets. Keys as in the configuration file.
#[utoipa::path(get, path = "/api/v1/config", tag = "service", responses((status = 200, body = Object)))]
async fn config(State(view): State<Arc<View>>) -> Json<Value> {
    Json(view.described.config.clone())
}

/// All listeners.
#[derive(Debug, Serialize, ToSchema)]
struct Listeners {
    listeners: Vec<ListenerStatus>,
}

/// All listeners.
#[utoipa::path(get, path = "/api/v1/listeners", tag = "listeners", responses((status = 200, body = Listeners)))]
async fn listeners(State(view): State<Arc<View>>) -> Json<Listeners> {
    let (span, layout) = (view.samples.span(&view.boards), view.boards.layout());
    let shown = view.described.listeners.iter().enumerate().filter(|(_, listener)| !listener.is_removed);
    let all = shown.map(|(index, _)| view.described.listener(&span, layout, index));
    Json(Listeners { listeners: all.collect() })
}

/// All Kafka clusters.
#[derive(Debug, Serialize, ToSchema)]
struct Clusters {
    clusters: Vec<ClusterStatus>,
}

/// All Kafka clusters.
#[utoipa::path(get, path = "/api/v1/clusters", tag = "kafka", responses((status = 200, body = Clusters)))]
async fn clusters(State(view): State<Arc<View>>) -> Json<Clusters> {
    let span = view.samples.span(&view.boards);
    Json(Clusters { clusters: view.shown_clusters().map(|i| view.described.cluster(&span, i)).collect() })
}

/// One Kafka cluster.
#[utoipa::path(get, path = "/api/v1/clusters/{name}", tag = "kafka",
    params(("name" = String, Path, description = "Its name in the configuration")),
    responses((status = 200, body = ClusterStatus), (status = 404, body = Problem, content_type = "application/problem+json")))]
async fn cluster(State(view): State<Arc<View>>, Named(name): Named) -> Result<Json<ClusterStatus>, Problem> {
    let index = view.shown_clusters().find(|index| view.described.clusters[*index].name == name);
    let index = index.ok_or_else(|| Problem::not_found(format!("no cluster {name:?}; /api/v1/clusters lists them")))?;
    Ok(Json(view.described.cluster(&view.samples.span(&view.boards), index)))
}

/// All sinks.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Sinks {
    sinks: Vec<SinkStatus>,
}

/// All sinks.
#[utoipa::path(get, path = "/api/v1/sinks", tag = "sinks", responses((status = 200, body = Sinks)))]
pub(super) async fn sinks(State(view): State<Arc<View>>) -> Json<Sinks> {
    let (span, layout) = (view.samples.span(&view.boards), view.boards.layout());
    Json(Sinks {
        sinks: view.shown_sinks().map(|i| view.described.sink((&span, &view.lag, &view.journal), layout, i)).collect(),
    })
}

/// One sink.
#[utoipa::path(get, path = "/api/v1/sinks/{name}", tag = "sinks",
    params(("name" = String, Path, description = "Its name in the configuration")),
    responses((status = 200, body = SinkStatus), (status = 404, body = Problem, content_type = "application/problem+json")))]
async fn sink(State(view): State<Arc<View>>, Named(name): Named) -> Result<Json<SinkStatus>, Problem> {
    let index = view.sink_named(&name).ok_or_else(|| view.no_sink(&name))?;
    Ok(Json(view.described.sink(
        (&view.samples.span(&view.boards), &view.lag, &view.journal),
        view.boards.layout(),
        index,
    )))
}

/// Dead letters: the count of each sink that may have some, and all destinations.
#[derive(Debug, Serialize, ToSchema)]
struct DeadLetters {
    dead_letters: Vec<DeadLetterStatus>,
    #[serde(flatten)]
    places: LetterPlaces,
}

/// Dead letters: the count of each sink that may have some, and the topics and files of all dead letters, including those of sources and bridges.
#[utoipa::path(get, path = "/api/v1/dead-letters", tag = "sinks", responses((status = 200, body = DeadLetters)))]
async fn dead_letters(State(view): State<Arc<View>>) -> Json<DeadLetters> {
    let dead_letters = view.described.dead_letters(&view.samples.span(&view.boards));
    Json(DeadLetters { dead_letters, places: view.described.letters.clone() })
}
