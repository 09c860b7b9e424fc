//! The result of a run: the JSON that is written (`bench/README.md` documents its schema), from which reports are made.

use base64::Engine;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::{Serializer, V2DeflateSerializer};
use serde::{Deserialize, Serialize};

use crate::machine::Machine;

/// Version of the JSON; raised when a field changes its meaning or goes away.
pub(crate) const SCHEMA: u32 = 1;

/// A whole run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Outcome {
    pub(crate) schema: u32,
    pub(crate) generator: String,
    /// Name of the system under test, as given.
    pub(crate) target: String,
    /// Seconds since 1970.
    pub(crate) started: u64,
    pub(crate) scenario: serde_json::Value,
    pub(crate) name: String,
    pub(crate) description: String,
    pub(crate) machine: Machine,
    pub(crate) verdict: Verdict,
    pub(crate) totals: Totals,
    /// Latencies by kind: `connect`, `puback`, `pubcomp`, `delivery`, `kafka_readable`.
    pub(crate) latency: std::collections::BTreeMap<String, Latency>,
    pub(crate) processes: Vec<Process>,
    pub(crate) timeline: Vec<Sample>,
}

/// Whether the run can be trusted, and the faults of the messages that arrived.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Verdict {
    pub(crate) passed: bool,
    /// The first line of every summary.
    pub(crate) headline: String,
    /// Missing deliveries to subscribers.
    pub(crate) lost: u64,
    pub(crate) doubled: u64,
    pub(crate) disordered: u64,
    pub(crate) altered: u64,
    pub(crate) foreign: u64,
    /// QoS 1 and 2 messages without an answer at the end.
    pub(crate) unanswered: u64,
    pub(crate) refused: u64,
    pub(crate) connections_lost: u64,
    pub(crate) connects_failed: u64,
    pub(crate) protocol_errors: u64,
    /// Messages that were due and never sent (open loop).
    pub(crate) unsent: u64,
    /// The findings of the judge in Kafka; `null`: Kafka was not read.
    pub(crate) kafka: Option<serde_json::Value>,
    /// Warnings for the reader, such as that the generator was the limit.
    pub(crate) notes: Vec<String>,
}

/// Counts and durations of the whole run.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Totals {
    pub(crate) connections: u64,
    pub(crate) connects: u64,
    pub(crate) sent_qos0: u64,
    pub(crate) sent_qos1: u64,
    pub(crate) sent_qos2: u64,
    pub(crate) sent: u64,
    pub(crate) answered: u64,
    pub(crate) received: u64,
    pub(crate) expected: u64,
    /// The time from the first message to the last answer, in seconds.
    pub(crate) wall_s: f64,
    pub(crate) sent_per_s: f64,
    pub(crate) received_per_s: f64,
    pub(crate) connects_per_s: f64,
    /// CPU of the generator's threads over the run, seconds; and the busiest one's share of its time.
    pub(crate) generator_cpu_s: f64,
    pub(crate) generator_busy: f64,
}

/// A watched process.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Process {
    pub(crate) name: String,
    pub(crate) pid: u32,
    pub(crate) cpu_s: f64,
    pub(crate) user_s: f64,
    pub(crate) system_s: f64,
    /// CPU microseconds per message sent or delivered; per connect if there were no messages.
    pub(crate) cpu_us_per_message: f64,
    pub(crate) rss_bytes_before: u64,
    pub(crate) rss_bytes_max: u64,
    pub(crate) rss_bytes_end: u64,
    pub(crate) voluntary_switches: u64,
    pub(crate) involuntary_switches: u64,
    /// System calls; `null`: not counted.
    pub(crate) system_calls: Option<u64>,
    pub(crate) system_calls_per_message: Option<f64>,
}

/// A sample of the run.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Sample {
    /// Seconds from the start of the load; negative while connections are made.
    pub(crate) s: f64,
    pub(crate) connected: u64,
    /// Rates per second since the sample before.
    pub(crate) sent_per_s: f64,
    pub(crate) answered_per_s: f64,
    pub(crate) received_per_s: f64,
    pub(crate) connects_per_s: f64,
    pub(crate) behind: u64,
    /// Latency of answers and deliveries since the sample before, in microseconds; 0: there were none.
    pub(crate) p50_us: u64,
    pub(crate) p99_us: u64,
    pub(crate) max_us: u64,
    /// By process: the share of one core in use, and resident bytes.
    pub(crate) cpu: Vec<f64>,
    pub(crate) rss_bytes: Vec<u64>,
}

/// A distribution, in microseconds.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Latency {
    pub(crate) count: u64,
    pub(crate) mean_us: f64,
    pub(crate) p50_us: u64,
    pub(crate) p90_us: u64,
    pub(crate) p99_us: u64,
    pub(crate) p999_us: u64,
    pub(crate) p9999_us: u64,
    pub(crate) max_us: u64,
    /// Percentile and value, for plots.
    pub(crate) curve: Vec<(f64, u64)>,
    /// The raw HdrHistogram, V2 compressed, in base64.
    pub(crate) histogram: String,
}

impl Latency {
    /// The latencies of a histogram; `None`: it is empty.
    pub(crate) fn of(histogram: &Histogram<u64>) -> Option<Self> {
        if histogram.is_empty() {
            return None;
        }
        let at = |quantile| histogram.value_at_quantile(quantile);
        // Steps get finer towards 100 %: half of the rest each time, in five parts.
        let mut curve = vec![(0.0, histogram.min())];
        let (mut from, mut rest) = (0.0_f64, 1.0_f64);
        while rest * histogram.len() as f64 >= 1.0 && rest > 1e-6 {
            for part in 1..=5 {
                let quantile = from + rest / 2.0 * f64::from(part) / 5.0;
                curve.push((quantile * 100.0, at(quantile)));
            }
            from += rest / 2.0;
            rest /= 2.0;
        }
        let mut raw = Vec::new();
        let _ = V2DeflateSerializer::new().serialize(histogram, &mut raw);
        Some(Self {
            count: histogram.len(),
            mean_us: histogram.mean(),
            p50_us: at(0.5),
            p90_us: at(0.9),
            p99_us: at(0.99),
            p999_us: at(0.999),
            p9999_us: at(0.9999),
            max_us: histogram.max(),
            curve,
            histogram: base64::engine::general_purpose::STANDARD.encode(raw),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_raw_histogram_can_be_read_back() {
        let mut histogram = Histogram::<u64>::new_with_bounds(1, 3_600_000_000, 3).unwrap();
        assert!(Latency::of(&histogram).is_none());
        (1..=1_000).for_each(|value| histogram.saturating_record(value));
        let latency = Latency::of(&histogram).unwrap();
        assert_eq!((latency.p50_us, latency.p99_us, latency.max_us), (500, 990, 1_000));
        assert!(latency.curve.is_sorted_by(|a, b| a.0 <= b.0 && a.1 <= b.1), "{:?}", latency.curve);
        let raw = base64::engine::general_purpose::STANDARD.decode(&latency.histogram).unwrap();
        let mut bytes = raw.as_slice();
        let again: Histogram<u64> = hdrhistogram::serialization::Deserializer::new().deserialize(&mut bytes).unwrap();
        assert_eq!(again, histogram);
    }
}
