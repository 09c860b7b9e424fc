//! Rules P5 and P6: when Kafka's log is asked, and the consequence of each answer.

use crate::producer::testing::hand::{HOUR_MS, Hand, identities, identity, settings, topic, values};
use crate::types::{LogSays, NodeId, Outcome, ProduceRequest, Run};

/// A full window without answers, and then only answers 45.
fn only_45() -> (Hand, Vec<ProduceRequest>) {
    let mut hand = Hand::proven(settings());
    let window = hand.five();
    window.iter().for_each(|request| hand.producer.on_failed(request.id, true, hand.now));
    hand.wait_ms(100);
    let again = hand.poll();
    again.iter().for_each(|request| hand.answer(request, 45));
    (hand, window)
}

#[test]
fn the_question_names_what_is_undone_and_where_the_log_was_last_known() {
    let (mut hand, _) = only_45();
    let question = hand.log_says(LogSays::Lost);
    assert_eq!((&*question.topic, question.partition, question.node), ("t", 0, NodeId(0)));
    assert_eq!((question.producer_id, question.epoch, question.replicated), (7, 0, true));
    assert_eq!((question.first_sequence, &*question.last_sequences), (1, &[1, 2, 3, 4, 5][..]));
    assert_eq!(question.from, Some(1001), "its first batch of one row was acknowledged at 1000");
    assert_eq!(hand.stats().asked, 1);
}

#[test]
fn what_the_log_has_is_delivered_and_the_rest_goes_again() {
    let (mut hand, window) = only_45();
    hand.log_says(LogSays::There { last_sequence: 3 });
    let next = hand.one();
    assert_eq!(hand.delivered(), [0, 1, 2, 3]);
    assert_eq!(identity(&next), identity(&window[3]), "the same identity, alone");
    hand.answer(&next, 0);
    let last = hand.one();
    assert_eq!(identity(&last), identity(&window[4]));
    hand.answer(&last, 0);
    assert_eq!(hand.delivered(), [0, 1, 2, 3, 4, 5]);
    let stats = hand.stats();
    assert_eq!((stats.epochs_raised, stats.outcome_unknown, stats.acknowledged_lost), (0, 0, 0));
}

/// The leader has moved since the batches were sent, and the new one cannot answer yet.
#[test]
fn a_new_leader_that_says_not_now_is_asked_again() {
    let (mut hand, window) = only_45();
    hand.producer.on_metadata(&[topic("t", &[1])], hand.now);
    for _ in 0..3 {
        let question = hand.log_says(LogSays::Again);
        assert_eq!(question.node, NodeId(1));
        let deadline = hand.producer.next_deadline();
        assert!(deadline <= hand.now.after(std::time::Duration::from_secs(2)), "it waits for nothing else");
        hand.now = deadline;
    }
    hand.log_says(LogSays::There { last_sequence: 5 });
    hand.poll();
    assert_eq!(hand.delivered().len(), 1 + window.len());
}

/// The leader has forgotten the producer since its answer 45: it takes whichever batch comes first.
#[test]
fn one_goes_alone_to_a_log_that_has_forgotten_the_id() {
    let (mut hand, window) = only_45();
    hand.log_says(LogSays::Next { known: false });
    hand.wait_ms(2000);
    let first = hand.one();
    assert_eq!(identity(&first), identity(&window[0]));
    hand.answer(&first, 0);
    assert_eq!(identities(&hand.poll()), identities(&window[1..]));
}

/// The log has answered once: it is no longer one in which nothing was ever acknowledged.
#[test]
fn what_a_log_has_shown_stands_before_what_is_asked_next() {
    let mut hand = Hand::new(settings());
    hand.append("t", None);
    hand.poll();
    hand.producer.on_metadata(&[topic("t", &[0])], hand.now);
    hand.producer.on_producer_id(0, 7, 0);
    for from in [None, Some(0)] {
        let request = hand.one();
        hand.producer.on_failed(request.id, true, hand.now);
        hand.wait_ms(100);
        let again = hand.one();
        hand.answer(&again, 45);
        let last_sequence = identity(&again).2;
        assert_eq!(hand.log_says(LogSays::There { last_sequence }).from, from);
        hand.append("t", None);
    }
}

#[test]
fn what_the_log_takes_next_is_sent_again_with_the_same_identity_but_not_for_ever() {
    let (mut hand, window) = only_45();
    for _ in 0..3 {
        hand.log_says(LogSays::Next { known: true });
        hand.wait_ms(2000);
        let again = hand.poll();
        assert_eq!(identities(&again), identities(&window));
        again.iter().for_each(|request| hand.answer(request, 45));
    }
    hand.log_says(LogSays::Next { known: true });
    hand.wait_ms(2000);
    assert_eq!(identity(&hand.one()), (7, 1, 0));
    assert_eq!(hand.stats().outcome_unknown, 0);
}

#[test]
fn a_log_that_lacks_what_it_had_acknowledged_gets_a_new_epoch() {
    let (mut hand, _) = only_45();
    hand.log_says(LogSays::Lost);
    hand.wait_ms(1000);
    assert_eq!(identity(&hand.one()), (7, 1, 0));
    assert_eq!((hand.stats().acknowledged_lost, hand.stats().outcome_unknown), (1, 0), "it is known not to be there");
}

#[test]
fn a_fenced_identity_goes_above_the_epoch_that_fences_it() {
    let mut hand = Hand::proven(settings());
    hand.append("t", None);
    let request = hand.one();
    hand.answer(&request, 47);
    hand.log_says(LogSays::Fenced { epoch: 41 });
    hand.wait_ms(1000);
    assert_eq!(identity(&hand.one()), (7, 42, 0));
    assert_eq!((hand.stats().acknowledged_lost, hand.stats().outcome_unknown), (0, 0));
}

/// An unanswered batch that was refused with 10 when it was sent again.
fn refused_in_doubt() -> Hand {
    let mut hand = Hand::proven(settings());
    hand.append("t", None);
    let request = hand.one();
    hand.producer.on_failed(request.id, true, hand.now);
    hand.wait_ms(100);
    let again = hand.one();
    hand.answer(&again, 10);
    hand
}

#[test]
fn a_refused_batch_that_is_there_is_delivered() {
    let mut hand = refused_in_doubt();
    hand.log_says(LogSays::There { last_sequence: 1 });
    assert!(hand.poll().is_empty());
    assert_eq!(hand.delivered(), [0, 1]);
    assert_eq!((hand.stats().refused, hand.stats().buffered_rows), (0, 0));
}

#[test]
fn a_refused_batch_that_is_not_there_is_refused_for_good() {
    for says in [LogSays::Next { known: true }, LogSays::Next { known: false }, LogSays::Lost] {
        let mut hand = refused_in_doubt();
        hand.log_says(says);
        assert!(hand.poll().is_empty(), "it is not sent again");
        assert_eq!(hand.done.last(), Some(&(Run { session: 1, first: 1, count: 1 }, Outcome::Refused(10))));
        assert_eq!(hand.stats().outcome_unknown, 0);
        hand.append("t", None);
        assert_eq!(identity(&hand.one()), (7, 1, 0), "P7");
    }
}

#[test]
fn a_refusal_of_what_was_never_in_doubt_is_not_asked_about() {
    let mut hand = Hand::proven(settings());
    hand.append("t", None);
    let request = hand.one();
    hand.answer(&request, 10);
    assert!(hand.poll().is_empty());
    assert_eq!((hand.stats().refused, hand.stats().asked), (1, 0));
}

/// An unanswered batch that Kafka may have forgotten by the time it is sent again.
fn late() -> (Hand, ProduceRequest) {
    let mut hand = Hand::proven(settings());
    hand.append("t", None);
    let request = hand.one();
    hand.producer.on_failed(request.id, true, hand.now);
    hand.wait_ms(2 * HOUR_MS);
    (hand, request)
}

#[test]
fn an_old_batch_that_is_there_is_not_sent_again() {
    let (mut hand, _) = late();
    hand.log_says(LogSays::There { last_sequence: 1 });
    assert!(hand.poll().is_empty());
    assert_eq!((hand.delivered(), hand.stats().outcome_unknown), (vec![0, 1], 0));
}

#[test]
fn an_old_batch_that_is_not_there_goes_again_and_is_asked_for_each_time() {
    for known in [true, false] {
        let (mut hand, request) = late();
        hand.log_says(LogSays::Next { known });
        let again = hand.one();
        assert_eq!(identity(&again), identity(&request));
        hand.producer.on_failed(again.id, true, hand.now);
        hand.wait_ms(5000);
        hand.log_says(LogSays::Next { known });
        let again = hand.one();
        hand.answer(&again, 0);
        assert_eq!((hand.delivered(), hand.stats().outcome_unknown), (vec![0, 1], 0));
    }
    let (mut hand, _) = late();
    hand.log_says(LogSays::Lost);
    assert_eq!(identity(&hand.one()), (7, 1, 0));
}

#[test]
fn the_log_is_read_where_kafka_may_have_forgotten_who_wrote_it() {
    let (mut hand, _) = late();
    assert!(hand.log_says(LogSays::Next { known: true }).is_read, "it is older than an hour");
    let mut hand = refused_in_doubt();
    assert!(!hand.log_says(LogSays::Lost).is_read);
}

#[test]
fn a_young_batch_is_sent_again_without_asking() {
    let mut hand = Hand::proven(settings());
    hand.append("t", None);
    let request = hand.one();
    hand.producer.on_failed(request.id, true, hand.now);
    hand.wait_ms(1000);
    assert_eq!(identity(&hand.one()), identity(&request));
    assert_eq!(hand.stats().asked, 0);
}

#[test]
fn while_one_partition_asks_the_others_go_on() {
    let mut hand = Hand::new(settings());
    hand.append("t", None);
    hand.poll();
    hand.producer.on_metadata(&[topic("t", &[0])], hand.now);
    hand.producer.on_metadata(&[topic("u", &[0])], hand.now);
    hand.producer.on_producer_id(0, 7, 0);
    let first = hand.one();
    hand.answer(&first, 47);
    hand.append("t", None);
    hand.append("u", None);
    assert!(hand.poll().is_empty(), "no metadata of u yet");
    hand.producer.on_metadata(&[topic("u", &[0])], hand.now);
    assert_eq!(values(&hand.one()), ["row 2"]);
    assert_eq!(hand.take_questions().len(), 1);
}

#[test]
fn not_now_is_asked_again_with_backoff_and_in_the_end_taken_for_a_no() {
    let (mut hand, _) = only_45();
    for _ in 0..99 {
        hand.log_says(LogSays::Again);
        assert!(hand.poll().is_empty() && hand.take_questions().is_empty(), "backoff");
        hand.wait_ms(2000);
    }
    assert_eq!(hand.stats().outcome_unknown, 0);
    hand.log_says(LogSays::Again);
    hand.wait_ms(2000);
    assert_eq!(identity(&hand.one()), (7, 1, 0));
    assert_eq!(hand.stats().outcome_unknown, 5);
}

#[test]
fn an_answer_that_never_comes_is_asked_for_again() {
    let (mut hand, _) = only_45();
    assert!(hand.poll().is_empty());
    let lost = hand.take_questions();
    hand.wait_ms(121_000);
    hand.poll();
    hand.wait_ms(2000);
    let question = hand.log_says(LogSays::There { last_sequence: 5 });
    assert_ne!(question.token, lost[0].token);
    hand.producer.on_asked(lost[0].token, LogSays::Lost, hand.now);
    assert!(hand.poll().is_empty());
    assert_eq!(hand.delivered(), [0, 1, 2, 3, 4, 5]);
    assert_eq!(hand.stats().acknowledged_lost, 0, "a late answer is nothing");
}

#[test]
fn an_answer_about_another_batch_is_none() {
    let (mut hand, _) = only_45();
    hand.log_says(LogSays::There { last_sequence: 77 });
    assert_eq!((hand.delivered(), hand.stats().outcome_unknown), (vec![0], 5));
}

#[test]
fn without_numbers_nobody_is_asked() {
    let mut unnumbered = settings();
    unnumbered.sinks[0].acks = 0;
    let mut hand = Hand::new(unnumbered);
    hand.append("t", None);
    hand.poll();
    hand.producer.on_metadata(&[topic("t", &[0])], hand.now);
    hand.producer.on_producer_id(0, 7, 0);
    let first = hand.one();
    hand.producer.on_failed(first.id, true, hand.now);
    hand.wait_ms(2 * HOUR_MS);
    hand.one();
    assert_eq!((hand.stats().asked, hand.stats().outcome_unknown), (0, 1));
}
