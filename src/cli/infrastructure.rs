//! `forebay listeners` and `forebay clusters`: where messages come in, and the Kafka clusters that they go to.

use serde_json::{Value, json};

use super::args::{AskArgs, ClustersArgs};
use super::ask::{escaped, get, post, table, text};
use super::lists::yes_or_no;

const LISTENERS: [&str; 8] =
    ["LISTENER", "TRANSPORT", "CONNECTIONS", "RECEIVED", "MATCHED", "UNMATCHED", "REFUSED", "PER SECOND"];
const CLUSTERS: [&str; 8] =
    ["CLUSTER", "REACHABLE", "BOOTSTRAP", "CONNECTIONS", "IN FLIGHT", "BUFFERED BYTES", "PER SECOND", "DESCRIPTION"];

/// Listeners, a line each.
///
/// # Errors
/// The reason why there is no answer, in words that name the address.
pub fn listeners(from: &AskArgs) -> Result<String, String> {
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

/// Kafka clusters, a line each; or one, and how far connections to its brokers come.
///
/// # Errors
/// As [`listeners`].
pub fn clusters(options: &ClustersArgs) -> Result<String, String> {
    let path = options.name.as_ref().map(|name| format!("/{}", escaped(name))).unwrap_or_default();
    if options.test {
        let topic = options.topic.as_ref().map(|topic| format!("?topic={}", escaped(topic))).unwrap_or_default();
        let answer = post(&options.from, &format!("/api/v1/clusters{path}/test{topic}"), &json!({}))?;
        return Ok(if options.from.json { format!("{answer:#}\n") } else { tried(&answer) });
    }
    let answer = get(&options.from, &format!("/api/v1/clusters{path}"))?;
    if options.from.json {
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
            cluster["description"].as_str().unwrap_or_default().to_owned(),
        ]
    };
    let all = answer["clusters"].as_array().map_or(std::slice::from_ref(&answer), Vec::as_slice);
    Ok(table(&[CLUSTERS.map(str::to_owned)].into_iter().chain(all.iter().map(row)).collect::<Vec<_>>()))
}

fn tried(answer: &Value) -> String {
    let mut out = String::new();
    for broker in answer["brokers"].as_array().into_iter().flatten() {
        let name = text(&broker["broker"]);
        out += &match broker["failed"].as_str() {
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
        out += &match topic["reason"].as_str() {
            None => format!("ok       topic {}: {} partitions\n", text(&topic["name"]), topic["partitions"]),
            Some(why) => format!("problem  topic {}: {why}\n", text(&topic["name"])),
        };
    }
    out
}
