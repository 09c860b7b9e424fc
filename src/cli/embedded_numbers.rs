//! The embedded log's counters on `/metrics`.

use std::sync::Arc;

use crate::embedded::Counters;
use crate::metrics::collector::{Extra, Number};
use crate::metrics::spec::{Kind, Spec};

/// The counters, named for Prometheus.
#[derive(Debug)]
pub(super) struct EmbeddedNumbers(pub(super) Arc<Counters>);

/// The name, kind and unit on `/metrics`, where they differ from the counter's own.
fn shown(name: &'static str) -> (&'static str, Kind, f64) {
    match name {
        "embedded_connections_open" => ("embedded_connections", Kind::Gauge, 1.0),
        "embedded_topics" | "embedded_partitions" | "embedded_recovery_holes" | "embedded_recovery_files_damaged" => {
            (name, Kind::Gauge, 1.0)
        }
        "embedded_recovery_bytes_cut" => ("embedded_recovery_truncated_bytes", Kind::Gauge, 1.0),
        "embedded_bytes_appended" => ("embedded_appended_bytes", Kind::Counter, 1.0),
        "embedded_bytes_fetched" => ("embedded_fetched_bytes", Kind::Counter, 1.0),
        "embedded_bytes_expired" => ("embedded_expired_bytes", Kind::Counter, 1.0),
        "embedded_sync_us" => ("embedded_sync_seconds", Kind::Counter, 1e6),
        _ => (name, Kind::Counter, 1.0),
    }
}

/// The names and meanings of the counters.
pub(super) fn specs() -> impl Iterator<Item = Spec> {
    Counters::DESCRIBED.iter().map(|(name, help)| {
        let (name, kind, _) = shown(name);
        Spec { name, label: None, help: help.trim_start(), kind }
    })
}

impl Extra for EmbeddedNumbers {
    fn read(&self) -> Vec<Number> {
        let units = Counters::DESCRIBED.iter().map(|(name, _)| shown(name).2);
        let values = self.0.snapshot().into_iter().zip(units).map(|((_, value), unit)| value as f64 / unit);
        specs().zip(values).map(|(spec, value)| Number { spec, labels: Vec::new(), value }).collect()
    }
}
