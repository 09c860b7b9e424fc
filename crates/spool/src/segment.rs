//! The only reader of a segment's entries: it finds which entries count, which bytes are rot, and where the torn tail begins.

use std::ops::Range;

use super::entry::Entry;
use super::format::{ALIGN, ENTRY_HEADER_BYTES, Framed, HEADER_BYTES, entry_len, framed, mark};

/// Entries of this kind or a higher one are skipped by builds that do not know them; any other unknown kind refuses the segment.
const SKIPPED_FROM: u8 = 0x80;

/// Damaged bytes below the position up to which the segment is known to have been durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rot {
    /// The segment.
    pub segment: u64,
    /// The first damaged byte.
    pub position: u64,
    /// The length of the damaged bytes.
    pub bytes: u64,
}

/// A segment's entries after a scan.
#[derive(Clone, Debug, Default)]
pub struct Scan {
    /// Positions of the entries that count, in order.
    pub entries: Vec<u64>,
    /// Position where the last group that counts ends.
    pub end: u64,
    /// Damage below `end`.
    pub rot: Vec<Rot>,
    /// Bytes after `end` that are not zero: a group that was never whole.
    pub torn_bytes: u64,
    /// Number of the last group; 0: none.
    pub group: u64,
    /// The first entry of a kind that this program does not know and must not skip: its position and kind.
    pub unknown: Option<(u64, u8)>,
    /// Position where the last group begins, if nothing after it proves that it was durable.
    pub unproven: Option<u64>,
}

/// Scans a whole segment. `known_end` is the end in its successor's header; without it the segment ends with the last whole group, or
/// with the end that a later commit calls durable.
#[must_use]
pub fn scan(bytes: &[u8], segment: u64, salt: u64, known_end: Option<u64>) -> Scan {
    scan_from(bytes, segment, salt, known_end, 0)
}

/// Like [`scan`], for a segment in which everything before `noted` is known to be durable.
pub(super) fn scan_from(bytes: &[u8], segment: u64, salt: u64, known_end: Option<u64>, noted: u64) -> Scan {
    let written = written(bytes);
    let mut found = Vec::new();
    let (mut at, mut last_group, mut durable) = (HEADER_BYTES, 0, noted.max(HEADER_BYTES as u64));
    let mut whole_from = at;
    let (mut sum, mut count) = (0, 0);
    let mut expected = at;
    let (mut unproven, mut unknown) = (None, None);
    while let Some((position, entry)) = next(bytes, salt, at..written) {
        if position != expected {
            // Bytes are missing here: a group around this position is not whole.
            (whole_from, sum, count) = (position, 0, 0);
        }
        at = position + entry.len;
        expected = at;
        let parsed = entry.parsed();
        if entry.kind.is_none() && entry.number < SKIPPED_FROM {
            unknown = unknown.or(Some((position as u64, entry.number)));
        }
        // A whole entry with an impossible payload is damage caused by its writer.
        if parsed.is_some() || entry.kind.is_none() {
            found.push((position as u64, entry.len as u64));
        }
        if let Some(Entry::Commit { group, start, count: stated, checksum, .. }) = parsed {
            if (durable..=position as u64).contains(&start) {
                (durable, unproven) = (start, None);
            }
            if start == whole_from as u64 && (sum, count) == (checksum, stated) {
                (durable, unproven) = (durable.max(at as u64), Some(start));
            }
            last_group = if durable >= at as u64 || known_end.is_some() { group } else { last_group };
            (whole_from, sum, count) = (at, 0, 0);
        } else {
            (sum, count) = (crc32c::crc32c_append(sum, &entry.crc.to_be_bytes()), count + 1);
        }
    }
    let end = known_end.unwrap_or(durable);
    let unproven = unproven.filter(|start| known_end.is_none() && *start >= noted);
    let unknown = unknown.filter(|(position, _)| *position < end);
    Scan { unproven, unknown, ..sort_out(written as u64, segment, &found, end, last_group) }
}

/// The end of the nonzero bytes: nothing was written after it. A new segment is megabytes of zeroes, so they are compared by pages.
fn written(bytes: &[u8]) -> usize {
    const PAGE: [u8; 4096] = [0; 4096];
    let mut end = bytes.len();
    while let Some(from) = end.checked_sub(PAGE.len()).filter(|from| bytes[*from..end] == PAGE) {
        end = from;
    }
    bytes[..end].iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1)
}

fn sort_out(written: u64, segment: u64, found: &[(u64, u64)], end: u64, group: u64) -> Scan {
    let mut scan = Scan { end, group, ..Scan::default() };
    let mut expected = HEADER_BYTES as u64;
    for (position, len) in found.iter().filter(|(position, _)| *position < end) {
        if *position > expected {
            scan.rot.push(Rot { segment, position: expected, bytes: position - expected });
        }
        scan.entries.push(*position);
        expected = position + len;
    }
    if expected < end {
        scan.rot.push(Rot { segment, position: expected, bytes: end - expected });
    }
    scan.torn_bytes = written.saturating_sub(end);
    scan
}

/// The position of bytes after the last group that no group cut short by power loss can leave there: where its next entry would begin
/// there is neither the mark (as far as it was written) nor nothing. More than one group may have been there.
pub(super) fn foreign_behind(bytes: &[u8], salt: u64, end: u64) -> Option<u64> {
    let mut at = end as usize;
    loop {
        let head: &[u8; ALIGN] = bytes.get(at..)?.first_chunk()?;
        let ours = mark(salt);
        let written = head[5..].iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        if written < ours.len() {
            // The entry is cut off in its head, or was never written.
            return (head[5..5 + written] != ours[..written]).then_some(at as u64);
        }
        if head[5..] != ours {
            return Some(at as u64);
        }
        at += entry_len(u32::from_be_bytes([head[0], head[1], head[2], head[3]]) as usize);
    }
}

/// The first entry that begins in `places` (which starts at a multiple of [`ALIGN`]). Its end may lie after `places`, in zeroes.
fn next(bytes: &[u8], salt: u64, places: Range<usize>) -> Option<(usize, Framed<'_>)> {
    let mut at = places.start;
    while at < places.end && at + ENTRY_HEADER_BYTES <= bytes.len() {
        if let Some(entry) = framed(&bytes[at..], salt, at as u64) {
            return Some((at, entry));
        }
        at += ALIGN;
    }
    None
}

/// The entry at a position from [`scan`], with its length; `None`: its payload cannot be parsed.
#[must_use]
pub fn entry_at(bytes: &[u8], salt: u64, position: u64) -> Option<(Entry<'_>, u64)> {
    let entry = framed(bytes.get(position as usize..)?, salt, position)?;
    Some((entry.parsed()?, entry.len as u64))
}
