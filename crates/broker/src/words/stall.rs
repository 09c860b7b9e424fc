//! `Stall` is what a connection waits for that is left unread.

use forebay_kafka::producer::Full;
use forebay_mqtt::route::shares::ShareNumber;

/// The thing that is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stall {
    /// Memory of a producer.
    Memory(Wait),
    /// The log of a slot, or the memory of its producer.
    Slot(u16),
    /// The answers that one connection may have pending.
    Answers,
    /// The quantum of one connection.
    Quantum,
    /// The room for waiting messages of this shard's subscribers.
    Subscribers(usize),
    /// The room for waiting messages of topics with many subscribers.
    ManySubscribers,
    /// The place of a shared subscription, with several instances.
    Share(ShareNumber),
}

/// The room that a message waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wait {
    /// The cluster.
    pub cluster: usize,
    /// The thing that is full there.
    pub full: Full,
    /// The bytes that the message needs there.
    pub bytes: usize,
}
