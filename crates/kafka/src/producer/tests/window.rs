//! `max_inflight`: the maximum number of unanswered batches of a partition.

use crate::producer::testing::hand::{Hand, settings};

#[test]
fn no_more_batches_are_cut_than_the_window_holds() {
    for (max_inflight, expected) in [(1, 1), (2, 2), (5, 5), (9, 5)] {
        let mut settings = settings();
        settings.sinks[0].max_inflight = max_inflight;
        let mut hand = Hand::proven(settings);
        let mut requests = Vec::new();
        for _ in 0..8 {
            hand.append("t", None);
            requests.extend(hand.poll());
        }
        assert_eq!(requests.len(), expected, "{max_inflight}");
        while let Some(request) = requests.pop() {
            hand.answer(&request, 0);
            requests.extend(hand.poll());
            assert!(requests.len() <= expected, "{max_inflight}");
        }
        assert_eq!(hand.stats().buffered_rows, 0);
    }
}
