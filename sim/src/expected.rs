//! Known faults that are not cured yet: the scripts and seeds that show them. Whoever cures one deletes its line: a test
//! fails when one of these is green.

use crate::plan::Kind;

/// Scripts (`scenarios`), by name.
pub const RED_SCRIPTS: &[&str] = &[
    "N1 a segment with a kept session is gone",
    "D5 reads fail for a while",
    "D5 a bad sector at the start",
    "D6 a clock in 1970",
    "D7 another cluster",
    "D15 a restart with one broker frozen",
];

/// Seeds, and the fault that each shows.
pub const RED_SEEDS: &[(Kind, u64, &str)] = &[];

/// The fault that a seed is known to show.
#[must_use]
pub fn fault_of(kind: Kind, seed: u64) -> Option<&'static str> {
    RED_SEEDS.iter().find(|(of, known, _)| (*of, *known) == (kind, seed)).map(|(_, _, fault)| *fault)
}
