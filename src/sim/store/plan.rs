//! The plan of the disk and of the sinks' buffers: small segments, so that they turn over often, little room, so that it fills up, and
//! little memory before rows are on the disk only.

use crate::kafka::producer::{AnsweredOn, Keep, Settings, SinkSettings};

/// The plan of a run's disk.
#[derive(Clone, Debug)]
pub(in crate::sim) struct StorePlan {
    pub(in crate::sim) segment_bytes: u64,
    pub(in crate::sim) segments_max: u64,
    /// Share of the whole that one sink may hold, in hundredths.
    pub(in crate::sim) share: u64,
    /// The longest sync while faults last, in microseconds.
    pub(in crate::sim) sync_us_max: u64,
    /// Whether rows come from clients with sessions.
    pub(in crate::sim) clients: bool,
    /// Whether there is no disk, but a log that only keeps its promises. The next field: entries in its groups.
    pub(in crate::sim) model: bool,
    pub(in crate::sim) group_max: usize,
    /// Whether `when_full` is `drop-oldest`.
    pub(in crate::sim) drops: bool,
}

impl StorePlan {
    /// Draws the plan, and the buffers of the sinks in `settings`.
    pub(in crate::sim) fn new(settings: &mut Settings, rng: &mut fastrand::Rng) -> Self {
        // A block has to fit in an eighth of a segment.
        for sink in &mut settings.sinks {
            sink.batch_bytes = sink.batch_bytes.min(900);
        }
        let visible = settings.sinks.iter_mut().filter(|sink| !sink.reserved).enumerate();
        visible.for_each(|(index, sink)| keep(sink, index == 0, rng));
        let longest = [0, 100, 3_000, 60_000][rng.usize(..4)];
        let model = rng.u32(..4) == 0;
        Self {
            clients: !model && rng.bool(),
            model,
            segment_bytes: 1024 * rng.u64(64..128),
            segments_max: rng.u64(8..16),
            share: if rng.bool() { 100 } else { rng.u64(30..80) },
            sync_us_max: longest,
            group_max: if rng.u32(..4) == 0 { rng.usize(3..10) } else { 1000 },
            drops: false,
        }
    }

    /// Changes the plan for runs with lasting faults: little room, small shares, rows dropped to make room, saved sinks.
    pub(in crate::sim) fn lasting(&mut self, settings: &mut Settings, rng: &mut fastrand::Rng) {
        self.model &= rng.u32(..4) == 0;
        if rng.u32(..4) > 0 {
            // The least that a shard may have.
            (self.segment_bytes, self.segments_max) = (64 * 1024, 8);
        }
        if rng.bool() {
            // The share is at least one segment.
            self.share = rng.u64(13..40);
        }
        self.drops = rng.u32(..3) == 0;
        let second = &mut settings.sinks[1];
        if rng.u32(..3) == 0 && second.keep != Keep::HybridSaved {
            second.keep = Keep::HybridSaved;
            if second.answered_on == AnsweredOn::Stored {
                second.answered_on = AnsweredOn::Replicated;
            }
        }
        if self.drops {
            // Half of the sinks with a log keep little in memory as well.
            let logged = settings.sinks.iter_mut().filter(|sink| !sink.reserved && sink.keep != Keep::Memory);
            for sink in logged {
                let little = rng.usize(1..10_000);
                sink.spill_after = if little.is_multiple_of(2) { little } else { sink.spill_after };
            }
        }
    }
}

/// Draws a sink's buffer. The first sink has a disk in every run.
fn keep(sink: &mut SinkSettings, first: bool, rng: &mut fastrand::Rng) {
    sink.keep = match rng.u32(..10) {
        0..=1 if !first => Keep::Memory,
        2 if !first => Keep::Hybrid,
        3 if !first => Keep::HybridSaved,
        _ => Keep::Disk,
    };
    sink.spill_after = if rng.bool() { usize::MAX } else { rng.usize(1..60_000) };
    if sink.keep == Keep::Disk {
        sink.acks = -1;
        sink.answered_on = if rng.u32(..3) < 2 { AnsweredOn::Stored } else { AnsweredOn::Replicated };
    }
}
