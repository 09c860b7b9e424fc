//! The records that sinks make of a rule's outputs, as `forebay rule` shows them.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::out;
use crate::config::{Config, Rule};
use crate::control::Content;
use crate::rule::column::Defaults;
use crate::rule::failure::Failure;
use crate::rule::program::{Output, Program};
use crate::rule::template::MessageContext;
use crate::shard::trial::{Published, RuleSinks, Trial};

/// A rule that is tried.
pub(super) struct TriedRule<'a> {
    pub(super) program: &'a Program,
    /// The sinks of a rule of a configuration.
    pub(super) sinks: Option<RuleSinks<'a>>,
    /// Whether an output and its records are printed as one JSON object.
    pub(super) json: bool,
}

impl TriedRule<'_> {
    /// Appends an output as a line of JSON, and its records.
    ///
    /// # Errors
    /// A part of the output cannot be written: the rule fails for the message.
    pub(super) fn show(
        &self,
        output: &Output<'_>,
        (message, defaults): (&MessageContext<'_>, Option<Defaults<'_>>),
        out: &mut Vec<u8>,
    ) -> Result<(), Failure> {
        if self.json {
            out.extend_from_slice(b"{\"output\":");
        }
        output.write(out)?;
        let (records, published) = match &self.sinks {
            None => Default::default(),
            Some(sinks) => (sinks.records(output, message, defaults)?, sinks.published(output, message)?),
        };
        if self.json {
            let records: Vec<Value> = records.into_iter().map(|(sink, trial)| as_json(sink, trial)).collect();
            let messages: Vec<Value> = published.into_iter().map(message_as_json).collect();
            let (records, messages) = (Value::from(records), Value::from(messages));
            out.extend_from_slice(format!(",\"records\":{records},\"messages\":{messages}}}\n").as_bytes());
        } else {
            out.push(b'\n');
            records.iter().for_each(|(sink, trial)| out.extend_from_slice(as_text(sink, trial).as_bytes()));
            published.iter().for_each(|made| out.extend_from_slice(message_as_text(made).as_bytes()));
        }
        Ok(())
    }
}

fn as_json(sink: &str, trial: Trial) -> Value {
    let Trial { refused, topic, key, value, timestamp, headers, .. } = trial;
    let header = |(name, value): (Vec<u8>, Vec<u8>)| json!({ "name": String::from_utf8_lossy(&name), "value": Content::from(value) });
    json!({
        "sink": sink,
        "refused": refused,
        "topic": topic,
        "key": key.map(Content::from),
        "value": value.map(Content::from),
        "timestamp": timestamp,
        "headers": headers.into_iter().map(header).collect::<Vec<_>>(),
    })
}

fn as_text(sink: &str, trial: &Trial) -> String {
    let mut text = format!("  sink {sink}\n");
    let mut line = |name: &str, what: &str| {
        let _ = writeln!(text, "    {name:<9} {}", out::line(what));
    };
    if let Some(why) = &trial.refused {
        line("refused", why);
    }
    line("topic", trial.topic.as_deref().unwrap_or("-"));
    line("key", &trial.key.as_deref().map_or("-".to_owned(), bytes));
    line("value", &trial.value.as_deref().map_or("-".to_owned(), bytes));
    for (name, value) in &trial.headers {
        line("header", &format!("{}: {}", String::from_utf8_lossy(name), bytes(value)));
    }
    text
}

fn message_as_json(made: Published) -> Value {
    let Published { topic, payload, qos, retain, user_properties } = made;
    let payload = Content::from(payload);
    json!({ "topic": topic, "payload": payload, "qos": qos, "retain": retain, "user_properties": user_properties })
}

fn message_as_text(made: &Published) -> String {
    let mut text = "  message\n".to_owned();
    let mut line = |name: &str, what: &str| {
        let _ = writeln!(text, "    {name:<9} {}", out::line(what));
    };
    line("topic", &made.topic);
    line("payload", &bytes(&made.payload));
    line("qos", &made.qos.to_string());
    line("retain", if made.retain { "true" } else { "false" });
    for (name, value) in &made.user_properties {
        line("property", &format!("{name}: {value}"));
    }
    text
}

/// Valid text as it is, other bytes in base64.
fn bytes(of: &[u8]) -> String {
    match Content::from(of.to_vec()) {
        Content::Text(text) => text,
        Content::Base64(text) => format!("{text} (base64)"),
    }
}

/// Appends the sinks of a rule with their templates.
pub(super) fn explain(config: &Config, rule: &Rule, text: &mut String) {
    let mut line = |name: &str, what: &str| {
        let _ = writeln!(text, "{name:<14} {what}");
    };
    line("on error", rule.on_error.as_str());
    let sinks = RuleSinks::of(config, rule);
    for made in sinks.republish() {
        line("message", &format!("topic {}, payload {}", made.topic, made.payload));
    }
    for sink in sinks.sinks() {
        let Some(fed) = sink.fed.as_deref() else { continue };
        let mut parts = vec![format!("topic {}", fed.topic)];
        parts.extend(fed.key.as_ref().map(|key| format!("key {key}")));
        parts.push(format!("value {}", fed.value));
        parts.extend(fed.headers.iter().map(|(name, template)| format!("header {name}: {template}")));
        line("sink", &format!("{}: {}", sink.name, parts.join(", ")));
    }
}
