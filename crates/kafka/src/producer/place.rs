//! Placing rows in partitions: directly from a publish, or out of the batches of rows without a partition.

use super::append::{NewRow, hash_of};
use super::batch::{Batch, Bounds, Source, push};
use super::in_log::{Kind, Notes};
use super::partition::{Partition, Work};
use super::pool::{BATCH_COST, BUFFER_MIN};
use super::row_log::UNPLACED;
use super::turns::Moved;
use super::unplaced::Place;
use super::{Keep, Key, Partitioner, Producer};
use forebay_base::limits::PLACED_BYTES_PER_POLL;
use forebay_record::murmur2;
use forebay_record::{HEADER_LEN, Record};
use forebay_runtime::seam::Monotonic;

impl Producer {
    /// Puts a row into the growing batch of its partition.
    pub(super) fn place(&mut self, index: u32, row: &NewRow<'_, impl Source>) {
        let &NewRow { source, hash, ticket, notes, ripe_at, now, ceiling } = row;
        let topic = &mut self.topics[index];
        let sink = &mut self.sinks[topic.sink];
        let batch_bytes = sink.settings.batch_bytes;
        let (timestamp, tail_len) = (source.timestamp(), source.tail_len());
        let fits = |batch: &Batch| batch.has_place(batch_bytes, timestamp, tail_len);
        let number = match (sink.settings.partitioner, hash) {
            (Partitioner::Random, _) => self.rng.usize(..topic.view.count),
            (_, Some(hash)) => murmur2::partition_of(hash, topic.view.count),
            (_, None) => topic.sticky_partition(fits, &mut self.rng),
        };
        let over = sink.memory > sink.settings.spill_after && !notes.held;
        let partition = &mut topic.partitions[number];
        let behind = partition.spooled.as_mut().and_then(|spooled| spooled.backlog.as_mut());
        let kind = sink.kind(notes.number, number as i32, over || behind.is_some());
        let bounds = Bounds { batch_bytes, ceiling, hint: partition.hint, kind };
        let new = (source, ticket, notes);
        if let (Kind::Fresh(_), Some(backlog)) = (kind, behind) {
            let pushed = push(&mut backlog.tail, 0, &mut self.memory.pool, bounds, new, ripe_at);
            topic.placed += 1;
            topic.took(sink, &pushed);
            return self.mark_dirty(index, number as i32);
        }
        let work = Work::begin(&mut partition.work, &mut partition.window, &mut self.memory.spare);
        let undone = partition.window.len();
        // Rows saved at a stop get their numbers then: where a younger row gets its number before, older ones must get theirs first.
        let first = matches!(kind, Kind::Fresh(_)) && sink.settings.keep == Keep::HybridSaved;
        let older = first && work.log_those_before(undone, number as i32);
        let pushed = push(&mut work.queue, undone, &mut self.memory.pool, bounds, new, ripe_at);
        let full_before = work.queue.len() > undone + 1;
        topic.placed += 1;
        topic.took(sink, &pushed);
        if pushed.opened {
            let key = Key { topic: index, partition: number as u32 };
            if ripe_at > now {
                sink.lingering.push_back((ripe_at, key));
                self.sinks.lingers(topic.sink);
            }
            if full_before || ripe_at <= now {
                self.make_ready(key);
            }
        }
        if older {
            self.mark_older_dirty(index, number as i32);
        }
        if matches!(kind, Kind::Fresh(_)) {
            self.mark_dirty(index, number as i32);
        }
    }

    /// Holds a row until its topic's partitions are known.
    pub(super) fn hold(&mut self, index: u32, row: &NewRow<'_, impl Source>) {
        let &NewRow { source, ticket, notes, ceiling, .. } = row;
        let topic = &self.topics[index];
        let sink = &self.sinks[topic.sink];
        let over = sink.memory > sink.settings.spill_after;
        let kind = sink.kind(notes.number, UNPLACED, over || !topic.unplaced.backlogs.is_empty());
        if matches!(kind, Kind::Fresh(_)) {
            self.log_those_before(index);
        }
        let topic = &mut self.topics[index];
        let sink = &mut self.sinks[topic.sink];
        let queue = topic.unplaced.queue_for_new();
        let bounds = Bounds { batch_bytes: sink.settings.batch_bytes, ceiling, hint: (0, 0), kind };
        let pushed = push(queue, 0, &mut self.memory.pool, bounds, (source, ticket, notes), Monotonic::NEVER);
        topic.took(sink, &pushed);
        if matches!(kind, Kind::Fresh(_)) {
            self.mark_dirty(index, UNPLACED);
        }
    }

    /// Makes rows in memory alone go to the log, since a younger row without a partition goes there: otherwise they would get
    /// higher numbers when they are placed.
    fn log_those_before(&mut self, index: u32) {
        let is_memory = |batch: &Batch| batch.in_log.kind == Kind::Memory;
        let topic = &mut self.topics[index];
        if self.sinks[topic.sink].settings.keep == Keep::HybridSaved
            && topic.unplaced.backlogs.is_empty()
            && topic.unplaced.queue.back().is_none_or(is_memory)
        {
            for number in 0..topic.partitions.len() as i32 {
                let partition = &mut self.topics[index].partitions[number as usize];
                let undone = partition.window.len();
                if partition.work.as_mut().is_some_and(|work| work.log_those_before(undone, number)) {
                    self.mark_older_dirty(index, number);
                }
            }
        }
        if !self.topics[index].unplaced.queue.back().is_some_and(is_memory) {
            return;
        }
        self.end_half_placed(index);
        let unplaced = self.topics[index].unplaced.queue.iter_mut();
        unplaced.rev().take_while(|batch| is_memory(batch)).for_each(|batch| batch.in_log.kind = Kind::Fresh(UNPLACED));
        self.mark_older_dirty(index, UNPLACED);
    }

    /// Puts a topic with held rows that can be placed on the list of such topics.
    pub(super) fn may_place(&mut self, index: u32) {
        let topic = &mut self.topics[index];
        topic.end_restoring();
        if topic.placed == 0 || (topic.turns.restoring && topic.in_queues() == 0) {
            // Order across growth: the new count holds once every row placed by the old one is done.
            topic.end_placed();
        }
        if topic.view.count > 0 && topic.has_placeable() && !topic.unplaced.placing {
            topic.unplaced.placing = true;
            self.agenda.placing.push(index);
        }
    }

    /// Places held rows, as far as memory and the work of one turn allow.
    pub(super) fn place_held(&mut self, now: Monotonic) {
        self.agenda.behind = false;
        if self.agenda.placing.is_empty() {
            return;
        }
        let mut budget = PLACED_BYTES_PER_POLL;
        let mut topics = std::mem::take(&mut self.agenda.placing);
        topics.retain(|index| {
            self.topics[*index].note_moved();
            while budget > 0 && !self.topics[*index].waits_for_placed() {
                let placed = self.place_batch(*index, &mut budget, now);
                if self.topics[*index].turns.moved != Moved::None {
                    self.topics[*index].note_moved();
                }
                if !placed {
                    break;
                }
            }
            let topic = &mut self.topics[*index];
            // A topic that has begun to grow is listed again when its placed rows are done.
            topic.unplaced.placing = topic.has_placeable();
            topic.unplaced.placing
        });
        self.agenda.behind = budget == 0 && !topics.is_empty();
        // The next topic goes first: one with a large backlog must not keep the others waiting.
        if !topics.is_empty() {
            topics.rotate_left(1);
        }
        topics.append(&mut self.agenda.placing);
        self.agenda.placing = topics;
    }

    /// Places rows of a topic's first held batch. `false`: no memory, or no more rows.
    fn place_batch(&mut self, index: u32, budget: &mut usize, now: Monotonic) -> bool {
        let topic = &mut self.topics[index];
        let Some(mut batch) = topic.unplaced.queue.pop_front() else { return false };
        let mut place = std::mem::take(&mut topic.unplaced.place);
        let sink = topic.sink;
        if place.count == 0 && batch.has_expired(now) {
            let Some(left) = self.without_expired(index, batch, now) else { return true };
            batch = left;
        }
        let (mut stalled, keeps_hash) = (false, self.settings.rules.keeps_hash());
        if let Some(builder) = batch.builder() {
            let mut records = builder.records_after(place.bytes, place.count);
            let mut rest = records.rest_len();
            // Rows that are not in the log yet stay.
            let placeable = if batch.in_log.is_logged() { batch.in_log.numbers.rows() } else { batch.count };
            while *budget > 0 {
                if place.count >= placeable {
                    stalled = place.count < batch.count;
                    break;
                }
                // The producer's own bytes always parse.
                let Some(Ok(record)) = records.next() else { break };
                let mut notes = batch.notes_of(place.count);
                notes.terms.hash = notes.terms.hash.filter(|_| keeps_hash);
                if !self.place_record(index, &record, &batch, (&mut place, notes), now) {
                    stalled = true;
                    break;
                }
                let len = rest - records.rest_len();
                rest -= len;
                place.bytes += len;
                place.count += 1;
                *budget = budget.saturating_sub(len);
            }
        }
        if place.count < batch.count {
            let topic = &mut self.topics[index];
            topic.unplaced.place = place;
            topic.unplaced.queue.push_front(batch);
            return !stalled;
        }
        self.topics[index].unplaced.place = Place::default();
        self.sinks[sink].stats.buffered_bytes -= batch.plain_len as u64;
        self.resized(index, batch.memory(), 0);
        batch.discard(&mut self.memory.pool);
        true
    }

    /// Places one held row. `false`: no memory.
    fn place_record(
        &mut self,
        index: u32,
        record: &Record<'_>,
        batch: &Batch,
        (place, notes): (&mut Place, Notes),
        now: Monotonic,
    ) -> bool {
        let need = (HEADER_LEN + super::append::RECORD_OVERHEAD + record.tail.len()).max(BUFFER_MIN) + BATCH_COST;
        if !self.memory.may_place(need) && !self.may_place_reserved(index) {
            return false;
        }
        let number = batch.in_log.numbers.of(place.count).map_or(u64::MAX, |number| number.number);
        let topic = &self.topics[index];
        let hash = hash_of(self.sinks[topic.sink].settings.partitioner, record.key, notes.terms);
        if self.waits_behind(index, hash, batch, place.count)
            || (topic.turns.restoring && !topic.is_turn_of(self.settings.rules, number))
        {
            return false;
        }
        if batch.in_log.is_logged() && self.waits_for_leader(index, hash) {
            self.ask_metadata(index, now);
            return false;
        }
        self.topics[index].turns.was_placed = false;
        let ticket = batch.tickets.next(&mut place.tickets);
        // The row has waited long enough: no linger, unless more of its kind is being read from disk.
        let topic = &self.topics[index];
        let linger = self.sinks[topic.sink].settings.linger;
        let ripe_at = if topic.unplaced.backlogs.is_empty() { now } else { now.after(linger) };
        let notes = Notes { held: true, ..notes };
        let ceiling = self.memory.ceilings.append;
        self.place(index, &NewRow { source: record, hash, ticket, notes, ripe_at, now, ceiling });
        true
    }

    /// Whether a row in the log is better left there: its partition has no leader, and such rows stay in memory
    /// once they are in a partition. Half of the sink's memory is for rows that can be sent.
    fn waits_for_leader(&self, index: u32, hash: Option<u32>) -> bool {
        let topic = &self.topics[index];
        let sink = &self.sinks[topic.sink];
        let has_leader = |partition: &Partition| partition.leader.is_some();
        sink.memory > sink.settings.spill_after / 2
            && match hash {
                Some(hash) => {
                    !topic.partitions.get(murmur2::partition_of(hash, topic.view.count)).is_some_and(has_leader)
                }
                None => !topic.partitions.iter().take(topic.view.count).any(has_leader),
            }
    }

    /// Whether older rows of a row's partition are in the log alone.
    fn waits_behind(&self, index: u32, hash: Option<u32>, batch: &Batch, row: u32) -> bool {
        let topic = &self.topics[index];
        // A row without a hash has no order.
        let Some(hash) = hash.filter(|_| topic.backlogged > 0) else { return false };
        let number = murmur2::partition_of(hash, topic.view.count);
        let unread = topic.partitions.get(number).and_then(|partition| partition.backlog()?.unread());
        unread.is_some_and(|unread| batch.in_log.numbers.of(row).is_none_or(|row| unread < row.number))
    }
}
