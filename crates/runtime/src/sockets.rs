//! State of the epoll driver (`epoll`): the operations that wait for a socket, and the stock of receive buffers.

use std::io;
use std::os::fd::{BorrowedFd, RawFd};
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::types::BufRingEntry;
use rustix::event::epoll::EventFlags;

/// The receive or accept that waits for a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Input {
    None,
    Once,
    Always,
}

/// The send or connect that waits for a socket.
#[derive(Clone, Copy, Debug)]
pub(super) enum Output {
    Bytes(*const u8, u32),
    Pieces(*const libc::msghdr),
    Connect,
}

/// The operations on one socket.
#[derive(Debug)]
pub(super) struct Socket {
    pub(super) fd: RawFd,
    pub(super) generation: u32,
    /// The events that the set reports for the socket; `None`: the socket is not in the set.
    pub(super) watched: Option<EventFlags>,
    pub(super) input: Input,
    pub(super) hang_up: bool,
    pub(super) output: Option<Box<Output>>,
}

impl Socket {
    pub(super) const NONE: Self =
        Self { fd: -1, generation: 0, watched: None, input: Input::None, hang_up: false, output: None };

    pub(super) fn wanted(&self) -> EventFlags {
        let mut wanted = EventFlags::empty();
        wanted.set(EventFlags::IN, self.input != Input::None);
        wanted.set(EventFlags::RDHUP, self.hang_up);
        wanted.set(EventFlags::OUT, self.output.is_some());
        wanted
    }
}

impl Output {
    /// Sends as many bytes as the socket has room for, or gets the result of a connect. Returns the number of bytes, or an errno.
    pub(super) fn attempt(self, fd: RawFd) -> Result<i32, i32> {
        const FLAGS: libc::c_int = libc::MSG_NOSIGNAL | libc::MSG_DONTWAIT;
        // SAFETY: the caller of the send keeps its memory until the completion arrives.
        unsafe {
            match self {
                Self::Bytes(bytes, length) => result(libc::send(fd, bytes.cast(), length as usize, FLAGS)),
                Self::Pieces(header) => result(libc::sendmsg(fd, header, FLAGS)),
                Self::Connect => match rustix::net::sockopt::socket_error(BorrowedFd::borrow_raw(fd)) {
                    Ok(Ok(())) => Ok(0),
                    Ok(Err(error)) | Err(error) => Err(error.raw_os_error()),
                },
            }
        }
    }
}

/// The consumer's end of the ring of provided buffers ([`super::buffers`]), which a kernel holds where there is a ring.
pub(super) struct Stock {
    pub(super) entries: *const BufRingEntry,
    pub(super) count: u16,
    pub(super) head: u16,
}

impl Stock {
    /// The next free buffer: its ID, address and length.
    pub(super) fn next(&self) -> Option<(u16, *mut u8, usize)> {
        // SAFETY: `register_buffers` was promised that all entries live as long as this driver. Their other end is on this thread.
        unsafe {
            let tail = AtomicU16::from_ptr(BufRingEntry::tail(self.entries).cast_mut()).load(Ordering::Acquire);
            (tail != self.head).then(|| {
                let entry = &*self.entries.add(usize::from(self.head & (self.count - 1)));
                (entry.bid(), entry.addr() as *mut u8, entry.len() as usize)
            })
        }
    }

    pub(super) fn take(&mut self) {
        self.head = self.head.wrapping_add(1);
    }
}

/// The return value of a system call, or its errno.
pub(super) fn result(returned: isize) -> Result<i32, i32> {
    if returned < 0 {
        return Err(io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO));
    }
    Ok(i32::try_from(returned).unwrap_or(i32::MAX))
}
