//! Sessions that survive a crash: nothing is said that the disk does not know, and what it knows is there again.

use std::time::Duration;

use forebay::metrics::spec::ShardMetric;
use forebay::runtime::seam::ConnId;

use super::world::World;

/// A sink that answers at this level; more sinks may follow.
fn spooled(level: &str, more: &str) -> String {
    super::spooled("", &format!("acknowledge = \"{level}\"\n{more}"))
}

const IN_MEMORY: &str = r##"
[[sink]]
name = "memory"
kafka = "main"
filters = ["#"]
topic = "memory"
buffer = "memory"
acknowledge = "replicated"
batch_bytes = "64KiB"
record_bytes_max = "64KiB"
"##;

/// CONNACK of 3.1.1: taken, without and with a session.
const NEW: [u8; 4] = [0x20, 2, 0, 0];
const PRESENT: [u8; 4] = [0x20, 2, 1, 0];

fn string(text: &str) -> Vec<u8> {
    let mut bytes = u16::try_from(text.len()).expect("short").to_be_bytes().to_vec();
    bytes.extend_from_slice(text.as_bytes());
    bytes
}

/// A 3.1.1 CONNECT that asks for its session to be kept, or not; with a will, or without.
pub(crate) fn connect(client_id: &str, clean: bool, will: Option<&str>) -> Vec<u8> {
    let flags = u8::from(clean) << 1 | if will.is_some() { 4 } else { 0 };
    let mut body = [&string("MQTT")[..], &[4, flags, 0, 0], &string(client_id)].concat();
    if let Some(will) = will {
        body.extend([string("w"), string(will)].concat());
    }
    let len = body.len();
    let head = match len {
        0..128 => vec![0x10, u8::try_from(len).expect("seven bits")],
        _ => vec![0x10, (len & 127) as u8 | 128, (len >> 7 & 127) as u8 | 128, (len >> 14) as u8],
    };
    [head, body].concat()
}

fn publish(id: u16, payload: &str) -> Vec<u8> {
    let body = [&string("t")[..], &id.to_be_bytes(), payload.as_bytes()].concat();
    [&[0x34, u8::try_from(body.len()).expect("short")][..], &body].concat()
}

fn pubrel(id: u16) -> [u8; 4] {
    let [high, low] = id.to_be_bytes();
    [0x62, 2, high, low]
}

fn pubrec(id: u16) -> [u8; 4] {
    let [high, low] = id.to_be_bytes();
    [0x50, 2, high, low]
}

fn pubcomp(id: u16) -> [u8; 4] {
    let [high, low] = id.to_be_bytes();
    [0x70, 2, high, low]
}

/// A connection with its CONNECT sent.
pub(crate) fn arrive(world: &mut World, connect: &[u8]) -> ConnId {
    let conn = world.accept();
    world.bytes(conn, connect);
    conn
}

/// A device whose session is kept, its CONNACK taken away.
fn kept(world: &mut World, client_id: &str, connack: [u8; 4]) -> ConnId {
    let conn = arrive(world, &connect(client_id, false, None));
    assert_eq!(world.sent(conn), connack);
    conn
}

/// Values at Kafka, sorted.
fn arrived(world: &World, topic: &str) -> Vec<String> {
    let records = world.broker.records.iter().filter(|record| record.0 == *topic);
    let mut values: Vec<_> = records.map(|(.., value)| String::from_utf8(value.clone()).expect("text")).collect();
    values.sort();
    values
}

/// The disk answers again.
fn sync(world: &mut World) {
    world.table.disk.slow = false;
    world.turn();
}

#[test]
fn connack_waits_for_the_session_to_be_on_the_disk() {
    let mut world = World::new(&spooled("stored", ""));
    world.table.disk.slow = true;
    let device = arrive(&mut world, &connect("c", false, None));
    world.bytes(device, &[0xc0, 0]);
    world.advance(Duration::from_secs(3));
    assert!(world.sent(device).is_empty(), "a session that a crash would lose");
    let clean = arrive(&mut world, &connect("clean", true, None));
    assert_eq!(world.sent(clean), NEW, "has nothing to wait for");
    sync(&mut world);
    assert_eq!(world.sent(device), [&NEW[..], &[0xd0, 0]].concat(), "in order");
    world.table.disk.slow = true;
    let device = arrive(&mut world, &connect("c", false, None));
    assert_eq!(world.sent(device), PRESENT, "as it is written");
}

#[test]
fn suback_and_unsuback_wait_for_the_disk() {
    let mut world = World::new(&spooled("stored", ""));
    let conn = kept(&mut world, "s", NEW);
    let filter = string("a/b");
    let body = [&[0, 1][..], &filter, &[1]].concat();
    let subscribe = [&[0x82, u8::try_from(body.len()).expect("short")][..], &body].concat();
    world.table.disk.slow = true;
    world.bytes(conn, &subscribe);
    assert!(world.sent(conn).is_empty(), "the subscription is not on the disk");
    sync(&mut world);
    assert_eq!(world.sent(conn), [0x90, 3, 0, 1, 1]);
    let body = [&[0, 2][..], &filter].concat();
    let unsubscribe = [&[0xA2, u8::try_from(body.len()).expect("short")][..], &body].concat();
    world.table.disk.slow = true;
    world.bytes(conn, &unsubscribe);
    assert!(world.sent(conn).is_empty(), "a crash would bring it back");
    sync(&mut world);
    assert_eq!(world.sent(conn), [0xB0, 2, 0, 2]);
}

#[test]
fn session_present_is_said_exactly_of_what_is_on_the_disk() {
    let mut world = World::new(&spooled("stored", ""));
    kept(&mut world, "durable", NEW);
    world.table.disk.slow = true;
    let lost = arrive(&mut world, &connect("lost", false, None));
    world.advance(Duration::from_secs(1));
    assert!(world.sent(lost).is_empty());
    world.power_cut();
    kept(&mut world, "durable", PRESENT);
    kept(&mut world, "lost", NEW);
    world.power_cut();
    world.power_cut();
    kept(&mut world, "durable", PRESENT);
    kept(&mut world, "lost", PRESENT);
    assert_eq!(world.number(ShardMetric::Sessions), 2);
}

#[test]
fn a_repeat_after_a_crash_is_no_second_row() {
    let mut world = World::new(&spooled("stored", ""));
    world.kafka_down();
    let device = kept(&mut world, "c", NEW);
    world.bytes(device, &publish(7, "once"));
    assert_eq!(world.sent(device), pubrec(7));
    world.power_cut();
    let device = kept(&mut world, "c", PRESENT);
    world.bytes(device, &publish(7, "once"));
    assert_eq!(world.sent(device), pubrec(7), "stored: answered at once");
    world.bytes(device, &publish(7, "once"));
    assert_eq!(world.sent(device), pubrec(7));
    world.bytes(device, &pubrel(7));
    assert_eq!(world.sent(device), pubcomp(7));
    world.bytes(device, &publish(7, "another"));
    assert_eq!(world.sent(device), pubrec(7));
    world.kafka_up = true;
    world.advance(Duration::from_secs(10));
    assert_eq!(arrived(&world, "all"), ["another", "once"]);
}

#[test]
fn at_replicated_a_repeat_after_a_crash_waits_for_kafka() {
    let mut world = World::new(&spooled("replicated", ""));
    world.kafka_down();
    let device = kept(&mut world, "c", NEW);
    world.bytes(device, &publish(7, "once"));
    world.advance(Duration::from_secs(1));
    assert!(world.sent(device).is_empty());
    world.power_cut();
    let device = kept(&mut world, "c", PRESENT);
    world.bytes(device, &publish(7, "once"));
    world.bytes(device, &publish(8, "next"));
    world.advance(Duration::from_secs(1));
    assert!(world.sent(device).is_empty(), "Kafka does not have it");
    world.kafka_up = true;
    world.advance(Duration::from_secs(10));
    assert_eq!(world.sent(device), [pubrec(7), pubrec(8)].concat());
    assert_eq!(arrived(&world, "all"), ["next", "once"]);
}

#[test]
fn pubcomp_waits_for_the_release_to_be_on_the_disk() {
    let mut world = World::new(&spooled("stored", ""));
    let device = kept(&mut world, "c", NEW);
    world.bytes(device, &publish(7, "one"));
    assert_eq!(world.sent(device), pubrec(7));
    world.table.disk.slow = true;
    world.bytes(device, &pubrel(7));
    world.bytes(device, &[0xc0, 0]);
    assert!(world.sent(device).is_empty());
    // Neither is it said on another connection, where the id is known to be free.
    let device = arrive(&mut world, &connect("c", false, None));
    world.bytes(device, &pubrel(7));
    world.advance(Duration::from_secs(1));
    assert!(world.sent(device).is_empty());
    sync(&mut world);
    assert_eq!(world.sent(device), [PRESENT, pubcomp(7)].concat());
}

#[test]
fn a_crash_before_pubcomp_leaves_the_id_open_or_free_and_both_are_answered() {
    for durable in [false, true] {
        let mut world = World::new(&spooled("stored", ""));
        let device = kept(&mut world, "c", NEW);
        world.bytes(device, &publish(7, "one"));
        assert_eq!(world.sent(device), pubrec(7));
        world.advance(Duration::from_secs(1));
        world.table.disk.slow = true;
        world.bytes(device, &pubrel(7));
        assert!(world.sent(device).is_empty());
        if durable {
            world.table.disk.kill();
            world.restart(None);
        } else {
            world.power_cut();
        }
        let device = kept(&mut world, "c", PRESENT);
        world.bytes(device, &pubrel(7));
        assert_eq!(world.sent(device), pubcomp(7), "{durable}");
        world.bytes(device, &publish(7, "two"));
        assert_eq!(world.sent(device), pubrec(7));
        world.advance(Duration::from_secs(5));
        assert_eq!(arrived(&world, "all"), ["one", "two"], "{durable}: another message");
    }
}

#[test]
fn a_clean_start_ends_the_session_on_the_disk_first() {
    let mut world = World::new(&spooled("stored", ""));
    let device = kept(&mut world, "c", NEW);
    world.bytes(device, &publish(7, "one"));
    assert_eq!(world.sent(device), pubrec(7));
    world.table.disk.slow = true;
    let first = arrive(&mut world, &connect("c", true, None));
    let second = arrive(&mut world, &connect("c", true, None));
    let other = arrive(&mut world, &connect("other", true, None));
    world.advance(Duration::from_secs(1));
    assert!(world.sent(first).is_empty() && world.table.wire(first).closed, "taken over before it heard anything");
    assert!(world.sent(second).is_empty(), "the session is still on the disk");
    drop(world.sent(other));
    sync(&mut world);
    assert_eq!(world.sent(second), NEW);
    world.power_cut();
    let device = kept(&mut world, "c", NEW);
    world.bytes(device, &publish(7, "two"));
    assert_eq!(world.sent(device), pubrec(7));
    world.advance(Duration::from_secs(5));
    assert_eq!(arrived(&world, "all"), ["one", "two"], "ids of a session that is over are nobody's");
}

#[test]
fn the_sink_in_memory_gets_a_repeat_that_the_one_on_disk_does_not() {
    let mut world = World::new(&spooled("stored", IN_MEMORY));
    world.kafka_down();
    let device = kept(&mut world, "c", NEW);
    world.bytes(device, &publish(7, "once"));
    world.advance(Duration::from_secs(1));
    assert!(world.sent(device).is_empty(), "the one in memory waits for Kafka");
    world.power_cut();
    let device = kept(&mut world, "c", PRESENT);
    world.bytes(device, &publish(7, "once"));
    world.advance(Duration::from_secs(1));
    assert!(world.sent(device).is_empty());
    world.kafka_up = true;
    world.advance(Duration::from_secs(10));
    assert_eq!(world.sent(device), pubrec(7));
    assert_eq!((arrived(&world, "all").len(), arrived(&world, "memory").len()), (1, 1));
}

#[test]
fn what_is_held_is_bounded_and_ends_with_its_connection() {
    let mut world = World::new(&spooled("stored", ""));
    world.table.disk.slow = true;
    let device = arrive(&mut world, &connect("c", false, None));
    // 5.0, whose clients are told why their connection ends; its session kept for an hour.
    let body = [&string("MQTT")[..], &[5, 0, 0, 0, 5, 0x11, 0, 0, 0x0e, 0x10], &string("rude")].concat();
    let rude = arrive(&mut world, &[&[0x10, u8::try_from(body.len()).expect("short")][..], &body].concat());
    let pings = [0xc0, 0].repeat(1000);
    for _ in 0..40 {
        world.bytes(device, &pings);
    }
    assert!(world.table.wire(device).paused, "it is not read any more");
    world.bytes(rude, &[0xff, 0xff]);
    assert!(world.table.wire(rude).closed && world.sent(rude).is_empty(), "no CONNACK, and nothing else");
    sync(&mut world);
    world.turn();
    assert!(!world.table.wire(device).paused);
    assert_eq!(world.sent(device).len(), 4 + 40 * 2000, "none is lost");
    assert!(world.sent(rude).is_empty());
}

#[test]
fn a_full_spool_takes_no_new_session_and_frees_ids_all_the_same() {
    let mut world = World::new(&spooled("stored", ""));
    let device = kept(&mut world, "c", NEW);
    world.bytes(device, &publish(7, "one"));
    assert_eq!(world.sent(device), pubrec(7));
    let will = "w".repeat(60_000);
    let refused = |world: &mut World, will: Option<&str>| {
        for number in 0..2_000 {
            let conn = arrive(world, &connect(&format!("{number} {}", will.is_some()), false, will));
            match world.sent(conn)[..] {
                [0x20, 2, 0, 0] => {}
                [0x20, 2, 0, 3] => return assert!(world.table.wire(conn).closed, "return code 3"),
                ref other => panic!("{other:?}"),
            }
        }
        panic!("never full");
    };
    refused(&mut world, Some(&will));
    refused(&mut world, None);
    let clean = arrive(&mut world, &connect("clean", true, None));
    assert_eq!(world.sent(clean), NEW);
    let device = kept(&mut world, "c", PRESENT);
    world.bytes(device, &pubrel(7));
    assert_eq!(world.sent(device), pubcomp(7), "from the reserve");
}

#[test]
fn a_will_is_sent_after_a_crash_unless_it_was_taken_back() {
    let mut world = World::new(&spooled("stored", ""));
    for id in ["left", "there"] {
        let device = arrive(&mut world, &connect(id, false, Some(id)));
        assert_eq!(world.sent(device), NEW);
        if id == "left" {
            world.bytes(device, &[0xe0, 0]);
        }
    }
    world.turn();
    world.power_cut();
    world.advance(Duration::from_secs(10));
    assert_eq!(arrived(&world, "all"), ["there"]);
    world.power_cut();
    world.advance(Duration::from_secs(10));
    assert_eq!(arrived(&world, "all"), ["there"], "once");
}
