//! Permanently refused batches of sinks that keep them ([`super::SinkSettings::keep_rejected`]).
//!
//! A rejected batch leaves its partition at once and delays no other. Its rows stay in memory and in the sink's ledger, and
//! in the log if they were there, until the owner of the producer has ended each of them: it gets the batch from
//! [`Producer::next_rejected`], reads the rows with [`Producer::read_rejected`], and reports how each ended with
//! [`Producer::end_rejected_row`]. What it does with the rows is not the producer's concern.

use std::collections::{BTreeMap, VecDeque};

use super::Producer;
use super::batch::Batch;
use super::pool::{BATCH_COST, BUFFER_MIN};
use super::resolve::records_of;
use super::row_log::Fate;
use super::tickets::Cursor;
use crate::types::{Outcome, SinkId, Ticket};
use forebay_record::{HEADER_LEN, Headers};

/// The producer's name of a rejected batch. Never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RejectedId(u64);

/// A batch that has just been rejected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rejected {
    /// The id of the batch.
    pub id: RejectedId,
    /// The sink of the batch.
    pub sink: SinkId,
    /// Kafka's error code.
    pub code: i16,
}

/// A row of a rejected batch.
#[derive(Debug)]
pub struct RejectedRow<'a> {
    /// Index in the batch, from 0.
    pub row: u32,
    /// The Kafka topic that it was for.
    pub topic: &'a str,
    /// The partition that it was for, if it had one yet.
    pub partition: Option<u32>,
    /// Kafka's error code.
    pub code: i16,
    /// Key.
    pub key: Option<&'a [u8]>,
    /// Value; `None` is Kafka's null.
    pub value: Option<&'a [u8]>,
    /// Headers, in order.
    pub headers: Headers<'a>,
    /// Milliseconds since 1970.
    pub timestamp: i64,
    /// The ticket of its publisher. The caller that ends the row acknowledges it.
    pub ticket: Option<Ticket>,
}

/// How a row of a rejected batch ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RejectedEnd {
    /// The row is stored elsewhere.
    HandedOver,
    /// The row is given up.
    Refused,
}

/// A rejected batch.
#[derive(Debug)]
pub(super) struct RejectedBatch {
    pub(super) topic: u32,
    pub(super) partition: Option<u32>,
    pub(super) batch: Batch,
    code: i16,
    /// Rows read so far; `tickets` is after theirs.
    read: u32,
    tickets: Cursor,
    /// One bit for each row: whether it has ended.
    ended: Vec<u64>,
    /// Rows that have not ended.
    open: u32,
}

impl RejectedBatch {
    /// Rows that have not ended and are not in the log.
    pub(super) fn unwritten(&self) -> u64 {
        let rows = self.batch.in_log.numbers.rows()..self.batch.count;
        rows.filter(|row| !self.has_ended(*row)).count() as u64
    }

    pub(super) fn has_ended(&self, row: u32) -> bool {
        self.ended.get(row as usize / 64).is_none_or(|word| word >> (row % 64) & 1 == 1)
    }
}

/// Rejected batches. Their memory stays their sink's, which bounds them; the bits of [`RejectedBatch::ended`] add an eighth
/// of a byte per row.
#[derive(Debug, Default)]
pub(super) struct RejectedBatches {
    batches: BTreeMap<RejectedId, RejectedBatch>,
    begun: u64,
    /// Batches not reported yet.
    new: VecDeque<Rejected>,
}

impl RejectedBatches {
    pub(super) fn all(&mut self) -> impl Iterator<Item = &mut RejectedBatch> {
        self.batches.values_mut()
    }
}

impl Producer {
    /// Ends a batch that Kafka refuses permanently, unless its sink keeps it.
    pub(super) fn end_refused(&mut self, topic: u32, partition: Option<u32>, mut batch: Batch, code: i16) {
        let sink = self.topics[topic].sink;
        if !self.sinks[sink].settings.keep_rejected {
            return self.end(topic, partition, batch, Outcome::Refused(code));
        }
        self.logging.ends.void(&mut batch);
        let id = RejectedId(self.rejected.begun);
        self.rejected.begun += 1;
        let (open, words) = (batch.count, batch.count.div_ceil(64) as usize);
        let (read, tickets, ended) = (0, Cursor::default(), vec![0; words]);
        self.rejected.batches.insert(id, RejectedBatch { topic, partition, batch, code, read, tickets, ended, open });
        let sink = SinkId::of(sink);
        self.rejected.new.push_back(Rejected { id, sink, code });
    }

    /// The oldest rejected batch that was not reported yet.
    pub fn next_rejected(&mut self) -> Option<Rejected> {
        self.rejected.new.pop_front()
    }

    /// Whether [`Producer::next_rejected`] has a batch to report.
    #[must_use]
    pub fn has_rejected(&self) -> bool {
        !self.rejected.new.is_empty()
    }

    /// Passes the rows of a rejected batch in order, from the first that has not been taken, until one is not taken
    /// (`false`) or there are no more. Rows that cannot be read, which are the producer's own bytes, are given up; `refused` gets
    /// their tickets. Returns whether all have been read.
    pub fn read_rejected(
        &mut self,
        id: RejectedId,
        mut take: impl FnMut(&mut Self, &RejectedRow<'_>) -> bool,
        mut refused: impl FnMut(Ticket),
    ) -> bool {
        let Some(mut of) = self.rejected.batches.remove(&id) else { return true };
        let mut codecs = std::mem::take(&mut self.memory.codecs);
        let name = std::rc::Rc::clone(&self.topics[of.topic].name);
        let mut full = false;
        if let Some(records) = records_of(&of.batch, &mut codecs) {
            for record in records.map_while(Result::ok).skip(of.read as usize) {
                let mut behind = of.tickets;
                let row = RejectedRow {
                    row: of.read,
                    topic: &name,
                    partition: of.partition,
                    code: of.code,
                    key: record.key,
                    value: record.value,
                    headers: record.headers,
                    timestamp: record.timestamp,
                    ticket: of.batch.tickets.next(&mut behind),
                };
                full = !take(self, &row);
                if full {
                    break;
                }
                (of.tickets, of.read) = (behind, of.read + 1);
            }
        }
        codecs.forget_plain();
        self.memory.codecs = codecs;
        let unread = if full { of.read..of.read } else { of.read..of.batch.count };
        self.rejected.batches.insert(id, of);
        for row in unread {
            let Some(of) = self.rejected.batches.get_mut(&id) else { break };
            of.read = row + 1;
            if let Some(ticket) = of.batch.tickets.next(&mut of.tickets) {
                refused(ticket);
            }
            self.end_rejected_row(id, row, RejectedEnd::Refused);
        }
        !full
    }

    /// Ends a row of a rejected batch; with the last of them the batch's memory is given back.
    pub fn end_rejected_row(&mut self, id: RejectedId, row: u32, end: RejectedEnd) {
        let Some(of) = self.rejected.batches.get_mut(&id).filter(|of| !of.has_ended(row)) else { return };
        of.ended[row as usize / 64] |= 1 << (row % 64);
        of.open -= 1;
        let fate = match end {
            RejectedEnd::HandedOver => Fate::DeadLettered,
            RejectedEnd::Refused => Fate::Refused,
        };
        if let Some(number) = of.batch.in_log.numbers.of(row) {
            self.logging.ends.row_over(number, fate);
        }
        let (topic, open) = (of.topic, of.open);
        let stats = &mut self.sinks[self.topics[topic].sink].stats;
        stats.buffered_rows -= 1;
        match end {
            RejectedEnd::HandedOver => stats.handed_over += 1,
            RejectedEnd::Refused => stats.refused += 1,
        }
        if open == 0
            && let Some(of) = self.rejected.batches.remove(&id)
        {
            stats.buffered_bytes -= of.batch.plain_len as u64;
            self.resized(topic, of.batch.memory(), 0);
            of.batch.discard(&mut self.memory.pool);
        }
    }

    /// Whether a row of up to `row_bytes` may be appended to a sink that has a reserve
    /// ([`super::SinkSettings::reserved`]): an empty one takes a row whatever the others hold, since these may be
    /// waiting for it to free memory; one that holds some has its part.
    #[must_use]
    pub fn has_reserve(&self, sink: SinkId, row_bytes: usize) -> bool {
        let need = HEADER_LEN + super::append::RECORD_OVERHEAD + row_bytes;
        let memory = need.max(BUFFER_MIN) + BATCH_COST;
        let holds = self.sinks.get(usize::from(sink.0)).is_some_and(|sink| sink.memory > 0);
        !holds
            || (self.memory.pool.used() + memory <= self.memory.ceilings.reserve
                && self.share(sink, None, need).is_ok())
    }

    /// Whether a row of this topic is placed regardless of memory limits: one of a sink with a reserve, with no other row of its
    /// topic before it.
    pub(super) fn may_place_reserved(&self, topic: u32) -> bool {
        let topic = &self.topics[topic];
        topic.placed == 0 && self.sinks[topic.sink].settings.reserved
    }

    /// Lane and number of each rejected row that has not ended and is in the log.
    #[cfg(any(test, feature = "testing"))]
    pub fn rejected_in_log(&self) -> Vec<(u64, u64)> {
        let open = |of: &RejectedBatch| {
            let rows = (0..of.batch.count).filter(|row| !of.has_ended(*row));
            rows.filter_map(|row| of.batch.in_log.numbers.of(row)).map(|at| (at.lane, at.number)).collect::<Vec<_>>()
        };
        self.rejected.batches.values().flat_map(open).collect()
    }

    pub(super) fn rejected_of(&self, sink: usize) -> impl Iterator<Item = &RejectedBatch> {
        self.rejected.batches.values().filter(move |of| self.topics[of.topic].sink == sink)
    }
}
