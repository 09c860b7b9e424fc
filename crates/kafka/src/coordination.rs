//! Requests and answers between a member of a consumer group ([`super::group`]) and the wire client, through the shard. Plain data.

use std::rc::Rc;
use std::time::Duration;

/// A partition of a topic.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicPartition {
    /// Topic.
    pub topic: Rc<str>,
    /// Partition index.
    pub partition: i32,
}

/// A place in a partition, as a group commits it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offset {
    /// The partition.
    pub at: TopicPartition,
    /// Offset of the next record to be read.
    pub offset: i64,
    /// Leader epoch of the last record that was read (KIP-320); -1: unknown.
    pub leader_epoch: i32,
}

/// A place that a group has committed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Committed {
    /// Offset of the next record to be read.
    pub offset: i64,
    /// Leader epoch of the record before it (KIP-320); -1: unknown.
    pub leader_epoch: i32,
}

/// The names in JoinGroup on which all members of a group agree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Names {
    /// The protocol type: `consumer` for Kafka's consumers.
    pub protocol_type: &'static str,
    /// The protocol, which all members support: for consumers an assignor.
    pub protocol: &'static str,
}

/// A leader's assignment for one member: the member's id, and the assignment.
pub type Given = (Rc<str>, Rc<[u8]>);

/// A member as its coordinator knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The group's name.
    pub group: Rc<str>,
    /// The id from the coordinator; empty: none yet.
    pub member_id: Rc<str>,
    /// `group.instance.id` of a static member (KIP-345).
    pub instance: Option<Rc<str>>,
    /// Generation of the group; -1: none.
    pub generation: i32,
}

/// A request of one member.
#[derive(Clone, Debug)]
pub struct Request {
    /// The member's number, which names its connection: one for each source of a shard.
    pub member: u32,
    /// The member's number for this request; comes back with the answer.
    pub token: u64,
    /// The member that asks.
    pub identity: Identity,
    /// The request itself.
    pub ask: Ask,
}

/// The kinds of request of a member.
#[derive(Clone, Debug)]
pub enum Ask {
    /// FindCoordinator: which broker coordinates the group? Asked over the connection for metadata; all other requests go to that broker.
    Coordinator,
    /// JoinGroup. Answered when all members have joined.
    Join {
        /// A member that sends nothing for this long is removed.
        session_timeout: Duration,
        /// How long the coordinator waits for the other members.
        rebalance_timeout: Duration,
        /// The protocol that the members agree on.
        names: Names,
        /// The member's metadata for the leader; a change of these bytes makes the coordinator begin a rebalance.
        metadata: Rc<[u8]>,
    },
    /// Metadata of these topics, sorted, for their numbers of partitions. Creates none of them.
    Partitions(Rc<[Rc<str>]>),
    /// SyncGroup, with the assignments of all members if the member leads. Answered when the leader has sent them.
    Sync {
        /// The protocol that the members agree on.
        names: Names,
        /// The leader's assignment for each member, by the member's id.
        assignments: Rc<[Given]>,
        /// How long the leader may take.
        rebalance_timeout: Duration,
    },
    /// Heartbeat.
    Heartbeat,
    /// OffsetFetch of these partitions, which are sorted. Offsets that a transaction may still change are not returned (88).
    Offsets(Rc<[TopicPartition]>),
    /// OffsetCommit of these offsets, sorted by partition.
    Commit(Vec<Offset>),
    /// LeaveGroup. Does not wait for a JoinGroup or SyncGroup in flight: that one ends without an answer.
    Leave,
    /// LeaveGroup for another member after the end of its process. Static members are named by both ids, so that a process that has come back is not removed.
    Evict {
        /// The other member's id.
        member_id: Rc<str>,
        /// The other member's `group.instance.id`.
        instance: Rc<str>,
    },
    /// DeleteGroups: deletes the group and its committed offsets, unless the group has members (68).
    Delete,
}

/// The answer to a [`Request`]; each request has one, unless [`crate::client::Client::end_member`] came before.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The member's number.
    pub member: u32,
    /// The request's token.
    pub token: u64,
    /// The answer.
    pub says: Says,
}

/// An answer to a member, from a broker or from the client in its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Says {
    /// The coordinator is known; later requests go to it.
    Coordinator,
    /// The member has joined.
    Joined(Joined),
    /// The member's new id, with which it has to join (MEMBER_ID_REQUIRED, 79, KIP-394).
    MemberId(Rc<str>),
    /// Number of partitions of each requested topic, in that order, or an error code.
    Partitions(Vec<Result<u32, i16>>),
    /// The leader's assignment for the member; empty: none.
    Assignment(Rc<[u8]>),
    /// A heartbeat was taken.
    Alive,
    /// The committed offset of each requested partition, in that order, or an error code; `None`: nothing is committed.
    Offsets(Vec<Result<Option<Committed>, i16>>),
    /// Error code of each offset in the commit, in that order; 0: committed.
    Committed(Vec<i16>),
    /// The member has left, or the other member is removed.
    Left,
    /// The group is deleted.
    Deleted,
    /// The request as a whole was answered with this error code.
    Refused(i16),
    /// No answer: the coordinator is not known, or its connection was lost. Whether the broker carried out the request is unknown.
    NoAnswer,
    /// The broker does not support this call in any version that Forebay supports.
    NotSpoken(&'static str),
}

/// A JoinGroup answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Joined {
    /// The generation that begins.
    pub generation: i32,
    /// The assignor that the members agree on.
    pub protocol: Rc<str>,
    /// Member id of the leader, who assigns.
    pub leader: Rc<str>,
    /// The member's own id.
    pub member_id: Rc<str>,
    /// Whether the leader has nothing to assign: it rejoined as a static member, and the last assignment stays (KIP-814).
    pub skip_assignment: bool,
    /// Whether the broker supports static members (JoinGroup 5, Kafka 2.3).
    pub knows_static: bool,
    /// For the leader: all members.
    pub members: Vec<GroupMember>,
}

/// A member of the group, as reported to the leader.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupMember {
    /// Member id.
    pub id: Rc<str>,
    /// `group.instance.id` of a static member.
    pub instance: Option<Rc<str>>,
    /// The member's metadata, in the format of the protocol.
    pub metadata: Rc<[u8]>,
}
