//! What a batch knows of the log: which of its rows are there under which numbers, and the cut that it has there. And what
//! a place with rows knows of its lane.

use super::Terms;
use super::numbers::{NUMBER_BYTES, Number, Numbers};
use super::row_log::{LoggedRow, Origin, TakenCut};

/// Whose rows a batch holds: it never holds two kinds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Kind {
    /// Not of the log, or of that of another sink (dead letters).
    #[default]
    Memory,
    /// Rows as they come: to be written to the lane of this partition.
    Fresh(i32),
    /// Rows that stand in this lane.
    Logged(u64),
}

/// What a row has beside its record and its ticket.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Notes {
    pub(super) terms: Terms,
    /// Its number, if it stands in the log.
    pub(super) number: Option<Number>,
    /// It was in memory while its topic was not known, and stays there: what is in the log by now is younger.
    pub(super) held: bool,
}

impl Notes {
    /// Those of a row that has been read back from a lane.
    pub(super) fn of_logged(lane: u64, row: &LoggedRow<'_>) -> Self {
        let terms = Terms { expires: row.expires, hash: row.hash, origin: None };
        Self { terms, number: Some(Number { lane, number: row.number }), held: false }
    }
}

/// The log's lane of a partition, or of a topic's rows without one, and its waiting rows.
#[derive(Debug, Default)]
pub(super) struct Lane {
    /// The lane, once there is one.
    pub(super) number: Option<u64>,
    /// Some rows wait to be staged.
    pub(super) dirty: bool,
    /// Whether it is on the list of those with rows to read back.
    pub(super) listed: bool,
}

/// What a batch knows of the log.
#[derive(Debug)]
pub(super) struct InLog {
    pub(super) kind: Kind,
    pub(super) numbers: Numbers,
    /// Of rows that are not in the log yet.
    pub(super) origins: Vec<(u32, Origin)>,
    /// Bytes of the rows that are.
    pub(super) staged_bytes: usize,
    /// The batch's cut in the log.
    pub(super) cut: Option<TakenCut>,
    /// Where Kafka has it; -1: not known.
    pub(super) base_offset: i64,
    /// Whether an earlier process had cut its rows.
    pub(super) old: bool,
    /// Whether this process has not seen the batch before it in the sequence taken, and its rows are old: that one
    /// may have been taken long ago, or have been in memory alone and never sent.
    pub(super) begins: bool,
}

/// Bytes of an origin: what the memory account charges.
const ORIGIN_BYTES: usize = std::mem::size_of::<(u32, Origin)>();

impl InLog {
    /// The number of its first row, if the log has that.
    pub(super) fn first(&self) -> Option<u64> {
        self.numbers.of(0).map(|first| first.number)
    }

    pub(super) const fn new(kind: Kind) -> Self {
        Self {
            kind,
            numbers: Numbers::EMPTY,
            origins: Vec::new(),
            staged_bytes: 0,
            cut: None,
            base_offset: -1,
            old: false,
            begins: false,
        }
    }

    /// Whether its rows go by way of the log.
    pub(super) fn is_logged(&self) -> bool {
        self.kind != Kind::Memory
    }

    /// Whether a batch of `count` rows may be cut.
    pub(super) fn is_staged(&self, count: u32) -> bool {
        !self.is_logged() || self.numbers.rows() == count
    }

    /// Whose a row is that is not in the log yet.
    pub(super) fn origin_of(&self, row: u32) -> Option<Origin> {
        let place = self.origins.binary_search_by_key(&row, |(row, _)| *row).ok()?;
        Some(self.origins[place].1)
    }

    pub(super) fn bytes(&self) -> usize {
        self.numbers.capacity() * NUMBER_BYTES + self.origins.capacity() * ORIGIN_BYTES
    }
}
