//! The entry of rows: whether a row may go to its topic at all, whether there is room, and the row itself. A message is taken by
//! all of its sinks or by none, so both checks are made for all of them before the first takes it.

use std::rc::Rc;

use super::batch::Measured;
use super::error::{INVALID_TOPIC, UNKNOWN_TOPIC};
use super::in_log::Notes;
use super::pool::{BATCH_COST, BUFFER_MIN};
use super::share::TopicId;
use super::tickets::Tickets;
use super::topic::Topic;
use super::{AnsweredOn, Finished, Keep, Partitioner, Producer, Refusal, Sink, Terms};
use crate::topic_name;
use crate::types::{INVALID_PARTITIONS, Outcome, SinkId, Ticket};
use forebay_record::murmur2::murmur2;
use forebay_record::{HEADER_LEN, Row, varint};
use forebay_runtime::seam::Monotonic;

/// Encoded size beyond key, value and headers: length, attributes, deltas of time and offset, lengths of key and value, header count.
pub(super) const RECORD_OVERHEAD: usize = 5 + 1 + varint::LEN_MAX + 5 + 5 + 5 + 5;

/// Upper bound of an encoded record of a key, a value and headers (`headers_len`: bytes of their names and values).
#[must_use]
pub const fn row_bytes_max(key_len: usize, value_len: usize, headers_len: usize, header_count: usize) -> usize {
    RECORD_OVERHEAD + key_len + value_len + headers_len + 10 * header_count
}

/// Memory reserved for the rows of one message: [`Producer::promise`].
#[derive(Clone, Copy, Debug, Default)]
pub struct Promise(usize);

/// The destination of a row.
#[derive(Clone, Copy, Debug)]
pub struct Target<'a> {
    /// The sink.
    pub sink: SinkId,
    /// The topic's name; read only where it is not `known`.
    pub topic: &'a str,
    /// The topic, as [`Producer::check`] has just found it.
    pub known: Option<TopicId>,
    /// murmur2 of the value that determines the row's partition: its key ([`Partitioner::Key`]; `None`: it has none), or
    /// [`Terms::hash`] ([`Partitioner::Hash`]).
    pub hash: Option<u32>,
}

/// A row on its way into a batch.
pub(super) struct NewRow<'s, S> {
    pub(super) source: &'s S,
    /// As [`Target::hash`].
    pub(super) hash: Option<u32>,
    pub(super) ticket: Option<Ticket>,
    pub(super) notes: Notes,
    /// The end of its linger.
    pub(super) ripe_at: Monotonic,
    pub(super) now: Monotonic,
    /// Memory in use up to which its batch may take more than the minimum.
    pub(super) ceiling: usize,
}

/// The [`Target::hash`] of a row.
pub(super) fn hash_of(partitioner: Partitioner, key: Option<&[u8]>, terms: Terms) -> Option<u32> {
    match partitioner {
        // The row of a sink that had another partitioner keeps its hash.
        Partitioner::Key => terms.hash.or_else(|| key.map(|key| murmur2(key).cast_unsigned())),
        Partitioner::Hash => Some(terms.hash.unwrap_or_default()),
        Partitioner::Sticky | Partitioner::Random => None,
    }
}

impl Sink {
    /// Whether a row of up to `row_bytes` is short enough.
    const fn may_take(&self, row_bytes: usize) -> bool {
        row_bytes + HEADER_LEN <= self.settings.record_bytes_max
    }
}

impl Producer {
    /// The memory that a row may take beside its own bytes, if it begins a batch.
    pub const BATCH_ROOM: usize = BUFFER_MIN + BATCH_COST;

    /// Reserves memory for the rows of a message that take up to `bytes` in total (the sum of [`row_bytes_max`] over its
    /// sinks), if there is that much. The promise holds for the [`Producer::take`]s that follow immediately.
    #[must_use]
    pub fn promise(&self, bytes: usize) -> Option<Promise> {
        let promise = bytes + self.sinks.len() * (BUFFER_MIN + BATCH_COST);
        self.memory.may_take(promise).then_some(Promise(promise))
    }

    /// Whether there is room for rows of this size.
    #[must_use]
    pub fn has_room(&self, bytes: usize) -> bool {
        self.promise(bytes).is_some()
    }

    /// Whether a row of up to `row_bytes` is short enough for this sink.
    #[must_use]
    pub fn may_take(&self, sink: SinkId, row_bytes: usize) -> bool {
        self.sinks.get(usize::from(sink.0)).is_some_and(|sink| sink.may_take(row_bytes))
    }

    /// Checks whether a row of up to `row_bytes` may go to this topic of this sink at all. Returns the topic, if it has been seen
    /// before: [`Producer::share`] takes it.
    ///
    /// # Errors
    /// A [`Refusal`]: the row can never go there.
    pub fn check(&self, sink: SinkId, topic: &str, row_bytes: usize) -> Result<Option<TopicId>, Refusal> {
        let Some(sink) = self.sinks.get(usize::from(sink.0)) else { return Err(Refusal::TopicInvalid) };
        if !sink.may_take(row_bytes) {
            return Err(Refusal::TooLarge);
        }
        match self.find(sink, topic) {
            Some(index) => match self.topics[index].view.refused {
                None => Ok(Some(TopicId(index))),
                Some(INVALID_TOPIC) => Err(Refusal::TopicInvalid),
                Some(UNKNOWN_TOPIC) => Err(Refusal::TopicUnknown),
                Some(INVALID_PARTITIONS) => Err(Refusal::TooManyTopics),
                Some(_) => Err(Refusal::TopicForbidden),
            },
            None if !topic_name::is_valid(topic) => Err(Refusal::TopicInvalid),
            None if self.topics.known() >= self.settings.topics_max => Err(Refusal::TooManyTopics),
            None => Ok(None),
        }
    }

    /// The number of a topic's partitions, as Kafka has last reported it. 0: it is not known.
    #[must_use]
    pub fn partition_count(&self, sink: SinkId, topic: &str) -> usize {
        let index = self.sinks.get(usize::from(sink.0)).and_then(|sink| self.find(sink, topic));
        index.map_or(0, |index| self.topics[index].view.growth.unwrap_or(self.topics[index].view.count))
    }

    fn find(&self, sink: &Sink, name: &str) -> Option<u32> {
        match self.topics.get(sink.last) {
            Some(topic) if *topic.name == *name => Some(sink.last),
            _ => sink.topics.get(name).copied(),
        }
    }

    /// Takes a row, after [`Self::has_room`] and [`Self::check`].
    pub fn append<'a, H>(&mut self, sink: SinkId, topic: &str, row: Row<'a, H>, ticket: Option<Ticket>, now: Monotonic)
    where
        H: Iterator<Item = (&'a [u8], &'a [u8])> + Clone,
    {
        self.append_with(sink, topic, row, ticket, Terms::default(), now);
    }

    /// Like [`Self::append`], with terms.
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
        let Some(state) = self.sinks.get(usize::from(sink.0)) else { return };
        let hash = hash_of(state.settings.partitioner, row.key, terms);
        self.take(&Target { sink, topic, known: None, hash }, row, ticket, terms, (&mut Promise::default(), now));
    }

    /// Takes a row. Cannot fail after [`Self::check`] and within a [`Self::promise`]; a sink that does not exist takes
    /// nothing.
    pub fn take<'a, H>(
        &mut self,
        target: &Target<'_>,
        row: Row<'a, H>,
        ticket: Option<Ticket>,
        mut terms: Terms,
        (promise, now): (&mut Promise, Monotonic),
    ) where
        H: Iterator<Item = (&'a [u8], &'a [u8])> + Clone,
    {
        let sink_index = usize::from(target.sink.0);
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
            terms.expires = terms.expires.min(now.after(age));
            self.watch_age(sink_index, age, now);
        }
        let ticket = match (answered_on, ticket) {
            (AnsweredOn::Append, _) => self.finish_at_once(ticket),
            (AnsweredOn::Stored, Some(_)) if logged => self.answer_when_stored(ticket),
            _ => ticket,
        };

        let index = match target.known {
            Some(TopicId(index)) => index,
            None => self.topic_index(sink_index, target.topic),
        };
        self.sinks[sink_index].last = index;
        self.topics[index].used_at = now;
        let tail = row.measure();
        // The row takes its own part of the promise; the rest belongs to the message's other sinks.
        promise.0 = promise.0.saturating_sub(tail.len + RECORD_OVERHEAD + BUFFER_MIN + BATCH_COST);
        let row = NewRow {
            source: &Measured(&row, tail),
            hash: target.hash,
            ticket,
            notes: Notes { terms, ..Notes::default() },
            ripe_at,
            now,
            ceiling: self.memory.ceilings.append.saturating_sub(promise.0),
        };
        if self.topics[index].is_open() {
            self.place(index, &row);
        } else {
            self.hold(index, &row);
            if self.topics[index].view.count == 0 {
                self.ask_metadata(index, now);
            }
        }
    }

    /// The topic's index; of a new topic if it has not been seen.
    pub(super) fn topic_index(&mut self, sink_index: usize, name: &str) -> u32 {
        let found = self.find(&self.sinks[sink_index], name);
        found.unwrap_or_else(|| {
            let mut topic = Topic::new(name, sink_index);
            let namesakes = self.sinks.iter().filter_map(|sink| sink.topics.get(name));
            for namesake in namesakes {
                self.topics[*namesake].shared = true;
                topic.shared = true;
            }
            let name = Rc::clone(&topic.name);
            let index = self.topics.add(topic);
            self.sinks[sink_index].topics.insert(name, index);
            index
        })
    }

    /// Notes a ticket that is due as soon as the row is in memory. The row in its batch then has no ticket.
    fn finish_at_once(&mut self, ticket: Option<Ticket>) -> Option<Ticket> {
        ticket?;
        if let Some(last) =
            self.outbox.finished.last_mut().filter(|last| last.at_once && last.outcome == Outcome::Delivered)
        {
            last.tickets.push(ticket);
        } else {
            let mut tickets = Tickets::default();
            tickets.push(ticket);
            self.outbox.finished.push(Finished::new(tickets, Outcome::Delivered, true));
        }
        None
    }
}
