//! `forebay status` and `forebay log-level`: a running service as a whole, and its log level.

use serde_json::{Value, json};

use super::args::{AskArgs, LogLevelArgs};
use super::ask::{change, get, shown, table, text};
use super::lists::{age, yes_or_no};

/// Kinds of parts with a state: their key in the answer, and the noun for one of them.
const PARTS: [(&str, &str); 4] = [("sinks", "sink"), ("sources", "source"), ("rules", "rule"), ("bridges", "bridge")];
/// The good states of parts.
const GOOD: [&str; 2] = ["running", "connected"];

/// The service as a whole. Returns the text, and whether it is ready and healthy.
///
/// # Errors
/// Why there is no answer, with the address.
pub fn status(from: &AskArgs) -> Result<(String, bool), String> {
    let mut answer = get(from, "/api/v1/status")?;
    let is_well = answer["ready"] == true && answer["healthy"] == true;
    if from.json {
        return Ok((format!("{answer:#}\n"), is_well));
    }
    for kind in ["sources", "bridges"] {
        let is_bad = |of: &Value| !GOOD.contains(&of["state"].as_str().unwrap_or(""));
        if answer[kind].as_array().is_some_and(|all| all.iter().any(is_bad)) {
            // Only shards know these reasons.
            let all = get(from, &format!("/api/v1/{kind}"))?;
            give_reasons(&mut answer[kind], &all[kind]);
        }
    }
    Ok((whole(&answer), is_well))
}

/// Puts the reasons of `all` into the parts of `answer` with the same names.
fn give_reasons(answer: &mut Value, all: &Value) {
    for of in answer.as_array_mut().into_iter().flatten() {
        let known = all.as_array().into_iter().flatten().find(|known| known["name"] == of["name"]);
        if let Some(reason) = known.map(|known| &known["reason"]).filter(|reason| !reason.is_null()) {
            of["reason"] = reason.clone();
        }
    }
}

fn whole(answer: &Value) -> String {
    let of = |name: &str| shown(&answer[name]);
    let rows = [
        ("ready", yes_or_no(&answer["ready"]).to_owned()),
        ("healthy", yes_or_no(&answer["healthy"]).to_owned()),
        ("version", of("version")),
        ("up for", age(&answer["uptime_seconds"])),
        ("shards", format!("{} ({})", of("shards"), of("io"))),
        ("connections", format!("{} ({} not read)", of("connections"), of("paused_connections"))),
        ("sessions", of("sessions")),
        ("subscriptions", format!("{} ({} shares)", of("subscriptions"), of("shares"))),
        ("retained messages", of("retained_messages")),
        ("queued messages", of("queued_messages")),
        ("unacknowledged messages", of("unacknowledged_messages")),
    ];
    let mut out = table(&rows.map(|(name, value)| [name.to_owned(), value]));
    if !answer["reason"].is_null() {
        out += &format!("not healthy: {}\n", of("reason"));
    }
    for (parts, part) in PARTS {
        let all = answer[parts].as_array().map(Vec::as_slice).unwrap_or_default();
        let bad: Vec<&Value> = all.iter().filter(|of| !GOOD.contains(&of["state"].as_str().unwrap_or(""))).collect();
        out += &format!("{parts}: {}, {} of them not running\n", all.len(), bad.len());
        for of in bad {
            let reason = if of["reason"].is_null() { String::new() } else { format!(": {}", shown(&of["reason"])) };
            out += &format!("{part} {} is {}{reason}\n", text(&of["name"]), text(&of["state"]));
        }
    }
    out
}

/// The log level, set first if one is named.
///
/// # Errors
/// As [`status`].
pub fn log_level(options: &LogLevelArgs) -> Result<String, String> {
    const PATH: &str = "/api/v1/log-level";
    let answer = match &options.level {
        None => get(&options.from, PATH)?,
        Some(level) => {
            let body = json!({ "level": level }).to_string();
            change(&options.from, "PUT", PATH, Some(("application/json", &body)))?
        }
    };
    Ok(if options.from.json { format!("{answer:#}\n") } else { format!("{}\n", text(&answer["level"])) })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Finding Q37: the reasons of sources and bridges are printed, not only where they are found.
    #[test]
    fn finding_q37_reasons_are_those_of_the_lists() {
        let mut answer = json!([{ "name": "p", "state": "refused", "reason": "`forebay bridges p` has the reason" },
            { "name": "q", "state": "connecting", "reason": "x" }]);
        give_reasons(
            &mut answer,
            &json!([{ "name": "p", "reason": "not authorised" }, { "name": "q", "reason": null }]),
        );
        assert_eq!((&answer[0]["reason"], &answer[1]["reason"]), (&json!("not authorised"), &json!("x")));
    }

    #[test]
    fn what_does_not_run_is_named_with_its_reason() {
        let answer = json!({
            "ready": true, "healthy": true, "reason": null, "uptime_seconds": 61, "version": "1",
            "sinks": [{ "name": "all", "state": "running", "reason": null }, { "name": "two", "state": "stalled", "reason": "no\nleader" }],
            "sources": [{ "name": "s", "state": "running", "reason": null }], "bridges": [],
            "rules": [{ "name": "hot", "state": "disabled", "reason": null }],
        });
        let text = whole(&answer);
        assert!(text.contains("sinks: 2, 1 of them not running\nsink two is stalled: no\u{FFFD}leader\n"), "{text}");
        assert!(text.contains("sources: 1, 0 of them not running\nrules: 1, 1 of them not running\nrule hot is disabled\nbridges: 0, 0"), "{text}");
        assert!(text.contains("up for                   1 min 1 s\n"), "{text}");
    }
}
