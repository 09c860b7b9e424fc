//! Results of the wire client for the producer: topics and their leaders, producer ids, whether Kafka is reachable.

use super::Producer;
use super::batch::Batch;
use super::error::{FORBIDDEN, INVALID_TOPIC, UNKNOWN_TOPIC};
use super::news::{News, UNKNOWN_AFTER};
use super::timers::Timer;
use super::window::Identity;
use crate::types::{INVALID_PARTITIONS, NodeId, TopicMetadata};
use forebay_base::limits::PARTITIONS_OF_CLUSTER_MAX;
use forebay_runtime::seam::Monotonic;

impl Producer {
    /// Takes fresh metadata. Topics unknown to the producer are ignored.
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
            code @ (FORBIDDEN | INVALID_TOPIC | INVALID_PARTITIONS) => self.topic_refused(index, code, now),
            code => {
                self.leaders(index, &[], &[], now);
                if code == UNKNOWN_TOPIC && self.is_unknown_for_long(index, now) {
                    self.topic_refused(index, code, now);
                }
            }
        }
        // A missing topic that is wanted no more stays missing.
        let is_there = metadata.error == 0 && !metadata.leaders.is_empty();
        let topic = &mut self.topics[index];
        topic.view.answered();
        if topic.wants_metadata() {
            // The topic is missing or incomplete: metadata is requested again, but not at once.
            let bounds = (self.settings.backoff_min, self.settings.backoff_max);
            let (until, attempts) = topic.view.retry_at(bounds, 0.8 + 0.4 * self.rng.f64(), now);
            let code = metadata.error;
            self.agenda.timers.set(until, Timer::Topic(index));
            if attempts == UNKNOWN_AFTER && !matches!(code, FORBIDDEN | INVALID_TOPIC | INVALID_PARTITIONS) {
                self.tell(index, |sink, topic| News::Unknown { sink, topic, code });
            }
        } else if is_there && topic.view.reset_attempts() >= UNKNOWN_AFTER {
            self.tell(index, |sink, topic| News::Known { sink, topic });
        }
    }

    /// Notes that Kafka has no such topic. Returns whether that has lasted for the sink's timeout.
    fn is_unknown_for_long(&mut self, index: u32, now: Monotonic) -> bool {
        let topic = &mut self.topics[index];
        let timeout = self.sinks[topic.sink].settings.unknown_topic_timeout;
        topic.view.is_unknown_for(timeout, now)
    }

    fn topic_known(&mut self, index: u32, metadata: &TopicMetadata, now: Monotonic) {
        let leaders = &*metadata.leaders;
        let more = leaders.len().saturating_sub(self.topics[index].partitions.len());
        if self.topics.partitions + more > PARTITIONS_OF_CLUSTER_MAX {
            return self.topic_refused(index, INVALID_PARTITIONS, now);
        }
        self.topics[index].view.found();
        if !self.topic_id(index, metadata.id, leaders.len(), now) {
            return;
        }
        self.leaders(index, leaders, &metadata.leader_epochs, now);
        let topic = &mut self.topics[index];
        for (partition, replicas) in topic.partitions.iter_mut().zip(&metadata.replicas) {
            partition.replicas.clone_from(replicas);
        }
        let to = leaders.len();
        if let Some(from) = topic.view.set_count(to) {
            self.tell(index, |sink, topic| News::Grown { sink, topic, from, to });
        }
        self.may_place(index);
    }

    /// Notes the leaders; partitions beyond the list have none. `epochs`: their epochs, where reported.
    pub(super) fn leaders(&mut self, index: u32, leaders: &[Option<NodeId>], epochs: &[i32], now: Monotonic) {
        let topic = &mut self.topics[index];
        // With acks=1 a new leader may not know the producer, and would take any of its batches first (P2).
        let some = self.sinks[topic.sink].settings.acks != -1;
        let more = leaders.len().saturating_sub(topic.partitions.len());
        topic.with_partitions(leaders.len());
        self.topics.partitions += more;
        for (number, key) in self.topics.keys(index).enumerate() {
            let leader = leaders.get(number).copied().flatten();
            let partition = &mut self.topics[key];
            if leader.is_some() {
                partition.leader_epoch = epochs.get(number).copied().filter(|epoch| *epoch >= 0);
            }
            if partition.leader != leader {
                let old = std::mem::replace(&mut partition.leader, leader);
                let was_slow = std::mem::take(&mut partition.patience) > 0;
                if some {
                    partition.window.forget_proof();
                }
                self.dispatcher.slow_partitions -= u64::from(was_slow);
                let partition = &mut self.topics[key];
                if partition.work.is_some() {
                    // A fault of the old leader need not affect this one; nor does the partition wait its turn there.
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

    /// Handles a topic for which Kafka takes nothing: its rows without a partition are refused. Rows in partitions get the error from
    /// their leader.
    fn topic_refused(&mut self, index: u32, code: i16, now: Monotonic) {
        self.refuse_topic(index, code, now);
        self.refuse_unplaced(index);
    }

    /// Refuses rows without a partition that are in memory, if their topic takes none. Rows that are not in the log yet go there
    /// first: they are acknowledged on that, and their dead letter must outlive a crash. The next metadata refuses them.
    pub(super) fn refuse_unplaced(&mut self, index: u32) {
        let Some(code) = self.topics[index].view.refuses() else { return };
        let is_staged = |batch: &mut Batch| batch.in_log.is_staged(batch.count);
        while let Some(batch) = self.topics[index].unplaced.queue.pop_front_if(is_staged) {
            self.end_refused(index, None, batch, code);
        }
    }

    /// Refuses a topic's new rows for a while; then one may try again.
    pub(super) fn refuse_topic(&mut self, index: u32, code: i16, now: Monotonic) {
        let topic = &mut self.topics[index];
        let is_new = topic.view.refuse(code, now.after(self.settings.forbidden_for));
        self.wait_for_refusal(index, now);
        if is_new {
            self.tell(index, |sink, topic| News::Refused { sink, topic, code });
        }
    }

    /// Takes a requested producer id. Partitions that already use an older one continue with it.
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

    /// Sets whether any connection to Kafka is established. While none is, nothing is cut and no request is made: batches grow, and
    /// their rows may make room.
    pub fn on_reachable(&mut self, reachable: bool) {
        self.cluster.reachable = reachable;
        if reachable {
            for partition in self.topics.iter_mut().flat_map(|topic| &mut topic.partitions) {
                partition.window.end_pause();
            }
            self.wake(|_| true);
        }
    }

    /// Puts all busy partitions of some topics on the list for the next poll.
    pub(super) fn wake(&mut self, which: impl Fn(&super::topic::Topic) -> bool) {
        for index in self.topics.places() {
            if which(&self.topics[index]) {
                self.topics.keys(index).for_each(|key| self.make_ready(key));
            }
        }
    }
}
