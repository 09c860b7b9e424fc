//! Reasons for the answers to messages: the code of each in PUBACK and PUBREC, and the Reason String of a refusal, for readers of
//! client libraries' messages.

use super::peer::Peer;
use forebay_mqtt::encode;
use forebay_mqtt::packet::{Ack, Packet, PacketType};
use forebay_mqtt::property::{Property, PropertyBuf};
use forebay_mqtt::reason::ReasonCode;

/// The reason for the answer to a message. The variants are in the order of their codes, and the last one is the gravest. One byte,
/// since each pending answer holds one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reason {
    /// Every sink has the message.
    Success,
    /// A sink keeps the message as a dead letter; every other one has it.
    DeadLettered,
    /// No sink and no subscriber matches the topic.
    Unmatched,
    /// The message is refused, and the client must not learn why: the standard's word for "does not want to reveal the reason"
    /// (section 3.4.2.1).
    Unsaid,
    /// Kafka rejected the record for good.
    KafkaRejected,
    /// The record is larger than the sink's `record_bytes_max`.
    TooLarge,
    /// A template of a sink names a user property that the message does not have.
    UserPropertyMissing,
    /// The sink's `timestamp` makes no valid time of a user property or the topic.
    PropertyNoTime,
    /// The record that a sink had stored is damaged. The repeat is a new message, even if another sink has it: a 3.x client, to
    /// which no reason can be sent, would otherwise be disconnected at each repeat, for ever.
    RecordLost,
    /// The client may not publish to the topic.
    Denied,
    /// Kafka does not allow this server to write to the Kafka topic.
    KafkaTopicForbidden,
    /// The sink's `topic` makes a name that Kafka does not accept.
    KafkaTopicInvalid,
    /// Kafka has had no such topic for longer than `unknown_topic_timeout`.
    KafkaTopicUnknown,
    /// The disk buffer is full, and `when_full` is `refuse`.
    SpoolFull,
    /// The Kafka topic would be one more than `topics_max`.
    TooManyKafkaTopics,
    /// A template of a sink names a field that the payload does not have.
    PayloadFieldMissing,
    /// The sink's `timestamp` makes no valid time of a field of the payload.
    PayloadNoTime,
    /// The sink's `headers_from` finds neither an object nor a list of pairs in the payload.
    HeadersInvalid,
    /// The output of a rule lacks a column that a sink's `topic` or `timestamp` needs.
    ColumnMissing,
    /// A rule with `on_error = "reject"` has failed for the message.
    RuleFailed,
}

impl Reason {
    /// The code in PUBACK and PUBREC.
    #[must_use]
    pub const fn code(self) -> ReasonCode {
        match self {
            Self::Success | Self::DeadLettered => ReasonCode::SUCCESS,
            Self::Unmatched => ReasonCode::NO_MATCHING_SUBSCRIBERS,
            Self::Unsaid | Self::KafkaRejected => ReasonCode::UNSPECIFIED_ERROR,
            Self::TooLarge
            | Self::UserPropertyMissing
            | Self::PropertyNoTime
            | Self::RecordLost
            | Self::ColumnMissing => ReasonCode::IMPLEMENTATION_SPECIFIC_ERROR,
            Self::Denied | Self::KafkaTopicForbidden => ReasonCode::NOT_AUTHORIZED,
            Self::KafkaTopicInvalid | Self::KafkaTopicUnknown => ReasonCode::TOPIC_NAME_INVALID,
            Self::SpoolFull | Self::TooManyKafkaTopics => ReasonCode::QUOTA_EXCEEDED,
            Self::PayloadFieldMissing | Self::PayloadNoTime | Self::HeadersInvalid | Self::RuleFailed => {
                ReasonCode::PAYLOAD_FORMAT_INVALID
            }
        }
    }

    /// Whether the reason is one for a refusal.
    pub(super) const fn is_refusal(self) -> bool {
        self.code().is_error()
    }

    /// The text of the Reason String; `None`: the code is sufficient.
    pub(super) const fn words(self) -> Option<&'static str> {
        Some(match self {
            Self::Success | Self::Unmatched | Self::Unsaid => return None,
            Self::DeadLettered => "a dead letter is kept in the place of a record",
            Self::KafkaRejected => "Kafka rejected the record",
            Self::TooLarge => "the record is larger than the server takes",
            Self::UserPropertyMissing => "a user property that the server needs is missing",
            Self::PropertyNoTime => "the topic or a user property does not give a valid time for the record",
            Self::RecordLost => "the stored record is damaged; publish the message again",
            Self::Denied => "this client is not allowed to publish to the topic",
            Self::KafkaTopicForbidden => "Kafka does not allow the server to write to the Kafka topic",
            Self::KafkaTopicInvalid => "the topic does not give a valid Kafka topic name",
            Self::KafkaTopicUnknown => "the topic gives a Kafka topic that does not exist",
            Self::SpoolFull => "the disk buffer is full",
            Self::TooManyKafkaTopics => "too many Kafka topics are in use",
            Self::PayloadFieldMissing => "the payload lacks a field that the server needs",
            Self::PayloadNoTime => "a field of the payload does not give a valid time for the record",
            Self::ColumnMissing => "a rule does not give what the record needs",
            Self::RuleFailed => "a rule cannot handle the message",
            Self::HeadersInvalid => "what the payload has for headers is neither an object nor a list of pairs",
        })
    }

    /// The reason that a client gets instead if it must not learn which permissions it lacks. Records that Kafka rejects are
    /// answered in the same way, so that the two cannot be distinguished.
    pub(super) const fn hidden(self) -> Self {
        match self {
            Self::Denied | Self::KafkaTopicForbidden | Self::KafkaRejected => Self::Unsaid,
            other => other,
        }
    }
}

/// Appends a PUBACK or PUBREC, with words where the client takes them and has room for them [MQTT-3.4.2-2]
/// [MQTT-3.5.2-2].
#[cold]
pub(super) fn ack(peer: &Peer, kind: PacketType, packet_id: u16, reason: Reason, out: &mut Vec<u8>) {
    let code = reason.code();
    if let Some(words) = reason.words().filter(|_| peer.wants_reasons()) {
        let mut properties = PropertyBuf::default();
        properties.push(Property::ReasonString(words));
        let ack = Ack { packet_id, reason: code, properties: properties.as_properties() };
        if peer.send(&if kind == PacketType::PubAck { Packet::PubAck(ack) } else { Packet::PubRec(ack) }, out) {
            return;
        }
    }
    encode::ack(peer.version, kind, packet_id, code, out);
}
