//! Problems of a configuration, each with its place, its key and the cure.

use std::cmp::Ordering;
use std::fmt;

/// A problem of a configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The name of the file as given, or `command line`.
    pub file: String,
    /// Line, from 1; 0 where the problem has no place in a file.
    pub line: usize,
    /// Column in characters, from 1; 0 where `line` is 0.
    pub column: usize,
    /// The key with its path, like `sink[0].linger`; empty where no key is concerned.
    pub key: String,
    /// The problem in words.
    pub what: String,
    /// The cure, where that is known.
    pub hint: Option<String>,
}

impl Problem {
    /// The problem as a JSON object.
    #[must_use]
    pub fn as_json(&self) -> serde_json::Value {
        serde_json::json!({
            "file": self.file, "line": self.line, "column": self.column, "key": self.key, "what": self.what,
            "hint": self.hint,
        })
    }

    /// The problem as a line of a log in JSON.
    #[must_use]
    pub fn as_log_line(&self) -> String {
        serde_json::json!({ "level": "ERROR", "message": self.to_string() }).to_string()
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        if self.line > 0 {
            write!(f, ":{}:{}", self.line, self.column)?;
        }
        if !self.key.is_empty() {
            write!(f, ": {}", self.key)?;
        }
        write!(f, ": {}", self.what)?;
        match &self.hint {
            Some(hint) => write!(f, "; {hint}"),
            None => Ok(()),
        }
    }
}

/// The problems of a configuration, in the order of the file. Never empty in an error.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Problems(pub Vec<Problem>);

impl Problems {
    pub(super) fn sort(&mut self) {
        self.0.sort_by(|a, b| match (a.line, a.column).cmp(&(b.line, b.column)) {
            Ordering::Equal => a.key.cmp(&b.key),
            other => other,
        });
        // Tables that are read for several purposes report a problem several times.
        self.0.dedup();
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, problem) in self.0.iter().enumerate() {
            let end = if at + 1 == self.0.len() { "" } else { "\n" };
            write!(f, "{problem}{end}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}

/// The fault of one value, before its place is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fault {
    pub(super) what: String,
    pub(super) hint: Option<String>,
    /// Byte offset within a string value, if the fault has a position of its own.
    pub(super) at: Option<usize>,
}

impl Fault {
    pub(super) fn new(what: impl Into<String>) -> Self {
        Self { what: what.into(), hint: None, at: None }
    }

    pub(super) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

/// The most bytes of a name that is compared with others, and the most of these: a text may have very many wrong names.
const COMPARED_BYTES_MAX: usize = 64;
const COMPARED_MAX: usize = 256;

/// The one of `known` that `given` was most likely meant to be.
pub(super) fn nearest<'a>(given: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    if given.len() > COMPARED_BYTES_MAX {
        return None;
    }
    let given = given.to_lowercase().replace(['-', '.', ' '], "_");
    known
        .into_iter()
        .filter(|known| known.len() <= COMPARED_BYTES_MAX)
        .take(COMPARED_MAX)
        .map(|known| (strsim::damerau_levenshtein(&given, known), known))
        .min_by_key(|(distance, _)| *distance)
        .filter(|(distance, known)| *distance <= known.len().max(3) / 3)
        .map(|(_, known)| known)
}

/// `did you mean "…"?`, or nothing.
pub(super) fn did_you_mean<'a>(given: &str, known: impl IntoIterator<Item = &'a str>) -> Option<String> {
    nearest(given, known).map(|known| format!("did you mean \"{known}\"?"))
}
