//! Fetch sessions, and the one Fetch in flight to each broker.

use super::world::{World, assignment, batch, world};
use crate::consumer::{Assignment, Start};
use crate::fetch::{FetchFailure, Purpose};
use std::collections::BTreeSet;
use std::time::Duration;

fn three() -> World {
    let mut world = world();
    for (id, topic, partition) in [(1, "a", 0), (2, "a", 2), (3, "a", 1), (4, "b", 0)] {
        world.log(topic, partition).append(batch(&["x"]), 0);
        world.consumer.assign(id, assignment(topic, partition));
    }
    world
}

#[test]
fn only_what_has_changed_is_sent() {
    let mut world = three();
    assert_eq!(world.read().len(), 4);
    let before = world.calls.len();
    world.log("a", 0).append(batch(&["y"]), 0);
    assert_eq!(world.read(), ["1@1=y"]);
    let calls = world.calls[before..].to_vec();
    world.calls = calls;
    let fetches = world.fetches();
    assert!(fetches.iter().all(|(_, fetch)| fetch.session.0 != 0 && fetch.is_by_id), "all in a session");
    let named: Vec<_> =
        fetches.iter().flat_map(|(_, fetch)| &fetch.partitions).map(|from| (from.partition, from.offset)).collect();
    assert_eq!(named, [(0, 2)], "the partition that went on");
}

/// In a session a broker reports the end of a log once, and not again to another reader of the partition, or from another place.
#[test]
fn how_far_a_log_goes_is_told_to_each_assignment_and_after_a_seek() {
    let mut world = three();
    assert_eq!(world.read().len(), 4);
    let at = world.consumer.position(1).expect("a position");
    world.consumer.unassign(1);
    let start = Start::Offset { offset: at.offset, leader_epoch: at.leader_epoch };
    world.consumer.assign(5, Assignment { start, ..assignment("a", 0) });
    assert!(world.read().is_empty());
    assert_eq!(world.consumer.lag(5), Some(0));
    // The answer to the first Fetch is about an abandoned place.
    world.consumer.unassign(5);
    world.read();
    world.consumer.assign(6, Assignment { start, ..assignment("a", 0) });
    world.holds = true;
    world.settle();
    let held = world.calls.pop().expect("a Fetch");
    world.consumer.seek(6, start);
    world.holds = false;
    world.answer(held);
    assert!(world.read().is_empty());
    assert_eq!(world.consumer.lag(6), Some(0));
}

/// Two sources of a cluster may read through one request.
#[test]
fn each_partition_is_asked_for_as_many_bytes_as_its_assignment_says() {
    let mut world = world();
    for (id, partition, bytes) in [(1, 0, 1 << 10), (2, 2, 3 << 20)] {
        world.log("a", partition).append(batch(&["x"]), 0);
        world.consumer.assign(id, Assignment { bytes, ..assignment("a", partition) });
    }
    assert_eq!(world.read().len(), 2);
    let asked: BTreeSet<_> = world
        .fetches()
        .iter()
        .flat_map(|(_, fetch)| &fetch.partitions)
        .map(|of| (of.partition, of.bytes_max))
        .collect();
    assert_eq!(asked, BTreeSet::from([(0, 1 << 10), (2, 3 << 20)]));
}

#[test]
fn a_broker_without_sessions_is_asked_for_all_in_turn() {
    let mut world = three();
    world.has_sessions = false;
    assert_eq!(world.read().len(), 4);
    world.log("a", 2).append(batch(&["y"]), 0);
    assert_eq!(world.read(), ["2@1=y"]);
    let fetches = world.fetches();
    assert!(fetches.iter().all(|(_, fetch)| fetch.session == (0, 0) && fetch.forgotten.is_empty()));
    let whole: Vec<_> = fetches.iter().filter(|(_, fetch)| fetch.partitions.len() == 2).collect();
    let firsts: BTreeSet<_> = whole.iter().map(|(_, fetch)| fetch.partitions[0].partition).collect();
    assert!(firsts.len() > 1, "each is the first now and then: {firsts:?}");
}

#[test]
fn a_session_that_the_broker_has_ended_is_begun_anew_at_once() {
    for error in [70, 71, 106] {
        let mut world = three();
        assert_eq!(world.read().len(), 4);
        world.errors.push_back(error);
        world.log("a", 0).append(batch(&["y"]), 0);
        assert_eq!(world.read(), ["1@1=y"], "{error}");
        assert!(world.consumer.stats().sessions_lost > 0);
    }
}

#[test]
fn a_failed_request_ends_the_session_and_is_made_again_after_a_while() {
    for failure in [FetchFailure::Lost, FetchFailure::Malformed] {
        let mut world = three();
        assert_eq!(world.read().len(), 4);
        world.failures.extend([failure; 4]);
        let calls = world.calls.len();
        for (topic, partition) in [("a", 0), ("a", 2), ("a", 1), ("b", 0)] {
            world.log(topic, partition).append(batch(&["y"]), 0);
        }
        assert_eq!(world.read().len(), 4, "{failure:?}");
        assert!(world.calls.len() - calls < 40, "{}", world.calls.len() - calls);
        assert!(world.refreshes > 0);
    }
}

#[test]
fn one_fetch_is_under_way_to_each_broker_and_isolation() {
    let mut world = three();
    world.consumer.assign(4, Assignment { committed: false, ..assignment("b", 0) });
    world.holds = true;
    world.settle();
    // The offsets are found first: two brokers, and two isolation levels at one of them.
    for call in std::mem::take(&mut world.calls) {
        assert_eq!(call.way.purpose, Purpose::Offsets);
        world.answer(call);
    }
    world.settle();
    let ways: Vec<_> = world.calls.iter().map(|call| (call.way.node.0, call.way.purpose)).collect();
    assert_eq!(ways, [(1, Purpose::Committed), (2, Purpose::Committed), (2, Purpose::All)]);
    world.now = world.now.after(Duration::from_secs(5));
    assert!(world.consumer.take_request(world.now).is_none());
}

#[test]
fn a_broker_is_not_asked_while_records_of_it_can_be_taken() {
    let mut world = world();
    world.log("a", 0).append(batch(&["x"]), 0);
    world.consumer.assign(1, assignment("a", 0));
    world.consumer.assign(2, assignment("a", 2));
    world.settle();
    assert!(world.consumer.peek().is_some());
    let calls = world.calls.len();
    world.now = world.now.after(Duration::from_secs(1));
    world.settle();
    assert_eq!(world.calls.len(), calls, "it would wait for the other one");
    // The partition is fetched once the other one is paused.
    world.consumer.pause(1);
    world.log("a", 2).append(batch(&["y"]), 0);
    assert_eq!(world.read(), ["2@0=y"]);
    world.consumer.resume(1);
    assert_eq!(world.read(), ["1@0=x"]);
}
