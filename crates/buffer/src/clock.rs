//! Deadlines: by the wall clock in the log, by the monotonic clock within the process (S9). A jump of the wall clock may
//! only lengthen the remaining time of a row.

use std::time::Duration;

use forebay_base::limits::{CLOCK_BEHIND_MS, CLOCK_SET_AFTER_MS};
use forebay_runtime::seam::{Monotonic, WallMs};

/// The largest difference between the clocks that is no jump: drift, and the granularity of the wall clock.
const JUMP_MS: i64 = 1_000;

/// The most jumps that are remembered. Beyond that, the oldest one also stands for all before it.
const JUMPS_MAX: usize = 16;

/// A jump forward: rows written before this wall-clock time get `by_ms` more time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Jump {
    before_ms: i64,
    by_ms: i64,
}

/// Both clocks, and the jumps between them.
#[derive(Clone, Debug)]
pub(super) struct Clock {
    now: Monotonic,
    wall: WallMs,
    /// The earliest plausible wall-clock time: an earlier one means that the clock is not set.
    set_after: WallMs,
    jumps: Vec<Jump>,
}

impl Clock {
    /// `newest_ms`: when the newest group in the log was written, by the wall clock of that time; 0: not known.
    pub(super) fn new(now: Monotonic, wall: WallMs, newest_ms: i64) -> Self {
        let set_after = WallMs(CLOCK_SET_AFTER_MS.max(newest_ms.saturating_sub(CLOCK_BEHIND_MS)));
        Self { now, wall: told(wall, set_after), set_after, jumps: Vec::new() }
    }

    /// The earliest plausible wall-clock time: an earlier one means that the clock is not set.
    pub(super) const fn set_after(&self) -> WallMs {
        self.set_after
    }

    /// Reads both clocks, once a turn.
    pub(super) fn turn(&mut self, now: Monotonic, wall: WallMs) {
        let wall = told(wall, self.set_after);
        let passed = millis(now.since(self.now));
        let by_ms = wall.0.saturating_sub(self.wall.0.saturating_add(passed));
        if by_ms >= JUMP_MS {
            if self.jumps.len() == JUMPS_MAX {
                let second = self.jumps.remove(1);
                self.jumps[0].by_ms = self.jumps[0].by_ms.saturating_add(second.by_ms);
                self.jumps[0].before_ms = second.before_ms;
            }
            self.jumps.push(Jump { before_ms: self.wall.0.saturating_add(passed), by_ms });
        }
        // The clock follows drift, so that it never adds up to a jump.
        (self.now, self.wall) = (now, wall);
    }

    /// A deadline in the log's form: the wall-clock time, and the time left from now, in milliseconds.
    pub(super) fn written(&self, expires: Monotonic) -> (i64, u64) {
        let left = expires.since(self.now);
        (self.wall.0.saturating_add(millis(left)), u64::try_from(left.as_millis()).unwrap_or(u64::MAX))
    }

    /// The deadline of a row that was read back.
    pub(super) fn read(&self, wall_ms: i64, left_ms: u64) -> Monotonic {
        let written_ms = wall_ms.saturating_sub(i64::try_from(left_ms).unwrap_or(i64::MAX));
        let jumped = self.jumps.iter().filter(|jump| written_ms <= jump.before_ms);
        let until_ms = jumped.fold(wall_ms, |until, jump| until.saturating_add(jump.by_ms));
        let unset = written_ms < CLOCK_SET_AFTER_MS && self.wall.0 >= CLOCK_SET_AFTER_MS && until_ms == wall_ms;
        let left = u64::try_from(until_ms.saturating_sub(self.wall.0)).unwrap_or(0);
        self.now.after(Duration::from_millis(if unset { left_ms } else { left.min(left_ms) }))
    }
}

/// The wall-clock time, if the clock is set. Otherwise a time before [`CLOCK_SET_AFTER_MS`] that advances at the same rate:
/// deadlines written by it have a valid remaining time, but no valid wall-clock time.
const fn told(wall: WallMs, set_after: WallMs) -> WallMs {
    let set = wall.0 >= set_after.0 || wall.0 < CLOCK_SET_AFTER_MS;
    if set { wall } else { WallMs(wall.0 - set_after.0) }
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY_MS: i64 = 86_400_000;
    const WALL: i64 = 1_800_000_000_000;

    fn at(seconds: u64) -> Monotonic {
        Monotonic(seconds * 1_000_000_000)
    }

    fn left_s(clock: &Clock, written: (i64, u64)) -> u64 {
        clock.read(written.0, written.1).since(clock.now).as_secs()
    }

    #[test]
    fn time_passes_and_a_restart_goes_on() {
        let mut clock = Clock::new(at(5), WallMs(WALL), 0);
        let written = clock.written(at(65));
        assert_eq!(written, (WALL + 60_000, 60_000));
        clock.turn(at(25), WallMs(WALL + 20_000));
        assert_eq!(clock.read(written.0, written.1), at(65));
        let after = Clock::new(at(1), WallMs(WALL + 30_000), 0);
        assert_eq!(left_s(&after, written), 30);
        assert_eq!(left_s(&Clock::new(at(1), WallMs(WALL + 90_000), 0), written), 0);
    }

    #[test]
    fn a_jump_only_lengthens() {
        let mut clock = Clock::new(at(5), WallMs(WALL), 0);
        let written = clock.written(at(65));
        clock.turn(at(15), WallMs(WALL + DAY_MS));
        assert_eq!(left_s(&clock, written), 50, "forward");
        let later = clock.written(at(65));
        assert_eq!(left_s(&clock, later), 50, "written behind the jump");
        clock.turn(at(16), WallMs(WALL));
        assert!(left_s(&clock, later) >= 49 && left_s(&clock, written) >= 49, "backward");
        assert_eq!(
            left_s(&Clock::new(at(0), WallMs(WALL - DAY_MS), 0), written),
            60,
            "set back at a restart: all of it"
        );
    }

    #[test]
    fn a_clock_that_was_not_set_says_how_long_only() {
        let mut clock = Clock::new(at(5), WallMs(1_000), 0);
        let written = clock.written(at(65));
        assert_eq!(left_s(&Clock::new(at(1), WallMs(WALL), 0), written), 60, "set while it was down");
        clock.turn(at(6), WallMs(WALL));
        assert!((59..=60).contains(&left_s(&clock, written)), "set while it ran");
    }

    #[test]
    fn a_clock_far_behind_the_log_is_not_set() {
        let newest = WALL + 30 * DAY_MS;
        let mut clock = Clock::new(at(5), WallMs(WALL), newest);
        let written = clock.written(at(65));
        clock.turn(at(15), WallMs(WALL + 10_000));
        assert_eq!(left_s(&clock, written), 50, "time passes");
        assert_eq!(left_s(&Clock::new(at(1), WallMs(newest + DAY_MS), newest), written), 60, "set while it was down");
        clock.turn(at(16), WallMs(newest + DAY_MS));
        assert_eq!(left_s(&clock, written), 49, "set while it ran");
        let near = Clock::new(at(5), WallMs(WALL), WALL + CLOCK_BEHIND_MS);
        assert_eq!(near.written(at(65)), (WALL + 60_000, 60_000), "a little behind");
    }

    #[test]
    fn many_jumps_are_remembered_as_few() {
        let mut clock = Clock::new(at(0), WallMs(WALL), 0);
        let written = clock.written(at(1_000));
        for turn in 1..100 {
            clock.turn(at(turn), WallMs(WALL + i64::try_from(turn).unwrap() * DAY_MS));
        }
        assert!(clock.jumps.len() <= JUMPS_MAX && left_s(&clock, written) >= 900);
    }
}
