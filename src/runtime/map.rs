//! A file's bytes as memory, for appending.
//!
//! Where a store through a map ends in SIGBUS, and so the process: the file was cut short below the place (nobody
//! does: segments keep their length for life, and the folder is locked); a page has no room on the disk (the file is
//! allocated whole before it is mapped; file systems that do not keep that are told apart by `folder`); a page that
//! was dropped from memory cannot be read in again (a dying disk). The last two have no answer here but ending: a core
//! that cannot store must not acknowledge. Reading never goes through the map, so that a bad block is an error.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::ptr::NonNull;

/// A whole file, mapped for reading and writing.
#[derive(Debug)]
pub(super) struct Map {
    start: NonNull<u8>,
    bytes: usize,
}

// SAFETY: an address range of the process; nothing about it belongs to a thread.
unsafe impl Send for Map {}

impl Map {
    /// Maps `bytes` (more than 0) of `file`, which is that long, and has the pages in place, writable. Waits for the
    /// disk: for a helper thread.
    pub(super) fn new(file: &File, bytes: u64) -> io::Result<Self> {
        let bytes = usize::try_from(bytes).map_err(|_| io::ErrorKind::InvalidInput)?;
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: a new range, anywhere; the kernel checks the descriptor and the length.
        let start =
            unsafe { libc::mmap(std::ptr::null_mut(), bytes, protection, libc::MAP_SHARED, file.as_raw_fd(), 0) };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let map = Self { start: NonNull::new(start.cast()).ok_or(io::ErrorKind::OutOfMemory)?, bytes };
        // SAFETY: exactly the range that was mapped. It fails where a store would be SIGBUS, and Linux 5.14 knows it.
        if unsafe { libc::madvise(start, bytes, libc::MADV_POPULATE_WRITE) } != 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(map)
    }

    /// Copies `bytes` to position `at`.
    ///
    /// # Errors
    /// They do not fit.
    pub(super) fn store(&mut self, at: u64, bytes: &[u8]) -> io::Result<()> {
        let at = usize::try_from(at).map_err(|_| io::ErrorKind::InvalidInput)?;
        if at.checked_add(bytes.len()).is_none_or(|end| end > self.bytes) {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        // SAFETY: within the range, as was just checked, and nobody has a reference into it: the map gives none out.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), self.start.as_ptr().add(at), bytes.len()) };
        Ok(())
    }
}

impl Drop for Map {
    fn drop(&mut self) {
        // SAFETY: the range is ours, and no reference into it was ever given out.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.bytes) };
    }
}
