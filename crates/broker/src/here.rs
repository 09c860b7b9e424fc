//! `Here` is what every room of a shard may know of the shard it is in: its index, the configuration in force with the contents of its files, and where to count
//! and to tell. Rooms do not own it: the shard lends it to each call.

use std::sync::Arc;

use forebay_base::rules::Rules;
use forebay_config::Config;
use forebay_guard::auth::Shares;
use forebay_guard::edge::Edge;
use forebay_metrics::journal::Teller;
use forebay_rule::around::Machine;

use super::numbers::Numbers;
use super::raised::{Raised, RuleEvents, dropped};
use super::router::Slots;

/// See the module.
pub struct Here {
    /// The shard's place among those of the process.
    pub index: usize,
    /// The configuration in force.
    pub config: Arc<Config>,
    /// The contents of the configuration's files.
    pub edge: Edge,
    /// The rules that the shard keeps: [`forebay_base::rules::KEPT`], but for tests.
    pub rules: &'static dyn Rules,
    /// The owner of each client.
    pub slots: Arc<Slots>,
    /// Shares of users with bounds.
    pub shares: Arc<Shares>,
    /// The machine's properties for rules in SQL.
    pub machine: Arc<Machine>,
    /// The shard's counters.
    pub numbers: Numbers,
    /// The way to the journal of events.
    pub teller: Teller,
    /// The events of this turn that rules name.
    pub events: RuleEvents,
}

impl Here {
    /// Notes an event that a rule names. Events beyond the bound of a turn are dropped and counted.
    pub fn raise(&mut self, raised: Raised) {
        let event = raised.event();
        if !self.events.note(raised) {
            self.numbers.count(dropped(event));
        }
    }
}
