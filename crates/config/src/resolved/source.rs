//! Values of the keys of a source.

use std::time::Duration;

use serde_json::Value;
use toml::de::DeValue;

use crate::keys::Key;
use crate::problem::Fault;
use crate::setting::{Setting, Show, words};
use crate::values;
use forebay_metrics::time::rfc3339;
use forebay_rule::record::{Encoding, RecordTemplate};

/// The Kafka topics of a source, each in one source only.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Topics {
    /// No topic: `topic` was wrong, which is reported.
    #[default]
    None,
    /// The records of all topics use the source's `mqtt_topic`.
    One(Vec<String>),
    /// Each topic has an MQTT topic of its own.
    Each(Vec<(String, RecordTemplate)>),
}

/// A value that is the same for all records, or rendered from each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Choice<T> {
    /// The value.
    Fixed(T),
    /// The value that this template yields.
    Of(RecordTemplate),
    /// The value that this template yields; the second one for a record without the field that the template needs.
    Either(RecordTemplate, T),
}

impl<T: Default> Default for Choice<T> {
    fn default() -> Self {
        Self::Fixed(T::default())
    }
}

/// The start of a partition for which the group has no offset, or one that is no longer in Kafka.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OffsetReset {
    /// After the newest record.
    #[default]
    Latest,
    /// The oldest record.
    Earliest,
    /// The first record with this timestamp or a later one, milliseconds since the Unix epoch.
    At(i64),
    /// The first record that is no older than this when the position is looked for.
    Ago(Duration),
}

words! {
    /// The destinations of a source's messages.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub enum Feed {
        /// Subscribers.
        Subscribers = "subscribers",
        /// The rules with topic filters that match.
        Rules = "rules",
        /// The sinks with filters that match.
        Sinks = "sinks",
    }
}

words! {
    /// The handling of a record with a message that has no subscriber.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub enum NoSubscriber {
        /// The record is settled and counted.
        #[default]
        Drop = "drop",
        /// The record waits for one.
        Wait = "wait",
    }
}

words! {
    /// The records that are read of a topic with transactions.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub enum Isolation {
        /// The records of transactions that were committed.
        Committed = "committed",
        /// All records.
        All = "all",
    }
}

words! {
    /// The handling of a record that cannot be a message.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub enum OnBadRecord {
        /// The record is settled and counted.
        #[default]
        Skip = "skip",
        /// The partition stops at the record.
        Stop = "stop",
        /// The record goes to `dead_letters_topic`, and is settled when Kafka has it.
        DeadLetter = "dead-letter",
    }
}

words! {
    /// The handling of a batch that cannot be read.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub enum OnBadBatch {
        /// The partition stops at the record.
        Stop = "stop",
        /// The record is skipped.
        Skip = "skip",
    }
}

words!(impl Encoding { None = "none", Base64 = "base64" });

/// A fixed value is shown as one, not as text.
impl<T: Show> Show for Choice<T> {
    fn show(&self, key: &Key) -> Value {
        match self {
            Self::Fixed(of) => of.show(key),
            Self::Of(template) | Self::Either(template, _) => template.show(key),
        }
    }
}

impl Setting for OffsetReset {
    fn of(key: &Key, value: &DeValue<'_>) -> Result<Self, Fault> {
        values::offset_reset(key, value)
    }
}

impl Show for OffsetReset {
    fn show(&self, key: &Key) -> Value {
        match self {
            Self::Latest => "latest".into(),
            Self::Earliest => "earliest".into(),
            Self::At(ms) => rfc3339(*ms).into(),
            Self::Ago(age) => format!("-{}", age.show(key).as_str().unwrap_or_default()).into(),
        }
    }
}

/// A single topic is shown as a text.
impl Show for Topics {
    fn show(&self, key: &Key) -> Value {
        match self {
            Self::None => Value::Null,
            Self::One(topics) if topics.len() == 1 => topics[0].show(key),
            Self::One(topics) => topics.show(key),
            Self::Each(topics) => topics.show(key),
        }
    }
}
