//! The templates of a sink's rows: over a message, or over the output of a rule.

use toml::de::DeValue;

use super::problem::Fault;
use super::reader::Table;
use super::resolved::{Fed, Rule, ValueFormat};
use super::setting::Setting as _;
use super::values;
use forebay_kafka::topic_name::{is_legal, kafka_topic};
use forebay_rule::column::{Column, IfAbsent};
use forebay_rule::members::{Encode, HeadersFrom};
use forebay_rule::template::{Fixed, Template, Variable};
use forebay_rule::time::{RecordTime, TimeUnit};

/// The input of templates.
#[derive(Clone, Copy)]
pub(super) enum Over<'f> {
    Message(&'f Fixed<'f>),
    Output(&'f Fixed<'f>),
}

impl Over<'_> {
    /// Reads a template. `absent`: the handling of a column that is not there.
    fn template(self, value: &DeValue<'_>, absent: IfAbsent) -> Result<Template, Fault> {
        match self {
            Self::Message(fixed) => values::template(value, fixed),
            Self::Output(fixed) => values::template_of_output(value, fixed, absent),
        }
    }
}

/// Reads the templates of rows; the topic is `None` if it is wrong or missing, which is reported.
pub(super) fn read(table: &Table<'_>, over: Over<'_>) -> (Option<Template>, Fed) {
    let topic = table.find("topic", |_, value| over.template(value, IfAbsent::MissingOrNull));
    if let Some(topic) = &topic {
        check_topic(table, topic);
    }
    // The default is the topic of the message for rows of rules, too.
    let key = match over {
        Over::Output(_) if table.has("key") => {
            table.find("key", |_, value| over.template(value, IfAbsent::MissingOrNull)).unwrap_or_default()
        }
        Over::Output(fixed) | Over::Message(fixed) => table.read("key", |_, value| values::template(value, fixed)),
    };
    let value = match over {
        Over::Message(_) => table.read("value", |_, value| over.template(value, IfAbsent::Empty)),
        Over::Output(fixed) => {
            let is_whole = !table.has("value") || table.read("value_format", ValueFormat::of) == ValueFormat::Json;
            let whole = || Template::over_output("${.}", fixed, IfAbsent::Empty).unwrap_or_default();
            let given = || table.find("value", |_, value| over.template(value, IfAbsent::Empty)).unwrap_or_default();
            if is_whole { whole() } else { given() }
        }
    };
    check_quotes(table, "value", &value);
    let fed = Fed {
        topic: topic.clone().unwrap_or_default(),
        key: (key.as_literal() != Some("")).then_some(key),
        value,
        timestamp: timestamp(table, over),
        headers: headers(table, over),
        headers_from: headers_from(table, over),
    };
    (topic, fed)
}

/// Reads the templates once more over the output of rules, for a sink that has filters, too.
pub(super) fn beside_filters(table: &Table<'_>, fixed: &Fixed<'_>) -> Option<Fed> {
    if !table.has("value") && table.read("value_format", ValueFormat::of) == ValueFormat::Raw {
        let fault = Fault::new("is required: the sink has filters, and rules feed it");
        let hint = "write value = \"${payload}\" if messages and outputs both have that, or give the rules a sink of their own";
        table.source.report(&table.spot("value"), fault.hint(hint));
    }
    let before = table.source.problem_count();
    let (_, fed) = read(table, Over::Output(fixed));
    (table.source.problem_count() == before).then_some(fed)
}

/// Reports columns that an output of one of the rules never has.
pub(super) fn check_columns(table: &Table<'_>, fed: &Fed, rules: &[&Rule]) {
    let key = fed.key.iter().map(|template| ("key", template));
    let time = fed.timestamp.iter().map(|time| ("timestamp", &time.template));
    let headers = fed.headers.iter().map(|(_, template)| ("headers", template));
    let from = fed.headers_from.iter().map(|from| ("headers_from", &from.template));
    let all = [("topic", &fed.topic), ("value", &fed.value)].into_iter().chain(key).chain(time).chain(headers);
    for (name, template) in all.chain(from) {
        for column in template.columns().filter_map(Column::name) {
            for rule in rules {
                let Some(Err(unknown)) = rule.program.as_ref().map(|program| program.has_column(column)) else {
                    continue;
                };
                let what = format!("asks for `{column}`, and rule \"{}\" has no column of that name", rule.name);
                table.source.report(&table.spot(name), Fault::new(what).hint(unknown.hint));
            }
        }
    }
}

/// Warns of a payload between quotes, where it is not escaped.
pub(super) fn check_quotes(table: &Table<'_>, key: &str, template: &Template) {
    let is_payload = |of: &Variable| match of {
        Variable::Payload => true,
        Variable::Column(column) => column.plain() == Some("payload"),
        _ => false,
    };
    let parts: Vec<_> = template.shape().collect();
    let is_quoted = parts.windows(3).any(|parts| match parts {
        [Ok(before), Err(of), Ok(after)] => is_payload(of) && before.ends_with('"') && after.starts_with('"'),
        _ => false,
    });
    if is_quoted {
        let fault = Fault::new(
            "the payload is put between the quotes as it is: one with quotes or line breaks in it makes no JSON",
        );
        let hint = "for a payload that is JSON leave the quotes out; else feed the sink by a rule with `json_encode(payload) AS text`, and write `${text}` without quotes";
        table.source.warn(&table.spot(key), fault.hint(hint));
    }
}

/// Reports a literal topic that Kafka does not take as a name, or a template with illegal characters in its texts.
fn check_topic(table: &Table<'_>, topic: &Template) {
    let spot = table.spot("topic");
    match topic.as_literal() {
        Some(name) => {
            if let Err(error) = kafka_topic(name.as_bytes()) {
                table.source.report(&spot, Fault::new(format!("\"{name}\" is not a valid Kafka topic: it {error}")));
            }
        }
        None => {
            if let Some(c) = topic.texts().flat_map(str::chars).find(|c| !is_legal(*c)) {
                let hint = "Kafka allows letters, digits, `.`, `_` and `-`";
                table.source.report(&spot, Fault::new(format!("`{c}` cannot be in a Kafka topic")).hint(hint));
            }
        }
    }
}

/// The template of a record's time, and the unit of its number.
fn timestamp(table: &Table<'_>, over: Over<'_>) -> Option<RecordTime> {
    let unit = table.read("timestamp_unit", TimeUnit::of);
    let template = table.find("timestamp", |_, value| over.template(value, IfAbsent::MissingOrNull));
    if !table.has("timestamp") && unit != TimeUnit::Millis {
        let fault = Fault::new("has no effect without `timestamp`").hint("add it, as in \"${payload.ts}\"");
        table.source.warn(&table.spot("timestamp_unit"), fault);
    }
    let template = template?;
    if template.as_literal().is_some() {
        let fault = Fault::new("would be the same time for every record");
        table.source.report(&table.spot("timestamp"), fault.hint("take it from the message, as in \"${payload.ts}\""));
    }
    Some(RecordTime { template, unit })
}

fn headers(table: &Table<'_>, over: Over<'_>) -> Vec<(String, Template)> {
    let mut headers = Vec::new();
    for (name, value, spot) in table.entries("headers") {
        let read = match value {
            DeValue::Table(_) => Err(values::wrong_type("a template", value).hint("quote a name that contains dots")),
            _ => over.template(value, IfAbsent::Missing),
        };
        match read {
            Ok(_) if name.is_empty() => table.source.report(&spot, Fault::new("a header needs a name")),
            Ok(template) => headers.push((name.to_owned(), template)),
            Err(fault) => table.source.report(&spot, fault),
        }
    }
    headers
}

fn headers_from(table: &Table<'_>, over: Over<'_>) -> Option<HeadersFrom> {
    let encode = table.read("headers_encode", Encode::of);
    if encode == Encode::Json && !table.has("headers_from") {
        let fault = Fault::new("has no effect without headers_from");
        table.source.warn(&table.spot("headers_encode"), fault.hint("add headers_from, or leave it out"));
    }
    let template = table.find("headers_from", |_, value| over.template(value, IfAbsent::Missing))?;
    if template.as_literal().is_some() {
        let fault = Fault::new("is the same for every message").hint("name fixed headers in headers");
        table.source.report(&table.spot("headers_from"), fault);
    }
    Some(HeadersFrom { template, encode })
}
