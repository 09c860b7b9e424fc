//! The fields of a record of a source, as rules see them.

use super::envelope::base64;
use super::facts::Facts;
use super::field::{Field, Table};
use super::record::{Encoded, Encoding};
use super::value::{Member, Value};

/// The fields of a record.
pub const FIELDS: Table = &[
    (
        Field::Value,
        "The record's value, a text; empty if it is null. A path into it, `value.a.b[1]`, reads it as JSON.",
    ),
    (Field::TsType, "`create`: the producer has set `ts`; `append`: the broker; `undefined`: there is none."),
    (Field::Ts, "The record's timestamp, milliseconds since 1970-01-01 UTC; -1 without one."),
    (Field::Topic, "The Kafka topic."),
    (Field::Timestamp, "Time of receipt, milliseconds since 1970-01-01 UTC."),
    (Field::Partition, "The partition."),
    (Field::Offset, "The offset."),
    (Field::Node, "Name of this node."),
    (Field::Metadata, "`rule_id`: the name of the rule."),
    (Field::Key, "The record's key, a text; empty if it is null."),
    (Field::Headers, "The headers, an object of texts; of several with one name the last."),
    (Field::Event, "`$bridges/kafka_consumer:NAME`, with the name of the source."),
];

/// The context of a record that rules see besides the record.
#[derive(Clone, Copy, Debug)]
pub struct Around<'r> {
    /// `event`.
    pub event: &'r str,
    /// `node`.
    pub node: &'r str,
    /// `timestamp`.
    pub now_ms: i64,
}

/// Buffers for values that have to be built from a record.
#[derive(Debug, Default)]
pub struct Scratch {
    key: Vec<u8>,
    value: Vec<u8>,
}

/// Gives the fields of a record to `each`.
pub fn with_fields<R>(
    of: &Encoded<'_>,
    around: Around<'_>,
    scratch: &mut Scratch,
    each: impl FnOnce(&Facts<'_>) -> R,
) -> R {
    let record = of.record;
    let key = encoded(record.key, of.key, &mut scratch.key);
    let value = encoded(record.value, of.value, &mut scratch.value);
    let mut headers: Vec<Member<'_>> = Vec::new();
    for (name, value) in record.headers.clone() {
        // No rule can express a name that is not UTF-8.
        let Ok(name) = std::str::from_utf8(name) else { continue };
        let member = Member { name, value: Value::Text(value.unwrap_or_default()) };
        match headers.binary_search_by(|known| known.name.cmp(name)) {
            Ok(at) => headers[at] = member,
            Err(at) => headers.insert(at, member),
        }
    }
    let fields = [
        (Field::Value, Value::Text(value)),
        (Field::TsType, Value::text(record.ts_type())),
        (Field::Ts, Value::Int(record.timestamp)),
        (Field::Topic, Value::text(record.topic)),
        (Field::Timestamp, Value::Int(around.now_ms)),
        (Field::Partition, Value::Int(record.partition.into())),
        (Field::Offset, Value::Int(record.offset)),
        (Field::Node, Value::text(around.node)),
        (Field::Key, Value::Text(key)),
        (Field::Headers, Value::Object(&headers)),
        (Field::Event, Value::text(around.event)),
    ];
    each(&Facts { fields: &fields, text: value })
}

fn encoded<'a>(bytes: Option<&'a [u8]>, encoding: Encoding, made: &'a mut Vec<u8>) -> &'a [u8] {
    let bytes = bytes.unwrap_or_default();
    match encoding {
        Encoding::None => bytes,
        Encoding::Base64 => {
            made.clear();
            base64(bytes, made);
            made
        }
    }
}
