//! DeleteTopics (20), by name or by id.

use kafka_protocol::messages::delete_topics_request::DeleteTopicState;
use kafka_protocol::messages::delete_topics_response::DeletableTopicResult;
use kafka_protocol::messages::{DeleteTopicsRequest, DeleteTopicsResponse};

use super::{Close, Context, Reply, encode, text};
use crate::batch::Refusal;
use crate::code;
use crate::guard::Head;

pub(super) async fn answer(context: &Context<'_>, head: Head, request: DeleteTopicsRequest) -> Result<Reply, Close> {
    let named = request.topic_names.into_iter().map(|name| DeleteTopicState::default().with_name(Some(name)));
    let mut responses = Vec::new();
    for asked in request.topics.into_iter().chain(named) {
        responses.push(delete(context, head, asked).await);
    }
    encode(head, &DeleteTopicsResponse::default().with_responses(responses))
}

async fn delete(context: &Context<'_>, head: Head, asked: DeleteTopicState) -> DeletableTopicResult {
    let store = context.store;
    let result = DeletableTopicResult::default();
    let topic = match &asked.name {
        Some(name) => store.topic(name),
        None => store.topic_by_id(asked.topic_id),
    };
    let (result, deleted) = match (topic, asked.name) {
        (Some(topic), name) => {
            let id = if head.version >= 6 { topic.id } else { uuid::Uuid::nil() };
            let name = name.unwrap_or_else(|| text(&topic.name).into());
            (result.with_name(Some(name)).with_topic_id(id), store.delete_topic(&topic.name).await)
        }
        (None, Some(name)) => {
            let unknown = Refusal { code: code::UNKNOWN_TOPIC_OR_PARTITION, reason: "no such topic" };
            (result.with_name(Some(name)), Err(unknown))
        }
        (None, None) => {
            let unknown = Refusal { code: code::UNKNOWN_TOPIC_ID, reason: "no topic with this id" };
            (result.with_name(None).with_topic_id(asked.topic_id), Err(unknown))
        }
    };
    match deleted {
        Ok(()) => result,
        Err(refusal) => {
            let message = (head.version >= 5).then(|| text(refusal.reason));
            result.with_error_code(refusal.code).with_error_message(message)
        }
    }
}
