//! Logs: `tracing` to standard error through a writer thread, as text or JSON. Nothing is logged per message.

use std::sync::OnceLock;

use tracing_appender::non_blocking::{ErrorCounter, WorkerGuard};
use tracing_subscriber::EnvFilter;

/// How lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// The writer's own count.
static DROPPED: OnceLock<ErrorCounter> = OnceLock::new();

/// Lines that were lost because the writer could not keep up: nobody waits for it.
#[must_use]
pub fn lines_dropped() -> u64 {
    DROPPED.get().map_or(0, |counter| counter.dropped_lines() as u64)
}

/// Starts logging. Keep the guard: dropping it writes out what is queued.
///
/// `level` is a tracing filter such as `info` or `forebay=debug`; `FOREBAY_LOG`, if set, goes before it.
///
/// # Errors
/// The filter's text, if it cannot be read.
pub fn start(format: Format, level: &str) -> Result<WorkerGuard, String> {
    let wish = std::env::var("FOREBAY_LOG").unwrap_or_else(|_| level.to_owned());
    let filter = EnvFilter::try_new(&wish).map_err(|error| format!("log level {wish:?}: {error}"))?;
    let (writer, guard) = tracing_appender::non_blocking(std::io::stderr());
    // Logging starts once in a process; a second start would have failed below.
    let _ = DROPPED.set(writer.error_counter());
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(writer).with_ansi(false);
    match format {
        Format::Text => builder.with_target(false).init(),
        Format::Json => builder.json().flatten_event(true).init(),
    }
    Ok(guard)
}
