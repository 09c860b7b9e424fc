//! The consequences of a round of sends in which some batch was not taken.

use std::ops::Range;

use super::{Failure, PartitionWindow, Why};
use forebay_base::rules::{AfterRound, Round, Rules};

/// The action for the caller. The window itself has changed already, except for [`PartitionWindow::take_back`] and
/// [`PartitionWindow::reject_oldest`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::producer) enum Resolution {
    /// Nothing: the undone batches continue unchanged.
    Nothing,
    /// All undone batches are sent again, in order, under the same identity, after a pause.
    Again,
    /// The log must be asked; nothing is sent until it has answered.
    Ask,
    /// The question must be repeated, after a pause.
    AskAgain,
    /// The batches at these places are in the log, and have left the window.
    Settle(Range<usize>),
    /// This number of rows may be there twice.
    Unknown(u64),
    /// The undone batches are taken back, and cut again under the next epoch.
    TakeBack(TakeBack),
    /// The oldest batch is refused, and is not there: P6 is kept.
    Reject(i16),
}

/// See [`Resolution::TakeBack`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::producer) struct TakeBack {
    /// Number of rows that may be there twice.
    pub(in crate::producer) unknown: u64,
    /// Whether cuts of an earlier process that are not loaded may be there, too.
    pub(in crate::producer) restored_too: bool,
    /// Whether none of the batches is there, and yet Kafka does not expect them: Kafka lacks records that it had acknowledged.
    pub(in crate::producer) lacking: bool,
    /// Whether a pause comes first.
    pub(in crate::producer) pause: bool,
}

impl PartitionWindow {
    /// Whether a round is over in which some batch was not taken ([`Self::resolve`]).
    pub(in crate::producer) fn is_to_resolve(&self) -> bool {
        self.in_flight == 0 && self.asking.is_none() && self.has_failed()
    }

    /// The consequence of the undone batches' answers. Only while no request is unanswered.
    pub(in crate::producer) fn resolve(&mut self, acks: i16, rules: &dyn Rules) -> Resolution {
        if let Some(resolution) = self.recover() {
            return resolution;
        }
        let failures = || self.undone.iter().map(|batch| batch.failure());
        match failures().next().flatten() {
            None | Some(Failure::Again | Failure::NoTopic) => self.again(),
            Some(Failure::NewEpoch) => self.cannot_tell(Why::Identity, acks, rules),
            Some(Failure::Refused(code)) => self.refused(code, acks, rules),
            Some(Failure::OutOfOrder) => {
                let round = Round {
                    again: self.undone.iter().any(|batch| batch.flight.goes_again()),
                    unsent: failures().any(|failure| failure.is_none()),
                    only_out_of_order: failures().all(|failure| matches!(failure, None | Some(Failure::OutOfOrder))),
                };
                let any_new_epoch = failures().any(|failure| failure == Some(Failure::NewEpoch));
                match rules.after_out_of_order(round) {
                    AfterRound::SendAgain => self.again(),
                    AfterRound::SendRest => Resolution::Nothing,
                    AfterRound::AskLog if any_new_epoch => self.cannot_tell(Why::Identity, acks, rules),
                    AfterRound::AskLog => self.cannot_tell(Why::OutOfOrder, acks, rules),
                }
            }
        }
    }

    pub(super) fn again(&mut self) -> Resolution {
        self.send_again();
        Resolution::Again
    }

    /// Asks the log whether the batches are there (P5), if it may be asked.
    fn cannot_tell(&mut self, why: Why, acks: i16, rules: &dyn Rules) -> Resolution {
        if rules.asks_log(acks) {
            self.ask(why);
            return Resolution::Ask;
        }
        self.is_untold()
    }

    /// Handles a log that could not be asked, or gives no answer: all undone batches are sent again under a new epoch, and the rows
    /// that may be there twice are counted.
    pub(super) fn is_untold(&mut self) -> Resolution {
        let lacking = !self.undone.iter().any(|batch| batch.maybe_there);
        let unknown = self.count_unknown();
        Resolution::TakeBack(TakeBack { unknown, restored_too: true, lacking, pause: true })
    }

    /// Handles a refusal (P6): it is final only if every earlier attempt is known not to have been appended. The younger batches are
    /// not simply cut again either: a log that is another one, or has forgotten the producer, may have begun with one of them.
    pub(super) fn refused(&mut self, code: i16, acks: i16, rules: &dyn Rules) -> Resolution {
        if rules.is_refusal_final(self.undone.iter().any(|batch| batch.maybe_there)) {
            return Resolution::Reject(code);
        }
        self.cannot_tell(Why::Refusal(code), acks, rules)
    }
}
