//! Metadata (3): one node that leads everything. A missing topic is created if client and settings allow it.

use std::rc::Rc;

use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::metadata_response::{
    MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use kafka_protocol::messages::{MetadataRequest, MetadataResponse};

use super::{Close, Context, LEADER_EPOCH, NODE_ID, Reply, encode, text};
use crate::code;
use crate::guard::Head;
use crate::store::Topic;
use crate::topic_config::TopicConfig;

pub(super) async fn answer(context: &Context<'_>, head: Head, request: MetadataRequest) -> Result<Reply, Close> {
    // Null asks for all topics; in version 0 an empty list does.
    let asked = request.topics.filter(|topics| head.version > 0 || !topics.is_empty());
    let may_create =
        context.store.settings.auto_create_topics && (head.version < 4 || request.allow_auto_topic_creation);
    let mut topics = Vec::new();
    match asked {
        None => topics.extend(context.store.all_topics().iter().map(described)),
        Some(asked) => {
            for topic in asked {
                topics.push(one(context, topic, may_create).await);
            }
        }
    }
    let body = MetadataResponse::default()
        .with_brokers(vec![this_node(context)])
        .with_cluster_id(Some(text(context.store.cluster_id())))
        .with_controller_id(NODE_ID.into())
        .with_topics(topics);
    encode(head, &body)
}

fn this_node(context: &Context<'_>) -> MetadataResponseBroker {
    let (host, port) = context.advertised();
    MetadataResponseBroker::default().with_node_id(NODE_ID.into()).with_host(text(&host)).with_port(port.into())
}

async fn one(context: &Context<'_>, asked: MetadataRequestTopic, may_create: bool) -> MetadataResponseTopic {
    let store = context.store;
    let Some(name) = asked.name else {
        return match store.topic_by_id(asked.topic_id) {
            Some(topic) => described(&topic),
            None => failed(code::UNKNOWN_TOPIC_ID).with_topic_id(asked.topic_id).with_name(None),
        };
    };
    if let Some(topic) = store.topic(&name) {
        return described(&topic);
    }
    let error = match store.check_new_topic(&name, -1) {
        Err(refusal) => refusal.code,
        Ok(_) if !may_create => code::UNKNOWN_TOPIC_OR_PARTITION,
        Ok(count) => match store.create_topic(&name, count, TopicConfig::default()).await {
            Ok(topic) => return described(&topic),
            // Another request created the topic first.
            Err(refusal) => match store.topic(&name) {
                Some(topic) => return described(&topic),
                None => refusal.code,
            },
        },
    };
    failed(error).with_name(Some(name))
}

fn failed(error: i16) -> MetadataResponseTopic {
    MetadataResponseTopic::default().with_error_code(error)
}

fn described(topic: &Rc<Topic>) -> MetadataResponseTopic {
    let partition = |index: usize| {
        MetadataResponsePartition::default()
            .with_partition_index(index as i32)
            .with_leader_id(NODE_ID.into())
            .with_leader_epoch(LEADER_EPOCH)
            .with_replica_nodes(vec![NODE_ID.into()])
            .with_isr_nodes(vec![NODE_ID.into()])
    };
    MetadataResponseTopic::default()
        .with_name(Some(text(&topic.name).into()))
        .with_topic_id(topic.id)
        .with_partitions((0..topic.partitions.len()).map(partition).collect())
}
