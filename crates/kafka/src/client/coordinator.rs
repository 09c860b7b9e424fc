//! Requests of members of consumer groups. Each member has its own connection to its group's coordinator: the broker answers JoinGroup
//! and SyncGroup only when the other members have joined, and everything else on the connection waits for that. The connection for
//! metadata asks which broker it is.
//!
//! Every request has one answer; a connection that fails, or a coordinator that has moved, is [`Says::NoAnswer`], and the member
//! retries. A member makes one request of each kind at a time, which bounds the queue; [`QUEUED_MAX`] does so in any case.

use std::collections::{BTreeMap, VecDeque};

use super::connection::{Asked, Connection};
use super::coordinator_answer::Told;
use super::upkeep::due;
use super::{Channel, Client, Owner};
use crate::coordination::{Answer, Ask, Request, Says};
use crate::types::ClientEvent;
use forebay_guard::outward::Endpoint;
use forebay_runtime::seam::Monotonic;

/// Maximum number of requests of a member that wait for its connection; one more gets no answer.
const QUEUED_MAX: usize = 16;

/// Maximum number of requests of a member in flight.
const IN_FLIGHT_MAX: usize = 8;

/// The members of the client.
#[derive(Debug, Default)]
pub(super) struct Coordinators {
    /// FindCoordinator requests not sent yet, by the member's number.
    wanted: BTreeMap<u32, Request>,
    /// Connections, by the member's number.
    pub(super) channels: BTreeMap<u32, MemberChannel>,
}

/// The connection of one member, and the requests that wait for it.
#[derive(Debug)]
pub(super) struct MemberChannel {
    pub(super) channel: Channel,
    queue: VecDeque<Box<Request>>,
}

impl Coordinators {
    /// Takes out a FindCoordinator request.
    pub(super) fn take_wanted(&mut self) -> Option<Box<Request>> {
        self.wanted.pop_first().map(|(_, request)| Box::new(request))
    }

    /// Puts back a FindCoordinator request after the metadata connection failed.
    pub(super) fn unanswered(&mut self, request: Request) {
        self.wanted.entry(request.member).or_insert(request);
    }

    /// The time of the next FindCoordinator request.
    pub(super) fn next_due(&self) -> Monotonic {
        if self.wanted.is_empty() { Monotonic::NEVER } else { Monotonic(0) }
    }

    /// The owners of the connections.
    pub(super) fn owners(&self) -> impl Iterator<Item = Owner> {
        self.channels.keys().copied().map(Owner::Member)
    }

    /// The next deadline of a member's connection.
    pub(super) fn deadline(&self) -> Monotonic {
        let deadline = |way: &MemberChannel| {
            let mut at = due(&way.channel);
            if !way.queue.is_empty() {
                at = at.min(way.channel.dial_at());
                if let Some(connection) = way.channel.ready_ref() {
                    at = at.min(connection.send_at(IN_FLIGHT_MAX));
                }
            }
            at
        };
        self.channels.values().map(deadline).min().unwrap_or(Monotonic::NEVER)
    }
}

impl Client {
    /// Sends a request to the coordinator of a member's group, or looks the coordinator up. [`ClientEvent::Member`] is sent once for every
    /// request: [`Says::NoAnswer`] at once while no coordinator is known.
    pub fn ask_coordinator(&mut self, request: Request, now: Monotonic) {
        let member = request.member;
        if matches!(request.ask, Ask::Coordinator) {
            if let Some(before) = self.coordinators.wanted.insert(member, request) {
                self.tell_member(&before, Says::NoAnswer);
            }
            return self.pump_metadata(now);
        }
        if matches!(request.ask, Ask::Leave) && self.is_held(member) {
            self.break_off(member, now);
        }
        match self.coordinators.channels.get_mut(&member) {
            Some(way) if way.queue.len() < QUEUED_MAX => way.queue.push_back(Box::new(request)),
            _ => return self.tell_member(&request, Says::NoAnswer),
        }
        self.pump_member(member, now);
    }

    /// Ends all requests of a member, without answers, and closes its connection.
    pub fn end_member(&mut self, member: u32, now: Monotonic) {
        self.coordinators.wanted.remove(&member);
        if let Some(mut way) = self.coordinators.channels.remove(&member) {
            way.channel.down(now, &mut self.shared);
        }
    }

    fn tell_member(&mut self, request: &Request, says: Says) {
        self.shared.event(ClientEvent::Member(Answer { member: request.member, token: request.token, says }));
    }

    /// Takes the answer to a member's request; to [`Ask::Coordinator`] with the broker's address.
    pub(super) fn on_member(&mut self, owner: Owner, request: &Request, told: Told, now: Monotonic) {
        if let Some((channel, shared)) = self.channel(owner)
            && owner != Owner::Metadata
        {
            channel.works(shared);
        }
        if let Some(endpoint) = told.coordinator {
            self.move_channel(request.member, endpoint, now);
        }
        self.tell_member(request, told.says);
    }

    /// Makes a member's connection lead to this broker. Requests to another one get no answer.
    fn move_channel(&mut self, member: u32, endpoint: Endpoint, now: Monotonic) {
        match self.coordinators.channels.get(&member) {
            None => {
                let channel = Channel::new(Owner::Member(member), endpoint);
                self.coordinators.channels.insert(member, MemberChannel { channel, queue: VecDeque::new() });
            }
            Some(way) if way.channel.endpoint == endpoint => {}
            Some(_) => {
                self.break_off(member, now);
                if let Some(way) = self.coordinators.channels.get_mut(&member) {
                    way.channel.endpoint = endpoint;
                    way.channel.backoff.reset();
                }
            }
        }
    }

    /// Whether the broker answers nothing on a member's connection until other members have joined.
    fn is_held(&self, member: u32) -> bool {
        let connection = self.coordinators.channels.get(&member).and_then(|way| way.channel.ready_ref());
        connection.is_some_and(Connection::is_held)
    }

    /// Closes a member's connection without a failure: its requests get no answer.
    fn break_off(&mut self, member: u32, now: Monotonic) {
        let Some(way) = self.coordinators.channels.get_mut(&member) else { return };
        let connection = way.channel.down(now, &mut self.shared);
        self.member_unanswered(member, connection);
    }

    fn member_unanswered(&mut self, member: u32, connection: Option<Box<Connection>>) {
        for asked in connection.into_iter().flat_map(|connection| connection.into_unanswered()) {
            if let Asked::Member(request) = asked {
                self.tell_member(&request, Says::NoAnswer);
            }
        }
        let Some(way) = self.coordinators.channels.get_mut(&member) else { return };
        for request in std::mem::take(&mut way.queue) {
            self.tell_member(&request, Says::NoAnswer);
        }
    }

    /// Drops a member's connection after a failure, or after its broker has closed it as idle.
    pub(super) fn lose_member(&mut self, member: u32, is_idle: bool, now: Monotonic) {
        let Some(way) = self.coordinators.channels.get_mut(&member) else { return };
        let connection = if is_idle {
            way.channel.pause(&mut self.shared, now)
        } else {
            self.shared.stats.failures += 1;
            way.channel.fail(&mut self.shared, now)
        };
        self.member_unanswered(member, connection);
    }

    /// Dials, or sends a member's waiting requests.
    pub(super) fn pump_member(&mut self, member: u32, now: Monotonic) {
        let Some(MemberChannel { channel, queue }) = self.coordinators.channels.get_mut(&member) else { return };
        if channel.dial_at() <= now && !queue.is_empty() {
            return channel.dial(&mut self.shared, now);
        }
        let Some(connection) = channel.ready() else { return };
        let mut not_spoken = Vec::new();
        while connection.send_at(IN_FLIGHT_MAX) <= now {
            let Some(request) = queue.pop_front() else { break };
            if let Err(failed) = connection.ask_member(request, &mut self.shared, now) {
                not_spoken.push(failed);
            }
        }
        not_spoken.into_iter().for_each(|(request, call)| self.tell_member(&request, Says::NotSpoken(call)));
    }

    /// Sends the pending FindCoordinator requests over the connection for metadata.
    pub(super) fn pump_coordinators(&mut self, now: Monotonic) {
        let in_flight_max = self.shared.settings.in_flight_max;
        let mut not_spoken = Vec::new();
        while let Some(connection) = self.metadata.ready()
            && connection.send_at(in_flight_max) <= now
            && let Some(request) = self.coordinators.take_wanted()
        {
            if let Err(failed) = connection.ask_member(request, &mut self.shared, now) {
                not_spoken.push(failed);
            }
        }
        not_spoken.into_iter().for_each(|(request, call)| self.tell_member(&request, Says::NotSpoken(call)));
    }
}
