//! A topic or sink with rows that cannot leave keeps its share of the memory, and no more.

use crate::producer::testing::hand::{Hand, SINK, settings, topic, values};
use crate::producer::{Full, Refusal, Row, Settings};
use crate::types::{SinkId, Ticket, TopicMetadata};
use forebay_record::murmur2;

const ROW: usize = 1_000;

/// Checks that the memory of topics and sinks is that of their batches.
pub(super) fn check_account(hand: &Hand) {
    let mut of_sinks = vec![0; hand.producer.sinks.len()];
    for topic in hand.producer.topics.iter() {
        let placed = topic.partitions.iter().flat_map(|partition| &partition.work).flat_map(|work| &work.queue);
        let sum: usize = placed.chain(&topic.unplaced.queue).map(super::super::Batch::memory).sum();
        assert_eq!(topic.memory, sum, "{}", topic.name);
        of_sinks[topic.sink] += sum;
    }
    let noted: Vec<usize> = hand.producer.sinks.iter().map(|sink| sink.memory).collect();
    assert_eq!(noted, of_sinks);
}

fn of_two_sinks() -> Settings {
    let mut settings = settings();
    settings.sinks.push(settings.sinks[0].clone());
    settings
}

/// Appends rows of a topic until a limit is reached, and returns it.
fn fill(hand: &mut Hand, sink: SinkId, name: &str) -> Full {
    for number in 0..10_000 {
        let known = hand.producer.check(sink, name, ROW + 100).expect("no refusal");
        if let Err(full) = hand.producer.share(sink, known, ROW + 100) {
            return full;
        }
        if !hand.producer.has_room(ROW + 100) {
            return Full::Memory;
        }
        let value = [b'x'; ROW];
        let row = Row { key: None, value: Some(&value), headers: std::iter::empty(), timestamp: hand.wall() };
        hand.producer.append(sink, name, row, Some(Ticket { session: 9, number }), hand.now);
        check_account(hand);
    }
    panic!("never full");
}

fn used(hand: &Hand) -> usize {
    100 * hand.producer.buffered_bytes() / hand.producer.memory.ceilings.append
}

fn unknown(name: &str) -> TopicMetadata {
    TopicMetadata { name: name.into(), error: 3, ..Default::default() }
}

#[test]
fn a_dead_topic_holds_its_part_and_another_flows() {
    let mut hand = Hand::proven(settings());
    assert!(matches!(fill(&mut hand, SINK, "dead"), Full::Topic(_)));
    assert!((34..=40).contains(&used(&hand)), "{}", used(&hand));
    hand.poll();
    hand.producer.on_metadata(&[unknown("dead")], hand.now);
    for _ in 0..1_000 {
        let known = hand.producer.check(SINK, "t", ROW).expect("no refusal");
        assert_eq!(hand.producer.share(SINK, known, ROW), Ok(()));
        hand.append_value("t", None, &[b'x'; ROW - 200]);
        let request = hand.one();
        hand.answer(&request, 0);
    }
    hand.producer.on_metadata(&[topic("dead", &[0])], hand.now);
    let mut rows = 0;
    while hand.producer.buffered_rows() > 0 {
        for request in hand.poll() {
            rows += values(&request).len();
            hand.answer_and_drop(request, 0);
            check_account(&hand);
        }
    }
    assert!(rows > 200, "{rows}");
    let known = hand.producer.check(SINK, "dead", ROW).expect("no refusal");
    assert_eq!(hand.producer.share(SINK, known, ROW), Ok(()));
}

#[test]
fn however_many_are_dead_something_is_left() {
    let mut hand = Hand::proven(settings());
    for number in 0..10 {
        fill(&mut hand, SINK, &format!("dead-{number}"));
    }
    assert!((80..=93).contains(&used(&hand)), "{}", used(&hand));
    assert_eq!(hand.producer.share(SINK, Some(super::super::TopicId(0)), ROW), Ok(()), "the one that lives");
    assert!(hand.producer.has_room(ROW));
}

#[test]
fn a_sink_with_many_dead_topics_is_one_for_the_other() {
    let mut hand = Hand::new(of_two_sinks());
    let mut last = Full::Memory;
    for number in 0..200 {
        last = fill(&mut hand, SINK, &format!("dead-{number}"));
    }
    assert_eq!(last, Full::Sink(SINK), "its part is used up");
    assert!((34..=41).contains(&used(&hand)), "{}", used(&hand));
    assert_eq!(hand.producer.share(SinkId(1), None, ROW), Ok(()));
    assert!(hand.producer.may_go_on(Full::Sink(SinkId(1)), ROW));
    assert!(!hand.producer.may_go_on(Full::Sink(SINK), 2 * ROW));
}

#[test]
fn who_waits_for_a_topic_goes_on_when_its_rows_have_gone() {
    let mut hand = Hand::new(settings());
    let full = fill(&mut hand, SINK, "t");
    assert!(!hand.producer.may_go_on(full, ROW + 100));
    let before = hand.producer.freed();
    hand.poll();
    hand.producer.on_metadata(&[TopicMetadata { error: 29, ..unknown("t") }], hand.now);
    assert_ne!(hand.producer.freed(), before);
    assert!(hand.producer.may_go_on(full, ROW + 100), "to be refused at the door");
}

#[test]
fn who_is_alone_has_all_of_it() {
    let mut alone = settings();
    alone.sinks[0].fixed_topic = true;
    let mut hand = Hand::new(alone);
    assert_eq!(fill(&mut hand, SINK, "t"), Full::Memory);
    assert!(used(&hand) > 90, "{}", used(&hand));
}

#[test]
fn a_fixed_topic_has_the_part_of_its_sink() {
    let mut fixed = of_two_sinks();
    fixed.sinks[0].fixed_topic = true;
    let mut hand = Hand::new(fixed);
    assert_eq!(fill(&mut hand, SINK, "t"), Full::Sink(SINK));
    assert!((34..=40).contains(&used(&hand)), "{}", used(&hand));
    assert!(matches!(fill(&mut hand, SinkId(1), "u"), Full::Topic(_)));
    assert!((42..=55).contains(&used(&hand)), "{}", used(&hand));
}

/// Appends rows with a key until its partition is full, or `most` of them. Returns how many.
fn fill_key(hand: &mut Hand, name: &str, key: &str, most: u32) -> (u32, Option<Full>) {
    for number in 0..most {
        let known = hand.producer.check(SINK, name, ROW + 100).expect("no refusal");
        let hash = Some(murmur2::murmur2(key.as_bytes()).cast_unsigned());
        let room = hand.producer.share(SINK, known, ROW + 100);
        let room = room.and_then(|()| hand.producer.share_of_partition(known, hash, ROW + 100));
        if let Err(full) = room {
            return (number, Some(full));
        }
        assert!(hand.producer.has_room(ROW + 100));
        let value = [b'x'; ROW];
        let key = Some(key.as_bytes());
        let row = Row { key, value: Some(&value), headers: std::iter::empty(), timestamp: hand.wall() };
        hand.producer.append(SINK, name, row, Some(Ticket { session: 9, number }), hand.now);
    }
    (most, None)
}

/// One partition's leader is frozen: the partition holds its share, and the topic's others proceed.
fn one_frozen(settings: Settings, most_used: usize) {
    let mut hand = Hand::proven(settings);
    hand.producer.on_metadata(&[topic("t", &[1, 0, 0, 0])], hand.now);
    assert!(hand.poll().is_empty());
    let of = |partition| {
        let key = |n: u32| format!("k{n}");
        (0..).map(key).find(|key| murmur2::partition(key.as_bytes(), 4) == partition).expect("one")
    };
    let (rows, full) = fill_key(&mut hand, "t", &of(0), 10_000);
    assert!(matches!(full, Some(Full::Partition(_, 0))), "{full:?} after {rows}");
    assert!((8..=most_used).contains(&used(&hand)), "{}", used(&hand));
    let full = full.expect("full");
    assert!(!hand.producer.may_go_on(full, ROW + 100));
    let mut frozen = hand.poll();
    assert!(frozen.iter().all(|request| request.node.0 == 1));
    for _ in 0..300 {
        for partition in 1..4 {
            assert_eq!(fill_key(&mut hand, "t", &of(partition), 1), (1, None), "partition {partition}");
        }
        for request in hand.poll() {
            assert_eq!(request.node.0, 0);
            hand.answer_and_drop(request, 0);
        }
    }
    while !frozen.is_empty() {
        for request in frozen {
            hand.answer_and_drop(request, 0);
        }
        frozen = hand.poll();
    }
    assert_eq!(hand.producer.buffered_rows(), 0);
    assert!(hand.producer.may_go_on(full, ROW + 100));
    check_account(&hand);
}

#[test]
fn a_frozen_partition_holds_its_part_and_the_others_flow() {
    one_frozen(settings(), 25);
    let mut alone = settings();
    alone.sinks[0].fixed_topic = true;
    one_frozen(alone, 40);
    let mut fixed = of_two_sinks();
    fixed.sinks[0].fixed_topic = true;
    one_frozen(fixed, 25);
    one_frozen(of_two_sinks(), 20);
}

/// More memory applies at once; memory that was given stays.
#[test]
fn memory_grows_and_is_not_taken_back() {
    let mut hand = Hand::proven(settings());
    let before = hand.producer.buffer_bytes_max();
    assert!(matches!(fill(&mut hand, SINK, "dead"), Full::Topic(_)));
    let held = hand.producer.buffered_bytes();
    let of = settings();
    hand.producer.change_cluster(4 * before, of.topics_max, of.request_timeout);
    assert_eq!(hand.producer.buffer_bytes_max(), 4 * before);
    assert!(matches!(fill(&mut hand, SINK, "dead"), Full::Topic(_)));
    assert!(hand.producer.buffered_bytes() > 3 * held);
    hand.producer.change_cluster(before, of.topics_max, of.request_timeout);
    assert_eq!(hand.producer.buffer_bytes_max(), 4 * before);
    check_account(&hand);
}

/// Topics beyond the old number are taken, those beyond the new one are not.
#[test]
fn the_number_of_topics_can_be_changed() {
    let mut hand = Hand::new(Settings { topics_max: 1, ..settings() });
    hand.append("one", None);
    assert_eq!(hand.producer.check(SINK, "two", 10), Err(Refusal::TooManyTopics));
    let of = settings();
    hand.producer.change_cluster(of.buffer_bytes, 2, of.request_timeout);
    assert_eq!(hand.producer.check(SINK, "two", 10), Ok(None));
    hand.append("two", None);
    hand.producer.change_cluster(of.buffer_bytes, 1, of.request_timeout);
    assert_eq!(hand.producer.check(SINK, "three", 10), Err(Refusal::TooManyTopics));
}
