//! An orderly stop of a shard with a spool: it waits for what it would lose, and leaves to the next start what is on the disk.

use std::time::Duration;

use forebay::runtime::seam::{Closed, ConnId, Segments as _, Shard};
use forebay::shard::mail::{Mail, Notice, ToShard};

use super::spool::{acked, arrived, assert_all, ids, payload, send};
use super::spooled;
use super::world::World;

const GRACE: Duration = Duration::from_secs(60);

/// A second sink, whose rows a stop loses.
const IN_MEMORY: &str = "[[sink]]\nname = \"two\"\nkafka = \"main\"\nfilters = [\"#\"]\ntopic = \"two\"\nbuffer = \
                         \"memory\"\nacknowledge = \"replicated\"\nbatch_bytes = \"64KiB\"\nrecord_bytes_max = \
                         \"64KiB\"\n";

/// A shard with this sink and Kafka away, which a device has given ten messages.
fn with_ten(sink: &str) -> (World, ConnId) {
    let mut world = World::new(&spooled("", sink));
    world.kafka_down();
    let device = world.device("d", 0);
    ids(10).into_iter().for_each(|id| send(&mut world, device, id, &payload(id, 10)));
    (world, device)
}

fn stop(world: &mut World) {
    world.core.on_mail(&mut world.table, Mail::Shard(ToShard::Drain { grace: GRACE }));
    world.turn();
}

/// The device has heard the goodbye and goes.
fn leave(world: &mut World, device: ConnId) {
    assert!(world.table.wire(device).closed, "no goodbye");
    world.core.on_close(&mut world.table, device, Closed::Local);
    world.turn();
}

/// What the shard says it leaves: rows that are lost, and rows that the disk has.
fn drained(world: &World) -> Option<(u64, u64)> {
    world.notices().into_iter().rev().find_map(|notice| match notice {
        Notice::Drained { rows_left, rows_kept, .. } if world.table.stopped => Some((rows_left, rows_kept)),
        _ => None,
    })
}

/// The process is gone, Kafka is back, and the next start hands over the ten messages that the disk has.
fn after_a_start_all_is_in_kafka(world: &mut World) {
    world.kafka_up = true;
    world.table.disk.kill();
    world.restart(None);
    world.advance(Duration::from_secs(5));
    assert_all(&arrived(world), 10, "in Kafka");
}

#[test]
fn what_the_disk_has_is_not_waited_for_while_kafka_is_away() {
    let (mut world, device) = with_ten("");
    assert_all(&acked(&mut world, device), 10, "answered");
    let before = world.table.disk.read_note();
    stop(&mut world);
    leave(&mut world, device);
    assert_eq!(drained(&world), Some((0, 10)), "at once");
    assert_ne!(world.table.disk.read_note(), before, "the note beside the segments names their end");
    after_a_start_all_is_in_kafka(&mut world);
}

#[test]
fn what_hybrid_saved_has_in_memory_is_saved_at_once_while_kafka_is_away() {
    let (mut world, device) = with_ten("buffer = \"hybrid-saved\"");
    assert!(acked(&mut world, device).is_empty(), "replicated");
    stop(&mut world);
    leave(&mut world, device);
    assert_eq!(drained(&world), Some((0, 10)));
    after_a_start_all_is_in_kafka(&mut world);
}

#[test]
fn a_save_waits_for_the_disk_and_not_for_long() {
    for comes_back in [true, false] {
        let (mut world, device) = with_ten("buffer = \"hybrid-saved\"");
        world.table.disk.slow = true;
        stop(&mut world);
        leave(&mut world, device);
        world.advance(Duration::from_millis(2_500));
        assert_eq!(drained(&world), None);
        if comes_back {
            world.table.disk.slow = false;
            world.turn();
            assert_eq!(drained(&world), Some((0, 10)));
            after_a_start_all_is_in_kafka(&mut world);
        } else {
            world.advance(Duration::from_millis(500));
            assert_eq!(drained(&world), Some((10, 0)));
        }
    }
}

#[test]
fn what_is_not_on_the_disk_yet_is_waited_for() {
    let mut world = World::new(&spooled("", ""));
    world.kafka_down();
    let device = world.device("d", 0);
    world.table.disk.slow = true;
    ids(10).into_iter().for_each(|id| send(&mut world, device, id, &payload(id, 10)));
    stop(&mut world);
    world.advance(Duration::from_secs(30));
    assert!(!world.table.wire(device).closed && acked(&mut world, device).is_empty());
    world.table.disk.slow = false;
    world.turn();
    assert_all(&acked(&mut world, device), 10, "answered before the goodbye");
    leave(&mut world, device);
    assert_eq!(drained(&world), Some((0, 10)));
}

#[test]
fn what_a_stop_would_lose_has_the_whole_grace() {
    for (sink, left) in [("buffer = \"hybrid\"", (10, 0)), (IN_MEMORY, (10, 10))] {
        let (mut world, device) = with_ten(sink);
        stop(&mut world);
        world.advance(GRACE - Duration::from_secs(1));
        assert!(!world.table.stopped && acked(&mut world, device).is_empty(), "{sink}");
        world.advance(Duration::from_secs(1));
        assert_eq!(drained(&world), Some(left), "{sink}");
        let (mut world, device) = with_ten(sink);
        stop(&mut world);
        world.advance(GRACE / 2);
        world.kafka_up = true;
        world.advance(Duration::from_secs(5));
        assert_eq!(acked(&mut world, device).len(), 10, "{sink}");
        leave(&mut world, device);
        assert_eq!(drained(&world), Some((0, 0)), "{sink}: and what the disk has went along");
    }
}

/// Whose answer is Kafka's gets it first; the next start finds nothing to do.
#[test]
fn what_has_just_come_is_in_kafka_first() {
    for sink in ["", "acknowledge = \"replicated\"", "buffer = \"hybrid-saved\""] {
        let mut world = World::new(&spooled("", &format!("linger = \"60s\"\n{sink}")));
        let device = world.device("d", 0);
        send(&mut world, device, 1, &payload(1, 10));
        world.advance(Duration::from_secs(1));
        for id in 2..=10 {
            send(&mut world, device, id, &payload(id, 10));
        }
        assert_eq!(arrived(&world), [1], "{sink}: it lingers");
        stop(&mut world);
        assert_all(&acked(&mut world, device), 10, "answered");
        leave(&mut world, device);
        assert_eq!(drained(&world), Some((0, 0)), "{sink}");
        assert_all(&arrived(&world), 10, sink);
    }
}

#[test]
fn a_kafka_that_says_nothing_is_given_two_seconds_at_most() {
    let mut world = World::new(&spooled("", ""));
    let device = world.device("d", 0);
    send(&mut world, device, 1, &payload(1, 10));
    world.advance(Duration::from_secs(1));
    world.broker.silent = true;
    for id in 2..=10 {
        send(&mut world, device, id, &payload(id, 10));
        world.advance(Duration::from_millis(10));
    }
    stop(&mut world);
    leave(&mut world, device);
    world.advance(Duration::from_secs(1));
    assert!(!world.table.stopped, "it has not answered what was sent last");
    world.advance(Duration::from_secs(1));
    assert_eq!(drained(&world), Some((0, 9)));
    world.broker.silent = false;
    after_a_start_all_is_in_kafka(&mut world);
}
