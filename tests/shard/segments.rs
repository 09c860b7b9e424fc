//! Segment files in memory: what was not synced is gone when the power goes, and syncs wait or fail when a test says so.

use std::collections::{BTreeMap, VecDeque};
use std::io;

use forebay::runtime::seam::{SegmentEvent, Segments};
use smallvec::SmallVec;

use super::folder::Folder;

#[derive(Default)]
struct File {
    /// What a power cut leaves.
    durable: Vec<u8>,
    /// What a read sees.
    view: Vec<u8>,
    /// Found at the start: read and freed only.
    found: bool,
}

/// The disk of one shard.
#[derive(Default)]
pub(crate) struct Disk {
    files: BTreeMap<u64, File>,
    events: VecDeque<SegmentEvent>,
    syncs: VecDeque<(u64, SmallVec<[u64; 2]>)>,
    /// Syncs are answered when this is off again.
    pub(crate) slow: bool,
    /// The next syncs that fail.
    pub(crate) failing: u32,
    /// No segment can be made.
    pub(crate) full: bool,
    /// Syncs that were answered with success.
    pub(crate) synced: u64,
    note: Option<Vec<u8>>,
    /// Real files stand for those in memory.
    folder: Option<Folder>,
}

impl Disk {
    /// Of real files. They are never slow, and have no power cuts.
    pub(crate) fn of_folder(folder: Folder) -> Self {
        Self { folder: Some(folder), ..Self::default() }
    }

    /// What the shard is told next.
    pub(crate) fn event(&mut self) -> Option<SegmentEvent> {
        if let Some(folder) = &mut self.folder {
            return folder.event();
        }
        if let Some(event) = self.events.pop_front() {
            return Some(event);
        }
        let (token, segments) = if self.slow { None } else { self.syncs.pop_front() }?;
        if self.failing > 0 {
            self.failing -= 1;
            return Some(SegmentEvent::Synced { token, result: Err(io::Error::other("a bad disk")) });
        }
        for segment in segments {
            if let Some(file) = self.files.get_mut(&segment) {
                file.durable.clone_from(&file.view);
            }
        }
        self.synced += 1;
        Some(SegmentEvent::Synced { token, result: Ok(()) })
    }

    /// The power goes, and comes back: what was synced is there, found by the next start.
    pub(crate) fn power_cut(&mut self) {
        self.events.clear();
        self.syncs.clear();
        (self.slow, self.failing, self.full) = (false, 0, false);
        for file in self.files.values_mut() {
            file.view.clone_from(&file.durable);
            file.found = true;
        }
    }

    /// The process ends and nothing else: what was written is there, though a power cut may still take what no sync has
    /// covered.
    pub(crate) fn kill(&mut self) {
        self.events.clear();
        self.syncs.clear();
        (self.slow, self.failing, self.full) = (false, 0, false);
        self.files.values_mut().for_each(|file| file.found = true);
    }

    /// A segment's bytes, to be damaged.
    pub(crate) fn bytes(&mut self, segment: u64) -> &mut Vec<u8> {
        &mut self.files.get_mut(&segment).expect("there").view
    }

    /// Segments that there are.
    pub(crate) fn segments(&self) -> usize {
        self.folder.as_ref().map_or(self.files.len(), Folder::segments)
    }
}

impl Segments for Disk {
    fn create(&mut self, segment: u64, bytes: u64) {
        if let Some(folder) = &mut self.folder {
            return folder.create(segment, bytes);
        }
        let result = if self.full { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) };
        if result.is_ok() {
            let zeroes = vec![0; usize::try_from(bytes).expect("small")];
            let file = File { durable: zeroes.clone(), view: zeroes, found: false };
            assert!(self.files.insert(segment, file).is_none(), "segment {segment} made twice");
        }
        self.events.push_back(SegmentEvent::Created { segment, result });
    }

    fn append(&mut self, segment: u64, at: u64, bytes: &[u8]) -> io::Result<()> {
        if let Some(folder) = &mut self.folder {
            return folder.append(segment, at, bytes);
        }
        let file = self.files.get_mut(&segment).ok_or(io::ErrorKind::NotFound)?;
        assert!(!file.found, "segment {segment} is of an earlier life");
        let at = usize::try_from(at).expect("small");
        file.view[at..at + bytes.len()].copy_from_slice(bytes);
        Ok(())
    }

    fn sync(&mut self, token: u64, segments: &[u64]) {
        if let Some(folder) = &mut self.folder {
            return folder.sync(token, segments);
        }
        self.syncs.push_back((token, SmallVec::from_slice(segments)));
    }

    fn free(&mut self, segment: u64) {
        if let Some(folder) = &mut self.folder {
            return folder.free(segment);
        }
        self.files.remove(&segment);
        self.events.push_back(SegmentEvent::Freed { segment, result: Ok(()) });
    }

    fn read(&self, segment: u64, at: u64, into: &mut [u8]) -> io::Result<()> {
        if let Some(folder) = &self.folder {
            return folder.read(segment, at, into);
        }
        let file = self.files.get(&segment).ok_or(io::ErrorKind::NotFound)?;
        let at = usize::try_from(at).expect("small");
        let bytes = file.view.get(at..at + into.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
        into.copy_from_slice(bytes);
        Ok(())
    }

    fn existing(&self) -> Vec<(u64, u64)> {
        if let Some(folder) = &self.folder {
            return folder.existing();
        }
        self.files.iter().map(|(segment, file)| (*segment, file.view.len() as u64)).collect()
    }

    fn set_aside(&mut self, segment: u64) {
        if let Some(folder) = &mut self.folder {
            folder.set_aside(segment);
        }
    }

    fn read_note(&self) -> Option<Vec<u8>> {
        self.folder.as_ref().map_or_else(|| self.note.clone(), Folder::read_note)
    }

    fn write_note(&mut self, note: &[u8]) {
        match &mut self.folder {
            Some(folder) => folder.write_note(note),
            None => self.note = Some(note.to_vec()),
        }
    }
}
