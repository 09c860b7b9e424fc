//! What the consumer and the wire client say to each other. Plain data; no socket, no clock.

use std::ops::Range;
use std::rc::Rc;

use super::types::NodeId;

/// `Purpose` is what a connection for reading is for. Isolation belongs to a whole Fetch, so each has its own; offsets are asked for where no Fetch
/// waits for records.
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
    /// What it is for.
    pub purpose: Purpose,
    /// Keeps consumers of one client apart, as a Fetch that waits for records would delay those of others. 0 is that of sources.
    pub line: u8,
}

/// `FetchCall` is a request of the consumer to one broker. Each is answered once.
#[derive(Clone, Debug)]
pub struct FetchCall {
    /// The consumer's number for it, never used twice; comes back with the answer.
    pub id: u64,
    /// The connection that it goes over.
    pub way: ReadWay,
    /// Whether a new connection is made for it: what came over the old one could not be read.
    pub is_fresh: bool,
    /// The request.
    pub ask: FetchAsk,
}

/// `FetchAsk` is the content of a [`FetchCall`].
#[derive(Clone, Debug)]
pub enum FetchAsk {
    /// Fetch.
    Fetch(Fetch),
    /// ListOffsets: `at` is a timestamp in ms, [`EARLIEST`] or [`LATEST`]; whether only what is committed counts. Partitions of one topic
    /// stand together, here and below.
    Offsets(Vec<OffsetAsk>, bool),
    /// OffsetForLeaderEpoch: `at` is an epoch, the answer its end (KIP-320).
    EpochEnds(Vec<OffsetAsk>),
}

/// The timestamp that asks where a log begins.
pub const EARLIEST: i64 = -2;
/// The timestamp that asks where a log ends.
pub const LATEST: i64 = -1;

/// `Fetch` asks for records.
#[derive(Clone, Debug)]
pub struct Fetch {
    /// Session id and epoch (KIP-227); (0, 0) asks for a new session.
    pub session: (i32, i32),
    /// Whether topics go by id, if the broker takes them so; else by name.
    pub is_by_id: bool,
    /// How long the broker waits for a first byte, in ms.
    pub max_wait_ms: i32,
    /// Bytes of records that are asked for; the first batch may be larger.
    pub bytes_max: i32,
    /// The longest answer that is taken.
    pub answer_bytes_max: usize,
    /// Partitions that are new in the session, or asked for at another offset than before; partitions of one topic stand together.
    pub partitions: Vec<FetchFrom>,
    /// Partitions that leave the session.
    pub forgotten: Vec<(Rc<str>, u128, i32)>,
}

/// `FetchFrom` is one partition of a [`Fetch`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FetchFrom {
    /// Topic.
    pub topic: Rc<str>,
    /// Its id; 0: not known.
    pub topic_id: u128,
    /// Partition index.
    pub partition: i32,
    /// The leader's epoch as metadata has it; -1: not known.
    pub leader_epoch: i32,
    /// The first offset that is wanted.
    pub offset: i64,
    /// Bytes of its records that are asked for.
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
    /// Of a [`Fetch`].
    Fetched(Fetched),
    /// Of the others: one for each partition, in the order asked.
    Offsets(Vec<OffsetFound>),
}

/// `OffsetFound` is the answer for one partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OffsetFound {
    /// Kafka error code; -1 for a partition that the answer does not have.
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

/// `Fetched` is the answer to a Fetch: the frame as it came, and where in it what is.
#[derive(Debug, Default)]
pub struct Fetched {
    /// The frame, without its length.
    pub frame: Vec<u8>,
    /// Kafka error code of the whole.
    pub error: i16,
    /// The session; 0: there is none.
    pub session_id: i32,
    /// The partitions that the broker has news of.
    pub partitions: Vec<FetchedPartition>,
}

/// `FetchedPartition` is one partition of an answer: what the bytes say, not what is true.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FetchedPartition {
    /// The topic's id; 0: it goes by name.
    pub topic_id: u128,
    /// The topic's name within the frame; empty where it goes by id.
    pub topic: Range<usize>,
    /// Partition index.
    pub partition: i32,
    /// Kafka error code.
    pub error: i16,
    /// The offset after the last record that is replicated.
    pub high_watermark: i64,
    /// The offset before which no transaction is open; -1: not said.
    pub last_stable_offset: i64,
    /// Producer id and first offset of each aborted transaction that has records here.
    pub aborted: Vec<(i64, i64)>,
    /// The batches within the frame; the last may be cut short.
    pub records: Range<usize>,
}

/// `FetchFailure` is why a [`FetchCall`] has no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FetchFailure {
    /// The broker is not known or cannot be reached, or has not answered in time.
    Lost,
    /// The answer says that it has this many bytes, more than were to be taken.
    TooLarge(usize),
    /// The answer does not add up.
    Malformed,
    /// The broker does not know the call.
    NotSpoken,
}
