//! Reported places of rows, checked against the log's records at those offsets.

use std::collections::HashMap;
use std::time::Duration;

use crate::producer::testing::hand::disk;
use crate::producer::testing::hand::{Hand, SINK, settings, topic, values};
use crate::producer::{AnsweredOn, Row, Settings, Terms};
use crate::types::{LogSays, Outcome, ProduceRequest, ProduceResult, Run, Ticket};
use forebay_record::BatchView;
use forebay_record::compression::Codec;

fn asked(settings: Settings) -> Settings {
    Settings { receipts: true, ..settings }
}

/// Records in Kafka: values by topic, partition and offset.
#[derive(Default)]
struct Logs {
    rows: HashMap<(String, u32, i64), Vec<u8>>,
    ends: HashMap<(String, u32), i64>,
}

impl Logs {
    /// Appends a request's batches, with others' records before each, and answers it.
    fn take(&mut self, hand: &mut Hand, request: &ProduceRequest) {
        let mut results = Vec::new();
        for batch in &request.batches {
            let place = (batch.topic.to_string(), batch.partition as u32);
            let end = self.ends.entry(place.clone()).or_insert(100);
            *end += 7;
            let base_offset = *end;
            let (view, _) = BatchView::parse(&batch.bytes).expect("a batch");
            for (_, value) in crate::producer::testing::hand::read(&view) {
                self.rows.insert((place.0.clone(), place.1, *end), value);
                *end += 1;
            }
            results.push(ProduceResult {
                topic: batch.topic.clone(),
                partition: batch.partition,
                error: 0,
                base_offset,
            });
        }
        hand.produced(request.id, &results);
    }

    /// Checks that every acknowledged row is at its reported place. Returns how many were, with and without an offset.
    fn check(&self, hand: &Hand) -> (usize, usize) {
        let (mut with, mut without) = (0, 0);
        for ((run, _), place) in hand.done.iter().zip(&hand.places) {
            let Some((topic, partition, first)) = place else { continue };
            let Some(first) = first else {
                without += run.count as usize;
                continue;
            };
            for i in 0..run.count {
                let at = (topic.clone(), *partition, first + i64::from(i));
                let value = self.rows.get(&at).map(|value| String::from_utf8_lossy(value).into_owned());
                let expected = format!("row {}", run.first.wrapping_add(i));
                assert!(
                    value.as_ref().is_some_and(|value| value.starts_with(&expected)),
                    "{expected} at {at:?}: {value:?}"
                );
                with += 1;
            }
        }
        (with, without)
    }
}

/// Appends a row without a ticket.
fn append_without_ticket(hand: &mut Hand) {
    let row = Row { key: None, value: Some(b"nobody's"), headers: std::iter::empty(), timestamp: hand.wall() };
    assert!(hand.producer.has_room(200));
    hand.producer.append(SINK, "t", row, None, hand.now);
}

#[test]
fn an_offset_is_that_of_the_batch_and_the_place_in_it() {
    for compression in [Codec::None, Codec::Zstd] {
        let mut settings = asked(settings());
        settings.sinks[0].compression = compression;
        let mut hand = Hand::proven(settings);
        let mut logs = Logs::default();
        hand.done.clear();
        hand.places.clear();
        append_without_ticket(&mut hand);
        (0..3).for_each(|_| hand.append("t", None));
        hand.number += 10;
        append_without_ticket(&mut hand);
        hand.append("t", None);
        let request = hand.one();
        logs.take(&mut hand, &request);
        assert_eq!(logs.check(&hand), (4, 0));
        let expected = [(1, 3, 108), (14, 1, 112)];
        let run = |first, count| Run { session: 1, first, count };
        assert_eq!(hand.done, expected.map(|(first, count, _)| (run(first, count), Outcome::Delivered)));
        assert_eq!(hand.places, expected.map(|(_, _, offset)| Some(("t".to_owned(), 0, Some(offset)))));
    }
}

#[test]
fn nothing_is_noted_where_nobody_asks() {
    let mut hand = Hand::proven(settings());
    hand.append("t", None);
    let request = hand.one();
    hand.answer(&request, 0);
    assert_eq!(hand.places, [None, None]);
}

#[test]
fn what_a_younger_batch_settles_has_no_offset() {
    let mut hand = Hand::proven(asked(settings()));
    let window = hand.five();
    hand.places.clear();
    hand.answer(&window[2], 0);
    let place = |offset| Some(("t".to_owned(), 0, offset));
    assert_eq!(hand.places, [place(None), place(None), place(Some(1003))]);
    // The answer is too late to be useful.
    hand.answer(&window[0], 0);
    assert_eq!(hand.places.len(), 3);
}

#[test]
fn a_duplicate_that_is_answered_without_an_offset_has_none() {
    for (code, offset) in [(0, -1), (46, 1001)] {
        let mut hand = Hand::proven(asked(settings()));
        hand.places.clear();
        hand.append("t", None);
        let lost = hand.one();
        hand.producer.on_failed(lost.id, true, hand.now);
        hand.wait_ms(100);
        let again = hand.one();
        let topic = again.batches[0].topic.clone();
        hand.produced(again.id, &[ProduceResult { topic, partition: 0, error: code, base_offset: offset }]);
        assert_eq!(hand.places, [Some(("t".to_owned(), 0, None))], "{code}");
    }
}

#[test]
fn a_batch_that_its_log_is_asked_for_has_no_offset() {
    let mut hand = Hand::proven(asked(settings()));
    hand.places.clear();
    hand.append("t", None);
    let request = hand.one();
    hand.producer.on_failed(request.id, true, hand.now);
    hand.wait_ms(100);
    let again = hand.one();
    hand.answer(&again, 45);
    hand.log_says(LogSays::There { last_sequence: 1 });
    hand.poll();
    assert_eq!(hand.places, [Some(("t".to_owned(), 0, None))]);
}

#[test]
fn rows_that_expire_stand_nowhere_and_the_others_move_up() {
    let mut hand = Hand::proven(asked(settings()));
    let mut logs = Logs::default();
    hand.producer.on_reachable(false);
    for number in 1..=6u32 {
        let expires = hand.now.after(Duration::from_secs(if number % 3 == 1 { 1 } else { 100 }));
        let value = format!("row {number}");
        let row = Row { key: None, value: Some(value.as_bytes()), headers: std::iter::empty(), timestamp: hand.wall() };
        assert!(hand.producer.has_room(200));
        let ticket = Some(Ticket { session: 1, number });
        hand.producer.append_with(SINK, "t", row, ticket, Terms { expires, ..Terms::default() }, hand.now);
    }
    hand.wait_ms(2_000);
    hand.done.clear();
    hand.places.clear();
    hand.producer.on_reachable(true);
    let request = hand.one();
    assert_eq!(hand.places, [None, None], "1 and 4");
    logs.take(&mut hand, &request);
    assert_eq!(logs.check(&hand), (4, 0));
}

#[test]
fn halves_of_a_split_batch_have_their_own() {
    let mut settings = asked(settings());
    // With a larger window, a younger batch would be out of order.
    settings.sinks[0].max_inflight = 1;
    let mut hand = Hand::proven(settings);
    let mut logs = Logs::default();
    hand.done.clear();
    hand.places.clear();
    (0..8).for_each(|_| hand.append("t", None));
    let whole = hand.one();
    hand.answer(&whole, 87);
    for _ in 0..100 {
        for request in hand.poll() {
            if values(&request).iter().any(|value| value == "row 3") {
                hand.answer(&request, 87);
            } else {
                logs.take(&mut hand, &request);
            }
        }
        hand.wait_ms(100);
    }
    assert_eq!((logs.check(&hand), hand.done.len()), ((7, 0), hand.places.len()));
    let refused = hand.done.iter().position(|(_, outcome)| *outcome == Outcome::Refused(87)).expect("refused");
    assert_eq!(hand.places[refused], None, "it stands nowhere");
}

#[test]
fn rows_that_had_no_partition_at_first_have_a_place_in_the_end() {
    let mut hand = Hand::new(asked(settings()));
    let mut logs = Logs::default();
    for number in 0..40 {
        hand.append("t", (number % 4 > 0).then(|| format!("key {number}")).as_deref());
    }
    assert!(hand.poll().is_empty());
    hand.producer.on_metadata(&[topic("t", &[0, 1, 0])], hand.now);
    hand.producer.on_producer_id(0, 7, 0);
    for _ in 0..5 {
        hand.poll().iter().for_each(|request| logs.take(&mut hand, request));
    }
    assert_eq!(logs.check(&hand), (40, 0));
    assert_eq!(logs.ends.len(), 3, "partitions");
}

#[test]
fn only_an_answer_that_waited_for_kafka_says_where() {
    for (answered_on, places) in [(AnsweredOn::Append, 0), (AnsweredOn::Stored, 0), (AnsweredOn::Replicated, 9)] {
        let mut settings = asked(disk());
        settings.sinks[0].answered_on = answered_on;
        let mut hand = Hand::new(settings);
        let mut logs = Logs::default();
        (0..9).for_each(|_| hand.append("t", None));
        hand.poll_synced();
        hand.producer.on_metadata(&[topic("t", &[0])], hand.now);
        hand.producer.on_producer_id(0, 7, 0);
        for _ in 0..5 {
            hand.poll_synced().iter().for_each(|request| logs.take(&mut hand, request));
        }
        assert_eq!((hand.delivered().len(), logs.rows.len()), (9, 9));
        assert_eq!(logs.check(&hand), (places, 0), "{answered_on:?}");
    }
}

#[test]
fn rows_that_come_back_from_the_disk_have_theirs() {
    let mut settings = asked(disk());
    settings.sinks[0].answered_on = AnsweredOn::Replicated;
    settings.sinks[0].spill_after = 16 * 1024;
    let mut hand = Hand::new(settings);
    let mut logs = Logs::default();
    hand.append("t", Some("key 0"));
    hand.poll_synced();
    hand.producer.on_metadata(&[topic("t", &[0, 0, 0])], hand.now);
    hand.producer.on_producer_id(0, 7, 0);
    hand.producer.on_reachable(false);
    for number in 1..300u32 {
        let value = format!("row {number} {}", "x".repeat(1000));
        hand.append_value("t", Some(&format!("key {}", number % 8)), value.as_bytes());
        hand.poll_synced();
    }
    hand.producer.on_reachable(true);
    for _ in 0..1_000 {
        hand.poll_synced().iter().for_each(|request| logs.take(&mut hand, request));
    }
    assert_eq!(logs.check(&hand), (300, 0));
}
