//! A Kafka record for templates of sources: its variables, and the record as one JSON object, `${.}`.

use std::fmt;
use std::io::Write as _;

use super::envelope::{base64, base64_string, string};
use super::json::JsonPath;
use super::template::{Fixed, Named, TemplateOf, Vocabulary, Wrong};
use super::variable::{environment, suggestion};
use forebay_record::Headers;

/// Names as between `${` and `}`, with their meanings. The documents are generated from this table.
pub const FIELDS: [(&str, &str); 11] = [
    ("key", "the record's key, in base64 with `key_encoding = \"base64\"`"),
    ("value", "the record's value, in base64 with `value_encoding = \"base64\"`"),
    (
        "value.path",
        "a value in a JSON value: member names and array indexes, as in `${value.a.b[0]}` or `${value.'@iot.id'}`",
    ),
    ("headers.name", "the value of the last header with that name"),
    ("headers", "all headers as a JSON object; of several with one name the last"),
    ("topic", "the Kafka topic"),
    ("partition", "the partition"),
    ("offset", "the offset"),
    ("ts", "the timestamp in milliseconds since 1970-01-01 UTC; `-1` without one"),
    (
        "ts_type",
        "where the timestamp comes from: `create` (the producer), `append` (the broker) or `undefined` (there is none)",
    ),
    ("env.NAME", "the environment variable `FOREBAY_VAR_NAME`, as it was when the service started"),
];

/// The name of the whole record.
const WHOLE: &str = ".";

/// Names in other products and in sinks, and the corresponding names here.
const OTHERS: [(&str, &str); 6] = [
    ("payload", "value"),
    ("message", "value"),
    ("timestamp", "ts"),
    ("timestamp_type", "ts_type"),
    ("header", "headers.NAME"),
    ("user_properties", "headers.NAME"),
];

/// The origin of a record's timestamp.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TimestampType {
    /// The producer set the timestamp (CreateTime).
    #[default]
    Create,
    /// The broker set the timestamp when it appended the record (LogAppendTime).
    Append,
}

/// A record that was read from Kafka, borrowed from the answer.
#[derive(Clone, Debug)]
pub struct Record<'a> {
    /// The Kafka topic.
    pub topic: &'a str,
    /// The partition.
    pub partition: i32,
    /// The offset.
    pub offset: i64,
    /// Milliseconds since the Unix epoch; −1: the record has none.
    pub timestamp: i64,
    /// The origin of the timestamp.
    pub timestamp_type: TimestampType,
    /// The key; `None` is Kafka's null.
    pub key: Option<&'a [u8]>,
    /// The value; `None` is Kafka's null, a tombstone in a compacted topic.
    pub value: Option<&'a [u8]>,
    /// The headers, in their order; values may be null.
    pub headers: Headers<'a>,
}

impl<'a> Record<'a> {
    /// The value of the last header of a name, null as nothing.
    #[must_use]
    pub fn header(&self, name: &[u8]) -> Option<&'a [u8]> {
        self.headers.last_of(name)
    }

    /// EMQX's name of `ts_type`.
    #[must_use]
    pub const fn ts_type(&self) -> &'static str {
        match self.timestamp_type {
            _ if self.timestamp < 0 => "undefined",
            TimestampType::Create => "create",
            TimestampType::Append => "append",
        }
    }
}

/// The encoding of a key's or value's bytes as text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Encoding {
    /// Bytes verbatim.
    #[default]
    None,
    /// Base64, with padding.
    Base64,
}

/// A record with the encodings that its source configures.
#[derive(Clone, Copy, Debug)]
pub struct Encoded<'a> {
    /// The record.
    pub record: &'a Record<'a>,
    /// The encoding of its key.
    pub key: Encoding,
    /// The encoding of its value.
    pub value: Encoding,
}

/// A template over a record.
pub type RecordTemplate = TemplateOf<Field>;

/// A variable of a template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Field {
    /// `${.}`
    Whole,
    /// `${key}`
    Key,
    /// `${value}`
    Value,
    /// `${value.path}`
    ValuePath(JsonPath),
    /// `${headers}`
    Headers,
    /// `${headers.name}`
    Header(Box<str>),
    /// `${topic}`
    Topic,
    /// `${partition}`
    Partition,
    /// `${offset}`
    Offset,
    /// `${ts}`
    Timestamp,
    /// `${ts_type}`
    TimestampType,
}

/// The record lacks a field that a template needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Missing;

impl Field {
    /// Whether the field's text contains the record's value.
    #[must_use]
    pub const fn reads_value(&self) -> bool {
        matches!(self, Self::Whole | Self::Value | Self::ValuePath(_))
    }
}

impl fmt::Display for Field {
    /// Writes the variable's name as between `${` and `}`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Whole => WHOLE,
            Self::Key => "key",
            Self::Value => "value",
            Self::ValuePath(path) => return write!(f, "value{path}"),
            Self::Headers => "headers",
            Self::Header(name) => return write!(f, "headers.{name}"),
            Self::Topic => "topic",
            Self::Partition => "partition",
            Self::Offset => "offset",
            Self::Timestamp => "ts",
            Self::TimestampType => "ts_type",
        })
    }
}

impl Vocabulary for Field {
    type Context<'a> = Encoded<'a>;
    type Absent = Missing;

    fn named(name: &str, fixed: &Fixed<'_>) -> Result<Named<Self>, Wrong> {
        if name == WHOLE {
            return Ok(Named::Variable(Self::Whole));
        }
        let name = name.strip_prefix('.').unwrap_or(name);
        Ok(Named::Variable(match name {
            "key" => Self::Key,
            "value" => Self::Value,
            "headers" => Self::Headers,
            "topic" => Self::Topic,
            "partition" => Self::Partition,
            "offset" => Self::Offset,
            "ts" => Self::Timestamp,
            "ts_type" => Self::TimestampType,
            _ => return with_argument(name, fixed),
        }))
    }

    fn has_path(text: &str) -> bool {
        text.strip_prefix('.').unwrap_or(text).starts_with("value")
    }

    fn write(&self, of: &Encoded<'_>, out: &mut Vec<u8>) -> Result<(), Missing> {
        let record = of.record;
        match self {
            Self::Whole => whole(of, out),
            Self::Key => encode(record.key.ok_or(Missing)?, of.key, out),
            Self::Value => encode(record.value.ok_or(Missing)?, of.value, out),
            Self::ValuePath(path) => return path.write(record.value.ok_or(Missing)?, out).then_some(()).ok_or(Missing),
            Self::Headers => headers(record, out),
            Self::Header(name) => out.extend_from_slice(record.header(name.as_bytes()).ok_or(Missing)?),
            Self::Topic => out.extend_from_slice(record.topic.as_bytes()),
            Self::Partition => number(record.partition.into(), out),
            Self::Offset => number(record.offset, out),
            Self::Timestamp => number(record.timestamp, out),
            Self::TimestampType => out.extend_from_slice(record.ts_type().as_bytes()),
        }
        Ok(())
    }
}

/// Reads a name with an argument: a path, or the name of something.
fn with_argument(name: &str, fixed: &Fixed<'_>) -> Result<Named<Field>, Wrong> {
    if let Some(path) = name.strip_prefix("value").filter(|path| path.starts_with(['.', '['])) {
        let hint =
            || "a path is names and places in arrays, as in `${value.a.b[0]}` or `${value.'@iot.id'}`".to_owned();
        return JsonPath::parse(path)
            .map(|path| Named::Variable(Field::ValuePath(path)))
            .map_err(|what| (what, hint()));
    }
    match name.split_once('.') {
        Some((group @ ("headers" | "env"), "")) => {
            Err((format!("`${{{name}}}` has no name behind the dot"), format!("write `${{{group}.NAME}}`")))
        }
        Some(("headers", name)) => Ok(Named::Variable(Field::Header(name.into()))),
        Some(("env", name)) => environment(name, fixed).map(Named::Text),
        _ => Err((format!("unknown variable `${{{name}}}`"), hint(name))),
    }
}

/// "did you mean", else the list.
fn hint(name: &str) -> String {
    let first = name.split(['.', '[']).next().unwrap_or_default().to_lowercase();
    match OTHERS.iter().find(|(other, _)| *other == first) {
        Some((other, "value")) => format!("did you mean `${{value{}}}`?", &name[other.len()..]),
        Some((_, ours)) => format!("did you mean `${{{ours}}}`?"),
        None => suggestion(name, &FIELDS),
    }
}

fn encode(bytes: &[u8], encoding: Encoding, out: &mut Vec<u8>) {
    match encoding {
        Encoding::None => out.extend_from_slice(bytes),
        Encoding::Base64 => base64(bytes, out),
    }
}

fn number(number: i64, out: &mut Vec<u8>) {
    // Writing to a Vec does not fail.
    let _ = write!(out, "{number}");
}

/// Appends the record as a JSON object with EMQX's members. Null becomes an empty string. Bytes that are not text become base64,
/// and a further member says so, with the same name and `_encoding`.
fn whole(of: &Encoded<'_>, out: &mut Vec<u8>) {
    let record = of.record;
    out.push(b'{');
    member("value", record.value.unwrap_or_default(), of.value, out);
    // Writing to a Vec does not fail.
    let _ = write!(out, r#","ts_type":"{}","ts":{},"topic":"#, record.ts_type(), record.timestamp);
    string(record.topic, out);
    let _ = write!(out, r#","offset":{},"#, record.offset);
    member("key", record.key.unwrap_or_default(), of.key, out);
    out.extend_from_slice(b",\"headers\":");
    headers(record, out);
    let is_text = |value: Option<&[u8]>| std::str::from_utf8(value.unwrap_or_default()).is_ok();
    if !record.headers.clone().all(|(_, value)| is_text(value)) {
        out.extend_from_slice(b",\"headers_encoding\":");
        object(record, out, |value, out| {
            let is_text = is_text(value);
            if !is_text {
                string("base64", out);
            }
            !is_text
        });
    }
    out.push(b'}');
}

/// Appends a member of the object, and its encoding unless the source is configured to write base64.
fn member(name: &str, bytes: &[u8], encoding: Encoding, out: &mut Vec<u8>) {
    let _ = write!(out, "\"{name}\":");
    match (encoding, std::str::from_utf8(bytes)) {
        (Encoding::None, Ok(text)) => string(text, out),
        (Encoding::None, Err(_)) => {
            base64_string(bytes, out);
            let _ = write!(out, r#","{name}_encoding":"base64""#);
        }
        (Encoding::Base64, _) => base64_string(bytes, out),
    }
}

/// Appends the headers as a JSON object of strings.
fn headers(record: &Record<'_>, out: &mut Vec<u8>) {
    object(record, out, |value, out| {
        match std::str::from_utf8(value.unwrap_or_default()) {
            Ok(text) => string(text, out),
            Err(_) => base64_string(value.unwrap_or_default(), out),
        }
        true
    });
}

/// Appends a JSON object with a member for each name of a header, of several headers with one name for the last; `value` appends a
/// member's value, or reports that there is none.
fn object(record: &Record<'_>, out: &mut Vec<u8>, value: impl Fn(Option<&[u8]>, &mut Vec<u8>) -> bool) {
    out.push(b'{');
    let mut is_first = true;
    let mut rest = record.headers.clone();
    while let Some((name, of)) = rest.next() {
        if rest.clone().any(|(later, _)| later == name) {
            continue;
        }
        let start = out.len();
        if !is_first {
            out.push(b',');
        }
        // Kafka's names are text; invalid UTF-8 is shown as every client shows it.
        string(&String::from_utf8_lossy(name), out);
        out.push(b':');
        if value(of, out) {
            is_first = false;
        } else {
            out.truncate(start);
        }
    }
    out.push(b'}');
}
