//! The fixed part of a batch: the only code that reads it, for the producer and for the embedded log.

use super::{BatchError, HEADER_LEN, at};

/// The header of a v2 batch (KIP-98), as stated in its bytes and not verified.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchHeader {
    /// Offset of the first record.
    pub base_offset: i64,
    /// Bytes of the whole batch as stated: at least [`HEADER_LEN`].
    pub size: usize,
    /// Leader epoch, −1 from a producer.
    pub leader_epoch: i32,
    /// 2; with any other value the batch is not v2.
    pub magic: i8,
    /// CRC32C as stored, over all bytes from the attributes on.
    pub crc: u32,
    /// Codec (bits 0 to 2), timestamp type (3), transactional (4), control (5), delete horizon (6).
    pub attributes: i16,
    /// Offset of the last record, from the base offset.
    pub last_offset_delta: i32,
    /// Timestamp that the records' deltas count from, milliseconds, or −1.
    pub base_timestamp: i64,
    /// Newest timestamp as the producer states it.
    pub max_timestamp: i64,
    /// Producer id, or −1.
    pub producer_id: i64,
    /// Producer epoch, or −1.
    pub producer_epoch: i16,
    /// Sequence of the first record, or −1.
    pub base_sequence: i32,
    /// Number of records as stated.
    pub records_count: i32,
}

impl BatchHeader {
    /// Reads the header at the front of `bytes`. The records need not follow; the magic may be any.
    ///
    /// # Errors
    /// [`BatchError::Short`]: fewer bytes than a header. [`BatchError::Length`]: an impossible stated length.
    pub fn read(bytes: &[u8]) -> Result<Self, BatchError> {
        let bytes: &[u8; HEADER_LEN] = bytes.first_chunk().ok_or(BatchError::Short)?;
        let length = usize::try_from(i32::from_be_bytes(field(bytes, at::BATCH_LENGTH)));
        let size = length.map_err(|_| BatchError::Length)? + at::LEADER_EPOCH;
        if size < HEADER_LEN {
            return Err(BatchError::Length);
        }
        Ok(Self {
            base_offset: i64::from_be_bytes(field(bytes, at::BASE_OFFSET)),
            size,
            leader_epoch: i32::from_be_bytes(field(bytes, at::LEADER_EPOCH)),
            magic: i8::from_be_bytes(field(bytes, at::MAGIC)),
            crc: u32::from_be_bytes(field(bytes, at::CRC)),
            attributes: i16::from_be_bytes(field(bytes, at::ATTRIBUTES)),
            last_offset_delta: i32::from_be_bytes(field(bytes, at::LAST_OFFSET_DELTA)),
            base_timestamp: i64::from_be_bytes(field(bytes, at::BASE_TIMESTAMP)),
            max_timestamp: i64::from_be_bytes(field(bytes, at::MAX_TIMESTAMP)),
            producer_id: i64::from_be_bytes(field(bytes, at::PRODUCER_ID)),
            producer_epoch: i16::from_be_bytes(field(bytes, at::PRODUCER_EPOCH)),
            base_sequence: i32::from_be_bytes(field(bytes, at::BASE_SEQUENCE)),
            records_count: i32::from_be_bytes(field(bytes, at::COUNT)),
        })
    }

    /// Offset of the last record.
    #[must_use]
    pub const fn last_offset(&self) -> i64 {
        self.base_offset.saturating_add(self.last_offset_delta as i64)
    }

    /// Sequence of the last record; sequences wrap at `i32::MAX` to 0.
    #[must_use]
    pub const fn last_sequence(&self) -> i32 {
        ((self.base_sequence as i64 + self.last_offset_delta as i64) & i32::MAX as i64) as i32
    }

    /// Codec number: 0 none, 1 gzip, 2 snappy, 3 lz4, 4 zstd; higher numbers are unknown.
    #[must_use]
    pub const fn codec(&self) -> i16 {
        self.attributes & 7
    }

    /// Whether the producer numbers its batches.
    #[must_use]
    pub const fn is_idempotent(&self) -> bool {
        self.producer_id >= 0
    }

    /// Whether the checksum of the whole batch, header included, is the stored one.
    #[must_use]
    pub fn crc_matches(&self, batch: &[u8]) -> bool {
        batch.get(at::ATTRIBUTES..).is_some_and(|covered| crc32c::crc32c(covered) == self.crc)
    }
}

/// Reads a field. The positions are constants, so one out of bounds fails in every test.
fn field<const N: usize>(bytes: &[u8; HEADER_LEN], at: usize) -> [u8; N] {
    let mut out = [0; N];
    out.copy_from_slice(&bytes[at..at + N]);
    out
}
