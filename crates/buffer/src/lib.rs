//! The disk buffer of one shard: the data that producers and sessions need after a crash, written to the spool's log
//! ([`forebay_spool`]). Sans-I/O: the log has its own interface to the disk, and time is passed in.
//!
//! | file | |
//! |---|---|
//! | `core` | one [`Buffer`] for each shard: groups, completions |
//! | `view` | the buffer as a cluster's producer uses it: a [`forebay_kafka::producer::row_log::RowLog`] |
//! | `room` | whether a row may be taken, checked in advance |
//! | `sessions` | kept sessions, their ends, released packet ids |
//! | `restore` | the contents of a recovered log, by cluster and session |
//! | `report`, `kinds` | the report for the operator on that |
//! | `clock` | deadlines by the wall clock and within the process |
//!
//! A turn: producers are polled with a [`View`] each, sessions write their records, then [`Buffer::flush`] is called
//! once. Rows and records of the turn are durable when [`Buffer::durable`] has reached the group that was being gathered
//! ([`Buffer::group`]).

#![forbid(unsafe_code)]

mod clock;
mod core;
mod cuts;
mod kinds;
mod report;
mod restore;
mod room;
mod sessions;
mod settings;
mod view;

#[cfg(test)]
mod tests;

pub use self::core::{Buffer, Numbers};
pub use self::kinds::{Counts, RecordKind};
pub use self::report::{Report, Unread};
pub use self::restore::{OpenError, Restored, RestoredCluster, RestoredId, RestoredRow, RestoredSession};
pub use self::room::{ROW_COST, SpoolFull};
pub use self::sessions::StoredSession;
pub use self::settings::{Settings, SinkTerms};
pub use self::view::View;
