//! Writes a batch to a partition over an administrative connection: with acks=all, so that an answer without an error is that of
//! all in-sync replicas.

use std::time::Duration;

use bytes::Bytes;
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::produce_response::PartitionProduceResponse;
use kafka_protocol::messages::{ProduceRequest, TopicName};

use super::admin::Admin;

/// The first version of Produce that takes batches of format v2, and the last one that names topics.
const VERSION_MIN: i16 = 3;
const VERSION_MAX: i16 = 12;

/// Why the partition has not answered, in words.
#[derive(Debug)]
pub(super) enum NotWritten {
    /// The batch is not written.
    Refused(String),
    /// The batch may be written.
    Unknown(String),
}

impl NotWritten {
    pub(super) fn why(self) -> String {
        let (Self::Refused(why) | Self::Unknown(why)) = self;
        why
    }
}

/// Writes a batch. `timeout`: the longest wait of the broker for followers. The answer may have an error code.
///
/// # Errors
/// The partition has not answered.
pub(super) fn write(
    leader: &mut Admin,
    topic: &TopicName,
    partition: i32,
    batch: Vec<u8>,
    timeout: Duration,
) -> Result<PartitionProduceResponse, NotWritten> {
    let version = leader.version::<ProduceRequest>(VERSION_MAX).filter(|version| *version >= VERSION_MIN);
    let version =
        version.ok_or_else(|| NotWritten::Refused(format!("{}: it is older than Kafka 1.0", leader.broker)))?;
    let data = PartitionProduceData::default().with_index(partition).with_records(Some(Bytes::from(batch)));
    let data = TopicProduceData::default().with_name(topic.clone()).with_partition_data(vec![data]);
    let request = ProduceRequest::default()
        .with_acks(-1)
        .with_timeout_ms(i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX))
        .with_topic_data(vec![data]);
    let answer = leader.ask_at(&request, version).map_err(NotWritten::Unknown)?;
    let told = answer.responses.into_iter().next().and_then(|topic| topic.partition_responses.into_iter().next());
    told.ok_or_else(|| NotWritten::Unknown(format!("{}: Produce was answered with nothing", leader.broker)))
}
