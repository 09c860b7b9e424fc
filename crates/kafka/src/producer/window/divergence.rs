//! P4 holds within one log. Offsets only grow: an answer 0 below the known end of the log comes from a log that was cut back, or
//! from another topic of the same name. There the younger batch may have been the first that this log ever saw. The same holds if
//! the log, or the topic, that older batches were sent to has just reported that it does not have them.
//! Then each answer settles its own batch only, and when nothing is in flight the others are sent again, first unchanged,
//! then under the next epoch.

use std::ops::Range;

use super::resolution::{Resolution, TakeBack};
use super::{Failure, Flight, PartitionWindow, Undone};

/// Whether P4 holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Divergence {
    /// P4 holds.
    #[default]
    No,
    /// An answer came from another log than the known one, to a younger batch than the oldest.
    Seen,
    /// The undone batches have been sent again since, one at a time.
    Tried,
}

impl PartitionWindow {
    /// Notes that another log has answered the batch at this place.
    pub(in crate::producer) fn diverged(&mut self, place: usize) {
        if place > 0 {
            self.divergence = Divergence::Seen;
        }
    }

    /// Notes that the batch at this place is in the log, which was known to end at this offset before: older batches that stay
    /// undone are looked for from there on.
    pub(in crate::producer) fn answered_over(&mut self, place: usize, end: i64) {
        if place > 0 {
            self.older_from = Some(self.older_from.map_or(end, |from| from.min(end)));
        }
    }

    /// Forgets known offsets, which are another log's.
    pub(in crate::producer) const fn began_other_log(&mut self) {
        self.older_from = None;
    }

    /// The offset from which the log is read for the undone batches, if not from its end.
    pub(in crate::producer) const fn older_from(&self) -> Option<i64> {
        self.older_from
    }

    /// Whether an answer 0 to the batch at this place proves that an older one cannot be in that log: in this round the older batch
    /// was answered that there was no such topic, or with another error, and no attempt of it may have been appended. A log that
    /// lacks it takes a younger one only if it does not know the producer: the topic was recreated, and others may have filled it
    /// beyond the known offset.
    pub(super) fn shows_another_log(&mut self, place: usize) -> bool {
        let lacks = |older: &Undone| match older.failure() {
            None => false,
            Some(Failure::NoTopic) => true,
            Some(_) => !older.maybe_there,
        };
        let shows = self.undone.range(..place).any(lacks);
        if shows {
            self.divergence = Divergence::Seen;
        }
        shows
    }

    /// Whether an answer settles its own batch only.
    pub(in crate::producer) fn is_apart(&self) -> bool {
        self.divergence != Divergence::No
    }

    /// Notes that the log may have taken a younger batch of an earlier process and never seen this one.
    pub(in crate::producer) const fn goes_apart(&mut self) {
        self.divergence = Divergence::Tried;
    }

    /// Settles a batch on an answer 0 where P4 does not hold: this batch is in the log, and nothing is known of the others.
    pub(super) fn settle_only(&mut self, place: usize) -> Range<usize> {
        self.forget_proof();
        self.undone.remove(place);
        if self.undone.is_empty() {
            (self.divergence, self.older_from) = (Divergence::No, None);
        }
        (self.attempts, self.refused_as_next) = (0, 0);
        place..place + 1
    }

    /// The next action after that, with nothing in flight: the undone batches are sent again unchanged, one by one, which a log that
    /// has them answers with 0; when the oldest is not taken, all of them are cut under the next epoch, after the settled ones.
    /// `None`: P4 decides.
    pub(super) fn recover(&mut self) -> Option<Resolution> {
        let any_unheard = |is: fn(Flight) -> bool| self.undone.iter().any(|batch| batch.unheard && is(batch.flight));
        let first = self.undone.front().map(|batch| batch.flight);
        match (self.divergence, first) {
            (Divergence::No, _) => None,
            (Divergence::Seen, _) => {
                self.divergence = Divergence::Tried;
                self.send_again();
                Some(Resolution::Nothing)
            }
            (Divergence::Tried, Some(Flight::Unsent | Flight::Unanswered)) => Some(self.again()),
            (Divergence::Tried, Some(flight)) if flight.goes_again() => Some(self.again()),
            // No answer to these batches was received: a younger one may be the first that this log has, and for those refused for another
            // reason the log is asked.
            (Divergence::Tried, Some(Flight::Failed(Failure::OutOfOrder))) if any_unheard(Flight::is_unsent) => {
                Some(Resolution::Nothing)
            }
            (Divergence::Tried, Some(Flight::Failed(Failure::OutOfOrder))) if any_unheard(Flight::goes_again) => {
                Some(self.again())
            }
            (Divergence::Tried, Some(Flight::Failed(Failure::Refused(_) | Failure::NewEpoch)))
                if self.undone.iter().all(|batch| batch.unheard) =>
            {
                None
            }
            (Divergence::Tried, _) => {
                let unknown = self.count_unknown();
                Some(Resolution::TakeBack(TakeBack { unknown, restored_too: true, ..TakeBack::default() }))
            }
        }
    }
}
