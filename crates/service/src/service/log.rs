//! Logs: `tracing` to standard error through a writer thread, as text or JSON. Nothing is logged per message.

use std::sync::OnceLock;

use tracing_appender::non_blocking::{ErrorCounter, WorkerGuard};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{Layer as _, Registry, fmt, reload};

/// The variable that overrides `log.level`, a filter such as `info,forebay::kafka=debug`.
pub const FILTER_VARIABLE: &str = "FOREBAY_LOG";

/// The form of the lines.
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
/// The filter in force.
static FILTER: OnceLock<reload::Handle<Targets, Registry>> = OnceLock::new();

/// The number of lines that were lost because the writer could not keep up: no thread waits for it.
#[must_use]
pub fn lines_dropped() -> u64 {
    DROPPED.get().map_or(0, |counter| counter.dropped_lines() as u64)
}

/// The filter in force, as text; empty before logging has started.
#[must_use]
pub fn level() -> String {
    let handle = FILTER.get();
    handle.and_then(|handle| handle.with_current(ToString::to_string).ok()).unwrap_or_default()
}

/// Changes the filter until the next change, whatever `FOREBAY_LOG` says: an operator asks for it by name.
///
/// # Errors
/// The filter cannot be read, or logging has not started.
pub fn override_level(level: &str) -> Result<(), String> {
    replace(parse(level)?)
}

/// Starts logging. Keep the guard: dropping it writes out what is queued.
///
/// `level` is a filter such as `info` or `info,forebay::kafka=debug`; `FOREBAY_LOG`, if set, overrides it.
///
/// # Errors
/// The filter cannot be read: see [`check`].
pub fn start(format: Format, level: &str) -> Result<WorkerGuard, String> {
    let (filter, handle) = reload::Layer::new(effective(level)?);
    let (writer, guard) = tracing_appender::non_blocking(std::io::stderr());
    // Logging starts once in a process; a second start fails in `init`.
    let _ = (DROPPED.set(writer.error_counter()), FILTER.set(handle));
    let lines = fmt::layer().with_writer(writer).with_ansi(false).log_internal_errors(false);
    let lines = match format {
        Format::Text => lines.with_target(false).boxed(),
        Format::Json => lines.json().flatten_event(true).boxed(),
    };
    tracing_subscriber::registry().with(filter).with(lines).init();
    Ok(guard)
}

/// Changes the filter of a running service. `FOREBAY_LOG` still overrides it.
///
/// # Errors
/// The filter cannot be read, or logging has not started.
pub fn set_level(level: &str) -> Result<(), String> {
    replace(effective(level)?)
}

fn replace(filter: Targets) -> Result<(), String> {
    let handle = FILTER.get().ok_or("logging has not started")?;
    handle.reload(filter).map_err(|error| error.to_string())
}

/// Checks that a service with this level could start logging.
///
/// # Errors
/// The filter and what is wrong with it.
pub fn check(level: &str) -> Result<(), String> {
    effective(level).map(drop)
}

/// Whether `FOREBAY_LOG` overrides `log.level`.
#[must_use]
pub fn is_overridden() -> bool {
    std::env::var_os(FILTER_VARIABLE).is_some_and(|filter| !filter.is_empty())
}

fn effective(level: &str) -> Result<Targets, String> {
    match std::env::var(FILTER_VARIABLE).ok().filter(|filter| !filter.is_empty()) {
        Some(filter) => parse(&filter).map_err(|why| format!("{FILTER_VARIABLE}: {why}")),
        None => parse(level).map_err(|why| format!("log level: {why}")),
    }
}

fn parse(filter: &str) -> Result<Targets, String> {
    let wrong = |what: &str| {
        format!(
            "\"{filter}\" is not a log filter: {what}; write a level (error, warn, info, debug, trace, off), or levels by \
             module, as in info,forebay::kafka=debug"
        )
    };
    // A bare word that is not a level would be taken for a module, and silence everything else.
    let level = |word: &str| ["error", "warn", "info", "debug", "trace", "off"].contains(&word.to_lowercase().as_str());
    let unknown = |part: &&str| !part.contains('=') && !level(part) && !part.contains("::") && *part != "forebay";
    if let Some(part) = filter.split(',').map(str::trim).find(unknown) {
        return Err(wrong(&format!("\"{part}\" is not a level")));
    }
    let directives: Vec<_> = filter.split(',').map(|part| in_crate(part.trim())).collect();
    directives.join(",").parse().map_err(|error: tracing_subscriber::filter::ParseError| wrong(&error.to_string()))
}

/// `SHARED` lists modules that share a crate, by the crate. `tests/layering.rs` holds it to the library's names.
const SHARED: &[(&str, &[&str])] = &[
    ("base", &["address", "files", "in_use", "limits", "rules"]),
    ("guard", &["auth", "bans", "edge", "outward", "secure"]),
    ("fleet", &["link", "membership", "replica", "trunk"]),
    ("service", &["service", "telemetry"]),
    ("mqtt", &["route"]),
];
/// `OWN` lists names that keep their path: modules of the program's own crate, and the target of events about connections.
const OWN: &[&str] = &["cli", "data_dir", "connections"];

/// `in_crate` replaces the name of a module by the path that events have: `forebay::kafka=debug` becomes `forebay_kafka=debug`. `forebay=debug` already
/// means all crates, because a filter matches every target that begins with it.
fn in_crate(directive: &str) -> String {
    let Some(path) = directive.strip_prefix("forebay::") else { return directive.to_owned() };
    let name = path.split([':', '=']).next().unwrap_or(path);
    if OWN.contains(&name) {
        return directive.to_owned();
    }
    match SHARED.iter().find(|(_, modules)| modules.contains(&name)) {
        Some((of, _)) => format!("forebay_{of}::{path}"),
        None => format!("forebay_{path}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tracing::Level;

    #[test]
    fn levels_and_modules_are_read() {
        let filter = parse("info,forebay::kafka=debug").unwrap();
        assert!(filter.would_enable("forebay_kafka::client", &Level::DEBUG));
        assert!(filter.would_enable("forebay_shard", &Level::INFO));
        assert!(!filter.would_enable("forebay_shard", &Level::DEBUG));
        assert!(!parse("off").unwrap().would_enable("forebay", &Level::ERROR));
        let all = parse("info,forebay=debug").unwrap();
        assert!(["forebay::cli::run", "forebay_shard"].iter().all(|of| all.would_enable(of, &Level::DEBUG)));
    }

    #[test]
    fn a_module_is_named_without_its_crate() {
        for (named, target) in [
            ("forebay::kafka::client=debug", "forebay_kafka::client::wire"),
            ("forebay::secure=debug", "forebay_guard::secure::http"),
            ("forebay::trunk=debug", "forebay_fleet::trunk"),
            ("forebay::service=debug", module_path!()),
            ("forebay::cli::run=debug", "forebay::cli::run::greeting"),
            ("forebay::connections=debug", "forebay::connections"),
        ] {
            let filter = parse(&format!("info,{named}")).unwrap();
            assert!(filter.would_enable(target, &Level::DEBUG), "{named}");
            assert!(!filter.would_enable("forebay_other", &Level::DEBUG), "{named}");
        }
    }

    #[test]
    fn what_is_not_a_filter_is_refused_by_name() {
        for filter in ["loud", "info,loud", "forebay=loud", "debug;info", ""] {
            let why = parse(filter).expect_err(filter);
            assert!(why.contains(&format!("\"{filter}\"")) && why.contains("info,forebay::kafka=debug"), "{why}");
        }
    }
}
