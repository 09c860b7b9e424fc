//! What keeps the lanes going: failures, deadlines, and handing on what waits.

use std::collections::btree_map::Entry;
use std::rc::Rc;

use super::connection::Asked;
use super::lane::{Lane, Owner, Way};
use super::{Client, ProduceLane};
use crate::kafka::types::{BrokerUnreachable, ClientEvent, ProduceBatch, ProduceRequest, ProduceResult};
use crate::outward::{Endpoint, LinkId, jittered};
use crate::runtime::seam::Monotonic;

impl Client {
    /// Fails requests that never saw a connection.
    pub(super) fn give_back(&mut self, requests: impl Iterator<Item = ProduceRequest>) {
        for request in requests {
            self.hands.event(ClientEvent::ProduceFailed { id: request.id, sent: false });
        }
    }

    /// Something went wrong on a lane: lets go of its connection, tells who waited for it and what an operator should know of it, and
    /// waits.
    pub(super) fn fail(&mut self, owner: Owner, why: &str, now: Monotonic) {
        self.tell_trouble(owner, why);
        self.lose(owner, why, now);
        self.hands.tell_unreachable();
    }

    /// The same where nothing need be wrong: a broker has ended the connection.
    pub(super) fn lose(&mut self, owner: Owner, why: &str, now: Monotonic) {
        let Some((lane, _)) = self.lane(owner) else { return };
        tracing::debug!(broker = %lane.endpoint, "connection to a Kafka broker failed: {why}");
        let is_idle = lane.is_idle();
        match owner {
            Owner::Metadata => self.lose_metadata(is_idle, now),
            Owner::Produce(way) => self.lose_produce(way, is_idle, now),
            Owner::Ask(node) => self.lose_ask(node, now),
        }
    }

    /// The first failure in a row is worth an operator's look; the others are the same news. Of a refused login, and of TLS, an
    /// event of its own tells.
    fn tell_trouble(&mut self, owner: Owner, why: &str) {
        let Some((lane, hands)) = self.lane(owner) else { return };
        if lane.refused.is_some() || !hands.is_new_trouble(&lane.endpoint) {
            return;
        }
        let endpoint = lane.endpoint.clone();
        let node = match owner {
            Owner::Produce(way) => Some(way.node),
            Owner::Ask(node) => Some(node),
            Owner::Metadata => self.brokers.iter().find(|(_, broker)| **broker == endpoint).map(|(node, _)| *node),
        };
        let is_advertised = !self.bootstrap.contains(&endpoint);
        let (broker, reason) = (endpoint.to_string(), why.to_owned());
        let told = BrokerUnreachable { broker, node, is_advertised, reason };
        self.hands.event(ClientEvent::BrokerUnreachable(told));
    }

    fn lose_metadata(&mut self, is_idle: bool, now: Monotonic) {
        if is_idle {
            // A broker closes connections that have been idle.
            let wait = Lane::pause(&mut self.hands);
            self.let_go_of_metadata(now.after(wait), now);
            self.topics.refresh(now);
            return;
        }
        self.hands.stats.failures += 1;
        self.tried += 1;
        // The next candidate comes soon; a whole round of failures makes the wait longer.
        let wait = if self.tried.is_multiple_of(self.candidates().count()) {
            self.metadata.failed(&mut self.hands)
        } else {
            Lane::pause(&mut self.hands)
        };
        self.let_go_of_metadata(now.after(wait), now);
        // A broker has gone: what is known may be wrong.
        self.topics.refresh(now);
    }

    pub(super) fn let_go_of_metadata(&mut self, until: Monotonic, now: Monotonic) {
        let connection = self.metadata.down(until, &mut self.hands);
        for asked in connection.into_iter().flat_map(|connection| connection.into_unanswered()) {
            match asked {
                Asked::Metadata(topics) => self.topics.unanswered(&topics, now),
                Asked::ProducerId(token) => self.producer_ids.unanswered(token, now),
                Asked::ApiVersions
                | Asked::Produce(..)
                | Asked::Log(_)
                | Asked::SaslHandshake
                | Asked::SaslAuthenticate => {}
            }
        }
    }

    /// While the way to a broker is shut, it is asked again and again whether it still leads what waits for it: those
    /// topics and no others.
    fn recheck(&mut self, way: Way, now: Monotonic) {
        let Some(lane) = self.lanes.get_mut(&way) else { return };
        if lane.is_shut() && lane.recheck_at <= now {
            lane.recheck_at = now.after(jittered(self.hands.settings.recheck, &mut self.hands.rng));
            for batch in lane.queue.iter().flat_map(|request| &request.batches) {
                self.topics.recheck(&batch.topic, now);
            }
        }
    }

    fn lose_produce(&mut self, way: Way, is_idle: bool, now: Monotonic) {
        let Some(lane) = self.lanes.get_mut(&way) else { return };
        if is_idle && lane.queue.is_empty() {
            // A broker closes what is idle for long; the next request opens it again.
            let wait = Lane::pause(&mut self.hands);
            lane.lane.down(now.after(wait), &mut self.hands);
            return;
        }
        self.hands.stats.failures += 1;
        let wait = lane.lane.failed(&mut self.hands);
        let connection = lane.lane.down(now.after(wait), &mut self.hands);
        let queue = std::mem::take(&mut lane.queue);
        for asked in connection.into_iter().flat_map(|connection| connection.into_unanswered()) {
            if let Asked::Produce(id, _) = asked {
                self.hands.event(ClientEvent::ProduceFailed { id, sent: true });
            }
        }
        self.give_back(queue.into_iter());
        if !self.brokers.contains_key(&way.node) {
            self.lanes.remove(&way);
        }
        self.topics.refresh(now);
        self.pump_metadata(now);
    }

    /// Whatever is due.
    pub(super) fn upkeep(&mut self, unacked: impl Fn(LinkId) -> usize, now: Monotonic) {
        let ask: Vec<Owner> = self.ask_lanes.keys().copied().map(Owner::Ask).collect();
        for owner in self.owners() {
            let Some((lane, hands)) = self.lane(owner) else { continue };
            if lane.deadline() > now || !lane.is_silent(&unacked, hands, now) {
                continue;
            }
            let why = lane.overdue();
            if lane.next_address(hands, now) {
                continue;
            }
            let endpoint = lane.endpoint.clone();
            // What is silent here is silent to metadata as well: it is asked elsewhere, and at once.
            if owner != Owner::Metadata && self.metadata.endpoint == endpoint && self.candidates().nth(1).is_some() {
                self.let_go_of_metadata(now, now);
            }
            if owner == Owner::Metadata {
                self.let_go_of_idle(&endpoint, now);
            }
            self.fail(owner, why, now);
        }
        for owner in self.owners() {
            self.renew(owner, now);
        }
        for way in self.ways() {
            self.recheck(way, now);
        }
        for way in self.ways() {
            self.pump_produce(way, now);
        }
        ask.into_iter().for_each(|owner| self.pump(owner, now));
        self.pump_metadata(now);
    }

    /// A broker is silent: connections to it on which nothing is asked may be dead as well. New ones are made when they are needed.
    fn let_go_of_idle(&mut self, endpoint: &Endpoint, now: Monotonic) {
        for lane in self.lanes.values_mut().filter(|lane| lane.lane.endpoint == *endpoint && lane.queue.is_empty()) {
            if lane.lane.is_idle() {
                lane.lane.down(now, &mut self.hands);
            }
        }
    }

    /// All lanes.
    pub(super) fn owners(&self) -> Vec<Owner> {
        let produce = self.lanes.keys().copied().map(Owner::Produce);
        let ask = self.ask_lanes.keys().copied().map(Owner::Ask);
        std::iter::once(Owner::Metadata).chain(produce).chain(ask).collect()
    }

    pub(super) fn ways(&self) -> Vec<Way> {
        self.lanes.keys().copied().collect()
    }

    /// Dials the next candidate, or asks what is due.
    pub(super) fn pump_metadata(&mut self, now: Monotonic) {
        if !self.started {
            return;
        }
        if self.metadata.may_dial(now) {
            if let Some(endpoint) = self.next_candidate() {
                self.metadata.endpoint = endpoint;
                self.metadata.dial(&mut self.hands, now);
            }
            return;
        }
        let Some(connection) = self.metadata.ready() else { return };
        let (settings, effects) = (&self.hands.settings, &mut self.hands.effects);
        while connection.send_at(settings.in_flight_max) <= now
            && let Some((topics, create)) = self.topics.take_due(now)
        {
            let create = create && settings.allow_auto_topic_creation;
            if !connection.ask_metadata(topics, create, settings, now, effects) {
                return;
            }
        }
        // Behind the question which cluster it is (`cluster`).
        while connection.send_at(settings.in_flight_max) <= now
            && let Some(token) = self.producer_ids.take_due(now)
        {
            if !connection.ask_producer_id(token, settings, now, effects) {
                return;
            }
        }
    }

    /// Dials, or hands on what waits, in order.
    pub(super) fn pump_produce(&mut self, way: Way, now: Monotonic) {
        let Entry::Occupied(mut entry) = self.lanes.entry(way) else { return };
        let ProduceLane { lane, queue, .. } = entry.get_mut();
        if lane.may_dial(now) && !queue.is_empty() {
            lane.dial(&mut self.hands, now);
            return;
        }
        let Some(connection) = lane.ready() else { return };
        let mut unanswerable = false;
        while connection.send_at(self.hands.settings.in_flight_max) <= now {
            let Some(request) = queue.pop_front() else { break };
            let (id, results) = (request.id, (request.acks == 0).then(|| handed_over(&request)));
            match connection.produce(request, &self.hands.settings, now, &mut self.hands.effects) {
                Ok(()) => {
                    if let Some(results) = results {
                        unanswerable = true;
                        self.hands.event(ClientEvent::Produced { id, results, throttle_ms: 0 });
                    }
                }
                Err(_) => self.hands.event(ClientEvent::ProduceFailed { id, sent: false }),
            }
        }
        if unanswerable {
            lane.works(&mut self.hands);
        }
        let idle = queue.is_empty() && lane.is_idle();
        if idle && !self.brokers.contains_key(&way.node) {
            entry.remove().lane.down(now, &mut self.hands);
        }
    }

    pub(super) fn metadata_deadline(&self) -> Monotonic {
        let dial_at = if self.candidates().next().is_some() { self.metadata.dial_at() } else { Monotonic::NEVER };
        let ask_at = self.metadata.ready_ref().map_or(Monotonic::NEVER, |connection| {
            let send_at = connection.send_at(self.hands.settings.in_flight_max);
            self.topics.next_due().min(self.producer_ids.next_due()).max(send_at)
        });
        self.metadata.deadline().min(self.metadata.renew_at()).min(dial_at).min(ask_at)
    }

    pub(super) fn produce_deadline(&self, lane: &ProduceLane) -> Monotonic {
        let mut at = lane.lane.deadline().min(lane.lane.renew_at());
        if !lane.queue.is_empty() {
            at = at.min(lane.lane.dial_at());
            if lane.is_shut() {
                at = at.min(lane.recheck_at);
            }
            if let Some(connection) = lane.lane.ready_ref() {
                at = at.min(connection.send_at(self.hands.settings.in_flight_max));
            }
        }
        at
    }

    /// The endpoints of the bootstrap list, then those of the known brokers that are not in it.
    fn candidates(&self) -> impl Iterator<Item = &Endpoint> {
        let known = self.brokers.values().filter(|endpoint| !self.bootstrap.contains(endpoint));
        self.bootstrap.iter().chain(known)
    }

    /// The candidates in turn.
    fn next_candidate(&mut self) -> Option<Endpoint> {
        let count = self.candidates().count();
        let first = self.candidate.checked_rem(count)?;
        // One that is silent to Produce is not the first to be tried; after that all have their turn.
        let in_turn = (first..count).chain(0..first);
        let speaks = |at: &usize| {
            let candidate = self.candidates().nth(*at);
            !self.lanes.values().any(|lane| lane.lane.silences > 0 && Some(&lane.lane.endpoint) == candidate)
        };
        let at = in_turn.take(if self.tried == 0 { count } else { 0 }).find(speaks).unwrap_or(first);
        self.candidate = at + 1;
        self.candidates().nth(at).cloned()
    }
}

impl ProduceLane {
    /// Something waits, and the broker could not be reached since it was last of use.
    fn is_shut(&self) -> bool {
        !self.queue.is_empty() && !self.lane.backoff.is_fresh() && self.lane.ready_ref().is_none()
    }
}

/// What is said of a request with acks=0.
fn handed_over(request: &ProduceRequest) -> Vec<ProduceResult> {
    let result = |batch: &ProduceBatch| ProduceResult {
        topic: Rc::clone(&batch.topic),
        partition: batch.partition,
        error: 0,
        base_offset: -1,
    };
    request.batches.iter().map(result).collect()
}
