//! OffsetCommit (8) and OffsetFetch (9).

use std::collections::BTreeMap;

use kafka_protocol::messages::offset_commit_response::{OffsetCommitResponsePartition, OffsetCommitResponseTopic};
use kafka_protocol::messages::offset_fetch_response::{
    OffsetFetchResponseGroup, OffsetFetchResponsePartition, OffsetFetchResponsePartitions, OffsetFetchResponseTopic,
    OffsetFetchResponseTopics,
};
use kafka_protocol::messages::{
    OffsetCommitRequest, OffsetCommitResponse, OffsetFetchRequest, OffsetFetchResponse, TopicName,
};

use super::{Close, Context, Reply, encode, text};
use crate::code;
use crate::groups::offsets::{Committed, Place};
use crate::guard::Head;

/// Kafka's `offset.metadata.max.bytes`.
const METADATA_BYTES_MAX: usize = 4_096;

pub(super) async fn commit(context: &Context<'_>, head: Head, request: OffsetCommitRequest) -> Result<Reply, Close> {
    let store = context.store;
    let generation = request.generation_id_or_member_epoch;
    let allowed = store
        .groups
        .with(&request.group_id, |group, now_ms| group.check_commit(&request.member_id, generation, now_ms));
    let allowed = match allowed {
        Some(allowed) => allowed,
        None if request.group_id.is_empty() => Err(code::INVALID_GROUP_ID),
        // The commit is from outside, to a group without members.
        None if generation < 0 => Ok(()),
        None => Err(code::ILLEGAL_GENERATION),
    };
    let is_there = |place: &Place| store.topic(&place.topic).is_some_and(|t| t.partition(place.partition).is_some());
    let mut changes = Vec::new();
    let mut codes = Vec::new();
    for topic in &request.topics {
        for partition in &topic.partitions {
            let place = Place {
                group: request.group_id.to_string(),
                topic: topic.name.to_string(),
                partition: partition.partition_index,
            };
            let metadata = partition.committed_metadata.as_deref().unwrap_or_default();
            let code = match allowed {
                Err(code) => code,
                Ok(()) if !is_there(&place) => code::UNKNOWN_TOPIC_OR_PARTITION,
                Ok(()) if metadata.len() > METADATA_BYTES_MAX => code::OFFSET_METADATA_TOO_LARGE,
                Ok(()) => 0,
            };
            codes.push(code);
            if code == 0 {
                let leader_epoch = if head.version >= 6 { partition.committed_leader_epoch } else { -1 };
                let metadata = metadata.to_owned();
                changes.push((place, Some(Committed { offset: partition.committed_offset, leader_epoch, metadata })));
            }
        }
    }
    let written = store.groups.commit(changes, is_there).await;
    let mut codes = codes.into_iter().map(|code| if code == 0 { written.err().unwrap_or(0) } else { code });
    let topic = |topic: kafka_protocol::messages::offset_commit_request::OffsetCommitRequestTopic| {
        let partition = |index| OffsetCommitResponsePartition::default().with_partition_index(index);
        let partitions = topic.partitions.iter().map(|asked| {
            partition(asked.partition_index).with_error_code(codes.next().unwrap_or(code::COORDINATOR_NOT_AVAILABLE))
        });
        OffsetCommitResponseTopic::default().with_partitions(partitions.collect()).with_name(topic.name)
    };
    let topics = request.topics.into_iter().map(topic).collect();
    encode(head, &OffsetCommitResponse::default().with_topics(topics))
}

const NOTHING: Committed = Committed { offset: -1, leader_epoch: -1, metadata: String::new() };

/// Topics with partition indexes as requested; `None`: all places of the group.
fn asked_or_all(
    context: &Context<'_>,
    group: &str,
    asked: Option<Vec<(TopicName, Vec<i32>)>>,
) -> Vec<(TopicName, Vec<(i32, Committed)>)> {
    let asked = asked.unwrap_or_else(|| {
        let mut all: BTreeMap<String, Vec<i32>> = BTreeMap::new();
        for place in context.store.groups.places(group) {
            all.entry(place.topic).or_default().push(place.partition);
        }
        all.into_iter().map(|(topic, partitions)| (text(&topic).into(), partitions)).collect()
    });
    context.store.groups.committed(|committed| {
        let mut found = Vec::with_capacity(asked.len());
        for (topic, partitions) in asked {
            let mut place = Place { group: group.to_owned(), topic: topic.to_string(), partition: 0 };
            let one = |partition: i32| {
                place.partition = partition;
                (partition, committed.get(&place).cloned().unwrap_or(NOTHING))
            };
            let of_topic = partitions.into_iter().map(one).collect();
            found.push((topic, of_topic));
        }
        found
    })
}

pub(super) fn fetch(context: &Context<'_>, head: Head, request: OffsetFetchRequest) -> Result<Reply, Close> {
    if head.version < 8 {
        let asked = request
            .topics
            .map(|topics| topics.into_iter().map(|topic| (topic.name, topic.partition_indexes)).collect());
        let topics = asked_or_all(context, &request.group_id, asked).into_iter().map(topic_before_8).collect();
        return encode(head, &OffsetFetchResponse::default().with_topics(topics));
    }
    let group = |group: kafka_protocol::messages::offset_fetch_request::OffsetFetchRequestGroup| {
        let asked =
            group.topics.map(|topics| topics.into_iter().map(|topic| (topic.name, topic.partition_indexes)).collect());
        let topics = asked_or_all(context, &group.group_id, asked).into_iter().map(topic_from_8).collect();
        OffsetFetchResponseGroup::default().with_group_id(group.group_id).with_topics(topics)
    };
    let groups = request.groups.into_iter().map(group).collect();
    encode(head, &OffsetFetchResponse::default().with_groups(groups))
}

fn topic_before_8((name, partitions): (TopicName, Vec<(i32, Committed)>)) -> OffsetFetchResponseTopic {
    let partition = |(index, committed): (i32, Committed)| {
        OffsetFetchResponsePartition::default()
            .with_partition_index(index)
            .with_committed_offset(committed.offset)
            .with_committed_leader_epoch(committed.leader_epoch)
            .with_metadata(Some(text(&committed.metadata)))
    };
    let partitions = partitions.into_iter().map(partition).collect();
    OffsetFetchResponseTopic::default().with_name(name).with_partitions(partitions)
}

fn topic_from_8((name, partitions): (TopicName, Vec<(i32, Committed)>)) -> OffsetFetchResponseTopics {
    let partition = |(index, committed): (i32, Committed)| {
        OffsetFetchResponsePartitions::default()
            .with_partition_index(index)
            .with_committed_offset(committed.offset)
            .with_committed_leader_epoch(committed.leader_epoch)
            .with_metadata(Some(text(&committed.metadata)))
    };
    let partitions = partitions.into_iter().map(partition).collect();
    OffsetFetchResponseTopics::default().with_name(name).with_partitions(partitions)
}
