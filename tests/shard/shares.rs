//! Shared subscriptions on one shard: who gets which message, and what happens to those that no member has room for.

use std::time::Duration;

use forebay::metrics::event::Kind as EventKind;
use forebay::metrics::spec::ShardMetric as M;
use forebay::mqtt::encode;
use forebay::mqtt::packet::{PacketType, Publish, QoS, SubscriptionOptions, Version};
use forebay::mqtt::property::{Property, PropertyBuf};
use forebay::mqtt::reason::ReasonCode;
use forebay::runtime::seam::{Closed, ConnId, Shard as _};

use super::subscribe::{PLAIN, heard, in_words, message, publish, subscribe, subscribe_and_hear, unsubscribe, world};
use super::world::{ONE_SINK, World};

pub(crate) const QOS_1: SubscriptionOptions = SubscriptionOptions { qos: QoS::AtLeastOnce, ..PLAIN };
const QOS_2: SubscriptionOptions = SubscriptionOptions { qos: QoS::ExactlyOnce, ..PLAIN };

/// A device of 5.0 with this Receive Maximum and Maximum Packet Size (0: none); its session is kept for an hour, or not.
pub(crate) fn member(
    world: &mut World,
    name: &str,
    receive_maximum: u16,
    packet_size_max: u32,
    is_kept: bool,
) -> ConnId {
    connected(world, name, receive_maximum, packet_size_max, is_kept).0
}

fn connected(world: &mut World, name: &str, receive_maximum: u16, packet_max: u32, is_kept: bool) -> (ConnId, Vec<u8>) {
    let mut properties = PropertyBuf::new();
    properties.extend(is_kept.then_some(Property::SessionExpiryInterval(3_600)));
    properties.extend((receive_maximum > 0).then_some(Property::ReceiveMaximum(receive_maximum)));
    properties.extend((packet_max > 0).then_some(Property::MaximumPacketSize(packet_max)));
    let flags = if is_kept { 0 } else { 2 };
    let raw = properties.as_properties().raw();
    let mut connect =
        vec![0x10, 0, 0, 4, b'M', b'Q', b'T', b'T', 5, flags, 0, 0, u8::try_from(raw.len()).expect("short")];
    connect.extend_from_slice(raw);
    connect.extend_from_slice(&u16::try_from(name.len()).expect("short").to_be_bytes());
    connect.extend_from_slice(name.as_bytes());
    connect[1] = u8::try_from(connect.len() - 2).expect("short");
    let conn = world.accept();
    world.bytes(conn, &connect);
    let mut connack = world.sent(conn);
    assert_eq!((connack[0], connack[3]), (0x20, 0), "CONNACK");
    let behind = connack.split_off(2 + usize::from(connack[1]));
    (conn, behind)
}

pub(crate) fn join(world: &mut World, conn: ConnId, filter: &str, options: SubscriptionOptions) {
    assert_eq!(subscribe(world, conn, Version::V5, 0, &[(filter, options)]), [options.qos as u8]);
}

fn at(qos: QoS, id: u16, payload: &str) -> Publish<'_> {
    Publish { qos, packet_id: id, ..message("a", payload) }
}

/// Publishes at QoS 1, and takes the PUBACK away.
fn send(world: &mut World, conn: ConnId, id: u16, payload: &str) -> u8 {
    publish(world, conn, Version::V5, at(QoS::AtLeastOnce, id, payload));
    world.sent(conn).get(4).copied().unwrap_or(0)
}

pub(crate) fn ack(world: &mut World, conn: ConnId, what: PacketType, id: u16, code: ReasonCode) {
    let mut bytes = Vec::new();
    encode::ack(Version::V5, what, id, code, &mut bytes);
    world.bytes(conn, &bytes);
}

pub(crate) fn vanish(world: &mut World, conn: ConnId) {
    world.core.on_close(&mut world.table, conn, Closed::Peer);
    world.table.release(conn);
    world.turn();
}

/// [MQTT-4.8.2-3]
#[test]
fn each_message_goes_to_one_member_in_turn_and_to_other_subscribers_as_before() {
    let mut world = world();
    let members = ["one", "two", "three"].map(|name| member(&mut world, name, 0, 0, false));
    let old = world.device("old", 0);
    let plain = world.device("plain", 0);
    let publisher = world.device_v5("publisher");
    for (conn, identifier) in members.into_iter().zip(5..) {
        assert_eq!(subscribe(&mut world, conn, Version::V5, identifier, &[("$share/g/+", QOS_1)]), [1]);
    }
    assert_eq!(subscribe(&mut world, old, Version::V311, 0, &[("$share/other/a", QOS_2)]), [2]);
    assert_eq!(subscribe(&mut world, plain, Version::V311, 0, &[("a", PLAIN)]), [0]);
    for number in 1..=6 {
        publish(&mut world, publisher, Version::V5, at(QoS::ExactlyOnce, number, &number.to_string()));
    }
    for (conn, (first, second)) in members.into_iter().zip([(1, 4), (2, 5), (3, 6)]) {
        let identifier = first + 4;
        let words = |number, id| format!("a {number} qos 1 id {id} SubscriptionIdentifier({identifier})");
        assert_eq!(heard(&mut world, conn, Version::V5), [words(first, 1), words(second, 2)]);
    }
    assert_eq!(heard(&mut world, old, Version::V311)[..2], ["a 1 qos 2 id 1", "a 2 qos 2 id 2"]);
    assert_eq!(heard(&mut world, plain, Version::V311).len(), 6);
    assert_eq!((world.number(M::Subscriptions), world.number(M::Shares)), (5, 2));

    assert_eq!(unsubscribe(&mut world, old, "$share/other/a")[..2], [0xB0, 2]);
    vanish(&mut world, members[1]);
    publish(&mut world, publisher, Version::V5, at(QoS::AtMostOnce, 0, "x"));
    publish(&mut world, publisher, Version::V5, at(QoS::AtMostOnce, 0, "y"));
    let others: usize = [0, 2].map(|at: usize| heard(&mut world, members[at], Version::V5).len()).iter().sum();
    assert_eq!(others, 4, "x, y, and two that the member that has gone had not acknowledged");
    assert!(heard(&mut world, old, Version::V311).is_empty());
    assert_eq!((world.number(M::Subscriptions), world.number(M::Shares)), (3, 1));
}

#[test]
fn what_may_not_be_asked_for_is_refused() {
    let mut world = world();
    let old = world.device("old", 0);
    for bad in ["$share/", "$share/g", "$share//a", "$share/g/", "$share/+/a", "$share/g#/a"] {
        let codes =
            if bad.contains('#') { continue } else { subscribe(&mut world, old, Version::V311, 0, &[(bad, PLAIN)]) };
        assert_eq!(codes, [0x80], "{bad}");
    }
    let v5 = world.device_v5("no-local");
    let no_local = SubscriptionOptions { no_local: true, ..QOS_1 };
    world.bytes(v5, &super::subscribe::bytes_of(Version::V5, &subscribe_packet("$share/g/a", no_local)));
    let told = world.sent(v5);
    assert_eq!((told[0], told[2]), (0xE0, 0x82), "[MQTT-3.8.3-4]");
    // Nothing that is retained [section 4.8.2], whatever Retain Handling says.
    let (retaining, member) = (world.device_v5("retaining"), world.device_v5("member"));
    publish(&mut world, retaining, Version::V5, Publish { retain: true, ..message("a", "state") });
    let (codes, behind) = subscribe_and_hear(&mut world, member, Version::V5, 0, &[("$share/g/a", QOS_1)]);
    assert_eq!((codes, behind), (vec![1], Vec::new()));
    assert!(heard(&mut world, member, Version::V5).is_empty());
}

fn subscribe_packet(filter: &'static str, options: SubscriptionOptions) -> forebay::mqtt::packet::Packet<'static> {
    let mut filters = forebay::mqtt::FilterBuf::for_subscribe();
    assert!(filters.push(filter, options));
    let filters = Box::leak(Box::new(filters)).as_filters();
    let properties = forebay::mqtt::property::Properties::EMPTY;
    forebay::mqtt::packet::Packet::Subscribe(forebay::mqtt::packet::Subscribe { packet_id: 9, properties, filters })
}

/// B12: who does not acknowledge gets no more than its Receive Maximum.
#[test]
fn a_member_without_room_is_passed_over_and_what_none_has_room_for_waits() {
    let mut world = world();
    let [slow, fast] = ["slow", "fast"].map(|name| member(&mut world, name, 1, 0, false));
    let publisher = world.device_v5("publisher");
    [slow, fast].into_iter().for_each(|conn| join(&mut world, conn, "$share/g/a", QOS_1));
    for number in 1..=5 {
        assert_eq!(send(&mut world, publisher, number, &number.to_string()), 0);
    }
    assert_eq!(heard(&mut world, slow, Version::V5), ["a 1 qos 1 id 1"]);
    assert_eq!(world.number(M::ShareQueuedMessages), 3);
    for number in 2..=5 {
        let id = number - 1;
        assert_eq!(heard(&mut world, fast, Version::V5), [format!("a {number} qos 1 id {id}")]);
        ack(&mut world, fast, PacketType::PubAck, id, ReasonCode::SUCCESS);
    }
    assert_eq!((world.number(M::ShareQueuedMessages), world.number(M::ShareQueuedBytes)), (0, 0));
    assert!(heard(&mut world, slow, Version::V5).is_empty());
}

/// Section 4.8.2: QoS 1 may go to another member, QoS 2 may not [MQTT-4.8.2-4] [MQTT-4.8.2-5]. What is refused ends [MQTT-4.8.2-6].
#[test]
fn what_a_member_that_leaves_has_not_acknowledged_goes_to_another_but_qos_2_stays() {
    let mut world = world();
    let first = member(&mut world, "first", 0, 0, true);
    let publisher = world.device_v5("publisher");
    join(&mut world, first, "$share/g/a", QOS_2);
    for (number, qos) in [(1, QoS::AtLeastOnce), (2, QoS::ExactlyOnce), (3, QoS::AtLeastOnce), (4, QoS::AtLeastOnce)] {
        publish(&mut world, publisher, Version::V5, at(qos, number, &number.to_string()));
    }
    assert_eq!(heard(&mut world, first, Version::V5).len(), 4);
    ack(&mut world, first, PacketType::PubAck, 3, ReasonCode::UNSPECIFIED_ERROR);
    let second = member(&mut world, "second", 0, 0, false);
    join(&mut world, second, "$share/g/a", QOS_1);
    assert!(heard(&mut world, second, Version::V5).is_empty());
    vanish(&mut world, first);
    assert_eq!(heard(&mut world, second, Version::V5), ["a 1 qos 1 id 1", "a 4 qos 1 id 2"]);
    let (first, behind) = connected(&mut world, "first", 0, 0, true);
    let frame = forebay::mqtt::frame::next(&behind, u32::MAX).expect("well formed").expect("one packet");
    assert_eq!((frame.first, frame.len), (0x3C, behind.len()), "the one of QoS 2 alone, with DUP");
    // Its session ends: no other member gets it.
    world.bytes(first, &[0xE0, 7, 0, 5, 0x11, 0, 0, 0, 0]);
    vanish(&mut world, first);
    assert!(heard(&mut world, second, Version::V5).is_empty());
}

#[test]
fn with_no_member_online_messages_wait_for_the_first_that_comes_within_bounds() {
    let text = ONE_SINK.replace("\"#\"", "\"to/kafka/#\"");
    let mut world = World::new(&format!("{text}\n[delivery]\nqueue_messages_max = 1000\n"));
    let kept = member(&mut world, "kept", 0, 0, true);
    let publisher = world.device_v5("publisher");
    join(&mut world, kept, "$share/g/a", QOS_1);
    vanish(&mut world, kept);
    publish(&mut world, publisher, Version::V5, at(QoS::AtMostOnce, 0, "gone"));
    assert_eq!(world.number(M::CopiesAway), 1, "QoS 0 does not wait");
    for number in 1..=1_001 {
        assert_eq!(send(&mut world, publisher, number, &number.to_string()), 0, "it is matched");
    }
    assert_eq!((world.number(M::ShareQueuedMessages), world.number(M::CopiesQueueFull)), (1_000, 1));
    assert_eq!(world.told(EventKind::MessageDropped), 1);
    let mut expiring = PropertyBuf::new();
    expiring.push(Property::MessageExpiryInterval(2));
    publish(
        &mut world,
        publisher,
        Version::V5,
        Publish { properties: expiring.as_properties(), ..at(QoS::AtLeastOnce, 2_000, "old") },
    );
    world.sent(publisher);
    world.advance(Duration::from_secs(3));
    let other = member(&mut world, "other", 0, 0, false);
    let (codes, mut all) = subscribe_and_hear(&mut world, other, Version::V5, 0, &[("$share/g/a", QOS_1)]);
    assert_eq!(codes, [1]);
    for _ in 0..40 {
        for id in 1..=1_024 {
            ack(&mut world, other, PacketType::PubAck, id, ReasonCode::SUCCESS);
        }
        let more = heard(&mut world, other, Version::V5);
        if more.is_empty() {
            break;
        }
        all.extend(more);
    }
    let wanted: Vec<_> = (3..=1_001).zip(1..).map(|(number, id)| format!("a {number} qos 1 id {id}")).collect();
    assert_eq!(all, wanted);
    assert_eq!((world.number(M::CopiesExpired), world.number(M::ShareQueuedMessages)), (1, 0));
    // The last member ends the share, and a message has no receiver.
    vanish(&mut world, other);
    let (kept, behind) = connected(&mut world, "kept", 0, 0, true);
    assert!(in_words(&behind, Version::V5).is_empty());
    assert_eq!(unsubscribe_v5(&mut world, kept, "$share/g/a"), ReasonCode::SUCCESS.0);
    assert_eq!(unsubscribe_v5(&mut world, kept, "$share/g/a"), ReasonCode::NO_SUBSCRIPTION_EXISTED.0);
    assert_eq!(send(&mut world, publisher, 3_000, "x"), ReasonCode::NO_MATCHING_SUBSCRIBERS.0);
    assert_eq!((world.number(M::Shares), world.number(M::Subscriptions)), (0, 0));
}

fn unsubscribe_v5(world: &mut World, conn: ConnId, filter: &str) -> u8 {
    let mut filters = forebay::mqtt::FilterBuf::for_unsubscribe();
    assert!(filters.push(filter, PLAIN));
    let properties = forebay::mqtt::property::Properties::EMPTY;
    let packet = forebay::mqtt::packet::Unsubscribe { packet_id: 9, properties, filters: filters.as_filters() };
    world.bytes(conn, &super::subscribe::bytes_of(Version::V5, &forebay::mqtt::packet::Packet::Unsubscribe(packet)));
    world.sent(conn)[5]
}

/// One that is too large for a member goes to another; what is too large for all is dropped, and stops nothing.
#[test]
fn a_message_that_is_too_large_for_a_member_goes_to_another() {
    let mut world = world();
    let small = member(&mut world, "small", 0, 30, false);
    let large = member(&mut world, "large", 1, 60, false);
    let publisher = world.device_v5("publisher");
    [small, large].into_iter().for_each(|conn| join(&mut world, conn, "$share/g/a", QOS_1));
    let [medium, huge] = [40, 100].map(|len| "x".repeat(len));
    for id in 1..=2 {
        assert_eq!(send(&mut world, publisher, id, &medium), 0);
    }
    assert_eq!(world.number(M::ShareQueuedMessages), 1, "the large one has no room");
    send(&mut world, publisher, 3, "small");
    world.advance(Duration::from_secs(1));
    assert_eq!(heard(&mut world, small, Version::V5), ["a small qos 1 id 1"], "it is not held up");
    ack(&mut world, large, PacketType::PubAck, 1, ReasonCode::SUCCESS);
    assert_eq!(heard(&mut world, large, Version::V5).len(), 2);
    ack(&mut world, large, PacketType::PubAck, 2, ReasonCode::SUCCESS);
    send(&mut world, publisher, 4, &huge);
    assert_eq!((world.number(M::CopiesTooLarge), world.number(M::ShareQueuedMessages)), (1, 0));
}

/// A client of QoS 0 says nothing when it has read what it was sent.
#[test]
fn members_of_qos_0_that_were_slow_get_messages_again() {
    let mut world = world();
    let members = ["one", "two"].map(|name| member(&mut world, name, 0, 0, false));
    let publisher = world.device_v5("publisher");
    members.into_iter().for_each(|conn| join(&mut world, conn, "$share/g/a", PLAIN));
    let payload = "x".repeat(100 << 10);
    while world.number(M::CopiesSlow) == 0 {
        publish(&mut world, publisher, Version::V5, at(QoS::AtMostOnce, 0, &payload));
    }
    members.into_iter().for_each(|conn| drop(world.sent(conn)));
    world.advance(Duration::from_secs(1));
    for number in 0..4 {
        publish(&mut world, publisher, Version::V5, at(QoS::AtMostOnce, 0, &number.to_string()));
    }
    assert_eq!(members.map(|conn| heard(&mut world, conn, Version::V5).len()), [2, 2]);
    assert_eq!(world.number(M::CopiesSlow), 1);
}

/// Two members of `$share/g/a`, the first of which will not acknowledge, and a publisher.
fn late_and_swift(world: &mut World, options: SubscriptionOptions, is_kept: bool) -> [ConnId; 3] {
    let late = member(world, "late", 4, 0, is_kept);
    let swift = member(world, "swift", 0, 0, false);
    join(world, late, "$share/g/a", options);
    join(world, swift, "$share/g/a", options);
    [late, swift, world.device_v5("publisher")]
}

fn pass(world: &mut World, seconds: u64) {
    for _ in 0..seconds {
        world.advance(Duration::from_secs(1));
    }
}

/// Acknowledges all of these at QoS 1.
fn ack_all(world: &mut World, conn: ConnId, heard: &[String]) {
    for text in heard {
        let id = text.split(" id ").nth(1).and_then(|rest| rest.split(' ').next()).expect("an identifier");
        ack(world, conn, PacketType::PubAck, id.parse().expect("a number"), ReasonCode::SUCCESS);
    }
}

#[test]
fn finding_w9_what_a_member_does_not_acknowledge_goes_to_others() {
    let mut world = world();
    let [late, swift, publisher] = late_and_swift(&mut world, QOS_1, false);
    for id in 1..=6 {
        send(&mut world, publisher, id, &id.to_string());
    }
    let first = heard(&mut world, swift, Version::V5);
    ack_all(&mut world, swift, &first);
    let held = heard(&mut world, late, Version::V5);
    assert_eq!(first.len() + held.len(), 6);
    pass(&mut world, 299);
    assert!(heard(&mut world, swift, Version::V5).is_empty(), "it has five minutes");
    pass(&mut world, 20);
    let given = heard(&mut world, swift, Version::V5);
    assert_eq!(given.len(), held.len(), "{given:?}");
    ack_all(&mut world, swift, &given);
    assert_eq!(world.number(M::ShareGivenUp), held.len() as u64);
    assert_eq!(world.told(EventKind::ShareAckTimeout), 1);
    // It is sent nothing until it has acknowledged.
    for id in 7..=12 {
        send(&mut world, publisher, id, &id.to_string());
    }
    let all = heard(&mut world, swift, Version::V5);
    assert_eq!(all.len(), 6);
    ack_all(&mut world, swift, &all);
    assert!(heard(&mut world, late, Version::V5).is_empty());
    assert_eq!(world.number(M::CopiesAcknowledged), 12);
    assert_eq!(world.number(M::CopiesInFlight), 0);
    ack_all(&mut world, late, &held);
    assert_eq!(world.number(M::CopiesAcknowledged), 12, "each is counted once");
    for id in 13..=18 {
        send(&mut world, publisher, id, &id.to_string());
    }
    assert_eq!(heard(&mut world, late, Version::V5).len(), 3, "it is a member as before");
}

#[test]
fn finding_w9_with_a_hash_strategy_too() {
    let text = ONE_SINK.replace("\"#\"", "\"to/kafka\"");
    let mut world =
        World::new(&format!("{text}\n[delivery]\nshare_strategy = \"hash-topic\"\nshare_ack_timeout = \"10s\"\n"));
    let [one, other, publisher] = late_and_swift(&mut world, QOS_1, false);
    for id in 1..=3 {
        send(&mut world, publisher, id, &id.to_string());
    }
    let (first, second) = (heard(&mut world, one, Version::V5), heard(&mut world, other, Version::V5));
    let (held, swift) = if first.is_empty() { (second, one) } else { (first, other) };
    assert_eq!(held.len(), 3);
    pass(&mut world, 15);
    let given = heard(&mut world, swift, Version::V5);
    let payloads = |heard: &[String]| heard.iter().map(|text| text[..3].to_owned()).collect::<Vec<_>>();
    assert_eq!(payloads(&given), ["a 1", "a 2", "a 3"], "in their order");
}

/// [MQTT-4.8.2-4]
#[test]
fn finding_w9_of_qos_2_it_stays_with_its_member() {
    let mut world = world();
    let [late, swift, publisher] = late_and_swift(&mut world, QOS_2, false);
    for id in 1..=4 {
        publish(&mut world, publisher, Version::V5, at(QoS::ExactlyOnce, id, &id.to_string()));
    }
    let (held, first) = (heard(&mut world, late, Version::V5), heard(&mut world, swift, Version::V5));
    assert_eq!((held.len(), first.len()), (2, 2));
    pass(&mut world, 400);
    assert!(heard(&mut world, swift, Version::V5).is_empty() && heard(&mut world, late, Version::V5).is_empty());
    assert_eq!(world.number(M::ShareGivenUp), 0);
    ack(&mut world, late, PacketType::PubRec, 1, ReasonCode::SUCCESS);
    let pubrel = world.sent(late);
    assert_eq!(pubrel[..1], [0x62], "the exchange goes on");
}

#[test]
fn finding_w9_a_lone_member_has_as_long_as_it_likes_and_none_comes_again() {
    let mut world = world();
    let late = member(&mut world, "late", 4, 0, true);
    join(&mut world, late, "$share/g/a", QOS_1);
    let publisher = world.device_v5("publisher");
    for id in 1..=2 {
        send(&mut world, publisher, id, &id.to_string());
    }
    let held = heard(&mut world, late, Version::V5);
    pass(&mut world, 400);
    assert_eq!((held.len(), world.number(M::ShareGivenUp)), (2, 0));
    let swift = member(&mut world, "swift", 0, 0, false);
    join(&mut world, swift, "$share/g/a", QOS_1);
    pass(&mut world, 20);
    let given = heard(&mut world, swift, Version::V5);
    assert_eq!(given.len(), 2);
    ack_all(&mut world, swift, &given);
    vanish(&mut world, late);
    let (late, behind) = connected(&mut world, "late", 4, 0, true);
    assert!(behind.is_empty() && heard(&mut world, late, Version::V5).is_empty(), "others have them");
    for id in 3..=4 {
        send(&mut world, publisher, id, &id.to_string());
    }
    assert_eq!(heard(&mut world, late, Version::V5).len(), 1, "it is a member as before");
}
