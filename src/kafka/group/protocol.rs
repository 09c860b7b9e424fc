//! What the members of a group say to each other inside JoinGroup and SyncGroup. A group of consumers shares the partitions of topics; other groups share
//! something else.

use std::collections::BTreeSet;
use std::fmt;
use std::rc::Rc;
use std::time::Duration;

use crate::kafka::coordination::{Given, GroupMember, Names};
use crate::runtime::seam::Monotonic;

/// Topics with the indexes of their partitions.
pub type Assignment = Vec<(Rc<str>, Vec<i32>)>;

/// A hash of the numbers of partitions of a member's topics; `None`: not known. It is the user data of subscriptions, which other clients
/// leave empty with the assignor `range`, and ignore.
pub type Fingerprint = Option<u64>;

/// What the leader of a group knows when it assigns.
#[derive(Clone, Copy, Debug)]
pub struct Lead<'a> {
    /// All members.
    pub members: &'a [GroupMember],
    /// Generation that begins.
    pub generation: i32,
    /// How long JoinGroup waited at the coordinator.
    pub waited: Duration,
    /// The time.
    pub now: Monotonic,
}

/// The language of a group: what each member says of itself, how the leader assigns, and what an assignment means.
pub trait Protocol: fmt::Debug {
    /// Its names.
    const NAMES: Names;

    /// Whether members keep what they have while the group rebalances. Otherwise all of it is revoked first.
    const KEEPS: bool;

    /// What the member says of itself. `topics`: those that it wants partitions of; `fingerprint`: what it has counted of them.
    fn metadata(&self, topics: &[Rc<str>], fingerprint: Fingerprint) -> Rc<[u8]>;

    /// Topics of which the leader has to count the partitions before it assigns.
    fn topics(&self, members: &[GroupMember]) -> BTreeSet<Rc<str>>;

    /// Assigns: what each member gets, by its id. `count`: partitions of a topic, if it is there.
    fn assign(&mut self, lead: &Lead<'_>, count: &dyn Fn(&str) -> Option<u32>) -> Vec<Given>;

    /// Takes the own assignment, empty if the leader gave nothing. Returns the partitions in it. `None`: it cannot be read.
    fn assigned(&mut self, assignment: &[u8]) -> Option<Assignment>;
}
