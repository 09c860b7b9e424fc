//! Answers of Kafka, and their absence. An answer 0 settles a batch and all older ones of its identity (P4); any other
//! waits until no request of the partition is unanswered, and all undone batches are resolved together.

use std::ops::Range;

use super::dispatch::{Entry, Over};
use super::error::{NO_ANSWER, TIMED_OUT, TOO_LARGE, UNKNOWN_TOPIC, UNKNOWN_TOPIC_ID, Verdict};
use super::timers::Timer;
use super::{Key, Producer};
use crate::types::{Outcome, ProduceResult};
use forebay_runtime::seam::Monotonic;

impl Producer {
    /// Takes the answer to a Produce request (with `acks` 0: its bytes were written). A batch that is missing in the answer counts as
    /// unanswered.
    pub fn on_produced(&mut self, id: u64, results: &[ProduceResult], throttle_ms: i32, now: Monotonic) {
        let Some(Over { request, in_time, throttled_until }) =
            self.dispatcher.over(id, Some((results, throttle_ms)), now, &mut self.agenda.ready)
        else {
            return;
        };
        if let Some(until) = throttled_until {
            self.agenda.timers.set(until, Timer::Node(request.node));
        }
        if request.patience == 0 && results.iter().any(|result| result.error == TIMED_OUT) {
            self.suspect_followers(&request, results);
        }
        for (i, entry) in request.entries.iter().enumerate() {
            let result = self.result(i, *entry, results);
            let code = result.map_or(i16::MIN, |result| result.error);
            if result.is_some() && code != 0 {
                self.sinks[self.topics[entry.key.topic].sink].stats.errors += 1;
            }
            if matches!(code, UNKNOWN_TOPIC | UNKNOWN_TOPIC_ID) {
                // The topic may be recreated, and then knows no producer: one batch at a time until it has taken one (P2).
                self.topics[entry.key].window.forget_proof();
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
            let verdict = self.within_retries(*entry, verdict, code);
            self.answered(*entry, verdict, now);
        }
        self.dispatcher.keep(request.entries);
    }

    /// The answer to the `i`th batch of a request. Brokers answer in the order of the request, but are not required to.
    pub(super) fn result<'a>(&self, i: usize, entry: Entry, results: &'a [ProduceResult]) -> Option<&'a ProduceResult> {
        let topic = &self.topics[entry.key.topic].name;
        let partition = entry.key.partition as i32;
        let is_it = |result: &&ProduceResult| result.partition == partition && *result.topic == **topic;
        results.get(i).filter(is_it).or_else(|| results.iter().find(is_it))
    }

    /// Handles a Produce request without an answer. `sent`: some of it may have reached the broker.
    pub fn on_failed(&mut self, id: u64, sent: bool, now: Monotonic) {
        // Partitions that waited for room are still marked as queued.
        let Some(Over { request, .. }) = self.dispatcher.over(id, None, now, &mut self.agenda.ready) else { return };
        // Each of the attempts that this one ends may have been appended: the log is asked (P6).
        let is_too_large = request.hung_up && self.is_too_large(&request);
        let again = Verdict::Again { refresh: true, maybe_there: sent };
        for entry in &request.entries {
            self.sinks[self.topics[entry.key.topic].sink].stats.batches_unanswered += 1;
            let verdict = if is_too_large {
                self.topics[entry.key].window.doubt(entry.serial);
                Verdict::Refused(TOO_LARGE)
            } else if sent {
                self.within_retries(*entry, again, NO_ANSWER)
            } else {
                again
            };
            self.answered(*entry, verdict, now);
        }
        self.dispatcher.keep(request.entries);
    }

    fn answered(&mut self, entry: Entry, verdict: Verdict, now: Monotonic) {
        let rules = self.settings.rules;
        let topic = &mut self.topics[entry.key.topic];
        // The batch is not in all replicas: a new leader may lack it.
        let some = self.sinks[topic.sink].settings.acks != -1;
        let other_topic = entry.life != topic.view.life;
        let partition = &mut topic.partitions[entry.key.partition as usize];
        if partition.work.is_none() {
            return;
        }
        let moved = some && partition.window.last_node() != partition.leader;
        if let Some(settled) = partition.window.answered(entry.serial, verdict, (moved, other_topic), now, rules) {
            self.settled(entry.key, settled);
            self.outbox.refresh |=
                matches!(verdict, Verdict::Again { refresh: true, .. } | Verdict::NoTopic | Verdict::GivenUp { .. });
        }
        self.go_on(entry.key, now);
    }

    /// Ends the batches at these places, which are in the log.
    pub(super) fn settled(&mut self, key: Key, places: Range<usize>) {
        for _ in places.clone() {
            let Some(work) = self.topics[key].work.as_mut() else { return };
            let Some(batch) = work.queue.remove(places.start) else { return };
            self.topics[key.topic].placed -= u64::from(batch.count);
            self.end(key.topic, Some(key.partition), batch, Outcome::Delivered);
        }
    }

    /// After an answer: resolves a round that has ended with errors, lets the next batches go, or rests.
    pub(super) fn go_on(&mut self, key: Key, now: Monotonic) {
        let partition = &mut self.topics[key];
        if partition.work.is_none() {
            return;
        }
        let (quiet, failed) = (!partition.window.is_in_flight(), partition.window.is_to_resolve());
        if quiet && self.leave(key, now) {
            return;
        }
        if failed {
            self.resolve(key, now);
        }
        self.make_ready(key);
        self.rest(key);
        if self.topics[key.topic].placed == 0 {
            self.may_place(key.topic);
        }
    }
}
