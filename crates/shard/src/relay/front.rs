//! The front: a CONNECT of a client that another instance, or none, serves waits until an owner has answered it, for at most the CONNECT time-out. Until then
//! its bytes are kept for another owner, as the previous one may lose the slot meanwhile.

use std::io::ErrorKind;
use std::sync::Arc;
use std::time::Duration;

use forebay_base::limits::SENT_AHEAD_BYTES_MAX;
use forebay_broker::router::Place;
use forebay_broker::words::second;
use forebay_fleet::link::{Client, Header};
use forebay_fleet::trunk::{Destination, Reason};
use forebay_listener::door::{self, Verdict};
use forebay_listener::proxy::Expect;
use forebay_metrics::event::{Field, Kind as EventKind};
use forebay_metrics::spec::ShardMetric as M;
use forebay_mqtt::packet::Connect;
use forebay_mqtt::reason::ReasonCode;
use forebay_runtime::seam::{Came, Closed, ConnId, Monotonic};
use forebay_session::{End, Peer, Violation, redirect};

use super::super::Core;
use super::super::connection::{Kind, NO_LISTENER};
use super::super::mail::{Mail, ToGroup};
use super::super::ring::Ring;
use super::super::rule_hooks::Newcomer;
use super::super::words::AtDoor;
use super::super::words::Timer;
use super::{To, WRONG_LINK, Waiting};
use forebay_guard::outward::Ended;

/// The interval at which the table of slots is checked for waiting clients.
const LOOK: Duration = Duration::from_millis(25);
/// The interval at which relayed clients' owners are checked.
const LOOK_FOR_MOVED: Duration = Duration::from_millis(500);
/// The delay between a failed attempt and the next one.
const AGAIN: Duration = Duration::from_millis(100);

/// Answers of owners that a client belongs elsewhere there, after which it waits for a moment.
const TURNED_MAX: u8 = 3;

/// The violation of a client for which no owner was found in time.
const NO_OWNER: Violation = Violation {
    reason: ReasonCode::SERVER_UNAVAILABLE,
    clause: "section 4.13",
    what: "no instance serves this client for now",
};
/// The violation of a client with a header that would be too long.
const TOO_LONG: Violation = Violation {
    reason: ReasonCode::QUOTA_EXCEEDED,
    clause: "section 4.13",
    what: "its rights are too many to be passed on",
};

impl Core {
    /// Redirects a client of 5.0 to the owner of its slot, if it should be. True: the client was redirected, and the connection is closed.
    pub(crate) fn redirects(&mut self, io: &mut Ring<'_>, conn: ConnId, of: Newcomer<'_>, place: Place) -> bool {
        let Place::Elsewhere(instance) = place else { return false };
        let peers = &self.around.peers;
        let table = peers.table();
        let server = table.instance(instance).map(|owner| &owner.server);
        let Some(server) = server.filter(|server| !server.is_empty()) else { return false };
        let peer = Peer::of(of.connect);
        // A redirection counts only if the client understands it, and it is not too long for the client.
        if !redirect(peer, server, &mut Vec::new()) || !peers.redirect(of.client_id, io.now()) {
            return false;
        }
        redirect(peer, server, io.out(conn));
        self.here.numbers.count(M::Redirected);
        self.raise_connack(io, conn, of, ReasonCode::USE_ANOTHER_SERVER);
        self.turn_away(io, conn);
        true
    }

    /// Leaves a CONNECT waiting for the owner of its client's slot, and has it sent there, if there is one.
    pub(crate) fn wait_for_owner(
        &mut self,
        io: &mut Ring<'_>,
        conn: ConnId,
        (slot, place): (Option<u16>, Place),
        bytes: Vec<u8>,
    ) {
        let Some(connection) = self.connections.get(conn) else { return self.connections.tails.give_back(bytes) };
        let Kind::Door(_, deadline) = connection.kind else { return self.connections.tails.give_back(bytes) };
        connection.kind = Kind::Waiting(deadline);
        self.doors.relays.waiting.insert(conn, Waiting { slot, link: None, sent: 0, again: io.now(), turned: 0 });
        let came = Came { earliest: io.now().before(self.still_for(io)), latest: io.now() };
        self.doors.relays.waits_since(conn, Some(came));
        self.put_back(io, conn, bytes);
        self.pause_if_full(io, conn);
        if let Place::Elsewhere(instance) = place {
            self.reach(io, conn, instance);
        }
        self.count_waiting();
        self.look_for_owners_soon(io);
        self.look_for_moved(io);
    }

    /// How long this process may have stood still at most, with a CONNECT that it reads now waiting for it: the client may have served itself elsewhere
    /// meanwhile.
    fn still_for(&self, io: &Ring<'_>) -> Duration {
        match &self.here.config.broker {
            Some(broker) if self.is_silent(io) => self.around.peers.silent_for(io.boottime()) + broker.session_timeout,
            _ => self.around.peers.still_for(io.now()),
        }
    }

    /// Leaves a client that waits for an owner unread once enough of its bytes are kept. Until then it is read, so its end is noticed, and what it has
    /// sent is not processed after it has sent the same elsewhere.
    pub(crate) fn pause_if_full(&mut self, io: &mut Ring<'_>, conn: ConnId) {
        if self.connections.get(conn).is_some_and(|connection| connection.tail.len() >= SENT_AHEAD_BYTES_MAX) {
            io.pause(conn);
        }
    }

    /// Opens a stream to an instance for a waiting client. The client's bytes go over it as soon as its trunk is established.
    fn reach(&mut self, io: &mut Ring<'_>, conn: ConnId, instance: u16) {
        let table = self.around.peers.table();
        let Some(owner) = table.instance(instance) else { return };
        let relays = &mut self.doors.relays;
        let Some(to) = relays.address_of(&self.around, self.here.index, io.now(), owner) else { return };
        let Some(slot) = relays.waiting.get(&conn).map(|waiting| waiting.slot) else { return };
        let shard = self.shard_at(&owner.name, slot);
        let to = Destination { name: Arc::clone(&owner.name), incarnation: owner.incarnation, to, shard };
        let Some(link) = self.open_stream(io, to, owner) else { return };
        let slot = slot.unwrap_or_default();
        let to = To { slot, name: Arc::clone(&owner.name), named: owner.incarnation, answered: 0, heard: 0 };
        if let Some(waiting) = self.doors.relays.waiting.get_mut(&conn) {
            (waiting.link, waiting.sent) = (Some((link, to)), 0);
        }
        self.connections.insert(link, Kind::Relay(conn), NO_LISTENER, io.now());
        if io.trunks().is_established(link) {
            self.send_connect(io, conn);
        }
    }

    /// Sends the CONNECTs that have waited for a trunk.
    pub(super) fn send_connects(&mut self, io: &mut Ring<'_>, trunk: ConnId) {
        let waiting = self.doors.relays.waiting.iter();
        let mut is_there = |link: ConnId| io.trunks().trunk_of(link) == Some(trunk);
        let links = waiting.filter_map(|(conn, waiting)| Some((*conn, waiting.link.as_ref()?.0)));
        let due: Vec<ConnId> = links.filter(|(_, link)| is_there(*link)).map(|(conn, _)| conn).collect();
        due.into_iter().for_each(|conn| self.send_connect(io, conn));
    }

    /// Sends a waiting client's header and bytes to the owner that was chosen for it. The header says how long the CONNECT has waited, so it is not written
    /// before it can be sent.
    fn send_connect(&mut self, io: &mut Ring<'_>, conn: ConnId) {
        let relays = &self.doors.relays;
        let link = relays.waiting.get(&conn).and_then(|waiting| waiting.link.as_ref());
        let (Some((link, to)), Some(connection)) = (link, self.connections.get(conn)) else { return };
        let link = *link;
        let came = relays.arrived.get(&conn).copied().unwrap_or(Came::at(io.now()));
        let client = match connection.claim.as_deref() {
            Some(AtDoor::Admitted(admission, _)) => Some(Client::of(admission)),
            _ => None,
        };
        let listener = self.here.config.listener(connection.listener).map(|listener| listener.bind.to_string());
        let header = Header {
            source: io.peer(conn),
            front: self.around.peers.name().into(),
            generation: self.around.peers.table().generation,
            listener: listener.unwrap_or_default().into(),
            waited: io.now().since(came.earliest),
            stood_still: came.latest.since(came.earliest),
            stamp: io.trunks().stamp_of(link),
            owner: (&*to.name).into(),
            client,
        };
        let mut said = Vec::with_capacity(512);
        if !header.write(&mut said) {
            return self.refuse_waiting(io, conn, &TOO_LONG);
        }
        let out = io.out(link);
        out.extend_from_slice(&said);
        out.extend_from_slice(&connection.tail);
        if let Some(waiting) = self.doors.relays.waiting.get_mut(&conn) {
            waiting.sent = connection.tail.len();
        }
    }

    /// Handles the end of a stream to an owner that has not answered: another attempt is made, at this owner or at another one.
    pub(super) fn reach_again(&mut self, io: &mut Ring<'_>, conn: ConnId, link: ConnId, why: &Closed) {
        let again = io.now().after(AGAIN);
        let Some(waiting) = self.doors.relays.waiting.get_mut(&conn) else { return };
        if waiting.link.as_ref().is_none_or(|(of, _)| *of != link) {
            return;
        }
        (waiting.sent, waiting.again) = (0, again);
        let (slot, to) = (waiting.slot, waiting.link.take().map(|(_, to)| to));
        self.here.numbers.count(M::RelaysFailed);
        self.tell_if_gone(to, why);
        // An instance without the slot closes the connection without an answer; the table soon names the right one.
        if !matches!(why, Closed::Peer) {
            self.tell_link_failed(io.now(), slot, Ended::of(why, false).to_string());
        }
        self.look_for_owners_soon(io);
    }

    /// Opens another stream for a waiting client, where its owner has said that it belongs.
    pub(super) fn reach_elsewhere(&mut self, io: &mut Ring<'_>, conn: ConnId, link: ConnId, reason: Reason) {
        let relays = &mut self.doors.relays;
        let Some(waiting) = relays.waiting.get_mut(&conn) else { return };
        let Some((_, to)) = waiting.link.take_if(|(of, _)| *of == link) else { return };
        (waiting.sent, waiting.turned) = (0, waiting.turned.saturating_add(1));
        let (slot, turned) = (waiting.slot, waiting.turned);
        if reason == Reason::OtherInstance {
            waiting.again = io.now().after(AGAIN);
            self.here.numbers.count(M::RelaysFailed);
            self.tell_link_failed(io.now(), slot, WRONG_LINK.to_owned());
            return self.look_for_owners_soon(io);
        }
        if turned > TURNED_MAX {
            waiting.again = io.now().after(AGAIN);
        }
        if let (Reason::OtherShard(shard), Some(slot)) = (reason, slot) {
            let shards = relays.shards.entry(to.name).or_default();
            let at = usize::from(slot);
            shards.resize(shards.len().max(at + 1), 0);
            shards[at] = shard;
        }
        match slot.map(|slot| self.here.slots.at(slot)) {
            Some(Place::Elsewhere(instance)) if turned <= TURNED_MAX => self.reach(io, conn, instance),
            _ => {}
        }
        self.look_for_owners_soon(io);
    }

    /// Asks the group to give an instance's slots to others if its process is gone: the same process has answered here before, and its port refuses
    /// connections now. A process that merely does not answer may be cut off from this instance alone.
    fn tell_if_gone(&mut self, to: Option<To>, why: &Closed) {
        let is_refused = matches!(why, Closed::Error(error) if error.kind() == ErrorKind::ConnectionRefused);
        let Some(To { name, named: incarnation, .. }) = to.filter(|_| is_refused) else { return };
        if self.around.peers.is_gone(&name, incarnation) {
            self.around
                .letters(&mut self.broker)
                .push_back((0, Mail::Group(ToGroup::PeerIsGone { name, incarnation })));
        }
    }

    fn tell_link_failed(&mut self, now: Monotonic, slot: Option<u16>, reason: String) {
        let Some(Place::Elsewhere(instance)) = slot.map(|slot| self.here.slots.at(slot)) else { return };
        let table = self.around.peers.table();
        let Some(owner) = table.instance(instance) else { return };
        self.here.teller.tell_of(EventKind::LinkFailed, second(now), &*owner.name, |event| {
            let event = event.with(Field::Instance, &*owner.name).with(Field::Remote, &*owner.link);
            event.with(Field::Reason, reason)
        });
    }

    /// Has the table of slots checked soon, if there are clients without a connection to an owner.
    pub(super) fn look_for_owners_soon(&mut self, io: &mut Ring<'_>) {
        let relays = &mut self.doors.relays;
        if relays.waiting.values().any(|waiting| waiting.link.is_none()) {
            io.set_timer_by(Timer::Relays, io.now().after(LOOK), &mut relays.timer);
        }
    }

    /// Closes clients that are relayed to an instance which no longer has their slot, as it is gone or does not respond. A CONNECT that it has not answered
    /// goes to the next owner.
    fn close_moved(&mut self, io: &mut Ring<'_>) {
        let (table, rules) = (self.around.peers.table(), self.here.rules);
        let relays = &mut self.doors.relays;
        if !Arc::ptr_eq(&relays.seen, &table) {
            relays.seen = Arc::clone(&table);
            let has_it =
                |to: &To, process| process == to.named || rules.stays_with(to.heard > 0 && process == to.answered);
            let is_other = |to: &To| {
                let owner = table.owner(to.slot);
                owner.is_some_and(|owner| owner.name != to.name || !has_it(to, owner.incarnation))
            };
            let moved: Vec<_> = relays.relayed.iter().filter(|(_, to)| is_other(to)).map(|(conn, _)| *conn).collect();
            for waiting in relays.waiting.values_mut() {
                if let Some((link, _)) = waiting.link.take_if(|(_, to)| to.heard == 0 && is_other(to)) {
                    self.connections.remove(link);
                    io.abort(link);
                }
            }
            for conn in moved {
                self.here.numbers.count(M::RelaysMoved);
                self.end(io, conn, End::Lost);
            }
        }
        self.look_for_moved(io);
    }

    /// Has the owners of relayed clients checked soon.
    pub(super) fn look_for_moved(&mut self, io: &mut Ring<'_>) {
        let relays = &mut self.doors.relays;
        if !relays.relayed.is_empty() || !relays.waiting.is_empty() {
            io.set_timer_by(Timer::Relays, io.now().after(LOOK_FOR_MOVED), &mut relays.timer);
        }
    }

    /// Finds the owners of waiting clients.
    pub(crate) fn relays_time(&mut self, io: &mut Ring<'_>) {
        self.doors.relays.timer = None;
        self.close_moved(io);
        self.look_for_owners(io);
    }

    pub(super) fn look_for_owners(&mut self, io: &mut Ring<'_>) {
        if self.is_silent(io) {
            return self.look_for_owners_soon(io);
        }
        let (now, slots) = (io.now(), &self.here.slots);
        let has_place = |waiting: &Waiting| match waiting.slot {
            Some(slot) => slots.at(slot) != Place::Nobody,
            None => slots.count() > 0,
        };
        let is_due = |waiting: &Waiting| waiting.link.is_none() && waiting.again <= now && has_place(waiting);
        let waiting = self.doors.relays.waiting.iter().filter(|(_, waiting)| is_due(waiting));
        let due: Vec<ConnId> = waiting.map(|(conn, _)| *conn).collect();
        for (looked_at, conn) in (1..).zip(due) {
            self.look_for_owner(io, conn);
            if io.is_over_after(looked_at) {
                break;
            }
        }
        self.look_for_owners_soon(io);
    }

    /// Processes a waiting CONNECT from its beginning.
    fn look_for_owner(&mut self, io: &mut Ring<'_>, conn: ConnId) {
        let Some(connection) = self.connections.get(conn) else { return };
        let Kind::Waiting(deadline) = connection.kind else { return };
        connection.kind = Kind::Door(Expect::Nothing, deadline);
        self.doors.relays.waiting.remove(&conn);
        self.count_waiting();
        self.door_bytes(io, conn, &[]);
        if self.connections.get(conn).is_some_and(|connection| matches!(connection.kind, Kind::Device { .. })) {
            io.resume(conn);
        }
    }

    /// Refuses a CONNECT that no owner has answered in time.
    pub(crate) fn refuse_without_owner(&mut self, io: &mut Ring<'_>, conn: ConnId) {
        self.here.numbers.count(M::RelaysTimedOut);
        self.refuse_waiting(io, conn, &NO_OWNER);
    }

    fn refuse_waiting(&mut self, io: &mut Ring<'_>, conn: ConnId, why: &Violation) {
        let Some(connection) = self.connections.get(conn) else { return };
        let bytes = std::mem::take(&mut connection.tail);
        self.here.numbers.lower(M::PartialBytes, bytes.len() as u64);
        match door::look(&bytes) {
            Verdict::Connect(connect, _) => self.refuse_newcomer(io, conn, &connect, why),
            _ => self.turn_away(io, conn),
        }
        self.connections.tails.give_back(bytes);
    }

    fn refuse_newcomer(&mut self, io: &mut Ring<'_>, conn: ConnId, connect: &Connect<'_>, why: &Violation) {
        let id = self.given_id(conn).map(str::to_owned).unwrap_or_default();
        let client_id = if connect.client_id.is_empty() { id.as_str() } else { connect.client_id };
        self.tell_refused(io, conn, why.clause, why.what);
        self.refuse_admitted(io, conn, Newcomer { connect, client_id }, *why);
    }
}
