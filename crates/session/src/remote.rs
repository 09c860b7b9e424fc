//! Sessions of bridges: the client of such a session is a remote, a broker to which we have connected as a client. The differences
//! are properties of its [`Peer`]; CONNECT and SUBSCRIBE are exchanged elsewhere.

use std::fmt::Debug;
use std::rc::Rc;

use super::body::Body;
use super::client_key::ClientKey;
use super::connect::terms;
use super::item::{Item, State};
use super::peer::Peer;
use super::settings::Settings;
use super::state::{Session, Terms};
use super::store::{SessionKey, Sessions};
use forebay_mqtt::packet::{Publish, QoS, Version};
use forebay_runtime::seam::{ConnId, Monotonic};

/// The owner of all sessions of bridges. No client has this owner, as it is no name of an `auth`.
pub(super) const BRIDGES: &str = "$bridges";

/// `Passes` maps messages for a remote.
pub trait Passes: Debug {
    /// Passes the mapped copy to `write`, for subscriptions with these identifiers, if the mapping yields one: it keeps the QoS of
    /// the copy, or lowers it. `made`: when the copy was made. `write` returns whether it was written.
    fn pass(
        &self,
        copy: &Publish<'_>,
        identifiers: &[u32],
        made: Monotonic,
        write: &mut dyn FnMut(&Publish<'_>) -> bool,
    );
}

/// `Remote` is the outcome of CONNECT and CONNACK for a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Remote {
    /// The version of the connection.
    pub version: Version,
    /// The largest packet that the remote takes, in bytes.
    pub packet_size_max: u32,
    /// Messages of QoS 1 and 2 that may be in flight to the remote.
    pub send_maximum: u16,
    /// Messages of QoS 1 and 2 from the remote that may wait for their answers here, as CONNECT announced in 5.0. Past the limit
    /// the connection is not read.
    pub receive_maximum: u16,
}

impl Remote {
    fn terms(self, settings: &Settings) -> Terms {
        let Self { version, packet_size_max, send_maximum, receive_maximum } = self;
        let peer = Peer { version, packet_size_max, problem_information: false, is_remote: true };
        let settings = Settings {
            // A remote that sends more is not disconnected: mosquitto 2.0 does, when it has kept many messages of QoS 2.
            inflight_max: receive_maximum,
            topic_alias_maximum: 0,
            maximum_qos: QoS::ExactlyOnce,
            retain_available: true,
            ..settings.clone()
        };
        // PUBREL follows messages that the remote has sent too early, so more identifiers may be open.
        Terms { send_maximum, receive_maximum: u16::MAX, qos2_max: u16::MAX, ..terms(peer, &settings) }
    }
}

impl Sessions {
    /// The session of a bridge, created if there is none. It stays until [`Sessions::forget`], with its remote or without.
    pub fn of_bridge(&mut self, client_id: &str, settings: &Settings, now: Monotonic) -> SessionKey {
        self.bytes_max = settings.session_bytes_max;
        if let Some(key) = self.find(ClientKey { auth: Some(BRIDGES), client_id }) {
            return key;
        }
        let peer = Peer { is_remote: true, ..Peer::new(Version::V5) };
        let mut session = Session::new(client_id, None, terms(peer, settings));
        session.expiry_s = u32::MAX;
        let key = self.insert(session);
        self.rest(key, now);
        self.note_connected(key, false);
        key
    }

    /// Notes that a remote has accepted the bridge of a session without a connection. Open exchanges continue. `known_as`: the
    /// remote, and its name for the bridge; it is the user name of messages from the remote.
    pub fn attach(&mut self, key: SessionKey, conn: ConnId, (remote, known_as): (Remote, &str), settings: &Settings) {
        let Some(session) = self.sessions.get(key) else { return };
        let is_written =
            session.number().is_some() && !self.is_unwritten(key) && session.terms.version == remote.version;
        let is_written = is_written && session.username() == Some(known_as);
        debug_assert!(session.conn.is_none() && session.is_remote());
        self.end_absence(key);
        let session = &mut self.sessions[key];
        (session.conn, session.terms) = (Some(conn), remote.terms(settings));
        if session.username() != Some(known_as) {
            self.bytes -= session.bytes();
            session.username = Some(known_as.into());
            self.bytes += session.bytes();
        }
        self.note_connected(key, is_written);
    }
}

impl Session {
    /// Sends messages as new that the remote has forgotten. Returns the number of copies of QoS 2 that may arrive there twice.
    pub fn send_anew(&mut self) -> usize {
        self.begin_outgoing_anew()
    }

    /// The copies that the remote was sent and has not answered, the oldest first.
    fn sent(&self) -> impl Iterator<Item = &Item> {
        let items = self.outgoing.iter().flat_map(|outgoing| &outgoing.items);
        items.filter(|item| item.state == State::Sent)
    }

    /// The message that the remote was sent under this packet identifier, if it has not answered it.
    #[must_use]
    pub fn sent_message(&self, id: u16) -> Option<Rc<Body>> {
        self.sent().find(|item| item.packet_id() == id)?.body.clone()
    }

    /// The oldest message that the remote was sent and has not answered.
    #[must_use]
    pub fn oldest_sent(&self) -> Option<Rc<Body>> {
        self.sent().next()?.body.clone()
    }

    /// The number of the copy of that message.
    #[must_use]
    pub fn oldest_sent_number(&self) -> Option<u64> {
        self.sent().next().map(|item| item.number)
    }

    /// Sets how many messages of QoS 1 and 2 may be on their way on the present connection.
    pub fn set_send_maximum(&mut self, send_maximum: u16) {
        self.terms.send_maximum = send_maximum;
    }

    /// Messages of QoS 2 that the remote was sent and has not acknowledged with PUBREC.
    #[must_use]
    pub fn sent_exactly_once(&self) -> usize {
        self.sent().filter(|item| item.copy.qos == QoS::ExactlyOnce).count()
    }

    /// Packet identifiers of QoS 2 that the client has open.
    #[must_use]
    pub fn open_ids(&self) -> Vec<u16> {
        self.inflight.qos2.as_ref().map(|qos2| qos2.ids().collect()).unwrap_or_default()
    }
}
