//! Connections to the control plane: their limits and time-outs. Anyone who reaches the port can open connections, without a token; such connections must
//! not take the descriptors of devices, nor keep probes out.
//!
//! At the limit, the connection idle for longest of the address with most connections is closed: a probe is always admitted, unless all other connections
//! are being answered.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::task::AbortHandle;
use tokio::time::Instant;

use forebay_base::address::Address;
use forebay_metrics::collector::{Extra, Number};
use forebay_metrics::spec::{Kind, Spec};

/// Limit of connections, where there are descriptors for them.
pub const CONNECTIONS_MAX: usize = 256;
/// Limit of connections of one address: this machine counts as one, and so does a proxy.
const OF_ADDRESS_MAX: usize = 64;
/// Time-out for a request's head, and for a handshake.
const HEAD_MAX: Duration = Duration::from_secs(10);
/// Time-out between requests, and for lack of progress while an answer is sent.
const IDLE_MAX: Duration = Duration::from_secs(60);
/// A deadline that is never reached.
const NEVER: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// Metrics of the connections.
pub const NUMBERS: [Spec; 13] = [
    Spec {
        name: "control_connections",
        label: None,
        help: "Open connections to the control address.",
        kind: Kind::Gauge,
    },
    Spec { name: "control_connections_max", label: None, help: "How many there may be.", kind: Kind::Gauge },
    Spec {
        name: "control_connections_closed",
        label: Some(("reason", "full")),
        help: "Connections to the control address that were closed: because others came and there was no room, or because they did \
               nothing for too long.",
        kind: Kind::Counter,
    },
    Spec { name: "control_connections_closed", label: Some(("reason", "timeout")), help: "", kind: Kind::Counter },
    Spec {
        name: "control_token_checks_refused",
        label: None,
        help: "Requests answered 429 because 16 others, or 4 of the same address, waited for an argon2id hash of `control.tokens_file`.",
        kind: Kind::Counter,
    },
    Spec {
        name: "control_requests_refused",
        label: Some(("reason", "no_token")),
        help: "Requests to the admin API that were refused: they had no token, a wrong one, one with the role read for a change, or came from \
               another machine or the page of another site where there is no `control.tokens_file`.",
        kind: Kind::Counter,
    },
    Spec { name: "control_requests_refused", label: Some(("reason", "wrong_token")), help: "", kind: Kind::Counter },
    Spec { name: "control_requests_refused", label: Some(("reason", "role")), help: "", kind: Kind::Counter },
    Spec { name: "control_requests_refused", label: Some(("reason", "foreign")), help: "", kind: Kind::Counter },
    Spec {
        name: "control_guessing_addresses",
        label: None,
        help: "Addresses that have sent wrong tokens to the admin API: at most 1,024, each for ten minutes after its last one.",
        kind: Kind::Gauge,
    },
    Spec {
        name: "control_guesses_refused",
        label: None,
        help: "Wrong tokens answered 429, without being looked at, because such an address waits: 1 s after its first, up to 30 s.",
        kind: Kind::Counter,
    },
    Spec {
        name: "control_test_clients",
        label: None,
        help: "MQTT clients of the dashboard that are connected: 16 at most.",
        kind: Kind::Gauge,
    },
    Spec {
        name: "control_test_clients_refused",
        label: None,
        help: "MQTT clients of the dashboard that were refused, since 16 others were connected.",
        kind: Kind::Counter,
    },
];

/// Limits of connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Bounds {
    pub(super) all: usize,
    pub(super) of_address: usize,
    pub(super) head: Duration,
    pub(super) idle: Duration,
}

/// Phase of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// A handshake or the head of a request.
    Head,
    /// Idle between requests.
    Waits,
    /// A request is being answered; since when the socket has taken no more of the answer, if it does not.
    Answers(Option<Instant>),
}

/// Phase of a connection, and since when.
#[derive(Debug)]
pub(super) struct Doing(Mutex<(Phase, Instant)>);

impl Doing {
    const fn begin(now: Instant) -> Self {
        Self(Mutex::new((Phase::Head, now)))
    }

    fn state(&self) -> MutexGuard<'_, (Phase, Instant)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Bytes have arrived.
    pub(super) fn hears(&self, now: Instant) {
        let mut state = self.state();
        if state.0 == Phase::Waits {
            *state = (Phase::Head, now);
        }
    }

    /// The request has been read, apart from its body.
    pub(super) fn answers(&self, now: Instant) {
        *self.state() = (Phase::Answers(None), now);
    }

    /// The answer is complete.
    pub(super) fn waits(&self, now: Instant) {
        *self.state() = (Phase::Waits, now);
    }

    /// Notes whether the socket took a part of the answer.
    pub(super) fn sends(&self, some: bool, now: Instant) {
        if let Phase::Answers(stuck) = &mut self.state().0 {
            *stuck = if some { None } else { Some(stuck.unwrap_or(now)) };
        }
    }

    /// Time at which the phase has taken too long.
    pub(super) fn due(&self, bounds: &Bounds) -> Instant {
        let (phase, since) = *self.state();
        match phase {
            Phase::Head => since + bounds.head,
            Phase::Waits => since + bounds.idle,
            Phase::Answers(Some(stuck)) => stuck + bounds.idle,
            Phase::Answers(None) => since + NEVER,
        }
    }

    /// Since when the connection could be closed without a loss; `None`: a request is being answered.
    fn spare(&self) -> Option<Instant> {
        let (phase, since) = *self.state();
        (!matches!(phase, Phase::Answers(_))).then_some(since)
    }
}

#[derive(Debug)]
struct Open {
    address: Address,
    doing: Arc<Doing>,
    /// Aborts the connection's task.
    end: Option<AbortHandle>,
}

/// All connections.
#[derive(Debug)]
pub struct Connections {
    pub(super) bounds: Bounds,
    open: Mutex<HashMap<u64, Open>>,
    last: AtomicU64,
    full: AtomicU64,
    timeout: AtomicU64,
}

/// A connection's place among the others, freed when dropped.
#[derive(Debug)]
pub(super) struct Place {
    connections: Arc<Connections>,
    number: u64,
    pub(super) doing: Arc<Doing>,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.connections.open().remove(&self.number);
    }
}

impl Connections {
    /// Limits of `max` connections, and no more than [`CONNECTIONS_MAX`].
    #[must_use]
    pub fn new(max: usize) -> Self {
        let all = max.min(CONNECTIONS_MAX);
        Self::bounded(Bounds { all, of_address: OF_ADDRESS_MAX.min(all), head: HEAD_MAX, idle: IDLE_MAX })
    }

    pub(super) fn bounded(bounds: Bounds) -> Self {
        Self {
            bounds,
            open: Mutex::default(),
            last: AtomicU64::new(0),
            full: AtomicU64::new(0),
            timeout: AtomicU64::new(0),
        }
    }

    fn open(&self) -> MutexGuard<'_, HashMap<u64, Open>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Admits an accepted connection. `None`: there is no room, and all others are being answered.
    pub(super) fn admit(self: &Arc<Self>, address: Address) -> Option<Place> {
        let has_room = self.make_room(address);
        if !has_room {
            self.full.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        let (number, doing) = (self.last.fetch_add(1, Ordering::Relaxed), Arc::new(Doing::begin(Instant::now())));
        self.open().insert(number, Open { address, doing: Arc::clone(&doing), end: None });
        Some(Place { connections: Arc::clone(self), number, doing })
    }

    fn make_room(&self, address: Address) -> bool {
        let of_address = self.open().values().filter(|open| open.address == address).count();
        if of_address >= self.bounds.of_address {
            return self.close_spare(Some(address));
        }
        self.open().len() < self.bounds.all || self.close_spare(None)
    }

    /// Closes the connection that has been idle for longest: of this address, or of the address with most idle connections.
    pub(super) fn close_spare(&self, of: Option<Address>) -> bool {
        let mut open = self.open();
        let mut waiting = HashMap::<Address, (usize, Instant, u64)>::new();
        for (number, one) in open.iter().filter(|(_, one)| of.is_none_or(|of| of == one.address)) {
            let Some(since) = one.doing.spare() else { continue };
            let known = waiting.entry(one.address).or_insert((0, since, *number));
            known.0 += 1;
            if since < known.1 {
                (known.1, known.2) = (since, *number);
            }
        }
        let most = waiting.into_values().max_by_key(|(count, since, _)| (*count, std::cmp::Reverse(*since)));
        let Some((_, _, number)) = most else { return false };
        // The connection's task frees the place later.
        if let Some(end) = open.remove(&number).and_then(|one| one.end) {
            end.abort();
        }
        self.full.fetch_add(1, Ordering::Relaxed);
        true
    }

    /// Registers the task of a connection, so that it can be aborted.
    pub(super) fn runs(&self, number: u64, end: AbortHandle) {
        if let Some(open) = self.open().get_mut(&number) {
            open.end = Some(end);
        }
    }

    pub(super) fn timed_out(&self) {
        self.timeout.fetch_add(1, Ordering::Relaxed);
    }
}

impl Place {
    pub(super) const fn number(&self) -> u64 {
        self.number
    }
}

impl Extra for Connections {
    fn read(&self) -> Vec<Number> {
        let open = self.open().len() as u64;
        let counted = [&self.full, &self.timeout].map(|count| count.load(Ordering::Relaxed));
        let values = [open, self.bounds.all as u64, counted[0], counted[1], super::tokens::checks_refused()];
        let values = values
            .into_iter()
            .chain(super::auth::requests_refused())
            .chain(super::guesses::numbers())
            .chain(super::test_client::numbers());
        NUMBERS.iter().zip(values).map(|(spec, value)| Number::of(spec, value)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: Bounds =
        Bounds { all: 4, of_address: 3, head: Duration::from_secs(10), idle: Duration::from_secs(60) };

    fn address(last: u8) -> Address {
        Address::of([192, 0, 2, last].into())
    }

    fn closed_when_full(connections: &Connections) -> f64 {
        connections.read()[2].value
    }

    /// Finding S4: a newcomer takes the place of an idle connection, and never of one that is being answered.
    #[test]
    fn finding_s4_what_waits_longest_makes_room() {
        let connections = Arc::new(Connections::bounded(BOUNDS));
        let admit = |last| connections.admit(address(last));
        let number = |place: &Option<Place>| place.as_ref().map(Place::number);
        let (first, second, third) = (admit(1), admit(1), admit(1));
        first.as_ref().unwrap().doing.answers(Instant::now());
        // Three connections are the address's share: the one idle for longest is closed, not the one that is being answered.
        let fourth = admit(1);
        let is_open = |place: &Option<Place>| connections.open().contains_key(&number(place).unwrap());
        assert!(is_open(&first) && !is_open(&second) && is_open(&third) && is_open(&fourth));
        // Another address gets the fourth place, and then one from the address with most connections.
        let other = admit(2);
        assert_eq!(connections.open().len(), 4);
        let newest = admit(3);
        assert!(is_open(&other) && !is_open(&third) && is_open(&newest));
        assert_eq!(closed_when_full(&connections), 2.0);
        // Places that are freed late count once.
        drop((second, third));
        assert_eq!(connections.open().len(), 4);
        // All connections are being answered: a newcomer is not admitted.
        for place in [&first, &fourth, &other, &newest] {
            place.as_ref().unwrap().doing.answers(Instant::now());
        }
        assert!(admit(4).is_none());
        drop(first);
        assert!(admit(4).is_some());
        drop((fourth, other, newest));
        assert_eq!(connections.open().len(), 0);
    }

    #[test]
    fn each_phase_has_its_time() {
        let begin = Instant::now();
        let after = |seconds| begin + Duration::from_secs(seconds);
        let doing = Doing::begin(begin);
        assert_eq!(doing.due(&BOUNDS), after(10));
        // Bytes do not extend the deadline.
        doing.hears(after(5));
        assert_eq!(doing.due(&BOUNDS), after(10));
        doing.answers(after(5));
        assert!(doing.due(&BOUNDS) > after(10_000));
        doing.sends(false, after(5));
        doing.sends(false, after(9));
        assert_eq!(doing.due(&BOUNDS), after(65));
        doing.sends(true, after(10));
        assert!(doing.due(&BOUNDS) > after(10_000));
        doing.waits(after(10));
        assert_eq!(doing.due(&BOUNDS), after(70));
        doing.hears(after(20));
        assert_eq!(doing.due(&BOUNDS), after(30));
    }
}
