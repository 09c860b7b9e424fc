//! Groups of the scripted cluster: one member, which is granted everything.

use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::find_coordinator_response::Coordinator;
use kafka_protocol::messages::offset_commit_response::{OffsetCommitResponsePartition, OffsetCommitResponseTopic};
use kafka_protocol::messages::{
    ApiKey, BrokerId, FindCoordinatorRequest, FindCoordinatorResponse, HeartbeatRequest, HeartbeatResponse,
    JoinGroupRequest, JoinGroupResponse, LeaveGroupRequest, LeaveGroupResponse, OffsetCommitRequest,
    OffsetCommitResponse,
};
use kafka_protocol::protocol::{Decodable, StrBytes};

use super::{FakeCluster, encoded};

impl FakeCluster {
    /// Answers a call of a group's member.
    pub(super) fn group(
        &mut self,
        node: i32,
        (key, version): (ApiKey, i16),
        bytes: &mut Bytes,
        error: i16,
    ) -> Option<(BytesMut, i16)> {
        self.must_speak(node, key as i16, version);
        let body = match key {
            ApiKey::FindCoordinator => {
                let request = FindCoordinatorRequest::decode(bytes, version).expect("FindCoordinator");
                let at = self.coordinator.expect("a coordinator");
                let broker = self.broker(at);
                let coordinator = Coordinator::default()
                    .with_key(request.coordinator_keys[0].clone())
                    .with_node_id(BrokerId(at))
                    .with_host(StrBytes::from(broker.host.clone()))
                    .with_port(i32::from(broker.address.port()))
                    .with_error_code(error);
                encoded(&FindCoordinatorResponse::default().with_coordinators(vec![coordinator]), version)
            }
            ApiKey::JoinGroup => {
                let request = JoinGroupRequest::decode(bytes, version).expect("JoinGroup");
                let body = JoinGroupResponse::default().with_generation_id(1).with_member_id(request.member_id);
                let body = body.with_protocol_name(Some(request.protocols[0].name.clone())).with_error_code(error);
                encoded(&body, version)
            }
            ApiKey::Heartbeat => {
                HeartbeatRequest::decode(bytes, version).expect("Heartbeat");
                encoded(&HeartbeatResponse::default().with_error_code(error), version)
            }
            ApiKey::LeaveGroup => {
                LeaveGroupRequest::decode(bytes, version).expect("LeaveGroup");
                encoded(&LeaveGroupResponse::default().with_error_code(error), version)
            }
            ApiKey::OffsetCommit => {
                let request = OffsetCommitRequest::decode(bytes, version).expect("OffsetCommit");
                let topics = request.topics.into_iter().map(|topic| {
                    let partition = |index: i32| {
                        OffsetCommitResponsePartition::default().with_partition_index(index).with_error_code(error)
                    };
                    let partitions = topic.partitions.iter().map(|of| partition(of.partition_index)).collect();
                    OffsetCommitResponseTopic::default().with_name(topic.name).with_partitions(partitions)
                });
                encoded(&OffsetCommitResponse::default().with_topics(topics.collect()), version)
            }
            other => panic!("nobody asks {other:?}"),
        };
        Some((body, version))
    }
}
