//! A letter in a topic, read back: its headers, and whether its record can be sent again.

use super::header::{
    BRIDGE_HEADER, CLIENT_ID_HEADER, CODE_HEADER, CUT_HEADER, HEADER_PREFIX, MQTT_TOPIC_HEADER, OFFSET_HEADER,
    PARTITION_HEADER, QOS_HEADER, REASON_HEADER, RECEIVED_HEADER, RULE_HEADER, SINK_HEADER, SOURCE_HEADER,
    TOPIC_HEADER,
};

/// Header of a record that was sent again: how many times, as digits. A letter keeps it, so that a second failure is seen.
pub const SENT_AGAIN_HEADER: &str = "forebay-sent-again";

/// Reasons of a sink that refused a message after it had made a record of it: the letter has that record.
const OF_RECORDS: [&str; 5] = ["TOO_LARGE", "TOPIC_UNKNOWN", "TOPIC_FORBIDDEN", "TOO_MANY_TOPICS", "SPOOL_FULL"];

/// The writer of a letter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Writer {
    /// A sink, for a record or message on its way to Kafka.
    Sink,
    /// A source, for a record that is no message.
    Source,
    /// A bridge, for a message that its remote refuses.
    Bridge,
}

/// The headers of a letter.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Said {
    /// The writer and its name.
    pub by: Option<(Writer, String)>,
    /// The rule that has failed for the message.
    pub rule: Option<String>,
    /// Why it was not delivered, in words.
    pub reason: Option<String>,
    /// Kafka's error code.
    pub kafka_code: Option<i64>,
    /// The topic that the record was for, or came from, and its place there.
    pub kafka_topic: Option<String>,
    /// The partition of that topic.
    pub kafka_partition: Option<i32>,
    /// The offset in that partition.
    pub kafka_offset: Option<i64>,
    /// The time at which the message was received, or that of a source's record, in milliseconds since 1970.
    pub received_ms: Option<i64>,
    /// The topic of the MQTT message.
    pub mqtt_topic: Option<String>,
    /// The publisher's client identifier.
    pub client_id: Option<String>,
    /// The quality of service of the MQTT message.
    pub qos: Option<u8>,
    /// Bytes of the whole value, where the letter has only its beginning.
    pub whole_bytes: Option<u64>,
    /// The number of times that the record had been sent again before it became this letter.
    pub sent_again: u32,
}

impl Said {
    /// Reads a letter's headers. The last of a name counts.
    pub fn of<'a>(headers: impl Iterator<Item = (&'a [u8], Option<&'a [u8]>)>) -> Self {
        let mut said = Self::default();
        for (name, value) in headers {
            let Ok(name) = std::str::from_utf8(name) else { continue };
            let text = || String::from_utf8_lossy(value.unwrap_or_default()).into_owned();
            match name {
                SINK_HEADER => said.by = Some((Writer::Sink, text())),
                SOURCE_HEADER => said.by = Some((Writer::Source, text())),
                BRIDGE_HEADER => said.by = Some((Writer::Bridge, text())),
                RULE_HEADER => said.rule = Some(text()),
                REASON_HEADER => said.reason = Some(text()),
                CODE_HEADER => said.kafka_code = number(value),
                TOPIC_HEADER => said.kafka_topic = Some(text()),
                PARTITION_HEADER => said.kafka_partition = number(value),
                OFFSET_HEADER => said.kafka_offset = number(value),
                RECEIVED_HEADER => said.received_ms = number(value),
                MQTT_TOPIC_HEADER => said.mqtt_topic = Some(text()),
                CLIENT_ID_HEADER => said.client_id = Some(text()),
                QOS_HEADER => said.qos = number(value),
                CUT_HEADER => said.whole_bytes = number(value),
                SENT_AGAIN_HEADER => said.sent_again = number(value).unwrap_or(0),
                _ => {}
            }
        }
        said
    }

    /// The writer of the letter, its name, and the Kafka topic that the record can be sent to again.
    ///
    /// # Errors
    /// The reason why it cannot be sent again, in words.
    pub fn destination(&self) -> Result<(Writer, &str, &str), String> {
        let Some((writer, name)) = &self.by else {
            return Err("it does not say which sink or source it is of".to_owned());
        };
        if *writer == Writer::Bridge {
            return Err("it is of a bridge, which writes no records: publish its message again".to_owned());
        }
        if let Some(bytes) = self.whole_bytes {
            return Err(format!("only the beginning of its value is here, of {bytes} bytes"));
        }
        let reason = self.reason.as_deref().unwrap_or_default();
        let has_record = *writer == Writer::Source || self.kafka_code.is_some() || OF_RECORDS.contains(&reason);
        match &self.kafka_topic {
            Some(topic) if has_record => Ok((*writer, name, topic)),
            _ => Err(format!("no record could be made of the message ({reason}): publish it again")),
        }
    }
}

fn number<T: std::str::FromStr>(value: Option<&[u8]>) -> Option<T> {
    std::str::from_utf8(value?).ok()?.parse().ok()
}

/// Whether a header is the record's own, and not one that says what a letter is or that it was sent again.
pub fn is_own(header: &[u8]) -> bool {
    !header.starts_with(HEADER_PREFIX.as_bytes()) && header != SENT_AGAIN_HEADER.as_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(headers: &[(&str, &str)]) -> Said {
        Said::of(headers.iter().map(|(name, value)| (name.as_bytes(), Some(value.as_bytes()))))
    }

    #[test]
    fn a_letter_says_where_its_record_can_go() {
        let of_sink = [(SINK_HEADER, "all"), (TOPIC_HEADER, "t"), (CODE_HEADER, "10"), (SENT_AGAIN_HEADER, "2")];
        let letter = said(&of_sink);
        assert_eq!(letter.destination(), Ok((Writer::Sink, "all", "t")));
        assert_eq!((letter.kafka_code, letter.sent_again), (Some(10), 2));
        let of_source = [(SOURCE_HEADER, "in"), (TOPIC_HEADER, "t"), (PARTITION_HEADER, "3"), (REASON_HEADER, "topic")];
        let letter = said(&of_source);
        assert_eq!((letter.destination(), letter.kafka_partition), (Ok((Writer::Source, "in", "t")), Some(3)));
        for (headers, why) in [
            (&[(TOPIC_HEADER, "t")][..], "which sink or source"),
            (&[(BRIDGE_HEADER, "b"), (MQTT_TOPIC_HEADER, "t")], "of a bridge"),
            (&[(SINK_HEADER, "s"), (TOPIC_HEADER, "t"), (CODE_HEADER, "10"), (CUT_HEADER, "99")], "of 99 bytes"),
            (&[(SINK_HEADER, "s"), (TOPIC_HEADER, "t"), (REASON_HEADER, "RULE_FAILED")], "no record could be made"),
            (&[(SINK_HEADER, "s"), (REASON_HEADER, "TOO_LARGE")], "no record could be made"),
        ] {
            let refused = said(headers).destination().expect_err(why);
            assert!(refused.contains(why), "{refused}");
        }
        for reason in OF_RECORDS {
            let letter = said(&[(SINK_HEADER, "s"), (TOPIC_HEADER, "t"), (REASON_HEADER, reason)]);
            assert!(letter.destination().is_ok(), "{reason}");
        }
    }

    #[test]
    fn what_is_no_number_says_nothing() {
        let letter = said(&[(PARTITION_HEADER, "x"), (SENT_AGAIN_HEADER, "-1"), (QOS_HEADER, "300")]);
        assert_eq!(letter, Said::default());
        assert!(is_own(b"site") && !is_own(b"dead-letter-x") && !is_own(SENT_AGAIN_HEADER.as_bytes()));
    }
}
