//! One partition: its log, its replicas, and what its leader remembers of producers (as in Apache Kafka 4.3.1).

use std::collections::{BTreeMap, BTreeSet};

use super::Entry;
use forebay_kafka::model::{Producers, REMEMBERED};

/// A partition.
#[derive(Debug)]
pub struct Partition {
    /// Node id of the leader, if there is one.
    pub leader: Option<i32>,
    /// The leader epoch, raised with each leader.
    pub leader_epoch: i32,
    /// First offset of each leader epoch.
    pub epoch_starts: Vec<(i32, i64)>,
    /// Node ids, the preferred leader first.
    pub replicas: Vec<i32>,
    /// Replicas in sync, the leader included.
    pub in_sync: BTreeSet<i32>,
    /// Offset after the last record of each replica.
    has: BTreeMap<i32, i64>,
    /// Whether the followers do not follow although they live.
    pub slow: bool,
    /// Places of the batches in the cluster's list.
    pub entries: Vec<usize>,
    end: i64,
    /// High watermark.
    pub high: i64,
    /// Whether the cleaner may remove batches. The start of the log stays as it was.
    pub is_compacted: bool,
    /// Index in `entries` of the first batch that retention has left.
    pub start: usize,
    pub(super) producers: Producers,
    /// Number of batches that each restarted replica remembers of a producer.
    restarted: BTreeMap<i32, usize>,
    /// Outdated metadata that another broker may still answer: leader, epoch, and until when.
    pub stale: Option<(Option<i32>, i32, u64)>,
    /// Time since which the partition could have taken and replicated any row.
    pub healthy_since: Option<u64>,
}

impl Partition {
    /// An empty partition, led by its first replica.
    #[must_use]
    pub fn new(replicas: Vec<i32>) -> Self {
        Self {
            leader: replicas.first().copied(),
            leader_epoch: 0,
            epoch_starts: vec![(0, 0)],
            in_sync: replicas.iter().copied().collect(),
            has: replicas.iter().map(|replica| (*replica, 0)).collect(),
            replicas,
            slow: false,
            entries: Vec::new(),
            end: 0,
            high: 0,
            is_compacted: false,
            start: 0,
            producers: Producers::default(),
            restarted: BTreeMap::new(),
            stale: None,
            healthy_since: None,
        }
    }

    /// Offset after the last batch.
    #[must_use]
    pub const fn end(&self) -> i64 {
        self.end
    }

    /// The first offset that retention has left.
    #[must_use]
    pub fn start_offset(&self, all: &[Entry]) -> i64 {
        if self.is_compacted {
            return 0;
        }
        self.entries.get(self.start).map_or(self.end, |place| all[*place].base_offset)
    }

    /// Appends a batch that has been checked, and sets its base offset.
    pub fn append(&mut self, place: usize, entry: &mut Entry) {
        entry.base_offset = self.end;
        entry.leader_epoch = self.leader_epoch;
        self.end += i64::from(entry.count);
        self.entries.push(place);
        if entry.producer >= 0 {
            self.producers.remember(&entry.sent());
        }
        if let Some(leader) = self.leader {
            self.has.insert(leader, self.end);
        }
        self.raise_high();
    }

    /// Lets the followers that can fetch do so.
    pub fn replicate(&mut self, can_fetch: impl Fn(i32) -> bool) {
        if self.leader.is_none_or(|leader| !can_fetch(leader)) {
            return;
        }
        for replica in self.replicas.clone() {
            if Some(replica) != self.leader && can_fetch(replica) && !self.slow {
                self.has.insert(replica, self.end);
                self.in_sync.insert(replica);
            }
        }
        self.raise_high();
    }

    /// Takes a replica out of the in-sync replicas, unless it is the last one.
    pub fn drop_out(&mut self, replica: i32) {
        if self.leader != Some(replica) && self.in_sync.len() > 1 && self.in_sync.remove(&replica) {
            self.raise_high();
        }
    }

    fn raise_high(&mut self) {
        let least = self.in_sync.iter().filter_map(|replica| self.has.get(replica)).min();
        self.high = self.high.max(least.copied().unwrap_or(0).min(self.end));
    }

    /// Makes a replica the leader. Returns the places of the batches that it lacks, which are lost.
    pub fn lead(&mut self, leader: i32, all: &[Entry], (until, rng): (u64, &mut fastrand::Rng)) -> Vec<usize> {
        self.stale = Some((self.leader, self.leader_epoch, until));
        let has = self.has.get(&leader).copied().unwrap_or(0).max(self.high);
        let keep = self.entries.partition_point(|place| all[*place].end() <= has);
        let lost = self.entries.split_off(keep);
        // The last remaining batches need not be the last written ones: the cleaner may have removed those.
        if let Some(first) = lost.first() {
            self.end = all[*first].base_offset;
        }
        self.high = self.high.min(self.end);
        self.has.values_mut().for_each(|has| *has = (*has).min(self.end));
        self.has.insert(leader, self.end);
        self.producers.read_again(self.entries.iter().map(|place| all[*place].sent()));
        if let Some(batches) = self.restarted.remove(&leader) {
            self.producers.remember_only(batches);
        } else if rng.u8(..4) == 0 {
            self.producers.remember_only(rng.usize(1..=REMEMBERED));
        }
        self.leader = Some(leader);
        self.leader_epoch += 1;
        self.epoch_starts.push((self.leader_epoch, self.end));
        self.in_sync.insert(leader);
        self.start = self.start.min(self.entries.len());
        self.raise_high();
        lost
    }

    /// Cuts the last batches in an unclean election, acknowledged or not. Returns their places.
    pub(super) fn cut(&mut self, batches: usize, all: &[Entry]) -> Vec<usize> {
        let lost = self.entries.split_off(self.entries.len().saturating_sub(batches).max(self.start));
        if let Some(first) = lost.first() {
            self.end = all[*first].base_offset;
        }
        self.high = self.high.min(self.end);
        self.has.values_mut().for_each(|has| *has = (*has).min(self.end));
        self.producers.read_again(self.entries.iter().map(|place| all[*place].sent()));
        self.leader_epoch += 1;
        self.epoch_starts.push((self.leader_epoch, self.end));
        lost
    }

    /// Leaves the partition without a leader.
    pub fn leaderless(&mut self, until: u64) {
        self.stale = Some((self.leader, self.leader_epoch, until));
        self.leader = None;
    }

    /// Notes that a replica's process has restarted, and remembers `batches` batches of each producer.
    pub fn restarted(&mut self, replica: i32, batches: usize) {
        if self.leader == Some(replica) {
            self.producers.remember_only(batches);
        } else if self.replicas.contains(&replica) {
            self.restarted.insert(replica, batches);
        }
    }

    /// The end of the largest epoch that is at most `epoch`: that epoch, and the offset after its last record.
    #[must_use]
    pub fn epoch_end(&self, epoch: i32) -> (i32, i64) {
        let Some(at) = self.epoch_starts.iter().rposition(|(known, _)| *known <= epoch) else { return (-1, -1) };
        let end = self.epoch_starts.get(at + 1).map_or(self.end, |(_, start)| *start);
        (self.epoch_starts[at].0, end)
    }
}
