//! Checks of properties: the packets that may have each (table 2-4), how often, and with which values.

use super::Property;
use crate::malformed::Malformed;
use crate::packet::{PacketType, Sender};
use crate::reason::ReasonCode;
use crate::topic;
use crate::wire::Reader;

/// The packet that a list of properties is in: table 2-4 has a column for each packet, and the will has its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
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

    /// The error of a property that only the other end may send in this packet.
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

/// Walks unchecked bytes once: form, place, repetition, and the further rules of each property's section.
pub(super) fn check(bytes: &[u8], place: Place) -> Result<(), Malformed> {
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
    // Authentication Data belongs to an Authentication Method.
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

/// The error of a repeated property. Every section of a property that may occur once has the sentence "It is a Protocol Error to
/// include ... more than once"; the sections differ by packet, the rule does not.
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
pub(super) fn take<'a>(reader: &mut Reader<'a>) -> Result<Property<'a>, Malformed> {
    // The identifier is a Variable Byte Integer; all that exist fit one byte.
    let identifier = reader.variable()?;
    Ok(match identifier {
        0x01 => match reader.u8()? {
            value @ (0 | 1) => Property::PayloadFormatIndicator(value),
            _ => return Err(Malformed::protocol("section 3.3.2.3.2", "Payload Format Indicator is neither 0 nor 1")),
        },
        0x02 => Property::MessageExpiryInterval(reader.u32()?),
        0x03 => Property::ContentType(reader.string()?), // [MQTT-3.3.2-19]
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
        0x26 => Property::UserProperty(reader.string()?, reader.string()?), // [MQTT-1.5.7-1]
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

/// A topic name [MQTT-3.3.2-13].
fn response_topic(topic: &str) -> Result<&str, Malformed> {
    if topic.is_empty() {
        return Err(Malformed::packet("MQTT-4.7.3-1", "Response Topic is empty"));
    }
    if !topic::valid_name(topic) {
        return Err(Malformed::packet("MQTT-3.3.2-14", "Response Topic holds a wildcard"));
    }
    Ok(topic)
}

#[cfg(test)]
mod tests {
    use super::*;

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
