//! Requested producer ids that have not arrived yet.

use std::collections::BTreeMap;

use forebay_guard::outward::{Backoff, Bounds};
use forebay_runtime::seam::Monotonic;

#[derive(Debug)]
struct Wish {
    due: Monotonic,
    asking: bool,
    backoff: Backoff,
}

/// The open requests, by the caller's token: a handful (one for each sink).
#[derive(Debug, Default)]
pub(super) struct ProducerIds {
    wishes: BTreeMap<u64, Wish>,
}

impl ProducerIds {
    /// Requests a producer id. Another request before it arrives changes nothing.
    pub(super) fn want(&mut self, token: u64, now: Monotonic) {
        self.wishes.entry(token).or_insert(Wish { due: now, asking: false, backoff: Backoff::default() });
    }

    /// The time of the next request.
    pub(super) fn next_due(&self) -> Monotonic {
        self.wishes.values().filter(|wish| !wish.asking).map(|wish| wish.due).min().unwrap_or(Monotonic::NEVER)
    }

    /// Takes out a request that is due; from now on it counts as sent.
    pub(super) fn take_due(&mut self, now: Monotonic) -> Option<u64> {
        let (token, wish) = self.wishes.iter_mut().find(|(_, wish)| !wish.asking && wish.due <= now)?;
        wish.asking = true;
        Some(*token)
    }

    /// Ends a request that was answered. `false`: there is no such request.
    pub(super) fn granted(&mut self, token: u64) -> bool {
        self.wishes.remove(&token).is_some()
    }

    /// Notes an error as the answer. Whatever the error is (not loaded yet, no permission yet), the request is repeated: without an id nothing
    /// can be delivered. Returns whether this is the first refusal in a row.
    pub(super) fn refused(&mut self, token: u64, bounds: Bounds, rng: &mut fastrand::Rng, now: Monotonic) -> bool {
        let Some(wish) = self.wishes.get_mut(&token) else { return false };
        let first = wish.backoff.is_fresh();
        wish.asking = false;
        wish.due = now.after(wish.backoff.next(bounds, rng));
        first
    }

    /// Makes a request due again, as the connection is gone.
    pub(super) fn unanswered(&mut self, token: u64, now: Monotonic) {
        if let Some(wish) = self.wishes.get_mut(&token) {
            wish.asking = false;
            wish.due = now;
        }
    }
}
