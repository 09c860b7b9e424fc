//! `forebay events --follow`: the stream of events of a running service, a line each as they happen.

use std::io::{self, BufRead as _, BufReader, Write as _};
use std::time::Duration;

use serde_json::Value;

use super::args::EventsArgs;
use super::ask::{self, TIMEOUT};
use super::endpoint::Endpoint;

/// How long the stream may be silent: the service sends a comment every 15 s where there is no event.
const SILENCE_MAX: Duration = Duration::from_secs(60);

/// Prints events until the service or the reader of the output goes away.
///
/// # Errors
/// The reason why there is no stream, or why it ended.
pub fn events(options: &EventsArgs) -> Result<String, String> {
    let endpoint = Endpoint::of(&options.from)?;
    let unanswered = |error: io::Error| endpoint.unanswered(&error);
    let mut stream = endpoint.connect(TIMEOUT, SILENCE_MAX).map_err(unanswered)?;
    stream
        .write_all(ask::request(&endpoint, "GET", &ask::events_path(options, "/stream"), None).as_bytes())
        .map_err(unanswered)?;
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
            Ok(event) if !options.from.json => ask::event_line(&event),
            _ => format!("{data}\n"),
        };
        let mut out = io::stdout().lock();
        if out.write_all(shown.as_bytes()).and_then(|()| out.flush()).is_err() {
            return Ok(String::new());
        }
    }
    Err(format!("{endpoint}: the service has ended the stream"))
}
