//! What the channels of one client share: the way out, the names they give, and what is told of all of them.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use super::{Connected, Effect, Endpoint, LinkId, News, Settings};

/// What became of a client's connections so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Connections that failed: not made, closed by the peer, silent, or closed for what came on them.
    pub failures: u64,
    /// Answers that could not be read: each closes its connection.
    pub malformed: u64,
    /// Answers with bytes behind their end, which are passed over.
    pub with_extra: u64,
    /// Answers in which the peer wishes to be left alone for a while.
    pub throttles: u64,
    /// Connections closed because nothing came in time.
    pub replaced: u64,
    /// Logins that worked, renewals among them.
    pub logins: u64,
    /// Logins that were refused, or in which the peer did not prove itself.
    pub logins_refused: u64,
    /// Connections that came to nothing because of TLS.
    pub tls_failures: u64,
}

/// What the channels of one client share.
#[derive(Debug)]
pub struct Shared<C: Connected> {
    /// The client's settings.
    pub settings: C::Settings,
    /// What is to be done, in order.
    pub effects: Vec<Effect<C::Event>>,
    /// Jitter.
    pub rng: fastrand::Rng,
    /// What became of the connections.
    pub stats: Stats,
    links: BTreeMap<LinkId, C::Owner>,
    tickets: BTreeMap<u64, C::Owner>,
    next_link: u32,
    next_ticket: u64,
    /// Connections that are established.
    pub(super) established: usize,
    pub(super) reachable: bool,
    /// Endpoints that cannot be used, as was told.
    troubled: Vec<Endpoint>,
}

impl<C: Connected> Shared<C> {
    /// Without connections. `seed`: of the jitter; clients should differ.
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

    /// Tells whoever uses the client.
    pub fn event(&mut self, event: impl Into<C::Event>) {
        self.effects.push(Effect::Event(event.into()));
    }

    /// Whose connection this is; `None` for one that was given up.
    pub fn owner(&self, link: LinkId) -> Option<C::Owner> {
        self.links.get(&link).copied()
    }

    /// Whose connection this was, which is gone already and needs no closing.
    pub fn take_link(&mut self, link: LinkId) -> Option<C::Owner> {
        self.links.remove(&link)
    }

    /// Whose question this is that was answered. Each comes back once.
    pub fn take_ticket(&mut self, ticket: u64) -> Option<C::Owner> {
        self.tickets.remove(&ticket)
    }

    /// Whether any connection can be used now.
    pub const fn is_connected(&self) -> bool {
        self.established > 0
    }

    /// An attempt has failed. A connection that a peer ends is none: it is made again, and that shows whether one can be.
    pub fn tell_unreachable(&mut self) {
        if !self.is_connected() && std::mem::take(&mut self.reachable) {
            self.event(News::Reachable(false));
        }
    }

    /// An endpoint cannot be used. Whether nobody was told.
    pub fn is_new_trouble(&mut self, endpoint: &Endpoint) -> bool {
        let is_new = !self.troubled.contains(endpoint);
        if is_new {
            self.troubled.push(endpoint.clone());
        }
        is_new
    }

    /// Endpoints for which this holds are of use again, or gone.
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

    /// Has something done elsewhere for a channel. Returns the ticket of the answer.
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

    /// Closes the connection of a channel, unless it is gone already, and forgets what was asked for it.
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
