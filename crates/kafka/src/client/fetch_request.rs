//! The consumer's requests, and requests for offsets, encoded by kafka-protocol.

use std::rc::Rc;

use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic, ForgottenTopic};
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::offset_for_leader_epoch_request::{OffsetForLeaderPartition, OffsetForLeaderTopic};
use kafka_protocol::messages::{FetchRequest, ListOffsetsRequest, OffsetForLeaderEpochRequest};
use uuid::Uuid;

use super::api::{BY_ID, Call, Versions};
use super::request::{Head, frame, name};
use crate::fetch::{Fetch, FetchAsk, FetchCall, OffsetAsk, Purpose};

/// The first version of Fetch that has sessions (KIP-227), and the first with the leader's epoch (KIP-320).
const SESSIONS: i16 = 7;
const LEADER_EPOCH: i16 = 9;
/// The first version of ListOffsets with the leader's epoch, and the first with isolation.
const OFFSETS_LEADER_EPOCH: i16 = 4;
const OFFSETS_ISOLATION: i16 = 2;

/// The frame of a call, in its settled version. `None`: the broker does not support the call.
pub(super) fn encode(head: Head<'_>, call: &FetchCall, versions: Versions) -> Option<(Call, i16, Vec<u8>)> {
    match &call.ask {
        FetchAsk::Fetch(fetch) => {
            let version = versions.fetch?;
            let version = if fetch.is_by_id { version } else { version.min(BY_ID - 1) };
            let committed = call.way.purpose == Purpose::Committed;
            Some((Call::Fetch, version, self::fetch(head, version, fetch, committed)?))
        }
        FetchAsk::Offsets(asks, committed) => {
            let version = versions.list_offsets?;
            Some((Call::ListOffsets, version, list_offsets(head, version, asks, *committed)?))
        }
        FetchAsk::EpochEnds(asks) => {
            let version = versions.offset_for_leader_epoch?;
            Some((Call::OffsetForLeaderEpoch, version, epoch_ends(head, version, asks)?))
        }
    }
}

fn fetch(head: Head<'_>, version: i16, fetch: &Fetch, committed: bool) -> Option<Vec<u8>> {
    let mut topics: Vec<FetchTopic> = Vec::new();
    let mut last: Option<&Rc<str>> = None;
    for from in &fetch.partitions {
        if last != Some(&from.topic) {
            let topic = FetchTopic::default();
            topics.push(if version >= BY_ID {
                topic.with_topic_id(Uuid::from_u128(from.topic_id))
            } else {
                topic.with_topic(name(&from.topic))
            });
            last = Some(&from.topic);
        }
        let partition = FetchPartition::default()
            .with_partition(from.partition)
            .with_fetch_offset(from.offset)
            .with_log_start_offset(-1)
            .with_partition_max_bytes(from.bytes_max);
        let leader_epoch = if version >= LEADER_EPOCH { from.leader_epoch } else { -1 };
        topics.last_mut()?.partitions.push(partition.with_current_leader_epoch(leader_epoch));
    }
    let (session_id, session_epoch) = if version >= SESSIONS { fetch.session } else { (0, -1) };
    let forgotten = fetch.forgotten.iter().filter(|_| version >= SESSIONS).map(|(topic, id, partition)| {
        let forgotten = ForgottenTopic::default().with_partitions(vec![*partition]);
        if version >= BY_ID { forgotten.with_topic_id(Uuid::from_u128(*id)) } else { forgotten.with_topic(name(topic)) }
    });
    let body = FetchRequest::default()
        .with_replica_id((-1).into())
        .with_max_wait_ms(fetch.max_wait_ms)
        .with_min_bytes(1)
        .with_max_bytes(fetch.bytes_max)
        .with_isolation_level(i8::from(committed))
        .with_session_id(session_id)
        .with_session_epoch(session_epoch)
        .with_topics(topics)
        .with_forgotten_topics_data(forgotten.collect());
    frame(head, Call::Fetch, version, &body)
}

fn is_of_one_topic(one: &OffsetAsk, other: &OffsetAsk) -> bool {
    one.topic == other.topic
}

/// ListOffsets of some partitions; those of one topic are adjacent.
pub(super) fn list_offsets(head: Head<'_>, version: i16, asks: &[OffsetAsk], committed: bool) -> Option<Vec<u8>> {
    let topics = asks.chunk_by(is_of_one_topic).map(|asks| {
        let partition = |ask: &OffsetAsk| {
            let leader_epoch = if version >= OFFSETS_LEADER_EPOCH { ask.leader_epoch } else { -1 };
            ListOffsetsPartition::default()
                .with_partition_index(ask.partition)
                .with_timestamp(ask.at)
                .with_current_leader_epoch(leader_epoch)
        };
        ListOffsetsTopic::default()
            .with_name(name(&asks[0].topic))
            .with_partitions(asks.iter().map(partition).collect())
    });
    let isolation = i8::from(committed && version >= OFFSETS_ISOLATION);
    let body = ListOffsetsRequest::default()
        .with_replica_id((-1).into())
        .with_isolation_level(isolation)
        .with_topics(topics.collect());
    frame(head, Call::ListOffsets, version, &body)
}

/// OffsetForLeaderEpoch of some partitions; those of one topic are adjacent.
pub(super) fn epoch_ends(head: Head<'_>, version: i16, asks: &[OffsetAsk]) -> Option<Vec<u8>> {
    let topics = asks.chunk_by(is_of_one_topic).map(|asks| {
        let partition = |ask: &OffsetAsk| {
            OffsetForLeaderPartition::default()
                .with_partition(ask.partition)
                .with_current_leader_epoch(ask.leader_epoch)
                .with_leader_epoch(i32::try_from(ask.at).unwrap_or(i32::MAX))
        };
        OffsetForLeaderTopic::default()
            .with_topic(name(&asks[0].topic))
            .with_partitions(asks.iter().map(partition).collect())
    });
    let body = OffsetForLeaderEpochRequest::default().with_topics(topics.collect());
    // The replica id is a consumer's; v2 has no such field.
    let body = if version >= 3 { body.with_replica_id((-1).into()) } else { body };
    frame(head, Call::OffsetForLeaderEpoch, version, &body)
}
