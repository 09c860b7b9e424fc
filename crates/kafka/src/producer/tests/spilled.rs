//! Rows that memory has no room for are in the log alone and are read back in order.

use std::time::Duration;

use crate::producer::row_log::RowRun;
use crate::producer::testing::hand::disk;
use crate::producer::testing::hand::{Hand, SINK, topic, values};
use crate::producer::{AnsweredOn, Full, Keep, Settings, SinkSettings, Want};
use crate::types::{SinkId, Ticket, TopicMetadata};
use forebay_record::Row;

fn tight() -> Settings {
    let mut settings = disk();
    settings.sinks[0].spill_after = 64 * 1024;
    settings
}

#[test]
fn ten_times_the_memory_is_taken_while_kafka_is_away_and_sent_in_order() {
    // The memory limit may change meanwhile.
    for (partitions, keys, then) in [(1, 1, 64), (3, 8, 64), (3, 8, 8), (3, 8, 128)] {
        let mut hand = Hand::new(tight());
        hand.append("t", Some("key 0"));
        hand.poll_synced();
        hand.producer.on_metadata(&[topic("t", &vec![0; partitions])], hand.now);
        hand.producer.on_producer_id(0, 7, 0);
        hand.producer.on_reachable(false);
        let mut keyed = vec![(0, 0)];
        for number in 1..5000u32 {
            let key = number % keys;
            hand.append_value("t", Some(&format!("key {key}")), format!("{number} {}", "x".repeat(1000)).as_bytes());
            keyed.push((key, number));
            if number == 2500 {
                let sink = SinkSettings { spill_after: then * 1024, ..tight().sinks[0].clone() };
                hand.producer.change_sinks([(SINK, sink)]);
                assert_eq!(hand.producer.sinks[0].settings.spill_after, then * 1024);
            }
            if number % 20 == 0 {
                hand.poll();
                hand.log.sync();
            }
        }
        hand.poll_synced();
        assert!(hand.producer.memory_bytes() < 512 * 1024, "{}", hand.producer.memory_bytes());
        assert_eq!((hand.delivered().len(), hand.stats().buffered_rows), (5000, 5000));
        hand.producer.on_reachable(true);
        let mut read = Vec::new();
        for round in 0..20_000 {
            for request in hand.poll_synced() {
                for batch in &request.batches {
                    let (view, _) = forebay_record::BatchView::parse(&batch.bytes).expect("a batch");
                    read.extend(crate::producer::testing::hand::read(&view));
                }
                hand.answer_and_drop(request, 0);
            }
            if hand.stats().buffered_rows == 0 {
                break;
            }
            assert!(round < 19_000, "{:?}", hand.stats());
        }
        hand.poll();
        for key in 0..keys {
            let name = format!("key {key}").into_bytes();
            let of_key = read.iter().filter(|(key, _)| key.as_ref() == Some(&name));
            let number = |value: &[u8]| {
                let text = String::from_utf8_lossy(value).into_owned();
                text.trim_start_matches("row ").split(' ').next().expect("a word").parse::<u32>().expect("a number")
            };
            let numbers: Vec<u32> = of_key.map(|(_, value)| number(value)).collect();
            let expected: Vec<u32> = keyed.iter().filter(|row| row.0 == key).map(|row| row.1).collect();
            assert_eq!(numbers, expected);
        }
        assert!(hand.log.read > 3000, "{}", hand.log.read);
        assert!(hand.log.state.live.is_empty() && hand.log.state.cuts.is_empty());
        assert_eq!(hand.producer.buffered_bytes(), 0);
    }
}

#[test]
fn what_is_dropped_on_the_disk_is_counted_and_not_read() {
    use crate::producer::row_log::{Ended, Fate, RowLog, RowRun};
    let mut hand = Hand::new(tight());
    for number in 0..500u32 {
        hand.append_value("t", None, format!("{number} {}", "x".repeat(1000)).as_bytes());
        hand.poll_synced();
    }
    let run = RowRun { first: hand.on_disk(0).expect("rows on the disk").first, count: 10 };
    let ended = Ended { cut: None, lane: 0, rows: &[run], fate: Fate::Expired };
    hand.log.ended(&ended).expect("taken");
    hand.drop_rows(0, run);
    assert_eq!((hand.stats().dropped, hand.stats().buffered_rows), (10, 490));
    hand.producer.on_metadata(&[topic("t", &[0])], hand.now);
    hand.producer.on_producer_id(0, 7, 0);
    let mut sent = 0;
    for _ in 0..2000 {
        for request in hand.poll_synced() {
            sent += values(&request).len();
            hand.answer_and_drop(request, 0);
        }
    }
    assert_eq!((sent, hand.stats().buffered_rows, hand.stats().rotten), (490, 0, 0));
}

/// Until the end of rows is durable the log still returns them, and rows before them may have moved after them.
#[test]
fn what_is_dropped_is_not_sent_while_the_log_still_reads_it() {
    use crate::producer::row_log::RowRun;
    let mut hand = Hand::new(tight());
    for number in 0..500u32 {
        hand.append_value("t", None, format!("{number} {}", "x".repeat(1000)).as_bytes());
        hand.poll_synced();
    }
    let first = hand.on_disk(0).expect("rows on the disk").first;
    for (first, count) in [(first + 5, 10), (first + 30, 10), (first + 15, 5)] {
        hand.drop_rows(0, RowRun { first, count });
    }
    hand.producer.on_metadata(&[topic("t", &[0])], hand.now);
    hand.producer.on_producer_id(0, 7, 0);
    let mut sent = 0;
    for _ in 0..2000 {
        for request in hand.poll_synced() {
            sent += values(&request).len();
            hand.answer_and_drop(request, 0);
        }
    }
    assert_eq!((sent, hand.stats().buffered_rows, hand.stats().dropped), (475, 0, 25));
}

#[test]
fn an_orderly_stop_saves_what_is_in_memory_and_a_start_sends_it_once() {
    use crate::producer::AnsweredOn;
    use crate::producer::testing::hand::identity;
    let mut settings = disk();
    settings.sinks[0].keep = Keep::HybridSaved;
    settings.sinks[0].answered_on = AnsweredOn::Append;
    let mut hand = crate::producer::testing::hand::known(settings.clone());
    let first = hand.one();
    assert!(hand.log.state.live.is_empty(), "memory first");
    (0..3).for_each(|_| hand.append("t", None));
    hand.append("other", None);
    assert!(hand.poll().is_empty());
    for takes in 0..20 {
        hand.log.takes = Some(takes % 3);
        if hand.producer.save(&mut hand.log) {
            break;
        }
    }
    hand.log.takes = None;
    assert!(hand.producer.save(&mut hand.log));
    hand.log.sync();
    let mut hand = hand.killed(settings, 8);
    assert_eq!(hand.stats().recovered, 5);
    hand.poll();
    hand.producer.on_metadata(&[topic("t", &[0]), topic("other", &[0])], hand.now);
    let mut sent = Vec::new();
    let mut identities = Vec::new();
    for _ in 0..10 {
        for request in hand.poll_synced() {
            for batch in &request.batches {
                let (view, _) = forebay_record::BatchView::parse(&batch.bytes).expect("a batch");
                sent.extend(crate::producer::testing::hand::read(&view).into_iter().map(|(_, value)| value));
            }
            identities.push(identity(&request));
            hand.answer_and_drop(request, 0);
        }
    }
    sent.sort();
    let expected: Vec<Vec<u8>> = (0..5).map(|number| format!("row {number}").into_bytes()).collect();
    assert_eq!(sent, expected);
    assert!(identities.contains(&identity(&first)));
    assert!(hand.log.state.live.is_empty() && hand.log.state.cuts.is_empty());
}

/// Takes rows of two sessions in turn, which wait for Kafka, until their sink takes no more or `most` are taken.
fn taken_in_turns(hand: &mut Hand, most: u32) -> Result<u32, Full> {
    for number in 0..most {
        let known = hand.producer.check(SINK, "t", 1_100).expect("it may go there");
        hand.producer.share(SINK, known, 1_100)?;
        let row = Row { key: None, value: Some(&[7; 1_000]), headers: std::iter::empty(), timestamp: hand.wall() };
        let ticket = Ticket { session: u64::from(number % 2), number };
        assert!(hand.producer.has_room(1_100));
        hand.producer.append(SINK, "t", row, Some(ticket), hand.now);
        hand.poll_synced();
    }
    Ok(most)
}

/// Kafka is back: everything is written to it.
fn drain(hand: &mut Hand) {
    hand.producer.on_metadata(&[topic("t", &[0])], hand.now);
    hand.producer.on_producer_id(0, 7, 0);
    for _ in 0..20_000 {
        hand.poll_synced().into_iter().for_each(|request| hand.answer_and_drop(request, 0));
        if hand.stats().buffered_rows == 0 {
            break;
        }
    }
}

#[test]
fn answers_owed_for_rows_on_the_disk_alone_count_as_memory() {
    let mut settings = tight();
    (settings.sinks[0].answered_on, settings.sinks[0].fixed_topic) = (AnsweredOn::Replicated, true);
    settings.sinks[0].spill_after = 256 * 1024;
    let mut hand = Hand::new(settings.clone());
    taken_in_turns(&mut hand, 2_000).expect("half of what may be in memory");
    let (spilled, used) = (hand.producer.spilled_rows(SINK), hand.producer.buffered_bytes());
    assert!(spilled > 1_500 && used > 24 * usize::try_from(spilled).expect("some"), "{spilled} rows, {used} bytes");
    // All of the memory is given back with the rows.
    drain(&mut hand);
    hand.poll();
    assert_eq!((hand.delivered().len(), hand.producer.buffered_bytes()), (2_000, 0));
    // A row that is dropped to make room leaves no ticket either.
    let mut hand = Hand::new(settings);
    taken_in_turns(&mut hand, 1_000).expect("room");
    let (disk, before) = (hand.on_disk(0).expect("rows on the disk"), hand.producer.buffered_bytes());
    hand.drop_rows(0, RowRun { first: disk.first + 5, count: 10 });
    assert!(hand.producer.buffered_bytes() <= before - 240, "{before}");
}

#[test]
fn answers_owed_for_rows_on_the_disk_alone_are_bounded_and_their_rows_come_back() {
    let mut settings = tight();
    settings.buffer_bytes = 512 * 1024;
    (settings.sinks[0].answered_on, settings.sinks[0].fixed_topic) = (AnsweredOn::Replicated, true);
    let mut hand = Hand::new(settings);
    assert!(taken_in_turns(&mut hand, 50_000).is_err(), "their tickets take more than the memory");
    let taken = hand.stats().buffered_rows;
    assert!(taken > 500 && hand.producer.buffered_bytes() < 256 * 1024, "{taken} rows");
    drain(&mut hand);
    assert_eq!(hand.stats().buffered_rows, 0);
    taken_in_turns(&mut hand, 100).expect("room again");
}

#[test]
fn rows_on_the_disk_alone_hear_that_kafka_refuses_their_topic() {
    for restarts in [false, true] {
        let mut hand = Hand::new(tight());
        for number in 0..500u32 {
            hand.append_value("t", Some("k"), format!("{number} {}", "x".repeat(1000)).as_bytes());
            hand.poll_synced();
        }
        assert!(hand.producer.spilled_rows(SINK) > 300, "{}", hand.producer.spilled_rows(SINK));
        if restarts {
            hand = hand.killed(tight(), 8);
        }
        let forbidden = TopicMetadata { name: "t".into(), error: 29, ..Default::default() };
        for _ in 0..2000 {
            hand.poll_synced();
            if std::mem::take(&mut hand.wants).contains(&Want::Metadata("t".into())) {
                hand.producer.on_metadata(std::slice::from_ref(&forbidden), hand.now);
            }
            hand.wait_ms(50);
        }
        assert_eq!((hand.stats().refused, hand.stats().buffered_rows), (500, 0), "restarts: {restarts}");
        hand.poll_synced();
        assert!(hand.log.state.live.is_empty());
    }
}

/// D9. Rows without a partition when they were stored stay in memory once they get one: rows of partitions without a
/// leader must leave room for the others.
#[test]
fn partitions_without_a_leader_hold_no_other_topic_up() {
    let mut hand = Hand::new(tight());
    for number in 0..300u32 {
        let value = format!("{number} {}", "x".repeat(1000));
        // Rows of three partitions by their keys, and of another topic.
        hand.append_value(&format!("dark-{}", number % 6), Some(&format!("key {}", number % 8)), value.as_bytes());
        hand.append_value("light", Some("key"), value.as_bytes());
        hand.poll_synced();
    }
    let dark = |leaders: &[i32]| (0..6).map(|number| topic(&format!("dark-{number}"), leaders)).collect::<Vec<_>>();
    let leaderless = dark(&[0; 3]).into_iter().map(|topic| TopicMetadata { leaders: vec![None; 3], ..topic });
    hand.producer.on_metadata(&leaderless.chain([topic("light", &[0])]).collect::<Vec<_>>(), hand.now);
    hand.producer.on_producer_id(0, 7, 0);
    let sent = |hand: &mut Hand| {
        let before = hand.stats().delivered;
        for _ in 0..2_000 {
            hand.poll_synced().into_iter().for_each(|request| hand.answer_and_drop(request, 0));
            hand.wait_ms(10);
        }
        hand.stats().delivered - before
    };
    assert_eq!((sent(&mut hand), hand.stats().buffered_rows), (300, 300));
    // New rows go the same way.
    (0..50).for_each(|_| hand.append_value("light", Some("key"), &[7; 1_000]));
    assert_eq!(sent(&mut hand), 50);
    hand.producer.on_metadata(&dark(&[0; 3]), hand.now);
    assert_eq!((sent(&mut hand), hand.stats().buffered_rows), (300, 0));
}

/// N13. A batch did not grow any more once a later row went to the log; when that row left memory, the batch seemed to grow
/// again, which delayed it and all later ones.
#[test]
fn a_batch_is_full_for_good_though_what_came_behind_it_leaves_memory() {
    let mut settings = tight();
    let sink = &mut settings.sinks[0];
    (sink.keep, sink.answered_on) = (Keep::Hybrid, AnsweredOn::Replicated);
    (sink.linger, sink.max_inflight, sink.spill_after) = (Duration::from_millis(100), 1, 6 * 1024);
    let mut hand = Hand::proven(settings);
    hand.append_value("t", None, &[0; 3_000]);
    hand.wait_ms(100);
    let under_way = hand.one();
    for value in 1..4 {
        hand.append_value("t", None, &[value; 3_000]);
        hand.wait_ms(10);
    }
    hand.poll_synced();
    assert_eq!((hand.stats().buffered_rows, hand.producer.spilled_rows(SINK)), (4, 2));
    hand.answer_and_drop(under_way, 0);
    let mut sent = Vec::new();
    for _ in 0..4 {
        for request in hand.poll_synced() {
            sent.push(values(&request)[0].as_bytes()[0]);
            hand.answer_and_drop(request, 0);
        }
        hand.wait_ms(100);
    }
    assert_eq!((sent, hand.stats().buffered_rows), (vec![1, 2, 3], 0));
}

/// Rows without a partition are read back to be copied into one: they leave room for that, whatever the size of memory.
#[test]
fn rows_of_several_topics_that_are_read_back_leave_room_to_place_them() {
    for buffer_bytes in (0..100 * 1024).step_by(512) {
        let mut settings = disk();
        settings.sinks[0].record_bytes_max = 4096;
        settings.sinks = vec![settings.sinks[0].clone(); 3];
        settings.buffer_bytes = buffer_bytes;
        let mut hand = Hand::new(settings.clone());
        for number in 0..360u16 {
            let name = format!("t{}", number / 3 % 2);
            let row = Row { key: None, value: Some(&[7; 900]), headers: std::iter::empty(), timestamp: hand.wall() };
            hand.producer.append(SinkId(number % 3), &name, row, None, hand.now);
            hand.poll_synced();
        }
        let mut hand = hand.killed(settings, 8);
        (1..3).for_each(|sink| hand.producer.on_producer_id(sink, 8, 0));
        hand.poll();
        hand.producer.on_metadata(&[topic("t0", &[0]), topic("t1", &[0])], hand.now);
        for _ in 0..1_000 {
            hand.poll_synced().into_iter().for_each(|request| hand.answer_and_drop(request, 0));
            hand.wait_ms(1);
        }
        let left: u64 = (0..3).map(|sink| hand.producer.stats(SinkId(sink)).buffered_rows).sum();
        assert_eq!(left, 0, "{buffer_bytes} bytes:\n{}", hand.producer.standing());
    }
}
