//! Keys, fields and API paths that the documents name are the program's. (`tests/service/troubleshooting.rs` tries the messages.)

use std::collections::HashSet;
use std::process::Command;

use super::support::service::{self, Service};
use super::{for_operators, prose, quoted, read};

/// Names of others: the kernel's, values of EMQX's settings and its test of rules, those of OAuth 2.0, settings of Telegraf and Redpanda Connect.
const FOREIGN: &[&str] = &[
    "json_time_key",
    "json_time_format",
    "unix_ms",
    "unix_us",
    "unix_ns",
    "routing_tag",
    "routing_key",
    "required_acks",
    "compression_codec",
    "max_message_bytes",
    "metric_buffer_limit",
    "seed_brokers",
    "timestamp_ms",
    "messages_default",
    "io_uring",
    "io_uring_disabled",
    "mosquitto_pub",
    "key_dispatch",
    "all_isr",
    "leader_only",
    "expires_in",
    "invalid_client",
    "rule_test",
];
/// Where the members of JSON objects are written that no description has, and names of rules.
const WRITERS: &[&str] = &[
    "crates/rule/src/envelope.rs",
    "crates/rule/src/message.rs",
    "crates/rule/src/field.rs",
    "crates/rule/src/functions/mod.rs",
    "crates/rule/src/record.rs",
    "crates/source/src/mapping.rs",
    "crates/shard/src/dead_letters/line.rs",
    "crates/rule/src/event.rs",
    "crates/rule/src/field.rs",
    "src/cli/rule.rs",
];

/// Words of letters, digits and underscores.
fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').filter(|word| !word.is_empty())
}

fn generated(document: &str) -> String {
    let text = read(document);
    let (_, tables) = text.split_once("<!-- generated from the code").expect("generated tables");
    tables.split_once("<!-- end -->").expect("their end").0.to_owned()
}

#[test]
fn keys_fields_and_paths_that_are_named_exist() {
    let service = Service::start(&service::config("[spool]\nbytes_max = \"128MiB\"\n"));
    let (_, described) = service.get("/api/v1/openapi.json").expect("the description");
    let schema = Command::new(env!("CARGO_BIN_EXE_forebay")).args(["config", "schema"]).output().expect("the schema");
    let schema = String::from_utf8(schema.stdout).expect("UTF-8");
    let writers: String = WRITERS.iter().map(|file| read(file)).collect();
    let tables = ["docs/METRICS.md", "docs/API.md", "docs/SQL_FUNCTIONS.md"].map(generated).concat();
    let mut known: HashSet<&str> =
        [schema.as_str(), &described, &tables, &writers].into_iter().flat_map(words).collect();
    known.extend(words(&tables).filter_map(|word| word.strip_prefix("forebay_")));
    known.extend(FOREIGN);
    let described: serde_json::Value = serde_json::from_str(&described).expect("JSON");
    let paths: Vec<String> = described["paths"].as_object().expect("paths").keys().cloned().collect();
    let described = |path: &str| {
        let segments: Vec<&str> = path.split('/').collect();
        paths.iter().any(|known| {
            let known: Vec<&str> = known.split('/').collect();
            known.len() == segments.len()
                && known.iter().zip(&segments).all(|(known, given)| known == given || known.starts_with('{'))
        })
    };
    let (mut unknown, mut tried) = (Vec::new(), 0);
    // The rules' page names methods, not what an operator writes.
    for (path, text) in for_operators().filter(|(path, _)| path != "docs/RULES.md") {
        let other = if path == "docs/MIGRATING.md" { others(&text) } else { HashSet::new() };
        for (number, quoted) in quoted(&text) {
            let word = quoted.split(['{', ' ', '=', '[', ':']).next().unwrap_or_default();
            // `sink.expire_after` is a key with its section.
            let key = word.rsplit('.').next().unwrap_or_default().trim_start_matches('…');
            let snake =
                key.contains('_') && key.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
            let is_key = !word.contains('/') && snake && !key.starts_with('_') && !other.contains(key);
            tried += usize::from(is_key);
            if is_key
                && !known.contains(key)
                && !known.iter().any(|known| known.strip_suffix(key).is_some_and(|rest| rest.ends_with('_')))
            {
                unknown.push(format!("{path}:{number}: {quoted}"));
            }
        }
        for (number, line) in prose(&text) {
            for rest in line.split("/api/v1").skip(1) {
                let end =
                    rest.find(|c: char| !c.is_ascii_alphanumeric() && !"/-_.{}".contains(c)).unwrap_or(rest.len());
                let api = format!("/api/v1{}", rest[..end].trim_end_matches('.'));
                tried += 1;
                if !["/api/v1", "/api/v1/", "/api/v1/openapi.json"].contains(&api.as_str()) && !described(&api) {
                    unknown.push(format!("{path}:{number}: {api}"));
                }
            }
        }
    }
    assert!(tried > 300, "names were not found: {tried}");
    assert!(unknown.is_empty(), "names that the program does not have:\n{}", unknown.join("\n"));
}

/// `others` finds names of TBMQ and EMQX, which `crates/config/src/kafka_names.rs` tests, and names of the other product in the first column of a
/// table.
fn others(text: &str) -> HashSet<&str> {
    let cells = text.lines().filter_map(|line| line.strip_prefix("| ")?.split(" | ").next());
    let of_tables =
        cells.flat_map(|cell| cell.split('`').skip(1).step_by(2)).flat_map(|quoted| quoted.split(' ').next());
    let paragraphs = text.split("\n\n").filter(|paragraph| paragraph.starts_with("In a configuration file"));
    paragraphs.flat_map(|paragraph| paragraph.split('`').skip(1).step_by(2)).chain(of_tables).collect()
}
