//! What clients leave unread at QoS 0: how much, and that all of them together have a bound.

use forebay::metrics::spec::ShardMetric as M;
use forebay::mqtt::packet::{Packet, QoS, SubscriptionOptions, Version};
use forebay::runtime::seam::{Closed, ConnId, Shard as _};

use super::queues::config;
use super::subscribe::{PLAIN, bytes_of, heard, message, publish, subscribe, world};
use super::world::{ONE_SINK, World};

const AHEAD: u64 = 64 << 10;

/// So many messages of 100 bytes, numbered, on this topic.
fn publish_many(world: &mut World, publisher: ConnId, topic: &str, count: usize) {
    for from in (0..count).step_by(100) {
        let payload = |number| format!("{number:0100}");
        let packet = |number| bytes_of(Version::V5, &Packet::Publish(message(topic, &payload(number))));
        let bytes: Vec<u8> = (from..count.min(from + 100)).flat_map(packet).collect();
        world.bytes(publisher, &bytes);
    }
}

/// Finding M8: a client that pauses for a moment and then reads.
#[test]
fn finding_m8_a_client_may_leave_a_megabyte_unread_and_loses_nothing() {
    let mut world = world();
    let (publisher, client) = (world.device_v5("p"), world.device_v5("c"));
    subscribe(&mut world, client, Version::V5, 0, &[("t", PLAIN)]);
    publish_many(&mut world, publisher, "t", 9_500);
    assert_eq!(world.number(M::CopiesSlow), 0);
    let unread = world.table.wire(client).out.len() as u64;
    assert!((950_000..1 << 20).contains(&unread), "{unread}");
    assert_eq!(world.number(M::CopiesUnreadBytes), unread - AHEAD);
    let came = heard(&mut world, client, Version::V5);
    assert!(came.len() == 9_500 && came.iter().enumerate().all(|(at, of)| *of == format!("t {at:0100}")));
    world.turn();
    assert_eq!(world.number(M::CopiesUnreadBytes), 0);
    // And not more than a megabyte.
    publish_many(&mut world, publisher, "t", 11_000);
    let came = heard(&mut world, client, Version::V5).len() as u64;
    assert_eq!(came + world.number(M::CopiesSlow), 11_000);
    assert!((9_500..10_500).contains(&came), "{came}");
}

#[test]
fn finding_m8_how_much_may_be_unread_is_a_setting() {
    for (key, bytes) in [("64KiB", 64 << 10), ("128KiB", 128 << 10), ("2MiB", 2 << 20)] {
        let text = ONE_SINK.replace("\"#\"", "\"to/kafka/#\"");
        let mut world = World::new(&format!("{text}\n[delivery]\nunread_bytes_max = \"{key}\"\n"));
        let (publisher, client) = (world.device_v5("p"), world.device_v5("c"));
        subscribe(&mut world, client, Version::V5, 0, &[("t", PLAIN)]);
        publish_many(&mut world, publisher, "t", 19_000);
        let unread = world.table.wire(client).out.len();
        assert!((bytes..bytes + 200).contains(&unread) || world.number(M::CopiesSlow) == 0, "{key}: {unread}");
        assert_eq!(world.number(M::CopiesSlow) > 0, bytes < 2 << 20, "{key}");
    }
}

/// What all clients leave unread takes a quarter of the room for messages that wait, and leaves the rest to those of QoS 1 and 2.
#[test]
fn finding_m8_what_all_clients_leave_unread_has_a_bound_in_the_room_for_what_waits() {
    let mut world = World::new(&format!("{}\n[delivery]\nunread_bytes_max = \"64MiB\"\n", config()));
    let publisher = world.device_v5("p");
    let room = world.number(M::RememberedBytesMax);
    let clients: Vec<ConnId> = (0..4).map(|number| world.device_v5(&format!("c{number}"))).collect();
    for client in &clients {
        subscribe(&mut world, *client, Version::V5, 0, &[("t", PLAIN)]);
    }
    let payload = "x".repeat(10_000);
    let fill = |world: &mut World| {
        let dropped = world.number(M::CopiesSlow);
        while world.number(M::CopiesSlow) < dropped + 4 {
            publish(world, publisher, Version::V5, message("t", &payload));
        }
        let unread = world.number(M::CopiesUnreadBytes);
        assert!((room / 4 - 50_000..=room / 4).contains(&unread), "{unread} of {room}");
    };
    fill(&mut world);
    // One reads, and one goes: their parts are free, and others fill them.
    let before = world.number(M::CopiesUnreadBytes);
    world.sent(clients[0]);
    world.core.on_close(&mut world.table, clients[1], Closed::Peer);
    world.turn();
    let left = world.number(M::CopiesUnreadBytes);
    assert!((before / 2 - 50_000..before / 2 + 50_000).contains(&left), "{left} of {before}");
    fill(&mut world);
    // A client that reads is sent messages of any size, though there is no room.
    let reader = world.device_v5("reader");
    subscribe(&mut world, reader, Version::V5, 0, &[("large", PLAIN)]);
    publish(&mut world, publisher, Version::V5, message("large", &"x".repeat(500_000)));
    assert_eq!(heard(&mut world, reader, Version::V5).len(), 1);
    // What waits at QoS 1 for another one finds the rest of the room.
    let (away, _) = world.kept_v5("away");
    subscribe(&mut world, away, Version::V5, 0, &[("away", SubscriptionOptions { qos: QoS::AtLeastOnce, ..PLAIN })]);
    world.core.on_close(&mut world.table, away, Closed::Peer);
    world.turn();
    let mut packet_id = 0;
    while world.number(M::CopiesQueueFull) == 0 {
        packet_id += 1;
        let of = message("away", &payload);
        publish(
            &mut world,
            publisher,
            Version::V5,
            forebay::mqtt::packet::Publish { qos: QoS::AtLeastOnce, packet_id, ..of },
        );
        world.sent(publisher);
    }
    let (remembered, unread) = (world.number(M::RememberedBytes), world.number(M::CopiesUnreadBytes));
    assert!(remembered + unread <= room && remembered > room / 2, "{remembered} and {unread} of {room}");
    // When all have read there is nothing left.
    clients.iter().for_each(|client| drop(world.sent(*client)));
    world.turn();
    assert_eq!(world.number(M::CopiesUnreadBytes), 0);
}
