//! One partition of one topic of one sink: whose turn it is next. Window of five by span, first batch alone (P2).

use std::collections::VecDeque;
use std::time::Duration;

use super::acked::Acked;
use super::ask::Asking;
use super::backlog::Spooled;
use super::batch::{Bad, Batch, Flight};
use super::kept::Kind;
use super::lost::Torn;
use crate::kafka::types::NodeId;
use crate::record::Stamp;
use crate::rules::{AfterRound, REMEMBERED_BATCHES, REMEMBERED_MS, Round, Rules};
use crate::runtime::seam::{Monotonic, WallMs};

/// Batches that are cut and not done, at most.
pub(super) const WINDOW: usize = REMEMBERED_BATCHES;

/// For how long Kafka surely remembers a producer after an answer.
pub(super) const REMEMBERED: Duration = Duration::from_millis(REMEMBERED_MS);

/// Batches that are looked at for how much memory a partition has.
const SAMPLES: usize = 16;

/// A producer id and the epoch on this partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Identity {
    pub(super) id: i64,
    pub(super) epoch: i16,
}

/// What a partition keeps for as long as its topic is known.
#[derive(Debug, Default)]
pub(super) struct Partition {
    pub(super) leader: Option<NodeId>,
    /// The leader's epoch, where metadata tells it.
    pub(super) leader_epoch: Option<i32>,
    /// Who has a replica.
    pub(super) replicas: Box<[NodeId]>,
    pub(super) identity: Option<Identity>,
    /// Sequence of the next record to be cut.
    pub(super) sequence: i32,
    /// Until when Kafka is sure to know this identity here; 0: it has not answered a batch of it with 0.
    pub(super) proven_until: Monotonic,
    /// Offset behind the last batch that Kafka acknowledged here.
    pub(super) log_next: Option<i64>,
    /// Which of our records it has acknowledged lately.
    pub(super) acked: Acked,
    /// How long its leader may wait for followers, in steps; above 0 it uses the second lane (`node`).
    pub(super) patience: u8,
    /// Batches taken there since it was last late.
    pub(super) taken: u8,
    /// Bytes and spans of the last batch.
    pub(super) hint: (usize, usize),
    /// Where its rows stand in the log, once some do; and whether some wait to be staged.
    pub(super) lane: Option<u64>,
    pub(super) dirty: bool,
    /// Its identity is of an earlier start: it only finishes what was cut then (P3).
    pub(super) foreign: bool,
    /// What it has in the log that is not in memory; and whether that is on the list of what is to be read back.
    pub(super) spooled: Option<Box<Spooled>>,
    pub(super) listed: bool,
    /// Only while there are rows.
    pub(super) work: Option<Box<Work>>,
}

/// What a partition has only while it has rows or an unanswered request.
#[derive(Debug, Default)]
pub(super) struct Work {
    /// Oldest first: cut, then closed or full, then at most one that grows.
    pub(super) queue: VecDeque<Batch>,
    /// How many of them are cut.
    pub(super) cut: usize,
    /// Unanswered requests with a batch of this partition.
    pub(super) in_flight: usize,
    /// Where those went, and whether over its second lane.
    pub(super) went: Option<(NodeId, bool)>,
    /// Errors in a row.
    pub(super) attempts: u32,
    pub(super) backoff_until: Monotonic,
    /// What is undone is sent again without backoff, once.
    pub(super) at_once: bool,
    /// It waits for what Kafka's log says.
    pub(super) asking: Option<Asking>,
    /// Times in a row that Kafka refused an identity that its log calls the next.
    pub(super) vain: u32,
    /// An answer came from another log than the one that is known (`lost`).
    pub(super) torn: Torn,
    /// It stands in the list of the ready, or in that of a busy broker.
    pub(super) queued: bool,
}

/// What is to be sent next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// A batch that is cut, by its place in the queue.
    Send(usize),
    /// The first that is not cut.
    Cut,
}

impl Work {
    /// A row of this partition goes to the log: those before it that memory alone has do so first. Whether there are any.
    pub(super) fn log_those_before(&mut self, partition: i32) -> bool {
        let waits = |batch: &&mut Batch| batch.kept.kind == Kind::Memory;
        let mut any = false;
        for batch in self.queue.range_mut(self.cut..).rev().take_while(waits) {
            (batch.kept.kind, any) = (Kind::Fresh(partition), true);
        }
        any
    }

    pub(super) fn window(&self) -> impl Iterator<Item = &Batch> {
        self.queue.iter().take(self.cut)
    }

    pub(super) fn window_mut(&mut self) -> impl Iterator<Item = &mut Batch> {
        self.queue.iter_mut().take(self.cut)
    }

    /// What its batches take, nearly: batches that wait are much of a size, so of many some are looked at.
    pub(super) fn memory(&self) -> usize {
        let count = self.queue.len();
        let step = count.div_ceil(SAMPLES).max(1);
        let looked: usize = self.queue.iter().step_by(step).map(Batch::memory).sum();
        looked.saturating_mul(count) / count.div_ceil(step).max(1)
    }

    pub(super) fn has_answered(&self) -> bool {
        self.window().any(|batch| matches!(batch.flight, Flight::Answered(_)))
    }

    /// The first batch that is not cut, if it may be: its linger is over, or it takes no more rows.
    pub(super) fn ripe(&self, rules: &dyn Rules, now: Monotonic) -> Option<&Batch> {
        let batch = self.queue.get(self.cut)?;
        let full = self.queue.len() > self.cut + 1 || batch.is_closed();
        rules.is_ripe(full, batch.ripe_at.0, now.0).then_some(batch)
    }

    /// Whether all rows of the first batch that is not cut are in the log, where they have to be.
    pub(super) fn is_staged(&self) -> bool {
        self.queue.get(self.cut).is_none_or(|batch| batch.kept.is_staged(batch.count))
    }

    /// Where what all the undone batches were answered with leads. Only when no request is unanswered.
    pub(super) fn resolution(&self, rules: &dyn Rules) -> Resolution {
        let bad = |batch: &Batch| match batch.flight {
            Flight::Answered(bad) => Some(bad),
            Flight::Unsent | Flight::Flying => None,
        };
        let Some(first) = self.window().next().and_then(bad) else { return Resolution::Retry };
        match first {
            Bad::Again => Resolution::Retry,
            Bad::NewEpoch => Resolution::CannotTell,
            Bad::Refused(code) => Resolution::Refused(code),
            Bad::OutOfOrder => {
                let round = Round {
                    again: self.window().any(|batch| bad(batch) == Some(Bad::Again)),
                    unsent: self.window().any(|batch| bad(batch).is_none()),
                    only_out_of_order: self.window().all(|batch| matches!(bad(batch), None | Some(Bad::OutOfOrder))),
                };
                match rules.after_out_of_order(round) {
                    AfterRound::SendAgain => Resolution::Retry,
                    AfterRound::SendRest => Resolution::GoOn,
                    AfterRound::AskLog => Resolution::CannotTell,
                }
            }
        }
    }
}

/// What to do about a window in which something was not answered with success.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Resolution {
    /// Send all undone again, in order, same identity (P4).
    Retry,
    /// Only 45 so far, and some have not been sent: they may be the ones that settle it. Send those.
    GoOn,
    /// Nothing but 45, or an epoch that is no longer taken: whether they are there, only Kafka's log can tell (P5).
    CannotTell,
    /// The oldest is refused.
    Refused(i16),
}

/// What a partition's next step depends on beside its own state.
#[derive(Clone, Copy, Debug)]
pub(super) struct StepTerms {
    pub(super) rules: &'static dyn Rules,
    pub(super) now: Monotonic,
    pub(super) wall: WallMs,
    /// The identity that new work starts with.
    pub(super) identity: Option<Identity>,
    /// How many batches may be cut and not done, as it is configured.
    pub(super) max_inflight: usize,
    /// All groups of the log up to this one are on the disk.
    pub(super) durable: u64,
}

impl Partition {
    /// What may be sent next, if anything; backoff, leader and the broker's room are the caller's.
    pub(super) fn step(&self, terms: &StepTerms) -> Option<Step> {
        let StepTerms { rules, now, wall, identity, max_inflight, durable } = *terms;
        let work = self.work.as_ref()?;
        let answered = work.has_answered();
        // A round with an error in it comes to its end before anything more is sent.
        if answered && work.in_flight > 0 {
            return None;
        }
        let proven = rules.is_proven(now.0, self.proven_until.0);
        let unsent = work.window().position(|batch| batch.flight == Flight::Unsent);
        if let Some(place) = unsent
            && work.queue[place].kept.may_be_sent(rules, durable)
        {
            let batch = &work.queue[place];
            let alone =
                !proven || batch.alone || forgotten(rules, batch, wall) || (place > 0 && work.queue[place - 1].alone);
            return (work.in_flight == 0 || !alone).then_some(Step::Send(place));
        }
        let restored = self.spooled.as_ref().map_or(0, |spooled| spooled.cuts.len());
        if answered || rules.waits_for_restored(restored) || work.cut >= rules.window(max_inflight) {
            return None;
        }
        let batch = work.ripe(rules, now)?;
        // One that memory alone has is sent as it is cut: not over the head of one that waits for its cut to be on the disk.
        if unsent.is_some() && !batch.kept.is_logged() {
            return None;
        }
        // What was not cut then has to wait for the end of all that was.
        let foreign = self.foreign && !batch.kept.old;
        if work.cut == 0 {
            return ((self.identity.is_some() && !foreign) || identity.is_some()).then_some(Step::Cut);
        }
        let alone = !proven || forgotten(rules, batch, wall) || work.queue[work.cut - 1].alone;
        (!alone && (!foreign || rules.may_change_identity(work.cut))).then_some(Step::Cut)
    }

    /// The identity of a batch of `count` records, which are herewith used up.
    pub(super) fn next_stamp(&mut self, identity: Identity, count: u32) -> Stamp {
        let stamp = Stamp { producer_id: identity.id, epoch: identity.epoch, sequence: self.sequence };
        self.sequence = sequence_after(self.sequence, count);
        stamp
    }

    /// Starts with another identity.
    pub(super) fn adopt(&mut self, identity: Option<Identity>) {
        self.identity = identity;
        self.foreign &= identity.is_some();
        self.sequence = 0;
        self.proven_until = Monotonic(0);
    }
}

/// Whether Kafka may have forgotten a producer whose last batch is this: it remembers by *record* time.
pub(super) fn forgotten(rules: &dyn Rules, batch: &Batch, wall: WallMs) -> bool {
    rules.is_forgettable(batch.max_timestamp, wall.0)
}

/// Whether a sequence stands before another of the same identity, not far from it.
pub(super) const fn precedes(sequence: i32, other: i32) -> bool {
    let ahead = other.wrapping_sub(sequence) & i32::MAX;
    ahead > 0 && ahead < 1 << 30
}

/// Sequences go round from 2³¹ − 1 to 0 (`DefaultRecordBatch.incrementSequence`).
pub(super) fn sequence_after(sequence: i32, count: u32) -> i32 {
    (i64::from(sequence) + i64::from(count)).rem_euclid(1 << 31) as i32
}

#[cfg(test)]
mod tests {
    use super::{precedes, sequence_after};

    #[test]
    fn sequences_go_round() {
        assert!(precedes(3, 4) && !precedes(4, 3) && !precedes(4, 4));
        assert!(precedes(i32::MAX, 0) && !precedes(0, i32::MAX));
        assert_eq!(sequence_after(0, 10), 10);
        assert_eq!(sequence_after(i32::MAX, 1), 0);
        assert_eq!(sequence_after(i32::MAX - 3, 10), 6);
    }
}
