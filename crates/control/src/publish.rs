//! Publishes messages by the API: they are routed like those of a client.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::extract::{ConnectInfo, State};
use axum::http::StatusCode;
use axum::{Extension, Json};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::auth::Who;
use super::content;
use super::pages::{ask, not_an_answer};
use super::problem::{Problem, Sent};
use super::{Shown, View};
use forebay_base::address::Address;
use forebay_metrics::event::{Event, Field, Kind};
use forebay_metrics::inspect::{Ask, Ordered, ToPublish, Told};

pub(super) fn routes() -> OpenApiRouter<Shown> {
    OpenApiRouter::new().routes(routes!(publish))
}

/// A message to publish.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct MessageToPublish {
    topic: String,
    /// Payload as text.
    #[serde(default)]
    payload: String,
    /// Payload in base64, instead of `payload`.
    payload_base64: Option<String>,
    /// QoS of the message for its subscribers: 0, 1 or 2; 1 if left out.
    #[schema(minimum = 0, maximum = 2)]
    qos: Option<u8>,
    /// Retains the message for its topic; without a payload it deletes the retained message.
    #[serde(default)]
    retain: bool,
    /// Message Expiry Interval in seconds.
    message_expiry_seconds: Option<u32>,
    /// Content Type of MQTT 5.
    content_type: Option<String>,
    /// User properties of MQTT 5: pairs of name and value.
    #[serde(default)]
    user_properties: Vec<(String, String)>,
}

/// Result of a publish.
#[derive(Debug, Serialize, ToSchema)]
struct PublishedBody {
    /// Whether a sink, rule or subscription has matched the message, or it is retained. False: nothing has it.
    matched: bool,
}

/// Publishes a message: sinks, rules and subscribers get it as from a client with the identifier `$api` and the token's name as its user. The answer does
/// not wait for Kafka, nor for subscribers; the sinks' numbers show the outcome.
#[utoipa::path(post, path = "/api/v1/publish", tag = "clients", request_body = MessageToPublish, responses(
    (status = 200, body = PublishedBody, description = "It is on its way to all that match it"),
    (status = 400, body = Problem, content_type = "application/problem+json"),
    (status = 409, body = Problem, content_type = "application/problem+json", description = "A sink or a rule refuses the message: nobody has it"),
    (status = 503, body = Problem, content_type = "application/problem+json", description = "There is no room, or a shard did not answer: nobody has it")))]
async fn publish(
    State(view): State<Arc<View>>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    Extension(Who(token)): Extension<Who>,
    Sent(message): Sent<MessageToPublish>,
) -> Result<Json<PublishedBody>, Problem> {
    let payload = content::payload(&message.payload, message.payload_base64.as_deref());
    let payload = payload.map_err(Problem::bad_request)?;
    let to_publish = ToPublish {
        topic: message.topic.clone(),
        payload,
        qos: message.qos.unwrap_or(1),
        retain: message.retain,
        expiry_s: message.message_expiry_seconds,
        content_type: message.content_type,
        user_properties: message.user_properties,
        username: token.clone(),
    };
    // Messages of one topic keep their order because one shard publishes them.
    let shard = view.shards.owner(&message.topic);
    let Told::Ordered(told) = ask(&view, shard, Ask::Publish(Box::new(to_publish))).await? else {
        return Err(not_an_answer());
    };
    let matched = match told {
        Ordered::Invalid(why) => return Err(Problem::bad_request(why)),
        Ordered::NoRoom => {
            return Err(Problem::unavailable("there is no room for the message now: nobody has it; try again").after(1));
        }
        Ordered::Refused => {
            let detail = "a sink or a rule refuses the message: nobody has it; `forebay events` says which";
            return Err(Problem::new(StatusCode::CONFLICT, detail));
        }
        Ordered::Taken => true,
        Ordered::Unmatched => false,
    };
    let event = Event::now(Kind::AdminAction).with(Field::Action, "publish").with(Field::MqttTopic, message.topic);
    view.journal.say_of(event.maybe(Field::Token, token), Address::of(peer.ip()));
    Ok(Json(PublishedBody { matched }))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The payload of a message to publish is a text: JSON in it goes to subscribers and sinks as it was written.
    #[test]
    fn finding_q43_json_is_published_as_it_was_written() {
        let json = r#"{"t": 2.50, "n": 12345678901234567890123, "o": {"z": 1.0, "a": [1e3]}}"#;
        let message = serde_json::json!({ "topic": "t", "payload": json }).to_string();
        let message: MessageToPublish = serde_json::from_str(&message).expect("a message");
        let payload = content::payload(&message.payload, message.payload_base64.as_deref());
        assert_eq!(payload.as_deref(), Ok(json.as_bytes()));
        // A tree would be written anew.
        let tree = format!(r#"{{"topic": "t", "payload": {json}}}"#);
        assert!(serde_json::from_str::<MessageToPublish>(&tree).is_err());
    }
}
