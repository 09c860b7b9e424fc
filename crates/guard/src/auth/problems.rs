//! The problems with the lines of a file, up to a number that somebody reads.

use std::fmt::Display;

/// The most lines that are named; the others are counted.
const NAMED_MAX: usize = 20;

/// The problems of a file's lines.
#[derive(Debug, Default)]
pub(super) struct Problems {
    named: Vec<String>,
    more: usize,
}

impl Problems {
    /// Adds the problem with a line, counted from 1.
    pub(super) fn add(&mut self, line: u32, why: impl Display) {
        if self.named.len() < NAMED_MAX {
            self.named.push(format!("line {line} {why}"));
        } else {
            self.more += 1;
        }
    }

    /// Returns `read` if there are no problems.
    ///
    /// # Errors
    /// All problems.
    pub(super) fn or<T>(mut self, read: T) -> Result<T, Vec<String>> {
        if self.named.is_empty() {
            return Ok(read);
        }
        if self.more > 0 {
            self.named.push(format!("{} more lines are wrong", self.more));
        }
        Err(self.named)
    }
}
