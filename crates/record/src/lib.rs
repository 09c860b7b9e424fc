//! Kafka record batches, format v2 (KIP-98): a builder that appends, a reader that borrows, [`compression`], and
//! [`murmur2`], which chooses a key's partition as Java's producer does.
//!
//! ```text
//!  0  base offset i64 · batch length i32 (what follows it) · partition leader epoch i32 · magic i8 = 2
//! 17  CRC32C u32 over all that follows
//! 21  attributes i16 (codec in the low three bits) · last offset delta i32
//! 27  base timestamp i64 · max timestamp i64
//! 43  producer id i64 · producer epoch i16 · base sequence i32 · record count i32
//! 61  records: length varint · attributes i8 · timestamp delta varlong · offset delta varint · tail
//!     tail: key length varint · key · value length varint · value · header count varint · (key, value)*
//! ```
//!
//! The tail of a record depends on nothing outside the record: moving a row into another batch takes a new prefix and
//! one copy.

#![forbid(unsafe_code)]

mod builder;
pub mod compression;
mod header;
pub mod murmur2;
pub mod names;
mod reader;
mod row;
pub mod stored;
pub mod varint;

#[cfg(test)]
mod tests;

pub use builder::{Builder, NextRecord, Stamp, stamp};
use forebay_runtime::seam::WallMs;
pub use header::BatchHeader;
pub use reader::{BatchError, BatchView, Headers, Record, Records};
pub use row::{Row, Tail};

/// The timestamp of a record made at this time: none (-1) while the clock is not set, because Kafka would delete the
/// record for its age. `set_after`: a clock before this is not set.
#[must_use]
pub const fn timestamp_at(wall: WallMs, set_after: WallMs) -> WallMs {
    if wall.0 < set_after.0 { WallMs(-1) } else { wall }
}

/// Length of a batch without records.
pub const HEADER_LEN: usize = 61;

/// Offsets of the header's fields.
pub(crate) mod at {
    pub(crate) const BASE_OFFSET: usize = 0;
    pub(crate) const BATCH_LENGTH: usize = 8;
    pub(crate) const LEADER_EPOCH: usize = 12;
    pub(crate) const MAGIC: usize = 16;
    pub(crate) const CRC: usize = 17;
    pub(crate) const ATTRIBUTES: usize = 21;
    pub(crate) const LAST_OFFSET_DELTA: usize = 23;
    pub(crate) const BASE_TIMESTAMP: usize = 27;
    pub(crate) const MAX_TIMESTAMP: usize = 35;
    pub(crate) const PRODUCER_ID: usize = 43;
    pub(crate) const PRODUCER_EPOCH: usize = 51;
    pub(crate) const BASE_SEQUENCE: usize = 53;
    pub(crate) const COUNT: usize = 57;
}
