//! Letters of brokers to other shards.

mod broker;
mod retained;

use std::collections::VecDeque;
use std::sync::Arc;

use forebay_mqtt::route::shares::{Share, ShareNumber};
use forebay_session::RecordPlace;

pub use self::broker::{Answered, HandedOver, KeptBy, Known, Marks, ToBroker};
pub use self::retained::{Copied, Copies, Expiring, RetainedOfShard};

/// A letter of a broker to another shard, by its receiver there.
#[derive(Debug)]
pub enum Letter {
    /// For its broker.
    Broker(ToBroker),
    /// For its readers of routes and shares.
    Readers(ToReaders),
}

/// A letter to what reads records for brokers.
#[derive(Debug)]
pub enum ToReaders {
    /// A shard has new slots. Their sessions have been given all records of `[broker]` below these places.
    Needs {
        /// The shard.
        by: usize,
        /// The number of its request.
        number: u64,
        /// One place for each partition that the logs name.
        needs: Arc<[RecordPlace]>,
    },
    /// The members of a share of several instances have changed; for its home.
    Share {
        /// The share.
        share: Arc<Share>,
        /// Whether members wait until it has a place.
        asks: bool,
    },
    /// Messages of a share that wait for members are other instances' now.
    ShareStopped {
        /// The share.
        share: ShareNumber,
        /// The shard that is its home.
        home: usize,
        /// The home's numbers for the partitions of their records.
        readers: Arc<[u32]>,
    },
    /// A share has its place now.
    SharePlaced,
}

/// Letters with their receivers, sent at the end of the turn, the oldest first.
pub type Letters = VecDeque<(usize, Letter)>;
