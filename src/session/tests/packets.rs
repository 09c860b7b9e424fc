//! Every other packet.

use super::*;
use crate::mqtt::FilterBuf;
use crate::mqtt::packet::{SubAck, Subscribe, SubscriptionOptions, Unsubscribe};

fn filters(list: &[&str]) -> FilterBuf {
    let mut filters = FilterBuf::for_subscribe();
    for filter in list {
        filters.push(filter, SubscriptionOptions::default());
    }
    filters
}

fn client(version: Version, settings: Settings, list: &[Property<'_>]) -> (Shard, Client) {
    let mut shard = Shard::with(settings);
    let asked = properties(list);
    let client = shard.connect(&Connect { properties: asked.as_properties(), ..connect(version, "c", true) });
    (shard, client)
}

fn subscribe<'a>(filters: &'a FilterBuf, properties: Properties<'a>) -> Packet<'a> {
    Packet::Subscribe(Subscribe { packet_id: 5, properties, filters: filters.as_filters() })
}

#[test]
fn pingreq() {
    let (mut shard, c) = client(Version::V311, Settings::default(), &[]);
    assert_eq!(shard.packet(c, &Packet::PingReq), Next::Go);
    assert_eq!(shard.heard(c.conn), ["pingresp"], "[MQTT-3.12.4-1]");
}

#[test]
fn subscribe_fails_filter_by_filter() {
    let list = filters(&["a/#", "b"]);
    for (version, heard) in [(Version::V5, "suback 5 0x83 0x83"), (Version::V311, "suback 5 0x80 0x80")] {
        let (mut shard, c) = client(version, Settings::default(), &[]);
        assert_eq!(shard.packet(c, &subscribe(&list, Properties::EMPTY)), Next::Go);
        assert_eq!(shard.heard(c.conn), [heard], "[MQTT-3.8.4-6]");
    }
    let (mut shard, c) = client(Version::V31, Settings::default(), &[]);
    assert_eq!(shard.packet(c, &subscribe(&list, Properties::EMPTY)), Next::End(End::NotExpressible));
    assert!(shard.heard(c.conn).is_empty());
}

#[test]
fn what_connack_said_is_not_available_may_not_be_asked_for() {
    let settings = Settings {
        wildcard_subscriptions: false,
        subscription_identifiers: false,
        shared_subscriptions: false,
        ..Settings::default()
    };
    let identifier = properties(&[Property::SubscriptionIdentifier(1)]);
    for (list, of_subscribe, violation) in [
        (filters(&["ok", "a/+/b"]), Properties::EMPTY, Violation::SUBSCRIBE_WILDCARD),
        (filters(&["#"]), Properties::EMPTY, Violation::SUBSCRIBE_WILDCARD),
        (filters(&["$share/g/a"]), Properties::EMPTY, Violation::SUBSCRIBE_SHARED),
        (filters(&["a"]), identifier.as_properties(), Violation::SUBSCRIBE_IDENTIFIER),
    ] {
        let (mut shard, c) = client(Version::V5, settings.clone(), &[]);
        assert_eq!(shard.packet(c, &subscribe(&list, of_subscribe)), Next::End(End::Violation(violation)));
        // A promise holds for its connection: 3.1.1 clients were promised nothing.
        let (mut shard, c) = client(Version::V311, settings.clone(), &[]);
        assert_eq!(shard.packet(c, &subscribe(&list, Properties::EMPTY)), Next::Go);
    }
    let codes = [Violation::SUBSCRIBE_WILDCARD, Violation::SUBSCRIBE_SHARED, Violation::SUBSCRIBE_IDENTIFIER];
    assert_eq!(codes.map(|violation| violation.reason.0), [0xA2, 0x9E, 0xA1]);
}

#[test]
fn suback_says_why_only_where_it_is_wanted_and_fits() {
    let list = filters(&["a"]);
    let len = |asked: &[Property<'_>], list: &FilterBuf| {
        let (mut shard, c) = client(Version::V5, Settings::default(), asked);
        shard.packet(c, &subscribe(list, Properties::EMPTY));
        shard.bytes(c.conn).len()
    };
    assert!(len(&[], &list) > 20);
    assert_eq!(len(&[Property::RequestProblemInformation(false)], &list), 6, "[MQTT-3.1.2-29]");
    assert_eq!(len(&[Property::MaximumPacketSize(20)], &list), 6, "[MQTT-3.9.2-1]");
    let many = filters(&["a"; 20]);
    assert_eq!(len(&[Property::MaximumPacketSize(20)], &many), 0, "[MQTT-3.1.2-25]");
}

#[test]
fn unsubscribe() {
    let mut list = FilterBuf::for_unsubscribe();
    list.push("a", SubscriptionOptions::default());
    list.push("b", SubscriptionOptions::default());
    for (version, heard) in
        [(Version::V5, "unsuback 6 0x11 0x11"), (Version::V311, "unsuback 6"), (Version::V31, "unsuback 6")]
    {
        let (mut shard, c) = client(version, Settings::default(), &[]);
        let packet = Unsubscribe { packet_id: 6, properties: Properties::EMPTY, filters: list.as_filters() };
        assert_eq!(shard.packet(c, &Packet::Unsubscribe(packet)), Next::Go);
        assert_eq!(shard.heard(c.conn), [heard], "[MQTT-3.10.4-4] [MQTT-3.11.3-1]");
    }
}

#[test]
fn acknowledgements_of_what_was_never_sent() {
    for (version, pubrel) in [(Version::V5, "pubrel 9 0x92"), (Version::V311, "pubrel 9")] {
        let (mut shard, c) = client(version, Settings::default(), &[]);
        assert_eq!(shard.packet(c, &Packet::PubAck(ack(9))), Next::Go);
        assert_eq!(shard.packet(c, &Packet::PubComp(ack(9))), Next::Go);
        assert!(shard.heard(c.conn).is_empty());
        assert_eq!(shard.packet(c, &Packet::PubRec(ack(9))), Next::Go);
        assert_eq!(shard.heard(c.conn), [pubrel], "section 3.6.2.1");
    }
    let (mut shard, c) = client(Version::V5, Settings::default(), &[]);
    let refusing = Ack { reason: ReasonCode::PACKET_IDENTIFIER_IN_USE, ..ack(9) };
    shard.packet(c, &Packet::PubRec(refusing));
    assert!(shard.heard(c.conn).is_empty(), "a refusing PUBREC has ended the exchange");
}

#[test]
fn packets_that_a_connected_client_may_not_send() {
    let suback = SubAck { packet_id: 1, properties: Properties::EMPTY, codes: &[0] };
    let auth = Disconnect { reason: ReasonCode::RE_AUTHENTICATE, properties: Properties::EMPTY };
    let connack = crate::mqtt::packet::ConnAck {
        session_present: false,
        reason: ReasonCode::SUCCESS,
        properties: Properties::EMPTY,
    };
    for (packet, clause) in [
        (Packet::Connect(connect(Version::V5, "c", true)), "MQTT-3.1.0-2"),
        (Packet::Auth(auth), "MQTT-4.12.0-7"),
        (Packet::ConnAck(connack), "section 2.1.2"),
        (Packet::SubAck(suback.clone()), "section 2.1.2"),
        (Packet::UnsubAck(suback), "section 2.1.2"),
        (Packet::PingResp, "section 2.1.2"),
    ] {
        let (mut shard, c) = client(Version::V5, Settings::default(), &[]);
        match shard.packet(c, &packet) {
            Next::End(End::Violation(violation)) => {
                assert_eq!((violation.reason, violation.clause), (ReasonCode::PROTOCOL_ERROR, clause));
            }
            other => panic!("{packet:?}: {other:?}"),
        }
    }
}

#[test]
fn every_violation_has_a_reason_that_its_packet_may_carry() {
    use crate::mqtt::packet::PacketType::{ConnAck, Disconnect};
    for violation in Violation::ALL {
        let [in_connack, in_disconnect] =
            [ConnAck, Disconnect].map(|kind| violation.reason.allowed_in(kind, Sender::Server));
        assert!(in_connack || in_disconnect, "{violation:?}");
        assert!(!violation.clause.is_empty() && !violation.what.is_empty());
    }
}
