//! The effect of a change of the configuration on the shares that sinks have of the spool (`spool_share`), in figures.

use crate::config::{Buffer, Config, Spool};
use crate::metrics::collector::Boards;
use crate::metrics::spec::SinkMetric;

/// The spool after a reload with `wanted`: its sizes are those of this process.
pub(super) fn reloaded(running: &Config, wanted: &Config) -> Option<Spool> {
    let (Some(spool), Some(wanted)) = (running.spool, wanted.spool) else { return running.spool };
    let changed = spool.reloaded(wanted);
    let Spool { sink_bytes_max, .. } = changed.of_shards(running.service.shards);
    Some(Spool { sink_bytes_max, ..changed })
}

/// A line for a share that gets smaller, and one for each sink that holds more than its new one. `running`: the shards' configuration.
pub(super) fn change(running: &Config, wanted: &Config, boards: &Boards) -> Vec<String> {
    let (Some(before), Some(after)) = (running.spool, reloaded(running, wanted)) else { return Vec::new() };
    if after.sink_bytes_max >= before.sink_bytes_max {
        return Vec::new();
    }
    let why = if after.share_is_computed { ", as more than one sink keeps records on disk" } else { "" };
    let mut lines = vec![format!(
        "spool.spool_share: a sink may hold {} instead of {} of each shard's spool{why}",
        Mib(after.sink_bytes_max),
        Mib(before.sink_bytes_max)
    )];
    let (layout, shards) = (boards.layout(), boards.read());
    for (place, sink) in running.sinks.iter().enumerate().filter(|(_, sink)| sink.buffer != Buffer::Memory) {
        let most = |metric| shards.iter().map(|board| board[layout.sink(place, metric)]).max().unwrap_or(0);
        let (held, share) = (most(SinkMetric::SpoolBytes), most(SinkMetric::SpoolBytesMax));
        if held > after.sink_bytes_max {
            let keeps = if after.share_is_computed { share.max(held) } else { held };
            lines.push(format!(
                "sink {}: it holds {} of a shard's spool, and may hold {} until it holds no more than {}; nothing of it is dropped for this",
                sink.name,
                Mib(held),
                Mib(keeps),
                Mib(after.sink_bytes_max)
            ));
        }
    }
    lines
}

/// Bytes in MiB, with one digit behind the point.
struct Mib(u64);

impl std::fmt::Display for Mib {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let tenths = self.0.saturating_mul(10) >> 20;
        write!(f, "{}.{} MiB", tenths / 10, tenths % 10)
    }
}
