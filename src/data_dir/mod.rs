//! The data directory before any shard has its part of it: locked against other processes, compared with its manifest,
//! read whole, and with as many folders as there are shards. Nothing is changed until all of it is known and has a place in
//! the configuration.
//!
//! ```text
//! <data_dir>/lock                   held while the service runs
//! <data_dir>/spool/manifest.json    format, id of the data directory, number of shards
//! <data_dir>/spool/<shard>/         shard.json and segments
//! <data_dir>/spool.new              a set of folders that is being made, with its manifest
//! <data_dir>/spool.old              the set that it has replaced
//! ```
//!
//! A set of folders is made aside and replaces the old one by two renames. A start finds a set that is whole, whatever
//! came between: see [`settle_renames`].

mod discard;
mod files;
mod found;
mod manifest;
mod rehome;
#[cfg(test)]
mod tests;

pub(crate) use self::discard::discard;
pub(crate) use self::files::{Files, settings};
pub(crate) use self::found::Found;
pub(crate) use self::manifest::of_shards;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

pub(crate) use self::manifest::MANIFEST;
use self::manifest::Manifest;
use crate::config::{Config, DataDirId};
use crate::metrics::event::{Event as Said, Field, Kind};
use crate::runtime::{FolderLock, file_system_advice, sync_folder};

/// A set of folders that is being made.
const NEW: &str = "spool.new";
/// A set of folders that another has replaced.
const OLD: &str = "spool.old";

/// The data directory is this process's, its spool is ready.
#[derive(Debug)]
pub struct DataDir {
    /// What is to be told as events, once the journal runs.
    pub said: Vec<Said>,
    #[allow(dead_code, reason = "held, not read")]
    lock: FolderLock,
}

/// Locks the data directory and makes the spool ready; may change the number of shards.
///
/// # Errors
/// What is in the way, and what moves it.
pub fn prepare(config: &mut Config) -> Result<DataDir, String> {
    prepare_by(config, rehome::client)
}

/// The same, with the way to the client id of a kept session.
fn prepare_by(config: &mut Config, client: impl Fn(&[u8]) -> Result<String, String>) -> Result<DataDir, String> {
    let data_dir = config.service.data_dir.clone();
    let lock = lock(&data_dir)?;
    let mut said = Vec::new();
    let root = config.spool_dir();
    let failed = |error: io::Error| {
        format!("spool in {}: {error}; `service.data_dir` (or --data-dir) sets the directory", root.display())
    };
    settle_renames(&data_dir).map_err(failed)?;
    let found = Found::look(&root)?;
    found.refuse_other_directory(config)?;
    found.refuse_homeless(config, &root)?;
    if config.spool.is_none() {
        return without(&data_dir, &root, &found).map(|()| DataDir { said, lock }).map_err(failed);
    }
    if let Ok(Some(advice)) = file_system_advice(&data_dir) {
        tracing::warn!("spool in {}: {advice}", root.display());
    }
    let directory = found.directory().unwrap_or_else(DataDirId::random);
    config.service.data_dir_id = Some(directory);
    let (has, wanted) = (found.shards(), config.service.shards);
    let live = found.live_rows();
    if has == 0 {
        make(&data_dir, Manifest::new(directory, wanted), |_, _| Ok(()))?;
        tracing::info!(data_dir_id = %directory, shards = wanted, "new spool in {}", root.display());
    } else if has != wanted && live > 0 {
        config.service.shards = has;
        config.spool = config.spool.map(|spool| spool.of_shards(has));
        said.push(
            Said::now(Kind::ShardsKept)
                .with(Field::Shards, has as u64)
                .with(Field::Configured, wanted as u64)
                .with(Field::Records, live),
        );
    } else if has != wanted {
        let moved = rehome::rehome(config, &data_dir, (has, directory), client)?;
        said.push(
            Said::now(Kind::SessionsMoved)
                .with(Field::Shards, wanted as u64)
                .with(Field::Sessions, moved.sessions as u64)
                .with(Field::Retained, moved.retained as u64)
                .with(Field::Queued, moved.queued as u64),
        );
    }
    Ok(DataDir { said, lock })
}

/// Keeps other processes out of a data directory.
///
/// # Errors
/// In words for a person.
pub(crate) fn lock(data_dir: &Path) -> Result<FolderLock, String> {
    FolderLock::take(data_dir).map_err(|error| match error.kind() {
        io::ErrorKind::WouldBlock => format!(
            "data directory {} is in use by another process: stop that one, or give this one a directory of its own \
             (`service.data_dir`, --data-dir)",
            data_dir.display()
        ),
        _ => format!("data directory {}: {error}; `service.data_dir` (or --data-dir) moves it", data_dir.display()),
    })
}

/// Without `[spool]` there is nobody to keep what it has of sessions up to date: a later start must not believe it.
fn without(data_dir: &Path, root: &Path, found: &Found) -> io::Result<()> {
    if !root.try_exists()? {
        return Ok(());
    }
    tracing::info!(
        sessions = found.sessions(),
        "there is no [spool], and {} holds no records: removing it",
        root.display()
    );
    fs::rename(root, data_dir.join(OLD))?;
    sync_folder(data_dir)?;
    fs::remove_dir_all(data_dir.join(OLD))
}

/// Makes the set of folders of a manifest, has `fill` write into each, and replaces what is there with it.
///
/// # Errors
/// In words for a person. Then what is there stays.
fn make(
    data_dir: &Path,
    manifest: Manifest,
    mut fill: impl FnMut(usize, &Path) -> Result<(), String>,
) -> Result<(), String> {
    let (root, new, old) = (data_dir.join("spool"), data_dir.join(NEW), data_dir.join(OLD));
    let failed = |error: io::Error| format!("spool in {}: {error}", root.display());
    fs::create_dir(&new).map_err(failed)?;
    manifest.write(&new).map_err(failed)?;
    for shard in 0..manifest.shards {
        let folder = new.join(shard.to_string());
        fs::create_dir(&folder).map_err(failed)?;
        manifest.write_shard(shard, &folder).map_err(failed)?;
        fill(shard, &folder)?;
        step("folder");
        sync_folder(&folder).map_err(failed)?;
    }
    step("made");
    let placed = || -> io::Result<()> {
        sync_folder(&new)?;
        sync_folder(data_dir)?;
        step("synced");
        if root.try_exists()? {
            fs::rename(&root, &old)?;
            sync_folder(data_dir)?;
        }
        step("old away");
        fs::rename(&new, &root)?;
        sync_folder(data_dir)?;
        step("new in place");
        if old.try_exists()? { fs::remove_dir_all(&old) } else { Ok(()) }
    };
    placed().map_err(failed)
}

/// Ends what an earlier start has begun and not ended. The new set is whole when the old one has been renamed; before
/// that it does not count.
///
/// # Errors
/// When a rename or removal fails.
fn settle_renames(data_dir: &Path) -> io::Result<()> {
    let (root, new, old) = (data_dir.join("spool"), data_dir.join(NEW), data_dir.join(OLD));
    let there = |path: &PathBuf| path.try_exists();
    if !there(&root)? && there(&old)? && there(&new)? {
        fs::rename(&new, &root)?;
        sync_folder(data_dir)?;
    }
    for left in [new, old] {
        if there(&left)? {
            fs::remove_dir_all(&left)?;
        }
    }
    Ok(())
}

#[cfg(not(test))]
const fn step(_: &str) {}
#[cfg(test)]
fn step(name: &'static str) {
    tests::step(name);
}
