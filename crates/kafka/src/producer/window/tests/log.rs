//! A partition's log as Kafka keeps it for an idempotent producer (KIP-98; `ProducerStateManager`, `ProducerAppendInfo`),
//! written from that description alone.

use crate::types::{LogSays, WhyNot};

/// Number of batches that the log remembers of a producer.
const REMEMBERED: usize = 5;

/// A batch as sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sent {
    pub(super) id: i64,
    pub(super) epoch: i16,
    pub(super) first: i32,
    pub(super) last: i32,
    /// The batch's row.
    pub(super) row: u32,
}

/// A broker's answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Said {
    Offset(i64),
    OutOfOrder,
    Fenced,
}

#[derive(Clone, Debug, Default)]
pub(super) struct PartitionLog {
    batches: Vec<Sent>,
    /// Index up to which batches are forgotten: no producer of theirs is remembered.
    forgotten: usize,
}

impl PartitionLog {
    pub(super) fn copies(&self, row: u32) -> usize {
        self.batches.iter().filter(|batch| batch.row == row).count()
    }

    /// Whether rows are in order by their first occurrence.
    pub(super) fn is_in_order(&self) -> bool {
        let mut most = None;
        self.batches.iter().enumerate().all(|(at, batch)| {
            let again = self.batches[..at].iter().any(|other| other.row == batch.row);
            let in_order = again || most.is_none_or(|most| most < batch.row);
            most = most.max(Some(batch.row));
            in_order
        })
    }

    fn of(&self, id: i64) -> impl DoubleEndedIterator<Item = (usize, &Sent)> {
        self.batches.iter().enumerate().skip(self.forgotten).filter(move |(_, batch)| batch.id == id)
    }

    pub(super) fn append(&mut self, batch: Sent) -> Said {
        if let Some((_, last)) = self.of(batch.id).next_back() {
            if batch.epoch < last.epoch {
                return Said::Fenced;
            }
            let same = self.of(batch.id).rev().take_while(|(_, other)| other.epoch == batch.epoch);
            if let Some((at, _)) = same.take(REMEMBERED).find(|(_, other)| other.first == batch.first) {
                return Said::Offset(offset(at));
            }
            let next = if batch.epoch > last.epoch { 0 } else { last.last + 1 };
            if batch.first != next {
                return Said::OutOfOrder;
            }
        }
        self.batches.push(batch);
        Said::Offset(offset(self.batches.len() - 1))
    }

    /// Forgets all producers, as Kafka does by the age of their records.
    pub(super) fn forget(&mut self) {
        self.forgotten = self.batches.len();
    }

    /// Truncates the log to this length, with the state of the producers.
    pub(super) fn truncate(&mut self, to: usize) {
        self.batches.truncate(to);
        self.forgotten = self.forgotten.min(to);
    }

    pub(super) fn len(&self) -> usize {
        self.batches.len()
    }

    /// The log's answer about batches of this identity. `from`: its known end. A batch before that is in another log, which proves
    /// nothing about the older ones (`WhyNot::OtherLog`).
    pub(super) fn says(&self, (id, epoch): (i64, i16), first: i32, lasts: &[i32], from: Option<i64>) -> LogSays {
        let mine = |batch: &&Sent| (batch.id, batch.epoch) == (id, epoch) && lasts.contains(&batch.last);
        if let Some(place) = self.batches.iter().rposition(|batch| mine(&batch)) {
            let other = from.is_some_and(|from| offset(place) < from);
            let there = LogSays::There { last_sequence: self.batches[place].last };
            return if other { LogSays::CannotTell(WhyNot::OtherLog) } else { there };
        }
        match self.of(id).next_back() {
            None => LogSays::Next { known: false },
            Some((_, last)) if last.epoch > epoch => LogSays::Fenced { epoch: last.epoch },
            Some((_, last)) if first == if last.epoch == epoch { last.last + 1 } else { 0 } => {
                LogSays::Next { known: true }
            }
            Some(_) => LogSays::Lost,
        }
    }
}

/// The offset of a batch; each has two records.
fn offset(place: usize) -> i64 {
    2 * i64::try_from(place).expect("a few batches")
}
