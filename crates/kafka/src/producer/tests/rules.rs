//! Rules P1 to P4, one by one: late cuts, the window, ids, settling.

use std::rc::Rc;
use std::time::Duration;

use crate::producer::Want;
use crate::producer::testing::hand::{HOUR_MS, Hand, identities, identity, settings, topic, values};
use crate::types::{NodeId, SinkId};
use forebay_runtime::seam::Monotonic;

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
fn nothing_lingers_on_the_way_out() {
    let mut with_linger = settings();
    with_linger.sinks[0].linger = Duration::from_secs(10);
    let mut hand = Hand::proven(with_linger);
    hand.append("t", None);
    hand.append("t", None);
    assert!(hand.poll().is_empty());
    hand.producer.stop_lingering(hand.now);
    let last = hand.one();
    assert_eq!(values(&last).len(), 2);
    hand.append("t", None);
    assert_eq!(values(&hand.one()).len(), 1, "nor what comes later, such as a will");
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
    // Four batches, and the one that had not been cut is after them.
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
    // A broker with room for two requests: that alone cuts the round in half.
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
