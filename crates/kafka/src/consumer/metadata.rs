//! Topics in metadata: leaders and their epochs; topics that grow, disappear, and are recreated.

use std::collections::BTreeMap;
use std::rc::Rc;

use super::Consumer;
use super::news::{News, WhyReset, WhyStopped};
use super::partition::{Leader, Partition, Phase};
use crate::types::TopicMetadata;
use forebay_runtime::seam::Monotonic;

/// The most previous ids of a topic that are remembered, because older metadata may still name them.
const FORMER_MAX: usize = 8;

/// UNKNOWN_TOPIC_OR_PARTITION.
const UNKNOWN: i16 = 3;
/// UNKNOWN_TOPIC_ID.
const UNKNOWN_ID: i16 = 100;
/// TOPIC_AUTHORIZATION_FAILED.
pub(super) const FORBIDDEN: i16 = 29;

/// A topic with assigned partitions.
#[derive(Debug, Default)]
pub(super) struct Topic {
    /// The topic's id; 0: not known.
    pub(super) id: u128,
    /// The topic's previous ids.
    former: Vec<u128>,
    /// The ids of the assignments, by partition index.
    pub(super) ids: BTreeMap<i32, u32>,
    leaders: Vec<Leader>,
    /// The time since which the topic is missing, though it existed before.
    missing_since: Option<Monotonic>,
}

impl Topic {
    /// Whether no metadata of the topic has arrived yet.
    pub(super) fn is_new(&self) -> bool {
        self.leaders.is_empty()
    }

    /// Whether the topic existed, and Kafka does not know it now.
    pub(super) fn is_missing(&self) -> bool {
        self.missing_since.is_some()
    }

    /// The leader of a partition.
    pub(super) fn leader(&self, partition: i32) -> Leader {
        usize::try_from(partition).ok().and_then(|index| self.leaders.get(index)).copied().unwrap_or(Leader::NONE)
    }

    /// Takes the leaders from metadata, except those of older epochs.
    fn follow(&mut self, told: &TopicMetadata) {
        for (index, node) in told.leaders.iter().enumerate() {
            let epoch = told.leader_epochs.get(index).copied().unwrap_or(-1);
            match self.leaders.get_mut(index) {
                Some(known) if epoch >= 0 && epoch < known.epoch => {}
                Some(known) => *known = Leader { node: *node, epoch: known.epoch.max(epoch) },
                None => self.leaders.push(Leader { node: *node, epoch }),
            }
        }
    }
}

impl Consumer {
    /// Takes the cluster ID. The offsets of another cluster have no meaning here.
    pub fn on_cluster(&mut self, id: &str) {
        let before = std::mem::replace(&mut self.cluster, Rc::from(id));
        if !before.is_empty() && *before != *id {
            self.fetchings.clear();
            self.questions.clear();
            for topic in self.topics.values_mut() {
                *topic = Topic { ids: std::mem::take(&mut topic.ids), ..Topic::default() };
            }
            for partition in self.partitions.values_mut() {
                partition.leader = Leader::NONE;
                partition.recreate();
            }
            self.wake();
        }
    }

    /// Takes fresh metadata; topics of other consumers are skipped.
    pub fn on_metadata(&mut self, topics: &[TopicMetadata], now: Monotonic) {
        for told in topics {
            if !self.topics.contains_key(&told.name) {
                continue;
            }
            match told.error {
                0 => self.topic_is_there(told),
                UNKNOWN | UNKNOWN_ID => self.topic_is_missing(told, now),
                FORBIDDEN => {
                    let ids = self.topics.get(&told.name).map(|topic| topic.ids.values().copied().collect::<Vec<_>>());
                    ids.into_iter().flatten().for_each(|id| self.trouble(id, FORBIDDEN));
                }
                // The client asks again.
                _ => {}
            }
        }
        self.wake();
    }

    fn topic_is_there(&mut self, told: &TopicMetadata) {
        let Some(topic) = self.topics.get_mut(&told.name) else { return };
        if topic.former.contains(&told.id) {
            return;
        }
        topic.missing_since = None;
        let is_recreated = topic.id != 0 && told.id != 0 && topic.id != told.id;
        let before = topic.leaders.len();
        if is_recreated {
            topic.former.push(topic.id);
            if topic.former.len() > FORMER_MAX {
                topic.former.remove(0);
            }
            topic.leaders.clear();
        }
        topic.id = if told.id == 0 { topic.id } else { told.id };
        topic.follow(told);
        let count = topic.leaders.len();
        if count != before {
            self.board.tell(News::Partitions { topic: Rc::clone(&told.name), count });
        }
        let mut beyond = Vec::new();
        for (index, id) in &topic.ids {
            let Some(partition) = self.partitions.get_mut(id) else { continue };
            let leader = topic.leader(*index);
            if is_recreated {
                partition.recreate();
            } else if partition.phase == Phase::Stopped(WhyStopped::Deleted) {
                // The topic is the same as before.
                let position = partition.position;
                partition.go(position, Phase::Read);
            }
            partition.follow(leader);
            if usize::try_from(*index).is_ok_and(|index| index >= count) {
                beyond.push(*id);
            }
        }
        // These partitions arrive with a topic that grows.
        beyond.into_iter().for_each(|id| self.trouble(id, UNKNOWN));
    }

    fn topic_is_missing(&mut self, told: &TopicMetadata, now: Monotonic) {
        let Some(topic) = self.topics.get_mut(&told.name) else { return };
        // A topic that never existed is waited for.
        if topic.is_new() {
            return;
        }
        let since = *topic.missing_since.get_or_insert(now);
        if now.since(since) < self.settings.deleted_after {
            return;
        }
        for id in topic.ids.values() {
            if let Some(partition) = self.partitions.get_mut(id)
                && !matches!(partition.phase, Phase::Stopped(_))
            {
                let position = partition.position;
                partition.go(position, Phase::Stopped(WhyStopped::Deleted));
                // The first answer after the topic is back reports that.
                partition.faults.told = Some(UNKNOWN);
                self.board.tell(News::Stopped { id: *id, why: WhyStopped::Deleted });
            }
        }
    }
}

impl Partition {
    /// Begins with another log of the same name.
    fn recreate(&mut self) {
        // A partition that has not begun yet still begins at its place.
        if !matches!(self.phase, Phase::Find(_, None)) {
            self.reset(WhyReset::Recreated);
        }
        self.faults = super::partition::Faults { told: self.faults.told, ..Default::default() };
    }

    /// Follows another leader, which has to confirm that its log has the records that were read.
    fn follow(&mut self, leader: Leader) {
        let is_other = self.leader != leader;
        if is_other {
            // The wait was for the previous leader.
            self.retry_at = Monotonic(0);
        }
        if is_other && leader.epoch > self.leader.epoch && self.phase == Phase::Read && self.position.leader_epoch >= 0
        {
            self.phase = Phase::Validate;
        }
        self.leader = leader;
    }
}
