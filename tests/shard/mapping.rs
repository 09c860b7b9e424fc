//! A message through a sink's record and back by a source's templates is the message that it was; and a record becomes a message without an
//! allocation.

use std::time::Duration;

use forebay::config;
use forebay::mqtt::packet::{Publish, QoS, Version};
use forebay::mqtt::property::{Property, PropertyBuf};
use forebay::record::{BatchView, Builder, Row};
use forebay::runtime::seam::WallMs;
use forebay::source::{Mapping, Record, Scratch, TimestampType};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use super::allocation::counted;
use super::subscribe::publish;
use super::world::World;

const SINK: &str = "[kafka.main]\nbootstrap = '127.0.0.1:9092'\n[[sink]]\nname = 'all'\nfilters = '#'\ntopic = 't'\nempty_payload = 'null'\n\
    headers = { mqtt-topic = '${topic}', mqtt-qos = '${qos}', mqtt-retain = '${retain}' }\n";

/// The source that reads back what that sink writes.
fn back() -> Mapping {
    let text = "[kafka.main]\nbootstrap = '127.0.0.1:9092'\n[[source]]\nname = 's'\ntopic = 't'\nmqtt_topic = '${headers.mqtt-topic}'\n\
        payload = '${value}'\nqos = '${headers.mqtt-qos}'\nretain = '${headers.mqtt-retain}'\n";
    let config = config::parse(text, "back.toml").unwrap_or_else(|problems| panic!("{problems}"));
    Mapping::new(&config, &config.sources[0])
}

/// A batch of one record without key and value, for its headers.
fn batch(headers: &[(String, String)]) -> Vec<u8> {
    let headers = headers.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes()));
    let row = Row { key: None, value: None, headers, timestamp: WallMs(0) };
    let mut builder = Builder::new(Vec::new());
    builder.append(&row, row.measure());
    builder.close(None)
}

/// What MQTT has as a text: no U+0000.
fn text() -> impl Strategy<Value = String> {
    any::<String>().prop_map(|text| text.replace('\0', ""))
}

/// Content Type, Response Topic, Correlation Data, Message Expiry Interval, Payload Format Indicator.
type Once = (Option<String>, Option<String>, Option<String>, Option<u32>, Option<u8>);

#[derive(Clone, Debug)]
struct Sent {
    topic: String,
    payload: Vec<u8>,
    qos: u8,
    retain: bool,
    users: Vec<(String, String)>,
    once: Once,
}

fn sent() -> impl Strategy<Value = Sent> {
    let name = prop_oneof![
        text(),
        prop::sample::select(vec![
            "mqtt-content-type",
            "mqtt-topic",
            "mqtt-user-mqtt-x",
            "mqtt-bin-x",
            "mqtt-",
            "mqtt-hops",
            "mqtt-received-ms"
        ])
        .prop_map(str::to_owned),
    ];
    let once = (
        proptest::option::of(text()),
        proptest::option::of("[a-z/]{1,8}"),
        proptest::option::of(text()),
        proptest::option::of(3_600..u32::MAX),
        proptest::option::of(0u8..2),
    );
    // The test's broker keeps one header of each name; duplicates are in the tests of the mapping.
    let users = proptest::collection::btree_map(name, text(), 0..4).prop_map(|users| users.into_iter().collect());
    ("[a-z/$é]{1,12}", proptest::collection::vec(any::<u8>(), 0..16), 1u8..3, any::<bool>(), users, once)
        .prop_filter("the server's own topics are not published", |(topic, ..)| !topic.starts_with('$'))
        .prop_map(|(topic, payload, qos, retain, users, once)| Sent { topic, payload, qos, retain, users, once })
}

fn properties(of: &Sent) -> PropertyBuf {
    let mut properties = PropertyBuf::new();
    let (content, response, correlation, expiry, format) = &of.once;
    properties
        .extend(format.map(Property::PayloadFormatIndicator).filter(|_| std::str::from_utf8(&of.payload).is_ok()));
    properties.extend(expiry.map(Property::MessageExpiryInterval));
    properties.extend(content.as_deref().map(Property::ContentType));
    properties.extend(response.as_deref().map(Property::ResponseTopic));
    properties.extend(of.users.iter().map(|(name, value)| Property::UserProperty(name, value)));
    properties.extend(correlation.as_deref().map(|text| Property::CorrelationData(text.as_bytes())));
    properties
}

#[test]
fn a_message_through_a_sinks_record_and_back_is_equal() {
    let back = back();
    let mut runner = TestRunner::new(Config { cases: 256, ..Config::default() });
    let mut scratch = Scratch::default();
    let case = |of: Sent| {
        let mut world = World::new(SINK);
        let device = world.device_v5("dev");
        let properties = properties(&of);
        let qos = QoS::from_bits(of.qos).expect("a QoS");
        let message = Publish {
            dup: false,
            qos,
            retain: of.retain,
            topic: &of.topic,
            packet_id: 1,
            properties: properties.as_properties(),
            payload: &of.payload,
        };
        publish(&mut world, device, Version::V5, message);
        world.advance(Duration::from_secs(1));
        let [(_, partition, key, value)] = &world.broker.records[..] else {
            return Err(TestCaseError::fail("no record"));
        };
        let (timestamp, is_null) = world.broker.times[0];
        let batch = batch(&world.broker.headers[0]);
        let (view, _) = BatchView::parse(&batch).expect("a batch");
        let record = Record {
            topic: "t",
            partition: *partition,
            offset: 0,
            timestamp,
            timestamp_type: TimestampType::Create,
            key: Some(key),
            value: (!is_null).then_some(&value[..]),
            headers: view.records().expect("plain").next().expect("one").expect("sound").headers,
        };
        let read = back
            .message(&record, WallMs(timestamp), &mut scratch)
            .map_err(|reason| TestCaseError::fail(reason.to_string()))?;
        prop_assert_eq!(
            (read.topic, read.payload, read.qos, read.retain),
            (&of.topic[..], &of.payload[..], qos, of.retain)
        );
        prop_assert_eq!(read.properties, properties.as_properties());
        prop_assert_eq!((read.hops, read.left_out), (0, 0));
        Ok(())
    };
    let case = std::cell::RefCell::new(case);
    runner.run(&sent(), |of| (case.borrow_mut())(of)).unwrap_or_else(|error| panic!("{error}"));
}

#[test]
fn a_record_becomes_a_message_without_an_allocation() {
    let text = "[kafka.main]\nbootstrap = '127.0.0.1:9092'\n[[source]]\nname = 's'\ntopic = ['a', 't']\nmqtt_topic = 'd/${key}/${value.id}'\n\
        qos = '${headers.mqtt-qos}'\nretain = '${value.keep}'\nuser_properties = { at = '${ts}', raw = '${value.name}' }\nkey_encoding = 'none'\n";
    let headers = [("mqtt-qos", "1"), ("site", "berlin"), ("mqtt-content-type", "x"), ("mqtt-message-expiry-s", "60")];
    let batch = batch(&headers.map(|(name, value)| (name.to_owned(), value.to_owned())));
    let (view, _) = BatchView::parse(&batch).expect("a batch");
    let record = Record {
        topic: "t",
        partition: 0,
        offset: 7,
        timestamp: 1_000,
        timestamp_type: TimestampType::Append,
        key: Some(b"dev-1"),
        value: Some(br#"{"id":17,"keep":false,"name":"a\"b\u00e9","more":null}"#),
        headers: view.records().expect("plain").next().expect("one").expect("sound").headers,
    };
    for payload in ["${.}", "${value}", "x ${value.name} ${headers}"] {
        let config = config::parse(&format!("{text}payload = '{payload}'\n"), "warm.toml")
            .unwrap_or_else(|problems| panic!("{problems}"));
        let mapping = Mapping::new(&config, &config.sources[0]);
        let mut scratch = Scratch::default();
        let mut once = || {
            let message = mapping.message(&record, WallMs(2_000), &mut scratch).expect("a message");
            assert_eq!((message.topic, message.qos), ("d/dev-1/17", QoS::AtLeastOnce));
        };
        once();
        assert_eq!(counted(|| (0..100).for_each(|_| once())), 0, "{payload}");
    }
}
