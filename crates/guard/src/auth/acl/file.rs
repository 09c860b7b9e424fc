//! Access control lists in mosquitto's format: `user NAME`, `topic [read|write|readwrite|deny|replay] FILTER`,
//! `pattern [read|write|readwrite|deny|replay] FILTER`, and comments. `replay` is our own. Files are read as mosquitto reads
//! them, but for a `%c` or `%u` that is not a whole level: mosquitto documents that it has to be one, and substitutes the name
//! all the same.

use super::super::problems::Problems;
use super::{Acl, Grant, Rule, Rules};
use forebay_mqtt::topic;

pub(super) fn parse(text: &str) -> Result<Acl, Vec<String>> {
    let mut acl = Acl::default();
    let mut user: Option<&str> = None;
    let mut problems = Problems::default();
    for (number, line) in (1_u32..).zip(text.lines()) {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        let rest = rest.trim();
        match word {
            "user" if rest.is_empty() => problems.add(number, "has no user name"),
            "user" => {
                user = Some(rest);
                // The user is known, with no rules yet.
                acl.users.entry(rest.into()).or_default();
            }
            "topic" | "pattern" => {
                let is_pattern = word == "pattern";
                let granted =
                    granted(rest).and_then(|(grant, filter)| check(filter, is_pattern).map(|()| (grant, filter)));
                let (grant, filter) = match granted {
                    Ok(granted) => granted,
                    Err(why) => {
                        problems.add(number, why);
                        continue;
                    }
                };
                let rule = Rule { grant, filter: filter.into(), is_pattern, line: number, text: line.into() };
                let rules = match user {
                    _ if is_pattern => &mut acl.patterns,
                    Some(user) => acl.users.entry(user.into()).or_default(),
                    None => &mut acl.anonymous,
                };
                rules.add(rule);
            }
            _ => problems.add(number, format!("begins with {word:?}: `user`, `topic` and `pattern` are known")),
        }
    }
    problems.or(acl)
}

impl Rules {
    fn add(&mut self, rule: Rule) {
        let list = if rule.grant == Grant::Deny { &mut self.denials } else { &mut self.grants };
        list.push(rule);
    }
}

/// Parses the rest of a line after `topic` or `pattern`: an access and a filter, or a filter alone, which may have spaces only
/// after an access.
fn granted(rest: &str) -> Result<(Grant, &str), String> {
    let (first, filter) = match rest.split_once(' ') {
        Some((first, filter)) => (Some(first), filter.trim()),
        None => (None, rest),
    };
    let grant = match first {
        None => Grant::ReadWrite,
        Some("read") => Grant::Read,
        Some("write") => Grant::Write,
        Some("readwrite") => Grant::ReadWrite,
        Some("deny") => Grant::Deny,
        Some("replay") => Grant::Replay,
        Some(other) => {
            return Err(format!("has the access {other:?}: read, write, readwrite, deny and replay are known"));
        }
    };
    if filter.is_empty() { Err("has no topic".to_owned()) } else { Ok((grant, filter)) }
}

pub(super) fn check(filter: &str, is_pattern: bool) -> Result<(), String> {
    if !topic::valid_filter(filter) {
        return Err(format!("has {filter:?}, which is no valid topic filter"));
    }
    let in_part = |level: &str| !matches!(level, "%c" | "%u") && (level.contains("%c") || level.contains("%u"));
    if is_pattern && filter.split('/').any(in_part) {
        return Err("has a %c or %u that is only a part of a level: it must be the whole of it".to_owned());
    }
    Ok(())
}
