//! The end of a round of sends in which some batch was not taken: again, split, refused, or a new epoch (P3 to P7).
//!
//! Every path here runs while no request of the partition is unanswered, and leaves no gap: taken-back batches are cut
//! again, with sequence 0 of a higher epoch, after everything before them is done or ended.

use std::collections::VecDeque;

use super::batch::{Batch, Bounds, push};
use super::corrupt::is_whole;
use super::error::{CORRUPT, INVALID_TIMESTAMP, is_about_records};
use super::pool::BATCH_COST;
use super::tickets::{Cursor, SPAN_BYTES};
use super::timers::Timer;
use super::window::{Resolution, TakeBack};
use super::{Key, Producer, is_about_topic};
use forebay_record::compression::{Codec, Codecs};
use forebay_record::{BatchError, BatchView, HEADER_LEN, Record, Records};
use forebay_runtime::seam::Monotonic;

/// How often a split waits for memory.
pub(super) const SPLIT_WAITS: u32 = 8;

impl Producer {
    /// Resolves an ended round of a partition's sends in which some batch was not taken.
    pub(super) fn resolve(&mut self, key: Key, now: Monotonic) {
        let (rules, topic) = (self.settings.rules, &mut self.topics[key.topic]);
        let acks = self.sinks[topic.sink].settings.acks;
        let resolution = topic.partitions[key.partition as usize].window.resolve(acks, rules);
        self.carry_out(key, resolution, now);
    }

    /// Carries out a window's resolution.
    pub(super) fn carry_out(&mut self, key: Key, resolution: Resolution, now: Monotonic) {
        match resolution {
            Resolution::Nothing => {}
            Resolution::Again => self.back_off(key, now),
            Resolution::Ask => self.make_ready(key),
            Resolution::AskAgain => {
                self.outbox.refresh = true;
                // The leader was asked, wherever the batches went; a new one may not be known to the wire client yet.
                self.pause(key, now);
            }
            Resolution::Settle(places) => self.settled(key, places),
            Resolution::Unknown(rows) => self.unknown(key, rows),
            Resolution::TakeBack(TakeBack { unknown, restored_too, lacking, pause }) => {
                self.unknown(key, unknown);
                if lacking {
                    self.lacks(key);
                }
                if restored_too {
                    self.void_all_restored(key, true);
                }
                self.raise_epoch(key, now);
                if pause {
                    self.back_off(key, now);
                }
            }
            Resolution::Reject(code) => self.refused(key, code, now),
        }
    }

    pub(super) fn back_off(&mut self, key: Key, now: Monotonic) {
        let partition = &mut self.topics[key];
        let way = partition.leader.map(|leader| (leader, partition.patience > 0));
        if partition.work.is_some() && partition.window.pauses(way) {
            self.pause(key, now);
        }
    }

    /// Pauses a partition, longer each time in a row.
    pub(super) fn pause(&mut self, key: Key, now: Monotonic) {
        let bounds = (self.settings.backoff_min, self.settings.backoff_max);
        let jitter = 0.8 + 0.4 * self.rng.f64();
        let until = self.topics[key].window.pause(now, bounds, jitter);
        self.agenda.timers.set(until, Timer::Partition(key));
    }

    /// Handles the permanent refusal of the oldest batch, which is in no log (P6). A refusal that may be about one record of many
    /// splits the batch until it is about one.
    fn refused(&mut self, key: Key, code: i16, now: Monotonic) {
        if code == INVALID_TIMESTAMP && self.refused_for_time(key, now) {
            return;
        }
        // The batch is not there, nor are the cuts after it that are not loaded yet: they must not precede the batches that are
        // taken back.
        self.void_all_restored(key, false);
        let partition = &self.topics[key];
        let Some(work) = partition.work.as_ref() else { return };
        let Some(first) = work.queue.front() else { return };
        // A batch damaged here is not made into batches that look whole.
        if first.count > 1 && is_about_records(code) && (code != CORRUPT || is_whole(first)) {
            let sink = self.topics[key.topic].sink;
            // The wait is bounded: exceeding the memory bound briefly is better than a partition that waits for itself. But the sink's
            // own rejected batches are waited for, since they free memory by themselves. Those of another sink may wait for a topic
            // that never appears.
            if (partition.window.attempts() < SPLIT_WAITS || self.rejected_of(sink).next().is_some())
                && !self.can_split(first)
            {
                self.raise_epoch(key, now);
                return self.back_off(key, now);
            }
            if self.split(key) {
                return self.raise_epoch(key, now);
            }
        }
        let partition = &mut self.topics[key];
        self.logging.ends.void_from(partition, 1);
        partition.window.reject_oldest();
        if let Some(batch) = partition.work.as_mut().and_then(|work| work.queue.pop_front()) {
            self.topics[key.topic].placed -= u64::from(batch.count);
            self.end_refused(key.topic, Some(key.partition), batch, code);
        }
        if is_about_topic(code) {
            self.refuse_topic(key.topic, code, now);
        }
        self.raise_epoch(key, now);
    }

    /// Takes back the undone batches. The next cut of this partition is sequence 0 of the next epoch, and is sent
    /// alone until it is answered 0. After the last epoch: a new producer id.
    pub(super) fn raise_epoch(&mut self, key: Key, now: Monotonic) {
        // Cuts of an earlier process that are not loaded yet would be loaded before the batches that are taken back.
        if !self.topics[key].window.is_empty() {
            self.void_all_restored(key, false);
        }
        let topic = &mut self.topics[key.topic];
        let sink_index = topic.sink;
        let sink = &mut self.sinks[sink_index];
        let partition = &mut topic.partitions[key.partition as usize];
        self.logging.ends.void_from(partition, 0);
        sink.stats.epochs_raised += 1;
        let Some(spent) = partition.window.take_back(self.settings.rules) else { return };
        // Unless another partition has already caused a new one for the sink.
        if sink.identity.is_some_and(|identity| identity.id == spent) {
            sink.identity = None;
            self.ask_producer_id(sink_index, now);
        }
    }

    /// Replaces the first batch of a partition by two halves, closed. `false`: it cannot be read (and is unchanged).
    pub(super) fn split(&mut self, key: Key) -> bool {
        let topic = &mut self.topics[key.topic];
        let sink = &mut self.sinks[topic.sink];
        let partition = &mut topic.partitions[key.partition as usize];
        let Some(first) = partition.work.as_ref().and_then(|work| work.queue.front()) else { return false };
        let Some(records) = records_of(first, &mut self.memory.codecs) else { return false };
        let half = first.count / 2;
        let first_len = len_of(records.clone(), half);
        let mut halves = VecDeque::with_capacity(2);
        let mut cursor = Cursor::default();
        let (mut len, mut memory) = (0, 0);
        for (record, i) in records.map_while(Result::ok).zip(0..) {
            let ticket = first.tickets.next(&mut cursor);
            let (uncut, hint) = if i < half { (0, first_len) } else { (1, first.plain_len.saturating_sub(first_len)) };
            let hint = (hint + HEADER_LEN, first.tickets.spans());
            let bounds = Bounds { batch_bytes: usize::MAX, ceiling: usize::MAX, hint, kind: first.in_log.kind };
            // Rows that were cut once do not expire any more.
            let notes = if partition.window.is_empty() { first.notes_of(i) } else { first.notes_of_cut(i) };
            let new = (&record, ticket, notes);
            // The first half takes no more rows once the second begins.
            let pushed = push(&mut halves, uncut, &mut self.memory.pool, bounds, new, Monotonic(0));
            len += pushed.len;
            memory += pushed.memory;
        }
        for batch in &mut halves {
            batch.in_log.old = first.in_log.old;
            batch.corrupt = first.corrupt;
            batch.close(self.memory.codecs.encoder(sink.settings.compression, sink.settings.compression_level));
        }
        self.memory.codecs.forget_plain();
        // The producer's own bytes always parse. If they do not, the halves are dropped.
        if halves.iter().map(|batch| batch.count).sum::<u32>() != first.count {
            for batch in halves {
                batch.discard(&mut self.memory.pool);
            }
            return false;
        }
        // The caller takes back all batches.
        self.logging.ends.void_from(partition, 0);
        let Some(work) = partition.work.as_mut() else { return false };
        let Some(whole) = work.queue.pop_front() else { return false };
        sink.stats.splits += 1;
        sink.stats.buffered_bytes += len as u64;
        sink.stats.buffered_bytes -= whole.plain_len as u64;
        while let Some(batch) = halves.pop_back() {
            work.queue.push_front(batch);
        }
        self.resized(key.topic, whole.memory(), memory);
        whole.discard(&mut self.memory.pool);
        true
    }

    /// Whether the halves of a batch have room beside it. Many batches are split at once when all traffic of a topic is
    /// refused; then they take turns.
    pub(super) fn can_split(&self, batch: &Batch) -> bool {
        // The capacity of each half is a power of two.
        let halves = 2 * (batch.plain_len + 4 * HEADER_LEN) + 2 * BATCH_COST;
        let tickets = 2 * batch.tickets.capacity() * SPAN_BYTES;
        let plain = if self.memory.codecs.is_empty() { 0 } else { batch.plain_len };
        self.memory.fits(halves + tickets + plain)
    }
}

fn len_of<'a>(records: impl Iterator<Item = Result<Record<'a>, BatchError>>, count: u32) -> usize {
    // Approximate bytes of a record beside its tail: a hint.
    records.take(count as usize).map_while(Result::ok).map(|record| record.tail.len() + 8).sum()
}

/// The rows of a batch, closed or not.
pub(super) fn records_of<'a>(batch: &'a Batch, codecs: &'a mut Codecs) -> Option<Records<'a>> {
    if let Some(builder) = batch.builder() {
        return Some(builder.records_after(0, 0));
    }
    let (view, _) = BatchView::parse(batch.bytes()?).ok()?;
    let body = match view.codec().ok()? {
        Codec::None => view.body(),
        codec => codecs.decompress(codec, view.body(), batch.plain_len)?,
    };
    Some(Records::new(body, view.header().records_count, view.header().base_timestamp))
}
