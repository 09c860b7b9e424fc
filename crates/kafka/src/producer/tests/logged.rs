//! Rows of disk sinks: staged, cut, sent and ended through the log.

use crate::producer::row_log::Fate;
use crate::producer::testing::hand::{Hand, SINK, identities, identity, topic, values};
use crate::producer::testing::hand::{disk, known};
use crate::producer::{AnsweredOn, Keep};
use crate::types::Outcome;

#[test]
fn a_cut_is_sent_when_it_is_durable_and_not_before() {
    let mut hand = known(disk());
    assert!(hand.poll().is_empty());
    assert!(hand.poll().is_empty());
    assert_eq!((hand.log.state.cuts.len(), hand.delivered().len()), (1, 0));
    hand.log.end_group();
    assert!(hand.poll().is_empty());
    hand.log.sync_one();
    let request = hand.one();
    assert_eq!((identity(&request), values(&request)), ((7, 0, 0), vec!["row 0".to_owned()]));
    assert_eq!(hand.delivered(), [0], "stored");
    hand.answer(&request, 0);
    assert!(hand.poll().is_empty());
    assert_eq!(hand.log.dones, [(0, 1000)]);
    assert!(hand.log.state.live.is_empty());
}

/// The log takes nothing until the rows have expired; then no sync is needed for them.
#[test]
fn rows_that_expire_before_they_are_written_are_answered_without_a_group() {
    let mut settings = disk();
    settings.sinks[0].expire_after = Some(std::time::Duration::from_millis(100));
    let mut hand = Hand::new(settings);
    hand.log.takes = Some(0);
    hand.append("t", None);
    hand.poll();
    hand.wait_ms(200);
    hand.poll();
    assert_eq!((hand.stats().expired, hand.stats().buffered_rows), (1, 0));
    hand.log.takes = None;
    hand.poll();
    assert_eq!(hand.delivered(), [0]);
}

#[test]
fn rows_and_their_cut_stand_in_one_group_and_five_are_cut_in_one_poll() {
    let mut hand = known(disk());
    let first = hand.poll_synced().remove(0);
    hand.answer(&first, 0);
    for _ in 0..7 {
        hand.append_value("t", None, &[7; 3000]);
    }
    assert!(hand.poll().is_empty());
    assert_eq!(hand.log.state.cuts.len(), 5);
    hand.log.sync();
    let requests = hand.poll();
    assert_eq!(requests.len(), 5);
    // The answer arrives before the sixth batch.
    hand.answer(&requests[0], 0);
    assert!(hand.poll().is_empty());
    assert_eq!((hand.log.dones.len(), hand.log.state.cuts.len()), (2, 5));
}

#[test]
fn on_the_way_out_what_is_cut_is_settled_and_the_rest_stays_in_the_log() {
    for keep in [Keep::Disk, Keep::HybridSaved, Keep::Hybrid] {
        let mut settings = disk();
        (settings.sinks[0].keep, settings.sinks[0].answered_on) = (keep, AnsweredOn::Replicated);
        let mut hand = known(settings);
        let first = hand.poll_synced().remove(0);
        hand.append("t", None);
        hand.producer.cut_no_more();
        hand.answer(&first, 7);
        hand.wait_ms(1_000);
        let again = hand.poll_synced().remove(0);
        assert_eq!(identity(&again), identity(&first), "sent again, as it is cut");
        hand.answer(&again, 0);
        assert_eq!(hand.poll_synced().len(), usize::from(keep == Keep::Hybrid), "{keep:?}: a stop would lose it");
        assert_eq!((hand.stats().delivered, hand.stats().buffered_rows), (1, 1));
    }
}

#[test]
fn a_batch_of_memory_does_not_overtake_one_whose_cut_is_not_on_the_disk_yet() {
    let mut settings = disk();
    (settings.sinks[0].keep, settings.sinks[0].answered_on) = (Keep::Hybrid, AnsweredOn::Replicated);
    settings.sinks[0].spill_after = 7 * 1024;
    let mut hand = Hand::proven(settings);
    hand.append_value("t", None, &[b'x'; 7900]);
    let large = hand.one();
    // Memory has enough: this row goes to the log, and is cut there.
    hand.append("t", None);
    assert!(hand.poll().is_empty() && hand.poll().is_empty());
    assert_eq!(hand.log.state.cuts.len(), 1);
    // Memory is free again.
    hand.answer(&large, 0);
    hand.poll();
    hand.append("t", None);
    assert!(hand.poll().is_empty(), "the older one first");
    assert_eq!(hand.log.state.taken, 1, "memory has it alone");
    hand.log.sync();
    let sent = hand.poll();
    assert_eq!(identities(&sent), [(7, 0, 2), (7, 0, 3)]);
    sent.into_iter().for_each(|request| hand.answer_and_drop(request, 0));
    assert_eq!(hand.delivered(), [0, 1, 2, 3]);
}

#[test]
fn a_log_that_takes_nothing_is_asked_again_and_nothing_spins() {
    for takes in 0..12 {
        let mut hand = Hand::new(disk());
        hand.append("t", None);
        hand.log.takes = Some(0);
        hand.poll();
        hand.producer.on_metadata(&[topic("t", &[0])], hand.now);
        hand.producer.on_producer_id(0, 7, 0);
        let mut delivered = 0;
        for round in 0..40 {
            if round < 10 {
                hand.append("t", None);
            }
            hand.log.takes = Some(takes % 4 + u32::from(round > 10));
            let mut requests = hand.poll();
            assert!(hand.producer.next_deadline() > hand.now, "takes {takes}: it would spin");
            hand.log.takes = Some(takes / 4);
            hand.log.sync();
            requests.extend(hand.poll());
            for request in requests {
                delivered += values(&request).len();
                hand.answer(&request, 0);
            }
        }
        hand.log.takes = None;
        for _ in 0..20 {
            for request in hand.poll_synced() {
                delivered += values(&request).len();
                hand.answer(&request, 0);
            }
        }
        hand.poll();
        assert_eq!((delivered, hand.delivered()), (11, (0..11).collect()), "takes {takes}");
        assert!(hand.log.state.live.is_empty() && hand.log.state.cuts.is_empty());
        assert_eq!(hand.stats().delivered, 11);
    }
}

#[test]
fn an_answer_at_stored_waits_for_its_own_rows_only() {
    let mut hand = Hand::new(disk());
    hand.append("t", None);
    hand.poll();
    hand.log.end_group();
    hand.append("t", None);
    hand.poll();
    hand.log.end_group();
    assert!(hand.delivered().is_empty());
    hand.log.sync_one();
    hand.poll();
    assert_eq!(hand.delivered(), [0]);
    hand.log.sync_one();
    hand.poll();
    assert_eq!(hand.delivered(), [0, 1]);
}

/// Kafka takes nothing for the topic, and reports it before the row is in the log.
#[test]
fn a_split_batch_is_cut_anew_and_only_the_refused_row_ends() {
    let mut hand = known(disk());
    let first = hand.poll_synced().remove(0);
    hand.answer_and_drop(first, 0);
    (0..4).for_each(|_| hand.append("t", None));
    let mut refused = 0;
    for _ in 0..30 {
        for request in hand.poll_synced() {
            let bad = values(&request).contains(&"row 3".to_owned());
            refused += usize::from(bad && values(&request).len() == 1);
            hand.answer(&request, if bad { 87 } else { 0 });
        }
        hand.wait_ms(2000);
    }
    assert_eq!(refused, 1);
    assert!(hand.log.state.live.is_empty() && hand.log.state.cuts.is_empty());
    let fates: Vec<Fate> = hand.log.state.ended.values().copied().collect();
    assert_eq!(fates.iter().filter(|fate| **fate == Fate::Refused).count(), 1, "{fates:?}");
    assert!(hand.log.state.ended.iter().any(|((_, _), fate)| *fate == Fate::Refused));
    assert!(hand.done.iter().all(|(_, outcome)| *outcome == Outcome::Delivered), "stored is stored");
    assert_eq!((hand.stats().delivered, hand.stats().refused), (4, 1));
    assert_eq!(hand.producer.buffered_bytes(), 0);
    assert_eq!(hand.producer.stats(SINK).buffered_rows, 0);
}

#[test]
fn a_row_of_a_topic_that_is_refused_is_in_the_log_before_it_is_refused() {
    let mut hand = Hand::new(disk());
    hand.append("t", None);
    hand.poll_synced();
    hand.append("t", None);
    let refused = crate::types::TopicMetadata { name: "t".into(), error: 29, ..Default::default() };
    hand.producer.on_metadata(std::slice::from_ref(&refused), hand.now);
    assert_eq!(hand.stats().refused, 0);
    hand.poll_synced();
    assert_eq!((hand.log.state.live.len(), hand.delivered().len()), (2, 2));
    hand.producer.on_metadata(&[refused], hand.now);
    hand.poll();
    assert_eq!((hand.stats().refused, hand.stats().buffered_rows), (2, 0));
    let fates: Vec<_> = hand.log.state.ended.values().copied().collect();
    assert_eq!(fates, [Fate::Refused, Fate::Refused]);
}
