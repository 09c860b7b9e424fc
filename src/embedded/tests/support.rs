//! Batches made by hand, byte by byte, so that tests do not depend on the code under test.

use crate::embedded::batch::BatchHeader;

/// A header of an idempotent batch, as far as sequences go.
pub(crate) fn header(producer_id: i64, epoch: i16, sequence: i32, count: i32) -> BatchHeader {
    BatchHeader {
        base_offset: 0,
        size: 100,
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
