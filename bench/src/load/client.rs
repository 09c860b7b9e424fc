//! One connection, with little state.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsFd;

use rustix::event::epoll;
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, sockopt};

use super::packet::Template;
use super::streams::Streams;
use super::transport::Layer;
use crate::flow::told::Told;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// No connection.
    Down,
    /// TCP is connecting.
    Connecting,
    /// CONNECT is sent.
    Greeting,
    /// SUBSCRIBE is sent.
    Subscribing,
    Open,
    /// All messages are answered; PINGREQ is sent, and its answer proves that QoS 0 was read too.
    Ending,
    Done,
}

/// An open message of QoS 1 or 2, by packet id.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Slot {
    /// When the message was due (open loop) or sent, plus one; 0: the id is free.
    pub(crate) since_ns: u64,
    pub(crate) number: u64,
}

/// See the module.
pub(crate) struct Client {
    pub(crate) group: u16,
    /// Number within the group.
    pub(crate) index: u32,
    pub(crate) state: State,
    pub(crate) writable: bool,
    /// Whether the client is in the queue of clients with work.
    pub(crate) queued: bool,
    /// The earliest time of the next message, in a closed loop with think time.
    pub(crate) not_before_ns: u64,
    socket: Option<TcpStream>,
    pub(crate) layer: Option<Box<Layer>>,
    /// The number of the socket, by which a late event of an old one is recognised.
    pub(crate) generation: u32,
    /// Bytes that the socket did not take.
    out: Vec<u8>,
    /// An incomplete packet.
    pub(crate) tail: Vec<u8>,
    /// When the connection was begun, or was due.
    pub(crate) connect_ns: u64,
    pub(crate) last_out_ns: u64,
    pub(crate) template: Option<Box<Template>>,
    /// The next message's number, and the number at which to stop.
    pub(crate) number: u64,
    pub(crate) limit: u64,
    /// The number below which messages are due, in an open loop.
    pub(crate) due: u64,
    pub(crate) next_id: u16,
    pub(crate) open: u16,
    pub(crate) slots: Box<[Slot]>,
    pub(crate) streams: Option<Box<Streams>>,
    /// The fates of the messages, for the judge of Kafka.
    pub(crate) told: Option<Box<Told>>,
}

/// The outcome of a read or a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Io {
    /// This many bytes; of a write: all.
    Done(usize),
    Blocked,
    Closed,
}

impl Client {
    pub(crate) fn new(group: u16, index: u32) -> Self {
        Self {
            group,
            index,
            state: State::Down,
            writable: false,
            queued: false,
            not_before_ns: 0,
            socket: None,
            layer: None,
            generation: 0,
            out: Vec::new(),
            tail: Vec::new(),
            connect_ns: 0,
            last_out_ns: 0,
            template: None,
            number: 0,
            limit: u64::MAX,
            due: 0,
            next_id: 1,
            open: 0,
            slots: Box::default(),
            streams: None,
            told: None,
        }
    }

    /// Begins a connection and registers it under `data`.
    ///
    /// # Errors
    /// The system's; no descriptors left, for example.
    pub(crate) fn connect(&mut self, to: SocketAddr, poll: impl AsFd, slot: u32) -> anyhow::Result<()> {
        let family = if to.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let socket = rustix::net::socket_with(family, SocketType::STREAM, flags, None)?;
        sockopt::set_tcp_nodelay(&socket, true)?;
        if let SocketAddr::V4(v4) = to
            && v4.ip().is_loopback()
            && slot >= 20_000
        {
            // One source address has 28,000 ports; all of 127/8 is ours.
            let [_, _, _, last] = v4.ip().octets();
            let from = std::net::Ipv4Addr::new(127, 0, (slot / 20_000) as u8, last);
            rustix::net::bind(&socket, &SocketAddr::from((from, 0)))?;
        }
        match rustix::net::connect(&socket, &to) {
            Ok(()) | Err(Errno::INPROGRESS) => {}
            Err(error) => return Err(error.into()),
        }
        self.generation = self.generation.wrapping_add(1);
        let data = u64::from(self.generation) << 32 | u64::from(slot);
        let flags = epoll::EventFlags::IN | epoll::EventFlags::OUT | epoll::EventFlags::RDHUP | epoll::EventFlags::ET;
        epoll::add(poll, socket.as_fd(), epoll::EventData::new_u64(data), flags)?;
        self.socket = Some(TcpStream::from(socket));
        (self.state, self.writable) = (State::Connecting, false);
        Ok(())
    }

    /// Whether connect() succeeded, once the socket is writable.
    pub(crate) fn connected(&self) -> bool {
        self.socket.as_ref().is_some_and(|socket| matches!(sockopt::socket_error(socket), Ok(Ok(()))))
    }

    pub(crate) fn has_socket(&self) -> bool {
        self.socket.is_some()
    }

    /// Whether everything written so far is with the kernel.
    pub(crate) fn is_flushed(&self) -> bool {
        self.out.is_empty()
    }

    /// Writes MQTT bytes; bytes that the socket does not take wait for [`Self::flush`].
    pub(crate) fn send(&mut self, bytes: &[u8]) -> Io {
        if let Some(layer) = &mut self.layer {
            if layer.send(bytes, &mut self.out).is_err() {
                return Io::Closed;
            }
            return self.flush();
        }
        if !self.out.is_empty() || !self.writable {
            self.out.extend_from_slice(bytes);
            return if self.writable { self.flush() } else { Io::Blocked };
        }
        let Some(socket) = &mut self.socket else { return Io::Closed };
        let written = match write(socket, bytes) {
            Io::Closed => return Io::Closed,
            Io::Blocked => 0,
            Io::Done(count) => count,
        };
        if written < bytes.len() {
            self.out.extend_from_slice(&bytes[written..]);
            return self.flush();
        }
        Io::Done(written)
    }

    /// Writes the pending bytes.
    pub(crate) fn flush(&mut self) -> Io {
        let Some(socket) = &mut self.socket else { return Io::Closed };
        let mut written = 0;
        while written < self.out.len() && self.writable {
            match write(socket, &self.out[written..]) {
                Io::Done(count) => written += count,
                Io::Blocked => self.writable = false,
                Io::Closed => return Io::Closed,
            }
        }
        self.out.drain(..written);
        if self.out.is_empty() { Io::Done(written) } else { Io::Blocked }
    }

    /// Reads once from the socket: bytes of the network, before the layer.
    pub(crate) fn read(&mut self, input: &mut [u8]) -> Io {
        let Some(socket) = &mut self.socket else { return Io::Closed };
        loop {
            match socket.read(input) {
                Ok(0) => return Io::Closed,
                Ok(count) => return Io::Done(count),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Io::Blocked,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return Io::Closed,
            }
        }
    }

    /// Passes network bytes to the layer; MQTT bytes go to the tail.
    pub(crate) fn decode(&mut self, bytes: &[u8]) -> anyhow::Result<Io> {
        if let Some(layer) = &mut self.layer {
            layer.receive(bytes, &mut self.tail, &mut self.out)?;
        }
        Ok(self.flush())
    }

    /// Drops the connection. Returns the number of open messages.
    pub(crate) fn close(&mut self) -> u64 {
        (self.socket, self.layer) = (None, None);
        self.out.clear();
        self.tail.clear();
        let open = u64::from(std::mem::take(&mut self.open));
        self.slots.iter_mut().for_each(|slot| slot.since_ns = 0);
        self.state = State::Down;
        open
    }

    /// A free packet id.
    #[inline]
    pub(crate) fn take_id(&mut self, since_ns: u64, number: u64) -> Option<u16> {
        let id = self.next_id;
        let slot = self.slots.get_mut(usize::from(id) - 1)?;
        if slot.since_ns != 0 {
            return None;
        }
        *slot = Slot { since_ns: since_ns + 1, number };
        self.next_id = if usize::from(id) == self.slots.len() { 1 } else { id + 1 };
        self.open += 1;
        Some(id)
    }

    /// Frees a packet id. Returns the open message.
    #[inline]
    pub(crate) fn free_id(&mut self, id: u16) -> Option<Slot> {
        let slot = self.slots.get_mut(usize::from(id).wrapping_sub(1))?;
        if slot.since_ns == 0 {
            return None;
        }
        let taken = Slot { since_ns: slot.since_ns - 1, number: slot.number };
        slot.since_ns = 0;
        self.open -= 1;
        Some(taken)
    }
}

fn write(socket: &mut TcpStream, bytes: &[u8]) -> Io {
    loop {
        match socket.write(bytes) {
            Ok(count) => return Io::Done(count),
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Io::Blocked,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(_) => return Io::Closed,
        }
    }
}
