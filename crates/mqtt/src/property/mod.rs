//! MQTT 5.0 properties (section 2.2.2): all 27, as checked wire bytes that are read again when needed.
//!
//! [`Properties`] is the decoder's view: Copy, nothing allocated, every getter a walk over a few bytes. [`PropertyBuf`] is for
//! properties that we send.

mod build;
mod check;

use super::malformed::Malformed;
use super::wire::Reader;
use std::fmt;

pub use build::{PropertyBuf, encode};
pub(super) use check::Place;

/// The user property in which bridges list the instances that a message has come through, one each, the latest last.
pub const VIA: &str = "forebay-via";

/// A property with its value, in the order of their identifiers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Property<'a> {
    /// 0x01: 1 means that the payload is UTF-8.
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
    /// 0x26: name, value. The only property that may occur more than once in every packet, in an order that counts.
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
    /// The property's identifier on the wire (table 2-4).
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

/// Checked properties in wire form, without their length.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct Properties<'a> {
    bytes: &'a [u8],
}

impl<'a> Properties<'a> {
    /// The empty list.
    pub const EMPTY: Properties<'static> = Properties { bytes: &[] };

    /// Reads a property length and that many bytes of properties, and checks them for `place`.
    #[inline]
    pub(super) fn read(reader: &mut Reader<'a>, place: Place) -> Result<Self, Malformed> {
        let len = reader.variable()?;
        if len == 0 {
            return Ok(Self::EMPTY);
        }
        let bytes = reader.take(len as usize)?;
        check::check(bytes, place)?;
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
    pub fn user_properties(&self) -> impl Iterator<Item = (&'a str, &'a str)> + Clone + use<'a> {
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

/// Walks [`Properties`].
#[derive(Clone, Debug)]
pub struct Iter<'a> {
    reader: Reader<'a>,
}

impl<'a> Iterator for Iter<'a> {
    type Item = Property<'a>;

    #[inline]
    fn next(&mut self) -> Option<Property<'a>> {
        // The bytes have been checked, so reading fails only at the end.
        if self.reader.is_empty() { None } else { check::take(&mut self.reader).ok() }
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
}
