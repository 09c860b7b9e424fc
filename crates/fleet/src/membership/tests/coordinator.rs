//! A model of Kafka's coordinator for one classic group of static members: immediate and late answers, removal of members, and the state
//! that another broker finds when it takes over the group.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use forebay_kafka::coordination::{Ask, GroupMember, Joined, Request, Says};
use forebay_runtime::seam::Monotonic;

/// `group.initial.rebalance.delay.ms`.
const INITIAL_DELAY: Duration = Duration::from_millis(300);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Empty,
    Preparing { until: Monotonic, is_initial: bool },
    Completing,
    Stable,
}

#[derive(Clone, Debug)]
struct Member {
    id: Rc<str>,
    metadata: Rc<[u8]>,
    assignment: Rc<[u8]>,
    session: Duration,
    rebalance: Duration,
    expires: Monotonic,
    /// The waiting JoinGroup and SyncGroup requests.
    join: Option<Ticket>,
    sync: Option<Ticket>,
}

impl Member {
    /// Members that wait for an answer are alive.
    const fn waits(&self) -> bool {
        self.join.is_some() || self.sync.is_some()
    }
}

/// The owner of an answer: the process, and the token of its request.
pub(super) type Ticket = (usize, u64);

#[derive(Clone, Debug)]
struct Group {
    state: State,
    generation: i32,
    leader: Rc<str>,
    members: BTreeMap<Rc<str>, Member>,
}

pub(super) struct Coordinator {
    group: Group,
    /// The state that the next broker would find.
    written: Group,
    ids: u64,
    /// While the group moves, no broker coordinates it, until this time.
    pub(super) away_until: Monotonic,
    pub(super) answers: Vec<(Ticket, Says)>,
}

impl Coordinator {
    pub(super) fn new() -> Self {
        let group = Group { state: State::Empty, generation: 0, leader: Rc::from(""), members: BTreeMap::new() };
        Self { written: group.clone(), group, ids: 0, away_until: Monotonic(0), answers: Vec::new() }
    }

    pub(super) const fn generation(&self) -> i32 {
        self.group.generation
    }

    /// Moves the group to another broker.
    pub(super) fn moves(&mut self, now: Monotonic, away: Duration) {
        for member in self.group.members.values_mut() {
            let waiting = member.join.take().into_iter().chain(member.sync.take());
            self.answers.extend(waiting.map(|ticket| (ticket, Says::NoAnswer)));
        }
        self.group = self.written.clone();
        self.away_until = now.after(away);
        for member in self.group.members.values_mut() {
            (member.join, member.sync) = (None, None);
            member.expires = self.away_until.after(member.session);
        }
    }

    pub(super) fn next_deadline(&self) -> Monotonic {
        let expires = self.group.members.values().filter(|member| !member.waits()).map(|member| member.expires);
        let expires = expires.min().unwrap_or(Monotonic::NEVER);
        match self.group.state {
            State::Preparing { until, .. } => expires.min(until),
            _ => expires,
        }
    }

    pub(super) fn on_time(&mut self, now: Monotonic) {
        let gone = |member: &Member| !member.waits() && member.expires <= now;
        let names: Vec<Rc<str>> =
            self.group.members.iter().filter(|(_, member)| gone(member)).map(|(name, _)| Rc::clone(name)).collect();
        names.iter().for_each(|name| self.remove(name, now));
        self.complete(now);
    }

    fn remove(&mut self, name: &str, now: Monotonic) {
        let Some(member) = self.group.members.remove(name) else { return };
        let waiting = member.join.into_iter().chain(member.sync);
        self.answers.extend(waiting.map(|ticket| (ticket, Says::Refused(25))));
        match self.group.state {
            State::Stable | State::Completing => self.prepare(now),
            _ => {}
        }
        if self.group.members.is_empty() {
            self.group.state = State::Empty;
            self.written = self.group.clone();
        }
    }

    fn prepare(&mut self, now: Monotonic) {
        for member in self.group.members.values_mut() {
            if let Some(ticket) = member.sync.take() {
                member.expires = now.after(member.session);
                self.answers.push((ticket, Says::Refused(27)));
            }
            member.assignment = Rc::from([]);
        }
        let is_initial = self.group.state == State::Empty;
        let wait = self.group.members.values().map(|member| member.rebalance).max().unwrap_or_default();
        let wait = if is_initial { INITIAL_DELAY } else { wait };
        self.group.state = State::Preparing { until: now.after(wait), is_initial };
        self.complete(now);
    }

    /// Ends the rebalance if it waits for no more members. Missing static members stay.
    fn complete(&mut self, now: Monotonic) {
        let State::Preparing { until, is_initial } = self.group.state else { return };
        let members = &mut self.group.members;
        let have_all = members.values().all(|member| member.join.is_some());
        if until > now && (is_initial || !have_all) {
            return;
        }
        let Some(first) = members.values().find(|member| member.join.is_some()).map(|member| Rc::clone(&member.id))
        else {
            if let State::Preparing { until, .. } = &mut self.group.state {
                *until = now.after(Duration::from_secs(1));
            }
            return;
        };
        if !members.values().any(|member| member.id == self.group.leader && member.join.is_some()) {
            self.group.leader = first;
        }
        self.group.generation += 1;
        self.group.state = State::Completing;
        let all: Vec<GroupMember> = members
            .iter()
            .map(|(name, member)| GroupMember {
                id: Rc::clone(&member.id),
                instance: Some(Rc::clone(name)),
                metadata: Rc::clone(&member.metadata),
            })
            .collect();
        for member in members.values_mut() {
            if let Some(ticket) = member.join.take() {
                member.expires = now.after(member.session);
                let is_leader = member.id == self.group.leader;
                let joined = Joined {
                    generation: self.group.generation,
                    protocol: Rc::from("slots"),
                    leader: Rc::clone(&self.group.leader),
                    member_id: Rc::clone(&member.id),
                    skip_assignment: false,
                    knows_static: true,
                    members: if is_leader { all.clone() } else { Vec::new() },
                };
                self.answers.push((ticket, Says::Joined(joined)));
            }
        }
    }

    /// Handles a request; its answer may be given later.
    pub(super) fn asked(&mut self, by: usize, request: &Request, now: Monotonic) {
        let ticket = (by, request.token);
        let says = if now < self.away_until {
            Some(Says::Refused(if matches!(request.ask, Ask::Coordinator) { 15 } else { 16 }))
        } else {
            self.says(ticket, request, now)
        };
        self.answers.extend(says.map(|says| (ticket, says)));
    }

    fn says(&mut self, ticket: Ticket, request: &Request, now: Monotonic) -> Option<Says> {
        let by = &request.identity;
        let name = by.instance.clone().expect("a static member");
        let known = self.group.members.get(&name).map(|member| Rc::clone(&member.id));
        let refused = match &known {
            None => Some(Says::Refused(25)),
            Some(id) if *id != by.member_id => Some(Says::Refused(82)),
            Some(_) => None,
        };
        match &request.ask {
            Ask::Coordinator => Some(Says::Coordinator),
            Ask::Join { session_timeout, rebalance_timeout, metadata, .. } => {
                if by.member_id.is_empty() {
                    return self.joins_anew(ticket, &name, metadata, [*session_timeout, *rebalance_timeout], now);
                }
                refused.or_else(|| self.joins_again(ticket, &name, metadata, now))
            }
            Ask::Sync { assignments, .. } => refused.or_else(|| self.syncs(ticket, request, &name, assignments, now)),
            Ask::Heartbeat => refused.or_else(|| {
                let (generation, state) = (self.group.generation, self.group.state);
                let member = self.group.members.get_mut(&name)?;
                if by.generation != generation {
                    return Some(Says::Refused(22));
                }
                member.expires = now.after(member.session);
                Some(if matches!(state, State::Preparing { .. }) { Says::Refused(27) } else { Says::Alive })
            }),
            Ask::Leave => refused.or_else(|| {
                self.remove(&name, now);
                Some(Says::Left)
            }),
            Ask::Evict { member_id, instance } => Some(match self.group.members.get(instance) {
                None => Says::Refused(25),
                // If the member id is empty, the instance id is enough.
                Some(member) if member.id != *member_id && !member_id.is_empty() => Says::Refused(82),
                Some(_) => {
                    self.remove(instance, now);
                    Says::Left
                }
            }),
            other => panic!("a member without topics asked {other:?}"),
        }
    }

    fn joins_anew(
        &mut self,
        ticket: Ticket,
        name: &Rc<str>,
        metadata: &Rc<[u8]>,
        [session, rebalance]: [Duration; 2],
        now: Monotonic,
    ) -> Option<Says> {
        self.ids += 1;
        let id: Rc<str> = Rc::from(format!("{name}-{}", self.ids));
        let expires = now.after(session);
        let before = self.group.members.remove(name);
        let mut member = Member {
            id: Rc::clone(&id),
            metadata: Rc::clone(metadata),
            assignment: Rc::from([]),
            session,
            rebalance,
            expires,
            join: Some(ticket),
            sync: None,
        };
        let is_back = before.is_some();
        if let Some(before) = before {
            let waiting = before.join.into_iter().chain(before.sync);
            self.answers.extend(waiting.map(|ticket| (ticket, Says::Refused(82))));
            if self.group.leader == before.id {
                self.group.leader = Rc::clone(&id);
            }
            member.assignment = before.assignment;
        }
        if is_back && self.group.state == State::Stable {
            // The generation and the assignment stay the same.
            member.join = None;
            self.group.members.insert(Rc::clone(name), member);
            self.written = self.group.clone();
            return Some(self.joined(&id));
        }
        self.group.members.insert(Rc::clone(name), member);
        match self.group.state {
            State::Preparing { .. } => self.complete(now),
            _ => self.prepare(now),
        }
        None
    }

    fn joins_again(&mut self, ticket: Ticket, name: &Rc<str>, metadata: &Rc<[u8]>, now: Monotonic) -> Option<Says> {
        let (state, leader) = (self.group.state, Rc::clone(&self.group.leader));
        let member = self.group.members.get_mut(name)?;
        let is_same = member.metadata == *metadata;
        let id = Rc::clone(&member.id);
        member.expires = now.after(member.session);
        match state {
            State::Completing if is_same => return Some(self.joined(&id)),
            State::Stable if is_same && id != leader => return Some(self.joined(&id)),
            _ => {}
        }
        member.metadata = Rc::clone(metadata);
        member.join = Some(ticket);
        match state {
            State::Preparing { .. } => self.complete(now),
            _ => self.prepare(now),
        }
        None
    }

    /// The answer to JoinGroup without a rebalance.
    fn joined(&self, id: &Rc<str>) -> Says {
        let is_leader = *id == self.group.leader;
        let member = |(name, member): (&Rc<str>, &Member)| GroupMember {
            id: Rc::clone(&member.id),
            instance: Some(Rc::clone(name)),
            metadata: Rc::clone(&member.metadata),
        };
        Says::Joined(Joined {
            generation: self.group.generation,
            protocol: Rc::from("slots"),
            leader: Rc::clone(&self.group.leader),
            member_id: Rc::clone(id),
            skip_assignment: is_leader && self.group.state == State::Stable,
            knows_static: true,
            members: if is_leader { self.group.members.iter().map(member).collect() } else { Vec::new() },
        })
    }

    fn syncs(
        &mut self,
        ticket: Ticket,
        request: &Request,
        name: &Rc<str>,
        assignments: &[(Rc<str>, Rc<[u8]>)],
        now: Monotonic,
    ) -> Option<Says> {
        if request.identity.generation != self.group.generation {
            return Some(Says::Refused(22));
        }
        let leader = Rc::clone(&self.group.leader);
        let member = self.group.members.get_mut(name)?;
        member.expires = now.after(member.session);
        match self.group.state {
            State::Empty => Some(Says::Refused(25)),
            State::Preparing { .. } => Some(Says::Refused(27)),
            State::Stable => Some(Says::Assignment(Rc::clone(&member.assignment))),
            State::Completing => {
                member.sync = Some(ticket);
                if member.id == leader {
                    self.group.state = State::Stable;
                    for member in self.group.members.values_mut() {
                        let given = assignments.iter().find(|(id, _)| *id == member.id);
                        member.assignment = given.map_or_else(|| Rc::from([]), |(_, bytes)| Rc::clone(bytes));
                        if let Some(ticket) = member.sync.take() {
                            member.expires = now.after(member.session);
                            self.answers.push((ticket, Says::Assignment(Rc::clone(&member.assignment))));
                        }
                    }
                    self.written = self.group.clone();
                }
                None
            }
        }
    }
}
