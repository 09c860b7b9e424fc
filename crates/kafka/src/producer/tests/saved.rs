//! Rows that an orderly stop saves of sinks that go to memory first, and how the next process handles them.

use crate::producer::row_log::RestoredCut;
use crate::producer::testing::hand::{Hand, identities, topic, values};
use crate::producer::testing::hand::{disk, known};
use crate::producer::{AnsweredOn, Keep, Settings};
use crate::types::{LogSays, ProduceRequest, SinkId};

/// Settings under which only the first rows in memory need no log.
fn saved() -> Settings {
    let mut settings = disk();
    settings.sinks[0].keep = Keep::HybridSaved;
    settings.sinks[0].answered_on = AnsweredOn::Append;
    settings.sinks[0].spill_after = 1;
    settings
}

/// Stops the process and starts the next one.
fn again(mut hand: Hand, settings: Settings) -> Hand {
    assert!(hand.producer.save(&mut hand.log));
    hand.log.sync();
    let mut hand = hand.killed(settings, 8);
    hand.poll();
    hand.producer.on_metadata(&[topic("t", &[0])], hand.now);
    hand
}

#[test]
fn a_start_sends_cuts_in_the_order_of_their_sequence_whenever_they_were_written_down() {
    let mut hand = known(saved());
    let proves = hand.one();
    hand.answer_and_drop(proves, 0);
    hand.append("t", None);
    let mut before = vec![hand.one()];
    hand.append("t", None);
    before.extend(hand.poll_synced());
    let before = identities(&before);
    assert_eq!((before.len(), hand.log.state.cuts.len()), (2, 1), "the first is in memory alone");
    let mut hand = again(hand, saved());
    let mut sent = Vec::new();
    for _ in 0..5 {
        for request in hand.poll_synced() {
            sent.extend(identities(std::slice::from_ref(&request)));
            hand.answer_and_drop(request, 0);
        }
    }
    assert_eq!(sent, before);
}

#[test]
fn what_memory_has_is_written_down_before_younger_rows_are() {
    let mut hand = known(saved());
    let request = hand.one();
    hand.answer_and_drop(request, 0);
    hand.producer.on_reachable(false);
    hand.append("t", None);
    hand.poll();
    assert!(hand.log.state.live.is_empty(), "memory first");
    (0..4).for_each(|_| hand.append("t", None));
    (0..3).for_each(|_| assert!(hand.poll_synced().is_empty()));
    assert_eq!(hand.log.state.live.len(), 5);
    let mut hand = again(hand, saved());
    let mut sent = Vec::new();
    for _ in 0..5 {
        for request in hand.poll_synced() {
            sent.extend(values(&request));
            hand.answer_and_drop(request, 0);
        }
    }
    assert_eq!(sent, ["row 1", "row 2", "row 3", "row 4", "row 5"]);
}

/// A batch of three rows is in flight; larger ones after it go to the log.
fn three_rows_under_way() -> (Hand, ProduceRequest, Settings) {
    let settings = lingering();
    let mut hand = known(settings.clone());
    let request = two_more_rows(&mut hand);
    assert_eq!(values(&request), ["row 0", "row 1", "row 2"]);
    (hand, request, settings)
}

fn lingering() -> Settings {
    let mut settings = saved();
    settings.sinks[0].linger = std::time::Duration::from_millis(1);
    settings.sinks[0].spill_after = 8192;
    settings
}

/// Appends two more rows, and ends the linger of all.
fn two_more_rows(hand: &mut Hand) -> ProduceRequest {
    hand.append("t", None);
    hand.append("t", None);
    hand.wait_ms(2);
    hand.one()
}

/// Appends five rows, more than memory may keep.
fn append_large_rows(hand: &mut Hand) {
    let large = "x".repeat(3000);
    (0..5).for_each(|_| hand.append_value("t", None, format!("row {} {large}", hand.number).as_bytes()));
}

fn assert_in_order(mut hand: Hand, polls: u32, rows: std::ops::Range<u32>) {
    let mut sent = Vec::new();
    for _ in 0..polls {
        hand.wait_ms(2);
        for request in hand.poll_synced() {
            let name = |value: &String| value.split(' ').take(2).collect::<Vec<_>>().join(" ");
            sent.extend(values(&request).iter().map(name));
            hand.answer_and_drop(request, 0);
        }
    }
    assert_eq!(sent, rows.map(|row| format!("row {row}")).collect::<Vec<_>>());
    hand.poll();
    assert!(hand.log.state.live.is_empty() && hand.log.state.cuts.is_empty());
}

#[test]
fn what_was_cut_and_is_taken_back_is_written_down_before_younger_rows_are() {
    let (mut hand, request, settings) = three_rows_under_way();
    // The batch becomes two closed halves; enough rows after them fill memory.
    hand.answer_and_drop(request, 10);
    hand.producer.on_reachable(false);
    append_large_rows(&mut hand);
    (0..3).for_each(|_| assert!(hand.poll_synced().is_empty()));
    assert_eq!(hand.log.state.live.len(), 8);
    assert_in_order(again(hand, settings), 9, 0..8);
}

/// D13. While the rows were in flight they needed no number in the log, and younger rows got theirs. After the last epoch they
/// have no identity either.
#[test]
fn what_is_taken_back_after_younger_rows_were_written_down_goes_before_these() {
    for epoch in [0, i16::MAX] {
        let settings = lingering();
        let mut hand = Hand::new(settings.clone());
        hand.append("t", None);
        hand.poll();
        hand.producer.on_metadata(&[topic("t", &[0])], hand.now);
        hand.producer.on_producer_id(0, 7, epoch);
        let request = two_more_rows(&mut hand);
        append_large_rows(&mut hand);
        hand.poll_synced();
        let written = hand.log.state.live.len();
        assert!((1..=5).contains(&written), "{written}");
        hand.producer.on_reachable(false);
        hand.answer_and_drop(request, 10);
        hand.poll_synced();
        assert_eq!(hand.log.state.live.len(), written, "those before them are in memory alone");
        // Once more, at the beginning of the process.
        let hand = again(again(hand, settings.clone()), settings);
        assert_in_order(hand, 30, 0..8);
    }
}

/// More batches than a partition may have in flight.
#[test]
fn any_number_of_batches_that_are_taken_back_goes_before_younger_rows() {
    let mut settings = lingering();
    settings.sinks[0].spill_after = 32 * 1024;
    let mut hand = known(settings.clone());
    hand.wait_ms(2);
    let proves = hand.one();
    hand.answer_and_drop(proves, 0);
    let mut under_way: Vec<_> = (0..5).map(|_| two_more_rows(&mut hand)).collect();
    (0..3).for_each(|_| append_large_rows(&mut hand));
    hand.poll_synced();
    assert!(!hand.log.state.live.is_empty(), "younger rows are in the log");
    hand.producer.on_reachable(false);
    // The first is split in two.
    let first = under_way.remove(0);
    hand.answer_and_drop(first, 10);
    under_way.into_iter().for_each(|request| hand.answer_and_drop(request, 45));
    hand.poll_synced();
    assert_in_order(again(hand, settings), 100, 1..26);
}

/// The cut before theirs is void, and so is theirs before it has been read back. Another stop happens before they are sent, or
/// none does.
#[test]
fn what_a_stop_has_saved_behind_younger_rows_stays_before_these_when_its_cut_is_void() {
    for stops in [false, true] {
        let settings = lingering();
        let mut hand = known(settings.clone());
        hand.wait_ms(2);
        let proves = hand.one();
        hand.answer_and_drop(proves, 0);
        let under_way = [two_more_rows(&mut hand), two_more_rows(&mut hand)];
        hand.producer.on_reachable(false);
        append_large_rows(&mut hand);
        hand.poll_synced();
        drop(under_way);
        let mut hand = again(hand, settings.clone());
        assert_eq!(hand.log.state.cuts.len(), 2);
        hand.log.reads = Some(1);
        let first = hand.poll_synced().remove(0);
        assert_eq!(values(&first), ["row 1", "row 2"]);
        hand.answer_and_drop(first, 10);
        hand.poll_synced();
        // The batch may have been there before: its log denies it.
        for question in hand.take_questions() {
            hand.producer.on_asked(question.token, LogSays::Next { known: true }, hand.now);
        }
        let under_way = hand.poll_synced();
        assert_eq!(under_way.iter().flat_map(values).collect::<Vec<_>>(), ["row 1"]);
        let half = |(cut, ..): &(RestoredCut, SinkId, String)| (cut.epoch, cut.rows[0].count) == (1, 1);
        assert!(hand.log.state.cuts.values().all(half), "both are void: {:?}", hand.log.state.cuts);
        hand.log.reads = None;
        if stops {
            assert_in_order(again(hand, settings), 60, 1..10);
        } else {
            under_way.into_iter().for_each(|request| hand.answer_and_drop(request, 0));
            assert_in_order(hand, 60, 2..10);
        }
    }
}
