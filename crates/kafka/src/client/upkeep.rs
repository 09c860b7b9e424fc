//! The upkeep of the channels: failures, deadlines, and handing on waiting requests.

use std::collections::btree_map::Entry;
use std::rc::Rc;

use super::connection::{Asked, Connection};
use super::{Channel, Client, Owner, ProduceChannel, Way};
use crate::types::{BrokerUnreachable, ClientEvent, ProduceBatch, ProduceRequest, ProduceResult};
use forebay_guard::outward::{Endpoint, LinkId, jittered};
use forebay_runtime::seam::Monotonic;

impl Client {
    /// Fails requests that were never given to a connection.
    pub(super) fn give_back(&mut self, requests: impl Iterator<Item = ProduceRequest>) {
        for request in requests {
            self.shared.event(ClientEvent::ProduceFailed { id: request.id, sent: false });
        }
    }

    /// Drops a channel's connection after a failure, reports it to its requests and to an operator, and backs off.
    pub(super) fn fail(&mut self, owner: Owner, why: &str, now: Monotonic) {
        self.tell_trouble(owner, why);
        self.lose(owner, why, now);
        self.shared.tell_unreachable();
    }

    /// Drops a connection that a broker has ended, which need not be a failure.
    pub(super) fn lose(&mut self, owner: Owner, why: &str, now: Monotonic) {
        let Some((channel, _)) = self.channel(owner) else { return };
        tracing::debug!(broker = %channel.endpoint, "connection to a Kafka broker failed: {why}");
        let is_idle = channel.is_idle();
        match owner {
            Owner::Metadata => self.lose_metadata(is_idle, now),
            Owner::Produce(way) => self.lose_produce(way, is_idle, now),
            Owner::Ask(node) => self.lose_ask(node, now),
            Owner::Member(member) => self.lose_member(member, is_idle, now),
            Owner::Fetch(way) => self.lose_fetch(way, is_idle, now),
        }
    }

    /// Reports trouble of a channel. Only the first failure in a row is reported to the operator. A refused login
    /// and TLS have events of their own.
    fn tell_trouble(&mut self, owner: Owner, why: &str) {
        let Some((channel, shared)) = self.channel(owner) else { return };
        if channel.refused.is_some() || !shared.is_new_trouble(&channel.endpoint) {
            return;
        }
        let endpoint = channel.endpoint.clone();
        let node = match owner {
            Owner::Produce(way) => Some(way.node),
            Owner::Ask(node) => Some(node),
            Owner::Fetch(way) => Some(way.node),
            Owner::Metadata | Owner::Member(_) => {
                self.brokers.iter().find(|(_, broker)| **broker == endpoint).map(|(node, _)| *node)
            }
        };
        let is_advertised = !self.bootstrap.contains(&endpoint);
        let (broker, reason) = (endpoint.to_string(), why.to_owned());
        let told = BrokerUnreachable { broker, node, is_advertised, reason };
        self.shared.event(ClientEvent::BrokerUnreachable(told));
    }

    fn lose_metadata(&mut self, is_idle: bool, now: Monotonic) {
        // A broker closes idle connections: that is no failure.
        self.shared.stats.failures += u64::from(!is_idle);
        self.tried += usize::from(!is_idle);
        // The next candidate is tried soon; a whole round of failures makes the wait longer.
        let connection = if !is_idle && self.tried.is_multiple_of(self.candidates().count()) {
            self.metadata.fail(&mut self.shared, now)
        } else {
            self.metadata.pause(&mut self.shared, now)
        };
        self.metadata_unanswered(connection, now);
        // A broker is gone: known metadata may be wrong.
        self.topics.refresh(now);
    }

    pub(super) fn let_go_of_metadata(&mut self, now: Monotonic) {
        let connection = self.metadata.down(now, &mut self.shared);
        self.metadata_unanswered(connection, now);
    }

    fn metadata_unanswered(&mut self, connection: Option<Box<Connection>>, now: Monotonic) {
        for asked in connection.into_iter().flat_map(|connection| connection.into_unanswered()) {
            match asked {
                Asked::Metadata(topics) => self.topics.unanswered(&topics, now),
                Asked::ProducerId(token) => self.producer_ids.unanswered(token, now),
                Asked::Member(request) => self.coordinators.unanswered(*request),
                _ => {}
            }
        }
    }

    /// Requests metadata repeatedly while a broker cannot be reached, to see whether it still leads the partitions of waiting requests: for
    /// those topics only.
    fn recheck(&mut self, way: Way, now: Monotonic) {
        let Some(channel) = self.channels.get_mut(&way) else { return };
        if channel.is_shut() && channel.recheck_at <= now {
            channel.recheck_at = now.after(jittered(self.shared.settings.recheck, &mut self.shared.rng));
            for batch in channel.queue.iter().flat_map(|request| &request.batches) {
                self.topics.recheck(&batch.topic, now);
            }
        }
    }

    fn lose_produce(&mut self, way: Way, is_idle: bool, now: Monotonic) {
        let Some(channel) = self.channels.get_mut(&way) else { return };
        if is_idle && channel.queue.is_empty() {
            // A broker closes connections that were idle for a while; the next request opens them again.
            channel.channel.pause(&mut self.shared, now);
            return;
        }
        self.shared.stats.failures += 1;
        let connection = channel.channel.fail(&mut self.shared, now);
        let queue = std::mem::take(&mut channel.queue);
        for asked in connection.into_iter().flat_map(|connection| connection.into_unanswered()) {
            if let Asked::Produce(id, _) = asked {
                self.shared.event(ClientEvent::ProduceFailed { id, sent: true });
            }
        }
        self.give_back(queue.into_iter());
        if !self.brokers.contains_key(&way.node) {
            self.channels.remove(&way);
        }
        self.topics.refresh(now);
        self.pump_metadata(now);
    }

    /// Does everything that is due.
    pub(super) fn upkeep(&mut self, unacked: impl Fn(LinkId) -> usize, now: Monotonic) {
        for owner in self.owners() {
            let Some((channel, shared)) = self.channel(owner) else { continue };
            if channel.deadline() > now || !channel.is_silent(&unacked, shared, now) {
                continue;
            }
            let why = channel.overdue();
            if channel.next_address(shared, now) {
                continue;
            }
            let endpoint = channel.endpoint.clone();
            // A broker that is silent here is silent to metadata as well: that is requested elsewhere, at once.
            if owner != Owner::Metadata && self.metadata.endpoint == endpoint && self.candidates().nth(1).is_some() {
                self.let_go_of_metadata(now);
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
        self.pump_all(now);
    }

    /// Hands on all waiting requests.
    pub(super) fn pump_all(&mut self, now: Monotonic) {
        for way in self.ways() {
            self.pump_produce(way, now);
        }
        let asked: Vec<Owner> = self.ask_channels.keys().copied().map(Owner::Ask).collect();
        let members: Vec<Owner> = self.coordinators.owners().collect();
        let fetching: Vec<Owner> = self.fetch_channels.keys().copied().map(Owner::Fetch).collect();
        asked.into_iter().chain(fetching).chain(members).for_each(|owner| self.pump(owner, now));
        self.pump_metadata(now);
    }

    /// Closes idle connections to a broker that is silent: they may be dead as well. New ones are opened when needed.
    fn let_go_of_idle(&mut self, endpoint: &Endpoint, now: Monotonic) {
        for ProduceChannel { channel, queue, .. } in self.channels.values_mut() {
            if channel.endpoint == *endpoint && queue.is_empty() && channel.is_idle() {
                channel.down(now, &mut self.shared);
            }
        }
    }

    /// The owners of all channels.
    pub(super) fn owners(&self) -> Vec<Owner> {
        let produce = self.channels.keys().copied().map(Owner::Produce);
        let ask = self.ask_channels.keys().copied().map(Owner::Ask);
        let fetch = self.fetch_channels.keys().copied().map(Owner::Fetch);
        let others = ask.chain(fetch).chain(self.coordinators.owners());
        std::iter::once(Owner::Metadata).chain(produce).chain(others).collect()
    }

    pub(super) fn ways(&self) -> Vec<Way> {
        self.channels.keys().copied().collect()
    }

    /// Dials the next candidate, or asks for topics that are due.
    pub(super) fn pump_metadata(&mut self, now: Monotonic) {
        if !self.started {
            return;
        }
        if self.metadata.dial_at() <= now {
            if let Some(endpoint) = self.next_candidate() {
                self.metadata.endpoint = endpoint;
                self.metadata.dial(&mut self.shared, now);
            }
            return;
        }
        let Some(connection) = self.metadata.ready() else { return };
        let (in_flight_max, shared) = (self.shared.settings.in_flight_max, &mut self.shared);
        while connection.send_at(in_flight_max) <= now
            && let Some((topics, create)) = self.topics.take_due(now)
        {
            let create = create && shared.settings.allow_auto_topic_creation;
            if connection.ask_metadata(topics, create, shared, now).is_err() {
                return;
            }
        }
        // The requests follow the one for the cluster (`cluster`).
        while connection.send_at(in_flight_max) <= now
            && let Some(token) = self.producer_ids.take_due(now)
        {
            if connection.ask_producer_id(token, shared, now).is_err() {
                return;
            }
        }
        self.pump_coordinators(now);
    }

    /// Dials, or hands on waiting requests, in order.
    pub(super) fn pump_produce(&mut self, way: Way, now: Monotonic) {
        let Entry::Occupied(mut entry) = self.channels.entry(way) else { return };
        let ProduceChannel { channel, queue, .. } = entry.get_mut();
        if channel.dial_at() <= now && !queue.is_empty() {
            channel.dial(&mut self.shared, now);
            return;
        }
        let Some(connection) = channel.ready() else { return };
        let mut unanswerable = false;
        while connection.send_at(self.shared.settings.in_flight_max) <= now {
            let Some(request) = queue.pop_front() else { break };
            let (id, results) = (request.id, (request.acks == 0).then(|| handed_over(&request)));
            if !connection.produce(request, &mut self.shared, now) {
                self.shared.event(ClientEvent::ProduceFailed { id, sent: false });
            } else if let Some(results) = results {
                unanswerable = true;
                self.shared.event(ClientEvent::Produced { id, results, throttle_ms: 0 });
            }
        }
        if unanswerable {
            channel.works(&mut self.shared);
        }
        let idle = queue.is_empty() && channel.is_idle();
        if idle && !self.brokers.contains_key(&way.node) {
            entry.remove().channel.down(now, &mut self.shared);
        }
    }

    pub(super) fn metadata_deadline(&self) -> Monotonic {
        let dial_at = if self.candidates().next().is_some() { self.metadata.dial_at() } else { Monotonic::NEVER };
        let ask_at = self.metadata.ready_ref().map_or(Monotonic::NEVER, |connection| {
            let send_at = connection.send_at(self.shared.settings.in_flight_max);
            self.topics.next_due().min(self.producer_ids.next_due()).min(self.coordinators.next_due()).max(send_at)
        });
        due(&self.metadata).min(dial_at).min(ask_at)
    }

    pub(super) fn produce_deadline(&self, channel: &ProduceChannel) -> Monotonic {
        let mut at = due(&channel.channel);
        if !channel.queue.is_empty() {
            at = at.min(channel.channel.dial_at());
            if channel.is_shut() {
                at = at.min(channel.recheck_at);
            }
            if let Some(connection) = channel.channel.ready_ref() {
                at = at.min(connection.send_at(self.shared.settings.in_flight_max));
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
        // An endpoint that is silent to Produce is not tried first; after that all have their turn.
        let in_turn = (first..count).chain(0..first);
        let speaks = |at: &usize| {
            let candidate = self.candidates().nth(*at);
            !self
                .channels
                .values()
                .any(|channel| channel.channel.silences > 0 && Some(&channel.channel.endpoint) == candidate)
        };
        let at = in_turn.take(if self.tried == 0 { count } else { 0 }).find(speaks).unwrap_or(first);
        self.candidate = at + 1;
        self.candidates().nth(at).cloned()
    }
}

impl ProduceChannel {
    /// Whether requests wait, and the broker could not be reached since it last answered.
    fn is_shut(&self) -> bool {
        !self.queue.is_empty() && !self.channel.backoff.is_fresh() && self.channel.ready_ref().is_none()
    }
}

/// The time at which a channel is overdue, or its login needs renewal.
pub(super) fn due(channel: &Channel) -> Monotonic {
    channel.deadline().min(channel.ready_ref().map_or(Monotonic::NEVER, Connection::renew_at))
}

/// The results of a request with acks=0.
fn handed_over(request: &ProduceRequest) -> Vec<ProduceResult> {
    let result = |batch: &ProduceBatch| ProduceResult {
        topic: Rc::clone(&batch.topic),
        partition: batch.partition,
        error: 0,
        base_offset: -1,
    };
    request.batches.iter().map(result).collect()
}
