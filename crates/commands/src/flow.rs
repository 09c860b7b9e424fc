//! `forebay flow`: the ways that messages take through a running service.

use serde_json::Value;

use super::args::FlowArgs;
use super::ask::{escaped, get, said, shown, table};

const FLOW: [&str; 6] = ["FROM", "RULE", "TO", "KAFKA TOPIC OR BROKER", "CLUSTER", "PER SECOND AT THE END"];

/// The ways of messages, a line each, and below them why a place on them does not run.
///
/// # Errors
/// Why there is no answer, with the address.
pub fn flow(options: &FlowArgs) -> Result<String, String> {
    let search = options.search.as_ref().map(|text| format!("&search={}", escaped(text))).unwrap_or_default();
    let answer = get(&options.from, &format!("/api/v1/flow?limit={}{search}", options.limit))?;
    Ok(if options.from.json { format!("{answer:#}\n") } else { lines(&answer) })
}

fn lines(answer: &Value) -> String {
    let ways = answer["ways"].as_array().map(Vec::as_slice).unwrap_or_default();
    let rows = ways.iter().map(row);
    let mut out = table(&[FLOW.map(str::to_owned)].into_iter().chain(rows).collect::<Vec<_>>());
    let mut reasons: Vec<String> = ways.iter().flat_map(steps).filter_map(reason).collect();
    reasons.sort();
    reasons.dedup();
    out += &reasons.concat();
    if answer["total"].as_u64() > Some(ways.len() as u64) {
        out += &format!("there are {} ways: see --limit and --search\n", answer["total"]);
    }
    out
}

/// Places of a way, from left to right.
fn steps(way: &Value) -> impl Iterator<Item = &Value> {
    ["origin", "from", "rule", "to", "at"].into_iter().map(|name| &way[name]).filter(|step| step.is_object())
}

fn row(way: &Value) -> [String; 6] {
    let of = |name: &str| if way[name].is_object() { named(&way[name]) } else { "-".to_owned() };
    let from = if way["origin"].is_object() { format!("{} > {}", of("origin"), of("from")) } else { of("from") };
    let clusters = [&way["at"]["cluster"], &way["origin"]["cluster"]];
    let cluster = clusters.into_iter().find(|cluster| !cluster.is_null()).unwrap_or(&Value::Null);
    // Some places count no messages: the last one that does has the rate.
    let rate = steps(way).filter_map(|step| step["out_per_second"].as_f64()).last();
    let rate = rate.map_or_else(|| "-".to_owned(), |rate| format!("{rate:.1}"));
    [from, of("rule"), of("to"), of("at"), shown(cluster), rate]
}

/// A place with its state, if that is not the usual one.
fn named(step: &Value) -> String {
    let (kind, name) = (said(&step["kind"]).unwrap_or_default(), shown(&step["name"]));
    let name = if ["source", "in", "out"].contains(&&*kind) { format!("{kind} {name}") } else { name };
    match said(&step["state"]) {
        Some(state) if !["running", "connected"].contains(&&*state) => format!("{name} ({state})"),
        _ => name,
    }
}

/// Why a place does not run, as a line.
fn reason(step: &Value) -> Option<String> {
    Some(format!("{}: {}\n", named(step), said(&step["reason"])?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_way_is_a_line_and_what_does_not_run_says_why() {
        let step = |kind: &str, name: &str| json!({ "kind": kind, "name": name, "cluster": null, "state": null, "reason": null, "out_per_second": null });
        let with = |mut step: Value, more: Value| {
            step.as_object_mut().expect("a step").extend(more.as_object().cloned().expect("keys"));
            step
        };
        let sink =
            with(step("sink", "all"), json!({ "state": "stalled", "reason": "no\nleader", "out_per_second": 2.5 }));
        let kafka = with(step("kafka", "t"), json!({ "cluster": "main" }));
        let source = with(step("source", "s"), json!({ "state": "running", "out_per_second": 1 }));
        let ways = [
            json!({ "origin": null, "from": step("topic", "a/#"), "rule": null, "to": sink, "at": kafka }),
            json!({ "origin": kafka, "from": source, "rule": null, "to": step("topic", "m"), "at": null }),
        ];
        let text = lines(&json!({ "ways": ways, "total": 3 }));
        let rows: Vec<Vec<&str>> = text
            .lines()
            .map(|line| line.split("  ").map(str::trim).filter(|cell| !cell.is_empty()).collect())
            .collect();
        assert_eq!(rows[1], ["a/#", "-", "all (stalled)", "t", "main", "2.5"]);
        assert_eq!(rows[2], ["t > source s", "-", "m", "-", "main", "1.0"]);
        assert!(
            text.ends_with("all (stalled): no\u{FFFD}leader\nthere are 3 ways: see --limit and --search\n"),
            "{text}"
        );
    }
}
