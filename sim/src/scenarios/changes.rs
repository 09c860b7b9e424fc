//! Scripts in which the configuration changes between two processes.

use super::{Script, settings};
use crate::judge::Failure;
use crate::plan::{Buffer, Level};

/// A sink with rows that were answered at `stored` is made `hybrid`: its rows on the disk must still go to Kafka.
pub(super) fn disk_sink_becomes_hybrid() -> Result<(), Failure> {
    let mut script = Script::new(settings(), 1, false);
    script.connect(0);
    script.away(true);
    script.fill(0, 20, 100);
    let sink = &mut script.world.settings.sinks[0];
    (sink.buffer, sink.level) = (Buffer::Hybrid, Level::Replicated);
    script.kill();
    script.away(false);
    script.ends()
}

/// Segments become smaller, and only kept sessions are in the larger ones: publishers go on.
pub(super) fn smaller_segments_beside_sessions() -> Result<(), Failure> {
    let mut script = Script::new(settings(), 1, false);
    if let Some(spool) = &mut script.world.settings.spool {
        spool.segment_bytes = 128 << 10;
    }
    script.kill();
    script.connect(0);
    script.fill(0, 20, 100);
    if let Some(spool) = &mut script.world.settings.spool {
        (spool.segment_bytes, spool.segments_max) = (64 << 10, 8);
    }
    script.kill();
    script.connect(0);
    script.fill(0, 20, 100);
    script.ends()
}
