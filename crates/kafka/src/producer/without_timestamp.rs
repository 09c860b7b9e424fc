//! INVALID_TIMESTAMP (32): Kafka refuses records with a timestamp too far from its own clock. They are written without a
//! timestamp (−1) instead, which Kafka always takes; the time of receipt goes into a header.
//!
//! All records of the batch are: which of them Kafka refuses depends on its clock and on settings of the topic that Forebay
//! does not know, and one record per round trip is too slow to find out. For a while, batches that are no younger than the
//! refused one lose their timestamps before they are cut; otherwise each would cost a round trip and an epoch.

use std::collections::VecDeque;
use std::time::Duration;

use super::batch::{Batch, Bounds, Measured, Pushed, push};
use super::in_log::Notes;
use super::pool::{BATCH_COST, Pool};
use super::resolve::{SPLIT_WAITS, records_of};
use super::tickets::Cursor;
use super::{Key, Producer};
use crate::types::Ticket;
use forebay_record::{HEADER_LEN, Record, Row};
use forebay_runtime::seam::{Monotonic, WallMs};

/// The header with the time of receipt of a record written without its timestamp: milliseconds since 1970, in digits.
pub const RECEIVED_MS: &[u8] = b"mqtt-received-ms";
/// Approximate bytes by which a record grows.
const GROWTH: usize = 36;
/// How long Kafka's refusal applies to later batches.
const HOLDS: Duration = Duration::from_secs(60);
/// How much younger than the refused batch a batch may be and still count as no younger.
const NEARLY_MS: i64 = 60_000;

/// The last refusal for a timestamp.
#[derive(Clone, Copy, Debug)]
pub(super) struct Refused {
    until: Monotonic,
    /// Age of the batch's newest record; negative if its timestamp was ahead of this machine's clock.
    age_ms: i64,
}

impl Producer {
    /// Cuts the oldest batch of a partition again without timestamps: it was refused for them, and is in no log. `false`: it has none.
    pub(super) fn refused_for_time(&mut self, key: Key, now: Monotonic) -> bool {
        let wall = self.wall;
        let topic = &self.topics[key.topic];
        let partition = &topic.partitions[key.partition as usize];
        let Some(work) = partition.work.as_ref() else { return false };
        let Some(first) = work.queue.front().filter(|batch| batch.max_timestamp >= 0) else { return false };
        let refused = Refused { until: now.after(HOLDS), age_ms: wall.0 - first.max_timestamp };
        let wait = partition.window.attempts() < SPLIT_WAITS && !self.has_room_without_time(first);
        self.topics[key.topic].view.timestamps_refused = Some(refused);
        // The wait is bounded, as when a batch is split.
        if wait {
            self.raise_epoch(key, now);
            self.back_off(key, now);
            return true;
        }
        let done = self.take_time_away(key, 0);
        if done {
            self.raise_epoch(key, now);
        }
        done
    }

    /// Whether there is memory to rewrite a batch.
    fn has_room_without_time(&self, batch: &Batch) -> bool {
        let need = 2 * (batch.plain_len + GROWTH * batch.count as usize + HEADER_LEN) + BATCH_COST;
        self.memory.fits(need)
    }

    /// Removes the timestamps of the next batch to cut if Kafka would refuse them; returns whether it has. Without memory
    /// for that the batch is sent unchanged, and Kafka refuses it.
    pub(super) fn cut_without_time(&mut self, key: Key, now: Monotonic, wall: WallMs) -> bool {
        let topic = &mut self.topics[key.topic];
        let Some(refused) = topic.view.timestamps_refused else { return false };
        if refused.until <= now {
            topic.view.timestamps_refused = None;
            return false;
        }
        let topic = &self.topics[key.topic];
        let partition = &topic.partitions[key.partition as usize];
        let place = partition.window.len();
        let no_younger = partition.uncut().is_some_and(|batch| {
            batch.max_timestamp >= 0
                && wall.0 - batch.max_timestamp + NEARLY_MS >= refused.age_ms
                && self.has_room_without_time(batch)
        });
        no_younger && self.take_time_away(key, place)
    }

    /// Rewrites a batch without timestamps. `false`: it cannot be read, and is unchanged.
    fn take_time_away(&mut self, key: Key, place: usize) -> bool {
        let topic = &mut self.topics[key.topic];
        let sink = &mut self.sinks[topic.sink];
        let partition = &mut topic.partitions[key.partition as usize];
        let Some(work) = partition.work.as_ref() else { return false };
        let Some(old) = work.queue.get(place) else { return false };
        let Some(records) = records_of(old, &mut self.memory.codecs) else { return false };
        let mut made = VecDeque::with_capacity(1);
        let mut cursor = Cursor::default();
        let hint = (old.plain_len + GROWTH * old.count as usize + HEADER_LEN, old.tickets.spans());
        let bounds = Bounds { batch_bytes: usize::MAX, ceiling: usize::MAX, hint, kind: old.in_log.kind };
        let (mut len, mut memory, keeps_time) = (0, 0, self.settings.rules.keeps_time());
        for (row, record) in (0u32..).zip(records.map_while(Result::ok)) {
            let new = (&record, old.tickets.next(&mut cursor), old.notes_of_cut(row), keeps_time);
            let pushed = push_without_timestamp(&mut made, &mut self.memory.pool, bounds, new, old.ripe_at);
            len += pushed.len;
            memory += pushed.memory;
        }
        let Some(mut new) = made.pop_front() else { return false };
        new.close(self.memory.codecs.encoder(sink.settings.compression, sink.settings.compression_level));
        self.memory.codecs.forget_plain();
        if new.count != old.count {
            // The producer's own bytes always parse. If they do not, the new batch is dropped.
            new.discard(&mut self.memory.pool);
            return false;
        }
        new.in_log.old = old.in_log.old;
        sink.stats.without_timestamp += u64::from(new.count);
        self.logging.ends.void_from(partition, place);
        let Some(work) = partition.work.as_mut() else { return false };
        let old = std::mem::replace(&mut work.queue[place], new);
        sink.stats.buffered_bytes = sink.stats.buffered_bytes + len as u64 - old.plain_len as u64;
        self.resized(key.topic, old.memory(), memory);
        old.discard(&mut self.memory.pool);
        true
    }
}

/// Like [`push`], without the record's timestamp, which goes into a header.
pub(super) fn push_without_timestamp(
    queue: &mut VecDeque<Batch>,
    pool: &mut Pool,
    bounds: Bounds,
    (record, ticket, notes, keeps_time): (&Record<'_>, Option<Ticket>, Notes, bool),
    ripe_at: Monotonic,
) -> Pushed {
    let received = record.timestamp.to_string();
    let added = (record.timestamp >= 0 && keeps_time).then_some((RECEIVED_MS, received.as_bytes()));
    let headers = record.headers.clone().map(|(key, value)| (key, value.unwrap_or_default())).chain(added);
    let row = Row { key: record.key, value: record.value, headers, timestamp: WallMs(-1) };
    push(queue, 0, pool, bounds, (&Measured(&row, row.measure()), ticket, notes), ripe_at)
}
