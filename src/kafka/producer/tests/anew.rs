//! Topics deleted and made anew, with as many partitions, more or fewer: order of a key, nothing lost, nothing twice.

use std::collections::{BTreeMap, BTreeSet};

use super::hand::{Hand, identity, settings, topic, values};
use super::kafka::{Kafka, Stored};
use crate::kafka::murmur2::partition;
use crate::kafka::producer::Settings;
use crate::kafka::types::{NodeId, ProduceRequest, ProduceResult, TopicMetadata};

fn metadata(id: u128, partitions: usize) -> TopicMetadata {
    TopicMetadata { id, ..topic("t", &vec![0; partitions]) }
}

fn gone() -> TopicMetadata {
    TopicMetadata { name: "t".into(), id: 0, error: 3, leaders: Vec::new() }
}

/// A topic "t" of some partitions and id 1, each of them proven.
fn proven(settings: Settings, partitions: usize) -> Hand {
    let mut hand = Hand::new(settings);
    hand.append("t", None);
    hand.poll();
    hand.producer.on_producer_id(0, 7, 0);
    hand.producer.on_metadata(&[metadata(1, partitions)], hand.now);
    let first = hand.one();
    hand.answer(&first, 0);
    for i in 0..partitions {
        hand.append("t", Some(key_of(i, partitions)));
        let request = hand.one();
        assert_eq!(request.batches[0].partition as usize, i);
        hand.answer(&request, 0);
    }
    hand
}

/// A key that belongs to this partition.
fn key_of(wanted: usize, partitions: usize) -> &'static str {
    const KEYS: [&str; 12] = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l"];
    KEYS.into_iter().find(|key| partition(key.as_bytes(), partitions) == wanted).expect("a key")
}

#[test]
fn rows_of_partitions_that_are_gone_are_placed_anew_in_order() {
    let mut hand = proven(settings(), 4);
    let key = key_of(3, 4);
    let first = hand.number;
    // Two batches cut, one that gathers, one row in a partition that stays.
    let mut cut = Vec::new();
    for _ in 0..2 {
        hand.append("t", Some(key));
        cut.push(hand.one());
    }
    hand.answer(&cut[0], 3);
    hand.append("t", Some(key));
    hand.append("t", Some(key_of(0, 4)));
    hand.producer.on_metadata(&[gone()], hand.now);
    assert!(hand.poll().is_empty());
    hand.append("t", Some(key));
    hand.producer.on_metadata(&[metadata(2, 2)], hand.now);
    assert_eq!(hand.stats().placed_anew, 0, "a request of that partition is unanswered");
    hand.append("t", Some(key));
    // The one that stays goes on; everything else waits for it.
    let stays = hand.one();
    assert_eq!((stays.batches[0].partition, values(&stays).len()), (0, 1));
    hand.answer(&stays, 0);
    assert!(hand.poll().is_empty());
    hand.answer(&cut[1], 3);
    assert_eq!((hand.stats().topics_made_anew, hand.stats().placed_anew), (1, 4));
    let mut seen = Vec::new();
    for _ in 0..5 {
        hand.wait_ms(2_000);
        for request in hand.poll() {
            assert_eq!(request.batches[0].partition as usize, partition(key.as_bytes(), 2));
            seen.extend(values(&request));
            hand.answer(&request, 0);
        }
    }
    let rows = [first, first + 1, first + 2, first + 4, first + 5].map(|n| format!("row {n}"));
    assert_eq!(seen, rows);
    assert_eq!((hand.stats().buffered_rows, hand.stats().buffered_bytes), (0, 0));
    assert_eq!(hand.stats().outcome_unknown, 0);
    let mut answered = hand.delivered();
    answered.sort_unstable();
    assert_eq!(answered, (0..hand.number).collect::<Vec<_>>());
}

/// UNKNOWN_TOPIC_OR_PARTITION, NOT_LEADER_OR_FOLLOWER: whatever the old topic's last word was.
#[test]
fn what_is_cut_keeps_its_identity_and_an_idle_partition_begins_an_epoch() {
    [3, 6].into_iter().for_each(what_is_cut_keeps_its_identity);
}

fn what_is_cut_keeps_its_identity(last_word: i16) {
    let mut hand = proven(settings(), 2);
    hand.append("t", Some(key_of(0, 2)));
    let old = hand.one();
    hand.answer(&old, last_word);
    hand.producer.on_metadata(&[metadata(2, 2)], hand.now);
    hand.append("t", Some(key_of(0, 2)));
    hand.wait_ms(1_000);
    let again = hand.one();
    assert_eq!(identity(&again), identity(&old));
    assert!(hand.poll().is_empty(), "alone until it is answered");
    hand.answer(&again, 0);
    hand.append("t", Some(key_of(1, 2)));
    let out = hand.poll();
    let idle: Vec<_> = out.iter().flat_map(|r| r.batches.iter()).filter(|b| b.partition == 1).collect();
    let (view, _) = crate::kafka::batch::BatchView::parse(&idle[0].bytes).expect("a batch");
    assert_eq!((view.header().producer_epoch, view.header().base_sequence), (1, 0));
    assert_eq!((hand.stats().topics_made_anew, hand.stats().placed_anew), (1, 0));
}

#[test]
fn an_answer_from_before_the_growth_changes_nothing() {
    let mut hand = proven(settings(), 2);
    hand.producer.on_metadata(&[metadata(1, 4)], hand.now);
    hand.append("t", Some(key_of(3, 4)));
    let request = hand.one();
    assert_eq!(request.batches[0].partition, 3);
    // From a broker that does not know yet.
    hand.producer.on_metadata(&[metadata(1, 2)], hand.now);
    hand.answer(&request, 0);
    hand.append("t", Some(key_of(3, 4)));
    assert_eq!(hand.one().batches[0].partition, 3);
    assert_eq!((hand.stats().topics_made_anew, hand.stats().placed_anew), (0, 0));
}

#[test]
fn without_ids_fewer_partitions_say_it_and_what_may_be_there_is_counted() {
    let mut hand = Hand::new(settings());
    hand.append("t", None);
    hand.poll();
    hand.producer.on_producer_id(0, 7, 0);
    hand.producer.on_metadata(&[metadata(0, 4)], hand.now);
    let first = hand.one();
    hand.answer(&first, 0);
    hand.append("t", Some(key_of(3, 4)));
    let request = hand.one();
    hand.producer.on_failed(request.id, true, hand.now);
    hand.producer.on_metadata(&[metadata(0, 2)], hand.now);
    let stats = hand.stats();
    assert_eq!((stats.topics_made_anew, stats.placed_anew, stats.outcome_unknown), (1, 1, 1));
    let again = hand.one();
    assert_eq!(values(&again), values(&request));
    hand.answer(&again, 0);
    assert_eq!(hand.stats().buffered_rows, 0);
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// By name; what is asked in one turn goes to one topic.
    Name,
    /// By name; one batch of a window may hear the old topic, the next one the new.
    NameTorn,
    /// By id (Produce 13), in the same way.
    IdTorn,
}

/// A cluster that deletes and makes "t" anew, with what its old logs held.
struct Model {
    kafka: Kafka,
    id: u128,
    count: usize,
    there: bool,
    /// How it is written to, and whether it is made anew between two requests of a turn.
    way: Way,
    /// Values by key in the order in which they were appended, one list for each life of the topic.
    lives: Vec<BTreeMap<String, Vec<(u64, String)>>>,
}

impl Model {
    fn begin(&mut self, count: usize) {
        (self.id, self.count, self.there) = (self.id + 1, count, true);
        self.kafka.create("t", &vec![NodeId(0); count]);
    }

    fn end(&mut self) {
        let mut life: BTreeMap<String, Vec<(u64, String)>> = BTreeMap::new();
        for Stored { key, value, order } in self.kafka.topics.remove("t").into_iter().flatten().flat_map(|l| l.records)
        {
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

    /// All that a poll gave out, in order; some answers are lost.
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
                    false => self.kafka.produce(request.node, "t", batch.partition, &batch.bytes),
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
    let seeds = std::env::var("FOREBAY_SEEDS").ok().and_then(|range| {
        let (from, to) = range.split_once("..")?;
        Some(from.parse().ok()?..to.parse().ok()?)
    });
    let mut moved = 0;
    for seed in seeds.unwrap_or(0..300) {
        moved += one_seed(seed);
    }
    assert!(moved > 100, "too few rows ever lost their partition: {moved}");
}

/// How many rows were placed anew.
fn one_seed(seed: u64) -> u64 {
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut hand = Hand::new(Settings { seed, ..settings() });
    let way = [Way::Name, Way::NameTorn, Way::IdTorn][seed as usize % 3];
    let mut model = Model { kafka: Kafka::default(), id: 0, count: 0, there: false, way, lives: Vec::new() };
    model.begin(rng.usize(1..6));
    hand.producer.on_producer_id(0, 7, 0);
    let mut key_of_row = Vec::new();
    for step in 0..400 {
        hand.wait_ms(rng.u64(..100));
        // The last hundred steps are for coming to rest.
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
            let says = model.kafka.ask(&question);
            hand.producer.on_asked(question.token, says, hand.now);
        }
    }
    hand.poll();
    let stats = hand.stats();
    assert_eq!((stats.buffered_rows, stats.buffered_bytes), (0, 0), "seed {seed}: {stats:?}");
    assert_eq!((stats.delivered, stats.refused), (stats.appended, 0), "seed {seed}");
    assert_eq!(hand.producer.buffered_bytes(), 0, "seed {seed}: memory");
    model.end();
    // Every row was in some life of the topic; in each, a key's rows came once and in order.
    let mut found = BTreeSet::new();
    for life in &model.lives {
        for (key, rows) in life {
            let numbers: Vec<u32> = rows.iter().map(|(_, v)| v["row ".len()..].parse().expect("a number")).collect();
            // By name the new topic may take the younger first: then the older follows it.
            let in_order = numbers.is_sorted_by(|a, b| a < b) || way == Way::NameTorn;
            assert!(in_order, "seed {seed}, {key}: {numbers:?}");
            assert!(numbers.iter().all(|n| key_of_row[*n as usize] == *key), "seed {seed}");
            found.extend(numbers);
        }
    }
    assert_eq!(found.len(), key_of_row.len(), "seed {seed}: lost");
    stats.placed_anew
}

#[test]
fn a_backlog_that_is_half_placed_keeps_its_order() {
    let mut hand = Hand::new(Settings { buffer_bytes: 8 << 20, ..settings() });
    let key = key_of(3, 4);
    let value = |number: u32| format!("{number:0>1000}");
    for number in 0..900 {
        hand.append_value("t", Some(key), value(number).as_bytes());
    }
    hand.poll();
    hand.producer.on_producer_id(0, 7, 0);
    hand.producer.on_metadata(&[metadata(1, 4)], hand.now);
    let request = hand.one();
    hand.answer_and_drop(request, 3);
    hand.producer.on_metadata(&[metadata(2, 2)], hand.now);
    let placed = hand.stats().placed_anew;
    assert!((100..900).contains(&placed) && !placed.is_multiple_of(3), "the middle of a batch: {placed}");
    let mut seen = Vec::new();
    for _ in 0..2_000 {
        hand.wait_ms(1);
        for request in hand.poll() {
            seen.extend(values(&request));
            hand.answer_and_drop(request, 0);
        }
    }
    assert_eq!(seen, (0..900).map(value).collect::<Vec<_>>());
    assert_eq!((hand.stats().buffered_rows, hand.stats().buffered_bytes), (0, 0));
    assert_eq!(hand.producer.buffered_bytes(), 0);
}
