//! Rows E69 to E77 of EMQX's Kafka source through the built program: what is written into Kafka is what a subscriber gets.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use forebay::mqtt::packet::{QoS, Version};
use kafka_protocol::messages::CreateTopicsRequest;
use kafka_protocol::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use kafka_protocol::protocol::StrBytes;

use crate::device::{Device, Heard};
use crate::kafka_client::{Client, name};
use crate::process::{until, until_metric};
use crate::records::{NewRecord, write_records_at};
use crate::support::kafka::shared;
use crate::support::service::{Service, config};

/// A record, and the message that is made of it.
struct Case {
    row: &'static str,
    /// Keys of its source, whose Kafka topic is `TOPIC` in them, and here.
    keys: &'static str,
    time: i64,
    record: NewRecord<'static>,
    /// The MQTT topic.
    to: &'static str,
    payload: &'static str,
}

const NAMES: NewRecord<'static> = NewRecord {
    key: Some(b"key"),
    value: Some(br#"{"a":{"b":[1,"x"]},"@id":7}"#),
    headers: &[("h1", Some(b"one")), ("h1", Some(b"last")), ("header_key", Some(b"header_value"))],
};
const VALUE: NewRecord<'static> =
    NewRecord { key: Some(b"key"), value: Some(b"value"), headers: &[("header_key", Some(b"header_value"))] };
const BYTES: NewRecord<'static> =
    NewRecord { key: Some(b"\xff"), value: Some(b"\x00\xff"), headers: &[("h", Some(b"x"))] };
const EMPTY: NewRecord<'static> = NewRecord { key: None, value: Some(b"{}"), headers: &[] };
const TOMBSTONE: NewRecord<'static> = NewRecord { key: Some(b"key"), value: None, headers: &[] };

const CASES: &[Case] = &[
    Case {
        row: "E69 key and value in base64",
        keys: "topic = 'TOPIC'\nmqtt_topic = 'e69'\nkey_encoding = 'base64'\nvalue_encoding = 'base64'\npayload = '${key} ${value}'",
        time: 1_000,
        record: BYTES,
        to: "e69",
        payload: "/w== AP8=",
    },
    Case {
        row: "E69 as they are",
        keys: "topic = 'TOPIC'\nmqtt_topic = 'e69-none'\nkey_encoding = 'none'\nvalue_encoding = 'none'\npayload = '${key} ${value}'",
        time: 1_000,
        record: VALUE,
        to: "e69-none",
        payload: "key value",
    },
    Case {
        row: "E70 a list of topics, each to its MQTT topic",
        keys: "topic = { TOPIC = 'e70/${key}', 'another.topic' = 'e70/another' }\npayload = '${value}'",
        time: 1_000,
        record: VALUE,
        to: "e70/key",
        payload: "value",
    },
    Case {
        row: "E71 the fields of the payload's template",
        keys: "topic = 'TOPIC'\nmqtt_topic = 'e71'\npayload = '${headers} ${key} ${offset} ${topic} ${ts} ${ts_type} ${value}'",
        time: 1_679_665_968_238,
        record: VALUE,
        to: "e71",
        payload: "{\"header_key\":\"header_value\"} key 0 TOPIC 1679665968238 create value",
    },
    Case {
        row: "E72 key and value by their encodings, headers as an object of strings",
        keys: "topic = 'TOPIC'\nmqtt_topic = 'e72'\nkey_encoding = 'base64'\nvalue_encoding = 'base64'",
        time: 1_000,
        record: BYTES,
        to: "e72",
        payload: "{\"value\":\"AP8=\",\"ts_type\":\"create\",\"ts\":1000,\"topic\":\"TOPIC\",\"offset\":0,\"key\":\"/w==\",\"headers\":{\"h\":\"x\"}}",
    },
    Case {
        row: "E73 a record without a time",
        keys: "topic = 'TOPIC'\nmqtt_topic = 'e73'\npayload = '${ts_type} ${ts}'",
        time: -1,
        record: VALUE,
        to: "e73",
        payload: "undefined -1",
    },
    Case {
        row: "E74 the default payload",
        keys: "topic = 'TOPIC'\nmqtt_topic = 'e74'",
        time: 1_679_665_968_238,
        record: VALUE,
        to: "e74",
        payload: "{\"value\":\"value\",\"ts_type\":\"create\",\"ts\":1679665968238,\"topic\":\"TOPIC\",\"offset\":0,\"key\":\"key\",\"headers\":{\"header_key\":\"header_value\"}}",
    },
    Case {
        row: "E74 written out, and a value that is JSON is a string there (E85)",
        keys: "topic = 'TOPIC'\nmqtt_topic = 'e85'\npayload = '${.}'",
        time: 1_000,
        record: EMPTY,
        to: "e85",
        payload: "{\"value\":\"{}\",\"ts_type\":\"create\",\"ts\":1000,\"topic\":\"TOPIC\",\"offset\":0,\"key\":\"\",\"headers\":{}}",
    },
    Case {
        row: "E75 dot notation",
        keys: "topic = 'TOPIC'\nmqtt_topic = 'e75/${.key}'\npayload = \"${.value} ${.headers.h1} ${.value.a.b[1]} ${value.'@id'}\"",
        time: 1_000,
        record: NAMES,
        to: "e75/key",
        payload: "{\"a\":{\"b\":[1,\"x\"]},\"@id\":7} last x 7",
    },
    Case {
        row: "E76 what is absent is an empty string",
        keys: "topic = 'TOPIC'\nmqtt_topic = 'e76'\npayload = '<${.key}${.headers.h1}${.value.a}>'",
        time: 1_000,
        record: EMPTY,
        to: "e76",
        payload: "<>",
    },
    Case {
        row: "a tombstone",
        keys: "topic = 'TOPIC'\nmqtt_topic = 'tombstone'",
        time: 1_000,
        record: TOMBSTONE,
        to: "tombstone",
        payload: "",
    },
];

#[test]
fn what_is_written_into_kafka_is_what_a_subscriber_gets() {
    let topic = |at: usize| format!("mapped-{at}");
    let source = |(at, case): (usize, &Case)| {
        format!("[[source]]\nname = 's{at}'\noffset_reset = 'earliest'\n{}\n", case.keys.replace("TOPIC", &topic(at)))
    };
    let sources: String = CASES.iter().enumerate().map(source).collect();
    let service = Service::start(&config(&sources));
    let mut device = Device::connect(service.mqtt(), Version::V311, "");
    assert_eq!(device.subscribe(&[("#", QoS::AtMostOnce)]), [0]);
    for (at, case) in CASES.iter().enumerate() {
        make(service.embedded(), &topic(at));
        write_records_at(service.embedded(), &topic(at), 0, (case.time, &[case.record]));
    }
    // What a source cannot publish would be missing, and the last message never come.
    let heard: BTreeMap<String, String> = (0..CASES.len())
        .map(|_| match device.hear() {
            Heard::Message(0, _, topic, payload) => (topic, String::from_utf8(payload).expect("text")),
            other => panic!("no message: {other:?}"),
        })
        .collect();
    for (at, case) in CASES.iter().enumerate() {
        let want = case.payload.replace("TOPIC", &topic(at));
        assert_eq!(heard.get(case.to), Some(&want), "{}", case.row);
    }
}

fn make(to: SocketAddr, topic: &str) {
    until("the topic to be there", || Client::connect(to).metadata(&[topic]).topics[0].error_code == 0);
}

/// E73: a topic of a real Kafka that has the time at which the broker appended.
#[test]
fn the_time_of_a_record_is_the_brokers_where_the_topic_has_that() {
    let kafka = shared();
    let address: SocketAddr = kafka.split(',').next().expect("an address").parse().expect("an address");
    let topic = format!("appended-{}", std::process::id());
    let key = StrBytes::from_static_str("message.timestamp.type");
    let how =
        CreatableTopicConfig::default().with_name(key).with_value(Some(StrBytes::from_static_str("LogAppendTime")));
    let wanted = CreatableTopic::default().with_name(name(&topic)).with_num_partitions(1).with_replication_factor(1);
    let request =
        CreateTopicsRequest::default().with_timeout_ms(10_000).with_topics(vec![wanted.with_configs(vec![how])]);
    // The controller takes it from any broker.
    assert_eq!(Client::connect(address).call(&request, 5).topics[0].error_code, 0);
    let service = Service::start(&config(&format!(
        "[kafka.main]\nbootstrap = \"{kafka}\"\n[[source]]\nname = \"{topic}\"\ntopic = \"{topic}\"\nmqtt_topic = \"t/1\"\n\
         payload = \"${{ts_type}} ${{ts}}\"\noffset_reset = \"earliest\"\n"
    )));
    let mut device = Device::connect(service.mqtt(), Version::V5, "");
    assert_eq!(device.subscribe(&[("t/1", QoS::AtMostOnce)]), [0]);
    until_metric(&service, "source_partitions", 1);
    make(address, &topic);
    write_records_at(address, &topic, 0, (1_000, &[VALUE]));
    let Heard::Message(_, _, _, payload) = device.hear() else { panic!("no message") };
    let text = String::from_utf8(payload).expect("text");
    let (kind, time) = text.split_once(' ').expect("two fields");
    assert!(kind == "append" && time.parse::<i64>().is_ok_and(|ms| ms > 1_600_000_000_000), "{text}");
}
