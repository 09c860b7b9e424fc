//! A channel: the way to one endpoint, whether a connection stands or not. Resolving, connecting through the addresses one
//! after the other, logging in, and waiting after a failure.

use std::net::SocketAddr;
use std::sync::Arc;
use std::vec::IntoIter;

use super::{Backoff, Bounds, Connected, Effect, Endpoint, LinkId, LoginRefused, News, Settings, Shared, jittered};
use crate::runtime::seam::Monotonic;
use crate::secure::Outgoing;

/// Where a channel stands.
#[derive(Debug)]
enum Phase<C> {
    /// No connection, none in the making; none is to be made before this instant.
    Down(Monotonic),
    Resolving {
        ticket: u64,
    },
    Connecting {
        link: LinkId,
        /// Addresses that are left to try.
        rest: IntoIter<SocketAddr>,
        tls: Option<Arc<Outgoing>>,
        deadline: Monotonic,
    },
    /// The connection stands; its login may not be over yet.
    Up {
        link: LinkId,
        connection: Box<C>,
        is_established: bool,
    },
}

/// A channel.
#[derive(Debug)]
pub struct Channel<C: Connected> {
    owner: C::Owner,
    /// Where it goes to at its next connection.
    pub endpoint: Endpoint,
    phase: Phase<C>,
    /// When the attempt at hand has to have come to a connection that is of use.
    due: Monotonic,
    /// Attempts that have failed.
    pub backoff: Backoff,
    /// Connections closed for their silence since one was last of use.
    pub silences: u32,
    /// What was refused last: what is tried again is tried more rarely, and an event of its own has told of it.
    pub refused: Option<Refused>,
    /// Why TLS failed when that was told last. An attempt with settings from before a change may fail after it.
    told: String,
}

/// What an operator has to change before an endpoint can be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// The login, by the peer.
    Login,
    /// The TLS connection, by either side.
    Tls,
}

impl<C: Connected> Channel<C> {
    /// A channel without a connection.
    pub fn new(owner: C::Owner, endpoint: Endpoint) -> Self {
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

    /// When a connection may be made; `NEVER` if one stands or is being made.
    pub fn dial_at(&self) -> Monotonic {
        match self.phase {
            Phase::Down(until) => until,
            _ => Monotonic::NEVER,
        }
    }

    /// Starts towards the endpoint.
    pub fn dial(&mut self, shared: &mut Shared<C>, now: Monotonic) {
        self.due = now.after(shared.settings.as_ref().connect_timeout);
        match self.endpoint.literal() {
            Some(address) => {
                self.try_next(vec![address].into_iter(), shared, now);
            }
            None => {
                let (host, port) = (self.endpoint.host.to_string(), self.endpoint.port);
                let ticket = shared.ask(self.owner, |ticket| Effect::Resolve { ticket, host, port });
                self.phase = Phase::Resolving { ticket };
            }
        }
    }

    /// The name was resolved, or was not.
    ///
    /// # Errors
    /// Why there is no address to try.
    pub fn resolved(
        &mut self,
        ticket: u64,
        found: Result<Vec<SocketAddr>, String>,
        shared: &mut Shared<C>,
        now: Monotonic,
    ) -> Result<(), String> {
        let is_awaited = matches!(self.phase, Phase::Resolving { ticket: awaited } if awaited == ticket);
        if !is_awaited || self.try_next(found?.into_iter(), shared, now) {
            return Ok(());
        }
        Err("the host name has no address".to_owned())
    }

    /// The address at hand did not work: goes on to the next one. `false`: there is none.
    pub fn next_address(&mut self, shared: &mut Shared<C>, now: Monotonic) -> bool {
        let Phase::Connecting { rest, .. } = &mut self.phase else { return false };
        let rest = std::mem::take(rest);
        shared.let_go(self.owner);
        self.try_next(rest, shared, now)
    }

    fn try_next(&mut self, mut rest: IntoIter<SocketAddr>, shared: &mut Shared<C>, now: Monotonic) -> bool {
        let Some(address) = rest.next() else { return false };
        let link = shared.connect(self.owner, address, &self.endpoint.host);
        // An equal part of the time that is left for each address that is.
        let parts = u32::try_from(rest.len()).unwrap_or(u32::MAX).saturating_add(1);
        let deadline = now.after(self.due.since(now) / parts);
        self.phase = Phase::Connecting { link, rest, tls: shared.settings.as_ref().tls.clone(), deadline };
        true
    }

    /// The connection stands, and its TLS where it has that: the protocol may begin. `None`: it is not the one that is awaited.
    pub fn connected(&mut self, link: LinkId) -> Option<&mut C> {
        let Phase::Connecting { link: awaited, tls, .. } = &mut self.phase else { return None };
        if *awaited != link {
            return None;
        }
        let connection = Box::new(C::begin(link, tls.take(), self.silences));
        self.phase = Phase::Up { link, connection, is_established: false };
        self.connection()
    }

    /// The protocol has logged in: requests may follow.
    pub fn established(&mut self, shared: &mut Shared<C>) {
        if let Phase::Up { is_established, .. } = &mut self.phase
            && !std::mem::replace(is_established, true)
        {
            self.refused = None;
            shared.established += 1;
            if !std::mem::replace(&mut shared.reachable, true) {
                shared.event(News::Reachable(true));
            }
        }
    }

    /// It is of use: the peer answered what it was there for.
    pub fn works(&mut self, shared: &mut Shared<C>) {
        self.backoff.reset();
        self.silences = 0;
        shared.trouble_over(|endpoint| *endpoint == self.endpoint);
    }

    /// The connection, established or not.
    pub fn connection(&mut self) -> Option<&mut C> {
        match &mut self.phase {
            Phase::Up { connection, .. } => Some(connection),
            _ => None,
        }
    }

    /// The connection, where it is established.
    pub fn ready(&mut self) -> Option<&mut C> {
        match &mut self.phase {
            Phase::Up { connection, is_established: true, .. } => Some(connection),
            _ => None,
        }
    }

    /// The connection, where it is established.
    pub fn ready_ref(&self) -> Option<&C> {
        match &self.phase {
            Phase::Up { connection, is_established: true, .. } => Some(connection),
            _ => None,
        }
    }

    /// Whether its connection stands, and nothing is asked on it.
    pub fn is_idle(&self) -> bool {
        self.ready_ref().is_some_and(C::is_idle)
    }

    /// Whether it need mean nothing that a peer ends the connection that stands: it was idle, or was of use since another one
    /// failed.
    pub fn is_lost_by_chance(&self) -> bool {
        self.ready_ref().is_some_and(|connection| connection.is_idle() || self.backoff.is_fresh())
    }

    /// When the step at hand has taken too long.
    pub fn deadline(&self) -> Monotonic {
        match &self.phase {
            Phase::Down(_) => Monotonic::NEVER,
            Phase::Resolving { .. } => self.due,
            Phase::Connecting { deadline, .. } => *deadline,
            Phase::Up { connection, is_established: false, .. } => connection.deadline().min(self.due),
            Phase::Up { connection, .. } => connection.deadline(),
        }
    }

    /// Which step that is.
    pub fn overdue(&self) -> &'static str {
        match &self.phase {
            Phase::Down(_) | Phase::Resolving { .. } => "the name was not resolved in time",
            Phase::Connecting { tls: Some(_), .. } => "no connection, or no answer to the TLS handshake, in time",
            Phase::Connecting { .. } => "no connection in time",
            Phase::Up { connection, .. } => connection.overdue(),
        }
    }

    /// The step at hand is overdue. Whether that is a connection's silence, while none of its bytes move.
    pub fn is_silent(&mut self, unacked: impl Fn(LinkId) -> usize, shared: &mut Shared<C>, now: Monotonic) -> bool {
        let Phase::Up { link, connection, is_established } = &mut self.phase else { return true };
        // The time for connecting is that of the whole attempt, whatever moves.
        let is_over = !*is_established && self.due <= now;
        if !is_over && connection.is_moving(unacked(*link), now) {
            return false;
        }
        self.silences = self.silences.saturating_add(1);
        shared.stats.replaced += 1;
        true
    }

    /// TLS came to nothing. That is news the first time in a row, and for another reason than before.
    pub fn tls_failed(&mut self, why: &str, shared: &mut Shared<C>) {
        shared.stats.tls_failures += 1;
        let is_first = self.refused.replace(Refused::Tls) != Some(Refused::Tls);
        if is_first || self.told != why {
            why.clone_into(&mut self.told);
            shared.is_new_trouble(&self.endpoint);
            shared.event(News::TlsFailed(self.endpoint.to_string(), why.to_owned()));
        }
    }

    /// The login came to nothing. That is news the first time in a row.
    pub fn login_refused(&mut self, login: LoginRefused, shared: &mut Shared<C>) {
        shared.stats.logins_refused += 1;
        if self.refused.replace(Refused::Login) != Some(Refused::Login) {
            shared.is_new_trouble(&self.endpoint);
            shared.event(News::LoginRefused(login));
        }
    }

    /// One more failure: lets go of whatever stands or is being made, and waits longer than the last time. Returns the connection
    /// that stood, for what it owes.
    pub fn fail(&mut self, shared: &mut Shared<C>, now: Monotonic) -> Option<Box<C>> {
        let by: &Settings = shared.settings.as_ref();
        let max = if self.refused.is_some() { by.refused_backoff_max.max(by.backoff_max) } else { by.backoff_max };
        let wait = self.backoff.next(Bounds { min: by.backoff_min, max }, &mut shared.rng);
        self.down(now.after(wait), shared)
    }

    /// The same for what does not count as a failure: waits as short as possible.
    pub fn pause(&mut self, shared: &mut Shared<C>, now: Monotonic) -> Option<Box<C>> {
        let wait = jittered(shared.settings.as_ref().backoff_min, &mut shared.rng);
        self.down(now.after(wait), shared)
    }

    /// The same, and makes nothing before `until`.
    pub fn down(&mut self, until: Monotonic, shared: &mut Shared<C>) -> Option<Box<C>> {
        shared.let_go(self.owner);
        match std::mem::replace(&mut self.phase, Phase::Down(until)) {
            Phase::Up { connection, is_established, .. } => {
                shared.established -= usize::from(is_established);
                Some(connection)
            }
            _ => None,
        }
    }

    /// Where it waits after a failure: not for longer than until `now`, and from the shortest wait on. What is refused from
    /// here on is news.
    pub fn retry_at(&mut self, now: Monotonic) {
        self.refused = None;
        if let Phase::Down(until) = &mut self.phase {
            *until = now.min(*until);
            self.backoff.reset();
        }
    }
}
