//! One assigned partition: where it is read, how far it is, and what is known of its leader.

use super::decode::{Chunk, Position};
use super::news::{WhyReset, WhyStopped};
use super::settings::{Assignment, Place, Start};
use crate::kafka::fetch::{Purpose, ReadWay};
use crate::kafka::types::NodeId;
use crate::outward::Backoff;
use crate::runtime::seam::Monotonic;

/// `Phase` is the next step for a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// The offset of a place has to be found; `None`: reading begins there.
    Find(Place, Option<WhyReset>),
    /// The leader has to say whether its log has what was read (KIP-320).
    Validate,
    /// It is read.
    Read,
    Stopped(WhyStopped),
}

/// `State` is how a partition stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Its place in the log is being found, or its leader.
    Starting,
    /// It is read.
    Reading,
    /// It is paused.
    Paused,
    /// Kafka has answered that its topic, which was there, is not; it stops if that stays so.
    Missing,
    /// It is not read any more.
    Stopped(WhyStopped),
}

/// The leader of a partition, as metadata has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Leader {
    pub(super) node: Option<NodeId>,
    /// -1: not known.
    pub(super) epoch: i32,
}

impl Leader {
    pub(super) const NONE: Self = Self { node: None, epoch: -1 };
}

/// A batch that could not be read.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Faults {
    /// The offset at which one was found: it is fetched once more.
    pub(super) bad_at: Option<i64>,
    /// Answers in a row with no whole batch.
    pub(super) cut_short: u32,
    /// The Kafka error of a row that was told.
    pub(super) told: Option<i16>,
}

/// An assigned partition.
#[derive(Debug)]
pub(super) struct Partition {
    pub(super) assignment: Assignment,
    pub(super) phase: Phase,
    pub(super) position: Position,
    /// Counts places in the log: what was asked for another is of no use.
    pub(super) incarnation: u32,
    pub(super) leader: Leader,
    pub(super) is_paused: bool,
    /// Whether it stands in the row of partitions with records.
    pub(super) is_queued: bool,
    /// Records that were not taken yet.
    pub(super) chunk: Option<Chunk>,
    /// The offset that the chunk was fetched from.
    pub(super) chunk_from: i64,
    /// The question under way about its offset.
    pub(super) question: Option<u64>,
    pub(super) high_watermark: i64,
    /// Where the records ended that may be read, as the last answer to a Fetch had it.
    pub(super) end: Option<i64>,
    /// When the end of the log is asked for, as no Fetch tells it.
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

    /// Goes to a place in the log: what was fetched or asked for another is void.
    pub(super) fn go(&mut self, position: Position, phase: Phase) {
        (self.position, self.phase) = (position, phase);
        (self.chunk, self.question, self.end) = (None, None, None);
        self.incarnation = self.incarnation.wrapping_add(1);
        (self.retry_at, self.backoff) = (Monotonic(0), Backoff::default());
    }

    /// Has the reset place found.
    pub(super) fn reset(&mut self, why: WhyReset) {
        let position = Position { leader_epoch: -1, ..self.position };
        self.go(position, Phase::Find(self.assignment.reset, Some(why)));
    }

    /// The way that its records come over.
    pub(super) fn way(&self, line: u8) -> Option<ReadWay> {
        let purpose = if self.assignment.committed { Purpose::Committed } else { Purpose::All };
        Some(ReadWay { node: self.leader.node?, purpose, line })
    }

    /// Whether the end of its log has to be asked for, as it is not fetched.
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

    /// How far the replicated log goes beyond the position; `None`: not known yet.
    pub(super) fn lag(&self) -> Option<u64> {
        (self.high_watermark >= 0).then(|| u64::try_from(self.high_watermark - self.position.offset).unwrap_or(0))
    }
}
