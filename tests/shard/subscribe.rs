//! Subscriptions: who gets which message, in which form, and what happens to those that do not read.

use std::time::Duration;

use forebay::limits::{COPIES_PER_WRITE, WIDE_COPIES_ALONE, WIDE_COPIES_PER_TURN};
use forebay::metrics::spec::ShardMetric as M;
use forebay::mqtt::packet::{Packet, Publish, QoS, Sender, Subscribe, SubscriptionOptions, Unsubscribe, Version};
use forebay::mqtt::property::{Properties, Property, PropertyBuf};
use forebay::mqtt::{FilterBuf, decode, encode, frame};
use forebay::runtime::seam::{Closed, ConnId, Shard as _};

use super::world::{ONE_SINK, World};

pub(crate) const PLAIN: SubscriptionOptions =
    SubscriptionOptions { qos: QoS::AtMostOnce, no_local: false, retain_as_published: false, retain_handling: 0 };

/// No sink takes these topics.
pub(crate) fn world() -> World {
    World::new(&ONE_SINK.replace("\"#\"", "\"to/kafka/#\""))
}

pub(crate) fn bytes_of(version: Version, packet: &Packet<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    encode::packet(version, packet, &mut out).expect("it can be said");
    out
}

fn filters(list: &[(&str, SubscriptionOptions)]) -> FilterBuf {
    let mut filters = FilterBuf::for_subscribe();
    list.iter().for_each(|(filter, options)| assert!(filters.push(filter, *options)));
    filters
}

pub(crate) fn subscribe_packet(version: Version, id: u32, list: &[(&str, SubscriptionOptions)]) -> Vec<u8> {
    let filters = filters(list);
    let mut properties = PropertyBuf::new();
    properties.extend((id > 0).then_some(Property::SubscriptionIdentifier(id)));
    let properties = properties.as_properties();
    let packet = Subscribe { packet_id: 9, properties, filters: filters.as_filters() };
    bytes_of(version, &Packet::Subscribe(packet))
}

/// Sends SUBSCRIBE; the codes of its SUBACK.
pub(crate) fn subscribe(
    world: &mut World,
    conn: ConnId,
    version: Version,
    id: u32,
    list: &[(&str, SubscriptionOptions)],
) -> Vec<u8> {
    let (codes, behind) = subscribe_and_hear(world, conn, version, id, list);
    assert!(behind.is_empty(), "{behind:?}");
    codes
}

/// The same, and what came behind the SUBACK.
pub(crate) fn subscribe_and_hear(
    world: &mut World,
    conn: ConnId,
    version: Version,
    id: u32,
    list: &[(&str, SubscriptionOptions)],
) -> (Vec<u8>, Vec<String>) {
    world.bytes(conn, &subscribe_packet(version, id, list));
    let heard = world.sent(conn);
    let frame = frame::next(&heard, u32::MAX).expect("well formed").expect("an answer");
    match decode::decode(version, Sender::Server, frame).expect("well formed") {
        Packet::SubAck(ack) => (ack.codes.to_vec(), in_words(&heard[frame.len..], version)),
        other => panic!("{other:?}"),
    }
}

pub(crate) fn unsubscribe(world: &mut World, conn: ConnId, filter: &str) -> Vec<u8> {
    let mut filters = FilterBuf::for_unsubscribe();
    assert!(filters.push(filter, PLAIN));
    let packet = Unsubscribe { packet_id: 9, properties: Properties::EMPTY, filters: filters.as_filters() };
    world.bytes(conn, &bytes_of(Version::V311, &Packet::Unsubscribe(packet)));
    world.sent(conn)
}

pub(crate) fn message<'a>(topic: &'a str, payload: &'a str) -> Publish<'a> {
    Publish {
        dup: false,
        qos: QoS::AtMostOnce,
        retain: false,
        topic,
        packet_id: 0,
        properties: Properties::EMPTY,
        payload: payload.as_bytes(),
    }
}

pub(crate) fn publish(world: &mut World, conn: ConnId, version: Version, publish: Publish<'_>) {
    world.bytes(conn, &bytes_of(version, &Packet::Publish(publish)));
}

/// What a client has been sent, in words: topic, payload, RETAIN, properties.
pub(crate) fn heard(world: &mut World, conn: ConnId, version: Version) -> Vec<String> {
    in_words(&world.sent(conn), version)
}

pub(crate) fn in_words(bytes: &[u8], version: Version) -> Vec<String> {
    let (mut rest, mut all) = (bytes, Vec::new());
    while let Some(frame) = frame::next(rest, u32::MAX).expect("well formed") {
        rest = &rest[frame.len..];
        all.push(match decode::decode(version, Sender::Server, frame).expect("well formed") {
            Packet::Publish(publish) => {
                assert!(!publish.dup);
                let retain = if publish.retain { " retain" } else { "" };
                let properties: Vec<_> = publish.properties.iter().map(|property| format!(" {property:?}")).collect();
                let payload = String::from_utf8_lossy(publish.payload);
                let qos = match publish.qos {
                    QoS::AtMostOnce => String::new(),
                    qos => format!(" qos {} id {}", qos as u8, publish.packet_id),
                };
                format!("{} {payload}{qos}{retain}{}", publish.topic, properties.concat())
            }
            other => format!("{other:?}"),
        });
    }
    assert!(rest.is_empty());
    all
}

#[test]
fn a_message_goes_to_those_whose_filters_match_it() {
    let mut world = world();
    let [exact, wild, other] = ["exact", "wild", "other"].map(|name| world.device(name, 0));
    let publisher = world.device_v5("publisher");
    assert_eq!(subscribe(&mut world, exact, Version::V311, 0, &[("a/b", PLAIN)]), [0]);
    assert_eq!(subscribe(&mut world, wild, Version::V311, 0, &[("a/+", PLAIN), ("a/#", PLAIN)]), [0, 0]);
    assert_eq!(subscribe(&mut world, other, Version::V311, 0, &[("b/#", PLAIN)]), [0]);
    publish(&mut world, publisher, Version::V5, message("a/b", "one"));
    publish(&mut world, publisher, Version::V5, message("a", "two"));
    assert_eq!(heard(&mut world, exact, Version::V311), ["a/b one"]);
    assert_eq!(heard(&mut world, wild, Version::V311), ["a/b one", "a two"], "once, though two filters match");
    assert!(heard(&mut world, other, Version::V311).is_empty());
    assert_eq!((world.number(M::CopiesSent), world.number(M::PublishesMatched)), (3, 2));
    assert_eq!((world.number(M::CopiesSentBytes), world.number(M::PublishBytes)), (9, 6));

    assert_eq!(unsubscribe(&mut world, exact, "a/b")[..2], [0xB0, 2]);
    publish(&mut world, publisher, Version::V5, message("a/b", "three"));
    assert!(heard(&mut world, exact, Version::V311).is_empty(), "it has unsubscribed");
    assert_eq!(heard(&mut world, wild, Version::V311).len(), 1);
    assert_eq!((world.number(M::Subscriptions), world.number(M::SubscriptionFilters)), (3, 3));
}

#[test]
fn the_answer_says_whether_there_are_subscribers() {
    let mut world = world();
    let (publisher, subscriber) = (world.device_v5("publisher"), world.device("subscriber", 0));
    let puback = |world: &mut World, topic, qos, id| {
        let publish = Publish { qos, packet_id: id, ..message(topic, "x") };
        world.bytes(publisher, &bytes_of(Version::V5, &Packet::Publish(publish)));
        world.sent(publisher)
    };
    assert_eq!(puback(&mut world, "t", QoS::AtLeastOnce, 1), [0x40, 3, 0, 1, 0x10], "no subscribers");
    subscribe(&mut world, subscriber, Version::V311, 0, &[("t", PLAIN)]);
    assert_eq!(puback(&mut world, "t", QoS::AtLeastOnce, 2), [0x40, 2, 0, 2]);
    assert_eq!(puback(&mut world, "t", QoS::ExactlyOnce, 3), [0x50, 2, 0, 3]);
    assert_eq!(puback(&mut world, "t", QoS::ExactlyOnce, 3), [0x50, 2, 0, 3], "a repeat");
    assert_eq!(heard(&mut world, subscriber, Version::V311), ["t x", "t x"], "it is delivered once");
    // Sinks and subscribers at once.
    subscribe(&mut world, subscriber, Version::V311, 0, &[("to/kafka/#", PLAIN)]);
    assert_eq!(puback(&mut world, "to/kafka/x", QoS::AtLeastOnce, 4), [0x40, 2, 0, 4]);
    assert_eq!(heard(&mut world, subscriber, Version::V311), ["to/kafka/x x"]);
    assert_eq!(world.broker.records.len(), 1);
}

/// [MQTT-3.3.1-12] [MQTT-3.3.1-13] [MQTT-3.3.4-3] [MQTT-3.3.4-4]
#[test]
fn options_and_identifiers() {
    let mut world = world();
    let (publisher, subscriber) = (world.device_v5("publisher"), world.device_v5("subscriber"));
    let as_published = SubscriptionOptions { retain_as_published: true, ..PLAIN };
    let no_local = SubscriptionOptions { no_local: true, ..PLAIN };
    subscribe(&mut world, subscriber, Version::V5, 7, &[("a/+", PLAIN)]);
    subscribe(&mut world, subscriber, Version::V5, 8, &[("a/b", as_published), ("own", no_local)]);
    let retained = Publish { retain: true, ..message("a/b", "x") };
    publish(&mut world, publisher, Version::V5, retained.clone());
    publish(&mut world, publisher, Version::V5, Publish { topic: "a/c", ..retained });
    let mut both = heard(&mut world, subscriber, Version::V5);
    // The identifiers of one copy have no order.
    both[0] = both[0].replace("(8) SubscriptionIdentifier(7)", "(7) SubscriptionIdentifier(8)");
    assert_eq!(
        both,
        ["a/b x retain SubscriptionIdentifier(7) SubscriptionIdentifier(8)", "a/c x SubscriptionIdentifier(7)"]
    );
    publish(&mut world, subscriber, Version::V5, message("own", "mine"));
    publish(&mut world, subscriber, Version::V5, message("a/c", "mine, too"));
    publish(&mut world, publisher, Version::V5, message("own", "another's"));
    assert_eq!(
        heard(&mut world, subscriber, Version::V5),
        ["a/c mine, too SubscriptionIdentifier(7)", "own another's SubscriptionIdentifier(8)"],
        "[MQTT-3.8.3-3]"
    );
    // The same filter again: another identifier, other options.
    subscribe_and_hear(&mut world, subscriber, Version::V5, 0, &[("a/b", PLAIN)]);
    publish(&mut world, publisher, Version::V5, Publish { retain: true, ..message("a/b", "y") });
    assert_eq!(heard(&mut world, subscriber, Version::V5), ["a/b y SubscriptionIdentifier(7)"], "[MQTT-3.8.4-3]");
}

/// [MQTT-3.3.2-15] [MQTT-3.3.2-16] [MQTT-3.3.2-17] [MQTT-3.3.2-18] [MQTT-3.3.2-20]
#[test]
fn properties_go_on_and_aliases_do_not() {
    let mut world = world();
    let (publisher, new, old) = (world.device_v5("publisher"), world.device_v5("new"), world.device("old", 0));
    subscribe(&mut world, new, Version::V5, 0, &[("t", PLAIN)]);
    subscribe(&mut world, old, Version::V311, 0, &[("t", PLAIN)]);
    let mut properties = PropertyBuf::new();
    properties.extend([
        Property::TopicAlias(3),
        Property::ContentType("text"),
        Property::UserProperty("k", "2"),
        Property::UserProperty("k", "1"),
        Property::MessageExpiryInterval(60),
        Property::ResponseTopic("r"),
        Property::CorrelationData(b"c"),
    ]);
    let first = Publish { properties: properties.as_properties(), ..message("t", "x") };
    publish(&mut world, publisher, Version::V5, first);
    let mut alias = PropertyBuf::new();
    alias.extend([Property::TopicAlias(3)]);
    publish(&mut world, publisher, Version::V5, Publish { properties: alias.as_properties(), ..message("", "y") });
    assert_eq!(
        heard(&mut world, new, Version::V5),
        [
            "t x ContentType(\"text\") UserProperty(\"k\", \"2\") UserProperty(\"k\", \"1\") MessageExpiryInterval(60) \
             ResponseTopic(\"r\") CorrelationData([99])",
            "t y"
        ]
    );
    assert_eq!(heard(&mut world, old, Version::V311), ["t x", "t y"]);
}

#[test]
fn refusals() {
    let mut world = world();
    let (new, old) = (world.device_v5("new"), world.device("old", 0));
    // More shapes that begin with a wildcard than there are places (more than 60 levels have none).
    let deep = format!("+{}", "/a".repeat(60));
    let (refused, shared) = ([(&*deep, PLAIN), ("a", PLAIN)], [("$share//a", PLAIN), ("a", PLAIN)]);
    assert_eq!(subscribe(&mut world, new, Version::V5, 0, &refused), [0x97, 0]);
    assert_eq!(subscribe(&mut world, old, Version::V311, 0, &shared), [0x80, 0]);
    assert_eq!(world.told(forebay::metrics::event::Kind::SubscribeRefused), 2);
}

#[test]
fn a_subscriber_that_does_not_read_loses_messages_and_its_neighbour_none() {
    let mut world = world();
    let (publisher, deaf, neighbour) = (world.device_v5("p"), world.device("deaf", 0), world.device("n", 0));
    subscribe(&mut world, deaf, Version::V311, 0, &[("t", PLAIN)]);
    subscribe(&mut world, neighbour, Version::V311, 0, &[("t", PLAIN)]);
    let payload = "x".repeat(10_000);
    for _ in 0..200 {
        publish(&mut world, publisher, Version::V5, message("t", &payload));
        assert_eq!(heard(&mut world, neighbour, Version::V311).len(), 1);
    }
    let unsent = world.table.wire(deaf).out.len();
    assert!((1 << 20..(1 << 20) + 20_000).contains(&unsent), "{unsent}");
    let dropped = world.number(M::CopiesSlow);
    assert_eq!(heard(&mut world, deaf, Version::V311).len() as u64 + dropped, 200);
    assert!(dropped > 50 && world.told(forebay::metrics::event::Kind::MessageDropped) > 0);
    assert!(!world.table.wire(publisher).paused, "its publisher notices nothing");
    publish(&mut world, publisher, Version::V5, message("t", "again"));
    assert_eq!(heard(&mut world, deaf, Version::V311), ["t again"]);
}

#[test]
fn one_to_twelve_thousand_takes_several_turns_and_keeps_the_order() {
    const SUBSCRIBERS: usize = 12_000;
    let mut world = world();
    let publisher = world.device_v5("publisher");
    let all: Vec<_> = (0..SUBSCRIBERS).map(|number| world.device(&format!("s{number}"), 0)).collect();
    for conn in &all {
        subscribe(&mut world, *conn, Version::V311, 0, &[("wide", PLAIN)]);
    }
    let few = world.device("few", 0);
    subscribe(&mut world, few, Version::V311, 0, &[("few", PLAIN)]);
    publish(&mut world, publisher, Version::V5, message("wide", "1"));
    publish(&mut world, publisher, Version::V5, message("few", "2"));
    // In the list of subscribers the last one takes the place of the first, which has the first message.
    assert_eq!(heard(&mut world, all[0], Version::V311), ["wide 1"]);
    assert_eq!(unsubscribe(&mut world, all[0], "wide")[..2], [0xB0, 2]);
    publish(&mut world, publisher, Version::V5, message("wide", "3"));
    let copies = world.number(M::CopiesSent);
    // The first turn was alone, and each of its copies needs a write.
    let most = WIDE_COPIES_ALONE / COPIES_PER_WRITE + 4 * WIDE_COPIES_PER_TURN;
    assert!(copies <= most as u64, "a turn makes no more: {copies}");
    assert!(world.number(M::DeliveryLineBytes) > 0);
    // One of them unsubscribes, and one leaves, before its turn has come.
    let (gone, left) = (all[SUBSCRIBERS - 2], all[SUBSCRIBERS - 3]);
    let had = heard(&mut world, gone, Version::V311).len();
    assert_eq!(unsubscribe(&mut world, gone, "wide")[..2], [0xB0, 2]);
    world.core.on_close(&mut world.table, left, Closed::Peer);
    world.advance(Duration::from_millis(20));
    assert_eq!(world.number(M::DeliveryLineBytes), 0);
    assert!(heard(&mut world, gone, Version::V311).is_empty() && had < 2);
    for conn in all[1..].iter().filter(|conn| ![gone, left].contains(conn)) {
        assert_eq!(heard(&mut world, *conn, Version::V311), ["wide 1", "wide 3"]);
    }
    assert_eq!(heard(&mut world, few, Version::V311), ["few 2"]);
    let counted = [M::CopiesSent, M::CopiesEnded, M::CopiesSessionEnded].map(|metric| world.number(metric));
    assert!(counted.iter().sum::<u64>() >= 2 * SUBSCRIBERS as u64 - 2, "{counted:?}");
}

#[test]
fn wills_have_subscribers_too() {
    let mut world = world();
    let subscriber = world.device("subscriber", 0);
    subscribe(&mut world, subscriber, Version::V311, 0, &[("w", PLAIN)]);
    let conn = world.accept();
    let connect = b"\x10\x16\x00\x04MQTT\x04\x06\x00\x00\x00\x01d\x00\x01w\x00\x04gone";
    world.bytes(conn, connect);
    assert_eq!(world.sent(conn), [0x20, 2, 0, 0]);
    world.core.on_close(&mut world.table, conn, Closed::Peer);
    world.turn();
    assert_eq!(heard(&mut world, subscriber, Version::V311), ["w gone"]);
}

/// The same bytes for many, each with an identifier of its own.
/// [MQTT-4.3.1-1] [3.1.1 MQTT-3.8.4-6] [3.1.1 MQTT-4.3.1-1]
#[test]
fn copies_of_each_qos_and_version() {
    let mut world = world();
    let publisher = world.device_v5("publisher");
    let granted = |qos| SubscriptionOptions { qos, ..PLAIN };
    let mut subscribers = Vec::new();
    for (name, version) in [("old", Version::V311), ("new", Version::V5)] {
        for qos in [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce] {
            for n in 0..2 {
                let name = format!("{name}-{qos:?}-{n}");
                let conn = if version == Version::V5 { world.device_v5(&name) } else { world.device(&name, 0) };
                assert_eq!(subscribe(&mut world, conn, version, 0, &[("t", granted(qos))]), [qos as u8]);
                subscribers.push((conn, version, qos));
            }
        }
    }
    // A message of its own first, so that identifiers differ.
    let (conn, version, _) = subscribers[2];
    subscribe(&mut world, conn, version, 0, &[("own", granted(QoS::AtLeastOnce))]);
    publish(&mut world, publisher, Version::V5, Publish { qos: QoS::AtLeastOnce, packet_id: 1, ..message("own", "x") });
    assert_eq!(heard(&mut world, conn, version), ["own x qos 1 id 1"]);
    // Long enough for a length of two bytes.
    let payload = "y".repeat(200);
    for (sent, packet_id) in [(QoS::AtLeastOnce, 2), (QoS::ExactlyOnce, 3)] {
        publish(&mut world, publisher, Version::V5, Publish { qos: sent, packet_id, ..message("t", &payload) });
        for (at, (conn, version, granted)) in subscribers.iter().enumerate() {
            let id = packet_id - 1 + u16::from(at == 2);
            let wanted = match sent.min(*granted) {
                QoS::AtMostOnce => format!("t {payload}"),
                qos => format!("t {payload} qos {} id {id}", qos as u8),
            };
            assert_eq!(heard(&mut world, *conn, *version), [wanted], "{at}: [MQTT-3.8.4-8]");
        }
    }
    assert_eq!(world.number(M::RememberedBytes), 0, "no session outlives its connection");
}

#[test]
fn a_subscriber_that_does_not_acknowledge_costs_itself() {
    let mut world = world();
    let (publisher, deaf, neighbour) = (world.device_v5("p"), world.device("deaf", 0), world.device("n", 0));
    for conn in [deaf, neighbour] {
        let options = SubscriptionOptions { qos: QoS::AtLeastOnce, ..PLAIN };
        assert_eq!(subscribe(&mut world, conn, Version::V311, 0, &[("t", options)]), [1]);
    }
    for id in 1..=10_500_u16 {
        publish(
            &mut world,
            publisher,
            Version::V5,
            Publish { qos: QoS::AtLeastOnce, packet_id: id, ..message("t", "x") },
        );
        assert_eq!(heard(&mut world, neighbour, Version::V311), [format!("t x qos 1 id {id}")]);
        world.bytes(neighbour, &[0x40, 2, (id >> 8) as u8, id as u8]);
        assert_eq!(world.sent(publisher).len(), 4, "its publisher is answered at once");
    }
    assert_eq!(heard(&mut world, deaf, Version::V311).len(), 64);
    assert_eq!(world.number(M::CopiesQueueFull), 10_500 - 64 - 10_000);
    assert!(world.told(forebay::metrics::event::Kind::MessageDropped) > 0);
    assert!(world.number(M::RememberedBytes) > 0);
    world.core.on_close(&mut world.table, deaf, Closed::Peer);
    world.turn();
    assert_eq!(world.number(M::RememberedBytes), 0);
    let ended = world.number(M::CopiesSessionEnded);
    assert_eq!(ended, 10_064, "what it had not acknowledged has ended with it, and what waited for that");
}

/// The bytes of a connection with aliases: topic and alias of each message.
fn with_aliases(bytes: &[u8]) -> Vec<(String, Option<u16>)> {
    let (mut rest, mut all) = (bytes, Vec::new());
    while let Some(frame) = frame::next(rest, u32::MAX).expect("well formed") {
        rest = &rest[frame.len..];
        if let Packet::Publish(publish) = decode::decode(Version::V5, Sender::Server, frame).expect("well formed") {
            all.push((publish.topic.to_owned(), publish.properties.topic_alias()));
        }
    }
    all
}

/// A topic is named once on a connection [MQTT-3.3.2-7]; what is sent again after a reconnect does not rely on an alias.
/// [MQTT-3.1.2-26] [MQTT-3.1.2-27] [MQTT-3.3.2-8] [MQTT-3.3.2-11]
#[test]
fn a_client_that_takes_topic_aliases_is_sent_them() {
    let mut world = world();
    // Receive Maximum 3, Topic Alias Maximum 2, kept for an hour.
    let properties = [0x11, 0, 0, 0x0E, 0x10, 0x21, 0, 3, 0x22, 0, 2];
    let connect = |world: &mut World| {
        let conn = world.accept();
        let head = [0x10, 25, 0, 4, b'M', b'Q', b'T', b'T', 5, 0, 0, 0, 11];
        world.bytes(conn, &[&head[..], &properties, &[0, 1, b'c']].concat());
        let mut heard = world.sent(conn);
        assert_eq!((heard[0], heard[3]), (0x20, 0), "CONNACK");
        (conn, heard.split_off(2 + usize::from(heard[1])))
    };
    let (taker, _) = connect(&mut world);
    let other = world.device_v5("other");
    let publisher = world.device("publisher", 0);
    let options = SubscriptionOptions { qos: QoS::AtLeastOnce, ..PLAIN };
    for conn in [taker, other] {
        assert_eq!(subscribe(&mut world, conn, Version::V5, 0, &[("#", options)]), [1]);
    }
    let topics = ["room/1", "room/1", "room/2", "room/1", "room/3", "room/3", "abc"];
    for topic in topics {
        publish(&mut world, publisher, Version::V311, message(topic, "x"));
    }
    let set = |topic: &str, alias| (topic.to_owned(), Some(alias));
    let known = |alias| (String::new(), Some(alias));
    let heard = with_aliases(&world.sent(taker));
    let wanted = [set("room/1", 1), known(1), set("room/2", 2), known(1), ("room/3".into(), None), set("room/3", 1)];
    assert_eq!(heard[..6], wanted);
    assert_eq!(heard[6..], [("abc".to_owned(), None)], "an alias would not be shorter");
    let heard = with_aliases(&world.sent(other));
    assert_eq!(heard, topics.map(|topic| (topic.to_owned(), None)), "it has not asked for any");

    // Two that it has not acknowledged, and one that waits.
    for id in 1..=4 {
        publish(
            &mut world,
            publisher,
            Version::V311,
            Publish { qos: QoS::AtLeastOnce, packet_id: id, ..message("room/3", "y") },
        );
    }
    assert_eq!(with_aliases(&world.sent(taker)), [known(1), known(1), known(1)]);
    world.core.on_close(&mut world.table, taker, Closed::Peer);
    world.table.release(taker);
    world.turn();
    let (taker, behind) = connect(&mut world);
    assert_eq!(with_aliases(&behind), [(); 3].map(|()| ("room/3".to_owned(), None)));
    publish(&mut world, publisher, Version::V311, message("room/3", "z"));
    assert_eq!(with_aliases(&world.sent(taker)), [set("room/3", 1)]);
}

/// [MQTT-3.1.2-25]: three bytes more do not make a message too large.
#[test]
fn a_message_that_fits_without_an_alias_alone_is_sent_without() {
    let mut world = world();
    let taker = world.accept();
    // Maximum Packet Size 20, Topic Alias Maximum 2.
    let connect = [0x10, 22, 0, 4, b'M', b'Q', b'T', b'T', 5, 2, 0, 0, 8, 0x27, 0, 0, 0, 20, 0x22, 0, 2, 0, 1, b'c'];
    world.bytes(taker, &connect);
    assert_eq!(world.sent(taker)[3], 0, "CONNACK");
    let publisher = world.device("publisher", 0);
    assert_eq!(subscribe(&mut world, taker, Version::V5, 0, &[("#", PLAIN)]), [0]);
    for payload in ["123456789", "1", "123456789012", "1234567890123"] {
        publish(&mut world, publisher, Version::V311, message("room/1", payload));
    }
    let named = "room/1".to_owned();
    let wanted = [(named.clone(), None), (named, Some(1)), (String::new(), Some(1))];
    assert_eq!(with_aliases(&world.sent(taker)), wanted, "the last is too large with its alias, too");
    assert_eq!(world.number(M::CopiesTooLarge), 1);
}
