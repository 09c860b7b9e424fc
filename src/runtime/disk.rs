//! Durable writes on the ring: write, then `fdatasync`, linked, so the thread never waits for a disk.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::rc::Rc;

use slab::Slab;

use super::ring::{Completion, Kind, Ring, WRITE_BYTES_MAX, is_transient};

struct Operation {
    file: Rc<File>,
    data: Rc<Vec<u8>>,
    offset: u64,
    written: usize,
    token: u64,
    /// Answers of the pair that is under way.
    write: Option<io::Result<usize>>,
    sync: Option<io::Result<usize>>,
}

/// The writes under way.
#[derive(Default)]
pub(super) struct Disk {
    operations: Slab<Operation>,
}

impl Disk {
    pub(super) fn start(&mut self, ring: &mut Ring, file: Rc<File>, offset: u64, data: Rc<Vec<u8>>, token: u64) {
        let operation = Operation { file, data, offset, written: 0, token, write: None, sync: None };
        let slot = self.operations.insert(operation);
        self.submit(ring, slot);
    }

    fn submit(&mut self, ring: &mut Ring, slot: usize) {
        let Some(operation) = self.operations.get_mut(slot) else { return };
        (operation.write, operation.sync) = (None, None);
        let rest = &operation.data[operation.written..];
        let length = rest.len().min(WRITE_BYTES_MAX) as u32;
        let offset = operation.offset + operation.written as u64;
        // SAFETY: the operation keeps file and data until both answers are in; shared data is never changed.
        unsafe { ring.write_and_sync(operation.file.as_fd(), rest.as_ptr(), length, offset, slot as u32) };
    }

    /// Takes in one of the two answers. `Some`: the write is on disk, or failed; its token, and the bytes written.
    pub(super) fn answered(&mut self, ring: &mut Ring, completion: &Completion) -> Option<(u64, io::Result<u32>)> {
        let slot = completion.tag.slot as usize;
        let operation = self.operations.get_mut(slot)?;
        match completion.tag.kind {
            Kind::DiskWrite => operation.write = Some(completion.count()),
            _ => operation.sync = Some(completion.count()),
        }
        let (Some(write), Some(sync)) = (&operation.write, &operation.sync) else { return None };
        let result = match (write, sync) {
            (Err(error), _) if !is_transient(error) => Err(copy(error)),
            (Err(_), _) => Ok(false),
            (Ok(0), _) if operation.written < operation.data.len() => Err(io::ErrorKind::WriteZero.into()),
            (Ok(count), sync) => {
                operation.written += count;
                match sync {
                    // A short write breaks the chain: the rest is written, and then synced.
                    _ if operation.written < operation.data.len() => Ok(false),
                    Ok(_) => Ok(true),
                    Err(error) if is_transient(error) => Ok(false),
                    Err(error) => Err(copy(error)),
                }
            }
        };
        if let Ok(false) = result {
            self.submit(ring, slot);
            return None;
        }
        let operation = self.operations.remove(slot);
        let written = u32::try_from(operation.written).unwrap_or(u32::MAX);
        Some((operation.token, result.map(|_| written)))
    }
}

fn copy(error: &io::Error) -> io::Error {
    error.raw_os_error().map_or_else(|| error.kind().into(), io::Error::from_raw_os_error)
}
