//! When a round of sends has ended and something was not taken: again, split, refused, or a new epoch (P3 to P7).
//!
//! Every path here runs with no request of the partition unanswered, and leaves no gap: what is taken back is cut
//! anew, with sequence 0 of a higher epoch, after everything before it is done or ended.

use std::collections::VecDeque;

use super::ask::Why;
use super::batch::{Bad, Batch, Bounds, Flight, push};
use super::error::{INVALID_TIMESTAMP, is_about_records};
use super::lost::Torn;
use super::partition::{Identity, Resolution};
use super::pool::BATCH_COST;
use super::tickets::{Cursor, SPAN_BYTES};
use super::timers::Timer;
use super::{Key, Producer, is_about_topic};
use crate::record::compression::{Codec, Codecs};
use crate::record::{BatchError, BatchView, HEADER_LEN, Record, Records};
use crate::runtime::seam::Monotonic;

/// How often a split waits for memory.
pub(super) const SPLIT_WAITS: u32 = 8;

impl Producer {
    pub(super) fn resolve(&mut self, key: Key, now: Monotonic) {
        if self.mend(key, now) {
            return;
        }
        let rules = self.rules;
        let Some(work) = self.partition_mut(key).work.as_mut() else { return };
        match work.resolution(rules) {
            Resolution::GoOn => {}
            Resolution::Retry => {
                self.send_undone_again(key);
                self.back_off(key, now);
            }
            Resolution::CannotTell => {
                let refused = work.window().any(|batch| batch.flight == Flight::Answered(Bad::NewEpoch));
                if !self.begin_asking(key, if refused { Why::Identity } else { Why::OutOfOrder }) {
                    self.cannot_tell(key, now);
                }
            }
            Resolution::Refused(code) => self.refused(key, code, now),
        }
    }

    pub(super) fn back_off(&mut self, key: Key, now: Monotonic) {
        let partition = self.partition_mut(key);
        let way = partition.leader.map(|leader| (leader, partition.patience > 0));
        let Some(work) = partition.work.as_mut() else { return };
        let at_once = std::mem::take(&mut work.at_once);
        // What was wrong there need not be wrong with the new leader, or on the second lane.
        if !at_once && (way.is_none() || work.went.is_none() || work.went == way) {
            self.pause(key, now);
        }
    }

    /// Leaves a partition alone for a while, longer each time in a row.
    pub(super) fn pause(&mut self, key: Key, now: Monotonic) {
        let (min, max) = (self.settings.backoff_min, self.settings.backoff_max);
        let jitter = 0.8 + 0.4 * self.rng.f64();
        let Some(work) = self.partition_mut(key).work.as_mut() else { return };
        let doubled = min.saturating_mul(1 << work.attempts.min(16)).min(max);
        work.attempts += 1;
        work.backoff_until = now.after(doubled.mul_f64(jitter));
        let until = work.backoff_until;
        self.timers.set(until, Timer::Partition(key));
    }

    /// Kafka's log could not be asked, or does not tell (P5): all undone are sent again under a new epoch, and what may by
    /// that be there twice is counted.
    pub(super) fn cannot_tell(&mut self, key: Key, now: Monotonic) {
        let Some(work) = self.partition_mut(key).work.as_mut() else { return };
        let lacking = !work.window().any(|batch| batch.maybe_there);
        let unknown = count_unclear(work.window_mut());
        self.unknown(key, unknown);
        if lacking {
            self.lacks(key);
        }
        self.void_all_restored(key, true);
        self.raise_epoch(key, now);
        self.back_off(key, now);
    }

    /// P6: final only if every earlier attempt is known not to have been appended. What may be about one record of
    /// many is split until it is about one.
    pub(super) fn refused(&mut self, key: Key, code: i16, now: Monotonic) {
        let partition = &self.topics[key.topic as usize].partitions[key.partition as usize];
        let Some(work) = partition.work.as_ref() else { return };
        // Nor are the younger ones simply cut anew: a log that was made anew, or has forgotten us, may have begun with one.
        if !self.rules.is_refusal_final(work.window().any(|batch| batch.maybe_there)) {
            if !self.begin_asking(key, Why::Refusal(code)) {
                self.cannot_tell(key, now);
            }
            return;
        }
        if code == INVALID_TIMESTAMP && self.refused_for_time(key, now) {
            return;
        }
        // It is not there, nor are those behind it that memory does not have yet: they do not go before what is taken back.
        self.void_all_restored(key, false);
        let partition = &self.topics[key.topic as usize].partitions[key.partition as usize];
        let Some(work) = partition.work.as_ref() else { return };
        let Some(first) = work.queue.front() else { return };
        if first.count > 1 && is_about_records(code) {
            let sink = self.topics[key.topic as usize].sink;
            // Not for ever: better a moment above the bound than a partition that waits for itself. But its own sink's
            // rejected batches are waited for: they give their memory back by themselves. Those of another sink may be
            // waiting for a topic that never comes.
            if (work.attempts < SPLIT_WAITS || self.rejected_of(sink).next().is_some()) && !self.can_split(first) {
                self.raise_epoch(key, now);
                return self.back_off(key, now);
            }
            if self.split(key) {
                return self.raise_epoch(key, now);
            }
        }
        let partition = &mut self.topics[key.topic as usize].partitions[key.partition as usize];
        let Some(work) = partition.work.as_mut() else { return };
        self.logging.void_from(work, 1);
        work.cut -= 1;
        work.attempts = 0;
        if let Some(batch) = work.queue.pop_front() {
            self.topics[key.topic as usize].placed -= u64::from(batch.count);
            self.end_refused(key.topic, Some(key.partition), batch, code);
        }
        if is_about_topic(code) {
            self.refuse_topic(key.topic, code, now);
        }
        self.raise_epoch(key, now);
    }

    /// Takes back what is cut and undone. The next cut of this partition is sequence 0 of the next epoch, and goes
    /// alone until it is answered 0. After the last epoch: a new producer id.
    pub(super) fn raise_epoch(&mut self, key: Key, now: Monotonic) {
        // Cuts of an earlier start that memory does not have yet would be loaded before what is taken back.
        if self.partition_mut(key).work.as_ref().is_some_and(|work| work.cut > 0) {
            self.void_all_restored(key, false);
        }
        let topic = &mut self.topics[key.topic as usize];
        let sink_index = topic.sink;
        let sink = &mut self.sinks[sink_index];
        let partition = &mut topic.partitions[key.partition as usize];
        if let Some(work) = partition.work.as_mut() {
            self.logging.void_from(work, 0);
            (work.cut, work.torn) = (0, Torn::No);
        }
        sink.stats.epochs_raised += 1;
        let Some(Identity { id, epoch }) = partition.identity else { return };
        match self.rules.after_take_back(epoch, partition.sequence) {
            Some((epoch, sequence)) => {
                partition.adopt(Some(Identity { id, epoch }));
                partition.sequence = sequence;
            }
            None => {
                partition.adopt(None);
                // Unless another partition has got it one already.
                if sink.identity.is_some_and(|identity| identity.id == id) {
                    sink.identity = None;
                    self.ask_producer_id(sink_index, now);
                }
            }
        }
    }

    /// Replaces the first batch of a partition by two halves, closed. `false`: it cannot be read (and is as it was).
    fn split(&mut self, key: Key) -> bool {
        let topic = &mut self.topics[key.topic as usize];
        let sink = &mut self.sinks[topic.sink];
        let Some(work) = topic.partitions[key.partition as usize].work.as_mut() else { return false };
        let Some(first) = work.queue.front() else { return false };
        let Some(records) = records_of(first, &mut self.codecs) else { return false };
        let half = first.count / 2;
        let first_len = len_of(records.clone(), half);
        let mut halves = VecDeque::with_capacity(2);
        let mut cursor = Cursor::default();
        let (mut len, mut memory) = (0, 0);
        for (record, i) in records.map_while(Result::ok).zip(0..) {
            let ticket = first.tickets.next(&mut cursor);
            let (uncut, hint) = if i < half { (0, first_len) } else { (1, first.plain_len.saturating_sub(first_len)) };
            let hint = (hint + HEADER_LEN, first.tickets.spans());
            let bounds = Bounds { batch_bytes: usize::MAX, ceiling: usize::MAX, hint, kind: first.kept.kind };
            // The first half takes no more rows once the second begins.
            let new = (&mut self.serial, Monotonic(0));
            let pushed = push(&mut halves, uncut, &mut self.pool, bounds, (&record, ticket), new);
            len += pushed.len;
            let notes = first.notes_of_cut(i);
            memory += pushed.memory + halves.back_mut().map_or(0, |half| half.note(&mut self.pool, notes));
        }
        for batch in &mut halves {
            batch.kept.old = first.kept.old;
            batch.close(self.codecs.encoder(sink.settings.compression, sink.settings.compression_level));
        }
        self.codecs.forget_plain();
        // Our own bytes: they parse. Should they not, nothing is made of them.
        if halves.iter().map(|batch| batch.count).sum::<u32>() != first.count {
            for batch in halves {
                let tickets = batch.end(&mut self.pool);
                self.pool.give_tickets(tickets);
            }
            return false;
        }
        self.logging.void_from(work, 0);
        let Some(whole) = work.queue.pop_front() else { return false };
        sink.stats.splits += 1;
        sink.stats.buffered_bytes += len as u64;
        sink.stats.buffered_bytes -= whole.plain_len as u64;
        topic.memory = topic.memory + memory - whole.memory();
        sink.memory = sink.memory + memory - whole.memory();
        let tickets = whole.end(&mut self.pool);
        self.pool.give_tickets(tickets);
        while let Some(batch) = halves.pop_back() {
            work.queue.push_front(batch);
        }
        // Two stand where one stood: what is cut behind them is still within.
        work.cut += 1;
        true
    }

    /// Whether the halves of a batch have room beside it. What splits many batches at once is a topic's whole traffic
    /// being refused; then they take turns.
    fn can_split(&self, batch: &Batch) -> bool {
        // Powers of two, both of them.
        let halves = 2 * (batch.plain_len + 4 * HEADER_LEN) + 2 * BATCH_COST;
        let tickets = 2 * batch.tickets.capacity() * SPAN_BYTES;
        let plain = if self.codecs.is_empty() { 0 } else { batch.plain_len };
        self.pool.used() + halves + tickets + plain <= self.limit
    }
}

fn len_of<'a>(records: impl Iterator<Item = Result<Record<'a>, BatchError>>, count: u32) -> usize {
    // Bytes of a record beside its tail, nearly: it is a hint.
    records.take(count as usize).map_while(Result::ok).map(|record| record.tail.len() + 8).sum()
}

/// A batch whose timestamps are older than Kafka's memory is sent again. Its log was asked before (P5), unless it does not
/// tell: then the same identity all the same, one at a time, for where Kafka still remembers, that is as good as knowing.
/// How many rows may be there twice by that.
pub(super) fn sent_again_late(batch: &mut Batch) -> u64 {
    batch.alone = true;
    count_unclear([batch])
}

/// Rows of these batches that may be there and were not counted yet; they are now, until they are cut anew.
pub(super) fn count_unclear<'a>(batches: impl IntoIterator<Item = &'a mut Batch>) -> u64 {
    let mut rows = 0;
    for batch in batches.into_iter().filter(|batch| batch.maybe_there && !batch.counted) {
        batch.counted = true;
        rows += u64::from(batch.count);
    }
    rows
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
