//! Gathering by broker (P8), placement, growth, missing topics, refusals of new rows.

use std::time::Duration;

use crate::producer::testing::hand::{Hand, SINK, identity, settings, topic, values};
use crate::producer::{AnsweredOn, Refusal, Settings, SinkSettings, Want};
use crate::types::{NodeId, Outcome, ProduceResult, Run, SinkId, TopicMetadata};
use forebay_record::murmur2;

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
    let unknown = TopicMetadata { name: "t".into(), error: 3, ..Default::default() };
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
fn rows_of_a_topic_that_never_comes_are_refused_and_then_those_at_the_door() {
    let mut sinks = settings();
    sinks.sinks[0].unknown_topic_timeout = Some(Duration::from_secs(60));
    let mut hand = Hand::new(sinks);
    let unknown = TopicMetadata { name: "t".into(), error: 3, ..Default::default() };
    hand.append("t", None);
    hand.poll();
    hand.producer.on_metadata(std::slice::from_ref(&unknown), hand.now);
    hand.wait_ms(59_000);
    hand.append("t", None);
    hand.producer.on_metadata(std::slice::from_ref(&unknown), hand.now);
    assert!(hand.poll().is_empty() && hand.done.is_empty(), "it may still come");
    hand.wait_ms(1_000);
    hand.producer.on_metadata(std::slice::from_ref(&unknown), hand.now);
    hand.poll();
    assert_eq!(hand.done, [(Run { session: 1, first: 0, count: 2 }, Outcome::Refused(3))]);
    assert_eq!(hand.producer.check(SINK, "t", 10), Err(Refusal::TopicUnknown));
    // Periodically one row checks whether the topic exists by now.
    hand.wait_ms(31_000);
    hand.poll();
    assert!(hand.producer.check(SINK, "t", 10).is_ok());
    hand.append("t", None);
    hand.poll();
    hand.producer.on_metadata(std::slice::from_ref(&unknown), hand.now);
    hand.poll();
    assert_eq!(hand.stats().refused, 3);
    hand.wait_ms(31_000);
    hand.poll();
    hand.append("t", None);
    hand.poll();
    hand.producer.on_producer_id(0, 7, 0);
    hand.producer.on_metadata(&[topic("t", &[0])], hand.now);
    assert_eq!(values(&hand.one()).len(), 1);
}

#[test]
fn where_names_are_used_up_the_least_recently_used_one_makes_room_at_once() {
    let mut hand = Hand::new(Settings { topics_max: 8, ..settings() });
    for number in 0..8 {
        hand.append(&format!("t{number}"), None);
        hand.poll();
        hand.producer.on_producer_id(0, 7, 0);
        hand.producer.on_metadata(&[topic(&format!("t{number}"), &[0])], hand.now);
        let request = hand.one();
        hand.answer(&request, 0);
        hand.wait_ms(3_000);
    }
    assert_eq!(hand.producer.check(SINK, "new", 10), Err(Refusal::TooManyTopics));
    hand.poll();
    assert!(hand.wants.contains(&Want::Forget("t0".into())), "{:?}", hand.wants);
    assert!(!hand.wants.contains(&Want::Forget("t7".into())), "it has just been used: {:?}", hand.wants);
    assert_eq!(hand.producer.check(SINK, "new", 10), Ok(None));
}

#[test]
fn a_topic_that_disappears_is_held_and_one_that_comes_back_is_told_one_batch_first() {
    let mut hand = Hand::proven(settings());
    hand.append("t", None);
    hand.append("t", None);
    let request = hand.one();
    hand.answer(&request, 3);
    hand.producer.on_metadata(&[TopicMetadata { name: "t".into(), error: 3, ..Default::default() }], hand.now);
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
    assert!(hand.producer.check(SINK, "t", 10).is_ok());
    hand.producer.on_metadata(&[TopicMetadata { name: "t".into(), error: 29, ..Default::default() }], hand.now);
    hand.poll();
    assert_eq!(hand.done, [(Run { session: 1, first: 0, count: 1 }, Outcome::Refused(29))]);
    assert_eq!(hand.producer.check(SINK, "t", 10), Err(Refusal::TopicForbidden));
}

#[test]
fn what_is_known_at_the_door() {
    let mut hand = Hand::new(Settings { topics_max: 1, ..settings() });
    assert_eq!(hand.producer.check(SINK, "t", 8192), Err(Refusal::TooLarge));
    assert_eq!(hand.producer.check(SINK, "a/b", 10), Err(Refusal::TopicInvalid));
    assert!(hand.producer.check(SINK, "t", 10).is_ok());
    hand.append("t", None);
    assert!(hand.producer.check(SINK, "t", 10).is_ok());
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

#[test]
fn who_waits_for_a_busy_broker_goes_to_its_new_leader_at_once() {
    let mut narrow = settings();
    narrow.requests_per_node_max = 1;
    let mut hand = Hand::proven(narrow);
    hand.producer.on_metadata(&[topic("t", &[0])], hand.now);
    hand.append("t", None);
    let silent = hand.one();
    hand.append("u", None);
    hand.poll();
    hand.producer.on_metadata(&[topic("u", &[0])], hand.now);
    assert!(hand.poll().is_empty(), "broker 0 has enough to do");
    hand.producer.on_metadata(&[topic("u", &[1])], hand.now);
    assert_eq!(hand.one().node, NodeId(1), "whatever becomes of broker 0");
    hand.answer(&silent, 0);
}

#[test]
fn idle_topics_make_room_and_come_back_under_a_higher_epoch() {
    let mut hand = Hand::new(Settings { topics_max: 8, ..settings() });
    hand.append("t0", None);
    hand.poll();
    hand.producer.on_producer_id(0, 7, 0);
    hand.producer.on_metadata(&[topic("t0", &[0, 0])], hand.now);
    let first = hand.one();
    hand.answer(&first, 0);
    for number in 1..8 {
        hand.append(&format!("t{number}"), None);
    }
    hand.poll();
    assert_eq!(hand.producer.check(SINK, "new", 10), Err(Refusal::TooManyTopics));
    hand.wait_ms(301_000);
    hand.poll();
    assert!(hand.wants.contains(&Want::Forget("t0".into())), "{:?}", hand.wants);
    assert!(!hand.wants.contains(&Want::Forget("t1".into())), "it has a row");
    assert_eq!(hand.producer.check(SINK, "new", 10), Ok(None));
    hand.append("t0", None);
    hand.poll();
    hand.producer.on_metadata(&[topic("t0", &[0])], hand.now);
    let again = hand.one();
    assert_eq!(again.batches[0].partition, 0, "one partition now, whatever was there");
    assert_eq!(identity(&again), (7, 1, 0), "or Kafka would take it for what it has");
    hand.answer(&again, 0);
    assert_eq!(hand.delivered(), [0, 8]);
}

/// A broker's reported partitions have a bound for the cluster; known topics continue.
#[test]
fn finding_w3_partitions_of_a_cluster_are_bounded() {
    use crate::producer::Refusal;
    use forebay_base::limits::PARTITIONS_OF_CLUSTER_MAX;
    let mut hand = Hand::new(Settings { topics_max: 10, ..settings() });
    let half = vec![0; PARTITIONS_OF_CLUSTER_MAX / 2];
    for (name, leaders) in [("a", &half[..]), ("b", &half[1..]), ("c", &half[..2]), ("d", &half[..1])] {
        hand.append(name, None);
        hand.poll();
        hand.producer.on_metadata(&[topic(name, leaders)], hand.now);
    }
    let check = |hand: &Hand, name| hand.producer.check(SINK, name, 100).map(|known| known.is_some());
    let checked: Vec<_> = ["a", "b", "c", "d"].into_iter().map(|name| check(&hand, name)).collect();
    assert_eq!(checked, [Ok(true), Ok(true), Err(Refusal::TooManyTopics), Ok(true)]);
    assert_eq!(hand.stats().refused, 1);
}
