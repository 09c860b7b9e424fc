//! The embedded log's counters on `/metrics`.

use std::sync::Arc;

use crate::embedded::Counters;
use crate::metrics::collector::Extra;
use crate::metrics::spec::Kind;

/// What of them goes up and down.
const GAUGES: &[&str] = &["connections_open", "topics", "partitions", "recovery_holes", "recovery_bytes_cut"];

/// The counters, named for Prometheus.
#[derive(Debug)]
pub(super) struct EmbeddedNumbers(pub(super) Arc<Counters>);

impl Extra for EmbeddedNumbers {
    fn read(&self) -> Vec<(String, &'static str, Kind, u64)> {
        let named = |(name, value): (&'static str, u64)| {
            let kind = if GAUGES.contains(&name) { Kind::Gauge } else { Kind::Counter };
            (format!("embedded_{name}"), "Of the embedded log; docs/EMBEDDED_LOG.md says what each is.", kind, value)
        };
        self.0.snapshot().into_iter().map(named).collect()
    }
}
