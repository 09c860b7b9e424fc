//! Answers of Kafka, and their absence. An answer 0 settles a batch and all older ones of its identity (P4); anything
//! else waits until the partition has no request without an answer, and is then resolved at once for all undone.

use super::batch::{Bad, Flight};
use super::dispatch::{Entry, Over};
use super::error::{TIMED_OUT, UNKNOWN_TOPIC, UNKNOWN_TOPIC_ID, Verdict};
use super::lost::Torn;
use super::partition::REMEMBERED;
use super::timers::Timer;
use super::{Key, Producer};
use crate::kafka::types::{Outcome, ProduceResult};
use crate::runtime::seam::Monotonic;

impl Producer {
    /// A Produce request was answered (with `acks` 0: written). A batch that the answer leaves out counts as not
    /// answered.
    pub fn on_produced(&mut self, id: u64, results: &[ProduceResult], throttle_ms: i32, now: Monotonic) {
        let Some(Over { request, in_time, throttled_until }) =
            self.dispatcher.over(id, Some((results, throttle_ms)), now, &mut self.ready)
        else {
            return;
        };
        if let Some(until) = throttled_until {
            self.timers.set(until, Timer::Node(request.node));
        }
        if request.patience == 0 && results.iter().any(|result| result.error == TIMED_OUT) {
            self.kin_are_slower(&request, results);
        }
        for (i, entry) in request.entries.iter().enumerate() {
            let result = self.result(i, *entry, results);
            let code = result.map_or(i16::MIN, |result| result.error);
            if result.is_some() && code != 0 {
                self.sinks[self.topics[entry.key.topic as usize].sink].stats.errors += 1;
            }
            if matches!(code, UNKNOWN_TOPIC | UNKNOWN_TOPIC_ID) {
                // It may be made anew, and then knows no producer: one batch at a time until it has taken one (P2).
                self.partition_mut(entry.key).proven_until = Monotonic(0);
            }
            match result {
                Some(result) if code == 0 => {
                    self.note_offset(*entry, result.base_offset, request.node, now);
                    self.taken(*entry, request.patience, in_time);
                }
                _ if code == TIMED_OUT => self.slower(*entry, request.patience),
                _ => {}
            }
            let verdict = self.verdict_of(*entry, code);
            self.answered(*entry, verdict, now);
        }
        self.dispatcher.keep(request.entries);
    }

    /// What was said of the `i`th batch of a request. Brokers answer in the order of the request; but nothing says that
    /// they must.
    pub(super) fn result<'a>(&self, i: usize, entry: Entry, results: &'a [ProduceResult]) -> Option<&'a ProduceResult> {
        let topic = &self.topics[entry.key.topic as usize].name;
        let partition = entry.key.partition as i32;
        let is_it = |result: &&ProduceResult| result.partition == partition && *result.topic == **topic;
        results.get(i).filter(is_it).or_else(|| results.iter().find(is_it))
    }

    /// A Produce request got no answer. `sent`: some of it may have reached the broker.
    pub fn on_failed(&mut self, id: u64, sent: bool, now: Monotonic) {
        // Those that waited for room are still marked as queued.
        let Some(Over { request, .. }) = self.dispatcher.over(id, None, now, &mut self.ready) else { return };
        for entry in &request.entries {
            self.sinks[self.topics[entry.key.topic as usize].sink].stats.batches_unanswered += 1;
            self.answered(*entry, Verdict::Again { refresh: true, maybe_there: sent }, now);
        }
        self.dispatcher.keep(request.entries);
    }

    fn answered(&mut self, entry: Entry, verdict: Verdict, now: Monotonic) {
        let Some(work) = self.partition_mut(entry.key).work.as_mut() else { return };
        work.in_flight -= 1;
        // Not there: a younger one's answer has settled it before.
        let place = work.window().position(|batch| batch.serial == entry.serial);
        if let Some(place) = place {
            let torn = work.torn != Torn::No;
            let batch = &mut work.queue[place];
            match verdict {
                Verdict::Done if torn => self.settle_only(entry.key, place),
                Verdict::Done => {
                    self.settle(entry.key, place, now);
                    if entry.life != self.topics[entry.key.topic as usize].life {
                        // The old topic's word, perhaps: the new one may not have heard of us (P2).
                        self.partition_mut(entry.key).proven_until = Monotonic(0);
                    }
                }
                Verdict::Again { refresh, maybe_there } => {
                    batch.flight = Flight::Answered(Bad::Again);
                    batch.maybe_there |= maybe_there;
                    self.refresh |= refresh;
                }
                Verdict::OutOfOrder => batch.flight = Flight::Answered(Bad::OutOfOrder),
                Verdict::NewEpoch => batch.flight = Flight::Answered(Bad::NewEpoch),
                Verdict::Refused(code) => batch.flight = Flight::Answered(Bad::Refused(code)),
            }
        }
        self.go_on(entry.key, now);
    }

    /// P4: the batch is in the log, and so is every older one of its identity; the window holds no other identity.
    pub(super) fn settle(&mut self, key: Key, place: usize, now: Monotonic) {
        let mut alone = false;
        let settled = self.rules.settled_by(place);
        for _ in settled.clone() {
            let Some(work) = self.partition_mut(key).work.as_mut() else { return };
            let Some(batch) = work.queue.remove(settled.start) else { return };
            work.cut -= 1;
            (work.attempts, work.vain) = (0, 0);
            alone = batch.alone;
            self.topics[key.topic as usize].placed -= u64::from(batch.count);
            self.end(key.topic, Some(key.partition), batch, Outcome::Delivered);
        }
        // A batch that Kafka may forget at its next look leaves the partition as it was before the first.
        let some = self.sinks[self.topics[key.topic as usize].sink].settings.acks != -1;
        let partition = self.partition_mut(key);
        // Not in all replicas: a new leader may lack it.
        let moved =
            some && partition.work.as_ref().is_some_and(|work| work.went.map(|(node, _)| node) != partition.leader);
        partition.proven_until = if alone || moved { Monotonic(0) } else { now.after(REMEMBERED) };
    }

    /// After an answer: resolves a round that has ended with errors, lets the next batches go, or rests.
    pub(super) fn go_on(&mut self, key: Key, now: Monotonic) {
        let Some(work) = self.partition_mut(key).work.as_ref() else { return };
        let (quiet, answered) = (work.in_flight == 0, work.asking.is_none() && work.has_answered());
        if quiet && self.leave(key, now) {
            return;
        }
        if quiet && answered {
            self.resolve(key, now);
        }
        self.make_ready(key);
        self.rest(key);
        if self.topics[key.topic as usize].placed == 0 {
            self.may_place(key.topic);
        }
    }
}
