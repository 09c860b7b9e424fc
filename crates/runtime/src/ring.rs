//! Our io_uring: the operations that the kernel supports, and their answers. Nothing here knows a connection.
//!
//! `SINGLE_ISSUER | DEFER_TASKRUN`: completions are made on this thread, and only when it enters the kernel, so a busy
//! shard is never interrupted.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use io_uring::squeue::{Entry, Flags};
use io_uring::types::{CancelBuilder, Fd, FsyncFlags, TimeoutFlags, Timespec};
use io_uring::{IoUring, opcode};

use super::driver::{Completion, Driver, Kind, Tag, is_transient};
use super::seam::Monotonic;

/// Run deferred work and reap, also without waiting (`IORING_ENTER_GETEVENTS`).
const ENTER_GETEVENTS: u32 = 1;
/// The one group of provided buffers.
const BUFFER_GROUP: u16 = 0;

pub(super) struct Ring {
    inner: IoUring,
    /// Submissions that found no room, in order. Empty unless the kernel refuses to take submissions.
    backlog: VecDeque<(Entry, Option<Entry>)>,
    /// Operations that will still answer.
    in_flight: usize,
    /// The timeout, which the kernel copies when it takes the submission.
    wake: Box<Timespec>,
    /// The time of the one timeout, if it is set.
    wake_at: Option<Monotonic>,
    bell_armed: bool,
}

impl Driver for Ring {
    fn new(entries: u32) -> io::Result<Self> {
        let inner = IoUring::builder()
            .setup_single_issuer()
            .setup_defer_taskrun()
            .setup_cqsize(entries * 4)
            .dontfork()
            .build(entries)?;
        Ok(Self {
            inner,
            backlog: VecDeque::new(),
            in_flight: 0,
            wake: Box::new(Timespec::new()),
            wake_at: None,
            bell_armed: false,
        })
    }

    fn in_flight(&self) -> usize {
        self.in_flight
    }

    fn accept(&mut self, socket: BorrowedFd<'_>, tag: Tag) {
        let accept = opcode::AcceptMulti::new(fd(socket)).flags(libc::SOCK_CLOEXEC);
        self.push(accept.build(), tag);
    }

    fn accept_once(&mut self, socket: BorrowedFd<'_>, tag: Tag) {
        let accept = opcode::Accept::new(fd(socket), std::ptr::null_mut(), std::ptr::null_mut());
        self.push(accept.flags(libc::SOCK_CLOEXEC).build(), tag);
    }

    fn receive_once(&mut self, socket: BorrowedFd<'_>, tag: Tag) {
        // Length 0: as much as the chosen buffer holds.
        let receive = opcode::Recv::new(fd(socket), std::ptr::null_mut(), 0).buf_group(BUFFER_GROUP);
        self.push(receive.build().flags(Flags::BUFFER_SELECT), tag);
    }

    fn receive_always(&mut self, socket: BorrowedFd<'_>, tag: Tag) {
        self.push(opcode::RecvMulti::new(fd(socket), BUFFER_GROUP).build(), tag);
    }

    fn poll_hang_up(&mut self, socket: BorrowedFd<'_>, tag: Tag) {
        // POLLHUP and POLLERR are always reported.
        self.push(opcode::PollAdd::new(fd(socket), libc::POLLRDHUP as u32).build(), tag);
    }

    fn cancel(&mut self, target: Tag, tag: Tag) {
        let cancel = opcode::AsyncCancel2::new(CancelBuilder::user_data(target.pack()).all());
        self.push(cancel.build(), tag);
    }

    fn cancel_everything(&mut self) {
        self.push(opcode::AsyncCancel2::new(CancelBuilder::any()).build(), Tag::of(Kind::Ignored));
    }

    fn poll_bell(&mut self, bell: BorrowedFd<'_>) {
        let poll = opcode::PollAdd::new(fd(bell), libc::POLLIN as u32).multi(true);
        self.push(poll.build(), Tag::of(Kind::Bell));
        self.bell_armed = true;
    }

    fn bell_armed(&self) -> bool {
        self.bell_armed
    }

    fn wake_by(&mut self, at: Monotonic) {
        if self.wake_at.is_some_and(|armed| armed <= at) {
            return;
        }
        *self.wake = Timespec::new().sec(at.0 / 1_000_000_000).nsec((at.0 % 1_000_000_000) as u32);
        let (entry, tag) = match self.wake_at {
            None => {
                let timeout = opcode::Timeout::new(&raw const *self.wake).flags(TimeoutFlags::ABS);
                (timeout.build(), Tag::of(Kind::Wake))
            }
            Some(_) => {
                let target = Tag::of(Kind::Wake).pack();
                let update = opcode::TimeoutUpdate::new(target, &raw const *self.wake).flags(TimeoutFlags::ABS);
                (update.build(), Tag::of(Kind::Ignored))
            }
        };
        self.wake_at = Some(at);
        self.push(entry, tag);
    }

    unsafe fn send(&mut self, socket: BorrowedFd<'_>, bytes: *const u8, length: u32, tag: Tag) {
        self.push(opcode::Send::new(fd(socket), bytes, length).flags(libc::MSG_NOSIGNAL).build(), tag);
    }

    unsafe fn send_pieces(&mut self, socket: BorrowedFd<'_>, header: *const libc::msghdr, tag: Tag) {
        self.push(opcode::SendMsg::new(fd(socket), header).flags(libc::MSG_NOSIGNAL as u32).build(), tag);
    }

    unsafe fn connect(&mut self, socket: BorrowedFd<'_>, addr: *const socket2::SockAddr, tag: Tag) {
        // SAFETY: readable, says the caller.
        let addr = unsafe { &*addr };
        self.push(opcode::Connect::new(fd(socket), addr.as_ptr().cast(), addr.len()).build(), tag);
    }

    unsafe fn write_and_sync(&mut self, file: BorrowedFd<'_>, bytes: *const u8, length: u32, offset: u64, slot: u32) {
        let write = opcode::Write::new(fd(file), bytes, length).offset(offset).build().flags(Flags::IO_LINK);
        let sync = opcode::Fsync::new(fd(file)).flags(FsyncFlags::DATASYNC).build();
        let tagged = |entry: Entry, kind| entry.user_data(Tag { kind, slot, generation: 0 }.pack());
        self.enqueue(tagged(write, Kind::DiskWrite), Some(tagged(sync, Kind::DiskSync)));
    }

    unsafe fn write(&mut self, file: BorrowedFd<'_>, bytes: *const u8, length: u32, offset: u64, slot: u32) {
        let write = opcode::Write::new(fd(file), bytes, length).offset(offset);
        self.push(write.build(), Tag { kind: Kind::DiskWrite, slot, generation: 0 });
    }

    unsafe fn sync(&mut self, file: BorrowedFd<'_>, slot: u32) {
        let sync = opcode::Fsync::new(fd(file)).flags(FsyncFlags::DATASYNC).build();
        self.push(sync, Tag { kind: Kind::DiskSync, slot, generation: 0 });
    }

    unsafe fn read(&mut self, file: BorrowedFd<'_>, into: *mut u8, length: u32, offset: u64, slot: u32) {
        let read = opcode::Read::new(fd(file), into, length).offset(offset);
        self.push(read.build(), Tag { kind: Kind::DiskRead, slot, generation: 0 });
    }

    unsafe fn register_buffers(&mut self, addr: u64, entries: u16) -> io::Result<()> {
        // SAFETY: the caller's.
        unsafe { self.inner.submitter().register_buf_ring_with_flags(addr, entries, BUFFER_GROUP, 0) }
    }

    fn submit(&mut self, wait: usize) -> io::Result<()> {
        while let Some((first, second)) = self.backlog.pop_front() {
            if !self.try_push(&first, second.as_ref()) {
                self.backlog.push_front((first, second));
                return Ok(());
            }
        }
        match self.enter(wait) {
            Err(error) if !is_transient(&error) => Err(error),
            _ => Ok(()),
        }
    }

    fn has_work(&mut self) -> bool {
        !self.backlog.is_empty() || !self.inner.completion().is_empty()
    }

    fn reap(&mut self, into: &mut impl Extend<Completion>, limit: usize) {
        for entry in self.inner.completion().take(limit) {
            let tag = Tag::unpack(entry.user_data());
            let completion = Completion { tag, result: entry.result(), flags: entry.flags() };
            if !completion.more() {
                self.in_flight -= 1;
                match tag.kind {
                    Kind::Wake => self.wake_at = None,
                    Kind::Bell => self.bell_armed = false,
                    _ => {}
                }
            }
            into.extend([completion]);
        }
    }
}

impl Ring {
    fn push(&mut self, entry: Entry, tag: Tag) {
        self.enqueue(entry.user_data(tag.pack()), None);
    }

    /// A linked pair is submitted together: a chain ends where a submission ends.
    fn enqueue(&mut self, first: Entry, second: Option<Entry>) {
        self.in_flight += 1 + usize::from(second.is_some());
        if !self.backlog.is_empty() || !self.try_push(&first, second.as_ref()) {
            self.backlog.push_back((first, second));
        }
    }

    fn try_push(&mut self, first: &Entry, second: Option<&Entry>) -> bool {
        let wanted = 1 + usize::from(second.is_some());
        let mut queue = self.inner.submission();
        if queue.capacity() - queue.len() < wanted {
            drop(queue);
            if self.enter(0).is_err() {
                return false;
            }
            queue = self.inner.submission();
        }
        // SAFETY: what the entries point to is kept by the callers of the unsafe methods above; the timespec is
        // ours, in a box.
        unsafe {
            match second {
                None => queue.push(first).is_ok(),
                Some(second) => queue.push_multiple(&[first.clone(), second.clone()]).is_ok(),
            }
        }
    }

    fn enter(&mut self, wait: usize) -> io::Result<()> {
        let queued = self.inner.submission().len() as u32;
        // SAFETY: no argument is passed; the queued entries were checked when pushed.
        unsafe { self.inner.submitter().enter::<libc::sigset_t>(queued, wait as u32, ENTER_GETEVENTS, None)? };
        Ok(())
    }
}

fn fd(fd: BorrowedFd<'_>) -> Fd {
    Fd(fd.as_raw_fd())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::epoll::Epoll;

    /// A queue of 4 takes any number of operations, pairs stay together, and every one answers once.
    #[test]
    fn more_operations_than_the_queue_holds() {
        more_operations_than_the_queue_holds_over::<Ring>();
        more_operations_than_the_queue_holds_over::<Epoll>();
    }

    fn more_operations_than_the_queue_holds_over<D: Driver>() {
        let mut ring = D::new(4).unwrap();
        ring.open_files(0).unwrap();
        let file = tempfile::tempfile().unwrap();
        let fd = std::os::fd::AsFd::as_fd(&file);
        for slot in 0..101 {
            // SAFETY: a static; the file outlives the loop below.
            unsafe { ring.write_and_sync(fd, b"x".as_ptr(), 1, u64::from(slot), slot) };
            ring.cancel(Tag::of(Kind::Bell), Tag { kind: Kind::Ignored, slot, generation: 0 });
        }
        let mut answers = Vec::new();
        while ring.in_flight() > 0 {
            ring.submit(1).unwrap();
            ring.reap(&mut answers, 7);
        }
        assert_eq!(answers.len(), 303);
        let of = |kind| answers.iter().filter(move |answer| answer.tag.kind == kind).map(|answer| answer.result);
        assert!(of(Kind::DiskWrite).all(|result| result == 1));
        assert!(of(Kind::DiskSync).all(|result| result == 0));
        assert_eq!(file.metadata().unwrap().len(), 101);
    }
}
