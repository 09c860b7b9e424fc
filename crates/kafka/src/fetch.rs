//! Requests and answers between the consumer and the wire client. Plain data; no socket, no clock.

use std::ops::Range;
use std::rc::Rc;

use super::types::NodeId;

/// `Purpose` is what a connection for reading is used for. Isolation applies to a whole Fetch, so each level has its own connection;
/// offsets are requested over a connection on which no Fetch waits for records.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Purpose {
    /// Fetch up to the last stable offset (`read_committed`).
    Committed,
    /// Fetch up to the high watermark (`read_uncommitted`).
    All,
    /// ListOffsets and OffsetForLeaderEpoch.
    Offsets,
}

/// `ReadWay` names a connection for reading: one broker, one purpose, one line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ReadWay {
    /// The broker.
    pub node: NodeId,
    /// The purpose of the connection.
    pub purpose: Purpose,
    /// Separates consumers of one client, since a Fetch that waits for records would delay those of others. 0 is the line of sources.
    pub line: u8,
}

/// `FetchCall` is a request of the consumer to one broker. Each is answered once.
#[derive(Clone, Debug)]
pub struct FetchCall {
    /// The consumer's number for the call, never used twice; comes back with the answer.
    pub id: u64,
    /// The connection to use.
    pub way: ReadWay,
    /// Whether a new connection is made for the call: an answer over the old one could not be read.
    pub is_fresh: bool,
    /// The request.
    pub ask: FetchAsk,
}

/// `FetchAsk` is the content of a [`FetchCall`].
#[derive(Clone, Debug)]
pub enum FetchAsk {
    /// Fetch.
    Fetch(Fetch),
    /// ListOffsets: `at` is a timestamp in ms, [`EARLIEST`] or [`LATEST`]; the flag: whether only committed records count. Partitions of
    /// one topic are adjacent, here and below.
    Offsets(Vec<OffsetAsk>, bool),
    /// OffsetForLeaderEpoch: `at` is an epoch, the answer is its end (KIP-320).
    EpochEnds(Vec<OffsetAsk>),
}

/// The timestamp that requests the start of a log.
pub const EARLIEST: i64 = -2;
/// The timestamp that requests the end of a log.
pub const LATEST: i64 = -1;

/// `Fetch` asks for records.
#[derive(Clone, Debug)]
pub struct Fetch {
    /// Session id and epoch (KIP-227); (0, 0) asks for a new session.
    pub session: (i32, i32),
    /// Whether topics are named by id, if the broker supports that; else by name.
    pub is_by_id: bool,
    /// How long the broker waits for a first byte, in ms.
    pub max_wait_ms: i32,
    /// Bytes of records requested; the first batch may be larger.
    pub bytes_max: i32,
    /// The longest accepted answer.
    pub answer_bytes_max: usize,
    /// Partitions that are new in the session, or requested at another offset than before; partitions of one topic are adjacent.
    pub partitions: Vec<FetchFrom>,
    /// Partitions that leave the session.
    pub forgotten: Vec<(Rc<str>, u128, i32)>,
}

/// `FetchFrom` is one partition of a [`Fetch`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FetchFrom {
    /// Topic.
    pub topic: Rc<str>,
    /// The topic's id; 0: not known.
    pub topic_id: u128,
    /// Partition index.
    pub partition: i32,
    /// The leader's epoch as metadata has it; -1: not known.
    pub leader_epoch: i32,
    /// The first offset requested.
    pub offset: i64,
    /// Bytes of the partition's records requested.
    pub bytes_max: i32,
}

/// `OffsetAsk` is one partition of a request for offsets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OffsetAsk {
    /// Topic.
    pub topic: Rc<str>,
    /// Partition index.
    pub partition: i32,
    /// The leader's epoch as metadata has it; -1: not known.
    pub leader_epoch: i32,
    /// A timestamp, or an epoch.
    pub at: i64,
}

/// `FetchAnswer` is a broker's answer to a [`FetchCall`].
#[derive(Debug)]
pub enum FetchAnswer {
    /// The answer to a [`Fetch`].
    Fetched(Fetched),
    /// The answer to the other calls: one element for each partition, in the order requested.
    Offsets(Vec<OffsetFound>),
}

/// `OffsetFound` is the answer for one partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OffsetFound {
    /// Kafka error code; -1 for a partition that is missing in the answer.
    pub error: i16,
    /// The offset; -1: there is none.
    pub offset: i64,
    /// The epoch of the leader that wrote the record there, or the epoch that ends there; -1: not known.
    pub leader_epoch: i32,
}

impl OffsetFound {
    /// No answer for the partition.
    pub const MISSING: Self = Self { error: -1, offset: -1, leader_epoch: -1 };
}

/// `Fetched` is the answer to a Fetch: the received frame, and the positions of its parts.
#[derive(Debug, Default)]
pub struct Fetched {
    /// The frame, without its length.
    pub frame: Vec<u8>,
    /// Kafka error code of the whole answer.
    pub error: i16,
    /// The session; 0: none.
    pub session_id: i32,
    /// The partitions that the answer reports.
    pub partitions: Vec<FetchedPartition>,
}

/// `FetchedPartition` is one partition of an answer, as received and not validated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FetchedPartition {
    /// The topic's id; 0: the topic is named by name.
    pub topic_id: u128,
    /// The topic's name within the frame; empty if the topic is named by id.
    pub topic: Range<usize>,
    /// Partition index.
    pub partition: i32,
    /// Kafka error code.
    pub error: i16,
    /// The offset after the last record that is replicated.
    pub high_watermark: i64,
    /// The offset before which no transaction is open; -1: not reported.
    pub last_stable_offset: i64,
    /// Producer id and first offset of each aborted transaction that has records here.
    pub aborted: Vec<(i64, i64)>,
    /// The batches within the frame; the last may be cut short.
    pub records: Range<usize>,
}

/// `FetchFailure` is why a [`FetchCall`] has no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FetchFailure {
    /// The broker is unknown, cannot be reached, or has not answered in time.
    Lost,
    /// The answer announces this many bytes, more than are accepted.
    TooLarge(usize),
    /// The answer does not add up.
    Malformed,
    /// The broker does not support the call.
    NotSpoken,
}
