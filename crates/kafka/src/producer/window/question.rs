//! Questions to Kafka's log (P5, P6), in the cases where only the log shows whether undone batches are there: all of them got 45;
//! the identity is no longer taken (47 or an equivalent error); a batch is refused that an earlier attempt may have appended; a
//! batch older than Kafka's memory (P2) is about to be sent again.
//!
//! A partition asks while no request of it is unanswered, and sends nothing until the answer. Why a late request of an old
//! connection cannot make the answer wrong: `docs/decisions/0016-asking.md`.

use super::divergence::Divergence;
use super::resolution::{Resolution, TakeBack};
use super::{Identity, PartitionWindow};
use crate::types::LogSays;
use forebay_base::rules::Rules;
use forebay_runtime::seam::{Monotonic, WallMs};

/// Maximum number of times that a question is asked because the answer is "not now" (with pauses: minutes). After that the
/// log counts as one that cannot be asked.
const TRIES_MAX: u32 = 100;
/// Maximum number of consecutive refusals of an identity that is the next by Kafka's log.
const REFUSED_AS_NEXT_MAX: u32 = 3;

/// The reason for a question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::producer) enum Why {
    /// All undone batches got 45.
    OutOfOrder,
    /// The identity was refused: 47 or an equivalent error.
    Identity,
    /// The oldest batch was refused with this code, and may be there.
    Refusal(i16),
    /// An old batch is about to be sent again, and may be there.
    Late,
}

/// A question of a partition.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asking {
    why: Why,
    /// The token of the question in flight.
    token: Option<u64>,
    /// The time after which the question is lost: the wire client answers every question long before.
    until: Monotonic,
    /// "Not now" answers so far.
    tries: u32,
}

impl Asking {
    /// Starts over, for the question to another log.
    pub(super) const fn begin_again(&mut self) {
        (self.token, self.tries) = (None, 0);
    }
}

/// State of a question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::producer) enum Asked {
    /// The question has not been sent.
    Due,
    /// The question is in flight.
    Waits,
    /// The question was in flight for longer than any answer takes.
    Lost(u64),
}

impl PartitionWindow {
    /// Stops sending until the log has answered.
    pub(in crate::producer) fn ask(&mut self, why: Why) {
        self.asking = Some(Box::new(Asking { why, token: None, until: Monotonic(0), tries: 0 }));
    }

    /// State of the question, if there is one.
    pub(in crate::producer) fn asking(&self, now: Monotonic) -> Option<Asked> {
        let asking = self.asking.as_ref()?;
        Some(match asking.token {
            Some(_) if now < asking.until => Asked::Waits,
            Some(token) => Asked::Lost(token),
            None => Asked::Due,
        })
    }

    /// Marks the question as sent, under this token.
    pub(in crate::producer) fn asked(&mut self, token: u64, until: Monotonic) {
        if let Some(asking) = self.asking.as_mut() {
            (asking.token, asking.until) = (Some(token), until);
        }
    }

    /// Whether the window waits for the answer to this question.
    pub(in crate::producer) fn waits_for(&self, token: u64) -> bool {
        self.asking.as_ref().is_some_and(|asking| asking.token == Some(token))
    }

    /// The content of the question: the batches' identity, their first sequence, and the last sequence of each.
    pub(in crate::producer) fn question(&self) -> Option<(Identity, i32, Vec<i32>)> {
        let first = self.undone.front()?.sequence;
        Some((self.identity?, first, self.undone.iter().map(|batch| batch.last_sequence()).collect()))
    }

    /// Whether the leader's state of the producer may be insufficient to answer the question: Kafka may have forgotten it, or
    /// a younger batch has overtaken these.
    pub(in crate::producer) fn is_in_doubt_of_leader(&self, rules: &dyn Rules, wall: WallMs) -> bool {
        self.is_apart() || self.undone.iter().any(|batch| rules.is_forgettable(batch.newest, wall.0))
    }

    /// Drops the question.
    pub(in crate::producer) fn stop_asking(&mut self) {
        self.asking = None;
    }

    /// Takes the log's answer. `behind`: whether the sequence that it names is the last one of a batch that an earlier
    /// process had cut after these, and that is not loaded.
    ///
    /// - There: the batch and all older ones are done; the younger ones are sent again.
    /// - Next: sent again, same identity, unless that is what Kafka refuses. A refusal is final now.
    /// - Lost, fenced: a higher epoch. Nothing is counted as unknown: the log has shown that the batches are not there, and takes
    ///   no late request of the old epoch.
    /// - Cannot tell: sent under a higher epoch (an old batch: under its own), and counted.
    pub(in crate::producer) fn log_said(
        &mut self,
        says: LogSays,
        behind: bool,
        now: Monotonic,
        (acks, rules): (i16, &dyn Rules),
    ) -> Resolution {
        let Some(asking) = self.asking.as_mut() else { return Resolution::Nothing };
        let (why, tries) = (asking.why, asking.tries + 1);
        if says == LogSays::Again && tries < TRIES_MAX {
            (asking.token, asking.tries) = (None, tries);
            return Resolution::AskAgain;
        }
        self.asking = None;
        match says {
            LogSays::There { last_sequence } => match self.place_there(last_sequence, behind, why) {
                Some((place, only)) => {
                    // P4 does not hold if the log's answer is about this batch only.
                    let settled = if only { self.settle_only(place) } else { self.settle(place, false, now, rules) };
                    self.forget_proof();
                    self.send_again();
                    Resolution::Settle(settled)
                }
                None => self.is_silent(why),
            },
            LogSays::Again | LogSays::Ends { .. } | LogSays::CannotTell(_) => self.is_silent(why),
            LogSays::Fenced { epoch } => {
                if let Some(identity) = self.identity.as_mut() {
                    identity.epoch = identity.epoch.max(epoch);
                }
                self.not_there(why, None, acks, rules)
            }
            LogSays::Next { known } => {
                if !known {
                    // The log takes any of the batches first.
                    self.forget_proof();
                }
                self.not_there(why, Some(known), acks, rules)
            }
            LogSays::Lost => self.not_there(why, None, acks, rules),
        }
    }

    /// The place of the youngest batch that is in the log if one with this last sequence is: that batch, or the last of all if it is
    /// after them (P4). And whether P4 does not hold, so that the answer is about that batch only.
    fn place_there(&self, last: i32, behind: bool, why: Why) -> Option<(usize, bool)> {
        // A batch that was only ever refused is known not to be there: P4 does not hold for the younger ones.
        let refused = matches!(why, Why::Refusal(_)) && self.undone.front().is_some_and(|first| !first.maybe_there);
        let only = refused || self.divergence != Divergence::No;
        let place = self.undone.iter().position(|batch| batch.last_sequence() == last);
        if only || place.is_some() {
            return place.map(|place| (place, only));
        }
        behind.then(|| self.undone.len().checked_sub(1)).flatten().map(|place| (place, false))
    }

    /// Handles a log that has none of the undone batches. `next`: whether the log takes them unchanged, and if so, whether it
    /// still knows the identity.
    fn not_there(&mut self, why: Why, next: Option<bool>, acks: i16, rules: &dyn Rules) -> Resolution {
        self.undone.iter_mut().for_each(|batch| batch.maybe_there = false);
        let take_back = |pause: bool| Resolution::TakeBack(TakeBack { pause, ..TakeBack::default() });
        match (why, next) {
            (Why::Refusal(code), _) => self.refused(code, acks, rules),
            (Why::Late, Some(_)) => Resolution::Nothing,
            (Why::Late, None) => take_back(false),
            // Brokers before 2.5 refuse what they have forgotten.
            (Why::Identity, Some(false)) | (_, None) => take_back(true),
            (Why::OutOfOrder | Why::Identity, Some(_)) => {
                self.refused_as_next += 1;
                if self.refused_as_next > REFUSED_AS_NEXT_MAX {
                    self.refused_as_next = 0;
                    return take_back(true);
                }
                self.again()
            }
        }
    }

    /// Handles a log that gives no answer like one that may not be asked.
    fn is_silent(&mut self, why: Why) -> Resolution {
        if why != Why::Late {
            return self.is_untold();
        }
        // The first batch in doubt; each of the others asks when its turn comes.
        let first = self.undone.iter_mut().find(|batch| batch.is_in_doubt());
        Resolution::Unknown(first.map_or(0, super::Undone::goes_again_late))
    }
}
