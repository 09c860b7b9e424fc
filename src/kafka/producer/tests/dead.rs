//! Refused rows on their way to the dead letters: memory, compression, rows without a partition.

use super::hand::{Hand, SINK, settings, topic};
use crate::kafka::producer::dead::{DeadLetters, HEADERS_BYTES_MAX};
use crate::kafka::producer::{Row, Settings, SinkSettings};
use crate::kafka::types::{Outcome, ProduceBatch, ProduceResult, SinkId, TopicMetadata};
use crate::record::compression::Codec;

const HIDDEN: SinkId = SinkId(1);

/// One sink with a topic of dead letters, and as little memory as there can be.
fn with_topic(compression: Codec) -> Settings {
    let sink = SinkSettings { compression, ..settings().sinks.remove(0) };
    let dead = DeadLetters { sink: "s".to_owned(), topic: Some((HIDDEN, "dead".to_owned())), file: false };
    let hidden = SinkSettings {
        fixed_topic: true,
        hidden: true,
        record_bytes_max: sink.record_bytes_max + HEADERS_BYTES_MAX,
        ..sink.clone()
    };
    let sinks = vec![SinkSettings { dead_letters: Some(dead), ..sink }, hidden];
    Settings { buffer_bytes: 0, sinks, ..settings() }
}

fn ledger(hand: &Hand) {
    for sink in [SINK, HIDDEN] {
        let stats = hand.producer.stats(sink);
        let settled = stats.delivered + stats.refused + stats.expired + stats.moved + stats.filed;
        assert_eq!(stats.appended, settled + stats.buffered_rows);
    }
    // A split that has waited long goes beyond the bound, one at a time.
    let most = hand.producer.buffer_bytes_max() + 2 * 16 * 1024;
    assert!(hand.producer.memory_bytes() <= most, "{} of {most}", hand.producer.memory_bytes());
}

/// Asks and answers until nothing is left: every row of "t" is refused, every dead letter taken.
fn until_empty(hand: &mut Hand, rounds: u32) {
    for _ in 0..rounds {
        hand.producer.on_metadata(&[topic("dead", &[0])], hand.now);
        for request in hand.poll() {
            let result = |batch: &ProduceBatch| ProduceResult {
                topic: batch.topic.clone(),
                partition: batch.partition,
                error: if &*batch.topic == "dead" { 0 } else { 87 },
                base_offset: -1,
            };
            let (id, results) = (request.id, request.batches.iter().map(result).collect::<Vec<_>>());
            drop(request);
            hand.produced(id, &results);
            ledger(hand);
        }
        if hand.producer.buffered_rows() == 0 {
            return;
        }
        hand.wait_ms(1_000);
    }
    panic!("rows stay: {:?} {:?}", hand.producer.stats(SINK), hand.producer.stats(HIDDEN));
}

#[test]
fn they_leave_when_the_memory_is_full_of_what_they_stand_for() {
    for codec in [Codec::None, Codec::Lz4] {
        let mut hand = Hand::new(with_topic(codec));
        hand.producer.on_metadata(&[topic("t", &[0, 0, 0]), topic("dead", &[0])], hand.now);
        for (rows, len) in [(0, 10), (0, 8_000), (7, 3_000)] {
            let before = hand.number;
            for _ in 0..if rows == 0 { u32::MAX } else { rows } {
                if !hand.producer.has_room(len + 200) {
                    break;
                }
                let key = hand.number.to_string();
                hand.append_value("t", Some(&key), &vec![b'v'; len]);
            }
            for request in hand.poll() {
                hand.answer_and_drop(request, 87);
            }
            for (token, id) in [(0, 7), (1, 8)] {
                hand.producer.on_producer_id(token, id, 0);
            }
            hand.producer.on_metadata(&[topic("t", &[0, 0, 0])], hand.now);
            hand.done.clear();
            // In the first round the topic of the dead letters is not known for a while.
            for _ in 0..if before == 0 { 50 } else { 0 } {
                for request in hand.poll() {
                    hand.answer_and_drop(request, 87);
                    ledger(&hand);
                }
                hand.wait_ms(100);
            }
            until_empty(&mut hand, 10_000);
            let buried = hand.done.iter().filter(|(_, outcome)| *outcome == Outcome::DeadLettered);
            assert_eq!(buried.map(|(run, _)| run.count).sum::<u32>(), hand.number - before, "{codec:?} {len}");
        }
        let (own, hidden) = (*hand.producer.stats(SINK), *hand.producer.stats(HIDDEN));
        assert_eq!((own.moved, own.refused), (own.appended, 0));
        assert_eq!(hidden.delivered, own.appended);
    }
}

#[test]
fn rows_without_a_partition_go_there_as_well() {
    let mut hand = Hand::new(with_topic(Codec::None));
    for _ in 0..3 {
        hand.append("secret", None);
    }
    let forbidden = TopicMetadata { name: "secret".into(), error: 29, ..Default::default() };
    hand.producer.on_metadata(&[forbidden], hand.now);
    let _ = hand.poll();
    hand.producer.on_producer_id(1, 8, 0);
    hand.producer.on_metadata(&[topic("dead", &[0])], hand.now);
    until_empty(&mut hand, 10);
    assert_eq!(hand.done.len(), 1, "{:?}", hand.done);
    assert_eq!((hand.done[0].0.count, hand.done[0].1), (3, Outcome::DeadLettered));
}

#[test]
fn for_a_file_they_are_offered_until_taken_and_held_until_filed() {
    let dead = DeadLetters { sink: "s".to_owned(), topic: None, file: true };
    let sink = SinkSettings { dead_letters: Some(dead), compression: Codec::Zstd, ..settings().sinks.remove(0) };
    let mut hand = Hand::proven(Settings { sinks: vec![sink], ..settings() });
    for _ in 0..3 {
        hand.append("t", Some("k"));
    }
    let request = hand.one();
    hand.answer_and_drop(request, 29);
    let mut offered = Vec::new();
    hand.producer.drain_dead(|row| {
        offered.push(String::from_utf8(row.value.to_vec()).unwrap());
        offered.len() < 2
    });
    assert!(hand.producer.has_dead());
    hand.producer.drain_dead(|row| {
        assert_eq!((row.topic, row.partition, row.code, row.key), ("t", Some(0), 29, Some(&b"k"[..])));
        offered.push(String::from_utf8(row.value.to_vec()).unwrap());
        assert_eq!(row.ticket.map(|ticket| ticket.number), Some(offered.len() as u32 - 1));
        true
    });
    assert_eq!(offered, ["row 1", "row 2", "row 2", "row 3"], "what was not taken comes again");
    assert!(!hand.producer.has_dead());
    let memory = hand.producer.buffered_bytes();
    assert_eq!((hand.stats().buffered_rows, hand.stats().buffered_bytes), (3, 0));
    hand.producer.filed(SINK, 3);
    assert_eq!((hand.stats().buffered_rows, hand.stats().filed, hand.stats().refused), (0, 3, 0));
    assert_eq!(hand.producer.buffered_bytes(), memory, "the batch had gone before");
}

/// The topic of one sink's dead letters never appears, and the memory is full of what waits for it.
#[test]
fn what_waits_for_one_sinks_dead_letters_holds_up_no_other_sink() {
    let mut settings = with_topic(Codec::None);
    settings.sinks.push(SinkSettings { dead_letters: None, ..settings.sinks[0].clone() });
    let other = SinkId(2);
    let mut hand = Hand::new(settings);
    let topics = [topic("t", &[0]), topic("u", &[0])];
    let append = |hand: &mut Hand| {
        let value = [b'v'; 500];
        let row = Row { key: None, value: Some(&value), headers: std::iter::empty(), timestamp: hand.wall() };
        hand.producer.append(other, "u", row, None, hand.now);
    };
    hand.append("t", Some("k"));
    append(&mut hand);
    hand.poll();
    for (token, id) in [(0, 7), (1, 8), (2, 9)] {
        hand.producer.on_producer_id(token, id, 0);
    }
    hand.producer.on_metadata(&topics, hand.now);
    for request in hand.poll() {
        hand.answer_and_drop(request, 87);
    }
    for len in [8_000, 3_000, 10] {
        while hand.producer.has_room(len + 200) {
            hand.append_value("t", Some("k"), &vec![b'v'; len]);
        }
    }
    let mut rows = 1;
    while hand.producer.memory_bytes() <= hand.producer.buffer_bytes_max() {
        append(&mut hand);
        rows += 1;
    }
    for _ in 0..1_000 {
        hand.producer.on_metadata(&topics, hand.now);
        for request in hand.poll() {
            hand.answer_and_drop(request, 87);
        }
        hand.wait_ms(1_000);
    }
    assert!(hand.stats().buffered_rows > 0, "these wait");
    let stats = hand.producer.stats(other);
    assert_eq!((stats.refused, stats.buffered_rows), (rows, 0));
    assert!(stats.splits > 0);
}
