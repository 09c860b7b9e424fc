//! From a socket to a device with a session: the door, the hand-over to the owning shard, CONNECT.

use crate::config::resolved::Config;
use crate::listener::door::{self, Verdict};
use crate::metrics::spec::ShardMetric as M;
use crate::mqtt::malformed::Malformed;
use crate::mqtt::packet::Connect;
use crate::mqtt::reason::ReasonCode;
use crate::runtime::seam::{ConnId, Detached, ListenerId, Monotonic};
use crate::session::{Disconnected, Settings, end};

use super::connection::{Kind, Timer};
use super::mail::Mail;
use super::router;
use super::{Core, Ring};

/// What the sessions of a shard are bound by.
pub(super) fn session_settings(config: &Config) -> Settings {
    config.session_settings()
}

impl Core {
    /// A socket stands at the door, fresh or handed over. It has so long to say CONNECT.
    pub(super) fn arrive(&mut self, io: &mut Ring<'_>, conn: ConnId, listener: ListenerId) {
        let now = io.now();
        self.connections.insert(conn, Kind::Door, listener, now);
        let timeout = now.after(self.around.config.mqtt.connect_timeout);
        let timer = io.set_timer(timeout, Timer::Connection(conn).token());
        if let Some(connection) = self.connections.get(conn) {
            connection.timer = Some(timer);
        }
        self.numbers.raise(M::ConnectionsOpen, 1);
    }

    /// Bytes of a socket that has not sent a whole CONNECT.
    pub(super) fn door_bytes(&mut self, io: &mut Ring<'_>, conn: ConnId, bytes: &[u8]) {
        let Some(connection) = self.connections.get(conn) else { return };
        let mut all = std::mem::take(&mut connection.tail);
        self.numbers.lower(M::PartialBytes, all.len() as u64);
        all.extend_from_slice(bytes);
        match door::look(&all) {
            Verdict::Wait => self.keep(io, conn, &all),
            Verdict::Refuse(malformed) => self.refuse(io, conn, &all, malformed),
            Verdict::Connect(connect, used) => {
                let owner = match connect.client_id {
                    "" => self.index,
                    id => router::owner(id, self.shards),
                };
                if owner == self.index {
                    self.connect(io, conn, &connect, &all[used..]);
                } else {
                    self.hand_over(io, conn, owner, all);
                    return;
                }
            }
        }
        self.tails.give_back(all);
    }

    /// Moves a connection to the shard that owns its client. No read is armed on it now, and none will be here.
    fn hand_over(&mut self, io: &mut Ring<'_>, conn: ConnId, owner: usize, unread: Vec<u8>) {
        let Some((fd, peer, listener)) = io.detach(conn) else { return };
        self.forget(io, conn);
        match io.mail(owner, Mail::HandOver(Detached { fd, peer, listener, unread })) {
            Ok(()) => self.numbers.count(M::ConnectionsMoved),
            // The letter is dropped here, and the socket with it: the device connects again.
            Err(_letter) => self.numbers.count(M::ConnectionsMoveRefused),
        }
    }

    /// A connection moved here: what was read of it is looked at again, by its owner this time.
    pub(super) fn receive(&mut self, io: &mut Ring<'_>, detached: Detached) {
        let Detached { fd, peer, listener, unread } = detached;
        let conn = io.adopt(fd, peer, listener);
        self.arrive(io, conn, listener);
        self.door_bytes(io, conn, &unread);
    }

    fn connect(&mut self, io: &mut Ring<'_>, conn: ConnId, connect: &Connect<'_>, rest: &[u8]) {
        let now = io.now();
        if self.drain.is_some() {
            end::refuse(connect.version, ReasonCode::SERVER_UNAVAILABLE, io.out(conn));
            return self.turn_away(io, conn);
        }
        let named = connect.client_id.is_empty().then(|| {
            let random = &mut self.random;
            router::name(self.index, self.shards, || random.u64(..))
        });
        let answer = self.sessions.connect(connect, named.as_deref(), conn, now, &self.session_settings, io.out(conn));
        let connected = match answer {
            Ok(connected) => connected,
            Err(_refused) => return self.turn_away(io, conn),
        };
        self.numbers.count(M::ConnectsAccepted);
        let Some(connection) = self.connections.get(conn) else { return };
        connection.kind = Kind::Device { session: connected.key, version: connect.version };
        if let Some(timer) = connection.timer.take() {
            io.cancel_timer(timer);
        }
        let keep_alive = self.sessions.get_mut(connected.key).map(|s| s.keep_alive());
        if let Some(deadline) = keep_alive.and_then(|k| k.deadline(now)) {
            connection.timer = Some(io.set_timer(deadline, Timer::Connection(conn).token()));
        }
        io.stream(conn);
        if let Some(old) = connected.taken_over {
            self.numbers.count(M::Takeovers);
            end::write(old.version, ReasonCode::SESSION_TAKEN_OVER, io.out(old.connection));
            self.forget(io, old.connection);
            io.close(old.connection);
            self.wills(io, old.will);
        }
        // Publishes may stand right behind the CONNECT.
        if !rest.is_empty() {
            self.device_bytes(io, conn, rest);
        }
    }

    /// A first packet that is none: CONNACK with the reason where the client could read one, then closed
    /// [MQTT-3.1.4-1].
    fn refuse(&mut self, io: &mut Ring<'_>, conn: ConnId, bytes: &[u8], malformed: Malformed) {
        self.numbers.count(M::MalformedPackets);
        end::refuse_malformed(bytes, malformed, io.out(conn));
        self.turn_away(io, conn);
    }

    fn turn_away(&mut self, io: &mut Ring<'_>, conn: ConnId) {
        self.numbers.count(M::ConnectsRefused);
        self.forget(io, conn);
        io.close(conn);
    }

    /// Drops what this shard knows of a connection (the session lives on by its own rules).
    pub(super) fn forget(&mut self, io: &mut Ring<'_>, conn: ConnId) {
        let Some(connection) = self.connections.remove(conn) else { return };
        if let Some(timer) = connection.timer {
            io.cancel_timer(timer);
        }
        self.numbers.lower(M::PartialBytes, connection.tail.len() as u64);
        self.tails.give_back(connection.tail);
        if !matches!(connection.kind, Kind::Link { .. }) {
            self.numbers.lower(M::ConnectionsOpen, 1);
        }
    }
}
