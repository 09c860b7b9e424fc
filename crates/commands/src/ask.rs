//! `forebay events`, and the requests to `/api/v1` of all commands that ask a running service.

use std::io::{self, Read as _, Write as _};
use std::time::Duration;

use serde_json::Value;

use super::args::{AskArgs, EventsArgs, ReloadArgs};
use super::endpoint::Endpoint;
use super::out::line;

/// Bound of each step: the service answers from memory.
pub(super) const TIMEOUT: Duration = Duration::from_secs(5);
/// Bound of the answer to a trial, which asks Kafka.
const TRIAL_TIMEOUT: Duration = Duration::from_secs(120);
/// The longest answer read, in bytes.
const ANSWER_BYTES_MAX: u64 = 64 << 20;
/// The type of a body.
const JSON: &str = "application/json";
/// The status of an answer without a body: success.
const NO_CONTENT: u16 = 204;
/// The status of an answer that asks for a token.
const UNAUTHORIZED: u16 = 401;
/// Fields of an event with a fixed place in its line.
const SHOWN: [&str; 6] = ["id", "at", "class", "severity", "kind", "message"];

/// Events, a line each, the oldest first.
///
/// # Errors
/// Why there is no answer, with the address.
pub fn events(options: &EventsArgs) -> Result<String, String> {
    let answer = get(&options.from, &events_path(options, ""))?;
    if options.from.json {
        return Ok(format!("{answer:#}\n"));
    }
    let mut events: Vec<&Value> = answer["events"].as_array().into_iter().flatten().collect();
    if options.since.is_none() {
        // The API returns the newest events first.
        events.reverse();
    }
    Ok(events.into_iter().map(event_line).collect())
}

/// The path of the wanted events; `below`: `/stream`, or nothing.
pub(super) fn events_path(options: &EventsArgs, below: &str) -> String {
    let EventsArgs { from_time, until, kind, class, severity, client, auth, sink, source, .. } = options;
    let mut path = format!("/api/v1/events{below}?limit={}", options.limit);
    if let Some(since) = options.since {
        path += &format!("&since={since}");
    }
    let texts = [("from", from_time), ("until", until), ("kind", kind), ("class", class), ("severity", severity)];
    for (name, value) in
        texts.into_iter().chain([("client", client), ("auth", auth), ("sink", sink), ("source", source)])
    {
        if let Some(value) = value {
            path += &format!("&{name}={}", escaped(value));
        }
    }
    path
}

/// An event as a line of text.
pub(super) fn event_line(event: &Value) -> String {
    let time = text(&event["at"]);
    let fields = event.as_object().into_iter().flatten().filter(|(name, _)| !SHOWN.contains(&name.as_str()));
    let fields: String = fields.map(|(name, value)| format!(" {}={}", line(name), text(value))).collect();
    let (severity, kind, message) = (text(&event["severity"]), text(&event["kind"]), text(&event["message"]));
    format!("{} {time} {severity:<5} {kind}: {message}{fields}\n", text(&event["id"]))
}

/// Has the service read its configuration file again. Returns the applied changes, and those that need a restart.
///
/// # Errors
/// Everything that is wrong with the file, or the reason why there is no answer.
pub fn reload(options: &ReloadArgs) -> Result<String, String> {
    let endpoint = Endpoint::of(&options.from)?;
    let path = if options.dry_run { "/api/v1/reload?dry_run=true" } else { "/api/v1/reload" };
    let answer = answered(&endpoint, exchange(&endpoint, "POST", path, None))?;
    Ok(if options.from.json { format!("{answer:#}\n") } else { changed(&answer, options.dry_run) })
}

/// The effects of a reload or a change, a line each.
pub(super) fn changed(answer: &Value, is_dry_run: bool) -> String {
    let mut out = String::new();
    let applied = if is_dry_run { "would be applied" } else { "applied" };
    let lists =
        [(applied, "applied"), ("needs a restart", "needs_restart"), ("also written", "also"), ("warning", "warnings")];
    for (what, name) in lists.into_iter().chain([("in force, not in the file", "not_in_file")]) {
        let items = answer[name].as_array().into_iter().flatten();
        items.for_each(|item| out += &format!("{what}: {}\n", text(item)));
    }
    let closes = if is_dry_run { "would be closed" } else { "closed" };
    for what in answer["closes"].as_array().into_iter().flatten() {
        out += &format!("{closes}: {}\n", text(what));
    }
    if let Some(count @ 1..) = answer["disconnected_clients"].as_u64() {
        let what = if is_dry_run { "would be disconnected" } else { "disconnected" };
        out += &format!("{what}: {count} client{}\n", if count == 1 { "" } else { "s" });
    }
    if out.is_empty() {
        out += "the configuration has not changed\n";
    }
    out
}

/// Whether the service accepts devices.
///
/// # Errors
/// Why it does not, or why there is no answer.
pub fn health(from: &AskArgs) -> Result<String, String> {
    let endpoint = Endpoint::of(from)?;
    let (status, body) = exchange(&endpoint, "GET", "/readyz", None).map_err(|error| endpoint.unanswered(&error))?;
    let state = line(body.trim());
    if status != 200 {
        return Err(format!("{endpoint}: not ready: {state}"));
    }
    Ok(if from.json { "{\"ready\":true}\n".to_owned() } else { "ready\n".to_owned() })
}

/// A string of an answer as a part of one line, anything else as JSON: see [`line()`].
#[must_use]
pub fn text(value: &Value) -> String {
    line(&value.as_str().map_or_else(|| value.to_string(), str::to_owned))
}

/// A string that is not there as `-`.
pub(super) fn shown(value: &Value) -> String {
    if value.is_null() { "-".to_owned() } else { text(value) }
}

/// A string of an answer, if there is one, as a part of one line.
#[must_use]
pub fn said(value: &Value) -> Option<String> {
    value.as_str().map(line)
}

/// Columns as wide as their widest cell.
#[must_use]
pub fn table<const N: usize>(rows: &[[String; N]]) -> String {
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or_default();
    let widths: [usize; N] = std::array::from_fn(width);
    let line = |row: &[String; N]| {
        let cells: String = row.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}  ")).collect();
        format!("{}\n", cells.trim_end())
    };
    rows.iter().map(line).collect()
}

/// A value in a query (RFC 3986, 3.4).
pub(super) fn escaped(value: &str) -> String {
    let byte = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => char::from(byte).to_string(),
        _ => format!("%{byte:02X}"),
    };
    value.bytes().map(byte).collect()
}

/// A name as a segment of a path. `.` and `..` would be resolved on the way (RFC 3986, 5.2.4): they are prefixed with `~`, and so
/// is a name that could be mistaken for a prefixed one.
pub(super) fn segment(name: &str) -> String {
    let is_step = matches!(name.trim_start_matches('~'), "." | "..");
    format!("{}{}", if is_step { "~" } else { "" }, escaped(name))
}

pub(super) fn get(from: &AskArgs, path: &str) -> Result<Value, String> {
    let endpoint = Endpoint::of(from)?;
    answered(&endpoint, exchange(&endpoint, "GET", path, None))
}

/// A GET with an answer that may take as long as Kafka does.
pub(super) fn get_slowly(from: &AskArgs, path: &str) -> Result<Value, String> {
    change(from, "GET", path, Some((JSON, "")))
}

/// Posts JSON. The answer may take as long as the trial of a cluster.
pub(super) fn post(from: &AskArgs, path: &str, body: &Value) -> Result<Value, String> {
    let endpoint = Endpoint::of(from)?;
    let body = body.to_string();
    answered(&endpoint, exchange(&endpoint, "POST", path, Some((JSON, &body))))
}

/// Sends a change.
pub(super) fn change(from: &AskArgs, method: &str, path: &str, body: Option<(&str, &str)>) -> Result<Value, String> {
    let endpoint = Endpoint::of(from)?;
    answered(&endpoint, exchange(&endpoint, method, path, body))
}

/// The JSON of an answer, or the error of its problem document.
fn answered(endpoint: &Endpoint, answer: io::Result<(u16, String)>) -> Result<Value, String> {
    let (status, body) = answer.map_err(|error| endpoint.unanswered(&error))?;
    if status == NO_CONTENT {
        return Ok(Value::Null);
    }
    let no_api = || format!("{endpoint}: this is not Forebay's control plane (status {status})");
    let answer: Value = serde_json::from_str(&body).map_err(|_| no_api())?;
    if status == UNAUTHORIZED {
        return Err(endpoint.token_needed());
    }
    match answer["detail"].as_str().filter(|_| answer["status"].is_u64()) {
        Some(error) => Err(by_command(error)),
        None if [200, 201].contains(&status) => Ok(answer),
        None => Err(no_api()),
    }
}

/// A problem of the API that names a list there, in the words of the command line: `/api/v1/sinks lists them`.
fn by_command(error: &str) -> String {
    let list = error.strip_suffix(" lists them").and_then(|rest| rest.rsplit_once("/api/v1/"));
    match list {
        Some((before, "traces")) => format!("{before}`forebay trace` lists them"),
        Some((before, list)) if !list.contains(['/', '?']) => format!("{before}`forebay {list}` lists them"),
        _ => error.to_owned(),
    }
}

/// A request with the endpoint's token, if there is one, and a body of a type.
pub(super) fn request(endpoint: &Endpoint, method: &str, path: &str, body: Option<(&str, &str)>) -> String {
    let token = endpoint.token().map(|token| format!("Authorization: Bearer {token}\r\n")).unwrap_or_default();
    let (kind, body) = body.unwrap_or((JSON, ""));
    let (host, length) = (endpoint.host(), body.len());
    format!(
        "{method} {path} HTTP/1.0\r\nHost: {host}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n{token}\r\n{body}"
    )
}

/// Sends a request and returns status and body. HTTP 1.0, so that the body is not chunked and ends with the connection (RFC 1945, 7.2.2).
fn exchange(endpoint: &Endpoint, method: &str, path: &str, body: Option<(&str, &str)>) -> io::Result<(u16, String)> {
    let is_long = body.is_some() || method != "GET";
    let mut stream = endpoint.connect(TIMEOUT, if is_long { TRIAL_TIMEOUT } else { TIMEOUT })?;
    stream.write_all(request(endpoint, method, path, body).as_bytes())?;
    let mut answer = Vec::new();
    stream.take(ANSWER_BYTES_MAX).read_to_end(&mut answer)?;
    let answer = String::from_utf8_lossy(&answer);
    let (head, body) = answer.split_once("\r\n\r\n").ok_or(io::ErrorKind::InvalidData)?;
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok()).ok_or(io::ErrorKind::InvalidData)?;
    Ok((status, body.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Finding Q37: a command names a command, not a path of the API.
    #[test]
    fn finding_q37_a_list_is_a_command() {
        assert_eq!(by_command("no sink \"x\"; /api/v1/sinks lists them"), "no sink \"x\"; `forebay sinks` lists them");
        assert_eq!(by_command("no sink"), "no sink");
    }

    #[test]
    fn names_that_no_path_can_have_have_a_tilde_before_them() {
        for (name, path) in
            [(".", "~."), ("..", "~.."), ("~.", "~~."), ("~~..", "~~~.."), ("...", "..."), ("a/..", "a%2F..")]
        {
            assert_eq!(segment(name), path);
        }
    }
}
