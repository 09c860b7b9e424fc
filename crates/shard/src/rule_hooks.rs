//! Client events for rules: noted only if a rule names them.

use forebay_broker::raised::{Raised, reason_name};
use forebay_guard::auth::jwt::Tokens;
use forebay_mqtt::packet::{Connect, SubscriptionOptions, Version};
use forebay_mqtt::property::Properties;
use forebay_mqtt::reason::ReasonCode;
use forebay_rule::event::Event;
use forebay_rule::field::Field;
use forebay_runtime::seam::ConnId;
use forebay_session::{End, Session, SessionKey};

use super::Core;
use super::connection::Kind;
use super::ring::Ring;

/// A CONNECT and the identifier of its client, which the service may have given it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Newcomer<'a> {
    pub(super) connect: &'a Connect<'a>,
    pub(super) client_id: &'a str,
}

impl Core {
    /// Notes that a client was admitted or refused.
    pub(super) fn raise_authn(
        &mut self,
        io: &Ring<'_>,
        conn: ConnId,
        of: Newcomer<'_>,
        code: ReasonCode,
        is_anonymous: bool,
    ) {
        if !self.here.events.wants(Event::ClientCheckAuthnComplete) {
            return;
        }
        let username = self.shown_username(conn, of.connect);
        let raised = Raised::new(Event::ClientCheckAuthnComplete, io.wall());
        let raised = raised.text(Field::Clientid, of.client_id).shown(Field::Username, username);
        let raised = raised.shown(Field::Peername, io.peer(conn)).text(Field::ReasonCode, &reason_name(code));
        self.here.raise(raised.flag(Field::IsSuperuser, false).flag(Field::IsAnonymous, is_anonymous));
    }

    /// Notes the answer to a CONNECT.
    pub(super) fn raise_connack(&mut self, io: &mut Ring<'_>, conn: ConnId, of: Newcomer<'_>, code: ReasonCode) {
        if self.connections.traces.is_any() {
            self.trace_connect(io, conn, of);
        }
        if !self.here.events.wants(Event::ClientConnack) {
            return;
        }
        let username = self.shown_username(conn, of.connect);
        let raised = Raised::new(Event::ClientConnack, io.wall());
        let raised = raised.text(Field::Clientid, of.client_id).shown(Field::Username, username);
        let raised = self.of_connect(raised, io, conn, of.connect);
        self.here.raise(raised.text(Field::ReasonCode, &reason_name(code)));
    }

    /// Notes that a client has connected.
    pub(super) fn raise_connected(&mut self, io: &Ring<'_>, conn: ConnId, of: Newcomer<'_>) {
        if !self.here.events.wants(Event::ClientConnected) {
            return;
        }
        let username = self.shown_username(conn, of.connect);
        let at = io.wall();
        let raised = Raised::new(Event::ClientConnected, at);
        let raised = raised.text(Field::Clientid, of.client_id).shown(Field::Username, username);
        let raised = self.of_connect(raised, io, conn, of.connect).int(Field::ConnectedAt, at.0);
        self.here.raise(raised.flag(Field::IsBridge, of.connect.is_bridge).json(Field::ClientAttrs, "{}"));
    }

    /// Notes that a client's connection has ended; `by`: another connection has taken its session over.
    pub(super) fn raise_disconnected(
        &mut self,
        io: &Ring<'_>,
        (conn, key): (ConnId, SessionKey),
        end: End,
        by: Option<ConnId>,
    ) {
        if !self.here.events.wants(Event::ClientDisconnected) {
            return;
        }
        let (Some(session), Some(connection)) = (self.broker.sessions.get(key), self.connections.get(conn)) else {
            return;
        };
        let listener = self.here.config.listener(connection.listener);
        // Without auth a client may reconnect under any name.
        let username = session.username().filter(|_| by.is_none() || session.access().is_some());
        let at = io.wall();
        let lasted = i64::try_from(connection.clock.lasted(io.now()).as_millis()).unwrap_or_default();
        let raised = Raised::new(Event::ClientDisconnected, at);
        let raised = raised.text(Field::Clientid, session.client().client_id).shown(Field::Username, username);
        let raised = raised.shown(Field::Peername, io.peer(conn));
        let raised = raised.shown(Field::Sockname, listener.map(|listener| &listener.bind));
        // The session's version may be that of the connection that has taken over.
        let version = match connection.kind {
            Kind::Device { peer, .. } => peer.version,
            _ => session.peer().version,
        };
        let raised = of_version(raised, version).text(Field::Reason, &reason(end));
        let raised = raised.int(Field::DisconnectedAt, at.0).int(Field::ConnectedAt, at.0 - lasted);
        self.here.raise(raised.json(Field::ClientAttrs, "{}"));
    }

    /// Notes that a client has sent PINGREQ.
    pub(super) fn raise_ping(&mut self, io: &Ring<'_>, conn: ConnId, key: SessionKey) {
        let (Some(session), Some(connection)) = (self.broker.sessions.get(key), self.connections.get(conn)) else {
            return;
        };
        let listener = self.here.config.listener(connection.listener);
        let raised = Raised::new(Event::ClientPing, io.wall());
        let raised =
            raised.text(Field::Clientid, session.client().client_id).shown(Field::Username, session.username());
        let raised = raised.shown(Field::Peername, io.peer(conn));
        let raised = raised.shown(Field::Sockname, listener.map(|listener| &listener.bind));
        let raised = of_version(raised, session.peer().version);
        self.here.raise(raised.json(Field::ClientAttrs, "{}"));
    }

    /// The user name of a CONNECT, unless that is a secret.
    pub(super) fn shown_username<'c>(&mut self, conn: ConnId, connect: &Connect<'c>) -> Option<&'c str> {
        let listener = self.connections.get(conn).map(|connection| connection.listener);
        let policy = listener.and_then(|listener| self.here.edge.auth(listener));
        let is_secret = policy.and_then(|policy| policy.tokens()).is_some_and(Tokens::are_usernames);
        connect.username.filter(|_| !is_secret)
    }

    fn of_connect(&mut self, raised: Raised, io: &Ring<'_>, conn: ConnId, connect: &Connect<'_>) -> Raised {
        let listener = self.connections.get(conn).map(|connection| connection.listener);
        let listener = listener.and_then(|listener| self.here.config.listener(listener));
        let settings = &self.broker.keeping.settings;
        let asked = match connect.version {
            Version::V5 => connect.properties.session_expiry_interval_s().unwrap_or(0),
            Version::V31 | Version::V311 if connect.clean_start => 0,
            Version::V31 | Version::V311 => settings.session_expiry_3x_s,
        };
        let raised = raised.shown(Field::Peername, io.peer(conn));
        let raised = raised.shown(Field::Sockname, listener.map(|listener| &listener.bind));
        let raised = of_version(raised, connect.version);
        let raised = raised.int(Field::Keepalive, connect.keep_alive_s.into());
        let raised = raised.int(Field::ExpiryInterval, asked.min(settings.session_expiry_max_s).into());
        raised.flag(Field::CleanStart, connect.clean_start).properties(Field::ConnProps, connect.properties)
    }
}

impl Core {
    /// Notes that a session has a subscription to a filter.
    pub(super) fn raise_subscribed(
        &mut self,
        io: &Ring<'_>,
        (conn, key): (ConnId, SessionKey),
        (filter, granted): (&str, SubscriptionOptions),
        properties: Properties<'_>,
    ) {
        if !self.here.events.wants(Event::SessionSubscribed) {
            return;
        }
        let Some(raised) = self.of_filter(io, Event::SessionSubscribed, (conn, key), filter) else { return };
        let raised = raised.int(Field::Qos, (granted.qos as u8).into());
        self.here.raise(raised.properties(Field::SubProps, properties));
    }

    /// Notes that a session has no subscription to a filter any more, as its client has asked.
    pub(super) fn raise_unsubscribed(
        &mut self,
        io: &Ring<'_>,
        (conn, key): (ConnId, SessionKey),
        filter: &str,
        properties: Properties<'_>,
    ) {
        if !self.here.events.wants(Event::SessionUnsubscribed) {
            return;
        }
        let Some(raised) = self.of_filter(io, Event::SessionUnsubscribed, (conn, key), filter) else { return };
        self.here.raise(raised.properties(Field::UnsubProps, properties));
    }

    fn of_filter(
        &self,
        io: &Ring<'_>,
        event: Event,
        (conn, key): (ConnId, SessionKey),
        filter: &str,
    ) -> Option<Raised> {
        let session: &Session = self.broker.sessions.get(key)?;
        let raised = Raised::new(event, io.wall()).text(Field::Clientid, session.client().client_id);
        let raised = raised.shown(Field::Username, session.username());
        let peer = io.peer(conn);
        let raised = raised.shown(Field::Peername, peer).shown(Field::Peerhost, peer.map(|peer| peer.ip()));
        Some(raised.text(Field::Topic, filter).json(Field::ClientAttrs, "{}"))
    }
}

fn of_version(raised: Raised, version: Version) -> Raised {
    let (name, number) = match version {
        Version::V31 => ("MQIsdp", 3),
        Version::V311 => ("MQTT", 4),
        Version::V5 => ("MQTT", 5),
    };
    raised.text(Field::ProtoName, name).int(Field::ProtoVer, number)
}

/// The reason why a connection has ended, in EMQX's words if there are any.
fn reason(end: End) -> String {
    let word = match end {
        End::Left => "normal",
        End::LeftWithWill => "disconnect_with_will_message",
        End::Lost => "tcp_closed",
        End::KeepAliveTimeout => "keepalive_timeout",
        End::TakenOver => "takenover",
        End::Administrative => "kicked",
        _ => return end.reason().map(reason_name).unwrap_or_default(),
    };
    word.to_owned()
}
