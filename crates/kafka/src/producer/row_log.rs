//! The log of a producer with sinks that have a disk buffer: rows, the promise of each batch, and how both ended. The
//! producer calls a [`RowLog`] only from inside [`super::Producer::poll_with`]; `buffer/` has the implementation on the spool.
//! No call waits for the disk: an entry is durable when [`RowLog::durable`] has reached the group that took it.
//!
//! Rows are named by lane and number. A lane is one sink, topic and partition; a number is used once in its lane.

use crate::types::{SinkId, Ticket};
use forebay_record::Record;
pub use forebay_record::stored::{Known, NO_BATCH, Origin, RowRun, RowSet, UNPLACED};
use forebay_runtime::seam::Monotonic;

/// New rows for the log, from a batch that grows.
#[derive(Clone, Copy, Debug)]
pub struct NewRows<'a> {
    /// The lane of the rows.
    pub lane: u64,
    /// Encoded v2 records, end to end, without a batch's header. Their offset deltas need not begin at 0.
    pub records: &'a [u8],
    /// Base of the timestamp deltas.
    pub base_timestamp: i64,
    /// The number of rows.
    pub count: u32,
    /// Open packet ids, by index of the row (0: the first of these rows).
    pub origins: &'a [(u32, Origin)],
    /// Expiry of rows, by index; rows that never expire are not listed.
    pub deadlines: &'a [(u32, Monotonic)],
    /// Hashes that replace the key's ([`super::Partitioner::Hash`]), by index.
    pub hashes: &'a [(u32, u32)],
    /// Lower bound of the first row's number. A topic's rows that follow rows of another of its lanes, some of which may have
    /// the same key, get higher numbers than all of those.
    pub from: u64,
}

/// The promise of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NewCut<'a> {
    /// The sink.
    pub sink: SinkId,
    /// The topic.
    pub topic: &'a str,
    /// The topic's known incarnation.
    pub of: Known<'a>,
    /// The partition of the batch; its rows' lane may be of another one, or of none.
    pub partition: i32,
    /// Producer id, or [`NO_BATCH`]: such a cut may be open beside any others of its partition.
    pub producer_id: i64,
    /// Producer epoch.
    pub epoch: i16,
    /// Sequence of the first record.
    pub sequence: i32,
    /// Whether the records are sent without their timestamps, which the log has: Kafka may forget the writer of such a batch at any time.
    pub timeless: bool,
    /// Lane of its rows.
    pub lane: u64,
    /// The batch's rows, in their order in the batch.
    pub rows: &'a [RowRun],
}

/// A cut that was taken: its batch may be sent when `group` is durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "a batch is sent only when its cut is on the disk"]
pub struct TakenCut {
    /// The number of the cut.
    pub cut: u64,
    /// The group that holds it.
    pub group: u64,
}

/// How rows ended, or a cut together with its rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// In Kafka, at this offset (-1: not known).
    Done {
        /// Offset of the batch's first record.
        base_offset: i64,
    },
    /// Refused permanently; the publisher has got the error.
    Refused,
    /// In the sink's dead letters.
    DeadLettered,
    /// Too old.
    Expired,
    /// The rows' bytes can no longer be read.
    Rotten,
    /// The cut is void; its rows live on and are cut again later.
    Void,
}

/// Ended rows, or an ended cut.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended<'a> {
    /// The cut; `None`: rows without one.
    pub cut: Option<u64>,
    /// Lane of the rows.
    pub lane: u64,
    /// The rows; all rows of the cut if there is one.
    pub rows: &'a [RowRun],
    /// How they ended.
    pub fate: Fate,
}

/// The log took nothing; the caller tries again at a later poll. (Room is checked before a row is taken.)
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the log takes nothing now")]
pub struct NotNow;

/// A row read back.
#[derive(Clone, Debug)]
pub struct LoggedRow<'a> {
    /// The number of the row.
    pub number: u64,
    /// Its record: timestamp, key, and the encoded tail.
    pub record: Record<'a>,
    /// When it expires, or [`Monotonic::NEVER`].
    pub expires: Monotonic,
    /// The hash for [`super::Partitioner::Hash`].
    pub hash: Option<u32>,
    /// The ticket of an earlier process's row, if its publisher still waits for the acknowledgement: a message of QoS 2.
    pub ticket: Option<Ticket>,
}

/// The result of a read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadBack {
    /// Contiguous rows were returned; more may follow.
    Rows,
    /// The rows are being read from disk; the caller asks again at a later poll, which is certain to come.
    Later,
    /// These rows can no longer be read. The producer ends them ([`Fate::Rotten`]).
    Rotten(RowRun),
    /// No live row exists from that number up to the requested end.
    Empty,
}

/// The log that a producer writes to before it acts.
pub trait RowLog {
    /// The lane of a sink, topic and partition ([`UNPLACED`]: none), created if it is new. `of`: the incarnation by which its rows get
    /// partitions.
    ///
    /// # Errors
    /// [`NotNow`].
    fn lane(&mut self, sink: SinkId, topic: &str, partition: i32, of: Known<'_>) -> Result<u64, NotNow>;

    /// Takes rows, all of them or none. Returns the number of the first; their group is [`RowLog::group`].
    ///
    /// # Errors
    /// [`NotNow`].
    fn rows(&mut self, rows: &NewRows<'_>) -> Result<u64, NotNow>;

    /// Notes that every row taken so far was written, or has ended unwritten (except some of sinks that go to memory first).
    fn all_written(&mut self);

    /// Takes a cut. Its rows must have been taken before, and so must the entries that precede it (S2): the end of the batch five
    /// before it, and of every batch of an earlier identity.
    ///
    /// # Errors
    /// [`NotNow`].
    fn cut(&mut self, cut: &NewCut<'_>) -> Result<TakenCut, NotNow>;

    /// Takes the end of rows or of a cut.
    ///
    /// # Errors
    /// [`NotNow`].
    fn ended(&mut self, ended: &Ended<'_>) -> Result<(), NotNow>;

    /// The group being gathered, which holds everything taken now.
    fn group(&self) -> u64;

    /// The last durable group; all groups up to it are durable, too.
    fn durable(&self) -> u64;

    /// Passes the first contiguous live rows of a lane from `from` up to `end` (exclusive) to `take`, in order, until it returns
    /// `false` (that row was not taken).
    fn read(&mut self, lane: u64, from: u64, end: u64, take: &mut dyn FnMut(LoggedRow<'_>) -> bool) -> ReadBack;

    /// Passes the pending tickets of an earlier process's rows of a lane ([`LoggedRow::ticket`]) to `take`: for rows that will not
    /// be read any more.
    fn owed(&mut self, lane: u64, rows: RowRun, take: &mut dyn FnMut(Ticket));
}

/// A cut of an earlier process that is neither done nor ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RestoredCut {
    /// The number of the cut.
    pub cut: u64,
    /// The id of the cluster that the batch went to; empty: not known.
    pub cluster: String,
    /// Kafka's id of the topic; 0: not known.
    pub topic_id: u128,
    /// The partition of the batch.
    pub partition: i32,
    /// Producer id.
    pub producer_id: i64,
    /// Producer epoch.
    pub epoch: i16,
    /// Sequence of the first record.
    pub sequence: i32,
    /// Whether the records are sent without their timestamps, which the log has: Kafka may forget the writer of such a batch at any time.
    pub timeless: bool,
    /// Lane of its rows.
    pub lane: u64,
    /// The rows of the cut.
    pub rows: Vec<RowRun>,
}

impl RestoredCut {
    /// Whether the cut is a batch, which may have been sent; otherwise its rows only go first ([`NO_BATCH`]).
    #[must_use]
    pub const fn is_batch(&self) -> bool {
        self.producer_id != NO_BATCH
    }
}

/// Live rows of a lane that an earlier process left, rows of cuts included.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RestoredLane {
    /// The sink.
    pub sink: SinkId,
    /// The topic.
    pub topic: String,
    /// The partition, or [`UNPLACED`].
    pub partition: i32,
    /// The id of the cluster in the incarnation by which these rows got their partitions; empty: not known.
    pub cluster: String,
    /// The topic's id in that incarnation; 0: not known.
    pub topic_id: u128,
    /// The number of partitions in that incarnation; 0: not known.
    pub partitions: u32,
    /// Offset after the last batch of these rows that Kafka has acknowledged.
    pub landed: Option<i64>,
    /// The lane.
    pub lane: u64,
    /// Number of the first live row.
    pub first: u64,
    /// One past the number of the last live row.
    pub end: u64,
    /// The number of live rows between them.
    pub rows: u64,
    /// The position of the first row in the log. The producer orders by numbers ([`NewRows::from`]), not by this.
    pub order: u64,
}

/// The log of a producer without sinks that have a disk buffer.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoLog;

impl RowLog for NoLog {
    fn lane(&mut self, _: SinkId, _: &str, _: i32, _: Known<'_>) -> Result<u64, NotNow> {
        Err(NotNow)
    }
    fn rows(&mut self, _: &NewRows<'_>) -> Result<u64, NotNow> {
        Err(NotNow)
    }
    fn all_written(&mut self) {}
    fn cut(&mut self, _: &NewCut<'_>) -> Result<TakenCut, NotNow> {
        Err(NotNow)
    }
    fn ended(&mut self, _: &Ended<'_>) -> Result<(), NotNow> {
        Err(NotNow)
    }
    fn group(&self) -> u64 {
        0
    }
    fn durable(&self) -> u64 {
        0
    }
    fn read(&mut self, _: u64, _: u64, _: u64, _: &mut dyn FnMut(LoggedRow<'_>) -> bool) -> ReadBack {
        ReadBack::Empty
    }
    fn owed(&mut self, _: u64, _: RowRun, _: &mut dyn FnMut(Ticket)) {}
}
