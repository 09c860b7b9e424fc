//! What the shards of a source write to each other.

use std::sync::Arc;

use super::window::Place;
use crate::metrics::inspect::SeekTo;
use crate::session::Settled;

/// A letter of a source.
#[derive(Debug)]
pub enum SourceLetter {
    /// These partitions are read by the shard that gets this, from now on.
    Read {
        /// Index of the source.
        source: usize,
        /// The number that the membership has given to this assignment; grows.
        generation: u64,
        /// Index of the cluster that the group is on: the shard may know another one by now.
        cluster: usize,
        /// The partitions.
        partitions: Vec<Given>,
    },
    /// The partitions of an assignment are read no more.
    Stop {
        /// Index of the source.
        source: usize,
        /// The assignment.
        generation: u64,
        /// Others may read them already: nothing of them can be committed.
        is_lost: bool,
    },
    /// Partitions of an assignment are read from another place on.
    Seek {
        /// Index of the source.
        source: usize,
        /// The assignment.
        generation: u64,
        /// Topic and number of each, in order.
        partitions: Vec<(Arc<str>, i32)>,
        /// The place.
        to: SeekTo,
    },
    /// How far reading is, to the shard of the membership.
    Progress(Progress),
    /// Answers that keep records of the shard open that gets this.
    Settled(Vec<Settled>),
}

/// A partition to be read.
#[derive(Clone, Debug)]
pub struct Given {
    pub(super) topic: Arc<str>,
    pub(super) partition: i32,
    /// What the group has committed there.
    pub(super) committed: Option<Place>,
}

/// How far some partitions of an assignment are.
#[derive(Debug)]
pub struct Progress {
    pub(super) source: usize,
    pub(super) generation: u64,
    pub(super) places: Vec<Reached>,
}

/// How far a partition is.
#[derive(Clone, Debug)]
pub(super) struct Reached {
    pub(super) topic: Arc<str>,
    pub(super) partition: i32,
    /// All before it is over; `None`: nothing has been read yet.
    pub(super) at: Option<Place>,
    /// The partition is read no more.
    pub(super) is_stopped: bool,
}
