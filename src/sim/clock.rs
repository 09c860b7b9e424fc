//! Time, which passes only as the schedule says.

use std::time::Duration;

use crate::runtime::seam::{Monotonic, WallMs};

/// The wall clock at the start of every run.
const WALL: i64 = 1_790_000_000_000;

/// Both clocks, which advance together.
#[derive(Debug)]
pub(super) struct Clock {
    now: Monotonic,
}

impl Clock {
    pub(super) const fn new() -> Self {
        Self { now: Monotonic(1) }
    }

    pub(super) const fn now(&self) -> Monotonic {
        self.now
    }

    pub(super) const fn wall(&self) -> WallMs {
        WallMs(WALL + (self.now.0 / 1_000_000) as i64)
    }

    pub(super) fn pass(&mut self, time: Duration) {
        self.now = self.now.after(time);
    }

    /// Advances to an instant, unless that is past or never.
    pub(super) fn pass_until(&mut self, at: Monotonic) {
        if at != Monotonic::NEVER {
            self.now = self.now.max(at);
        }
    }
}
