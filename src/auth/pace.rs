//! A rate that all shards keep together: one number, the time up to which it is used up.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::runtime::seam::Monotonic;

/// See the module. Each unit takes its time; after a rest, as many may come at once as come in the burst's time.
#[derive(Debug, Default)]
pub struct Pace(AtomicU64);

impl Pace {
    /// Takes units that need `cost_ns` nanoseconds together, with a burst in nanoseconds. Returns when the next may
    /// come, if not now.
    #[must_use]
    pub fn take(&self, cost_ns: u64, burst_ns: u64, now: Monotonic) -> Option<Monotonic> {
        let until = |used: u64| used.max(now.0).saturating_add(cost_ns);
        let before = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |used| Some(until(used)));
        let next = until(before.unwrap_or_else(|used| used)).saturating_sub(burst_ns);
        (next > now.0).then_some(Monotonic(next))
    }

    /// The same, but nothing is taken where that would have to wait: false.
    #[must_use]
    pub fn try_take(&self, cost_ns: u64, burst_ns: u64, now: Monotonic) -> bool {
        let until = |used: u64| used.max(now.0).saturating_add(cost_ns);
        let taken = |used| Some(until(used)).filter(|until| until.saturating_sub(burst_ns) <= now.0);
        self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, taken).is_ok()
    }

    /// Whether some of it is used up still.
    #[must_use]
    pub fn is_used(&self, now: Monotonic) -> bool {
        self.0.load(Ordering::Relaxed) > now.0
    }
}
