//! The entries of the log: what each one means, and its payload as bytes.
//!
//! A *lane* is one sink, topic and partition (−1: unplaced). Rows have a number within their lane, assigned once; numbers of
//! lanes, cuts and sessions are never used twice.

use forebay_record::stored::{Origin, RowRun};
use smallvec::SmallVec;

use super::lists::{Listed, Runs, Spans};
use forebay_record::Records;

/// An entry's kind. Numbers 17 to 19 are reserved for queues of sessions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
#[allow(missing_docs, reason = "each is described at its variant of Entry")]
pub enum Kind {
    Rows = 1,
    Cut = 2,
    Done = 3,
    EndCut = 4,
    EndRows = 5,
    Incarnation = 6,
    Lane = 7,
    Session = 8,
    SessionEnded = 9,
    Released = 10,
    SinkEnded = 11,
    Batch = 12,
    Commit = 13,
    Checkpoint = 14,
    CheckpointEnd = 16,
    LanesForgotten = 20,
    IncarnationsForgotten = 21,
    Spans = 22,
    Segment = 23,
    SessionAt = 24,
    Opened = 25,
    VolatileEnded = 26,
    FateOpen = 27,
}

impl Kind {
    /// All kinds, by number.
    const ALL: [Self; 23] = [
        Self::Rows,
        Self::Cut,
        Self::Done,
        Self::EndCut,
        Self::EndRows,
        Self::Incarnation,
        Self::Lane,
        Self::Session,
        Self::SessionEnded,
        Self::Released,
        Self::SinkEnded,
        Self::Batch,
        Self::Commit,
        Self::Checkpoint,
        Self::CheckpointEnd,
        Self::LanesForgotten,
        Self::IncarnationsForgotten,
        Self::Spans,
        Self::Segment,
        Self::SessionAt,
        Self::Opened,
        Self::VolatileEnded,
        Self::FateOpen,
    ];

    pub(super) fn from_number(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| *kind as u8 == number)
    }
}

/// Why rows or a cut will not be written to Kafka as they were.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Reason {
    /// Kafka refused the rows permanently.
    Refused = 1,
    /// The rows are in the dead letters.
    DeadLettered,
    /// The rows expired.
    Expired,
    /// The rows were removed by `drop-oldest`.
    Dropped,
    /// The cut is void and its rows wait for another (cuts only).
    Void,
    /// The rows were moved to the lane of a partition.
    Placed,
    /// The bytes of the rows are damaged.
    Rotten,
}

impl Reason {
    pub(super) fn from_number(number: u8) -> Option<Self> {
        use Reason::{DeadLettered, Dropped, Expired, Placed, Refused, Rotten, Void};
        [Refused, DeadLettered, Expired, Dropped, Void, Placed, Rotten].into_iter().find(|r| *r as u8 == number)
    }
}

/// A row's deadline. It has a wall-clock time and a remaining time, because a wall clock may jump: see
/// [`Deadline::left_ms`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deadline {
    /// The deadline by the wall clock, milliseconds.
    pub wall_ms: i64,
    /// Time left when the row was written, milliseconds.
    pub left_ms: u64,
}

impl Deadline {
    /// Time left at a restart at wall-clock time `now_ms`: never more than when the row was written, so a clock that was set
    /// back gives the row its whole time again, and no more.
    #[must_use]
    pub fn left_ms(&self, now_ms: i64) -> u64 {
        let until = u64::try_from(self.wall_ms.saturating_sub(now_ms)).unwrap_or(0);
        until.min(self.left_ms)
    }
}

/// A block of rows with consecutive numbers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rows<'a> {
    /// The lane of the rows.
    pub lane: u64,
    /// Numbers of the rows. Numbers below the lane's next one: these rows were moved here.
    pub run: RowRun,
    /// The timestamp that the records' timestamp deltas count from.
    pub base_timestamp: i64,
    /// Rows of QoS 2, by their index in the block (from 0), ascending.
    pub origins: Listed<'a, (u32, Origin)>,
    /// Rows that expire, by index as well.
    pub deadlines: Listed<'a, (u32, Deadline)>,
    /// Values used instead of a key's hash, by index as well.
    pub hashes: Listed<'a, (u32, u32)>,
    /// Records, format v2, end to end, in the order of their numbers. Their offset deltas have no meaning here.
    pub records: &'a [u8],
}

impl<'a> Rows<'a> {
    /// The records, in the order of their numbers.
    #[must_use]
    pub fn records(&self) -> Records<'a> {
        Records::new(self.records, self.run.count as i32, self.base_timestamp)
    }
}

/// Numbers of rows; the order counts.
pub type RunList = SmallVec<[RowRun; 2]>;

/// A batch's identity: the batch as it goes to Kafka, without its rows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CutHead {
    /// The number of the cut.
    pub cut: u64,
    /// The lane of its rows.
    pub lane: u64,
    /// The incarnation of the topic; 0: not known.
    pub incarnation: u64,
    /// The partition that the batch goes to; the rows' lane may be of another partition, or of none.
    pub partition: i32,
    /// Producer id.
    pub producer_id: i64,
    /// Producer epoch.
    pub epoch: i16,
    /// Sequence of the first record.
    pub sequence: i32,
    /// Whether the records are sent without their timestamps.
    pub timeless: bool,
}

/// A batch that is neither done nor ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cut {
    /// Number, lane and stamp of the cut.
    pub head: CutHead,
    /// The rows, in the order of the batch's records.
    pub rows: RunList,
}

/// Rows of one lane in one segment, at `position` or after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// The numbers of the rows.
    pub run: RowRun,
    /// Segment.
    pub segment: u64,
    /// The position to search from.
    pub position: u64,
    /// Approximate bytes of the rows.
    pub bytes: u64,
}

/// One entry.
#[derive(Clone, Debug, PartialEq)]
pub enum Entry<'a> {
    /// Rows.
    Rows(Rows<'a>),
    /// A batch is about to be sent.
    Cut {
        /// The cut without its rows.
        cut: CutHead,
        /// The rows, in the order of the batch's records.
        rows: Runs<'a>,
    },
    /// Kafka has the batch. The entry repeats the rows' numbers, so that it can be understood alone.
    Done {
        /// The cut.
        cut: u64,
        /// The lane of the cut.
        lane: u64,
        /// Offset of the first record; −1: not known.
        base_offset: i64,
        /// The rows of the cut.
        rows: Runs<'a>,
    },
    /// Rows that will not go to Kafka as they are.
    EndRows {
        /// The lane of the rows.
        lane: u64,
        /// Why the rows end.
        reason: Reason,
        /// The numbers of the rows.
        rows: Runs<'a>,
    },
    /// A cut that is void. With [`Reason::Void`] its rows wait for another cut; with any other reason they end too.
    EndCut {
        /// The cut.
        cut: u64,
        /// The lane of the cut.
        lane: u64,
        /// Why the cut ends.
        reason: Reason,
        /// The rows of the cut.
        rows: Runs<'a>,
    },
    /// A sink's topic as it is known from this entry on.
    Incarnation {
        /// The incarnation's number, from 1.
        number: u64,
        /// Kafka's id of the topic; 0: not known.
        topic_id: u128,
        /// The number of partitions.
        partitions: u32,
        /// Sink.
        sink: &'a str,
        /// Topic.
        topic: &'a str,
        /// The cluster's id; empty: not known.
        cluster: &'a str,
    },
    /// A kept session as the session room writes it. A later entry with the same number replaces it.
    Session {
        /// The session's number.
        session: u64,
        /// Client id, expiry, subscriptions: the session room's bytes.
        payload: &'a [u8],
    },
    /// A session ended, with its open packet ids.
    SessionEnded {
        /// The session's number.
        session: u64,
    },
    /// An inbound packet id of QoS 2 is open (checkpoints only; elsewhere the rows say it).
    Opened {
        /// Session number.
        session: u64,
        /// Packet id.
        packet_id: u16,
        /// Rows of the packet id, by lane and number.
        rows: Listed<'a, (u64, u64)>,
    },
    /// An inbound packet id is free again.
    Released {
        /// Session number.
        session: u64,
        /// Packet id.
        packet_id: u16,
    },
    /// The end of a group: either all entries since the previous commit count, or none of them.
    Commit {
        /// Number of the group.
        group: u64,
        /// Position at which the group starts. Everything before it is durable.
        start: u64,
        /// Wall-clock time at which the group was written, milliseconds.
        wall_ms: i64,
        /// Number of entries in the group, without this one.
        count: u32,
        /// Checksum over the entries' checksums.
        checksum: u32,
    },
    /// The beginning of a checkpoint's part, which ends with [`Entry::CheckpointEnd`]. The parts hold the whole state as it
    /// was before the group of the first part.
    Checkpoint {
        /// The segment in which the checkpoint begins.
        begun: u64,
        /// The part's number, from 0.
        part: u32,
        /// Next number of an incarnation.
        next_incarnation: u64,
        /// Next lane number.
        next_lane: u64,
        /// Next cut number.
        next_cut: u64,
        /// Next session number.
        next_session: u64,
    },
    /// A lane and its names.
    Lane {
        /// The lane's number.
        lane: u64,
        /// Partition, or [`UNPLACED`](forebay_record::stored::UNPLACED).
        partition: i32,
        /// The number of the lane's next row.
        next: u64,
        /// Rows with lower numbers may be in Kafka, though no entry says so.
        open_below: u64,
        /// Offset after the last batch of these rows that Kafka has acknowledged; −1: not known.
        landed: i64,
        /// Whether the rows belong only to the process that wrote them: recovery ends the rows of earlier processes.
        volatile: bool,
        /// Sink.
        sink: &'a str,
        /// Topic.
        topic: &'a str,
    },
    /// Where a lane's rows are (checkpoints).
    Spans {
        /// The lane.
        lane: u64,
        /// The rows' numbers and places.
        spans: Spans<'a>,
    },
    /// A segment that holds live data (checkpoints).
    Segment {
        /// The segment's number.
        segment: u64,
        /// The salt of the segment's checksums.
        salt: u64,
        /// Position at which the segment's last durable group ends.
        end: u64,
    },
    /// Location of a kept session (checkpoints).
    SessionAt {
        /// The session's number.
        session: u64,
        /// Segment.
        segment: u64,
        /// Position of its [`Entry::Session`].
        position: u64,
        /// Bytes of that entry.
        bytes: u64,
    },
    /// A checkpoint's part is whole.
    CheckpointEnd {
        /// Whether the checkpoint is whole too.
        last: bool,
    },
    /// Nothing needs these lanes any more: later rows of the same sink, topic and partition get other lanes.
    LanesForgotten {
        /// Numbers of the lanes.
        lanes: Runs<'a>,
    },
    /// Nothing needs these incarnations.
    IncarnationsForgotten {
        /// Numbers of the incarnations.
        numbers: Runs<'a>,
    },
    /// All rows and cuts of a sink have ended.
    SinkEnded {
        /// The sink's name.
        sink: &'a str,
    },
    /// All rows and cuts in volatile lanes have ended.
    VolatileEnded,
    /// Damage may have hit the entries that record how rows ended: all live rows may be in Kafka.
    FateOpen,
    /// A Kafka batch as a partition of the embedded log holds it (see [`super::batches`]). A shard's log has no such
    /// entries.
    Batch {
        /// The batch, format v2, its base offset in place.
        batch: &'a [u8],
    },
}
