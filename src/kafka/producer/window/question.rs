//! Asking Kafka what its log holds (P5, P6), where only the log can tell whether undone batches are there: all of them got 45;
//! the identity is no longer taken (47 and its like); a batch is refused that an earlier attempt may have appended; a batch is
//! to be sent again that is older than Kafka's memory (P2).
//!
//! A partition asks with no request of it unanswered, and sends nothing until it knows. Why no late request of an old
//! connection can make the answer wrong: `docs/decisions/0016-asking.md`.

use super::divergence::Divergence;
use super::resolution::{Resolution, TakeBack};
use super::{Identity, PartitionWindow};
use crate::kafka::types::LogSays;
use crate::rules::Rules;
use crate::runtime::seam::{Monotonic, WallMs};

/// Times that a question is asked again because the answer was "not now" (with pauses: minutes). After that as if we
/// were not allowed to ask.
const TRIES_MAX: u32 = 100;
/// Times in a row that Kafka may refuse an identity of which its log says that it is the next.
const REFUSED_AS_NEXT_MAX: u32 = 3;

/// Why a partition asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::kafka::producer) enum Why {
    /// All undone batches got 45.
    OutOfOrder,
    /// The identity is not taken: 47 and its like.
    Identity,
    /// The oldest was refused with this code, and may be there.
    Refusal(i16),
    /// An old batch is about to be sent again, and may be there.
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

impl Asking {
    /// Starts over, for the question to another log.
    pub(super) const fn begin_again(&mut self) {
        (self.token, self.tries) = (None, 0);
    }
}

/// State of a question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::kafka::producer) enum Asked {
    /// The question has not been sent.
    Due,
    /// It is on its way.
    Waits,
    /// So long that no answer will come.
    Lost(u64),
}

impl PartitionWindow {
    /// From now on nothing is sent until the log has answered.
    pub(in crate::kafka::producer) fn ask(&mut self, why: Why) {
        self.asking = Some(Box::new(Asking { why, token: None, until: Monotonic(0), tries: 0 }));
    }

    /// State of its question, if it has one.
    pub(in crate::kafka::producer) fn asking(&self, now: Monotonic) -> Option<Asked> {
        let asking = self.asking.as_ref()?;
        Some(match asking.token {
            Some(_) if now < asking.until => Asked::Waits,
            Some(token) => Asked::Lost(token),
            None => Asked::Due,
        })
    }

    /// It was asked, under this token.
    pub(in crate::kafka::producer) fn asked(&mut self, token: u64, until: Monotonic) {
        if let Some(asking) = self.asking.as_mut() {
            (asking.token, asking.until) = (Some(token), until);
        }
    }

    /// Whether it waits for the answer to this question.
    pub(in crate::kafka::producer) fn waits_for(&self, token: u64) -> bool {
        self.asking.as_ref().is_some_and(|asking| asking.token == Some(token))
    }

    /// What it asks for: the batches' identity, their first sequence, the last one of each.
    pub(in crate::kafka::producer) fn question(&self) -> Option<(Identity, i32, Vec<i32>)> {
        let first = self.undone.front()?.sequence;
        Some((self.identity?, first, self.undone.iter().map(|batch| batch.last_sequence()).collect()))
    }

    /// Whether what the leader knows of the producer may be something else than the last word on what is asked for: Kafka may
    /// have forgotten it, or a younger batch has been taken over the head of these.
    pub(in crate::kafka::producer) fn is_in_doubt_of_leader(&self, rules: &dyn Rules, wall: WallMs) -> bool {
        self.is_apart() || self.undone.iter().any(|batch| rules.is_forgettable(batch.newest, wall.0))
    }

    /// It asks no more.
    pub(in crate::kafka::producer) fn stop_asking(&mut self) {
        self.asking = None;
    }

    /// The log's answer. `behind`: whether the sequence that it names is the last one of a batch that an earlier
    /// process had cut after these, and that is not loaded.
    ///
    /// - There: done, with all older ones; the younger go again.
    /// - Next: sent again, same identity, unless that is what Kafka refuses. A refusal is final now.
    /// - Lost, fenced: a higher epoch. Nothing is counted as unknown: the log has shown that they are not there, and takes
    ///   no late request of the old epoch.
    /// - Cannot tell: sent under a higher epoch (an old batch: under its own), and counted.
    pub(in crate::kafka::producer) fn log_said(
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
                    // P4 does not hold where the log tells only of this one.
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
                    // It takes any of them first.
                    self.forget_proof();
                }
                self.not_there(why, Some(known), acks, rules)
            }
            LogSays::Lost => self.not_there(why, None, acks, rules),
        }
    }

    /// The youngest batch that is in the log if one with this last sequence is: that one, or the last of all if it is behind
    /// them (P4). And whether P4 does not hold, so that the log tells of that one only.
    fn place_there(&self, last: i32, behind: bool, why: Why) -> Option<(usize, bool)> {
        // Of what was refused, and never anything else, it is known that it is not there: P4 does not hold for the younger.
        let refused = matches!(why, Why::Refusal(_)) && self.undone.front().is_some_and(|first| !first.maybe_there);
        let only = refused || self.divergence != Divergence::No;
        let place = self.undone.iter().position(|batch| batch.last_sequence() == last);
        if only || place.is_some() {
            return place.map(|place| (place, only));
        }
        behind.then(|| self.undone.len().checked_sub(1)).flatten().map(|place| (place, false))
    }

    /// None of the undone batches is in the log. `next`: whether the log takes them as they are, and if so, whether it
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

    /// Nobody can tell: as if we were not allowed to ask.
    fn is_silent(&mut self, why: Why) -> Resolution {
        if why != Why::Late {
            return self.is_untold();
        }
        // The first one; each of the others asks when its turn comes.
        let first = self.undone.iter_mut().find(|batch| batch.is_in_doubt());
        Resolution::Unknown(first.map_or(0, super::Undone::goes_again_late))
    }
}
