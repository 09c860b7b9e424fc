//! Expiry of rows, which must not be sent after it: the Message Expiry Interval of MQTT 5, or the sink's `expire_after`,
//! whichever ends first.
//!
//! Rows are checked when they are placed and when they are cut; those of a sink with `expire_after` also periodically
//! while they wait, since later rows need their memory. A cut row stays until Kafka's final answer. A
//! publisher that waits for a dropped row is acknowledged: the row was handled as the publisher or the operator asked.

use std::time::Duration;

use super::batch::{Batch, Dropped};
use super::row_log::Fate;
use super::timers::Timer;
use super::{Finished, Key, Producer};
use crate::types::Outcome;
use forebay_runtime::seam::Monotonic;

/// Consecutive rows with the same deadline.
#[derive(Clone, Copy, Debug)]
struct Span {
    first: u32,
    count: u32,
    at: Monotonic,
}

/// Rows of one batch that have a deadline, in the order of the batch. Rows of one turn and one sink share it.
#[derive(Debug, Default)]
pub(super) struct Expiries {
    spans: Vec<Span>,
    rows: u32,
    first: Option<Monotonic>,
    last: Monotonic,
}

/// Bytes of a span on the memory account.
pub(super) const EXPIRY_BYTES: usize = std::mem::size_of::<Span>();

/// A waiting row is dropped at most `expire_after / SWEEPS` late; and the bounds of that time.
const SWEEPS: u32 = 8;
const SWEEP_MIN: Duration = Duration::from_millis(100);
const SWEEP_MAX: Duration = Duration::from_secs(10);

impl Expiries {
    pub(super) fn push(&mut self, row: u32, at: Monotonic) {
        match self.spans.last_mut() {
            Some(span) if span.at == at && span.first + span.count == row => span.count += 1,
            _ => self.spans.push(Span { first: row, count: 1, at }),
        }
        self.rows += 1;
        self.first = Some(self.first.map_or(at, |first| first.min(at)));
        self.last = self.last.max(at);
    }

    /// Whether any deadline has passed.
    pub(super) fn any(&self, now: Monotonic) -> bool {
        self.first.is_some_and(|first| first <= now)
    }

    /// Whether the deadlines of all `count` rows have passed.
    pub(super) fn all(&self, count: u32, now: Monotonic) -> bool {
        self.rows == count && self.last <= now
    }

    /// A row's deadline; [`Monotonic::NEVER`] if it has none.
    pub(super) fn of(&self, row: u32) -> Monotonic {
        let behind = self.spans.partition_point(|span| span.first <= row);
        let span = behind.checked_sub(1).map(|index| self.spans[index]);
        span.filter(|span| row - span.first < span.count).map_or(Monotonic::NEVER, |span| span.at)
    }

    pub(super) fn capacity(&self) -> usize {
        self.spans.capacity()
    }

    /// Empties the list; its memory stays.
    pub(super) fn clear(&mut self) {
        self.spans.clear();
        *self = Self { spans: std::mem::take(&mut self.spans), ..Self::default() };
    }
}

impl Producer {
    /// Notes that rows of this sink have to be checked while they wait.
    pub(super) fn watch_age(&mut self, sink: usize, age: Duration, now: Monotonic) {
        if !std::mem::replace(&mut self.sinks[sink].swept, true) {
            self.agenda.timers.set(now.after(age), Timer::Sweep(sink));
        }
    }

    /// Drops the expired rows of a sink's waiting rows.
    pub(super) fn sweep(&mut self, sink: usize, now: Monotonic) {
        for index in self.topics.places() {
            if self.topics[index].sink == sink && self.topics[index].memory > 0 {
                self.sweep_topic(index, now);
            }
        }
        let sink_index = sink;
        let sink = &mut self.sinks[sink];
        sink.swept = sink.stats.buffered_rows > 0;
        if let Some(age) = sink.settings.expire_after.filter(|_| sink.swept) {
            let pause = (age / SWEEPS).clamp(SWEEP_MIN, SWEEP_MAX);
            self.agenda.timers.set(now.after(pause), Timer::Sweep(sink_index));
        }
    }

    fn sweep_topic(&mut self, index: u32, now: Monotonic) {
        // The rows of a batch that is being placed are on their way to partitions.
        let mut at = self.topics[index].unplaced.half_placed();
        while let Some(batch) = self.topics[index].unplaced.queue.get(at) {
            if !batch.has_expired(now) {
                at += 1;
                continue;
            }
            let Some(batch) = self.topics[index].unplaced.queue.remove(at) else { break };
            if let Some(left) = self.without_expired(index, batch, now) {
                self.topics[index].unplaced.queue.insert(at, left);
                at += 1;
            }
        }
        for key in self.topics.keys(index) {
            if self.topics[key].work.is_none() {
                continue;
            }
            let mut at = self.topics[key].window.len();
            while let Some(batch) = self.topics[key].work.as_ref().and_then(|work| work.queue.get(at)) {
                at += usize::from(!batch.has_expired(now) || self.drop_at(key, at, now));
            }
            self.rest(key);
        }
        if self.topics[index].placed == 0 {
            self.may_place(index);
        }
    }

    /// Drops the expired rows of a partition's next batch. `false`: no row is left in it.
    pub(super) fn drop_expired(&mut self, key: Key, now: Monotonic) -> bool {
        let partition = &mut self.topics[key];
        if !partition.uncut().is_some_and(|batch| batch.has_expired(now)) {
            return true;
        }
        let next = partition.window.len();
        let left = self.drop_at(key, next, now);
        if !left {
            self.make_ready(key);
            self.rest(key);
        }
        if self.topics[key.topic].placed == 0 {
            self.may_place(key.topic);
        }
        left
    }

    /// Like [`Self::drop_expired`], for any uncut batch of a partition. `false`: the batch is gone.
    fn drop_at(&mut self, key: Key, place: usize, now: Monotonic) -> bool {
        let work = self.topics[key].work.as_mut();
        let Some(batch) = work.and_then(|work| work.queue.remove(place)) else { return false };
        let before = batch.count;
        let left = self.without_expired(key.topic, batch, now);
        let after = left.as_ref().map_or(0, |batch| batch.count);
        self.topics[key.topic].placed -= u64::from(before - after);
        let Some(batch) = left else { return false };
        if let Some(work) = self.topics[key].work.as_mut() {
            work.queue.insert(place, batch);
        }
        true
    }

    /// Drops the expired rows of a batch that is in no queue. Returns the batch, unless no row is left.
    pub(super) fn without_expired(&mut self, topic: u32, mut batch: Batch, now: Monotonic) -> Option<Batch> {
        let before = batch.memory();
        if batch.has_all_expired(now) {
            let dropped = batch.drop_all(&mut self.memory.pool);
            self.resized(topic, before, 0);
            self.expired(topic, dropped);
            return None;
        }
        let dropped = batch.drop_expired(&mut self.memory.pool, now);
        self.resized(topic, before, batch.memory());
        self.expired(topic, dropped);
        Some(batch)
    }

    /// Counts dropped rows as expired.
    pub(super) fn expired(&mut self, topic: u32, dropped: Dropped) {
        self.sinks[self.topics[topic].sink].stats.expired += dropped.rows;
        self.off_the_books(topic, dropped);
    }

    /// Removes dropped rows from the counters, and finishes their tickets.
    pub(super) fn off_the_books(&mut self, topic: u32, dropped: Dropped) {
        let sink = self.topics[topic].sink;
        let stats = &mut self.sinks[sink].stats;
        self.logging.ends.over(None, dropped.numbers, Fate::Expired);
        stats.buffered_rows -= dropped.rows;
        stats.buffered_bytes = stats.buffered_bytes.saturating_add_signed(-dropped.bytes);
        self.outbox.finished.push(Finished::new(dropped.tickets, Outcome::Delivered, false));
    }
}
