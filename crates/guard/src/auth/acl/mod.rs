//! Authorization by topic: an access control list as mosquitto reads it (`acl_file`). Without a matching rule the answer is no.
//!
//! For a client the rules are asked in this order: its user's denials, its user's grants, the patterns' denials, the
//! patterns' grants. Lines before the first `user` are for clients without an identity.

mod coverage;
mod file;
mod given;
mod matching;
mod role;

use std::collections::HashMap;

pub use self::coverage::Coverage;
pub use self::given::{Grants, Wanted};
use self::matching::{Names, covers, matches, overlaps};
pub use self::role::{RoleRules, check_filter};

/// An action with a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Publish to the topic, or leave a will for it.
    Publish,
    /// Receive a message of the topic.
    Receive,
    /// Receive the topic's past messages. To get any, the client needs [`Action::Receive`], too.
    Replay,
}

/// The effect of a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Grant {
    Deny,
    Read,
    Write,
    ReadWrite,
    Replay,
}

impl Grant {
    fn allows(self, action: Action) -> bool {
        match action {
            Action::Publish => matches!(self, Self::Write | Self::ReadWrite),
            Action::Receive => matches!(self, Self::Read | Self::ReadWrite),
            Action::Replay => self == Self::Replay,
        }
    }
}

/// A line of the file.
#[derive(Debug)]
pub struct Rule {
    grant: Grant,
    filter: Box<str>,
    /// A `pattern`: `%c` and `%u` are levels.
    is_pattern: bool,
    /// The line's number in the file, from 1.
    pub line: u32,
    /// The line's text.
    pub text: Box<str>,
}

/// Rules that are for the same clients.
#[derive(Debug, Default)]
struct Rules {
    denials: Vec<Rule>,
    grants: Vec<Rule>,
}

impl Rules {
    fn len(&self) -> usize {
        self.denials.len() + self.grants.len()
    }

    /// The rule that decides, if one does.
    fn decide(&self, names: Names<'_>, action: Action, topic: &str) -> Option<&Rule> {
        let fits = |rule: &&Rule| matches(rule, names, topic);
        let mut grants = self.grants.iter().filter(|rule| rule.grant.allows(action));
        self.denials.iter().find(fits).or_else(|| grants.find(fits))
    }
}

/// An access control list.
#[derive(Debug, Default)]
pub struct Acl {
    anonymous: Rules,
    users: HashMap<Box<str>, Rules>,
    patterns: Rules,
}

/// The client that asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Client<'a> {
    /// Its identity; `None`: the client is anonymous.
    pub identity: Option<&'a str>,
    /// Its client identifier.
    pub client_id: &'a str,
}

impl Client<'_> {
    /// Whether patterns apply to this name. A name that is a wildcard would match other clients' topics (CVE-2017-7650).
    fn is_safe(&self) -> bool {
        let has_wildcard = |name: &str| name.contains(['+', '#']);
        !has_wildcard(self.client_id) && !self.identity.is_some_and(has_wildcard)
    }

    /// Why patterns with this name grant nothing, in words: a name with `/` is no level of a topic, and one with a wildcard is
    /// not safe. `None`: they apply.
    #[must_use]
    pub fn is_in_no_pattern(&self) -> Option<&'static str> {
        let is_no_level = |name: &str| name.contains(['/', '+', '#']);
        if is_no_level(self.client_id) {
            return Some("its client ID contains /, + or #, so no %c stands for it");
        }
        self.identity.is_some_and(is_no_level).then_some("its user name contains /, + or #, so no %u stands for it")
    }
}

/// The decision of the rules, and the rule that made it; `None`: no rule matches. Patterns do not apply to a client with a
/// wildcard in its name.
#[derive(Clone, Copy, Debug)]
pub struct Decision<'a> {
    /// Whether the client may do it.
    pub is_granted: bool,
    /// The rule that decided.
    pub by: Option<&'a Rule>,
}

/// The outcome of a subscription.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subscription {
    /// Every topic that the filter matches may be read.
    Granted,
    /// Some topics may be read: each message is checked when it is delivered.
    Checked,
    /// No topic may be read.
    Refused,
}

impl Acl {
    /// Reads a file.
    ///
    /// # Errors
    /// The lines that are wrong, and why.
    pub fn parse(text: &str) -> Result<Self, Vec<String>> {
        file::parse(text)
    }

    /// The number of rules.
    #[must_use]
    pub fn len(&self) -> usize {
        let own = self.users.values().map(Rules::len).sum::<usize>();
        own + self.anonymous.len() + self.patterns.len()
    }

    /// The users with rules of their own.
    pub fn users(&self) -> impl Iterator<Item = &str> {
        self.users.keys().map(|name| &**name)
    }

    /// Whether there are no rules.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether a client may do that with a topic.
    #[must_use]
    pub fn decide(&self, client: Client<'_>, action: Action, topic: &str) -> Decision<'_> {
        for (rules, names) in self.rules(client).into_iter().flatten() {
            if let Some(rule) = rules.decide(names, action, topic) {
                return Decision { is_granted: rule.grant != Grant::Deny, by: Some(rule) };
            }
        }
        Decision { is_granted: false, by: None }
    }

    /// Whether a client may receive, or replay, the messages of a filter: of a shared one, the filter after `$share/NAME/`.
    #[must_use]
    pub fn subscription(&self, client: Client<'_>, wanted: (Action, &str)) -> Subscription {
        let mut coverage = Coverage::default();
        self.cover(client, wanted, &mut coverage, |_| ());
        coverage.end().0
    }

    /// Adds the rules' part of an action with a filter to `coverage`.
    pub fn cover<'a, B>(
        &'a self,
        client: Client<'_>,
        (action, filter): (Action, &str),
        coverage: &mut Coverage<B>,
        by: impl Fn(&'a Rule) -> B,
    ) {
        for (rules, names) in self.rules(client).into_iter().flatten() {
            for rule in &rules.denials {
                coverage.deny(covers(rule, names, filter), overlaps(rule, names, filter));
            }
            let grants = rules.grants.iter().filter(|rule| rule.grant.allows(action));
            coverage.grants(grants, names, filter, &by);
        }
    }

    /// The rules for a client, in the order in which they are asked.
    fn rules<'a, 'n>(&'a self, client: Client<'n>) -> [Option<(&'a Rules, Names<'n>)>; 2] {
        let names = Names::of(client);
        let own = match client.identity {
            Some(identity) => self.users.get(identity),
            None => Some(&self.anonymous),
        };
        [own.map(|own| (own, names)), client.is_safe().then_some((&self.patterns, names))]
    }
}

#[cfg(test)]
mod tests;
