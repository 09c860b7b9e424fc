//! Records of any topic as the messages that they may once have been: rules are tried on them.

use super::records::mapped_record;
use crate::config::Config;
use crate::kafka::consumer;
use crate::rule::record::RecordTemplate;
use crate::rule::template::MessageContext;
use crate::runtime::seam::WallMs;
use crate::source::{Mapping, Reason, Scratch};

/// Makes messages of the records of a topic. The value is the payload, and headers are properties as in a source.
#[derive(Debug)]
pub struct PastMessages {
    topic: String,
    mapping: Mapping,
    scratch: Scratch,
}

impl PastMessages {
    /// For the records of a Kafka topic; `mqtt_topic` makes the MQTT topic of each.
    #[must_use]
    pub fn new(config: &Config, topic: &str, mqtt_topic: RecordTemplate) -> Self {
        Self {
            topic: topic.to_owned(),
            mapping: Mapping::of_values(config, topic, mqtt_topic),
            scratch: Scratch::default(),
        }
    }

    /// The message of a record, at the time of the record: none has expired. It has no client.
    ///
    /// # Errors
    /// Why the record cannot be a message.
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
