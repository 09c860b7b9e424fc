//! One topic of one sink: its partitions, and its rows without one.

use std::rc::Rc;

use super::batch::Batch;
use super::in_log::Lane;
use super::partition::Partition;
use super::row_log::{Known, NewCut, RowRun};
use super::turns::{Moved, Turns};
use super::unplaced::Unplaced;
use super::view::TopicView;
use crate::types::SinkId;
use forebay_record::Stamp;
use forebay_runtime::seam::Monotonic;

/// A topic of a sink.
#[derive(Debug)]
pub(super) struct Topic {
    pub(super) name: Rc<str>,
    /// The sink's index.
    pub(super) sink: usize,
    /// Whether another sink has a topic of this name: their batches never share a request (P7).
    pub(super) shared: bool,
    /// Whether the topic is forgotten; its place is free.
    pub(super) vacant: bool,
    /// Time of the last new row.
    pub(super) used_at: Monotonic,
    /// Memory of the batches, placed and unplaced.
    pub(super) memory: usize,
    /// Memory of the tickets of rows that are on disk alone.
    pub(super) owed: usize,
    pub(super) view: TopicView,
    /// Partitions, at least as many as the topic is known to have.
    pub(super) partitions: Vec<Partition>,
    /// Rows in partitions.
    pub(super) placed: u64,
    /// Partitions with rows in the log alone.
    pub(super) backlogged: u32,
    /// The partition of rows without a key, batch by batch.
    pub(super) sticky: usize,
    pub(super) unplaced: Unplaced,
    pub(super) turns: Turns,
}

impl Topic {
    pub(super) fn new(name: &str, sink: usize) -> Self {
        Self {
            name: Rc::from(name),
            sink,
            shared: false,
            vacant: false,
            used_at: Monotonic(0),
            memory: 0,
            owed: 0,
            view: TopicView::default(),
            partitions: Vec::new(),
            placed: 0,
            backlogged: 0,
            sticky: usize::MAX,
            unplaced: Unplaced::default(),
            turns: Turns::default(),
        }
    }

    /// The incarnation by which the rows have their partitions, if all have them by the same. While a change of the
    /// count is pending, they do not: the id may already be a recreated topic's, which never had that count.
    pub(super) fn incarnation<'a>(&self, cluster: &'a str) -> Known<'a> {
        let is_settled = !self.turns.restoring && self.view.is_settled();
        let count = if is_settled { self.view.count } else { 0 };
        Known { cluster, topic_id: self.view.id, partitions: u32::try_from(count).unwrap_or(u32::MAX) }
    }

    /// The lane of a partition, or of the rows without one. `None`: there is no such partition.
    pub(super) fn lane_mut(&mut self, home: i32) -> Option<&mut Lane> {
        match usize::try_from(home) {
            Ok(number) => self.partitions.get_mut(number).map(|partition| &mut partition.lane),
            Err(_) => Some(&mut self.unplaced.lane),
        }
    }

    /// Creates partitions up to this count.
    pub(super) fn with_partitions(&mut self, count: usize) {
        if self.partitions.len() < count {
            self.partitions.resize_with(count, Partition::default);
        }
    }

    /// The promise of a batch of this topic, for the log; its rows are of one lane.
    pub(super) fn new_cut<'a>(
        &'a self,
        cluster: &'a str,
        partition: i32,
        (timeless, stamp): (bool, Stamp),
        (lane, rows): (u64, &'a [RowRun]),
    ) -> NewCut<'a> {
        NewCut {
            sink: SinkId::of(self.sink),
            topic: &self.name,
            of: self.incarnation(cluster),
            partition,
            producer_id: stamp.producer_id,
            epoch: stamp.epoch,
            sequence: stamp.sequence,
            timeless,
            lane,
            rows,
        }
    }

    /// The minimum number of partitions, by those with rows or cuts in the log alone.
    pub(super) fn partitions_with_spooled(&self) -> usize {
        self.partitions.iter().rposition(|partition| partition.spooled.is_some()).map_or(0, |last| last + 1)
    }

    /// Whether a new row goes straight into a partition.
    pub(super) fn is_open(&self) -> bool {
        let waits = self.view.growth.is_some() || self.turns.restoring || self.turns.moved != Moved::None;
        self.view.count > 0 && !waits && self.unplaced.is_empty()
    }

    /// Whether rows in memory could get partitions, once the topic is known.
    pub(super) fn has_placeable(&self) -> bool {
        !self.waits_for_placed() && !self.unplaced.queue.is_empty()
    }

    /// The partition of a row without a key: the same one while its batch grows.
    pub(super) fn sticky_partition(&mut self, fits: impl Fn(&Batch) -> bool, rng: &mut fastrand::Rng) -> usize {
        let growing = |partition: &Partition| partition.last_uncut().is_some_and(&fits);
        if self.sticky >= self.view.count || !self.partitions.get(self.sticky).is_some_and(growing) {
            let (a, b) = (rng.usize(..self.view.count), rng.usize(..self.view.count));
            self.sticky = if self.load(a) <= self.load(b) { a } else { b };
        }
        self.sticky
    }

    /// The number of batches before a new row of a partition; without a leader the maximum.
    fn load(&self, partition: usize) -> usize {
        let partition = &self.partitions[partition];
        if partition.leader.is_some() { partition.queued() } else { usize::MAX }
    }

    /// Whether fresh metadata would help: rows wait for a partition or for a leader.
    pub(super) fn wants_metadata(&self) -> bool {
        let waits = |partition: &Partition| !partition.is_idle();
        let unplaced = !self.unplaced.is_empty();
        (self.view.count == 0 && (unplaced || self.partitions.iter().any(waits)))
            || (self.partitions.iter().enumerate())
                .any(|(n, of)| of.leader.is_none() && (waits(of) || (unplaced && n < self.view.count)))
    }
}
