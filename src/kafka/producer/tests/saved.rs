//! What an orderly stop writes down of sinks that go to memory first, and what the next start makes of it.

use super::hand::{Hand, identities, topic, values};
use super::logged::{disk, known};
use crate::kafka::producer::{AnsweredOn, Keep, Settings};
use crate::kafka::types::ProduceRequest;

/// Of the rows in memory only the first are in no need of the log.
fn saved() -> Settings {
    let mut settings = disk();
    settings.sinks[0].keep = Keep::HybridSaved;
    settings.sinks[0].answered_on = AnsweredOn::Append;
    settings.sinks[0].spill_after = 1;
    settings
}

/// Stops it and starts it again.
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

/// A batch of three rows is in flight; larger ones behind it go to the log.
fn three_rows_under_way() -> (Hand, ProduceRequest, Settings) {
    let mut settings = saved();
    settings.sinks[0].linger = std::time::Duration::from_millis(1);
    settings.sinks[0].spill_after = 8192;
    let mut hand = known(settings.clone());
    hand.append("t", None);
    hand.append("t", None);
    hand.wait_ms(2);
    let request = hand.one();
    assert_eq!(values(&request), ["row 0", "row 1", "row 2"]);
    (hand, request, settings)
}

/// The rows 3 to 7, more than memory is to keep.
fn append_large_rows(hand: &mut Hand) {
    let large = "x".repeat(3000);
    (3..8).for_each(|row| hand.append_value("t", None, format!("row {row} {large}").as_bytes()));
}

fn assert_eight_rows_in_order(mut hand: Hand, polls: u32) {
    let mut sent = Vec::new();
    for _ in 0..polls {
        hand.wait_ms(2);
        for request in hand.poll_synced() {
            sent.extend(values(&request).iter().map(|value| value[..5].to_owned()));
            hand.answer_and_drop(request, 0);
        }
    }
    assert_eq!(sent, (0..8).map(|row| format!("row {row}")).collect::<Vec<_>>());
}

#[test]
fn what_was_cut_and_is_taken_back_is_written_down_before_younger_rows_are() {
    let (mut hand, request, settings) = three_rows_under_way();
    // Two halves of it, closed; and so much behind them that memory has enough.
    hand.answer_and_drop(request, 10);
    hand.producer.on_reachable(false);
    append_large_rows(&mut hand);
    (0..3).for_each(|_| assert!(hand.poll_synced().is_empty()));
    assert_eq!(hand.log.state.live.len(), 8);
    assert_eight_rows_in_order(again(hand, settings), 9);
}

/// D13. While they were in flight they needed no number in the log, and younger rows got theirs.
#[test]
fn what_is_taken_back_after_younger_rows_were_written_down_goes_before_these() {
    let (mut hand, request, settings) = three_rows_under_way();
    append_large_rows(&mut hand);
    hand.poll_synced();
    let written = hand.log.state.live.len();
    assert!((1..=5).contains(&written), "{written}");
    hand.producer.on_reachable(false);
    hand.answer_and_drop(request, 10);
    hand.poll_synced();
    assert_eq!(hand.log.state.live.len(), written, "those before them are in memory alone");
    assert_eight_rows_in_order(again(hand, settings), 20);
}
