//! Kafka handles one request of a connection at a time, and with acks=all that includes waiting for followers: a
//! partition with a frozen follower would delay all others of that broker. So the first channel asks for
//! little patience; a partition that is answered 7 (REQUEST_TIMED_OUT) twice moves to the second channel, with
//! more, until a batch of it is answered at once again. Partitions with a replica on the same follower move with it;
//! otherwise each of them would delay a request of the first channel in its turn.
//!
//! Patience of a partition: 0 is the first channel; 1 the second with `acks_timeout`; each further one doubles that.

use super::Producer;
use super::dispatch::{Entry, Request};
use super::error::TIMED_OUT;
use crate::types::{NodeId, ProduceResult};

/// Maximum patience: 500 ms, 1 s, 2 s. Later requests wait as long, so it is not higher.
const PATIENCE_MAX: u8 = 3;

/// Batches taken on the second channel, none of them quickly, after which a partition tries the first one.
const TRIED_AFTER: u8 = 64;

/// All in-sync replicas.
const ACKS_ALL: i16 = -1;

impl Producer {
    /// Gives the partition of a batch that was answered 7 more patience, once for all requests made with this one. On the first
    /// channel only a batch that is late for the second time counts: a follower may pause briefly, and partitions should not use the
    /// second channel without need.
    pub(super) fn slower(&mut self, entry: Entry, asked_with: u8) {
        let partition = &mut self.topics[entry.key];
        if asked_with == 0 && !entry.again {
            return partition.window.retry_at_once();
        }
        partition.taken = 0;
        if partition.patience == asked_with && asked_with < PATIENCE_MAX {
            partition.patience += 1;
            self.dispatcher.slow_partitions += u64::from(asked_with == 0);
        }
    }

    /// Suspects the followers of a partition that was answered 7 again on the first channel, except those of other
    /// partitions of the same request that were in time: partitions with a replica on all suspects need patience as well.
    /// A wrong suspicion costs little: those partitions use the other connection until their next batch is answered.
    pub(super) fn suspect_followers(&mut self, request: &Request, results: &[ProduceResult]) {
        let code = |this: &Self, i, entry| this.result(i, entry, results).map(|result| result.error);
        let mut in_time: Vec<NodeId> = Vec::new();
        for (i, entry) in request.entries.iter().enumerate() {
            if !entry.again && code(self, i, *entry) == Some(0) {
                in_time.extend(&self.topics[entry.key].replicas);
            }
        }
        for (i, entry) in request.entries.iter().enumerate() {
            let late = code(self, i, *entry) == Some(TIMED_OUT);
            let partition = &mut self.topics[entry.key];
            if !late || !entry.again || partition.patience > 0 {
                continue;
            }
            let mut suspects = partition.replicas.to_vec();
            suspects.retain(|node| *node != request.node && !in_time.contains(node));
            if !suspects.is_empty() {
                self.be_patient_with(&suspects);
            }
        }
    }

    /// Moves all partitions that wait for each of these followers to the second channel.
    fn be_patient_with(&mut self, suspects: &[NodeId]) {
        for topic in self.topics.iter_mut() {
            if self.sinks[topic.sink].settings.acks != ACKS_ALL {
                continue;
            }
            for partition in &mut topic.partitions {
                let led_elsewhere = partition.leader.is_some_and(|leader| !suspects.contains(&leader));
                let is_concerned = led_elsewhere && suspects.iter().all(|node| partition.replicas.contains(node));
                if is_concerned && partition.patience == 0 {
                    partition.patience = 1;
                    self.dispatcher.slow_partitions += 1;
                }
            }
        }
    }

    /// Takes an answer 0. Only the first sending of a batch shows how long followers take: when it is repeated, they have it
    /// already. A partition that was answered within the first channel's patience returns there; periodically so
    /// does one that was not, since other partitions in its requests may be the slow ones.
    pub(super) fn taken(&mut self, entry: Entry, asked_with: u8, in_time: bool) {
        let partition = &mut self.topics[entry.key];
        if entry.again || asked_with == 0 || partition.patience != asked_with {
            return;
        }
        partition.taken += 1;
        if asked_with > 1 || in_time || partition.taken >= TRIED_AFTER {
            partition.patience -= 1;
            partition.taken = 0;
            self.dispatcher.slow_partitions -= u64::from(asked_with == 1);
        }
    }

    /// Partitions on the second channel of their broker.
    #[must_use]
    pub const fn slow_partitions(&self) -> u64 {
        self.dispatcher.slow_partitions
    }
}
