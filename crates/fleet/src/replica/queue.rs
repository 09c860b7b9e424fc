//! Records that wait for Kafka, gathered into batches in order of appending.

use std::collections::VecDeque;
use std::iter;

use super::BATCH_BYTES_MAX;
use super::format::{KEY_BYTES_MAX, Key};
use forebay_record::{Builder, HEADER_LEN, Row};
use forebay_runtime::seam::WallMs;

/// The most bytes of a value: with key and lengths it fills a batch.
pub(super) const VALUE_BYTES_MAX: usize = BATCH_BYTES_MAX - HEADER_LEN - KEY_BYTES_MAX - 32;

/// The waiting batches. The last one grows.
#[derive(Debug, Default)]
pub(super) struct Queue {
    batches: VecDeque<Builder>,
    /// The number of records ever put in.
    pub(super) put: u64,
    pub(super) bytes: usize,
    pub(super) records: u64,
}

impl Queue {
    pub(super) fn put(&mut self, key: Key, value: Option<&[u8]>) {
        let key = key.encode();
        // Kafka sets the time (`message.timestamp.type=LogAppendTime`).
        let row = Row { key: Some(&key[..]), value, headers: iter::empty(), timestamp: WallMs(-1) };
        let tail = row.measure();
        let has_room = |batch: &Builder| batch.len() + batch.next(-1, tail.len).len <= BATCH_BYTES_MAX;
        if !self.batches.back().is_some_and(has_room) {
            self.batches.push_back(Builder::new(Vec::new()));
            self.bytes += HEADER_LEN;
        }
        if let Some(batch) = self.batches.back_mut() {
            let before = batch.len();
            batch.append(&row, tail);
            self.bytes += batch.len() - before;
        }
        self.put += 1;
        self.records += 1;
    }

    /// The oldest batch.
    pub(super) fn pop(&mut self) -> Option<Builder> {
        let batch = self.batches.pop_front()?;
        self.bytes -= batch.len();
        self.records -= u64::from(batch.count());
        Some(batch)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.batches.is_empty()
    }
}
