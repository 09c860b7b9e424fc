//! News of topics, each reported once.

use std::time::Duration;

use crate::producer::News;
use crate::producer::testing::hand::{Hand, SINK, settings, topic};
use crate::types::TopicMetadata;

fn news(hand: &mut Hand) -> Vec<News> {
    let mut all = Vec::new();
    hand.producer.drain_news(|news| all.push(news));
    all
}

fn error(hand: &mut Hand, error: i16) {
    hand.producer.on_metadata(&[TopicMetadata { name: "t".into(), error, ..Default::default() }], hand.now);
    hand.poll();
}

#[test]
fn a_topic_is_unknown_after_some_answers_and_is_told_of_once_and_when_it_comes() {
    let mut hand = Hand::new(settings());
    hand.append("t", None);
    hand.poll();
    error(&mut hand, 3);
    error(&mut hand, 5);
    assert_eq!(news(&mut hand), [], "one that is being made takes a moment");
    (0..10).for_each(|_| error(&mut hand, 3));
    assert_eq!(news(&mut hand), [News::Unknown { sink: SINK, topic: "t".into(), code: 3 }]);
    hand.producer.on_metadata(&[topic("t", &[0])], hand.now);
    hand.producer.on_metadata(&[topic("t", &[0])], hand.now);
    assert_eq!(news(&mut hand), [News::Known { sink: SINK, topic: "t".into() }]);
}

/// Finding K7: a topic that did not appear in time, and had its rows refused for it, is not created by that.
#[test]
fn finding_k7_a_topic_that_never_came_is_not_told_of_as_available() {
    let mut timed = settings();
    timed.sinks[0].unknown_topic_timeout = Some(Duration::from_secs(1));
    let mut hand = Hand::new(timed);
    hand.append("t", None);
    hand.poll();
    for _ in 0..10 {
        error(&mut hand, 3);
        hand.wait_ms(300);
    }
    assert_eq!(hand.stats().refused, 1);
    let unknown = News::Unknown { sink: SINK, topic: "t".into(), code: 3 };
    assert_eq!(news(&mut hand), [unknown, News::Refused { sink: SINK, topic: "t".into(), code: 3 }]);
    // Now the topic appears.
    hand.wait_ms(31_000);
    hand.append("t", None);
    hand.poll();
    hand.producer.on_metadata(&[topic("t", &[0])], hand.now);
    assert_eq!(news(&mut hand), [News::Known { sink: SINK, topic: "t".into() }]);
}

#[test]
fn a_refused_topic_is_told_of_once() {
    let mut hand = Hand::new(settings());
    hand.append("t", None);
    hand.poll();
    error(&mut hand, 29);
    error(&mut hand, 29);
    assert_eq!(news(&mut hand), [News::Refused { sink: SINK, topic: "t".into(), code: 29 }]);
}

#[test]
fn another_number_of_partitions_is_told_of_once() {
    let mut hand = Hand::proven(settings());
    hand.append("t", Some("k"));
    let request = hand.one();
    for _ in 0..3 {
        hand.producer.on_metadata(&[topic("t", &[0, 0])], hand.now);
    }
    assert_eq!(news(&mut hand), [News::Grown { sink: SINK, topic: "t".into(), from: 1, to: 2 }]);
    hand.answer(&request, 0);
    hand.poll();
    hand.producer.on_metadata(&[topic("t", &[0])], hand.now);
    assert_eq!(news(&mut hand), [News::Recreated { sink: SINK, topic: "t".into(), from: 2, to: 1 }]);
}

#[test]
fn records_batches_and_requests_without_an_answer_are_counted() {
    let mut hand = Hand::proven(settings());
    let before = hand.stats();
    (0..3).for_each(|_| hand.append("t", Some("k")));
    let request = hand.one();
    assert_eq!(hand.producer.requests_in_flight(), 1);
    assert_eq!((hand.stats().batches - before.batches, hand.stats().batch_records - before.batch_records), (1, 3));
    hand.producer.on_failed(request.id, true, hand.now);
    assert_eq!(hand.stats().batches_unanswered, 1);
    assert_eq!((hand.producer.requests_in_flight(), hand.producer.topics_held(SINK)), (0, 1));
}
