//! Messages of QoS 0 for a sink that has no room (`qos0_when_full`).

use std::time::Duration;

use forebay::metrics::event::Kind;
use forebay::metrics::spec::{RefusalReason, ShardMetric, SinkMetric};
use forebay::mqtt::packet::{Packet, Version};
use forebay::runtime::seam::ConnId;

use super::spooled;
use super::subscribe::{self, heard};
use super::world::{World, layout};

/// A sink for everything with little memory, and one at another cluster that has more.
const TWO: &str = r##"
[kafka.near]
bootstrap = "127.0.0.1:9092"
buffer_bytes = "16MiB"
[kafka.far]
bootstrap = "127.0.0.1:9093"
buffer_bytes = "64MiB"
[[sink]]
name = "full"
kafka = "near"
filters = ["#"]
topic = "full"
[[sink]]
name = "roomy"
kafka = "far"
filters = ["both"]
topic = "roomy"
"##;

/// A PUBLISH of QoS 0 with a payload of this many bytes.
fn at_most_once(world: &mut World, device: ConnId, topic: &str, bytes: usize) {
    let payload = "x".repeat(bytes);
    subscribe::publish(world, device, Version::V311, subscribe::message(topic, &payload));
}

fn without_room(world: &World, sink: usize) -> u64 {
    world.values()[layout(world.config()).refusal(sink, RefusalReason::NoRoom)]
}

fn arrived(world: &World, topic: &str) -> usize {
    world.broker.records.iter().filter(|(of, ..)| of == topic).count()
}

#[test]
fn finding_r2_a_full_sink_goes_without_messages_of_qos_0_and_nobody_else_does() {
    for what_then in ["drop", "wait"] {
        let config = TWO.replace("topic = \"full\"", &format!("topic = \"full\"\nqos0_when_full = \"{what_then}\""));
        let mut world = World::new(&config);
        world.kafka_down();
        let filler = world.device("filler", 0);
        let last = world.fill(filler);
        let subscriber = world.device("subscriber", 0);
        subscribe::subscribe(&mut world, subscriber, Version::V311, 1, &[("both", subscribe::PLAIN)]);
        let device = world.device("d", 0);
        for _ in 0..10 {
            at_most_once(&mut world, device, "both", 20_000);
        }
        let waits = what_then == "wait";
        let expected = if waits { 0 } else { 10 };
        assert_eq!(world.table.wire(device).paused, waits, "{what_then}");
        assert_eq!(heard(&mut world, subscriber, Version::V311).len(), expected, "{what_then}: subscribers");
        assert_eq!(world.sink_number(1, SinkMetric::Matched), expected as u64, "{what_then}: the other sink");
        assert_eq!((without_room(&world, 0), without_room(&world, 1)), (expected as u64, 0), "{what_then}");
        assert!(world.table.wire(filler).paused, "QoS 1 waits, as the contract says");
        world.advance(Duration::from_secs(2));
        assert_eq!(world.told(Kind::RowsDropped), usize::from(!waits), "{what_then}");
        world.kafka_up = true;
        world.advance(Duration::from_secs(60));
        let full = usize::from(last) + if waits { 10 } else { 0 };
        assert_eq!((arrived(&world, "full"), arrived(&world, "roomy")), (full, 10), "{what_then}");
        assert_eq!(world.sink_number(0, SinkMetric::Matched), full as u64, "{what_then}: what was taken is delivered");
        assert_eq!(world.number(ShardMetric::PublishesRefused), 0, "{what_then}");
        let answered = heard(&mut world, subscriber, Version::V311).len();
        assert_eq!(answered, 10 - expected, "{what_then}: each once");
    }
}

#[test]
fn finding_r2_a_will_of_qos_0_is_dropped_as_well() {
    let mut world = World::new(TWO);
    world.kafka_down();
    let filler = world.device("filler", 0);
    world.fill(filler);
    let mut connect = vec![0x10, 0, 0, 4, b'M', b'Q', b'T', b'T', 4, 0b110, 0, 0, 0, 1, b'w', 0, 4];
    connect.extend_from_slice(b"both");
    connect.extend_from_slice(&[0x9c, 0x40]);
    connect.extend_from_slice(&[b'x'; 40_000]);
    let len = connect.len() - 2;
    connect.splice(1..2, [(len % 128) as u8 | 0x80, (len / 128 % 128) as u8 | 0x80, (len / 128 / 128) as u8]);
    let device = world.accept();
    world.bytes(device, &connect);
    assert_eq!(world.sent(device), [0x20, 2, 0, 0]);
    world.bytes(device, &[0xff, 0xff]);
    world.advance(Duration::from_secs(1));
    assert_eq!((without_room(&world, 0), world.sink_number(1, SinkMetric::Matched)), (1, 1));
}

#[test]
fn finding_r2_a_full_spool_drops_qos_0_and_a_full_group_does_not() {
    let mut world = World::new(&spooled("", ""));
    world.kafka_down();
    let device = world.device("d", 0);
    // All of QoS 0, in few reads: more than a group takes.
    let payload = "x".repeat(15_000);
    let one = subscribe::bytes_of(Version::V311, &Packet::Publish(subscribe::message("t", &payload)));
    for _ in 0..3 {
        world.bytes(device, &one.repeat(50));
        world.advance(Duration::from_millis(100));
    }
    assert_eq!((without_room(&world, 0), world.sink_number(0, SinkMetric::Matched)), (0, 150), "there is room");
    let filler = world.device("filler", 0);
    world.fill(filler);
    at_most_once(&mut world, device, "t", 60_000);
    assert_eq!((without_room(&world, 0), world.table.wire(device).paused), (1, false));
    // Where the oldest make room it waits for that.
    let mut world = World::new(&spooled("when_full = \"drop-oldest\"", ""));
    world.kafka_down();
    let device = world.device("d", 0);
    for _ in 0..1_000 {
        at_most_once(&mut world, device, "t", 30_000);
        world.advance(Duration::from_millis(10));
    }
    world.advance(Duration::from_secs(2));
    assert_eq!((without_room(&world, 0), world.sink_number(0, SinkMetric::Matched)), (0, 1_000));
    assert!(world.sink_number(0, SinkMetric::DroppedOldest) > 0 && !world.table.wire(device).paused);
}
