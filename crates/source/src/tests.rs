//! A record through the templates of a source: rows E69 to E77 and E82 to E85 of EMQX's Kafka source, headers and properties, and what is no
//! message.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use forebay_config as config;
use forebay_mqtt::packet::{Packet, Publish, QoS, Sender, Version};
use forebay_mqtt::{decode, encode, frame};
use forebay_record::{BatchView, Builder, Headers, Row};
use forebay_runtime::seam::WallMs;

/// The time of EMQX's example.
const NOW: i64 = 1_679_665_968_238;

/// A record that owns its data.
#[derive(Clone, Debug)]
struct Owned {
    topic: &'static str,
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
    headers: Vec<(Vec<u8>, Vec<u8>)>,
    timestamp: i64,
}

/// The record of row E84: a line of the console producer.
fn line(value: &str) -> Owned {
    Owned { topic: "testtopic-out", key: None, value: Some(value.into()), headers: Vec::new(), timestamp: NOW }
}

impl Owned {
    fn key(self, key: impl AsRef<[u8]>) -> Self {
        Self { key: Some(key.as_ref().to_vec()), ..self }
    }

    fn header(mut self, name: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Self {
        self.headers.push((name.as_ref().to_vec(), value.as_ref().to_vec()));
        self
    }

    /// Passes the record's message to `look`.
    fn through<R>(&self, mapping: &Mapping, look: impl FnOnce(Result<Message<'_>, Reason>) -> R) -> R {
        let headers = self.headers.iter().map(|(name, value)| (&name[..], &value[..]));
        let row = Row { key: None, value: None, headers, timestamp: WallMs(0) };
        let mut builder = Builder::new(Vec::new());
        builder.append(&row, row.measure());
        let batch = builder.close(None);
        let (view, _) = BatchView::parse(&batch).expect("a batch");
        let headers: Headers<'_> = view.records().expect("plain").next().expect("one").expect("sound").headers;
        let record = Record {
            topic: self.topic,
            partition: 3,
            offset: 2,
            timestamp: self.timestamp,
            timestamp_type: TimestampType::Create,
            key: self.key.as_deref(),
            value: self.value.as_deref(),
            headers,
        };
        let mut scratch = Scratch::default();
        look(mapping.message(&record, WallMs(NOW), &mut scratch))
    }

    fn payload(&self, mapping: &Mapping) -> String {
        self.through(mapping, |message| String::from_utf8(message.expect("a message").payload.to_vec()).expect("UTF-8"))
    }

    fn reason(&self, mapping: &Mapping) -> Option<Reason> {
        self.through(mapping, |message| message.err())
    }

    /// The record's properties in words, and the number of headers left out.
    fn properties(&self, mapping: &Mapping) -> (Vec<String>, u32) {
        self.through(mapping, |message| {
            let message = message.expect("a message");
            (message.properties.iter().map(|property| format!("{property:?}")).collect(), message.left_out)
        })
    }
}

/// The mapping of a source from `testtopic-out` to `t/1`, with these keys.
fn mapping(keys: &str) -> Mapping {
    let mut needed = String::new();
    for (key, value) in [("topic", "'testtopic-out'"), ("mqtt_topic", "'t/1'")] {
        // A table of topics names the MQTT topics.
        let is_given = keys.lines().any(|line| line.split('=').next().map(str::trim) == Some(key));
        let is_in_table = key == "mqtt_topic" && keys.contains("topic = {");
        if !is_given && !is_in_table {
            needed += &format!("{key} = {value}\n");
        }
    }
    let text = format!("[kafka.main]\nbootstrap='k:1'\n[[source]]\nname='s'\n{needed}{keys}\n");
    let config = config::parse(&text, "test.toml").unwrap_or_else(|problems| panic!("{problems}"));
    Mapping::new(&config, &config.sources[0])
}

/// Rows E82 to E85, word for word: topic `t/1`, payload `${.}`, the line of the console producer, and what the subscriber gets.
#[test]
fn e85_the_subscriber_gets_the_record_as_json() {
    let record = line(r#"{"msg": "Hello EMQX"}"#);
    for mapping in [mapping(""), mapping("payload = '${.}'")] {
        record.through(&mapping, |message| {
            let message = message.expect("a message");
            assert_eq!((message.topic, message.qos, message.retain), ("t/1", QoS::AtLeastOnce, false));
        });
        assert_eq!(
            record.payload(&mapping),
            r#"{"value":"{\"msg\": \"Hello EMQX\"}","ts_type":"create","ts":1679665968238,"topic":"testtopic-out","offset":2,"key":"","headers":{}}"#
        );
    }
}

/// Row E74: the JSON object of EMQX's documentation, member for member, in its order.
#[test]
fn e74_the_default_payload() {
    let record = Owned { topic: "my-kafka-topic", ..line("value").key("key").header("header_key", "header_value") };
    let documented = r#"{
        "value": "value",
        "ts_type": "create",
        "ts": 1679665968238,
        "topic": "my-kafka-topic",
        "offset": 2,
        "key": "key",
        "headers": {"header_key": "header_value"}
    }"#;
    let compact: String = documented.split_whitespace().collect();
    assert_eq!(record.payload(&mapping("topic = 'my-kafka-topic'")), compact);
}

/// Rows E69 and E72: key and value in base64 where the source says so, in each template; headers are strings.
#[test]
fn e69_encodings_of_key_and_value() {
    let record = line("value").key("key").header("h", "x");
    let both = "key_encoding = 'base64'\nvalue_encoding = 'base64'\n";
    let value: Value = serde_json::from_str(&record.payload(&mapping(both))).expect("JSON");
    assert_eq!(
        (&value["key"], &value["value"], &value["headers"]),
        (&json!("a2V5"), &json!("dmFsdWU="), &json!({ "h": "x" }))
    );
    assert!(value.get("value_encoding").is_none(), "{value}");
    assert_eq!(record.payload(&mapping(&format!("{both}payload = '${{key}} ${{.value}}'"))), "a2V5 dmFsdWU=");
    assert_eq!(record.payload(&mapping("key_encoding = 'base64'\npayload = '${value}'")), "value");
    assert_eq!(record.payload(&mapping("value_encoding = 'base64'\npayload = '${value}'")), "dmFsdWU=");
}

/// A value that is no text is in base64 in the object all the same, with a field that names the encoding.
#[test]
fn bytes_that_are_no_text_say_so_in_the_object() {
    let mut record = line("").key(b"\xff").header("t", "x").header("b", b"\xfe");
    record.value = Some(b"\x00\xff".to_vec());
    let value: Value = serde_json::from_str(&record.payload(&mapping(""))).expect("JSON");
    assert_eq!(
        value,
        json!({
            "value": "AP8=", "value_encoding": "base64", "ts_type": "create", "ts": NOW, "topic": "testtopic-out", "offset": 2,
            "key": "/w==", "key_encoding": "base64", "headers": { "t": "x", "b": "/g==" }, "headers_encoding": { "b": "base64" },
        })
    );
}

/// Rows E71, E73 and E75: the fields, with and without a leading dot.
#[test]
fn e71_fields_and_e75_dot_notation() {
    let record = line(r#"{"a":{"b":[1,"x\n"]},"@id":7}"#)
        .key("k")
        .header("h1", "one")
        .header("h1", "last")
        .header("a.b", "dots");
    for (template, want) in [
        ("${.key} ${key}", "k k"),
        ("${.value.a.b[0]}${value.a.b[1]}", "1x\n"),
        ("${value.'@id'}", "7"),
        ("${.headers.h1}|${headers.a.b}", "last|dots"),
        ("${.headers}", r#"{"h1":"last","a.b":"dots"}"#),
        ("${topic} ${.partition} ${.offset}", "testtopic-out 3 2"),
        ("${.ts} ${ts_type}", "1679665968238 create"),
        ("$${key} $", "${key} $"),
        ("text", "text"),
    ] {
        assert_eq!(record.payload(&mapping(&format!("payload = {}", json!(template)))), want, "{template}");
    }
    let untimed = Owned { timestamp: -1, ..line("") };
    assert_eq!(untimed.payload(&mapping("payload = '${ts} ${ts_type}'")), "-1 undefined");
}

/// Row E76: a field that a record lacks is an empty string in a payload.
#[test]
fn e76_absent_values_are_empty_strings() {
    let record = line("{}");
    assert_eq!(record.payload(&mapping("payload = '<${.key}${.headers.h1}${.value.a}>'")), "<>");
}

/// A tombstone is an empty payload, where the payload is made of the value.
#[test]
fn a_record_without_a_value_is_an_empty_payload() {
    let record = Owned { value: None, ..line("").key("k") };
    for template in ["${.}", "${value}", "x${value.a}"] {
        assert_eq!(record.payload(&mapping(&format!("payload = '{template}'"))), "", "{template}");
    }
    assert_eq!(record.payload(&mapping("payload = 'gone: ${key}'")), "gone: k");
}

/// Row E70: each Kafka topic has an MQTT topic of its own; E77 is the configuration's.
#[test]
fn e70_topics_have_mqtt_topics_of_their_own() {
    let mapping = mapping("topic = { testtopic-out = 't/1', b = 'x/${key}' }");
    line("").through(&mapping, |message| assert_eq!(message.expect("a message").topic, "t/1"));
    Owned { topic: "b", ..line("").key("k") }
        .through(&mapping, |message| assert_eq!(message.expect("a message").topic, "x/k"));
    assert_eq!(Owned { topic: "c", ..line("") }.reason(&mapping), Some(Reason::Unmapped));
}

#[test]
fn what_is_no_topic_is_never_published() {
    for (template, key, reason) in [
        ("${key}", "", Reason::TopicInvalid),
        ("a/${key}", "+", Reason::TopicInvalid),
        ("a/${key}", "b/#", Reason::TopicInvalid),
        ("a/${key}", "b\0", Reason::TopicInvalid),
        ("${key}", "$SYS/broker", Reason::TopicInvalid),
        ("a/${headers.h}", "k", Reason::TopicAbsent),
        ("a/${value.x}", "k", Reason::TopicAbsent),
    ] {
        let record = line("{}").key(key);
        assert_eq!(record.reason(&mapping(&format!("mqtt_topic = '{template}'"))), Some(reason), "{template} {key:?}");
    }
    let of_key = mapping("mqtt_topic = 'a/${key}'");
    assert_eq!(line("").reason(&of_key), Some(Reason::TopicAbsent), "null");
    assert_eq!(line("").key(b"\xff").reason(&of_key), Some(Reason::TopicInvalid));
    assert_eq!(line("").key("x".repeat(65_534)).reason(&of_key), Some(Reason::TopicInvalid));
    assert_eq!(line("").key("x".repeat(65_533)).reason(&of_key), None);
    assert_eq!(line("").key("b").reason(&mapping("mqtt_topic = '$own/${key}'")), None, "it is the configuration's");
}

#[test]
fn qos_and_retain_of_the_record() {
    let both = mapping("qos = '${headers.mqtt-qos}'\nretain = '${headers.mqtt-retain}'");
    let with = |qos: &str, retain: &str| line("v").header("mqtt-qos", qos).header("mqtt-retain", retain);
    for (qos, retain, want) in [
        ("0", "true", Ok((QoS::AtMostOnce, true))),
        ("1", "false", Ok((QoS::AtLeastOnce, false))),
        ("2", "1", Ok((QoS::ExactlyOnce, true))),
        ("2", "0", Ok((QoS::ExactlyOnce, false))),
        ("3", "true", Err(Reason::QosInvalid)),
        ("", "true", Err(Reason::QosInvalid)),
        ("1", "yes", Err(Reason::RetainInvalid)),
    ] {
        with(qos, retain)
            .through(&both, |message| assert_eq!(message.map(|of| (of.qos, of.retain)), want, "{qos} {retain}"));
    }
    assert_eq!(line("v").reason(&both), Some(Reason::QosInvalid));
    assert_eq!(with("1", "true").properties(&both), (vec![], 0), "they say what the message is");
    let forged = with("1", "true").header("mqtt-user-mqtt-qos", "2").properties(&both);
    assert_eq!(
        forged,
        (vec![r#"UserProperty("mqtt-qos", "2")"#.to_owned()], 0),
        "a client's own property of that name"
    );
    let other = with("1", "true").properties(&mapping("qos = '${headers.mqtt-qos}'"));
    assert_eq!(other, (vec![r#"UserProperty("mqtt-retain", "true")"#.to_owned()], 0));
}

#[test]
fn what_is_too_large_or_has_too_many_headers() {
    let raw = mapping("payload = '${value}'");
    // 1 MiB, less the bytes of a PUBLISH besides the topic `t/1`.
    let most = (1 << 20) - 13 - 3;
    assert_eq!(line(&"x".repeat(most)).reason(&raw), None);
    assert_eq!(line(&"x".repeat(most + 1)).reason(&raw), Some(Reason::TooLarge));
    assert_eq!(line(&"x".repeat(most)).reason(&mapping("")), Some(Reason::TooLarge), "as JSON");
    assert_eq!(line(&"x".repeat(2 << 20)).reason(&mapping("payload = '${key}'")), None);
    let long = json!({ "a": 1, "b": "x".repeat(2 << 20) }).to_string();
    assert_eq!(line(&long).payload(&mapping("payload = '${value.a}'")), "1");
    let many = |count: usize| (0..count).fold(line("v"), |record, at| record.header(format!("h{at}"), "x"));
    assert_eq!(many(256).reason(&raw), None);
    assert_eq!(many(257).reason(&raw), Some(Reason::Headers));
}

/// Headers of sinks become the original properties; all others become user properties.
#[test]
fn headers_become_properties() {
    let raw = mapping("payload = '${value}'");
    let record = line("v")
        .header("site", "berlin")
        .header("mqtt-payload-format", "1")
        .header("mqtt-content-type", "text/plain")
        .header("mqtt-response-topic", "answers/dev")
        .header("mqtt-correlation-data", b"\x00\xff")
        .header("mqtt-user-mqtt-content-type", "mine")
        .header("mqtt-user-plain", "kept")
        .header("site", "twice");
    let want = [
        r#"UserProperty("site", "berlin")"#,
        "PayloadFormatIndicator(1)",
        r#"ContentType("text/plain")"#,
        r#"ResponseTopic("answers/dev")"#,
        "CorrelationData([0, 255])",
        r#"UserProperty("mqtt-content-type", "mine")"#,
        r#"UserProperty("mqtt-user-plain", "kept")"#,
        r#"UserProperty("site", "twice")"#,
    ];
    assert_eq!(record.properties(&raw), (want.map(str::to_owned).to_vec(), 0));
    assert_eq!(record.properties(&mapping("properties = false")), (vec![], 0));
    // Properties of the value do not apply to an object that contains it.
    let whole = record.properties(&mapping("")).0;
    assert_eq!(whole, [&want[..1], &want[3..]].concat());
}

#[test]
fn headers_that_no_sink_has_written_are_user_properties() {
    let raw = mapping("payload = '${value}'");
    let record = line("v")
        .header("mqtt-payload-format", "2")
        .header("mqtt-message-expiry-s", "+5")
        .header("mqtt-response-topic", "a/#")
        .header("mqtt-content-type", b"a\0")
        .header("mqtt-correlation-data", "1")
        .header("mqtt-correlation-data", "2")
        .header("bytes", b"\xff\xfe")
        .header(b"\xff", "x")
        .header("long", "x".repeat(65_536))
        .header("mqtt-received-ms", "1")
        .header("mqtt-hops", "3");
    let want = [
        r#"UserProperty("mqtt-payload-format", "2")"#,
        r#"UserProperty("mqtt-message-expiry-s", "+5")"#,
        r#"UserProperty("mqtt-response-topic", "a/#")"#,
        r#"UserProperty("mqtt-bin-mqtt-content-type", "YQA=")"#,
        "CorrelationData([49])",
        r#"UserProperty("mqtt-correlation-data", "2")"#,
        r#"UserProperty("mqtt-bin-bytes", "//4=")"#,
    ];
    assert_eq!(record.properties(&raw), (want.map(str::to_owned).to_vec(), 2));
    record.through(&raw, |message| assert_eq!(message.expect("a message").hops, 3));
}

#[test]
fn user_properties_of_the_source_come_first() {
    let own = mapping(
        "payload = '${value}'\nuser_properties = { partition = '${partition}', h = '${headers.h}', none = '${headers.x}', raw = '${key}' }",
    );
    let record = line("v").key(b"\xff").header("h", "theirs").header("partition", "theirs").header("other", "o");
    let want = [
        r#"UserProperty("partition", "3")"#,
        r#"UserProperty("h", "theirs")"#,
        r#"UserProperty("mqtt-bin-raw", "/w==")"#,
        r#"UserProperty("other", "o")"#,
    ];
    assert_eq!(record.properties(&own), (want.map(str::to_owned).to_vec(), 0));
}

/// The Message Expiry Interval counts from the record's timestamp.
#[test]
fn an_expiry_goes_on_in_kafka() {
    let raw = mapping("");
    let aged =
        |ms: i64, seconds: &str| Owned { timestamp: NOW - ms, ..line("v").header("mqtt-message-expiry-s", seconds) };
    for (record, want) in [
        (aged(0, "60"), Ok(Some(60))),
        (aged(1, "60"), Ok(Some(60))),
        (aged(1_000, "60"), Ok(Some(59))),
        (aged(59_999, "60"), Ok(Some(1))),
        (aged(60_000, "60"), Err(Reason::Expired)),
        (aged(-5_000, "60"), Ok(Some(60))),
        (aged(0, "0"), Ok(Some(0))),
        (aged(1, "0"), Err(Reason::Expired)),
        (Owned { timestamp: -1, ..aged(0, "4294967295") }, Ok(Some(u32::MAX))),
        (Owned { timestamp: -1, ..aged(0, "60").header("mqtt-received-ms", (NOW - 2_000).to_string()) }, Ok(Some(58))),
    ] {
        let left = |message: Result<Message<'_>, Reason>| message.map(|of| of.properties.message_expiry_interval_s());
        record.through(&raw, |message| assert_eq!(left(message), want, "{record:?}"));
    }
    assert!(
        !Reason::Expired.is_bad()
            && Reason::ALL.iter().filter(|reason| reason.is_bad()).count() == Reason::ALL.len() - 1
    );
}

/// A record that feeds sinks may go around eight times.
#[test]
fn a_circle_ends_with_its_hops() {
    let sinks = mapping("feeds = ['subscribers', 'sinks']");
    let hops = |hops: &str| line("v").header("mqtt-hops", hops);
    assert_eq!(hops("7").reason(&sinks), None);
    for at_most in ["8", "255", "256", "x"] {
        assert_eq!(hops(at_most).reason(&sinks), Some(Reason::Loop), "{at_most}");
        assert_eq!(hops(at_most).reason(&mapping("")), None, "subscribers write no records");
        let rule = "[[rule]]\nname = 'r'\nsql = 'SELECT 1 FROM t'";
        assert_eq!(hops(at_most).reason(&mapping(rule)), Some(Reason::Loop), "rules may");
    }
}

#[test]
fn reasons_have_labels_and_words_of_their_own() {
    let labels: std::collections::BTreeSet<_> = Reason::ALL.iter().map(|reason| reason.label()).collect();
    let words: std::collections::BTreeSet<_> = Reason::ALL.iter().map(Reason::to_string).collect();
    assert_eq!((labels.len(), words.len()), (Reason::ALL.len(), Reason::ALL.len()));
}

/// The payload borrows the value if it is exactly that.
#[test]
fn a_payload_that_is_the_value_is_not_copied() {
    let record = line("value");
    let at = record.value.as_ref().map(|value| value.as_ptr());
    record.through(&mapping("payload = '${.value}'"), |message| {
        assert_eq!(message.ok().map(|message| message.payload.as_ptr()), at);
    });
}

fn bytes() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![any::<String>().prop_map(String::into_bytes), proptest::collection::vec(any::<u8>(), 0..16)]
}

fn headers() -> impl Strategy<Value = Vec<(Vec<u8>, Vec<u8>)>> {
    let known = prop::sample::select(vec![
        "mqtt-content-type",
        "mqtt-response-topic",
        "mqtt-correlation-data",
        "mqtt-message-expiry-s",
        "mqtt-payload-format",
        "mqtt-hops",
        "mqtt-received-ms",
        "mqtt-user-mqtt-x",
        "mqtt-user-x",
        "mqtt-qos",
        "h",
        "",
    ]);
    let name = prop_oneof![known.prop_map(|name| name.as_bytes().to_vec()), bytes()];
    let value = prop_oneof![
        prop::sample::select(vec!["0", "1", "2", "true", "a/b", "60"]).prop_map(|of| of.as_bytes().to_vec()),
        bytes()
    ];
    proptest::collection::vec((name, value), 0..8)
}

fn record() -> impl Strategy<Value = Owned> {
    let time = prop_oneof![Just(-1), Just(NOW), any::<i64>()];
    let parts = (proptest::option::of(bytes()), proptest::option::of(bytes()), headers(), time);
    parts.prop_map(|(key, value, headers, timestamp)| Owned { topic: "testtopic-out", key, value, headers, timestamp })
}

proptest! {
    /// The message of any record can be encoded in MQTT 5, and is read back unchanged; or there is a reason.
    #[test]
    fn any_record_is_a_valid_message_or_has_a_reason(record in record(), keys in prop::sample::select(vec![
        "", "payload = '${value}'", "mqtt_topic = 'a/${key}'\npayload = '${value.a}${headers.h}'",
        "mqtt_topic = '${headers.h}'\nqos = '${headers.mqtt-qos}'\nuser_properties = { h = '${key}', w = '${.}' }",
    ])) {
        let mapping = mapping(keys);
        record.through(&mapping, |message| {
            let Ok(message) = message else { return Ok(()) };
            let Message { topic, payload, qos, retain, properties, .. } = message;
            let packet_id = u16::from(qos != QoS::AtMostOnce);
            let publish = Packet::Publish(Publish { dup: false, qos, retain, topic, packet_id, properties, payload });
            let mut wire = Vec::new();
            prop_assert!(encode::packet(Version::V5, &publish, &mut wire).is_ok());
            let frame = frame::next(&wire, u32::MAX).expect("well formed").expect("whole");
            let read = decode::decode(Version::V5, Sender::Server, frame).expect("valid");
            prop_assert_eq!(read, publish);
            Ok(())
        })?;
    }

    /// The object represents the record, and is JSON for any contents.
    #[test]
    fn the_object_says_the_record(record in record()) {
        let Ok(payload) = record.through(&mapping("properties = false"), |message| message.map(|of| of.payload.to_vec())) else {
            return Ok(());
        };
        let Some(value) = &record.value else { prop_assert!(payload.is_empty()); return Ok(()) };
        let object: Value = serde_json::from_slice(&payload).expect("JSON");
        let said = |name: &str| {
            use base64::Engine as _;
            let text = object[name].as_str().expect("a string");
            match object.get(format!("{name}_encoding")) {
                Some(_) => base64::engine::general_purpose::STANDARD.decode(text).expect("base64"),
                None => text.as_bytes().to_vec(),
            }
        };
        prop_assert_eq!(&said("value"), value);
        prop_assert_eq!(&said("key"), &record.key.clone().unwrap_or_default());
        prop_assert_eq!((&object["ts"], &object["offset"]), (&json!(record.timestamp), &json!(2)));
        let names: std::collections::BTreeSet<_> = record.headers.iter().map(|(name, _)| String::from_utf8_lossy(name).into_owned()).collect();
        let shown: std::collections::BTreeSet<_> = object["headers"].as_object().expect("an object").keys().cloned().collect();
        prop_assert_eq!(shown, names);
    }
}
