//! `forebay sources`: the sources of a running service, one source with its partitions, and the actions on it.

use serde_json::{Map, Value, json};

use super::args::{AskArgs, SourceAction, SourcesArgs};
use super::ask::{get, post, said, segment, table, text};
use super::out::line;
use super::part::{How, change};

const SOURCES: [&str; 11] = [
    "SOURCE",
    "STATE",
    "TOPICS",
    "RECORDS",
    "PUBLISHED",
    "DROPPED",
    "OPEN",
    "PARKED",
    "LAG",
    "PER SECOND",
    "DESCRIPTION",
];
/// Numbers of records that nobody has, with the reasons.
const DROPPED: [(&str, &str); 5] = [
    ("no_subscriber", "had no subscriber"),
    ("bad", "were no message"),
    ("expired", "had expired"),
    ("lost", "were published, and the sessions that they were for have ended or had no room"),
    ("refused", "were refused by a sink"),
];
const PARTITIONS: [&str; 8] = ["TOPIC", "PARTITION", "STATE", "POSITION", "COMMITTED", "LAG", "OPEN", "PARKED"];
const RECORDS: [&str; 5] = ["RECORD", "MQTT TOPIC", "QOS", "RETAIN", "PAYLOAD"];
/// Characters of a payload in a table.
const PAYLOAD_CHARACTERS_MAX: usize = 60;

/// Shows sources or one of them, or acts on one. Returns the text, and whether all is well.
///
/// # Errors
/// Why there is no answer, with the address.
pub fn sources(options: &SourcesArgs) -> Result<(String, bool), String> {
    let Some(name) = &options.name else { return list(options).map(|text| (text, true)) };
    let path = format!("/api/v1/sources/{}", segment(name));
    let Some(action) = options.action else { return one(options, &path).map(|text| (text, true)) };
    let send = |how| change(&options.from, &options.change, &path, how).map(|text| (text, true));
    match action {
        SourceAction::Pause => send(How::Pause),
        SourceAction::Resume => send(How::Resume),
        SourceAction::Put => send(How::Put),
        SourceAction::Delete => send(How::Delete { discard: false }),
        SourceAction::Seek => seek(options, &path).map(|text| (text, true)),
        SourceAction::Test => trial(&options.from, &format!("{path}/test"), tried),
    }
}

fn seek(options: &SourcesArgs, path: &str) -> Result<String, String> {
    let answer = post(&options.from, &format!("{path}/seek"), &Value::Object(place(options)))?;
    let partitions = || format!("partitions sought: {}\n", answer["partitions"]);
    Ok(if options.from.json { format!("{answer:#}\n") } else { partitions() })
}

/// The place to seek to.
fn place(options: &SourcesArgs) -> Map<String, Value> {
    let mut body = Map::new();
    body.insert("to".to_owned(), json!(options.to));
    body.extend(options.topic.iter().map(|topic| ("topic".to_owned(), json!(topic))));
    body.extend(options.partition.iter().map(|partition| ("partition".to_owned(), json!(partition))));
    body
}

/// All sources, a line each, with the reason why one does not run.
fn list(options: &SourcesArgs) -> Result<String, String> {
    let answer = get(&options.from, "/api/v1/sources")?;
    if options.from.json {
        return Ok(format!("{answer:#}\n"));
    }
    let sources = answer["sources"].as_array().map(Vec::as_slice).unwrap_or_default();
    let mut rows = vec![SOURCES.map(str::to_owned)];
    rows.extend(sources.iter().map(row));
    let mut out = table(&rows);
    for source in sources {
        out += &reason(source, &source["name"]);
        out += &dropped(source);
    }
    Ok(out)
}

/// A line with the reasons why records of a source have no receiver, if there are some.
fn dropped(source: &Value) -> String {
    let counts = DROPPED.map(|(key, what)| (source[key].as_u64().unwrap_or(0), what));
    let words = counts.iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!("{count} {what}"));
    let words: Vec<String> = words.collect();
    if words.is_empty() { String::new() } else { format!("{}: dropped: {}\n", text(&source["name"]), words.join("; ")) }
}

fn row(source: &Value) -> [String; 11] {
    let of = |name: &str| text(&source[name]);
    [
        of("name"),
        of("state"),
        source["topics"]
            .as_object()
            .map(|topics| topics.keys().cloned().collect::<Vec<_>>().join(","))
            .unwrap_or_default(),
        of("records"),
        of("published"),
        DROPPED.iter().filter_map(|(key, _)| source[*key].as_u64()).sum::<u64>().to_string(),
        of("open_messages"),
        of("parked_messages"),
        of("lag_records"),
        text(&source["rate"]["records_per_second"]),
        said(&source["description"]).unwrap_or_default(),
    ]
}

/// One source, and its partitions.
fn one(options: &SourcesArgs, path: &str) -> Result<String, String> {
    let source = get(&options.from, path)?;
    if options.from.json {
        return Ok(format!("{source:#}\n"));
    }
    let mut out = table(&[SOURCES.map(str::to_owned), row(&source)]);
    out += &reason(&source, &source["name"]);
    out += &dropped(&source);
    let rules = source["rules"].as_array().map(Vec::as_slice).unwrap_or_default();
    let rules: Vec<String> = rules.iter().map(text).collect();
    let rules = if rules.is_empty() { "none".to_owned() } else { rules.join(", ") };
    out += &format!("rules FROM \"{}\": {rules}\n", text(&source["from"]));
    let partitions = source["partitions"].as_array().map(Vec::as_slice).unwrap_or_default();
    let row = |partition: &Value| {
        let of = |name: &str| shown(&partition[name]);
        let (position, committed, lag) = (of("position"), of("committed"), of("lag_records"));
        [
            of("topic"),
            of("partition"),
            of("state"),
            position,
            committed,
            lag,
            of("open_messages"),
            of("parked_messages"),
        ]
    };
    let head = [PARTITIONS.map(str::to_owned)];
    out += &format!("\n{}", table(&head.into_iter().chain(partitions.iter().map(row)).collect::<Vec<_>>()));
    for partition in partitions {
        out += &reason(partition, &format!("{} {}", text(&partition["topic"]), partition["partition"]).into());
    }
    if let Some(count @ 1..) = source["partitions_left_out"].as_u64() {
        out += &format!("and {count} more partitions\n");
    }
    Ok(out)
}

/// A line with the reason why something does not run, if there is one.
fn reason(of: &Value, name: &Value) -> String {
    said(&of["reason"]).map(|why| format!("{}: {why}\n", text(name))).unwrap_or_default()
}

/// Has the service try a part of its configuration. Returns the outcome, and whether nothing is in the way.
pub(super) fn trial(from: &AskArgs, path: &str, shown: fn(&Value) -> String) -> Result<(String, bool), String> {
    let answer = post(from, path, &json!({}))?;
    let text = if from.json { format!("{answer:#}\n") } else { shown(&answer) };
    Ok((text, answer["works"] == true))
}

/// The findings of a trial, a line each.
pub(super) fn findings(answer: &Value) -> String {
    let line = |finding: &Value| {
        let verdict = text(&finding["verdict"]);
        let verdict = if verdict == "problem" { verdict.to_uppercase() } else { verdict };
        format!("{verdict:<8} {}\n", text(&finding["text"]))
    };
    answer["findings"].as_array().into_iter().flatten().map(line).collect()
}

/// The outcome of a trial.
fn tried(answer: &Value) -> String {
    let out = findings(answer);
    let records = answer["records"].as_array().map(Vec::as_slice).unwrap_or_default();
    if records.is_empty() {
        return out;
    }
    let row = |record: &Value| {
        let named = format!("{} {} {}", text(&record["topic"]), record["partition"], record["offset"]);
        if let Some(why) = said(&record["refused"]) {
            return [named, "-".to_owned(), "-".to_owned(), "-".to_owned(), format!("no message: {why}")];
        }
        let payload = &record["payload"];
        let payload = said(&payload["text"]).or_else(|| said(&payload["base64"])).unwrap_or_default();
        [named, shown(&record["mqtt_topic"]), text(&record["qos"]), text(&record["retain"]), plain(&payload)]
    };
    let head = [RECORDS.map(str::to_owned)];
    out + &format!("\n{}", table(&head.into_iter().chain(records.iter().map(row)).collect::<Vec<_>>()))
}

/// A text from elsewhere, cut to a line's length, without characters that move the reader's cursor.
fn plain(text: &str) -> String {
    let mut shown: String = line(text).chars().take(PAYLOAD_CHARACTERS_MAX).collect();
    if text.chars().nth(PAYLOAD_CHARACTERS_MAX).is_some() {
        shown.push('…');
    }
    shown
}

fn shown(value: &Value) -> String {
    if value.is_null() { "-".to_owned() } else { plain(&text(value)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payload_takes_a_line_and_moves_no_cursor() {
        assert_eq!(plain("a\u{1b}[2J\nb"), "a\u{FFFD}[2J\u{FFFD}b");
        assert_eq!(plain(&"x".repeat(100)).chars().count(), PAYLOAD_CHARACTERS_MAX + 1);
        assert_eq!(shown(&Value::Null), "-");
    }

    #[test]
    fn a_trial_names_what_is_in_the_way_and_shows_messages() {
        let answer = json!({ "works": false, "findings": [{ "verdict": "problem", "text": "topic t is missing" }], "records": [
            { "topic": "t", "partition": 0, "offset": 7, "refused": null, "mqtt_topic": "a/b", "payload": { "text": "21" }, "qos": 1, "retain": false },
            { "topic": "t", "partition": 0, "offset": 8, "refused": "it is too large", "payload": null },
        ] });
        let text = tried(&answer);
        assert!(text.starts_with("PROBLEM  topic t is missing\n"), "{text}");
        assert!(
            text.contains("t 0 7   a/b         1    false   21") && text.contains("no message: it is too large"),
            "{text}"
        );
    }
}
