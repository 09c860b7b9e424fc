//! The front door: is there room, may this go there at all, and the row itself. A message is taken by all of its sinks
//! or by none yet, so both questions are asked for all of them before the first takes it.

use std::rc::Rc;

use super::batch::Measured;
use super::error::INVALID_TOPIC;
use super::kept::Notes;
use super::pool::{BATCH_COST, BUFFER_MIN};
use super::share::TopicId;
use super::tickets::Tickets;
use super::topic::Topic;
use super::{AnsweredOn, Finished, Keep, Producer, Refusal, Sink, Terms};
use crate::kafka::topic_name;
use crate::kafka::types::{Outcome, SinkId, Ticket};
use crate::record::{HEADER_LEN, Row, varint};
use crate::runtime::seam::Monotonic;

/// Beyond key, value and headers: length, attributes, deltas of time and offset, lengths of key and value, header count.
pub(super) const RECORD_OVERHEAD: usize = 5 + 1 + varint::LEN_MAX + 5 + 5 + 5 + 5;

/// Upper bound of an encoded record of a key, a value and headers (`headers_len`: bytes of their names and values).
#[must_use]
pub const fn row_bytes_max(key_len: usize, value_len: usize, headers_len: usize, header_count: usize) -> usize {
    RECORD_OVERHEAD + key_len + value_len + headers_len + 10 * header_count
}

impl Producer {
    /// Whether a message whose rows take up to `bytes` in all (the sum of [`row_bytes_max`] over its sinks) can be
    /// taken by all of its sinks now. Asked before the first of them takes it; `true` is a promise that holds for the
    /// appends that follow, until it is asked again.
    #[must_use]
    pub fn has_room(&self, bytes: usize) -> bool {
        let promise = bytes + self.sinks.len() * (BUFFER_MIN + BATCH_COST);
        let room = self.pool.used() + promise <= self.append_ceiling;
        self.promised.set(if room { promise } else { 0 });
        room
    }

    /// Whether a row of up to `row_bytes` may go to this topic of this sink at all. The topic, if it has been seen
    /// before: [`Producer::share`] wants it.
    ///
    /// # Errors
    /// A [`Refusal`]: it never will.
    pub fn check(&self, sink: SinkId, topic: &str, row_bytes: usize) -> Result<Option<TopicId>, Refusal> {
        let Some(sink) = self.sinks.get(usize::from(sink.0)) else { return Err(Refusal::TopicInvalid) };
        if row_bytes + HEADER_LEN > sink.settings.record_bytes_max {
            return Err(Refusal::TooLarge);
        }
        match self.find(sink, topic) {
            Some(index) => match self.topics[index as usize].refused {
                None => Ok(Some(TopicId(index))),
                Some(INVALID_TOPIC) => Err(Refusal::TopicInvalid),
                Some(_) => Err(Refusal::TopicForbidden),
            },
            None if !topic_name::is_valid(topic) => Err(Refusal::TopicInvalid),
            None if self.known_topics() >= self.settings.topics_max => Err(Refusal::TooManyTopics),
            None => Ok(None),
        }
    }

    fn find(&self, sink: &Sink, name: &str) -> Option<u32> {
        match self.topics.get(sink.last as usize) {
            Some(topic) if *topic.name == *name => Some(sink.last),
            _ => sink.topics.get(name).copied(),
        }
    }

    /// [`Producer::append`] of a row that has more to it.
    pub fn append_with<'a, H>(
        &mut self,
        sink: SinkId,
        topic: &str,
        row: Row<'a, H>,
        ticket: Option<Ticket>,
        terms: Terms,
        now: Monotonic,
    ) where
        H: Iterator<Item = (&'a [u8], &'a [u8])> + Clone,
    {
        self.notes.terms = terms;
        self.append(sink, topic, row, ticket, now);
    }

    /// Takes a row. Cannot fail after [`Self::has_room`] and [`Self::check`]; a sink that does not exist takes nothing.
    pub fn append<'a, H>(&mut self, sink: SinkId, topic: &str, row: Row<'a, H>, ticket: Option<Ticket>, now: Monotonic)
    where
        H: Iterator<Item = (&'a [u8], &'a [u8])> + Clone,
    {
        let sink_index = usize::from(sink.0);
        let Some(sink) = self.sinks.get_mut(sink_index) else { return };
        sink.stats.appended += 1;
        sink.stats.buffered_rows += 1;
        let ripe_at = now.after(sink.settings.linger);
        let (answered_on, logged) = (sink.settings.answered_on, sink.settings.keep == Keep::Disk);
        let (age, nameless) = (sink.settings.expire_after, sink.identity.is_none());
        if nameless {
            self.ask_producer_id(sink_index, now);
        }
        if let Some(age) = age {
            self.notes.terms.expires = self.notes.terms.expires.min(now.after(age));
            self.watch_age(sink_index, age, now);
        }
        let ticket = match (answered_on, ticket) {
            (AnsweredOn::Append, _) => self.finish_at_once(ticket),
            (AnsweredOn::Stored, Some(_)) if logged => self.answer_when_stored(ticket),
            _ => ticket,
        };

        let index = self.topic_index(sink_index, topic);
        self.topics[index as usize].used_at = now;
        let tail = row.measure();
        let source = Measured(&row, tail);
        // The row's own part of the promise is its to use; what is left belongs to the message's other sinks.
        let own = tail.len + RECORD_OVERHEAD + BUFFER_MIN + BATCH_COST;
        let promised = self.promised.get().saturating_sub(own);
        self.promised.set(promised);
        let ceiling = self.append_ceiling.saturating_sub(promised);
        if self.topics[index as usize].is_open() {
            self.place(index, row.key, &source, ticket, (ripe_at, now), ceiling);
        } else {
            self.hold(index, &source, ticket, ceiling);
            if self.topics[index as usize].count == 0 {
                self.ask_metadata(index, now);
            }
        }
        self.notes = Notes::default();
    }

    /// The topic's index; a new one's if it has not been seen.
    pub(super) fn topic_index(&mut self, sink_index: usize, name: &str) -> u32 {
        let found = self.find(&self.sinks[sink_index], name);
        let index = found.unwrap_or_else(|| {
            let mut topic = Topic::new(name, sink_index);
            let namesakes = self.sinks.iter().filter_map(|sink| sink.topics.get(name));
            for namesake in namesakes {
                self.topics[*namesake as usize].shared = true;
                topic.shared = true;
            }
            let name = Rc::clone(&topic.name);
            let index = self.settle_topic(topic);
            self.sinks[sink_index].topics.insert(name, index);
            index
        });
        self.sinks[sink_index].last = index;
        index
    }

    /// Notes an answer that is due as soon as the row is in memory. The row in its batch then has no ticket.
    fn finish_at_once(&mut self, ticket: Option<Ticket>) -> Option<Ticket> {
        ticket?;
        if let Some(last) = self.finished.last_mut().filter(|last| last.at_once && last.outcome == Outcome::Delivered) {
            last.tickets.push(ticket);
        } else {
            let mut tickets = Tickets::default();
            tickets.push(ticket);
            self.finished.push(Finished::new(tickets, Outcome::Delivered, true));
        }
        None
    }
}
