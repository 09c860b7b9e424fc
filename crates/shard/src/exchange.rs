//! Enhanced authentication: the exchange between CONNECT and CONNACK, on the shard that accepted the socket, and that of a
//! client which authenticates again.
//!
//! During the exchange the CONNECT stays in the connection's tail, followed by later bytes.

use std::sync::Arc;

use forebay_broker::words::{Flow, clipped, of_client, second};
use forebay_guard::auth::Policy;
use forebay_listener::door::{self, Verdict};
use forebay_listener::proxy::Expect;
use forebay_metrics::event::{Field, Kind as EventKind};
use forebay_metrics::spec::ShardMetric as M;
use forebay_mqtt::packet::{Connect, Disconnect, Packet, Sender, Version};
use forebay_mqtt::reason::ReasonCode;
use forebay_mqtt::{decode, frame};
use forebay_runtime::seam::ConnId;
use forebay_session::{Authenticated, End, Peer, Session, SessionKey, Violation, write_auth};

use super::Core;
use super::admission::{Admitted, Why};
use super::connection::Kind;
use super::ring::Ring;
use super::words::AtDoor;

/// The longest AUTH before CONNACK.
const AUTH_BYTES_MAX: u32 = 8_192;

/// The first four bits of the packets that belong to an exchange.
const AUTH: u8 = 15;
const DISCONNECT: u8 = 14;

/// The state of an exchange after some bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Exchanged {
    /// More bytes are needed.
    Wait,
    /// The connection has been closed.
    Over,
    /// The client is admitted; its CONNECT and the bytes after it are left.
    Admitted,
}

impl Core {
    /// Begins the exchange of a CONNECT with an Authentication Method.
    pub(super) fn begin_exchange(
        &mut self,
        io: &mut Ring<'_>,
        conn: ConnId,
        connect: &Connect<'_>,
        len: usize,
        policy: &Arc<Policy>,
    ) -> Admitted {
        let properties = connect.properties;
        let method = properties.authentication_method().unwrap_or_default();
        let (exchange, data) = match policy.begin(method, properties.authentication_data()) {
            Ok(begun) => begun,
            Err(refusal) => return self.refuse_connect(io, conn, connect, refusal),
        };
        let reason = ReasonCode::CONTINUE_AUTHENTICATION; // [MQTT-4.12.0-2]
        if !write_auth(Peer::of(connect), reason, method, &data, io.out(conn)) {
            return self.refuse_connect(io, conn, connect, Violation::PACKET_SIZE_TINY);
        }
        let Some(connection) = self.connections.get(conn) else { return Admitted::No };
        let Kind::Door(_, deadline) = connection.kind else { return Admitted::No };
        connection.kind = Kind::Exchange(deadline);
        connection.claim = Some(Box::new(AtDoor::Exchange(Box::new(exchange), len)));
        Admitted::Later
    }

    /// Works through the bytes of a client in an exchange, which follow its CONNECT.
    pub(super) fn exchange_bytes(&mut self, io: &mut Ring<'_>, conn: ConnId, all: &mut Vec<u8>) -> Exchanged {
        let Some(connection) = self.connections.get(conn) else { return Exchanged::Over };
        let (Kind::Exchange(deadline), Some(AtDoor::Exchange(_, len))) = (connection.kind, connection.claim.as_deref())
        else {
            return Exchanged::Over;
        };
        let len = *len;
        let frame = match frame::next_for(Version::V5, Sender::Client, &all[len..], AUTH_BYTES_MAX) {
            Ok(None) => return Exchanged::Wait,
            Ok(Some(frame)) => frame,
            Err(malformed) => return self.refuse_exchange(io, conn, &all[..len], Violation::from(malformed)),
        };
        let used = len + frame.len;
        // Another packet may be wrong in a way that CONNACK has no code for.
        if !matches!(frame.first >> 4, AUTH | DISCONNECT) {
            return self.refuse_exchange(io, conn, &all[..len], Violation::AUTH_EARLY);
        }
        let auth = match decode::decode(Version::V5, Sender::Client, frame) {
            Ok(Packet::Auth(auth)) => auth,
            Ok(Packet::Disconnect(_)) => {
                self.turn_away(io, conn);
                return Exchanged::Over;
            }
            Ok(_) => return self.refuse_exchange(io, conn, &all[..len], Violation::AUTH_EARLY),
            Err(malformed) => return self.refuse_exchange(io, conn, &all[..len], Violation::from(malformed)),
        };
        let Some(AtDoor::Exchange(exchange, _)) = connection.claim.take().map(|claim| *claim) else {
            return Exchanged::Over;
        };
        if auth.properties.authentication_method() != Some(exchange.method()) {
            return self.refuse_exchange(io, conn, &all[..len], Violation::AUTH_OTHER_METHOD);
        }
        // [MQTT-4.12.0-3]
        if auth.reason != ReasonCode::CONTINUE_AUTHENTICATION {
            return self.refuse_exchange(io, conn, &all[..len], Violation::AUTH_UNASKED);
        }
        match exchange.finish(auth.properties.authentication_data()) {
            Ok(admission) => {
                connection.kind = Kind::Door(Expect::Nothing, deadline);
                self.admitted(io, conn, admission);
                drop(all.drain(len..used));
                Exchanged::Admitted
            }
            Err(refusal) => self.refuse_exchange(io, conn, &all[..len], refusal),
        }
    }

    /// Sends CONNACK with the reason and closes the connection [MQTT-4.12.0-4].
    fn refuse_exchange(&mut self, io: &mut Ring<'_>, conn: ConnId, connect: &[u8], why: impl Into<Why>) -> Exchanged {
        if let Verdict::Connect(connect, _) = door::look(connect) {
            self.refuse_connect(io, conn, &connect, why);
        }
        Exchanged::Over
    }

    /// Handles AUTH of a client that was admitted by an exchange.
    pub(super) fn auth_packet(
        &mut self,
        io: &mut Ring<'_>,
        conn: ConnId,
        key: SessionKey,
        auth: &Disconnect<'_>,
    ) -> Flow {
        let now = io.now();
        let until = now.after(self.here.config.mqtt.connect_timeout);
        let Some(session) = self.broker.sessions.get_mut(key) else { return Flow::Ended };
        let out = self.broker.keeping.holds.out(io, conn);
        let from = out.len();
        let authenticated = session.authenticate(auth, now, until, out);
        self.broker.hold(io, &self.here, conn, key, from);
        match authenticated {
            Authenticated::Goes => Flow::On,
            Authenticated::Done => {
                self.here.numbers.count(M::AuthAccepted);
                Flow::On
            }
            Authenticated::Violation(violation) => self.violation(io, conn, key, violation),
            Authenticated::Refused(why) => {
                self.here.numbers.count(M::AuthRefused);
                self.note_failure(io, conn);
                let session = self.broker.sessions.get(key);
                let client = session.map(Session::client);
                self.here.teller.tell_of(EventKind::AuthRefused, second(now), client, |event| {
                    let event = of_client(event, client).with(Field::Reason, why.what);
                    let event = event.maybe(Field::User, session.and_then(|session| session.username()).map(clipped));
                    event.shown(Field::Peer, io.peer(conn))
                });
                self.end(io, conn, End::Violation(why));
                Flow::Ended
            }
        }
    }
}
