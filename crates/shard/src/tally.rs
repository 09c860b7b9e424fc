//! The number of connections at a listener and from an address, on all shards together: updated when a connection is accepted and when it ends, not when it
//! moves.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use forebay_base::address::Address;
use forebay_config::LISTENER_PLACES_MAX;
use forebay_guard::auth::Pace;
use forebay_runtime::seam::{ListenerId, Monotonic};

/// Parts of the tables, each with a lock of its own.
const STRIPES: usize = 64;

/// The burst that a listener may accept at once, above its rate, as the time in which that many come at the rate.
const BURST_NS: u64 = 100_000_000;
/// The interval at which an exceeded pace is reported.
const TELL_EVERY: Duration = Duration::from_secs(60);
/// The time for which failures of an address count, and for which it is then not accepted.
pub(super) const FAILURES_IN: Duration = Duration::from_secs(60);
/// Addresses with counted failures in each stripe, at most.
const FAILURES_MAX: usize = 1_024;

/// The stripe of an address. Neighbours are in different ones.
fn stripe(address: Address) -> usize {
    (address.number() % STRIPES as u64) as usize
}

/// Connections and failures by listener and address.
#[derive(Debug)]
pub struct Tally {
    listeners: Box<[AtomicU32]>,
    addresses: [Mutex<HashMap<Address, u32>>; STRIPES],
    /// The pace of each listener with a rate, and the time at which its excess was last reported.
    paces: Box<[(Pace, AtomicU64)]>,
    /// Failures to log in, and the time from which they are counted.
    failures: [Mutex<HashMap<Address, (u32, Monotonic)>>; STRIPES],
}

/// A connection beyond a listener's rate, with the time at which the next is accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Paced {
    pub(super) until: Monotonic,
    /// Whether the excess was not reported for a while.
    pub(super) is_news: bool,
}

impl Default for Tally {
    fn default() -> Self {
        let listeners = (0..LISTENER_PLACES_MAX).map(|_| AtomicU32::new(0)).collect();
        let paces = (0..LISTENER_PLACES_MAX).map(|_| Default::default()).collect();
        let addresses = std::array::from_fn(|_| Mutex::default());
        Self { listeners, addresses, paces, failures: std::array::from_fn(|_| Mutex::default()) }
    }
}

impl Tally {
    /// Counts one more connection at a listener. False, and not counted: there are `max`. 0: there is no bound.
    pub(super) fn enter(&self, listener: ListenerId, max: u32) -> bool {
        let Some(count) = self.listeners.get(usize::from(listener.0)) else { return true };
        let before = count.fetch_add(1, Ordering::Relaxed);
        let is_full = max > 0 && before >= max;
        if is_full {
            count.fetch_sub(1, Ordering::Relaxed);
        }
        !is_full
    }

    /// Counts one connection less at a listener, and of an address if it was counted.
    pub(super) fn leave(&self, listener: ListenerId, address: Option<Address>) {
        if let Some(count) = self.listeners.get(usize::from(listener.0)) {
            count.fetch_sub(1, Ordering::Relaxed);
        }
        if let Some(address) = address {
            self.leave_address(address);
        }
    }

    /// Counts one more connection of a listener that may accept `rate` a second, all shards together. `None`: the next may be accepted at once.
    pub(super) fn pace(&self, listener: ListenerId, rate: u32, now: Monotonic) -> Option<Paced> {
        let (pace, told) = self.paces.get(usize::from(listener.0))?;
        let each = 1_000_000_000 / u64::from(rate.max(1));
        let until = pace.take(each, BURST_NS.max(each), now)?;
        let last = told.load(Ordering::Relaxed);
        let is_due = last == 0 || now.since(Monotonic(last)) >= TELL_EVERY;
        let is_news = is_due && told.compare_exchange(last, now.0, Ordering::Relaxed, Ordering::Relaxed).is_ok();
        Some(Paced { until, is_news })
    }

    /// Counts one more failure of an address. True: with it there are `max`.
    pub(super) fn fail(&self, address: Address, max: u32, now: Monotonic) -> bool {
        let mut stripe = self.failures[stripe(address)].lock().unwrap_or_else(PoisonError::into_inner);
        if stripe.len() >= FAILURES_MAX && !stripe.contains_key(&address) {
            stripe.retain(|_, (_, since)| now.since(*since) < FAILURES_IN);
            if stripe.len() >= FAILURES_MAX
                && let Some(oldest) = stripe.iter().min_by_key(|(_, (_, since))| *since).map(|(address, _)| *address)
            {
                stripe.remove(&oldest);
            }
        }
        let (count, since) = stripe.entry(address).or_insert((0, now));
        if now.since(*since) >= FAILURES_IN {
            (*count, *since) = (0, now);
        }
        *count = count.saturating_add(1);
        *count == max
    }

    /// Whether an address has failed as often as it may within [`FAILURES_IN`].
    pub(super) fn has_failed(&self, address: Address, max: u32, now: Monotonic) -> bool {
        let mut stripe = self.failures[stripe(address)].lock().unwrap_or_else(PoisonError::into_inner);
        let Some((count, since)) = stripe.get(&address) else { return false };
        if now.since(*since) >= FAILURES_IN {
            stripe.remove(&address);
            return false;
        }
        *count >= max
    }

    /// Counts one more connection of an address. False, and not counted: there are `max`.
    pub(super) fn enter_address(&self, address: Address, max: u32) -> bool {
        let mut stripe = self.addresses[stripe(address)].lock().unwrap_or_else(PoisonError::into_inner);
        let count = stripe.entry(address).or_default();
        let is_full = *count >= max;
        *count += u32::from(!is_full);
        if *count == 0 {
            stripe.remove(&address);
        }
        !is_full
    }

    fn leave_address(&self, address: Address) {
        let mut stripe = self.addresses[stripe(address)].lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = stripe.get_mut(&address) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                stripe.remove(&address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network_of(number: u64) -> Address {
        Address::of(std::net::Ipv6Addr::from_bits(u128::from(number) << 64).into())
    }

    /// X47, X50: connections of a listener and of an address.
    #[test]
    fn listeners_and_addresses_are_counted_to_their_bounds() {
        let tally = Tally::default();
        let (first, second) = (ListenerId(0), ListenerId(1));
        assert!(tally.enter(first, 2) && tally.enter(first, 2) && !tally.enter(first, 2));
        assert!(tally.enter(second, 2) && tally.enter(first, 0));
        tally.leave(first, None);
        tally.leave(first, None);
        assert!(tally.enter(first, 2) && !tally.enter(first, 2));
        let address = Address::of([192, 0, 2, 1].into());
        assert!(tally.enter_address(address, 1) && !tally.enter_address(address, 1));
        tally.leave_address(address);
        assert!(tally.enter_address(address, 1));
        tally.leave_address(address);
        assert!(
            tally.addresses.iter().all(|stripe| stripe.lock().unwrap().is_empty()),
            "nothing is kept of an address without connections"
        );
    }

    /// X47: the sum of all shards keeps to the rate.
    #[test]
    fn a_listener_keeps_to_its_rate_whichever_shards_accept() {
        let tally = Tally::default();
        let (listener, mut now) = (ListenerId(3), Monotonic(77_000_000_000));
        let start = now;
        let mut accepted = 0;
        while now.since(start) < Duration::from_secs(10) {
            accepted += 1;
            if let Some(paced) = tally.pace(listener, 50, now) {
                assert_eq!(paced.is_news, accepted == 6, "told once a minute");
                now = paced.until;
            }
        }
        assert!((500..=510).contains(&accepted), "{accepted} in 10 s at 50 a second");
        assert!(tally.pace(ListenerId(4), 50, now).is_none(), "each listener has its own");
        // A tenth of a second's worth is accepted at once after a rest, no more.
        now = now.after(Duration::from_secs(3600));
        let at_once = (0..100).take_while(|_| tally.pace(listener, 50, now).is_none()).count();
        assert_eq!(at_once, 5);
        // A rate below ten a second lets one come at once.
        assert!(tally.pace(ListenerId(5), 1, now).is_none());
        let paced = tally.pace(ListenerId(5), 1, now).map(|paced| paced.until.since(now));
        assert_eq!(paced, Some(Duration::from_secs(1)));
    }

    /// X50, X59: failed logins of an address; the table has a bound.
    #[test]
    fn failures_of_an_address_count_for_a_minute_and_are_bounded() {
        let tally = Tally::default();
        let (address, now) = (Address::of([192, 0, 2, 1].into()), Monotonic(5_000_000_000));
        assert!(!tally.fail(address, 2, now) && !tally.has_failed(address, 2, now));
        assert!(tally.fail(address, 2, now) && tally.has_failed(address, 2, now));
        assert!(!tally.fail(address, 2, now), "told once");
        assert!(!tally.has_failed(Address::of([192, 0, 2, 2].into()), 2, now));
        let later = now.after(FAILURES_IN);
        assert!(!tally.has_failed(address, 2, later) && !tally.fail(address, 2, later));
        // More addresses than are kept, all in one stripe: the oldest go.
        for network in 0..2 * FAILURES_MAX as u64 {
            tally.fail(network_of(network * STRIPES as u64), 2, later.after(Duration::from_nanos(network)));
        }
        assert_eq!(tally.failures[0].lock().unwrap().len(), FAILURES_MAX);
        assert!(!tally.failures[0].lock().unwrap().contains_key(&network_of(0)));
    }
}
