//! The report of a run: JSON for programs, lines for people.

use hdrhistogram::Histogram;
use serde_json::{Value, json};

use super::drive::Outcome;
use super::judge::Verdict;
use super::tally::Tally;

/// The report without the verdict.
pub(crate) fn of_run(outcome: &Outcome, processes: Vec<Value>) -> Value {
    let tally = &outcome.tally;
    let sum = |value: fn(&super::told::Told) -> u64| outcome.clients.iter().map(|c| value(&c.told)).sum::<u64>();
    json!({
        "job": "flow",
        "clients": outcome.clients.len(),
        "clients_v5": outcome.clients.iter().filter(|client| client.v5).count(),
        "clients_finished": outcome.clients.iter().filter(|client| client.told.finished).count(),
        "sent": { "qos0": tally.sent[0], "qos1": tally.sent[1], "qos2": tally.sent[2], "all": tally.sent_all() },
        "sent_again": { "publish": tally.publishes_again, "pubrel": tally.releases_again },
        "settled": tally.settled,
        "unmatched": tally.unmatched,
        "refused": by_code(&tally.refused),
        "pubcomp_unknown_id": tally.releases_unknown,
        "given_up": tally.abandoned,
        "wall_s": outcome.wall_s,
        "drain_s": outcome.drain_s,
        "messages_per_s": tally.settled as f64 / outcome.wall_s.max(1e-9),
        "behind_most": outcome.pace.behind_most,
        "behind_at_end": outcome.pace.behind(),
        "connections": {
            "accepted": sum(|told| told.connections), "broken_by_clients": sum(|told| told.broken),
            "lost": sum(|told| told.dropped), "attempts_failed": tally.connects_failed,
            "sessions_forgotten": sum(|told| told.forgotten), "refused": by_code(&tally.connack_refused),
            "disconnects": by_code(&tally.disconnects),
        },
        "pings": { "sent": tally.pings, "answered": tally.pongs, "longest_wait_us": tally.pong_us_max },
        "latency_us": {
            "puback": latency(&tally.puback), "pubrec": latency(&tally.pubrec), "pubcomp": latency(&tally.pubcomp),
        },
        "marks": tally.marks.report(),
        "processes": processes,
    })
}

fn by_code(codes: &std::collections::BTreeMap<u8, u64>) -> Value {
    codes
        .iter()
        .map(|(code, &count)| (format!("{code:#04x}"), Value::from(count)))
        .collect::<serde_json::Map<_, _>>()
        .into()
}

fn latency(histogram: &Histogram<u64>) -> Value {
    let at = |quantile| histogram.value_at_quantile(quantile);
    json!({
        "count": histogram.len(), "p50": at(0.5), "p90": at(0.9), "p99": at(0.99), "p999": at(0.999), "max": histogram.max(),
    })
}

/// Adds violations of the protocol by the server as faults.
pub(crate) fn violations(tally: &Tally, verdict: &mut Verdict) {
    let mut texts = tally.violation_texts.iter();
    for _ in 0..tally.violations {
        verdict.fault("against the standard", || texts.next().cloned().unwrap_or_default());
    }
}

/// Adds the verdict; `read`: whether Kafka was read.
pub(crate) fn add_verdict(report: &mut Value, verdict: &Verdict, read: bool) {
    let fault = |fault: &super::judge::Fault| json!({ "count": fault.count, "examples": fault.examples });
    report["verdict"] = json!({
        "passed": verdict.passed(),
        "read": read,
        "counts": verdict.counts,
        "faults": verdict.faults.iter().map(|(kind, f)| (kind.clone(), fault(f))).collect::<serde_json::Map<_, _>>(),
    });
}

/// The verdict for people.
pub(crate) fn text(verdict: &Verdict, read: bool) -> String {
    let mut lines: Vec<String> =
        verdict.counts.iter().map(|(name, count)| format!("  {name:<40} {count:>12}")).collect();
    for (kind, fault) in &verdict.faults {
        lines.push(format!("  FAULT {kind}: {}, for example:", fault.count));
        lines.extend(fault.examples.iter().map(|example| format!("    {example}")));
    }
    let unread = if read { "" } else { " (Kafka was not read)" };
    lines.push(format!("{}{unread}", if verdict.passed() { "PASSED" } else { "FAILED" }));
    lines.join("\n")
}
