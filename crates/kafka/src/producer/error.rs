//! The meaning of Kafka's error codes for a batch.
//!
//! Source: `org.apache.kafka.common.protocol.Errors`; which of them leave the batch in the log:
//! `ReplicaManager.appendRecords` (checks before the append) and `DelayedProduce` (what may come after it).

/// CORRUPT_MESSAGE.
pub(super) const CORRUPT: i16 = 2;
/// UNKNOWN_TOPIC_OR_PARTITION.
pub(super) const UNKNOWN_TOPIC: i16 = 3;
/// NETWORK_EXCEPTION: the code that Java's producer uses for an unanswered request.
pub(super) const NO_ANSWER: i16 = 13;
/// REQUEST_TIMED_OUT: followers did not answer in time.
pub(super) const TIMED_OUT: i16 = 7;
/// MESSAGE_TOO_LARGE.
pub(super) const TOO_LARGE: i16 = 10;
/// INVALID_TOPIC_EXCEPTION.
pub(super) const INVALID_TOPIC: i16 = 17;
/// TOPIC_AUTHORIZATION_FAILED.
pub(super) const FORBIDDEN: i16 = 29;
/// INVALID_TIMESTAMP.
pub(super) const INVALID_TIMESTAMP: i16 = 32;
/// UNKNOWN_TOPIC_ID.
pub(super) const UNKNOWN_TOPIC_ID: i16 = 100;

/// A broker's answer for one batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The batch is in the log.
    Done,
    /// Send it again, same identity.
    Again {
        /// Whether the leader may have changed.
        refresh: bool,
        /// Whether this attempt may have been appended.
        maybe_there: bool,
    },
    /// Send the batch again: there is no such topic, or not the intended one. The batch may have been appended before the topic went.
    NoTopic,
    /// 45: the sequence is not the one that the partition expects, or one that it has and no longer remembers.
    OutOfOrder,
    /// The partition knows a newer epoch of this id, or has forgotten the id: only a new epoch is taken.
    NewEpoch,
    /// The batch will never be taken in this form; this attempt was not appended.
    Refused(i16),
    /// The batch was sent as often as its sink allows, and must be refused.
    GivenUp {
        /// The answer to the last attempt.
        code: i16,
        /// Whether this attempt may have been appended.
        maybe_there: bool,
    },
}

/// Looks the code up. Unknown codes are held and tried again: a refusal is final.
pub(super) const fn verdict(code: i16) -> Verdict {
    const fn again(refresh: bool, maybe_there: bool) -> Verdict {
        Verdict::Again { refresh, maybe_there }
    }
    match code {
        // NONE; DUPLICATE_SEQUENCE_NUMBER: some servers answer it instead of 0 with the original offset.
        0 | 46 => Verdict::Done,
        // CORRUPT_MESSAGE (damaged in transit: see `corrupt`), NOT_ENOUGH_REPLICAS (before the append), OPERATION_NOT_ATTEMPTED,
        // THROTTLING_QUOTA_EXCEEDED.
        CORRUPT | 19 | 55 | 89 => again(false, false),
        // LEADER_NOT_AVAILABLE, FENCED_LEADER_EPOCH, UNKNOWN_LEADER_EPOCH, ELIGIBLE_LEADERS_NOT_AVAILABLE.
        5 | 74 | 75 | 83 => again(true, false),
        // UNKNOWN_TOPIC_OR_PARTITION, NOT_LEADER_OR_FOLLOWER, BROKER_NOT_AVAILABLE, REPLICA_NOT_AVAILABLE,
        // NETWORK_EXCEPTION, KAFKA_STORAGE_ERROR, LISTENER_NOT_FOUND, UNKNOWN_TOPIC_ID, INCONSISTENT_TOPIC_ID: answered
        // also for a batch that was appended and then waited for followers while the partition was removed.
        UNKNOWN_TOPIC | UNKNOWN_TOPIC_ID => Verdict::NoTopic,
        6 | 8 | 9 | 13 | 56 | 72 | 103 => again(true, true),
        // REQUEST_TIMED_OUT, NOT_ENOUGH_REPLICAS_AFTER_APPEND: appended at the leader.
        TIMED_OUT | 20 => again(false, true),
        45 => Verdict::OutOfOrder,
        // INVALID_PRODUCER_EPOCH, INVALID_PRODUCER_ID_MAPPING, UNKNOWN_PRODUCER_ID, PRODUCER_FENCED.
        47 | 49 | 59 | 90 => Verdict::NewEpoch,
        // MESSAGE_TOO_LARGE, INVALID_TOPIC_EXCEPTION, RECORD_LIST_TOO_LARGE, INVALID_REQUIRED_ACKS,
        // TOPIC_AUTHORIZATION_FAILED, CLUSTER_AUTHORIZATION_FAILED, INVALID_TIMESTAMP, UNSUPPORTED_VERSION,
        // INVALID_REQUEST, UNSUPPORTED_FOR_MESSAGE_FORMAT, POLICY_VIOLATION, TRANSACTIONAL_ID_AUTHORIZATION_FAILED,
        // UNSUPPORTED_COMPRESSION_TYPE, INVALID_RECORD.
        TOO_LARGE | INVALID_TOPIC | 18 | 21 | FORBIDDEN | 31 | INVALID_TIMESTAMP | 35 | 42 | 43 | 44 | 53 | 76 | 87 => {
            Verdict::Refused(code)
        }
        // UNKNOWN_SERVER_ERROR (−1) and all others.
        _ => again(true, true),
    }
}

/// Whether a refusal may be about some records of the batch only: then the batch is split, and only a
/// single record is refused (CORRUPT_MESSAGE, MESSAGE_TOO_LARGE, RECORD_LIST_TOO_LARGE, INVALID_TIMESTAMP, INVALID_RECORD).
pub(super) const fn is_about_records(code: i16) -> bool {
    matches!(code, CORRUPT | TOO_LARGE | 18 | INVALID_TIMESTAMP | 87)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_have_been_appended_is_never_called_not_appended() {
        // P6: these codes are sent after the append.
        for code in [-1, 6, 7, 20, 56, 9999] {
            assert!(matches!(verdict(code), Verdict::Again { maybe_there: true, .. }), "{code}");
        }
        assert_eq!((verdict(3), verdict(100)), (Verdict::NoTopic, Verdict::NoTopic));
        for code in [2, 5, 19, 89] {
            assert!(matches!(verdict(code), Verdict::Again { maybe_there: false, .. }), "{code}");
        }
    }

    #[test]
    fn refusals_keep_their_code() {
        for code in [10, 17, 29, 32, 87] {
            assert_eq!(verdict(code), Verdict::Refused(code));
        }
    }
}
