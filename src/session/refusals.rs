//! Refused publishes: PUBACK and PUBREC with a Reason String, for people who read what a client library shows them.

use super::peer::Peer;
use crate::mqtt::encode;
use crate::mqtt::packet::{Ack, Packet, PacketType};
use crate::mqtt::property::{Property, PropertyBuf};
use crate::mqtt::reason::ReasonCode;

/// What a code stands for here; `None`: the code says it.
const fn words(reason: ReasonCode) -> Option<&'static str> {
    Some(match reason {
        ReasonCode::UNSPECIFIED_ERROR => "Kafka rejected the record",
        ReasonCode::IMPLEMENTATION_SPECIFIC_ERROR => {
            "the record is too large, a user property that the server needs is missing, or the stored record is damaged"
        }
        ReasonCode::NOT_AUTHORIZED => "publishing to the topic is not allowed, by this server or by Kafka",
        ReasonCode::TOPIC_NAME_INVALID => "the topic does not give a valid Kafka topic name",
        ReasonCode::QUOTA_EXCEEDED => "the disk buffer is full, or too many Kafka topics are in use",
        ReasonCode::PAYLOAD_FORMAT_INVALID => "the payload lacks a field that the server needs",
        _ => return None,
    })
}

/// How a client that is not to learn what it lacks permission for is told of a refusal: the standard's word for "does not want to
/// reveal the reason" (section 3.4.2.1). Records that Kafka rejects are answered in the same way, so that the two cannot be told apart.
pub(super) fn hide(peer: Peer, reason: ReasonCode) -> (Peer, ReasonCode) {
    match reason {
        ReasonCode::NOT_AUTHORIZED | ReasonCode::UNSPECIFIED_ERROR => {
            (Peer { problem_information: false, ..peer }, ReasonCode::UNSPECIFIED_ERROR)
        }
        other => (peer, other),
    }
}

/// Appends a refusing PUBACK or PUBREC, with words where the client takes them and has room for them [MQTT-3.4.2-2]
/// [MQTT-3.5.2-2].
#[cold]
pub(super) fn ack(peer: &Peer, kind: PacketType, packet_id: u16, reason: ReasonCode, out: &mut Vec<u8>) {
    if let Some(words) = words(reason).filter(|_| peer.wants_reasons()) {
        let mut properties = PropertyBuf::default();
        properties.push(Property::ReasonString(words));
        let ack = Ack { packet_id, reason, properties: properties.as_properties() };
        if peer.send(&if kind == PacketType::PubAck { Packet::PubAck(ack) } else { Packet::PubRec(ack) }, out) {
            return;
        }
    }
    encode::ack(peer.version, kind, packet_id, reason, out);
}
