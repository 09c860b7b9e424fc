//! Produce (0): check, append, wait for the group sync, answer.

use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::produce_response::{PartitionProduceResponse, TopicProduceResponse};
use kafka_protocol::messages::{ProduceRequest, ProduceResponse};

use super::{Close, Context, Reply, encode, text};
use crate::batch::{self, Refusal, Rules};
use crate::clock;
use crate::code;
use crate::counters::add;
use crate::guard::Head;
use crate::partition::{Appended, PartitionRef};
use crate::store::{Store, Topic};
use crate::sync;

/// The fate of one partition's batch.
struct Outcome {
    topic: usize,
    index: i32,
    result: Result<(Appended, PartitionRef), Refusal>,
}

pub(super) async fn answer(context: &Context<'_>, head: Head, request: ProduceRequest) -> Result<Reply, Close> {
    let store = context.store;
    let outcomes = append_all(store, head, &request);
    store.syncer.kick();
    if request.acks == 0 {
        let refused = outcomes.iter().find_map(|outcome| outcome.result.as_ref().err());
        return refused.map_or(Ok(Reply::Nothing), |refusal| Err(Close::Unanswerable(refusal.code)));
    }
    let outcomes = synced(outcomes).await;
    let mut responses: Vec<_> = request.topic_data.iter().map(|topic| response(head, topic)).collect();
    for outcome in outcomes {
        responses[outcome.topic].partition_responses.push(partition_response(head, outcome));
    }
    encode(head, &ProduceResponse::default().with_responses(responses))
}

fn append_all(store: &Store, head: Head, request: &ProduceRequest) -> Vec<Outcome> {
    let rules = Rules { size_max: store.settings.message_bytes_max, version: head.version, now_ms: clock::wall_ms() };
    let mut outcomes = Vec::new();
    let mut seen = std::collections::HashMap::new();
    for data in &request.topic_data {
        for partition in &data.partition_data {
            *seen.entry((data.name.as_str(), data.topic_id, partition.index)).or_insert(0usize) += 1;
        }
    }
    for (at, data) in request.topic_data.iter().enumerate() {
        let topic = find_topic(store, head, data);
        for partition in &data.partition_data {
            // Kafka refuses both of two batches of a partition in one request, however they are packed.
            let twice = seen.get(&(data.name.as_str(), data.topic_id, partition.index)).is_some_and(|n| *n > 1);
            let result = if twice {
                Err(Refusal { code: code::INVALID_RECORD, reason: "more than one batch for a partition" })
            } else {
                append(store, request, topic.as_deref(), partition, rules)
            };
            if let Err(refusal) = &result {
                refused(store, refusal, &data.name, partition.index);
            }
            outcomes.push(Outcome { topic: at, index: partition.index, result });
        }
    }
    outcomes
}

fn find_topic(store: &Store, head: Head, data: &TopicProduceData) -> Result<std::rc::Rc<Topic>, Refusal> {
    if head.version >= 13 {
        let unknown = Refusal { code: code::UNKNOWN_TOPIC_ID, reason: "no topic with this id" };
        return store.topic_by_id(data.topic_id).ok_or(unknown);
    }
    store.topic(&data.name).ok_or(Refusal { code: code::UNKNOWN_TOPIC_OR_PARTITION, reason: "no such topic" })
}

fn append(
    store: &Store,
    request: &ProduceRequest,
    topic: Result<&Topic, &Refusal>,
    data: &PartitionProduceData,
    rules: Rules,
) -> Result<(Appended, PartitionRef), Refusal> {
    if !matches!(request.acks, -1..=1) {
        return Err(Refusal { code: code::INVALID_REQUIRED_ACKS, reason: "acks is 0, 1 or -1" });
    }
    let topic = topic.map_err(|refusal| *refusal)?;
    let unknown = Refusal { code: code::UNKNOWN_TOPIC_OR_PARTITION, reason: "no such partition" };
    let partition = topic.partition(data.index).ok_or(unknown)?;
    let records = data.records.as_deref().unwrap_or_default();
    let header = batch::check(records, rules)?;
    let appended = store.append(partition, records, &header);
    let appended = appended.map_err(|code| Refusal { code, reason: "not appended" })?;
    Ok((appended, partition.clone()))
}

/// Counts a refused batch, and logs it at debug level only, because there may be one for each message.
fn refused(store: &Store, refusal: &Refusal, topic: &str, partition: i32) {
    add(&store.counters.batches_refused, 1);
    tracing::debug!(topic, partition, code = refusal.code, reason = refusal.reason, "batch refused");
}

/// Waits until every appended batch (or the batch that it repeats) is synced.
async fn synced(mut outcomes: Vec<Outcome>) -> Vec<Outcome> {
    let target = |outcome: &Outcome| {
        outcome.result.as_ref().ok().map(|(appended, partition)| (partition.clone(), appended.next_offset))
    };
    let targets: Vec<_> = outcomes.iter().filter_map(target).collect();
    let mut reached = sync::wait(&targets).await.into_iter();
    for outcome in outcomes.iter_mut().filter(|outcome| outcome.result.is_ok()) {
        if reached.next() != Some(true) {
            outcome.result = Err(Refusal { code: code::STORAGE_ERROR, reason: "the disk failed under this partition" });
        }
    }
    outcomes
}

fn response(head: Head, data: &TopicProduceData) -> TopicProduceResponse {
    let response = TopicProduceResponse::default();
    if head.version >= 13 { response.with_topic_id(data.topic_id) } else { response.with_name(data.name.clone()) }
}

fn partition_response(head: Head, outcome: Outcome) -> PartitionProduceResponse {
    let response = PartitionProduceResponse::default().with_index(outcome.index).with_log_append_time_ms(-1);
    match outcome.result {
        Ok((appended, partition)) => {
            response.with_base_offset(appended.base_offset).with_log_start_offset(partition.borrow().log_start_offset())
        }
        Err(refusal) => {
            let message = (head.version >= 8).then(|| text(refusal.reason));
            response.with_error_code(refusal.code).with_base_offset(-1).with_error_message(message)
        }
    }
}
