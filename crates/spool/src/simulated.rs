//! A simulated disk in memory: it keeps unsynced data apart, and loses, tears or reorders it at a power cut. For the tests
//! of this folder and of `buffer/`, and for the simulator.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::{AppendError, Completion, Disk, ReadError};
use forebay_runtime::seam::Monotonic;

#[derive(Clone, Debug, Default)]
struct File {
    durable: Vec<u8>,
    view: Vec<u8>,
    unsynced: Vec<(u64, Vec<u8>)>,
    /// Whether the directory entry is durable.
    created: bool,
}

/// The simulated disk. `due` has the pending completions, and when each may be given.
#[derive(Clone, Debug, Default)]
pub struct SimDisk {
    files: BTreeMap<u64, File>,
    due: VecDeque<(Monotonic, Completion)>,
    syncs: BTreeMap<u64, Vec<(u64, usize)>>,
    /// Number of coming syncs that fail.
    pub fail_syncs: u32,
    /// Number of coming appends that are refused after a part is taken.
    pub fail_appends: u32,
    /// Number of coming segments that cannot be created.
    pub fail_creates: u32,
    pub creates: u32,
    /// Bytes that all segments may take together: others use the rest of the disk.
    pub room: Option<u64>,
    /// Bytes read from each segment.
    pub read: std::cell::RefCell<BTreeMap<u64, u64>>,
    /// Unreadable sectors of 512 bytes: segment and number.
    pub bad: BTreeSet<(u64, u64)>,
    /// The note, and the one that a crash may bring back: the note at the time of the last request for a segment.
    pub note: Option<Vec<u8>>,
    earlier_note: Option<Vec<u8>>,
    /// Segments of which a copy is kept.
    pub set_aside: BTreeSet<u64>,
    /// Number of reads that are answered "later".
    pub reads_later: std::cell::Cell<u32>,
    pub syncs_done: u64,
    pub answered: u64,
    /// Whether only appended bytes take space ([`Disk::taken`]).
    pub takes_appended: bool,
    /// The earliest time at which new requests are answered.
    pub answers_at: Monotonic,
}

impl Disk for SimDisk {
    fn create(&mut self, segment: u64, bytes: u64) {
        self.creates += 1;
        self.earlier_note.clone_from(&self.note);
        let ok = self.fail_creates == 0 && self.room.is_none_or(|room| self.bytes_taken() + bytes <= room);
        self.fail_creates = self.fail_creates.saturating_sub(1);
        if ok {
            let zeroes = vec![0; bytes as usize];
            let old = self.files.insert(segment, File { durable: zeroes.clone(), view: zeroes, ..File::default() });
            assert!(old.is_none(), "segment {segment} made twice");
        }
        self.due.push_back((self.answers_at, Completion::Created { segment, ok }));
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
        self.due.push_back((self.answers_at, Completion::Synced { token, ok }));
    }

    fn set_aside(&mut self, segment: u64) {
        self.set_aside.insert(segment);
    }

    fn read_note(&self) -> Option<Vec<u8>> {
        self.note.clone()
    }

    fn write_note(&mut self, note: &[u8]) {
        self.note = Some(note.to_vec());
    }

    fn free(&mut self, segment: u64) {
        self.due.push_back((self.answers_at, Completion::Freed { segment }));
    }

    fn taken(&self, from: u64) -> Option<u64> {
        let written = |file: &File| file.view.iter().filter(|byte| **byte != 0).count() as u64;
        self.takes_appended.then(|| self.files.range(from..).map(|(_, file)| written(file)).sum())
    }

    fn read(&self, segment: u64, at: u64, into: &mut [u8]) -> Result<(), ReadError> {
        if let Some(left) = self.reads_later.get().checked_sub(1) {
            self.reads_later.set(left);
            return Err(ReadError::Later);
        }
        let file = self.files.get(&segment).ok_or(ReadError::Missing)?;
        let bytes = file.view.get(at as usize..at as usize + into.len()).ok_or(ReadError::Damaged)?;
        let sectors = (segment, at / 512)..(segment, (at + into.len() as u64).div_ceil(512));
        if let Some((_, bad)) = self.bad.range(sectors).next() {
            // The other sectors of the same 64 KiB tell whether the disk is available at all.
            let (first, last) = (bad / 128 * 128, (bad / 128 * 128 + 128).min(file.view.len() as u64 / 512));
            let damaged = (self.bad.range((segment, first)..(segment, last)).count() as u64) < last - first;
            return Err(if damaged { ReadError::Damaged } else { ReadError::Failed });
        }
        *self.read.borrow_mut().entry(segment).or_default() += into.len() as u64;
        into.copy_from_slice(bytes);
        Ok(())
    }
}

impl SimDisk {
    /// A disk with these segments.
    pub fn of(files: BTreeMap<u64, Vec<u8>>) -> Self {
        let file = |bytes: Vec<u8>| File { durable: bytes.clone(), view: bytes, created: true, ..File::default() };
        Self { files: files.into_iter().map(|(number, bytes)| (number, file(bytes))).collect(), ..Self::default() }
    }

    /// Takes the next completion, and makes the data that it reports durable.
    pub fn answer(&mut self) -> Option<Completion> {
        self.answer_by(Monotonic::NEVER)
    }

    /// Takes the oldest completion that may be given at this time.
    pub fn answer_by(&mut self, now: Monotonic) -> Option<Completion> {
        let place = self.due.iter().position(|(at, _)| *at <= now)?;
        let (_, completion) = self.due.remove(place)?;
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

    /// When the next completion may be given.
    pub fn next_deadline(&self) -> Option<Monotonic> {
        self.due.iter().map(|(at, _)| *at).min()
    }

    /// Cuts the power: any unsynced sectors may be there, and others torn at any byte.
    pub fn power_cut(&mut self, random: &mut fastrand::Rng) {
        self.stop(random);
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

    /// Kills the process while the machine goes on: the kernel has the written data, but no sync has covered it, so a power
    /// cut may still take it, even after several kills. Writes on the ring that had not begun never happen.
    pub fn kill(&mut self, random: &mut fastrand::Rng) {
        self.stop(random);
        for file in self.files.values_mut() {
            file.unsynced.truncate(random.usize(..=file.unsynced.len()));
            file.view.clone_from(&file.durable);
            for (at, bytes) in &file.unsynced {
                file.view[*at as usize..*at as usize + bytes.len()].copy_from_slice(bytes);
            }
            file.created = true;
        }
    }

    /// Drops the pending completions; any of the segments being freed may be gone.
    fn stop(&mut self, random: &mut fastrand::Rng) {
        for (_, completion) in std::mem::take(&mut self.due) {
            if let Completion::Freed { segment } = completion
                && random.bool()
            {
                self.files.remove(&segment);
            }
        }
        self.syncs.clear();
        // The choice is not drawn from the seed: the same seed has the same crashes, with notes and without.
        if random.clone().u8(..4) == 0 {
            self.note.clone_from(&self.earlier_note);
        }
        self.earlier_note.clone_from(&self.note);
    }

    /// Removes all faults that were ordered and have not happened.
    pub fn without_faults(mut self) -> Self {
        (self.fail_syncs, self.fail_appends, self.fail_creates) = (0, 0, 0);
        self
    }

    /// Loses a segment that was not freed.
    pub fn lose(&mut self, segment: u64) {
        self.files.remove(&segment).expect("there");
    }

    /// The existing segments, and their bytes.
    pub fn found(&self) -> BTreeMap<u64, u64> {
        self.files.iter().map(|(segment, file)| (*segment, file.view.len() as u64)).collect()
    }

    /// Bytes that the segments take.
    pub fn bytes_taken(&self) -> u64 {
        self.files.values().map(|file| file.view.len() as u64).sum()
    }

    /// A segment's bytes, for tests to damage.
    pub fn bytes(&mut self, segment: u64) -> &mut Vec<u8> {
        &mut self.files.get_mut(&segment).expect("there").view
    }
}
