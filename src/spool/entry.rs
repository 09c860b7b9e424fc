//! The entries: what each says, and its payload as bytes.
//!
//! A *lane* is one sink, topic and partition (−1: unplaced). Rows have a number within their lane, given once; numbers of
//! lanes, cuts and sessions are never used twice.

use crate::kafka::batch::{BatchHeader, BatchView, HEADER_LEN, Records};

/// The partition of a lane whose rows have none yet.
pub const UNPLACED: i32 = -1;

/// What an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
#[allow(missing_docs, reason = "each is described at its variant of Entry")]
pub enum Kind {
    Rows = 1,
    Cut,
    Done,
    EndRows,
    EndCut,
    Session,
    SessionEnded,
    Opened,
    Released,
    Commit,
    Checkpoint,
    Lane,
    Spans,
    Segment,
    SessionAt,
    CheckpointEnd,
    Batch,
}

impl Kind {
    /// All, by their numbers from 1.
    const ALL: [Self; 17] = [
        Self::Rows,
        Self::Cut,
        Self::Done,
        Self::EndRows,
        Self::EndCut,
        Self::Session,
        Self::SessionEnded,
        Self::Opened,
        Self::Released,
        Self::Commit,
        Self::Checkpoint,
        Self::Lane,
        Self::Spans,
        Self::Segment,
        Self::SessionAt,
        Self::CheckpointEnd,
        Self::Batch,
    ];

    pub(super) fn from_number(number: u8) -> Option<Self> {
        Self::ALL.get(usize::from(number).checked_sub(1)?).copied()
    }
}

/// Rows with consecutive numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Run {
    /// Number of the first.
    pub first: u64,
    /// How many.
    pub count: u64,
}

impl Run {
    /// The number behind the last.
    #[must_use]
    pub const fn end(&self) -> u64 {
        self.first.saturating_add(self.count)
    }
}

/// Why rows or a cut will not go to Kafka as they stood.
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
    CutAnew,
    /// They stand in the lane of a partition now.
    Placed,
    /// Their bytes are damaged.
    Rotten,
}

impl Reason {
    pub(super) fn from_number(number: u8) -> Option<Self> {
        use Reason::{CutAnew, DeadLettered, Dropped, Expired, Placed, Refused, Rotten};
        [Refused, DeadLettered, Expired, Dropped, CutAnew, Placed, Rotten].into_iter().find(|r| *r as u8 == number)
    }
}

/// Where a row of QoS 2 came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Origin {
    /// Its place in the block, from 0.
    pub index: u32,
    /// Session number.
    pub session: u64,
    /// Packet id.
    pub packet_id: u16,
}

/// Until when a row may be sent. Both, because a wall clock may jump: see [`Deadline::left_ms`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deadline {
    /// Its place in the block, from 0.
    pub index: u32,
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
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rows<'a> {
    /// Their lane.
    pub lane: u32,
    /// Their numbers. Below the lane's next number: these rows were moved here.
    pub run: Run,
    /// Rows of QoS 2 among them.
    pub origins: Vec<Origin>,
    /// Rows that expire.
    pub deadlines: Vec<Deadline>,
    /// A Kafka batch, format v2, uncompressed; its base offset is the number of the first row. A drain copies the
    /// records' tails from here. Its own checksum is not looked at here: the entry's covers it.
    pub batch: &'a [u8],
}

impl<'a> Rows<'a> {
    /// The records, in the order of their numbers.
    #[must_use]
    pub fn records(&self) -> Records<'a> {
        let header = BatchView::parse(self.batch).map(|(batch, _)| *batch.header());
        let (count, base) = header.map_or((0, 0), |header| (header.records_count, header.base_timestamp));
        Records::new(self.batch.get(HEADER_LEN..).unwrap_or_default(), count, base)
    }
}

/// How many rows a closed, uncompressed v2 batch holds; `None` if it is none.
pub(super) fn rows_in(batch: &[u8]) -> Option<u64> {
    let header = BatchHeader::read(batch).ok()?;
    let count = u64::try_from(header.records_count).ok().filter(|count| *count > 0)?;
    (header.magic == 2 && header.codec() == 0 && header.size == batch.len()).then_some(count)
}

/// A batch as it goes to Kafka: its rows, listed, and its identity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cut {
    /// Its number.
    pub cut: u64,
    /// The lane of its rows.
    pub lane: u32,
    /// Kafka's id of the topic; zeroes: not known.
    pub topic_id: [u8; 16],
    /// Partition.
    pub partition: i32,
    /// Producer id.
    pub producer_id: i64,
    /// Producer epoch.
    pub epoch: i16,
    /// Sequence of its first record.
    pub sequence: i32,
    /// Its rows, in the order of its records.
    pub rows: Vec<Run>,
}

/// Where rows of one lane stand: in one segment, at `position` or behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// Their numbers.
    pub run: Run,
    /// Segment.
    pub segment: u64,
    /// Where to start looking.
    pub position: u64,
    /// Bytes that they take, about.
    pub bytes: u64,
}

/// One entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entry<'a> {
    /// Rows.
    Rows(Rows<'a>),
    /// A batch is about to be sent.
    Cut(Cut),
    /// Kafka has it. The rows stand here again, so that this entry can be understood alone.
    Done {
        /// The cut.
        cut: u64,
        /// Its lane.
        lane: u32,
        /// Offset of its first record, −1 if it is not known.
        base_offset: i64,
        /// Its rows.
        rows: Vec<Run>,
    },
    /// Rows that will not go to Kafka as such.
    EndRows {
        /// Their lane.
        lane: u32,
        /// Why.
        reason: Reason,
        /// Which.
        rows: Vec<Run>,
    },
    /// A cut that is void. With [`Reason::CutAnew`] its rows wait for another; with any other reason they end with it.
    EndCut {
        /// The cut.
        cut: u64,
        /// Its lane.
        lane: u32,
        /// Why.
        reason: Reason,
        /// Its rows.
        rows: Vec<Run>,
    },
    /// A kept session as the session room writes it. A later one of the same number takes its place.
    Session {
        /// Its number.
        session: u64,
        /// Client id, expiry, subscriptions: the session room's bytes.
        payload: &'a [u8],
    },
    /// A session ended, with its open packet ids.
    SessionEnded {
        /// Its number.
        session: u64,
    },
    /// An inbound packet id of QoS 2 is open (checkpoints; else rows say it).
    Opened {
        /// Session number.
        session: u64,
        /// Packet id.
        packet_id: u16,
        /// The lanes that have its row.
        lanes: Vec<u32>,
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
        /// Entries in it, without this one.
        count: u32,
        /// Checksum over their checksums.
        checksum: u32,
    },
    /// A whole state follows, up to [`Entry::CheckpointEnd`]: forget what was before.
    Checkpoint {
        /// Next lane number.
        next_lane: u32,
        /// Next cut number.
        next_cut: u64,
        /// Next session number.
        next_session: u64,
    },
    /// A lane and its names.
    Lane {
        /// Its number.
        lane: u32,
        /// Partition, or [`UNPLACED`].
        partition: i32,
        /// The number that its next row gets.
        next: u64,
        /// Sink.
        sink: &'a str,
        /// Topic.
        topic: &'a str,
    },
    /// Where rows of a lane stand (checkpoints).
    Spans {
        /// The lane.
        lane: u32,
        /// Which and where.
        spans: Vec<Span>,
    },
    /// A segment that holds something (checkpoints).
    Segment {
        /// Its number.
        segment: u64,
        /// Its salt.
        salt: u64,
        /// Where its last durable group ends.
        end: u64,
    },
    /// Where a kept session stands (checkpoints).
    SessionAt {
        /// Its number.
        session: u64,
        /// Segment.
        segment: u64,
        /// Position of its [`Entry::Session`].
        position: u64,
    },
    /// The checkpoint is whole.
    CheckpointEnd,
    /// A Kafka batch as a partition of the embedded log holds it (see [`super::batches`]). A shard's log has none.
    Batch {
        /// The batch, format v2, its base offset in place.
        batch: &'a [u8],
    },
}
