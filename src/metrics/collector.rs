//! From boards to Prometheus text.

use std::fmt;
use std::sync::Arc;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;

use super::board::Board;
use super::spec::{CLUSTER, ERRORS, ERRORS_HELP, ERRORS_NAME, Kind, LISTENER, Layout, SHARD, SINK, Spec};

/// All shards' boards with the names that their places stand for.
#[derive(Debug)]
pub struct Boards {
    /// One for each shard.
    pub shards: Vec<Arc<Board>>,
    /// Names of the sinks, in the order of the configuration.
    pub sinks: Vec<String>,
    /// Names of the clusters, likewise.
    pub clusters: Vec<String>,
    /// Addresses of the listeners, likewise.
    pub listeners: Vec<String>,
}

impl Boards {
    /// Where the numbers stand.
    #[must_use]
    pub fn layout(&self) -> Layout {
        Layout { sinks: self.sinks.len(), clusters: self.clusters.len(), listeners: self.listeners.len() }
    }

    /// One snapshot of each shard.
    #[must_use]
    pub fn read(&self) -> Vec<Vec<u64>> {
        self.shards.iter().map(|board| board.read()).collect()
    }
}

/// A number that stands on no board.
#[derive(Clone, Debug)]
pub struct Number {
    /// Its name, as in [`Spec`].
    pub name: &'static str,
    /// One sentence.
    pub help: &'static str,
    /// Counter or gauge.
    pub kind: Kind,
    /// Its labels, mostly none.
    pub labels: Labels,
    /// The number.
    pub value: u64,
}

impl Number {
    /// One of a table, without labels.
    #[must_use]
    pub fn of(spec: &Spec, value: u64) -> Self {
        Self { name: spec.name, help: spec.help, kind: spec.kind, labels: Vec::new(), value }
    }
}

/// Numbers of other threads (the process, the embedded log): read at each scrape.
pub trait Extra: Send + Sync + fmt::Debug {
    /// All of them.
    fn read(&self) -> Vec<Number>;
}

#[derive(Debug)]
struct Scrape {
    boards: Arc<Boards>,
    extra: Vec<Arc<dyn Extra>>,
}

/// The text that `/metrics` answers with.
///
/// # Errors
/// Formatting errors of the encoder, which a `String` never gives.
pub fn render(boards: &Arc<Boards>, extra: &[Arc<dyn Extra>]) -> Result<String, fmt::Error> {
    let mut registry = Registry::with_prefix("forebay");
    registry.register_collector(Box::new(Scrape { boards: Arc::clone(boards), extra: extra.to_vec() }));
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &registry)?;
    Ok(text)
}

impl Collector for Scrape {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), fmt::Error> {
        let boards = &self.boards;
        let layout = boards.layout();
        let snapshots = boards.read();
        for (place, spec) in SHARD.iter().enumerate() {
            let rows = snapshots.iter().enumerate().map(|(s, v)| (labels(s, None), v[place])).collect();
            family(&mut encoder, (spec.name, spec.help, spec.kind), rows)?;
        }
        group(&mut encoder, &LISTENER, &snapshots, layout.first_listener(), ("listener", &boards.listeners))?;
        group(&mut encoder, &SINK, &snapshots, layout.first_sink(), ("sink", &boards.sinks))?;
        group(&mut encoder, &CLUSTER, &snapshots, layout.first_cluster(), ("kafka", &boards.clusters))?;
        errors(&mut encoder, &snapshots, layout.first_error(), &boards.clusters)?;
        for Number { name, help, kind, labels, value } in self.extra.iter().flat_map(|e| e.read()) {
            family(&mut encoder, (name, help, kind), vec![(labels, value)])?;
        }
        Ok(())
    }
}

/// Label names with their values.
pub type Labels = Vec<(&'static str, String)>;

fn labels(shard: usize, of: Option<(&'static str, &str)>) -> Labels {
    let mut labels = vec![("shard", shard.to_string())];
    labels.extend(of.map(|(key, name)| (key, name.to_owned())));
    labels
}

fn group(
    encoder: &mut DescriptorEncoder<'_>,
    table: &[Spec],
    snapshots: &[Vec<u64>],
    first: usize,
    (key, names): (&'static str, &[String]),
) -> fmt::Result {
    for (place, spec) in table.iter().enumerate() {
        let mut rows = Vec::new();
        for (shard, values) in snapshots.iter().enumerate() {
            for (index, name) in names.iter().enumerate() {
                rows.push((labels(shard, Some((key, name))), values[first + index * table.len() + place]));
            }
        }
        if !rows.is_empty() {
            family(encoder, (spec.name, spec.help, spec.kind), rows)?;
        }
    }
    Ok(())
}

/// One family, a label for the code.
fn errors(
    encoder: &mut DescriptorEncoder<'_>,
    snapshots: &[Vec<u64>],
    first: usize,
    clusters: &[String],
) -> fmt::Result {
    let mut rows = Vec::new();
    for (shard, values) in snapshots.iter().enumerate() {
        let counts = values[first..].chunks_exact(ERRORS.len());
        for (name, counts) in clusters.iter().zip(counts) {
            for (error, count) in ERRORS.iter().zip(counts) {
                let mut labels = labels(shard, Some(("kafka", name)));
                labels.push(("error", error.name.to_owned()));
                rows.push((labels, *count));
            }
        }
    }
    if rows.is_empty() { Ok(()) } else { family(encoder, (ERRORS_NAME, ERRORS_HELP, Kind::Counter), rows) }
}

fn family(
    encoder: &mut DescriptorEncoder<'_>,
    (name, help, kind): (&str, &str, Kind),
    rows: Vec<(Labels, u64)>,
) -> fmt::Result {
    let metric_type = match kind {
        Kind::Counter => MetricType::Counter,
        Kind::Gauge => MetricType::Gauge,
    };
    let mut metric = encoder.encode_descriptor(name, help, None, metric_type)?;
    for (labels, value) in rows {
        let at = metric.encode_family(&labels)?;
        match kind {
            Kind::Counter => ConstCounter::new(value).encode(at)?,
            Kind::Gauge => ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX)).encode(at)?,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::spec::{ClusterMetric, KafkaError, ListenerMetric, ShardMetric, SinkMetric};

    #[test]
    fn the_text_names_shard_sink_and_cluster() {
        let layout = Layout { sinks: 1, clusters: 1, listeners: 1 };
        let board = Board::new(layout.len());
        let mut values = vec![0; layout.len()];
        values[ShardMetric::ConnectionsOpen as usize] = 3;
        values[layout.sink(0, SinkMetric::Delivered)] = 7;
        values[layout.cluster(0, ClusterMetric::Reachable)] = 1;
        values[layout.listener(0, ListenerMetric::Received)] = 9;
        values[layout.error(0, KafkaError::NotLeader)] = 2;
        board.publish(&values);
        let boards = Boards {
            shards: vec![Arc::new(board)],
            sinks: vec!["t".into()],
            clusters: vec!["main".into()],
            listeners: vec!["0.0.0.0:1883".into()],
        };
        let text = render(&Arc::new(boards), &[]).expect("text");
        assert!(text.contains("forebay_connections_open{shard=\"0\"} 3"), "{text}");
        assert!(text.contains("forebay_sink_delivered_total{shard=\"0\",sink=\"t\"} 7"), "{text}");
        assert!(text.contains("forebay_kafka_reachable{shard=\"0\",kafka=\"main\"} 1"), "{text}");
        let received = "forebay_listener_publishes_received_total{shard=\"0\",listener=\"0.0.0.0:1883\"} 9";
        let moved = "forebay_kafka_errors_total{shard=\"0\",kafka=\"main\",error=\"NOT_LEADER_OR_FOLLOWER\"} 2";
        assert!(text.contains(received) && text.contains(moved), "{text}");
    }
}
