//! One partition: its log, and what its leader remembers of producers.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::kafka::types::NodeId;

/// Batches that Kafka remembers of a producer.
pub(in crate::sim) const REMEMBERED: usize = 5;
/// `producer.id.expiration.ms`, by record time.
const FORGOTTEN_AFTER_MS: i64 = 24 * 3_600_000;

/// A batch in the log.
#[derive(Clone, Debug)]
pub(in crate::sim) struct Entry {
    pub(in crate::sim) producer: i64,
    pub(in crate::sim) epoch: i16,
    pub(in crate::sim) first: i32,
    pub(in crate::sim) last: i32,
    pub(in crate::sim) base_offset: i64,
    pub(in crate::sim) max_timestamp: i64,
    /// Numbers of its rows.
    pub(in crate::sim) rows: Vec<u32>,
    /// The records' times.
    pub(in crate::sim) times: Vec<i64>,
    /// Topic and partition.
    pub(in crate::sim) place: (usize, usize),
    /// When it was appended, among all batches of the cluster.
    pub(in crate::sim) order: u64,
    /// It came on a connection that the client had given up.
    pub(in crate::sim) late: bool,
    /// The partition had known this producer, or one of its name had, and no longer did: it takes any sequence. Or all that it
    /// knew of it was such a late batch, which this one follows.
    pub(in crate::sim) forgotten: bool,
}

impl Entry {
    pub(super) fn end(&self) -> i64 {
        self.base_offset + self.rows.len() as i64
    }
}

#[derive(Clone, Debug)]
struct Known {
    epoch: i16,
    /// First and last sequence, base offset.
    batches: VecDeque<(i32, i32, i64)>,
    max_timestamp: i64,
    /// The last of them came late, when the partition had forgotten its producer.
    stray: bool,
}

/// The log of one partition, and its producers as the leader remembers them.
#[derive(Debug)]
pub(in crate::sim) struct Log {
    pub(in crate::sim) leader: Option<NodeId>,
    /// Leaders before this one: if it is one of them, nobody may have seen that it was away.
    pub(in crate::sim) led_by: Vec<NodeId>,
    pub(in crate::sim) entries: Vec<Entry>,
    /// The offset after the last record that all in-sync replicas have.
    pub(in crate::sim) high: i64,
    /// Followers do not follow.
    pub(in crate::sim) slow: bool,
    /// Fewer replicas in sync than `min.insync.replicas`.
    pub(in crate::sim) few: bool,
    /// Places in `entries` before this one were taken by retention.
    pub(in crate::sim) start: usize,
    known: BTreeMap<i64, Known>,
    /// Its topic was made anew.
    pub(in crate::sim) anew: bool,
    /// Producers of which a new leader knew nothing.
    unseated: BTreeSet<i64>,
    /// Producers that it then took first with a sequence other than 0.
    pub(in crate::sim) begun_late: BTreeSet<i64>,
    /// Producers that were known once.
    met: BTreeSet<i64>,
}

fn next_sequence(sequence: i32) -> i32 {
    if sequence == i32::MAX { 0 } else { sequence + 1 }
}

impl Log {
    pub(in crate::sim) fn new(leader: NodeId) -> Self {
        Self {
            leader: Some(leader),
            led_by: Vec::new(),
            entries: Vec::new(),
            high: 0,
            slow: false,
            few: false,
            start: 0,
            known: BTreeMap::new(),
            anew: false,
            unseated: BTreeSet::new(),
            begun_late: BTreeSet::new(),
            met: BTreeSet::new(),
        }
    }

    pub(in crate::sim) fn end(&self) -> i64 {
        self.entries.last().map_or(0, Entry::end)
    }

    /// The checks of producer, epoch and sequence, in Kafka's order.
    ///
    /// # Errors
    /// Kafka's code. `Ok` with an offset: it is there already.
    pub(in crate::sim) fn check(&self, producer: i64, epoch: i16, first: i32, last: i32) -> Result<Option<i64>, i16> {
        // A producer that is not known may begin anywhere.
        let Some(known) = self.known.get(&producer) else { return Ok(None) };
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

    /// Appends a batch that has been checked.
    pub(in crate::sim) fn append(&mut self, mut entry: Entry) {
        entry.base_offset = self.end();
        if entry.producer >= 0 {
            let known = self.known.get(&entry.producer);
            let stranger = known.is_none();
            entry.forgotten = stranger && (self.anew || self.met.contains(&entry.producer))
                || entry.late && known.is_some_and(|known| known.stray);
            let anew = self.met.insert(entry.producer) && self.anew;
            if stranger
                && entry.first != 0
                && (anew
                    || (self.leader.is_some_and(|leader| self.led_by.contains(&leader))
                        && self.unseated.contains(&entry.producer)))
            {
                self.begun_late.insert(entry.producer);
            }
            self.remember(&entry);
        }
        self.entries.push(entry);
        if !self.slow {
            self.high = self.end();
        }
    }

    fn remember(&mut self, entry: &Entry) {
        let fresh = Known { epoch: entry.epoch, batches: VecDeque::new(), max_timestamp: 0, stray: false };
        let known = self.known.entry(entry.producer).or_insert(fresh);
        if known.epoch != entry.epoch {
            known.epoch = entry.epoch;
            known.batches.clear();
        }
        known.batches.push_back((entry.first, entry.last, entry.base_offset));
        if known.batches.len() > REMEMBERED {
            known.batches.pop_front();
        }
        known.max_timestamp = entry.max_timestamp;
        known.stray = entry.late && entry.forgotten;
    }

    /// Followers have it all.
    pub(in crate::sim) fn catch_up(&mut self) {
        self.slow = false;
        self.high = self.end();
    }

    /// A clean restart of the leader: of each producer only the last batch is remembered.
    pub(in crate::sim) fn remember_last(&mut self) {
        self.remember_only(1);
    }

    /// Forgets all but the last `batches` batches of each producer.
    pub(in crate::sim) fn remember_only(&mut self, batches: usize) {
        for known in self.known.values_mut() {
            known.batches.drain(..known.batches.len().saturating_sub(batches));
        }
    }

    /// The check of every ten minutes.
    pub(in crate::sim) fn forget(&mut self, wall_ms: i64) {
        self.known.retain(|_, known| wall_ms - known.max_timestamp < FORGOTTEN_AFTER_MS);
    }

    /// The next leader lacks the last batches, as many of them as it likes, but none that is replicated. They are returned. What it
    /// knows of producers it has from its own log.
    pub(in crate::sim) fn lose_tail(&mut self, rng: &mut fastrand::Rng) -> Vec<Entry> {
        let safe = self.entries.partition_point(|entry| entry.end() <= self.high);
        let keep = rng.usize(safe..=self.entries.len());
        let lost = self.entries.split_off(keep);
        self.high = self.end();
        if !lost.is_empty() {
            let knew: Vec<i64> = self.known.keys().copied().collect();
            self.known.clear();
            let entries = std::mem::take(&mut self.entries);
            for entry in entries.iter().filter(|entry| knew.contains(&entry.producer)) {
                self.remember(entry);
            }
            self.entries = entries;
            self.unseated.extend(knew.iter().filter(|producer| !self.known.contains_key(producer)));
        }
        lost
    }

    /// Retention takes about half of what is replicated.
    pub(in crate::sim) fn retain(&mut self) {
        let safe = self.entries.partition_point(|entry| entry.end() <= self.high);
        self.start = self.start.max(safe / 2);
    }

    /// What DescribeProducers says of a producer: epoch and last sequence.
    pub(in crate::sim) fn described(&self, producer: i64) -> Option<(i16, i32)> {
        let known = self.known.get(&producer)?;
        Some((known.epoch, known.batches.back()?.1))
    }
}
