//! Logs of sessions that Kafka does not take: what is reported of them, and when their topic counts as deleted.

use std::collections::BTreeMap;
use std::time::Duration;

use forebay_broker::words::second;
use forebay_fleet::replica::{BATCH_BYTES_MAX, Lost};
use forebay_kafka::types::TopicMetadata;
use forebay_metrics::event::{Field, Kind};
use forebay_runtime::seam::Monotonic;

use super::Core;
use super::kafka_disk::KafkaDisk;
use super::mail::Notice;
use super::ring::Ring;

/// The time for which an election, or brokers that restart, may hold a log up before that is reported.
const TOLD_AFTER: Duration = Duration::from_secs(10);
/// The time for which brokers may not know the topic before it counts as deleted: a broker that has just started does not know it yet.
const GONE_AFTER: Duration = Duration::from_secs(20);
/// The interval at which logs are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// UNKNOWN_TOPIC_OR_PARTITION, and what newer brokers answer for the id of a topic that was deleted.
const UNKNOWN_TOPIC: i16 = 3;
const UNKNOWN_TOPIC_ID: i16 = 100;

/// The reason why Kafka does not take a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Why {
    NoLeader,
    /// A Kafka error code, for each attempt.
    Refused(i16),
}

impl Why {
    /// The reason in words, with the command that removes it.
    fn text(self, topic: &str) -> String {
        let alter = format!("kafka-configs.sh --alter --entity-type topics --entity-name {topic} --add-config");
        match self {
            Self::NoLeader => "Kafka has no leader for it".to_owned(),
            Self::Refused(UNKNOWN_TOPIC | UNKNOWN_TOPIC_ID) => "Kafka does not know the topic".to_owned(),
            Self::Refused(error @ (10 | 18)) => format!(
                "Kafka refuses batches of up to {BATCH_BYTES_MAX} bytes as too large (error {error}): {alter} max.message.bytes={}",
                1 << 20
            ),
            Self::Refused(error @ (19 | 20)) => {
                format!("fewer replicas are in sync than min.insync.replicas (error {error})")
            }
            Self::Refused(error @ (29 | 31)) => format!(
                "this client may not write it (error {error}): kafka-acls.sh --add --allow-principal User:… --operation Write --topic {topic}"
            ),
            Self::Refused(error @ 53) => format!(
                "this client may not write under its transactional ids (error {error}): kafka-acls.sh --add --allow-principal User:… \
                 --operation Write --operation Describe --transactional-id forebay- --resource-pattern-type prefixed"
            ),
            Self::Refused(error) => format!("Kafka refuses what is written to it (error {error})"),
        }
    }
}

/// Logs that Kafka does not take, with the reasons.
#[derive(Debug, Default)]
pub(super) struct Watch {
    /// The time from which on no broker has known the topic.
    unknown_since: Option<Monotonic>,
    /// The time from which on the partition of each of these slots has had no leader.
    leaderless: BTreeMap<u16, Monotonic>,
    told: Option<Why>,
    look_at: Monotonic,
}

impl Watch {
    /// Takes metadata of the topic. Returns the reason why its logs are lost, if they are.
    pub(super) fn hear(
        &mut self,
        topic: &TopicMetadata,
        disks: &BTreeMap<u16, KafkaDisk>,
        now: Monotonic,
    ) -> Option<Lost> {
        match topic.error {
            0 => {
                self.unknown_since = None;
                let is_led = |slot: u16| topic.leaders.get(usize::from(slot)).copied().flatten().is_some();
                let leaderless = disks.keys().filter(|slot| !is_led(**slot));
                self.leaderless =
                    leaderless.map(|slot| (*slot, self.leaderless.get(slot).copied().unwrap_or(now))).collect();
                None
            }
            UNKNOWN_TOPIC => {
                let since = *self.unknown_since.get_or_insert(now);
                (since.after(GONE_AFTER) <= now).then_some(Lost::Gone)
            }
            _ => None,
        }
    }

    /// The time of the next look, if nothing else happens. `NEVER`: there is no reason for one.
    pub(super) fn due(&self) -> Monotonic {
        if self.told.is_none() && self.leaderless.is_empty() { Monotonic::NEVER } else { self.look_at }
    }

    /// The first slot with a log that Kafka has not taken for a while, the number of such slots, and why.
    fn stuck(&self, disks: &BTreeMap<u16, KafkaDisk>, now: Monotonic) -> Option<(u16, usize, Why)> {
        let is_long = |since: Monotonic| since.after(TOLD_AFTER) <= now;
        let why = |slot: u16, disk: &KafkaDisk| {
            if self.leaderless.get(&slot).is_some_and(|since| is_long(*since)) {
                return Some(Why::NoLeader);
            }
            let of_kafka = disk.numbers();
            let error = of_kafka.last_error.filter(|error| *error != 0)?;
            of_kafka.under_way_since.filter(|since| is_long(*since)).map(|_| Why::Refused(error))
        };
        let mut stuck = disks.iter().filter_map(|(slot, disk)| Some((*slot, why(*slot, disk)?)));
        let (slot, why) = stuck.next()?;
        Some((slot, 1 + stuck.count(), why))
    }
}

impl Core {
    /// Reports logs that Kafka does not take, and that it takes them again.
    pub(super) fn look_for_trouble(&mut self, io: &mut Ring<'_>) {
        let now = io.now();
        let Some(logs) = self.log.kafka.as_mut().filter(|logs| logs.watch.look_at <= now) else { return };
        logs.watch.look_at = now.after(LOOK_EVERY);
        logs.watch.leaderless.retain(|slot, _| logs.disks.contains_key(slot));
        let stuck = logs.watch.stuck(&logs.disks, now);
        let is_new = stuck.map(|(_, _, why)| why) != logs.watch.told;
        logs.watch.told = stuck.map(|(_, _, why)| why);
        let topic = self.here.config.broker.as_ref().map_or("", |broker| &broker.sessions);
        let why = stuck.filter(|_| is_new).map(|(slot, count, why)| {
            let others = if count > 1 { format!(" and {} others", count - 1) } else { String::new() };
            (slot, format!("topic {topic}, partition {slot}{others}: {}", why.text(topic)))
        });
        let teller = &mut self.here.teller;
        match &why {
            _ if !is_new => return,
            Some((slot, why)) => teller.tell(Kind::SessionLogTrouble, second(now), |event| {
                event.with(Field::Partition, u64::from(*slot)).with(Field::Reason, why.as_str())
            }),
            None => teller.tell(Kind::SessionLogTroubleOver, second(now), |event| event.with(Field::Topic, topic)),
        }
        let why = why.map(|(_, why)| why);
        let _ = self.around.notices.send(Notice::LogTrouble { shard: self.here.index, why });
    }
}
