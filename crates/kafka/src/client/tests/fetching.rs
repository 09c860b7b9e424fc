//! The consumer's ways: requests that brokers of every version can read, answers, and failures on the way.

use super::world::{Net, World, name, request, world};
use crate::fake::{Fault, Mode, Seen};
use crate::fetch::{
    EARLIEST, Fetch, FetchAnswer, FetchAsk, FetchCall, FetchFailure, FetchFrom, Fetched, LATEST, OffsetAsk,
    OffsetFound, Purpose, ReadWay,
};
use crate::types::{ClientEvent, NodeId};
use forebay_record::{Builder, Row, Stamp, stamp};
use forebay_runtime::seam::WallMs;
use kafka_protocol::messages::ApiKey;
use std::time::Duration;

type Result = std::result::Result<FetchAnswer, FetchFailure>;

fn batch(base: i64) -> (i64, Vec<u8>) {
    let mut builder = Builder::new(Vec::new());
    for _ in 0..3 {
        let row = Row { key: None, value: Some(b"value"), headers: std::iter::empty(), timestamp: WallMs(1) };
        builder.append(&row, row.measure());
    }
    let mut bytes = builder.close(None);
    stamp(&mut bytes, Stamp { producer_id: -1, epoch: -1, sequence: -1 });
    bytes[..8].copy_from_slice(&base.to_be_bytes());
    (base, bytes)
}

fn with_log() -> World {
    let mut world = world().up();
    world.cluster.log.batches = vec![batch(100), batch(103)];
    (world.cluster.log.start, world.cluster.log.high_watermark) = (90, 106);
    world.cluster.log.aborted = vec![(7, 100), (8, 103)];
    world
}

fn from(world: &World, topic: &str, partition: i32) -> FetchFrom {
    let topic_id = world.cluster.id_of(topic);
    FetchFrom { topic: name(topic), topic_id, partition, leader_epoch: 3, offset: 100, bytes_max: 1 << 20 }
}

fn fetch(id: u64, node: i32, is_by_id: bool, partitions: Vec<FetchFrom>) -> FetchCall {
    let fetch = Fetch {
        session: (0, 0),
        is_by_id,
        max_wait_ms: 500,
        bytes_max: 8 << 20,
        answer_bytes_max: 9 << 20,
        partitions,
        forgotten: Vec::new(),
    };
    let way = ReadWay { node: NodeId(node), purpose: Purpose::Committed, line: 0 };
    FetchCall { id, way, is_fresh: false, ask: FetchAsk::Fetch(fetch) }
}

fn offsets(id: u64, node: i32, at: &[i64]) -> FetchCall {
    let ask = |at: &i64| OffsetAsk { topic: name("a"), partition: 0, leader_epoch: 3, at: *at };
    let way = ReadWay { node: NodeId(node), purpose: Purpose::Offsets, line: 0 };
    FetchCall { id, way, is_fresh: false, ask: FetchAsk::Offsets(at.iter().map(ask).collect(), true) }
}

/// The answers to these calls so far, at most one each.
fn answers(world: &mut World) -> Vec<(u64, Result)> {
    let answer = |event: ClientEvent| match event {
        ClientEvent::Fetch { id, result } => Some((id, result)),
        _ => None,
    };
    world.take_events().into_iter().filter_map(answer).collect()
}

fn ask(world: &mut World, call: FetchCall) -> Result {
    let id = call.id;
    world.client.fetch(call, world.now);
    world.settle();
    let mut answers = answers(world);
    assert_eq!(answers.len(), 1, "one answer to one call");
    let (of, result) = answers.remove(0);
    assert_eq!(of, id);
    result
}

fn fetched(result: Result) -> Fetched {
    match result {
        Ok(FetchAnswer::Fetched(fetched)) => fetched,
        other => panic!("{other:?}"),
    }
}

#[test]
fn every_version_that_a_broker_may_speak() {
    for version in 4..=18 {
        for piece in [usize::MAX, 1, 50] {
            let mut world = with_log();
            world.piece = piece;
            world.cluster.broker(1).speaks.insert(1, (4, version));
            let partitions = vec![from(&world, "a", 0), from(&world, "a", 5)];
            let got = fetched(ask(&mut world, fetch(1, 1, true, partitions)));
            assert_eq!((got.error, got.session_id, got.partitions.len()), (0, 0, 2), "v{version}");
            for (told, partition) in got.partitions.iter().zip([0, 5]) {
                assert_eq!((told.partition, told.error, told.high_watermark), (partition, 0, 106), "v{version}");
                assert_eq!(told.aborted, [(7, 100), (8, 103)], "v{version}");
                let records = &got.frame[told.records.clone()];
                assert_eq!(records[..records.len() - 70], batch(100).1, "v{version}, pieces of {piece}");
                if version >= 13 {
                    assert_eq!(told.topic_id, world.cluster.id_of("a"));
                } else {
                    assert_eq!((told.topic_id, &got.frame[told.topic.clone()]), (0, &b"a"[..]), "v{version}");
                }
            }
            let by_name = vec![from(&world, "a", 0)];
            let got = fetched(ask(&mut world, fetch(2, 1, false, by_name)));
            assert_eq!((got.partitions.len(), got.partitions[0].topic_id), (1, 0), "v{version}: by name");
        }
    }
}

#[test]
fn offsets_and_epochs_are_answered_in_the_order_asked() {
    for version in 1..=6 {
        let mut world = with_log();
        world.cluster.broker(1).speaks.insert(2, (1, version));
        let mut call = offsets(1, 1, &[EARLIEST]);
        let FetchAsk::Offsets(asks, _) = &mut call.ask else { panic!("offsets") };
        asks.push(OffsetAsk { topic: name("a"), partition: 4, leader_epoch: -1, at: LATEST });
        asks.push(OffsetAsk { topic: name("b"), partition: 0, leader_epoch: -1, at: 12345 });
        let Ok(FetchAnswer::Offsets(found)) = ask(&mut world, call) else { panic!("v{version}") };
        let places: Vec<i64> = found.iter().map(|found| found.offset).collect();
        assert_eq!(places, [90, 106, 90], "v{version}");
    }
    for version in 2..=4 {
        let mut world = with_log();
        world.cluster.log.epochs = [(1, 90), (3, 103)].into();
        world.cluster.broker(1).speaks.insert(23, (2, version));
        let mut call = offsets(1, 1, &[]);
        call.ask = FetchAsk::EpochEnds(vec![OffsetAsk { topic: name("a"), partition: 0, leader_epoch: 3, at: 2 }]);
        let Ok(FetchAnswer::Offsets(found)) = ask(&mut world, call) else { panic!("v{version}") };
        assert_eq!(found, [OffsetFound { error: 0, offset: 103, leader_epoch: 1 }], "v{version}");
        let seen = world.cluster.broker(1).seen.clone();
        assert!(seen.contains(&Seen::OffsetForLeaderEpoch(version, 3, 2)), "{seen:?}");
    }
}

#[test]
fn calls_that_a_broker_does_not_know_are_said_so() {
    for key in [1, 2, 23] {
        let mut world = with_log();
        world.cluster.broker(1).speaks.remove(&key);
        let call = match key {
            1 => fetch(1, 1, true, vec![from(&world, "a", 0)]),
            2 => offsets(1, 1, &[LATEST]),
            _ => FetchCall { ask: FetchAsk::EpochEnds(Vec::new()), ..offsets(1, 1, &[]) },
        };
        assert_eq!(ask(&mut world, call).err(), Some(FetchFailure::NotSpoken), "{key}");
    }
}

#[test]
fn a_fetch_that_waits_holds_up_nobody_else() {
    let mut world = with_log();
    world.cluster.broker(1).faults.push((ApiKey::Fetch, Fault::Silence));
    let call = fetch(1, 1, true, vec![from(&world, "a", 0)]);
    world.client.fetch(call, world.now);
    world.settle();
    world.client.want_producer_id(3, world.now);
    world.produce(request(9, 1, &[("a", 0)]));
    world.client.fetch(offsets(2, 1, &[LATEST]), world.now);
    world.settle();
    let events = world.take_events();
    assert!(events.iter().any(|event| matches!(event, ClientEvent::ProducerId { token: 3, .. })), "{events:?}");
    assert!(events.iter().any(|event| matches!(event, ClientEvent::Produced { id: 9, .. })), "{events:?}");
    assert!(events.iter().any(|event| matches!(event, ClientEvent::Fetch { id: 2, result: Ok(_) })), "{events:?}");
    // The call has its wait time, and a while for the answer; then it is lost.
    world.run(Duration::from_millis(1400));
    assert!(answers(&mut world).is_empty());
    world.run(Duration::from_secs(10));
    let answers = answers(&mut world);
    assert!(matches!(answers[..], [(1, Err(FetchFailure::Lost))]), "{answers:?}");
}

#[test]
fn what_goes_wrong_on_the_way_is_answered_once() {
    let mut world = with_log();
    let call = |world: &World, id, node| fetch(id, node, true, vec![from(world, "a", 0)]);
    let unknown = call(&world, 1, 77);
    assert_eq!(ask(&mut world, unknown).err(), Some(FetchFailure::Lost));
    for (id, fault, expected) in [
        (2, Fault::Close(false), FetchFailure::Lost),
        (3, Fault::Bytes(vec![0, 0, 0, 9, 0, 0, 0, 3, 0, 0, 0, 0, 0]), FetchFailure::Malformed),
        (4, Fault::Bytes(vec![0, 0x90, 0, 1, 0, 0, 0, 3]), FetchFailure::TooLarge(0x0090_0001)),
    ] {
        world.run(Duration::from_secs(2));
        answers(&mut world);
        world.cluster.broker(1).faults.push((ApiKey::Fetch, fault.clone()));
        let one = call(&world, id, 1);
        assert_eq!(ask(&mut world, one).err(), Some(expected), "{fault:?}");
    }
    world.run(Duration::from_secs(2));
    let one = call(&world, 9, 1);
    assert_eq!(fetched(ask(&mut world, one)).partitions.len(), 1, "another connection");
    world.cluster.broker(1).mode = Mode::Refuse;
    world.cut(1);
    world.client.fetch(call(&world, 10, 1), world.now);
    world.run(Duration::from_secs(1));
    assert!(matches!(answers(&mut world)[..], [(10, Err(FetchFailure::Lost))]));
}

#[test]
fn a_large_answer_has_the_time_that_its_bytes_need() {
    let mut world = with_log();
    let large = vec![7; 600_000];
    let mut frame = (large.len() as u32 + 4).to_be_bytes().to_vec();
    frame.extend_from_slice(&3i32.to_be_bytes());
    frame.extend_from_slice(&large);
    world.cluster.broker(1).faults.push((ApiKey::Fetch, Fault::Silence));
    let call = fetch(1, 1, true, vec![from(&world, "a", 0)]);
    world.client.fetch(call, world.now);
    world.settle();
    let (link, _) = *world.asked.last().expect("a request");
    // A tenth per second, then silence.
    for piece in frame.chunks(60_000).take(8) {
        world.client.on_bytes(link, piece, world.now);
        world.run(Duration::from_millis(1000));
        assert!(answers(&mut world).is_empty(), "it is still coming");
    }
    world.run(Duration::from_secs(3));
    assert!(matches!(answers(&mut world)[..], [(1, Err(FetchFailure::Lost))]));
}

#[test]
fn connections_that_nobody_needs_are_closed() {
    let mut world = with_log();
    let closed = |world: &World| world.net.iter().filter(|(_, net)| matches!(net, Net::Close(_))).count();
    ask(&mut world, offsets(1, 1, &[LATEST])).expect("an answer");
    world.run(Duration::from_millis(1));
    assert_eq!(closed(&world), 1, "the one for offsets at once");
    let call = fetch(2, 1, true, vec![from(&world, "a", 0)]);
    ask(&mut world, call).expect("an answer");
    let connects = world.connects().len();
    world.run(Duration::from_secs(50));
    let call = fetch(3, 1, true, vec![from(&world, "a", 0)]);
    ask(&mut world, call).expect("an answer");
    assert_eq!((closed(&world), world.connects().len()), (1, connects), "the one for records is kept");
    world.run(Duration::from_secs(61));
    assert_eq!(closed(&world), 2);
}

#[test]
fn a_fresh_connection_is_another_one() {
    let mut world = with_log();
    let call = |world: &World, id| fetch(id, 1, true, vec![from(world, "a", 0)]);
    let one = call(&world, 1);
    ask(&mut world, one).expect("an answer");
    let connects = world.connects().len();
    let fresh = FetchCall { is_fresh: true, ..call(&world, 2) };
    ask(&mut world, fresh).expect("an answer");
    assert_eq!(world.connects().len(), connects + 1);
}

#[test]
fn every_byte_of_an_answer_may_be_wrong() {
    for (version, is_by_id) in [(4, false), (11, false), (12, false), (13, true)] {
        let mut world = with_log();
        world.cluster.broker(1).speaks.insert(1, (4, version));
        let call = |world: &World, id| fetch(id, 1, is_by_id, vec![from(world, "a", 0)]);
        let one = call(&world, 0);
        let good = fetched(ask(&mut world, one));
        let len = good.frame.len();
        let mut refused = 0;
        for at in 0..len.min(140) {
            let mut world = with_log();
            world.cluster.broker(1).speaks.insert(1, (4, version));
            // The fake's answer, with one byte changed.
            let call = call(&world, 1);
            world.cluster.broker(1).faults.push((ApiKey::Fetch, Fault::Silence));
            world.client.fetch(call, world.now);
            world.settle();
            let (link, _) = *world.asked.last().expect("a request");
            let mut frame = (len as u32).to_be_bytes().to_vec();
            frame.extend_from_slice(&good.frame[good.frame.len() - len..]);
            frame[4 + at] ^= 0xff;
            world.client.on_bytes(link, &frame, world.now);
            world.settle();
            world.run(Duration::from_secs(20));
            let answers = answers(&mut world);
            assert_eq!(answers.len(), 1, "v{version}, byte {at}");
            refused += usize::from(answers[0].1.is_err());
        }
        assert!(refused > 8, "v{version}: {refused}");
    }
}

#[test]
fn another_cluster_ends_all_calls() {
    let mut world = with_log();
    world.cluster.broker(1).faults.push((ApiKey::Fetch, Fault::Silence));
    let call = fetch(1, 1, true, vec![from(&world, "a", 0)]);
    world.client.fetch(call, world.now);
    world.settle();
    world.cluster.others = [(1, "other"), (2, "other")].into();
    world.client.refresh_metadata(world.now);
    world.run(Duration::from_millis(500));
    let events = world.take_events();
    let ended =
        events.iter().position(|event| matches!(event, ClientEvent::Fetch { id: 1, result: Err(FetchFailure::Lost) }));
    let told = events.iter().position(|event| matches!(event, ClientEvent::Cluster(id) if &**id == "other"));
    assert!(ended.is_some() && ended < told, "{events:?}");
}

#[test]
fn a_watched_topic_is_not_created() {
    let mut world = with_log();
    world.cluster.creates = Some(1);
    world.client.watch_metadata(&name("missing"), world.now);
    world.run(Duration::from_secs(3));
    assert!(!world.cluster.topics.contains_key("missing"));
    world.client.want_metadata(&name("missing"), world.now);
    world.run(Duration::from_secs(3));
    assert!(world.cluster.topics.contains_key("missing"), "unless it is wanted otherwise");
}
