//! Shares of the memory: what a topic whose rows do not leave may keep from the others.
//!
//! Where memory is plenty there is nothing to ask. Where it is not, a sink may hold that part of what is free which is
//! free of the whole (`free² / whole`): with three quarters free, three quarters of that. One that is dead comes to 38 %
//! of the memory, and however many die one after the other, the n-th leaves about an (n + 1)-th. In the same way the
//! topics of a sink divide what it may still take, so a sink with thousands of dead topics counts as one for the others.
//! Who holds nothing may always take a row that there is room for. Nothing is set aside, and nobody has to say who is
//! dead. A sink that is alone with one fixed topic has nobody to leave room to, and has all of it.

use super::Producer;
use super::pool::{BATCH_COST, BUFFER_MIN};
use crate::kafka::types::SinkId;

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
    /// The queue of a file of dead letters, which is not the producer's.
    Letters(u16),
}

impl Producer {
    /// Whether the parts of a sink and a topic have room for a row of up to `row_bytes`. `topic` is what
    /// [`Producer::check`] said; asked beside [`Producer::has_room`].
    ///
    /// # Errors
    /// What the row must wait for.
    pub fn share(&self, sink: SinkId, topic: Option<TopicId>, row_bytes: usize) -> Result<(), Full> {
        let need = row_bytes + BUFFER_MIN + BATCH_COST;
        let used = self.pool.used();
        let whole = self.append_ceiling;
        // Whoever holds whatever is held, the row is within its parts.
        if 8 * (used + need) <= whole || self.undivided {
            return Ok(());
        }
        let Some(state) = self.sinks.get(usize::from(sink.0)) else { return Ok(()) };
        let free = whole.saturating_sub(used);
        let (held, part) = if self.several { (state.memory, part_of(free, whole)) } else { (0, free) };
        let rest = part.saturating_sub(held);
        // A fixed topic is its sink: their part is one.
        let topic = topic.filter(|_| !state.settings.fixed_topic);
        let of_topic = topic.and_then(|id| self.topics.get(id.0 as usize)).map_or(0, |topic| topic.memory);
        let within = match (held, of_topic) {
            (0, 0) => need <= free,
            (_, 0) => need <= rest,
            (..) => of_topic + need <= part_of(rest, if self.several { part } else { whole }),
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

    /// Whether a row of up to `row_bytes` that waits for this need wait no longer: it is worth asking again.
    #[must_use]
    pub fn may_go_on(&self, full: Full, row_bytes: usize) -> bool {
        let room = self.pool.used() + row_bytes + self.sinks.len() * (BUFFER_MIN + BATCH_COST) <= self.append_ceiling;
        room && match full {
            Full::Memory | Full::Letters(_) => true,
            Full::Sink(sink) => self.share(sink, None, row_bytes).is_ok(),
            Full::Topic(id) => self.topics.get(id.0 as usize).is_none_or(|topic| {
                let sink = SinkId(u16::try_from(topic.sink).unwrap_or(u16::MAX));
                // Without rows it is not the topic that is full: what is, the next answer says.
                topic.memory == 0 || self.share(sink, Some(id), row_bytes).is_ok()
            }),
        }
    }

    /// How often memory has come free: as long as it is the same, nobody who waits has to be asked again.
    #[must_use]
    pub const fn freed(&self) -> u64 {
        self.pool.freed()
    }

    /// Notes that a batch of a topic has come, gone or changed its size.
    pub(super) fn resized(&mut self, topic: u32, before: usize, after: usize) {
        let topic = &mut self.topics[topic as usize];
        let sink = &mut self.sinks[topic.sink];
        debug_assert!(topic.memory + after >= before && sink.memory + after >= before);
        topic.memory = (topic.memory + after).saturating_sub(before);
        sink.memory = (sink.memory + after).saturating_sub(before);
    }
}

/// What one of many may hold of what is left of a whole.
fn part_of(rest: usize, whole: usize) -> usize {
    let part = rest as u128 * rest as u128 / whole.max(1) as u128;
    usize::try_from(part).unwrap_or(rest)
}
