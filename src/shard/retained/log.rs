//! Retained messages on the disk: written when they come, and told to the shards of their publishers when they are durable.

use std::collections::{BTreeSet, VecDeque};

use crate::kafka::types::Ticket;
use crate::metrics::spec::ShardMetric as M;
use crate::mqtt::reason::ReasonCode;
use crate::route::topics::TopicKey;
use crate::runtime::seam::Monotonic;
use crate::session::SessionKey;

use super::super::Core;
use super::super::mail::Mail;
use super::{Retained, saved};

/// The group of what has found no room yet.
const LATER: u64 = u64::MAX;

/// Messages of one shard's publishers that stand in one group.
#[derive(Clone, Copy, Debug)]
struct Run {
    group: u64,
    from: usize,
    count: u64,
}

/// What is not on the disk yet.
#[derive(Debug)]
pub(super) struct Unwritten {
    /// In the order in which it came.
    runs: VecDeque<Run>,
    /// Topics whose messages have found no room in the log.
    later: BTreeSet<TopicKey>,
    /// [`crate::buffer::Buffer::freed`] when those were last tried.
    tried: u64,
    /// By shard: messages of its publishers that are durable, and that it has not been told of.
    written: Vec<u64>,
}

impl Unwritten {
    pub(super) fn new(shards: usize) -> Self {
        Self { runs: VecDeque::new(), later: BTreeSet::new(), tried: 0, written: vec![0; shards] }
    }

    /// One more of that shard stands in this group.
    pub(super) fn wait(&mut self, from: usize, group: u64) {
        match self.runs.back_mut() {
            Some(last) if (last.from, last.group) == (from, group) => last.count += 1,
            _ => self.runs.push_back(Run { group, from, count: 1 }),
        }
    }
}

impl Retained {
    /// So many messages of this shard's publishers are on the disk of their home, the oldest first. Whose answers waited.
    fn confirmed(&mut self, home: usize, count: u64) -> impl Iterator<Item = Ticket> + '_ {
        let unconfirmed = &mut self.unconfirmed[home];
        let count = usize::try_from(count).unwrap_or(usize::MAX).min(unconfirmed.len());
        unconfirmed.drain(..count).flatten()
    }
}

impl Core {
    /// Writes down the message of a topic. The group that it stands in; 0: there is no log.
    pub(super) fn write_retained(&mut self, topic: &TopicKey) -> u64 {
        let (Some(buffer), Some(value)) = (&mut self.outlets.buffer, self.retained.topics.get_mut(topic)) else {
            return 0;
        };
        self.retained.unwritten.later.remove(topic);
        let mut payload = Vec::with_capacity(saved::HEAD_BYTES + value.packet.len());
        saved::encode(value.until.map(|until| buffer.deadline(until)), &value.packet, &mut payload);
        match buffer.keep_session(value.number, &payload) {
            Ok(kept) => {
                value.number = Some(kept.number);
                kept.group
            }
            Err(_full) => {
                self.retained.unwritten.later.insert(topic.clone());
                LATER
            }
        }
    }

    /// The message of a topic has ended. The group that says so.
    pub(super) fn forget_retained(&mut self, topic: &TopicKey, number: Option<u64>) -> u64 {
        self.retained.unwritten.later.remove(topic);
        match (&mut self.outlets.buffer, number) {
            (Some(buffer), Some(number)) => buffer.end_session(number),
            _ => 0,
        }
    }

    /// Once a turn: who waited for the disk is told, and what found no room is tried again.
    pub(in crate::shard) fn confirm_retained(&mut self) {
        let Some(buffer) = &self.outlets.buffer else { return };
        let (durable, freed) = (buffer.durable(), buffer.freed());
        let unwritten = &mut self.retained.unwritten;
        if !unwritten.later.is_empty() && std::mem::replace(&mut unwritten.tried, freed) != freed {
            self.write_later();
        }
        let unwritten = &mut self.retained.unwritten;
        while let Some(run) = unwritten.runs.pop_front_if(|run| run.group <= durable) {
            unwritten.written[run.from] += run.count;
        }
        for from in 0..self.shards {
            let count = std::mem::take(&mut self.retained.unwritten.written[from]);
            if count == 0 {
            } else if from == self.index {
                self.retained_written(from, count);
            } else {
                self.retained.letters.push_back((from, Mail::RetainedWritten { by: self.index, count }));
            }
        }
    }

    fn write_later(&mut self) {
        let mut group = 0;
        for topic in std::mem::take(&mut self.retained.unwritten.later) {
            group = group.max(self.write_retained(&topic));
        }
        if self.retained.unwritten.later.is_empty() {
            let waiting = self.retained.unwritten.runs.iter_mut().filter(|run| run.group == LATER);
            waiting.for_each(|run| run.group = group);
        }
    }

    /// So many messages of this shard's publishers are on the disk of their home.
    pub(in crate::shard) fn retained_written(&mut self, home: usize, count: u64) {
        let (sessions, touched) = (&mut self.sessions, &mut self.touched);
        for ticket in self.retained.confirmed(home, count) {
            let key = SessionKey::from_bits(ticket.session);
            // A session that has ended is owed nothing.
            let Some(session) = sessions.get_mut(key) else { continue };
            session.complete(ticket.number, 1, ReasonCode::SUCCESS);
            if touched.last() != Some(&key) {
                touched.push(key);
            }
        }
        self.delivery.has_freed();
    }

    /// Retained messages of an earlier start.
    ///
    /// # Errors
    /// One that this program does not know, in words.
    pub(in crate::shard) fn restore_retained(
        &mut self,
        number: u64,
        payload: &[u8],
        now: Monotonic,
    ) -> Result<(), String> {
        let Some(buffer) = &mut self.outlets.buffer else { return Ok(()) };
        let Some((deadline, publish)) = saved::decode(payload) else {
            return Err(format!("retained message {number}: damaged, or of another program"));
        };
        let topic = TopicKey::new(publish.topic);
        let until = deadline.map(|(wall_ms, left_ms)| buffer.until(wall_ms, left_ms));
        if until.is_some_and(|until| until <= now) {
            buffer.end_session(number);
            return Ok(());
        }
        let mut value = saved::value(&publish, until, now);
        value.number = Some(number);
        // Of two of one topic the later counts.
        if let Some(earlier) = self.retained.take(&topic).and_then(|value| value.number) {
            buffer.end_session(earlier);
        }
        self.retained.insert(topic, value);
        self.numbers.set(M::RetainedMessages, self.retained.topics.len() as u64);
        Ok(())
    }
}
