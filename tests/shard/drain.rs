//! The way out: what has been taken is finished, nothing more is read, nobody is closed for being silent.

use std::time::Duration;

use forebay::runtime::seam::{ConnId, Shard};
use forebay::shard::mail::{Mail, ToShard};

use super::small;
use super::world::{World, publish};

fn draining() -> (World, ConnId) {
    let mut world = World::new(&small());
    let device = world.device("d", 1);
    world.kafka_down();
    let mut bytes = Vec::new();
    publish("t", 7, b"x", &mut bytes);
    world.bytes(device, &bytes);
    world.core.on_mail(&mut world.table, Mail::Shard(ToShard::Drain { grace: Duration::from_secs(60) }));
    world.turn();
    assert!(world.table.wire(device).paused);
    (world, device)
}

#[test]
fn a_device_that_is_not_read_any_more_keeps_its_connection_until_it_is_answered() {
    let (mut world, device) = draining();
    world.advance(Duration::from_secs(10));
    assert!(!world.table.wire(device).closed, "closed for being silent while it is not read");
    world.kafka_up = true;
    world.advance(Duration::from_secs(5));
    assert_eq!(world.sent(device), [0x40, 2, 0, 7]);
    assert!(world.table.wire(device).closed);
}

#[test]
fn what_finds_no_room_while_draining_stays_unread() {
    let (mut world, device) = draining();
    // The kernel had delivered this before reading stopped.
    let mut bytes = Vec::new();
    (8..8_000).for_each(|id| publish("t", id, &[b'x'; 8_000], &mut bytes));
    world.bytes(device, &bytes);
    world.kafka_up = true;
    for _ in 0..2_000 {
        world.advance(Duration::from_millis(1));
        assert!(world.table.wire(device).paused, "read again while draining");
    }
}

#[test]
fn who_has_nothing_to_wait_for_does_not_wait() {
    let mut world = World::new(&small());
    world.core.on_mail(&mut world.table, Mail::Shard(ToShard::Drain { grace: Duration::from_secs(60) }));
    world.turn();
    assert!(world.table.stopped, "nobody is connected, nothing is held");
}
