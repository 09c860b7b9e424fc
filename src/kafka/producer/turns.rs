//! Which rows of a topic are older, those that have a partition or those that have none. Where both are in the log,
//! numbers tell: the two take turns, each side finishing before the other continues.
//!
//! For a topic that had rows in partitions when an earlier process ended, the log says how many partitions there were
//! then ([`Topic::as_placed_before`]). Where it does not, or where rows without a partition were left too, rows that
//! had one then and rows that get one now take turns, by their numbers: the queues hold only one of the two, and new
//! rows wait without a partition.

use super::backlog::{Backlog, Spooled};
use super::partition::Partition;
use super::restore::rows_of;
use super::topic::Topic;
use crate::rules::Rules;

/// Rows in the lane of a partition that is gone, which get another one. The next process may find such a lane and
/// that partition again, so until they are done no row goes to a partition's lane: new rows have none, and are
/// younger by their numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Moved {
    /// There are none.
    #[default]
    None,
    /// Some have no partition yet.
    Unplaced,
    /// All have one: nothing else gets one before they are done.
    Placed,
}

/// The turns of a topic's rows with and without a partition.
#[derive(Debug, Default)]
pub(super) struct Turns {
    /// Whether rows of an earlier process have partitions, by the number of partitions there were then.
    pub(super) restoring: bool,
    /// Whether those rows that are in the queues of partitions had them in that start already.
    pub(super) was_placed: bool,
    pub(super) moved: Moved,
    /// The last rows that were written to the log: with a partition, without; what number they had at the least, and what
    /// is higher than those of all of its rows.
    written: Option<bool>,
    least: u64,
    above: u64,
}

impl Turns {
    /// From which number on rows go to the log, with a partition (`home` is that) or without one: numbers tell which of two
    /// lanes' rows are older, as long as these take turns.
    pub(super) fn least_of(&self, home: i32) -> u64 {
        if self.written == Some(home >= 0) { self.least } else { self.above }
    }

    /// Such rows have gone there, from `least` on and before `end`.
    pub(super) fn wrote(&mut self, home: i32, least: u64, end: u64) {
        self.found(end);
        (self.written, self.least) = (Some(home >= 0), least);
    }

    /// The log has rows with numbers before `end`.
    pub(super) fn found(&mut self, end: u64) {
        self.above = self.above.max(end);
    }

    /// Rows of an earlier process have partitions by a number that is not known.
    pub(super) fn begin(&mut self, rules: &dyn Rules) {
        (self.restoring, self.was_placed) = (rules.takes_turns(), true);
    }
}

impl Topic {
    /// The rows that an earlier process has left have partitions by this count, and so have new rows: each partition
    /// waits for itself alone. Not if some have no partition, or one that would not exist.
    pub(super) fn as_placed_before(&mut self, id: u128, count: usize) {
        let own = |partition: &Partition| {
            let cuts = partition.spooled.as_ref().into_iter().flat_map(|spooled| &spooled.cuts);
            cuts.into_iter().all(|cut| Some(cut.lane) == partition.lane.number)
        };
        if count == 0
            || self.partitions_with_spooled() > count
            || !self.unplaced.backlogs.is_empty()
            || !self.partitions.iter().all(own)
        {
            return;
        }
        (self.turns.restoring, self.turns.was_placed) = (false, false);
        (self.view.count, self.view.id) = (count, if id == 0 { self.view.id } else { id });
        self.with_partitions(count);
    }

    /// Whether rows without a partition wait until those that have one are done.
    pub(super) fn waits_for_placed(&self) -> bool {
        self.view.growth.is_some() || self.turns.moved == Moved::Placed
    }

    /// Notes whether rows of partitions that are gone wait for another one.
    pub(super) fn note_moved(&mut self) {
        self.turns.moved = match self.turns.moved {
            _ if self.unplaced.has_moved() => Moved::Unplaced,
            Moved::Unplaced | Moved::Placed if self.placed > 0 => Moved::Placed,
            Moved::None | Moved::Unplaced | Moved::Placed => Moved::None,
        };
    }

    /// All rows that have a partition are done: the other count holds, and rows go to the lanes of partitions.
    pub(super) fn end_placed(&mut self) {
        self.view.grow();
        if self.turns.moved == Moved::Placed || !self.unplaced.has_moved() {
            self.turns.moved = Moved::None;
        }
    }

    /// Rows in the queues of partitions: neither in the log alone nor in a cut that is not loaded.
    pub(super) fn in_queues(&self) -> u64 {
        let waiting = |spooled: &Spooled| {
            let cuts = spooled.cuts.iter().map(|cut| rows_of(&cut.rows)).sum::<u64>();
            let tail = |backlog: &Backlog| backlog.tail.iter().map(|batch| u64::from(batch.count)).sum::<u64>();
            cuts + spooled.backlog.as_ref().map_or(0, |backlog| backlog.rows + tail(backlog))
        };
        let all = self.partitions.iter().filter_map(|partition| partition.spooled.as_deref());
        self.placed.saturating_sub(all.map(waiting).sum())
    }

    /// Whether a row without a partition, of this number, may get one.
    pub(super) fn is_turn_of(&self, rules: &dyn Rules, number: u64) -> bool {
        if !self.turns.restoring && self.backlogged == 0 {
            return true;
        }
        let mut all = self.partitions.iter().filter_map(|partition| partition.spooled.as_deref());
        let older = |backlog: &Backlog| backlog.unread().is_some_and(|unread| unread < number);
        let cuts = |spooled: &Spooled| rules.waits_for_restored(spooled.cuts.len());
        let waits = all.any(|spooled| cuts(spooled) || spooled.backlog.as_ref().is_some_and(older));
        !waits && (!self.turns.restoring || !self.turns.was_placed || self.in_queues() == 0)
    }

    /// Notes it when the last of the rows that had a partition then is done.
    pub(super) fn end_restoring(&mut self) {
        let spooled = || self.partitions.iter().any(|partition| partition.spooled.is_some());
        if self.turns.restoring && (self.placed == 0 || !self.turns.was_placed) && !spooled() {
            self.turns.restoring = false;
        }
    }
}
