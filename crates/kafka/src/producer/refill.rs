//! Rows between memory and the log: rows read back from the log, and rows that leave memory because the log has them.

use std::collections::VecDeque;

use super::backlog::{Backlog, Loaded, Spooled};
use super::batch::Batch;
use super::in_log::Kind;
use super::numbers::Number;
use super::partition::Work;
use super::row_log::{RowLog, UNPLACED};
use super::tickets::Cursor;
use super::unwritten::Dirty;
use super::{Keep, Key, Producer};
use crate::types::SinkId;
use forebay_base::limits::LOADED_BYTES_PER_POLL;
use forebay_runtime::seam::Monotonic;

/// Uncut batches of a partition in memory, from which on no more is read for it.
const READY_BATCHES: usize = 2;

impl Producer {
    /// Notes that a partition of a topic, or its rows without one, has rows or cuts in the log that are not in memory.
    pub(super) fn note_spooled(&mut self, index: u32, partition: i32) {
        let lane = self.topics[index].lane_mut(partition);
        if lane.is_some_and(|lane| !std::mem::replace(&mut lane.listed, true)) {
            self.loader.spooling.push((index, partition));
        }
    }

    /// Reads back what memory has room for. Returns whether there is more to do at once.
    pub(super) fn refill(&mut self, now: Monotonic, log: &mut dyn RowLog) -> bool {
        if self.loader.spooling.is_empty() {
            return false;
        }
        self.weigh_waiting();
        let (mut budget, mut placeable) = (LOADED_BYTES_PER_POLL, false);
        let mut places = std::mem::take(&mut self.loader.spooling);
        places.retain(|(index, partition)| {
            let stays = match u32::try_from(*partition) {
                Ok(partition) => self.refill_partition(Key { topic: *index, partition }, &mut budget, now, log),
                Err(_) => self.refill_unplaced(*index, &mut budget, &mut placeable, now, log),
            };
            if !stays && let Some(lane) = self.topics[*index].lane_mut(*partition) {
                lane.listed = false;
            }
            stays
        });
        // The next place goes first, as when rows are placed.
        if budget == 0 && !places.is_empty() {
            places.rotate_left(1);
        }
        let more = !places.is_empty() && (budget == 0 || placeable);
        places.append(&mut self.loader.spooling);
        self.loader.spooling = places;
        more
    }

    /// Whether memory may take more of a sink from the log. `idle`: the caller has nothing to send. Rows that wait for
    /// room in the log do not count, nor do those queued after rows that are in the log alone: both end only when more is read and
    /// sent, so they must not prevent it.
    fn may_refill(&self, sink: usize, idle: bool) -> bool {
        let sink = &self.sinks[sink];
        let (spill_after, batch) = (sink.settings.spill_after, sink.settings.batch_bytes);
        let memory = sink.memory.saturating_sub(sink.waiting) + batch;
        let beyond = spill_after + (spill_after / 2).max(2 * batch);
        memory == batch
            || memory <= spill_after && self.may_read(batch, true)
            || idle && memory <= beyond && self.may_read(batch, false)
    }

    /// Whether rows that are read may stay in memory until Kafka has them ([`super::memory::Memory::may_stay`]). While the log takes
    /// no rows they always may, since rows that wait for the log cannot leave memory before others are sent.
    fn may_read(&self, bytes: usize, within: bool) -> bool {
        self.memory.may_stay(bytes, within) || self.logging.unwritten.waits()
    }

    /// Whether the next batch of a partition may be cut, and stay in memory until Kafka has it: otherwise its rows can be in
    /// the log alone, to which they leave when this poll ends. A batch that cannot leave memory always may be cut.
    pub(super) fn may_stay(&mut self, key: Key) -> bool {
        let sink = &self.sinks[self.topics[key.topic].sink];
        let within = sink.memory <= sink.settings.spill_after;
        if self.memory.may_stay(0, within) {
            return true;
        }
        let (partition, home) = (&self.topics[key], Kind::Fresh(key.partition as i32));
        let leaves = |batch: &Batch| batch.in_log.kind == home && !batch.is_closed();
        if partition.backlog().is_some() || !partition.all_uncut().all(leaves) {
            return true;
        }
        let place = Dirty { topic: key.topic, partition: key.partition as i32, anywhere: false };
        self.logging.unwritten.staged.push(place);
        self.logging.kept_back = true;
        false
    }

    /// Asks for the metadata and producer id needed before anything of a topic is read. `false`: not known yet.
    fn is_known(&mut self, index: u32, now: Monotonic) -> bool {
        let topic = &self.topics[index];
        let (known, sink) = (topic.view.count > 0, topic.sink);
        if self.sinks[sink].identity.is_none() {
            self.ask_producer_id(sink, now);
        }
        if !known {
            self.ask_metadata(index, now);
        }
        known && self.cluster.reachable
    }

    /// Refills a partition. Returns whether it has rows or cuts left in the log.
    fn refill_partition(&mut self, key: Key, budget: &mut usize, now: Monotonic, log: &mut dyn RowLog) -> bool {
        if self.topics[key].spooled.is_none() {
            return false;
        }
        // A partly loaded cut is always finished: others wait for it.
        let half = self.loader.loading == Some(key);
        if !self.is_known(key.topic, now) && !half {
            return true;
        }
        if self.is_gone(key) {
            self.leave(key, now);
            return self.topics[key].spooled.is_some();
        }
        let sink = self.topics[key.topic].sink;
        let partition = &mut self.topics[key];
        if partition.leader.is_none() {
            self.ask_metadata(key.topic, now);
            if !half {
                return true;
            }
        }
        let partition = &mut self.topics[key];
        let ready = partition.uncut_count();
        // Rows without a partition that were read may fill the memory while they wait for older ones of this partition: a partition
        // with nothing else to send must always get those.
        let empty = partition.queued() == 0;
        // Rows in memory that follow a cut can only be sent after the cut is loaded.
        let cuts = partition.spooled.as_ref().is_some_and(|spooled| !spooled.cuts.is_empty());
        let batch_bytes = self.sinks[sink].settings.batch_bytes;
        if cuts {
            let may = half
                || self.may_refill(sink, true)
                || self.may_read(batch_bytes, true) && (ready > 0 || empty && self.may_go_beyond(sink, key, now));
            if !may || self.load_cuts(key, budget, log) != Loaded::All {
                return true;
            }
        }
        let partition = &mut self.topics[key];
        if partition.spooled.as_ref().is_some_and(|spooled| spooled.backlog.is_none()) {
            partition.spooled = None;
            self.may_place(key.topic);
            return false;
        }
        if self.topics[key.topic].waits_for_placed() {
            self.may_place(key.topic);
        }
        let topic = &mut self.topics[key.topic];
        if topic.turns.restoring && !topic.turns.was_placed {
            // Rows placed by this process may have the same keys in other partitions: they are done first.
            if topic.in_queues() > 0 {
                return true;
            }
            topic.turns.was_placed = true;
        }
        // While a topic grows, rows without a partition wait for those with one.
        let waits = topic.turns.restoring || !topic.waits_for_placed();
        let before = topic.unplaced.oldest().filter(|_| waits).unwrap_or(u64::MAX);
        let may = self.may_refill(sink, ready == 0)
            || empty && self.may_read(batch_bytes, false)
            || empty && self.may_read(batch_bytes, true) && self.may_go_beyond(sink, key, now);
        if self.topics[key].leader.is_none() || !may {
            return true;
        }
        let spooled = self.topics[key].spooled.take();
        let Some(Spooled { backlog: Some(mut backlog), .. }) = spooled.map(|spooled| *spooled) else { return false };
        let partition = &mut self.topics[key];
        let work = Work::begin(&mut partition.work, &mut partition.window, &mut self.memory.spare);
        let mut queue = std::mem::take(&mut work.queue);
        let cut = partition.window.len();
        let (mut loaded, begun) = (Loaded::Enough, backlog.next);
        while loaded == Loaded::Enough && *budget > 0 && queue.len() - cut < READY_BATCHES {
            loaded = self.load_rows(key.topic, &mut backlog, (&mut queue, cut, before), budget, now, log);
        }
        // A partly read batch waits for its remaining rows only as long as a growing one lingers: otherwise reads that are
        // small compared with a batch would make small batches.
        let linger = self.sinks[sink].settings.linger;
        if (loaded == Loaded::Later || *budget == 0)
            && backlog.next > begun
            && !linger.is_zero()
            && queue.len() > cut
            && let Some(batch) = queue.back_mut()
        {
            batch.ripe_at = now.after(linger);
            self.sinks[sink].lingering.push_back((batch.ripe_at, key));
            self.sinks.lingers(sink);
        }
        if loaded == Loaded::All {
            // The rows queued after the backlog wait no longer, nor do those that were read before.
            if let Some(batch) = queue.back_mut().filter(|_| begun < backlog.end) {
                batch.ripe_at = batch.ripe_at.min(now);
            }
            for mut batch in backlog.tail.drain(..) {
                batch.ripe_at = now;
                queue.push_back(batch);
            }
            self.rows_lost(key.topic, true, std::mem::take(&mut backlog.rows));
        }
        if let Some(work) = self.topics[key].work.as_mut() {
            work.queue = queue;
        }
        self.make_ready(key);
        self.rest_unless_ready(key);
        if loaded == Loaded::All {
            self.topics[key.topic].backlogged -= 1;
            self.may_place(key.topic);
            return false;
        }
        self.topics[key].spooled = Some(Box::new(Spooled { backlog: Some(backlog), ..Spooled::default() }));
        true
    }

    /// Drops the state of an idle partition, unless it is on a list of partitions to look at.
    fn rest_unless_ready(&mut self, key: Key) {
        if self.topics[key].work.as_ref().is_some_and(|work| work.queue.is_empty() && !work.queued) {
            self.rest(key);
        }
    }

    /// Like [`Self::refill_partition`], for a topic's rows without a partition.
    fn refill_unplaced(
        &mut self,
        index: u32,
        budget: &mut usize,
        placeable: &mut bool,
        now: Monotonic,
        log: &mut dyn RowLog,
    ) -> bool {
        if self.topics[index].unplaced.backlogs.is_empty() {
            return false;
        }
        // Rows of a topic that takes nothing are read so that they can be refused.
        let refuses = self.topics[index].view.refuses().is_some();
        if !(self.is_known(index, now) || refuses) || self.topics[index].waits_for_placed() {
            return true;
        }
        let topic = &mut self.topics[index];
        let (sink, idle) = (topic.sink, topic.unplaced.queue.is_empty());
        if topic.unplaced.queue.len() >= READY_BATCHES || !self.may_refill(sink, idle) {
            return true;
        }
        let topic = &mut self.topics[index];
        let Some(place) = topic.unplaced.next_backlog() else { return false };
        // Older rows must go first, and need the memory.
        let next = &topic.unplaced.backlogs[place];
        if !topic.is_turn_of(self.settings.rules, next.turn.unwrap_or(next.next)) {
            return true;
        }
        let Some(mut backlog) = topic.unplaced.backlogs.remove(place) else { return false };
        let others = topic.unplaced.oldest_in_log().unwrap_or(u64::MAX);
        let mut queue = std::mem::take(&mut topic.unplaced.queue);
        let before = backlog.next;
        let bound = if backlog.turn.is_some() { u64::MAX } else { others.max(before + 1) };
        let loaded = self.load_rows(index, &mut backlog, (&mut queue, 0, bound), budget, now, log);
        *placeable |= backlog.next > before;
        if loaded == Loaded::All {
            // The rows queued after the backlog take their turn as well.
            while backlog.oldest().unwrap_or(u64::MAX) <= others
                && let Some(batch) = backlog.tail.pop_front()
            {
                *placeable = true;
                queue.push_back(batch);
            }
            self.rows_lost(index, false, std::mem::take(&mut backlog.rows));
        }
        let topic = &mut self.topics[index];
        topic.unplaced.queue = queue;
        if loaded != Loaded::All || !backlog.tail.is_empty() {
            topic.unplaced.backlogs.insert(place, backlog);
        }
        self.may_place(index);
        self.refuse_unplaced(index);
        !self.topics[index].unplaced.backlogs.is_empty()
    }

    /// Removes rows from memory that the log has, if memory is short or older ones are there alone.
    pub(super) fn spill(&mut self) {
        let mut staged = std::mem::take(&mut self.logging.unwritten.staged);
        for dirty in staged.drain(..) {
            self.spill_place(dirty);
        }
        self.logging.unwritten.staged = staged;
        // There may be room again for batches that were not cut, or their rows are in the log alone now.
        self.agenda.behind |= std::mem::take(&mut self.logging.kept_back);
    }

    fn spill_place(&mut self, Dirty { topic: index, partition, .. }: Dirty) {
        let topic = &mut self.topics[index];
        let sink = &self.sinks[topic.sink];
        if sink.settings.keep == Keep::Memory {
            return;
        }
        let mut over = sink.memory.saturating_sub(sink.settings.spill_after).max(self.memory.beyond_stay());
        let home = Kind::Fresh(partition.max(UNPLACED));
        let (queue, uncut, backlog) = match usize::try_from(partition) {
            Ok(number) => {
                let partition = &mut topic.partitions[number];
                let backlog = partition.spooled.as_mut().and_then(|spooled| spooled.backlog.take());
                match partition.work.as_mut() {
                    Some(work) => (Some(&mut work.queue), partition.window.len(), backlog),
                    None => (None, 0, backlog),
                }
            }
            // Some rows of a partly placed batch are elsewhere.
            Err(_) => {
                let (half, last) = (topic.unplaced.half_placed(), topic.unplaced.backlogs.pop_back());
                (Some(&mut topic.unplaced.queue), half, last)
            }
        };
        let mut out = Vec::new();
        let backlog = match (backlog, queue) {
            (Some(mut backlog), _) => {
                while backlog.tail.front().is_some_and(|batch| is_spillable(batch, partition) && backlog.takes(batch)) {
                    out.extend(backlog.tail.pop_front());
                }
                Some(backlog)
            }
            (None, Some(queue)) => {
                // Rows that the log has not taken yet stay in memory, after those that leave.
                let unwritten = |batch: &Batch| batch.in_log.kind == home && !batch.in_log.is_staged(batch.count);
                let mut tail = VecDeque::new();
                while over > 0
                    && queue.len() > uncut
                    && let Some(batch) = queue.pop_back_if(|batch| unwritten(batch) && !batch.is_closed())
                {
                    tail.push_front(batch);
                }
                while over > 0
                    && queue.len() > uncut
                    && let Some(batch) = queue.pop_back_if(|batch| is_spillable(batch, partition))
                {
                    over = over.saturating_sub(batch.memory());
                    out.push(batch);
                }
                out.reverse();
                match out.first().and_then(|batch| batch.in_log.numbers.of(0)) {
                    Some(Number { lane, .. }) => {
                        Some(Backlog { lane, tail, placed: partition >= 0, fresh: true, ..Backlog::default() })
                    }
                    None => {
                        queue.append(&mut tail);
                        None
                    }
                }
            }
            (None, None) => None,
        };
        let Some(mut backlog) = backlog else { return };
        for batch in out {
            self.absorb(index, &mut backlog, batch);
        }
        let topic = &mut self.topics[index];
        match usize::try_from(partition) {
            Ok(number) => {
                let spooled = topic.partitions[number].spooled.get_or_insert_default();
                topic.backlogged += u32::from(backlog.fresh);
                backlog.fresh = false;
                spooled.backlog = Some(backlog);
                self.rest_unless_ready(Key { topic: index, partition: number as u32 });
            }
            Err(_) => topic.unplaced.backlogs.push_back(backlog),
        }
        self.note_spooled(index, partition);
    }

    /// Removes a batch from memory: its rows become the backlog's last.
    fn absorb(&mut self, index: u32, backlog: &mut Backlog, batch: Batch) {
        let runs = &mut self.logging.runs;
        let Some((lane, _)) = batch.in_log.numbers.runs_from(0, runs) else { return };
        let owed = backlog.owed.memory();
        if batch.tickets.runs().next().is_some() {
            let mut cursor = Cursor::default();
            for row in 0..batch.count {
                if let (Some(ticket), Some(number)) = (batch.tickets.next(&mut cursor), batch.in_log.numbers.of(row)) {
                    backlog.owed.push(number.number, ticket);
                }
            }
        }
        if backlog.next >= backlog.end {
            backlog.lane = lane;
        }
        backlog.add(runs);
        self.owed_resized(index, owed, backlog.owed.memory());
        self.resized(index, batch.memory(), 0);
        let sink = self.topics[index].sink;
        self.sinks[sink].stats.buffered_bytes -= batch.plain_len as u64;
        batch.discard(&mut self.memory.pool);
    }

    /// Whether a sink's rows leave memory by themselves when they exceed its limit.
    pub(super) fn spills(&self, sink: SinkId) -> bool {
        let index = usize::from(sink.0);
        self.sinks.get(index).is_some_and(|sink| {
            let (memory, most) = (sink.memory, sink.settings.spill_after.saturating_mul(2));
            sink.settings.keep != Keep::Memory && (memory <= most || !self.logging.unwritten.waits_for(index))
        })
    }
}

/// Whether a batch may leave memory: the log has all of it, in the lane of its place.
fn is_spillable(batch: &Batch, partition: i32) -> bool {
    batch.in_log.kind == Kind::Fresh(partition.max(UNPLACED))
        && !batch.is_closed()
        && batch.in_log.is_staged(batch.count)
}
