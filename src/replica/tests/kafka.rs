//! A partition of Kafka and its coordinator, as far as a log knows them: epochs, sequences, compaction, what is forgotten with time, and a log that is cut.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::kafka::consumer::Batches;
use crate::record::{BatchHeader, Builder, Row, Stamp, stamp};
use crate::runtime::seam::{Monotonic, WallMs};

/// `producer.id.expiration.ms`.
const FORGETS: Duration = Duration::from_secs(24 * 3600);
/// `delete.retention.ms`.
const TOMBSTONES: Duration = Duration::from_secs(600);

type Record = (i64, Vec<u8>, Option<Vec<u8>>);

#[derive(Clone, Debug)]
struct Stored {
    first: i64,
    last: i64,
    stamp: Stamp,
    count: i32,
    at: Monotonic,
    /// When the cleaner was here first: its tombstones stay for [`TOMBSTONES`] after that (KIP-534).
    cleaned_at: Option<Monotonic>,
    records: Vec<Record>,
}

#[derive(Clone, Debug)]
struct Producer {
    epoch: i16,
    /// First and last sequence, and offset, of the last five batches.
    batches: Vec<(i32, i32, i64)>,
    at: Monotonic,
}

/// The partition, and the transactional id's state.
#[derive(Clone, Debug, Default)]
pub(crate) struct Partition {
    log: Vec<Stored>,
    producers: BTreeMap<i64, Producer>,
    pub(crate) end: i64,
    identity: Option<(i64, i16)>,
    next_id: i64,
    /// A wrong body: a record under the last epoch does not close its producer id.
    pub(crate) closes_nothing: bool,
    /// `message.timestamp.type=CreateTime`.
    pub(crate) is_create_time: bool,
}

impl Partition {
    /// InitProducerId with the transactional id.
    pub(crate) fn identify(&mut self) -> (i64, i16) {
        let next = match self.identity {
            Some((id, epoch)) if epoch < i16::MAX - 1 => (id, epoch + 1),
            _ => {
                self.next_id += 1;
                (self.next_id, 0)
            }
        };
        self.identity = Some(next);
        next
    }

    /// The coordinator forgets the transactional id (`transactional.id.expiration.ms`).
    pub(crate) fn forget_identity(&mut self) {
        self.identity = None;
    }

    /// Produce: error code and offset.
    pub(crate) fn append(&mut self, bytes: &[u8], now: Monotonic) -> (i16, i64) {
        self.producers.retain(|_, producer| now.since(producer.at) < FORGETS);
        let header = BatchHeader::read(bytes).expect("a batch");
        assert!(header.crc_matches(bytes), "a batch with its checksum");
        let (first, last) = (header.base_sequence, header.last_sequence());
        if let Some(known) = self.producers.get(&header.producer_id) {
            if header.producer_epoch < known.epoch {
                return (47, -1);
            }
            if header.producer_epoch == known.epoch {
                if let Some((.., offset)) = known.batches.iter().find(|(a, b, _)| (*a, *b) == (first, last)) {
                    return (0, *offset);
                }
                if known.batches.last().is_some_and(|(_, before, _)| before.wrapping_add(1) & i32::MAX != first) {
                    return (45, -1);
                }
            } else if first != 0 {
                return (45, -1);
            }
        }
        let offset = self.end;
        let mut batches = Batches::new(bytes.to_vec(), 0, Vec::new(), false);
        let mut records = Vec::new();
        while let Some(record) = batches.take().expect("readable") {
            records.push((
                offset + record.offset,
                record.key.unwrap_or_default().to_vec(),
                record.value.map(<[u8]>::to_vec),
            ));
        }
        self.end += i64::from(header.records_count);
        let stamp = Stamp { producer_id: header.producer_id, epoch: header.producer_epoch, sequence: first };
        let stored = Stored {
            first: offset,
            last: self.end - 1,
            stamp,
            count: header.records_count,
            at: now,
            cleaned_at: None,
            records,
        };
        if !(self.closes_nothing && stored.stamp.epoch == i16::MAX) {
            self.known(&stored);
        }
        self.log.push(stored);
        (0, offset)
    }

    fn known(&mut self, stored: &Stored) {
        let Stamp { producer_id, epoch, sequence } = stored.stamp;
        let new = Producer { epoch, batches: Vec::new(), at: stored.at };
        let producer = self.producers.entry(producer_id).or_insert(new);
        if producer.epoch != epoch {
            (producer.epoch, producer.batches) = (epoch, Vec::new());
        }
        producer.batches.push((sequence, sequence.wrapping_add(stored.count - 1) & i32::MAX, stored.first));
        if producer.batches.len() > 5 {
            producer.batches.remove(0);
        }
        producer.at = stored.at;
    }

    /// Fetch: a few batches from an offset on.
    pub(crate) fn fetch(&self, from: i64, batches: usize) -> Vec<u8> {
        let first = self.log.partition_point(|stored| stored.last < from);
        // Beats of many hours are read at once.
        let wanted = self.log[first..].iter().take(batches * (1 + self.log.len() / 50));
        wanted.flat_map(|stored| stored.encode(self.is_create_time)).collect()
    }

    /// Changes what is there.
    pub(crate) fn edit(&mut self, mut each: impl FnMut(&[u8], &mut Vec<u8>)) {
        for (_, key, value) in self.log.iter_mut().flat_map(|stored| &mut stored.records) {
            value.iter_mut().for_each(|value| each(key, value));
        }
    }

    /// The cleaner goes over everything before an offset.
    pub(crate) fn compact(&mut self, before: i64, now: Monotonic) {
        let mut newest: BTreeMap<Vec<u8>, i64> = BTreeMap::new();
        for (offset, key, _) in self.log.iter().filter(|stored| stored.last < before).flat_map(|stored| &stored.records)
        {
            newest.insert(key.clone(), *offset);
        }
        let mut last_of: BTreeSet<i64> = BTreeSet::new();
        let mut seen: BTreeSet<i64> = BTreeSet::new();
        for stored in self.log.iter().rev() {
            if seen.insert(stored.stamp.producer_id) {
                last_of.insert(stored.first);
            }
        }
        for stored in self.log.iter_mut().filter(|stored| stored.last < before) {
            let is_old = now.since(*stored.cleaned_at.get_or_insert(now)) > TOMBSTONES;
            stored
                .records
                .retain(|(offset, key, value)| newest.get(key) == Some(offset) && (value.is_some() || !is_old));
        }
        // The last batch of each producer stays, without records.
        self.log
            .retain(|stored| !stored.records.is_empty() || last_of.contains(&stored.first) || stored.last >= before);
    }

    /// An unclean election: the new leader lacks the last batches. Returns where the log ends now.
    pub(crate) fn cut(&mut self, batches: usize) -> i64 {
        let keep = self.log.len().saturating_sub(batches);
        for stored in self.log.drain(keep..) {
            self.end = self.end.min(stored.first);
        }
        self.producers.clear();
        for stored in self.log.clone() {
            self.known(&stored);
        }
        self.end
    }
}

impl Stored {
    fn encode(&self, is_create_time: bool) -> Vec<u8> {
        let mut builder = Builder::new(Vec::new());
        for (_, key, value) in &self.records {
            let row =
                Row { key: Some(&key[..]), value: value.as_deref(), headers: std::iter::empty(), timestamp: WallMs(0) };
            builder.append(&row, row.measure());
        }
        let mut bytes = builder.close(None);
        // Kafka's own: base offset, time, and the offsets of a batch that was compacted.
        bytes[..8].copy_from_slice(&self.first.to_be_bytes());
        bytes[22] |= if is_create_time { 0 } else { 8 };
        bytes[23..27].copy_from_slice(&((self.last - self.first) as i32).to_be_bytes());
        stamp(&mut bytes, self.stamp);
        bytes
    }
}
