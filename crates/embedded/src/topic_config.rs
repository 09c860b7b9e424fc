//! Settings of a topic, by their names in Kafka: the two that can be set here, and the fixed ones.

use super::batch::Refusal;
use super::code;
use super::partition::Limits;
use super::settings::Settings;

/// `retention.ms`.
pub(crate) const RETENTION_MS: &str = "retention.ms";
/// `retention.bytes`.
pub(crate) const RETENTION_BYTES: &str = "retention.bytes";

/// The settings of one topic; `None`: the log's default. -1: no bound.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct TopicConfig {
    /// `retention.ms`.
    pub(crate) retention_ms: Option<i64>,
    /// `retention.bytes`.
    pub(crate) retention_bytes: Option<i64>,
}

/// Type of a value, by its number in DescribeConfigs (KIP-569).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// `true`, `false`.
    Boolean = 1,
    /// Text.
    Text = 2,
    /// 32 bits.
    Int = 3,
    /// 64 bits.
    Long = 5,
    /// Texts separated by commas.
    List = 7,
}

/// One setting of a topic.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    /// Kafka's name.
    pub(crate) name: &'static str,
    /// The current value.
    pub(crate) value: String,
    /// The type of the value.
    pub(crate) kind: Kind,
    /// Whether the value was set for this topic.
    pub(crate) is_own: bool,
    /// The default value.
    pub(crate) default: String,
    /// Whether the setting cannot be changed.
    pub(crate) is_fixed: bool,
}

const fn invalid(reason: &'static str) -> Refusal {
    Refusal { code: code::INVALID_CONFIG, reason }
}

impl TopicConfig {
    /// Sets one setting, or resets it with `None`. A fixed setting may be "set" to its current value.
    pub(crate) fn set(&mut self, name: &str, value: Option<&str>, settings: &Settings) -> Result<(), Refusal> {
        let own = match name {
            RETENTION_MS => &mut self.retention_ms,
            RETENTION_BYTES => &mut self.retention_bytes,
            _ => return unchanged(name, value, settings),
        };
        let number = |value: &str| value.trim().parse().ok().filter(|number: &i64| *number >= -1);
        *own = match value {
            None => None,
            Some(value) => Some(number(value).ok_or(invalid("a number from -1 (no bound) on"))?),
        };
        Ok(())
    }

    /// The retention limits.
    pub(crate) fn limits(&self, settings: &Settings) -> Limits {
        let bound = |own: Option<i64>, default: i64| Some(own.unwrap_or(default)).filter(|bound| *bound >= 0);
        Limits {
            age_ms: bound(self.retention_ms, default_ms(settings)),
            bytes: bound(self.retention_bytes, default_bytes(settings)).and_then(|bytes| u64::try_from(bytes).ok()),
        }
    }

    /// All settings of a topic.
    pub(crate) fn entries(&self, settings: &Settings) -> Vec<Entry> {
        let number = |name, own: Option<i64>, default: i64| Entry {
            name,
            value: own.unwrap_or(default).to_string(),
            kind: Kind::Long,
            is_own: own.is_some(),
            default: default.to_string(),
            is_fixed: false,
        };
        let mut entries = fixed(settings);
        entries.push(number(RETENTION_BYTES, self.retention_bytes, default_bytes(settings)));
        entries.push(number(RETENTION_MS, self.retention_ms, default_ms(settings)));
        entries
    }
}

fn default_ms(settings: &Settings) -> i64 {
    settings.retention_age.map_or(-1, |age| i64::try_from(age.as_millis()).unwrap_or(-1))
}

fn default_bytes(settings: &Settings) -> i64 {
    settings.retention_bytes.map_or(-1, |bytes| i64::try_from(bytes).unwrap_or(-1))
}

fn unchanged(name: &str, value: Option<&str>, settings: &Settings) -> Result<(), Refusal> {
    match fixed(settings).into_iter().find(|entry| entry.name == name) {
        None => Err(invalid("the embedded log has no such setting; only retention.ms and retention.bytes can be set")),
        Some(entry) if value.is_none_or(|value| value == entry.value) => Ok(()),
        Some(_) => Err(invalid("this setting cannot be changed; only retention.ms and retention.bytes can")),
    }
}

fn fixed(settings: &Settings) -> Vec<Entry> {
    let entry =
        |name, value: String, kind| Entry { name, default: value.clone(), value, kind, is_own: false, is_fixed: true };
    vec![
        entry("cleanup.policy", "delete".into(), Kind::List),
        entry("compression.type", "producer".into(), Kind::Text),
        entry("max.message.bytes", settings.message_bytes_max.to_string(), Kind::Int),
        entry("message.timestamp.type", "CreateTime".into(), Kind::Text),
        entry("min.insync.replicas", "1".into(), Kind::Int),
        entry("segment.bytes", settings.segment_bytes.to_string(), Kind::Int),
    ]
}

/// The node's settings that clients ask a broker for, as far as this log has them.
pub(crate) fn node_entries(settings: &Settings, node_id: i32) -> Vec<Entry> {
    let entry =
        |name, value: String, kind| Entry { name, default: value.clone(), value, kind, is_own: false, is_fixed: true };
    vec![
        entry("auto.create.topics.enable", settings.auto_create_topics.to_string(), Kind::Boolean),
        entry("broker.id", node_id.to_string(), Kind::Int),
        entry("default.replication.factor", "1".into(), Kind::Int),
        entry("delete.topic.enable", "true".into(), Kind::Boolean),
        entry("log.cleanup.policy", "delete".into(), Kind::List),
        entry("log.retention.bytes", default_bytes(settings).to_string(), Kind::Long),
        entry("log.retention.ms", default_ms(settings).to_string(), Kind::Long),
        entry("log.segment.bytes", settings.segment_bytes.to_string(), Kind::Int),
        entry("message.max.bytes", settings.message_bytes_max.to_string(), Kind::Int),
        entry("min.insync.replicas", "1".into(), Kind::Int),
        entry("node.id", node_id.to_string(), Kind::Int),
        entry("num.partitions", settings.partitions_default.to_string(), Kind::Int),
    ]
}
