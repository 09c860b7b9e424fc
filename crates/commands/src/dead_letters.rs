//! `forebay dead-letters`: dead letters in Kafka topics of a running service, listed, shown and sent again.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::args::{LettersCommand, LettersListArgs, LettersSendArgs, LettersShowArgs};
use super::ask::{escaped, get, get_slowly, post, said, segment, shown, table, text};

/// Letters that one request sends.
const SENT_MAX: usize = 1_000;
/// Characters of a value in a list.
const SHOWN_MAX: usize = 60;

/// Lists, shows or sends letters. `false`: not all were taken.
///
/// # Errors
/// Why there is no answer, with the address, or why the request is refused.
pub fn dead_letters(command: &LettersCommand) -> Result<(String, bool), String> {
    match command {
        LettersCommand::List(options) => list(options).map(|text| (text, true)),
        LettersCommand::Show(options) => show(options).map(|text| (text, true)),
        LettersCommand::Send(options) => send(options),
    }
}

fn path(kafka: &str, topic: &str) -> String {
    format!("/api/v1/clusters/{}/dead-letters/{}", segment(kafka), segment(topic))
}

fn list(options: &LettersListArgs) -> Result<String, String> {
    let LettersListArgs { from, kafka, topic, since, reason, limit, cursor } = options;
    let (Some(kafka), Some(topic)) = (kafka, topic) else {
        let answer = get(from, "/api/v1/dead-letters")?;
        return Ok(if from.json { format!("{answer:#}\n") } else { places(&answer) });
    };
    let mut path = format!("{}?limit={limit}", path(kafka, topic));
    for (name, value) in [("since", since), ("reason", reason), ("cursor", cursor)] {
        path += &value.as_ref().map(|value| format!("&{name}={}", escaped(value))).unwrap_or_default();
    }
    let answer = get_slowly(from, &path)?;
    Ok(if from.json { format!("{answer:#}\n") } else { letters(&answer) })
}

/// Topics and files, a line each.
fn places(answer: &Value) -> String {
    let names = |of: &Value, kinds: &[&str]| {
        let named = kinds.iter().flat_map(|kind| {
            let all = of[*kind].as_array().into_iter().flatten();
            all.map(|name| format!("{} {}", kind.trim_end_matches('s'), shown(name))).collect::<Vec<_>>()
        });
        named.collect::<Vec<_>>().join(", ")
    };
    let all = |kind: &str| answer[kind].as_array().cloned().unwrap_or_default();
    let topics = all("topics");
    let topics =
        topics.iter().map(|of| [shown(&of["kafka"]), shown(&of["topic"]), names(of, &["sinks", "sources", "bridges"])]);
    let files = all("files");
    let files = files.iter().map(|of| ["(file)".to_owned(), shown(&of["file"]), names(of, &["sinks", "bridges"])]);
    let head = [["CLUSTER", "TOPIC", "OF"].map(str::to_owned)];
    table(&head.into_iter().chain(topics).chain(files).collect::<Vec<_>>())
}

fn content(of: &Value) -> String {
    match (said(&of["text"]), said(&of["base64"])) {
        (Some(text), _) => text,
        (None, Some(bytes)) => format!("{bytes} (base64)"),
        (None, None) => "-".to_owned(),
    }
}

fn place(of: &Value) -> String {
    format!("{}:{}", of["partition"], of["offset"])
}

/// The writer of a letter.
fn writer(of: &Value) -> String {
    let kinds = ["sink", "source", "bridge"].into_iter();
    kinds.filter(|kind| of[*kind].is_string()).map(|kind| format!("{kind} {}", shown(&of[kind]))).collect()
}

/// Letters, a line each.
fn letters(answer: &Value) -> String {
    let row = |letter: &Value| {
        let value: String = content(&letter["value"]).chars().take(SHOWN_MAX).collect();
        let again = if letter["sent_again"] == true {
            "yes"
        } else if letter["cannot"].is_string() {
            "cannot"
        } else {
            "no"
        };
        let to = said(&letter["kafka_topic"]).unwrap_or_else(|| "-".to_owned());
        [place(letter), text(&letter["at"]), writer(letter), shown(&letter["reason"]), to, again.to_owned(), value]
    };
    const HEAD: [&str; 7] = ["LETTER", "TIME", "OF", "REASON", "KAFKA TOPIC", "SENT AGAIN", "VALUE"];
    let rows = answer["letters"].as_array().map(Vec::as_slice).unwrap_or_default();
    let mut out = if rows.is_empty() {
        "none of those that were looked at\n".to_owned()
    } else {
        table(&[HEAD.map(str::to_owned)].into_iter().chain(rows.iter().map(row)).collect::<Vec<_>>())
    };
    if let Some(next) = said(&answer["next"]) {
        out += &format!("there are older ones: --cursor {next}\n");
    }
    out
}

fn show(options: &LettersShowArgs) -> Result<String, String> {
    let LettersShowArgs { from, kafka, topic, letter: (partition, offset) } = options;
    let answer = get_slowly(from, &format!("{}/{partition}/{offset}", path(kafka, topic)))?;
    if from.json {
        return Ok(format!("{answer:#}\n"));
    }
    let mut rows = vec![["letter".to_owned(), place(&answer)], ["of".to_owned(), writer(&answer)]];
    let names = ["at", "rule", "reason", "kafka_code", "kafka_topic", "kafka_partition", "kafka_offset", "received"];
    let names = names.into_iter().chain(["mqtt_topic", "client_id", "qos", "value_bytes", "sent_before", "sent_again"]);
    rows.extend(names.chain(["cannot"]).filter(|name| !answer[*name].is_null()).map(|name| {
        [if name == "cannot" { "cannot be sent again" } else { name }.replace('_', " "), shown(&answer[name])]
    }));
    rows.push(["key".to_owned(), content(&answer["key"])]);
    for header in answer["headers"].as_array().into_iter().flatten() {
        rows.push([format!("header {}", shown(&header["name"])), content(&header["value"])]);
    }
    rows.push(["value".to_owned(), content(&answer["value"])]);
    Ok(table(&rows))
}

fn send(options: &LettersSendArgs) -> Result<(String, bool), String> {
    let LettersSendArgs { from, kafka, topic, letters, up_to, reason, per_second, repeat, dry_run } = options;
    let path = format!("{}/send", path(kafka, topic));
    let place = |(partition, offset): &(i32, i64)| json!({ "partition": partition, "offset": offset });
    let mut all: Vec<Value> = Vec::new();
    let mut not_noted = None;
    let mut take = |body: &Value| {
        let answer = post(from, &path, body)?;
        all.extend(answer["letters"].as_array().into_iter().flatten().cloned());
        not_noted = said(&answer["not_noted"]).or(not_noted.take());
        let is_broken = answer["letters"].as_array().into_iter().flatten().any(|letter| letter["result"] == "unknown");
        Ok::<_, String>(answer["from"].as_i64().filter(|_| !is_broken))
    };
    if let Some(up_to) = up_to {
        let mut next = None;
        let pace = per_second.filter(|_| !dry_run);
        let limit = pace.map_or(SENT_MAX, |pace| pace as usize);
        loop {
            let begun = Instant::now();
            let body =
                json!({ "up_to": place(up_to), "from": next, "reason": reason, "limit": limit, "dry_run": dry_run });
            next = take(&body)?;
            if next.is_none() {
                break;
            }
            if pace.is_some() {
                std::thread::sleep(Duration::from_secs(1).saturating_sub(begun.elapsed()));
            }
        }
    } else {
        for some in letters.chunks(SENT_MAX) {
            let some: Vec<Value> = some.iter().map(place).collect();
            take(&json!({ "letters": some, "repeat": repeat, "dry_run": dry_run, "limit": SENT_MAX }))?;
        }
    }
    let good = if *dry_run { "would_be_sent" } else { "taken" };
    let is_good = all.iter().all(|letter| letter["result"] == good);
    if from.json {
        return Ok((format!("{:#}\n", json!({ "letters": all, "not_noted": not_noted })), is_good));
    }
    Ok((sent(&all, not_noted.as_deref()), is_good))
}

/// The result of each letter, a line each, and the number of each result.
fn sent(all: &[Value], not_noted: Option<&str>) -> String {
    if all.is_empty() {
        return "none: all of them were sent again before, or there is none\n".to_owned();
    }
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    let row = |letter: &Value| {
        let result = text(&letter["result"]).replace('_', " ");
        *counts.entry(result.clone()).or_default() += 1;
        let to = match (&letter["to_topic"], &letter["to_partition"], &letter["to_offset"]) {
            (Value::Null, ..) => "-".to_owned(),
            (topic, Value::Null, _) => shown(topic),
            (topic, partition, Value::Null) => format!("{} {partition}", shown(topic)),
            (topic, partition, offset) => format!("{} {partition}:{offset}", shown(topic)),
        };
        [place(letter), result, to, shown(&letter["why"])]
    };
    let rows: Vec<_> = all.iter().map(row).collect();
    let head = [["LETTER", "RESULT", "TO", "WHY"].map(str::to_owned)];
    let mut out = table(&head.into_iter().chain(rows).collect::<Vec<_>>());
    let counts: Vec<String> = counts.into_iter().map(|(result, count)| format!("{count} {result}")).collect();
    out += &format!("{}\n", counts.join(", "));
    if let Some(why) = not_noted {
        out += &format!("it could not be noted which were sent again: {why}\n");
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_letter_has_a_line_and_results_are_counted() {
        let of = |offset: i64, result: &str, why: Option<&str>| json!({ "partition": 0, "offset": offset, "result": result, "why": why, "to_topic": "t", "to_partition": 1, "to_offset": 9 });
        let text =
            sent(&[of(1, "taken", None), of(2, "taken", None), of(3, "not_sent", Some("\u{1b}[2J"))], Some("full"));
        assert!(text.contains("0:1     taken     t 1:9  -\n"), "{text}");
        assert!(text.contains("1 not sent, 2 taken\n") && text.ends_with("sent again: full\n"), "{text}");
        assert!(!text.contains('\u{1b}'), "{text}");
        assert!(sent(&[], None).starts_with("none"));
    }
}
