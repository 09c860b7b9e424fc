//! Messages that the remote of a bridge refuses.

use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use forebay::config::{Bridge, DeadLetters, DeadLettersFile};
use forebay::metrics::event::Kind as EventKind;
use forebay::metrics::spec::{BridgeMetric, ShardMetric};
use forebay::mqtt::packet::{Ack, Packet, QoS, Version};
use forebay::mqtt::reason::ReasonCode;
use forebay::runtime::seam::{ConnId, Shard as _};
use forebay::service::dead_letters::{Letter, Ways};
use forebay::shard::mail::{Mail, ToDeadLetters, ToShard};

use super::remotes::{Remote, ack, bridge, configured, connack, in_memory, outgoing, qos};
use super::subscribe::bytes_of;
use super::world::World;

const FULL: ReasonCode = ReasonCode::QUOTA_EXCEEDED;

fn refusal(packet_id: u16, reason: ReasonCode) -> Ack<'static> {
    Ack { reason, ..ack(packet_id) }
}

fn with_topic(file: bool) -> Bridge {
    let file = file.then(|| DeadLettersFile { path: "x".into(), bytes_max: 1 << 20, files: 2 });
    Bridge { dead_letters: Some(DeadLetters { topic: Some("dead".to_owned()), file }), ..bridge() }
}

fn with_file() -> Bridge {
    let file = DeadLettersFile { path: "x".into(), bytes_max: 1 << 20, files: 2 };
    Bridge { dead_letters: Some(DeadLetters { topic: None, file: Some(file) }), ..bridge() }
}

/// A bridge with a connection, the letters to its file, and a device.
fn begun(bridge: Bridge) -> (Remote, Receiver<Letter>, ConnId) {
    let (post, letters) = channel();
    let has_file = bridge.dead_letters.as_ref().is_some_and(|dead| dead.file.is_some());
    let ways = Ways { sinks: Vec::new(), bridges: vec![has_file.then_some(post)] };
    let mut remote = Remote::of(World::with_ways(configured(&in_memory(), bridge), ways));
    remote.accepts(true);
    let device = remote.world.device("d", 0);
    (remote, letters, device)
}

fn publishes(remote: &mut Remote, device: ConnId, all: &[(u16, QoS, &'static str)]) {
    for (id, of, payload) in all {
        remote.world.bytes(device, &bytes_of(Version::V311, &qos(*of, *id, "alarm/1", payload)));
    }
}

fn dead(remote: &Remote) -> Vec<Vec<u8>> {
    let records = remote.world.broker.records.iter().filter(|record| record.0 == "dead");
    records.map(|(.., value)| value.clone()).collect()
}

/// The ledger of copies holds, and nothing is left.
fn is_over(remote: &Remote) {
    let sum = |all: &[ShardMetric]| all.iter().map(|metric| remote.world.number(*metric)).sum::<u64>();
    assert_eq!(sum(&ShardMetric::COPIES_IN), sum(&ShardMetric::COPIES_OUT));
    assert_eq!((remote.number(BridgeMetric::Open), remote.number(BridgeMetric::Queued)), (0, 0));
}

/// G13: a remote that has no room gets the message again, as a new one, after a wait that doubles.
#[test]
fn a_remote_without_room_gets_it_again() {
    let (mut remote, _, device) = begun(bridge());
    publishes(&mut remote, device, &[(1, QoS::AtLeastOnce, "a"), (2, QoS::ExactlyOnce, "b")]);
    assert_eq!(remote.hears(), ["site/alarm/1 a qos1 1", "site/alarm/1 b qos2 2"]);
    remote.says(&[Packet::PubAck(refusal(1, FULL)), Packet::PubRec(refusal(2, ReasonCode::PACKET_IDENTIFIER_IN_USE))]);
    remote.world.advance(Duration::from_millis(900));
    assert!(remote.hears().is_empty(), "after the back-off");
    remote.world.advance(Duration::from_millis(200));
    assert_eq!(remote.hears(), ["site/alarm/1 a qos1 1", "site/alarm/1 b qos2 2"], "without DUP");
    remote.says(&[Packet::PubRec(ack(2)), Packet::PubAck(refusal(1, FULL))]);
    assert_eq!(remote.hears(), ["pubrel 2"]);
    remote.says(&[Packet::PubComp(ack(2))]);
    remote.world.advance(Duration::from_millis(1_900));
    assert!(remote.hears().is_empty(), "it has doubled");
    remote.world.advance(Duration::from_millis(200));
    assert_eq!(remote.hears(), ["site/alarm/1 a qos1 1"]);
    remote.says(&[Packet::PubAck(ack(1))]);
    assert_eq!(remote.number(BridgeMetric::SentAgain), 3);
    assert_eq!(remote.world.number(ShardMetric::CopiesRefused), 0);
    is_over(&remote);
}

/// Five times, and no more. Without dead letters it is dropped, counted and reported.
#[test]
fn a_remote_that_never_has_room_costs_the_message() {
    let (mut remote, _, device) = begun(Bridge { keep_alive: Duration::ZERO, ..bridge() });
    publishes(&mut remote, device, &[(1, QoS::AtLeastOnce, "a")]);
    for _ in 0..5 {
        assert_eq!(remote.hears(), ["site/alarm/1 a qos1 1"]);
        remote.says(&[Packet::PubAck(refusal(1, FULL))]);
        assert_eq!(remote.world.number(ShardMetric::CopiesRefused), 0);
        remote.world.advance(Duration::from_secs(31));
    }
    assert_eq!(remote.hears().first().map(String::as_str), Some("site/alarm/1 a qos1 1"), "the fifth time again");
    remote.says(&[Packet::PubAck(refusal(1, FULL))]);
    assert_eq!(remote.world.number(ShardMetric::CopiesRefused), 1);
    assert_eq!(remote.world.told(EventKind::BridgeRefusedMessage), 1);
    is_over(&remote);
}

/// What a remote will never take is a dead letter, and holds its place until that is safe.
#[test]
fn what_the_remote_refuses_is_a_dead_letter() {
    let (mut remote, _, device) = begun(with_topic(false));
    remote.world.kafka_down();
    publishes(&mut remote, device, &[(1, QoS::AtLeastOnce, "a"), (2, QoS::ExactlyOnce, "b")]);
    assert_eq!(remote.hears().len(), 2);
    remote.says(&[
        Packet::PubAck(refusal(1, ReasonCode::NOT_AUTHORIZED)),
        Packet::PubRec(refusal(2, ReasonCode::TOPIC_NAME_INVALID)),
        // Said twice, it is one letter.
        Packet::PubAck(refusal(1, ReasonCode::NOT_AUTHORIZED)),
    ]);
    assert_eq!(remote.world.told(EventKind::BridgeRefusedMessage), 2);
    assert_eq!((remote.number(BridgeMetric::Open), dead(&remote).len()), (2, 0));
    remote.world.kafka_up = true;
    remote.world.advance(Duration::from_secs(5));
    assert_eq!(dead(&remote), [b"a", b"b"]);
    assert_eq!(remote.number(BridgeMetric::DeadLettered), 2);
    assert_eq!(remote.world.number(ShardMetric::CopiesDeadLettered), 2);
    assert!(remote.hears().iter().all(|said| said == "pingreq"));
    is_over(&remote);
}

/// The connection is lost while the letter is on its way: the message does not go to the remote again.
#[test]
fn a_letter_on_its_way_outlives_the_connection() {
    let (mut remote, letters, device) = begun(with_file());
    publishes(&mut remote, device, &[(1, QoS::AtLeastOnce, "a"), (2, QoS::AtLeastOnce, "b")]);
    remote.hears();
    remote.says(&[Packet::PubAck(refusal(1, ReasonCode::NOT_AUTHORIZED)), Packet::PubAck(refusal(2, FULL))]);
    let letter = letters.try_recv().expect("a letter");
    let line: serde_json::Value = serde_json::from_slice(&letter.line).expect("JSON");
    assert_eq!(
        [&line["bridge"], &line["reason"], &line["mqtt_topic"], &line["value"]],
        ["plant", "NOT_AUTHORIZED", "alarm/1", "a"]
    );
    remote.cut();
    remote.again();
    remote.says(&[connack(true)]);
    remote.world.advance(Duration::from_secs(1));
    let mut heard = remote.hears();
    heard.sort_unstable();
    assert_eq!(
        heard,
        ["site/alarm/1 b qos1 2", "subscribe plant/#"],
        "one has its letter, the other waited for its time"
    );
    remote.says(&[Packet::PubAck(ack(2))]);
    let filed = |number| Mail::DeadLetters(ToDeadLetters::FiledOfBridge { bridge: 0, number, count: 1 });
    remote.world.core.on_mail(&mut remote.world.table, filed(letter.sink + 1));
    remote.world.turn();
    assert_eq!(remote.number(BridgeMetric::Open), 1, "that was the letter of another use of the file");
    remote.world.core.on_mail(&mut remote.world.table, filed(letter.sink));
    remote.world.turn();
    is_over(&remote);
}

/// A letter that Kafka will not take goes to the file.
#[test]
fn a_letter_that_the_topic_refuses_goes_to_the_file() {
    let (mut remote, letters, device) = begun(with_topic(true));
    remote.world.broker.refuses.extend([("dead".to_owned(), 29)]);
    publishes(&mut remote, device, &[(1, QoS::AtLeastOnce, "a")]);
    remote.says(&[Packet::PubAck(refusal(1, ReasonCode::NOT_AUTHORIZED))]);
    remote.world.advance(Duration::from_secs(2));
    let letter = letters.try_recv().expect("a letter");
    let line: serde_json::Value = serde_json::from_slice(&letter.line).expect("JSON");
    assert_eq!(line["dead_letters_topic_refused"], "TOPIC_AUTHORIZATION_FAILED");
    assert_eq!(remote.number(BridgeMetric::Open), 1);
    remote.world.core.on_mail(
        &mut remote.world.table,
        Mail::DeadLetters(ToDeadLetters::FiledOfBridge { bridge: 0, number: letter.sink, count: 1 }),
    );
    remote.world.turn();
    is_over(&remote);
}

/// The process dies before the letter is safe: the message is there still.
#[test]
fn a_refused_message_survives_a_crash() {
    let text = super::spooled("", "acknowledge = \"stored\"\n").replace("[\"#\"]", "[\"in/#\"]");
    let mut remote = Remote::new(&text, with_topic(false));
    remote.accepts(true);
    let device = remote.world.device("d", 0);
    publishes(&mut remote, device, &[(1, QoS::AtLeastOnce, "a")]);
    assert_eq!(remote.hears(), ["site/alarm/1 a qos1 1"]);
    remote.world.kafka_down();
    remote.says(&[Packet::PubAck(refusal(1, ReasonCode::NOT_AUTHORIZED))]);
    remote.world.power_cut();
    remote.world.mail(Mail::Shard(ToShard::Accept));
    remote.conn = outgoing(&remote.world);
    remote.connected();
    remote.says(&[connack(true)]);
    assert_eq!(remote.hears()[0], "site/alarm/1 a qos1 1 dup");
}
