//! A rate that all shards share: one number, the time up to which the rate is used up.

use std::sync::atomic::{AtomicU64, Ordering};

use forebay_runtime::seam::Monotonic;

/// See the module. Each unit takes its time; after a pause, units up to the burst's time may come at once.
#[derive(Debug, Default)]
pub struct Pace(AtomicU64);

impl Pace {
    /// Takes units that cost `cost_ns` nanoseconds together, with a burst in nanoseconds. Returns the time of the next units, if
    /// not now.
    #[must_use]
    pub fn take(&self, cost_ns: u64, burst_ns: u64, now: Monotonic) -> Option<Monotonic> {
        let until = |used: u64| used.max(now.0).saturating_add(cost_ns);
        let before = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |used| Some(until(used)));
        let next = until(before.unwrap_or_else(|used| used)).saturating_sub(burst_ns);
        (next > now.0).then_some(Monotonic(next))
    }

    /// Like [`Pace::take`], but takes nothing if the units would have to wait. Returns whether they were taken.
    #[must_use]
    pub fn try_take(&self, cost_ns: u64, burst_ns: u64, now: Monotonic) -> bool {
        let until = |used: u64| used.max(now.0).saturating_add(cost_ns);
        let taken = |used| Some(until(used)).filter(|until| until.saturating_sub(burst_ns) <= now.0);
        self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, taken).is_ok()
    }

    /// Whether some of the burst is still used up.
    #[must_use]
    pub fn is_used(&self, now: Monotonic) -> bool {
        self.0.load(Ordering::Relaxed) > now.0
    }
}
