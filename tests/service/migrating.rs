//! Finding K15: the configurations of `docs/MIGRATING.md`, each run by the built program, and what becomes of messages there.

use forebay::mqtt::packet::Version;

use crate::device::Device;
use crate::records::read;
use crate::support::kafka::shared;
use crate::support::root;
use crate::support::service::{Service, config};

/// A message: MQTT topic and payload.
type Message = (&'static str, &'static str);
/// A record: Kafka topic, key, and what is in its value.
type Record = (&'static str, &'static str, &'static str);

/// Each section, by the beginning of its heading, with messages and the records that they become.
const SECTIONS: &[(&str, &[Message], &[Record])] = &[
    (
        "TBMQ",
        &[("tbmq/kafka-integration", "hello")],
        &[("tbmq.messages", "tbmq/kafka-integration", r#""payload":"hello""#)],
    ),
    (
        "EMQX",
        &[("t/1", r#"{ "msg": "Hello Kafka" }"#), ("d/1", r#"{"device":7}"#)],
        &[("testtopic-in", "emqx_c", r#"{ \"msg\": \"Hello Kafka\" }"#), ("device-7", "d/1", r#"{"device":7}"#)],
    ),
    (
        "Zilla",
        &[("command/one", "1"), ("command/three", "3")],
        &[("mqtt-commands", "command/one", "1"), ("mqtt-messages", "command/three", "3")],
    ),
    ("Confluent", &[("plant/7/temp", "21.5")], &[("plant-temperatures", "plant/7/temp", "21.5")]),
    (
        "HiveMQ",
        &[("plant/7", "a"), ("yard/2/state", "b")],
        &[("plant", "plant/7", "a"), ("plant", "yard/2/state", "b")],
    ),
    ("Telegraf", &[("plant/7/state", r#"{"ts":1700000000}"#)], &[("plant", "plant/7/state", "17000")]),
    (
        "Redpanda Connect",
        &[("plant/7", r#"{"meta":{"ts":1700000000000}}"#), ("office/2", r#"{"meta":{"ts":1700000000000}}"#)],
        &[("site-plant", "plant/7", "meta"), ("site-office", "office/2", "meta")],
    ),
    ("stream-reactor", &[("plant/7/state", r#"{"machine":{"id":"m-1"}}"#)], &[("machines", "m-1", "machine")]),
    (
        "Strimzi",
        &[("building/7/temperature", "20"), ("building/7/door", "open"), ("car", "red")],
        &[("temperatures-7", "building-7", "20"), ("buildings", "", "open"), ("messages_default", "", "red")],
    ),
    ("mosquitto's bridges", &[("plant/7", "a")], &[("plant", "plant/7", "a")]),
    ("a Java producer", &[("gateway/1", "x")], &[("gateway", "gateway/1", "x")]),
];

/// The sections' headings, and the first configuration of each.
fn sections() -> Vec<(String, String)> {
    let text = std::fs::read_to_string(root().join("docs/MIGRATING.md")).expect("the document");
    let section = |section: &str| {
        let (heading, body) = section.split_once('\n').expect("a heading");
        let block = body.split("```toml\n").nth(1).and_then(|rest| rest.split("```").next());
        (heading.to_owned(), block.unwrap_or_else(|| panic!("{heading} has no configuration")).to_owned())
    };
    // Dapr's documents are run in `dapr`.
    text.split("\n## From ").skip(1).filter(|section| !section.starts_with("Dapr")).map(section).collect()
}

/// A configuration of the document for a Kafka without TLS and logins, and devices without passwords.
fn plain(text: &str, kafka: &str) -> String {
    let mut skips = false;
    let mut out = String::from(
        "[service]\nshards = 1\npin = false\ndata_dir = \"$DIR/data\"\n[control]\nbind = \"127.0.0.1:0\"\n",
    );
    for line in text.lines() {
        if line.starts_with('[') {
            skips = line.ends_with(".tls]") || line.ends_with(".sasl]");
        }
        let line = match line {
            _ if skips => continue,
            line if line.starts_with("bootstrap = ") => format!("bootstrap = \"{kafka}\""),
            "chain = [\"password\"]" => "chain = [\"anonymous\"]".to_owned(),
            line if line.starts_with("password_file = ") => continue,
            line => line.to_owned(),
        };
        out.push_str(&line);
        out.push('\n');
    }
    out
}

#[test]
fn finding_k15_each_configuration_of_migrating_is_run() {
    let kafka = Service::start(&config(""));
    let sections = sections();
    assert_eq!(sections.len(), SECTIONS.len(), "a section without a case here, or the other way round");
    for (heading, text) in sections {
        let case = SECTIONS.iter().find(|(name, ..)| heading.starts_with(name));
        let (_, messages, records) = case.unwrap_or_else(|| panic!("no case for {heading}"));
        // A broker needs a Kafka that compacts topics; its group is this run's own.
        let is_broker = text.contains("[broker]");
        let address = if is_broker { shared() } else { kafka.embedded().to_string() };
        let address = address.split(',').next().expect("an address").to_owned();
        let text = plain(&text, &address);
        let name = format!("migrating-{}", std::process::id());
        let mut variables = vec![("FOREBAY_LISTENER_0_BIND", "127.0.0.1:0")];
        variables.extend(is_broker.then_some(("FOREBAY_BROKER_NAME", &*name)));
        let service = Service::start_with(&text, &[], &variables);
        let mut device = Device::connect(service.mqtt(), Version::V5, "emqx_c");
        for (id, (topic, payload)) in (1..).zip(*messages) {
            device.deliver(id, topic, payload.as_bytes());
        }
        for (topic, key, part) in *records {
            let found = read(address.parse().expect("an address"), topic);
            assert!(
                found.iter().any(|record| record.key == *key && record.text().contains(part)),
                "{heading}: {topic} has no record with key {key:?} and {part}: {found:?}"
            );
        }
        // Each message is one record: none went to two sinks.
        assert_eq!(
            service.metric("forebay_sink_records_out_total{result=\"delivered\"}"),
            Some(messages.len() as f64),
            "{heading}"
        );
        if heading.starts_with("Confluent") {
            let [record] = &read(kafka.embedded(), "plant-temperatures")[..] else { panic!("one record") };
            let names: Vec<&str> = record.headers.iter().map(|(name, _)| name.as_str()).collect();
            assert_eq!(names, ["mqtt.message.id", "mqtt.qos", "mqtt.retained", "mqtt.duplicate"]);
        }
        let timed = [("Telegraf", "plant", "plant/7/state"), ("Redpanda", "site-plant", "plant/7")];
        if let Some((_, topic, key)) = timed.iter().find(|(name, ..)| heading.starts_with(name)) {
            let found = read(kafka.embedded(), topic).into_iter().find(|record| record.key == *key);
            assert_eq!(found.map(|record| record.timestamp), Some(1_700_000_000_000), "{heading}");
        }
    }
}
