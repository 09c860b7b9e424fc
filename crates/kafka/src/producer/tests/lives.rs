//! Topics that are deleted and recreated repeatedly, by seeds: no row lost, none twice, order of a key.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::recreated::{gone, metadata};
use crate::producer::Settings;
use crate::producer::testing::hand::{Hand, read, settings};
use crate::types::{LogSays, ProduceRequest, ProduceResult, Question, TopicMetadata};
use forebay_record::BatchView;

/// First and last sequence, base offset.
type Taken = (i32, i32, i64);

/// A partition that handles requests at once.
#[derive(Default)]
struct Log {
    /// Key, value, and position in the order of all records of all partitions.
    records: Vec<(Option<Vec<u8>>, Vec<u8>, u64)>,
    /// Id and epoch of the only producer, and its last five batches.
    known: Option<((i64, i16), VecDeque<Taken>)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// By name; all requests of one turn go to one topic.
    Name,
    /// By name; one batch of a window may be answered by the old topic, the next one by the new.
    NameTorn,
    /// By id (Produce 13), in the same way.
    IdTorn,
}

/// A cluster that deletes and recreates "t", with the records of its old logs.
struct Model {
    logs: Vec<Log>,
    appended: u64,
    id: u128,
    count: usize,
    there: bool,
    /// How the topic is written to, and whether it is recreated between two requests of a turn.
    way: Way,
    /// Values by key in the order in which they were appended, one map for each life of the topic.
    lives: Vec<BTreeMap<String, Vec<(u64, String)>>>,
}

impl Model {
    fn begin(&mut self, count: usize) {
        (self.id, self.count, self.there) = (self.id + 1, count, true);
        self.logs = (0..count).map(|_| Log::default()).collect();
    }

    fn end(&mut self) {
        let mut life: BTreeMap<String, Vec<(u64, String)>> = BTreeMap::new();
        for (key, value, order) in self.logs.drain(..).flat_map(|log| log.records) {
            let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
            life.entry(text(key.unwrap_or_default())).or_default().push((order, text(value)));
        }
        life.values_mut().for_each(|rows| rows.sort_unstable());
        self.lives.push(life);
        self.there = false;
    }

    fn metadata(&self) -> TopicMetadata {
        if self.there { metadata(self.id, self.count) } else { gone() }
    }

    /// Appends a batch; returns error code and base offset.
    fn produce(&mut self, partition: i32, bytes: &[u8]) -> (i16, i64) {
        let Some(log) = self.logs.get_mut(partition as usize) else { return (3, -1) };
        let (view, _) = BatchView::parse(bytes).expect("a batch");
        let header = view.header();
        let identity = (header.producer_id, header.producer_epoch);
        let (first, last) = (header.base_sequence, header.base_sequence + header.records_count - 1);
        match log.known.as_mut() {
            Some(known) if identity.1 < known.0.1 => return (47, -1),
            Some(known) if identity == known.0 => {
                if let Some(same) = known.1.iter().find(|batch| (batch.0, batch.1) == (first, last)) {
                    return (0, same.2);
                }
                if known.1.back().is_some_and(|batch| batch.1 + 1 != first) {
                    return (45, -1);
                }
            }
            Some(_) if first != 0 => return (45, -1),
            _ => log.known = Some((identity, VecDeque::new())),
        }
        let offset = log.records.len() as i64;
        if let Some((_, batches)) = log.known.as_mut() {
            batches.push_back((first, last, offset));
            while batches.len() > 5 {
                batches.pop_front();
            }
        }
        for (key, value) in read(&view) {
            self.appended += 1;
            log.records.push((key, value, self.appended));
        }
        (0, offset)
    }

    /// The log's answer to a question; records are never removed from it.
    fn says(&self, question: &Question) -> LogSays {
        let Some(log) = self.logs.get(question.partition as usize) else { return LogSays::Again };
        let behind = question.from.is_some_and(|from| from > log.records.len() as i64);
        let Some(((_, epoch), batches)) = log.known.as_ref() else {
            return if behind { LogSays::Lost } else { LogSays::Next { known: false } };
        };
        let last = batches.back().map_or(-1, |batch| batch.1);
        match epoch.cmp(&question.epoch) {
            Ordering::Greater => LogSays::Fenced { epoch: *epoch },
            Ordering::Equal if question.last_sequences.contains(&last) => LogSays::There { last_sequence: last },
            Ordering::Equal if last + 1 == question.first_sequence => LogSays::Next { known: true },
            Ordering::Less if question.first_sequence == 0 => LogSays::Next { known: true },
            Ordering::Equal | Ordering::Less => LogSays::Lost,
        }
    }

    /// Carries the requests of a poll, in order; some answers are lost.
    fn carry(&mut self, hand: &mut Hand, requests: Vec<ProduceRequest>, rng: &mut fastrand::Rng) {
        for request in requests {
            let mut results = Vec::new();
            match (self.way, rng.u8(..30)) {
                (Way::NameTorn | Way::IdTorn, 0) if self.there => self.end(),
                (Way::NameTorn | Way::IdTorn, 1..10) if !self.there => self.begin(self.count),
                _ => {}
            }
            for batch in &request.batches {
                let other = self.way == Way::IdTorn && batch.topic_id != self.id;
                let (error, base_offset) = match other {
                    true => (100, -1),
                    false => self.produce(batch.partition, &batch.bytes),
                };
                let (topic, partition) = (batch.topic.clone(), batch.partition);
                results.push(ProduceResult { topic, partition, error, base_offset });
            }
            if rng.u8(..10) == 0 {
                hand.producer.on_failed(request.id, true, hand.now);
            } else {
                hand.producer.on_produced(request.id, &results, 0, hand.now);
            }
        }
    }
}

#[test]
fn seeds() {
    let mut moved = 0;
    for seed in forebay_runtime::seam::seeds(300) {
        moved += one_seed(seed);
    }
    assert!(moved > 100, "too few rows ever lost their partition: {moved}");
}

/// Runs one seed; returns how many rows were placed again.
fn one_seed(seed: u64) -> u64 {
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut hand = Hand::new(Settings { seed, ..settings() });
    let way = [Way::Name, Way::NameTorn, Way::IdTorn][seed as usize % 3];
    let mut model = Model { logs: Vec::new(), appended: 0, id: 0, count: 0, there: false, way, lives: Vec::new() };
    model.begin(rng.usize(1..6));
    hand.producer.on_producer_id(0, 7, 0);
    let mut key_of_row = Vec::new();
    for step in 0..400 {
        hand.wait_ms(rng.u64(..100));
        // The last hundred steps have no faults.
        if step < 300 {
            for _ in 0..rng.usize(..4) {
                let key = format!("key {}", rng.u8(..6));
                hand.append("t", Some(&key));
                key_of_row.push(key);
            }
            match rng.u8(..40) {
                0 if model.there => model.end(),
                1 if model.there => {
                    model.end();
                    model.begin(rng.usize(1..6));
                }
                2..10 if !model.there => model.begin(rng.usize(1..6)),
                _ => {}
            }
        } else if !model.there {
            model.begin(rng.usize(1..6));
        }
        if rng.u8(..3) == 0 || step >= 300 {
            hand.producer.on_metadata(&[model.metadata()], hand.now);
        }
        if step >= 300 {
            hand.wait_ms(1_000);
        }
        let requests = hand.poll();
        model.carry(&mut hand, requests, &mut rng);
        for question in hand.take_questions() {
            let says = model.says(&question);
            hand.producer.on_asked(question.token, says, hand.now);
        }
    }
    hand.poll();
    let stats = hand.stats();
    assert_eq!((stats.buffered_rows, stats.buffered_bytes), (0, 0), "seed {seed}: {stats:?}");
    assert_eq!((stats.delivered, stats.refused), (stats.appended, 0), "seed {seed}");
    assert_eq!(hand.producer.buffered_bytes(), 0, "seed {seed}: memory");
    model.end();
    // Every row was in some life of the topic; in each, a key's rows are there once and in order.
    let mut found = BTreeSet::new();
    for life in &model.lives {
        for (key, rows) in life {
            let numbers: Vec<u32> = rows.iter().map(|(_, v)| v["row ".len()..].parse().expect("a number")).collect();
            // By name, the new topic may take the younger row first; then the older follows it.
            let in_order = numbers.is_sorted_by(|a, b| a < b) || way == Way::NameTorn;
            assert!(in_order, "seed {seed}, {key}: {numbers:?}");
            assert!(numbers.iter().all(|n| key_of_row[*n as usize] == *key), "seed {seed}");
            found.extend(numbers);
        }
    }
    assert_eq!(found.len(), key_of_row.len(), "seed {seed}: lost");
    stats.repartitioned
}
