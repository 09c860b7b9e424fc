//! One consumer group: its members, its generation, and the requests that wait (Kafka's classic group protocol).
//!
//! The group has no I/O and no clock: calls carry the time in milliseconds, and answers to requests that have to wait
//! are taken from [`Group::answers`] by the ticket that the request was given. Static membership is not supported.

use std::collections::{BTreeMap, HashSet};

use bytes::Bytes;

use crate::code;

/// Identifies a request that waits for its answer.
pub(crate) type Ticket = u64;

/// The state of a group; the names are those of DescribeGroups.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// The group has no members.
    Empty,
    /// The group waits for its members to join again.
    PreparingRebalance,
    /// The group waits for the leader's assignment.
    CompletingRebalance,
    /// All members have an assignment.
    Stable,
}

impl State {
    /// The state's name in Kafka.
    pub(crate) fn name(self) -> &'static str {
        match self {
            State::Empty => "Empty",
            State::PreparingRebalance => "PreparingRebalance",
            State::CompletingRebalance => "CompletingRebalance",
            State::Stable => "Stable",
        }
    }
}

/// A JoinGroup request.
#[derive(Clone, Debug, Default)]
pub(crate) struct Join {
    /// The member id; empty: a new member.
    pub(crate) member_id: String,
    /// The id for a new member.
    pub(crate) fresh_id: String,
    /// Whether a new member learns its id first and joins again (KIP-394).
    pub(crate) comes_again: bool,
    /// The client id, for DescribeGroups.
    pub(crate) client_id: String,
    /// The client's host, for DescribeGroups.
    pub(crate) client_host: String,
    /// Session timeout: a member that is silent for this long is removed.
    pub(crate) session_ms: i64,
    /// The longest time that a rebalance waits for the member.
    pub(crate) rebalance_ms: i64,
    /// The protocol type; `consumer` for consumers.
    pub(crate) protocol_type: String,
    /// Assignors, in order of preference, each with the member's own data.
    pub(crate) protocols: Vec<(String, Bytes)>,
}

/// The answer to a member that joined.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Joined {
    /// The generation that begins.
    pub(crate) generation: i32,
    /// The chosen assignor.
    pub(crate) protocol: String,
    /// The leader, which assigns.
    pub(crate) leader: String,
    /// The member's own id.
    pub(crate) member_id: String,
    /// All members with their data, for the leader; otherwise empty.
    pub(crate) members: Vec<(String, Bytes)>,
}

/// An answer to a request that waited; errors are Kafka's codes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// The answer to JoinGroup; an error comes with the member's id.
    Join(Result<Joined, (i16, String)>),
    /// The answer to SyncGroup: the member's assignment.
    Sync(Result<Bytes, i16>),
}

/// A member.
#[derive(Debug)]
pub(crate) struct Member {
    /// The client id, for DescribeGroups.
    pub(crate) client_id: String,
    /// The client's host, for DescribeGroups.
    pub(crate) client_host: String,
    session_ms: i64,
    rebalance_ms: i64,
    protocols: Vec<(String, Bytes)>,
    /// The member's assignment by the leader.
    pub(crate) assignment: Bytes,
    /// The time at which the member is removed unless it sends a request before.
    deadline_ms: i64,
    /// Order of joining: if the leader leaves, the member that has been in the group longest leads it.
    order: u64,
    joining: Option<Ticket>,
    syncing: Option<Ticket>,
}

impl Member {
    fn data(&self, protocol: &str) -> Bytes {
        self.protocols.iter().find(|(name, _)| name == protocol).map(|(_, data)| data.clone()).unwrap_or_default()
    }
}

/// A group.
#[derive(Debug)]
pub(crate) struct Group {
    state: State,
    generation: i32,
    protocol_type: String,
    protocol: String,
    leader: String,
    members: BTreeMap<String, Member>,
    /// Ids that were assigned and did not join yet, each with its expiry.
    promised: BTreeMap<String, i64>,
    /// When a rebalance stops waiting for missing members.
    deadline_ms: i64,
    joined: u64,
    members_max: usize,
    answers: Vec<(Ticket, Answer)>,
}

impl Group {
    /// A group without members.
    pub(crate) fn new(members_max: usize) -> Group {
        Group {
            state: State::Empty,
            generation: 0,
            protocol_type: String::new(),
            protocol: String::new(),
            leader: String::new(),
            members: BTreeMap::new(),
            promised: BTreeMap::new(),
            deadline_ms: 0,
            joined: 0,
            members_max,
            answers: Vec::new(),
        }
    }

    /// Handles JoinGroup. Answered at once or when all members have joined.
    pub(crate) fn join(&mut self, join: Join, ticket: Ticket, now_ms: i64) {
        if let Err(code) = self.try_join(&join, ticket, now_ms) {
            let id = if code == code::MEMBER_ID_REQUIRED { join.fresh_id } else { join.member_id };
            self.answers.push((ticket, Answer::Join(Err((code, id)))));
        }
    }

    fn try_join(&mut self, join: &Join, ticket: Ticket, now_ms: i64) -> Result<(), i16> {
        if join.protocol_type.is_empty() || join.protocols.is_empty() || !self.agrees(join) {
            return Err(code::INCONSISTENT_GROUP_PROTOCOL);
        }
        let id = if join.member_id.is_empty() { &join.fresh_id } else { &join.member_id };
        let is_known = self.members.contains_key(id);
        let was_promised = self.promised.remove(id).is_some();
        if !is_known && !was_promised && !join.member_id.is_empty() {
            return Err(code::UNKNOWN_MEMBER_ID);
        }
        if !is_known && self.members.len() + self.promised.len() >= self.members_max {
            return Err(code::GROUP_MAX_SIZE_REACHED);
        }
        if !is_known && !was_promised && join.comes_again {
            self.promised.insert(id.clone(), now_ms + join.session_ms);
            return Err(code::MEMBER_ID_REQUIRED);
        }
        if is_known && self.is_repeated(id, join) {
            let joined = self.joined_as(id);
            self.touch(id, now_ms);
            self.answers.push((ticket, Answer::Join(Ok(joined))));
            return Ok(());
        }
        self.enter(id.clone(), join, ticket, now_ms);
        if self.state != State::PreparingRebalance {
            self.rebalance(now_ms);
        }
        self.complete_if_all_joined(now_ms);
        Ok(())
    }

    /// Whether another member's assignors are compatible with this one's.
    fn agrees(&self, join: &Join) -> bool {
        let mut others = self.members.iter().filter(|(id, _)| **id != join.member_id).peekable();
        if others.peek().is_none() {
            return true;
        }
        let others: Vec<_> = others.map(|(_, member)| member).collect();
        self.protocol_type == join.protocol_type
            && join
                .protocols
                .iter()
                .any(|(name, _)| others.iter().all(|member| member.protocols.iter().any(|(other, _)| other == name)))
    }

    /// Whether a known member repeats a request with an answer: the answer was lost, or the member wants nothing new.
    fn is_repeated(&self, id: &str, join: &Join) -> bool {
        let same = self.members.get(id).is_some_and(|member| member.protocols == join.protocols);
        match self.state {
            State::CompletingRebalance => same,
            // A leader that joins again has seen a change (new partitions) and wants to reassign.
            State::Stable => same && id != self.leader,
            State::Empty | State::PreparingRebalance => false,
        }
    }

    fn enter(&mut self, id: String, join: &Join, ticket: Ticket, now_ms: i64) {
        self.joined += 1;
        let known = self.members.remove(&id);
        // After a connection was replaced, the older request gets an answer too, so that it does not wait forever.
        if let Some(older) = known.as_ref().and_then(|member| member.joining) {
            self.answers.push((older, Answer::Join(Err((code::REBALANCE_IN_PROGRESS, id.clone())))));
        }
        let member = Member {
            client_id: join.client_id.clone(),
            client_host: join.client_host.clone(),
            session_ms: join.session_ms,
            rebalance_ms: join.rebalance_ms,
            protocols: join.protocols.clone(),
            assignment: known.as_ref().map(|member| member.assignment.clone()).unwrap_or_default(),
            deadline_ms: now_ms + join.session_ms,
            order: known.as_ref().map_or(self.joined, |member| member.order),
            joining: Some(ticket),
            syncing: known.and_then(|member| member.syncing),
        };
        self.protocol_type.clone_from(&join.protocol_type);
        self.members.insert(id, member);
    }

    /// Handles SyncGroup. Answered at once or when the leader has assigned.
    pub(crate) fn sync(
        &mut self,
        id: &str,
        generation: i32,
        assignments: Vec<(String, Bytes)>,
        ticket: Ticket,
        now_ms: i64,
    ) {
        if let Err(code) = self.check(id, generation) {
            return self.answers.push((ticket, Answer::Sync(Err(code))));
        }
        self.touch(id, now_ms);
        match self.state {
            State::Stable => self.answer_sync(id, ticket),
            State::CompletingRebalance => {
                let member = self.members.get_mut(id);
                if let Some(older) = member.and_then(|member| member.syncing.replace(ticket)) {
                    self.answers.push((older, Answer::Sync(Err(code::REBALANCE_IN_PROGRESS))));
                }
                if id == self.leader {
                    self.assign(assignments, now_ms);
                }
            }
            State::Empty | State::PreparingRebalance => {
                self.answers.push((ticket, Answer::Sync(Err(code::REBALANCE_IN_PROGRESS))));
            }
        }
    }

    fn assign(&mut self, assignments: Vec<(String, Bytes)>, now_ms: i64) {
        self.state = State::Stable;
        self.members.values_mut().for_each(|member| member.assignment = Bytes::new());
        for (id, assignment) in assignments {
            if let Some(member) = self.members.get_mut(&id) {
                member.assignment = assignment;
            }
        }
        let waiting: Vec<_> =
            self.members.iter_mut().filter_map(|(id, member)| Some((id.clone(), member.syncing.take()?))).collect();
        for (id, ticket) in waiting {
            self.touch(&id, now_ms);
            self.answer_sync(&id, ticket);
        }
    }

    fn answer_sync(&mut self, id: &str, ticket: Ticket) {
        let assignment = self.members.get(id).map(|member| member.assignment.clone()).unwrap_or_default();
        self.answers.push((ticket, Answer::Sync(Ok(assignment))));
    }

    /// Handles Heartbeat: returns 0, or the code of the action that the member has to take.
    pub(crate) fn heartbeat(&mut self, id: &str, generation: i32, now_ms: i64) -> i16 {
        if let Err(code) = self.check(id, generation) {
            return code;
        }
        self.touch(id, now_ms);
        if self.state == State::PreparingRebalance { code::REBALANCE_IN_PROGRESS } else { 0 }
    }

    /// Handles LeaveGroup.
    pub(crate) fn leave(&mut self, id: &str, now_ms: i64) -> i16 {
        if self.promised.remove(id).is_some() {
            return 0;
        }
        if !self.members.contains_key(id) {
            return code::UNKNOWN_MEMBER_ID;
        }
        self.drop_member(id);
        self.after_loss(now_ms);
        0
    }

    /// Whether a commit of offsets is allowed. Generation below 0: from outside, which an empty group allows.
    pub(crate) fn check_commit(&mut self, id: &str, generation: i32, now_ms: i64) -> Result<(), i16> {
        if generation < 0 && id.is_empty() {
            return if self.members.is_empty() { Ok(()) } else { Err(code::UNKNOWN_MEMBER_ID) };
        }
        self.check(id, generation)?;
        self.touch(id, now_ms);
        // The generation has begun, but the assignment is not known yet.
        if self.state == State::CompletingRebalance { Err(code::REBALANCE_IN_PROGRESS) } else { Ok(()) }
    }

    fn check(&self, id: &str, generation: i32) -> Result<(), i16> {
        if !self.members.contains_key(id) {
            return Err(code::UNKNOWN_MEMBER_ID);
        }
        if generation == self.generation { Ok(()) } else { Err(code::ILLEGAL_GENERATION) }
    }

    fn touch(&mut self, id: &str, now_ms: i64) {
        if let Some(member) = self.members.get_mut(id) {
            member.deadline_ms = now_ms + member.session_ms;
        }
    }

    /// Handles the passing of time: silent members are removed, a rebalance ends without missing members.
    pub(crate) fn tick(&mut self, now_ms: i64) {
        self.promised.retain(|_, void_at| *void_at > now_ms);
        let is_over = now_ms >= self.deadline_ms;
        let state = self.state;
        let is_gone = |member: &Member| match state {
            State::PreparingRebalance if member.joining.is_some() => false,
            State::CompletingRebalance if member.syncing.is_some() => false,
            State::PreparingRebalance | State::CompletingRebalance if is_over => true,
            _ => now_ms >= member.deadline_ms,
        };
        let gone: Vec<_> =
            self.members.iter().filter(|(_, member)| is_gone(member)).map(|(id, _)| id.clone()).collect();
        gone.iter().for_each(|id| self.drop_member(id));
        if !gone.is_empty() {
            self.after_loss(now_ms);
        }
    }

    fn drop_member(&mut self, id: &str) {
        let Some(member) = self.members.remove(id) else { return };
        if let Some(ticket) = member.joining {
            self.answers.push((ticket, Answer::Join(Err((code::UNKNOWN_MEMBER_ID, id.to_owned())))));
        }
        if let Some(ticket) = member.syncing {
            self.answers.push((ticket, Answer::Sync(Err(code::UNKNOWN_MEMBER_ID))));
        }
    }

    fn after_loss(&mut self, now_ms: i64) {
        if matches!(self.state, State::Stable | State::CompletingRebalance) {
            self.rebalance(now_ms);
        }
        self.complete_if_all_joined(now_ms);
    }

    /// Makes all members join again.
    fn rebalance(&mut self, now_ms: i64) {
        self.state = State::PreparingRebalance;
        for ticket in self.members.values_mut().filter_map(|member| member.syncing.take()) {
            self.answers.push((ticket, Answer::Sync(Err(code::REBALANCE_IN_PROGRESS))));
        }
        self.deadline_ms = now_ms + self.patience_ms();
    }

    fn patience_ms(&self) -> i64 {
        self.members.values().map(|member| member.rebalance_ms).max().unwrap_or(0)
    }

    fn complete_if_all_joined(&mut self, now_ms: i64) {
        if self.state != State::PreparingRebalance || self.members.values().any(|member| member.joining.is_none()) {
            return;
        }
        self.generation = self.generation.checked_add(1).unwrap_or(1);
        if self.members.is_empty() {
            self.state = State::Empty;
            (self.protocol, self.leader) = Default::default();
            return;
        }
        self.protocol = self.vote();
        if !self.members.contains_key(&self.leader) {
            let oldest = self.members.iter().min_by_key(|(_, member)| member.order);
            self.leader = oldest.map(|(id, _)| id.clone()).unwrap_or_default();
        }
        self.state = State::CompletingRebalance;
        self.deadline_ms = now_ms + self.patience_ms();
        let waiting: Vec<_> =
            self.members.iter_mut().filter_map(|(id, member)| Some((id.clone(), member.joining.take()?))).collect();
        for (id, ticket) in waiting {
            self.touch(&id, now_ms);
            let joined = self.joined_as(&id);
            self.answers.push((ticket, Answer::Join(Ok(joined))));
        }
    }

    /// Each member votes for its first assignor that all support; the most votes win.
    fn vote(&self) -> String {
        let mut names = self
            .members
            .values()
            .map(|member| -> HashSet<&str> { member.protocols.iter().map(|(name, _)| name.as_str()).collect() });
        let first = names.next().unwrap_or_default();
        let common = names.fold(first, |common, names| common.intersection(&names).copied().collect());
        let mut votes: BTreeMap<&str, usize> = BTreeMap::new();
        for member in self.members.values() {
            if let Some((name, _)) = member.protocols.iter().find(|(name, _)| common.contains(name.as_str())) {
                *votes.entry(name).or_default() += 1;
            }
        }
        votes.iter().max_by_key(|(_, count)| **count).map(|(name, _)| (*name).to_owned()).unwrap_or_default()
    }

    fn joined_as(&self, id: &str) -> Joined {
        let all = || self.members.iter().map(|(id, member)| (id.clone(), member.data(&self.protocol))).collect();
        Joined {
            generation: self.generation,
            protocol: self.protocol.clone(),
            leader: self.leader.clone(),
            member_id: id.to_owned(),
            members: if id == self.leader { all() } else { Vec::new() },
        }
    }

    /// Takes the answers that are due.
    pub(crate) fn answers(&mut self) -> Vec<(Ticket, Answer)> {
        std::mem::take(&mut self.answers)
    }

    /// The group's state.
    pub(crate) fn state(&self) -> State {
        self.state
    }

    /// The protocol type; `consumer` for consumers, empty if no member ever joined.
    pub(crate) fn protocol_type(&self) -> &str {
        &self.protocol_type
    }

    /// The chosen assignor.
    pub(crate) fn protocol(&self) -> &str {
        &self.protocol
    }

    /// Members with their data for the protocol.
    pub(crate) fn members(&self) -> impl Iterator<Item = (&str, &Member, Bytes)> {
        self.members.iter().map(|(id, member)| (id.as_str(), member, member.data(&self.protocol)))
    }

    /// Whether the group has no members, present or about to join.
    pub(crate) fn is_idle(&self) -> bool {
        self.members.is_empty() && self.promised.is_empty()
    }
}
