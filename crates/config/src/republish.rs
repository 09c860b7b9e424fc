//! Messages that a rule publishes from its outputs, checked against its statement.

use std::collections::BTreeMap;

use toml::de::DeValue;

use super::keys::{Key, Section};
use super::problem::{Fault, did_you_mean};
use super::reader::Table;
use super::resolved::{MessageProperty, Republish, Rule};
use super::rows::check_quotes;
use super::setting::Words as _;
use super::sources::check_mqtt_topic;
use super::values;
use forebay_mqtt::route::filter;
use forebay_mqtt::topic::{is_of_service, valid_name};
use forebay_rule::column::{Column, IfAbsent};
use forebay_rule::members::{Encode, HeadersFrom};
use forebay_rule::program::Program;
use forebay_rule::template::{Fixed, Template, Variable};

/// The user properties of the incoming message, whether or not they are selected.
pub const USER_PROPERTIES_OF_MESSAGE: &str = "${pub_props.'User-Property'}";

/// Reads the `[[rule.republish]]` of a rule.
pub(super) fn read(table: &Table<'_>, rule: &Rule, environment: &BTreeMap<String, String>) -> Vec<Republish> {
    let parts = table.list_parts(Section::RuleRepublish);
    parts.iter().filter_map(|part| one(part, rule, environment)).collect()
}

fn one(table: &Table<'_>, rule: &Rule, environment: &BTreeMap<String, String>) -> Option<Republish> {
    let fixed = Fixed { metadata: &[], environment };
    let of = |absent| move |_: &Key, value: &DeValue<'_>| values::template_of_output(value, &fixed, absent);
    let topic = table.find("topic", of(IfAbsent::MissingOrNull));
    let whole_if_empty = |key: &Key, value: &DeValue<'_>| match value.as_str() {
        Some("") => of(IfAbsent::Empty)(key, &DeValue::String("${.}".into())),
        _ => of(IfAbsent::Empty)(key, value),
    };
    let missing = |value: &DeValue<'_>| values::template_of_output(value, &fixed, IfAbsent::Missing);
    let is_of_message = table.text("user_properties") == Some(USER_PROPERTIES_OF_MESSAGE);
    let made = Republish {
        topic: topic.clone().unwrap_or_default(),
        payload: table.read("payload", whole_if_empty),
        qos: table.read("qos", |key, value| values::template_or(key, value, &["0", "1", "2"], missing)),
        retain: table.read("retain", |key, value| values::template_or(key, value, &["true", "false"], missing)),
        user_properties: (!is_of_message).then(|| HeadersFrom {
            template: table.read("user_properties", of(IfAbsent::Missing)),
            encode: Encode::Either,
        }),
        properties: properties(table, &fixed),
        is_direct: table.read("direct", values::flag),
    };
    check_topic(table, &topic?, rule);
    check_quotes(table, "payload", &made.payload);
    if let Some(program) = &rule.program {
        if let Some(event) = program.events().iter().find(|event| event.feeds_itself()) {
            let what = format!(
                "rule \"{}\" has `{}` in FROM, and what it publishes can be dropped, too",
                rule.name,
                event.from()
            );
            table.source.report(&table.spot("topic"), Fault::new(what).hint("feed a sink"));
        }
        check_columns(table, &made, (program, &rule.name));
    }
    Some(made)
}

fn properties(table: &Table<'_>, fixed: &Fixed<'_>) -> Vec<(MessageProperty, Template)> {
    let mut read: Vec<(MessageProperty, Template)> = Vec::new();
    for (name, value, spot) in table.entries("properties") {
        let fault = match (MessageProperty::named(name), value) {
            (None, _) => {
                let known = || MessageProperty::WORDS.iter().map(|(name, _)| *name);
                let all = || format!("it is one of {}", known().collect::<Vec<_>>().join(", "));
                let hint = did_you_mean(name, known()).unwrap_or_else(all);
                Fault::new(format!("\"{name}\" is no property of a message")).hint(hint)
            }
            (Some(of), _) if read.iter().any(|(known, _)| *known == of) => {
                Fault::new(format!("\"{}\" is there already", of.as_str()))
            }
            (Some(of), value) => match template_of_property(of, value, fixed) {
                Ok(template) => {
                    read.push((of, template));
                    continue;
                }
                Err(fault) => fault,
            },
        };
        table.source.report(&spot, fault);
    }
    read
}

fn template_of_property(of: MessageProperty, value: &DeValue<'_>, fixed: &Fixed<'_>) -> Result<Template, Fault> {
    // A response topic is not made of a part that is not there, either.
    let absent = IfAbsent::MissingOrNull;
    let template = match value {
        DeValue::Integer(number) => {
            let text = number.to_string();
            values::template_of_output(&DeValue::String(text.as_str().into()), fixed, absent)
        }
        _ => values::template_of_output(value, fixed, absent),
    }?;
    let Some(literal) = template.as_literal() else { return Ok(template) };
    let (is_right, hint) = match of {
        MessageProperty::PayloadFormatIndicator => (matches!(literal, "0" | "1"), "must be 0, 1 or a template"),
        MessageProperty::MessageExpiryInterval => (literal.parse::<u32>().is_ok(), "must be seconds, or a template"),
        MessageProperty::ResponseTopic => (valid_name(literal), "must be an MQTT topic, or a template"),
        MessageProperty::ContentType | MessageProperty::CorrelationData => (true, ""),
    };
    if is_right { Ok(template) } else { Err(Fault::new(format!("\"{literal}\" is no {}", of.as_str())).hint(hint)) }
}

/// Reports a topic that no message can have, and warns of one that the rule reads itself, or that publishers choose.
fn check_topic(table: &Table<'_>, topic: &Template, rule: &Rule) {
    let spot = table.spot("topic");
    check_mqtt_topic(table, topic, &spot);
    let text = topic.as_literal();
    if text.is_some_and(is_of_service) || topic.begins_with("$SYS/") {
        let fault = Fault::new("topics below `$SYS/` are the service's own");
        table.source.report(&spot, fault.hint("choose another topic"));
        return;
    }
    let Some(program) = &rule.program else { return };
    let reads = |text: &str| program.filters().any(|own| filter::matches(own, text));
    if text.is_some_and(reads) {
        let what =
            format!("rule \"{}\" reads this topic itself, and is not evaluated for what it has published", rule.name);
        table.source.warn(&spot, Fault::new(what).hint("publish to a topic that its FROM does not match"));
    }
    let Some(Err(Variable::Column(first))) = topic.shape().next() else { return };
    let is_chosen = first.name().is_none_or(|column| program.is_chosen_by_publisher(column));
    if is_chosen {
        let what = "publishers can choose any topic by what they send, and no access control list is asked";
        table.source.warn(&spot, Fault::new(what).hint("begin with levels of your own, as in \"alarms/${room}\""));
    }
}

/// Reports columns that an output of the rule never has. Defaults may refer to columns that are missing, written down or not.
fn check_columns(table: &Table<'_>, made: &Republish, (program, rule): (&Program, &str)) {
    let user = made.user_properties.iter().map(|from| ("user_properties", &from.template));
    let all = [("topic", &made.topic), ("payload", &made.payload), ("qos", &made.qos), ("retain", &made.retain)];
    let all = all.into_iter().chain(user).chain(made.properties.iter().map(|(_, template)| ("properties", template)));
    for (name, template) in all {
        let is_default = template.to_string() == format!("${{{name}}}");
        if is_default && name != "payload" {
            continue;
        }
        for column in template.columns().filter_map(Column::name) {
            let Err(unknown) = program.has_column(column) else { continue };
            let what = format!("asks for `{column}`, and rule \"{rule}\" has no column of that name");
            let whole = "the default is \"${payload}\": write payload = \"${.}\" for the whole output";
            let hint = if is_default { whole.to_owned() } else { unknown.hint };
            table.source.report(&table.spot(name), Fault::new(what).hint(hint));
        }
    }
}
