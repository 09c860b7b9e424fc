//! Every way a connection ends, and the message to the client: DISCONNECT with a reason in 5.0, nothing before.
//!
//! 3.x servers send no DISCONNECT; they close. So an [`End`] is written for every client, and only 5.0 clients get bytes.

use super::peer::Peer;
use forebay_mqtt::Malformed;
use forebay_mqtt::packet::{Disconnect, Packet, PacketType, Sender, Version};
use forebay_mqtt::property::{Properties, Property, PropertyBuf};
use forebay_mqtt::reason::ReasonCode;

/// A violation of the protocol by a client. The connection ends with it [MQTT-4.13.1-1].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The code in DISCONNECT, or in CONNACK while there is no session.
    pub reason: ReasonCode,
    /// The sentence that was broken, `MQTT-3.3.4-9`, or the section.
    pub clause: &'static str,
    /// The violation in a few words.
    pub what: &'static str,
}

impl From<Malformed> for Violation {
    fn from(malformed: Malformed) -> Self {
        Self { reason: malformed.reason, clause: malformed.clause, what: malformed.what }
    }
}

macro_rules! violations {
    ($($name:ident = $reason:ident, $clause:literal, $what:literal;)*) => {
        impl Violation {
            $(
                #[doc = concat!($what, " [", $clause, "].")]
                pub const $name: Violation =
                    Violation { reason: ReasonCode::$reason, clause: $clause, what: $what };
            )*

            /// Every violation this room knows.
            #[cfg(test)]
            pub(super) const ALL: &[Violation] = &[$(Violation::$name),*];
        }
    };
}

violations! {
    // [3.1.1 MQTT-3.1.3-8] [3.1.1 MQTT-3.1.3-7]
    CLIENT_ID_EMPTY = CLIENT_IDENTIFIER_NOT_VALID, "MQTT-3.1.3-8", "a client without an identifier must ask for a clean session";
    AUTHENTICATION_METHOD = BAD_AUTHENTICATION_METHOD, "MQTT-4.12.0-1", "no extended authentication here";
    // [MQTT-3.1.3-8]
    CLIENT_ID_FOREIGN = CLIENT_IDENTIFIER_NOT_VALID, "section 3.1.3.1", "a client identifier that its identity may not use";
    SESSION_FOREIGN = NOT_AUTHORIZED, "section 3.1.2.4", "the session of this client identifier belongs to another identity";
    WILL_DENIED = NOT_AUTHORIZED, "section 3.1.2.5", "not authorized to publish to the topic of the will";
    CONNECTS_OF_USER = CONNECTION_RATE_EXCEEDED, "section 3.2.2.2", "its user connects more often than it may";
    CONNECTIONS_OF_USER = QUOTA_EXCEEDED, "section 3.2.2.2", "its user has as many connections as it may";
    SESSIONS_OF_USER = QUOTA_EXCEEDED, "section 3.2.2.2", "its user has as many kept sessions as it may";
    WILL_TOO_LARGE = QUOTA_EXCEEDED, "section 3.2.2.2", "the will is larger than its user may leave";
    SESSION_OF_USER_TOO_LARGE = QUOTA_EXCEEDED, "section 3.2.2.2", "client identifier, user name and will are larger than a session of its user may be";
    OUTDATED = SERVER_UNAVAILABLE, "section 3.1.4", "the CONNECT has waited, and the client has connected elsewhere since";
    TAKEOVERS = CONNECTION_RATE_EXCEEDED, "section 3.1.4", "the client identifier is taken over again and again: do two clients have the same?";
    SESSIONS_MAX = QUOTA_EXCEEDED, "section 3.2.2.2", "no room for another session";
    SESSION_TOO_LARGE = QUOTA_EXCEEDED, "section 3.2.2.2", "client identifier, user name and will are larger than a kept session may be";
    SESSION_BYTES = QUOTA_EXCEEDED, "section 3.2.2.2", "identifiers, user names and wills fill the memory set aside for them";
    SPOOL_FULL = QUOTA_EXCEEDED, "section 3.2.2.2", "the spool has no room for another kept session";
    SESSIONS_AWAY = SERVER_UNAVAILABLE, "section 3.2.2.2", "Kafka, which has the kept sessions, has not answered within connect_timeout";
    PACKET_SIZE_TINY = PACKET_TOO_LARGE, "MQTT-3.1.2-24", "CONNACK does not fit the Maximum Packet Size asked for";
    WILL_QOS = QOS_NOT_SUPPORTED, "MQTT-3.2.2-12", "will of a higher QoS than is taken here";
    WILL_RETAIN = RETAIN_NOT_SUPPORTED, "MQTT-3.2.2-13", "retained will, and nothing is retained here";
    PUBLISH_QOS = QOS_NOT_SUPPORTED, "MQTT-3.2.2-11", "QoS above the Maximum QoS of CONNACK";
    PUBLISH_RETAIN = RETAIN_NOT_SUPPORTED, "MQTT-3.2.2-14", "RETAIN, and CONNACK said it is not available";
    RECEIVE_MAXIMUM = RECEIVE_MAXIMUM_EXCEEDED, "MQTT-3.3.4-7", "more unanswered publishes than Receive Maximum";
    BLOCKED = RECEIVE_MAXIMUM_EXCEEDED, "section 4.9", "more unanswered publishes than are held for one connection";
    OPEN_IDS = RECEIVE_MAXIMUM_EXCEEDED, "section 4.9", "more QoS 2 packet identifiers open than are held for one session";
    // [MQTT-3.2.2-17] [MQTT-3.2.2-18]
    ALIAS_RANGE = TOPIC_ALIAS_INVALID, "MQTT-3.3.2-9", "topic alias 0, or above the Topic Alias Maximum of CONNACK";
    ALIAS_UNKNOWN = PROTOCOL_ERROR, "section 3.3.4", "empty topic name with an alias that was never set";
    ALIAS_BYTES = QUOTA_EXCEEDED, "section 3.3.2.3.4", "topic aliases hold too many bytes";
    TOPIC_EMPTY = PROTOCOL_ERROR, "section 3.3.2.1", "empty topic name and no alias";
    PUBREL_EARLY = PROTOCOL_ERROR, "MQTT-4.3.3-4", "PUBREL for a publish that has not been answered with PUBREC";
    SECOND_CONNECT = PROTOCOL_ERROR, "MQTT-3.1.0-2", "second CONNECT";
    SERVER_PACKET = PROTOCOL_ERROR, "section 2.1.2", "a packet that only servers send";
    AUTH_UNASKED = PROTOCOL_ERROR, "MQTT-4.12.0-7", "AUTH that nothing asked for";
    AUTH_OTHER_METHOD = PROTOCOL_ERROR, "MQTT-4.12.1-1", "AUTH with another authentication method than CONNECT";
    AUTH_TWICE = PROTOCOL_ERROR, "section 4.12.1", "an exchange begins while another is in progress";
    AUTH_EARLY = PROTOCOL_ERROR, "MQTT-3.1.2-30", "another packet than AUTH or DISCONNECT before CONNACK";
    AUTH_REFUSED = NOT_AUTHORIZED, "MQTT-4.12.1-2", "the client has not proved who it is";
    EXPIRY_RAISED = PROTOCOL_ERROR, "section 3.14.2.2.2", "session expiry set in DISCONNECT, and CONNECT said 0";
    SUBSCRIBE_WILDCARD = WILDCARD_SUBSCRIPTIONS_NOT_SUPPORTED, "section 3.2.2.3.11", "wildcard filter, and CONNACK said not available";
    SUBSCRIBE_IDENTIFIER = SUBSCRIPTION_IDENTIFIERS_NOT_SUPPORTED, "section 3.2.2.3.12", "subscription identifier, and CONNACK said not available";
    SUBSCRIBE_SHARED = SHARED_SUBSCRIPTIONS_NOT_SUPPORTED, "section 3.2.2.3.13", "shared filter, and CONNACK said not available";
}

/// The reason why a connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The client sent DISCONNECT: its will is forgotten [MQTT-3.14.4-3].
    Left,
    /// The client sent DISCONNECT with a reason other than 0x00: its will is sent (section 3.14.2.1).
    LeftWithWill,
    /// The socket closed or failed.
    Lost,
    /// The client broke a rule.
    Violation(Violation),
    /// Silence for 1.5 x Keep Alive [MQTT-3.1.2-22].
    KeepAliveTimeout,
    /// Another connection has used the same client identifier [MQTT-3.1.4-3].
    TakenOver,
    /// Drain.
    ShuttingDown,
    /// Another process serves the session from now on, and has the will, too.
    Moved,
    /// An answer was held for longer than `answer_timeout`: the client should reconnect and send again.
    AnswerTimeout,
    /// The operator ended the connection.
    Administrative,
    /// The client would not be admitted any more: its user is gone, or has another password.
    Revoked,
    /// The credentials that admitted the client were valid until a certain time, which is over.
    Expired,
    /// The answer has no form in the client's version of the protocol: a permanent refusal of a publish before 5.0, the refusal of
    /// a SUBSCRIBE in 3.1 [3.1.1 MQTT-4.8.0-2].
    NotExpressible,
}

impl End {
    /// The reason for a 5.0 DISCONNECT; `None`: no packet is sent.
    #[must_use]
    pub fn reason(self) -> Option<ReasonCode> {
        match self {
            // The destination of a move has been sent before: [`send_away`].
            Self::Left | Self::LeftWithWill | Self::Lost | Self::Moved => None,
            Self::Violation(violation) => Some(violation.reason),
            Self::KeepAliveTimeout => Some(ReasonCode::KEEP_ALIVE_TIMEOUT),
            Self::TakenOver => Some(ReasonCode::SESSION_TAKEN_OVER),
            Self::ShuttingDown => Some(ReasonCode::SERVER_SHUTTING_DOWN),
            Self::AnswerTimeout => Some(ReasonCode::SERVER_BUSY),
            Self::Administrative => Some(ReasonCode::ADMINISTRATIVE_ACTION),
            Self::Revoked => Some(ReasonCode::NOT_AUTHORIZED),
            Self::Expired => Some(ReasonCode::MAXIMUM_CONNECT_TIME),
            Self::NotExpressible => Some(ReasonCode::UNSPECIFIED_ERROR),
        }
    }

    /// Whether the will must be published: always, unless the client took its leave [MQTT-3.1.2-8] [MQTT-3.1.2-10].
    #[must_use]
    pub fn sends_will(self) -> bool {
        self != Self::Left
    }

    /// Appends the last packet to the client before the close: DISCONNECT in 5.0, nothing before.
    pub fn write(self, peer: Peer, out: &mut Vec<u8>) {
        if peer.is_remote {
            // As a client we leave with DISCONNECT, which has fewer codes (section 3.14.2.1).
            let is_said = |reason: &ReasonCode| reason.allowed_in(PacketType::Disconnect, Sender::Client);
            let reason = self.reason().filter(is_said).unwrap_or(ReasonCode::NORMAL_DISCONNECTION);
            if self != Self::Lost {
                peer.send(&disconnect(reason, Properties::default()), out);
            }
            return;
        }
        let Some(reason) = self.reason().filter(|_| peer.version == Version::V5) else { return };
        let Self::Violation(violation) = self else {
            peer.send(&disconnect(reason, Properties::default()), out);
            return;
        };
        let reason_string = violation.reason_string();
        let mut properties = PropertyBuf::default();
        properties.push(Property::ReasonString(&reason_string));
        if !peer.problem_information || !peer.send(&disconnect(reason, properties.as_properties()), out) {
            // A Reason String must not make the packet too large [MQTT-3.14.2-3]; there are no User Properties [MQTT-3.14.2-4].
            peer.send(&disconnect(reason, Properties::default()), out);
        }
    }
}

/// Sends a client of 5.0 to another server, before [`End::Moved`]: with that server's address, if there is one and it fits, else
/// with 0x8B. `is_for_good`: this server is about to stop (0x9D), and does not only lose a part of its clients (0x9C).
pub fn send_away(peer: Peer, server: Option<&str>, is_for_good: bool, out: &mut Vec<u8>) {
    if peer.version != Version::V5 || peer.is_remote {
        return;
    }
    let reason = if is_for_good { ReasonCode::SERVER_MOVED } else { ReasonCode::USE_ANOTHER_SERVER };
    let mut properties = PropertyBuf::new();
    properties.extend(server.map(Property::ServerReference));
    if server.is_none() || !peer.send(&disconnect(reason, properties.as_properties()), out) {
        peer.send(&disconnect(ReasonCode::SERVER_SHUTTING_DOWN, Properties::default()), out);
    }
}

fn disconnect(reason: ReasonCode, properties: Properties<'_>) -> Packet<'_> {
    Packet::Disconnect(Disconnect { reason, properties })
}

impl Violation {
    /// The reason for a developer on the other side: the words and the clause.
    pub(super) fn reason_string(&self) -> String {
        format!("{} [{}]", self.what, self.clause)
    }
}
