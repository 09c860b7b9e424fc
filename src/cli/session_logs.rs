//! The logs of sessions of an instance with `[broker]`, one for each shard, before the shards have them. They are partitions of one topic; the first
//! partition says which of them count, as the manifest of a spool says how many directories do.

use crate::config::{Broker, Cluster, Config};
use crate::limits::SHARDS_MAX;
use crate::metrics::event::{Event, Field, Kind};
use crate::metrics::journal::Journal;
use crate::replica::{Replica, Taken};
use crate::shard::kafka_disk::Parts;
use crate::shard::session_log::TakenLog;

use super::session_log::{self, Wanted};

/// The partition of the manifest.
const MANIFEST: u16 = 0;
/// The logs of one set; a change of the number of shards writes another set.
const SET: u16 = SHARDS_MAX as u16;
/// Partitions of the topic: the manifest and two sets.
const PARTITIONS: u16 = 1 + 2 * SET;

/// Which logs count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Manifest {
    /// The first of them.
    first: u16,
    /// How many there are: shards of the instance.
    shards: u16,
}

impl Manifest {
    const VERSION: u8 = 1;

    /// As bytes: version u8, first u16, shards u16, big-endian.
    fn encode(self) -> [u8; 5] {
        let ([a, b], [c, d]) = (self.first.to_be_bytes(), self.shards.to_be_bytes());
        [Self::VERSION, a, b, c, d]
    }

    /// # Errors
    /// In words.
    fn decode(note: &[u8]) -> Result<Self, String> {
        match *note {
            [Self::VERSION, a, b, c, d] => {
                let (first, shards) = (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
                let is_set = first == 1 || first == 1 + SET;
                if is_set && (1..=SET).contains(&shards) { Ok(Self { first, shards }) } else { Err(SENSELESS.into()) }
            }
            [version, ..] if version != Self::VERSION => {
                Err(format!("its format is version {version}, which this version of Forebay does not read"))
            }
            _ => Err(SENSELESS.into()),
        }
    }
}

const SENSELESS: &str = "its first partition does not say which logs there are";

/// Makes the topic if it is missing, and looks whether it is what the logs need.
///
/// # Errors
/// What is in the way, in words. It may pass: the topic is being created.
pub(super) fn prepare(cluster: &Cluster, broker: &Broker) -> Result<(), String> {
    let Broker { sessions, replicas, create_topics, .. } = broker;
    let told = session_log::prepare_topic(cluster, sessions, PARTITIONS, *replicas, *create_topics)?;
    told.iter().for_each(|told| tracing::warn!("{told}"));
    Ok(())
}

/// Takes over the log of each shard.
///
/// # Errors
/// What is in the way, in words. It may pass.
pub(super) fn take_over(config: &Config, broker: &Broker, journal: &Journal) -> Result<Vec<TakenLog>, String> {
    let of = Logs { cluster: &config.clusters[broker.cluster], broker };
    let shards = u16::try_from(config.service.shards).unwrap_or(SET);
    let (taken, parts) = of.take(MANIFEST)?;
    let manifest = match parts.note() {
        Some(note) => Manifest::decode(note).map_err(|why| format!("topic {}: {why}", broker.sessions))?,
        None => of.write_manifest(taken, Manifest { first: 1, shards })?,
    };
    if manifest.shards != shards {
        return Err(format!(
            "topic {} has the sessions of {} shards, and there are {shards}: set service.shards = {}",
            broker.sessions, manifest.shards, manifest.shards
        ));
    }
    (manifest.first..manifest.first + shards)
        .map(|log| {
            let (taken, parts) = of.take(log)?;
            let event = Event::now(Kind::SessionLogTaken).with(Field::Topic, broker.sessions.as_str());
            let event = event.with(Field::Partition, u64::from(log)).with(Field::Records, taken.read.records);
            journal.say(event.with(Field::Bytes, taken.read.bytes));
            Ok(TakenLog { taken, parts })
        })
        .collect()
}

/// The topic.
struct Logs<'a> {
    cluster: &'a Cluster,
    broker: &'a Broker,
}

impl Logs<'_> {
    fn wanted(&self, log: u16) -> Wanted<'_> {
        Wanted { cluster: self.cluster, topic: &self.broker.sessions, log, instance: &self.broker.name }
    }

    fn take(&self, log: u16) -> Result<(Taken, Parts), String> {
        let mut parts = Parts::default();
        let taken = session_log::take_over(&self.wanted(log), &mut parts)?;
        Ok((taken, parts))
    }

    fn write_manifest(&self, taken: Taken, manifest: Manifest) -> Result<Manifest, String> {
        let mut replica = Replica::new(taken, fastrand::u64(..));
        replica.write_note(&manifest.encode());
        session_log::settle(&self.wanted(MANIFEST), &mut replica).map(|()| manifest)
    }
}
