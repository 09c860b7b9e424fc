//! Rows whose time is over before they were cut. MQTT's Message Expiry Interval says that a message which has not begun
//! its way to a receiver by then must be deleted [MQTT-3.3.2-5]; a row that has not been cut has not begun. A batch that is
//! cut stays until Kafka's final word, however old it gets.
//!
//! Looked at where a row would begin its way: before it is placed, and before its batch is cut. Its publisher is told
//! success, as the standard has it: the message was taken, and it was the sender's wish that it should not outlive its time.

use super::batch::Dropped;
use super::{Finished, Key, Producer};
use crate::kafka::batch::Row;
use crate::kafka::types::{Outcome, SinkId, Ticket};
use crate::runtime::seam::Monotonic;

/// Rows of one batch that have a deadline, in the order of the batch: their places and their deadlines.
#[derive(Debug, Default)]
pub(super) struct Expiries {
    rows: Vec<(u32, Monotonic)>,
    first: Option<Monotonic>,
}

/// Bytes of one of them: what the memory account charges.
pub(super) const EXPIRY_BYTES: usize = std::mem::size_of::<(u32, Monotonic)>();

impl Expiries {
    pub(super) fn push(&mut self, row: u32, at: Monotonic) {
        self.rows.push((row, at));
        self.first = Some(self.first.map_or(at, |first| first.min(at)));
    }

    /// Whether any deadline has passed.
    pub(super) fn any(&self, now: Monotonic) -> bool {
        self.first.is_some_and(|first| first <= now)
    }

    /// A row's deadline; [`Monotonic::NEVER`] if it has none.
    pub(super) fn of(&self, row: u32) -> Monotonic {
        if self.rows.is_empty() {
            return Monotonic::NEVER;
        }
        self.rows.binary_search_by_key(&row, |(row, _)| *row).map_or(Monotonic::NEVER, |index| self.rows[index].1)
    }

    pub(super) fn capacity(&self) -> usize {
        self.rows.capacity()
    }
}

impl Producer {
    /// [`Producer::append`] of a row that must not be sent once `expires` has passed.
    pub fn append_until<'a, H>(
        &mut self,
        sink: SinkId,
        topic: &str,
        row: Row<'a, H>,
        ticket: Option<Ticket>,
        (expires, now): (Monotonic, Monotonic),
    ) where
        H: Iterator<Item = (&'a [u8], &'a [u8])> + Clone,
    {
        self.expires = expires;
        self.append(sink, topic, row, ticket, now);
        self.expires = Monotonic::NEVER;
    }

    /// Drops what has expired in the batch that a partition would cut next. `false`: no row is left in it.
    pub(super) fn drop_expired(&mut self, key: Key, now: Monotonic) -> bool {
        let topic = &mut self.topics[key.topic as usize];
        let Some(work) = topic.partitions[key.partition as usize].work.as_mut() else { return true };
        let next = work.cut;
        let Some(batch) = work.queue.get_mut(next).filter(|batch| batch.has_expired(now)) else { return true };
        let before = batch.memory();
        let dropped = batch.drop_expired(&mut self.pool, now);
        let after = batch.memory();
        topic.placed -= dropped.rows;
        let emptied = if batch.count == 0 { work.queue.remove(next) } else { None };
        let left = emptied.is_none();
        self.resized(key.topic, before, after);
        self.expired(key.topic, dropped);
        if let Some(batch) = emptied {
            self.end(key.topic, batch, Outcome::Delivered);
            self.make_ready(key);
            self.rest(key);
        }
        if self.topics[key.topic as usize].placed == 0 {
            self.may_place(key.topic);
        }
        left
    }

    /// Takes dropped rows off the books; whoever is owed an answer for them gets it.
    pub(super) fn expired(&mut self, topic: u32, dropped: Dropped) {
        let sink = self.topics[topic as usize].sink;
        let stats = &mut self.sinks[sink].stats;
        stats.expired += dropped.rows;
        stats.buffered_rows -= dropped.rows;
        stats.buffered_bytes = stats.buffered_bytes.saturating_add_signed(-dropped.bytes);
        self.finished.push(Finished { tickets: dropped.tickets, outcome: Outcome::Delivered, at_once: false });
    }
}
