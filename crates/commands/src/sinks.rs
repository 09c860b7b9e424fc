//! `forebay sinks`: the sinks of a running service, one sink with its partitions, and the actions on it. `forebay histograms`.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::args::{HistogramsArgs, SinkAction, SinksArgs};
use super::ask::{escaped, get, post, said, segment, shown, table, text};
use super::part::{How, change};

const SINKS: [&str; 10] = [
    "SINK",
    "STATE",
    "TOPIC",
    "RECORDS IN",
    "RECOVERED",
    "DELIVERED",
    "FAILED",
    "BUFFERED",
    "IN PER SECOND",
    "DESCRIPTION",
];
const PARTITIONS: [&str; 8] =
    ["TOPIC", "PARTITION", "STATE", "LEADER", "WAITING", "IN FLIGHT", "OLDEST", "ACKNOWLEDGED OFFSET"];
const HISTOGRAMS: [&str; 6] = ["HISTOGRAM", "OF", "VALUES", "MEAN", "P50 AT MOST", "P99 AT MOST"];

/// Shows sinks or one of them, or acts on one.
///
/// # Errors
/// Why there is no answer, with the address; what is wrong with the keys.
pub fn sinks(options: &SinksArgs) -> Result<String, String> {
    let Some(name) = &options.name else { return list(options) };
    let path = format!("/api/v1/sinks/{}", segment(name));
    let Some(action) = options.action else { return one(options, &path) };
    let send = |how| change(&options.from, &options.change, &path, how);
    match action {
        SinkAction::Pause => send(How::Pause),
        SinkAction::Resume => send(How::Resume),
        SinkAction::Delete => send(How::Delete { discard: false }),
        SinkAction::Put => send(How::Put),
        SinkAction::Test => {
            let SinksArgs { topic, payload, client_id, .. } = options;
            let message = json!({ "topic": topic, "payload": payload, "client_id": client_id });
            let answer = post(&options.from, &format!("{path}/test"), &json!({ "message": message }))?;
            Ok(if options.from.json { format!("{answer:#}\n") } else { tried(&answer) })
        }
        SinkAction::DeadLetters => {
            let answer = get(&options.from, &format!("/api/v1/dead-letters/{}?limit=1000", segment(name)))?;
            Ok(if options.from.json { format!("{answer:#}\n") } else { letters(&answer) })
        }
    }
}

/// All sinks, a line each, with the reason why one does not run.
fn list(options: &SinksArgs) -> Result<String, String> {
    let answer = get(&options.from, "/api/v1/sinks")?;
    if options.from.json {
        return Ok(format!("{answer:#}\n"));
    }
    let sinks = answer["sinks"].as_array().map(Vec::as_slice).unwrap_or_default();
    let head = [SINKS.map(str::to_owned)];
    let mut out = table(&head.into_iter().chain(sinks.iter().map(row)).collect::<Vec<_>>());
    sinks.iter().for_each(|sink| out += &reason(sink));
    Ok(out)
}

fn row(sink: &Value) -> [String; 10] {
    let of = |name: &str| text(&sink[name]);
    [
        of("name"),
        of("state"),
        said(&sink["topic"]).unwrap_or_else(|| "(from the message)".to_owned()),
        of("records_in"),
        of("recovered"),
        of("delivered"),
        of("failed"),
        of("buffered_records"),
        text(&sink["rate"]["records_in_per_second"]),
        said(&sink["description"]).unwrap_or_default(),
    ]
}

fn reason(sink: &Value) -> String {
    said(&sink["reason"]).map(|why| format!("{}: {why}\n", text(&sink["name"]))).unwrap_or_default()
}

/// One sink, and its partitions.
fn one(options: &SinksArgs, path: &str) -> Result<String, String> {
    let sink = get(&options.from, path)?;
    let mut partitions = Vec::new();
    let mut next = String::new();
    loop {
        let mut page = get(&options.from, &format!("{path}/partitions?limit=1000{next}"))?;
        if let Value::Array(rows) = page["partitions"].take() {
            partitions.extend(rows);
        }
        match page["next"].as_str() {
            Some(cursor) => next = format!("&cursor={}", escaped(cursor)),
            None => break,
        }
    }
    if options.from.json {
        return Ok(format!("{:#}\n", json!({ "sink": sink, "partitions": partitions })));
    }
    let mut out = table(&[SINKS.map(str::to_owned), row(&sink)]) + &reason(&sink);
    let row = |partition: &Value| {
        let of = |name: &str| shown(&partition[name]);
        let oldest = partition["oldest_seconds"].as_f64().map_or_else(|| "-".to_owned(), |age| format!("{age:.1} s"));
        [
            of("topic"),
            of("partition"),
            of("state"),
            of("leader"),
            of("waiting_records"),
            of("requests_in_flight"),
            oldest,
            of("acknowledged_offset"),
        ]
    };
    let head = [PARTITIONS.map(str::to_owned)];
    let partitions = together(partitions);
    out += &format!("\n{}", table(&head.into_iter().chain(partitions.iter().map(row)).collect::<Vec<_>>()));
    Ok(out)
}

/// States of a partition, the worst first: a partition's state is the worst of all shards.
const WORST: [&str; 8] =
    ["refused", "no_leader", "no_partition", "backing_off", "sent_again", "sending", "waiting", "idle"];

/// The rows of all shards together, one for each partition.
fn together(rows: Vec<Value>) -> Vec<Value> {
    let key = |row: &Value| (row["topic"].as_str().unwrap_or_default().to_owned(), row["partition"].as_u64());
    let mut found: BTreeMap<_, Value> = BTreeMap::new();
    for row in rows {
        let Some(one) = found.get_mut(&key(&row)) else {
            found.insert(key(&row), row);
            continue;
        };
        for name in ["waiting_records", "requests_in_flight"] {
            one[name] = (one[name].as_u64().unwrap_or_default() + row[name].as_u64().unwrap_or_default()).into();
        }
        let later = |a: &Value, b: &Value| a.as_f64().is_none_or(|a| b.as_f64().is_some_and(|b| b > a));
        for name in ["oldest_seconds", "acknowledged_offset"] {
            if later(&one[name], &row[name]) {
                one[name] = row[name].clone();
            }
        }
        if one["leader"].is_null() {
            one["leader"] = row["leader"].clone();
        }
        let place = |of: &Value| WORST.iter().position(|state| of["state"] == *state);
        if place(&row) < place(one) {
            one["state"] = row["state"].clone();
        }
    }
    found.into_values().collect()
}

/// The record of a trial.
fn tried(answer: &Value) -> String {
    let content = |of: &Value| match (said(&of["text"]), said(&of["base64"])) {
        (Some(text), _) => text,
        (None, Some(bytes)) => format!("{bytes} (base64)"),
        (None, None) => "-".to_owned(),
    };
    let mut rows = vec![["matches".to_owned(), text(&answer["matches"])]];
    rows.extend(said(&answer["refused"]).map(|why| ["refused".to_owned(), why]));
    rows.push(["topic".to_owned(), shown(&answer["topic"])]);
    rows.push(["key".to_owned(), content(&answer["key"])]);
    rows.push(["value".to_owned(), content(&answer["value"])]);
    for header in answer["headers"].as_array().into_iter().flatten() {
        rows.push([format!("header {}", shown(&header["name"])), content(&header["value"])]);
    }
    table(&rows)
}

fn letters(answer: &Value) -> String {
    let mut out = String::new();
    for letter in answer["letters"].as_array().into_iter().flatten() {
        out += &format!("{}\n", shown(&letter.to_string().into()));
    }
    if let Some(topic) = said(&answer["topic"]) {
        out += &format!("those in the topic {topic} are read with Kafka's own tools\n");
    }
    if !answer["next"].is_null() {
        out += &format!("there are older ones in {}\n", shown(&answer["file"]));
    }
    if out.is_empty() { "there are none\n".to_owned() } else { out }
}

/// Histograms, a line each: the bounds between which values lie.
///
/// # Errors
/// As [`sinks`].
pub fn histograms(options: &HistogramsArgs) -> Result<String, String> {
    let only = options.name.as_ref().map(|name| format!("?name={}", escaped(name))).unwrap_or_default();
    let answer = get(&options.from, &format!("/api/v1/histograms{only}"))?;
    if options.from.json {
        return Ok(format!("{answer:#}\n"));
    }
    let row = |of: &Value| {
        let labels = of["labels"].as_object().into_iter().flatten();
        let labels: Vec<String> = labels.map(|(name, value)| format!("{name}={}", text(value))).collect();
        let (count, sum) = (of["count"].as_u64().unwrap_or_default(), of["sum"].as_f64().unwrap_or_default());
        let mean = if count > 0 { format!("{:.6}", sum / count as f64) } else { "-".to_owned() };
        [text(&of["name"]), labels.join(" "), count.to_string(), mean, bound(of, 0.5), bound(of, 0.99)]
    };
    let head = [HISTOGRAMS.map(str::to_owned)];
    let rows = answer["histograms"].as_array().into_iter().flatten().map(row);
    Ok(table(&head.into_iter().chain(rows).collect::<Vec<_>>()))
}

/// The bound below which this share of the values lies.
fn bound(of: &Value, part: f64) -> String {
    let counts: Vec<u64> = of["counts"].as_array().into_iter().flatten().filter_map(Value::as_u64).collect();
    let total: u64 = counts.iter().sum();
    if total == 0 {
        return "-".to_owned();
    }
    let mut below = 0;
    let place = counts.iter().position(|count| {
        below += count;
        below as f64 >= part * total as f64
    });
    let bounds = of["bounds"].as_array().map(Vec::as_slice).unwrap_or_default();
    match place.and_then(|place| bounds.get(place)) {
        Some(bound) => text(bound),
        None => format!("more than {}", bounds.last().map(text).unwrap_or_default()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_of_the_values_is_below_a_bound() {
        let of = |counts: &[u64]| json!({ "bounds": [0.1, 1, 5], "counts": counts });
        assert_eq!((bound(&of(&[50, 49, 1, 0]), 0.5), bound(&of(&[50, 49, 1, 0]), 0.99)), ("0.1".into(), "1".into()));
        assert_eq!(
            (bound(&of(&[0, 0, 0, 3]), 0.5), bound(&of(&[0, 0, 0, 0]), 0.5)),
            ("more than 5".into(), "-".into())
        );
    }

    #[test]
    fn a_partition_of_several_shards_is_one_row() {
        let of = |shard: u64,
                  partition: u64,
                  state: &str,
                  waiting: u64,
                  oldest: Value,
                  offset: Value,
                  leader: Value| {
            json!({ "topic": "t", "partition": partition, "shard": shard, "state": state, "waiting_records": waiting,
                "requests_in_flight": 1, "oldest_seconds": oldest, "acknowledged_offset": offset, "leader": leader })
        };
        let rows = vec![
            of(0, 1, "idle", 0, Value::Null, 7.into(), Value::Null),
            of(0, 0, "idle", 0, Value::Null, Value::Null, 3.into()),
            of(1, 1, "backing_off", 5, json!(1.5), 4.into(), 2.into()),
        ];
        let mut both = of(0, 1, "backing_off", 5, json!(1.5), 7.into(), 2.into());
        both["requests_in_flight"] = 2.into();
        assert_eq!(together(rows.clone()), [rows[1].clone(), both]);
    }

    #[test]
    fn letters_say_where_the_others_are() {
        let none = json!({ "topic": null, "file": "/f", "letters": [], "next": null });
        assert_eq!(letters(&none), "there are none\n");
        let some = json!({ "topic": "dead", "file": "/f", "letters": [{ "client_id": "\u{1b}[2J" }], "next": "1-2" });
        assert_eq!(
            letters(&some),
            "{\"client_id\":\"\\u001b[2J\"}\nthose in the topic dead are read with Kafka's own tools\nthere are older ones in /f\n"
        );
    }
}
