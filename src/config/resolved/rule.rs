//! Values of the keys of a rule, and the templates of rows that rules feed.

use crate::config::setting::words;
use crate::rule::members::HeadersFrom;
use crate::rule::template::Template;
use crate::rule::time::RecordTime;

words! {
    /// The handling of a message for which a rule fails.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub enum OnError {
        /// The rule goes without the message.
        #[default]
        Skip = "skip",
        /// The message becomes a dead letter of one of the rule's sinks.
        DeadLetter = "dead-letter",
        /// No destination gets the message.
        Reject = "reject",
    }
}

/// The templates of a sink's rows that rules feed: over the output of a rule.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fed {
    /// The Kafka topic.
    pub topic: Template,
    /// The record's key; `None`: records have none.
    pub key: Option<Template>,
    /// The record's value.
    pub value: Template,
    /// The record's time.
    pub timestamp: Option<RecordTime>,
    /// Headers in the order of the file.
    pub headers: Vec<(String, Template)>,
    /// More headers, with names from the output.
    pub headers_from: Option<HeadersFrom>,
}
