//! Batches of one partition that were fetched elsewhere, read as the consumer reads them: for trials.

use std::rc::Rc;

use super::buffer::{Account, Buffer};
use super::decode::{Bad, Chunk, Position, Record, Terms};

/// Bytes that a batch may have, decompressed.
const BATCH_BYTES_MAX: usize = 64 << 20;

/// `Batches` hands out the records of batches one by one.
#[derive(Debug)]
pub struct Batches {
    chunk: Chunk,
    position: Position,
}

impl Batches {
    /// The records of these batches from an offset on. `aborted`: producer id and first offset of aborted transactions; `committed`: whether
    /// those are skipped.
    #[must_use]
    pub fn new(bytes: Vec<u8>, from: i64, aborted: Vec<(i64, i64)>, committed: bool) -> Self {
        let account = Account::default();
        let records = 0..bytes.len();
        let buffer = Rc::new(Buffer::new(bytes, 0, &account));
        let terms = Terms { committed, batch_bytes_max: BATCH_BYTES_MAX };
        let position = Position { offset: from, leader_epoch: -1 };
        Self { chunk: Chunk::new(buffer, records, aborted, terms, &account), position }
    }

    /// The next record; `None`: there are no more.
    ///
    /// # Errors
    /// [`Bad`]: the current batch cannot be read, and nothing follows.
    pub fn take(&mut self) -> Result<Option<Record<'_>>, Bad> {
        self.chunk.advance(&mut self.position);
        let is_there = self.chunk.settle(&mut self.position)?;
        Ok(if is_there { self.chunk.record(0) } else { None })
    }

    /// The offset after all records that were handed out or skipped.
    #[must_use]
    pub const fn next_offset(&self) -> i64 {
        self.position.offset
    }
}
