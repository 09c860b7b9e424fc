//! Helpers for the tests of the embedded log.

use std::net::SocketAddr;
use std::sync::Arc;

use crate::batch::BatchHeader;
use crate::disk::Disk;
use crate::{EmbeddedLog, Settings};

/// A header of an idempotent batch, with the fields that matter for sequences.
pub(crate) fn header(producer_id: i64, epoch: i16, sequence: i32, count: i32) -> BatchHeader {
    BatchHeader {
        base_offset: 0,
        size: 100,
        leader_epoch: -1,
        magic: 2,
        crc: 0,
        attributes: 0,
        last_offset_delta: count - 1,
        base_timestamp: 0,
        max_timestamp: 0,
        producer_id,
        producer_epoch: epoch,
        base_sequence: sequence,
        records_count: count,
    }
}

/// Settings with any free port, and one partition per topic.
pub(crate) fn settings(dir: &std::path::Path) -> Settings {
    let mut settings = Settings::new(SocketAddr::from(([127, 0, 0, 1], 0)), dir);
    settings.partitions_default = 1;
    settings
}

/// A log in a fresh directory.
pub(crate) fn log() -> (EmbeddedLog, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    (EmbeddedLog::start(settings(dir.path())).unwrap(), dir)
}

/// A log in a fresh directory over a disk of the test.
pub(crate) fn log_on(disk: Arc<dyn Disk>) -> (EmbeddedLog, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    (EmbeddedLog::start_on(settings(dir.path()), disk).unwrap(), dir)
}
