//! The operator's settings of producing, in the form that the producer uses.

use std::time::Duration;

use super::pool::{BATCH_COST, BUFFER_MIN};
use super::row_log::Origin;
use forebay_base::rules::{KEPT, Rules};
use forebay_record::compression::{Codec, Codecs};
use forebay_runtime::seam::Monotonic;

/// When a row's publisher may get its acknowledgement.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AnsweredOn {
    /// As soon as the row is in this shard's memory (`acknowledge = "received"`).
    Append,
    /// When the row is durable in the shard's log (`"stored"`); only with [`Keep::Disk`].
    Stored,
    /// When Kafka has acknowledged the row's batch at the sink's `acks` (`"leader"`, `"replicated"`).
    #[default]
    Replicated,
}

/// Where a sink's rows are kept until they are in Kafka.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Keep {
    /// In memory.
    #[default]
    Memory,
    /// All rows in the log, each before its batch is sent; in memory too, up to `spill_after`.
    Disk,
    /// In memory up to `spill_after`, the rest in the log alone. No row survives a restart.
    Hybrid,
    /// Like [`Self::Hybrid`], but the rows in memory are written to the log when the service is stopped in order.
    HybridSaved,
}

impl Keep {
    /// Whether the rows survive an orderly stop.
    #[must_use]
    pub const fn outlives(self) -> bool {
        matches!(self, Self::Disk | Self::HybridSaved)
    }

    /// Like [`Self::outlives`]; `saved`: whether the rows in memory of sinks that are saved are written to the log.
    #[must_use]
    pub const fn outlives_if(self, saved: bool) -> bool {
        self.outlives() && (saved || !matches!(self, Self::HybridSaved))
    }
}

/// How a row gets its partition.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Partitioner {
    /// By the hash of its key, as Java's producer does it; a row without a key as by [`Self::Sticky`].
    #[default]
    Key,
    /// By [`Terms::hash`] in place of the key's hash.
    Hash,
    /// One partition while its batch grows, then the less loaded of two: full batches, no order.
    Sticky,
    /// A random partition for each row.
    Random,
}

/// The properties of a row that are not part of its record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// The time after which the row must not be sent; [`Monotonic::NEVER`] for most.
    pub expires: Monotonic,
    /// The hash for [`Partitioner::Hash`], in place of the key's.
    pub hash: Option<u32>,
    /// The QoS 2 message of a kept session that the row is of: written to the log with the row, if the sink has a disk buffer.
    pub origin: Option<Origin>,
}

impl Default for Terms {
    fn default() -> Self {
        Self { expires: Monotonic::NEVER, hash: None, origin: None }
    }
}

/// One sink.
#[derive(Clone, Debug)]
pub struct SinkSettings {
    /// How long a batch may wait for more rows; longer while the window is full (P1).
    pub linger: Duration,
    /// Size of a batch, in bytes before compression. A larger single row is a batch of its own.
    pub batch_bytes: usize,
    /// acks: 0, 1, −1 (all in-sync replicas). With 0 batches carry no producer id: see `Producer::cut`.
    pub acks: i16,
    /// How a row gets its partition.
    pub partitioner: Partitioner,
    /// Whether all rows of the sink go to one topic.
    pub fixed_topic: bool,
    /// Codec of the sink's batches.
    pub compression: Codec,
    /// Level of the codec, if it has levels; `None`: the codec's default.
    pub compression_level: Option<i32>,
    /// Largest record, as a batch of its own; a larger one is [`super::Refusal::TooLarge`].
    pub record_bytes_max: usize,
    /// Maximum number of undone batches of one partition, 1 to 5.
    pub max_inflight: usize,
    /// How often a batch is sent again; `None`: until Kafka has taken it or refused it permanently.
    pub retries: Option<u32>,
    /// Age, since they were taken, at which uncut rows are dropped.
    pub expire_after: Option<Duration>,
    /// How long Kafka may not know a topic before its rows are refused; `None`: they wait until Kafka knows it.
    pub unknown_topic_timeout: Option<Duration>,
    /// When the publisher gets its acknowledgement.
    pub answered_on: AnsweredOn,
    /// Where the sink's rows are kept.
    pub keep: Keep,
    /// Memory of the sink's rows, in bytes, beyond which rows are in the log alone, if `keep` has a log.
    pub spill_after: usize,
    /// Whether permanently refused batches are kept for [`super::Producer::next_rejected`]; else their publishers get the error.
    pub keep_rejected: bool,
    /// Whether the sink is paused: nothing new is cut; cut batches are still sent and settled.
    pub paused: bool,
    /// Whether the sink's oldest rows make room for younger ones while the machine is short of memory.
    pub sheds: bool,
    /// Whether memory is reserved for one batch of such sinks: see [`super::Producer::has_reserve`].
    pub reserved: bool,
}

impl Default for SinkSettings {
    fn default() -> Self {
        Self {
            linger: Duration::from_millis(5),
            batch_bytes: 256 * 1024,
            acks: -1,
            partitioner: Partitioner::Key,
            fixed_topic: false,
            compression: Codec::None,
            compression_level: None,
            record_bytes_max: 1024 * 1024,
            max_inflight: super::window::WINDOW,
            retries: None,
            expire_after: None,
            unknown_topic_timeout: None,
            answered_on: AnsweredOn::Replicated,
            keep: Keep::Memory,
            spill_after: 16 * 1024 * 1024,
            keep_rejected: false,
            paused: false,
            sheds: false,
            reserved: false,
        }
    }
}

/// One producer: one shard, one cluster.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Bound on the memory of rows and batches, unused buffers included. Raised to [`Settings::buffer_bytes_min`].
    pub buffer_bytes: usize,
    /// First wait after a retriable error; doubles up to `backoff_max`, ± 20 %.
    pub backoff_min: Duration,
    /// Longest wait after a retriable error.
    pub backoff_max: Duration,
    /// How long a broker may wait for followers before it answers 7 (short: it blocks its connection meanwhile).
    pub acks_timeout: Duration,
    /// How long a partition without an acknowledged batch may keep others of its leader from loading cuts beyond the memory limit:
    /// the time in which an answer arrives, if one arrives.
    pub request_timeout: Duration,
    /// Maximum number of unanswered requests to a broker; while they are that many, batches go on growing.
    pub requests_per_node_max: usize,
    /// Maximum bytes of batches in one request with more than one batch.
    pub request_bytes_max: usize,
    /// How long a request to the owner ([`super::Want`]) may stay unanswered before it is repeated.
    pub ask_again: Duration,
    /// How long a topic counts as forbidden or invalid after Kafka reported so.
    pub forbidden_for: Duration,
    /// Maximum number of topics of all sinks together.
    pub topics_max: usize,
    /// How long a topic may have no rows before it may be forgotten, when `topics_max` is near.
    pub topic_idle: Duration,
    /// Whether the places of rows in Kafka are wanted: [`super::Producer::drain_landed`] returns them.
    pub receipts: bool,
    /// Seed of jitter and of the choice of partitions for rows without a key.
    pub seed: u64,
    /// The guarantees that the producer keeps: [`KEPT`], except in tests.
    pub rules: &'static dyn Rules,
    /// The sinks, by [`crate::types::SinkId`].
    pub sinks: Vec<SinkSettings>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            buffer_bytes: 64 * 1024 * 1024,
            backoff_min: Duration::from_millis(50),
            backoff_max: Duration::from_secs(1),
            acks_timeout: Duration::from_millis(500),
            request_timeout: Duration::from_secs(30),
            requests_per_node_max: 5,
            request_bytes_max: 16 * 1024 * 1024,
            ask_again: Duration::from_secs(10),
            forbidden_for: Duration::from_secs(30),
            topics_max: 10_000,
            topic_idle: Duration::from_secs(300),
            receipts: false,
            seed: 0,
            rules: &KEPT,
            sinks: Vec::new(),
        }
    }
}

impl Settings {
    /// Capacity of the largest batch of any sink.
    pub(super) fn batch_capacity_max(&self) -> usize {
        let largest = self.sinks.iter().map(|sink| sink.batch_bytes.max(sink.record_bytes_max)).max().unwrap_or(0);
        largest.next_power_of_two().max(BUFFER_MIN)
    }

    /// The encoders that the sinks need.
    pub(super) fn codecs(&self) -> Codecs {
        let wanted = self.sinks.iter().map(|sink| (sink.compression, sink.compression_level));
        Codecs::new(wanted, self.batch_capacity_max())
    }

    /// The least memory with which every guarantee can be kept: the largest row in every sink at once, one more to place while
    /// all else is full, two more to split a batch; with a log, one to read back, and one to take while a batch of each sink is in
    /// flight; the encoders, and the unpacked form of one of their batches.
    #[must_use]
    pub fn buffer_bytes_min(&self) -> usize {
        self.buffer_bytes_min_with(&self.codecs())
    }

    pub(super) fn buffer_bytes_min_with(&self, codecs: &Codecs) -> usize {
        let largest = self.batch_capacity_max();
        let codec = if codecs.is_empty() { 0 } else { codecs.memory() + largest };
        let logged = if self.sinks.iter().any(|sink| sink.keep != Keep::Memory) { 2 } else { 0 };
        (self.sinks.len() + 3 + logged) * (largest + BUFFER_MIN + 2 * BATCH_COST) + codec
    }
}
