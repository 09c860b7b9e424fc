//! The producer: rows in, Produce requests out, answers back to whoever is owed one. Sans-I/O: one for each shard and
//! cluster, driven by [`Producer::append`], [`Producer::poll`] once a turn, and the `on_…` calls.
//!
//! The life of a row (rules P1–P8 of the durable path):
//!
//! ```text
//! append ─▶ unplaced (no metadata yet, or the topic is growing)      topic.rs, place.rs
//!        └▶ growing batch of its partition ─▶ full, or linger over   batch.rs
//!           ─▶ cut: producer id, epoch, sequence, checksum           partition.rs, gather.rs   P1 P2 P3
//!           ─▶ sent, one request for each broker and turn            gather.rs                 P7 P8
//!           ─▶ answered: 0 settles it and all older; else see        answer.rs, resolve.rs     P4 P5 P6
//!           ─▶ its tickets come out of `drain_completions`
//! ```
//!
//! Nothing is allocated for a row in the steady state: buffers, ticket lists and the state of busy partitions are
//! used again, and idle partitions hold none of them.

mod answer;
mod batch;
mod error;
mod gather;
mod metadata;
mod partition;
mod place;
mod pool;
mod resolve;
mod settings;
mod stats;
mod tickets;
mod timers;
mod topic;

#[cfg(test)]
mod tests;

use std::cell::Cell;
use std::collections::VecDeque;
use std::rc::Rc;

use foldhash::fast::RandomState;
use hashbrown::HashMap;

use self::batch::{Batch, Measured};
use self::error::{FORBIDDEN, INVALID_TOPIC};
use self::gather::{Load, Request};
use self::partition::{Identity, Work};
use self::pool::{BATCH_COST, BUFFER_MIN, Pool};
pub use self::settings::{AnsweredOn, Settings, SinkSettings};
pub use self::stats::SinkStats;
use self::tickets::Tickets;
use self::timers::Timers;
use self::topic::{Topic, is_valid_name};
pub use crate::kafka::batch::Row;
use crate::kafka::batch::{HEADER_LEN, varint};
use crate::kafka::compression::{Codec, Lz4};
use crate::kafka::types::{NodeId, Outcome, Run, SinkId, Ticket};
use crate::runtime::seam::Monotonic;

/// Why a row can never go to this sink and topic: known before any sink has taken the message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Larger than `record_bytes_max`.
    TooLarge,
    /// Kafka has no topics of this name.
    TopicInvalid,
    /// Kafka said that we may not write there.
    TopicForbidden,
    /// One topic more than `topics_max`.
    TooManyTopics,
}

/// What the producer needs from the wire client. Said once; said again only if nothing comes of it for long.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Want {
    /// Metadata of a topic: [`Producer::on_metadata`].
    Metadata(Rc<str>),
    /// A producer id, under this token: [`Producer::on_producer_id`].
    ProducerId(u64),
    /// Fresh metadata of the topics already asked for: some leader is not where it was.
    Refresh,
}

/// A partition of a topic of a sink, by indices.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Key {
    topic: u32,
    partition: u32,
}

/// A sink's own state.
#[derive(Debug)]
struct Sink {
    settings: SinkSettings,
    stats: SinkStats,
    /// The producer id that new work starts with (P3: one for each shard, cluster and sink).
    identity: Option<Identity>,
    asked_until: Option<Monotonic>,
    topics: HashMap<Rc<str>, u32, RandomState>,
    /// The topic of the last row: a sink with a fixed topic never hashes.
    last: u32,
    /// Batches whose linger runs, in the order in which it ends.
    lingering: VecDeque<(Monotonic, Key)>,
}

/// A broker as the producer sees it.
#[derive(Debug)]
struct Node {
    id: NodeId,
    in_flight: usize,
    throttled_until: Monotonic,
    /// Partitions that wait until it has room.
    waiting: Vec<Key>,
}

/// Tickets whose outcome is known.
#[derive(Debug)]
struct Finished {
    tickets: Tickets,
    outcome: Outcome,
    /// Not of a batch: answered when they were appended, and more may join.
    at_once: bool,
}

/// See the module.
#[derive(Debug)]
pub struct Producer {
    settings: Settings,
    sinks: Vec<Sink>,
    topics: Vec<Topic>,
    nodes: Vec<Node>,
    requests: HashMap<u64, Request, RandomState>,
    requests_begun: u64,
    serial: u64,
    pool: Pool,
    /// State for partitions that get busy.
    spare: Vec<Box<Work>>,
    /// Lists of entries for requests to come.
    spare_entries: Vec<Vec<gather::Entry>>,
    /// Partitions to look at in the next poll.
    ready: Vec<Key>,
    /// The same, while they are being looked at.
    due: Vec<Key>,
    /// Requests that are being loaded.
    loads: Vec<Load>,
    /// Topics whose rows without a partition can be placed.
    placing: Vec<u32>,
    /// The last poll left work that it could have done: it only had done enough.
    behind: bool,
    timers: Timers,
    finished: Vec<Finished>,
    wants: Vec<Want>,
    refresh: bool,
    reachable: bool,
    /// Memory promised by [`Producer::has_room`] to rows that have not come yet.
    promised: Cell<usize>,
    /// Memory in use up to which rows are taken, and up to which they are placed.
    append_ceiling: usize,
    place_ceiling: usize,
    limit: usize,
    lz4: Option<Lz4>,
    rng: fastrand::Rng,
}

/// Beyond key, value and headers: length, attributes, deltas of time and offset, lengths of key and value, header count.
const RECORD_OVERHEAD: usize = 5 + 1 + varint::LEN_MAX + 5 + 5 + 5 + 5;

impl Producer {
    /// A producer without rows.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        let limit = settings.buffer_bytes.max(settings.buffer_bytes_min());
        let largest = settings.batch_capacity_max();
        let lz4 = settings.lz4_used().then(|| Lz4::new(largest));
        let mut pool = Pool::new(limit);
        pool.charge(lz4.as_ref().map_or(0, Lz4::memory));
        // Splitting a batch needs twice its room, and once more if it is compressed; placing needs one batch.
        let place_ceiling = limit - largest * if lz4.is_some() { 3 } else { 2 } - 4 * BATCH_COST;
        let sinks = settings.sinks.iter().map(|sink| Sink {
            settings: sink.clone(),
            stats: SinkStats::default(),
            identity: None,
            asked_until: None,
            topics: HashMap::default(),
            last: u32::MAX,
            lingering: VecDeque::new(),
        });
        Self {
            sinks: sinks.collect(),
            topics: Vec::new(),
            nodes: Vec::new(),
            requests: HashMap::default(),
            requests_begun: 0,
            serial: 0,
            pool,
            spare: Vec::new(),
            spare_entries: Vec::new(),
            ready: Vec::new(),
            due: Vec::new(),
            loads: Vec::new(),
            placing: Vec::new(),
            behind: false,
            timers: Timers::default(),
            finished: Vec::new(),
            wants: Vec::new(),
            refresh: false,
            reachable: true,
            promised: Cell::new(0),
            append_ceiling: place_ceiling - largest - BATCH_COST,
            place_ceiling,
            limit,
            lz4,
            rng: fastrand::Rng::with_seed(settings.seed),
            settings,
        }
    }

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

    /// Whether a row of up to `row_bytes` may go to this topic of this sink at all.
    ///
    /// # Errors
    /// A [`Refusal`]: it never will.
    pub fn check(&self, sink: SinkId, topic: &str, row_bytes: usize) -> Result<(), Refusal> {
        let Some(sink) = self.sinks.get(usize::from(sink.0)) else { return Err(Refusal::TopicInvalid) };
        if row_bytes + HEADER_LEN > sink.settings.record_bytes_max {
            return Err(Refusal::TooLarge);
        }
        match self.find(sink, topic) {
            Some(index) => match self.topics[index as usize].refused {
                None => Ok(()),
                Some(INVALID_TOPIC) => Err(Refusal::TopicInvalid),
                Some(_) => Err(Refusal::TopicForbidden),
            },
            None if !is_valid_name(topic) => Err(Refusal::TopicInvalid),
            None if self.topics.len() >= self.settings.topics_max => Err(Refusal::TooManyTopics),
            None => Ok(()),
        }
    }

    fn find(&self, sink: &Sink, name: &str) -> Option<u32> {
        match self.topics.get(sink.last as usize) {
            Some(topic) if *topic.name == *name => Some(sink.last),
            _ => sink.topics.get(name).copied(),
        }
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
        let at_once = sink.settings.answered_on == AnsweredOn::Append;
        if sink.identity.is_none() {
            self.ask_producer_id(sink_index, now);
        }
        let ticket = if at_once { self.finish_at_once(ticket) } else { ticket };

        let index = self.topic_index(sink_index, topic);
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
    }

    /// The topic's index; a new one's if it has not been seen.
    fn topic_index(&mut self, sink_index: usize, name: &str) -> u32 {
        let found = self.find(&self.sinks[sink_index], name);
        let index = found.unwrap_or_else(|| {
            let index = self.topics.len() as u32;
            let mut topic = Topic::new(name, sink_index);
            let namesakes = self.sinks.iter().filter_map(|sink| sink.topics.get(name));
            for namesake in namesakes {
                self.topics[*namesake as usize].shared = true;
                topic.shared = true;
            }
            self.sinks[sink_index].topics.insert(Rc::clone(&topic.name), index);
            self.topics.push(topic);
            index
        });
        self.sinks[sink_index].last = index;
        index
    }

    /// Notes an answer that is due as soon as the row is in memory. The row in its batch then has no ticket.
    fn finish_at_once(&mut self, ticket: Option<Ticket>) -> Option<Ticket> {
        ticket?;
        if let Some(last) = self.finished.last_mut().filter(|last| last.at_once) {
            last.tickets.push(ticket);
        } else {
            let mut tickets = Tickets::default();
            tickets.push(ticket);
            self.finished.push(Finished { tickets, outcome: Outcome::Delivered, at_once: true });
        }
        None
    }

    /// Ends a batch: its rows leave the ledger's "buffered", its answers are due.
    fn end(&mut self, topic: u32, batch: Batch, outcome: Outcome) {
        let topic = &mut self.topics[topic as usize];
        let stats = &mut self.sinks[topic.sink].stats;
        let count = u64::from(batch.count);
        stats.buffered_rows -= count;
        stats.buffered_bytes -= batch.plain_len as u64;
        match outcome {
            Outcome::Delivered => stats.delivered += count,
            Outcome::Refused(_) => stats.refused += count,
        }
        let tickets = batch.end(&mut self.pool);
        self.finished.push(Finished { tickets, outcome, at_once: false });
    }

    /// Answers that are due, batch by batch in the order in which Kafka settled them.
    pub fn drain_completions(&mut self, mut f: impl FnMut(Run, Outcome)) {
        for finished in self.finished.drain(..) {
            finished.tickets.runs().for_each(|run| f(run, finished.outcome));
            if !finished.at_once {
                self.pool.give_tickets(finished.tickets);
            }
        }
    }

    /// What the wire client should get for the producer.
    pub fn drain_wants(&mut self, mut f: impl FnMut(Want)) {
        self.wants.drain(..).for_each(&mut f);
        if std::mem::take(&mut self.refresh) {
            f(Want::Refresh);
        }
    }

    /// A sink's counters.
    ///
    /// # Panics
    /// If there is no such sink.
    #[must_use]
    pub fn stats(&self, sink: SinkId) -> &SinkStats {
        &self.sinks[usize::from(sink.0)].stats
    }

    /// Memory in use: buffers by capacity, tickets, and a flat sum for each batch.
    #[must_use]
    pub const fn buffered_bytes(&self) -> usize {
        self.pool.used()
    }

    /// Memory in use and memory kept for later: never above `buffer_bytes`.
    #[must_use]
    pub const fn memory_bytes(&self) -> usize {
        self.pool.total()
    }

    /// Rows held, of all sinks.
    #[must_use]
    pub fn buffered_rows(&self) -> u64 {
        self.sinks.iter().map(|sink| sink.stats.buffered_rows).sum()
    }
}

/// Upper bound of an encoded record of a key, a value and headers (`headers_len`: bytes of their names and values).
#[must_use]
pub const fn row_bytes_max(key_len: usize, value_len: usize, headers_len: usize, header_count: usize) -> usize {
    RECORD_OVERHEAD + key_len + value_len + headers_len + 10 * header_count
}

impl Settings {
    fn lz4_used(&self) -> bool {
        self.sinks.iter().any(|sink| sink.compression == Codec::Lz4)
    }
}

/// Whether a refusal of a batch is about its topic: then the topic counts as refused for a while.
const fn is_about_topic(code: i16) -> bool {
    matches!(code, FORBIDDEN | INVALID_TOPIC)
}
