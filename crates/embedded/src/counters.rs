//! Counters for `/metrics`. Written by the log's own threads, read by any holder of the `Arc`; relaxed throughout.

use std::sync::atomic::{AtomicU64, Ordering};

macro_rules! counters {
    ($($(#[doc = $doc:literal])+ $name:ident,)+) => {
        /// The embedded log's activity since startup, and its current contents.
        #[derive(Debug, Default)]
        pub struct Counters { $($(#[doc = $doc])+ pub $name: AtomicU64,)+ }

        impl Counters {
            /// Name, on `/metrics`, and meaning of each, in the order of [`Counters::snapshot`].
            pub const DESCRIBED: &[(&str, &str)] = &[$((concat!("embedded_", stringify!($name)), concat!($($doc),+)),)+];

            /// Name and value of each, in a fixed order.
            pub fn snapshot(&self) -> Vec<(&'static str, u64)> {
                vec![$((stringify!($name), self.$name.load(Ordering::Relaxed)),)+]
            }
        }
    };
}

counters! {
    /// Connections open now.
    connections_open,
    /// Connections accepted.
    connections_accepted,
    /// Connections closed at once because `connections_max` were open and at work.
    connections_refused,
    /// Connections that waited for a request and were closed for a new one because `connections_max` were open.
    connections_replaced,
    /// Requests answered (or, for acks=0, taken).
    requests,
    /// Requests that could not be understood; each closed its connection.
    requests_malformed,
    /// Requests for a group's coordinator.
    coordinator_requests,
    /// Requests for a transaction coordinator, which the embedded log does not have.
    transaction_requests,
    /// Batches appended.
    batches_appended,
    /// Records appended.
    records_appended,
    /// Bytes of batches appended.
    bytes_appended,
    /// Duplicate batches, answered with the offset of the first copy.
    batches_duplicate,
    /// Batches refused with an error code.
    batches_refused,
    /// Bytes of batches sent to consumers.
    bytes_fetched,
    /// Segments that retention removed.
    segments_expired,
    /// Bytes of segments that retention removed.
    bytes_expired,
    /// Groups synced (a group is everything appended while the previous one was being synced).
    sync_groups,
    /// fdatasync calls.
    syncs,
    /// Time spent in fdatasync.
    sync_us,
    /// fdatasync calls that failed; the partition is read-only from then on.
    sync_failures,
    /// Topics.
    topics,
    /// Partitions.
    partitions,
    /// Bytes of incomplete batches truncated at the last start.
    recovery_bytes_cut,
    /// Unreadable ranges between readable batches, found at the last start; they are skipped.
    recovery_holes,
    /// Unreadable ranges that reads have found since the start; they are skipped.
    read_holes,
    /// Files found damaged, missing or under another's name at the last start; the log of the service names each, and what became of it.
    recovery_files_damaged,
}

/// Adds without ordering: no thread synchronizes on a counter.
pub(super) fn add(counter: &AtomicU64, value: u64) {
    counter.fetch_add(value, Ordering::Relaxed);
}

/// Subtracts from a gauge.
pub(super) fn subtract(counter: &AtomicU64, value: u64) {
    counter.fetch_sub(value, Ordering::Relaxed);
}

/// Counts one and returns whether it was the first.
pub(super) fn first(counter: &AtomicU64) -> bool {
    counter.fetch_add(1, Ordering::Relaxed) == 0
}
