//! Values of the keys of a source.

use std::time::Duration;

use crate::config::setting::words;
use crate::rule::record::{Encoding, RecordTemplate};

/// The Kafka topics of a source, each in one source only.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Topics {
    /// No topic: `topic` was wrong, which is reported.
    #[default]
    None,
    /// All records go where the source's `mqtt_topic` says.
    One(Vec<String>),
    /// Each topic has an MQTT topic of its own.
    Each(Vec<(String, RecordTemplate)>),
}

/// A value that is the same for all records, or made of each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Choice<T> {
    /// The value.
    Fixed(T),
    /// What this yields is the value.
    Of(RecordTemplate),
}

impl<T: Default> Default for Choice<T> {
    fn default() -> Self {
        Self::Fixed(T::default())
    }
}

/// The start of a partition for which the group has no offset, or one that Kafka does not have any more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OffsetReset {
    /// Behind the newest record.
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
    /// The destinations of a source's messages, beside which rules will stand.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub enum Feed {
        /// Subscribers.
        Subscribers = "subscribers",
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
        /// Those of transactions that were committed.
        Committed = "committed",
        /// All.
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
        /// The record is written to the source's dead letter topic, and then settled.
        DeadLetter = "dead-letter",
        /// Its partition stops there.
        Stop = "stop",
    }
}

words! {
    /// The handling of a batch that cannot be read.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub enum OnBadBatch {
        /// Its partition stops there.
        Stop = "stop",
        /// It is passed over.
        Skip = "skip",
    }
}

words!(impl Encoding { None = "none", Base64 = "base64" });
