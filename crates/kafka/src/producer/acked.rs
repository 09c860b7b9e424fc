//! A partition's recent acknowledgements: offsets of this producer's records, and the leader that acknowledged them.
//! They allow counting the records that are lost with a leader (`lost`).

use std::collections::VecDeque;
use std::time::Duration;

use crate::types::NodeId;
use forebay_runtime::seam::Monotonic;

/// Maximum number of remembered runs of acknowledged records of a partition at `acks` 1: another producer's records end a run.
/// A run has 40 bytes; the oldest is replaced.
pub(super) const RUNS_MAX: usize = 512;

/// How long an acknowledgement is remembered, and worth asking about when the leader changes: longer than metadata's
/// maximum age. The last run is kept.
pub(super) const LATELY: Duration = Duration::from_secs(600);

/// A run of this producer's records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Acknowledged {
    /// Offset of the first record; `to`: one past the last.
    pub(super) from: i64,
    pub(super) to: i64,
    /// The leader's epoch as known when the first of them was sent; -1: not known.
    pub(super) leader_epoch: i32,
    /// The broker that acknowledged them.
    pub(super) node: NodeId,
    /// Time of the last acknowledgement.
    pub(super) at: Monotonic,
    /// Number of the last acknowledgement in its partition.
    pub(super) number: u64,
}

impl Acknowledged {
    /// Whether an earlier leader than this one acknowledged the run. The same broker may have become leader again before metadata
    /// reported it, so its own acknowledgements are left out.
    pub(super) fn is_before(&self, node: NodeId, leader_epoch: i32) -> bool {
        self.node != node && self.leader_epoch < leader_epoch
    }
}

/// A partition's recent acknowledgements.
#[derive(Debug, Default)]
pub(super) struct Acked {
    /// Runs, in the order of their acknowledgement.
    runs: VecDeque<Acknowledged>,
    /// Number of acknowledgements so far.
    pub(super) count: u64,
    /// Time and broker of the last acknowledgement.
    pub(super) last: Option<(Monotonic, NodeId)>,
    /// Whether the log is known to lack acknowledged records, and the loss was counted, but not yet how many records.
    pub(super) lacking: bool,
    /// Whether the offset from which on the log lacks them is known and counted, and nothing was acknowledged since.
    pub(super) ended: bool,
    /// Leader epoch of the last loss that was counted.
    pub(super) counted_under: Option<i32>,
    /// Records of that loss that were counted without knowing which.
    pub(super) guessed: u64,
    /// The leader epoch in the open question about its beginning, and the time until which that question is open.
    pub(super) open: Option<(i32, Monotonic)>,
    /// Whether the question must be repeated after its answer: a deposed leader has acknowledged something since.
    pub(super) ask_again: bool,
}

impl Acked {
    pub(super) fn note(&mut self, mut run: Acknowledged, runs_max: usize) {
        self.count += 1;
        run.number = self.count;
        if let Some(last) = self.runs.back_mut()
            && (last.to, last.leader_epoch, last.node) == (run.from, run.leader_epoch, run.node)
        {
            (last.to, last.at, last.number) = (run.to, run.at, run.number);
            return;
        }
        if self.runs.len() >= runs_max {
            self.runs.pop_front();
        }
        while self.runs.pop_front_if(|old| run.at.since(old.at) > LATELY).is_some() {}
        self.runs.push_back(run);
    }

    /// Forgets the records from this offset on, in the runs that `meant` selects, and returns how many there were.
    pub(super) fn cut(&mut self, from: i64, meant: impl Fn(&Acknowledged) -> bool) -> u64 {
        let mut cut = 0;
        self.runs.retain_mut(|run| {
            if run.to > from && meant(run) {
                let kept_to = run.from.max(from);
                cut += (run.to - kept_to).unsigned_abs();
                run.to = kept_to;
            }
            run.from < run.to
        });
        cut
    }

    /// Whether there is an acknowledgement by an earlier leader.
    pub(super) fn has_before(&self, node: NodeId, leader_epoch: i32) -> bool {
        self.runs.iter().rev().any(|run| run.is_before(node, leader_epoch))
    }
}
