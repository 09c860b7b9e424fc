//! The file of a segment as the shard sees it: its contents, and appended bytes that are not written yet.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::rc::Rc;

use super::map::Map;

/// The most zeroes that are written to close a gap. Bytes beyond a larger gap are written separately.
pub(super) const GAP_MAX: u64 = 4096;

/// Bytes and their position.
#[derive(Default)]
pub(super) struct Group {
    pub(super) at: u64,
    pub(super) bytes: Rc<Vec<u8>>,
}

pub(super) struct Segment {
    pub(super) file: Option<Rc<File>>,
    pub(super) map: Option<Map>,
    pub(super) bytes: u64,
    /// Appended bytes that were not given to the kernel yet. Only if appends are written.
    pub(super) pending: Group,
    /// Bytes with the kernel.
    pub(super) flying: Option<Group>,
    pub(super) syncing: bool,
    /// Reads that the ring has.
    pub(super) fetching: usize,
    /// The position before which all bytes are in the file: written, and their sync answered.
    pub(super) settled: u64,
    /// A sync or an append failed: the segment takes nothing more.
    pub(super) broken: bool,
}

impl Segment {
    pub(super) fn ready(file: File, map: Option<Map>, bytes: u64) -> Self {
        Self { file: Some(Rc::new(file)), map, ..Self::unborn(bytes) }
    }

    pub(super) fn unborn(bytes: u64) -> Self {
        Self {
            file: None,
            map: None,
            bytes,
            pending: Group::default(),
            flying: None,
            syncing: false,
            fetching: 0,
            settled: 0,
            broken: false,
        }
    }

    pub(super) fn is_idle(&self) -> bool {
        !self.syncing && self.fetching == 0
    }

    /// Copies the bytes from position `at`. Only bytes that are in the file are read by `file`.
    pub(super) fn read(
        &self,
        at: u64,
        into: &mut [u8],
        file: impl FnOnce(&mut [u8]) -> io::Result<()>,
    ) -> io::Result<()> {
        if at.checked_add(into.len() as u64).is_none_or(|end| end > self.bytes) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let settled = self.settled.saturating_sub(at).min(into.len() as u64) as usize;
        let (settled, rest) = into.split_at_mut(settled);
        if !settled.is_empty() {
            file(settled)?;
        }
        rest.fill(0);
        for group in self.flying.iter().chain([&self.pending]) {
            overlay(group, at, into);
        }
        Ok(())
    }

    /// Puts bytes far after the rest of the segment, such as the copy of its header at the very end: into the file at once, which
    /// waits for no disk, and the next sync covers them. Gathered with the rest they would be a write of the whole segment. False:
    /// the position is not that far.
    ///
    /// # Errors
    /// The file's error.
    pub(super) fn put_far(&mut self, at: u64, bytes: &[u8]) -> io::Result<bool> {
        let end = self.pending.at + self.pending.bytes.len() as u64;
        match &self.file {
            Some(file) if at.saturating_sub(end) > GAP_MAX && !self.pending.bytes.is_empty() => {
                file.write_all_at(bytes, at).map(|()| true)
            }
            _ => Ok(false),
        }
    }

    /// Puts bytes after the pending ones; a gap reads as zeroes.
    pub(super) fn gather(&mut self, at: u64, bytes: &[u8], spare: &mut Vec<Rc<Vec<u8>>>) -> io::Result<()> {
        if self.pending.bytes.is_empty() {
            let buffer = spare.pop().unwrap_or_default();
            self.pending = Group { at, bytes: buffer };
        }
        let pending = Rc::get_mut(&mut self.pending.bytes).ok_or(io::ErrorKind::ResourceBusy)?;
        let place = at.checked_sub(self.pending.at).and_then(|place| usize::try_from(place).ok());
        match place.filter(|place| *place >= pending.len()) {
            Some(place) => pending.resize(place, 0),
            None => return Err(io::ErrorKind::InvalidInput.into()),
        }
        pending.extend_from_slice(bytes);
        Ok(())
    }
}

/// Copies the bytes of a group over those that were read from position `at`.
fn overlay(group: &Group, at: u64, into: &mut [u8]) {
    let (from, to) = (at.max(group.at), (at + into.len() as u64).min(group.at + group.bytes.len() as u64));
    if from < to {
        let length = (to - from) as usize;
        let (source, target) = ((from - group.at) as usize, (from - at) as usize);
        into[target..target + length].copy_from_slice(&group.bytes[source..source + length]);
    }
}
