//! A segment's file as memory, for appending.
//!
//! A store through a map ends in SIGBUS, and so ends the process, in three cases: the file was made shorter than the place (nothing
//! does: segments keep their length, and the folder is locked); a page has no room on the disk (the file is allocated and populated
//! before it is used; `folder` names the file systems that do not keep an allocation); a page that was dropped from memory cannot
//! be read again (a failing disk). The last two end the process on purpose: a core that cannot store must not acknowledge. Reading
//! never goes through the map, so that a bad sector is an error there.

use std::fs::File;
use std::io;

use memmap2::{Advice, MmapOptions, MmapRaw};

/// A whole file, mapped for writing.
#[derive(Debug)]
pub(super) struct Map(MmapRaw);

impl Map {
    /// Maps `bytes` (more than 0) of `file`, the length of the file.
    ///
    /// # Errors
    /// The error of the kernel.
    pub(super) fn new(file: &File, bytes: u64) -> io::Result<Self> {
        let bytes = usize::try_from(bytes).map_err(|_| io::ErrorKind::InvalidInput)?;
        Ok(Self(MmapOptions::new().len(bytes).map_raw(file)?))
    }

    /// Makes the pages present and writable. Waits for the disk: for a helper thread. False: Linux before 5.14, which cannot.
    ///
    /// # Errors
    /// A later store would be a SIGBUS.
    pub(super) fn populate(&self) -> io::Result<bool> {
        match self.0.advise(Advice::PopulateWrite) {
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => Ok(false),
            outcome => outcome.map(|()| true),
        }
    }

    /// Copies `bytes` to position `at`.
    ///
    /// # Errors
    /// The bytes do not fit.
    pub(super) fn store(&mut self, at: u64, bytes: &[u8]) -> io::Result<()> {
        let at = usize::try_from(at).map_err(|_| io::ErrorKind::InvalidInput)?;
        if at.checked_add(bytes.len()).is_none_or(|end| end > self.0.len()) {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        // SAFETY: within the map, as was just checked, and nobody has a reference into it: it gives none out.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), self.0.as_mut_ptr().add(at), bytes.len()) };
        Ok(())
    }
}
