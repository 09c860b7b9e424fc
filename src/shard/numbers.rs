//! A shard's own counters, and their way onto the board.

use std::sync::Arc;

use crate::metrics::board::Board;
use crate::metrics::spec::{ClusterMetric, Layout, ShardMetric, SinkMetric};

/// Plain numbers, in the board's layout.
pub(super) struct Numbers {
    values: Vec<u64>,
    layout: Layout,
    board: Arc<Board>,
    moved: bool,
}

impl Numbers {
    pub(super) fn new(board: Arc<Board>, sinks: usize, clusters: usize) -> Self {
        let layout = Layout { sinks, clusters };
        Self { values: vec![0; layout.len()], layout, board, moved: true }
    }

    /// One more.
    pub(super) fn count(&mut self, metric: ShardMetric) {
        self.raise(metric, 1);
    }

    pub(super) fn raise(&mut self, metric: ShardMetric, by: u64) {
        self.values[metric as usize] += by;
        self.moved = true;
    }

    pub(super) fn lower(&mut self, metric: ShardMetric, by: u64) {
        let value = &mut self.values[metric as usize];
        *value = value.saturating_sub(by);
        self.moved = true;
    }

    pub(super) fn get(&self, metric: ShardMetric) -> u64 {
        self.values[metric as usize]
    }

    pub(super) fn set(&mut self, metric: ShardMetric, value: u64) {
        let place = &mut self.values[metric as usize];
        self.moved |= *place != value;
        *place = value;
    }

    pub(super) fn set_sink(&mut self, sink: usize, metric: SinkMetric, value: u64) {
        let place = &mut self.values[self.layout.sink(sink, metric)];
        self.moved |= *place != value;
        *place = value;
    }

    pub(super) fn set_cluster(&mut self, cluster: usize, metric: ClusterMetric, value: u64) {
        let place = &mut self.values[self.layout.cluster(cluster, metric)];
        self.moved |= *place != value;
        *place = value;
    }

    /// Copies the numbers onto the board, if any moved since the last time.
    pub(super) fn publish(&mut self) {
        if std::mem::take(&mut self.moved) {
            self.board.publish(&self.values);
        }
    }
}
