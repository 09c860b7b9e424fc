//! The v2 record batch as a producer sent it, with the checks that a broker makes. No count from the wire reserves memory here; compressed
//! records are not unpacked.

use super::code;
use forebay_record::Records;
pub(crate) use forebay_record::{BatchHeader, HEADER_LEN};

/// Kafka's `message.timestamp.after.max.ms`.
pub(crate) const TIMESTAMP_AHEAD_MS_MAX: i64 = 3_600_000;

/// Puts an offset and leader epoch 0 into a batch (neither is under the CRC).
pub(crate) fn place(batch: &mut [u8], base_offset: i64) {
    batch[0..8].copy_from_slice(&base_offset.to_be_bytes());
    batch[12..16].copy_from_slice(&0i32.to_be_bytes());
}

/// Why a batch was refused: a code for the client, and words for its log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    /// Kafka error code.
    pub(crate) code: i16,
    /// The reason.
    pub(crate) reason: &'static str,
}

fn refuse<T>(code: i16, reason: &'static str) -> Result<T, Refusal> {
    Err(Refusal { code, reason })
}

/// The rules for a producer's batch.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rules {
    /// Largest batch, bytes.
    pub(crate) size_max: usize,
    /// Produce version of the request (zstd needs 7, KIP-110).
    pub(crate) version: i16,
    /// Wall clock, milliseconds.
    pub(crate) now_ms: i64,
}

/// Checks the records of one partition in a Produce request: exactly one whole batch of magic 2, consistent with its header. In Kafka's
/// order: shape, size, CRC, then content, and all of it before duplicates are looked for.
pub(crate) fn check(records: &[u8], rules: Rules) -> Result<BatchHeader, Refusal> {
    if records.is_empty() {
        return refuse(code::INVALID_RECORD, "no record batch");
    }
    if records.get(16).is_some_and(|magic| *magic != 2) {
        return refuse(code::INVALID_RECORD, "only record batches of magic 2 are taken");
    }
    let Ok(header) = BatchHeader::read(records) else {
        return refuse(code::CORRUPT_MESSAGE, "no whole batch header");
    };
    if header.size > records.len() {
        return refuse(code::CORRUPT_MESSAGE, "the batch is longer than what was sent");
    }
    if header.size < records.len() {
        return refuse(code::INVALID_RECORD, "more than one batch for a partition");
    }
    if header.codec() == 4 && rules.version < 7 {
        return refuse(code::UNSUPPORTED_COMPRESSION_TYPE, "zstd needs Produce version 7");
    }
    if header.size > rules.size_max {
        return refuse(code::MESSAGE_TOO_LARGE, "the batch is larger than this log takes");
    }
    if !header.crc_matches(records) {
        return refuse(code::CORRUPT_MESSAGE, "wrong CRC");
    }
    check_header(&header, rules)?;
    if header.codec() == 0 {
        check_records(records, &header, rules.now_ms)?;
    }
    Ok(header)
}

fn check_header(header: &BatchHeader, rules: Rules) -> Result<(), Refusal> {
    if header.codec() > 4 {
        return refuse(code::UNSUPPORTED_COMPRESSION_TYPE, "unknown codec");
    }
    if header.attributes & 0x20 != 0 {
        return refuse(code::INVALID_RECORD, "producers may not send control batches");
    }
    if header.attributes & 0x10 != 0 {
        return refuse(code::INVALID_TXN_STATE, "no transactions here");
    }
    if header.records_count <= 0 || header.last_offset_delta != header.records_count - 1 {
        return refuse(code::INVALID_RECORD, "record count and last offset delta disagree");
    }
    if header.is_idempotent() && (header.base_sequence < 0 || header.producer_epoch < 0) {
        return refuse(code::INVALID_RECORD, "a producer id without sequence or epoch");
    }
    if header.attributes & 0x08 != 0 {
        return refuse(code::INVALID_TIMESTAMP, "producers may not set log append time");
    }
    if header.max_timestamp.max(header.base_timestamp) > rules.now_ms.saturating_add(TIMESTAMP_AHEAD_MS_MAX) {
        return refuse(code::INVALID_TIMESTAMP, "timestamp more than an hour ahead");
    }
    Ok(())
}

fn check_records(batch: &[u8], header: &BatchHeader, now_ms: i64) -> Result<(), Refusal> {
    let mut records = records(batch, header);
    let latest = now_ms.saturating_add(TIMESTAMP_AHEAD_MS_MAX);
    for expected in 0..header.records_count {
        let Some(Ok(record)) = records.next() else {
            return refuse(code::INVALID_RECORD, "a record is cut short or malformed");
        };
        if record.offset_delta != expected {
            return refuse(code::INVALID_RECORD, "offset deltas are not consecutive");
        }
        if record.timestamp > latest {
            return refuse(code::INVALID_TIMESTAMP, "timestamp more than an hour ahead");
        }
    }
    if records.rest_len() > 0 {
        return refuse(code::INVALID_RECORD, "bytes after the last record");
    }
    Ok(())
}

/// The records of a batch with codec 0. The last one may be an error.
pub(crate) fn records<'a>(batch: &'a [u8], header: &BatchHeader) -> Records<'a> {
    Records::new(batch.get(HEADER_LEN..).unwrap_or_default(), header.records_count, header.base_timestamp)
}
