//! The names of the fields that rules may read: of a message, of a record of a source, of an event.

macro_rules! fields {
    ($($field:ident $name:literal,)*) => {
        /// A field of an evaluation's subject.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        #[allow(missing_docs, reason = "its name says it; messages, records and events have a table each")]
        pub enum Field {
            $($field,)*
        }

        impl Field {
            /// All fields, in descending order of their names.
            pub const ALL: &[Self] = &[$(Self::$field,)*];

            /// The field's name in SQL.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$field => $name,)* }
            }
        }
    };
}

fields! {
    Value "value",
    Username "username",
    UnsubProps "unsub_props",
    TsType "ts_type",
    Ts "ts",
    Topic "topic",
    Timestamp "timestamp",
    SubProps "sub_props",
    Sockname "sockname",
    Result "result",
    ReasonCode "reason_code",
    Reason "reason",
    Qos "qos",
    PublishReceivedAt "publish_received_at",
    PubProps "pub_props",
    ProtoVer "proto_ver",
    ProtoName "proto_name",
    Peername "peername",
    Peerhost "peerhost",
    Payload "payload",
    Partition "partition",
    Offset "offset",
    Node "node",
    Mountpoint "mountpoint",
    Metadata "metadata",
    Key "key",
    Keepalive "keepalive",
    IsSuperuser "is_superuser",
    IsBridge "is_bridge",
    IsAnonymous "is_anonymous",
    Id "id",
    Headers "headers",
    Flags "flags",
    ExpiryInterval "expiry_interval",
    Event "event",
    DisconnectedAt "disconnected_at",
    DisconnProps "disconn_props",
    ConnectedAt "connected_at",
    ConnProps "conn_props",
    Clientid "clientid",
    ClientAttrs "client_attrs",
    CleanStart "clean_start",
    AuthzSource "authz_source",
    Action "action",
}

/// Fields with a sentence each, in descending order of their names.
pub type Table = &'static [(Field, &'static str)];

impl Field {
    /// The field of this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|field| field.as_str() == name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Event;
    use crate::{message, record_fields};

    #[test]
    fn fields_stand_in_descending_order_of_their_names() {
        assert!(Field::ALL.is_sorted_by(|one, other| one.as_str() > other.as_str()));
        let tables = Event::ALL.iter().map(|event| event.fields());
        for table in tables.chain([message::FIELDS, record_fields::FIELDS]) {
            assert!(table.is_sorted_by(|(one, _), (other, _)| one.as_str() > other.as_str()), "{table:?}");
        }
    }
}
