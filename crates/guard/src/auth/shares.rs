//! One user's use of the limits, on all shards together: connections, kept sessions, CONNECTs, messages and bytes in a second.
//! Counted only where `[auth.NAME.limits]` sets a bound; the table is locked when a client connects, when its connection or its
//! session ends, and when its will is published, and a read of such a client costs an atomic subtraction or two.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::limits::Limits;
use super::policy::Admission;
use forebay_runtime::seam::Monotonic;

use super::pace::Pace;

/// The number of stripes, each with a lock of its own.
const STRIPES: usize = 64;
/// The burst above a rate: the units of this time.
const BURST_NS: u64 = 1_000_000_000;
/// Users of a stripe that are never swept.
const SWEEP_MIN: usize = 64;

/// The owner of a share: a user of an `auth`, or the client identifier of an anonymous client.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Owner {
    auth: Box<str>,
    is_named: bool,
    name: Box<str>,
}

impl Owner {
    /// The owner of a client that has just been admitted.
    #[must_use]
    pub fn of(admission: &Admission, client_id: &str) -> Self {
        Self::new(admission.policy.name(), admission.identity.as_deref(), client_id)
    }

    /// A user of this `auth`, or the client identifier of an anonymous client.
    #[must_use]
    pub fn new(auth: &str, identity: Option<&str>, client_id: &str) -> Self {
        Self { auth: auth.into(), is_named: identity.is_some(), name: identity.unwrap_or(client_id).into() }
    }

    fn stripe(&self) -> usize {
        let mut hasher = DefaultHasher::new();
        self.hash(&mut hasher);
        (hasher.finish() % STRIPES as u64) as usize
    }
}

/// The rates of messages, bytes and CONNECTs.
#[derive(Debug, Default)]
struct Meter {
    messages: Pace,
    bytes: Pace,
    connects: Pace,
}

impl Meter {
    /// Charges messages and bytes. Returns the time of the next read, if not now.
    fn charge(&self, limits: &Limits, messages: usize, bytes: usize, now: Monotonic) -> Option<Monotonic> {
        let messages = charge(&self.messages, messages, u64::from(limits.messages_s), now);
        charge(&self.bytes, bytes, limits.bytes_s, now).max(messages)
    }

    /// The time of the next read, if not now.
    fn next(&self, limits: &Limits, now: Monotonic) -> Option<Monotonic> {
        let of = |pace: &Pace, rate: u64| if rate == 0 { None } else { pace.take(0, BURST_NS, now) };
        of(&self.messages, u64::from(limits.messages_s)).max(of(&self.bytes, limits.bytes_s))
    }

    /// Counts one more CONNECT. False: the rate is used up.
    fn connect(&self, limits: &Limits, now: Monotonic) -> bool {
        let Some(cost) = BURST_NS.checked_div(u64::from(limits.connects_s)) else { return true };
        let burst = BURST_NS.max(cost * u64::from(Limits::CONNECTS_AT_ONCE));
        self.connects.try_take(cost, burst, now)
    }

    /// Whether no rate is used up.
    fn is_idle(&self, now: Monotonic) -> bool {
        [&self.messages, &self.bytes, &self.connects].iter().all(|pace| !pace.is_used(now))
    }
}

/// One user's use.
#[derive(Debug, Default)]
struct Held {
    connections: u32,
    sessions: u32,
    meter: Arc<Meter>,
}

/// Takes `count` units of a rate per second. Returns the time at which there is room again, if not now.
fn charge(pace: &Pace, count: usize, rate: u64, now: Monotonic) -> Option<Monotonic> {
    if rate == 0 || count == 0 {
        return None;
    }
    let cost = u64::try_from(count as u128 * u128::from(BURST_NS) / u128::from(rate)).unwrap_or(u64::MAX);
    pace.take(cost, BURST_NS, now)
}

/// Users with a lock of their own.
#[derive(Debug, Default)]
struct Stripe {
    held: HashMap<Owner, Held>,
    /// The number of users at which those that hold nothing and have no rate used up are removed.
    sweep_at: usize,
}

impl Stripe {
    /// The use of a user, which may be nothing yet.
    fn of(&mut self, owner: &Owner, now: Monotonic) -> &mut Held {
        if self.held.len() >= self.sweep_at {
            let is_needed = |held: &Held| held.connections > 0 || held.sessions > 0 || !held.meter.is_idle(now);
            self.held.retain(|_, held| is_needed(held));
            self.sweep_at = (2 * self.held.len()).max(SWEEP_MIN);
        }
        self.held.entry(owner.clone()).or_default()
    }
}

/// All bounded users that hold something, or have used up some of their rates.
#[derive(Debug)]
pub struct Shares {
    stripes: [Mutex<Stripe>; STRIPES],
}

impl Default for Shares {
    fn default() -> Self {
        Self { stripes: std::array::from_fn(|_| Mutex::default()) }
    }
}

/// A bound that keeps a user from one more connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Full {
    /// The number of connections.
    Connections,
    /// The rate of CONNECTs.
    Connects,
}

/// A kept session, counted until this is dropped.
#[derive(Debug)]
pub struct Place {
    all: Arc<Shares>,
    owner: Owner,
}

/// The share of one connection; what it holds is given back when this is dropped.
#[derive(Debug)]
pub struct Share {
    all: Arc<Shares>,
    owner: Owner,
    limits: Limits,
    meter: Arc<Meter>,
}

impl Shares {
    fn stripe(&self, owner: &Owner) -> MutexGuard<'_, Stripe> {
        self.stripes[owner.stripe()].lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts one more connection, without the one that this one takes over.
    ///
    /// # Errors
    /// The bound that is reached.
    pub fn enter(
        self: &Arc<Self>,
        owner: Owner,
        limits: Limits,
        takes_over: bool,
        now: Monotonic,
    ) -> Result<Share, Full> {
        let mut stripe = self.stripe(&owner);
        let max = limits.connections.saturating_add(u32::from(takes_over));
        let held = stripe.of(&owner, now);
        if limits.connections > 0 && held.connections >= max {
            return Err(Full::Connections);
        }
        if !held.meter.connect(&limits, now) {
            return Err(Full::Connects);
        }
        held.connections += 1;
        let meter = Arc::clone(&held.meter);
        drop(stripe);
        Ok(Share { all: Arc::clone(self), owner, limits, meter })
    }

    /// Counts one more kept session. `None`: there are `max` already.
    pub fn keep(self: &Arc<Self>, owner: Owner, max: u32) -> Option<Place> {
        let mut stripe = self.stripe(&owner);
        if stripe.held.get(&owner).is_some_and(|held| held.sessions >= max) {
            return None;
        }
        stripe.held.entry(owner.clone()).or_default().sessions += 1;
        drop(stripe);
        Some(Place { all: Arc::clone(self), owner })
    }

    /// Charges a user for a message of this size that it published without a connection: a will. Its connections are not read
    /// until that is paid.
    pub fn charge(&self, owner: &Owner, limits: &Limits, bytes: usize, now: Monotonic) {
        let _ = self.stripe(owner).of(owner, now).meter.charge(limits, 1, bytes, now);
    }

    /// Takes back an owner's use. The used part of its rates stays until its time is over: an owner that returns goes on from there.
    fn leave(&self, owner: &Owner, what: impl Fn(&mut Held)) {
        let mut stripe = self.stripe(owner);
        if let Some(held) = stripe.held.get_mut(owner) {
            what(held);
            // Without a clock, only a meter that was never used is known to be idle.
            if held.connections == 0 && held.sessions == 0 && held.meter.is_idle(Monotonic(0)) {
                stripe.held.remove(owner);
            }
        }
    }
}

impl Share {
    /// The share's owner.
    #[must_use]
    pub fn owner(&self) -> &Owner {
        &self.owner
    }

    /// Charges messages and bytes. Returns the time of the next read, if not now.
    #[must_use]
    pub fn charge(&self, messages: usize, bytes: usize, now: Monotonic) -> Option<Monotonic> {
        self.meter.charge(&self.limits, messages, bytes, now)
    }

    /// The time of the next read, if not now.
    #[must_use]
    pub fn next(&self, now: Monotonic) -> Option<Monotonic> {
        self.meter.next(&self.limits, now)
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.all.leave(&self.owner, |held| held.connections -= 1);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.all.leave(&self.owner, |held| held.sessions -= 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owner(name: &str) -> Owner {
        Owner { auth: "devices".into(), is_named: true, name: name.into() }
    }

    /// X52: connections of a user, on all shards.
    #[test]
    fn connections_are_counted_to_their_bound_and_given_back() {
        let all = Arc::new(Shares::default());
        let limits = Limits { connections: 2, ..Limits::default() };
        let enter = |name: &str, takes_over| all.enter(owner(name), limits, takes_over, Monotonic(1)).ok();
        let (one, two) = (enter("ada", false), enter("ada", false));
        assert!(one.is_some() && two.is_some() && enter("ada", false).is_none());
        // A device that reconnects while its old connection is still open is admitted.
        assert!(enter("ada", true).is_some());
        let other = Owner { is_named: false, ..owner("ada") };
        assert!(enter("bob", false).is_some() && all.enter(other, limits, false, Monotonic(1)).is_ok());
        drop(one);
        assert!(enter("ada", false).is_some());
        drop(two);
        assert!(
            all.stripes.iter().all(|stripe| stripe.lock().unwrap().held.is_empty()),
            "no entry is left without a connection"
        );
    }

    /// X52: kept sessions of a user.
    #[test]
    fn kept_sessions_are_counted_beside_connections() {
        let all = Arc::new(Shares::default());
        let limits = Limits { connections: 1, sessions: 2, ..Limits::default() };
        let enter = |name: &str| all.enter(owner(name), limits, false, Monotonic(1)).ok();
        let connection = enter("ada");
        let (one, two) = (all.keep(owner("ada"), 2), all.keep(owner("ada"), 2));
        assert!(one.is_some() && two.is_some() && all.keep(owner("ada"), 2).is_none());
        assert!(all.keep(owner("bob"), 2).is_some() && all.keep(owner("ada"), 3).is_some());
        drop((one, connection));
        assert!(all.keep(owner("ada"), 2).is_some() && enter("ada").is_some());
        drop(two);
        assert!(
            all.stripes.iter().all(|stripe| stripe.lock().unwrap().held.is_empty()),
            "nothing is kept of users that have gone"
        );
    }

    /// X53, X56: one rate for all connections of a user.
    #[test]
    fn a_user_keeps_to_its_rate_whichever_connections_it_uses() {
        let all = Arc::new(Shares::default());
        let limits = Limits { messages_s: 100, bytes_s: 1_000, ..Limits::default() };
        let start = Monotonic(9_000_000_000);
        let enter = || all.enter(owner("ada"), limits, false, start).unwrap();
        let (a, b) = (enter(), enter());
        let (mut now, mut sent) = (start, 0);
        while now.0 < start.0 + 10_000_000_000 {
            for share in [&a, &b] {
                sent += 5;
                now = share.charge(5, 10, now).map_or(now, |until| until.max(now));
            }
        }
        // One second's burst, and the last read before the pause.
        assert!((1_000..=1_110).contains(&sent), "{sent} messages in 10 s at 100 a second");
        // Bytes are bounded, too: 5,000 at once wait for four seconds.
        now = now.after(std::time::Duration::from_secs(3600));
        let until = a.charge(1, 5_000, now).expect("too many");
        assert_eq!(until.since(now).as_secs(), 4);
        let free = all.enter(owner("bob"), Limits { connections: 1, ..Limits::default() }, false, now).unwrap();
        assert_eq!(free.charge(1_000_000, usize::MAX, now), None);
    }

    /// Finding S3, S8: a client that reconnects still has its debt, for the same time.
    #[test]
    fn finding_s3_s8_a_new_connection_is_no_new_rate() {
        const S: u64 = 1_000_000_000;
        let all = Arc::new(Shares::default());
        let limits = Limits { messages_s: 10, connects_s: 10, ..Limits::default() };
        let (mut sent, mut connects) = (0, 0);
        for ms in 0..10_000 {
            let now = Monotonic(9 * S + ms * 1_000_000);
            if let Ok(share) = all.enter(owner("ada"), limits, false, now) {
                connects += 1;
                // The device waits until it is read again.
                if share.charge(0, 0, now).is_none() && share.meter.messages.try_take(S / 10, S, now) {
                    sent += 1;
                }
                // This client leaves a will each time.
                all.charge(&owner("bob"), &limits, 1, now);
            }
        }
        assert!((100..=111).contains(&connects) && (100..=111).contains(&sent), "{connects}, {sent} in 10 s");
        let bob = all.enter(owner("bob"), limits, false, Monotonic(19 * S)).unwrap();
        assert!(bob.charge(5, 1, Monotonic(19 * S)).is_some(), "its wills are paid by its connections");
        drop(bob);
        // A debt that is paid is forgotten.
        let held = |all: &Shares| all.stripes.iter().map(|stripe| stripe.lock().unwrap().held.len()).sum::<usize>();
        for number in 0..200_000 {
            let now = Monotonic(20 * S + number * 10 * S);
            drop(all.enter(owner(&number.to_string()), limits, false, now).unwrap());
        }
        assert!(held(&all) <= STRIPES * (SWEEP_MIN + 1), "{}", held(&all));
    }
}
