//! What the operator decides about producing, as the producer needs it.

use std::time::Duration;

use super::pool::{BATCH_COST, BUFFER_MIN};
use super::row_log::Origin;
use crate::record::compression::{Codec, Codecs};
use crate::rules::{KEPT, Rules};
use crate::runtime::seam::Monotonic;

/// When a row's publisher may be answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AnsweredOn {
    /// As soon as the row is in this shard's memory (`acknowledge = "received"`).
    Append,
    /// When its log has it on the disk (`"stored"`); only with [`Keep::Disk`].
    Stored,
    /// When Kafka has answered its batch at the sink's `acks` (`"leader"`, `"replicated"`).
    #[default]
    Replicated,
}

/// Where the rows of a sink are kept until Kafka has them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Keep {
    /// In memory.
    #[default]
    Memory,
    /// In the log, all of them, each before its batch is sent; in memory too as far as `spill_after` goes.
    Disk,
    /// In memory up to `spill_after`, what is more in the log alone. A restart finds nothing of it.
    Hybrid,
    /// The same, and what is in memory goes to the log when the service is stopped in order.
    HybridSaved,
}

impl Keep {
    /// Whether the start after an orderly stop finds the rows.
    #[must_use]
    pub const fn outlives(self) -> bool {
        matches!(self, Self::Disk | Self::HybridSaved)
    }

    /// The same, where what memory has of sinks that are saved is `saved`, or is not.
    #[must_use]
    pub const fn outlives_if(self, saved: bool) -> bool {
        self.outlives() && (saved || !matches!(self, Self::HybridSaved))
    }
}

/// Which partition a row goes to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Partitioner {
    /// By the hash of its key as Java's producer does it, without a key as [`Self::Sticky`].
    #[default]
    Key,
    /// The same by [`Terms::hash`], whatever the key is.
    Hash,
    /// One partition as long as its batch grows, then the less loaded of two: full batches, no order.
    Sticky,
    /// One drawn for each row.
    Random,
}

/// What a row has beside what becomes its record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// It must not be sent once this has passed; [`Monotonic::NEVER`] for most.
    pub expires: Monotonic,
    /// For [`Partitioner::Hash`]: replaces the key's hash.
    pub hash: Option<u32>,
    /// A message of QoS 2 of a kept session: written down with the row, where the sink has a disk buffer.
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
    /// How long a batch may wait for more rows. It waits longer when no place in the window is free (P1).
    pub linger: Duration,
    /// Up to how many bytes a batch gathers, before compression. A larger single row is a batch of its own.
    pub batch_bytes: usize,
    /// acks: 0, 1, −1 (all in-sync replicas). With 0 batches carry no producer id: see `Producer::cut`.
    pub acks: i16,
    /// Which partition a row goes to.
    pub partitioner: Partitioner,
    /// All of its rows go to one topic.
    pub fixed_topic: bool,
    /// Codec of its batches.
    pub compression: Codec,
    /// Level of the codec, if it has levels; `None`: its usual one.
    pub compression_level: Option<i32>,
    /// Largest record, as a batch of its own; more is [`super::Refusal::TooLarge`].
    pub record_bytes_max: usize,
    /// Batches of one partition that may be cut and not done, 1 to 5.
    pub max_inflight: usize,
    /// How often a batch is sent again; `None`: until Kafka has taken it or refused it for good.
    pub retries: Option<u32>,
    /// Rows that have not been cut this long after they were taken are dropped.
    pub expire_after: Option<Duration>,
    /// Rows of a topic that Kafka has not known for this long are refused; `None`: they wait until it does.
    pub unknown_topic_timeout: Option<Duration>,
    /// When the publisher is answered.
    pub answered_on: AnsweredOn,
    /// Where its rows are kept.
    pub keep: Keep,
    /// Memory of its rows beyond which they stand in the log alone, where `keep` has one.
    pub spill_after: usize,
    /// Batches that Kafka refuses for good are kept for [`super::Producer::next_rejected`]; else their publishers are told.
    pub keep_rejected: bool,
    /// Nothing new is cut; what is cut is sent and settled.
    pub paused: bool,
    /// While the machine is short of memory, its oldest rows make room for younger ones.
    pub sheds: bool,
    /// Memory is set aside for one batch of such sinks: see [`super::Producer::has_reserve`].
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
    /// Bound on the memory of rows and batches, unused buffers with it. Raised to [`Settings::buffer_bytes_min`].
    pub buffer_bytes: usize,
    /// First wait after a retriable error; doubles up to `backoff_max`, ± 20 %.
    pub backoff_min: Duration,
    /// Longest wait after a retriable error.
    pub backoff_max: Duration,
    /// How long a broker may wait for followers before it answers 7 (short: it blocks its connection meanwhile).
    pub acks_timeout: Duration,
    /// How long a partition may keep others of its leader from loading cuts beyond what memory may take, without one of
    /// its own being done: the time in which an answer comes, if one comes.
    pub request_timeout: Duration,
    /// Unanswered requests for a broker; beyond it batches go on growing.
    pub requests_per_node_max: usize,
    /// Bytes of batches in one request, if it has more than one.
    pub request_bytes_max: usize,
    /// After how long an unanswered wish ([`super::Want`]) is said again.
    pub ask_again: Duration,
    /// For how long a topic counts as forbidden or invalid after Kafka said so.
    pub forbidden_for: Duration,
    /// Topics of all sinks together.
    pub topics_max: usize,
    /// A topic without rows for this long is forgotten when `topics_max` is near.
    pub topic_idle: Duration,
    /// Whether somebody asks where rows are in Kafka: [`super::Producer::drain_landed`] says so.
    pub receipts: bool,
    /// Seed of jitter and of the choice of partitions for rows without a key.
    pub seed: u64,
    /// The rules that it keeps: [`KEPT`], but for tests.
    pub rules: &'static dyn Rules,
    /// The sinks, by [`crate::kafka::types::SinkId`].
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

    /// The least memory with which every promise can be kept: the largest row in every sink at once, one more to place while
    /// all else is full, two more to split a batch; if there is a log, one to read back, and one to take while a batch of
    /// each sink is under way; the encoders, and what one of their batches unpacks to.
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
