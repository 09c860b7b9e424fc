//! The exporter's thread.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use serde_json::Value as Json;

use super::Settings;
use super::json::{self, Metrics};
use super::span::{Letter, Queue, Span, Tracer, unix_ns};
use forebay_metrics::collector::{Boards, Extra, Number, write};
use forebay_metrics::spec::{Kind, Spec};

/// Time that a span may wait for others to be sent with.
const SPANS_GATHER: Duration = Duration::from_secs(1);
/// Spans of one request, at most.
const SPANS_MAX: usize = 512;
/// Time-out for each step of a request; a collector is near, or of no use.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Time-out for each step while the service stops, which must not wait for a collector.
const LAST_TIMEOUT: Duration = Duration::from_secs(1);

/// Returns the boards and other numbers to export.
pub type Source = Box<dyn Fn() -> (Arc<Boards>, Vec<Arc<dyn Extra>>) + Send>;

/// The exporter's own numbers.
pub const NUMBERS: [Spec; 3] = [
    spec("telemetry_exports", "OTLP requests that the collector accepted."),
    spec("telemetry_export_failures", "OTLP requests that the collector did not accept; their spans are lost."),
    spec("telemetry_spans_dropped", "Spans dropped because too many waited for their export."),
];

const fn spec(name: &'static str, help: &'static str) -> Spec {
    Spec { name, label: None, help, kind: Kind::Counter }
}

/// An exporter that takes spans and has no thread yet.
#[derive(Debug)]
pub struct Exporter {
    settings: Settings,
    started: SystemTime,
    tracer: Tracer,
    counts: Arc<Counts>,
    letters: Receiver<Letter>,
}

#[derive(Debug)]
struct Counts {
    accepted: AtomicU64,
    failed: AtomicU64,
    spans: Arc<Queue>,
}

impl Extra for Counts {
    fn read(&self) -> Vec<Number> {
        let counts = [&self.accepted, &self.failed, &self.spans.dropped];
        NUMBERS.iter().zip(counts).map(|(spec, count)| Number::of(spec, count.load(Ordering::Relaxed))).collect()
    }
}

impl Exporter {
    /// `started`: when the process began to count.
    #[must_use]
    pub fn new(settings: Settings, started: SystemTime) -> Self {
        let (tracer, spans, letters) = Tracer::new();
        let counts = Arc::new(Counts { accepted: AtomicU64::new(0), failed: AtomicU64::new(0), spans });
        Self { settings, started, tracer, counts, letters }
    }

    /// The exporter's own numbers, for `/metrics`.
    #[must_use]
    pub fn numbers(&self) -> Arc<dyn Extra> {
        Arc::<Counts>::clone(&self.counts) as Arc<dyn Extra>
    }

    /// The tracer that hands spans to the exporter.
    #[must_use]
    pub fn tracer(&self) -> Tracer {
        self.tracer.clone()
    }

    /// Starts the export thread.
    ///
    /// # Errors
    /// The thread cannot be made.
    pub fn start(self, source: Source) -> io::Result<Running> {
        let Self { settings, started, tracer, counts, letters } = self;
        let instance = format!("{:032x}", fastrand::u128(..));
        let resource = json::resource(&settings.service_name, &instance);
        let work = Work { settings, started_ns: unix_ns(started), source, counts, resource, is_failing: false };
        let thread = std::thread::Builder::new().name("telemetry".into()).spawn(move || work.run(&letters))?;
        Ok(Running { tracer, thread })
    }
}

/// A running exporter.
#[derive(Debug)]
pub struct Running {
    tracer: Tracer,
    thread: JoinHandle<()>,
}

impl Running {
    /// Sends the remaining spans and numbers, and ends the thread.
    pub fn stop(self) {
        self.tracer.stop();
        let _ = self.thread.join();
    }
}

struct Work {
    settings: Settings,
    started_ns: u64,
    source: Source,
    counts: Arc<Counts>,
    resource: Json,
    is_failing: bool,
}

impl Work {
    fn run(mut self, letters: &Receiver<Letter>) {
        let mut spans: Vec<Span> = Vec::new();
        let mut metrics_at = Instant::now() + self.settings.interval;
        let mut spans_at = None;
        loop {
            let wake = spans_at.map_or(metrics_at, |at: Instant| at.min(metrics_at));
            let is_over = match letters.recv_timeout(wake.saturating_duration_since(Instant::now())) {
                Ok(Letter::Ended(span)) => {
                    spans.push(*span);
                    spans_at.get_or_insert_with(|| Instant::now() + SPANS_GATHER);
                    false
                }
                Err(RecvTimeoutError::Timeout) => false,
                Ok(Letter::Stop) | Err(RecvTimeoutError::Disconnected) => true,
            };
            let timeout = if is_over { LAST_TIMEOUT } else { TIMEOUT };
            let now = Instant::now();
            if is_over || spans.len() >= SPANS_MAX || spans_at.is_some_and(|at| at <= now) {
                self.send_spans(&mut spans, timeout);
                spans_at = None;
            }
            if is_over || metrics_at <= now {
                self.send_metrics(timeout);
                metrics_at = now + self.settings.interval;
            }
            if is_over {
                break;
            }
        }
    }

    fn send_spans(&mut self, spans: &mut Vec<Span>, timeout: Duration) {
        if !spans.is_empty() {
            let request = json::traces(&self.resource, spans);
            spans.clear();
            self.send("/v1/traces", &request, timeout);
        }
    }

    fn send_metrics(&mut self, timeout: Duration) {
        let (boards, extra) = (self.source)();
        let mut metrics = Metrics::new(self.started_ns, unix_ns(SystemTime::now()));
        write(&boards, &extra, &mut metrics);
        let request = metrics.finish(&self.resource);
        self.send("/v1/metrics", &request, timeout);
    }

    fn send(&mut self, path: &str, request: &Json, timeout: Duration) {
        let Settings { endpoint, headers, .. } = &self.settings;
        match endpoint.post(path, headers, &request.to_string(), timeout) {
            Ok(()) => {
                self.counts.accepted.fetch_add(1, Ordering::Relaxed);
                if std::mem::take(&mut self.is_failing) {
                    tracing::info!(%endpoint, "telemetry is exported again");
                }
            }
            Err(why) => {
                self.counts.failed.fetch_add(1, Ordering::Relaxed);
                // Only the first failure in a row is logged.
                if std::mem::replace(&mut self.is_failing, true) {
                    tracing::debug!(%endpoint, "telemetry is not exported: {why}");
                } else {
                    tracing::warn!(%endpoint, "telemetry is not exported: {why}; retrying. `telemetry.otlp` sets the address");
                }
            }
        }
    }
}
