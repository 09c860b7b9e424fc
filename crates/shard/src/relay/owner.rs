//! The owner: trunks of other instances, with a stream for each of their clients. The header of a stream identifies the client. After it the stream is like a
//! connection that another shard of this instance has handed over.

use std::sync::Arc;
use std::time::Duration;

use forebay_broker::words::second;
use forebay_fleet::link::{Header, LISTENER, has_address};
use forebay_fleet::trunk::{Preface, Reason, since_stamp};
use forebay_guard::auth::By;
use forebay_listener::proxy::Expect;
use forebay_metrics::event::{Field, Kind as EventKind};
use forebay_metrics::spec::ShardMetric as M;
use forebay_mqtt::reason::ReasonCode;
use forebay_runtime::seam::{Came, ConnId, Detached, ListenerId, Monotonic};
use forebay_session::Violation;

use super::super::Core;
use super::super::connection::Kind;
use super::super::ring::Ring;
use super::super::words::AtDoor;
use super::WRONG_LINK;

/// A header that was on its way for less than this is not late: a stamp comes twice as often.
const LATE_AFTER: Duration = Duration::from_secs(1);

/// Reasons why a connection is refused.
const UNKNOWN_ADDRESS: &str = "it comes from an address that no instance has, and the link has no TLS";
const UNKNOWN_FRONT: &str = "the instance that it names is not one of this broker";
/// The violations of clients that their fronts have admitted.
const OTHER_AUTH: Violation = Violation {
    reason: ReasonCode::SERVER_UNAVAILABLE,
    clause: "section 4.13",
    what: "no listener of the owner has the `auth` of the one that the client came in by",
};
const NOT_ADMITTED: Violation = Violation {
    reason: ReasonCode::BAD_USER_NAME_OR_PASSWORD,
    clause: "section 3.1.4",
    what: "the files of `auth` at the owner do not admit the client, as those of its front do",
};

/// The time at which the CONNECT with this header came to its front.
fn came_at(header: &Header, now: Monotonic) -> Came {
    let on_the_way = header.stamp.map_or(Duration::ZERO, |stamp| since_stamp(stamp, now));
    let earliest = now.before(header.waited);
    let latest = earliest.after(header.stood_still);
    Came { earliest: if on_the_way < LATE_AFTER { earliest } else { earliest.before(on_the_way) }, latest }
}

impl Core {
    /// Takes a connection at the link's port.
    pub(crate) fn link_accepted(&mut self, io: &mut Ring<'_>, conn: ConnId) {
        let deadline = io.now().after(self.here.config.mqtt.connect_timeout);
        let tls = self.here.edge.link.as_ref().map(|link| link.server.layer());
        let table = self.around.peers.table();
        if tls.is_none() && !io.peer(conn).is_some_and(|peer| has_address(&table, peer.ip())) {
            self.tell_link_refused(io, conn, UNKNOWN_ADDRESS);
            return io.abort(conn);
        }
        self.arrive(io, conn, LISTENER, Kind::Header(deadline), deadline);
        if let Some(layer) = tls {
            io.put_layer(conn, layer, &[]);
        }
        self.bound_door(io);
    }

    /// Takes a connection at the link's port that another shard has accepted for this one. Its first bytes are processed again.
    pub(crate) fn receive_trunk(&mut self, io: &mut Ring<'_>, mut detached: Detached) {
        let (unread, deadline) = (std::mem::take(&mut detached.unread), detached.deadline);
        let conn = io.adopt(detached);
        self.arrive(io, conn, LISTENER, Kind::Header(deadline), deadline);
        self.door_bytes(io, conn, &unread);
    }

    /// Processes the first bytes of a connection at the link's port. Once its preface is whole, it is a trunk here, or goes to the shard that it is for.
    pub(crate) fn preface(&mut self, io: &mut Ring<'_>, conn: ConnId, bytes: Vec<u8>) {
        let is_known = |preface: &Preface| self.around.peers.table().index(&preface.front).is_some();
        let (preface, len) = match Preface::read(&bytes) {
            Ok(None) => return self.put_back(io, conn, bytes),
            Ok(Some(read)) if is_known(&read.0) => read,
            Ok(Some(_)) => return self.refuse_link(io, conn, UNKNOWN_FRONT),
            Err(malformed) => return self.refuse_link(io, conn, &malformed.to_string()),
        };
        let shard = usize::from(preface.shard);
        // A shard that is not there serves nobody: this one says which one does.
        if shard != self.here.index && shard < self.here.config.service.shards {
            return self.hand_over(io, conn, shard, bytes);
        }
        self.begin_trunk(io, conn);
        self.trunk_bytes(io, conn, &bytes[len..]);
        self.connections.tails.give_back(bytes);
    }

    fn begin_trunk(&mut self, io: &mut Ring<'_>, conn: ConnId) {
        let Some(connection) = self.connections.get(conn) else { return };
        connection.kind = Kind::Trunk;
        if let Some(timer) = connection.timer.take() {
            io.cancel_timer(timer);
        }
        self.doors.leave();
        self.here.numbers.lower(M::ConnectionsOpen, 1);
        let (mark, now) = (self.doors.relays.mark, io.now());
        io.trunks().accept(conn, mark, now);
        io.stream(conn);
    }

    /// Takes a stream that another instance has made for a client.
    pub(super) fn stream_accepted(&mut self, io: &mut Ring<'_>, stream: ConnId, trunk: ConnId) {
        let is_outdated = io.trunks().mark_of(trunk) != Some(self.doors.relays.mark);
        if is_outdated {
            return io.trunks().reset(stream, Reason::OtherTrunk);
        }
        let table = self.around.peers.table();
        if self.here.edge.link.is_none() && !io.peer(trunk).is_some_and(|peer| has_address(&table, peer.ip())) {
            self.tell_link_refused(io, trunk, UNKNOWN_ADDRESS);
            return io.abort(stream);
        }
        if self.drain.own.is_some() {
            return io.abort(stream);
        }
        let deadline = io.now().after(self.here.config.mqtt.connect_timeout);
        self.here.numbers.count(M::ConnectionsAccepted);
        self.arrive(io, stream, LISTENER, Kind::Header(deadline), deadline);
        self.bound_door(io);
    }

    /// Reports to the front of a client the shard that serves it, as a stream cannot move there.
    pub(crate) fn turn_to_shard(&mut self, io: &mut Ring<'_>, stream: ConnId, owner: usize) {
        self.forget(io, stream);
        io.trunks().reset(stream, Reason::OtherShard(u16::try_from(owner).unwrap_or_default()));
    }

    /// Processes the first bytes of a stream. Returns the length of its header once that is whole. `None`: it is not, or the
    /// connection has been refused.
    pub(crate) fn link_header(&mut self, io: &mut Ring<'_>, conn: ConnId, bytes: &[u8]) -> Option<usize> {
        let refused = match Header::read(bytes) {
            Ok(None) => return None,
            Ok(Some((header, _))) if self.is_for_another(&header) => {
                self.turn_to_instance(io, conn, &header.owner);
                return None;
            }
            Ok(Some((header, len))) => match self.came_from(io, conn, header) {
                Ok(()) => return Some(len),
                Err(why) => why.to_owned(),
            },
            Err(malformed) => malformed.to_string(),
        };
        self.refuse_link(io, conn, &refused);
        None
    }

    /// Whether a front means another instance: its address is that of this one.
    fn is_for_another(&self, header: &Header) -> bool {
        !header.owner.is_empty() && *header.owner != *self.around.peers.name()
    }

    /// Refuses a stream that is for another instance, and reports that to its front.
    fn turn_to_instance(&mut self, io: &mut Ring<'_>, stream: ConnId, owner: &str) {
        let why = format!("it is for the instance \"{owner}\": {WRONG_LINK}");
        self.tell_link_refused(io, stream, &why);
        self.forget(io, stream);
        io.trunks().reset(stream, Reason::OtherInstance);
    }

    /// Closes a connection at the link's port, or a stream.
    fn refuse_link(&mut self, io: &mut Ring<'_>, conn: ConnId, why: &str) {
        self.tell_link_refused(io, conn, why);
        self.forget(io, conn);
        io.close(conn);
    }

    /// Takes a front's header of a client.
    fn came_from(&mut self, io: &mut Ring<'_>, conn: ConnId, header: Header) -> Result<(), &'static str> {
        if self.around.peers.table().index(&header.front).is_none() {
            return Err(UNKNOWN_FRONT);
        }
        let (listener, claim) = self.claim_of(io, &header);
        if let Some(AtDoor::Refused(why)) = claim.as_deref() {
            let why = why.what;
            self.tell_link_refused(io, conn, why);
        }
        let Some(connection) = self.connections.get(conn) else { return Ok(()) };
        let Kind::Header(deadline) = connection.kind else { return Ok(()) };
        connection.kind = Kind::Door(Expect::Nothing, deadline);
        (connection.listener, connection.claim) = (listener, claim);
        self.doors.relays.waits_since(conn, Some(came_at(&header, io.now())));
        self.came_by(conn, header.front.into());
        if let Some(source) = header.source {
            io.set_peer(conn, source);
        }
        Ok(())
    }

    /// The listener with the settings for a client: one with the same `auth`, or none; with the same address, if there is one.
    fn listener_like(&self, header: &Header) -> Option<ListenerId> {
        let auth = header.client.as_ref().map(|client| &*client.auth);
        let all = (0..).zip(&self.here.config.listeners).map(|(index, listener)| (ListenerId(index), listener));
        let is_like = |id: ListenerId| self.here.edge.auth(id).map(|policy| policy.name()) == auth;
        let alike = all.filter(|(id, listener)| !listener.is_removed && is_like(*id));
        // The first one with the same address, or else the first one.
        alike.min_by_key(|(_, listener)| listener.bind.to_string() != *header.listener).map(|(id, _)| id)
    }

    /// The listener of a client, and its admission by its front, if the files here would admit it. Its CONNECT is refused otherwise.
    fn claim_of(&self, io: &Ring<'_>, header: &Header) -> (ListenerId, Option<Box<AtDoor>>) {
        let edge = &self.here.edge;
        let Some(listener) = self.listener_like(header) else {
            let any = self.here.config.listeners.iter().position(|listener| !listener.is_removed);
            let any = any.and_then(|any| u16::try_from(any).ok()).unwrap_or_default();
            return (ListenerId(any), Some(Box::new(AtDoor::Refused(OTHER_AUTH))));
        };
        let (Some(client), Some(policy)) = (&header.client, edge.auth(listener)) else { return (listener, None) };
        let is_revoked =
            matches!(&client.by, By::Certificate(id) if edge.tls(listener).is_some_and(|tls| tls.has_revoked(id)));
        if is_revoked || !policy.still_admits(client.identity.as_deref(), &client.by) {
            return (listener, Some(Box::new(AtDoor::Refused(NOT_ADMITTED))));
        }
        let admission = client.clone().admission(Arc::clone(policy));
        let ends = Self::end_of(io, &admission);
        (listener, Some(Box::new(AtDoor::Admitted(admission, ends))))
    }

    /// Notifies the front of a connection received over a link that its client is served here, and by which process. The answer precedes all bytes for the
    /// client, and is sent once.
    pub(crate) fn answer_front(&mut self, io: &mut Ring<'_>, conn: ConnId) {
        let front = self.doors.relays.fronts.get_mut(&conn.slot);
        if front.is_some_and(|front| !std::mem::replace(&mut front.is_answered, true)) {
            io.out(conn).extend_from_slice(&self.around.peers.incarnation().to_be_bytes());
        }
    }

    /// Closes a front's connection for a client that is not served here: one hop, and no more. The front looks up the owner again.
    pub(crate) fn turn_back_to_front(&mut self, io: &mut Ring<'_>, conn: ConnId) {
        self.here.numbers.count(M::LinksMisrouted);
        self.forget(io, conn);
        io.close(conn);
    }

    pub(super) fn tell_link_refused(&mut self, io: &Ring<'_>, conn: ConnId, why: &str) {
        self.here.numbers.count(M::LinksRefused);
        let from = io.peer(conn).map(|peer| forebay_base::address::Address::of(peer.ip()));
        self.here.teller.tell_of(EventKind::LinkRefused, second(io.now()), from, |event| {
            event.shown(Field::Peer, io.peer(conn)).with(Field::Reason, why)
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connect_may_have_come_before_the_last_stamp() {
        let ms = |ms: u64| Monotonic(ms * 1_000_000);
        let came = |stamp, waited, stood_still| {
            let [waited, stood_still] = [waited, stood_still].map(Duration::from_millis);
            let (front, listener, source, client) = ("a".into(), "b".into(), None, None);
            let owner = "".into();
            let header = Header { source, front, generation: 1, listener, waited, stood_still, stamp, owner, client };
            let Came { earliest, latest } = came_at(&header, ms(9_000));
            [earliest, latest].map(|at| at.0 / 1_000_000)
        };
        assert_eq!(came(None, 300, 0), [8_700; 2], "a front of before");
        assert_eq!(came(Some(8_001), 300, 0), [8_700; 2]);
        assert_eq!(came(Some(8_000), 300, 0), [7_700, 8_700]);
        assert_eq!(came(Some(6_000), 2_000, 500), [4_000, 7_500]);
    }
}
