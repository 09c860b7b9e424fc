//! Keeps segments with unreadable data when their set of folders is replaced or removed, for inspection.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::FoundShard;
use crate::buffer::Report;
use crate::runtime::{segment_path, sync_folder};

/// The folder for these segments.
const DAMAGED: &str = "spool.damaged";
/// The most files in that folder, because they take room besides the spool.
const FILES_MAX: usize = 8;

/// Gives the damaged segments of a shard, and those set aside before, a second name outside their folder. A file that cannot be kept is
/// logged, and does not stop anything.
pub(super) fn set_aside(data_dir: &Path, shard: &FoundShard, report: &Report) {
    let damaged = report.damage.iter().filter(|damage| damage.is_of_segment()).map(|damage| damage.segment);
    let unread = report.unread.iter().filter_map(|one| one.place).map(|(segment, _)| segment);
    let segments: BTreeSet<u64> =
        damaged.chain(unread).filter(|segment| shard.segments.contains_key(segment)).collect();
    let files = segments.into_iter().map(|segment| segment_path(&shard.folder, segment)).chain(earlier(&shard.folder));
    for file in files {
        match keep(data_dir, shard.shard, &file) {
            Ok(to) => tracing::warn!("damaged segment kept as {} until it is removed by hand", to.display()),
            Err(error) => tracing::warn!("damaged segment {} cannot be kept: {error}", file.display()),
        }
    }
}

/// Segments that were set aside before.
fn earlier(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut files: Vec<_> = entries.map(|entry| entry.path()).collect();
    files.retain(|path| path.extension().is_some_and(|end| end == "damaged"));
    files.sort_unstable();
    files
}

fn keep(data_dir: &Path, shard: usize, file: &Path) -> io::Result<PathBuf> {
    let folder = data_dir.join(DAMAGED);
    fs::create_dir_all(&folder)?;
    if fs::read_dir(&folder)?.count() >= FILES_MAX {
        return Err(io::Error::other(format!("{} has {FILES_MAX} files already", folder.display())));
    }
    let stem = file.file_stem().unwrap_or_default().to_string_lossy();
    let names = std::iter::once(String::new()).chain((1..).map(|again| format!("-{again}")));
    let mut paths = names.map(|again| folder.join(format!("{shard}-{stem}{again}.damaged")));
    let to = paths.find(|path| !path.exists()).unwrap_or_default();
    // The link is made to the file itself, if `file` is a symbolic link.
    fs::hard_link(fs::canonicalize(file)?, &to)?;
    sync_folder(&folder)?;
    Ok(to)
}
