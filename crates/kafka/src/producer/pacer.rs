//! While a backlog on disk drains, a sink takes half of its recent drain rate: publishers at full speed would otherwise keep
//! it from shrinking. If nothing drains, waiting is useless, and rows go to the disk.

use super::timers::Timer;
use super::{Keep, Producer};
use crate::types::SinkId;
use forebay_base::limits::{PACE_FLOOR_ROWS, PACE_LOOK, PACE_LOOKS, PACED_BACKLOG_ROWS};
use forebay_runtime::seam::Monotonic;

/// A sink's current limit.
#[derive(Debug)]
pub(super) struct Pacer {
    /// [`super::SinkStats::appended`] up to which rows are taken; `u64::MAX`: the sink is not paced.
    to: u64,
    /// Rows that had left by the last sample; `drained`: rows that left in each of the last samples.
    left: u64,
    drained: [u64; PACE_LOOKS],
    looks: usize,
}

impl Pacer {
    pub(super) const fn new() -> Self {
        Self { to: u64::MAX, left: 0, drained: [0; PACE_LOOKS], looks: 0 }
    }

    /// Whether a sink that has taken `appended` rows takes another one now.
    pub(super) const fn takes(&self, appended: u64) -> bool {
        appended < self.to
    }

    pub(super) const fn is_pacing(&self) -> bool {
        self.to != u64::MAX
    }

    /// Samples the rows that have left and were taken, once per [`PACE_LOOK`]. `backlog`: rows that are on disk alone.
    fn look(&mut self, left: u64, appended: u64, backlog: u64) {
        self.drained[self.looks % PACE_LOOKS] = left.saturating_sub(std::mem::replace(&mut self.left, left));
        self.looks += 1;
        let lately: u64 = self.drained.iter().sum();
        let paces = lately > 0 && backlog >= PACED_BACKLOG_ROWS;
        let share = (lately / (2 * PACE_LOOKS as u64)).max(PACE_FLOOR_ROWS);
        self.to = if paces { appended + share } else { u64::MAX };
    }
}

impl Producer {
    /// Samples the drain of sinks with a disk. Once per [`PACE_LOOK`], not per row.
    pub(super) fn pace(&mut self, now: Monotonic) {
        if now < self.agenda.pace_at {
            return;
        }
        self.agenda.pace_at = now.after(PACE_LOOK);
        for index in 0..self.sinks.len() {
            let sink = &self.sinks[index];
            let was_pacing = sink.pacer.is_pacing();
            if sink.settings.keep == Keep::Memory {
                continue;
            }
            // Rows that expire, or make room, leave without Kafka.
            let left = sink.stats.delivered + sink.stats.refused + sink.stats.handed_over;
            let backlog = self.spilled_rows(SinkId::of(index));
            let sink = &mut self.sinks[index];
            sink.pacer.look(left, sink.stats.appended, backlog);
            if sink.pacer.is_pacing() {
                sink.stats.paced += 1;
                self.agenda.timers.set(self.agenda.pace_at, Timer::Sink(index));
            }
            if was_pacing {
                // Waiting rows are tried again.
                self.memory.pool.refund(0);
            }
        }
        self.paces = self.sinks.iter().any(|sink| sink.pacer.is_pacing());
    }
}
