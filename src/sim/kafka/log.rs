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
    /// Order of the append among all batches of the cluster.
    pub(in crate::sim) order: u64,
    /// Whether the batch came on a connection that the client had given up.
    pub(in crate::sim) late: bool,
    /// Whether the partition, or an earlier one of its name, had known this producer and no longer did, so that it takes any
    /// sequence; or all that it knew of the producer was such a late batch, which this one follows.
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
    /// Earlier leaders. If the current leader is one of them, its absence may have gone unnoticed.
    pub(in crate::sim) led_by: Vec<NodeId>,
    pub(in crate::sim) entries: Vec<Entry>,
    /// The offset after the last record that all in-sync replicas have.
    pub(in crate::sim) high: i64,
    /// Whether followers have stopped following.
    pub(in crate::sim) slow: bool,
    /// Whether fewer replicas are in sync than `min.insync.replicas`.
    pub(in crate::sim) few: bool,
    /// Index in `entries` of the first batch that retention has left.
    pub(in crate::sim) start: usize,
    known: Producers,
    /// Whether the topic was recreated.
    pub(in crate::sim) anew: bool,
    /// Producers that a new leader knew nothing of.
    unseated: BTreeSet<i64>,
    /// Producers of `unseated` that the log then took first with a sequence other than 0.
    pub(in crate::sim) begun_late: BTreeSet<i64>,
    /// Producers that the log has known at some time.
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
    /// Kafka's error code. `Ok` with an offset: the batch is already in the log, there.
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

    /// Lets the followers catch up.
    pub(in crate::sim) fn catch_up(&mut self) {
        self.slow = false;
        self.high = self.end();
    }

    /// Restarts the leader cleanly: only the last batch of each producer is remembered.
    pub(in crate::sim) fn remember_last(&mut self) {
        self.remember_only(1);
    }

    /// Forgets all but the last `batches` batches of each producer.
    pub(in crate::sim) fn remember_only(&mut self, batches: usize) {
        self.known.remember_only(batches);
    }

    /// The check for producers to forget, which Kafka makes every ten minutes.
    pub(in crate::sim) fn forget(&mut self, wall_ms: i64) {
        self.known.forget(wall_ms);
    }

    /// Gives the leadership to a replica that lacks a random number of the last batches, but none that is replicated. Returns
    /// the lost batches. The new leader knows producers from its own log.
    pub(in crate::sim) fn lose_tail(&mut self, rng: &mut fastrand::Rng) -> Vec<Entry> {
        let safe = self.entries.partition_point(|entry| entry.end() <= self.high);
        let keep = rng.usize(safe..=self.entries.len());
        let lost = self.entries.split_off(keep);
        self.high = self.end();
        if !lost.is_empty() {
            // After reading its log again, the leader may no longer know some of these producers.
            let knew: Vec<i64> = self.known.described().map(|(producer, ..)| producer).collect();
            self.known.read_again(self.entries.iter().map(Entry::sent));
            self.unseated.extend(knew.iter().filter(|producer| !self.known.knows(**producer)));
        }
        lost
    }

    /// Deletes about half of the replicated batches (retention).
    pub(in crate::sim) fn retain(&mut self) {
        let safe = self.entries.partition_point(|entry| entry.end() <= self.high);
        self.start = self.start.max(safe / 2);
    }

    /// A producer in the answer to DescribeProducers: epoch and last sequence.
    pub(in crate::sim) fn described(&self, producer: i64) -> Option<(i16, i32)> {
        let (_, epoch, last) = self.known.described().find(|(known, ..)| *known == producer)?;
        Some((epoch, last))
    }
}
