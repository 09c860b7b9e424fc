//! What the wire client learns for the producer: topics and their leaders, producer ids, whether Kafka is there.

use super::batch::Batch;
use super::error::{FORBIDDEN, INVALID_TOPIC, UNKNOWN_TOPIC};
use super::news::{News, UNKNOWN_AFTER};
use super::partition::Partition;
use super::timers::Timer;
use super::window::Identity;
use super::{Key, Producer};
use crate::kafka::types::{NodeId, TopicMetadata};
use crate::runtime::seam::Monotonic;

impl Producer {
    /// Fresh metadata. Topics of which the producer knows nothing are ignored.
    pub fn on_metadata(&mut self, topics: &[TopicMetadata], now: Monotonic) {
        for metadata in topics {
            for sink in 0..self.sinks.len() {
                if let Some(index) = self.sinks[sink].topics.get(&*metadata.name).copied() {
                    self.topic_metadata(index, metadata, now);
                }
            }
        }
    }

    fn topic_metadata(&mut self, index: u32, metadata: &TopicMetadata, now: Monotonic) {
        match metadata.error {
            0 if !metadata.leaders.is_empty() => self.topic_known(index, metadata, now),
            code @ (FORBIDDEN | INVALID_TOPIC) => self.topic_refused(index, code, now),
            code => {
                self.leaders(index, &[], &[], now);
                if code == UNKNOWN_TOPIC && self.is_unknown_for_long(index, now) {
                    self.topic_refused(index, code, now);
                }
            }
        }
        let topic = &mut self.topics[index as usize];
        topic.asked_until = None;
        if topic.wants_metadata() {
            // Not there, or not all of it: asked again, but not at once.
            topic.attempts = (topic.attempts + 1).min(16);
            let wait = self.settings.backoff_min.saturating_mul(1 << topic.attempts).min(self.settings.backoff_max);
            let until = now.after(wait.mul_f64(0.8 + 0.4 * self.rng.f64()));
            topic.asked_until = Some(until);
            let (attempts, code) = (topic.attempts, metadata.error);
            self.timers.set(until, Timer::Topic(index));
            if attempts == UNKNOWN_AFTER && !matches!(code, FORBIDDEN | INVALID_TOPIC) {
                self.tell(index, |sink, topic| News::Unknown { sink, topic, code });
            }
        } else if std::mem::take(&mut topic.attempts) >= UNKNOWN_AFTER {
            self.tell(index, |sink, topic| News::Known { sink, topic });
        }
    }

    /// Kafka has no such topic: whether that has been so for as long as the sink waits.
    fn is_unknown_for_long(&mut self, index: u32, now: Monotonic) -> bool {
        let topic = &mut self.topics[index as usize];
        let since = *topic.unknown_since.get_or_insert(now);
        let timeout = self.sinks[topic.sink].settings.unknown_topic_timeout;
        topic.count == 0 && timeout.is_some_and(|timeout| since.after(timeout) <= now)
    }

    fn topic_known(&mut self, index: u32, metadata: &TopicMetadata, now: Monotonic) {
        self.topics[index as usize].unknown_since = None;
        let leaders = &*metadata.leaders;
        if !self.topic_id(index, metadata.id, leaders.len(), now) {
            return;
        }
        self.leaders(index, leaders, &metadata.leader_epochs, now);
        let topic = &mut self.topics[index as usize];
        for (partition, replicas) in topic.partitions.iter_mut().zip(&metadata.replicas) {
            partition.replicas.clone_from(replicas);
        }
        if topic.count == 0 {
            topic.count = leaders.len();
        } else {
            let to = leaders.len();
            let before = std::mem::replace(&mut topic.growth, (to != topic.count).then_some(to));
            let from = topic.count;
            if to > from && topic.growth != before {
                self.tell(index, |sink, topic| News::Grown { sink, topic, from, to });
            }
        }
        self.may_place(index);
    }

    /// Notes the leaders; partitions beyond the list have none. `epochs`: theirs, where they are told.
    fn leaders(&mut self, index: u32, leaders: &[Option<NodeId>], epochs: &[i32], now: Monotonic) {
        let topic = &mut self.topics[index as usize];
        // With acks=1 a new leader may never have heard of us, and would take any of our batches first (P2).
        let some = self.sinks[topic.sink].settings.acks != -1;
        if topic.partitions.len() < leaders.len() {
            topic.partitions.resize_with(leaders.len(), Partition::default);
        }
        for number in 0..topic.partitions.len() {
            let leader = leaders.get(number).copied().flatten();
            let key = Key { topic: index, partition: number as u32 };
            let partition = self.partition_mut(key);
            if leader.is_some() {
                partition.leader_epoch = epochs.get(number).copied().filter(|epoch| *epoch >= 0);
            }
            if partition.leader != leader {
                let old = std::mem::replace(&mut partition.leader, leader);
                let was_slow = std::mem::take(&mut partition.patience) > 0;
                if some {
                    partition.window.forget_proof();
                }
                self.slow_partitions -= u64::from(was_slow);
                let partition = self.partition_mut(key);
                if partition.work.is_some() {
                    // What was wrong with the old leader need not be with this one; nor does it wait its turn there.
                    partition.window.end_pause();
                    self.make_ready(key);
                    if let Some(old) = old {
                        self.wake_node(old);
                    }
                }
                self.ask_for_end(key, 0, now);
            }
        }
    }

    /// Kafka takes nothing for this topic: rows that no partition has yet are refused. Rows in partitions hear it from
    /// their leader.
    fn topic_refused(&mut self, index: u32, code: i16, now: Monotonic) {
        self.refuse_topic(index, code, now);
        self.refuse_unplaced(index);
    }

    /// Refuses rows without a partition that are in memory, if their topic takes none. What is not in the log yet goes there
    /// first: its answer says so, and its dead letter must outlive a crash. It hears it from the next metadata.
    pub(super) fn refuse_unplaced(&mut self, index: u32) {
        let Some(code) = self.topics[index as usize].refuses() else { return };
        let is_staged = |batch: &mut Batch| batch.in_log.is_staged(batch.count);
        while let Some(batch) = self.topics[index as usize].unplaced.pop_front_if(is_staged) {
            self.end_refused(index, None, batch, code);
        }
    }

    /// New rows are refused at the door for a while; then one may try again.
    pub(super) fn refuse_topic(&mut self, index: u32, code: i16, now: Monotonic) {
        let topic = &mut self.topics[index as usize];
        let before = topic.refused.replace(code);
        topic.refused_until = now.after(self.settings.forbidden_for);
        self.wait_for_refusal(index, now);
        if before.is_none() {
            self.tell(index, |sink, topic| News::Refused { sink, topic, code });
        }
    }

    /// A producer id that was asked for. Partitions that already work under an older one go on with it.
    pub fn on_producer_id(&mut self, token: u64, id: i64, epoch: i16) {
        let Some(index) = usize::try_from(token).ok().filter(|index| *index < self.sinks.len()) else { return };
        let sink = &mut self.sinks[index];
        if sink.identity.is_some() || id < 0 {
            return;
        }
        sink.identity = Some(Identity { id, epoch });
        sink.asked_until = None;
        self.wake(|topic| topic.sink == index);
    }

    /// Kafka became reachable or unreachable. While it is not, nothing is cut and no request is made: batches grow.
    pub fn on_reachable(&mut self, reachable: bool) {
        self.reachable = reachable;
        if reachable {
            for partition in self.topics.iter_mut().flat_map(|topic| &mut topic.partitions) {
                partition.window.end_pause();
            }
            self.wake(|_| true);
        }
    }

    /// Puts all busy partitions of some topics on the list for the next poll.
    fn wake(&mut self, which: impl Fn(&super::topic::Topic) -> bool) {
        for index in 0..self.topics.len() {
            if which(&self.topics[index]) {
                for partition in 0..self.topics[index].partitions.len() {
                    self.make_ready(Key { topic: index as u32, partition: partition as u32 });
                }
            }
        }
    }
}
