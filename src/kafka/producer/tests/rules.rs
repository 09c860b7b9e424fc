//! The rules, one by one.

use std::rc::Rc;
use std::time::Duration;

use super::hand::{HOUR_MS, Hand, SINK, identity, settings, topic, values};
use crate::kafka::compression::Codec;
use crate::kafka::murmur2;
use crate::kafka::producer::{AnsweredOn, Refusal, Settings, SinkSettings, Want};
use crate::kafka::types::{NodeId, Outcome, ProduceRequest, ProduceResult, Run, SinkId, TopicMetadata};
use crate::runtime::seam::Monotonic;

fn identities(requests: &[ProduceRequest]) -> Vec<(i64, i16, i32)> {
    requests.iter().map(identity).collect()
}

// P1

#[test]
fn rows_gather_while_the_window_is_full_and_linger_is_long_over() {
    let mut hand = Hand::proven(settings());
    let window = hand.five();
    for _ in 0..20 {
        hand.append("t", None);
        hand.wait_ms(10);
        assert!(hand.poll().is_empty(), "P2: five by span");
    }
    hand.answer(&window[0], 0);
    let next = hand.one();
    assert_eq!(values(&next).len(), 20, "P1: one batch of all that came meanwhile");
}

#[test]
fn linger_holds_a_batch_back_and_the_deadline_says_until_when() {
    let mut with_linger = settings();
    with_linger.sinks[0].linger = Duration::from_millis(7);
    let mut hand = Hand::new(with_linger);
    hand.append("t", None);
    hand.producer.on_producer_id(0, 7, 0);
    hand.producer.on_metadata(&[topic("t", &[0])], hand.now);
    let first = hand.one();
    hand.answer(&first, 0);
    hand.append("t", None);
    hand.wait_ms(3);
    hand.append("t", None);
    assert!(hand.poll().is_empty());
    let deadline = hand.producer.next_deadline();
    assert_eq!(deadline, hand.now.after(Duration::from_millis(4)));
    hand.now = deadline;
    assert_eq!(values(&hand.one()).len(), 2);
    hand.now = hand.now.after(Duration::from_secs(60));
    hand.poll();
    assert_eq!(hand.producer.next_deadline(), Monotonic::NEVER, "nothing to wait for");
}

#[test]
fn a_full_batch_does_not_wait_for_linger() {
    let mut with_linger = settings();
    with_linger.sinks[0].linger = Duration::from_secs(10);
    let mut hand = Hand::new(with_linger);
    hand.producer.on_producer_id(0, 7, 0);
    hand.append("t", None);
    hand.producer.on_metadata(&[topic("t", &[0])], hand.now);
    let first = hand.one();
    hand.answer(&first, 0);
    for _ in 0..5 {
        hand.append_value("t", Some("k"), &[b'x'; 1000]);
    }
    assert_eq!(values(&hand.one()).len(), 3, "what fits into 4096 bytes");
}

// P2, P3

#[test]
fn the_first_batch_of_an_id_goes_alone_until_it_is_answered_0() {
    let mut hand = Hand::new(settings());
    hand.append("t", None);
    hand.poll();
    hand.producer.on_metadata(&[topic("t", &[0])], hand.now);
    assert!(hand.poll().is_empty(), "no producer id yet");
    hand.producer.on_producer_id(0, 7, 3);
    let first = hand.one();
    assert_eq!(identity(&first), (7, 3, 0));
    hand.append("t", None);
    assert!(hand.poll().is_empty(), "P2");
    hand.answer(&first, 19);
    hand.wait_ms(100);
    let again = hand.one();
    assert_eq!(identity(&again), (7, 3, 0));
    assert!(Rc::ptr_eq(&again.batches[0].bytes, &first.batches[0].bytes), "the very same bytes");
    hand.append("t", None);
    assert!(hand.poll().is_empty(), "still not answered 0");
    hand.answer(&again, 0);
    assert_eq!(identity(&hand.one()), (7, 3, 1));
    for sequence in 3..7 {
        hand.append("t", None);
        assert_eq!(identity(&hand.one()), (7, 3, sequence), "and now beside each other");
    }
}

#[test]
fn after_five_the_sixth_waits_for_the_oldest_only() {
    let mut hand = Hand::proven(settings());
    let window = hand.five();
    assert_eq!(identities(&window), [(7, 0, 1), (7, 0, 2), (7, 0, 3), (7, 0, 4), (7, 0, 5)]);
    hand.append("t", None);
    assert!(hand.poll().is_empty());
    hand.answer(&window[0], 0);
    assert_eq!(identity(&hand.one()), (7, 0, 6));
    hand.append("t", None);
    assert!(hand.poll().is_empty());
}

#[test]
fn a_batch_that_kafka_may_forget_goes_alone_and_so_does_the_next() {
    for age_ms in [2 * HOUR_MS as i64, -2 * (HOUR_MS as i64), 10_i64.pow(13)] {
        let mut hand = Hand::proven(settings());
        hand.append("t", None);
        let fresh = hand.one();
        hand.age_ms = age_ms;
        hand.append("t", None);
        assert!(hand.poll().is_empty(), "not beside another");
        hand.answer(&fresh, 0);
        let old = hand.one();
        hand.age_ms = 0;
        hand.append("t", None);
        assert!(hand.poll().is_empty(), "and nothing beside it");
        hand.answer(&old, 0);
        let next = hand.one();
        hand.append("t", None);
        assert!(hand.poll().is_empty(), "Kafka may have forgotten the id by now: alone like a first one");
        hand.answer(&next, 0);
        assert_eq!(hand.five().len(), 5);
    }
}

#[test]
fn after_an_hour_of_silence_a_batch_goes_alone() {
    let mut hand = Hand::proven(settings());
    hand.wait_ms(HOUR_MS + 1);
    hand.append("t", None);
    let first = hand.one();
    hand.append("t", None);
    assert!(hand.poll().is_empty());
    hand.answer(&first, 0);
    hand.one();
}

#[test]
fn each_sink_has_an_id_of_its_own_and_asks_once() {
    let mut two = settings();
    two.sinks.push(two.sinks[0].clone());
    let mut hand = Hand::new(two);
    hand.append("t", None);
    hand.append("t", None);
    hand.producer.append(SinkId(1), "t", super::memory::row(b"v"), None, hand.now);
    hand.poll();
    let wants = |want: Want| hand.wants.iter().filter(|said| **said == want).count();
    assert_eq!((wants(Want::ProducerId(0)), wants(Want::ProducerId(1))), (1, 1));
    assert_eq!(wants(Want::Metadata("t".into())), 2, "one a sink");
    hand.producer.on_metadata(&[topic("t", &[0])], hand.now);
    hand.producer.on_producer_id(1, 8, 0);
    assert_eq!(identity(&hand.one()), (8, 0, 0), "a sink with an id waits for no other");
    hand.producer.on_producer_id(0, 7, 0);
    assert_eq!(identity(&hand.one()), (7, 0, 0));
}

// P4

#[test]
fn a_retriable_error_sends_all_undone_again_in_order_with_the_same_identity() {
    let mut hand = Hand::proven(settings());
    let window = hand.five();
    hand.answer(&window[0], 0);
    hand.answer(&window[1], 6);
    hand.append("t", None);
    assert!(hand.poll().is_empty(), "the round comes to its end first");
    assert!(hand.wants.contains(&Want::Refresh));
    hand.answer(&window[2], 45);
    hand.answer(&window[3], 45);
    hand.wait_ms(5000);
    assert!(hand.poll().is_empty());
    hand.producer.on_failed(window[4].id, true, hand.now);
    assert!(hand.poll().is_empty(), "backoff");
    hand.now = hand.producer.next_deadline();
    let again = hand.poll();
    // Four, and the one that had not been cut goes behind them.
    assert_eq!(identities(&again[..4]), identities(&window[1..]));
    assert_eq!(again.len(), 5);
    assert_eq!(identity(&again[4]), (7, 0, 6));
    again.iter().for_each(|request| hand.answer(request, 0));
    assert_eq!(hand.delivered(), (0..=6).collect::<Vec<_>>());
    let stats = hand.stats();
    assert_eq!((stats.retries, stats.epochs_raised, stats.outcome_unknown), (4, 0, 0));
}

#[test]
fn an_answer_0_settles_every_older_batch() {
    // A clean restart: the broker remembers its last batch only, and all five are there.
    let mut hand = Hand::proven(settings());
    let window = hand.five();
    window.iter().for_each(|request| hand.producer.on_failed(request.id, true, hand.now));
    hand.wait_ms(100);
    let again = hand.poll();
    assert_eq!(identities(&again), identities(&window));
    for (request, code) in again.iter().zip([45, 45, 45, 45, 0]) {
        hand.answer(request, code);
    }
    assert_eq!(hand.delivered(), (0..=5).collect::<Vec<_>>());
    assert!(hand.poll().is_empty());
    assert_eq!((hand.stats().epochs_raised, hand.stats().buffered_rows), (0, 0));
}

#[test]
fn late_answers_of_what_a_younger_one_has_settled_are_nothing() {
    let mut hand = Hand::proven(settings());
    let window = hand.five();
    hand.answer(&window[2], 0);
    assert_eq!(hand.delivered(), [0, 1, 2, 3]);
    hand.answer(&window[0], 45);
    hand.producer.on_failed(window[1].id, true, hand.now);
    hand.answer(&window[1], 7);
    assert_eq!(hand.stats().delivered, 4);
    hand.answer(&window[3], 0);
    hand.answer(&window[4], 0);
    assert_eq!(hand.delivered(), [0, 1, 2, 3, 4, 5]);
    assert_eq!(hand.stats().retries, 0);
}

#[test]
fn where_45_is_all_that_was_said_the_unsent_rest_is_sent_before_judging() {
    // A broker with room for two requests: the round is cut in half by that alone.
    let mut narrow = settings();
    narrow.requests_per_node_max = 2;
    let mut hand = Hand::proven(narrow);
    let mut window = Vec::new();
    for _ in 0..2 {
        hand.append("t", None);
        window.push(hand.one());
    }
    hand.append("t", None);
    assert!(hand.poll().is_empty(), "the broker has enough to do");
    window.iter().for_each(|request| hand.producer.on_failed(request.id, true, hand.now));
    hand.wait_ms(100);
    let again = hand.poll();
    assert_eq!(identities(&again), [(7, 0, 1), (7, 0, 2)]);
    hand.answer(&again[0], 45);
    hand.answer(&again[1], 0);
    assert_eq!(hand.delivered(), [0, 1, 2]);
    assert_eq!(identity(&hand.one()), (7, 0, 3));
}

#[test]
fn the_duplicate_code_counts_as_delivered() {
    let mut hand = Hand::proven(settings());
    hand.append("t", None);
    let request = hand.one();
    hand.answer(&request, 46);
    assert_eq!(hand.delivered(), [0, 1]);
}

#[test]
fn a_moved_leader_gets_nothing_until_the_old_one_has_answered() {
    let mut hand = Hand::proven(settings());
    hand.append("t", None);
    let old = hand.one();
    hand.producer.on_metadata(&[topic("t", &[1])], hand.now);
    hand.append("t", None);
    assert!(hand.poll().is_empty());
    hand.answer(&old, 6);
    hand.wait_ms(100);
    let again = hand.poll();
    assert_eq!(identities(&again), [(7, 0, 1), (7, 0, 2)]);
    assert!(again.iter().all(|request| request.node == NodeId(1)));
}

#[test]
fn a_new_leader_ends_the_backoff() {
    let mut hand = Hand::proven(settings());
    hand.append("t", None);
    let request = hand.one();
    hand.answer(&request, 6);
    assert!(hand.poll().is_empty());
    hand.producer.on_metadata(&[topic("t", &[2])], hand.now);
    assert_eq!(hand.one().node, NodeId(2));
}

// P5, P6

#[test]
fn nothing_but_45_raises_the_epoch_and_is_counted() {
    let mut hand = Hand::proven(settings());
    let window = hand.five();
    hand.producer.on_failed(window[0].id, true, hand.now);
    window[1..].iter().for_each(|request| hand.answer(request, 45));
    hand.wait_ms(100);
    let again = hand.poll();
    again.iter().for_each(|request| hand.answer(request, 45));
    hand.wait_ms(1000);
    let first = hand.one();
    assert_eq!(identity(&first), (7, 1, 0), "alone");
    assert_eq!(values(&first), ["row 1"]);
    assert_eq!(hand.stats().outcome_unknown, 1, "only the first was ever sent without an answer");
    hand.answer(&first, 0);
    assert_eq!(identities(&hand.poll()), [(7, 1, 1), (7, 1, 2), (7, 1, 3), (7, 1, 4)]);
}

#[test]
fn kafka_without_what_it_acknowledged_is_noticed() {
    let mut hand = Hand::proven(settings());
    hand.append("t", None);
    let request = hand.one();
    hand.answer(&request, 45);
    assert_eq!((hand.stats().acknowledged_lost, hand.stats().outcome_unknown), (1, 0));
    hand.wait_ms(100);
    assert_eq!(identity(&hand.one()), (7, 1, 0));
}

#[test]
fn an_epoch_that_is_too_old_or_an_id_that_is_forgotten_starts_a_new_epoch() {
    for code in [47, 59, 90] {
        let mut hand = Hand::proven(settings());
        hand.append("t", None);
        let request = hand.one();
        hand.answer(&request, code);
        hand.wait_ms(100);
        assert_eq!(identity(&hand.one()), (7, 1, 0), "{code}");
    }
}

#[test]
fn a_refusal_after_an_unknown_outcome_is_not_final() {
    let mut hand = Hand::proven(settings());
    hand.append("t", None);
    let request = hand.one();
    hand.producer.on_failed(request.id, true, hand.now);
    hand.wait_ms(100);
    let again = hand.one();
    hand.answer(&again, 10);
    assert_eq!((hand.stats().refused, hand.stats().outcome_unknown), (0, 1), "P6: it may be there");
    hand.wait_ms(1000);
    let anew = hand.one();
    assert_eq!(identity(&anew), (7, 1, 0));
    hand.answer(&anew, 10);
    assert_eq!(hand.done.last(), Some(&(Run { session: 1, first: 1, count: 1 }, Outcome::Refused(10))));
}

#[test]
fn a_batch_that_has_grown_old_is_sent_again_alone_and_counted_once() {
    let mut hand = Hand::proven(settings());
    let window = hand.five();
    window.iter().for_each(|request| hand.producer.on_failed(request.id, true, hand.now));
    hand.wait_ms(2 * HOUR_MS);
    let again = hand.one();
    assert_eq!(identity(&again), identity(&window[0]), "the same identity");
    assert_eq!(hand.stats().outcome_unknown, 1);
    hand.answer(&again, 45);
    let second = hand.one();
    assert_eq!(identity(&second), identity(&window[1]), "45 alone says nothing: the next one");
    hand.answer(&second, 0);
    assert_eq!(hand.delivered(), [0, 1, 2]);
    let third = hand.one();
    hand.answer(&third, 7);
    hand.wait_ms(1000);
    let third = hand.one();
    assert_eq!(identity(&third), identity(&window[2]));
    assert_eq!(hand.stats().outcome_unknown, 3, "rows 1, 2 and 3, each once");
}

// P7, refusals

#[test]
fn a_refusal_ends_its_batch_and_leaves_no_gap() {
    let mut hand = Hand::proven(settings());
    let window = hand.five();
    hand.answer(&window[0], 0);
    hand.answer(&window[1], 29);
    window[2..].iter().for_each(|request| hand.answer(request, 45));
    let next = hand.one();
    assert_eq!(identity(&next), (7, 1, 0), "at once, a new epoch");
    assert_eq!(values(&next), ["row 3"]);
    assert_eq!(hand.done.last(), Some(&(Run { session: 1, first: 2, count: 1 }, Outcome::Refused(29))));
    assert_eq!(hand.producer.check(SINK, "t", 10), Err(Refusal::TopicForbidden));
    hand.answer(&next, 0);
    let rest = hand.poll();
    assert_eq!(identities(&rest), [(7, 1, 1), (7, 1, 2)]);
    rest.iter().for_each(|request| hand.answer(request, 0));
    assert_eq!((hand.stats().delivered, hand.stats().refused, hand.stats().outcome_unknown), (5, 1, 0));
    hand.wait_ms(31_000);
    hand.poll();
    assert_eq!(hand.producer.check(SINK, "t", 10), Ok(()), "one may try again");
}

fn split_until_one_is_refused(compression: Codec) {
    let mut with_codec = settings();
    with_codec.sinks[0].compression = compression;
    let mut hand = Hand::proven(with_codec);
    let window = hand.five();
    for number in 6..16 {
        let bad = number == 13;
        hand.append_value("t", None, if bad { b"bad" } else { b"good good good good good good good" });
    }
    window.iter().for_each(|request| hand.answer(request, 0));
    let mut sent = 0;
    loop {
        let requests = hand.poll();
        if requests.is_empty() {
            break;
        }
        for request in requests {
            sent += 1;
            let bad = values(&request).iter().any(|value| value == "bad");
            hand.answer(&request, if bad { 10 } else { 0 });
        }
    }
    assert_eq!(hand.stats().refused, 1);
    assert_eq!(hand.stats().delivered, 15);
    assert_eq!(hand.delivered(), (0..16).filter(|number| *number != 13).collect::<Vec<_>>());
    assert!(sent < 12, "halves, not rows: {sent}");
    assert_eq!(hand.stats().buffered_bytes, 0);
}

#[test]
fn too_large_is_split_until_a_single_record_is_refused() {
    split_until_one_is_refused(Codec::None);
}

#[test]
fn a_compressed_batch_is_split_too() {
    split_until_one_is_refused(Codec::Lz4);
}

#[test]
fn after_the_last_epoch_comes_a_new_producer_id() {
    let mut hand = Hand::new(settings());
    hand.append("t", None);
    hand.poll();
    hand.producer.on_metadata(&[topic("t", &[0, 0])], hand.now);
    hand.producer.on_producer_id(0, 7, i16::MAX);
    let first = hand.one();
    hand.wants.clear();
    hand.answer(&first, 47);
    hand.wait_ms(1000);
    assert!(hand.poll().is_empty(), "no id");
    assert_eq!(hand.wants, [Want::ProducerId(0)]);
    hand.producer.on_producer_id(0, 9, 0);
    assert_eq!(identity(&hand.one()), (9, 0, 0));
}

// P8, sections 6 and 7

#[test]
fn one_request_for_each_broker_with_all_its_partitions() {
    let mut hand = Hand::new(settings());
    for key in 0..40 {
        hand.append("a", Some(&format!("{key}")));
        hand.append("b", Some(&format!("{key}")));
    }
    hand.producer.on_producer_id(0, 7, 0);
    hand.producer.on_metadata(&[topic("a", &[0, 1, 0]), topic("b", &[1, 1])], hand.now);
    let out = hand.poll();
    let mut shape: Vec<_> = out
        .iter()
        .map(|request| {
            let batches = request.batches.iter().map(|batch| format!("{}{}", batch.topic, batch.partition));
            (request.node.0, request.acks, batches.collect::<Vec<_>>().join(" "))
        })
        .collect();
    shape.sort();
    assert_eq!(shape, [(0, -1, "a0 a2".into()), (1, -1, "a1 b0 b1".into())]);
    assert_eq!(hand.stats().requests, 2);
}

#[test]
fn sinks_that_share_a_topic_share_no_request_and_levels_are_kept_apart() {
    let mut three = settings();
    three.sinks.push(three.sinks[0].clone());
    three.sinks.push(SinkSettings { acks: 1, ..three.sinks[0].clone() });
    let mut hand = Hand::new(three);
    for (sink, name) in [(0, "t"), (1, "t"), (0, "u"), (2, "w")] {
        hand.producer.append(SinkId(sink), name, super::memory::row(b"v"), None, hand.now);
    }
    (0..3).for_each(|sink| hand.producer.on_producer_id(sink, 7 + sink as i64, 0));
    let metadata = [topic("t", &[0]), topic("u", &[0]), topic("w", &[0])];
    hand.producer.on_metadata(&metadata, hand.now);
    let mut shape: Vec<_> = hand.poll().iter().map(|request| (request.acks, request.batches.len())).collect();
    shape.sort_unstable();
    assert_eq!(shape, [(-1, 1), (-1, 1), (-1, 1), (1, 1)]);
}

#[test]
fn a_busy_broker_makes_batches_grow() {
    let mut narrow = settings();
    narrow.requests_per_node_max = 1;
    let mut hand = Hand::proven(narrow);
    hand.append("t", None);
    let one = hand.one();
    for _ in 0..10 {
        hand.append("t", None);
        assert!(hand.poll().is_empty());
    }
    hand.answer(&one, 0);
    assert_eq!(values(&hand.one()).len(), 10);
}

#[test]
fn a_throttled_broker_is_left_alone_for_as_long_as_it_says() {
    let mut hand = Hand::proven(settings());
    hand.append("t", None);
    let request = hand.one();
    let result = ProduceResult { topic: "t".into(), partition: 0, error: 0, base_offset: 0 };
    hand.producer.on_produced(request.id, &[result], 300, hand.now);
    hand.append("t", None);
    assert!(hand.poll().is_empty());
    assert_eq!(hand.producer.next_deadline(), hand.now.after(Duration::from_millis(300)));
    hand.wait_ms(300);
    hand.one();
}

#[test]
fn keyed_rows_go_where_java_puts_them() {
    let mut hand = Hand::new(settings());
    for key in 0..60 {
        hand.append_value("t", Some(&format!("device-{key}")), format!("device-{key}").as_bytes());
    }
    hand.producer.on_producer_id(0, 7, 0);
    hand.producer.on_metadata(&[topic("t", &[0, 1, 2, 3, 4])], hand.now);
    let mut seen = 0;
    for request in hand.poll() {
        for value in values(&request) {
            assert_eq!(request.batches[0].partition as usize, murmur2::partition(value.as_bytes(), 5));
            seen += 1;
        }
    }
    assert_eq!(seen, 60);
}

#[test]
fn rows_without_a_key_stay_together_and_avoid_partitions_without_a_leader() {
    let mut hand = Hand::new(settings());
    hand.append("t", None);
    hand.producer.on_producer_id(0, 7, 0);
    let mut metadata = topic("t", &[0, 0, 0, 0, 0, 0, 0, 0]);
    metadata.leaders[1..].fill(None);
    hand.producer.on_metadata(&[metadata], hand.now);
    hand.poll();
    let mut all = topic("t", &[0, 0, 0, 0]);
    all.leaders.extend([Some(NodeId(0)); 4]);
    hand.producer.on_metadata(&[all], hand.now);
    hand.poll();
    for _ in 0..10 {
        hand.append("t", None);
    }
    let out = hand.poll();
    assert!(out.len() == 1 && out[0].batches.len() == 1, "sticky: {out:?}");
    assert_eq!(values(&out[0]).len(), 10);
}

#[test]
fn growth_waits_for_all_placed_rows_then_the_new_count_holds() {
    let mut hand = Hand::proven(settings());
    hand.append("t", Some("k"));
    let old = hand.one();
    hand.producer.on_metadata(&[topic("t", &[0, 0, 0, 0, 0])], hand.now);
    for _ in 0..3 {
        hand.append("t", Some("k"));
        assert!(hand.poll().is_empty(), "unplaced");
    }
    assert_eq!(hand.stats().buffered_rows, 4);
    hand.answer(&old, 0);
    let new = hand.one();
    assert_eq!(values(&new), ["row 2", "row 3", "row 4"]);
    assert_eq!(new.batches[0].partition as usize, murmur2::partition(b"k", 5));
    assert_ne!(new.batches[0].partition, 0, "or the key is a bad choice");
}

#[test]
fn rows_are_taken_before_anything_is_known_and_placed_in_order() {
    let mut hand = Hand::new(settings());
    for _ in 0..30 {
        hand.append("t", Some("k"));
        hand.append("u", Some("k"));
    }
    assert!(hand.poll().is_empty());
    assert_eq!(hand.wants.len(), 3);
    hand.producer.on_producer_id(0, 7, 0);
    hand.producer.on_metadata(&[topic("u", &[0, 0])], hand.now);
    let request = hand.one();
    let expected: Vec<_> = (0..30).map(|i| format!("row {}", 2 * i + 1)).collect();
    assert_eq!(values(&request), expected);
    hand.answer(&request, 0);
    assert_eq!(hand.delivered(), (0..30).map(|i| 2 * i + 1).collect::<Vec<_>>());
    assert_eq!(hand.stats().buffered_rows, 30);
}

#[test]
fn an_unknown_topic_is_held_and_asked_for_again() {
    let mut hand = Hand::new(settings());
    hand.append("t", None);
    hand.poll();
    hand.producer.on_producer_id(0, 7, 0);
    let unknown = TopicMetadata { name: "t".into(), error: 3, leaders: Vec::new() };
    for _ in 0..6 {
        hand.wants.clear();
        hand.producer.on_metadata(std::slice::from_ref(&unknown), hand.now);
        hand.append("t", None);
        assert!(hand.poll().is_empty());
        assert!(hand.wants.is_empty(), "not at once");
        hand.wait_ms(1300);
        hand.poll();
        assert_eq!(hand.wants, [Want::Metadata("t".into())]);
    }
    hand.producer.on_metadata(&[topic("t", &[0])], hand.now);
    assert_eq!(values(&hand.one()).len(), 7);
}

#[test]
fn a_topic_that_disappears_is_held_and_one_that_comes_back_is_told_one_batch_first() {
    let mut hand = Hand::proven(settings());
    hand.append("t", None);
    hand.append("t", None);
    let request = hand.one();
    hand.answer(&request, 3);
    hand.producer.on_metadata(&[TopicMetadata { name: "t".into(), error: 3, leaders: Vec::new() }], hand.now);
    hand.append("t", None);
    hand.wait_ms(60);
    assert!(hand.poll().is_empty());
    hand.producer.on_metadata(&[topic("t", &[0])], hand.now);
    let again = hand.one();
    assert_eq!(identity(&again), identity(&request));
    hand.answer(&again, 0);
    hand.one();
}

#[test]
fn a_forbidden_topic_refuses_its_rows_and_then_says_so_at_the_door() {
    let mut hand = Hand::new(settings());
    hand.append("t", None);
    hand.poll();
    assert_eq!(hand.producer.check(SINK, "t", 10), Ok(()));
    hand.producer.on_metadata(&[TopicMetadata { name: "t".into(), error: 29, leaders: Vec::new() }], hand.now);
    hand.poll();
    assert_eq!(hand.done, [(Run { session: 1, first: 0, count: 1 }, Outcome::Refused(29))]);
    assert_eq!(hand.producer.check(SINK, "t", 10), Err(Refusal::TopicForbidden));
}

#[test]
fn what_is_known_at_the_door() {
    let mut hand = Hand::new(Settings { topics_max: 1, ..settings() });
    assert_eq!(hand.producer.check(SINK, "t", 8192), Err(Refusal::TooLarge));
    assert_eq!(hand.producer.check(SINK, "a/b", 10), Err(Refusal::TopicInvalid));
    assert_eq!(hand.producer.check(SINK, "t", 10), Ok(()));
    hand.append("t", None);
    assert_eq!(hand.producer.check(SINK, "t", 10), Ok(()));
    assert_eq!(hand.producer.check(SINK, "u", 10), Err(Refusal::TooManyTopics));
}

#[test]
fn while_kafka_is_unreachable_nothing_is_cut() {
    let mut hand = Hand::proven(settings());
    hand.producer.on_reachable(false);
    for _ in 0..10 {
        hand.append("t", None);
        assert!(hand.poll().is_empty());
    }
    assert!(hand.producer.next_deadline() > hand.now, "no spinning");
    hand.producer.on_reachable(true);
    assert_eq!(values(&hand.one()).len(), 10);
}

#[test]
fn received_is_answered_before_kafka_and_never_again() {
    let mut received = settings();
    received.sinks[0].answered_on = AnsweredOn::Append;
    let mut hand = Hand::new(received);
    hand.append("t", None);
    hand.append("t", None);
    hand.poll();
    assert_eq!(hand.done, [(Run { session: 1, first: 0, count: 2 }, Outcome::Delivered)]);
    hand.producer.on_producer_id(0, 7, 0);
    hand.producer.on_metadata(&[topic("t", &[0])], hand.now);
    let request = hand.one();
    hand.answer(&request, 0);
    assert_eq!(hand.done.len(), 1);
    assert_eq!((hand.stats().delivered, hand.stats().buffered_rows), (2, 0));
}

#[test]
fn an_answer_that_leaves_a_batch_out_is_no_answer() {
    let mut hand = Hand::proven(settings());
    hand.append("t", None);
    let request = hand.one();
    hand.producer.on_produced(request.id, &[], 0, hand.now);
    hand.producer.on_produced(request.id, &[], 0, hand.now);
    hand.producer.on_produced(999, &[], 0, hand.now);
    hand.wait_ms(100);
    assert_eq!(identity(&hand.one()), identity(&request));
}

#[test]
fn wishes_that_nobody_met_are_said_again() {
    let mut hand = Hand::new(settings());
    hand.append("t", None);
    hand.poll();
    hand.wants.clear();
    hand.now = hand.producer.next_deadline();
    hand.poll();
    assert_eq!(hand.wants.len(), 2, "{:?}", hand.wants);
}
