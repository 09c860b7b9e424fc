//! CONNECT and CONNACK.

use super::*;
use forebay_mqtt::packet::ConnAck;

/// Connects and reads the CONNACK.
fn connack(settings: Settings, connect: &Connect<'_>, check: impl FnOnce(&ConnAck<'_>)) {
    let mut shard = Shard::with(settings);
    let (conn, result) = shard.try_connect(connect);
    result.expect("accepted");
    let bytes = shard.bytes(conn);
    let frame = frame::next(&bytes, u32::MAX).expect("well formed").expect("whole");
    assert_eq!(frame.len, bytes.len(), "nothing else before CONNACK [MQTT-3.2.0-1]");
    match decode(connect.version, Sender::Server, frame).expect("well formed") {
        Packet::ConnAck(connack) => check(&connack),
        other => panic!("{other:?}"),
    }
}

fn refused(settings: Settings, connect: &Connect<'_>) -> (ReasonCode, Vec<String>) {
    let mut shard = Shard::with(settings);
    let (conn, result) = shard.try_connect(connect);
    let reason = result.expect_err("refused").violation.reason;
    assert!(shard.sessions.is_empty());
    (reason, shard.heard(conn))
}

/// [MQTT-3.2.2-9]
#[test]
fn says_everything_that_differs_from_what_was_asked() {
    let settings = Settings {
        session_expiry_max_s: 100,
        keep_alive_max_s: Some(30),
        receive_maximum: 20,
        topic_alias_maximum: 7,
        packet_size_max: Some(1 << 20),
        maximum_qos: QoS::AtLeastOnce,
        retain_available: false,
        wildcard_subscriptions: false,
        subscription_identifiers: false,
        shared_subscriptions: false,
        ..Settings::default()
    };
    let asked = properties(&[Property::SessionExpiryInterval(u32::MAX)]);
    let connect = Connect { properties: asked.as_properties(), ..connect(Version::V5, "", true) };
    connack(settings, &connect, |connack| {
        let said: Vec<_> = connack.properties.iter().collect();
        let expected = [
            Property::SessionExpiryInterval(100),
            Property::ReceiveMaximum(20),
            Property::MaximumQoS(1),
            Property::RetainAvailable(false),
            Property::MaximumPacketSize(1 << 20),
            Property::AssignedClientIdentifier("given"),
            Property::TopicAliasMaximum(7),
            Property::WildcardSubscriptionAvailable(false),
            Property::SubscriptionIdentifierAvailable(false),
            Property::SharedSubscriptionAvailable(false),
            Property::ServerKeepAlive(30),
        ];
        assert_eq!(said, expected);
        assert_eq!((connack.session_present, connack.reason), (false, ReasonCode::SUCCESS));
    });
}

/// [MQTT-3.1.2-28] [MQTT-4.12.0-6]
#[test]
fn says_nothing_that_the_client_knows() {
    let settings = Settings { receive_maximum: u16::MAX, topic_alias_maximum: 0, ..Settings::default() };
    connack(settings, &connect(Version::V5, "c", true), |connack| assert!(connack.properties.is_empty()));
}

#[test]
fn receive_maximum_is_never_more_than_is_held_and_never_0() {
    for (receive_maximum, inflight_max, said) in [(1024, 16, 16), (0, 16, 1), (0, 0, 1)] {
        let settings = Settings { receive_maximum, inflight_max, ..Settings::default() };
        connack(settings, &connect(Version::V5, "c", true), |connack| {
            assert_eq!(connack.properties.receive_maximum(), Some(said));
        });
    }
}

/// [MQTT-3.1.2-21] [MQTT-3.2.2-21] [MQTT-3.2.2-22]
#[test]
fn keep_alive_is_bounded_only_where_the_client_can_be_told() {
    let settings = Settings { keep_alive_max_s: Some(30), ..Settings::default() };
    for (version, asked, limit_s) in [
        (Version::V5, 60, Some(45)),
        (Version::V5, 20, Some(30)),
        (Version::V5, 0, None),
        (Version::V311, 60, Some(90)),
    ] {
        let mut shard = Shard::with(settings.clone());
        let (_, result) = shard.try_connect(&Connect { keep_alive_s: asked, ..connect(version, "c", true) });
        let deadline = result.expect("accepted").keep_alive.deadline();
        assert_eq!(deadline, limit_s.map(|s| Monotonic(0).after(s * S)), "{version:?} {asked}");
    }
}

#[test]
fn a_client_without_a_name_gets_one() {
    let mut shard = Shard::default();
    let client = shard.connect(&connect(Version::V311, "", true));
    assert_eq!(shard.session(client).client_id(), "given");
    assert_eq!(shard.sessions.find(ClientKey::without_auth("given")), Some(client.key));
    // The decoder has refused an empty id with clean session 0; without a name to assign the answer is the same.
    let mut out = Vec::new();
    let conn = ConnId { slot: 9, generation: 9 };
    let mut sessions = Sessions::new();
    let asked = connect(Version::V311, "", false);
    let refused = sessions
        .connect(
            &asked,
            Arrival { conn, assigned_id: None, admission: None, came: Came::at(shard.now) },
            shard.now,
            &shard.settings,
            &mut out,
        )
        .expect_err("no name");
    assert_eq!(refused.violation.clause, "MQTT-3.1.3-8");
    assert_eq!(words(Version::V311, &out), ["connack 0 0x85"], "return code 2");
}

/// I5: a process has stood still, and finds a CONNECT that may have come at any time since. Another one that has waited since before the process went on may be
/// the older of the two. (`forebay-sim --instances 161 --no-layers`)
#[test]
fn a_connect_that_may_be_older_than_the_last_one_is_refused() {
    let asked = connect(Version::V311, "c", false);
    for (came_s, is_refused) in [(19, true), (20, false)] {
        let mut shard = super::kept::Kept::new().shard;
        let [earliest, latest, came] = [5, 20, came_s].map(|s| Monotonic(0).after(s * S));
        shard.now = latest;
        shard.try_connect_of(&asked, Came { earliest, latest }).1.expect("it is the first one");
        shard.pass(S);
        let (_, second) = shard.try_connect_of(&asked, Came::at(came));
        assert_eq!(second.is_err(), is_refused, "{came_s}");
    }
}

/// I5: a process has stood still, and finds a CONNECT; it gets the slot of its client after that. The owner before may have had a later CONNECT of this client.
/// (`forebay-sim --instances 1244`)
#[test]
fn a_connect_that_may_be_older_than_the_restored_session_is_refused() {
    let asked = connect(Version::V311, "c", false);
    for (earliest_s, latest_s, is_refused) in [(5, 20, true), (5, 5, false), (10, 20, false)] {
        let mut kept = super::kept::Kept::new();
        kept.shard.try_connect_of(&asked, Came::at(kept.shard.now)).1.expect("it is the first one");
        kept.write();
        let [restored, earliest, latest] = [10, earliest_s, latest_s].map(|s| Monotonic(0).after(s * S));
        kept.shard.now = restored;
        kept.crash(&[]);
        let (_, found) = kept.shard.try_connect_of(&asked, Came { earliest, latest });
        assert_eq!(found.is_err(), is_refused, "{earliest_s} {latest_s}");
    }
}

/// I5: a CONNECT waits at an instance that does not reach the owner, or stands still. The owner has a later one of the client, and loses the slot after that.
/// (`forebay-sim --instances 19698`)
#[test]
fn a_connect_that_has_waited_since_before_an_owner_wrote_is_refused() {
    let asked = connect(Version::V311, "c", false);
    for (came_s, is_refused) in [(7, true), (8, false), (11, false)] {
        let mut kept = super::kept::Kept::new();
        kept.shard.try_connect_of(&asked, Came::at(kept.shard.now)).1.expect("it is the first one");
        kept.write();
        let [restored, served_until, came] = [10, 8, came_s].map(|s| Monotonic(0).after(s * S));
        kept.shard.now = restored;
        kept.crash(&[]);
        let key = kept.shard.sessions.find(ClientKey::without_auth("c")).expect("it is restored");
        kept.shard.sessions.served_until(key, served_until);
        let (_, found) = kept.shard.try_connect_of(&asked, Came::at(came));
        assert_eq!(found.is_err(), is_refused, "{came_s}");
    }
}

/// [MQTT-4.12.0-1]
#[test]
fn refusals_in_each_version() {
    let full = Settings { sessions_max: 0, ..Settings::default() };
    let quota = (ReasonCode::QUOTA_EXCEEDED, vec!["connack 0 0x97".to_owned()]);
    assert_eq!(refused(full.clone(), &connect(Version::V5, "c", true)), quota);
    // Return code 3, server unavailable, reads as 0x88.
    let unavailable = (ReasonCode::QUOTA_EXCEEDED, vec!["connack 0 0x88".to_owned()]);
    assert_eq!(refused(full.clone(), &connect(Version::V311, "c", true)), unavailable);
    assert_eq!(refused(full, &connect(Version::V31, "c", true)), unavailable);

    let method = properties(&[Property::AuthenticationMethod("SCRAM-SHA-1")]);
    let asked = Connect { properties: method.as_properties(), ..connect(Version::V5, "c", true) };
    let (reason, heard) = refused(Settings::default(), &asked);
    assert_eq!((reason, &heard[..]), (ReasonCode::BAD_AUTHENTICATION_METHOD, &["connack 0 0x8C".to_owned()][..]));
}

#[test]
fn a_will_that_could_not_be_sent_is_refused_at_once() {
    let settings = Settings { maximum_qos: QoS::AtMostOnce, retain_available: false, ..Settings::default() };
    let asked = Connect { will: Some(will("w", Properties::EMPTY)), ..connect(Version::V5, "c", true) };
    assert_eq!(refused(settings.clone(), &asked).1, ["connack 0 0x9B"], "[MQTT-3.2.2-12]");
    let old = Connect { version: Version::V311, ..asked.clone() };
    assert_eq!(refused(settings.clone(), &old).1, [""; 0], "no return code for it: closed [3.1.1 MQTT-3.2.2-6]");
    let retained = Will { qos: QoS::AtMostOnce, retain: true, ..will("w", Properties::EMPTY) };
    let asked = Connect { will: Some(retained), ..connect(Version::V5, "c", true) };
    assert_eq!(refused(settings, &asked).1, ["connack 0 0x9A"], "[MQTT-3.2.2-13]");
}

#[test]
fn connack_honours_the_clients_maximum_packet_size() {
    // Fixed header 2, flags 1, reason 1, property length 1, and Receive Maximum 3, Topic Alias Maximum 3: 11 bytes.
    for (bytes, fits) in [(11, true), (10, false), (4, false)] {
        let mut shard = Shard::default();
        let size = properties(&[Property::MaximumPacketSize(bytes)]);
        let asked = Connect { properties: size.as_properties(), ..connect(Version::V5, "c", true) };
        let (conn, result) = shard.try_connect(&asked);
        assert_eq!(result.is_ok(), fits, "{bytes}");
        assert!(shard.bytes(conn).len() <= bytes as usize, "[MQTT-3.1.2-24]");
        assert_eq!(shard.sessions.len(), usize::from(fits), "a refused client leaves nothing behind");
    }
}

#[test]
fn a_refusal_says_why_where_it_is_wanted_and_fits() {
    let wordy = |list: &[Property<'_>]| {
        let asked = properties(list);
        let mut shard = Shard::with(Settings { sessions_max: 0, ..Settings::default() });
        let asked = Connect { properties: asked.as_properties(), ..connect(Version::V5, "c", true) };
        let (conn, _) = shard.try_connect(&asked);
        shard.bytes(conn).len()
    };
    assert!(wordy(&[]) > 20);
    assert_eq!(wordy(&[Property::RequestProblemInformation(false)]), 5);
    assert_eq!(wordy(&[Property::MaximumPacketSize(20)]), 5, "[MQTT-3.2.2-19]");
}

#[test]
fn a_packet_that_was_never_decoded_can_be_refused_too() {
    let mut out = Vec::new();
    let violation = Violation { reason: ReasonCode::MALFORMED_PACKET, clause: "MQTT-3.1.2-3", what: "reserved flag" };
    refuse(Peer::new(Version::V5), &violation, &mut out);
    assert_eq!(words(Version::V5, &out), ["connack 0 0x81"]);
    out.clear();
    refuse(Peer::new(Version::V311), &violation, &mut out);
    assert!(out.is_empty(), "[3.1.1 MQTT-3.2.2-6]");
}

#[test]
fn a_refused_client_leaves_the_session_of_its_name_alone() {
    let mut shard = Shard::default();
    let first = shard.connect(&connect(Version::V5, "c", true));
    let method = properties(&[Property::AuthenticationMethod("x")]);
    let (_, result) =
        shard.try_connect(&Connect { properties: method.as_properties(), ..connect(Version::V5, "c", true) });
    result.expect_err("refused");
    assert_eq!(shard.session(first).conn(), Some(first.conn));
    assert!(shard.heard(first.conn).is_empty());
}

#[test]
fn the_bound_counts_sessions_not_connections() {
    let mut shard = Shard::with(Settings { sessions_max: 1, ..Settings::default() });
    shard.connect(&connect(Version::V5, "a", true));
    shard.connect(&connect(Version::V5, "a", true));
    assert_eq!((shard.sessions.len(), shard.sessions.connected()), (1, 1));
    shard.try_connect(&connect(Version::V5, "b", true)).1.expect_err("full");
}
