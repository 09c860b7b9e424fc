//! MQTT to Kafka.

use std::path::PathBuf;
use std::time::Duration;

use crate::rule::members::HeadersFrom;
use crate::rule::template::Template;
use crate::rule::time::RecordTime;

/// `[[sink]]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sink {
    /// Name, unique.
    pub name: String,
    /// What it is for, for people.
    pub description: Option<String>,
    /// Index into [`super::Config::clusters`].
    pub cluster: usize,
    /// MQTT topic filters, valid, at least one.
    pub filters: Vec<String>,
    /// Filters of topics that it does not take all the same; valid.
    pub exclude: Vec<String>,
    /// It takes only what no other sink takes.
    pub fallback: bool,
    /// Kafka topic. A literal one is a legal name; what a template renders has to be checked with
    /// [`crate::kafka::topic_name::kafka_topic`].
    pub topic: Template,
    /// Record key; `None`: records have none.
    pub key: Option<Template>,
    /// Record value, if it is one of `value_format`'s [`ValueFormat::Raw`].
    pub value: Template,
    /// What the record value is.
    pub value_format: ValueFormat,
    /// Whether the record value of an empty payload is null, whatever the two say.
    pub empty_is_null: bool,
    /// The record's time; `None`: that of receipt.
    pub timestamp: Option<RecordTime>,
    /// Record headers, in the order of the file.
    pub headers: Vec<(String, Template)>,
    /// More record headers, with names of the message's own.
    pub headers_from: Option<HeadersFrom>,
    /// Whether MQTT 5 properties other than user properties become record headers, too.
    pub properties: bool,
    /// Prefix of the header names of user properties; mostly empty.
    pub user_property_prefix: String,
    /// Fixed texts that its templates may name, in the order of the file.
    pub metadata: Vec<(String, String)>,
    /// Where its rows are kept until Kafka has them.
    pub buffer: Buffer,
    /// Memory of its rows beyond which they are on the disk alone, in bytes, all shards together; not with
    /// [`Buffer::Memory`]. A shard's part holds at least a full batch and the largest record.
    pub spill_after: u64,
    /// What an answer means.
    pub acknowledge: Acknowledge,
    /// What brokers are asked for: acks 0, 1 or −1 (all in-sync replicas).
    pub acks: i16,
    /// Which partition a record goes to.
    pub partitioner: Partitioner,
    /// Of batches.
    pub compression: Compression,
    /// Level of the codec, within its bounds; `None`: its usual one, or it has none.
    pub compression_level: Option<i32>,
    /// How long a record waits for company.
    pub linger: Duration,
    /// Bytes at which a batch is full.
    pub batch_bytes: usize,
    /// Key, value and headers of one record, in bytes.
    pub record_bytes_max: usize,
    /// Batches of a partition that may be unanswered, 1 to 5.
    pub max_inflight: usize,
    /// How often a batch is sent again before it is refused; `None`: as often as it takes.
    pub retries: Option<u32>,
    /// A record that has waited this long is dropped; `None`: none is.
    pub expire_after: Option<Duration>,
    /// Where the topic is a template: how long records wait for a topic that Kafka does not have.
    pub unknown_topic_timeout: Duration,
    /// While the machine is short of memory, its oldest records make room for younger ones.
    pub memory_overload_protection: bool,
    /// Nothing is sent to Kafka: records wait.
    pub paused: bool,
    /// A message of QoS 0 for which there is no room is dropped for this sink.
    pub drops_qos0: bool,
    /// What becomes of a message that it will never take.
    pub on_refuse: OnRefuse,
    /// Where goes what Kafka refuses for good; `None`: nowhere, or to the file of [`super::Config::share_dead_letters_file`].
    pub dead_letters: Option<DeadLetters>,
    /// It wants no dead letters at all.
    pub no_dead_letters: bool,
    /// It was removed while the service runs: it has no filters, and stays until the restart so that its rows get to Kafka.
    pub is_removed: bool,
}

/// What becomes of a message that a sink will never take (`on_refuse`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnRefuse {
    /// A dead letter of the sink; all other destinations take the message.
    DeadLetter,
    /// No destination takes it.
    Reject,
    /// The sink goes without it, counted; all other destinations take the message.
    Drop,
}

/// Where a sink's dead letters go; a topic, a file or both.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetters {
    /// Kafka topic on the sink's cluster, a legal name.
    pub topic: Option<String>,
    /// A file, for all of them or for what the topic refuses.
    pub file: Option<DeadLettersFile>,
}

/// A local file of dead letters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLettersFile {
    /// The file that is written; no other sink's, unless it is the shared one.
    pub path: PathBuf,
    /// Bytes after which it is followed by a new one.
    pub bytes_max: u64,
    /// Files kept, the present one among them; at least 1.
    pub files: u32,
}

/// When a sink's part of an answer is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Acknowledge {
    /// The record is in this shard's memory.
    Received,
    /// The partition's leader has it.
    Leader,
    /// All in-sync replicas have it.
    Replicated,
    /// It is on this machine's disk, synced; only with [`Buffer::Disk`].
    Stored,
}

/// Where rows are kept until Kafka has them. All but [`Buffer::Memory`] need a [`super::Spool`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Buffer {
    /// In memory.
    #[default]
    Memory,
    /// On disk, each before it is sent; in memory too up to `spill_after`.
    Disk,
    /// In memory up to `spill_after`, beyond it on disk. An end of the process loses both.
    Hybrid,
    /// As `Hybrid`, and an orderly stop saves the records that remain.
    HybridSaved,
}

impl Buffer {
    /// The word in the configuration.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Disk => "disk",
            Self::Hybrid => "hybrid",
            Self::HybridSaved => "hybrid-saved",
        }
    }
}

/// Which partition a record goes to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Partitioner {
    /// By the hash of its key, as Kafka's Java producer; without a key as `Sticky`.
    #[default]
    Key,
    /// By the hash of its client identifier, whatever its key is.
    Client,
    /// One partition until its batch is full or sent, then another.
    Sticky,
    /// A random partition for each record.
    Random,
}

/// What a record's value is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ValueFormat {
    /// What the template of the value gives.
    Raw,
    /// The message as a JSON object.
    Json,
}

/// How batches are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// Not at all.
    None,
    /// gzip.
    Gzip,
    /// Snappy, in Xerial's framing.
    Snappy,
    /// LZ4 frames.
    Lz4,
    /// Zstandard.
    Zstd,
}
