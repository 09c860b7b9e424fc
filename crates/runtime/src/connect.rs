//! Outgoing connections.

use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;

use socket2::{Domain, Protocol, Socket, Type};

use super::connections::{Conn, NO_LISTENER, Phase, Reading, id_of, tag};
use super::core::Core;
use super::driver::{Completion, Driver, Kind};
use super::listen::keep_alive;
use super::seam::{Closed, ConnId, SocketOptions};

impl<M: Send + 'static, D: Driver> Core<M, D> {
    pub(super) fn start_connect(&mut self, to: SocketAddr, socket: SocketOptions) -> ConnId {
        let (fd, error) = match open(to, socket) {
            Ok(fd) => (Some(fd), None),
            Err(error) => (None, Some(error)),
        };
        let conn = Conn::new(fd, Some(to), NO_LISTENER, Phase::Connecting, Reading::Multishot);
        let id = self.adopted(conn);
        if let Some(error) = error {
            self.end(id, Closed::Error(error));
        } else if let Some(conn) = self.conns.named(id) {
            let addr = conn.connecting.insert(Box::new(to.into()));
            let addr: *const socket2::SockAddr = &raw const **addr;
            if let Some(fd) = conn.fd() {
                // SAFETY: the address is in a box that the slot keeps until the completion takes it out.
                unsafe { self.driver.connect(fd, addr, tag(Kind::Connect, id)) };
            }
        }
        id
    }

    /// Handles the answer of a connect. `Some`: the connection is open.
    pub(super) fn connected(&mut self, completion: &Completion) -> Option<ConnId> {
        let id = id_of(completion.tag);
        let conn = self.conns.named(id)?;
        conn.connecting = None;
        if conn.phase == Phase::Dead {
            self.release(id);
            return None;
        }
        if let Err(error) = completion.count() {
            self.end(id, Closed::Error(error));
            return None;
        }
        conn.phase = Phase::Open;
        self.begin_layer(id);
        self.queue_arm(id);
        // The shard may have written before the connection stood.
        self.mark_dirty(id);
        Some(id)
    }
}

fn open(to: SocketAddr, options: SocketOptions) -> io::Result<OwnedFd> {
    let socket = Socket::new(Domain::for_address(to), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_tcp_nodelay(true)?;
    keep_alive(&socket, options.keep_alive)?;
    // The buffer is set before the connect, as the offered window depends on it.
    if let Some(bytes) = options.receive_buffer {
        socket.set_recv_buffer_size(bytes as usize)?;
    }
    if let Some(bytes) = options.send_buffer {
        socket.set_send_buffer_size(bytes as usize)?;
    }
    Ok(socket.into())
}
