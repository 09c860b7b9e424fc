//! A segment as a person looks at it: what recovery reads of it, whether or not recovery would need it.

use super::disk::Disk;
use super::entry::Entry;
use super::format::{HEADER_BYTES, Header};
use super::recovery::{RecoverError, header, read_all, was_durable};
use super::segment::{Rot, Scan, entry_at, scan};

/// A segment that was read, not changed.
#[derive(Clone, Debug)]
pub struct Surveyed {
    /// `None`: neither copy can be read.
    pub header: Option<Header>,
    /// What counts in it, and what is damaged. Nothing without a header.
    pub scan: Scan,
    /// Damaged copies of the header, in a segment that holds something.
    pub headers: Vec<Rot>,
    bytes: Vec<u8>,
}

impl Surveyed {
    /// Its entries that count: position, bytes, entry (`None`: its payload makes no sense).
    pub fn entries(&self) -> impl Iterator<Item = (u64, u64, Option<Entry<'_>>)> {
        let salt = self.header.map_or(0, |header| header.salt);
        self.scan.entries.iter().map(move |position| match entry_at(&self.bytes, salt, *position) {
            Some((entry, len)) => (*position, len, Some(entry)),
            None => (*position, 0, None),
        })
    }
}

/// Reads the segment of this number, whose file has `len` bytes. `known_end`: what its successor's header says.
///
/// # Errors
/// Another version, or the disk cannot read it.
pub fn survey(disk: &impl Disk, segment: u64, len: u64, known_end: Option<u64>) -> Result<Surveyed, RecoverError> {
    let (header, bytes) = (header(disk, segment, len)?, read_all(disk, segment, len)?);
    let scan = header.map(|header| scan(&bytes, segment, header.salt, known_end)).unwrap_or_default();
    let mut headers = Vec::new();
    let holds = !scan.entries.is_empty() || header.is_none() && (known_end.is_some() || was_durable(&bytes));
    for position in [0, len.saturating_sub(HEADER_BYTES as u64)] {
        let mut copy = [0; HEADER_BYTES];
        let read = disk.read(segment, position, &mut copy);
        if holds && (read.is_err() || header.is_none() || Header::decode(&copy).ok() != header) {
            headers.push(Rot { segment, position, bytes: HEADER_BYTES as u64 });
        }
    }
    Ok(Surveyed { header, scan, headers, bytes })
}
