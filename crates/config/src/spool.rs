//! The disk buffer, and the sinks that keep their rows in it: the keys that fit each other, and the remedy for those that do not.

use std::time::Duration;

use super::clusters::Target;
use super::keys::Section;
use super::problem::Fault;
use super::reader::Table;
use super::resolve::Document;
use super::resolved::{Acknowledge, Buffer, Sink, Spool, WhenFull};
use super::setting::{Setting as _, Settings as _};
use super::units::ShowSize;
use super::values;

const MIB: u64 = 1 << 20;
const SEGMENTS_MIN: u64 = Spool::SEGMENTS_MIN;
/// Segments that a shard should have: with fewer, segments are made smaller than usual.
const SEGMENTS_WISHED: u64 = 16;
/// The usual segment.
const SEGMENT_BYTES: u64 = 64 * MIB;
/// The part of a segment that a block of rows takes at most: the most that the log takes at once.
const BLOCKS_IN_SEGMENT: u64 = 8;
/// A bound of the bytes of a block of rows around a batch's records. (The bytes beside each record, its deadline and the like,
/// count as the batch's bytes.)
const BLOCK_OVERHEAD: u64 = 64 << 10;

/// Facts about the rest of the file that sinks need.
#[derive(Clone, Copy)]
pub(super) struct Place {
    /// Whether there is a spool.
    pub(super) spool: bool,
    pub(super) shards: usize,
}

/// The place of a sink's rows and the level of its answers: each has a default that follows from the other.
pub(super) fn buffer(table: &Table<'_>, place: Place) -> (Buffer, Acknowledge) {
    let acknowledge = table.find("acknowledge", Acknowledge::of);
    let buffer = table.find("buffer", Buffer::of);
    let report =
        |key: &str, what: String, hint: &str| table.source.report(&table.spot(key), Fault::new(what).hint(hint));
    if !place.spool {
        if let Some(buffer) = buffer.filter(|buffer| *buffer != Buffer::Memory) {
            let hint = "add [spool] to the file, or use \"memory\"";
            report("buffer", format!("\"{}\" needs a disk buffer, and there is none", buffer.as_str()), hint);
        } else if acknowledge == Some(Acknowledge::Stored) {
            let hint = "add [spool] to the file, or use \"replicated\"";
            report("acknowledge", "\"stored\" needs a disk buffer, and there is none".to_owned(), hint);
        }
        return (buffer.unwrap_or_default(), acknowledge.unwrap_or(Acknowledge::Replicated));
    }
    match (buffer, acknowledge) {
        (Some(buffer @ (Buffer::Memory | Buffer::Hybrid | Buffer::HybridSaved)), Some(Acknowledge::Stored)) => {
            let what = format!(
                "\"stored\" cannot be combined with buffer = \"{}\", which keeps records in memory first",
                buffer.as_str()
            );
            report("acknowledge", what, "set buffer to \"disk\" or leave it out, or use \"replicated\"");
        }
        (Some(Buffer::Disk), Some(Acknowledge::Received | Acknowledge::Leader)) => {
            let what = "\"disk\" requires acknowledge = \"stored\" or \"replicated\"";
            report("buffer", what.to_owned(), "use one of these, or set buffer to \"hybrid\" or \"memory\"");
        }
        _ => {}
    }
    match (buffer, acknowledge) {
        (Some(buffer), Some(acknowledge)) => (buffer, acknowledge),
        (None, Some(acknowledge @ (Acknowledge::Received | Acknowledge::Leader))) => (Buffer::Memory, acknowledge),
        (None, Some(acknowledge)) => (Buffer::Disk, acknowledge),
        (Some(Buffer::Disk), None) | (None, None) => (Buffer::Disk, Acknowledge::Stored),
        (Some(buffer), None) => (buffer, Acknowledge::Replicated),
    }
}

/// Memory of a sink's rows before they are on the disk alone. `need`: a full batch and the largest record, which each shard's part has to
/// hold; and the place of the rows.
pub(super) fn spill_after(
    table: &Table<'_>,
    buffer: Buffer,
    place: Place,
    (need, target): (u64, Option<&Target>),
) -> u64 {
    let given = table.find("spill_after", values::size);
    let report = |what: String, hint: String| {
        table.source.report(&table.spot("spill_after"), Fault::new(what).hint(hint));
    };
    if buffer == Buffer::Memory {
        if table.has("spill_after") {
            let what = "cannot be combined with buffer = \"memory\", which keeps no records on disk";
            report(what.to_owned(), "leave it out, or set buffer to \"disk\" or \"hybrid\"".to_owned());
        }
        return 0;
    }
    let shards = place.shards as u64;
    let (least, most) = (need * shards, target.map_or(u64::MAX, |target| target.share.saturating_mul(shards)));
    let Some(given) = given else { return (most / 4).max(least).min(most) };
    if given < least {
        let what = format!(
            "a shard's share ({} for {shards} shards) cannot hold batch_bytes and record_bytes_max ({})",
            ShowSize(given / shards),
            ShowSize(need)
        );
        report(what, format!("set it to at least \"{}\", or lower batch_bytes and record_bytes_max", ShowSize(least)));
    } else if given > most {
        let what = format!("is more than buffer_bytes of the cluster, {}", ShowSize(most));
        report(what, "lower one or raise the other".to_owned());
    }
    given
}

/// A duration in whole milliseconds, the resolution of timers.
fn whole_milliseconds(of: Duration) -> Duration {
    Duration::from_millis(u64::try_from(of.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX))
}

/// Reads `[spool]`, and checks whether the sinks' rows would fit.
pub(super) fn resolve(document: &Document<'_>, shards: usize, sinks: &[Sink]) -> Option<Spool> {
    if !document.has(Section::Spool) {
        return None;
    }
    let table = document.table(Section::Spool);
    let report =
        |key: &str, what: String, hint: String| table.source.report(&table.spot(key), Fault::new(what).hint(hint));
    let read = Spool::read(&table);
    let spooled = || sinks.iter().filter(|sink| sink.buffer != Buffer::Memory);
    let given_share = table.find("spool_share", values::share);
    let share = given_share.unwrap_or(if spooled().count() == 1 { 1_000_000 } else { 500_000 });
    let block = |sink: &Sink| (sink.batch_bytes.max(sink.record_bytes_max) as u64 + BLOCK_OVERHEAD) * BLOCKS_IN_SEGMENT;
    let largest = spooled().max_by_key(|sink| block(sink));
    let need = largest.map_or(MIB, |sink| block(sink).next_multiple_of(MIB));
    let part = read.bytes_max / shards.max(1) as u64;
    let usual = (part / SEGMENTS_WISHED / MIB * MIB).clamp(MIB, SEGMENT_BYTES).max(need);
    let given = table.find("segment_bytes", values::size);
    let segment_bytes = given.unwrap_or(usual);
    let segments_max = part / segment_bytes;
    if let Some(sink) = largest.filter(|sink| block(sink) > segment_bytes) {
        let what = format!(
            "a segment of {} cannot hold batch_bytes and record_bytes_max of sink {}, which take an eighth of one at most",
            ShowSize(segment_bytes),
            sink.name
        );
        report(
            "segment_bytes",
            what,
            format!("set it to at least \"{}\", or lower batch_bytes and record_bytes_max", ShowSize(need)),
        );
    } else if segments_max < SEGMENTS_MIN {
        let what = format!(
            "a shard's share ({} for {shards} shards) holds fewer than {SEGMENTS_MIN} segments of {}",
            ShowSize(part),
            ShowSize(segment_bytes)
        );
        let least = ShowSize(segment_bytes * SEGMENTS_MIN * shards as u64);
        let smaller = if given.is_some() {
            "smaller segments, or fewer shards"
        } else {
            "smaller batches and records, or fewer shards"
        };
        report("bytes_max", what, format!("set it to at least \"{least}\", or use {smaller}"));
    }
    let spool = Spool {
        segment_bytes,
        share,
        share_is_computed: given_share.is_none(),
        segments_max,
        sync_interval: whole_milliseconds(read.sync_interval),
        ..read
    };
    let spool = spool.of_shards(shards);
    let sink_bytes_max = spool.sink_bytes_max;
    if segments_max >= SEGMENTS_MIN && sink_bytes_max < segment_bytes {
        let what = format!("one sink's share of a shard's spool ({}) is less than a segment", ShowSize(sink_bytes_max));
        report("spool_share", what, "raise it or bytes_max, or lower segment_bytes".to_owned());
    }
    // One batch of each sink may be under way, and cannot make room.
    let under_way: u64 = spooled().map(|sink| block(sink) / BLOCKS_IN_SEGMENT).sum();
    if spool.when_full == WhenFull::DropOldest && segments_max >= SEGMENTS_MIN && under_way > spool.room() / 2 {
        let what = format!(
            "with \"drop-oldest\" the largest batches of all sinks ({}) may take half of a shard's room ({}): batches that are under way \
             cannot make room for others",
            ShowSize(under_way),
            ShowSize(spool.room())
        );
        report("when_full", what, "raise bytes_max, or lower batch_bytes and record_bytes_max".to_owned());
    }
    Some(spool)
}
