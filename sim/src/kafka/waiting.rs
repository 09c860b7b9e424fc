//! Requests that a broker does not answer at once.

use super::Cluster;
use super::consuming::Fetching;
use super::coordinator::Held;
use super::front::Producing;

/// A request that waits.
#[derive(Debug)]
pub(crate) enum Waiting {
    /// Produce: for followers.
    Produce(Producing),
    /// Fetch: for a record.
    Fetch(Fetching),
    /// JoinGroup or SyncGroup: for other members.
    Member(Held),
}

impl Waiting {
    /// When it is answered at the latest; `None`: when its group says.
    pub(crate) fn deadline(&self) -> Option<u64> {
        match self {
            Self::Produce(producing) => Some(producing.deadline()),
            Self::Fetch(fetching) => Some(fetching.deadline()),
            Self::Member(_) => None,
        }
    }
}

impl Cluster {
    /// Answers a request that waited, if all of it can be answered by now.
    pub(crate) fn settle(&mut self, waiting: &mut Waiting, time: u64) -> Option<Vec<u8>> {
        match waiting {
            Waiting::Produce(producing) => self.settle_produce(producing, time),
            Waiting::Fetch(fetching) => self.settle_fetch(fetching, time),
            Waiting::Member(held) => self.answer_of(held),
        }
    }
}
