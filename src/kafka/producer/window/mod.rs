//! The undone batches of one partition, and the rules for them (P2 to P7). No rows, no memory, no broker: sequences, counts
//! and answers go in, steps come out. Its caller holds the batches themselves, in the same order.
//!
//! It is in one of four modes:
//! - *Open*: up to `max_inflight` batches are undone, and all may be in flight.
//! - *Solo*: they go one at a time, since Kafka may not know the identity or may forget it.
//! - *Apart*: another log has answered (`divergence`). One at a time, and an answer settles its own batch only.
//! - *Asking*: nothing is sent until the log has answered (`question`).

mod divergence;
mod question;
mod resolution;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::ops::Range;
use std::time::Duration;

use self::divergence::Divergence;
use self::question::Asking;
pub(super) use self::question::{Asked, Why};
pub(super) use self::resolution::{Resolution, TakeBack};
use super::error::Verdict;
use crate::kafka::types::NodeId;
use crate::record::Stamp;
use crate::rules::{REMEMBERED_BATCHES, REMEMBERED_MS, Rules, SentBefore};
use crate::runtime::seam::{Monotonic, WallMs};

/// Batches that are undone, at most.
pub(super) const WINDOW: usize = REMEMBERED_BATCHES;

/// For how long Kafka surely remembers a producer after an answer.
const REMEMBERED: Duration = Duration::from_millis(REMEMBERED_MS);

/// With acks=0 no batch is numbered: were one lost with its connection, the broker would refuse all that follow (45) and
/// have no way to say so, and nothing would ever arrive again.
const ANONYMOUS: Stamp = Stamp { producer_id: -1, epoch: -1, sequence: -1 };

/// A producer id and the epoch on this partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Identity {
    pub(super) id: i64,
    pub(super) epoch: i16,
}

/// Where batches are sent: a broker, and whether over its second channel.
pub(super) type Via = (NodeId, bool);

/// State of the last send of an undone batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flight {
    /// Not sent in this round.
    Unsent,
    /// In a request without an answer.
    Unanswered,
    Failed(Failure),
}

impl Flight {
    const fn is_unsent(self) -> bool {
        matches!(self, Self::Unsent)
    }

    /// It failed, and may succeed as it is.
    const fn goes_again(self) -> bool {
        matches!(self, Self::Failed(Failure::Again | Failure::NoTopic))
    }
}

/// What an answer without success was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Failure {
    /// Retriable, or no answer at all.
    Again,
    /// There is no such topic, now.
    NoTopic,
    /// 45.
    OutOfOrder,
    /// 47 and its like.
    NewEpoch,
    /// Final.
    Refused(i16),
}

/// A batch that is cut and not known to be in Kafka's log.
#[derive(Clone, Debug)]
struct Undone {
    /// Names it in requests.
    serial: u64,
    sequence: i32,
    count: u32,
    /// Its newest timestamp.
    newest: i64,
    /// The group of the log with its cut, if it has one there.
    group: Option<u64>,
    flight: Flight,
    /// It has been sent since it was cut.
    sent: bool,
    /// An attempt since it was cut may have been appended without our being told.
    maybe_there: bool,
    /// Its timestamps are none that Kafka remembers a producer by: it goes alone (P2).
    alone: bool,
    /// Already counted as sent again with its outcome unknown.
    counted: bool,
    /// Whether an earlier process has cut it.
    old: bool,
    /// Whether it was sent by an earlier process, or to the topic of this name before it was recreated: a late copy
    /// may have reached this log, of which nothing was heard.
    unheard: bool,
}

impl Undone {
    const fn last_sequence(&self) -> i32 {
        sequence_after(self.sequence, self.count.saturating_sub(1))
    }

    const fn failure(&self) -> Option<Failure> {
        match self.flight {
            Flight::Failed(failure) => Some(failure),
            Flight::Unsent | Flight::Unanswered => None,
        }
    }

    const fn is_in_doubt(&self) -> bool {
        self.sent && self.maybe_there && !self.counted
    }

    /// Its rows if they may be there and were not counted yet; from now on they are, until they are cut again.
    const fn count_unknown(&mut self) -> u64 {
        if !self.maybe_there || self.counted {
            return 0;
        }
        self.counted = true;
        self.count as u64
    }

    /// An attempt is over, and not with success.
    const fn failed(&mut self, failure: Failure, verdict: Verdict) {
        self.flight = Flight::Failed(failure);
        self.maybe_there |= match verdict {
            Verdict::NoTopic => true,
            Verdict::Again { maybe_there, .. } | Verdict::GivenUp { maybe_there, .. } => maybe_there,
            _ => false,
        };
    }

    /// It is older than Kafka's memory and sent again. Its log was asked before (P5), unless it does not tell: then under the
    /// same identity all the same, one at a time, for where Kafka still remembers, that is as good as knowing. How many rows
    /// may be there twice by that.
    const fn goes_again_late(&mut self) -> u64 {
        self.alone = true;
        self.count_unknown()
    }
}

/// The first batch that is not cut, and may be.
#[derive(Clone, Copy, Debug)]
pub(super) struct Head {
    /// Its newest timestamp.
    pub(super) newest: i64,
    /// It is cut through the log, and sent when that is durable.
    pub(super) logged: bool,
    /// An earlier start had cut its rows.
    pub(super) old: bool,
}

/// A batch that is cut now, or was by an earlier process.
#[derive(Clone, Copy, Debug)]
pub(super) struct NewBatch {
    pub(super) serial: u64,
    pub(super) count: u32,
    pub(super) newest: i64,
    /// An earlier start had cut its rows.
    pub(super) old: bool,
    /// The group of its cut.
    pub(super) group: Option<u64>,
}

/// What to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Send an undone batch, by its place.
    Send(usize),
    /// Cut the first batch that is not cut.
    Cut,
    /// Ask the log ([`PartitionWindow::ask`]).
    Ask(Why),
}

/// What the next step depends on beside the window's own state.
#[derive(Clone, Copy, Debug)]
pub(super) struct StepTerms {
    pub(super) rules: &'static dyn Rules,
    pub(super) now: Monotonic,
    pub(super) wall: WallMs,
    pub(super) acks: i16,
    /// The identity that new work starts with.
    pub(super) identity: Option<Identity>,
    /// How many batches may be undone, as it is configured.
    pub(super) max_inflight: usize,
    /// All groups of the log up to this one are on the disk.
    pub(super) durable: u64,
    /// Cuts of an earlier process that have not been loaded yet.
    pub(super) restored: usize,
}

/// The window of one partition.
#[derive(Debug, Default)]
#[cfg_attr(test, derive(Clone))]
pub(super) struct PartitionWindow {
    identity: Option<Identity>,
    /// Sequence of the next record to be cut.
    next_sequence: i32,
    /// Whether its identity is of an earlier process: it only finishes what was cut then (P3).
    foreign: bool,
    /// Until when Kafka is sure to know this identity here; 0: it has not answered a batch of it with 0.
    proven_until: Monotonic,
    /// Oldest first.
    undone: VecDeque<Undone>,
    /// Unanswered requests with a batch of this partition.
    in_flight: usize,
    /// Where those went.
    via: Option<Via>,
    /// Failed rounds in a row.
    attempts: u32,
    backoff_until: Monotonic,
    /// What is undone is sent again without a pause, once.
    at_once: bool,
    asking: Option<Box<Asking>>,
    /// Times in a row that Kafka refused an identity that its log calls the next.
    refused_as_next: u32,
    divergence: Divergence,
    /// Younger batches are settled, and what is undone may be before them: from this offset on.
    older_from: Option<i64>,
}

impl PartitionWindow {
    /// How many batches are undone.
    pub(super) fn len(&self) -> usize {
        self.undone.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.undone.is_empty()
    }

    pub(super) const fn identity(&self) -> Option<Identity> {
        self.identity
    }

    /// Unanswered requests with a batch of this partition.
    pub(super) const fn in_flight(&self) -> usize {
        self.in_flight
    }

    pub(super) const fn is_in_flight(&self) -> bool {
        self.in_flight > 0
    }

    pub(super) const fn attempts(&self) -> u32 {
        self.attempts
    }

    pub(super) fn backs_off(&self, now: Monotonic) -> bool {
        now < self.backoff_until
    }

    /// Whether batches are under way that went another way than this one: they are answered first, or order would be a
    /// matter of luck.
    pub(super) fn is_under_way_but(&self, via: Via) -> bool {
        self.in_flight > 0 && self.via != Some(via)
    }

    /// The broker that was sent to last.
    pub(super) fn last_node(&self) -> Option<NodeId> {
        self.via.map(|(node, _)| node)
    }

    /// The number of undone batches that an earlier process has cut.
    pub(super) fn count_old(&self) -> usize {
        self.undone.iter().filter(|batch| batch.old).count()
    }

    /// The place of a batch.
    pub(super) fn place_of(&self, serial: u64) -> Option<usize> {
        self.undone.iter().position(|batch| batch.serial == serial)
    }

    /// What to do next, if anything; leader, back-off and the broker's room are the caller's.
    pub(super) fn step(&self, head: Option<Head>, terms: &StepTerms) -> Option<Step> {
        let StepTerms { rules, now, wall, acks, identity, max_inflight, durable, restored } = *terms;
        let failed = self.has_failed();
        // A round with an error in it comes to its end before anything more is sent.
        if failed && self.in_flight > 0 {
            return None;
        }
        let proven = rules.is_proven(now.0, self.proven_until.0);
        let is_alone = |place: usize| self.undone[place].alone;
        let unsent = self.undone.iter().position(|batch| batch.flight == Flight::Unsent);
        if let Some(place) = unsent
            && self.undone[place].group.is_none_or(|group| rules.may_send(group, durable))
        {
            let batch = &self.undone[place];
            let forgettable = rules.is_forgettable(batch.newest, wall.0);
            let solo = !proven || batch.alone || forgettable || (place > 0 && is_alone(place - 1));
            // An earlier start may have cut more than this one may have under way.
            let full = self.in_flight >= rules.window(max_inflight);
            if full || (self.in_flight > 0 && solo) {
                return None;
            }
            let maybe_there = batch.sent && batch.maybe_there;
            let before = SentBefore { maybe_there, counted: batch.counted, forgettable };
            let asks = rules.asks_before_resend(before) && rules.asks_log(acks);
            return Some(if asks { Step::Ask(Why::Late) } else { Step::Send(place) });
        }
        let undone = self.undone.len();
        if failed || rules.waits_for_restored(restored) || undone >= rules.window(max_inflight) {
            return None;
        }
        let head = head?;
        // One that memory alone has is sent as it is cut: not over the head of one that waits for its cut to be on the disk.
        if unsent.is_some() && !head.logged {
            return None;
        }
        // What was not cut then has to wait for the end of all that was.
        let foreign = self.foreign && !head.old;
        if undone == 0 {
            return ((self.identity.is_some() && !foreign) || identity.is_some()).then_some(Step::Cut);
        }
        let solo = !proven || rules.is_forgettable(head.newest, wall.0) || is_alone(undone - 1);
        (!solo && (!foreign || rules.may_change_identity(undone))).then_some(Step::Cut)
    }

    /// The identity for the next batch. `old`: an earlier process had cut its rows. `new`: that of new work.
    pub(super) fn next_stamp(
        &mut self,
        old: bool,
        new: Option<Identity>,
        acks: i16,
        rules: &dyn Rules,
    ) -> Option<Stamp> {
        // P3: what was cut by an earlier process ends under its identity, all else begins with this process's.
        let over = self.foreign && rules.may_change_identity(self.undone.len()) && !old;
        if self.identity.is_none() || over {
            self.foreign = false;
            self.adopt(new);
        }
        let Identity { id, epoch } = self.identity?;
        let stamp = Stamp { producer_id: id, epoch, sequence: self.next_sequence };
        Some(if acks == 0 { ANONYMOUS } else { stamp })
    }

    /// A batch has been cut with this stamp ([`Self::next_stamp`]). `forgettable`: Kafka may forget who wrote it.
    pub(super) fn cut(&mut self, batch: NewBatch, stamp: Stamp, forgettable: bool) {
        if stamp != ANONYMOUS {
            self.next_sequence = sequence_after(stamp.sequence, batch.count);
        }
        self.push(batch, stamp.sequence, forgettable, false);
    }

    /// Enters a batch that an earlier process has cut, and may have sent, after those before it. Returns whether it
    /// follows them in sequence.
    pub(super) fn restored(&mut self, batch: NewBatch, stamp: Stamp, forgettable: bool) -> bool {
        let own = Identity { id: stamp.producer_id, epoch: stamp.epoch };
        let follows = self.identity == Some(own) && self.foreign && self.next_sequence == stamp.sequence;
        if self.undone.is_empty() {
            self.adopt(Some(own));
            self.foreign = true;
        }
        self.push(batch, stamp.sequence, forgettable, true);
        self.next_sequence = sequence_after(stamp.sequence, batch.count);
        follows
    }

    fn push(&mut self, batch: NewBatch, sequence: i32, alone: bool, sent: bool) {
        let NewBatch { serial, count, newest, old, group } = batch;
        let (flight, maybe_there, counted) = (Flight::Unsent, sent, false);
        self.undone.push_back(Undone {
            serial,
            sequence,
            count,
            newest,
            group,
            flight,
            sent,
            maybe_there,
            alone,
            counted,
            old,
            unheard: sent,
        });
    }

    /// A batch has got a cut in the log after all, in this group.
    pub(super) fn logged(&mut self, place: usize, group: u64) {
        if let Some(batch) = self.undone.get_mut(place) {
            batch.group = Some(group);
        }
    }

    /// A batch is sent. Whether it was before, and how many rows may come to be there twice by that.
    pub(super) fn sent(&mut self, place: usize, via: Via, wall: WallMs, rules: &dyn Rules) -> (bool, u64) {
        let Some(batch) = self.undone.get_mut(place) else { return (false, 0) };
        let again = std::mem::replace(&mut batch.sent, true);
        let late = again && rules.is_forgettable(batch.newest, wall.0);
        let unknown = if late { batch.goes_again_late() } else { 0 };
        batch.flight = Flight::Unanswered;
        self.in_flight += 1;
        self.via = Some(via);
        (again, unknown)
    }

    /// A request with this batch is over. The places of the batches that are in the log, and have left the window; `None`:
    /// it was not there any more, as a younger one's answer has settled it. `moved`: at `acks` 0 or 1, the leader is not the
    /// one that was sent to. `other_topic`: the topic was found recreated since.
    pub(super) fn answered(
        &mut self,
        serial: u64,
        verdict: Verdict,
        (moved, other_topic): (bool, bool),
        now: Monotonic,
        rules: &dyn Rules,
    ) -> Option<Range<usize>> {
        self.in_flight -= 1;
        let place = self.place_of(serial)?;
        let failure = match verdict {
            Verdict::Done if self.is_apart() || self.shows_another_log(place) => return Some(self.settle_only(place)),
            Verdict::Done => {
                let settled = self.settle(place, moved, now, rules);
                if other_topic {
                    // The old topic's word, perhaps: the new one may not have heard of us (P2).
                    self.proven_until = Monotonic(0);
                }
                return Some(settled);
            }
            Verdict::Again { .. } => Failure::Again,
            Verdict::NoTopic => Failure::NoTopic,
            Verdict::OutOfOrder => Failure::OutOfOrder,
            Verdict::NewEpoch => Failure::NewEpoch,
            Verdict::Refused(code) | Verdict::GivenUp { code, .. } => Failure::Refused(code),
        };
        self.undone[place].failed(failure, verdict);
        Some(0..0)
    }

    /// An attempt that is about to be judged may have been appended.
    pub(super) fn doubt(&mut self, serial: u64) {
        if let Some(place) = self.place_of(serial) {
            self.undone[place].maybe_there = true;
        }
    }

    /// P4: the batch is in the log, and so is every older one of its identity; the window holds no other identity.
    fn settle(&mut self, place: usize, moved: bool, now: Monotonic, rules: &dyn Rules) -> Range<usize> {
        let settled = rules.settled_by(place);
        self.older_from = None;
        let alone = self.undone.drain(settled.clone()).next_back().is_some_and(|batch| batch.alone);
        (self.attempts, self.refused_as_next) = (0, 0);
        // A batch that Kafka may forget at its next look leaves the partition as it was before the first; and at `acks` 1 a new
        // leader may lack it.
        self.proven_until = if alone || moved { Monotonic(0) } else { now.after(REMEMBERED) };
        settled
    }

    /// Takes back what is undone. The next cut of this partition is sequence 0 of the next epoch, and goes alone until it is
    /// answered 0. After the last epoch the identity is gone: the id that is used up.
    pub(super) fn take_back(&mut self, rules: &dyn Rules) -> Option<i64> {
        self.undone.clear();
        (self.divergence, self.older_from) = (Divergence::No, None);
        let Identity { id, epoch } = self.identity?;
        let Some((epoch, sequence)) = rules.after_take_back(epoch, self.next_sequence) else {
            self.adopt(None);
            return Some(id);
        };
        self.adopt(Some(Identity { id, epoch }));
        self.next_sequence = sequence;
        None
    }

    /// The oldest batch is refused for good, and leaves.
    pub(super) fn reject_oldest(&mut self) {
        self.undone.pop_front();
        self.attempts = 0;
    }

    /// The partition's topic was found recreated: what it knew of us is gone. Whether a new epoch begins, as nothing is undone
    /// under this one. What was asked of the old log is asked of the new one.
    ///
    /// Where topics go by name, a late request may reach the new one, which takes any of our batches first: if more than one was
    /// sent, an answer says nothing of the older ones.
    pub(super) fn topic_changed(&mut self) -> bool {
        self.forget_proof();
        let sent = self.undone.iter_mut().filter(|batch| batch.sent);
        if sent.map(|batch| batch.unheard = true).count() > 1 {
            self.divergence = Divergence::Tried;
        }
        if let Some(asking) = self.asking.as_mut() {
            asking.begin_again();
        }
        self.undone.is_empty() && self.identity.is_some()
    }

    /// Whether Kafka knows the identity here is not known any more: one batch at a time until it has taken one (P2).
    pub(super) const fn forget_proof(&mut self) {
        self.proven_until = Monotonic(0);
    }

    /// Rows that may be there, and nobody will ever know; each is counted once.
    pub(super) fn count_unknown(&mut self) -> u64 {
        self.undone.iter_mut().map(Undone::count_unknown).sum()
    }

    /// What is undone is sent again without a pause, once.
    pub(super) const fn retry_at_once(&mut self) {
        self.at_once = true;
    }

    /// Whether a round that failed is followed by a pause: what was wrong with one leader or channel need not be with the next.
    /// `way`: where the next round goes.
    pub(super) fn pauses(&mut self, way: Option<Via>) -> bool {
        let at_once = std::mem::take(&mut self.at_once);
        !at_once && (way.is_none() || self.via.is_none() || self.via == way)
    }

    /// Nothing is sent for a while, longer each time in a row. Until when.
    pub(super) fn pause(&mut self, now: Monotonic, (min, max): (Duration, Duration), jitter: f64) -> Monotonic {
        let doubled = min.saturating_mul(1 << self.attempts.min(16)).min(max);
        self.attempts += 1;
        self.backoff_until = now.after(doubled.mul_f64(jitter));
        self.backoff_until
    }

    pub(super) const fn end_pause(&mut self) {
        self.backoff_until = Monotonic(0);
    }

    /// The partition has rows again. `list`: what an idle one has given back ([`Self::rest`]).
    pub(super) fn wake(&mut self, list: UndoneList) {
        if self.undone.capacity() == 0 {
            self.undone = list.0;
        }
    }

    /// The partition has no rows and no request: only what Kafka knows of it is kept.
    pub(super) fn rest(&mut self) -> UndoneList {
        let list = UndoneList(std::mem::take(&mut self.undone));
        let Self { identity, next_sequence, foreign, proven_until, .. } = *self;
        *self = Self { identity, next_sequence, foreign, proven_until, ..Self::default() };
        list
    }

    /// Starts with another identity.
    fn adopt(&mut self, identity: Option<Identity>) {
        self.identity = identity;
        self.foreign &= identity.is_some();
        self.next_sequence = 0;
        self.proven_until = Monotonic(0);
    }

    /// All of it is taken back, and what follows begins under an identity that nothing of it had.
    pub(super) fn begin_again(&mut self) {
        let mut undone = std::mem::take(&mut self.undone);
        undone.clear();
        *self = Self { undone, in_flight: self.in_flight, via: self.via, ..Self::default() };
    }

    fn has_failed(&self) -> bool {
        self.undone.iter().any(|batch| batch.failure().is_some())
    }

    fn send_again(&mut self) {
        self.undone.iter_mut().for_each(|batch| batch.flight = Flight::Unsent);
    }
}

/// A window's list, empty, kept for another one.
#[derive(Debug, Default)]
pub(super) struct UndoneList(VecDeque<Undone>);

/// Whether a sequence comes before another of the same identity, not far from it.
pub(super) const fn precedes(sequence: i32, other: i32) -> bool {
    let ahead = other.wrapping_sub(sequence) & i32::MAX;
    ahead > 0 && ahead < 1 << 30
}

/// Sequences go round from 2³¹ − 1 to 0 (`DefaultRecordBatch.incrementSequence`).
pub(super) const fn sequence_after(sequence: i32, count: u32) -> i32 {
    (sequence as i64 + count as i64).rem_euclid(1 << 31) as i32
}
