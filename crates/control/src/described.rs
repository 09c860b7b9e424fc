//! Sinks, clusters and listeners: texts from the configuration and numbers from the boards.

use std::collections::BTreeMap;

use serde::Serialize;
use utoipa::ToSchema;

use super::bridges::Bridge;
use super::letter_topics::LetterPlaces;
use super::rules::Rule;
use super::sources::Source;
use super::users::Auth;
use forebay_metrics::journal::{Journal, Trouble};
use forebay_metrics::lag::Lag;
use forebay_metrics::samples::{Sample, Span, State, WINDOW};
use forebay_metrics::spec::{ClusterMetric as C, Layout, ListenerMetric as L, REFUSALS, SINK, SinkMetric as S};

/// A sink, as configured.
#[derive(Clone, Debug)]
pub struct Sink {
    /// The sink's name.
    pub name: String,
    /// Description from the configuration.
    pub description: Option<String>,
    /// Index of the sink's cluster in [`Described::clusters`].
    pub cluster: usize,
    /// MQTT topic filters.
    pub filters: Vec<String>,
    /// Kafka topic; `None`: a template makes it from the message.
    pub topic: Option<String>,
    /// `received`, `stored`, `leader` or `replicated`.
    pub acknowledge: &'static str,
    /// Destination of dead letters, if any.
    pub dead_letters: Option<DeadLetters>,
    /// Whether it is no longer in the configuration.
    pub is_removed: bool,
    /// Whether sending to Kafka is paused.
    pub is_paused: bool,
}

impl Sink {
    /// The state that holds whatever the sink's numbers say.
    fn state(&self) -> Option<&'static str> {
        match self {
            Self { is_removed: true, .. } => Some("removed"),
            Self { is_paused: true, .. } => Some("paused"),
            _ => None,
        }
    }
}

/// Destination of dead letters.
#[derive(Clone, Debug)]
pub struct DeadLetters {
    /// Topic of the sink's cluster.
    pub topic: Option<String>,
    /// Path of a file.
    pub file: Option<String>,
}

/// A Kafka cluster, as configured.
#[derive(Clone, Debug)]
pub struct Cluster {
    /// The cluster's name.
    pub name: String,
    /// Description from the configuration.
    pub description: Option<String>,
    /// Bootstrap brokers.
    pub bootstrap: Vec<String>,
    /// Whether it is no longer in the configuration.
    pub is_removed: bool,
}

/// An open listener.
#[derive(Clone, Debug)]
pub struct Listener {
    /// The listener's address.
    pub address: String,
    /// Transport of its connections.
    pub transport: &'static str,
    /// Whether it is no longer in the configuration.
    pub is_removed: bool,
}

/// Settings of the dashboard.
#[derive(Clone, Debug, Default)]
pub struct Dashboard {
    /// Whether it is served.
    pub is_served: bool,
    /// Origins of pages that may make changes; none: the origin of the request's host.
    pub origins: Vec<String>,
    /// Path prefix at a proxy, without a slash at its end; empty: none.
    pub base_path: String,
    /// Grafana's page for weeks and months, linked in the navigation.
    pub grafana_url: Option<String>,
}

/// Everything configured, in the order of the boards.
#[derive(Clone, Debug, Default)]
pub struct Described {
    /// Sinks.
    pub sinks: Vec<Sink>,
    /// Sources.
    pub sources: Vec<Source>,
    /// Bridges.
    pub bridges: Vec<Bridge>,
    /// Rules.
    pub rules: Vec<Rule>,
    /// Clusters.
    pub clusters: Vec<Cluster>,
    /// Listeners.
    pub listeners: Vec<Listener>,
    /// Every `[auth.NAME]`.
    pub auth: Vec<Auth>,
    /// Destinations of dead letters.
    pub letters: LetterPlaces,
    /// Part of the memory above which the machine is short of memory, if a sink needs to know.
    pub memory_high_watermark: Option<f64>,
    /// Whether a spool is configured.
    pub has_spool: bool,
    /// The dashboard.
    pub dashboard: Dashboard,
    /// The configuration in force, without secrets.
    pub config: serde_json::Value,
}

/// A sink and its counters since the process began, all shards together.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct SinkStatus {
    /// Name in the configuration.
    pub(super) name: String,
    /// Description from the configuration.
    description: Option<String>,
    /// Its Kafka cluster.
    kafka: String,
    /// MQTT topic filters.
    filters: Vec<String>,
    /// Kafka topic; null: a template makes it from each message.
    topic: Option<String>,
    /// Guarantee of an acknowledged message.
    acknowledge: &'static str,
    /// `running`; `stalled`: records have waited for the whole window and none was finished; `unreachable`: no shard has a connection to the cluster;
    /// `paused`: no new requests are sent; `removed`: the sink is no longer in the configuration, and is listed until its records are finished.
    #[schema(example = "running")]
    pub(super) state: &'static str,
    /// Why the sink is not running.
    pub(super) reason: Option<String>,
    /// Records taken from publishes and wills.
    records_in: u64,
    /// Records found in the spool when the process began.
    recovered: u64,
    /// Records in Kafka, at the acknowledgement level of the sink.
    delivered: u64,
    /// Records that ended otherwise, in total; `failures` counts them by reason.
    failed: u64,
    /// Records that ended otherwise, by the `result` of forebay_sink_records_out_total.
    failures: BTreeMap<String, u64>,
    /// Publishes that the sink refused permanently, by the `reason` of forebay_sink_publishes_refused_total. None of the other numbers counts them.
    refused_publishes: BTreeMap<String, u64>,
    /// Records taken and not yet finished. records_in + recovered = delivered + failed + buffered_records, except that the
    /// shards are not read at the same instant.
    buffered_records: u64,
    /// Memory used by records taken and not yet finished.
    buffered_bytes: u64,
    /// Unfinished records that are in the spool.
    spooled_records: u64,
    /// Age of the oldest record that is not in Kafka; 0: none.
    lag_seconds: f64,
    /// Batches sent again.
    batch_retries: u64,
    /// Rates per second.
    rate: SinkRate,
}

/// Rates per second over the last seconds.
#[derive(Debug, Serialize, ToSchema)]
struct SinkRate {
    /// Seconds that the rates cover, at most.
    window_seconds: u64,
    records_in_per_second: f64,
    delivered_per_second: f64,
    failed_per_second: f64,
}

/// A Kafka cluster and its numbers, all shards together.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ClusterStatus {
    /// Name in the configuration.
    pub(super) name: String,
    /// Description from the configuration.
    description: Option<String>,
    /// Bootstrap brokers.
    bootstrap: Vec<String>,
    /// Whether any shard has a broker that answers.
    reachable: bool,
    /// Number of shards with a broker that answers; each shard has its own connections.
    reachable_shards: u64,
    /// Connections to brokers.
    connections: u64,
    /// Produce requests without a response.
    requests_in_flight: u64,
    /// Memory used by records in flight.
    buffer_bytes: u64,
    /// Limit of `buffer_bytes`; publishers are paused near it.
    buffer_bytes_max: u64,
    /// Part of the limit that new records may not use, because it serves to free memory: publishers wait when the rest is used.
    buffer_bytes_reserved: u64,
    /// Total time that quotas of the brokers have throttled the service.
    throttled_seconds: f64,
    /// Rates per second.
    rate: ClusterRate,
}

/// Rates per second over the last seconds.
#[derive(Debug, Serialize, ToSchema)]
struct ClusterRate {
    /// Seconds that the rates cover, at most.
    window_seconds: u64,
    requests_per_second: f64,
    sent_bytes_per_second: f64,
}

/// A listener and its numbers, all shards together.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ListenerStatus {
    /// The listener's address.
    address: String,
    /// Transport of its connections.
    transport: &'static str,
    /// Open client connections.
    connections: u64,
    /// PUBLISH packets received, duplicates of QoS 2 not counted: matched + unmatched + refused.
    received: u64,
    /// Publishes that at least one sink matched.
    matched: u64,
    /// Publishes that no sink matched.
    unmatched: u64,
    /// Publishes refused before any sink took them.
    refused: u64,
    /// Rates per second.
    rate: ListenerRate,
}

/// Rates per second over the last seconds.
#[derive(Debug, Serialize, ToSchema)]
struct ListenerRate {
    /// Seconds that the rates cover, at most.
    window_seconds: u64,
    received_per_second: f64,
}

/// Dead letters of a sink.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct DeadLetterStatus {
    /// Name of the sink.
    sink: String,
    /// Kafka topic of the dead letters.
    topic: Option<String>,
    /// File of the dead letters, or of those that the topic refuses.
    file: Option<String>,
    /// Dead letters since the process began, topic and file together.
    records: u64,
    /// Dead letters in the file.
    file_records: u64,
}

impl Described {
    /// Why a sink is not running, in words.
    #[must_use]
    pub fn reason(&self, span: &Span, journal: &Journal, sink: usize) -> Option<String> {
        if self.sinks[sink].is_paused {
            return Some("it is paused; records wait in its buffer".to_owned());
        }
        let cluster = self.sinks[sink].cluster;
        let name = &self.clusters[cluster].name;
        let errors = |sample: &Sample| sample.sink(sink, S::KafkaErrors);
        let trouble = || journal.troubles().into_iter().rfind(|trouble| trouble.kafka == *name);
        match span.state(sink, cluster) {
            State::Running => None,
            State::Unreachable => Some(self.unreachable(journal, cluster)),
            State::Stalled => {
                let (rows, seconds) = (span.now.sink(sink, S::BufferedRows), WINDOW.as_secs());
                let why = match (errors(&span.now) - errors(&span.then), trouble()) {
                    (0, Some(Trouble { broker, reason, .. })) => format!("broker {broker} cannot be used: {reason}"),
                    (0, None) => {
                        "no response from Kafka, or a topic or leader is missing; `forebay events` shows which"
                            .to_owned()
                    }
                    _ => "Kafka answers with errors; /metrics has them by code, `forebay events` the topics".to_owned(),
                };
                Some(format!("{rows} records waiting, none finished for {seconds} s: {why}"))
            }
        }
    }

    /// State of a sink.
    pub(super) fn sink_state(&self, span: &Span, sink: usize) -> &'static str {
        let of = &self.sinks[sink];
        of.state().unwrap_or_else(|| span.state(sink, of.cluster).as_str())
    }

    /// Why a cluster cannot be reached, in words.
    pub(super) fn unreachable(&self, journal: &Journal, cluster: usize) -> String {
        let name = &self.clusters[cluster].name;
        match journal.troubles().into_iter().rfind(|trouble| trouble.kafka == *name) {
            Some(Trouble { broker, reason, .. }) => {
                format!("no broker of the cluster {name:?} can be used; {broker}: {reason}")
            }
            None => format!("no broker of the cluster {name:?} answers"),
        }
    }

    pub(super) fn sink(
        &self,
        (span, lag, journal): (&Span, &Lag, &Journal),
        layout: Layout,
        index: usize,
    ) -> SinkStatus {
        let sink = &self.sinks[index];
        let of = |metric| span.now.sink(index, metric);
        let failures = S::FAILED.iter().map(|metric| {
            let (_, result) = SINK[*metric as usize].label.unwrap_or_default();
            (result.to_owned(), of(*metric))
        });
        let first = layout.first_refusal() + index * REFUSALS.len();
        let refused = REFUSALS.iter().enumerate().map(|(place, spec)| (spec.name, span.now.place(first + place)));
        SinkStatus {
            name: sink.name.clone(),
            description: sink.description.clone(),
            kafka: self.clusters[sink.cluster].name.clone(),
            filters: sink.filters.clone(),
            topic: sink.topic.clone(),
            acknowledge: sink.acknowledge,
            state: self.sink_state(span, index),
            reason: self.reason(span, journal, index),
            records_in: of(S::Matched),
            recovered: of(S::Recovered),
            delivered: of(S::Delivered),
            failed: span.now.failed(index),
            failures: failures.collect(),
            refused_publishes: refused
                .filter(|(_, count)| *count > 0)
                .map(|(r, count)| (r.to_owned(), count))
                .collect(),
            buffered_records: of(S::BufferedRows),
            buffered_bytes: of(S::BufferedBytes),
            spooled_records: of(S::SpooledRows),
            lag_seconds: (lag.seconds(index) * 10.0).round() / 10.0,
            batch_retries: of(S::Retries),
            rate: SinkRate {
                window_seconds: WINDOW.as_secs(),
                records_in_per_second: span.per_s(|sample| sample.sink(index, S::Matched)),
                delivered_per_second: span.per_s(|sample| sample.sink(index, S::Delivered)),
                failed_per_second: span.per_s(|sample| sample.failed(index)),
            },
        }
    }

    pub(super) fn cluster(&self, span: &Span, index: usize) -> ClusterStatus {
        let of = |metric| span.now.cluster(index, metric);
        ClusterStatus {
            name: self.clusters[index].name.clone(),
            description: self.clusters[index].description.clone(),
            bootstrap: self.clusters[index].bootstrap.clone(),
            reachable: of(C::Reachable) > 0,
            reachable_shards: of(C::Reachable),
            connections: of(C::Links),
            requests_in_flight: of(C::RequestsInFlight),
            buffer_bytes: of(C::BufferBytes),
            buffer_bytes_max: of(C::BufferBytesMax),
            buffer_bytes_reserved: of(C::BufferReserved),
            throttled_seconds: of(C::ThrottleMs) as f64 / 1e3,
            rate: ClusterRate {
                window_seconds: WINDOW.as_secs(),
                requests_per_second: span.per_s(|sample| sample.cluster(index, C::Requests)),
                sent_bytes_per_second: span.per_s(|sample| sample.cluster(index, C::SentBytes)),
            },
        }
    }

    pub(super) fn listener(&self, span: &Span, layout: Layout, index: usize) -> ListenerStatus {
        let of = |metric| span.now.place(layout.listener(index, metric));
        ListenerStatus {
            address: self.listeners[index].address.clone(),
            transport: self.listeners[index].transport,
            connections: of(L::Open),
            received: of(L::Received),
            matched: of(L::Matched),
            unmatched: of(L::Unmatched),
            refused: of(L::Refused),
            rate: ListenerRate {
                window_seconds: WINDOW.as_secs(),
                received_per_second: span.per_s(|sample| sample.place(layout.listener(index, L::Received))),
            },
        }
    }

    pub(super) fn dead_letters(&self, span: &Span) -> Vec<DeadLetterStatus> {
        let with = self.sinks.iter().enumerate().filter(|(_, sink)| !sink.is_removed);
        let with = with.filter_map(|(index, sink)| Some((index, sink, sink.dead_letters.as_ref()?)));
        let status = |(index, sink, dead): (usize, &Sink, &DeadLetters)| DeadLetterStatus {
            sink: sink.name.clone(),
            topic: dead.topic.clone(),
            file: dead.file.clone(),
            records: span.now.sink(index, S::DeadLettered),
            file_records: span.now.sink(index, S::DeadLetteredInFile),
        };
        with.map(status).collect()
    }
}
