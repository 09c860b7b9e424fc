//! Retained messages on the disk: written when they are received, and reported to the shards of their publishers when they are durable.

use std::collections::BTreeSet;

use forebay_metrics::spec::ShardMetric as M;
use forebay_mqtt::route::topics::TopicKey;
use forebay_runtime::seam::Monotonic;

use super::super::Broker;
use super::super::confirm::Confirmations;
use super::super::stored::with_time_left;
use super::{Retained, Value, saved};
use crate::here::Here;
use crate::mail::{Letter, ToBroker};

/// The group of messages that have found no room yet.
const LATER: u64 = u64::MAX;

/// Messages that have found no room in the log.
#[derive(Debug, Default)]
pub(super) struct Unwritten {
    /// The topics of these messages.
    later: BTreeSet<TopicKey>,
    /// Whether publishers wait for [`LATER`].
    is_awaited: bool,
    /// The newest group in which one of these messages was written since, or has ended.
    group: u64,
    /// [`forebay_buffer::Buffer::freed`] when these messages were last tried.
    tried: u64,
}

impl Unwritten {
    /// Removes a topic with a message that is in the log, or has ended there, with this group.
    fn over(&mut self, topic: &TopicKey, group: u64) {
        if self.later.remove(topic) {
            self.group = self.group.max(group);
        }
    }

    /// The group with which every message is durable that publishers wait for, once none of them is left to be written.
    fn all_over(&mut self) -> Option<u64> {
        let is_over = self.is_awaited && self.later.is_empty();
        is_over.then(|| {
            self.is_awaited = false;
            std::mem::take(&mut self.group)
        })
    }
}

impl Retained {
    fn confirmations(broker: &mut Broker) -> &mut Confirmations {
        &mut broker.retained.confirmations
    }
}

impl Broker {
    /// Writes down the message of a topic. Returns its group; 0: there is no log.
    pub(super) fn write_retained(&mut self, topic: &TopicKey) -> u64 {
        let (Some(buffer), Some(value)) = (self.logs.kept.first_mut(), self.retained.topics.get_mut(topic)) else {
            return 0;
        };
        if value.is_own || self.retained.is_in_kafka {
            return 0;
        }
        let unwritten = &mut self.retained.unwritten;
        let mut payload = Vec::with_capacity(saved::HEAD_BYTES + value.publisher.bytes().len() + value.packet.len());
        let deadline = value.until.map(|until| buffer.deadline(until));
        saved::encode(deadline, &value.publisher, &value.packet, &mut payload);
        match buffer.keep_session(value.number, &payload) {
            Ok(kept) => {
                value.number = Some(kept.number);
                unwritten.over(topic, kept.group);
                kept.group
            }
            Err(_full) => {
                unwritten.later.insert(topic.clone());
                unwritten.is_awaited = true;
                LATER
            }
        }
    }

    /// Ends the message of a topic in the log. Returns the group of that record.
    pub(super) fn forget_retained(&mut self, topic: &TopicKey, number: Option<u64>) -> u64 {
        let group = number.and_then(|number| self.logs.kept.end(number)).unwrap_or(0);
        self.retained.unwritten.over(topic, group);
        group
    }

    /// Reports durable messages and tries again to write messages that found no room, once a turn.
    pub fn confirm_retained(&mut self, here: &Here) {
        let kept = &self.logs.kept;
        if !kept.is_there() {
            return;
        }
        let unwritten = &mut self.retained.unwritten;
        if !unwritten.later.is_empty() {
            let freed = kept.freed();
            if std::mem::replace(&mut unwritten.tried, freed) != freed {
                self.write_later();
            }
        }
        // A message that was replaced or has ended meanwhile waits for nothing else.
        if let Some(group) = self.retained.unwritten.all_over() {
            self.retained.confirmations.move_to(LATER, group);
        }
        let letter = |by, count| Letter::Broker(ToBroker::RetainedWritten { by, count });
        self.tell_durable(here, Retained::confirmations, Self::retained_written, letter);
    }

    fn write_later(&mut self) {
        let later: Vec<TopicKey> = self.retained.unwritten.later.iter().cloned().collect();
        for topic in later {
            self.write_retained(&topic);
        }
    }

    /// Notes that `count` messages of this shard's publishers are on the disk of their home.
    pub(crate) fn retained_written(&mut self, here: &Here, home: usize, count: u64) {
        self.confirm(here, home, count, Retained::confirmations);
    }

    /// Takes up a retained message of the previous process.
    pub(crate) fn restore_retained(&mut self, here: &mut Here, number: u64, payload: &[u8], now: Monotonic) {
        let (Some(buffer), Some(found)) = (self.logs.kept.of_mut(number), saved::decode(payload)) else {
            return;
        };
        if self.retained.is_in_kafka {
            // The message was retained before there was a `[broker]`.
            buffer.end_session(number);
            return;
        }
        let (deadline, publisher, publish) = found;
        let topic = TopicKey::new(publish.topic);
        let until = deadline.map(|(wall_ms, left_ms)| buffer.until(wall_ms, left_ms));
        if until.is_some_and(|until| until <= now) {
            buffer.end_session(number);
            return;
        }
        let mut value = with_time_left(&publish, until, now, |publish, since| Value::new(publish, publisher, since));
        // The message's own interval may be longer than what was allowed.
        (value.number, value.until) = (Some(number), until);
        // The later of two messages of one topic counts.
        if let Some(earlier) = self.retained.take(&topic).and_then(|value| value.number) {
            buffer.end_session(earlier);
        }
        self.retained.insert(topic, value);
        here.numbers.set(M::RetainedMessages, self.retained.topics.len() as u64);
    }
}
