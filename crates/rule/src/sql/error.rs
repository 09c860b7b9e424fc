//! Places in the text of a rule, and errors there.

use std::fmt;

/// A part of the text: byte offsets, the end not included.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// Offset of the first byte.
    pub start: u32,
    /// Offset after the last byte.
    pub end: u32,
}

impl Place {
    /// A place with these offsets; a text of a rule has at most 64 KiB.
    pub(crate) fn new(start: usize, end: usize) -> Self {
        let offset = |at: usize| u32::try_from(at).unwrap_or(u32::MAX);
        Self { start: offset(start), end: offset(end) }
    }

    /// The place from the beginning of this one to the end of another.
    pub(crate) const fn to(self, end: Self) -> Self {
        Self { start: self.start, end: end.end }
    }

    /// The text there.
    #[must_use]
    pub fn of(self, sql: &str) -> &str {
        sql.get(self.start as usize..self.end as usize).unwrap_or_default()
    }

    /// Line and column, both from 1; columns count characters.
    #[must_use]
    pub fn line_and_column(self, sql: &str) -> (usize, usize) {
        let before = sql.get(..self.start as usize).unwrap_or(sql);
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
        (line, column)
    }

    /// The line of the text in which the place begins, with carets below the place.
    #[must_use]
    pub fn caret(self, sql: &str) -> String {
        let (line, column) = self.line_and_column(sql);
        let text = sql.split('\n').nth(line - 1).unwrap_or_default().trim_end();
        let room = text.chars().count().saturating_sub(column - 1).max(1);
        let carets = self.of(sql).chars().take_while(|&c| c != '\n').count().clamp(1, room);
        // A tab stays a tab, so that the carets are below the place.
        let blank: String = text.chars().take(column - 1).map(|c| if c == '\t' { '\t' } else { ' ' }).collect();
        format!("{text}\n{blank}{}", "^".repeat(carets))
    }
}

/// The error of a text that is no rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    /// The place of the error.
    pub place: Place,
    /// The error.
    pub what: String,
    /// The remedy.
    pub hint: Option<String>,
}

impl Error {
    pub(crate) fn new(place: Place, what: impl Into<String>) -> Self {
        Self { place, what: what.into(), hint: None }
    }

    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The error for a terminal: the message, the line of the text with carets below the place, and the hint.
    #[must_use]
    pub fn show(&self, sql: &str) -> String {
        let (line, column) = self.place.line_and_column(sql);
        format!("line {line}, column {column}: {self}\n{}", self.place.caret(sql))
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)?;
        self.hint.as_ref().map_or(Ok(()), |hint| write!(f, " ({hint})"))
    }
}

impl std::error::Error for Error {}

/// "did you mean" for an unknown name: the nearest of the known ones.
pub(crate) fn nearest<'n>(name: &str, known: impl IntoIterator<Item = &'n str>) -> Option<&'n str> {
    let name = name.to_ascii_lowercase();
    let near = known.into_iter().map(|other| (strsim::damerau_levenshtein(&name, other), other));
    near.filter(|&(distance, other)| distance <= 1 + other.len() / 5).min().map(|(_, other)| other)
}
