//! The lifetime of a session, takeovers, and the time of its will.

use super::*;

/// CONNECT of 5.0 with a Session Expiry Interval.
fn kept(shard: &mut Shard, clean_start: bool, expiry_s: u32, will: Option<Will<'_>>) -> Client {
    let asked = properties(&[Property::SessionExpiryInterval(expiry_s)]);
    shard.connect(&Connect { properties: asked.as_properties(), will, ..connect(Version::V5, "c", clean_start) })
}

fn delay(delay_s: u32) -> PropertyBuf {
    properties(&[Property::WillDelayInterval(delay_s)])
}

/// [MQTT-3.1.2-5] [MQTT-3.1.2-6] [MQTT-3.1.2-23] [MQTT-4.1.0-1] [MQTT-4.1.0-2]
#[test]
fn a_5_0_session_lives_for_its_expiry_interval() {
    let mut shard = Shard::default();
    let first = kept(&mut shard, false, 10, None);
    assert!(!first.session_present);
    shard.end(first, End::Lost);
    shard.pass(9 * S);
    let second = kept(&mut shard, false, 10, None);
    assert!(second.session_present, "[MQTT-3.2.2-3]");
    assert_eq!(second.key, first.key);
    shard.pass(100 * S);
    assert_eq!(shard.sessions.len(), 1, "the interval starts when the connection closes (section 3.1.2.11.2)");
    shard.end(second, End::Lost);
    assert_eq!(shard.sessions.next_expiry(), Some(shard.now.after(10 * S)));
    shard.pass(10 * S);
    assert!(shard.sessions.is_empty());
    assert_eq!((shard.sessions.next_expiry(), shard.sessions.expired()), (None, 1));
    assert!(!kept(&mut shard, false, 10, None).session_present, "[MQTT-3.2.2-2]");
}

#[test]
fn a_session_past_its_time_is_not_present_even_if_the_timer_is_late() {
    let mut shard = Shard::default();
    let first = kept(&mut shard, false, 10, None);
    shard.end(first, End::Lost);
    shard.now = shard.now.after(10 * S);
    let second = kept(&mut shard, false, 10, None);
    assert!(!second.session_present);
    assert_ne!(first.key, second.key);
}

#[test]
fn expiry_0_ends_with_the_connection_and_the_highest_never() {
    let mut shard = Shard::default();
    let client = kept(&mut shard, false, 0, None);
    shard.end(client, End::Lost);
    assert!(shard.sessions.is_empty());
    assert_eq!(shard.sessions.expired(), 0, "it had no time that was over");
    let client = kept(&mut shard, false, u32::MAX, None);
    shard.end(client, End::Lost);
    assert_eq!(shard.sessions.next_expiry(), None);
    shard.pass(Duration::from_secs(100 * 365 * 86_400));
    assert!(kept(&mut shard, false, 0, None).session_present);
}

#[test]
fn clean_start_discards() {
    let mut shard = Shard::default();
    let first = kept(&mut shard, false, 100, None);
    shard.open(first, &publish(QoS::ExactlyOnce, 1), 1);
    shard.end(first, End::Lost);
    let second = kept(&mut shard, true, 100, None);
    assert!(!second.session_present, "[MQTT-3.1.2-4]");
    assert!(shard.sessions.get(first.key).is_none(), "an answer for the old session finds nobody");
    shard.open(second, &publish(QoS::ExactlyOnce, 1), 1);
    assert_eq!(shard.sessions.len(), 1);
}

/// [3.1.1 MQTT-3.1.4-3] [3.1.1 MQTT-4.1.0-1]
#[test]
fn clean_session_of_3_x() {
    for version in [Version::V31, Version::V311] {
        let mut shard = Shard::with(Settings { session_expiry_3x_s: 60, ..Settings::default() });
        let first = shard.connect(&connect(version, "c", false));
        shard.end(first, End::Left);
        shard.pass(59 * S);
        let second = shard.connect(&connect(version, "c", false));
        assert!(second.session_present, "[3.1.1 MQTT-3.1.2-4]");
        shard.end(second, End::Lost);
        let clean = shard.connect(&connect(version, "c", true));
        assert!(!clean.session_present, "[3.1.1 MQTT-3.2.2-1]");
        shard.end(clean, End::Left);
        assert!(shard.sessions.is_empty(), "[3.1.1 MQTT-3.1.2-6]: its state is not reused");
        let third = shard.connect(&connect(version, "c", false));
        shard.end(third, End::Lost);
        shard.pass(60 * S);
        assert!(shard.sessions.is_empty());
    }
}

#[test]
fn disconnect_may_change_the_expiry_but_not_from_0() {
    let mut shard = Shard::with(Settings { session_expiry_max_s: 50, ..Settings::default() });
    let goodbye_with = |expiry_s| properties(&[Property::SessionExpiryInterval(expiry_s)]);
    let client = kept(&mut shard, false, 10, None);
    let longer = goodbye_with(1000);
    let next = shard.packet(client, &goodbye(ReasonCode::SUCCESS, longer.as_properties()));
    assert_eq!(next, Next::End(End::Left));
    shard.end(client, End::Left);
    assert_eq!(shard.sessions.next_expiry(), Some(shard.now.after(50 * S)), "as long as the server allows");

    let client = kept(&mut shard, false, 10, None);
    let none = goodbye_with(0);
    shard.packet(client, &goodbye(ReasonCode::SUCCESS, none.as_properties()));
    shard.end(client, End::Left);
    assert!(shard.sessions.is_empty());

    let client = kept(&mut shard, false, 0, None);
    let raised = goodbye_with(10);
    let next = shard.packet(client, &goodbye(ReasonCode::SUCCESS, raised.as_properties()));
    assert_eq!(next, Next::End(End::Violation(Violation::EXPIRY_RAISED)), "section 3.14.2.2.2: 0x82");
    assert_eq!(Violation::EXPIRY_RAISED.reason, ReasonCode::PROTOCOL_ERROR);

    // The interval that the server grants is not the one that the client has sent.
    let mut shard = Shard::with(Settings { session_expiry_max_s: 0, ..Settings::default() });
    let client = kept(&mut shard, false, 300, None);
    let same = goodbye_with(300);
    let next = shard.packet(client, &goodbye(ReasonCode::SUCCESS, same.as_properties()));
    assert_eq!(next, Next::End(End::Left));
    shard.end(client, End::Left);
    assert!(shard.sessions.is_empty());
}

#[test]
fn takeover_hands_the_session_on_and_tells_the_old_connection() {
    let mut shard = Shard::default();
    let old = kept(&mut shard, false, 100, None);
    let new = kept(&mut shard, false, 100, None);
    assert!(new.session_present);
    assert_eq!(new.key, old.key);
    assert_eq!(shard.heard(old.conn), ["disconnect 0x8E"], "[MQTT-3.1.4-3]");
    assert_eq!(shard.session(new).conn(), Some(new.conn));
    // The old socket's end is noticed later, and is no longer the session's.
    shard.end(old, End::Lost);
    assert_eq!(shard.session(new).conn(), Some(new.conn));
    assert_eq!((shard.sessions.len(), shard.sessions.connected()), (1, 1));
}

#[test]
fn takeover_of_a_session_that_is_not_kept_ends_it() {
    let mut shard = Shard::default();
    let old = shard.connect(&connect(Version::V311, "c", true));
    let new = shard.connect(&connect(Version::V311, "c", false));
    assert!(!new.session_present);
    assert!(shard.heard(old.conn).is_empty(), "3.1.1 has no DISCONNECT of a server");
    shard.end(old, End::Lost);
    assert_eq!((shard.sessions.len(), shard.sessions.connected()), (1, 1));
}

#[test]
fn a_takeover_storm_leaves_one_session_and_no_timers() {
    let mut shard = Shard::default();
    let mut clients = Vec::new();
    for _ in 0..10_000 {
        clients.push(kept(&mut shard, false, 100, Some(will("w", delay(50).as_properties()))));
    }
    for client in clients {
        shard.end(client, End::Lost);
    }
    assert_eq!((shard.sessions.len(), shard.sessions.connected()), (1, 0));
    shard.pass(100 * S);
    assert_eq!(shard.wills(), ["w"], "one will, of the last connection");
    assert_eq!(shard.sessions.next_expiry(), None);
}

#[test]
fn a_will_is_sent_unless_the_client_took_its_leave() {
    let violation = End::Violation(Violation::RECEIVE_MAXIMUM);
    for (end, sent) in [
        (End::Left, false), // [MQTT-3.14.4-3]
        (End::LeftWithWill, true),
        (End::Lost, true),
        (violation, true),
        (End::KeepAliveTimeout, true), // [MQTT-3.1.2-8]
        (End::ShuttingDown, true),
    ] {
        for expiry_s in [0, 100] {
            let mut shard = Shard::default();
            let client = kept(&mut shard, true, expiry_s, Some(will("w", Properties::EMPTY)));
            shard.end(client, end);
            assert_eq!(shard.wills().len(), usize::from(sent), "{end:?}");
            shard.pass(1000 * S);
            assert!(shard.wills().is_empty(), "[MQTT-3.1.2-10]: once");
        }
    }
}

#[test]
fn disconnect_0x04_asks_for_the_will() {
    let mut shard = Shard::default();
    let client = kept(&mut shard, true, 0, None);
    let asks = goodbye(ReasonCode::DISCONNECT_WITH_WILL_MESSAGE, Properties::EMPTY);
    assert_eq!(shard.packet(client, &asks), Next::End(End::LeftWithWill));
    let leaves = goodbye(ReasonCode::SUCCESS, Properties::EMPTY);
    assert_eq!(shard.packet(client, &leaves), Next::End(End::Left));
}

#[test]
fn a_delayed_will_waits_and_is_dropped_when_the_client_is_back() {
    let mut shard = Shard::default();
    let delay = delay(30);
    let client = kept(&mut shard, false, 100, Some(will("w", delay.as_properties())));
    shard.end(client, End::Lost);
    shard.pass(29 * S);
    assert!(shard.wills().is_empty());
    let client = kept(&mut shard, false, 100, Some(will("w2", delay.as_properties())));
    shard.pass(100 * S);
    assert!(shard.wills().is_empty(), "[MQTT-3.1.3-9]");
    shard.end(client, End::Lost);
    shard.pass(30 * S);
    assert_eq!(shard.wills(), ["w2"]);
    assert_eq!(shard.sessions.len(), 1, "the session outlives it");
}

#[test]
fn a_delayed_will_is_sent_when_its_session_ends_first() {
    let mut shard = Shard::default();
    let delay = delay(1000);
    let client = kept(&mut shard, false, 10, Some(will("expired", delay.as_properties())));
    shard.end(client, End::Lost);
    shard.pass(10 * S);
    assert_eq!(shard.wills(), ["expired"], "[MQTT-3.1.2-8]: or the session ends");
    let client = kept(&mut shard, false, 0, Some(will("not kept", delay.as_properties())));
    shard.end(client, End::Lost);
    assert_eq!(shard.wills(), ["not kept"]);
    let client = kept(&mut shard, false, 10, Some(will("discarded", delay.as_properties())));
    shard.end(client, End::Lost);
    kept(&mut shard, true, 10, None);
    assert_eq!(shard.wills(), ["discarded"]);
}

#[test]
fn wills_at_takeover() {
    let delay = delay(30);
    // (delayed, old expiry, clean start) and whether the will is sent (section 3.1.4, the note to [MQTT-3.1.4-3]).
    for (delayed, expiry_s, clean, sent) in
        [(false, 100, false, true), (true, 100, false, false), (true, 100, true, true), (true, 0, false, true)]
    {
        let mut shard = Shard::default();
        let of_will = if delayed { delay.as_properties() } else { Properties::EMPTY };
        kept(&mut shard, false, expiry_s, Some(will("w", of_will)));
        kept(&mut shard, clean, 100, None);
        assert_eq!(shard.wills().len(), usize::from(sent), "delayed {delayed}, expiry {expiry_s}, clean {clean}");
        shard.pass(1000 * S);
        assert!(shard.wills().is_empty());
    }
}

/// [MQTT-3.1.3-10]
#[test]
fn a_will_becomes_a_publish_with_its_properties() {
    let mut shard = Shard::default();
    let list = [
        Property::WillDelayInterval(5),
        Property::MessageExpiryInterval(7),
        Property::UserProperty("k", "1"),
        Property::UserProperty("k", "2"),
    ];
    let of_will = properties(&list);
    let asked = properties(&[Property::SessionExpiryInterval(100)]);
    let client = shard.connect(&Connect {
        will: Some(Will { retain: true, ..will("w", of_will.as_properties()) }),
        username: Some("u"),
        properties: asked.as_properties(),
        ..connect(Version::V5, "c", true)
    });
    shard.end(client, End::Lost);
    shard.pass(5 * S);
    let due = shard.sessions.next_will().expect("due");
    assert_eq!((&*due.client_id, due.username.as_deref()), ("c", Some("u")));
    let message = due.publish();
    assert_eq!(
        (message.topic, message.payload, message.qos, message.retain),
        ("w", &b"gone"[..], QoS::AtLeastOnce, true)
    );
    assert_eq!(message.properties.iter().collect::<Vec<_>>(), list[1..], "the delay is not the message's");
}

/// [MQTT-3.14.2-1]
#[test]
fn every_end_says_what_5_0_has_for_it_and_nothing_before() {
    let peer = Peer::new(Version::V5);
    for (end, heard) in [
        (End::Left, None),
        (End::LeftWithWill, None),
        (End::Lost, None),
        (End::Violation(Violation::ALIAS_RANGE), Some("disconnect 0x94")),
        (End::KeepAliveTimeout, Some("disconnect 0x8D")),
        (End::TakenOver, Some("disconnect 0x8E")),
        (End::ShuttingDown, Some("disconnect 0x8B")),
        (End::AnswerTimeout, Some("disconnect 0x89")),
        (End::Administrative, Some("disconnect 0x98")),
        (End::NotExpressible, Some("disconnect 0x80")),
    ] {
        let mut out = Vec::new();
        end.write(peer, &mut out);
        assert_eq!(words(Version::V5, &out), heard.map(str::to_owned).into_iter().collect::<Vec<_>>(), "{end:?}");
        let allowed = end
            .reason()
            .is_none_or(|reason| reason.allowed_in(forebay_mqtt::packet::PacketType::Disconnect, Sender::Server));
        assert!(allowed, "{end:?}");
        out.clear();
        end.write(Peer::new(Version::V311), &mut out);
        assert!(out.is_empty(), "{end:?}");
    }
}

#[test]
fn a_disconnect_says_why_where_it_is_wanted_and_fits() {
    let len = |packet_size_max, problem_information| {
        let mut out = Vec::new();
        let peer = Peer { packet_size_max, problem_information, ..Peer::new(Version::V5) };
        End::Violation(Violation::RECEIVE_MAXIMUM).write(peer, &mut out);
        out.len()
    };
    assert!(len(u32::MAX, true) > 20);
    assert_eq!(len(u32::MAX, false), 3, "[MQTT-3.1.2-29]");
    assert_eq!(len(10, true), 3, "[MQTT-3.14.2-3]");
    assert_eq!(len(1, true), 0, "[MQTT-3.1.2-24]");
}

#[test]
fn keys_survive_the_way_through_a_ticket() {
    let mut shard = Shard::default();
    let client = kept(&mut shard, false, 0, None);
    assert_eq!(SessionKey::from_bits(client.key.to_bits()), client.key);
    shard.end(client, End::Lost);
    let other = kept(&mut shard, false, 0, None);
    assert_ne!(other.key.to_bits(), client.key.to_bits());
    assert!(shard.sessions.get(SessionKey::from_bits(0)).is_none());
}

#[test]
fn a_client_that_is_sent_away_hears_where_to() {
    let heard = |peer: Peer, server: Option<&str>, is_for_good| {
        let mut out = Vec::new();
        send_away(peer, server, is_for_good, &mut out);
        out
    };
    let v5 = Peer::new(Version::V5);
    let with = |reason: u8| [&[0xE0, 8, reason, 6, 0x1C, 0, 3][..], b"a:1"].concat();
    assert_eq!((heard(v5, Some("a:1"), false), heard(v5, Some("a:1"), true)), (with(0x9C), with(0x9D)));
    let without = vec![0xE0, 1, 0x8B];
    assert_eq!(
        (heard(v5, None, true), heard(Peer { packet_size_max: 9, ..v5 }, Some("a:1"), true)),
        (without.clone(), without)
    );
    assert!(heard(Peer::new(Version::V311), Some("a:1"), true).is_empty());
}
