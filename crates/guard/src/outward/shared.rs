//! `Shared`: the state that the channels of one client share.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use super::{Connected, Effect, Endpoint, LinkId, News, Settings};

/// `Stats` counts results of connections.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Connections that failed: not made, closed by the peer, silent, or closed because of invalid bytes from the peer.
    pub failures: u64,
    /// Answers that could not be read; each closes its connection.
    pub malformed: u64,
    /// Answers with bytes after their end, which are ignored.
    pub with_extra: u64,
    /// Answers in which the peer asks for a pause.
    pub throttles: u64,
    /// Connections closed because no answer came in time.
    pub replaced: u64,
    /// Successful logins, including renewals.
    pub logins: u64,
    /// Logins that were refused, or in which the peer did not authenticate itself.
    pub logins_refused: u64,
    /// Connections that failed because of TLS.
    pub tls_failures: u64,
}

/// `Shared` is the state that the channels of one client share.
#[derive(Debug)]
pub struct Shared<C: Connected> {
    /// Settings of the client.
    pub settings: C::Settings,
    /// Effects that were not taken yet, in order.
    pub effects: Vec<Effect<C::Event>>,
    /// Source of the jitter.
    pub rng: fastrand::Rng,
    /// Counters.
    pub stats: Stats,
    links: BTreeMap<LinkId, C::Owner>,
    tickets: BTreeMap<u64, C::Owner>,
    next_link: u32,
    next_ticket: u64,
    /// Number of established connections.
    pub(super) established: usize,
    pub(super) reachable: bool,
    /// Endpoints that were reported as unusable.
    troubled: Vec<Endpoint>,
}

impl<C: Connected> Shared<C> {
    /// A state without connections. `seed` is for its jitter; clients should differ.
    pub fn new(settings: C::Settings, seed: u64) -> Self {
        Self {
            settings,
            effects: Vec::new(),
            rng: fastrand::Rng::with_seed(seed),
            stats: Stats::default(),
            links: BTreeMap::new(),
            tickets: BTreeMap::new(),
            next_link: 0,
            next_ticket: 0,
            established: 0,
            reachable: false,
            troubled: Vec::new(),
        }
    }

    /// Reports an event to the user of the client.
    pub fn event(&mut self, event: impl Into<C::Event>) {
        self.effects.push(Effect::Event(event.into()));
    }

    /// Owner of a connection; `None` for an abandoned one.
    pub fn owner(&self, link: LinkId) -> Option<C::Owner> {
        self.links.get(&link).copied()
    }

    /// Forgets a connection that has ended, and returns its owner.
    pub fn take_link(&mut self, link: LinkId) -> Option<C::Owner> {
        self.links.remove(&link)
    }

    /// Owner of a ticket that was answered. Each ticket is answered once.
    pub fn take_ticket(&mut self, ticket: u64) -> Option<C::Owner> {
        self.tickets.remove(&ticket)
    }

    /// Whether any connection can be used now.
    pub const fn is_connected(&self) -> bool {
        self.established > 0
    }

    /// Notes a failed attempt. The end of a connection is not one: the attempt to replace it shows whether a connection
    /// can be made.
    pub fn tell_unreachable(&mut self) {
        if !self.is_connected() && std::mem::take(&mut self.reachable) {
            self.event(News::Reachable(false));
        }
    }

    /// Notes an endpoint that cannot be used. `true`: this was not reported before.
    pub fn is_new_trouble(&mut self, endpoint: &Endpoint) -> bool {
        let is_new = !self.troubled.contains(endpoint);
        if is_new {
            self.troubled.push(endpoint.clone());
        }
        is_new
    }

    /// Reports the endpoints that `over` selects as usable again.
    pub fn trouble_over(&mut self, over: impl Fn(&Endpoint) -> bool) {
        let effects = &mut self.effects;
        self.troubled.retain(|endpoint| {
            let is_over = over(endpoint);
            if is_over {
                effects.push(Effect::Event(News::BrokerReachable(endpoint.to_string()).into()));
            }
            !is_over
        });
    }

    /// Requests an effect for a channel. Returns the ticket of the answer.
    pub fn ask(&mut self, owner: C::Owner, effect: impl FnOnce(u64) -> Effect<C::Event>) -> u64 {
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        self.tickets.insert(ticket, owner);
        self.effects.push(effect(ticket));
        ticket
    }

    pub(super) fn connect(&mut self, owner: C::Owner, to: SocketAddr, host: &str) -> LinkId {
        let link = LinkId(self.next_link);
        self.next_link += 1;
        self.links.insert(link, owner);
        let by: &Settings = self.settings.as_ref();
        let layer = by.tls.as_ref().map(|tls| tls.layer(host));
        self.effects.push(Effect::Connect { link, to, layer });
        link
    }

    /// Closes the connection of a channel, unless it has ended, and forgets its tickets.
    pub(super) fn let_go(&mut self, owner: C::Owner) {
        self.tickets.retain(|_, of| *of != owner);
        let effects = &mut self.effects;
        self.links.retain(|link, of| {
            let is_let_go = *of == owner;
            if is_let_go {
                effects.push(Effect::Close { link: *link });
            }
            !is_let_go
        });
    }
}
