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

/// A message that a rule publishes of each output: templates over the output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Republish {
    /// The MQTT topic.
    pub topic: Template,
    /// The payload.
    pub payload: Template,
    /// The QoS; a QoS is one that is fixed.
    pub qos: Template,
    /// The RETAIN flag.
    pub retain: Template,
    /// What is to yield the user properties; `None`: those of the message that came in.
    pub user_properties: Option<HeadersFrom>,
    /// Other properties, in the order of the file.
    pub properties: Vec<(MessageProperty, Template)>,
    /// Neither sinks nor rules see the message.
    pub is_direct: bool,
}

words! {
    /// A property of a message that is no user property.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub enum MessageProperty {
        /// Whether the payload is UTF-8.
        PayloadFormatIndicator = "payload_format_indicator",
        /// How long the message is of use, in seconds.
        MessageExpiryInterval = "message_expiry_interval",
        /// What the payload is.
        ContentType = "content_type",
        /// Where an answer is to go.
        ResponseTopic = "response_topic",
        /// What an answer is to have.
        CorrelationData = "correlation_data",
    }
}

impl MessageProperty {
    /// The property of a name, as here or as in the standard, with hyphens.
    pub(in crate::config) fn named(name: &str) -> Option<Self> {
        use crate::config::setting::Words as _;
        let name = name.to_ascii_lowercase().replace('-', "_");
        Self::WORDS.iter().find(|(known, _)| *known == name).map(|(_, of)| *of)
    }
}
