//! One segment file: a spool's header, then v2 batches, each in an entry of a spool; named by the offset of its first
//! record, with a sparse index in memory.
//!
//! A segment knows nothing of topics, producers or clients. It appends, finds the place to start reading from by offset
//! or by time, and tracks which of its bytes are known to be on the disk: only those may be read.

use std::fs::{File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::batch::BatchHeader;
use super::clock;
use super::disk::Disk;
use forebay_spool::{HEADER_BYTES, batch_entry_bytes, batch_header, seal_batch};

/// Position of the first batch's entry.
pub(crate) const FIRST: u64 = HEADER_BYTES as u64;

/// Bytes between index entries, about: 24 bytes of memory for 16 KiB on disk.
pub(crate) const INDEX_INTERVAL_BYTES: u64 = 16 << 10;

#[derive(Clone, Copy, Debug)]
struct IndexEntry {
    /// Base offset of the batch at `position`.
    offset: i64,
    position: u64,
    /// Newest timestamp of all batches before `position`.
    max_timestamp_before: i64,
}

/// A range within a segment that no batch can be read from. It stays in the file; readers step over it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Hole {
    /// The hole's first byte.
    pub(crate) start: u64,
    /// The first byte of the entry after it.
    pub(crate) end: u64,
    /// The offset expected at `start`.
    pub(crate) first_offset: i64,
    /// Offset of the batch after the hole.
    pub(crate) next_offset: i64,
}

/// A file to read from, either open or given by its path.
#[derive(Clone, Debug)]
pub(crate) struct Source {
    file: Option<Arc<File>>,
    path: PathBuf,
    /// The segment's salt; `None`: its header is damaged.
    salt: Option<u64>,
}

impl Source {
    /// Returns the file, opening it if necessary.
    pub(crate) fn open(&self) -> io::Result<Arc<File>> {
        match &self.file {
            Some(file) => Ok(Arc::clone(file)),
            None => File::open(&self.path).map(Arc::new),
        }
    }

    /// The salt of the segment's entries.
    pub(crate) fn salt(&self) -> Option<u64> {
        self.salt
    }

    /// The file's path.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

/// A segment and its index.
#[derive(Debug)]
pub(crate) struct Segment {
    path: PathBuf,
    file: Option<Arc<File>>,
    /// The segment's salt; `None`: its header is damaged. Such a segment is read, and takes no more batches.
    salt: Option<u64>,
    base_offset: i64,
    next_offset: i64,
    len: u64,
    synced_len: u64,
    /// Whether the directory entry may still be lost.
    entry_unsynced: bool,
    index: Vec<IndexEntry>,
    holes: Vec<Hole>,
    max_timestamp: i64,
    /// Position of the batch with `max_timestamp`.
    newest_position: u64,
}

/// File name of a segment: `%020d.segment`, as in a spool.
pub(crate) fn file_name(base_offset: i64) -> String {
    format!("{base_offset:020}.segment")
}

/// The base offset in a segment's file name.
pub(crate) fn base_offset_of(name: &str) -> Option<i64> {
    let digits = name.strip_suffix(".segment")?;
    (digits.len() == 20 && digits.bytes().all(|b| b.is_ascii_digit())).then(|| digits.parse().ok())?
}

impl Segment {
    /// A segment without batches, for an existing file (`recover` fills it) or one that [`Segment::create`] makes.
    pub(crate) fn empty(dir: &Path, base_offset: i64, salt: Option<u64>) -> Segment {
        Segment {
            path: dir.join(file_name(base_offset)),
            file: None,
            salt,
            base_offset,
            next_offset: base_offset,
            len: FIRST,
            // A header alone needs no sync: recovery writes it again.
            synced_len: FIRST,
            entry_unsynced: false,
            index: Vec::new(),
            holes: Vec::new(),
            max_timestamp: i64::MIN,
            newest_position: 0,
        }
    }

    /// Creates the file of a partition's segment, with its header. Neither the file nor its directory entry is synced
    /// yet.
    pub(crate) fn create(disk: &dyn Disk, dir: &Path, partition: u32, base_offset: i64) -> io::Result<Segment> {
        let salt = fresh_salt();
        let mut segment = Segment::empty(dir, base_offset, Some(salt));
        let file = OpenOptions::new().read(true).write(true).create_new(true).open(&segment.path)?;
        if let Err(error) = disk.write(&file, &header_bytes(partition, base_offset, salt), 0) {
            let _ = std::fs::remove_file(&segment.path);
            return Err(error);
        }
        segment.file = Some(Arc::new(file));
        segment.entry_unsynced = true;
        Ok(segment)
    }

    /// Writes an entry after the last one: a batch with its offset, not sealed yet. On an error the segment is as before,
    /// unless even that could not be restored: then the error is [`AppendError::Unclean`].
    pub(crate) fn append(
        &mut self,
        disk: &dyn Disk,
        entry: &mut [u8],
        header: &BatchHeader,
    ) -> Result<(), AppendError> {
        let file = self.open().map_err(AppendError::Clean)?;
        let salt = self.salt.ok_or_else(|| AppendError::Clean(io::Error::other("its header is damaged")))?;
        seal_batch(entry, salt, self.len);
        if let Err(error) = disk.write(&file, entry, self.len) {
            // A part may have been written (disk full): it is cut off, or recovery would find it after later batches.
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

    /// Adds the batch at `position` (the end so far) to length and index.
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
        self.len = position + batch_entry_bytes(header.size) as u64;
        self.next_offset = header.last_offset() + 1;
    }

    /// Takes index and holes of the same segment, read again up to `synced_len`, where `next_offset` follows. Returns the holes that are new.
    pub(crate) fn adopt(&mut self, again: Segment, synced_len: u64, next_offset: i64) -> Vec<Hole> {
        let Segment { mut index, mut holes, len, next_offset: first_offset, max_timestamp, newest_position, .. } =
            again;
        if len < synced_len {
            holes.push(Hole { start: len, end: synced_len, first_offset, next_offset });
        }
        index.push(IndexEntry { offset: next_offset, position: synced_len, max_timestamp_before: max_timestamp });
        index.extend(self.index.drain(..).filter(|entry| entry.position > synced_len));
        if self.newest_position < synced_len {
            (self.max_timestamp, self.newest_position) = (max_timestamp, newest_position);
        }
        self.index = index;
        let new = holes.iter().filter(|hole| !self.holes.contains(hole)).copied().collect();
        self.holes = holes;
        new
    }

    /// Position to start reading from for an offset of this segment: that of its batch, or at most
    /// [`INDEX_INTERVAL_BYTES`] before it.
    pub(crate) fn seek(&self, offset: i64) -> u64 {
        if let Some(hole) = self.holes.iter().find(|hole| (hole.first_offset..hole.next_offset).contains(&offset)) {
            return hole.end;
        }
        let after = self.index.partition_point(|entry| entry.offset <= offset);
        after.checked_sub(1).map_or(FIRST, |at| self.index[at].position)
    }

    /// Position to start looking from for the first record at or after a time; `None`: it is not in this segment.
    pub(crate) fn seek_time(&self, timestamp: i64) -> Option<u64> {
        if self.max_timestamp < timestamp {
            return None;
        }
        let after = self.index.partition_point(|entry| entry.max_timestamp_before < timestamp);
        Some(after.checked_sub(1).map_or(FIRST, |at| self.index[at].position))
    }

    /// The position up to which one may read from `position` without a break: a hole, or the end of the synced bytes.
    pub(crate) fn readable_until(&self, position: u64) -> u64 {
        let hole = self.holes.iter().map(|hole| hole.start).find(|start| *start >= position);
        hole.unwrap_or(u64::MAX).min(self.synced_len)
    }

    /// The file and the length to sync; `None`: nothing to sync.
    pub(crate) fn unsynced(&self) -> Option<(Arc<File>, u64)> {
        if self.synced_len == self.len {
            return None;
        }
        self.file.as_ref().map(|file| (Arc::clone(file), self.len))
    }

    /// Notes that everything up to `len` is on the disk, directory entry included.
    pub(crate) fn synced(&mut self, len: u64) {
        self.synced_len = self.synced_len.max(len);
        self.entry_unsynced = false;
    }

    /// Closes the file; it is opened again when needed. Only for a segment with nothing to sync.
    pub(crate) fn close(&mut self) {
        debug_assert_eq!(self.synced_len, self.len);
        self.file = None;
    }

    /// The segment's file, to read from.
    pub(crate) fn source(&self) -> Source {
        Source { file: self.file.clone(), path: self.path.clone(), salt: self.salt }
    }

    /// Whether the file is open.
    pub(crate) fn is_open(&self) -> bool {
        self.file.is_some()
    }

    /// Whether the directory entry may still be lost.
    pub(crate) fn is_entry_unsynced(&self) -> bool {
        self.entry_unsynced
    }

    /// Offset of the first record.
    pub(crate) fn base_offset(&self) -> i64 {
        self.base_offset
    }

    /// Offset after the last record.
    pub(crate) fn next_offset(&self) -> i64 {
        self.next_offset
    }

    /// Whether the segment takes batches.
    pub(crate) fn is_writable(&self) -> bool {
        self.salt.is_some()
    }

    /// Bytes of the segment's file.
    pub(crate) fn len(&self) -> u64 {
        self.len
    }

    /// Whether the segment has no batch.
    pub(crate) fn is_empty(&self) -> bool {
        self.len == FIRST
    }

    /// Bytes known to be on the disk.
    pub(crate) fn synced_len(&self) -> u64 {
        self.synced_len
    }

    /// The segment's holes.
    pub(crate) fn holes(&self) -> &[Hole] {
        &self.holes
    }

    /// Newest timestamp and the position of its batch, if any batch has a timestamp.
    pub(crate) fn newest(&self) -> Option<(i64, u64)> {
        (self.max_timestamp >= 0).then_some((self.max_timestamp, self.newest_position))
    }
}

/// The header at the beginning of a partition's segment.
pub(crate) fn header_bytes(partition: u32, base_offset: i64, salt: u64) -> [u8; HEADER_BYTES] {
    batch_header(partition, base_offset.unsigned_abs(), salt, clock::wall_ms()).encode()
}

/// A random salt, which goes into every checksum, so that bytes that a publisher wrote into a payload are not taken for
/// an entry.
pub(crate) fn fresh_salt() -> u64 {
    fastrand::u64(..)
}

/// Why an append failed.
#[derive(Debug)]
pub(crate) enum AppendError {
    /// Nothing was written; the segment can go on when the cause is gone (disk full).
    Clean(io::Error),
    /// A part may have been written.
    Unclean(io::Error),
}
