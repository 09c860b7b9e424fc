//! The order of a topic's rows with and without a partition. If both are in the log, numbers decide: the two take turns, each side
//! finishing before the other continues.
//!
//! For a topic that had rows in partitions when an earlier process ended, the log has the number of partitions at that time
//! ([`Topic::as_placed_before`]). If it does not, or if rows without a partition were left too, rows that
//! had a partition then and rows that get one now take turns, by their numbers: the queues hold only one of the two, and new
//! rows wait without a partition.

use super::backlog::{Backlog, Spooled};
use super::partition::Partition;
use super::restore::rows_of;
use super::topic::Topic;
use forebay_base::rules::Rules;

/// The state of rows in the lane of a partition that is gone, which get another one. The next process may find such a lane and
/// that partition again, so until they are done no row goes to a partition's lane: new rows have no partition, and are
/// younger by their numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Moved {
    /// There are no such rows.
    #[default]
    None,
    /// Some of them have no partition yet.
    Unplaced,
    /// All of them have one: no other row gets one before they are done.
    Placed,
}

/// The turns of a topic's rows with and without a partition.
#[derive(Debug, Default)]
pub(super) struct Turns {
    /// Whether an earlier process's rows have partitions by the number of partitions at that time.
    pub(super) restoring: bool,
    /// Whether the rows in the queues of partitions had them in the earlier process already.
    pub(super) was_placed: bool,
    pub(super) moved: Moved,
    /// Whether the rows last written to the log have a partition; `least`: the lower bound of their numbers; `above`: a bound above
    /// the numbers of all the topic's rows.
    written: Option<bool>,
    least: u64,
    above: u64,
}

impl Turns {
    /// The lower bound of new numbers of rows with a partition (`home` is that) or without one: numbers order the rows of two
    /// lanes while these take turns.
    pub(super) fn least_of(&self, home: i32) -> u64 {
        if self.written == Some(home >= 0) { self.least } else { self.above }
    }

    /// Notes that such rows were written, with numbers from `least` on and before `end`.
    pub(super) fn wrote(&mut self, home: i32, least: u64, end: u64) {
        self.found(end);
        (self.written, self.least) = (Some(home >= 0), least);
    }

    /// Notes that the log has rows with numbers before `end`.
    pub(super) fn found(&mut self, end: u64) {
        self.above = self.above.max(end);
    }

    /// Notes that an earlier process's rows have partitions by an unknown number of partitions.
    pub(super) fn begin(&mut self, rules: &dyn Rules) {
        (self.restoring, self.was_placed) = (rules.takes_turns(), true);
    }
}

impl Topic {
    /// Notes that the rows of an earlier process and new rows have partitions by the same count: no partition waits for another.
    /// Not if some rows have no partition, or one that would not exist.
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

    /// Whether rows without a partition wait until those with one are done.
    pub(super) fn waits_for_placed(&self) -> bool {
        self.view.growth.is_some() || self.turns.moved == Moved::Placed
    }

    /// Updates the state of rows of partitions that are gone.
    pub(super) fn note_moved(&mut self) {
        self.turns.moved = match self.turns.moved {
            _ if self.unplaced.has_moved() => Moved::Unplaced,
            Moved::Unplaced | Moved::Placed if self.placed > 0 => Moved::Placed,
            Moved::None | Moved::Unplaced | Moved::Placed => Moved::None,
        };
    }

    /// Ends the wait for rows with a partition, all of which are done: the next count applies, and rows go to the lanes of partitions.
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

    /// Whether a row without a partition, with this number, may get one.
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

    /// Ends the restoring state when the last of the rows that had a partition then is done.
    pub(super) fn end_restoring(&mut self) {
        let spooled = || self.partitions.iter().any(|partition| partition.spooled.is_some());
        if self.turns.restoring && (self.placed == 0 || !self.turns.was_placed) && !spooled() {
            self.turns.restoring = false;
        }
    }
}
