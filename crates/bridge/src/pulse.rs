//! The keep-alive of a client: PINGREQ in time, and whether the remote is there.
//!
//! PINGREQ goes out whenever three quarters of the keep-alive have passed since the last one, whatever else was sent: bytes that
//! the kernel accepts are no proof that the remote reads them. Any bytes from the remote are.

use std::time::Duration;

use forebay_runtime::seam::Monotonic;

/// The longest wait for an answer to PINGREQ.
const PATIENCE_MAX: Duration = Duration::from_secs(15);

/// The clock of one connection.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pulse {
    /// The time between two PINGREQs; zero: there are none.
    every: Duration,
    /// The longest silence of the remote after a PINGREQ.
    patience: Duration,
    ping_at: Monotonic,
    answer_by: Monotonic,
    is_read: bool,
    /// Bytes that the kernel of the peer did not have at the last check.
    unacked: usize,
}

impl Pulse {
    /// A clock for this keep-alive, starting `now`; 0 turns it off.
    pub(super) fn new(keep_alive_s: u16, now: Monotonic) -> Self {
        let quarter = Duration::from_secs(keep_alive_s.into()) / 4;
        let (every, patience) = (quarter * 3, quarter.min(PATIENCE_MAX));
        let ping_at = if every.is_zero() { Monotonic::NEVER } else { now.after(every) };
        Self { every, patience, ping_at, answer_by: Monotonic::NEVER, is_read: true, unacked: usize::MAX }
    }

    /// The next deadline.
    pub(super) fn deadline(&self) -> Monotonic {
        self.ping_at.min(self.answer_by)
    }

    /// Whether PINGREQ has to be sent now. The next call returns false.
    pub(super) fn takes_ping(&mut self, now: Monotonic) -> bool {
        if now < self.ping_at {
            return false;
        }
        self.ping_at = now.after(self.every);
        if self.is_read && self.answer_by == Monotonic::NEVER {
            (self.answer_by, self.unacked) = (now.after(self.patience), usize::MAX);
        }
        true
    }

    /// The time by which the remote must have sent something; [`Monotonic::NEVER`]: no answer is pending.
    pub(super) fn answers_by(&self) -> Monotonic {
        self.answer_by
    }

    /// Gives the remote more time if its kernel has taken bytes since the last call, as PINGREQ is queued after these. `false`: it
    /// has taken none.
    pub(super) fn waits_on(&mut self, unacked: usize, now: Monotonic) -> bool {
        let moves = unacked > 0 && unacked < std::mem::replace(&mut self.unacked, unacked);
        if moves {
            self.answer_by = now.after(self.patience);
        }
        moves
    }

    /// Notes that bytes have arrived from the remote.
    pub(super) fn heard(&mut self) {
        self.answer_by = Monotonic::NEVER;
    }

    /// Sets whether the connection is read from now on. While it is not, silence proves nothing.
    pub(super) fn is_read(&mut self, is_read: bool) {
        self.is_read = is_read;
        if !is_read {
            self.heard();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Monotonic {
        Monotonic(7).after(Duration::from_millis(ms))
    }

    fn is_silent(pulse: &Pulse, ms: u64) -> bool {
        pulse.answers_by() <= at(ms)
    }

    #[test]
    fn a_remote_that_is_gone_is_known_within_one_keep_alive() {
        for (keep_alive_s, ping_ms, patience_ms) in [(4, 3_000, 1_000), (60, 45_000, 15_000), (600, 450_000, 15_000)] {
            let mut pulse = Pulse::new(keep_alive_s, at(0));
            assert_eq!(pulse.deadline(), at(ping_ms));
            assert!(!pulse.takes_ping(at(ping_ms - 1)) && pulse.takes_ping(at(ping_ms)));
            assert!(!pulse.takes_ping(at(ping_ms)), "once");
            assert_eq!(pulse.deadline(), at(ping_ms + patience_ms));
            assert!(!is_silent(&pulse, ping_ms + patience_ms - 1) && is_silent(&pulse, ping_ms + patience_ms));
            assert!(ping_ms + patience_ms <= u64::from(keep_alive_s) * 1000);
            pulse.heard();
            assert_eq!(pulse.deadline(), at(2 * ping_ms), "and again, whatever was sent meanwhile");
        }
    }

    #[test]
    fn zero_turns_it_off() {
        let mut pulse = Pulse::new(0, at(0));
        assert_eq!(pulse.deadline(), Monotonic::NEVER);
        assert!(!pulse.takes_ping(at(1_000_000_000)));
    }

    #[test]
    fn a_connection_that_is_not_read_is_not_given_up_and_is_kept_alive() {
        let mut pulse = Pulse::new(4, at(0));
        assert!(pulse.takes_ping(at(3_000)));
        pulse.is_read(false);
        assert!(!is_silent(&pulse, 100_000), "the answer may be there, unread");
        assert!(pulse.takes_ping(at(6_000)) && pulse.takes_ping(at(9_000)), "the remote is told that we are there");
        assert!(!is_silent(&pulse, 100_000));
        pulse.is_read(true);
        assert!(!is_silent(&pulse, 100_000), "what has come is read first");
        assert!(pulse.takes_ping(at(100_000)));
        assert!(is_silent(&pulse, 101_000));
    }

    #[test]
    fn a_remote_whose_kernel_takes_bytes_gets_more_time() {
        let mut pulse = Pulse::new(4, at(0));
        assert!(pulse.takes_ping(at(3_000)));
        assert!(pulse.waits_on(9_000, at(4_000)), "not known before");
        assert!(!is_silent(&pulse, 4_999) && is_silent(&pulse, 5_000));
        assert!(pulse.waits_on(8_999, at(5_000)));
        assert!(!pulse.waits_on(8_999, at(6_000)), "nothing has moved");
        assert!(is_silent(&pulse, 6_000));
        assert!(!pulse.waits_on(0, at(6_000)), "it has the question");
    }
}
