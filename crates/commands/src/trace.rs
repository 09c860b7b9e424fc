//! `forebay trace`: the packets of a client, or the messages of a topic, a line each as they come.

use serde_json::{Value, json};

use super::args::TraceArgs;
use super::ask::{change, get, post, shown, table, text};
use super::follow;

/// Begins a trace and follows it until it is over or interrupted; or lists traces, or ends one.
///
/// # Errors
/// Why there is no answer, with the address.
pub fn trace(options: &TraceArgs) -> Result<String, String> {
    let TraceArgs { from, client, auth, topic, end, seconds } = options;
    if let Some(id) = end {
        return change(from, "DELETE", &format!("/api/v1/traces/{id}"), None).map(|_| "ended\n".to_owned());
    }
    if client.is_none() && topic.is_none() {
        let answer = get(from, "/api/v1/traces")?;
        return Ok(if from.json { format!("{answer:#}\n") } else { list(&answer) });
    }
    let wanted = json!({ "client_id": client, "auth": auth, "filter": topic, "seconds": seconds });
    let begun = post(from, "/api/v1/traces", &wanted)?;
    // The trace ends with this process.
    let path = format!("/api/v1/traces/{}/stream?end=true", text(&begun["id"]));
    match follow::stream(from, &path, line)? {
        follow::Ended::Reader => Ok(String::new()),
        follow::Ended::Service(_) => Ok("the trace is over\n".to_owned()),
    }
}

/// Traces, a line each.
fn list(answer: &Value) -> String {
    const HEAD: [&str; 6] = ["TRACE", "CLIENT", "TOPIC", "SECONDS LEFT", "PACKETS", "LEFT OUT"];
    let row = |trace: &Value| {
        let of = |name: &str| shown(&trace[name]);
        [of("id"), of("client_id"), of("filter"), of("seconds_left"), of("packets"), of("left_out")]
    };
    let rows = answer["traces"].as_array().map(Vec::as_slice).unwrap_or_default();
    table(&[HEAD.map(str::to_owned)].into_iter().chain(rows.iter().map(row)).collect::<Vec<_>>())
}

/// A packet as a line of text.
fn line(packet: &Value) -> String {
    let arrow = if packet["direction"] == "out" { "<-" } else { "->" };
    let mut line =
        format!("{} {} {arrow} {}", text(&packet["at"]), shown(&packet["client_id"]), text(&packet["packet"]));
    let mut add = |name: &str, value: &Value| {
        if !value.is_null() && *value != "" {
            line += &format!(" {name}{}", shown(value));
        }
    };
    add("#", &packet["packet_id"]);
    add("", &packet["topic"]);
    if packet["reason_code"].as_u64().is_some_and(|code| code > 0) {
        add("", &packet["reason"]);
    }
    add("", &packet["details"]);
    add("", &packet["properties"]);
    add("", &packet["payload"]);
    add("base64:", &packet["payload_base64"]);
    if let (Some(bytes), Some(text)) = (packet["payload_bytes"].as_u64(), packet["payload"].as_str())
        && text.len() as u64 != bytes
    {
        line += &format!(" … ({bytes} bytes)");
    }
    line + "\n"
}
