//! Numbers for metrics.

/// `Stats` are the numbers of a consumer: counters, except for `lag`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Fetch requests that were answered.
    pub fetches: u64,
    /// Bytes of the answers to Fetch requests.
    pub fetched_bytes: u64,
    /// Requests (including those for offsets) without an answer, or with an unusable one.
    pub failures: u64,
    /// Records taken.
    pub records: u64,
    /// Batches that could not be read after a second fetch either.
    pub bad_batches: u64,
    /// Batches that were fetched a second time.
    pub refetches: u64,
    /// Resets to another place, because the log did not have the previous one.
    pub resets: u64,
    /// How often a Fetch had to wait for memory.
    pub memory_waits: u64,
    /// Fetch sessions that the broker ended.
    pub sessions_lost: u64,
    /// Sum of the lags of all partitions that have been fetched at least once: a gauge, not a counter.
    pub lag: u64,
    /// News dropped because they were not taken in time.
    pub news_dropped: u64,
}
