//! A disk in memory: completions are given on request, and unsynced data is gone after a power cut.

use std::collections::{BTreeMap, VecDeque};

use forebay_spool::{AppendError, Completion, Disk, ReadError};

#[derive(Clone, Debug, Default)]
struct File {
    durable: Vec<u8>,
    view: Vec<u8>,
}

#[derive(Clone, Debug, Default)]
pub(super) struct FakeDisk {
    files: BTreeMap<u64, File>,
    due: VecDeque<Completion>,
    syncs: VecDeque<(u64, Vec<u64>)>,
    /// Syncs are not answered.
    pub(super) slow: bool,
    /// Reads fail.
    pub(super) unreadable: bool,
    note: Option<Vec<u8>>,
}

impl FakeDisk {
    pub(super) fn answer(&mut self) -> Option<Completion> {
        if let Some(due) = self.due.pop_front() {
            return Some(due);
        }
        let (token, segments) = if self.slow { None } else { self.syncs.pop_front() }?;
        for segment in segments {
            if let Some(file) = self.files.get_mut(&segment) {
                file.durable.clone_from(&file.view);
            }
        }
        Some(Completion::Synced { token, ok: true })
    }

    pub(super) fn power_cut(&mut self) {
        self.due.clear();
        self.syncs.clear();
        self.slow = false;
        self.files.values_mut().for_each(|file| file.view.clone_from(&file.durable));
    }

    pub(super) fn found(&self) -> BTreeMap<u64, u64> {
        self.files.iter().map(|(segment, file)| (*segment, file.view.len() as u64)).collect()
    }
}

impl Disk for FakeDisk {
    fn create(&mut self, segment: u64, bytes: u64) {
        let zeroes = vec![0; bytes as usize];
        self.files.insert(segment, File { durable: zeroes.clone(), view: zeroes });
        self.due.push_back(Completion::Created { segment, ok: true });
    }

    fn append(&mut self, segment: u64, at: u64, bytes: &[u8]) -> Result<(), AppendError> {
        let file = self.files.get_mut(&segment).ok_or(AppendError::Gone)?;
        file.view[at as usize..at as usize + bytes.len()].copy_from_slice(bytes);
        Ok(())
    }

    fn sync(&mut self, token: u64, segments: &[u64]) {
        self.syncs.push_back((token, segments.to_vec()));
    }

    fn free(&mut self, segment: u64) {
        self.files.remove(&segment);
        self.due.push_back(Completion::Freed { segment });
    }

    fn read_note(&self) -> Option<Vec<u8>> {
        self.note.clone()
    }

    fn write_note(&mut self, note: &[u8]) {
        self.note = Some(note.to_vec());
    }

    fn read(&self, segment: u64, at: u64, into: &mut [u8]) -> Result<(), ReadError> {
        if self.unreadable {
            return Err(ReadError::Failed);
        }
        let file = self.files.get(&segment).ok_or(ReadError::Missing)?;
        into.copy_from_slice(file.view.get(at as usize..at as usize + into.len()).ok_or(ReadError::Missing)?);
        Ok(())
    }
}
