//! Rows on the disk alone that make room for younger ones: whoever keeps the log ends them, and says so.

use super::backlog::Backlog;
use super::partition::Partition;
use super::row_log::RowRun;
use super::tickets::Tickets;
use super::{Finished, Producer};
use crate::kafka::types::{Outcome, SinkId, Ticket};

impl Producer {
    /// The rows of a lane that stand on the disk alone, rows of cuts aside: what may be dropped to make room. `None`: it
    /// has none.
    #[must_use]
    pub fn on_disk(&self, lane: u64) -> Option<RowRun> {
        let (_, backlog) = self.backlog_of(lane)?;
        // What is cut stays until Kafka's word; nearly all that is not stands behind it.
        let cut = backlog.skip.last().filter(|_| !self.settings.rules.drops_cut_rows());
        let first = cut.map_or(0, RowRun::end).max(backlog.next);
        (first < backlog.end).then(|| RowRun { first, count: backlog.end - first })
    }

    /// Rows of a sink that are in the log alone. It looks at every partition that has such: not for every turn.
    #[must_use]
    pub fn spilled_rows(&self, sink: SinkId) -> u64 {
        let of_sink = |index: &u32| self.topics[*index].sink == usize::from(sink.0);
        let rows = |(index, partition): &(u32, i32)| {
            let topic = &self.topics[*index];
            match usize::try_from(*partition) {
                Ok(number) => topic.partitions.get(number).and_then(Partition::backlog).map_or(0, |of| of.rows),
                Err(_) => topic.unplaced.backlogs.iter().map(|backlog| backlog.rows).sum(),
            }
        };
        self.loader.spooling.iter().filter(|(index, _)| of_sink(index)).map(rows).sum()
    }

    fn backlog_of(&self, lane: u64) -> Option<((u32, i32), &Backlog)> {
        self.loader
            .spooling
            .iter()
            .find_map(|(index, partition)| Some(((*index, *partition), self.topics[*index].backlog(*partition, lane)?)))
    }

    /// Whoever keeps the log has ended the `rows` live rows of such a run, the oldest of [`Producer::on_disk`], to make room.
    /// `owed`: whose answers waited for those of an earlier start ([`super::row_log::RowLog::owed`]).
    pub fn dropped(&mut self, lane: u64, run: RowRun, rows: u64, owed: Vec<Ticket>) {
        let mut tickets = Tickets::default();
        owed.into_iter().for_each(|ticket| tickets.push(Some(ticket)));
        if let Some((place, _)) = self.backlog_of(lane) {
            self.dropped_of(place, lane, (run, rows), &mut tickets);
        }
        if !tickets.is_empty() {
            self.outbox.finished.push(Finished::new(tickets, Outcome::Delivered, true));
        }
    }

    fn dropped_of(
        &mut self,
        (index, partition): (u32, i32),
        lane: u64,
        (run, rows): (RowRun, u64),
        tickets: &mut Tickets,
    ) {
        let topic = &mut self.topics[index];
        let Some(backlog) = topic.backlog_mut(partition, lane) else { return };
        // What has ended before is counted, though the log may have had it until now.
        let within = |over: &RowRun| over.end().min(run.end()).saturating_sub(over.first.max(run.first));
        let over = backlog.gone.iter().map(within).sum::<u64>();
        let rows = rows.saturating_sub(over).min(backlog.rows);
        backlog.let_go(run, rows);
        let owed = backlog.owed.memory();
        backlog.owed.take_run(run, tickets);
        let owed = (owed, backlog.owed.memory());
        if backlog.placed {
            topic.placed = topic.placed.saturating_sub(rows);
        }
        let stats = &mut self.sinks[topic.sink].stats;
        stats.dropped += rows;
        stats.buffered_rows -= rows;
        self.owed_resized(index, owed.0, owed.1);
    }
}
