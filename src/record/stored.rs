//! Rows where they are stored: what the producer, which has them stored, and the spool, which stores them, both name.

/// The partition of a lane whose rows have none yet.
pub const UNPLACED: i32 = -1;

/// Producer id of a cut that is no batch: rows that were sent under no identity, and go before all others of their partition
/// that are in no cut, whatever their numbers.
pub const NO_BATCH: i64 = -2;

/// Rows of a lane with consecutive numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RowRun {
    /// Number of the first.
    pub first: u64,
    /// How many.
    pub count: u64,
}

impl RowRun {
    /// The number behind the last.
    #[must_use]
    pub const fn end(&self) -> u64 {
        self.first.saturating_add(self.count)
    }
}

/// A message of QoS 2 whose packet id is open: its session, by the number under which it is kept, and the id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Origin {
    /// The session's number, never used twice.
    pub session: u64,
    /// The packet identifier.
    pub packet_id: u16,
}

/// A topic as it is known when its rows get partitions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Known<'a> {
    /// The cluster's id; empty: not known.
    pub cluster: &'a str,
    /// Kafka's id of the topic; 0: not known.
    pub topic_id: u128,
    /// Its partitions, by which rows have theirs; 0: not known, or by different numbers.
    pub partitions: u32,
}
