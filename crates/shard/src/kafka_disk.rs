//! The disk of the log that `[broker]` has for sessions: a partition of Kafka, through its [`Replica`]. Bytes are durable when Kafka has acknowledged them.
//! The segments' bytes are in memory, too, where the log reads them when it moves records out of old ones: no file of this machine is needed.

use std::collections::{BTreeMap, VecDeque};
use std::io;

use forebay_base::rules::Rules;
use forebay_fleet::replica::{Answer, Numbers, Outcome, Replica, Store};
use forebay_runtime::seam::Monotonic;
use forebay_spool::{AppendError, Completion, Disk, ReadError};

/// Bytes of a record beside its value, about: its key, and its share of a batch, which may be one of its own.
const RECORD_BYTES: u64 = 27 + 81;

/// The bytes of a log in Kafka, as read when the process begins.
#[derive(Debug, Default)]
pub struct Parts {
    segments: BTreeMap<u64, Segment>,
    note: Option<Vec<u8>>,
}

/// A segment's bytes by position, as they were appended, without overlaps. Gaps read as zeroes.
#[derive(Debug, Default)]
struct Segment {
    bytes: u64,
    parts: BTreeMap<u64, Box<[u8]>>,
    /// Bytes of the records in Kafka.
    taken: u64,
}

impl Segment {
    fn put(&mut self, at: u64, bytes: &[u8]) {
        self.bytes = self.bytes.max(at + bytes.len() as u64);
        let of = |part: &[u8]| RECORD_BYTES + part.len() as u64;
        let before = self.parts.insert(at, bytes.into());
        self.taken = self.taken + of(bytes) - before.map_or(0, |before| of(&before));
    }

    fn read(&self, at: u64, into: &mut [u8]) -> Result<(), ReadError> {
        let end = at + into.len() as u64;
        if end > self.bytes {
            return Err(ReadError::Damaged);
        }
        into.fill(0);
        for (from, part) in self.parts.range(..end).rev() {
            let Some(beyond) = (from + part.len() as u64).checked_sub(at).filter(|beyond| *beyond > 0) else { break };
            let (first, last) = ((*from).max(at), (at + beyond).min(end));
            let of_part = &part[(first - from) as usize..(last - from) as usize];
            into[(first - at) as usize..(last - at) as usize].copy_from_slice(of_part);
        }
        Ok(())
    }
}

impl Parts {
    /// Segments and their bytes, by number.
    #[must_use]
    pub fn found(&self) -> BTreeMap<u64, u64> {
        self.segments.iter().map(|(number, segment)| (*number, segment.bytes)).collect()
    }
}

impl Store for &mut Parts {
    fn write(&mut self, segment: u64, at: u64, bytes: &[u8]) -> io::Result<()> {
        self.segments.entry(segment).or_default().put(at, bytes);
        Ok(())
    }

    fn read(&mut self, segment: u64, at: u64, into: &mut [u8]) -> io::Result<()> {
        let found = self.segments.get(&segment).ok_or(ReadError::Missing).and_then(|segment| segment.read(at, into));
        found.map_err(io::Error::other)
    }

    fn set_len(&mut self, segment: u64, bytes: u64) -> io::Result<()> {
        self.segments.entry(segment).or_default().bytes = bytes;
        Ok(())
    }

    fn remove(&mut self, segment: u64) -> io::Result<()> {
        self.segments.remove(&segment);
        Ok(())
    }

    fn write_note(&mut self, note: &[u8]) -> io::Result<()> {
        self.note = Some(note.to_vec());
        Ok(())
    }
}

/// See the module.
pub(super) struct KafkaDisk {
    parts: Parts,
    pub(super) replica: Replica,
    done: VecDeque<Completion>,
    rules: &'static dyn Rules,
}

impl KafkaDisk {
    pub(super) fn new(parts: Parts, replica: Replica, rules: &'static dyn Rules) -> Self {
        Self { parts, replica, done: VecDeque::new(), rules }
    }

    pub(super) fn found(&self) -> BTreeMap<u64, u64> {
        self.parts.found()
    }

    pub(super) fn numbers(&self) -> Numbers {
        self.replica.numbers()
    }

    /// The next completion.
    pub(super) fn next_done(&mut self) -> Option<Completion> {
        self.done.pop_front()
    }

    /// Takes the outcome of a batch.
    pub(super) fn answered(&mut self, batch: u64, answer: Answer, now: Monotonic) -> Outcome {
        let outcome = self.replica.answered(batch, answer, now);
        if let Outcome::Synced(token) = outcome
            && self.rules.waits_for_kafka()
        {
            self.done.push_back(Completion::Synced { token, ok: true });
        }
        outcome
    }
}

impl Disk for KafkaDisk {
    fn create(&mut self, segment: u64, bytes: u64) {
        self.parts.segments.insert(segment, Segment { bytes, ..Segment::default() });
        self.done.push_back(Completion::Created { segment, ok: true });
    }

    fn append(&mut self, segment: u64, at: u64, bytes: &[u8]) -> Result<(), AppendError> {
        self.parts.segments.get_mut(&segment).ok_or(AppendError::Gone)?.put(at, bytes);
        self.replica.append(segment, at, bytes);
        Ok(())
    }

    fn sync(&mut self, token: u64, _segments: &[u64]) {
        self.replica.sync(token);
        if !self.rules.waits_for_kafka() {
            self.done.push_back(Completion::Synced { token, ok: true });
        }
    }

    fn read_note(&self) -> Option<Vec<u8>> {
        self.parts.note.clone()
    }

    fn write_note(&mut self, note: &[u8]) {
        self.replica.write_note(note);
    }

    fn free(&mut self, segment: u64) {
        self.parts.segments.remove(&segment);
        self.replica.free(segment);
        self.done.push_back(Completion::Freed { segment });
    }

    fn taken(&self, from: u64) -> Option<u64> {
        Some(self.parts.segments.range(from..).map(|(_, segment)| segment.taken).sum())
    }

    fn read(&self, segment: u64, at: u64, into: &mut [u8]) -> Result<(), ReadError> {
        self.parts.segments.get(&segment).ok_or(ReadError::Missing)?.read(at, into)
    }
}

#[cfg(test)]
#[path = "kafka_disk_tests.rs"]
mod tests;
