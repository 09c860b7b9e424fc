//! The growing batch: rows are copied into it once from their borrowed slices, and every length is written in its final
//! place. The header is patched when the batch is closed, the producer's identity and the checksum when it is cut.

use super::{HEADER_LEN, Records, Row, Tail, at, varint};
use crate::compression::{Codec, Encoder};

/// A producer's identity for one batch, assigned when it is cut.
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

/// A growing v2 batch. It does not reserve memory in advance: the caller checks that a row fits into the buffer's
/// capacity (see [`Builder::fits`]), or the buffer grows as a `Vec` does.
#[derive(Debug, Default)]
pub struct Builder {
    bytes: Vec<u8>,
    count: u32,
    base_timestamp: i64,
    max_timestamp: i64,
}

impl Builder {
    /// An empty batch in `buffer`, which keeps its capacity but not its contents.
    #[must_use]
    pub fn new(mut buffer: Vec<u8>) -> Self {
        buffer.clear();
        buffer.resize(HEADER_LEN, 0);
        Self { bytes: buffer, count: 0, base_timestamp: -1, max_timestamp: -1 }
    }

    /// Number of records in the batch.
    #[must_use]
    pub const fn count(&self) -> u32 {
        self.count
    }

    /// Bytes of the batch, header included.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether the batch has no record.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Capacity of the buffer.
    #[must_use]
    pub const fn capacity(&self) -> usize {
        self.bytes.capacity()
    }

    /// Newest timestamp in the batch; −1: none.
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

    /// The records after the first `count` ones, which take `consumed` bytes.
    #[must_use]
    pub fn records_after(&self, consumed: usize, count: u32) -> Records<'_> {
        Records::new(self.record_bytes(consumed), self.count.saturating_sub(count) as i32, self.base_timestamp)
    }

    /// The encoded records from `consumed` bytes on.
    #[must_use]
    pub fn record_bytes(&self, consumed: usize) -> &[u8] {
        self.bytes.get(HEADER_LEN + consumed..).unwrap_or_default()
    }

    /// The timestamp that the records' deltas count from.
    #[must_use]
    pub const fn base_timestamp(&self) -> i64 {
        self.base_timestamp
    }

    /// Measures a row as this batch's next record.
    #[inline]
    #[must_use]
    pub const fn next(&self, timestamp: i64, tail_len: usize) -> NextRecord {
        // The subtraction wraps, as Java's `long` arithmetic does: the reader adds with the same wrap.
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

    /// Like [`Builder::append`], for a row with a known [`Builder::next`].
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

    /// Like [`Builder::append_tail`], for a row with a known [`Builder::next`].
    #[inline]
    pub fn append_next_tail(&mut self, tail: &[u8], next: NextRecord) {
        self.prefix(next);
        self.bytes.extend_from_slice(tail);
    }

    #[inline]
    fn prefix(&mut self, next: NextRecord) {
        // The reservation is exact: one byte more would grow a buffer in which the row fits.
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

    /// Moves the contents into a buffer with more room; returns the old buffer.
    #[must_use]
    pub fn move_to(&mut self, mut buffer: Vec<u8>) -> Vec<u8> {
        buffer.clear();
        buffer.extend_from_slice(&self.bytes);
        std::mem::replace(&mut self.bytes, buffer)
    }

    /// Returns the buffer with its current contents.
    #[must_use]
    pub fn into_buffer(self) -> Vec<u8> {
        self.bytes
    }

    /// Closes the batch: compresses its records in place if `encoder` is given and makes them smaller, and patches the
    /// header, except for the fields of [`stamp`].
    #[must_use]
    pub fn close(mut self, encoder: Option<&mut Encoder>) -> Vec<u8> {
        let mut codec = Codec::None;
        if let Some(encoder) = encoder {
            let written = encoder.codec();
            // Records that do not get smaller are sent uncompressed. Readers look at the batch's own codec.
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

/// Cuts a closed batch: writes the producer's identity and the checksum. May be repeated with another identity while no
/// other reference to the bytes exists.
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
