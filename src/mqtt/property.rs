//! MQTT 5.0 properties (section 2.2.2): all 27, as checked wire bytes that are read again when asked for.
//!
//! [`Properties`] is what the decoder hands out: Copy, nothing allocated, every getter a walk over a few bytes.
//! [`PropertyBuf`] is what we build to send.

use super::malformed::Malformed;
use super::packet::{PacketType, Sender};
use super::reason::ReasonCode;
use super::topic;
use super::wire::{self, Reader};
use std::fmt;

/// One property with its value, in the order of their identifiers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Property<'a> {
    /// 0x01: 1 says that the payload is UTF-8.
    PayloadFormatIndicator(u8),
    /// 0x02: seconds.
    MessageExpiryInterval(u32),
    /// 0x03.
    ContentType(&'a str),
    /// 0x08: a topic name.
    ResponseTopic(&'a str),
    /// 0x09.
    CorrelationData(&'a [u8]),
    /// 0x0B: 1 to 268 435 455.
    SubscriptionIdentifier(u32),
    /// 0x11: seconds; 0xFFFFFFFF never ends.
    SessionExpiryInterval(u32),
    /// 0x12.
    AssignedClientIdentifier(&'a str),
    /// 0x13: seconds.
    ServerKeepAlive(u16),
    /// 0x15.
    AuthenticationMethod(&'a str),
    /// 0x16.
    AuthenticationData(&'a [u8]),
    /// 0x17.
    RequestProblemInformation(bool),
    /// 0x18: seconds.
    WillDelayInterval(u32),
    /// 0x19.
    RequestResponseInformation(bool),
    /// 0x1A.
    ResponseInformation(&'a str),
    /// 0x1C.
    ServerReference(&'a str),
    /// 0x1F.
    ReasonString(&'a str),
    /// 0x21: 1 to 65 535.
    ReceiveMaximum(u16),
    /// 0x22.
    TopicAliasMaximum(u16),
    /// 0x23: 1 to 65 535.
    TopicAlias(u16),
    /// 0x24: 0 or 1.
    MaximumQoS(u8),
    /// 0x25.
    RetainAvailable(bool),
    /// 0x26: name, value. The only one that may stand more than once everywhere, in an order that counts.
    UserProperty(&'a str, &'a str),
    /// 0x27: bytes, at least 1.
    MaximumPacketSize(u32),
    /// 0x28.
    WildcardSubscriptionAvailable(bool),
    /// 0x29.
    SubscriptionIdentifierAvailable(bool),
    /// 0x2A.
    SharedSubscriptionAvailable(bool),
}

impl Property<'_> {
    /// Its identifier on the wire (table 2-4).
    #[must_use]
    pub const fn identifier(&self) -> u8 {
        match self {
            Self::PayloadFormatIndicator(_) => 0x01,
            Self::MessageExpiryInterval(_) => 0x02,
            Self::ContentType(_) => 0x03,
            Self::ResponseTopic(_) => 0x08,
            Self::CorrelationData(_) => 0x09,
            Self::SubscriptionIdentifier(_) => 0x0B,
            Self::SessionExpiryInterval(_) => 0x11,
            Self::AssignedClientIdentifier(_) => 0x12,
            Self::ServerKeepAlive(_) => 0x13,
            Self::AuthenticationMethod(_) => 0x15,
            Self::AuthenticationData(_) => 0x16,
            Self::RequestProblemInformation(_) => 0x17,
            Self::WillDelayInterval(_) => 0x18,
            Self::RequestResponseInformation(_) => 0x19,
            Self::ResponseInformation(_) => 0x1A,
            Self::ServerReference(_) => 0x1C,
            Self::ReasonString(_) => 0x1F,
            Self::ReceiveMaximum(_) => 0x21,
            Self::TopicAliasMaximum(_) => 0x22,
            Self::TopicAlias(_) => 0x23,
            Self::MaximumQoS(_) => 0x24,
            Self::RetainAvailable(_) => 0x25,
            Self::UserProperty(..) => 0x26,
            Self::MaximumPacketSize(_) => 0x27,
            Self::WildcardSubscriptionAvailable(_) => 0x28,
            Self::SubscriptionIdentifierAvailable(_) => 0x29,
            Self::SharedSubscriptionAvailable(_) => 0x2A,
        }
    }
}

/// Which list of properties: table 2-4 has a column for each packet, and the will has its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    Packet(PacketType, Sender),
    Will,
}

/// The set of identifiers as bits of a u64.
const fn set(identifiers: &[u8]) -> u64 {
    let mut bits = 0;
    let mut at = 0;
    while at < identifiers.len() {
        bits |= 1 << identifiers[at];
        at += 1;
    }
    bits
}

impl Place {
    /// Table 2-4.
    const fn allowed(self) -> u64 {
        const CONNECT: u64 = set(&[0x11, 0x15, 0x16, 0x17, 0x19, 0x21, 0x22, 0x26, 0x27]);
        const CONNACK: u64 = set(&[
            0x11, 0x12, 0x13, 0x15, 0x16, 0x1A, 0x1C, 0x1F, 0x21, 0x22, 0x24, 0x25, 0x26, 0x27, 0x28, 0x29, 0x2A,
        ]);
        const PUBLISH: u64 = set(&[0x01, 0x02, 0x03, 0x08, 0x09, 0x0B, 0x23, 0x26]);
        const WILL: u64 = set(&[0x01, 0x02, 0x03, 0x08, 0x09, 0x18, 0x26]);
        const ACK: u64 = set(&[0x1F, 0x26]);
        const SUBSCRIBE: u64 = set(&[0x0B, 0x26]);
        const UNSUBSCRIBE: u64 = set(&[0x26]);
        const DISCONNECT: u64 = set(&[0x11, 0x1C, 0x1F, 0x26]);
        const AUTH: u64 = set(&[0x15, 0x16, 0x1F, 0x26]);
        match self {
            Self::Will => WILL,
            Self::Packet(kind, _) => match kind {
                PacketType::Connect => CONNECT,
                PacketType::ConnAck => CONNACK,
                PacketType::Publish => PUBLISH,
                PacketType::PubAck
                | PacketType::PubRec
                | PacketType::PubRel
                | PacketType::PubComp
                | PacketType::SubAck
                | PacketType::UnsubAck => ACK,
                PacketType::Subscribe => SUBSCRIBE,
                PacketType::Unsubscribe => UNSUBSCRIBE,
                PacketType::PingReq | PacketType::PingResp => 0,
                PacketType::Disconnect => DISCONNECT,
                PacketType::Auth => AUTH,
            },
        }
    }

    /// The User Property, and the Subscription Identifier in a PUBLISH, of which there is one for each subscription
    /// that matched (section 3.3.2.3.8).
    const fn repeatable(self) -> u64 {
        match self {
            Self::Packet(PacketType::Publish, _) => set(&[0x0B, 0x26]),
            _ => set(&[0x26]),
        }
    }

    /// What one end only may say although the packet has the property.
    const fn barred(self, identifier: u8) -> Option<Malformed> {
        match (self, identifier) {
            (Self::Packet(PacketType::Publish, Sender::Client), 0x0B) => {
                Some(Malformed::protocol("MQTT-3.3.4-6", "a client's PUBLISH holds a Subscription Identifier"))
            }
            (Self::Packet(PacketType::Disconnect, Sender::Server), 0x11) => {
                Some(Malformed::protocol("MQTT-3.14.2-2", "a server's DISCONNECT holds a Session Expiry Interval"))
            }
            _ => None,
        }
    }
}

/// Checked properties in wire form, without their length.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct Properties<'a> {
    bytes: &'a [u8],
}

impl<'a> Properties<'a> {
    /// None at all.
    pub const EMPTY: Properties<'static> = Properties { bytes: &[] };

    /// Reads a property length and so many bytes of properties, and checks them for `place`.
    #[inline]
    pub(super) fn read(reader: &mut Reader<'a>, place: Place) -> Result<Self, Malformed> {
        let len = reader.variable()?;
        if len == 0 {
            return Ok(Self::EMPTY);
        }
        let bytes = reader.take(len as usize)?;
        check(bytes, place)?;
        Ok(Self { bytes })
    }

    /// The properties in the order sent.
    #[must_use]
    pub fn iter(&self) -> Iter<'a> {
        Iter { reader: Reader::new(self.bytes) }
    }

    /// The wire bytes, without the length before them.
    #[must_use]
    pub const fn raw(&self) -> &'a [u8] {
        self.bytes
    }

    /// Whether there are none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// The User Properties, (name, value), in the order sent, duplicates kept [MQTT-3.3.2-18].
    pub fn user_properties(&self) -> impl Iterator<Item = (&'a str, &'a str)> + use<'a> {
        self.iter().filter_map(|property| match property {
            Property::UserProperty(name, value) => Some((name, value)),
            _ => None,
        })
    }

    /// The Subscription Identifiers, of which a PUBLISH to a client can hold several.
    pub fn subscription_identifiers(&self) -> impl Iterator<Item = u32> + use<'a> {
        self.iter().filter_map(|property| match property {
            Property::SubscriptionIdentifier(identifier) => Some(identifier),
            _ => None,
        })
    }
}

macro_rules! getters {
    ($($name:ident, $variant:ident, $type:ty, $doc:literal;)*) => {
        impl<'a> Properties<'a> {
            $(
                #[doc = $doc]
                #[must_use]
                pub fn $name(&self) -> Option<$type> {
                    self.iter().find_map(|property| match property {
                        Property::$variant(value) => Some(value),
                        _ => None,
                    })
                }
            )*
        }
    };
}

getters! {
    payload_format_indicator, PayloadFormatIndicator, u8, "Payload Format Indicator: 0 bytes, 1 UTF-8.";
    message_expiry_interval_s, MessageExpiryInterval, u32, "Message Expiry Interval, seconds. Absent: never.";
    content_type, ContentType, &'a str, "Content Type.";
    response_topic, ResponseTopic, &'a str, "Response Topic: a topic name.";
    correlation_data, CorrelationData, &'a [u8], "Correlation Data.";
    subscription_identifier, SubscriptionIdentifier, u32, "The first Subscription Identifier.";
    session_expiry_interval_s, SessionExpiryInterval, u32, "Session Expiry Interval, seconds; `u32::MAX` never ends. Absent: 0.";
    assigned_client_identifier, AssignedClientIdentifier, &'a str, "Assigned Client Identifier.";
    server_keep_alive_s, ServerKeepAlive, u16, "Server Keep Alive, seconds.";
    authentication_method, AuthenticationMethod, &'a str, "Authentication Method.";
    authentication_data, AuthenticationData, &'a [u8], "Authentication Data.";
    request_problem_information, RequestProblemInformation, bool, "Request Problem Information. Absent: true.";
    will_delay_interval_s, WillDelayInterval, u32, "Will Delay Interval, seconds. Absent: 0.";
    request_response_information, RequestResponseInformation, bool, "Request Response Information. Absent: false.";
    response_information, ResponseInformation, &'a str, "Response Information.";
    server_reference, ServerReference, &'a str, "Server Reference.";
    reason_string, ReasonString, &'a str, "Reason String.";
    receive_maximum, ReceiveMaximum, u16, "Receive Maximum, never 0. Absent: 65 535.";
    topic_alias_maximum, TopicAliasMaximum, u16, "Topic Alias Maximum. Absent: 0.";
    topic_alias, TopicAlias, u16, "Topic Alias, never 0.";
    maximum_qos, MaximumQoS, u8, "Maximum QoS: 0 or 1. Absent: 2.";
    retain_available, RetainAvailable, bool, "Retain Available. Absent: true.";
    maximum_packet_size, MaximumPacketSize, u32, "Maximum Packet Size in bytes, never 0. Absent: no limit.";
    wildcard_subscription_available, WildcardSubscriptionAvailable, bool, "Wildcard Subscription Available. Absent: true.";
    subscription_identifier_available, SubscriptionIdentifierAvailable, bool, "Subscription Identifier Available. Absent: true.";
    shared_subscription_available, SharedSubscriptionAvailable, bool, "Shared Subscription Available. Absent: true.";
}

impl<'a> IntoIterator for Properties<'a> {
    type Item = Property<'a>;
    type IntoIter = Iter<'a>;

    fn into_iter(self) -> Iter<'a> {
        self.iter()
    }
}

impl fmt::Debug for Properties<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

impl fmt::Debug for PropertyBuf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_properties().fmt(f)
    }
}

/// Walks [`Properties`].
#[derive(Clone, Debug)]
pub struct Iter<'a> {
    reader: Reader<'a>,
}

impl<'a> Iterator for Iter<'a> {
    type Item = Property<'a>;

    #[inline]
    fn next(&mut self) -> Option<Property<'a>> {
        // The bytes have been checked, so the only way to fail is to be at the end.
        if self.reader.is_empty() { None } else { take(&mut self.reader).ok() }
    }
}

/// Walks unchecked bytes once: form, place, repetition, and what the sections of the single properties add.
fn check(bytes: &[u8], place: Place) -> Result<(), Malformed> {
    let allowed = place.allowed();
    let mut once = 0_u64;
    let mut reader = Reader::new(bytes);
    while !reader.is_empty() {
        // Looked at before the value is read: an identifier in the wrong place is named so even where its value is bad.
        let identifier = reader.rest()[0];
        if identifier < 64 && known(identifier) {
            let this = 1_u64 << identifier;
            if allowed & this == 0 {
                return Err(Malformed::packet("section 2.2.2.2", "a property that this packet cannot have"));
            }
            if let Some(barred) = place.barred(identifier) {
                return Err(barred);
            }
            if once & this != 0 {
                return Err(repeated(identifier));
            }
            once |= this & !place.repeatable();
        }
        take(&mut reader)?;
    }
    // Without a method there is nothing that the data could belong to.
    if once & set(&[0x15, 0x16]) == set(&[0x16]) {
        return Err(Malformed::protocol("section 3.1.2.11.10", "Authentication Data without an Authentication Method"));
    }
    Ok(())
}

const fn known(identifier: u8) -> bool {
    const ALL: u64 = set(&[
        0x01, 0x02, 0x03, 0x08, 0x09, 0x0B, 0x11, 0x12, 0x13, 0x15, 0x16, 0x17, 0x18, 0x19, 0x1A, 0x1C, 0x1F, 0x21,
        0x22, 0x23, 0x24, 0x25, 0x26, 0x27, 0x28, 0x29, 0x2A,
    ]);
    identifier < 64 && ALL & (1 << identifier) != 0
}

/// Every section of a property that may stand once has the sentence "It is a Protocol Error to include ... more than
/// once"; the sections differ by packet, the rule does not.
const fn repeated(identifier: u8) -> Malformed {
    let clause = match identifier {
        0x01 => "section 3.3.2.3.2",
        0x02 => "section 3.3.2.3.3",
        0x03 => "section 3.3.2.3.9",
        0x08 => "section 3.3.2.3.5",
        0x09 => "section 3.3.2.3.6",
        0x0B => "section 3.8.2.1.2",
        0x11 => "section 3.1.2.11.2",
        0x12 => "section 3.2.2.3.7",
        0x13 => "section 3.2.2.3.14",
        0x15 => "section 3.1.2.11.9",
        0x16 => "section 3.1.2.11.10",
        0x17 => "section 3.1.2.11.7",
        0x18 => "section 3.1.3.2.2",
        0x19 => "section 3.1.2.11.6",
        0x1A => "section 3.2.2.3.15",
        0x1C => "section 3.2.2.3.16",
        0x1F => "section 3.2.2.3.9",
        0x21 => "section 3.1.2.11.3",
        0x22 => "section 3.1.2.11.5",
        0x23 => "section 3.3.2.3.4",
        0x24 => "section 3.2.2.3.4",
        0x25 => "section 3.2.2.3.5",
        0x27 => "section 3.1.2.11.4",
        0x28 => "section 3.2.2.3.11",
        0x29 => "section 3.2.2.3.12",
        0x2A => "section 3.2.2.3.13",
        _ => "section 2.2.2.2",
    };
    Malformed::protocol(clause, "a property stands more than once")
}

/// Takes one property off the front and checks its value by itself.
#[inline]
fn take<'a>(reader: &mut Reader<'a>) -> Result<Property<'a>, Malformed> {
    // The identifier is a Variable Byte Integer; all that exist fit one byte.
    let identifier = reader.variable()?;
    Ok(match identifier {
        0x01 => match reader.u8()? {
            value @ (0 | 1) => Property::PayloadFormatIndicator(value),
            _ => return Err(Malformed::protocol("section 3.3.2.3.2", "Payload Format Indicator is neither 0 nor 1")),
        },
        0x02 => Property::MessageExpiryInterval(reader.u32()?),
        0x03 => Property::ContentType(reader.string()?),
        0x08 => Property::ResponseTopic(response_topic(reader.string()?)?),
        0x09 => Property::CorrelationData(reader.binary()?),
        0x0B => match reader.variable()? {
            0 => return Err(Malformed::protocol("section 3.8.2.1.2", "Subscription Identifier is 0")),
            value => Property::SubscriptionIdentifier(value),
        },
        0x11 => Property::SessionExpiryInterval(reader.u32()?),
        0x12 => Property::AssignedClientIdentifier(reader.string()?),
        0x13 => Property::ServerKeepAlive(reader.u16()?),
        0x15 => Property::AuthenticationMethod(reader.string()?),
        0x16 => Property::AuthenticationData(reader.binary()?),
        0x17 => Property::RequestProblemInformation(flag(reader, "section 3.1.2.11.7")?),
        0x18 => Property::WillDelayInterval(reader.u32()?),
        0x19 => Property::RequestResponseInformation(flag(reader, "section 3.1.2.11.6")?),
        0x1A => Property::ResponseInformation(reader.string()?),
        0x1C => Property::ServerReference(reader.string()?),
        0x1F => Property::ReasonString(reader.string()?),
        0x21 => match reader.u16()? {
            0 => return Err(Malformed::protocol("section 3.1.2.11.3", "Receive Maximum is 0")),
            value => Property::ReceiveMaximum(value),
        },
        0x22 => Property::TopicAliasMaximum(reader.u16()?),
        0x23 => match reader.u16()? {
            0 => return Err(Malformed::with(ReasonCode::TOPIC_ALIAS_INVALID, "MQTT-3.3.2-8", "Topic Alias is 0")),
            value => Property::TopicAlias(value),
        },
        0x24 => match reader.u8()? {
            value @ (0 | 1) => Property::MaximumQoS(value),
            _ => return Err(Malformed::protocol("section 3.2.2.3.4", "Maximum QoS is neither 0 nor 1")),
        },
        0x25 => Property::RetainAvailable(flag(reader, "section 3.2.2.3.5")?),
        0x26 => Property::UserProperty(reader.string()?, reader.string()?),
        0x27 => match reader.u32()? {
            0 => return Err(Malformed::protocol("section 3.1.2.11.4", "Maximum Packet Size is 0")),
            value => Property::MaximumPacketSize(value),
        },
        0x28 => Property::WildcardSubscriptionAvailable(flag(reader, "section 3.2.2.3.11")?),
        0x29 => Property::SubscriptionIdentifierAvailable(flag(reader, "section 3.2.2.3.12")?),
        0x2A => Property::SharedSubscriptionAvailable(flag(reader, "section 3.2.2.3.13")?),
        _ => return Err(Malformed::packet("section 2.2.2.2", "a property identifier that does not exist")),
    })
}

/// A byte that may be 0 or 1.
fn flag(reader: &mut Reader<'_>, clause: &'static str) -> Result<bool, Malformed> {
    match reader.u8()? {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(Malformed::protocol(clause, "a flag is neither 0 nor 1")),
    }
}

fn response_topic(topic: &str) -> Result<&str, Malformed> {
    if topic.is_empty() {
        return Err(Malformed::packet("MQTT-4.7.3-1", "Response Topic is empty"));
    }
    if !topic::valid_name(topic) {
        return Err(Malformed::packet("MQTT-3.3.2-14", "Response Topic holds a wildcard"));
    }
    Ok(topic)
}

/// Appends one property in wire form. `false`, and nothing appended, when a string or value in it is longer than 65 535
/// bytes: MQTT cannot say it.
pub fn encode(property: Property<'_>, out: &mut Vec<u8>) -> bool {
    let start = out.len();
    out.push(property.identifier());
    let said = match property {
        Property::PayloadFormatIndicator(value) | Property::MaximumQoS(value) => put(&[value], out),
        Property::RequestProblemInformation(value)
        | Property::RequestResponseInformation(value)
        | Property::RetainAvailable(value)
        | Property::WildcardSubscriptionAvailable(value)
        | Property::SubscriptionIdentifierAvailable(value)
        | Property::SharedSubscriptionAvailable(value) => put(&[u8::from(value)], out),
        Property::ServerKeepAlive(value)
        | Property::ReceiveMaximum(value)
        | Property::TopicAliasMaximum(value)
        | Property::TopicAlias(value) => put(&value.to_be_bytes(), out),
        Property::MessageExpiryInterval(value)
        | Property::SessionExpiryInterval(value)
        | Property::WillDelayInterval(value)
        | Property::MaximumPacketSize(value) => put(&value.to_be_bytes(), out),
        Property::SubscriptionIdentifier(value) => {
            let fits = value <= wire::VARIABLE_MAX;
            if fits {
                wire::put_variable(value, out);
            }
            fits
        }
        Property::ContentType(text)
        | Property::ResponseTopic(text)
        | Property::AssignedClientIdentifier(text)
        | Property::AuthenticationMethod(text)
        | Property::ResponseInformation(text)
        | Property::ServerReference(text)
        | Property::ReasonString(text) => wire::put_binary(text.as_bytes(), out),
        Property::CorrelationData(data) | Property::AuthenticationData(data) => wire::put_binary(data, out),
        Property::UserProperty(name, value) => {
            wire::put_binary(name.as_bytes(), out) && wire::put_binary(value.as_bytes(), out)
        }
    };
    if !said {
        out.truncate(start);
    }
    said
}

fn put(bytes: &[u8], out: &mut Vec<u8>) -> bool {
    out.extend_from_slice(bytes);
    true
}

/// Properties being built, owned. Which ones a packet may have is the caller's to know (table 2-4).
#[derive(Clone, Default, PartialEq, Eq)]
pub struct PropertyBuf {
    bytes: Vec<u8>,
}

impl PropertyBuf {
    /// Empty; allocates with the first property.
    #[must_use]
    pub const fn new() -> Self {
        Self { bytes: Vec::new() }
    }

    /// Appends one. `false`, and left out, when MQTT cannot say it: see [`encode`].
    pub fn push(&mut self, property: Property<'_>) -> bool {
        encode(property, &mut self.bytes)
    }

    /// Empties it, keeps its memory.
    pub fn clear(&mut self) {
        self.bytes.clear();
    }

    /// What has been pushed.
    #[must_use]
    pub fn as_properties(&self) -> Properties<'_> {
        Properties { bytes: &self.bytes }
    }
}

impl<'a> Extend<Property<'a>> for PropertyBuf {
    fn extend<T: IntoIterator<Item = Property<'a>>>(&mut self, properties: T) {
        for property in properties {
            self.push(property);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_getter_finds_its_own() {
        let all = [
            Property::PayloadFormatIndicator(1),
            Property::MessageExpiryInterval(2),
            Property::ContentType("3"),
            Property::ResponseTopic("4"),
            Property::CorrelationData(b"5"),
            Property::SubscriptionIdentifier(6),
            Property::SessionExpiryInterval(7),
            Property::AssignedClientIdentifier("8"),
            Property::ServerKeepAlive(9),
            Property::AuthenticationMethod("10"),
            Property::AuthenticationData(b"11"),
            Property::RequestProblemInformation(false),
            Property::WillDelayInterval(13),
            Property::RequestResponseInformation(true),
            Property::ResponseInformation("15"),
            Property::ServerReference("16"),
            Property::ReasonString("17"),
            Property::ReceiveMaximum(18),
            Property::TopicAliasMaximum(19),
            Property::TopicAlias(20),
            Property::MaximumQoS(0),
            Property::RetainAvailable(false),
            Property::UserProperty("k", "v1"),
            Property::UserProperty("k", "v2"),
            Property::MaximumPacketSize(24),
            Property::WildcardSubscriptionAvailable(false),
            Property::SubscriptionIdentifierAvailable(true),
            Property::SharedSubscriptionAvailable(false),
            Property::SubscriptionIdentifier(28),
        ];
        let mut buf = PropertyBuf::new();
        buf.extend(all);
        let p = buf.as_properties();
        assert_eq!(p.iter().collect::<Vec<_>>(), all);
        assert_eq!(p.payload_format_indicator(), Some(1));
        assert_eq!(p.message_expiry_interval_s(), Some(2));
        assert_eq!(p.content_type(), Some("3"));
        assert_eq!(p.response_topic(), Some("4"));
        assert_eq!(p.correlation_data(), Some(&b"5"[..]));
        assert_eq!(p.subscription_identifier(), Some(6));
        assert_eq!(p.subscription_identifiers().collect::<Vec<_>>(), [6, 28]);
        assert_eq!(p.session_expiry_interval_s(), Some(7));
        assert_eq!(p.assigned_client_identifier(), Some("8"));
        assert_eq!(p.server_keep_alive_s(), Some(9));
        assert_eq!(p.authentication_method(), Some("10"));
        assert_eq!(p.authentication_data(), Some(&b"11"[..]));
        assert_eq!(p.request_problem_information(), Some(false));
        assert_eq!(p.will_delay_interval_s(), Some(13));
        assert_eq!(p.request_response_information(), Some(true));
        assert_eq!(p.response_information(), Some("15"));
        assert_eq!(p.server_reference(), Some("16"));
        assert_eq!(p.reason_string(), Some("17"));
        assert_eq!(p.receive_maximum(), Some(18));
        assert_eq!(p.topic_alias_maximum(), Some(19));
        assert_eq!(p.topic_alias(), Some(20));
        assert_eq!(p.maximum_qos(), Some(0));
        assert_eq!(p.retain_available(), Some(false));
        assert_eq!(p.user_properties().collect::<Vec<_>>(), [("k", "v1"), ("k", "v2")], "in order, doubles kept");
        assert_eq!(p.maximum_packet_size(), Some(24));
        assert_eq!(p.wildcard_subscription_available(), Some(false));
        assert_eq!(p.subscription_identifier_available(), Some(true));
        assert_eq!(p.shared_subscription_available(), Some(false));
        assert_eq!(Properties::EMPTY.receive_maximum(), None);
    }

    #[test]
    fn each_of_table_2_4_is_taken_where_it_belongs_and_nowhere_else() {
        // Identifier: the packets that have it, W for the will; from table 2-4.
        const TABLE: [(u8, &str); 27] = [
            (0x01, "PUBLISH W"),
            (0x02, "PUBLISH W"),
            (0x03, "PUBLISH W"),
            (0x08, "PUBLISH W"),
            (0x09, "PUBLISH W"),
            (0x0B, "PUBLISH SUBSCRIBE"),
            (0x11, "CONNECT CONNACK DISCONNECT"),
            (0x12, "CONNACK"),
            (0x13, "CONNACK"),
            (0x15, "CONNECT CONNACK AUTH"),
            (0x16, "CONNECT CONNACK AUTH"),
            (0x17, "CONNECT"),
            (0x18, "W"),
            (0x19, "CONNECT"),
            (0x1A, "CONNACK"),
            (0x1C, "CONNACK DISCONNECT"),
            (0x1F, "CONNACK PUBACK PUBREC PUBREL PUBCOMP SUBACK UNSUBACK DISCONNECT AUTH"),
            (0x21, "CONNECT CONNACK"),
            (0x22, "CONNECT CONNACK"),
            (0x23, "PUBLISH"),
            (0x24, "CONNACK"),
            (0x25, "CONNACK"),
            (
                0x26,
                "CONNECT CONNACK PUBLISH W PUBACK PUBREC PUBREL PUBCOMP SUBSCRIBE SUBACK UNSUBSCRIBE UNSUBACK \
                 DISCONNECT AUTH",
            ),
            (0x27, "CONNECT CONNACK"),
            (0x28, "CONNACK"),
            (0x29, "CONNACK"),
            (0x2A, "CONNACK"),
        ];
        for first in 1..=15_u8 {
            let kind = PacketType::of(first << 4).expect("a type");
            let name = format!("{kind:?}").to_uppercase();
            let allowed = Place::Packet(kind, Sender::Client).allowed();
            for identifier in 0..64_u8 {
                let listed =
                    TABLE.iter().any(|(id, packets)| *id == identifier && packets.split(' ').any(|p| p == name));
                assert_eq!(allowed & 1 << identifier != 0, listed, "{identifier:#04x} in {name}");
            }
        }
        for identifier in 0..64_u8 {
            let listed = TABLE.iter().any(|(id, packets)| *id == identifier && packets.split(' ').any(|p| p == "W"));
            assert_eq!(Place::Will.allowed() & 1 << identifier != 0, listed, "{identifier:#04x} in the will");
            assert_eq!(known(identifier), TABLE.iter().any(|(id, _)| *id == identifier));
        }
    }
}
