//! `forebay spool discard`: deletes all rows of one sink from a spool that no service uses.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use super::{Files, FoundShard, lock, of_shards, settings};
use crate::spool::Log;

/// Deletes all rows of `sink` from the spool below `root` or, without `yes`, says what would be deleted. Returns the report,
/// and whether rows were deleted.
///
/// # Errors
/// Why the deletion failed. Rows already reported as deleted are deleted.
pub(crate) fn discard(root: &Path, sink: &str, yes: bool) -> Result<(String, bool), String> {
    let folders = of_shards(root)?;
    if folders.is_empty() {
        return Err(format!(
            "{}: this is not a spool; the spool is the directory `spool` in service.data_dir",
            root.display()
        ));
    }
    // Takes the service's lock if the folder is in a data directory.
    let parent = root.parent().filter(|parent| *parent != Path::new(""));
    let _lock = lock(if root.ends_with("spool") { parent.unwrap_or_else(|| Path::new(".")) } else { root })?;
    let mut rows = BTreeMap::<String, u64>::new();
    let mut sinks = BTreeMap::<String, u64>::new();
    let mut logs = Vec::new();
    for (shard, folder) in folders.iter().enumerate() {
        let FoundShard { files, segments: found, recovered, .. } = FoundShard::look(folder, shard)?;
        for (_, lane) in recovered.state.lanes() {
            let live = lane.rows();
            *sinks.entry(lane.sink.to_string()).or_default() += live;
            if *lane.sink == *sink && live > 0 {
                *rows.entry(lane.topic.to_string()).or_default() += live;
            }
        }
        let files = files.written_at(recovered.written_ms);
        logs.push((files, Log::new(settings(shard, &found), recovered)));
    }
    let mut out = String::new();
    if rows.is_empty() {
        sinks.retain(|_, rows| *rows > 0);
        let others: Vec<_> = sinks.iter().map(|(sink, rows)| format!("\"{sink}\" ({rows})")).collect();
        let others = if others.is_empty() { "no sink".to_owned() } else { others.join(", ") };
        return Err(format!("{}: sink \"{sink}\" has no messages here; {others} has", root.display()));
    }
    if yes {
        for (files, log) in &mut logs {
            end(files, log, sink).map_err(|error| format!("{}: {error}", root.display()))?;
        }
    }
    let did = if yes { "deleted" } else { "would be deleted" };
    for (topic, count) in &rows {
        let _ = writeln!(out, "sink \"{sink}\", topic \"{topic}\": {count} messages {did}");
    }
    if !yes {
        out += "nothing was changed; --yes deletes them\n";
    }
    Ok((out, yes))
}

/// Ends all cuts and rows of a sink.
fn end(files: &mut Files, log: &mut Log, sink: &str) -> std::io::Result<()> {
    let sink = log.sink(sink);
    files.put(log, |log| log.discard_sink(sink))?;
    files.settle(log)
}
