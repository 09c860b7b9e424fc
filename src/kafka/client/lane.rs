//! A lane: the way to one broker, whether a connection stands or not. Resolving, connecting through the addresses one
//! after the other, negotiating, and waiting after a failure.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use super::api::{API_VERSIONS, Versions};
use super::connection::Connection;
use super::settings::Settings;
use super::{Effect, Stats};
use crate::kafka::types::{ClientEvent, NodeId};
use crate::outward::{Backoff, Endpoint, LinkId, jittered};
use crate::runtime::seam::Monotonic;
use crate::secure::Outgoing;
use crate::secure::sasl::Task;

/// Which lane a connection or a resolution belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Owner {
    /// The one for metadata and producer ids.
    Metadata,
    /// One for Produce.
    Produce(Way),
    /// The one for questions about what this broker's logs hold.
    Ask(NodeId),
}

/// A way to a broker for Produce: there are two, so that who waits for followers keeps only their like waiting.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Way {
    pub(super) node: NodeId,
    /// The second.
    pub(super) slow: bool,
}

/// What all lanes share: the way out, and the names they give.
#[derive(Debug)]
pub(super) struct Hands {
    pub(super) settings: Settings,
    pub(super) effects: Vec<Effect>,
    pub(super) rng: fastrand::Rng,
    links: BTreeMap<LinkId, Owner>,
    tickets: BTreeMap<u64, Owner>,
    next_link: u32,
    next_ticket: u64,
    /// Connections that have been negotiated.
    ready: usize,
    pub(super) stats: Stats,
    reachable: bool,
    /// Where brokers are that cannot be used, as was told.
    troubled: Vec<Endpoint>,
}

impl Hands {
    pub(super) fn new(settings: Settings, seed: u64) -> Self {
        Self {
            settings,
            effects: Vec::new(),
            rng: fastrand::Rng::with_seed(seed),
            links: BTreeMap::new(),
            tickets: BTreeMap::new(),
            next_link: 0,
            next_ticket: 0,
            ready: 0,
            stats: Stats::default(),
            reachable: false,
            troubled: Vec::new(),
        }
    }

    pub(super) fn event(&mut self, event: ClientEvent) {
        self.effects.push(Effect::Event(event));
    }

    /// Whose connection this is; `None` for one that the client has given up.
    pub(super) fn owner(&self, link: LinkId) -> Option<Owner> {
        self.links.get(&link).copied()
    }

    /// Whose resolution this is. Each comes back once.
    pub(super) fn take_ticket(&mut self, ticket: u64) -> Option<Owner> {
        self.tickets.remove(&ticket)
    }

    /// The connection is gone already: it needs no closing.
    pub(super) fn forget_link(&mut self, link: LinkId) {
        self.links.remove(&link);
    }

    pub(super) const fn is_connected(&self) -> bool {
        self.ready > 0
    }

    /// A connection stands.
    fn tell_reachable(&mut self) {
        if !std::mem::replace(&mut self.reachable, true) {
            self.event(ClientEvent::Reachable(true));
        }
    }

    /// An attempt has failed. A connection that a broker ends is none: it is made again, and that shows whether one can be.
    pub(super) fn tell_unreachable(&mut self) {
        if !self.is_connected() && std::mem::take(&mut self.reachable) {
            self.event(ClientEvent::Reachable(false));
        }
    }

    /// A broker cannot be used. Whether nobody was told.
    pub(super) fn is_new_trouble(&mut self, endpoint: &Endpoint) -> bool {
        let is_new = !self.troubled.contains(endpoint);
        if is_new {
            self.troubled.push(endpoint.clone());
        }
        is_new
    }

    /// Brokers for which this holds are of use again, or gone.
    pub(super) fn trouble_over(&mut self, over: impl Fn(&Endpoint) -> bool) {
        let (troubled, effects) = (&mut self.troubled, &mut self.effects);
        troubled.retain(|endpoint| {
            let is_over = over(endpoint);
            if is_over {
                effects.push(Effect::Event(ClientEvent::BrokerReachable(endpoint.to_string())));
            }
            !is_over
        });
    }

    fn connect(&mut self, owner: Owner, to: SocketAddr, host: &str) -> LinkId {
        let link = LinkId(self.next_link);
        self.next_link += 1;
        self.links.insert(link, owner);
        let layer = self.settings.tls.as_ref().map(|tls| tls.layer(host));
        self.effects.push(Effect::Connect { link, to, layer });
        link
    }

    /// Closes a connection, unless it is gone already.
    fn close(&mut self, link: LinkId) {
        if self.links.remove(&link).is_some() {
            self.effects.push(Effect::Close { link });
        }
    }

    /// A name for something that is done elsewhere for this lane.
    fn ticket(&mut self, owner: Owner) -> u64 {
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        self.tickets.insert(ticket, owner);
        ticket
    }

    /// Has something done for a login.
    pub(super) fn prepare(&mut self, owner: Owner, task: Task) -> u64 {
        let ticket = self.ticket(owner);
        self.effects.push(Effect::Prepare { ticket, task });
        ticket
    }

    fn resolve(&mut self, owner: Owner, endpoint: &Endpoint) -> u64 {
        let ticket = self.ticket(owner);
        self.effects.push(Effect::Resolve { ticket, host: endpoint.host.to_string(), port: endpoint.port });
        ticket
    }
}

/// Where a lane stands.
#[derive(Debug)]
enum Phase {
    /// No connection, none in the making; none is to be made before this instant.
    Down(Monotonic),
    Resolving {
        ticket: u64,
    },
    Connecting {
        link: LinkId,
        /// Addresses that are left to try.
        rest: std::vec::IntoIter<SocketAddr>,
        tls: Option<Arc<Outgoing>>,
        deadline: Monotonic,
    },
    /// The connection stands; its versions may not be settled yet.
    Up(Box<Connection>),
}

/// A lane.
#[derive(Debug)]
pub(super) struct Lane {
    owner: Owner,
    /// Where it goes to at its next connection.
    pub(super) endpoint: Endpoint,
    phase: Phase,
    /// When the attempt at hand has to have come to a connection that is of use.
    due: Monotonic,
    pub(super) backoff: Backoff,
    /// Connections closed for their silence since one was last of use.
    pub(super) silences: u32,
    /// What was refused last: what is tried again is tried more rarely.
    pub(super) refused: Option<Refused>,
    /// Why TLS failed when that was told last. An attempt with settings from before a change may fail after it.
    pub(super) told: String,
}

/// What an operator has to change before a broker can be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refused {
    /// The login, by the broker.
    Login,
    /// The TLS connection, by either side.
    Tls,
}

impl Lane {
    /// A lane without a connection.
    pub(super) fn new(owner: Owner, endpoint: Endpoint) -> Self {
        Self {
            owner,
            endpoint,
            phase: Phase::Down(Monotonic(0)),
            due: Monotonic(0),
            backoff: Backoff::default(),
            silences: 0,
            refused: None,
            told: String::new(),
        }
    }

    /// It is of use: the broker answered what it was there for.
    pub(super) fn works(&mut self, hands: &mut Hands) {
        self.backoff.reset();
        self.silences = 0;
        hands.trouble_over(|endpoint| *endpoint == self.endpoint);
    }

    /// The step at hand is overdue. Whether that is a connection's silence, while none of its bytes move.
    pub(super) fn is_silent(&mut self, unacked: impl Fn(LinkId) -> usize, hands: &mut Hands, now: Monotonic) -> bool {
        let Phase::Up(connection) = &mut self.phase else { return true };
        // The time for connecting is that of the whole attempt, whatever moves.
        let is_over = !connection.standing.is_established && self.due <= now;
        if !is_over && connection.is_moving(unacked(connection.link), now) {
            return false;
        }
        self.silences = self.silences.saturating_add(1);
        hands.stats.replaced += 1;
        true
    }

    /// Whether a connection may be made now.
    pub(super) fn may_dial(&self, now: Monotonic) -> bool {
        matches!(self.phase, Phase::Down(until) if until <= now)
    }

    /// When a connection may be made; `NEVER` if one stands or is being made.
    pub(super) fn dial_at(&self) -> Monotonic {
        match self.phase {
            Phase::Down(until) => until,
            _ => Monotonic::NEVER,
        }
    }

    /// The connection, where it is negotiated and logged in.
    pub(super) fn ready(&mut self) -> Option<&mut Connection> {
        match &mut self.phase {
            Phase::Up(connection) if connection.standing.is_established => Some(connection),
            _ => None,
        }
    }

    /// The connection, where it is negotiated and logged in.
    pub(super) fn ready_ref(&self) -> Option<&Connection> {
        match &self.phase {
            Phase::Up(connection) if connection.standing.is_established => Some(connection),
            _ => None,
        }
    }

    /// The connection, negotiated or not.
    pub(super) fn connection(&mut self) -> Option<&mut Connection> {
        match &mut self.phase {
            Phase::Up(connection) => Some(connection),
            _ => None,
        }
    }

    /// Where it waits after a failure: not for longer than until `now`, and from the shortest wait on. What is refused from
    /// here on is news.
    pub(super) fn retry_at(&mut self, now: Monotonic) {
        self.refused = None;
        if let Phase::Down(until) = &mut self.phase {
            *until = now.min(*until);
            self.backoff.reset();
        }
    }

    /// Whether its connection stands, and nothing is asked on it.
    pub(super) fn is_idle(&self) -> bool {
        self.ready_ref().is_some_and(|connection| connection.in_flight() == 0)
    }

    /// Whether it need mean nothing that a broker ends the connection that stands: it was idle, or was of use since another one
    /// failed.
    pub(super) fn is_lost_by_chance(&self) -> bool {
        self.ready_ref().is_some_and(|connection| connection.in_flight() == 0 || self.backoff.is_fresh())
    }

    /// When the step at hand has taken too long.
    pub(super) fn deadline(&self) -> Monotonic {
        match &self.phase {
            Phase::Down(_) => Monotonic::NEVER,
            Phase::Resolving { .. } => self.due,
            Phase::Connecting { deadline, .. } => *deadline,
            Phase::Up(connection) if !connection.standing.is_established => connection.deadline().min(self.due),
            Phase::Up(connection) => connection.deadline(),
        }
    }

    /// When its login is to be renewed, or its connection replaced.
    pub(super) fn renew_at(&self) -> Monotonic {
        self.ready_ref().map_or(Monotonic::NEVER, |connection| {
            connection.standing.renew_at(connection.in_flight(), connection.throttled_until())
        })
    }

    /// Which step that is.
    pub(super) fn overdue(&self) -> &'static str {
        match &self.phase {
            Phase::Down(_) | Phase::Resolving { .. } => "the name was not resolved in time",
            Phase::Connecting { tls: Some(_), .. } => "no connection, or no answer to the TLS handshake, in time",
            Phase::Connecting { .. } => "no connection in time",
            Phase::Up(connection) if connection.versions().is_none() => "no answer to ApiVersions in time",
            Phase::Up(connection) if connection.standing.is_logging_in() => "the SASL login was not finished in time",
            Phase::Up(_) => "timed out",
        }
    }

    /// Starts towards the endpoint.
    pub(super) fn dial(&mut self, hands: &mut Hands, now: Monotonic) {
        self.due = now.after(hands.settings.connect_timeout);
        match self.endpoint.literal() {
            Some(address) => {
                self.try_next(vec![address].into_iter(), hands, now);
            }
            None => {
                let ticket = hands.resolve(self.owner, &self.endpoint);
                self.phase = Phase::Resolving { ticket };
            }
        }
    }

    /// The name is resolved. `false`: there is no address to try.
    pub(super) fn resolved(&mut self, addresses: Vec<SocketAddr>, hands: &mut Hands, now: Monotonic) -> bool {
        self.try_next(addresses.into_iter(), hands, now)
    }

    /// Whether this resolution is the one the lane waits for.
    pub(super) fn awaits(&self, to: u64) -> bool {
        matches!(self.phase, Phase::Resolving { ticket, .. } if ticket == to)
    }

    /// The address at hand did not work: goes on to the next one. `false`: there is none.
    pub(super) fn next_address(&mut self, hands: &mut Hands, now: Monotonic) -> bool {
        let Phase::Connecting { link, rest, .. } = &mut self.phase else { return false };
        let (link, rest) = (*link, std::mem::take(rest));
        hands.close(link);
        self.try_next(rest, hands, now)
    }

    fn try_next(&mut self, mut rest: std::vec::IntoIter<SocketAddr>, hands: &mut Hands, now: Monotonic) -> bool {
        let Some(address) = rest.next() else { return false };
        let link = hands.connect(self.owner, address, &self.endpoint.host);
        // An equal part of the time that is left for each address that is.
        let parts = u32::try_from(rest.len()).unwrap_or(u32::MAX).saturating_add(1);
        let (tls, deadline) = (hands.settings.tls.clone(), now.after(self.due.since(now) / parts));
        self.phase = Phase::Connecting { link, rest, tls, deadline };
        true
    }

    /// A connection with TLS is being made: it is not ready.
    pub(super) fn is_in_handshake(&self) -> bool {
        matches!(self.phase, Phase::Connecting { tls: Some(_), .. })
    }

    /// The connection stands: asks for the versions. `false`: it cannot.
    pub(super) fn connected(&mut self, link: LinkId, hands: &mut Hands, now: Monotonic) -> bool {
        match &mut self.phase {
            Phase::Connecting { link: awaited, tls, .. } if *awaited == link => {
                let mut connection = Box::new(Connection::new(link, self.silences));
                connection.standing.tls = tls.take();
                let asked = connection.ask_versions(API_VERSIONS, &hands.settings, now, &mut hands.effects);
                self.phase = Phase::Up(connection);
                asked
            }
            _ => true,
        }
    }

    /// The versions are settled.
    pub(super) fn settled(&mut self, versions: Versions) {
        if let Phase::Up(connection) = &mut self.phase {
            connection.settle(versions);
        }
    }

    /// Requests may follow: the lane is ready.
    pub(super) fn established(&mut self, hands: &mut Hands) {
        if let Phase::Up(connection) = &mut self.phase
            && !std::mem::replace(&mut connection.standing.is_established, true)
        {
            self.refused = None;
            hands.ready += 1;
            hands.tell_reachable();
        }
    }

    /// Lets go of whatever stands or is being made, and makes nothing before `until`. Returns the connection that
    /// stood, for what it owes; its `Close` is on its way.
    pub(super) fn down(&mut self, until: Monotonic, hands: &mut Hands) -> Option<Box<Connection>> {
        match std::mem::replace(&mut self.phase, Phase::Down(until)) {
            Phase::Down(_) => None,
            Phase::Resolving { ticket, .. } => {
                hands.tickets.remove(&ticket);
                None
            }
            Phase::Connecting { link, .. } => {
                hands.close(link);
                None
            }
            Phase::Up(connection) => {
                hands.close(connection.link);
                hands.ready -= usize::from(connection.standing.is_established);
                if let Some(ticket) = connection.standing.awaits() {
                    hands.tickets.remove(&ticket);
                }
                Some(connection)
            }
        }
    }

    /// How long to wait after one more failure, doubling.
    pub(super) fn failed(&mut self, hands: &mut Hands) -> std::time::Duration {
        let bounds = if self.refused.is_some() { hands.settings.refused() } else { hands.settings.reconnect() };
        self.backoff.next(bounds, &mut hands.rng)
    }

    /// The shortest wait, that does not count as a failure.
    pub(super) fn pause(hands: &mut Hands) -> std::time::Duration {
        jittered(hands.settings.reconnect_backoff_min, &mut hands.rng)
    }
}
