//! Publishing: a message to all of its receivers, or to none. Subscribers and the home of a retained message are the broker's, sinks and rules those of the
//! outlets; neither of the two knows the other.
//!
//! | | |
//! |---|---|
//! | `client` | a message of a client |
//! | `run` | those like it in the same read |
//! | `admit` | a message that no client sends now |
//! | `wills` | wills that are due |
//! | `sys_topics` | topics of the service's own |

pub(super) mod admit;
pub(super) mod client;
pub(super) mod run;
mod sys_topics;
mod wills;

use forebay_broker::Broker;
use forebay_broker::here::Here;

use super::Core;
use super::outlets::Outlets;

/// `Publishing` is a shard's broker and its outlets, for the time of a call.
pub(super) struct Publishing<'a> {
    pub(super) here: &'a mut Here,
    pub(super) broker: &'a mut Broker,
    pub(super) outlets: &'a mut Outlets,
}

impl Core {
    /// The way of a message to its receivers.
    #[inline]
    pub(super) fn publishing(&mut self) -> Publishing<'_> {
        Publishing { here: &mut self.here, broker: &mut self.broker, outlets: &mut self.outlets }
    }
}

impl Publishing<'_> {
    /// A number that changes whenever a message that has found no room may find some.
    pub(super) fn freed(&self) -> u64 {
        self.outlets.freed(&self.broker.logs).wrapping_add(self.broker.delivery.freed())
    }
}
