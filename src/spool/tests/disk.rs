//! A disk in memory that keeps what was not synced apart, and loses, tears or reorders it when the power goes.

use std::collections::{BTreeMap, VecDeque};

use crate::spool::{AppendError, Completion, Disk, ReadError};

#[derive(Clone, Debug, Default)]
struct File {
    durable: Vec<u8>,
    view: Vec<u8>,
    unsynced: Vec<(u64, Vec<u8>)>,
    /// Whether its directory entry is safe.
    created: bool,
}

/// The disk. `due` are the answers that have not been given.
#[derive(Clone, Debug, Default)]
pub(super) struct SimDisk {
    files: BTreeMap<u64, File>,
    pub(super) due: VecDeque<Completion>,
    syncs: BTreeMap<u64, Vec<(u64, usize)>>,
    /// The next syncs that fail.
    pub(super) fail_syncs: u32,
    /// The next appends that are refused, a part of them taken.
    pub(super) fail_appends: u32,
    pub(super) syncs_done: u64,
    pub(super) answered: u64,
    /// The next segments that cannot be made.
    pub(super) fail_creates: u32,
    pub(super) creates: u32,
    /// Bytes read of each segment.
    pub(super) read: std::cell::RefCell<BTreeMap<u64, u64>>,
    /// Reads that are answered "later".
    pub(super) reads_later: std::cell::Cell<u32>,
}

impl Disk for SimDisk {
    fn create(&mut self, segment: u64, bytes: u64) {
        self.creates += 1;
        if self.fail_creates > 0 {
            self.fail_creates -= 1;
            self.due.push_back(Completion::Created { segment, ok: false });
            return;
        }
        let zeroes = vec![0; bytes as usize];
        let old = self.files.insert(segment, File { durable: zeroes.clone(), view: zeroes, ..File::default() });
        assert!(old.is_none(), "segment {segment} made twice");
        self.due.push_back(Completion::Created { segment, ok: true });
    }

    fn append(&mut self, segment: u64, at: u64, bytes: &[u8]) -> Result<(), AppendError> {
        let file = self.files.get_mut(&segment).expect("an append to a segment that is there");
        assert!(file.created, "an append to a segment that is not made yet");
        let fails = self.fail_appends > 0;
        let bytes = if fails { &bytes[..bytes.len() / 2] } else { bytes };
        let place = &mut file.view[at as usize..at as usize + bytes.len()];
        assert!(place.iter().all(|byte| *byte == 0), "bytes of segment {segment} at {at} written twice");
        place.copy_from_slice(bytes);
        file.unsynced.push((at, bytes.to_vec()));
        if fails {
            self.fail_appends -= 1;
            return Err(AppendError::Full);
        }
        Ok(())
    }

    fn sync(&mut self, token: u64, segments: &[u64]) {
        assert!(self.syncs.is_empty(), "two syncs at a time");
        let covered = segments.iter().map(|segment| (*segment, self.files[segment].unsynced.len())).collect();
        self.syncs.insert(token, covered);
        let ok = self.fail_syncs == 0;
        self.fail_syncs = self.fail_syncs.saturating_sub(1);
        self.due.push_back(Completion::Synced { token, ok });
    }

    fn free(&mut self, segment: u64) {
        self.due.push_back(Completion::Freed { segment });
    }

    fn read(&self, segment: u64, at: u64, into: &mut [u8]) -> Result<(), ReadError> {
        if let Some(left) = self.reads_later.get().checked_sub(1) {
            self.reads_later.set(left);
            return Err(ReadError::Later);
        }
        let file = self.files.get(&segment).ok_or(ReadError::Missing)?;
        let bytes = file.view.get(at as usize..at as usize + into.len()).ok_or(ReadError::Missing)?;
        *self.read.borrow_mut().entry(segment).or_default() += into.len() as u64;
        into.copy_from_slice(bytes);
        Ok(())
    }
}

impl SimDisk {
    /// The next answer, with what it means for what is durable.
    pub(super) fn answer(&mut self) -> Option<Completion> {
        let completion = self.due.pop_front()?;
        self.answered += 1;
        match completion {
            Completion::Created { ok: false, .. } => {}
            Completion::Created { segment, .. } => self.files.get_mut(&segment).expect("made").created = true,
            Completion::Freed { segment } => drop(self.files.remove(&segment)),
            Completion::Synced { token, ok } => {
                let covered = self.syncs.remove(&token).expect("a sync");
                self.syncs_done += u64::from(ok);
                for (segment, writes) in covered.into_iter().filter(|_| ok) {
                    let file = self.files.get_mut(&segment).expect("there");
                    for (at, bytes) in file.unsynced.drain(..writes) {
                        file.durable[at as usize..at as usize + bytes.len()].copy_from_slice(&bytes);
                    }
                }
            }
        }
        Some(completion)
    }

    /// The power goes: of what was not synced, any sectors are there, and others torn at any byte.
    pub(super) fn power_cut(&mut self, random: &mut fastrand::Rng) {
        let freed: Vec<u64> = self
            .due
            .iter()
            .filter_map(|c| if let Completion::Freed { segment } = c { Some(*segment) } else { None })
            .collect();
        for segment in freed {
            if random.bool() {
                self.files.remove(&segment);
            }
        }
        self.due.clear();
        self.syncs.clear();
        self.files.retain(|_, file| file.created || random.bool());
        let style = random.u8(0..4);
        for file in self.files.values_mut() {
            for (at, bytes) in std::mem::take(&mut file.unsynced) {
                let mut from = 0;
                while from < bytes.len() {
                    let sector = (512 - (at as usize + from) % 512).min(bytes.len() - from);
                    let kept = match style {
                        0 => 0,
                        1 => sector,
                        2 => {
                            if random.bool() {
                                sector
                            } else {
                                0
                            }
                        }
                        _ => {
                            if random.u8(0..8) == 0 {
                                random.usize(0..=sector)
                            } else {
                                sector
                            }
                        }
                    };
                    let start = at as usize + from;
                    file.durable[start..start + kept].copy_from_slice(&bytes[from..from + kept]);
                    from += sector;
                }
            }
            file.view.clone_from(&file.durable);
            file.created = true;
        }
    }

    pub(super) fn without_faults(mut self) -> Self {
        (self.fail_syncs, self.fail_appends, self.fail_creates) = (0, 0, 0);
        self
    }

    pub(super) fn lose(&mut self, segment: u64) {
        self.files.remove(&segment).expect("there");
    }

    pub(super) fn found(&self) -> BTreeMap<u64, u64> {
        self.files.iter().map(|(segment, file)| (*segment, file.view.len() as u64)).collect()
    }

    pub(super) fn bytes(&mut self, segment: u64) -> &mut Vec<u8> {
        &mut self.files.get_mut(&segment).expect("there").view
    }
}
