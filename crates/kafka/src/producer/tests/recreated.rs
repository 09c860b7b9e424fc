//! Topics deleted and recreated, with as many partitions, more or fewer: order of a key, nothing lost, nothing twice.

use crate::producer::Settings;
use crate::producer::testing::hand::{Hand, identity, settings, topic, values};
use crate::types::{LogSays, ProduceRequest, TopicMetadata, WhyNot};
use forebay_record::murmur2::partition;

pub(super) fn metadata(id: u128, partitions: usize) -> TopicMetadata {
    TopicMetadata { id, ..topic("t", &vec![0; partitions]) }
}

pub(super) fn gone() -> TopicMetadata {
    TopicMetadata { name: "t".into(), error: 3, ..Default::default() }
}

/// A topic "t" of some partitions and id 1, each of them proven.
fn proven(settings: Settings, partitions: usize) -> Hand {
    let mut hand = Hand::new(settings);
    hand.append("t", None);
    hand.poll();
    hand.producer.on_producer_id(0, 7, 0);
    hand.producer.on_metadata(&[metadata(1, partitions)], hand.now);
    let first = hand.one();
    hand.answer(&first, 0);
    for i in 0..partitions {
        hand.append("t", Some(key_of(i, partitions)));
        let request = hand.one();
        assert_eq!(request.batches[0].partition as usize, i);
        hand.answer(&request, 0);
    }
    hand
}

/// A topic of four partitions by a cluster that gives no ids, and a request to its last one that got no answer.
fn unanswered_without_id() -> (Hand, ProduceRequest) {
    let mut hand = Hand::new(settings());
    hand.append("t", None);
    hand.poll();
    hand.producer.on_producer_id(0, 7, 0);
    hand.producer.on_metadata(&[metadata(0, 4)], hand.now);
    let first = hand.one();
    hand.answer(&first, 0);
    hand.append("t", Some(key_of(3, 4)));
    let request = hand.one();
    hand.producer.on_failed(request.id, true, hand.now);
    (hand, request)
}

/// A key of this partition.
fn key_of(wanted: usize, partitions: usize) -> &'static str {
    const KEYS: [&str; 12] = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l"];
    KEYS.into_iter().find(|key| partition(key.as_bytes(), partitions) == wanted).expect("a key")
}

#[test]
fn rows_of_partitions_that_are_gone_are_placed_anew_in_order() {
    let mut hand = proven(settings(), 4);
    let key = key_of(3, 4);
    let first = hand.number;
    // Two cut batches, one growing, one row in a partition that stays.
    let mut cut = Vec::new();
    for _ in 0..2 {
        hand.append("t", Some(key));
        cut.push(hand.one());
    }
    hand.answer(&cut[0], 3);
    hand.append("t", Some(key));
    hand.append("t", Some(key_of(0, 4)));
    hand.producer.on_metadata(&[gone()], hand.now);
    assert!(hand.poll().is_empty());
    hand.append("t", Some(key));
    hand.producer.on_metadata(&[metadata(2, 2)], hand.now);
    assert_eq!(hand.stats().repartitioned, 0, "a request of that partition is unanswered");
    hand.append("t", Some(key));
    // The partition that stays continues; everything else waits for it.
    let stays = hand.one();
    assert_eq!((stays.batches[0].partition, values(&stays).len()), (0, 1));
    hand.answer(&stays, 0);
    assert!(hand.poll().is_empty());
    hand.answer(&cut[1], 3);
    assert_eq!((hand.stats().topics_recreated, hand.stats().repartitioned), (1, 4));
    let mut seen = Vec::new();
    for _ in 0..5 {
        hand.wait_ms(2_000);
        for request in hand.poll() {
            assert_eq!(request.batches[0].partition as usize, partition(key.as_bytes(), 2));
            seen.extend(values(&request));
            hand.answer(&request, 0);
        }
    }
    let rows = [first, first + 1, first + 2, first + 4, first + 5].map(|n| format!("row {n}"));
    assert_eq!(seen, rows);
    assert_eq!((hand.stats().buffered_rows, hand.stats().buffered_bytes), (0, 0));
    assert_eq!(hand.stats().outcome_unknown, 0);
    let mut answered = hand.delivered();
    answered.sort_unstable();
    assert_eq!(answered, (0..hand.number).collect::<Vec<_>>());
}

/// UNKNOWN_TOPIC_OR_PARTITION, NOT_LEADER_OR_FOLLOWER: whatever the old topic's last answer was.
#[test]
fn what_is_cut_keeps_its_identity_and_an_idle_partition_begins_an_epoch() {
    [3, 6].into_iter().for_each(what_is_cut_keeps_its_identity);
}

fn what_is_cut_keeps_its_identity(last_word: i16) {
    let mut hand = proven(settings(), 2);
    hand.append("t", Some(key_of(0, 2)));
    let old = hand.one();
    hand.answer(&old, last_word);
    hand.producer.on_metadata(&[metadata(2, 2)], hand.now);
    hand.append("t", Some(key_of(0, 2)));
    hand.wait_ms(1_000);
    let again = hand.one();
    assert_eq!(identity(&again), identity(&old));
    assert!(hand.poll().is_empty(), "alone until it is answered");
    hand.answer(&again, 0);
    hand.append("t", Some(key_of(1, 2)));
    let out = hand.poll();
    let idle: Vec<_> = out.iter().flat_map(|r| r.batches.iter()).filter(|b| b.partition == 1).collect();
    let (view, _) = forebay_record::BatchView::parse(&idle[0].bytes).expect("a batch");
    assert_eq!((view.header().producer_epoch, view.header().base_sequence), (1, 0));
    assert_eq!((hand.stats().topics_recreated, hand.stats().repartitioned), (1, 0));
}

#[test]
fn a_topic_that_has_some_of_its_partitions_again_leaves_none_of_the_others_behind() {
    let mut hand = proven(settings(), 3);
    let key = key_of(2, 3);
    hand.append("t", Some(key));
    let old = hand.one();
    hand.producer.on_metadata(&[metadata(2, 1)], hand.now);
    hand.producer.on_metadata(&[metadata(2, 2)], hand.now);
    hand.answer(&old, 3);
    hand.wait_ms(2_000);
    let again = hand.one();
    assert_eq!(again.batches[0].partition as usize, partition(key.as_bytes(), 2));
    hand.answer(&again, 0);
    assert_eq!((hand.stats().repartitioned, hand.stats().buffered_rows), (1, 0));
}

#[test]
fn an_answer_from_before_the_growth_changes_nothing() {
    let mut hand = proven(settings(), 2);
    hand.producer.on_metadata(&[metadata(1, 4)], hand.now);
    hand.append("t", Some(key_of(3, 4)));
    let request = hand.one();
    assert_eq!(request.batches[0].partition, 3);
    // The metadata is from a broker that does not know the new topic yet.
    hand.producer.on_metadata(&[metadata(1, 2)], hand.now);
    hand.answer(&request, 0);
    hand.append("t", Some(key_of(3, 4)));
    assert_eq!(hand.one().batches[0].partition, 3);
    assert_eq!((hand.stats().topics_recreated, hand.stats().repartitioned), (0, 0));
}

#[test]
fn without_ids_fewer_partitions_say_it_and_what_may_be_there_is_counted() {
    let (mut hand, request) = unanswered_without_id();
    hand.producer.on_metadata(&[metadata(0, 2)], hand.now);
    let stats = hand.stats();
    assert_eq!((stats.topics_recreated, stats.repartitioned, stats.outcome_unknown), (1, 1, 1));
    let again = hand.one();
    assert_eq!(values(&again), values(&request));
    hand.answer(&again, 0);
    assert_eq!(hand.stats().buffered_rows, 0);
}

#[test]
fn a_backlog_that_is_half_placed_keeps_its_order() {
    let mut hand = Hand::new(Settings { buffer_bytes: 8 << 20, ..settings() });
    let key = key_of(3, 4);
    let value = |number: u32| format!("{number:0>1000}");
    for number in 0..900 {
        hand.append_value("t", Some(key), value(number).as_bytes());
    }
    hand.poll();
    hand.producer.on_producer_id(0, 7, 0);
    hand.producer.on_metadata(&[metadata(1, 4)], hand.now);
    let request = hand.one();
    hand.answer_and_drop(request, 3);
    hand.producer.on_metadata(&[metadata(2, 2)], hand.now);
    let placed = hand.stats().repartitioned;
    assert!((100..900).contains(&placed) && !placed.is_multiple_of(3), "the middle of a batch: {placed}");
    let mut seen = Vec::new();
    for _ in 0..2_000 {
        hand.wait_ms(1);
        for request in hand.poll() {
            seen.extend(values(&request));
            hand.answer_and_drop(request, 0);
        }
    }
    assert_eq!(seen, (0..900).map(value).collect::<Vec<_>>());
    assert_eq!((hand.stats().buffered_rows, hand.stats().buffered_bytes), (0, 0));
    assert_eq!(hand.producer.buffered_bytes(), 0);
}

/// The batch was counted when its log could not be asked, and is not cut again when its topic turns out to be another.
#[test]
fn what_was_counted_is_not_counted_again_when_the_topic_is_made_anew() {
    let (mut hand, _) = unanswered_without_id();
    hand.wait_ms(1_000);
    let again = hand.one();
    hand.answer(&again, 45);
    hand.log_says(LogSays::CannotTell(WhyNot::Forbidden));
    assert_eq!(hand.stats().outcome_unknown, 1);
    hand.producer.on_metadata(&[metadata(0, 2)], hand.now);
    let stats = hand.stats();
    assert_eq!((stats.topics_recreated, stats.repartitioned, stats.outcome_unknown), (1, 1, 1));
}
