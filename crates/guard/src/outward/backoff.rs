//! Waits between attempts: exponential, jittered, bounded. Jitter keeps the shards of many processes from reconnecting
//! to a restarted broker in one wave.

use std::time::Duration;

/// Largest fraction of the wait that jitter subtracts or adds.
const JITTER: f64 = 0.2;

/// The bounds of one series of waits.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// First wait, before jitter.
    pub min: Duration,
    /// Longest wait, before jitter.
    pub max: Duration,
}

/// The number of consecutive failed attempts.
#[derive(Clone, Copy, Debug, Default)]
pub struct Backoff {
    failures: u32,
}

impl Backoff {
    /// Whether no attempt has failed since the last success.
    pub fn is_fresh(self) -> bool {
        self.failures == 0
    }

    /// Notes a successful attempt.
    pub fn reset(&mut self) {
        self.failures = 0;
    }

    /// Notes a failed attempt. Returns how long to wait: `min × 2^failures` up to `max`, ± 20 %.
    pub fn next(&mut self, bounds: Bounds, rng: &mut fastrand::Rng) -> Duration {
        let doubled = bounds.min.saturating_mul(1u32.checked_shl(self.failures).unwrap_or(u32::MAX));
        self.failures = self.failures.saturating_add(1).min(31);
        jittered(doubled.min(bounds.max), rng)
    }
}

/// `wait` ± 20 %.
pub fn jittered(wait: Duration, rng: &mut fastrand::Rng) -> Duration {
    // The wait is cut to a year, so that no setting can overflow the multiplication.
    wait.min(Duration::from_secs(365 * 24 * 3600)).mul_f64(1.0 - JITTER + 2.0 * JITTER * rng.f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: Bounds = Bounds { min: Duration::from_millis(50), max: Duration::from_secs(1) };

    #[test]
    fn doubles_up_to_its_bound_and_starts_over() {
        let mut rng = fastrand::Rng::with_seed(7);
        let mut backoff = Backoff::default();
        let mut expected = BOUNDS.min;
        for _ in 0..100 {
            let wait = backoff.next(BOUNDS, &mut rng);
            assert!(wait >= expected.mul_f64(0.8) && wait <= expected.mul_f64(1.2), "{wait:?} for {expected:?}");
            expected = (expected * 2).min(BOUNDS.max);
        }
        backoff.reset();
        assert!(backoff.is_fresh());
        assert!(backoff.next(BOUNDS, &mut rng) <= BOUNDS.min.mul_f64(1.2));
    }

    #[test]
    fn is_jittered_and_repeatable() {
        let waits = |seed| {
            let mut rng = fastrand::Rng::with_seed(seed);
            (0..20).map(|_| jittered(Duration::from_secs(1), &mut rng)).collect::<Vec<_>>()
        };
        assert_eq!(waits(1), waits(1));
        assert_ne!(waits(1), waits(2));
        let (low, high) = (waits(1).into_iter().min(), waits(1).into_iter().max());
        assert!(high > low);
    }
}
