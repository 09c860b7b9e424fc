//! CreateTopics (19). Replication factor 1 or the default. Settings that this log does not support are refused if they
//! would change which records are kept, and otherwise named in the log.

use std::collections::HashMap;

use kafka_protocol::messages::create_topics_request::CreatableTopic;
use kafka_protocol::messages::create_topics_response::CreatableTopicResult;
use kafka_protocol::messages::{BrokerId, CreateTopicsRequest, CreateTopicsResponse};

use super::{Close, Context, NODE_ID, Reply, encode, text};
use crate::batch::Refusal;
use crate::code;
use crate::guard::Head;
use crate::topic_config::{RETENTION_BYTES, RETENTION_MS, TopicConfig};

pub(super) async fn answer(context: &Context<'_>, head: Head, request: CreateTopicsRequest) -> Result<Reply, Close> {
    let mut times_named: HashMap<&str, usize> = HashMap::new();
    for topic in &request.topics {
        *times_named.entry(topic.name.as_str()).or_default() += 1;
    }
    let mut results = Vec::with_capacity(request.topics.len());
    for topic in &request.topics {
        let made = if times_named.get(topic.name.as_str()).is_some_and(|times| *times > 1) {
            Err(Refusal { code: code::INVALID_REQUEST, reason: "the topic is named twice in this request" })
        } else {
            make(context, topic, request.validate_only).await
        };
        results.push(result(head, topic, made));
    }
    encode(head, &CreateTopicsResponse::default().with_topics(results))
}

struct Made {
    partitions: i32,
    id: uuid::Uuid,
}

async fn make(context: &Context<'_>, topic: &CreatableTopic, validate_only: bool) -> Result<Made, Refusal> {
    let store = context.store;
    let partitions = store.check_new_topic(&topic.name, partitions_asked(topic)?)?;
    if !matches!(topic.replication_factor, -1 | 1) {
        return Err(Refusal { code: code::INVALID_REPLICATION_FACTOR, reason: "there is one node: 1 replica" });
    }
    let mut own = TopicConfig::default();
    for config in &topic.configs {
        if matches!(config.name.as_str(), RETENTION_MS | RETENTION_BYTES) {
            own.set(&config.name, config.value.as_deref(), &store.settings)?;
            continue;
        }
        let value = config.value.as_deref().unwrap_or_default();
        if config.name.as_str() == "cleanup.policy" && value != "delete" {
            return Err(Refusal { code: code::INVALID_CONFIG, reason: "compaction is not supported" });
        }
        tracing::warn!(topic = topic.name.as_str(), config = config.name.as_str(), value, "topic setting ignored");
    }
    if validate_only {
        return Ok(Made { partitions, id: uuid::Uuid::nil() });
    }
    store.create_topic(&topic.name, partitions, own).await.map(|topic| Made { partitions, id: topic.id })
}

/// The requested partition count, or the number of manual assignments: 0 to n-1, each to this node alone.
fn partitions_asked(topic: &CreatableTopic) -> Result<i32, Refusal> {
    if topic.assignments.is_empty() {
        return Ok(topic.num_partitions);
    }
    let count = topic.assignments.len();
    let mut seen = vec![false; count];
    for assignment in &topic.assignments {
        let slot = usize::try_from(assignment.partition_index).ok().and_then(|index| seen.get_mut(index));
        match slot {
            Some(slot) if !*slot && assignment.broker_ids.as_slice() == [BrokerId(NODE_ID)] => *slot = true,
            _ => return Err(Refusal { code: code::INVALID_REPLICA_ASSIGNMENT, reason: "there is one node, 1" }),
        }
    }
    i32::try_from(count).map_err(|_| Refusal { code: code::INVALID_PARTITIONS, reason: "too many partitions" })
}

fn result(head: Head, topic: &CreatableTopic, made: Result<Made, Refusal>) -> CreatableTopicResult {
    let result = CreatableTopicResult::default().with_name(topic.name.clone());
    match made {
        Ok(made) if head.version >= 5 => {
            let id = if head.version >= 7 { made.id } else { uuid::Uuid::nil() };
            result.with_num_partitions(made.partitions).with_replication_factor(1).with_topic_id(id)
        }
        Ok(_) => result,
        Err(refusal) => result.with_error_code(refusal.code).with_error_message(Some(text(refusal.reason))),
    }
}
