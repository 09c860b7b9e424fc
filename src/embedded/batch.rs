//! The v2 record batch as it stands on the wire and in a segment: its header, and the checks of a batch that a producer
//! sent. A count from the wire reserves nothing here; compressed records stay closed.

use super::code;

/// Bytes before the first record.
pub(crate) const HEADER_BYTES: usize = 61;
/// `base_offset` and `batch_length`, which the batch length does not count.
pub(crate) const PREFIX_BYTES: usize = 12;
/// The CRC covers everything from the attributes on, so base offset and leader epoch can be set at append.
const CRC_FROM: usize = 21;
/// Kafka's `message.timestamp.after.max.ms`.
pub(crate) const TIMESTAMP_AHEAD_MS_MAX: i64 = 3_600_000;

/// The fixed part of a v2 batch (KIP-98).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BatchHeader {
    /// Offset of the first record.
    pub(crate) base_offset: i64,
    /// Bytes of the whole batch, prefix included.
    pub(crate) size: usize,
    /// 2, or it is no such batch.
    pub(crate) magic: i8,
    /// CRC32C as stored.
    pub(crate) crc: u32,
    /// Codec (bits 0 to 2), timestamp type (3), transactional (4), control (5).
    pub(crate) attributes: i16,
    /// Offset of the last record, from the base offset.
    pub(crate) last_offset_delta: i32,
    /// Timestamp of the first record, milliseconds, or -1.
    pub(crate) base_timestamp: i64,
    /// Newest timestamp as the producer states it.
    pub(crate) max_timestamp: i64,
    /// Producer id, or -1.
    pub(crate) producer_id: i64,
    /// Producer epoch, or -1.
    pub(crate) producer_epoch: i16,
    /// Sequence of the first record, or -1.
    pub(crate) base_sequence: i32,
    /// Number of records as stated.
    pub(crate) records_count: i32,
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at + N)?.try_into().ok()
}

impl BatchHeader {
    /// Reads a header; `None` if the bytes are too few or state a length that no batch has.
    pub(crate) fn read(bytes: &[u8]) -> Option<BatchHeader> {
        let length = i32::from_be_bytes(array(bytes, 8)?);
        let size = usize::try_from(length).ok()?.checked_add(PREFIX_BYTES)?;
        if bytes.len() < HEADER_BYTES || size < HEADER_BYTES {
            return None;
        }
        Some(BatchHeader {
            base_offset: i64::from_be_bytes(array(bytes, 0)?),
            size,
            magic: i8::from_be_bytes(array(bytes, 16)?),
            crc: u32::from_be_bytes(array(bytes, 17)?),
            attributes: i16::from_be_bytes(array(bytes, 21)?),
            last_offset_delta: i32::from_be_bytes(array(bytes, 23)?),
            base_timestamp: i64::from_be_bytes(array(bytes, 27)?),
            max_timestamp: i64::from_be_bytes(array(bytes, 35)?),
            producer_id: i64::from_be_bytes(array(bytes, 43)?),
            producer_epoch: i16::from_be_bytes(array(bytes, 51)?),
            base_sequence: i32::from_be_bytes(array(bytes, 53)?),
            records_count: i32::from_be_bytes(array(bytes, 57)?),
        })
    }

    /// Offset of the last record.
    pub(crate) fn last_offset(&self) -> i64 {
        self.base_offset.saturating_add(i64::from(self.last_offset_delta))
    }

    /// Sequence of the last record; sequences wrap at `i32::MAX` to 0.
    pub(crate) fn last_sequence(&self) -> i32 {
        ((i64::from(self.base_sequence) + i64::from(self.last_offset_delta)) & i64::from(i32::MAX)) as i32
    }

    /// Codec: 0 none, 1 gzip, 2 snappy, 3 lz4, 4 zstd.
    pub(crate) fn codec(&self) -> i16 {
        self.attributes & 7
    }

    /// Whether the producer numbers its batches.
    pub(crate) fn is_idempotent(&self) -> bool {
        self.producer_id >= 0
    }

    /// Whether this could be the header of a batch that this log stored at or after `next_offset`.
    pub(crate) fn is_plausible(&self, next_offset: i64) -> bool {
        self.magic == 2 && self.last_offset_delta >= 0 && self.base_offset >= next_offset
    }
}

/// Whether the CRC of a whole batch is right.
pub(crate) fn crc_matches(batch: &[u8], header: &BatchHeader) -> bool {
    batch.len() >= HEADER_BYTES && crc32c::crc32c(&batch[CRC_FROM..]) == header.crc
}

/// Puts an offset and leader epoch 0 into a batch (neither is under the CRC).
pub(crate) fn place(batch: &mut [u8], base_offset: i64) {
    batch[0..8].copy_from_slice(&base_offset.to_be_bytes());
    batch[12..16].copy_from_slice(&0i32.to_be_bytes());
}

/// Why a batch was not taken: a code for the client and words for its log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    /// Kafka error code.
    pub(crate) code: i16,
    /// What is wrong.
    pub(crate) reason: &'static str,
}

fn refuse<T>(code: i16, reason: &'static str) -> Result<T, Refusal> {
    Err(Refusal { code, reason })
}

/// What a producer may send.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rules {
    /// Largest batch, bytes.
    pub(crate) size_max: usize,
    /// Produce version of the request (zstd needs 7, KIP-110).
    pub(crate) version: i16,
    /// Wall clock, milliseconds.
    pub(crate) now_ms: i64,
}

/// Checks the records of one partition in a Produce request: exactly one whole batch of magic 2 that is what it says.
/// In Kafka's order: shape, size, CRC, then content, and all of it before duplicates are looked for.
pub(crate) fn check(records: &[u8], rules: Rules) -> Result<BatchHeader, Refusal> {
    if records.is_empty() {
        return refuse(code::INVALID_RECORD, "no record batch");
    }
    if records.get(16).is_some_and(|magic| *magic != 2) {
        return refuse(code::INVALID_RECORD, "only record batches of magic 2 are taken");
    }
    let Some(header) = BatchHeader::read(records) else {
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
    if !crc_matches(records, &header) {
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
    let mut records = Records::of(batch, header);
    let latest = now_ms.saturating_add(TIMESTAMP_AHEAD_MS_MAX);
    for expected in 0..header.records_count {
        let Some(record) = records.next() else {
            return refuse(code::INVALID_RECORD, "a record is cut short or malformed");
        };
        if record.offset_delta != expected {
            return refuse(code::INVALID_RECORD, "offset deltas are not consecutive");
        }
        if record.timestamp > latest {
            return refuse(code::INVALID_TIMESTAMP, "timestamp more than an hour ahead");
        }
    }
    if !records.rest.is_empty() {
        return refuse(code::INVALID_RECORD, "bytes after the last record");
    }
    Ok(())
}

/// Where and when a record of an uncompressed batch is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RecordPlace {
    /// Offset from the batch's base offset.
    pub(crate) offset_delta: i32,
    /// Timestamp, milliseconds.
    pub(crate) timestamp: i64,
}

/// Walks an uncompressed batch; ends at the first record that does not hold together.
pub(crate) struct Records<'a> {
    rest: &'a [u8],
    base_timestamp: i64,
}

impl<'a> Records<'a> {
    /// The records of a batch whose codec is 0.
    pub(crate) fn of(batch: &'a [u8], header: &BatchHeader) -> Records<'a> {
        Records { rest: batch.get(HEADER_BYTES..).unwrap_or_default(), base_timestamp: header.base_timestamp }
    }

    fn record(&mut self) -> Option<RecordPlace> {
        let length = usize::try_from(varint(&mut self.rest)?).ok()?;
        let mut body = take(&mut self.rest, length)?;
        take(&mut body, 1)?;
        let timestamp = self.base_timestamp.checked_add(varint(&mut body)?)?;
        let offset_delta = i32::try_from(varint(&mut body)?).ok()?;
        nullable(&mut body)?;
        nullable(&mut body)?;
        for _ in 0..u32::try_from(varint(&mut body)?).ok()? {
            let key_bytes = usize::try_from(varint(&mut body)?).ok()?;
            take(&mut body, key_bytes)?;
            nullable(&mut body)?;
        }
        body.is_empty().then_some(RecordPlace { offset_delta, timestamp })
    }
}

impl Iterator for Records<'_> {
    type Item = RecordPlace;

    fn next(&mut self) -> Option<RecordPlace> {
        if self.rest.is_empty() { None } else { self.record() }
    }
}

fn take<'a>(from: &mut &'a [u8], count: usize) -> Option<&'a [u8]> {
    let (head, tail) = from.split_at_checked(count)?;
    *from = tail;
    Some(head)
}

/// A byte string with its length before it; -1 is null.
fn nullable(from: &mut &[u8]) -> Option<()> {
    match varint(from)? {
        -1 => Some(()),
        length => take(from, usize::try_from(length).ok()?).map(|_| ()),
    }
}

/// A zigzag varint of up to ten bytes.
fn varint(from: &mut &[u8]) -> Option<i64> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let (&byte, tail) = from.split_first()?;
        *from = tail;
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some((value >> 1) as i64 ^ -((value & 1) as i64));
        }
    }
    None
}
