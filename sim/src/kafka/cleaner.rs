//! Compacted topics, and requests of `[broker]` to Kafka before it serves: transactional ids, and partitions that a starting process reads and
//! writes.

use bytes::Bytes;

use super::front::{Appended, From, NOT_LEADER, UNKNOWN_TOPIC};
use super::{Cluster, Holds, State};
use crate::time::{MS, wall_ms};
use forebay_kafka::model::{Dirty, clean};

/// The result of a batch that a starting process has written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Written {
    /// Kafka has answered: error, and offset of the first record.
    Answer(i16, i64),
    /// The batch waits for followers.
    Waits(Awaited),
}

/// A batch of a starting process that waits for followers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Awaited {
    /// Offset of the first record.
    base: i64,
    /// Offset after the last record.
    end: i64,
    /// Epoch of the leader that has the batch.
    epoch: i32,
}

impl Cluster {
    /// Creates a topic of `[broker]`.
    pub(crate) fn create_for(&mut self, holds: Holds, name: &str, partitions: usize, time: u64) {
        self.create(name, partitions, time);
        if let Some(topic) = self.topics.get_mut(name) {
            topic.holds = holds;
            topic.partitions.iter_mut().for_each(|partition| partition.is_compacted = holds != Holds::Messages);
        }
    }

    /// The reading of a broker's clock.
    pub(crate) fn clock(&self, node: i32, time: u64) -> i64 {
        let ahead = usize::try_from(node - 1).ok().and_then(|node| self.clocks.get(node)).copied().unwrap_or(0);
        wall_ms(time) + ahead
    }

    /// Makes a broker forget producers of a partition by its clock. Returns the clock's time, which is the time of the
    /// batch being written.
    pub(super) fn forget_by_clock(&mut self, name: &str, index: i32, from: From) -> i64 {
        let now = self.clock(from.node, from.time);
        let partition = self.topics.get_mut(name).and_then(|topic| topic.partitions.get_mut(index as usize));
        if let Some(partition) = partition {
            partition.producers.forget(now);
        }
        now
    }

    /// Compacts a partition, up to an offset that all replicas have.
    pub(crate) fn compact(&mut self, name: &str, index: usize, before: i64, time: u64) {
        let Some(partition) = self.partition(name, index) else { return };
        let (before, places) = (before.min(partition.high), partition.entries.clone());
        let now = partition.leader.map_or(wall_ms(time), |leader| self.clock(leader, time));
        let log: Vec<Dirty<'_>> = places
            .iter()
            .map(|place| Dirty { bytes: &self.entries[*place].bytes, cleaned_ms: self.entries[*place].cleaned_ms })
            .collect();
        let cleaned = clean(&log, before, now);
        for (place, new) in places.into_iter().zip(cleaned) {
            let entry = &mut self.entries[place];
            if entry.end() <= before {
                entry.cleaned_ms.get_or_insert(now);
            }
            if let Some(bytes) = new {
                entry.state = if bytes.is_empty() { State::Compacted } else { entry.state };
                entry.bytes = Bytes::from(bytes);
            }
        }
        let entries = &self.entries;
        if let Some(partition) = self.topics.get_mut(name).and_then(|topic| topic.partitions.get_mut(index)) {
            partition.entries.retain(|place| entries[*place].state != State::Compacted);
        }
    }

    /// Cuts the log of a partition in an unclean election. Returns whether acknowledged records are lost.
    pub(crate) fn cut_log(&mut self, name: &str, index: usize, batches: usize) -> bool {
        let Some(partition) = self.topics.get_mut(name).and_then(|topic| topic.partitions.get_mut(index)) else {
            return false;
        };
        let high = partition.high;
        let lost = partition.cut(batches, &self.entries);
        let was_there = lost.iter().any(|place| self.entries[*place].base_offset < high);
        lost.into_iter().for_each(|place| self.entries[place].state = State::Lost);
        was_there
    }

    /// Whether any broker answers.
    fn is_there(&self) -> bool {
        (1..=self.brokers.len() as i32).any(|node| self.works(node))
    }

    /// Handles InitProducerId with a transactional id.
    pub(crate) fn identify(&mut self, id: &str) -> Option<(i64, i16)> {
        self.is_there().then(|| self.identities.identify(id, &mut self.next_producer))
    }

    /// Appends a batch of a process that is starting, or was killed meanwhile, with acks=all.
    pub(crate) fn write_to(
        &mut self,
        (name, index): (&str, usize),
        batch: Vec<u8>,
        (life, late, time): (u32, bool, u64),
    ) -> Written {
        let leader = self.partition(name, index).and_then(|of| Some((of.leader?, of.leader_epoch)));
        let Some((node, epoch)) = leader.filter(|(node, _)| self.works(*node)) else {
            return Written::Answer(NOT_LEADER, -1);
        };
        let from = From { node, time, since: time, life, late };
        let appended = self.append(name, index as i32, &Bytes::from(batch), (-1, from));
        self.replicate_later(time);
        match appended {
            Appended::Answer(code, base) => Written::Answer(code, base),
            Appended::Wait(base, end) => Written::Waits(Awaited { base, end, epoch }),
        }
    }

    /// The answer for a batch that waits for followers, if there is one by now: error, and offset of the first record.
    pub(crate) fn answer_to(&self, (name, index): (&str, usize), awaited: Awaited) -> Option<(i16, i64)> {
        let of = self.partition(name, index).filter(|of| of.leader.is_some() && of.leader_epoch == awaited.epoch);
        match of {
            // The leader that had the batch is none any more: it answers so, or its connection has ended.
            None => Some((NOT_LEADER, -1)),
            Some(of) => (of.high >= awaited.end).then_some((0, awaited.base)),
        }
    }

    /// Reads a partition for a starting process: a few batches from an offset on, and the offset after the last one.
    ///
    /// # Errors
    /// Kafka's error code.
    pub(crate) fn read_from(
        &self,
        (name, index): (&str, usize),
        offset: i64,
        most: usize,
    ) -> Result<(Vec<u8>, i64), i16> {
        let topic = self.topics.get(name).ok_or(UNKNOWN_TOPIC)?;
        let partition = topic.partitions.get(index).ok_or(UNKNOWN_TOPIC)?;
        if topic.reading_forbidden || partition.leader.is_none_or(|leader| !self.works(leader)) {
            return Err(NOT_LEADER);
        }
        let from = partition.entries.partition_point(|place| self.entries[*place].end() <= offset);
        let visible = partition.entries[from..].iter().map(|place| &self.entries[*place]);
        let visible = visible.take_while(|entry| entry.end() <= partition.high).take(most);
        Ok((visible.flat_map(|entry| entry.bytes.iter().copied()).collect(), partition.high))
    }

    /// Sets the brokers' clocks wrong, at most by this.
    pub(crate) fn set_clocks(&mut self, most: u64) {
        let count = self.brokers.len();
        let most = (most / MS) as i64;
        self.clocks = (0..count).map(|_| self.rng.i64(-most..=most)).collect();
    }
}
