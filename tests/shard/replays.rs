//! Retained messages for new subscriptions, while their client, another one or the shard itself is slow, away or busy.

use std::time::Duration;

use forebay::mqtt::packet::{Packet, Publish, QoS, SubscriptionOptions, Version};
use forebay::runtime::seam::{Closed, ConnId, Shard as _};

use super::fair::publish_at_once;
use super::retained::settled;
use super::subscribe::{PLAIN, bytes_of, heard, message, publish, subscribe_and_hear, subscribe_packet, world};
use super::world::World;

const QOS_1: SubscriptionOptions = SubscriptionOptions { qos: QoS::AtLeastOnce, ..PLAIN };

/// Retains a message of each topic.
fn retain(world: &mut World, topics: impl IntoIterator<Item = String>, payload: &str) {
    let publisher = world.device_v5("retains");
    for topic in topics {
        let of = Publish { retain: true, qos: QoS::AtLeastOnce, packet_id: 1, ..message(&topic, payload) };
        publish_at_once(world, publisher, [of]);
    }
}

/// Whether the shard has asked for another turn.
fn wants_turn(world: &World) -> bool {
    world.table.timers.keys().any(|(at, _)| *at <= world.table.now)
}

/// The turns that the shard asks for, and no other ones.
fn asked_turns(world: &mut World) {
    let now = world.table.now;
    world.timers(now);
}

#[test]
fn a_subscription_behind_another_one_is_answered_though_nothing_else_happens() {
    let mut world = world();
    retain(&mut world, ["a", "b"].map(str::to_owned), "x");
    // Clean start, Receive Maximum 1.
    let conn = world.connect_v5("s", &[2, 0, 0, 3, 0x21, 0, 1]);
    world.sent(conn);
    let (_, mut got) = subscribe_and_hear(&mut world, conn, Version::V5, 0, &[("a", QOS_1)]);
    asked_turns(&mut world);
    got.extend(heard(&mut world, conn, Version::V5));
    assert_eq!(got, ["a x qos 1 id 1 retain"]);
    let (_, got) = subscribe_and_hear(&mut world, conn, Version::V5, 0, &[("b", QOS_1)]);
    asked_turns(&mut world);
    assert!(got.is_empty() && world.sent(conn).is_empty(), "it has not acknowledged the first");
    world.bytes(conn, &[0x40, 2, 0, 1]);
    asked_turns(&mut world);
    assert_eq!(heard(&mut world, conn, Version::V5), ["b x qos 1 id 2 retain"]);
}

#[test]
fn a_turn_looks_at_some_of_what_is_retained() {
    const RETAINED: usize = 5_000;
    let mut world = world();
    retain(&mut world, (0..RETAINED).map(|number| format!("d/{number}/x")), "x");
    let conn = world.device_v5("s");
    world.advance(Duration::from_secs(1));
    assert!(!wants_turn(&world));
    world.bytes(conn, &subscribe_packet(Version::V5, 0, &[("d/+/nothing", PLAIN), ("+/+/nothing", PLAIN)]));
    let mut turns = 1;
    while wants_turn(&world) {
        let now = world.table.now;
        let token = world.table.next_timer(now).expect("one that is due");
        world.core.on_timer(&mut world.table, token);
        world.turn();
        turns += 1;
    }
    assert!((8..100).contains(&turns), "{turns}");
}

#[test]
fn clients_are_sent_what_is_retained_in_turn() {
    let mut world = world();
    retain(&mut world, (0..3_000).map(|number| format!("t/{number}")).chain(["z".to_owned()]), "x");
    let (fast, other) = (world.device_v5("fast"), world.device_v5("other"));
    world.feed(fast, &subscribe_packet(Version::V5, 0, &[("#", PLAIN)]));
    world.feed(other, &subscribe_packet(Version::V5, 0, &[("z", PLAIN)]));
    let mut turns = 0;
    loop {
        world.turn();
        turns += 1;
        world.sent(fast);
        // Behind SUBACK.
        if world.sent(other).windows(2).any(|two| two == b"zx" || two == [b'z', 0]) {
            break;
        }
        assert!(turns < 4, "it waits for all of the other one's");
    }
}

/// A client that reads nothing, and asks for all.
fn slow(world: &mut World, conn: ConnId) {
    world.bytes(conn, &subscribe_packet(Version::V5, 0, &[("#", PLAIN)]));
    world.advance(Duration::from_millis(1));
}

#[test]
fn what_a_client_missed_while_it_was_away_for_a_moment_is_sent_as_retained() {
    let mut world = world();
    retain(&mut world, (0..30).map(|number| format!("t/{number:03}")), &"x".repeat(10_000));
    let publisher = world.device_v5("p");
    let (conn, _) = world.kept_v5("s");
    slow(&mut world, conn);
    // No turn comes in between.
    world.core.on_close(&mut world.table, conn, Closed::Peer);
    world.feed(publisher, &bytes_of(Version::V5, &Packet::Publish(Publish { retain: true, ..message("z", "new") })));
    let (conn, _) = world.kept_v5("s");
    let got = settled(&mut world, conn);
    assert_eq!(got.iter().filter(|text| text.starts_with('z')).collect::<Vec<_>>(), ["z new retain"]);
}

#[test]
fn what_a_slow_client_missed_is_sent_as_retained() {
    let mut world = world();
    retain(&mut world, (0..30).map(|number| format!("t/{number:03}")), &"x".repeat(10_000));
    let (publisher, conn) = (world.device_v5("p"), world.device_v5("s"));
    slow(&mut world, conn);
    let payload = "y".repeat(10_000);
    for number in 0..60 {
        let topic = format!("u/{number:03}");
        publish(&mut world, publisher, Version::V5, Publish { retain: true, ..message(&topic, &payload) });
    }
    let got = settled(&mut world, conn);
    let topics: std::collections::BTreeSet<_> = got.iter().filter_map(|text| text.get(..5)).collect();
    let missing: Vec<_> = (0..60).map(|number| format!("u/{number:03}")).filter(|of| !topics.contains(&**of)).collect();
    assert_eq!(missing, [""; 0]);
}

/// What came live instead of a retained message was dropped from its queue before the replay had come to its topic.
#[test]
fn what_a_full_queue_has_dropped_is_sent_as_retained() {
    let mut world = World::new(&format!("{}\n[delivery]\nqueue_messages_max = 3\n", super::small()));
    let publisher = world.device_v5("p");
    for topic in ["a", "b", "z"] {
        let of = Publish { retain: true, qos: QoS::AtLeastOnce, packet_id: 1, ..message(topic, "old") };
        publish(&mut world, publisher, Version::V5, of);
    }
    let conn = world.connect_v5("s", &[0, 0, 0, 8, 0x11, 0, 0, 0x0E, 0x10, 0x21, 0, 1]);
    world.sent(conn);
    world.bytes(conn, &subscribe_packet(Version::V5, 0, &[("#", super::queues::QOS_1)]));
    world.advance(Duration::from_millis(1));
    let live = |topic| Publish { qos: QoS::AtLeastOnce, packet_id: 1, ..message(topic, "new") };
    publish(&mut world, publisher, Version::V5, Publish { retain: true, ..live("z") });
    (0..3).for_each(|_| publish(&mut world, publisher, Version::V5, live("n")));
    let mut got = Vec::new();
    for _ in 0..20 {
        let heard = settled(&mut world, conn);
        for text in heard.iter().filter(|text| !text.starts_with("SubAck")) {
            let id: u16 = text
                .split(" id ")
                .nth(1)
                .and_then(|id| id.split(' ').next()?.parse().ok())
                .unwrap_or_else(|| panic!("{heard:?}"));
            super::queues::answer(&mut world, conn, 4, id);
        }
        got.extend(heard);
    }
    assert!(got.iter().any(|text| text.starts_with("z new")), "{got:?}");
}
