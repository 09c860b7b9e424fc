//! The sections of a report.

use std::fmt::Write;

use super::svg::{self, COLOURS, Plot, Series, escape};
use crate::compare::Comparison;
use crate::machine::Machine;
use crate::outcome::{Outcome, Sample};
use crate::text::{bytes, count, time_us};

/// The value of a line of a timeline.
type Value = fn(&Sample) -> f64;

fn micros(us: f64) -> String {
    match us {
        us if us < 1_000.0 => format!("{} µs", count(us)),
        us if us < 1e6 => format!("{} ms", count(us / 1e3)),
        us => format!("{} s", count(us / 1e6)),
    }
}

fn percent(share: f64) -> String {
    format!("{:.0} %", share * 100.0)
}

fn mebibytes(value: f64) -> String {
    format!("{} MiB", count(value))
}

/// The most important numbers of a run.
pub(super) fn numbers(outcome: &Outcome) -> String {
    let (totals, verdict) = (&outcome.totals, &outcome.verdict);
    let mut cards: Vec<(String, String)> = Vec::new();
    if totals.sent > 0 {
        cards.push((format!("{}/s", count(totals.sent_per_s)), "messages sent".into()));
    }
    if totals.received > 0 {
        cards.push((format!("{}/s", count(totals.received_per_s)), "messages delivered".into()));
    }
    if totals.connects_per_s > 0.0 {
        cards.push((format!("{}/s", count(totals.connects_per_s)), "connects".into()));
    }
    for (name, latency) in &outcome.latency {
        if name != "connect" || outcome.latency.len() == 1 {
            cards.push((time_us(latency.p99_us), format!("p99 {}", kind(name))));
        }
    }
    for process in &outcome.processes {
        cards.push((format!("{:.2} µs", process.cpu_us_per_message), format!("{} CPU per message", process.name)));
        cards.push((bytes(process.rss_bytes_max), format!("{} memory, highest", process.name)));
    }
    let wrong = verdict.lost + verdict.unanswered;
    cards.push((wrong.to_string(), "lost or unanswered".into()));
    let cards: String = cards
        .iter()
        .map(|(value, name)| format!("<div class=\"card\"><b>{}</b><span>{}</span></div>", escape(value), escape(name)))
        .collect();
    format!("<div class=\"cards\">{cards}</div>")
}

fn kind(name: &str) -> &str {
    match name {
        "connect" => "connect to CONNACK",
        "puback" => "PUBLISH to PUBACK",
        "pubcomp" => "PUBLISH to PUBCOMP",
        "delivery" => "publisher to subscriber",
        "kafka_readable" => "PUBLISH to readable in Kafka",
        other => other,
    }
}

/// Latency by percentile, and rates, latency, CPU and memory over time.
pub(super) fn plots(outcomes: &[&Outcome]) -> String {
    let many = outcomes.len() > 1;
    let named =
        |outcome: &Outcome, what: &str| if many { format!("{} {what}", outcome.target) } else { what.to_owned() };
    let mut curves = Vec::new();
    for outcome in outcomes {
        for (name, latency) in
            outcome.latency.iter().filter(|(name, _)| *name != "connect" || outcome.latency.len() == 1)
        {
            let points = latency.curve.iter().map(|(at, us)| (*at, *us as f64)).collect();
            curves.push(Series { name: if many { named(outcome, name) } else { kind(name).to_owned() }, points });
        }
    }
    let mut out = String::from("<div class=\"plots\">");
    out += &plot(
        "Latency by percentile",
        &Plot { series: &curves, x_label: "percentile", y: micros, log: true, percentiles: true },
    );
    // Short runs have too few samples for a plot.
    let long: Vec<&Outcome> = outcomes.iter().copied().filter(|outcome| outcome.timeline.len() >= 4).collect();
    let over_time = |values: &[(&str, Value)]| -> Vec<Series> {
        let mut all = Vec::new();
        for outcome in &long {
            for (what, value) in values {
                let points: Vec<(f64, f64)> = outcome.timeline.iter().map(|sample| (sample.s, value(sample))).collect();
                if points.iter().any(|point| point.1 > 0.0) {
                    all.push(Series { name: named(outcome, what), points });
                }
            }
        }
        all
    };
    let rates = over_time(&[
        ("sent", |s| s.sent_per_s),
        ("delivered", |s| s.received_per_s),
        ("connects", |s| s.connects_per_s),
    ]);
    let mut line = |title: &str, series: &[Series], y: svg::Label, log: bool| {
        out += &plot(title, &Plot { series, x_label: "seconds", y, log, percentiles: false });
    };
    line("Throughput, per second", &rates, count, false);
    line("Latency over time", &over_time(&[("p50", |s| s.p50_us as f64), ("p99", |s| s.p99_us as f64)]), micros, true);
    let (mut cpu, mut memory) = (Vec::new(), Vec::new());
    for outcome in &long {
        for (index, process) in outcome.processes.iter().enumerate() {
            let of = |value: &dyn Fn(&Sample) -> Option<f64>| -> Vec<(f64, f64)> {
                outcome.timeline.iter().filter_map(|sample| Some((sample.s, value(sample)?))).collect()
            };
            let name = if many { outcome.target.clone() } else { process.name.clone() };
            cpu.push(Series { name: name.clone(), points: of(&|sample| sample.cpu.get(index).copied()) });
            memory.push(Series {
                name,
                points: of(&|sample| sample.rss_bytes.get(index).map(|bytes| *bytes as f64 / 1_048_576.0)),
            });
        }
    }
    line("CPU, of one core", &cpu, percent, false);
    line("Resident memory", &memory, mebibytes, false);
    out + "</div>"
}

fn plot(title: &str, plot: &Plot<'_>) -> String {
    let picture = plot.draw();
    if picture.is_empty() {
        return String::new();
    }
    let mut legend = String::new();
    for (index, series) in plot.series.iter().enumerate() {
        let colour = COLOURS[index % COLOURS.len()];
        let _ = write!(legend, "<span><i style=\"background:{colour}\"></i>{}</span>", escape(&series.name));
    }
    format!("<section class=\"plot\"><h3>{}</h3><p class=\"legend\">{legend}</p>{picture}</section>", escape(title))
}

/// The latencies as numbers.
pub(super) fn latencies(outcome: &Outcome) -> String {
    if outcome.latency.is_empty() {
        return String::new();
    }
    let mut rows = String::new();
    for (name, latency) in &outcome.latency {
        let _ = write!(rows, "<tr><td>{}</td><td>{}</td>", kind(name), count(latency.count as f64));
        for us in [latency.p50_us, latency.p90_us, latency.p99_us, latency.p999_us, latency.p9999_us, latency.max_us] {
            let _ = write!(rows, "<td>{}</td>", time_us(us));
        }
        rows += "</tr>";
    }
    format!(
        "<h2>Latency</h2><div class=\"box\"><table><tr><th></th><th>count</th><th>p50</th><th>p90</th><th>p99</th><th>p99.9</th><th>p99.99</th><th>max</th></tr>{rows}</table></div>"
    )
}

/// The cost of the watched processes.
pub(super) fn processes(outcome: &Outcome) -> String {
    if outcome.processes.is_empty() {
        return String::new();
    }
    let mut rows = String::new();
    for process in &outcome.processes {
        let calls = process.system_calls_per_message.map_or("not counted".to_owned(), |calls| format!("{calls:.3}"));
        let _ = write!(
            rows,
            "<tr><td>{}</td><td>{:.2} s</td><td>{:.2} s</td><td>{:.3} µs</td><td>{}</td><td>{}</td><td>{calls}</td><td>{}</td></tr>",
            escape(&process.name),
            process.user_s,
            process.system_s,
            process.cpu_us_per_message,
            bytes(process.rss_bytes_before),
            bytes(process.rss_bytes_max),
            count((process.voluntary_switches + process.involuntary_switches) as f64),
        );
    }
    let _ = write!(
        rows,
        "<tr><td>generator</td><td colspan=\"2\">{:.2} s</td><td colspan=\"5\" class=\"text\">busy {} of its time</td></tr>",
        outcome.totals.generator_cpu_s,
        percent(outcome.totals.generator_busy),
    );
    format!(
        "<h2>Processes</h2><div class=\"box\"><table><tr><th></th><th>user</th><th>system</th><th>CPU a message</th><th>memory before</th><th>memory, highest</th><th>system calls a message</th><th>context switches</th></tr>{rows}</table></div>"
    )
}

/// All checks.
pub(super) fn verdict(outcome: &Outcome) -> String {
    let verdict = &outcome.verdict;
    let totals = &outcome.totals;
    let checks = [
        ("Deliveries owed", totals.expected),
        ("Deliveries lost", verdict.lost),
        ("Doubled", verdict.doubled),
        ("Out of order", verdict.disordered),
        ("Altered", verdict.altered),
        ("Without an answer", verdict.unanswered),
        ("Refused", verdict.refused),
        ("Due and not sent", verdict.unsent),
        ("Connections lost", verdict.connections_lost),
        ("Connects failed", verdict.connects_failed),
    ];
    let rows: String = checks.iter().map(|(name, count)| format!("<tr><td>{name}</td><td>{count}</td></tr>")).collect();
    let kafka = match &verdict.kafka {
        None => "<tr><td>In Kafka</td><td>not read</td></tr>".to_owned(),
        Some(kafka) => {
            let counts = kafka["counts"].as_object().into_iter().flatten();
            counts.map(|(name, count)| format!("<tr><td>Kafka: {}</td><td>{count}</td></tr>", escape(name))).collect()
        }
    };
    let notes: String = verdict.notes.iter().map(|note| format!("<li>{}</li>", escape(note))).collect();
    let notes = if notes.is_empty() { notes } else { format!("<ul>{notes}</ul>") };
    format!("<h2>What was checked</h2><div class=\"box narrow\"><table>{rows}{kafka}</table></div>{notes}")
}

/// The machine.
pub(super) fn machine(machine: &Machine) -> String {
    let rows = [
        ("CPU", format!("{} × {}", machine.cores, machine.cpu)),
        ("Memory", bytes(machine.memory_bytes)),
        ("System", format!("{}, Linux {}", machine.system, machine.kernel)),
        ("Governor", if machine.governor.is_empty() { "not visible".into() } else { machine.governor.clone() }),
        ("Congestion control", machine.congestion_control.clone()),
        ("Load before", format!("{:.2}", machine.load)),
        ("Disk sync, 4 KiB", time_us(machine.disk_sync_us)),
    ];
    let rows: String = rows
        .iter()
        .map(|(name, value)| format!("<tr><td>{name}</td><td class=\"text\">{}</td></tr>", escape(value)))
        .collect();
    format!("<h2>Machine</h2><div class=\"box\"><table>{rows}</table></div>")
}

/// The scenario.
pub(super) fn scenario(outcome: &Outcome) -> String {
    let text = serde_json::to_string_pretty(&outcome.scenario).unwrap_or_default();
    format!("<details><summary>The scenario</summary><pre>{}</pre></details>", escape(&text))
}

/// Bars and a table for each pattern.
pub(super) fn comparison(comparison: &Comparison) -> String {
    let mut out = String::from("<h2>CPU of the server, microseconds a message</h2><div class=\"plots\">");
    for pattern in &comparison.patterns {
        let rows: Vec<(String, f64, String)> = pattern
            .targets
            .iter()
            .map(|target| {
                let ratio = target.ratio.map_or(String::new(), |ratio| format!("  ({ratio:.2} ×)"));
                (target.name.clone(), target.cpu_us, format!("{:.2} µs{ratio}", target.cpu_us))
            })
            .collect();
        let note = pattern.note().map_or(String::new(), |note| format!("<p class=\"legend\">{}</p>", escape(&note)));
        let _ = write!(
            out,
            "<section class=\"plot\"><h3>{}: {}</h3>{note}{}</section>",
            escape(&pattern.pattern),
            escape(&pattern.description),
            svg::bars(&rows)
        );
    }
    out += "</div><h2>All numbers</h2><div class=\"box\"><table><tr><th>pattern</th><th>server</th><th>CPU a message</th><th>of the floor</th><th>rounds</th><th>messages/s</th><th>p50</th><th>p99</th><th>system calls a message</th><th>memory</th></tr>";
    for pattern in &comparison.patterns {
        for target in &pattern.targets {
            let dash = || "–".to_owned();
            let time = |us: Option<u64>| us.map_or_else(dash, time_us);
            let _ = write!(
                out,
                "<tr><td>{}</td><td>{}</td><td>{:.3} µs</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td></tr>",
                escape(&pattern.pattern),
                escape(&target.name),
                target.cpu_us,
                target.ratio.map_or_else(dash, |ratio| format!("{ratio:.2} ×")),
                target.rounds.len(),
                count(target.messages_per_s),
                time(target.p50_us),
                time(target.p99_us),
                target.system_calls.map_or_else(dash, |calls| format!("{calls:.3}")),
                bytes(target.rss_bytes_max),
            );
        }
    }
    out + "</table></div>"
}
