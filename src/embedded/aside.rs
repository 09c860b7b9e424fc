//! What is damaged and keeps its bytes under another name.

use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, RenameFlags, renameat_with};

/// Files of one name that are kept.
const ASIDE_MAX: u32 = 100;

/// A name beside a file's own that nothing has: `NAME.WHY`, `NAME.WHY-1` and so on.
///
/// # Errors
/// [`ASIDE_MAX`] names are taken.
pub(crate) fn free_name(path: &Path, why: &str) -> io::Result<PathBuf> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let mut names = (0..ASIDE_MAX).map(|number| match number {
        0 => path.with_file_name(format!("{name}.{why}")),
        _ => path.with_file_name(format!("{name}.{why}-{number}")),
    });
    let free = names.find(|name| name.symlink_metadata().is_err());
    free.ok_or_else(|| io::Error::other(format!("there are {ASIDE_MAX} files {name}.{why}: remove them")))
}

/// Gives a file such a name, and says which.
///
/// # Errors
/// As [`free_name`], and those of `rename`.
pub(crate) fn set_aside(path: &Path, why: &str) -> io::Result<PathBuf> {
    let to = free_name(path, why)?;
    rename(path, &to)?;
    Ok(to)
}

/// Gives a file another name, which nothing may have.
///
/// # Errors
/// Those of `renameat2`.
pub(crate) fn rename(from: &Path, to: &Path) -> io::Result<()> {
    Ok(renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE)?)
}

/// Gives each of two files the other one's name.
///
/// # Errors
/// Those of `renameat2`.
pub(crate) fn exchange(one: &Path, other: &Path) -> io::Result<()> {
    Ok(renameat_with(CWD, one, CWD, other, RenameFlags::EXCHANGE)?)
}
