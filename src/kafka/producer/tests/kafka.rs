//! A model of Kafka: what a cluster does with record batches, producer ids and sequences (tried on 4.3.1; the table in
//! `docs` says how). Nothing of the producer is used but the batch reader.

use std::collections::{BTreeMap, HashMap, VecDeque};

use crate::kafka::batch::{BatchView, Records};
use crate::kafka::compression::{Codec, Codecs};
use crate::kafka::types::{LogSays, NodeId, Question, WhyNot};

/// One stored record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Stored {
    pub(super) key: Option<Vec<u8>>,
    pub(super) value: Vec<u8>,
    /// When it was appended, among all records of all partitions.
    pub(super) order: u64,
}

#[derive(Debug)]
struct KnownProducer {
    epoch: i16,
    /// First and last sequence, base offset; the last five.
    batches: VecDeque<(i32, i32, i64)>,
    max_timestamp: i64,
}

/// A partition's log and what its leader remembers.
#[derive(Debug)]
pub(super) struct Log {
    pub(super) leader: NodeId,
    pub(super) records: Vec<Stored>,
    producers: HashMap<i64, KnownProducer>,
    /// Producer id, epoch, last sequence of every batch.
    batches: Vec<(i64, i16, i32)>,
}

/// The cluster.
#[derive(Debug, Default)]
pub(super) struct Kafka {
    pub(super) topics: BTreeMap<String, Vec<Log>>,
    appended: u64,
}

/// A value that no broker of this model takes: INVALID_RECORD for the whole batch.
pub(super) const POISON: &[u8] = b"poison";

fn next_sequence(sequence: i32) -> i32 {
    if sequence == i32::MAX { 0 } else { sequence + 1 }
}

impl Kafka {
    pub(super) fn create(&mut self, topic: &str, leaders: &[NodeId]) {
        let logs = self.topics.entry(topic.to_owned()).or_default();
        for leader in &leaders[logs.len()..] {
            logs.push(Log { leader: *leader, records: Vec::new(), producers: HashMap::new(), batches: Vec::new() });
        }
    }

    /// A Produce request's batch reaches a broker: error code and base offset.
    pub(super) fn produce(&mut self, node: NodeId, topic: &str, partition: i32, bytes: &[u8]) -> (i16, i64) {
        let log = self.topics.get_mut(topic).and_then(|logs| logs.get_mut(partition as usize));
        let Some(log) = log else { return (3, -1) };
        if log.leader != node {
            return (6, -1);
        }
        let (view, rest) = BatchView::parse(bytes).expect("a batch");
        assert!(rest.is_empty(), "one batch a partition");
        if view.check_crc().is_err() {
            return (2, -1);
        }
        let records = read(&view);
        assert_eq!(records.len(), view.header().records_count as usize);
        // Such checks come before the one for duplicates.
        if records.iter().any(|(_, value)| value == POISON) {
            return (87, -1);
        }
        let first = view.header().base_sequence;
        let last = ((i64::from(first) + i64::from(view.header().records_count) - 1) % (1 << 31)) as i32;
        let offset = log.records.len() as i64;
        match log.producers.get_mut(&view.header().producer_id) {
            None => {
                let batches = VecDeque::from([(first, last, offset)]);
                let known = KnownProducer { epoch: view.header().producer_epoch, batches, max_timestamp: 0 };
                log.producers.insert(view.header().producer_id, known);
            }
            Some(known) if view.header().producer_epoch < known.epoch => return (47, -1),
            Some(known) if view.header().producer_epoch > known.epoch => {
                if first != 0 {
                    return (45, -1);
                }
                known.epoch = view.header().producer_epoch;
                known.batches = VecDeque::from([(first, last, offset)]);
            }
            Some(known) => {
                if let Some(same) = known.batches.iter().find(|batch| (batch.0, batch.1) == (first, last)) {
                    return (0, same.2);
                }
                if known.batches.back().is_some_and(|batch| next_sequence(batch.1) != first) {
                    return (45, -1);
                }
                known.batches.push_back((first, last, offset));
                if known.batches.len() > 5 {
                    known.batches.pop_front();
                }
            }
        }
        if let Some(known) = log.producers.get_mut(&view.header().producer_id) {
            known.max_timestamp = view.header().max_timestamp;
        }
        log.batches.push((view.header().producer_id, view.header().producer_epoch, last));
        for (key, value) in records {
            self.appended += 1;
            log.records.push(Stored { key, value, order: self.appended });
        }
        (0, offset)
    }

    /// What a partition's log says to a question (all of it is replicated at once).
    pub(super) fn ask(&self, question: &Question) -> LogSays {
        let logs = self.topics.get(&*question.topic);
        let Some(log) = logs.and_then(|logs| logs.get(question.partition as usize)) else { return LogSays::Again };
        if log.leader != question.node {
            return LogSays::Again;
        }
        let (id, epoch) = (question.producer_id, question.epoch);
        let wanted =
            |batch: &&(i64, i16, i32)| (batch.0, batch.1) == (id, epoch) && question.last_sequences.contains(&batch.2);
        if let Some((_, _, last_sequence)) = log.batches.iter().rfind(wanted) {
            return LogSays::There { last_sequence: *last_sequence };
        }
        match log.producers.get(&id) {
            None if question.from.is_none() && question.first_sequence != 0 => LogSays::CannotTell(WhyNot::Retained),
            None => LogSays::Next { known: false },
            Some(known) if known.epoch > epoch => LogSays::Fenced { epoch: known.epoch },
            Some(known) if known.epoch < epoch && question.first_sequence == 0 => LogSays::Next { known: true },
            Some(known) if known.epoch == epoch => match known.batches.back() {
                Some(newest) if next_sequence(newest.1) == question.first_sequence => LogSays::Next { known: true },
                _ => LogSays::Lost,
            },
            Some(_) => LogSays::Lost,
        }
    }

    /// A clean restart of a broker: of each producer only the last batch is remembered.
    pub(super) fn restart(&mut self, node: NodeId) {
        for log in self.topics.values_mut().flatten().filter(|log| log.leader == node) {
            for known in log.producers.values_mut() {
                let last = known.batches.pop_back();
                known.batches = last.into_iter().collect();
            }
        }
    }

    /// The check of every ten minutes: producers are forgotten by the record time of their last batch.
    pub(super) fn expire(&mut self, wall_ms: i64) {
        for log in self.topics.values_mut().flatten() {
            log.producers.retain(|_, known| wall_ms - known.max_timestamp < 24 * 3_600_000);
        }
    }

    pub(super) fn leaders(&self, topic: &str) -> Option<Vec<Option<NodeId>>> {
        self.topics.get(topic).map(|logs| logs.iter().map(|log| Some(log.leader)).collect())
    }
}

pub(super) fn read(view: &BatchView<'_>) -> Vec<(Option<Vec<u8>>, Vec<u8>)> {
    let mut codecs = Codecs::default();
    let body = match view.codec().expect("a codec") {
        Codec::None => view.body(),
        codec => codecs.decompress(codec, view.body(), 1 << 20).expect("of its codec"),
    };
    let records = Records::new(body, view.header().records_count, view.header().base_timestamp);
    records
        .map(|record| record.expect("a record"))
        .map(|record| (record.key.map(<[u8]>::to_vec), record.value.unwrap_or_default().to_vec()))
        .collect()
}
