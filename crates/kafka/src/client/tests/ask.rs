//! Tests of questions to a log, against a scripted cluster: the answer for each state of log and leader, and failures on the way.

use super::world::{World, name, request, world};
use crate::fake::{Fault, Mode, Seen};
use crate::types::{ClientEvent, LogSays, NodeId, Question, WhyNot};
use forebay_record::{Builder, Row, Stamp, stamp};
use forebay_runtime::seam::WallMs;
use kafka_protocol::messages::ApiKey;
use std::time::Duration;

/// A question about producer 7, epoch 2: sequences 10 to 12 and 13 to 15 undone, offset 100 known.
pub(super) fn question(from: Option<i64>) -> Question {
    let (topic, last_sequences) = (name("a"), vec![12, 15]);
    let (token, node, partition, producer_id, epoch) = (1, NodeId(1), 0, 7, 2);
    Question {
        token,
        node,
        topic,
        topic_id: 0,
        partition,
        producer_id,
        epoch,
        first_sequence: 10,
        last_sequences,
        from,
        replicated: true,
        is_read: false,
        leader_epoch: -1,
    }
}

fn says(world: &mut World, question: Question) -> LogSays {
    world.client.ask(question, world.now);
    world.settle();
    let asked = |event: ClientEvent| match event {
        ClientEvent::Asked { token: 1, says } => Some(says),
        _ => None,
    };
    let says: Vec<LogSays> = world.take_events().into_iter().filter_map(asked).collect();
    assert_eq!(says.len(), 1, "one answer to one question");
    says[0]
}

/// A batch of three records at an offset.
fn batch(base: i64, producer_id: i64, epoch: i16, sequence: i32) -> (i64, Vec<u8>) {
    let mut builder = Builder::new(Vec::new());
    for _ in 0..3 {
        let row = Row { key: None, value: Some(b"value"), headers: std::iter::empty(), timestamp: WallMs(1) };
        builder.append(&row, row.measure());
    }
    let mut bytes = builder.close(None);
    stamp(&mut bytes, Stamp { producer_id, epoch, sequence });
    bytes[..8].copy_from_slice(&base.to_be_bytes());
    (base, bytes)
}

/// Others' batches from 100 on; then the producer's, the first two of three.
fn with_log() -> World {
    let mut world = world().up();
    let log = &mut world.cluster.log;
    log.batches = vec![batch(100, 8, 2, 10), batch(103, 7, 1, 10), batch(106, 7, 2, 10), batch(109, 9, 0, 0)];
    (log.start, log.high_watermark) = (90, 112);
    world
}

#[test]
fn what_the_leader_knows_of_the_id_comes_first() {
    let mut world = with_log();
    for (epoch, last, expected) in [
        (2, 9, LogSays::Next { known: true }),
        (2, 6, LogSays::Lost),
        (1, 12, LogSays::Lost),
        (2, 15, LogSays::There { last_sequence: 15 }),
    ] {
        world.cluster.log.producers = vec![(8, 2, 10), (7, epoch, last)];
        let question = Question { replicated: false, ..question(Some(100)) };
        assert_eq!(says(&mut world, question), expected, "{epoch} {last}");
    }
    assert!(!world.cluster.broker(1).seen.iter().any(|seen| matches!(seen, Seen::Fetch(..))), "no more was needed");
    // No batch precedes the first of an epoch.
    world.cluster.log.producers = vec![(7, 1, 12)];
    let first = Question { first_sequence: 0, last_sequences: vec![2], ..question(Some(100)) };
    assert_eq!(says(&mut world, first), LogSays::Next { known: true });
}

/// The leader has learned of the producer again from a late request (decision 0087): its log knows better.
#[test]
fn what_a_leader_knows_that_may_have_forgotten_the_id_is_looked_up_in_its_log() {
    let mut world = with_log();
    let read = |from| Question { is_read: true, ..question(Some(from)) };
    for (last, known) in [(9, LogSays::Next { known: true }), (6, LogSays::Lost)] {
        world.cluster.log.producers = vec![(7, 2, last)];
        assert_eq!(says(&mut world, read(100)), LogSays::There { last_sequence: 12 }, "{last}");
        assert_eq!(says(&mut world, read(109)), known, "it is not in the log");
        assert_eq!(says(&mut world, read(200)), LogSays::There { last_sequence: 12 }, "in a log that ends before");
        assert_eq!(says(&mut world, read(80)), LogSays::There { last_sequence: 12 }, "in what is left of it");
        let other = Question { last_sequences: vec![77], ..read(80) };
        assert_eq!(says(&mut world, other), known, "where the log does not tell it stays the leader's word");
    }
}

#[test]
fn what_is_there_must_be_replicated_too() {
    let mut world = with_log();
    world.cluster.log.producers = vec![(7, 2, 12)];
    assert_eq!(says(&mut world, question(Some(100))), LogSays::There { last_sequence: 12 });
    world.cluster.log.producers = vec![(7, 2, 15)];
    world.cluster.log.batches.truncate(2);
    world.cluster.log.high_watermark = 106;
    assert_eq!(says(&mut world, question(Some(100))), LogSays::Again, "at the leader alone");
}

#[test]
fn a_forgotten_id_is_looked_for_in_the_log() {
    let mut world = with_log();
    assert_eq!(says(&mut world, question(Some(100))), LogSays::There { last_sequence: 12 });
    assert_eq!(says(&mut world, question(Some(109))), LogSays::Next { known: false }, "not behind there");
    assert_eq!(says(&mut world, question(None)), LogSays::There { last_sequence: 12 }, "from where it begins");
    let other = Question { last_sequences: vec![77], ..question(None) };
    assert_eq!(says(&mut world, other), LogSays::CannotTell(WhyNot::Retained), "it begins at 90");
    let other = Question { last_sequences: vec![77], ..question(Some(80)) };
    assert_eq!(says(&mut world, other), LogSays::CannotTell(WhyNot::Retained), "after what is asked for");
    assert_eq!(says(&mut world, question(Some(80))), LogSays::There { last_sequence: 12 }, "in what is left");
    world.cluster.log.producers = vec![(7, 5, 0)];
    assert_eq!(says(&mut world, question(Some(109))), LogSays::Fenced { epoch: 5 });
}

#[test]
fn a_log_that_ends_before_what_is_known_is_read_from_its_beginning() {
    let mut world = with_log();
    assert_eq!(says(&mut world, question(Some(5000))), LogSays::There { last_sequence: 12 });
    let other = Question { producer_id: 77, ..question(Some(5000)) };
    world.cluster.log.batches[0].0 = 90;
    world.cluster.log.batches[0].1[..8].copy_from_slice(&90i64.to_be_bytes());
    world.cluster.log.batches[0].1[23..27].copy_from_slice(&12i32.to_be_bytes());
    assert_eq!(says(&mut world, other), LogSays::Lost);
    // The log has no gap; but it begins after the requested offset.
    let other = Question { producer_id: 77, ..question(Some(80)) };
    assert_eq!(says(&mut world, other), LogSays::CannotTell(WhyNot::Retained));
}

#[test]
fn where_compaction_has_been_nothing_is_known_to_be_missing() {
    let mut world = with_log();
    world.cluster.log.batches.remove(2);
    assert_eq!(says(&mut world, question(Some(100))), LogSays::CannotTell(WhyNot::Retained));
}

#[test]
fn errors_are_told_apart() {
    for (key, code, expected) in [
        (ApiKey::DescribeProducers, 29, LogSays::CannotTell(WhyNot::Forbidden)),
        (ApiKey::Fetch, 29, LogSays::CannotTell(WhyNot::Forbidden)),
        (ApiKey::DescribeProducers, 6, LogSays::Again),
        (ApiKey::DescribeProducers, 3, LogSays::Again),
        (ApiKey::Fetch, 6, LogSays::Again),
        (ApiKey::DescribeProducers, 42, LogSays::CannotTell(WhyNot::Refused)),
    ] {
        let mut world = with_log();
        world.cluster.broker(1).faults.push((key, Fault::Error(code)));
        assert_eq!(says(&mut world, question(Some(100))), expected, "{key:?} {code}");
    }
}

#[test]
fn every_version_that_a_broker_may_speak() {
    for version in 4..=13 {
        let mut world = with_log();
        let speaks = &mut world.cluster.broker(1).speaks;
        speaks.insert(1, (4, version));
        speaks.insert(2, (1, (version - 3).min(6)));
        assert_eq!(says(&mut world, question(None)), LogSays::There { last_sequence: 12 }, "{version}");
    }
    // Without DescribeProducers only batches that are found are known; without Fetch only the leader's knowledge.
    let mut world = with_log();
    world.cluster.broker(1).speaks.remove(&61);
    assert_eq!(says(&mut world, question(Some(100))), LogSays::There { last_sequence: 12 });
    assert_eq!(says(&mut world, question(Some(109))), LogSays::CannotTell(WhyNot::NotSpoken));
    let mut world = with_log();
    world.cluster.broker(1).speaks.remove(&1);
    assert_eq!(says(&mut world, question(Some(100))), LogSays::CannotTell(WhyNot::NotSpoken));
    world.cluster.log.producers = vec![(7, 2, 9)];
    assert_eq!(says(&mut world, question(Some(100))), LogSays::Next { known: true });
}

#[test]
fn what_cannot_be_read_is_not_asked_for_ever() {
    let mut world = with_log();
    world.cluster.broker(1).faults.push((ApiKey::DescribeProducers, Fault::Bytes(vec![0, 0, 0, 5, 0, 0, 0, 1, 0])));
    assert_eq!(says(&mut world, question(Some(100))), LogSays::CannotTell(WhyNot::Refused));
    world.run(Duration::from_secs(5));
    assert_eq!(says(&mut world, question(Some(100))), LogSays::There { last_sequence: 12 }, "another connection");
}

#[test]
fn a_frozen_leader_holds_up_nobody_else() {
    let mut world = with_log();
    world.cluster.broker(2).mode = Mode::Frozen;
    world.client.ask(Question { node: NodeId(2), ..question(Some(100)) }, world.now);
    world.settle();
    world.client.want_producer_id(3, world.now);
    world.produce(request(9, 1, &[("a", 0)]));
    let events = world.take_events();
    assert!(events.iter().any(|event| matches!(event, ClientEvent::ProducerId { token: 3, .. })), "{events:?}");
    assert!(events.iter().any(|event| matches!(event, ClientEvent::Produced { id: 9, .. })), "{events:?}");
    world.run(Duration::from_secs(30));
    let asked = |event: &ClientEvent| matches!(event, ClientEvent::Asked { token: 1, says: LogSays::Again });
    assert_eq!(world.take_events().iter().filter(|event| asked(event)).count(), 1, "and gets its answer in time");
}

#[test]
fn a_question_behind_a_cut_connection_or_to_nobody_is_answered() {
    let mut world = with_log();
    world.cluster.broker(1).faults.push((ApiKey::Fetch, Fault::Close(false)));
    assert_eq!(says(&mut world, question(Some(100))), LogSays::Again);
    assert_eq!(says(&mut world, Question { node: NodeId(77), ..question(None) }), LogSays::Again);
}

#[test]
fn where_the_log_ends_is_one_step() {
    let mut world = with_log();
    let end = Question { last_sequences: Vec::new(), ..question(Some(500)) };
    assert_eq!(says(&mut world, end.clone()), LogSays::Ends { at: 112 });
    let seen = world.cluster.broker(1).seen.clone();
    assert!(matches!(seen[..], [.., Seen::ApiVersions(_), Seen::Metadata(..), Seen::ListOffsets(_)]), "{seen:?}");
    // OFFSET_NOT_AVAILABLE: a new leader that does not know yet how much is replicated (KIP-207).
    world.cluster.broker(1).faults.push((ApiKey::ListOffsets, Fault::Error(78)));
    assert_eq!(says(&mut world, end), LogSays::Again);
}

#[test]
fn a_log_is_read_by_the_topics_id_where_that_is_known() {
    let mut world = with_log();
    let id = world.cluster.id_of("a");
    let by_id = || Question { topic_id: id, ..question(Some(100)) };
    assert_eq!(says(&mut world, by_id()), LogSays::There { last_sequence: 12 });
    assert_eq!(says(&mut world, question(Some(100))), LogSays::There { last_sequence: 12 }, "by name as well");
    let fetched = |world: &mut World| {
        let seen = world.cluster.broker(1).seen.clone();
        let version = |seen: &Seen| if let Seen::Fetch(version, _) = seen { Some(*version) } else { None };
        seen.iter().filter_map(version).collect::<std::collections::BTreeSet<_>>()
    };
    assert_eq!(fetched(&mut world), [12, 13].into());
    // The topic is recreated, and has already grown past the known offset: its records are another topic's.
    world.cluster.life = 1;
    assert_eq!(says(&mut world, by_id()), LogSays::Again, "fresh metadata will tell the new id");
}

#[test]
fn a_batch_in_another_log_says_nothing_of_those_before_it() {
    let mut world = with_log();
    world.cluster.log.batches = vec![batch(90, 7, 2, 13)];
    (world.cluster.log.start, world.cluster.log.high_watermark) = (90, 93);
    assert_eq!(
        says(&mut world, question(Some(100))),
        LogSays::CannotTell(WhyNot::OtherLog),
        "13 to 15 without 10 to 12"
    );
    world.cluster.log.batches = vec![batch(90, 7, 2, 10)];
    assert_eq!(says(&mut world, question(Some(100))), LogSays::There { last_sequence: 12 }, "the oldest is for itself");
}

#[test]
fn where_a_leaders_epoch_begins_is_one_step_in_every_version() {
    let end = || Question { last_sequences: Vec::new(), leader_epoch: 7, ..question(Some(500)) };
    for version in 2..=4 {
        let mut world = with_log();
        world.cluster.log.epochs = [(3, 90), (5, 95), (7, 104)].into();
        world.cluster.broker(1).speaks.insert(23, (0, version));
        assert_eq!(says(&mut world, end()), LogSays::Ends { at: 104 }, "not 112, where the log ends");
        let seen = world.cluster.broker(1).seen.clone();
        assert_eq!(seen.last(), Some(&Seen::OffsetForLeaderEpoch(version, 7, 6)));
    }
    // FENCED_LEADER_EPOCH, UNKNOWN_LEADER_EPOCH, NOT_LEADER: asked again after fresh metadata.
    for code in [74, 75, 6] {
        let mut world = with_log();
        world.cluster.broker(1).faults.push((ApiKey::OffsetForLeaderEpoch, Fault::Error(code)));
        assert_eq!(says(&mut world, end()), LogSays::Again, "{code}");
    }
}

#[test]
fn a_broker_that_cannot_say_where_an_epoch_begins_is_asked_where_the_log_ends() {
    let end = |leader_epoch| Question { last_sequences: Vec::new(), leader_epoch, ..question(Some(500)) };
    let mut none = with_log();
    none.cluster.broker(1).speaks.remove(&23);
    let mut old = with_log();
    old.cluster.broker(1).speaks.insert(23, (0, 1));
    let mut forbidden = with_log();
    forbidden.cluster.broker(1).faults.push((ApiKey::OffsetForLeaderEpoch, Fault::Error(29)));
    for (mut world, epoch) in [(none, 7), (old, 7), (forbidden, 7), (with_log(), 7), (with_log(), 0)] {
        assert_eq!(says(&mut world, end(epoch)), LogSays::Ends { at: 112 });
        assert!(matches!(world.cluster.broker(1).seen[..], [.., Seen::ListOffsets(_)]));
    }
}
