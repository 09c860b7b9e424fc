//! `forebay rule`: tries a rule on given messages or past ones, or explains it. No service is needed.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;

use jiff::tz::TimeZone;
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use super::args::{PastArgs, RuleExplainArgs, RuleOfArgs, RuleTestArgs};
use super::input::text_of;
use super::past::{self, Past};
use super::past_text;
use super::rule_facts::{Kind, MadeFacts, OF_EMQX};
use super::rule_records::{self, TriedRule};
use crate::config::{Config, Rule};
use crate::control::{PastAsk, RawFields, RuleAsk, RuleTrial};
use crate::metrics::time::now_ms;
use crate::mqtt::property::{Property, PropertyBuf};
use crate::mqtt::topic;
use crate::rule::arena::Arena;
use crate::rule::around::{Around, Environment, Machine};
use crate::rule::column::Defaults;
use crate::rule::facts::Subject;
use crate::rule::message::{FIELDS, Given, Id, Message};
use crate::rule::program::{Input, Outcome, Program};
use crate::rule::template::MessageContext;
use crate::shard::trial::RuleSinks;

/// The result of a trial.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Tried {
    /// The text for standard output.
    pub text: String,
    /// The text for standard error: warnings, failures, messages without an output.
    pub notes: String,
    /// Whether nothing has failed.
    pub is_good: bool,
}

/// Evaluates a rule: of the configuration, if there is one, or the given statement.
///
/// # Errors
/// The rule or a message cannot be used, in words.
pub fn test(options: &RuleTestArgs, config: Option<&Config>) -> Result<Tried, String> {
    if let (Some(topic), Some(config)) = (&options.past.from_kafka, config) {
        return past(options, topic, config);
    }
    let given = options.context.as_deref().map(read_object).transpose()?.unwrap_or_default();
    let sql_given = given.get("sql").and_then(|sql| serde_json::from_str::<String>(sql.get()).ok());
    let context = given.get("context").and_then(|context| serde_json::from_str::<RawFields>(context.get()).ok());
    let (sql_given, context) = match (sql_given, context) {
        (Some(sql), Some(context)) => (Some(sql), context),
        _ => (None, given),
    };
    let rule = rule_of(config, &options.of)?;
    let program = match rule.and_then(|rule| rule.program.clone()) {
        Some(program) => program,
        None => {
            let sql =
                options.sql.clone().or(sql_given).ok_or("there is no rule: give --sql, or `sql` beside `context`")?;
            Arc::new(Program::compile(&sql, "test").map_err(|error| error.show(&sql))?)
        }
    };
    let sinks = config.zip(rule).map(|(config, rule)| RuleSinks::of(config, rule));
    let subject = TriedRule { program: &program, sinks, json: options.json };
    let mut tried = Tried { is_good: true, ..Tried::default() };
    for warning in program.warnings() {
        let _ = writeln!(tried.notes, "warning: {}", warning.show(program.sql()));
    }
    let messages = match &options.file {
        None => vec![Tries::new(options, context, &program)?],
        Some(file) => {
            let text = text_of(file)?;
            let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
            let made = lines.map(|(n, line)| {
                let object = object(line).and_then(|object| Tries::new(options, object, &program));
                object.map_err(|error| format!("{}, line {}: {error}", file.display(), n + 1))
            });
            made.collect::<Result<_, _>>()?
        }
    };
    let machine = machine()?;
    let mut arena = Arena::new();
    let is_one = messages.len() == 1;
    for (n, message) in messages.iter().enumerate() {
        let around = machine.around(now_ms(), fastrand::u64(..));
        let which = if is_one { String::new() } else { format!("message {}: ", n + 1) };
        message.evaluate(&subject, &around, &mut arena, &which, &mut tried);
    }
    Ok(tried)
}

/// The rule of the configuration that is named, if one is.
fn rule_of<'c>(config: Option<&'c Config>, of: &RuleOfArgs) -> Result<Option<&'c Rule>, String> {
    of.rule.as_deref().zip(config).map(|(name, config)| past::named(config, name)).transpose()
}

/// Evaluates a rule for past records.
fn past(options: &RuleTestArgs, topic: &str, config: &Config) -> Result<Tried, String> {
    let PastArgs { kafka, since, limit, topic_from, against, against_sql, .. } = options.past.clone();
    let ask = PastAsk {
        sql: options.sql.clone(),
        rule: options.of.rule.clone(),
        against,
        against_sql,
        topic: topic.to_owned(),
        kafka,
        since,
        limit,
        topic_from,
        clientid: options.clientid.clone(),
        username: options.username.clone(),
        qos: options.qos,
        retain: options.retain,
    };
    let result = Past::new(config, &ask)?.answer(|_| true)?.unwrap_or_default();
    let (text, is_good) = past_text::shown(&result, &ask);
    let text = if options.json { format!("{:#}\n", serde_json::to_value(&result).unwrap_or_default()) } else { text };
    Ok(Tried { text, notes: String::new(), is_good })
}

/// The name of a rule on trial.
pub(super) const TRIED: &str = "test";

/// Whether a statement can be compiled.
///
/// # Errors
/// Why it cannot, with the place of the mistake.
pub(super) fn compiles(sql: &str) -> Result<(), String> {
    Program::compile(sql, TRIED).map(drop).map_err(|error| error.show(sql))
}

/// Evaluates a statement for a message, for the admin API. `rule`: the rule of the statement, with its sinks.
///
/// # Errors
/// The statement or the message cannot be used, in words.
pub(super) fn try_sql(ask: &RuleAsk, rule: Option<(&Config, &Rule)>) -> Result<RuleTrial, String> {
    let RuleAsk { sql, context, .. } = ask;
    let program = Program::compile(sql, rule.map_or(TRIED, |(_, rule)| &rule.name)).map_err(|error| error.show(sql))?;
    let made = Tries::new(&RuleTestArgs::default(), context.clone(), &program)?;
    let mut trial = RuleTrial {
        matches: made.matches(&program),
        warnings: program.warnings().iter().map(|warning| warning.show(sql)).collect(),
        ..RuleTrial::default()
    };
    let (mut tried, mut arena, machine) = (Tried { is_good: true, ..Tried::default() }, Arena::new(), machine()?);
    let sinks = rule.map(|(config, rule)| RuleSinks::of(config, rule));
    let subject = TriedRule { program: &program, sinks, json: true };
    made.evaluate(&subject, &machine.around(now_ms(), fastrand::u64(..)), &mut arena, "", &mut tried);
    for one in serde_json::Deserializer::from_str(&tried.text).into_iter::<TriedOutput>().map_while(Result::ok) {
        trial.records.extend(one.records);
        trial.messages.extend(one.messages);
        trial.outputs.push(one.output);
    }
    trial.failure = (!tried.is_good).then(|| tried.notes.trim_end().to_owned());
    Ok(trial)
}

/// An output of a trial with what sinks would write of it, as [`TriedRule::show`] writes both.
#[derive(Deserialize)]
struct TriedOutput {
    output: Box<RawValue>,
    records: Vec<Value>,
    messages: Vec<Value>,
}

/// The facts of this machine and process for rules.
///
/// # Errors
/// The time zone cannot be read, in words.
pub(super) fn machine() -> Result<Machine, String> {
    zone(std::env::var_os("TZ")).map(machine_in)
}

/// Does the same in a time zone.
pub(super) fn machine_in(zone: TimeZone) -> Machine {
    let readable = |(name, value): (OsString, OsString)| Some((name.into_string().ok()?, value.into_string().ok()?));
    let variables = std::env::vars_os().filter_map(readable);
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    Machine { zone, environment: Environment::of(variables), node: format!("forebay@{host}") }
}

/// The time zone of this machine. `named`: the variable `TZ`.
fn zone(named: Option<OsString>) -> Result<TimeZone, String> {
    match (TimeZone::try_system(), named.filter(|name| !name.is_empty())) {
        (Ok(zone), _) => Ok(zone),
        // A machine without a time zone has UTC.
        (Err(_), None) => Ok(TimeZone::UTC),
        (Err(why), Some(name)) => Err(format!(
            "the time zone of the variable TZ, {}, cannot be read: {why}; install the time zones (tzdata), name one that they have, as in TZ=Europe/Berlin, or unset TZ",
            name.to_string_lossy()
        )),
    }
}

/// Explains a rule.
///
/// # Errors
/// The rule cannot be used, in words.
pub fn explain(options: &RuleExplainArgs, config: Option<&Config>) -> Result<String, String> {
    let rule = rule_of(config, &options.of)?;
    let program = match rule.and_then(|rule| rule.program.clone()) {
        Some(program) => program,
        None => {
            let sql = options.sql.as_deref().unwrap_or_default();
            Arc::new(Program::compile(sql, "explain").map_err(|error| error.show(sql))?)
        }
    };
    let explanation = program.explain();
    let mut text = String::new();
    let mut line = |name: &str, items: &[String]| {
        let items = if items.is_empty() { "-".to_owned() } else { items.join(", ") };
        let _ = writeln!(text, "{name:<14} {items}");
    };
    line("from", &explanation.from);
    line("columns", &explanation.columns);
    line("fields", &explanation.fields.iter().map(|field| (*field).to_owned()).collect::<Vec<_>>());
    line("payload paths", &explanation.payload_paths);
    for (clause, parts) in &explanation.failing {
        line(&format!("{} can fail", clause.as_str()), parts);
    }
    if explanation.failing.is_empty() {
        line("can fail", &[]);
    }
    if let Some((config, rule)) = config.zip(rule) {
        rule_records::explain(config, rule, &mut text);
    }
    for warning in program.warnings() {
        let _ = writeln!(text, "warning: {}", warning.show(program.sql()));
    }
    Ok(text)
}

/// The input of a trial.
#[derive(Debug)]
enum Tries {
    Message(Box<Made>),
    Facts(MadeFacts),
}

impl Tries {
    fn new(options: &RuleTestArgs, fields: RawFields, program: &Program) -> Result<Self, String> {
        let given = fields.get("event_type").and_then(|event| serde_json::from_str::<String>(event.get()).ok());
        match Kind::of(program, given.as_deref().or(options.event.as_deref()))? {
            None => Made::new(options, fields, program).map(|made| Self::Message(Box::new(made))),
            Some(kind) => MadeFacts::new(kind, options, fields, (program, now_ms())).map(Self::Facts),
        }
    }

    fn matches(&self, program: &Program) -> bool {
        match self {
            Self::Message(made) => program.filters().any(|filter| topic::matches(filter, &made.topic)),
            Self::Facts(_) => true,
        }
    }

    fn evaluate(&self, of: &TriedRule<'_>, around: &Around<'_>, arena: &mut Arena, which: &str, tried: &mut Tried) {
        match self {
            Self::Message(made) => made.evaluate(of, around, arena, which, tried),
            Self::Facts(made) => made.with(|facts, context, defaults| {
                let mut input = Input::of(Subject::Facts(facts), around, arena);
                evaluate(of, &mut input, (context, Some(defaults)), which, tried);
            }),
        }
    }
}

/// A message out of options and JSON.
#[derive(Debug, Default)]
struct Made {
    topic: String,
    payload: String,
    client_id: String,
    username: Option<String>,
    qos: u8,
    retain: bool,
    dup: bool,
    timestamp_ms: i64,
    properties: PropertyBuf,
    id: Option<String>,
    peerhost: Option<String>,
    peername: Option<String>,
    node: Option<String>,
    pub_props: Option<String>,
    metadata: Option<String>,
    client_attrs: Option<String>,
}

impl Made {
    /// Options come before fields.
    fn new(options: &RuleTestArgs, mut fields: RawFields, program: &Program) -> Result<Self, String> {
        let mut made = Self { client_id: "test".to_owned(), peerhost: Some("127.0.0.1".to_owned()), ..Self::default() };
        made.timestamp_ms = now_ms();
        fields.remove("event_type");
        for (name, value) in fields {
            made.set(&name, &value)?;
        }
        for (option, field) in [
            (&options.topic, &mut made.topic),
            (&options.payload, &mut made.payload),
            (&options.clientid, &mut made.client_id),
        ] {
            if let Some(text) = option {
                field.clone_from(text);
            }
        }
        if options.username.is_some() {
            made.username.clone_from(&options.username);
        }
        made.qos = options.qos.unwrap_or(made.qos);
        made.retain |= options.retain;
        for (name, value) in &options.user_property {
            made.pub_props = None;
            if !made.properties.push(Property::UserProperty(name, value)) {
                return Err(format!("the user property {name:?} is too long"));
            }
        }
        if made.topic.is_empty() {
            let levels = |filter: &str| filter.replace(['+', '#'], "1");
            made.topic = program.filters().next().map(levels).unwrap_or_default();
        }
        if !topic::valid_name(&made.topic) {
            return Err(format!("`{}` is no topic", made.topic));
        }
        Ok(made)
    }

    fn set(&mut self, name: &str, raw: &RawValue) -> Result<(), String> {
        let value: Value = serde_json::from_str(raw.get()).map_err(|error| format!("`{name}`: {error}"))?;
        let wanted = |what: &str| format!("`{name}` is {what}");
        let text = |value: &Value| value.as_str().map(str::to_owned).ok_or_else(|| wanted("a text"));
        let object = |value: &Value| value.is_object().then(|| raw.get().to_owned()).ok_or_else(|| wanted("an object"));
        let flag = |value: &Value| value.as_bool().ok_or_else(|| wanted("true or false"));
        match name {
            "topic" => self.topic = text(&value)?,
            // A payload that is not a string is JSON text.
            "payload" => self.payload = value.as_str().unwrap_or(raw.get()).to_owned(),
            "clientid" => self.client_id = text(&value)?,
            "username" => self.username = if value.is_null() { None } else { Some(text(&value)?) },
            "qos" => {
                self.qos = value
                    .as_u64()
                    .and_then(|qos| u8::try_from(qos).ok())
                    .filter(|qos| *qos <= 2)
                    .ok_or_else(|| wanted("0, 1 or 2"))?
            }
            "retain" => self.retain = flag(&value)?,
            "dup" => self.dup = flag(&value)?,
            "flags" => {
                for (name, value) in value.as_object().ok_or_else(|| wanted("an object"))? {
                    match name.as_str() {
                        "retain" => self.retain = flag(value)?,
                        "dup" => self.dup = flag(value)?,
                        _ => {}
                    }
                }
            }
            "timestamp" | "publish_received_at" => {
                self.timestamp_ms = value.as_i64().ok_or_else(|| wanted("a whole number of milliseconds"))?
            }
            "id" => self.id = Some(text(&value)?),
            "peerhost" => self.peerhost = if value.is_null() { None } else { Some(text(&value)?) },
            "peername" => self.peername = if value.is_null() { None } else { Some(text(&value)?) },
            "node" => self.node = Some(text(&value)?),
            "pub_props" => self.pub_props = Some(object(&value)?),
            "metadata" => self.metadata = Some(object(&value)?),
            "client_attrs" => self.client_attrs = Some(object(&value)?),
            "event" => {}
            // Messages have none of these here.
            _ if OF_EMQX.contains(&name) => {}
            _ => {
                let known: Vec<_> = FIELDS.iter().map(|(field, _)| field.as_str()).collect();
                return Err(format!("messages have no field `{name}`; they have {}", known.join(", ")));
            }
        }
        Ok(())
    }

    fn evaluate(&self, of: &TriedRule<'_>, around: &Around<'_>, arena: &mut Arena, which: &str, tried: &mut Tried) {
        let program = of.program;
        let is_for = program.filters().any(|filter| topic::matches(filter, &self.topic));
        if !is_for {
            let filters: Vec<_> = program.filters().collect();
            let _ = writeln!(
                tried.notes,
                "{which}not evaluated: the topic {} matches no filter of the rule: {}",
                self.topic,
                filters.join(", ")
            );
            return;
        }
        let context = MessageContext {
            topic: &self.topic,
            client_id: &self.client_id,
            username: self.username.as_deref(),
            qos: self.qos,
            retain: self.retain,
            dup: self.dup,
            packet_id: 0,
            payload: self.payload.as_bytes(),
            timestamp_ms: self.timestamp_ms,
            properties: self.properties.as_properties(),
            hops: 0,
            copy_of: None,
            output: None,
        };
        let message = Message {
            context,
            id: self.id.as_deref().map_or(Id::Number(u128::from(around.seed)), Id::Text),
            peerhost: self.peerhost.as_deref(),
            peername: self.peername.as_deref(),
            node: self.node.as_deref().unwrap_or("forebay@127.0.0.1"),
            given: Given {
                pub_props: self.pub_props.as_deref(),
                metadata: self.metadata.as_deref(),
                client_attrs: self.client_attrs.as_deref(),
            },
        };
        evaluate(of, &mut Input::new(&message, around, arena), (&context, None), which, tried);
    }
}

fn evaluate(
    of: &TriedRule<'_>,
    input: &mut Input<'_>,
    (context, defaults): (&MessageContext<'_>, Option<Defaults<'_>>),
    which: &str,
    tried: &mut Tried,
) {
    let mut outputs = Vec::new();
    let outcome = of.program.evaluate(input, |output| of.show(output, (context, defaults), &mut outputs));
    match outcome {
        Ok(Outcome::Passed(_)) => tried.text.push_str(&String::from_utf8_lossy(&outputs)),
        Ok(Outcome::Filtered) => {
            let _ = writeln!(tried.notes, "{which}no output: the message is filtered");
        }
        Err(failure) => {
            tried.is_good = false;
            let _ = writeln!(tried.notes, "{which}failed: {}", failure.show(of.program.sql()));
        }
    }
    if input.mixed_comparisons() > 0 {
        let _ = writeln!(
            tried.notes,
            "{which}warning: values of different types were compared; numbers come before booleans, objects, arrays and texts"
        );
    }
}

fn read_object(file: &Path) -> Result<RawFields, String> {
    object(&text_of(file)?).map_err(|error| format!("{}: {error}", file.display()))
}

fn object(text: &str) -> Result<RawFields, String> {
    let value: &RawValue = serde_json::from_str(text).map_err(|error| format!("that is no JSON: {error}"))?;
    serde_json::from_str(value.get()).map_err(|_| {
        "a message is a JSON object of its fields, such as {\"topic\":\"t/1\",\"payload\":\"…\"}".to_owned()
    })
}
