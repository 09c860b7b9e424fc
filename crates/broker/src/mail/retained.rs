//! Messages that Kafka retains for a shard of `[broker]`, as a letter brings them.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use forebay_session::{PartitionKey, RecordPlace};

/// `Copies` says whether copies of retained messages may be in another partition of their topic than that of their key, as it has got partitions since.
#[derive(Clone, Copy, Debug, Default)]
pub struct Copies {
    /// The number of partitions when the process began. 0: not known.
    pub partitions: usize,
    /// Whether there were copies in other partitions then.
    pub are_spread: bool,
}

impl Copies {
    /// The number of tombstones that end a retained message, with this number of partitions: one, or one for each partition that may have a copy.
    #[must_use]
    pub fn tombstones(self, partitions: usize) -> usize {
        let count = partitions.max(self.partitions);
        if self.are_spread || count > self.partitions && self.partitions > 0 { count.max(1) } else { 1 }
    }
}

/// `RetainedOfShard` is a shard's part of the topic, read when the process begins.
#[derive(Debug, Default)]
pub struct RetainedOfShard {
    /// Where the copies are.
    pub copies: Copies,
    /// The messages that the shard retains, as packets.
    pub packets: Vec<u8>,
    /// The age of each. Seconds.
    pub ages_s: Vec<u32>,
    /// Copies that expire, of records of partitions that the shard reads.
    pub expiring: Vec<Expiring>,
    /// The records that have a copy.
    pub copied: Copied,
    /// [`RetainedMessages::copied_to`](crate::sources::RetainedMessages::copied_to): the messages of all shards are of records below these offsets.
    pub copied_to: Arc<BTreeMap<PartitionKey, i64>>,
}

/// A copy that expires.
#[derive(Debug)]
pub struct Expiring {
    /// The MQTT topic.
    pub topic: String,
    /// The record that the copy was made of.
    pub place: RecordPlace,
    /// The time until then.
    pub left: Duration,
}

/// `Copied` names the records that have a copy in the topic, for the shard that reads their partitions.
#[derive(Debug, Default)]
pub struct Copied {
    /// The newest record of each MQTT topic that has a copy, by partition: a record that is not newer is not retained again. Records before the place from
    /// which the partition is read are left out; the rest are removed as reading passes them.
    pub newest: BTreeMap<PartitionKey, HashMap<String, i64>>,
    /// The beginning of each partition of [`FirstRead`](crate::sources::FirstRead), until its reading begins.
    pub to: BTreeMap<PartitionKey, i64>,
}

impl Copied {
    /// Whether Kafka has a copy of this record, or of a newer one of its partition and MQTT topic.
    pub fn has(&self, place: RecordPlace, topic: &str) -> bool {
        let newest = self.newest.get(&place.of).and_then(|of| of.get(topic));
        newest.is_some_and(|newest| place.offset <= *newest)
    }

    /// Forgets records below this offset: the partition is read from there on.
    pub fn forget(&mut self, of: &PartitionKey, below: i64) {
        let Some(topics) = self.newest.get_mut(of) else { return };
        topics.retain(|_, newest| *newest >= below);
        topics.shrink_to_fit();
        if topics.is_empty() {
            self.newest.remove(of);
        }
    }

    /// Forgets a partition: its log has other records, or an operator wants all of them sent again.
    pub fn remove(&mut self, of: &PartitionKey) {
        self.newest.remove(of);
    }

    /// Takes the offset below which all records of a partition have copies, if the group was new there.
    pub fn take_to(&mut self, of: &PartitionKey) -> Option<i64> {
        self.to.remove(of)
    }
}
