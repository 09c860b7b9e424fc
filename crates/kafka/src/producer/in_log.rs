//! A batch's state in the log: its rows' numbers and its cut. And the lane of a place with rows.

use super::Terms;
use super::numbers::{NUMBER_BYTES, Number, Numbers};
use super::row_log::{LoggedRow, Origin, TakenCut};

/// The kind of a batch's rows; a batch never holds two kinds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Kind {
    /// Rows that are in no log, or in that of another sink (dead letters).
    #[default]
    Memory,
    /// New rows, for the lane of this partition.
    Fresh(i32),
    /// Rows that are in this lane.
    Logged(u64),
}

/// The properties of a row beside its record and its ticket.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Notes {
    pub(super) terms: Terms,
    /// The row's number, if it is in the log.
    pub(super) number: Option<Number>,
    /// Whether the row was in memory while its topic was not known, and stays there: rows in the log by now are younger.
    pub(super) held: bool,
}

impl Notes {
    /// The notes of a row that has been read back from a lane.
    pub(super) fn of_logged(lane: u64, row: &LoggedRow<'_>) -> Self {
        let terms = Terms { expires: row.expires, hash: row.hash, origin: None };
        Self { terms, number: Some(Number { lane, number: row.number }), held: false }
    }
}

/// The log's lane of a partition, or of a topic's rows without one, and the state of its waiting rows.
#[derive(Debug, Default)]
pub(super) struct Lane {
    /// The lane's number, once it has one.
    pub(super) number: Option<u64>,
    /// Whether some rows wait to be staged.
    pub(super) dirty: bool,
    /// Whether the lane is on the list of those with rows to read back.
    pub(super) listed: bool,
}

/// A batch's state in the log.
#[derive(Debug)]
pub(super) struct InLog {
    pub(super) kind: Kind,
    pub(super) numbers: Numbers,
    /// Origins of rows that are not in the log yet.
    pub(super) origins: Vec<(u32, Origin)>,
    /// Bytes of the rows that are in the log.
    pub(super) staged_bytes: usize,
    /// The batch's cut in the log.
    pub(super) cut: Option<TakenCut>,
    /// Offset of the batch in Kafka; -1: not known.
    pub(super) base_offset: i64,
    /// Whether an earlier process had cut its rows.
    pub(super) old: bool,
    /// Whether the rows are old and this process has not seen the batch before them in sequence acknowledged: that one
    /// may have been taken long ago, or have been in memory alone and never sent.
    pub(super) begins: bool,
}

/// Bytes of an origin on the memory account.
const ORIGIN_BYTES: usize = std::mem::size_of::<(u32, Origin)>();

impl InLog {
    /// The number of the first row, if it is in the log.
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

    /// Whether the rows go through the log.
    pub(super) fn is_logged(&self) -> bool {
        self.kind != Kind::Memory
    }

    /// Whether a batch of `count` rows may be cut.
    pub(super) fn is_staged(&self, count: u32) -> bool {
        !self.is_logged() || self.numbers.rows() == count
    }

    /// The origin of a row that is not in the log yet.
    pub(super) fn origin_of(&self, row: u32) -> Option<Origin> {
        let place = self.origins.binary_search_by_key(&row, |(row, _)| *row).ok()?;
        Some(self.origins[place].1)
    }

    pub(super) fn bytes(&self) -> usize {
        self.numbers.capacity() * NUMBER_BYTES + self.origins.capacity() * ORIGIN_BYTES
    }
}
