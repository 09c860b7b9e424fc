//! A run in a few lines that can be pasted into an issue.

use std::fmt::Write;

use crate::outcome::Outcome;
use crate::text::{bytes, count, time_us};

/// See the module. The first line is the verdict.
pub(crate) fn text(outcome: &Outcome) -> String {
    let (totals, mut out) = (&outcome.totals, String::new());
    let mut line = |text: String| {
        let _ = writeln!(out, "{text}");
    };
    line(outcome.verdict.headline.clone());
    line(format!("  {} against {}, {:.2} s", outcome.name, outcome.target, totals.wall_s));
    let mut parts = vec![format!("{} connections", totals.connections)];
    if totals.sent > 0 {
        parts.push(format!("{} sent ({}/s)", count(totals.sent as f64), count(totals.sent_per_s)));
    }
    if totals.answered > 0 {
        parts.push(format!("{} answered", count(totals.answered as f64)));
    }
    if totals.received > 0 {
        parts.push(format!("{} delivered ({}/s)", count(totals.received as f64), count(totals.received_per_s)));
    }
    if totals.connects_per_s > 0.0 {
        parts.push(format!("{} connects/s", count(totals.connects_per_s)));
    }
    line(format!("  {}", parts.join(", ")));
    for (name, latency) in &outcome.latency {
        line(format!(
            "  {:<15} p50 {:>9}  p90 {:>9}  p99 {:>9}  p99.9 {:>9}  max {:>9}",
            name.replace('_', "-"),
            time_us(latency.p50_us),
            time_us(latency.p90_us),
            time_us(latency.p99_us),
            time_us(latency.p999_us),
            time_us(latency.max_us),
        ));
    }
    for process in &outcome.processes {
        let calls = process
            .system_calls_per_message
            .map_or(String::new(), |calls| format!(", {calls:.3} system calls a message"));
        line(format!(
            "  {:<15} {:.2} s CPU ({:.2} user, {:.2} system), {:.3} µs a message{calls}, {} resident (most {}), {} + {} switches",
            process.name,
            process.cpu_s,
            process.user_s,
            process.system_s,
            process.cpu_us_per_message,
            bytes(process.rss_bytes_end),
            bytes(process.rss_bytes_max),
            process.voluntary_switches,
            process.involuntary_switches,
        ));
    }
    line(format!("  generator       {:.2} s CPU, busy {:.0} %", totals.generator_cpu_s, totals.generator_busy * 100.0));
    let machine = &outcome.machine;
    line(format!(
        "  {} x {}, Linux {}, {}, load {:.1}",
        machine.cores, machine.cpu, machine.kernel, machine.congestion_control, machine.load
    ));
    outcome.verdict.notes.iter().for_each(|note| line(format!("  note: {note}")));
    out
}
