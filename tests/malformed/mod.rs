//! Malformed packets of our own making: at least twenty for each of the fifteen packet types, each with the sentence
//! of the standard that it breaks. Each is one defect, or one defect at another place.
//!
//! Only the table stands here. `tests/mqtt/verdicts.rs` asks the decoder and mqtt-protocol-core; the integration tests
//! fire what a client can send at a live service.
//!
//! The bytes are written so that they can be read, and lengths come of themselves:
//! - `82`, `003C`: bytes in hexadecimal; `'text'`: its characters;
//! - `{...}`: a Two Byte Integer with the length of what is inside, then that: a string or binary data;
//! - `[...]`: a Variable Byte Integer with the length of what is inside, then that: a body or properties;
//! - `x200`: the byte or text before it, 200 times in all.

#![allow(dead_code, reason = "each test binary that includes the table uses its own part of it")]

use forebay::mqtt::packet::{PacketType, Sender, Version};
use forebay::mqtt::reason::ReasonCode;
use forebay::mqtt::{decode, frame};

mod auth;
mod connack;
mod connect;
mod disconnect;
mod pingreq;
mod pingresp;
mod puback;
mod pubcomp;
mod publish;
mod pubrec;
mod pubrel;
mod suback;
mod subscribe;
mod unsuback;
mod unsubscribe;

/// What the tables use.
mod words {
    pub(crate) use super::Row;
    pub(crate) use forebay::mqtt::packet::Sender::{Client, Server};
    pub(crate) use forebay::mqtt::packet::Version::{V5, V31, V311};
    use forebay::mqtt::reason::ReasonCode;

    pub(crate) const MALFORMED: ReasonCode = ReasonCode::MALFORMED_PACKET;
    pub(crate) const PROTOCOL: ReasonCode = ReasonCode::PROTOCOL_ERROR;
    pub(crate) const TOO_LARGE: ReasonCode = ReasonCode::PACKET_TOO_LARGE;
    pub(crate) const VERSION: ReasonCode = ReasonCode::UNSUPPORTED_PROTOCOL_VERSION;
    pub(crate) const IDENTIFIER: ReasonCode = ReasonCode::CLIENT_IDENTIFIER_NOT_VALID;
    pub(crate) const FILTER_INVALID: ReasonCode = ReasonCode::TOPIC_FILTER_INVALID;
    pub(crate) const ALIAS: ReasonCode = ReasonCode::TOPIC_ALIAS_INVALID;
}

/// One line of a table: what is wrong, version, sender, bytes, reason code, clause in that version.
pub(crate) type Row = (&'static str, Version, Sender, &'static str, ReasonCode, &'static str);

/// The bound on a packet with which the table is judged, bytes. Any bound below 256 MiB gives the same verdicts.
pub(crate) const MAXIMUM_PACKET_SIZE: u32 = 1 << 20;

/// One malformed packet.
#[derive(Clone, Debug)]
pub(crate) struct Case {
    /// Type of the packet, and what is wrong with it.
    pub(crate) name: String,
    /// Type of the packet.
    pub(crate) packet: PacketType,
    /// The version of the connection, or of the CONNECT.
    pub(crate) version: Version,
    /// Which end sends it.
    pub(crate) sender: Sender,
    /// The packet; of one that is refused by its header alone, sometimes no more than that.
    pub(crate) bytes: Vec<u8>,
    /// The 5.0 reason code that says what is wrong.
    pub(crate) reason: ReasonCode,
    /// The sentence that is broken, in the standard of `version` (for 3.1 that of 3.1.1).
    pub(crate) clause: &'static str,
}

/// How a connection ends on which a server receives the case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// Closed without a word.
    Close,
    /// Closed after a CONNACK of this version with this reason code or 3.x return code.
    ConnAck(Version, u8),
    /// Closed after a 5.0 DISCONNECT with this reason code.
    Disconnect(u8),
}

impl Case {
    /// What a client sees that sends it: a CONNECT on a fresh connection, anything else after it has been accepted.
    /// A server may always close without a word; ours says what it can.
    pub(crate) fn ending(&self) -> Ending {
        if self.packet == PacketType::Connect {
            let Ok(Some(frame)) = frame::next_connect(&self.bytes, MAXIMUM_PACKET_SIZE) else { return Ending::Close };
            return match decode::answer_version(frame.body) {
                Some(Version::V5) => Ending::ConnAck(Version::V5, self.reason.0),
                Some(version) => match self.reason.connack_return_code_v3() {
                    Some(code) => Ending::ConnAck(version, code),
                    None => Ending::Close,
                },
                None => Ending::Close,
            };
        }
        if self.version == Version::V5 { Ending::Disconnect(self.reason.0) } else { Ending::Close }
    }
}

/// The tables, by packet type.
pub(crate) const TABLES: [(PacketType, &str, &[Row]); 15] = [
    (PacketType::Connect, "CONNECT", connect::CASES),
    (PacketType::ConnAck, "CONNACK", connack::CASES),
    (PacketType::Publish, "PUBLISH", publish::CASES),
    (PacketType::PubAck, "PUBACK", puback::CASES),
    (PacketType::PubRec, "PUBREC", pubrec::CASES),
    (PacketType::PubRel, "PUBREL", pubrel::CASES),
    (PacketType::PubComp, "PUBCOMP", pubcomp::CASES),
    (PacketType::Subscribe, "SUBSCRIBE", subscribe::CASES),
    (PacketType::SubAck, "SUBACK", suback::CASES),
    (PacketType::Unsubscribe, "UNSUBSCRIBE", unsubscribe::CASES),
    (PacketType::UnsubAck, "UNSUBACK", unsuback::CASES),
    (PacketType::PingReq, "PINGREQ", pingreq::CASES),
    (PacketType::PingResp, "PINGRESP", pingresp::CASES),
    (PacketType::Disconnect, "DISCONNECT", disconnect::CASES),
    (PacketType::Auth, "AUTH", auth::CASES),
];

/// Every case.
pub(crate) fn all() -> Vec<Case> {
    let mut cases = Vec::new();
    for (packet, packet_name, rows) in TABLES {
        for &(what, version, sender, notation, reason, clause) in rows {
            cases.push(Case {
                name: format!("{packet_name} {version:?}: {what}"),
                packet,
                version,
                sender,
                bytes: bytes(notation),
                reason,
                clause,
            });
        }
    }
    cases
}

/// Reads the notation of the module's head.
///
/// # Panics
/// On what is not in the notation.
pub(crate) fn bytes(notation: &str) -> Vec<u8> {
    // The innermost open bracket last; at the bottom the packet itself.
    let mut open: Vec<(char, Vec<u8>)> = vec![('.', Vec::new())];
    let mut last: Vec<u8> = Vec::new();
    let mut rest = notation.trim_start();
    while let Some(token) = rest.chars().next() {
        let mut used = 1;
        match token {
            '{' | '[' => open.push((token, Vec::new())),
            '}' | ']' => {
                let (bracket, inside) = open.pop().expect("an open bracket");
                let out = &mut open.last_mut().expect("the bottom").1;
                if bracket == '{' {
                    assert_eq!(token, '}');
                    out.extend_from_slice(&u16::try_from(inside.len()).expect("16 bits").to_be_bytes());
                } else {
                    assert_eq!((bracket, token), ('[', ']'));
                    put_variable(inside.len(), out);
                }
                out.extend_from_slice(&inside);
            }
            '\'' => {
                let text = rest[1..].split('\'').next().expect("a text");
                used = text.len() + 2;
                last = text.as_bytes().to_vec();
                open.last_mut().expect("the bottom").1.extend_from_slice(&last);
            }
            'x' => {
                let digits = rest[1..].find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len() - 1);
                used = 1 + digits;
                let times: usize = rest[1..used].parse().expect("how often");
                let out = &mut open.last_mut().expect("the bottom").1;
                (1..times).for_each(|_| out.extend_from_slice(&last));
            }
            _ => {
                used = 2;
                last = vec![u8::from_str_radix(&rest[..2], 16).expect("two hexadecimal digits")];
                open.last_mut().expect("the bottom").1.extend_from_slice(&last);
            }
        }
        rest = rest[used..].trim_start();
    }
    assert_eq!(open.len(), 1, "a bracket is left open: {notation}");
    open.swap_remove(0).1
}

fn put_variable(mut value: usize, out: &mut Vec<u8>) {
    while value > 0x7F {
        out.push((value & 0x7F) as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}
