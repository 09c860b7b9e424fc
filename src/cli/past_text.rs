//! The results of rules on past records, as text.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::out;
use crate::control::{PastAgainst, PastAsk, PastCounts, PastExample, PastFate, PastResult};

/// The result as text, and whether all is well: nothing has failed, or both rules agree on every message.
pub(super) fn shown(result: &PastResult, ask: &PastAsk) -> (String, bool) {
    let mut text = String::new();
    let mut line = |name: &str, what: String| {
        let _ = writeln!(text, "{}", format!("{name:<13} {what}").trim_end());
    };
    let partitions = if result.partitions == 1 { "partition" } else { "partitions" };
    line("records", format!("{} of {} ({} {partitions})", result.records, ask.topic, result.partitions));
    counts(&result.here, &mut line);
    if !result.no_message.is_empty() {
        let count: u64 = result.no_message.values().sum();
        line("no message", format!("{count} ({})", by_reason(&result.no_message)));
    }
    let Some(against) = &result.against else {
        examples(&result.examples, &mut text);
        return (text, result.here.failed == 0);
    };
    let name = ask.against.as_deref().unwrap_or("the other statement");
    line("", String::new());
    line("against", name.to_owned());
    counts(&against.counts, &mut line);
    let PastAgainst { equal, different, only_here, only_there, .. } = *against;
    line("", String::new());
    line("equal", equal.to_string());
    line("different", different.to_string());
    line("only here", only_here.to_string());
    line("only there", only_there.to_string());
    examples(&result.examples, &mut text);
    (text, different + only_here + only_there == 0)
}

fn counts(counts: &PastCounts, line: &mut impl FnMut(&str, String)) {
    line("passed", format!("{} (outputs: {})", counts.passed, counts.outputs));
    line("filtered", counts.filtered.to_string());
    match &counts.first_failure {
        None => line("failed", "0".to_owned()),
        Some(first) => line(
            "failed",
            format!("{} ({}), the first: {}", counts.failed, by_reason(&counts.failures), out::line(first)),
        ),
    }
    line("not matching", counts.not_matching.to_string());
    if counts.mixed_comparisons > 0 {
        line("warning", format!("values of different types were compared {} times", counts.mixed_comparisons));
    }
}

fn by_reason(counts: &BTreeMap<&'static str, u64>) -> String {
    counts.iter().map(|(reason, count)| format!("{reason}: {count}")).collect::<Vec<_>>().join(", ")
}

fn examples(examples: &[PastExample], text: &mut String) {
    let fate = |name: &str, fate: &PastFate, text: &mut String| {
        let failed = fate.failure.iter().map(|why| format!("failed: {why}"));
        let mut lines: Vec<_> = fate.outputs.iter().cloned().chain(failed).collect();
        if lines.is_empty() {
            lines.push(fate.result.replace('_', " "));
        }
        for said in lines {
            let _ = writeln!(text, "  {name}{}", out::line(&said));
        }
    };
    for example in examples {
        let PastExample { partition, offset, mqtt_topic, here, there } = example;
        let _ = writeln!(text, "\n{} (partition {partition}, offset {offset})", out::line(mqtt_topic));
        match there {
            None => fate("", here, text),
            Some(there) => {
                fate("here   ", here, text);
                fate("there  ", there, text);
            }
        }
    }
}
