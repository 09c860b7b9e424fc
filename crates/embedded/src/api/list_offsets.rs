//! ListOffsets (2): by a named place (latest, earliest, newest record) or by time.

use kafka_protocol::messages::list_offsets_request::ListOffsetsPartition;
use kafka_protocol::messages::list_offsets_response::{ListOffsetsPartitionResponse, ListOffsetsTopicResponse};
use kafka_protocol::messages::{ListOffsetsRequest, ListOffsetsResponse};
use tokio::task::spawn_blocking;

use super::{Close, Context, LEADER_EPOCH, Reply, encode};
use crate::code;
use crate::guard::Head;
use crate::partition::PartitionRef;
use crate::read::{self, TimePlan, TimedOffset};
use crate::sync;

const LATEST: i64 = -1;
const EARLIEST: i64 = -2;
/// KIP-734.
const MAX_TIMESTAMP: i64 = -3;
/// KIP-405: nothing is tiered here, so all of it is local.
const EARLIEST_LOCAL: i64 = -4;
const LATEST_TIERED: i64 = -5;

pub(super) async fn answer(context: &Context<'_>, head: Head, request: ListOffsetsRequest) -> Result<Reply, Close> {
    let mut topics = Vec::with_capacity(request.topics.len());
    for asked in request.topics {
        let topic = context.store.topic(&asked.name);
        let mut partitions = Vec::with_capacity(asked.partitions.len());
        for partition in &asked.partitions {
            let found = topic.as_ref().and_then(|topic| topic.partition(partition.partition_index));
            let result = match found {
                None => Err(code::UNKNOWN_TOPIC_OR_PARTITION),
                Some(_) if partition.current_leader_epoch > LEADER_EPOCH => Err(code::UNKNOWN_LEADER_EPOCH),
                Some(found) => look_up(context, found, partition.timestamp).await,
            };
            partitions.push(response(head, partition, result));
        }
        topics.push(ListOffsetsTopicResponse::default().with_name(asked.name).with_partitions(partitions));
    }
    encode(head, &ListOffsetsResponse::default().with_topics(topics))
}

const NOWHERE: TimedOffset = TimedOffset { timestamp: -1, offset: -1 };

async fn look_up(context: &Context<'_>, partition: &PartitionRef, timestamp: i64) -> Result<TimedOffset, i16> {
    let place = |offset| Ok(TimedOffset { timestamp: -1, offset });
    match timestamp {
        LATEST => place(partition.borrow().high_watermark()),
        EARLIEST | EARLIEST_LOCAL => place(partition.borrow().log_start_offset()),
        LATEST_TIERED => place(-1),
        MAX_TIMESTAMP => newest(context, partition).await,
        0.. => first_at(context, partition, timestamp).await,
        _ => Err(code::INVALID_REQUEST),
    }
}

async fn first_at(context: &Context<'_>, partition: &PartitionRef, timestamp: i64) -> Result<TimedOffset, i16> {
    loop {
        let start = partition.borrow().log_start_offset();
        let plans = partition.borrow().plan_time(timestamp);
        let run = |plan: TimePlan| plan.run().map_err(|error| (plan.source, error)).transpose();
        let found = spawn_blocking(move || plans.into_iter().find_map(run).transpose()).await;
        let found = match found {
            Ok(Err((source, error))) => {
                if read::is_damage(&error) && context.store.read_again(partition, source).await {
                    continue;
                }
                Ok(Err(error))
            }
            Ok(Ok(found)) => Ok(Ok(found)),
            Err(error) => Err(error),
        };
        // Retention removed a file between plan and read: the loop looks again.
        if matches!(found, Ok(Err(_))) && partition.borrow().log_start_offset() > start {
            continue;
        }
        return finish(found);
    }
}

async fn newest(context: &Context<'_>, partition: &PartitionRef) -> Result<TimedOffset, i16> {
    loop {
        let target = partition.borrow().next_offset();
        let plan = partition.borrow().plan_newest();
        let Some(plan) = plan else { return Ok(NOWHERE) };
        // The newest record may not be synced yet: unsynced data is not shown.
        context.store.syncer.kick();
        if sync::wait(&[(partition.clone(), target)]).await != [true] {
            return Err(code::STORAGE_ERROR);
        }
        let source = plan.source.clone();
        let found = spawn_blocking(move || plan.run()).await;
        if let Ok(Err(error)) = &found
            && read::is_damage(error)
            && context.store.read_again(partition, source).await
        {
            continue;
        }
        return finish(found);
    }
}

fn finish<E>(result: Result<std::io::Result<Option<TimedOffset>>, E>) -> Result<TimedOffset, i16> {
    match result {
        Ok(Ok(found)) => Ok(found.unwrap_or(NOWHERE)),
        Ok(Err(error)) => {
            tracing::error!(%error, "a segment could not be read");
            Err(code::STORAGE_ERROR)
        }
        Err(_) => Err(code::STORAGE_ERROR),
    }
}

fn response(
    head: Head,
    asked: &ListOffsetsPartition,
    result: Result<TimedOffset, i16>,
) -> ListOffsetsPartitionResponse {
    let response = ListOffsetsPartitionResponse::default().with_partition_index(asked.partition_index);
    match result {
        Err(code) => response.with_error_code(code).with_timestamp(-1).with_offset(-1),
        Ok(found) => {
            let epoch = if head.version >= 4 && found.offset >= 0 { LEADER_EPOCH } else { -1 };
            response.with_timestamp(found.timestamp).with_offset(found.offset).with_leader_epoch(epoch)
        }
    }
}
