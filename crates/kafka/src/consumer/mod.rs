//! The consumer of one Kafka cluster on one shard, sans-I/O: it reads the partitions assigned to it, from a place in the log on, and hands
//! out their records one by one. Requests go out through [`Consumer::take_request`], answers come in through [`Consumer::on_answer`]. It
//! promises:
//!
//! - **Each record once, in order**, for a partition; records of aborted transactions, and control records, are skipped. A record that is
//!   handed out and not taken ([`Consumer::advance`]) is handed out again.
//! - **Bounded.** Fetched data, decompressed data, and the possible answers to requests in flight together take at most
//!   [`Settings::fetch_memory`], besides one piece of a batch: no Fetch is sent if its answer could exceed that. A buffer counts until the
//!   last reference ([`Slice`]) is gone. Records of paused partitions that were not taken make room for others, and are fetched again.
//! - **One Fetch in flight** to each broker and purpose, in a session (KIP-227). A partition is fetched when all its records were taken;
//!   until all records of a broker's partitions were taken or paused, none of its partitions is fetched, because a request that
//!   leaves some out would wait for data of the others while those left out have more.
//! - **Isolation.** An error, a batch that cannot be read, or a leader that cannot be reached affects its partition alone.
//! - **Nothing is trusted.** An inconsistent batch is fetched once more over a new connection; then the partition stops, or skips it. A
//!   truncated log is noticed by its epochs (KIP-320), a recreated topic by its id, a deleted offset by the broker's error: reading goes on
//!   where [`News::Reset`] says.
//!
//! The calls of the owner in a turn:
//!
//! ```text
//! client's events    Cluster: on_cluster · Metadata: on_metadata · Fetch: on_answer
//! peek               each record is taken (advance), or its partition paused until it can be
//! take_want          Metadata: client.watch_metadata · Forget: client.forget_topic · Refresh: client.refresh_metadata
//! take_request       client.fetch, until there is none
//! take_news          for events and logs
//! next_deadline      the next turn at the latest
//! ```
//!
//! Files: `partition`, `fetching` and `topic` are the state; `asking` makes requests, `answers` handles their results, `metadata` follows
//! leaders; `decode`, `unpacked` and `buffer` are the bytes.

mod answers;
#[cfg(feature = "testing")]
pub mod any_answer;
mod asking;
mod batches;
mod buffer;
mod decode;
mod fetching;
mod metadata;
mod news;
mod partition;
mod settings;
mod stats;
mod unpacked;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;

pub use self::batches::Batches;
pub use self::buffer::Slice;
pub use self::decode::{Bad, Position, Record, TimestampType};
pub use self::news::{News, WhyReset, WhyStopped};
pub use self::partition::State;
pub use self::settings::{Assignment, OnBadBatch, Place, Settings, Start};
pub use self::stats::Stats;

use self::asking::Question;
use self::buffer::Account;
use self::fetching::Fetching;
use self::metadata::Topic;
use self::news::Board;
use self::partition::Partition;
use crate::fetch::ReadWay;
use forebay_runtime::seam::Monotonic;

/// Records of one partition that are handed out in a row, if other partitions have records too.
const IN_A_ROW: u32 = 64;

/// `Want` is a request to the client besides fetches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Want {
    /// The topic's metadata, kept fresh, without creating it.
    Metadata(Rc<str>),
    /// No more metadata of the topic, for this consumer: the client shares it with the producer.
    Forget(Rc<str>),
    /// All metadata again, because a leader has moved.
    Refresh,
}

/// Partitions with records, in turn.
#[derive(Debug, Default)]
struct Ready {
    row: VecDeque<u32>,
    /// Number of records of the first partition that were taken in a row.
    in_a_row: u32,
    /// The partition of the record that `peek` returned and `advance` has not taken yet.
    shown: Option<u32>,
}

/// The consumer.
#[derive(Debug)]
pub struct Consumer {
    settings: Settings,
    account: Account,
    rng: fastrand::Rng,
    cluster: Rc<str>,
    partitions: BTreeMap<u32, Partition>,
    topics: BTreeMap<Rc<str>, Topic>,
    fetchings: BTreeMap<ReadWay, Fetching>,
    /// The way of the last Fetch.
    last_way: Option<ReadWay>,
    /// Pending questions about offsets.
    questions: BTreeMap<u64, Question>,
    next_id: u64,
    ready: Ready,
    wants: VecDeque<Want>,
    /// When there may be something to request; in the past, if something has happened.
    wake_at: Monotonic,
    board: Board,
    stats: Stats,
}

impl Consumer {
    /// A consumer without partitions. `seed` is for its jitter.
    #[must_use]
    pub fn new(settings: Settings, seed: u64) -> Self {
        Self {
            settings: settings.bounded(),
            account: Account::default(),
            rng: fastrand::Rng::with_seed(seed),
            cluster: Rc::from(""),
            partitions: BTreeMap::new(),
            topics: BTreeMap::new(),
            fetchings: BTreeMap::new(),
            last_way: None,
            questions: BTreeMap::new(),
            next_id: settings.first_request,
            ready: Ready::default(),
            wants: VecDeque::new(),
            wake_at: Monotonic::NEVER,
            board: Board::default(),
            stats: Stats::default(),
        }
    }

    /// The number of the first request, by which other consumers that share the client know it ([`Settings::first_request`]).
    #[must_use]
    pub const fn first_request(&self) -> u64 {
        self.settings.first_request
    }

    /// The line of its connections ([`Settings::line`]).
    #[must_use]
    pub const fn line(&self) -> u8 {
        self.settings.line
    }

    /// Uses other settings from the next request on.
    pub fn change(&mut self, settings: Settings) {
        self.settings = settings.bounded();
        self.wake();
    }

    /// Assigns a partition under an id that the caller chooses. An id that is in use names the new partition from now on. `false`: the
    /// partition is assigned under another id.
    pub fn assign(&mut self, id: u32, assignment: Assignment) -> bool {
        let (name, index) = (Rc::clone(&assignment.topic), assignment.partition);
        if self.id_of(&name, index).is_some_and(|known| known != id) {
            return false;
        }
        self.unassign(id);
        if !self.topics.contains_key(&name) {
            self.wants.push_back(Want::Metadata(Rc::clone(&name)));
        }
        let topic = self.topics.entry(name).or_default();
        topic.ids.insert(index, id);
        let mut partition = Partition::new(assignment);
        partition.leader = topic.leader(index);
        if partition.leader.node.is_none() && !topic.is_new() {
            // The partition may have been created since.
            self.refresh();
        }
        self.partitions.insert(id, partition);
        self.wake();
        true
    }

    /// Stops reading a partition. Its records that were not taken are dropped.
    pub fn unassign(&mut self, id: u32) {
        let Some(partition) = self.partitions.remove(&id) else { return };
        self.ready.row.retain(|ready| *ready != id);
        let name = partition.assignment.topic;
        if let Some(topic) = self.topics.get_mut(&name) {
            topic.ids.remove(&partition.assignment.partition);
            if topic.ids.is_empty() {
                self.topics.remove(&name);
                self.wants.push_back(Want::Forget(name));
            }
        }
        self.wake();
    }

    /// Pauses a partition: hands out no more of its records, and fetches none, until [`Consumer::resume`].
    pub fn pause(&mut self, id: u32) {
        if let Some(partition) = self.partitions.get_mut(&id) {
            partition.is_paused = true;
            self.wake();
        }
    }

    /// Ends a pause.
    pub fn resume(&mut self, id: u32) {
        if let Some(partition) = self.partitions.get_mut(&id) {
            partition.is_paused = false;
            self.queue(id);
            self.wake();
        }
    }

    /// Reads a partition from another place on, even one that has stopped.
    pub fn seek(&mut self, id: u32, start: Start) {
        if let Some(partition) = self.partitions.get_mut(&id) {
            partition.start(start);
            self.wake();
        }
    }

    /// Returns the next fetched record of any partition that is not paused. It stays the next one until [`Consumer::advance`]. While the
    /// owner cannot take it, [`Consumer::pause`] the partition: otherwise no partition of that broker is fetched.
    pub fn peek(&mut self) -> Option<Record<'_>> {
        self.ready.shown = self.front();
        let id = self.ready.shown?;
        self.partitions.get(&id)?.chunk.as_ref()?.record(id)
    }

    /// Goes past the record that [`Consumer::peek`] returned: it was taken.
    pub fn advance(&mut self) {
        let Some(id) = self.ready.shown.take() else { return };
        let Some(partition) = self.partitions.get_mut(&id) else { return };
        let Some(chunk) = &mut partition.chunk else { return };
        if chunk.advance(&mut partition.position) {
            self.stats.records += 1;
            partition.faults.bad_at = None;
            self.ready.in_a_row += 1;
        }
        if self.ready.in_a_row >= IN_A_ROW && self.ready.row.front() == Some(&id) {
            self.ready.in_a_row = 0;
            self.ready.row.rotate_left(1);
        }
    }

    /// The next news.
    pub fn take_news(&mut self) -> Option<News> {
        self.board.take()
    }

    /// The next want for the client.
    pub fn take_want(&mut self) -> Option<Want> {
        self.wants.pop_front()
    }

    /// When [`Consumer::take_request`] has something to do, if nothing happens earlier.
    #[must_use]
    pub const fn next_deadline(&self) -> Monotonic {
        self.wake_at
    }

    /// The id of a topic with an assigned partition, according to metadata; 0: the broker has none. `None`: nothing is known of the topic.
    #[must_use]
    pub fn topic_id(&self, topic: &str) -> Option<u128> {
        self.topics.get(topic).filter(|topic| !topic.is_new()).map(|topic| topic.id)
    }

    /// A partition's position: the place of the next record that was not taken.
    #[must_use]
    pub fn position(&self, id: u32) -> Option<Position> {
        self.partitions.get(&id).map(|partition| partition.position)
    }

    /// The number of offsets from a partition's position to the end of its replicated log; `None`: not known yet.
    #[must_use]
    pub fn lag(&self, id: u32) -> Option<u64> {
        self.partitions.get(&id)?.lag()
    }

    /// Whether all records of a partition were taken that were readable at its last Fetch.
    #[must_use]
    pub fn has_read_all(&self, id: u32) -> bool {
        let is_read = |partition: &Partition| partition.end.is_some_and(|end| partition.position.offset >= end);
        self.partitions.get(&id).is_some_and(is_read)
    }

    /// The state of a partition.
    #[must_use]
    pub fn state(&self, id: u32) -> Option<State> {
        let partition = self.partitions.get(&id)?;
        let is_missing = self.topics.get(&partition.assignment.topic).is_some_and(Topic::is_missing);
        Some(match partition.state() {
            State::Starting | State::Reading if is_missing => State::Missing,
            state => state,
        })
    }

    /// Counts so far.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let lag = self.partitions.values().filter_map(Partition::lag).sum();
        Stats { lag, news_dropped: self.board.dropped, ..self.stats }
    }

    /// Bytes of fetched data that is still referenced.
    #[must_use]
    pub fn memory(&self) -> usize {
        self.account.used()
    }

    /// Goes on to the next record, past partitions that have none.
    fn front(&mut self) -> Option<u32> {
        loop {
            let id = *self.ready.row.front()?;
            let Some(partition) = self.partitions.get_mut(&id) else {
                self.ready.row.pop_front();
                continue;
            };
            let settled = match &mut partition.chunk {
                Some(chunk) if !partition.is_paused => chunk.settle(&mut partition.position),
                _ => {
                    self.unqueue();
                    continue;
                }
            };
            match settled {
                Ok(true) => return Some(id),
                Ok(false) => self.drained(id),
                Err(bad) => self.bad_batch(id, bad),
            }
            self.unqueue();
            self.wake();
        }
    }

    /// Removes the first partition from the queue.
    fn unqueue(&mut self) {
        self.ready.in_a_row = 0;
        if let Some(partition) = self.ready.row.pop_front().and_then(|id| self.partitions.get_mut(&id)) {
            partition.is_queued = false;
        }
    }

    /// Puts a partition with records into the queue.
    fn queue(&mut self, id: u32) {
        if let Some(partition) = self.partitions.get_mut(&id)
            && partition.chunk.is_some()
            && !partition.is_paused
            && !std::mem::replace(&mut partition.is_queued, true)
        {
            self.ready.row.push_back(id);
        }
    }

    /// Makes [`Consumer::take_request`] look at everything.
    const fn wake(&mut self) {
        self.wake_at = Monotonic(0);
    }

    /// Wants metadata again, once for all requests of a turn.
    fn refresh(&mut self) {
        if self.wants.back() != Some(&Want::Refresh) {
            self.wants.push_back(Want::Refresh);
        }
    }

    fn id_of(&self, topic: &str, partition: i32) -> Option<u32> {
        self.topics.get(topic)?.ids.get(&partition).copied()
    }
}
