//! Every key of the configuration in one table: its type, its bounds, its default and its meaning. The reader takes types, bounds and
//! defaults from here, the messages their "did you mean", and `docs/CONFIGURATION.md` its tables.

/// The keys of sections that are read by hand: `SECTION.NAME: KIND, DEFAULT, shown EXAMPLE, MEANING;`, as in `settings!`.
macro_rules! keys {
    ($($section:ident . $name:ident : $kind:expr, $default:expr, $(shown $shown:literal,)? $meaning:literal;)*) => {
        &[$($crate::keys::Key {
            section: $crate::keys::Section::$section,
            name: stringify!($name),
            kind: { use $crate::keys::Kind::*; $kind },
            default: { use $crate::keys::Absent::*; $default },
            shown: $crate::setting::settings!(@shown $($shown)?),
            meaning: $meaning,
        }),*]
    };
}

mod auth;
mod bridge;
mod broker;
mod dapr;
mod delivery;
mod kafka;
mod listener;
mod rule;
mod section;
mod service;
mod sink;
mod source;

use std::fmt;
use std::time::Duration;

use super::setting::Settings as _;
use super::units::{ShowDuration, ShowSize};
pub use bridge::Bridge;
pub use broker::Broker;
pub use dapr::Dapr;
pub use delivery::{Delivery, Retained, Spool};
pub use kafka::{Cluster, Embedded};
pub use listener::Listener;
pub use rule::Rule;
pub(super) use section::Section;
pub use service::{Control, Log, Mqtt, Service};
pub use sink::Sink;
pub use source::Source;

/// A word that a key may have as its value.
#[derive(Clone, Copy, Debug)]
pub(super) struct Word {
    pub(super) name: &'static str,
    /// Whether this is the one of two words that means `true`.
    pub(super) is_yes: bool,
}

pub(super) const fn word(name: &'static str) -> Word {
    Word { name, is_yes: false }
}

const fn yes(name: &'static str) -> Word {
    Word { name, is_yes: true }
}

/// The type of a key's value. Bounds are inclusive.
#[derive(Clone, Copy, Debug)]
pub(super) enum Kind {
    Flag,
    Integer {
        min: u64,
        max: u64,
    },
    /// A part of a whole, from a hundredth to all of it.
    Share,
    Duration {
        min: Duration,
        max: Duration,
    },
    Size {
        min: u64,
        max: u64,
    },
    Word(&'static [Word]),
    Text,
    TextList,
    /// Topic filters, maybe none.
    Filters,
    Address,
    AddressOrOff,
    Bind,
    Template,
    TemplateTable,
    TextTable,
    /// Kafka topics, maybe each with its MQTT topic.
    Topics,
    /// Some of these words.
    Words(&'static [Word]),
    QosTemplate,
    FlagTemplate,
    OffsetReset,
}

impl Kind {
    /// The bounds, if there are any, as messages and documents show them.
    pub(super) fn bounds(self) -> Option<(String, String)> {
        match self {
            Self::Integer { min, max } => Some((min.to_string(), max.to_string())),
            Self::Duration { min, max } => {
                Some((format!("\"{}\"", ShowDuration(min)), format!("\"{}\"", ShowDuration(max))))
            }
            Self::Share => Some(("0.01".to_owned(), "1".to_owned())),
            Self::Size { min, max } => Some((format!("\"{}\"", ShowSize(min)), format!("\"{}\"", ShowSize(max)))),
            _ => None,
        }
    }
}

/// The type with its article, for "expected …".
impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Flag => "true or false",
            Self::Integer { .. } => "an integer",
            Self::Share => "a number",
            Self::Duration { .. } => "a duration",
            Self::Size { .. } => "a size",
            Self::Word(_) => "a word",
            Self::Text => "a string",
            Self::TextList => "a string or a list of strings",
            Self::Filters => "a topic filter or a list of them",
            Self::Address => "an address",
            Self::AddressOrOff => "an address or \"off\"",
            Self::Bind => "an address or \"unix:/PATH\"",
            Self::Template => "a template",
            Self::TemplateTable => "a table of templates",
            Self::TextTable => "a table of strings",
            Self::Topics => "a string, a list of strings or a table of templates",
            Self::Words(_) => "a word or a list of words",
            Self::QosTemplate => "0, 1, 2 or a template",
            Self::FlagTemplate => "true, false or a template",
            Self::OffsetReset => "\"latest\", \"earliest\", a time or an age",
        })
    }
}

/// The value where a key is not given.
#[derive(Clone, Copy, Debug)]
pub(super) enum Absent {
    /// The key must be given.
    Required,
    /// The default value, as in the file.
    Is(&'static str),
    /// The description of a derived default, for the documents.
    From(&'static str),
}

/// A key of the configuration.
#[derive(Clone, Copy, Debug)]
pub(super) struct Key {
    pub(super) section: Section,
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    pub(super) default: Absent,
    /// The value in the default file, where that is not the default.
    pub(super) shown: Option<&'static str>,
    pub(super) meaning: &'static str,
}

/// Keys that other documents mention and this version does not have: `section.key`, or a section; and the remedy.
pub(super) const LATER: [(&str, &str); 3] = [
    ("sink.topics_max", "use topics_max in [kafka.NAME]: it applies to all sinks of the cluster"),
    (
        "sink.when_full",
        "use when_full in [spool]: it applies to all sinks that keep records on disk; when memory is full, publishers are paused",
    ),
    ("sink.partition", "records cannot be sent to a fixed partition: see partitioner"),
];

/// The key of this name; the table has every name that the code uses, which the tests check.
pub(super) fn get(section: Section, name: &str) -> &'static Key {
    of(section).find(|key| key.name == name).expect("the code asks for keys of the table only")
}

/// The tables, by section.
const TABLES: [&[Key]; 32] = [
    Service::KEYS,
    Control::KEYS,
    service::CONTROL_TLS,
    Log::KEYS,
    service::TELEMETRY,
    Mqtt::KEYS,
    Listener::KEYS,
    listener::TLS,
    listener::WS,
    forebay_guard::auth::Settings::KEYS,
    auth::JWT,
    auth::ROLE,
    forebay_guard::auth::Limits::KEYS,
    Cluster::KEYS,
    kafka::TLS,
    kafka::SASL,
    Embedded::KEYS,
    Spool::KEYS,
    Delivery::KEYS,
    Retained::KEYS,
    Sink::KEYS,
    Source::KEYS,
    Rule::KEYS,
    rule::REPUBLISH,
    Bridge::KEYS,
    bridge::TLS,
    bridge::IN,
    bridge::OUT,
    Dapr::KEYS,
    Broker::KEYS,
    broker::ROUTE,
    broker::LINK,
];

/// All keys of the configuration.
pub(super) fn all() -> impl Iterator<Item = &'static Key> {
    TABLES.into_iter().flatten()
}

/// The keys of a section.
pub(super) fn of(section: Section) -> impl Iterator<Item = &'static Key> {
    all().filter(move |key| key.section == section)
}

const fn us(n: u64) -> Duration {
    Duration::from_micros(n)
}
const fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}
const fn s(n: u64) -> Duration {
    Duration::from_secs(n)
}
const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
const DAY: u64 = 86_400;
