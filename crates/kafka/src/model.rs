//! A model of what Kafka does with the batches of one partition: which batches it takes (KIP-98), which producers it forgets, which records
//! its cleaner leaves (KIP-534). The simulators and the tests of the replica use it, too, so that there is
//! one model of Kafka.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use forebay_record::{BatchHeader, HEADER_LEN, Stamp, stamp, varint};

/// Number of batches that a leader remembers of each producer.
pub const REMEMBERED: usize = 5;
/// `producer.id.expiration.ms`, by record time.
const PRODUCER_FORGOTTEN_AFTER_MS: i64 = 24 * 3_600_000;
/// `delete.retention.ms` of compacted topics.
const TOMBSTONES_MS: i64 = 600_000;
/// Offsets in a batch: its length, the low byte of its attributes, its newest timestamp, and its number of records.
const LENGTH: usize = 8;
const ATTRIBUTES: usize = 22;
const NEWEST: usize = 35;
const COUNT: usize = 57;
/// The attribute bit of a timestamp that is the broker's.
const LOG_APPEND_TIME: u8 = 8;

/// The part of a batch that the leader remembers of its producer.
#[derive(Clone, Copy, Debug)]
pub struct Sent {
    pub producer: i64,
    pub epoch: i16,
    /// First and last sequence.
    pub first: i32,
    pub last: i32,
    pub base_offset: i64,
    /// The newest timestamp.
    pub newest_ms: i64,
    /// Whether the batch came late, when the partition had forgotten its producer.
    pub is_stray: bool,
}

#[derive(Clone, Debug)]
struct Producer {
    epoch: i16,
    /// First and last sequence, base offset; oldest first.
    batches: VecDeque<(i32, i32, i64)>,
    newest_ms: i64,
    is_stray: bool,
}

/// The producers that the leader of a partition remembers.
#[derive(Clone, Debug, Default)]
pub struct Producers(BTreeMap<i64, Producer>);

fn next_sequence(sequence: i32) -> i32 {
    if sequence == i32::MAX { 0 } else { sequence + 1 }
}

impl Producers {
    /// The checks of producer, epoch and sequence, in Kafka's order.
    ///
    /// # Errors
    /// Kafka's error code. `Ok` with an offset: the batch is already in the log, there.
    pub fn check(&self, producer: i64, epoch: i16, first: i32, last: i32) -> Result<Option<i64>, i16> {
        // An unknown producer may begin anywhere.
        let Some(known) = self.0.get(&producer) else { return Ok(None) };
        if epoch < known.epoch {
            return Err(47);
        }
        if epoch > known.epoch {
            return if first == 0 { Ok(None) } else { Err(45) };
        }
        if let Some(same) = known.batches.iter().find(|batch| (batch.0, batch.1) == (first, last)) {
            return Ok(Some(same.2));
        }
        let follows = known.batches.back().is_none_or(|batch| next_sequence(batch.1) == first);
        if follows { Ok(None) } else { Err(45) }
    }

    /// Whether the producer is known.
    pub fn knows(&self, producer: i64) -> bool {
        self.0.contains_key(&producer)
    }

    /// Whether the producer is known only by a batch that came late, after it was forgotten.
    pub fn is_stray(&self, producer: i64) -> bool {
        self.0.get(&producer).is_some_and(|known| known.is_stray)
    }

    /// Remembers an appended batch.
    pub fn remember(&mut self, sent: &Sent) {
        let Sent { producer, epoch, first, last, base_offset, newest_ms, is_stray } = *sent;
        let fresh = Producer { epoch, batches: VecDeque::new(), newest_ms, is_stray };
        let known = self.0.entry(producer).or_insert(fresh);
        if known.epoch != epoch {
            known.epoch = epoch;
            known.batches.clear();
        }
        known.batches.push_back((first, last, base_offset));
        if known.batches.len() > REMEMBERED {
            known.batches.pop_front();
        }
        (known.newest_ms, known.is_stray) = (newest_ms, is_stray);
    }

    /// Forgets all but what another leader has read in its log of the known producers.
    pub fn read_again(&mut self, log: impl Iterator<Item = Sent>) {
        let known: BTreeSet<i64> = std::mem::take(&mut self.0).into_keys().collect();
        log.filter(|sent| known.contains(&sent.producer)).for_each(|sent| self.remember(&sent));
    }

    /// Forgets all but this many batches of each producer, as a leader that has restarted does.
    pub fn remember_only(&mut self, batches: usize) {
        for known in self.0.values_mut() {
            known.batches.drain(..known.batches.len().saturating_sub(batches));
        }
    }

    /// The check for producers to forget, which a broker makes every ten minutes by its clock.
    pub fn forget(&mut self, wall_ms: i64) {
        self.0.retain(|_, known| wall_ms - known.newest_ms < PRODUCER_FORGOTTEN_AFTER_MS);
    }

    /// The answer to DescribeProducers: id, epoch, last sequence.
    pub fn described(&self) -> impl Iterator<Item = (i64, i16, i32)> {
        self.0.iter().filter_map(|(id, known)| Some((*id, known.epoch, known.batches.back()?.1)))
    }
}

/// Transactional ids of the coordinator of transactions, with producer id and epoch.
#[derive(Clone, Debug, Default)]
pub struct Identities(BTreeMap<String, (i64, i16)>);

impl Identities {
    /// Handles InitProducerId. `next`: the producer id that was given out last.
    pub fn identify(&mut self, id: &str, next: &mut i64) -> (i64, i16) {
        let given = match self.0.get(id) {
            Some((producer, epoch)) if *epoch < i16::MAX - 1 => (*producer, epoch + 1),
            _ => {
                *next += 1;
                (*next, 0)
            }
        };
        self.0.insert(id.to_owned(), given);
        given
    }

    /// Forgets all transactional ids (`transactional.id.expiration.ms`).
    pub fn forget(&mut self) {
        self.0.clear();
    }
}

/// A batch as its broker stores it: at this offset; with `append_ms` its timestamp is the broker's.
pub fn stored(bytes: &[u8], (base_offset, leader_epoch): (i64, i32), append_ms: Option<i64>) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    bytes[..8].copy_from_slice(&base_offset.to_be_bytes());
    bytes[12..16].copy_from_slice(&leader_epoch.to_be_bytes());
    if let Some(ms) = append_ms {
        bytes[ATTRIBUTES] |= LOG_APPEND_TIME;
        bytes[NEWEST..NEWEST + 8].copy_from_slice(&ms.to_be_bytes());
        sum(&mut bytes);
    }
    bytes
}

/// Sets the checksum again.
fn sum(bytes: &mut [u8]) {
    let BatchHeader { producer_id, producer_epoch: epoch, base_sequence: sequence, .. } =
        BatchHeader::read(bytes).expect("a batch");
    stamp(bytes, Stamp { producer_id, epoch, sequence });
}

/// The records of an uncompressed batch: offset, key, whether there is a value, and the record's own bytes.
fn records(bytes: &[u8]) -> Vec<(i64, Vec<u8>, bool, &[u8])> {
    let header = BatchHeader::read(bytes).expect("a batch");
    assert_eq!(header.codec(), 0, "compacted topics have no compressed batches here");
    let mut rest = &bytes[HEADER_LEN..];
    let mut records = Vec::new();
    while !rest.is_empty() {
        let whole = rest;
        let length = varint::get_i32(&mut rest).expect("a length") as usize;
        let (mut body, after) = rest.split_at(length);
        let whole = &whole[..whole.len() - after.len()];
        rest = after;
        body = &body[1..];
        varint::get(&mut body).expect("a time");
        let offset = header.base_offset + i64::from(varint::get_i32(&mut body).expect("an offset"));
        let key_bytes = varint::get_i32(&mut body).expect("a key's length").max(0) as usize;
        let (key, mut value) = body.split_at(key_bytes);
        records.push((offset, key.to_vec(), varint::get_i32(&mut value).expect("a value's length") >= 0, whole));
    }
    records
}

/// A batch in the log of a compacted topic, for its cleaner.
#[derive(Clone, Copy, Debug)]
pub struct Dirty<'a> {
    pub bytes: &'a [u8],
    /// Time of the cleaner's first pass: tombstones stay for [`TOMBSTONES_MS`] after that.
    pub cleaned_ms: Option<i64>,
}

/// Cleans a log below an offset. Returns the new bytes of each batch; `None`: unchanged; empty: removed.
pub fn clean(log: &[Dirty<'_>], before: i64, wall_ms: i64) -> Vec<Option<Vec<u8>>> {
    let headers: Vec<BatchHeader> = log.iter().map(|of| BatchHeader::read(of.bytes).expect("a batch")).collect();
    let count = headers.partition_point(|header| header.last_offset() < before);
    let mut newest: BTreeMap<Vec<u8>, i64> = BTreeMap::new();
    for dirty in &log[..count] {
        newest.extend(records(dirty.bytes).into_iter().map(|(offset, key, ..)| (key, offset)));
    }
    let mut producers = BTreeSet::new();
    // The last batch of each producer stays, without records.
    let mut is_last: Vec<bool> = headers.iter().rev().map(|header| producers.insert(header.producer_id)).collect();
    is_last.reverse();
    let clean_one = |(place, dirty): (usize, &Dirty<'_>)| {
        if place >= count {
            return None;
        }
        let is_old = dirty.cleaned_ms.is_some_and(|at| wall_ms - at > TOMBSTONES_MS);
        let all = records(dirty.bytes);
        let stays = |(offset, key, has_value, _): &&(i64, Vec<u8>, bool, &[u8])| {
            newest.get(key) == Some(offset) && (*has_value || !is_old)
        };
        let left: Vec<&[u8]> = all.iter().filter(stays).map(|(.., bytes)| *bytes).collect();
        if left.len() == all.len() && (is_last[place] || !all.is_empty()) {
            return None;
        }
        if left.is_empty() && !is_last[place] {
            return Some(Vec::new());
        }
        let mut bytes = dirty.bytes[..HEADER_LEN].to_vec();
        left.iter().for_each(|record| bytes.extend_from_slice(record));
        let length = i32::try_from(bytes.len() - 12).expect("short");
        bytes[LENGTH..LENGTH + 4].copy_from_slice(&length.to_be_bytes());
        bytes[COUNT..COUNT + 4].copy_from_slice(&(left.len() as i32).to_be_bytes());
        sum(&mut bytes);
        Some(bytes)
    };
    log.iter().enumerate().map(clean_one).collect()
}
