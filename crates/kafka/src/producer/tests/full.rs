//! A full log: rows that wait for room in it delay neither entries that make room nor the rows of others.

use crate::producer::testing::hand::disk;
use crate::producer::testing::hand::{Hand, SINK, topic};
use crate::producer::{AnsweredOn, Keep, Row, Settings};
use crate::types::{SinkId, Ticket};
use forebay_record::BatchView;

const ROW_BYTES: usize = 1000;

fn tight() -> Settings {
    let mut settings = disk();
    settings.sinks[0].spill_after = 64 * 1024;
    settings
}

fn append(hand: &mut Hand, key: &str) {
    let value = format!("{:06} {}", hand.number, "x".repeat(ROW_BYTES));
    hand.append_value("t", Some(key), value.as_bytes());
}

/// Appends rows until the log has far more than memory may; from then on it takes a row only for each one that has ended, and more are
/// appended than the producer may hold of the rows that it reads back.
fn fill(hand: &mut Hand, keys: usize) {
    for number in 0..400 {
        append(hand, &format!("key {}", number % keys));
        hand.poll_synced();
    }
    overfill(hand, keys);
}

fn overfill(hand: &mut Hand, keys: usize) {
    hand.log.rows_max = Some(hand.log.state.live.len());
    for number in 0..250 {
        append(hand, &format!("key {}", number % keys));
    }
    hand.poll_synced();
}

/// Kafka takes everything: all rows arrive once, in the order of their key.
fn drain(hand: &mut Hand) {
    let mut read: Vec<(Option<Vec<u8>>, u32)> = Vec::new();
    for round in 0.. {
        for request in hand.poll_synced() {
            for batch in &request.batches {
                let (view, _) = BatchView::parse(&batch.bytes).expect("a batch");
                let number = |value: &[u8]| String::from_utf8_lossy(&value[..6]).parse().expect("a number");
                read.extend(
                    crate::producer::testing::hand::read(&view).into_iter().map(|(key, value)| (key, number(&value))),
                );
            }
            hand.answer_and_drop(request, 0);
        }
        if hand.stats().buffered_rows == 0 {
            break;
        }
        assert!(round < 5_000, "it stands still: {:?}", hand.stats());
    }
    read.sort_by(|(one, _), (other, _)| one.cmp(other));
    assert!(read.windows(2).all(|pair| pair[0].0 != pair[1].0 || pair[0].1 < pair[1].1), "order");
    assert_eq!(read.len(), hand.number as usize);
}

#[test]
fn rows_that_wait_behind_a_backlog_for_room_do_not_keep_it_from_being_read() {
    for (partitions, keys) in [(1, 1), (3, 8)] {
        let mut hand = Hand::new(tight());
        append(&mut hand, "key 0");
        hand.poll_synced();
        hand.producer.on_metadata(&[topic("t", &vec![0; partitions])], hand.now);
        hand.producer.on_producer_id(0, 7, 0);
        hand.producer.on_reachable(false);
        fill(&mut hand, keys);
        hand.producer.on_reachable(true);
        drain(&mut hand);
    }
}

#[test]
fn nor_where_they_have_no_partition_yet() {
    let mut hand = Hand::new(tight());
    fill(&mut hand, 8);
    hand.producer.on_metadata(&[topic("t", &[0, 0, 0])], hand.now);
    hand.producer.on_producer_id(0, 7, 0);
    drain(&mut hand);
}

#[test]
fn nor_where_cuts_of_an_earlier_start_go_first() {
    let mut hand = crate::producer::testing::hand::known(tight());
    for _ in 0..100 {
        append(&mut hand, "key");
        hand.poll_synced();
    }
    let mut hand = hand.killed(tight(), 8);
    assert!(hand.stats().recovered > 90);
    overfill(&mut hand, 1);
    hand.producer.on_metadata(&[topic("t", &[0])], hand.now);
    for round in 0.. {
        for request in hand.poll_synced() {
            hand.answer_and_drop(request, 0);
        }
        if hand.stats().buffered_rows == 0 {
            break;
        }
        assert!(round < 5_000, "it stands still: {:?}", hand.stats());
    }
    assert_eq!(hand.stats().delivered, u64::from(hand.number));
}

#[test]
fn a_sink_that_has_its_share_of_the_log_keeps_no_other_from_being_written() {
    let mut settings = disk();
    let mut hybrid = settings.sinks[0].clone();
    (hybrid.keep, hybrid.answered_on, hybrid.spill_after) = (Keep::Hybrid, AnsweredOn::Replicated, 0);
    settings.sinks.push(hybrid);
    settings.buffer_bytes = 4 << 20;
    const OTHER: SinkId = SinkId(1);
    let mut hand = Hand::new(settings);
    let to_other = |hand: &mut Hand, number: u32| {
        let value = number.to_string();
        let headers = std::iter::empty();
        let row = Row { key: None, value: Some(value.as_bytes()), headers, timestamp: hand.wall() };
        hand.producer.append(OTHER, "o", row, Some(Ticket { session: 2, number }), hand.now);
    };
    hand.log.full_of.push(OTHER);
    for number in 0..20 {
        to_other(&mut hand, number);
        hand.append("t", None);
        hand.poll_synced();
        assert_eq!(hand.delivered().len(), number as usize + 1, "stored");
    }
    hand.producer.on_metadata(&[topic("t", &[0]), topic("o", &[0])], hand.now);
    hand.producer.on_producer_id(0, 7, 0);
    hand.producer.on_producer_id(1, 8, 0);
    let mut others = Vec::new();
    for round in 0..400 {
        if round == 100 {
            hand.log.full_of.clear();
        }
        for request in hand.poll_synced() {
            for batch in request.batches.iter().filter(|batch| &*batch.topic == "o") {
                let (view, _) = BatchView::parse(&batch.bytes).expect("a batch");
                others.extend(crate::producer::testing::hand::read(&view).into_iter().map(|(_, value)| value));
            }
            hand.answer_and_drop(request, 0);
        }
    }
    let expected: Vec<Vec<u8>> = (0..20).map(|number: u32| number.to_string().into_bytes()).collect();
    assert_eq!(others, expected, "in order");
    assert_eq!((hand.stats().delivered, hand.producer.stats(OTHER).delivered), (20, 20));
    assert!(hand.log.state.live.is_empty() && hand.log.state.cuts.is_empty());
    assert_eq!(hand.producer.stats(SINK).buffered_rows + hand.producer.stats(OTHER).buffered_rows, 0);
}

#[test]
fn very_many_topics_with_cuts_of_an_earlier_start_and_rows_behind_them_all_get_their_turn() {
    const TOPICS: usize = 150;
    let names: Vec<String> = (0..TOPICS).map(|number| format!("t{number}")).collect();
    let known: Vec<_> = names.iter().map(|name| topic(name, &[0])).collect();
    let value = vec![b'x'; 400];
    let large = Settings { buffer_bytes: 64 << 20, ..disk() };
    let mut hand = Hand::new(large);
    // Two batches of nine rows each, one of them cut; one more of every other topic.
    for batch in 0..3 {
        for name in names.iter().step_by(1 + batch / 2) {
            (0..9).for_each(|_| hand.append_value(name, None, &value));
        }
        hand.poll_synced();
        if batch == 0 {
            hand.producer.on_metadata(&known, hand.now);
            hand.producer.on_producer_id(0, 7, 0);
        }
        for request in hand.poll_synced() {
            if batch == 0 {
                hand.answer_and_drop(request, 0);
            }
        }
    }
    let small = Settings { buffer_bytes: 400 << 10, ..tight() };
    let mut hand = hand.killed(small, 8);
    let recovered = hand.stats().recovered;
    assert!(recovered > TOPICS as u64 * 9 && hand.log.state.cuts.len() >= TOPICS, "{recovered}");
    let (mut taken, mut full) = (0, false);
    hand.log.rows_max = Some(hand.log.state.live.len());
    let most = hand.producer.buffer_bytes_max();
    hand.producer.on_metadata(&known, hand.now);
    for name in names.iter().cycle() {
        full = !hand.producer.has_room(value.len() + 200);
        if full {
            break;
        }
        hand.append_value(name, None, &value);
        taken += 1;
    }
    for round in 0.. {
        // Other publishers take the free memory.
        for name in names.iter().cycle().skip(round * 7).take(60) {
            if round < 200 && hand.producer.has_room(value.len() + 200) {
                hand.append_value(name, None, &value);
                taken += 1;
            }
        }
        hand.log.later = (round % 3) as u32;
        assert!(hand.producer.memory_bytes() <= most);
        for request in hand.poll_synced() {
            hand.answer_and_drop(request, 0);
        }
        if hand.stats().buffered_rows == 0 && round > 200 {
            break;
        }
        assert!(round < 20_000, "it stands still: {:?}", hand.stats());
    }
    assert_eq!((hand.stats().delivered, hand.stats().rotten), (recovered + taken, 0));
    assert!(full, "memory is what is short");
    hand.poll();
    assert_eq!(hand.producer.buffered_bytes(), 0);
}
