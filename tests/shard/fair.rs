//! What one client has, or does not take, costs no other one.

use std::time::Duration;

use forebay::limits::{COPY_BYTES, REPLAY_COPIES_PER_TURN};
use forebay::metrics::spec::ShardMetric as M;
use forebay::mqtt::FilterBuf;
use forebay::mqtt::packet::{Packet, Publish, QoS, Unsubscribe, Version};
use forebay::mqtt::property::{Properties, Property, PropertyBuf};
use forebay::runtime::seam::ConnId;

use super::kept::{arrive, connect};
use super::process::packets;
use super::queues::{Heard, QOS_1, QOS_2, again, answer, back, config, hear, lose, rest, said, say};
use super::retained::{replayed, settled};
use super::shares::{member, vanish};
use super::subscribe::{
    PLAIN, bytes_of, heard, in_words, message, publish, subscribe, subscribe_and_hear, subscribe_packet, world,
};
use super::world::World;

/// A kept session with this subscription, whose client is away.
fn away(world: &mut World, client: &str, filter: &str) {
    let (conn, _) = world.kept_v5(client);
    assert_eq!(subscribe(world, conn, Version::V5, 0, &[(filter, QOS_1)]), [1]);
    lose(world, conn);
}

/// Publishes so many messages at QoS 1, and takes what its publisher is answered.
fn flood(world: &mut World, publisher: ConnId, topic: &str, payload: &str, count: usize) {
    for number in 0..count {
        let packet_id = u16::try_from(number % 60_000 + 1).expect("below");
        let of = Publish { qos: QoS::AtLeastOnce, packet_id, ..message(topic, payload) };
        publish(world, publisher, Version::V5, of);
        if number % 16 == 15 {
            world.advance(Duration::from_millis(1));
            world.sent(publisher);
        }
    }
    world.advance(Duration::from_millis(1));
    world.sent(publisher);
}

fn leave(world: &mut World, conn: ConnId, filter: &str) {
    let mut filters = FilterBuf::for_unsubscribe();
    assert!(filters.push(filter, PLAIN));
    let packet = Unsubscribe { packet_id: 9, properties: Properties::EMPTY, filters: filters.as_filters() };
    world.bytes(conn, &bytes_of(Version::V5, &Packet::Unsubscribe(packet)));
    world.advance(Duration::from_millis(1));
    world.sent(conn);
}

#[test]
fn long_queues_make_room_for_short_ones() {
    const FLOOD: usize = 4_000;
    let mut world = World::new(&config());
    away(&mut world, "flooded", "flood/#");
    away(&mut world, "quiet", "t");
    let (there, _) = world.kept_v5("there");
    subscribe(&mut world, there, Version::V5, 0, &[("t", QOS_2)]);
    let publisher = world.device_v5("p");
    flood(&mut world, publisher, "flood/a", "x", FLOOD);
    let stored = world.number(M::StoredMessages) as usize;
    let dropped = world.number(M::CopiesQueueFull) as usize;
    assert_eq!(stored + dropped, FLOOD, "what a queue has lost is counted");
    assert!(dropped > 1_000, "{dropped}: the log can keep track of fewer");

    say(&mut world, publisher, QoS::ExactlyOnce, 1, "important");
    world.advance(Duration::from_millis(1));
    assert!(matches!(hear(&mut world, there)[..], [Heard::Message { qos: 2, .. }]), "its queue is short");
    world.power_cut();
    let quiet = back(&mut world, "quiet").1;
    assert!(matches!(&quiet[..], [Heard::Message { payload, .. }] if payload == "important"), "{quiet:?}");
    let (_, first) = back(&mut world, "flooded");
    let Heard::Message { id, .. } = first[0] else { panic!("{first:?}") };
    assert!(usize::from(id) > dropped / 2, "{id}: the oldest are gone");
}

/// Large messages that wait behind small ones, for a client that is away: as many of these go as each needs. `bytes`: of what waits.
fn holds_no_more_bytes_than_it_may(filter: &str, bytes: M) {
    let mut world = World::new(&format!("{}\n[delivery]\nqueue_bytes_max = \"100KiB\"\n", config()));
    away(&mut world, "s", filter);
    let publisher = world.device_v5("p");
    flood(&mut world, publisher, "t", "x", 100);
    flood(&mut world, publisher, "t", &"y".repeat(50_000), 5);
    assert_eq!(world.number(M::CopiesQueueFull), 100 + 3);
    assert!(world.number(bytes) <= 100 << 10, "{}", world.number(bytes));
}

#[test]
fn a_queue_holds_no_more_bytes_than_it_may() {
    holds_no_more_bytes_than_it_may("t", M::RememberedBytes);
}

#[test]
fn the_line_of_a_share_holds_no_more_bytes_than_it_may() {
    holds_no_more_bytes_than_it_may("$share/g/t", M::ShareQueuedBytes);
}

#[test]
fn rows_leave_room_to_retained_messages_and_sessions() {
    let mut world = World::new(&config());
    world.kafka_down();
    for size in [8_000, 500, 20, 1] {
        let (publisher, payload) = (world.device_v5(&format!("p{size}")), "x".repeat(size));
        for number in 0_u32.. {
            let packet_id = u16::try_from(number % 60_000 + 1).expect("below");
            let of = Publish { qos: QoS::AtLeastOnce, packet_id, ..message("to/kafka/a", &payload) };
            publish(&mut world, publisher, Version::V5, of);
            world.advance(Duration::from_millis(1));
            if world.table.wire(publisher).paused {
                break;
            }
        }
    }
    let other = world.device_v5("other");
    let of = Publish { qos: QoS::AtLeastOnce, packet_id: 1, retain: true, ..message("t", "kept") };
    publish(&mut world, other, Version::V5, of);
    world.advance(Duration::from_millis(1));
    assert_eq!(hear(&mut world, other), [Heard::Answer { kind: 4, id: 1 }]);
    let conn = arrive(&mut world, &connect("new", false, None));
    assert_eq!(world.sent(conn), [0x20, 2, 0, 0]);
}

#[test]
fn clients_that_take_no_retained_messages_do_not_keep_others_from_theirs() {
    const DEAF: usize = 200;
    let mut world = world();
    let publisher = world.device_v5("p");
    for topic in ["r/1", "r/2", "r/3"] {
        publish(
            &mut world,
            publisher,
            Version::V5,
            Publish { retain: true, qos: QoS::AtLeastOnce, packet_id: 1, ..message(topic, "x") },
        );
    }
    // They take one, and do not acknowledge it.
    let mut deaf = Vec::new();
    for number in 0..DEAF {
        let conn = member(&mut world, &format!("deaf-{number}"), 1, 0, false);
        let (codes, first) = subscribe_and_hear(&mut world, conn, Version::V5, 0, &[("r/#", QOS_1)]);
        assert_eq!(codes, [1]);
        deaf.push((conn, first));
    }
    let honest = world.device_v5("honest");
    assert_eq!(replayed(&mut world, honest, 0, &[("r/2", PLAIN)]), ["r/2 x retain"]);
    // And when one of them acknowledges, it gets what is left, each once.
    for (conn, mut got) in [deaf.remove(3), deaf.remove(DEAF - 2)] {
        let mut all = Vec::new();
        for _ in 0..5 {
            got.extend(settled(&mut world, conn));
            for of in got.drain(..) {
                let (_, id) = of.split_once(" id ").expect("an identifier");
                let id: u16 = id.split(' ').next().and_then(|id| id.parse().ok()).expect("a number");
                answer(&mut world, conn, 4, id);
                all.push(of.split(' ').next().expect("a topic").to_owned());
            }
            world.advance(Duration::from_millis(100));
        }
        all.sort();
        assert_eq!(all, ["r/1", "r/2", "r/3"]);
    }
}

/// So many subscribers of `crowd`.
pub(crate) fn crowd(world: &mut World, count: usize) -> Vec<ConnId> {
    let join = |number| {
        let conn = world.device_v5(&format!("c{number}"));
        subscribe(world, conn, Version::V5, 0, &[("crowd", PLAIN)]);
        conn
    };
    (0..count).map(join).collect()
}

/// Publishes these in one read, and lets one turn pass.
pub(crate) fn publish_at_once<const N: usize>(world: &mut World, publisher: ConnId, of: [Publish<'_>; N]) {
    let bytes: Vec<u8> = of.into_iter().flat_map(|of| bytes_of(Version::V5, &Packet::Publish(of))).collect();
    world.bytes(publisher, &bytes);
}

/// What a client is sent behind its CONNACK.
fn heard_behind_connack(world: &mut World, conn: ConnId) -> Vec<String> {
    let mut connack = world.sent(conn);
    assert_eq!((connack[0], connack[3]), (0x20, 0), "CONNACK");
    let behind = connack.split_off(2 + usize::from(connack[1]));
    in_words(&behind, Version::V5)
}

/// How many of a crowd have more than so many bytes.
fn with_more_than(world: &mut World, crowd: &[ConnId], bytes: usize) -> usize {
    crowd.iter().filter(|conn| world.table.wire(**conn).out.len() > bytes).count()
}

#[test]
fn others_pass_a_message_for_many_but_not_those_of_its_topic() {
    const CROWD: usize = 1_500;
    let mut world = world();
    let crowd = crowd(&mut world, CROWD);
    let (publisher, neighbour) = (world.device_v5("p"), world.device_v5("n"));
    subscribe(&mut world, neighbour, Version::V5, 0, &[("t", PLAIN)]);
    let of = [message("crowd", "1"), message("crowd", "2"), message("t", "3"), message("crowd", "4")];
    publish_at_once(&mut world, publisher, of);
    assert_eq!(heard(&mut world, neighbour, Version::V5), ["t 3"]);
    let had = with_more_than(&mut world, &crowd, 0);
    assert!(had > 0 && had < CROWD, "{had}: a turn makes copies for some");
    assert!(world.number(M::DeliveryLineBytes) > 0);
    world.advance(Duration::from_millis(1));
    for conn in crowd {
        assert_eq!(heard(&mut world, conn, Version::V5), ["crowd 1", "crowd 2", "crowd 4"]);
    }
    assert_eq!(world.number(M::DeliveryLineBytes), 0);
}

#[test]
fn turns_are_longer_while_nothing_but_messages_for_many_is_published() {
    const CROWD: usize = 1_500;
    let mut world = world();
    let crowd = crowd(&mut world, CROWD);
    let publisher = world.device_v5("p");
    let one = bytes_of(Version::V5, &Packet::Publish(message("crowd", "1"))).len();
    publish_at_once(&mut world, publisher, [message("crowd", "1")]);
    world.advance(Duration::from_millis(200));
    assert_eq!(with_more_than(&mut world, &crowd, 0), CROWD);
    publish_at_once(&mut world, publisher, [message("crowd", "2")]);
    assert_eq!(with_more_than(&mut world, &crowd, one), CROWD);
    let some = 1..CROWD;
    // With something else, for nobody; and soon after it.
    publish_at_once(&mut world, publisher, [message("t", "x"), message("crowd", "3")]);
    assert!(some.contains(&with_more_than(&mut world, &crowd, 2 * one)));
    world.advance(Duration::from_millis(50));
    publish_at_once(&mut world, publisher, [message("crowd", "4")]);
    assert!(some.contains(&with_more_than(&mut world, &crowd, 3 * one)));
    world.advance(Duration::from_millis(200));
    publish_at_once(&mut world, publisher, [message("crowd", "5")]);
    assert_eq!(with_more_than(&mut world, &crowd, 4 * one), CROWD);
}

/// Or a client that has read everything would lose what is above `unread_bytes_max`, because a turn has not written to it.
#[test]
fn a_turn_makes_fewer_copies_of_large_messages() {
    const CROWD: usize = 100;
    let large = "x".repeat(32 << 10);
    let mut world = world();
    let crowd = crowd(&mut world, CROWD);
    let publisher = world.device_v5("p");
    publish_at_once(&mut world, publisher, [message("t", "x"), message("crowd", &large)]);
    let had = with_more_than(&mut world, &crowd, 0);
    assert!((1..8).contains(&had), "{had}");
    world.advance(Duration::from_millis(1));
    assert_eq!(with_more_than(&mut world, &crowd, 0), CROWD);
}

/// A turn sends clients that have just subscribed some of what is retained, and fewer of it that are large.
#[test]
fn a_turn_sends_some_retained_messages() {
    const CLIENTS: usize = 8;
    const RETAINED: usize = 500;
    for (size, at_most) in [(10, REPLAY_COPIES_PER_TURN), (4 * COPY_BYTES, REPLAY_COPIES_PER_TURN / 4)] {
        let mut world = world();
        let publisher = world.device_v5("p");
        let payload = "x".repeat(size);
        for number in 0..RETAINED {
            let topic = format!("t/{number}");
            publish_at_once(&mut world, publisher, [Publish { retain: true, ..message(&topic, &payload) }]);
        }
        let clients: Vec<ConnId> = (0..CLIENTS).map(|number| world.device_v5(&format!("s{number}"))).collect();
        let packet = subscribe_packet(Version::V5, 0, &[("#", PLAIN)]);
        clients.iter().for_each(|conn| world.feed(*conn, &packet));
        let (mut most, mut all) = (0, 0);
        for _ in 0..1_000 {
            world.turn();
            let out = |conn: &ConnId| std::mem::take(&mut world.table.wire(*conn).out);
            let out: Vec<u8> = clients.iter().flat_map(out).collect();
            let copies = packets(&out).filter(|packet| matches!(packet, Packet::Publish(_))).count();
            (all, most) = (all + copies, most.max(copies));
        }
        assert_eq!(all, CLIENTS * RETAINED);
        assert!((at_most / 2..=at_most).contains(&most), "{most} of {size} bytes in a turn");
    }
}

/// A client that reads and acknowledges nothing, or does that and goes: others get their messages.
fn acknowledges_nothing(qos: QoS, goes: bool) {
    const MESSAGES: usize = 400;
    let mut world = World::new(&config());
    let hog = world.connect_v5("hog", &[0, 0, 0, 8, 0x11, 0, 0, 0x0E, 0x10, 0x21, 0x04, 0]);
    world.sent(hog);
    let options = if qos == QoS::ExactlyOnce { QOS_2 } else { QOS_1 };
    assert_eq!(subscribe(&mut world, hog, Version::V5, 0, &[("hog", options)]), [qos as u8]);
    let (other, _) = world.kept_v5("other");
    assert_eq!(subscribe(&mut world, other, Version::V5, 0, &[("t", QOS_1)]), [1]);
    let publisher = world.device_v5("p");
    let payload = "x".repeat(30_000);
    for number in 0..MESSAGES {
        let packet_id = number as u16 + 1;
        publish(&mut world, publisher, Version::V5, Publish { qos, packet_id, ..message("hog", &payload) });
        world.advance(Duration::from_millis(1));
        world.sent(hog);
        world.sent(publisher);
        if qos == QoS::ExactlyOnce {
            answer(&mut world, publisher, 6, packet_id);
            world.sent(publisher);
        }
    }
    assert!(world.number(M::CopiesInFlight) > 100);
    if goes {
        lose(&mut world, hog);
    }
    gets_its_messages(&mut world, publisher, other, &payload);
}

/// This client acknowledges, and is sent each message.
fn gets_its_messages(world: &mut World, publisher: ConnId, client: ConnId, payload: &str) {
    for id in 1..=20u16 {
        let of = Publish { qos: QoS::AtLeastOnce, packet_id: id, ..message("t", payload) };
        publish(world, publisher, Version::V5, of);
        world.advance(Duration::from_millis(1));
        world.sent(publisher);
        assert_eq!(hear(world, client).len(), 1, "message {id}");
        answer(world, client, 4, id);
    }
}

/// A client that was sent so many messages of its own topic at QoS 1, and acknowledges none.
pub(crate) fn deaf(world: &mut World, publisher: ConnId, topic: &str, (messages, payload): (u16, &str)) -> ConnId {
    let conn = world.connect_v5(topic, &[0, 0, 0, 8, 0x11, 0, 0, 0x0E, 0x10, 0x21, 0x04, 0]);
    world.sent(conn);
    assert_eq!(subscribe(world, conn, Version::V5, 0, &[(topic, QOS_1)]), [1]);
    for packet_id in 1..=messages {
        let of = Publish { qos: QoS::AtLeastOnce, packet_id, ..message(topic, payload) };
        publish(world, publisher, Version::V5, of);
        world.advance(Duration::from_millis(1));
        world.sent(conn);
        world.sent(publisher);
    }
    conn
}

#[test]
fn what_a_client_does_not_acknowledge_costs_others_nothing() {
    acknowledges_nothing(QoS::AtLeastOnce, false);
    acknowledges_nothing(QoS::ExactlyOnce, false);
}

#[test]
fn what_an_absent_client_has_not_acknowledged_makes_room_for_others() {
    acknowledges_nothing(QoS::AtLeastOnce, true);
    acknowledges_nothing(QoS::ExactlyOnce, true);
}

/// However many such clients there are, of few large messages or many small ones.
#[test]
fn nor_do_many_of_them() {
    for qos in [QoS::AtLeastOnce, QoS::ExactlyOnce] {
        for (messages, bytes) in [(140, 30_000), (1_024, 20)] {
            many_acknowledge_nothing(qos, messages, &"x".repeat(bytes));
        }
    }
}

fn many_acknowledge_nothing(qos: QoS, messages: u16, payload: &str) {
    const CLIENTS: usize = 8;
    let mut world = World::new(&config());
    let options = if qos == QoS::ExactlyOnce { QOS_2 } else { QOS_1 };
    let publisher = world.device_v5("p");
    let mut hogs = Vec::new();
    for number in 0..CLIENTS {
        let filter = format!("hog-{number}");
        let hog = world.connect_v5(&filter, &[0, 0, 0, 8, 0x11, 0, 0, 0x0E, 0x10, 0x21, 0x04, 0]);
        world.sent(hog);
        assert_eq!(subscribe(&mut world, hog, Version::V5, 0, &[(&filter, options)]), [qos as u8]);
        for packet_id in 1..=messages {
            let of = Publish { qos, packet_id, ..message(&filter, payload) };
            publish(&mut world, publisher, Version::V5, of);
            if packet_id % 8 == 0 || payload.len() > 1_000 {
                world.advance(Duration::from_millis(1));
            }
            world.sent(hog);
            world.sent(publisher);
            if qos == QoS::ExactlyOnce {
                answer(&mut world, publisher, 6, packet_id);
                world.sent(publisher);
            }
        }
        hogs.push(hog);
    }
    let (other, _) = world.kept_v5("other");
    assert_eq!(subscribe(&mut world, other, Version::V5, 0, &[("t", options)]), [qos as u8]);
    for id in 1..=20u16 {
        publish(&mut world, publisher, Version::V5, Publish { qos, packet_id: id, ..message("t", payload) });
        world.advance(Duration::from_millis(1));
        world.sent(publisher);
        let heard = hear(&mut world, other);
        let got = heard.iter().filter(|heard| matches!(heard, Heard::Message { .. })).count();
        assert_eq!(got, 1, "{qos:?}, {messages}: message {id}: {heard:?}");
        if qos == QoS::ExactlyOnce {
            answer(&mut world, publisher, 6, id);
            answer(&mut world, other, 5, id);
            world.advance(Duration::from_millis(1));
            answer(&mut world, other, 7, id);
        } else {
            answer(&mut world, other, 4, id);
        }
        hear(&mut world, other);
    }
    if qos == QoS::AtLeastOnce {
        while world.number(M::CopiesInFlight) > 0 {
            for hog in &hogs {
                let acks = (1..=2 * messages).flat_map(|id| [0x40, 2, (id >> 8) as u8, id as u8]);
                world.bytes(*hog, &acks.collect::<Vec<_>>());
                world.sent(*hog);
            }
        }
        for id in 1..=20u16 {
            publish(&mut world, publisher, Version::V5, Publish { qos, packet_id: id, ..message("t", "x") });
        }
        world.advance(Duration::from_millis(1));
        assert_eq!(hear(&mut world, other).len(), 20, "a client is sent as much as before");
    }
}

/// Nor is it different where a client unsubscribes before it goes: what it had been sent may go as well.
#[test]
fn what_a_client_without_subscriptions_leaves_makes_room_for_others() {
    let mut world = World::new(&config());
    let publisher = world.device_v5("p");
    let payload = "x".repeat(30_000);
    for (number, messages) in [139, 139, 20].into_iter().enumerate() {
        let filter = format!("hog-{number}");
        let hog = deaf(&mut world, publisher, &filter, (messages, &payload));
        leave(&mut world, hog, &filter);
        lose(&mut world, hog);
    }
    let (other, _) = world.kept_v5("other");
    assert_eq!(subscribe(&mut world, other, Version::V5, 0, &[("t", QOS_1)]), [1]);
    gets_its_messages(&mut world, publisher, other, &payload);
}

/// What an absent client has not acknowledged at QoS 1 may go, so others are sent no less for it; nor is one whose messages are not
/// remembered.
#[test]
fn who_is_away_does_not_slow_others_down() {
    for goes in [true, false] {
        let mut world = World::new(&config());
        let publisher = world.device_v5("p");
        let payload = "x".repeat(30_000);
        for (topic, messages) in [("hog-0", 139), ("hog-1", 80)] {
            let hog = deaf(&mut world, publisher, topic, (messages, &payload));
            if goes {
                lose(&mut world, hog);
            }
        }
        let other = if goes { world.kept_v5("other").0 } else { world.device_v5("other") };
        assert_eq!(subscribe(&mut world, other, Version::V5, 0, &[("t", QOS_1)]), [1]);
        for id in 1..=20u16 {
            let of = Publish { qos: QoS::AtLeastOnce, packet_id: id, ..message("t", "x") };
            publish(&mut world, publisher, Version::V5, of);
            world.advance(Duration::from_millis(1));
        }
        assert_eq!(hear(&mut world, other).len(), 20, "goes: {goes}");
    }
}

/// Its message waits in line for a turn that makes its copy, and then for its client: all of that counts.
#[test]
fn what_waits_in_line_expires_in_its_time() {
    const CROWD: usize = 1_500;
    for (after_s, left) in [(8, None), (4, Some("MessageExpiryInterval(1)"))] {
        let mut world = world();
        crowd(&mut world, CROWD);
        let (conn, _) = world.kept_v5("away");
        assert_eq!(subscribe(&mut world, conn, Version::V5, 0, &[("crowd", QOS_1)]), [1]);
        lose(&mut world, conn);
        let publisher = world.device_v5("p");
        let mut properties = PropertyBuf::new();
        properties.extend([Property::MessageExpiryInterval(6)]);
        let properties = properties.as_properties();
        let expires = Publish { qos: QoS::AtLeastOnce, packet_id: 1, properties, ..message("crowd", "x") };
        publish_at_once(&mut world, publisher, [message("t", "x"), expires]);
        assert!(world.number(M::DeliveryLineBytes) > 0);
        // The shard is busy for five seconds.
        world.table.now = world.table.now.after(Duration::from_secs(5));
        world.advance(Duration::from_millis(1));
        world.advance(Duration::from_secs(after_s - 4));
        let conn = world.connect_v5("away", &[0, 0, 0, 5, 0x11, 0, 0, 0x0E, 0x10]);
        let got = heard_behind_connack(&mut world, conn);
        let wanted = left.map(|left| format!("crowd x qos 1 id 1 {left}"));
        assert_eq!(got, wanted.into_iter().collect::<Vec<_>>(), "{after_s}");
    }
}

/// [MQTT-4.4.0-1]: also if the share ends before its client has acknowledged.
#[test]
fn what_a_member_was_sent_is_its_own_when_the_share_ends_after_it() {
    let mut world = World::new(&config());
    let (first, _) = world.kept_v5("first");
    assert_eq!(subscribe(&mut world, first, Version::V5, 0, &[("$share/g/t", QOS_1)]), [1]);
    let publisher = world.device_v5("p");
    say(&mut world, publisher, QoS::AtLeastOnce, 1, "a");
    world.advance(Duration::from_millis(1));
    assert_eq!(hear(&mut world, first), [said(1, 1, "a")]);
    let (second, _) = world.kept_v5("second");
    assert_eq!(subscribe(&mut world, second, Version::V5, 0, &[("$share/g/t", QOS_1)]), [1]);
    leave(&mut world, first, "$share/g/t");
    leave(&mut world, second, "$share/g/t");
    rest(&mut world);
    vanish(&mut world, first);
    rest(&mut world);
    let (first, behind) = back(&mut world, "first");
    assert_eq!(behind, [again(1, 1, "a")]);
    answer(&mut world, first, 4, 1);
    rest(&mut world);
    assert_eq!(world.number(M::StoredMessages), 0);
}

/// [MQTT-3.10.4-3]
#[test]
fn what_a_member_was_sent_is_its_own_when_it_leaves_the_share() {
    for crash in [false, true] {
        let mut world = World::new(&config());
        let (conn, _) = world.kept_v5("m");
        assert_eq!(subscribe(&mut world, conn, Version::V5, 0, &[("$share/g/t", QOS_1)]), [1]);
        let publisher = world.device_v5("p");
        for (id, payload) in [(1, "a"), (2, "b")] {
            say(&mut world, publisher, QoS::AtLeastOnce, id, payload);
        }
        world.advance(Duration::from_millis(1));
        assert_eq!(hear(&mut world, conn), [said(1, 1, "a"), said(1, 2, "b")]);
        answer(&mut world, conn, 4, 1);
        leave(&mut world, conn, "$share/g/t");
        rest(&mut world);
        if crash {
            world.power_cut();
        } else {
            vanish(&mut world, conn);
        }
        let (conn, behind) = back(&mut world, "m");
        assert_eq!(behind, [again(1, 2, "b")], "crash: {crash}");
        answer(&mut world, conn, 4, 2);
        rest(&mut world);
        assert_eq!(world.number(M::StoredMessages), 0);
        world.power_cut();
        assert_eq!(back(&mut world, "m").1, []);
    }
}

/// Section 4.9 of 5.0: the send quota is whole again on a new connection, and PUBREL does not use it.
#[test]
fn a_publisher_waits_where_its_packet_identifiers_are_being_released() {
    let mut world = World::new(&format!("{}\n[mqtt]\nreceive_maximum = 4\n", config()));
    let (subscriber, _) = world.kept_v5("s");
    subscribe(&mut world, subscriber, Version::V5, 0, &[("t", QOS_2)]);
    let (publisher, _) = world.kept_v5("p");
    for id in 1..=4 {
        say(&mut world, publisher, QoS::ExactlyOnce, id, "a");
    }
    world.advance(Duration::from_millis(1));
    assert_eq!(hear(&mut world, publisher).len(), 4, "PUBREC");
    lose(&mut world, publisher);
    let (publisher, _) = back(&mut world, "p");
    world.table.disk.slow = true;
    let releases = (1..=4_u8).flat_map(|id| [0x62, 2, 0, id]);
    let of = |id| Publish { qos: QoS::ExactlyOnce, packet_id: id, ..message("t", "b") };
    let more = (5..=8).flat_map(|id| bytes_of(Version::V5, &Packet::Publish(of(id))));
    let bytes: Vec<u8> = releases.chain(more).collect();
    world.bytes(publisher, &bytes);
    world.table.disk.slow = false;
    for _ in 0..10 {
        world.advance(Duration::from_millis(60));
    }
    let answers = hear(&mut world, publisher);
    let of = |kind, ids: std::ops::RangeInclusive<u16>| ids.map(move |id| Heard::Answer { kind, id });
    let mut expected: Vec<_> = of(7, 1..=4).chain(of(5, 5..=8)).collect();
    let mut answers = answers;
    let by = |of: &Heard| format!("{of:?}");
    answers.sort_by_key(by);
    expected.sort_by_key(by);
    assert_eq!(answers, expected);
}
