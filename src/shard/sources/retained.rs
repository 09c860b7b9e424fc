//! Retained messages in the topic of `[broker]`, for the shards that retain them.

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;

use super::records::{mapped_record, publish};
use super::{home, reads};
use crate::config::{Broker, Config};
use crate::kafka::consumer;
use crate::metrics::time::now_ms;
use crate::record::names::COPY_OF;
use crate::runtime::seam::WallMs;
use crate::session::{PartitionKey, RecordPlace};
use crate::shard::broker::delivery::put_packet;
use crate::shard::router;
use crate::source::{Mapping, Scratch};

/// Partitions in which the group had no place when the process began, each from the first record that may have no copy yet to its end then: these records are
/// read for retained messages alone.
pub type FirstRead = BTreeMap<PartitionKey, Range<i64>>;

/// The part of a partition, from its first offset to its end, that a group which is new there reads for retained messages. `copied_to`: its place in
/// [`RetainedMessages::copied_to`]; a partition without any copy begins at its end.
#[must_use]
pub fn first_read(all: Range<i64>, copied_to: Option<&i64>) -> Range<i64> {
    let least = all.start.max(all.end.saturating_sub(UNCOPIED_MAX));
    copied_to.map_or(all.end, |to| (*to).max(least).min(all.end))..all.end
}

/// The most records before the end of a partition of [`FirstRead`] that are read for retained messages.
const UNCOPIED_MAX: i64 = 10_000;

/// `RetainedOfShard` is a shard's part of the topic, read when the process begins.
#[derive(Debug, Default)]
pub struct RetainedOfShard {
    /// The messages that the shard retains, as packets.
    pub(in crate::shard) packets: Vec<u8>,
    pub(in crate::shard) copied: Copied,
}

/// `Copied` names the records that have a copy in the topic, for the shard that reads their partitions.
#[derive(Debug, Default)]
pub(in crate::shard) struct Copied {
    /// The newest record of each MQTT topic that has a copy, by partition: a record that is not newer is not retained again. Records before the place from
    /// which the partition is read are left out; the rest are removed as reading passes them.
    newest: BTreeMap<PartitionKey, HashMap<String, i64>>,
    /// The beginning of each partition of [`FirstRead`], until its reading begins.
    to: BTreeMap<PartitionKey, i64>,
}

impl Copied {
    /// Whether Kafka has a copy of this record, or of a newer one of its partition and MQTT topic.
    pub(super) fn has(&self, place: RecordPlace, topic: &str) -> bool {
        let newest = self.newest.get(&place.of).and_then(|of| of.get(topic));
        newest.is_some_and(|newest| place.offset <= *newest)
    }

    /// Forgets records below this offset: the partition is read from there on.
    pub(super) fn forget(&mut self, of: &PartitionKey, below: i64) {
        let Some(topics) = self.newest.get_mut(of) else { return };
        topics.retain(|_, newest| *newest >= below);
        topics.shrink_to_fit();
        if topics.is_empty() {
            self.newest.remove(of);
        }
    }

    /// Forgets a partition: its log has other records, or an operator wants all of them sent again.
    pub(super) fn remove(&mut self, of: &PartitionKey) {
        self.newest.remove(of);
    }

    /// Takes the offset below which all records of a partition have copies, if the group was new there.
    pub(super) fn take_to(&mut self, of: &PartitionKey) -> Option<i64> {
        self.to.remove(of)
    }
}

/// Makes messages of the records of the topic, in their order.
#[derive(Debug)]
pub struct RetainedMessages {
    topic: String,
    mapping: Mapping,
    scratch: Scratch,
    /// The newest record of each MQTT topic that has a copy.
    newest: HashMap<String, RecordPlace>,
    /// The shard of the membership that reads the routes.
    home: usize,
    shards: Vec<RetainedOfShard>,
}

impl RetainedMessages {
    /// An empty set for the records of the broker's topic.
    #[must_use]
    pub fn new(config: &Config, broker: &Broker) -> Self {
        Self {
            topic: broker.retained.clone(),
            mapping: Mapping::new(config, &broker.source_of_retained()),
            scratch: Scratch::default(),
            newest: HashMap::new(),
            home: config
                .sources
                .iter()
                .find(|source| source.is_of_broker)
                .map_or(0, |of| home(of, config.service.shards)),
            shards: std::iter::repeat_with(RetainedOfShard::default).take(config.service.shards).collect(),
        }
    }

    /// Takes a record. Records that cannot be a message, or have expired, are passed over, and so are copies of records older than the newest copied one of
    /// the MQTT topic: an instance that lagged has made them.
    pub fn take(&mut self, partition: i32, record: &consumer::Record<'_>) {
        let mapped = mapped_record(&self.topic, partition, record);
        let place = mapped.header(COPY_OF.as_bytes()).and_then(RecordPlace::of_text);
        if let (Some(place), Some(key)) = (place, record.key.and_then(|key| std::str::from_utf8(key).ok())) {
            let newest = self.newest.entry(key.to_owned()).or_insert(place);
            if newest.of == place.of && newest.offset > place.offset {
                return;
            }
            *newest = place;
        }
        if let Ok(message) = self.mapping.message(&mapped, WallMs(now_ms()), &mut self.scratch) {
            let shard = router::owner(message.topic, self.shards.len());
            put_packet(&publish(&message), &mut self.shards[shard].packets);
        }
    }

    /// The offset after the last copied record of each partition that has copies. Copies of a partition are made in its order, by all instances: from there to
    /// the end other instances may have copies to make.
    #[must_use]
    pub fn copied_to(&self) -> BTreeMap<PartitionKey, i64> {
        let mut copied_to = BTreeMap::new();
        for RecordPlace { of, offset } in self.newest.values() {
            let to = copied_to.entry(*of).or_insert(*offset + 1);
            *to = (*to).max(*offset + 1);
        }
        copied_to
    }

    /// The part of each shard, for [`crate::shard::mail::Mail::TakeRetained`].
    #[must_use]
    pub fn of_shards(self, first: &FirstRead) -> Vec<RetainedOfShard> {
        let Self { newest, home, mut shards, .. } = self;
        let reader = |of: &PartitionKey, shards: usize| reads(home, of.partition.cast_signed(), shards);
        for (of, read) in first {
            let shard = reader(of, shards.len());
            shards[shard].copied.to.insert(*of, read.start);
        }
        for (topic, RecordPlace { of, offset }) in newest {
            let shard = reader(&of, shards.len());
            shards[shard].copied.newest.entry(of).or_default().insert(topic, offset);
        }
        shards
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;
    use crate::mqtt::packet::Publish;
    use crate::record::{Builder, Row, Stamp, stamp};
    use crate::session::PartitionKey;
    use crate::shard::delivery::{packets, publish_of};

    const BROKER: &str = "[service]\nshards = 1\n[kafka.main]\nbootstrap = \"127.0.0.1:1\"\n[broker]\n";

    fn key(partition: u32) -> PartitionKey {
        PartitionKey { topic: u64::MAX, partition }
    }

    /// Takes these copies of messages of one topic, each with the record that it is a copy of.
    fn retained(copies: &[(Option<(u32, i64)>, &str)]) -> RetainedMessages {
        let config = config::parse(BROKER, "test").expect("a configuration");
        let mut retained = RetainedMessages::new(&config, config.broker.as_ref().expect("a broker"));
        for (of, payload) in copies {
            let place = of.map(|(partition, offset)| RecordPlace { of: key(partition), offset }.to_string());
            let headers = place.iter().map(|place| (COPY_OF.as_bytes(), place.as_bytes()));
            let row = Row { key: Some(b"a"), value: Some(payload.as_bytes()), headers, timestamp: WallMs(now_ms()) };
            let mut builder = Builder::new(Vec::new());
            builder.append(&row, row.measure());
            let mut batch = builder.close(None);
            stamp(&mut batch, Stamp { producer_id: -1, epoch: -1, sequence: -1 });
            let mut batches = consumer::Batches::new(batch, 0, Vec::new(), false);
            retained.take(0, &batches.take().expect("sound").expect("one"));
        }
        retained
    }

    /// The payloads of the messages that are retained then.
    fn kept(copies: &[(Option<(u32, i64)>, &str)]) -> Vec<String> {
        let all = retained(copies).of_shards(&FirstRead::new()).remove(0).packets;
        let payload = |publish: Publish<'_>| String::from_utf8_lossy(publish.payload).into_owned();
        packets(&all).filter_map(publish_of).map(payload).collect()
    }

    /// I7, N30: the order of copies does not matter.
    #[test]
    fn the_copy_of_an_older_record_does_not_count() {
        assert_eq!(kept(&[(Some((0, 3)), "3"), (Some((0, 5)), "5"), (Some((0, 4)), "4")]), ["3", "5"]);
        // For a copy from another partition, or one without a name, the last one counts.
        assert_eq!(kept(&[(Some((0, 5)), "5"), (Some((1, 2)), "2")]), ["5", "2"]);
        assert_eq!(kept(&[(Some((0, 5)), "5"), (None, "x")]), ["5", "x"]);
    }

    /// An instance that ends before it has read anything leaves these records to its next process: the group has not passed them.
    #[test]
    fn a_new_group_begins_after_the_last_copy() {
        for (copied, all, first) in [(5, 0..9, 6..9), (40, 50..60, 50..60), (3, 0..20_000, 10_000..20_000)] {
            let retained = retained(&[(Some((0, copied)), "a message")]);
            let copied_to = retained.copied_to();
            let read = [0, 1].map(|partition| first_read(all.clone(), copied_to.get(&key(partition))));
            assert_eq!(read, [first, all.end..all.end]);
        }
    }
}
