//! A record or an event for `forebay rule test`, out of options and JSON.

use serde_json::{Map, Value as Json, json};

use super::args::RuleTestArgs;
use crate::control::RawFields;
use crate::rule::column::Defaults;
use crate::rule::event::Event;
use crate::rule::facts::Facts;
use crate::rule::field::{Field, Table};
use crate::rule::program::{Program, from_text};
use crate::rule::record_fields;
use crate::rule::template::MessageContext;
use crate::rule::value::Value;

/// Fields that EMQX's contexts have for some kinds of events that do not have them here.
pub(super) const OF_EMQX: [&str; 11] = [
    "from_clientid",
    "from_username",
    "id",
    "message_received_at",
    "mountpoint",
    "payload",
    "peerhost",
    "publish_received_at",
    "reason",
    "server",
    "sockname",
];

/// Fields with their values as JSON.
#[derive(Debug, Default)]
pub(super) struct MadeFacts {
    fields: Vec<(Field, Json)>,
    /// The values as they were written: objects, arrays and numbers are passed on as such.
    texts: Vec<String>,
}

/// The kind of the trial's input, if it is not a message.
#[derive(Clone, Copy, Debug)]
pub(super) struct Kind {
    table: Table,
    /// The plural of the kind.
    what: &'static str,
    /// The field that `--payload` sets.
    payload: Field,
    event: Option<Event>,
}

impl Kind {
    /// The kind of the trial's input, named by `--event`, by the message, or by the rule; `None`: messages.
    pub(super) fn of(program: &Program, named: Option<&str>) -> Result<Option<Self>, String> {
        let event = match named {
            None => None,
            Some("message_publish" | "message/publish" | "$events/message_publish" | "$events/message/publish") => {
                return Ok(None);
            }
            Some(name) => Some(Event::named(name).ok_or_else(|| unknown(name))?),
        };
        if let Some(event) = event.filter(|event| !program.events().contains(event)) {
            return Err(format!("the rule does not have {} in FROM", event.from()));
        }
        let is_for_messages = program.filters().next().is_some();
        let is_for_records = !program.sources().is_empty();
        let event = event.or_else(|| program.events().first().copied().filter(|_| !is_for_messages && !is_for_records));
        Ok(match event {
            Some(event) => {
                Some(Self { table: event.fields(), what: "its events", payload: Field::Payload, event: Some(event) })
            }
            None if is_for_messages || !is_for_records => None,
            None => {
                let (table, what) = (record_fields::FIELDS, "records");
                Some(Self { table, what, payload: Field::Value, event: None })
            }
        })
    }
}

fn unknown(name: &str) -> String {
    let all: Vec<_> = Event::ALL.iter().map(|event| event.names()[1]).collect();
    format!("there is no event `{name}`; there are {}", all.join(", "))
}

impl MadeFacts {
    /// Options come before fields.
    pub(super) fn new(
        kind: Kind,
        options: &RuleTestArgs,
        given: RawFields,
        (program, now_ms): (&Program, i64),
    ) -> Result<Self, String> {
        let mut made = Self::default();
        let has = |name: &str| kind.table.iter().any(|(field, _)| field.as_str() == name);
        let is_passed_over = |name: &str| kind.event.is_some() && OF_EMQX.contains(&name) && !has(name);
        for (name, raw) in given.into_iter().filter(|(name, _)| name != "event_type" && !is_passed_over(name)) {
            let value = serde_json::from_str(raw.get()).map_err(|error| format!("`{name}`: {error}"))?;
            made.set(kind, &name, value, raw.get())?;
        }
        let payload = kind.payload.as_str();
        for (name, value) in [("topic", &options.topic), (payload, &options.payload)] {
            if let Some(text) = value {
                made.set(kind, name, Json::from(text.as_str()), "")?;
            }
        }
        for (name, text) in [("clientid", &options.clientid), ("username", &options.username)] {
            if let Some(text) = text {
                made.set(kind, name, Json::from(text.as_str()), "")?;
            }
        }
        if let Some(qos) = options.qos {
            made.set(kind, "qos", Json::from(qos), "")?;
        }
        if options.retain || !options.user_property.is_empty() {
            return Err(format!("{} have no retain flag and no user properties", kind.what));
        }
        made.fill_up(kind, program, now_ms);
        Ok(made)
    }

    /// Sets a field. `raw`: the value as it was written; a text or a whole number needs none.
    fn set(&mut self, kind: Kind, name: &str, value: Json, raw: &str) -> Result<(), String> {
        let Some((field, _)) = kind.table.iter().find(|(field, _)| field.as_str() == name) else {
            let known: Vec<_> = kind.table.iter().map(|(field, _)| field.as_str()).collect();
            return Err(format!("{} have no field `{name}`; they have {}", kind.what, known.join(", ")));
        };
        if let Some(at) = self.fields.iter().position(|(of, _)| of == field) {
            self.fields.remove(at);
            self.texts.remove(at);
        }
        // A value that is not a string is JSON, which rules see as text.
        let is_text = *field == kind.payload && !value.is_string();
        self.add(*field, if is_text { Json::from(raw) } else { value }, raw.to_owned());
        Ok(())
    }

    fn add(&mut self, field: Field, value: Json, text: String) {
        self.fields.push((field, value));
        self.texts.push(text);
    }

    /// Adds the fields that were not given.
    fn fill_up(&mut self, kind: Kind, program: &Program, now_ms: i64) {
        let source = program.sources().first().map(|source| from_text(&source.name)).unwrap_or_default();
        let name = kind.event.map_or_else(|| source.clone(), |event| event.value().to_owned());
        for (field, _) in kind.table {
            let value = match field {
                Field::Timestamp | Field::Ts => Json::from(now_ms),
                Field::TsType => Json::from("create"),
                Field::Partition | Field::Offset => Json::from(0),
                Field::Node => Json::from("forebay@127.0.0.1"),
                Field::Headers => Json::Object(Map::new()),
                Field::Event => Json::from(name.as_str()),
                Field::Clientid => Json::from("test"),
                Field::ConnectedAt | Field::DisconnectedAt => Json::from(now_ms),
                Field::Peerhost => Json::from("127.0.0.1"),
                Field::Peername => Json::from("127.0.0.1:40000"),
                Field::Sockname => Json::from("127.0.0.1:1883"),
                Field::ProtoName => Json::from("MQTT"),
                Field::ProtoVer => Json::from(5),
                Field::Keepalive => Json::from(60),
                Field::ExpiryInterval => Json::from(0),
                Field::CleanStart | Field::IsAnonymous => Json::from(true),
                Field::IsBridge | Field::IsSuperuser => Json::from(false),
                Field::Reason => Json::from("normal"),
                Field::ReasonCode => Json::from("success"),
                Field::ConnProps | Field::SubProps | Field::UnsubProps => json!({ "User-Property": {} }),
                Field::ClientAttrs => json!({}),
                Field::Qos => Json::from(0),
                Field::Value | Field::Key => Json::from(""),
                Field::Topic => Json::from(if kind.event.is_some() { "t/1" } else { "topic" }),
                _ => continue,
            };
            if !self.fields.iter().any(|(of, _)| of == field) {
                let text = value.to_string();
                self.add(*field, value, text);
            }
        }
    }

    /// Calls `each` with the facts for rules, the message's context for sinks, and key and time of rows that set none.
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
            payload: facts.text,
            timestamp_ms: time_ms.unwrap_or_default(),
            ..MessageContext::default()
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::rule::test;

    fn tried(sql: &str, event: Option<&str>, more: RuleTestArgs) -> Result<String, String> {
        let (sql, event) = (Some(sql.to_owned()), event.map(str::to_owned));
        test(&RuleTestArgs { sql, event, ..more }, None).map(|tried| tried.text + &tried.notes)
    }

    #[test]
    fn a_rule_is_tried_on_a_record_or_an_event() {
        let some = |text: &str| Some(text.to_owned());
        let record = "SELECT value.a AS a, topic, key, event FROM \"$bridges/kafka_consumer:s\"";
        let options = RuleTestArgs { payload: some("{\"a\":1}"), topic: some("k"), ..RuleTestArgs::default() };
        assert_eq!(
            tried(record, None, options).expect("tried"),
            "{\"topic\":\"k\",\"key\":\"\",\"event\":\"$bridges/kafka_consumer:s\",\"a\":1}\n"
        );
        let event = "SELECT clientid, username, event, proto_ver FROM \"t/#\", \"$events/client_connected\"";
        let options = RuleTestArgs { clientid: some("c"), ..RuleTestArgs::default() };
        for name in ["client_connected", "client/connected", "$events/client_connected"] {
            assert_eq!(
                tried(event, Some(name), options.clone()).expect("tried"),
                "{\"username\":null,\"proto_ver\":5,\"event\":\"client.connected\",\"clientid\":\"c\"}\n"
            );
        }
        let message = tried(event, None, options).expect("tried");
        assert!(message.contains("\"event\":\"message.publish\""), "{message}");
        for (sql, event, want) in [
            (event, Some("client_conected"), "there is no event `client_conected`; there are client_connected, "),
            (event, Some("session_subscribed"), "the rule does not have $events/session/subscribed in FROM"),
        ] {
            let said = tried(sql, event, RuleTestArgs::default()).expect_err("refused");
            assert!(said.starts_with(want), "{said}");
        }
        let options = RuleTestArgs { clientid: some("c"), ..RuleTestArgs::default() };
        let said = tried(record, None, options).expect_err("refused");
        assert!(said.starts_with("records have no field `clientid`; they have value, "), "{said}");
    }

    /// A trial shows what the rule makes: numbers keep their digits, and objects the order of their members.
    #[test]
    fn finding_q43_json_passes_through_a_trial_as_it_is() {
        let payload = r#"{"t": 2.50, "n": 12345678901234567890123, "o": {"z": 1.0, "a": [1e3]}}"#;
        let want = "{\"t\":2.50,\"o\":{\"z\": 1.0, \"a\": [1e3]},\"n\":12345678901234567890123}";
        let select = "SELECT payload.t AS t, payload.n AS n, payload.o AS o FROM \"t/#\"";
        let ask = format!(r#"{{"sql": {select:?}, "context": {{"payload": {payload}}}}}"#);
        let ask: crate::control::RuleAsk = serde_json::from_str(&ask).expect("a question");
        let trial = crate::cli::rule::try_sql(&ask, None).expect("tried");
        assert_eq!(trial.outputs.iter().map(|output| output.get()).collect::<Vec<_>>(), [want]);
        let folder = tempfile::tempdir().expect("a folder");
        let file = |text: String| {
            let file = folder.path().join("message.json");
            std::fs::write(&file, text).expect("written");
            Some(file)
        };
        let context = file(format!("{{\"payload\": {payload}}}"));
        assert_eq!(tried(select, None, RuleTestArgs { context, ..RuleTestArgs::default() }), Ok(format!("{want}\n")));
        let of_file = file(format!("{{\"payload\": {payload}}}\n"));
        assert_eq!(
            tried(select, None, RuleTestArgs { file: of_file, ..RuleTestArgs::default() }),
            Ok(format!("{want}\n"))
        );
        let record = select.replace("payload.", "value.").replace("t/#", "$bridges/kafka_consumer:s");
        let context = file(format!("{{\"value\": {payload}}}"));
        assert_eq!(tried(&record, None, RuleTestArgs { context, ..RuleTestArgs::default() }), Ok(format!("{want}\n")));
    }

    /// A context as EMQX's page of rules sends it has fields that events do not have here.
    #[test]
    fn finding_q52_contexts_of_emqx_are_taken() {
        let context = |text: &str| {
            let file = tempfile::NamedTempFile::new().expect("a file");
            std::fs::write(file.path(), text).expect("written");
            file
        };
        let tried = |sql: &str, text: &str| {
            let file = context(text);
            tried(sql, None, RuleTestArgs { context: Some(file.path().to_owned()), ..RuleTestArgs::default() })
        };
        let subscribed = r#"{"event_type":"session_subscribed","clientid":"c","username":"u","topic":"t/a","qos":1,"payload":"x","peerhost":"192.0.2.1","publish_received_at":1}"#;
        assert_eq!(
            tried("SELECT clientid, qos FROM \"$events/session_subscribed\"", subscribed).expect("tried"),
            "{\"qos\":1,\"clientid\":\"c\"}\n"
        );
        let connected = r#"{"event_type":"client_connected","clientid":"c","mountpoint":"","peername":"192.0.2.1:1","sockname":"192.0.2.2:1883"}"#;
        assert_eq!(
            tried("SELECT clientid FROM \"$events/client_connected\"", connected).expect("tried"),
            "{\"clientid\":\"c\"}\n"
        );
        let message =
            r#"{"event_type":"message_publish","clientid":"c","topic":"t/1","payload":"{}","from_clientid":"d"}"#;
        assert_eq!(tried("SELECT topic FROM \"t/#\"", message).expect("tried"), "{\"topic\":\"t/1\"}\n");
        assert!(tried("SELECT topic FROM \"t/#\"", r#"{"nosuch":1}"#).is_err());
    }
}
