//! The data that the members of a group exchange in JoinGroup and SyncGroup. A group of consumers shares the partitions of topics; other
//! groups share something else.

use std::collections::BTreeSet;
use std::fmt;
use std::rc::Rc;
use std::time::Duration;

use crate::coordination::{Given, GroupMember, Names};
use forebay_runtime::seam::Monotonic;

/// Topics with the indexes of their partitions.
pub type Assignment = Vec<(Rc<str>, Vec<i32>)>;

/// A hash of the numbers of partitions of a member's topics; `None`: not known. Subscriptions carry it as user data, which other clients
/// with the assignor `range` leave empty and ignore.
pub type Fingerprint = Option<u64>;

/// The data that the leader of a group assigns by.
#[derive(Clone, Copy, Debug)]
pub struct Lead<'a> {
    /// All members.
    pub members: &'a [GroupMember],
    /// The generation that begins.
    pub generation: i32,
    /// How long JoinGroup waited at the coordinator.
    pub waited: Duration,
    /// The current time.
    pub now: Monotonic,
}

/// The protocol of a group: each member's metadata, the leader's assignment, and an assignment's meaning.
pub trait Protocol: fmt::Debug {
    /// The protocol's names.
    const NAMES: Names;

    /// Whether members keep their assignment while the group rebalances. Otherwise all of it is revoked first.
    const KEEPS: bool;

    /// The member's metadata. `topics`: the topics that it wants partitions of; `fingerprint`: that of its counts of them.
    fn metadata(&self, topics: &[Rc<str>], fingerprint: Fingerprint) -> Rc<[u8]>;

    /// Topics of which the leader has to count the partitions before it assigns.
    fn topics(&self, members: &[GroupMember]) -> BTreeSet<Rc<str>>;

    /// Assigns: returns each member's assignment, by its id. `count` returns a topic's number of partitions, if it exists.
    fn assign(&mut self, lead: &Lead<'_>, count: &dyn Fn(&str) -> Option<u32>) -> Vec<Given>;

    /// Takes the member's own assignment, empty if the leader assigned nothing. Returns the partitions in it. `None`: it cannot be read.
    fn assigned(&mut self, assignment: &[u8]) -> Option<Assignment>;
}
