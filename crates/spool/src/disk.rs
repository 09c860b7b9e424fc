//! The disk interface: what the log asks of the disk, and what the disk reports. The log itself accesses no files.
//!
//! Requirements on an implementation (mapped memory, writes on a ring, or a simulation):
//!
//! - Positions and lengths are bytes from the start of the segment's file. A created segment reads as zeroes.
//! - After [`Disk::append`] has returned, [`Disk::read`] gives those bytes. They may vanish, tear or reach the disk in any order until a
//!   later [`Disk::sync`] is reported with `ok`.
//! - The log has one sync in flight at a time, and appends nothing between a sync and its completion; `append` takes a whole group of
//!   entries at once. The log never appends twice to the same bytes.
//! - A sync that failed is final: the log never retries the same bytes, but goes on in a new segment.
//! - Completions are handed to `Log::complete`, in any order among different segments, each exactly once.

/// Why bytes cannot be appended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    /// The file system has no room for the bytes. This does not happen if segments are really allocated at creation.
    #[error("no space left")]
    Full,
    /// The segment cannot be written any more. The log goes on in a new one.
    #[error("the segment cannot be written")]
    Gone,
}

/// Why bytes cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// The segment does not exist.
    #[error("not there")]
    Missing,
    /// The device reported an error but can read other bytes of the segment, or the file ends before these bytes: they are lost.
    #[error("the disk cannot read it, and can read what is close by")]
    Damaged,
    /// The file cannot be opened: its permissions, or too many open files in the process. The contents may be intact.
    #[error("the file cannot be opened")]
    Unopened,
    /// The device reported an error. It may be temporarily unavailable: the bytes may be intact.
    #[error("the disk cannot read it")]
    Failed,
    /// The read has been submitted and will complete later. Not during recovery, which waits.
    #[error("the disk has been asked for it")]
    Later,
}

/// The log's requests to the disk. None of them may block.
pub trait Disk {
    /// Creates the segment with room for `bytes` really allocated, and its directory entry synced. Answered by [`Completion::Created`].
    fn create(&mut self, segment: u64, bytes: u64);

    /// Appends bytes at position `at` of a created segment.
    ///
    /// # Errors
    /// None or only part of the bytes may have been appended: the log treats the segment as after a failed sync.
    fn append(&mut self, segment: u64, at: u64, bytes: &[u8]) -> Result<(), AppendError>;

    /// Makes all bytes appended to these segments durable. Answered by [`Completion::Synced`]. There are at most two segments: the end of
    /// one and the beginning of the next.
    fn sync(&mut self, token: u64, segments: &[u64]);

    /// Marks a segment as unreadable in part: when it is freed, its file is kept under another name for inspection. At most a few files are
    /// kept. Not answered.
    fn set_aside(&mut self, _segment: u64) {}

    /// Returns the last note of [`Disk::write_note`], for recovery. `None`: no note.
    fn read_note(&self) -> Option<Vec<u8>>;

    /// Keeps some hundred bytes beside the segments, in place of the previous note. Not answered. After a crash the previous note may be
    /// back, unless a segment exists that was requested later.
    fn write_note(&mut self, note: &[u8]);

    /// Deletes a segment. Answered by [`Completion::Freed`] when its space is available again.
    fn free(&mut self, segment: u64);

    /// Bytes that the segments from this number on take, where only what was appended takes any, and freeing a segment ends them. `None`: each takes its whole
    /// length, so nothing is gained by putting together what lives while there is room.
    fn taken(&self, _from: u64) -> Option<u64> {
        None
    }

    /// Copies `into.len()` bytes from position `at`. Only drains and moves call it, never the path of a live message. An implementation may
    /// wait for the disk, or answer [`ReadError::Later`] and have the bytes when it is asked again.
    ///
    /// # Errors
    /// Nothing was read.
    fn read(&self, segment: u64, at: u64, into: &mut [u8]) -> Result<(), ReadError>;
}

/// The disk's report on a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Completion {
    /// A segment exists and is durable as an empty file, or (`ok` false) could not be created.
    Created {
        /// The segment's number.
        segment: u64,
        /// Whether the segment exists.
        ok: bool,
    },
    /// A sync has ended.
    Synced {
        /// The token of the call.
        token: u64,
        /// Whether all of the bytes are durable. False is final for those bytes.
        ok: bool,
    },
    /// A segment was deleted.
    Freed {
        /// The segment's number.
        segment: u64,
    },
}
