//! The logs of sessions of an instance with `[broker]`, one for each shard, before the shards have them. They are partitions of one topic; the first
//! partition says which of them count, as the manifest of a spool says how many directories do.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use crate::config::{Broker, Cluster, Config};
use crate::data_dir;
use crate::files;
use crate::limits::SHARDS_MAX;
use crate::metrics::event::{Event, Field, Kind};
use crate::metrics::journal::Journal;
use crate::replica::{Replica, Taken};
use crate::runtime::{in_folder, read_note, segment_path, write_note};
use crate::shard::kafka_disk::Parts;
use crate::shard::session_log::TakenLog;

use super::admin::Admin;
use super::check::UNKNOWN_TOPIC;
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

/// Makes the topic if it is missing. Returns whether it was, for `forebay topics create`.
///
/// # Errors
/// What is in the way, in words.
pub(super) fn make(cluster: &Cluster, broker: &Broker) -> Result<bool, String> {
    let Broker { sessions, replicas, .. } = broker;
    let (is_missing, brokers) = missing(cluster, sessions)?;
    if is_missing {
        session_log::make(cluster, sessions, PARTITIONS, *replicas, brokers)?;
    }
    Ok(is_missing)
}

/// Whether a topic is missing, and the number of brokers.
fn missing(cluster: &Cluster, topic: &str) -> Result<(bool, usize), String> {
    let mut admin = Admin::connect(cluster).map_err(|why| why.join("; "))?;
    let metadata = admin.metadata(&[topic]).map_err(|why| admin.sasl_missing(cluster, why))?;
    Ok((metadata.topics.iter().any(|topic| topic.error_code == UNKNOWN_TOPIC), metadata.brokers.len()))
}

/// Whether a start would find the topic as it has to be, and in words how it is.
///
/// # Errors
/// What is in the way, in words.
pub(super) fn look(cluster: &Cluster, broker: &Broker) -> Result<String, String> {
    let Broker { sessions, replicas, create_topics, .. } = broker;
    let (is_missing, _) = missing(cluster, sessions)?;
    if *create_topics && is_missing {
        return Ok(format!("topic {sessions} is missing; the start creates it"));
    }
    let told = session_log::prepare_topic(cluster, sessions, PARTITIONS, *replicas, false)?;
    let is_as_needed = || format!("topic {sessions} has the partitions and settings that logs of sessions need");
    Ok(if told.is_empty() { is_as_needed() } else { told.join("; ") })
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
    let manifest = if manifest.shards == shards { manifest } else { of.rehome(config, manifest, shards, journal)? };
    (manifest.first..manifest.first + shards)
        .map(|log| {
            let (taken, parts) = of.take(log)?;
            let event = Event::now(Kind::SessionLogTaken).with(Field::Topic, broker.sessions.as_str());
            let event = event.with(Field::Partition, u64::from(log)).with(Field::Records, taken.read.records);
            journal.say(event.with(Field::Bytes, taken.read.bytes));
            Ok(TakenLog { taken, parts, log })
        })
        .collect()
}

/// A log that sessions move from or to, as files, in the data directory.
const MOVING: &str = ".sessions.moving";
/// What of a file is looked at in one go.
const PIECE: usize = 64 << 10;

/// Writes the segments of a log, and its note, into a new folder.
fn write_folder(folder: &Path, parts: &Parts) -> io::Result<()> {
    files::make_dirs(folder)?;
    for (number, bytes, all) in parts.each() {
        let file = File::create_new(segment_path(folder, number))?;
        file.set_len(bytes)?;
        for (at, part) in all {
            file.write_all_at(part, at)?;
        }
    }
    parts.note().map_or(Ok(()), |note| write_note(folder, note))
}

/// Gives a replica all segments of a folder, and the note.
fn read_folder(folder: &Path, replica: &mut Replica) -> io::Result<()> {
    let mut piece = vec![0; PIECE];
    for (segment, bytes) in in_folder(folder)?.segments {
        let file = File::open(segment_path(folder, segment))?;
        for at in (0..bytes).step_by(PIECE) {
            let piece = &mut piece[..usize::try_from(bytes - at).unwrap_or(PIECE).min(PIECE)];
            file.read_exact_at(piece, at)?;
            // What was never written reads as zeroes.
            let end = piece.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
            if end > 0 {
                replica.append(segment, at, &piece[..end]);
            }
        }
    }
    read_note(folder).into_iter().for_each(|note| replica.write_note(&note));
    Ok(())
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

    /// Moves sessions to the logs of another number of shards: the other set. Until the manifest names it, the set of before counts.
    fn rehome(&self, config: &Config, from: Manifest, shards: u16, journal: &Journal) -> Result<Manifest, String> {
        let dir = config.service.data_dir.join(MOVING);
        let failed = |error: io::Error| format!("{}: {error}", dir.display());
        let result = self.rehome_in(config, &dir, from, shards, journal);
        let removed = if dir.exists() { fs::remove_dir_all(&dir).map_err(failed) } else { Ok(()) };
        result.and_then(|manifest| removed.map(|()| manifest))
    }

    fn rehome_in(
        &self,
        config: &Config,
        dir: &Path,
        from: Manifest,
        shards: u16,
        journal: &Journal,
    ) -> Result<Manifest, String> {
        let failed = |error: io::Error| format!("{}: {error}", dir.display());
        if dir.exists() {
            fs::remove_dir_all(dir).map_err(failed)?;
        }
        let folder = |shard: u16| dir.join("spool").join(shard.to_string());
        let mut before = Vec::new();
        for shard in 0..from.shards {
            let (taken, parts) = self.take(from.first + shard)?;
            write_folder(&folder(shard), &parts).map_err(failed)?;
            before.push((from.first + shard, taken, parts.found()));
        }
        let wanted = Config { spool: config.kept_log(), ..config.clone() };
        let (sessions, queued) = data_dir::rehome_logs(&wanted, dir, usize::from(from.shards))?;
        let to = Manifest { first: if from.first == 1 { 1 + SET } else { 1 }, shards };
        for shard in 0..shards {
            let (taken, left) = self.take(to.first + shard)?;
            let mut replica = Replica::new(taken, fastrand::u64(..));
            // Another start was killed while it did the same.
            left.found().into_keys().for_each(|segment| replica.free(segment));
            read_folder(&folder(shard), &mut replica).map_err(failed)?;
            session_log::settle(&self.wanted(to.first + shard), &mut replica)?;
        }
        let (taken, _) = self.take(MANIFEST)?;
        let to = self.write_manifest(taken, to)?;
        for (log, taken, segments) in before {
            let mut replica = Replica::new(taken, fastrand::u64(..));
            segments.into_keys().for_each(|segment| replica.free(segment));
            session_log::settle(&self.wanted(log), &mut replica)?;
        }
        let event = Event::now(Kind::SessionsMoved).with(Field::Shards, u64::from(shards));
        let event = event.with(Field::Sessions, sessions as u64).with(Field::Retained, 0_u64);
        journal.say(event.with(Field::Queued, queued as u64));
        Ok(to)
    }

    fn write_manifest(&self, taken: Taken, manifest: Manifest) -> Result<Manifest, String> {
        let mut replica = Replica::new(taken, fastrand::u64(..));
        replica.write_note(&manifest.encode());
        session_log::settle(&self.wanted(MANIFEST), &mut replica).map(|()| manifest)
    }
}
