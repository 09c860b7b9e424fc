//! From a socket to a device with a session: the door, the hand-over to the owning shard, CONNECT.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use forebay_base::address::Address;
use forebay_broker::router::Place;
use forebay_broker::words::{of_client, second};
use forebay_fleet::link::LISTENER;
use forebay_fleet::trunk::is_stream;
use forebay_guard::auth::{Admission, By};
use forebay_listener::door::{self, Verdict};
use forebay_listener::proxy::{self, Expect};
use forebay_listener::ws;
use forebay_metrics::event::Kind as EventKind;
use forebay_metrics::spec::{ListenerMetric, ShardMetric as M};
use forebay_mqtt::Malformed;
use forebay_mqtt::packet::{Connect, Version};
use forebay_mqtt::reason::ReasonCode;
use forebay_runtime::seam::{Came, ConnId, Detached, ListenerId, Monotonic};
use forebay_session::{Arrival, End, Peer, SessionKey, Violation, refuse};

use super::Core;
use super::admission::Admitted;
use super::banned::BANNED;
use super::connection::Kind;
use super::exchange::Exchanged;
use super::moves::Move;
use super::ring::Ring;
use super::rule_hooks::Newcomer;
use super::words::AtDoor;
use super::words::Timer;

impl Core {
    /// Takes an accepted socket, and sets the time by which its CONNECT, and any bytes before it, must have arrived.
    pub(super) fn accepted(&mut self, io: &mut Ring<'_>, conn: ConnId, listener: ListenerId) {
        if listener == LISTENER {
            return self.link_accepted(io, conn);
        }
        let settings = self.here.config.listener(listener);
        let expect = settings.map(|listener| listener.proxy_protocol).unwrap_or_default();
        let deadline = io.now().after(self.here.config.mqtt.connect_timeout);
        if !self.enter(io, conn, listener) {
            return;
        }
        self.arrive(io, conn, listener, Kind::Door(expect, deadline), deadline);
        self.count_arrival(listener);
        if expect == Expect::Nothing && (self.is_forwarded(listener) || self.enter_address(io, conn)) {
            self.begin_layer(io, conn, listener, &[]);
        }
        self.bound_door(io);
    }

    /// Begins the transport of the listener, which carries the connection's bytes from now on. False: the transport is plain TCP.
    fn begin_layer(&mut self, io: &mut Ring<'_>, conn: ConnId, listener: ListenerId, unread: &[u8]) -> bool {
        let tls = self.here.edge.tls(listener).map(|server| server.layer());
        let settings = self.here.config.listener(listener);
        let layer = match settings.and_then(|listener| listener.ws.as_ref()) {
            Some(settings) => Some(ws::layer(Arc::clone(settings), tls)),
            None => tls,
        };
        let Some(layer) = layer else { return false };
        io.put_layer(conn, layer, unread);
        true
    }

    /// Takes a socket that has not sent CONNECT, just accepted or handed over by another shard.
    pub(super) fn arrive(
        &mut self,
        io: &mut Ring<'_>,
        conn: ConnId,
        listener: ListenerId,
        kind: Kind,
        deadline: Monotonic,
    ) {
        let now = io.now();
        self.connections.insert(conn, kind, listener, now);
        let timer = io.set_timer(deadline, Timer::Connection(conn).token());
        if let Some(connection) = self.connections.get(conn) {
            connection.timer = Some(timer);
        }
        self.doors.enter(conn, &mut self.connections);
        self.here.numbers.raise(M::ConnectionsOpen, 1);
    }

    /// Notes a connection accepted by a listener: the front of a client counts it, and not its owner.
    fn count_arrival(&mut self, listener: ListenerId) {
        self.here.numbers.count_listener(listener, ListenerMetric::Open);
    }

    /// Processes the bytes of a socket that has not sent a whole CONNECT.
    pub(super) fn door_bytes(&mut self, io: &mut Ring<'_>, conn: ConnId, bytes: &[u8]) {
        let Some(connection) = self.connections.get(conn) else { return };
        let (kind, listener) = (connection.kind, connection.listener);
        if let Kind::Waiting(..) = kind {
            connection.tail.extend_from_slice(bytes);
            self.partial(io, bytes.len());
            return self.pause_if_full(io, conn);
        }
        if let Kind::Leaving(..) | Kind::Pending(..) = kind {
            connection.tail.extend_from_slice(bytes);
            return self.here.numbers.raise(M::PartialBytes, bytes.len() as u64);
        }
        let mut all = std::mem::take(&mut connection.tail);
        self.here.numbers.lower(M::PartialBytes, all.len() as u64);
        if all.is_empty() {
            all = self.connections.tails.lend(bytes);
        } else {
            all.extend_from_slice(bytes);
        }
        if let Kind::Door(expect @ (Expect::V1 | Expect::V2 | Expect::Any), _) = kind {
            match self.proxy_header(io, conn, expect, &all) {
                Some(_) if !self.is_forwarded(listener) && !self.enter_address(io, conn) => {
                    return self.connections.tails.give_back(all);
                }
                Some(len) => {
                    drop(all.drain(..len));
                    if self.begin_layer(io, conn, listener, &all) {
                        return self.connections.tails.give_back(all);
                    }
                }
                None if self.connections.get(conn).is_some() => return self.put_back(io, conn, all),
                None => return self.connections.tails.give_back(all),
            }
        }
        if let Kind::Header(..) = kind {
            if !is_stream(conn) {
                return self.preface(io, conn, all);
            }
            match self.link_header(io, conn, &all) {
                Some(len) => drop(all.drain(..len)),
                None if self.connections.get(conn).is_some() => return self.put_back(io, conn, all),
                None => return self.connections.tails.give_back(all),
            }
        }
        if let Kind::Exchange(..) = kind {
            match self.exchange_bytes(io, conn, &mut all) {
                Exchanged::Wait => return self.put_back(io, conn, all),
                Exchanged::Over => return self.connections.tails.give_back(all),
                Exchanged::Admitted => {}
            }
        }
        match door::look(&all) {
            Verdict::Wait => return self.put_back(io, conn, all),
            Verdict::Refuse(malformed, version) => self.refuse(io, conn, other_protocol(&all, malformed), version),
            Verdict::Connect(connect, used) => {
                let connect = *connect;
                match self.admit(io, conn, &connect, used) {
                    Admitted::Yes => {}
                    Admitted::Later => {
                        self.doors.relays.waits_since(conn, Some(Came::at(io.now())));
                        return self.put_back(io, conn, all);
                    }
                    Admitted::No => return self.connections.tails.give_back(all),
                }
                let (index, slots) = (self.here.index, Arc::clone(&self.here.slots));
                let given = connect.client_id.is_empty().then(|| self.given_id(conn).map(str::to_owned)).flatten();
                let id = given.as_deref().unwrap_or(connect.client_id);
                let place = match id {
                    _ if self.is_silent(io) => Place::Nobody,
                    "" => slots.for_nameless(index),
                    id => slots.place(id),
                };
                match place {
                    Place::Here(owner) if owner == index => {
                        self.connect(io, conn, &connect, &all[used..]);
                    }
                    Place::Here(owner) if is_stream(conn) => self.turn_to_shard(io, conn, owner),
                    Place::Here(owner) => return self.hand_over(io, conn, owner, all),
                    _ if self.doors.relays.front(conn).is_some() => self.turn_back_to_front(io, conn),
                    place => {
                        let slot = slots.slot(id).filter(|_| !id.is_empty());
                        let newcomer = Newcomer { connect: &connect, client_id: id };
                        if !self.redirects(io, conn, newcomer, place) {
                            return self.wait_for_owner(io, conn, (slot, place), all);
                        }
                    }
                }
            }
        }
        self.connections.tails.give_back(all);
    }

    /// The length of a proxy's header once it is whole; from then on the connection has the address in the header. Bytes that are no header
    /// end the connection.
    fn proxy_header(&mut self, io: &mut Ring<'_>, conn: ConnId, expect: Expect, bytes: &[u8]) -> Option<usize> {
        match proxy::look(expect, bytes) {
            Ok(header) => {
                let header = header?;
                if let Some(connection) = self.connections.get(conn)
                    && let Kind::Door(expect, _) = &mut connection.kind
                {
                    *expect = Expect::Nothing;
                }
                if let Some(source) = header.source {
                    io.set_peer(conn, source);
                }
                Some(header.len)
            }
            Err(malformed) => {
                self.here.numbers.count(M::ProxyHeadersRefused);
                tracing::debug!(peer = io.peer(conn).map(tracing::field::display), %malformed, "connection refused");
                self.turn_away(io, conn);
                None
            }
        }
    }

    /// Moves a connection to the shard that owns its client. No read is armed on it now, and none will be here. While a send is in flight (the last flight of
    /// a handshake) the connection waits.
    pub(super) fn hand_over(&mut self, io: &mut Ring<'_>, conn: ConnId, owner: usize, unread: Vec<u8>) {
        let Some(connection) = self.connections.get(conn) else { return self.connections.tails.give_back(unread) };
        let deadline = match connection.kind {
            Kind::Door(_, deadline) | Kind::Leaving(_, deadline) | Kind::Header(deadline) => deadline,
            _ => Monotonic::NEVER,
        };
        self.doors.relays.waits_since(conn, Some(Came::at(io.now())));
        let claim = connection.claim.take();
        let listener = connection.listener;
        let Some(detached) = io.detach(conn) else {
            connection.kind = Kind::Leaving(owner, deadline);
            connection.claim = claim;
            io.pause(conn);
            self.doors.leaving.push(conn);
            return self.put_back(io, conn, unread);
        };
        let address = self.doors.addresses.remove(&conn.slot);
        let came = self.doors.relays.has_waited(conn);
        self.drop_connection(io, conn);
        let detached = Detached { unread, deadline, listener, came, ..detached };
        self.send_move(io, Move { owner, detached, claim, address });
    }

    /// Tries again to move connections that could not be moved.
    pub(super) fn go_on_leaving(&mut self, io: &mut Ring<'_>) {
        for conn in std::mem::take(&mut self.doors.leaving) {
            let Some(connection) = self.connections.get(conn) else { continue };
            let Kind::Leaving(owner, _) = connection.kind else { continue };
            let unread = std::mem::take(&mut connection.tail);
            self.here.numbers.lower(M::PartialBytes, unread.len() as u64);
            self.hand_over(io, conn, owner, unread);
        }
    }

    /// Takes a connection moved here by another shard: its bytes are processed again, this time by the client's owner.
    pub(super) fn receive(&mut self, io: &mut Ring<'_>, mut detached: Detached, claim: Option<Box<AtDoor>>) {
        let (listener, deadline) = (detached.listener, detached.deadline);
        if listener == LISTENER {
            return self.receive_trunk(io, detached);
        }
        let is_counted = self.here.config.mqtt.connections_per_address > 0;
        let address = detached.peer.filter(|_| is_counted).map(|peer| Address::of(peer.ip()));
        let (unread, came) = (std::mem::take(&mut detached.unread), detached.came);
        // The connection came in before this listener was removed.
        if self.here.config.listener(listener).is_none_or(|listener| listener.is_removed) {
            self.around.tally.leave(listener, address);
            return self.here.numbers.count(M::ListenerRemovals);
        }
        let conn = io.adopt(detached);
        self.doors.addresses.extend(address.map(|address| (conn.slot, address)));
        // The header was read by the shard that accepted the connection.
        self.arrive(io, conn, listener, Kind::Door(Expect::Nothing, deadline), deadline);
        self.count_arrival(listener);
        if let Some(connection) = self.connections.get(conn) {
            connection.claim = claim;
        }
        self.doors.relays.waits_since(conn, came);
        self.door_bytes(io, conn, &unread);
    }

    /// Takes a client of the dashboard at the first listener, as its user there. It speaks WebSocket, whatever the others do.
    pub(super) fn test_client(&mut self, io: &mut Ring<'_>, socket: OwnedFd, user: Box<str>) {
        let listeners = &self.here.config.listeners;
        let first = listeners.iter().position(|listener| !listener.is_removed);
        let Some(listener) = first.and_then(|first| u16::try_from(first).ok()).map(ListenerId) else { return };
        let deadline = io.now().after(self.here.config.mqtt.connect_timeout);
        let (unsent, unread) = (Vec::new(), Vec::new());
        let moved = Detached { fd: socket, peer: None, listener, layer: None, unsent, unread, deadline, came: None };
        let conn = io.adopt(moved);
        if !self.enter(io, conn, listener) {
            return;
        }
        self.arrive(io, conn, listener, Kind::Door(Expect::Nothing, deadline), deadline);
        self.count_arrival(listener);
        if let Some(policy) = self.here.edge.auth(listener) {
            let admission =
                Admission { identity: Some(user), by: By::Operator, ..Admission::anonymous(Arc::clone(policy)) };
            self.admitted(io, conn, admission);
        }
        io.put_layer(conn, ws::layer(Arc::new(ws::Settings::of_dashboard()), None), &[]);
        self.bound_door(io);
    }

    fn connect(&mut self, io: &mut Ring<'_>, conn: ConnId, connect: &Connect<'_>, rest: &[u8]) {
        let now = io.now();
        self.answer_front(io, conn);
        if self.drain.own.is_some() {
            return self.refuse_admitted(io, conn, Newcomer { connect, client_id: connect.client_id }, DRAINING);
        }
        let named = connect.client_id.is_empty().then(|| match self.given_id(conn) {
            Some(id) => id.to_owned(),
            None => {
                let random = &mut self.random;
                self.here.slots.name(self.here.index, || random.u64(..))
            }
        });
        let claim = self.connections.get(conn).and_then(|connection| connection.claim.take());
        let (admission, ends) = match claim.as_deref() {
            Some(AtDoor::Admitted(admission, ends)) => (Some(admission), *ends),
            _ => (None, Monotonic::NEVER),
        };
        let client_id = named.as_deref().unwrap_or(connect.client_id);
        let is_anonymous = admission.is_none_or(|admission| admission.identity.is_none());
        let newcomer = Newcomer { connect, client_id };
        let identity = admission.and_then(|admission| admission.identity.as_deref());
        if self.is_banned(io, conn, client_id, identity) {
            self.tell_refused(io, conn, BANNED.clause, BANNED.what);
            return self.refuse_admitted(io, conn, newcomer, BANNED);
        }
        let share = match admission.map(|admission| self.share_of(now, admission, client_id)) {
            Some(Err(violation)) => {
                self.tell_refused(io, conn, violation.clause, violation.what);
                return self.refuse_admitted(io, conn, newcomer, violation);
            }
            Some(Ok(share)) => share,
            None => None,
        };
        let came = self.doors.relays.has_waited(conn).unwrap_or(Came::at(now));
        let arrival = Arrival { conn, assigned_id: named.as_deref(), admission, came };
        self.broker.measure_session_room(&mut self.here, client_id);
        let settings = &self.broker.keeping.settings;
        let from = io.out(conn).len();
        let answer = self.broker.sessions.connect(connect, arrival, now, settings, io.out(conn));
        self.broker.members_gone(&mut self.here, now);
        while let Some(client) = self.broker.sessions.next_evicted() {
            self.here.numbers.count(M::SessionsEvicted);
            let client = client.key();
            self.here.teller.tell_of(EventKind::SessionEvicted, second(now), client, |event| of_client(event, client));
        }
        let connected = match answer {
            Ok(connected) => connected,
            Err(refused) => {
                let Violation { clause, what, reason } = refused.violation;
                self.tell_refused(io, conn, clause, what);
                self.raise_connack(io, conn, newcomer, reason);
                return self.turn_away(io, conn);
            }
        };
        if let Some(old) = connected.taken_over {
            self.here.numbers.count(M::Takeovers);
            self.tell_disconnected(io, (old.conn, connected.key), (End::TakenOver, ""), Some(conn));
            if self.broker.keeping.holds.may_tell(old.conn) {
                End::TakenOver.write(old.peer, io.out(old.conn));
            }
            self.forget(io, old.conn);
            io.close(old.conn);
        }
        self.broker.write_notes(&mut self.here);
        let Some(peer) = self.broker.sessions.get(connected.key).map(forebay_session::Session::peer) else { return };
        if self.broker.sessions.is_unwritten(connected.key) {
            // The packet found room a moment ago: less than that is rare.
            io.out(conn).truncate(from);
            self.broker.sessions.withdraw(connected.key, conn, now);
            self.broker.members_gone(&mut self.here, now);
            self.tell_refused(io, conn, Violation::SPOOL_FULL.clause, Violation::SPOOL_FULL.what);
            return self.refuse_admitted(io, conn, newcomer, Violation::SPOOL_FULL);
        }
        self.here.numbers.count(M::ConnectsAccepted);
        self.broker.write_dropped(&self.here, connected.key);
        // Everything sent from now on follows the CONNACK [MQTT-3.2.0-1], and a second CONNECT gets none [MQTT-3.2.0-2].
        self.broker.hold_connack(io, &self.here, (conn, connected.key), from, !connect.clean_start);
        let Some(connection) = self.connections.get(conn) else { return };
        let receipts = connection.has_receipts(&self.here.config);
        if let Some(session) = self.broker.sessions.get_mut(connected.key) {
            session.want_receipts(receipts);
        }
        connection.kind = Kind::Device { session: connected.key, peer };
        connection.claim = share.map(|share| Box::new(AtDoor::Bounded(share)));
        self.doors.leave();
        connection.clock = connected.keep_alive.until(ends);
        if let Some(timer) = connection.timer.take() {
            io.cancel_timer(timer);
        }
        let deadline = self.broker.keeping.holds.first_due(conn, connection.clock.deadline());
        connection.timer = deadline.map(|at| io.set_timer(at, Timer::Connection(conn).token()));
        io.stream(conn);
        self.tell_connected(io, conn, connected.key, connected.session_present);
        self.raise_authn(io, conn, newcomer, ReasonCode::SUCCESS, is_anonymous);
        self.raise_connack(io, conn, newcomer, ReasonCode::SUCCESS);
        self.raise_connected(io, conn, newcomer);
        if connected.session_present {
            let filters = self.broker.sessions.get(connected.key).map_or(0, |session| session.subscriptions().len());
            let _ = io.spend(u32::try_from(filters).unwrap_or(u32::MAX));
            self.broker.enter_again(&mut self.here, connected.key, now);
            self.broker.pump_session(io, &mut self.here, connected.key);
        }
        // The will of the client's previous connection goes ahead of its publishes on this one.
        self.publishing().publish_wills_of(io, connected.key);
        // Publishes may follow right after the CONNECT; a kept session may have answers ready.
        if rest.is_empty() {
            self.answer(io, connected.key);
        } else {
            let rest = self.connections.tails.lend(rest);
            self.kept_bytes(io, conn, rest);
        }
    }

    /// Refuses a CONNECT with a CONNACK that has waited for Kafka for too long. The session is kept by its own terms, and the will of that CONNECT is
    /// dropped.
    pub(super) fn give_up_greeting(&mut self, io: &mut Ring<'_>, conn: ConnId, key: SessionKey, peer: Peer) {
        let now = io.now();
        self.tell_disconnected(io, (conn, key), (End::Violation(Violation::SESSIONS_AWAY), ""), None);
        self.here.numbers.count(M::ConnectTimeouts);
        self.broker.keeping.holds.forget(conn);
        refuse(peer, &Violation::SESSIONS_AWAY, io.out(conn));
        self.broker.sessions.withdraw(key, conn, now);
        self.broker.members_gone(&mut self.here, now);
        self.turn_away(io, conn);
    }

    /// Refuses the CONNECT of a client that was admitted.
    pub(super) fn refuse_admitted(&mut self, io: &mut Ring<'_>, conn: ConnId, of: Newcomer<'_>, why: Violation) {
        self.raise_connack(io, conn, of, why.reason);
        refuse(Peer::of(of.connect), &why, io.out(conn));
        self.turn_away(io, conn);
    }

    /// Refuses a first packet that is no CONNECT: CONNACK with the reason where the client could read one, then the connection is closed
    /// [MQTT-3.1.4-1].
    fn refuse(&mut self, io: &mut Ring<'_>, conn: ConnId, malformed: Malformed, version: Option<Version>) {
        self.here.numbers.count(M::MalformedPackets);
        self.tell_refused(io, conn, malformed.clause, malformed.what);
        self.answer_front(io, conn);
        if let Some(version) = version {
            refuse(Peer::new(version), &malformed.into(), io.out(conn));
        }
        self.turn_away(io, conn);
    }

    /// Closes a connection after its CONNECT was refused. Later bytes are not read [MQTT-3.1.4-6].
    pub(super) fn turn_away(&mut self, io: &mut Ring<'_>, conn: ConnId) {
        self.here.numbers.count(M::ConnectsRefused);
        self.forget(io, conn);
        io.close(conn);
    }

    /// Drops what this shard knows of a connection that ends (the session lives on by its own rules).
    pub(super) fn forget(&mut self, io: &mut Ring<'_>, conn: ConnId) {
        if let Some(listener) = self.drop_connection(io, conn) {
            let address = self.doors.addresses.remove(&conn.slot);
            self.around.tally.leave(listener, address);
        }
    }

    /// Drops what this shard knows of a connection that has ended or moved. Returns its listener, if it has one.
    fn drop_connection(&mut self, io: &mut Ring<'_>, conn: ConnId) -> Option<ListenerId> {
        let connection = self.connections.remove(conn)?;
        self.end_relay(io, conn, &connection);
        self.doors.relays.has_waited(conn);
        self.broker.keeping.holds.forget(conn);
        self.broker.has_read(conn);
        if let Some(timer) = connection.timer {
            io.cancel_timer(timer);
        }
        if let Some(timer) = connection.watch.and_then(|watch| watch.timer) {
            io.cancel_timer(timer);
        }
        if connection.stalled {
            self.stalls.one_less();
        }
        if let Kind::Pending(_) = connection.kind {
            self.here.numbers.lower(M::AuthWaiting, 1);
        }
        self.here.numbers.lower(M::PartialBytes, connection.tail.len() as u64);
        self.connections.tails.give_back(connection.tail);
        let is_remote = matches!(connection.kind, Kind::Device { peer, .. } if peer.is_remote);
        if is_remote || matches!(connection.kind, Kind::Link { .. } | Kind::Relay(_) | Kind::Trunk) {
            return None;
        }
        if !matches!(connection.kind, Kind::Device { .. } | Kind::Relayed(_)) {
            self.doors.leave();
        }
        self.here.numbers.lower(M::ConnectionsOpen, 1);
        if self.forget_front(conn) || connection.listener == LISTENER {
            return None;
        }
        self.here.numbers.uncount_listener(connection.listener, ListenerMetric::Open);
        Some(connection.listener)
    }
}

/// The protocol used instead of MQTT, if the first bytes show it.
fn other_protocol(bytes: &[u8], malformed: Malformed) -> Malformed {
    /// A TLS record with a handshake in it (RFC 8446, 5.1).
    const TLS: &[u8] = &[0x16, 0x03];
    const HTTP: [&[u8]; 4] = [b"GET ", b"POST", b"HEAD", b"PUT "];
    let what = if bytes.starts_with(TLS) {
        "this looks like TLS; this listener is plain TCP"
    } else if HTTP.iter().any(|method| bytes.starts_with(method)) {
        "this looks like HTTP; this listener accepts MQTT over plain TCP"
    } else {
        malformed.what
    };
    Malformed { what, ..malformed }
}

/// The violation of a CONNECT received while the service ends.
const DRAINING: Violation =
    Violation { reason: ReasonCode::SERVER_UNAVAILABLE, clause: "section 4.13", what: "the server is shutting down" };
