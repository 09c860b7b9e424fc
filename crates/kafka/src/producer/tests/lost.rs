//! Acknowledged records that Kafka has lost: detected by offsets, counted once, reported, and never a reason to settle a batch that is
//! not there.

use crate::producer::Settings;
use crate::producer::news::News;
use crate::producer::testing::hand::{Hand, SINK, identity, settings, topic, values};
use crate::producer::testing::hand::{disk, known};
use crate::types::{LogSays, ProduceRequest, ProduceResult, TopicMetadata};

fn at_leader() -> Settings {
    let mut settings = settings();
    settings.sinks[0].acks = 1;
    settings
}

/// Answers a request's only batch with 0, at this offset.
fn at(hand: &mut Hand, request: &ProduceRequest, base_offset: i64) {
    let (topic, partition) = (request.batches[0].topic.clone(), request.batches[0].partition);
    hand.produced(request.id, &[ProduceResult { topic, partition, error: 0, base_offset }]);
}

fn counted(hand: &Hand) -> (u64, u64, u64) {
    let stats = hand.stats();
    (stats.acknowledged_lost, stats.acknowledged_lost_records, stats.outcome_unknown)
}

fn told(hand: &mut Hand) -> Vec<News> {
    let mut told = Vec::new();
    hand.producer.drain_news(|news| told.push(news));
    told
}

#[test]
fn an_offset_below_what_was_acknowledged_shows_a_loss_and_how_much_at_least() {
    let mut hand = Hand::proven(at_leader());
    for offset in [1001, 1002, 1010] {
        hand.append("t", None);
        let request = hand.one();
        at(&mut hand, &request, offset);
    }
    assert_eq!(counted(&hand), (0, 0, 0));
    hand.append("t", None);
    let request = hand.one();
    at(&mut hand, &request, 1001);
    // 1001, 1002 and 1010 are gone; the records between them are others'.
    assert_eq!(counted(&hand), (1, 3, 0));
    let lost = News::Lost { sink: SINK, topic: "t".into(), partition: 0, records: 3 };
    assert_eq!(told(&mut hand), [lost]);
    hand.append("t", None);
    let request = hand.one();
    at(&mut hand, &request, 1002);
    assert_eq!((counted(&hand), hand.stats().buffered_rows), ((1, 3, 0), 0), "once");
}

/// Decision 0024's interleaving: m is answered 3 by the old log, m+1 is taken by another one as its first.
#[test]
fn an_answer_from_another_log_settles_its_own_batch_only() {
    let mut hand = Hand::proven(settings());
    let window = hand.five();
    hand.answer(&window[0], 3);
    at(&mut hand, &window[1], 0);
    assert_eq!(hand.delivered(), [0, 2], "row 1 is not there");
    at(&mut hand, &window[2], 1);
    hand.answer(&window[3], 3);
    hand.answer(&window[4], 45);
    assert_eq!(hand.delivered(), [0, 2, 3]);
    // The rest is sent again, the oldest alone: a log that had it would answer 0. This one does not expect it.
    let again = hand.one();
    assert_eq!(identity(&again), identity(&window[0]));
    hand.answer(&again, 45);
    // All are cut under the next epoch, oldest first: unchanged, the next answer 0 would settle row 1.
    hand.wait_ms(2_000);
    let first = hand.one();
    assert_eq!(identity(&first), (7, 1, 0));
    let mut seen = values(&first);
    at(&mut hand, &first, 2);
    for (request, offset) in hand.poll().iter().zip([3, 4]) {
        seen.extend(values(request));
        at(&mut hand, request, offset);
    }
    assert_eq!(seen, ["row 1", "row 4", "row 5"]);
    assert_eq!(hand.stats().buffered_rows, 0);
    assert_eq!(counted(&hand), (1, 1, 2), "those answered 3 may be there, as far as the code tells");
}

/// Decision 0024's interleaving, but others have filled the new log beyond the known offset: a batch that the topic (3) or the log (29)
/// has just reported missing is not settled by the answer to a younger batch (decision 0086).
#[test]
fn an_answer_settles_nothing_that_its_log_cannot_have() {
    for code in [3, 29, 19, 5, 45] {
        let mut hand = Hand::proven(settings());
        let window = hand.five();
        hand.answer(&window[0], code);
        at(&mut hand, &window[1], 5_000);
        assert_eq!(hand.delivered(), [0, 2], "{code}: row 1 is not there");
        window[2..].iter().zip(5_001..).for_each(|(request, offset)| at(&mut hand, request, offset));
        assert_eq!(hand.delivered(), [0, 2, 3, 4, 5]);
        hand.wait_ms(2_000);
        let again = hand.one();
        assert_eq!(identity(&again), identity(&window[0]), "a log that had it would say 0");
        hand.answer(&again, 45);
        hand.wait_ms(2_000);
        let first = hand.one();
        assert_eq!((identity(&first), values(&first)), ((7, 1, 0), vec!["row 1".to_owned()]));
        at(&mut hand, &first, 6_000);
        assert_eq!(hand.stats().buffered_rows, 0);
        // By its code, the attempt may have been appended, and be gone with its topic.
        assert_eq!(counted(&hand), (0, 0, u64::from(code == 3)));
    }
}

/// The log may have had the batch all the same (a broker that did not know the topic yet answers 3, too): no loss, and not twice.
#[test]
fn a_batch_that_is_there_before_a_younger_one_is_no_loss() {
    let mut hand = Hand::proven(settings());
    let window = hand.five();
    hand.answer(&window[0], 3);
    window[1..].iter().zip(5_000..).for_each(|(request, offset)| at(&mut hand, request, offset));
    hand.wait_ms(2_000);
    let again = hand.one();
    at(&mut hand, &again, 4_999);
    assert_eq!((hand.delivered(), counted(&hand)), (vec![0, 2, 3, 4, 5, 1], (0, 0, 0)));
}

/// A batch that an earlier attempt may have appended is settled by a younger batch's answer, whatever a later attempt's answer (P4).
#[test]
fn an_answer_settles_what_an_earlier_attempt_may_have_appended() {
    let mut hand = Hand::proven(settings());
    for request in hand.five() {
        hand.producer.on_failed(request.id, true, hand.now);
    }
    hand.wait_ms(2_000);
    let window = hand.poll();
    hand.answer(&window[0], 19);
    at(&mut hand, &window[1], 5_000);
    assert_eq!(hand.delivered(), [0, 1, 2]);
}

/// The same, but metadata reports the new topic before the answer arrives.
#[test]
fn an_answer_to_a_request_of_the_topic_before_settles_its_own_batch_only() {
    let mut hand = Hand::proven(settings());
    let made = |id: u128| TopicMetadata { id, ..topic("t", &[0]) };
    hand.producer.on_metadata(&[made(1)], hand.now);
    let window: Vec<_> = hand.five();
    assert!(window.iter().all(|request| request.batches[0].topic_id == 1));
    hand.answer(&window[0], 3);
    hand.producer.on_metadata(&[made(2)], hand.now);
    at(&mut hand, &window[1], 0);
    assert_eq!(hand.delivered(), [0, 2]);
    window[2..].iter().for_each(|request| hand.answer(request, 100));
    hand.wait_ms(2_000);
    // The batch was there after all: the new log has taken both.
    let again = hand.one();
    assert_eq!((values(&again), again.batches[0].topic_id), (vec!["row 1".to_owned()], 2));
    assert_eq!(identity(&again), identity(&window[0]));
    at(&mut hand, &again, 1);
    assert_eq!(hand.delivered(), [0, 2, 1]);
    for (row, request) in (3..).zip(&window[2..]) {
        let again = hand.one();
        assert_eq!(identity(&again), identity(request));
        at(&mut hand, &again, row);
    }
    assert_eq!((hand.delivered(), hand.stats().epochs_raised), (vec![0, 2, 1, 3, 4, 5], 0));
    assert_eq!(hand.stats().acknowledged_lost, 0, "the deleted topic was the operator's to delete");
}

/// The leader's last batch of the producer is a younger one, which proves nothing about the older ones (decision 0087).
#[test]
fn where_a_younger_batch_was_taken_first_the_log_is_read() {
    let mut hand = Hand::proven(settings());
    let made = |id: u128| TopicMetadata { id, ..topic("t", &[0]) };
    hand.producer.on_metadata(&[made(1)], hand.now);
    let window = hand.five();
    hand.answer(&window[0], 10);
    hand.answer(&window[1], 6);
    hand.producer.on_metadata(&[made(2)], hand.now);
    window[2..].iter().zip(7..).for_each(|(request, offset)| at(&mut hand, request, offset));
    assert_eq!(hand.delivered(), [0, 3, 4, 5]);
    hand.wait_ms(2_000);
    let again = hand.one();
    hand.answer(&again, 10);
    assert!(hand.log_says(LogSays::There { last_sequence: 2 }).is_read);
    hand.poll();
    assert_eq!(hand.delivered(), [0, 3, 4, 5, 2], "and nothing is said of row 1");
}

#[test]
fn what_the_asking_shows_is_counted_once_and_the_next_offset_says_how_much() {
    let mut hand = Hand::proven(at_leader());
    hand.append("t", None);
    let request = hand.one();
    at(&mut hand, &request, 1001);
    hand.append("t", None);
    let request = hand.one();
    hand.answer(&request, 45);
    hand.log_says(LogSays::Lost);
    assert_eq!(counted(&hand), (1, 0, 0));
    hand.wait_ms(100);
    let anew = hand.one();
    at(&mut hand, &anew, 1000);
    assert_eq!(counted(&hand), (1, 2, 0));
    // Others have filled the log: at least one message is lost.
    hand.append("t", None);
    let request = hand.one();
    hand.answer(&request, 45);
    hand.log_says(LogSays::Lost);
    hand.wait_ms(100);
    let anew = hand.one();
    at(&mut hand, &anew, 5000);
    assert_eq!(counted(&hand), (2, 3, 0));
}

/// After a crash: cuts of rows 1, 2 and 3 are open, that of row 0 is done.
fn with_three_open() -> Hand {
    let mut hand = known(disk());
    let first = hand.poll_synced().remove(0);
    hand.answer(&first, 0);
    for _ in 0..3 {
        hand.append("t", None);
        hand.poll_synced();
    }
    hand
}

fn started_again(hand: Hand) -> Hand {
    let mut hand = hand.killed(disk(), 8);
    hand.poll();
    hand.producer.on_metadata(&[topic("t", &[0])], hand.now);
    hand
}

#[test]
fn what_only_an_earlier_start_has_seen_taken_is_not_told_as_lost() {
    let mut hand = started_again(with_three_open());
    for sequence in 1..4 {
        let again = hand.one();
        assert_eq!(identity(&again), (7, 0, sequence));
        hand.answer(&again, 45);
    }
    // Kafka may simply have forgotten a producer of long ago.
    hand.log_says(LogSays::Lost);
    hand.wait_ms(100);
    let anew = hand.poll_synced().remove(0);
    assert_eq!((identity(&anew), values(&anew)), ((7, 1, 0), vec!["row 1".to_owned()]));
    at(&mut hand, &anew, 1);
    assert_eq!(counted(&hand), (0, 0, 0));
    assert!(told(&mut hand).is_empty());
}

#[test]
fn what_was_in_memory_alone_between_two_cuts_is_not_told_as_lost() {
    let mut hand = with_three_open();
    // As if a hybrid sink had not written the cut to the log.
    let (cut, lane) = hand.log.state.cuts.iter().nth(1).map(|(cut, (of, ..))| (*cut, of.lane)).expect("a cut");
    assert_eq!(hand.log.state.cuts.remove(&cut).expect("it").0.sequence, 2);
    hand.log.state.live.remove(&(lane, 2));
    hand.log.sync();
    let mut hand = started_again(hand);
    let again = hand.one();
    at(&mut hand, &again, 1);
    let behind = hand.one();
    assert_eq!(identity(&behind), (7, 0, 3));
    hand.answer(&behind, 45);
    hand.log_says(LogSays::Lost);
    hand.wait_ms(100);
    let anew = hand.poll_synced().remove(0);
    assert_eq!((identity(&anew), values(&anew)), ((7, 1, 0), vec!["row 3".to_owned()]));
    at(&mut hand, &anew, 2);
    assert_eq!(counted(&hand), (0, 0, 0));
    assert!(told(&mut hand).is_empty());
}

#[test]
fn what_this_start_has_seen_taken_is_told_as_lost_also_of_cuts_that_it_found() {
    let mut hand = started_again(with_three_open());
    let again = hand.one();
    at(&mut hand, &again, 1);
    for request in hand.poll() {
        hand.answer(&request, 45);
    }
    hand.log_says(LogSays::Lost);
    assert_eq!(counted(&hand), (1, 0, 0));
}

/// The previous topic refused row 1 and was deleted; the next one took row 2 as its first. Then the process ended.
#[test]
fn a_start_does_not_settle_cuts_of_the_topic_before_by_younger_ones() {
    let made = |id: u128| TopicMetadata { id, ..topic("t", &[0]) };
    let mut hand = Hand::new(disk());
    hand.append("t", None);
    hand.poll();
    hand.producer.on_metadata(&[made(1)], hand.now);
    hand.producer.on_producer_id(0, 7, 0);
    for _ in 0..3 {
        let request = hand.poll_synced().remove(0);
        if identity(&request) == (7, 0, 0) {
            hand.answer(&request, 0);
        }
        hand.append("t", None);
    }
    let mut hand = hand.killed(disk(), 8);
    hand.poll();
    hand.producer.on_metadata(&[made(2)], hand.now);
    let older = hand.one();
    assert_eq!((identity(&older), values(&older)), ((7, 0, 1), vec!["row 1".to_owned()]));
    hand.answer(&older, 45);
    let younger = hand.one();
    assert_eq!((identity(&younger), values(&younger)), ((7, 0, 2), vec!["row 2".to_owned()]));
    at(&mut hand, &younger, 0);
    hand.poll();
    assert_eq!(hand.stats().delivered, 1, "row 1 is not there");
    hand.wait_ms(2_000);
    let anew = hand.poll_synced().remove(0);
    assert_eq!((identity(&anew), values(&anew)), ((7, 1, 0), vec!["row 1".to_owned()]));
    at(&mut hand, &anew, 1);
    hand.poll();
    assert_eq!((hand.stats().delivered, counted(&hand)), (2, (0, 0, 1)));
}

#[test]
fn a_new_leader_of_an_idle_partition_is_asked_where_its_log_ends() {
    let mut hand = Hand::proven(at_leader());
    for offset in [1001, 1002] {
        hand.append("t", None);
        let request = hand.one();
        at(&mut hand, &request, offset);
    }
    hand.producer.on_metadata(&[TopicMetadata { leaders: vec![None], ..topic("t", &[0]) }], hand.now);
    hand.producer.on_metadata(&[topic("t", &[0])], hand.now);
    assert!(hand.poll().is_empty() && hand.take_questions().is_empty(), "the same broker");
    hand.producer.on_metadata(&[topic("t", &[1])], hand.now);
    let question = hand.log_says(LogSays::Again);
    assert_eq!((question.node.0, question.from, question.last_sequences.len()), (1, Some(1003), 0));
    assert!(hand.poll().is_empty() && hand.take_questions().is_empty(), "not at once");
    hand.wait_ms(500);
    assert!(hand.producer.next_deadline() <= hand.now);
    hand.log_says(LogSays::Ends { at: 1001 });
    assert_eq!(counted(&hand), (1, 2, 0));
    // The batch's sequences have a gap there.
    hand.append("t", None);
    let request = hand.one();
    hand.answer(&request, 45);
    hand.log_says(LogSays::Lost);
    hand.wait_ms(100);
    let request = hand.one();
    at(&mut hand, &request, 1001);
    assert_eq!((counted(&hand), hand.stats().buffered_rows), ((1, 2, 0), 0), "once");
}

#[test]
fn an_end_is_asked_for_only_where_it_can_tell_something() {
    // The exceptions: acks=all; a long time later; after an acknowledgement since.
    let mut hand = Hand::proven(settings());
    hand.producer.on_metadata(&[topic("t", &[1])], hand.now);
    assert!(hand.poll().is_empty() && hand.take_questions().is_empty());
    let mut hand = Hand::proven(at_leader());
    hand.wait_ms(3_600_000);
    hand.producer.on_metadata(&[topic("t", &[1])], hand.now);
    assert!(hand.poll().is_empty() && hand.take_questions().is_empty());
    let mut hand = Hand::proven(at_leader());
    hand.producer.on_metadata(&[topic("t", &[1])], hand.now);
    hand.append("t", None);
    let request = hand.one();
    let questions = hand.take_questions();
    at(&mut hand, &request, 1001);
    hand.producer.on_asked(questions[0].token, LogSays::Ends { at: 1000 }, hand.now);
    assert_eq!(counted(&hand), (0, 0, 0), "its offset has told that nothing is gone");
}

/// The topic with this leader under this epoch.
fn led(hand: &mut Hand, node: i32, epoch: i32) {
    let metadata = TopicMetadata { leader_epochs: vec![epoch], ..topic("t", &[node]) };
    hand.producer.on_metadata(&[metadata], hand.now);
}

/// One row, acknowledged at this offset.
fn acknowledged(hand: &mut Hand, base_offset: i64) {
    hand.append("t", None);
    let request = hand.one();
    at(hand, &request, base_offset);
}

/// At broker 0 under epoch 5, rows at 2000, 2002, … 2018: another producer's records are between them.
fn interleaved() -> Hand {
    let mut hand = Hand::proven(at_leader());
    led(&mut hand, 0, 5);
    (0..10).for_each(|row| acknowledged(&mut hand, 2000 + 2 * row));
    hand
}

fn the_question(hand: &mut Hand) -> crate::types::Question {
    assert!(hand.poll().is_empty());
    let mut asked = hand.take_questions();
    assert_eq!(asked.len(), 1, "{asked:?}");
    asked.remove(0)
}

#[test]
fn what_a_lost_leader_took_with_it_is_counted_exactly_while_rows_flow() {
    let mut hand = interleaved();
    led(&mut hand, 1, 6);
    let asked = the_question(&mut hand);
    assert_eq!((asked.node.0, asked.leader_epoch, asked.last_sequences.len()), (1, 6, 0));
    // Others have filled the log after 2020 before this producer: the offsets show nothing.
    acknowledged(&mut hand, 2500);
    acknowledged(&mut hand, 2501);
    assert_eq!(counted(&hand), (0, 0, 0));
    hand.producer.on_asked(asked.token, LogSays::Ends { at: 2005 }, hand.now);
    assert_eq!(counted(&hand), (1, 7, 0), "2006 to 2018");
    let lost = News::Lost { sink: SINK, topic: "t".into(), partition: 0, records: 7 };
    assert_eq!(told(&mut hand), [lost]);
    acknowledged(&mut hand, 2502);
    // The next leader lacks the records that both had acknowledged.
    led(&mut hand, 2, 7);
    let asked = the_question(&mut hand);
    hand.producer.on_asked(asked.token, LogSays::Ends { at: 2004 }, hand.now);
    assert_eq!(counted(&hand), (2, 7 + 4, 0), "2004, 2500, 2501 and 2502");
}

#[test]
fn what_other_signs_have_counted_is_not_counted_again() {
    // An offset shows the loss first, then the epoch.
    let mut hand = interleaved();
    led(&mut hand, 1, 6);
    let asked = the_question(&mut hand);
    acknowledged(&mut hand, 2009);
    assert_eq!(counted(&hand), (1, 5, 0), "2010 to 2018");
    hand.producer.on_asked(asked.token, LogSays::Ends { at: 2005 }, hand.now);
    assert_eq!(counted(&hand), (1, 7, 0));
    // The sequence shows the loss first, then the epoch; and the other way round.
    for epoch_first in [false, true] {
        let mut hand = interleaved();
        led(&mut hand, 1, 6);
        let asked = the_question(&mut hand);
        if epoch_first {
            hand.producer.on_asked(asked.token, LogSays::Ends { at: 2005 }, hand.now);
        }
        hand.append("t", None);
        let request = hand.one();
        hand.answer(&request, 45);
        hand.log_says(LogSays::Lost);
        hand.wait_ms(100);
        let anew = hand.one();
        at(&mut hand, &anew, 5000);
        assert_eq!(counted(&hand), (1, if epoch_first { 7 } else { 1 }, 0));
        hand.producer.on_asked(asked.token, LogSays::Ends { at: 2005 }, hand.now);
        assert_eq!(counted(&hand), (1, 7, 0), "{epoch_first}");
    }
}

#[test]
fn what_a_deposed_leader_acknowledges_late_is_asked_for_again() {
    let mut hand = interleaved();
    hand.append("t", None);
    let late = hand.one();
    led(&mut hand, 1, 6);
    let asked = the_question(&mut hand);
    at(&mut hand, &late, 2020);
    assert!(hand.poll().is_empty() && hand.take_questions().is_empty(), "one question at a time");
    hand.producer.on_asked(asked.token, LogSays::Ends { at: 2019 }, hand.now);
    assert_eq!(counted(&hand), (0, 0, 0), "the leader may have been one again by then");
    let asked = the_question(&mut hand);
    hand.producer.on_asked(asked.token, LogSays::Ends { at: 2019 }, hand.now);
    assert_eq!(counted(&hand), (1, 1, 0));
}

#[test]
fn in_doubt_an_acknowledgement_is_not_counted() {
    // The same broker under a newer epoch, which metadata reported later than the broker wrote.
    let mut hand = interleaved();
    led(&mut hand, 0, 6);
    assert!(hand.poll().is_empty() && hand.take_questions().is_empty());
    // Records that the new leader has acknowledged itself are there, at any offset.
    led(&mut hand, 1, 7);
    let asked = the_question(&mut hand);
    acknowledged(&mut hand, 2021);
    hand.producer.on_asked(asked.token, LogSays::Ends { at: 2019 }, hand.now);
    assert_eq!(counted(&hand), (0, 0, 0));
    // Nothing is counted for the previous topic.
    led(&mut hand, 2, 8);
    let asked = the_question(&mut hand);
    let made = |id: u128| TopicMetadata { id, ..topic("t", &[2]) };
    hand.producer.on_metadata(&[made(1)], hand.now);
    hand.producer.on_metadata(&[made(2)], hand.now);
    hand.producer.on_asked(asked.token, LogSays::Ends { at: 0 }, hand.now);
    assert_eq!(counted(&hand), (0, 0, 0));
    // At acks=all no leader is asked.
    let mut hand = Hand::proven(settings());
    led(&mut hand, 0, 5);
    acknowledged(&mut hand, 1001);
    led(&mut hand, 1, 6);
    assert!(hand.poll().is_empty() && hand.take_questions().is_empty());
}

#[test]
fn runs_are_bounded_and_the_oldest_is_forgotten_first() {
    let mut hand = interleaved();
    (0..600).for_each(|row| acknowledged(&mut hand, 3000 + 2 * row));
    led(&mut hand, 1, 6);
    let asked = the_question(&mut hand);
    hand.producer.on_asked(asked.token, LogSays::Ends { at: 2000 }, hand.now);
    assert_eq!(counted(&hand), (1, 512, 0), "a lower bound");
}
