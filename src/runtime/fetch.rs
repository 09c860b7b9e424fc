//! Reads of files on the ring, each into a buffer that the kernel has until it has answered.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::rc::Rc;

use slab::Slab;

use super::ring::{Completion, Ring, is_transient};
use super::windows::{Fetch, start_of};

struct Operation {
    file: Rc<File>,
    fetch: Fetch,
    /// How long the buffer is to become.
    length: usize,
}

/// The reads under way.
#[derive(Default)]
pub(super) struct Fetches {
    operations: Slab<Operation>,
}

impl Fetches {
    /// Reads the rest of a window, until it has `length` bytes.
    pub(super) fn start(&mut self, ring: &mut Ring, file: Rc<File>, mut fetch: Fetch, length: usize) {
        fetch.bytes.reserve_exact(length.saturating_sub(fetch.bytes.len()));
        let slot = self.operations.insert(Operation { file, fetch, length });
        self.submit(ring, slot);
    }

    fn submit(&mut self, ring: &mut Ring, slot: usize) {
        let Some(Operation { file, fetch, length }) = self.operations.get_mut(slot) else { return };
        let have = fetch.bytes.len();
        let rest = &mut fetch.bytes.spare_capacity_mut()[..*length - have];
        let (into, count) = (rest.as_mut_ptr().cast(), rest.len() as u32);
        // SAFETY: the operation keeps file and buffer, and touches neither, until the answer is in.
        unsafe { ring.read(file.as_fd(), into, count, start_of(fetch.index) + have as u64, slot as u32) };
    }

    /// Takes in an answer. `Some`: the window is read, or cannot be.
    pub(super) fn answered(&mut self, ring: &mut Ring, completion: &Completion) -> Option<(Fetch, io::Result<()>)> {
        let slot = completion.tag.slot as usize;
        let operation = self.operations.get_mut(slot)?;
        let result = match completion.count() {
            Ok(0) => Some(Err(io::ErrorKind::UnexpectedEof.into())),
            Ok(count) => {
                let have = operation.fetch.bytes.len() + count;
                // SAFETY: so much was reserved, and the kernel has filled it.
                unsafe { operation.fetch.bytes.set_len(have.min(operation.length)) };
                (have >= operation.length).then_some(Ok(()))
            }
            Err(error) if is_transient(&error) => None,
            Err(error) => Some(Err(error)),
        };
        match result {
            None => {
                self.submit(ring, slot);
                None
            }
            Some(result) => Some((self.operations.remove(slot).fetch, result)),
        }
    }
}
