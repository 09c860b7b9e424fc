//! The data directory before the shards open it: locked against other processes, compared with its manifest, read whole, and given as
//! many folders as there are shards. Nothing is changed until all of it is known and has a place in the configuration.
//!
//! ```text
//! <data_dir>/lock                   held while the service runs
//! <data_dir>/spool/manifest.json    format, id of the data directory, number of shards
//! <data_dir>/spool/<shard>/         shard.json and segments
//! <data_dir>/spool.damaged/         segments of which something could not be read, kept when their set was replaced or removed
//! <data_dir>/.spool.making          a set of folders that is being made, with its manifest
//! <data_dir>/.spool.replaced        the set that it has replaced
//! ```
//!
//! A set of folders is prepared under another name and replaces the old set by two renames. Startup always finds a whole set, even
//! after a crash in between: see [`settle_renames`]. Nothing else in a data directory is ever deleted: only Forebay uses the names of
//! deleted files.

mod aside;
mod discard;
mod files;
mod found;
mod manifest;
mod rehome;
#[cfg(test)]
mod tests;

pub(crate) use self::discard::discard;
pub(crate) use self::files::{Files, settings};
pub(crate) use self::found::{Found, FoundShard};
pub(crate) use self::manifest::of_shards;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

pub(crate) use self::manifest::MANIFEST;
use self::manifest::{Manifest, Written};
use crate::buffer::{Counts, Report};
use crate::config::{Config, DataDirId};
use crate::in_use;
use crate::metrics::event::{Event as Said, Field, Kind};
use crate::runtime::{FolderLock, file_system_advice, sync_folder};
use crate::shard::damaged;

/// A set of folders that is being made.
const NEW: &str = ".spool.making";
/// A set of folders that was replaced by another.
const OLD: &str = ".spool.replaced";
/// Names under which people set a spool aside.
const PUT_ASIDE: [&str; 2] = ["spool.old", "spool.new"];

/// The locked data directory, with its spool ready.
#[derive(Debug)]
pub struct DataDir {
    /// Reports that become events once the journal runs.
    pub said: Vec<Said>,
    /// Counts of records of sessions and messages that could not be read when they were moved.
    pub lost: Counts,
    #[allow(dead_code, reason = "held, not read")]
    lock: FolderLock,
}

/// Finds what startup would find in each folder of a spool, with its report. Changes and creates nothing.
///
/// # Errors
/// Why startup would fail, and the cure, in words for people.
pub fn look(root: &Path) -> Result<Vec<(PathBuf, Report)>, String> {
    let found = Found::look(root)?;
    let reports = found.reports()?;
    Ok(reports.into_iter().map(|(shard, report)| (shard.folder.clone(), report)).collect())
}

/// Locks the data directory and prepares the spool; may change the number of shards.
///
/// # Errors
/// The obstacle, and how to remove it.
pub fn prepare(config: &mut Config) -> Result<DataDir, String> {
    let data_dir = config.service.data_dir.clone();
    let lock = lock(&data_dir)?;
    let (mut said, mut lost) = (Vec::new(), Counts::default());
    let root = config.spool_dir();
    let failed = |error: io::Error| {
        format!("spool in {}: {error}; `service.data_dir` (or --data-dir) sets the directory", root.display())
    };
    settle_renames(&data_dir).map_err(failed)?;
    let found = Found::look(&root)?;
    found.refuse_other_directory(config)?;
    found.refuse_homeless(config, &root)?;
    if config.spool.is_none() {
        return without(&data_dir, &root, &found).map(|()| DataDir { said, lost, lock });
    }
    if let Ok(Some(advice)) = file_system_advice(&data_dir) {
        tracing::warn!("spool in {}: {advice}", root.display());
    }
    let directory = found.directory().unwrap_or_else(DataDirId::random);
    config.service.data_dir_id = Some(directory);
    let (has, wanted) = (found.shards.len(), config.service.shards);
    let live = found.live_rows();
    if has > 0 {
        let written = found.mended.write(directory, has);
        said.extend(written.into_iter().filter(|file| file.is_damaged).map(mended));
        tell_others(&found);
    }
    if has == 0 {
        tell_put_aside(&data_dir);
        make(&data_dir, (directory, wanted), |_, _| Ok(()))?;
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
        let moved = rehome::rehome(config, &data_dir, directory, &found)?;
        said.push(
            Said::now(Kind::SessionsMoved)
                .with(Field::Shards, wanted as u64)
                .with(Field::Sessions, moved.sessions as u64)
                .with(Field::Retained, moved.retained as u64)
                .with(Field::Queued, moved.queued as u64),
        );
        for (shard, report) in moved.reports {
            lost.add_all(&report.lost);
            said.push(damaged(Said::now(Kind::SpoolDamaged).on(shard.shard), &report, &shard.folder));
        }
    }
    Ok(DataDir { said, lost, lock })
}

/// The message for a damaged description file of a folder.
fn mended(file: Written<'_>) -> Said {
    let why = match file.result {
        Ok(()) => {
            "it was damaged, and was written again from what the other folders and the segments say; nothing is lost"
                .to_owned()
        }
        Err(error) => format!(
            "it is damaged, and cannot be written again: {error}; the other folders and the segments say the same"
        ),
    };
    let event = Said::now(Kind::SpoolDamaged).with(Field::File, file.path.display().to_string());
    event.with(Field::Reason, why)
}

/// Logs files that have the name of a segment and are not one.
fn tell_others(found: &Found) {
    for shard in &found.shards {
        for name in &shard.others {
            tracing::warn!("{}: not a file: it is no segment, and is left alone", shard.folder.join(name).display());
        }
    }
}

/// Logs that a spool set aside by a person is left alone, if a new one takes its place.
fn tell_put_aside(data_dir: &Path) {
    for name in PUT_ASIDE {
        let path = data_dir.join(name);
        if path.join(MANIFEST).exists() {
            tracing::warn!(
                "{}: a spool under another name; it is left alone and not read. To take it up, stop the service and rename it to \
                 `spool`",
                path.display()
            );
        }
    }
}

/// Keeps other processes out of a data directory.
///
/// # Errors
/// The error, in words for people.
pub(crate) fn lock(data_dir: &Path) -> Result<FolderLock, String> {
    let taken = in_use::wait(io::ErrorKind::WouldBlock, in_use::ATTEMPTS, || FolderLock::take(data_dir));
    taken.map_err(|error| match error.kind() {
        io::ErrorKind::WouldBlock => format!(
            "data directory {} is in use by another process: stop that one, or give this one a directory of its own \
             (`service.data_dir`, --data-dir)",
            data_dir.display()
        ),
        _ => format!("data directory {}: {error}; `service.data_dir` (or --data-dir) moves it", data_dir.display()),
    })
}

/// Removes a spool that is no longer configured. Without `[spool]` its records of sessions become outdated, and a later process must
/// not use them.
///
/// # Errors
/// The error, in words for people.
fn without(data_dir: &Path, root: &Path, found: &Found) -> Result<(), String> {
    let failed = |error: io::Error| format!("spool in {}: {error}", root.display());
    if !root.try_exists().map_err(failed)? {
        return Ok(());
    }
    let mut kept = Counts::default();
    for (shard, report) in found.reports()? {
        kept.add_all(&report.kept);
        aside::set_aside(data_dir, shard, &report);
    }
    tracing::info!("there is no [spool], and {} holds no records: removing it, with {kept}", root.display());
    let removed = fs::rename(root, data_dir.join(OLD)).and_then(|()| sync_folder(data_dir));
    removed.and_then(|()| fs::remove_dir_all(data_dir.join(OLD))).map_err(failed)
}

/// Makes a set of folders, has `fill` write into each, and replaces the existing set with it.
///
/// # Errors
/// The error, in words for people. The existing set stays then.
fn make(
    data_dir: &Path,
    (directory, shards): (DataDirId, usize),
    mut fill: impl FnMut(usize, &Path) -> Result<(), String>,
) -> Result<(), String> {
    let (root, new, old) = (data_dir.join("spool"), data_dir.join(NEW), data_dir.join(OLD));
    let failed = |error: io::Error| format!("spool in {}: {error}", root.display());
    fs::create_dir(&new).map_err(failed)?;
    Manifest::write(&new, directory, shards).map_err(failed)?;
    for shard in 0..shards {
        let folder = new.join(shard.to_string());
        fs::create_dir(&folder).map_err(failed)?;
        Manifest::write_shard(&folder, directory, (shard, shards)).map_err(failed)?;
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

/// Completes or undoes the renames of an earlier process. The new set is whole when the old one has been renamed; before that it does
/// not count.
///
/// # Errors
/// A rename or removal failed.
fn settle_renames(data_dir: &Path) -> io::Result<()> {
    let (root, new, old) = (data_dir.join("spool"), data_dir.join(NEW), data_dir.join(OLD));
    // A dangling link is in the way, too.
    let there = |path: &PathBuf| match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        found => found.map(|_| true),
    };
    if !there(&root)? && there(&old)? && there(&new)? {
        fs::rename(&new, &root)?;
        sync_folder(data_dir)?;
    }
    for left in [new, old] {
        if there(&left)? {
            let is_folder = fs::symlink_metadata(&left)?.is_dir();
            if is_folder { fs::remove_dir_all(&left) } else { fs::remove_file(&left) }?;
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
