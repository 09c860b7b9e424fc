//! After a crash: rows of the log are sent unchanged or cut again, and none is lost or twice.

use super::recreated::metadata;
use crate::producer::row_log::Fate;
use crate::producer::testing::hand::{Hand, identity, topic, values};
use crate::producer::testing::hand::{disk, known};
use crate::types::{LogSays, Outcome, ProduceBatch, ProduceRequest, ProduceResult, Ticket};
use forebay_record::murmur2;

fn all_values(requests: &[ProduceRequest]) -> Vec<String> {
    requests.iter().flat_map(values).collect()
}

/// The requests of this many polls, each of them answered with success.
fn answered(hand: &mut Hand, polls: u32) -> Vec<ProduceRequest> {
    let mut requests = Vec::new();
    for _ in 0..polls {
        for request in hand.poll_synced() {
            hand.answer(&request, 0);
            requests.push(request);
        }
    }
    requests
}

#[test]
fn a_cut_is_sent_again_as_it_was_and_the_rest_under_the_new_id() {
    let mut hand = known(disk());
    let sent = hand.poll_synced().remove(0);
    hand.append("t", None);
    assert!(hand.poll().is_empty(), "the first goes alone");
    hand.log.sync();
    let mut hand = hand.killed(disk(), 8);
    assert_eq!((hand.stats().recovered, hand.stats().buffered_rows), (2, 2));
    hand.poll();
    hand.producer.on_metadata(&[topic("t", &[0])], hand.now);
    let again = hand.one();
    assert_eq!((identity(&again), values(&again)), (identity(&sent), values(&sent)));
    hand.append("t", None);
    assert!(hand.poll_synced().is_empty(), "P3");
    hand.answer(&again, 0);
    let rest = hand.poll_synced();
    assert_eq!(all_values(&rest), ["row 1", "row 2"][..all_values(&rest).len()]);
    assert_eq!(identity(&rest[0]), (8, 0, 0));
    rest.iter().for_each(|request| hand.answer(request, 0));
    for request in hand.poll_synced() {
        assert_eq!(values(&request), ["row 2"]);
        hand.answer(&request, 0);
    }
    hand.poll();
    assert!(hand.log.state.live.is_empty() && hand.log.state.cuts.is_empty());
    assert_eq!((hand.stats().delivered, hand.stats().buffered_rows), (3, 0));
}

#[test]
fn a_cut_older_than_an_hour_is_asked_for_first() {
    let mut hand = known(disk());
    hand.poll_synced();
    let mut hand = hand.killed(disk(), 8);
    hand.wait_ms(2 * crate::producer::testing::hand::HOUR_MS);
    hand.poll();
    hand.producer.on_metadata(&[topic("t", &[0])], hand.now);
    hand.poll();
    let asked = hand.take_questions();
    assert_eq!((asked.len(), asked[0].producer_id), (1, 7));
    hand.producer.on_asked(asked[0].token, LogSays::There { last_sequence: 0 }, hand.now);
    assert!(hand.poll().is_empty());
    assert!(hand.log.state.live.is_empty(), "it was there");
}

/// The earlier process may have had another `keep` for the sink: the leader's last batch may have been in memory alone.
#[test]
fn whether_a_cut_is_there_is_read_from_the_log() {
    let mut hand = known(disk());
    hand.poll_synced();
    let mut hand = hand.killed(disk(), 8);
    hand.poll();
    hand.producer.on_metadata(&[topic("t", &[0])], hand.now);
    let again = hand.one();
    hand.answer(&again, 45);
    assert!(hand.log_says(LogSays::There { last_sequence: 0 }).is_read);
    assert!(hand.poll().is_empty() && hand.log.state.live.is_empty(), "it was there");
    assert_eq!(hand.stats().outcome_unknown, 0);
}

#[test]
fn a_cut_that_cannot_be_read_is_void_and_its_other_rows_are_sent_and_counted() {
    let mut hand = known(disk());
    hand.append("t", None);
    hand.append("t", None);
    let sent = hand.poll_synced();
    assert_eq!(all_values(&sent).len(), 3);
    let lane = hand.log.state.cuts.values().next().expect("a cut").0.lane;
    hand.log.rotten.push((lane, 1));
    let mut hand = hand.killed(disk(), 8);
    hand.poll();
    hand.producer.on_metadata(&[topic("t", &[0])], hand.now);
    let requests = answered(&mut hand, 6);
    assert_eq!(all_values(&requests), ["row 0", "row 2"]);
    assert_eq!(identity(&requests[0]), (8, 0, 0));
    let stats = hand.stats();
    assert_eq!((stats.outcome_unknown, stats.rotten, stats.delivered, stats.buffered_rows), (3, 1, 2, 0));
    assert_eq!(hand.log.state.ended.get(&(lane, 1)), Some(&Fate::Rotten));
    assert!(hand.log.state.live.is_empty());
}

/// Where damage took the entry that forgot a lane, the log has two lanes of one partition.
#[test]
fn rows_of_two_lanes_of_one_partition_are_all_sent() {
    let mut hand = known(disk());
    hand.poll_synced();
    hand.append("t", None);
    assert!(hand.poll_synced().is_empty(), "the first goes alone");
    // The log does not find the lane by its name, and has the next rows in another one.
    let lane = hand.log.state.lanes.iter().position(|(.., partition)| *partition == 0).expect("a lane");
    hand.log.state.lanes[lane].1 = "forgotten".into();
    hand.append("t", None);
    hand.append("t", None);
    hand.poll_synced();
    hand.log.state.lanes[lane].1 = "t".into();
    hand.log.sync();
    let of_partition = hand.log.state.lanes.iter().filter(|(.., partition)| *partition == 0);
    assert_eq!((of_partition.count(), hand.log.state.live.len()), (2, 4));
    let mut hand = hand.killed(disk(), 8);
    assert_eq!((hand.stats().recovered, hand.stats().buffered_rows), (4, 4));
    hand.poll();
    hand.producer.on_metadata(&[topic("t", &[0])], hand.now);
    let requests = answered(&mut hand, 10);
    assert_eq!(all_values(&requests), (0..4).map(|number| format!("row {number}")).collect::<Vec<_>>());
    assert!(hand.log.state.live.is_empty() && hand.log.state.cuts.is_empty());
    assert_eq!((hand.stats().delivered, hand.stats().buffered_rows), (4, 0));
    hand.append("t", None);
    let more = hand.poll_synced();
    assert_eq!(all_values(&more), ["row 4"]);
}

#[test]
fn rows_without_a_partition_come_back_and_are_placed() {
    let mut hand = Hand::new(disk());
    (0..20).for_each(|_| hand.append("t", Some("key")));
    hand.poll_synced();
    assert_eq!(hand.delivered().len(), 20);
    let mut hand = hand.killed(disk(), 8);
    hand.log.later = 3;
    hand.poll();
    hand.producer.on_metadata(&[topic("t", &[0, 0, 0])], hand.now);
    let requests = answered(&mut hand, 40);
    let expected: Vec<String> = (0..20).map(|number| format!("row {number}")).collect();
    assert_eq!(all_values(&requests), expected);
    assert!(hand.log.state.live.is_empty());
}

#[test]
fn the_log_may_end_with_a_cut_that_is_still_to_be_loaded() {
    let mut hand = known(disk());
    let first = hand.poll_synced().remove(0);
    hand.answer(&first, 0);
    for _ in 0..3 {
        hand.append("t", None);
        hand.poll_synced();
    }
    let mut hand = hand.killed(disk(), 8);
    hand.log.reads = Some(1);
    hand.poll();
    hand.producer.on_metadata(&[topic("t", &[0])], hand.now);
    let again = hand.one();
    assert_eq!((identity(&again), values(&again)), ((7, 0, 1), vec!["row 1".to_owned()]));
    // Kafka has all three, and remembers the last alone.
    hand.answer(&again, 45);
    hand.poll();
    let asked = hand.take_questions();
    assert_eq!((asked[0].first_sequence, &*asked[0].last_sequences), (1, &[1, 2, 3][..]));
    hand.producer.on_asked(asked[0].token, LogSays::There { last_sequence: 3 }, hand.now);
    hand.log.reads = None;
    let second = hand.one();
    assert_eq!((identity(&second), values(&second)), ((7, 0, 2), vec!["row 2".to_owned()]), "as it was");
    assert_eq!((hand.stats().acknowledged_lost, hand.stats().delivered), (0, 1));
}

#[test]
fn rows_in_lanes_of_partitions_that_went_before_the_crash_are_placed_anew() {
    let mut hand = Hand::new(disk());
    hand.append("t", None);
    hand.poll();
    hand.producer.on_metadata(&[metadata(5, 3)], hand.now);
    hand.poll();
    (0..12).for_each(|number| hand.append("t", Some(&format!("key {number}"))));
    hand.poll_synced();
    assert_eq!(hand.log.state.lanes.iter().filter(|(.., partition)| *partition > 0).count(), 2);
    // The topic is recreated with one partition: a first batch is cut for it, and sent alone.
    hand.producer.on_metadata(&[metadata(6, 1)], hand.now);
    hand.producer.on_producer_id(0, 7, 0);
    hand.poll_synced();
    assert!(hand.log.state.cuts.values().all(|(cut, ..)| (cut.topic_id, cut.partition) == (6, 0)));
    let mut hand = hand.killed(disk(), 8);
    hand.poll();
    hand.producer.on_metadata(&[metadata(6, 1)], hand.now);
    let requests = answered(&mut hand, 40);
    let mut sent = all_values(&requests);
    sent.sort_by_key(|value| value[4..].parse::<u32>().expect("a number"));
    assert_eq!(sent, (0..13).map(|number| format!("row {number}")).collect::<Vec<_>>());
    assert!(requests.iter().all(|request| request.batches[0].partition == 0));
    assert!(hand.log.state.live.is_empty());
}

#[test]
fn a_cut_in_a_partition_that_the_topic_does_not_have_yet_waits_for_it() {
    let mut hand = Hand::new(disk());
    hand.append("t", None);
    hand.poll();
    hand.producer.on_metadata(&[metadata(5, 3)], hand.now);
    hand.producer.on_producer_id(0, 7, 0);
    (0..12).for_each(|number| hand.append("t", Some(&format!("key {number}"))));
    let sent = hand.poll_synced();
    let last = |request: &ProduceRequest| request.batches.iter().any(|batch| batch.partition == 2);
    assert!(sent.iter().any(last));
    let mut hand = hand.killed(disk(), 8);
    hand.poll();
    hand.producer.on_metadata(&[metadata(5, 1)], hand.now);
    assert!(hand.poll_synced().is_empty(), "an older answer");
    hand.producer.on_metadata(&[metadata(5, 3)], hand.now);
    let again = hand.poll_synced();
    assert!(again.iter().any(last));
    assert_eq!((identity(&again[0]), values(&again[0])), (identity(&sent[0]), values(&sent[0])));
}

#[test]
fn a_cut_that_went_without_times_is_asked_for_and_goes_without_them_again() {
    let mut hand = known(disk());
    let first = hand.poll_synced().remove(0);
    hand.answer(&first, 32);
    let timeless = hand.poll_synced().remove(0);
    assert_eq!(identity(&timeless), (7, 1, 0));
    let mut hand = hand.killed(disk(), 8);
    hand.poll();
    hand.producer.on_metadata(&[topic("t", &[0])], hand.now);
    // Kafka remembers by the timestamps of records.
    assert!(hand.poll().is_empty());
    let asked = hand.take_questions();
    assert_eq!((asked.len(), asked[0].producer_id, asked[0].epoch), (1, 7, 1));
    hand.producer.on_asked(asked[0].token, LogSays::Next { known: false }, hand.now);
    let again = hand.one();
    assert_eq!(again.batches[0].bytes, timeless.batches[0].bytes);
}

/// A message of QoS 2 of an earlier process; its client waits for the acknowledgement.
#[test]
fn whoever_waits_for_a_restored_row_that_is_lost_is_told() {
    use crate::producer::row_log::{Ended, RowLog, RowRun};
    for dropped in [false, true] {
        let mut hand = Hand::new(disk());
        (0..3).for_each(|_| hand.append("t", None));
        hand.poll_synced();
        let mut hand = hand.killed(disk(), 8);
        hand.done.clear();
        let ticket = Ticket { session: 4, number: 11 };
        hand.log.tickets.insert((0, 0), ticket);
        if dropped {
            let run = RowRun { first: 0, count: 1 };
            hand.log.ended(&Ended { cut: None, lane: 0, rows: &[run], fate: Fate::Expired }).expect("taken");
            let rows = [(0, run)].into_iter().collect();
            hand.producer.dropped(&rows, &mut |_, of| if of == run { vec![ticket] } else { Vec::new() });
        } else {
            hand.log.rotten.push((0, 0));
        }
        hand.poll();
        hand.producer.on_metadata(&[topic("t", &[0])], hand.now);
        for _ in 0..6 {
            for request in hand.poll_synced() {
                hand.answer(&request, 0);
            }
        }
        let told: Vec<Outcome> = hand.done.iter().filter(|(run, _)| run.session == 4).map(|(_, how)| *how).collect();
        assert_eq!(told, [if dropped { Outcome::Delivered } else { Outcome::Refused(56) }]);
        assert_eq!((hand.stats().delivered, hand.stats().buffered_rows), (2, 0));
    }
}

/// Memory is small, and three cuts of each of three partitions were sent before the crash. Returns a process that knows
/// their leaders: the first loaded partition has room, the second one exceeds it.
fn three_of_each(leaders: [i32; 3]) -> Hand {
    let mut settings = disk();
    settings.sinks[0].spill_after = 1;
    let mut hand = Hand::new(settings.clone());
    let key_of = |partition| {
        let is_of = |key: &String| murmur2::partition(key.as_bytes(), 3) == partition;
        ('a'..='z').map(String::from).find(is_of).expect("one of them")
    };
    let keys = [key_of(0), key_of(1), key_of(2)];
    keys.iter().for_each(|key| hand.append("t", Some(key)));
    hand.poll();
    hand.producer.on_metadata(&[topic("t", &leaders)], hand.now);
    hand.producer.on_producer_id(0, 7, 0);
    for _ in 0..6 {
        hand.poll_synced().into_iter().for_each(|request| hand.answer_and_drop(request, 0));
    }
    for key in keys.iter().cycle().take(9) {
        hand.append_value("t", Some(key), key.repeat(3_900).as_bytes());
    }
    (0..20).for_each(|_| drop(hand.poll_synced()));
    assert_eq!(hand.log.state.cuts.len(), 9);
    let mut hand = hand.killed(settings, 8);
    hand.poll();
    hand.producer.on_metadata(&[topic("t", &leaders)], hand.now);
    hand
}

/// Polls, and answers partition `well`. Returns whether it has been sent anything. The others always get NOT_ENOUGH_REPLICAS.
fn goes_on(hand: &mut Hand, well: i32) -> bool {
    let mut any = false;
    for request in hand.poll_synced() {
        let result = |batch: &ProduceBatch| ProduceResult {
            topic: batch.topic.clone(),
            partition: batch.partition,
            error: if batch.partition == well { 0 } else { 19 },
            base_offset: -1,
        };
        any |= request.batches.iter().any(|batch| batch.partition == well);
        let results: Vec<_> = request.batches.iter().map(result).collect();
        hand.produced(request.id, &results);
    }
    hand.wait_ms(1_500);
    any
}

#[test]
fn cuts_whose_leader_takes_nothing_hold_up_no_other_leaders() {
    for well in 0..3 {
        let mut leaders = [0; 3];
        leaders[well] = 1;
        let (mut hand, well) = (three_of_each(leaders), well as i32);
        assert!((0..4).any(|_| goes_on(&mut hand, well)), "partition {well} is at another broker");
    }
}

#[test]
fn cuts_that_their_leader_does_not_take_hold_up_its_other_partitions_no_longer_than_a_request() {
    for well in 0..3 {
        let mut hand = three_of_each([0; 3]);
        let rounds = (0..60).position(|_| goes_on(&mut hand, well));
        assert!(rounds.is_some_and(|rounds| rounds <= 21), "partition {well}: {rounds:?} rounds of 1.5 s");
    }
}
