//! One partition: its log, and what its leader remembers of producers.

use std::collections::BTreeSet;

use crate::kafka::model::{Producers, Sent};
use crate::kafka::types::NodeId;

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

    fn sent(&self) -> Sent {
        let Self { producer, epoch, first, last, base_offset, max_timestamp, .. } = *self;
        let is_stray = self.late && self.forgotten;
        Sent { producer, epoch, first, last, base_offset, newest_ms: max_timestamp, is_stray }
    }
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
    known: Producers,
    /// Its topic was made anew.
    pub(in crate::sim) anew: bool,
    /// Producers of which a new leader knew nothing.
    unseated: BTreeSet<i64>,
    /// Producers that it then took first with a sequence other than 0.
    pub(in crate::sim) begun_late: BTreeSet<i64>,
    /// Producers that were known once.
    met: BTreeSet<i64>,
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
            known: Producers::default(),
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
        self.known.check(producer, epoch, first, last)
    }

    /// Appends a batch that has been checked.
    pub(in crate::sim) fn append(&mut self, mut entry: Entry) {
        entry.base_offset = self.end();
        if entry.producer >= 0 {
            let stranger = !self.known.knows(entry.producer);
            entry.forgotten = stranger && (self.anew || self.met.contains(&entry.producer))
                || entry.late && self.known.is_stray(entry.producer);
            let anew = self.met.insert(entry.producer) && self.anew;
            if stranger
                && entry.first != 0
                && (anew
                    || (self.leader.is_some_and(|leader| self.led_by.contains(&leader))
                        && self.unseated.contains(&entry.producer)))
            {
                self.begun_late.insert(entry.producer);
            }
            self.known.remember(&entry.sent());
        }
        self.entries.push(entry);
        if !self.slow {
            self.high = self.end();
        }
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
        self.known.remember_only(batches);
    }

    /// The check of every ten minutes.
    pub(in crate::sim) fn forget(&mut self, wall_ms: i64) {
        self.known.forget(wall_ms);
    }

    /// The next leader lacks the last batches, as many of them as it likes, but none that is replicated. They are returned. What it
    /// knows of producers it has from its own log.
    pub(in crate::sim) fn lose_tail(&mut self, rng: &mut fastrand::Rng) -> Vec<Entry> {
        let safe = self.entries.partition_point(|entry| entry.end() <= self.high);
        let keep = rng.usize(safe..=self.entries.len());
        let lost = self.entries.split_off(keep);
        self.high = self.end();
        if !lost.is_empty() {
            // Reading again, it may know nothing of some of these any more.
            let knew: Vec<i64> = self.known.described().map(|(producer, ..)| producer).collect();
            self.known.read_again(self.entries.iter().map(Entry::sent));
            self.unseated.extend(knew.iter().filter(|producer| !self.known.knows(**producer)));
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
        let (_, epoch, last) = self.known.described().find(|(known, ..)| *known == producer)?;
        Some((epoch, last))
    }
}
