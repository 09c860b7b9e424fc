//! Reads of batches from segments: for a Fetch, by time for ListOffsets, and recovery's walk.
//!
//! A plan is made on the log's thread from the state in memory; running it reads the disk, on a blocking thread. A plan
//! owns all its data, so the threads share nothing.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use bytes::Bytes;

use super::batch::{BatchHeader, HEADER_LEN, records};
use super::segment::{Hole, INDEX_INTERVAL_BYTES, Source};
use forebay_spool::{BATCH_AT, batch_entry_bytes, claims_batch, is_whole};

/// Bytes of an entry that must be read to know its batch.
const HEAD_BYTES: usize = BATCH_AT + HEADER_LEN;

/// Reads whole batches from one segment, beginning with the one that holds an offset.
#[derive(Clone, Debug)]
pub(crate) struct ReadPlan {
    /// The segment.
    pub(crate) source: Source,
    /// The position of the batch, or a little before it.
    pub(crate) start: u64,
    /// The end of the range to read.
    pub(crate) end: u64,
    /// The offset to begin with.
    pub(crate) offset: i64,
    /// Whether nothing visible follows `end`.
    pub(crate) to_visible_end: bool,
}

/// The result of a [`ReadPlan`].
#[derive(Debug)]
pub(crate) struct Read {
    /// Whole batches.
    pub(crate) bytes: Bytes,
    /// Whether there were more batches.
    pub(crate) more: bool,
}

/// Whether the entry of a batch is as it was written, by its checksum; without the salt by the batch's own.
pub(crate) fn stands(entry: &[u8], salt: Option<u64>, position: u64) -> bool {
    match salt {
        Some(salt) => is_whole(entry, salt, position),
        None => {
            let batch = claims_batch(entry, None).and_then(|(batch, _)| entry.get(BATCH_AT..)?.get(..batch));
            batch.is_some_and(|batch| BatchHeader::read(batch).is_ok_and(|header| header.crc_matches(batch)))
        }
    }
}

/// Whether a read has failed because of what is in the file, or because the file is too short. Then its segment is read again.
pub(crate) fn is_damage(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof)
}

fn corrupt(source: &Source) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("{}: no batch where one should be", source.path().display()))
}

fn read_at(file: &File, position: u64, count: usize) -> io::Result<Vec<u8>> {
    let mut buffer = vec![0; count];
    file.read_exact_at(&mut buffer, position)?;
    Ok(buffer)
}

/// The header of the batch in the entry at the front of `bytes`, and the entry's length.
fn batch_in(bytes: &[u8], source: &Source) -> Option<(BatchHeader, usize)> {
    let (batch, len) = claims_batch(bytes, source.salt())?;
    let header = BatchHeader::read(bytes.get(BATCH_AT..)?).ok()?;
    (header.size == batch).then_some((header, len))
}

impl ReadPlan {
    /// Reads whole batches up to `bytes_max`; with `at_least_one`, the first one even if it is larger.
    pub(crate) fn run(&self, bytes_max: usize, at_least_one: bool) -> io::Result<Read> {
        let file = self.source.open()?;
        // The batch begins within an index interval from `start`; its header is read in any case.
        let wanted = (bytes_max as u64).saturating_add(INDEX_INTERVAL_BYTES + HEAD_BYTES as u64);
        let mut buffer = read_at(&file, self.start, wanted.min(self.end.saturating_sub(self.start)) as usize)?;
        let (from, first) = self.first_batch(&buffer).ok_or_else(|| corrupt(&self.source))?;
        if first.size > bytes_max {
            if !at_least_one {
                return Ok(Read { bytes: Bytes::new(), more: true });
            }
            let position = self.start + from as u64;
            let batch = read_batch(&file, position, &first, self.end, &self.source)?;
            return Ok(self.read(batch.into(), position + batch_entry_bytes(first.size) as u64));
        }
        // Readers get batches end to end: each one is moved to the end of the previous one, over the bytes between
        // them.
        let (mut to, mut at) = (0, from);
        while let Some((header, len)) = buffer.get(at..).and_then(|rest| batch_in(rest, &self.source)) {
            let position = self.start + at as u64;
            let entry = buffer.get(at..at + len).filter(|_| to + header.size <= bytes_max);
            if !entry.is_some_and(|entry| stands(entry, self.source.salt(), position)) {
                break;
            }
            buffer.copy_within(at + BATCH_AT..at + BATCH_AT + header.size, to);
            (to, at) = (to + header.size, at + len);
        }
        if to == 0 {
            return Err(corrupt(&self.source));
        }
        buffer.truncate(to);
        Ok(self.read(buffer.into(), self.start + at as u64))
    }

    fn read(&self, bytes: Bytes, end: u64) -> Read {
        Read { bytes, more: !self.to_visible_end || end < self.end }
    }

    /// The most bytes that the plan can return.
    pub(crate) fn bytes_available(&self) -> u64 {
        self.end.saturating_sub(self.start)
    }

    fn first_batch(&self, buffer: &[u8]) -> Option<(usize, BatchHeader)> {
        let mut at = 0;
        loop {
            let (header, len) = batch_in(buffer.get(at..)?, &self.source)?;
            if header.last_offset() >= self.offset {
                return Some((at, header));
            }
            at += len;
        }
    }
}

/// An offset with the timestamp of its record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TimedOffset {
    /// Milliseconds.
    pub(crate) timestamp: i64,
    /// Offset.
    pub(crate) offset: i64,
}

/// Looks for the first record at or after a time in one segment.
#[derive(Clone, Debug)]
pub(crate) struct TimePlan {
    /// The segment.
    pub(crate) source: Source,
    /// The position to begin at.
    pub(crate) start: u64,
    /// The position to end at.
    pub(crate) end: u64,
    /// The holes to step over.
    pub(crate) holes: Vec<Hole>,
    /// The time, milliseconds.
    pub(crate) timestamp: i64,
}

impl TimePlan {
    /// Finds the first record with a timestamp at or after the time. Compressed batches are not unpacked: in such a
    /// batch, its first record counts as the wanted one.
    pub(crate) fn run(&self) -> io::Result<Option<TimedOffset>> {
        let file = self.source.open()?;
        let mut position = self.start;
        while position < self.end {
            if let Some(hole) = self.holes.iter().find(|hole| hole.start == position) {
                position = hole.end;
                continue;
            }
            let header = read_header(&file, position, &self.source)?;
            if header.max_timestamp >= self.timestamp {
                let batch = read_batch(&file, position, &header, self.end, &self.source)?;
                if let Some(found) = first_at(&batch, &header, self.timestamp) {
                    return Ok(Some(found));
                }
            }
            position += batch_entry_bytes(header.size) as u64;
        }
        Ok(None)
    }
}

fn read_header(file: &File, position: u64, source: &Source) -> io::Result<BatchHeader> {
    batch_in(&read_at(file, position, HEAD_BYTES)?, source).map(|(header, _)| header).ok_or_else(|| corrupt(source))
}

fn read_batch(file: &File, at: u64, header: &BatchHeader, end: u64, source: &Source) -> io::Result<Vec<u8>> {
    let len = batch_entry_bytes(header.size);
    if at + len as u64 > end {
        return Err(corrupt(source));
    }
    let mut entry = read_at(file, at, len)?;
    if !stands(&entry, source.salt(), at) {
        return Err(corrupt(source));
    }
    entry.truncate(BATCH_AT + header.size);
    Ok(entry.split_off(BATCH_AT))
}

fn first_at(batch: &[u8], header: &BatchHeader, timestamp: i64) -> Option<TimedOffset> {
    if header.codec() != 0 {
        return Some(TimedOffset { timestamp: header.base_timestamp, offset: header.base_offset });
    }
    let found = records(batch, header).flatten().find(|record| record.timestamp >= timestamp)?;
    let offset = header.base_offset + i64::from(found.offset_delta);
    Some(TimedOffset { timestamp: found.timestamp, offset })
}

/// A plan to read the record with the newest timestamp in the batch at a position.
#[derive(Clone, Debug)]
pub(crate) struct NewestPlan {
    /// The segment.
    pub(crate) source: Source,
    /// Position of the batch.
    pub(crate) position: u64,
    /// The end of the segment.
    pub(crate) end: u64,
}

impl NewestPlan {
    /// Returns timestamp and offset; in a compressed batch, the last offset.
    pub(crate) fn run(&self) -> io::Result<Option<TimedOffset>> {
        let file = self.source.open()?;
        let header = read_header(&file, self.position, &self.source)?;
        if header.codec() != 0 {
            return Ok(Some(TimedOffset { timestamp: header.max_timestamp, offset: header.last_offset() }));
        }
        let batch = read_batch(&file, self.position, &header, self.end, &self.source)?;
        let mut newest: Option<TimedOffset> = None;
        for record in records(&batch, &header).flatten() {
            if newest.is_none_or(|so_far| record.timestamp > so_far.timestamp) {
                let offset = header.base_offset + i64::from(record.offset_delta);
                newest = Some(TimedOffset { timestamp: record.timestamp, offset });
            }
        }
        Ok(newest)
    }
}

/// A view of a file that moves forward: recovery reads headers and batches through it without a call for each.
pub(crate) struct Window<'a> {
    file: &'a File,
    file_len: u64,
    step_bytes: usize,
    start: u64,
    buffer: Vec<u8>,
}

impl<'a> Window<'a> {
    /// Reads at least `step_bytes` at a time.
    pub(crate) fn new(file: &'a File, file_len: u64, step_bytes: usize) -> Window<'a> {
        Window { file, file_len, step_bytes, start: 0, buffer: Vec::new() }
    }

    /// Returns `count` bytes at a position, or `None` if the file ends before.
    pub(crate) fn get(&mut self, position: u64, count: usize) -> io::Result<Option<&[u8]>> {
        let end = position.saturating_add(count as u64);
        if end > self.file_len {
            return Ok(None);
        }
        if position < self.start || end > self.start + self.buffer.len() as u64 {
            let wanted = (count.max(self.step_bytes) as u64).min(self.file_len - position);
            self.buffer.resize(wanted as usize, 0);
            self.file.read_exact_at(&mut self.buffer, position)?;
            self.start = position;
        }
        let from = (position - self.start) as usize;
        Ok(Some(&self.buffer[from..from + count]))
    }
}
