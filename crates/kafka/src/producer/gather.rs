//! The end of a turn: ripe batches are cut, and all batches due for a broker go into one request (P7, P8).

use std::rc::Rc;
use std::time::Duration;

use super::batch::Batch;
use super::dispatch::{Entry, RequestTerms, Route};
use super::row_log::{NoLog, RowLog, TakenCut};
use super::window::{NewBatch, Step, StepTerms, WINDOW};
use super::{Key, Producer, SinkSettings};
use crate::types::{ProduceBatch, ProduceRequest};
use forebay_record::{HEADER_LEN, Stamp};
use forebay_runtime::seam::{Monotonic, WallMs};

impl Producer {
    /// Ends a turn: appends to `out` the requests to send. Requests to one broker are in the order in which they
    /// must reach it. `wall` is the wall clock of this turn (rules on old timestamps, P2).
    pub fn poll(&mut self, now: Monotonic, wall: WallMs, out: &mut Vec<ProduceRequest>) {
        self.poll_with(now, wall, &mut NoLog, out);
    }

    /// Like [`Producer::poll`], for a producer with sinks that keep their rows in a log. Rows that the log
    /// does not take now, or that wait for it to become durable or to be read, are looked at again in the next poll
    /// and set no deadline: the driver of the log polls when a sync or a read is over.
    pub fn poll_with(&mut self, now: Monotonic, wall: WallMs, log: &mut dyn RowLog, out: &mut Vec<ProduceRequest>) {
        self.wall = wall;
        self.memory.pool.sweep();
        self.watch_unused(now);
        if self.logging.on {
            self.begin_logged(log);
        }
        self.fire_timers(now);
        if self.logging.on {
            self.pace(now);
        }
        self.make_room_for_topics(now);
        let more = self.logging.on && self.refill(now, log);
        self.place_held(now);
        self.agenda.behind |= more;
        self.ripen(now);
        if self.cluster.reachable && !self.agenda.ready.is_empty() {
            self.gather(now, wall, log, out);
            // Partitions that became ready meanwhile (after an expired batch, for example) may have nothing else to wake them.
            self.agenda.behind |= !self.agenda.ready.is_empty();
        }
        if self.logging.on {
            self.spill();
            self.flush_ended(log);
        }
    }

    /// Ends all linger: lingering batches are due in the next poll, and so is every later row. For the shutdown, in which a linger
    /// longer than the grace period would keep rows from Kafka.
    pub fn stop_lingering(&mut self, now: Monotonic) {
        for sink in 0..self.sinks.len() {
            self.sinks[sink].settings.linger = Duration::ZERO;
            while let Some((_, key)) = self.sinks[sink].lingering.pop_front() {
                let partition = &mut self.topics[key];
                if let Some(batch) = partition.work.as_mut().and_then(|work| work.queue.back_mut()) {
                    batch.ripe_at = batch.ripe_at.min(now);
                }
                self.make_ready(key);
            }
        }
    }

    /// Stops cutting for sinks that recover their rows from the log; cut batches are still sent and settled. Used on
    /// shutdown, so that no batch remains with an unknown outcome.
    pub const fn cut_no_more(&mut self) {
        self.logging.cuts_no_more = true;
    }

    /// Queues the partitions that have a batch past its linger.
    fn ripen(&mut self, now: Monotonic) {
        let (topics, ready) = (&mut self.topics, &mut self.agenda.ready);
        self.sinks.each_lingering(|lingering| {
            while let Some((ripe_at, key)) = lingering.front().copied() {
                // The batch of this linger may have become full and left before: most do.
                if ripe_at > now && topics[key].last_uncut().is_some_and(|batch| batch.ripe_at == ripe_at) {
                    break;
                }
                lingering.pop_front();
                if ripe_at <= now && topics[key].is_now_queued() {
                    ready.push(key);
                }
            }
        });
    }

    fn gather(&mut self, now: Monotonic, wall: WallMs, log: &mut dyn RowLog, out: &mut Vec<ProduceRequest>) {
        let mut due = std::mem::replace(&mut self.agenda.ready, std::mem::take(&mut self.agenda.due));
        // Sorted by topic, as requests need it; a partition that went idle and became busy again may be listed twice.
        due.sort_unstable();
        due.dedup();
        for key in &due {
            if let Some(work) = self.topics[*key].work.as_mut() {
                work.queued = false;
            }
        }
        // One batch per partition and request (P7): a partition's second batch goes into the next wave of requests.
        self.dispatcher.begin();
        for _ in 0..WINDOW {
            self.dispatcher.begin_wave();
            let before = out.len();
            self.logging.took = false;
            for key in &due {
                self.send_next(*key, now, wall, log, out);
            }
            if out.len() == before && !self.logging.took {
                break;
            }
        }
        due.clear();
        self.agenda.due = due;
    }

    /// A partition's next step, if there is one; backoff, leader and the broker's room are checked later.
    fn next_step(&self, key: Key, now: Monotonic, wall: WallMs) -> Option<Step> {
        let (partition, sink) = (&self.topics[key], &self.sinks[self.topics[key.topic].sink]);
        let SinkSettings { acks, max_inflight, .. } = sink.settings;
        let (rules, identity, durable) = (self.settings.rules, sink.identity, self.logging.durable);
        let restored = partition.restored();
        partition.step(&StepTerms { rules, now, wall, acks, identity, max_inflight, durable, restored })
    }

    /// Puts the next batch of a partition into a request of this wave, if it may go.
    fn send_next(
        &mut self,
        key: Key,
        now: Monotonic,
        wall: WallMs,
        log: &mut dyn RowLog,
        out: &mut Vec<ProduceRequest>,
    ) {
        let partition = &self.topics[key];
        let Some(work) = partition.work.as_deref() else { return };
        // A pause has a timer; a queued partition is in the list of a busy broker already.
        if work.queued || partition.window.backs_off(now) {
            return;
        }
        if self.waits_for_log(key, now) {
            return;
        }
        let Some(step) = self.next_step(key, now, wall) else { return };
        let sink = &self.sinks[self.topics[key.topic].sink];
        let stays = sink.settings.paused || (self.logging.cuts_no_more && sink.settings.keep.outlives());
        if matches!(step, Step::Cut) && stays {
            return;
        }
        if let Step::Ask(why) = step {
            self.topics[key].window.ask(why);
            self.make_ready(key);
            self.waits_for_log(key, now);
            return;
        }
        if matches!(step, Step::Cut) {
            if !self.topics[key].is_staged() {
                return self.wait_for_log_room(key);
            }
            if !self.drop_expired(key, now) {
                return;
            }
            if !self.split_oversized(key) {
                return;
            }
            // A batch without timestamps is sent alone.
            if self.cut_without_time(key, now, wall) && self.next_step(key, now, wall) != Some(Step::Cut) {
                return;
            }
        }
        let topic = &self.topics[key.topic];
        let partition = &topic.partitions[key.partition as usize];
        let Some(work) = partition.work.as_deref() else { return };
        // The rows left after others expired may be older than the batch was: then the batch is sent alone after all.
        let forgettable = |batch: &Batch| self.settings.rules.is_forgettable(batch.max_timestamp, wall.0);
        if matches!(step, Step::Cut) && !partition.window.is_empty() && partition.uncut().is_some_and(forgettable) {
            return;
        }
        let sink = &self.sinks[topic.sink];
        let Some(node) = partition.leader else {
            return self.ask_metadata(key.topic, now);
        };
        let route = Route { node, patience: partition.patience };
        // The leader has moved, or the partition has changed channels.
        if partition.window.is_under_way_but((node, route.patience > 0)) {
            return;
        }
        if matches!(step, Step::Cut) && partition.uncut().is_some_and(|batch| batch.in_log.is_logged()) {
            if !self.dispatcher.has_room(route, now) {
                return self.wait_for_node(route, key);
            }
            if !self.may_stay(key) {
                return self.wait_for_log_room(key);
            }
            // The batch is sent when its cut is durable.
            return self.cut_logged(key, wall, log);
        }
        let terms = RequestTerms { route, acks: sink.settings.acks, only: topic.shared.then_some(topic.sink) };
        let bytes = match step {
            Step::Send(place) => work.queue[place].bytes().map_or(0, |bytes| bytes.len()),
            Step::Cut | Step::Ask(_) => partition.uncut().map_or(0, |batch| batch.plain_len),
        };
        let Some(load) = self.dispatcher.request_for(terms, bytes, now, out) else {
            return self.wait_for_node(route, key);
        };
        let place = match step {
            Step::Send(place) => place,
            Step::Cut | Step::Ask(_) => self.cut(key, wall, None),
        };
        self.send(key, place, route, load, wall, out);
    }

    /// Leaves a partition waiting for room at its broker.
    fn wait_for_node(&mut self, route: Route, key: Key) {
        if self.dispatcher.wait(route, key)
            && let Some(work) = self.topics[key].work.as_mut()
        {
            work.queued = true;
        }
    }

    /// The stamp of a partition's next batch.
    pub(super) fn stamp_of_next(&mut self, key: Key) -> Option<Stamp> {
        let topic = &mut self.topics[key.topic];
        let sink = &self.sinks[topic.sink];
        let partition = &mut topic.partitions[key.partition as usize];
        let old = partition.uncut()?.in_log.old;
        partition.window.next_stamp(old, sink.identity, sink.settings.acks, self.settings.rules)
    }

    /// Cuts a partition's first ripe batch: producer id, epoch, sequence and checksum are assigned now and not before
    /// (P1, P3). `taken`: its cut in the log. Returns its place in the queue.
    pub(super) fn cut(&mut self, key: Key, wall: WallMs, taken: Option<TakenCut>) -> usize {
        let stamp = self.stamp_of_next(key);
        let topic = &mut self.topics[key.topic];
        let sink = &mut self.sinks[topic.sink];
        let partition = &mut topic.partitions[key.partition as usize];
        let place = partition.window.len();
        let (Some(stamp), Some(work)) = (stamp, partition.work.as_mut()) else { return place };
        let batch = &mut work.queue[place];
        if !batch.is_closed() {
            partition.hint = (batch.plain_len + HEADER_LEN, batch.tickets.spans());
            batch.close(self.memory.codecs.encoder(sink.settings.compression, sink.settings.compression_level));
        }
        let before = batch.memory();
        batch.stamp(stamp, &mut self.memory.pool);
        let after = batch.memory();
        (batch.in_log.begins, batch.in_log.cut) = (false, taken);
        let (serial, count, newest, old) = (batch.serial, batch.count, batch.max_timestamp, batch.in_log.old);
        let new = NewBatch { serial, count, newest, old, group: taken.map(|taken| taken.group) };
        partition.window.cut(new, stamp, self.settings.rules.is_forgettable(newest, wall.0));
        sink.stats.batches += 1;
        sink.stats.batch_records += u64::from(batch.count);
        sink.stats.batch_bytes += batch.bytes().map_or(0, |bytes| bytes.len()) as u64;
        self.resized(key.topic, before, after);
        place
    }

    fn send(&mut self, key: Key, place: usize, route: Route, load: usize, wall: WallMs, out: &mut [ProduceRequest]) {
        let topic = &mut self.topics[key.topic];
        let stats = &mut self.sinks[topic.sink].stats;
        let partition = &mut topic.partitions[key.partition as usize];
        let leader_epoch = partition.leader_epoch.unwrap_or(-1);
        let Some(work) = partition.work.as_mut() else { return };
        let batch = &mut work.queue[place];
        let Some(bytes) = batch.bytes().map(Rc::clone) else { return };
        let via = (route.node, route.patience > 0);
        let (again, unknown) = partition.window.sent(place, via, wall, self.settings.rules);
        stats.retries += u64::from(again);
        let entry = Entry { key, serial: batch.serial, again, life: topic.view.life, leader_epoch };
        let (topic, topic_id) = (Rc::clone(&topic.name), topic.view.id);
        let batch = ProduceBatch { topic, topic_id, partition: key.partition as i32, bytes };
        stats.requests += u64::from(self.dispatcher.add(load, entry, batch, out));
        self.unknown(key, unknown);
    }

    /// Gives back the state of an idle partition.
    pub(super) fn rest(&mut self, key: Key) {
        self.topics[key].rest(&mut self.memory.spare);
    }
}
