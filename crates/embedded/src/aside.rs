//! Sets damaged files aside under other names.

use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, RenameFlags, renameat_with};

/// The most files kept for one name.
const ASIDE_MAX: u32 = 100;

/// An unused name beside the file: `NAME.WHY`, `NAME.WHY-1` and so on.
///
/// # Errors
/// [`ASIDE_MAX`] names are in use.
pub(crate) fn free_name(path: &Path, why: &str) -> io::Result<PathBuf> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let mut names = (0..ASIDE_MAX).map(|number| match number {
        0 => path.with_file_name(format!("{name}.{why}")),
        _ => path.with_file_name(format!("{name}.{why}-{number}")),
    });
    let free = names.find(|name| name.symlink_metadata().is_err());
    free.ok_or_else(|| io::Error::other(format!("there are {ASIDE_MAX} files {name}.{why}: remove them")))
}

/// Renames a file to such a name, and returns the name.
///
/// # Errors
/// Those of [`free_name`] and of `rename`.
pub(crate) fn set_aside(path: &Path, why: &str) -> io::Result<PathBuf> {
    let to = free_name(path, why)?;
    rename(path, &to)?;
    Ok(to)
}

/// Renames a file to an unused name.
///
/// # Errors
/// Those of `renameat2`.
pub(crate) fn rename(from: &Path, to: &Path) -> io::Result<()> {
    Ok(renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE)?)
}

/// Exchanges the names of two files.
///
/// # Errors
/// Those of `renameat2`.
pub(crate) fn exchange(one: &Path, other: &Path) -> io::Result<()> {
    Ok(renameat_with(CWD, one, CWD, other, RenameFlags::EXCHANGE)?)
}
