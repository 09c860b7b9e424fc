//! The outcome of rules for a subscription. mosquitto grants every subscription and then withholds messages; here one that could
//! never get a message is refused.

use super::matching::{Names, covers, overlaps};
use super::{Rule, Subscription};

/// Sums up rules in the order in which they are asked. `B`: what is reported of a rule.
#[derive(Debug)]
pub struct Coverage<B> {
    /// Some topics that the filter matches are denied.
    is_denied: bool,
    /// All topics that the filter matches are decided: later rules grant nothing.
    is_over: bool,
    possible: Option<B>,
    covering: Option<B>,
}

impl<B> Default for Coverage<B> {
    fn default() -> Self {
        Self { is_denied: false, is_over: false, possible: None, covering: None }
    }
}

impl<B> Coverage<B> {
    /// Adds a rule that denies all topics that the filter matches, or some.
    pub(super) fn deny(&mut self, covers: bool, overlaps: bool) {
        self.is_denied |= overlaps;
        self.is_over |= covers;
    }

    /// Adds a rule that grants all topics that the filter matches, or some.
    pub(super) fn grant(&mut self, covers: bool, overlaps: bool, by: impl Fn() -> B) {
        if covers && !self.is_denied && self.covering.is_none() {
            self.covering = Some(by());
        }
        if overlaps && !self.is_over && self.possible.is_none() {
            self.possible = Some(by());
        }
    }

    /// Adds rules of which only the grants count.
    pub(super) fn grants<'r>(
        &mut self,
        rules: impl Iterator<Item = &'r Rule>,
        names: Names<'_>,
        filter: &str,
        by: impl Fn(&'r Rule) -> B,
    ) {
        for rule in rules {
            self.grant(covers(rule, names, filter), overlaps(rule, names, filter), || by(rule));
        }
    }

    /// The outcome, and the rule that grants all or some of the topics.
    #[must_use]
    pub fn end(self) -> (Subscription, Option<B>) {
        match (self.covering, self.possible) {
            (Some(by), _) => (Subscription::Granted, Some(by)),
            (None, Some(by)) => (Subscription::Checked, Some(by)),
            (None, None) => (Subscription::Refused, None),
        }
    }
}
