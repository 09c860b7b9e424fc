//! Variables of templates: their values for one message, and the parser of their names.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::io::Write as _;

use super::column::{Column, Columns};
use super::json::JsonPath;
use super::template::{Named, Vocabulary, Wrong};
use forebay_mqtt::property::Properties;

/// The highest level that `${topic[n]}` may name: a topic has at most 65,535 bytes [MQTT-4.7.3-3], so 65,536 levels.
pub const TOPIC_LEVEL_MAX: u32 = 65_535;
/// The prefix of environment variables that templates may read.
pub const ENVIRONMENT_PREFIX: &str = "FOREBAY_VAR_";

/// Names as between `${` and `}`, with their meanings. The documents are generated from this table.
pub const VARIABLES: [(&str, &str); 15] = [
    ("topic", "the MQTT topic"),
    ("topic[n]", "level n of the MQTT topic, from 0; empty if the topic has no such level"),
    ("topic[n..]", "the MQTT topic from level n on; empty if the topic has no such level"),
    ("clientid", "the client ID, including one assigned by the server"),
    ("username", "the user name; empty if there is none"),
    ("qos", "the QoS of the PUBLISH: `0`, `1` or `2`"),
    ("retain", "the RETAIN flag: `true` or `false`"),
    ("dup", "the DUP flag: `true` or `false`"),
    ("packet_id", "the packet identifier; empty at QoS 0 and for a will, which have none"),
    ("payload", "the payload, byte for byte"),
    (
        "payload.path",
        "a value in a JSON payload: member names and array indexes, as in `${payload.a.b[0]}` or `${payload.'@iot.id'}`",
    ),
    ("timestamp", "the time of receipt in milliseconds since 1970-01-01 UTC"),
    ("user_properties.name", "the value of the first MQTT 5 user property with that name"),
    ("metadata.name", "the value of that name in the sink's `metadata`"),
    ("env.NAME", "the environment variable `FOREBAY_VAR_NAME`, as it was when the service started"),
];

/// The facts about a message that a template may use. Everything is borrowed; building one costs nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct MessageContext<'a> {
    /// Topic name, aliases resolved.
    pub topic: &'a str,
    /// Client id.
    pub client_id: &'a str,
    /// User name of CONNECT, if there was one.
    pub username: Option<&'a str>,
    /// QoS of the PUBLISH: 0, 1, 2.
    pub qos: u8,
    /// RETAIN flag of the PUBLISH.
    pub retain: bool,
    /// DUP flag of the PUBLISH.
    pub dup: bool,
    /// Packet identifier; 0: none.
    pub packet_id: u16,
    /// Application message.
    pub payload: &'a [u8],
    /// Time of receipt, milliseconds since the Unix epoch.
    pub timestamp_ms: i64,
    /// MQTT 5 properties.
    pub properties: Properties<'a>,
    /// The number of times that the message has been a record of Kafka; 0: never.
    pub hops: u8,
    /// The record that the message comes from, for a copy of a retained message in the topic of `[broker]`.
    pub copy_of: Option<&'a str>,
    /// The output of a rule, for the row that the rule feeds.
    pub output: Option<&'a dyn Columns>,
}

/// Variables that are known when the configuration is read, and become text then.
#[derive(Clone, Copy, Debug)]
pub struct Fixed<'a> {
    /// `${metadata.name}`: name and text.
    pub metadata: &'a [(String, String)],
    /// `${env.NAME}`: names without [`ENVIRONMENT_PREFIX`].
    pub environment: &'a BTreeMap<String, String>,
}

impl Fixed<'_> {
    /// No such variables.
    pub const NONE: Fixed<'static> = Fixed { metadata: &[], environment: &BTreeMap::new() };
}

/// A variable of a template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Variable {
    /// `${topic}`
    Topic,
    /// `${topic[n]}`
    TopicLevel(u32),
    /// `${topic[n..]}`
    TopicFrom(u32),
    /// `${clientid}`
    ClientId,
    /// `${username}`
    Username,
    /// `${qos}`
    Qos,
    /// `${retain}`
    Retain,
    /// `${dup}`
    Dup,
    /// `${packet_id}`
    PacketId,
    /// `${payload}`
    Payload,
    /// `${payload.path}`
    PayloadPath(JsonPath),
    /// `${timestamp}`
    Timestamp,
    /// `${user_properties.name}`
    UserProperty(Box<str>),
    /// `${…}` in a row that a rule feeds.
    Column(Column),
}

impl Variable {
    /// Whether the value may differ between messages of the same client, topic, QoS and flags.
    pub(super) const fn differs_within_topic(&self) -> bool {
        match self {
            Self::Topic | Self::TopicLevel(_) | Self::TopicFrom(_) | Self::ClientId | Self::Username => false,
            Self::Qos | Self::Retain | Self::Dup => false,
            Self::PacketId | Self::Payload | Self::PayloadPath(_) | Self::Timestamp => true,
            Self::UserProperty(_) | Self::Column(_) => true,
        }
    }
}

impl fmt::Display for Variable {
    /// Writes the variable's name as between `${` and `}`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Topic => f.write_str("topic"),
            Self::TopicLevel(level) => write!(f, "topic[{level}]"),
            Self::TopicFrom(level) => write!(f, "topic[{level}..]"),
            Self::ClientId => f.write_str("clientid"),
            Self::Username => f.write_str("username"),
            Self::Qos => f.write_str("qos"),
            Self::Retain => f.write_str("retain"),
            Self::Dup => f.write_str("dup"),
            Self::PacketId => f.write_str("packet_id"),
            Self::Payload => f.write_str("payload"),
            Self::PayloadPath(path) => write!(f, "payload{path}"),
            Self::Timestamp => f.write_str("timestamp"),
            Self::UserProperty(name) => write!(f, "user_properties.{name}"),
            Self::Column(column) => column.fmt(f),
        }
    }
}

/// The reason why a template cannot be rendered for a message: the part that the message lacks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Absent {
    /// No user property of that name.
    UserProperty,
    /// The payload is no JSON text, or has nothing there.
    PayloadPath,
    /// The text for the record's time is no time.
    Time {
        /// Whether the missing part is in the payload.
        in_payload: bool,
    },
    /// The JSON value for headers is neither an object nor a list of pairs.
    Headers,
    /// The output of the rule does not have the column, or it is absent.
    Column,
}

/// A variable's bytes for one message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Rendered<'a> {
    /// Existing bytes.
    Lent(&'a [u8]),
    /// New bytes: a JSON string with escapes in it.
    Made(Vec<u8>),
    /// A number, written as decimal digits.
    Number(i64),
}

impl<'a> Rendered<'a> {
    /// An upper bound of its bytes.
    pub(super) fn bytes_max(&self) -> usize {
        const I64_DIGITS: usize = 20;
        match self {
            Self::Lent(bytes) => bytes.len(),
            Self::Made(bytes) => bytes.len(),
            Self::Number(_) => I64_DIGITS,
        }
    }

    /// Appends its bytes.
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        match self {
            Self::Lent(bytes) => out.extend_from_slice(bytes),
            Self::Made(bytes) => out.extend_from_slice(bytes),
            Self::Number(number) => {
                // Writing to a Vec does not fail.
                let _ = write!(out, "{number}");
            }
        }
    }
}

impl Variable {
    /// The variable's value for this message.
    pub(super) fn of<'a>(&self, message: &MessageContext<'a>) -> Result<Rendered<'a>, Absent> {
        let flag = |flag: bool| if flag { &b"true"[..] } else { b"false" };
        Ok(Rendered::Lent(match self {
            Self::Topic => message.topic.as_bytes(),
            Self::TopicLevel(level) => message.topic.split('/').nth(*level as usize).unwrap_or_default().as_bytes(),
            Self::TopicFrom(level) => {
                message.topic.splitn(*level as usize + 1, '/').nth(*level as usize).unwrap_or_default().as_bytes()
            }
            Self::ClientId => message.client_id.as_bytes(),
            Self::Username => message.username.unwrap_or_default().as_bytes(),
            Self::Qos => match message.qos {
                0 => b"0",
                1 => b"1",
                _ => b"2",
            },
            Self::Retain => flag(message.retain),
            Self::Dup => flag(message.dup),
            Self::PacketId if message.packet_id == 0 => b"",
            Self::PacketId => return Ok(Rendered::Number(message.packet_id.into())),
            Self::Payload => message.payload,
            Self::PayloadPath(path) => match path.find(message.payload).ok_or(Absent::PayloadPath)? {
                Cow::Borrowed(bytes) => bytes,
                Cow::Owned(bytes) => return Ok(Rendered::Made(bytes)),
            },
            Self::Timestamp => return Ok(Rendered::Number(message.timestamp_ms)),
            Self::UserProperty(name) => {
                let mut properties = message.properties.user_properties();
                let (_, value) = properties.find(|(key, _)| *key == &**name).ok_or(Absent::UserProperty)?;
                value.as_bytes()
            }
            // A column is written, and never lent.
            Self::Column(_) => return Err(Absent::Column),
        }))
    }
}

impl Variable {
    /// The column that this variable is; `why`: the error if it is no column.
    #[cold]
    pub(super) fn column(&self, why: Absent) -> Result<&Column, Absent> {
        if let Self::Column(column) = self { Ok(column) } else { Err(why) }
    }
}

impl Vocabulary for Variable {
    type Context<'a> = MessageContext<'a>;
    type Absent = Absent;

    fn named(name: &str, fixed: &Fixed<'_>) -> Result<Named<Self>, Wrong> {
        let variable = match name {
            "topic" => Self::Topic,
            "clientid" => Self::ClientId,
            "username" => Self::Username,
            "qos" => Self::Qos,
            "retain" => Self::Retain,
            "dup" => Self::Dup,
            "packet_id" => Self::PacketId,
            "payload" => Self::Payload,
            "timestamp" => Self::Timestamp,
            _ => return with_argument(name, fixed),
        };
        Ok(Named::Variable(variable))
    }

    fn has_path(text: &str) -> bool {
        text.starts_with("payload")
    }

    #[inline]
    fn write(&self, message: &MessageContext<'_>, out: &mut Vec<u8>) -> Result<(), Absent> {
        match self.of(message) {
            Ok(rendered) => rendered.write(out),
            Err(why) => return self.column(why)?.write(message, out),
        }
        Ok(())
    }
}

/// Reads a name with an argument: a level, or the name of something.
fn with_argument(name: &str, fixed: &Fixed<'_>) -> Result<Named<Variable>, Wrong> {
    if let Some(index) = name.strip_prefix("topic[").and_then(|rest| rest.strip_suffix(']')) {
        let hint =
            || format!("levels count from 0 and go to {TOPIC_LEVEL_MAX}, as in `${{topic[1]}}` or `${{topic[1..]}}`");
        let variable = match index.strip_suffix("..") {
            Some(from) => topic_level(from).map(Variable::TopicFrom),
            None => topic_level(index).map(Variable::TopicLevel),
        };
        return variable.map(Named::Variable).map_err(|what| (what, hint()));
    }
    if let Some(path) = name.strip_prefix("payload").filter(|path| path.starts_with(['.', '['])) {
        let hint =
            || "a path is names and places in arrays, as in `${payload.a.b[0]}` or `${payload.'@iot.id'}`".to_owned();
        return JsonPath::parse(path)
            .map(|path| Named::Variable(Variable::PayloadPath(path)))
            .map_err(|what| (what, hint()));
    }
    match name.split_once('.') {
        Some((group @ ("user_properties" | "metadata" | "env"), "")) => {
            Err((format!("`${{{name}}}` has no name behind the dot"), format!("write `${{{group}.NAME}}`")))
        }
        Some(("user_properties", name)) => Ok(Named::Variable(Variable::UserProperty(name.into()))),
        Some(("metadata", name)) => metadata(name, fixed).map(Named::Text),
        Some(("env", name)) => environment(name, fixed).map(Named::Text),
        _ => Err((format!("unknown variable `${{{name}}}`"), suggestion(name, &VARIABLES))),
    }
}

fn topic_level(index: &str) -> Result<u32, String> {
    if index.is_empty() || !index.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(format!("`{index}` is not a topic level"));
    }
    match index.parse() {
        Ok(level) if level <= TOPIC_LEVEL_MAX => Ok(level),
        _ => Err(format!("topic level {index} lies beyond what a topic can have")),
    }
}

pub(super) fn metadata(name: &str, fixed: &Fixed<'_>) -> Result<String, Wrong> {
    let found = fixed.metadata.iter().find(|(known, _)| known == name);
    found.map(|(_, text)| text.clone()).ok_or_else(|| {
        let known: Vec<_> = fixed.metadata.iter().map(|(known, _)| known.as_str()).collect();
        let hint = match &known[..] {
            [] => format!("give the sink `metadata = {{ {name} = \"...\" }}`"),
            known => format!("the sink's metadata has {}", known.join(", ")),
        };
        (format!("the sink has no metadata `{name}`"), hint)
    })
}

/// The rest of the environment stays out of reach: its values may be secret.
pub(super) fn environment(name: &str, fixed: &Fixed<'_>) -> Result<String, Wrong> {
    let name = name.strip_prefix(ENVIRONMENT_PREFIX).unwrap_or(name);
    fixed.environment.get(name).cloned().ok_or_else(|| {
        let hint =
            format!("set it before the start; templates read variables that start with {ENVIRONMENT_PREFIX} only");
        (format!("the environment has no {ENVIRONMENT_PREFIX}{name}"), hint)
    })
}

/// "did you mean", else the list. People mistake case, `_`, `-` and a path before the name.
pub(super) fn suggestion(name: &str, variables: &[(&'static str, &str)]) -> String {
    let plain: String = name.to_lowercase().chars().filter(|c| c.is_ascii_alphanumeric()).collect();
    let near = variables
        .iter()
        .map(|(known, _)| (strsim::damerau_levenshtein(&plain, known), *known))
        .filter(|(distance, known)| {
            *distance <= known.len() / 3 || (plain.len() >= 3 && (known.starts_with(&plain) || plain.ends_with(known)))
        })
        .min();
    match near {
        Some((_, known)) => format!("did you mean `${{{known}}}`?"),
        None => {
            let known: Vec<String> = variables.iter().map(|(known, _)| format!("${{{known}}}")).collect();
            format!("there are {}", known.join(", "))
        }
    }
}
