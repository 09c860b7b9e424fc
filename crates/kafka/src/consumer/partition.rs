//! One assigned partition: its place, its progress, and its leader.

use super::decode::{Chunk, Position};
use super::news::{WhyReset, WhyStopped};
use super::settings::{Assignment, Place, Start};
use crate::fetch::{Purpose, ReadWay};
use crate::types::NodeId;
use forebay_guard::outward::Backoff;
use forebay_runtime::seam::Monotonic;

/// `Phase` is the next step for a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// The offset of a place has to be found. The reason for a reset; `None`: reading begins there.
    Find(Place, Option<WhyReset>),
    /// The leader has to confirm that its log has the records that were read (KIP-320).
    Validate,
    /// The partition is read.
    Read,
    Stopped(WhyStopped),
}

/// `State` is the state of a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// The partition's place in the log, or its leader, is being found.
    Starting,
    /// The partition is read.
    Reading,
    /// The partition is paused.
    Paused,
    /// Kafka has answered that the partition's topic, which existed, does not exist; the partition stops if that stays
    /// so.
    Missing,
    /// The partition is not read any more.
    Stopped(WhyStopped),
}

/// The leader of a partition, according to metadata.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Leader {
    pub(super) node: Option<NodeId>,
    /// Leader epoch; -1: not known.
    pub(super) epoch: i32,
}

impl Leader {
    pub(super) const NONE: Self = Self { node: None, epoch: -1 };
}

/// Faults of a partition's batches.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Faults {
    /// The offset of an unreadable batch, which is fetched once more.
    pub(super) bad_at: Option<i64>,
    /// Number of consecutive answers without a whole batch.
    pub(super) cut_short: u32,
    /// The Kafka error that was reported of the current row.
    pub(super) told: Option<i16>,
}

/// An assigned partition.
#[derive(Debug)]
pub(super) struct Partition {
    pub(super) assignment: Assignment,
    pub(super) phase: Phase,
    pub(super) position: Position,
    /// Counts changes of place: answers to requests from an earlier place are ignored.
    pub(super) incarnation: u32,
    pub(super) leader: Leader,
    pub(super) is_paused: bool,
    /// Whether the partition is in the queue of partitions with records.
    pub(super) is_queued: bool,
    /// Fetched records that were not taken yet.
    pub(super) chunk: Option<Chunk>,
    /// The offset that the chunk was fetched from.
    pub(super) chunk_from: i64,
    /// The pending question about the partition's offset.
    pub(super) question: Option<u64>,
    pub(super) high_watermark: i64,
    /// The end of the readable records, according to the last answer to a Fetch.
    pub(super) end: Option<i64>,
    /// When to ask for the end of the log, if no Fetch reports it.
    pub(super) end_at: Monotonic,
    pub(super) retry_at: Monotonic,
    pub(super) backoff: Backoff,
    pub(super) faults: Faults,
}

impl Partition {
    pub(super) fn new(assignment: Assignment) -> Self {
        let mut partition = Self {
            phase: Phase::Read,
            position: Position { offset: 0, leader_epoch: -1 },
            incarnation: 0,
            leader: Leader::NONE,
            is_paused: false,
            is_queued: false,
            chunk: None,
            chunk_from: 0,
            question: None,
            high_watermark: -1,
            end: None,
            end_at: Monotonic(0),
            retry_at: Monotonic(0),
            backoff: Backoff::default(),
            faults: Faults::default(),
            assignment,
        };
        partition.start(partition.assignment.start);
        partition
    }

    /// Begins at another place.
    pub(super) fn start(&mut self, start: Start) {
        match start {
            Start::Offset { offset, leader_epoch } => {
                let phase = if leader_epoch < 0 { Phase::Read } else { Phase::Validate };
                self.go(Position { offset: offset.max(0), leader_epoch }, phase);
            }
            Start::At(place) => {
                self.go(Position { offset: self.position.offset, leader_epoch: -1 }, Phase::Find(place, None))
            }
        }
        self.faults = Faults::default();
    }

    /// Goes to a place in the log: answers and records from an earlier place are dropped.
    pub(super) fn go(&mut self, position: Position, phase: Phase) {
        (self.position, self.phase) = (position, phase);
        (self.chunk, self.question, self.end) = (None, None, None);
        self.incarnation = self.incarnation.wrapping_add(1);
        (self.retry_at, self.backoff) = (Monotonic(0), Backoff::default());
    }

    /// Makes the partition find its reset place.
    pub(super) fn reset(&mut self, why: WhyReset) {
        let position = Position { leader_epoch: -1, ..self.position };
        self.go(position, Phase::Find(self.assignment.reset, Some(why)));
    }

    /// The way for the partition's Fetch requests.
    pub(super) fn way(&self, line: u8) -> Option<ReadWay> {
        let purpose = if self.assignment.committed { Purpose::Committed } else { Purpose::All };
        Some(ReadWay { node: self.leader.node?, purpose, line })
    }

    /// Whether the end of the partition's log has to be asked for, because it is not fetched.
    pub(super) const fn stands(&self) -> bool {
        match self.phase {
            Phase::Read => self.is_paused,
            Phase::Stopped(why) => !matches!(why, WhyStopped::Deleted),
            Phase::Find(..) | Phase::Validate => false,
        }
    }

    pub(super) const fn state(&self) -> State {
        match self.phase {
            Phase::Stopped(why) => State::Stopped(why),
            _ if self.is_paused => State::Paused,
            Phase::Read => State::Reading,
            Phase::Find(..) | Phase::Validate => State::Starting,
        }
    }

    /// The number of offsets from the position to the end of the replicated log; `None`: not known yet.
    pub(super) fn lag(&self) -> Option<u64> {
        (self.high_watermark >= 0).then(|| u64::try_from(self.high_watermark - self.position.offset).unwrap_or(0))
    }
}
