//! A backlog shrinks while publishers send at full speed.

use crate::producer::testing::hand::disk;
use crate::producer::testing::hand::{Hand, SINK, topic};
use crate::types::ProduceRequest;

const BACKLOG: u64 = 20_000;

/// Publishers offer twice Kafka's rate; returns rows taken and drained in this many rounds of 10 ms.
fn flat_out(hand: &mut Hand, rounds: u32, drains: bool) -> (u64, u64) {
    let (taken, drained) = (hand.stats().appended, hand.stats().delivered);
    let mut open: Vec<ProduceRequest> = Vec::new();
    for _ in 0..rounds {
        hand.wait_ms(10);
        for _ in 0..200 {
            let known = hand.producer.check(SINK, "t", 300).expect("it may go there");
            if hand.producer.share(SINK, known, 300).is_err() {
                break;
            }
            hand.append_value("t", None, &[7; 100]);
        }
        open.extend(hand.poll_synced());
        if drains && !open.is_empty() {
            let request = open.remove(0);
            hand.answer_and_drop(request, 0);
        }
    }
    (hand.stats().appended - taken, hand.stats().delivered - drained)
}

fn with_backlog() -> Hand {
    let mut settings = disk();
    settings.sinks[0].spill_after = 64 * 1024;
    settings.sinks[0].batch_bytes = 16 * 1024;
    let mut hand = Hand::new(settings);
    for number in 0..BACKLOG {
        hand.append_value("t", None, &[7; 100]);
        if number % 50 == 0 {
            hand.poll_synced();
        }
    }
    hand.poll_synced();
    assert!(hand.producer.spilled_rows(SINK) > 15_000);
    hand.producer.on_metadata(&[topic("t", &[0])], hand.now);
    hand.producer.on_producer_id(0, 7, 0);
    hand
}

#[test]
fn a_backlog_that_drains_halves_what_is_taken_until_it_is_gone() {
    let mut hand = with_backlog();
    flat_out(&mut hand, 20, true);
    let (taken, drained) = flat_out(&mut hand, 100, true);
    assert!(drained > 5_000, "{drained}");
    // The limit is half of the drain, or the floor of ten rows per round.
    assert!(taken <= drained / 2 + 100 * 10 + 200, "{taken} taken, {drained} drained");
    let before = hand.stats().paced;
    assert!(before > 0);
    let mut rounds = 0;
    while hand.producer.spilled_rows(SINK) > 10_000 {
        flat_out(&mut hand, 10, true);
        rounds += 10;
        assert!(rounds < 5_000, "it does not get smaller: {:?}", hand.stats());
    }
}

#[test]
fn what_does_not_drain_is_not_paced() {
    let mut hand = with_backlog();
    let (taken, _) = flat_out(&mut hand, 20, false);
    assert_eq!((taken, hand.stats().paced), (20 * 200, 0));
    // A sink that has stopped draining is not paced any more either.
    flat_out(&mut hand, 30, true);
    let (taken, _) = flat_out(&mut hand, 150, false);
    assert!(taken > 40 * 200, "{taken}");
}
