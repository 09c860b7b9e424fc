//! Rows, cuts and ends on their way to the log: rows are staged before they are placed or cut, a batch is cut through
//! the log and sent when its cut is durable (S2), and ends are written before the next cut.
//!
//! The log may take nothing for now. The affected rows, cuts or ends then stay unchanged and are retried in the next poll, which
//! follows the end of the log's sync: it needs no deadline.

use std::collections::VecDeque;

use super::batch::{Batch, Scratch};
use super::ends::Ends;
use super::in_log::Kind;
use super::numbers::Number;
use super::pool::{Pool, extra};
use super::row_log::{NotNow, RowLog, RowRun, UNPLACED};
use super::tickets::Tickets;
use super::unwritten::{Dirty, Unwritten};
use super::{Finished, Keep, Key, Producer, Sink};
use crate::types::{Outcome, SinkId, Ticket};
use forebay_runtime::seam::WallMs;

/// The producer's rows, cuts and ends on their way to the log.
#[derive(Debug, Default)]
pub(super) struct Logging {
    /// Whether some sink keeps rows in a log.
    pub(super) on: bool,
    /// See [`Producer::cut_no_more`].
    pub(super) cuts_no_more: bool,
    pub(super) ends: Ends,
    pub(super) unwritten: Unwritten,
    answers: Answers,
    /// The group of the rows that were written last.
    pub(super) wrote: u64,
    /// Partitions with a cut of this group, which may not be sent before the group is durable.
    unsynced: VecDeque<(u64, Key)>,
    /// Partitions for which the log took nothing.
    blocked: Vec<Key>,
    /// The last durable group.
    pub(super) durable: u64,
    /// Whether a batch was not cut, since memory is short ([`Producer::may_stay`]).
    pub(super) kept_back: bool,
    /// Whether a cut was taken in this wave.
    pub(super) took: bool,
    pub(super) scratch: Scratch,
    pub(super) runs: Vec<RowRun>,
}

/// Tickets that are due once everything taken so far is durable.
#[derive(Debug, Default)]
struct Answers {
    /// Tickets of rows that arrived since the last poll; `waiting`: of rows being staged.
    fresh: Tickets,
    waiting: Tickets,
    /// Tickets that are due when a group is durable.
    stored: VecDeque<(u64, Tickets)>,
}

impl Answers {
    /// Assigns the tickets of all rows being staged to this group and continues with the newer ones. Returns whether
    /// there are none of those.
    fn staged(&mut self, group: u64, pool: &mut Pool) -> bool {
        if !self.waiting.is_empty() {
            let tickets = std::mem::replace(&mut self.waiting, pool.take_tickets(0, 0));
            self.stored.push_back((group, tickets));
        }
        std::mem::swap(&mut self.waiting, &mut self.fresh);
        self.waiting.is_empty()
    }
}

impl Logging {
    pub(super) fn new(on: bool) -> Self {
        Self { on, ..Self::default() }
    }
}

impl Sink {
    /// The kind of the batch of this sink that takes a row: one with a number, or a new one for `home`.
    /// `over`: memory has enough of them.
    pub(super) const fn kind(&self, number: Option<Number>, home: i32, over: bool) -> Kind {
        match (self.settings.keep, number) {
            (Keep::Memory, _) => Kind::Memory,
            (_, Some(number)) => Kind::Logged(number.lane),
            (Keep::Hybrid | Keep::HybridSaved, None) if !over => Kind::Memory,
            (Keep::Disk | Keep::Hybrid | Keep::HybridSaved, None) => Kind::Fresh(home),
        }
    }
}

impl Producer {
    /// Notes a ticket that is due when the rows taken so far are durable. The row in its batch then has no ticket.
    pub(super) fn answer_when_stored(&mut self, ticket: Option<Ticket>) -> Option<Ticket> {
        let fresh = &mut self.logging.answers.fresh;
        let before = extra(fresh);
        fresh.push(ticket);
        self.memory.pool.charge(extra(fresh) - before);
        None
    }

    /// Begins a poll: writes and asks what the log has to take or answer before anything is cut.
    pub(super) fn begin_logged(&mut self, log: &mut dyn RowLog) {
        if self.settings.rules.writes_ends_first() {
            self.flush_ended(log);
        }
        if self.stage(log) {
            log.all_written();
        }
        self.logging.durable = log.durable();
        let (rules, durable) = (self.settings.rules, self.logging.durable);
        let may_answer = |(group, _): &mut (u64, Tickets)| rules.may_answer_stored(*group, durable);
        while let Some((_, tickets)) = self.logging.answers.stored.pop_front_if(may_answer) {
            self.outbox.finished.push(Finished::new(tickets, Outcome::Delivered, false));
        }
        while let Some((_, key)) = self.logging.unsynced.pop_front_if(|(group, _)| *group <= self.logging.durable) {
            self.make_ready(key);
        }
        // The partitions are still marked as queued.
        self.agenda.ready.append(&mut self.logging.blocked);
    }

    /// Leaves a partition until the next poll, in which the log may take something.
    pub(super) fn wait_for_log_room(&mut self, key: Key) {
        if let Some(work) = self.topics[key].work.as_mut().filter(|work| !work.queued) {
            work.queued = true;
            self.logging.blocked.push(key);
        }
    }

    /// Writes the ends to the log. `false`: it does not take all of them now.
    pub(super) fn flush_ended(&mut self, log: &mut dyn RowLog) -> bool {
        let Logging { ends, runs, .. } = &mut self.logging;
        ends.tell(runs, &mut self.memory.pool, log)
    }

    /// Writes rows to the log that are not there yet, in the order in which they arrived. `false`: it does not take all of
    /// them now (except postponed ones).
    pub(super) fn stage(&mut self, log: &mut dyn RowLog) -> bool {
        self.stage_aside(log);
        loop {
            while let Some(dirty) = self.logging.unwritten.staging.front().copied() {
                let aside = self.put_behind_aside(dirty);
                if !aside && self.stage_place(dirty, log).is_err() && !self.put_aside(dirty) {
                    return false;
                }
                self.logging.unwritten.staging.pop_front();
            }
            // All of it has been taken: the last of it with the rows that were written last. The group gathered now may be empty,
            // and would not become durable by itself.
            let none = self.logging.answers.staged(self.logging.wrote, &mut self.memory.pool);
            if self.logging.unwritten.dirty.is_empty() && none {
                return true;
            }
            let mut dirty = std::mem::take(&mut self.logging.unwritten.dirty);
            for dirty in dirty.drain(..) {
                self.set_dirty(dirty, false);
                self.logging.unwritten.staging.push_back(dirty);
            }
            self.logging.unwritten.dirty = dirty;
        }
    }

    pub(super) fn stage_place(&mut self, dirty: Dirty, log: &mut dyn RowLog) -> Result<(), NotNow> {
        // Rows that the log took may leave memory even though more follow.
        self.logging.unwritten.staged.push(dirty);
        for which in 0.. {
            let Some(queue) = self.queue_mut(dirty, which) else { break };
            let mut queue = std::mem::take(queue);
            let done = self.stage_queue(dirty, &mut queue, log);
            if let Some(place) = self.queue_mut(dirty, which) {
                *place = queue;
            }
            done?;
        }
        Ok(())
    }

    /// The queues with rows of one place: in memory, then after each backlog.
    pub(super) fn queue_mut(&mut self, dirty: Dirty, which: usize) -> Option<&mut VecDeque<Batch>> {
        let topic = self.topics.get_mut(dirty.topic)?;
        let Ok(number) = usize::try_from(dirty.partition) else {
            return match which.checked_sub(1) {
                None => Some(&mut topic.unplaced.queue),
                Some(behind) => topic.unplaced.backlogs.get_mut(behind).map(|backlog| &mut backlog.tail),
            };
        };
        let partition = topic.partitions.get_mut(number)?;
        match which {
            0 if partition.work.is_some() => Some(&mut partition.work.as_mut()?.queue),
            0 | 1 => Some(&mut partition.backlog_mut()?.tail),
            _ => None,
        }
    }

    fn stage_queue(&mut self, dirty: Dirty, queue: &mut VecDeque<Batch>, log: &mut dyn RowLog) -> Result<(), NotNow> {
        // Rows in memory alone, or read back from the log, do not show whether those before them are staged.
        let fresh = |batch: &Batch| matches!(batch.in_log.kind, Kind::Fresh(_));
        let staged = |batch: &Batch| fresh(batch) && batch.in_log.is_staged(batch.count);
        let last = if dirty.anywhere { None } else { queue.iter().rposition(staged) };
        for batch in queue.range_mut(last.map_or(0, |last| last + 1)..) {
            let Kind::Fresh(home) = batch.in_log.kind else { continue };
            if batch.is_closed() && !batch.in_log.is_staged(batch.count) {
                // The batch was cut, and is taken back.
                self.save_rows(dirty.topic, home, batch, batch.in_log.numbers.rows(), log)?;
                continue;
            }
            let lane = self.lane(dirty.topic, home, log)?;
            let before = batch.memory();
            let topic = &mut self.topics[dirty.topic];
            let least = topic.turns.least_of(home);
            let Some(rows) = batch.unstaged(lane, least, &mut self.logging.scratch) else { continue };
            let first = log.rows(&rows)?;
            self.logging.wrote = log.group();
            topic.turns.wrote(home, least, first + u64::from(rows.count));
            batch.staged(&mut self.memory.pool, lane, first);
            self.resized(dirty.topic, before, batch.memory());
        }
        Ok(())
    }

    /// The lane of a topic's partition, or of its rows without one.
    pub(super) fn lane(&mut self, topic: u32, home: i32, log: &mut dyn RowLog) -> Result<u64, NotNow> {
        // The lane is looked up each time: the log retires lanes without live rows.
        let topic = &mut self.topics[topic];
        let sink = SinkId::of(topic.sink);
        let lane = log.lane(sink, &topic.name, home.max(UNPLACED), topic.incarnation(&self.cluster.id))?;
        topic.lane_mut(home).into_iter().for_each(|place| place.number = Some(lane));
        Ok(lane)
    }

    /// Cuts a partition's first ripe batch through the log, which may not take it now.
    pub(super) fn cut_logged(&mut self, key: Key, wall: WallMs, log: &mut dyn RowLog) {
        if self.settings.rules.writes_ends_first() && !self.flush_ended(log) {
            return self.wait_for_log_room(key);
        }
        let Some(stamp) = self.stamp_of_next(key) else { return };
        let topic = &self.topics[key.topic];
        let Some(batch) = topic.partitions[key.partition as usize].uncut() else { return };
        let runs = &mut self.logging.runs;
        let lane = batch.in_log.numbers.runs_from(0, runs).filter(|_| batch.in_log.is_staged(batch.count));
        let Some((lane, _)) = lane else { return self.wait_for_log_room(key) };
        let cut = topic.new_cut(&self.cluster.id, key.partition as i32, (batch.is_timeless(), stamp), (lane, runs));
        let Ok(taken) = log.cut(&cut) else { return self.wait_for_log_room(key) };
        self.cut(key, wall, Some(taken));
        if taken.group > self.logging.durable {
            self.logging.unsynced.push_back((taken.group, key));
        }
        self.logging.took = true;
    }
}
