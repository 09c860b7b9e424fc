//! The inputs of an evaluation besides the message: time, environment, randomness. [`Around`] brings them, so that nothing in
//! `rule/` reads a clock or the process's environment.

use std::collections::BTreeMap;

use jiff::tz::TimeZone;

use super::template::ENVIRONMENT_PREFIX;

/// The prefix of EMQX's variables, which rules from there expect.
pub const EMQX_PREFIX: &str = "EMQXVAR_";

/// The environment that rules may read: variables that begin with `FOREBAY_VAR_` or `EMQXVAR_`, by their names without the prefix.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Environment {
    variables: BTreeMap<String, String>,
}

impl Environment {
    /// The environment of the process's variables. `FOREBAY_VAR_X` has precedence over `EMQXVAR_X`.
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

/// The facts of the machine and the process that rules may read: the same for all messages, and read once, when the process starts.
#[derive(Clone, Debug)]
pub struct Machine {
    /// The machine's time zone.
    pub zone: TimeZone,
    /// The variables that rules may read.
    pub environment: Environment,
    /// The name of this node: `forebay@HOST`.
    pub node: String,
}

impl Machine {
    /// A machine in UTC, without variables and a name of its own.
    #[must_use]
    pub fn bare() -> Self {
        Self { zone: TimeZone::UTC, environment: Environment::default(), node: "forebay@localhost".to_owned() }
    }

    /// The inputs of an evaluation for a message at this time, milliseconds since 1970-01-01 UTC.
    #[must_use]
    pub fn around(&self, now_ms: i64, seed: u64) -> Around<'_> {
        let now_ns = now_ms.saturating_mul(1_000_000);
        Around { now_ns, zone: &self.zone, environment: &self.environment, seed }
    }
}

/// The inputs of an evaluation besides the message.
#[derive(Clone, Copy, Debug)]
pub struct Around<'a> {
    /// Nanoseconds since 1970-01-01 UTC.
    pub now_ns: i64,
    /// The machine's time zone.
    pub zone: &'a TimeZone,
    /// The variables that rules may read.
    pub environment: &'a Environment,
    /// The seed of `random` and `uuid_v4`; another one for each message.
    pub seed: u64,
}
