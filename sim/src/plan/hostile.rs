//! The additional draws of hostile runs.

use crate::time::{EPOCH_MS, S, stream};

/// The faults of hostile runs alone.
#[derive(Clone, Copy, Debug, Default)]
pub struct Hostile {
    /// Whether the configuration changes between processes.
    pub changes: bool,
    /// Reads fail now and then: mean time between two, in nanoseconds.
    pub reads_fail: Option<u64>,
    /// Whether the number of shards changes between processes.
    pub shards: bool,
    /// Bytes of segments rot: mean time between two, in nanoseconds.
    pub rot: Option<u64>,
    /// Whether segments are missing when a process starts.
    pub loses_segments: bool,
    /// The cluster with topics that can never be read, if there is one.
    pub unreadable: Option<usize>,
    /// Files of dead letters take nothing for a while: mean time between two, in nanoseconds.
    pub files_hang: Option<u64>,
    /// Whether the first cluster is unreachable for most of the run, while more messages come than the spool has room
    /// for.
    pub flood: bool,
}

impl Hostile {
    /// Names of the parts that can be left out.
    pub const NAMES: &[&'static str] =
        &["changes", "reads", "shards", "rot", "missing", "unreadable", "files", "flood"];

    /// Leaves out the part with this name.
    pub fn leave_out(&mut self, name: &str) {
        match name {
            "changes" => self.changes = false,
            "reads" => self.reads_fail = None,
            "shards" => self.shards = false,
            "rot" => self.rot = None,
            "missing" => self.loses_segments = false,
            "unreadable" => self.unreadable = None,
            "files" => self.files_hang = None,
            "flood" => self.flood = false,
            _ => {}
        }
    }
}

/// Draws the faults of a hostile run.
pub(super) fn hostile(seed: u64, clusters: usize) -> Hostile {
    let rng = &mut stream(seed, "hostile");
    let (changes, fail, often) = (rng.bool(), rng.u8(..3) == 0, rng.u64(1..6));
    // Each of these is in one run of six, and draws from a stream of its own.
    let drawn = |name: &str| {
        let mut rng = stream(seed, name);
        (rng.u8(..6) == 0).then_some(rng)
    };
    Hostile {
        changes,
        reads_fail: fail.then_some(often * S),
        shards: drawn("shards").is_some(),
        rot: drawn("rot").map(|mut rng| rng.u64(1..8) * S),
        loses_segments: drawn("loses segments").is_some(),
        unreadable: drawn("unreadable").map(|mut rng| rng.usize(..clusters)),
        files_hang: drawn("files hang").map(|mut rng| rng.u64(1..6) * S),
        flood: drawn("flood").is_some(),
    }
}

/// Draws how far ahead the machine's clock is: most clocks are right, some are hours wrong, some have never been set.
pub(super) fn clock(rng: &mut fastrand::Rng) -> i64 {
    match rng.u8(..12) {
        0 => -EPOCH_MS,
        1 => rng.i64(-7_200_000..7_200_000),
        2 => rng.i64(-60_000..60_000),
        _ => 0,
    }
}
