//! Durable writes on the ring: write, then `fdatasync`, linked, so the thread never waits for a disk.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::rc::Rc;

use slab::Slab;

use super::driver::{Completion, Driver, Kind, WRITE_BYTES_MAX, is_transient};
use super::faults::DiskFaults;

/// The owner of an answer: a sync of the segments, and its segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Owner {
    pub(super) number: u64,
    pub(super) sync: usize,
}

struct Operation {
    file: Rc<File>,
    data: Rc<Vec<u8>>,
    offset: u64,
    written: usize,
    /// The most bytes of one write.
    write_max: usize,
    /// A fault: the write is not synced, and so never complete.
    without_sync: bool,
    owner: Owner,
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
    /// Writes (nothing, if there is no data) and syncs.
    pub(super) fn start(
        &mut self,
        driver: &mut impl Driver,
        file: Rc<File>,
        offset: u64,
        data: Rc<Vec<u8>>,
        faults: Option<&DiskFaults>,
        owner: Owner,
    ) {
        let write_max = faults.map_or(usize::MAX, DiskFaults::write_max).min(WRITE_BYTES_MAX);
        let without_sync = faults.is_some_and(DiskFaults::withholds_syncs);
        let (write, sync) = (None, None);
        let operation = Operation { file, data, offset, written: 0, write_max, without_sync, owner, write, sync };
        let slot = self.operations.insert(operation);
        self.submit(driver, slot);
    }

    fn submit(&mut self, driver: &mut impl Driver, slot: usize) {
        let Some(operation) = self.operations.get_mut(slot) else { return };
        (operation.write, operation.sync) = (None, None);
        let rest = &operation.data[operation.written..];
        if operation.without_sync {
            let length = rest.len().min(operation.write_max) as u32;
            let offset = operation.offset + operation.written as u64;
            // SAFETY: the operation keeps file and data for as long as this value lives.
            return unsafe { driver.write(operation.file.as_fd(), rest.as_ptr(), length, offset, slot as u32) };
        }
        if rest.is_empty() {
            operation.write = Some(Ok(0));
            // SAFETY: the operation keeps the file until the answer is in.
            return unsafe { driver.sync(operation.file.as_fd(), slot as u32) };
        }
        let length = rest.len().min(operation.write_max) as u32;
        let offset = operation.offset + operation.written as u64;
        // SAFETY: the operation keeps file and data until both answers are in; shared data is never changed.
        unsafe { driver.write_and_sync(operation.file.as_fd(), rest.as_ptr(), length, offset, slot as u32) };
    }

    /// Takes in one of the two answers. `Some`: the owner of the write, which is on disk or failed.
    pub(super) fn answered(
        &mut self,
        driver: &mut impl Driver,
        completion: &Completion,
    ) -> Option<(Owner, io::Result<()>)> {
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
            self.submit(driver, slot);
            return None;
        }
        Some((self.operations.remove(slot).owner, result.map(drop)))
    }
}

fn copy(error: &io::Error) -> io::Error {
    error.raw_os_error().map_or_else(|| error.kind().into(), io::Error::from_raw_os_error)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::driver::Tag;
    use crate::epoll::Epoll;
    use crate::ring::Ring;

    const OWNER: Owner = Owner { number: 7, sync: 3 };

    fn settle(ring: &mut impl Driver) {
        let mut answers = Vec::new();
        while ring.in_flight() > 0 {
            ring.submit(1).unwrap();
            ring.reap(&mut answers, 16);
        }
    }

    /// The kernel cannot be made to write short on demand, so its answer is made up: 4 bytes of 10, the sync
    /// cancelled. The rest must go to its own place, and only then is the write done.
    #[test]
    fn a_short_write_is_continued() {
        a_short_write_is_continued_over::<Ring>();
        a_short_write_is_continued_over::<Epoll>();
    }

    fn a_short_write_is_continued_over<D: Driver>() {
        let (mut ring, mut disk) = (D::new(8).unwrap(), Disk::default());
        ring.open_files(0).unwrap();
        let file = Rc::new(tempfile::tempfile().unwrap());
        let answer = |kind, result| Completion::last(Tag::of(kind), result);
        disk.start(&mut ring, Rc::clone(&file), 0, Rc::new(b"0123456789".to_vec()), None, OWNER);
        settle(&mut ring);
        file.set_len(0).unwrap();
        assert!(disk.answered(&mut ring, &answer(Kind::DiskWrite, 4)).is_none());
        assert!(disk.answered(&mut ring, &answer(Kind::DiskSync, -libc::ECANCELED)).is_none());
        settle(&mut ring);
        let mut content = [0; 10];
        std::os::unix::fs::FileExt::read_exact_at(&*file, &mut content, 0).unwrap();
        assert_eq!(&content, b"\0\0\0\x00456789");
        assert!(disk.answered(&mut ring, &answer(Kind::DiskSync, 0)).is_none());
        let (owner, result) = disk.answered(&mut ring, &answer(Kind::DiskWrite, 6)).unwrap();
        assert_eq!((owner, result.is_ok(), disk.operations.len()), (OWNER, true, 0));
    }

    #[test]
    fn a_sync_that_fails_fails_the_write() {
        a_sync_that_fails_fails_the_write_over::<Ring>();
        a_sync_that_fails_fails_the_write_over::<Epoll>();
    }

    fn a_sync_that_fails_fails_the_write_over<D: Driver>() {
        let (mut ring, mut disk) = (D::new(8).unwrap(), Disk::default());
        ring.open_files(0).unwrap();
        let file = Rc::new(tempfile::tempfile().unwrap());
        disk.start(&mut ring, file, 0, Rc::new(b"x".to_vec()), None, OWNER);
        settle(&mut ring);
        assert!(disk.answered(&mut ring, &Completion::last(Tag::of(Kind::DiskWrite), 1)).is_none());
        let (_, result) = disk.answered(&mut ring, &Completion::last(Tag::of(Kind::DiskSync), -libc::EIO)).unwrap();
        assert_eq!(result.unwrap_err().raw_os_error(), Some(libc::EIO));
    }
}
