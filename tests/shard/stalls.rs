//! Devices left unread while memory is full: what they cost, and that they are read again.

use forebay::metrics::spec::ShardMetric;
use forebay::runtime::seam::Shard;

use super::allocation::counted;
use super::small;
use super::world::{World, publish};

#[test]
fn those_that_have_gone_are_not_counted_any_more() {
    let mut world = World::new(&format!("[mqtt]\ntakeovers_max = 0\n{}", small()));
    world.kafka_down();
    let first = world.device("first", 0);
    world.fill(first);
    for _ in 0..1_000 {
        // Its client comes back on another connection, and finds no room again.
        let device = world.device("comes and goes", 0);
        let mut bytes = Vec::new();
        publish("t", 1, &[b'x'; 8_000], &mut bytes);
        world.bytes(device, &bytes);
        assert!(world.table.wire(device).paused);
    }
    assert_eq!(world.number(ShardMetric::StalledConnections), 2);
}

#[test]
fn waiting_costs_no_work() {
    let mut world = World::new(&small());
    world.kafka_down();
    let device = world.device("d", 0);
    world.fill(device);
    let mut bytes = Vec::new();
    (1..100).for_each(|id| publish("t", id, &[b'x'; 8_000], &mut bytes));
    world.core.on_bytes(&mut world.table, device, &bytes);
    let allocations = counted(|| (0..1_000).for_each(|_| world.core.on_turn_end(&mut world.table)));
    assert!(allocations < 10, "{allocations} allocations in 1,000 turns: what it has sent is copied in each");
}

/// A repeated PUBLISH of QoS 2 becomes no record: it must not wait for room that nobody can make while its own PUBREL
/// stands behind it.
#[test]
fn a_repeat_waits_for_no_room() {
    let mut world = World::new(&small());
    world.kafka_down();
    let device = world.device("d", 0);
    let mut exactly_once = Vec::new();
    publish("t", 7, &[b'x'; 8_000], &mut exactly_once);
    exactly_once[0] = 0x34;
    world.bytes(device, &exactly_once);
    let other = world.device("other", 0);
    world.fill(other);
    exactly_once[0] |= 8;
    world.bytes(device, &exactly_once);
    assert!(!world.table.wire(device).paused);
    world.sent(device);
    world.bytes(device, &[0xc0, 0]);
    assert_eq!(world.sent(device), [0xd0, 0], "its PINGREQ is answered");
    assert_eq!(world.number(ShardMetric::PublishesRepeated), 1);
    // A new one waits like any other.
    exactly_once[0] = 0x34;
    let id_at = 3 + 2 + 1;
    exactly_once[id_at + 1] = 8;
    world.bytes(device, &exactly_once);
    assert!(world.table.wire(device).paused);
}
