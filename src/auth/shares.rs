//! What one user may use, on all shards together: connections, kept sessions, messages and bytes in a second. Counted only where
//! `[auth.NAME.limits]` bounds it; the table is touched when a client connects and when its connection or its session
//! ends, and a read of such a client costs an atomic subtraction or two.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::{Arc, Mutex, PoisonError};

use super::limits::Limits;
use super::policy::Admission;
use crate::runtime::seam::Monotonic;

use super::pace::Pace;

/// Each has a lock of its own.
const STRIPES: usize = 64;
/// What may come at once, above a rate: what comes in so long.
const BURST_NS: u64 = 1_000_000_000;

/// Whose share it is: a user of an `auth`, or a client identifier of those without a name.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Owner {
    auth: Box<str>,
    is_named: bool,
    name: Box<str>,
}

impl Owner {
    /// Of a client that has just been admitted.
    #[must_use]
    pub fn of(admission: &Admission, client_id: &str) -> Self {
        Self::new(admission.policy.name(), admission.identity.as_deref(), client_id)
    }

    /// A user of this `auth`, or a client identifier of those without a name.
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

/// The rates of messages and bytes.
#[derive(Debug, Default)]
struct Meter {
    messages: Pace,
    bytes: Pace,
}

/// What one user has.
#[derive(Debug, Default)]
struct Held {
    connections: u32,
    sessions: u32,
    meter: Arc<Meter>,
}

/// Takes `count` of what may come `rate` times a second; when there is room again, if not now.
fn charge(pace: &Pace, count: usize, rate: u64, now: Monotonic) -> Option<Monotonic> {
    if rate == 0 || count == 0 {
        return None;
    }
    let cost = u64::try_from(count as u128 * 1_000_000_000 / u128::from(rate)).unwrap_or(u64::MAX);
    pace.take(cost, BURST_NS, now)
}

/// All that are bounded and hold something.
#[derive(Debug)]
pub struct Shares {
    stripes: [Mutex<HashMap<Owner, Held>>; STRIPES],
}

impl Default for Shares {
    fn default() -> Self {
        Self { stripes: std::array::from_fn(|_| Mutex::default()) }
    }
}

/// A kept session that is counted, for as long as this lives.
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
    /// One more connection. `None`: there are as many as may be, not counting one that this one takes over.
    pub fn enter(self: &Arc<Self>, owner: Owner, limits: Limits, takes_over: bool) -> Option<Share> {
        let mut stripe = self.stripes[owner.stripe()].lock().unwrap_or_else(PoisonError::into_inner);
        let max = limits.connections.saturating_add(u32::from(takes_over));
        let held = stripe.entry(owner.clone()).or_default();
        if limits.connections > 0 && held.connections >= max {
            return None;
        }
        held.connections += 1;
        let meter = Arc::clone(&held.meter);
        drop(stripe);
        Some(Share { all: Arc::clone(self), owner, limits, meter })
    }

    /// One more kept session. `None`: there are `max` already.
    pub fn keep(self: &Arc<Self>, owner: Owner, max: u32) -> Option<Place> {
        let mut stripe = self.stripes[owner.stripe()].lock().unwrap_or_else(PoisonError::into_inner);
        if stripe.get(&owner).is_some_and(|held| held.sessions >= max) {
            return None;
        }
        stripe.entry(owner.clone()).or_default().sessions += 1;
        drop(stripe);
        Some(Place { all: Arc::clone(self), owner })
    }

    /// Takes back what an owner has.
    fn leave(&self, owner: &Owner, what: impl Fn(&mut Held)) {
        let mut stripe = self.stripes[owner.stripe()].lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(held) = stripe.get_mut(owner) {
            what(held);
            if held.connections == 0 && held.sessions == 0 {
                stripe.remove(owner);
            }
        }
    }
}

impl Share {
    /// Whose it is.
    #[must_use]
    pub fn owner(&self) -> &Owner {
        &self.owner
    }

    /// So much has come. When the next may come, if not now.
    #[must_use]
    pub fn charge(&self, messages: usize, bytes: usize, now: Monotonic) -> Option<Monotonic> {
        let Limits { messages_s, bytes_s, .. } = self.limits;
        let messages = charge(&self.meter.messages, messages, u64::from(messages_s), now);
        charge(&self.meter.bytes, bytes, bytes_s, now).max(messages)
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
        let enter = |name: &str, takes_over| all.enter(owner(name), limits, takes_over);
        let (one, two) = (enter("ada", false), enter("ada", false));
        assert!(one.is_some() && two.is_some() && enter("ada", false).is_none());
        // A device that reconnects while its old connection is still open is admitted.
        assert!(enter("ada", true).is_some());
        let other = Owner { is_named: false, ..owner("ada") };
        assert!(enter("bob", false).is_some() && all.enter(other, limits, false).is_some());
        drop(one);
        assert!(enter("ada", false).is_some());
        drop(two);
        assert!(
            all.stripes.iter().all(|stripe| stripe.lock().unwrap().is_empty()),
            "no entry is left without a connection"
        );
    }

    /// X52: kept sessions of a user.
    #[test]
    fn kept_sessions_are_counted_beside_connections() {
        let all = Arc::new(Shares::default());
        let limits = Limits { connections: 1, sessions: 2, ..Limits::default() };
        let connection = all.enter(owner("ada"), limits, false);
        let (one, two) = (all.keep(owner("ada"), 2), all.keep(owner("ada"), 2));
        assert!(one.is_some() && two.is_some() && all.keep(owner("ada"), 2).is_none());
        assert!(all.keep(owner("bob"), 2).is_some() && all.keep(owner("ada"), 3).is_some());
        drop((one, connection));
        assert!(all.keep(owner("ada"), 2).is_some() && all.enter(owner("ada"), limits, false).is_some());
        drop(two);
        assert!(all.stripes.iter().all(|stripe| stripe.lock().unwrap().is_empty()), "nothing is kept of who has gone");
    }

    /// X53, X56: one rate for all connections of a user.
    #[test]
    fn a_user_keeps_to_its_rate_whichever_connections_it_uses() {
        let all = Arc::new(Shares::default());
        let limits = Limits { messages_s: 100, bytes_s: 1_000, ..Limits::default() };
        let (a, b) = (all.enter(owner("ada"), limits, false).unwrap(), all.enter(owner("ada"), limits, false).unwrap());
        let start = Monotonic(9_000_000_000);
        let (mut now, mut sent) = (start, 0);
        while now.0 < start.0 + 10_000_000_000 {
            for share in [&a, &b] {
                sent += 5;
                now = share.charge(5, 10, now).map_or(now, |until| until.max(now));
            }
        }
        // A second's worth at once, and the last read before the pause.
        assert!((1_000..=1_110).contains(&sent), "{sent} messages in 10 s at 100 a second");
        // Bytes bound, too: 5,000 at once wait for four seconds.
        now = now.after(std::time::Duration::from_secs(3600));
        let until = a.charge(1, 5_000, now).expect("too many");
        assert_eq!(until.since(now).as_secs(), 4);
        let free = all.enter(owner("bob"), Limits { connections: 1, ..Limits::default() }, false).unwrap();
        assert_eq!(free.charge(1_000_000, usize::MAX, now), None);
    }
}
