//! Reads of files on the ring, each into a buffer that the kernel has until it has answered.
//!
//! If the disk fails, the rest of a block of 4 KiB is read alone, and then sector by sector: only sectors that cannot be read by
//! themselves are unreadable, and after that block the read goes on as before.
//!
//! Reads of the disk itself decide whether those are damaged, or the disk was away: [`super::evidence`].

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::rc::Rc;
use std::sync::Arc;

use slab::Slab;

use super::driver::{Completion, Driver, is_transient};
use super::evidence::{BLOCK, Block, SECTOR, direct};
use super::faults::DiskFaults;
use super::windows::{Fetch, Unreadable, start_of};

struct Operation {
    file: Rc<File>,
    fetch: Fetch,
    /// The length that the buffer is to reach.
    length: usize,
    /// The most bytes of the read under way, which also does not cross a multiple of this.
    step: usize,
    faults: Option<Arc<DiskFaults>>,
    /// The check of unreadable bytes that is under way.
    doubt: Option<Doubt>,
}

/// Two further reads: of a block that was readable, from the disk itself, then of a sector that was not.
struct Doubt {
    direct: File,
    scratch: Box<Block>,
    /// Positions in the window.
    given: usize,
    refused: usize,
    /// The first of the two has succeeded.
    gives: bool,
}

impl Doubt {
    /// `None`: nothing failed, or the disk gave no whole block beside.
    fn of(file: &File, fetch: &Fetch) -> Option<Self> {
        let refused = fetch.unreadable.iter().find(|part| part.errno.is_some())?.from;
        let readable = |from: usize| fetch.unreadable.iter().all(|part| part.from >= from + BLOCK || part.to <= from);
        let given = (0..fetch.bytes.len() / BLOCK).map(|block| block * BLOCK).find(|from| readable(*from))?;
        Some(Self { direct: direct(file)?, scratch: Box::default(), given, refused, gives: false })
    }

    /// The position and length of the next read.
    const fn wanted(&self) -> (usize, usize) {
        if self.gives { (self.refused, SECTOR) } else { (self.given, BLOCK) }
    }

    /// Takes the result of a read. `Some`: whether the unreadable bytes are damaged.
    fn take(&mut self, result: io::Result<usize>) -> Option<bool> {
        match result {
            Err(error) if is_transient(&error) => None,
            Ok(count) if count > 0 && !self.gives => {
                self.gives = true;
                None
            }
            result => Some(self.gives && result.is_err()),
        }
    }
}

impl Operation {
    /// Position in the window and length of the next read.
    fn next(&self) -> (usize, usize) {
        self.doubt.as_ref().map_or_else(|| (self.fetch.bytes.len(), self.wanted()), Doubt::wanted)
    }

    /// The number of bytes of the next read.
    fn wanted(&self) -> usize {
        let have = self.fetch.bytes.len();
        let to_boundary = if self.step == usize::MAX { usize::MAX } else { self.step - have % self.step };
        to_boundary.min(self.length - have)
    }

    /// Takes the result of a read of the wanted bytes.
    fn take(&mut self, result: io::Result<usize>) {
        let have = self.fetch.bytes.len();
        match result {
            Ok(0) => self.cannot_read(self.length - have, None),
            Ok(count) => {
                let have = (have + count).min(self.length);
                // SAFETY: that much was reserved, and the kernel has filled it.
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
        driver: &mut impl Driver,
        file: Rc<File>,
        mut fetch: Fetch,
        length: usize,
        faults: Option<Arc<DiskFaults>>,
    ) {
        fetch.bytes.reserve_exact(length.saturating_sub(fetch.bytes.len()));
        let slot = self.operations.insert(Operation { file, fetch, length, step: usize::MAX, faults, doubt: None });
        self.submit(driver, slot);
    }

    fn submit(&mut self, driver: &mut impl Driver, slot: usize) {
        let Some(operation) = self.operations.get_mut(slot) else { return };
        let (from, wanted) = operation.next();
        let offset = start_of(operation.fetch.index) + from as u64;
        let (file, into) = match &mut operation.doubt {
            Some(doubt) if doubt.gives => (operation.file.as_fd(), doubt.scratch.0.as_mut_ptr()),
            Some(doubt) => (doubt.direct.as_fd(), doubt.scratch.0.as_mut_ptr()),
            None => {
                let rest = &mut operation.fetch.bytes.spare_capacity_mut()[..wanted];
                (operation.file.as_fd(), rest.as_mut_ptr().cast())
            }
        };
        // SAFETY: the operation keeps file and buffer, and touches neither, until the answer is in.
        unsafe { driver.read(file, into, wanted as u32, offset, slot as u32) };
    }

    /// Takes an answer. `Some`: the window is read, except for the parts that it names as unreadable.
    pub(super) fn answered(&mut self, driver: &mut impl Driver, completion: &Completion) -> Option<Fetch> {
        let slot = completion.tag.slot as usize;
        let operation = self.operations.get_mut(slot)?;
        let mut result = completion.count();
        if let Some(faults) = &operation.faults {
            let (from, wanted) = operation.next();
            let at = start_of(operation.fetch.index) + from as u64;
            let past_cache = operation.doubt.as_ref().is_some_and(|doubt| !doubt.gives);
            let readable = if past_cache { faults.read_direct(at, wanted) } else { faults.read(at, wanted) };
            result = readable.and_then(|readable| Ok(result?.min(readable)));
        }
        let over = match &mut operation.doubt {
            Some(doubt) => doubt.take(result).inspect(|damaged| operation.fetch.damaged = *damaged).is_some(),
            None => {
                operation.take(result);
                operation.fetch.bytes.len() >= operation.length && {
                    operation.doubt = Doubt::of(&operation.file, &operation.fetch);
                    operation.doubt.is_none()
                }
            }
        };
        if !over {
            self.submit(driver, slot);
            return None;
        }
        Some(self.operations.remove(slot).fetch)
    }
}
