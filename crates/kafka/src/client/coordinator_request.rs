//! The requests of a group's member, encoded by kafka-protocol into one frame each.

use std::time::Duration;

use bytes::Bytes;
use kafka_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use kafka_protocol::messages::leave_group_request::MemberIdentity;
use kafka_protocol::messages::offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use kafka_protocol::messages::offset_fetch_request::{
    OffsetFetchRequestGroup, OffsetFetchRequestTopic, OffsetFetchRequestTopics,
};
use kafka_protocol::messages::sync_group_request::SyncGroupRequestAssignment;
use kafka_protocol::messages::{
    DeleteGroupsRequest, FindCoordinatorRequest, GroupId, HeartbeatRequest, JoinGroupRequest, LeaveGroupRequest,
    OffsetCommitRequest, OffsetFetchRequest, SyncGroupRequest,
};
use kafka_protocol::protocol::StrBytes;

use super::api::Call;
use super::request::{self, Head, frame, name as topic_name};
use crate::coordination::{Ask, Given, Identity, Names, Offset, Request, TopicPartition};

/// The first version with static members: of JoinGroup; of Heartbeat, LeaveGroup and SyncGroup; of OffsetCommit.
pub(super) const STATIC_JOIN: i16 = 5;
const STATIC: i16 = 3;
const STATIC_COMMIT: i16 = 7;

/// The call of a request.
pub(super) const fn call(ask: &Ask) -> Call {
    match ask {
        Ask::Coordinator => Call::FindCoordinator,
        Ask::Join { .. } => Call::JoinGroup,
        Ask::Partitions(_) => Call::Metadata,
        Ask::Sync { .. } => Call::SyncGroup,
        Ask::Heartbeat => Call::Heartbeat,
        Ask::Offsets(_) => Call::OffsetFetch,
        Ask::Commit(_) => Call::OffsetCommit,
        Ask::Leave | Ask::Evict { .. } => Call::LeaveGroup,
        Ask::Delete => Call::DeleteGroups,
    }
}

/// The call's name, for messages.
pub(super) const fn name(call: Call) -> &'static str {
    match call {
        Call::FindCoordinator => "FindCoordinator",
        Call::JoinGroup => "JoinGroup",
        Call::SyncGroup => "SyncGroup",
        Call::Heartbeat => "Heartbeat",
        Call::OffsetFetch => "OffsetFetch",
        Call::OffsetCommit => "OffsetCommit",
        Call::LeaveGroup => "LeaveGroup",
        Call::DeleteGroups => "DeleteGroups",
        _ => "Metadata",
    }
}

/// How long the broker may wait for other members before it answers.
pub(super) const fn held(ask: &Ask) -> Duration {
    match ask {
        Ask::Join { rebalance_timeout, .. } | Ask::Sync { rebalance_timeout, .. } => *rebalance_timeout,
        _ => Duration::ZERO,
    }
}

/// A request as a frame. `None` if kafka-protocol will not encode it: a name is too long for the protocol.
pub(super) fn encode(head: Head<'_>, version: i16, request: &Request) -> Option<Vec<u8>> {
    let by = &request.identity;
    match &request.ask {
        Ask::Coordinator => coordinator(head, version, &by.group),
        Ask::Join { session_timeout, rebalance_timeout, names, metadata } => {
            join(head, version, by, [*session_timeout, *rebalance_timeout], (*names, metadata))
        }
        Ask::Partitions(topics) => request::metadata(head, version, topics, false),
        Ask::Sync { names, assignments, .. } => sync(head, version, by, (*names, assignments)),
        Ask::Heartbeat => {
            let body = HeartbeatRequest::default()
                .with_group_id(group(by))
                .with_generation_id(by.generation)
                .with_member_id(text(&by.member_id))
                .with_group_instance_id(instance(by, version >= STATIC));
            frame(head, Call::Heartbeat, version, &body)
        }
        Ask::Offsets(partitions) => offsets(head, version, by, partitions),
        Ask::Commit(places) => commit(head, version, by, places),
        Ask::Leave => leave(head, version, by, (&by.member_id, by.instance.as_deref())),
        Ask::Evict { member_id, instance } => leave(head, version, by, (member_id, Some(instance))),
        Ask::Delete => {
            let body = DeleteGroupsRequest::default().with_groups_names(vec![group(by)]);
            frame(head, Call::DeleteGroups, version, &body)
        }
    }
}

fn coordinator(head: Head<'_>, version: i16, group: &str) -> Option<Vec<u8>> {
    // Key type 0 is a group.
    let body = FindCoordinatorRequest::default();
    let body = if version >= 4 { body.with_coordinator_keys(vec![text(group)]) } else { body.with_key(text(group)) };
    frame(head, Call::FindCoordinator, version, &body)
}

fn join(
    head: Head<'_>,
    version: i16,
    by: &Identity,
    [session, rebalance]: [Duration; 2],
    (names, metadata): (Names, &[u8]),
) -> Option<Vec<u8>> {
    let body = JoinGroupRequest::default()
        .with_group_id(group(by))
        .with_session_timeout_ms(millis(session))
        .with_member_id(text(&by.member_id))
        .with_group_instance_id(instance(by, version >= STATIC_JOIN))
        .with_protocol_type(StrBytes::from_static_str(names.protocol_type))
        .with_protocols(vec![
            JoinGroupRequestProtocol::default()
                .with_name(StrBytes::from_static_str(names.protocol))
                .with_metadata(Bytes::copy_from_slice(metadata)),
        ]);
    // Version 0 waits for the session timeout.
    let body = if version >= 1 { body.with_rebalance_timeout_ms(millis(rebalance)) } else { body };
    frame(head, Call::JoinGroup, version, &body)
}

fn sync(head: Head<'_>, version: i16, by: &Identity, (names, assignments): (Names, &[Given])) -> Option<Vec<u8>> {
    let assigned = |(member, assignment): &Given| {
        let bytes = Bytes::copy_from_slice(assignment);
        SyncGroupRequestAssignment::default().with_member_id(text(member)).with_assignment(bytes)
    };
    let body = SyncGroupRequest::default()
        .with_group_id(group(by))
        .with_generation_id(by.generation)
        .with_member_id(text(&by.member_id))
        .with_group_instance_id(instance(by, version >= STATIC))
        .with_assignments(assignments.iter().map(assigned).collect());
    let body = if version >= 5 {
        body.with_protocol_type(Some(StrBytes::from_static_str(names.protocol_type)))
            .with_protocol_name(Some(StrBytes::from_static_str(names.protocol)))
    } else {
        body
    };
    frame(head, Call::SyncGroup, version, &body)
}

fn offsets(head: Head<'_>, version: i16, by: &Identity, partitions: &[TopicPartition]) -> Option<Vec<u8>> {
    let topics = partitions.chunk_by(|a, b| a.topic == b.topic);
    let topics = topics.filter_map(|of| {
        let indexes: Vec<i32> = of.iter().map(|at| at.partition).collect();
        Some((topic_name(&of.first()?.topic), indexes))
    });
    let body = if version >= 8 {
        let topics = topics
            .map(|(name, indexes)| OffsetFetchRequestTopics::default().with_name(name).with_partition_indexes(indexes));
        let asked = OffsetFetchRequestGroup::default().with_group_id(group(by)).with_topics(Some(topics.collect()));
        // A member of a classic group has no epoch.
        let asked = if version >= 9 { asked.with_member_id(None).with_member_epoch(-1) } else { asked };
        OffsetFetchRequest::default().with_groups(vec![asked])
    } else {
        let topics = topics
            .map(|(name, indexes)| OffsetFetchRequestTopic::default().with_name(name).with_partition_indexes(indexes));
        OffsetFetchRequest::default().with_group_id(group(by)).with_topics(Some(topics.collect()))
    };
    frame(head, Call::OffsetFetch, version, &body.with_require_stable(version >= 7))
}

fn commit(head: Head<'_>, version: i16, by: &Identity, places: &[Offset]) -> Option<Vec<u8>> {
    let place = |place: &Offset| {
        let partition = OffsetCommitRequestPartition::default()
            .with_partition_index(place.at.partition)
            .with_committed_offset(place.offset)
            .with_committed_metadata(Some(StrBytes::from_static_str("")));
        if version >= 6 { partition.with_committed_leader_epoch(place.leader_epoch) } else { partition }
    };
    let topics = places.chunk_by(|a, b| a.at.topic == b.at.topic).filter_map(|of| {
        let partitions = of.iter().map(place).collect();
        Some(
            OffsetCommitRequestTopic::default()
                .with_name(topic_name(&of.first()?.at.topic))
                .with_partitions(partitions),
        )
    });
    let body = OffsetCommitRequest::default()
        .with_group_id(group(by))
        .with_generation_id_or_member_epoch(by.generation)
        .with_member_id(text(&by.member_id))
        .with_group_instance_id(instance(by, version >= STATIC_COMMIT))
        .with_topics(topics.collect());
    frame(head, Call::OffsetCommit, version, &body)
}

/// LeaveGroup for this member id and, if the broker supports static members, instance id.
fn leave(head: Head<'_>, version: i16, by: &Identity, (who, instance): (&str, Option<&str>)) -> Option<Vec<u8>> {
    let body = LeaveGroupRequest::default().with_group_id(group(by));
    let body = if version >= STATIC {
        let member = MemberIdentity::default().with_member_id(text(who)).with_group_instance_id(instance.map(text));
        body.with_members(vec![member])
    } else {
        body.with_member_id(text(who))
    };
    frame(head, Call::LeaveGroup, version, &body)
}

fn group(by: &Identity) -> GroupId {
    GroupId(text(&by.group))
}

fn instance(by: &Identity, is_known: bool) -> Option<StrBytes> {
    by.instance.as_deref().filter(|_| is_known).map(text)
}

fn text(text: &str) -> StrBytes {
    StrBytes::from(text.to_owned())
}

fn millis(time: Duration) -> i32 {
    i32::try_from(time.as_millis()).unwrap_or(i32::MAX)
}
