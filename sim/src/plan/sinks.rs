//! The sinks that a seed draws.

use super::NO_SINK;

/// The buffer of a sink.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Buffer {
    /// `memory`
    Memory,
    /// `disk`
    Disk,
    /// `hybrid`
    Hybrid,
    /// `hybrid-saved`
    HybridSaved,
}

/// The acknowledgement level of a sink.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// `received`
    Received,
    /// `leader`
    Leader,
    /// `replicated`
    Replicated,
    /// `stored`
    Stored,
}

/// The destination of a sink's dead letters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dead {
    /// No configured destination: the file that all such sinks share.
    Shared,
    /// A Kafka topic.
    Topic,
    /// A file.
    File,
}

/// The part that a sink takes of the messages that its filter matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Choice {
    /// All messages.
    All,
    /// All messages but those of topics with this last level: `exclude`.
    Excludes(&'static str),
    /// Messages that no other sink takes: `fallback`.
    Fallback,
}

/// A sink. Its number is its index.
#[derive(Clone, Debug)]
pub struct SinkPlan {
    /// Name.
    pub name: &'static str,
    /// Index of the sink's cluster.
    pub cluster: usize,
    /// The last level of the MQTT topics that its filter matches; all, if empty.
    pub last_level: &'static str,
    /// The part of the matching messages that the sink takes.
    pub choice: Choice,
    /// Whether there is a topic for each device, rather than one for all.
    pub topic_per_device: bool,
    /// Whether records have keys.
    pub keyed: bool,
    /// Buffer of the sink.
    pub buffer: Buffer,
    /// Acknowledgement level.
    pub level: Level,
    /// Destination of refused rows.
    pub dead: Dead,
    /// `linger` in milliseconds.
    pub linger_ms: u64,
    /// `max_inflight`
    pub max_inflight: u8,
    /// `expire_after` in milliseconds.
    pub expire_ms: Option<u64>,
    /// `partitioner`, where it is not the default.
    pub partitioner: &'static str,
    /// `compression`
    pub compression: &'static str,
    /// `spill_after` of each shard, in bytes.
    pub spill_after: u64,
}

impl SinkPlan {
    /// Whether the sink takes a message, if no other sink does.
    pub(super) fn would_take(&self, topic: &str) -> bool {
        let last = topic.rsplit('/').next().unwrap_or_default();
        let matches = if self.last_level.is_empty() { last != NO_SINK } else { last == self.last_level };
        matches && !matches!(self.choice, Choice::Excludes(excluded) if excluded == last)
    }

    /// The Kafka topic of a message.
    #[must_use]
    pub fn kafka_topic(&self, mqtt: &str) -> String {
        let device = mqtt.split('/').next().unwrap_or_default();
        if self.topic_per_device { format!("{}-{device}", self.name) } else { "all".to_owned() }
    }

    /// The topic of the sink's dead letters.
    #[must_use]
    pub fn dead_topic(&self) -> String {
        format!("dead-{}", self.name)
    }

    /// Whether records of one device stay in order.
    #[must_use]
    pub fn is_ordered(&self) -> bool {
        (self.keyed && self.partitioner.is_empty()) || self.partitioner == "client"
    }
}

/// Draws one to three sinks.
pub(super) fn sinks(rng: &mut fastrand::Rng, clusters: usize, spool: bool, large: bool) -> Vec<SinkPlan> {
    let count = rng.usize(1..4);
    let dead = [Dead::Shared, Dead::Topic, Dead::File][rng.usize(..3)];
    let sink = |(number, (name, last_level)): (usize, (&'static str, &'static str))| {
        let (buffer, level) = buffer_and_level(rng, spool, number == 0);
        SinkPlan {
            name,
            cluster: if number == 1 { clusters - 1 } else { 0 },
            last_level,
            choice: Choice::All,
            topic_per_device: number == 1,
            keyed: number != 2,
            buffer,
            level,
            dead,
            linger_ms: rng.u64(..8),
            max_inflight: if rng.u8(..3) == 0 { rng.u8(1..=5) } else { 5 },
            expire_ms: (rng.u8(..8) == 0).then(|| rng.u64(1000..4000)),
            partitioner: if number == 0 && rng.u8(..4) == 0 { "client" } else { "" },
            compression: ["none", "none", "none", "lz4"][rng.usize(..4)],
            spill_after: if rng.bool() { 64 << 20 } else { rng.u64(4..60) * if large { 65_536 } else { 1024 } },
        }
    };
    [("all", ""), ("odd", "odd"), ("again", "odd")].into_iter().take(count).enumerate().map(sink).collect()
}

/// Draws a sink's buffer and acknowledgement level.
pub(super) fn buffer_and_level(rng: &mut fastrand::Rng, spool: bool, first: bool) -> (Buffer, Level) {
    let volatile = |rng: &mut fastrand::Rng| match rng.u8(..8) {
        0 => Level::Received,
        1 => Level::Leader,
        _ => Level::Replicated,
    };
    let draw = rng.u8(..10);
    if !spool {
        return (Buffer::Memory, volatile(rng));
    }
    match draw {
        0 | 1 if !first => (Buffer::Memory, volatile(rng)),
        2 if !first => (Buffer::Hybrid, volatile(rng)),
        3 if !first => (Buffer::HybridSaved, volatile(rng)),
        4 | 5 => (Buffer::Disk, Level::Replicated),
        _ => (Buffer::Disk, Level::Stored),
    }
}
