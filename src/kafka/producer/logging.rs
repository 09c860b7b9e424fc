//! What goes to the log, and what waits for it: rows are staged before they are placed or cut, a batch is cut through the
//! log and sent when its cut is durable (S2), and what has ended is said there before anything more is cut.
//!
//! The log may take nothing for now. Then whatever it concerns stays as it is and is tried again in the next poll, which
//! comes when the log's sync is over: no deadline asks for it.

use std::collections::VecDeque;

use super::batch::{Batch, Scratch};
use super::in_log::Kind;
use super::numbers::{Number, Numbers};
use super::partition::Partition;
use super::pool::extra;
use super::row_log::{Ended, Fate, NewCut, NotNow, RowLog, RowRun, UNPLACED};
use super::tickets::Tickets;
use super::{Finished, Keep, Key, Producer, Sink};
use crate::kafka::types::{Outcome, SinkId, Ticket};
use crate::runtime::seam::WallMs;

/// Something has ended that the log has not heard of yet.
#[derive(Debug)]
struct Over {
    cut: Option<u64>,
    numbers: Numbers,
    /// How much of them it has heard of.
    next: usize,
    fate: Fate,
}

/// Where rows wait to be staged.
#[derive(Clone, Copy, Debug)]
pub(super) struct Dirty {
    pub(super) topic: u32,
    /// [`UNPLACED`]: its rows without a partition.
    pub(super) partition: i32,
    /// They may stand anywhere in the queue, not only at its end.
    pub(super) anywhere: bool,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Logging {
    /// Some sink keeps rows in a log.
    pub(super) on: bool,
    /// Cuts that have ended, and rows without a cut. Cuts are told first: they give room in the log, which the others may
    /// have to wait for.
    ended_cuts: VecDeque<Over>,
    ended_rows: VecDeque<Over>,
    /// Where rows wait that came since the last poll, and those that are being staged.
    dirty: Vec<Dirty>,
    staging: VecDeque<Dirty>,
    /// By sink, places that were left for later.
    pub(super) aside: Vec<VecDeque<Dirty>>,
    /// Kept for its capacity.
    pub(super) places: Vec<Dirty>,
    /// Answers for either, and those that are due at a group.
    fresh: Tickets,
    waiting: Tickets,
    stored: VecDeque<(u64, Tickets)>,
    /// Where rows were staged in this poll.
    pub(super) staged: Vec<Dirty>,
    /// Partitions with a cut of this group, which may not be sent before.
    unsynced: VecDeque<(u64, Key)>,
    /// Partitions that found the log taking nothing.
    blocked: Vec<Key>,
    /// All groups up to this one are on the disk.
    pub(super) durable: u64,
    /// A cut was taken in this wave.
    pub(super) took: bool,
    pub(super) scratch: Scratch,
    pub(super) runs: Vec<RowRun>,
}

impl Logging {
    pub(super) fn new(on: bool) -> Self {
        Self { on, ..Self::default() }
    }

    /// A batch is cut no more; its rows live on.
    pub(super) fn void(&mut self, batch: &mut Batch) {
        if let Some(cut) = batch.in_log.cut.take() {
            let numbers = batch.in_log.numbers.clone();
            self.ended_cuts.push_back(Over { cut: Some(cut.cut), numbers, next: 0, fate: Fate::Void });
        }
    }

    /// The same for what is cut from a place on, the youngest first: a crash amid that leaves the older ones, which go first.
    pub(super) fn void_from(&mut self, partition: &mut Partition, place: usize) {
        let (undone, work) = (partition.window.len(), partition.work.iter_mut());
        let undone = work.flat_map(|work| work.queue.iter_mut().take(undone).skip(place).rev());
        undone.for_each(|batch| self.void(batch));
    }

    /// Rows have ended, those of a cut with it.
    pub(super) fn over(&mut self, cut: Option<u64>, numbers: Numbers, fate: Fate) {
        let ended = if cut.is_some() { &mut self.ended_cuts } else { &mut self.ended_rows };
        if cut.is_some() || !numbers.is_empty() {
            ended.push_back(Over { cut, numbers, next: 0, fate });
        }
    }

    /// The places where rows wait to be staged, each once.
    pub(super) fn unwritten(&mut self) -> Vec<Dirty> {
        let mut places = std::mem::take(&mut self.places);
        places.clear();
        places.extend(self.staging.iter().chain(self.aside.iter().flatten()).chain(&self.dirty));
        places.sort_unstable_by_key(|dirty| (dirty.topic, dirty.partition));
        places.dedup_by_key(|dirty| (dirty.topic, dirty.partition));
        places
    }

    /// One row has.
    pub(super) fn row_over(&mut self, Number { lane, number }: Number, fate: Fate) {
        if let Some(last) = self.ended_rows.back_mut().filter(|last| last.fate == fate && last.next == 0) {
            return last.numbers.add(last.numbers.rows(), lane, number, 1);
        }
        let mut numbers = Numbers::default();
        numbers.add(0, lane, number, 1);
        self.over(None, numbers, fate);
    }
}

impl Sink {
    /// Whose rows a batch of this sink holds that takes such a row: one with a number, or a fresh one for `home`.
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
    /// Notes an answer that is due when the rows taken so far are on the disk. The row in its batch then has no ticket.
    pub(super) fn answer_when_stored(&mut self, ticket: Option<Ticket>) -> Option<Ticket> {
        let before = extra(&self.logging.fresh);
        self.logging.fresh.push(ticket);
        self.pool.charge(extra(&self.logging.fresh) - before);
        None
    }

    /// Notes that rows of a topic's partition, or of none, wait to be staged.
    pub(super) fn mark_dirty(&mut self, topic: u32, partition: i32) {
        let place = Dirty { topic, partition, anywhere: false };
        if !self.set_dirty(place, true) {
            self.logging.dirty.push(place);
        }
    }

    /// The same of rows that did not come just now, and may stand anywhere. Their answers may wait for what is being
    /// staged: so do they, or those would be given before they are written.
    pub(super) fn mark_older_dirty(&mut self, topic: u32, partition: i32) {
        self.logging.staging.push_back(Dirty { topic, partition, anywhere: true });
    }

    /// The beginning of a poll: what the log can be told and asked before anything is cut.
    pub(super) fn begin_logged(&mut self, log: &mut dyn RowLog) {
        if self.rules.writes_ends_first() {
            self.flush_ended(log);
        }
        if self.stage(log) {
            log.all_written();
        }
        self.logging.durable = log.durable();
        let (rules, durable) = (self.rules, self.logging.durable);
        let may_answer = |(group, _): &mut (u64, Tickets)| rules.may_answer_stored(*group, durable);
        while let Some((_, tickets)) = self.logging.stored.pop_front_if(may_answer) {
            self.outbox.finished.push(Finished::new(tickets, Outcome::Delivered, false));
        }
        while let Some((_, key)) = self.logging.unsynced.pop_front_if(|(group, _)| *group <= self.logging.durable) {
            self.make_ready(key);
        }
        // They are still marked as queued.
        self.agenda.ready.append(&mut self.logging.blocked);
    }

    /// Leaves a partition until the next poll, in which the log may take something.
    pub(super) fn wait_for_log_room(&mut self, key: Key) {
        if let Some(work) = self.partition_mut(key).work.as_mut().filter(|work| !work.queued) {
            work.queued = true;
            self.logging.blocked.push(key);
        }
    }

    /// Tells the log what has ended. `false`: it does not take all of it now.
    pub(super) fn flush_ended(&mut self, log: &mut dyn RowLog) -> bool {
        let Logging { ended_cuts, ended_rows, runs, .. } = &mut self.logging;
        for ended in [ended_cuts, ended_rows] {
            while let Some(over) = ended.front_mut() {
                while let Some((lane, next)) = over.numbers.runs_from(over.next, runs) {
                    if log.ended(&Ended { cut: over.cut, lane, rows: runs, fate: over.fate }).is_err() {
                        return false;
                    }
                    over.next = next;
                }
                if let Some(over) = ended.pop_front() {
                    self.pool.give_numbers(over.numbers);
                }
            }
        }
        true
    }

    /// Writes rows to the log that are not there yet, in the order in which they came. `false`: it does not take all of
    /// them now (but for those that were left for later).
    pub(super) fn stage(&mut self, log: &mut dyn RowLog) -> bool {
        self.stage_aside(log);
        loop {
            while let Some(dirty) = self.logging.staging.front().copied() {
                let aside = self.put_behind_aside(dirty);
                if !aside && self.stage_place(dirty, log).is_err() && !self.put_aside(dirty) {
                    return false;
                }
                self.logging.staging.pop_front();
            }
            if !self.logging.waiting.is_empty() {
                let tickets = std::mem::replace(&mut self.logging.waiting, self.pool.take_tickets(0, 0));
                self.logging.stored.push_back((log.group(), tickets));
            }
            std::mem::swap(&mut self.logging.waiting, &mut self.logging.fresh);
            if self.logging.dirty.is_empty() && self.logging.waiting.is_empty() {
                return true;
            }
            let mut dirty = std::mem::take(&mut self.logging.dirty);
            for dirty in dirty.drain(..) {
                self.set_dirty(dirty, false);
                self.logging.staging.push_back(dirty);
            }
            self.logging.dirty = dirty;
        }
    }

    pub(super) fn stage_place(&mut self, dirty: Dirty, log: &mut dyn RowLog) -> Result<(), NotNow> {
        // What the log took may leave memory, though there is more behind it.
        self.logging.staged.push(dirty);
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

    /// The queues in which rows of one place may wait: in memory, then behind each backlog.
    pub(super) fn queue_mut(&mut self, dirty: Dirty, which: usize) -> Option<&mut VecDeque<Batch>> {
        let topic = self.topics.get_mut(dirty.topic as usize)?;
        let Ok(number) = usize::try_from(dirty.partition) else {
            return match which.checked_sub(1) {
                None => Some(&mut topic.unplaced),
                Some(behind) => topic.backlogs.get_mut(behind).map(|backlog| &mut backlog.tail),
            };
        };
        let partition = topic.partitions.get_mut(number)?;
        match which {
            0 if partition.work.is_some() => Some(&mut partition.work.as_mut()?.queue),
            0 | 1 => Some(&mut partition.spooled.as_mut()?.backlog.as_mut()?.tail),
            _ => None,
        }
    }

    fn stage_queue(&mut self, dirty: Dirty, queue: &mut VecDeque<Batch>, log: &mut dyn RowLog) -> Result<(), NotNow> {
        // Rows that memory alone keeps, or that have come back from the log, say nothing of those before them.
        let fresh = |batch: &Batch| matches!(batch.in_log.kind, Kind::Fresh(_));
        let staged = |batch: &Batch| fresh(batch) && batch.in_log.is_staged(batch.count);
        let last = if dirty.anywhere { None } else { queue.iter().rposition(staged) };
        for batch in queue.range_mut(last.map_or(0, |last| last + 1)..) {
            let Kind::Fresh(home) = batch.in_log.kind else { continue };
            if batch.is_closed() && !batch.in_log.is_staged(batch.count) {
                // It was cut, and is taken back.
                self.save_rows(dirty.topic, home, batch, batch.in_log.numbers.rows(), log)?;
                continue;
            }
            let lane = self.lane(dirty.topic, home, log)?;
            let before = batch.memory();
            let topic = &mut self.topics[dirty.topic as usize];
            let least = topic.least_of(home);
            let Some(rows) = batch.unstaged(lane, least, &mut self.logging.scratch) else { continue };
            let first = log.rows(&rows)?;
            topic.wrote(home, least, first + u64::from(rows.count));
            batch.staged(&mut self.pool, lane, first);
            self.resized(dirty.topic, before, batch.memory());
        }
        Ok(())
    }

    /// The lane of a topic's partition, or of its rows without one.
    pub(super) fn lane(&mut self, topic: u32, home: i32, log: &mut dyn RowLog) -> Result<u64, NotNow> {
        // Asked for each time: the log retires lanes that nothing lives in.
        let topic = &mut self.topics[topic as usize];
        let sink = SinkId(u16::try_from(topic.sink).unwrap_or(u16::MAX));
        let lane = log.lane(sink, &topic.name, home.max(UNPLACED), topic.incarnation(&self.cluster))?;
        match usize::try_from(home).ok().and_then(|number| topic.partitions.get_mut(number)) {
            Some(partition) => partition.lane = Some(lane),
            None => topic.lane = Some(lane),
        }
        Ok(lane)
    }

    /// Cuts a partition's first ripe batch through the log, which may not take it now.
    pub(super) fn cut_logged(&mut self, key: Key, wall: WallMs, log: &mut dyn RowLog) {
        if self.rules.writes_ends_first() && !self.flush_ended(log) {
            return self.wait_for_log_room(key);
        }
        let Some(stamp) = self.stamp_of_next(key) else { return };
        let topic = &self.topics[key.topic as usize];
        let Some(batch) = topic.partitions[key.partition as usize].uncut() else { return };
        let runs = &mut self.logging.runs;
        let lane = batch.in_log.numbers.runs_from(0, runs).filter(|_| batch.in_log.is_staged(batch.count));
        let Some((lane, _)) = lane else { return self.wait_for_log_room(key) };
        let cut = NewCut {
            sink: SinkId(u16::try_from(topic.sink).unwrap_or(u16::MAX)),
            topic: &topic.name,
            of: topic.incarnation(&self.cluster),
            partition: key.partition as i32,
            producer_id: stamp.producer_id,
            epoch: stamp.epoch,
            sequence: stamp.sequence,
            timeless: batch.max_timestamp < 0,
            lane,
            rows: runs,
        };
        let Ok(taken) = log.cut(&cut) else { return self.wait_for_log_room(key) };
        self.cut(key, wall, Some(taken));
        if taken.group > self.logging.durable {
            self.logging.unsynced.push_back((taken.group, key));
        }
        self.logging.took = true;
    }
}
