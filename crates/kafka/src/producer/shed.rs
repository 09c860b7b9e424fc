//! While the machine is short of memory, sinks that allow it ([`super::SinkSettings::sheds`]) hold no more than they did when the
//! shortage began: the oldest rows make room for younger ones, whole batches at a time. Cut batches stay, as Kafka may have them.

use super::batch::Batch;
use super::{Key, Producer};

/// Minimum number of batches that a sink may hold: a full one and a growing one.
const BATCHES_MIN: usize = 2;

/// The place of a batch that may be dropped.
#[derive(Clone, Copy)]
enum Place {
    /// At this index among the topic's batches without a partition.
    Unplaced(u32, usize),
    /// The first uncut batch of a partition.
    Partition(Key),
}

impl Producer {
    /// Sets whether the machine is short of memory.
    pub fn mind_memory(&mut self, is_short: bool) {
        if !is_short && !std::mem::replace(&mut self.is_short, is_short) {
            return;
        }
        self.is_short = is_short;
        for index in 0..self.sinks.len() {
            let Some(sink) = self.sinks.get(index).filter(|sink| sink.settings.sheds) else { continue };
            if !is_short {
                self.sinks[index].shed_above = None;
                continue;
            }
            let least = BATCHES_MIN * sink.settings.batch_bytes;
            let above = sink.shed_above.unwrap_or(sink.memory.max(least));
            self.sinks[index].shed_above = Some(above);
            while self.sinks[index].memory > above && self.shed_oldest(index) {}
        }
    }

    /// Drops the oldest uncut batch of a sink, if there is a younger one. `false`: there is none.
    fn shed_oldest(&mut self, sink: usize) -> bool {
        let mut oldest: Option<(i64, Place)> = None;
        let mut count = 0;
        let mut consider = |batch: Option<&Batch>, place: Place| {
            if let Some(batch) = batch
                && oldest.is_none_or(|(at, _)| batch.max_timestamp < at)
            {
                oldest = Some((batch.max_timestamp, place));
            }
        };
        for index in self.topics.places() {
            let topic = &self.topics[index];
            if topic.sink != sink || topic.memory == 0 {
                continue;
            }
            let first = topic.unplaced.half_placed();
            consider(topic.unplaced.queue.get(first), Place::Unplaced(index, first));
            count += topic.unplaced.queue.len().saturating_sub(first);
            for key in self.topics.keys(index) {
                let partition = &self.topics[key];
                consider(partition.uncut(), Place::Partition(key));
                count += partition.all_uncut().count();
            }
        }
        match oldest.filter(|_| count > 1) {
            None => return false,
            Some((_, Place::Unplaced(index, place))) => {
                if let Some(batch) = self.topics[index].unplaced.queue.remove(place) {
                    self.shed(index, batch);
                }
            }
            Some((_, Place::Partition(key))) => {
                let place = self.topics[key].window.len();
                let batch = self.topics[key].work.as_mut().and_then(|work| work.queue.remove(place));
                if let Some(batch) = batch {
                    self.topics[key.topic].placed -= u64::from(batch.count);
                    self.shed(key.topic, batch);
                }
                self.make_ready(key);
                self.rest(key);
                if self.topics[key.topic].placed == 0 {
                    self.may_place(key.topic);
                }
            }
        }
        true
    }

    fn shed(&mut self, topic: u32, batch: Batch) {
        self.resized(topic, batch.memory(), 0);
        let dropped = batch.drop_all(&mut self.memory.pool);
        self.sinks[self.topics[topic].sink].stats.dropped += dropped.rows;
        self.off_the_books(topic, dropped);
    }
}
