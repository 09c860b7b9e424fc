//! Live numbers, once a second, and the history of the last hours.
//!
//! The observer passes on the readings that it takes anyway. A frame is written once for all viewers, and only while there is a viewer; shards do no work
//! for it. A stream that lags starts over with all values, so that it never holds more than a few frames.

use std::fmt::Write as _;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::body::Body;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use futures_util::Stream;
use hyper::body::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::sync::broadcast::{self, error::RecvError};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::auth::Grant;
use super::events::EventBody;
use super::problem::{Asked, Problem};
use super::{Shown, View};
use forebay_base::limits::{
    HISTORY_SERIES_ASKED_MAX, LIVE_EVENTS_MAX, LIVE_FRAMES_MAX, LIVE_OBJECTS_MAX, LIVE_STREAMS_MAX,
    LIVE_STREAMS_OF_ONE_MAX,
};
use forebay_metrics::history::{History, Object};
use forebay_metrics::inspect::BridgeState;
use forebay_metrics::journal::Filter;
use forebay_metrics::samples::Span;
use forebay_metrics::series::{Kind, Reading, bounds};
use forebay_metrics::spec::ClusterMetric;
use forebay_metrics::time::now_ms;

/// One frame of this many has all values, for a page that has missed a frame.
const WHOLE_EVERY: u64 = 10;

pub(super) fn routes() -> OpenApiRouter<Shown> {
    OpenApiRouter::new().routes(routes!(live)).routes(routes!(history))
}

/// States by their numbers in frames.
const STATES: [(&str, &[&str]); 5] = [
    ("sink", &["running", "stalled", "unreachable", "paused", "removed"]),
    ("source", &["running", "joining", "trouble", "stopped", "unreachable", "paused", "unused", "removed"]),
    ("rule", &["running", "disabled"]),
    ("cluster", &["reachable", "unreachable"]),
    ("bridge", &BridgeState::WORDS),
];

/// See the module.
#[derive(Debug)]
pub struct Live {
    state: Mutex<Now>,
    frames: broadcast::Sender<Bytes>,
    streams: Mutex<Vec<Grant>>,
}

/// The last reading.
#[derive(Debug, Default)]
struct Now {
    history: History,
    objects: Vec<Object>,
    /// Meaning of the values, as JSON; empty without viewers.
    layout: String,
    values: Vec<f64>,
    number: u64,
    at_ms: i64,
    /// The last event in a frame; `None` without viewers.
    event: Option<u64>,
}

impl Default for Live {
    fn default() -> Self {
        let (frames, _) = broadcast::channel(LIVE_FRAMES_MAX);
        Self { state: Mutex::default(), frames, streams: Mutex::default() }
    }
}

impl Live {
    /// Takes a reading of the boards at the end of a span. Called once a second, by one thread.
    pub fn look(&self, view: &View, span: &Span) {
        let mut now = self.state();
        let objects = view.objects();
        let lags = (0..view.described.sinks.len()).map(|sink| view.lag.seconds(sink)).collect();
        let reading = Reading::new(&view.boards, span.now.clone(), lags, view.states(span));
        now.at_ms = now_ms();
        let at_ms = now.at_ms;
        let Some(values) = now.history.add(reading, at_ms, &objects) else { return };
        now.number += 1;
        now.objects = objects;
        let before = std::mem::replace(&mut now.values, values);
        if self.frames.receiver_count() == 0 {
            (now.event, now.layout) = (None, String::new());
            return;
        }
        let layout = view.layout(&now.objects, &now.history);
        let is_new = layout != now.layout;
        now.layout = layout;
        let mut text = if is_new { now.layout_event() } else { String::new() };
        let is_whole = is_new || before.len() != now.values.len() || now.number.is_multiple_of(WHOLE_EVERY);
        text += &if is_whole { now.whole() } else { now.changes(&before) };
        now.add_events(view, &mut text);
        // The last viewer may have disconnected since.
        let _ = self.frames.send(Bytes::from(text));
    }

    fn state(&self) -> MutexGuard<'_, Now> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The first frame of a stream, and the receiver of those that follow.
    fn begin(&self, view: &View) -> (Bytes, broadcast::Receiver<Bytes>) {
        let mut now = self.state();
        if now.layout.is_empty() && now.number > 0 {
            // The layout is not kept while there is no viewer.
            now.layout = view.layout(&now.objects, &now.history);
        }
        (Bytes::from(now.layout_event() + &now.whole()), self.frames.subscribe())
    }

    /// Admits one more stream of the caller.
    fn admit(self: &Arc<Self>, grant: &Grant) -> Result<Place, Problem> {
        let mut streams = self.streams.lock().unwrap_or_else(PoisonError::into_inner);
        let of_one = streams.iter().filter(|other| *other == grant).count();
        if streams.len() >= LIVE_STREAMS_MAX || of_one >= LIVE_STREAMS_OF_ONE_MAX {
            let detail = format!("there are {LIVE_STREAMS_MAX} live streams, or {LIVE_STREAMS_OF_ONE_MAX} of yours");
            return Err(Problem::new(StatusCode::TOO_MANY_REQUESTS, detail));
        }
        streams.push(grant.clone());
        Ok(Place { live: Arc::clone(self), grant: grant.clone() })
    }
}

/// A stream's place in the limits, freed when dropped.
struct Place {
    live: Arc<Live>,
    grant: Grant,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut streams = self.live.streams.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(place) = streams.iter().position(|other| *other == self.grant) {
            streams.swap_remove(place);
        }
    }
}

impl Now {
    fn layout_event(&self) -> String {
        if self.layout.is_empty() { String::new() } else { format!("event: layout\ndata: {}\n\n", self.layout) }
    }

    /// All values, in the order of the layout.
    fn whole(&self) -> String {
        if self.layout.is_empty() {
            // There was no reading yet. A comment makes the answer begin.
            return ":\n\n".to_owned();
        }
        let mut text = self.head();
        text.push_str("\"values\":[");
        let end = text.len();
        for value in &self.values {
            comma(&mut text, end);
            put(&mut text, *value);
        }
        text.push_str("]}\n\n");
        text
    }

    /// The values that have changed, each after its index.
    fn changes(&self, before: &[f64]) -> String {
        let mut text = self.head();
        text.push_str("\"changes\":[");
        let end = text.len();
        let is_other = |(old, new): (&f64, &f64)| old != new && !(old.is_nan() && new.is_nan());
        let changed = before.iter().zip(&self.values).enumerate().filter(|(_, pair)| is_other(*pair));
        for (place, (_, value)) in changed {
            comma(&mut text, end);
            let _ = write!(text, "{place},");
            put(&mut text, *value);
        }
        text.push_str("]}\n\n");
        text
    }

    fn head(&self) -> String {
        format!("event: data\nid: {0}\ndata: {{\"number\":{0},\"at\":{1},", self.number, self.at_ms)
    }

    /// Appends the events since the last frame.
    fn add_events(&mut self, view: &View, text: &mut String) {
        let newest = || view.journal.page(&Filter { newest_first: true, limit: Some(1), ..Filter::default() }).last;
        let since = self.event.unwrap_or_else(newest);
        let page = view.journal.page(&Filter { since, limit: Some(LIVE_EVENTS_MAX), ..Filter::default() });
        self.event = Some(page.last);
        for (id, event) in &page.events {
            let body = serde_json::to_string(&EventBody::new(*id, event)).unwrap_or_default();
            let _ = write!(text, "event: event\ndata: {body}\n\n");
        }
    }
}

fn comma(text: &mut String, begin: usize) {
    if text.len() > begin {
        text.push(',');
    }
}

/// Appends a number: integers exactly, other values to about six digits; NaN is null.
fn put(text: &mut String, value: f64) {
    if !value.is_finite() {
        text.push_str("null");
    } else if value.fract() == 0.0 || value.abs() >= 1e6 {
        let _ = write!(text, "{value:.0}");
    } else {
        let _ = write!(text, "{}", rounded(value, 6));
    }
}

/// `rounded` keeps this many significant digits of a value other than 0.
fn rounded(value: f64, digits: i32) -> f64 {
    let scale = 10f64.powi(digits - 1 - value.abs().log10().floor() as i32);
    (value * scale).round() / scale
}

impl View {
    /// The objects that have values in frames, in order.
    fn objects(&self) -> Vec<Object> {
        let of = |kind, places: Vec<usize>| places.into_iter().take(LIVE_OBJECTS_MAX).map(move |place| (kind, place));
        let mut objects = vec![(Kind::Totals, 0)];
        objects.extend(of(Kind::Sink, self.shown_sinks().collect()));
        objects.extend(of(Kind::Cluster, self.shown_clusters().collect()));
        objects.extend(of(Kind::Source, self.shown_sources().collect()));
        objects.extend(of(Kind::Rule, self.shown_rules().collect()));
        objects.extend(of(Kind::Bridge, self.shown_bridges().collect()));
        objects
    }

    /// States of all sinks, sources, rules, clusters and bridges, as indexes in [`STATES`].
    fn states(&self, span: &Span) -> [Vec<usize>; 5] {
        let described = &self.described;
        let place = |list: usize, word: &str| STATES[list].1.iter().position(|known| *known == word).unwrap_or(0);
        let sink = |index: usize| place(0, described.sink_state(span, index));
        let source = |index: usize| place(1, self.source_state(span, index, &[]).0);
        let bridge = |index: usize| place(4, self.bridge_state(span, index).0);
        let cluster = |index| usize::from(span.now.cluster(index, ClusterMetric::Reachable) == 0);
        [
            (0..described.sinks.len()).map(sink).collect(),
            (0..described.sources.len()).map(source).collect(),
            described.rules.iter().map(|rule| usize::from(!rule.is_enabled)).collect(),
            (0..described.clusters.len()).map(cluster).collect(),
            (0..described.bridges.len()).map(bridge).collect(),
        ]
    }

    fn layout(&self, objects: &[Object], history: &History) -> String {
        let kind = |(name, kind): (&str, Kind)| {
            let series: Vec<_> = kind.series().iter().map(|series| series.name).collect();
            (name.to_owned(), json!({ "series": series, "histogram": kind.histogram(), "width": kind.width() }))
        };
        let object = |object: &Object| {
            let (name, of, kafka) = self.named(*object);
            json!({ "kind": of, "name": name, "kafka": kafka, "history": history.has(*object) })
        };
        let shown = objects.iter().filter(|(kind, _)| *kind == Kind::Sink).count();
        let layout = json!({
            "start": self.started_at(),
            "version": env!("CARGO_PKG_VERSION"),
            "shards": self.shards.count(),
            "kinds": KINDS.into_iter().map(kind).collect::<serde_json::Map<_, _>>(),
            "bounds": bounds(),
            "states": STATES.iter().map(|(name, words)| ((*name).to_owned(), json!(words))).collect::<serde_json::Map<_, _>>(),
            "objects": objects.iter().map(object).collect::<Vec<_>>(),
            "sinks_left_out": self.shown_sinks().count() - shown,
        });
        layout.to_string()
    }

    /// An object's name, the word for its kind, and its cluster if it has one.
    fn named(&self, (kind, index): Object) -> (&str, &'static str, Option<&str>) {
        let described = &self.described;
        let cluster = |index: usize| Some(described.clusters[index].name.as_str());
        match kind {
            Kind::Totals => ("", "totals", None),
            Kind::Sink => (&described.sinks[index].name, "sink", cluster(described.sinks[index].cluster)),
            Kind::Source => (&described.sources[index].name, "source", cluster(described.sources[index].cluster)),
            Kind::Rule => (&described.rules[index].name, "rule", None),
            Kind::Cluster => (&described.clusters[index].name, "cluster", None),
            Kind::Bridge => (&described.bridges[index].name, "bridge", None),
        }
    }
}

const KINDS: [(&str, Kind); 6] = [
    ("totals", Kind::Totals),
    ("sink", Kind::Sink),
    ("cluster", Kind::Cluster),
    ("source", Kind::Source),
    ("rule", Kind::Rule),
    ("bridge", Kind::Bridge),
];

/// Live numbers once a second (server-sent events). `layout` describes the values: `objects` in order, for each `kind` the names of its `series`, followed,
/// if the kind has a `histogram`, by the number of values per second in each bucket. `data` has all `values` in this order, or the `changes` since the
/// previous `data`, each after its index; every tenth has all values. `event` is as in the list of events. A stream ends when its token or login does.
#[utoipa::path(get, path = "/api/v1/live", tag = "live", responses(
    (status = 200, body = String, content_type = "text/event-stream"),
    (status = 429, body = Problem, content_type = "application/problem+json", description = "32 streams are open, or 8 of this login, token or address")))]
async fn live(State(shown): State<Shown>, Extension(grant): Extension<Grant>) -> Result<Response, Problem> {
    let live = Arc::clone(&shown.view().live);
    let place = live.admit(&grant)?;
    let (first, frames) = live.begin(&shown.view());
    let watching = Watching { shown, frames, first: Some(first), place };
    let kind = [(header::CONTENT_TYPE, "text/event-stream")];
    Ok((kind, Body::from_stream(frames_of(watching))).into_response())
}

struct Watching {
    shown: Shown,
    frames: broadcast::Receiver<Bytes>,
    first: Option<Bytes>,
    place: Place,
}

fn frames_of(watching: Watching) -> impl Stream<Item = Result<Bytes, std::convert::Infallible>> {
    futures_util::stream::unfold(watching, |mut watching| async move {
        let frame = watching.next().await?;
        Some((Ok(frame), watching))
    })
}

impl Watching {
    /// The next frame; `None`: the viewer's grant has ended.
    async fn next(&mut self) -> Option<Bytes> {
        if let Some(first) = self.first.take() {
            return Some(first);
        }
        let frame = match self.frames.recv().await {
            Ok(frame) => frame,
            Err(RecvError::Closed) => return None,
            // A stream that has missed frames starts over with all values.
            Err(RecvError::Lagged(_)) => {
                let (first, frames) = self.place.live.begin(&self.shown.view());
                self.frames = frames;
                first
            }
        };
        self.place.grant.holds(&self.shown.view()).then_some(frame)
    }
}

/// The history of an object.
#[derive(Debug, Serialize, ToSchema)]
struct Values {
    /// Times of the values, milliseconds since 1970: each value covers the time since the previous one. A restart of the service clears the history.
    at: Vec<i64>,
    /// The values of each series at these times, for a histogram the values per second of each bucket; null: none.
    #[schema(value_type = Object)]
    values: Value,
}

#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct HistoryQuery {
    /// Names of series, separated by commas: as in the layout of the live stream, but without counters and states. Left out: all.
    #[param(example = "received_per_second,ack_p99_seconds")]
    metric: Option<String>,
    /// Only values of this sink.
    sink: Option<String>,
    /// Only values of this source.
    source: Option<String>,
    /// Only values of this rule.
    rule: Option<String>,
    /// Only values of this Kafka cluster.
    kafka: Option<String>,
    /// Only values of this bridge.
    bridge: Option<String>,
    /// `second`, for the last 15 minutes, or `minute`, for the last 24 hours.
    #[param(default = "second")]
    by: Option<String>,
    /// Only values after this time, milliseconds since 1970.
    since: Option<u64>,
}

/// Numbers of the last 15 minutes by second, or of the last 24 hours by minute: of the service, or of a sink, source, rule, bridge or cluster. The history
/// is in memory: a restart clears it.
#[utoipa::path(get, path = "/api/v1/history", tag = "live", params(HistoryQuery), responses(
    (status = 200, body = Values),
    (status = 400, body = Problem, content_type = "application/problem+json")))]
async fn history(State(view): State<Arc<View>>, Asked(query): Asked<HistoryQuery>) -> Result<Json<Values>, Problem> {
    let object = view.wanted_object(&query)?;
    let by_minute = match query.by.as_deref() {
        None | Some("second") => false,
        Some("minute") => true,
        Some(by) => return Err(Problem::bad_request(format!("by {by:?} is neither second nor minute"))),
    };
    let kept = || object.0.series().iter().filter(|series| series.kept).map(|series| series.name).collect();
    let names: Vec<&str> = query.metric.as_deref().map_or_else(kept, |names| names.split(',').collect());
    if names.len() > HISTORY_SERIES_ASKED_MAX {
        return Err(Problem::bad_request(format!("at most {HISTORY_SERIES_ASKED_MAX} series at a time")));
    }
    let since = query.since.and_then(|since| i64::try_from(since).ok()).unwrap_or(0);
    let part = {
        let now = view.live.state();
        // An object that was just added has its history from the next second on.
        if !now.history.has(object) && !view.objects().contains(&object) {
            let detail = "it has no history: only the first sinks, sources, rules, bridges and clusters have one";
            return Err(Problem::bad_request(detail));
        }
        now.history.part(object, &names, by_minute, since)
    };
    let Some(part) = part else {
        let all: Vec<&str> = kept();
        let more = object.0.histogram().map(|name| format!(", {name}")).unwrap_or_default();
        return Err(Problem::bad_request(format!("metric must be some of {}{more}", all.join(", "))));
    };
    let mut columns = part.values.iter();
    let mut values = serde_json::Map::new();
    for name in names {
        let column = |column: &Vec<f32>| column.iter().map(|value| short(*value)).collect::<Value>();
        let value = if object.0.histogram() == Some(name) {
            columns.by_ref().take(forebay_metrics::series::BUCKETS).map(column).collect()
        } else {
            columns.next().map_or(Value::Null, column)
        };
        values.insert(name.to_owned(), value);
    }
    Ok(Json(Values { at: part.at_ms, values: Value::Object(values) }))
}

/// A value rounded to about five digits, which is more than a plot shows.
fn short(value: f32) -> Value {
    let value = f64::from(value);
    if !value.is_finite() {
        return Value::Null;
    }
    if value.fract() == 0.0 {
        return json!(value as i64);
    }
    json!(rounded(value, 5))
}

impl View {
    fn wanted_object(&self, query: &HistoryQuery) -> Result<Object, Problem> {
        let described = &self.described;
        let missing = |what: &str, name: &str| Problem::bad_request(format!("no {what} {name:?}"));
        if let Some(name) = &query.sink {
            return Ok((Kind::Sink, self.sink_named(name).ok_or_else(|| missing("sink", name))?));
        }
        if let Some(name) = &query.source {
            let found = self.shown_sources().find(|index| described.sources[*index].name == *name);
            return Ok((Kind::Source, found.ok_or_else(|| missing("source", name))?));
        }
        if let Some(name) = &query.rule {
            let found = self.shown_rules().find(|index| described.rules[*index].name == *name);
            return Ok((Kind::Rule, found.ok_or_else(|| missing("rule", name))?));
        }
        if let Some(name) = &query.bridge {
            let found = self.shown_bridges().find(|index| described.bridges[*index].name == *name);
            return Ok((Kind::Bridge, found.ok_or_else(|| missing("bridge", name))?));
        }
        if let Some(name) = &query.kafka {
            let found = self.shown_clusters().find(|index| described.clusters[*index].name == *name);
            return Ok((Kind::Cluster, found.ok_or_else(|| missing("cluster", name))?));
        }
        Ok((Kind::Totals, 0))
    }
}
