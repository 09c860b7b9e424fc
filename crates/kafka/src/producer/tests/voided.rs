//! Failures with rows in the log that must not affect others: void cuts, unreadable rows, rows in memory among rows of the log.

use crate::producer::testing::hand::{Hand, topic, values};
use crate::producer::testing::hand::{disk, known};
use crate::producer::{AnsweredOn, Keep};
use crate::types::{NodeId, Outcome, TopicMetadata};
use forebay_record::murmur2;

/// Metadata of a topic in which some partitions have a leader.
fn led(name: &str, led: &[bool]) -> TopicMetadata {
    let leaders = led.iter().map(|led| led.then_some(NodeId(0))).collect();
    TopicMetadata { leaders, ..topic(name, &[]) }
}

/// A key of either of two partitions.
fn key(partition: usize) -> &'static str {
    ["a", "b", "c", "d", "e", "f", "g"]
        .into_iter()
        .find(|key| murmur2::partition(key.as_bytes(), 2) == partition)
        .expect("one")
}

/// Answers all requests until there are none; returns the rows sent.
fn drain(hand: &mut Hand) -> Vec<String> {
    let mut sent = Vec::new();
    for _ in 0..20 {
        for request in hand.poll_synced() {
            sent.extend(values(&request));
            hand.answer(&request, 0);
        }
    }
    sent
}

#[test]
fn a_void_cut_of_rows_without_a_partition_takes_no_row_along_that_stands_between() {
    let mut hand = Hand::new(disk());
    (0..6).for_each(|number| hand.append("t", Some(key(number % 2))));
    hand.poll_synced();
    hand.producer.on_metadata(&[led("t", &[true, false])], hand.now);
    hand.producer.on_producer_id(0, 7, 0);
    assert_eq!(hand.poll_synced().len(), 1);
    // Rows 0, 2 and 4 are cut, and the next process finds one of them damaged.
    let lane = hand.log.state.cuts.values().next().expect("a cut").0.lane;
    hand.log.rotten.push((lane, 2));
    let mut hand = hand.killed(disk(), 8);
    hand.poll();
    hand.producer.on_metadata(&[led("t", &[false, true])], hand.now);
    let mut others = Vec::new();
    (0..4).for_each(|_| others.extend(hand.poll_synced()));
    assert!(others.is_empty(), "while what an earlier start has cut is not in the queues, nothing is placed");
    hand.producer.on_metadata(&[led("t", &[true, true])], hand.now);
    drain(&mut hand);
    let stats = hand.stats();
    assert_eq!((stats.delivered, stats.rotten, stats.buffered_rows), (5, 1, 0));
    assert!(hand.log.state.live.is_empty() && hand.log.state.cuts.is_empty());
}

#[test]
fn rows_of_memory_behind_rows_that_wait_for_the_log_do_not_hide_them() {
    let mut settings = disk();
    settings.sinks[0].keep = Keep::Hybrid;
    settings.sinks[0].answered_on = AnsweredOn::Replicated;
    settings.sinks[0].spill_after = 16 * 1024;
    for rows in 2..10 {
        let mut hand = known(settings.clone());
        let mut under_way = vec![hand.one()];
        hand.log.takes = Some(0);
        // Memory fills: later rows are for the log, which takes nothing.
        (1..rows).for_each(|_| hand.append_value("t", None, &[b'x'; 3000]));
        for _ in 0..6 {
            std::mem::take(&mut under_way).into_iter().for_each(|request| hand.answer_and_drop(request, 0));
            under_way.extend(hand.poll());
        }
        // Memory is free again, and takes new rows.
        hand.append("t", None);
        under_way.extend(hand.poll());
        hand.log.takes = None;
        under_way.into_iter().for_each(|request| hand.answer_and_drop(request, 0));
        drain(&mut hand);
        assert_eq!((hand.stats().delivered, hand.stats().buffered_rows), (rows + 1, 0), "{rows} rows");
    }
}

#[test]
fn rows_of_a_cut_are_not_dropped_to_make_room() {
    let mut hand = known(disk());
    hand.append("t", None);
    hand.poll_synced();
    let cut: Vec<_> = hand.log.state.cuts.values().map(|(cut, ..)| cut.clone()).collect();
    (0..5).for_each(|_| hand.append("t", None));
    hand.poll_synced();
    let lane = cut[0].lane;
    let hand = hand.killed(disk(), 8);
    assert_eq!(hand.droppable(lane), [], "all of it is cut");
    let rest = hand.droppable(1 - lane);
    assert!(matches!(rest[..], [run] if run.count == 5), "{rest:?}");
}

#[test]
fn who_waits_for_a_row_that_cannot_be_read_is_told() {
    let mut settings = disk();
    settings.sinks[0].answered_on = AnsweredOn::Replicated;
    settings.sinks[0].spill_after = 8 * 1024;
    let mut hand = Hand::new(settings);
    for _ in 0..30u32 {
        hand.append_value("t", None, &[b'x'; 3000]);
        hand.poll_synced();
    }
    let on_disk = hand.on_disk(0).expect("rows on the disk");
    hand.log.rotten = vec![(0, on_disk.first + 1), (0, on_disk.end() - 1)];
    hand.producer.on_metadata(&[topic("t", &[0])], hand.now);
    hand.producer.on_producer_id(0, 7, 0);
    (0..10).for_each(|_| drop(drain(&mut hand)));
    hand.poll();
    let refused = hand.done.iter().filter(|(_, outcome)| matches!(outcome, Outcome::Refused(_)));
    assert_eq!(refused.map(|(run, _)| run.count).sum::<u32>(), 2);
    assert_eq!((hand.delivered().len(), hand.stats().rotten, hand.stats().buffered_rows), (28, 2, 0));
}

#[test]
fn a_cut_that_is_half_read_when_its_leader_goes_holds_no_other_partition() {
    let mut hand = Hand::new(disk());
    hand.producer.on_producer_id(0, 7, 0);
    (0..40).for_each(|number| hand.append("t", Some(key(number % 2))));
    hand.poll_synced();
    hand.producer.on_metadata(&[topic("t", &[0, 0])], hand.now);
    let sent = hand.poll_synced();
    assert_eq!((sent.len(), hand.log.state.cuts.len()), (1, 2));
    for later in 0..6 {
        let mut hand = hand_again(&hand);
        hand.poll();
        hand.producer.on_metadata(&[topic("t", &[0, 0])], hand.now);
        // Reads end amid the first cut.
        hand.log.reads = Some(later);
        hand.poll();
        hand.producer.on_metadata(&[led("t", &[false, true])], hand.now);
        hand.log.reads = None;
        let sent = drain(&mut hand);
        assert_eq!(sent.len(), 20, "{later}: {sent:?}");
        hand.producer.on_metadata(&[topic("t", &[0, 0])], hand.now);
        assert_eq!(drain(&mut hand).len(), 20);
        assert_eq!((hand.stats().delivered, hand.stats().outcome_unknown), (40, 0));
    }
}

/// A process started from the log's state, repeatable.
fn hand_again(hand: &Hand) -> Hand {
    let (log, lanes, cuts) = hand.log.clone().crash();
    let mut again = Hand { log, now: hand.now, number: hand.number, ..Hand::new(disk()) };
    again.producer.restore(lanes, cuts);
    again.producer.on_producer_id(0, 8, 0);
    again
}

#[test]
fn what_stands_beside_small_rows_in_the_log_counts_as_theirs() {
    use crate::producer::Terms;
    use crate::producer::row_log::Origin;
    let mut hand = Hand::new(disk());
    for packet_id in 1..=2000 {
        let row =
            forebay_record::Row { key: None, value: Some(b"x"), headers: std::iter::empty(), timestamp: hand.wall() };
        let origin = Some(Origin { session: 3, packet_id });
        let terms = Terms { expires: forebay_runtime::seam::Monotonic(u64::MAX / 2), hash: Some(7), origin };
        assert!(hand.producer.has_room(200));
        hand.producer.append_with(crate::producer::testing::hand::SINK, "t", row, None, terms, hand.now);
    }
    hand.poll_synced();
    assert!(hand.log.largest <= 4096 + 128, "{} bytes in one block", hand.log.largest);
    assert_eq!(hand.log.state.live.len(), 2000);
}
