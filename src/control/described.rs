//! What the numbers are of: sinks, clusters and listeners as JSON, their words from the configuration and their numbers
//! from the boards.

use serde_json::{Map, Value, json};

use crate::metrics::samples::{Sample, Span, State, WINDOW};
use crate::metrics::spec::{ClusterMetric as C, Layout, ListenerMetric as L, SINK, SinkMetric as S};

/// A sink, as configured.
#[derive(Clone, Debug)]
pub struct Sink {
    /// Its name.
    pub name: String,
    /// Its cluster's place in [`Described::clusters`].
    pub cluster: usize,
    /// MQTT topic filters.
    pub filters: Vec<String>,
    /// Its Kafka topic; `None`: a template makes it from the message.
    pub topic: Option<String>,
    /// `received`, `leader` or `replicated`.
    pub acknowledge: &'static str,
}

/// A Kafka cluster, as configured.
#[derive(Clone, Debug)]
pub struct Cluster {
    /// Its name.
    pub name: String,
    /// Brokers to start from.
    pub bootstrap: Vec<String>,
}

/// A listener, as it listens.
#[derive(Clone, Debug)]
pub struct Listener {
    /// Its address.
    pub address: String,
    /// How bytes travel.
    pub transport: &'static str,
}

/// All of them, in the order of the boards.
#[derive(Clone, Debug, Default)]
pub struct Described {
    /// Sinks.
    pub sinks: Vec<Sink>,
    /// Clusters.
    pub clusters: Vec<Cluster>,
    /// Listeners.
    pub listeners: Vec<Listener>,
}

impl Described {
    /// Why a sink does not run, in words.
    #[must_use]
    pub fn reason(&self, span: &Span, sink: usize) -> Option<String> {
        let cluster = self.sinks[sink].cluster;
        let name = &self.clusters[cluster].name;
        let errors = |sample: &Sample| sample.sink(sink, S::KafkaErrors);
        match span.state(sink, cluster) {
            State::Running => None,
            State::Unreachable => Some(format!("no broker of the cluster {name:?} answers")),
            State::Stalled => {
                let (rows, seconds) = (span.now.sink(sink, S::BufferedRows), WINDOW.as_secs());
                let why = match errors(&span.now) - errors(&span.then) {
                    0 => "Kafka has not answered",
                    _ => "Kafka answers with errors; /metrics has them by code, /api/v1/events the topics",
                };
                Some(format!("{rows} messages wait and none was settled for {seconds} s: {why}"))
            }
        }
    }

    /// A sink with its numbers.
    #[must_use]
    pub fn sink(&self, span: &Span, index: usize) -> Value {
        let sink = &self.sinks[index];
        let of = |metric| span.now.sink(index, metric);
        let failures = S::FAILED.iter().map(|metric| {
            let name = SINK[*metric as usize].name;
            (name.trim_start_matches("sink_").to_owned(), Value::from(of(*metric)))
        });
        json!({
            "name": sink.name,
            "kafka": self.clusters[sink.cluster].name,
            "filters": sink.filters,
            "topic": sink.topic,
            "acknowledge": sink.acknowledge,
            "state": span.state(index, sink.cluster).as_str(),
            "reason": self.reason(span, index),
            "total": of(S::Matched),
            "success": of(S::Delivered),
            "failure": span.now.failed(index),
            "failures": failures.collect::<Map<_, _>>(),
            "recovered": of(S::Recovered),
            "buffered": of(S::BufferedRows),
            "spooled": of(S::SpooledRows),
            "buffered_bytes": of(S::BufferedBytes),
            "retries": of(S::Retries),
            "rate": {
                "window_s": WINDOW.as_secs(),
                "total_per_s": span.per_s(|sample| sample.sink(index, S::Matched)),
                "success_per_s": span.per_s(|sample| sample.sink(index, S::Delivered)),
                "failure_per_s": span.per_s(|sample| sample.failed(index)),
            },
        })
    }

    /// A cluster with its numbers. `reachable_shards`: of so many shards a connection stands.
    #[must_use]
    pub fn cluster(&self, span: &Span, index: usize) -> Value {
        let of = |metric| span.now.cluster(index, metric);
        json!({
            "name": self.clusters[index].name,
            "bootstrap": self.clusters[index].bootstrap,
            "reachable": of(C::Reachable) > 0,
            "reachable_shards": of(C::Reachable),
            "connections": of(C::Links),
            "requests_in_flight": of(C::RequestsInFlight),
            "buffer_bytes": of(C::BufferBytes),
            "buffer_bytes_max": of(C::BufferBytesMax),
            "throttle_ms": of(C::ThrottleMs),
            "rate": {
                "window_s": WINDOW.as_secs(),
                "requests_per_s": span.per_s(|sample| sample.cluster(index, C::Requests)),
                "sent_bytes_per_s": span.per_s(|sample| sample.cluster(index, C::SentBytes)),
            },
        })
    }

    /// A listener with its numbers.
    #[must_use]
    pub fn listener(&self, span: &Span, layout: Layout, index: usize) -> Value {
        let of = |metric| span.now.place(layout.listener(index, metric));
        json!({
            "address": self.listeners[index].address,
            "transport": self.listeners[index].transport,
            "connections": of(L::Open),
            "received": of(L::Received),
            "matched": of(L::Matched),
            "unmatched": of(L::Unmatched),
            "refused": of(L::Refused),
            "rate": {
                "window_s": WINDOW.as_secs(),
                "received_per_s": span.per_s(|sample| sample.place(layout.listener(index, L::Received))),
            },
        })
    }
}
