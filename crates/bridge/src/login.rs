//! CONNECT as a client sends it, and CONNACK as a remote answers.

use std::fmt;

use super::granted::Granted;
use forebay_base::limits::CONNACK_BYTES_MAX;
use forebay_guard::secure::Secret;
use forebay_mqtt::malformed::Malformed;
use forebay_mqtt::packet::{Connect, Packet, PacketType, Sender, Version};
use forebay_mqtt::property::{Properties, Property, PropertyBuf, VIA};
use forebay_mqtt::reason::ReasonCode;
use forebay_mqtt::{decode, encode, frame};

/// The longest text of a remote that is shown to people, in characters.
const WORDS_MAX: usize = 200;

/// The versions that a client may speak, and in which order they are tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Versions {
    /// 5.0 alone.
    V5,
    /// 3.1.1 alone.
    V311,
    /// 5.0, and 3.1.1 for a remote that refuses 5.0.
    Any,
}

/// `Form` is a form of CONNECT that may be tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Form {
    /// The version.
    pub version: Version,
    /// Before 5.0 CONNECT says that the client is a bridge.
    pub is_bridge: bool,
    /// CONNECT asks the remote to discard the client's session.
    pub clean_start: bool,
}

/// `Login` is the contents of CONNECT.
#[derive(Clone, Debug)]
pub struct Login {
    /// The versions.
    pub versions: Versions,
    /// Whether the client identifies itself as a bridge before 5.0, unless the remote refuses that.
    pub says_bridge: bool,
    /// The client identifier.
    pub client_id: Box<str>,
    /// The user name.
    pub username: Option<Box<str>>,
    /// The password.
    pub password: Option<Secret>,
    /// Whether the remote is asked to discard the client's session each time.
    pub clean_start: bool,
    /// Requested session expiry at the remote, in seconds.
    pub session_expiry_s: u32,
    /// The keep-alive in seconds; 0: off.
    pub keep_alive_s: u16,
    /// Messages of QoS 1 and 2 that the remote may have open, at least 1.
    pub receive_maximum: u16,
    /// The largest packet that the client takes, in bytes.
    pub packet_bytes_max: u32,
    /// The most messages of QoS 1 and 2 in flight to the remote; `None`: as many as it accepts.
    pub in_flight_max: Option<u16>,
    /// The digits of this instance, for a remote of 5.0 that is to tell its own. Empty: it is not asked.
    pub instance: Box<str>,
}

/// The answer to CONNECT.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Greeted {
    /// The client is accepted.
    Yes(Box<Granted>),
    /// The remote does not speak this version, or has no bridges.
    OtherVersion(Refusal),
    /// The client is not accepted.
    No(Refusal),
}

/// `Refusal` is a remote's reason not to serve the client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The reason.
    pub reason: ReasonCode,
    /// The remote's own words for the refusal.
    pub words: Option<String>,
    /// The server that the remote names instead.
    pub server: Option<String>,
}

impl Refusal {
    pub(super) fn new(reason: ReasonCode, properties: Properties<'_>) -> Self {
        let (words, server) = (properties.reason_string().map(shown), properties.server_reference().map(shown));
        Self { reason, words, server }
    }

    /// Whether further attempts are refused as well until a person changes something.
    pub(super) fn is_lasting(&self) -> bool {
        matches!(
            self.reason,
            ReasonCode::UNSUPPORTED_PROTOCOL_VERSION
                | ReasonCode::CLIENT_IDENTIFIER_NOT_VALID
                | ReasonCode::BAD_USER_NAME_OR_PASSWORD
                | ReasonCode::NOT_AUTHORIZED
                | ReasonCode::BANNED
                | ReasonCode::BAD_AUTHENTICATION_METHOD
                | ReasonCode::USE_ANOTHER_SERVER
                | ReasonCode::SERVER_MOVED
        )
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.reason.name())?;
        self.words.iter().try_for_each(|words| write!(f, ": {words}"))?;
        self.server.iter().try_for_each(|server| write!(f, " ({server})"))
    }
}

/// Text of a remote, escaped for display.
fn shown(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(WORDS_MAX).collect()
}

impl Login {
    /// The forms in the order in which they are tried.
    fn forms(&self) -> impl Iterator<Item = Form> {
        let v5 = Form { version: Version::V5, is_bridge: false, clean_start: self.clean_start };
        let v311 = Form { version: Version::V311, ..v5 };
        let bridge = Form { is_bridge: true, ..v311 };
        let (has_v5, has_v311) = (self.versions != Versions::V311, self.versions != Versions::V5);
        let all = [(v5, has_v5), (bridge, has_v311 && self.says_bridge), (v311, has_v311)];
        all.into_iter().filter_map(|(form, is_tried)| is_tried.then_some(form))
    }

    /// Whether there is a form with this number.
    pub(super) fn has_form(&self, number: usize) -> bool {
        self.forms().nth(number).is_some()
    }

    /// The form with this number.
    pub(super) fn form(&self, number: usize, begins_anew: bool) -> Form {
        let clean_start = self.clean_start || begins_anew;
        let last = Form { version: Version::V311, is_bridge: false, clean_start };
        self.forms().nth(number).map_or(last, |form| Form { clean_start, ..form })
    }

    /// Appends CONNECT. The remote may use no topic aliases: the table for them here would cost more than they save the remote.
    pub(super) fn write(&self, form: Form, out: &mut Vec<u8>) {
        let mut properties = PropertyBuf::new();
        if form.version == Version::V5 {
            properties.push(Property::SessionExpiryInterval(self.session_expiry_s));
            properties.push(Property::ReceiveMaximum(self.receive_maximum.max(1)));
            properties.push(Property::MaximumPacketSize(self.packet_bytes_max));
            if !self.instance.is_empty() {
                properties.push(Property::UserProperty(VIA, &self.instance));
            }
        }
        let connect = Connect {
            version: form.version,
            is_bridge: form.is_bridge,
            clean_start: form.clean_start,
            keep_alive_s: self.keep_alive_s,
            client_id: &self.client_id,
            will: None,
            username: self.username.as_deref(),
            password: self.password.as_ref().map(Secret::expose),
            properties: properties.as_properties(),
        };
        // All fields were checked against the bounds of MQTT when they were configured.
        let written = encode::connect(&connect, out);
        debug_assert!(written.is_ok());
    }

    /// Reads CONNACK at the front of `bytes`. Returns the answer and the packet's length; `None`: more bytes are needed.
    pub(super) fn read(&self, form: Form, bytes: &[u8]) -> Result<Option<(Greeted, usize)>, Malformed> {
        if bytes.first().is_some_and(|first| PacketType::of(*first) != Some(PacketType::ConnAck)) {
            return Err(violation("MQTT-3.2.0-1", "the first packet is not CONNACK"));
        }
        let Some(frame) = frame::next_for(form.version, Sender::Server, bytes, CONNACK_BYTES_MAX)? else {
            return Ok(None);
        };
        let unspoken = Refusal {
            reason: ReasonCode::UNSUPPORTED_PROTOCOL_VERSION,
            words: Some(format!("MQTT {}{}", form.version.as_str(), if form.is_bridge { " of a bridge" } else { "" })),
            server: None,
        };
        // A server before 5.0 answers in its own way.
        if form.version == Version::V5 && matches!(frame.body, [_, 1 | 0x84]) {
            return Ok(Some((Greeted::OtherVersion(unspoken), frame.len)));
        }
        let len = frame.len;
        let Packet::ConnAck(connack) = decode::decode(form.version, Sender::Server, frame)? else {
            return Err(violation("MQTT-3.2.0-1", "the first packet is not CONNACK"));
        };
        if connack.session_present && form.clean_start {
            return Err(violation("MQTT-3.2.2-2", "Session Present, and a clean start was asked for"));
        }
        let greeted = match connack.reason {
            ReasonCode::SUCCESS => Greeted::Yes(Box::new(Granted::of(&connack, self, form))),
            ReasonCode::UNSUPPORTED_PROTOCOL_VERSION => Greeted::OtherVersion(unspoken),
            reason => Greeted::No(Refusal::new(reason, connack.properties)),
        };
        Ok(Some((greeted, len)))
    }
}

/// A violation of the protocol by a server.
pub(super) const fn violation(clause: &'static str, what: &'static str) -> Malformed {
    Malformed { reason: ReasonCode::PROTOCOL_ERROR, clause, what }
}
