//! Headers of a dead letter in the topic, and fields in the file. `docs/DEAD_LETTERS.md` has them all.

/// The prefix of these headers' names. They are Forebay's: a device's own header of such a name is left out of a letter.
pub(crate) const HEADER_PREFIX: &str = "dead-letter-";
/// The sink that could not deliver the record.
pub(crate) const SINK_HEADER: &str = "dead-letter-sink";
/// The rule that has failed for the message.
pub(crate) const RULE_HEADER: &str = "dead-letter-rule";
/// The reason: a name of [`reason`], or one known before the sink took the message.
pub(crate) const REASON_HEADER: &str = "dead-letter-reason";
/// Kafka's error code.
pub(crate) const CODE_HEADER: &str = "dead-letter-kafka-code";
/// The Kafka topic that the record was for.
pub(crate) const TOPIC_HEADER: &str = "dead-letter-kafka-topic";
/// The partition that the record was for, if it had one yet.
pub(crate) const PARTITION_HEADER: &str = "dead-letter-kafka-partition";
/// The source that could not make a message of the record.
pub(crate) const SOURCE_HEADER: &str = "dead-letter-source";
/// The bridge, if its remote refuses the message.
pub(crate) const BRIDGE_HEADER: &str = "dead-letter-bridge";
/// The offset of that record in its partition.
pub(crate) const OFFSET_HEADER: &str = "dead-letter-kafka-offset";
/// The time at which the message was received, in milliseconds since 1970.
pub(crate) const RECEIVED_HEADER: &str = "dead-letter-received-ms";
/// Bytes of the whole value, if the letter has only its beginning.
pub(crate) const CUT_HEADER: &str = "dead-letter-value-bytes";
/// The MQTT topic of a message that no sink took.
pub(crate) const MQTT_TOPIC_HEADER: &str = "dead-letter-mqtt-topic";
/// The client that published the message.
pub(crate) const CLIENT_ID_HEADER: &str = "dead-letter-client-id";
/// The message's quality of service.
pub(crate) const QOS_HEADER: &str = "dead-letter-qos";

/// Bytes of a too large value that remain in the topic.
pub(crate) const CUT_VALUE_BYTES: usize = 16 * 1024;
/// The most bytes that headers add to a row that Kafka refused: seven names, a topic, a sink's name, digits.
pub const HEADERS_BYTES_MAX: usize = 2 * 1024;

/// Kafka's name of an error code that is final. docs/DEAD_LETTERS.md has them all.
#[must_use]
pub const fn reason(code: i16) -> &'static str {
    match code {
        2 => "CORRUPT_MESSAGE",
        3 => "UNKNOWN_TOPIC_OR_PARTITION",
        10 => "MESSAGE_TOO_LARGE",
        17 => "INVALID_TOPIC_EXCEPTION",
        18 => "RECORD_LIST_TOO_LARGE",
        21 => "INVALID_REQUIRED_ACKS",
        29 => "TOPIC_AUTHORIZATION_FAILED",
        31 => "CLUSTER_AUTHORIZATION_FAILED",
        32 => "INVALID_TIMESTAMP",
        35 => "UNSUPPORTED_VERSION",
        37 => "INVALID_PARTITIONS",
        42 => "INVALID_REQUEST",
        43 => "UNSUPPORTED_FOR_MESSAGE_FORMAT",
        44 => "POLICY_VIOLATION",
        53 => "TRANSACTIONAL_ID_AUTHORIZATION_FAILED",
        76 => "UNSUPPORTED_COMPRESSION_TYPE",
        87 => "INVALID_RECORD",
        _ => "KAFKA_ERROR",
    }
}

/// Whether a dead-letter topic is likely to refuse the record for the same reason.
pub(crate) const fn is_about_size(code: i16) -> bool {
    matches!(code, 10 | 18)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Finding K7: the dead letter of a refused record names the reason in a word that the document explains.
    #[test]
    fn finding_k7_every_code_that_is_final_has_a_documented_name() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/DEAD_LETTERS.md");
        let document = std::fs::read_to_string(path).expect("docs/DEAD_LETTERS.md");
        // Codes with which the producer refuses rows: for a verdict of Kafka, or for a topic's metadata.
        let codes = [2, 3, 10, 17, 18, 21, 29, 31, 32, 35, 37, 42, 43, 44, 53, 76, 87];
        for code in codes {
            let name = reason(code);
            assert_ne!(name, "KAFKA_ERROR", "{code}");
            assert!(document.contains(&format!("`{name}` ({code}")), "{name} ({code})");
        }
    }
}
