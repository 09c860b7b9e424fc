//! The disks of a shard's logs: segments of the ring, and for what sessions keep perhaps Kafka.

use std::io;

use crate::runtime::seam::Segments;
use crate::spool::{AppendError, Disk, ReadError};

use super::kafka_disk::KafkaDisk;

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

/// The disk of what sessions keep: the shard's own, or Kafka.
pub(super) enum KeptDisk<'a> {
    Files(Files<'a>),
    Kafka(&'a mut KafkaDisk),
}

impl Disk for KeptDisk<'_> {
    fn create(&mut self, segment: u64, bytes: u64) {
        match self {
            Self::Files(disk) => disk.create(segment, bytes),
            Self::Kafka(disk) => disk.create(segment, bytes),
        }
    }

    fn append(&mut self, segment: u64, at: u64, bytes: &[u8]) -> Result<(), AppendError> {
        match self {
            Self::Files(disk) => disk.append(segment, at, bytes),
            Self::Kafka(disk) => disk.append(segment, at, bytes),
        }
    }

    fn sync(&mut self, token: u64, segments: &[u64]) {
        match self {
            Self::Files(disk) => disk.sync(token, segments),
            Self::Kafka(disk) => disk.sync(token, segments),
        }
    }

    fn set_aside(&mut self, segment: u64) {
        match self {
            Self::Files(disk) => disk.set_aside(segment),
            Self::Kafka(disk) => disk.set_aside(segment),
        }
    }

    fn read_note(&self) -> Option<Vec<u8>> {
        match self {
            Self::Files(disk) => disk.read_note(),
            Self::Kafka(disk) => disk.read_note(),
        }
    }

    fn write_note(&mut self, note: &[u8]) {
        match self {
            Self::Files(disk) => disk.write_note(note),
            Self::Kafka(disk) => disk.write_note(note),
        }
    }

    fn free(&mut self, segment: u64) {
        match self {
            Self::Files(disk) => disk.free(segment),
            Self::Kafka(disk) => disk.free(segment),
        }
    }

    fn read(&self, segment: u64, at: u64, into: &mut [u8]) -> Result<(), ReadError> {
        match self {
            Self::Files(disk) => disk.read(segment, at, into),
            Self::Kafka(disk) => disk.read(segment, at, into),
        }
    }
}
