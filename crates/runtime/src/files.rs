//! Operations on files for the epoll driver: a few ordinary threads write, sync and read, and answer as a ring does.
//!
//! Operations on one file may run at the same time. `segments` keeps their order for both drivers: a segment has one write and sync under
//! way. The queue is bounded by that, and by [`forebay_base::limits::SEGMENT_WINDOWS_MAX`] reads.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use crossbeam_queue::SegQueue;
use rustix::thread::{sched_getaffinity, sched_setaffinity};

use super::driver::{Completion, Kind, Tag};
use forebay_base::limits::FILE_THREADS;

/// The kind of an operation: pointer, length and offset. The memory is lent until the answer.
#[derive(Clone, Copy, Debug)]
pub(super) enum What {
    WriteAndSync(*const u8, u32, u64),
    Write(*const u8, u32, u64),
    Sync,
    Read(*mut u8, u32, u64),
}

/// An operation on a file.
#[derive(Clone, Copy, Debug)]
pub(super) struct Job {
    pub(super) fd: RawFd,
    pub(super) slot: u32,
    pub(super) what: What,
}

// SAFETY: the caller of the driver's method keeps the file open and the memory untouched until the answer.
unsafe impl Send for Job {}

#[derive(Default)]
struct Queue {
    jobs: VecDeque<Job>,
    has_ended: bool,
}

struct Shared {
    queue: Mutex<Queue>,
    arrived: Condvar,
    done: SegQueue<Completion>,
    bell: OwnedFd,
}

/// The shard's side. Dropping it ends the threads without waiting for them, as a disk may not answer.
pub(super) struct Files {
    shared: Arc<Shared>,
}

impl Files {
    /// Starts the threads. They write to the eventfd `bell` after each answer.
    pub(super) fn start(shard: usize, bell: OwnedFd) -> io::Result<Self> {
        let (queue, arrived, done) = (Mutex::default(), Condvar::new(), SegQueue::new());
        let files = Self { shared: Arc::new(Shared { queue, arrived, done, bell }) };
        for index in 0..FILE_THREADS {
            let shared = Arc::clone(&files.shared);
            let name = format!("files-{shard}-{index}");
            std::thread::Builder::new().name(name).spawn(move || shared.work())?;
        }
        Ok(files)
    }

    pub(super) fn bell(&self) -> BorrowedFd<'_> {
        self.shared.bell.as_fd()
    }

    pub(super) fn ask(&self, job: Job) {
        self.shared.queue().jobs.push_back(job);
        self.shared.arrived.notify_one();
    }

    /// Moves the answers to `into`.
    pub(super) fn take(&self, into: &mut VecDeque<Completion>) {
        into.extend(std::iter::from_fn(|| self.shared.done.pop()));
    }

    /// Cancels the operations that no thread has begun.
    pub(super) fn cancel(&self, into: &mut VecDeque<Completion>) {
        let jobs = std::mem::take(&mut self.shared.queue().jobs);
        jobs.into_iter().for_each(|job| into.extend(job.what.refused(job.slot, -libc::ECANCELED)));
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        let mut queue = self.shared.queue();
        queue.has_ended = true;
        queue.jobs.clear();
        self.shared.arrived.notify_all();
    }
}

impl Shared {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn work(&self) {
        // A pinned shard's threads inherit its one core. The main thread's affinity is that of the process.
        if let Ok(cpus) = sched_getaffinity(Some(rustix::process::getpid())) {
            let _ = sched_setaffinity(None, &cpus);
        }
        while let Some(job) = self.next() {
            job.run().for_each(|answer| self.done.push(answer));
            // A write fails only if the count is full; the eventfd is readable then, too.
            let _ = rustix::io::write(&self.bell, &1_u64.to_ne_bytes());
        }
    }

    fn next(&self) -> Option<Job> {
        let mut queue = self.queue();
        loop {
            if queue.has_ended {
                return None;
            }
            if let Some(job) = queue.jobs.pop_front() {
                return Some(job);
            }
            queue = self.arrived.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl What {
    /// The answers to the operation. `second` is the result of the sync in [`What::WriteAndSync`].
    fn answers(self, slot: u32, first: i32, second: i32) -> impl Iterator<Item = Completion> {
        let (kind, then) = match self {
            Self::WriteAndSync(..) => (Kind::DiskWrite, Some(Kind::DiskSync)),
            Self::Write(..) => (Kind::DiskWrite, None),
            Self::Sync => (Kind::DiskSync, None),
            Self::Read(..) => (Kind::DiskRead, None),
        };
        let answer = move |kind, result| Completion::last(Tag { kind, slot, generation: 0 }, result);
        [answer(kind, first)].into_iter().chain(then.map(|kind| answer(kind, second)))
    }

    /// The answers to an operation that was not carried out.
    pub(super) fn refused(self, slot: u32, result: i32) -> impl Iterator<Item = Completion> {
        self.answers(slot, result, result)
    }
}

impl Job {
    /// Runs the operation, and waits for the disk.
    fn run(self) -> impl Iterator<Item = Completion> {
        let fd = self.fd;
        // SAFETY: as for `Send`.
        let (first, second) = unsafe {
            let write = |bytes: *const u8, length: u32, offset: u64| {
                result(libc::pwrite(fd, bytes.cast(), length as usize, offset as libc::off_t))
            };
            let sync = || result(libc::fdatasync(fd) as isize);
            match self.what {
                What::WriteAndSync(bytes, length, offset) => match write(bytes, length, offset) {
                    written if written == length as i32 => (written, sync()),
                    // A short write breaks the link, as with a ring.
                    short => (short, -libc::ECANCELED),
                },
                What::Write(bytes, length, offset) => (write(bytes, length, offset), 0),
                What::Sync => (sync(), 0),
                What::Read(into, length, offset) => {
                    (result(libc::pread(fd, into.cast(), length as usize, offset as libc::off_t)), 0)
                }
            }
        };
        self.what.answers(self.slot, first, second)
    }
}

/// The return value of a system call in the form of an answer: a negative errno for an error.
fn result(returned: isize) -> i32 {
    match returned {
        0.. => i32::try_from(returned).unwrap_or(i32::MAX),
        _ => -io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO),
    }
}
