//! A log without groups in the same file format: a partition of the embedded log. Its segments have the header and the
//! entries of a spool; each entry is one Kafka batch and is complete in itself. There are no commits: every readable batch
//! counts, acknowledged or not, so [`super::scan`] is called up to the end of the file, and damage not followed by anything
//! readable is the torn tail.

use super::entry::Kind;
use super::format::{ENTRY_HEADER_BYTES, Header, NONE, claim, entry_len, framed, put, seal, unverified_claim};

/// Offset of the batch in its entry.
pub const BATCH_AT: usize = ENTRY_HEADER_BYTES;

/// Bytes of the entry of a batch of this length.
#[must_use]
pub const fn batch_entry_bytes(batch: usize) -> usize {
    entry_len(batch)
}

/// The header of an embedded log's segment. The segment's number is the offset of its first record.
#[must_use]
pub const fn batch_header(partition: u32, base_offset: u64, salt: u64, created_ms: i64) -> Header {
    Header {
        shard: partition,
        segment: base_offset,
        salt,
        created_ms,
        previous: NONE,
        previous_end: 0,
        checkpoints: [(NONE, 0); 2],
        bytes: 0,
        features: 0,
        optional_features: 0,
        data_dir_id: 0,
    }
}

/// Appends an entry with a batch. The batch may be changed in it until [`seal_batch`] closes it.
pub fn put_batch(batch: &[u8], out: &mut Vec<u8>) {
    put(out, Kind::Batch, |out| out.extend_from_slice(batch));
}

/// Closes an entry for its position.
pub fn seal_batch(entry: &mut [u8], salt: u64, position: u64) {
    seal(entry, salt, position, 0);
}

/// The claims of an entry's first bytes, if it is a batch: the lengths of the batch and of the entry. The checksum is not
/// verified; without the salt (the header is damaged), nor is the mark.
#[must_use]
pub fn claims_batch(head: &[u8], salt: Option<u64>) -> Option<(usize, usize)> {
    let (kind, len) = match salt {
        Some(salt) => claim(head, salt)?,
        None => unverified_claim(head).map(|(kind, len)| (Some(kind), len))?,
    };
    let batch = u32::from_be_bytes(*head.first_chunk()?) as usize;
    (kind == Some(Kind::Batch)).then_some((batch, len))
}

/// Whether the entry at the front of `bytes`, which are at `position`, is whole.
#[must_use]
pub fn is_whole(bytes: &[u8], salt: u64, position: u64) -> bool {
    framed(bytes, salt, position).is_some()
}
