//! Offsets of rows in Kafka's log, to report to their publishers: noted only where the settings ask for it.

use std::rc::Rc;

use super::batch::Batch;
use super::{Finished, Producer};
use crate::types::{Landed, Outcome, Run, SinkId};

/// The place of a batch in Kafka.
#[derive(Debug)]
pub(super) struct Place {
    sink: SinkId,
    /// The topic's name instead of its index: the topic may be forgotten before the results are fetched.
    topic: Rc<str>,
    partition: u32,
    /// Offset of the first record; -1: not known.
    base_offset: i64,
}

impl Place {
    /// The place of the rows from `row` on.
    fn of(&self, row: u32) -> Landed<'_> {
        let offset = (self.base_offset >= 0).then(|| self.base_offset.saturating_add(i64::from(row)));
        Landed { sink: self.sink, topic: &self.topic, partition: self.partition, offset }
    }
}

impl Producer {
    /// The place of a batch that ends with this outcome. `None`: it is not in Kafka, or places are not wanted. A batch that is
    /// settled by a younger one's answer is in Kafka too, at an offset that Kafka did not report.
    pub(super) fn landed(&self, topic: u32, partition: Option<u32>, batch: &Batch, outcome: Outcome) -> Option<Place> {
        let partition = partition.filter(|_| self.settings.receipts && outcome == Outcome::Delivered)?;
        let topic = &self.topics[topic];
        let sink = SinkId::of(topic.sink);
        Some(Place { sink, topic: Rc::clone(&topic.name), partition, base_offset: batch.in_log.base_offset })
    }

    /// Like [`Producer::drain_completions`], with the place in Kafka of each run's first row; the others follow it. `None`:
    /// the row is not in Kafka, or was acknowledged before its place was known, or [`super::Settings::receipts`] is off.
    pub fn drain_landed(&mut self, mut f: impl FnMut(Run, Outcome, Option<Landed<'_>>)) {
        for Finished { tickets, outcome, at_once, landed } in self.outbox.finished.drain(..) {
            for (row, run) in tickets.runs_at() {
                f(run, outcome, landed.as_ref().map(|place| place.of(row)));
            }
            if !at_once {
                self.memory.pool.give_tickets(tickets);
            }
        }
    }
}
