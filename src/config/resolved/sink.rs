//! What the keys of a sink may be.

use std::path::PathBuf;

use crate::config::setting::words;
use crate::rule::members::Encode;
use crate::rule::time::TimeUnit;

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

words! {
    /// When a sink's part of an answer is done.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub enum Acknowledge {
        /// The record is in this shard's memory.
        Received = "received",
        /// The partition's leader has it.
        Leader = "leader",
        /// All in-sync replicas have it.
        #[default]
        Replicated = "replicated",
        /// It is on this machine's disk, synced; only with [`Buffer::Disk`].
        Stored = "stored",
    }
}

words! {
    /// Where rows are kept until Kafka has them. All but [`Buffer::Memory`] need a [`super::Spool`].
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub enum Buffer {
        /// In memory.
        #[default]
        Memory = "memory",
        /// On disk, each before it is sent; in memory too up to `spill_after`.
        Disk = "disk",
        /// In memory up to `spill_after`, beyond it on disk. An end of the process loses both.
        Hybrid = "hybrid",
        /// As `Hybrid`, and an orderly stop saves the records that remain.
        HybridSaved = "hybrid-saved",
    }
}

words! {
    /// What becomes of a message that a sink will never take (`on_refuse`).
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub enum OnRefuse {
        /// A dead letter of the sink; all other destinations take the message.
        #[default]
        DeadLetter = "dead-letter",
        /// No destination takes it.
        Reject = "reject",
        /// The sink goes without it, counted; all other destinations take the message.
        Drop = "drop",
    }
}

words! {
    /// Which partition a record goes to.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub enum Partitioner {
        /// By the hash of its key, as Kafka's Java producer; without a key as `Sticky`.
        #[default]
        Key = "key",
        /// By the hash of its client identifier, whatever its key is.
        Client = "client",
        /// One partition until its batch is full or sent, then another.
        Sticky = "sticky",
        /// A random partition for each record.
        Random = "random",
    }
}

words! {
    /// What a record's value is.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub enum ValueFormat {
        /// What the template of the value gives.
        Raw = "raw",
        /// The message as a JSON object.
        Json = "json",
    }
}

words! {
    /// How batches are compressed.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub enum Compression {
        /// Not at all.
        None = "none",
        /// gzip.
        Gzip = "gzip",
        /// Snappy, in Xerial's framing.
        Snappy = "snappy",
        /// LZ4 frames.
        Lz4 = "lz4",
        /// Zstandard.
        Zstd = "zstd",
    }
}

words!(impl TimeUnit { Seconds = "s", Millis = "ms", Micros = "us", Nanos = "ns" });
words!(impl Encode { Text = "none", Json = "json" });
