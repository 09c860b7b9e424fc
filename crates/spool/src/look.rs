//! A segment as recovery reads it: the copies of its header and its entries, or its apparent contents if no header can be read. The length
//! is the lesser of those of the file and of the header.

use super::codec::In;
use super::disk::{Disk, ReadError};
use super::entry::{Entry, Kind};
use super::format::{ALIGN, ENTRY_HEADER_BYTES, HEADER_BYTES, Header, HeaderError, unverified_claim};
use super::group::{COMMIT_BYTES, COMMIT_PAYLOAD_BYTES};
use super::newest::Newest;
use super::parts::{FoundPart, parts};
use super::payload::{ROWS_HEAD_BYTES, parse, rows_head};
use super::recovery::RecoverError;
use super::salvage::{self, Salvaged};
use super::segment::{Rot, Scan, foreign_behind, scan_from};

/// Bytes of a segment without a header that are read at a time, and how many of them are read again with the next piece.
const PIECE: u64 = 1 << 20;
const AGAIN: u64 = 64;

const _: () = assert!(ENTRY_HEADER_BYTES + ROWS_HEAD_BYTES <= AGAIN as usize && COMMIT_BYTES <= AGAIN);

/// The header of a segment, from its front or its end, and its damaged copies.
#[derive(Clone, Debug, Default)]
pub(super) struct Copies {
    pub(super) header: Option<Header>,
    pub(super) damaged: Vec<Rot>,
    /// Whether the copy at the end is all zeroes.
    pub(super) ends_empty: bool,
}

impl Copies {
    /// Reads both copies.
    ///
    /// # Errors
    /// [`RecoverError::Version`], [`RecoverError::Features`], [`RecoverError::Read`].
    pub(super) fn read(disk: &impl Disk, segment: u64, len: u64) -> Result<Self, RecoverError> {
        let mut copies = Self::default();
        let mut refused = None;
        if let Some(front) = copies.look(disk, segment, (0, len), &mut refused)? {
            copies.header = Some(front);
        }
        // A segment of an embedded log, which grows, has no copy at the end.
        let bytes = copies.header.map_or(len, |header| header.bytes);
        if let Some(at) = bytes.checked_sub(HEADER_BYTES as u64) {
            let back = copies.look(disk, segment, (at, len), &mut refused)?;
            copies.header = copies.header.or(back);
        }
        match refused {
            Some(refused) if copies.header.is_none() => Err(refused),
            _ => Ok(copies),
        }
    }

    fn look(
        &mut self,
        disk: &impl Disk,
        segment: u64,
        (at, len): (u64, u64),
        refused: &mut Option<RecoverError>,
    ) -> Result<Option<Header>, RecoverError> {
        let mut bytes = [0; HEADER_BYTES];
        let read = match len.checked_sub(at) {
            Some(left) if left >= HEADER_BYTES as u64 => disk.read(segment, at, &mut bytes),
            // The file is cut short.
            _ => Err(ReadError::Damaged),
        };
        match read {
            // A failed read counts as damage: there is another copy.
            Ok(()) | Err(ReadError::Damaged | ReadError::Failed) => {}
            Err(error) => return Err(RecoverError::Read { segment, error }),
        }
        match Header::decode(&bytes) {
            Ok(header) if header.segment == segment => return Ok(Some(header)),
            Err(HeaderError::Version(version)) => *refused = Some(RecoverError::Version { segment, version }),
            Err(HeaderError::Features(features)) => *refused = Some(RecoverError::Features { segment, features }),
            Ok(_) | Err(HeaderError::Damaged) => {}
        }
        self.ends_empty = at > 0 && read.is_ok() && bytes.iter().all(|byte| *byte == 0);
        self.damaged.push(Rot { segment, position: at, bytes: HEADER_BYTES as u64 });
        Ok(None)
    }
}

/// A segment that was read.
pub(super) struct Looked {
    pub(super) header: Header,
    pub(super) copies: Copies,
    pub(super) bytes: Vec<u8>,
    pub(super) scan: Scan,
    /// The segment's parts of checkpoints, including damaged ones.
    pub(super) parts: Vec<FoundPart>,
    /// Positions of the checkpoints' entries.
    pub(super) of_checkpoints: Vec<u64>,
}

impl Looked {
    /// Whether a group of the segment is known to have been durable: something follows it.
    pub(super) fn has_proven(&self) -> bool {
        let is_only = self.scan.unproven == Some(HEADER_BYTES as u64) && self.scan.torn_bytes == 0;
        !self.scan.entries.is_empty() && !is_only
    }
}

/// Reads the segment in a file of `len` bytes. `None`: the segment has no readable header, and the note is of another one.
///
/// # Errors
/// [`RecoverError`].
pub(super) fn look(
    disk: &impl Disk,
    shard: u32,
    (segment, len): (u64, u64),
    known_end: Option<u64>,
    note: Option<&Newest>,
) -> Result<Option<Looked>, RecoverError> {
    let copies = Copies::read(disk, segment, len)?;
    let noted = note.filter(|note| note.header.segment == segment);
    let Some(header) = copies.header.or(noted.map(|note| note.header)) else { return Ok(None) };
    if header.shard != shard {
        return Err(RecoverError::Shard { segment, shard: header.shard });
    }
    let (bytes, bad) = read_all(disk, segment, content(len, &header))?;
    let durable = noted.map_or(0, |note| note.end_of(header.salt));
    let mut scan = scan_from(&bytes, segment, header.salt, known_end, durable);
    // Unreadable bytes after the last whole group count too: they may have been a group, because bytes that were never written can be
    // read.
    let behind = bad.iter().filter(|(at, bytes)| known_end.is_none() && at + bytes > scan.end);
    scan.rot.extend(behind.map(|(position, bytes)| Rot { segment, position: *position, bytes: *bytes }));
    // Bytes that no write of the log has left there may have been a group as well.
    if known_end.is_none()
        && scan.rot.is_empty()
        && let Some(position) = foreign_behind(&bytes, header.salt, scan.end)
    {
        let bytes = (scan.end + scan.torn_bytes).saturating_sub(position).max(1);
        scan.rot.push(Rot { segment, position, bytes });
    }
    if let Some((position, kind)) = scan.unknown {
        return Err(RecoverError::Kind { segment, position, kind });
    }
    let (parts, of_checkpoints) = parts(&bytes, header.salt, &scan);
    Ok(Some(Looked { header, copies, bytes, scan, parts, of_checkpoints }))
}

/// The position where a segment's contents end at the latest: before the copy of its header.
pub(super) fn content(len: u64, header: &Header) -> u64 {
    let bytes = if header.bytes == 0 { len } else { header.bytes };
    bytes.saturating_sub(HEADER_BYTES as u64).min(len)
}

/// Whether nothing was ever written at the segment's front or over the copy of its header.
pub(super) fn is_blank(disk: &impl Disk, segment: u64, len: u64) -> Result<bool, RecoverError> {
    let front = salvage::read(disk, segment, 0, len.min(4 << 10) as usize);
    let copy = len.checked_sub(HEADER_BYTES as u64).map(|at| salvage::read(disk, segment, at, HEADER_BYTES));
    for part in [Some(front), copy].into_iter().flatten() {
        let (bytes, bad) = part.map_err(|error| RecoverError::Read { segment, error })?;
        if !bad.is_empty() || bytes.iter().any(|byte| *byte != 0) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// The first bytes of a segment, with the ranges that the disk cannot read.
///
/// # Errors
/// [`RecoverError::Read`].
pub(super) fn read_all(disk: &impl Disk, segment: u64, bytes: u64) -> Result<Salvaged, RecoverError> {
    salvage::read(disk, segment, 0, bytes as usize).map_err(|error| RecoverError::Read { segment, error })
}

/// The apparent contents of a segment without a header. Without the salt no checksum can be verified.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Headless {
    /// Whether the segment held a durable group: a commit of a later group says so, or the disk cannot read part of it. Otherwise damage
    /// looks the same as a first group cut short by power loss.
    pub(super) was_durable: bool,
    /// Approximate number of rows in the segment.
    pub(super) rows: u64,
    /// Bytes up to the last nonzero one.
    pub(super) written: u64,
}

impl Headless {
    /// Scans the whole segment, piece by piece.
    ///
    /// # Errors
    /// [`RecoverError::Read`].
    pub(super) fn read(disk: &impl Disk, segment: u64, len: u64) -> Result<Self, RecoverError> {
        let (mut found, mut behind_row) = (Self::default(), 0);
        let end = len.saturating_sub(HEADER_BYTES as u64);
        let (mut start, zeroes) = (0, vec![0; PIECE as usize]);
        while start < end {
            let bytes = PIECE.min(end - start);
            let (piece, bad) = salvage::read(disk, segment, start, bytes as usize)
                .map_err(|error| RecoverError::Read { segment, error })?;
            found.was_durable |= !bad.is_empty();
            // Most of a file that was grown is empty.
            let is_empty = piece == zeroes[..piece.len()];
            if !is_empty && let Some(last) = piece.iter().rposition(|byte| *byte != 0) {
                found.written = start + last as u64 + 1;
            }
            let step = if start + bytes == end { bytes } else { bytes - AGAIN };
            for at in (0..if is_empty { 0 } else { step as usize }).step_by(ALIGN) {
                found.entry(start + at as u64, &piece[at..], &mut behind_row);
            }
            start += step;
        }
        Ok(found)
    }

    /// Notes the entry that seems to be here. `behind_row`: the position where the last rows end.
    fn entry(&mut self, position: u64, bytes: &[u8], behind_row: &mut u64) {
        let Some((kind, len)) = unverified_claim(bytes).filter(|_| position >= HEADER_BYTES as u64) else { return };
        let payload = &bytes[ENTRY_HEADER_BYTES..];
        if kind == Kind::Commit && len as u64 == COMMIT_BYTES {
            let payload = payload.get(..COMMIT_PAYLOAD_BYTES);
            if let Some(Entry::Commit { start, .. }) = payload.and_then(|payload| parse(kind, payload)) {
                self.was_durable |= start > HEADER_BYTES as u64 && start < position;
            }
        }
        if kind == Kind::Rows
            && position >= *behind_row
            && let Some((_, run)) = rows_head(&mut In(payload)).filter(|(_, run)| run.count <= len as u64)
        {
            self.rows += run.count;
            *behind_row = position + len as u64;
        }
    }
}
