//! One partition: its segments, its producers, and how far it is synced. Lives on the log's thread alone.

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
use super::disk::Disk;
use super::meta::PRODUCER_ID_END;
use super::producers::{Producers, Verdict};
use super::read::{NewestPlan, ReadPlan, TimePlan};
use super::recover;
use super::segment::{AppendError, Segment};
use super::waiters::Waiters;
use crate::spool::{BATCH_AT, put_batch};

/// A partition as the tasks of the log's thread share it.
pub(crate) type PartitionRef = Rc<RefCell<Partition>>;

/// What became of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Appended {
    /// Offset of its first record.
    pub(crate) base_offset: i64,
    /// It may be answered once the partition is synced up to here.
    pub(crate) next_offset: i64,
    /// It was there already.
    pub(crate) duplicate: bool,
}

/// What one sync has to cover for one partition.
#[derive(Debug)]
pub(crate) struct Unsynced {
    /// Files, each with base offset and the length to reach.
    pub(crate) files: Vec<(i64, u64, Arc<File>)>,
    /// The directory, if it has a new entry.
    pub(crate) dir: Option<PathBuf>,
    /// The log end that it makes visible.
    pub(crate) next_offset: i64,
}

/// One partition.
#[derive(Debug)]
pub(crate) struct Partition {
    name: String,
    /// Its number within the topic.
    index: u32,
    dir: PathBuf,
    segments: VecDeque<Segment>,
    producers: Producers,
    next_offset: i64,
    high_watermark: i64,
    /// Bytes synced since the start, ever growing; what a long poll measures by.
    bytes_synced: u64,
    failed: bool,
    /// Its topic was deleted.
    removed: bool,
    /// Whether the syncer has it on its list.
    queued: bool,
    waiters: Waiters,
}

/// A bound or two of a partition.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    /// Segments are closed at this size.
    pub(crate) segment_bytes: u64,
    /// Producers remembered.
    pub(crate) producers_max: usize,
}

/// How much of a partition is kept; `None`: all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Limits {
    /// A segment goes when its newest record is older than this.
    pub(crate) age_ms: Option<i64>,
    /// A segment goes when this much is left without it.
    pub(crate) bytes: Option<u64>,
}

/// Segments that are no longer part of the log.
#[derive(Debug)]
pub(crate) struct Expired {
    /// To be synced before anything is removed: a segment that keeps the place may be new in it.
    pub(crate) dir: PathBuf,
    /// To be removed, oldest first.
    pub(crate) files: Vec<PathBuf>,
    /// What they hold.
    pub(crate) bytes: u64,
}

/// What recovery found in one partition.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Findings {
    /// Bytes cut off its end.
    pub(crate) bytes_cut: u64,
    /// Unreadable stretches left in place.
    pub(crate) holes: u64,
    /// Files damaged, missing or under another's name.
    pub(crate) files: u64,
    /// The highest producer id in its batches, of those that this log may have given out.
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
    ) -> io::Result<(Partition, Findings)> {
        let mut partition = Partition::new(name, dir, bounds);
        let producers = &mut partition.producers;
        let mut producer_id = None;
        let found = recover::recover(disk, &partition.dir, partition.index, |header| {
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

    /// Appends a batch that passed [`batch::check`], or finds that it is there. `scratch` is reused between calls.
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

    /// Opens a new segment if the entry does not fit. Not before the last but one is synced: recovery relies on it.
    fn roll(&mut self, disk: &dyn Disk, bounds: Bounds, bytes: usize) -> io::Result<()> {
        let full = match self.segments.back() {
            None => true,
            Some(active) if !active.is_writable() => true,
            Some(active) => !active.is_empty() && active.len() + bytes as u64 > bounds.segment_bytes,
        };
        let before = self.segments.len().checked_sub(2).and_then(|at| self.segments.get(at));
        if full && before.is_none_or(|segment| segment.unsynced().is_none()) {
            self.segments.push_back(Segment::create(disk, &self.dir, self.index, self.next_offset)?);
        }
        Ok(())
    }

    fn refuse_for_now(&self, error: &io::Error) -> i16 {
        tracing::error!(partition = %self.name, %error, "cannot write a batch; it was refused, and nothing of it is kept");
        code::STORAGE_ERROR
    }

    /// Enters it on the syncer's list; `false`: it is there already.
    pub(crate) fn enter_sync_queue(&mut self) -> bool {
        !std::mem::replace(&mut self.queued, true)
    }

    /// Takes it off the list, with what has to be synced now; `None`: nothing.
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
        // Oldest first: the file that was closed is whole before the one after it counts.
        let mut files: Vec<_> = files.collect();
        files.reverse();
        Some(Unsynced { files, dir, next_offset: self.next_offset })
    }

    /// A sync of all this has succeeded: it becomes visible.
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

    /// The disk failed under what is not synced: read-only from now on, for good. The kernel may have dropped the
    /// pages that it could not write, so a later sync that succeeds would prove nothing.
    pub(crate) fn fail(&mut self, error: &io::Error) {
        if !std::mem::replace(&mut self.failed, true) && !self.removed {
            tracing::error!(partition = %self.name, %error, synced_up_to = self.high_watermark,
                "the disk failed: this partition is read-only until the next start; producers get KAFKA_STORAGE_ERROR");
        }
        self.waiters.wake();
    }

    /// Its topic is deleted: nothing is appended or read any more.
    pub(crate) fn remove(&mut self) {
        self.removed = true;
        self.waiters.wake();
    }

    /// Whether its topic was deleted.
    pub(crate) fn is_removed(&self) -> bool {
        self.removed
    }

    /// The producers it remembers.
    pub(crate) fn producers(&self) -> &Producers {
        &self.producers
    }

    /// Takes out the oldest segments that lie beyond `limits`, and says which files have to go. If even the newest
    /// record is too old, an empty segment keeps the place: the next record gets the offset after the last one.
    pub(crate) fn expire(&mut self, disk: &dyn Disk, limits: Limits, now_ms: i64) -> io::Result<Option<Expired>> {
        let is_clean = |segment: &Segment| segment.unsynced().is_none() && !segment.is_entry_unsynced();
        let mut left: u64 = self.segments.iter().map(Segment::len).sum();
        let mut count = 0;
        for segment in self.segments.iter().take_while(|segment| is_clean(segment) && !segment.is_empty()) {
            let is_last = count + 1 == self.segments.len();
            let too_much = !is_last && limits.bytes.is_some_and(|bytes| left - segment.len() >= bytes);
            let newest = segment.newest().map(|(timestamp, _)| timestamp);
            let too_old = limits.age_ms.zip(newest).is_some_and(|(age, newest)| now_ms.saturating_sub(newest) > age);
            if !too_much && !too_old {
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

    /// Has `notify` called at the next progress (or failure).
    pub(crate) fn on_progress(&mut self, notify: &Rc<Notify>) {
        self.waiters.add(notify);
    }

    /// Where to read an offset; `None`: nothing visible there yet. 1: the offset is outside of the log.
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
            let plan = ReadPlan { source: segment.source(), start, end, offset, to_visible_end };
            return Ok((start < end).then_some(plan));
        }
        Ok(None)
    }

    /// Where to look for the first record at or after a time, segment by segment.
    pub(crate) fn plan_time(&self, timestamp: i64) -> Vec<TimePlan> {
        let plan = |segment: &Segment| {
            let start = segment.seek_time(timestamp)?;
            let holes = segment.holes().to_vec();
            Some(TimePlan { source: segment.source(), start, end: segment.synced_len(), holes, timestamp })
        };
        self.segments.iter().filter_map(plan).collect()
    }

    /// Where the record with the newest timestamp is. It may not be synced yet.
    pub(crate) fn plan_newest(&self) -> Option<NewestPlan> {
        let newest = |segment: &&Segment| segment.newest().map(|(timestamp, _)| timestamp);
        // The first of equals: `max_by_key` takes the last.
        let segment = self.segments.iter().rev().filter(|s| s.newest().is_some()).max_by_key(newest)?;
        let (_, position) = segment.newest()?;
        Some(NewestPlan { source: segment.source(), position, end: segment.len() })
    }

    /// Lets go of the file of the last segment, if it has nothing to sync.
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

    /// Offset after the last synced record: what readers may see.
    pub(crate) fn high_watermark(&self) -> i64 {
        self.high_watermark
    }

    /// Bytes synced since the start.
    pub(crate) fn bytes_synced(&self) -> u64 {
        self.bytes_synced
    }

    /// Whether the disk failed under it.
    pub(crate) fn is_failed(&self) -> bool {
        self.failed
    }
}
