//! Records of any topic, as the messages that they may once have been, or as records of a source, for trials of rules.

use super::records::mapped_record;
use forebay_config::Config;
use forebay_kafka::consumer;
use forebay_rule::facts::Facts;
use forebay_rule::record::{Encoded, Encoding, RecordTemplate};
use forebay_rule::record_fields::{self, with_fields};
use forebay_rule::template::MessageContext;
use forebay_runtime::seam::WallMs;
use forebay_source::{Mapping, Reason, Scratch};

/// Makes messages of the records of a topic. The value is the payload, and headers are properties as in a source.
#[derive(Debug)]
pub struct PastMessages {
    topic: String,
    mapping: Mapping,
    scratch: Scratch,
    facts: record_fields::Scratch,
}

impl PastMessages {
    /// Messages for the records of a Kafka topic. `mqtt_topic` makes the MQTT topic of each.
    #[must_use]
    pub fn new(config: &Config, topic: &str, mqtt_topic: RecordTemplate) -> Self {
        Self {
            topic: topic.to_owned(),
            mapping: Mapping::of_values(config, topic, mqtt_topic),
            scratch: Scratch::default(),
            facts: record_fields::Scratch::default(),
        }
    }

    /// Passes the record to `each` as rules that name a source see it. `key`, `value`: their encodings in that source.
    pub fn with_facts<R>(
        &mut self,
        (partition, record): (i32, &consumer::Record<'_>),
        (key, value): (Encoding, Encoding),
        around: record_fields::Around<'_>,
        each: impl FnOnce(&Facts<'_>) -> R,
    ) -> R {
        let record = mapped_record(&self.topic, partition, record);
        with_fields(&Encoded { record: &record, key, value }, around, &mut self.facts, each)
    }

    /// The message of a record, at the time of the record, so that none has expired. It has no client.
    ///
    /// # Errors
    /// The reason why the record cannot be a message.
    pub fn message<'a>(
        &'a mut self,
        partition: i32,
        record: &consumer::Record<'a>,
    ) -> Result<MessageContext<'a>, Reason> {
        let mapped = mapped_record(&self.topic, partition, record);
        let message = self.mapping.message(&mapped, WallMs(0), &mut self.scratch)?;
        Ok(MessageContext {
            topic: message.topic,
            qos: message.qos as u8,
            retain: message.retain,
            payload: message.payload,
            timestamp_ms: record.timestamp,
            properties: message.properties,
            hops: message.hops,
            ..MessageContext::default()
        })
    }
}
