//! All topics of a producer, by index. The index of a forgotten topic is the next new one's.

use std::ops::{Index, IndexMut, Range};

use super::Key;
use super::partition::Partition;
use super::topic::Topic;
use forebay_runtime::seam::Monotonic;

/// All topics of a producer, by index.
#[derive(Debug, Default)]
pub(super) struct Topics {
    all: Vec<Topic>,
    /// Free indices.
    pub(super) vacant: Vec<u32>,
    /// Number of partitions of all topics, as reported by brokers.
    pub(super) partitions: usize,
    /// Time of the last search for idle topics.
    pub(super) looked_for_idle: Monotonic,
}

impl Topics {
    /// The number of known topics.
    pub(super) const fn known(&self) -> usize {
        self.all.len() - self.vacant.len()
    }

    /// All indices, free ones included.
    pub(super) const fn places(&self) -> Range<u32> {
        0..self.all.len() as u32
    }

    /// The partitions of a topic.
    pub(super) fn keys(&self, topic: u32) -> impl Iterator<Item = Key> + use<> {
        (0..self[topic].partitions.len() as u32).map(move |partition| Key { topic, partition })
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Topic> {
        self.all.iter()
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Topic> {
        self.all.iter_mut()
    }

    pub(super) fn get(&self, index: u32) -> Option<&Topic> {
        self.all.get(index as usize)
    }

    pub(super) fn get_mut(&mut self, index: u32) -> Option<&mut Topic> {
        self.all.get_mut(index as usize)
    }

    /// Adds a topic, and returns its index.
    pub(super) fn add(&mut self, mut topic: Topic) -> u32 {
        let Some(index) = self.vacant.pop() else {
            self.all.push(topic);
            return self.all.len() as u32 - 1;
        };
        let place = &mut self[index];
        // The number of partitions stays: an old timer may name any of them.
        topic.partitions = std::mem::take(&mut place.partitions);
        *place = topic;
        index
    }
}

impl Index<u32> for Topics {
    type Output = Topic;

    fn index(&self, index: u32) -> &Topic {
        &self.all[index as usize]
    }
}

impl IndexMut<u32> for Topics {
    fn index_mut(&mut self, index: u32) -> &mut Topic {
        &mut self.all[index as usize]
    }
}

impl Index<Key> for Topics {
    type Output = Partition;

    fn index(&self, key: Key) -> &Partition {
        &self[key.topic].partitions[key.partition as usize]
    }
}

impl IndexMut<Key> for Topics {
    fn index_mut(&mut self, key: Key) -> &mut Partition {
        &mut self[key.topic].partitions[key.partition as usize]
    }
}
