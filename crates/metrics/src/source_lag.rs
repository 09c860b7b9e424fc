//! The lag of each partition of sources: the shards that read them are asked once a second.

use std::sync::{Mutex, PoisonError};

use super::collector::{Extra, Number};
use super::inspect::SourceOnShard;
use super::spec::{Kind, Spec};

/// The most partitions with a series; `source_lag_records` has the sum of all.
pub const PARTITIONS_MAX: usize = 1_000;

/// The metric.
pub const PARTITION_LAG: Spec = Spec {
    name: "source_partition_lag_records",
    label: None,
    help: "Records of the partition that are in Kafka and were not read. The first 1,000 partitions by source, topic and number have it; `forebay_source_lag_records` has the sum of all.",
    kind: Kind::Gauge,
};

/// A partition: its source's name, its topic, its number, its lag.
type Row = (String, String, i32, u64);

/// The lag of each partition, by shard.
#[derive(Debug, Default)]
pub struct SourceLag(Mutex<Vec<Vec<Row>>>);

impl SourceLag {
    fn shards(&self) -> std::sync::MutexGuard<'_, Vec<Vec<Row>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a shard's answer; `name` returns the names of sources.
    pub fn told<'a>(&self, shard: usize, found: Vec<SourceOnShard>, name: impl Fn(usize) -> Option<&'a str>) {
        let mut rows = Vec::new();
        for of in found {
            let Some(source) = name(of.source) else { continue };
            let lags =
                of.partitions.into_iter().filter_map(|of| Some((source.to_owned(), of.topic, of.partition, of.lag?)));
            rows.extend(lags);
        }
        let mut shards = self.shards();
        if shard >= shards.len() {
            shards.resize(shard + 1, Vec::new());
        }
        shards[shard] = rows;
    }

    /// Clears all lags: no shard reads anything.
    pub fn none(&self) {
        self.shards().clear();
    }
}

impl Extra for SourceLag {
    fn read(&self) -> Vec<Number> {
        let mut rows: Vec<Row> = self.shards().iter().flatten().cloned().collect();
        rows.sort_unstable();
        rows.truncate(PARTITIONS_MAX);
        let number = |(source, topic, partition, lag): Row| Number {
            spec: PARTITION_LAG,
            labels: vec![("source", source), ("topic", topic), ("partition", partition.to_string())],
            value: lag as f64,
        };
        rows.into_iter().map(number).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inspect::SourcePartition;

    fn on_shard(partitions: std::ops::Range<i32>) -> Vec<SourceOnShard> {
        let partition = |partition| SourcePartition {
            topic: "t".to_owned(),
            partition,
            position: Some(0),
            lag: Some(u64::from(partition.unsigned_abs())),
            open: 0,
            parked: 0,
            state: "reading",
            reason: None,
        };
        vec![SourceOnShard { partitions: partitions.map(partition).collect(), ..SourceOnShard::default() }]
    }

    #[test]
    fn the_first_partitions_of_all_shards_have_a_series() {
        let lag = SourceLag::default();
        lag.told(1, on_shard(0..900), |_| Some("s"));
        lag.told(0, on_shard(900..1_800), |_| Some("s"));
        let numbers = lag.read();
        assert_eq!(numbers.len(), PARTITIONS_MAX);
        assert_eq!((numbers[0].value, numbers[999].value), (0.0, 999.0));
        assert_eq!(numbers[7].labels[2], ("partition", "7".to_owned()));
        // A shard's answer replaces its answer before; sources without a name are left out.
        lag.told(1, on_shard(0..1), |_| Some("s"));
        lag.told(0, on_shard(5..6), |_| None);
        assert_eq!(lag.read().len(), 1);
        lag.none();
        assert!(lag.read().is_empty());
    }
}
