//! A topic's rows without a partition: rows that arrived before the topic was known or while it grows, and rows of partitions
//! that are gone.

use std::collections::VecDeque;

use super::backlog::Backlog;
use super::batch::Batch;
use super::in_log::{Kind, Lane};
use super::row_log::UNPLACED;
use super::tickets::Cursor;

/// A topic's rows without a partition.
#[derive(Debug, Default)]
pub(super) struct Unplaced {
    /// Batches in memory, oldest first. None of them is ever cut.
    pub(super) queue: VecDeque<Batch>,
    /// How much of the first batch has been placed.
    pub(super) place: Place,
    /// Rows in the log alone, after the others.
    pub(super) backlogs: VecDeque<Backlog>,
    pub(super) lane: Lane,
    /// Whether the topic is on the list of those with rows that can be placed.
    pub(super) placing: bool,
}

/// How much of a batch of rows without a partition has been placed.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Place {
    pub(super) bytes: usize,
    pub(super) count: u32,
    pub(super) tickets: Cursor,
}

impl Unplaced {
    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_empty() && self.backlogs.is_empty()
    }

    /// Number of partly placed batches at the front: 0 or 1.
    pub(super) fn half_placed(&self) -> usize {
        usize::from(self.place.count > 0)
    }

    /// Whether some rows are, or may be, in the lane of a partition that is gone.
    pub(super) fn has_moved(&self) -> bool {
        let is_own = |lane: u64| Some(lane) == self.lane.number;
        let is_moved = |batch: &Batch| match batch.in_log.kind {
            Kind::Memory => false,
            Kind::Fresh(home) => home >= 0,
            Kind::Logged(lane) => !is_own(lane),
        };
        let in_log = |backlog: &Backlog| backlog.lane != u64::MAX && backlog.rows > 0 && !is_own(backlog.lane);
        self.queue.iter().any(is_moved)
            || self.backlogs.iter().any(|backlog| in_log(backlog) || backlog.tail.iter().any(is_moved))
    }

    /// The number of the oldest row, if it has one.
    pub(super) fn oldest(&self) -> Option<u64> {
        match self.queue.front() {
            Some(batch) => Some(batch.in_log.numbers.of(self.place.count)?.number),
            None => self.oldest_in_log(),
        }
    }

    /// The number of the oldest row in the log alone, if it has one.
    pub(super) fn oldest_in_log(&self) -> Option<u64> {
        self.backlogs.iter().filter_map(Backlog::oldest).min()
    }

    /// The backlog that is read next: the one with the oldest rows, of any lane.
    pub(super) fn next_backlog(&self) -> Option<usize> {
        let oldest = |place: &usize| self.backlogs[*place].oldest().unwrap_or(u64::MAX);
        (0..self.backlogs.len()).min_by_key(oldest)
    }

    /// The queue for a new row: after the rows in the log alone, of the same lane.
    pub(super) fn queue_for_new(&mut self) -> &mut VecDeque<Batch> {
        let lane = self.lane.number;
        let joins = |last: &Backlog| !last.void && (last.lane == u64::MAX || Some(last.lane) == lane);
        if self.backlogs.back().is_some_and(|last| !joins(last)) {
            self.backlogs.push_back(Backlog { lane: u64::MAX, ..Backlog::default() });
        }
        match self.backlogs.back_mut() {
            None => &mut self.queue,
            Some(last) => &mut last.tail,
        }
    }

    /// Puts the rows of a void cut before all others except those of older void cuts.
    pub(super) fn put_void(&mut self, void: Backlog) {
        let older = |other: &&Backlog| other.void && (other.lane, other.next) < (void.lane, void.next);
        let place = self.backlogs.iter().take_while(older).count();
        self.backlogs.insert(place, void);
    }

    /// Puts the rows of a partition that is gone, which are in the log alone, among those without one: younger rows
    /// that wait in memory go after them. Those may be of other such partitions too, which have rows in the log
    /// alone: so the backlog takes turns with those, by its numbers.
    pub(super) fn put_before_younger(&mut self, mut backlog: Backlog) {
        let from = backlog.oldest().unwrap_or(u64::MAX);
        let (first, mut unknown) = (self.backlogs.is_empty(), false);
        // Batches without a number are the latest; but beside rows in the log alone, such a batch is of a partition that is gone, from
        // before those rows were written.
        let is_younger = |batch: &Batch| {
            unknown |= first && batch.in_log.first().is_none();
            unknown || batch.in_log.first().is_some_and(|number| number > from)
        };
        let (mut younger, older): (Vec<_>, Vec<_>) = self.queue.drain(..).partition(is_younger);
        self.queue.extend(older);
        younger.iter_mut().for_each(log_before_younger);
        if first {
            backlog.tail.extend(younger);
        } else if !younger.is_empty() {
            younger.sort_by_key(|batch| batch.in_log.first());
            let blank = Backlog { lane: u64::MAX, ..Backlog::default() };
            self.backlogs.push_front(Backlog { tail: younger.into(), ..blank });
        }
        self.backlogs.push_front(backlog);
    }

    /// Puts the rows of a partition that is gone, which are in memory, among those without one: before them, but
    /// after older ones that an earlier process left without a partition. Other rows of the partition,
    /// in the log alone, follow and have numbers from `behind` on, maybe lower ones. `true`: some are after rows
    /// that are in the log alone.
    pub(super) fn put_in_turn(&mut self, restoring: bool, batches: VecDeque<Batch>, behind: Option<u64>) -> bool {
        let oldest = self.oldest_in_log().filter(|_| restoring).unwrap_or(u64::MAX);
        let turn_of = |batch: &Batch| batch.in_log.first().map(|first| first.min(behind.unwrap_or(first)));
        let (mut tail, mut front, mut turn) = (VecDeque::new(), Vec::new(), None);
        for mut batch in batches {
            if !tail.is_empty() || turn_of(&batch).is_some_and(|number| number > oldest) {
                turn = turn.or(behind.and_then(|_| turn_of(&batch)));
                log_before_younger(&mut batch);
                tail.push_back(batch);
            } else {
                front.push(batch);
            }
        }
        for batch in front.into_iter().rev() {
            let older =
                |other: &&Batch| other.in_log.first().zip(turn_of(&batch)).is_some_and(|(other, own)| other < own);
            let place = self.queue.iter().take_while(|other| restoring && older(other)).count();
            self.queue.insert(place, batch);
        }
        let any = !tail.is_empty();
        if any {
            self.backlogs.push_front(Backlog { lane: u64::MAX, tail, turn, ..Backlog::default() });
        }
        any
    }
}

/// Marks rows that follow those in the log alone to be logged before younger ones, which go to the log.
fn log_before_younger(batch: &mut Batch) {
    if batch.in_log.kind == Kind::Memory {
        batch.in_log.kind = Kind::Fresh(UNPLACED);
    }
}
