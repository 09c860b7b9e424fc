//! Packets to bytes, appended to one buffer. Fields that a version does not have (properties, reasons) are left out for it; the
//! short forms of 5.0 are used wherever they mean the same.

use super::packet::{Ack, BRIDGE, ConnAck, Connect, Disconnect, Packet, PacketType, Publish, SubAck, Version};
use super::packet::{Filters, Will};
use super::property::Properties;
use super::reason::ReasonCode;
use super::wire::{self, STRING_MAX, VARIABLE_MAX, variable_len};
use std::fmt;

/// The reason why a packet cannot be sent. Nothing has been appended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EncodeError {
    /// A string is longer than 65 535 bytes, or the packet longer than 268 435 455.
    TooLarge,
    /// The version has no such packet, or no code for its contents: AUTH before 5.0, a refusal without a return code, a SUBACK
    /// failure in 3.1. The connection is closed instead.
    NotInThisVersion,
}

impl fmt::Display for EncodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TooLarge => "longer than MQTT can say",
            Self::NotInThisVersion => "the client's MQTT version cannot say this",
        })
    }
}

impl std::error::Error for EncodeError {}

type Encoded = Result<(), EncodeError>;

/// Appends a packet.
///
/// # Errors
/// See [`EncodeError`]; `out` is unchanged then.
pub fn packet(version: Version, packet: &Packet<'_>, out: &mut Vec<u8>) -> Encoded {
    match packet {
        // A CONNECT names its own version, and is encoded for that.
        Packet::Connect(packet) => connect(packet, out),
        Packet::ConnAck(packet) => connack(version, packet, out),
        Packet::Publish(packet) => publish(version, packet, out),
        Packet::PubAck(packet) => ack_full(version, PacketType::PubAck, packet, out),
        Packet::PubRec(packet) => ack_full(version, PacketType::PubRec, packet, out),
        Packet::PubRel(packet) => ack_full(version, PacketType::PubRel, packet, out),
        Packet::PubComp(packet) => ack_full(version, PacketType::PubComp, packet, out),
        Packet::Subscribe(packet) => subscribe(version, packet.packet_id, packet.properties, &packet.filters, out),
        Packet::SubAck(packet) => suback(version, packet, out),
        Packet::Unsubscribe(packet) => unsubscribe(version, packet.packet_id, packet.properties, &packet.filters, out),
        Packet::UnsubAck(packet) => unsuback(version, packet, out),
        Packet::PingReq => {
            pingreq(out);
            Ok(())
        }
        Packet::PingResp => {
            pingresp(out);
            Ok(())
        }
        Packet::Disconnect(packet) => disconnect(version, packet, out),
        Packet::Auth(packet) => auth(version, packet, out),
    }
}

/// Appends CONNECT, in the version that it names.
///
/// # Errors
/// [`EncodeError::TooLarge`].
pub fn connect(packet: &Connect<'_>, out: &mut Vec<u8>) -> Encoded {
    let version = packet.version;
    let bridge = if packet.is_bridge { BRIDGE } else { 0 };
    let (name, level) = match version {
        Version::V31 => ("MQIsdp", 3 | bridge),
        Version::V311 => ("MQTT", 4 | bridge),
        Version::V5 => ("MQTT", 5),
    };
    let mut body = 2 + name.len() + 1 + 1 + 2 + properties_len(version, packet.properties);
    body += string_len(packet.client_id.as_bytes())?;
    let mut flags = u8::from(packet.clean_start) << 1;
    if let Some(will) = &packet.will {
        flags |= 1 << 2 | (will.qos as u8) << 3 | u8::from(will.retain) << 5;
        body += properties_len(version, will.properties);
        body += string_len(will.topic.as_bytes())? + string_len(will.payload)?;
    }
    if let Some(password) = packet.password {
        flags |= 1 << 6;
        body += string_len(password)?;
    }
    if let Some(username) = packet.username {
        flags |= 1 << 7;
        body += string_len(username.as_bytes())?;
    }
    header(PacketType::Connect, 0, body, out)?;
    put_string(name.as_bytes(), out);
    out.extend_from_slice(&[level, flags]);
    out.extend_from_slice(&packet.keep_alive_s.to_be_bytes());
    put_properties(version, packet.properties, out);
    put_string(packet.client_id.as_bytes(), out);
    if let Some(Will { topic, payload, properties, .. }) = &packet.will {
        put_properties(version, *properties, out);
        put_string(topic.as_bytes(), out);
        put_string(payload, out);
    }
    if let Some(username) = packet.username {
        put_string(username.as_bytes(), out);
    }
    if let Some(password) = packet.password {
        put_string(password, out);
    }
    Ok(())
}

/// Appends CONNACK. A 3.x client gets the closest return code.
///
/// # Errors
/// [`EncodeError::NotInThisVersion`] if no return code applies: close without a CONNACK [3.1.1 MQTT-3.2.2-6].
pub fn connack(version: Version, packet: &ConnAck<'_>, out: &mut Vec<u8>) -> Encoded {
    // 3.1 has no Session Present.
    let flags = u8::from(packet.session_present && version != Version::V31);
    if version < Version::V5 {
        let code = packet.reason.connack_return_code_v3().ok_or(EncodeError::NotInThisVersion)?;
        out.extend_from_slice(&[first(PacketType::ConnAck), 2, flags, code]);
        return Ok(());
    }
    header(PacketType::ConnAck, 0, 2 + properties_len(version, packet.properties), out)?;
    out.extend_from_slice(&[flags, packet.reason.0]);
    put_properties(version, packet.properties, out);
    Ok(())
}

/// Appends PUBLISH, with its topic first [MQTT-3.3.2-1] and no packet identifier at QoS 0 [MQTT-2.2.1-2]. Allocates nothing but
/// room in `out`.
///
/// # Errors
/// [`EncodeError::TooLarge`].
#[inline]
pub fn publish(version: Version, packet: &Publish<'_>, out: &mut Vec<u8>) -> Encoded {
    let has_id = packet.qos as u8 > 0;
    let body = string_len(packet.topic.as_bytes())?
        + if has_id { 2 } else { 0 }
        + properties_len(version, packet.properties)
        + packet.payload.len();
    let flags = u8::from(packet.dup) << 3 | (packet.qos as u8) << 1 | u8::from(packet.retain);
    header(PacketType::Publish, flags, body, out)?;
    put_string(packet.topic.as_bytes(), out);
    if has_id {
        out.extend_from_slice(&packet.packet_id.to_be_bytes());
    }
    put_properties(version, packet.properties, out);
    out.extend_from_slice(packet.payload);
    Ok(())
}

/// Appends PUBACK, PUBREC, PUBREL or PUBCOMP without properties: four bytes for success and before 5.0, else five. Every client
/// accepts this size, so a Reason String or User Property makes none of these too large [MQTT-3.6.2-2] [MQTT-3.6.2-3]
/// [MQTT-3.7.2-2].
#[inline]
pub fn ack(version: Version, kind: PacketType, packet_id: u16, reason: ReasonCode, out: &mut Vec<u8>) {
    debug_assert!((PacketType::PubAck..=PacketType::PubComp).contains(&kind));
    let [high, low] = packet_id.to_be_bytes();
    if version < Version::V5 || reason == ReasonCode::SUCCESS {
        out.extend_from_slice(&[first(kind), 2, high, low]);
    } else {
        out.extend_from_slice(&[first(kind), 3, high, low, reason.0]);
    }
}

/// Appends PUBACK, PUBREC, PUBREL or PUBCOMP with its properties.
///
/// # Errors
/// [`EncodeError::TooLarge`].
pub fn ack_full(version: Version, kind: PacketType, packet: &Ack<'_>, out: &mut Vec<u8>) -> Encoded {
    if version < Version::V5 || packet.properties.is_empty() {
        ack(version, kind, packet.packet_id, packet.reason, out);
        return Ok(());
    }
    header(kind, first(kind) & 0x0F, 3 + properties_len(version, packet.properties), out)?;
    out.extend_from_slice(&packet.packet_id.to_be_bytes());
    out.push(packet.reason.0);
    put_properties(version, packet.properties, out);
    Ok(())
}

/// Appends SUBSCRIBE. Before 5.0 the options are the QoS alone.
///
/// # Errors
/// [`EncodeError::TooLarge`].
pub fn subscribe(
    version: Version,
    packet_id: u16,
    properties: Properties<'_>,
    filters: &Filters<'_>,
    out: &mut Vec<u8>,
) -> Encoded {
    identified(PacketType::Subscribe, version, packet_id, properties, filters.bytes.len(), out)?;
    if version == Version::V5 {
        out.extend_from_slice(filters.bytes);
    } else {
        for (filter, options) in filters {
            put_string(filter.as_bytes(), out);
            out.push(options.qos as u8);
        }
    }
    Ok(())
}

/// SUBACK. A 3.1.1 client gets 0x80 for every failure.
///
/// # Errors
/// [`EncodeError::NotInThisVersion`] for a failure in 3.1, which knows none.
pub fn suback(version: Version, packet: &SubAck<'_>, out: &mut Vec<u8>) -> Encoded {
    if version == Version::V31 && packet.codes.iter().any(|&code| ReasonCode(code).is_error()) {
        return Err(EncodeError::NotInThisVersion);
    }
    identified(PacketType::SubAck, version, packet.packet_id, packet.properties, packet.codes.len(), out)?;
    let v5 = version == Version::V5;
    out.extend(packet.codes.iter().map(|&code| if v5 { code } else { code.min(ReasonCode::UNSPECIFIED_ERROR.0) }));
    Ok(())
}

/// UNSUBSCRIBE.
///
/// # Errors
/// [`EncodeError::TooLarge`].
pub fn unsubscribe(
    version: Version,
    packet_id: u16,
    properties: Properties<'_>,
    filters: &Filters<'_>,
    out: &mut Vec<u8>,
) -> Encoded {
    identified(PacketType::Unsubscribe, version, packet_id, properties, filters.bytes.len(), out)?;
    out.extend_from_slice(filters.bytes);
    Ok(())
}

/// Appends UNSUBACK. Before 5.0 it has no codes.
///
/// # Errors
/// [`EncodeError::TooLarge`].
pub fn unsuback(version: Version, packet: &SubAck<'_>, out: &mut Vec<u8>) -> Encoded {
    let codes = if version == Version::V5 { packet.codes } else { &[] };
    identified(PacketType::UnsubAck, version, packet.packet_id, packet.properties, codes.len(), out)?;
    out.extend_from_slice(codes);
    Ok(())
}

/// PINGREQ.
pub fn pingreq(out: &mut Vec<u8>) {
    out.extend_from_slice(&[first(PacketType::PingReq), 0]);
}

/// PINGRESP.
pub fn pingresp(out: &mut Vec<u8>) {
    out.extend_from_slice(&[first(PacketType::PingResp), 0]);
}

/// Appends DISCONNECT. Before 5.0 it has no contents, and only a client sends it: a server closes.
///
/// # Errors
/// [`EncodeError::TooLarge`].
pub fn disconnect(version: Version, packet: &Disconnect<'_>, out: &mut Vec<u8>) -> Encoded {
    if version < Version::V5 {
        out.extend_from_slice(&[first(PacketType::Disconnect), 0]);
        return Ok(());
    }
    reason_and_properties(PacketType::Disconnect, packet, out)
}

/// AUTH.
///
/// # Errors
/// [`EncodeError::NotInThisVersion`] before 5.0.
pub fn auth(version: Version, packet: &Disconnect<'_>, out: &mut Vec<u8>) -> Encoded {
    if version < Version::V5 {
        return Err(EncodeError::NotInThisVersion);
    }
    reason_and_properties(PacketType::Auth, packet, out)
}

/// Appends the form that DISCONNECT and AUTH share. Without properties a DISCONNECT is its reason alone (section 3.14.2.2.1); AUTH
/// has no such form, and never needs it.
fn reason_and_properties(kind: PacketType, packet: &Disconnect<'_>, out: &mut Vec<u8>) -> Encoded {
    let bare = packet.properties.is_empty();
    if bare && packet.reason == ReasonCode::SUCCESS {
        return header(kind, 0, 0, out);
    }
    if bare && kind == PacketType::Disconnect {
        header(kind, 0, 1, out)?;
        out.push(packet.reason.0);
        return Ok(());
    }
    header(kind, 0, 1 + properties_len(Version::V5, packet.properties), out)?;
    out.push(packet.reason.0);
    put_properties(Version::V5, packet.properties, out);
    Ok(())
}

/// Appends the beginning of SUBSCRIBE, UNSUBSCRIBE and their answers: fixed header, packet identifier, properties; `payload_len`
/// bytes follow.
fn identified(
    kind: PacketType,
    version: Version,
    packet_id: u16,
    properties: Properties<'_>,
    payload_len: usize,
    out: &mut Vec<u8>,
) -> Encoded {
    header(kind, first(kind) & 0x0F, 2 + properties_len(version, properties) + payload_len, out)?;
    out.extend_from_slice(&packet_id.to_be_bytes());
    put_properties(version, properties, out);
    Ok(())
}

/// The first byte of a packet with fixed flags (table 2-2).
const fn first(kind: PacketType) -> u8 {
    let flags = match kind {
        PacketType::PubRel | PacketType::Subscribe | PacketType::Unsubscribe => 0b0010,
        _ => 0,
    };
    (kind as u8) << 4 | flags
}

/// The fixed header, after which `out` has room for the body.
#[inline]
fn header(kind: PacketType, flags: u8, body: usize, out: &mut Vec<u8>) -> Encoded {
    let remaining = u32::try_from(body).ok().filter(|&body| body <= VARIABLE_MAX).ok_or(EncodeError::TooLarge)?;
    out.reserve(1 + variable_len(remaining) + body);
    out.push((kind as u8) << 4 | flags);
    wire::put_variable(remaining, out);
    Ok(())
}

/// Bytes of a string or binary value with its length.
#[inline]
fn string_len(bytes: &[u8]) -> Result<usize, EncodeError> {
    if bytes.len() > STRING_MAX { Err(EncodeError::TooLarge) } else { Ok(2 + bytes.len()) }
}

/// Appends a string that [`string_len`] has checked.
#[inline]
fn put_string(bytes: &[u8], out: &mut Vec<u8>) {
    let said = wire::put_binary(bytes, out);
    debug_assert!(said);
}

/// Bytes of the properties with their length; none before 5.0.
#[inline]
fn properties_len(version: Version, properties: Properties<'_>) -> usize {
    if version < Version::V5 {
        return 0;
    }
    let len = properties.raw().len();
    // Longer than any packet: `header` refuses the sum.
    u32::try_from(len).map_or(len, |short| variable_len(short) + len)
}

/// Properties of 5.0 with their length, which is 0 where there are none [MQTT-2.2.2-1].
#[inline]
fn put_properties(version: Version, properties: Properties<'_>, out: &mut Vec<u8>) {
    if version == Version::V5 {
        let raw = properties.raw();
        wire::put_variable(raw.len() as u32, out);
        out.extend_from_slice(raw);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connack(version: Version, session_present: bool, reason: ReasonCode) -> Result<Vec<u8>, EncodeError> {
        let mut out = Vec::new();
        let packet = ConnAck { session_present, reason, properties: Properties::EMPTY };
        super::connack(version, &packet, &mut out).map(|()| out)
    }

    fn suback(version: Version, codes: &[u8]) -> Result<Vec<u8>, EncodeError> {
        let mut out = Vec::new();
        let packet = SubAck { packet_id: 258, properties: Properties::EMPTY, codes };
        super::suback(version, &packet, &mut out).map(|()| out)
    }

    #[test]
    fn a_refusal_in_the_words_of_each_version() {
        let bad_password = ReasonCode::BAD_USER_NAME_OR_PASSWORD;
        assert_eq!(connack(Version::V5, false, bad_password), Ok(vec![0x20, 3, 0, 0x86, 0]));
        assert_eq!(connack(Version::V311, false, bad_password), Ok(vec![0x20, 2, 0, 4]));
        assert_eq!(connack(Version::V311, true, ReasonCode::SUCCESS), Ok(vec![0x20, 2, 1, 0]));
        assert_eq!(connack(Version::V31, true, ReasonCode::SUCCESS), Ok(vec![0x20, 2, 0, 0]), "3.1 has no such flag");
        for version in [Version::V31, Version::V311] {
            assert_eq!(connack(version, false, ReasonCode::MALFORMED_PACKET), Err(EncodeError::NotInThisVersion));
        }
    }

    /// [3.1.1 MQTT-3.9.3-2]
    #[test]
    fn a_failed_subscription_in_the_words_of_each_version() {
        assert_eq!(suback(Version::V5, &[1, 0x9E]), Ok(vec![0x90, 5, 1, 2, 0, 1, 0x9E]));
        assert_eq!(suback(Version::V311, &[1, 0x9E]), Ok(vec![0x90, 4, 1, 2, 1, 0x80]));
        assert_eq!(suback(Version::V31, &[1, 2]), Ok(vec![0x90, 4, 1, 2, 1, 2]));
        assert_eq!(suback(Version::V31, &[1, 0x9E]), Err(EncodeError::NotInThisVersion));
    }

    #[test]
    fn acknowledgements_are_as_short_as_they_can_be() {
        let ack = |version, kind, reason| {
            let mut out = Vec::new();
            ack(version, kind, 258, reason, &mut out);
            out
        };
        let quota = ReasonCode::QUOTA_EXCEEDED;
        assert_eq!(ack(Version::V5, PacketType::PubAck, ReasonCode::SUCCESS), [0x40, 2, 1, 2]);
        assert_eq!(ack(Version::V5, PacketType::PubRec, quota), [0x50, 3, 1, 2, 0x97]);
        assert_eq!(ack(Version::V311, PacketType::PubRec, quota), [0x50, 2, 1, 2]);
        assert_eq!(ack(Version::V5, PacketType::PubRel, ReasonCode::SUCCESS), [0x62, 2, 1, 2]);
    }

    #[test]
    fn what_a_version_does_not_have_is_not_sent() {
        let mut out = vec![7];
        let said = Disconnect { reason: ReasonCode::SESSION_TAKEN_OVER, properties: Properties::EMPTY };
        assert_eq!(auth(Version::V311, &said, &mut out), Err(EncodeError::NotInThisVersion));
        assert_eq!(out, [7]);
        assert_eq!(disconnect(Version::V311, &said, &mut out), Ok(()));
        assert_eq!(disconnect(Version::V5, &said, &mut out), Ok(()));
        assert_eq!(out, [7, 0xE0, 0, 0xE0, 1, 0x8E]);
    }
}
