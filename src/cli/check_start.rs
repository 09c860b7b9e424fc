//! What `forebay check` says by the start's own code: files that a start reads, and how much memory what is configured may take.

use std::fs;

use super::check::{Line, Verdict};
use super::edge;
use super::run::tokens;
use crate::config::{ApiAccess, Config};
use crate::metrics::process::kib;

/// What a start reads before it serves.
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

/// What else a start would refuse, where the lines say nothing of it.
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

/// Bytes that what is configured may take at most, but for connections.
fn wanted(config: &Config) -> u64 {
    let records: u64 = config.clusters.iter().map(|cluster| cluster.buffer_bytes).sum();
    records.saturating_add(config.retained.bytes_max as u64)
}

/// The memory that the process may take, in bytes, and what sets it: the control group, or the machine.
fn memory() -> Option<(u64, &'static str)> {
    let machine = fs::read_to_string("/proc/meminfo").ok().and_then(|text| total(&text));
    let own = fs::read_to_string("/proc/self/cgroup").ok();
    let own = own.as_deref().and_then(|text| text.lines().find_map(|line| line.strip_prefix("0::/")));
    // In a container its own group is the root.
    let groups = own.into_iter().flat_map(|own| {
        let path = std::path::Path::new("/sys/fs/cgroup").join(own);
        path.ancestors()
            .take_while(|path| path.starts_with("/sys/fs/cgroup"))
            .map(|path| path.join("memory.max"))
            .collect::<Vec<_>>()
    });
    let limit = groups.filter_map(|file| fs::read_to_string(file).ok()?.trim().parse().ok()).min();
    let limit = limit.map(|bytes: u64| (bytes, "its control group has"));
    limit.into_iter().chain(machine.map(|bytes| (bytes, "this machine has"))).min()
}

/// Of `/proc/meminfo`, in bytes.
fn total(meminfo: &str) -> Option<u64> {
    kib(meminfo, "MemTotal:")?.checked_mul(1_024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_memory_of_the_machine_is_read() {
        assert_eq!(total("MemTotal:       16384 kB\nMemFree:  1 kB\n"), Some(16 << 20));
        assert!(memory().is_some_and(|(bytes, _)| bytes > 1 << 20));
    }
}
