//! `answer_timeout`: ends a connection when its oldest answer is pending for longer (5.0: DISCONNECT 0x89). The session is kept by its own terms. The device
//! reconnects and sends again.
//!
//! Messages have no timers and no time of receipt. While answers are pending, the connection notes every quarter of the time-out which number its next
//! message will get: an answer pending for a lower one has been held at least since then. So the end comes between the time-out and a quarter more.

use std::time::Duration;

use forebay_metrics::spec::ShardMetric as M;
use forebay_runtime::seam::{ConnId, Monotonic, TimerId};
use forebay_session::{End, SessionKey};

use super::Core;
use super::connection::Kind;
use super::ring::Ring;
use super::words::Timer;

/// The number of checks within one time-out.
const PARTS: u32 = 4;
/// The number of notes kept: the oldest has expired before there is another.
const NOTES: usize = PARTS as usize + 1;

/// The times at which a connection's publishes came. Made by its first, and kept.
#[derive(Debug)]
pub(super) struct Watch {
    /// The notes, oldest first: every message with a lower number had been received by then.
    notes: [(u32, Monotonic); NOTES],
    noted: usize,
    /// The timer, set while answers are pending.
    pub(super) timer: Option<TimerId>,
}

/// The result of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Look {
    /// No answer is pending.
    Rest,
    /// Another check is needed after a part of the time-out.
    Again,
    /// The oldest answer has been held too long.
    Overdue,
}

impl Watch {
    fn new() -> Self {
        Self { notes: [(0, Monotonic(0)); NOTES], noted: 0, timer: None }
    }

    /// `owed`: the number of the oldest unanswered message, and the one after the youngest.
    fn look(&mut self, owed: (u32, u32), timeout: Duration, now: Monotonic) -> Look {
        let (oldest, next) = owed;
        if oldest == next {
            self.noted = 0;
            return Look::Rest;
        }
        // Numbers wrap.
        let answered = |note: &(u32, Monotonic)| note.0.wrapping_sub(oldest).cast_signed() <= 0;
        let over = self.notes[..self.noted].iter().take_while(|note| answered(note)).count();
        self.notes.copy_within(over..self.noted, 0);
        self.noted -= over;
        if self.noted > 0 && self.notes[0].1.after(timeout) <= now {
            return Look::Overdue;
        }
        if let Some(note) = self.notes.get_mut(self.noted) {
            *note = (next, now);
            self.noted += 1;
        }
        Look::Again
    }
}

impl Core {
    /// Watches the answers of a device from its first publishes on.
    pub(super) fn watch_answers(&mut self, io: &mut Ring<'_>, conn: ConnId, key: SessionKey) {
        let Some(connection) = self.connections.get(conn) else { return };
        let Some(timeout) = connection.answer_timeout(&self.here.config) else { return };
        if connection.watch.as_ref().is_some_and(|watch| watch.timer.is_some()) {
            return;
        }
        let Some(owed) = self.broker.sessions.get(key).map(forebay_session::Session::owed_numbers) else { return };
        let watch = connection.watch.get_or_insert_with(|| Box::new(Watch::new()));
        if watch.look(owed, timeout, io.now()) == Look::Again {
            watch.timer = Some(io.set_timer(io.now().after(timeout / PARTS), Timer::Answers(conn).token()));
        }
    }

    /// Checks a connection when a part of its time-out is over.
    pub(super) fn answers_time(&mut self, io: &mut Ring<'_>, conn: ConnId) {
        let Some(connection) = self.connections.get(conn) else { return };
        let Kind::Device { session, .. } = connection.kind else { return };
        let Some(timeout) = connection.answer_timeout(&self.here.config) else { return };
        let (Some(watch), Some(session)) = (connection.watch.as_mut(), self.broker.sessions.get(session)) else {
            return;
        };
        watch.timer = None;
        match watch.look(session.owed_numbers(), timeout, io.now()) {
            Look::Rest => {}
            Look::Again => {
                watch.timer = Some(io.set_timer(io.now().after(timeout / PARTS), Timer::Answers(conn).token()));
            }
            Look::Overdue => {
                self.here.numbers.count(M::AnswerTimeouts);
                tracing::debug!(
                    slot = conn.slot,
                    "connection closed: an acknowledgement was held longer than answer_timeout"
                );
                self.end(io, conn, End::AnswerTimeout);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMEOUT: Duration = Duration::from_secs(4);

    fn at(s: u64) -> Monotonic {
        Monotonic(0).after(Duration::from_secs(s))
    }

    #[test]
    fn the_oldest_answer_counts_and_not_that_others_are_answered() {
        let mut watch = Watch::new();
        let start = u32::MAX - 2;
        let number = |n: u32| start.wrapping_add(n);
        // One message a second, each answered after three: the oldest moves on, none is held for four.
        assert_eq!(watch.look((start, number(1)), TIMEOUT, at(0)), Look::Again);
        for s in 1..50_u32 {
            let owed = (number(s.saturating_sub(3)), number(s + 1));
            assert_eq!(watch.look(owed, TIMEOUT, at(u64::from(s))), Look::Again, "{s}");
        }
        // From now on nothing is answered: number 47 came at 47.
        let held = |s: u64| (number(47), number(s as u32 + 1));
        assert_eq!(watch.look(held(50), TIMEOUT, at(50)), Look::Again);
        assert_eq!(watch.look(held(51), TIMEOUT, at(51)), Look::Overdue);
    }

    #[test]
    fn who_is_owed_nothing_rests_and_begins_anew() {
        let mut watch = Watch::new();
        assert_eq!(watch.look((0, 1), TIMEOUT, at(0)), Look::Again);
        assert_eq!(watch.look((1, 1), TIMEOUT, at(1)), Look::Rest);
        assert_eq!(watch.look((1, 2), TIMEOUT, at(100)), Look::Again);
        for s in 101..104 {
            assert_eq!(watch.look((1, 2), TIMEOUT, at(s)), Look::Again);
        }
        assert_eq!(watch.look((1, 2), TIMEOUT, at(104)), Look::Overdue);
    }
}
