//! Interactions of independent rules: waiting partitions are looked at again, and held memory stays below its bound.

use crate::producer::testing::hand::{Hand, SINK, settings, topic};
use crate::producer::{Row, Settings, SinkSettings, Terms};
use crate::types::{LogSays, NodeId, TopicMetadata};
use forebay_runtime::seam::Monotonic;

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

/// One partition at broker 0 that has just asked its log, and the question's token.
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
    // The old log's answer is ignored.
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
    // Rows are refused for their timestamps while they have some; then no request is answered for a while.
    let mut held = Vec::new();
    for step in 0..60 {
        for request in hand.poll() {
            if step < 10 { hand.answer_and_drop(request, 32) } else { held.push(request) }
        }
        let (used, bound) = (hand.producer.buffered_bytes(), hand.producer.buffer_bytes_max());
        assert!(used <= bound, "step {step}: {used} of {bound}");
        hand.wait_ms(20);
    }
    assert!(hand.stats().without_timestamp > 0);
    for _ in 0..2_000 {
        held.drain(..).for_each(|request| hand.answer_and_drop(request, 0));
        held = hand.poll();
        hand.wait_ms(20);
    }
    assert_eq!(hand.stats().delivered, u64::from(hand.number), "all of it in the end");
}
