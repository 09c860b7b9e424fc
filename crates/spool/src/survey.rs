//! A survey of a segment for people: the same reading as in recovery, whether or not recovery would need the segment.

use super::disk::Disk;
use super::entry::Entry;
use super::format::Header;
use super::look::{Copies, Headless, content, read_all};
use super::newest::Newest;
use super::recovery::RecoverError;
use super::segment::{Rot, Scan, entry_at, scan, scan_from};

/// A segment that was read and not changed.
#[derive(Clone, Debug)]
pub struct Surveyed {
    /// The header; `None`: neither copy can be read.
    pub header: Option<Header>,
    /// The segment's valid entries and damage; empty without a header.
    pub scan: Scan,
    /// Whether the segment holds batches of the embedded log, and no groups.
    pub batches: bool,
    /// Damaged copies of the header, in a segment that holds something.
    pub headers: Vec<Rot>,
    bytes: Vec<u8>,
}

impl Surveyed {
    /// The valid entries: position, bytes, entry (`None`: its payload cannot be parsed).
    pub fn entries(&self) -> impl Iterator<Item = (u64, u64, Option<Entry<'_>>)> {
        let salt = self.header.map_or(0, |header| header.salt);
        self.scan.entries.iter().map(move |position| match entry_at(&self.bytes, salt, *position) {
            Some((entry, len)) => (*position, len, Some(entry)),
            None => (*position, 0, None),
        })
    }
}

/// Reads segment `segment` from its file of `len` bytes. `known_end`: the end in its successor's header.
///
/// # Errors
/// The segment is of another version, or the disk cannot read it.
pub fn survey(disk: &impl Disk, segment: u64, len: u64, known_end: Option<u64>) -> Result<Surveyed, RecoverError> {
    let Copies { header, damaged, .. } = Copies::read(disk, segment, len)?;
    let note = Newest::read(disk).0.filter(|note| note.header.segment == segment);
    let header = header.or(note.map(|note| note.header));
    // A file may be longer than its header says; of a file without a header only the length is known.
    let content = header.map_or(0, |header| content(len, &header));
    let (bytes, _) = read_all(disk, segment, content)?;
    let durable = |salt: u64| note.map_or(0, |note| note.end_of(salt));
    let scan = header.map(|of| scan_from(&bytes, segment, of.salt, known_end, durable(of.salt))).unwrap_or_default();
    if let Some(header) = header.filter(|_| scan.entries.is_empty() && known_end.is_none())
        && let Some(found) = batches(disk, segment, len, header)?
    {
        return Ok(found);
    }
    let held = if header.is_none() { Headless::read(disk, segment, len)? } else { Headless::default() };
    let holds = !scan.entries.is_empty() || header.is_none() && (known_end.is_some() || held.was_durable);
    let headers = if holds { damaged } else { Vec::new() };
    Ok(Surveyed { header, scan, batches: false, headers, bytes })
}

/// Reads the segment as one of the embedded log, which has only batches: readable batches count, the rest after them is
/// torn.
fn batches(disk: &impl Disk, segment: u64, len: u64, header: Header) -> Result<Option<Surveyed>, RecoverError> {
    let mut bytes = vec![0; len as usize];
    disk.read(segment, 0, &mut bytes).map_err(|error| RecoverError::Read { segment, error })?;
    let mut scan = scan(&bytes, segment, header.salt, Some(len));
    let is_batch = |at: &u64| matches!(entry_at(&bytes, header.salt, *at), Some((Entry::Batch { .. }, _)));
    if scan.entries.is_empty() || !scan.entries.iter().all(is_batch) {
        return Ok(None);
    }
    if let Some(torn) = scan.rot.pop_if(|rot| rot.position + rot.bytes == len) {
        (scan.end, scan.torn_bytes) = (torn.position, torn.bytes);
    }
    Ok(Some(Surveyed { header: Some(header), scan, batches: true, headers: Vec::new(), bytes }))
}
