//! The world of the tests: the consumer, and the logs from which brokers answer.

use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use std::time::Duration;

use crate::consumer::{Assignment, Consumer, News, OnBadBatch, Place, Settings, Start, Want};
use crate::fetch::{
    EARLIEST, Fetch, FetchAnswer, FetchAsk, FetchCall, FetchFailure, FetchFrom, Fetched, FetchedPartition, LATEST,
    OffsetAsk, OffsetFound, Purpose,
};
use crate::types::{NodeId, TopicMetadata};
use forebay_record::compression::{Codec, Encoder};
use forebay_record::{Builder, Row, Stamp, stamp};
use forebay_runtime::seam::{Monotonic, WallMs};

/// The log of a partition.
#[derive(Clone, Debug, Default)]
pub(super) struct Log {
    pub(super) start: i64,
    /// Base offset, last offset, and bytes of each batch.
    pub(super) batches: Vec<(i64, i64, Vec<u8>)>,
    pub(super) aborted: Vec<(i64, i64)>,
    /// The first offset of each leader epoch.
    pub(super) epochs: BTreeMap<i32, i64>,
    /// Errors with which the next Fetches of the partition are answered.
    pub(super) errors: VecDeque<i16>,
    /// The most bytes of batches sent, which may cut the last one.
    pub(super) cut: Option<usize>,
}

impl Log {
    pub(super) fn end(&self) -> i64 {
        self.batches.last().map_or(self.start, |(_, last, _)| last + 1)
    }

    /// Appends a batch as a leader of this epoch does.
    pub(super) fn append(&mut self, mut bytes: Vec<u8>, epoch: i32) {
        let (base, delta) = (self.end(), i32::from_be_bytes(bytes[23..27].try_into().expect("four")));
        bytes[..8].copy_from_slice(&base.to_be_bytes());
        bytes[12..16].copy_from_slice(&epoch.to_be_bytes());
        self.epochs.entry(epoch).or_insert(base);
        self.batches.push((base, base + i64::from(delta), bytes));
    }
}

/// A batch of these values; keys are their numbers, timestamps 1000 and up.
pub(super) fn batch_of(values: &[&[u8]], codec: Codec) -> Vec<u8> {
    let mut builder = Builder::new(Vec::new());
    for (i, value) in values.iter().enumerate() {
        let key = i.to_string();
        let headers = [(&b"h"[..], &b"v"[..])].into_iter();
        let row = Row { key: Some(key.as_bytes()), value: Some(value), headers, timestamp: WallMs(1000 + i as i64) };
        builder.append(&row, row.measure());
    }
    let mut encoder = Encoder::new(codec, None, builder.len());
    let mut bytes = builder.close(encoder.as_mut());
    stamp(&mut bytes, Stamp { producer_id: -1, epoch: -1, sequence: -1 });
    bytes
}

pub(super) fn batch(values: &[&str]) -> Vec<u8> {
    let values: Vec<&[u8]> = values.iter().map(|value| value.as_bytes()).collect();
    batch_of(&values, Codec::None)
}

/// A transaction's batch, or its end where `control` is given (the type: 0 aborts, 1 commits).
pub(super) fn transactional(values: &[&str], producer: i64, control: Option<u8>) -> Vec<u8> {
    let mut bytes = match control {
        Some(kind) => {
            let mut builder = Builder::new(Vec::new());
            let key = [0, 0, 0, kind];
            let row = Row { key: Some(&key), value: Some(&[0; 6]), headers: std::iter::empty(), timestamp: WallMs(1) };
            builder.append(&row, row.measure());
            builder.close(None)
        }
        None => batch(values),
    };
    let attributes: i16 = if control.is_some() { 0x30 } else { 0x10 };
    bytes[21..23].copy_from_slice(&attributes.to_be_bytes());
    stamp(&mut bytes, Stamp { producer_id: producer, epoch: 0, sequence: 0 });
    bytes
}

pub(super) fn restamp(bytes: &mut [u8]) {
    let crc = crc32c::crc32c(&bytes[21..]);
    bytes[17..21].copy_from_slice(&crc.to_be_bytes());
}

pub(super) struct World {
    pub(super) consumer: Consumer,
    pub(super) now: Monotonic,
    pub(super) logs: BTreeMap<(String, i32), Log>,
    pub(super) topics: BTreeMap<String, TopicMetadata>,
    /// All calls so far.
    pub(super) calls: Vec<FetchCall>,
    /// Failures of the next calls.
    pub(super) failures: VecDeque<FetchFailure>,
    /// Errors of whole answers.
    pub(super) errors: VecDeque<i16>,
    /// Whether brokers keep sessions.
    pub(super) has_sessions: bool,
    /// Whether calls stay unanswered, in `calls`.
    pub(super) holds: bool,
    pub(super) refreshes: usize,
    sessions: BTreeMap<i32, (i32, Vec<FetchFrom>)>,
    /// The ends of partitions' logs as reported in a session.
    ends: BTreeMap<(i32, String, i32), i64>,
    /// Answers without records, and when they are given.
    waiting: Vec<(Monotonic, u64, FetchAnswer)>,
}

pub(super) fn world() -> World {
    world_of(Settings::default())
}

/// Topic `a` has three partitions, led by nodes 1, 2, 1; `b` has one, led by 2.
pub(super) fn world_of(settings: Settings) -> World {
    let mut world = World {
        consumer: Consumer::new(settings, 5),
        now: Monotonic(1_000_000_000),
        logs: BTreeMap::new(),
        topics: BTreeMap::new(),
        calls: Vec::new(),
        failures: VecDeque::new(),
        errors: VecDeque::new(),
        has_sessions: true,
        holds: false,
        refreshes: 0,
        sessions: BTreeMap::new(),
        ends: BTreeMap::new(),
        waiting: Vec::new(),
    };
    world.topic("a", 7, &[(1, 0), (2, 0), (1, 0)]);
    world.topic("b", 8, &[(2, 0)]);
    world.consumer.on_cluster("cluster");
    world
}

/// Partition 0 of `a`, from its beginning, `read_committed`.
pub(super) fn assignment(topic: &str, partition: i32) -> Assignment {
    Assignment {
        topic: Rc::from(topic),
        partition,
        start: Start::At(Place::Earliest),
        bytes: 1 << 20,
        reset: Place::Earliest,
        committed: true,
        on_bad_batch: OnBadBatch::Stop,
    }
}

impl World {
    /// Sets a topic's metadata: id, and node and epoch of each partition's leader (-1: none).
    pub(super) fn topic(&mut self, name: &str, id: u128, leaders: &[(i32, i32)]) {
        let told = TopicMetadata {
            name: Rc::from(name),
            id,
            error: 0,
            leaders: leaders.iter().map(|(node, _)| (*node >= 0).then_some(NodeId(*node))).collect(),
            leader_epochs: leaders.iter().map(|(_, epoch)| *epoch).collect(),
            replicas: Vec::new(),
        };
        for partition in 0..leaders.len() as i32 {
            self.logs.entry((name.to_owned(), partition)).or_default();
        }
        self.topics.insert(name.to_owned(), told);
    }

    pub(super) fn log(&mut self, topic: &str, partition: i32) -> &mut Log {
        self.logs.get_mut(&(topic.to_owned(), partition)).expect("a log")
    }

    /// Gives the consumer all metadata.
    pub(super) fn metadata(&mut self) {
        let topics: Vec<TopicMetadata> = self.topics.values().cloned().collect();
        self.consumer.on_metadata(&topics, self.now);
    }

    /// Answers the consumer's requests until it has none for now or a record is there.
    pub(super) fn settle(&mut self) {
        for _ in 0..1000 {
            let mut is_quiet = true;
            while let Some(want) = self.consumer.take_want() {
                is_quiet = false;
                match want {
                    Want::Metadata(topic) => {
                        let missing = TopicMetadata { name: Rc::clone(&topic), error: 3, ..Default::default() };
                        let told = self.topics.get(&*topic).cloned().unwrap_or(missing);
                        self.consumer.on_metadata(&[told], self.now);
                    }
                    Want::Refresh => {
                        self.refreshes += 1;
                        self.metadata();
                    }
                    Want::Forget(_) => {}
                }
            }
            while let Some(call) = self.consumer.take_request(self.now) {
                is_quiet = false;
                self.calls.push(call.clone());
                if !self.holds {
                    self.answer(call);
                }
            }
            while let Some(at) = self.waiting.iter().position(|(due, ..)| *due <= self.now) {
                is_quiet = false;
                let (_, id, answer) = self.waiting.remove(at);
                self.consumer.on_answer(id, Ok(answer), self.now);
            }
            if is_quiet || self.consumer.peek().is_some() {
                return;
            }
        }
        panic!("the consumer never comes to rest");
    }

    pub(super) fn answer(&mut self, call: FetchCall) {
        let result = match self.failures.pop_front() {
            Some(failure) => Err(failure),
            None => match &call.ask {
                FetchAsk::Fetch(fetch) => self.fetch(&call, fetch),
                FetchAsk::Offsets(asks, committed) => {
                    Ok(FetchAnswer::Offsets(asks.iter().map(|ask| self.offset(ask, *committed)).collect()))
                }
                FetchAsk::EpochEnds(asks) => {
                    Ok(FetchAnswer::Offsets(asks.iter().map(|ask| self.epoch_end(ask)).collect()))
                }
            },
        };
        match result {
            // A Fetch without records waits at the broker.
            Ok(answer) if is_empty(&answer) => {
                let wait = match &call.ask {
                    FetchAsk::Fetch(fetch) => Duration::from_millis(fetch.max_wait_ms as u64),
                    _ => Duration::ZERO,
                };
                self.waiting.push((self.now.after(wait), call.id, answer));
            }
            result => self.consumer.on_answer(call.id, result, self.now),
        }
    }

    fn leader(&self, topic: &str, partition: i32) -> (Option<NodeId>, i32) {
        let told = &self.topics[topic];
        (told.leaders[partition as usize], told.leader_epochs[partition as usize])
    }

    fn offset(&mut self, ask: &OffsetAsk, _committed: bool) -> OffsetFound {
        let log = &self.logs[&(ask.topic.to_string(), ask.partition)];
        let offset = match ask.at {
            EARLIEST => log.start,
            LATEST => log.end(),
            // Timestamps are 1000 and up in each batch.
            at => log
                .batches
                .iter()
                .find(|(base, last, _)| 1000 + last - base >= at)
                .map_or(-1, |(base, ..)| base + (at - 1000).max(0)),
        };
        OffsetFound { error: 0, offset, leader_epoch: if offset < 0 { -1 } else { 0 } }
    }

    fn epoch_end(&mut self, ask: &OffsetAsk) -> OffsetFound {
        let log = &self.logs[&(ask.topic.to_string(), ask.partition)];
        let epoch = ask.at as i32;
        match log.epochs.range(epoch + 1..).next() {
            Some((_, begins)) => OffsetFound {
                error: 0,
                offset: *begins,
                leader_epoch: log.epochs.range(..=epoch).next_back().map_or(-1, |(epoch, _)| *epoch),
            },
            None if log.epochs.contains_key(&epoch) => OffsetFound { error: 0, offset: log.end(), leader_epoch: epoch },
            None => OffsetFound { error: 0, offset: -1, leader_epoch: -1 },
        }
    }

    fn fetch(&mut self, call: &FetchCall, fetch: &Fetch) -> Result<FetchAnswer, FetchFailure> {
        let mut answer = Fetched { error: self.errors.pop_front().unwrap_or(0), ..Fetched::default() };
        if answer.error != 0 {
            self.sessions.clear();
            return Ok(FetchAnswer::Fetched(answer));
        }
        let asked = match fetch.session {
            (0, epoch) => {
                if self.has_sessions && epoch == 0 {
                    let id = self.sessions.len() as i32 + 1 + 100 * call.id as i32;
                    self.sessions.insert(id, (1, fetch.partitions.clone()));
                    answer.session_id = id;
                }
                fetch.partitions.clone()
            }
            (id, epoch) => {
                let Some((expected, known)) = self.sessions.get_mut(&id) else {
                    return Ok(FetchAnswer::Fetched(Fetched { error: 70, ..answer }));
                };
                assert_eq!(*expected, epoch, "the epoch of session {id}");
                *expected += 1;
                known.retain(|from| {
                    let is_gone = fetch.forgotten.iter().any(|(topic, id, partition)| {
                        (topic, *id, *partition) == (&from.topic, from.topic_id, from.partition)
                    });
                    let is_new =
                        fetch.partitions.iter().any(|new| (&new.topic, new.partition) == (&from.topic, from.partition));
                    !is_gone && !is_new
                });
                known.extend(fetch.partitions.iter().cloned());
                for (topic, _, partition) in &fetch.forgotten {
                    self.ends.remove(&(id, topic.to_string(), *partition));
                }
                answer.session_id = id;
                known.clone()
            }
        };
        let committed = call.way.purpose == Purpose::Committed;
        for from in asked {
            let (leader, epoch) = self.leader(&from.topic, from.partition);
            let is_other = from.topic_id != self.topics[&*from.topic].id;
            let log = self.logs.get_mut(&(from.topic.to_string(), from.partition)).expect("a log");
            let error = log.errors.pop_front().unwrap_or(match () {
                () if is_other => 100,
                () if leader != Some(call.way.node) => 6,
                () if from.leader_epoch >= 0 && from.leader_epoch < epoch => 74,
                () if from.offset < log.start || from.offset > log.end() => 1,
                () => 0,
            });
            let at = answer.frame.len();
            if error == 0 {
                let wanted = log.batches.iter().filter(|(_, last, _)| *last >= from.offset);
                for (_, _, bytes) in wanted {
                    if answer.frame.len() > at && answer.frame.len() - at + bytes.len() > from.bytes_max as usize {
                        break;
                    }
                    answer.frame.extend_from_slice(bytes);
                }
                if let Some(cut) = log.cut {
                    answer.frame.truncate(at + cut);
                }
            }
            if answer.frame.len() > fetch.answer_bytes_max {
                return Err(FetchFailure::TooLarge(answer.frame.len()));
            }
            let told = self.ends.insert((answer.session_id, from.topic.to_string(), from.partition), log.end());
            if error == 0 && answer.frame.len() == at && fetch.session.0 != 0 && told == Some(log.end()) {
                continue;
            }
            let records = at..answer.frame.len();
            answer.partitions.push(FetchedPartition {
                topic_id: if fetch.is_by_id { from.topic_id } else { 0 },
                topic: 0..0,
                partition: from.partition,
                error,
                high_watermark: if error == 0 { log.end() } else { -1 },
                last_stable_offset: log.end(),
                aborted: if committed { log.aborted.clone() } else { Vec::new() },
                records,
            });
        }
        Ok(FetchAnswer::Fetched(answer))
    }

    /// Takes all records, as `id@offset=value`, until none arrives for some seconds.
    pub(super) fn read(&mut self) -> Vec<String> {
        let mut got = Vec::new();
        let end = self.now.after(Duration::from_secs(5));
        while self.now < end {
            self.settle();
            while let Some(record) = self.consumer.peek() {
                let value = String::from_utf8_lossy(record.value.unwrap_or_default()).into_owned();
                got.push(format!("{}@{}={value}", record.id, record.offset));
                self.consumer.advance();
            }
            self.now = self.now.after(Duration::from_millis(100));
        }
        got
    }

    pub(super) fn news(&mut self) -> Vec<News> {
        std::iter::from_fn(|| self.consumer.take_news()).collect()
    }

    /// The Fetches so far.
    pub(super) fn fetches(&self) -> Vec<(&FetchCall, &Fetch)> {
        let fetch = |call: &'_ FetchCall| matches!(call.ask, FetchAsk::Fetch(_));
        self.calls
            .iter()
            .filter(|call| fetch(call))
            .filter_map(|call| match &call.ask {
                FetchAsk::Fetch(fetch) => Some((call, fetch)),
                _ => None,
            })
            .collect()
    }
}

fn is_empty(answer: &FetchAnswer) -> bool {
    match answer {
        FetchAnswer::Fetched(fetched) => {
            fetched.error == 0 && fetched.partitions.iter().all(|told| told.error == 0 && told.records.is_empty())
        }
        FetchAnswer::Offsets(_) => false,
    }
}
