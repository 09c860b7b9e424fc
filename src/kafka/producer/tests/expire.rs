//! Message Expiry Interval: what has not been cut by then is never sent, its publisher is answered, the books balance.

use std::time::Duration;

use super::hand::{Hand, SINK, settings, topic, values};
use crate::kafka::producer::Row;
use crate::kafka::types::Ticket;
use crate::runtime::seam::Monotonic;

/// Rows 0, 1, 2, … to topic "t"; the odd ones live for a second.
fn append(hand: &mut Hand, count: u32) {
    for _ in 0..count {
        let number = hand.number;
        let expires = if number % 2 == 1 { hand.now.after(Duration::from_secs(1)) } else { Monotonic::NEVER };
        let value = format!("row {number}");
        let row = Row {
            key: Some(&b"one key"[..]),
            value: Some(value.as_bytes()),
            headers: std::iter::empty(),
            timestamp: hand.wall(),
        };
        assert!(hand.producer.has_room(500));
        let ticket = Some(Ticket { session: 1, number });
        hand.producer.append_until(SINK, "t", row, ticket, (expires, hand.now));
        hand.number += 1;
    }
}

fn balanced(hand: &Hand) {
    let stats = hand.stats();
    assert_eq!(stats.appended, stats.delivered + stats.refused + stats.expired + stats.buffered_rows, "{stats:?}");
}

#[test]
fn a_row_that_expired_before_its_cut_is_not_sent_and_is_answered() {
    let mut hand = Hand::proven(settings());
    let window = hand.five();
    append(&mut hand, 6); // numbers 6 to 11: no place in the window, so they gather
    hand.wait_ms(1_000);
    for request in &window {
        hand.answer(request, 0);
    }
    let request = hand.one();
    assert_eq!(values(&request), ["row 6", "row 8", "row 10"]);
    assert_eq!(hand.stats().expired, 3);
    balanced(&hand);
    assert_eq!(hand.delivered()[6..], [7, 9, 11], "told success before the others are in Kafka");
    hand.answer(&request, 0);
    hand.poll();
    assert_eq!(hand.delivered()[6..], [7, 9, 11, 6, 8, 10]);
    assert_eq!((hand.stats().buffered_rows, hand.stats().buffered_bytes), (0, 0));
    balanced(&hand);
}

#[test]
fn a_row_that_is_cut_stays_until_kafkas_word() {
    let mut hand = Hand::proven(settings());
    append(&mut hand, 2);
    hand.wait_ms(100);
    let request = hand.one();
    hand.wait_ms(5_000);
    hand.answer(&request, 6);
    hand.wait_ms(5_000);
    let again = hand.one();
    assert_eq!(values(&again), values(&request));
    hand.answer(&again, 0);
    assert_eq!(hand.stats().expired, 0);
    balanced(&hand);
}

#[test]
fn a_batch_of_which_nothing_is_left_is_never_cut() {
    let mut hand = Hand::proven(settings());
    let window = hand.five();
    hand.number += 1; // odd: 7
    append(&mut hand, 1);
    hand.wait_ms(1_000);
    window.iter().for_each(|request| hand.answer(request, 0));
    assert!(hand.poll().is_empty());
    assert_eq!((hand.stats().expired, hand.stats().buffered_rows, hand.stats().buffered_bytes), (1, 0, 0));
    append(&mut hand, 1);
    hand.wait_ms(100);
    let next = hand.one();
    assert_eq!(values(&next), ["row 8"]);
    hand.answer(&next, 0);
    balanced(&hand);
}

#[test]
fn rows_without_a_partition_expire_too_and_the_others_keep_their_order() {
    let mut hand = Hand::new(settings());
    append(&mut hand, 10);
    hand.wait_ms(500);
    append(&mut hand, 10);
    hand.wait_ms(500); // the first ten's second is over, the last ten's is not
    hand.producer.on_producer_id(0, 7, 0);
    hand.producer.on_metadata(&[topic("t", &[0, 0, 0])], hand.now);
    let request = hand.one();
    let expected: Vec<String> = (0..20).filter(|n| n % 2 == 0 || *n >= 10).map(|n| format!("row {n}")).collect();
    assert_eq!(values(&request), expected);
    assert_eq!(hand.stats().expired, 5);
    balanced(&hand);
}

#[test]
fn expired_rows_give_their_memory_back() {
    let mut hand = Hand::proven(settings());
    hand.poll();
    let before = hand.producer.memory_bytes();
    let window = hand.five();
    append(&mut hand, 400);
    hand.wait_ms(1_000);
    window.into_iter().for_each(|request| hand.answer_and_drop(request, 0));
    while let Some(request) = hand.poll().pop() {
        hand.answer_and_drop(request, 0);
        hand.wait_ms(100);
    }
    hand.poll();
    assert_eq!(hand.stats().expired, 200);
    assert_eq!(hand.producer.buffered_bytes(), 0);
    assert!(hand.producer.memory_bytes() <= before + 64 * 1024, "{} then {}", before, hand.producer.memory_bytes());
}

#[test]
fn a_deadline_moves_with_its_row_into_the_partition() {
    let mut hand = Hand::new(settings());
    append(&mut hand, 6);
    hand.producer.on_metadata(&[topic("t", &[0])], hand.now);
    assert!(hand.poll().is_empty(), "placed, and not cut: there is no producer id yet");
    hand.wait_ms(1_000);
    hand.producer.on_producer_id(0, 7, 0);
    assert_eq!(values(&hand.one()), ["row 0", "row 2", "row 4"]);
    balanced(&hand);
}
