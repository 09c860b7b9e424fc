//! Checks of this host for `forebay check`: the conditions that `forebay run` needs before it serves. Folders are probed with a
//! file that is removed at once; nothing else is written.

use std::path::Path;

use super::check::{Line, Verdict};
use crate::config::{Config, Embedded, Sink};
use crate::runtime::{self, IoDriver};
use crate::service::dead_letters::may_write;
use crate::service::log;
use crate::service::preflight::{Finding, Host, IoChoice};

/// This host, the I/O driver of its shards, and the findings about it.
pub(super) fn examine(config: &Config) -> (Host, IoDriver, Vec<Finding>) {
    let choice = config.service.io;
    // With `epoll` no ring is tried: some hosts report processes that try.
    let ring = if choice == IoChoice::Epoll { Ok(()) } else { runtime::probe() };
    let host = Host::read(ring.map_err(|error| error.to_string()));
    let verdict = host.examine(config.service.shards, choice);
    let io = if verdict.uses_ring { IoDriver::Ring } else { IoDriver::Epoll };
    (host, io, verdict.findings)
}

/// The kernel, its limits and the directories.
pub(super) fn of_host(config: &Config, lines: &mut Vec<Line>) {
    let mut push = |verdict, about: &str, text| lines.push(Line { verdict, about: about.to_owned(), text });
    let (host, io, findings) = examine(config);
    for finding in &findings {
        push(if finding.fatal { Verdict::Problem } else { Verdict::Warning }, "host", finding.to_string());
    }
    if findings.is_empty() {
        let text = match io {
            IoDriver::Ring => format!("Linux {}: io_uring, locked memory and open files are sufficient", host.release),
            IoDriver::Epoll => format!("Linux {}: epoll (`service.io`) and open files are sufficient", host.release),
        };
        push(Verdict::Ok, "host", text);
    }
    let (verdict, text) = folder("service.data_dir", &config.service.data_dir);
    push(verdict, "data directory", text);
    if let Some(embedded) = &config.embedded {
        let (verdict, text) = folder("embedded.dir", &embedded.dir);
        push(verdict, "embedded log", text);
    }
}

/// Checks the log filter: the service does not run with a wrong one.
pub(super) fn of_log(config: &Config, lines: &mut Vec<Line>) {
    if let Err(why) = log::check(config.log.level.as_str()) {
        lines.push(Line { verdict: Verdict::Problem, about: "log".to_owned(), text: why });
    }
}

fn folder(key: &str, dir: &Path) -> (Verdict, String) {
    let shown = dir.display();
    if dir.exists() && !dir.is_dir() {
        return (Verdict::Problem, format!("{shown} is not a directory; {key} names the directory"));
    }
    match may_write(&dir.join("probe")) {
        Ok(()) if dir.exists() => (Verdict::Ok, format!("{shown} is writable")),
        Ok(()) => (Verdict::Ok, format!("{shown} does not exist; the service creates it")),
        Err(error) => (Verdict::Problem, format!("{shown} cannot be written: {error}; {key} names another directory")),
    }
}

/// Checks a sink's topic in the embedded log while that is not running: its first message creates it, or it exists already.
pub(super) fn topic_at_rest(sink: &Sink, embedded: &Embedded) -> (Verdict, String) {
    let Some(topic) = sink.topic.as_literal() else {
        return if embedded.auto_create_topics {
            (Verdict::Ok, "its topic depends on the message; the embedded log creates missing topics".to_owned())
        } else {
            let text = "its topic depends on the message, and the embedded log creates none (auto_create_topics = false): \
                        each topic must be created before its first message";
            (Verdict::Warning, text.to_owned())
        };
    };
    if embedded.dir.join("topics").join(format!("{topic}.json")).exists() {
        return (Verdict::Ok, format!("topic {topic} exists in the embedded log"));
    }
    if embedded.auto_create_topics {
        return (Verdict::Ok, format!("topic {topic} is missing; the embedded log creates it with its first message"));
    }
    let text = format!(
        "topic {topic} is missing, and the embedded log creates none (auto_create_topics = false); start the service, then \
         `forebay topics create` creates it"
    );
    (Verdict::Problem, text)
}
