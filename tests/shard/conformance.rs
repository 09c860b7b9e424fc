//! Statements of MQTT 3.1.1 and 5.0 in both versions: connections, sessions, wills, subscriptions, retained messages. What
//! `conformance_flow.rs` has is how messages go in and out. docs/CONFORMANCE.md lists them all.

use std::time::Duration;

use forebay::mqtt::packet::{
    Connect, Packet, PacketType, Publish, QoS, Sender, Subscribe, SubscriptionOptions, Unsubscribe, Version, Will,
};
use forebay::mqtt::property::{Properties, Property, PropertyBuf};
use forebay::mqtt::reason::ReasonCode;
use forebay::mqtt::{FilterBuf, decode, encode, frame};
use forebay::runtime::seam::{Closed, ConnId, Shard as _};

pub(crate) use super::hello::hello;
use super::subscribe::{PLAIN, bytes_of, message, world};
use super::world::{ONE_SINK, World};

pub(crate) const BOTH: [Version; 2] = [Version::V311, Version::V5];
const PINGREQ: [u8; 2] = [0xC0, 0];
const TWO_DAYS: Duration = Duration::from_secs(2 * 24 * 3_600);

/// What packets say, in words: `t x q1 id 7 dup retain`, `puback 7 0x00`.
pub(crate) fn words(version: Version, bytes: &[u8]) -> Vec<String> {
    let (mut rest, mut all) = (bytes, Vec::new());
    while let Some(frame) = frame::next(rest, u32::MAX).expect("well formed") {
        rest = &rest[frame.len..];
        all.push(word(&decode::decode(version, Sender::Server, frame).expect("well formed")));
    }
    assert!(rest.is_empty());
    all
}

fn word(packet: &Packet<'_>) -> String {
    match packet {
        Packet::ConnAck(it) => format!("connack {} 0x{:02X}", u8::from(it.session_present), it.reason.0),
        Packet::Publish(it) => {
            let id = if it.qos == QoS::AtMostOnce { String::new() } else { format!(" id {}", it.packet_id) };
            let (dup, retain) = (if it.dup { " dup" } else { "" }, if it.retain { " retain" } else { "" });
            format!("{} {} q{}{id}{dup}{retain}", it.topic, String::from_utf8_lossy(it.payload), it.qos as u8)
        }
        Packet::PubAck(it) => format!("puback {} 0x{:02X}", it.packet_id, it.reason.0),
        Packet::PubRec(it) => format!("pubrec {} 0x{:02X}", it.packet_id, it.reason.0),
        Packet::PubRel(it) => format!("pubrel {} 0x{:02X}", it.packet_id, it.reason.0),
        Packet::PubComp(it) => format!("pubcomp {} 0x{:02X}", it.packet_id, it.reason.0),
        Packet::SubAck(it) => format!("suback {} {:?}", it.packet_id, it.codes),
        Packet::UnsubAck(it) => format!("unsuback {} {:?}", it.packet_id, it.codes),
        Packet::PingResp => "pingresp".to_owned(),
        Packet::Disconnect(it) => format!("disconnect 0x{:02X}", it.reason.0),
        other => panic!("{other:?}"),
    }
}

/// What a client has been sent since the last look.
pub(crate) fn heard(world: &mut World, conn: ConnId, version: Version) -> Vec<String> {
    words(version, &world.sent(conn))
}

/// Sends bytes; what comes of them at once.
pub(crate) fn ask(world: &mut World, conn: ConnId, version: Version, bytes: &[u8]) -> Vec<String> {
    world.bytes(conn, bytes);
    heard(world, conn, version)
}

/// The same with what comes within a few turns.
fn ask_and_wait(world: &mut World, conn: ConnId, version: Version, bytes: &[u8]) -> Vec<String> {
    let mut all = ask(world, conn, version, bytes);
    for _ in 0..20 {
        world.advance(Duration::from_millis(1));
        all.extend(heard(world, conn, version));
    }
    all
}

/// A connection with this CONNECT, and what it has heard.
pub(crate) fn connected(world: &mut World, connect: &Connect<'_>) -> (ConnId, Vec<String>) {
    let conn = world.accept();
    let said = ask(world, conn, connect.version, &bytes_of(connect.version, &Packet::Connect(connect.clone())));
    (conn, said)
}

/// A client whose session ends with its connection.
pub(crate) fn clean(world: &mut World, version: Version, client_id: &str) -> ConnId {
    let (conn, said) = connected(world, &hello(version, client_id));
    assert_eq!(said, ["connack 0 0x00"], "{version:?} {client_id}");
    conn
}

/// A client whose session is kept, for an hour in 5.0.
pub(crate) fn kept(world: &mut World, version: Version, client_id: &str) -> (ConnId, Vec<String>) {
    let mut hour = PropertyBuf::new();
    hour.extend((version == Version::V5).then_some(Property::SessionExpiryInterval(3_600)));
    connected(world, &Connect { clean_start: false, properties: hour.as_properties(), ..hello(version, client_id) })
}

pub(crate) fn lose(world: &mut World, conn: ConnId) {
    world.core.on_close(&mut world.table, conn, Closed::Peer);
    world.table.release(conn);
    world.turn();
}

pub(crate) fn subscribing(version: Version, packet_id: u16, list: &[(&str, QoS)]) -> Vec<u8> {
    let mut filters = FilterBuf::for_subscribe();
    for (filter, qos) in list {
        assert!(filters.push(filter, SubscriptionOptions { qos: *qos, ..PLAIN }));
    }
    let packet = Subscribe { packet_id, properties: Properties::EMPTY, filters: filters.as_filters() };
    bytes_of(version, &Packet::Subscribe(packet))
}

pub(crate) fn unsubscribing(version: Version, packet_id: u16, list: &[&str]) -> Vec<u8> {
    let mut filters = FilterBuf::for_unsubscribe();
    list.iter().for_each(|filter| assert!(filters.push(filter, PLAIN)));
    let packet = Unsubscribe { packet_id, properties: Properties::EMPTY, filters: filters.as_filters() };
    bytes_of(version, &Packet::Unsubscribe(packet))
}

pub(crate) fn publishing(version: Version, publish: Publish<'_>) -> Vec<u8> {
    bytes_of(version, &Packet::Publish(publish))
}

pub(crate) fn acknowledging(version: Version, kind: PacketType, id: u16, reason: ReasonCode) -> Vec<u8> {
    let mut bytes = Vec::new();
    encode::ack(version, kind, id, reason, &mut bytes);
    bytes
}

pub(crate) use QoS::{AtLeastOnce as Q1, AtMostOnce as Q0, ExactlyOnce as Q2};

/// [MQTT-3.1.4-5] [MQTT-3.2.0-1] [MQTT-3.2.0-2] [MQTT-3.2.2-1] [MQTT-3.1.0-2] [MQTT-3.14.4-1]
/// [3.1.1 MQTT-3.1.4-4] [3.1.1 MQTT-3.2.0-1] [3.1.1 MQTT-3.1.0-2]
#[test]
fn connack_comes_first_and_once() {
    for version in BOTH {
        let mut world = world();
        let conn = world.accept();
        let connect = [&bytes_of(version, &Packet::Connect(hello(version, "c")))[..], &PINGREQ].concat();
        world.bytes(conn, &connect);
        let said = world.sent(conn);
        assert_eq!((said[0], said[2], said[3]), (0x20, 0, 0), "no flags, and success");
        assert_eq!(words(version, &said), ["connack 0 0x00", "pingresp"]);
        let ending = if version == Version::V5 { vec!["disconnect 0x82"] } else { Vec::new() };
        assert_eq!(ask(&mut world, conn, version, &connect), ending, "no second CONNACK, and no PINGRESP");
        assert!(world.table.wire(conn).closed);
    }
}

/// [MQTT-3.1.0-1] [3.1.1 MQTT-3.1.0-1]
#[test]
fn another_first_packet_is_closed_without_an_answer() {
    for version in BOTH {
        for first in [PINGREQ.to_vec(), publishing(version, message("t", "x")), subscribing(version, 1, &[("t", Q0)])] {
            let mut world = world();
            let conn = world.accept();
            world.bytes(conn, &first);
            assert!(world.table.wire(conn).closed && world.sent(conn).is_empty(), "{first:02x?}");
        }
    }
}

/// [MQTT-3.1.4-6] [MQTT-3.2.2-6] [MQTT-3.2.2-7] [MQTT-3.14.0-1] [3.1.1 MQTT-3.1.4-5] [3.1.1 MQTT-3.2.2-4]
#[test]
fn behind_a_connect_that_is_refused_nothing_is_processed() {
    for (version, refused) in [(Version::V311, "connack 0 0x88"), (Version::V5, "connack 0 0x97")] {
        let mut world = World::new(&format!("{ONE_SINK}[mqtt]\nsessions_max = 2\n"));
        ["one", "two"].into_iter().for_each(|name| _ = clean(&mut world, version, name));
        let conn = world.accept();
        let publish = publishing(version, Publish { qos: Q1, packet_id: 1, ..message("t", "x") });
        let connect = bytes_of(version, &Packet::Connect(hello(version, "three")));
        assert_eq!(ask(&mut world, conn, version, &[connect, publish].concat()), [refused]);
        assert!(world.table.wire(conn).closed && world.broker.records.is_empty());
    }
}

/// [MQTT-3.1.3-5] [3.1.1 MQTT-3.1.3-5]
#[test]
fn identifiers_of_letters_and_digits_are_taken() {
    let mut world = world();
    for version in BOTH {
        for id in ["a", "0123456789abcdefghijklm", "nopqrstuvwxyzABCDEFGHIJ", "KLMNOPQRSTUVWXYZ"] {
            clean(&mut world, version, id);
        }
    }
}

/// [MQTT-3.1.2-4] [MQTT-3.1.2-5] [MQTT-3.1.2-6] [MQTT-3.1.2-23] [MQTT-4.1.0-1] [MQTT-4.5.0-1] [3.1.1 MQTT-3.1.2-4]
/// [3.1.1 MQTT-3.1.2-5] [3.1.1 MQTT-3.1.2-6] [3.1.1 MQTT-4.1.0-1] [3.1.1 MQTT-4.1.0-2] [3.1.1 MQTT-4.5.0-1]
#[test]
fn a_session_goes_on_until_it_is_discarded() {
    for version in BOTH {
        let mut world = world();
        let publisher = clean(&mut world, Version::V311, "p");
        let publish = |id| publishing(Version::V311, Publish { qos: Q1, packet_id: id, ..message("t", "x") });
        let (conn, said) = kept(&mut world, version, "c");
        assert_eq!(said, ["connack 0 0x00"], "there was none");
        assert_eq!(ask(&mut world, conn, version, &subscribing(version, 9, &[("t", Q1)])), ["suback 9 [1]"]);
        world.advance(TWO_DAYS);
        lose(&mut world, conn);
        assert_eq!(ask(&mut world, publisher, Version::V311, &publish(1)), ["puback 1 0x00"]);
        let (conn, said) = kept(&mut world, version, "c");
        assert_eq!(said, ["connack 1 0x00", "t x q1 id 1"], "{version:?}: however long it was connected");
        assert_eq!(ask(&mut world, publisher, Version::V311, &publish(2)), ["puback 2 0x00"]);
        assert_eq!(heard(&mut world, conn, version), ["t x q1 id 2"]);
        lose(&mut world, conn);
        let conn = clean(&mut world, version, "c");
        ask(&mut world, publisher, Version::V311, &publish(3));
        assert!(heard(&mut world, conn, version).is_empty(), "{version:?}: nothing is left of it");
        lose(&mut world, conn);
        assert_eq!(kept(&mut world, version, "c").1, ["connack 0 0x00"], "{version:?}");
    }
}

/// [MQTT-3.1.2-14] [MQTT-3.1.2-15] [3.1.1 MQTT-3.1.2-12] [3.1.1 MQTT-3.1.2-16] [3.1.1 MQTT-3.1.2-17]
#[test]
fn a_will_is_retained_if_it_says_so_and_without_one_nothing_is_sent() {
    for version in BOTH {
        for will_retain in [None, Some(false), Some(true)] {
            let mut world = world();
            let live = clean(&mut world, version, "live");
            ask(&mut world, live, version, &subscribing(version, 9, &[("#", Q1)]));
            let properties = Properties::EMPTY;
            let will = will_retain.map(|retain| Will { qos: Q1, retain, topic: "w", payload: b"gone", properties });
            let (conn, _) = connected(&mut world, &Connect { will, ..hello(version, "c") });
            lose(&mut world, conn);
            let sent = if will_retain.is_some() { vec!["w gone q1 id 1"] } else { Vec::new() };
            assert_eq!(heard(&mut world, live, version), sent, "{version:?} {will_retain:?}");
            let late = clean(&mut world, version, "late");
            let said = ask_and_wait(&mut world, late, version, &subscribing(version, 9, &[("w", Q1)]));
            let retained = if will_retain == Some(true) { vec!["w gone q1 id 1 retain"] } else { Vec::new() };
            assert_eq!(said[1..], retained, "{version:?} {will_retain:?}");
        }
    }
}

/// [MQTT-2.2.1-6] [MQTT-3.2.2-10] [MQTT-3.3.2-3] [MQTT-3.8.4-1] [MQTT-3.8.4-2] [MQTT-3.8.4-5] [MQTT-3.8.4-6] [MQTT-3.8.4-7]
/// [MQTT-3.9.3-1] [MQTT-3.9.3-2] [3.1.1 MQTT-2.3.1-7] [3.1.1 MQTT-3.3.2-3] [3.1.1 MQTT-3.8.4-1] [3.1.1 MQTT-3.8.4-2]
/// [3.1.1 MQTT-3.8.4-4] [3.1.1 MQTT-3.8.4-5] [3.1.1 MQTT-3.9.3-1] [3.1.1 MQTT-3.9.3-2]
#[test]
fn subscribe_is_answered_filter_by_filter() {
    // No place for a filter of so many levels that begins with a wildcard.
    let deep = format!("+{}", "/a".repeat(60));
    for (version, failure) in [(Version::V311, 0x80), (Version::V5, 0x97)] {
        let mut world = world();
        let (conn, publisher) = (clean(&mut world, version, "c"), clean(&mut world, Version::V311, "p"));
        let list = [("a", Q0), ("b", Q1), (&*deep, Q1), ("c/#", Q2)];
        let said = ask(&mut world, conn, version, &subscribing(version, 0x1234, &list));
        assert_eq!(said, [format!("suback 4660 [0, 1, {failure}, 2]")]);
        for (topic, packet_id) in [("a", 1), ("b", 2), ("c/d", 3), ("d", 4)] {
            world.bytes(publisher, &publishing(Version::V311, Publish { qos: Q2, packet_id, ..message(topic, "x") }));
        }
        assert_eq!(heard(&mut world, conn, version), ["a x q0", "b x q1 id 1", "c/d x q2 id 2"]);
    }
}

/// [MQTT-3.8.4-3] [MQTT-3.8.4-4] [3.1.1 MQTT-3.8.4-3]
#[test]
fn a_subscription_is_replaced_without_a_gap() {
    for version in BOTH {
        let mut world = world();
        let (conn, publisher) = (clean(&mut world, version, "c"), clean(&mut world, Version::V311, "p"));
        let say = |world: &mut World, publish| world.bytes(publisher, &publishing(Version::V311, publish));
        say(&mut world, Publish { retain: true, ..message("t", "r") });
        let first = ask_and_wait(&mut world, conn, version, &subscribing(version, 1, &[("t", Q0)]));
        assert_eq!(first, ["suback 1 [0]", "t r q0 retain"]);
        say(&mut world, Publish { qos: Q1, packet_id: 1, ..message("t", "1") });
        world.bytes(conn, &subscribing(version, 2, &[("t", Q1)]));
        say(&mut world, Publish { qos: Q1, packet_id: 2, ..message("t", "2") });
        let mut said = ask_and_wait(&mut world, conn, version, &PINGREQ);
        said.sort();
        assert_eq!(said, ["pingresp", "suback 2 [1]", "t 1 q0", "t 2 q1 id 1", "t r q0 retain"], "{version:?}");
    }
}

/// [MQTT-2.2.1-6] [MQTT-3.10.4-1] [MQTT-3.10.4-2] [MQTT-3.10.4-3] [MQTT-3.10.4-4] [MQTT-3.10.4-5] [MQTT-3.10.4-6]
/// [MQTT-3.11.3-1] [MQTT-3.11.3-2] [3.1.1 MQTT-2.3.1-7] [3.1.1 MQTT-3.10.4-1] [3.1.1 MQTT-3.10.4-2] [3.1.1 MQTT-3.10.4-3]
/// [3.1.1 MQTT-3.10.4-4] [3.1.1 MQTT-3.10.4-5] [3.1.1 MQTT-3.10.4-6]
#[test]
fn unsubscribe_ends_just_that_filter_and_what_has_begun_is_completed() {
    for version in BOTH {
        let mut world = world();
        let publisher = clean(&mut world, Version::V311, "p");
        let say = |world: &mut World, qos, packet_id, topic| {
            world.bytes(publisher, &publishing(Version::V311, Publish { qos, packet_id, ..message(topic, "x") }));
        };
        let answer = |id: u16, codes: &[u8]| {
            let codes = if version == Version::V5 { codes } else { &[] };
            [format!("unsuback {id} {codes:?}")]
        };
        let (conn, _) = kept(&mut world, version, "c");
        ask(&mut world, conn, version, &subscribing(version, 9, &[("a/+", Q2), ("b", Q1)]));
        let others = unsubscribing(version, 0x0102, &["a/b", "A/+", "a/+/", "#"]);
        assert_eq!(ask(&mut world, conn, version, &others), answer(258, &[0x11; 4]));
        say(&mut world, Q2, 1, "a/b");
        say(&mut world, Q1, 2, "b");
        assert_eq!(heard(&mut world, conn, version), ["a/b x q2 id 1", "b x q1 id 2"], "both are there");
        let both = unsubscribing(version, 3, &["b", "a/+", "b"]);
        assert_eq!(ask(&mut world, conn, version, &both), answer(3, &[0, 0, 0x11]));
        say(&mut world, Q2, 3, "a/b");
        say(&mut world, Q1, 4, "b");
        assert!(heard(&mut world, conn, version).is_empty());
        lose(&mut world, conn);
        let (conn, said) = kept(&mut world, version, "c");
        assert_eq!(said, ["connack 1 0x00", "a/b x q2 id 1 dup", "b x q1 id 2 dup"]);
        let pubrec = acknowledging(version, PacketType::PubRec, 1, ReasonCode::SUCCESS);
        assert_eq!(ask(&mut world, conn, version, &pubrec), ["pubrel 1 0x00"]);
    }
}

/// [MQTT-3.3.1-5] [MQTT-3.3.1-6] [MQTT-3.3.1-7] [MQTT-3.3.1-8] [MQTT-3.3.1-9] [3.1.1 MQTT-3.1.2-7] [3.1.1 MQTT-3.3.1-5]
/// [3.1.1 MQTT-3.3.1-6] [3.1.1 MQTT-3.3.1-7] [3.1.1 MQTT-3.3.1-8] [3.1.1 MQTT-3.3.1-9] [3.1.1 MQTT-3.3.1-10]
/// [3.1.1 MQTT-3.3.1-11] [3.1.1 MQTT-3.3.1-12]
#[test]
fn the_last_message_with_retain_is_for_those_who_come_later() {
    for version in BOTH {
        let mut world = world();
        let live = clean(&mut world, version, "live");
        ask(&mut world, live, version, &subscribing(version, 9, &[("t", Q1)]));
        let late = |world: &mut World| {
            let conn = clean(world, version, "late");
            let said = ask_and_wait(world, conn, version, &subscribing(version, 9, &[("t", Q2)]));
            lose(world, conn);
            said[1..].to_vec()
        };
        let say = |world: &mut World, retain, qos, payload| {
            let publisher = clean(world, version, "p");
            let publish = Publish { retain, qos, packet_id: 1, ..message("t", payload) };
            world.bytes(publisher, &publishing(version, publish));
            // Its session ends.
            lose(world, publisher);
            heard(world, live, version)
        };
        assert_eq!(say(&mut world, true, Q1, "1"), ["t 1 q1 id 1"]);
        assert_eq!(late(&mut world), ["t 1 q1 id 1 retain"], "{version:?}: with its QoS");
        assert_eq!(say(&mut world, true, Q0, "2"), ["t 2 q0"]);
        assert_eq!(say(&mut world, false, Q1, "3"), ["t 3 q1 id 2"]);
        assert_eq!(late(&mut world), ["t 2 q0 retain"], "{version:?}");
        assert_eq!(say(&mut world, true, Q0, ""), ["t  q0"], "delivered as any other");
        assert!(late(&mut world).is_empty(), "{version:?}");
        assert_eq!(say(&mut world, false, Q0, "4"), ["t 4 q0"]);
        assert!(late(&mut world).is_empty(), "{version:?}");
    }
}

/// [MQTT-1.5.4-3] [MQTT-3.3.2-3] [MQTT-4.7.2-1] [MQTT-4.7.3-4] [3.1.1 MQTT-1.5.3-3] [3.1.1 MQTT-3.3.2-3]
/// [3.1.1 MQTT-4.7.2-1] [3.1.1 MQTT-4.7.3-4]
#[test]
fn topics_are_matched_as_they_are() {
    const TOPICS: [&str; 9] = ["\u{e9}", "e\u{301}", "a", "A", "/a", "a/", "\u{feff}a", "$x/x", "x/x"];
    for version in BOTH {
        let mut world = world();
        let publisher = clean(&mut world, version, "p");
        for (filter, matching) in [
            ("\u{e9}", &["\u{e9}"][..]),
            ("a", &["a"]),
            ("/a", &["/a"]),
            ("\u{feff}a", &["\u{feff}a"]),
            ("+/x", &["x/x"]),
            ("#", &["\u{e9}", "e\u{301}", "a", "A", "/a", "a/", "\u{feff}a", "x/x"]),
            ("$x/#", &["$x/x"]),
        ] {
            let conn = clean(&mut world, version, "c");
            ask(&mut world, conn, version, &subscribing(version, 9, &[(filter, Q0)]));
            TOPICS.iter().for_each(|topic| world.bytes(publisher, &publishing(version, message(topic, "x"))));
            let wanted: Vec<_> = matching.iter().map(|topic| format!("{topic} x q0")).collect();
            assert_eq!(heard(&mut world, conn, version), wanted, "{version:?} {filter}");
            lose(&mut world, conn);
        }
    }
}
