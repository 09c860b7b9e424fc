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
