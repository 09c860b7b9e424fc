//! The small requests (all but Produce), encoded by kafka-protocol into one frame each.

use std::rc::Rc;

use bytes::BytesMut;
use kafka_protocol::messages::describe_producers_request::TopicRequest;
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::{
    ApiVersionsRequest, DescribeProducersRequest, FetchRequest, InitProducerIdRequest, MetadataRequest, RequestHeader,
    SaslAuthenticateRequest, SaslHandshakeRequest, TopicName,
};
use kafka_protocol::protocol::{Encodable, StrBytes};
use uuid::Uuid;

use super::api::{BY_ID, Call};

/// The head of a request: its sender, and its number on the connection.
#[derive(Clone, Copy, Debug)]
pub(super) struct Head<'a> {
    /// The request's number, which increments on each connection.
    pub(super) correlation: i32,
    /// The client's name in the broker's logs and quotas.
    pub(super) client_id: &'a str,
}

/// ApiVersions.
pub(super) fn api_versions(head: Head<'_>, version: i16) -> Option<Vec<u8>> {
    let body = ApiVersionsRequest::default()
        .with_client_software_name(StrBytes::from_static_str("forebay"))
        .with_client_software_version(StrBytes::from_static_str(env!("CARGO_PKG_VERSION")));
    // Before v3 there is no software name; kafka-protocol refuses to omit a value.
    let body = if version >= 3 { body } else { ApiVersionsRequest::default() };
    frame(head, Call::ApiVersions, version, &body)
}

/// Metadata of `topics` (without any, of the brokers alone), creating them if `create` and the cluster allows it.
pub(super) fn metadata(head: Head<'_>, version: i16, topics: &[Rc<str>], create: bool) -> Option<Vec<u8>> {
    let topics = topics
        .iter()
        .map(|topic| MetadataRequestTopic::default().with_name(Some(TopicName(StrBytes::from(topic.to_string())))))
        .collect();
    // Below version 4 the broker alone decides on that.
    let body =
        MetadataRequest::default().with_topics(Some(topics)).with_allow_auto_topic_creation(create || version < 4);
    frame(head, Call::Metadata, version, &body)
}

/// InitProducerId of an idempotent producer without transactions.
pub(super) fn init_producer_id(head: Head<'_>, version: i16) -> Option<Vec<u8>> {
    let body = InitProducerIdRequest::default()
        .with_transactional_id(None)
        .with_transaction_timeout_ms(i32::MAX)
        .with_producer_id((-1).into())
        .with_producer_epoch(-1);
    frame(head, Call::InitProducerId, version, &body)
}

/// SaslHandshake: asks whether the broker supports this mechanism.
pub(super) fn sasl_handshake(head: Head<'_>, version: i16, mechanism: &'static str) -> Option<Vec<u8>> {
    let body = SaslHandshakeRequest::default().with_mechanism(StrBytes::from_static_str(mechanism));
    frame(head, Call::SaslHandshake, version, &body)
}

/// SaslAuthenticate: these bytes of the mechanism.
pub(super) fn sasl_authenticate(head: Head<'_>, version: i16, message: Vec<u8>) -> Option<Vec<u8>> {
    let body = SaslAuthenticateRequest::default().with_auth_bytes(message.into());
    frame(head, Call::SaslAuthenticate, version, &body)
}

/// DescribeProducers of one partition.
pub(super) fn describe_producers(head: Head<'_>, version: i16, topic: &str, partition: i32) -> Option<Vec<u8>> {
    let topic = TopicRequest::default().with_name(name(topic)).with_partition_indexes(vec![partition]);
    let body = DescribeProducersRequest::default().with_topics(vec![topic]);
    frame(head, Call::DescribeProducers, version, &body)
}

/// Fetch of one partition up to its high watermark, outside of any session, without waiting for more; the topic goes by name, from version 13 on by id.
pub(super) fn fetch(
    head: Head<'_>,
    version: i16,
    (topic, id, partition): (&str, u128, i32),
    offset: i64,
    bytes_max: i32,
) -> Option<Vec<u8>> {
    let partition = FetchPartition::default()
        .with_partition(partition)
        .with_fetch_offset(offset)
        .with_log_start_offset(-1)
        .with_partition_max_bytes(bytes_max);
    let topic = if version >= BY_ID {
        FetchTopic::default().with_topic_id(Uuid::from_u128(id))
    } else {
        FetchTopic::default().with_topic(name(topic))
    };
    let topic = topic.with_partitions(vec![partition]);
    let body = FetchRequest::default()
        .with_replica_id((-1).into())
        .with_max_wait_ms(0)
        .with_min_bytes(0)
        .with_max_bytes(bytes_max)
        .with_isolation_level(0)
        .with_session_epoch(-1)
        .with_topics(vec![topic]);
    frame(head, Call::Fetch, version, &body)
}

pub(super) fn name(topic: &str) -> TopicName {
    TopicName(StrBytes::from(topic.to_owned()))
}

/// A frame of length, header and body. `None` if kafka-protocol cannot encode it, which no input of the client causes.
pub(super) fn frame<B: Encodable>(head: Head<'_>, api: Call, version: i16, body: &B) -> Option<Vec<u8>> {
    let header = RequestHeader::default()
        .with_request_api_key(api.key())
        .with_request_api_version(version)
        .with_correlation_id(head.correlation)
        .with_client_id(Some(StrBytes::from(head.client_id.to_owned())));
    let mut bytes = BytesMut::from(&[0u8; 4][..]);
    header.encode(&mut bytes, header_version(api, version)).ok()?;
    body.encode(&mut bytes, version).ok()?;
    let mut bytes = Vec::from(bytes);
    let length = i32::try_from(bytes.len() - 4).ok()?;
    bytes.get_mut(..4)?.copy_from_slice(&length.to_be_bytes());
    Some(bytes)
}

/// The request header's version: 2 has tagged fields.
fn header_version(api: Call, version: i16) -> i16 {
    if api.is_flexible(version) { 2 } else { 1 }
}
