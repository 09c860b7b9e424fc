//! A small Kafka producer: acks=all, one request in flight, with all records that are due by then. Built on the crate kafka-protocol.

use anyhow::{Context, bail};
use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::{ApiKey, ProduceRequest, ProduceResponse};
use kafka_protocol::records::{
    Compression, NO_PARTITION_LEADER_EPOCH, NO_PRODUCER_EPOCH, NO_PRODUCER_ID, NO_SEQUENCE, Record, RecordBatchEncoder,
    RecordEncodeOptions, TimestampType,
};

use super::reader::{Reader, name};

// Kafka 2.1 to 4 support this version.
const PRODUCE: i16 = 7;

/// Writes to one topic.
pub(crate) struct Producer {
    reader: Reader,
    topic: String,
    partitions: usize,
    next: usize,
}

impl Producer {
    /// # Errors
    /// The errors of Kafka; there is no such topic.
    pub(crate) fn new(bootstrap: &str, topic: &str) -> anyhow::Result<Self> {
        let mut reader = Reader::connect(bootstrap)?;
        let partitions = reader.ends(topic)?.len();
        if partitions == 0 {
            bail!("there is no Kafka topic {topic}");
        }
        Ok(Self { reader, topic: topic.to_owned(), partitions, next: 0 })
    }

    /// Writes records without keys to the next partition, and waits until they are acknowledged.
    ///
    /// # Errors
    /// The errors of Kafka and the connection.
    pub(crate) fn write(&mut self, values: &[Bytes], timestamp_ms: i64) -> anyhow::Result<()> {
        let partition = self.next % self.partitions;
        self.next += 1;
        let record = |(offset, value): (i64, &Bytes)| Record {
            transactional: false,
            control: false,
            delete_horizon: false,
            partition_leader_epoch: NO_PARTITION_LEADER_EPOCH,
            producer_id: NO_PRODUCER_ID,
            producer_epoch: NO_PRODUCER_EPOCH,
            timestamp_type: TimestampType::Creation,
            offset,
            // The encoder takes records into one batch if their sequences are consecutive; only the first one is written.
            sequence: NO_SEQUENCE + offset as i32,
            timestamp: timestamp_ms,
            key: None,
            value: Some(value.clone()),
            headers: Default::default(),
        };
        let records: Vec<Record> = (0..).zip(values).map(record).collect();
        let mut batch = BytesMut::new();
        let options = RecordEncodeOptions { version: 2, compression: Compression::None };
        RecordBatchEncoder::encode(&mut batch, &records, &options)?;
        let data = PartitionProduceData::default().with_index(partition as i32).with_records(Some(batch.freeze()));
        let data = TopicProduceData::default().with_name(name(&self.topic)).with_partition_data(vec![data]);
        let request = ProduceRequest::default().with_acks(-1).with_timeout_ms(10_000).with_topic_data(vec![data]);
        let leader = self.reader.leader(&self.topic, partition)?;
        let answer: ProduceResponse = leader.call(ApiKey::Produce, PRODUCE, &request)?;
        let answers = answer.responses.first().and_then(|topic| topic.partition_responses.first());
        match answers.context("Produce")?.error_code {
            0 => Ok(()),
            code => bail!("writing to {} partition {partition}: error {code}", self.topic),
        }
    }
}
