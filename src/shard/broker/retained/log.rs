//! Retained messages on the disk: written when they come, and told to the shards of their publishers when they are durable.

use std::collections::BTreeSet;

use crate::metrics::spec::ShardMetric as M;
use crate::route::topics::TopicKey;
use crate::runtime::seam::Monotonic;

use super::super::Broker;
use super::super::confirm::Confirmations;
use super::super::mail::Mail;
use super::super::stored::with_time_left;
use super::{Retained, Value, saved};

/// The group of what has found no room yet.
const LATER: u64 = u64::MAX;

/// What has found no room in the log.
#[derive(Debug, Default)]
pub(super) struct Unwritten {
    /// Its topics.
    later: BTreeSet<TopicKey>,
    /// Publishers wait for [`LATER`].
    is_awaited: bool,
    /// The newest group in which something of it is written since, or has ended.
    group: u64,
    /// [`crate::buffer::Buffer::freed`] when those were last tried.
    tried: u64,
}

impl Unwritten {
    /// What a topic has is in the log, or has ended there, with this group.
    fn over(&mut self, topic: &TopicKey, group: u64) {
        if self.later.remove(topic) {
            self.group = self.group.max(group);
        }
    }

    /// The group with which all is durable that publishers wait for, once none of it has to be written any more.
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
    /// Writes down the message of a topic. The group that it stands in; 0: there is no log.
    pub(super) fn write_retained(&mut self, topic: &TopicKey) -> u64 {
        let (Some(buffer), Some(value)) = (&mut self.outlets.buffer, self.retained.topics.get_mut(topic)) else {
            return 0;
        };
        if value.is_own {
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

    /// The message of a topic has ended. The group that says so.
    pub(super) fn forget_retained(&mut self, topic: &TopicKey, number: Option<u64>) -> u64 {
        let group = match (&mut self.outlets.buffer, number) {
            (Some(buffer), Some(number)) => buffer.end_session(number),
            _ => 0,
        };
        self.retained.unwritten.over(topic, group);
        group
    }

    /// Once a turn: who waited for the disk is told, and what found no room is tried again.
    pub(in crate::shard) fn confirm_retained(&mut self) {
        let Some(buffer) = &self.outlets.buffer else { return };
        let freed = buffer.freed();
        let unwritten = &mut self.retained.unwritten;
        if !unwritten.later.is_empty() && std::mem::replace(&mut unwritten.tried, freed) != freed {
            self.write_later();
        }
        // What was replaced or has ended meanwhile waits for nothing else.
        if let Some(group) = self.retained.unwritten.all_over() {
            self.retained.confirmations.move_to(LATER, group);
        }
        let letter = |by, count| Mail::RetainedWritten { by, count };
        self.tell_durable(Retained::confirmations, Self::retained_written, letter);
    }

    fn write_later(&mut self) {
        let later: Vec<TopicKey> = self.retained.unwritten.later.iter().cloned().collect();
        for topic in later {
            self.write_retained(&topic);
        }
    }

    /// So many messages of this shard's publishers are on the disk of their home.
    pub(in crate::shard) fn retained_written(&mut self, home: usize, count: u64) {
        self.confirm(home, count, Retained::confirmations);
    }

    /// A retained message of an earlier start.
    pub(in crate::shard) fn restore_retained(&mut self, number: u64, payload: &[u8], now: Monotonic) {
        let (Some(buffer), Some(found)) = (&mut self.outlets.buffer, saved::decode(payload)) else { return };
        let (deadline, publisher, publish) = found;
        let topic = TopicKey::new(publish.topic);
        let until = deadline.map(|(wall_ms, left_ms)| buffer.until(wall_ms, left_ms));
        if until.is_some_and(|until| until <= now) {
            buffer.end_session(number);
            return;
        }
        let mut value = with_time_left(&publish, until, now, |publish, since| Value::new(publish, publisher, since));
        // Its own interval may be longer than what was allowed.
        (value.number, value.until) = (Some(number), until);
        // Of two of one topic the later counts.
        if let Some(earlier) = self.retained.take(&topic).and_then(|value| value.number) {
            buffer.end_session(earlier);
        }
        self.retained.insert(topic, value);
        self.numbers.set(M::RetainedMessages, self.retained.topics.len() as u64);
    }
}
