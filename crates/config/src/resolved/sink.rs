//! Values of the keys of a sink.

use std::path::PathBuf;

use crate::setting::words;
use forebay_record::compression::Codec;
use forebay_rule::members::Encode;
use forebay_rule::time::TimeUnit;

/// The place of the dead letters of a sink or a bridge; a topic, a file or both.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetters {
    /// Kafka topic on the cluster of the sink or bridge, a legal name.
    pub topic: Option<String>,
    /// A file, for all dead letters or for those that the topic refuses.
    pub file: Option<DeadLettersFile>,
}

/// A local file of dead letters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLettersFile {
    /// The path of the file; no other sink or bridge uses it, unless it is the shared one.
    pub path: PathBuf,
    /// Bytes after which a new file is started.
    pub bytes_max: u64,
    /// Files kept, the present one among them; at least 1.
    pub files: u32,
}

words! {
    /// The moment at which a sink's part of an acknowledgement is done.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub enum Acknowledge {
        /// The record is in this shard's memory.
        Received = "received",
        /// The partition's leader has the record.
        Leader = "leader",
        /// The record is on all in-sync replicas.
        #[default]
        Replicated = "replicated",
        /// The record is on this machine's disk, synced; only with [`Buffer::Disk`].
        Stored = "stored",
    }
}

words! {
    /// The place of rows until Kafka has them. All but [`Buffer::Memory`] need a [`super::Spool`].
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub enum Buffer {
        /// Memory.
        #[default]
        Memory = "memory",
        /// Disk, each row before it is sent; in memory too up to `spill_after`.
        Disk = "disk",
        /// Memory up to `spill_after`, disk beyond it. When the process ends, both are lost.
        Hybrid = "hybrid",
        /// Like `Hybrid`, and an orderly stop saves the records that remain.
        HybridSaved = "hybrid-saved",
    }
}

words! {
    /// The handling of a message that a sink will never take (`on_refuse`).
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub enum OnRefuse {
        /// The message becomes a dead letter of the sink; all other destinations take it.
        #[default]
        DeadLetter = "dead-letter",
        /// No destination takes the message.
        Reject = "reject",
        /// The sink skips the message, counted; all other destinations take it.
        Drop = "drop",
    }
}

/// The role of a sink that `[broker]` has made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OfBroker {
    /// The sink writes clients' publishes to a topic from which subscribers get them.
    Route,
    /// The sink writes retained messages; its input is the broker's source.
    Retained,
}

words! {
    /// The choice of a record's partition.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub enum Partitioner {
        /// By the hash of the record's key, like Kafka's Java producer; without a key like `Sticky`.
        #[default]
        Key = "key",
        /// By the hash of the publisher's client identifier, whatever the key.
        Client = "client",
        /// One partition until its batch is full or sent, then another.
        Sticky = "sticky",
        /// A random partition for each record.
        Random = "random",
    }
}

words! {
    /// The value of a record.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub enum ValueFormat {
        /// The value is the text of its template.
        Raw = "raw",
        /// The value is the message as a JSON object.
        Json = "json",
    }
}

words! {
    /// The compression of batches.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub enum Compression {
        /// Batches are not compressed.
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

impl Compression {
    /// The codec of batches.
    #[must_use]
    pub const fn codec(self) -> Codec {
        match self {
            Self::None => Codec::None,
            Self::Gzip => Codec::Gzip,
            Self::Snappy => Codec::Snappy,
            Self::Lz4 => Codec::Lz4,
            Self::Zstd => Codec::Zstd,
        }
    }
}

words!(impl TimeUnit { Seconds = "s", Millis = "ms", Micros = "us", Nanos = "ns" });
words!(impl Encode { Text = "none", Json = "json" });
