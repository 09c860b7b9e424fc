//! The batch that grows: rows go from their borrowed slices into it once, every length written where it stays. The
//! header is patched when the batch is closed, the producer's identity and the checksum when it is cut.

use super::{HEADER_LEN, Records, Row, Tail, at, varint};
use crate::record::compression::{Codec, Encoder};

/// A producer's identity for one batch, given at the cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// Producer id.
    pub producer_id: i64,
    /// Producer epoch.
    pub epoch: i16,
    /// Sequence number of the first record.
    pub sequence: i32,
}

/// The measure of a row as the next record of a batch: [`Builder::next`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NextRecord {
    /// Encoded bytes of the whole record.
    pub len: usize,
    /// Bytes that follow the record's length.
    body: usize,
    timestamp: i64,
    timestamp_delta: i64,
}

/// A growing v2 batch. It never asks for memory of its own accord: a row that would not fit in the capacity of the
/// buffer is the caller's business (see [`Builder::fits`]), or the buffer grows as a `Vec` does.
#[derive(Debug, Default)]
pub struct Builder {
    bytes: Vec<u8>,
    count: u32,
    base_timestamp: i64,
    max_timestamp: i64,
}

impl Builder {
    /// An empty batch in `buffer`, which keeps its capacity and loses its content.
    #[must_use]
    pub fn new(mut buffer: Vec<u8>) -> Self {
        buffer.clear();
        buffer.resize(HEADER_LEN, 0);
        Self { bytes: buffer, count: 0, base_timestamp: -1, max_timestamp: -1 }
    }

    /// Records in it.
    #[must_use]
    pub const fn count(&self) -> u32 {
        self.count
    }

    /// Bytes so far, header included.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether it has no record.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Capacity of the buffer.
    #[must_use]
    pub const fn capacity(&self) -> usize {
        self.bytes.capacity()
    }

    /// Newest timestamp in it, −1 if there is none.
    #[must_use]
    pub const fn max_timestamp(&self) -> i64 {
        self.max_timestamp
    }

    /// Exact bytes of a row as the first record of a batch.
    #[must_use]
    pub const fn first_record_len(tail_len: usize) -> usize {
        let body = 3 + tail_len;
        varint::len(body as i64) + body
    }

    /// The records from `consumed` bytes (of records) and `count` records on.
    #[must_use]
    pub fn records_after(&self, consumed: usize, count: u32) -> Records<'_> {
        Records::new(self.record_bytes(consumed), self.count.saturating_sub(count) as i32, self.base_timestamp)
    }

    /// The encoded records from `consumed` bytes on.
    #[must_use]
    pub fn record_bytes(&self, consumed: usize) -> &[u8] {
        self.bytes.get(HEADER_LEN + consumed..).unwrap_or_default()
    }

    /// What the records' timestamps count from.
    #[must_use]
    pub const fn base_timestamp(&self) -> i64 {
        self.base_timestamp
    }

    /// Measures a row as this batch's next record.
    #[inline]
    #[must_use]
    pub const fn next(&self, timestamp: i64, tail_len: usize) -> NextRecord {
        // Wrapping, as Java's `long` arithmetic: the reader adds with the same wrap.
        let timestamp_delta = if self.count == 0 { 0 } else { timestamp.wrapping_sub(self.base_timestamp) };
        let body = 1 + varint::len(timestamp_delta) + varint::len(self.count as i64) + tail_len;
        NextRecord { timestamp, timestamp_delta, body, len: varint::len(body as i64) + body }
    }

    /// Whether a record of `len` bytes fits without the buffer growing.
    #[inline]
    #[must_use]
    pub const fn fits(&self, len: usize) -> bool {
        self.bytes.capacity() - self.bytes.len() >= len
    }

    /// Appends a row. `tail` is its [`Row::measure`].
    pub fn append<'a, H>(&mut self, row: &Row<'a, H>, tail: Tail)
    where
        H: Iterator<Item = (&'a [u8], &'a [u8])> + Clone,
    {
        self.append_next(row, tail, self.next(row.timestamp.0, tail.len));
    }

    /// The same of a row with a known [`Builder::next`].
    #[inline]
    pub fn append_next<'a, H>(&mut self, row: &Row<'a, H>, tail: Tail, next: NextRecord)
    where
        H: Iterator<Item = (&'a [u8], &'a [u8])> + Clone,
    {
        self.prefix(next);
        row.put(tail.headers, &mut self.bytes);
    }

    /// Appends a row from its encoded tail (see [`super::Record::tail`]).
    pub fn append_tail(&mut self, timestamp: i64, tail: &[u8]) {
        self.append_next_tail(tail, self.next(timestamp, tail.len()));
    }

    /// The same of a row with a known [`Builder::next`].
    #[inline]
    pub fn append_next_tail(&mut self, tail: &[u8], next: NextRecord) {
        self.prefix(next);
        self.bytes.extend_from_slice(tail);
    }

    #[inline]
    fn prefix(&mut self, next: NextRecord) {
        // Exactly: one byte more would make a buffer grow in which the row fits.
        self.bytes.reserve(next.len);
        varint::put(&mut self.bytes, next.body as i64);
        self.bytes.push(0);
        varint::put(&mut self.bytes, next.timestamp_delta);
        varint::put(&mut self.bytes, i64::from(self.count));
        if self.count == 0 {
            self.base_timestamp = next.timestamp;
        }
        self.max_timestamp = self.max_timestamp.max(next.timestamp);
        self.count += 1;
    }

    /// Moves the content into a buffer with more room; the old one comes back.
    #[must_use]
    pub fn move_to(&mut self, mut buffer: Vec<u8>) -> Vec<u8> {
        buffer.clear();
        buffer.extend_from_slice(&self.bytes);
        std::mem::replace(&mut self.bytes, buffer)
    }

    /// Takes back the buffer, its content with it, as it stands.
    #[must_use]
    pub fn into_buffer(self) -> Vec<u8> {
        self.bytes
    }

    /// Closes the batch: compresses its records in place where `encoder` is given and gains by it, and patches the header
    /// but for what [`stamp`] gives.
    #[must_use]
    pub fn close(mut self, encoder: Option<&mut Encoder>) -> Vec<u8> {
        let mut codec = Codec::None;
        if let Some(encoder) = encoder {
            let written = encoder.codec();
            // Not smaller: sent as it is. Readers look at the batch's own codec.
            if let Some(compressed) = encoder.compress(&self.bytes[HEADER_LEN..]) {
                self.bytes.truncate(HEADER_LEN);
                self.bytes.extend_from_slice(compressed);
                codec = written;
            }
        }
        patch_header(&mut self.bytes, self.count, self.base_timestamp, self.max_timestamp, codec);
        self.bytes
    }
}

fn patch_header(bytes: &mut [u8], count: u32, base_timestamp: i64, max_timestamp: i64, codec: Codec) {
    let length = (bytes.len() - at::LEADER_EPOCH) as i32;
    let count = count as i32;
    put_at(bytes, at::BASE_OFFSET, &0i64.to_be_bytes());
    put_at(bytes, at::BATCH_LENGTH, &length.to_be_bytes());
    put_at(bytes, at::LEADER_EPOCH, &(-1i32).to_be_bytes());
    bytes[at::MAGIC] = 2;
    put_at(bytes, at::ATTRIBUTES, &(codec as i16).to_be_bytes());
    put_at(bytes, at::LAST_OFFSET_DELTA, &(count - 1).to_be_bytes());
    put_at(bytes, at::BASE_TIMESTAMP, &base_timestamp.to_be_bytes());
    put_at(bytes, at::MAX_TIMESTAMP, &max_timestamp.to_be_bytes());
    put_at(bytes, at::COUNT, &count.to_be_bytes());
}

/// Cuts a closed batch: writes the producer's identity and the checksum. May be done again with another identity, as
/// long as nobody else holds the bytes.
///
/// # Panics
/// If `bytes` is shorter than a header (it came from [`Builder::close`]).
pub fn stamp(bytes: &mut [u8], stamp: Stamp) {
    put_at(bytes, at::PRODUCER_ID, &stamp.producer_id.to_be_bytes());
    put_at(bytes, at::PRODUCER_EPOCH, &stamp.epoch.to_be_bytes());
    put_at(bytes, at::BASE_SEQUENCE, &stamp.sequence.to_be_bytes());
    let crc = crc32c::crc32c(&bytes[at::ATTRIBUTES..]);
    put_at(bytes, at::CRC, &crc.to_be_bytes());
}

fn put_at(bytes: &mut [u8], at: usize, value: &[u8]) {
    bytes[at..at + value.len()].copy_from_slice(value);
}
