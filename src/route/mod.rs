//! Step 4: which sinks a message goes to.
//!
//! [`filter`] says what a topic filter is, [`trie`] holds the filters of all sinks and answers for a topic. No I/O, no
//! clock; one copy of it on each core.

pub mod filter;
pub mod interest;
pub mod shape;
pub mod shares;
pub mod slot;
pub mod subscriptions;
pub mod topics;
pub mod trie;

pub use trie::SinkRouter;

/// What [`slot`] is made of: `tests/loom.rs` has others.
mod atomic {
    pub(super) use std::sync::atomic::{AtomicU64, Ordering};
}
