//! A paused sink: nothing new is cut, cut batches are finished, and all other rows follow in order; and the age of its rows.

use crate::producer::SinkSettings;
use crate::producer::testing::hand::{Hand, SINK, identity, settings, values};

fn pause(hand: &mut Hand, paused: bool) {
    let sink = SinkSettings { paused, ..settings().sinks.remove(0) };
    hand.producer.change_sinks([(SINK, sink)]);
}

fn oldest(hand: &Hand) -> Option<i64> {
    let mut found = None;
    hand.producer.oldest(|sink, at| {
        assert_eq!(sink, SINK);
        found = Some(found.map_or(at, |known: i64| known.min(at)));
    });
    found
}

#[test]
fn a_paused_sink_finishes_what_is_cut_and_nothing_more() {
    let mut hand = Hand::proven(settings());
    hand.append("t", None);
    let under_way = hand.one();
    pause(&mut hand, true);
    hand.append("t", None);
    hand.append("t", None);
    hand.wait_ms(1_000);
    assert!(hand.poll().is_empty());
    // The cut batch is sent again, unchanged.
    hand.answer(&under_way, 6);
    hand.producer.on_metadata(&[crate::producer::testing::hand::topic("t", &[0])], hand.now);
    hand.wait_ms(5_000);
    let again = hand.one();
    assert_eq!(identity(&again), identity(&under_way));
    hand.answer(&again, 0);
    hand.wait_ms(60_000);
    assert!(hand.poll().is_empty());
    assert_eq!((hand.stats().buffered_rows, hand.delivered()), (2, vec![0, 1]));

    pause(&mut hand, false);
    let rest = hand.one();
    assert_eq!(values(&rest), ["row 2", "row 3"]);
    hand.answer(&rest, 0);
    assert_eq!(hand.delivered(), [0, 1, 2, 3]);
}

#[test]
fn the_oldest_row_is_the_first_that_is_not_done() {
    let mut hand = Hand::proven(settings());
    assert_eq!(oldest(&hand), None);
    hand.append("t", None);
    let first = hand.wall().0;
    let request = hand.one();
    hand.wait_ms(3_000);
    hand.append("t", None);
    let second = hand.wall().0;
    assert_eq!(oldest(&hand), Some(first), "cut and sent, and still the oldest");
    hand.answer(&request, 0);
    assert_eq!(oldest(&hand), Some(second));
    let request = hand.one();
    hand.answer(&request, 0);
    assert_eq!(oldest(&hand), None);
    // A row of a topic that is not known yet.
    hand.append("elsewhere", None);
    assert_eq!(oldest(&hand), Some(hand.wall().0));
}
