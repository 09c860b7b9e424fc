//! Age of the oldest records. Computed on request: rows carry no data for it.

use super::Producer;
use super::batch::Batch;
use crate::types::SinkId;

impl Producer {
    /// Timestamps of the oldest records in memory, milliseconds since 1970: one or more for each sink that has any there.
    /// Partitions keep their order, so only the first batch of each is checked; topics without records cost nothing.
    pub fn oldest(&self, mut found: impl FnMut(SinkId, i64)) {
        for topic in self.topics.iter().filter(|topic| !topic.vacant && topic.memory > 0) {
            let placed = topic.partitions.iter().filter_map(|partition| partition.work.as_ref()?.queue.front());
            let times = placed.chain(topic.unplaced.queue.front()).filter_map(Batch::oldest_ms);
            if let (Some(oldest), Ok(sink)) = (times.min(), u16::try_from(topic.sink)) {
                found(SinkId(sink), oldest);
            }
        }
    }
}
