//! MQTT 5.0 reason codes (section 2.4) in the standard's words, the senders and packets that each is for, and their equivalents for
//! a 3.x client.

use super::packet::{PacketType, Sender};

/// A reason code as on the wire. A value below 0x80 is success.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ReasonCode(pub u8);

/// A row of the table: code, name in the standard, packets of a client, packets of a server.
struct Row {
    code: ReasonCode,
    name: &'static str,
    client: u16,
    server: u16,
}

/// The bit of a packet type in a row.
const fn bit(kind: PacketType) -> u16 {
    1 << kind as u8
}

const CONNACK: u16 = bit(PacketType::ConnAck);
/// PUBACK and PUBREC share their codes.
const PUB: u16 = bit(PacketType::PubAck) | bit(PacketType::PubRec);
/// PUBREL and PUBCOMP share theirs.
const REL: u16 = bit(PacketType::PubRel) | bit(PacketType::PubComp);
const SUBACK: u16 = bit(PacketType::SubAck);
const UNSUBACK: u16 = bit(PacketType::UnsubAck);
const DISCONNECT: u16 = bit(PacketType::Disconnect);
const AUTH: u16 = bit(PacketType::Auth);

macro_rules! reason_codes {
    ($($ident:ident = $code:literal, $name:literal, client $client:expr, server $server:expr;)*) => {
        impl ReasonCode {
            $(
                #[doc = concat!("`", stringify!($code), "` ", $name, ".")]
                pub const $ident: ReasonCode = ReasonCode($code);
            )*
        }

        /// Section 2.4, with the "sent by" column of sections 3.14.2.1 and 3.15.2.1.
        const TABLE: &[Row] = &[
            $(Row { code: ReasonCode::$ident, name: $name, client: $client, server: $server },)*
        ];
    };
}

reason_codes! {
    SUCCESS = 0x00, "Success", client PUB | REL | DISCONNECT, server CONNACK | PUB | REL | SUBACK | UNSUBACK | DISCONNECT | AUTH;
    GRANTED_QOS_1 = 0x01, "Granted QoS 1", client 0, server SUBACK;
    GRANTED_QOS_2 = 0x02, "Granted QoS 2", client 0, server SUBACK;
    DISCONNECT_WITH_WILL_MESSAGE = 0x04, "Disconnect with Will Message", client DISCONNECT, server 0;
    NO_MATCHING_SUBSCRIBERS = 0x10, "No matching subscribers", client PUB, server PUB;
    NO_SUBSCRIPTION_EXISTED = 0x11, "No subscription existed", client 0, server UNSUBACK;
    CONTINUE_AUTHENTICATION = 0x18, "Continue authentication", client AUTH, server AUTH;
    RE_AUTHENTICATE = 0x19, "Re-authenticate", client AUTH, server 0;
    UNSPECIFIED_ERROR = 0x80, "Unspecified error", client PUB | DISCONNECT, server CONNACK | PUB | SUBACK | UNSUBACK | DISCONNECT;
    MALFORMED_PACKET = 0x81, "Malformed Packet", client DISCONNECT, server CONNACK | DISCONNECT;
    PROTOCOL_ERROR = 0x82, "Protocol Error", client DISCONNECT, server CONNACK | DISCONNECT;
    IMPLEMENTATION_SPECIFIC_ERROR = 0x83, "Implementation specific error", client PUB | DISCONNECT, server CONNACK | PUB | SUBACK | UNSUBACK | DISCONNECT;
    UNSUPPORTED_PROTOCOL_VERSION = 0x84, "Unsupported Protocol Version", client 0, server CONNACK;
    CLIENT_IDENTIFIER_NOT_VALID = 0x85, "Client Identifier not valid", client 0, server CONNACK;
    BAD_USER_NAME_OR_PASSWORD = 0x86, "Bad User Name or Password", client 0, server CONNACK;
    NOT_AUTHORIZED = 0x87, "Not authorized", client PUB, server CONNACK | PUB | SUBACK | UNSUBACK | DISCONNECT;
    SERVER_UNAVAILABLE = 0x88, "Server unavailable", client 0, server CONNACK;
    SERVER_BUSY = 0x89, "Server busy", client 0, server CONNACK | DISCONNECT;
    BANNED = 0x8A, "Banned", client 0, server CONNACK;
    SERVER_SHUTTING_DOWN = 0x8B, "Server shutting down", client 0, server DISCONNECT;
    BAD_AUTHENTICATION_METHOD = 0x8C, "Bad authentication method", client 0, server CONNACK | DISCONNECT;
    KEEP_ALIVE_TIMEOUT = 0x8D, "Keep Alive timeout", client 0, server DISCONNECT;
    SESSION_TAKEN_OVER = 0x8E, "Session taken over", client 0, server DISCONNECT;
    TOPIC_FILTER_INVALID = 0x8F, "Topic Filter invalid", client 0, server SUBACK | UNSUBACK | DISCONNECT;
    TOPIC_NAME_INVALID = 0x90, "Topic Name invalid", client PUB | DISCONNECT, server CONNACK | PUB | DISCONNECT;
    PACKET_IDENTIFIER_IN_USE = 0x91, "Packet Identifier in use", client PUB, server PUB | SUBACK | UNSUBACK;
    PACKET_IDENTIFIER_NOT_FOUND = 0x92, "Packet Identifier not found", client REL, server REL;
    RECEIVE_MAXIMUM_EXCEEDED = 0x93, "Receive Maximum exceeded", client DISCONNECT, server DISCONNECT;
    TOPIC_ALIAS_INVALID = 0x94, "Topic Alias invalid", client DISCONNECT, server DISCONNECT;
    PACKET_TOO_LARGE = 0x95, "Packet too large", client DISCONNECT, server CONNACK | DISCONNECT;
    MESSAGE_RATE_TOO_HIGH = 0x96, "Message rate too high", client DISCONNECT, server DISCONNECT;
    QUOTA_EXCEEDED = 0x97, "Quota exceeded", client PUB | DISCONNECT, server CONNACK | PUB | SUBACK | DISCONNECT;
    ADMINISTRATIVE_ACTION = 0x98, "Administrative action", client DISCONNECT, server DISCONNECT;
    PAYLOAD_FORMAT_INVALID = 0x99, "Payload format invalid", client PUB | DISCONNECT, server CONNACK | PUB | DISCONNECT;
    RETAIN_NOT_SUPPORTED = 0x9A, "Retain not supported", client 0, server CONNACK | DISCONNECT;
    QOS_NOT_SUPPORTED = 0x9B, "QoS not supported", client 0, server CONNACK | DISCONNECT;
    USE_ANOTHER_SERVER = 0x9C, "Use another server", client 0, server CONNACK | DISCONNECT;
    SERVER_MOVED = 0x9D, "Server moved", client 0, server CONNACK | DISCONNECT;
    SHARED_SUBSCRIPTIONS_NOT_SUPPORTED = 0x9E, "Shared Subscriptions not supported", client 0, server SUBACK | DISCONNECT;
    CONNECTION_RATE_EXCEEDED = 0x9F, "Connection rate exceeded", client 0, server CONNACK | DISCONNECT;
    MAXIMUM_CONNECT_TIME = 0xA0, "Maximum connect time", client 0, server DISCONNECT;
    SUBSCRIPTION_IDENTIFIERS_NOT_SUPPORTED = 0xA1, "Subscription Identifiers not supported", client 0, server SUBACK | DISCONNECT;
    WILDCARD_SUBSCRIPTIONS_NOT_SUPPORTED = 0xA2, "Wildcard Subscriptions not supported", client 0, server SUBACK | DISCONNECT;
}

impl ReasonCode {
    /// 0x00 in DISCONNECT: no will is sent.
    pub const NORMAL_DISCONNECTION: ReasonCode = ReasonCode::SUCCESS;
    /// 0x00 in SUBACK.
    pub const GRANTED_QOS_0: ReasonCode = ReasonCode::SUCCESS;

    /// The standard's name of the code; `Unknown reason code` for a byte that it does not define.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.row().map_or("Unknown reason code", |row| row.name)
    }

    /// Whether the operation failed: 0x80 and above (section 2.4).
    #[must_use]
    pub const fn is_error(self) -> bool {
        self.0 >= 0x80
    }

    /// Whether `sender` may put this code into a packet of type `kind`.
    #[must_use]
    pub fn allowed_in(self, kind: PacketType, sender: Sender) -> bool {
        self.row().is_some_and(|row| {
            let packets = match sender {
                Sender::Client => row.client,
                Sender::Server => row.server,
            };
            packets & bit(kind) != 0
        })
    }

    /// Every code that the standard defines, ascending.
    pub fn all() -> impl Iterator<Item = ReasonCode> {
        TABLE.iter().map(|row| row.code)
    }

    /// The closest return code of a 3.1 or 3.1.1 CONNACK (3.1.1 table 3.1). `None`: no return code applies and the connection is
    /// closed without a CONNACK [3.1.1 MQTT-3.2.2-6].
    #[must_use]
    pub const fn connack_return_code_v3(self) -> Option<u8> {
        match self {
            Self::SUCCESS => Some(0),
            Self::UNSUPPORTED_PROTOCOL_VERSION => Some(1),
            Self::CLIENT_IDENTIFIER_NOT_VALID => Some(2),
            Self::SERVER_UNAVAILABLE
            | Self::SERVER_BUSY
            | Self::QUOTA_EXCEEDED
            | Self::USE_ANOTHER_SERVER
            | Self::SERVER_MOVED
            | Self::CONNECTION_RATE_EXCEEDED => Some(3),
            Self::BAD_USER_NAME_OR_PASSWORD => Some(4),
            Self::NOT_AUTHORIZED | Self::BANNED => Some(5),
            _ => None,
        }
    }

    /// The reason code for a 3.x CONNACK return code; `None` for the reserved ones, 6 to 255.
    #[must_use]
    pub const fn from_connack_return_code_v3(code: u8) -> Option<ReasonCode> {
        match code {
            0 => Some(Self::SUCCESS),
            1 => Some(Self::UNSUPPORTED_PROTOCOL_VERSION),
            2 => Some(Self::CLIENT_IDENTIFIER_NOT_VALID),
            3 => Some(Self::SERVER_UNAVAILABLE),
            4 => Some(Self::BAD_USER_NAME_OR_PASSWORD),
            5 => Some(Self::NOT_AUTHORIZED),
            _ => None,
        }
    }

    fn row(self) -> Option<&'static Row> {
        TABLE.binary_search_by_key(&self.0, |row| row.code.0).ok().map(|at| &TABLE[at])
    }
}

impl std::fmt::Debug for ReasonCode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "0x{:02X} {}", self.0, self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_sorted_and_complete() {
        assert!(TABLE.windows(2).all(|pair| pair[0].code.0 < pair[1].code.0), "binary search needs the order");
        assert_eq!(TABLE.len(), 43, "section 2.4 defines 43 values");
        assert!(TABLE.iter().all(|row| row.client | row.server != 0), "each is said by someone");
    }

    #[test]
    fn return_codes_of_3x_come_back_as_themselves() {
        for code in 0..=5 {
            let reason = ReasonCode::from_connack_return_code_v3(code).expect("defined");
            assert_eq!(reason.connack_return_code_v3(), Some(code));
            assert!(reason.allowed_in(PacketType::ConnAck, Sender::Server));
        }
        assert_eq!(ReasonCode::from_connack_return_code_v3(6), None);
        assert_eq!(ReasonCode::MALFORMED_PACKET.connack_return_code_v3(), None);
    }

    #[test]
    fn who_may_say_what() {
        use PacketType::{Auth, Disconnect, PubAck, PubRel};
        assert!(ReasonCode::DISCONNECT_WITH_WILL_MESSAGE.allowed_in(Disconnect, Sender::Client));
        assert!(!ReasonCode::DISCONNECT_WITH_WILL_MESSAGE.allowed_in(Disconnect, Sender::Server));
        assert!(!ReasonCode::SESSION_TAKEN_OVER.allowed_in(Disconnect, Sender::Client));
        assert!(!ReasonCode::RE_AUTHENTICATE.allowed_in(Auth, Sender::Server));
        assert!(!ReasonCode::PACKET_IDENTIFIER_NOT_FOUND.allowed_in(PubAck, Sender::Client));
        assert!(ReasonCode::PACKET_IDENTIFIER_NOT_FOUND.allowed_in(PubRel, Sender::Client));
        assert!(!ReasonCode(0x03).allowed_in(Disconnect, Sender::Client), "undefined");
        assert!(ReasonCode(0x80).is_error() && !ReasonCode(0x19).is_error());
    }

    /// [MQTT-3.2.2-8] [MQTT-3.4.2-1] [MQTT-3.5.2-1] [MQTT-3.6.2-1] [MQTT-3.7.2-1] [MQTT-3.9.3-2] [MQTT-3.11.3-2]
    /// [MQTT-3.14.2-1] [MQTT-3.15.2-1]
    #[test]
    fn each_code_stands_in_the_packets_that_section_2_4_gives_it() {
        // The column "Packets", P for PUBACK and PUBREC, R for PUBREL and PUBCOMP, C for CONNACK, S for SUBACK, U for
        // UNSUBACK, D for DISCONNECT, A for AUTH.
        const COLUMN: &[(u8, &str)] = &[
            (0x00, "CPRUADS"),
            (0x01, "S"),
            (0x02, "S"),
            (0x04, "D"),
            (0x10, "P"),
            (0x11, "U"),
            (0x18, "A"),
            (0x19, "A"),
            (0x80, "CPSUD"),
            (0x81, "CD"),
            (0x82, "CD"),
            (0x83, "CPSUD"),
            (0x84, "C"),
            (0x85, "C"),
            (0x86, "C"),
            (0x87, "CPSUD"),
            (0x88, "C"),
            (0x89, "CD"),
            (0x8A, "C"),
            (0x8B, "D"),
            (0x8C, "CD"),
            (0x8D, "D"),
            (0x8E, "D"),
            (0x8F, "SUD"),
            (0x90, "CPD"),
            (0x91, "PSU"),
            (0x92, "R"),
            (0x93, "D"),
            (0x94, "D"),
            (0x95, "CD"),
            (0x96, "D"),
            (0x97, "CPSD"),
            (0x98, "D"),
            (0x99, "CPD"),
            (0x9A, "CD"),
            (0x9B, "CD"),
            (0x9C, "CD"),
            (0x9D, "CD"),
            (0x9E, "SD"),
            (0x9F, "CD"),
            (0xA0, "D"),
            (0xA1, "SD"),
            (0xA2, "SD"),
        ];
        for code in 0..=255 {
            let packets = COLUMN.iter().find(|(listed, _)| *listed == code).map_or("", |(_, packets)| packets);
            for (letter, kind) in [
                ('C', PacketType::ConnAck),
                ('P', PacketType::PubAck),
                ('P', PacketType::PubRec),
                ('R', PacketType::PubRel),
                ('R', PacketType::PubComp),
                ('S', PacketType::SubAck),
                ('U', PacketType::UnsubAck),
                ('D', PacketType::Disconnect),
                ('A', PacketType::Auth),
            ] {
                let reason = ReasonCode(code);
                let either = [Sender::Client, Sender::Server].iter().any(|end| reason.allowed_in(kind, *end));
                assert_eq!(either, packets.contains(letter), "{reason:?} in {kind:?}");
            }
        }
    }

    /// Finding M1. [MQTT-3.4.2-1] and [MQTT-3.5.2-1] bind both ends to one list; that only a server sends 0x10 is an aside in the
    /// table, and the bridge of a broker, a client here, sends it.
    #[test]
    fn finding_m1_both_ends_acknowledge_with_the_same_codes() {
        use PacketType::{PubAck, PubComp, PubRec, PubRel};
        for kind in [PubAck, PubRec, PubRel, PubComp] {
            for code in (0..=255).map(ReasonCode) {
                assert_eq!(code.allowed_in(kind, Sender::Client), code.allowed_in(kind, Sender::Server), "{code:?}");
            }
        }
        assert!(ReasonCode::NO_MATCHING_SUBSCRIBERS.allowed_in(PubAck, Sender::Client));
        assert!(!ReasonCode::NO_MATCHING_SUBSCRIBERS.is_error());
    }

    #[test]
    fn what_only_one_end_says() {
        use PacketType::{Auth, Disconnect};
        // Section 3.14.2.1: a client sends these codes, and no others.
        let client = [0x00, 0x04, 0x80, 0x81, 0x82, 0x83, 0x90, 0x93, 0x94, 0x95, 0x96, 0x97, 0x98, 0x99];
        for code in 0..=255 {
            assert_eq!(ReasonCode(code).allowed_in(Disconnect, Sender::Client), client.contains(&code), "{code:#04x}");
            // Section 3.15.2.1.
            assert_eq!(ReasonCode(code).allowed_in(Auth, Sender::Client), [0x18, 0x19].contains(&code));
            assert_eq!(ReasonCode(code).allowed_in(Auth, Sender::Server), [0x00, 0x18].contains(&code));
        }
    }
}
