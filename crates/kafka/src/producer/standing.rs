//! The state of held rows as text, to find what delays them.

use std::fmt::Write;

use super::Producer;
use super::backlog::Backlog;

impl Producer {
    /// A line for each topic and partition that holds rows.
    pub fn standing(&self) -> String {
        let (used, ceilings) = (self.memory.pool.used(), &self.memory.ceilings);
        let mut text = format!(
            "memory {used} of {ceilings:?}, loading {:?}, reachable {}\n",
            self.loader.loading, self.cluster.reachable
        );
        let backlog = |of: &Backlog| {
            let tail: Vec<_> = of.tail.iter().map(|batch| (batch.count, batch.in_log.kind)).collect();
            format!("lane {} {}..{} rows {} skip {:?} tail {tail:?}", of.lane, of.next, of.end, of.rows, of.skip)
        };
        for (index, topic) in self.topics.iter().enumerate() {
            let sink = &self.sinks[topic.sink];
            let held: Vec<_> = topic
                .unplaced
                .queue
                .iter()
                .map(|batch| (batch.count, batch.in_log.kind, batch.in_log.numbers.of(0)))
                .collect();
            let behind: Vec<_> = topic.unplaced.backlogs.iter().map(backlog).collect();
            let _ = writeln!(
                text,
                "topic {index} {} sink {} memory {} of {}: count {} growth {:?} moved {:?} placed {} from {:?}, unplaced {held:?}, \
                 backlogs {behind:?}, backlogged {}, listed {}, in list {}",
                topic.name,
                topic.sink,
                sink.memory,
                sink.settings.spill_after,
                topic.view.count,
                topic.view.growth,
                topic.turns.moved,
                topic.placed,
                topic.unplaced.place.count,
                topic.backlogged,
                topic.unplaced.lane.listed,
                self.loader.spooling.contains(&(index as u32, -1)),
            );
            for (number, partition) in topic.partitions.iter().enumerate() {
                if partition.is_idle() {
                    continue;
                }
                let spooled = partition.spooled.as_ref();
                let queue: Vec<_> = partition
                    .work
                    .iter()
                    .flat_map(|work| &work.queue)
                    .map(|batch| (batch.count, batch.in_log.kind, batch.in_log.numbers.of(0)))
                    .collect();
                let _ = writeln!(
                    text,
                    "  {number}: leader {:?}, queue {queue:?}, window {:?}, cuts {:?}, backlog {:?}, listed {}, in list {}",
                    partition.leader,
                    partition.window,
                    spooled.map(|spooled| &spooled.cuts),
                    partition.backlog().map(backlog),
                    partition.lane.listed,
                    self.loader.spooling.contains(&(index as u32, number as i32)),
                );
            }
        }
        text
    }
}
