//! The fold over a log's partition: segments, the note, the term, and batches that do not count.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::time::Duration;

use super::format::{Key, Term};
use super::owner::Segment;
use super::take_over::TakeOverError;
use forebay_kafka::consumer::Batches;
use forebay_record::{BatchError, BatchHeader, BatchView};
use forebay_spool::{HEADER_BYTES, Header};

/// The last epoch: a producer ID that has written with it is closed for all others.
pub(super) const CLOSED: i16 = i16::MAX;

/// Whether a batch's producer may own the log. Others write without a producer ID, or with the first epoch of one: an owner has a later one.
const fn may_own((producer_id, epoch): (i64, i16)) -> bool {
    producer_id >= 0 && epoch > 0
}

/// The bit in a batch's attributes that is set if Kafka has set its time, and not its writer.
const LOG_APPEND_TIME: i16 = 1 << 3;

/// The store of the segments. Nothing needs to be synced, as Kafka has the log.
pub trait Store {
    /// Writes bytes of a segment, which is created if it does not exist.
    ///
    /// # Errors
    /// An error of the disk.
    fn write(&mut self, segment: u64, at: u64, bytes: &[u8]) -> io::Result<()>;
    /// Reads bytes that were written.
    ///
    /// # Errors
    /// An error of the disk.
    fn read(&mut self, segment: u64, at: u64, into: &mut [u8]) -> io::Result<()>;
    /// Makes a segment as long as its header says.
    ///
    /// # Errors
    /// An error of the disk.
    fn set_len(&mut self, segment: u64, bytes: u64) -> io::Result<()>;
    /// Deletes a segment.
    ///
    /// # Errors
    /// An error of the disk.
    fn remove(&mut self, segment: u64) -> io::Result<()>;
    /// Writes the note.
    ///
    /// # Errors
    /// An error of the disk.
    fn write_note(&mut self, note: &[u8]) -> io::Result<()>;
}

/// Statistics of a read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Read {
    /// Batches read.
    pub batches: u64,
    /// Records that count.
    pub records: u64,
    /// Bytes of records that count.
    pub bytes: u64,
    /// Batches that do not count: another owner wrote them, or they are not of this format.
    pub passed_over: u64,
}

/// A segment that is being read: positions and lengths of its records.
#[derive(Debug)]
struct Found {
    term: u64,
    bytes: u64,
    places: BTreeMap<u64, u32>,
}

/// The fold over a partition's records.
#[derive(Debug, Default)]
pub(super) struct Fold {
    segments: BTreeMap<u64, Found>,
    note: Option<Vec<u8>>,
    /// Producer ID and epoch of the last batch or term that counts. `None`: there is none, or its producer ID is closed. Terms are compacted, also while they
    /// are read, so a writer with a higher epoch is an owner even if its term is gone.
    owner: Option<(i64, i16)>,
    /// The producer IDs that have written, and may still write.
    open: BTreeSet<i64>,
    pub(super) term: u64,
    /// Keys to write again or end, as a batch that does not count has them, which Kafka's cleaner does not know.
    passed: BTreeSet<Key>,
    /// The values of term records that count, by producer ID.
    terms: BTreeMap<i64, Vec<u8>>,
    /// The offset to read next.
    pub(super) next: i64,
    /// Whether Kafka has set the time of the last batch read.
    pub(super) is_append_time: bool,
    /// Kafka's time of the last batch read, in milliseconds. The next field: of the last one with data that counts.
    read_ms: i64,
    data_ms: Option<i64>,
    pub(super) numbers: Read,
}

/// Records to write first: key, and value or tombstone.
pub(super) type Mend = Vec<(Key, Option<Vec<u8>>)>;

impl Fold {
    pub(super) fn new(next: i64) -> Self {
        Self { next, ..Self::default() }
    }

    /// Takes the batches of a Fetch. The last may be cut short.
    pub(super) fn take(&mut self, mut bytes: &[u8], store: &mut impl Store) -> Result<(), TakeOverError> {
        loop {
            let view = match BatchView::parse(bytes) {
                Ok((view, rest)) => {
                    bytes = rest;
                    view
                }
                Err(BatchError::Short) => return Ok(()),
                Err(error) => return Err(TakeOverError::Unreadable { offset: self.next, why: error.to_string() }),
            };
            let header = *view.header();
            if header.last_offset() >= self.next {
                self.batch(&view, &header, store)?;
                self.next = header.last_offset() + 1;
            }
        }
    }

    fn batch(
        &mut self,
        view: &BatchView<'_>,
        header: &BatchHeader,
        store: &mut impl Store,
    ) -> Result<(), TakeOverError> {
        self.numbers.batches += 1;
        self.is_append_time = header.attributes & LOG_APPEND_TIME != 0;
        self.read_ms = header.max_timestamp;
        let mut batches = Batches::new(view.as_bytes().to_vec(), header.base_offset, Vec::new(), false);
        let by = (header.producer_id, header.producer_epoch);
        let mut passed_over = false;
        loop {
            let record = match batches.take() {
                Ok(Some(record)) => record,
                Ok(None) => break,
                // A batch with a right header that no owner has written.
                Err(_) if !may_own(by) && header.crc_matches(view.as_bytes()) => {
                    passed_over = true;
                    break;
                }
                Err(bad) => {
                    return Err(TakeOverError::Unreadable { offset: header.base_offset, why: bad.to_string() });
                }
            };
            let key = record.key.and_then(Key::decode);
            if key.is_some() && may_own(by) && by.1 != CLOSED {
                self.open.insert(by.0);
            }
            match (key, record.value) {
                (Some(Key::Beat), _) => {}
                (Some(key @ Key::Term { producer_id }), value) if self.writes_term(by, producer_id) => {
                    let taken = self.term(by, producer_id, value);
                    let offset = record.offset;
                    let is_taken = taken.map_err(|version| TakeOverError::Version { offset, version })?;
                    if !is_taken {
                        passed_over = true;
                        self.passed.insert(key);
                    }
                }
                (Some(key @ (Key::Data { .. } | Key::Note)), value) if self.counts(by) => {
                    self.owner = Some(by);
                    self.numbers.records += 1;
                    self.numbers.bytes += value.map_or(0, <[u8]>::len) as u64;
                    self.data_ms = Some(header.max_timestamp);
                    self.passed.remove(&key);
                    self.apply(key, value, store).map_err(TakeOverError::Store)?;
                }
                (key, _) => {
                    passed_over = true;
                    self.passed.extend(key);
                }
            }
        }
        self.numbers.passed_over += u64::from(passed_over);
        Ok(())
    }

    fn counts(&self, by: (i64, i16)) -> bool {
        may_own(by) && self.owner.is_none_or(|(id, epoch)| id == by.0 && epoch <= by.1)
    }

    /// Whether a writer may write the term of a producer ID: its own, or as the owner that mends it.
    fn writes_term(&self, by: (i64, i16), producer_id: i64) -> bool {
        may_own(by) && (by.0 == producer_id || self.owner.is_some() && self.counts(by))
    }

    /// Takes a term record of an owner. `false`: it says nothing, or does not agree with its batch.
    ///
    /// # Errors
    /// The version, if it is another one.
    fn term(&mut self, by: (i64, i16), producer_id: i64, value: Option<&[u8]>) -> Result<bool, u8> {
        let Some(value) = value else {
            self.passed.remove(&Key::Term { producer_id });
            self.terms.remove(&producer_id);
            return Ok(true);
        };
        let term = match Term::decode(value) {
            Err(0) => return Ok(false),
            decoded => decoded?,
        };
        let is_own = by.0 == producer_id;
        if is_own && by.1 != if term.closed { CLOSED } else { term.epoch } {
            return Ok(false);
        }
        self.passed.remove(&Key::Term { producer_id });
        self.terms.insert(producer_id, value.to_vec());
        self.term = self.term.max(term.term);
        if term.closed {
            self.open.remove(&producer_id);
            self.owner.take_if(|(id, _)| *id == producer_id);
        } else if is_own && self.counts(by) {
            // As long as another producer ID may write, its owner is not replaced yet.
            self.owner = Some(by);
        }
        Ok(true)
    }

    fn apply(&mut self, key: Key, value: Option<&[u8]>, store: &mut impl Store) -> io::Result<()> {
        let Key::Data { term, segment, at } = key else {
            self.note = value.map(<[u8]>::to_vec).or(self.note.take());
            return Ok(());
        };
        self.term = self.term.max(term);
        match self.segments.get(&segment) {
            // The number was used again: data of a later term counts.
            Some(found) if found.term < term && value.is_some() => self.forget(segment, store)?,
            Some(found) if found.term > term => {
                self.passed.extend(value.map(|_| key));
                return Ok(());
            }
            _ => {}
        }
        let Some(value) = value else {
            if let Some(found) = self.segments.get_mut(&segment) {
                found.places.remove(&at);
                if found.places.is_empty() {
                    self.forget(segment, store)?;
                }
            }
            return Ok(());
        };
        store.write(segment, at, value)?;
        let found = self.segments.entry(segment).or_insert_with(|| Found { term, bytes: 0, places: BTreeMap::new() });
        found.places.insert(at, value.len() as u32);
        found.bytes = found.bytes.max(at + value.len() as u64);
        if at == 0
            && let Ok(header) = Header::decode(value.get(..HEADER_BYTES).unwrap_or_default())
        {
            found.bytes = found.bytes.max(header.bytes);
        }
        Ok(())
    }

    /// Ends a segment; its remaining keys become tombstones.
    fn forget(&mut self, segment: u64, store: &mut impl Store) -> io::Result<()> {
        let Some(found) = self.segments.remove(&segment) else { return Ok(()) };
        self.passed.extend(found.places.keys().map(|at| Key::Data { term: found.term, segment, at: *at }));
        store.remove(segment)
    }

    /// The producer IDs other than this one that may still write.
    pub(super) fn others(&self, producer_id: i64) -> Vec<i64> {
        self.open.iter().copied().filter(|id| *id != producer_id).collect()
    }

    /// The time between the last data that counts and the last batch read, by Kafka's clock. `None`: there is no data, or no time.
    pub(super) fn idle(&self) -> Option<Duration> {
        let data_ms = self.data_ms.filter(|ms| *ms >= 0)?;
        Some(Duration::from_millis(u64::try_from(self.read_ms - data_ms).unwrap_or_default()))
    }

    /// Returns the segments, and the records to write first.
    pub(super) fn finish(mut self, store: &mut impl Store) -> io::Result<(BTreeMap<u64, Segment>, Mend)> {
        // A segment without its header was being freed, or nothing in it was ever reported durable.
        let headless = |found: &Found| !found.places.contains_key(&0);
        let gone: Vec<u64> =
            self.segments.iter().filter(|(_, found)| headless(found)).map(|(segment, _)| *segment).collect();
        for segment in gone {
            self.forget(segment, store)?;
        }
        for (segment, found) in &self.segments {
            store.set_len(*segment, found.bytes)?;
        }
        if let Some(note) = &self.note {
            store.write_note(note)?;
        }
        let mut mend = Vec::new();
        for key in std::mem::take(&mut self.passed) {
            mend.push((key, self.value(key, store)?));
        }
        let segments = self.segments.into_iter().map(|(segment, found)| {
            (segment, Segment { term: found.term, places: found.places.into_keys().map(|at| at as u32).collect() })
        });
        Ok((segments.collect(), mend))
    }

    /// The value of a key that counts.
    fn value(&self, key: Key, store: &mut impl Store) -> io::Result<Option<Vec<u8>>> {
        let (term, segment, at) = match key {
            Key::Data { term, segment, at } => (term, segment, at),
            Key::Note => return Ok(self.note.clone()),
            Key::Term { producer_id } => return Ok(self.terms.get(&producer_id).cloned()),
            Key::Beat => return Ok(None),
        };
        let found = self.segments.get(&segment).filter(|found| found.term == term);
        let Some(bytes) = found.and_then(|found| found.places.get(&at)) else { return Ok(None) };
        let mut value = vec![0; *bytes as usize];
        store.read(segment, at, &mut value)?;
        Ok(Some(value))
    }
}
