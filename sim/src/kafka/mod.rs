//! One Kafka cluster: brokers, topics, partitions with replicas, and everything that an operator or a failure does to
//! them. Semantics as observed on Apache Kafka 4.3.1. The cluster's interface is bytes ([`front`]).

mod brokers;
pub(crate) mod cleaner;
mod consuming;
pub(crate) mod coordinator;
mod entry;
pub(crate) mod foreign;
pub mod front;
pub(crate) mod groups;
pub mod partition;
mod questions;
pub(crate) mod waiting;

use std::collections::{BTreeMap, HashMap, HashSet};

pub use self::entry::{Entry, Row, State};
pub use self::partition::Partition;
use crate::time::{MS, wall_ms};
use forebay_kafka::model::Identities;
pub use forebay_kafka::model::REMEMBERED;

/// The contents of a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Holds {
    /// Messages of devices, each with its number.
    Messages,
    /// Retained messages of `[broker]`: the cleaner leaves the newest record of each key.
    Retained,
    /// Logs of sessions of `[broker]`: compacted here as well, and the timestamp of a record is its broker's.
    Sessions,
}

/// A topic.
#[derive(Debug)]
pub struct Topic {
    /// The topic's id.
    pub id: u128,
    /// The topic's partitions.
    pub partitions: Vec<Partition>,
    /// Whether writing is forbidden.
    pub writing_forbidden: bool,
    /// Whether reading is forbidden.
    pub reading_forbidden: bool,
    /// `max.message.bytes`.
    pub batch_bytes_max: usize,
    /// Whether records with a timestamp are refused.
    pub timeless: bool,
    /// The contents of the topic.
    pub holds: Holds,
    /// Time at which the topic last grew or was recreated; 0: never.
    pub changed_at: u64,
}

/// A broker.
#[derive(Clone, Copy, Debug, Default)]
pub struct Broker {
    /// Whether the broker's process has ended.
    pub down: bool,
    /// Whether the broker takes its input and does nothing.
    pub frozen: bool,
    /// Whether the controller has fenced the broker.
    pub fenced: bool,
    /// Number of changes of these flags: a later change cancels an earlier task.
    changes: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Task {
    Replicate,
    /// Hanging followers leave the in-sync replicas.
    Shrink(i32, u32),
    /// The controller fences a broker.
    Fence(i32, u32),
    /// Time passes for groups of consumers.
    Groups,
}

/// Rates of faults of single requests, in thousandths.
#[derive(Clone, Copy, Debug, Default)]
pub struct Flaky {
    /// A retriable error before any effect.
    pub before: u32,
    /// An error although the batch was appended.
    pub after: u32,
    /// A throttle time.
    pub throttle: u32,
    /// InitProducerId fails.
    pub no_id: u32,
}

/// A Kafka cluster.
#[derive(Debug)]
pub struct Cluster {
    /// The brokers' address.
    pub host: String,
    /// The cluster's id.
    pub id: String,
    /// Whether the cluster takes topic ids in Produce and Fetch.
    pub by_id: bool,
    /// Whether metadata has leader epochs, and DescribeProducers is supported.
    pub modern: bool,
    /// Brokers by node id, from 1 on.
    pub brokers: Vec<Broker>,
    /// Topics by name.
    pub topics: BTreeMap<String, Topic>,
    /// Every batch that was ever appended.
    pub entries: Vec<Entry>,
    /// Batches with a row of a message and a sink, by place in `entries`.
    pub rows: HashMap<(u32, u8), Vec<usize>>,
    /// Number of partitions of a topic that is created on request.
    pub partitions: usize,
    /// Number of replicas of each partition.
    pub replicas: usize,
    /// `min.insync.replicas`.
    pub min_in_sync: usize,
    /// Faults of single requests.
    pub flaky: Flaky,
    /// `retention.ms`.
    pub retention_ms: i64,
    /// The longest time that a follower needs.
    pub replication: u64,
    /// Whether topics are created when a request names them.
    pub auto_create: bool,
    agenda: BTreeMap<(u64, u64), Task>,
    next_task: u64,
    next_topic: u128,
    next_producer: i64,
    /// The cluster's own random stream.
    pub rng: fastrand::Rng,
    codecs: forebay::record::compression::Codecs,
    /// Rows above the high watermark of a partition when it forgot their producer: no client can know of them.
    pub hidden: HashSet<(u32, u8)>,
    /// Rows in batches that were refused for good at least once.
    pub refused_rows: HashSet<(u32, u8)>,
    /// Whether arrivals of rows are noted.
    pub notes_arrivals: bool,
    /// Times at which rows first came in a batch, by process and message.
    pub arrived: HashMap<(u32, u32), u64>,
    names: HashSet<String>,
    /// Number of questions about logs that were answered.
    pub asked: u64,
    /// Number of Produce requests.
    pub produced: u64,
    /// Rows without a time, neither a timestamp nor a header.
    pub rows_without_time: Vec<(u32, u8)>,
    /// Logs of recreated topics that took a later batch of a producer first, from a late request that went by name.
    pub began_late: HashSet<(String, u128)>,
    /// Throttle time in the next Produce answer, in milliseconds.
    pub throttle_next: Option<i32>,
    /// Whether reading is forbidden for all topics, for the whole run.
    pub unreadable: bool,
    /// Whether batches are appended without an answer.
    pub says_nothing: bool,
    /// Digest of the requests, each with its connection and broker.
    pub(crate) seen: crate::digest::Seen,
    /// Number of requests by API key.
    pub calls: BTreeMap<i16, u64>,
    /// Client id of the last request.
    pub client_id: String,
    /// Number of attempted connections.
    pub dialled: u64,
    /// State for consumers, if the cluster serves them.
    consumers: Option<Box<consuming::Consumers>>,
    /// Transactional ids.
    pub(crate) identities: Identities,
    /// Lead of each broker's clock, in milliseconds; empty: all clocks are right.
    pub(crate) clocks: Vec<i64>,
}

impl Cluster {
    /// A cluster of `brokers` brokers.
    #[must_use]
    pub fn new(host: &str, id: &str, brokers: usize, rng: fastrand::Rng) -> Self {
        Self {
            host: host.to_owned(),
            id: id.to_owned(),
            by_id: true,
            modern: true,
            brokers: vec![Broker::default(); brokers],
            topics: BTreeMap::new(),
            entries: Vec::new(),
            rows: HashMap::new(),
            partitions: 3,
            replicas: brokers.min(3),
            min_in_sync: 1,
            flaky: Flaky::default(),
            retention_ms: 7 * 24 * 3_600_000,
            replication: MS,
            auto_create: true,
            agenda: BTreeMap::new(),
            next_task: 0,
            next_topic: 1,
            // Producer ids of two clusters do not coincide by accident.
            next_producer: 1_000,
            rng,
            codecs: forebay::record::compression::Codecs::default(),
            hidden: HashSet::new(),
            refused_rows: HashSet::new(),
            notes_arrivals: false,
            arrived: HashMap::new(),
            names: HashSet::new(),
            asked: 0,
            produced: 0,
            rows_without_time: Vec::new(),
            began_late: HashSet::new(),
            throttle_next: None,
            unreadable: false,
            says_nothing: false,
            seen: Default::default(),
            calls: BTreeMap::new(),
            client_id: String::new(),
            dialled: 0,
            consumers: None,
            identities: Identities::default(),
            clocks: Vec::new(),
        }
    }

    /// A broker, by node id.
    #[must_use]
    pub fn broker(&self, node: i32) -> Broker {
        self.brokers.get((node - 1) as usize).copied().unwrap_or_default()
    }

    fn broker_mut(&mut self, node: i32) -> &mut Broker {
        let broker = &mut self.brokers[(node - 1) as usize];
        broker.changes += 1;
        broker
    }

    /// Whether a broker works.
    #[must_use]
    pub fn works(&self, node: i32) -> bool {
        let broker = self.broker(node);
        !broker.down && !broker.frozen
    }

    fn later(&mut self, at: u64, task: Task) {
        self.next_task += 1;
        self.agenda.insert((at, self.next_task), task);
    }

    /// Time of the next due task.
    #[must_use]
    pub fn next_at(&self) -> Option<u64> {
        self.agenda.first_key_value().map(|((at, _), _)| *at)
    }

    /// Carries out the due tasks.
    pub fn run(&mut self, time: u64) {
        while let Some(((at, number), task)) = self.agenda.pop_first() {
            if at > time {
                self.agenda.insert((at, number), task);
                return;
            }
            match task {
                Task::Replicate => self.replicate(),
                Task::Groups => self.run_groups(time),
                Task::Shrink(node, changes) if self.broker(node).changes == changes => {
                    self.all_partitions().for_each(|partition| partition.drop_out(node));
                }
                Task::Fence(node, changes) if self.broker(node).changes == changes => self.fence(node, time),
                Task::Shrink(..) | Task::Fence(..) => {}
            }
        }
    }

    fn all_partitions(&mut self) -> impl Iterator<Item = &mut Partition> {
        self.topics.values_mut().flat_map(|topic| &mut topic.partitions)
    }

    fn replicate(&mut self) {
        let brokers = self.brokers.clone();
        let works = |node: i32| brokers.get((node - 1) as usize).is_some_and(|b| !b.down && !b.frozen);
        self.all_partitions().for_each(|partition| partition.replicate(works));
    }

    /// Schedules a Fetch of the followers.
    fn replicate_later(&mut self, time: u64) {
        let wait = self.rng.u64(..=self.replication);
        self.later(time + wait, Task::Replicate);
    }

    /// Creates a topic with these partitions.
    pub fn create(&mut self, name: &str, partitions: usize, time: u64) {
        let id = self.next_topic << 64 | 0x5157;
        self.next_topic += 1;
        let partitions = (0..partitions).map(|index| self.new_partition(index)).collect();
        let topic = Topic {
            id,
            partitions,
            writing_forbidden: false,
            reading_forbidden: self.unreadable,
            batch_bytes_max: usize::MAX,
            timeless: false,
            holds: Holds::Messages,
            // A topic with a new name has no earlier incarnation that rows could be for.
            changed_at: if self.names.insert(name.to_owned()) { 0 } else { time },
        };
        self.topics.insert(name.to_owned(), topic);
    }

    fn new_partition(&self, index: usize) -> Partition {
        let count = self.brokers.len();
        let replicas = (0..self.replicas.min(count)).map(|replica| 1 + ((index + replica) % count) as i32);
        let mut partition = Partition::new(replicas.collect());
        for replica in partition.replicas.clone() {
            if !self.works(replica) && partition.in_sync.len() > 1 {
                partition.in_sync.remove(&replica);
            }
        }
        partition.leader = partition.replicas.iter().copied().find(|replica| self.works(*replica));
        partition
    }

    /// Puts a batch of another client into a log: for scripts.
    pub fn append_foreign(&mut self, name: &str, mut entry: Entry) {
        // The batch's producer id was given out, and belongs to no one else.
        self.next_producer = self.next_producer.max(entry.producer);
        let place = self.entries.len();
        if let Some(partition) = self.topics.get_mut(name).and_then(|topic| topic.partitions.get_mut(entry.place.2)) {
            entry.count = entry.last - entry.first + 1;
            partition.append(place, &mut entry);
            self.entries.push(entry);
        }
    }

    /// Deletes a topic with all its contents.
    pub fn delete(&mut self, name: &str) {
        let Some(topic) = self.topics.remove(name) else { return };
        for place in topic.partitions.into_iter().flat_map(|partition| partition.entries) {
            self.entries[place].state = State::Deleted;
        }
    }

    /// Adds a partition to a topic.
    pub fn grow(&mut self, name: &str, time: u64) {
        let Some(count) = self.topics.get(name).map(|topic| topic.partitions.len()) else { return };
        let partition = self.new_partition(count);
        if let Some(topic) = self.topics.get_mut(name) {
            topic.partitions.push(partition);
            topic.changed_at = time;
        }
    }

    fn partition(&self, name: &str, index: usize) -> Option<&Partition> {
        self.topics.get(name)?.partitions.get(index)
    }

    /// Makes the followers of a partition stop following, or follow again.
    pub fn slow(&mut self, name: &str, index: usize, slow: bool, time: u64) {
        if let Some(partition) = self.topics.get_mut(name).and_then(|topic| topic.partitions.get_mut(index)) {
            partition.slow = slow;
            self.replicate_later(time);
        }
    }

    /// Makes partitions forget producers by the time of their records.
    pub fn forget_producers(&mut self, time: u64) {
        let mut hidden = Vec::new();
        for partition in self.topics.values_mut().flat_map(|topic| &mut topic.partitions) {
            partition.producers.forget(wall_ms(time));
            let above = partition.entries.iter().map(|place| &self.entries[*place]);
            let above =
                above.filter(|entry| entry.end() > partition.high && !partition.producers.knows(entry.producer));
            hidden.extend(above.flat_map(|entry| entry.rows.iter().map(|row| (row.message, row.sink))));
        }
        self.hidden.extend(hidden);
    }

    /// Retention by time: removes whole batches with a newest timestamp that is too old from the front.
    pub fn retain(&mut self, time: u64) {
        let (now, retention) = (wall_ms(time), self.retention_ms);
        for topic in self.topics.values_mut() {
            for partition in &mut topic.partitions {
                while let Some(place) = partition.entries.get(partition.start) {
                    let entry = &mut self.entries[*place];
                    // Records without a timestamp have the time of the file, which is the time of the append.
                    let newest = if entry.max_timestamp < 0 { wall_ms(entry.time) } else { entry.max_timestamp };
                    if entry.end() > partition.high || now - newest <= retention {
                        break;
                    }
                    let due = now - wall_ms(entry.time) > retention;
                    entry.state = if due { State::Retained } else { State::DeletedEarly };
                    partition.start += 1;
                }
            }
        }
    }

    /// Whether a partition can take a row now and will answer for it: leader and all in-sync replicas work, and the
    /// topic refuses nothing.
    #[must_use]
    pub fn takes_rows(&self, topic: &Topic, partition: &Partition) -> bool {
        let refuses = topic.writing_forbidden || topic.timeless || topic.batch_bytes_max < usize::MAX;
        !refuses
            && partition.leader.is_some_and(|leader| self.works(leader))
            && partition.in_sync.len() >= self.min_in_sync
            && partition.in_sync.iter().all(|replica| self.works(*replica))
            && !partition.slow
    }

    /// Notes since when each partition has been healthy. Called often.
    pub fn note_health(&mut self, time: u64) {
        let topics = std::mem::take(&mut self.topics);
        let mut noted = topics;
        for topic in noted.values_mut() {
            let health: Vec<bool> = topic.partitions.iter().map(|p| self.takes_rows(topic, p)).collect();
            for (partition, healthy) in topic.partitions.iter_mut().zip(health) {
                partition.healthy_since = healthy.then(|| partition.healthy_since.unwrap_or(time));
            }
        }
        self.topics = noted;
    }

    /// Copies of a message of a sink, in the order of their appends.
    pub fn copies(&self, message: u32, sink: u8) -> impl Iterator<Item = &Entry> {
        self.rows.get(&(message, sink)).into_iter().flatten().map(|place| &self.entries[*place])
    }

    /// Whether a batch is in a log, below its high watermark, or was before an operator deleted it.
    #[must_use]
    pub fn is_replicated(&self, entry: &Entry) -> bool {
        match entry.state {
            State::Lost => false,
            State::Deleted | State::Retained | State::DeletedEarly | State::Compacted => true,
            State::There => {
                let topic = self.topics.get(&entry.place.0);
                topic.and_then(|topic| topic.partitions.get(entry.place.2)).is_some_and(|p| entry.end() <= p.high)
            }
        }
    }
}
