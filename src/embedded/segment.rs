//! One segment file: v2 batches end to end, named by the offset of its first record, with a sparse index in memory.
//!
//! A segment knows nothing of topics, producers or clients. It appends, it finds the place to start reading from by
//! offset or by time, and it remembers which of its bytes are known to be on the disk: only those may be read.

use std::fs::{File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::batch::BatchHeader;
use super::disk::Disk;

/// One index entry for about this many bytes: 24 bytes of memory for 16 KiB on disk.
pub(crate) const INDEX_INTERVAL_BYTES: u64 = 16 << 10;

#[derive(Clone, Copy, Debug)]
struct IndexEntry {
    /// Base offset of the batch at `position`.
    offset: i64,
    position: u64,
    /// Newest timestamp of all batches before `position`.
    max_timestamp_before: i64,
}

/// Bytes amid a segment that no batch can be read from. They stay in the file; readers step over them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Hole {
    /// Its first byte.
    pub(crate) start: u64,
    /// The first byte of the batch after it.
    pub(crate) end: u64,
    /// Offset that was expected at `start`.
    pub(crate) first_offset: i64,
    /// Offset of the batch after it.
    pub(crate) next_offset: i64,
}

/// A file to read from: open already, or by its path.
#[derive(Clone, Debug)]
pub(crate) struct Source {
    file: Option<Arc<File>>,
    path: PathBuf,
}

impl Source {
    /// The file, opened if it is not open.
    pub(crate) fn open(&self) -> io::Result<Arc<File>> {
        match &self.file {
            Some(file) => Ok(Arc::clone(file)),
            None => File::open(&self.path).map(Arc::new),
        }
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

/// A segment and its index.
#[derive(Debug)]
pub(crate) struct Segment {
    path: PathBuf,
    file: Option<Arc<File>>,
    base_offset: i64,
    next_offset: i64,
    len: u64,
    synced_len: u64,
    /// Whether its directory entry may still be lost.
    entry_unsynced: bool,
    index: Vec<IndexEntry>,
    holes: Vec<Hole>,
    max_timestamp: i64,
    /// Where the batch with `max_timestamp` is.
    newest_position: u64,
}

/// `%020d.log`.
pub(crate) fn file_name(base_offset: i64) -> String {
    format!("{base_offset:020}.log")
}

/// The base offset in a segment's file name.
pub(crate) fn base_offset_of(name: &str) -> Option<i64> {
    let digits = name.strip_suffix(".log")?;
    (digits.len() == 20 && digits.bytes().all(|b| b.is_ascii_digit())).then(|| digits.parse().ok())?
}

impl Segment {
    /// A segment without bytes, for a file that is there (`recover` fills it) or that [`Segment::create`] makes.
    pub(crate) fn empty(dir: &Path, base_offset: i64) -> Segment {
        Segment {
            path: dir.join(file_name(base_offset)),
            file: None,
            base_offset,
            next_offset: base_offset,
            len: 0,
            synced_len: 0,
            entry_unsynced: false,
            index: Vec::new(),
            holes: Vec::new(),
            max_timestamp: i64::MIN,
            newest_position: 0,
        }
    }

    /// Makes the file. Its directory entry is not synced yet.
    pub(crate) fn create(dir: &Path, base_offset: i64) -> io::Result<Segment> {
        let mut segment = Segment::empty(dir, base_offset);
        let file = OpenOptions::new().read(true).write(true).create_new(true).open(&segment.path)?;
        segment.file = Some(Arc::new(file));
        segment.entry_unsynced = true;
        Ok(segment)
    }

    /// Writes a batch, its offset in place, behind the last one. On an error the segment is as before, unless even
    /// that could not be restored: then the error is [`AppendError::Unclean`].
    pub(crate) fn append(&mut self, disk: &dyn Disk, batch: &[u8], header: &BatchHeader) -> Result<(), AppendError> {
        let file = self.open().map_err(AppendError::Clean)?;
        if let Err(error) = disk.write(&file, batch, self.len) {
            // A part may be there (disk full): cut it off, or recovery would find it behind later batches.
            return Err(match file.set_len(self.len) {
                Ok(()) => AppendError::Clean(error),
                Err(_) => AppendError::Unclean(error),
            });
        }
        self.note(header, self.len);
        Ok(())
    }

    fn open(&mut self) -> io::Result<Arc<File>> {
        if let Some(file) = &self.file {
            return Ok(Arc::clone(file));
        }
        let file = Arc::new(OpenOptions::new().read(true).write(true).open(&self.path)?);
        self.file = Some(Arc::clone(&file));
        Ok(file)
    }

    /// Enters a batch that stands at `position` (the end so far) into length and index.
    pub(crate) fn note(&mut self, header: &BatchHeader, position: u64) {
        let due = match self.index.last() {
            None => true,
            Some(last) => position - last.position >= INDEX_INTERVAL_BYTES || position != self.len,
        };
        if due {
            let max_timestamp_before = self.max_timestamp;
            self.index.push(IndexEntry { offset: header.base_offset, position, max_timestamp_before });
        }
        if position != self.len {
            self.holes.push(Hole {
                start: self.len,
                end: position,
                first_offset: self.next_offset,
                next_offset: header.base_offset,
            });
        }
        if header.max_timestamp > self.max_timestamp {
            self.max_timestamp = header.max_timestamp;
            self.newest_position = position;
        }
        self.len = position + header.size as u64;
        self.next_offset = header.last_offset() + 1;
    }

    /// Where to start reading for an offset of this segment: at or at most [`INDEX_INTERVAL_BYTES`] before its batch.
    pub(crate) fn seek(&self, offset: i64) -> u64 {
        if let Some(hole) = self.holes.iter().find(|hole| (hole.first_offset..hole.next_offset).contains(&offset)) {
            return hole.end;
        }
        let after = self.index.partition_point(|entry| entry.offset <= offset);
        after.checked_sub(1).map_or(0, |at| self.index[at].position)
    }

    /// Where to start looking for the first record at or after a time; `None`: it is not in this segment.
    pub(crate) fn seek_time(&self, timestamp: i64) -> Option<u64> {
        if self.max_timestamp < timestamp {
            return None;
        }
        let after = self.index.partition_point(|entry| entry.max_timestamp_before < timestamp);
        Some(after.checked_sub(1).map_or(0, |at| self.index[at].position))
    }

    /// Up to where one may read from `position` without a break: a hole, or the end of what is synced.
    pub(crate) fn readable_until(&self, position: u64) -> u64 {
        let hole = self.holes.iter().map(|hole| hole.start).find(|start| *start >= position);
        hole.unwrap_or(u64::MAX).min(self.synced_len)
    }

    /// What has to reach the disk: the file and the length it has now. `None`: nothing.
    pub(crate) fn unsynced(&self) -> Option<(Arc<File>, u64)> {
        if self.synced_len == self.len {
            return None;
        }
        self.file.as_ref().map(|file| (Arc::clone(file), self.len))
    }

    /// Everything up to `len` is on the disk, directory entry included.
    pub(crate) fn synced(&mut self, len: u64) {
        self.synced_len = self.synced_len.max(len);
        self.entry_unsynced = false;
    }

    /// Lets go of the file; it is opened again when needed. Only for a segment with nothing to sync.
    pub(crate) fn close(&mut self) {
        debug_assert_eq!(self.synced_len, self.len);
        self.file = None;
    }

    /// To read from.
    pub(crate) fn source(&self) -> Source {
        Source { file: self.file.clone(), path: self.path.clone() }
    }

    /// Whether it holds a file open.
    pub(crate) fn is_open(&self) -> bool {
        self.file.is_some()
    }

    /// Whether its directory entry may still be lost.
    pub(crate) fn is_entry_unsynced(&self) -> bool {
        self.entry_unsynced
    }

    /// Offset of its first record.
    pub(crate) fn base_offset(&self) -> i64 {
        self.base_offset
    }

    /// Offset after its last record.
    pub(crate) fn next_offset(&self) -> i64 {
        self.next_offset
    }

    /// Its bytes.
    pub(crate) fn len(&self) -> u64 {
        self.len
    }

    /// Whether it has none.
    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Its bytes known to be on the disk.
    pub(crate) fn synced_len(&self) -> u64 {
        self.synced_len
    }

    /// Its unreadable stretches.
    pub(crate) fn holes(&self) -> &[Hole] {
        &self.holes
    }

    /// Newest timestamp and the position of its batch, if there is one with a time.
    pub(crate) fn newest(&self) -> Option<(i64, u64)> {
        (self.max_timestamp >= 0).then_some((self.max_timestamp, self.newest_position))
    }
}

/// Why an append failed.
#[derive(Debug)]
pub(crate) enum AppendError {
    /// Nothing of it is there; the segment can go on when the cause is gone (disk full).
    Clean(io::Error),
    /// A part of it may be there.
    Unclean(io::Error),
}
