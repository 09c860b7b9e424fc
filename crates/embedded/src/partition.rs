//! One partition: its segments, its producers, and how far it is synced. It is used only on the log's thread.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;

use tokio::sync::Notify;

use super::batch::{self, BatchHeader};
use super::code;
use super::damage::Teller;
use super::disk::Disk;
use super::meta::PRODUCER_ID_END;
use super::note;
use super::producers::{Producers, Verdict};
use super::read::{NewestPlan, ReadPlan, TimePlan};
use super::recover;
use super::segment::{AppendError, Hole, Segment, Source};
use super::waiters::Waiters;
use forebay_spool::{BATCH_AT, put_batch};

/// A partition as the tasks of the log's thread share it.
pub(crate) type PartitionRef = Rc<RefCell<Partition>>;

/// The result of appending a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Appended {
    /// Offset of the first record.
    pub(crate) base_offset: i64,
    /// The batch may be answered once the partition is synced up to this offset.
    pub(crate) next_offset: i64,
    /// Whether the batch was in the log already.
    pub(crate) duplicate: bool,
}

/// The data that one sync has to cover for one partition.
#[derive(Debug)]
pub(crate) struct Unsynced {
    /// Files, each with base offset and the length to sync.
    pub(crate) files: Vec<(i64, u64, Arc<File>)>,
    /// The directory, if it has a new entry.
    pub(crate) dir: Option<PathBuf>,
    /// The log end that the sync makes visible.
    pub(crate) next_offset: i64,
    /// The directory of the partition, for the note of its end after the sync.
    pub(crate) noted_in: PathBuf,
}

/// One partition.
#[derive(Debug)]
pub(crate) struct Partition {
    name: String,
    /// The partition's number within the topic.
    index: u32,
    dir: PathBuf,
    segments: VecDeque<Segment>,
    producers: Producers,
    next_offset: i64,
    high_watermark: i64,
    /// Bytes synced since startup, never decreasing; long polls measure by it.
    bytes_synced: u64,
    failed: bool,
    /// Whether the partition's topic was deleted.
    removed: bool,
    /// Whether the partition is in the syncer's queue.
    queued: bool,
    waiters: Waiters,
}

/// Bounds of a partition.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    /// Segments are closed at this size.
    pub(crate) segment_bytes: u64,
    /// The most producers that are remembered.
    pub(crate) producers_max: usize,
}

/// The retention limits of a partition; `None`: no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Limits {
    /// A segment is removed when its newest record is older than this.
    pub(crate) age_ms: Option<i64>,
    /// A segment is removed when this many bytes remain without it.
    pub(crate) bytes: Option<u64>,
}

/// Segments that are no longer part of the log.
#[derive(Debug)]
pub(crate) struct Expired {
    /// The directory, to sync before anything is removed: a segment that preserves the next offset may be new in it.
    pub(crate) dir: PathBuf,
    /// The files to remove, oldest first.
    pub(crate) files: Vec<PathBuf>,
    /// Bytes of those files.
    pub(crate) bytes: u64,
}

/// The findings of recovery in one partition.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Findings {
    /// Bytes cut off the partition's end.
    pub(crate) bytes_cut: u64,
    /// Number of unreadable ranges left in place.
    pub(crate) holes: u64,
    /// Number of files that were damaged, missing or misnamed.
    pub(crate) files: u64,
    /// The highest producer id in the partition's batches, among those that this log may have assigned.
    pub(crate) producer_id: Option<i64>,
}

impl Partition {
    /// A partition with a new and empty directory.
    pub(crate) fn new(name: String, dir: PathBuf, bounds: Bounds) -> Partition {
        let index = name.rsplit('-').next().and_then(|index| index.parse().ok()).unwrap_or(0);
        Partition {
            name,
            index,
            dir,
            segments: VecDeque::new(),
            producers: Producers::new(bounds.producers_max),
            next_offset: 0,
            high_watermark: 0,
            bytes_synced: 0,
            failed: false,
            removed: false,
            queued: false,
            waiters: Waiters::default(),
        }
    }

    /// Reads a partition back from its directory.
    pub(crate) fn open(
        disk: &dyn Disk,
        name: String,
        dir: PathBuf,
        bounds: Bounds,
        teller: &Teller,
    ) -> io::Result<(Partition, Findings)> {
        let mut partition = Partition::new(name, dir, bounds);
        let producers = &mut partition.producers;
        let mut producer_id = None;
        let found = recover::recover(disk, &partition.dir, partition.index, teller, |header| {
            let id = Some(header.producer_id).filter(|id| (0..PRODUCER_ID_END).contains(id));
            producer_id = producer_id.max(id);
            producers.note(header);
        })?;
        partition.segments = found.segments.into();
        partition.next_offset = partition.segments.back().map_or(0, Segment::next_offset);
        partition.high_watermark = partition.next_offset;
        Ok((
            partition,
            Findings { bytes_cut: found.bytes_cut, holes: found.holes as u64, files: found.files, producer_id },
        ))
    }

    /// Appends a batch that passed [`batch::check`], unless it is in the log already. `scratch` is reused between
    /// calls.
    pub(crate) fn append(
        &mut self,
        disk: &dyn Disk,
        bounds: Bounds,
        bytes: &[u8],
        header: &BatchHeader,
        scratch: &mut Vec<u8>,
    ) -> Result<Appended, i16> {
        if self.removed {
            return Err(code::UNKNOWN_TOPIC_OR_PARTITION);
        }
        if self.failed {
            return Err(code::STORAGE_ERROR);
        }
        match self.producers.judge(header) {
            Verdict::Append => {}
            Verdict::Refuse(code) => return Err(code),
            Verdict::Duplicate { base_offset, last_offset } => {
                return Ok(Appended { base_offset, next_offset: last_offset + 1, duplicate: true });
            }
        }
        let placed = BatchHeader { base_offset: self.next_offset, ..*header };
        scratch.clear();
        put_batch(bytes, scratch);
        batch::place(&mut scratch[BATCH_AT..], placed.base_offset);
        self.write(disk, bounds, scratch, &placed)?;
        self.producers.note(&placed);
        self.next_offset = placed.last_offset() + 1;
        Ok(Appended { base_offset: placed.base_offset, next_offset: self.next_offset, duplicate: false })
    }

    fn write(&mut self, disk: &dyn Disk, bounds: Bounds, entry: &mut [u8], placed: &BatchHeader) -> Result<(), i16> {
        self.roll(disk, bounds, entry.len()).map_err(|error| self.refuse_for_now(&error))?;
        let Some(active) = self.segments.back_mut() else { return Err(code::STORAGE_ERROR) };
        match active.append(disk, entry, placed) {
            Ok(()) => Ok(()),
            Err(AppendError::Clean(error)) => Err(self.refuse_for_now(&error)),
            Err(AppendError::Unclean(error)) => {
                self.fail(&error);
                Err(code::STORAGE_ERROR)
            }
        }
    }

    /// Opens a new segment if the entry does not fit, but not before the last but one is synced: recovery relies on
    /// that.
    fn roll(&mut self, disk: &dyn Disk, bounds: Bounds, bytes: usize) -> io::Result<()> {
        let full = match self.segments.back() {
            None => true,
            Some(active) if !active.is_writable() => true,
            Some(active) => !active.is_empty() && active.len() + bytes as u64 > bounds.segment_bytes,
        };
        let before = self.segments.len().checked_sub(2).and_then(|at| self.segments.get(at));
        if full && before.is_none_or(|segment| segment.unsynced().is_none()) {
            self.segments.push_back(Segment::create(disk, &self.dir, self.index, self.next_offset)?);
            // Without the note a start notices less.
            let _ = note::make(&self.dir);
        }
        Ok(())
    }

    fn refuse_for_now(&self, error: &io::Error) -> i16 {
        tracing::error!(partition = %self.name, %error, "cannot write a batch; it was refused, and nothing of it is kept");
        code::STORAGE_ERROR
    }

    /// Puts the partition into the syncer's queue; `false`: it is there already.
    pub(crate) fn enter_sync_queue(&mut self) -> bool {
        !std::mem::replace(&mut self.queued, true)
    }

    /// Takes the partition out of the queue, with the data to sync now; `None`: nothing.
    pub(crate) fn leave_sync_queue(&mut self) -> Option<Unsynced> {
        self.queued = false;
        self.unsynced()
    }

    fn unsynced(&self) -> Option<Unsynced> {
        if self.failed || self.high_watermark == self.next_offset {
            return None;
        }
        let tail = || self.segments.iter().rev().take(2);
        let files = tail().filter_map(|s| s.unsynced().map(|(file, len)| (s.base_offset(), len, file)));
        let dir = tail().any(Segment::is_entry_unsynced).then(|| self.dir.clone());
        // Oldest first: a closed file is whole before the file after it counts.
        let mut files: Vec<_> = files.collect();
        files.reverse();
        Some(Unsynced { files, dir, next_offset: self.next_offset, noted_in: self.dir.clone() })
    }

    /// Notes that a sync has succeeded: its data becomes visible.
    pub(crate) fn synced(&mut self, done: &Unsynced) {
        let last = self.segments.len().saturating_sub(1);
        for (base, len, _) in &done.files {
            for (at, segment) in self.segments.iter_mut().enumerate().rev().take(3) {
                if segment.base_offset() == *base {
                    self.bytes_synced += len.saturating_sub(segment.synced_len());
                    segment.synced(*len);
                    if at < last && segment.unsynced().is_none() {
                        segment.close();
                    }
                }
            }
        }
        self.high_watermark = self.high_watermark.max(done.next_offset);
        self.waiters.wake();
    }

    /// Notes that the disk failed for unsynced data: the partition is read-only from now on, for good. The kernel may
    /// have dropped the pages that it could not write, so a later successful sync would prove nothing.
    pub(crate) fn fail(&mut self, error: &io::Error) {
        if !std::mem::replace(&mut self.failed, true) && !self.removed {
            tracing::error!(partition = %self.name, %error, synced_up_to = self.high_watermark,
                "the disk failed: this partition is read-only until the next start; producers get KAFKA_STORAGE_ERROR");
        }
        self.waiters.wake();
    }

    /// Notes that the topic is deleted: nothing is appended or read any more.
    pub(crate) fn remove(&mut self) {
        self.removed = true;
        self.waiters.wake();
    }

    /// Whether the topic was deleted.
    pub(crate) fn is_removed(&self) -> bool {
        self.removed
    }

    /// The producers that the partition remembers.
    pub(crate) fn producers(&self) -> &Producers {
        &self.producers
    }

    /// Takes out the oldest segments that exceed `limits`, and returns the files to remove. If even the newest record
    /// is too old, an empty segment preserves the next offset: the next record gets the offset after the last one.
    pub(crate) fn expire(&mut self, disk: &dyn Disk, limits: Limits, now_ms: i64) -> io::Result<Option<Expired>> {
        let is_clean = |segment: &Segment| segment.unsynced().is_none() && !segment.is_entry_unsynced();
        let mut left: u64 = self.segments.iter().map(Segment::len).sum();
        let mut count = 0;
        for segment in self.segments.iter().take_while(|segment| is_clean(segment)) {
            let is_last = count + 1 == self.segments.len();
            if is_last && segment.is_empty() {
                break;
            }
            let too_much = !is_last && limits.bytes.is_some_and(|bytes| left - segment.len() >= bytes);
            let newest = segment.newest().map(|(timestamp, _)| timestamp);
            let too_old = limits.age_ms.zip(newest).is_some_and(|(age, newest)| now_ms.saturating_sub(newest) > age);
            // Nothing can be read from a segment of damage.
            if !too_much && !too_old && !segment.is_empty() {
                break;
            }
            left -= segment.len();
            count += 1;
        }
        if count == 0 || self.failed || self.removed {
            return Ok(None);
        }
        if count == self.segments.len() {
            let mut fresh = Segment::create(disk, &self.dir, self.index, self.next_offset)?;
            fresh.close();
            self.segments.push_back(fresh);
        }
        let gone: Vec<_> = self.segments.drain(..count).collect();
        let bytes = gone.iter().map(Segment::len).sum();
        let files = gone.iter().map(|segment| segment.source().path().to_owned()).collect();
        tracing::info!(partition = %self.name, segments = count, bytes, log_start = self.log_start_offset(), "deleted old segments (retention)");
        Ok(Some(Expired { dir: self.dir.clone(), files, bytes }))
    }

    /// Registers `notify` for the next progress (or failure).
    pub(crate) fn on_progress(&mut self, notify: &Rc<Notify>) {
        self.waiters.add(notify);
    }

    /// A plan to read from an offset; `None`: nothing visible there yet. Error 1: the offset is outside the log.
    pub(crate) fn plan_read(&self, offset: i64) -> Result<Option<ReadPlan>, i16> {
        if self.removed {
            return Err(code::UNKNOWN_TOPIC_OR_PARTITION);
        }
        if offset < self.log_start_offset() || offset > self.next_offset {
            return Err(code::OFFSET_OUT_OF_RANGE);
        }
        if offset >= self.high_watermark {
            return Ok(None);
        }
        let after = self.segments.partition_point(|segment| segment.base_offset() <= offset);
        let holding = after.saturating_sub(1);
        for segment in self.segments.iter().skip(holding) {
            if segment.next_offset() <= offset {
                continue;
            }
            let start = segment.seek(offset);
            let end = segment.readable_until(start);
            let is_last = self.segments.back().is_some_and(|last| last.base_offset() == segment.base_offset());
            let to_visible_end = is_last && end == segment.synced_len();
            if start >= end && !is_last {
                // Nothing in the rest of the segment can be read.
                continue;
            }
            let plan = ReadPlan { source: segment.source(), start, end, offset, to_visible_end };
            return Ok((start < end).then_some(plan));
        }
        Ok(None)
    }

    /// The synced part of the segment with this file: its first offset, its length and the offset after it. `None`: the segment is not part
    /// of the log any more.
    pub(crate) fn synced_part(&self, source: &Source) -> Option<(i64, u64, i64)> {
        let segment = self.segments.iter().find(|segment| segment.source().path() == source.path())?;
        let next = segment.next_offset().min(self.high_watermark);
        Some((segment.base_offset(), segment.synced_len(), next))
    }

    /// Takes the index and the holes of a segment that was read again up to [`Partition::synced_part`]. Returns the holes that are new.
    pub(crate) fn adopt(&mut self, again: Segment, (synced_len, next_offset): (u64, i64)) -> Vec<Hole> {
        let segment = self.segments.iter_mut().find(|segment| segment.base_offset() == again.base_offset());
        segment.map_or_else(Vec::new, |segment| segment.adopt(again, synced_len, next_offset))
    }

    /// Plans to look for the first record at or after a time, segment by segment.
    pub(crate) fn plan_time(&self, timestamp: i64) -> Vec<TimePlan> {
        let plan = |segment: &Segment| {
            let start = segment.seek_time(timestamp)?;
            let holes = segment.holes().to_vec();
            Some(TimePlan { source: segment.source(), start, end: segment.synced_len(), holes, timestamp })
        };
        self.segments.iter().filter_map(plan).collect()
    }

    /// A plan to read the record with the newest timestamp, which may not be synced yet.
    pub(crate) fn plan_newest(&self) -> Option<NewestPlan> {
        let newest = |segment: &&Segment| segment.newest().map(|(timestamp, _)| timestamp);
        // The first of equals is wanted, and `max_by_key` takes the last.
        let segment = self.segments.iter().rev().filter(|s| s.newest().is_some()).max_by_key(newest)?;
        let (_, position) = segment.newest()?;
        Some(NewestPlan { source: segment.source(), position, end: segment.len() })
    }

    /// Closes the file of the last segment, if it has nothing to sync.
    pub(crate) fn close_if_clean(&mut self) -> bool {
        let clean = |segment: &&mut Segment| segment.unsynced().is_none();
        self.segments.back_mut().filter(clean).map(Segment::close).is_some()
    }

    /// Whether the last segment's file is open.
    pub(crate) fn is_open(&self) -> bool {
        self.segments.back().is_some_and(Segment::is_open)
    }

    /// First offset.
    pub(crate) fn log_start_offset(&self) -> i64 {
        self.segments.front().map_or(0, Segment::base_offset)
    }

    /// Offset after the last appended record.
    pub(crate) fn next_offset(&self) -> i64 {
        self.next_offset
    }

    /// Offset after the last synced record, up to which readers may read.
    pub(crate) fn high_watermark(&self) -> i64 {
        self.high_watermark
    }

    /// Bytes synced since startup.
    pub(crate) fn bytes_synced(&self) -> u64 {
        self.bytes_synced
    }

    /// Whether the disk failed under the partition.
    pub(crate) fn is_failed(&self) -> bool {
        self.failed
    }
}
