//! Rows that the log has not taken, though there was room when they came: cuts and ends stand before them in a group, moves
//! may take what was free, and rows of a sink that goes to memory first have no room of their own. They wait in memory, and
//! hold up neither what makes room nor the rows of others.

use super::batch::Batch;
use super::in_log::Kind;
use super::logging::Dirty;
use super::row_log::RowLog;
use super::{Keep, Producer};

impl Producer {
    /// Weighs what waits for the log, for each sink that holds more than it should. Looks only at where such rows are.
    pub(super) fn weigh_unwritten(&mut self) {
        let mut short = false;
        for sink in &mut self.sinks {
            sink.unwritten = 0;
            short |= sink.memory > sink.settings.spill_after;
        }
        if !short {
            return;
        }
        let waits =
            |batch: &&Batch| matches!(batch.in_log.kind, Kind::Fresh(_)) && !batch.in_log.is_staged(batch.count);
        let places = self.logging.unwritten();
        for dirty in &places {
            let (dirty, topic) = (*dirty, &self.topics[dirty.topic as usize]);
            let sink = topic.sink;
            let partition = usize::try_from(dirty.partition).ok().and_then(|number| topic.partitions.get(number));
            // Where nothing but a backlog is, its tail is the first queue as well as the second.
            let first = usize::from(partition.is_some_and(|partition| partition.work.is_none()));
            for which in first.. {
                let Some(queue) = self.queue_mut(dirty, which) else { break };
                let memory: usize = queue.iter().filter(waits).map(Batch::memory).sum();
                self.sinks[sink].unwritten += memory;
            }
        }
        self.logging.places = places;
    }

    /// Leaves a place for later that the log has refused, if no answer at the log's level waits for it: a sink that holds
    /// its share keeps nobody else from being written.
    pub(super) fn put_aside(&mut self, dirty: Dirty) -> bool {
        let sink = self.topics[dirty.topic as usize].sink;
        if self.sinks[sink].settings.keep == Keep::Disk {
            return false;
        }
        if self.logging.aside.len() <= sink {
            self.logging.aside.resize_with(sink + 1, Default::default);
        }
        self.logging.aside[sink].push_back(dirty);
        // It stands in that list until it is written, and not in the other.
        self.set_dirty(dirty, true);
        true
    }

    /// The same for what comes behind others of its sink: numbers tell which rows of a topic are older.
    pub(super) fn put_behind_aside(&mut self, dirty: Dirty) -> bool {
        let sink = self.topics[dirty.topic as usize].sink;
        self.logging.aside.get(sink).is_some_and(|aside| !aside.is_empty()) && self.put_aside(dirty)
    }

    /// Writes what was left for later, of each sink as far as the log takes it.
    pub(super) fn stage_aside(&mut self, log: &mut dyn RowLog) {
        for sink in 0..self.logging.aside.len() {
            while let Some(dirty) = self.logging.aside[sink].front().copied() {
                if self.stage_place(dirty, log).is_err() {
                    break;
                }
                self.logging.aside[sink].pop_front();
                self.set_dirty(dirty, false);
            }
        }
    }

    /// Marks a place as one with rows to be staged, or no more. Whether it was; of one that is no more nothing is noted.
    pub(super) fn set_dirty(&mut self, Dirty { topic, partition, .. }: Dirty, dirty: bool) -> bool {
        let topic = &mut self.topics[topic as usize];
        let flag = match usize::try_from(partition) {
            Ok(number) => topic.partitions.get_mut(number).map(|partition| &mut partition.dirty),
            Err(_) => Some(&mut topic.dirty),
        };
        flag.is_some_and(|flag| std::mem::replace(flag, dirty))
    }
}
