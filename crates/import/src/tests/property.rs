//! Any JSON is converted without a panic, to a valid configuration.

use std::path::Path;

use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::{action, connector};
use crate::convert;
use forebay_config as config;

/// Words that the input is made of.
const WORDS: &[&str] = &[
    "rules",
    "actions",
    "connectors",
    "sources",
    "data",
    "rule_engine",
    "kafka_producer",
    "kafka_consumer",
    "confluent_producer",
    "type",
    "name",
    "id",
    "sql",
    "enable",
    "description",
    "connector",
    "parameters",
    "topic",
    "message",
    "key",
    "value",
    "timestamp",
    "compression",
    "gzip",
    "partition_strategy",
    "key_dispatch",
    "required_acks",
    "none",
    "kafka_headers",
    "kafka_ext_headers",
    "kafka_ext_header_key",
    "kafka_ext_header_value",
    "max_batch_bytes",
    "max_inflight",
    "query_mode",
    "sync",
    "buffer",
    "mode",
    "disk",
    "hybrid",
    "bootstrap_hosts",
    "authentication",
    "mechanism",
    "plain",
    "oauth",
    "username",
    "password",
    "endpoint_uri",
    "client_id",
    "extensions",
    "ssl",
    "certfile",
    "cacertfile",
    "server_name_indication",
    "socket_opts",
    "sndbuf",
    "tcp_keepalive",
    "topic_mapping",
    "kafka_topic",
    "mqtt_topic",
    "qos",
    "payload_template",
    "group_id",
    "function",
    "republish",
    "console",
    "args",
    "mqtt_properties",
    "local_topic",
    "max_retries",
    "${.clientid}",
    "${.}",
    "${payload.x}",
    "${",
    "$$",
    "5ms",
    "1MB",
    "h:9092",
    "SELECT * FROM \"t/#\"",
    "SELECT payload.x AS timestamp\nFROM \"a\"",
    "embedded",
    "kafka_producer:my_sink",
    "kafka:a",
    "a",
    "my_sink",
    "'''",
    "\r\n\u{7f}\u{0}",
    "é\u{85}",
    "",
    "-----BEGIN CERTIFICATE-----",
];

fn any_json() -> impl Strategy<Value = Value> {
    let word = || prop_oneof![9 => proptest::sample::select(WORDS).prop_map(str::to_owned), 1 => any::<String>()];
    let leaf = prop_oneof![
        6 => word().prop_map(Value::from),
        1 => Just(Value::Null),
        1 => any::<bool>().prop_map(Value::from),
        1 => any::<i64>().prop_map(Value::from),
        1 => (0i64..20).prop_map(Value::from),
    ];
    leaf.prop_recursive(6, 96, 12, move |inner| {
        let members = proptest::collection::vec((word(), inner.clone()), 0..12);
        prop_oneof![
            1 => proptest::collection::vec(inner, 0..6).prop_map(Value::from),
            4 => members.prop_map(|members| Value::Object(members.into_iter().collect::<Map<_, _>>())),
        ]
    })
}

/// An object with some value in each of its members.
fn any_things() -> impl Strategy<Value = Value> {
    let members = |names: &'static [&'static str]| {
        proptest::collection::vec((proptest::sample::select(names), any_json()), 0..8).prop_map(|members| {
            members.into_iter().map(|(name, value)| (name.to_owned(), value)).collect::<Map<_, _>>()
        })
    };
    let parameters = &WORDS[17..37];
    (members(parameters), members(&WORDS[44..62]), any_json(), any_json()).prop_map(|(parameters, settings, rule, source)| {
        let mut made = connector();
        made.as_object_mut().unwrap().extend(settings);
        json!({ "connectors": [made], "actions": [action(Value::Object(parameters))], "rules": { "my_rule": rule, "r": super::rule("SELECT * FROM \"t\"") },
            "sources": [source] })
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    /// Any JSON is converted without a panic, to a configuration that Forebay accepts.
    #[test]
    fn any_json_makes_a_valid_configuration(values in proptest::collection::vec(prop_oneof![any_json(), any_things()], 1..3)) {
        let dir = tempfile::tempdir().unwrap();
        let named: Vec<_> = values.into_iter().map(|value| ("f".to_owned(), value)).collect();
        let Ok(imported) = convert(&named, dir.path() as &Path) else { return Ok(()) };
        for at in imported.text.match_indices("password_file = ").chain(imported.text.match_indices("client_secret_file = ")).map(|(at, _)| at) {
            let line = imported.text[at..].lines().next().unwrap_or_default();
            let table: toml::Table = line.parse().unwrap();
            let file = table.values().next().and_then(toml::Value::as_str).unwrap().to_owned();
            std::fs::write(file, "secret").unwrap();
        }
        if let Err(problems) = config::parse(&imported.text, "imported") {
            prop_assert!(false, "{problems}\n{}", imported.text);
        }
    }
}
