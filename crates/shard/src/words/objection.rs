//! `Objection` is why a sink never takes a message, as its publisher, the metrics and dead letters name it.

use forebay_kafka::producer::Refusal;
use forebay_metrics::spec::RefusalReason;
use forebay_rule::template::Absent;
use forebay_session::Reason;

/// The reason why a sink will never take a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Objection {
    /// The sink's topic, value or time asks for something that the message does not have.
    Absent(Absent),
    /// The producer refuses the message.
    Refusal(Refusal),
    /// The spool has no room, and the message does not wait for it.
    SpoolFull,
    /// A rule that feeds the sink has failed for the message.
    RuleFailed(u16),
}

impl Objection {
    /// The reason code for a publisher (5.0; the session closes older clients).
    pub(crate) fn told(self) -> Reason {
        match self {
            Self::Absent(Absent::UserProperty) => Reason::UserPropertyMissing,
            Self::Absent(Absent::PayloadPath) => Reason::PayloadFieldMissing,
            Self::Absent(Absent::Time { in_payload: false }) => Reason::PropertyNoTime,
            Self::Absent(Absent::Time { in_payload: true }) => Reason::PayloadNoTime,
            Self::Absent(Absent::Headers) => Reason::HeadersInvalid,
            Self::Absent(Absent::Column) => Reason::ColumnMissing,
            Self::RuleFailed(_) => Reason::RuleFailed,
            Self::Refusal(Refusal::TooLarge) => Reason::TooLarge,
            Self::Refusal(Refusal::TopicInvalid) => Reason::KafkaTopicInvalid,
            Self::Refusal(Refusal::TopicUnknown) => Reason::KafkaTopicUnknown,
            Self::Refusal(Refusal::TopicForbidden) => Reason::KafkaTopicForbidden,
            Self::Refusal(Refusal::TooManyTopics) => Reason::TooManyKafkaTopics,
            Self::SpoolFull => Reason::SpoolFull,
        }
    }

    /// Whether the sink has no room for the message, as opposed to never taking such a message: a publisher that can be told sends it again
    /// later.
    pub(crate) const fn is_lack_of_room(self) -> bool {
        matches!(self, Self::Refusal(Refusal::TooManyTopics) | Self::SpoolFull)
    }

    /// The reason's row among the metrics.
    pub(crate) fn reason(self) -> RefusalReason {
        match self {
            Self::Absent(Absent::UserProperty) => RefusalReason::UserPropertyMissing,
            Self::Absent(Absent::PayloadPath) => RefusalReason::PayloadFieldMissing,
            Self::Absent(Absent::Time { .. }) => RefusalReason::TimestampInvalid,
            Self::Absent(Absent::Headers) => RefusalReason::HeadersInvalid,
            Self::Absent(Absent::Column) => RefusalReason::ColumnMissing,
            Self::RuleFailed(_) => RefusalReason::RuleFailed,
            Self::Refusal(Refusal::TooLarge) => RefusalReason::TooLarge,
            Self::Refusal(Refusal::TopicInvalid) => RefusalReason::TopicInvalid,
            Self::Refusal(Refusal::TopicUnknown) => RefusalReason::TopicUnknown,
            Self::Refusal(Refusal::TopicForbidden) => RefusalReason::TopicForbidden,
            Self::Refusal(Refusal::TooManyTopics) => RefusalReason::TooManyTopics,
            Self::SpoolFull => RefusalReason::SpoolFull,
        }
    }

    /// The reason's name in dead letters.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Absent(Absent::UserProperty) => "USER_PROPERTY_MISSING",
            Self::Absent(Absent::PayloadPath) => "PAYLOAD_PATH_MISSING",
            Self::Absent(Absent::Time { .. }) => "TIMESTAMP_INVALID",
            Self::Absent(Absent::Headers) => "HEADERS_INVALID",
            Self::Absent(Absent::Column) => "COLUMN_MISSING",
            Self::RuleFailed(_) => "RULE_FAILED",
            Self::Refusal(Refusal::TooLarge) => "TOO_LARGE",
            Self::Refusal(Refusal::TopicInvalid) => "TOPIC_INVALID",
            Self::Refusal(Refusal::TopicUnknown) => "TOPIC_UNKNOWN",
            Self::Refusal(Refusal::TopicForbidden) => "TOPIC_FORBIDDEN",
            Self::Refusal(Refusal::TooManyTopics) => "TOO_MANY_TOPICS",
            Self::SpoolFull => "SPOOL_FULL",
        }
    }
}
