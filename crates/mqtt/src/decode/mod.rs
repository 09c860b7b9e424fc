//! Frames to packets. Each function reads one body to its last byte and returns a borrowed view or the first sentence of the
//! standard that was broken. Nothing is allocated.

mod again;
mod connect;
mod subscribe;

use super::frame::{self, Frame};
use super::malformed::Malformed;
use super::packet::{Ack, ConnAck, Disconnect, Packet, PacketType, Publish, QoS, Sender, Version};
use super::property::{Place, Properties};
use super::reason::ReasonCode;
use super::topic;
use super::wire::{HOLDS_ZERO, Reader};

pub use again::{Again, Next};
pub use connect::{answer_version, connect};

/// Decodes any packet but the first, on a connection of `version` from the end that `sender` names.
///
/// A CONNECT is decoded by its own version; the session rejects a second one as a protocol error [MQTT-3.1.0-2].
///
/// # Errors
/// The first sentence of the standard that the packet breaks.
pub fn decode<'a>(version: Version, sender: Sender, frame: Frame<'a>) -> Result<Packet<'a>, Malformed> {
    let kind = frame::check_first(frame.first, Some(version))?;
    frame::check_sender(kind, Some(version), sender)?;
    if version == Version::V5 {
        frame.check_shortest()?;
    }
    let mut body = Reader::new(frame.body);
    let packet = match kind {
        PacketType::Connect => return connect(frame).map(Packet::Connect),
        PacketType::Publish => return publish_from(version, sender, frame.first, frame.body).map(Packet::Publish),
        PacketType::ConnAck => Packet::ConnAck(connack(version, &mut body)?),
        PacketType::PubAck => Packet::PubAck(ack(version, kind, sender, &mut body)?),
        PacketType::PubRec => Packet::PubRec(ack(version, kind, sender, &mut body)?),
        PacketType::PubRel => Packet::PubRel(ack(version, kind, sender, &mut body)?),
        PacketType::PubComp => Packet::PubComp(ack(version, kind, sender, &mut body)?),
        PacketType::Subscribe => Packet::Subscribe(subscribe::subscribe(version, &mut body)?),
        PacketType::SubAck => Packet::SubAck(subscribe::suback(version, &mut body)?),
        PacketType::Unsubscribe => Packet::Unsubscribe(subscribe::unsubscribe(version, &mut body)?),
        PacketType::UnsubAck => Packet::UnsubAck(subscribe::unsuback(version, &mut body)?),
        PacketType::PingReq => Packet::PingReq,
        PacketType::PingResp => Packet::PingResp,
        PacketType::Disconnect => Packet::Disconnect(disconnect(version, sender, &mut body)?),
        PacketType::Auth => Packet::Auth(auth(sender, &mut body)?),
    };
    finish(&body)?;
    Ok(packet)
}

/// Decodes a client's PUBLISH: the hot path of a server. `first` is the packet's first byte, `body` the bytes after its fixed
/// header, which [`frame::next_for`] has checked.
///
/// # Errors
/// Like [`decode`].
#[inline]
pub fn publish<'a>(version: Version, first: u8, body: &'a [u8]) -> Result<Publish<'a>, Malformed> {
    publish_from(version, Sender::Client, first, body)
}

/// Decodes a PUBLISH from either end (section 3.3).
///
/// # Errors
/// Like [`decode`].
#[inline]
pub fn publish_from<'a>(version: Version, sender: Sender, first: u8, body: &'a [u8]) -> Result<Publish<'a>, Malformed> {
    let dup = first & 0b1000 != 0;
    let retain = first & 0b0001 != 0;
    let qos = QoS::from_bits(first >> 1 & 0b11).ok_or(Malformed::packet("MQTT-3.3.1-4", "QoS is 3"))?;
    if dup && qos == QoS::AtMostOnce {
        return Err(Malformed::packet("MQTT-3.3.1-2", "DUP is set at QoS 0"));
    }
    let mut reader = Reader::new(body);
    // [MQTT-3.3.2-1]
    let topic = reader.text()?;
    if topic.is_empty() {
        if version < Version::V5 {
            return Err(Malformed::packet("MQTT-4.7.3-1", "the Topic Name is empty"));
        }
    } else if !topic::valid_name(topic) {
        let wildcard = Malformed::packet("MQTT-3.3.2-2", "the Topic Name holds a wildcard");
        return Err(if topic.contains('\0') { HOLDS_ZERO } else { wildcard });
    }
    // [MQTT-2.2.1-2]
    let packet_id = if qos == QoS::AtMostOnce { 0 } else { packet_id(&mut reader)? };
    let properties = properties(version, &mut reader, Place::Packet(PacketType::Publish, sender))?;
    if topic.is_empty() && properties.topic_alias().is_none() {
        return Err(Malformed::protocol("section 3.3.2.1", "the Topic Name is empty and there is no Topic Alias"));
    }
    Ok(Publish { dup, qos, retain, topic, packet_id, properties, payload: reader.rest() })
}

/// Decodes CONNACK (section 3.2). A return code of 3.x becomes the reason code of the same meaning.
fn connack<'a>(version: Version, body: &mut Reader<'a>) -> Result<ConnAck<'a>, Malformed> {
    let flags = body.u8()?;
    let code = body.u8()?;
    if flags & !1 != 0 || (version == Version::V31 && flags != 0) {
        return Err(Malformed::packet("MQTT-3.2.2-1", "reserved acknowledge flags are set"));
    }
    let reason = if version == Version::V5 {
        reason(code, PacketType::ConnAck, Sender::Server, "MQTT-3.2.2-8")?
    } else {
        ReasonCode::from_connack_return_code_v3(code)
            .ok_or(Malformed::packet("section 3.2.2.3", "a reserved return code"))?
    };
    let session_present = flags == 1;
    if session_present && reason != ReasonCode::SUCCESS {
        return Err(Malformed::protocol("MQTT-3.2.2-6", "Session Present is set in a refusal"));
    }
    let properties = properties(version, body, Place::Packet(PacketType::ConnAck, Sender::Server))?;
    Ok(ConnAck { session_present, reason, properties })
}

/// PUBACK, PUBREC, PUBREL, PUBCOMP (sections 3.4 to 3.7): one form.
fn ack<'a>(version: Version, kind: PacketType, sender: Sender, body: &mut Reader<'a>) -> Result<Ack<'a>, Malformed> {
    let packet_id = packet_id(body)?;
    // 5.0 omits the reason of success and the property length of an empty list; 3.x has neither.
    if version < Version::V5 || body.is_empty() {
        return Ok(Ack { packet_id, reason: ReasonCode::SUCCESS, properties: Properties::EMPTY });
    }
    let clause = match kind {
        PacketType::PubAck => "MQTT-3.4.2-1",
        PacketType::PubRec => "MQTT-3.5.2-1",
        PacketType::PubRel => "MQTT-3.6.2-1",
        _ => "MQTT-3.7.2-1",
    };
    let reason = reason(body.u8()?, kind, sender, clause)?;
    let properties = properties_if_any(body, Place::Packet(kind, sender))?;
    Ok(Ack { packet_id, reason, properties })
}

/// Section 3.14.
fn disconnect<'a>(version: Version, sender: Sender, body: &mut Reader<'a>) -> Result<Disconnect<'a>, Malformed> {
    if version < Version::V5 || body.is_empty() {
        return Ok(Disconnect { reason: ReasonCode::SUCCESS, properties: Properties::EMPTY });
    }
    let reason = reason(body.u8()?, PacketType::Disconnect, sender, "MQTT-3.14.2-1")?;
    let properties = properties_if_any(body, Place::Packet(PacketType::Disconnect, sender))?;
    Ok(Disconnect { reason, properties })
}

/// Section 3.15.
fn auth<'a>(sender: Sender, body: &mut Reader<'a>) -> Result<Disconnect<'a>, Malformed> {
    const CLAUSE: &str = "MQTT-3.15.2-1";
    if body.is_empty() {
        // The short form of success, which only a server may send.
        let reason = reason(ReasonCode::SUCCESS.0, PacketType::Auth, sender, CLAUSE)?;
        return Ok(Disconnect { reason, properties: Properties::EMPTY });
    }
    let reason = reason(body.u8()?, PacketType::Auth, sender, CLAUSE)?;
    let properties = Properties::read(body, Place::Packet(PacketType::Auth, sender))?;
    if properties.authentication_method().is_none() {
        return Err(Malformed::protocol("section 3.15.2.2.2", "AUTH without an Authentication Method"));
    }
    Ok(Disconnect { reason, properties })
}

/// A Packet Identifier, which is never 0 (section 2.2.1).
#[inline]
fn packet_id(body: &mut Reader<'_>) -> Result<u16, Malformed> {
    match body.u16()? {
        0 => Err(Malformed::protocol("MQTT-2.2.1-3", "the Packet Identifier is 0")),
        packet_id => Ok(packet_id),
    }
}

/// Properties where 5.0 has them, none before.
#[inline]
fn properties<'a>(version: Version, body: &mut Reader<'a>, place: Place) -> Result<Properties<'a>, Malformed> {
    if version == Version::V5 { Properties::read(body, place) } else { Ok(Properties::EMPTY) }
}

/// Properties at the end of a packet that may leave out their length of 0.
fn properties_if_any<'a>(body: &mut Reader<'a>, place: Place) -> Result<Properties<'a>, Malformed> {
    if body.is_empty() { Ok(Properties::EMPTY) } else { Properties::read(body, place) }
}

/// A reason code that this packet may carry from this end.
fn reason(code: u8, kind: PacketType, sender: Sender, clause: &'static str) -> Result<ReasonCode, Malformed> {
    let reason = ReasonCode(code);
    if reason.allowed_in(kind, sender) {
        Ok(reason)
    } else {
        Err(Malformed::protocol(clause, "a reason code that this packet cannot have"))
    }
}

/// Checks that no bytes follow the last field of a packet.
fn finish(body: &Reader<'_>) -> Result<(), Malformed> {
    if body.is_empty() { Ok(()) } else { Err(Malformed::packet("section 2.1.4", "bytes after the end of the packet")) }
}
