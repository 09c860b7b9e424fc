//! Events that FROM may name: those of clients and their sessions, by EMQX's names.

use super::field::{Field, Table};

macro_rules! events {
    ($($event:ident $old:literal $new:literal $value:literal $table:ident $sentence:literal,)*) => {
        /// Something that happens.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Event {
            $(#[doc = $sentence] $event,)*
        }

        impl Event {
            /// All events.
            pub const ALL: &[Self] = &[$(Self::$event,)*];

            /// The event's names, without the prefix in FROM: EMQX's current one, and EMQX's earlier one.
            #[must_use]
            pub const fn names(self) -> [&'static str; 2] {
                match self { $(Self::$event => [$new, $old],)* }
            }

            /// `event`.
            #[must_use]
            pub const fn value(self) -> &'static str {
                match self { $(Self::$event => $value,)* }
            }

            /// The fields of the event that rules see.
            #[must_use]
            pub const fn fields(self) -> Table {
                match self { $(Self::$event => $table,)* }
            }

            /// The occasion of the event, for the documents.
            #[must_use]
            pub const fn sentence(self) -> &'static str {
                match self { $(Self::$event => $sentence,)* }
            }
        }
    };
}

events! {
    ClientConnected "client_connected" "client/connected" "client.connected" CONNECTED "A client has connected.",
    ClientDisconnected "client_disconnected" "client/disconnected" "client.disconnected" DISCONNECTED "The connection of a client has ended.",
    ClientConnack "client_connack" "client/connack" "client.connack" CONNACK "A CONNECT is answered, or would be if the client could be told.",
    ClientCheckAuthnComplete "client_check_authn_complete" "auth/check_authn_complete" "client.check_authn_complete" AUTHN "A client was admitted or refused.",
    SessionSubscribed "session_subscribed" "session/subscribed" "session.subscribed" SUBSCRIBED "A client has subscribed; each filter is an event.",
    SessionUnsubscribed "session_unsubscribed" "session/unsubscribed" "session.unsubscribed" UNSUBSCRIBED "A client has ended a subscription with UNSUBSCRIBE; each filter is an event.",
    MessageDropped "message_dropped" "message/dropped" "message.dropped" DROPPED "Nobody wanted a message of a client, a bridge or a will: no subscriber, no sink, no rule.",
    DeliveryDropped "delivery_dropped" "message/delivery_dropped" "delivery.dropped" DELIVERY_DROPPED "A copy of a message was dropped that a subscriber had not got yet.",
    ClientPing "client_ping" "client/ping" "client.ping" PING "A client has sent PINGREQ.",
}

/// The prefix of events' names in FROM.
pub const PREFIX: &str = "$events/";

/// Events that EMQX has beside these.
const OTHERS: [&str; 16] = [
    "message_delivered",
    "message_acked",
    "client_check_authz_complete",
    "schema_validation_failed",
    "message_transformation_failed",
    "message/delivered",
    "message/acked",
    "auth/check_authz_complete",
    "schema_validation/failed",
    "message_transformation/failed",
    "sys/alarm_activated",
    "sys/alarm_deactivated",
    "alarm_activated",
    "alarm_deactivated",
    "message_publish",
    "message/publish",
];

const USERNAME: (Field, &str) = (Field::Username, "User name of the client; absent if it gave none.");
const TIMESTAMP: (Field, &str) = (Field::Timestamp, "Time of the event, milliseconds since 1970-01-01 UTC.");
const SOCKNAME: (Field, &str) = (Field::Sockname, "Address of the listener, as configured.");
const PROTO_VER: (Field, &str) = (Field::ProtoVer, "3 for MQTT 3.1, 4 for 3.1.1, 5 for 5.0.");
const PROTO_NAME: (Field, &str) = (Field::ProtoName, "`MQTT`; of MQTT 3.1 `MQIsdp`.");
const PEERNAME: (Field, &str) = (Field::Peername, "Address and port of the client.");
const PEERHOST: (Field, &str) = (Field::Peerhost, "Address of the client.");
const NODE: (Field, &str) = (Field::Node, "Name of this node.");
const METADATA: (Field, &str) = (Field::Metadata, "`rule_id`: the name of the rule.");
const KEEPALIVE: (Field, &str) = (Field::Keepalive, "Keep Alive of the CONNECT, in seconds.");
const EXPIRY_INTERVAL: (Field, &str) = (Field::ExpiryInterval, "How long the session is kept, in seconds.");
const EVENT: (Field, &str) = (Field::Event, "The name of the event.");
const PUB_PROPS: (Field, &str) = (Field::PubProps, "MQTT 5 properties, by the standard's names with hyphens.");
const FLAGS: (Field, &str) = (Field::Flags, "`retain` and `dup`, booleans.");
const CONN_PROPS: (Field, &str) = (Field::ConnProps, "Properties of the CONNECT, as `pub_props` of a message.");
const CLIENTID: (Field, &str) = (Field::Clientid, "Client ID.");
const CLIENT_ATTRS: (Field, &str) = (Field::ClientAttrs, "Attributes of the client: `{}`, as nothing sets any yet.");
const CLEAN_START: (Field, &str) = (Field::CleanStart, "Clean Start, before 5.0 Clean Session: a boolean.");
const REASON_CODE: (Field, &str) =
    (Field::ReasonCode, "`success`, or the name of the reason code: `not_authorized`, `bad_username_or_password`, …");

const CONNECTED: Table = &[
    USERNAME,
    TIMESTAMP,
    SOCKNAME,
    PROTO_VER,
    PROTO_NAME,
    PEERNAME,
    NODE,
    METADATA,
    KEEPALIVE,
    (Field::IsBridge, "Whether the client says that it is a bridge, before 5.0."),
    EXPIRY_INTERVAL,
    EVENT,
    (Field::ConnectedAt, "The same as `timestamp`."),
    CONN_PROPS,
    CLIENTID,
    CLIENT_ATTRS,
    CLEAN_START,
];

const DISCONNECTED: Table = &[
    (
        Field::Username,
        "User name of the client; absent if it gave none, or where another connection takes over and the listener asks for no authentication.",
    ),
    TIMESTAMP,
    SOCKNAME,
    (
        Field::Reason,
        "`normal`, `tcp_closed`, `keepalive_timeout`, `takenover`, `kicked`, `not_authorized`; else the name of the reason code of the DISCONNECT: `protocol_error`, `server_shutting_down`, …",
    ),
    PROTO_VER,
    PROTO_NAME,
    PEERNAME,
    NODE,
    METADATA,
    EVENT,
    (Field::DisconnectedAt, "The same as `timestamp`."),
    (Field::ConnectedAt, "When the connection began, to a tenth of a second."),
    CLIENTID,
    CLIENT_ATTRS,
];

const CONNACK: Table = &[
    USERNAME,
    TIMESTAMP,
    SOCKNAME,
    REASON_CODE,
    PROTO_VER,
    PROTO_NAME,
    PEERNAME,
    NODE,
    METADATA,
    KEEPALIVE,
    EXPIRY_INTERVAL,
    EVENT,
    CONN_PROPS,
    CLIENTID,
    CLEAN_START,
];

const AUTHN: Table = &[
    USERNAME,
    TIMESTAMP,
    REASON_CODE,
    PEERNAME,
    NODE,
    METADATA,
    (Field::IsSuperuser, "False: there are none."),
    (Field::IsAnonymous, "Whether the listener asks for no authentication."),
    EVENT,
    CLIENTID,
];

const SUBSCRIBED: Table = &[
    USERNAME,
    (Field::Topic, "The filter."),
    TIMESTAMP,
    (Field::SubProps, "Properties of the SUBSCRIBE: `'User-Property'`, `Subscription-Identifier`."),
    (Field::Qos, "The QoS that was granted."),
    PEERNAME,
    PEERHOST,
    NODE,
    METADATA,
    EVENT,
    CLIENTID,
    CLIENT_ATTRS,
];

const UNSUBSCRIBED: Table = &[
    USERNAME,
    (Field::UnsubProps, "Properties of the UNSUBSCRIBE: `'User-Property'`."),
    (Field::Topic, "The filter."),
    TIMESTAMP,
    PEERNAME,
    PEERHOST,
    NODE,
    METADATA,
    EVENT,
    CLIENTID,
    CLIENT_ATTRS,
];

/// The reason of a message without subscribers.
pub const NO_SUBSCRIBERS: &str = "no_subscribers";

const REASON_OF_COPY: &str = "`queue_full`, `expired`, `qos0_msg` (of QoS 0, and the client is away), `slow`, `too_large`, `refused`, `unfit`, `no_rights`, `unsubscribed`, `session_ended`, `share_gone`.";

const DROPPED: Table = &[
    USERNAME,
    (Field::Topic, "MQTT topic."),
    TIMESTAMP,
    (Field::Reason, "`no_subscribers`."),
    (Field::Qos, "QoS with which it was published: 0, 1, 2."),
    (Field::PublishReceivedAt, "When it came in; of a will, when that became due."),
    PUB_PROPS,
    (Field::Peername, "Address and port of the publisher, if it is connected."),
    (Field::Peerhost, "Address of the publisher, if it is connected."),
    (Field::Payload, "The payload, a text."),
    NODE,
    METADATA,
    FLAGS,
    EVENT,
    (Field::Clientid, "Client ID of the publisher."),
    CLIENT_ATTRS,
];

const DELIVERY_DROPPED: Table = &[
    (Field::Username, "User name of the subscriber; absent if it gave none."),
    (Field::Topic, "MQTT topic."),
    TIMESTAMP,
    (Field::Reason, REASON_OF_COPY),
    (Field::Qos, "QoS with which it was published: 0, 1, 2."),
    PUB_PROPS,
    (Field::Payload, "The payload, a text."),
    NODE,
    METADATA,
    FLAGS,
    EVENT,
    (
        Field::Clientid,
        "Client ID of the subscriber; absent if the copy waited for any member of a shared subscription.",
    ),
    CLIENT_ATTRS,
];

const PING: Table =
    &[USERNAME, TIMESTAMP, SOCKNAME, PROTO_VER, PROTO_NAME, PEERNAME, NODE, METADATA, EVENT, CLIENTID, CLIENT_ATTRS];

impl Event {
    /// Whether a message that a rule publishes for the event can raise the event again.
    #[must_use]
    pub const fn feeds_itself(self) -> bool {
        matches!(self, Self::DeliveryDropped)
    }

    /// The event of this name, either of the two, with or without the prefix in FROM.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        let name = name.strip_prefix(PREFIX).unwrap_or(name);
        Self::ALL.iter().copied().find(|event| event.names().contains(&name))
    }

    /// Whether EMQX has an event of this name that Forebay does not have yet.
    #[must_use]
    pub fn is_missing(name: &str) -> bool {
        OTHERS.contains(&name.strip_prefix(PREFIX).unwrap_or(name))
    }

    /// The event's name in FROM.
    #[must_use]
    pub fn from(self) -> String {
        format!("{PREFIX}{}", self.names()[0])
    }
}

/// A set of events.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EventSet(u16);

impl EventSet {
    /// Adds one.
    pub const fn add(&mut self, event: Event) {
        self.0 |= 1 << event as u16;
    }

    /// Whether the set contains an event.
    #[must_use]
    #[inline]
    pub const fn has(self, event: Event) -> bool {
        self.0 & (1 << event as u16) != 0
    }
}
