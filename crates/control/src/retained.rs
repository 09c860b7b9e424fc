//! Retained messages, collected from the shards, each of which is the home of some topics.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::{Extension, Json};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::View;
use super::auth::{Grant, Who, may_read_messages};
use super::content::Content;
use super::pages::{ask, page};
use super::problem::{Asked, Named, Problem};
use forebay_metrics::event::{Event, Field, Kind};
use forebay_metrics::inspect::{self, Ask, Told};

pub(super) fn routes() -> OpenApiRouter<super::Shown> {
    OpenApiRouter::new()
        .routes(routes!(retained_messages))
        .routes(routes!(retained_message))
        .routes(routes!(forget_retained))
}

/// A retained message.
#[derive(Debug, Serialize, ToSchema)]
struct Message {
    topic: String,
    /// QoS at which the message was published.
    qos: u8,
    payload_bytes: usize,
    /// The payload, if it is text; only in the answer about one message.
    #[serde(skip_serializing_if = "Option::is_none")]
    payload: Option<String>,
    /// The payload in Base64, if it is not text; only in the answer about one message.
    #[serde(skip_serializing_if = "Option::is_none")]
    payload_base64: Option<String>,
    /// Seconds since the message was retained, counted from the process's start if that was earlier.
    age_seconds: u64,
    /// Seconds until the message expires; null: never.
    expires_in_seconds: Option<u64>,
    /// Whether the message is on disk and survives a restart.
    stored: bool,
    /// The shard that retains the message.
    shard: usize,
}

impl Message {
    fn new(shard: usize, of: inspect::Retained) -> Self {
        let (payload, payload_base64) = of.payload.map(|bytes| Content::from(bytes).fields()).unwrap_or_default();
        Self {
            topic: of.topic,
            qos: of.qos,
            payload_bytes: of.payload_bytes,
            payload,
            payload_base64,
            age_seconds: of.age_s,
            expires_in_seconds: of.expires_in_s,
            stored: of.stored,
            shard,
        }
    }
}

/// A page of retained messages.
#[derive(Debug, Serialize, ToSchema)]
struct Messages {
    retained: Vec<Message>,
    /// Cursor of the next page; null: this is the last page. A page may be shorter than its limit, or empty.
    next: Option<String>,
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct Query {
    /// Only messages of topics that match this topic filter.
    #[param(default = "#")]
    filter: Option<String>,
    /// The most entries to return.
    #[param(minimum = 1, maximum = 1000, default = 100)]
    limit: Option<usize>,
    /// `next` of the previous page.
    cursor: Option<String>,
}

/// Retained messages, in the order of their topics on each shard; those of `$SYS` only for a filter that begins with it.
#[utoipa::path(get, path = "/api/v1/retained", tag = "retained", params(Query), responses(
    (status = 200, body = Messages),
    (status = 400, body = Problem, content_type = "application/problem+json"),
    (status = 503, body = Problem, content_type = "application/problem+json", description = "A shard did not answer")))]
async fn retained_messages(
    State(view): State<Arc<View>>,
    Asked(Query { filter, limit, cursor }): Asked<Query>,
) -> Result<Json<Messages>, Problem> {
    let filter = filter.unwrap_or_else(|| "#".to_owned());
    let question = |from, limit| Ask::Retained { filter: filter.clone(), from, limit };
    let part = |told| match told {
        Told::Retained(part) => Ok(part),
        _ => Err(Problem::bad_request(format!("{filter:?} is not a topic filter"))),
    };
    let (found, next) = page(&view, limit, cursor.as_deref(), question, part).await?;
    let retained = found.into_iter().map(|(shard, row)| Message::new(shard, row)).collect();
    Ok(Json(Messages { retained, next }))
}

/// The retained message of a topic, with its payload: this needs the role write.
#[utoipa::path(get, path = "/api/v1/retained/{topic}", tag = "retained", security(("token" = [])),
    params(("topic" = String, Path, description = "Topic, percent-encoded")), responses(
    (status = 200, body = Message),
    (status = 403, body = Problem, content_type = "application/problem+json", description = "The token has the role read"),
    (status = 404, body = Problem, content_type = "application/problem+json"),
    (status = 503, body = Problem, content_type = "application/problem+json", description = "A shard did not answer")))]
async fn retained_message(
    State(view): State<Arc<View>>,
    Extension(grant): Extension<Grant>,
    Named(topic): Named,
) -> Result<Json<Message>, Problem> {
    may_read_messages(&view, &grant)?;
    let shard = view.shards.owner(&topic);
    match ask(&view, shard, Ask::RetainedOf(topic.clone())).await? {
        Told::RetainedOf(Some(row)) => Ok(Json(Message::new(shard, *row))),
        _ => Err(nothing(&topic)),
    }
}

/// Deletes the retained message of a topic. Subscribers are not notified.
#[utoipa::path(delete, path = "/api/v1/retained/{topic}", tag = "retained",
    params(("topic" = String, Path, description = "Topic, percent-encoded")), responses(
    (status = 204, description = "It is not retained any more"),
    (status = 404, body = Problem, content_type = "application/problem+json"),
    (status = 503, body = Problem, content_type = "application/problem+json", description = "A shard did not answer")))]
async fn forget_retained(
    State(view): State<Arc<View>>,
    Extension(Who(token)): Extension<Who>,
    Named(topic): Named,
) -> Result<StatusCode, Problem> {
    match ask(&view, view.shards.owner(&topic), Ask::ForgetRetained(topic.clone())).await? {
        Told::Done(true) => {
            let event = Event::now(Kind::AdminAction).with(Field::Action, "forget_retained");
            view.journal.say(event.with(Field::MqttTopic, topic).maybe(Field::Token, token));
            Ok(StatusCode::NO_CONTENT)
        }
        _ => Err(nothing(&topic)),
    }
}

fn nothing(topic: &str) -> Problem {
    Problem::not_found(format!("nothing is retained for {topic:?}"))
}
