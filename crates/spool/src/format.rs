//! The format of a segment's file: a header, then entries end to end. `docs/internals/SPOOL.md` has the tables.
//!
//! ```text
//! header   128 bytes  magic 8 · version u16 · header bytes u16 · shard u32 · segment u64 · salt u64 · created ms i64
//!                     previous segment u64 · its end u64
//!                     begins of the last two complete checkpoints: segment u64 · position u64 each
//!                     bytes of this segment u64
//!                     features to be known u32 · features that may be skipped u32 · data directory id 16 · zero 4
//!                     CRC32C of all before it u32
//! entry    length of the payload u32 · kind u8 · mark 3 bytes · CRC32C u32 · payload · zeroes to a multiple of 8
//! ```
//!
//! All numbers are big-endian. An entry's checksum covers the segment's salt, the entry's position and everything in
//! it, so bytes of another segment or of another place do not pass. The mark is a part of the salt: it lets a reader
//! that has lost its way look for the next entry without trusting what a publisher may have written into a payload.

use super::entry::Kind;

/// Bytes of a segment's header; the first entry follows it.
pub const HEADER_BYTES: usize = 128;
/// Bytes of an entry before its payload.
pub(super) const ENTRY_HEADER_BYTES: usize = 12;
/// Entries begin at multiples of this.
pub const ALIGN: usize = 8;
/// The version that this program writes, and the only one that it reads.
pub const VERSION: u16 = 2;
/// Bytes of a header of version 1, which did not contain its length.
const HEADER_BYTES_1: usize = 64;
/// "No segment", in a header's `previous`.
pub(super) const NONE: u64 = u64::MAX;

/// Features known to this program, among those that a reader must know.
const FEATURES: u32 = 0;

const MAGIC: [u8; 8] = *b"FBSPOOL\n";

/// A segment's header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// The shard that wrote the segment.
    pub shard: u32,
    /// The segment's number; numbers of a shard only grow.
    pub segment: u64,
    /// Random; goes into every checksum.
    pub salt: u64,
    /// Wall-clock time of creation, milliseconds.
    pub created_ms: i64,
    /// The segment that the log went on from, or [`NONE`]. Segments between the two hold nothing that counts.
    pub previous: u64,
    /// End of the last durable group in that segment. Bytes after it do not count.
    pub previous_end: u64,
    /// Where the last two complete checkpoints begin, the newer one first: segment (or [`NONE`]) and position.
    pub checkpoints: [(u64, u64); 2],
    /// Bytes of this segment; 0: it grows.
    pub bytes: u64,
    /// Features that a reader must know, a bit each. There are none yet.
    pub features: u32,
    /// Features that a reader may skip.
    pub optional_features: u32,
    /// The data directory that the segment belongs to; 0: none is noted.
    pub data_dir_id: u128,
}

/// Why bytes are not a valid header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    /// The bytes are too short, have another magic, or the checksum differs.
    #[error("no segment header, or a damaged one")]
    Damaged,
    /// A whole header of another version.
    #[error("format version {0} is not supported by this version of Forebay")]
    Version(u16),
    /// A whole header of this version with features that this program does not know.
    #[error("features {0:#x} are not supported by this version of Forebay")]
    Features(u32),
}

impl Header {
    /// The previous segment of the log, and the position where its last durable group ends.
    #[must_use]
    pub fn goes_on_from(&self) -> Option<(u64, u64)> {
        (self.previous != NONE).then_some((self.previous, self.previous_end))
    }

    /// Encodes the header.
    #[must_use]
    pub fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut out = [0; HEADER_BYTES];
        out[..8].copy_from_slice(&MAGIC);
        out[8..10].copy_from_slice(&VERSION.to_be_bytes());
        out[10..12].copy_from_slice(&(HEADER_BYTES as u16).to_be_bytes());
        out[12..16].copy_from_slice(&self.shard.to_be_bytes());
        out[16..24].copy_from_slice(&self.segment.to_be_bytes());
        out[24..32].copy_from_slice(&self.salt.to_be_bytes());
        out[32..40].copy_from_slice(&self.created_ms.to_be_bytes());
        out[40..48].copy_from_slice(&self.previous.to_be_bytes());
        out[48..56].copy_from_slice(&self.previous_end.to_be_bytes());
        for (at, (segment, position)) in [56, 72].into_iter().zip(self.checkpoints) {
            out[at..at + 8].copy_from_slice(&segment.to_be_bytes());
            out[at + 8..at + 16].copy_from_slice(&position.to_be_bytes());
        }
        out[88..96].copy_from_slice(&self.bytes.to_be_bytes());
        out[96..100].copy_from_slice(&self.features.to_be_bytes());
        out[100..104].copy_from_slice(&self.optional_features.to_be_bytes());
        out[104..120].copy_from_slice(&self.data_dir_id.to_be_bytes());
        let crc = crc32c::crc32c(&out[..HEADER_BYTES - 4]);
        out[HEADER_BYTES - 4..].copy_from_slice(&crc.to_be_bytes());
        out
    }

    /// Decodes a header from the front of `bytes`.
    ///
    /// # Errors
    /// [`HeaderError`].
    pub fn decode(bytes: &[u8]) -> Result<Self, HeaderError> {
        let head = bytes.first_chunk::<HEADER_BYTES_1>().filter(|head| head[..8] == MAGIC);
        let head = head.ok_or(HeaderError::Damaged)?;
        let version = u16::from_be_bytes([head[8], head[9]]);
        let len = if version == 1 { HEADER_BYTES_1 } else { usize::from(u16::from_be_bytes([head[10], head[11]])) };
        let whole = bytes.get(..len).and_then(|header| header.split_last_chunk());
        match whole {
            Some((header, crc)) if crc32c::crc32c(header).to_be_bytes() == *crc => {}
            // A later version's header is longer than the bytes available.
            None if version > VERSION => return Err(HeaderError::Version(version)),
            _ => return Err(HeaderError::Damaged),
        }
        let header: &[u8; HEADER_BYTES] = bytes.first_chunk().ok_or(HeaderError::Damaged)?;
        if version != VERSION || len != HEADER_BYTES {
            return Err(HeaderError::Version(version));
        }
        let header = Self {
            shard: (long(header, 8) & u64::from(u32::MAX)) as u32,
            segment: long(header, 16),
            salt: long(header, 24),
            created_ms: long(header, 32) as i64,
            previous: long(header, 40),
            previous_end: long(header, 48),
            checkpoints: [56, 72].map(|at| (long(header, at), long(header, at + 8))),
            bytes: long(header, 88),
            features: (long(header, 96) >> 32) as u32,
            optional_features: (long(header, 96) & u64::from(u32::MAX)) as u32,
            data_dir_id: u128::from(long(header, 104)) << 64 | u128::from(long(header, 112)),
        };
        if header.features & !FEATURES != 0 {
            return Err(HeaderError::Features(header.features & !FEATURES));
        }
        Ok(header)
    }
}

fn long(bytes: &[u8; HEADER_BYTES], at: usize) -> u64 {
    let mut out = [0; 8];
    out.copy_from_slice(&bytes[at..at + 8]);
    u64::from_be_bytes(out)
}

/// Bytes of an entry with a payload of this length.
#[must_use]
pub(super) const fn entry_len(payload: usize) -> usize {
    (ENTRY_HEADER_BYTES + payload).next_multiple_of(ALIGN)
}

/// Bytes of the entry at the front of `entries`, which need not be sealed.
pub(super) fn first_len(entries: &[u8]) -> Option<usize> {
    Some(entry_len(u32::from_be_bytes(*entries.first_chunk()?) as usize))
}

pub(super) fn mark(salt: u64) -> [u8; 3] {
    let [_, a, b, c, ..] = salt.to_be_bytes();
    // The mark is never zero, unlike unwritten bytes of a segment.
    [a | 1, b, c]
}

fn checksum(salt: u64, position: u64, entry: &[u8]) -> u32 {
    let crc = crc32c::crc32c_append(crc32c::crc32c(&salt.to_be_bytes()), &position.to_be_bytes());
    let crc = crc32c::crc32c_append(crc, &entry[..8]);
    crc32c::crc32c_append(crc, &entry[ENTRY_HEADER_BYTES..])
}

/// Appends an entry without mark and checksum, which [`seal`] adds.
pub(super) fn put(out: &mut Vec<u8>, kind: Kind, payload: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend_from_slice(&[0; ENTRY_HEADER_BYTES]);
    payload(out);
    let len = (out.len() - start - ENTRY_HEADER_BYTES) as u32;
    out[start..start + 4].copy_from_slice(&len.to_be_bytes());
    out[start + 4] = kind as u8;
    out.resize(start + entry_len(len as usize), 0);
}

/// Gives the entries of a group the mark and checksums of the segment and position that they go to. Returns the checksum over
/// their checksums, continued from `sum`, and their number.
pub(super) fn seal(entries: &mut [u8], salt: u64, position: u64, sum: u32) -> (u32, u32) {
    let (mut at, mut sum, mut count) = (0, sum, 0);
    while let Some(head) = entries.get(at..).and_then(<[u8]>::first_chunk::<ENTRY_HEADER_BYTES>) {
        let len = entry_len(u32::from_be_bytes([head[0], head[1], head[2], head[3]]) as usize);
        let Some(entry) = entries.get_mut(at..at + len) else { break };
        entry[5..8].copy_from_slice(&mark(salt));
        let crc = checksum(salt, position + at as u64, entry).to_be_bytes();
        entry[8..12].copy_from_slice(&crc);
        (sum, count, at) = (crc32c::crc32c_append(sum, &crc), count + 1, at + len);
    }
    (sum, count)
}

/// An entry in a segment, with its checksum verified.
#[derive(Clone, Copy, Debug)]
pub(super) struct Framed<'a> {
    /// The kind; `None`: this program does not know it.
    pub(super) kind: Option<Kind>,
    /// The kind's number.
    pub(super) number: u8,
    pub(super) payload: &'a [u8],
    pub(super) crc: u32,
    /// Bytes of the whole entry.
    pub(super) len: usize,
}

/// The claims of an entry's first bytes: its kind (`None`: not known) and whole length. The checksum is not verified.
pub(super) fn claim(head: &[u8], salt: u64) -> Option<(Option<Kind>, usize)> {
    let head: &[u8; ENTRY_HEADER_BYTES] = head.first_chunk()?;
    let len = u32::from_be_bytes([head[0], head[1], head[2], head[3]]) as usize;
    (head[5..8] == mark(salt)).then_some((Kind::from_number(head[4]), entry_len(len)))
}

/// Like [`claim`], for a segment without a known salt: the mark is not checked.
pub(super) fn unverified_claim(head: &[u8]) -> Option<(Kind, usize)> {
    let head: &[u8; ENTRY_HEADER_BYTES] = head.first_chunk()?;
    let kind = Kind::from_number(head[4]).filter(|_| head[5] & 1 == 1)?;
    let len = u32::from_be_bytes([head[0], head[1], head[2], head[3]]) as usize;
    Some((kind, entry_len(len)))
}

/// The entry at the front of `bytes`, which are at `position` of the segment.
pub(super) fn framed(bytes: &[u8], salt: u64, position: u64) -> Option<Framed<'_>> {
    let (kind, len) = claim(bytes, salt)?;
    let entry = bytes.get(..len)?;
    let payload_len = u32::from_be_bytes([entry[0], entry[1], entry[2], entry[3]]) as usize;
    let crc = u32::from_be_bytes([entry[8], entry[9], entry[10], entry[11]]);
    let payload = &entry[ENTRY_HEADER_BYTES..ENTRY_HEADER_BYTES + payload_len];
    (checksum(salt, position, entry) == crc).then_some(Framed { kind, number: entry[4], payload, crc, len })
}
