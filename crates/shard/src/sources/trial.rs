//! Trials: the messages that a source would make of records, for the control plane and `forebay check`, by the code that publishes them.

use super::records::mapped_record;
use forebay_config::{Config, Source};
use forebay_kafka::consumer::{Bad, Batches};
use forebay_runtime::seam::WallMs;
use forebay_source::{Mapping, Reason, Scratch};

/// Bytes of a payload that are shown.
const SHOWN_BYTES_MAX: usize = 4 << 10;

/// A record that was not published.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordTrial {
    /// The record's offset.
    pub offset: i64,
    /// The message, or the reason why there is none.
    pub message: Result<MessageTrial, Reason>,
}

/// A message that was not published.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MessageTrial {
    /// MQTT topic.
    pub topic: String,
    /// The first bytes of the payload.
    pub payload: Vec<u8>,
    /// Bytes of the whole payload.
    pub payload_bytes: usize,
    /// QoS.
    pub qos: u8,
    /// Whether it is retained.
    pub retain: bool,
    /// User properties, in order.
    pub user_properties: Vec<(String, String)>,
}

/// Tries the newest `limit` records of some batches, and gives the reason if the rest cannot be read.
#[must_use]
pub fn try_records(
    (config, source): (&Config, &Source),
    (topic, partition): (&str, i32),
    mut batches: Batches,
    now: WallMs,
    limit: usize,
) -> (Vec<RecordTrial>, Option<Bad>) {
    let mapping = Mapping::new(config, source);
    let mut scratch = Scratch::default();
    let mut tried = Vec::new();
    let bad = loop {
        let record = match batches.take() {
            Ok(Some(record)) => record,
            Ok(None) => break None,
            Err(bad) => break Some(bad),
        };
        let message = mapping.message(&mapped_record(topic, partition, &record), now, &mut scratch);
        let message = message.map(|message| {
            let user_properties = message.properties.user_properties();
            let user_properties = user_properties.map(|(name, value)| (name.to_owned(), value.to_owned()));
            MessageTrial {
                topic: message.topic.to_owned(),
                payload: message.payload[..message.payload.len().min(SHOWN_BYTES_MAX)].to_vec(),
                payload_bytes: message.payload.len(),
                qos: message.qos as u8,
                retain: message.retain,
                user_properties: user_properties.collect(),
            }
        });
        tried.push(RecordTrial { offset: record.offset, message });
    };
    let older = tried.len().saturating_sub(limit);
    tried.drain(..older);
    (tried, bad)
}
