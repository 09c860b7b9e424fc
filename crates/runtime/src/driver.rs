//! [`Driver`] is the interface of a shard's loop to the kernel: operations that are each answered by a [`Completion`]. `ring`
//! implements it with io_uring, `epoll` with epoll and threads for files. Connections, layers, timers, segments and the turn do not
//! depend on the driver.
//!
//! The loop is generic over the driver, so each driver has a compiled loop of its own. A process uses one driver.
//!
//! Operations without memory of ours are safe calls. Those with memory are `unsafe`, and their callers state who keeps it until the
//! completion.

use std::io;
use std::os::fd::BorrowedFd;

use super::seam::Monotonic;
pub(super) use super::tag::{Completion, Kind, Tag};

/// The most bytes that one write may carry (the kernel's own limit, `MAX_RW_COUNT`).
pub(super) const WRITE_BYTES_MAX: usize = 0x7fff_f000;

/// A shard's interface to the kernel. Used on one thread.
pub(super) trait Driver: Sized + 'static {
    /// Makes a driver on the thread that will use it. `entries`: operations that can be submitted at a time.
    fn new(entries: u32) -> io::Result<Self>;
    /// Operations that will still answer.
    fn in_flight(&self) -> usize;
    /// Registers the stock of provided buffers ([`super::buffers`]).
    ///
    /// # Safety
    /// `addr` must be page-aligned and hold `entries` entries, for as long as this driver lives.
    unsafe fn register_buffers(&mut self, addr: u64, entries: u16) -> io::Result<()>;
    /// Prepares for operations on files; called before the first of them.
    fn open_files(&mut self, _shard: usize) -> io::Result<()> {
        Ok(())
    }

    /// Accepts until cancelled.
    fn accept(&mut self, socket: BorrowedFd<'_>, tag: Tag);
    /// Accepts the next connection only.
    fn accept_once(&mut self, socket: BorrowedFd<'_>, tag: Tag);
    /// Receives once into a provided buffer.
    fn receive_once(&mut self, socket: BorrowedFd<'_>, tag: Tag);
    /// Receives into provided buffers until cancelled, ended, or out of buffers.
    fn receive_always(&mut self, socket: BorrowedFd<'_>, tag: Tag);
    /// Answers once when the other end has closed the connection, or its sending side.
    fn poll_hang_up(&mut self, socket: BorrowedFd<'_>, tag: Tag);
    /// Cancels the operations named `target`; their completions have their results, the answer to `tag` whether any was found.
    fn cancel(&mut self, target: Tag, tag: Tag);
    /// Cancels whatever is under way.
    fn cancel_everything(&mut self);
    /// Forgets a socket that leaves this shard or is about to be closed. `tag` names one of its operations, none of which is under way.
    fn forget(&mut self, _socket: BorrowedFd<'_>, _tag: Tag) {}

    /// Answers [`Kind::Bell`] each time the eventfd is written to, until cancelled.
    fn poll_bell(&mut self, bell: BorrowedFd<'_>);
    /// Whether the eventfd is polled.
    fn bell_armed(&self) -> bool;
    /// Makes sure that the next wait ends at `at` or before.
    fn wake_by(&mut self, at: Monotonic);

    /// Sends `length` bytes, or fewer.
    ///
    /// # Safety
    /// `bytes` must stay readable and unchanged until the completion.
    unsafe fn send(&mut self, socket: BorrowedFd<'_>, bytes: *const u8, length: u32, tag: Tag);
    /// Sends the bytes of the header's pieces, or fewer.
    ///
    /// # Safety
    /// The header, its pieces and their bytes must stay readable and unchanged until the completion.
    unsafe fn send_pieces(&mut self, socket: BorrowedFd<'_>, header: *const libc::msghdr, tag: Tag);
    /// Connects.
    ///
    /// # Safety
    /// `addr` must stay readable until the completion.
    unsafe fn connect(&mut self, socket: BorrowedFd<'_>, addr: *const socket2::SockAddr, tag: Tag);

    /// Writes, then calls `fdatasync` if the write was complete. Both are answered.
    ///
    /// # Safety
    /// `bytes` must stay readable and unchanged, and the file open, until both completions.
    unsafe fn write_and_sync(&mut self, file: BorrowedFd<'_>, bytes: *const u8, length: u32, offset: u64, slot: u32);
    /// Writes, and does not sync.
    ///
    /// # Safety
    /// `bytes` must stay readable and unchanged, and the file open, until the completion.
    unsafe fn write(&mut self, file: BorrowedFd<'_>, bytes: *const u8, length: u32, offset: u64, slot: u32);
    /// `fdatasync`.
    ///
    /// # Safety
    /// The file must stay open until the completion.
    unsafe fn sync(&mut self, file: BorrowedFd<'_>, slot: u32);
    /// Reads up to `length` bytes.
    ///
    /// # Safety
    /// `into` must stay writable and untouched, and the file open, until the completion.
    unsafe fn read(&mut self, file: BorrowedFd<'_>, into: *mut u8, length: u32, offset: u64, slot: u32);

    /// Submits the operations, and waits until at least `wait` answers are there, or the time of [`Driver::wake_by`] (0: does not
    /// wait).
    ///
    /// # Errors
    /// Only fatal errors. A signal, or a kernel that wants its answers reaped first, is no error.
    fn submit(&mut self, wait: usize) -> io::Result<()>;
    /// Whether there is something to do without waiting.
    fn has_work(&mut self) -> bool;
    /// Moves up to `limit` answers to `into`.
    fn reap(&mut self, into: &mut impl Extend<Completion>, limit: usize);
}

/// Errors after which the same call may succeed: interrupted, answers to be reaped first, short of memory.
pub(super) fn is_transient(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EINTR | libc::EBUSY | libc::EAGAIN))
}
