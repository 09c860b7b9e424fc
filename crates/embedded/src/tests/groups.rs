//! Consumer groups over the wire, and their offsets on disk.

use kafka_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use kafka_protocol::messages::offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use kafka_protocol::messages::offset_fetch_request::{
    OffsetFetchRequestGroup, OffsetFetchRequestTopic, OffsetFetchRequestTopics,
};
use kafka_protocol::messages::sync_group_request::SyncGroupRequestAssignment;
use kafka_protocol::messages::*;
use kafka_protocol::protocol::StrBytes;

use super::client::{Client, name};
use super::support::{log, settings};
use crate::EmbeddedLog;

fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

fn group(name: &str) -> GroupId {
    text(name).into()
}

pub(super) fn commit(client: &mut Client, of: &str, topic: &str, offset: i64, version: i16) -> i16 {
    commit_as(client, of, ("", -1), topic, offset, version)
}

fn commit_as(client: &mut Client, of: &str, by: (&str, i32), topic: &str, offset: i64, version: i16) -> i16 {
    let partition = OffsetCommitRequestPartition::default()
        .with_committed_offset(offset)
        .with_committed_metadata(Some(text("note")));
    let topic = OffsetCommitRequestTopic::default().with_name(name(topic)).with_partitions(vec![partition]);
    let request = OffsetCommitRequest::default()
        .with_group_id(group(of))
        .with_member_id(text(by.0))
        .with_generation_id_or_member_epoch(by.1)
        .with_topics(vec![topic]);
    client.call(&request, version).topics[0].partitions[0].error_code
}

/// Committed offset of partition 0, or -1; and all places of the group, as `(topic, partitions)`.
pub(super) fn committed(client: &mut Client, of: &str, topic: &str) -> i64 {
    let topic = OffsetFetchRequestTopic::default().with_name(name(topic)).with_partition_indexes(vec![0]);
    let request = OffsetFetchRequest::default().with_group_id(group(of)).with_topics(Some(vec![topic]));
    client.call(&request, 7).topics[0].partitions[0].committed_offset
}

fn describe(client: &mut Client, of: &str, version: i16) -> describe_groups_response::DescribedGroup {
    client.call(&DescribeGroupsRequest::default().with_groups(vec![group(of)]), version).groups.remove(0)
}

#[test]
fn a_member_joins_commits_and_leaves_in_every_version() {
    let (log, _dir) = log();
    let mut client = Client::connect(log.local_addr());
    client.metadata(&["t"]);
    for version in 0..=4 {
        let protocol = JoinGroupRequestProtocol::default().with_name(text("range")).with_metadata("data".into());
        let mut join = JoinGroupRequest::default()
            .with_group_id(group("g"))
            .with_session_timeout_ms(30_000)
            .with_protocol_type(text("consumer"))
            .with_protocols(vec![protocol]);
        if version >= 1 {
            join.rebalance_timeout_ms = 30_000;
        }
        let mut response = client.call(&join, version);
        if version == 4 {
            assert_eq!(response.error_code, 79);
            join.member_id = response.member_id;
            response = client.call(&join, version);
        }
        let (id, generation) = (response.member_id, response.generation_id);
        assert_eq!((response.error_code, response.members.len(), &response.leader), (0, 1, &id), "version {version}");
        assert!(id.starts_with("test-"), "{id}");
        let own = SyncGroupRequestAssignment::default().with_member_id(id.clone()).with_assignment("mine".into());
        let sync = SyncGroupRequest::default().with_group_id(group("g")).with_member_id(id.clone());
        let sync = sync.with_generation_id(generation).with_assignments(vec![own]);
        assert_eq!(&client.call(&sync, version.min(2)).assignment[..], b"mine");
        let beat = HeartbeatRequest::default().with_group_id(group("g")).with_member_id(id.clone());
        assert_eq!(client.call(&beat.clone().with_generation_id(generation), version.min(2)).error_code, 0);
        assert_eq!(client.call(&beat.with_generation_id(generation + 1), version.min(2)).error_code, 22);
        let described = describe(&mut client, "g", 5);
        assert_eq!((described.group_state.as_str(), described.protocol_data.as_str()), ("Stable", "range"));
        assert_eq!(
            (&described.members[0].client_id[..], &described.members[0].member_assignment[..]),
            ("test", &b"mine"[..])
        );
        assert_eq!(commit_as(&mut client, "g", (&id, generation), "t", 7, 6), 0);
        assert_eq!(commit_as(&mut client, "g", (&id, generation - 1), "t", 9, 6), 22);
        assert_eq!(commit(&mut client, "g", "t", 9, 6), 25);
        let delete = DeleteGroupsRequest::default().with_groups_names(vec![group("g")]);
        assert_eq!(client.call(&delete, 2).results[0].error_code, 68);
        let leave = LeaveGroupRequest::default().with_group_id(group("g")).with_member_id(id);
        assert_eq!(client.call(&leave, version.min(2)).error_code, 0);
        assert_eq!(committed(&mut client, "g", "t"), 7);
        assert_eq!(describe(&mut client, "g", version).group_state.as_str(), "Empty");
    }
    assert_eq!(describe(&mut client, "nobody", 5).group_state.as_str(), "Dead");
}

#[test]
fn offsets_outlive_a_sudden_end_and_a_torn_tail() {
    let (log, dir) = log();
    let mut log = Some(log);
    for version in 2..=6 {
        let running = log.take().unwrap();
        let mut client = Client::connect(running.local_addr());
        client.metadata(&["t", "u"]);
        assert_eq!(commit(&mut client, "g", "t", i64::from(version), version), 0);
        assert_eq!(commit(&mut client, "h", "u", 100, version), 0);
        assert_eq!(commit(&mut client, "g", "nope", 1, version), 3);
        drop(running);
        let path = dir.path().join("offsets.log");
        let mut bytes = std::fs::read(&path).unwrap();
        let torn = bytes[..20].to_vec();
        bytes.extend_from_slice(&torn);
        std::fs::write(&path, bytes).unwrap();
        let running = EmbeddedLog::start(settings(dir.path())).unwrap();
        let mut client = Client::connect(running.local_addr());
        assert_eq!((committed(&mut client, "g", "t"), committed(&mut client, "g", "u")), (i64::from(version), -1));
        assert_eq!(committed(&mut client, "h", "u"), 100);
        log = Some(running);
    }
    let mut client = Client::connect(log.as_ref().unwrap().local_addr());
    for version in 1..=9 {
        let (mut request, asked) = (OffsetFetchRequest::default(), vec![0]);
        if version < 8 {
            let topic = OffsetFetchRequestTopic::default().with_name(name("t")).with_partition_indexes(asked);
            request = request.with_group_id(group("g")).with_topics(Some(vec![topic]));
            assert_eq!(client.call(&request, version).topics[0].partitions[0].committed_offset, 6);
        } else {
            let topic = OffsetFetchRequestTopics::default().with_name(name("t")).with_partition_indexes(asked);
            let some = OffsetFetchRequestGroup::default().with_group_id(group("g"));
            let all = some.clone().with_topics(None);
            request = request.with_groups(vec![some.with_topics(Some(vec![topic])), all]);
            let response = client.call(&request, version);
            for found in &response.groups {
                let partition = &found.topics[0].partitions[0];
                assert_eq!((partition.committed_offset, partition.metadata.as_deref()), (6, Some("note")));
            }
        }
    }
}

#[test]
fn groups_are_listed_and_deleted_and_deleted_topics_take_their_offsets_along() {
    let (log, dir) = log();
    let mut client = Client::connect(log.local_addr());
    client.metadata(&["t", "u"]);
    for (of, topic) in [("g", "t"), ("g", "u"), ("h", "t")] {
        assert_eq!(commit(&mut client, of, topic, 3, 6), 0);
    }
    for version in 0..=5 {
        let listed = client.call(&ListGroupsRequest::default(), version).groups;
        assert_eq!(listed.iter().map(|group| group.group_id.as_str()).collect::<Vec<_>>(), ["g", "h"]);
    }
    let stable = ListGroupsRequest::default().with_states_filter(vec![text("Stable")]);
    assert_eq!(client.call(&stable, 5).groups.len(), 0);
    let delete = DeleteTopicsRequest::default().with_topic_names(vec![name("t")]);
    assert_eq!(client.call(&delete, 5).responses[0].error_code, 0);
    client.metadata(&["t"]);
    assert_eq!(
        (committed(&mut client, "g", "t"), committed(&mut client, "g", "u")),
        (-1, 3),
        "a new topic, a new start"
    );
    for version in 0..=2 {
        let delete = DeleteGroupsRequest::default().with_groups_names(vec![group("g"), group("nope")]);
        let codes: Vec<_> = client.call(&delete, version).results.iter().map(|result| result.error_code).collect();
        assert_eq!(codes, [0, 69]);
        assert_eq!(committed(&mut client, "g", "u"), -1);
        commit(&mut client, "g", "u", 3, 6);
    }
    assert_eq!(commit(&mut client, "g", "t", 5, 6), 0);
    drop(log);
    // The state after a crash between the deletion of a topic and that of its offsets.
    std::fs::rename(dir.path().join("topics/t.json"), dir.path().join("topics/t.deleted")).unwrap();
    let log = EmbeddedLog::start(settings(dir.path())).unwrap();
    let mut client = Client::connect(log.local_addr());
    client.metadata(&["t"]);
    assert_eq!((committed(&mut client, "g", "t"), committed(&mut client, "g", "u")), (-1, 3));
}

#[test]
fn the_file_of_offsets_is_written_anew_when_it_is_mostly_superseded() {
    use crate::disk::KernelDisk;
    use crate::groups::offsets::{Committed, Place, apply, open};
    let dir = tempfile::tempdir().unwrap();
    let (mut file, mut offsets, _) = open(&KernelDisk, dir.path()).unwrap();
    let length = || std::fs::metadata(dir.path().join("offsets.log")).unwrap().len();
    let change = |round: i64| -> Vec<_> {
        let place = |partition| Place { group: "g".into(), topic: "t".into(), partition };
        let committed = Committed { offset: round, leader_epoch: 0, metadata: "x".repeat(1_000) };
        (0..100).map(|partition| (place(partition), Some(committed.clone()))).collect()
    };
    for round in 0..20 {
        file.append(&KernelDisk, &change(round)).unwrap();
        apply(&mut offsets, change(round));
    }
    assert!(file.is_overgrown() && length() > 2_000_000);
    file.compact(&KernelDisk, &offsets).unwrap();
    assert!(!file.is_overgrown() && length() < 200_000);
    file.append(&KernelDisk, &change(20)[..1]).unwrap();
    apply(&mut offsets, change(20)[..1].to_vec());
    assert_eq!(open(&KernelDisk, dir.path()).unwrap().1, offsets);
}
