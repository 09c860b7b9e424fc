//! The undone batches of one partition, and the guarantees for them (P2 to P7). No rows, no memory, no broker: input is sequences,
//! counts and answers, output is steps. The caller holds the batches themselves, in the same order.
//!
//! The window is in one of four modes:
//! - *Open*: up to `max_inflight` batches are undone, and all may be in flight.
//! - *Solo*: batches are sent one at a time, since Kafka may not know the identity or may forget it.
//! - *Apart*: another log has answered (`divergence`). Batches are sent one at a time, and an answer settles its own batch only.
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
use crate::types::NodeId;
use forebay_base::rules::{REMEMBERED_BATCHES, REMEMBERED_MS, Rules, SentBefore};
use forebay_record::Stamp;
use forebay_runtime::seam::{Monotonic, WallMs};

/// Maximum number of undone batches.
pub(super) const WINDOW: usize = REMEMBERED_BATCHES;

/// How long Kafka certainly remembers a producer after an answer.
const REMEMBERED: Duration = Duration::from_millis(REMEMBERED_MS);

/// The stamp of batches with acks=0, which are not numbered: if a numbered batch were lost with its connection, the broker would
/// refuse all later ones (45) without being able to report it, and nothing would ever arrive again.
const ANONYMOUS: Stamp = Stamp { producer_id: -1, epoch: -1, sequence: -1 };

/// A producer id and the epoch on this partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Identity {
    pub(super) id: i64,
    pub(super) epoch: i16,
}

/// The way to a broker: its node, and whether over its second channel.
pub(super) type Via = (NodeId, bool);

/// State of the last send of an undone batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flight {
    /// Not sent in this round.
    Unsent,
    /// In an unanswered request.
    Unanswered,
    Failed(Failure),
}

impl Flight {
    const fn is_unsent(self) -> bool {
        matches!(self, Self::Unsent)
    }

    /// Whether the batch failed, and may succeed unchanged.
    const fn goes_again(self) -> bool {
        matches!(self, Self::Failed(Failure::Again | Failure::NoTopic))
    }
}

/// How an attempt failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Failure {
    /// Retriable, or no answer at all.
    Again,
    /// Kafka reports that there is no such topic.
    NoTopic,
    /// 45.
    OutOfOrder,
    /// 47 or an equivalent error.
    NewEpoch,
    /// Final refusal.
    Refused(i16),
}

/// A batch that is cut and not known to be in Kafka's log.
#[derive(Clone, Debug)]
struct Undone {
    /// The batch's number in requests.
    serial: u64,
    sequence: i32,
    count: u32,
    /// Newest timestamp of the batch.
    newest: i64,
    /// The group of the log that holds the batch's cut, if there is one.
    group: Option<u64>,
    flight: Flight,
    /// Whether the batch has been sent since it was cut.
    sent: bool,
    /// Whether an attempt since the cut may have been appended although no answer confirmed it.
    maybe_there: bool,
    /// Whether Kafka does not remember a producer by the batch's timestamps: the batch is sent alone (P2).
    alone: bool,
    /// Whether the batch is already counted as sent again with its outcome unknown.
    counted: bool,
    /// Whether an earlier process cut the batch.
    old: bool,
    /// Whether the batch was sent by an earlier process, or to the topic of this name before it was recreated: a late copy
    /// may have reached this log without an answer.
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

    /// The number of rows that may be in the log and were not counted yet. Counts them: until they are cut again, they are 0 here.
    const fn count_unknown(&mut self) -> u64 {
        if !self.maybe_there || self.counted {
            return 0;
        }
        self.counted = true;
        self.count as u64
    }

    /// Marks the attempt as failed.
    const fn failed(&mut self, failure: Failure, verdict: Verdict) {
        self.flight = Flight::Failed(failure);
        self.maybe_there |= match verdict {
            Verdict::NoTopic => true,
            Verdict::Again { maybe_there, .. } | Verdict::GivenUp { maybe_there, .. } => maybe_there,
            _ => false,
        };
    }

    /// Marks a batch that is older than Kafka's memory and sent again. Its log was asked before (P5). If the log did not answer, the
    /// batch keeps its identity and is sent alone, which is safe where Kafka still remembers it. Returns the number of rows that may
    /// be there twice.
    const fn goes_again_late(&mut self) -> u64 {
        self.alone = true;
        self.count_unknown()
    }
}

/// The first uncut batch, which may be cut.
#[derive(Clone, Copy, Debug)]
pub(super) struct Head {
    /// Newest timestamp of the batch.
    pub(super) newest: i64,
    /// Whether the batch is cut through the log, and sent once the cut is durable.
    pub(super) logged: bool,
    /// Whether an earlier process had cut its rows.
    pub(super) old: bool,
}

/// A batch that is cut now, or was cut by an earlier process.
#[derive(Clone, Copy, Debug)]
pub(super) struct NewBatch {
    pub(super) serial: u64,
    pub(super) count: u32,
    pub(super) newest: i64,
    /// Whether an earlier process had cut its rows.
    pub(super) old: bool,
    /// The group of the log that holds the cut.
    pub(super) group: Option<u64>,
}

/// The next step of a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Send the undone batch at this place.
    Send(usize),
    /// Cut the first uncut batch.
    Cut,
    /// Ask the log ([`PartitionWindow::ask`]).
    Ask(Why),
}

/// Input of the next step beside the window's own state.
#[derive(Clone, Copy, Debug)]
pub(super) struct StepTerms {
    pub(super) rules: &'static dyn Rules,
    pub(super) now: Monotonic,
    pub(super) wall: WallMs,
    pub(super) acks: i16,
    /// The identity for new batches.
    pub(super) identity: Option<Identity>,
    /// Configured maximum of undone batches.
    pub(super) max_inflight: usize,
    /// The last durable group of the log.
    pub(super) durable: u64,
    /// Number of an earlier process's cuts that are not loaded yet.
    pub(super) restored: usize,
}

/// The window of one partition.
#[derive(Debug, Default)]
#[cfg_attr(test, derive(Clone))]
pub(super) struct PartitionWindow {
    identity: Option<Identity>,
    /// Sequence of the next record to be cut.
    next_sequence: i32,
    /// Whether the identity is an earlier process's: it only finishes that process's cuts (P3).
    foreign: bool,
    /// Until when Kafka certainly knows the identity here; 0: it has not answered any batch of the identity with 0.
    proven_until: Monotonic,
    /// Undone batches, oldest first.
    undone: VecDeque<Undone>,
    /// Unanswered requests with a batch of this partition.
    in_flight: usize,
    /// The way of those requests.
    via: Option<Via>,
    /// Failed rounds in a row.
    attempts: u32,
    backoff_until: Monotonic,
    /// Whether the undone batches are sent again without a pause, once.
    at_once: bool,
    asking: Option<Box<Asking>>,
    /// Times in a row that Kafka refused an identity that is the next by its log.
    refused_as_next: u32,
    divergence: Divergence,
    /// The offset from which the undone batches are looked for; `Some` once younger batches are settled.
    older_from: Option<i64>,
}

impl PartitionWindow {
    /// The number of undone batches.
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

    /// Whether batches are in flight by another way than this one: they must be answered first, since order between two channels
    /// is not guaranteed.
    pub(super) fn is_under_way_but(&self, via: Via) -> bool {
        self.in_flight > 0 && self.via != Some(via)
    }

    /// The broker of the last send.
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

    /// The next step, if there is one; leader, back-off and the broker's limits are the caller's.
    pub(super) fn step(&self, head: Option<Head>, terms: &StepTerms) -> Option<Step> {
        let StepTerms { rules, now, wall, acks, identity, max_inflight, durable, restored } = *terms;
        let failed = self.has_failed();
        // A round with an error must end before anything more is sent.
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
            // An earlier process may have cut more batches than this one may have in flight.
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
        // A batch in memory alone is sent when it is cut; it must not overtake one that waits for its cut to be durable.
        if unsent.is_some() && !head.logged {
            return None;
        }
        // A batch that the earlier process had not cut waits until all of that process's cuts are done.
        let foreign = self.foreign && !head.old;
        if undone == 0 {
            return ((self.identity.is_some() && !foreign) || identity.is_some()).then_some(Step::Cut);
        }
        let solo = !proven || rules.is_forgettable(head.newest, wall.0) || is_alone(undone - 1);
        (!solo && (!foreign || rules.may_change_identity(undone))).then_some(Step::Cut)
    }

    /// The stamp for the next batch. `old`: an earlier process had cut its rows. `new`: the identity of new batches.
    pub(super) fn next_stamp(
        &mut self,
        old: bool,
        new: Option<Identity>,
        acks: i16,
        rules: &dyn Rules,
    ) -> Option<Stamp> {
        // P3: an earlier process's cuts keep its identity until they are done, all other batches get this process's.
        let over = self.foreign && rules.may_change_identity(self.undone.len()) && !old;
        if self.identity.is_none() || over {
            self.foreign = false;
            self.adopt(new);
        }
        let Identity { id, epoch } = self.identity?;
        let stamp = Stamp { producer_id: id, epoch, sequence: self.next_sequence };
        Some(if acks == 0 { ANONYMOUS } else { stamp })
    }

    /// Enters a batch that was cut with this stamp ([`Self::next_stamp`]). `forgettable`: Kafka may forget who wrote it.
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

    /// Notes that a batch got a cut in the log later, in this group.
    pub(super) fn logged(&mut self, place: usize, group: u64) {
        if let Some(batch) = self.undone.get_mut(place) {
            batch.group = Some(group);
        }
    }

    /// Marks a batch as sent. Returns whether it was sent before, and how many rows may be there twice because of it.
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

    /// Takes the answer for a batch of a request. Returns the places of the batches that are in the log and have left the window;
    /// `None`: the batch was no longer there, since a younger one's answer had settled it. `moved`: at `acks` 0 or 1, the leader is
    /// not the one that the batch was sent to. `other_topic`: the topic was found recreated since.
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
                    // The answer may be the old topic's: the new one may not know the identity (P2).
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

    /// Marks a batch as possibly appended, before its answer is judged.
    pub(super) fn doubt(&mut self, serial: u64) {
        if let Some(place) = self.place_of(serial) {
            self.undone[place].maybe_there = true;
        }
    }

    /// Settles a batch and all older ones of its identity (P4); the window holds no other identity.
    fn settle(&mut self, place: usize, moved: bool, now: Monotonic, rules: &dyn Rules) -> Range<usize> {
        let settled = rules.settled_by(place);
        self.older_from = None;
        let alone = self.undone.drain(settled.clone()).next_back().is_some_and(|batch| batch.alone);
        (self.attempts, self.refused_as_next) = (0, 0);
        // Kafka may forget a batch sent alone at its next check, and then does not know the identity; and at `acks` 1 a new leader
        // may lack the batch.
        self.proven_until = if alone || moved { Monotonic(0) } else { now.after(REMEMBERED) };
        settled
    }

    /// Takes back the undone batches. The next cut of this partition is sequence 0 of the next epoch, and is sent alone until it is
    /// answered 0. After the last epoch the identity is gone; the used-up producer id is returned.
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

    /// Removes the oldest batch, which is refused permanently.
    pub(super) fn reject_oldest(&mut self) {
        self.undone.pop_front();
        self.attempts = 0;
    }

    /// Handles a recreated topic, which does not know the identity. Returns whether a new epoch begins, as nothing is undone under
    /// this one. A question to the old log is put to the new one.
    ///
    /// If topics are addressed by name, a late request may reach the new topic, which takes any of these batches first: if more than
    /// one was sent, an answer proves nothing about the older ones.
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

    /// Forgets that Kafka knows the identity here: one batch at a time until Kafka has taken one (P2).
    pub(super) const fn forget_proof(&mut self) {
        self.proven_until = Monotonic(0);
    }

    /// Counts the rows that Kafka may or may not have, each once.
    pub(super) fn count_unknown(&mut self) -> u64 {
        self.undone.iter_mut().map(Undone::count_unknown).sum()
    }

    /// Skips the pause before the undone batches are sent again, once.
    pub(super) const fn retry_at_once(&mut self) {
        self.at_once = true;
    }

    /// Whether a failed round is followed by a pause: a fault of one leader or channel need not affect the next.
    /// `way`: the way of the next round.
    pub(super) fn pauses(&mut self, way: Option<Via>) -> bool {
        let at_once = std::mem::take(&mut self.at_once);
        !at_once && (way.is_none() || self.via.is_none() || self.via == way)
    }

    /// Pauses sending, longer each time in a row. Returns the end of the pause.
    pub(super) fn pause(&mut self, now: Monotonic, (min, max): (Duration, Duration), jitter: f64) -> Monotonic {
        let doubled = min.saturating_mul(1 << self.attempts.min(16)).min(max);
        self.attempts += 1;
        self.backoff_until = now.after(doubled.mul_f64(jitter));
        self.backoff_until
    }

    pub(super) const fn end_pause(&mut self) {
        self.backoff_until = Monotonic(0);
    }

    /// Prepares for rows again. `list`: an idle window's list ([`Self::rest`]).
    pub(super) fn wake(&mut self, list: UndoneList) {
        if self.undone.capacity() == 0 {
            self.undone = list.0;
        }
    }

    /// Drops all but Kafka's knowledge of the identity; the partition has no rows and no request.
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

    /// Takes back everything; the next batches get an identity that none of the taken-back batches had.
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

/// A window's list, empty, kept for another window.
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
