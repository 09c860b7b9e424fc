//! `answer_timeout`: who is owed an answer for too long is sent away, and finds its session when it comes back.

use std::time::Duration;

use forebay::metrics::spec::ShardMetric;

use super::world::{World, publish};

const THIRTY: &str = "[[listener]]\nbind = \"127.0.0.1:1883\"\nanswer_timeout = \"30s\"\n\
    [kafka.main]\nbootstrap = \"127.0.0.1:9092\"\nreconnect_backoff_max = \"1s\"\n\
    [[sink]]\nname = \"all\"\nfilters = \"#\"\ntopic = \"t\"\n";

/// CONNECT of 5.0 with a session that is kept for an hour.
const CONNECT_V5: &[u8] = b"\x10\x14\x00\x04MQTT\x05\x00\x00\x00\x05\x11\x00\x00\x0e\x10\x00\x02v5";

#[test]
fn a_device_of_5_0_is_told_0x89_and_finds_its_session() {
    let mut world = World::new(THIRTY);
    let device = world.accept();
    world.bytes(device, CONNECT_V5);
    assert_eq!(world.sent(device)[0], 0x20);
    world.kafka_down();
    // QoS 2, packet id 7, no properties.
    world.bytes(device, b"\x34\x07\x00\x01t\x00\x07\x00x");
    world.advance(Duration::from_millis(29_900));
    assert!(!world.table.wire(device).closed, "too early");
    world.advance(Duration::from_secs(8));
    assert!(world.table.wire(device).closed, "too late");
    assert_eq!(world.sent(device), b"\xe0\x01\x89");
    assert_eq!(world.number(ShardMetric::AnswerTimeouts), 1);
    let again = world.accept();
    world.bytes(again, CONNECT_V5);
    assert_eq!(world.sent(again)[2], 1, "session present");
    world.bytes(again, b"\x3c\x07\x00\x01t\x00\x07\x00x");
    world.kafka_up = true;
    world.advance(Duration::from_secs(5));
    assert_eq!(world.sent(again)[..2], [0x50, 0x02], "one PUBREC");
    assert_eq!(world.number(ShardMetric::PublishesRepeated), 1);
}

#[test]
fn a_device_of_3_1_1_is_closed_without_a_word() {
    let mut world = World::new(THIRTY);
    let device = world.device("old", 0);
    world.kafka_down();
    let mut bytes = Vec::new();
    publish("t", 1, b"x", &mut bytes);
    world.bytes(device, &bytes);
    world.advance(Duration::from_secs(38));
    assert!(world.table.wire(device).closed && world.sent(device).is_empty());
    assert_eq!(world.number(ShardMetric::AnswerTimeouts), 1);
}

#[test]
fn who_is_answered_in_time_or_owed_nothing_stays() {
    let mut world = World::new(THIRTY);
    let (talker, quiet) = (world.device("talker", 0), world.device("quiet", 0));
    for id in 1..200 {
        let mut bytes = Vec::new();
        publish("t", id, b"x", &mut bytes);
        world.bytes(talker, &bytes);
        world.advance(Duration::from_secs(4));
    }
    world.kafka_down();
    world.advance(Duration::from_secs(600));
    assert!(!world.table.wire(talker).closed && !world.table.wire(quiet).closed);
    assert_eq!(world.number(ShardMetric::AnswerTimeouts), 0);
}
