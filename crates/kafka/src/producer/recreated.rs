//! A topic that was deleted and recreated: another topic id (Metadata v10, Kafka 2.8), or fewer partitions if brokers
//! give no ids.
//!
//! The old topic's records are gone with it, and so is its state of the producer. Cut batches keep their identity, so that an
//! attempt that reaches the new topic late is recognized; one batch goes first until it is answered. A partition without cut
//! batches begins a new epoch. Rows of partitions that are gone are placed again, before all waiting rows, once their
//! requests are answered; as with growth, the new count applies when the rows of the other partitions are done.

use std::collections::VecDeque;

use super::backlog::Backlog;
use super::batch::{Batch, Bounds, push};
use super::error::UNKNOWN_TOPIC;
use super::news::News;
use super::resolve::records_of;
use super::row_log::UNPLACED;
use super::unplaced::Place;
use super::view::Learned;
use super::{Key, Producer};
use crate::types::Outcome;
use forebay_record::HEADER_LEN;
use forebay_runtime::seam::Monotonic;

impl Producer {
    /// Takes Kafka's answer that a topic has `count` partitions and this id (0: the broker gives none). `false`: the answer is older
    /// than the known state, since partitions of one topic never get fewer.
    pub(super) fn topic_id(&mut self, index: u32, id: u128, count: usize, now: Monotonic) -> bool {
        let topic = &mut self.topics[index];
        let left = topic.partitions_with_spooled();
        match topic.view.learn(id, count, left) {
            Learned::Same => {}
            Learned::Stale => return false,
            Learned::Fewer => return self.left_behind(index, id, count),
            Learned::Recreated { by_id } => self.recreated(index, count, by_id, now),
        }
        true
    }

    /// Handles rows that an earlier process left for partitions which the topic with this id does not have, though it is the topic of
    /// that process's cuts: the rows are of the topic before, and stay in the lanes of its partitions until they are cut again.
    /// `false`: a cut in such a partition has this id, so the answer is older.
    fn left_behind(&mut self, index: u32, id: u128, count: usize) -> bool {
        let topic = &mut self.topics[index];
        let more = topic.partitions.get(count..).unwrap_or_default();
        let mut cuts = more.iter().filter_map(|partition| partition.spooled.as_ref()).flat_map(|left| &left.cuts);
        if cuts.any(|cut| cut.topic_id == id) {
            return false;
        }
        let before = topic.partitions.len();
        topic.view.lose_partitions(count..before);
        true
    }

    fn recreated(&mut self, index: u32, count: usize, sure: bool, now: Monotonic) {
        let topic = &mut self.topics[index];
        let before = if topic.view.count == 0 { topic.partitions.len() } else { topic.view.count };
        topic.view.recreated(before, count);
        self.sinks[topic.sink].stats.topics_recreated += 1;
        self.tell(index, |sink, topic| News::Recreated { sink, topic, from: before, to: count });
        for key in self.topics.keys(index) {
            let partition = &mut self.topics[key];
            partition.begin_other_log();
            if partition.window.topic_changed() {
                self.raise_epoch(key, now);
            }
            if !sure {
                self.count_unknown(key);
            }
            if !self.leave(key, now) {
                // The question to the old log is put to the new one.
                self.make_ready(key);
            }
        }
    }

    /// Counts rows that may be there twice, since without an id it is unknown whether the partition is gone.
    fn count_unknown(&mut self, key: Key) {
        if !self.is_gone(key) {
            return;
        }
        let unknown = self.topics[key].window.count_unknown();
        self.unknown(key, unknown);
    }

    pub(super) fn is_gone(&self, key: Key) -> bool {
        self.topics[key.topic].view.is_gone(key.partition)
    }

    /// Returns the rows of a partition that is gone to those without a partition. `false`: it exists, or a request
    /// is unanswered, or there are none.
    pub(super) fn leave(&mut self, key: Key, now: Monotonic) -> bool {
        if !self.is_gone(key) {
            return false;
        }
        let partition = &mut self.topics[key];
        let in_flight = partition.window.is_in_flight();
        let some = partition.queued() > 0 || partition.spooled.is_some();
        if in_flight || !some {
            return false;
        }
        let unclear = self.topics[key.topic].view.id == 0;
        let first = self.void_for_good(key, unclear);
        let partition = &mut self.topics[key];
        let backlog = partition.spooled.take().and_then(|spooled| spooled.backlog);
        let mut batches = VecDeque::new();
        if let Some(work) = partition.work.as_mut() {
            partition.window.stop_asking();
            batches = std::mem::take(&mut work.queue);
        }
        batches.iter_mut().rev().for_each(|batch| self.logging.ends.void(batch));
        let mut rows = batches.iter().map(|batch| u64::from(batch.count)).sum::<u64>();
        self.raise_epoch(key, now);
        let patience = std::mem::take(&mut self.topics[key].patience);
        self.dispatcher.slow_partitions -= u64::from(patience > 0);
        self.rest(key);
        self.end_half_placed(key.topic);
        let behind = backlog.as_ref().and_then(Backlog::first_uncut);
        let topic = &mut self.topics[key.topic];
        if let Some(mut backlog) = backlog {
            rows += backlog.rows + backlog.tail.iter().map(|batch| u64::from(batch.count)).sum::<u64>();
            backlog.placed = false;
            topic.unplaced.put_before_younger(backlog);
            topic.backlogged -= 1;
            self.note_spooled(key.topic, UNPLACED);
        }
        let topic = &mut self.topics[key.topic];
        for backlog in first.into_iter().rev() {
            rows += backlog.rows;
            topic.unplaced.backlogs.push_front(backlog);
        }
        topic.placed -= rows;
        self.sinks[topic.sink].stats.repartitioned += rows;
        let mut open = VecDeque::with_capacity(batches.len());
        for batch in batches {
            let batch =
                if batch.is_closed() { self.open_again(key.topic, batch, Place::default()) } else { Some(batch) };
            open.extend(batch);
        }
        let topic = &mut self.topics[key.topic];
        if topic.unplaced.put_in_turn(topic.turns.restoring, open, behind) {
            self.note_spooled(key.topic, UNPLACED);
        }
        self.topics[key.topic].note_moved();
        if self.logging.on {
            self.mark_older_dirty(key.topic, UNPLACED);
        }
        self.may_place(key.topic);
        true
    }

    /// Replaces a partly placed batch by one of the rows that are not placed: other rows have to precede those.
    pub(super) fn end_half_placed(&mut self, index: u32) {
        let topic = &mut self.topics[index];
        if topic.unplaced.place.count == 0 {
            return;
        }
        let place = std::mem::take(&mut topic.unplaced.place);
        let Some(batch) = topic.unplaced.queue.pop_front() else { return };
        if let Some(rest) = self.open_again(index, batch, place) {
            self.topics[index].unplaced.queue.push_front(rest);
        }
    }

    /// The rows of a batch from `place` on, as an uncut batch that takes rows.
    fn open_again(&mut self, index: u32, old: Batch, place: Place) -> Option<Batch> {
        let mut made = VecDeque::with_capacity(1);
        let hint = (old.plain_len + HEADER_LEN, old.tickets.spans());
        let bounds = Bounds { batch_bytes: usize::MAX, ceiling: usize::MAX, hint, kind: old.in_log.kind };
        let (mut cursor, mut len) = (place.tickets, 0);
        let records = match old.builder() {
            Some(builder) => Some(builder.records_after(place.bytes, place.count)),
            None => records_of(&old, &mut self.memory.codecs),
        };
        for (record, row) in records.into_iter().flatten().map_while(Result::ok).zip(place.count..) {
            let new = (&record, old.tickets.next(&mut cursor), old.notes_of(row));
            len += push(&mut made, 0, &mut self.memory.pool, bounds, new, Monotonic::NEVER).len;
        }
        self.memory.codecs.forget_plain();
        let new = made.pop_front();
        if new.as_ref().map_or(0, |batch| batch.count) != old.count - place.count {
            // The producer's own bytes always parse. If they do not, they are unusable.
            if let Some(part) = new {
                part.discard(&mut self.memory.pool);
            }
            self.end(index, None, old, Outcome::Refused(UNKNOWN_TOPIC));
            return None;
        }
        let stats = &mut self.sinks[self.topics[index].sink].stats;
        stats.buffered_bytes = stats.buffered_bytes + len as u64 - old.plain_len as u64;
        self.resized(index, old.memory(), new.as_ref().map_or(0, Batch::memory));
        old.discard(&mut self.memory.pool);
        new
    }
}
