//! Names of Kafka topics. A literal name is checked when it is configured, a name that a template makes of a device's message
//! each time: Kafka refuses a bad one with INVALID_TOPIC_EXCEPTION (17), long after the publisher was answered.

/// The longest name, in bytes (Kafka: `Topic.MAX_NAME_LENGTH`; a directory is named `<topic>-<partition>`).
pub const KAFKA_TOPIC_BYTES_MAX: usize = 249;

/// Why Kafka would refuse a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KafkaTopicError {
    /// The name is empty.
    #[error("is empty")]
    Empty,
    /// The name is longer than [`KAFKA_TOPIC_BYTES_MAX`].
    #[error("has {0} bytes; Kafka takes at most 249")]
    TooLong(usize),
    /// `.` and `..` are directories.
    #[error("must not be `.` or `..`")]
    Dots,
    /// A byte that is not a legal character.
    #[error("has `{}` at byte {at}; Kafka allows letters, digits, `.`, `_` and `-`", byte.escape_ascii())]
    Character {
        /// The first such byte.
        byte: u8,
        /// The offset of that byte.
        at: usize,
    },
}

/// Whether a character is legal in a name.
#[must_use]
pub fn is_legal(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-')
}

/// Checks a name, and returns it as text.
///
/// # Errors
/// The first reason for which Kafka would refuse the name.
pub fn kafka_topic(name: &[u8]) -> Result<&str, KafkaTopicError> {
    match name {
        [] => Err(KafkaTopicError::Empty),
        b"." | b".." => Err(KafkaTopicError::Dots),
        _ if name.len() > KAFKA_TOPIC_BYTES_MAX => Err(KafkaTopicError::TooLong(name.len())),
        _ => match name.iter().position(|byte| !is_legal(char::from(*byte))) {
            Some(at) => Err(KafkaTopicError::Character { byte: name[at], at }),
            // Only ASCII is left, so this is always text.
            None => Ok(std::str::from_utf8(name).unwrap_or_default()),
        },
    }
}

/// Whether Kafka takes this as the name of a topic (`org.apache.kafka.common.internals.Topic.validate`).
#[must_use]
pub fn is_valid(name: &str) -> bool {
    kafka_topic(name.as_bytes()).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        for good in ["a", "A.b_c-9", "...", &"x".repeat(249)] {
            assert_eq!(kafka_topic(good.as_bytes()), Ok(good));
            assert!(is_valid(good), "{good}");
        }
        for bad in ["", ".", "..", "a/b", "ä", "a b", "a\0", &"x".repeat(250)] {
            assert!(!is_valid(bad), "{bad}");
        }
        assert_eq!(kafka_topic(b""), Err(KafkaTopicError::Empty));
        assert_eq!(kafka_topic(b".."), Err(KafkaTopicError::Dots));
        assert_eq!(kafka_topic(&[b'x'; 250]), Err(KafkaTopicError::TooLong(250)));
        assert_eq!(kafka_topic(b"a/b"), Err(KafkaTopicError::Character { byte: b'/', at: 1 }));
        assert_eq!(kafka_topic("é".as_bytes()), Err(KafkaTopicError::Character { byte: 0xc3, at: 0 }));
    }
}
