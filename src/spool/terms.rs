//! The log's terms: what it is given, what it refuses, what a caller gets for what was taken.

use std::collections::BTreeMap;

use super::entry::{Cut, Run};

/// Batches of a partition that may be under way.
pub const CUTS_OPEN_MAX: usize = 5;

/// Segments that rows and new sessions leave free: the one that is written, the one before it, the next one, and one to
/// move into. Cuts, dones, ends and releases hold no segment, so with these they can go on for ever.
pub const SEGMENTS_RESERVED: u64 = 4;

/// What a log is given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The shard.
    pub shard: u32,
    /// Bytes of a segment.
    pub segment_bytes: u64,
    /// Segments there may be: more than [`SEGMENTS_RESERVED`].
    pub segments_max: u64,
    /// The most that one sink may hold of it, bytes (`spool_share`).
    pub sink_bytes_max: u64,
    /// For the segments' salts: not to be guessed by a publisher.
    pub seed: u64,
}

/// Why something was not taken. Nothing of it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The spool is full: `when_full` applies, for all sinks.
    #[error("the spool is full")]
    Full,
    /// This sink holds its share: its own `when_full` applies.
    #[error("the sink holds its share of the spool")]
    SinkFull,
    /// More waits for a sync than a group may hold: again when that is done.
    #[error("a group is full and waits for its sync")]
    Busy,
    /// It would not fit in any group.
    #[error("too large for a segment")]
    TooLarge,
    /// Too many lanes, sessions and open packet ids for the segment size.
    #[error("too much to keep account of")]
    TooMany,
    /// Five batches of that partition are open: the oldest has to be done or ended first.
    #[error("the window of five is full")]
    Window,
    /// A batch of an earlier producer id or epoch is open.
    #[error("a batch of an earlier identity is open")]
    Identity,
    /// It names what is not there, or the rows have no partition.
    #[error("it names what is not there")]
    Unknown,
}

/// What was taken and waits for its sync. It is durable when [`super::Log::is_durable`] says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ticket(pub(super) u64);

/// A cut that was taken. Its batch may be sent once [`super::Log::sendable`] has turned it into a [`SyncedCut`].
#[derive(Debug, PartialEq, Eq)]
#[must_use = "a batch is sent only with its cut on the disk"]
pub struct StagedCut {
    pub(super) cut: u64,
    pub(super) ticket: Ticket,
}

/// A cut that is on the disk: leave to send its batch. Only the log makes these.
#[derive(Debug, PartialEq, Eq)]
pub struct SyncedCut {
    pub(super) cut: u64,
}

impl SyncedCut {
    /// Its number.
    #[must_use]
    pub const fn number(&self) -> u64 {
        self.cut
    }
}

/// The cut's identity, as the caller gives it; the log gives the number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewCut {
    /// The lane; a placed one.
    pub lane: u32,
    /// Kafka's id of the topic.
    pub topic_id: [u8; 16],
    /// Producer id.
    pub producer_id: i64,
    /// Producer epoch.
    pub epoch: i16,
    /// Sequence of the first record.
    pub sequence: i32,
    /// The rows.
    pub rows: Vec<Run>,
}

/// What was taken and is not durable yet, as far as callers ask about it.
#[derive(Debug, Default)]
pub(super) struct Ahead {
    /// Next number of each lane.
    pub(super) next: BTreeMap<u32, u64>,
    /// Open cuts, those on the disk too.
    pub(super) cuts: BTreeMap<u64, Cut>,
    pub(super) next_cut: u64,
    pub(super) lanes: BTreeMap<(String, String, i32), u32>,
    pub(super) sink_bytes: BTreeMap<u32, u64>,
}
