//! Finding U1: the cost of a poll depends on its work, not on the number of sinks.

use crate::producer::testing::hand::{Hand, SINK, settings, topic};
use crate::types::SinkId;

/// Takes out the sinks that have changed.
fn changed(hand: &mut Hand) -> Vec<SinkId> {
    let mut all: Vec<_> = std::iter::from_fn(|| hand.producer.take_changed()).collect();
    all.sort_unstable_by_key(|sink| sink.0);
    all
}

#[test]
fn finding_u1_sinks_without_news_are_not_visited() {
    let mut settings = settings();
    settings.sinks = vec![settings.sinks[0].clone(); 1_000];
    let mut hand = Hand::proven(settings);
    hand.producer.on_metadata(&[topic("t", &[1])], hand.now);
    hand.poll();
    assert_eq!(changed(&mut hand).len(), 1_000, "all are new");
    assert_eq!(changed(&mut hand), []);
    hand.poll();
    assert_eq!(changed(&mut hand), [], "nothing has happened");
    hand.append("t", None);
    assert_eq!(changed(&mut hand), [SINK]);
    // The sink's linger is the only one checked, and is forgotten when it is over.
    let ends = hand.producer.next_deadline();
    assert!(hand.producer.sinks.next_linger().is_none_or(|at| at == ends));
    hand.wait_ms(1_000);
    let request = hand.poll().pop().expect("its row goes");
    assert_eq!(hand.producer.sinks.next_linger(), None);
    assert_eq!(changed(&mut hand), [SINK]);
    hand.answer(&request, 0);
    assert_eq!(changed(&mut hand), [SINK]);
    assert_eq!(hand.stats().buffered_rows, 0);
}
