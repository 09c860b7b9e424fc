//! Rows that the log has not taken, though there was room when they arrived: cuts and ends precede them in a group, moves
//! may take the free room, and rows of a sink that goes to memory first have no room of their own. Such rows stay in memory, and
//! delay neither the entries that make room nor the rows of others.

use std::collections::VecDeque;

use super::backlog::Backlog;
use super::batch::Batch;
use super::in_log::Kind;
use super::partition::Partition;
use super::row_log::RowLog;
use super::{Keep, Producer};

/// A place with rows that are not staged yet.
#[derive(Clone, Copy, Debug)]
pub(super) struct Dirty {
    pub(super) topic: u32,
    /// Partition index; [`super::row_log::UNPLACED`]: rows without a partition.
    pub(super) partition: i32,
    /// Whether the rows may be anywhere in the queue, not only at its end.
    pub(super) anywhere: bool,
}

/// The places with rows that the log has not taken.
#[derive(Debug, Default)]
pub(super) struct Unwritten {
    /// Places that got rows since the last poll, and places that are being staged.
    pub(super) dirty: Vec<Dirty>,
    pub(super) staging: VecDeque<Dirty>,
    /// Postponed places, by sink.
    aside: Vec<VecDeque<Dirty>>,
    /// Places that were staged in this poll.
    pub(super) staged: Vec<Dirty>,
    /// Kept for its capacity.
    scratch: Vec<Dirty>,
}

impl Unwritten {
    /// Whether no place is postponed.
    pub(super) fn none_aside(&self) -> bool {
        self.aside.iter().all(VecDeque::is_empty)
    }

    /// Whether the log has not taken all rows from before the last poll.
    pub(super) fn waits(&self) -> bool {
        !self.staging.is_empty() || !self.none_aside()
    }

    pub(super) fn waits_for(&self, sink: usize) -> bool {
        !self.staging.is_empty() || self.aside.get(sink).is_some_and(|aside| !aside.is_empty())
    }

    /// The places where rows wait to be staged, each once.
    fn places(&mut self) -> Vec<Dirty> {
        let mut places = std::mem::take(&mut self.scratch);
        places.clear();
        places.extend(self.staging.iter().chain(self.aside.iter().flatten()).chain(&self.dirty));
        places.sort_unstable_by_key(|dirty| (dirty.topic, dirty.partition));
        places.dedup_by_key(|dirty| (dirty.topic, dirty.partition));
        places
    }
}

impl Producer {
    /// Notes that rows of a topic's partition, or without one, wait to be staged.
    pub(super) fn mark_dirty(&mut self, topic: u32, partition: i32) {
        let place = Dirty { topic, partition, anywhere: false };
        if !self.set_dirty(place, true) {
            self.logging.unwritten.dirty.push(place);
        }
    }

    /// Like [`Self::mark_dirty`], for older rows, which may be anywhere in the queue. Their acknowledgements may wait for the rows
    /// being staged, so these are staged with them: otherwise they would be acknowledged before they are written.
    pub(super) fn mark_older_dirty(&mut self, topic: u32, partition: i32) {
        self.logging.unwritten.staging.push_back(Dirty { topic, partition, anywhere: true });
    }

    /// Sums the memory of rows that wait for the log, or after rows that are in the log alone, for each sink that holds more
    /// than it should. Looks only at the places of such rows.
    pub(super) fn weigh_waiting(&mut self) {
        let mut short = false;
        for sink in self.sinks.iter_unlisted() {
            sink.waiting = 0;
            short |= sink.memory > sink.settings.spill_after;
        }
        if !short {
            return;
        }
        let unwritten =
            |batch: &&Batch| matches!(batch.in_log.kind, Kind::Fresh(_)) && !batch.in_log.is_staged(batch.count);
        let places = self.logging.unwritten.places();
        for dirty in &places {
            let topic = &self.topics[dirty.topic];
            let queue = match usize::try_from(dirty.partition) {
                Ok(number) => topic.partitions.get(number).and_then(|place| Some(&place.work.as_ref()?.queue)),
                Err(_) => Some(&topic.unplaced.queue),
            };
            let memory = queue.into_iter().flatten().filter(unwritten).map(Batch::memory).sum::<usize>();
            self.sinks[topic.sink].waiting += memory;
        }
        self.logging.unwritten.scratch = places;
        for (index, partition) in &self.loader.spooling {
            let topic = &self.topics[*index];
            let waiting = match usize::try_from(*partition) {
                Ok(number) => topic.partitions.get(number).and_then(Partition::backlog).map_or(0, Backlog::waiting),
                Err(_) => topic.unplaced.backlogs.iter().map(Backlog::waiting).sum(),
            };
            self.sinks[topic.sink].waiting += waiting;
        }
    }

    /// Postpones a place that the log has refused, if no acknowledgement at the log's level waits for it: a sink that holds
    /// its share must not delay the writes of others.
    pub(super) fn put_aside(&mut self, dirty: Dirty) -> bool {
        let sink = self.topics[dirty.topic].sink;
        if self.sinks[sink].settings.keep == Keep::Disk {
            return false;
        }
        if self.logging.unwritten.aside.len() <= sink {
            self.logging.unwritten.aside.resize_with(sink + 1, Default::default);
        }
        self.logging.unwritten.aside[sink].push_back(dirty);
        // The place stays in that list until it is written, and is not in the other list.
        self.set_dirty(dirty, true);
        true
    }

    /// Postpones a place if its sink has others postponed: numbers show which rows of a topic are older.
    pub(super) fn put_behind_aside(&mut self, dirty: Dirty) -> bool {
        let sink = self.topics[dirty.topic].sink;
        self.logging.unwritten.aside.get(sink).is_some_and(|aside| !aside.is_empty()) && self.put_aside(dirty)
    }

    /// Writes the postponed places, of each sink as far as the log takes them.
    pub(super) fn stage_aside(&mut self, log: &mut dyn RowLog) {
        for sink in 0..self.logging.unwritten.aside.len() {
            while let Some(dirty) = self.logging.unwritten.aside[sink].front().copied() {
                if self.stage_place(dirty, log).is_err() {
                    break;
                }
                self.logging.unwritten.aside[sink].pop_front();
                self.set_dirty(dirty, false);
            }
        }
    }

    /// Marks a place as having rows to stage, or not. Returns whether it had; a place that no longer exists is ignored.
    pub(super) fn set_dirty(&mut self, Dirty { topic, partition, .. }: Dirty, dirty: bool) -> bool {
        let lane = self.topics[topic].lane_mut(partition);
        lane.is_some_and(|lane| std::mem::replace(&mut lane.dirty, dirty))
    }
}
