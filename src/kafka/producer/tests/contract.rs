//! Where rules meet that were made apart: who waits is looked at again, and what is held stays below its bound.

use super::hand::{Hand, SINK, settings, topic};
use crate::kafka::producer::dead::{DeadLetters, HEADERS_BYTES_MAX};
use crate::kafka::producer::{Row, Settings, SinkSettings, Terms};
use crate::kafka::types::{
    LogSays, NodeId, Outcome, ProduceBatch, ProduceRequest, ProduceResult, SinkId, TopicMetadata,
};
use crate::runtime::seam::Monotonic;

fn with_id(name: &str, id: u128, leaders: &[i32]) -> TopicMetadata {
    TopicMetadata { id, ..topic(name, leaders) }
}

#[test]
fn what_stands_behind_an_expired_batch_does_not_wait_for_something_else_to_happen() {
    let mut hand = Hand::proven(settings());
    hand.producer.on_reachable(false);
    let expires = Monotonic(hand.now.0 + 1_000_000_000);
    for expires in [expires, expires, Monotonic::NEVER] {
        let value = [b'v'; 3_000];
        let row = Row { key: None, value: Some(&value), headers: std::iter::empty(), timestamp: hand.wall() };
        assert!(hand.producer.has_room(3_200));
        hand.producer.append_with(SINK, "t", row, None, Terms { expires, ..Terms::default() }, hand.now);
    }
    hand.wait_ms(2_000);
    hand.producer.on_reachable(true);
    let mut polls = 1;
    while hand.poll().is_empty() {
        assert!(hand.producer.next_deadline() <= hand.now, "nobody looks again, and a row waits to be sent");
        polls += 1;
        assert!(polls < 5, "it goes round in circles");
    }
    assert_eq!(hand.stats().expired, 2);
    assert!(hand.producer.next_deadline() > hand.now, "nothing more to do");
}

/// One partition at broker 0 that has just asked what its log holds; the question's token.
fn asking(hand: &mut Hand) -> u64 {
    hand.append("t", None);
    let request = hand.one();
    hand.answer(&request, 45);
    assert!(hand.poll().is_empty());
    let asked = hand.take_questions();
    assert_eq!(asked.len(), 1);
    asked[0].token
}

#[test]
fn a_partition_whose_leader_moved_while_it_asked_asks_the_new_one() {
    let mut hand = Hand::proven(settings());
    let token = asking(&mut hand);
    hand.producer.on_metadata(&[topic("t", &[1])], hand.now);
    assert!(hand.poll().is_empty());
    hand.producer.on_asked(token, LogSays::Again, hand.now);
    hand.wait_ms(1_500);
    assert!(hand.poll().is_empty());
    let asked = hand.take_questions();
    assert_eq!(asked.iter().map(|question| question.node).collect::<Vec<_>>(), [NodeId(1)]);
}

#[test]
fn a_partition_whose_topic_is_made_anew_while_it_asks_asks_again() {
    let mut hand = Hand::proven(settings());
    hand.producer.on_metadata(&[with_id("t", 1, &[0])], hand.now);
    let token = asking(&mut hand);
    hand.producer.on_metadata(&[with_id("t", 2, &[0])], hand.now);
    // The old log's answer is nothing any more.
    hand.producer.on_asked(token, LogSays::Lost, hand.now);
    hand.wait_ms(1_500);
    assert!(hand.poll().is_empty());
    let asked = hand.take_questions();
    assert_eq!(asked.len(), 1, "the new log is asked");
    hand.producer.on_asked(asked[0].token, LogSays::Next { known: false }, hand.now);
    hand.wait_ms(1_500);
    let request = hand.one();
    hand.answer(&request, 0);
    assert_eq!(hand.stats().buffered_rows, 0);
}

#[test]
fn a_file_that_takes_nothing_holds_up_no_other_sinks_dead_letters() {
    let sink = |name: &str| {
        let dead = DeadLetters { sink: name.to_owned(), topic: None, file: true };
        SinkSettings { dead_letters: Some(dead), ..settings().sinks.remove(0) }
    };
    let mut hand = Hand::new(Settings { sinks: vec![sink("a"), sink("b")], ..settings() });
    hand.producer.on_metadata(&[topic("t", &[0]), topic("u", &[0])], hand.now);
    hand.producer.on_producer_id(0, 7, 0);
    hand.producer.on_producer_id(1, 8, 0);
    for round in 0..2 {
        for (sink, topic) in [(SINK, "t"), (SinkId(1), "u")] {
            let value = format!("{topic} {round}");
            let row =
                Row { key: None, value: Some(value.as_bytes()), headers: std::iter::empty(), timestamp: hand.wall() };
            assert!(hand.producer.has_room(200));
            hand.producer.append(sink, topic, row, None, hand.now);
        }
        let mut requests = hand.poll();
        hand.producer.on_metadata(&[topic("t", &[0]), topic("u", &[0])], hand.now);
        requests.append(&mut hand.poll());
        requests.into_iter().for_each(|request| hand.answer_and_drop(request, 44));
    }
    let mut taken = Vec::new();
    hand.producer.drain_dead(|row| {
        let takes = row.sink != SINK;
        taken.extend(takes.then(|| String::from_utf8(row.value.to_vec()).unwrap()));
        takes
    });
    assert_eq!(taken, ["u 0", "u 1"], "in their order, past those of the other");
    assert!(hand.producer.has_dead());
    let mut taken = Vec::new();
    hand.producer.drain_dead(|row| {
        taken.push(String::from_utf8(row.value.to_vec()).unwrap());
        true
    });
    assert_eq!(taken, ["t 0", "t 1"]);
    hand.producer.filed(SINK, 2);
    hand.producer.filed(SinkId(1), 2);
    assert_eq!(hand.producer.buffered_rows(), 0);
}

/// Six sinks, each with a topic of dead letters, and as little memory as there can be.
fn six_with_topics() -> Settings {
    let own = |n: u16| {
        let topic = Some((SinkId(6 + n), format!("dead-{n}")));
        let dead = DeadLetters { sink: format!("s{n}"), topic, file: false };
        SinkSettings { dead_letters: Some(dead), ..settings().sinks.remove(0) }
    };
    let hidden = SinkSettings {
        fixed_topic: true,
        hidden: true,
        record_bytes_max: 8192 + HEADERS_BYTES_MAX,
        ..settings().sinks.remove(0)
    };
    let sinks = (0..6).map(own).chain((0..6).map(|_| hidden.clone())).collect();
    Settings { buffer_bytes: 0, sinks, ..settings() }
}

fn refuse(hand: &mut Hand, request: ProduceRequest, least: &mut usize) {
    let result = |batch: &ProduceBatch| ProduceResult {
        topic: batch.topic.clone(),
        partition: batch.partition,
        error: if batch.topic.starts_with("dead") { 0 } else { 44 },
        base_offset: -1,
    };
    let (id, results) = (request.id, request.batches.iter().map(result).collect::<Vec<_>>());
    drop(request);
    hand.produced(id, &results);
    *least = (*least).min(hand.producer.buffer_bytes_max() - hand.producer.buffered_bytes());
}

#[test]
fn dead_letters_of_many_sinks_at_once_stay_below_the_bound() {
    let mut hand = Hand::new(six_with_topics());
    let topics: Vec<_> = (0..6).map(|n| topic(&format!("t{n}"), &[0])).collect();
    let mut taken = 0;
    'full: loop {
        for n in 0..6 {
            if !hand.producer.has_room(8_100) {
                break 'full;
            }
            let value = vec![b'v'; 8_000];
            let row = Row { key: None, value: Some(&value), headers: std::iter::empty(), timestamp: hand.wall() };
            hand.producer.append(SinkId(n), &format!("t{n}"), row, None, hand.now);
            taken += 1;
        }
    }
    let mut least = usize::MAX;
    (0..12).for_each(|token| hand.producer.on_producer_id(token, 7 + token as i64, 0));
    for step in 0..400 {
        hand.producer.on_metadata(&topics, hand.now);
        if step > 50 {
            let dead: Vec<_> = (0..6).map(|n| topic(&format!("dead-{n}"), &[0])).collect();
            hand.producer.on_metadata(&dead, hand.now);
        }
        for request in hand.poll() {
            refuse(&mut hand, request, &mut least);
        }
        assert!(hand.producer.buffered_bytes() <= hand.producer.buffer_bytes_max(), "step {step}");
        // Room for the rewriting of a batch, whatever else there is.
        let left = hand.producer.buffer_bytes_max() - hand.producer.buffered_bytes();
        assert!(left >= 2 * 16 * 1024, "step {step}: {left} bytes are left");
        hand.wait_ms(100);
    }
    assert_eq!(hand.producer.buffered_rows(), 0, "{taken} rows");
    let moved: u64 = (0..6).map(|n| hand.producer.stats(SinkId(n)).moved).sum();
    assert_eq!(moved, taken);
    assert!(hand.done.iter().all(|(_, outcome)| *outcome == Outcome::DeadLettered));
}

#[test]
fn batches_that_lose_their_time_stay_below_the_bound() {
    let sink = SinkSettings { fixed_topic: true, ..settings().sinks.remove(0) };
    let mut hand = Hand::new(Settings { sinks: vec![sink], ..settings() });
    let leaders = [0; 250];
    hand.producer.on_metadata(&[topic("t", &leaders)], hand.now);
    hand.producer.on_reachable(false);
    while hand.producer.has_room(200) {
        let key = (hand.number % 2_000).to_string();
        hand.append("t", Some(&key));
        if hand.number == 1 {
            let _ = hand.poll();
            hand.producer.on_producer_id(0, 7, 0);
            hand.producer.on_metadata(&[topic("t", &leaders)], hand.now);
            let _ = hand.poll();
        }
    }
    hand.producer.on_reachable(true);
    // Refused for their times while they have some; then nobody answers for a while.
    let mut held = Vec::new();
    for step in 0..60 {
        for request in hand.poll() {
            if step < 10 { hand.answer_and_drop(request, 32) } else { held.push(request) }
        }
        let (used, bound) = (hand.producer.buffered_bytes(), hand.producer.buffer_bytes_max());
        assert!(used <= bound, "step {step}: {used} of {bound}");
        hand.wait_ms(20);
    }
    assert!(hand.stats().timeless > 0);
    for _ in 0..2_000 {
        held.drain(..).for_each(|request| hand.answer_and_drop(request, 0));
        held = hand.poll();
        hand.wait_ms(20);
    }
    assert_eq!(hand.stats().delivered, u64::from(hand.number), "all of it in the end");
}
