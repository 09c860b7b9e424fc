//! Traces: the packets of one client, or the messages of clients with topics that one filter matches. Shards note the packets, and requests for the trace
//! collect them.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::sse::{self, KeepAlive, Sse};
use axum::{Extension, Json};
use futures_util::Stream;
use serde::{Deserialize, Serialize};
use tokio::sync::OwnedSemaphorePermit;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::auth::{Grant, StreamGrant, Who, may_read_messages};
use super::content::Content;
use super::pages::{ask, not_an_answer, rows_of_page};
use super::problem::{Asked, Named, Problem, Sent};
use super::{Shown, View};
use forebay_base::limits::{TRACE_LASTS_MAX, TRACE_PACKETS_MAX, TRACES_MAX};
use forebay_metrics::event::{Event, Field, Kind};
use forebay_metrics::inspect::{Ask, NamedClient, Told, TraceOf, TracedPacket};
use forebay_metrics::time::{now_ms, rfc3339};

/// Duration of a trace by default.
const LASTS: Duration = Duration::from_secs(10 * 60);
/// Interval at which a stream checks for packets.
const LOOK_EVERY: Duration = Duration::from_millis(250);

pub(super) fn routes() -> OpenApiRouter<Shown> {
    OpenApiRouter::new()
        .routes(routes!(traces, begin_trace))
        .routes(routes!(trace, end_trace))
        .routes(routes!(follow_trace))
}

/// All traces.
#[derive(Debug, Default)]
pub struct Traces(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    last: u64,
    all: Vec<Trace>,
}

/// A trace, and its newest packets.
#[derive(Debug)]
struct Trace {
    of: TraceOf,
    since: Instant,
    since_ms: i64,
    /// Packets with their numbers, from 1.
    packets: VecDeque<(u64, TracedPacket)>,
    last: u64,
    left_out: u64,
}

impl Trace {
    fn is_over(&self) -> bool {
        self.since.elapsed() >= self.of.lasts
    }

    fn body(&self) -> TraceBody {
        let client = self.of.client.as_ref();
        let left = self.of.lasts.saturating_sub(self.since.elapsed());
        TraceBody {
            id: self.of.id,
            client_id: client.map(|client| client.client_id.clone()),
            auth: client.and_then(|client| client.auth.clone()),
            filter: self.of.filter.clone(),
            began_at: rfc3339(self.since_ms),
            seconds_left: left.as_secs(),
            over: self.is_over(),
            packets: self.last,
            left_out: self.left_out,
        }
    }
}

impl Traces {
    fn known(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Collects the packets of a trace from the shards. False: there is no trace with this number.
    async fn collect(view: &View, id: u64) -> Result<bool, Problem> {
        let mut found = Vec::new();
        let mut left_out = 0;
        for shard in 0..view.shards.count() {
            let Told::Traced(packets, lost) = ask(view, shard, Ask::Traced(id)).await? else {
                return Err(not_an_answer());
            };
            found.extend(packets);
            left_out += lost;
        }
        found.sort_by_key(|packet| packet.at_ms);
        let mut known = view.traces.known();
        let Some(trace) = known.all.iter_mut().find(|trace| trace.of.id == id) else { return Ok(false) };
        trace.left_out += left_out;
        for packet in found {
            trace.last += 1;
            trace.packets.push_back((trace.last, packet));
        }
        let over = trace.packets.len().saturating_sub(TRACE_PACKETS_MAX);
        trace.packets.drain(..over);
        Ok(true)
    }

    /// Ends a trace on all shards.
    async fn end(view: &View, id: u64) -> bool {
        let was_there = {
            let mut known = view.traces.known();
            let before = known.all.len();
            known.all.retain(|trace| trace.of.id != id);
            known.all.len() < before
        };
        for shard in 0..view.shards.count() {
            // On a shard that does not answer, the trace ends by itself.
            let _ = ask(view, shard, Ask::EndTrace(id)).await;
        }
        was_there
    }
}

/// A trace.
#[derive(Debug, Serialize, ToSchema)]
struct TraceBody {
    /// Number of the trace.
    id: u64,
    /// Client identifier of the traced client; null: the trace shows messages.
    client_id: Option<String>,
    /// NAME of the client's `[auth.NAME]`, if the trace is limited to it.
    auth: Option<String>,
    /// Topic filter of the traced messages, as clients publish them; null: the trace shows a client.
    filter: Option<String>,
    began_at: String,
    /// Seconds until the trace ends.
    seconds_left: u64,
    /// Whether the trace has ended. It stays until it is deleted, or a new trace needs its place.
    over: bool,
    /// Packets so far, including those that are not kept any more.
    packets: u64,
    /// Packets left out because they exceeded the limit of the trace.
    left_out: u64,
}

/// All traces.
#[derive(Debug, Serialize, ToSchema)]
struct TraceList {
    traces: Vec<TraceBody>,
}

/// A trace to begin: of a client or of a topic filter.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct TraceToBegin {
    /// Client identifier: all packets of the client, in both directions, from its CONNECT on.
    client_id: Option<String>,
    /// NAME of the client's `[auth.NAME]`, if several have the identifier; empty: the client of a listener without one.
    auth: Option<String>,
    /// Topic filter: each PUBLISH of a client with a matching topic.
    filter: Option<String>,
    /// Duration in seconds, up to 3600; 600 if left out.
    #[schema(minimum = 1, maximum = 3600)]
    seconds: Option<u64>,
}

impl TraceToBegin {
    fn of(self, id: u64) -> Result<TraceOf, Problem> {
        let Self { client_id, auth, filter, seconds } = self;
        if client_id.is_some() == filter.is_some() {
            return Err(Problem::bad_request("a trace is of `client_id` or of `filter`: one of them"));
        }
        if auth.is_some() && client_id.is_none() {
            return Err(Problem::bad_request("auth is for `client_id`"));
        }
        let lasts = seconds.map_or(LASTS, Duration::from_secs);
        if lasts.is_zero() || lasts > TRACE_LASTS_MAX {
            return Err(Problem::bad_request(format!("seconds must be 1 to {}", TRACE_LASTS_MAX.as_secs())));
        }
        let client = client_id.map(|client_id| NamedClient { client_id, auth });
        Ok(TraceOf { id, client, filter, lasts })
    }
}

/// A packet of a trace.
#[derive(Debug, Serialize, ToSchema)]
struct PacketBody {
    /// Number of the packet in the trace.
    number: u64,
    at: String,
    /// `in`: from the client; `out`: to the client.
    direction: &'static str,
    client_id: String,
    auth: Option<String>,
    /// Name of the packet in the standard; `malformed`: not a valid packet.
    packet: &'static str,
    packet_id: Option<u16>,
    /// Topic of a PUBLISH, cut to 1 KiB.
    topic: Option<String>,
    /// Reason code; before MQTT 5: success.
    reason_code: Option<u8>,
    /// Name of the reason code in the standard.
    reason: Option<&'static str>,
    /// Further contents of the packet. Never a password, data of AUTH, or a user name that is a token.
    details: String,
    /// Bytes of the payload of a PUBLISH.
    payload_bytes: Option<usize>,
    /// First 1 KiB of the payload, if it is text; only for the role write.
    #[serde(skip_serializing_if = "Option::is_none")]
    payload: Option<String>,
    /// First 1 KiB of the payload in Base64, if it is not text; only for the role write.
    #[serde(skip_serializing_if = "Option::is_none")]
    payload_base64: Option<String>,
    /// Properties of a PUBLISH; only for the role write.
    #[serde(skip_serializing_if = "Option::is_none")]
    properties: Option<String>,
}

impl PacketBody {
    /// `with_content`: the caller may read messages.
    fn new(number: u64, of: &TracedPacket, with_content: bool) -> Self {
        let content = of.content.as_ref().filter(|_| with_content);
        let shown = content.map(|content| Content::beginning(&content.payload, content.payload_bytes).fields());
        let (payload, payload_base64) = shown.unwrap_or_default();
        Self {
            number,
            at: rfc3339(of.at_ms),
            direction: if of.to_client { "out" } else { "in" },
            client_id: of.client.0.clone(),
            auth: of.client.1.clone(),
            packet: of.packet,
            packet_id: of.packet_id,
            topic: of.topic.clone(),
            reason_code: of.reason.map(|(code, _)| code),
            reason: of.reason.map(|(_, name)| name),
            details: of.details.clone(),
            payload_bytes: of.content.as_ref().map(|content| content.payload_bytes),
            payload,
            payload_base64,
            properties: content.map(|content| content.properties.clone()).filter(|text| !text.is_empty()),
        }
    }
}

fn no_trace(id: &str) -> Problem {
    Problem::not_found(format!("no trace {id:?}; /api/v1/traces lists them"))
}

fn number(id: &str) -> Result<u64, Problem> {
    id.parse().map_err(|_| no_trace(id))
}

/// All traces, including ended ones.
#[utoipa::path(get, path = "/api/v1/traces", tag = "traces", responses((status = 200, body = TraceList)))]
async fn traces(State(view): State<Arc<View>>) -> Json<TraceList> {
    Json(TraceList { traces: view.traces.known().all.iter().map(Trace::body).collect() })
}

/// Begins a trace. The limit is four; an ended trace makes room.
#[utoipa::path(post, path = "/api/v1/traces", tag = "traces", request_body = TraceToBegin, responses(
    (status = 201, body = TraceBody),
    (status = 400, body = Problem, content_type = "application/problem+json"),
    (status = 409, body = Problem, content_type = "application/problem+json", description = "Four traces go on"),
    (status = 503, body = Problem, content_type = "application/problem+json", description = "A shard did not answer")))]
async fn begin_trace(
    State(view): State<Arc<View>>,
    Extension(Who(token)): Extension<Who>,
    Sent(wanted): Sent<TraceToBegin>,
) -> Result<(StatusCode, Json<TraceBody>), Problem> {
    let mut of = wanted.of(0)?;
    let (id, over) = {
        let mut known = view.traces.known();
        let over = known.all.iter().find(|trace| trace.is_over()).map(|trace| trace.of.id);
        if known.all.len() >= TRACES_MAX && over.is_none() {
            let detail = format!("{TRACES_MAX} traces go on: delete one; /api/v1/traces lists them");
            return Err(Problem::new(StatusCode::CONFLICT, detail));
        }
        let over = over.filter(|_| known.all.len() >= TRACES_MAX);
        known.all.retain(|trace| Some(trace.of.id) != over);
        known.last += 1;
        of.id = known.last;
        let (since, since_ms) = (Instant::now(), now_ms());
        let packets = VecDeque::new();
        known.all.push(Trace { of: of.clone(), since, since_ms, packets, last: 0, left_out: 0 });
        (of.id, over)
    };
    if let Some(over) = over {
        Traces::end(&view, over).await;
    }
    for shard in 0..view.shards.count() {
        let begun = ask(&view, shard, Ask::Trace(Box::new(of.clone()))).await;
        let problem = match begun {
            Ok(Told::Done(true)) => continue,
            Ok(Told::Done(false)) => {
                Problem::bad_request(format!("{:?} is not a topic filter", of.filter.unwrap_or_default()))
            }
            Ok(_) => not_an_answer(),
            Err(problem) => problem,
        };
        Traces::end(&view, id).await;
        return Err(problem);
    }
    let event = Event::now(Kind::AdminAction).with(Field::Action, "trace");
    let client = of.client.as_ref();
    let event = event.maybe(Field::Client, client.map(|client| client.client_id.clone()));
    let event = event.maybe(Field::Auth, client.and_then(|client| client.auth.clone()));
    view.journal.say(event.maybe(Field::MqttTopic, of.filter).maybe(Field::Token, token));
    let known = view.traces.known();
    let begun = known.all.iter().find(|trace| trace.of.id == id).map(Trace::body);
    begun.map(|body| (StatusCode::CREATED, Json(body))).ok_or_else(|| no_trace(&id.to_string()))
}

/// A page of the packets of a trace.
#[derive(Debug, Serialize, ToSchema)]
struct Packets {
    trace: TraceBody,
    /// Packets, the oldest first.
    packets: Vec<PacketBody>,
    /// The `after` of the next request.
    next: u64,
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct PacketsQuery {
    /// Only packets with a greater number.
    after: Option<u64>,
    /// The most entries to return.
    #[param(minimum = 1, maximum = 1000, default = 100)]
    limit: Option<usize>,
}

/// A trace with its packets. Contents of messages need the role write.
#[utoipa::path(get, path = "/api/v1/traces/{id}", tag = "traces",
    params(("id" = String, Path, description = "The trace's number"), PacketsQuery), responses(
    (status = 200, body = Packets),
    (status = 400, body = Problem, content_type = "application/problem+json"),
    (status = 404, body = Problem, content_type = "application/problem+json"),
    (status = 503, body = Problem, content_type = "application/problem+json", description = "A shard did not answer")))]
async fn trace(
    State(view): State<Arc<View>>,
    Extension(grant): Extension<Grant>,
    Named(id): Named,
    Asked(PacketsQuery { after, limit }): Asked<PacketsQuery>,
) -> Result<Json<Packets>, Problem> {
    let (number, limit) = (number(&id)?, rows_of_page(limit)?);
    if view.traces.known().all.iter().all(|trace| trace.of.id != number) || !Traces::collect(&view, number).await? {
        return Err(no_trace(&id));
    }
    let with_content = may_read_messages(&view, &grant).is_ok();
    let known = view.traces.known();
    let trace = known.all.iter().find(|trace| trace.of.id == number).ok_or_else(|| no_trace(&id))?;
    let after = after.unwrap_or(0);
    let wanted = trace.packets.iter().filter(|(number, _)| *number > after).take(limit);
    let packets: Vec<_> = wanted.map(|(number, packet)| PacketBody::new(*number, packet, with_content)).collect();
    let next = packets.last().map_or(after, |packet| packet.number);
    Ok(Json(Packets { trace: trace.body(), packets, next }))
}

/// Ends a trace, and deletes its packets.
#[utoipa::path(delete, path = "/api/v1/traces/{id}", tag = "traces",
    params(("id" = String, Path, description = "The trace's number")), responses(
    (status = 204, description = "It has ended"),
    (status = 404, body = Problem, content_type = "application/problem+json")))]
async fn end_trace(
    State(view): State<Arc<View>>,
    Extension(Who(token)): Extension<Who>,
    Named(id): Named,
) -> Result<StatusCode, Problem> {
    if !Traces::end(&view, number(&id)?).await {
        return Err(no_trace(&id));
    }
    let event = Event::now(Kind::AdminAction).with(Field::Action, "end_trace");
    view.journal.say(event.maybe(Field::Token, token));
    Ok(StatusCode::NO_CONTENT)
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct StreamQuery {
    /// Only packets with a greater number.
    after: Option<u64>,
    /// Whether the trace ends with the stream.
    end: Option<bool>,
}

/// The packets of a trace as they happen (server-sent events): each with its number as `id`, `packet` as `event`, and the same object as in a page as
/// `data`. The stream ends with the trace, or when its token or login does.
#[utoipa::path(get, path = "/api/v1/traces/{id}/stream", tag = "traces",
    params(("id" = String, Path, description = "The trace's number"), StreamQuery), responses(
    (status = 200, body = String, content_type = "text/event-stream"),
    (status = 400, body = Problem, content_type = "application/problem+json"),
    (status = 403, body = Problem, content_type = "application/problem+json", description = "`end` needs the role write"),
    (status = 404, body = Problem, content_type = "application/problem+json"),
    (status = 503, body = Problem, content_type = "application/problem+json", description = "Too many streams are open")))]
async fn follow_trace(
    State(shown): State<Shown>,
    Extension(grant): Extension<Grant>,
    Named(id): Named,
    Asked(StreamQuery { after, end }): Asked<StreamQuery>,
) -> Result<Sse<impl Stream<Item = Result<sse::Event, Infallible>>>, Problem> {
    let (view, number) = (shown.view(), number(&id)?);
    if view.traces.known().all.iter().all(|trace| trace.of.id != number) {
        return Err(no_trace(&id));
    }
    let ends = end == Some(true);
    if ends {
        may_read_messages(&view, &grant)?;
    }
    let permit = Arc::clone(&view.streams).try_acquire_owned();
    let permit = permit.map_err(|_| Problem::unavailable("too many streams are open"))?;
    let following = Following {
        shown,
        grant: StreamGrant::new(grant),
        id: number,
        after: after.unwrap_or(0),
        ready: VecDeque::new(),
        ends,
        _permit: permit,
    };
    Ok(Sse::new(futures_util::stream::unfold(following, next)).keep_alive(KeepAlive::default()))
}

struct Following {
    shown: Shown,
    grant: StreamGrant,
    id: u64,
    after: u64,
    ready: VecDeque<PacketBody>,
    /// Whether the trace ends with the stream.
    ends: bool,
    _permit: OwnedSemaphorePermit,
}

impl Drop for Following {
    fn drop(&mut self) {
        if self.ends
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            let (view, id) = (self.shown.view(), self.id);
            runtime.spawn(async move { Traces::end(&view, id).await });
        }
    }
}

async fn next(mut following: Following) -> Option<(Result<sse::Event, Infallible>, Following)> {
    loop {
        let view = following.shown.view();
        if !following.grant.holds(&view) {
            return None;
        }
        if let Some(packet) = following.ready.pop_front() {
            let data = serde_json::to_string(&packet).unwrap_or_default();
            let event = sse::Event::default().id(packet.number.to_string()).event(packet.packet).data(data);
            return Some((Ok(event), following));
        }
        // Packets of a busy shard are collected the next time.
        let collected = Traces::collect(&view, following.id).await;
        let with_content = may_read_messages(&view, &following.grant.grant).is_ok();
        let is_over = {
            let known = view.traces.known();
            let trace = known.all.iter().find(|trace| trace.of.id == following.id)?;
            let newer = trace.packets.iter().filter(|(number, _)| *number > following.after);
            following.ready = newer.map(|(number, of)| PacketBody::new(*number, of, with_content)).collect();
            trace.is_over()
        };
        match following.ready.back() {
            Some(last) => following.after = last.number,
            None if is_over && collected.is_ok() => return None,
            None => tokio::time::sleep(LOOK_EVERY).await,
        }
    }
}
