//! What an evaluation needs that is not in the message: time, environment, randomness. [`Around`] brings it, so that nothing in `rule/` looks at
//! a clock or at the process.

use std::collections::BTreeMap;

use jiff::tz::TimeZone;

use super::template::ENVIRONMENT_PREFIX;

/// What EMQX's variables begin with; rules that come from there find them.
pub const EMQX_PREFIX: &str = "EMQXVAR_";

/// The environment that rules may read: variables that begin with `FOREBAY_VAR_` or `EMQXVAR_`, by their names without it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Environment {
    variables: BTreeMap<String, String>,
}

impl Environment {
    /// Those of the process's variables. `FOREBAY_VAR_X` is taken before `EMQXVAR_X`.
    pub fn of(variables: impl IntoIterator<Item = (String, String)>) -> Self {
        let mut found = BTreeMap::new();
        let mut ours = BTreeMap::new();
        for (name, value) in variables {
            if let Some(name) = name.strip_prefix(ENVIRONMENT_PREFIX) {
                ours.insert(name.to_owned(), value);
            } else if let Some(name) = name.strip_prefix(EMQX_PREFIX) {
                found.insert(name.to_owned(), value);
            }
        }
        found.append(&mut ours);
        Self { variables: found }
    }

    /// A variable by its name, with or without the prefix.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        let bare = name.strip_prefix(EMQX_PREFIX).or_else(|| name.strip_prefix(ENVIRONMENT_PREFIX));
        bare.and_then(|bare| self.variables.get(bare)).or_else(|| self.variables.get(name)).map(String::as_str)
    }
}

/// What an evaluation needs that is not in the message.
#[derive(Clone, Copy, Debug)]
pub struct Around<'a> {
    /// Nanoseconds since 1970-01-01 UTC.
    pub now_ns: i64,
    /// The machine's time zone.
    pub zone: &'a TimeZone,
    /// The variables that rules may read.
    pub environment: &'a Environment,
    /// What `random` and `uuid_v4` begin with; another one for each message.
    pub seed: u64,
}
