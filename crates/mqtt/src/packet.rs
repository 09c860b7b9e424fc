//! The packets as borrowed views. Only the decoder makes views of received packets, so their contents have been checked against the
//! standard: UTF-8 without U+0000, topic names without wildcards, flags and lengths, allowed properties.

use super::property::Properties;
use super::reason::ReasonCode;

/// The protocol level of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Version {
    /// MQTT 3.1 (`MQIsdp`, level 3).
    V31,
    /// MQTT 3.1.1 (level 4).
    V311,
    /// MQTT 5.0 (level 5).
    V5,
}

impl Version {
    /// The version as people write it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::V31 => "3.1",
            Self::V311 => "3.1.1",
            Self::V5 => "5.0",
        }
    }
}

/// The bit of the Protocol Version by which bridges of mosquitto and others identify themselves. No standard has it; such a bridge
/// uses the version that the other bits name. A bridge of 5.0 uses subscription options instead.
pub(super) const BRIDGE: u8 = 1 << 7;

/// The sender of a packet. The allowed packets differ: a client sends no CONNACK, a server no Session Expiry in DISCONNECT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sender {
    /// The client end.
    Client,
    /// The server end.
    Server,
}

/// MQTT Control Packet type (section 2.1.2), the high four bits of the first byte. 0 is reserved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
#[allow(missing_docs, reason = "the standard's own names")]
pub enum PacketType {
    Connect = 1,
    ConnAck = 2,
    Publish = 3,
    PubAck = 4,
    PubRec = 5,
    PubRel = 6,
    PubComp = 7,
    Subscribe = 8,
    SubAck = 9,
    Unsubscribe = 10,
    UnsubAck = 11,
    PingReq = 12,
    PingResp = 13,
    Disconnect = 14,
    Auth = 15,
}

impl PacketType {
    /// The type in a packet's first byte; `None` for the reserved 0.
    #[must_use]
    pub const fn of(first: u8) -> Option<PacketType> {
        Some(match first >> 4 {
            1 => Self::Connect,
            2 => Self::ConnAck,
            3 => Self::Publish,
            4 => Self::PubAck,
            5 => Self::PubRec,
            6 => Self::PubRel,
            7 => Self::PubComp,
            8 => Self::Subscribe,
            9 => Self::SubAck,
            10 => Self::Unsubscribe,
            11 => Self::UnsubAck,
            12 => Self::PingReq,
            13 => Self::PingResp,
            14 => Self::Disconnect,
            15 => Self::Auth,
            _ => return None,
        })
    }
}

/// Quality of service.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum QoS {
    /// 0: at most once.
    #[default]
    AtMostOnce = 0,
    /// 1: at least once.
    AtLeastOnce = 1,
    /// 2: exactly once.
    ExactlyOnce = 2,
}

impl QoS {
    /// The QoS of two bits; `None` for the reserved 3.
    #[must_use]
    pub const fn from_bits(bits: u8) -> Option<QoS> {
        match bits {
            0 => Some(QoS::AtMostOnce),
            1 => Some(QoS::AtLeastOnce),
            2 => Some(QoS::ExactlyOnce),
            _ => None,
        }
    }
}

/// A packet of either direction.
#[derive(Clone, Debug, PartialEq)]
pub enum Packet<'a> {
    /// Client to server: the first packet.
    Connect(Connect<'a>),
    /// Server to client: the answer to CONNECT.
    ConnAck(ConnAck<'a>),
    /// An application message.
    Publish(Publish<'a>),
    /// The answer to a QoS 1 PUBLISH.
    PubAck(Ack<'a>),
    /// The first answer to a QoS 2 PUBLISH.
    PubRec(Ack<'a>),
    /// The answer to PUBREC.
    PubRel(Ack<'a>),
    /// The answer to PUBREL.
    PubComp(Ack<'a>),
    /// Client to server: subscribe.
    Subscribe(Subscribe<'a>),
    /// Server to client: the answer, a reason code a filter.
    SubAck(SubAck<'a>),
    /// Client to server: unsubscribe.
    Unsubscribe(Unsubscribe<'a>),
    /// Server to client: the answer (reason codes only in 5.0).
    UnsubAck(SubAck<'a>),
    /// Client to server: are you there.
    PingReq,
    /// Server to client: I am.
    PingResp,
    /// The last packet.
    Disconnect(Disconnect<'a>),
    /// 5.0: extended authentication.
    Auth(Disconnect<'a>),
}

/// CONNECT.
#[derive(Clone, Debug, PartialEq)]
pub struct Connect<'a> {
    /// Protocol level.
    pub version: Version,
    /// The client declares itself a bridge, before 5.0. No standard has that.
    pub is_bridge: bool,
    /// Clean Session (3.x) or Clean Start (5.0).
    pub clean_start: bool,
    /// Keep Alive in seconds; 0 turns it off.
    pub keep_alive_s: u16,
    /// Empty: the server names the client.
    pub client_id: &'a str,
    /// The will, if its flag is set.
    pub will: Option<Will<'a>>,
    /// User name.
    pub username: Option<&'a str>,
    /// Password: binary data.
    pub password: Option<&'a [u8]>,
    /// 5.0 properties; empty before.
    pub properties: Properties<'a>,
}

/// The will in a CONNECT.
#[derive(Clone, Debug, PartialEq)]
pub struct Will<'a> {
    /// Will QoS.
    pub qos: QoS,
    /// Will Retain.
    pub retain: bool,
    /// Will Topic.
    pub topic: &'a str,
    /// Will Payload.
    pub payload: &'a [u8],
    /// 5.0 will properties; empty before.
    pub properties: Properties<'a>,
}

/// CONNACK.
#[derive(Clone, Debug, PartialEq)]
pub struct ConnAck<'a> {
    /// Session Present.
    pub session_present: bool,
    /// 5.0 reason code; encoded as its 3.x return code for older clients.
    pub reason: ReasonCode,
    /// 5.0 properties.
    pub properties: Properties<'a>,
}

/// PUBLISH.
#[derive(Clone, Debug, PartialEq)]
pub struct Publish<'a> {
    /// DUP.
    pub dup: bool,
    /// QoS.
    pub qos: QoS,
    /// RETAIN.
    pub retain: bool,
    /// Topic Name; empty only in 5.0 with a topic alias.
    pub topic: &'a str,
    /// Packet Identifier; 0 at QoS 0, which has none.
    pub packet_id: u16,
    /// 5.0 properties.
    pub properties: Properties<'a>,
    /// Application message.
    pub payload: &'a [u8],
}

/// PUBACK, PUBREC, PUBREL, PUBCOMP.
#[derive(Clone, Debug, PartialEq)]
pub struct Ack<'a> {
    /// Packet Identifier.
    pub packet_id: u16,
    /// 5.0; success before.
    pub reason: ReasonCode,
    /// 5.0 properties.
    pub properties: Properties<'a>,
}

/// SUBSCRIBE.
#[derive(Clone, Debug, PartialEq)]
pub struct Subscribe<'a> {
    /// Packet Identifier.
    pub packet_id: u16,
    /// 5.0 properties.
    pub properties: Properties<'a>,
    /// The checked payload: at least one (filter, options).
    pub filters: Filters<'a>,
}

/// UNSUBSCRIBE.
#[derive(Clone, Debug, PartialEq)]
pub struct Unsubscribe<'a> {
    /// Packet Identifier.
    pub packet_id: u16,
    /// 5.0 properties.
    pub properties: Properties<'a>,
    /// The checked payload: at least one filter; the options are zero.
    pub filters: Filters<'a>,
}

/// A checked list of topic filters in wire form; iterate it.
#[derive(Clone, PartialEq)]
pub struct Filters<'a> {
    pub(super) bytes: &'a [u8],
    pub(super) with_options: bool,
}

/// Subscription options byte of one filter (3.x: only the QoS).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SubscriptionOptions {
    /// Maximum QoS.
    pub qos: QoS,
    /// No Local.
    pub no_local: bool,
    /// Retain As Published.
    pub retain_as_published: bool,
    /// Retain Handling: 0, 1, 2.
    pub retain_handling: u8,
}

/// SUBACK and UNSUBACK.
#[derive(Clone, Debug, PartialEq)]
pub struct SubAck<'a> {
    /// Packet Identifier.
    pub packet_id: u16,
    /// 5.0 properties.
    pub properties: Properties<'a>,
    /// One byte for each filter; empty in a 3.x UNSUBACK.
    pub codes: &'a [u8],
}

/// DISCONNECT and AUTH: a reason and properties.
#[derive(Clone, Debug, PartialEq)]
pub struct Disconnect<'a> {
    /// 5.0; success before.
    pub reason: ReasonCode,
    /// 5.0 properties.
    pub properties: Properties<'a>,
}
