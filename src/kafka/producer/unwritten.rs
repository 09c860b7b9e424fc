//! Rows that the log has not taken, though there was room when they came: cuts and ends stand before them in a group, moves
//! may take what was free, and rows of a sink that goes to memory first have no room of their own. They wait in memory, and
//! hold up neither what makes room nor the rows of others.

use std::collections::VecDeque;

use super::backlog::Backlog;
use super::batch::Batch;
use super::in_log::Kind;
use super::partition::Partition;
use super::row_log::RowLog;
use super::{Keep, Producer};

/// Where rows wait to be staged.
#[derive(Clone, Copy, Debug)]
pub(super) struct Dirty {
    pub(super) topic: u32,
    /// [`super::row_log::UNPLACED`]: its rows without a partition.
    pub(super) partition: i32,
    /// They may be anywhere in the queue, not only at its end.
    pub(super) anywhere: bool,
}

/// Where rows wait that the log has not taken.
#[derive(Debug, Default)]
pub(super) struct Unwritten {
    /// Where rows came since the last poll, and those that are being staged.
    pub(super) dirty: Vec<Dirty>,
    pub(super) staging: VecDeque<Dirty>,
    /// By sink, places that were left for later.
    aside: Vec<VecDeque<Dirty>>,
    /// Where rows were staged in this poll.
    pub(super) staged: Vec<Dirty>,
    /// Kept for its capacity.
    scratch: Vec<Dirty>,
}

impl Unwritten {
    /// Whether nothing was left for later.
    pub(super) fn none_aside(&self) -> bool {
        self.aside.iter().all(VecDeque::is_empty)
    }

    /// Whether the log has not taken all rows that came before the last poll; and whether some of them may be this sink's.
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
    /// Notes that rows of a topic's partition, or of none, wait to be staged.
    pub(super) fn mark_dirty(&mut self, topic: u32, partition: i32) {
        let place = Dirty { topic, partition, anywhere: false };
        if !self.set_dirty(place, true) {
            self.logging.unwritten.dirty.push(place);
        }
    }

    /// The same of rows that did not come just now, and may be anywhere. Their answers may wait for what is being
    /// staged: so do they, or those would be given before they are written.
    pub(super) fn mark_older_dirty(&mut self, topic: u32, partition: i32) {
        self.logging.unwritten.staging.push_back(Dirty { topic, partition, anywhere: true });
    }

    /// Weighs the rows that wait for the log, or after rows that the log alone has, for each sink that holds more
    /// than it should. Looks only at where such rows are.
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

    /// Leaves a place for later that the log has refused, if no answer at the log's level waits for it: a sink that holds
    /// its share keeps nobody else from being written.
    pub(super) fn put_aside(&mut self, dirty: Dirty) -> bool {
        let sink = self.topics[dirty.topic].sink;
        if self.sinks[sink].settings.keep == Keep::Disk {
            return false;
        }
        if self.logging.unwritten.aside.len() <= sink {
            self.logging.unwritten.aside.resize_with(sink + 1, Default::default);
        }
        self.logging.unwritten.aside[sink].push_back(dirty);
        // It stands in that list until it is written, and not in the other.
        self.set_dirty(dirty, true);
        true
    }

    /// Puts a place aside if its sink has others there: numbers tell which rows of a topic are older.
    pub(super) fn put_behind_aside(&mut self, dirty: Dirty) -> bool {
        let sink = self.topics[dirty.topic].sink;
        self.logging.unwritten.aside.get(sink).is_some_and(|aside| !aside.is_empty()) && self.put_aside(dirty)
    }

    /// Writes what was left for later, of each sink as far as the log takes it.
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

    /// Marks a place as one with rows to be staged, or no more. Whether it was; of one that is no more nothing is noted.
    pub(super) fn set_dirty(&mut self, Dirty { topic, partition, .. }: Dirty, dirty: bool) -> bool {
        let lane = self.topics[topic].lane_mut(partition);
        lane.is_some_and(|lane| std::mem::replace(&mut lane.dirty, dirty))
    }
}
