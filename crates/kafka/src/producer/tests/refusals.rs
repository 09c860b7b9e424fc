//! Rules P5 to P7: logs that give no answer, refusals, new epochs.

use crate::producer::testing::hand::{HOUR_MS, Hand, SINK, identities, identity, settings, topic, values};
use crate::producer::{News, Refusal, Want};
use crate::types::{LogSays, Outcome, ProduceResult, Run, WhyNot};
use forebay_record::compression::Codec;

const SILENT: LogSays = LogSays::CannotTell(WhyNot::Forbidden);

// P5, P6

#[test]
fn nothing_but_45_and_a_log_that_may_not_be_read_raises_the_epoch_and_is_counted() {
    let mut hand = Hand::proven(settings());
    let window = hand.five();
    hand.producer.on_failed(window[0].id, true, hand.now);
    window[1..].iter().for_each(|request| hand.answer(request, 45));
    hand.wait_ms(100);
    let again = hand.poll();
    again.iter().for_each(|request| hand.answer(request, 45));
    hand.log_says(SILENT);
    hand.wait_ms(1000);
    let first = hand.one();
    assert_eq!(identity(&first), (7, 1, 0), "alone");
    assert_eq!(values(&first), ["row 1"]);
    assert_eq!(hand.stats().outcome_unknown, 1, "only the first was ever sent without an answer");
    hand.answer(&first, 0);
    assert_eq!(identities(&hand.poll()), [(7, 1, 1), (7, 1, 2), (7, 1, 3), (7, 1, 4)]);
}

#[test]
fn kafka_without_what_it_acknowledged_is_noticed() {
    let mut hand = Hand::proven(settings());
    hand.append("t", None);
    let request = hand.one();
    hand.answer(&request, 45);
    hand.log_says(LogSays::Lost);
    assert_eq!((hand.stats().acknowledged_lost, hand.stats().outcome_unknown), (1, 0));
    hand.wait_ms(100);
    assert_eq!(identity(&hand.one()), (7, 1, 0));
}

#[test]
fn an_epoch_that_is_too_old_or_an_id_that_is_forgotten_starts_a_new_epoch() {
    for code in [47, 59, 90] {
        let mut hand = Hand::proven(settings());
        hand.append("t", None);
        let request = hand.one();
        hand.answer(&request, code);
        hand.log_says(LogSays::Next { known: false });
        hand.wait_ms(100);
        assert_eq!(identity(&hand.one()), (7, 1, 0), "{code}");
    }
}

#[test]
fn a_refusal_after_an_unknown_outcome_is_not_final() {
    let mut hand = Hand::proven(settings());
    hand.append("t", None);
    let request = hand.one();
    hand.producer.on_failed(request.id, true, hand.now);
    hand.wait_ms(100);
    let again = hand.one();
    hand.answer(&again, 10);
    hand.log_says(SILENT);
    assert_eq!((hand.stats().refused, hand.stats().outcome_unknown), (0, 1), "P6: it may be there");
    hand.wait_ms(1000);
    let anew = hand.one();
    assert_eq!(identity(&anew), (7, 1, 0));
    hand.answer(&anew, 10);
    assert_eq!(hand.done.last(), Some(&(Run { session: 1, first: 1, count: 1 }, Outcome::Refused(10))));
}

#[test]
fn a_batch_that_has_grown_old_is_sent_again_alone_and_counted_once() {
    let mut hand = Hand::proven(settings());
    let window = hand.five();
    window.iter().for_each(|request| hand.producer.on_failed(request.id, true, hand.now));
    hand.wait_ms(2 * HOUR_MS);
    hand.log_says(SILENT);
    let again = hand.one();
    assert_eq!(identity(&again), identity(&window[0]), "the same identity");
    assert_eq!(hand.stats().outcome_unknown, 1);
    hand.answer(&again, 45);
    hand.log_says(SILENT);
    let second = hand.one();
    assert_eq!(identity(&second), identity(&window[1]), "45 alone says nothing: the next one");
    hand.answer(&second, 0);
    assert_eq!(hand.delivered(), [0, 1, 2]);
    hand.log_says(SILENT);
    let third = hand.one();
    hand.answer(&third, 7);
    hand.wait_ms(1000);
    let third = hand.one();
    assert_eq!(identity(&third), identity(&window[2]));
    assert_eq!(hand.stats().outcome_unknown, 3, "rows 1, 2 and 3, each once");
}

// CORRUPT_MESSAGE

fn corrupt(hand: &mut Hand) {
    let request = hand.one();
    hand.answer_and_drop(request, 2);
    hand.wait_ms(2_000);
}

#[test]
fn a_batch_that_is_whole_here_is_sent_again_twenty_times_and_then_rejected() {
    let mut hand = Hand::proven(settings());
    hand.append("t", None);
    (0..19).for_each(|_| corrupt(&mut hand));
    assert_eq!((hand.stats().refused, hand.stats().buffered_rows), (0, 1));
    corrupt(&mut hand);
    assert_eq!((hand.stats().refused, hand.stats().buffered_rows), (1, 0));
    assert_eq!(hand.done.last().map(|(_, outcome)| *outcome), Some(Outcome::Refused(2)));
    hand.append("t", None);
    let next = hand.one();
    hand.answer(&next, 0);
    assert_eq!(hand.stats().delivered, 2, "others go on");
}

/// Finding K2: Kafka before 2.4 always answers 2 to a batch with a record that it does not take. The others arrive.
#[test]
fn finding_k2_one_record_that_is_never_taken_costs_no_other() {
    let mut hand = Hand::proven(settings());
    let window = hand.five();
    for number in 6..45 {
        hand.append_value("t", None, if number == 23 { b"bad" } else { b"good" });
    }
    window.iter().for_each(|request| hand.answer(request, 0));
    let begun = hand.now;
    let mut rounds = 0;
    while hand.stats().buffered_rows > 0 {
        rounds += 1;
        assert!(rounds < 60, "{} rows wait", hand.stats().buffered_rows);
        let mut is_gap = false;
        for request in hand.poll() {
            let bad = values(&request).iter().any(|value| value == "bad");
            let code = if bad { 2 } else { 45 };
            hand.answer_and_drop(request, if bad || is_gap { code } else { 0 });
            is_gap |= bad;
        }
        hand.wait_ms(1_200);
    }
    assert_eq!((hand.stats().refused, hand.stats().delivered), (1, 44));
    assert_eq!(hand.done.iter().filter(|(_, outcome)| *outcome == Outcome::Refused(2)).count(), 1);
    assert_eq!(hand.delivered(), (0..45).filter(|number| *number != 23).collect::<Vec<_>>(), "in order");
    assert!(hand.now.since(begun).as_secs() < 60);
}

/// Finding K3: a broker repeatedly ends the connection on a request that is too large for it.
#[test]
fn finding_k3_a_request_on_which_connections_end_is_halved() {
    let mut large = settings();
    (large.sinks[0].batch_bytes, large.sinks[0].record_bytes_max) = (65_536, 16_384);
    let mut hand = Hand::proven(large);
    let window = hand.five();
    (6..46).for_each(|_| hand.append_value("t", None, &[b'x'; 1_000]));
    window.iter().for_each(|request| hand.answer(request, 0));
    let (most, mut ends) = (12_000, 0);
    for _ in 0..100 {
        for request in hand.poll() {
            let bytes: usize = request.batches.iter().map(|batch| batch.bytes.len()).sum();
            if bytes > most {
                ends += 1;
                hand.producer.on_hung_up(request.id);
                hand.producer.on_failed(request.id, true, hand.now);
            } else {
                hand.answer(&request, 0);
            }
        }
        // The log answers that none of it is there.
        for question in hand.take_questions() {
            hand.producer.on_asked(question.token, LogSays::Next { known: true }, hand.now);
        }
        hand.wait_ms(1_200);
    }
    assert_eq!((hand.stats().buffered_rows, hand.stats().delivered, hand.stats().refused), (0, 46, 0));
    assert_eq!(hand.delivered(), (0..46).collect::<Vec<_>>());
    assert!((6..=9).contains(&ends), "three for 40 kB, three for 20 kB: {ends}");
    assert_eq!(hand.stats().outcome_unknown, 0);
    // Later batches gather no more than that.
    let ends_before = ends;
    (0..40).for_each(|_| hand.append_value("t", None, &[b'x'; 1_000]));
    for _ in 0..20 {
        for request in hand.poll() {
            assert!(request.batches.iter().map(|batch| batch.bytes.len()).sum::<usize>() <= most);
            hand.answer(&request, 0);
        }
        hand.wait_ms(10);
    }
    assert_eq!((hand.stats().buffered_rows, ends), (0, ends_before));
}

/// Finding K3: one record cannot be made smaller, and is not given up for a guess.
#[test]
fn finding_k3_one_record_is_sent_again_and_again() {
    let mut large = settings();
    large.sinks[0].record_bytes_max = 16_384;
    let mut hand = Hand::proven(large);
    hand.append_value("t", None, &[b'x'; 10_000]);
    for _ in 0..30 {
        let request = hand.one();
        hand.producer.on_hung_up(request.id);
        hand.producer.on_failed(request.id, true, hand.now);
        hand.wait_ms(1_200);
    }
    let mut news = Vec::new();
    hand.producer.drain_news(|one| news.push(one));
    assert!(matches!(news[..], [News::TooLarge { can_be_smaller: false, .. }]), "{news:?}");
    let request = hand.one();
    hand.answer(&request, 0);
    assert_eq!((hand.stats().delivered, hand.stats().refused), (2, 0));
}

#[test]
fn a_batch_that_was_damaged_here_is_rejected_at_once() {
    let mut hand = Hand::proven(settings());
    hand.append("t", None);
    let (id, batch) = {
        let mut request = hand.one();
        (request.id, request.batches.remove(0))
    };
    let result = ProduceResult { topic: batch.topic.clone(), partition: 0, error: 2, base_offset: -1 };
    drop(batch);
    let work = hand.producer.topics[0].partitions[0].work.as_mut().expect("a batch");
    work.queue[0].damage();
    hand.produced(id, &[result]);
    assert_eq!((hand.stats().refused, hand.stats().buffered_rows), (1, 0));
}

#[test]
fn a_broker_silences_us_for_five_minutes_at_most() {
    let mut hand = Hand::proven(settings());
    hand.append("t", None);
    let request = hand.one();
    let result = ProduceResult { topic: "t".into(), partition: 0, error: 0, base_offset: -1 };
    hand.producer.on_produced(request.id, &[result], i32::MAX, hand.now);
    hand.append("t", None);
    hand.wait_ms(299_000);
    assert!(hand.poll().is_empty(), "what it asks for is kept to");
    hand.wait_ms(1_000);
    hand.one();
}

// P7, refusals

#[test]
fn a_refusal_ends_its_batch_and_leaves_no_gap() {
    let mut hand = Hand::proven(settings());
    let window = hand.five();
    hand.answer(&window[0], 0);
    hand.answer(&window[1], 29);
    window[2..].iter().for_each(|request| hand.answer(request, 45));
    let next = hand.one();
    assert_eq!(identity(&next), (7, 1, 0), "at once, a new epoch");
    assert_eq!(values(&next), ["row 3"]);
    assert_eq!(hand.done.last(), Some(&(Run { session: 1, first: 2, count: 1 }, Outcome::Refused(29))));
    assert_eq!(hand.producer.check(SINK, "t", 10), Err(Refusal::TopicForbidden));
    hand.answer(&next, 0);
    let rest = hand.poll();
    assert_eq!(identities(&rest), [(7, 1, 1), (7, 1, 2)]);
    rest.iter().for_each(|request| hand.answer(request, 0));
    assert_eq!((hand.stats().delivered, hand.stats().refused, hand.stats().outcome_unknown), (5, 1, 0));
    hand.wait_ms(31_000);
    hand.poll();
    assert!(hand.producer.check(SINK, "t", 10).is_ok(), "one may try again");
}

fn split_until_one_is_refused(compression: Codec) {
    let mut with_codec = settings();
    with_codec.sinks[0].compression = compression;
    let mut hand = Hand::proven(with_codec);
    let window = hand.five();
    for number in 6..16 {
        let bad = number == 13;
        hand.append_value("t", None, if bad { b"bad" } else { b"good good good good good good good" });
    }
    window.iter().for_each(|request| hand.answer(request, 0));
    let mut sent = 0;
    loop {
        let requests = hand.poll();
        if requests.is_empty() {
            break;
        }
        for request in requests {
            sent += 1;
            let bad = values(&request).iter().any(|value| value == "bad");
            hand.answer(&request, if bad { 10 } else { 0 });
        }
    }
    assert_eq!(hand.stats().refused, 1);
    assert_eq!(hand.stats().delivered, 15);
    assert_eq!(hand.delivered(), (0..16).filter(|number| *number != 13).collect::<Vec<_>>());
    assert!(sent < 12, "halves, not rows: {sent}");
    assert_eq!(hand.stats().buffered_bytes, 0);
}

#[test]
fn too_large_is_split_until_a_single_record_is_refused() {
    split_until_one_is_refused(Codec::None);
}

#[test]
fn a_compressed_batch_is_split_too() {
    for codec in [Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd] {
        split_until_one_is_refused(codec);
    }
}

#[test]
fn after_the_last_epoch_comes_a_new_producer_id() {
    let mut hand = Hand::new(settings());
    hand.append("t", None);
    hand.poll();
    hand.producer.on_metadata(&[topic("t", &[0, 0])], hand.now);
    hand.producer.on_producer_id(0, 7, i16::MAX);
    let first = hand.one();
    hand.wants.clear();
    hand.answer(&first, 47);
    hand.log_says(LogSays::Next { known: false });
    hand.wait_ms(1000);
    assert!(hand.poll().is_empty(), "no id");
    assert_eq!(hand.wants, [Want::ProducerId(0)]);
    hand.producer.on_producer_id(0, 9, 0);
    assert_eq!(identity(&hand.one()), (9, 0, 0));
}

#[test]
fn batches_refused_one_after_the_other_leave_one_timer_for_their_topic() {
    let mut hand = Hand::proven(settings());
    let before = hand.producer.agenda.timers.len();
    for _ in 0..20 {
        hand.append("t", None);
        let request = hand.one();
        hand.wait_ms(100);
        hand.answer(&request, 29);
    }
    assert!(hand.producer.agenda.timers.len() <= before + 1, "{} timers", hand.producer.agenda.timers.len());
    // The first row has expired, the last one has not.
    hand.wait_ms(29_000);
    hand.poll();
    assert_eq!(hand.producer.check(SINK, "t", 10), Err(Refusal::TopicForbidden));
    hand.wait_ms(2_000);
    hand.poll();
    assert!(hand.producer.check(SINK, "t", 10).is_ok());
}

/// A log that was recreated unnoticed takes any batch first: the absence of the oldest proves nothing about the younger ones.
#[test]
fn what_follows_a_refused_batch_is_not_cut_anew_while_it_may_be_there() {
    for there in [false, true] {
        let mut hand = Hand::proven(settings());
        let requests = [0, 1].map(|_| {
            hand.append("t", None);
            hand.one()
        });
        hand.answer(&requests[0], 87);
        hand.producer.on_failed(requests[1].id, true, hand.now);
        let says = if there { LogSays::There { last_sequence: 2 } } else { LogSays::Next { known: true } };
        hand.log_says(says);
        for _ in 0..5 {
            hand.wait_ms(1_000);
            for request in hand.poll() {
                let bad = values(&request) == ["row 1"];
                assert!(bad || !there, "{:?} is there", values(&request));
                hand.answer(&request, if bad { 87 } else { 0 });
            }
        }
        let stats = hand.stats();
        assert_eq!((hand.delivered(), stats.refused, stats.outcome_unknown), (vec![0, 2], 1, 0), "{there}");
    }
}
