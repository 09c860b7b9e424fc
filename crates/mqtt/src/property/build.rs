//! Properties of outgoing packets.

use super::{Properties, Property};
use crate::wire;
use std::fmt;

/// Appends a property in wire form. `false`, and nothing appended, if a string or value in it is longer than 65 535 bytes, which
/// MQTT cannot express.
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

/// Owned properties under construction. The caller has to know which ones a packet may have (table 2-4).
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

    /// Appends a property. `false`, and left out, if MQTT cannot express it: see [`encode`].
    pub fn push(&mut self, property: Property<'_>) -> bool {
        encode(property, &mut self.bytes)
    }

    /// Empties the list, and keeps its memory.
    pub fn clear(&mut self) {
        self.bytes.clear();
    }

    /// The properties pushed so far.
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

impl fmt::Debug for PropertyBuf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_properties().fmt(f)
    }
}
