//! Consumer groups of one member each, as the coordinator of [`super::broker::Broker`] has them: what the member says of itself, what it has committed, and an
//! error that it is answered with.

use std::collections::BTreeMap;

use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::delete_groups_response::DeletableGroupResult;
use kafka_protocol::messages::join_group_response::JoinGroupResponseMember;
use kafka_protocol::messages::leave_group_response::MemberResponse;
use kafka_protocol::messages::offset_commit_response::{OffsetCommitResponsePartition, OffsetCommitResponseTopic};
use kafka_protocol::messages::offset_fetch_response::{OffsetFetchResponsePartition, OffsetFetchResponseTopic};
use kafka_protocol::messages::{
    ApiKey, BrokerId, DeleteGroupsRequest, DeleteGroupsResponse, FindCoordinatorResponse, HeartbeatRequest,
    HeartbeatResponse, JoinGroupRequest, JoinGroupResponse, LeaveGroupRequest, LeaveGroupResponse, OffsetCommitRequest,
    OffsetCommitResponse, OffsetFetchRequest, OffsetFetchResponse, SyncGroupRequest, SyncGroupResponse,
};
use kafka_protocol::protocol::{Decodable, Encodable, StrBytes};

/// Requests of members, with the versions that are answered.
pub(super) const VERSIONS: [(ApiKey, i16, i16); 8] = [
    (ApiKey::FindCoordinator, 0, 2),
    (ApiKey::JoinGroup, 2, 5),
    (ApiKey::SyncGroup, 0, 3),
    (ApiKey::Heartbeat, 0, 3),
    (ApiKey::LeaveGroup, 0, 3),
    (ApiKey::OffsetFetch, 1, 5),
    (ApiKey::OffsetCommit, 2, 7),
    (ApiKey::DeleteGroups, 0, 1),
];

/// The groups.
#[derive(Clone, Debug, Default)]
pub(crate) struct Groups {
    /// Where each group is in a partition.
    pub(crate) committed: BTreeMap<(String, String, i32), i64>,
    /// The member of each group that has one.
    pub(crate) members: BTreeMap<String, i32>,
    /// Requests that are answered with an error code: of groups with this prefix.
    pub(crate) refuses: Vec<(ApiKey, &'static str, i16)>,
    /// Groups that were deleted.
    pub(crate) deleted: Vec<String>,
    generation: i32,
}

impl Groups {
    fn code(&self, key: ApiKey, group: &str) -> i16 {
        let refused = self.refuses.iter().find(|(of, prefix, _)| *of == key && group.starts_with(prefix));
        refused.map_or(0, |(.., code)| *code)
    }

    /// Carries a request out. `None`: it is none of a member.
    pub(super) fn answer(&mut self, key: ApiKey, bytes: &mut Bytes, version: i16, body: &mut BytesMut) -> Option<()> {
        match key {
            ApiKey::FindCoordinator => {
                let host = StrBytes::from_static_str("127.0.0.1");
                let answer = FindCoordinatorResponse::default().with_node_id(BrokerId(1)).with_host(host);
                answer.with_port(9092).encode(body, version)
            }
            ApiKey::JoinGroup => {
                self.join(&JoinGroupRequest::decode(bytes, version).expect("a join")).encode(body, version)
            }
            ApiKey::SyncGroup => {
                let asked = SyncGroupRequest::decode(bytes, version).expect("a sync");
                let own = asked.assignments.iter().find(|one| one.member_id == asked.member_id);
                let assignment = own.map(|own| own.assignment.clone()).unwrap_or_default();
                SyncGroupResponse::default().with_assignment(assignment).encode(body, version)
            }
            ApiKey::Heartbeat => {
                let asked = HeartbeatRequest::decode(bytes, version).expect("a heartbeat");
                let code = self.code(key, &asked.group_id.0);
                HeartbeatResponse::default().with_error_code(code).encode(body, version)
            }
            ApiKey::LeaveGroup => {
                let asked = LeaveGroupRequest::decode(bytes, version).expect("a leave");
                self.members.remove(asked.group_id.0.as_str());
                let member = |of: StrBytes| MemberResponse::default().with_member_id(of);
                let members = asked.members.into_iter().map(|of| member(of.member_id)).collect();
                LeaveGroupResponse::default().with_members(members).encode(body, version)
            }
            ApiKey::OffsetFetch => {
                self.fetch(&OffsetFetchRequest::decode(bytes, version).expect("a question")).encode(body, version)
            }
            ApiKey::OffsetCommit => {
                self.commit(&OffsetCommitRequest::decode(bytes, version).expect("a commit")).encode(body, version)
            }
            ApiKey::DeleteGroups => {
                let asked = DeleteGroupsRequest::decode(bytes, version).expect("an end");
                let results = asked.groups_names.into_iter().map(|group| {
                    let code = self.code(key, &group.0);
                    if code == 0 {
                        self.committed.retain(|(of, ..), _| *of != group.0.as_str());
                        self.deleted.push(group.0.to_string());
                    }
                    DeletableGroupResult::default().with_group_id(group).with_error_code(code)
                });
                DeleteGroupsResponse::default().with_results(results.collect()).encode(body, version)
            }
            _ => return None,
        }
        .expect("encoded");
        Some(())
    }

    fn join(&mut self, asked: &JoinGroupRequest) -> JoinGroupResponse {
        let group = asked.group_id.0.to_string();
        let code = self.code(ApiKey::JoinGroup, &group);
        if code != 0 {
            return JoinGroupResponse::default().with_error_code(code);
        }
        self.generation += 1;
        self.members.insert(group, self.generation);
        let id = StrBytes::from_static_str("member");
        let protocol = asked.protocols.first().expect("a protocol");
        let member = JoinGroupResponseMember::default().with_member_id(id.clone());
        JoinGroupResponse::default()
            .with_generation_id(self.generation)
            .with_protocol_name(Some(protocol.name.clone()))
            .with_leader(id.clone())
            .with_member_id(id)
            .with_members(vec![member.with_metadata(protocol.metadata.clone())])
    }

    fn fetch(&self, asked: &OffsetFetchRequest) -> OffsetFetchResponse {
        let group = asked.group_id.0.to_string();
        let code = self.code(ApiKey::OffsetFetch, &group);
        let topics = asked.topics.iter().flatten().map(|topic| {
            let partitions = topic.partition_indexes.iter().map(|index| {
                let known = self.committed.get(&(group.clone(), topic.name.to_string(), *index));
                let offset = known.copied().filter(|_| code == 0).unwrap_or(-1);
                let place = OffsetFetchResponsePartition::default().with_partition_index(*index);
                place.with_committed_offset(offset).with_error_code(code)
            });
            OffsetFetchResponseTopic::default().with_name(topic.name.clone()).with_partitions(partitions.collect())
        });
        OffsetFetchResponse::default().with_topics(topics.collect()).with_error_code(code)
    }

    fn commit(&mut self, asked: &OffsetCommitRequest) -> OffsetCommitResponse {
        let group = asked.group_id.0.to_string();
        let generation = asked.generation_id_or_member_epoch;
        let is_member = self.members.get(&group).is_none_or(|known| *known == generation);
        // ILLEGAL_GENERATION: the group has a member.
        let code = if is_member { self.code(ApiKey::OffsetCommit, &group) } else { 22 };
        let topics = asked.topics.iter().map(|topic| {
            let partitions = topic.partitions.iter().map(|place| {
                if code == 0 {
                    let at = (group.clone(), topic.name.to_string(), place.partition_index);
                    self.committed.insert(at, place.committed_offset);
                }
                let partition = OffsetCommitResponsePartition::default().with_partition_index(place.partition_index);
                partition.with_error_code(code)
            });
            let partitions = partitions.collect();
            OffsetCommitResponseTopic::default().with_name(topic.name.clone()).with_partitions(partitions)
        });
        OffsetCommitResponse::default().with_topics(topics.collect())
    }
}
