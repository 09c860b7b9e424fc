//! What the shards of a source write to each other.

use std::sync::Arc;

use super::window::Place;
use crate::metrics::inspect::SeekTo;
use crate::route::shares::{Share, ShareNumber};
use crate::session::{RecordPlace, Settled};

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
    /// Slots have come to a shard. Their sessions have been given all records of `[broker]` below these places.
    Needs {
        /// The shard.
        by: usize,
        /// One place for each partition that the logs name.
        needs: Arc<[RecordPlace]>,
    },
    /// A share of several instances has other members than before, to its home.
    Share {
        /// The share.
        share: Arc<Share>,
        /// Members wait until it has a place.
        asks: bool,
    },
    /// Messages of a share that wait for members are other instances'.
    ShareStopped {
        /// The share.
        share: ShareNumber,
        /// Its home.
        home: usize,
        /// The home's numbers for the partitions of their records.
        readers: Arc<[u32]>,
    },
    /// A share has its place.
    SharePlaced,
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
