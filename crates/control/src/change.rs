//! Creates, changes, pauses and removes sinks, sources, rules, bridges, clusters and listeners. Each request is an edit of the configuration that is then
//! handled like a reload: checked as a whole, applied on all shards, answered when it is in force. Keys are JSON, or TOML with the content type
//! `application/toml`.

use std::sync::Arc;

use axum::extract::{FromRef, FromRequestParts, State};
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::{Extension, Json};
use serde::Deserialize;
use serde_json::Value;
use utoipa::{IntoParams, IntoResponses};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::auth::Who;
use super::problem::{Asked, Named, Problem, SentKeys};
use super::reload::{Part, Reloaded, To, Wanted, carry_out};
use super::{Shown, View};
use forebay_metrics::event::{Event, Field, Kind};

pub(super) fn routes() -> OpenApiRouter<Shown> {
    OpenApiRouter::new()
        .routes(routes!(put_sink))
        .routes(routes!(delete_sink))
        .routes(routes!(pause_sink))
        .routes(routes!(resume_sink))
        .routes(routes!(put_source))
        .routes(routes!(delete_source))
        .routes(routes!(pause_source))
        .routes(routes!(resume_source))
        .routes(routes!(put_rule))
        .routes(routes!(delete_rule))
        .routes(routes!(pause_rule))
        .routes(routes!(resume_rule))
        .routes(routes!(put_bridge))
        .routes(routes!(delete_bridge))
        .routes(routes!(pause_bridge))
        .routes(routes!(resume_bridge))
        .routes(routes!(put_cluster))
        .routes(routes!(delete_cluster))
        .routes(routes!(put_listener))
        .routes(routes!(delete_listener))
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct ChangeQuery {
    /// Writes the change to the configuration file, comments and order of which stay. Otherwise the change lasts until the service is restarted.
    persist: Option<bool>,
    /// Only report what would change.
    dry_run: Option<bool>,
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct RemovalQuery {
    /// Writes the change to the configuration file. Otherwise it lasts until the service is restarted.
    persist: Option<bool>,
    /// Only report what would change.
    dry_run: Option<bool>,
    /// Removes the bridge even if queued messages for its remote are lost.
    discard: Option<bool>,
}

/// Responses to a change of an existing part, for the OpenAPI description. Paths list only those that differ.
#[derive(IntoResponses)]
#[allow(dead_code, reason = "the description is made of it")]
enum OfOne {
    #[response(status = 200, description = "")]
    Done(Reloaded),
    #[response(status = 404, description = "", content_type = "application/problem+json")]
    Missing(Problem),
    #[response(
        status = 409,
        description = "The file cannot be written, or another change is under way",
        content_type = "application/problem+json"
    )]
    Conflict(Problem),
    #[response(
        status = 422,
        description = "The configuration would have mistakes; nothing was changed",
        content_type = "application/problem+json"
    )]
    Mistakes(Problem),
    #[response(
        status = 503,
        description = "The service is stopping, or a shard did not answer",
        content_type = "application/problem+json"
    )]
    Unavailable(Problem),
}

/// Responses to a PUT, likewise.
#[derive(IntoResponses)]
#[allow(dead_code, reason = "the description is made of it")]
enum OfPut {
    #[response(status = 200, description = "It is changed")]
    Changed(Reloaded),
    #[response(status = 201, description = "It is created")]
    Created(Reloaded),
    #[response(status = 400, description = "", content_type = "application/problem+json")]
    NotRead(Problem),
    #[response(
        status = 409,
        description = "It needs a restart and is not to be written to the file, the file cannot be written, or another change is under way",
        content_type = "application/problem+json"
    )]
    Conflict(Problem),
    #[response(
        status = 422,
        description = "The configuration would have mistakes: `detail` has a line for each; nothing was changed",
        content_type = "application/problem+json"
    )]
    Mistakes(Problem),
    #[response(
        status = 503,
        description = "The service is stopping, or a shard did not answer",
        content_type = "application/problem+json"
    )]
    Unavailable(Problem),
}

/// Result of every change.
type Answer = Result<(StatusCode, Json<Reloaded>), Problem>;

/// A request to change a part: the caller, the part's name, and the query.
struct Request {
    view: Arc<View>,
    who: Who,
    name: String,
    query: ChangeQuery,
}

impl FromRequestParts<Shown> for Request {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, shown: &Shown) -> Result<Self, Problem> {
        let who = Extension::<Who>::from_request_parts(parts, shown).await;
        let Extension(who) = who.map_err(|error| Problem::new(error.status(), error.body_text()))?;
        let Named(name) = Named::from_request_parts(parts, shown).await?;
        let Asked(query) = Asked::from_request_parts(parts, shown).await?;
        Ok(Self { view: Arc::<View>::from_ref(shown), who, name, query })
    }
}

impl Request {
    /// Carries the request out, and records an event unless it is a dry run.
    async fn carry_out(self, part: Part, action: &str, to: To) -> Answer {
        let Self { view, who: Who(token), name, query: ChangeQuery { persist, dry_run } } = self;
        let dry_run = dry_run.unwrap_or(false);
        let wanted = Wanted::Edit { part, name: name.clone(), to, persist: persist.unwrap_or(false) };
        let done = carry_out(&view, wanted, dry_run).await?;
        if !dry_run {
            let field = match part {
                Part::Sink => Field::Sink,
                Part::Source => Field::Source,
                Part::Rule => Field::SqlRule,
                Part::Bridge => Field::Bridge,
                Part::Cluster => Field::Kafka,
                Part::Listener => Field::Listener,
            };
            let event = Event::now(Kind::AdminAction).with(Field::Action, action).with(field, name.as_str());
            view.journal.say(event.maybe(Field::Token, token));
        }
        let status = if done.is_new && !dry_run { StatusCode::CREATED } else { StatusCode::OK };
        Ok((status, Json(done)))
    }
}

/// A change of one key; null removes it.
fn set(key: &str, value: Value) -> To {
    To::Keys([(key.to_owned(), value)].into_iter().collect())
}

/// Creates or changes a sink. The body has the sink's keys as in `[[sink]]` of the configuration file; a key that is not given, or null, has its default.
/// The keys that `GET /api/v1/config` shows of a sink can be sent back.
#[utoipa::path(put, path = "/api/v1/sinks/{name}", tag = "sinks",
    params(("name" = String, Path, description = "Its name"), ChangeQuery),
    request_body(content = Object, description = "Keys of `[[sink]]`"), responses(OfPut))]
async fn put_sink(request: Request, SentKeys(keys): SentKeys) -> Answer {
    request.carry_out(Part::Sink, "put_sink", To::Entry(keys)).await
}

/// Removes a sink. The sink accepts no more messages; the records that it holds are still written to Kafka.
#[utoipa::path(delete, path = "/api/v1/sinks/{name}", tag = "sinks",
    params(("name" = String, Path, description = "Its name"), ChangeQuery), responses(OfOne,
    (status = 422, body = Problem, content_type = "application/problem+json", description = "The configuration would have mistakes, for instance no sink at all; nothing was changed")))]
async fn delete_sink(request: Request) -> Answer {
    request.carry_out(Part::Sink, "delete_sink", To::Removed).await
}

/// Pauses a sink: no new requests are sent to Kafka, requests in flight are completed. The sink continues to accept messages while its buffer has room;
/// when the buffer is full, the same happens as when Kafka cannot be reached. Its key `paused` becomes true.
#[utoipa::path(post, path = "/api/v1/sinks/{name}/pause", tag = "sinks",
    params(("name" = String, Path, description = "Its name"), ChangeQuery), responses(OfOne))]
async fn pause_sink(request: Request) -> Answer {
    request.carry_out(Part::Sink, "pause_sink", set("paused", true.into())).await
}

/// Resumes a paused sink: its queued records are written to Kafka. Its key `paused` is removed.
#[utoipa::path(post, path = "/api/v1/sinks/{name}/resume", tag = "sinks",
    params(("name" = String, Path, description = "Its name"), ChangeQuery), responses(OfOne))]
async fn resume_sink(request: Request) -> Answer {
    request.carry_out(Part::Sink, "resume_sink", set("paused", Value::Null)).await
}

/// Creates or changes a source. The body has the source's keys as in `[[source]]` of the configuration file; a key that is not given, or null, has its
/// default. A change of cluster, topics or group makes the source leave its group and join the new one at that group's offsets.
#[utoipa::path(put, path = "/api/v1/sources/{name}", tag = "sources",
    params(("name" = String, Path, description = "Its name"), ChangeQuery),
    request_body(content = Object, description = "Keys of `[[source]]`"), responses(OfPut,
    (status = 422, body = Problem, content_type = "application/problem+json", description = "The configuration would have mistakes, or a circle: `detail` has a line for each; nothing was changed")))]
async fn put_source(request: Request, SentKeys(keys): SentKeys) -> Answer {
    request.carry_out(Part::Source, "put_source", To::Entry(keys)).await
}

/// Removes a source. The source stops reading, commits the offsets that its subscribers have acknowledged, and leaves its group, which keeps its offsets.
#[utoipa::path(delete, path = "/api/v1/sources/{name}", tag = "sources",
    params(("name" = String, Path, description = "Its name"), ChangeQuery), responses(OfOne))]
async fn delete_source(request: Request) -> Answer {
    request.carry_out(Part::Source, "delete_source", To::Removed).await
}

/// Pauses a source: it stops reading, commits the offsets that its subscribers have acknowledged, and leaves its group. Its key `paused` becomes true.
#[utoipa::path(post, path = "/api/v1/sources/{name}/pause", tag = "sources",
    params(("name" = String, Path, description = "Its name"), ChangeQuery), responses(OfOne))]
async fn pause_source(request: Request) -> Answer {
    request.carry_out(Part::Source, "pause_source", set("paused", true.into())).await
}

/// Resumes a paused source at its group's offsets. Its key `paused` is removed.
#[utoipa::path(post, path = "/api/v1/sources/{name}/resume", tag = "sources",
    params(("name" = String, Path, description = "Its name"), ChangeQuery), responses(OfOne))]
async fn resume_source(request: Request) -> Answer {
    request.carry_out(Part::Source, "resume_source", set("paused", Value::Null)).await
}

/// Creates or changes a bridge. The body has the bridge's keys as in `[bridge.NAME]` of the configuration file, `in` and `out` as lists; a key that is not
/// given, or null, has its default. A changed bridge reconnects; messages for its remote stay.
#[utoipa::path(put, path = "/api/v1/bridges/{name}", tag = "bridges",
    params(("name" = String, Path, description = "Its name"), ChangeQuery),
    request_body(content = Object, description = "Keys of `[bridge.NAME]`"), responses(OfPut))]
async fn put_bridge(request: Request, SentKeys(keys): SentKeys) -> Answer {
    request.carry_out(Part::Bridge, "put_bridge", To::Entry(keys)).await
}

/// Removes a bridge and its local session. Messages for the remote that are queued or unacknowledged are lost, so the request is refused while there are
/// any, unless `discard` is set. The remote keeps its session of the bridge until that session expires.
#[utoipa::path(delete, path = "/api/v1/bridges/{name}", tag = "bridges",
    params(("name" = String, Path, description = "Its name"), RemovalQuery), responses(OfOne,
    (status = 409, body = Problem, content_type = "application/problem+json", description = "Messages wait for its remote, the file cannot be written, or another change is under way")))]
async fn delete_bridge(
    State(view): State<Arc<View>>,
    Extension(who): Extension<Who>,
    Named(name): Named,
    Asked(RemovalQuery { persist, dry_run, discard }): Asked<RemovalQuery>,
) -> Answer {
    if !discard.unwrap_or(false) {
        view.refuse_waiting(&name).await?;
    }
    let request = Request { view, who, name, query: ChangeQuery { persist, dry_run } };
    request.carry_out(Part::Bridge, "delete_bridge", To::Removed).await
}

/// Pauses a bridge: its connection is closed, messages for the remote are queued. Its key `paused` becomes true.
#[utoipa::path(post, path = "/api/v1/bridges/{name}/pause", tag = "bridges",
    params(("name" = String, Path, description = "Its name"), ChangeQuery), responses(OfOne))]
async fn pause_bridge(request: Request) -> Answer {
    request.carry_out(Part::Bridge, "pause_bridge", set("paused", true.into())).await
}

/// Resumes a paused bridge: it connects, and sends the remote the queued messages. Its key `paused` is removed.
#[utoipa::path(post, path = "/api/v1/bridges/{name}/resume", tag = "bridges",
    params(("name" = String, Path, description = "Its name"), ChangeQuery), responses(OfOne))]
async fn resume_bridge(request: Request) -> Answer {
    request.carry_out(Part::Bridge, "resume_bridge", set("paused", Value::Null)).await
}

/// Creates or changes a rule. The body has the rule's keys as in `[[rule]]` of the configuration file; a key that is not given, or null, has its default.
/// The change applies to messages from then on.
#[utoipa::path(put, path = "/api/v1/rules/{name}", tag = "rules",
    params(("name" = String, Path, description = "Its name"), ChangeQuery),
    request_body(content = Object, description = "Keys of `[[rule]]`"), responses(OfPut,
    (status = 422, body = Problem, content_type = "application/problem+json", description = "The statement, or the templates of a sink over what it yields, have mistakes: `detail` has a line for each; nothing was changed")))]
async fn put_rule(request: Request, SentKeys(keys): SentKeys) -> Answer {
    request.carry_out(Part::Rule, "put_rule", To::Entry(keys)).await
}

/// Removes a rule. Records of its outputs are still written to Kafka.
#[utoipa::path(delete, path = "/api/v1/rules/{name}", tag = "rules",
    params(("name" = String, Path, description = "Its name"), ChangeQuery), responses(OfOne))]
async fn delete_rule(request: Request) -> Answer {
    request.carry_out(Part::Rule, "delete_rule", To::Removed).await
}

/// Disables a rule: its sinks get nothing from it, as if no message matched. Its key `enabled` becomes false.
#[utoipa::path(post, path = "/api/v1/rules/{name}/pause", tag = "rules",
    params(("name" = String, Path, description = "Its name"), ChangeQuery), responses(OfOne))]
async fn pause_rule(request: Request) -> Answer {
    request.carry_out(Part::Rule, "pause_rule", set("enabled", false.into())).await
}

/// Enables a rule again. Its key `enabled` is removed.
#[utoipa::path(post, path = "/api/v1/rules/{name}/resume", tag = "rules",
    params(("name" = String, Path, description = "Its name"), ChangeQuery), responses(OfOne))]
async fn resume_rule(request: Request) -> Answer {
    request.carry_out(Part::Rule, "resume_rule", set("enabled", Value::Null)).await
}

/// Creates or changes a Kafka cluster. The body has the cluster's keys as in `[kafka.NAME]` of the configuration file. Lowering a cluster's `buffer_bytes`
/// needs a restart: it is refused without `persist`.
#[utoipa::path(put, path = "/api/v1/clusters/{name}", tag = "kafka",
    params(("name" = String, Path, description = "Its name"), ChangeQuery),
    request_body(content = Object, description = "Keys of `[kafka.NAME]`"), responses(OfPut))]
async fn put_cluster(request: Request, SentKeys(keys): SentKeys) -> Answer {
    request.carry_out(Part::Cluster, "put_cluster", To::Entry(keys)).await
}

/// Removes a Kafka cluster that no sink and no source uses. Its connections are closed after the last record of a removed sink is written.
#[utoipa::path(delete, path = "/api/v1/clusters/{name}", tag = "kafka",
    params(("name" = String, Path, description = "Its name"), ChangeQuery), responses(OfOne,
    (status = 422, body = Problem, content_type = "application/problem+json", description = "A sink or source uses it; nothing was changed")))]
async fn delete_cluster(request: Request) -> Answer {
    request.carry_out(Part::Cluster, "delete_cluster", To::Removed).await
}

/// Creates or changes the listener on an address; no connection is closed. The body has the listener's keys as in `[[listener]]` of the configuration file.
/// The changes apply to a client from its next CONNECT on.
#[utoipa::path(put, path = "/api/v1/listeners/{address}", tag = "listeners",
    params(("address" = String, Path, description = "Its address, as in the configuration"), ChangeQuery),
    request_body(content = Object, description = "Keys of `[[listener]]`"), responses(OfPut,
    (status = 409, body = Problem, content_type = "application/problem+json", description = "The listeners are those of the command line, the file cannot be written, or another change is under way"),
    (status = 422, body = Problem, content_type = "application/problem+json", description = "The configuration would have mistakes, or the address cannot be bound; nothing was changed")))]
async fn put_listener(request: Request, SentKeys(keys): SentKeys) -> Answer {
    request.carry_out(Part::Listener, "put_listener", To::Entry(keys)).await
}

/// Removes a listener. Its clients are disconnected, in MQTT 5.0 with DISCONNECT 0x98 (administrative action); their sessions are kept as usual. No other
/// connection is closed.
#[utoipa::path(delete, path = "/api/v1/listeners/{address}", tag = "listeners",
    params(("address" = String, Path, description = "Its address, as in the configuration"), ChangeQuery), responses(OfOne,
    (status = 409, body = Problem, content_type = "application/problem+json", description = "The listeners are those of the command line, the file cannot be written, or another change is under way"),
    (status = 422, body = Problem, content_type = "application/problem+json", description = "It is the only listener; nothing was changed")))]
async fn delete_listener(request: Request) -> Answer {
    request.carry_out(Part::Listener, "delete_listener", To::Removed).await
}
