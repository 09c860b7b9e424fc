//! Simulated time and random streams. Simulated time is nanoseconds since the run began. Every feature draws from a
//! stream of its own, so that a new draw of one feature leaves the others as they were.

use std::time::Duration;

/// A millisecond in nanoseconds.
pub const MS: u64 = 1_000_000;
/// A second in nanoseconds.
pub const S: u64 = 1_000 * MS;

/// Time that a machine has run when it starts the process for the first time since its power was cut.
pub const UPTIME: u64 = 10 * S;

/// True wall-clock time when a run begins, in milliseconds since 1970: 2026-11-01.
pub const EPOCH_MS: i64 = 1_793_491_200_000;

/// True wall-clock time, in milliseconds since 1970.
#[must_use]
pub const fn wall_ms(time: u64) -> i64 {
    EPOCH_MS + (time / MS) as i64
}

/// A duration in nanoseconds.
#[must_use]
pub const fn ns(duration: Duration) -> u64 {
    duration.as_nanos() as u64
}

/// The random stream of one feature in one run.
#[must_use]
pub fn stream(seed: u64, feature: &str) -> fastrand::Rng {
    // FNV-1a never changes.
    let hash = feature
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    fastrand::Rng::with_seed(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ hash)
}
