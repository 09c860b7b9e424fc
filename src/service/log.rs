//! Logs: `tracing` to standard error through a writer thread, as text or JSON. Nothing is logged per message.

use tracing_appender::non_blocking::WorkerGuard;
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
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(writer).with_ansi(false);
    match format {
        Format::Text => builder.with_target(false).init(),
        Format::Json => builder.json().flatten_event(true).init(),
    }
    Ok(guard)
}
