//! Partitions of `[broker]`'s routes and the slots of the shards. Reading goes back to the positions of new slots, and shards are notified how a partition is
//! read from a place ([`forebay_broker::given`]).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use xxhash_rust::xxh3::Xxh3Default;

use forebay_broker::Broker;
use forebay_broker::given::{Reads, Retains, RouteRecord};
use forebay_broker::here::Here;

use super::super::mail::Place;
use super::reader::{Pause, Reader};
use super::window::Window;
use super::{BOARD_EVERY, Sources};
use crate::Core;
use forebay_config::Config;
use forebay_kafka::consumer::Start;
use forebay_runtime::seam::Monotonic;
use forebay_session::{PartitionKey, RecordPlace};

/// The shortest interval between reports to shards on the progress of a partition.
const TELLS_EVERY: Duration = BOARD_EVERY.saturating_mul(2);

/// State of a route's partition that other sources' partitions do not have.
#[derive(Debug)]
pub(super) struct OfRoute {
    key: PartitionKey,
    /// The topic, by its index among those of the source.
    topic: u16,
    /// The offset below which records were read before: they are only for new slots.
    again_below: i64,
    /// The offset below which retained messages of records are in memory. It is below `again_below` where the group is new, and above it where an earlier reader
    /// was further on than the group.
    kept_below: i64,
    /// The offset below which retained messages of records are in Kafka.
    copied_below: i64,
    /// The offset last reported to shards.
    told: i64,
    tell_at: Monotonic,
    /// Whether the partition is read again for all slots.
    is_anew: bool,
}

impl OfRoute {
    /// The description of a record for the broker.
    pub(super) fn record(&self, offset: i64) -> RouteRecord {
        let retains = match offset {
            _ if offset < self.copied_below => Retains::Nothing,
            _ if offset < self.kept_below => Retains::Copy,
            _ => Retains::Message,
        };
        RouteRecord { place: self.place(offset), topic: self.topic, is_again: offset < self.again_below, retains }
    }

    fn place(&self, offset: i64) -> RecordPlace {
        RecordPlace { of: self.key, offset }
    }

    /// Notes that the log has other records at the next place than before, or that an operator wants them sent again.
    pub(super) fn is_wanted_anew(&mut self) {
        self.is_anew = true;
    }
}

/// The places from which partitions of routes are read.
#[derive(Debug, Default)]
pub(super) struct Needs {
    /// The offset that new slots of any shard need in each partition, until it is read from there. There are at most as many as positions in the logs.
    all: BTreeMap<PartitionKey, i64>,
    /// Whether some were added since they were last handled.
    are_new: bool,
    /// Shards that have reported their needs, as bits. Nothing is read before all have done so.
    shards: u64,
    /// The offsets of stopped readers; at first the committed offsets when the process began (0: the group had none in a partition that was added to its
    /// topic). The group's may be higher: a stalled process had the partition, and committed records for which it had no sessions.
    left: BTreeMap<PartitionKey, Left>,
}

/// The place at which the next reader of a partition begins at the latest.
#[derive(Clone, Copy, Debug)]
struct Left {
    offset: i64,
    /// Whether a reader of this process has read up to there.
    is_read: bool,
}

impl Needs {
    /// Notes the offset at which a reader stops, or the target of a pending move.
    pub(super) fn leaves(&mut self, reader: &Reader) {
        if let (Some(of), Some(next)) = (reader.of_route.as_ref().filter(|_| !reader.is_sought), reader.next()) {
            self.left.insert(of.key, Left { offset: next, is_read: true });
        }
    }

    fn are_known(&self, shards: usize) -> bool {
        self.shards.count_ones() as usize >= shards
    }
}

/// The key of a route's partition: the hash of its topic's name and id, and its number.
#[must_use]
pub fn partition_key(name: &str, id: u128, partition: i32) -> PartitionKey {
    let mut hash = Xxh3Default::new();
    hash.update(&id.to_be_bytes());
    hash.update(name.as_bytes());
    PartitionKey { topic: hash.digest(), partition: u32::try_from(partition).unwrap_or(0) }
}

impl Reader {
    /// The offset of the next record to take up.
    fn next(&self) -> Option<i64> {
        self.window.as_ref().map(Window::next_offset)
    }
}

impl Sources {
    /// The time of the next progress report to shards. A reader that cannot report now, because its place is being found or it stops, does so in a later
    /// turn.
    pub(super) fn next_tell(&self, now: Monotonic) -> Monotonic {
        let of_routes = self.readers.values().filter_map(|reader| Some((reader.of_route.as_ref()?, reader.next()?)));
        of_routes
            .filter(|(of, next)| *next > of.told && of.tell_at > now)
            .map(|(of, _)| of.tell_at)
            .min()
            .unwrap_or(Monotonic::NEVER)
    }

    /// Begins partitions of routes, has those read again that slots need, and reports the progress of the others to shards.
    pub(super) fn step_routes(&mut self, broker: &mut Broker, here: &Here, config: &Config, now: Monotonic) {
        let rules = here.rules;
        let Self { readers, consumers, needs, copied, report_at, .. } = self;
        let has_news = std::mem::take(&mut needs.are_new);
        let may_begin = needs.are_known(config.service.shards);
        for (id, reader) in readers {
            let Some(topic) = reader.of_broker else { continue };
            if reader.is_stopping() || reader.pause == Some(Pause::Taken) || reader.is_sought {
                continue;
            }
            let rests = |of: &OfRoute| !has_news && !of.is_anew && now < of.tell_at;
            if reader.of_route.as_ref().is_some_and(rests) {
                continue;
            }
            let consumer = &mut consumers[reader.cluster];
            let Some(topic_id) = consumer.topic_id(&reader.topic) else { continue };
            let key = partition_key(&reader.topic, topic_id, reader.partition);
            if reader.of_route.is_none() && !may_begin {
                continue;
            }
            let is_new = reader.of_route.as_ref().is_none_or(|of| of.key != key);
            let left = if is_new { needs.left.remove(&key) } else { None };
            let (next, needed) =
                (reader.next().into_iter().chain(left.map(|left| left.offset)).min(), needs.all.remove(&key));
            let known = reader.of_route.as_mut().filter(|_| !is_new);
            if let (Some(of), Some(next)) = (known, next) {
                if std::mem::take(&mut of.is_anew) {
                    (of.again_below, of.kept_below, of.copied_below, of.told) = (i64::MIN, i64::MIN, i64::MIN, next);
                    broker.read_partition(here, of.place(next), Reads::Anew);
                    copied.remove(&key);
                }
                if consumer.has_read_all(*id) {
                    // A copy of a later record stems from a record that the log has lost.
                    copied.remove(&key);
                } else {
                    copied.forget(&key, next);
                }
                if needed.is_none_or(|needed| needed >= next) {
                    of.tell_at = now.after(TELLS_EVERY);
                    if next > of.told || has_news || needed.is_some() {
                        of.told = next;
                        broker.read_partition(here, of.place(next), Reads::On);
                    }
                    continue;
                }
            }
            let copied_to = if is_new { copied.take_to(&key) } else { None };
            let Some(from) = rules.reads_from(next, needed.into_iter().chain(copied_to).min()) else { continue };
            let low = reader.window.as_ref().map_or(i64::MIN, |window| window.low(rules).offset);
            let low = low.min(next.unwrap_or(i64::MIN)).min(copied_to.unwrap_or(i64::MAX));
            if reader.pause == Some(Pause::Start) {
                reader.resumes(consumer, *id);
            }
            if reader.next() != Some(from) {
                consumer.seek(*id, Start::Offset { offset: from, leader_epoch: -1 });
                reader.resumes(consumer, *id);
                let from = Place { offset: from, leader_epoch: -1 };
                match reader.window.as_mut().filter(|_| !is_new) {
                    Some(window) => window.reads_again(from),
                    None => reader.goes_to(from),
                }
                reader.report_at = now;
                *report_at = now;
            }
            // A group that is new has committed the first record that may have no copy: clients get the records from the end on.
            let end = left.filter(|_| copied_to.is_some()).map(|left| left.offset);
            let again_below = end.or(next).unwrap_or(i64::MIN);
            // The memory has the retained messages of what an earlier reader took up, however low the group is: they are not retained once more, as no client gets
            // them live again.
            let read_below = left.filter(|left| left.is_read).map_or(i64::MIN, |left| left.offset);
            let kept_below = copied_to.map_or(again_below.max(read_below), |to| to.min(again_below));
            let before = reader.of_route.as_ref().filter(|_| !is_new);
            let of = OfRoute {
                key,
                topic,
                again_below: before.map_or(again_below, |before| before.again_below.max(again_below)),
                kept_below: before.map_or(kept_below, |before| before.kept_below.max(kept_below)),
                copied_below: before.map_or(low, |before| before.copied_below.max(low)),
                told: from,
                tell_at: now.after(TELLS_EVERY),
                is_anew: false,
            };
            broker.read_partition(here, of.place(from), Reads::Again(of.again_below));
            reader.of_route = Some(of);
        }
    }
}

impl Core {
    /// Takes the committed offsets of the partitions of routes.
    pub(crate) fn routes_begin(&mut self, begins: Arc<BTreeMap<PartitionKey, i64>>) {
        let left = begins.iter().map(|(key, offset)| (*key, Left { offset: *offset, is_read: false }));
        self.sources.needs.left = left.collect();
        self.broker.routes_begin(begins);
    }

    /// Takes the places that a shard's new slots need: partitions that are further on go back.
    pub(super) fn slots_need(&mut self, (by, number): (usize, u64), needed: &[RecordPlace], now: Monotonic) {
        let config = Arc::clone(&self.here.config);
        for RecordPlace { of, offset } in needed {
            let lowest = self.sources.needs.all.entry(*of).or_insert(*offset);
            *lowest = (*lowest).min(*offset);
        }
        self.sources.needs.are_new = true;
        self.sources.needs.shards |= 1 << by;
        self.broker.has_asked(by, number);
        self.sources.step_routes(&mut self.broker, &self.here, &config, now);
    }
}
