//! Connections that have not completed CONNECT: their number on a shard, and which one is closed when there are too many.

use std::collections::HashMap;

use forebay_base::address::Address;
use forebay_broker::words::second;
use forebay_metrics::event::{Field, Kind as EventKind};
use forebay_metrics::spec::ShardMetric as M;
use forebay_runtime::seam::{ConnId, ListenerId, Monotonic};

use super::Core;
use super::connection::{Connections, Kind};
use super::mail::ToDoor;
use super::moves::Moves;
use super::relay::Relays;
use super::ring::Ring;

/// The number of connections drawn to find the one that is closed.
const DRAWN: usize = 16;

/// Connections of a shard that have not completed CONNECT.
#[derive(Default)]
pub(super) struct Doors {
    /// Accepted connections; some have gone.
    entries: Vec<ConnId>,
    open: usize,
    /// The addresses of connections, by slot, if they are bounded.
    pub(super) addresses: HashMap<u32, Address>,
    /// Connections that could not be moved to another shard yet.
    pub(super) leaving: Vec<ConnId>,
    /// Connections that another shard has no room for yet.
    pub(super) moves: Moves,
    /// Connections of clients that another instance serves, and those that came from other instances.
    pub(super) relays: Relays,
}

impl Doors {
    /// Adds a connection.
    pub(super) fn enter(&mut self, conn: ConnId, connections: &mut Connections) {
        self.open += 1;
        if self.entries.len() > 2 * self.open + 64 {
            self.entries.retain(|conn| waits_since(connections, *conn).is_some());
        }
        self.entries.push(conn);
    }

    /// Removes a connection.
    pub(super) fn leave(&mut self) {
        self.open = self.open.saturating_sub(1);
    }

    /// The number of connections that have not completed CONNECT.
    pub(super) fn open(&self) -> usize {
        self.open
    }
}

/// The deadline of a connection that has not completed CONNECT: the sooner, the longer it has been there.
fn waits_since(connections: &mut Connections, conn: ConnId) -> Option<Monotonic> {
    match connections.get(conn)?.kind {
        Kind::Door(_, deadline) | Kind::Leaving(_, deadline) => Some(deadline),
        Kind::Pending(deadline) | Kind::Exchange(deadline) => Some(deadline),
        Kind::Header(deadline) | Kind::Waiting(deadline) => Some(deadline),
        Kind::Device { .. } | Kind::Relayed(_) | Kind::Relay(_) | Kind::Trunk | Kind::Link { .. } => None,
    }
}

impl Core {
    /// Takes a letter about a connection that has no session yet.
    pub(super) fn door_letter(&mut self, io: &mut Ring<'_>, letter: ToDoor) {
        match letter {
            ToDoor::HandOver(detached, admission) => self.receive(io, detached, admission),
            ToDoor::TestClient(socket, user) => self.test_client(io, socket, user),
            ToDoor::Judged { conn, answer } => self.judged(io, conn, answer),
            ToDoor::PeerResolved { ticket, found } => self.peer_resolved(io, ticket, found),
        }
    }

    /// Has listeners with a bounded rate accept one by one.
    pub(super) fn pace_listeners(&mut self, io: &mut Ring<'_>) {
        for (index, listener) in (0..).zip(&self.here.config.listeners) {
            io.accept_singly(ListenerId(index), listener.connect_rate > 0);
        }
    }

    /// Notes an accepted connection: the next may have to wait.
    fn keep_pace(&mut self, io: &mut Ring<'_>, listener: ListenerId) {
        let Some(settings) = self.here.config.listener(listener).filter(|listener| listener.connect_rate > 0) else {
            return;
        };
        let Some(paced) = self.around.tally.pace(listener, settings.connect_rate, io.now()) else { return };
        io.pause_accepting(listener, paced.until);
        self.here.numbers.count(M::AcceptPauses);
        if paced.is_news {
            let bind = settings.bind.to_string();
            self.here.teller.tell(EventKind::ConnectRate, second(io.now()), |event| event.with(Field::Listener, bind));
        }
    }

    /// Notes that a client has failed to log in, which its address may do only at a bounded rate.
    pub(super) fn note_failure(&mut self, io: &Ring<'_>, conn: ConnId) {
        let max = self.here.config.mqtt.failures_per_address;
        let Some(peer) = io.peer(conn).filter(|_| max > 0) else { return };
        if self.around.tally.fail(Address::of(peer.ip()), max, io.now()) {
            let listener = self.connections.get(conn).map(|connection| connection.listener);
            let listener = listener.and_then(|listener| self.here.config.listener(listener));
            self.here.teller.tell_of(EventKind::AddressClosed, second(io.now()), Address::of(peer.ip()), |event| {
                let event = event.shown(Field::Peer, Some(peer));
                event.shown(Field::Listener, listener.map(|listener| &listener.bind))
            });
        }
    }

    /// Enters an accepted connection. False: its listener has reached its bound, and the connection has been closed.
    pub(super) fn enter(&mut self, io: &mut Ring<'_>, conn: ConnId, listener: ListenerId) -> bool {
        let settings = self.here.config.listener(listener);
        let max = settings.map_or(0, |listener| listener.connections_max);
        let proxies = settings.map(|listener| listener.proxy_from.as_slice()).unwrap_or_default();
        // The peer of a Unix socket has no address: file permissions decide who may connect.
        let peer = io.peer(conn).map(|peer| peer.ip()).filter(|_| !proxies.is_empty());
        if peer.is_some_and(|peer| !proxies.iter().any(|network| network.contains(peer))) {
            self.here.numbers.count(M::ProxyUnknown);
            io.abort(conn);
            return false;
        }
        self.keep_pace(io, listener);
        let is_in = self.around.tally.enter(listener, max);
        if !is_in {
            self.here.numbers.count(M::ListenerFull);
            io.abort(conn);
        }
        is_in
    }

    /// Whether a connection's address is known only from its request, as a proxy speaks HTTP.
    pub(super) fn is_forwarded(&self, listener: ListenerId) -> bool {
        let settings = self.here.config.listener(listener);
        settings.and_then(|listener| listener.ws.as_ref()).is_some_and(|ws| ws.is_forwarded)
    }

    /// Enters a connection when its address is known. False: the address has reached its bound, or has failed too often, and the connection has been closed.
    pub(super) fn enter_address(&mut self, io: &mut Ring<'_>, conn: ConnId) -> bool {
        let Some(address) = io.peer(conn).map(|peer| Address::of(peer.ip())) else { return true };
        let (failures, connections) =
            (self.here.config.mqtt.failures_per_address, self.here.config.mqtt.connections_per_address);
        if failures > 0 && self.around.tally.has_failed(address, failures, io.now()) {
            return self.turn_back(io, conn, M::FailuresFull);
        }
        if connections > 0 {
            if !self.around.tally.enter_address(address, connections) {
                return self.turn_back(io, conn, M::AddressFull);
            }
            self.doors.addresses.insert(conn.slot, address);
        }
        true
    }

    /// Closes a connection that a bound of its address refuses. Returns false.
    fn turn_back(&mut self, io: &mut Ring<'_>, conn: ConnId, bound: M) -> bool {
        self.here.numbers.count(bound);
        self.forget(io, conn);
        io.abort(conn);
        false
    }

    /// Closes a connection if too many have not completed CONNECT: among some drawn at random, the oldest of the address with the most of them.
    pub(super) fn bound_door(&mut self, io: &mut Ring<'_>) {
        if self.doors.open() <= self.here.config.mqtt.unauthenticated_max {
            return;
        }
        let mut drawn: Vec<(Option<Address>, Monotonic, ConnId)> = Vec::with_capacity(DRAWN);
        // Some of the drawn connections have gone.
        for _ in 0..8 * DRAWN {
            let conn = self.doors.entries[self.random.usize(..self.doors.entries.len())];
            let Some(since) = waits_since(&mut self.connections, conn) else { continue };
            if drawn.iter().all(|(.., other)| *other != conn) {
                drawn.push((io.peer(conn).map(|peer| Address::of(peer.ip())), since, conn));
            }
            if drawn.len() == DRAWN {
                break;
            }
        }
        let of = |address: &Option<Address>| drawn.iter().filter(|(other, ..)| other == address).count();
        let goes = drawn.iter().max_by_key(|(address, since, _)| (of(address), std::cmp::Reverse(*since)));
        let Some((.., conn)) = goes.copied() else { return };
        self.here.numbers.count(M::DoorFull);
        self.forget(io, conn);
        io.abort(conn);
    }
}
