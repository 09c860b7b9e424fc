//! Failures of a rule for a message. They hold types and places, never values.

use std::fmt;

use super::sql::Place;
use super::value::Kind;

/// The kind of a fault; a label of metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code {
    /// A value of a type that the operation does not take.
    Type,
    /// A text that is not the JSON, number, date, … that is needed.
    Decode,
    /// A value outside of the operation's domain, such as a division by zero.
    Domain,
    /// A rule beyond its bound of steps, memory, items or depth.
    Limit,
}

impl Code {
    /// The word in metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Type => "type",
            Self::Decode => "decode",
            Self::Domain => "domain",
            Self::Limit => "limit",
        }
    }
}

/// The reason why an operation fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reason {
    /// The kind of fault.
    pub code: Code,
    /// The requirement, or the fault, in words.
    pub what: &'static str,
    /// The type that was found where another one is needed.
    pub found: Option<Kind>,
}

impl Reason {
    pub(super) const fn wanted(what: &'static str, found: Kind) -> Self {
        Self { code: Code::Type, what, found: Some(found) }
    }

    pub(super) const fn decode(what: &'static str) -> Self {
        Self { code: Code::Decode, what, found: None }
    }

    pub(super) const fn domain(what: &'static str) -> Self {
        Self { code: Code::Domain, what, found: None }
    }

    pub(super) const fn limit(what: &'static str) -> Self {
        Self { code: Code::Limit, what, found: None }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.found {
            Some(found) => write!(f, "{} where {} is needed", found.as_str(), self.what),
            None => f.write_str(self.what),
        }
    }
}

/// The clause that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Clause {
    /// The list of SELECT.
    Select,
    /// The list of FOREACH.
    Foreach,
    /// DO.
    Do,
    /// INCASE.
    Incase,
    /// WHERE.
    Where,
    /// The output while it is written.
    Output,
}

impl Clause {
    /// The clause as in SQL.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Select => "SELECT",
            Self::Foreach => "FOREACH",
            Self::Do => "DO",
            Self::Incase => "INCASE",
            Self::Where => "WHERE",
            Self::Output => "the output",
        }
    }
}

/// The failure of a rule for a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The reason.
    pub reason: Reason,
    /// The clause.
    pub clause: Clause,
    /// The place in the text of the rule.
    pub place: Place,
}

impl Failure {
    /// The failure with the part of the rule: `payload.x - 1: text where a number is needed, in WHERE`.
    #[must_use]
    pub fn describe(&self, sql: &str) -> String {
        let (part, reason, clause) = (self.place.of(sql), self.reason, self.clause.as_str());
        // The output as a whole has no place.
        if part.is_empty() { format!("{reason}, in {clause}") } else { format!("{part}: {reason}, in {clause}") }
    }

    /// The failure for a terminal: the reason, and the line of the rule with carets below the place.
    #[must_use]
    pub fn show(&self, sql: &str) -> String {
        let (line, column) = self.place.line_and_column(sql);
        format!(
            "line {line}, column {column}: {} (in {})\n{}",
            self.reason,
            self.clause.as_str(),
            self.place.caret(sql)
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The output as a whole is no part of the rule: its failure begins with the reason.
    #[test]
    fn finding_q52_a_failure_without_a_part_of_the_rule_begins_with_its_reason() {
        let sql = "SELECT payload.x - 1 AS y FROM \"t/#\"";
        let failure =
            |place| Failure { reason: Reason::decode("the text is not UTF-8"), clause: Clause::Output, place };
        assert_eq!(failure(Place::default()).describe(sql), "the text is not UTF-8, in the output");
        assert_eq!(failure(Place::new(7, 20)).describe(sql), "payload.x - 1: the text is not UTF-8, in the output");
    }
}
