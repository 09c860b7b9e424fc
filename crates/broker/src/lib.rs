//! The broker: the messages of a shard and their receivers, apart from connections and timers.
//!
//! | | |
//! |---|---|
//! | [`delivery`] | a message to its subscribers, on every shard |
//! | [`shares`] | shared subscriptions: the members of each shard, and the messages that wait for them |
//! | [`retained`] | retained messages, and how a new subscription is answered from them |
//! | [`queues`], [`confirm`] | messages that kept sessions get through a crash, and publishers that are answered when they are durable |
//! | [`given`] | how far the slots of `[broker]` have been given the partitions of routes |
//! | [`kept`], [`holds`] | sessions that survive a crash, and bytes held until they are on the disk |
//! | `letters` | what other shards send, and timers |
//! | `users` | users who were removed, and those with a bound on kept sessions |
//! | [`past`] | the past that a subscription asks for |
//! | [`remotes`] | copies for the remotes of bridges |
//! | [`stored`] | times of what is in the log |
//! | [`logs`], [`sorted`] | the logs that all of these write to, and which of their records are taken up |
//! | [`out`] | what the broker may ask of the shard's runtime |
//! | [`here`], [`numbers`], [`top`], [`raised`] | what the shard lends to each call: its place, its configuration, where to count and to tell |
//! | [`router`] | client id to owning shard |
//! | [`settings`] | settings of sessions, made of the configuration |
//! | [`mail`], [`words`] | letters between brokers, and words that the shard shares with its broker |
//!
//! The shard drives it: [`Broker::take_letter`], [`Broker::on_time`], and the methods of each part. It knows no connection but by its number, and of Kafka the
//! names of rows and records alone.

#![forbid(unsafe_code)]

pub mod confirm;
pub mod delivery;
pub mod given;
pub mod here;
pub mod holds;
pub mod kept;
mod letters;
pub mod logs;
pub mod mail;
pub mod numbers;
pub mod out;
pub mod past;
pub mod queues;
pub mod raised;
pub mod remotes;
pub mod retained;
pub mod router;
pub mod settings;
pub mod shares;
pub mod sorted;
pub mod stored;
pub mod subscribe;
pub mod top;
mod users;
pub mod words;

use std::sync::Arc;

use forebay_config::Config;
use forebay_guard::auth::Shares;
use forebay_mqtt::route::interest::Interest;
use forebay_session::{SessionKey, Sessions};

use self::delivery::Delivery;
use self::kept::Keeping;
use self::logs::Logs;
use self::mail::{Letter, Letters};
use self::queues::Queues;
use self::retained::Retained;
use self::words::Feeds;

/// Sessions, and the receivers of their messages: subscribers, shares, retained messages, and the log that all of these write to. The methods are in
/// the modules of their subjects: `delivery`, `shares`, `queues`, `retained`, `confirm`, `kept`, `subscribe`. What they know of their shard they are lent
/// ([`Here`](crate::here::Here)).
pub struct Broker {
    /// The sessions of this shard's clients.
    pub sessions: Sessions,
    /// Sessions as the log keeps them.
    pub keeping: Keeping,
    /// The logs that the shard writes.
    pub logs: Logs,
    /// Messages on their way to subscribers.
    pub delivery: Delivery,
    /// Retained messages, and replays of them.
    pub retained: Retained,
    /// Queues of kept sessions, and exchanges of QoS 2 with other shards.
    pub queues: Queues,
    /// Mail to other shards that is sent at the end of the turn.
    pub(crate) letters: Letters,
    /// Sessions that may have answers pending after this turn's completions.
    pub touched: Vec<SessionKey>,
}

impl Broker {
    /// The broker of the shard with this index, without sessions. `users`: shares of users with bounds. `shared`: the filters for which each shard of the process
    /// has subscribers, and its shared subscriptions.
    #[must_use]
    pub fn new(
        index: usize,
        config: &Config,
        users: Arc<Shares>,
        (interest, subscriptions): (Arc<Interest>, Arc<forebay_mqtt::route::shares::Shares>),
    ) -> Self {
        let queues = Queues::new(config);
        let mut delivery = Delivery::new((index, config.service.shards), interest, subscriptions, config.delivery);
        if config.has_instances() {
            delivery.shares.use_groups();
        }
        Self {
            sessions: Sessions::sharing(users),
            keeping: Keeping::new(settings::sessions(config), queues.entry_max()),
            logs: Logs::default(),
            delivery,
            retained: Retained::new(config),
            queues,
            letters: Letters::new(),
            touched: Vec::new(),
        }
    }

    /// Takes the letters to other shards, the oldest first.
    pub fn take_letters(&mut self) -> impl Iterator<Item = (usize, Letter)> {
        self.letters.drain(..)
    }

    /// The destinations of a message for `to`: with a `[broker]`, subscribers get it through its topics.
    pub fn feeds(&self, to: Feeds) -> Feeds {
        if self.retained.is_in_kafka() { to.by_route() } else { to }
    }
}
