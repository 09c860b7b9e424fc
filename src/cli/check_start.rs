//! Checks for `forebay check` by the service's own code: the files that it reads when it starts, and the memory that the
//! configuration may take.

use super::check::{Line, Verdict};
use super::edge;
use super::run::tokens;
use crate::config::{ApiAccess, Config};
use crate::metrics::machine::memory;

/// Checks the files that the service reads before it serves.
pub(super) fn of_start(config: &Config, lines: &mut Vec<Line>) {
    let mut push = |verdict, about: &str, text| lines.push(Line { verdict, about: about.to_owned(), text });
    match (tokens(config), &config.control.access) {
        (Err(why), _) => push(Verdict::Problem, "control", why),
        (Ok(Some(tokens)), ApiAccess::Tokens(file)) => {
            let count = tokens.len();
            let text = format!("{}: {count} token{}", file.display(), if count == 1 { "" } else { "s" });
            push(Verdict::Ok, "control", text);
        }
        (Ok(_), _) => {}
    }
    let (wanted, has) = (wanted(config), memory());
    if let Some((has, whose)) = has.filter(|(has, _)| wanted > *has) {
        let mib = |bytes: u64| bytes >> 20;
        let text = format!(
            "buffers for records and retained messages may take {} MiB, more than {whose} ({} MiB): the process would be killed before \
             they are full; lower `buffer_bytes` of [kafka.NAME] and [embedded], or give it more memory",
            mib(wanted),
            mib(has)
        );
        push(Verdict::Warning, "memory", text);
    }
}

/// Reports any other reason that would keep the service from starting, without a line of its own.
pub(super) fn of_rest(config: &Config, lines: &mut Vec<Line>) {
    if lines.iter().all(|line| line.verdict < Verdict::Problem)
        && let Err(problems) = edge::load(config)
    {
        lines.extend(problems.into_iter().map(|text| Line {
            verdict: Verdict::Problem,
            about: "files".to_owned(),
            text,
        }));
    }
}

/// The most bytes that the configuration may take, connections not counted.
fn wanted(config: &Config) -> u64 {
    let records: u64 = config.clusters.iter().map(|cluster| cluster.buffer_bytes).sum();
    records.saturating_add(config.retained.bytes_max as u64)
}
