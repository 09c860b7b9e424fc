//! The entries: what each says, and its payload as bytes.
//!
//! A *lane* is one sink, topic and partition (−1: unplaced). Rows have a number within their lane, given once; numbers of
//! lanes, cuts and sessions are never used twice.

use crate::record::stored::{Origin, RowRun};
use smallvec::SmallVec;

use super::lists::{Listed, Runs, Spans};
use crate::record::Records;

/// What an entry is. 17 to 19 are kept for queues of sessions.
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
    /// All, by their numbers.
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
    /// Kafka refused them for good.
    Refused = 1,
    /// They are in the dead letters.
    DeadLettered,
    /// Their time was over.
    Expired,
    /// `drop-oldest`.
    Dropped,
    /// The cut is void and its rows wait for another (cuts only).
    Void,
    /// They are in the lane of a partition now.
    Placed,
    /// Their bytes are damaged.
    Rotten,
}

impl Reason {
    pub(super) fn from_number(number: u8) -> Option<Self> {
        use Reason::{DeadLettered, Dropped, Expired, Placed, Refused, Rotten, Void};
        [Refused, DeadLettered, Expired, Dropped, Void, Placed, Rotten].into_iter().find(|r| *r as u8 == number)
    }
}

/// Until when a row may be sent. Both, because a wall clock may jump: see [`Deadline::left_ms`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deadline {
    /// Wall clock, milliseconds.
    pub wall_ms: i64,
    /// What was left when it was written, milliseconds.
    pub left_ms: u64,
}

impl Deadline {
    /// What is left at a restart at this wall clock: never more than when it was written, so a clock that was set back
    /// gives the row its whole time again, and no more.
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
    /// Their numbers. Below the lane's next number: these rows were moved here.
    pub run: RowRun,
    /// What the records' timestamp deltas count from.
    pub base_timestamp: i64,
    /// Rows of QoS 2 among them, by their place in the block (from 0), which ascends.
    pub origins: Listed<'a, (u32, Origin)>,
    /// Rows that expire, likewise.
    pub deadlines: Listed<'a, (u32, Deadline)>,
    /// What replaces a key's hash, likewise.
    pub hashes: Listed<'a, (u32, u32)>,
    /// Records, format v2, end to end, in the order of their numbers. Their offset deltas mean nothing here.
    pub records: &'a [u8],
}

impl<'a> Rows<'a> {
    /// The records, in the order of their numbers.
    #[must_use]
    pub fn records(&self) -> Records<'a> {
        Records::new(self.records, self.run.count as i32, self.base_timestamp)
    }
}

/// Numbers of rows, in an order that matters.
pub type RunList = SmallVec<[RowRun; 2]>;

/// A batch as it goes to Kafka, without its rows: its identity.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CutHead {
    /// The number of the cut.
    pub cut: u64,
    /// The lane of its rows.
    pub lane: u64,
    /// The incarnation of the topic; 0: not known.
    pub incarnation: u64,
    /// The partition it goes to; its lane may be of another, or of none.
    pub partition: i32,
    /// Producer id.
    pub producer_id: i64,
    /// Producer epoch.
    pub epoch: i16,
    /// Sequence of its first record.
    pub sequence: i32,
    /// Its records are sent without their times.
    pub timeless: bool,
}

/// A batch that is neither done nor ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cut {
    /// Number, lane and stamp of the cut.
    pub head: CutHead,
    /// Its rows, in the order of its records.
    pub rows: RunList,
}

/// Rows of one lane in one segment, at `position` or after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// The numbers of the rows.
    pub run: RowRun,
    /// Segment.
    pub segment: u64,
    /// Where to start looking.
    pub position: u64,
    /// Bytes that they take, about.
    pub bytes: u64,
}

/// One entry.
#[derive(Clone, Debug, PartialEq)]
pub enum Entry<'a> {
    /// Rows.
    Rows(Rows<'a>),
    /// A batch is about to be sent.
    Cut {
        /// All but its rows.
        cut: CutHead,
        /// Its rows, in the order of its records.
        rows: Runs<'a>,
    },
    /// Kafka has it. The rows are named here again, so that this entry can be understood alone.
    Done {
        /// The cut.
        cut: u64,
        /// The lane of the cut.
        lane: u64,
        /// Offset of its first record, −1 if it is not known.
        base_offset: i64,
        /// The rows of the cut.
        rows: Runs<'a>,
    },
    /// Rows that will not go to Kafka as such.
    EndRows {
        /// The lane of the rows.
        lane: u64,
        /// Why the rows end.
        reason: Reason,
        /// The numbers of the rows.
        rows: Runs<'a>,
    },
    /// A cut that is void. With [`Reason::Void`] its rows wait for another; with any other reason they end with it.
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
    /// A sink's topic as it is known from here on.
    Incarnation {
        /// Its number, from 1.
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
    /// A kept session as the session room writes it. A later one of the same number takes its place.
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
    /// An inbound packet id of QoS 2 is open (checkpoints; else rows say it).
    Opened {
        /// Session number.
        session: u64,
        /// Packet id.
        packet_id: u16,
        /// Its rows, by lane and number.
        rows: Listed<'a, (u64, u64)>,
    },
    /// An inbound packet id is free again.
    Released {
        /// Session number.
        session: u64,
        /// Packet id.
        packet_id: u16,
    },
    /// The end of a group: all since the commit before it counts, or nothing of it.
    Commit {
        /// Number of the group.
        group: u64,
        /// Where the group starts. Everything before it is durable.
        start: u64,
        /// Wall clock when it was written, milliseconds.
        wall_ms: i64,
        /// Entries in it, without this one.
        count: u32,
        /// Checksum over their checksums.
        checksum: u32,
    },
    /// A part of a checkpoint follows, up to [`Entry::CheckpointEnd`]: of the whole state, as it was before the group of its
    /// first part.
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
        /// Partition, or [`UNPLACED`](crate::record::stored::UNPLACED).
        partition: i32,
        /// The number that its next row gets.
        next: u64,
        /// Rows with lower numbers may be in Kafka, and no entry says so.
        open_below: u64,
        /// Offset behind the last batch of these rows that Kafka has acknowledged; −1: not known.
        landed: i64,
        /// Its rows are of the process that wrote them alone: a start ends what an earlier one has left.
        volatile: bool,
        /// Sink.
        sink: &'a str,
        /// Topic.
        topic: &'a str,
    },
    /// Where rows of a lane are (checkpoints).
    Spans {
        /// The lane.
        lane: u64,
        /// Which and where.
        spans: Spans<'a>,
    },
    /// A segment that holds something (checkpoints).
    Segment {
        /// The segment's number.
        segment: u64,
        /// The salt of the segment's checksums.
        salt: u64,
        /// Where its last durable group ends.
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
        /// Bytes of that.
        bytes: u64,
    },
    /// The part is whole.
    CheckpointEnd {
        /// And so is the checkpoint.
        last: bool,
    },
    /// Nothing needs these lanes: the next rows of the same sink, topic and partition get other ones.
    LanesForgotten {
        /// Numbers of the lanes.
        lanes: Runs<'a>,
    },
    /// Nothing needs these incarnations.
    IncarnationsForgotten {
        /// Numbers of the incarnations.
        numbers: Runs<'a>,
    },
    /// Everything that a sink has here has ended, cuts too.
    SinkEnded {
        /// The sink's name.
        sink: &'a str,
    },
    /// Everything in volatile lanes has ended, cuts too.
    VolatileEnded,
    /// Damage may have hit what became of rows: all that live here may be in Kafka.
    FateOpen,
    /// A Kafka batch as a partition of the embedded log holds it (see [`super::batches`]). A shard's log has none.
    Batch {
        /// The batch, format v2, its base offset in place.
        batch: &'a [u8],
    },
}
