//! A report: one self-contained HTML file, for one run or for several side by side.

mod parts;
mod svg;

use std::fmt::Write;

use crate::compare::Comparison;
use crate::outcome::Outcome;
use svg::escape;

const STYLE: &str = include_str!("style.css");

/// The page. With a comparison, `outcomes` are its best rounds.
pub(crate) fn page(outcomes: &[Outcome], comparison: Option<&Comparison>) -> String {
    let Some(first) = outcomes.first() else { return String::new() };
    let title = match comparison {
        Some(_) => "Comparison of MQTT servers".to_owned(),
        None => format!("{} against {}", first.name, first.target),
    };
    let mut body = header(&title, first, comparison);
    match comparison {
        Some(comparison) => {
            body += &parts::comparison(comparison);
            for pattern in &comparison.patterns {
                let runs: Vec<&Outcome> = pattern.targets.iter().filter_map(|target| target.best.as_ref()).collect();
                let _ = write!(body, "<h2>Pattern {}: {}</h2>", escape(&pattern.pattern), escape(&pattern.description));
                body += &parts::plots(&runs);
            }
        }
        None => {
            body += &parts::numbers(first);
            body += &parts::plots(&outcomes.iter().collect::<Vec<_>>());
            body += &parts::latencies(first);
            body += &parts::processes(first);
            body += &parts::verdict(first);
        }
    }
    body += &parts::machine(&first.machine);
    if comparison.is_none() {
        body += &parts::scenario(first);
    }
    format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
         <title>{}</title><style>{STYLE}</style></head><body><main>{body}<footer>Made by {}. All plots and numbers are in this file; \
         the raw histograms are in the JSON beside it.</footer></main></body></html>\n",
        escape(&title),
        escape(&first.generator),
    )
}

fn header(title: &str, first: &Outcome, comparison: Option<&Comparison>) -> String {
    let (passed, headline, about) = match comparison {
        Some(comparison) => {
            (comparison.trusted(), comparison.headline(), format!("{} interleaved rounds of each", comparison.rounds))
        }
        None => (first.verdict.passed, first.verdict.headline.clone(), first.description.clone()),
    };
    format!(
        "<header><p class=\"date\">{}</p><h1>{}</h1><p class=\"about\">{}</p><p class=\"verdict {}\">{}</p></header>",
        date(first.started),
        escape(title),
        escape(&about),
        if passed { "good" } else { "bad" },
        escape(&headline),
    )
}

fn date(seconds: u64) -> String {
    let time = std::time::UNIX_EPOCH + std::time::Duration::from_secs(seconds);
    humantime::format_rfc3339_seconds(time).to_string().replace('T', " ").replace('Z', " UTC")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outcome::{Latency, Process, Sample};

    pub(super) fn example() -> Outcome {
        let mut histogram = hdrhistogram::Histogram::<u64>::new_with_bounds(1, 3_600_000_000, 3).unwrap();
        (1..20_000_u64).for_each(|n| histogram.saturating_record(80 + n % 900 + (n % 1_000 / 997) * 9_000));
        let sample = |n: u32| Sample {
            s: f64::from(n) / 2.0,
            connected: 100,
            sent_per_s: 95_000.0 + f64::from(n % 5) * 2_000.0,
            answered_per_s: 94_000.0,
            p50_us: 350,
            p99_us: 1_200 + u64::from(n) * 10,
            cpu: vec![0.6 + f64::from(n % 3) / 20.0],
            rss_bytes: vec![(40 << 20) + u64::from(n) * 100_000],
            ..Sample::default()
        };
        let mut outcome = Outcome {
            schema: crate::outcome::SCHEMA,
            generator: "forebay-bench".into(),
            target: "<server>".into(),
            started: 1_795_000_000,
            scenario: serde_json::json!({ "name": "example" }),
            name: "example".into(),
            description: "An example".into(),
            machine: crate::machine::Machine::default(),
            verdict: crate::outcome::Verdict { passed: true, headline: "PASSED".into(), ..Default::default() },
            totals: crate::outcome::Totals { sent: 1_000_000, sent_per_s: 95_000.0, ..Default::default() },
            latency: Default::default(),
            processes: vec![Process { name: "server".into(), cpu_us_per_message: 3.2, ..Default::default() }],
            timeline: (0..40).map(sample).collect(),
        };
        outcome.latency.insert("puback".into(), Latency::of(&histogram).unwrap());
        outcome
    }

    #[test]
    fn a_page_holds_everything_and_asks_for_nothing() {
        let page = page(&[example()], None);
        assert!(page.matches("<svg").count() >= 5, "{}", page.matches("<svg").count());
        assert!(page.contains("&lt;server&gt;") && !page.contains("<server>"));
        for outside in ["http://", "https://", "src=", "<script", "@import", "url("] {
            assert!(!page.contains(outside), "{outside}");
        }
    }

    #[test]
    fn a_failure_is_in_the_header() {
        let mut outcome = example();
        outcome.verdict = crate::outcome::Verdict { headline: "FAILED: 3 lost".into(), ..Default::default() };
        let page = page(&[outcome], None);
        assert!(page.contains("<p class=\"verdict bad\">FAILED: 3 lost</p>"));
    }
}
