//! `forebay rules`: the rules of a running service, or one of them, and the actions on it.

use serde_json::Value;

use super::args::{RuleAction, RulesArgs};
use super::ask::{get, said, segment, table, text};
use super::part::{How, change};

const RULES: [&str; 10] =
    ["RULE", "STATE", "FROM", "SINKS", "REPUBLISHES TO", "PASSED", "FILTERED", "FAILED", "PER SECOND", "DESCRIPTION"];

/// Shows rules or one of them, or acts on one.
///
/// # Errors
/// Why there is no answer, with the address.
pub fn rules(options: &RulesArgs) -> Result<String, String> {
    let Some(name) = &options.name else { return list(options) };
    let path = format!("/api/v1/rules/{}", segment(name));
    let Some(action) = options.action else { return one(options, &path) };
    let how = match action {
        RuleAction::Pause => How::Pause,
        RuleAction::Resume => How::Resume,
        RuleAction::Put => How::Put,
        RuleAction::Delete => How::Delete { discard: false },
    };
    change(&options.from, &options.change, &path, how)
}

fn list(options: &RulesArgs) -> Result<String, String> {
    let answer = get(&options.from, "/api/v1/rules")?;
    if options.from.json {
        return Ok(format!("{answer:#}\n"));
    }
    let rules = answer["rules"].as_array().map(Vec::as_slice).unwrap_or_default();
    let mut out = table(&[RULES.map(str::to_owned)].into_iter().chain(rules.iter().map(row)).collect::<Vec<_>>());
    rules.iter().for_each(|rule| out += &failure(rule));
    Ok(out)
}

fn one(options: &RulesArgs, path: &str) -> Result<String, String> {
    let rule = get(&options.from, path)?;
    if options.from.json {
        return Ok(format!("{rule:#}\n"));
    }
    let mut out = table(&[RULES.map(str::to_owned), row(&rule)]);
    out += &failure(&rule);
    out += &format!("\n{}\n", rule["sql"].as_str().unwrap_or_default().trim_end());
    Ok(out)
}

fn row(rule: &Value) -> [String; 10] {
    let of = |name: &str| text(&rule[name]);
    let all = |name: &str| {
        let names = rule[name].as_array().into_iter().flatten().filter_map(said);
        names.collect::<Vec<_>>().join(",")
    };
    let republish = rule["republish"].as_array().into_iter().flatten();
    let topics: Vec<_> = republish.filter_map(|of| said(&of["topic"])).collect();
    let rate = ["passed_per_second", "filtered_per_second", "failed_per_second"];
    let rate: f64 = rate.into_iter().filter_map(|name| rule["rate"][name].as_f64()).sum();
    [
        of("name"),
        of("state"),
        all("from"),
        all("sinks"),
        topics.join(","),
        of("passed"),
        of("filtered"),
        of("failed"),
        format!("{rate:.1}"),
        said(&rule["description"]).unwrap_or_default(),
    ]
}

/// A line with the last failure, if there is one.
fn failure(rule: &Value) -> String {
    let last = &rule["last_failure"];
    match said(&last["reason"]) {
        Some(why) => format!("{}: failed at {}: {why}\n", text(&rule["name"]), text(&last["time"])),
        None => String::new(),
    }
}
