//! A shard's own counters, and their way onto the board.

use std::sync::Arc;

use crate::metrics::board::Board;
use crate::metrics::histogram::Histograms;
use crate::metrics::spec::{ClusterMetric, KafkaError, Layout, ListenerMetric, RefusalReason, ShardMetric, SinkMetric};
use crate::runtime::seam::ListenerId;

/// Plain numbers, in the board's layout.
pub(super) struct Numbers {
    values: Vec<u64>,
    layout: Layout,
    board: Arc<Board>,
    moved: bool,
    /// What was counted of the spool when its histograms were last looked at: syncs, their microseconds, bytes written.
    spool: [u64; 3],
}

impl Numbers {
    pub(super) fn new(board: Arc<Board>, layout: Layout) -> Self {
        Self { values: vec![0; layout.len()], layout, board, moved: true, spool: [0; 3] }
    }

    /// Goes on on a board with more places.
    pub(super) fn grow(&mut self, board: Arc<Board>, layout: Layout) {
        self.values = self.layout.grown(&self.values, layout);
        board.histograms.take_over(&self.board.histograms);
        (self.layout, self.board, self.moved) = (layout, board, true);
        self.publish();
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

    /// One more of a cluster's.
    pub(super) fn count_cluster(&mut self, cluster: usize, metric: ClusterMetric, by: u64) {
        self.values[self.layout.cluster(cluster, metric)] += by;
        self.moved = true;
    }

    /// One more error in a cluster's answers.
    pub(super) fn count_error(&mut self, cluster: usize, code: i16) {
        self.values[self.layout.error(cluster, KafkaError::of(code))] += 1;
        self.moved = true;
    }

    /// One more of a listener's.
    pub(super) fn count_listener(&mut self, listener: ListenerId, metric: ListenerMetric) {
        self.values[self.layout.listener(usize::from(listener.0), metric)] += 1;
        self.moved = true;
    }

    /// One less of a listener's.
    pub(super) fn uncount_listener(&mut self, listener: ListenerId, metric: ListenerMetric) {
        let value = &mut self.values[self.layout.listener(usize::from(listener.0), metric)];
        *value = value.saturating_sub(1);
        self.moved = true;
    }

    /// Histograms, counted where they stand.
    pub(super) fn histograms(&self) -> &Histograms {
        &self.board.histograms
    }

    /// One more publish that a sink refused for good.
    pub(super) fn count_refusal(&mut self, sink: usize, reason: RefusalReason) {
        self.values[self.layout.refusal(sink, reason)] += 1;
        self.moved = true;
    }

    /// The spool has at most one group under way, so a turn sees at most one more sync and one more group: what has been
    /// added to its sums is theirs.
    pub(super) fn observe_spool(&mut self) {
        let now =
            [ShardMetric::SpoolSyncs, ShardMetric::SpoolSyncUs, ShardMetric::SpoolGroupBytes].map(|m| self.get(m));
        let before = std::mem::replace(&mut self.spool, now);
        let [syncs, sync_us, bytes] = std::array::from_fn(|index| now[index].saturating_sub(before[index]));
        if let Some(each) = sync_us.checked_div(syncs) {
            self.board.histograms.sync().observe_many(each, syncs);
        }
        if bytes > 0 {
            self.board.histograms.group_bytes().observe(bytes);
        }
    }

    /// Copies the numbers onto the board, if any moved since the last time.
    pub(super) fn publish(&mut self) {
        if std::mem::take(&mut self.moved) {
            self.board.publish(&self.values);
        }
    }
}
