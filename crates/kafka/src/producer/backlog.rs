//! Rows that are in the log alone: rows left by an earlier process, and rows that memory has no room for.
//! They are read back in order, as far as memory and the work of one turn allow.
//!
//! A partition (or a topic, for its rows without one) that has such rows queues new ones after them, in a tail that
//! leaves memory as soon as the log has it.

use std::collections::VecDeque;

use super::batch::{Batch, Bounds, push};
use super::in_log::{Kind, Notes};
use super::numbers::{Number, Numbers};
use super::owed::Owed;
use super::pool::{BATCH_COST, BUFFER_MIN};
use super::row_log::{Fate, LoggedRow, ReadBack, RestoredCut, RowLog, RowRun};
use super::tickets::Tickets;
use super::window::precedes;
use super::{Finished, Producer};
use crate::types::Outcome;
use forebay_record::HEADER_LEN;
use forebay_runtime::seam::Monotonic;

/// Rows of one lane that are on the disk and not in memory.
#[derive(Debug, Default)]
pub(super) struct Backlog {
    pub(super) lane: u64,
    /// Number of the next row to read; `end`: one past the last.
    pub(super) next: u64,
    pub(super) end: u64,
    /// Live rows between them, except those of `skip`.
    pub(super) rows: u64,
    /// Rows of cuts, which are read with the cuts; sorted.
    pub(super) skip: Vec<RowRun>,
    /// Rows in the range that have ended in memory, or were dropped to make room: the log returns them until that is durable.
    /// Sorted, never adjacent.
    pub(super) gone: Vec<RowRun>,
    /// Tickets of some of the rows, by number.
    pub(super) owed: Owed,
    /// Newer rows, on their way to the log.
    pub(super) tail: VecDeque<Batch>,
    /// Whether the rows are counted as rows of a partition.
    pub(super) placed: bool,
    /// Whether the backlog was just created.
    pub(super) fresh: bool,
    /// Whether the backlog has the rows of a void cut, or those of an older lane of a partition, and no others.
    pub(super) void: bool,
    /// The number by which the rows take their turn: the lowest of the lane's other rows that they precede although those have
    /// lower numbers; 0 for an older lane: its rows precede all others.
    pub(super) turn: Option<u64>,
}

/// A partition's rows and cuts in the log that are not in memory.
#[derive(Debug, Default)]
pub(super) struct Spooled {
    /// Cuts of an earlier process, oldest first: nothing else is cut before they are loaded.
    pub(super) cuts: VecDeque<RestoredCut>,
    /// The loaded part of the first cut: at most one batch; `run`: its runs read so far; `next`: its next row.
    pub(super) part: VecDeque<Batch>,
    pub(super) run: usize,
    pub(super) next: u64,
    pub(super) backlog: Option<Backlog>,
    /// How many of the cuts that are no batches the stop has written to the log.
    pub(super) saved: usize,
}

impl Spooled {
    /// Whether rows that follow a cut have lower numbers than it, or are in a cut from this place on that is no batch.
    pub(super) fn has_before(&self, place: usize, cut: &RestoredCut) -> bool {
        let uncut = self.backlog.as_ref().and_then(Backlog::first_uncut);
        let last = cut.rows.iter().map(RowRun::end).max();
        self.cuts.len() > place || uncut.zip(last).is_some_and(|(uncut, end)| uncut < end)
    }

    /// Adds a cut of an earlier process. Cuts of one identity are in the order of their sequence: a batch that was in memory
    /// alone and was cut at an orderly stop may precede one that was cut through the log. A cut that is
    /// no batch comes after those that are.
    pub(super) fn add_cut(&mut self, cut: RestoredCut) {
        let later = |other: &&RestoredCut| {
            let same = (other.producer_id, other.epoch) == (cut.producer_id, cut.epoch);
            same && precedes(cut.sequence, other.sequence) || cut.is_batch() && !other.is_batch()
        };
        let place = self.cuts.len() - self.cuts.iter().rev().take_while(later).count();
        self.cuts.insert(place, cut);
    }
}

/// Why reading ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Loaded {
    /// No rows remain.
    All,
    /// A batch is full, or this turn's budget is used up.
    Enough,
    /// The rows are being read from disk.
    Later,
    /// Memory is short, or other rows go first.
    Wait,
}

/// The number of the first live row of a lane from `from` up to `end` (exclusive): `end` if there is none; `from` if the log cannot
/// answer now. Numbers in between may be rows of other lanes: two readers that wait for each other must not step
/// through them one by one.
fn first_row(log: &mut dyn RowLog, lane: u64, from: u64, end: u64) -> u64 {
    let mut first = None;
    let back = log.read(lane, from, end, &mut |row| {
        first = Some(row.number);
        false
    });
    first.unwrap_or(if matches!(back, ReadBack::Empty) { end } else { from })
}

/// Whether a row is in one of these sorted runs.
fn holds(runs: &[RowRun], number: u64) -> bool {
    let behind = runs.partition_point(|run| run.first <= number);
    behind.checked_sub(1).is_some_and(|place| number < runs[place].end())
}

impl Backlog {
    /// Whether a row belongs to a cut, or is gone.
    fn skips(&self, number: u64) -> bool {
        holds(&self.skip, number) || holds(&self.gone, number)
    }

    /// The rows that may be dropped to make room, as runs; numbers between rows may be unused. `cut`: rows of cuts included.
    pub(super) fn droppable(&self, cut: bool) -> Vec<RowRun> {
        let skip: &[RowRun] = if cut { &[] } else { &self.skip };
        let mut holes: Vec<RowRun> = skip.iter().chain(&self.gone).copied().collect();
        holes.sort_unstable();
        let (mut runs, mut first) = (Vec::new(), self.next);
        for hole in holes.into_iter().chain([RowRun { first: self.end, count: 0 }]) {
            let end = hole.first.min(self.end);
            if first < end {
                runs.push(RowRun { first, count: end - first });
            }
            first = first.max(hole.end());
        }
        runs
    }

    /// Removes a run, of which `rows` rows have ended to make room.
    pub(super) fn let_go(&mut self, run: RowRun, rows: u64) {
        self.rows -= rows;
        if run.first <= self.next {
            self.next = self.next.max(run.end()).min(self.end);
        }
        let next = self.next;
        self.gone.retain(|gone| gone.end() > next);
        if run.end() <= next {
            return;
        }
        let place = self.gone.partition_point(|gone| gone.first < run.first);
        self.gone.insert(place, run);
        self.gone.dedup_by(|later, gone| {
            let together = later.first <= gone.end();
            if together {
                gone.count = gone.count.max(later.end() - gone.first);
            }
            together
        });
    }

    /// Appends these runs of its lane, which leave memory, in order. The rows between them have ended.
    pub(super) fn add(&mut self, runs: &[RowRun]) {
        self.gone.retain(|run| run.end() > self.next);
        for run in runs {
            if self.next >= self.end {
                self.next = run.first;
            } else if self.end < run.first {
                self.gone.push(RowRun { first: self.end, count: run.first - self.end });
            }
            self.end = run.end();
            self.rows += run.count;
        }
    }

    /// Notes that a cut has these rows.
    pub(super) fn leave_out(&mut self, runs: &[RowRun]) {
        self.skip.extend_from_slice(runs);
        self.skip.sort_unstable();
        self.rows = self.rows.saturating_sub(runs.iter().map(|run| run.count).sum());
    }

    /// A backlog of the rows of a void cut alone: other rows of its lane between them are in memory, or in flight.
    pub(super) fn of_void(lane: u64, runs: &[RowRun]) -> Self {
        let mut runs = runs.to_vec();
        runs.sort_unstable();
        let (next, end) = (runs.first().map_or(0, |run| run.first), runs.last().map_or(0, RowRun::end));
        let between = |pair: &[RowRun]| RowRun { first: pair[0].end(), count: pair[1].first - pair[0].end() };
        let skip = runs.windows(2).map(between).filter(|gap| gap.count > 0).collect();
        let rows = runs.iter().map(|run| run.count).sum();
        Self { lane, next, end, rows, skip, void: true, ..Self::default() }
    }

    /// Takes in the rows of a cut that is void: they are read with the others, none of which has been read yet.
    pub(super) fn take_in(&mut self, runs: &[RowRun]) {
        self.skip.retain(|run| !runs.contains(run));
        self.rows += runs.iter().map(|run| run.count).sum::<u64>();
        if let Some(first) = runs.iter().map(|run| run.first).min() {
            self.next = if self.next == self.end { first } else { self.next.min(first) };
        }
        self.end = self.end.max(runs.iter().map(RowRun::end).max().unwrap_or(0));
    }

    /// A lower bound of the number of the first row that is in no cut.
    pub(super) fn first_uncut(&self) -> Option<u64> {
        let behind = |first, run: &RowRun| if run.first <= first { run.end().max(first) } else { first };
        (self.rows > 0).then(|| self.skip.iter().fold(self.next, behind))
    }

    /// The number of the next row to read.
    pub(super) fn unread(&self) -> Option<u64> {
        (self.next < self.end).then_some(self.next)
    }

    /// The number of the next row to read or, when all are read, that of the first row queued after them: by it the
    /// backlogs of a topic take turns. `None`: it has no rows, or they are younger than all rows with a number.
    pub(super) fn oldest(&self) -> Option<u64> {
        self.turn.or_else(|| self.unread()).or_else(|| self.tail.front()?.in_log.first())
    }

    /// Memory of the tail: none of it is sent before the backlog's rows.
    pub(super) fn waiting(&self) -> usize {
        self.tail.iter().map(Batch::memory).sum()
    }

    /// Whether the rows of a batch may follow the backlog's own.
    pub(super) fn takes(&self, batch: &Batch) -> bool {
        let lane = batch.in_log.numbers.of(0).map(|first| first.lane);
        self.next >= self.end || lane == Some(self.lane)
    }
}

impl Producer {
    /// Reads rows with numbers below `before` into the last batch of a queue, or into a new one after it, until that
    /// is full.
    pub(super) fn load_rows(
        &mut self,
        index: u32,
        backlog: &mut Backlog,
        to: (&mut VecDeque<Batch>, usize, u64),
        budget: &mut usize,
        now: Monotonic,
        log: &mut dyn RowLog,
    ) -> Loaded {
        let owed = backlog.owed.memory();
        let loaded = self.read_rows(index, backlog, to, budget, now, log);
        self.owed_resized(index, owed, backlog.owed.memory());
        loaded
    }

    fn read_rows(
        &mut self,
        index: u32,
        backlog: &mut Backlog,
        (queue, uncut, before): (&mut VecDeque<Batch>, usize, u64),
        budget: &mut usize,
        now: Monotonic,
        log: &mut dyn RowLog,
    ) -> Loaded {
        let sink = self.topics[index].sink;
        let batch_bytes = self.sinks[sink].settings.batch_bytes;
        let ceiling = self.memory.load_ceiling(backlog.placed);
        let bounds = Bounds { batch_bytes, ceiling, hint: (batch_bytes, 0), kind: Kind::Logged(backlog.lane) };
        let mut any = false;
        loop {
            self.answer_lost(backlog);
            if backlog.next >= backlog.end {
                return Loaded::All;
            }
            if backlog.next >= before {
                return Loaded::Wait;
            }
            if *budget == 0 {
                return Loaded::Enough;
            }
            let mut stopped = None;
            let (mut expired, mut expired_tickets) = (Numbers::default(), Tickets::default());
            let mut expired_rows = 0u32;
            let (lane, next, end) = (backlog.lane, backlog.next, backlog.end.min(before));
            let (mut len, mut memory) = (0, 0);
            let back = log.read(lane, next, end, &mut |row: LoggedRow<'_>| {
                if *budget == 0 {
                    stopped = Some(Loaded::Enough);
                    return false;
                }
                if backlog.skips(row.number) {
                    backlog.next = row.number + 1;
                    return true;
                }
                let tail_len = row.record.tail.len();
                if row.expires > now {
                    let back = queue.back().filter(|_| queue.len() > uncut);
                    let full = |batch: &Batch| !batch.has_place(batch_bytes, row.record.timestamp, tail_len);
                    if any && back.is_some_and(full) {
                        stopped = Some(Loaded::Enough);
                        return false;
                    }
                    let need = (HEADER_LEN + super::append::RECORD_OVERHEAD + tail_len).max(BUFFER_MIN) + BATCH_COST;
                    if self.memory.pool.used() + need > ceiling {
                        stopped = Some(Loaded::Wait);
                        return false;
                    }
                }
                let ticket = row.ticket.or_else(|| backlog.owed.take(row.number));
                let number = Number { lane, number: row.number };
                backlog.next = row.number + 1;
                backlog.rows = backlog.rows.saturating_sub(1);
                *budget = budget.saturating_sub(tail_len);
                if row.expires <= now {
                    expired.push(expired_rows, number);
                    expired_tickets.push(ticket);
                    expired_rows += 1;
                    return true;
                }
                any = true;
                let new = (&row.record, ticket, Notes::of_logged(lane, &row));
                let pushed = push(queue, uncut, &mut self.memory.pool, bounds, new, now);
                len += pushed.len;
                memory += pushed.memory;
                true
            });
            self.resized(index, 0, memory);
            let stats = &mut self.sinks[sink].stats;
            stats.buffered_bytes += len as u64;
            stats.buffered_rows -= u64::from(expired_rows);
            stats.expired += u64::from(expired_rows);
            if expired_rows > 0 {
                self.logging.ends.over(None, expired, Fate::Expired);
                self.outbox.finished.push(Finished::new(expired_tickets, Outcome::Delivered, true));
                self.left(index, backlog.placed, u64::from(expired_rows));
            }
            match (back, stopped) {
                (_, Some(stopped)) => return stopped,
                (ReadBack::Rows, None) if backlog.next > next => {}
                (ReadBack::Later, None) => return Loaded::Later,
                (ReadBack::Rows, None) => return Loaded::Wait,
                (ReadBack::Rotten(run), None) => self.rotten(index, backlog, run, log),
                (ReadBack::Empty, None) => backlog.next = first_row(log, lane, end, backlog.end),
            }
        }
    }

    /// Fails the tickets of rows that were skipped and are no longer in the log.
    fn answer_lost(&mut self, backlog: &mut Backlog) {
        let mut tickets = Tickets::default();
        backlog.owed.take_before(backlog.next, &mut tickets);
        if !tickets.is_empty() {
            self.outbox.finished.push(Finished::new(tickets, Outcome::LOST, true));
        }
    }

    /// Ends rows that cannot be read, except those of cuts, which notice that themselves.
    fn rotten(&mut self, index: u32, backlog: &mut Backlog, run: RowRun, log: &mut dyn RowLog) {
        let end = run.end().min(backlog.end);
        let mut tickets = Tickets::default();
        let (mut numbers, mut rows) = (Numbers::default(), 0);
        for number in run.first.max(backlog.next)..end {
            if !backlog.skips(number) {
                numbers.push(rows, Number { lane: backlog.lane, number });
                rows += 1;
                log.owed(backlog.lane, RowRun { first: number, count: 1 }, &mut |ticket| tickets.push(Some(ticket)));
            }
        }
        if !tickets.is_empty() {
            self.outbox.finished.push(Finished::new(tickets, Outcome::LOST, true));
        }
        backlog.next = end.max(backlog.next + 1);
        let rows = u64::from(rows).min(backlog.rows);
        backlog.rows -= rows;
        self.logging.ends.over(None, numbers, Fate::Rotten);
        self.rows_lost(index, backlog.placed, rows);
    }

    /// Counts rows as lost that were counted as buffered, and as rows of a partition if `placed`.
    pub(super) fn rows_lost(&mut self, index: u32, placed: bool, rows: u64) {
        let sink = self.topics[index].sink;
        let stats = &mut self.sinks[sink].stats;
        stats.rotten += rows;
        stats.buffered_rows -= rows;
        self.left(index, placed, rows);
    }

    fn left(&mut self, index: u32, placed: bool, rows: u64) {
        if placed {
            self.topics[index].placed -= rows;
        }
    }
}
