//! Letters between the shards of a source.

use std::sync::Arc;

use forebay_broker::mail::ToReaders;
use forebay_metrics::inspect::SeekTo;
use forebay_session::Settled;

/// A letter between the shards of a source.
#[derive(Debug)]
pub enum ToSources {
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
    /// A letter of a broker.
    Broker(ToReaders),
}

/// A partition to be read.
#[derive(Clone, Debug)]
pub struct Given {
    pub(crate) topic: Arc<str>,
    pub(crate) partition: i32,
    /// The place that the group has committed there.
    pub(crate) committed: Option<Place>,
}

/// The progress of some partitions of an assignment.
#[derive(Debug)]
pub struct Progress {
    pub(crate) source: usize,
    pub(crate) generation: u64,
    pub(crate) places: Vec<Reached>,
}

/// The progress of a partition.
#[derive(Clone, Debug)]
pub(crate) struct Reached {
    pub(crate) topic: Arc<str>,
    pub(crate) partition: i32,
    /// The place before which all records are over. `None`: nothing has been read yet.
    pub(crate) at: Option<Place>,
    /// Whether the partition is no longer read.
    pub(crate) is_stopped: bool,
}

/// A place in a partition: an offset, and the leader epoch of the record before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) offset: i64,
    pub(crate) leader_epoch: i32,
}
