//! Tests of a broker that accepts connections and bytes and answers nothing: how soon the client leaves it, which requests fail with it,
//! and that a slow link does not count as a frozen broker.

use std::time::Duration;

use super::world::{World, request, world_of};
use crate::client::Settings;
use crate::fake::{Mode, Seen};
use crate::types::{ClientEvent, NodeId, ProduceRequest};
use forebay_runtime::seam::Monotonic;

/// A client with metadata from broker 1; both brokers have answered.
fn up() -> World {
    let mut world = world_of(Settings { bootstrap: vec!["10.0.0.1:9092".into()], ..Settings::default() }).up();
    world.produce(request(1, 1, &[("b", 0)]));
    world.produce(request(2, 2, &[("a", 1)]));
    world.take_events();
    world
}

/// Acts as the producer: sends failed requests again to the current leader, while the test runs.
fn persist(world: &mut World, next: &mut u64, leader: &mut i32, time: Duration) -> Option<Monotonic> {
    let end = world.now.after(time);
    while world.now < end {
        world.run(Duration::from_millis(100));
        for event in world.take_events() {
            match event {
                ClientEvent::Metadata(topics) => {
                    let topic = topics.iter().find(|topic| &*topic.name == "b");
                    if let Some(Some(NodeId(node))) = topic.and_then(|topic| topic.leaders.first()) {
                        *leader = *node;
                    }
                }
                ClientEvent::ProduceFailed { id, .. } if id == *next => {
                    *next += 1;
                    world.produce(request(*next, *leader, &[("b", 0)]));
                }
                ClientEvent::Produced { .. } => return Some(world.now),
                _ => {}
            }
        }
    }
    None
}

#[test]
fn its_partitions_are_with_the_new_leader_soon_after_there_is_one() {
    // The client leaves the broker whenever the election is over.
    for elected_ms in [500, 2_000, 9_000, 9_700, 14_000, 31_000] {
        let mut world = up();
        world.cluster.broker(1).mode = Mode::Frozen;
        let (mut next, mut leader) = (10, 1);
        world.produce(request(next, leader, &[("b", 0)]));
        let early = persist(&mut world, &mut next, &mut leader, Duration::from_millis(elected_ms));
        assert_eq!(early, None);
        world.cluster.add_topic("b", &[2]);
        let elected = world.now;
        let at = persist(&mut world, &mut next, &mut leader, Duration::from_secs(30)).expect("produced in the end");
        let took = at.since(elected);
        assert!(took <= Duration::from_secs(2), "elected after {elected_ms} ms: {took:?}");
        let asked = world.cluster.broker(2).seen.iter().filter(|seen| matches!(seen, Seen::Metadata(..))).count();
        assert!(asked <= 4 + elected_ms as usize / 300, "{asked} questions");
    }
}

#[test]
fn metadata_leaves_it_as_soon_as_produce_finds_it_silent() {
    let mut world = up();
    world.cluster.broker(1).mode = Mode::Frozen;
    world.produce(request(10, 1, &[("b", 0)]));
    world.run(Duration::from_millis(1_510));
    let metadata = world.cluster.broker(2).seen.iter().any(|seen| matches!(seen, Seen::Metadata(..)));
    assert!(metadata, "asked there at once");
    assert_eq!(world.client.stats().replaced, 1);
}

#[test]
fn metadata_that_is_silent_by_itself_moves_on_as_well() {
    let mut world = up();
    world.cluster.broker(1).mode = Mode::Frozen;
    world.client.refresh_metadata(world.now);
    world.run(Duration::from_millis(1_300));
    assert!(world.cluster.broker(2).seen.iter().any(|seen| matches!(seen, Seen::Metadata(..))));
}

#[test]
fn a_long_freeze_is_no_storm_of_connections() {
    let mut world = up();
    world.cluster.broker(1).mode = Mode::Frozen;
    let before = world.connects().len();
    let (mut next, mut leader) = (10, 1);
    world.produce(request(next, leader, &[("b", 0)]));
    persist(&mut world, &mut next, &mut leader, Duration::from_secs(60));
    let connects = world.connects().len() - before;
    assert!(connects <= 16, "{connects} connections in a minute");
    // The broker comes back.
    world.cluster.broker(1).mode = Mode::Serve;
    assert!(persist(&mut world, &mut next, &mut leader, Duration::from_secs(8)).is_some());
}

#[test]
fn a_cluster_that_takes_its_time_is_waited_for_in_the_end() {
    let mut world = up();
    // A connection for Fetch needs two answers within `connect_timeout`.
    world.work = Duration::from_secs(2);
    let (mut next, mut leader) = (10, 1);
    world.produce(request(next, leader, &[("b", 0)]));
    assert!(persist(&mut world, &mut next, &mut leader, Duration::from_secs(60)).is_some(), "2 s an answer");
}

#[test]
fn the_second_channel_is_a_connection_of_its_own() {
    let mut world = up();
    let links = world.wires.len();
    world.produce(ProduceRequest { slow: true, ..request(10, 1, &[("b", 0)]) });
    assert_eq!(world.wires.len(), links + 1);
    // The broker falls silent, and the first request continues.
    world.cluster.broker(1).faults = vec![(kafka_protocol::messages::ApiKey::Produce, crate::fake::Fault::Silence)];
    world.produce(ProduceRequest { slow: true, ..request(11, 1, &[("b", 0)]) });
    world.take_events();
    world.produce(request(12, 1, &[("b", 0)]));
    assert!(matches!(world.take_events()[..], [ClientEvent::Produced { id: 12, .. }]));
}

#[test]
fn a_request_whose_bytes_still_move_is_not_cut() {
    let mut world = up();
    let link = *world.wires.iter().find(|(_, wire)| wire.0 == 2).expect("a connection to broker 2").0;
    world.cluster.broker(2).faults = vec![(kafka_protocol::messages::ApiKey::Produce, crate::fake::Fault::Silence)];
    let mut large = request(10, 2, &[("a", 1)]);
    large.batches[0].bytes = std::rc::Rc::new(vec![0; 1024 * 1024]);
    world.produce(large);
    // 10 KiB per second, far below the expected rate of a link.
    let mut left = 1024 * 1024;
    while left > 0 {
        world.unacked.insert(link, left);
        world.run(Duration::from_secs(1));
        left = left.saturating_sub(10 * 1024);
        assert!(world.take_events().iter().all(|event| !matches!(event, ClientEvent::ProduceFailed { .. })), "{left}");
    }
    // All bytes have arrived, and no answer follows.
    world.unacked.insert(link, 0);
    world.run(Duration::from_secs(4));
    let failed = |event: &ClientEvent| matches!(event, ClientEvent::ProduceFailed { id: 10, sent: true });
    assert!(world.take_events().iter().any(failed));
}

#[test]
fn a_request_whose_bytes_stand_still_is_cut() {
    let mut world = up();
    let link = *world.wires.iter().find(|(_, wire)| wire.0 == 2).expect("a connection to broker 2").0;
    world.cluster.broker(2).mode = Mode::Frozen;
    world.unacked.insert(link, 30);
    world.produce(request(10, 2, &[("a", 1)]));
    world.run(Duration::from_millis(3_100));
    let failed = |event: &ClientEvent| matches!(event, ClientEvent::ProduceFailed { id: 10, sent: true });
    assert!(world.take_events().iter().any(failed));
}
