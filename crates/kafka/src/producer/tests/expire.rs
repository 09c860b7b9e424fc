//! Message Expiry Interval: rows not cut by then are never sent, their publishers are acknowledged, the counters balance.

use std::time::Duration;

use crate::producer::numbers::Number;
use crate::producer::row_log::{Ended, Fate, RowLog, RowRun};
use crate::producer::testing::hand::{Hand, SINK, settings, topic, values};
use crate::producer::testing::hand::{disk, known};
use crate::producer::{Row, Settings, Terms};
use crate::types::Ticket;
use forebay_runtime::seam::Monotonic;

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
        hand.producer.append_with(SINK, "t", row, ticket, Terms { expires, ..Terms::default() }, hand.now);
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

/// Rows of the sink live for ten seconds.
fn ten_seconds() -> Settings {
    let mut settings = settings();
    settings.sinks[0].expire_after = Some(Duration::from_secs(10));
    settings
}

#[test]
fn the_shorter_of_both_holds() {
    let mut hand = Hand::proven(ten_seconds());
    let window = hand.five();
    append(&mut hand, 4); // 6 to 9; the odd ones for a second
    hand.wait_ms(5_000);
    append(&mut hand, 1); // 10
    window.iter().for_each(|request| hand.answer(request, 0));
    let request = hand.one();
    assert_eq!(values(&request), ["row 6", "row 8", "row 10"]);
    hand.answer(&request, 6);
    hand.wait_ms(60_000);
    let again = hand.one();
    assert_eq!(values(&again), ["row 6", "row 8", "row 10"], "a batch that is cut stays");
    hand.answer(&again, 0);
    assert_eq!(hand.stats().expired, 2);
    balanced(&hand);
}

#[test]
fn what_waits_too_long_goes_while_kafka_is_away_and_its_memory_with_it() {
    let mut hand = Hand::proven(ten_seconds());
    hand.producer.on_reachable(false);
    hand.number = 100;
    for _ in 0..100 {
        append(&mut hand, 2);
    }
    let held = hand.producer.buffered_bytes();
    hand.wait_ms(9_000);
    append(&mut hand, 1);
    hand.poll();
    // The expired odd rows stayed with the others: single rows are not checked while they wait, before the sink's limit is reached.
    assert_eq!(hand.stats().buffered_rows, 201);
    assert!(hand.producer.next_deadline() <= hand.now.after(Duration::from_secs(1)));
    hand.wait_ms(1_000);
    hand.poll();
    assert_eq!(hand.stats().expired, 200);
    assert_eq!(hand.stats().buffered_rows, 1, "the young one stays");
    assert!(hand.producer.buffered_bytes() < held);
    let answered: Vec<u32> = (100..300).collect();
    assert_eq!(hand.delivered()[1..], answered);
    balanced(&hand);
    hand.producer.on_reachable(true);
    let request = hand.one();
    assert_eq!(values(&request), ["row 300"]);
    hand.answer(&request, 0);
    balanced(&hand);
    // The timer ends when nothing is left to check.
    hand.wait_ms(20_000);
    hand.poll();
    hand.wait_ms(20_000);
    hand.poll();
    assert_eq!(hand.producer.next_deadline(), Monotonic::NEVER);
}

#[test]
fn rows_that_wait_for_their_partition_go_too() {
    let mut hand = Hand::new(ten_seconds());
    hand.number = 10;
    append(&mut hand, 40);
    hand.poll();
    hand.wait_ms(6_000);
    append(&mut hand, 1);
    hand.poll();
    hand.wait_ms(4_000);
    hand.poll();
    assert_eq!((hand.stats().expired, hand.stats().buffered_rows), (40, 1));
    hand.producer.on_metadata(&[topic("t", &[0])], hand.now);
    hand.producer.on_producer_id(0, 7, 0);
    let request = hand.one();
    assert_eq!(values(&request), ["row 50"]);
    hand.answer(&request, 0);
    balanced(&hand);
    assert_eq!(hand.stats().buffered_bytes, 0);
}

#[test]
fn a_sink_without_it_sets_no_timer() {
    let mut hand = Hand::proven(settings());
    hand.producer.on_reachable(false);
    append(&mut hand, 10);
    hand.poll();
    hand.wait_ms(100_000_000);
    hand.poll();
    assert_eq!((hand.stats().expired, hand.stats().buffered_rows), (0, 10));
    assert_eq!(hand.producer.next_deadline(), Monotonic::NEVER);
}

/// Rows 2 and 4 are in the log alone. Row 3 expired before they left memory, and its end is not in the log yet.
fn one_gone_amid_two() -> Hand {
    let mut settings = disk();
    settings.sinks[0].spill_after = 1;
    let mut hand = known(settings);
    assert_eq!(go_on(&mut hand), ["row 0"]);
    hand.number += 1;
    append(&mut hand, 3);
    hand.wait_ms(1_000);
    // The log takes the three rows and nothing more.
    hand.log.takes = Some(2);
    assert!(hand.poll().is_empty());
    assert_eq!((hand.stats().expired, hand.producer.spilled_rows(SINK)), (1, 2));
    hand.log.takes = Some(0);
    hand
}

/// Answers all requests with success; returns the values sent.
fn go_on(hand: &mut Hand) -> Vec<String> {
    let mut sent = Vec::new();
    for _ in 0..10 {
        for request in hand.poll_synced() {
            sent.extend(values(&request));
            hand.answer_and_drop(request, 0);
        }
    }
    sent
}

#[test]
fn a_row_that_was_too_old_before_those_beside_it_left_memory_is_not_read_back_with_them() {
    let mut hand = one_gone_amid_two();
    assert!(hand.poll().is_empty());
    assert_eq!((hand.stats().expired, hand.producer.spilled_rows(SINK)), (1, 0), "read back, without the one");
    hand.log.takes = None;
    assert_eq!(go_on(&mut hand), ["row 2", "row 4"]);
    assert_eq!((hand.stats().expired, hand.stats().buffered_rows), (1, 0));
    assert!(hand.log.state.live.is_empty());
    balanced(&hand);
}

#[test]
fn nor_is_it_counted_again_where_they_make_room() {
    let mut hand = one_gone_amid_two();
    let (lane, disk) = (0..3).find_map(|lane| Some((lane, hand.on_disk(lane)?))).expect("rows on the disk");
    assert_eq!(disk.count, 3);
    hand.log.takes = None;
    let row = RowRun { first: disk.first, count: 1 };
    hand.log.ended(&Ended { cut: None, lane, rows: &[row], fate: Fate::Expired }).expect("taken");
    // The log had two rows there until now.
    hand.drop_rows(lane, RowRun { count: 2, ..row });
    let stats = hand.stats();
    assert_eq!((stats.expired, stats.dropped, stats.buffered_rows), (1, 1, 1));
    assert_eq!(go_on(&mut hand), ["row 4"]);
    assert_eq!(hand.stats().buffered_rows, 0);
    assert!(hand.log.state.live.is_empty());
}

/// The log may have no room for another hole before a cut is done (D3).
#[test]
fn a_batch_that_is_done_is_told_though_ends_of_rows_have_to_wait() {
    let mut hand = known(disk());
    let first = hand.poll_synced().remove(0);
    hand.append("t", None);
    hand.poll_synced();
    hand.log.no_row_ends = true;
    hand.producer.logging.ends.row_over(Number { lane: 0, number: 1 }, Fate::Expired);
    hand.answer(&first, 0);
    assert!(hand.poll_synced().is_empty(), "no cut while an end waits");
    assert_eq!(hand.log.dones.len(), 1, "told at once");
}
