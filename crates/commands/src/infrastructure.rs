//! `forebay listeners`, `forebay clusters` and `forebay spool status`: the listeners, the Kafka clusters, and the spool.

use serde_json::{Value, json};

use super::args::{AskArgs, ClusterAction, ClustersArgs, ListenerAction, ListenersArgs};
use super::ask::{escaped, get, post, said, segment, table, text};
use super::lists::yes_or_no;
use super::part::{How, change};

const LISTENERS: [&str; 8] =
    ["LISTENER", "TRANSPORT", "CONNECTIONS", "RECEIVED", "MATCHED", "UNMATCHED", "REFUSED", "PER SECOND"];
const CLUSTERS: [&str; 8] =
    ["CLUSTER", "REACHABLE", "BOOTSTRAP", "CONNECTIONS", "IN FLIGHT", "BUFFERED BYTES", "PER SECOND", "DESCRIPTION"];

const SPOOL: [&str; 10] = [
    "SHARD",
    "BYTES",
    "LIMIT",
    "NOT IN KAFKA",
    "SEGMENTS",
    "SESSIONS",
    "WRITTEN",
    "STATE",
    "FAILED WRITES",
    "DAMAGED PLACES",
];

/// Lists the listeners, a line each; or changes one.
///
/// # Errors
/// Why there is no answer, with the address.
pub fn listeners(options: &ListenersArgs) -> Result<String, String> {
    let from = &options.from;
    if let (Some(address), Some(action)) = (&options.address, options.action) {
        let how = match action {
            ListenerAction::Put => How::Put,
            ListenerAction::Delete => How::Delete { discard: false },
        };
        return change(from, &options.change, &format!("/api/v1/listeners/{}", segment(address)), how);
    }
    let answer = get(from, "/api/v1/listeners")?;
    if from.json {
        return Ok(format!("{answer:#}\n"));
    }
    let row = |listener: &Value| {
        let of = |name: &str| text(&listener[name]);
        let rate = text(&listener["rate"]["received_per_second"]);
        let ends = ["address", "transport", "connections", "received", "matched", "unmatched", "refused"].map(of);
        let [address, transport, connections, received, matched, unmatched, refused] = ends;
        [address, transport, connections, received, matched, unmatched, refused, rate]
    };
    let rows = answer["listeners"].as_array().into_iter().flatten().map(row);
    Ok(table(&[LISTENERS.map(str::to_owned)].into_iter().chain(rows).collect::<Vec<_>>()))
}

/// Lists the Kafka clusters, a line each; or shows, changes or tries one: how far connections to its brokers get. Returns the
/// text, and whether all is well.
///
/// # Errors
/// As [`listeners`].
pub fn clusters(options: &ClustersArgs) -> Result<(String, bool), String> {
    let path = options.name.as_ref().map(|name| format!("/{}", segment(name))).unwrap_or_default();
    let path = format!("/api/v1/clusters{path}");
    let how = match options.action {
        None => return shown(&options.from, &path).map(|text| (text, true)),
        Some(ClusterAction::Test) => return test(options, &path),
        Some(ClusterAction::Put) => How::Put,
        Some(ClusterAction::Delete) => How::Delete { discard: false },
    };
    change(&options.from, &options.change, &path, how).map(|text| (text, true))
}

fn test(options: &ClustersArgs, path: &str) -> Result<(String, bool), String> {
    let topic = options.topic.as_ref().map(|topic| format!("?topic={}", escaped(topic))).unwrap_or_default();
    let answer = post(&options.from, &format!("{path}/test{topic}"), &json!({}))?;
    let text = if options.from.json { format!("{answer:#}\n") } else { tried(&answer) };
    Ok((text, answer["works"] == true && answer["topic"]["reason"].is_null()))
}

fn shown(from: &AskArgs, path: &str) -> Result<String, String> {
    let answer = get(from, path)?;
    if from.json {
        return Ok(format!("{answer:#}\n"));
    }
    let row = |cluster: &Value| {
        let of = |name: &str| text(&cluster[name]);
        let bootstrap: Vec<String> = cluster["bootstrap"].as_array().into_iter().flatten().map(text).collect();
        [
            of("name"),
            yes_or_no(&cluster["reachable"]).to_owned(),
            bootstrap.join(","),
            of("connections"),
            of("requests_in_flight"),
            of("buffer_bytes"),
            text(&cluster["rate"]["requests_per_second"]),
            said(&cluster["description"]).unwrap_or_default(),
        ]
    };
    let all = answer["clusters"].as_array().map_or(std::slice::from_ref(&answer), Vec::as_slice);
    Ok(table(&[CLUSTERS.map(str::to_owned)].into_iter().chain(all.iter().map(row)).collect::<Vec<_>>()))
}

/// The spool, a line for each shard and one for their sum.
///
/// # Errors
/// As [`listeners`].
pub fn spool(from: &AskArgs) -> Result<String, String> {
    let answer = get(from, "/api/v1/spool")?;
    if from.json {
        return Ok(format!("{answer:#}\n"));
    }
    if answer["configured"] != true {
        return Ok("the configuration has no [spool]: records wait in memory\n".to_owned());
    }
    let row = |of: &Value| {
        let state = if of["write_failing"] == true {
            "cannot write"
        } else if of["full"] == true {
            "full"
        } else {
            "good"
        };
        let shard = if of["shard"].is_null() { "all".to_owned() } else { text(&of["shard"]) };
        let of = |name: &str| text(&of[name]);
        [
            shard,
            of("bytes"),
            of("bytes_max"),
            of("live_bytes"),
            of("segments"),
            of("sessions"),
            of("records_written"),
            state.to_owned(),
            of("io_errors"),
            of("corruptions"),
        ]
    };
    let shards = answer["shards"].as_array().map(Vec::as_slice).unwrap_or_default();
    let rows = shards.iter().chain([&answer]).map(row);
    Ok(table(&[SPOOL.map(str::to_owned)].into_iter().chain(rows).collect::<Vec<_>>()))
}

fn tried(answer: &Value) -> String {
    let mut out = String::new();
    for broker in answer["brokers"].as_array().into_iter().flatten() {
        let name = text(&broker["broker"]);
        out += &match said(&broker["failed"]) {
            None => format!("ok       {name}\n"),
            Some(stage) => format!("problem  {name}: {stage}: {}\n", text(&broker["reason"])),
        };
    }
    let members: Vec<String> = answer["members"].as_array().into_iter().flatten().map(text).collect();
    if !members.is_empty() {
        out += &format!("its brokers: {}\n", members.join(", "));
    }
    let topic = &answer["topic"];
    if topic.is_object() {
        out += &match said(&topic["reason"]) {
            None => format!("ok       topic {}: {} partitions\n", text(&topic["name"]), topic["partitions"]),
            Some(why) => format!("problem  topic {}: {why}\n", text(&topic["name"])),
        };
    }
    out
}
