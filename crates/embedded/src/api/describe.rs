//! DescribeCluster (60) and DescribeProducers (61).

use kafka_protocol::messages::describe_cluster_response::DescribeClusterBroker;
use kafka_protocol::messages::describe_producers_request::TopicRequest;
use kafka_protocol::messages::describe_producers_response::{PartitionResponse, ProducerState, TopicResponse};
use kafka_protocol::messages::{
    DescribeClusterRequest, DescribeClusterResponse, DescribeProducersRequest, DescribeProducersResponse,
};

use super::{Close, Context, NODE_ID, Reply, encode, text};
use crate::code;
use crate::guard::Head;
use crate::producers::Active;

/// Endpoint types: brokers, controllers.
const BROKERS: i8 = 1;

pub(super) fn cluster(context: &Context<'_>, head: Head, request: DescribeClusterRequest) -> Result<Reply, Close> {
    if head.version >= 1 && request.endpoint_type != BROKERS {
        let refused = DescribeClusterResponse::default().with_error_code(code::MISMATCHED_ENDPOINT_TYPE);
        return encode(head, &refused.with_error_message(Some(text("this is the endpoint of a broker"))));
    }
    let (host, port) = context.advertised();
    let broker = DescribeClusterBroker::default().with_broker_id(NODE_ID.into()).with_host(text(&host));
    let response = DescribeClusterResponse::default()
        .with_error_message(None)
        .with_cluster_id(text(context.store.cluster_id()))
        .with_controller_id(NODE_ID.into())
        .with_brokers(vec![broker.with_port(port.into()).with_rack(None)]);
    encode(head, &response)
}

pub(super) fn producers(context: &Context<'_>, head: Head, request: DescribeProducersRequest) -> Result<Reply, Close> {
    let topics = request.topics.into_iter().map(|asked| of_topic(context, asked)).collect();
    encode(head, &DescribeProducersResponse::default().with_topics(topics))
}

fn of_topic(context: &Context<'_>, asked: TopicRequest) -> TopicResponse {
    let topic = context.store.topic(&asked.name);
    let one = |index: &i32| {
        let response = PartitionResponse::default().with_partition_index(*index).with_error_message(None);
        match topic.as_ref().and_then(|topic| topic.partition(*index)) {
            None => response.with_error_code(code::UNKNOWN_TOPIC_OR_PARTITION),
            Some(partition) => {
                let active = partition.borrow().producers().active();
                response.with_active_producers(active.into_iter().map(state).collect())
            }
        }
    };
    let partitions = asked.partition_indexes.iter().map(one).collect();
    TopicResponse::default().with_name(asked.name).with_partitions(partitions)
}

fn state(active: Active) -> ProducerState {
    ProducerState::default()
        .with_producer_id(active.id.into())
        .with_producer_epoch(active.epoch.into())
        .with_last_sequence(active.last_sequence)
        .with_last_timestamp(active.last_timestamp)
        .with_coordinator_epoch(-1)
        .with_current_txn_start_offset(-1)
}
