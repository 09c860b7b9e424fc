//! Peers that send little and cost much, or try to.

use forebay::limits::PARTIAL_BYTES_MAX;
use forebay::runtime::seam::Shard;

use super::ONE_SINK;
use super::allocation::counted;
use super::world::World;

#[test]
fn a_connect_that_comes_byte_by_byte_is_gathered_once() {
    const BYTES: usize = 60_000;
    let mut world = World::new(ONE_SINK);
    let conn = world.accept();
    // A will of 60,000 bytes, announced and never finished.
    world.bytes(conn, b"\x10\xff\xff\x07\x00\x04MQTT\x04\x06\x00\x00\x00\x01d\x00\x01w\xff\xff");
    let allocations = counted(|| {
        for _ in 0..BYTES / 10 {
            world.core.on_bytes(&mut world.table, conn, &[b'x'; 10]);
        }
    });
    assert!(!world.table.wire(conn).closed);
    assert!(allocations < 100, "{allocations} allocations: all that has come is copied for each piece");
}

/// X5, X49: the largest holder ends.
#[test]
fn who_fills_the_memory_for_half_packets_pays_and_not_who_comes_last() {
    let mut world = World::new(ONE_SINK);
    // Each announces a PUBLISH of a megabyte and leaves out its last byte.
    let mut half = b"\x30\x80\x80\x3e\x00\x01t".to_vec();
    half.resize(4 + 0x0f_8000 - 1, b'x');
    let hostile: Vec<_> = (0..PARTIAL_BYTES_MAX / half.len()).map(|i| world.device(&format!("h{i}"), 0)).collect();
    hostile.iter().for_each(|conn| world.bytes(*conn, &half));
    let rest = PARTIAL_BYTES_MAX % half.len();
    let last = world.device("h", 0);
    world.bytes(last, &half[..rest]);
    let honest = world.device("honest", 0);
    world.bytes(honest, b"\x30\x03");
    assert!(!world.table.wire(honest).closed, "closed for what others did");
    world.bytes(honest, b"\x00\x01t");
    world.advance(std::time::Duration::from_millis(10));
    assert_eq!(world.broker.records.len(), 1);
    let closed = hostile.iter().filter(|conn| world.table.wire(**conn).closed).count();
    assert_eq!(closed, 1);
}

/// Finding M3: what is announced works: as many large packets as may be half received at a time, and of each size.
#[test]
fn finding_m3_large_packets_are_taken() {
    let mut world =
        World::new(&format!("[mqtt]\npacket_bytes_max = \"80MiB\"\n{}", ONE_SINK.replace("\"#\"", "\"to/kafka\"")));
    let subscriber = world.device("s", 0);
    super::subscribe::subscribe(
        &mut world,
        subscriber,
        forebay::mqtt::packet::Version::V311,
        0,
        &[("$SYS/none", super::subscribe::PLAIN)],
    );
    // PUBLISH at QoS 1 with a payload of 40 MiB, and one of 72 MiB; each misses its end.
    let large = |mib: usize| {
        let rest = mib << 20;
        let length = [
            (rest & 127) as u8 | 128,
            (rest >> 7 & 127) as u8 | 128,
            (rest >> 14 & 127) as u8 | 128,
            (rest >> 21) as u8,
        ];
        let mut packet = [&[0x32][..], &length, b"\x00\x01t\x00\x01"].concat();
        packet.resize(5 + rest, b'x');
        packet
    };
    for (mib, count) in [(40, 5), (72, 1)] {
        let packet = large(mib);
        let (first, last) = packet.split_at(packet.len() - 1);
        let devices: Vec<_> = (0..count).map(|i| world.device(&format!("{mib} {i}"), 0)).collect();
        devices.iter().for_each(|conn| world.bytes(*conn, first));
        for conn in devices {
            world.bytes(conn, last);
            assert!(!world.table.wire(conn).closed, "{mib} MiB");
            assert_eq!(world.sent(conn), [0x40, 2, 0, 1]);
            world.core.on_close(&mut world.table, conn, forebay::runtime::seam::Closed::Peer);
            world.table.release(conn);
        }
    }
}

/// Flags, keep-alive and properties of a CONNECT with a will.
fn connect_with_will(client: &str, will: &[u8]) -> Vec<u8> {
    let text = |text: &str| [&[0, u8::try_from(text.len()).expect("short")][..], text.as_bytes()].concat();
    let body = [&text("MQTT")[..], &[5, 4, 0, 0, 0], &text(client), will].concat();
    [&[0x10, u8::try_from(body.len()).expect("short")][..], &body].concat()
}

/// A will that is refused is kept by nobody: what its CONNECT has taken is given back, however many come.
#[test]
fn wills_of_malformed_connects_leave_nothing_behind() {
    let mut world = World::new(ONE_SINK);
    let before = super::gauges::left(&world);
    let wills: [&[u8]; 6] = [
        // A property that a will cannot have, one twice, a length that is not there, an empty topic, no UTF-8, cut off.
        b"\x02\x21\x05\x00\x01w\x00\x01p",
        b"\x0a\x18\x00\x00\x00\x05\x18\x00\x00\x00\x05\x00\x01w\x00\x01p",
        b"\x00\x00\x01w\xff\xff",
        b"\x00\x00\x00\x00\x01p",
        b"\x00\x00\x02\xc3\x28\x00\x01p",
        b"\x00\x00\x05w",
    ];
    for round in 0..300 {
        for (kind, will) in wills.iter().enumerate() {
            let conn = world.accept();
            world.bytes(conn, &connect_with_will(&format!("w{kind}"), will));
            assert!(world.table.wire(conn).closed, "will {kind} of round {round} is taken");
            super::queues::lose(&mut world, conn);
            world.table.release(conn);
        }
    }
    world.advance(std::time::Duration::from_secs(1));
    assert_eq!(super::gauges::left(&world), before);
    assert!(world.broker.records.is_empty(), "and none is published");
}

/// Messages of QoS 2 whose publisher never releases them have a bound while it is there, and end with its session.
#[test]
fn what_is_never_released_leaves_nothing_behind() {
    let mut world = World::new(ONE_SINK);
    let before = super::gauges::left(&world);
    for round in 0..10 {
        let conn = world.device_v5("publisher");
        for id in 1..=3_000u16 {
            let [high, low] = id.to_be_bytes();
            world.bytes(conn, &[0x34, 7, 0, 1, b't', high, low, 0, b'x']);
            if world.table.wire(conn).closed {
                break;
            }
        }
        assert!(world.table.wire(conn).closed, "round {round}: no bound for what is never released");
        super::queues::lose(&mut world, conn);
        world.table.release(conn);
        for _ in 0..20 {
            world.advance(std::time::Duration::from_millis(100));
        }
        assert_eq!(super::gauges::left(&world), before, "round {round}");
    }
}

/// Each setting that is a number, at the least that it may be: messages are taken, retained and sent, and nothing divides by it.
#[test]
fn settings_at_their_least_take_and_retain_messages() {
    let least = r#"
[service]
drain_grace = "0s"
[mqtt]
packet_bytes_max = "1KiB"
receive_maximum = 1
qos2_inflight_3x = 1
topic_alias_maximum = 0
connect_timeout = "100ms"
keep_alive_max = "0s"
session_expiry_max = "0s"
session_expiry_3x = "0s"
unauthenticated_max = 16
takeovers_max = 0
connections_per_address = 0
failures_per_address = 0
sessions_max = 1
[delivery]
queue_messages_max = 1
queue_bytes_max = "1KiB"
[retained]
messages_max = 1
bytes_max = "1MiB"
expire_after = "1s"
"#;
    let sink = r#"linger = "0us"
batch_bytes = "1KiB"
record_bytes_max = "1KiB"
max_inflight = 1
expire_after = "1s"
unknown_topic_timeout = "1s"
"#;
    let mut world = World::new(&format!("{least}{}{sink}", ONE_SINK));
    let conn = world.device_v5("only");
    // Subscribes to all, and publishes what is to be retained.
    world.bytes(conn, b"\x82\x07\x00\x01\x00\x00\x01#\x00");
    world.bytes(conn, b"\x33\x07\x00\x01t\x00\x01\x00x");
    world.bytes(conn, b"\x33\x07\x00\x01u\x00\x02\x00x");
    for _ in 0..20 {
        world.advance(std::time::Duration::from_millis(100));
    }
    assert!(!world.table.wire(conn).closed);
    assert_eq!(world.broker.records.len(), 2, "both are in Kafka");
}
