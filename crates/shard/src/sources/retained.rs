//! Retained messages in the topic of `[broker]`, for the shards that retain them.

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use forebay_broker::delivery::put_packet;
use forebay_broker::mail::{Copies, Expiring, RetainedOfShard};
use forebay_broker::router;

use super::records::{mapped_record, publish};
use super::{home, reads};
use forebay_config::{Broker, Config};
use forebay_kafka::consumer;
use forebay_metrics::time::now_ms;
use forebay_mqtt::packet::{Publish, QoS};
use forebay_mqtt::property::Properties;
use forebay_record::murmur2;
use forebay_record::names::COPY_OF;
use forebay_runtime::seam::WallMs;
use forebay_session::{PartitionKey, RecordPlace};
use forebay_source::{Mapping, Reason, Scratch};

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

/// The newest copy of an MQTT topic so far.
#[derive(Debug)]
struct Newest {
    /// The record that the newest copy with a name is of.
    place: Option<RecordPlace>,
    /// The partition that the copy is in, and its time.
    partition: i32,
    timestamp: i64,
    /// The time until it expires, if it does.
    left: Option<Duration>,
}

impl Newest {
    /// Whether a copy that is read later is older all the same.
    fn is_newer_than(&self, later: &Self) -> bool {
        match (&self.place, &later.place) {
            (Some(newest), Some(place)) if newest.of == place.of => newest.offset > place.offset,
            _ => self.partition != later.partition && self.timestamp > later.timestamp,
        }
    }
}

/// Makes messages of the records of the topic, in their order.
#[derive(Debug)]
pub struct RetainedMessages {
    topic: String,
    mapping: Mapping,
    scratch: Scratch,
    /// The newest copy of each MQTT topic.
    newest: HashMap<String, Newest>,
    copies: Copies,
    expire_after_s: Option<u32>,
    /// The shard of the membership that reads the routes.
    home: usize,
    shards: Vec<RetainedOfShard>,
}

impl RetainedMessages {
    /// An empty set for the records of the broker's topic.
    #[must_use]
    pub fn new(config: &Config, broker: &Broker) -> Self {
        Self {
            copies: Copies::default(),
            expire_after_s: config.retained.expire_after_s,
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

    /// Does the same for a topic with this many partitions.
    #[must_use]
    pub fn of_partitions(mut self, partitions: usize) -> Self {
        self.copies.partitions = partitions;
        self
    }

    /// Takes a record. Records that cannot be a message, or have expired, are passed over, and so are copies of records older than the newest copied one of
    /// the MQTT topic: an instance that lagged has made them, or they are in the partition that was the key's before the topic got more. Copies of records of
    /// different partitions are of an age by their time.
    pub fn take(&mut self, partition: i32, record: &consumer::Record<'_>) {
        let mapped = mapped_record(&self.topic, partition, record);
        let place = mapped.header(COPY_OF.as_bytes()).and_then(RecordPlace::of_text);
        // The tombstones of a topic that has got partitions are in each of them.
        if let (Some(key), Some(_)) = (record.key, record.value) {
            let own = murmur2::partition(key, self.copies.partitions.max(1));
            self.copies.are_spread |= self.copies.partitions > 0 && usize::try_from(partition) != Ok(own);
        }
        if let Some(key) = record.key.and_then(|key| std::str::from_utf8(key).ok()) {
            let this = Newest { place, partition, timestamp: record.timestamp, left: None };
            match self.newest.get_mut(key) {
                Some(newest) if newest.is_newer_than(&this) => return,
                Some(newest) => *newest = Newest { place: place.or(newest.place), ..this },
                None => _ = self.newest.insert(key.to_owned(), this),
            }
        }
        let now_ms = now_ms();
        let age_ms = if record.timestamp < 0 { 0 } else { now_ms.saturating_sub(record.timestamp).max(0) };
        let most_ms = self.expire_after_s.map(|seconds| i64::from(seconds) * 1_000 - age_ms);
        let (left_ms, message) = match self.mapping.message(&mapped, WallMs(now_ms), &mut self.scratch) {
            Ok(message) => {
                let own_ms = message.properties.message_expiry_interval_s().map(|seconds| i64::from(seconds) * 1_000);
                (own_ms.into_iter().chain(most_ms).min(), Some(message))
            }
            Err(Reason::Expired) => (Some(0), None),
            Err(_) => return,
        };
        let key = record.key.and_then(|key| std::str::from_utf8(key).ok());
        if record.value.is_some()
            && let Some(newest) = key.and_then(|key| self.newest.get_mut(key))
        {
            newest.left = left_ms.map(|left_ms| Duration::from_millis(u64::try_from(left_ms).unwrap_or_default()));
        }
        let is_over = left_ms.is_some_and(|left_ms| left_ms <= 0);
        let Some(topic) = message.as_ref().map(|message| message.topic).or(key.filter(|_| is_over)) else { return };
        let home = router::owner(topic, self.shards.len());
        let shard = &mut self.shards[home];
        // One that has expired ends an earlier one.
        let (properties, payload) = (Properties::EMPTY, &[][..]);
        let over = Publish { dup: false, qos: QoS::AtMostOnce, retain: true, topic, packet_id: 0, properties, payload };
        let publish = message.as_ref().filter(|_| !is_over).map_or(over, publish);
        put_packet(&publish, &mut shard.packets);
        shard.ages_s.push(u32::try_from(age_ms / 1_000).unwrap_or(u32::MAX));
    }

    /// The offset after the last copied record of each partition that has copies. Copies of a partition are made in its order, by all instances: from there to
    /// the end other instances may have copies to make.
    #[must_use]
    pub fn copied_to(&self) -> BTreeMap<PartitionKey, i64> {
        let mut copied_to = BTreeMap::new();
        for RecordPlace { of, offset } in self.newest.values().filter_map(|newest| newest.place.as_ref()) {
            let to = copied_to.entry(*of).or_insert(*offset + 1);
            *to = (*to).max(*offset + 1);
        }
        copied_to
    }

    /// The part of each shard, for [`crate::mail::ToShard::TakeRetained`].
    #[must_use]
    pub fn of_shards(self, first: &FirstRead) -> Vec<RetainedOfShard> {
        let copied_to = Arc::new(self.copied_to());
        let Self { newest, home, mut shards, copies, .. } = self;
        for shard in &mut shards {
            (shard.copies, shard.copied_to) = (copies, Arc::clone(&copied_to));
        }
        let reader = |of: &PartitionKey, shards: usize| reads(home, of.partition.cast_signed(), shards);
        for (of, read) in first {
            let shard = reader(of, shards.len());
            shards[shard].copied.to.insert(*of, read.start);
        }
        for (topic, Newest { place, left, .. }) in newest {
            let Some(place @ RecordPlace { of, offset }) = place else { continue };
            let shard = reader(&of, shards.len());
            let expiring = left.map(|left| Expiring { topic: topic.clone(), place, left });
            shards[shard].expiring.extend(expiring);
            shards[shard].copied.newest.entry(of).or_default().insert(topic, offset);
        }
        shards
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use forebay_broker::delivery::{packets, publish_of};
    use forebay_config as config;
    use forebay_record::{Builder, Row, Stamp, stamp};
    use forebay_session::PartitionKey;

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

    /// The topic has got partitions: a copy may be in one that is not its key's any more.
    #[test]
    fn finding_q61_the_newest_copy_counts_in_whichever_partition() {
        let config = config::parse(BROKER, "test").expect("a configuration");
        let broker = config.broker.as_ref().expect("a broker");
        let own = i32::try_from(murmur2::partition(b"a", 4)).expect("small");
        let other = (own + 1) % 4;
        let (now, text) = (now_ms(), |of: u32, offset| RecordPlace { of: key(of), offset }.to_string());
        let read = |copies: &[(i32, String, &str, i64)]| {
            let mut retained = RetainedMessages::new(&config, broker).of_partitions(4);
            for (partition, place, payload, ago_ms) in copies {
                let headers = std::iter::once((COPY_OF.as_bytes(), place.as_bytes()));
                let value = (!payload.is_empty()).then_some(payload.as_bytes());
                let row = Row { key: Some(b"a"), value, headers, timestamp: WallMs(now - ago_ms) };
                let mut builder = Builder::new(Vec::new());
                builder.append(&row, row.measure());
                let mut batch = builder.close(None);
                stamp(&mut batch, Stamp { producer_id: -1, epoch: -1, sequence: -1 });
                let mut batches = consumer::Batches::new(batch, 0, Vec::new(), false);
                retained.take(*partition, &batches.take().expect("sound").expect("one"));
            }
            let shard = retained.of_shards(&FirstRead::new()).remove(0);
            let payload = |publish: Publish<'_>| String::from_utf8_lossy(publish.payload).into_owned();
            let last = packets(&shard.packets).filter_map(publish_of).map(payload).last();
            (last.unwrap_or_default(), shard.copies.are_spread)
        };
        assert_eq!(read(&[(own, text(0, 5), "5", 9)]), ("5".to_owned(), false));
        assert_eq!(read(&[(own, text(0, 5), "5", 9), (other, text(0, 3), "3", 1)]), ("5".to_owned(), true));
        assert_eq!(read(&[(own, text(1, 2), "new", 1), (other, text(0, 3), "old", 9)]), ("new".to_owned(), true));
        assert_eq!(read(&[(other, text(0, 3), "old", 9), (own, text(1, 2), "new", 1)]), ("new".to_owned(), true));
        // Tombstones are in each partition, and are no reason for more of them.
        assert_eq!(read(&[(own, text(0, 5), "", 9), (other, text(0, 5), "", 9)]), (String::new(), false));
    }
}
