//! A client's socket: connected without waiting, read and written as far as it goes.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsFd, OwnedFd};

use rustix::event::epoll;
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, sockopt};

use super::client::{Client, State};

/// A client and its socket.
pub(crate) struct Link {
    pub(crate) client: Client,
    /// `None`: there is no connection, and none is being made.
    pub(crate) socket: Option<TcpStream>,
    /// The number of the socket, by which a late event of an old one is recognised.
    pub(crate) generation: u32,
    /// Whether connect() is still in progress.
    pub(crate) connecting: bool,
    /// Whether the client is in the queue of clients with work.
    pub(crate) queued: bool,
    /// The wait before the next attempt to connect.
    pub(crate) backoff_ms: u64,
    /// When the present connection was begun, and when bytes were last read from it; nanoseconds of the run.
    pub(crate) begun_ns: u64,
    pub(crate) heard_ns: u64,
    writable: bool,
}

/// The outcome of a read or a write.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Io {
    /// All bytes are written, or this many were read.
    Done(usize),
    /// The socket takes or has no more for now.
    Blocked,
    Closed,
}

impl Link {
    pub(crate) fn new(client: Client) -> Self {
        Self {
            client,
            socket: None,
            generation: 0,
            connecting: false,
            queued: false,
            backoff_ms: 0,
            begun_ns: 0,
            heard_ns: 0,
            writable: false,
        }
    }

    /// Begins a connection and registers it.
    pub(crate) fn connect(&mut self, to: SocketAddr, start: u32, poll: &OwnedFd) -> anyhow::Result<()> {
        let family = if to.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let socket = rustix::net::socket_with(family, SocketType::STREAM, flags, None)?;
        sockopt::set_tcp_nodelay(&socket, true)?;
        match rustix::net::connect(&socket, &to) {
            Ok(()) | Err(Errno::INPROGRESS) => {}
            Err(error) => return Err(error.into()),
        }
        self.client.generation = start;
        self.generation = self.generation.wrapping_add(1);
        let data = u64::from(self.generation) << 32 | u64::from(self.client.index);
        let flags = epoll::EventFlags::IN | epoll::EventFlags::OUT | epoll::EventFlags::RDHUP | epoll::EventFlags::ET;
        epoll::add(poll, socket.as_fd(), epoll::EventData::new_u64(data), flags)?;
        self.socket = Some(TcpStream::from(socket));
        (self.connecting, self.writable) = (true, false);
        Ok(())
    }

    /// The socket is writable. Returns whether the connection is made.
    pub(crate) fn stands(&mut self) -> bool {
        self.writable = true;
        self.connecting = false;
        self.socket.as_ref().is_some_and(|socket| matches!(sockopt::socket_error(socket), Ok(Ok(()))))
    }

    /// The wait for CONNACK or PINGRESP so far, in ns.
    pub(crate) fn waits_ns(&self, now_ns: u64) -> u64 {
        let since_ns = match (&self.socket, self.client.state) {
            (None, _) => None,
            (_, State::Down | State::Greeting) => Some(self.begun_ns),
            _ => self.client.pinged_ns(),
        };
        since_ns.map_or(0, |since_ns| now_ns.saturating_sub(since_ns))
    }

    pub(crate) fn writable(&mut self) {
        self.writable = true;
    }

    /// Writes the client's pending packets.
    pub(crate) fn flush(&mut self) -> Io {
        let Some(socket) = self.socket.as_mut() else { return Io::Closed };
        let client = &mut self.client;
        while client.written < client.out.len() {
            if !self.writable {
                return Io::Blocked;
            }
            match socket.write(&client.out[client.written..]) {
                Ok(count) => client.written += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => self.writable = false,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return Io::Closed,
            }
        }
        client.out.clear();
        client.written = 0;
        Io::Done(0)
    }

    /// Reads once.
    pub(crate) fn read(&mut self, scratch: &mut [u8]) -> Io {
        let Some(socket) = self.socket.as_mut() else { return Io::Closed };
        loop {
            match socket.read(scratch) {
                Ok(0) => return Io::Closed,
                Ok(count) => return Io::Done(count),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Io::Blocked,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return Io::Closed,
            }
        }
    }

    /// Drops the socket.
    pub(crate) fn close(&mut self) {
        self.socket = None;
        self.connecting = false;
        if self.client.state != State::Done {
            self.client.down();
        }
    }
}
