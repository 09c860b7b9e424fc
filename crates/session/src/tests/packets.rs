//! The packets that have no test file of their own.

use super::*;
use forebay_base::limits::SUBSCRIPTIONS_OF_SESSION_MAX;
use forebay_mqtt::FilterBuf;
use forebay_mqtt::packet::{SubAck, Subscribe, SubscriptionOptions};

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

/// [3.1.1 MQTT-3.12.4-1]
#[test]
fn pingreq() {
    let (mut shard, c) = client(Version::V311, Settings::default(), &[]);
    assert_eq!(shard.packet(c, &Packet::PingReq), Next::Go);
    assert_eq!(shard.heard(c.conn), ["pingresp"], "[MQTT-3.12.4-1]");
}

/// The bytes that a client gets for a SUBSCRIBE with these outcomes of its filters; `None`: its version cannot
/// express it.
fn suback(
    version: Version,
    asked: &[Property<'_>],
    outcomes: &[Result<SubscriptionOptions, SubscriptionRefused>],
) -> Option<Vec<u8>> {
    let (mut shard, c) = client(version, Settings::default(), asked);
    let mut out = Vec::new();
    let session = shard.sessions.get_mut(c.key).expect("it is connected");
    session.suback(5, outcomes, &mut out).then_some(out)
}

#[test]
fn subscribe_is_answered_filter_by_filter() {
    let granted = SubscriptionOptions { no_local: true, ..SubscriptionOptions::default() };
    let outcomes = [Ok(granted), Err(SubscriptionRefused::DENIED), Err(SubscriptionRefused::TOO_MANY)];
    let quiet = [Property::RequestProblemInformation(false)];
    assert_eq!(suback(Version::V5, &quiet, &outcomes), Some(vec![0x90, 6, 0, 5, 0, 0, 0x87, 0x97]), "[MQTT-3.8.4-6]");
    assert_eq!(suback(Version::V311, &[], &outcomes), Some(vec![0x90, 5, 0, 5, 0, 0x80, 0x80]));
    assert_eq!(suback(Version::V31, &[], &outcomes), None, "3.1 has no failure code");
    assert_eq!(suback(Version::V31, &[], &outcomes[..1]), Some(vec![0x90, 3, 0, 5, 0]));
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
    let asked = |version, list: &FilterBuf, properties| {
        let (shard, c) = client(version, settings.clone(), &[]);
        let subscribe = Subscribe { packet_id: 5, properties, filters: list.as_filters() };
        shard.sessions.get(c.key).expect("it is connected").may_ask(&subscribe)
    };
    for (list, of_subscribe, violation) in [
        (filters(&["ok", "a/+/b"]), Properties::EMPTY, Violation::SUBSCRIBE_WILDCARD),
        (filters(&["#"]), Properties::EMPTY, Violation::SUBSCRIBE_WILDCARD),
        (filters(&["$share/g/a"]), Properties::EMPTY, Violation::SUBSCRIBE_SHARED),
        (filters(&["a"]), identifier.as_properties(), Violation::SUBSCRIBE_IDENTIFIER),
    ] {
        assert_eq!(asked(Version::V5, &list, of_subscribe), Err(violation));
        // A promise holds for its connection: 3.1.1 clients were promised nothing.
        assert_eq!(asked(Version::V311, &list, Properties::EMPTY), Ok(()));
    }
    let codes = [Violation::SUBSCRIBE_WILDCARD, Violation::SUBSCRIBE_SHARED, Violation::SUBSCRIBE_IDENTIFIER];
    assert_eq!(codes.map(|violation| violation.reason.0), [0xA2, 0x9E, 0xA1]);
}

#[test]
fn suback_says_why_only_where_it_is_wanted_and_fits() {
    let len = |asked: &[Property<'_>], filters: usize| {
        suback(Version::V5, asked, &vec![Err(SubscriptionRefused::DENIED); filters]).expect("5.0 has codes").len()
    };
    assert!(len(&[], 1) > 20);
    assert_eq!(len(&[Property::RequestProblemInformation(false)], 1), 6, "[MQTT-3.1.2-29]");
    assert_eq!(len(&[Property::MaximumPacketSize(20)], 1), 6, "[MQTT-3.9.2-1]");
    assert_eq!(len(&[Property::MaximumPacketSize(20)], 20), 0, "[MQTT-3.1.2-25]");
}

/// [MQTT-3.10.4-5] [MQTT-3.11.3-2] [3.1.1 MQTT-3.10.4-4] [3.1.1 MQTT-3.10.4-5]
#[test]
fn unsubscribe_is_answered_filter_by_filter() {
    for (version, heard) in [
        (Version::V5, vec![0xB0, 5, 0, 6, 0, 0, 0x11]),
        (Version::V311, vec![0xB0, 2, 0, 6]),
        (Version::V31, vec![0xB0, 2, 0, 6]),
    ] {
        let (shard, c) = client(version, Settings::default(), &[]);
        let mut out = Vec::new();
        shard.sessions.get(c.key).expect("it is connected").unsuback(6, &[true, false], &mut out);
        assert_eq!(out, heard, "[MQTT-3.10.4-4] [MQTT-3.11.3-1]");
    }
}

#[test]
fn subscriptions_have_bounds_and_their_bytes_are_counted() {
    let (mut shard, c) = client(Version::V5, Settings::default(), &[]);
    let sessions = &mut shard.sessions;
    let one = |filter: &str, identifier| Subscription {
        filter: filter.into(),
        options: SubscriptionOptions::default(),
        identifier,
    };
    let empty = sessions.bytes();
    assert!(sessions.subscribed(c.key, one("a/b", 0)) && !sessions.subscribed(c.key, one("a/b", 0)));
    assert!(sessions.subscribed(c.key, one("a/b", 1)), "another identifier is another subscription [MQTT-3.8.4-3]");
    assert_eq!(sessions.get(c.key).expect("connected").subscriptions(), [one("a/b", 1)]);
    assert_eq!((sessions.bytes() > empty, sessions.bytes()), (true, sessions.weigh()));
    assert!(sessions.unsubscribed(c.key, "a/b") && !sessions.unsubscribed(c.key, "a/b"));
    assert_eq!(sessions.bytes(), empty);

    for number in 0..SUBSCRIPTIONS_OF_SESSION_MAX {
        assert_eq!(sessions.may_subscribe(c.key, &number.to_string()), Ok(()));
        sessions.subscribed(c.key, one(&number.to_string(), 0));
    }
    assert_eq!(sessions.may_subscribe(c.key, "one more"), Err(SubscriptionRefused::TOO_MANY));
    assert_eq!(sessions.may_subscribe(c.key, "7"), Ok(()), "it is there already");
    sessions.unsubscribed(c.key, "7");
    assert_eq!(sessions.may_subscribe(c.key, &"x".repeat(60_000)), Ok(()));
    sessions.subscribed(c.key, one(&"x".repeat(60_000), 0));
    sessions.unsubscribed(c.key, "8");
    assert_eq!(sessions.may_subscribe(c.key, &"y".repeat(60_000)), Err(SubscriptionRefused::TOO_LARGE));

    assert_eq!(sessions.next_ended(), None);
    shard.sessions.disconnected(c.key, c.conn, End::Left, shard.now);
    assert_eq!((shard.sessions.next_ended(), shard.sessions.next_ended()), (Some(c.key), None));
    assert_eq!(shard.sessions.bytes(), 0);
    // Also for a client that has unsubscribed: retained messages may be under way to it.
    let (mut shard, c) = client(Version::V311, Settings::default(), &[]);
    shard.sessions.subscribed(c.key, one("a/b", 0));
    shard.sessions.unsubscribed(c.key, "a/b");
    shard.sessions.disconnected(c.key, c.conn, End::Left, shard.now);
    assert_eq!((shard.sessions.next_ended(), shard.sessions.next_ended()), (Some(c.key), None));
}

/// [MQTT-3.6.2-1]
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

/// [MQTT-3.1.0-2] [MQTT-4.12.0-7]
#[test]
fn packets_that_a_connected_client_may_not_send() {
    let suback = SubAck { packet_id: 1, properties: Properties::EMPTY, codes: &[0] };
    let auth = Disconnect { reason: ReasonCode::RE_AUTHENTICATE, properties: Properties::EMPTY };
    let connack = forebay_mqtt::packet::ConnAck {
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

/// [MQTT-3.2.2-8] [MQTT-3.14.2-1]
#[test]
fn every_violation_has_a_reason_that_its_packet_may_carry() {
    use forebay_mqtt::packet::PacketType::{ConnAck, Disconnect};
    for violation in Violation::ALL {
        let [in_connack, in_disconnect] =
            [ConnAck, Disconnect].map(|kind| violation.reason.allowed_in(kind, Sender::Server));
        assert!(in_connack || in_disconnect, "{violation:?}");
        assert!(!violation.clause.is_empty() && !violation.what.is_empty());
    }
}
