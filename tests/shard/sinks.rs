//! Keys of a sink through a whole shard: `expire_after`, `partitioner = "client"`, `exclude`, `fallback`, `timestamp`, `empty_payload`.

use std::time::Duration;

use forebay::metrics::spec::ShardMetric;
use forebay::mqtt::encode;
use forebay::mqtt::packet::{Ack, Packet, Publish, QoS, Version};
use forebay::mqtt::property::{Property, PropertyBuf};
use forebay::mqtt::reason::ReasonCode;
use forebay::record::murmur2;

use super::broker::PARTITIONS;
use super::subscribe::message;
use super::world::{World, publish};

const TEN: &str = "[kafka.main]\nbootstrap = \"127.0.0.1:9092\"\n[[sink]]\nname = \"all\"\nfilters = \"#\"\ntopic = \"t\"\n\
    expire_after = \"10s\"\n";

#[test]
fn what_waited_too_long_for_kafka_is_answered_and_not_sent() {
    let mut world = World::new(TEN);
    let device = world.device("patient", 0);
    world.kafka_down();
    let mut bytes = Vec::new();
    publish("t", 1, b"old", &mut bytes);
    world.bytes(device, &bytes);
    world.advance(Duration::from_secs(9));
    assert!(world.sent(device).is_empty());
    world.advance(Duration::from_secs(3));
    assert_eq!(world.sent(device), [0x40, 2, 0, 1], "PUBACK while Kafka is still away");
    bytes.clear();
    publish("t", 2, b"young", &mut bytes);
    world.bytes(device, &bytes);
    world.kafka_up = true;
    world.advance(Duration::from_secs(5));
    assert_eq!(world.sent(device), [0x40, 2, 0, 2]);
    let values: Vec<_> = world.broker.records.iter().map(|record| record.3.as_slice()).collect();
    assert_eq!(values, [b"young"]);
}

#[test]
fn a_client_has_one_partition_whatever_its_topics() {
    let mut world = World::new(&TEN.replace("expire_after = \"10s\"", "partitioner = \"client\""));
    for client in ["a", "bb", "ccc", "sensor-5", "sensor-6"] {
        let device = world.device(client, 0);
        let mut bytes = Vec::new();
        for id in 1..=8 {
            publish(&format!("{client}/{id}"), id, client.as_bytes(), &mut bytes);
        }
        world.bytes(device, &bytes);
        world.advance(Duration::from_secs(1));
    }
    assert_eq!(world.broker.records.len(), 40);
    for (_, partition, _, client) in &world.broker.records {
        assert_eq!(*partition as usize, murmur2::partition(client, PARTITIONS as usize));
    }
}

const CHOSEN: &str = "[kafka.main]\nbootstrap = \"127.0.0.1:9092\"\n\
    [[sink]]\nname = \"plant\"\nfilters = \"plant/#\"\nexclude = [\"plant/+/debug\", \"plant/9/#\"]\ntopic = \"plant\"\n\
    [[sink]]\nname = \"alarms\"\nfilters = \"+/+/alarm\"\ntopic = \"alarms\"\n\
    [[sink]]\nname = \"rest\"\nfilters = \"#\"\nfallback = true\ntopic = \"rest\"\n";

/// Publishes to each topic, at QoS 1, and says where its record went.
fn places(world: &mut World, topics: &[&str]) -> Vec<String> {
    let device = world.device("chooser", 0);
    let mut id = 0;
    let place = |topic: &&str| {
        let (before, mut bytes) = (world.broker.records.len(), Vec::new());
        id += 1;
        publish(topic, id, b"x", &mut bytes);
        world.bytes(device, &bytes);
        world.advance(Duration::from_secs(1));
        assert_eq!(world.sent(device), [0x40, 2, 0, id as u8], "{topic}");
        let mut found: Vec<_> = world.broker.records[before..].iter().map(|record| record.0.as_str()).collect();
        found.sort_unstable();
        found.join(" ")
    };
    topics.iter().map(place).collect()
}

#[test]
fn finding_k15_what_is_excluded_and_what_no_other_sink_takes() {
    let mut world = World::new(CHOSEN);
    let topics = ["plant/1/t", "plant/1/alarm", "plant/1/debug", "plant/9/alarm", "plant/9/t", "office", "plant/1/t"];
    let want = ["plant", "alarms plant", "rest", "alarms", "rest", "rest", "plant"];
    assert_eq!(places(&mut world, &topics), want);
    // Without the two keys.
    world.reload_as(&CHOSEN.replace("fallback = true\n", "").replace("exclude", "filters").replacen(
        "filters = \"plant/#\"\n",
        "",
        1,
    ));
    assert_eq!(places(&mut world, &["plant/1/t", "plant/1/debug"]), ["rest", "plant rest"]);
    world.reload_as(CHOSEN);
    assert_eq!(places(&mut world, &["plant/1/t", "plant/1/debug"]), ["plant", "rest"]);
    assert_eq!(world.number(ShardMetric::PublishesUnmatched), 0);
}

/// Of the records that the broker has got from a place on: the value (`None`: null) and the timestamp.
fn told(world: &World, from: usize) -> Vec<(Option<&str>, i64)> {
    let records = world.broker.records.iter().zip(&world.broker.times).skip(from);
    let text = |value: &Vec<u8>| std::str::from_utf8(value).expect("text").to_owned().leak() as &str;
    records.map(|(record, (time, is_null))| ((!is_null).then(|| text(&record.3)), *time)).collect()
}

#[test]
fn finding_k15_the_time_of_a_record_comes_from_the_message() {
    let text = TEN.replace(
        "expire_after = \"10s\"",
        "timestamp = \"${payload.ts}\"\ntimestamp_unit = \"s\"\ndead_letters_topic = \"dead\"",
    );
    let mut world = World::new(&text);
    let device = world.device("clock", 0);
    for (id, payload) in [(1, "{\"ts\":1700000000.5}"), (2, "{\"ts\":\"soon\"}"), (3, "{\"ts\":1700000001}"), (4, "{}")]
    {
        let mut bytes = Vec::new();
        publish("t", id, payload.as_bytes(), &mut bytes);
        world.bytes(device, &bytes);
        world.advance(Duration::from_secs(1));
        assert_eq!(world.sent(device), [0x40, 2, 0, id as u8], "{payload}");
    }
    let all = told(&world, 0);
    let times: Vec<_> = all.iter().map(|(_, time)| *time).collect();
    assert_eq!((times[0], times[2]), (1_700_000_000_500, 1_700_000_001_000));
    let reason = |at: usize| {
        world.broker.headers[at].iter().find(|(name, _)| name == "dead-letter-reason").map(|of| of.1.as_str())
    };
    assert_eq!([0, 1, 2, 3].map(reason), [None, Some("TIMESTAMP_INVALID"), None, Some("PAYLOAD_PATH_MISSING")]);
    assert!(times[1] > 1_700_000_001_000, "a letter's time is that of its becoming one");
    assert_eq!(all[1].0, Some("{\"ts\":\"soon\"}"));
    // The unit is the other half.
    world.reload_as(&text.replace("\"s\"", "\"ms\""));
    let mut bytes = Vec::new();
    publish("t", 5, b"{\"ts\":1700000000500}", &mut bytes);
    world.bytes(device, &bytes);
    world.advance(Duration::from_secs(1));
    assert_eq!(told(&world, 4)[0].1, 1_700_000_000_500);
}

#[test]
fn finding_k15_an_empty_payload_is_a_tombstone_where_that_is_asked_for() {
    for (keys, want) in [
        ("", vec![(Some("")), Some("x")]),
        ("empty_payload = \"null\"", vec![None, Some("x")]),
        ("empty_payload = \"null\"\nvalue = \"<${payload}>\"", vec![None, Some("<x>")]),
    ] {
        let mut world = World::new(&TEN.replace("expire_after = \"10s\"", keys));
        let device = world.device("compactor", 0);
        let mut bytes = Vec::new();
        publish("t", 1, b"", &mut bytes);
        publish("t", 2, b"x", &mut bytes);
        world.bytes(device, &bytes);
        world.advance(Duration::from_secs(1));
        assert_eq!(world.sent(device), [0x40, 2, 0, 1, 0x40, 2, 0, 2]);
        let values: Vec<_> = told(&world, 0).into_iter().map(|(value, _)| value).collect();
        assert_eq!(values, want, "{keys}");
    }
}

/// A tombstone that Kafka refuses is one in the dead letters, too.
#[test]
fn finding_k15_the_dead_letter_of_a_tombstone_is_a_tombstone() {
    let keys = "empty_payload = \"null\"\ndead_letters_topic = \"dead\"";
    let mut world = World::new(&TEN.replace("expire_after = \"10s\"", keys));
    world.broker.refuses.insert("t".to_owned(), 87);
    let device = world.device("compactor", 0);
    let mut bytes = Vec::new();
    publish("t", 1, b"", &mut bytes);
    world.bytes(device, &bytes);
    world.advance(Duration::from_secs(3));
    assert_eq!(world.sent(device), [0x40, 2, 0, 1]);
    assert_eq!((world.broker.records[0].0.as_str(), told(&world, 0)[0].0), ("dead", None));
}

/// Finding K4: a record is too large if it is, not if a bound of it is: 20,000 headers, a payload that is escaped, one header that might
/// have been many.
#[test]
fn finding_k4_a_record_is_measured_before_it_is_refused() {
    let (json, from) = ("value_format = \"json\"\n", "headers_from = \"${payload.meta}\"\n");
    let text = TEN.replace("expire_after = \"10s\"", "record_bytes_max = \"256KiB\"");
    let long = |bytes: usize| "x".repeat(bytes);
    let meta = |bytes: usize| format!("{{\"meta\":{{\"a\":\"{}\"}}}}", long(bytes));
    for (format, properties, payload, refused) in [
        ("", 20_000, long(10), false),
        ("", 80_000, long(10), true),
        (json, 0, long(100_000), false),
        (json, 0, long(300_000), true),
        (from, 0, meta(100_000), false),
        (from, 0, meta(140_000), true),
    ] {
        let mut world = World::new(&format!("{text}{format}"));
        let device = world.device_v5("device");
        let mut sent = PropertyBuf::new();
        sent.extend((0..properties).map(|_| Property::UserProperty("a", "b")));
        let publish =
            Publish { qos: QoS::AtLeastOnce, packet_id: 1, properties: sent.as_properties(), ..message("t", &payload) };
        let mut bytes = Vec::new();
        encode::packet(Version::V5, &Packet::Publish(publish), &mut bytes).expect("encoded");
        world.bytes(device, &bytes);
        world.advance(Duration::from_secs(1));
        let answer = world.sent(device);
        let code = answer.get(4).copied().unwrap_or(0);
        assert_eq!((answer[0], code >= 0x80), (0x40, refused), "{format} {properties} properties: {answer:?}");
        assert_eq!(world.broker.records.is_empty(), refused);
    }
}

/// Finding K4: refusals that share a code have different words, in the order of their publishes.
#[test]
fn finding_k4_a_refusal_says_which_of_its_codes_reasons_it_has() {
    const LARGE: &str = "the record is larger than the server takes";
    const NO_PROPERTY: &str = "a user property that the server needs is missing";
    const NO_FIELD: &str = "the payload lacks a field that the server needs";
    const NO_TIME: &str = "a field of the payload does not give a valid time for the record";
    const LETTER: &str = "a dead letter is kept in the place of a record";
    const TOPICS: &str = "too many Kafka topics are in use";
    let sink = |name: &str, keys: &str| format!("[[sink]]\nname = \"{name}\"\nfilters = \"{name}/#\"\n{keys}\n");
    let text = [
        "[kafka.main]\nbootstrap = \"127.0.0.1:9092\"\ntopics_max = 2\n".to_owned(),
        sink("size", "topic = \"t\"\nrecord_bytes_max = \"16KiB\""),
        sink("property", "topic = \"t\"\nvalue = \"${user_properties.unit}\""),
        sink("field", "topic = \"t\"\nvalue = \"${payload.x}\""),
        sink("time", "topic = \"t\"\ntimestamp = \"${payload.ts}\""),
        sink("topics", "topic = \"t-${topic[1]}\""),
        sink("letter", "topic = \"t\"\nvalue = \"${payload.x}\"\ndead_letters_topic = \"dead\""),
    ];
    let mut world = World::new(&text.concat());
    let device = world.device_v5("device");
    let large = "x".repeat(20_000);
    let cases = [
        ("size/a", large.as_str(), 0x83, LARGE),
        ("property/a", "x", 0x83, NO_PROPERTY),
        ("field/a", "{}", 0x99, NO_FIELD),
        ("time/a", "{\"ts\":\"soon\"}", 0x99, NO_TIME),
        ("letter/a", "{}", 0, LETTER),
        ("topics/a", "x", 0, ""),
        ("topics/b", "x", 0x97, TOPICS),
    ];
    let mut bytes = Vec::new();
    for (id, (topic, payload, ..)) in (1..).zip(cases) {
        let publish = Publish { qos: QoS::AtLeastOnce, packet_id: id, ..message(topic, payload) };
        encode::packet(Version::V5, &Packet::Publish(publish), &mut bytes).expect("encoded");
    }
    world.bytes(device, &bytes);
    world.advance(Duration::from_secs(1));
    let mut expected = Vec::new();
    for (id, (.., code, words)) in (1..).zip(cases) {
        let mut properties = PropertyBuf::new();
        if !words.is_empty() {
            properties.push(Property::ReasonString(words));
        }
        let ack = Ack { packet_id: id, reason: ReasonCode(code), properties: properties.as_properties() };
        encode::packet(Version::V5, &Packet::PubAck(ack), &mut expected).expect("encoded");
    }
    assert_eq!(String::from_utf8_lossy(&world.sent(device)), String::from_utf8_lossy(&expected));
}
