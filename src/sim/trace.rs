//! The events of a run, line by line. Recorded only when a failed run is repeated for its trace.

use crate::runtime::seam::Monotonic;

/// Bound on printed lines: the last ones are printed.
const LINES_MAX: usize = 1000;

/// The lines of a run.
#[derive(Debug, Default)]
pub(super) struct Trace {
    pub(super) on: bool,
    pub(super) step: u32,
    lines: Vec<String>,
}

impl Trace {
    pub(super) fn new(on: bool) -> Self {
        Self { on, ..Self::default() }
    }

    pub(super) fn note(&mut self, now: Monotonic, line: impl FnOnce() -> String) {
        if self.on {
            self.lines.push(format!("{:>5} {:>12.3} ms  {}", self.step, now.0 as f64 / 1e6, line()));
        }
    }

    /// The last lines.
    pub(super) fn text(&self) -> String {
        let from = self.lines.len().saturating_sub(LINES_MAX);
        let before = if from > 0 { format!("  … {from} lines before\n") } else { String::new() };
        before + &self.lines[from..].join("\n")
    }
}
