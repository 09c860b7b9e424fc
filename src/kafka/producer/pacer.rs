//! While a backlog on the disk drains, a sink takes half of what drained lately: publishers that send flat out would keep
//! it from ever getting smaller. Where nothing drains there is nothing to wait for, and rows go to the disk.

use super::timers::Timer;
use super::{Keep, Producer};
use crate::kafka::types::SinkId;
use crate::limits::{PACE_FLOOR_ROWS, PACE_LOOK, PACE_LOOKS, PACED_BACKLOG_ROWS};
use crate::runtime::seam::Monotonic;

/// What a sink may take.
#[derive(Debug)]
pub(super) struct Pacer {
    /// [`super::SinkStats::appended`] up to which nobody waits; `u64::MAX`: it does not pace.
    to: u64,
    /// Rows that had left by the last look, and how many did before each of the last ones.
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

    /// A look at what has left and been taken, one for each [`PACE_LOOK`]. `backlog`: rows that are on the disk alone.
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
    /// Looks at what sinks with a disk have drained. Once for each [`PACE_LOOK`], not for a row.
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
            // What is too old, or makes room, goes without Kafka.
            let left = sink.stats.delivered + sink.stats.refused + sink.stats.handed_over;
            let backlog = self.spilled_rows(SinkId::of(index));
            let sink = &mut self.sinks[index];
            sink.pacer.look(left, sink.stats.appended, backlog);
            if sink.pacer.is_pacing() {
                sink.stats.paced += 1;
                self.agenda.timers.set(self.agenda.pace_at, Timer::Sink(index));
            }
            if was_pacing {
                // Who waits for it is asked again.
                self.memory.pool.refund(0);
            }
        }
        self.paces = self.sinks.iter().any(|sink| sink.pacer.is_pacing());
    }
}
