//! `Channel`: the client side of one endpoint, with or without a connection. It resolves the name, connects to one address after the
//! other, logs in, and waits after a failure.

use std::net::SocketAddr;
use std::sync::Arc;
use std::vec::IntoIter;

use super::{Backoff, Bounds, Connected, Effect, Endpoint, LinkId, LoginRefused, News, Settings, Shared, jittered};
use crate::secure::Outgoing;
use forebay_runtime::seam::Monotonic;

/// `Phase` is the state of a channel.
#[derive(Debug)]
enum Phase<C> {
    /// No connection, and no attempt before this time.
    Down(Monotonic),
    Resolving {
        ticket: u64,
    },
    Connecting {
        link: LinkId,
        /// Addresses not tried yet.
        rest: IntoIter<SocketAddr>,
        tls: Option<Arc<Outgoing>>,
        deadline: Monotonic,
    },
    /// The connection is open; before `is_established` the protocol is logging in.
    Up {
        link: LinkId,
        connection: Box<C>,
        is_established: bool,
    },
}

/// `Channel` is the client side of one endpoint.
#[derive(Debug)]
pub struct Channel<C: Connected> {
    owner: C::Owner,
    /// Target of the next connection.
    pub endpoint: Endpoint,
    phase: Phase<C>,
    /// The time by which the current attempt must have led to an established connection.
    due: Monotonic,
    /// Backoff for consecutive failures.
    pub backoff: Backoff,
    /// Number of consecutive connections closed because the peer was silent.
    pub silences: u32,
    /// The refusal of the last attempt, which was reported; while there is one, attempts are less frequent.
    pub refused: Option<Refused>,
    /// The reason of the last reported failure of TLS. An attempt with old settings may still fail after they change.
    told: String,
}

/// `Refused` is a failure that an operator has to fix before an endpoint can be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// The peer refused the login.
    Login,
    /// Either side refused the TLS connection.
    Tls,
}

impl<C: Connected> Channel<C> {
    /// Makes a channel without a connection.
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

    /// When a connection may be made; `NEVER` if one is open or being made.
    pub fn dial_at(&self) -> Monotonic {
        match self.phase {
            Phase::Down(until) => until,
            _ => Monotonic::NEVER,
        }
    }

    /// Starts an attempt.
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

    /// Handles the answer to [`Effect::Resolve`]; the answer to another ticket is ignored.
    ///
    /// # Errors
    /// The reason why there is no address to try.
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

    /// Goes on to the next address, after this one failed. `false`: there is none.
    pub fn next_address(&mut self, shared: &mut Shared<C>, now: Monotonic) -> bool {
        let Phase::Connecting { rest, .. } = &mut self.phase else { return false };
        let rest = std::mem::take(rest);
        shared.let_go(self.owner);
        self.try_next(rest, shared, now)
    }

    fn try_next(&mut self, mut rest: IntoIter<SocketAddr>, shared: &mut Shared<C>, now: Monotonic) -> bool {
        let Some(address) = rest.next() else { return false };
        let link = shared.connect(self.owner, address, &self.endpoint.host);
        // Each remaining address has an equal part of the remaining time.
        let parts = u32::try_from(rest.len()).unwrap_or(u32::MAX).saturating_add(1);
        let deadline = now.after(self.due.since(now) / parts);
        self.phase = Phase::Connecting { link, rest, tls: shared.settings.as_ref().tls.clone(), deadline };
        true
    }

    /// Hands the connection to the protocol: socket and TLS are ready. `None`: another link than the awaited one.
    pub fn connected(&mut self, link: LinkId) -> Option<&mut C> {
        let Phase::Connecting { link: awaited, tls, .. } = &mut self.phase else { return None };
        if *awaited != link {
            return None;
        }
        let connection = Box::new(C::begin(link, tls.take(), self.silences));
        self.phase = Phase::Up { link, connection, is_established: false };
        self.connection()
    }

    /// Notes that the protocol has logged in: requests may follow.
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

    /// Notes that the peer has served its purpose: consecutive failures and silences end.
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

    /// The connection, if it is established.
    pub fn ready(&mut self) -> Option<&mut C> {
        match &mut self.phase {
            Phase::Up { connection, is_established: true, .. } => Some(connection),
            _ => None,
        }
    }

    /// The connection, if it is established.
    pub fn ready_ref(&self) -> Option<&C> {
        match &self.phase {
            Phase::Up { connection, is_established: true, .. } => Some(connection),
            _ => None,
        }
    }

    /// Whether the connection is established and no request is unanswered.
    pub fn is_idle(&self) -> bool {
        self.ready_ref().is_some_and(C::is_idle)
    }

    /// Whether the connection may have ended by chance: it was idle, or no attempt has failed since the channel last worked.
    pub fn is_lost_by_chance(&self) -> bool {
        self.ready_ref().is_some_and(|connection| connection.is_idle() || self.backoff.is_fresh())
    }

    /// When the current step has taken too long.
    pub fn deadline(&self) -> Monotonic {
        match &self.phase {
            Phase::Down(_) => Monotonic::NEVER,
            Phase::Resolving { .. } => self.due,
            Phase::Connecting { deadline, .. } => *deadline,
            Phase::Up { connection, is_established: false, .. } => connection.deadline().min(self.due),
            Phase::Up { connection, .. } => connection.deadline(),
        }
    }

    /// Names the current step, for a log.
    pub fn overdue(&self) -> &'static str {
        match &self.phase {
            Phase::Down(_) | Phase::Resolving { .. } => "the name was not resolved in time",
            Phase::Connecting { tls: Some(_), .. } => "no connection, or no answer to the TLS handshake, in time",
            Phase::Connecting { .. } => "no connection in time",
            Phase::Up { connection, .. } => connection.overdue(),
        }
    }

    /// Judges an overdue step. `false`: bytes of the connection still move, so it gets more time.
    pub fn is_silent(&mut self, unacked: impl Fn(LinkId) -> usize, shared: &mut Shared<C>, now: Monotonic) -> bool {
        let Phase::Up { link, connection, is_established } = &mut self.phase else { return true };
        // The time for connecting is that of the whole attempt, even if bytes move.
        let is_over = !*is_established && self.due <= now;
        if !is_over && connection.is_moving(unacked(*link), now) {
            return false;
        }
        self.silences = self.silences.saturating_add(1);
        shared.stats.replaced += 1;
        true
    }

    /// Notes a failure of TLS. The first consecutive one is reported, and one for another reason.
    pub fn tls_failed(&mut self, why: &str, shared: &mut Shared<C>) {
        shared.stats.tls_failures += 1;
        let is_first = self.refused.replace(Refused::Tls) != Some(Refused::Tls);
        if is_first || self.told != why {
            why.clone_into(&mut self.told);
            shared.is_new_trouble(&self.endpoint);
            shared.event(News::TlsFailed(self.endpoint.to_string(), why.to_owned()));
        }
    }

    /// Notes a refused login. The first consecutive one is reported.
    pub fn login_refused(&mut self, login: LoginRefused, shared: &mut Shared<C>) {
        shared.stats.logins_refused += 1;
        if self.refused.replace(Refused::Login) != Some(Refused::Login) {
            shared.is_new_trouble(&self.endpoint);
            shared.event(News::LoginRefused(login));
        }
    }

    /// Closes the connection, or ends the attempt, after a failure, and waits longer than the last time. Returns the connection with
    /// its unanswered requests.
    pub fn fail(&mut self, shared: &mut Shared<C>, now: Monotonic) -> Option<Box<C>> {
        let by: &Settings = shared.settings.as_ref();
        let max = if self.refused.is_some() { by.refused_backoff_max.max(by.backoff_max) } else { by.backoff_max };
        let wait = self.backoff.next(Bounds { min: by.backoff_min, max }, &mut shared.rng);
        self.down(now.after(wait), shared)
    }

    /// Like [`Channel::fail`], but without a failure, and with the shortest wait.
    pub fn pause(&mut self, shared: &mut Shared<C>, now: Monotonic) -> Option<Box<C>> {
        let wait = jittered(shared.settings.as_ref().backoff_min, &mut shared.rng);
        self.down(now.after(wait), shared)
    }

    /// Closes the connection, or ends the attempt; the next attempt is made at `until` or later.
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

    /// Ends the wait after a failure, and begins with the shortest one again, because settings have changed. The next refusal is
    /// reported.
    pub fn retry_at(&mut self, now: Monotonic) {
        self.refused = None;
        if let Phase::Down(until) = &mut self.phase {
            *until = now.min(*until);
            self.backoff.reset();
        }
    }
}
