//! What Kafka refuses for good, and what no sink takes, goes to the sink's dead letters; and what publishers are told.

use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use forebay::config;
use forebay::metrics::spec::{Layout, ShardMetric, SinkMetric};
use forebay::mqtt::encode;
use forebay::mqtt::packet::{Connect, Packet, Publish, QoS, Version};
use forebay::mqtt::property::{Properties, Property, PropertyBuf};
use forebay::runtime::seam::{ConnId, Shard};
use forebay::service::dead_letters::Letter;
use forebay::shard::mail::{Mail, ToDeadLetters};

use super::world::World;

const TWO_SINKS: &str = r##"
[kafka.main]
bootstrap = "127.0.0.1:9092"
[[sink]]
name = "bad"
filters = ["#"]
topic = "bad"
record_bytes_max = "64KiB"
$DEAD
[[sink]]
name = "good"
filters = ["#"]
topic = "good"
"##;

const TOPIC: &str = "dead_letters_topic = 'dead'";
const FILE: &str = "dead_letters_file = 'x'";

fn world(dead: &str) -> (World, Receiver<Letter>) {
    world_of(&TWO_SINKS.replace("$DEAD", dead))
}

fn world_of(text: &str) -> (World, Receiver<Letter>) {
    let (post, letters) = channel();
    let config = config::parse(text, "test.toml").unwrap_or_else(|problems| panic!("{problems}"));
    let world = World::with_letters(config, vec![Some(post), None]);
    (world, letters)
}

fn device(world: &mut World, version: Version) -> ConnId {
    let conn = world.accept();
    let mut bytes = Vec::new();
    // Without Reason Strings, an answer is a few bytes.
    let mut properties = PropertyBuf::new();
    if version == Version::V5 {
        properties.push(Property::RequestProblemInformation(false));
    }
    let connect = Connect { properties: properties.as_properties(), ..crate::hello::hello(version, "dev") };
    encode::packet(version, &Packet::Connect(connect), &mut bytes).expect("encoded");
    world.bytes(conn, &bytes);
    world.sent(conn);
    conn
}

fn say(world: &mut World, conn: ConnId, version: Version, qos: QoS, packet_id: u16, payload: &[u8]) {
    let publish =
        Publish { dup: false, qos, retain: false, topic: "a/b", packet_id, properties: Properties::EMPTY, payload };
    let mut bytes = Vec::new();
    encode::packet(version, &Packet::Publish(publish), &mut bytes).expect("encoded");
    world.bytes(conn, &bytes);
    world.advance(Duration::from_secs(3));
}

/// Values in a topic.
fn values(world: &World, topic: &str) -> Vec<Vec<u8>> {
    let of_topic = world.broker.records.iter().filter(|record| record.0 == topic);
    of_topic.map(|record| record.3.clone()).collect()
}

fn of_sink(world: &World, metric: SinkMetric) -> u64 {
    world.values()[Layout { sinks: 2, clusters: 1, listeners: 1, sources: 0, rules: 0, bridges: 0 }.sink(0, metric)]
}

/// Matched, dead-lettered, of them in the file, refused, buffered.
fn ledger(world: &World) -> [u64; 5] {
    use SinkMetric::{BufferedRows, DeadLettered, DeadLetteredInFile, Refused};
    [SinkMetric::Matched, DeadLettered, DeadLetteredInFile, Refused, BufferedRows].map(|metric| of_sink(world, metric))
}

/// PUBACK or PUBREC with this reason, as a version writes it.
fn answer(version: Version, qos: QoS, id: u8, reason: u8) -> Vec<u8> {
    let first = if qos == QoS::AtLeastOnce { 0x40 } else { 0x50 };
    if version == Version::V5 && reason > 0 { vec![first, 3, 0, id, reason] } else { vec![first, 2, 0, id] }
}

#[test]
fn refused_by_kafka_it_goes_to_the_topic_once_and_is_answered_from_there() {
    for version in [Version::V311, Version::V5] {
        let (mut world, _) = world(TOPIC);
        world.broker.refuses.insert("bad".to_owned(), 87);
        let conn = device(&mut world, version);
        for (id, qos) in [(1, QoS::AtLeastOnce), (2, QoS::ExactlyOnce), (0, QoS::AtMostOnce)] {
            say(&mut world, conn, version, qos, id, b"x");
            let expected = if id == 0 { Vec::new() } else { answer(version, qos, id as u8, 0) };
            assert_eq!(world.sent(conn), expected, "{version:?} {qos:?}");
        }
        assert!(!world.table.wire(conn).closed);
        assert_eq!(values(&world, "dead").len(), 3);
        assert_eq!(values(&world, "good").len(), 3, "once each in the sink that takes it");
        assert_eq!(ledger(&world), [3, 3, 0, 0, 0]);
        let at = world.broker.records.iter().position(|record| record.0 == "dead").expect("a dead letter");
        assert_eq!((&world.broker.records[at].2[..], &world.broker.records[at].3[..]), (&b"a/b"[..], &b"x"[..]));
        let header = |name: &str| {
            let all = &world.broker.headers[at];
            all.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
        };
        let said = ["sink", "reason", "kafka-code", "kafka-topic"].map(|name| header(&format!("dead-letter-{name}")));
        assert_eq!(said, ["bad", "INVALID_RECORD", "87", "bad"].map(Some));
        assert!(header("dead-letter-kafka-partition").is_some() && header("dead-letter-received-ms").is_some());
        assert_eq!(header("dead-letter-value-bytes"), None);
    }
}

#[test]
fn too_large_for_kafka_only_its_beginning_goes_to_the_topic() {
    let (mut world, _) = world(TOPIC);
    world.broker.refuses.insert("bad".to_owned(), 10);
    let conn = device(&mut world, Version::V311);
    say(&mut world, conn, Version::V311, QoS::AtLeastOnce, 1, &[b'x'; 40_000]);
    assert_eq!(world.sent(conn), answer(Version::V311, QoS::AtLeastOnce, 1, 0));
    assert_eq!(values(&world, "dead"), [vec![b'x'; 16 * 1024]]);
    let cut = world.broker.headers.iter().flatten().find(|(name, _)| name == "dead-letter-value-bytes");
    assert_eq!(cut.map(|(_, value)| value.as_str()), Some("40000"));
}

/// The letters that have come, read as JSON.
fn read(letters: &Receiver<Letter>) -> Vec<serde_json::Value> {
    let line = |letter: Letter| {
        assert_eq!(letter.line.last(), Some(&b'\n'));
        serde_json::from_slice(&letter.line).expect("a line of JSON")
    };
    letters.try_iter().map(line).collect()
}

/// Finding F14: at `stored` the publisher has its answer before Kafka refuses the record. Only the record can name its client.
#[test]
fn finding_f14_of_a_stored_record_the_dead_letter_has_the_client_that_the_record_names() {
    for (headers, named) in [("", None), ("headers = { client = '${clientid}' }", Some("dev"))] {
        let keys = format!("acknowledge = 'stored'\ndead_letters_topic = 'dead'\n{headers}");
        let mut world = World::new(&super::spooled("", &keys));
        world.broker.refuses.insert("all".to_owned(), 87);
        world.kafka_down();
        let conn = device(&mut world, Version::V311);
        say(&mut world, conn, Version::V311, QoS::AtLeastOnce, 1, b"x");
        assert_eq!(world.sent(conn), answer(Version::V311, QoS::AtLeastOnce, 1, 0), "it is stored");
        world.kafka_up = true;
        world.advance(Duration::from_secs(30));
        let at = world.broker.records.iter().position(|record| record.0 == "dead").expect("a dead letter");
        let header = |name: &str| {
            let all = &world.broker.headers[at];
            all.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
        };
        assert_eq!((header("dead-letter-client-id"), header("client")), (None, named));
    }
}

#[test]
fn for_a_file_the_answer_waits_until_it_is_on_the_disk() {
    for version in [Version::V311, Version::V5] {
        let (mut world, letters) = world(FILE);
        world.broker.refuses.insert("bad".to_owned(), 10);
        let conn = device(&mut world, version);
        say(&mut world, conn, version, QoS::AtLeastOnce, 1, b"\xff");
        assert_eq!((world.sent(conn), ledger(&world)), (Vec::new(), [1, 0, 0, 0, 1]));
        assert_eq!(world.number(ShardMetric::DeadLettersQueued), 1);
        let line = &read(&letters)[0];
        let said = ["sink", "reason", "mqtt_topic", "client_id", "kafka_topic", "key", "value", "value_encoding"];
        let expected = ["bad", "MESSAGE_TOO_LARGE", "a/b", "dev", "bad", "a/b", "/w==", "base64"];
        assert_eq!(said.map(|field| line[field].as_str()), expected.map(Some));
        assert_eq!(line["kafka_code"], 10);
        world.core.on_mail(&mut world.table, Mail::DeadLetters(ToDeadLetters::Filed { sink: 0, count: 1 }));
        world.turn();
        assert_eq!(world.sent(conn), answer(version, QoS::AtLeastOnce, 1, 0));
        assert_eq!(ledger(&world), [1, 1, 1, 0, 0]);
        assert_eq!(world.number(ShardMetric::DeadLettersQueuedBytes), 0);
    }
}

#[test]
fn what_the_topic_refuses_goes_to_the_file_and_says_so() {
    let (mut world, letters) = world("dead_letters_topic = 'dead'\ndead_letters_file = 'x'");
    world.broker.refuses.extend([("bad".to_owned(), 87), ("dead".to_owned(), 29)]);
    let conn = device(&mut world, Version::V311);
    say(&mut world, conn, Version::V311, QoS::AtLeastOnce, 1, b"x");
    let lines = read(&letters);
    assert_eq!(lines.len(), 1);
    let said = ["sink", "reason", "dead_letters_topic_refused", "kafka_topic", "client_id"];
    let expected = ["bad", "INVALID_RECORD", "TOPIC_AUTHORIZATION_FAILED", "bad", "dev"];
    assert_eq!(said.map(|field| lines[0][field].as_str()), expected.map(Some));
    assert_eq!(lines[0]["headers"], serde_json::json!([]), "headers of the record itself only");
    assert_eq!(ledger(&world), [1, 0, 0, 0, 1]);
    world.core.on_mail(&mut world.table, Mail::DeadLetters(ToDeadLetters::Filed { sink: 0, count: 1 }));
    world.turn();
    assert_eq!((world.sent(conn), ledger(&world)), (answer(Version::V311, QoS::AtLeastOnce, 1, 0), [1, 1, 1, 0, 0]));
}

#[test]
fn refused_everywhere_it_ends_as_without_dead_letters() {
    let (mut world, _) = world(TOPIC);
    world.broker.refuses.extend([("bad".to_owned(), 87), ("dead".to_owned(), 29)]);
    let conn = device(&mut world, Version::V311);
    say(&mut world, conn, Version::V311, QoS::AtLeastOnce, 1, b"x");
    assert!(world.table.wire(conn).closed, "3.1.1 has no word for it");
    assert_eq!(ledger(&world), [1, 0, 0, 1, 0]);
}

#[test]
fn known_at_the_door_it_is_a_dead_letter_and_a_success_whatever_the_version() {
    for (dead, in_file) in [(TOPIC, false), (FILE, true)] {
        let (mut world, letters) = world(dead);
        let conn = device(&mut world, Version::V5);
        say(&mut world, conn, Version::V5, QoS::AtLeastOnce, 1, &[b'x'; 70_000]);
        say(&mut world, conn, Version::V5, QoS::AtMostOnce, 0, &[b'x'; 70_000]);
        if in_file {
            assert_eq!((world.sent(conn), ledger(&world)), (Vec::new(), [2, 0, 0, 0, 2]));
            world.core.on_mail(&mut world.table, Mail::DeadLetters(ToDeadLetters::Filed { sink: 0, count: 2 }));
            world.turn();
        }
        assert_eq!(world.sent(conn), answer(Version::V5, QoS::AtLeastOnce, 1, 0));
        let old = device(&mut world, Version::V311);
        say(&mut world, old, Version::V311, QoS::ExactlyOnce, 2, &[b'x'; 70_000]);
        if in_file {
            assert_eq!((world.sent(old), ledger(&world)), (Vec::new(), [3, 2, 2, 0, 1]));
            let lines = read(&letters);
            assert_eq!(lines.iter().map(|line| line["qos"].as_i64()).collect::<Vec<_>>(), [1, 0, 2].map(Some));
            assert_eq!(lines[2]["value"].as_str().map(str::len), Some(70_000));
            assert_eq!((&lines[2]["reason"], &lines[2]["client_id"]), (&"TOO_LARGE".into(), &"dev".into()));
            world.core.on_mail(&mut world.table, Mail::DeadLetters(ToDeadLetters::Filed { sink: 0, count: 1 }));
            world.turn();
        } else {
            assert_eq!(values(&world, "dead"), vec![vec![b'x'; 16 * 1024]; 3]);
        }
        assert_eq!(world.sent(old), answer(Version::V311, QoS::ExactlyOnce, 2, 0));
        assert_eq!(ledger(&world), [3, 3, 3 * u64::from(in_file), 0, 0]);
        assert_eq!(values(&world, "good").len(), 3, "the other sink takes it as ever");
    }
}

#[test]
fn what_cannot_be_rendered_is_a_dead_letter_as_it_came() {
    let text = TWO_SINKS.replace("topic = \"bad\"", "topic = 'x-${payload.no}'").replace("$DEAD", TOPIC);
    let (mut world, _) = world_of(&text);
    let conn = device(&mut world, Version::V311);
    say(&mut world, conn, Version::V311, QoS::AtLeastOnce, 1, b"no json");
    assert_eq!(world.sent(conn), answer(Version::V311, QoS::AtLeastOnce, 1, 0));
    assert_eq!(values(&world, "dead"), [b"no json"]);
    let at = world.broker.records.iter().position(|record| record.0 == "dead").expect("a dead letter");
    let expected = [("reason", "PAYLOAD_PATH_MISSING"), ("mqtt-topic", "a/b"), ("client-id", "dev"), ("qos", "1")];
    for (name, value) in expected {
        assert!(world.broker.headers[at].contains(&(format!("dead-letter-{name}"), value.to_owned())), "{name}");
    }
}

/// The bound of the queue to the file: rows wait in memory, messages at the door in their sockets, and nothing is lost.
#[test]
fn a_full_queue_to_the_file_holds_what_comes_after() {
    let (mut world, letters) = world(&format!("{FILE}\nqos0_when_full = 'wait'"));
    world.broker.refuses.insert("bad".to_owned(), 87);
    let conn = device(&mut world, Version::V311);
    let mut sent = 0u64;
    for id in 1..=1_500 {
        let publish = Publish {
            dup: false,
            qos: QoS::AtMostOnce,
            retain: false,
            topic: "a/b",
            packet_id: 0,
            properties: Properties::EMPTY,
            payload: &u16::to_be_bytes(id),
        };
        let mut bytes = Vec::new();
        encode::packet(Version::V311, &Packet::Publish(publish), &mut bytes).expect("encoded");
        world.bytes(conn, &bytes);
        sent += 1;
    }
    world.advance(Duration::from_secs(5));
    assert_eq!(world.number(ShardMetric::DeadLettersQueued), 1_024, "the bound");
    say(&mut world, conn, Version::V311, QoS::AtMostOnce, 0, &[b'x'; 70_000]);
    assert!(world.table.wire(conn).paused, "left unread: there is no room for a dead letter at the door");
    let mut taken = 0;
    loop {
        let came = read(&letters).len() as u32;
        if came == 0 {
            break;
        }
        taken += u64::from(came);
        world.core.on_mail(&mut world.table, Mail::DeadLetters(ToDeadLetters::Filed { sink: 0, count: came }));
        world.turn();
        world.advance(Duration::from_secs(1));
    }
    assert_eq!((taken, ledger(&world)), (sent + 1, [sent + 1, sent + 1, sent + 1, 0, 0]));
    assert!(!world.table.wire(conn).paused);
}
