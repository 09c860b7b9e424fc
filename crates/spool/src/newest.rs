//! The note beside a shard's segments: the newest segment that has a durable group, with a third copy of its header, and the position up to
//! which its groups are durable. If recovery finds less than the note says, something is missing; if recovery finds no header, it can read
//! the segment with the note.
//!
//! As bytes: the header, the end u64, and the CRC32C of all before it u32, both big-endian. The note is written when the first group of a
//! segment is durable, [`LAGS_MAX`] after a later one is, and at an orderly stop. The note may lag: newer data that it does not mention is
//! no damage.

use std::time::Duration;

use super::damage::Damage;
use super::disk::Disk;
use super::format::{HEADER_BYTES, Header};
use super::log::Log;
use forebay_runtime::seam::Monotonic;

/// Bytes of a note.
const BYTES: usize = HEADER_BYTES + 12;
/// The longest time between a group becoming durable and the note covering it, while the log runs.
pub(super) const LAGS_MAX: Duration = Duration::from_secs(5);

/// The contents of the note.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Newest {
    pub(super) header: Header,
    /// Everything before this position is durable.
    pub(super) end: u64,
}

impl Newest {
    pub(super) fn encode(&self) -> [u8; BYTES] {
        let mut out = [0; BYTES];
        out[..HEADER_BYTES].copy_from_slice(&self.header.encode());
        out[HEADER_BYTES..HEADER_BYTES + 8].copy_from_slice(&self.end.to_be_bytes());
        let crc = crc32c::crc32c(&out[..BYTES - 4]);
        out[BYTES - 4..].copy_from_slice(&crc.to_be_bytes());
        out
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let (head, crc) = <&[u8; BYTES]>::try_from(bytes).ok()?.split_last_chunk::<4>()?;
        let (header, end) = head.split_last_chunk::<8>()?;
        let header = Header::decode(header).ok().filter(|_| crc32c::crc32c(head).to_be_bytes() == *crc)?;
        Some(Self { header, end: u64::from_be_bytes(*end) })
    }

    /// Reads the note. The flag is whether there is a note that cannot be read.
    pub(super) fn read(disk: &impl Disk) -> (Option<Self>, bool) {
        let bytes = disk.read_note();
        let note = bytes.as_deref().and_then(Self::decode);
        (note, bytes.is_some() && note.is_none())
    }

    /// The position up to which a segment with this salt is durable.
    pub(super) fn end_of(&self, salt: u64) -> u64 {
        if self.header.salt == salt { self.end } else { 0 }
    }
}

/// What the log knows of the note that it wrote last.
#[derive(Debug, Default)]
pub(super) struct Noted {
    /// The header of the segment being written.
    header: Option<Header>,
    /// Whether a group after the end that the note names is durable.
    lags: bool,
    /// When the note is written again.
    due: Option<Monotonic>,
}

impl Noted {
    /// The state of the note after recovery. The note is written before any segment is created. If something is damaged, the note stays as
    /// it was until the first group is durable, so that a recovery before that finds the same.
    pub(super) fn found(newest: Option<Header>, damage: &[Damage]) -> Self {
        let lags = damage.is_empty();
        Self { header: newest, lags, due: lags.then_some(Monotonic(0)) }
    }
}

impl Log {
    /// Records that a group is durable: the first of the segment with this header, or a later one.
    pub(super) fn noted_group(&mut self, disk: &mut impl Disk, begins: Option<Header>) {
        self.noted.lags = true;
        if begins.is_some() {
            self.noted.header = begins;
            self.write_note(disk);
        }
    }

    /// Writes the note if it is due.
    pub(super) fn keep_note(&mut self, disk: &mut impl Disk, now: Monotonic) {
        if self.noted.lags && *self.noted.due.get_or_insert(now.after(LAGS_MAX)) <= now {
            self.write_note(disk);
        }
    }

    /// When [`Log::flush`] must be called to write the note, if nothing else happens.
    #[must_use]
    pub const fn note_due(&self) -> Option<Monotonic> {
        self.noted.due
    }

    /// Writes the note, unless it names the end of the last durable group already. Called before the log is closed.
    pub fn write_note(&mut self, disk: &mut impl Disk) {
        if let (Some(header), Some((_, end)), true) = (self.noted.header, self.last, self.noted.lags) {
            disk.write_note(&Newest { header, end }.encode());
        }
        (self.noted.lags, self.noted.due) = (false, None);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::NONE;

    #[test]
    fn a_note_comes_back_and_every_flipped_bit_of_it_is_noticed() {
        let header = Header {
            shard: 3,
            segment: 9,
            salt: 7,
            created_ms: 5,
            previous: 8,
            previous_end: 200,
            checkpoints: [(8, 128), (NONE, 0)],
            bytes: 1 << 20,
            features: 0,
            optional_features: 0,
            data_dir_id: 11,
        };
        let note = Newest { header, end: 640 };
        let bytes = note.encode();
        assert_eq!(Newest::decode(&bytes), Some(note));
        for bit in 0..BYTES * 8 {
            let mut other = bytes;
            other[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Newest::decode(&other), None, "bit {bit}");
        }
        assert!((0..BYTES).all(|len| Newest::decode(&bytes[..len]).is_none()));
    }
}
