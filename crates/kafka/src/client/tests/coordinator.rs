//! Tests of the requests and answers of a group's members, in each version, against kafka-protocol; and of a member's connection.

use std::rc::Rc;
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use kafka_protocol::messages::delete_groups_response::DeletableGroupResult;
use kafka_protocol::messages::find_coordinator_response::Coordinator;
use kafka_protocol::messages::join_group_response::JoinGroupResponseMember;
use kafka_protocol::messages::leave_group_response::MemberResponse;
use kafka_protocol::messages::offset_commit_response::{OffsetCommitResponsePartition, OffsetCommitResponseTopic};
use kafka_protocol::messages::offset_fetch_response::{
    OffsetFetchResponseGroup, OffsetFetchResponsePartition, OffsetFetchResponsePartitions, OffsetFetchResponseTopic,
    OffsetFetchResponseTopics,
};
use kafka_protocol::messages::{
    DeleteGroupsRequest, DeleteGroupsResponse, FindCoordinatorRequest, FindCoordinatorResponse, GroupId,
    HeartbeatRequest, HeartbeatResponse, JoinGroupRequest, JoinGroupResponse, LeaveGroupRequest, LeaveGroupResponse,
    OffsetCommitRequest, OffsetCommitResponse, OffsetFetchRequest, OffsetFetchResponse, RequestHeader,
    SyncGroupRequest, SyncGroupResponse, TopicName,
};
use kafka_protocol::protocol::{Decodable, Encodable, StrBytes};

use super::world::{World, name, world};
use crate::client::coordinator_answer::{self, Told};
use crate::client::coordinator_request;
use crate::client::request::Head;
use crate::client::wire::{Malformed, Reader};
use crate::coordination::{
    Ask, Committed, GroupMember, Identity, Joined, Names, Offset, Request, Says, TopicPartition,
};
use crate::fake::{Fault, Mode};
use crate::types::ClientEvent;
use forebay_guard::outward::Endpoint;
use kafka_protocol::messages::ApiKey;

fn text(text: &str) -> StrBytes {
    StrBytes::from(text.to_owned())
}

fn asked(ask: Ask) -> Request {
    let (group, member_id, instance) = (name("g"), name("m"), Some(name("one")));
    Request { member: 4, token: 9, identity: Identity { group, member_id, instance, generation: 7 }, ask }
}

fn at(topic: &str, partition: i32) -> TopicPartition {
    TopicPartition { topic: name(topic), partition }
}

const NAMES: Names = Names { protocol_type: "kind", protocol: "way" };

fn join() -> Ask {
    let (session_timeout, rebalance_timeout) = (Duration::from_secs(45), Duration::from_secs(60));
    Ask::Join { session_timeout, rebalance_timeout, names: NAMES, metadata: Rc::from(&b"of m"[..]) }
}

fn sync() -> Ask {
    let assignments = Rc::from([(name("m"), Rc::from(&b"for m"[..])), (name("n"), Rc::from(&b""[..]))]);
    Ask::Sync { names: NAMES, assignments, rebalance_timeout: Duration::from_secs(60) }
}

fn commits() -> Vec<Offset> {
    let place = |(at, offset)| Offset { at, offset, leader_epoch: 3 };
    [(at("t", 0), 10), (at("t", 2), 20), (at("u", 0), 0)].map(place).to_vec()
}

/// A request, as kafka-protocol decodes it.
fn sent<B: Decodable>(ask: Ask, version: i16) -> B {
    let call = coordinator_request::call(&ask);
    let head = Head { correlation: 11, client_id: "us" };
    let frame = coordinator_request::encode(head, version, &asked(ask)).expect("a frame");
    let mut bytes = Bytes::from(frame);
    assert_eq!(bytes.get_u32() as usize, bytes.len());
    let key = ApiKey::try_from(call.key()).expect("a key");
    let header = RequestHeader::decode(&mut bytes, key.request_header_version(version)).expect("a header");
    assert_eq!((header.request_api_key, header.request_api_version), (call.key(), version));
    let body = B::decode(&mut bytes, version).expect("a body");
    assert!(bytes.is_empty(), "{call:?} v{version}");
    body
}

#[test]
fn requests_of_every_version() {
    for version in 0..=6 {
        let request: FindCoordinatorRequest = sent(Ask::Coordinator, version);
        let key = request.coordinator_keys.first().unwrap_or(&request.key);
        assert_eq!((&**key, request.key_type), ("g", 0));
    }
    for version in 0..=9 {
        let request: JoinGroupRequest = sent(join(), version);
        assert_eq!((&**request.group_id, &*request.member_id, &*request.protocol_type), ("g", "m", "kind"));
        let rebalance = if version == 0 { -1 } else { 60_000 };
        assert_eq!((request.session_timeout_ms, request.rebalance_timeout_ms), (45_000, rebalance));
        assert_eq!(request.group_instance_id.is_some(), version >= 5);
        let [protocol] = &request.protocols[..] else { panic!("one assignor") };
        assert_eq!((&*protocol.name, &protocol.metadata[..]), ("way", &b"of m"[..]));
    }
    for version in 0..=5 {
        let request: SyncGroupRequest = sent(sync(), version);
        assert_eq!((request.generation_id, &*request.member_id), (7, "m"));
        assert_eq!(request.group_instance_id.is_some(), version >= 3);
        assert_eq!(request.protocol_name.as_deref(), (version >= 5).then_some("way"));
        let of = |i: usize| (request.assignments[i].member_id.to_string(), request.assignments[i].assignment.to_vec());
        assert_eq!((of(0), of(1)), (("m".to_owned(), b"for m".to_vec()), ("n".to_owned(), vec![])));
    }
    for version in 0..=4 {
        let request: HeartbeatRequest = sent(Ask::Heartbeat, version);
        assert_eq!((request.generation_id, request.group_instance_id.is_some()), (7, version >= 3));
    }
    for version in 0..=5 {
        let request: LeaveGroupRequest = sent(Ask::Leave, version);
        let of = request.members.first().map_or(&request.member_id, |member| &member.member_id);
        assert_eq!(&**of, "m");
        assert_eq!(request.members.iter().any(|member| member.group_instance_id.is_some()), version >= 3);
        let request: LeaveGroupRequest = sent(Ask::Evict { member_id: name("n"), instance: name("two") }, version);
        let of = request.members.first().map_or(&request.member_id, |member| &member.member_id);
        assert_eq!(&**of, "n", "another one, not the one that asks");
        let instances: Vec<_> =
            request.members.iter().filter_map(|member| member.group_instance_id.as_deref()).collect();
        assert_eq!(instances, if version >= 3 { vec!["two"] } else { vec![] });
    }
    for version in 0..=2 {
        let request: DeleteGroupsRequest = sent(Ask::Delete, version);
        assert_eq!(request.groups_names.len(), 1);
    }
    for version in 1..=9 {
        let partitions: Rc<[_]> = Rc::from([at("t", 0), at("t", 2), at("u", 0)]);
        let request: OffsetFetchRequest = sent(Ask::Offsets(partitions), version);
        assert_eq!(request.require_stable, version >= 7);
        let topics: Vec<(String, Vec<i32>)> = if version >= 8 {
            assert_eq!((request.groups[0].member_epoch, &request.groups[0].member_id), (-1, &None));
            let topics = request.groups[0].topics.iter().flatten();
            topics.map(|of| (of.name.0.to_string(), of.partition_indexes.clone())).collect()
        } else {
            request.topics.iter().flatten().map(|of| (of.name.0.to_string(), of.partition_indexes.clone())).collect()
        };
        assert_eq!(topics, [("t".to_owned(), vec![0, 2]), ("u".to_owned(), vec![0])]);
    }
    for version in 2..=9 {
        let request: OffsetCommitRequest = sent(Ask::Commit(commits()), version);
        assert_eq!((request.generation_id_or_member_epoch, request.retention_time_ms), (7, -1));
        assert_eq!(request.group_instance_id.is_some(), version >= 7);
        let places = request.topics.iter().flat_map(|of| of.partitions.iter().map(move |at| (&**of.name, at)));
        let places: Vec<_> = places.map(|(topic, at)| (topic, at.partition_index, at.committed_offset)).collect();
        assert_eq!(places, [("t", 0, 10), ("t", 2, 20), ("u", 0, 0)]);
        let epoch = if version >= 6 { 3 } else { -1 };
        assert_eq!(request.topics[0].partitions[0].committed_leader_epoch, epoch);
    }
}

/// Reads an answer encoded by kafka-protocol; every shorter one must be malformed, and none may panic.
fn read<B: Encodable>(ask: Ask, version: i16, body: &B) -> Result<Told, Malformed> {
    let mut bytes = BytesMut::new();
    body.encode(&mut bytes, version).expect("an answer");
    let flexible = coordinator_request::call(&ask).is_flexible(version);
    let request = asked(ask);
    for end in 0..bytes.len() {
        let cut = coordinator_answer::read(&mut Reader::new(&bytes[..end], flexible), version, &request);
        assert!(cut.is_err(), "v{version} cut at {end} of {}", bytes.len());
    }
    for i in 0..bytes.len() {
        for wrong in [0, 1, 0x7f, 0x80, 0xff] {
            let mut bytes = bytes.to_vec();
            bytes[i] = wrong;
            let _ = coordinator_answer::read(&mut Reader::new(&bytes, flexible), version, &request);
        }
    }
    let mut reader = Reader::new(&bytes, flexible);
    let told = coordinator_answer::read(&mut reader, version, &request)?;
    assert_eq!(reader.extra(), 0, "v{version}");
    Ok(told)
}

fn says<B: Encodable>(ask: Ask, version: i16, body: &B) -> Says {
    read(ask, version, body).expect("an answer that can be read").says
}

#[test]
fn coordinators_of_every_version() {
    for version in 0..=6 {
        for (error, host, expected) in
            [(0, "kafka", Ok(Endpoint { host: name("kafka"), port: 9092 })), (15, "", Err(15))]
        {
            let port = if error == 0 { 9092 } else { -1 };
            let body = FindCoordinatorResponse::default();
            let body = if version >= 4 {
                let coordinator =
                    Coordinator::default().with_key(text("g")).with_node_id(1.into()).with_host(text(host));
                body.with_coordinators(vec![coordinator.with_port(port).with_error_code(error)])
            } else {
                body.with_error_code(error).with_node_id(1.into()).with_host(text(host)).with_port(port)
            };
            let told = read(Ask::Coordinator, version, &body).expect("an answer");
            let says = if error == 0 { Says::Coordinator } else { Says::Refused(error) };
            assert_eq!((told.says, told.coordinator), (says, expected.ok()));
        }
        let nowhere = FindCoordinatorResponse::default();
        assert!(read(Ask::Coordinator, version, &nowhere).is_err(), "no error, and no address");
    }
}

#[test]
fn joins_of_every_version() {
    for version in 0..=9 {
        let member = |id: &str, metadata: Bytes| {
            let member = JoinGroupResponseMember::default().with_member_id(text(id)).with_metadata(metadata);
            if version >= 5 && id == "a" { member.with_group_instance_id(Some(text("one"))) } else { member }
        };
        let members = ["a", "b"].map(|id| member(id, Bytes::from(format!("of {id}")))).to_vec();
        let body = JoinGroupResponse::default()
            .with_generation_id(7)
            .with_protocol_name(Some(text("range")))
            .with_leader(text("a"))
            .with_member_id(text("b"))
            .with_members(members);
        let body = if version >= 7 { body.with_protocol_type(Some(text("consumer"))) } else { body };
        let body = if version >= 9 { body.with_skip_assignment(true) } else { body };
        let member = |id: &str| GroupMember {
            id: name(id),
            instance: (version >= 5 && id == "a").then(|| name("one")),
            metadata: Rc::from(format!("of {id}").into_bytes()),
        };
        let members = ["a", "b"].map(member).to_vec();
        let (protocol, leader, member_id) = (name("range"), name("a"), name("b"));
        let (skip_assignment, knows_static) = (version >= 9, version >= 5);
        let joined = Joined { generation: 7, protocol, leader, member_id, skip_assignment, knows_static, members };
        assert_eq!(says(join(), version, &body), Says::Joined(joined), "v{version}");

        let refused = JoinGroupResponse::default().with_protocol_name(Some(text(""))).with_generation_id(-1);
        assert_eq!(says(join(), version, &refused.clone().with_error_code(25)), Says::Refused(25));
        let required = refused.clone().with_error_code(79).with_member_id(text("new"));
        assert_eq!(says(join(), version, &required), Says::MemberId(name("new")));
        assert!(read(join(), version, &refused).is_err(), "no error, and no member id");
        let crowd = (0..10_001).map(|_| JoinGroupResponseMember::default()).collect();
        let mut bytes = BytesMut::new();
        body.with_members(crowd).encode(&mut bytes, version).expect("an answer");
        let reader = &mut Reader::new(&bytes, version >= 6);
        assert!(coordinator_answer::read(reader, version, &asked(join())).is_err(), "too many");
    }
}

#[test]
fn assignments_of_every_version() {
    for version in 0..=5 {
        let body = SyncGroupResponse::default().with_assignment(Bytes::from_static(b"for m"));
        assert_eq!(says(sync(), version, &body), Says::Assignment(Rc::from(&b"for m"[..])));
        let empty = SyncGroupResponse::default();
        assert_eq!(says(sync(), version, &empty), Says::Assignment(Rc::from([])), "the leader gave nothing");
        assert_eq!(says(sync(), version, &empty.with_error_code(27)), Says::Refused(27));
    }
}

#[test]
fn other_answers_of_every_version() {
    for version in 0..=4 {
        let body = HeartbeatResponse::default();
        assert_eq!(says(Ask::Heartbeat, version, &body), Says::Alive);
        assert_eq!(says(Ask::Heartbeat, version, &body.with_error_code(27)), Says::Refused(27));
    }
    for version in 0..=5 {
        let body = LeaveGroupResponse::default();
        assert_eq!(says(Ask::Leave, version, &body), Says::Left);
        assert_eq!(says(Ask::Leave, version, &body.clone().with_error_code(16)), Says::Refused(16));
        if version >= 3 {
            let body = body.with_members(vec![MemberResponse::default().with_error_code(25)]);
            assert_eq!(says(Ask::Leave, version, &body), Says::Refused(25));
        }
    }
    let partitions: Rc<[_]> = Rc::from([at("t", 0), at("t", 2), at("u", 0)]);
    let places = [("u", vec![(0, -1, 0)]), ("t", vec![(2, 20, 0), (1, 5, 0), (0, -1, 88)]), ("v", vec![(0, 1, 0)])];
    for version in 1..=9 {
        let fetched = |error: i16| {
            if version >= 8 {
                let topic = |(topic, of): &(&str, Vec<(i32, i64, i16)>)| {
                    let partition = |(index, offset, code): &(i32, i64, i16)| {
                        OffsetFetchResponsePartitions::default()
                            .with_partition_index(*index)
                            .with_committed_offset(*offset)
                            .with_committed_leader_epoch(3)
                            .with_metadata(Some(text("x")))
                            .with_error_code(*code)
                    };
                    let of = of.iter().map(partition).collect();
                    OffsetFetchResponseTopics::default().with_name(TopicName(text(topic))).with_partitions(of)
                };
                let group =
                    OffsetFetchResponseGroup::default().with_group_id(GroupId(text("g"))).with_error_code(error);
                OffsetFetchResponse::default().with_groups(vec![group.with_topics(places.iter().map(topic).collect())])
            } else {
                let topic = |(topic, of): &(&str, Vec<(i32, i64, i16)>)| {
                    let partition = |(index, offset, code): &(i32, i64, i16)| {
                        let partition = OffsetFetchResponsePartition::default()
                            .with_partition_index(*index)
                            .with_committed_offset(*offset)
                            .with_metadata(Some(text("x")))
                            .with_error_code(*code);
                        if version >= 5 { partition.with_committed_leader_epoch(3) } else { partition }
                    };
                    let of = of.iter().map(partition).collect();
                    OffsetFetchResponseTopic::default().with_name(TopicName(text(topic))).with_partitions(of)
                };
                let body = OffsetFetchResponse::default().with_topics(places.iter().map(topic).collect());
                if version >= 2 { body.with_error_code(error) } else { body }
            }
        };
        let epoch = if version >= 5 { 3 } else { -1 };
        let expected = vec![Err(88), Ok(Some(Committed { offset: 20, leader_epoch: epoch })), Ok(None)];
        let ask = || Ask::Offsets(Rc::clone(&partitions));
        assert_eq!(says(ask(), version, &fetched(0)), Says::Offsets(expected), "v{version}");
        if version >= 2 {
            assert_eq!(says(ask(), version, &fetched(30)), Says::Refused(30), "v{version}");
        }
        let more: Rc<[_]> = Rc::from([at("t", 0), at("t", 2), at("u", 0), at("u", 1)]);
        assert!(read(Ask::Offsets(more), version, &fetched(0)).is_err(), "a partition without an answer");
    }
    for version in 2..=9 {
        let topic = |(topic, of): &(&str, Vec<(i32, i64, i16)>)| {
            let partition = |(index, _, code): &(i32, i64, i16)| {
                OffsetCommitResponsePartition::default().with_partition_index(*index).with_error_code(*code)
            };
            let of = of.iter().map(partition).collect();
            OffsetCommitResponseTopic::default().with_name(TopicName(text(topic))).with_partitions(of)
        };
        let body = OffsetCommitResponse::default().with_topics(places.iter().map(topic).collect());
        assert_eq!(says(Ask::Commit(commits()), version, &body), Says::Committed(vec![88, 0, 0]), "v{version}");
    }
}

#[test]
fn deletions_of_every_version() {
    for version in 0..=2 {
        let of = |error| DeletableGroupResult::default().with_group_id(GroupId(text("g"))).with_error_code(error);
        let body = |error| DeleteGroupsResponse::default().with_results(vec![of(error)]);
        assert_eq!(says(Ask::Delete, version, &body(0)), Says::Deleted);
        assert_eq!(says(Ask::Delete, version, &body(68)), Says::Refused(68), "it has members");
    }
}

/// The answers to member 4, by token.
fn told(world: &mut World) -> Vec<(u64, Says)> {
    let mine = |event| match event {
        ClientEvent::Member(answer) => Some((answer.token, answer.says)),
        _ => None,
    };
    world.take_events().into_iter().filter_map(mine).collect()
}

fn ask(world: &mut World, token: u64, ask: Ask) {
    world.client.ask_coordinator(Request { token, ..asked(ask) }, world.now);
    world.settle();
}

/// A world in which broker 2 coordinates the group of member 4.
fn found() -> World {
    let mut world = world().up();
    world.cluster.coordinator = Some(2);
    ask(&mut world, 1, Ask::Coordinator);
    assert_eq!(told(&mut world), [(1, Says::Coordinator)]);
    world
}

/// The calls of groups that each node received, in order.
fn seen(world: &World) -> Vec<i16> {
    world.asked.iter().map(|(_, key)| *key).filter(|key| (8..=14).contains(key)).collect()
}

#[test]
fn a_member_has_a_connection_of_its_own_to_its_coordinator() {
    let mut world = found();
    let before = world.connects().len();
    ask(&mut world, 2, Ask::Heartbeat);
    ask(&mut world, 3, Ask::Commit(commits()));
    ask(&mut world, 4, Ask::Partitions(Rc::from([name("a"), name("zz")])));
    let counts = Says::Partitions(vec![Ok(2), Err(3)]);
    assert_eq!(told(&mut world), [(2, Says::Alive), (3, Says::Committed(vec![0; 3])), (4, counts)]);
    let made: Vec<String> = world.connects()[before..].iter().map(|(_, to)| to.to_string()).collect();
    assert_eq!(made, ["10.0.0.2:9092"], "one");
    // Only JoinGroup waits for the other members: metadata and Produce continue.
    world.cluster.broker(2).faults.push((ApiKey::JoinGroup, Fault::Silence));
    ask(&mut world, 5, join());
    world.produce(super::world::request(1, 2, &[("a", 1)]));
    assert!(world.take_events().iter().any(|event| matches!(event, ClientEvent::Produced { id: 1, .. })));
    // LeaveGroup does not wait for it.
    ask(&mut world, 6, Ask::Leave);
    assert_eq!(told(&mut world), [(5, Says::NoAnswer), (6, Says::Left)]);
    world.client.end_member(4, world.now);
    world.settle();
    ask(&mut world, 7, Ask::Heartbeat);
    assert_eq!(told(&mut world), [(7, Says::NoAnswer)], "its coordinator is forgotten with it");
    assert_eq!(seen(&world), [10, 12, 8, 11, 13]);
}

#[test]
fn every_request_is_answered_once_whatever_happens() {
    // No coordinator.
    let mut world = world().up();
    ask(&mut world, 1, Ask::Heartbeat);
    assert_eq!(told(&mut world), [(1, Says::NoAnswer)]);
    world.cluster.coordinator = Some(2);
    world.cluster.broker(1).faults.push((ApiKey::FindCoordinator, Fault::Error(15)));
    ask(&mut world, 2, Ask::Coordinator);
    assert_eq!(told(&mut world), [(2, Says::Refused(15))]);
    // The asked broker goes away: another one is asked.
    world.cluster.broker(1).faults.push((ApiKey::FindCoordinator, Fault::Close(false)));
    ask(&mut world, 3, Ask::Coordinator);
    world.run(Duration::from_secs(5));
    assert_eq!(told(&mut world), [(3, Says::Coordinator)]);
    // The coordinator closes the connection, never answers, or sends another answer.
    let silence = (Fault::Silence, Duration::from_secs(3));
    for (token, (fault, time)) in
        (4..).zip([(Fault::Close(true), Duration::ZERO), silence, (Fault::Bytes(vec![0, 0, 0, 1, 9]), Duration::ZERO)])
    {
        world.cluster.broker(2).faults.push((ApiKey::Heartbeat, fault));
        ask(&mut world, token, Ask::Heartbeat);
        world.run(time);
        assert_eq!(told(&mut world), [(token, Says::NoAnswer)]);
        world.run(Duration::from_secs(2));
    }
    // The coordinator cannot be reached: the request fails with the attempt, and a later one is tried.
    world.cut(2);
    world.cluster.broker(2).mode = Mode::Refuse;
    ask(&mut world, 10, Ask::Heartbeat);
    world.run(Duration::from_secs(2));
    assert_eq!(told(&mut world), [(10, Says::NoAnswer)]);
    world.cluster.broker(2).mode = Mode::Serve;
    ask(&mut world, 11, Ask::Heartbeat);
    world.run(Duration::from_secs(2));
    assert_eq!(told(&mut world), [(11, Says::Alive)]);
    // Another broker coordinates now: requests to the old one get no answer.
    world.cluster.broker(2).faults.push((ApiKey::Heartbeat, Fault::Silence));
    ask(&mut world, 12, Ask::Heartbeat);
    world.cluster.coordinator = Some(1);
    ask(&mut world, 13, Ask::Coordinator);
    assert_eq!(told(&mut world), [(12, Says::NoAnswer), (13, Says::Coordinator)]);
    world.cluster.broker(2).mode = Mode::Refuse;
    ask(&mut world, 14, Ask::Heartbeat);
    assert_eq!(told(&mut world), [(14, Says::Alive)]);
    // More requests than a member makes at once.
    world.cluster.broker(1).faults.push((ApiKey::Heartbeat, Fault::Silence));
    (0..40).for_each(|n| ask(&mut world, 100 + n, Ask::Heartbeat));
    assert!(told(&mut world).iter().all(|(_, says)| *says == Says::NoAnswer));
    // A broker that does not support groups.
    let mut world = self::world();
    world.cluster.broker(1).speaks.retain(|key, _| !(8..=14).contains(key));
    let mut world = world.up();
    ask(&mut world, 1, Ask::Coordinator);
    assert_eq!(told(&mut world), [(1, Says::NotSpoken("FindCoordinator"))]);
}

#[test]
fn a_join_is_given_the_time_of_a_rebalance() {
    let mut world = found();
    world.cluster.broker(2).faults.push((ApiKey::JoinGroup, Fault::Silence));
    ask(&mut world, 2, join());
    world.run(Duration::from_secs(60));
    assert_eq!(told(&mut world), [], "others may take that long");
    world.run(Duration::from_secs(10));
    assert_eq!(told(&mut world), [(2, Says::NoAnswer)]);
}
