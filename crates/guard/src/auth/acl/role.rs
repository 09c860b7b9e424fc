//! Roles: rules with a name, which tokens bring along. A role grants and never denies.

use super::matching::Names;
use super::{Action, Client, Coverage, Grant, Rule, Rules, file};

/// `[auth.NAME.role.ROLE]`, compiled.
#[derive(Debug)]
pub struct RoleRules(Rules);

/// Checks that a text can be a filter of a role.
///
/// # Errors
/// Why not, in words that quote it.
pub fn check_filter(filter: &str) -> Result<(), String> {
    file::check(filter, true)
}

impl RoleRules {
    /// Compiles rules from valid filters.
    #[must_use]
    pub fn new(publish: &[String], subscribe: &[String], replay: &[String]) -> Self {
        let rule = |grant, word: &str, filter: &String| {
            let text = format!("{word} {filter}").into();
            Rule { grant, filter: filter.as_str().into(), is_pattern: true, line: 0, text }
        };
        let publish = publish.iter().map(|filter| rule(Grant::Write, "publish", filter));
        let subscribe = subscribe.iter().map(|filter| rule(Grant::Read, "subscribe", filter));
        let replay = replay.iter().map(|filter| rule(Grant::Replay, "replay", filter));
        Self(Rules { denials: Vec::new(), grants: publish.chain(subscribe).chain(replay).collect() })
    }

    /// The rule that grants an action.
    #[must_use]
    pub fn grant(&self, client: Client<'_>, action: Action, topic: &str) -> Option<&Rule> {
        if client.is_safe() { self.0.decide(Names::of(client), action, topic) } else { None }
    }

    /// Adds the role's part of an action with a filter to `coverage`.
    pub fn cover<'a, B>(
        &'a self,
        client: Client<'_>,
        (action, filter): (Action, &str),
        coverage: &mut Coverage<B>,
        by: impl Fn(&'a Rule) -> B,
    ) {
        let grants = self.0.grants.iter().filter(|rule| client.is_safe() && rule.grant.allows(action));
        coverage.grants(grants, Names::of(client), filter, by);
    }
}
