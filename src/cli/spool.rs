//! `forebay spool inspect`: the contents of a folder of segments, by the service's own reader. Nothing is changed.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::Path;

use serde_json::{Map, Value, json};

use super::args::{DiscardArgs, InspectArgs};
use super::spool_text::human;
use crate::buffer::{Counts, Report, Unread};
use crate::data_dir::{self, Files, Found, FoundShard, of_shards};
use crate::files;
use crate::record::BatchHeader;
use crate::runtime::{FolderLock, segments_in};
use crate::shard::rfc3339;
use crate::spool::{CutHead, Damage, Entry, Rot, Surveyed, survey};

/// Runs `forebay spool discard`. Returns its message, and whether something was deleted.
///
/// # Errors
/// Why it stopped. Messages that were reported as deleted before that are deleted.
pub fn discard(options: &DiscardArgs) -> Result<(String, bool), String> {
    files::keep_private();
    data_dir::discard(&options.folder, &options.sink, options.yes)
}

/// The contents of the folder, as text, and whether it is sound.
///
/// # Errors
/// Why the folder is refused, or cannot be read.
pub fn inspect(options: &InspectArgs) -> Result<(String, bool), String> {
    let of_one = segments_in(&options.folder).is_ok_and(|found| !found.is_empty());
    let shards = match of_shards(&options.folder) {
        _ if of_one => Vec::new(),
        Ok(shards) if !shards.is_empty() => shards,
        other => {
            not_a_spool(&options.folder)?;
            other?
        }
    };
    if shards.is_empty() {
        let (report, sound) = shard(&options.folder, options.entries)?;
        return Ok((if options.json { format!("{report:#}\n") } else { human(&report) }, sound));
    }
    let (mut sound, mut reports, mut text) = (true, Vec::new(), String::new());
    // A mismatch of the folders is reported as the service would report it.
    let refused = Found::look(&options.folder).err();
    if let Some(refused) = &refused {
        text += &format!("The next start would fail: {refused}\n\n");
    }
    for folder in &shards {
        let (report, this) = shard(folder, options.entries)?;
        sound &= this;
        text += &format!("{}\n{}\n", folder.display(), human(&report));
        reports.push(report);
    }
    sound &= refused.is_none();
    let mut report = json!({ "folder": options.folder.display().to_string(), "sound": sound, "shards": reports });
    if let Some(refused) = refused {
        report["error"] = refused.into();
    }
    Ok((if options.json { format!("{report:#}\n") } else { text }, sound))
}

/// Why a directory without segments is refused: it is the spool of a service that has written nothing yet, or something else.
fn not_a_spool(folder: &Path) -> Result<(), String> {
    let is_spool = |folder: &Path| folder.join(data_dir::MANIFEST).is_file();
    if is_spool(folder) || folder.parent().is_some_and(is_spool) {
        return Ok(());
    }
    let shown = folder.display();
    if !folder.is_dir() {
        return Err(format!("{shown}: there is no such directory"));
    }
    let below = ["spool", "forebay-data/spool"].map(|name| folder.join(name)).into_iter().find(|path| is_spool(path));
    Err(match below {
        Some(spool) => format!("{shown} is not a spool; did you mean {}?", spool.display()),
        None => format!("{shown} is not a spool; the spool is the directory `spool` in service.data_dir"),
    })
}

/// Locks the service out while a folder is read, by the lock of the data directory.
fn share(folder: &Path) -> io::Result<[Option<FolderLock>; 2]> {
    let data_dir = folder.parent().filter(|root| root.ends_with("spool")).and_then(Path::parent);
    Ok([FolderLock::share(folder)?, data_dir.map(FolderLock::share).transpose()?.flatten()])
}

/// The contents of the folder of one shard, and whether it is sound.
fn shard(folder: &Path, entries: bool) -> Result<(Value, bool), String> {
    let failed = |error: io::Error| format!("{}: {error}", folder.display());
    let disk = Files::new(folder);
    let listed = disk.listed()?;
    let _locks = share(folder).map_err(|error| match error.kind() {
        io::ErrorKind::WouldBlock => {
            format!("{}: it is in use by a running service; stop the service first", folder.display())
        }
        _ => failed(error),
    })?;
    // From the newest back: each segment's header has the end of the one before it.
    let (mut ends, mut segments, mut shard, mut sound) = (BTreeMap::new(), Vec::new(), None, true);
    let mut partition = Offsets::default();
    for (number, len) in listed.segments.iter().rev() {
        let read = match survey(&disk, *number, *len, ends.get(number).copied()) {
            Ok(read) => read,
            // Whether the next process needs the folder is reported below.
            Err(error) => {
                sound = false;
                segments.push(json!({ "segment": number, "bytes": len, "error": disk.refused(&error) }));
                continue;
            }
        };
        if let Some(header) = read.header.filter(|_| !read.scan.entries.is_empty()) {
            ends.extend(header.goes_on_from());
            shard.get_or_insert(header.shard);
        }
        sound &= read.headers.is_empty() && read.scan.rot.is_empty();
        partition.add(&read);
        segments.push(segment(*number, *len, &read, entries));
    }
    segments.reverse();
    let (whole, whole_sound) = match partition.report() {
        Some(report) => (report, true),
        None => whole(folder, shard.map_or_else(|| number_of(folder), |shard| shard as usize)),
    };
    sound &= whole_sound;
    let report = json!({
        "folder": folder.display().to_string(), "sound": sound, "segments": segments, "not_files": listed.others,
        "start": whole,
    });
    Ok((report, sound))
}

/// The shard of a folder, by its name.
fn number_of(folder: &Path) -> usize {
    folder.file_name().and_then(|name| name.to_str()?.parse().ok()).unwrap_or(0)
}

/// The contents of one segment.
fn segment(number: u64, len: u64, read: &Surveyed, list: bool) -> Value {
    let (mut kinds, mut rows) = (BTreeMap::<String, u64>::new(), BTreeMap::<(String, String), u64>::new());
    let (mut lanes, mut cuts) = (BTreeMap::new(), BTreeMap::new());
    let (mut kept, mut lines) = (BTreeSet::new(), Vec::new());
    for (position, bytes, entry) in read.entries() {
        let Some(entry) = entry else { continue };
        *kinds.entry(kind(&entry)).or_default() += 1;
        if list {
            lines.push(format!("{position} {bytes} {}", line(&entry)));
        }
        match entry {
            Entry::Lane { lane, sink, topic, .. } => drop(lanes.insert(lane, (sink.to_owned(), topic.to_owned()))),
            Entry::Rows(block) => {
                let lane = lanes.get(&block.lane).cloned();
                *rows.entry(lane.unwrap_or_else(|| (format!("lane {}", block.lane), "?".into()))).or_default() +=
                    block.run.count;
            }
            Entry::Cut { cut, rows } => drop(cuts.insert(cut.cut, described(&cut, rows.rows()))),
            Entry::Done { cut, .. } | Entry::EndCut { cut, .. } => drop(cuts.remove(&cut)),
            Entry::Session { session, .. } | Entry::SessionAt { session, .. } => drop(kept.insert(session)),
            Entry::SessionEnded { session } => drop(kept.remove(&session)),
            _ => {}
        }
    }
    let rows: Vec<Value> =
        rows.iter().map(|((sink, topic), rows)| json!({ "sink": sink, "topic": topic, "rows": rows })).collect();
    let groups = kinds.get("commit").copied().unwrap_or_default();
    let damage: Vec<Value> = (read.headers.iter().map(|rot| place(rot, "header")))
        .chain(read.scan.rot.iter().map(|rot| place(rot, "entries")))
        .collect();
    let mut out = json!({
        "segment": number, "bytes": len, "synced": read.scan.end, "torn_bytes": read.scan.torn_bytes,
        "groups": groups, "kinds": kinds, "rows": rows, "cuts_open": cuts.into_values().collect::<Vec<_>>(),
        "kept_records": kept, "damage": damage,
        "shard": read.header.map(|header| header.shard),
        "created": read.header.map(|header| rfc3339(header.created_ms)),
    });
    if list {
        out["entries"] = json!(lines);
    }
    out
}

/// The contents of a folder of the embedded log: a partition.
#[derive(Default)]
struct Offsets {
    any: bool,
    first: Option<i64>,
    next: Option<i64>,
    batches: u64,
    records: i64,
    torn_bytes: u64,
}

impl Offsets {
    fn add(&mut self, read: &Surveyed) {
        if !read.batches {
            return;
        }
        self.any = true;
        self.torn_bytes += read.scan.torn_bytes;
        for (_, _, entry) in read.entries() {
            let Some(Entry::Batch { batch }) = entry else { continue };
            let Ok(header) = BatchHeader::read(batch) else { continue };
            let next = header.last_offset() + 1;
            self.first = Some(self.first.map_or(header.base_offset, |first| first.min(header.base_offset)));
            self.next = Some(self.next.map_or(next, |known| known.max(next)));
            (self.batches, self.records) = (self.batches + 1, self.records + i64::from(header.records_count));
        }
    }

    fn report(&self) -> Option<Value> {
        self.any.then(|| {
            json!({
                "batches": self.batches, "records": self.records, "first_offset": self.first,
                "next_offset": self.next, "torn_bytes": self.torn_bytes,
            })
        })
    }
}

/// The rows that the service would find in the folder, and whether the folder is complete.
fn whole(folder: &Path, shard: usize) -> (Value, bool) {
    let found = FoundShard::look(folder, shard).and_then(|found| Ok((found.report()?, found)));
    let (report, found) = match found {
        Ok(found) => found,
        Err(why) => return (json!({ "error": why }), false),
    };
    let start = &found.recovered;
    let uncut = |lane: u64| start.uncut(lane).iter().map(|run| run.count).sum::<u64>();
    let waiting: Vec<Value> = (start.state.lanes().filter(|(_, lane)| lane.rows() > 0))
        .map(|(number, lane)| {
            json!({
                "sink": *lane.sink, "topic": *lane.topic, "partition": lane.partition, "rows": lane.rows(),
                "uncut": uncut(number),
            })
        })
        .collect();
    let cuts = start.state.cuts().map(|cut| described(&cut.head, cut.rows.iter().map(|run| run.count).sum()));
    let mut lost = counts(&report.lost);
    lost.insert("record".to_owned(), report.lost_rows().into());
    let value = json!({
        "lanes": waiting, "cuts_uncertain": cuts.collect::<Vec<_>>(),
        "kept": counts(&report.kept), "kept_words": report.kept.to_string(),
        "lost": lost, "lost_words": lost_words(&report),
        "damage": report.damage.iter().map(damage).collect::<Vec<_>>(),
        "unread": report.unread.iter().map(unread).collect::<Vec<_>>(),
        "fate_open": report.fate_open, "torn_bytes": report.torn_bytes,
    });
    (value, !report.is_damaged())
}

fn counts(counts: &Counts) -> Map<String, Value> {
    counts.iter().map(|(kind, count)| (kind.name().to_owned(), count.into())).collect()
}

/// The lost records, in words; empty: none.
fn lost_words(report: &Report) -> String {
    let rows = report.lost_rows();
    let rows = (rows > 0).then(|| format!("{rows} record{}", if rows == 1 { "" } else { "s" }));
    let others = (report.lost.total() > 0).then(|| report.lost.to_string());
    rows.into_iter().chain(others).collect::<Vec<_>>().join(", ")
}

fn damage(damage: &Damage) -> Value {
    json!({
        "segment": damage.segment, "position": damage.position, "bytes": damage.bytes, "what": damage.what.name(),
        "text": damage.to_string(),
    })
}

fn unread(one: &Unread) -> Value {
    let (segment, position) = one.place.unzip();
    json!({
        "number": one.number, "kind": one.kind.name(), "count": one.count, "segment": segment, "position": position,
        "why": one.why,
    })
}

fn place(rot: &Rot, what: &str) -> Value {
    json!({ "segment": rot.segment, "position": rot.position, "bytes": rot.bytes, "what": what })
}

fn described(cut: &CutHead, rows: u64) -> Value {
    json!({
        "cut": cut.cut, "lane": cut.lane, "partition": cut.partition, "producer_id": cut.producer_id,
        "epoch": cut.epoch, "sequence": cut.sequence, "rows": rows,
    })
}

/// The name of an entry's kind in the document.
fn kind(entry: &Entry<'_>) -> String {
    let name = match entry {
        Entry::Rows(_) => "rows",
        Entry::Cut { .. } => "cut",
        Entry::Done { .. } => "done",
        Entry::EndRows { .. } => "end of rows",
        Entry::EndCut { .. } => "end of a cut",
        Entry::Incarnation { .. } => "incarnation",
        Entry::Session { .. } => "session",
        Entry::SessionEnded { .. } => "session ended",
        Entry::Opened { .. } => "opened",
        Entry::Released { .. } => "released",
        Entry::Commit { .. } => "commit",
        Entry::Checkpoint { .. } => "checkpoint",
        Entry::Lane { .. } => "lane",
        Entry::Spans { .. } => "spans",
        Entry::Segment { .. } => "segment",
        Entry::SessionAt { .. } => "session at",
        Entry::CheckpointEnd { .. } => "end of the checkpoint",
        Entry::LanesForgotten { .. } => "lanes forgotten",
        Entry::IncarnationsForgotten { .. } => "incarnations forgotten",
        Entry::SinkEnded { .. } => "end of a sink",
        Entry::VolatileEnded => "end of volatile lanes",
        Entry::FateOpen => "rows that may be in Kafka",
        Entry::Batch { .. } => "batch",
    };
    name.to_owned()
}

/// An entry in one line. The contents of rows and sessions are left out: they may be confidential.
fn line(entry: &Entry<'_>) -> String {
    let said = match entry {
        Entry::Rows(rows) => {
            let (first, count) = (rows.run.first, rows.run.count);
            format!("lane={} rows={first}+{count} record_bytes={}", rows.lane, rows.records.len())
        }
        Entry::Cut { cut, rows } => format!(
            "cut={} lane={} partition={} producer_id={} epoch={} sequence={} rows={rows:?}",
            cut.cut, cut.lane, cut.partition, cut.producer_id, cut.epoch, cut.sequence,
        ),
        Entry::Incarnation { number, topic_id, partitions, sink, topic, cluster } => format!(
            "incarnation={number} sink={sink} topic={topic} topic_id={topic_id:032x} partitions={partitions} cluster={cluster}"
        ),
        Entry::Session { session, payload } => format!("session={session} bytes={}", payload.len()),
        Entry::Batch { batch } => match BatchHeader::read(batch) {
            Ok(header) => format!(
                "base_offset={} records={} producer_id={} batch_bytes={}",
                header.base_offset,
                header.records_count,
                header.producer_id,
                batch.len()
            ),
            Err(_) => format!("batch_bytes={}", batch.len()),
        },
        other => format!("{other:?}"),
    };
    format!("{}: {said}", kind(entry))
}

#[cfg(test)]
#[path = "spool_tests.rs"]
mod tests;
