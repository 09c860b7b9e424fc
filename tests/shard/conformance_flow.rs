//! Statements of MQTT 3.1.1 and 5.0: how messages go in and out, and what answers have and do not have. `conformance.rs` has the rest.

use std::time::Duration;

use forebay::auth::password::scram_of;
use forebay::mqtt::packet::{Connect, Packet, PacketType, Publish, Sender, SubscriptionOptions, Version, Will};
use forebay::mqtt::property::{Properties, Property, PropertyBuf};
use forebay::mqtt::reason::ReasonCode;
use forebay::mqtt::{decode, frame};
use forebay::runtime::seam::ConnId;
use forebay::secure::scram::{First, Hash};

use super::conformance::{
    BOTH, Q0, Q1, Q2, acknowledging, ask, clean, connected, heard, hello, kept, lose, publishing, subscribing,
    unsubscribing,
};
use super::subscribe::{PLAIN, bytes_of, message, subscribe, world};
use super::world::{ONE_SINK, World};

const OK: ReasonCode = ReasonCode::SUCCESS;
const HOUR: Duration = Duration::from_secs(3_600);
const V5: Version = Version::V5;

fn properties<'a>(list: impl IntoIterator<Item = Property<'a>>) -> PropertyBuf {
    let mut properties = PropertyBuf::new();
    properties.extend(list);
    properties
}

/// A subscriber of 5.0 to this topic at QoS 2, with these properties in its CONNECT.
fn subscriber(world: &mut World, topic: &str, list: &[Property<'_>]) -> ConnId {
    let asked = properties(list.iter().copied());
    let (conn, _) = connected(world, &Connect { properties: asked.as_properties(), ..hello(V5, "s") });
    assert_eq!(ask(world, conn, V5, &subscribing(V5, 9, &[(topic, Q2)])), ["suback 9 [2]"]);
    conn
}

/// Packets of a server: type, length, properties.
fn looked_at(bytes: &[u8]) -> Vec<(PacketType, usize, Vec<String>)> {
    let (mut rest, mut all) = (bytes, Vec::new());
    while let Some(frame) = frame::next(rest, u32::MAX).expect("well formed") {
        rest = &rest[frame.len..];
        let list = match decode::decode(V5, Sender::Server, frame).expect("well formed") {
            Packet::ConnAck(it) => it.properties,
            Packet::Publish(it) => it.properties,
            Packet::PubAck(it) | Packet::PubRec(it) | Packet::PubRel(it) | Packet::PubComp(it) => it.properties,
            Packet::SubAck(it) | Packet::UnsubAck(it) => it.properties,
            Packet::Disconnect(it) | Packet::Auth(it) => it.properties,
            _ => Properties::EMPTY,
        };
        let list = list.iter().map(|property| format!("{property:?}")).collect();
        all.push((PacketType::of(frame.first).expect("a type"), frame.len, list));
    }
    all
}

/// [MQTT-2.2.1-5] [MQTT-3.3.1-3] [MQTT-3.3.4-1] [MQTT-4.3.2-4] [MQTT-4.3.2-5] [MQTT-4.3.3-8] [MQTT-4.3.3-10]
/// [MQTT-4.3.3-11] [MQTT-4.3.3-12] [3.1.1 MQTT-2.3.1-6] [3.1.1 MQTT-3.3.1-3] [3.1.1 MQTT-3.3.4-1] [3.1.1 MQTT-4.3.2-2]
/// [3.1.1 MQTT-4.3.3-2]
#[test]
fn a_publish_is_answered_by_its_qos() {
    for version in BOTH {
        let mut world = world();
        let hears = subscriber(&mut world, "t", &[]);
        let publisher = clean(&mut world, version, "p");
        let mut say = |qos, packet_id, dup, payload| {
            let publish = Publish { qos, packet_id, dup, ..message("t", payload) };
            let said = ask(&mut world, publisher, version, &publishing(version, publish));
            (said, heard(&mut world, hears, V5))
        };
        let nothing = Vec::<String>::new();
        let answered = |answer: &str, copy: &str| (vec![answer.to_owned()], vec![copy.to_owned()]);
        assert_eq!(say(Q0, 0, false, "0"), (nothing.clone(), vec!["t 0 q0".to_owned()]));
        assert_eq!(say(Q1, 7, false, "1"), answered("puback 7 0x00", "t 1 q1 id 1"));
        assert_eq!(say(Q1, 7, true, "1"), answered("puback 7 0x00", "t 1 q1 id 2"), "another message");
        assert_eq!(say(Q2, 9, false, "2"), answered("pubrec 9 0x00", "t 2 q2 id 3"));
        assert_eq!(say(Q2, 9, true, "2"), (vec!["pubrec 9 0x00".to_owned()], nothing), "the same message");
        let pubrel = acknowledging(version, PacketType::PubRel, 9, OK);
        assert_eq!(ask(&mut world, publisher, version, &pubrel), ["pubcomp 9 0x00"]);
        let again = Publish { qos: Q2, packet_id: 9, dup: true, ..message("t", "3") };
        assert_eq!(ask(&mut world, publisher, version, &publishing(version, again)), ["pubrec 9 0x00"]);
        assert_eq!(heard(&mut world, hears, V5), ["t 3 q2 id 4"], "another message, and DUP is not its publisher's");
    }
}

/// [MQTT-2.2.1-4] [MQTT-2.2.1-5] [MQTT-3.3.1-1] [MQTT-4.3.2-1] [MQTT-4.3.2-2] [MQTT-4.3.2-3] [MQTT-4.3.3-1] [MQTT-4.3.3-2]
/// [MQTT-4.3.3-3] [MQTT-4.3.3-4] [MQTT-4.3.3-5] [MQTT-4.3.3-6] [MQTT-4.4.0-1] [3.1.1 MQTT-2.3.1-4] [3.1.1 MQTT-2.3.1-6]
/// [3.1.1 MQTT-3.3.1-1] [3.1.1 MQTT-4.3.2-1] [3.1.1 MQTT-4.3.3-1] [3.1.1 MQTT-4.4.0-1] [3.1.1 MQTT-4.6.0-1]
#[test]
fn what_is_sent_is_open_until_it_is_acknowledged() {
    for version in BOTH {
        let mut world = world();
        let (conn, _) = kept(&mut world, version, "s");
        ask(&mut world, conn, version, &subscribing(version, 9, &[("t", Q2)]));
        let publisher = clean(&mut world, V5, "p");
        for (qos, packet_id, payload) in [(Q1, 1, "1"), (Q2, 2, "2"), (Q2, 3, "3")] {
            world.bytes(publisher, &publishing(V5, Publish { qos, packet_id, ..message("t", payload) }));
        }
        assert_eq!(heard(&mut world, conn, version), ["t 1 q1 id 1", "t 2 q2 id 2", "t 3 q2 id 3"]);
        world.advance(HOUR);
        assert!(heard(&mut world, conn, version).is_empty(), "nothing is sent again to a client that is there");
        let say = |world: &mut World, conn, kind, id| ask(world, conn, version, &acknowledging(version, kind, id, OK));
        assert_eq!(say(&mut world, conn, PacketType::PubRec, 2), ["pubrel 2 0x00"]);
        world.advance(HOUR);
        assert!(heard(&mut world, conn, version).is_empty());
        lose(&mut world, conn);
        let (conn, said) = kept(&mut world, version, "s");
        assert_eq!(said, ["connack 1 0x00", "t 1 q1 id 1 dup", "pubrel 2 0x00", "t 3 q2 id 3 dup"], "{version:?}");
        assert!(say(&mut world, conn, PacketType::PubAck, 1).is_empty());
        assert!(say(&mut world, conn, PacketType::PubComp, 2).is_empty());
        assert_eq!(say(&mut world, conn, PacketType::PubRec, 3), ["pubrel 3 0x00"]);
        lose(&mut world, conn);
        let (conn, said) = kept(&mut world, version, "s");
        assert_eq!(said, ["connack 1 0x00", "pubrel 3 0x00"], "{version:?}: what is acknowledged is over");
        assert!(say(&mut world, conn, PacketType::PubComp, 3).is_empty());
        lose(&mut world, conn);
        assert_eq!(kept(&mut world, version, "s").1, ["connack 1 0x00"], "{version:?}");
    }
}

/// [MQTT-4.4.0-2]
#[test]
fn what_is_refused_is_not_sent_again() {
    let mut world = world();
    let (conn, _) = kept(&mut world, V5, "s");
    ask(&mut world, conn, V5, &subscribing(V5, 9, &[("t", Q2)]));
    let publisher = clean(&mut world, V5, "p");
    for (qos, packet_id) in [(Q1, 1), (Q2, 2)] {
        world.bytes(publisher, &publishing(V5, Publish { qos, packet_id, ..message("t", "x") }));
    }
    assert_eq!(heard(&mut world, conn, V5).len(), 2);
    for (kind, id) in [(PacketType::PubAck, 1), (PacketType::PubRec, 2)] {
        assert!(ask(&mut world, conn, V5, &acknowledging(V5, kind, id, ReasonCode::UNSPECIFIED_ERROR)).is_empty());
    }
    lose(&mut world, conn);
    assert_eq!(kept(&mut world, V5, "s").1, ["connack 1 0x00"]);
}

/// [MQTT-4.3.3-7] [MQTT-4.3.3-13]
#[test]
fn an_exchange_of_qos_2_goes_on_though_the_message_has_expired() {
    let mut world = world();
    let (conn, _) = kept(&mut world, V5, "s");
    ask(&mut world, conn, V5, &subscribing(V5, 9, &[("t", Q2)]));
    let publisher = clean(&mut world, V5, "p");
    let expiry = properties([Property::MessageExpiryInterval(5)]);
    let publish = Publish { qos: Q2, packet_id: 7, properties: expiry.as_properties(), ..message("t", "x") };
    assert_eq!(ask(&mut world, publisher, V5, &publishing(V5, publish)), ["pubrec 7 0x00"]);
    assert_eq!(heard(&mut world, conn, V5), ["t x q2 id 1"]);
    lose(&mut world, conn);
    world.advance(Duration::from_secs(60));
    assert_eq!(kept(&mut world, V5, "s").1, ["connack 1 0x00", "t x q2 id 1 dup"]);
    let pubrel = acknowledging(V5, PacketType::PubRel, 7, OK);
    assert_eq!(ask(&mut world, publisher, V5, &pubrel), ["pubcomp 7 0x00"]);
}

/// [MQTT-3.3.4-2] [MQTT-4.6.0-5] [MQTT-4.6.0-6] [3.1.1 MQTT-3.3.5-1] [3.1.1 MQTT-4.6.0-5] [3.1.1 MQTT-4.6.0-6]
#[test]
fn one_copy_at_the_highest_qos_and_all_in_order() {
    for version in BOTH {
        let mut world = world();
        let conn = clean(&mut world, version, "s");
        ask(&mut world, conn, version, &subscribing(version, 9, &[("a/+", Q0), ("a/b", Q2), ("#", Q1)]));
        let publisher = clean(&mut world, version, "p");
        for packet_id in 1..=50 {
            let payload = packet_id.to_string();
            world.bytes(publisher, &publishing(version, Publish { qos: Q2, packet_id, ..message("a/b", &payload) }));
        }
        let wanted: Vec<_> = (1..=50).map(|id| format!("a/b {id} q2 id {id}")).collect();
        assert_eq!(heard(&mut world, conn, version), wanted, "{version:?}");
    }
}

/// [MQTT-3.3.4-9] [MQTT-3.3.4-10] [MQTT-4.9.0-1] [MQTT-4.9.0-2] [MQTT-4.9.0-3]
#[test]
fn a_client_whose_quota_is_used_up_is_answered_all_the_same() {
    let mut world = world();
    let conn = subscriber(&mut world, "t", &[Property::ReceiveMaximum(1)]);
    let publisher = clean(&mut world, V5, "p");
    for packet_id in 1..=2 {
        world.bytes(publisher, &publishing(V5, Publish { qos: Q1, packet_id, ..message("t", "x") }));
    }
    assert_eq!(heard(&mut world, conn, V5), ["t x q1 id 1"]);
    let publish = |qos, packet_id| publishing(V5, Publish { qos, packet_id, ..message("none", "x") });
    let all =
        [vec![0xC0, 0], subscribing(V5, 3, &[("u", Q1)]), unsubscribing(V5, 4, &["u"]), publish(Q1, 5), publish(Q2, 6)];
    assert_eq!(
        ask(&mut world, conn, V5, &all.concat()),
        ["pingresp", "suback 3 [1]", "unsuback 4 [0]", "puback 5 0x10", "pubrec 6 0x10"]
    );
    let pubrel = acknowledging(V5, PacketType::PubRel, 6, OK);
    assert_eq!(ask(&mut world, conn, V5, &pubrel), ["pubcomp 6 0x00"]);
    world.advance(HOUR);
    assert!(heard(&mut world, conn, V5).is_empty());
    assert_eq!(ask(&mut world, conn, V5, &acknowledging(V5, PacketType::PubAck, 1, OK)), ["t x q1 id 2"]);
}

/// [MQTT-3.8.3-3]
#[test]
fn no_local_holds_for_a_will_too() {
    for no_local in [true, false] {
        let mut world = world();
        let hour = properties([Property::SessionExpiryInterval(3_600)]);
        let will = Will { qos: Q1, retain: false, topic: "w", payload: b"gone", properties: Properties::EMPTY };
        let connect = Connect { clean_start: false, properties: hour.as_properties(), ..hello(V5, "c") };
        let (conn, _) = connected(&mut world, &Connect { will: Some(will), ..connect.clone() });
        let options = SubscriptionOptions { qos: Q1, no_local, ..PLAIN };
        assert_eq!(subscribe(&mut world, conn, V5, 0, &[("w", options)]), [1]);
        lose(&mut world, conn);
        let own = if no_local { vec![] } else { vec!["w gone q1 id 1"] };
        let (_, said) = connected(&mut world, &connect);
        assert_eq!(said[1..], own, "No Local: {no_local}");
    }
}

/// [MQTT-3.3.2-4] [MQTT-3.3.2-15] [MQTT-3.3.2-16] [MQTT-3.3.2-17] [MQTT-3.3.2-18] [MQTT-3.3.2-20]
#[test]
fn the_properties_of_a_message_go_on_as_they_are() {
    let mut world = world();
    let hears = subscriber(&mut world, "t", &[]);
    let publisher = clean(&mut world, V5, "p");
    for indicator in [0, 1] {
        let list = [
            Property::UserProperty("b", "1"),
            Property::PayloadFormatIndicator(indicator),
            Property::ResponseTopic("answer/here"),
            Property::UserProperty("a", "2"),
            Property::CorrelationData(&[0, 255]),
            Property::ContentType("text/plain"),
            Property::UserProperty("b", "1"),
        ];
        let sent = properties(list);
        let publish = Publish { properties: sent.as_properties(), ..message("t", "x") };
        world.bytes(publisher, &publishing(V5, publish));
        let [(PacketType::Publish, _, came)] = &looked_at(&world.sent(hears))[..] else { panic!("one message") };
        assert_eq!(*came, list.map(|property| format!("{property:?}")));
    }
}

/// [MQTT-3.1.2-24] [MQTT-3.1.2-25]
#[test]
fn a_message_that_is_too_large_is_as_one_that_was_sent() {
    let mut world = world();
    let conn = subscriber(&mut world, "t", &[Property::MaximumPacketSize(40), Property::ReceiveMaximum(1)]);
    let publisher = clean(&mut world, V5, "p");
    let large = "x".repeat(100);
    for (packet_id, payload) in [(1, &*large), (2, "a"), (3, &large), (4, "b")] {
        let said =
            ask(&mut world, publisher, V5, &publishing(V5, Publish { qos: Q1, packet_id, ..message("t", payload) }));
        assert_eq!(said, [format!("puback {packet_id} 0x00")]);
    }
    let said = heard(&mut world, conn, V5);
    let [first] = &said[..] else { panic!("{said:?}") };
    let id = first.strip_prefix("t a q1 id ").expect("the first that fits").parse().expect("a number");
    let said = ask(&mut world, conn, V5, &acknowledging(V5, PacketType::PubAck, id, OK));
    assert!(said.len() == 1 && said[0].starts_with("t b q1 id "), "{said:?}");
}

/// [MQTT-3.2.2-19] [MQTT-3.2.2-20] [MQTT-3.6.2-2] [MQTT-3.6.2-3] [MQTT-3.7.2-2] [MQTT-3.9.2-1] [MQTT-3.9.2-2] [MQTT-3.11.2-1]
/// [MQTT-3.11.2-2] [MQTT-3.14.2-2] [MQTT-3.14.2-3] [MQTT-3.14.2-4]
#[test]
fn no_answer_is_too_large_for_its_client() {
    use PacketType::{ConnAck, Disconnect, PubComp, PubRel, SubAck, UnsubAck};
    const MAX: u32 = 25;
    let deep = format!("+{}", "/a".repeat(60));
    for max in [None, Some(MAX)] {
        let mut world =
            World::new(&format!("{}[mqtt]\nsessions_max = 2\n", ONE_SINK.replace("\"#\"", "\"to/kafka/#\"")));
        let size = properties(max.map(Property::MaximumPacketSize));
        let connect = |id| Connect { properties: size.as_properties(), ..hello(V5, id) };
        clean(&mut world, V5, "one");
        let (conn, said) = connected(&mut world, &connect("two"));
        assert_eq!(said, ["connack 0 0x00"]);
        let third = world.accept();
        world.bytes(third, &bytes_of(V5, &Packet::Connect(connect("three"))));
        let asked = [
            subscribing(V5, 1, &[(&*deep, Q0)]),
            unsubscribing(V5, 2, &["t"]),
            acknowledging(V5, PacketType::PubRec, 3, OK),
            acknowledging(V5, PacketType::PubRel, 4, OK),
            bytes_of(V5, &Packet::Connect(connect("two"))),
        ];
        world.bytes(conn, &asked.concat());
        let said = [world.sent(third), world.sent(conn)].concat();
        let said = looked_at(&said);
        let kinds: Vec<_> = said.iter().map(|(kind, ..)| *kind).collect();
        assert_eq!(kinds, [ConnAck, SubAck, UnsubAck, PubRel, PubComp, Disconnect]);
        for (kind, len, properties) in said {
            let says_why = max.is_none() && matches!(kind, ConnAck | SubAck | Disconnect);
            assert_eq!(properties.len(), usize::from(says_why), "{kind:?}: {properties:?}");
            assert!(properties.iter().all(|property| property.starts_with("ReasonString")), "{kind:?}: {properties:?}");
            assert!(max.is_none_or(|max| len <= max as usize), "{kind:?}: {len} bytes");
        }
    }
}

/// [MQTT-3.4.2-3] [MQTT-3.5.2-3] [MQTT-3.7.2-3]
#[test]
fn where_a_message_is_in_kafka_is_told_to_who_has_room_for_it() {
    for (max, count) in [(None, 3), (Some(40), 0)] {
        let listener = "[[listener]]\nbind = \"127.0.0.1:1883\"\nreceipts = true\n";
        let mut world = World::new(&format!("{listener}{ONE_SINK}"));
        let size = properties(max.map(Property::MaximumPacketSize));
        let (conn, _) = connected(&mut world, &Connect { properties: size.as_properties(), ..hello(V5, "c") });
        let publish = |qos, packet_id| publishing(V5, Publish { qos, packet_id, ..message("t", "x") });
        world.bytes(conn, &[publish(Q1, 1), publish(Q2, 2)].concat());
        world.advance(Duration::from_secs(3));
        world.bytes(conn, &acknowledging(V5, PacketType::PubRel, 2, OK));
        let said = looked_at(&world.sent(conn));
        let kinds: Vec<_> = said.iter().map(|(kind, ..)| *kind).collect();
        assert_eq!(kinds, [PacketType::PubAck, PacketType::PubRec, PacketType::PubComp]);
        for (kind, len, properties) in said {
            assert_eq!(properties.len(), count, "{kind:?}: {properties:?}");
            assert!(properties.iter().all(|property| property.starts_with("UserProperty")), "{kind:?}: {properties:?}");
            assert!(max.is_none_or(|max| len <= max as usize), "{kind:?}: {len} bytes");
        }
    }
}

/// [MQTT-3.15.2-2] [MQTT-3.15.2-3] [MQTT-4.12.0-5]
#[test]
fn auth_has_its_method_and_data_and_nothing_else() {
    let dir = tempfile::tempdir().expect("a folder");
    let file = dir.path().join("passwords");
    std::fs::write(&file, format!("ada:{}\n", scram_of(b"secret").expect("random numbers"))).expect("written");
    let auth = "[[listener]]\nbind = '127.0.0.1:1883'\nauth = 'a'\n[auth.a]\nchain = ['scram']\n";
    let mut world = World::new(&format!("{auth}password_file = '{}'\n{ONE_SINK}", file.display()));
    let (_, first) = First::new(Hash::Sha256, "ada", "nonce".to_owned());
    let asked = properties([
        Property::AuthenticationMethod("SCRAM-SHA-256"),
        Property::AuthenticationData(first.as_bytes()),
        Property::RequestProblemInformation(true),
    ]);
    let connect = Connect { properties: asked.as_properties(), ..hello(V5, "c") };
    let conn = world.accept();
    world.bytes(conn, &bytes_of(V5, &Packet::Connect(connect)));
    let said = looked_at(&world.sent(conn));
    let [(PacketType::Auth, _, properties)] = &said[..] else { panic!("{said:?}") };
    assert_eq!(properties.len(), 2, "{properties:?}");
    assert_eq!(properties[0], "AuthenticationMethod(\"SCRAM-SHA-256\")");
    assert!(properties[1].starts_with("AuthenticationData("), "{properties:?}");
}
