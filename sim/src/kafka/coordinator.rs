//! Requests of groups' members, and the broker that coordinates: the leader of the one partition of `__consumer_offsets`, so that the
//! coordinator moves as leaders do. A commit is durable once it is taken.

use std::collections::BTreeMap;

use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::find_coordinator_response::Coordinator;
use kafka_protocol::messages::join_group_response::JoinGroupResponseMember;
use kafka_protocol::messages::leave_group_response::MemberResponse;
use kafka_protocol::messages::offset_commit_response::{OffsetCommitResponsePartition, OffsetCommitResponseTopic};
use kafka_protocol::messages::offset_fetch_response::{
    OffsetFetchResponseGroup, OffsetFetchResponsePartition, OffsetFetchResponsePartitions, OffsetFetchResponseTopic,
    OffsetFetchResponseTopics,
};
use kafka_protocol::messages::{
    ApiKey, BrokerId, FindCoordinatorRequest, FindCoordinatorResponse, HeartbeatRequest, HeartbeatResponse,
    JoinGroupRequest, JoinGroupResponse, LeaveGroupRequest, LeaveGroupResponse, OffsetCommitRequest,
    OffsetCommitResponse, OffsetFetchRequest, OffsetFetchResponse, SyncGroupRequest, SyncGroupResponse, TopicName,
};
use kafka_protocol::protocol::{Decodable, Encodable, StrBytes};

use super::Cluster;
use super::front::{From, Reply, UNKNOWN_TOPIC, framed, response_header};
use super::groups::{Answer, By, Group, Join, MEMBER_ID_REQUIRED, NOT_COORDINATOR, Ticket};
use super::waiting::Waiting;
use crate::time::MS;

/// The topic of commits: the leader of its one partition coordinates all groups.
pub(crate) const OFFSETS_TOPIC: &str = "__consumer_offsets";
/// COORDINATOR_LOAD_IN_PROGRESS.
const LOADING: i16 = 14;
/// COORDINATOR_NOT_AVAILABLE.
const NOT_AVAILABLE: i16 = 15;

/// An accepted commit.
#[derive(Clone, Debug)]
pub(crate) struct Commit {
    /// The process that sent the commit.
    pub(crate) life: u32,
    pub(crate) topic: String,
    pub(crate) partition: i32,
    pub(crate) offset: i64,
    pub(crate) time: u64,
    /// Time at which a member of the group last joined.
    pub(crate) since: u64,
    /// Whether the commit came on a connection that its client had given up.
    pub(crate) late: bool,
}

/// All groups of a cluster.
#[derive(Debug, Default)]
pub(crate) struct Groups {
    pub(crate) by_name: BTreeMap<String, Group>,
    /// All accepted commits, in order.
    pub(crate) commits: Vec<Commit>,
    /// The leader epoch under which the groups were loaded.
    loaded: Option<i32>,
    loading_until: u64,
    answers: BTreeMap<Ticket, Answer>,
    next_ticket: Ticket,
    /// Time at which the cluster next looks at the groups.
    looks_at: Option<u64>,
}

/// A request that waits for other members.
#[derive(Debug)]
pub(crate) struct Held {
    ticket: Ticket,
    key: ApiKey,
    version: i16,
    correlation: i32,
}

fn text(text: &StrBytes) -> String {
    text.to_string()
}

fn bytes_of(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

impl Groups {
    /// Makes the next coordinator load the groups again.
    pub(super) fn reload(&mut self) {
        self.loaded = None;
    }

    fn run(&mut self, time: u64) {
        for group in self.by_name.values_mut() {
            group.run(time);
        }
        self.take_answers();
    }

    fn take_answers(&mut self) {
        for group in self.by_name.values_mut() {
            self.answers.extend(group.answers());
        }
    }
}

impl Cluster {
    /// Serves consumers from now on: groups are coordinated, and records can be read by consumers.
    pub(crate) fn serve_consumers(&mut self, with_sessions: bool, time: u64) {
        self.create(OFFSETS_TOPIC, 1, time);
        self.consumers = Some(Box::default());
        if let Some(consumers) = &mut self.consumers {
            consumers.fetching.are_offered = with_sessions;
        }
    }

    /// The groups, if the cluster serves consumers.
    pub(crate) fn groups(&self) -> Option<&Groups> {
        self.consumers.as_ref().map(|consumers| &consumers.groups)
    }

    /// A group, with the current partitions of its topics.
    pub(crate) fn group_mut(&mut self, name: &str, topics: &[String]) -> Option<&mut Group> {
        let counts = topics.iter().filter_map(|topic| {
            let count = self.topics.get(topic)?.partitions.len() as i32;
            Some((topic.clone(), count))
        });
        let counts = counts.collect();
        let group = self.consumers.as_mut()?.groups.by_name.entry(name.to_owned()).or_default();
        group.topics = counts;
        Some(group)
    }

    /// Lets time pass for groups, and then answers the requests that waited for them.
    pub(super) fn run_groups(&mut self, time: u64) {
        if let Some(consumers) = &mut self.consumers {
            consumers.groups.looks_at = None;
            consumers.groups.run(time);
        }
        self.look_at_groups(time);
    }

    /// Schedules a look at the groups for when one of them is due.
    pub(crate) fn look_at_groups(&mut self, time: u64) {
        let Some(groups) = self.consumers.as_mut().map(|consumers| &mut consumers.groups) else { return };
        let is_answered = groups.by_name.values().any(Group::has_answers);
        groups.take_answers();
        let due = groups.by_name.values().filter_map(Group::next_at).min();
        let due = if is_answered { Some(time + 1) } else { due.map(|due| due.max(time + 1)) };
        if let Some(due) = due.filter(|due| groups.looks_at.is_none_or(|at| *due < at)) {
            groups.looks_at = Some(due);
            self.later(due, super::Task::Groups);
        }
    }

    /// Whether a broker currently coordinates: 0, or an error code.
    fn coordinates(&mut self, from: From) -> i16 {
        let Some(partition) = self.topics.get(OFFSETS_TOPIC).and_then(|topic| topic.partitions.first()) else {
            return NOT_AVAILABLE;
        };
        if partition.leader != Some(from.node) {
            return NOT_COORDINATOR;
        }
        let epoch = partition.leader_epoch;
        let slow = self.rng.u64(..400 * MS);
        let Some(groups) = self.consumers.as_mut().map(|consumers| &mut consumers.groups) else { return NOT_AVAILABLE };
        if groups.loaded != Some(epoch) {
            let is_first = groups.loaded.replace(epoch).is_none() && epoch == 0;
            groups.loading_until = from.time + if is_first { 0 } else { slow };
            groups.by_name.values_mut().for_each(|group| group.taken_over(from.time));
            self.look_at_groups(from.time);
        }
        let groups = self.consumers.as_ref().map(|consumers| &consumers.groups);
        if groups.is_some_and(|groups| from.time < groups.loading_until) { LOADING } else { 0 }
    }

    /// Handles a request of a member.
    pub(super) fn of_member(
        &mut self,
        key: ApiKey,
        bytes: &mut Bytes,
        (version, correlation): (i16, i32),
        from: From,
    ) -> Reply {
        let mut body = response_header(correlation, key, version);
        let code = if key == ApiKey::FindCoordinator { 0 } else { self.coordinates(from) };
        match key {
            ApiKey::FindCoordinator => {
                let asked = FindCoordinatorRequest::decode(bytes, version).expect("a question");
                self.find_coordinator(&asked, version, from).encode(&mut body, version)
            }
            ApiKey::JoinGroup => {
                let asked = JoinGroupRequest::decode(bytes, version).expect("a join");
                return self.join_group(&asked, code, (version, correlation), from.time);
            }
            ApiKey::SyncGroup => {
                let asked = SyncGroupRequest::decode(bytes, version).expect("a sync");
                return self.sync_group(asked, code, (version, correlation), from.time);
            }
            ApiKey::Heartbeat => {
                let asked = HeartbeatRequest::decode(bytes, version).expect("a heartbeat");
                let by = by(&asked.member_id, asked.group_instance_id.as_ref(), asked.generation_id);
                let code = self.with_group(code, &asked.group_id.0, |group| group.heartbeat(&by, from.time));
                HeartbeatResponse::default().with_error_code(code).encode(&mut body, version)
            }
            ApiKey::LeaveGroup => {
                let asked = LeaveGroupRequest::decode(bytes, version).expect("a leave");
                self.leave_group(&asked, code, version, from.time).encode(&mut body, version)
            }
            ApiKey::OffsetFetch => {
                let asked = OffsetFetchRequest::decode(bytes, version).expect("a question");
                self.offset_fetch(&asked, code, version).encode(&mut body, version)
            }
            _ => {
                let asked = OffsetCommitRequest::decode(bytes, version).expect("a commit");
                self.offset_commit(&asked, code, from).encode(&mut body, version)
            }
        }
        .expect("encoded");
        self.look_at_groups(from.time);
        Reply::Bytes(framed(&body))
    }

    /// Does something with a group, unless the broker has an error code to answer. Returns 0, or the error code.
    fn with_group(&mut self, code: i16, name: &str, work: impl FnOnce(&mut Group) -> i16) -> i16 {
        if code != 0 {
            return code;
        }
        let group =
            self.consumers.as_mut().map(|consumers| consumers.groups.by_name.entry(name.to_owned()).or_default());
        group.map_or(NOT_AVAILABLE, work)
    }

    fn find_coordinator(&self, asked: &FindCoordinatorRequest, version: i16, from: From) -> FindCoordinatorResponse {
        let partition = self.topics.get(OFFSETS_TOPIC).and_then(|topic| topic.partitions.first());
        let leader = partition.and_then(|partition| {
            // Another broker may not yet know of the last move.
            let stale = partition.stale.filter(|(.., until)| *until > from.time && partition.leader != Some(from.node));
            stale.map_or(partition.leader, |(leader, ..)| leader)
        });
        let code = if leader.is_none() { NOT_AVAILABLE } else { 0 };
        let node = leader.unwrap_or(-1);
        let (host, port) = leader.map_or((StrBytes::default(), -1), |node| (bytes_of(&self.host), 9091 + node));
        if version < 4 {
            let answer = FindCoordinatorResponse::default().with_error_code(code).with_node_id(BrokerId(node));
            return answer.with_host(host).with_port(port);
        }
        let one = |key: &StrBytes| {
            let one = Coordinator::default().with_key(key.clone()).with_error_code(code).with_node_id(BrokerId(node));
            one.with_host(host.clone()).with_port(port)
        };
        FindCoordinatorResponse::default().with_coordinators(asked.coordinator_keys.iter().map(one).collect())
    }

    fn ticket(&mut self) -> Ticket {
        let groups = self.consumers.as_mut().map(|consumers| &mut consumers.groups);
        groups.map_or(0, |groups| {
            groups.next_ticket += 1;
            groups.next_ticket
        })
    }

    fn join_group(
        &mut self,
        asked: &JoinGroupRequest,
        code: i16,
        (version, correlation): (i16, i32),
        time: u64,
    ) -> Reply {
        let ticket = self.ticket();
        let of = |ms: i32| u64::from(ms.max(0).cast_unsigned()) * MS;
        let join = Join {
            member_id: text(&asked.member_id),
            instance: asked.group_instance_id.as_ref().map(text),
            patience: [of(asked.session_timeout_ms), of(asked.rebalance_timeout_ms)],
            metadata: asked.protocols.first().map(|protocol| protocol.metadata.clone()).unwrap_or_default(),
            protocol: [
                text(&asked.protocol_type),
                asked.protocols.first().map(|protocol| text(&protocol.name)).unwrap_or_default(),
            ],
            comes_again: version >= 4,
            can_skip: version >= 9,
        };
        let member_id = join.member_id.clone();
        let held = Held { ticket, key: ApiKey::JoinGroup, version, correlation };
        if code != 0 {
            return Reply::Bytes(held.encode(Answer::Join(Err((code, member_id)))));
        }
        self.with_group(0, &asked.group_id.0, |group| {
            group.join(join, ticket, time);
            0
        });
        self.answer_or_hold(held, time)
    }

    fn sync_group(
        &mut self,
        asked: SyncGroupRequest,
        code: i16,
        (version, correlation): (i16, i32),
        time: u64,
    ) -> Reply {
        let ticket = self.ticket();
        let held = Held { ticket, key: ApiKey::SyncGroup, version, correlation };
        if code != 0 {
            return Reply::Bytes(held.encode(Answer::Sync(Err(code))));
        }
        let by = by(&asked.member_id, asked.group_instance_id.as_ref(), asked.generation_id);
        let assignments = asked.assignments.into_iter().map(|one| (text(&one.member_id), one.assignment)).collect();
        self.with_group(0, &asked.group_id.0, |group| {
            group.sync(&by, assignments, ticket, time);
            0
        });
        self.answer_or_hold(held, time)
    }

    fn answer_or_hold(&mut self, held: Held, time: u64) -> Reply {
        self.look_at_groups(time);
        match self.answer_of(&held) {
            Some(bytes) => Reply::Bytes(bytes),
            None => Reply::Wait(Box::new(Waiting::Member(held))),
        }
    }

    /// The answer to a request that has waited for other members.
    pub(super) fn answer_of(&mut self, held: &Held) -> Option<Vec<u8>> {
        let answer = self.consumers.as_mut()?.groups.answers.remove(&held.ticket)?;
        Some(held.encode(answer))
    }

    fn leave_group(&mut self, asked: &LeaveGroupRequest, code: i16, version: i16, time: u64) -> LeaveGroupResponse {
        let name = &asked.group_id.0;
        if version < 3 {
            let id = text(&asked.member_id);
            let code = self.with_group(code, name, |group| group.leave(&id, time));
            return LeaveGroupResponse::default().with_error_code(code);
        }
        let members = asked.members.iter().map(|member| {
            let id = text(&member.member_id);
            let code = self.with_group(code, name, |group| match &member.group_instance_id {
                Some(instance) => group.leave_instance(&id, instance, time),
                None => group.leave(&id, time),
            });
            let answer = MemberResponse::default().with_member_id(member.member_id.clone()).with_error_code(code);
            answer.with_group_instance_id(member.group_instance_id.clone())
        });
        let members = members.collect();
        LeaveGroupResponse::default().with_error_code(code).with_members(members)
    }

    fn offset_fetch(&self, asked: &OffsetFetchRequest, code: i16, version: i16) -> OffsetFetchResponse {
        let known = |group: &str, topic: &TopicName, index: i32| {
            let group = self.groups().and_then(|groups| groups.by_name.get(group));
            let place = group.and_then(|group| group.offsets.get(&(topic.to_string(), index)));
            place.copied().filter(|_| code == 0).unwrap_or((-1, -1))
        };
        if version >= 8 {
            let groups = asked.groups.iter().map(|group| {
                let topics = group.topics.iter().flatten().map(|topic| {
                    let partitions = topic.partition_indexes.iter().map(|index| {
                        let (offset, epoch) = known(&group.group_id.0, &topic.name, *index);
                        OffsetFetchResponsePartitions::default()
                            .with_partition_index(*index)
                            .with_committed_offset(offset)
                            .with_committed_leader_epoch(epoch)
                    });
                    OffsetFetchResponseTopics::default()
                        .with_name(topic.name.clone())
                        .with_partitions(partitions.collect())
                });
                OffsetFetchResponseGroup::default()
                    .with_group_id(group.group_id.clone())
                    .with_error_code(code)
                    .with_topics(if code == 0 { topics.collect() } else { Vec::new() })
            });
            return OffsetFetchResponse::default().with_groups(groups.collect());
        }
        let topics = asked.topics.iter().flatten().map(|topic| {
            let partitions = topic.partition_indexes.iter().map(|index| {
                let (offset, epoch) = known(&asked.group_id.0, &topic.name, *index);
                let place = OffsetFetchResponsePartition::default().with_partition_index(*index).with_error_code(code);
                let place = place.with_committed_offset(offset);
                if version >= 5 { place.with_committed_leader_epoch(epoch) } else { place }
            });
            OffsetFetchResponseTopic::default().with_name(topic.name.clone()).with_partitions(partitions.collect())
        });
        let answer = OffsetFetchResponse::default().with_topics(topics.collect());
        if version >= 2 { answer.with_error_code(code) } else { answer }
    }

    fn offset_commit(&mut self, asked: &OffsetCommitRequest, code: i16, from: From) -> OffsetCommitResponse {
        let by = by(&asked.member_id, asked.group_instance_id.as_ref(), asked.generation_id_or_member_epoch);
        let name = text(&asked.group_id.0);
        let code = self.with_group(code, &name, |group| group.takes_commit(&by, from.time));
        let topics = asked.topics.iter().map(|topic| {
            let partitions = topic.partitions.iter().map(|place| {
                let (index, key) = (place.partition_index, topic.name.to_string());
                let is_there = self.topics.get(&key).is_some_and(|topic| topic.partitions.len() as i32 > index);
                let code = if code == 0 && !is_there { UNKNOWN_TOPIC } else { code };
                if let Some(groups) = self.consumers.as_mut().map(|consumers| &mut consumers.groups)
                    && code == 0
                {
                    let at = (place.committed_offset, place.committed_leader_epoch);
                    let group = groups.by_name.entry(name.clone()).or_default();
                    group.offsets.insert((key.clone(), index), at);
                    let since = group.joined_at;
                    groups.commits.push(Commit {
                        life: from.life,
                        topic: key,
                        partition: index,
                        offset: place.committed_offset,
                        time: from.time,
                        since,
                        late: from.late,
                    });
                }
                OffsetCommitResponsePartition::default().with_partition_index(index).with_error_code(code)
            });
            let partitions = partitions.collect();
            OffsetCommitResponseTopic::default().with_name(topic.name.clone()).with_partitions(partitions)
        });
        OffsetCommitResponse::default().with_topics(topics.collect())
    }
}

fn by(member_id: &StrBytes, instance: Option<&StrBytes>, generation: i32) -> By {
    By { member_id: text(member_id), instance: instance.map(text), generation }
}

impl Held {
    fn encode(&self, answer: Answer) -> Vec<u8> {
        let Self { key, version, correlation, .. } = *self;
        let mut body: BytesMut = response_header(correlation, key, version);
        match answer {
            Answer::Join(Ok(joined)) => {
                let member = |(id, instance, metadata): &(String, Option<String>, Bytes)| {
                    let member = JoinGroupResponseMember::default().with_member_id(bytes_of(id));
                    let member = member.with_metadata(metadata.clone());
                    if version >= 5 { member.with_group_instance_id(instance.as_deref().map(bytes_of)) } else { member }
                };
                let [protocol_type, protocol] = &joined.protocol;
                let answer = JoinGroupResponse::default()
                    .with_generation_id(joined.generation)
                    .with_protocol_name(Some(bytes_of(protocol)))
                    .with_leader(bytes_of(&joined.leader))
                    .with_member_id(bytes_of(&joined.member_id))
                    .with_members(joined.members.iter().map(member).collect());
                let answer =
                    if version >= 7 { answer.with_protocol_type(Some(bytes_of(protocol_type))) } else { answer };
                let answer = if version >= 9 { answer.with_skip_assignment(joined.skips) } else { answer };
                answer.encode(&mut body, version)
            }
            Answer::Join(Err((code, id))) => {
                debug_assert!(code != MEMBER_ID_REQUIRED || !id.is_empty(), "with the id that is required");
                let answer = JoinGroupResponse::default().with_error_code(code).with_generation_id(-1);
                // Versions before 7 have a name, which may be empty.
                let answer = answer.with_protocol_name((version < 7).then(StrBytes::default));
                answer.with_member_id(bytes_of(&id)).encode(&mut body, version)
            }
            Answer::Sync(result) => {
                let code = result.as_ref().err().copied().unwrap_or(0);
                let answer = SyncGroupResponse::default().with_error_code(code);
                answer.with_assignment(result.unwrap_or_default()).encode(&mut body, version)
            }
        }
        .expect("encoded");
        framed(&body)
    }
}
