//! Rows of sinks that outlive the process which are not in the log: a stop would lose them. Looks at every partition: for the
//! shutdown only.

use super::Producer;
use super::batch::Batch;
use super::in_log::Kind;
use super::rejected::RejectedBatch;
use crate::types::SinkId;

impl Producer {
    /// Rows of a sink that have to be in the log, and that the log has not taken.
    #[must_use]
    pub fn unwritten_rows(&self, sink: SinkId) -> u64 {
        let sink = usize::from(sink.0);
        let fresh = |batch: &&Batch| matches!(batch.in_log.kind, Kind::Fresh(_));
        let unwritten = |batch: &Batch| u64::from(batch.count - batch.in_log.numbers.rows());
        // The first rows of a batch that is being placed have left it.
        let mine = self.topics.iter().filter(|topic| topic.sink == sink);
        let half = mine.map(|topic| match topic.unplaced.queue.front().filter(fresh) {
            Some(batch) => u64::from(topic.unplaced.place.count.saturating_sub(batch.in_log.numbers.rows())),
            None => 0,
        });
        let refused = self.rejected_of(sink).map(RejectedBatch::unwritten);
        (self.batches(sink).filter(fresh).map(unwritten).sum::<u64>() + refused.sum::<u64>()).saturating_sub(half.sum())
    }

    /// A sink's batches in memory, except rejected ones and partly read cuts.
    fn batches(&self, sink: usize) -> impl Iterator<Item = &Batch> {
        self.topics.iter().filter(move |topic| topic.sink == sink).flat_map(|topic| {
            let placed = topic.partitions.iter().flat_map(|partition| {
                let queue = partition.work.iter().flat_map(|work| &work.queue);
                queue.chain(partition.backlog().into_iter().flat_map(|backlog| &backlog.tail))
            });
            let tails = topic.unplaced.backlogs.iter().flat_map(|backlog| &backlog.tail);
            placed.chain(&topic.unplaced.queue).chain(tails)
        })
    }
}
