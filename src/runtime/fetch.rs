//! Reads of files on the ring, each into a buffer that the kernel has until it has answered.
//!
//! Where the disk fails, what is left of a block of 4 KiB is read alone, and then sector by sector: only sectors that
//! cannot be read by themselves are unreadable, and behind that block the read goes on as before.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::rc::Rc;
use std::sync::Arc;

use slab::Slab;

use super::faults::DiskFaults;
use super::ring::{Completion, Ring, is_transient};
use super::windows::{Fetch, Unreadable, start_of};

/// The page cache reads in blocks of this size; below it, a file system with smaller blocks may still read more.
const BLOCK: usize = 4096;
/// The smallest unit that a disk reads.
const SECTOR: usize = 512;

struct Operation {
    file: Rc<File>,
    fetch: Fetch,
    /// How long the buffer is to become.
    length: usize,
    /// Bytes of the read under way are at most so many, and do not cross a multiple of it.
    step: usize,
    faults: Option<Arc<DiskFaults>>,
}

impl Operation {
    /// How many bytes the next read is for.
    fn wanted(&self) -> usize {
        let have = self.fetch.bytes.len();
        let to_boundary = if self.step == usize::MAX { usize::MAX } else { self.step - have % self.step };
        to_boundary.min(self.length - have)
    }

    /// Takes in what a read of the wanted bytes gave.
    fn take(&mut self, result: io::Result<usize>) {
        let have = self.fetch.bytes.len();
        match result {
            Ok(0) => self.cannot_read(self.length - have, None),
            Ok(count) => {
                let have = (have + count).min(self.length);
                // SAFETY: so much was reserved, and the kernel has filled it.
                unsafe { self.fetch.bytes.set_len(have) };
            }
            Err(error) if is_transient(&error) => return,
            Err(_) if self.step > BLOCK => return self.step = BLOCK,
            Err(_) if self.step > SECTOR => return self.step = SECTOR,
            Err(error) => self.cannot_read(self.wanted(), error.raw_os_error()),
        }
        if self.fetch.bytes.len().is_multiple_of(BLOCK) {
            self.step = usize::MAX;
        }
    }

    /// The next `count` bytes cannot be read; zeroes hold their place.
    fn cannot_read(&mut self, count: usize, errno: Option<i32>) {
        let from = self.fetch.bytes.len();
        let to = from + count;
        self.fetch.bytes.resize(to, 0);
        match self.fetch.unreadable.last_mut() {
            Some(last) if last.to == from && last.errno == errno => last.to = to,
            _ => self.fetch.unreadable.push(Unreadable { from, to, errno }),
        }
    }
}

/// The reads under way.
#[derive(Default)]
pub(super) struct Fetches {
    operations: Slab<Operation>,
}

impl Fetches {
    /// Reads the rest of a window, until it has `length` bytes.
    pub(super) fn start(
        &mut self,
        ring: &mut Ring,
        file: Rc<File>,
        mut fetch: Fetch,
        length: usize,
        faults: Option<Arc<DiskFaults>>,
    ) {
        fetch.bytes.reserve_exact(length.saturating_sub(fetch.bytes.len()));
        let slot = self.operations.insert(Operation { file, fetch, length, step: usize::MAX, faults });
        self.submit(ring, slot);
    }

    fn submit(&mut self, ring: &mut Ring, slot: usize) {
        let Some(operation) = self.operations.get_mut(slot) else { return };
        let (have, wanted) = (operation.fetch.bytes.len(), operation.wanted());
        let rest = &mut operation.fetch.bytes.spare_capacity_mut()[..wanted];
        let (into, count) = (rest.as_mut_ptr().cast(), rest.len() as u32);
        let offset = start_of(operation.fetch.index) + have as u64;
        // SAFETY: the operation keeps file and buffer, and touches neither, until the answer is in.
        unsafe { ring.read(operation.file.as_fd(), into, count, offset, slot as u32) };
    }

    /// Takes in an answer. `Some`: the window is read, but for what it names as unreadable.
    pub(super) fn answered(&mut self, ring: &mut Ring, completion: &Completion) -> Option<Fetch> {
        let slot = completion.tag.slot as usize;
        let operation = self.operations.get_mut(slot)?;
        let mut result = completion.count();
        if let Some(faults) = &operation.faults {
            let at = start_of(operation.fetch.index) + operation.fetch.bytes.len() as u64;
            result = faults.read(at, operation.wanted()).and_then(|readable| Ok(result?.min(readable)));
        }
        operation.take(result);
        if operation.fetch.bytes.len() < operation.length {
            self.submit(ring, slot);
            return None;
        }
        Some(self.operations.remove(slot).fetch)
    }
}
