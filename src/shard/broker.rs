//! What a shard has of messages, and who gets them, apart from connections and timers.

use crate::metrics::journal::Teller;
use crate::session::{SessionKey, Sessions};

use super::Surroundings;
use super::delivery::Delivery;
use super::kept::Keeping;
use super::mail::Letters;
use super::numbers::Numbers;
use super::outlets::Outlets;
use super::queues::Queues;
use super::retained::Retained;

/// Sessions, and what takes their messages: subscribers, shares, retained messages, sinks, and the log that all of these write to. Its methods
/// stand with what they are about: `delivery`, `shares`, `queues`, `retained`, `confirm`, `kept`, `subscribe`.
pub(super) struct Broker {
    pub(super) index: usize,
    pub(super) shards: usize,
    pub(super) around: Surroundings,
    pub(super) sessions: Sessions,
    pub(super) session_settings: crate::session::Settings,
    pub(super) keeping: Keeping,
    pub(super) outlets: Outlets,
    pub(super) delivery: Delivery,
    pub(super) retained: Retained,
    pub(super) queues: Queues,
    /// Mail to other shards that is sent at the end of the turn.
    pub(super) letters: Letters,
    /// Sessions that may owe answers after this turn's completions.
    pub(super) touched: Vec<SessionKey>,
    pub(super) numbers: Numbers,
    pub(super) teller: Teller,
}
