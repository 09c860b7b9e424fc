//! The disk of a shard's spool: segments of the ring.

use std::io;

use forebay_runtime::seam::Segments;
use forebay_spool::{AppendError, Disk, ReadError};

/// The ring's segments as the log asks for them.
pub(super) struct Files<'a>(pub(super) &'a mut dyn Segments);

impl Disk for Files<'_> {
    fn create(&mut self, segment: u64, bytes: u64) {
        self.0.create(segment, bytes);
    }

    fn append(&mut self, segment: u64, at: u64, bytes: &[u8]) -> Result<(), AppendError> {
        self.0.append(segment, at, bytes).map_err(|error| match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => AppendError::Full,
            _ => AppendError::Gone,
        })
    }

    fn sync(&mut self, token: u64, segments: &[u64]) {
        self.0.sync(token, segments);
    }

    fn set_aside(&mut self, segment: u64) {
        self.0.set_aside(segment);
    }

    fn free(&mut self, segment: u64) {
        self.0.free(segment);
    }

    fn read(&self, segment: u64, at: u64, into: &mut [u8]) -> Result<(), ReadError> {
        self.0.read(segment, at, into).map_err(|error| match error.kind() {
            io::ErrorKind::WouldBlock => ReadError::Later,
            io::ErrorKind::NotFound | io::ErrorKind::InvalidInput => ReadError::Missing,
            // The file is shorter than it was.
            io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof => ReadError::Damaged,
            _ => ReadError::Failed,
        })
    }

    fn read_note(&self) -> Option<Vec<u8>> {
        self.0.read_note()
    }

    fn write_note(&mut self, note: &[u8]) {
        self.0.write_note(note);
    }
}
