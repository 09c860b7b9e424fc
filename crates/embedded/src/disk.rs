//! The three disk operations that can fail for good, behind one small trait, so that tests can make them fail.

use std::fs::File;
use std::io::{self, Write as _};
use std::os::unix::fs::FileExt;
use std::path::Path;

use forebay_base::files::{self, Fresh};

/// Writes and syncs.
pub(crate) trait Disk: Send + Sync + 'static {
    /// Writes all bytes at a position.
    fn write(&self, file: &File, bytes: &[u8], position: u64) -> io::Result<()>;
    /// Calls `fdatasync`.
    fn sync_file(&self, file: &File) -> io::Result<()>;
    /// Makes the entries of a directory durable.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;
}

/// The disk of the kernel.
#[derive(Debug)]
pub(crate) struct KernelDisk;

impl Disk for KernelDisk {
    fn write(&self, file: &File, bytes: &[u8], position: u64) -> io::Result<()> {
        file.write_all_at(bytes, position)
    }

    fn sync_file(&self, file: &File) -> io::Result<()> {
        file.sync_data()
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        File::open(dir)?.sync_all()
    }
}

/// Replaces a small file whole: a reader after a crash finds the old text or the new one.
pub(crate) fn replace_file(disk: &dyn Disk, dir: &Path, name: &str, text: &[u8]) -> io::Result<()> {
    let folder = File::open(dir)?;
    let fresh = Fresh::make(&folder, name.as_ref(), files::FILE_MODE)?;
    let mut file = fresh.file();
    file.write_all(text)?;
    disk.sync_file(file)?;
    fresh.place()?;
    disk.sync_dir(dir)
}
