//! Shares of the memory: the most that a topic with rows that do not leave may keep from the others.
//!
//! While memory is plentiful, shares do not matter. Otherwise a sink may hold that part of the free memory which is the free
//! part of the whole (`free² / whole`): with three quarters free, three quarters of that. A dead sink reaches 38 %
//! of the memory, and however many die one after the other, the n-th leaves about an (n + 1)-th. In the same way the
//! topics of a sink divide what it may still take, so a sink with thousands of dead topics counts as one for the
//! others. The partitions of a topic do so too, for rows with a key that determines the partition: otherwise one
//! partition with a frozen leader would take all that its topic may, and delay the publishers of the others. An empty
//! sink, topic or partition may always take a row that there is room for. Nothing is reserved, and no sink is marked as dead.
//! If rows leave memory for the disk, the tickets that they leave in memory, of publishers that wait for an acknowledgement,
//! are divided in the same way; they may take half of the sink's memory. A single sink with one fixed topic of one partition
//! has all of the memory.

use super::batch::Pushed;
use super::partition::{Partition, Work};
use super::pool::{BATCH_COST, BUFFER_MIN};
use super::topic::Topic;
use super::{Key, Producer, Sink};
use crate::types::SinkId;
use forebay_base::limits::part_of;
use forebay_record::murmur2;

/// A topic of a sink, by its index in the producer. The index may be another topic's once the topic has no rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct TopicId(pub(super) u32);

/// The limit that delays a row which may go to its topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Full {
    /// The memory of all sinks.
    Memory,
    /// The sink's share.
    Sink(SinkId),
    /// The topic's share.
    Topic(TopicId),
    /// The share of the topic's partition, by its index.
    Partition(TopicId, u32),
    /// The queue of a dead-letter file, which is not the producer's.
    Letters(u16),
    /// The spool, which is not the producer's.
    Spool,
    /// The sink's share of the spool.
    SpoolShare(SinkId),
}

impl Producer {
    /// Whether the shares of a sink and a topic have room for a row of up to `row_bytes`. `topic` is the result of
    /// [`Producer::check`]; asked beside [`Producer::has_room`].
    ///
    /// # Errors
    /// The limit that the row must wait for.
    pub fn share(&self, sink: SinkId, topic: Option<TopicId>, row_bytes: usize) -> Result<(), Full> {
        if self.is_plenty(row_bytes) {
            return Ok(());
        }
        if self.is_held_back(sink) {
            return Err(Full::Sink(sink));
        }
        if self.spills(sink) {
            return self.share_of_owed(sink, topic);
        }
        if self.memory.ceilings.undivided {
            return Ok(());
        }
        let need = row_bytes + BUFFER_MIN + BATCH_COST;
        let whole = self.memory.ceilings.append;
        let Some(state) = self.sinks.get(usize::from(sink.0)) else { return Ok(()) };
        let free = self.memory.free();
        let (held, part) = if self.memory.ceilings.several { (state.memory, part_of(free, whole)) } else { (0, free) };
        let rest = part.saturating_sub(held);
        // A fixed topic's share is its sink's.
        let topic = topic.filter(|_| !state.settings.fixed_topic);
        let of_topic = topic.and_then(|id| self.topics.get(id.0)).map_or(0, |topic| topic.memory);
        let within = match (held, of_topic) {
            (0, 0) => need <= free,
            (_, 0) => need <= rest,
            (..) => of_topic + need <= part_of(rest, if self.memory.ceilings.several { part } else { whole }),
        };
        if within {
            return Ok(());
        }
        match topic.filter(|_| of_topic > 0) {
            Some(topic) => Err(Full::Topic(topic)),
            None if held > 0 => Err(Full::Sink(sink)),
            None => Err(Full::Memory),
        }
    }

    /// Whether a sink with room takes nothing for now, so that its rows on disk can drain.
    #[must_use]
    pub fn is_held_back(&self, sink: SinkId) -> bool {
        self.sinks.get(usize::from(sink.0)).is_some_and(|sink| !sink.pacer.takes(sink.stats.appended))
    }

    /// Like [`Self::share`], for the tickets of rows that are on disk alone.
    fn share_of_owed(&self, sink: SinkId, topic: Option<TopicId>) -> Result<(), Full> {
        let Some(state) = self.sinks.get(usize::from(sink.0)) else { return Ok(()) };
        let topic = topic.filter(|_| !state.settings.fixed_topic);
        let of_topic = topic.and_then(|id| self.topics.get(id.0)).map_or(0, |topic| topic.owed);
        let (whole, rest) = state.part_of_owed();
        match topic {
            _ if state.owed == 0 => Ok(()),
            Some(topic) if of_topic > 0 && of_topic >= part_of(rest, whole) => Err(Full::Topic(topic)),
            _ if rest == 0 => Err(Full::Sink(sink)),
            _ => Ok(()),
        }
    }

    /// Whether so little memory is held that any row is within its shares, and no sink takes less than arrives.
    #[must_use]
    pub const fn is_plenty(&self, row_bytes: usize) -> bool {
        !self.paces
            && 8 * (self.memory.pool.used() + row_bytes + BUFFER_MIN + BATCH_COST) <= self.memory.ceilings.append
    }

    /// Whether the share of a row's partition, given by its hash ([`super::Target`]), has room for it; asked after
    /// [`Producer::share`] while memory is not plentiful.
    ///
    /// # Errors
    /// The partition.
    pub fn share_of_partition(&self, topic: Option<TopicId>, hash: Option<u32>, row_bytes: usize) -> Result<(), Full> {
        let (Some(id), Some(hash)) = (topic, hash) else { return Ok(()) };
        let Some(topic) = self.topics.get(id.0) else { return Ok(()) };
        if topic.view.count < 2 || !topic.is_open() {
            return Ok(());
        }
        let partition = murmur2::partition_of(hash, topic.view.count) as u32;
        if self.is_within(Key { topic: id.0, partition }, row_bytes) {
            return Ok(());
        }
        Err(Full::Partition(id, partition))
    }

    /// Whether a partition has room in its share of the memory that its topic may still take.
    fn is_within(&self, key: Key, row_bytes: usize) -> bool {
        let Some(topic) = self.topics.get(key.topic) else { return true };
        let partition = topic.partitions.get(key.partition as usize);
        if self.spills(SinkId::of(topic.sink)) {
            let backlog = partition.and_then(Partition::backlog);
            let owed = backlog.map_or(0, |backlog| backlog.owed.memory());
            let sink = &self.sinks[topic.sink];
            let (whole, rest) = sink.part_of_owed();
            let part = if sink.settings.fixed_topic { whole } else { part_of(rest, whole) };
            return owed == 0 || owed < part_of(part.saturating_sub(topic.owed), part);
        }
        let work = partition.and_then(|partition| partition.work.as_deref());
        let held = work.map_or(0, Work::memory);
        let (part, rest) = self.part_of_topic(topic);
        held == 0 || held + row_bytes + BUFFER_MIN + BATCH_COST <= part_of(rest, part)
    }

    /// A topic's share, and the free part of it.
    fn part_of_topic(&self, topic: &Topic) -> (usize, usize) {
        let whole = self.memory.ceilings.append;
        let free = self.memory.free();
        if self.memory.ceilings.undivided {
            return (whole, free);
        }
        let sink = &self.sinks[topic.sink];
        let (held, part) = if self.memory.ceilings.several { (sink.memory, part_of(free, whole)) } else { (0, free) };
        let rest = part.saturating_sub(held);
        if sink.settings.fixed_topic {
            return (part, rest);
        }
        let part = part_of(rest, if self.memory.ceilings.several { part } else { whole });
        (part, part.saturating_sub(topic.memory))
    }

    /// Whether a row of up to `row_bytes` that waits for this limit should be tried again.
    #[must_use]
    pub fn may_go_on(&self, full: Full, row_bytes: usize) -> bool {
        let room = self.memory.may_take(row_bytes + self.sinks.len() * (BUFFER_MIN + BATCH_COST));
        room && match full {
            Full::Memory | Full::Letters(_) | Full::Spool | Full::SpoolShare(_) => true,
            Full::Sink(sink) => self.share(sink, None, row_bytes).is_ok(),
            Full::Topic(id) => self.topics.get(id.0).is_none_or(|topic| {
                let sink = SinkId::of(topic.sink);
                // A topic without rows is not full: the next answer names the limit.
                (topic.memory == 0 && topic.owed == 0) || self.share(sink, Some(id), row_bytes).is_ok()
            }),
            Full::Partition(TopicId(topic), partition) => self.is_within(Key { topic, partition }, row_bytes),
        }
    }

    /// How often memory was freed: while it is the same, no waiting row has to be tried again.
    #[must_use]
    pub const fn freed(&self) -> u64 {
        self.memory.pool.freed()
    }

    /// Notes that a batch of a topic was added, removed or resized.
    pub(super) fn resized(&mut self, topic: u32, before: usize, after: usize) {
        let topic = &mut self.topics[topic];
        let sink = &mut self.sinks[topic.sink];
        debug_assert!(topic.memory + after >= before && sink.memory + after >= before);
        topic.memory = (topic.memory + after).saturating_sub(before);
        sink.memory = (sink.memory + after).saturating_sub(before);
    }
}

impl Topic {
    /// Notes that a row was added to one of the sink's batches.
    pub(super) fn took(&mut self, sink: &mut Sink, pushed: &Pushed) {
        sink.stats.buffered_bytes += pushed.len as u64;
        self.memory += pushed.memory;
        sink.memory += pushed.memory;
    }
}

impl Sink {
    /// The sink's limit for tickets of rows on disk alone, and the free part of it.
    fn part_of_owed(&self) -> (usize, usize) {
        let whole = self.settings.spill_after / 2;
        (whole, whole.saturating_sub(self.owed))
    }
}
