//! An appended batch, and its state.

use bytes::Bytes;

use forebay_kafka::model::Sent;

/// The state of an appended batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// The batch is in its log.
    There,
    /// The batch was lost with a leader.
    Lost,
    /// The batch was deleted with its topic.
    Deleted,
    /// Retention deleted the batch when its records were as old as their timestamps.
    Retained,
    /// Retention deleted the batch early: its timestamps are wrong.
    DeletedEarly,
    /// The cleaner has removed all of the batch.
    Compacted,
}

/// A record: its message, its sink, and its timestamp.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    /// Number of the message.
    pub message: u32,
    /// Number of the sink.
    pub sink: u8,
    /// Timestamp.
    pub time: i64,
}

/// An appended batch.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Producer id.
    pub producer: i64,
    /// Producer epoch.
    pub epoch: i16,
    /// First sequence.
    pub first: i32,
    /// Last sequence.
    pub last: i32,
    /// Offset of the first record.
    pub base_offset: i64,
    /// Number of records.
    pub count: i32,
    /// The newest timestamp.
    pub max_timestamp: i64,
    /// The records of the batch.
    pub rows: Vec<Row>,
    /// Topic name, its id, and partition.
    pub place: (String, u128, usize),
    /// The leader's epoch.
    pub leader_epoch: i32,
    /// Simulated time of the append.
    pub time: u64,
    /// The process (see `World::life`) that sent the batch.
    pub life: u32,
    /// Whether the batch came on a connection that its client had given up.
    pub late: bool,
    /// Whether, in addition, the partition had forgotten the producer, or knew only such batches of it before this one: that the
    /// batch is there once more cannot be avoided.
    pub forgotten: bool,
    /// The current state.
    pub state: State,
    /// Bytes as written, with the base offset.
    pub bytes: Bytes,
    /// Time of the cleaner's first pass over the batch.
    pub cleaned_ms: Option<i64>,
}

impl Entry {
    /// Offset after the last record.
    #[must_use]
    pub fn end(&self) -> i64 {
        self.base_offset + i64::from(self.count)
    }

    /// The part of the batch that the leader remembers of its producer.
    pub(super) fn sent(&self) -> Sent {
        let Self { producer, epoch, first, last, base_offset, max_timestamp: newest_ms, .. } = *self;
        Sent { producer, epoch, first, last, base_offset, newest_ms, is_stray: self.late && self.forgotten }
    }
}
