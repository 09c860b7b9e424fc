//! `retries`: when a batch that may yet be taken is given up, and when it is not. And sinks that shed.

use crate::producer::testing::hand::{Hand, SINK, identity, settings, values};
use crate::producer::{Settings, SinkSettings};
use crate::types::{LogSays, Outcome, Run, WhyNot};

/// NOT_ENOUGH_REPLICAS: nothing was appended. REQUEST_TIMED_OUT: the leader has appended.
const NOT_ENOUGH_REPLICAS: i16 = 19;
const TIMED_OUT: i16 = 7;

fn with(retries: u32) -> Settings {
    let sink = SinkSettings { retries: Some(retries), ..settings().sinks.remove(0) };
    Settings { sinks: vec![sink], ..settings() }
}

fn last(hand: &Hand) -> Option<(Run, Outcome)> {
    hand.done.last().copied()
}

#[test]
fn finding_t19_a_batch_is_refused_when_its_retries_are_used_up() {
    let mut hand = Hand::proven(with(2));
    hand.append("t", None);
    for _ in 0..3 {
        assert_eq!(hand.stats().refused, 0);
        let request = hand.one();
        hand.answer(&request, NOT_ENOUGH_REPLICAS);
        hand.wait_ms(2_000);
    }
    let run = Run { session: 1, first: 1, count: 1 };
    assert_eq!(last(&hand), Some((run, Outcome::Refused(NOT_ENOUGH_REPLICAS))));
    hand.append("t", None);
    let next = hand.one();
    assert_eq!(identity(&next), (7, 1, 0), "another epoch: what was given up leaves no gap");
    hand.answer(&next, 0);
    assert_eq!((hand.stats().refused, hand.stats().delivered, hand.stats().buffered_rows), (1, 2, 0));
}

/// No broker could be reached: this does not count as an attempt.
#[test]
fn finding_t19_what_was_not_sent_is_no_attempt() {
    let mut hand = Hand::proven(with(0));
    hand.append("t", None);
    for _ in 0..10 {
        let request = hand.one();
        hand.producer.on_failed(request.id, false, hand.now);
        hand.wait_ms(2_000);
    }
    let request = hand.one();
    hand.answer(&request, 0);
    assert_eq!((hand.stats().refused, hand.stats().delivered), (0, 2));
}

/// P6 holds for a batch that is given up, too: it may be there, so its log is asked.
#[test]
fn finding_t19_the_log_says_whether_it_is_there() {
    for (says, refused) in [(LogSays::There { last_sequence: 1 }, 0), (LogSays::Next { known: true }, 1)] {
        let mut hand = Hand::proven(with(0));
        hand.append("t", None);
        let request = hand.one();
        hand.answer(&request, TIMED_OUT);
        assert_eq!(hand.stats().refused, 0);
        hand.log_says(says);
        hand.poll();
        assert_eq!((hand.stats().refused, hand.stats().delivered), (refused, 2 - refused), "{says:?}");
    }
}

/// Giving the batch up again and again would store it once more each time.
#[test]
fn finding_t19_where_the_log_does_not_tell_it_is_sent_on() {
    let mut hand = Hand::proven(with(0));
    hand.append("t", None);
    let request = hand.one();
    hand.answer(&request, TIMED_OUT);
    hand.log_says(LogSays::CannotTell(WhyNot::Forbidden));
    for _ in 0..20 {
        hand.wait_ms(2_000);
        let request = hand.one();
        assert_eq!(identity(&request), (7, 1, 0));
        hand.answer(&request, TIMED_OUT);
    }
    assert_eq!((hand.stats().refused, hand.stats().outcome_unknown), (0, 1));
    assert!(hand.take_questions().is_empty());
}

/// The second batch has had as many attempts, and is given up when it is the oldest.
#[test]
fn finding_t19_the_oldest_batch_ends_first() {
    let mut hand = Hand::proven(with(1));
    let first = hand.five();
    first.iter().for_each(|request| hand.answer(request, NOT_ENOUGH_REPLICAS));
    hand.wait_ms(2_000);
    let again = hand.poll();
    assert_eq!(again.len(), 5);
    again.iter().for_each(|request| hand.answer(request, NOT_ENOUGH_REPLICAS));
    assert_eq!(last(&hand).map(|(run, _)| run.first), Some(1));
    assert_eq!(hand.stats().refused, 1);
    hand.wait_ms(2_000);
    let second = hand.one();
    assert_eq!(values(&second), ["row 2"]);
    hand.answer(&second, NOT_ENOUGH_REPLICAS);
    assert_eq!(hand.stats().refused, 2, "its turn to be given up");
    hand.wait_ms(2_000);
    let third = hand.one();
    assert_eq!(values(&third), ["row 3"]);
    hand.answer(&third, 0);
    assert_eq!((hand.stats().refused, hand.stats().delivered), (2, 2), "it was taken after all");
}

/// Finding E102: cut rows stay, the oldest of the rest makes room, and the youngest is taken.
#[test]
fn finding_e102_a_sink_that_sheds_grows_no_more_while_memory_is_short() {
    let sink = SinkSettings { sheds: true, ..settings().sinks.remove(0) };
    let mut hand = Hand::proven(Settings { sinks: vec![sink], ..settings() });
    let window = hand.five();
    hand.producer.mind_memory(true);
    let (before, value) = (hand.number, vec![b'x'; 3_000]);
    for _ in 0..20 {
        hand.append_value("t", None, &value);
        hand.producer.mind_memory(true);
    }
    let dropped = hand.stats().dropped;
    assert!((10..20).contains(&dropped), "{dropped}");
    assert_eq!(hand.stats().buffered_rows, 5 + 20 - dropped);
    window.iter().for_each(|request| hand.answer(request, 0));
    let mut left = 0;
    loop {
        let requests = hand.poll();
        if requests.is_empty() {
            break;
        }
        left += requests.iter().flat_map(values).count() as u64;
        requests.iter().for_each(|request| hand.answer(request, 0));
    }
    assert_eq!((left, hand.stats().buffered_rows), (20 - dropped, 0));
    assert_eq!(hand.delivered().last(), Some(&(before + 19)), "the youngest one");
    hand.producer.mind_memory(false);
    let more = hand.five().len() as u64;
    assert_eq!((more, hand.stats().dropped), (5, dropped));
    assert!(hand.producer.stats(SINK).buffered_rows == more);
}
