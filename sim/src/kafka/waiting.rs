//! Requests that a broker does not answer at once.

use super::Cluster;
use super::consuming::Fetching;
use super::coordinator::Held;
use super::front::Producing;

/// A waiting request.
#[derive(Debug)]
pub(crate) enum Waiting {
    /// Produce, which waits for followers.
    Produce(Producing),
    /// Fetch, which waits for a record.
    Fetch(Fetching),
    /// JoinGroup or SyncGroup, which waits for other members.
    Member(Held),
}

impl Waiting {
    /// The latest time of the answer; `None`: the group decides.
    pub(crate) fn deadline(&self) -> Option<u64> {
        match self {
            Self::Produce(producing) => Some(producing.deadline()),
            Self::Fetch(fetching) => Some(fetching.deadline()),
            Self::Member(_) => None,
        }
    }
}

impl Cluster {
    /// Answers a request that waited, if all of its parts have an answer by now.
    pub(crate) fn settle(&mut self, waiting: &mut Waiting, time: u64) -> Option<Vec<u8>> {
        match waiting {
            Waiting::Produce(producing) => self.settle_produce(producing, time),
            Waiting::Fetch(fetching) => self.settle_fetch(fetching, time),
            Waiting::Member(held) => self.answer_of(held),
        }
    }
}
