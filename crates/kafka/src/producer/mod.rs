//! The producer: rows in, Produce requests out, answers back to their publishers. Sans-I/O: one for each shard and
//! cluster, driven by [`Producer::append`], [`Producer::poll`] once a turn, and the `on_…` calls.
//!
//! The life of a row (rules P1–P8 of the durable path):
//!
//! ```text
//! append ─▶ unplaced (no metadata yet, or the topic is growing)      unplaced.rs, place.rs
//!        └▶ growing batch of its partition ─▶ full, or linger over   batch/
//!           ─▶ cut: producer id, epoch, sequence, checksum           window/, gather.rs        P1 P2 P3
//!           ─▶ sent, one request for each broker and turn            gather.rs                 P7 P8
//!           ─▶ answered: 0 settles it and all older; else see        window/, resolve.rs       P4 P5 P6
//!           ─▶ its tickets come out of `drain_completions`
//! ```
//!
//! Rows of a sink with a disk buffer go through the log: staged before they are placed or cut, cut there before
//! they are sent (`logging`), removed from memory and read back where memory is short (`refill`, `backlog`), taken over by the
//! next process (`restore`).
//!
//! No row causes an allocation in the steady state: buffers, ticket lists and the state of busy partitions are
//! reused, and idle partitions hold none of them.

mod acked;
mod answer;
mod append;
mod ask;
mod backlog;
mod batch;
mod change;
mod cluster;
mod corrupt;
mod dispatch;
mod dropped;
mod ends;
mod error;
mod expire;
mod forget;
mod gather;
mod hashes;
mod in_log;
mod landed;
mod left;
mod logging;
mod lost;
mod memory;
mod metadata;
mod news;
mod numbers;
mod oldest;
mod oversized;
mod owed;
mod pacer;
mod partition;
mod patience;
mod permit;
mod place;
mod pool;
mod recreated;
mod refill;
mod rejected;
mod resolve;
mod restore;
mod retries;
pub mod row_log;
mod save;
mod settings;
mod share;
mod shed;
mod shown;
mod sinks;
#[cfg(any(test, feature = "testing"))]
mod standing;
mod state;
mod stats;
mod tickets;
mod timers;
mod topic;
mod topics;
mod turns;
mod unplaced;
mod unwritten;
mod view;
mod window;
mod withdrawn;
mod without_timestamp;

#[cfg(any(test, feature = "testing"))]
#[allow(missing_docs)]
pub mod testing;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::rc::Rc;

use foldhash::fast::RandomState;
use hashbrown::HashMap;

pub use self::append::{Promise, Target, row_bytes_max};
use self::batch::Batch;
use self::dispatch::Dispatcher;
pub use self::dropped::OwedRows;
use self::error::{FORBIDDEN, INVALID_TOPIC};
use self::logging::Logging;
use self::memory::Memory;
pub use self::news::News;
use self::pacer::Pacer;
use self::permit::Permit;
use self::rejected::RejectedBatches;
pub use self::rejected::{Rejected, RejectedEnd, RejectedId, RejectedRow};
use self::row_log::Fate;
pub use self::settings::{AnsweredOn, Keep, Partitioner, Settings, SinkSettings, Terms};
pub use self::share::{Full, TopicId};
pub use self::shown::Shown;
use self::sinks::Sinks;
use self::state::{Agenda, ClusterView, Finished, Loader, Outbox, Questions};
pub use self::stats::SinkStats;
use self::topics::Topics;
use self::window::Identity;
pub use self::without_timestamp::RECEIVED_MS;
use crate::types::{Outcome, Question, Run, SinkId};
pub use forebay_record::Row;
use forebay_runtime::seam::{Monotonic, WallMs};

/// Maximum number of batches of one partition in flight: as many as Kafka keeps in order.
pub const IN_FLIGHT_MAX: usize = window::WINDOW;

/// Why a row can never go to this sink and topic: known before any sink has taken the message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The row is larger than `record_bytes_max`.
    TooLarge,
    /// Kafka has no topics of this name.
    TopicInvalid,
    /// The topic has not existed for longer than the sink waits for it.
    TopicUnknown,
    /// Kafka forbids writing to the topic.
    TopicForbidden,
    /// The topic exceeds `topics_max`, or its partitions exceed [`forebay_base::limits::PARTITIONS_OF_CLUSTER_MAX`].
    TooManyTopics,
}

/// Requests of the producer to the wire client. Each is made once, and again only after a long time without a
/// result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Want {
    /// Metadata of a topic: [`Producer::on_metadata`].
    Metadata(Rc<str>),
    /// No more metadata of this topic: no rows go there any more.
    Forget(Rc<str>),
    /// A producer id, under this token: [`Producer::on_producer_id`].
    ProducerId(u64),
    /// Fresh metadata of the topics already requested: some leader has moved.
    Refresh,
    /// A question to a partition's log: [`Producer::on_asked`]. Until the answer nothing of this partition is sent.
    Ask(Question),
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
    /// Memory of the sink's batches; `waiting`: memory of those that waited for room in the log, or after rows in the log alone,
    /// when last counted.
    memory: usize,
    waiting: usize,
    /// Memory of the tickets of the sink's rows that are on disk alone.
    owed: usize,
    pacer: Pacer,
    /// Partitions that have loaded cuts though memory had no room for them, one for each leader.
    beyond: Vec<Permit>,
    /// The producer id for new batches (P3: one for each shard, cluster and sink).
    identity: Option<Identity>,
    asked_until: Option<Monotonic>,
    /// Whether a timer to drop expired rows is set.
    swept: bool,
    /// The sink's memory limit while the machine is short of memory.
    shed_above: Option<usize>,
    topics: HashMap<Rc<str>, u32, RandomState>,
    /// The topic of the last row: a sink with a fixed topic never hashes.
    last: u32,
    /// Lingering batches, in the order in which their linger ends.
    lingering: VecDeque<(Monotonic, Key)>,
    /// The lists of [`Sinks`] that the sink is on.
    listed: u8,
}

impl Sink {
    fn new(settings: SinkSettings) -> Self {
        Self {
            settings,
            stats: SinkStats::default(),
            memory: 0,
            waiting: 0,
            owed: 0,
            pacer: Pacer::new(),
            beyond: Vec::new(),
            identity: None,
            asked_until: None,
            swept: false,
            shed_above: None,
            topics: HashMap::default(),
            last: u32::MAX,
            lingering: VecDeque::new(),
            listed: 0,
        }
    }
}

/// The producer of one shard for one cluster.
#[derive(Debug)]
pub struct Producer {
    settings: Settings,
    /// Whether the machine is short of memory.
    is_short: bool,
    sinks: Sinks,
    topics: Topics,
    dispatcher: Dispatcher,
    memory: Memory,
    cluster: ClusterView,
    questions: Questions,
    agenda: Agenda,
    outbox: Outbox,
    /// Rows, cuts and ends on their way to the log.
    logging: Logging,
    loader: Loader,
    /// Permanently refused batches of sinks that keep them.
    rejected: RejectedBatches,
    /// Whether some sink takes no more than its share of what drains.
    paces: bool,
    /// The wall-clock time of the last poll.
    wall: WallMs,
    rng: fastrand::Rng,
}

impl Producer {
    /// Creates a producer without rows.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        let memory = Memory::new(&settings);
        let logged = settings.sinks.iter().any(|sink| sink.keep != Keep::Memory);
        let sinks = settings.sinks.iter().map(|sink| Sink::new(memory.ceilings.of_sink(sink)));
        Self {
            is_short: false,
            sinks: Sinks::new(sinks.collect()),
            topics: Topics::default(),
            dispatcher: Dispatcher::new(&settings),
            memory,
            cluster: ClusterView::default(),
            questions: Questions::default(),
            agenda: Agenda::default(),
            outbox: Outbox::default(),
            logging: Logging::new(logged),
            loader: Loader::default(),
            rejected: RejectedBatches::default(),
            paces: false,
            wall: WallMs(0),
            rng: fastrand::Rng::with_seed(settings.seed),
            settings,
        }
    }

    /// Ends a batch: its rows leave the ledger's "buffered", its tickets are due. `partition`: the partition, if it has one.
    fn end(&mut self, topic: u32, partition: Option<u32>, mut batch: Batch, outcome: Outcome) {
        let landed = self.landed(topic, partition, &batch, outcome);
        self.resized(topic, batch.memory(), 0);
        let topic = &mut self.topics[topic];
        let stats = &mut self.sinks[topic.sink].stats;
        let count = u64::from(batch.count);
        stats.buffered_rows -= count;
        stats.buffered_bytes -= batch.plain_len as u64;
        match outcome {
            Outcome::Delivered | Outcome::DeadLettered => stats.delivered += count,
            Outcome::Refused(_) => stats.refused += count,
        }
        let fate = match outcome {
            Outcome::Delivered => Fate::Done { base_offset: batch.in_log.base_offset },
            Outcome::DeadLettered => Fate::DeadLettered,
            Outcome::Refused(_) => Fate::Refused,
        };
        let numbers = batch.take_numbers(&mut self.memory.pool);
        self.logging.ends.over(batch.in_log.cut.map(|cut| cut.cut), numbers, fate);
        let tickets = batch.end(&mut self.memory.pool);
        self.outbox.finished.push(Finished { tickets, outcome, at_once: false, landed });
    }

    /// Drains the due acknowledgements, batch by batch in the order in which Kafka settled them.
    pub fn drain_completions(&mut self, mut f: impl FnMut(Run, Outcome)) {
        self.drain_landed(|run, outcome, _| f(run, outcome));
    }

    /// Drains the producer's requests to the wire client.
    pub fn drain_wants(&mut self, mut f: impl FnMut(Want)) {
        self.outbox.wants.drain(..).for_each(&mut f);
        if std::mem::take(&mut self.outbox.refresh) {
            f(Want::Refresh);
        }
    }

    /// Takes out one of the sinks with counters that may have changed.
    pub fn take_changed(&mut self) -> Option<SinkId> {
        self.sinks.take_changed().map(|index| SinkId::of(index as usize))
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
        self.memory.pool.used()
    }

    /// The bound of that memory: `buffer_bytes`, or the sinks' minimum if that is more.
    #[must_use]
    pub const fn buffer_bytes_max(&self) -> usize {
        self.memory.ceilings.limit
    }

    /// The part of that bound that rows leave free for work that frees memory.
    #[must_use]
    pub const fn buffer_bytes_reserved(&self) -> usize {
        self.memory.ceilings.limit - self.memory.ceilings.append
    }

    /// Memory of unused buffers.
    #[must_use]
    pub const fn unused_bytes(&self) -> usize {
        self.memory.pool.unused_bytes()
    }

    /// Memory in use and of unused buffers: never above [`Self::buffer_bytes_max`].
    #[must_use]
    pub const fn memory_bytes(&self) -> usize {
        self.memory.pool.total()
    }

    /// Unanswered requests.
    #[must_use]
    pub fn requests_in_flight(&self) -> usize {
        self.dispatcher.in_flight()
    }

    /// The number of topics held for a sink.
    ///
    /// # Panics
    /// If there is no such sink.
    #[must_use]
    pub fn topics_held(&self, sink: SinkId) -> usize {
        self.sinks[usize::from(sink.0)].topics.len()
    }

    /// The topics held for a sink, each with its number of partitions (0: not known) and the memory of its records in bytes.
    ///
    /// # Panics
    /// If there is no such sink.
    pub fn topics(&self, sink: SinkId) -> impl Iterator<Item = (&str, usize, usize)> {
        let topics = self.sinks[usize::from(sink.0)].topics.iter();
        topics.map(|(_, index)| &self.topics[*index]).map(|topic| (&*topic.name, topic.view.count, topic.memory))
    }

    /// Rows held, of all sinks.
    #[must_use]
    pub fn buffered_rows(&self) -> u64 {
        self.sinks.iter().map(|sink| sink.stats.buffered_rows).sum()
    }
}

/// Whether a batch's refusal is about its topic: then the topic counts as refused for a while.
const fn is_about_topic(code: i16) -> bool {
    matches!(code, FORBIDDEN | INVALID_TOPIC)
}
