//! `Here` is what every room of a shard may know of the shard it is in: its index, the configuration in force with the contents of its files, and where to count
//! and to tell. Rooms do not own it: the shard lends it to each call.

use std::sync::Arc;

use forebay_base::rules::Rules;
use forebay_config::Config;
use forebay_guard::auth::Shares;
use forebay_metrics::journal::Teller;
use forebay_rule::around::Machine;

use super::edge::Edge;
use super::numbers::Numbers;
use super::raised::{Raised, RuleEvents, dropped};
use super::router::Slots;

/// See the module.
pub(crate) struct Here {
    /// The shard's place among those of the process.
    pub(crate) index: usize,
    /// The configuration in force.
    pub(crate) config: Arc<Config>,
    /// The contents of the configuration's files.
    pub(crate) edge: Edge,
    /// The rules that the shard keeps: [`forebay_base::rules::KEPT`], but for tests.
    pub(crate) rules: &'static dyn Rules,
    /// The owner of each client.
    pub(crate) slots: Arc<Slots>,
    /// Shares of users with bounds.
    pub(crate) shares: Arc<Shares>,
    /// The machine's properties for rules in SQL.
    pub(crate) machine: Arc<Machine>,
    pub(crate) numbers: Numbers,
    pub(crate) teller: Teller,
    /// The events of this turn that rules name.
    pub(crate) events: RuleEvents,
}

impl Here {
    /// Notes an event that a rule names. Events beyond the bound of a turn are dropped and counted.
    pub(crate) fn raise(&mut self, raised: Raised) {
        let event = raised.event();
        if !self.events.note(raised) {
            self.numbers.count(dropped(event));
        }
    }
}
