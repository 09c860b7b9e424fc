//! Rules that do not apply to the message at hand, but to the record that it was made of, or to an event. They are evaluated after those of the message, and
//! their rows have room with its rows or not at all.

use forebay_rule::column::Defaults;
use forebay_rule::facts::{Facts, Subject};
use forebay_rule::program::Input;

/// Rules, and the defaults of their rows.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Beside<'a> {
    /// Their numbers for the router.
    pub(crate) rules: &'a [u16],
    pub(crate) facts: &'a Facts<'a>,
    /// Key and time of rows that name none.
    pub(crate) defaults: Defaults<'a>,
}

/// The rules of a message, one after the other, with the index of the first that does not apply to the message itself.
#[derive(Clone, Copy, Debug)]
pub(super) struct Turns<'a> {
    beside: Option<&'a Beside<'a>>,
    /// The index of the first of these among the rules.
    first: usize,
}

impl<'a> Turns<'a> {
    pub(super) fn new(beside: Option<&'a Beside<'a>>, rules: usize) -> Self {
        Self { beside, first: rules - beside.map_or(0, |beside| beside.rules.len()).min(rules) }
    }

    /// Prepares for the rule of this index. Returns the key and time of its rows, if they are not the message's.
    pub(super) fn begin(self, place: usize, input: &mut Input<'a>) -> Option<Defaults<'a>> {
        let beside = self.beside.filter(|_| place >= self.first)?;
        if place == self.first {
            input.go_on_with(Subject::Facts(beside.facts));
        }
        Some(beside.defaults)
    }
}
