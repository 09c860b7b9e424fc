//! With `when_full = "drop-oldest"` rows make room, except those of open cuts, which Kafka may have. Open cuts are bounded, so that half
//! of a sink's share can always be dropped.

use std::collections::HashMap;

use super::core::Buffer;
use forebay_record::stored::NO_BATCH;

/// Rows of open cuts.
#[derive(Debug, Default)]
pub(super) struct CutRows {
    /// Whether the rows of open cuts are bounded.
    bounded: bool,
    /// By cut: the number of its sink in the log, and its rows.
    open: HashMap<u64, (usize, u64)>,
    /// Rows of open cuts of each sink.
    rows: Vec<u64>,
}

impl CutRows {
    pub(super) fn new(open: impl Iterator<Item = (u64, usize, u64)>) -> Self {
        let mut found = Self::default();
        open.for_each(|(cut, sink, rows)| found.opened(cut, sink, rows));
        found
    }

    pub(super) fn opened(&mut self, cut: u64, sink: usize, rows: u64) {
        if self.rows.len() <= sink {
            self.rows.resize(sink + 1, 0);
        }
        self.rows[sink] += rows;
        self.open.insert(cut, (sink, rows));
    }

    pub(super) fn closed(&mut self, cut: u64) {
        if let Some((sink, rows)) = self.open.remove(&cut) {
            self.rows[sink] -= rows;
        }
    }

    fn of(&self, sink: usize) -> u64 {
        self.rows.get(sink).copied().unwrap_or(0)
    }
}

impl Buffer {
    /// Sets whether rows make room for younger ones, which bounds open cuts.
    pub const fn drop_oldest_when_full(&mut self, drops: bool) {
        self.cut_rows.bounded = drops;
    }

    /// The log's number of the sink of a lane.
    pub(super) fn logged_of(&self, lane: u64) -> Option<usize> {
        let (cluster, sink) = self.lanes.get(&lane)?;
        self.logged.get(*cluster)?.get(usize::from(sink.0)).copied()
    }

    /// Whether `rows` rows of a sink may be cut now; one batch always may. Each row counts with the mean size of its sink's rows.
    pub(super) fn may_cut(&self, sink: usize, producer_id: i64, rows: u64) -> bool {
        let open = self.cut_rows.of(sink);
        if !self.cut_rows.bounded || producer_id == NO_BATCH || open == 0 {
            return true;
        }
        let (bytes, live) = self.log.state().held_by(sink);
        let cut = u128::from(open + rows) * u128::from(bytes) / u128::from(live.max(1));
        cut <= u128::from(self.cut_bytes_max(sink))
    }

    /// Half of a sink's guaranteed bytes: of its share, or of its part of the room if the shares exceed the room.
    fn cut_bytes_max(&self, sink: usize) -> u64 {
        let sinks = self.log.state().sinks_with_rows() as u64;
        self.log.share_of(sink).min(self.log.room_for_rows() / sinks.max(1)) / 2
    }
}
