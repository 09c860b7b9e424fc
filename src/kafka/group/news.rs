//! What a member tells its owner.

use crate::kafka::coordination::{Committed, Offset, TopicPartition};

/// News of a member, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum News {
    /// The member has these partitions, and no others, until [`News::Revoked`] or [`News::Lost`]. There may be none.
    Assigned(Vec<Assigned>),
    /// The group begins a rebalance, and the member gives all its partitions back: stop them, commit, then say
    /// [`super::Member::revoked_done`]. Commits are taken until then, or until the rebalance waits no longer.
    Revoked(Vec<TopicPartition>),
    /// The membership has ended, and its partitions with it: others may read them already, and nothing of them can be committed. The member
    /// joins again by itself, unless it was fenced.
    Lost(Lost),
    /// Kafka has these commits.
    Committed(Vec<Offset>),
    /// Kafka will not take these commits; a later commit tries again.
    CommitFailed {
        /// The commits.
        offsets: Vec<Offset>,
        /// Why, in words, with a cure.
        why: String,
    },
    /// The member cannot take part in its group. It goes on trying; each reason is told once.
    Trouble(String),
    /// The trouble that was told is over.
    TroubleOver,
    /// The membership is over, as it was wanted, or nothing more was heard of it within `leave_timeout`.
    Left,
}

/// A partition that the member was given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assigned {
    /// The partition.
    pub at: TopicPartition,
    /// What the group has committed there; `None`: nothing.
    pub committed: Option<Committed>,
}

/// Why a membership ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lost {
    /// ILLEGAL_GENERATION (22): the group has gone on without the member.
    Generation,
    /// UNKNOWN_MEMBER_ID or GROUP_ID_NOT_FOUND (25, 69): the coordinator has removed the member, as it was not heard of in time, or by an
    /// operator.
    Unknown,
    /// FENCED_MEMBER_EPOCH or STALE_MEMBER_EPOCH (110, 113): the same in a group of the newer protocol (KIP-848).
    Epoch,
    /// FENCED_INSTANCE_ID (82), of a member that has its partitions: another process has joined under the same instance id. The member is over,
    /// and tells nothing more until it is left or stopped.
    Fenced,
}

/// Counts of a member since it was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Generations joined.
    pub rebalances: u64,
    /// Memberships that ended without being wanted.
    pub lost: u64,
    /// Places committed.
    pub committed: u64,
    /// Places that were not committed, as Kafka refused them.
    pub refused: u64,
    /// Places that were not committed, as their partition was not the member's (any more).
    pub dropped: u64,
}

/// How a member stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It looks for its coordinator, joins, or waits for its partitions.
    Joining,
    /// It has its partitions.
    Stable,
    /// It gives its partitions back, and joins again then.
    Revoking,
    /// It leaves.
    Leaving,
    /// It is over.
    Ended,
}
