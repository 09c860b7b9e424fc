//! Keys of rules: SQL between a message and its destinations.

use std::sync::Arc;

use super::Key;
use crate::resolved::{OnError, Republish};
use crate::setting::{Words, settings};
use forebay_rule::program::Program;

settings! {
    /// `[[rule]]`
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct Rule in Rule {
        apart name: String => Text, Required, shown "\"hot\"",
            "Unique name among the rules, used in metrics and events, and `metadata.rule_id` in SQL: letters, digits, `.`, `_`, `-`; at most 100 characters.";
        now description: Option<String> => Text, From("none"), shown "\"Rooms that are too hot\"",
            "What this rule is for, for people: shown by the API.";
        now sql: String => Text, Required, shown "\"SELECT * FROM \\\"t/#\\\" WHERE payload.temp > 20\"",
            "The statement: see [SQL.md](SQL.md). FROM names the topic filters of its messages, sources, events.";
        now sinks: Vec<String> => TextList, From("none"), shown "[\"telemetry\"]",
            "Names of sinks: each output of the rule becomes a record of each of them. Their templates are then over the output: see [below](#rows-of-rules).";
        apart on_error: OnError => Word(OnError::NAMES), From("`\"dead-letter\"` if all sinks of the rule have dead letters, otherwise `\"skip\"`"),
            "What to do with a message for which the rule fails: a value of the wrong type, a payload that is not JSON, more work than a message may cost. \
             `\"skip\"`: the rule goes without it, counted; all other destinations have it. `\"dead-letter\"`: likewise, and the message becomes a dead letter of \
             the first of its sinks that has dead letters. `\"reject\"`: no destination gets the message, and its publisher is told.";
        now enabled: bool = Flag, Is("true"),
            "If false, the rule is checked and not evaluated: for its sinks it is as if no message matched.";
        now console: bool = Flag, Is("false"),
            "Whether each output is written to the log, for a look at a new rule: at most ten a second on each shard, with how many were left out, and 4 KiB of each. \
             Only with `payloads` in `[log]`.";
    }
    and {
        /// The compiled statement; `None`: the statement is wrong, which is reported.
        program: Option<Arc<Program>>,
        /// Messages that the rule publishes for each output.
        republish: Vec<Republish>,
        /// Whether the rule was removed while the service runs: its place, and its counters, stay until the restart.
        is_removed: bool,
    }
}

impl Rule {
    /// Whether FROM names this source.
    #[must_use]
    pub fn names(&self, source: &str) -> bool {
        self.program.as_ref().is_some_and(|program| program.sources().iter().any(|named| *named.name == *source))
    }
}
/// `[[rule.republish]]`
pub(super) const REPUBLISH: &[Key] = keys! {
    RuleRepublish.topic: Template, Required, shown "\"alarms/${clientid}\"",
        "MQTT topic. A message for which it yields none, or one below `$SYS/`, is one for which the rule fails.";
    RuleRepublish.payload: Template, Is("\"${payload}\""),
        "Payload. `\"${.}\"`, and `\"\"`: the whole output as JSON. What the output does not have is empty.";
    RuleRepublish.qos: QosTemplate, Is("\"${qos}\""),
        "QoS, as in `1` or `\"${qos}\"`. Where it yields none, that of the message that came in.";
    RuleRepublish.retain: FlagTemplate, Is("\"${retain}\""),
        "Whether the message is retained, as in `true` or `\"${flags.retain}\"`. Where it yields neither `true` nor `false`, it is not.";
    RuleRepublish.user_properties: Template, Is("\"${user_properties}\""),
        "MQTT 5 user properties: an object, or a list of objects with `key` and `value`; others than texts as JSON. `\"${pub_props.'User-Property'}\"`: those of \
         the message that came in, selected or not, in their order.";
    RuleRepublish.properties: TemplateTable, From("none"), shown "{ message_expiry_interval = \"60\" }",
        "Other MQTT 5 properties: `payload_format_indicator`, `message_expiry_interval`, `content_type`, `response_topic`, `correlation_data`, also as the standard \
         writes them (`Message-Expiry-Interval`). One for which the output has nothing is left out.";
    RuleRepublish.direct: Flag, Is("false"),
        "If true, the message goes to subscribers, and is retained; no sink and no rule sees it.";
};
