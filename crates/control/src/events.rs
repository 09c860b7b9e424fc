//! Events, as pages and as a stream; and the log level.

use std::collections::{BTreeMap, VecDeque};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::sse::{self, KeepAlive, Sse};
use axum::{Extension, Json};
use futures_util::Stream;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::sync::OwnedSemaphorePermit;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::auth::{Grant, StreamGrant, Who};
use super::problem::{Asked, Problem, Sent};
use super::{Shown, View};
use forebay_metrics::event::{Class, Event, Field, Kind, Severity};
use forebay_metrics::journal::Filter;
use forebay_metrics::time::{from_rfc3339, rfc3339};

/// Interval at which a stream checks for new events.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// Events of a page, by default and at most.
const LIMIT: usize = 1_000;
const LIMIT_MAX: usize = 10_000;

pub(super) fn routes() -> OpenApiRouter<super::Shown> {
    OpenApiRouter::new().routes(routes!(events)).routes(routes!(stream)).routes(routes!(log_level, set_log_level))
}

/// An event. Further fields depend on its kind; docs/API.md lists them.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct EventBody {
    /// Number of the event since the process began, from 1.
    id: u64,
    /// Time of the event, RFC 3339.
    #[schema(format = DateTime)]
    at: String,
    kind: &'static str,
    /// `administration`, `lifecycle`, `error`, `client`, `connection` or `statistics`.
    class: &'static str,
    /// `info`, `warn` or `error`.
    severity: &'static str,
    /// The event in one sentence.
    message: &'static str,
    /// The event's shard, if it has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    shard: Option<u64>,
    #[serde(flatten)]
    fields: BTreeMap<&'static str, Value>,
}

impl EventBody {
    pub(super) fn new(id: u64, event: &Event) -> Self {
        let spec = event.kind.spec();
        Self {
            id,
            at: rfc3339(i64::try_from(event.at_ms).unwrap_or(i64::MAX)),
            kind: spec.name,
            class: spec.class.as_str(),
            severity: spec.severity.as_str(),
            message: spec.help,
            shard: event.shard,
            fields: event.values().collect(),
        }
    }
}

/// A page of events.
#[derive(Debug, Serialize, ToSchema)]
struct Events {
    /// Events, the newest first; with `since` the oldest first.
    events: Vec<EventBody>,
    /// The `since` of the next request, to get events from now on.
    last: u64,
    /// The `before` of the next request, to get older events that match; null: there are none. Only without `since`.
    next: Option<u64>,
    /// From this number on, all events of the requested classes are kept: if it is greater than `since` + 1, some were missed.
    oldest: u64,
    /// Events lost because their queue was full, since the process began.
    dropped: u64,
}

#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct EventsQuery {
    /// Only events with a greater number, the oldest first.
    since: Option<u64>,
    /// Only events with a smaller number.
    before: Option<u64>,
    /// Only events at or after this time (RFC 3339).
    #[param(format = DateTime)]
    from: Option<String>,
    /// Only events before this time (RFC 3339).
    #[param(format = DateTime)]
    until: Option<String>,
    /// Only events of this kind.
    kind: Option<String>,
    /// Only events of this class: `administration`, `lifecycle`, `error`, `client`, `connection`, `statistics`. Events of class `connection` are shown only
    /// if `class`, `kind` or `client` asks for them.
    class: Option<String>,
    /// Only events of at least this severity: `info`, `warn`, `error`.
    severity: Option<String>,
    /// Only events about this sink.
    sink: Option<String>,
    /// Only events about this source.
    source: Option<String>,
    /// Only events about the client with this identifier.
    client: Option<String>,
    /// Only events about clients of this `[auth.NAME]`; empty: clients without one.
    auth: Option<String>,
    /// The most events to return; 1,000 if left out.
    #[param(minimum = 1, maximum = 10000)]
    limit: Option<usize>,
}

/// The value with this name, for the query parameter `what`.
fn named<T: Copy>(
    what: &str,
    name: Option<String>,
    all: &[T],
    of: impl Fn(T) -> &'static str,
) -> Result<Option<T>, Problem> {
    let Some(name) = name else { return Ok(None) };
    let found = all.iter().copied().find(|one| of(*one) == name);
    found.map(Some).ok_or_else(|| {
        let all: Vec<_> = all.iter().map(|one| of(*one)).collect();
        Problem::bad_request(format!("no {what} {name:?}; {what} must be one of {}", all.join(", ")))
    })
}

/// A time in milliseconds since 1970, from a query parameter in RFC 3339.
fn time(what: &str, text: Option<String>) -> Result<Option<u64>, Problem> {
    let Some(text) = text else { return Ok(None) };
    let ms = from_rfc3339(&text).ok_or_else(|| {
        Problem::bad_request(format!(
            "{what} {text:?} is not a time as in RFC 3339, 2026-11-21T08:56:24Z (a + in a query is written %2B)"
        ))
    })?;
    Ok(Some(u64::try_from(ms).unwrap_or_default()))
}

impl EventsQuery {
    fn filter(self, view: &View) -> Result<Filter, Problem> {
        if self.limit.is_some_and(|limit| !(1..=LIMIT_MAX).contains(&limit)) {
            return Err(Problem::bad_request(format!("limit must be 1 to {LIMIT_MAX}")));
        }
        view.wanted_sink(self.sink.as_deref())?;
        view.wanted_source(self.source.as_deref())?;
        Ok(Filter {
            since: self.since.unwrap_or(0),
            before: self.before,
            from_ms: time("from", self.from)?,
            until_ms: time("until", self.until)?,
            kind: named("kind", self.kind, &Kind::ALL, |kind| kind.spec().name)?,
            class: named("class", self.class, &Class::ALL, Class::as_str)?,
            severity: named("severity", self.severity, &Severity::ALL, Severity::as_str)?,
            sink: self.sink,
            source: self.source,
            client: self.client,
            auth: self.auth,
            newest_first: self.since.is_none(),
            limit: Some(self.limit.unwrap_or(LIMIT)),
        })
    }
}

/// Events: the newest of each class are kept, in memory.
#[utoipa::path(get, path = "/api/v1/events", tag = "events", params(EventsQuery), responses(
    (status = 200, body = Events),
    (status = 400, body = Problem, content_type = "application/problem+json")))]
async fn events(State(view): State<Arc<View>>, Asked(query): Asked<EventsQuery>) -> Result<Json<Events>, Problem> {
    let filter = query.filter(&view)?;
    // Events that shards have just reported belong to the answer as well.
    view.journal.collect();
    let page = view.journal.page(&filter);
    let events = page.events.iter().map(|(id, event)| EventBody::new(*id, event)).collect();
    let next = page.events.last().filter(|_| filter.newest_first && page.is_cut).map(|(id, _)| *id);
    Ok(Json(Events { events, last: page.last, next, oldest: page.oldest, dropped: view.journal.dropped() }))
}

/// Events as they happen (server-sent events): first the kept events, then new ones, each with its number as `id`, its kind as `event` and the same object
/// as in a page as `data`. `Last-Event-ID` resumes after an event. The stream ends when its token or login does.
#[utoipa::path(get, path = "/api/v1/events/stream", tag = "events", params(EventsQuery), responses(
    (status = 200, body = String, content_type = "text/event-stream"),
    (status = 400, body = Problem, content_type = "application/problem+json"),
    (status = 503, body = Problem, content_type = "application/problem+json", description = "Too many streams are open")))]
async fn stream(
    State(shown): State<Shown>,
    Extension(grant): Extension<Grant>,
    headers: HeaderMap,
    Asked(query): Asked<EventsQuery>,
) -> Result<Sse<impl Stream<Item = Result<sse::Event, Infallible>>>, Problem> {
    let view = shown.view();
    let mut filter = query.filter(&view)?;
    let seen = headers.get("last-event-id").and_then(|id| id.to_str().ok()?.parse().ok());
    filter.since = seen.unwrap_or(filter.since);
    (filter.limit, filter.newest_first) = (None, false);
    let permit = Arc::clone(&view.streams).try_acquire_owned();
    let permit = permit.map_err(|_| Problem::unavailable("too many streams of events are open"))?;
    let following =
        Following { shown, grant: StreamGrant::new(grant), filter, ready: VecDeque::new(), _permit: permit };
    Ok(Sse::new(futures_util::stream::unfold(following, next)).keep_alive(KeepAlive::default()))
}

struct Following {
    shown: Shown,
    grant: StreamGrant,
    filter: Filter,
    ready: VecDeque<EventBody>,
    _permit: OwnedSemaphorePermit,
}

async fn next(mut following: Following) -> Option<(Result<sse::Event, Infallible>, Following)> {
    loop {
        if !following.grant.holds(&following.shown.view()) {
            return None;
        }
        if let Some(event) = following.ready.pop_front() {
            let data = serde_json::to_string(&event).unwrap_or_default();
            return Some((Ok(sse::Event::default().id(event.id.to_string()).event(event.kind).data(data)), following));
        }
        let journal = Arc::clone(&following.shown.view().journal);
        journal.collect();
        let page = journal.page(&following.filter);
        following.filter.since = page.last;
        following.ready = page.events.iter().map(|(id, event)| EventBody::new(*id, event)).collect();
        if following.ready.is_empty() {
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }
}

/// Level of the log.
#[derive(Debug, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct LogLevel {
    /// `error`, `warn`, `info`, `debug`, `trace`, or a filter such as `info,forebay::kafka=debug`.
    #[schema(example = "info,forebay::shard=debug")]
    level: String,
}

/// The level of the log.
#[utoipa::path(get, path = "/api/v1/log-level", tag = "log", responses((status = 200, body = LogLevel)))]
async fn log_level(State(view): State<Arc<View>>) -> Json<LogLevel> {
    Json(LogLevel { level: view.log.level() })
}

/// Changes the level of the log until the service is restarted.
#[utoipa::path(put, path = "/api/v1/log-level", tag = "log", request_body = LogLevel, responses(
    (status = 200, body = LogLevel),
    (status = 400, body = Problem, content_type = "application/problem+json")))]
async fn set_log_level(
    State(view): State<Arc<View>>,
    Extension(Who(token)): Extension<Who>,
    Sent(wanted): Sent<LogLevel>,
) -> Result<Json<LogLevel>, Problem> {
    // Earlier events are logged at the level that was in force then.
    view.journal.collect();
    view.log.set_level(&wanted.level).map_err(Problem::bad_request)?;
    let event =
        Event::now(Kind::AdminAction).with(Field::Action, "log-level").with(Field::Level, wanted.level.as_str());
    view.journal.say(event.maybe(Field::Token, token));
    Ok(Json(LogLevel { level: view.log.level() }))
}
