//! Keep alive of one connection: one and a half times the client's interval, in whole nanoseconds of the monotonic clock
//! [MQTT-3.1.2-22]; and the time until which the client's credentials are valid, silent or not.
//!
//! The shard keeps one timer per connection and never moves it: a packet only notes the time, and the timer, when it fires, either
//! closes the connection or is set again for the remaining time ([`KeepAlive::check`]). So a packet costs one store, and the
//! connection closes at the deadline plus the timer's own lateness.

use forebay_runtime::seam::Monotonic;
use std::time::Duration;

/// The clock of one connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeepAlive {
    /// The interval in seconds; 0: keep alive is off.
    keep_alive_s: u16,
    resting: bool,
    /// The beginning of the connection, in tenths of a second: these four bytes would be padding otherwise.
    began: u32,
    /// The last packet, or the last moment at which the shard began to read again.
    since: Monotonic,
    /// The time at which the connection ends in any case.
    ends: Monotonic,
}

/// Wraps after 13 years.
const fn tenths(at: Monotonic) -> u32 {
    (at.0 / 100_000_000) as u32
}

/// The action when the timer fires.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Check {
    /// No packet for 1.5 x the interval: close the connection (5.0: 0x8D first) [MQTT-3.1.2-20].
    Close,
    /// The client's credentials are not valid any more: close the connection (5.0: 0xA0 first).
    Expired,
    /// Set the timer again for this instant.
    Again(Monotonic),
    /// No timer: keep alive is off, or the connection rests until [`KeepAlive::resume`].
    Rest,
}

impl KeepAlive {
    /// A clock for an interval of `keep_alive_s` seconds, starting `now`. 0 turns it off [MQTT-3.1.2-22].
    #[must_use]
    pub fn new(keep_alive_s: u16, now: Monotonic) -> Self {
        Self { keep_alive_s, resting: false, began: tenths(now), since: now, ends: Monotonic::NEVER }
    }

    /// The duration of the connection, to a tenth of a second.
    #[must_use]
    pub fn lasted(&self, now: Monotonic) -> Duration {
        Duration::from_millis(u64::from(tenths(now).wrapping_sub(self.began)) * 100)
    }

    /// Lets the connection end at this time at the latest.
    #[must_use]
    pub fn until(self, ends: Monotonic) -> Self {
        Self { ends, ..self }
    }

    /// Notes a complete packet, of any type. Bytes of a packet that is still incomplete do not count.
    pub fn heard(&mut self, now: Monotonic) {
        self.since = now;
    }

    /// The time of the timer; `None`: no timer is needed.
    #[must_use]
    pub fn deadline(&self) -> Option<Monotonic> {
        let deadline = self.silent_too_long().min(self.ends);
        (deadline != Monotonic::NEVER).then_some(deadline)
    }

    /// The time at which the silence becomes too long.
    fn silent_too_long(&self) -> Monotonic {
        let is_off = self.resting || self.keep_alive_s == 0;
        // 1500 ms a second: exact, where 1.5 in floating point or `s + s / 2` would not be.
        if is_off {
            Monotonic::NEVER
        } else {
            self.since.after(Duration::from_millis(u64::from(self.keep_alive_s) * 1500))
        }
    }

    /// The action when the timer fires.
    #[must_use]
    pub fn check(&self, now: Monotonic) -> Check {
        match self.deadline() {
            None => Check::Rest,
            Some(deadline) if deadline > now => Check::Again(deadline),
            Some(_) if self.ends <= now => Check::Expired,
            Some(_) => Check::Close,
        }
    }

    /// Stops the clock, as the shard has stopped reading this connection: a PINGREQ may be unread after a PUBLISH, so silence
    /// proves nothing. A timer that fires during that gets [`Check::Rest`], or that of its end.
    pub fn rest(&mut self) {
        self.resting = true;
    }

    /// Restarts the clock, as the shard reads again. The client gets its whole interval from here on: packets that it sent in the
    /// meantime are still unread. Returns when to set the timer; `None` if it is off.
    pub fn resume(&mut self, now: Monotonic) -> Option<Monotonic> {
        self.resting = false;
        self.since = now;
        self.deadline()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MS: u64 = 1_000_000;
    const S: u64 = 1000 * MS;

    #[test]
    fn one_and_a_half_times_to_the_nanosecond() {
        let start = Monotonic(17);
        for (keep_alive_s, limit_ns) in [(1, 1_500 * MS), (3, 4_500 * MS), (65_535, 98_302_500 * MS)] {
            let clock = KeepAlive::new(keep_alive_s, start);
            let deadline = Monotonic(17 + limit_ns);
            assert_eq!(clock.deadline(), Some(deadline));
            assert_eq!(clock.check(Monotonic(deadline.0 - 1)), Check::Again(deadline));
            assert_eq!(clock.check(deadline), Check::Close, "[MQTT-3.1.2-22]");
        }
    }

    #[test]
    fn zero_turns_it_off() {
        let clock = KeepAlive::new(0, Monotonic(0));
        assert_eq!(clock.deadline(), None);
        assert_eq!(clock.check(Monotonic::NEVER), Check::Rest);
    }

    #[test]
    fn an_end_that_was_set_comes_whatever_the_client_does() {
        let ends = Monotonic(25 * S);
        for keep_alive_s in [0, 10] {
            let mut clock = KeepAlive::new(keep_alive_s, Monotonic(0)).until(ends);
            clock.heard(Monotonic(20 * S));
            assert_eq!(clock.deadline(), Some(ends));
            assert_eq!(clock.check(Monotonic(25 * S - 1)), Check::Again(ends));
            assert_eq!(clock.check(ends), Check::Expired);
            clock.rest();
            assert_eq!(clock.deadline(), Some(ends), "while it is not read, too");
            assert_eq!(clock.check(ends), Check::Expired);
        }
        // The silence ends the connection sooner.
        let mut clock = KeepAlive::new(10, Monotonic(0)).until(ends);
        assert_eq!((clock.deadline(), clock.check(Monotonic(15 * S))), (Some(Monotonic(15 * S)), Check::Close));
        clock.rest();
        assert_eq!(clock.resume(Monotonic(8 * S)), Some(Monotonic(23 * S)));
        assert_eq!(clock.resume(Monotonic(20 * S)), Some(ends));
    }

    #[test]
    fn a_connection_that_is_not_read_is_not_closed_for_silence() {
        let mut clock = KeepAlive::new(10, Monotonic(0));
        clock.rest();
        assert_eq!(clock.check(Monotonic(3600 * S)), Check::Rest);
        assert_eq!(clock.resume(Monotonic(3600 * S)), Some(Monotonic(3615 * S)));
        assert_eq!(clock.check(Monotonic(3615 * S - 1)), Check::Again(Monotonic(3615 * S)));
        assert_eq!(clock.check(Monotonic(3615 * S)), Check::Close);
        assert_eq!(KeepAlive::new(0, Monotonic(0)).resume(Monotonic(5)), None);
    }

    /// The shard's pattern on a simulated clock: one timer, set at the deadline, never moved, checked when it fires. `late`: the
    /// lateness of the wheel each time. Returns the time at which the connection was closed.
    fn closed_at(keep_alive_s: u16, packets: &[u64], mut late: impl FnMut() -> u64) -> u64 {
        let mut clock = KeepAlive::new(keep_alive_s, Monotonic(0));
        let mut packets = packets.iter().copied().peekable();
        let mut fires = clock.deadline().expect("on").0 + late();
        loop {
            while let Some(at) = packets.next_if(|&at| at <= fires) {
                clock.heard(Monotonic(at));
            }
            match clock.check(Monotonic(fires)) {
                Check::Close => return fires,
                Check::Again(at) => fires = at.0 + late(),
                Check::Rest | Check::Expired => unreachable!("never rested, and has no end"),
            }
        }
    }

    proptest! {
        #[test]
        fn closes_within_a_fifth_of_a_second_and_never_early(
            keep_alive_s in 1_u16..=300,
            gaps in proptest::collection::vec(0_u64..=1000, 0..40),
            lateness in proptest::collection::vec(0..=20 * MS, 1..60),
        ) {
            let limit = u64::from(keep_alive_s) * 1500 * MS;
            // Each gap is a part of the limit, so that none of them is long enough to close the connection.
            let mut at = 0;
            let packets: Vec<u64> = gaps.iter().map(|share| { at += limit / 1001 * share; at }).collect();
            let mut lateness = lateness.iter().copied().cycle();
            let closed = closed_at(keep_alive_s, &packets, || lateness.next().unwrap_or(0));
            let deadline = packets.last().copied().unwrap_or(0) + limit;
            prop_assert!(closed >= deadline, "early: {closed} < {deadline}");
            prop_assert!(closed - deadline <= 200 * MS, "late by {} ns", closed - deadline);
        }
    }
}
