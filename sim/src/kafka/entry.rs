//! A batch that was appended, and what became of it.

use bytes::Bytes;

use super::log::Sent;

/// What became of a batch that was appended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It is in its log.
    There,
    /// A leader took it with it.
    Lost,
    /// Its topic was deleted.
    Deleted,
    /// Retention deleted it, when its records were as old as they claimed to be.
    Retained,
    /// Retention deleted it early: its timestamps are wrong.
    DeletedEarly,
    /// The cleaner has left nothing of it.
    Compacted,
}

/// A record: which message, for which sink, and the time that it carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    /// Number of the message.
    pub message: u32,
    /// Number of the sink.
    pub sink: u8,
    /// Timestamp.
    pub time: i64,
}

/// A batch that was appended.
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
    /// Records.
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
    /// The process (see `World::life`) that sent it.
    pub life: u32,
    /// It came on a connection that its client had given up.
    pub late: bool,
    /// So it did, and its partition had forgotten its producer, or knew nothing of it but such batches before this one: nobody can
    /// help that it is there once more.
    pub forgotten: bool,
    /// What became of it.
    pub state: State,
    /// As it was written, with its base offset.
    pub bytes: Bytes,
    /// When the cleaner was here first.
    pub cleaned_ms: Option<i64>,
}

impl Entry {
    /// Offset behind its last record.
    #[must_use]
    pub fn end(&self) -> i64 {
        self.base_offset + i64::from(self.count)
    }

    /// What is remembered of its producer.
    pub(super) fn sent(&self) -> Sent {
        let Self { producer, epoch, first, last, base_offset, max_timestamp: newest_ms, .. } = *self;
        Sent { producer, epoch, first, last, base_offset, newest_ms, is_stray: self.late && self.forgotten }
    }
}
