//! OpenTelemetry: exports the metrics of `/metrics` and spans of the control plane to a collector by OTLP over HTTP, as JSON. Off unless configured.
//! Messages are never spans: their trace context goes to Kafka as a record header.
//!
//! The exporter is an ordinary thread that reads boards, as a scrape does; no shard knows of it. Spans and metrics that a collector does not accept are
//! dropped and counted: metrics are cumulative, so the next export makes up for it.

mod exporter;
mod http;
mod json;
mod span;

use std::fmt;
use std::time::Duration;

pub use exporter::{Exporter, NUMBERS, Running, Source};
pub use http::Endpoint;
pub use span::{Span, TraceContext, Tracer, Value};

/// Settings of the export: collector, interval and name.
#[derive(Clone, PartialEq, Eq)]
pub struct Settings {
    /// The collector; `/v1/metrics` and `/v1/traces` are appended to its path.
    pub endpoint: Endpoint,
    /// Interval between exports of metrics.
    pub interval: Duration,
    /// Headers of every request.
    pub headers: Vec<(String, String)>,
    /// The resource's `service.name`.
    pub service_name: String,
}

/// `Debug` leaves out the values of headers, which may hold a secret.
impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.headers.iter().map(|(name, _)| name.as_str()).collect();
        f.debug_struct("Settings")
            .field("endpoint", &self.endpoint)
            .field("interval", &self.interval)
            .field("headers", &names)
            .field("service_name", &self.service_name)
            .finish()
    }
}
