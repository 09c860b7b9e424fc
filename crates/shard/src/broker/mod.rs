//! The broker: the messages of a shard and their receivers, apart from connections and timers.
//!
//! | | |
//! |---|---|
//! | `delivery` | a message to its subscribers, on every shard |
//! | `shares` | shared subscriptions: the members of each shard, and the messages that wait for them |
//! | `retained` | retained messages, and how a new subscription is answered from them |
//! | `queues`, `confirm` | messages that kept sessions get through a crash, and publishers that are answered when they are durable |
//! | `given` | how far the slots of `[broker]` have been given the partitions of routes |
//! | `kept`, `holds` | sessions that survive a crash, and bytes held until they are on the disk |
//! | `letters` | what other shards send |
//! | `past` | the past that a subscription asks for |
//! | `remotes` | copies for the remotes of bridges |
//! | `stored` | times of what is in the log |

pub(super) mod confirm;
pub(super) mod delivery;
pub(super) mod given;
pub(super) mod holds;
pub(super) mod kept;
mod letters;
pub(super) mod past;
pub(super) mod queues;
pub(super) mod remotes;
pub(super) mod retained;
pub(super) mod shares;
pub(super) mod stored;
pub(super) mod subscribe;

use forebay_session::{SessionKey, Sessions};

use self::delivery::Delivery;
use self::kept::Keeping;
use self::queues::Queues;
use self::retained::Retained;
use crate::logs::Logs;
use crate::mail::Letters;
use crate::words::Feeds;

/// Sessions, and the receivers of their messages: subscribers, shares, retained messages, and the log that all of these write to. The methods are in
/// the modules of their subjects: `delivery`, `shares`, `queues`, `retained`, `confirm`, `kept`, `subscribe`. What they know of their shard they are lent
/// ([`Here`](crate::here::Here)).
pub(crate) struct Broker {
    pub(crate) sessions: Sessions,
    pub(crate) keeping: Keeping,
    /// The logs that the shard writes.
    pub(crate) logs: Logs,
    pub(crate) delivery: Delivery,
    pub(crate) retained: Retained,
    pub(crate) queues: Queues,
    /// Mail to other shards that is sent at the end of the turn.
    pub(crate) letters: Letters,
    /// Sessions that may have answers pending after this turn's completions.
    pub(crate) touched: Vec<SessionKey>,
}

impl Broker {
    /// The destinations of a message for `to`: with a `[broker]`, subscribers get it through its topics.
    pub(crate) fn feeds(&self, to: Feeds) -> Feeds {
        if self.retained.is_in_kafka() { to.by_route() } else { to }
    }
}
