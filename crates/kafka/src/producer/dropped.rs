//! Rows that make room for younger ones (`when_full = "drop-oldest"`): rows in the log that are in no cut batch, in memory
//! too or not. The log knows which rows are the oldest, ends them, and reports them.

use std::collections::VecDeque;

use super::backlog::Backlog;
use super::batch::Batch;
use super::in_log::Kind;
use super::numbers::Number;
use super::partition::Partition;
use super::row_log::{RowRun, RowSet};
use super::tickets::Tickets;
use super::{Finished, Key, Producer};
use crate::types::{Outcome, SinkId, Ticket};
use forebay_record::Record;

/// Finds the pending tickets of an earlier process's rows, by lane ([`super::row_log::RowLog::owed`]).
pub type OwedRows<'a> = &'a mut dyn FnMut(u64, RowRun) -> Vec<Ticket>;

impl Producer {
    /// Rows of matching sinks that may be dropped to make room. Looks at all batches: not for every turn.
    #[must_use]
    pub fn droppable(&self, wants: impl Fn(SinkId) -> bool) -> RowSet {
        let mut found = Vec::new();
        let cut = self.settings.rules.drops_cut_rows();
        for topic in self.topics.iter().filter(|topic| !topic.vacant && wants(SinkId::of(topic.sink))) {
            let backlogs = topic.partitions.iter().filter_map(Partition::backlog).chain(&topic.unplaced.backlogs);
            for backlog in backlogs.clone() {
                found.extend(backlog.droppable(cut).into_iter().map(|run| (backlog.lane, run)));
            }
            let placed = topic.partitions.iter().flat_map(Partition::all_uncut);
            let unplaced = topic.unplaced.queue.iter().skip(topic.unplaced.half_placed());
            let batches = placed.chain(unplaced).chain(backlogs.flat_map(|backlog| &backlog.tail));
            found.extend(batches.filter(|batch| batch.may_lose_rows()).flat_map(|batch| batch.in_log.numbers.runs()));
        }
        found.into_iter().collect()
    }

    /// Rows of a sink that are in the log alone. Looks at every partition that has any: not for every turn.
    #[must_use]
    pub fn spilled_rows(&self, sink: SinkId) -> u64 {
        let of_sink = |index: &u32| self.topics[*index].sink == usize::from(sink.0);
        let rows = |(index, partition): &(u32, i32)| {
            let topic = &self.topics[*index];
            match usize::try_from(*partition) {
                Ok(number) => topic.partitions.get(number).and_then(Partition::backlog).map_or(0, |of| of.rows),
                Err(_) => topic.unplaced.backlogs.iter().map(|backlog| backlog.rows).sum(),
            }
        };
        self.loader.spooling.iter().filter(|(index, _)| of_sink(index)).map(rows).sum()
    }

    /// Removes rows of [`Producer::droppable`] that the keeper of the log has ended to make room. Rows before them in memory
    /// alone (`Keep::Hybrid`) are dropped as well: a partition keeps its latest rows.
    pub fn dropped(&mut self, rows: &RowSet, owed: OwedRows<'_>) {
        if rows.is_empty() {
            return;
        }
        for index in self.topics.places() {
            let before = self.sinks[self.topics[index].sink].stats.dropped;
            for key in self.topics.keys(index) {
                self.drop_of_partition(key, rows, owed);
            }
            self.drop_unplaced(index, rows, owed);
            if self.sinks[self.topics[index].sink].stats.dropped > before {
                self.may_place(index);
            }
        }
    }

    fn drop_of_partition(&mut self, key: Key, rows: &RowSet, owed: OwedRows<'_>) {
        let partition = &mut self.topics[key];
        if partition.is_idle() {
            return;
        }
        let spooled = partition.spooled.as_mut().and_then(|spooled| spooled.backlog.take());
        let (mut behind, mut dropped) = (0, 0);
        if let Some(mut backlog) = spooled {
            behind = self.drop_backlog(key.topic, &mut backlog, rows, owed);
            dropped = if backlog.placed { behind } else { 0 };
            let mut tail = std::mem::take(&mut backlog.tail);
            let of_tail = self.drop_queue(key.topic, &mut tail, 0, (rows, false));
            backlog.tail = tail;
            (behind, dropped) = (behind + of_tail, dropped + of_tail);
            if let Some(spooled) = self.topics[key].spooled.as_mut() {
                spooled.backlog = Some(backlog);
            }
        }
        let undone = self.topics[key].window.len();
        if let Some(work) = self.topics[key].work.as_mut() {
            let mut queue = std::mem::take(&mut work.queue);
            dropped += self.drop_queue(key.topic, &mut queue, undone, (rows, behind > 0));
            if let Some(work) = self.topics[key].work.as_mut() {
                work.queue = queue;
            }
        }
        self.topics[key.topic].placed = self.topics[key.topic].placed.saturating_sub(dropped);
        self.rest(key);
    }

    fn drop_unplaced(&mut self, index: u32, rows: &RowSet, owed: OwedRows<'_>) {
        let unplaced = &mut self.topics[index].unplaced;
        let half = unplaced.half_placed();
        let (mut queue, mut backlogs) = (std::mem::take(&mut unplaced.queue), std::mem::take(&mut unplaced.backlogs));
        let mut behind = 0;
        for backlog in &mut backlogs {
            behind += self.drop_backlog(index, backlog, rows, owed);
            behind += self.drop_queue(index, &mut backlog.tail, 0, (rows, false));
        }
        self.drop_queue(index, &mut queue, half, (rows, behind > 0));
        let unplaced = &mut self.topics[index].unplaced;
        (unplaced.queue, unplaced.backlogs) = (queue, backlogs);
    }

    /// Drops these rows from the batches from a place on. `behind`: some later rows are gone, too. Returns how many rows
    /// were dropped.
    fn drop_queue(
        &mut self,
        index: u32,
        queue: &mut VecDeque<Batch>,
        from: usize,
        (rows, behind): (&RowSet, bool),
    ) -> u64 {
        let is_hit =
            |batch: &Batch| batch.in_log.numbers.runs().any(|(lane, run)| rows.within(lane, run).next().is_some());
        let is_hit = |batch: &Batch| batch.may_lose_rows() && is_hit(batch);
        let last = if behind { queue.len() } else { queue.iter().rposition(is_hit).map_or(0, |last| last + 1) };
        let mut dropped = 0;
        let mut at = from;
        for _ in from..last {
            let Some(batch) = queue.get(at) else { break };
            let is_older = batch.in_log.kind == Kind::Memory && batch.may_lose_rows();
            if !is_older && !is_hit(batch) {
                at += 1;
                continue;
            }
            let goes = |number: Number| rows.holds(number.lane, number.number);
            let gone = self.drop_rows_at(index, queue, &mut at, |number, _, _| number.map_or(is_older, goes));
            let Some((rows, tickets)) = gone else { break };
            dropped += rows;
            self.outbox.finished.push(Finished::new(tickets, Outcome::Delivered, false));
        }
        dropped
    }

    /// Drops rows of the batch at a place in a queue, selected by their number in the log and their ticket, and removes them from the
    /// counters. `at` is then the place of the next batch. Returns how many there were, and their tickets.
    pub(super) fn drop_rows_at(
        &mut self,
        index: u32,
        queue: &mut VecDeque<Batch>,
        at: &mut usize,
        goes: impl Fn(Option<Number>, Option<Ticket>, &Record<'_>) -> bool,
    ) -> Option<(u64, Tickets)> {
        let mut batch = queue.remove(*at)?;
        let before = batch.memory();
        let gone = batch.drop_rows(&mut self.memory.pool, |_, number, ticket, record| goes(number, ticket, record));
        let stats = &mut self.sinks[self.topics[index].sink].stats;
        stats.dropped += gone.rows;
        stats.buffered_rows -= gone.rows;
        stats.buffered_bytes = stats.buffered_bytes.saturating_add_signed(-gone.bytes);
        self.memory.pool.give_numbers(gone.numbers);
        if batch.count == 0 {
            self.resized(index, before, 0);
            batch.discard(&mut self.memory.pool);
        } else {
            self.resized(index, before, batch.memory());
            queue.insert(*at, batch);
            *at += 1;
        }
        Some((gone.rows, gone.tickets))
    }

    /// Drops these rows from those in the log alone. Returns how many.
    fn drop_backlog(&mut self, index: u32, backlog: &mut Backlog, rows: &RowSet, owed: OwedRows<'_>) -> u64 {
        let cut = self.settings.rules.drops_cut_rows();
        let lane = backlog.lane;
        let runs: Vec<RowRun> = backlog.droppable(cut).into_iter().flat_map(|run| rows.within(lane, run)).collect();
        if runs.is_empty() {
            return 0;
        }
        let mut tickets = Tickets::default();
        let (before, held) = (backlog.owed.memory(), backlog.rows);
        for run in runs {
            owed(lane, run).into_iter().for_each(|ticket| tickets.push(Some(ticket)));
            backlog.let_go(run, run.count.min(backlog.rows));
            backlog.owed.take_run(run, &mut tickets);
        }
        let dropped = held - backlog.rows;
        let stats = &mut self.sinks[self.topics[index].sink].stats;
        stats.dropped += dropped;
        stats.buffered_rows -= dropped;
        self.owed_resized(index, before, backlog.owed.memory());
        if !tickets.is_empty() {
            self.outbox.finished.push(Finished::new(tickets, Outcome::Delivered, true));
        }
        dropped
    }
}
