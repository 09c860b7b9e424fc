//! Batches on the shard's client of the cluster. A leader answers the requests of a connection one after the other, so it has one request at a time, with the
//! batches of all logs that it leads: batches that become due meanwhile go with the next.

use std::collections::BTreeMap;

use super::owner::{Answer, Lost, Outcome, Replica};
use forebay_kafka::types::{ClientEvent, NodeId, ProduceBatch, ProduceRequest, TopicMetadata};
use forebay_runtime::seam::Monotonic;

/// The bit that marks the IDs of these requests.
pub const REQUEST: u64 = 1 << 63;

/// The time for which the broker may wait for followers before it answers.
const TIMEOUT_MS: i32 = 30_000;
/// The most bytes of batches in a request, unless it has only one.
const REQUEST_BYTES_MAX: usize = 8 << 20;

/// A request in flight.
#[derive(Debug)]
struct Sent {
    node: NodeId,
    /// Partition, and the number of its batch.
    batches: Vec<(i32, u64)>,
}

/// The answer to a batch: its partition, its number, and its outcome.
pub type Answered = (i32, u64, Answer);

/// A request to a leader while it is gathered: its bytes, partitions with the numbers of their batches, the batches.
type OfNode = (usize, Vec<(i32, u64)>, Vec<ProduceBatch>);

/// The requests of the logs of one topic.
#[derive(Debug, Default)]
pub struct Wire {
    next: u64,
    under_way: BTreeMap<u64, Sent>,
    /// The last partition of the previous request: the next one begins after it.
    last: i32,
}

impl Wire {
    fn is_free(&self, node: NodeId) -> bool {
        self.under_way.values().all(|sent| sent.node != node)
    }

    /// The requests to send now, for logs in the order of their partitions.
    pub fn requests<'a>(
        &mut self,
        replicas: impl Iterator<Item = &'a mut Replica>,
        now: Monotonic,
    ) -> Vec<ProduceRequest> {
        let is_due =
            |replica: &&mut Replica| replica.due() <= now && replica.leader.is_some_and(|node| self.is_free(node));
        let mut due: Vec<&mut Replica> = replicas.filter(is_due).collect();
        let begin = due.partition_point(|replica| replica.partition <= self.last);
        due.rotate_left(begin);
        let mut by_node: BTreeMap<NodeId, OfNode> = BTreeMap::new();
        for replica in due {
            let Some(node) = replica.leader else { continue };
            let (bytes, sent, batches) = by_node.entry(node).or_default();
            if *bytes > REQUEST_BYTES_MAX {
                continue;
            }
            let Some(batch) = replica.next_batch(now) else { continue };
            *bytes += batch.bytes.len();
            sent.push((batch.partition, batch.id));
            self.last = batch.partition;
            let (topic, topic_id, partition, bytes) = (batch.topic, batch.topic_id, batch.partition, batch.bytes);
            batches.push(ProduceBatch { topic, topic_id, partition, bytes });
        }
        let mut requests = Vec::new();
        for (node, (_, sent, batches)) in by_node.into_iter().filter(|(_, (_, sent, _))| !sent.is_empty()) {
            let id = REQUEST | self.next;
            self.next += 1;
            self.under_way.insert(id, Sent { node, batches: sent });
            requests.push(ProduceRequest { id, node, slow: false, acks: -1, timeout_ms: TIMEOUT_MS, batches });
        }
        requests
    }

    /// The time of the next request. While no leader is known, the next metadata decides.
    pub fn due<'a>(&self, replicas: impl Iterator<Item = &'a Replica>) -> Monotonic {
        let ready = replicas.filter(|replica| replica.leader.is_some_and(|node| self.is_free(node)));
        ready.map(Replica::due).min().unwrap_or(Monotonic::NEVER)
    }

    /// Returns the answers to batches in the event. `None`: the event is not for these logs alone.
    pub fn answers(&mut self, event: &ClientEvent) -> Option<Vec<Answered>> {
        match event {
            ClientEvent::Produced { id, results, .. } if id & REQUEST != 0 => {
                let sent = self.under_way.remove(id).map(|sent| sent.batches).unwrap_or_default();
                let answer = |partition: i32| {
                    let result = results.iter().find(|result| result.partition == partition);
                    result.map_or(Answer::None, |result| Answer::Produced {
                        error: result.error,
                        base_offset: result.base_offset,
                    })
                };
                Some(sent.into_iter().map(|(partition, batch)| (partition, batch, answer(partition))).collect())
            }
            ClientEvent::ProduceFailed { id, .. } if id & REQUEST != 0 => {
                let sent = self.under_way.remove(id).map(|sent| sent.batches).unwrap_or_default();
                Some(sent.into_iter().map(|(partition, batch)| (partition, batch, Answer::None)).collect())
            }
            ClientEvent::HungUp { id } if id & REQUEST != 0 => Some(Vec::new()),
            _ => None,
        }
    }
}

impl Replica {
    /// Takes metadata: the leader of the partition, and whether the topic is the one that was taken over. A batch that waits is sent to a new leader at once.
    pub fn metadata(&mut self, topics: &[TopicMetadata]) -> Outcome {
        let Some(topic) = topics.iter().find(|topic| *topic.name == *self.topic && topic.error == 0) else {
            return Outcome::Nothing;
        };
        if topic.id != 0 && self.topic_id != 0 && topic.id != self.topic_id {
            return self.lose(Lost::OtherTopic);
        }
        let leader = usize::try_from(self.partition).ok().and_then(|index| topic.leaders.get(index).copied().flatten());
        if leader.is_some() && leader != self.leader {
            self.begins_again();
        }
        self.leader = leader;
        Outcome::Nothing
    }
}
