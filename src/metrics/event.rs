//! Every event: its name, how severe it is, which fields it has. The one list that the log, `/api/v1/events` and
//! `docs/API.md` are made from.

use serde_json::{Map, Value};

/// How severe an event is; the log's levels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// What an operator wants to know.
    Info,
    /// Something is wrong and is coped with.
    Warn,
    /// Something is lost or stops.
    Error,
}

impl Severity {
    /// The word in JSON.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Warn => "warn",
            Self::Error => "error",
        }
    }
}

/// What an event is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// The service and what it talks to come and go.
    Lifecycle,
    /// Numbers, now and then.
    Statistics,
    /// Something did not work.
    Error,
}

impl Class {
    /// The word in JSON.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Lifecycle => "lifecycle",
            Self::Statistics => "statistics",
            Self::Error => "error",
        }
    }
}

/// One row of the list.
#[derive(Clone, Copy, Debug)]
pub struct EventSpec {
    /// Its name: `kind` in JSON, `event` in the log.
    pub name: &'static str,
    /// How severe.
    pub severity: Severity,
    /// What about.
    pub class: Class,
    /// The fields that it has beside `shard`.
    pub fields: &'static [Field],
    /// One sentence: the log line's message.
    pub help: &'static str,
}

macro_rules! events {
    ($($variant:ident, $severity:ident, $class:ident, $name:literal, [$($field:ident),*], $help:literal;)*) => {
        /// The kinds of events.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(usize)]
        pub enum Kind {
            $(#[doc = $help] $variant,)*
        }

        impl Kind {
            /// How many there are.
            pub const COUNT: usize = [$(Kind::$variant),*].len();
            /// All of them.
            pub const ALL: [Self; Self::COUNT] = [$(Kind::$variant),*];
        }

        /// The list, in the order of [`Kind`].
        pub const EVENTS: [EventSpec; Kind::COUNT] = [
            $(EventSpec {
                name: $name,
                severity: Severity::$severity,
                class: Class::$class,
                fields: &[$(Field::$field),*],
                help: $help,
            },)*
        ];
    };
}

events! {
    Started, Info, Lifecycle, "started", [Version, Shards], "all shards turn, devices are accepted";
    Listening, Info, Lifecycle, "listening", [Listener], "a listener is open";
    Draining, Info, Lifecycle, "draining", [Signal, GraceMs], "draining: no new devices, finishing what is in flight";
    ShardDrained, Info, Lifecycle, "shard_drained", [RowsLeft, RowsKept, ConnectionsLeft], "drained";
    Drained, Info, Lifecycle, "drained", [RowsKept], "drained: everything taken is in Kafka, or in the spool";
    ShardStandsStill, Error, Error, "shard_stands_still", [SilentMs], "a shard has not turned for long";
    KafkaReachable, Info, Lifecycle, "kafka_reachable", [Kafka], "a broker of the Kafka cluster answers";
    KafkaUnreachable, Warn, Error, "kafka_unreachable", [Kafka], "no connection to the Kafka cluster stands; messages are held; `forebay check` says why";
    TopicUnknown, Warn, Error, "topic_unknown", [Sink, Topic, Code, Error], "Kafka does not know the topic, or it has no leader; messages wait; `forebay topics create` makes one that is missing";
    TopicKnown, Info, Lifecycle, "topic_known", [Sink, Topic], "the topic is there by now";
    TopicForbidden, Warn, Error, "topic_forbidden", [Sink, Topic, Code, Error], "we may not write to the topic; messages for it are refused for a while; `forebay check` names the ACL that it needs";
    TopicRefused, Warn, Error, "topic_refused", [Sink, Topic, Code, Error], "Kafka refuses the topic; messages for it are refused for a while";
    TopicMadeAnew, Warn, Error, "topic_made_anew", [Sink, Topic, From, To], "the topic was deleted and made anew; what it held is gone";
    TopicGrown, Info, Lifecycle, "topic_grown", [Sink, Topic, From, To], "the topic has more partitions; they are used when what is placed is done";
    AcknowledgedLost, Error, Error, "acknowledged_lost", [Sink, Topic, Partition, Records], "Kafka has lost what it had acknowledged";
    OutcomeUnknown, Warn, Error, "outcome_unknown", [Sink, Topic, Partition, Records], "messages were sent again although Kafka may have them";
    SpoolRecovered, Info, Lifecycle, "spool_recovered", [Records, Cuts, Sessions], "the spool of an earlier run was read; what it holds goes on";
    ShardsKept, Warn, Lifecycle, "shards_kept", [Shards, Configured, Records], "the spool holds messages of another number of shards: the service runs with that number until a start finds it empty";
    SessionsMoved, Info, Lifecycle, "sessions_moved", [Shards, Sessions], "the number of shards has changed; kept sessions are with their new shards";
    SpoolFull, Warn, Error, "spool_full", [Sink, Reason], "the spool has no room; `when_full` says what happens to messages";
    SpoolRoom, Info, Lifecycle, "spool_room", [Sink], "the spool has room again";
    SpoolFailed, Error, Error, "spool_failed", [Reason], "the disk did not do what the spool asked of it; what was to be written is answered to nobody and written again, into a new segment";
    SpoolDamaged, Error, Error, "spool_damaged", [Reason], "what was on the disk is damaged; it is left out, the rest goes on; `forebay spool inspect` says where";
    RowsDropped, Warn, Error, "rows_dropped", [Sink, Records, Reason], "messages in the spool were given up";
    ConnectRefused, Info, Error, "connect_refused", [Listener, Peer, Clause, Reason], "a CONNECT was refused, or what came first was none";
    SessionEvicted, Warn, Error, "session_evicted", [Client], "a session without a connection was ended to make room for another; `mqtt.evict_sessions`";
    ProtocolError, Info, Error, "protocol_error", [Listener, Client, Peer, Clause, Reason], "a device's connection was closed for a protocol error";
    DeadLetters, Warn, Error, "dead_letters", [Sink, Total], "messages of the sink are in its dead letters, each with the reason";
    SinkStalled, Warn, Error, "sink_stalled", [Sink, Kafka, Buffered, Reason], "messages wait, and none was settled for a while";
    SinkRunning, Info, Lifecycle, "sink_running", [Sink, Kafka], "the sink goes on";
    SinkStatistics, Info, Statistics, "sink_statistics", [Sink, Matched, Delivered, Failed, Buffered, PerMinute], "a sink's last minute";
}

macro_rules! fields {
    ($($variant:ident, $type:ident, $name:ident, $help:literal;)*) => {
        /// What an event may say beside its kind.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Field {
            $(#[doc = $help] $variant,)*
        }

        impl Field {
            /// All of them.
            pub const ALL: &[Self] = &[$(Field::$variant),*];

            /// Its name in JSON and in the log.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => stringify!($name),)* }
            }

            /// What it says.
            #[must_use]
            pub const fn help(self) -> &'static str {
                match self { $(Self::$variant => $help,)* }
            }
        }

        impl Event {
            /// Writes it as a line of the log, with the fields that it has.
            pub(super) fn log(&self) {
                $(let $name = self.$type(Field::$variant);)*
                let (kind, shard) = (self.kind.spec().name, self.shard);
                let message = self.kind.spec().help;
                match self.kind.spec().severity {
                    Severity::Info => tracing::info!(event = kind, shard, $($name,)* "{message}"),
                    Severity::Warn => tracing::warn!(event = kind, shard, $($name,)* "{message}"),
                    Severity::Error => tracing::error!(event = kind, shard, $($name,)* "{message}"),
                }
            }
        }
    };
}

fields! {
    Version, text, version, "Forebay's version.";
    Shards, number, shards, "How many shards.";
    Listener, text, listener, "The listener's address.";
    Client, text, client, "The device's client id.";
    Peer, text, peer, "The device's address, as a proxy's header tells it where there is one.";
    Kafka, text, kafka, "The Kafka cluster.";
    Sink, text, sink, "The sink.";
    Topic, text, topic, "The Kafka topic.";
    Partition, number, partition, "The partition.";
    Records, number, records, "How many messages: of what was lost at least so many, as far as offsets show it.";
    Sessions, number, sessions, "How many sessions are kept.";
    Configured, number, configured, "How many shards the configuration asks for.";
    Cuts, number, cuts, "Batches that Kafka may have or not: they are sent again as they were.";
    Signal, text, signal, "The signal that ends the service.";
    Clause, text, clause, "The clause of the MQTT standard.";
    Reason, text, reason, "Why, in words.";
    Code, number, code, "Kafka's error code.";
    Error, text, error, "Kafka's name of it.";
    From, number, from, "Before.";
    To, number, to, "After.";
    GraceMs, number, grace_ms, "How long it may take.";
    SilentMs, number, silent_ms, "For how long.";
    RowsLeft, number, rows_left, "Messages that Kafka has not confirmed.";
    RowsKept, number, rows_kept, "Messages that Kafka has not confirmed and that the spool keeps for the next start.";
    ConnectionsLeft, number, connections_left, "Connections that were still open.";
    Total, number, total, "How many since the start, on this shard.";
    Matched, number, matched, "Messages taken within the minute.";
    Delivered, number, delivered, "Messages delivered within it.";
    Failed, number, failed, "Messages refused or dropped within it.";
    Buffered, number, buffered, "Messages that wait now.";
    PerMinute, number, per_minute, "Messages settled within the minute.";
}

impl Kind {
    /// Its row of the list.
    #[must_use]
    pub fn spec(self) -> &'static EventSpec {
        &EVENTS[self as usize]
    }

    /// The kind of a name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.spec().name == name)
    }
}

/// What a field says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Said {
    /// A number.
    Number(u64),
    /// Text.
    Text(String),
}

impl From<u64> for Said {
    fn from(number: u64) -> Self {
        Self::Number(number)
    }
}

impl From<&str> for Said {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<String> for Said {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// What.
    pub kind: Kind,
    /// When, milliseconds since 1970.
    pub at_ms: u64,
    /// On which shard, if on one.
    pub shard: Option<u64>,
    fields: Vec<(Field, Said)>,
}

impl Event {
    /// An event of now, without fields.
    #[must_use]
    pub fn now(kind: Kind) -> Self {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        let at_ms = u64::try_from(since.as_millis()).unwrap_or(u64::MAX);
        Self { kind, at_ms, shard: None, fields: Vec::new() }
    }

    /// With this field.
    #[must_use]
    pub fn with(mut self, field: Field, said: impl Into<Said>) -> Self {
        debug_assert!(self.kind.spec().fields.contains(&field), "{:?} has no {field:?}", self.kind);
        self.fields.push((field, said.into()));
        self
    }

    /// With this field, if there is something to say.
    #[must_use]
    pub fn maybe(self, field: Field, said: Option<impl Into<Said>>) -> Self {
        match said {
            Some(said) => self.with(field, said),
            None => self,
        }
    }

    /// On this shard.
    #[must_use]
    pub fn on(mut self, shard: usize) -> Self {
        self.shard = Some(shard as u64);
        self
    }

    /// The text of a field.
    #[must_use]
    pub fn text(&self, field: Field) -> Option<&str> {
        self.fields.iter().find_map(|(name, said)| match said {
            Said::Text(text) if *name == field => Some(text.as_str()),
            _ => None,
        })
    }

    /// The number of a field.
    #[must_use]
    pub fn number(&self, field: Field) -> Option<u64> {
        self.fields.iter().find_map(|(name, said)| match said {
            Said::Number(number) if *name == field => Some(*number),
            _ => None,
        })
    }

    /// As an object, under this number.
    #[must_use]
    pub fn json(&self, id: u64) -> Value {
        let spec = self.kind.spec();
        let mut object = Map::new();
        object.insert("id".into(), id.into());
        object.insert("at_ms".into(), self.at_ms.into());
        object.insert("kind".into(), spec.name.into());
        object.insert("class".into(), spec.class.as_str().into());
        object.insert("severity".into(), spec.severity.as_str().into());
        object.insert("message".into(), spec.help.into());
        if let Some(shard) = self.shard {
            object.insert("shard".into(), shard.into());
        }
        for (field, said) in &self.fields {
            let value = match said {
                Said::Number(number) => (*number).into(),
                Said::Text(text) => text.as_str().into(),
            };
            object.insert(field.name().into(), value);
        }
        Value::Object(object)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_every_field_belongs_to_an_event() {
        for (i, spec) in EVENTS.iter().enumerate() {
            assert!(EVENTS[..i].iter().all(|other| other.name != spec.name), "{}", spec.name);
            assert_eq!(Kind::named(spec.name), Some(Kind::ALL[i]));
        }
        for field in Field::ALL {
            assert!(EVENTS.iter().any(|spec| spec.fields.contains(field)), "{field:?} is nobody's");
        }
    }

    #[test]
    fn an_event_as_json_has_what_was_said_of_it() {
        let event = Event::now(Kind::TopicForbidden).on(1).with(Field::Topic, "t").with(Field::Code, 29);
        let json = event.json(7);
        assert_eq!(
            (&json["id"], &json["kind"], &json["severity"]),
            (&7.into(), &"topic_forbidden".into(), &"warn".into())
        );
        assert_eq!((&json["shard"], &json["topic"], &json["code"]), (&1.into(), &"t".into(), &29.into()));
        assert_eq!((json.get("sink"), json["class"].as_str()), (None, Some("error")));
    }
}
