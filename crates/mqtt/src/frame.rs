//! Cutting packets out of a stream: the fixed header (section 2.1), before a byte of the body is looked at or kept.
//!
//! A packet that can be refused by its first byte or its length is refused at that point, so that a peer cannot make us wait for,
//! or make room for, a body that will be refused anyway. [`next`] knows no version; [`next_for`] and [`next_connect`] know which
//! packets are acceptable and refuse more.

use super::malformed::Malformed;
use super::packet::{PacketType, Sender, Version};
use super::reason::ReasonCode;
use super::wire::{self, Reader};

/// A complete packet in wire form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    /// Packet type and flags.
    pub first: u8,
    /// Variable header and payload.
    pub body: &'a [u8],
    /// Bytes of the whole packet, fixed header included: the number to consume.
    pub len: usize,
}

impl Frame<'_> {
    /// Checks that the Remaining Length has the shortest form, which 5.0 requires. [`next_for`] has checked; the others do not know
    /// the version.
    pub(super) const fn check_shortest(&self) -> Result<(), Malformed> {
        wire::check_shortest(self.body.len() as u32, self.len - self.body.len() - 1)
    }
}

/// The packets that are acceptable next on a connection.
#[derive(Clone, Copy)]
struct Expected {
    version: Option<Version>,
    sender: Option<Sender>,
    connect: bool,
}

/// The next packet of `bytes`, whatever its version and sender. `None`: more bytes are needed ([`needed`] may know how
/// many). `max` bounds the whole packet in bytes.
///
/// # Errors
/// Errors in every version: the reserved type, flags, a bad Remaining Length, a PINGREQ with a body; and
/// [`ReasonCode::PACKET_TOO_LARGE`] as soon as the Remaining Length is readable.
#[inline]
pub fn next(bytes: &[u8], max: u32) -> Result<Option<Frame<'_>>, Malformed> {
    cut(bytes, max, Expected { version: None, sender: None, connect: false })
}

/// [`next`] on a connection with a known version and other end.
///
/// # Errors
/// The errors of [`next`]; packets that `version` does not have, that `sender` may not send, and lengths that `version` does not
/// allow.
#[inline]
pub fn next_for(version: Version, sender: Sender, bytes: &[u8], max: u32) -> Result<Option<Frame<'_>>, Malformed> {
    cut(bytes, max, Expected { version: Some(version), sender: Some(sender), connect: false })
}

/// [`next`] on a new connection, where a server takes a CONNECT and nothing else [MQTT-3.1.0-1].
///
/// # Errors
/// The errors of [`next`], and any other packet at its first byte.
#[inline]
pub fn next_connect(bytes: &[u8], max: u32) -> Result<Option<Frame<'_>>, Malformed> {
    cut(bytes, max, Expected { version: None, sender: Some(Sender::Client), connect: true })
}

/// Bytes of the packet at the front of `bytes`, fixed header included; `None` if its length is not known yet or is invalid.
#[must_use]
pub fn needed(bytes: &[u8]) -> Option<usize> {
    let (remaining, len) = wire::variable(bytes.get(1..)?).ok()??;
    Some(1 + len + remaining as usize)
}

/// The PUBLISH at the front of `bytes` without its payload, before 5.0: for a packet that is too long to be kept. `len` is that of the
/// whole packet. `None`: more bytes are needed.
#[must_use]
pub fn publish_head(bytes: &[u8]) -> Option<Frame<'_>> {
    let (&first, rest) = bytes.split_first()?;
    let (remaining, header) = wire::variable(rest).ok()??;
    let (remaining, body) = (remaining as usize, &rest[header..]);
    let topic = usize::from(u16::from_be_bytes([*body.first()?, *body.get(1)?]));
    let packet_id = if first >> 1 & 0b11 == 0 { 0 } else { 2 };
    let body = body.get(..(2 + topic + packet_id).min(remaining))?;
    Some(Frame { first, body, len: 1 + header + remaining })
}

#[inline]
fn cut(bytes: &[u8], max: u32, expected: Expected) -> Result<Option<Frame<'_>>, Malformed> {
    let Some((&first, rest)) = bytes.split_first() else { return Ok(None) };
    let kind = check_first(first, expected.version)?;
    if let Some(sender) = expected.sender {
        check_sender(kind, expected.version, sender)?;
    }
    if expected.connect && kind != PacketType::Connect {
        return Err(Malformed::protocol("MQTT-3.1.0-1", "the first packet is not CONNECT"));
    }
    let Some((remaining, header)) = wire::variable(rest)? else { return Ok(None) };
    if expected.version == Some(Version::V5) {
        wire::check_shortest(remaining, header)?;
    }
    check_length(kind, expected.version, remaining)?;
    let len = 1 + header + remaining as usize;
    if len > max as usize {
        return Err(Malformed::with(
            ReasonCode::PACKET_TOO_LARGE,
            "MQTT-3.2.2-15",
            "the packet is longer than the Maximum Packet Size",
        ));
    }
    let mut reader = Reader::new(&rest[header..]);
    Ok(reader.take(remaining as usize).ok().map(|body| Frame { first, body, len }))
}

/// Checks the flags of a CONNECT, after its body has named the version: reserved since 3.1.1, not used in 3.1.
pub(super) fn check_connect_flags(first: u8, version: Version) -> Result<(), Malformed> {
    if first & 0x0F == 0 || version == Version::V31 {
        return Ok(());
    }
    Err(Malformed::packet("MQTT-2.1.3-1", "reserved flags of the first byte are set"))
}

/// Checks type and flags (sections 2.1.2 and 2.1.3). Without a version, any that some version allows are accepted.
#[inline]
pub(super) fn check_first(first: u8, version: Option<Version>) -> Result<PacketType, Malformed> {
    let Some(kind) = PacketType::of(first) else {
        return Err(Malformed::packet("section 2.1.2", "packet type 0 is reserved"));
    };
    let flags = first & 0x0F;
    let clause = match kind {
        PacketType::Publish => {
            return match flags >> 1 & 0b11 {
                0b11 => Err(Malformed::packet("MQTT-3.3.1-4", "QoS is 3")),
                0 if flags & 0b1000 != 0 => Err(Malformed::packet("MQTT-3.3.1-2", "DUP is set at QoS 0")),
                _ => Ok(kind),
            };
        }
        PacketType::PubRel | PacketType::Subscribe | PacketType::Unsubscribe => {
            // 3.1 has them carry QoS 1, and DUP when sent again (3.1 section 2.1).
            let dup_allowed = matches!(version, None | Some(Version::V31));
            if flags == 0b0010 || (flags == 0b1010 && dup_allowed) {
                return Ok(kind);
            }
            match kind {
                PacketType::PubRel => "MQTT-3.6.1-1",
                PacketType::Subscribe => "MQTT-3.8.1-1",
                _ => "MQTT-3.10.1-1",
            }
        }
        // 3.1 does not use these flags here (section 3.1); the version is only in the body: `check_connect_flags`.
        PacketType::Connect if version.is_none() => return Ok(kind),
        PacketType::Auth if version.is_some_and(|version| version < Version::V5) => {
            return Err(Malformed::packet("section 2.2.1", "packet type 15 is reserved before 5.0"));
        }
        _ if flags == 0 => return Ok(kind),
        PacketType::Disconnect => "MQTT-3.14.1-1",
        PacketType::Auth => "MQTT-3.15.1-1",
        _ => "MQTT-2.1.3-1",
    };
    Err(Malformed::packet(clause, "reserved flags of the first byte are not as they must be"))
}

/// Direction (the tables of section 2.1.2).
pub(super) fn check_sender(kind: PacketType, version: Option<Version>, sender: Sender) -> Result<(), Malformed> {
    use PacketType::{ConnAck, Connect, Disconnect, PingReq, PingResp, SubAck, Subscribe, UnsubAck, Unsubscribe};
    let before_v5 = version.is_some_and(|version| version < Version::V5);
    match (sender, kind) {
        (Sender::Client, ConnAck | SubAck | UnsubAck | PingResp) => {
            Err(Malformed::protocol("section 2.1.2", "only a server sends this packet"))
        }
        (Sender::Server, Connect | Subscribe | Unsubscribe | PingReq) => {
            Err(Malformed::protocol("section 2.1.2", "only a client sends this packet"))
        }
        (Sender::Server, Disconnect) if before_v5 => {
            Err(Malformed::protocol("section 3.14", "only a client sends DISCONNECT before 5.0"))
        }
        _ => Ok(()),
    }
}

/// Rejects Remaining Lengths that are impossible for every body.
fn check_length(kind: PacketType, version: Option<Version>, remaining: u32) -> Result<(), Malformed> {
    use PacketType::{ConnAck, Disconnect, PingReq, PingResp, PubAck, PubComp, PubRec, PubRel, UnsubAck};
    let before_v5 = version.is_some_and(|version| version < Version::V5);
    let (exact, clause) = match kind {
        PingReq => (0, "section 3.12.1"),
        PingResp => (0, "section 3.13.1"),
        Disconnect if before_v5 => (0, "section 3.14.1"),
        ConnAck if before_v5 => (2, "section 3.2.1"),
        PubAck if before_v5 => (2, "section 3.4.1"),
        PubRec if before_v5 => (2, "section 3.5.1"),
        PubRel if before_v5 => (2, "section 3.6.1"),
        PubComp if before_v5 => (2, "section 3.7.1"),
        UnsubAck if before_v5 => (2, "section 3.11.1"),
        _ => return Ok(()),
    };
    if remaining == exact {
        Ok(())
    } else {
        Err(Malformed::packet(clause, "a packet of fixed length has another Remaining Length"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAX: u32 = 1 << 20;

    #[test]
    fn cuts_one_and_says_how_much() {
        let bytes = [0xC0, 0x00, 0x40, 0x02, 0x00, 0x01];
        let ping = next(&bytes, MAX).unwrap().unwrap();
        assert_eq!((ping.first, ping.body, ping.len), (0xC0, &[][..], 2));
        let ack = next(&bytes[ping.len..], MAX).unwrap().unwrap();
        assert_eq!((ack.first, ack.body, ack.len), (0x40, &[0, 1][..], 4));
        for cut in 0..4 {
            assert_eq!(next(&bytes[2..2 + cut], MAX), Ok(None));
            assert_eq!(needed(&bytes[2..2 + cut]), (cut >= 2).then_some(4));
        }
    }

    #[test]
    fn a_length_is_judged_before_its_body_comes() {
        let too_large = |bytes: &[u8], max| next(bytes, max).unwrap_err().reason;
        assert_eq!(too_large(&[0x30, 0xFF, 0xFF, 0xFF, 0x7F], MAX), ReasonCode::PACKET_TOO_LARGE);
        assert_eq!(next(&[0x30, 0x08], 10), Ok(None), "ten bytes with its header is not more than ten");
        assert_eq!(too_large(&[0x30, 0x09], 10), ReasonCode::PACKET_TOO_LARGE);
        assert!(next(&[0x30, 0x80, 0x80, 0x80, 0x80], MAX).is_err(), "a fifth byte");
        assert!(next(&[0xC0, 0x01], MAX).is_err(), "PINGREQ with a body");
        assert!(next(&[0x40, 0x03], MAX).is_ok(), "a 5.0 PUBACK with a reason");
        assert!(next_for(Version::V311, Sender::Client, &[0x40, 0x03], MAX).is_err());
    }

    #[test]
    fn a_length_longer_than_it_needs_to_be_is_good_before_5_0() {
        let bytes = [0x40, 0x82, 0x00, 0x00, 0x01];
        let frame = next_for(Version::V311, Sender::Client, &bytes, MAX).unwrap().unwrap();
        assert_eq!((frame.body, frame.len), (&[0, 1][..], 5));
        assert_eq!(next_for(Version::V5, Sender::Client, &bytes, MAX).unwrap_err().clause, "MQTT-1.5.5-1");
        assert!(frame.check_shortest().is_err());
    }

    /// [MQTT-3.1.0-1] [MQTT-2.1.3-1] [3.1.1 MQTT-3.1.0-1] [3.1.1 MQTT-2.2.2-1] [3.1.1 MQTT-2.2.2-2]
    #[test]
    fn the_first_byte_alone_is_enough() {
        for first in [0x00, 0x0F, 0x36, 0x38, 0x41, 0x60, 0x80, 0xA3, 0xC1, 0xE1, 0xF2] {
            assert!(next(&[first], MAX).is_err(), "{first:#04x}");
        }
        for first in [0x30, 0x3D, 0x62, 0x6A, 0x8A, 0xAA, 0xF0] {
            assert_eq!(next(&[first], MAX), Ok(None), "{first:#04x}");
        }
        for first in [0x6A, 0x8A, 0xAA, 0xF0] {
            assert!(next_for(Version::V311, Sender::Client, &[first], MAX).is_err(), "{first:#04x}");
        }
        assert_eq!(next_for(Version::V31, Sender::Client, &[0x8A], MAX), Ok(None), "3.1 has DUP there");
        for first in [0x20, 0x90, 0xB0, 0xD0] {
            let refused = next_for(Version::V5, Sender::Client, &[first], MAX).unwrap_err();
            assert_eq!(refused.reason, ReasonCode::PROTOCOL_ERROR, "{first:#04x}");
        }
        assert!(next_connect(&[0x30], MAX).is_err() && next_connect(&[0x10], MAX).is_ok());
    }
}
