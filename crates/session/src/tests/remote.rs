//! Sessions of bridges: the differences if the client is a broker to which we have connected.

use std::rc::Rc;

use super::kept::Kept;
use super::*;
use forebay_mqtt::encode;

const REMOTE: Remote = Remote { version: Version::V5, packet_size_max: u32::MAX, send_maximum: 3, receive_maximum: 2 };

/// The session of bridge `plant`, with its remote on a connection.
fn attached(shard: &mut Shard, remote: Remote) -> Client {
    let (settings, now) = (shard.settings.clone(), shard.now);
    let key = shard.sessions.of_bridge("bridge/plant", &settings, now);
    let conn = shard.add_conn(remote.version);
    shard.sessions.attach(key, conn, (remote, "forebay-plant@broker:1883"), &settings);
    Client { key, conn, session_present: true }
}

/// G8: no refusal is reported, and none ends the connection: the message is over.
#[test]
fn whatever_comes_of_a_message_is_success() {
    for version in [Version::V311, Version::V5] {
        let mut shard = Shard::default();
        let remote = attached(&mut shard, Remote { version, ..REMOTE });
        for (id, reason) in [(1, Reason::Unmatched), (2, Reason::KafkaRejected), (3, Reason::TooLarge)] {
            let qos1 = shard.open(remote, &publish(QoS::AtLeastOnce, id), 1);
            let qos2 = shard.open(remote, &publish(QoS::ExactlyOnce, 10 + id), 1);
            shard.complete(remote, qos1, reason);
            shard.complete(remote, qos2, reason);
            let mut out = Vec::new();
            let drained = shard.session(remote).drain_answers(&mut out);
            assert_eq!((drained.answered, drained.refused, drained.unanswered), (2, None, None));
            let [id, id2] = [id, 10 + id].map(|id| u8::try_from(id).expect("small"));
            assert_eq!(out, [0x40, 2, 0, id, 0x50, 2, 0, id2], "as short as they can be");
            // The remote continues as after success.
            out.clear();
            let next = shard.session(remote).packet(&Packet::PubRel(ack(id2.into())), &mut out);
            assert_eq!((next, &out[..]), (Next::Go, &[0x70, 2, 0, id2][..]));
        }
        assert_eq!(shard.session(remote).open_packet_ids(), 0);
    }
}

/// G6: open exchanges of the remote have a bound, past which it is not read; aliases were not granted.
#[test]
fn a_remote_has_bounds_as_a_client_has() {
    let mut shard = Shard::default();
    let remote = attached(&mut shard, REMOTE);
    shard.open(remote, &publish(QoS::AtLeastOnce, 1), 1);
    shard.open(remote, &publish(QoS::AtLeastOnce, 2), 1);
    assert!(shard.session(remote).is_blocked(), "nothing more is taken before an answer");
    let alias = properties(&[Property::TopicAlias(1)]);
    let of_alias = Publish { properties: alias.as_properties(), ..publish(QoS::AtMostOnce, 0) };
    let taken = shard.sessions.publish(remote.key, &of_alias, shard.now);
    assert!(matches!(taken, Some(Taken::Violation(Violation::ALIAS_RANGE))), "{taken:?}");
}

/// A client sends DISCONNECT in every version, and only with a client's codes.
#[test]
fn we_take_our_leave_as_a_client() {
    let all = [
        (End::Administrative, 0x98),
        (End::ShuttingDown, 0),
        (End::KeepAliveTimeout, 0),
        (End::Left, 0),
        (End::Violation(Violation::RECEIVE_MAXIMUM), 0x93),
        (End::Violation(Violation::PUBLISH_QOS), 0),
    ];
    for (end, code) in all {
        let v5 = Peer { is_remote: true, ..Peer::new(Version::V5) };
        let mut out = Vec::new();
        end.write(v5, &mut out);
        let short = if code == 0 { vec![0xE0, 0] } else { vec![0xE0, 1, code] };
        assert_eq!(out, short, "{end:?}");
        out.clear();
        end.write(Peer { version: Version::V311, ..v5 }, &mut out);
        assert_eq!(out, [0xE0, 0], "{end:?}");
    }
    let mut out = Vec::new();
    End::Lost.write(Peer { is_remote: true, ..Peer::new(Version::V5) }, &mut out);
    assert!(out.is_empty(), "nobody is there");
}

/// G1: the session belongs to no other client, exists before its remote and after it, and is never evicted.
#[test]
fn the_session_of_a_bridge_stays() {
    let mut shard = Shard::with(Settings { sessions_max: 2, ..Settings::default() });
    let remote = attached(&mut shard, REMOTE);
    assert!(shard.session(remote).is_remote());
    assert_eq!(shard.sessions.connected(), 0, "it is no client");
    let key = shard.sessions.of_bridge("bridge/plant", &Settings::default(), shard.now);
    assert_eq!(key, remote.key);
    // A client with its name is another one, and takes nothing over.
    let other = shard.connect(&connect(Version::V5, "bridge/plant", false));
    assert_ne!(other.key, remote.key);
    assert_eq!(shard.session(remote).conn(), Some(remote.conn));
    shard.end(remote, End::Lost);
    assert_eq!((shard.session(remote).conn(), shard.sessions.connected()), (None, 1));
    shard.end(other, End::Lost);
    shard.pass(1_000_000 * S);
    // The session has been away longest, and others make room.
    for name in ["a", "b", "c"] {
        let client = shard.connect(&Connect { properties: Properties::EMPTY, ..connect(Version::V311, name, false) });
        shard.end(client, End::Lost);
    }
    assert!(shard.sessions.get(remote.key).is_some());
    let again = attached(&mut shard, Remote { version: Version::V311, ..REMOTE });
    assert_eq!(again.key, remote.key);
    assert_eq!(shard.session(again).peer().sender(), Sender::Server);
    shard.end(again, End::Lost);
    shard.sessions.forget(remote.key);
    assert!(shard.sessions.get(remote.key).is_none());
}

/// B5, G13: after a kill the remote repeats a message of QoS 2 under its identifier, and it is not a new message.
#[test]
fn open_identifiers_survive_a_crash() {
    let mut k = Kept::new();
    let remote = attached(&mut k.shard, REMOTE);
    k.write();
    k.shard.settings.session_expiry_max_s = 10;
    let disk = HadBy { sink: 0, owes: false };
    k.crash(&[OpenId { packet_id: 7, already_taken_by: &[disk] }]);
    k.shard.pass(20 * S);
    let again = attached(&mut k.shard, REMOTE);
    assert!(k.shard.session(again).is_remote());
    assert_eq!(k.shard.sessions.len(), 1, "the same session, whatever its key: {remote:?}");
    assert_eq!(k.shard.session(again).already_taken_by(7), [0]);
    let repeat = Publish { dup: true, ..publish(QoS::ExactlyOnce, 7) };
    let Some(Taken::Rest { number, owed: 0, .. }) = k.shard.sessions.publish(again.key, &repeat, k.shard.now) else {
        panic!("not the rest")
    };
    k.shard.session(again).opened(number, 0, Reason::Success);
    assert_eq!(k.answers(again), ["pubrec 7"]);
}

/// [MQTT-3.3.4-6], and [`crate::bridge::PACKET_ID`] is left to SUBSCRIBE.
#[test]
fn what_it_is_sent_is_as_a_client_sends_it() {
    let mut shard = Shard::default();
    let remote = attached(&mut shard, REMOTE);
    let all = Rc::<Remembered>::default();
    let mut packet = Vec::new();
    encode::publish(Version::V5, &publish(QoS::AtLeastOnce, 1), &mut packet).expect("small");
    let mut ids = Vec::new();
    for _ in 0..65_537 {
        let copy = Copy { qos: QoS::AtLeastOnce, retain: false, identifiers: [3].into(), share: None };
        let body = Body::new(packet.clone(), shard.now, 0, &all);
        let (now, bounds) = (shard.now, (QueueBounds::default(), &all));
        let session = shard.session(remote);
        // More is in flight than a connection is given at once, so that the copy waits.
        assert_eq!(session.hand(copy, (usize::MAX, now), (false, false), bounds, || body), Handed::Queued);
        let mut out = Vec::new();
        assert_eq!(session.pump(now, 0, &mut out, None).sent, 1);
        let frame = frame::next_for(Version::V5, Sender::Client, &out, 100).expect("well-formed").expect("whole");
        let Ok(Packet::Publish(sent)) = decode(Version::V5, Sender::Client, frame) else { panic!("as a client") };
        assert!(sent.properties.is_empty(), "no Subscription Identifier");
        ids.push(sent.packet_id);
        assert_eq!(session.packet(&Packet::PubAck(ack(sent.packet_id)), &mut Vec::new()), Next::Go);
    }
    assert!(!ids.contains(&u16::MAX) && !ids.contains(&0));
    assert_eq!((ids[65_533], ids[65_534], ids[65_536]), (65_534, 1, 3));
}
