//! Streams of a running service, a line for each event as it happens: `forebay events --follow`, and others.

use std::io::{self, BufRead as _, BufReader, Write as _};
use std::time::Duration;

use serde_json::Value;

use super::args::{AskArgs, EventsArgs};
use super::ask::{self, TIMEOUT};
use super::endpoint::Endpoint;
use super::out;

/// The longest silence of a stream: the service sends a comment every 15 s without an event.
const SILENCE_MAX: Duration = Duration::from_secs(60);

/// The side that has ended a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Ended {
    /// The reader of the output.
    Reader,
    /// The service at this address.
    Service(String),
}

/// Prints events until the service or the reader of the output goes away.
///
/// # Errors
/// Why there is no stream, or why it ended.
pub fn events(options: &EventsArgs) -> Result<String, String> {
    match stream(&options.from, &ask::events_path(options, "/stream"), ask::event_line)? {
        Ended::Reader => Ok(String::new()),
        Ended::Service(address) => Err(format!("{address}: the service has ended the stream")),
    }
}

/// Prints a line for each event of a stream.
///
/// # Errors
/// Why there is no stream, or why it broke off.
pub(super) fn stream(from: &AskArgs, path: &str, line_of: impl Fn(&Value) -> String) -> Result<Ended, String> {
    let endpoint = Endpoint::of(from)?;
    let unanswered = |error: io::Error| endpoint.unanswered(&error);
    let mut stream = endpoint.connect(TIMEOUT, SILENCE_MAX).map_err(unanswered)?;
    stream.write_all(ask::request(&endpoint, "GET", path, None).as_bytes()).map_err(unanswered)?;
    let mut lines = BufReader::new(stream).lines();
    let head = lines.next().transpose().map_err(unanswered)?.unwrap_or_default();
    if head.contains(" 401 ") {
        return Err(endpoint.token_needed());
    }
    if !head.contains(" 200 ") {
        let body = lines.map_while(Result::ok).last().unwrap_or_default();
        let problem: Value = serde_json::from_str(&body).unwrap_or_default();
        return Err(problem["detail"].as_str().map_or_else(|| format!("{endpoint}: {head}"), str::to_owned));
    }
    for line in lines {
        let line = line.map_err(unanswered)?;
        let Some(data) = line.strip_prefix("data: ") else { continue };
        let shown = match serde_json::from_str::<Value>(data) {
            Ok(event) if !from.json => line_of(&event),
            _ => format!("{data}\n"),
        };
        if out::print(&shown).is_err() {
            return Ok(Ended::Reader);
        }
    }
    Ok(Ended::Service(endpoint.to_string()))
}
