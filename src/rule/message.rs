//! The fields of a message, as rules see them.

use super::arena::Arena;
use super::failure::Reason;
use super::template::MessageContext;
use super::value::{Member, Value};
use crate::mqtt::property::Properties;

/// A message.
#[derive(Clone, Copy, Debug)]
pub struct Message<'m> {
    /// Topic, client, flags, payload, time of receipt, properties.
    pub context: MessageContext<'m>,
    /// `id`.
    pub id: Id<'m>,
    /// `peerhost`: the address of the client; a will has none.
    pub peerhost: Option<&'m str>,
    /// `peername`: with the port.
    pub peername: Option<&'m str>,
    /// `node`.
    pub node: &'m str,
    /// What takes the place of a field that is made of more than one thing, as JSON objects. For messages that are made up.
    pub given: Given<'m>,
}

/// The number of a message.
#[derive(Clone, Copy, Debug)]
pub enum Id<'m> {
    /// 32 hexadecimal digits are made of it.
    Number(u128),
    /// As it is.
    Text(&'m str),
}

/// Fields of a message that is made up, as JSON objects.
#[derive(Clone, Copy, Debug, Default)]
pub struct Given<'m> {
    /// `pub_props`, in the place of the packet's.
    pub pub_props: Option<&'m str>,
    /// `metadata`, in the place of the rule's.
    pub metadata: Option<&'m str>,
    /// `client_attrs`: what authentication knows of the client.
    pub client_attrs: Option<&'m str>,
}

macro_rules! fields {
    ($($field:ident $name:literal $sentence:literal,)*) => {
        /// A field of a message.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Field {
            $(#[doc = $sentence] $field,)*
        }

        impl Field {
            /// All of them, in descending order of their names.
            pub const ALL: &[Self] = &[$(Self::$field,)*];

            /// Its name in SQL.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$field => $name,)* }
            }

            /// What it is, for the documents.
            #[must_use]
            pub const fn sentence(self) -> &'static str {
                match self { $(Self::$field => $sentence,)* }
            }
        }
    };
}

fields! {
    Username "username" "User name of the client; absent if it gave none.",
    Topic "topic" "MQTT topic.",
    Timestamp "timestamp" "Time of receipt, milliseconds since 1970-01-01 UTC.",
    Qos "qos" "QoS with which it was published: 0, 1, 2.",
    PublishReceivedAt "publish_received_at" "The same as `timestamp`.",
    PubProps "pub_props" "MQTT 5 properties, by the standard's names with hyphens. `'User-Property'` is an object (of equal names the last one), `'User-Property-Pairs'` the list of all.",
    Peername "peername" "Address and port of the client; absent for a will.",
    Peerhost "peerhost" "Address of the client; absent for a will.",
    Payload "payload" "The payload, a text. A path into it, `payload.a.b[1]`, reads it as JSON.",
    Node "node" "Name of this node.",
    Metadata "metadata" "`rule_id`: the name of the rule.",
    Id "id" "Number of the message, 32 hexadecimal digits.",
    Flags "flags" "`retain` and `dup`, booleans.",
    Event "event" "`message.publish`.",
    Clientid "clientid" "Client ID.",
    ClientAttrs "client_attrs" "What authentication knows of the client; `{}` if nothing.",
}

impl Field {
    /// By its name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|field| field.as_str() == name)
    }
}

impl<'m> Message<'m> {
    /// The value of a field.
    pub(super) fn field<'a>(&'a self, field: Field, rule: &'a str, arena: &'a Arena) -> Result<Value<'a>, Reason>
    where
        'm: 'a,
    {
        let context = &self.context;
        let optional = |text: Option<&'a str>| text.map_or(Value::Absent, Value::text);
        let json = |text: &'a str| arena.decode(text.as_bytes());
        Ok(match field {
            Field::Username => optional(context.username),
            Field::Topic => Value::text(context.topic),
            Field::Timestamp | Field::PublishReceivedAt => Value::Int(context.timestamp_ms),
            Field::Qos => Value::Int(i64::from(context.qos)),
            Field::Payload => Value::Text(context.payload),
            Field::Clientid => Value::text(context.client_id),
            Field::Peerhost => optional(self.peerhost),
            Field::Peername => optional(self.peername),
            Field::Node => Value::text(self.node),
            Field::Event => Value::text("message.publish"),
            Field::Id => match self.id {
                Id::Text(text) => Value::text(text),
                Id::Number(number) => arena.format(format_args!("{number:032X}"))?,
            },
            Field::Flags => {
                let member = |name, is_set| Member { name, value: Value::Bool(is_set) };
                Value::Object(arena.slice(&[member("dup", context.dup), member("retain", context.retain)])?)
            }
            Field::PubProps => match self.given.pub_props {
                Some(text) => json(text)?,
                None => Value::Object(properties(context.properties, arena)?),
            },
            Field::Metadata => match self.given.metadata {
                Some(text) => json(text)?,
                None => {
                    let member = |name, value| Member { name, value: Value::text(value) };
                    Value::Object(arena.slice(&[member("namespace", "global"), member("rule_id", rule)])?)
                }
            },
            Field::ClientAttrs => json(self.given.client_attrs.unwrap_or("{}"))?,
        })
    }
}

/// `pub_props`.
fn properties<'a>(properties: Properties<'a>, arena: &'a Arena) -> Result<&'a [Member<'a>], Reason> {
    let mut all = arena.list::<Member<'a>>();
    let (mut users, mut pairs) = (arena.list::<Member<'a>>(), arena.list::<Value<'a>>());
    for (name, text) in properties.user_properties() {
        users.push(Member { name, value: Value::text(text) })?;
        let pair =
            [Member { name: "key", value: Value::text(name) }, Member { name: "value", value: Value::text(text) }];
        pairs.push(Value::Object(arena.slice(&pair)?))?;
    }
    let texts = [
        ("Content-Type", properties.content_type().map(str::as_bytes)),
        ("Correlation-Data", properties.correlation_data()),
        ("Response-Topic", properties.response_topic().map(str::as_bytes)),
    ];
    let numbers = [
        ("Message-Expiry-Interval", properties.message_expiry_interval_s().map(i64::from)),
        ("Payload-Format-Indicator", properties.payload_format_indicator().map(i64::from)),
    ];
    for (name, text) in texts {
        if let Some(text) = text {
            all.push(Member { name, value: Value::Text(text) })?;
        }
    }
    for (name, number) in numbers {
        if let Some(number) = number {
            all.push(Member { name, value: Value::Int(number) })?;
        }
    }
    let has_users = !pairs.as_slice().is_empty();
    all.push(Member { name: "User-Property", value: Value::Object(users.into_members()?) })?;
    if has_users {
        all.push(Member { name: "User-Property-Pairs", value: Value::Array(pairs.finish()) })?;
    }
    all.into_members()
}
