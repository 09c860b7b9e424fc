//! `forebay top` and `forebay topics match`: the topics and clients with the most publishes, and the receivers of a topic's messages.

use clap::ValueEnum;
use serde_json::Value;

use super::args::{MatchArgs, TopArgs, TopBy, TopOf};
use super::ask::{escaped, get, shown, table, text};

/// The topics or clients with the highest counts, a line each.
///
/// # Errors
/// Why there is no answer, with the address.
pub fn top(options: &TopArgs) -> Result<String, String> {
    let TopArgs { from, of, by, limit } = options;
    let answer = get(from, &format!("/api/v1/top?of={}&by={}&limit={limit}", word(*of), word(*by)))?;
    if from.json {
        return Ok(format!("{answer:#}\n"));
    }
    let name = if *of == TopOf::Clients { "CLIENT" } else { "TOPIC" };
    let head = match by {
        TopBy::Messages => ["MESSAGES/S", "AT MOST TOO MUCH", name, "AUTH"],
        TopBy::Bytes => ["BYTES/S", "AT MOST TOO MUCH", name, "AUTH"],
    };
    let rows = answer["top"].as_array().map(Vec::as_slice).unwrap_or_default();
    let row = |row: &Value| {
        let name = shown(row.get("topic").unwrap_or(&row["client_id"]));
        [rate(&row["per_second"]), rate(&row["error_per_second"]), name, shown(&row["auth"])]
    };
    let mut out = table(&[head.map(str::to_owned)].into_iter().chain(rows.iter().map(row)).collect::<Vec<_>>());
    if let Some(every @ 2..) = answer["sampled_one_of"].as_u64() {
        out += &format!("sampled: one of about {every} was counted\n");
    }
    Ok(out)
}

/// The word of an option's value.
fn word(of: impl ValueEnum) -> String {
    of.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
}

/// A rate with its significant digits.
fn rate(value: &Value) -> String {
    let rate = value.as_f64().unwrap_or_default();
    if rate == 0.0 || rate >= 100.0 { format!("{rate:.0}") } else { format!("{rate:.2}") }
}

/// The receivers of a topic's messages.
///
/// # Errors
/// As [`top`].
pub fn matching(options: &MatchArgs) -> Result<String, String> {
    let answer = get(&options.from, &format!("/api/v1/topics/match?topic={}", escaped(&options.topic)))?;
    if options.from.json {
        return Ok(format!("{answer:#}\n"));
    }
    let names = |list: &str| {
        let names: Vec<_> = answer[list].as_array().into_iter().flatten().map(text).collect();
        if names.is_empty() { "-".to_owned() } else { names.join(", ") }
    };
    let more = if answer["more_subscriptions"] == true { " and more" } else { "" };
    let rows = [
        ["sinks".to_owned(), names("sinks")],
        ["rules".to_owned(), names("rules")],
        ["subscriptions".to_owned(), format!("{}{more}", text(&answer["subscriptions"]))],
    ];
    let nobody = if answer["unmatched"] == true { "nobody gets messages of this topic\n" } else { "" };
    Ok(table(&rows) + nobody)
}
