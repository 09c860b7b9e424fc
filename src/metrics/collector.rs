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
use super::spec::{CLUSTER, Kind, Layout, SHARD, SINK, ShardMetric, SinkMetric, Spec};

/// All shards' boards with the names that their places stand for.
#[derive(Debug)]
pub struct Boards {
    /// One for each shard.
    pub shards: Vec<Arc<Board>>,
    /// Names of the sinks, in the order of the configuration.
    pub sinks: Vec<String>,
    /// Names of the clusters, likewise.
    pub clusters: Vec<String>,
}

/// Numbers of other threads (the embedded log): read at each scrape.
pub trait Extra: Send + Sync + fmt::Debug {
    /// Each number with its name (as in [`Spec`]), what it says and its kind.
    fn read(&self) -> Vec<(String, &'static str, Kind, u64)>;
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
        let layout = Layout { sinks: boards.sinks.len(), clusters: boards.clusters.len() };
        let snapshots: Vec<Vec<u64>> = boards.shards.iter().map(|b| b.read()).collect();
        for (place, spec) in SHARD.iter().enumerate() {
            let rows = snapshots.iter().enumerate().map(|(s, v)| (labels(s, None), v[place])).collect();
            family(&mut encoder, (spec.name, spec.help, spec.kind), rows)?;
        }
        let first = ShardMetric::COUNT;
        group(&mut encoder, &SINK, &snapshots, first, ("sink", &boards.sinks))?;
        let first = first + layout.sinks * SinkMetric::COUNT;
        group(&mut encoder, &CLUSTER, &snapshots, first, ("kafka", &boards.clusters))?;
        for (name, help, kind, value) in self.extra.iter().flat_map(|e| e.read()) {
            family(&mut encoder, (&name, help, kind), vec![(Vec::new(), value)])?;
        }
        Ok(())
    }
}

type Labels = Vec<(&'static str, String)>;

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
    use crate::metrics::spec::ClusterMetric;

    #[test]
    fn the_text_names_shard_sink_and_cluster() {
        let layout = Layout { sinks: 1, clusters: 1 };
        let board = Board::new(layout.len());
        let mut values = vec![0; layout.len()];
        values[ShardMetric::ConnectionsOpen as usize] = 3;
        values[layout.sink(0, SinkMetric::Delivered)] = 7;
        values[layout.cluster(0, ClusterMetric::Reachable)] = 1;
        board.publish(&values);
        let boards = Boards { shards: vec![Arc::new(board)], sinks: vec!["t".into()], clusters: vec!["main".into()] };
        let text = render(&Arc::new(boards), &[]).expect("text");
        assert!(text.contains("forebay_connections_open{shard=\"0\"} 3"), "{text}");
        assert!(text.contains("forebay_sink_delivered_total{shard=\"0\",sink=\"t\"} 7"), "{text}");
        assert!(text.contains("forebay_kafka_reachable{shard=\"0\",kafka=\"main\"} 1"), "{text}");
    }
}
