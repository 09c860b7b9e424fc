//! The disk buffer of one shard: what producers and sessions have to know after a crash, written into the spool's log
//! ([`crate::spool`]). Sans-I/O: the disk is behind the log's own seam, time is given.
//!
//! | file | |
//! |---|---|
//! | `core` | one [`Buffer`] for each shard: groups, completions |
//! | `view` | the same as a cluster's producer sees it: a [`crate::kafka::producer::row_log::RowLog`] |
//! | `room` | whether a row may be taken, asked before it is |
//! | `sessions` | kept sessions, their ends, released packet ids |
//! | `restore` | what a start finds, sorted by cluster and session |
//! | `report`, `kinds` | what an operator is told of that |
//! | `clock` | deadlines on the wall and within the process |
//!
//! A turn: producers are polled with a [`View`] each, sessions write their records, then [`Buffer::flush`] once. What was
//! taken is durable when [`Buffer::durable`] has reached the group that was being gathered ([`Buffer::group`]).

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
