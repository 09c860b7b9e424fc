//! A record for `forebay rule test`, out of options and JSON.

use serde_json::{Map, Value as Json};

use super::args::RuleTestArgs;
use crate::mqtt::property::Properties;
use crate::rule::column::Defaults;
use crate::rule::facts::Facts;
use crate::rule::field::{Field, Table};
use crate::rule::program::{Program, from_text};
use crate::rule::record_fields;
use crate::rule::template::MessageContext;
use crate::rule::value::Value;

/// Fields with their values, as JSON has them.
#[derive(Debug, Default)]
pub(super) struct MadeFacts {
    fields: Vec<(Field, Json)>,
    /// Objects, arrays and numbers with a point, as text.
    texts: Vec<String>,
}

/// What a rule is tried on, if it is no message.
#[derive(Clone, Copy, Debug)]
pub(super) struct Kind {
    table: Table,
    /// Many of them, in a word.
    what: &'static str,
    /// The field that `--payload` is.
    payload: Field,
}

impl Kind {
    /// What a rule is for; `None`: messages.
    pub(super) fn of(program: &Program) -> Option<Self> {
        let is_for_messages = program.filters().next().is_some() || program.sources().is_empty();
        (!is_for_messages).then_some(Self { table: record_fields::FIELDS, what: "records", payload: Field::Value })
    }
}

impl MadeFacts {
    /// Options come before fields.
    pub(super) fn new(
        kind: Kind,
        options: &RuleTestArgs,
        given: Map<String, Json>,
        (program, now_ms): (&Program, i64),
    ) -> Result<Self, String> {
        let mut made = Self::default();
        for (name, value) in given.into_iter().filter(|(name, _)| name != "event_type") {
            made.set(kind, &name, value)?;
        }
        let payload = kind.payload.as_str();
        for (name, value) in [("topic", &options.topic), (payload, &options.payload)] {
            if let Some(text) = value {
                made.set(kind, name, Json::from(text.as_str()))?;
            }
        }
        for (name, text) in [("clientid", &options.clientid), ("username", &options.username)] {
            if let Some(text) = text {
                made.set(kind, name, Json::from(text.as_str()))?;
            }
        }
        if let Some(qos) = options.qos {
            made.set(kind, "qos", Json::from(qos))?;
        }
        if options.retain || !options.user_property.is_empty() {
            return Err(format!("{} have no retain flag and no user properties", kind.what));
        }
        made.fill_up(kind, program, now_ms);
        made.texts = made.fields.iter().map(|(_, value)| value.to_string()).collect();
        Ok(made)
    }

    fn set(&mut self, kind: Kind, name: &str, value: Json) -> Result<(), String> {
        let Some((field, _)) = kind.table.iter().find(|(field, _)| field.as_str() == name) else {
            let known: Vec<_> = kind.table.iter().map(|(field, _)| field.as_str()).collect();
            return Err(format!("{} have no field `{name}`; they have {}", kind.what, known.join(", ")));
        };
        self.fields.retain(|(of, _)| of != field);
        // A value that is no text is JSON, which is text to a rule.
        let is_text = *field == kind.payload && !value.is_string();
        self.fields.push((*field, if is_text { Json::from(value.to_string()) } else { value }));
        Ok(())
    }

    /// Adds what was not given.
    fn fill_up(&mut self, kind: Kind, program: &Program, now_ms: i64) {
        let source = program.sources().first().map(|source| from_text(&source.name)).unwrap_or_default();
        for (field, _) in kind.table {
            let value = match field {
                Field::Timestamp | Field::Ts => Json::from(now_ms),
                Field::TsType => Json::from("create"),
                Field::Partition | Field::Offset => Json::from(0),
                Field::Node => Json::from("forebay@127.0.0.1"),
                Field::Headers => Json::Object(Map::new()),
                Field::Event => Json::from(source.as_str()),
                Field::Value | Field::Key => Json::from(""),
                Field::Topic => Json::from("topic"),
                _ => continue,
            };
            if !self.fields.iter().any(|(of, _)| of == field) {
                self.fields.push((*field, value));
            }
        }
    }

    /// Gives them as rules see them, with what sinks see beside the output, and key and time of rows that name none.
    pub(super) fn with<R>(&self, each: impl FnOnce(&Facts<'_>, &MessageContext<'_>, Defaults<'_>) -> R) -> R {
        let values = self.fields.iter().zip(&self.texts).map(|((field, value), text)| (*field, of_json(value, text)));
        let fields: Vec<_> = values.collect();
        let text = fields.iter().find_map(|(field, value)| match (field, value) {
            (Field::Value | Field::Payload, Value::Text(bytes)) => Some(*bytes),
            _ => None,
        });
        let facts = Facts { fields: &fields, text: text.unwrap_or_default() };
        let of = |wanted: Field| fields.iter().find_map(|(field, value)| (*field == wanted).then_some(value));
        let text = |field| match of(field) {
            Some(Value::Text(bytes)) => Some(*bytes),
            _ => None,
        };
        let time_ms = match of(Field::Ts).or_else(|| of(Field::Timestamp)) {
            Some(Value::Int(ms)) => Some(*ms),
            _ => None,
        };
        let context = MessageContext {
            topic: text(Field::Event).and_then(|event| std::str::from_utf8(event).ok()).unwrap_or_default(),
            client_id: "test",
            username: None,
            qos: 0,
            retain: false,
            dup: false,
            packet_id: 0,
            payload: facts.text,
            timestamp_ms: time_ms.unwrap_or_default(),
            properties: Properties::default(),
            hops: 0,
            output: None,
        };
        each(&facts, &context, Defaults { key: text(Field::Key), time_ms })
    }
}

fn of_json<'a>(value: &'a Json, text: &'a str) -> Value<'a> {
    match value {
        Json::Null => Value::Null,
        Json::Bool(value) => Value::Bool(*value),
        Json::Number(number) => number.as_i64().map_or(Value::Number(text), Value::Int),
        Json::String(text) => Value::text(text),
        Json::Array(_) | Json::Object(_) => Value::Raw(text),
    }
}
