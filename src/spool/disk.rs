//! The seam to the disk: what the log asks for, and what it is told when that is done. The log touches no file itself.
//!
//! What an implementation owes (mapped memory, writes on a ring, or a simulation):
//!
//! - Positions and lengths are bytes from the start of the segment's file. A created segment reads as zeroes.
//! - After [`Disk::append`] has returned, [`Disk::read`] gives those bytes. They may vanish, tear or reach the disk in
//!   any order until a [`Disk::sync`] that came later is reported with `ok`.
//! - The log has one sync under way at a time, and appends nothing between a sync and its completion; `append` takes a
//!   whole group of entries at once. It never appends twice to the same bytes.
//! - A sync that failed is final: the log never asks again for the same bytes, it goes on in a new segment.
//! - Completions are handed to `Log::complete`, in any order among different segments, each exactly once.

/// Why bytes cannot be taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    /// The file system has no room for them. Where segments are really allocated at creation, this does not happen.
    #[error("no space left")]
    Full,
    /// The segment cannot be written any more. The log goes on in a new one.
    #[error("the segment cannot be written")]
    Gone,
}

/// Why bytes cannot be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// There is no such segment.
    #[error("not there")]
    Missing,
    /// The device gave an error, and gives others of that segment; or the file ends before them: these bytes are lost.
    #[error("the disk cannot read it, and can read what is close by")]
    Damaged,
    /// The file cannot be opened: its permissions, or the process has too many open. Nothing follows for what is in it.
    #[error("the file cannot be opened")]
    Unopened,
    /// The device gave an error. It may be away: nothing follows for these bytes.
    #[error("the disk cannot read it")]
    Failed,
    /// The disk has been asked for those bytes, and will have them later. Not at a start, which waits.
    #[error("the disk has been asked for it")]
    Later,
}

/// What the log asks of the disk. Nothing here may block.
pub trait Disk {
    /// Makes the segment with room for `bytes` really allocated, and its directory entry synced.
    /// Answered by [`Completion::Created`].
    fn create(&mut self, segment: u64, bytes: u64);

    /// Takes bytes for position `at` of a created segment.
    ///
    /// # Errors
    /// Nothing, or only a part, may have been taken: the log treats the segment as after a failed sync.
    fn append(&mut self, segment: u64, at: u64, bytes: &[u8]) -> Result<(), AppendError>;

    /// Makes all that was appended to these segments survive a power cut. Answered by [`Completion::Synced`].
    /// There are at most two: the end of one and the beginning of the next.
    fn sync(&mut self, token: u64, segments: &[u64]);

    /// Something in a segment cannot be read: its file stays under another name when it is freed, for somebody to look at.
    /// At most a few do. Nothing answers.
    fn set_aside(&mut self, _segment: u64) {}

    /// What the last [`Disk::write_note`] has left, at a start. `None`: nothing.
    fn read_note(&self) -> Option<Vec<u8>>;

    /// Keeps some hundred bytes beside the segments, in place of those before. Nothing answers. A crash may bring those before back, unless
    /// a segment is there that was asked for later.
    fn write_note(&mut self, note: &[u8]);

    /// Deletes a segment. Answered by [`Completion::Freed`] when its space is there again.
    fn free(&mut self, segment: u64);

    /// Copies `into.len()` bytes from position `at`. A drain or a move comes here, the way of a live message never does.
    /// An implementation may wait for the disk, or answer [`ReadError::Later`] and have them when it is asked again.
    ///
    /// # Errors
    /// Nothing was read.
    fn read(&self, segment: u64, at: u64, into: &mut [u8]) -> Result<(), ReadError>;
}

/// What the disk reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Completion {
    /// A segment is there and durable as an empty file, or (`ok` false) could not be made.
    Created {
        /// The segment's number.
        segment: u64,
        /// Whether it is there.
        ok: bool,
    },
    /// A sync has ended.
    Synced {
        /// The token of the call.
        token: u64,
        /// Whether all of it is durable. False is final for those bytes.
        ok: bool,
    },
    /// A segment is gone.
    Freed {
        /// The segment's number.
        segment: u64,
    },
}
