//! Asking Kafka what its log holds (P5, P6), where only the log can tell whether undone batches are there: all of them
//! got 45; the identity is no longer taken (47 and its like); a batch is refused that an earlier attempt may have
//! appended; a batch is to be sent again that is older than Kafka's memory (P2).
//!
//! A partition asks with no request of it unanswered, and sends nothing until it knows; others do not wait for it. What
//! the answer means stands in [`Producer::on_asked`]; why no late request of an old connection can make it wrong, in
//! `docs/decisions/0016-asking.md`.

use super::acked::Acked;
use super::batch::{Batch, Flight};
use super::lost::Torn;
use super::partition::{Partition, Work, forgotten, sequence_after};
use super::resolve::sent_again_late;
use super::restore::rows_of;
use super::timers::Timer;
use super::{Keep, Key, Producer, Want};
use crate::kafka::types::{LogSays, Question};
use crate::record::BatchView;
use crate::rules::{Rules, SentBefore};
use crate::runtime::seam::{Monotonic, WallMs};

/// Times that a question is asked again because the answer was "not now" (with backoff: minutes). After that as if we
/// were not allowed to ask.
const TRIES_MAX: u32 = 100;
/// Times in a row that Kafka may refuse an identity of which its log says that it is the next.
const VAIN_MAX: u32 = 3;

/// Why a partition asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Why {
    /// All undone batches got 45.
    OutOfOrder,
    /// The identity is not taken: 47 and its like.
    Identity,
    /// The oldest was refused with this code, and may be there.
    Refusal(i16),
    /// An old batch is to be sent again, and may be there.
    Late,
}

/// A question of a partition.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asking {
    why: Why,
    /// The question that is on its way.
    token: Option<u64>,
    /// Until when it may be: the wire client answers every question long before.
    until: Monotonic,
    /// Answers that said "not now".
    tries: u32,
}

/// Whether a batch that is about to be sent again should be asked for first.
const fn is_in_doubt(batch: &Batch) -> bool {
    batch.sent && batch.maybe_there && !batch.counted
}

/// What is known of it, for the question whether to ask.
pub(super) fn sent_before(rules: &dyn Rules, batch: &Batch, wall: WallMs) -> SentBefore {
    SentBefore {
        maybe_there: batch.sent && batch.maybe_there,
        counted: batch.counted,
        forgettable: forgotten(rules, batch, wall),
    }
}

impl Producer {
    /// From now on a partition waits for what its log says. `false`: it cannot be asked for that.
    pub(super) fn begin_asking(&mut self, key: Key, why: Why) -> bool {
        let sink = self.topics[key.topic as usize].sink;
        let asks = self.rules.asks_log(self.sinks[sink].settings.acks);
        let Some(work) = self.partition_mut(key).work.as_mut().filter(|_| asks) else { return false };
        work.asking = Some(Asking { why, token: None, until: Monotonic(0), tries: 0 });
        self.make_ready(key);
        true
    }

    /// Whether a partition waits for what its log says; asks, where that has not been done.
    pub(super) fn waits_for_log(&mut self, key: Key, now: Monotonic) -> bool {
        let Some(asking) = self.partition_mut(key).work.as_ref().and_then(|work| work.asking) else { return false };
        match asking.token {
            Some(_) if now < asking.until => {}
            // No answer at all: the same as "not now".
            Some(token) => self.on_asked(token, LogSays::Again, now),
            None => self.ask_log(key, now),
        }
        true
    }

    fn ask_log(&mut self, key: Key, now: Monotonic) {
        let topic = &self.topics[key.topic as usize];
        let partition = &topic.partitions[key.partition as usize];
        let Some(node) = partition.leader else { return self.ask_metadata(key.topic, now) };
        let (sink, name, from) = (topic.sink, topic.name.clone(), partition.log_next);
        let topic_id = topic.id;
        let Some(work) = partition.work.as_ref() else { return };
        let mut views = work.window().filter_map(|batch| Some(BatchView::parse(batch.bytes()?).ok()?.0));
        let Some(first) = views.next() else { return };
        let mut question = Question {
            token: self.asked + 1,
            node,
            topic: name,
            topic_id,
            partition: key.partition as i32,
            producer_id: first.header().producer_id,
            epoch: first.header().producer_epoch,
            first_sequence: first.header().base_sequence,
            last_sequences: vec![first.header().last_sequence()],
            from,
            replicated: self.sinks[sink].settings.acks == -1,
            leader_epoch: -1,
        };
        question.last_sequences.extend(views.map(|view| view.header().last_sequence()));
        // Those of an earlier start that memory does not have yet: the log may end with one of them.
        question.last_sequences.extend(partition.unloaded(question.producer_id, question.epoch));
        self.asked += 1;
        self.asking.insert(self.asked, key);
        self.sinks[sink].stats.asked += 1;
        // Name, connection and each step of the search have time-outs of their own; this is for an answer that is lost.
        let until = now.after(self.settings.ask_again * 12);
        self.timers.set(until, Timer::Partition(key));
        let token = self.asked;
        if let Some(asking) = self.partition_mut(key).work.as_mut().and_then(|work| work.asking.as_mut()) {
            (asking.token, asking.until) = (Some(token), until);
        }
        self.wants.push(Want::Ask(question));
    }

    /// The answer to [`Want::Ask`]; one that nobody waits for any more is nothing.
    ///
    /// - There: done, with all older ones; the younger go again.
    /// - Next: sent again, same identity, unless that is what Kafka refuses. A refusal is final now.
    /// - Lost, fenced: a higher epoch. Nothing is counted as unknown: the log has shown that they are not there, and takes
    ///   no late request of the old epoch.
    /// - Cannot tell: sent under a higher epoch (an old batch: under its own), and counted.
    pub fn on_asked(&mut self, token: u64, says: LogSays, now: Monotonic) {
        if self.on_end(token, says, now) {
            return;
        }
        let Some(key) = self.asking.remove(&token) else { return };
        let Some(work) = self.partition_mut(key).work.as_mut() else { return };
        let Some(asking) = work.asking.filter(|asking| asking.token == Some(token)) else { return };
        let tries = asking.tries + 1;
        if says == LogSays::Again && tries < TRIES_MAX {
            work.asking = Some(Asking { token: None, tries, ..asking });
            self.refresh = true;
            // It was this leader that was asked, wherever the batches went; a new one may not be known to the wire client yet.
            return self.pause(key, now);
        }
        work.asking = None;
        // Of what was refused, and never anything else, it is known that it is not there: P4 does not hold for the younger.
        let refused =
            matches!(asking.why, Why::Refusal(_)) && work.window().next().is_some_and(|first| !first.maybe_there);
        let alone = refused || work.torn != Torn::No;
        let place = match says {
            // What stands last there may have been memory's alone, behind what is asked for.
            LogSays::Lost if self.is_half_known(key) => return self.log_is_silent(key, asking.why, now),
            LogSays::There { last_sequence: last } => self.place_there(key, last, alone),
            LogSays::Next { .. } | LogSays::Lost | LogSays::Fenced { .. } => None,
            LogSays::Again | LogSays::Ends { .. } | LogSays::CannotTell(_) => {
                return self.log_is_silent(key, asking.why, now);
            }
        };
        match (says, place) {
            (LogSays::There { .. }, None) => return self.log_is_silent(key, asking.why, now),
            (_, Some(place)) => {
                if alone {
                    // P4 does not hold: only of this one the log has told.
                    self.settle_only(key, place);
                } else {
                    self.settle(key, place, now);
                }
                let partition = self.partition_mut(key);
                partition.proven_until = Monotonic(0);
                // Where it stands is not said; but from now on there is something before whatever is asked for.
                partition.log_next.get_or_insert(0);
                self.send_undone_again(key);
            }
            (LogSays::Fenced { epoch }, _) => {
                if let Some(identity) = self.partition_mut(key).identity.as_mut() {
                    identity.epoch = identity.epoch.max(epoch);
                }
                self.not_there(key, asking.why, None, now);
            }
            (LogSays::Next { known }, _) => {
                if !known {
                    // It takes any of them first.
                    self.partition_mut(key).proven_until = Monotonic(0);
                }
                self.not_there(key, asking.why, Some(known), now);
            }
            _ => {
                self.lacks(key);
                self.not_there(key, asking.why, None, now);
            }
        }
        self.go_on(key, now);
    }

    /// Whether the partition's batches are of an earlier start that had cut others behind them of which the log knows
    /// nothing, as its sink keeps only some there.
    fn is_half_known(&self, key: Key) -> bool {
        let topic = &self.topics[key.topic as usize];
        let work = topic.partitions[key.partition as usize].work.as_ref();
        self.sinks[topic.sink].settings.keep != Keep::Disk
            && work.is_some_and(|work| work.window().any(|batch| batch.kept.old))
    }

    /// None of the undone batches is in the log. `next`: whether the log takes them as they are, and if so, whether it
    /// still knows the identity.
    fn not_there(&mut self, key: Key, why: Why, next: Option<bool>, now: Monotonic) {
        let Some(work) = self.partition_mut(key).work.as_mut() else { return };
        work.window_mut().for_each(|batch| batch.maybe_there = false);
        match (why, next) {
            (Why::Refusal(code), _) => self.refused(key, code, now),
            (Why::Late, Some(_)) => {}
            (Why::Late, None) => self.raise_epoch(key, now),
            // Brokers before 2.5 refuse what they have forgotten.
            (Why::Identity, Some(false)) | (_, None) => {
                self.raise_epoch(key, now);
                self.back_off(key, now);
            }
            (Why::OutOfOrder | Why::Identity, Some(_)) => {
                work.vain += 1;
                if work.vain > VAIN_MAX {
                    work.vain = 0;
                    self.raise_epoch(key, now);
                } else {
                    self.send_undone_again(key);
                }
                self.back_off(key, now);
            }
        }
    }

    /// Nobody can tell: as if we were not allowed to ask.
    fn log_is_silent(&mut self, key: Key, why: Why, now: Monotonic) {
        if why == Why::Late {
            let Some(work) = self.partition_mut(key).work.as_mut() else { return };
            // The one that stands first; each of the others asks when its turn comes.
            let unclear = work.window_mut().find(|batch| is_in_doubt(batch)).map_or(0, sent_again_late);
            self.unknown(key, unclear);
        } else {
            self.cannot_tell(key, now);
        }
        self.go_on(key, now);
    }

    pub(super) fn send_undone_again(&mut self, key: Key) {
        if let Some(work) = self.partition_mut(key).work.as_mut() {
            work.window_mut().for_each(|batch| batch.flight = Flight::Unsent);
        }
    }
}

impl Partition {
    /// The log is another one from now on: what was known of its offsets, and what is being asked, is of the old one.
    pub(super) fn begin_log_anew(&mut self) {
        self.log_next = Some(0);
        (self.acked, self.leader_epoch) = (Acked::default(), None);
        if let Some(asking) = self.work.as_mut().and_then(|work| work.asking.as_mut()) {
            (asking.token, asking.tries) = (None, 0);
        }
    }

    /// The last sequences of an earlier start's batches, of this identity, that are still to be loaded.
    fn unloaded(&self, producer_id: i64, epoch: i16) -> impl Iterator<Item = i32> {
        let cuts = self.spooled.as_ref().map(|spooled| spooled.cuts.iter()).into_iter().flatten();
        let same = cuts.take_while(move |cut| (cut.producer_id, cut.epoch) == (producer_id, epoch));
        same.map(|cut| {
            let last = rows_of(&cut.rows).saturating_sub(1);
            sequence_after(cut.sequence, u32::try_from(last).unwrap_or(u32::MAX))
        })
    }
}

impl Producer {
    /// The youngest batch in memory that is in the log if one with this last sequence is: that one, or the last of all if
    /// it is behind them and still to be loaded (P4, which does not hold if the log tells of each `alone`).
    fn place_there(&self, key: Key, last: i32, alone: bool) -> Option<usize> {
        let partition = &self.topics[key.topic as usize].partitions[key.partition as usize];
        let work = partition.work.as_ref()?;
        let place = work.place_of(last);
        if place.is_some() || alone {
            return place;
        }
        let own = work.queue.front().and_then(|first| Some(*BatchView::parse(first.bytes()?).ok()?.0.header()))?;
        let is_behind = partition.unloaded(own.producer_id, own.producer_epoch).any(|sequence| sequence == last);
        is_behind.then(|| work.cut.checked_sub(1)).flatten()
    }
}

impl Work {
    /// The place in the window of the batch that ends with this sequence.
    fn place_of(&self, last: i32) -> Option<usize> {
        let ends = |batch: &Batch| {
            let view = batch.bytes().and_then(|bytes| BatchView::parse(bytes).ok());
            view.is_some_and(|(view, _)| view.header().last_sequence() == last)
        };
        self.window().position(ends)
    }
}
