//! The fields of a message, as rules see them.

use super::arena::Arena;
use super::failure::Reason;
use super::field::{Field, Table};
use super::template::MessageContext;
use super::value::{Member, Value};
use forebay_mqtt::property::Properties;

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
    /// JSON objects in the place of fields that consist of several parts. For made-up messages.
    pub given: Given<'m>,
}

/// The number of a message.
#[derive(Clone, Copy, Debug)]
pub enum Id<'m> {
    /// A number, shown as 32 hexadecimal digits.
    Number(u128),
    /// A text, shown verbatim.
    Text(&'m str),
}

/// Fields of a message that is made up, as JSON objects.
#[derive(Clone, Copy, Debug, Default)]
pub struct Given<'m> {
    /// `pub_props`, in the place of the packet's.
    pub pub_props: Option<&'m str>,
    /// `metadata`, in the place of the rule's.
    pub metadata: Option<&'m str>,
    /// `client_attrs`: the attributes of the client from authentication.
    pub client_attrs: Option<&'m str>,
}

/// The fields of a message.
pub const FIELDS: Table = &[
    (Field::Username, "User name of the client; absent if it gave none."),
    (Field::Topic, "MQTT topic."),
    (Field::Timestamp, "Time of receipt, milliseconds since 1970-01-01 UTC."),
    (Field::Qos, "QoS with which it was published: 0, 1, 2."),
    (Field::PublishReceivedAt, "The same as `timestamp`."),
    (
        Field::PubProps,
        "MQTT 5 properties, by the standard's names with hyphens. `'User-Property'` is an object (of equal names the last one), `'User-Property-Pairs'` the list of all.",
    ),
    (Field::Peername, "Address and port of the client; absent for a will."),
    (Field::Peerhost, "Address of the client; absent for a will."),
    (Field::Payload, "The payload, a text. A path into it, `payload.a.b[1]`, reads it as JSON."),
    (Field::Node, "Name of this node."),
    (Field::Metadata, "`rule_id`: the name of the rule."),
    (Field::Id, "Number of the message, 32 hexadecimal digits."),
    (Field::Flags, "`retain` and `dup`, booleans."),
    (Field::Event, "`message.publish`."),
    (Field::Clientid, "Client ID."),
    (Field::ClientAttrs, "Attributes of the client: `{}`, as nothing sets any yet."),
];

impl<'m> Message<'m> {
    /// The value of a field. `None`: the message does not have the field.
    pub(super) fn field<'a>(
        &'a self,
        field: Field,
        rule: &'a str,
        arena: &'a Arena,
    ) -> Result<Option<Value<'a>>, Reason>
    where
        'm: 'a,
    {
        let context = &self.context;
        let optional = |text: Option<&'a str>| text.map_or(Value::Absent, Value::text);
        let json = |text: &'a str| arena.decode(text.as_bytes());
        Ok(Some(match field {
            Field::Username => optional(context.username),
            Field::Topic => Value::text(context.topic),
            Field::Timestamp | Field::PublishReceivedAt => Value::Int(context.timestamp_ms),
            Field::Qos => Value::Int(i64::from(context.qos)),
            Field::Payload => Value::Text(context.payload),
            Field::Clientid => Value::text(context.client_id),
            // A message may have no address.
            Field::Peerhost => return Ok(self.peerhost.map(Value::text)),
            Field::Peername => return Ok(self.peername.map(Value::text)),
            Field::Node => Value::text(self.node),
            Field::Event => Value::text("message.publish"),
            Field::Id => match self.id {
                Id::Text(text) => Value::text(text),
                Id::Number(number) => {
                    arena.spend(2)?;
                    arena.format(format_args!("{number:032X}"))?
                }
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
                None => metadata(rule, arena)?,
            },
            Field::ClientAttrs => json(self.given.client_attrs.unwrap_or("{}"))?,
            _ => return Ok(None),
        }))
    }
}

/// `metadata`, of the rule of this name.
pub(super) fn metadata<'a>(rule: &'a str, arena: &'a Arena) -> Result<Value<'a>, Reason> {
    let member = |name, value| Member { name, value: Value::text(value) };
    Ok(Value::Object(arena.slice(&[member("namespace", "global"), member("rule_id", rule)])?))
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
