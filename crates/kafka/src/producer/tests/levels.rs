//! Choices of a sink: acks, and the partitioner.

use crate::producer::testing::hand::{Hand, SINK, identity, settings, topic};
use crate::producer::{AnsweredOn, Partitioner, Settings};
use crate::types::Outcome;

fn with(change: impl FnOnce(&mut Settings)) -> Settings {
    let mut settings = settings();
    change(&mut settings);
    settings
}

#[test]
fn at_leader_the_answer_is_the_leaders_and_what_a_lost_one_took_along_is_counted() {
    let mut hand = Hand::proven(with(|settings| settings.sinks[0].acks = 1));
    hand.append("t", None);
    let request = hand.one();
    assert_eq!(request.acks, 1);
    assert_eq!(identity(&request), (7, 0, 1), "idempotent all the same");
    hand.answer(&request, 0);
    hand.poll();
    assert_eq!(hand.done.last().map(|done| done.1), Some(Outcome::Delivered));
    // The new leader lacks the batch that the old one acknowledged.
    hand.append("t", None);
    let request = hand.one();
    hand.answer(&request, 45);
    hand.log_says(crate::types::LogSays::Lost);
    assert_eq!((hand.stats().acknowledged_lost, hand.stats().outcome_unknown), (1, 0));
    hand.wait_ms(100);
    let anew = hand.one();
    assert_eq!(identity(&anew), (7, 1, 0));
    hand.answer(&anew, 0);
    assert_eq!((hand.stats().delivered, hand.stats().refused, hand.stats().buffered_rows), (3, 0, 0));
}

/// With fewer than all replicas a new leader may not know the producer, and would take any of its batches first.
#[test]
fn at_leader_one_batch_goes_alone_to_a_leader_that_is_new() {
    for acks in [1, -1] {
        let mut hand = Hand::proven(with(|settings| settings.sinks[0].acks = acks));
        hand.producer.on_metadata(&[topic("t", &[1])], hand.now);
        hand.append("t", None);
        let first = hand.one();
        hand.append("t", None);
        assert_eq!(hand.poll().is_empty(), acks == 1, "acks {acks}");
        if acks == 1 {
            hand.answer(&first, 0);
            hand.one();
            hand.append("t", None);
            hand.one();
        }
    }
}

/// Later answers of the old leader prove nothing about the new one.
#[test]
fn at_leader_a_late_answer_of_the_old_one_changes_nothing_about_that() {
    for acks in [1, -1] {
        let mut hand = Hand::proven(with(|settings| settings.sinks[0].acks = acks));
        hand.append("t", None);
        let old = hand.one();
        hand.producer.on_metadata(&[topic("t", &[1])], hand.now);
        hand.answer(&old, 0);
        hand.append("t", None);
        hand.one();
        hand.append("t", None);
        assert_eq!(hand.poll().is_empty(), acks == 1, "acks {acks}");
    }
}

#[test]
fn with_acks_0_batches_are_not_numbered() {
    let mut hand = Hand::proven(with(|settings| {
        settings.sinks[0].acks = 0;
        settings.sinks[0].answered_on = AnsweredOn::Append;
    }));
    for _ in 0..7 {
        hand.append("t", None);
        let request = hand.one();
        assert_eq!((request.acks, identity(&request)), (0, (-1, -1, -1)));
        // With acks=0, only that the bytes were handed over is known.
        hand.answer(&request, 0);
    }
    assert_eq!(hand.stats().delivered, 8);
    assert_eq!(hand.stats().buffered_rows, 0);
}

/// The partitions of forty rows with `keys` different keys, and their number of batches.
fn spread(partitioner: Partitioner, keys: usize) -> (Vec<i32>, usize) {
    let mut hand = Hand::new(with(|settings| settings.sinks[0].partitioner = partitioner));
    hand.producer.on_producer_id(u64::from(SINK.0), 7, 0);
    // The rows are held at first: no metadata yet.
    for n in 0..40 {
        hand.append("t", Some(&format!("key {}", n % keys)));
    }
    hand.poll();
    hand.producer.on_metadata(&[topic("t", &[0; 8])], hand.now);
    let mut at = Vec::new();
    let mut batches = 0;
    while hand.producer.buffered_rows() > 0 {
        for request in hand.poll() {
            for batch in &request.batches {
                at.push(batch.partition);
                batches += 1;
            }
            hand.answer(&request, 0);
        }
        hand.wait_ms(10);
    }
    assert_eq!(hand.stats().delivered, 40);
    at.sort_unstable();
    at.dedup();
    (at, batches)
}

#[test]
fn partitioners_spread_as_they_say() {
    let home = |n: usize| forebay_record::murmur2::partition(format!("key {n}").as_bytes(), 8) as i32;
    assert_eq!(spread(Partitioner::Key, 1), (vec![home(0)], 1));
    let mut homes: Vec<_> = (0..10).map(home).collect();
    homes.sort_unstable();
    homes.dedup();
    assert!(homes.len() > 2);
    assert_eq!(spread(Partitioner::Key, 10), (homes.clone(), homes.len()));
    let (at, batches) = spread(Partitioner::Sticky, 10);
    assert_eq!((at.len(), batches), (1, 1), "one batch, wherever");
    let (at, _) = spread(Partitioner::Random, 1);
    assert!(at.len() >= 5, "{at:?}");
}
