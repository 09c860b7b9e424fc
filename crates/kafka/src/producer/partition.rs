//! One partition of one topic of one sink: its queue of batches, the first of which are in its window.

use std::cell::Cell;
use std::collections::VecDeque;

use super::acked::Acked;
use super::backlog::{Backlog, Spooled};
use super::batch::Batch;
use super::in_log::{Kind, Lane};
use super::row_log::RestoredCut;
use super::window::{Head, PartitionWindow, Step, StepTerms, UndoneList, WINDOW};
use crate::types::NodeId;
use forebay_base::rules::Rules;
use forebay_runtime::seam::Monotonic;

/// Batches sampled to estimate a partition's memory.
const SAMPLES: usize = 16;

/// How often a sample is reused while the number of batches stays the same.
const SAMPLE_USES: u32 = 64;

/// Maximum number of spare states.
const SPARE_MAX: usize = 1024;

/// State of a partition while its topic is known.
#[derive(Debug, Default)]
pub(super) struct Partition {
    pub(super) leader: Option<NodeId>,
    /// The leader's epoch, if metadata has it.
    pub(super) leader_epoch: Option<i32>,
    /// Brokers with a replica.
    pub(super) replicas: Box<[NodeId]>,
    /// The window of the undone batches, which are the first ones of [`Work::queue`].
    pub(super) window: PartitionWindow,
    /// Offset after the last batch that Kafka acknowledged here.
    pub(super) log_next: Option<i64>,
    /// Records of this producer that Kafka acknowledged recently.
    pub(super) acked: Acked,
    /// How long the leader may wait for followers, in steps; above 0 the partition uses the second channel (`patience`).
    pub(super) patience: u8,
    /// Batches acknowledged on the second channel since the partition was last late.
    pub(super) taken: u8,
    /// Bytes and spans of the last batch.
    pub(super) hint: (usize, usize),
    pub(super) lane: Lane,
    /// Rows and cuts in the log that are not in memory.
    pub(super) spooled: Option<Box<Spooled>>,
    /// State of queue and window; only while there are rows.
    pub(super) work: Option<Box<Work>>,
}

/// State of a partition with rows or an unanswered request.
#[derive(Debug, Default)]
pub(super) struct Work {
    /// Batches, oldest first: those of the window, then closed or full ones, then at most one that grows.
    pub(super) queue: VecDeque<Batch>,
    /// Whether the partition is in the list of ready ones, or in that of a busy broker.
    pub(super) queued: bool,
    /// The window's list, while this state is a spare.
    list: UndoneList,
    sampled: Cell<Sampled>,
}

/// The result of [`Work::memory`] for `count` batches, and how often it was used again.
#[derive(Clone, Copy, Debug, Default)]
struct Sampled {
    count: usize,
    memory: usize,
    uses: u32,
}

/// State of idle partitions, kept for partitions that become busy.
#[derive(Debug, Default)]
#[expect(clippy::vec_box, reason = "the boxes are what is kept: a partition's slot is one pointer")]
pub(super) struct SpareWork(Vec<Box<Work>>);

impl SpareWork {
    fn keep(&mut self, mut work: Box<Work>, list: UndoneList) {
        work.queue.shrink_to(2 * WINDOW);
        *work = Work { queue: std::mem::take(&mut work.queue), queued: false, list, sampled: Cell::default() };
        if self.0.len() < SPARE_MAX {
            self.0.push(work);
        }
    }
}

impl Work {
    /// The partition's state for rows, created if it has none.
    pub(super) fn begin<'a>(
        work: &'a mut Option<Box<Self>>,
        window: &mut PartitionWindow,
        spare: &mut SpareWork,
    ) -> &'a mut Self {
        work.get_or_insert_with(|| {
            let mut work = spare.0.pop().unwrap_or_default();
            window.wake(std::mem::take(&mut work.list));
            work
        })
    }

    /// Makes uncut batches at the end of the queue that are in memory alone go to the log, since a younger row goes there. Returns
    /// whether there are any. `undone`: the number of batches in the window.
    pub(super) fn log_those_before(&mut self, undone: usize, partition: i32) -> bool {
        let waits = |batch: &&mut Batch| batch.in_log.kind == Kind::Memory;
        let mut any = false;
        for batch in self.queue.range_mut(undone..).rev().take_while(waits) {
            (batch.in_log.kind, any) = (Kind::Fresh(partition), true);
        }
        any
    }

    /// The approximate memory of the batches. Queued batches are of similar size, so a long queue is only sampled.
    pub(super) fn memory(&self) -> usize {
        let count = self.queue.len();
        let last = self.sampled.get();
        if count > SAMPLES && last.count == count && last.uses < SAMPLE_USES {
            self.sampled.set(Sampled { uses: last.uses + 1, ..last });
            return last.memory;
        }
        let step = count.div_ceil(SAMPLES).max(1);
        let looked: usize = self.queue.iter().step_by(step).map(Batch::memory).sum();
        let memory = looked.saturating_mul(count) / count.div_ceil(step).max(1);
        self.sampled.set(Sampled { count, memory, uses: 0 });
        memory
    }
}

impl Partition {
    /// Returns its state to the spares, if it has neither rows nor a request.
    pub(super) fn rest(&mut self, spare: &mut SpareWork) {
        let window = &mut self.window;
        if let Some(work) = self.work.take_if(|work| work.queue.is_empty() && !window.is_in_flight()) {
            spare.keep(work, window.rest());
        }
    }

    /// Whether the partition has neither rows, in memory or in the log alone, nor a request.
    pub(super) const fn is_idle(&self) -> bool {
        self.work.is_none() && self.spooled.is_none()
    }

    /// Batches in memory.
    pub(super) fn queued(&self) -> usize {
        self.work.as_ref().map_or(0, |work| work.queue.len())
    }

    /// The serial of the last batch; 0: none.
    pub(super) fn last_serial(&self) -> u64 {
        self.work.as_ref().and_then(|work| work.queue.back()).map_or(0, |batch| batch.serial)
    }

    /// The number of batches up to a serial, and of those that an earlier process has cut.
    pub(super) fn count_of(&self, last: u64) -> usize {
        let is_one = |batch: &&Batch| batch.serial <= last || batch.in_log.old;
        self.work.as_ref().map_or(0, |work| work.queue.iter().filter(is_one).count())
    }

    /// The number of uncut batches in memory.
    pub(super) fn uncut_count(&self) -> usize {
        self.queued() - self.window.len()
    }

    /// Marks its work as listed for the next poll. False: it has none, or is listed already.
    pub(super) fn is_now_queued(&mut self) -> bool {
        self.work.as_mut().is_some_and(|work| !std::mem::replace(&mut work.queued, true))
    }

    /// The last uncut batch, which may take more rows.
    pub(super) fn last_uncut(&self) -> Option<&Batch> {
        self.work.as_ref()?.queue.back().filter(|_| self.uncut_count() > 0)
    }

    /// Rows in the log alone, except those of cuts.
    pub(super) fn backlog(&self) -> Option<&Backlog> {
        self.spooled.as_ref()?.backlog.as_ref()
    }

    /// Like [`Self::backlog`], mutable.
    pub(super) fn backlog_mut(&mut self) -> Option<&mut Backlog> {
        self.spooled.as_mut()?.backlog.as_mut()
    }

    /// All uncut batches in memory.
    pub(super) fn all_uncut(&self) -> impl Iterator<Item = &Batch> {
        let undone = self.window.len();
        self.work.iter().flat_map(move |work| work.queue.iter().skip(undone))
    }

    /// The batch that would be cut next.
    pub(super) fn uncut(&self) -> Option<&Batch> {
        self.work.as_ref()?.queue.get(self.window.len())
    }

    /// The oldest undone batch.
    pub(super) fn oldest_undone(&self) -> Option<&Batch> {
        self.work.as_ref()?.queue.front().filter(|_| !self.window.is_empty())
    }

    /// The first uncut batch, if it may be cut: its linger is over, or it takes no more rows.
    fn ripe(&self, rules: &dyn Rules, now: Monotonic) -> Option<Head> {
        let (work, batch) = (self.work.as_ref()?, self.uncut()?);
        let full = work.queue.len() > self.window.len() + 1 || batch.is_closed();
        let head = || Head { newest: batch.max_timestamp, logged: batch.in_log.is_logged(), old: batch.in_log.old };
        rules.is_ripe(full, batch.ripe_at.0, now.0).then(head)
    }

    /// Whether all rows of the first uncut batch are in the log, if they have to be there.
    pub(super) fn is_staged(&self) -> bool {
        self.uncut().is_none_or(|batch| batch.in_log.is_staged(batch.count))
    }

    /// The window's next step.
    pub(super) fn step(&self, terms: &StepTerms) -> Option<Step> {
        self.window.step(self.ripe(terms.rules, terms.now), terms)
    }

    /// The number of an earlier process's cuts that must be loaded before anything is cut. Cuts that are no batch are loaded after
    /// the batches that the earlier process had cut.
    pub(super) fn restored(&self) -> usize {
        let old = self.uncut().is_some_and(|batch| batch.in_log.old);
        let waits = |cut: &&RestoredCut| !old || cut.is_batch();
        self.spooled.as_ref().map_or(0, |spooled| spooled.cuts.iter().filter(waits).count())
    }
}
