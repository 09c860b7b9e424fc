//! What a partition remembers of its acknowledgements: which offsets are ours, and which leader acknowledged them.
//! With it the records that a lost leader takes with it can be counted (`lost`).

use std::collections::VecDeque;
use std::time::Duration;

use crate::kafka::types::NodeId;
use crate::runtime::seam::Monotonic;

/// Runs of acknowledged records that are remembered of a partition at `acks` 1: another producer's records end a run. Of
/// 40 bytes each, the oldest goes for the newest.
pub(super) const RUNS_MAX: usize = 512;

/// For how long an acknowledgement is remembered, and worth asking about when the leader changes: longer than metadata
/// gets old. The last run is kept.
pub(super) const LATELY: Duration = Duration::from_secs(600);

/// A run of our records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Acknowledged {
    /// Offsets, from and to.
    pub(super) from: i64,
    pub(super) to: i64,
    /// The leader's epoch as it was known when the first of them was sent; -1: it was not.
    pub(super) leader_epoch: i32,
    /// Who acknowledged them.
    pub(super) node: NodeId,
    /// When, the last of them.
    pub(super) at: Monotonic,
    /// The number of that acknowledgement in its partition.
    pub(super) number: u64,
}

impl Acknowledged {
    /// Whether an earlier leader acknowledged it than this one. The same broker may have been a leader anew before metadata
    /// told of it, so what it acknowledged itself is left out.
    pub(super) fn is_before(&self, node: NodeId, leader_epoch: i32) -> bool {
        self.node != node && self.leader_epoch < leader_epoch
    }
}

/// What a partition remembers.
#[derive(Debug, Default)]
pub(super) struct Acked {
    /// In the order of their acknowledgement.
    runs: VecDeque<Acknowledged>,
    /// How many acknowledgements there were.
    pub(super) count: u64,
    /// The last one: when, and by which broker.
    pub(super) last: Option<(Monotonic, NodeId)>,
    /// It is known that the log lacks some of it, and that was counted; how much is not known yet.
    pub(super) lacking: bool,
    /// It is known from which offset on, and was counted, with nothing acknowledged since.
    pub(super) ended: bool,
    /// Leader epoch of the last loss that was counted.
    pub(super) counted_under: Option<i32>,
    /// Records of that loss that were counted without knowing which.
    pub(super) guessed: u64,
    /// A question to the leader of this epoch where that begins is open until then.
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

    /// Forgets the records from this offset on, of the runs that `meant` picks, and returns how many there were.
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

    /// Whether there is anything that an earlier leader acknowledged.
    pub(super) fn has_before(&self, node: NodeId, leader_epoch: i32) -> bool {
        self.runs.iter().rev().any(|run| run.is_before(node, leader_epoch))
    }
}
