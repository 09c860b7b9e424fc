//! Partitions with slow followers use the second channel of their broker, and delay no others.

use crate::producer::Settings;
use crate::producer::testing::hand::{Hand, SINK, identity, settings, topic, values};
use crate::types::{ProduceRequest, ProduceResult};
use forebay_record::murmur2;

/// Two partitions at broker 0, both proven, and answers that come at once.
fn two() -> Hand {
    let mut hand = Hand::new(Settings { requests_per_node_max: 3, ..settings() });
    hand.append("t", Some("a"));
    hand.poll();
    hand.producer.on_metadata(&[topic("t", &[0, 0])], hand.now);
    hand.producer.on_producer_id(0, 7, 0);
    for _ in 0..100 {
        append_both(&mut hand);
        for request in hand.poll() {
            hand.wait_ms(2);
            hand.answer(&request, 0);
        }
    }
    assert!(hand.poll().is_empty());
    hand.done.clear();
    hand
}

fn append_both(hand: &mut Hand) {
    hand.append("t", Some("a"));
    hand.append("t", Some(other()));
}

/// A key that goes to partition 1; "a" goes to 0.
fn other() -> &'static str {
    assert_eq!(murmur2::partition(b"a", 2), 0);
    ["b", "c", "d", "e", "f", "g"].into_iter().find(|key| murmur2::partition(key.as_bytes(), 2) == 1).expect("one")
}

/// Answers partition 0 with one code and partition 1 with another.
fn answer(hand: &mut Hand, request: &ProduceRequest, codes: [i16; 2]) {
    let result = |batch: &crate::types::ProduceBatch| ProduceResult {
        topic: batch.topic.clone(),
        partition: batch.partition,
        error: codes[batch.partition as usize],
        base_offset: -1,
    };
    let results: Vec<ProduceResult> = request.batches.iter().map(result).collect();
    hand.producer.on_produced(request.id, &results, 0, hand.now);
}

fn partitions(request: &ProduceRequest) -> Vec<i32> {
    request.batches.iter().map(|batch| batch.partition).collect()
}

#[test]
fn who_is_answered_7_goes_over_the_second_lane_until_it_is_in_time() {
    let mut hand = two();
    append_both(&mut hand);
    let first = hand.poll().remove(0);
    assert_eq!((partitions(&first), first.slow, first.timeout_ms), (vec![0, 1], false, 20));
    hand.wait_ms(20);
    answer(&mut hand, &first, [7, 0]);
    // The first answer 7 may be a pause: the batch is sent again at once, on the same channel.
    assert_eq!(hand.producer.slow_partitions(), 0);
    let second = hand.one();
    assert_eq!((partitions(&second), second.slow, identity(&second)), (vec![0], false, identity(&first)));
    hand.wait_ms(20);
    answer(&mut hand, &second, [7, 0]);
    assert_eq!(hand.producer.slow_partitions(), 1);
    // The batch is sent at once, with the same identity; the other partition continues as before.
    hand.append("t", Some(other()));
    let mut out = hand.poll();
    out.sort_by_key(|request| request.slow);
    let [fast, slow] = &out[..] else { panic!("{out:?}") };
    assert_eq!((partitions(fast), fast.slow), (vec![1], false));
    assert_eq!((partitions(slow), slow.slow, slow.timeout_ms), (vec![0], true, 500));
    assert_eq!(identity(slow), identity(&first));
    hand.answer(fast, 0);
    // After another answer 7: more patience, up to a bound.
    let mut last = out.remove(1);
    let mut patience = Vec::new();
    for _ in 0..4 {
        answer(&mut hand, &last, [7, 0]);
        hand.wait_ms(2_000);
        let mut out = hand.poll();
        last = out.remove(0);
        assert_eq!((partitions(&last), identity(&last)), (vec![0], identity(&first)));
        patience.push(last.timeout_ms);
    }
    assert_eq!(patience, [1_000, 2_000, 2_000, 2_000]);
    // The followers already have a batch that is sent again: its answer proves nothing.
    answer(&mut hand, &last, [0, 0]);
    assert_eq!(hand.producer.slow_partitions(), 1);
    // Each batch taken at its first sending lowers patience by one step.
    for timeout_ms in [2_000, 1_000, 500] {
        hand.append("t", Some("a"));
        let request = hand.poll().remove(0);
        assert_eq!((request.slow, request.timeout_ms), (true, timeout_ms));
        hand.answer(&request, 0);
        while let Some(request) = hand.poll().pop() {
            hand.answer(&request, 0);
        }
    }
    assert_eq!(hand.producer.slow_partitions(), 0);
    hand.append("t", Some("a"));
    assert!(!hand.one().slow);
}

#[test]
fn a_partition_is_never_on_both_lanes() {
    let mut hand = two();
    hand.append("t", Some("a"));
    let first = hand.one();
    hand.answer(&first, 7);
    let mut requests = vec![hand.one()];
    for _ in 0..2 {
        hand.append("t", Some("a"));
        requests.push(hand.one());
    }
    hand.wait_ms(100);
    // The first is answered 7, the second 0 (so both are there): the third is still on the first channel.
    hand.answer(&requests[0], 7);
    hand.answer(&requests[1], 0);
    hand.append("t", Some("a"));
    hand.wait_ms(2_000);
    assert!(hand.poll().is_empty(), "one of it is in flight on the first lane");
    hand.answer(&requests[2], 0);
    let next = hand.one();
    assert!(next.slow);
    // The way back to the first channel.
    hand.append("t", Some("a"));
    let second = hand.one();
    assert!(second.slow);
    hand.answer(&next, 0);
    assert_eq!(hand.producer.slow_partitions(), 0);
    hand.append("t", Some("a"));
    assert!(hand.poll().is_empty(), "one of it is in flight on the second lane");
    hand.answer(&second, 0);
    assert!(!hand.one().slow);
}

#[test]
fn five_answers_7_are_one_step() {
    let mut hand = two();
    let requests: Vec<ProduceRequest> = (0..3)
        .map(|_| {
            hand.append("t", Some("a"));
            hand.one()
        })
        .collect();
    for request in &requests {
        hand.answer(request, 7);
    }
    let again = hand.poll();
    assert!(again.len() == 3 && again.iter().all(|request| !request.slow), "{again:?}");
    for request in &again {
        hand.answer(request, 7);
    }
    let again = hand.poll();
    assert!(again.iter().all(|request| request.slow && request.timeout_ms == 500), "{again:?}");
    let sent: Vec<_> = again.iter().map(identity).collect();
    assert_eq!(sent, requests.iter().map(identity).collect::<Vec<_>>(), "in order");
}

#[test]
fn nothing_is_put_behind_a_request_that_takes_longer_than_usual() {
    let mut hand = two();
    append_both(&mut hand);
    let first = hand.one_of_two();
    hand.append("t", Some(other()));
    let second = hand.one();
    assert_eq!(partitions(&second), [1], "answers take 2 ms: not late yet");
    hand.wait_ms(50);
    hand.append("t", Some(other()));
    assert!(hand.poll().is_empty(), "the first is late");
    hand.answer(&first, 0);
    hand.answer(&second, 0);
    assert_eq!(values(&hand.one()).len(), 1);
}

#[test]
fn behind_others_followers_have_less_time() {
    let mut hand = two();
    for _ in 0..100 {
        hand.append("t", Some("a"));
        let request = hand.one();
        hand.wait_ms(60);
        hand.answer(&request, 0);
    }
    let asked: Vec<i32> = (0..3)
        .map(|_| {
            hand.append("t", Some("a"));
            hand.one().timeout_ms
        })
        .collect();
    assert_eq!(asked, [120, 60, 40], "twice what it usually takes, and parts of that");
}

#[test]
fn a_new_leader_begins_on_the_first_lane_and_at_once() {
    let mut hand = two();
    hand.append("t", Some("a"));
    let first = hand.one();
    hand.answer(&first, 7);
    let second = hand.one();
    hand.answer(&second, 7);
    let second = hand.one();
    assert!(second.slow);
    hand.producer.on_metadata(&[topic("t", &[1, 0])], hand.now);
    assert_eq!(hand.producer.slow_partitions(), 0);
    assert!(hand.poll().is_empty(), "the old one has not answered");
    hand.producer.on_failed(second.id, true, hand.now);
    let third = hand.one();
    assert_eq!((third.node.0, third.slow, identity(&third)), (1, false, identity(&first)), "without waiting");
}

#[test]
fn a_forgotten_topic_is_not_slow() {
    let mut hand = Hand::new(Settings { topics_max: 1, topic_idle: std::time::Duration::from_millis(1), ..settings() });
    hand.append("t", None);
    hand.poll();
    hand.producer.on_metadata(&[topic("t", &[0])], hand.now);
    hand.producer.on_producer_id(0, 7, 0);
    for _ in 0..2 {
        let request = hand.one();
        hand.answer(&request, 7);
    }
    let again = hand.one();
    hand.answer(&again, 0);
    assert_eq!(hand.producer.slow_partitions(), 1);
    hand.wait_ms(10);
    hand.poll();
    assert_eq!(hand.producer.slow_partitions(), 0);
    assert_eq!(hand.producer.check(SINK, "u", 10), Ok(None));
}
