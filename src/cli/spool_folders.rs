//! The folders of the spool, before any shard has its own: made, held against other processes, and as many as there are
//! shards. A spool of another number of shards that is not empty decides: its rows stand in the order of that number.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::spool::Folder;
use crate::config::Config;
use crate::runtime::{FolderLock, file_system_advice, segments_in, sync_folder};
use crate::spool::{SEGMENTS_RESERVED, recover};

/// Nobody else uses the folders as long as this lives.
pub(super) struct SpoolFolders(#[allow(dead_code, reason = "held, not read")] Vec<FolderLock>);

/// Makes the folders ready; may change the number of shards.
///
/// # Errors
/// What is in the way, and what moves it.
pub(super) fn prepare(config: &mut Config) -> Result<Option<SpoolFolders>, String> {
    let root = config.spool_dir();
    let shown = root.display();
    if config.spool.is_none() {
        if of_shards(&root).is_ok_and(|folders| !folders.is_empty()) {
            tracing::warn!(
                "{shown} has a spool, and there is no [spool]: it stays as it is, and what it has does not go to Kafka"
            );
        }
        return Ok(None);
    }
    let failed = |error: io::Error| format!("spool in {shown}: {error}; `service.data_dir` (or --data-dir) moves it");
    fs::create_dir_all(&root).map_err(failed)?;
    let taken = |error: io::Error| match error.kind() {
        io::ErrorKind::WouldBlock => {
            format!(
                "spool in {shown}: another process uses it; stop that one, or give this one another `service.data_dir`"
            )
        }
        _ => failed(error),
    };
    let mut locks = vec![FolderLock::take(&root).map_err(taken)?];
    if let Ok(Some(advice)) = file_system_advice(&root) {
        tracing::warn!("spool in {shown}: {advice}");
    }
    fit_shards(config, &root)?;
    for shard in 0..config.service.shards {
        let folder = root.join(shard.to_string());
        fs::create_dir_all(&folder).map_err(failed)?;
        locks.push(FolderLock::take(&folder).map_err(taken)?);
    }
    sync_folder(&root).map_err(failed)?;
    Ok(Some(SpoolFolders(locks)))
}

/// Goes on with the spool's number of shards, if it is another one and the spool is not empty.
fn fit_shards(config: &mut Config, root: &Path) -> Result<(), String> {
    let failed = |error: io::Error| format!("spool in {}: {error}", root.display());
    let there = of_shards(root).map_err(failed)?;
    let (wanted, has) = (config.service.shards, there.last().map_or(0, |(shard, _)| shard + 1));
    if has == 0 || has == wanted {
        return Ok(());
    }
    let mut held = (0, 0);
    for (shard, folder) in &there {
        let (rows, sessions) = live(*shard, folder)?;
        held = (held.0 + rows, held.1 + sessions);
    }
    if held == (0, 0) {
        for (_, folder) in there.iter().filter(|(shard, _)| *shard >= wanted) {
            fs::remove_dir_all(folder).map_err(failed)?;
        }
        return Ok(());
    }
    let (rows, sessions) = held;
    tracing::warn!(
        shards = has,
        wanted,
        rows,
        sessions,
        "the spool is of another number of shards and not empty: this start has as many as the spool; the number changes at the \
         first start that finds it empty"
    );
    config.service.shards = has;
    if let Some(spool) = &mut config.spool {
        spool.segments_max = (spool.bytes_max / has as u64 / spool.segment_bytes).max(2 * SEGMENTS_RESERVED);
    }
    Ok(())
}

/// Live rows and kept sessions of a shard's folder.
fn live(shard: usize, folder: &Path) -> Result<(u64, u64), String> {
    let failed = |error: &dyn std::fmt::Display| format!("spool in {}: {error}", folder.display());
    let found = segments_in(folder).map_err(|error| failed(&error))?.into_iter().collect();
    let number = u32::try_from(shard).unwrap_or(u32::MAX);
    let recovered = recover(&Folder(folder), number, &found).map_err(|error| failed(&error))?;
    let rows = recovered.state.lanes().flat_map(|(_, lane)| lane.spans()).map(|span| span.run.count).sum();
    Ok((rows, recovered.state.sessions().count() as u64))
}

/// Folders of shards that have segments, by number.
fn of_shards(root: &Path) -> io::Result<Vec<(usize, PathBuf)>> {
    let mut found = Vec::new();
    let entries = match fs::read_dir(root) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(found),
        entries => entries?,
    };
    for entry in entries {
        let path = entry?.path();
        let shard = path.file_name().and_then(|name| name.to_str()).and_then(|name| name.parse::<usize>().ok());
        if let Some(shard) = shard.filter(|_| path.is_dir())
            && !segments_in(&path)?.is_empty()
        {
            found.push((shard, path));
        }
    }
    found.sort_unstable();
    Ok(found)
}
