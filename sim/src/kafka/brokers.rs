//! Faults of brokers, and the leaders of partitions that follow.

use super::{Broker, Cluster, Flaky, REMEMBERED, State, Task};
use crate::time::MS;

impl Cluster {
    /// Gives a partition another leader, if another replica is in sync.
    pub fn move_leader(&mut self, name: &str, index: usize, time: u64) {
        let Some(partition) = self.partition(name, index) else { return };
        let others: Vec<i32> = partition
            .in_sync
            .iter()
            .copied()
            .filter(|node| Some(*node) != partition.leader && self.works(*node))
            .collect();
        if let Some(new) = self.rng.choice(&others).copied() {
            self.lead(name, index, new, time);
        }
    }

    fn lead(&mut self, name: &str, index: usize, new: i32, time: u64) {
        let until = time + self.rng.u64(..500 * MS);
        let Some(topic) = self.topics.get_mut(name) else { return };
        let Some(partition) = topic.partitions.get_mut(index) else { return };
        for place in partition.lead(new, &self.entries, (until, &mut self.rng)) {
            self.entries[place].state = State::Lost;
        }
        self.replicate_later(time);
    }

    /// Freezes a broker.
    pub fn freeze(&mut self, node: i32, time: u64) {
        let broker = self.broker_mut(node);
        broker.frozen = true;
        self.given_up_later(node, time);
    }

    fn given_up_later(&mut self, node: i32, time: u64) {
        let changes = self.broker(node).changes;
        let shrink = time + self.rng.u64(1_000 * MS..4_000 * MS);
        let fence = time + self.rng.u64(2_000 * MS..9_000 * MS);
        self.later(shrink, Task::Shrink(node, changes));
        self.later(fence, Task::Fence(node, changes));
    }

    /// Ends a broker's process. `clean`: after it has given up its partitions.
    pub fn stop(&mut self, node: i32, clean: bool, time: u64) {
        let broker = self.broker_mut(node);
        broker.down = true;
        if clean {
            self.all_partitions().for_each(|partition| partition.drop_out(node));
            self.fence(node, time);
        } else {
            self.given_up_later(node, time);
        }
    }

    /// Lets a broker work again after it was frozen or down.
    pub fn recover(&mut self, node: i32, time: u64) {
        let was = self.broker(node);
        *self.broker_mut(node) = Broker { changes: was.changes + 1, ..Broker::default() };
        if was.down {
            let batches = self.rng.usize(1..=REMEMBERED);
            self.all_partitions().for_each(|partition| partition.restarted(node, batches));
            if let Some(consumers) = &mut self.consumers {
                consumers.fetching.forget(node);
                consumers.groups.reload();
            }
        }
        self.elect_where_none(time);
        self.replicate_later(time);
    }

    pub(super) fn fence(&mut self, node: i32, time: u64) {
        self.broker_mut(node).fenced = true;
        for (name, index) in self.led_by(|leader| leader == Some(node)) {
            let Some(partition) = self.topics.get_mut(&name).and_then(|topic| topic.partitions.get_mut(index)) else {
                continue;
            };
            partition.leaderless(time);
        }
        self.elect_where_none(time);
        self.all_partitions().for_each(|partition| partition.drop_out(node));
    }

    fn led_by(&self, which: impl Fn(Option<i32>) -> bool) -> Vec<(String, usize)> {
        let all = self.topics.iter().flat_map(|(name, topic)| {
            topic.partitions.iter().enumerate().map(move |(index, partition)| (name, index, partition.leader))
        });
        all.filter(|(_, _, leader)| which(*leader)).map(|(name, index, _)| (name.clone(), index)).collect()
    }

    fn elect_where_none(&mut self, time: u64) {
        for (name, index) in self.led_by(|leader| leader.is_none()) {
            let partition = &self.topics[&name].partitions[index];
            let first = partition.replicas.iter().copied().find(|n| partition.in_sync.contains(n) && self.works(*n));
            if let Some(first) = first {
                self.lead(&name, index, first, time);
            }
        }
    }

    /// Ends all lasting faults.
    pub fn is_well(&mut self, time: u64) {
        self.flaky = Flaky::default();
        for node in 1..=self.brokers.len() as i32 {
            if self.broker(node).down || self.broker(node).frozen || self.broker(node).fenced {
                self.recover(node, time);
            }
        }
        for topic in self.topics.values_mut() {
            (topic.writing_forbidden, topic.reading_forbidden, topic.timeless) = (false, self.unreadable, false);
            topic.batch_bytes_max = usize::MAX;
            topic.partitions.iter_mut().for_each(|partition| partition.slow = false);
        }
        self.elect_where_none(time);
        self.replicate_later(time);
    }
}
