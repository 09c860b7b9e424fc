//! Topics recreated while their rows are in the log: rows of partitions that are gone keep the order of their keys.

use super::recreated::metadata;
use crate::producer::testing::hand::disk;
use crate::producer::testing::hand::{Hand, read, values};
use crate::producer::{AnsweredOn, Keep};
use crate::types::{NodeId, ProduceRequest, ProduceResult, TopicMetadata};
use forebay_record::BatchView;
use forebay_record::murmur2::partition;

/// A key of this partition of four.
fn key_of(wanted: usize) -> &'static str {
    const KEYS: [&str; 12] = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l"];
    KEYS.into_iter().find(|key| partition(key.as_bytes(), 4) == wanted).expect("a key")
}

/// Keys of partitions 2 and 3 of four.
fn keys() -> [&'static str; 2] {
    [2, 3].map(key_of)
}

#[test]
fn what_two_partitions_that_are_gone_have_in_memory_goes_before_what_is_in_the_log_alone() {
    let mut settings = disk();
    settings.sinks[0].spill_after = 0;
    let mut hand = Hand::new(settings);
    hand.append("t", None);
    hand.poll();
    hand.producer.on_producer_id(0, 7, 0);
    hand.producer.on_metadata(&[metadata(1, 4)], hand.now);
    let first = hand.poll_synced().remove(0);
    hand.answer(&first, 0);
    // One row of each in memory, in flight, and two in the log alone.
    let [second, third] = keys();
    let requests = [second, third].map(|key| {
        hand.append("t", Some(key));
        hand.poll_synced().remove(0)
    });
    hand.producer.on_reachable(false);
    for _ in 0..2 {
        for key in [second, third] {
            hand.append_value("t", Some(key), format!("{:09} {}", hand.number, "x".repeat(3000)).as_bytes());
            hand.poll_synced();
        }
    }
    hand.producer.on_metadata(&[metadata(2, 1)], hand.now);
    // The second partition's rows leave when the first's have left.
    requests.iter().for_each(|request| hand.answer(request, 3));
    hand.append("t", Some(second));
    hand.append("t", Some(third));
    hand.producer.on_reachable(true);
    let mut there = Vec::new();
    for _ in 0..100 {
        for request in hand.poll_synced() {
            for batch in &request.batches {
                assert_eq!(batch.partition, 0);
                there.extend(read(&BatchView::parse(&batch.bytes).expect("a batch").0));
            }
            hand.answer(&request, 0);
        }
        hand.wait_ms(50);
    }
    assert_eq!((there.len(), hand.stats().buffered_rows), (8, 0));
    for key in [second, third] {
        let of_key = there.iter().filter(|(other, _)| other.as_deref() == Some(key.as_bytes()));
        let lengths: Vec<_> = of_key.clone().map(|(_, value)| value.len() > 1000).collect();
        assert_eq!(lengths, [false, true, true, false], "{key}");
        assert!(of_key.map(|(_, value)| value[..9.min(value.len())].to_vec()).collect::<Vec<_>>()[1..3].is_sorted());
    }
}

/// The acknowledgement waits for the row, wherever it is when the log takes it.
#[test]
fn a_row_whose_partition_goes_before_the_log_has_taken_it_is_answered_when_it_is_there() {
    let mut hand = Hand::new(disk());
    hand.append("t", None);
    hand.poll();
    hand.producer.on_producer_id(0, 7, 0);
    hand.producer.on_metadata(&[metadata(1, 4)], hand.now);
    let first = hand.poll_synced().remove(0);
    hand.answer(&first, 0);
    hand.poll_synced();
    hand.log.takes = Some(0);
    hand.append("t", Some(keys()[0]));
    hand.poll();
    hand.producer.on_metadata(&[metadata(2, 1)], hand.now);
    // Groups become durable; the row is in none of them.
    for _ in 0..3 {
        hand.poll_synced();
    }
    assert_eq!((hand.delivered().len(), hand.log.state.taken), (1, 1));
    hand.log.takes = None;
    hand.poll();
    assert_eq!((hand.delivered().len(), hand.log.state.taken), (1, 2));
    hand.poll_synced();
    assert_eq!(hand.delivered(), [0, 1]);
}

/// A batch of a partition that is gone, cut by an earlier process, has waited for no other; rows that the process
/// left without a partition are older, and still go first: otherwise others of its keys would precede it.
#[test]
fn a_cut_of_a_partition_that_is_gone_does_not_go_before_older_rows_without_one() {
    let mut hand = Hand::new(disk());
    let (still, gone) = (key_of(0), key_of(2));
    hand.append("t", Some(still));
    hand.poll_synced();
    hand.producer.on_producer_id(0, 7, 0);
    // The first partition has no leader: its rows are not cut.
    let all = metadata(1, 4);
    let leaders = [None, Some(NodeId(0)), Some(NodeId(0)), Some(NodeId(0))];
    hand.producer.on_metadata(&[TopicMetadata { leaders: leaders.into(), ..all.clone() }], hand.now);
    hand.poll_synced();
    hand.append("t", Some(still));
    hand.append("t", Some(gone));
    hand.append("t", Some(gone));
    assert_eq!(hand.poll_synced().len(), 1);
    let mut hand = hand.killed(disk(), 8);
    hand.producer.on_metadata(&[all], hand.now);
    let cut = hand.poll_synced().remove(0);
    hand.answer(&cut, 3);
    hand.producer.on_metadata(&[metadata(2, 1)], hand.now);
    let mut there = Vec::new();
    for _ in 0..20 {
        for request in hand.poll_synced() {
            there.extend(read(&BatchView::parse(&request.batches[0].bytes).expect("a batch").0));
            hand.answer(&request, 0);
        }
        hand.wait_ms(50);
    }
    let of_key = |key: &str| {
        let values = there.iter().filter(|(other, _)| other.as_deref() == Some(key.as_bytes()));
        values.map(|(_, value)| String::from_utf8_lossy(value).into_owned()).collect::<Vec<_>>()
    };
    assert_eq!(of_key(still), ["row 0", "row 1"]);
    assert_eq!((of_key(gone), hand.stats().buffered_rows), (vec!["row 2".to_owned(), "row 3".to_owned()], 0));
}

/// Rows in memory alone may follow rows of a partition that is gone: later rows are written to the log after those,
/// and not before them.
#[test]
fn what_memory_has_behind_rows_of_a_partition_that_is_gone_goes_before_younger_rows() {
    let mut settings = disk();
    (settings.sinks[0].keep, settings.sinks[0].answered_on) = (Keep::HybridSaved, AnsweredOn::Append);
    let mut hand = Hand::new(settings.clone());
    let gone = key_of(2);
    hand.append("t", Some(gone));
    hand.poll();
    hand.producer.on_producer_id(0, 7, 0);
    hand.producer.on_metadata(&[metadata(1, 4)], hand.now);
    let first = hand.one();
    hand.answer(&first, 0);
    hand.producer.on_reachable(false);
    hand.append("t", Some(gone));
    hand.poll();
    assert!(hand.producer.save(&mut hand.log));
    hand.log.sync();
    let mut hand = hand.killed(settings, 8);
    hand.append("t", Some(gone));
    hand.poll();
    assert_eq!(hand.log.state.live.len(), 1, "the second is in memory alone");
    hand.producer.on_metadata(&[metadata(2, 1)], hand.now);
    hand.append("t", Some(gone));
    let mut sent = Vec::new();
    for _ in 0..20 {
        for request in hand.poll_synced() {
            sent.extend(values(&request));
            hand.answer(&request, 0);
        }
        hand.wait_ms(50);
    }
    assert_eq!(sent, ["row 1", "row 2", "row 3"]);
}

/// The next process finds the partition again, and one row in its lane. The rows after it, placed by the number of
/// partitions in between, are in no other partition's lane: otherwise both would be sent at once.
#[test]
fn what_comes_while_a_row_of_a_partition_that_is_gone_waits_stays_behind_it_after_a_restart() {
    let mut hand = Hand::new(disk());
    let key = Some(key_of(2));
    hand.append("t", None);
    hand.poll();
    hand.producer.on_producer_id(0, 7, 0);
    hand.producer.on_metadata(&[metadata(0, 4)], hand.now);
    let first = hand.poll_synced().remove(0);
    hand.answer(&first, 0);
    hand.producer.on_reachable(false);
    hand.append_value("t", key, b"older");
    hand.poll_synced();
    hand.producer.on_metadata(&[metadata(0, 1)], hand.now);
    hand.poll_synced();
    hand.append_value("t", key, b"younger");
    hand.poll_synced();

    let mut hand = hand.killed(disk(), 8);
    hand.producer.on_metadata(&[metadata(0, 4)], hand.now);
    let requests: Vec<_> = (0..10)
        .flat_map(|_| {
            hand.wait_ms(50);
            hand.poll_synced()
        })
        .collect();
    let sent = |request: &ProduceRequest| read(&BatchView::parse(&request.batches[0].bytes).expect("a batch").0);
    let values: Vec<_> = requests.iter().flat_map(sent).map(|(_, value)| value).collect();
    assert_eq!(values, [b"older".to_vec()]);
    requests.iter().for_each(|request| hand.answer(request, 0));
    let behind = hand.poll_synced();
    assert_eq!(behind.iter().flat_map(sent).map(|(_, value)| value).collect::<Vec<_>>(), [b"younger".to_vec()]);
}

/// A late request of the process before landed first in the recreated topic, and a later batch that is sent again is
/// taken.
#[test]
fn after_a_restart_an_offset_that_is_too_low_shows_that_the_topic_was_recreated() {
    let mut hand = crate::producer::testing::hand::known(disk());
    let first = hand.poll_synced().remove(0);
    hand.answer(&first, 0);
    hand.poll_synced();
    let cut = [(); 3].map(|()| {
        hand.append("t", None);
        hand.poll_synced().remove(0)
    });
    hand.log.keeps_landed = true;
    let mut hand = hand.killed(disk(), 8);
    hand.producer.on_metadata(&[crate::producer::testing::hand::topic("t", &[0])], hand.now);
    let mut again = hand.poll_synced();
    assert_eq!(
        crate::producer::testing::hand::identities(&again),
        [crate::producer::testing::hand::identity(&cut[0])],
        "one goes first"
    );
    let below = |request: &crate::types::ProduceRequest, error, base_offset| {
        [ProduceResult { topic: "t".into(), partition: request.batches[0].partition, error, base_offset }]
    };
    // The new log has the second batch and nothing else.
    hand.producer.on_produced(again[0].id, &below(&again[0], 45, -1), 0, hand.now);
    for _ in 0..50 {
        hand.wait_ms(1_000);
        again = hand.poll_synced();
        let Some(request) = again.first() else { continue };
        let (id, ..) = crate::producer::testing::hand::identity(request);
        let sequence = crate::producer::testing::hand::identity(request).2;
        if id == 7 && sequence == 3 {
            hand.producer.on_produced(request.id, &below(request, 0, 1), 0, hand.now);
            break;
        }
        hand.producer.on_produced(request.id, &below(request, 45, -1), 0, hand.now);
    }
    assert_eq!(hand.stats().delivered, 1, "each answers for itself");
    assert_eq!(hand.stats().acknowledged_lost, 1);
    assert_eq!(hand.stats().buffered_rows, 2);
}

/// Some rows may be in memory though they wait for older ones of another such partition, which are in the log alone.
#[test]
fn rows_of_partitions_that_are_gone_leave_memory_to_those_that_go_before_them() {
    let mut settings = disk();
    settings.sinks[0].spill_after = 8 * 1024;
    let mut hand = Hand::new(settings);
    let [second, third] = keys();
    hand.append("t", Some(third));
    hand.poll();
    hand.producer.on_producer_id(0, 7, 0);
    hand.producer.on_metadata(&[metadata(1, 4)], hand.now);
    hand.producer.on_reachable(false);
    for _ in 1..30 {
        hand.append_value("t", Some(third), &[3; 1_000]);
        hand.poll_synced();
    }
    // Rows that the log does not take stay in memory.
    hand.log.takes = Some(0);
    (0..20).for_each(|_| hand.append_value("t", Some(second), &[2; 1_000]));
    hand.poll();
    hand.log.takes = None;
    hand.producer.on_metadata(&[metadata(2, 1)], hand.now);
    hand.producer.on_reachable(true);
    for _ in 0..100 {
        hand.poll_synced().into_iter().for_each(|request| hand.answer_and_drop(request, 0));
        hand.wait_ms(10);
    }
    assert_eq!((hand.stats().delivered, hand.stats().buffered_rows), (50, 0));
}
