//! The times at which writes of an open loop are due. A write's time is fixed beforehand, and latency counts from it: delays by
//! the server are charged to it (coordinated omission).

/// A constant rate after a linear ramp.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Schedule {
    /// Writes a second of the whole group.
    per_s: f64,
    ramp_s: f64,
}

impl Schedule {
    pub(crate) fn new(per_s: f64, ramp_s: f64) -> Self {
        Self { per_s, ramp_s }
    }

    /// When write `index` of the group is due, in nanoseconds from the start.
    pub(crate) fn at_ns(self, index: u64) -> u64 {
        let in_ramp = self.per_s * self.ramp_s / 2.0;
        let index = index as f64;
        let seconds = if index < in_ramp {
            (2.0 * index * self.ramp_s / self.per_s).sqrt()
        } else {
            self.ramp_s + (index - in_ramp) / self.per_s
        };
        (seconds * 1e9) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_kept_and_reached_by_a_ramp() {
        let flat = Schedule::new(1_000.0, 0.0);
        assert_eq!((flat.at_ns(0), flat.at_ns(1), flat.at_ns(5_000)), (0, 1_000_000, 5_000_000_000));
        let ramped = Schedule::new(1_000.0, 2.0);
        // The ramp has half of the writes of the full rate.
        assert_eq!(ramped.at_ns(1_000), 2_000_000_000);
        assert_eq!(ramped.at_ns(250), 1_000_000_000);
        assert_eq!(ramped.at_ns(2_000), 3_000_000_000);
        assert!((0..3_000).all(|n| ramped.at_ns(n) <= ramped.at_ns(n + 1)));
    }
}
