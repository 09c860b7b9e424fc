//! A remote that is hostile, or broken: whatever it sends ends its connection or goes nowhere, costs a bounded amount, and is reported. Nothing of it is
//! published under a topic that no `in` makes.

use std::time::Duration;

use forebay::bridge::{Url, Versions};
use forebay::config::Bridge;
use forebay::limits::CONNACK_BYTES_MAX;
use forebay::metrics::event::Kind as EventKind;
use forebay::metrics::spec::{BridgeMetric as M, ShardMetric};
use forebay::mqtt::packet::{Ack, ConnAck, Disconnect, Packet, PacketType, QoS, Sender, SubAck, Version};
use forebay::mqtt::property::{Properties, Property, PropertyBuf};
use forebay::mqtt::reason::ReasonCode;
use forebay::mqtt::{decode, frame};
use forebay::secure::Secret;

use super::gauges::left;
use super::malformed::{self, Case};
use super::remotes::{Remote, ack, bridge, configured, connack, found_at, in_memory, qos, template};
use super::subscribe::{PLAIN, bytes_of, heard, subscribe};

const ZERO: QoS = QoS::AtMostOnce;
const ONE: QoS = QoS::AtLeastOnce;
const TWO: QoS = QoS::ExactlyOnce;

/// CONNACK of a version, and the answer for the filter.
fn accept(remote: &mut Remote, version: Version) {
    match version {
        Version::V5 => remote.accepts(false),
        _ => {
            remote.world.bytes(remote.conn, &[0x20, 2, 0, 0]);
            remote.world.bytes(remote.conn, &[0x90, 3, 0xff, 0xff, 2]);
            remote.world.sent(remote.conn);
        }
    }
    assert_eq!(remote.number(M::Connected), 1);
}

/// What a server may not send in this version: of the table, whichever end its rows are of. A PUBLISH that is too long is passed over before 5.0.
fn of_a_server(version: Version) -> Vec<Case> {
    let is_wrong =
        |case: &Case| match frame::next_for(version, Sender::Server, &case.bytes, malformed::MAXIMUM_PACKET_SIZE) {
            Ok(None) => false,
            Ok(Some(frame)) => decode::decode(version, Sender::Server, frame).is_err(),
            Err(why) => {
                let is_long = why.reason == ReasonCode::PACKET_TOO_LARGE && case.bytes[0] >> 4 == 3;
                version == Version::V5 || !is_long
            }
        };
    malformed::all().into_iter().filter(|case| case.version == version && is_wrong(case)).collect()
}

/// G6: the hostile suite, mirrored. Each packet ends the connection, in 5.0 with a reason, is counted and reported, and leaves nothing behind.
#[test]
fn every_malformed_packet_of_a_server_ends_its_connection() {
    for (version, versions) in [(Version::V5, Versions::V5), (Version::V311, Versions::V311)] {
        let quick = Bridge {
            version: versions,
            keep_alive: Duration::ZERO,
            reconnect_backoff: Duration::from_millis(50),
            reconnect_backoff_max: Duration::from_millis(50),
            ..bridge()
        };
        let mut remote = Remote::new(&in_memory(), quick);
        let device = remote.world.device("d", 0);
        subscribe(&mut remote.world, device, Version::V311, 0, &[("#", PLAIN)]);
        accept(&mut remote, version);
        remote.cut();
        let before = left(&remote.world);
        let all = of_a_server(version);
        assert!(all.len() > 120, "{version:?}: {}", all.len());
        for (number, case) in (1..).zip(&all) {
            let Case { name, bytes, packet, .. } = case;
            remote.again();
            let lost = remote.world.told(EventKind::BridgeLost);
            let is_first = *packet == PacketType::ConnAck;
            if !is_first {
                accept(&mut remote, version);
            }
            remote.world.bytes(remote.conn, bytes);
            assert!(remote.world.table.wire(remote.conn).closed, "{name}: it is not ended");
            assert_eq!((remote.number(M::Connected), remote.number(M::Malformed)), (0, number), "{name}");
            if !is_first {
                assert_eq!(remote.world.told(EventKind::BridgeLost), lost + 1, "{name}");
                let said = remote.world.sent(remote.conn);
                assert_eq!(said.first(), Some(&0xe0), "{name}: {said:?}");
                assert!(version < Version::V5 || said.get(2).is_some_and(|reason| *reason >= 0x80), "{name}: {said:?}");
            }
            remote.world.table.release(remote.conn);
            remote.world.turn();
            assert_eq!(left(&remote.world), before, "{name}");
        }
        assert!(heard(&mut remote.world, device, Version::V311).is_empty(), "and nobody hears of it");
        assert!(remote.world.broker.records.is_empty());
    }
}

/// G6: topics that no filter matches, or that nothing may be published to here, go nowhere, whatever the template makes of them.
#[test]
fn no_topic_but_those_of_an_in_is_published_to() {
    let long: &'static str = "x/".repeat(20_000).leak();
    for (made, topics) in [
        (
            "in/${topic}",
            &[
                "other",
                "PLANT/1",
                "/plant/1",
                "plants",
                "$SYS/x",
                "$share/g/plant/1",
                "in/plant/1",
                "bridge/plant",
                long,
            ][..],
        ),
        ("${topic[1..]}", &["plant/$SYS/broker/load", "plant/$share/g/x", "plant/$x", "plant"]),
        ("${payload}", &["plant/1"]),
    ] {
        let mut bridge = Bridge { receive_maximum: 100, ..bridge() };
        bridge.ins[0].takes.topic = template(made);
        let mut remote = Remote::new(&super::world::ONE_SINK.replace("\"#\"", "\"#\", \"$SYS/#\", \"$x/#\""), bridge);
        let device = remote.world.device("d", 0);
        subscribe(
            &mut remote.world,
            device,
            Version::V311,
            0,
            &[("#", PLAIN), ("$SYS/broker/#", PLAIN), ("$x/#", PLAIN)],
        );
        heard(&mut remote.world, device, Version::V311);
        remote.accepts(false);
        let mut sent = 0;
        for topic in topics {
            for payload in ["x", "a/#", "$SYS/x", ""] {
                sent += 1;
                remote.says(&[qos(ONE, sent, topic, payload)]);
                // What a payload makes, and is a topic, is one.
                let is_one = made == "${payload}" && payload == "x";
                assert_eq!(remote.hears(), [format!("puback {sent}")], "{made} {topic:.20} {payload}");
                assert_eq!(
                    heard(&mut remote.world, device, Version::V311).len(),
                    usize::from(is_one),
                    "{made} {topic:.20} {payload}"
                );
            }
        }
        remote.world.advance(Duration::from_secs(1));
        let fits = usize::from(made == "${payload}");
        assert_eq!(remote.world.broker.records.len(), fits, "{made}");
        let dropped = remote.number(M::Unasked) + remote.number(M::Unfit);
        assert_eq!((dropped, remote.number(M::Received)), (u64::from(sent) - fits as u64, fits as u64));
        assert!(remote.world.told(EventKind::BridgeDropped) > 0);
        assert_eq!(remote.number(M::Connected), 1);
    }
}

/// A topic alias, of which the remote was granted none, ends the connection, and so does one without a topic before it.
#[test]
fn topic_aliases_are_not_taken() {
    for topic in ["plant/1", ""] {
        let mut remote = Remote::new(&in_memory(), bridge());
        remote.accepts(false);
        let topic = [&[0, topic.len() as u8][..], topic.as_bytes()].concat();
        let body = [&topic[..], &[3, 0x23, 0, 1], b"x"].concat();
        remote.world.bytes(remote.conn, &[&[0x30, body.len() as u8][..], &body].concat());
        assert_eq!(remote.hears(), ["disconnect Topic Alias invalid"]);
        assert_eq!((remote.number(M::Connected), remote.number(M::Received)), (0, 0));
        remote.world.advance(Duration::from_secs(1));
        assert!(remote.world.broker.records.is_empty());
    }
}

/// G6: answers to what was never sent change nothing of what was, and an answer to no SUBSCRIBE ends the connection.
#[test]
fn packet_identifiers_that_nobody_knows_end_nothing_of_ours() {
    let mut remote = Remote::new(&in_memory(), bridge());
    remote.accepts(false);
    let device = remote.world.device("d", 0);
    for (id, of) in [(1, ONE), (2, TWO)] {
        remote.world.bytes(device, &bytes_of(Version::V311, &qos(of, id, "alarm/1", "a")));
    }
    assert_eq!(remote.hears(), ["site/alarm/1 a qos1 1", "site/alarm/1 a qos2 2"]);
    for id in [3, 77, u16::MAX] {
        remote.says(&[
            Packet::PubAck(ack(id)),
            Packet::PubComp(ack(id)),
            Packet::PubRec(ack(id)),
            Packet::PubRel(ack(id)),
        ]);
        let heard = remote.hears();
        assert!(heard.iter().all(|said| said.starts_with("pubrel ") || said.starts_with("pubcomp ")), "{heard:?}");
    }
    // Of the wrong kind: PUBACK for QoS 2, PUBREC and PUBCOMP for QoS 1, PUBCOMP before PUBREC.
    remote.says(&[Packet::PubAck(ack(2)), Packet::PubComp(ack(1)), Packet::PubComp(ack(2))]);
    remote.hears();
    if remote.number(M::Connected) == 1 {
        assert_eq!(remote.number(M::Open), 2, "both are on their way still");
        remote.says(&[Packet::SubAck(SubAck { packet_id: 9, codes: &[2], properties: Properties::EMPTY })]);
    }
    assert_eq!(remote.number(M::Connected), 0);
    remote.again();
    remote.says(&[connack(true)]);
    let heard = remote.hears();
    assert_eq!(
        heard[..2],
        ["site/alarm/1 a qos1 1 dup", "site/alarm/1 a qos2 2 dup"],
        "nothing is taken for answered: {heard:?}"
    );
}

/// G6: a remote that sends more than our Receive Maximum, as mosquitto 2.0 does with what it has kept, is not read beyond that; nothing of it is lost, and
/// PUBREL behind it is taken when there are answers.
#[test]
fn more_than_the_receive_maximum_is_left_unread() {
    for version in [Version::V5, Version::V311] {
        let versions = if version == Version::V5 { Versions::V5 } else { Versions::V311 };
        let mut remote = Remote::new(&in_memory(), Bridge { version: versions, ..bridge() });
        accept(&mut remote, version);
        remote.world.kafka_down();
        let mut all = Vec::new();
        for id in 1..=30 {
            all.extend(bytes_of(version, &qos(TWO, id, "plant/1", "x")));
        }
        all.extend(bytes_of(version, &Packet::PubRel(ack(1))));
        remote.world.bytes(remote.conn, &all);
        assert!(remote.world.table.wire(remote.conn).paused);
        assert_eq!((remote.number(M::Connected), remote.number(M::Unsettled)), (1, 10));
        remote.world.kafka_up = true;
        remote.world.advance(Duration::from_secs(10));
        assert!(!remote.world.table.wire(remote.conn).paused);
        assert_eq!((remote.number(M::Connected), remote.number(M::Malformed), remote.number(M::Received)), (1, 0, 30));
        let answers = remote.world.sent(remote.conn);
        let count = |first: u8| answers.chunks(4).filter(|packet| packet[0] == first).count();
        assert_eq!((count(0x50), count(0x70)), (30, 1), "PUBREC and PUBCOMP");
        assert_eq!(remote.world.broker.records.len(), 30);
    }
}

/// A flood costs what the bounds say: of answers that nobody waits for, of a CONNACK without end, and of messages while nothing takes them.
#[test]
fn a_flood_costs_a_bounded_amount() {
    let mut remote =
        Remote::new(&in_memory().replace("[kafka.main]", "[kafka.main]\nbuffer_bytes = \"4MiB\""), bridge());
    // A CONNACK that goes on and on.
    let mut head = vec![0x20, 0xff, 0xff, 0xff, 0x7f];
    head.resize(CONNACK_BYTES_MAX as usize + 100, 0);
    remote.world.bytes(remote.conn, &head);
    assert!(remote.world.table.wire(remote.conn).closed);
    assert_eq!(remote.number(M::Malformed), 1);
    remote.world.table.release(remote.conn);
    remote.again();
    remote.accepts(false);
    let before = left(&remote.world);
    remote.world.bytes(remote.conn, &[0xd0, 0].repeat(50_000));
    assert_eq!((left(&remote.world), remote.number(M::Connected)), (before, 1), "50,000 PINGRESPs");
    assert!(remote.hears().is_empty());
    // 8 MiB of QoS 0, and nothing that takes them: the connection is not read.
    remote.world.kafka_down();
    let large: &'static str = "x".repeat(64 << 10).leak();
    for _ in 0..128 {
        if remote.world.table.wire(remote.conn).paused {
            break;
        }
        remote.says(&[qos(ZERO, 0, "plant/1", large)]);
    }
    let taken = remote.number(M::Received);
    assert!(
        remote.world.table.wire(remote.conn).paused || remote.world.number(ShardMetric::PartialBytes) < 1 << 20,
        "{taken}"
    );
    assert!(taken <= 128);
}

/// Silence at each step ends the attempt, or the connection, and is reported once.
#[test]
fn silence_is_waited_out_at_no_step() {
    let mut remote = Remote::new(&in_memory(), bridge());
    // No CONNACK, or one that comes byte by byte and never whole.
    remote.world.bytes(remote.conn, &[0x20]);
    remote.world.advance(Duration::from_secs(9));
    remote.world.bytes(remote.conn, &[3]);
    assert!(!remote.world.table.wire(remote.conn).closed);
    remote.world.advance(Duration::from_secs(2));
    assert!(remote.world.table.wire(remote.conn).closed, "connect_timeout");
    assert_eq!(remote.world.told(EventKind::BridgeUnreachable), 1);
    remote.world.table.release(remote.conn);
    // No SUBACK, while PINGRESPs come.
    remote.again();
    remote.says(&[connack(false)]);
    assert_eq!(remote.hears(), ["subscribe plant/#"]);
    for _ in 0..11 {
        remote.says(&[Packet::PingResp]);
        remote.world.advance(Duration::from_secs(1));
    }
    assert_eq!((remote.number(M::Connected), remote.world.told(EventKind::BridgeLost)), (0, 1));
}

/// G3: a remote that names another server is not followed, and nobody but the remote is told the password.
#[test]
fn another_server_is_not_gone_to() {
    let secret =
        Bridge { username: Some("edge".to_owned()), password: Some(Secret::new(b"s3cret".to_vec())), ..bridge() };
    let mut remote = Remote::new(&in_memory(), secret);
    let mut properties = PropertyBuf::new();
    properties.extend([Property::ServerReference("127.0.0.66:1883")]);
    let properties = properties.as_properties();
    for (number, reason) in (1..).zip([ReasonCode::USE_ANOTHER_SERVER, ReasonCode::SERVER_MOVED]) {
        let refused = ConnAck { session_present: false, reason, properties };
        remote.says(&[Packet::ConnAck(refused)]);
        assert_eq!(remote.number(M::Refused), 2 * number - 1);
        remote.again();
        remote.says(&[connack(false)]);
        remote.says(&[Packet::Disconnect(Disconnect { reason, properties })]);
        assert_eq!((remote.number(M::Refused), remote.number(M::Connected)), (2 * number, 0));
        remote.again();
    }
    assert!(remote.world.told(EventKind::BridgeRefused) > 0);
    let gone_to: Vec<_> =
        remote.world.table.wires.iter().filter_map(|wire| wire.outgoing).map(|to| to.to_string()).collect();
    assert!(!gone_to.iter().any(|to| to.contains("127.0.0.66")), "{gone_to:?}");
}

/// G4: a remote that claims a session though a clean start was asked for is not believed; one that has another client's session gets what it may.
#[test]
fn a_session_of_somebody_else() {
    let mut remote = Remote::new(&in_memory(), Bridge { clean_start: true, ..bridge() });
    remote.says(&[connack(true)]);
    assert_eq!((remote.number(M::Connected), remote.number(M::Malformed)), (0, 1), "[MQTT-3.2.2-2]");
    let mut remote = Remote::new(&in_memory(), bridge());
    remote.says(&[connack(true)]);
    // It releases and acknowledges what we never had, and sends what somebody else has asked for.
    remote.says(&[Packet::PubRel(ack(5)), Packet::PubAck(ack(6)), qos(TWO, 7, "theirs/1", "x")]);
    let heard = remote.hears();
    assert_eq!(heard, ["subscribe plant/#", "pubcomp 5", "pubrec 7"]);
    assert_eq!((remote.number(M::Unasked), remote.number(M::Received)), (1, 0));
    remote.world.advance(Duration::from_secs(1));
    assert!(remote.world.broker.records.is_empty());
}

/// G16: a remote that gives the session to another client, again and again, is reported from the second time within a minute on; before 5.0 it says
/// nothing, and the end of the connection is taken for that.
#[test]
fn a_session_that_is_taken_over_is_reported() {
    for version in [Version::V5, Version::V311] {
        let versions = if version == Version::V5 { Versions::V5 } else { Versions::V311 };
        let mut remote = Remote::new(&in_memory(), Bridge { version: versions, ..bridge() });
        let taken_over = |remote: &mut Remote| {
            accept(remote, version);
            if version == Version::V5 {
                let (reason, properties) = (ReasonCode::SESSION_TAKEN_OVER, Properties::EMPTY);
                remote.says(&[Packet::Disconnect(Disconnect { reason, properties })]);
                remote.world.table.release(remote.conn);
            } else {
                remote.cut();
            }
            remote.again();
            remote.world.told(EventKind::BridgeTakenOver)
        };
        assert_eq!(taken_over(&mut remote), 0, "once is no contest");
        assert_eq!(taken_over(&mut remote), 1);
        remote.world.advance(Duration::from_secs(5));
        remote.cut();
        remote.again();
        remote.world.advance(Duration::from_secs(5));
        if version == Version::V5 {
            accept(&mut remote, version);
            remote.cut();
            remote.again();
            assert_eq!(remote.world.told(EventKind::BridgeTakenOver), 1, "5.0 says so");
        }
    }
}

/// G1: with another URL nothing that is open belongs to the new remote: what was on its way is sent as new, what had come is nobody's repeat, and the
/// remote is asked to forget.
#[test]
fn another_remote_gets_nothing_of_the_open_exchanges() {
    let mut remote = Remote::new(&in_memory(), bridge());
    remote.accepts(false);
    let device = remote.world.device("d", 0);
    for id in [1, 2] {
        remote.world.bytes(device, &bytes_of(Version::V311, &qos(TWO, id, "alarm/1", "a")));
    }
    assert_eq!(remote.hears().len(), 2);
    remote.says(&[Packet::PubRec(ack(1)), qos(TWO, 9, "plant/1", "of the first")]);
    assert_eq!(remote.hears(), ["pubrel 1", "pubrec 9"]);
    let other = Bridge { url: Url::parse("tcp://127.0.0.10:1883").expect("a URL"), ..bridge() };
    remote.world.reload_to(configured(&in_memory(), other));
    assert_eq!(remote.hears(), ["disconnect Administrative action"]);
    remote.conn = found_at(&remote.world, "127.0.0.10:1883").expect("it goes to the other one");
    let connect = remote.connected();
    let frame = frame::next_connect(&connect, u32::MAX).expect("well formed").expect("whole");
    assert!(decode::connect(frame).expect("well formed").clean_start, "whatever that knows is of somebody else");
    remote.accepts(false);
    assert_eq!(remote.hears(), ["site/alarm/1 a qos2 2"], "as new; the first was there");
    remote.says(&[Packet::PubComp(ack(1)), Packet::PubRel(ack(9))]);
    assert_eq!(remote.hears(), ["pubcomp 9"], "of an exchange that it does not have");
    remote.says(&[qos(TWO, 9, "plant/1", "of the second")]);
    remote.world.advance(Duration::from_secs(1));
    assert_eq!(remote.hears(), ["pubrec 9"]);
    let values: Vec<_> = remote.world.broker.records.iter().map(|(.., value)| value.clone()).collect();
    assert_eq!(values, [&b"of the first"[..], b"of the second"]);
    let last = Ack { packet_id: 2, reason: ReasonCode::SUCCESS, properties: Properties::EMPTY };
    remote.says(&[Packet::PubRec(last)]);
    assert_eq!((remote.hears(), remote.number(M::Open)), (vec!["pubrel 2".to_owned()], 0));
}
