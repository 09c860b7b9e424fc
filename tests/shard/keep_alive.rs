//! Keep-alive at one and a half times, on the shard's own timer [MQTT-3.1.2-22].

use std::time::Duration;

use super::world::World;
use super::{ONE_SINK, small};

/// The promise: exact to 0.2 s.
const EXACT: Duration = Duration::from_millis(200);

/// [MQTT-3.1.2-22] [3.1.1 MQTT-3.1.2-24] [3.1.1 MQTT-3.1.2-23]
#[test]
fn a_silent_device_is_closed_at_one_and_a_half_times_its_keep_alive() {
    for keep_alive_s in [1u16, 2, 10, 60, 65_535] {
        let mut world = World::new(ONE_SINK);
        let device = world.device("quiet", keep_alive_s);
        let limit = Duration::from_secs(u64::from(keep_alive_s)).mul_f64(1.5);
        world.advance(limit - Duration::from_millis(1));
        assert!(!world.table.wire(device).closed, "{keep_alive_s} s: too early");
        world.advance(EXACT);
        assert!(world.table.wire(device).closed, "{keep_alive_s} s: too late");
    }
}

#[test]
fn every_packet_gives_the_whole_interval_again() {
    let mut world = World::new(ONE_SINK);
    let device = world.device("talker", 10);
    for _ in 0..20 {
        world.advance(Duration::from_secs(14));
        world.bytes(device, &[0xc0, 0]);
        assert_eq!(world.sent(device), [0xd0, 0], "PINGRESP");
    }
    world.advance(Duration::from_millis(14_999));
    assert!(!world.table.wire(device).closed);
    world.advance(EXACT);
    assert!(world.table.wire(device).closed);
}

#[test]
fn half_a_packet_is_no_sign_of_life() {
    let mut world = World::new(ONE_SINK);
    let device = world.device("dripping", 10);
    for byte in [0x32, 0x7f, 0, 1, b'a', 0] {
        world.advance(Duration::from_secs(2));
        world.bytes(device, &[byte]);
    }
    world.advance(Duration::from_secs(3) + EXACT);
    assert!(world.table.wire(device).closed);
}

#[test]
fn keep_alive_zero_never_closes() {
    let mut world = World::new(ONE_SINK);
    let device = world.device("patient", 0);
    world.advance(Duration::from_secs(10 * 24 * 3_600));
    assert!(!world.table.wire(device).closed);
}

#[test]
fn no_connect_in_time_is_closed() {
    let mut world = World::new("[mqtt]\nconnect_timeout = \"5s\"");
    let silent = world.accept();
    let dripping = world.accept();
    world.bytes(dripping, b"\x10\x0f\x00");
    world.advance(Duration::from_millis(4_999));
    assert!(!world.table.wire(silent).closed && !world.table.wire(dripping).closed);
    world.advance(EXACT);
    assert!(world.table.wire(silent).closed && world.table.wire(dripping).closed);
}

#[test]
fn it_rests_while_memory_is_full_and_the_device_is_not_read() {
    let mut world = World::new(&small());
    world.kafka_down();
    let device = world.device("eager", 10);
    let id = world.fill(device);
    world.advance(Duration::from_secs(3_600));
    assert!(!world.table.wire(device).closed, "closed for being silent while it is not read");
    world.kafka_up = true;
    world.advance(Duration::from_secs(5));
    assert!(!world.table.wire(device).paused, "read again once Kafka has taken what was held");
    let answers = world.sent(device);
    assert_eq!(answers.len(), 4 * usize::from(id), "every publish answered, the one that found no room as well");
    world.advance(Duration::from_millis(15_000) + EXACT);
    assert!(world.table.wire(device).closed, "and the clock runs again");
}
