//! `perf/budgets.toml`, and a measured value beside its budget.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use anyhow::Context;
use serde::Deserialize;

/// The contents of the file.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Budgets {
    /// Share by which instructions may be above their budget before the gate fails, or below it before it asks for a lower
    /// budget.
    pub(crate) tolerance: f64,
    /// Instructions of one call, by piece.
    pub(crate) instructions: BTreeMap<String, f64>,
    /// Locked instructions (atomic read-modify-writes) of one call; pieces that are not named may have none.
    #[serde(default)]
    pub(crate) locked: BTreeMap<String, f64>,
    /// Allocations in 10,000 calls; pieces that are not named may have none.
    #[serde(default)]
    pub(crate) allocations: BTreeMap<String, f64>,
    /// System calls of the whole process per message, by pattern.
    #[serde(default)]
    pub(crate) system_calls: BTreeMap<String, f64>,
    /// CPU per message as a multiple of the floor's, by pattern.
    #[serde(default)]
    pub(crate) ratio: BTreeMap<String, f64>,
}

impl Budgets {
    pub(crate) fn read(path: &Path) -> anyhow::Result<Self> {
        let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
        toml::from_str(&text).with_context(|| path.display().to_string())
    }
}

/// One judged value.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Line {
    what: String,
    /// Measured, budget, and the most that passes; `None`: it could not be measured.
    values: Option<(f64, f64, f64)>,
    /// The value below which the budget should be lowered.
    low: f64,
}

impl Line {
    /// A value of at most `budget`.
    pub(crate) fn most(what: String, measured: f64, budget: f64) -> Self {
        Self { what, values: Some((measured, budget, budget)), low: 0.0 }
    }

    /// A value of at most `tolerance` more than `budget`.
    pub(crate) fn near(what: String, measured: f64, budget: f64, tolerance: f64) -> Self {
        Self { what, values: Some((measured, budget, budget * (1.0 + tolerance))), low: budget * (1.0 - tolerance) }
    }

    /// A value that could not be measured, or another failure.
    pub(crate) fn failed(what: String) -> Self {
        Self { what, values: None, low: 0.0 }
    }

    pub(crate) fn passed(&self) -> bool {
        self.values.is_some_and(|(measured, _, most)| measured <= most)
    }
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verdict = if self.passed() { "ok    " } else { "OVER  " };
        match self.values {
            None => write!(f, "{verdict}{}", self.what),
            Some((measured, budget, _)) => {
                let hint = if measured < self.low { "  (well below: lower the budget)" } else { "" };
                write!(f, "{verdict}{:<44} {measured:>10.3}  budget {budget}{hint}", self.what)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tenth_more_is_over_and_much_less_is_said() {
        let line = |measured| Line::near("x".into(), measured, 100.0, 0.05);
        assert!(line(104.9).passed() && !line(110.0).passed());
        assert!(line(90.0).passed() && line(90.0).to_string().contains("lower the budget"));
        assert!(!Line::failed("x".into()).passed());
        assert!(!Line::most("x".into(), 1.0, 0.0).passed());
    }

    #[test]
    fn the_budgets_that_come_with_it_are_valid() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../perf/budgets.toml");
        let budgets = Budgets::read(&path).unwrap();
        assert!(budgets.tolerance < 0.1 && !budgets.instructions.is_empty() && !budgets.system_calls.is_empty());
    }
}
