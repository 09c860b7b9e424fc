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
    if let Some(text) = beyond_memory(config, memory()) {
        push(Verdict::Warning, "memory", text);
    }
}

/// The warning about a configuration that may take more memory than there is. `has`: the bytes, and the words for their owner.
pub(super) fn beyond_memory(config: &Config, has: Option<(u64, &str)>) -> Option<String> {
    let wanted = wanted(config);
    let (has, whose) = has.filter(|(has, _)| wanted > *has)?;
    let mib = |bytes: u64| bytes >> 20;
    Some(format!(
        "buffers for records and retained messages may take {} MiB, more than {whose} ({} MiB): the process would be killed before they are \
         full; lower `buffer_bytes` of [kafka.NAME] and [embedded], or give it more memory",
        mib(wanted),
        mib(has)
    ))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finding_q37_buffers_beyond_the_memory_are_told() {
        let text = "[kafka.main]\nbootstrap = 'k:1'\nbuffer_bytes = '900GiB'\n[[sink]]\nname = 's'\nfilters = '#'\ntopic = 't'\n";
        let config = crate::config::parse(text, "test").expect("a configuration");
        let told = |has| beyond_memory(&config, Some((has, "this machine has")));
        assert!(told(23 << 30).is_some_and(|text| text.contains("more than this machine has (23552 MiB)")));
        assert_eq!((told(1 << 40), beyond_memory(&config, None)), (None, None));
    }
}
