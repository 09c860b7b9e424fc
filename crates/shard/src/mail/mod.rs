//! Letters between cores, and from ordinary threads to a core. Data crosses in no other way.
//!
//! Each room has an enum of its own for what it is sent, with what goes along; it knows no room.

mod door;
mod shard;
mod slots;
mod sources;
mod threads;

pub use self::door::ToDoor;
pub use self::shard::{Inspection, Reconfiguration, ToShard, WouldGo};
pub use self::slots::{TakenLog, ToGroup, ToSlots};
pub use self::sources::ToSources;
pub(crate) use self::sources::{Given, Place, Progress, Reached};
pub use self::threads::{ToCarrier, ToDeadLetters};

use std::collections::VecDeque;

use forebay_broker::mail::{Letter, ToBroker};
use forebay_dapr as dapr;
use forebay_fleet::membership::News;

/// A letter to a shard, by the room that it is for.
#[derive(Debug)]
pub enum Mail {
    /// For its broker.
    Broker(ToBroker),
    /// For its door.
    Door(ToDoor),
    /// For the client of an outgoing connection.
    Carrier(ToCarrier),
    /// For its dead letters.
    DeadLetters(ToDeadLetters),
    /// For its sources.
    Sources(ToSources),
    /// For its slots of `[broker]`.
    Slots(ToSlots),
    /// For the group of instances: to the first shard.
    Group(ToGroup),
    /// A request of the thread of bindings.
    Binding(dapr::Ask),
    /// For the shard as a whole.
    Shard(ToShard),
}

impl From<Letter> for Mail {
    fn from(letter: Letter) -> Self {
        match letter {
            Letter::Broker(letter) => Self::Broker(letter),
            Letter::Readers(letter) => Self::Sources(ToSources::Broker(letter)),
        }
    }
}

/// A notice of a shard to the thread that started it.
#[derive(Debug)]
pub enum Notice {
    /// The shard has taken up the contents of its spool, and waits for [`ToShard::Accept`].
    Started(usize),
    /// The shard runs, and waits for [`ToSlots::TakeOver`].
    Waiting(usize),
    /// The sessions of a new slot are taken up, and its clients are accepted.
    SlotTaken(u16),
    /// The log of a new slot cannot be taken up: nobody serves its clients while it is this process's.
    SlotUnreadable(u16),
    /// A slot is given up: this process no longer writes there.
    SlotReleased(u16),
    /// A slot's log is another process's, or was changed: its clients are disconnected, and the shard continues without it.
    SlotLost(u16),
    /// News of the group of instances, of the first shard.
    Group(News),
    /// The log of sessions is another process's, or was changed: the shard has ended.
    LogLost {
        /// The shard's index.
        shard: usize,
        /// The reason in words.
        why: String,
    },
    /// Kafka does not take logs of sessions for now, or takes them again.
    LogTrouble {
        /// The shard's index.
        shard: usize,
        /// The reason, and the cure, in words. `None`: it takes them.
        why: Option<String>,
    },
    /// The shard works with the configuration that it was sent with [`ToShard::Reconfigure`].
    Reconfigured(usize),
    /// The shard no longer reads any source, as requested by [`ToShard::EndSources`].
    SourcesOver(usize),
    /// The shard cannot start, and has ended.
    Failed {
        /// The shard's index.
        shard: usize,
        /// The reason, and the cure, in words.
        why: String,
    },
    /// The shard has drained, or its grace is over.
    Drained {
        /// The shard's index.
        shard: usize,
        /// Messages that Kafka has not confirmed. Their publishers were not answered (or asked for `received`).
        rows_left: u64,
        /// Messages that Kafka has not confirmed and that the spool keeps for the next process.
        rows_kept: u64,
        /// Connections that were still open.
        connections_left: usize,
    },
}

/// Letters to other shards, sent at the end of the turn, or left as a mailbox had no room.
pub(super) type Letters = VecDeque<(usize, Mail)>;
