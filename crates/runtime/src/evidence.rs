//! The distinction between bytes of a file that are damaged and a disk that is away, when a read fails.
//!
//! Neither the error nor a successful read nearby decides, as that may come from the page cache. So a block nearby is read from the
//! disk itself, and then the bytes are read again: a disk that fails, succeeds and fails again is there, and cannot read these
//! bytes.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, OpenOptionsExt};

use super::faults::DiskFaults;

/// The page cache reads in blocks of this size; below it, a file system with smaller blocks may still read more.
pub(super) const BLOCK: usize = 4096;
/// The smallest unit that a disk reads.
pub(super) const SECTOR: usize = 512;
/// The distances, in blocks, of the blocks to ask for before and after the bytes.
const NEAR: [u64; 6] = [1, 2, 4, 8, 16, 32];

/// A buffer with the alignment for reads past the page cache.
#[repr(align(4096))]
pub(super) struct Block(pub(super) [u8; BLOCK]);

impl Default for Block {
    fn default() -> Self {
        Self([0; BLOCK])
    }
}

/// The error of damaged bytes.
pub(super) fn damaged() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "the disk cannot read it, and can read what is close by")
}

/// The file, opened past the page cache; or unchanged, if its file system does not support that: a successful read nearby then
/// counts as the disk's.
pub(super) fn direct(file: &File) -> Option<File> {
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    File::options().read(true).custom_flags(libc::O_DIRECT).open(path).or_else(|_| file.try_clone()).ok()
}

/// Reads all of `into` from position `at`, and waits for the disk.
///
/// # Errors
/// [`io::ErrorKind::InvalidData`]: some of the bytes are damaged. Others: the disk's errors.
pub fn read(file: &File, into: &mut [u8], at: u64, faults: Option<&DiskFaults>) -> io::Result<()> {
    let read = |file: &File, into: &mut [u8], at: u64| {
        let readable = faults.map_or(Ok(into.len()), |faults| faults.read(at, into.len()))?;
        if readable < into.len() { Err(io::Error::from_raw_os_error(libc::EIO)) } else { file.read_exact_at(into, at) }
    };
    let read_direct = |file: &File, into: &mut [u8], at: u64| {
        faults.map_or(Ok(into.len()), |faults| faults.read_direct(at, into.len()))?;
        file.read_exact_at(into, at)
    };
    let first = read(file, into, at);
    if !first.as_ref().is_err_and(|error| error.raw_os_error().is_some()) {
        return first;
    }
    let (Some(direct), mut block) = (direct(file), Box::<Block>::default()) else { return first };
    let (before, behind) = (at / BLOCK as u64, (at + into.len() as u64).div_ceil(BLOCK as u64));
    let near = NEAR.iter().flat_map(|step| [before.checked_sub(*step), Some(behind + step - 1)]);
    let gives = near.flatten().any(|number| read_direct(&direct, &mut block.0, number * BLOCK as u64).is_ok());
    match read(file, into, at) {
        Err(_) if gives => Err(damaged()),
        again => again,
    }
}
