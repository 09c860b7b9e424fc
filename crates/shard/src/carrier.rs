//! `Carrier` carries out the effects of outgoing connections, of any protocol: sockets of the ring with their layers, and tasks of
//! ordinary threads, which answer by mail.

use std::collections::HashMap;
use std::time::Duration;

use forebay_guard::outward::{Effect, Ended, LinkId};
use forebay_runtime::Post;
use forebay_runtime::seam::{Closed, ConnId, SocketOptions};
use forebay_service::service::{resolver, sasl};

use super::Around;
use super::connection::{Connections, Kind, NO_LISTENER};
use super::mail::{Mail, ToCarrier};
use super::ring::Ring;
use super::words::Far;

/// `Socket` is a connection of the ring; `in_handshake`: its layer is not ready yet.
pub(super) struct Socket {
    conn: ConnId,
    in_handshake: bool,
}

/// `Carrier` holds the sockets of one client.
pub(super) struct Carrier {
    far: Far,
    pub(super) links: HashMap<LinkId, Socket>,
    /// Number of connections begun.
    pub(super) made: u64,
    /// Bytes given to the connections.
    pub(super) sent_bytes: u64,
}

impl Carrier {
    pub(super) fn new(far: Far) -> Self {
        Self { far, links: HashMap::new(), made: 0, sent_bytes: 0 }
    }

    /// Carries out an effect; an event is returned.
    pub(super) fn carry<E>(
        &mut self,
        io: &mut Ring<'_>,
        around: &Around,
        connections: &mut Connections,
        sockets: SocketOptions,
        effect: Effect<E>,
    ) -> Option<E> {
        let (far, shard) = (self.far, io.shard());
        match effect {
            Effect::Resolve { ticket, host, port } => {
                let post = around.post.clone();
                let answer = Box::new(move |found| {
                    deliver(&post, shard, Mail::Carrier(ToCarrier::Resolved { far, ticket, found }))
                });
                // Fails only when the resolver's thread is gone, which is when the process ends.
                let _ = around.resolver.send(resolver::Question { host, port, answer });
            }
            Effect::Prepare { ticket, task } => {
                let post = around.post.clone();
                let answer = Box::new(move |result| {
                    deliver(&post, shard, Mail::Carrier(ToCarrier::Prepared { far, ticket, result }))
                });
                // Fails only when that thread is gone, which is when the process ends.
                let _ = around.sasl.send(sasl::Question { task, answer });
            }
            Effect::Connect { link, to, layer } => {
                let conn = io.connect(to, sockets);
                let in_handshake = layer.is_some();
                if let Some(layer) = layer {
                    io.put_layer(conn, layer, &[]);
                }
                self.links.insert(link, Socket { conn, in_handshake });
                connections.insert(conn, Kind::Link { far, link }, NO_LISTENER, io.now());
                self.made += 1;
            }
            Effect::Send { link, mut chunks } => {
                if let Some(socket) = self.links.get(&link) {
                    self.sent_bytes += chunks.iter().map(|chunk| chunk.bytes().len() as u64).sum::<u64>();
                    io.send(socket.conn, &mut chunks);
                }
            }
            Effect::Close { link } => {
                if let Some(socket) = self.links.remove(&link) {
                    connections.remove(socket.conn);
                    io.abort(socket.conn);
                }
            }
            Effect::Event(event) => return Some(event),
        }
        None
    }

    /// Closes all connections.
    pub(super) fn close_all(&mut self, io: &mut Ring<'_>, connections: &mut Connections) {
        for (_, socket) in self.links.drain() {
            connections.remove(socket.conn);
            io.abort(socket.conn);
        }
    }

    /// Notes that a socket is connected, or that its layer `is_ready`. `true`: the connection may be used.
    pub(super) fn connected(&mut self, link: LinkId, is_ready: bool) -> bool {
        let Some(socket) = self.links.get_mut(&link) else { return false };
        socket.in_handshake &= !is_ready;
        !socket.in_handshake
    }

    /// Forgets the socket of a connection that has ended. Returns the reason.
    pub(super) fn closed(&mut self, link: LinkId, why: &Closed) -> Ended {
        let socket = self.links.remove(&link);
        Ended::of(why, socket.is_some_and(|socket| socket.in_handshake))
    }

    /// The socket of a connection.
    pub(super) fn conn(&self, link: LinkId) -> Option<ConnId> {
        self.links.get(&link).map(|socket| socket.conn)
    }

    /// Forgets a connection that is closed elsewhere.
    pub(super) fn let_go(&mut self, link: LinkId) {
        self.links.remove(&link);
    }

    /// Bytes given to a connection that the kernel of its peer does not have yet.
    pub(super) fn unacked(&self, io: &Ring<'_>, link: LinkId) -> usize {
        self.links.get(&link).map_or(0, |socket| io.unacked(socket.conn))
    }
}

/// Delivers an answer of an ordinary thread to a shard. The mailbox of a busy shard may be full for a moment; that thread may wait, the
/// shard may not. The wait ends if the shard has ended: others ask as well. An answer that is lost is asked for again.
pub(super) fn deliver(post: &Post<Mail>, shard: usize, mut letter: Mail) {
    for _ in 0..1_000 {
        let Err(back) = post.send(shard, letter) else { return };
        letter = back;
        std::thread::sleep(Duration::from_millis(1));
    }
}
