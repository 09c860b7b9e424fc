//! Kafka error codes that the embedded log answers with, by their names in Kafka's protocol guide.

/// OFFSET_OUT_OF_RANGE.
pub(crate) const OFFSET_OUT_OF_RANGE: i16 = 1;
/// CORRUPT_MESSAGE: the batch's CRC or its lengths are wrong.
pub(crate) const CORRUPT_MESSAGE: i16 = 2;
/// UNKNOWN_TOPIC_OR_PARTITION.
pub(crate) const UNKNOWN_TOPIC_OR_PARTITION: i16 = 3;
/// MESSAGE_TOO_LARGE (RECORD_TOO_LARGE in older texts).
pub(crate) const MESSAGE_TOO_LARGE: i16 = 10;
/// COORDINATOR_NOT_AVAILABLE: the log stops, or the disk refused; also for transactions, which are not supported.
pub(crate) const COORDINATOR_NOT_AVAILABLE: i16 = 15;
/// OFFSET_METADATA_TOO_LARGE.
pub(crate) const OFFSET_METADATA_TOO_LARGE: i16 = 12;
/// INVALID_TOPIC_EXCEPTION.
pub(crate) const INVALID_TOPIC: i16 = 17;
/// INVALID_REQUIRED_ACKS.
pub(crate) const INVALID_REQUIRED_ACKS: i16 = 21;
/// ILLEGAL_GENERATION: the group has gone on.
pub(crate) const ILLEGAL_GENERATION: i16 = 22;
/// INCONSISTENT_GROUP_PROTOCOL.
pub(crate) const INCONSISTENT_GROUP_PROTOCOL: i16 = 23;
/// INVALID_GROUP_ID.
pub(crate) const INVALID_GROUP_ID: i16 = 24;
/// UNKNOWN_MEMBER_ID.
pub(crate) const UNKNOWN_MEMBER_ID: i16 = 25;
/// INVALID_SESSION_TIMEOUT.
pub(crate) const INVALID_SESSION_TIMEOUT: i16 = 26;
/// REBALANCE_IN_PROGRESS.
pub(crate) const REBALANCE_IN_PROGRESS: i16 = 27;
/// INVALID_COMMIT_OFFSET_SIZE: more committed offsets than this log keeps.
pub(crate) const INVALID_COMMIT_OFFSET_SIZE: i16 = 28;
/// INVALID_TIMESTAMP: further ahead of the broker's clock than allowed.
pub(crate) const INVALID_TIMESTAMP: i16 = 32;
/// UNSUPPORTED_VERSION.
pub(crate) const UNSUPPORTED_VERSION: i16 = 35;
/// TOPIC_ALREADY_EXISTS.
pub(crate) const TOPIC_ALREADY_EXISTS: i16 = 36;
/// INVALID_PARTITIONS.
pub(crate) const INVALID_PARTITIONS: i16 = 37;
/// INVALID_REPLICATION_FACTOR.
pub(crate) const INVALID_REPLICATION_FACTOR: i16 = 38;
/// INVALID_REPLICA_ASSIGNMENT.
pub(crate) const INVALID_REPLICA_ASSIGNMENT: i16 = 39;
/// INVALID_CONFIG.
pub(crate) const INVALID_CONFIG: i16 = 40;
/// INVALID_REQUEST.
pub(crate) const INVALID_REQUEST: i16 = 42;
/// POLICY_VIOLATION: a bound of this server.
pub(crate) const POLICY_VIOLATION: i16 = 44;
/// OUT_OF_ORDER_SEQUENCE_NUMBER.
pub(crate) const OUT_OF_ORDER_SEQUENCE: i16 = 45;
/// INVALID_PRODUCER_EPOCH.
pub(crate) const INVALID_PRODUCER_EPOCH: i16 = 47;
/// INVALID_TXN_STATE: transactions are not supported.
pub(crate) const INVALID_TXN_STATE: i16 = 48;
/// KAFKA_STORAGE_ERROR: the disk under the partition failed.
pub(crate) const STORAGE_ERROR: i16 = 56;
/// NON_EMPTY_GROUP.
pub(crate) const NON_EMPTY_GROUP: i16 = 68;
/// GROUP_ID_NOT_FOUND.
pub(crate) const GROUP_ID_NOT_FOUND: i16 = 69;
/// FETCH_SESSION_ID_NOT_FOUND: every fetch is answered without a session (KIP-227 allows that).
pub(crate) const FETCH_SESSION_ID_NOT_FOUND: i16 = 70;
/// UNKNOWN_LEADER_EPOCH.
pub(crate) const UNKNOWN_LEADER_EPOCH: i16 = 75;
/// UNSUPPORTED_COMPRESSION_TYPE.
pub(crate) const UNSUPPORTED_COMPRESSION_TYPE: i16 = 76;
/// MEMBER_ID_REQUIRED: join again with the id in this answer.
pub(crate) const MEMBER_ID_REQUIRED: i16 = 79;
/// GROUP_MAX_SIZE_REACHED.
pub(crate) const GROUP_MAX_SIZE_REACHED: i16 = 81;
/// INVALID_RECORD: the batch does not match its header, or there is more than one for a partition.
pub(crate) const INVALID_RECORD: i16 = 87;
/// MISMATCHED_ENDPOINT_TYPE: a broker was asked as if it were a controller.
pub(crate) const MISMATCHED_ENDPOINT_TYPE: i16 = 114;
/// UNKNOWN_TOPIC_ID.
pub(crate) const UNKNOWN_TOPIC_ID: i16 = 100;
