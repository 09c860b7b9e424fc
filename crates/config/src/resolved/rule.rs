//! Values of the keys of a rule, and the templates of rows that rules feed.

use crate::setting::words;
use forebay_rule::members::HeadersFrom;
use forebay_rule::template::Template;
use forebay_rule::time::RecordTime;

words! {
    /// The handling of a message for which a rule fails.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub enum OnError {
        /// The rule skips the message.
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
    /// Further headers, with names from the output.
    pub headers_from: Option<HeadersFrom>,
}

/// A message that a rule publishes of each output: templates over the output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Republish {
    /// The MQTT topic.
    pub topic: Template,
    /// The payload.
    pub payload: Template,
    /// The QoS; a constant if it is fixed.
    pub qos: Template,
    /// The RETAIN flag.
    pub retain: Template,
    /// The template that yields the user properties; `None`: those of the incoming message.
    pub user_properties: Option<HeadersFrom>,
    /// Other properties, in the order of the file.
    pub properties: Vec<(MessageProperty, Template)>,
    /// The message bypasses sinks and rules.
    pub is_direct: bool,
}

words! {
    /// A property of a message that is no user property.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub enum MessageProperty {
        /// Whether the payload is UTF-8.
        PayloadFormatIndicator = "payload_format_indicator",
        /// The lifetime of the message, in seconds.
        MessageExpiryInterval = "message_expiry_interval",
        /// The type of the payload.
        ContentType = "content_type",
        /// The topic for a response.
        ResponseTopic = "response_topic",
        /// The correlation data for a response.
        CorrelationData = "correlation_data",
    }
}

impl MessageProperty {
    /// The property of a name, as here or as in the standard, with hyphens.
    pub(crate) fn named(name: &str) -> Option<Self> {
        use crate::setting::Words as _;
        let name = name.to_ascii_lowercase().replace('-', "_");
        Self::WORDS.iter().find(|(known, _)| *known == name).map(|(_, of)| *of)
    }
}
