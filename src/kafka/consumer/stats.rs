//! Numbers for metrics.

/// `Stats` are the numbers of a consumer: counts of what it has done, but for `lag`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Fetch requests that were answered.
    pub fetches: u64,
    /// Bytes of their answers.
    pub fetched_bytes: u64,
    /// Requests (also for offsets) that got no answer, or one that could not be used.
    pub failures: u64,
    /// Records that were taken.
    pub records: u64,
    /// Batches that could not be read a second time either.
    pub bad_batches: u64,
    /// Batches that were fetched once more.
    pub refetches: u64,
    /// Places that reading has gone to because the log did not have the one before.
    pub resets: u64,
    /// How often a Fetch had to wait for memory.
    pub memory_waits: u64,
    /// Fetch sessions that the broker has ended.
    pub sessions_lost: u64,
    /// Sum of the lags of all partitions that have been fetched at least once: a gauge, not a counter.
    pub lag: u64,
    /// News that nobody took in time.
    pub news_dropped: u64,
}
