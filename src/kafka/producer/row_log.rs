//! What a producer writes down before it acts on it, for sinks with a disk buffer: rows, the promise of each batch, and
//! what became of both. The producer calls a [`RowLog`] from inside [`super::Producer::poll_with`] only; `buffer/`
//! has the one that stands on the spool. Nothing here waits for the disk: what was taken is durable when
//! [`RowLog::durable`] has reached the group it was taken into.
//!
//! Rows are named by lane and number. A lane is one sink, topic and partition; a row's number in it is given once.

use crate::kafka::types::{SinkId, Ticket};
use crate::record::Record;
pub use crate::record::stored::{Known, NO_BATCH, Origin, RowRun, RowSet, UNPLACED};
use crate::runtime::seam::Monotonic;

/// Rows to be written down, as they stand in a batch that grows.
#[derive(Clone, Copy, Debug)]
pub struct NewRows<'a> {
    /// The lane of the rows.
    pub lane: u64,
    /// Encoded v2 records, end to end, without a batch's header. Their offset deltas need not begin at 0.
    pub records: &'a [u8],
    /// What their timestamp deltas count from.
    pub base_timestamp: i64,
    /// The number of rows.
    pub count: u32,
    /// Open packet ids, by index of the row (0: the first of these).
    pub origins: &'a [(u32, Origin)],
    /// When a row expires, by index; those that never do are not listed.
    pub deadlines: &'a [(u32, Monotonic)],
    /// What stands in for a key's hash ([`super::Partitioner::Hash`]), by index.
    pub hashes: &'a [(u32, u32)],
    /// The first gets this number or a higher one: rows of a topic that come after those of another of its lanes, of
    /// which some may have the same key, have higher numbers than all of those.
    pub from: u64,
}

/// The promise of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NewCut<'a> {
    /// The sink.
    pub sink: SinkId,
    /// The topic.
    pub topic: &'a str,
    /// The topic as it is known.
    pub of: Known<'a>,
    /// The partition it goes to; its rows' lane may be of another one, or of none.
    pub partition: i32,
    /// Producer id, or [`NO_BATCH`]: such a cut may be open beside any others of its partition.
    pub producer_id: i64,
    /// Producer epoch.
    pub epoch: i16,
    /// Sequence of the first record.
    pub sequence: i32,
    /// Its records go without their times, which the log has: Kafka may forget who wrote such a batch at any time.
    pub timeless: bool,
    /// Lane of its rows.
    pub lane: u64,
    /// Its rows, in the order in which they stand in the batch.
    pub rows: &'a [RowRun],
}

/// A cut that was taken: its batch may be sent when `group` is durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "a batch is sent only when its cut is on the disk"]
pub struct TakenCut {
    /// The number of the cut.
    pub cut: u64,
    /// The group it stands in.
    pub group: u64,
}

/// What became of rows, or of a cut and with it of its rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// In Kafka, at this offset (-1: not known).
    Done {
        /// Offset of the batch's first record.
        base_offset: i64,
    },
    /// Refused for good, and told so.
    Refused,
    /// In the sink's dead letters.
    DeadLettered,
    /// Too old.
    Expired,
    /// Their bytes cannot be read any more.
    Rotten,
    /// The cut is ended; its rows live on and wait for another one.
    Void,
}

/// Something that has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended<'a> {
    /// The cut; `None`: rows without one.
    pub cut: Option<u64>,
    /// Lane of the rows.
    pub lane: u64,
    /// The rows, all those of the cut if there is one.
    pub rows: &'a [RowRun],
    /// What became of them.
    pub fate: Fate,
}

/// Nothing was taken, for now: again at a later poll. (Whether there is room at all is asked before a row is taken.)
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
    /// For [`super::Partitioner::Hash`].
    pub hash: Option<u32>,
    /// The publisher's ticket, if it still waits for the row of an earlier process: a message of QoS 2.
    pub ticket: Option<Ticket>,
}

/// What came of reading.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadBack {
    /// Rows were handed over, those that are contiguous; more may follow.
    Rows,
    /// The disk has been asked: again at a later poll, which will come.
    Later,
    /// These rows cannot be read any more. The producer ends them ([`Fate::Rotten`]).
    Rotten(RowRun),
    /// There is no live row from that number up to the end asked for.
    Empty,
}

/// The log that a producer writes to before it acts.
pub trait RowLog {
    /// The lane of a sink, topic and partition ([`UNPLACED`]: none), made if it is new. `of`: what rows get partitions by.
    ///
    /// # Errors
    /// [`NotNow`].
    fn lane(&mut self, sink: SinkId, topic: &str, partition: i32, of: Known<'_>) -> Result<u64, NotNow>;

    /// Takes rows, all of them or none. The number of the first; the group they stand in is [`RowLog::group`].
    ///
    /// # Errors
    /// [`NotNow`].
    fn rows(&mut self, rows: &NewRows<'_>) -> Result<u64, NotNow>;

    /// Every row that was taken so far was written, or has ended without (but for some of sinks that go to memory first).
    fn all_written(&mut self);

    /// Takes a cut. Its rows were taken before, and whatever has to stand before it (S2: the end of the batch five before
    /// it, of every batch of an earlier identity) too.
    ///
    /// # Errors
    /// [`NotNow`].
    fn cut(&mut self, cut: &NewCut<'_>) -> Result<TakenCut, NotNow>;

    /// Takes the end of rows or of a cut.
    ///
    /// # Errors
    /// [`NotNow`].
    fn ended(&mut self, ended: &Ended<'_>) -> Result<(), NotNow>;

    /// The group that is being gathered: what is taken now stands in it.
    fn group(&self) -> u64;

    /// All groups up to this one are durable.
    fn durable(&self) -> u64;

    /// Hands the first live rows of a lane from `from` up to `end` (exclusive) to `take`, in order, as far as they stand
    /// together, until it returns `false` (that row was not taken).
    fn read(&mut self, lane: u64, from: u64, end: u64, take: &mut dyn FnMut(LoggedRow<'_>) -> bool) -> ReadBack;

    /// Hands over the tickets that still wait for such rows of a lane, though the rows are an earlier process's
    /// ([`LoggedRow::ticket`]): for rows that will not be read any more.
    fn owed(&mut self, lane: u64, rows: RowRun, take: &mut dyn FnMut(Ticket));
}

/// A cut of an earlier process that is neither done nor ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RestoredCut {
    /// The number of the cut.
    pub cut: u64,
    /// The id of the cluster it went to; empty: not known.
    pub cluster: String,
    /// Kafka's id of the topic; 0: not known.
    pub topic_id: u128,
    /// The partition it went to.
    pub partition: i32,
    /// Producer id.
    pub producer_id: i64,
    /// Producer epoch.
    pub epoch: i16,
    /// Sequence of the first record.
    pub sequence: i32,
    /// Its records go without their times, which the log has: Kafka may forget who wrote such a batch at any time.
    pub timeless: bool,
    /// Lane of its rows.
    pub lane: u64,
    /// The rows of the cut.
    pub rows: Vec<RowRun>,
}

impl RestoredCut {
    /// Whether it is a batch, which may have been sent; or rows that only go first ([`NO_BATCH`]).
    #[must_use]
    pub const fn is_batch(&self) -> bool {
        self.producer_id != NO_BATCH
    }
}

/// Live rows of a lane that an earlier process has left. Those of cuts are among them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RestoredLane {
    /// The sink.
    pub sink: SinkId,
    /// The topic.
    pub topic: String,
    /// The partition, or [`UNPLACED`].
    pub partition: i32,
    /// The cluster, the topic's id and the number of partitions by which these rows have theirs; empty, 0: not known.
    pub cluster: String,
    /// See there.
    pub topic_id: u128,
    /// See there.
    pub partitions: u32,
    /// Offset behind the last batch of these rows that Kafka has acknowledged.
    pub landed: Option<i64>,
    /// The lane.
    pub lane: u64,
    /// Number of the first live row.
    pub first: u64,
    /// One past the last.
    pub end: u64,
    /// How many live between them.
    pub rows: u64,
    /// Where the first of them stands in the log. The producer goes by numbers ([`NewRows::from`]) and not by this.
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
