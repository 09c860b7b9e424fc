//! Shares of the memory: the most that a topic with rows that do not leave may keep from the others.
//!
//! Where memory is plenty there is nothing to ask. Where it is not, a sink may hold that part of what is free which is
//! free of the whole (`free² / whole`): with three quarters free, three quarters of that. One that is dead comes to 38 %
//! of the memory, and however many die one after the other, the n-th leaves about an (n + 1)-th. In the same way the
//! topics of a sink divide what it may still take, so a sink with thousands of dead topics counts as one for the
//! others. The partitions of a topic do so too, for rows with a key that determines the partition: otherwise one
//! partition with a frozen leader would take all that its topic may, and hold up the publishers of the others. A
//! sink, topic or partition that holds nothing may always take a row that there is room for. Nothing is set aside,
//! and nobody has to say which is dead. Where rows leave memory for the disk, the tickets that they leave in memory,
//! of publishers that wait for an answer, are divided in the same way; they may take half of what the sink keeps in
//! memory. A sink that is alone with one fixed topic of one partition has nobody to leave room to, and has all of it.

use super::batch::Pushed;
use super::partition::{Partition, Work};
use super::pool::{BATCH_COST, BUFFER_MIN};
use super::topic::Topic;
use super::{Key, Producer, Sink};
use crate::kafka::types::SinkId;
use crate::limits::part_of;
use crate::record::murmur2;

/// A topic of a sink, by its place in the producer. It may become another topic's once it has no rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct TopicId(pub(super) u32);

/// What a row waits for that may go to its topic but not yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Full {
    /// The memory of all sinks.
    Memory,
    /// The part of this sink.
    Sink(SinkId),
    /// The part of this topic.
    Topic(TopicId),
    /// The part of this topic's partition, by its index.
    Partition(TopicId, u32),
    /// The queue of a file of dead letters, which is not the producer's.
    Letters(u16),
    /// The spool, which is not either.
    Spool,
    /// The part of the spool that this sink may fill.
    SpoolShare(SinkId),
}

impl Producer {
    /// Whether the parts of a sink and a topic have room for a row of up to `row_bytes`. `topic` is what
    /// [`Producer::check`] said; asked beside [`Producer::has_room`].
    ///
    /// # Errors
    /// What the row must wait for.
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
        // A fixed topic is its sink: their part is one.
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

    /// Whether a sink takes nothing for now, as what it has on the disk is to drain: room that there is.
    #[must_use]
    pub fn is_held_back(&self, sink: SinkId) -> bool {
        self.sinks.get(usize::from(sink.0)).is_some_and(|sink| !sink.pacer.takes(sink.stats.appended))
    }

    /// The same for the tickets of rows that are on the disk alone.
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

    /// Whether so little is held that any row is within its parts, and no sink takes less than arrives.
    #[must_use]
    pub const fn is_plenty(&self, row_bytes: usize) -> bool {
        !self.paces
            && 8 * (self.memory.pool.used() + row_bytes + BUFFER_MIN + BATCH_COST) <= self.memory.ceilings.append
    }

    /// Whether the part of the partition that a row goes to by its hash ([`super::Target`]) has room for it; asked after
    /// [`Producer::share`], where memory is not plenty.
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

    /// Whether a partition's part of what its topic may still take has room.
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

    /// What a topic may hold, and how much of that it does not hold.
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

    /// Whether a row of up to `row_bytes` that waits for this need wait no longer: it is worth asking again.
    #[must_use]
    pub fn may_go_on(&self, full: Full, row_bytes: usize) -> bool {
        let room = self.memory.may_take(row_bytes + self.sinks.len() * (BUFFER_MIN + BATCH_COST));
        room && match full {
            Full::Memory | Full::Letters(_) | Full::Spool | Full::SpoolShare(_) => true,
            Full::Sink(sink) => self.share(sink, None, row_bytes).is_ok(),
            Full::Topic(id) => self.topics.get(id.0).is_none_or(|topic| {
                let sink = SinkId::of(topic.sink);
                // Without rows it is not the topic that is full: what is, the next answer says.
                (topic.memory == 0 && topic.owed == 0) || self.share(sink, Some(id), row_bytes).is_ok()
            }),
            Full::Partition(TopicId(topic), partition) => self.is_within(Key { topic, partition }, row_bytes),
        }
    }

    /// How often memory has come free: as long as it is the same, nobody who waits has to be asked again.
    #[must_use]
    pub const fn freed(&self) -> u64 {
        self.memory.pool.freed()
    }

    /// Notes that a batch of a topic has come, gone or changed its size.
    pub(super) fn resized(&mut self, topic: u32, before: usize, after: usize) {
        let topic = &mut self.topics[topic];
        let sink = &mut self.sinks[topic.sink];
        debug_assert!(topic.memory + after >= before && sink.memory + after >= before);
        topic.memory = (topic.memory + after).saturating_sub(before);
        sink.memory = (sink.memory + after).saturating_sub(before);
    }
}

impl Topic {
    /// Notes that a row was put into one of its batches.
    pub(super) fn took(&mut self, sink: &mut Sink, pushed: &Pushed) {
        sink.stats.buffered_bytes += pushed.len as u64;
        self.memory += pushed.memory;
        sink.memory += pushed.memory;
    }
}

impl Sink {
    /// What the tickets of its rows on the disk alone may take, and how much of that they do not.
    fn part_of_owed(&self) -> (usize, usize) {
        let whole = self.settings.spill_after / 2;
        (whole, whole.saturating_sub(self.owed))
    }
}
