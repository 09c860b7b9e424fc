//! Rows of publishers that another instance serves now. They publish the rows again there, and late rows from here would break
//! their order: rows in no cut batch are dropped without an acknowledgement.

use std::collections::VecDeque;

use super::Producer;
use super::batch::Batch;
use crate::types::{SinkId, Ticket};
use forebay_record::Record;

impl Producer {
    /// Drops rows of a sink that are in memory alone, in no cut batch, and selected by `goes` from their ticket and record. Looks at all rows of the
    /// sink: not for every turn. Returns how many rows were dropped.
    pub fn withdraw(&mut self, sink: SinkId, goes: impl Fn(Option<Ticket>, &Record<'_>) -> bool) -> u64 {
        let mut all = 0;
        for index in self.topics.places() {
            if self.topics[index].sink != usize::from(sink.0) || self.topics[index].memory == 0 {
                continue;
            }
            let before = all;
            for key in self.topics.keys(index) {
                let undone = self.topics[key].window.len();
                let Some(work) = self.topics[key].work.as_mut() else { continue };
                let mut queue = std::mem::take(&mut work.queue);
                let gone = self.withdraw_of(index, &mut queue, undone, &goes);
                if let Some(work) = self.topics[key].work.as_mut() {
                    work.queue = queue;
                }
                let placed = &mut self.topics[index].placed;
                *placed = placed.saturating_sub(gone);
                self.rest(key);
                all += gone;
            }
            let unplaced = &mut self.topics[index].unplaced;
            let from = unplaced.half_placed();
            let mut queue = std::mem::take(&mut unplaced.queue);
            all += self.withdraw_of(index, &mut queue, from, &goes);
            self.topics[index].unplaced.queue = queue;
            if all > before {
                self.may_place(index);
            }
        }
        all
    }

    /// Drops such rows of the batches of a queue from `from` on.
    fn withdraw_of(
        &mut self,
        index: u32,
        queue: &mut VecDeque<Batch>,
        from: usize,
        goes: &impl Fn(Option<Ticket>, &Record<'_>) -> bool,
    ) -> u64 {
        let (mut rows, mut at) = (0, from);
        while let Some(batch) = queue.get(at) {
            if !batch.may_lose_rows() || !batch.any_row(goes) {
                at += 1;
                continue;
            }
            let gone = self
                .drop_rows_at(index, queue, &mut at, |number, ticket, record| number.is_none() && goes(ticket, record));
            let Some((gone, tickets)) = gone else { break };
            rows += gone;
            self.memory.pool.give_tickets(tickets);
        }
        rows
    }
}
