//! Counters for `/metrics`. Written by the log's own threads, read by whoever holds the `Arc`; relaxed throughout.

use std::sync::atomic::{AtomicU64, Ordering};

macro_rules! counters {
    ($($(#[doc = $doc:literal])+ $name:ident,)+) => {
        /// What the embedded log has done since its start, and how much it holds.
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
    /// Connections closed at once because `connections_max` were open.
    connections_refused,
    /// Requests answered (or, for acks=0, taken).
    requests,
    /// Requests that could not be understood; each closed its connection.
    requests_malformed,
    /// Requests for a group's coordinator.
    coordinator_requests,
    /// Requests for a transaction coordinator, of which there is none.
    transaction_requests,
    /// Batches appended.
    batches_appended,
    /// Records appended.
    records_appended,
    /// Bytes of batches appended.
    bytes_appended,
    /// Batches that were there already and were answered with their first offset.
    batches_duplicate,
    /// Batches refused with an error code.
    batches_refused,
    /// Bytes of batches given to consumers.
    bytes_fetched,
    /// Segments that retention removed.
    segments_expired,
    /// Bytes in them.
    bytes_expired,
    /// Groups synced (one group: all that was appended while the one before was on its way to the disk).
    sync_groups,
    /// Calls of fdatasync.
    syncs,
    /// Microseconds spent in them.
    sync_us,
    /// Calls of fdatasync that failed; the partition is read-only from then on.
    sync_failures,
    /// Topics.
    topics,
    /// Partitions.
    partitions,
    /// Bytes cut off torn tails at the last start.
    recovery_bytes_cut,
    /// Unreadable stretches amid good data, found at the last start. They stay where they are and are skipped.
    recovery_holes,
}

/// Adds without ordering: nobody synchronises on a counter.
pub(super) fn add(counter: &AtomicU64, value: u64) {
    counter.fetch_add(value, Ordering::Relaxed);
}

/// Takes back what a gauge was given.
pub(super) fn subtract(counter: &AtomicU64, value: u64) {
    counter.fetch_sub(value, Ordering::Relaxed);
}

/// Counts one and tells whether it was the first.
pub(super) fn first(counter: &AtomicU64) -> bool {
    counter.fetch_add(1, Ordering::Relaxed) == 0
}
