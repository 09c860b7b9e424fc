//! Consumer groups as their coordinator keeps them (the classic protocol, with static members: KIP-345, KIP-394, KIP-814), without bytes and
//! brokers ([`super::coordinator`] has these). Requests that wait get their answers by ticket. A group can have a member of another program: it
//! joins whenever the others do, assigns where it leads, and reads nothing.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use super::foreign;

/// UNKNOWN_MEMBER_ID.
pub(super) const UNKNOWN_MEMBER: i16 = 25;
/// ILLEGAL_GENERATION.
const ILLEGAL_GENERATION: i16 = 22;
/// REBALANCE_IN_PROGRESS.
const REBALANCING: i16 = 27;
/// MEMBER_ID_REQUIRED.
pub(super) const MEMBER_ID_REQUIRED: i16 = 79;
/// FENCED_INSTANCE_ID.
const FENCED: i16 = 82;
/// NOT_COORDINATOR.
pub(super) const NOT_COORDINATOR: i16 = 16;

/// The number of a waiting request.
pub(crate) type Ticket = u64;

/// The state of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// The group has no members.
    Empty,
    /// The group waits for its members to join, until then.
    Preparing(u64),
    /// The group waits for its leader's assignment, until then.
    Completing(u64),
    /// All members have their assignments.
    Stable,
}

/// A request to join.
#[derive(Clone, Debug)]
pub(super) struct Join {
    /// The member id; empty for a new member.
    pub(super) member_id: String,
    /// `group.instance.id`.
    pub(super) instance: Option<String>,
    /// Session time-out and rebalance time-out, nanoseconds.
    pub(super) patience: [u64; 2],
    /// The member's subscription.
    pub(super) metadata: Bytes,
    /// Protocol type, and the protocol of the subscription: all members of a group have the same.
    pub(super) protocol: [String; 2],
    /// Whether a new member first gets its id, and joins again with it.
    pub(super) comes_again: bool,
    /// Whether the answer can say that the leader has nothing to assign (KIP-814).
    pub(super) can_skip: bool,
}

/// The answer to a member that joined.
#[derive(Clone, Debug)]
pub(super) struct Joined {
    pub(super) generation: i32,
    pub(super) leader: String,
    pub(super) member_id: String,
    pub(super) skips: bool,
    /// Protocol type, and protocol.
    pub(super) protocol: [String; 2],
    /// For the leader: id, instance and subscription of each member.
    pub(super) members: Vec<(String, Option<String>, Bytes)>,
}

/// The answer to a request that has waited.
#[derive(Clone, Debug)]
pub(super) enum Answer {
    /// The answer to JoinGroup; an error comes with the member's id.
    Join(Result<Joined, (i16, String)>),
    /// The answer to SyncGroup.
    Sync(Result<Bytes, i16>),
}

/// A member.
#[derive(Clone, Debug)]
struct Member {
    instance: Option<String>,
    patience: [u64; 2],
    metadata: Bytes,
    assignment: Bytes,
    /// Time at which the member is removed unless it is heard of before.
    until: u64,
    /// Order of joining: the first of the members leads.
    order: u64,
    joining: Option<Ticket>,
    syncing: Option<Ticket>,
    /// Whether the member is of another program, and always there.
    is_foreign: bool,
}

/// A group as its next coordinator loads it: as of the last time when all members had their assignments.
#[derive(Clone, Debug, Default)]
struct Written {
    generation: i32,
    leader: String,
    members: BTreeMap<String, Member>,
}

/// A group.
#[derive(Debug)]
pub(crate) struct Group {
    state: State,
    /// Number of the generation, raised by each rebalance.
    pub(crate) generation: i32,
    /// Time at which a member last joined.
    pub(crate) joined_at: u64,
    leader: String,
    members: BTreeMap<String, Member>,
    /// Member ids that were given to new members, which have yet to join with them.
    promised: BTreeSet<String>,
    written: Written,
    next: u64,
    /// Committed offset and leader epoch, by topic and partition.
    pub(crate) offsets: BTreeMap<(String, i32), (i64, i32)>,
    /// Number of partitions of each topic that members read.
    pub(super) topics: BTreeMap<String, i32>,
    answers: Vec<(Ticket, Answer)>,
    /// Protocol type, and protocol.
    protocol: [String; 2],
    /// Whether members of other programs want to be in the group.
    has_foreign: bool,
}

/// Protocol type and protocol of Kafka's consumers.
pub(super) fn consumers() -> [String; 2] {
    ["consumer", "range"].map(str::to_owned)
}

impl Default for Group {
    fn default() -> Self {
        Self {
            state: State::Empty,
            generation: 0,
            joined_at: 0,
            leader: String::new(),
            members: BTreeMap::new(),
            promised: BTreeSet::new(),
            written: Written::default(),
            next: 0,
            offsets: BTreeMap::new(),
            topics: BTreeMap::new(),
            answers: Vec::new(),
            protocol: consumers(),
            has_foreign: false,
        }
    }
}

impl Group {
    /// The state in words.
    pub(crate) fn describe(&self) -> String {
        let members = self.members.iter().map(|(id, member)| {
            let Member { joining, syncing, until, .. } = member;
            format!("{id} joining {joining:?} syncing {syncing:?} until {until}")
        });
        let members: Vec<String> = members.collect();
        format!(
            "{:?} generation {} leader {:?} {members:?} {:?}",
            self.state, self.generation, self.leader, self.offsets
        )
    }

    /// Takes the answers that are due.
    pub(super) fn answers(&mut self) -> Vec<(Ticket, Answer)> {
        std::mem::take(&mut self.answers)
    }

    /// Whether answers are due.
    pub(super) fn has_answers(&self) -> bool {
        !self.answers.is_empty()
    }

    /// The next time at which [`Group::run`] has something to do.
    pub(super) fn next_at(&self) -> Option<u64> {
        let rebalance = match self.state {
            State::Preparing(until) | State::Completing(until) => Some(until),
            State::Empty | State::Stable => None,
        };
        let sessions = self.members.values().filter(|member| !member.is_foreign && !self.is_awaited(member));
        sessions.map(|member| member.until).chain(rebalance).min()
    }

    /// Whether a request of the member waits here, which counts as a sign of life.
    fn is_awaited(&self, member: &Member) -> bool {
        member.joining.is_some() || member.syncing.is_some()
    }

    fn new_id(&mut self, name: &str) -> String {
        self.next += 1;
        format!("{name}-{}", self.next)
    }

    /// Handles JoinGroup.
    pub(super) fn join(&mut self, mut join: Join, ticket: Ticket, time: u64) {
        let of_instance = join.instance.as_ref().and_then(|instance| {
            self.members.iter().find(|(_, member)| member.instance.as_ref() == Some(instance)).map(|(id, _)| id.clone())
        });
        if join.member_id.is_empty() {
            match of_instance {
                Some(old) => {
                    self.joined_at = time;
                    return self.replace(&old, join, ticket, time);
                }
                None if join.comes_again && join.instance.is_none() => {
                    let id = self.new_id("member");
                    self.promised.insert(id.clone());
                    return self.answers.push((ticket, Answer::Join(Err((MEMBER_ID_REQUIRED, id)))));
                }
                None => join.member_id = self.new_id(join.instance.clone().as_deref().unwrap_or("member")),
            }
        } else if of_instance.is_some_and(|id| id != join.member_id) {
            return self.answers.push((ticket, Answer::Join(Err((FENCED, join.member_id)))));
        } else if !self.members.contains_key(&join.member_id) && !self.promised.remove(&join.member_id) {
            return self.answers.push((ticket, Answer::Join(Err((UNKNOWN_MEMBER, join.member_id)))));
        }
        self.joined_at = time;
        let id = join.member_id.clone();
        let is_same = self.members.get(&id).is_some_and(|member| member.metadata == join.metadata);
        let is_repeated = match self.state {
            State::Completing(_) => is_same,
            State::Stable => is_same && id != self.leader,
            State::Empty | State::Preparing(_) => false,
        };
        if is_repeated {
            self.hear_of(&id, time);
            let joined = self.joined_as(&id, false);
            return self.answers.push((ticket, Answer::Join(Ok(joined))));
        }
        self.enter(id, join, Some(ticket), time);
        self.rebalance(time);
        self.complete(time);
    }

    /// Replaces the id of a static member that has joined again.
    fn replace(&mut self, old: &str, join: Join, ticket: Ticket, time: u64) {
        let id = self.new_id(join.instance.as_deref().unwrap_or_default());
        let is_leader = self.leader == old;
        let Some(known) = self.members.remove(old) else { return };
        let fenced = Answer::Join(Err((FENCED, old.to_owned())));
        self.answers.extend(known.joining.map(|ticket| (ticket, fenced)));
        self.answers.extend(known.syncing.map(|ticket| (ticket, Answer::Sync(Err(FENCED)))));
        let is_same = known.metadata == join.metadata;
        self.members.insert(id.clone(), Member { joining: None, syncing: None, ..known });
        if is_leader {
            self.leader.clone_from(&id);
        }
        if self.state == State::Stable && is_same && (!is_leader || join.can_skip) {
            self.enter(id.clone(), join, None, time);
            self.write();
            let joined = self.joined_as(&id, is_leader);
            return self.answers.push((ticket, Answer::Join(Ok(joined))));
        }
        self.enter(id, join, Some(ticket), time);
        self.rebalance(time);
        self.complete(time);
    }

    fn enter(&mut self, id: String, join: Join, joining: Option<Ticket>, time: u64) {
        self.next += 1;
        self.protocol = join.protocol;
        let known = self.members.remove(&id);
        let older = known.as_ref().and_then(|member| member.joining);
        self.answers.extend(older.map(|ticket| (ticket, Answer::Join(Err((REBALANCING, id.clone()))))));
        let member = Member {
            instance: join.instance,
            until: time + join.patience[0],
            patience: join.patience,
            metadata: join.metadata,
            assignment: known.as_ref().map(|member| member.assignment.clone()).unwrap_or_default(),
            order: known.as_ref().map_or(self.next, |member| member.order),
            joining,
            syncing: known.and_then(|member| member.syncing),
            is_foreign: false,
        };
        self.members.insert(id, member);
    }

    /// Adds a member of another program.
    pub(crate) fn foreign_joins(&mut self, time: u64) {
        let id = self.new_id("foreign");
        let metadata = foreign::subscription(self.topics.keys());
        let join = Join {
            member_id: id.clone(),
            instance: None,
            patience: [0, 0],
            metadata,
            protocol: consumers(),
            comes_again: false,
            can_skip: false,
        };
        self.enter(id.clone(), join, None, time);
        if let Some(member) = self.members.get_mut(&id) {
            member.is_foreign = true;
        }
        self.has_foreign = true;
        self.rebalance(time);
        self.complete(time);
    }

    /// Removes all members of other programs. Returns whether there were any.
    pub(crate) fn foreign_leave(&mut self, time: u64) -> bool {
        let before = self.members.len();
        self.members.retain(|_, member| !member.is_foreign);
        self.has_foreign = false;
        let any = self.members.len() < before;
        if any {
            self.after_loss(time);
        }
        any
    }

    /// Handles SyncGroup.
    pub(super) fn sync(&mut self, by: &By, assignments: Vec<(String, Bytes)>, ticket: Ticket, time: u64) {
        if let Err(code) = self.check(by) {
            return self.answers.push((ticket, Answer::Sync(Err(code))));
        }
        self.hear_of(&by.member_id, time);
        match self.state {
            State::Empty | State::Preparing(_) => self.answers.push((ticket, Answer::Sync(Err(REBALANCING)))),
            State::Stable => {
                let assignment = self.members[&by.member_id].assignment.clone();
                self.answers.push((ticket, Answer::Sync(Ok(assignment))));
            }
            State::Completing(_) => {
                let older = self.members.get_mut(&by.member_id).and_then(|member| member.syncing.replace(ticket));
                self.answers.extend(older.map(|ticket| (ticket, Answer::Sync(Err(REBALANCING)))));
                if by.member_id == self.leader {
                    self.assign(assignments, time);
                }
            }
        }
    }

    fn assign(&mut self, assignments: Vec<(String, Bytes)>, time: u64) {
        self.state = State::Stable;
        let assignments: BTreeMap<String, Bytes> = assignments.into_iter().collect();
        for (id, member) in &mut self.members {
            member.assignment = assignments.get(id).cloned().unwrap_or_default();
            if let Some(ticket) = member.syncing.take() {
                member.until = time + member.patience[0];
                self.answers.push((ticket, Answer::Sync(Ok(member.assignment.clone()))));
            }
        }
        self.write();
    }

    /// Handles Heartbeat: 0, or an error code.
    pub(super) fn heartbeat(&mut self, by: &By, time: u64) -> i16 {
        if let Err(code) = self.check(by) {
            return code;
        }
        self.hear_of(&by.member_id, time);
        if matches!(self.state, State::Preparing(_)) { REBALANCING } else { 0 }
    }

    /// Handles LeaveGroup: 0, or an error code.
    pub(super) fn leave(&mut self, member_id: &str, time: u64) -> i16 {
        if self.promised.remove(member_id) {
            return 0;
        }
        if !self.members.contains_key(member_id) {
            return UNKNOWN_MEMBER;
        }
        self.remove(member_id);
        self.after_loss(time);
        0
    }

    /// Handles LeaveGroup for a static member: 0, or an error code. An instance id is enough; a member id with it must be the current one of the
    /// instance.
    pub(super) fn leave_instance(&mut self, member_id: &str, instance: &str, time: u64) -> i16 {
        let found = self.members.iter().find(|(_, member)| member.instance.as_deref() == Some(instance));
        let Some(id) = found.map(|(id, _)| id.clone()) else { return UNKNOWN_MEMBER };
        if !member_id.is_empty() && member_id != id {
            return FENCED;
        }
        self.leave(&id, time)
    }

    /// Whether a commit is accepted: 0, or an error code.
    pub(super) fn takes_commit(&mut self, by: &By, time: u64) -> i16 {
        if let Err(code) = self.check(by) {
            return code;
        }
        self.hear_of(&by.member_id, time);
        if matches!(self.state, State::Completing(_)) { REBALANCING } else { 0 }
    }

    fn check(&self, by: &By) -> Result<(), i16> {
        if let Some(instance) = &by.instance
            && self.members.iter().any(|(id, other)| other.instance.as_ref() == Some(instance) && *id != by.member_id)
        {
            return Err(FENCED);
        }
        if !self.members.contains_key(&by.member_id) {
            return Err(UNKNOWN_MEMBER);
        }
        if by.generation == self.generation { Ok(()) } else { Err(ILLEGAL_GENERATION) }
    }

    fn hear_of(&mut self, id: &str, time: u64) {
        if let Some(member) = self.members.get_mut(id) {
            member.until = time + member.patience[0];
        }
    }

    /// Lets time pass: silent members are removed, and a rebalance ends without the members that have not joined.
    pub(super) fn run(&mut self, time: u64) {
        let state = self.state;
        let is_gone = |member: &Member| match state {
            _ if member.is_foreign => false,
            State::Preparing(_) if member.joining.is_some() => false,
            State::Completing(_) if member.syncing.is_some() => false,
            // Static members stay as long as their session.
            State::Preparing(until) | State::Completing(until) if time >= until && member.instance.is_none() => true,
            _ => time >= member.until,
        };
        let gone: Vec<String> =
            self.members.iter().filter(|(_, member)| is_gone(member)).map(|(id, _)| id.clone()).collect();
        gone.iter().for_each(|id| self.remove(id));
        if !gone.is_empty() {
            self.after_loss(time);
        }
        match self.state {
            State::Preparing(until) if time >= until => self.complete_with_those_here(time),
            // The leader, a static member, has not assigned in time: all join again.
            State::Completing(until) if time >= until => {
                self.state = State::Stable;
                self.rebalance(time);
            }
            _ => {}
        }
    }

    fn remove(&mut self, id: &str) {
        let Some(member) = self.members.remove(id) else { return };
        let unknown = Answer::Join(Err((UNKNOWN_MEMBER, id.to_owned())));
        self.answers.extend(member.joining.map(|ticket| (ticket, unknown)));
        self.answers.extend(member.syncing.map(|ticket| (ticket, Answer::Sync(Err(UNKNOWN_MEMBER)))));
    }

    fn after_loss(&mut self, time: u64) {
        self.rebalance(time);
        self.complete(time);
    }

    fn rebalance(&mut self, time: u64) {
        if matches!(self.state, State::Preparing(_)) {
            return;
        }
        let patience = self.members.values().map(|member| member.patience[1]).max().unwrap_or(0);
        self.state = State::Preparing(time + patience);
        for ticket in self.members.values_mut().filter_map(|member| member.syncing.take()) {
            self.answers.push((ticket, Answer::Sync(Err(REBALANCING))));
        }
    }

    /// Ends the rebalance if all members have joined.
    fn complete(&mut self, time: u64) {
        let has_joined = |member: &Member| member.joining.is_some() || member.is_foreign;
        if matches!(self.state, State::Preparing(_)) && self.members.values().all(has_joined) {
            self.complete_with_those_here(time);
        }
    }

    fn complete_with_those_here(&mut self, time: u64) {
        let has_joined = |member: &Member| member.joining.is_some() || member.is_foreign;
        if !self.members.is_empty() && !self.members.values().any(has_joined) {
            // All members are static, and none has joined.
            let patience = self.members.values().map(|member| member.patience[1]).max().unwrap_or(0);
            self.state = State::Preparing(time + patience);
            return;
        }
        self.generation += 1;
        if self.members.is_empty() {
            (self.state, self.leader) = (State::Empty, String::new());
            return self.write();
        }
        if !self.members.get(&self.leader).is_some_and(has_joined) {
            let joined = self.members.iter().filter(|(_, member)| has_joined(member));
            self.leader = joined.min_by_key(|(_, member)| member.order).map(|(id, _)| id.clone()).unwrap_or_default();
        }
        let patience = self.members.values().map(|member| member.patience[1]).max().unwrap_or(0);
        self.state = State::Completing(time + patience);
        let joined: Vec<(String, Ticket)> =
            self.members.iter_mut().filter_map(|(id, member)| Some((id.clone(), member.joining.take()?))).collect();
        for (id, ticket) in joined {
            self.hear_of(&id, time);
            let joined = self.joined_as(&id, false);
            self.answers.push((ticket, Answer::Join(Ok(joined))));
        }
        if self.members[&self.leader].is_foreign {
            let members: Vec<(String, Option<String>)> =
                self.members.iter().map(|(id, member)| (id.clone(), member.instance.clone())).collect();
            let assignments = foreign::range(&members, &self.topics);
            self.assign(assignments, time);
        }
    }

    fn joined_as(&self, id: &str, skips: bool) -> Joined {
        let all = || {
            let of = |(id, member): (&String, &Member)| (id.clone(), member.instance.clone(), member.metadata.clone());
            self.members.iter().map(of).collect()
        };
        Joined {
            generation: self.generation,
            leader: self.leader.clone(),
            member_id: id.to_owned(),
            skips,
            protocol: self.protocol.clone(),
            members: if id == self.leader { all() } else { Vec::new() },
        }
    }

    fn write(&mut self) {
        let Self { generation, leader, members, .. } = self;
        self.written = Written { generation: *generation, leader: leader.clone(), members: members.clone() };
    }

    /// Moves the group to another coordinator, or to the same one after a restart: requests that wait are answered, and all unwritten state
    /// is lost.
    pub(super) fn taken_over(&mut self, time: u64) {
        for (id, member) in &self.members {
            let moved = Answer::Join(Err((NOT_COORDINATOR, id.clone())));
            self.answers.extend(member.joining.map(|ticket| (ticket, moved)));
            self.answers.extend(member.syncing.map(|ticket| (ticket, Answer::Sync(Err(NOT_COORDINATOR)))));
        }
        let Written { generation, leader, members } = self.written.clone();
        (self.generation, self.leader, self.members) = (generation, leader, members);
        self.promised.clear();
        for member in self.members.values_mut() {
            (member.joining, member.syncing, member.until) = (None, None, time + member.patience[0]);
        }
        self.state = if self.members.is_empty() { State::Empty } else { State::Stable };
        let before = self.members.len();
        // A member of another program that has left meanwhile leaves again.
        self.members.retain(|_, member| !member.is_foreign || self.has_foreign);
        self.has_foreign = self.members.values().any(|member| member.is_foreign);
        if self.members.len() < before {
            self.after_loss(time);
        }
    }
}

/// The sender of a request.
#[derive(Clone, Debug)]
pub(super) struct By {
    pub(super) member_id: String,
    pub(super) instance: Option<String>,
    pub(super) generation: i32,
}
