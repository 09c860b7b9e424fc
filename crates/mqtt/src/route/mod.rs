//! Step 4: the sinks that a message goes to.
//!
//! [`filter`] defines topic filters, [`trie`] holds the filters of all sinks and looks a topic up. No I/O, no clock; each core has
//! a copy.

pub mod filter;
pub mod interest;
pub mod shape;
pub mod shares;
pub mod slot;
pub mod subscriptions;
pub mod topics;
pub mod trie;

pub use trie::SinkRouter;

/// The atomics that [`slot`] uses: `tests/loom.rs` replaces them.
mod atomic {
    pub(super) use std::sync::atomic::{AtomicU64, Ordering};
}
