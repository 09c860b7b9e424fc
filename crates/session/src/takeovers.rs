//! The recent takeovers of a client identifier: two devices with the same one would otherwise disconnect each other for ever, as
//! fast as they can connect.

use forebay_runtime::seam::Monotonic;
use std::collections::HashMap;
use std::time::Duration;

/// Takeovers are counted for this long from the first on.
const WINDOW: Duration = Duration::from_secs(10);
/// The most identifiers that are counted at a time; past it all counts are reset.
const COUNTED_MAX: usize = 65_536;

/// See the module. Identifiers are known by a hash with a seed of the process.
#[derive(Debug, Default)]
pub(super) struct Takeovers(HashMap<u64, (Monotonic, u32)>);

impl Takeovers {
    /// Counts one more of this identifier. False: there have been `max` already. 0: there is no bound.
    pub(super) fn allow(&mut self, identifier: u64, max: u32, now: Monotonic) -> bool {
        if max == 0 {
            return true;
        }
        if self.0.len() >= COUNTED_MAX {
            self.0.retain(|_, (since, _)| now.since(*since) < WINDOW);
        }
        if self.0.len() >= COUNTED_MAX {
            self.0.clear();
        }
        let (since, count) = self.0.entry(identifier).or_insert((now, 0));
        if now.since(*since) >= WINDOW {
            (*since, *count) = (now, 0);
        }
        *count += 1;
        *count <= max
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_within_ten_seconds() {
        let mut takeovers = Takeovers::default();
        let at = |ms: u64| Monotonic(0).after(Duration::from_millis(ms));
        let allowed: Vec<bool> = (0..5).map(|n| takeovers.allow(7, 3, at(n))).collect();
        assert_eq!(allowed, [true, true, true, false, false]);
        assert!(takeovers.allow(8, 3, at(5)), "another identifier");
        assert!(!takeovers.allow(7, 3, at(9_999)) && takeovers.allow(7, 3, at(10_000)));
        assert!((0..100).all(|_| takeovers.allow(9, 0, at(0))), "no bound");
    }

    #[test]
    fn what_is_counted_is_bounded() {
        let mut takeovers = Takeovers::default();
        for identifier in 0..200_000 {
            takeovers.allow(identifier, 3, Monotonic(0));
            assert!(takeovers.0.len() <= COUNTED_MAX);
        }
    }
}
