//! Settings of the consumer, and of each partition.

use std::rc::Rc;
use std::time::Duration;

use super::asking::RECORDS_MIN;
use crate::outward::Bounds;

/// `Settings` are those of one cluster's consumer.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Bytes that answers and decompressed records may take, until the last reference to them is gone. No Fetch is sent if its answer could
    /// exceed this.
    pub fetch_memory: usize,
    /// Bytes of records that are asked for in one answer; a batch that is larger comes whole.
    pub answer_bytes: usize,
    /// How long a broker waits for a first byte.
    pub max_wait: Duration,
    /// Bytes that one batch may have, decompressed.
    pub batch_bytes_max: usize,
    /// Waits after an error that passes by itself.
    pub retry: Bounds,
    /// Wait after an error that somebody has to mend (29, TOPIC_AUTHORIZATION_FAILED).
    pub forbidden_retry: Duration,
    /// How long a topic must be missing to count as deleted.
    pub deleted_after: Duration,
    /// The line of its connections ([`crate::kafka::fetch::ReadWay`]), if several consumers share a client.
    pub line: u8,
    /// The number of its first request. Those of consumers that share a client must differ.
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
    /// The first record that is there.
    Earliest,
    /// The next record that comes.
    Latest,
    /// The first record with this timestamp, in ms, or a later one; the next that comes, if there is none.
    Time(i64),
}

/// `Start` is where reading begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// At this offset.
    Offset {
        /// The next offset to read.
        offset: i64,
        /// The epoch of the leader that wrote the record before, as a commit has it; -1: not known.
        leader_epoch: i32,
    },
    /// At this place.
    At(Place),
}

/// `OnBadBatch` is what becomes of a batch that cannot be read a second time either.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnBadBatch {
    /// The partition stops there.
    #[default]
    Stop,
    /// Reading goes on after it.
    Skip,
}

/// `Assignment` is a partition to be read.
#[derive(Clone, Debug)]
pub struct Assignment {
    /// Topic.
    pub topic: Rc<str>,
    /// Partition index.
    pub partition: i32,
    /// Where reading begins.
    pub start: Start,
    /// Bytes of records that are asked for at a time.
    pub bytes: usize,
    /// Where it goes on when the offset is not in the log, or the topic was recreated.
    pub reset: Place,
    /// Whether only records of committed transactions count (`read_committed`).
    pub committed: bool,
    /// What becomes of a bad batch.
    pub on_bad_batch: OnBadBatch,
}
