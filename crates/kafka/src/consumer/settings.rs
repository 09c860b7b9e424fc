//! Settings of the consumer, and of each partition.

use std::rc::Rc;
use std::time::Duration;

use super::asking::RECORDS_MIN;
use forebay_guard::outward::Bounds;

/// `Settings` are the settings of one cluster's consumer.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Bytes that answers and decompressed records may take, until the last reference to them is gone. No Fetch is sent if its answer could
    /// exceed this.
    pub fetch_memory: usize,
    /// Bytes of records requested in one answer; a larger batch comes whole.
    pub answer_bytes: usize,
    /// How long a broker waits for a first byte.
    pub max_wait: Duration,
    /// Bytes that one batch may have, decompressed.
    pub batch_bytes_max: usize,
    /// Waits after a temporary error.
    pub retry: Bounds,
    /// Wait after an error that an operator has to fix (29, TOPIC_AUTHORIZATION_FAILED).
    pub forbidden_retry: Duration,
    /// How long a topic must be missing to count as deleted.
    pub deleted_after: Duration,
    /// The line of the consumer's connections ([`crate::fetch::ReadWay`]), if several consumers share a client.
    pub line: u8,
    /// The number of the consumer's first request. Consumers that share a client must have different ones.
    pub first_request: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            fetch_memory: 64 << 20,
            answer_bytes: 8 << 20,
            max_wait: Duration::from_millis(500),
            batch_bytes_max: 64 << 20,
            retry: Bounds { min: Duration::from_millis(100), max: Duration::from_secs(1) },
            forbidden_retry: Duration::from_secs(30),
            deleted_after: Duration::from_secs(10),
            line: 0,
            first_request: 0,
        }
    }
}

impl Settings {
    /// The settings with bounds under which a batch of usual size can be fetched.
    pub(super) fn bounded(mut self) -> Self {
        self.fetch_memory = self.fetch_memory.max(4 * RECORDS_MIN);
        self.answer_bytes = self.answer_bytes.clamp(RECORDS_MIN, self.fetch_memory / 2);
        self
    }
}

/// `Place` is a place in a log that Kafka finds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// The first existing record.
    Earliest,
    /// The next record to be written.
    Latest,
    /// The first record with this timestamp, in ms, or a later one; the next one to be written, if there is none.
    Time(i64),
}

/// `Start` is where reading begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// At this offset.
    Offset {
        /// The next offset to read.
        offset: i64,
        /// The epoch of the leader that wrote the previous record, as in a commit; -1: not known.
        leader_epoch: i32,
    },
    /// At this place.
    At(Place),
}

/// `OnBadBatch` is the reaction to a batch that cannot be read after a second fetch either.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnBadBatch {
    /// The partition stops there.
    #[default]
    Stop,
    /// Reading goes on after it.
    Skip,
}

/// `Assignment` is a partition to read.
#[derive(Clone, Debug)]
pub struct Assignment {
    /// Topic.
    pub topic: Rc<str>,
    /// Partition index.
    pub partition: i32,
    /// Where reading begins.
    pub start: Start,
    /// Bytes of records requested at a time.
    pub bytes: usize,
    /// Where reading goes on if the offset is not in the log, or the topic was recreated.
    pub reset: Place,
    /// Whether only records of committed transactions count (`read_committed`).
    pub committed: bool,
    /// The reaction to a bad batch.
    pub on_bad_batch: OnBadBatch,
}
