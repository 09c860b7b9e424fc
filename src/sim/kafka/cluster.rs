//! Topics, brokers and permissions; the checks that come before those of a producer's sequence, in Kafka's order.

use std::collections::BTreeSet;
use std::rc::Rc;

use super::{Entry, Log};
use crate::kafka::types::{NodeId, ProduceBatch, TopicMetadata};
use crate::record::compression::{Codec, Codecs};
use crate::record::{BatchView, Record, Records};
use crate::sim::plan::DEAD;
use crate::sim::row::{self, Kind};

const UNKNOWN_TOPIC: i16 = 3;
const NOT_LEADER: i16 = 6;
const TOO_LARGE: i16 = 10;
const FEW_REPLICAS: i16 = 19;
const FORBIDDEN: i16 = 29;
const TIMESTAMP: i16 = 32;
const INVALID_RECORD: i16 = 87;
/// `message.timestamp.after.max.ms`.
const AHEAD_MAX_MS: i64 = 3_600_000;

/// A topic.
#[derive(Debug)]
pub(in crate::sim) struct Topic {
    pub(in crate::sim) name: Rc<str>,
    /// Logs of the partitions; empty while the topic is deleted.
    pub(in crate::sim) logs: Vec<Log>,
    /// Number of times that the topic was recreated.
    pub(in crate::sim) made: u32,
    pub(in crate::sim) writing_forbidden: bool,
    pub(in crate::sim) reading_forbidden: bool,
    /// Producers that had batches in flight while the topic was recreated, or while its leader left and came back unnoticed, so
    /// that a later batch was taken first.
    pub(in crate::sim) begun_late: BTreeSet<i64>,
    /// `max.message.bytes`.
    pub(in crate::sim) batch_bytes_max: usize,
    /// Logs of deleted topics.
    pub(in crate::sim) gone: Vec<Vec<Entry>>,
    /// Batches that were lost with a leader.
    pub(in crate::sim) lost: Vec<Entry>,
    /// Whether writing was forbidden at some time, so that a refusal may say so. The next field: whether the topic's
    /// batches were small.
    pub(in crate::sim) was_forbidden: bool,
    pub(in crate::sim) was_small: bool,
}

/// The simulated cluster.
#[derive(Debug)]
pub(in crate::sim) struct Cluster {
    pub(in crate::sim) topics: Vec<Topic>,
    /// Whether the cluster takes topic ids in Produce and Fetch.
    by_id: bool,
    /// Rows above the high watermark of a log that was asked about them and had forgotten their producer: no client could see
    /// them.
    pub(in crate::sim) hidden: BTreeSet<u32>,
    codecs: Codecs,
    appended: u64,
}

/// A batch that was appended now or before, and waits for followers.
#[derive(Clone, Copy, Debug)]
pub(in crate::sim) struct Wait {
    topic: usize,
    made: u32,
    partition: usize,
    base_offset: i64,
    end: i64,
}

/// A broker's response to a batch.
#[derive(Clone, Copy, Debug)]
pub(in crate::sim) enum Appended {
    /// Error code, base offset.
    Answer(i16, i64),
    /// Answered by [`Cluster::waited`].
    Wait(Wait),
}

impl Cluster {
    pub(in crate::sim) fn new(topics: &[&str], leaders: &[Vec<i32>], by_id: bool) -> Self {
        let topic = |(name, leaders): (&&str, &Vec<i32>)| Topic {
            name: Rc::from(*name),
            logs: leaders.iter().map(|leader| Log::new(NodeId(*leader))).collect(),
            made: 0,
            begun_late: BTreeSet::new(),
            writing_forbidden: false,
            reading_forbidden: false,
            batch_bytes_max: usize::MAX,
            gone: Vec::new(),
            lost: Vec::new(),
            was_forbidden: false,
            was_small: false,
        };
        Self {
            topics: topics.iter().zip(leaders).map(topic).collect(),
            by_id,
            hidden: BTreeSet::new(),
            codecs: Codecs::default(),
            appended: 0,
        }
    }

    pub(in crate::sim) fn find(&self, name: &str) -> usize {
        self.topics.iter().position(|topic| *topic.name == *name).expect("a topic of ours")
    }

    fn id(&self, index: usize) -> u128 {
        (index as u128 + 1) << 32 | u128::from(self.topics[index].made)
    }

    /// Whether a topic id (0: addressed by name) is not, or no longer, the id of the topic with this name.
    pub(in crate::sim) fn is_other(&self, name: &str, id: u128) -> bool {
        let index = self.find(name);
        self.by_id && id != 0 && (id != self.id(index) || self.topics[index].logs.is_empty())
    }

    /// Gives a topic its first logs, or new ones.
    pub(in crate::sim) fn make(&mut self, index: usize, mut logs: Vec<Log>) {
        // With topic ids, requests for the old topic never reach the new one.
        logs.iter_mut().for_each(|log| log.anew = !self.by_id);
        self.topics[index].logs = logs;
    }

    /// Number of batches that the cluster has taken.
    pub(in crate::sim) const fn appended(&self) -> u64 {
        self.appended
    }

    /// Handles a batch that reaches a broker.
    pub(in crate::sim) fn produce(
        &mut self,
        node: NodeId,
        batch: &ProduceBatch,
        acks: i16,
        (wall_ms, late): (i64, bool),
    ) -> Appended {
        let index = self.find(&batch.topic);
        let topic = &mut self.topics[index];
        let partition = batch.partition as usize;
        let no = |code| Appended::Answer(code, -1);
        if topic.writing_forbidden {
            return no(FORBIDDEN);
        }
        let Some(log) = topic.logs.get_mut(partition) else { return no(UNKNOWN_TOPIC) };
        if log.leader != Some(node) {
            return no(NOT_LEADER);
        }
        if acks == -1 && log.few {
            return no(FEW_REPLICAS);
        }
        if batch.bytes.len() > topic.batch_bytes_max {
            return no(TOO_LARGE);
        }
        let (view, rest) = BatchView::parse(&batch.bytes).expect("a batch");
        assert!(rest.is_empty() && view.check_crc().is_ok(), "one whole batch");
        let rows = rows_of(&view, &mut self.codecs);
        // These checks come before the check for duplicates.
        if view.header().max_timestamp > wall_ms + AHEAD_MAX_MS {
            return no(TIMESTAMP);
        }
        if index != DEAD && rows.iter().any(|(_, kind, _)| *kind == Kind::Poison) {
            return no(INVALID_RECORD);
        }
        let (first, count) = (view.header().base_sequence, i64::from(view.header().records_count));
        let last = ((i64::from(first) + count - 1) % (1 << 31)) as i32;
        let there = match view.header().producer_id {
            -1 => Ok(None),
            producer => log.check(producer, view.header().producer_epoch, first, last),
        };
        let base_offset = match there {
            Err(code) => return no(code),
            Ok(Some(offset)) => offset,
            Ok(None) => {
                self.appended += 1;
                log.append(Entry {
                    producer: view.header().producer_id,
                    epoch: view.header().producer_epoch,
                    first,
                    last,
                    base_offset: 0,
                    max_timestamp: view.header().max_timestamp,
                    rows: rows.iter().map(|(number, ..)| *number).collect(),
                    times: rows.iter().map(|(.., time)| *time).collect(),
                    place: (index, partition),
                    order: self.appended,
                    late,
                    forgotten: false,
                });
                topic.begun_late.extend(&log.begun_late);
                log.end() - count
            }
        };
        let end = base_offset + count;
        if acks == -1 && log.high < end {
            return Appended::Wait(Wait { topic: index, made: topic.made, partition, base_offset, end });
        }
        Appended::Answer(0, base_offset)
    }

    /// The answer to a batch that waits for followers, once there is one.
    pub(in crate::sim) fn waited(&self, node: NodeId, wait: Wait) -> Option<(i16, i64)> {
        let topic = &self.topics[wait.topic];
        let log = topic.logs.get(wait.partition).filter(|_| topic.made == wait.made);
        match log {
            None => Some((UNKNOWN_TOPIC, -1)),
            Some(log) if log.leader != Some(node) => Some((NOT_LEADER, -1)),
            Some(log) if log.high >= wait.end => Some(if log.few { (20, -1) } else { (0, wait.base_offset) }),
            Some(_) => None,
        }
    }

    pub(in crate::sim) fn metadata(&self, index: usize) -> TopicMetadata {
        let topic = &self.topics[index];
        let error = match () {
            () if topic.writing_forbidden && topic.made % 2 == 1 => FORBIDDEN,
            () if topic.logs.is_empty() => UNKNOWN_TOPIC,
            () => 0,
        };
        let logs = if error == 0 { &topic.logs[..] } else { &[] };
        let id = if error == 0 { self.id(index) } else { 0 };
        TopicMetadata {
            name: Rc::clone(&topic.name),
            id,
            error,
            leaders: logs.iter().map(|log| log.leader).collect(),
            ..Default::default()
        }
    }

    /// All batches that are, or were once, in a log of a topic, grouped by incarnation.
    pub(in crate::sim) fn makings(topic: &Topic) -> impl Iterator<Item = Vec<&Entry>> {
        let now: Vec<&Entry> = topic.logs.iter().flat_map(|log| &log.entries).collect();
        topic.gone.iter().map(|entries| entries.iter().collect()).chain([now])
    }
}

fn rows_of(view: &BatchView<'_>, codecs: &mut Codecs) -> Vec<(u32, Kind, i64)> {
    let body = match view.codec().expect("a codec") {
        Codec::None => view.body(),
        codec => codecs.decompress(codec, view.body(), 1 << 20).expect("of its codec"),
    };
    let records = Records::new(body, view.header().records_count, view.header().base_timestamp)
        .map(|record| record.expect("a record"));
    let read = |record: Record<'_>| {
        let (number, kind) = row::read(record.key, record.value).expect("a row, whole");
        (number, kind, row::time(record.timestamp, record.headers.clone()))
    };
    let rows: Vec<_> = records.map(read).collect();
    assert_eq!(rows.len(), view.header().records_count as usize);
    rows
}
