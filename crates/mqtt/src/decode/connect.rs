//! CONNECT (section 3.1), the packet with the version of the connection.

use super::{finish, properties};
use crate::frame::{Frame, check_connect_flags};
use crate::malformed::Malformed;
use crate::packet::{BRIDGE, Connect, PacketType, QoS, Sender, Version, Will};
use crate::property::Place;
use crate::reason::ReasonCode;
use crate::topic;
use crate::wire::Reader;

/// Connect Flags (section 3.1.2.3).
const RESERVED: u8 = 1 << 0;
const CLEAN_START: u8 = 1 << 1;
const WILL: u8 = 1 << 2;
const WILL_QOS_SHIFT: u8 = 3;
const WILL_RETAIN: u8 = 1 << 5;
const PASSWORD: u8 = 1 << 6;
const USER_NAME: u8 = 1 << 7;

/// Decodes the first packet of a connection.
///
/// # Errors
/// The first sentence of the standard that the packet breaks. [`answer_version`] gives the version of the CONNACK with the refusal.
/// A client identifier that a 3.x server must refuse is [`ReasonCode::CLIENT_IDENTIFIER_NOT_VALID`], a version that we do not
/// support [`ReasonCode::UNSUPPORTED_PROTOCOL_VERSION`].
pub fn connect(frame: Frame<'_>) -> Result<Connect<'_>, Malformed> {
    if PacketType::of(frame.first) != Some(PacketType::Connect) {
        return Err(Malformed::protocol("MQTT-3.1.0-1", "the first packet is not CONNECT"));
    }
    let mut body = Reader::new(frame.body);
    let (version, is_bridge) = version(&mut body)?;
    check_connect_flags(frame.first, version)?;
    if version == Version::V5 {
        frame.check_shortest()?;
    }
    let flags = body.u8()?;
    check_flags(version, flags)?;
    let keep_alive_s = body.u16()?;
    let connect_properties = properties(version, &mut body, Place::Packet(PacketType::Connect, Sender::Client))?;
    // The payload, field by field in its order [MQTT-3.1.3-1]: the client identifier [MQTT-3.1.3-3] [MQTT-3.1.3-4], the will
    // [MQTT-3.1.2-9], user name [MQTT-3.1.2-17] [MQTT-3.1.3-12] and password [MQTT-3.1.2-19].
    let client_id = body.string()?;
    let will = if flags & WILL == 0 { None } else { Some(will(version, flags, &mut body)?) };
    let username = if flags & USER_NAME == 0 || missing_in_v31(version, &body) { None } else { Some(body.string()?) };
    let password = if flags & PASSWORD == 0 || missing_in_v31(version, &body) { None } else { Some(body.binary()?) };
    // No field may be present without its flag [MQTT-3.1.2-16] [MQTT-3.1.2-18].
    finish(&body)?;
    let clean_start = flags & CLEAN_START != 0;
    check_client_id(version, clean_start, client_id)?;
    Ok(Connect {
        version,
        is_bridge,
        clean_start,
        keep_alive_s,
        client_id,
        will,
        username,
        password,
        properties: connect_properties,
    })
}

/// The version of the CONNACK that a refused client of this CONNECT body understands. `None`: the version is unknown, and the
/// connection is closed without one.
#[must_use]
pub fn answer_version(body: &[u8]) -> Option<Version> {
    let mut body = Reader::new(body);
    match (body.string().ok()?, body.u8().ok()?) {
        ("MQIsdp", _) => Some(Version::V31),
        // A client of a version newer than ours gets the newest form that we know [MQTT-3.1.2-2]. A bridge of a version that we do
        // not have falls back when it gets 3.1.1's return code 1.
        ("MQTT", level) => Some(if level >= 5 && level & BRIDGE == 0 { Version::V5 } else { Version::V311 }),
        _ => None,
    }
}

/// Protocol Name and Protocol Version (sections 3.1.2.1 and 3.1.2.2), and whether that is a bridge's.
fn version(body: &mut Reader<'_>) -> Result<(Version, bool), Malformed> {
    const BRIDGE_V311: u8 = BRIDGE | 4;
    const BRIDGE_V31: u8 = BRIDGE | 3;
    const fn unsupported(clause: &'static str, what: &'static str) -> Malformed {
        Malformed::with(ReasonCode::UNSUPPORTED_PROTOCOL_VERSION, clause, what)
    }
    let name = body.string()?;
    if !matches!(name, "MQTT" | "MQIsdp") {
        return Err(unsupported("MQTT-3.1.2-1", "the Protocol Name is not MQTT"));
    }
    let level = body.u8()?;
    let is_bridge = level & BRIDGE != 0;
    match (name, level) {
        ("MQTT", 5) => Ok((Version::V5, false)),
        ("MQTT", 4 | BRIDGE_V311) => Ok((Version::V311, is_bridge)),
        ("MQIsdp", 3 | BRIDGE_V31) => Ok((Version::V31, is_bridge)),
        _ => Err(unsupported("MQTT-3.1.2-2", "a Protocol Version that this server does not speak")),
    }
}

/// Checks Connect Flags against each other and the version. 3.1 disregards will fields without a will.
fn check_flags(version: Version, flags: u8) -> Result<(), Malformed> {
    let will_qos = flags >> WILL_QOS_SHIFT & 0b11;
    if flags & RESERVED != 0 && version != Version::V31 {
        return Err(Malformed::packet("MQTT-3.1.2-3", "the reserved Connect Flag is set"));
    }
    if flags & WILL != 0 {
        if will_qos == 3 {
            return Err(Malformed::packet("MQTT-3.1.2-12", "Will QoS is 3"));
        }
    } else if version != Version::V31 {
        if will_qos != 0 {
            return Err(Malformed::packet("MQTT-3.1.2-11", "Will QoS without a will"));
        }
        if flags & WILL_RETAIN != 0 {
            return Err(Malformed::packet("MQTT-3.1.2-13", "Will Retain without a will"));
        }
    }
    if version < Version::V5 && flags & (USER_NAME | PASSWORD) == PASSWORD {
        // [3.1.1 MQTT-3.1.2-22], which is another sentence in 5.0.
        return Err(Malformed::packet("MQTT-3.1.2-22", "a password without a user name"));
    }
    Ok(())
}

/// Will Properties, Will Topic, Will Payload (section 3.1.3.2 to 3.1.3.4).
fn will<'a>(version: Version, flags: u8, body: &mut Reader<'a>) -> Result<Will<'a>, Malformed> {
    let properties = properties(version, body, Place::Will)?;
    let will_topic = body.string()?; // [MQTT-3.1.3-11]
    if will_topic.is_empty() {
        return Err(Malformed::packet("MQTT-4.7.3-1", "the Will Topic is empty"));
    }
    if !topic::valid_name(will_topic) {
        return Err(Malformed::packet("MQTT-4.7.0-1", "the Will Topic holds a wildcard"));
    }
    Ok(Will {
        // 3 has been refused with the flags.
        qos: QoS::from_bits(flags >> WILL_QOS_SHIFT & 0b11).unwrap_or_default(),
        retain: flags & WILL_RETAIN != 0,
        topic: will_topic,
        payload: body.binary()?,
        properties,
    })
}

/// 3.1 section 3.1: for the sake of older clients the Remaining Length takes precedence over the User Name and Password
/// flags, and a CONNECT that ends before them is valid.
fn missing_in_v31(version: Version, body: &Reader<'_>) -> bool {
    version == Version::V31 && body.is_empty()
}

/// Checks a client identifier by section 3.1.3.1. Identifiers of more than 23 characters, and with others than letters and digits,
/// are accepted in every version [MQTT-3.1.3-5].
fn check_client_id(version: Version, clean_start: bool, client_id: &str) -> Result<(), Malformed> {
    const fn refused(clause: &'static str, what: &'static str) -> Malformed {
        Malformed::with(ReasonCode::CLIENT_IDENTIFIER_NOT_VALID, clause, what)
    }
    match version {
        Version::V31 if client_id.is_empty() => Err(refused("section 3.1", "the Client Identifier is empty")),
        // [3.1.1 MQTT-3.1.3-8], which is another sentence in 5.0.
        Version::V311 if client_id.is_empty() && !clean_start => {
            Err(refused("MQTT-3.1.3-8", "the Client Identifier of a kept session is empty"))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame;

    fn read(bytes: &[u8]) -> Result<Connect<'_>, Malformed> {
        connect(frame::next_connect(bytes, 1024)?.expect("a whole packet"))
    }

    #[test]
    fn the_first_bytes_flags_mean_nothing_in_3_1() {
        // Section 3.1 of MQTT 3.1: DUP, QoS and RETAIN are not used in CONNECT.
        for flags in 0..16 {
            let first = 0x10 | flags;
            let old = [&[first, 15, 0, 6], &b"MQIsdp"[..], &[3, 2, 0, 60, 0, 1, b'c']].concat();
            assert_eq!(read(&old).expect("flags are not used").version, Version::V31);
            let new = [&[first, 13, 0, 4], &b"MQTT"[..], &[4, 2, 0, 60, 0, 1, b'c']].concat();
            assert_eq!(read(&new).is_ok(), flags == 0, "{first:#04x}");
        }
    }

    #[test]
    fn a_bridge_is_a_client_of_the_version_that_it_names() {
        for (name, level, version) in [("MQTT", 4, Version::V311), ("MQIsdp", 3, Version::V31)] {
            for bit in [0, BRIDGE] {
                let body = [&[0, name.len() as u8], name.as_bytes(), &[level | bit, 2, 0, 60, 0, 1, b'c']].concat();
                let packet = [&[0x10, body.len() as u8], &body[..]].concat();
                let connect = read(&packet).expect("well formed");
                assert_eq!((connect.version, connect.is_bridge), (version, bit != 0));
            }
        }
    }

    #[test]
    fn a_refused_bridge_is_told_in_the_form_that_makes_it_fall_back() {
        assert_eq!(answer_version(b"\0\x04MQTT\x85"), Some(Version::V311));
        assert_eq!(answer_version(b"\0\x04MQTT\x06"), Some(Version::V5));
    }
}
