//! The way of a replica's batches over the shard's client of the cluster.

use super::owner::{Answer, Lost, Outcome, Replica};
use crate::kafka::types::{ClientEvent, ProduceBatch, ProduceRequest, TopicMetadata};
use crate::runtime::seam::Monotonic;

/// The bit that the ids of a replica's requests have.
pub const REQUEST: u64 = 1 << 63;

/// How long the broker may wait for followers before it answers.
const TIMEOUT_MS: i32 = 30_000;

impl Replica {
    /// The request to be sent now. `None`: there is none, or the partition has no leader that is known.
    pub fn request(&mut self, now: Monotonic) -> Option<ProduceRequest> {
        let node = self.leader?;
        let batch = self.next_batch(now)?;
        let id = REQUEST | u64::from(self.partition.unsigned_abs()) << 40 | (batch.id & ((1 << 40) - 1));
        let (topic, topic_id, partition, bytes) = (batch.topic, batch.topic_id, batch.partition, batch.bytes);
        let batches = vec![ProduceBatch { topic, topic_id, partition, bytes }];
        Some(ProduceRequest { id, node, slow: false, acks: -1, timeout_ms: TIMEOUT_MS, batches })
    }

    /// Takes an event of the client. `None`: it is not for this replica alone (metadata is for others as well).
    pub fn on_event(&mut self, event: &ClientEvent, now: Monotonic) -> Option<Outcome> {
        match event {
            ClientEvent::Produced { id, results, .. } => {
                let answer = results.first().map_or(Answer::None, |result| Answer::Produced {
                    error: result.error,
                    base_offset: result.base_offset,
                });
                self.own(*id).map(|id| self.answered(id, answer, now))
            }
            ClientEvent::ProduceFailed { id, .. } => self.own(*id).map(|id| self.answered(id, Answer::None, now)),
            ClientEvent::HungUp { id } => self.own(*id).map(|_| Outcome::Nothing),
            ClientEvent::Metadata(topics) => {
                let of = topics.iter().find(|topic| *topic.name == *self.topic)?;
                self.metadata(of)
            }
            _ => None,
        }
    }

    /// The number of one of its batches.
    fn own(&self, id: u64) -> Option<u64> {
        let own = REQUEST | u64::from(self.partition.unsigned_abs()) << 40;
        (id >> 40 == own >> 40).then_some(id & ((1 << 40) - 1))
    }

    fn metadata(&mut self, topic: &TopicMetadata) -> Option<Outcome> {
        if topic.error != 0 {
            return None;
        }
        if topic.id != 0 && self.topic_id != 0 && topic.id != self.topic_id {
            return Some(self.lose(Lost::OtherTopic));
        }
        self.leader =
            usize::try_from(self.partition).ok().and_then(|index| topic.leaders.get(index).copied().flatten());
        None
    }
}
