//! The embedded log's counters on `/metrics`.

use std::sync::Arc;

use crate::embedded::Counters;
use crate::metrics::collector::{Extra, Number};
use crate::metrics::spec::{Kind, Spec};

/// What of them goes up and down.
const GAUGES: &[&str] = &["connections_open", "topics", "partitions", "recovery_holes", "recovery_bytes_cut"];

/// The counters, named for Prometheus.
#[derive(Debug)]
pub(super) struct EmbeddedNumbers(pub(super) Arc<Counters>);

/// What they are called and mean.
pub(super) fn specs() -> impl Iterator<Item = Spec> {
    Counters::DESCRIBED.iter().map(|(name, help)| {
        let gauge = name.strip_prefix("embedded_").is_some_and(|name| GAUGES.contains(&name));
        Spec { name, help: help.trim_start(), kind: if gauge { Kind::Gauge } else { Kind::Counter } }
    })
}

impl Extra for EmbeddedNumbers {
    fn read(&self) -> Vec<Number> {
        specs().zip(self.0.snapshot()).map(|(spec, (_, value))| Number::of(&spec, value)).collect()
    }
}
