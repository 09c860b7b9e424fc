//! Whether a rule's filter matches a topic or a subscription. `%c` and `%u` are compared with one level; no filter is built from
//! names that a client has chosen.

use super::{Client, Rule};

/// The values of `%c` and `%u`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Names<'a> {
    pub(super) identity: Option<&'a str>,
    pub(super) client_id: &'a str,
}

impl<'a> Names<'a> {
    pub(super) fn of(client: Client<'a>) -> Self {
        Self { identity: client.identity, client_id: client.client_id }
    }
}

/// A level of a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Level<'a> {
    Text(&'a str),
    One,
    Rest,
    /// `%u` for a client without an identity: matches nothing.
    Nothing,
}

impl<'a> Level<'a> {
    fn of(level: &'a str) -> Self {
        match level {
            "+" => Self::One,
            "#" => Self::Rest,
            text => Self::Text(text),
        }
    }
}

fn levels<'a>(rule: &'a Rule, names: Names<'a>) -> impl Iterator<Item = Level<'a>> + Clone {
    rule.filter.split('/').map(move |level| match level {
        "%c" if rule.is_pattern => Level::Text(names.client_id),
        "%u" if rule.is_pattern => names.identity.map_or(Level::Nothing, Level::Text),
        level => Level::of(level),
    })
}

/// Whether a topic or filter begins with `$`, as `$SYS`. Only rules that begin with `$` match it, and they match nothing else
/// [MQTT-4.7.2-1].
fn is_of_system(text: &str) -> bool {
    text.starts_with('$')
}

/// Whether the rule is for this topic name.
pub(super) fn matches(rule: &Rule, names: Names<'_>, topic: &str) -> bool {
    if is_of_system(&rule.filter) != is_of_system(topic) {
        return false;
    }
    let mut topic = topic.split('/');
    for level in levels(rule, names) {
        // `a/#` matches `a`, too.
        if level == Level::Rest {
            return true;
        }
        match (level, topic.next()) {
            (Level::One, Some(_)) => {}
            (Level::Text(text), Some(name)) if text == name => {}
            _ => return false,
        }
    }
    topic.next().is_none()
}

/// Whether the rule is for every topic that the filter matches.
pub(super) fn covers(rule: &Rule, names: Names<'_>, filter: &str) -> bool {
    if is_of_system(&rule.filter) != is_of_system(filter) {
        return false;
    }
    let mut filter = filter.split('/').map(Level::of);
    for level in levels(rule, names) {
        if level == Level::Rest {
            return true;
        }
        match (level, filter.next()) {
            (Level::One, Some(Level::One | Level::Text(_))) => {}
            (Level::Text(text), Some(Level::Text(name))) if text == name => {}
            _ => return false,
        }
    }
    filter.next().is_none()
}

/// Whether a topic exists that both the rule and the filter match.
pub(super) fn overlaps(rule: &Rule, names: Names<'_>, filter: &str) -> bool {
    if is_of_system(&rule.filter) != is_of_system(filter) {
        return false;
    }
    let (mut rule, mut filter) = (levels(rule, names), filter.split('/').map(Level::of));
    loop {
        match (rule.next(), filter.next()) {
            // The other filter's remaining levels must all be names: `a/%u` for a client without an identity matches nothing.
            (Some(Level::Rest), rest) => return !rest.into_iter().chain(filter).any(|level| level == Level::Nothing),
            (rest, Some(Level::Rest)) => return !rest.into_iter().chain(rule).any(|level| level == Level::Nothing),
            (None, None) => return true,
            (Some(Level::Nothing), _) | (None, _) | (_, None) => return false,
            (Some(Level::Text(a)), Some(Level::Text(b))) if a != b => return false,
            (Some(_), Some(_)) => {}
        }
    }
}
