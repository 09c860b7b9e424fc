//! Letters between the shards of a source.

use std::sync::Arc;

use super::window::Place;
use forebay_metrics::inspect::SeekTo;
use forebay_mqtt::route::shares::{Share, ShareNumber};
use forebay_session::{RecordPlace, Settled};

/// A letter of a source.
#[derive(Debug)]
pub enum SourceLetter {
    /// Partitions that the receiving shard reads from now on.
    Read {
        /// Index of the source.
        source: usize,
        /// The number that the membership has given to this assignment. It grows.
        generation: u64,
        /// Index of the group's cluster: the shard may have another one in force by now.
        cluster: usize,
        /// The partitions.
        partitions: Vec<Given>,
    },
    /// The partitions of an assignment are no longer read.
    Stop {
        /// Index of the source.
        source: usize,
        /// The assignment.
        generation: u64,
        /// Whether other instances may read them already: nothing of them can be committed then.
        is_lost: bool,
    },
    /// Partitions of an assignment are read from another place.
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
    /// The progress of reading, for the shard of the membership.
    Progress(Progress),
    /// Answers that records of the receiving shard wait for.
    Settled(Vec<Settled>),
    /// A shard has new slots. Their sessions have been given all records of `[broker]` below these places.
    Needs {
        /// The shard.
        by: usize,
        /// The number of its request.
        number: u64,
        /// One place for each partition that the logs name.
        needs: Arc<[RecordPlace]>,
    },
    /// The members of a share of several instances have changed; for its home.
    Share {
        /// The share.
        share: Arc<Share>,
        /// Whether members wait until it has a place.
        asks: bool,
    },
    /// Messages of a share that wait for members are other instances' now.
    ShareStopped {
        /// The share.
        share: ShareNumber,
        /// Its home.
        home: usize,
        /// The home's numbers for the partitions of their records.
        readers: Arc<[u32]>,
    },
    /// A share has its place now.
    SharePlaced,
}

/// A partition to be read.
#[derive(Clone, Debug)]
pub struct Given {
    pub(super) topic: Arc<str>,
    pub(super) partition: i32,
    /// The place that the group has committed there.
    pub(super) committed: Option<Place>,
}

/// The progress of some partitions of an assignment.
#[derive(Debug)]
pub struct Progress {
    pub(super) source: usize,
    pub(super) generation: u64,
    pub(super) places: Vec<Reached>,
}

/// The progress of a partition.
#[derive(Clone, Debug)]
pub(super) struct Reached {
    pub(super) topic: Arc<str>,
    pub(super) partition: i32,
    /// The place before which all records are over. `None`: nothing has been read yet.
    pub(super) at: Option<Place>,
    /// Whether the partition is no longer read.
    pub(super) is_stopped: bool,
}
