//! Partitions for the operator's view. Computed on request.

use super::Producer;
use super::batch::Batch;
use super::partition::Partition;
use super::row_log::RowRun;
use super::topic::Topic;
use crate::types::{NodeId, SinkId};
use forebay_runtime::seam::Monotonic;

/// A partition of a topic, and its rows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Shown {
    /// Partition index; `None`: rows of the topic that have no partition yet.
    pub partition: Option<u32>,
    /// The leader, if it is known.
    pub leader: Option<NodeId>,
    /// Rows not known to be in Kafka.
    pub rows: u64,
    /// The number of those rows that are on disk alone.
    pub spilled: u64,
    /// Memory of the others, in bytes.
    pub bytes: usize,
    /// Undone batches.
    pub undone: usize,
    /// Unanswered requests.
    pub in_flight: usize,
    /// Time at which the oldest row in memory was taken, milliseconds since 1970.
    pub oldest_ms: Option<i64>,
    /// The offset of the last record that Kafka has acknowledged.
    pub acknowledged: Option<i64>,
    /// The state, in a word.
    pub state: &'static str,
}

impl Producer {
    /// All partitions of a sink's topics, each with its topic. A topic is known once it has had a row.
    ///
    /// # Panics
    /// If there is no such sink.
    pub fn partitions(&self, sink: SinkId, now: Monotonic) -> impl Iterator<Item = (&str, Shown)> {
        let mut topics: Vec<u32> = self.sinks[usize::from(sink.0)].topics.values().copied().collect();
        topics.sort_unstable_by(|a, b| self.topics[*a].name.cmp(&self.topics[*b].name));
        topics.into_iter().flat_map(move |index| {
            let topic = &self.topics[index];
            let placed = (0..).zip(&topic.partitions).map(move |(number, partition)| partition.shown(number, now));
            topic.shown_unplaced().into_iter().chain(placed).map(move |shown| (&*topic.name, shown))
        })
    }
}

fn rows_of<'a>(queue: impl Iterator<Item = &'a Batch>) -> (u64, usize) {
    queue.fold((0, 0), |(rows, bytes), batch| (rows + u64::from(batch.count), bytes + batch.memory()))
}

impl Topic {
    /// The topic's rows without a partition, if there are any.
    fn shown_unplaced(&self) -> Option<Shown> {
        let (rows, bytes) = rows_of(self.unplaced.queue.iter());
        let spilled = self.unplaced.backlogs.iter().map(|backlog| backlog.rows).sum::<u64>();
        let state = if self.view.refused.is_some() { "refused" } else { "no_partition" };
        (rows + spilled > 0).then(|| Shown {
            rows: rows + spilled,
            spilled,
            bytes,
            oldest_ms: self.unplaced.queue.front().and_then(Batch::oldest_ms),
            state,
            ..Shown::default()
        })
    }
}

impl Partition {
    fn shown(&self, number: u32, now: Monotonic) -> Shown {
        let queue = self.work.iter().flat_map(|work| work.queue.iter());
        let (in_memory, bytes) = rows_of(queue.clone());
        let spilled = self.spooled.as_ref().map_or(0, |spooled| {
            let of_cut = |rows: &[RowRun]| rows.iter().map(|run| run.count).sum::<u64>();
            let cuts: u64 = spooled.cuts.iter().map(|cut| of_cut(&cut.rows)).sum();
            cuts + spooled.backlog.as_ref().map_or(0, |backlog| backlog.rows)
        });
        Shown {
            partition: Some(number),
            leader: self.leader,
            rows: in_memory + spilled,
            spilled,
            bytes,
            undone: self.window.len(),
            in_flight: self.window.in_flight(),
            oldest_ms: queue.clone().next().and_then(Batch::oldest_ms),
            acknowledged: self.log_next.map(|next| next - 1),
            state: self.state(in_memory + spilled, now),
        }
    }

    fn state(&self, rows: u64, now: Monotonic) -> &'static str {
        match () {
            () if rows == 0 => "idle",
            () if self.leader.is_none() => "no_leader",
            () if self.window.is_in_flight() && self.window.attempts() > 0 => "sent_again",
            () if self.window.is_in_flight() => "sending",
            () if self.window.backs_off(now) => "backing_off",
            () => "waiting",
        }
    }
}
