//! News of a member for its owner.

use crate::coordination::{Committed, Offset, TopicPartition};

/// News of a member, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum News {
    /// The member has these partitions, and no others, until [`News::Revoked`] or [`News::Lost`]. There may be none.
    Assigned(Vec<Assigned>),
    /// The group begins a rebalance, and the member gives all its partitions back: stop them, commit, then call
    /// [`super::Member::revoked_done`]. Commits are taken until then, or until the rebalance waits no longer.
    Revoked(Vec<TopicPartition>),
    /// The membership has ended, and its partitions with it: other members may read them already, and none of them can be committed. The
    /// member joins again by itself, unless it was fenced.
    Lost(Lost),
    /// Kafka has these commits.
    Committed(Vec<Offset>),
    /// Kafka refused these commits; a later commit tries again.
    CommitFailed {
        /// The commits.
        offsets: Vec<Offset>,
        /// The reason in words, with a cure.
        why: String,
    },
    /// The member cannot take part in its group. It keeps trying; each reason is reported once.
    Trouble(String),
    /// The reported trouble is over.
    TroubleOver,
    /// The membership is over, as requested, or the coordinator did not answer within `leave_timeout`.
    Left,
}

/// A partition assigned to the member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assigned {
    /// The partition.
    pub at: TopicPartition,
    /// The group's committed place; `None`: there is none.
    pub committed: Option<Committed>,
}

/// Why a membership ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lost {
    /// ILLEGAL_GENERATION (22): the group has gone on without the member.
    Generation,
    /// UNKNOWN_MEMBER_ID or GROUP_ID_NOT_FOUND (25, 69): the coordinator has removed the member after a missed heartbeat, or an operator
    /// has.
    Unknown,
    /// FENCED_MEMBER_EPOCH or STALE_MEMBER_EPOCH (110, 113): the equivalent in a group of the newer protocol (KIP-848).
    Epoch,
    /// FENCED_INSTANCE_ID (82), of a member that has its partitions: another process has joined under the same instance id. The member is
    /// over, and reports nothing more until it is left or stopped.
    Fenced,
}

/// Counts of a member since its creation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Generations joined.
    pub rebalances: u64,
    /// Memberships that ended involuntarily.
    pub lost: u64,
    /// Places committed.
    pub committed: u64,
    /// Places that were not committed because Kafka refused them.
    pub refused: u64,
    /// Places that were not committed because their partition was not the member's (any more).
    pub dropped: u64,
}

/// The state of a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// The member looks for its coordinator, joins, or waits for its partitions.
    Joining,
    /// The member has its partitions.
    Stable,
    /// The member gives its partitions back, and then joins again.
    Revoking,
    /// The member leaves.
    Leaving,
    /// The member has ended.
    Ended,
}
