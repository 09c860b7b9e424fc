//! Letters about slots of `[broker]`, and to the group of instances that share them.

use std::collections::BTreeMap;
use std::sync::Arc;

use forebay_fleet::membership::SlotSet;
use forebay_fleet::replica::Taken;
use forebay_runtime::seam::Monotonic;
use forebay_session::PartitionKey;

use crate::kafka_disk::Parts;

/// A letter about slots of this shard.
#[derive(Debug)]
pub enum ToSlots {
    /// The logs of the slots of this shard, which the process has taken over; or, while it serves others, of more slots: [`super::Notice::SlotTaken`].
    TakeOver(Vec<TakenLog>),
    /// A slot leaves this shard: [`super::Notice::SlotReleased`].
    Release(u16),
    /// Other instances have these slots already: those that are here are dropped.
    Drop(SlotSet),
    /// The same, from the shard that hears of the group, at this time. The letter may be late: slots that were taken up since then stay.
    Lost {
        /// The slots.
        slots: SlotSet,
        /// The time.
        at: Monotonic,
        /// The number of the loss ([`forebay_fleet::link::Peers::losses`]): until this letter the shard is silent.
        loss: u64,
    },
    /// The committed offsets of the partitions of routes, before [`ToSlots::TakeOver`].
    RoutesBegin(Arc<BTreeMap<PartitionKey, i64>>),
}

/// The log of a slot that this process has taken over, for its shard.
#[derive(Debug)]
pub struct TakenLog {
    /// The state from which its replica continues.
    pub taken: Taken,
    /// The log's bytes in Kafka.
    pub parts: Parts,
    /// The slot, which is also the partition.
    pub slot: u16,
}

/// A letter to the group of instances.
#[derive(Debug)]
pub enum ToGroup {
    /// These slots are no longer served here.
    Released(SlotSet),
    /// Other instances get all slots: the process is about to end.
    GiveUp,
    /// Other instances get all slots, and the process continues (true); or this instance takes part again, if it was drained.
    Drain(bool),
    /// This instance leaves the group: [`forebay_fleet::membership::News::Left`].
    Leave,
    /// Another instance's process is gone: connections to it are refused.
    PeerIsGone {
        /// The instance's name.
        name: Arc<str>,
        /// The incarnation of the process in the table.
        incarnation: u128,
    },
}
