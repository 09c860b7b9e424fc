//! A topic that was deleted and recreated: another topic id (Metadata v10, Kafka 2.8), or fewer partitions where brokers
//! give no ids.
//!
//! What the old one held is gone with it, and so is what it knew of us. What is cut keeps its identity, so that an attempt
//! that reaches the new topic late is known again; one batch goes first until it is answered. A partition with nothing
//! cut begins a new epoch. Rows of partitions that are no more are placed anew, before all that waits, once their
//! requests are answered; by the rule for growth the new count holds when the rows of the others are done.

use std::collections::VecDeque;

use super::backlog::Backlog;
use super::batch::{Batch, Bounds, push};
use super::error::UNKNOWN_TOPIC;
use super::in_log::Kind;
use super::news::News;
use super::resolve::records_of;
use super::row_log::UNPLACED;
use super::topic::{Place, Topic};
use super::{Key, Producer};
use crate::kafka::types::Outcome;
use crate::record::{HEADER_LEN, Record};
use crate::runtime::seam::Monotonic;

impl Producer {
    /// A topic has `count` partitions and this id (0: the broker gives none). `false`: the answer is older than what is
    /// known, since partitions of one topic never get fewer.
    pub(super) fn topic_id(&mut self, index: u32, id: u128, count: usize, now: Monotonic) -> bool {
        let topic = &mut self.topics[index as usize];
        let known = topic.id;
        let most = topic.growth.unwrap_or(topic.count);
        let named = id != 0 && known != 0;
        if named && id == known && count < most {
            return false;
        }
        topic.id = if id == 0 { known } else { id };
        topic.gone_from = topic.gone_from.filter(|from| *from >= count);
        // Of a topic that only an earlier start knew, the partitions that it left rows for.
        let left =
            topic.partitions.iter().rposition(|partition| partition.spooled.is_some()).map_or(0, |last| last + 1);
        let most = if topic.count == 0 { left } else { most };
        if named && id == known && count < most {
            return self.left_behind(index, id, count);
        }
        let anew = if named { id != known } else { count < most };
        if most > 0 && anew {
            self.recreated(index, count, named, now);
        }
        true
    }

    /// An earlier start has left rows for partitions that the topic with this id does not have, as its cuts say that
    /// it is: they are of the topic before, and stay in the lanes of its partitions until they are cut again. `false`: one
    /// of those cuts is in such a partition, so the answer is older.
    fn left_behind(&mut self, index: u32, id: u128, count: usize) -> bool {
        let topic = &mut self.topics[index as usize];
        let more = topic.partitions.get(count..).unwrap_or_default();
        let mut cuts = more.iter().filter_map(|partition| partition.spooled.as_ref()).flat_map(|left| &left.cuts);
        if cuts.any(|cut| cut.topic_id == id) {
            return false;
        }
        topic.gone_from = Some(count);
        true
    }

    fn recreated(&mut self, index: u32, count: usize, sure: bool, now: Monotonic) {
        let topic = &mut self.topics[index as usize];
        let before = if topic.count == 0 { topic.partitions.len() } else { topic.count };
        topic.gone_from = (count < before).then_some(count);
        topic.life = topic.life.wrapping_add(1);
        self.sinks[topic.sink].stats.topics_recreated += 1;
        self.tell(index, |sink, topic| News::Recreated { sink, topic, from: before, to: count });
        for number in 0..self.topics[index as usize].partitions.len() {
            let key = Key { topic: index, partition: number as u32 };
            let partition = self.partition_mut(key);
            partition.begin_other_log();
            if partition.window.topic_changed() {
                self.raise_epoch(key, now);
            }
            if !sure {
                self.count_unknown(key);
            }
            if !self.leave(key, now) {
                // What it asked the old log it asks the new one.
                self.make_ready(key);
            }
        }
    }

    /// Without an id nobody knows whether the partition is gone: what may be there may come to be there twice.
    fn count_unknown(&mut self, key: Key) {
        if !self.is_gone(key) {
            return;
        }
        let unknown = self.partition_mut(key).window.count_unknown();
        self.unknown(key, unknown);
    }

    pub(super) fn is_gone(&self, key: Key) -> bool {
        self.topics[key.topic as usize].gone_from.is_some_and(|from| key.partition as usize >= from)
    }

    /// Takes the rows of a partition that is no more back to those without a partition. `false`: it is there, or a request
    /// is unanswered, or there are none.
    pub(super) fn leave(&mut self, key: Key, now: Monotonic) -> bool {
        if !self.is_gone(key) {
            return false;
        }
        let partition = self.partition_mut(key);
        let in_flight = partition.window.is_in_flight();
        let some = partition.work.as_ref().is_some_and(|work| !work.queue.is_empty()) || partition.spooled.is_some();
        if in_flight || !some {
            return false;
        }
        let unclear = self.topics[key.topic as usize].id == 0;
        self.void_all_restored(key, unclear);
        let partition = self.partition_mut(key);
        let backlog = partition.spooled.take().and_then(|spooled| spooled.backlog);
        let mut batches = VecDeque::new();
        if let Some(work) = partition.work.as_mut() {
            partition.window.stop_asking();
            batches = std::mem::take(&mut work.queue);
        }
        batches.iter_mut().rev().for_each(|batch| self.logging.void(batch));
        let mut rows = batches.iter().map(|batch| u64::from(batch.count)).sum::<u64>();
        self.raise_epoch(key, now);
        let patience = std::mem::take(&mut self.partition_mut(key).patience);
        self.slow_partitions -= u64::from(patience > 0);
        self.rest(key);
        self.end_half_placed(key.topic);
        let topic = &mut self.topics[key.topic as usize];
        if let Some(mut backlog) = backlog {
            rows += backlog.rows + backlog.tail.iter().map(|batch| u64::from(batch.count)).sum::<u64>();
            backlog.placed = false;
            topic.put_before_younger(backlog);
            topic.backlogged -= 1;
            self.note_spooled(key.topic, UNPLACED);
        }
        let topic = &mut self.topics[key.topic as usize];
        topic.placed -= rows;
        self.sinks[topic.sink].stats.repartitioned += rows;
        let mut open = VecDeque::with_capacity(batches.len());
        for batch in batches {
            let batch =
                if batch.is_closed() { self.open_again(key.topic, batch, Place::default()) } else { Some(batch) };
            open.extend(batch);
        }
        if self.topics[key.topic as usize].put_in_turn(open) {
            self.note_spooled(key.topic, UNPLACED);
        }
        if self.logging.on {
            self.mark_older_dirty(key.topic, UNPLACED);
        }
        self.may_place(key.topic);
        true
    }

    /// A batch of which some rows are placed is replaced by one of the others: something has to go before those.
    pub(super) fn end_half_placed(&mut self, index: u32) {
        let topic = &mut self.topics[index as usize];
        if topic.place.count == 0 {
            return;
        }
        let place = std::mem::take(&mut topic.place);
        let Some(batch) = topic.unplaced.pop_front() else { return };
        if let Some(rest) = self.open_again(index, batch, place) {
            self.topics[index as usize].unplaced.push_front(rest);
        }
    }

    /// The rows of a batch from `place` on as one that takes rows, and is not cut.
    fn open_again(&mut self, index: u32, old: Batch, place: Place) -> Option<Batch> {
        let mut made = VecDeque::with_capacity(1);
        let hint = (old.plain_len + HEADER_LEN, old.tickets.spans());
        let bounds = Bounds { batch_bytes: usize::MAX, ceiling: usize::MAX, hint, kind: old.in_log.kind };
        let (mut cursor, mut len) = (place.tickets, 0);
        let mut put = |this: &mut (&mut super::pool::Pool, &mut u64), row: u32, record: &Record<'_>| {
            let ticket = old.tickets.next(&mut cursor);
            let pushed = push(&mut made, 0, this.0, bounds, (record, ticket), (this.1, Monotonic::NEVER));
            len += pushed.len;
            if let Some(batch) = made.back_mut() {
                batch.note(this.0, old.notes_of(row));
            }
        };
        let mut this = (&mut self.pool, &mut self.serial);
        let records = match old.builder() {
            Some(builder) => Some(builder.records_after(place.bytes, place.count)),
            None => records_of(&old, &mut self.codecs),
        };
        for (record, row) in records.into_iter().flatten().map_while(Result::ok).zip(place.count..) {
            put(&mut this, row, &record);
        }
        self.codecs.forget_plain();
        let new = made.pop_front();
        if new.as_ref().map_or(0, |batch| batch.count) != old.count - place.count {
            // Our own bytes: they parse. Should they not, nothing else can be done with them.
            if let Some(part) = new {
                let tickets = part.end(&mut self.pool);
                self.pool.give_tickets(tickets);
            }
            self.end(index, None, old, Outcome::Refused(UNKNOWN_TOPIC));
            return None;
        }
        let stats = &mut self.sinks[self.topics[index as usize].sink].stats;
        stats.buffered_bytes = stats.buffered_bytes + len as u64 - old.plain_len as u64;
        self.resized(index, old.memory(), new.as_ref().map_or(0, Batch::memory));
        let tickets = old.end(&mut self.pool);
        self.pool.give_tickets(tickets);
        new
    }
}

impl Topic {
    /// Rows of a partition that is no more, which stand in the log alone, get their place among those without one: of what
    /// waits in memory goes behind them what is younger. That may be of other such partitions too, some of whose rows
    /// stand in the log alone: so it takes turns with those, by its numbers.
    fn put_before_younger(&mut self, mut backlog: Backlog) {
        let from = backlog.oldest().unwrap_or(u64::MAX);
        let (first, mut unknown) = (self.backlogs.is_empty(), false);
        // What has no number has come last; but beside what is in the log alone it is of a partition that is no more, from
        // before that was written.
        let is_younger = |batch: &Batch| {
            unknown |= first && batch.in_log.first().is_none();
            unknown || batch.in_log.first().is_some_and(|number| number > from)
        };
        let (mut younger, older): (Vec<_>, Vec<_>) = self.unplaced.drain(..).partition(is_younger);
        self.unplaced.extend(older);
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

    /// Rows of a partition that is no more, which are in memory, get their place among those without one: before them, but
    /// behind what an earlier start has left without a partition and is older. `true`: there is something of that.
    fn put_in_turn(&mut self, batches: VecDeque<Batch>) -> bool {
        let restoring = self.restoring;
        let oldest = self.backlogs.iter().filter_map(Backlog::oldest).min().filter(|_| restoring).unwrap_or(u64::MAX);
        let (mut tail, mut front) = (VecDeque::new(), Vec::new());
        for mut batch in batches {
            if !tail.is_empty() || batch.in_log.first().is_some_and(|number| number > oldest) {
                log_before_younger(&mut batch);
                tail.push_back(batch);
            } else {
                front.push(batch);
            }
        }
        for batch in front.into_iter().rev() {
            let older =
                |other: &&Batch| other.in_log.first().zip(batch.in_log.first()).is_some_and(|(other, own)| other < own);
            let place = self.unplaced.iter().take_while(|other| restoring && older(other)).count();
            self.unplaced.insert(place, batch);
        }
        let any = !tail.is_empty();
        if any {
            self.backlogs.push_front(Backlog { lane: u64::MAX, tail, ..Backlog::default() });
        }
        any
    }
}

/// Rows behind those that the log alone has: what comes behind them goes to the log, so they do so first.
fn log_before_younger(batch: &mut Batch) {
    if batch.in_log.kind == Kind::Memory {
        batch.in_log.kind = Kind::Fresh(UNPLACED);
    }
}
