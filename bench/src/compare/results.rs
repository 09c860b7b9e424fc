//! The results of the rounds: medians, ratios to the floor, and whether they can be judged.

use std::fmt::Write;

use serde::{Deserialize, Serialize};

use super::FLOOR;
use crate::outcome::Outcome;
use crate::patterns::Pattern;
use crate::text::{bytes, count, time_us};

/// The largest wobble of the floor at which ratios of CPU are judged.
const WOBBLE_MAX: f64 = 0.25;

/// The whole comparison.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Comparison {
    pub(crate) rounds: usize,
    pub(crate) patterns: Vec<PatternResult>,
}

/// The results of one pattern.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct PatternResult {
    pub(crate) pattern: String,
    pub(crate) description: String,
    /// The excess of the floor's highest round over its lowest; `null`: there was no floor.
    pub(crate) floor_wobble: Option<f64>,
    pub(crate) targets: Vec<TargetResult>,
}

/// The results of one server in one pattern.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct TargetResult {
    pub(crate) name: String,
    /// CPU microseconds a message: each round's, and their median.
    pub(crate) rounds: Vec<f64>,
    pub(crate) cpu_us: f64,
    /// The ratio to the floor's median; `null`: not judged.
    pub(crate) ratio: Option<f64>,
    pub(crate) messages_per_s: f64,
    pub(crate) p50_us: Option<u64>,
    pub(crate) p99_us: Option<u64>,
    pub(crate) system_calls: Option<f64>,
    pub(crate) rss_bytes_max: u64,
    /// Headlines of rounds that did not pass.
    pub(crate) failures: Vec<String>,
    /// The median round, whole.
    pub(crate) best: Option<Outcome>,
}

impl Comparison {
    pub(super) fn new(rounds: usize) -> Self {
        Self { rounds, patterns: Vec::new() }
    }

    /// Whether no message was lost, and the floor was steady.
    pub(crate) fn trusted(&self) -> bool {
        let failed = self.patterns.iter().flat_map(|p| &p.targets).any(|target| !target.failures.is_empty());
        !failed && self.patterns.iter().all(PatternResult::judged)
    }

    /// The headline.
    pub(crate) fn headline(&self) -> String {
        let mut faults = Vec::new();
        for pattern in &self.patterns {
            for target in &pattern.targets {
                for failure in &target.failures {
                    faults.push(format!("{} in {}: {failure}", target.name, pattern.pattern));
                }
            }
        }
        let unsteady: Vec<&str> =
            self.patterns.iter().filter(|pattern| !pattern.judged()).map(|pattern| pattern.pattern.as_str()).collect();
        if !unsteady.is_empty() {
            faults.push(format!("not judged, the floor moved by more than 25 %: {}", unsteady.join(", ")));
        }
        if faults.is_empty() {
            "PASSED: every message was answered in every round".to_owned()
        } else {
            faults.join("; ")
        }
    }

    pub(super) fn text(&self) -> String {
        let mut out = self.headline() + "\n";
        for pattern in &self.patterns {
            let wobble = pattern
                .floor_wobble
                .map_or(String::new(), |wobble| format!("; the floor moved by {:.0} %", wobble * 100.0));
            let _ = writeln!(out, "{}: {}, median of {}{wobble}", pattern.pattern, pattern.description, self.rounds);
            for target in &pattern.targets {
                let ratio = target.ratio.map_or("           ".to_owned(), |ratio| format!("{ratio:>6.2} x fl."));
                let calls =
                    target.system_calls.map_or(String::new(), |calls| format!("  {calls:.3} system calls a message"));
                let time = |us: Option<u64>| us.map_or("-".to_owned(), time_us);
                let _ = writeln!(
                    out,
                    "  {:<14} {:>8.3} µs a message {ratio}  {:>8}/s  p50 {:>9}  p99 {:>9}  {:>9}{calls}",
                    target.name,
                    target.cpu_us,
                    count(target.messages_per_s),
                    time(target.p50_us),
                    time(target.p99_us),
                    bytes(target.rss_bytes_max),
                );
            }
        }
        out
    }
}

impl PatternResult {
    pub(super) fn new(pattern: Pattern, mut targets: Vec<TargetResult>) -> Self {
        let floor = targets.iter().find(|target| target.name == FLOOR);
        let floor_wobble = floor.map(|floor| {
            let most = floor.rounds.iter().copied().fold(f64::MIN, f64::max);
            let least = floor.rounds.iter().copied().fold(f64::MAX, f64::min);
            most / least.max(1e-9) - 1.0
        });
        let floor_us = floor.map(|floor| floor.cpu_us);
        if let (Some(floor_us), Some(..=WOBBLE_MAX)) = (floor_us, floor_wobble) {
            targets.iter_mut().for_each(|target| target.ratio = Some(target.cpu_us / floor_us.max(1e-9)));
        }
        let description = pattern.scenario(1.0).description;
        Self { pattern: pattern.name().to_owned(), description, floor_wobble, targets }
    }

    fn judged(&self) -> bool {
        self.floor_wobble.is_none_or(|wobble| wobble <= WOBBLE_MAX)
    }

    /// A warning for the reader, before the bars.
    pub(crate) fn note(&self) -> Option<String> {
        let wobble = self.floor_wobble?;
        let text = format!("the floor moved by {:.0} % between rounds", wobble * 100.0);
        Some(if self.judged() { text } else { format!("{text}: not judged; look at system calls") })
    }
}

impl TargetResult {
    pub(super) fn of(name: &str, mut outcomes: Vec<Outcome>) -> Self {
        let cpu = |outcome: &Outcome| outcome.processes.first().map_or(0.0, |process| process.cpu_us_per_message);
        let rounds: Vec<f64> = outcomes.iter().map(cpu).collect();
        let failures = outcomes.iter().filter(|outcome| !outcome.verdict.passed);
        let failures = failures.map(|outcome| outcome.verdict.headline.clone()).collect();
        let rss_bytes_max = outcomes.iter().flat_map(|o| &o.processes).map(|p| p.rss_bytes_max).max().unwrap_or(0);
        outcomes.sort_by(|a, b| cpu(a).total_cmp(&cpu(b)));
        let median = outcomes.len() / 2;
        let best = if outcomes.is_empty() { None } else { Some(outcomes.swap_remove(median)) };
        let latency = best
            .as_ref()
            .and_then(|o| ["delivery", "puback", "pubcomp"].into_iter().find_map(|kind| o.latency.get(kind)));
        let rate = |o: &Outcome| if o.totals.received > 0 { o.totals.received_per_s } else { o.totals.sent_per_s };
        Self {
            name: name.to_owned(),
            rounds,
            cpu_us: best.as_ref().map_or(0.0, cpu),
            ratio: None,
            messages_per_s: best.as_ref().map_or(0.0, rate),
            p50_us: latency.map(|latency| latency.p50_us),
            p99_us: latency.map(|latency| latency.p99_us),
            system_calls: best.as_ref().and_then(|o| o.processes.first()?.system_calls_per_message),
            rss_bytes_max,
            failures,
            best,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(name: &str, rounds: &[f64]) -> TargetResult {
        let mut sorted = rounds.to_vec();
        sorted.sort_by(f64::total_cmp);
        TargetResult { rounds: rounds.to_vec(), cpu_us: sorted[sorted.len() / 2], ..TargetResult::of(name, Vec::new()) }
    }

    #[test]
    fn a_floor_that_wobbles_is_no_floor() {
        let result =
            |floor: &[f64]| PatternResult::new(Pattern::A, vec![target(FLOOR, floor), target("x", &[1.0, 1.2, 1.1])]);
        let steady = result(&[0.5, 0.55, 0.6]);
        assert_eq!(steady.targets[1].ratio, Some(2.0));
        assert!(steady.judged());
        let unsteady = result(&[0.5, 0.55, 0.63]);
        assert_eq!(unsteady.targets[1].ratio, None);
        let comparison = Comparison { rounds: 3, patterns: vec![steady, unsteady] };
        assert!(!comparison.trusted() && comparison.headline().contains("moved by more than 25 %"));
    }

    #[test]
    fn a_round_that_lost_something_is_in_the_first_line() {
        let mut bad = target("x", &[1.0]);
        bad.failures.push("FAILED: 3 lost".into());
        let comparison = Comparison { rounds: 1, patterns: vec![PatternResult::new(Pattern::B, vec![bad])] };
        assert!(!comparison.trusted());
        assert_eq!(comparison.text().lines().next(), Some("x in B: FAILED: 3 lost"));
    }
}
