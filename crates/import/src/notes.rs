//! Notes: what differs, what was left out, and why.

use std::cell::RefCell;
use std::fmt::Display;

use forebay_base::shown::is_shown;

/// Notes in the order in which they are found, without repetitions.
#[derive(Debug, Default)]
pub(super) struct Notes(RefCell<Vec<String>>);

impl Notes {
    /// Adds a note about an object.
    pub(super) fn add(&self, about: &str, what: impl Display) {
        self.line(&format!("{about}: {what}"));
    }

    /// Adds a note about a key of an object that has no counterpart.
    pub(super) fn left_out(&self, about: &str, path: &str, why: impl Display) {
        self.line(&format!("{about}: {path}: left out: {why}"));
    }

    fn line(&self, text: &str) {
        let line = printable(text);
        let mut lines = self.0.borrow_mut();
        if !lines.contains(&line) {
            lines.push(line);
        }
    }

    /// The notes, one a line.
    pub(super) fn into_text(self) -> String {
        self.0.into_inner().into_iter().map(|line| line + "\n").collect()
    }
}

/// The text with characters escaped that are not shown, but for line ends: names come from the input.
pub(super) fn printable(text: &str) -> String {
    let escaped = |c: char| match c {
        '\n' => "\n".to_owned(),
        c if !is_shown(c) => c.escape_default().to_string(),
        c => c.to_string(),
    };
    text.chars().map(escaped).collect()
}
