//! `forebay spool discard`: throws away what one sink has in a spool that no service uses.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use super::args::DiscardArgs;
use super::spool_files::{self, Files};
use super::spool_folders::{lock, of_shards};
use crate::spool::{Log, Reason};

/// What it threw away, or, without `--yes`, would; and whether it did.
///
/// # Errors
/// Why it cannot. What was said to be gone before that is gone.
pub fn discard(options: &DiscardArgs) -> Result<(String, bool), String> {
    let (root, sink) = (options.folder.as_path(), options.sink.as_str());
    let folders = of_shards(root)?;
    if folders.is_empty() {
        return Err(format!("{}: no spool is here; it is the folder `spool` in service.data_dir", root.display()));
    }
    // The service's lock, where the folder stands in a data directory.
    let parent = root.parent().filter(|parent| *parent != Path::new(""));
    let _lock = lock(if root.ends_with("spool") { parent.unwrap_or_else(|| Path::new(".")) } else { root })?;
    let mut rows = BTreeMap::<String, u64>::new();
    let mut sinks = BTreeMap::<String, u64>::new();
    let mut logs = Vec::new();
    for (shard, folder) in folders.iter().enumerate() {
        let files = Files::new(folder);
        let found = files.found().map_err(|error| format!("{}: {error}", folder.display()))?;
        let log = Log::new(spool_files::settings(shard, &found), files.recovered(shard)?);
        for (_, lane) in log.state().lanes() {
            let live: u64 = lane.spans().map(|span| span.run.count).sum();
            *sinks.entry(lane.sink.clone()).or_default() += live;
            if lane.sink == sink && live > 0 {
                *rows.entry(lane.topic.clone()).or_default() += live;
            }
        }
        logs.push((files, log));
    }
    let mut out = String::new();
    if rows.is_empty() {
        sinks.retain(|_, rows| *rows > 0);
        let others: Vec<_> = sinks.iter().map(|(sink, rows)| format!("\"{sink}\" ({rows})")).collect();
        let others = if others.is_empty() { "no sink".to_owned() } else { others.join(", ") };
        return Err(format!("{}: sink \"{sink}\" has no messages here; {others} has", root.display()));
    }
    if options.yes {
        for (files, log) in &mut logs {
            end(files, log, sink).map_err(|error| format!("{}: {error}", root.display()))?;
        }
    }
    let did = if options.yes { "thrown away" } else { "would be thrown away" };
    for (topic, count) in &rows {
        let _ = writeln!(out, "sink \"{sink}\", topic \"{topic}\": {count} messages {did}");
    }
    if !options.yes {
        out += "nothing was changed; --yes throws them away\n";
    }
    Ok((out, options.yes))
}

/// Ends all cuts and rows of a sink.
fn end(files: &mut Files, log: &mut Log, sink: &str) -> std::io::Result<()> {
    let of_sink = |log: &Log, lane: u32| log.state().lane(lane).is_some_and(|lane| lane.sink == sink);
    let cuts: Vec<u64> = log.state().cuts().filter(|cut| of_sink(log, cut.lane)).map(|cut| cut.cut).collect();
    for cut in cuts {
        files.put(log, |log| log.end_cut(cut, Reason::Dropped))?;
    }
    files.settle(log)?;
    let lanes: Vec<u32> = log.state().lanes().map(|(lane, _)| lane).filter(|lane| of_sink(log, *lane)).collect();
    for lane in lanes {
        let runs: Vec<_> =
            log.state().lane(lane).into_iter().flat_map(|lane| lane.spans().map(|span| span.run)).collect();
        for some in runs.chunks(1_000) {
            files.put(log, |log| log.end_rows(lane, some, Reason::Dropped))?;
        }
    }
    files.settle(log)
}
