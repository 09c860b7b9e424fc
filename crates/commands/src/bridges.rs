//! `forebay bridges`: the bridges of a running service, one bridge with its remote's grants and its filters, and the actions on it.

use serde_json::Value;

use super::args::{BridgeAction, BridgesArgs};
use super::ask::{get, said, segment, shown, table, text};
use super::lists::{age, oldest, yes_or_no};
use super::part::{How, change};
use super::sources::{findings, trial};

const BRIDGES: [&str; 9] =
    ["BRIDGE", "STATE", "FOR", "REMOTE", "RECEIVED", "QUEUED", "UNACKNOWLEDGED", "OLDEST", "DESCRIPTION"];
const FILTERS: [&str; 5] = ["IN", "FILTER", "STATE", "QOS", "GRANTED"];

/// Shows bridges or one of them, or acts on one. Returns the text, and whether all is well.
///
/// # Errors
/// Why there is no answer, with the address.
pub fn bridges(options: &BridgesArgs) -> Result<(String, bool), String> {
    let path = match &options.name {
        None => "/api/v1/bridges".to_owned(),
        Some(name) => format!("/api/v1/bridges/{}", segment(name)),
    };
    if let Some(action) = options.action {
        let how = match action {
            BridgeAction::Pause => How::Pause,
            BridgeAction::Resume => How::Resume,
            BridgeAction::Put => How::Put,
            BridgeAction::Delete => How::Delete { discard: options.discard },
            BridgeAction::Test => return trial(&options.from, &format!("{path}/test"), findings),
        };
        return change(&options.from, &options.change, &path, how).map(|text| (text, true));
    }
    let answer = get(&options.from, &path)?;
    let text = match &options.name {
        _ if options.from.json => format!("{answer:#}\n"),
        None => list(items(&answer["bridges"])),
        Some(_) => one(&answer),
    };
    Ok((text, true))
}

fn items(list: &Value) -> &[Value] {
    list.as_array().map(Vec::as_slice).unwrap_or_default()
}

/// Bridges, a line each, with the reason why one is not connected.
fn list(bridges: &[Value]) -> String {
    let head = [BRIDGES.map(str::to_owned)];
    let mut out = table(&head.into_iter().chain(bridges.iter().map(row)).collect::<Vec<_>>());
    bridges.iter().for_each(|bridge| out += &reason(bridge));
    out
}

fn row(bridge: &Value) -> [String; 9] {
    let of = |name: &str| text(&bridge[name]);
    [
        of("name"),
        of("state"),
        age(&bridge["since_seconds"]),
        of("remote"),
        of("received"),
        of("queued_messages"),
        of("unacknowledged_messages"),
        oldest(bridge),
        said(&bridge["description"]).unwrap_or_default(),
    ]
}

/// A line with the reason why a bridge is not connected, if there is one. The remote may have chosen the text.
fn reason(bridge: &Value) -> String {
    if bridge["reason"].is_null() {
        return String::new();
    }
    format!("{}: {}\n", text(&bridge["name"]), shown(&bridge["reason"]))
}

/// One bridge.
fn one(bridge: &Value) -> String {
    let mut out = list(std::slice::from_ref(bridge));
    let trouble = &bridge["last_trouble"];
    if !trouble.is_null() {
        out += &format!("last trouble, {} ago: {}\n", age(&trouble["age_seconds"]), shown(&trouble["reason"]));
    }
    let filters = items(&bridge["in"]).iter().flat_map(|of| items(&of["filters"]).iter().map(move |row| (of, row)));
    let row = |(of, filter): (&Value, &Value)| {
        let state = match said(&filter["reason"]) {
            Some(why) => format!("refused: {why}"),
            None => text(&filter["state"]),
        };
        let granted = shown(&filter["granted_qos"]);
        [text(&of["name"]), shown(&filter["filter"]), state, text(&filter["qos"]), granted]
    };
    let rows: Vec<_> = [FILTERS.map(str::to_owned)].into_iter().chain(filters.map(row)).collect();
    if rows.len() > 1 {
        out += &format!("\n{}", table(&rows));
    }
    let outs = items(&bridge["out"]).iter().flat_map(|of| items(&of["filters"]).iter().map(move |row| (of, row)));
    let rows = outs.map(|(of, filter)| [text(&of["name"]), shown(filter)]);
    let rows: Vec<_> = [["OUT".to_owned(), "FILTER".to_owned()]].into_iter().chain(rows).collect();
    if rows.len() > 1 {
        out += &format!("\n{}", table(&rows));
    }
    if !bridge["granted"].is_null() {
        out += &format!("\n{}", granted(&bridge["granted"]));
    }
    out
}

/// The grants of the remote.
fn granted(of: &Value) -> String {
    let or = |name: &str, none: &str| if of[name].is_null() { none.to_owned() } else { text(&of[name]) };
    let rows = [
        ("granted by the remote", String::new()),
        ("protocol", or("protocol", "-")),
        ("takes us for a broker", yes_or_no(&of["bridge"]).to_owned()),
        ("had the session", yes_or_no(&of["session_present"]).to_owned()),
        (
            "keeps the session",
            of["session_expiry_seconds"]
                .as_u64()
                .map_or("for ever, or not said".to_owned(), |_| age(&of["session_expiry_seconds"])),
        ),
        ("keep-alive", age(&of["keep_alive_seconds"])),
        ("unacknowledged messages", or("unacknowledged_messages_max", "-")),
        ("QoS", or("maximum_qos", "-")),
        ("bytes of a packet", or("packet_bytes_max", "not said")),
        ("RETAIN", yes_or_no(&of["retain_available"]).to_owned()),
        ("wildcards", yes_or_no(&of["wildcard_subscriptions_available"]).to_owned()),
        ("shared subscriptions", yes_or_no(&of["shared_subscriptions_available"]).to_owned()),
    ];
    table(&rows.map(|(name, value)| [name.to_owned(), value]))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn bridge() -> Value {
        json!({
            "name": "plant", "description": null, "remote": "broker:1883", "state": "partial", "since_seconds": 75,
            "reason": "the remote refuses \u{1b}x", "last_trouble": { "reason": "gone\n", "age_seconds": 80 },
            "received": 7, "queued_messages": 3, "unacknowledged_messages": 1, "oldest_queued_seconds": 9,
            "oldest_unacknowledged_seconds": null,
        })
    }

    #[test]
    fn a_remote_cannot_move_the_cursor() {
        let text = list(&[bridge()]);
        assert_eq!(text.lines().count(), 3, "{text}");
        assert!(text.ends_with("plant: the remote refuses \u{FFFD}x\n"), "{text}");
        assert!(
            text.contains("plant   partial  1 min 15 s  broker:1883  7         3       1               9 s"),
            "{text}"
        );
        assert_eq!(list(&[]).lines().count(), 1);
    }

    #[test]
    fn one_has_its_filters_and_what_is_granted() {
        let mut one_bridge = bridge();
        let refused =
            json!({ "filter": "b", "state": "refused", "qos": 2, "granted_qos": null, "reason": "Not authorized" });
        let is_granted = json!({ "filter": "a/#", "state": "granted", "qos": 2, "granted_qos": 1, "reason": null });
        one_bridge["in"] = json!([{ "name": "0", "filters": [is_granted, refused] }]);
        one_bridge["out"] = json!([{ "name": "alarms", "filters": ["alarm/#"] }]);
        let text = one(&one_bridge);
        assert!(text.contains("last trouble, 1 min 20 s ago: gone\u{FFFD}\n"), "{text}");
        assert!(text.contains("0   a/#     granted                  2    1\n"), "{text}");
        assert!(text.contains("0   b       refused: Not authorized  2    -\n"), "{text}");
        assert!(text.contains("alarms  alarm/#\n") && !text.contains("granted by the remote"), "{text}");
        one_bridge["granted"] =
            json!({ "protocol": "5.0", "session_present": true, "keep_alive_seconds": 60, "maximum_qos": 1 });
        let text = one(&one_bridge);
        for line in [
            "protocol                 5.0\n",
            "had the session          yes\n",
            "keep-alive               1 min\n",
            "bytes of a packet        not said\n",
        ] {
            assert!(text.contains(line), "{line} {text}");
        }
    }
}
