//! A partition's state of idempotent producers, and the verdicts on their next batches (KIP-98).
//!
//! For each producer id: its epoch and its last five batches. That is enough to distinguish a repeated batch (answered
//! with its first offset) from one that is out of order. A walk over the log's batch headers restores the same state,
//! so a restart loses nothing.

use std::collections::HashMap;

use smallvec::SmallVec;

use super::batch::BatchHeader;
use super::code;

/// The number of batches remembered for each producer: as many as Kafka's producers keep in flight.
const WINDOW: usize = 5;

/// The verdict on a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The batch is the next one, or its producer is not known here: append it.
    Append,
    /// The batch is in the log already.
    Duplicate {
        /// Offset of its first record.
        base_offset: i64,
        /// Offset of its last record.
        last_offset: i64,
    },
    /// The batch is refused with this code: 45 or 47.
    Refuse(i16),
}

#[derive(Clone, Copy, Debug)]
struct Note {
    first_sequence: i32,
    last_sequence: i32,
    base_offset: i64,
    last_offset: i64,
}

#[derive(Debug)]
struct Producer {
    epoch: i16,
    last_timestamp: i64,
    /// The last batches, oldest first; never empty, all of `epoch`.
    notes: SmallVec<[Note; WINDOW]>,
}

impl Producer {
    fn last(&self) -> Option<&Note> {
        self.notes.last()
    }
}

/// A producer as DescribeProducers reports it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Active {
    /// Producer id.
    pub(crate) id: i64,
    /// The producer's epoch.
    pub(crate) epoch: i16,
    /// Sequence of the producer's last record.
    pub(crate) last_sequence: i32,
    /// Newest timestamp in the producer's last batch, milliseconds.
    pub(crate) last_timestamp: i64,
}

/// The producers of one partition.
#[derive(Debug)]
pub(crate) struct Producers {
    by_id: HashMap<i64, Producer>,
    count_max: usize,
}

impl Producers {
    /// Remembers at most `count_max` producers; beyond that, the one with the oldest last write is forgotten.
    pub(crate) fn new(count_max: usize) -> Producers {
        Producers { by_id: HashMap::new(), count_max: count_max.max(1) }
    }

    /// Judges a batch that is otherwise sound.
    pub(crate) fn judge(&self, batch: &BatchHeader) -> Verdict {
        if !batch.is_idempotent() {
            return Verdict::Append;
        }
        let Some(producer) = self.by_id.get(&batch.producer_id) else {
            // As in Kafka, any first sequence of an unknown producer is accepted.
            return Verdict::Append;
        };
        if batch.producer_epoch < producer.epoch {
            return Verdict::Refuse(code::INVALID_PRODUCER_EPOCH);
        }
        if batch.producer_epoch > producer.epoch {
            return if batch.base_sequence == 0 {
                Verdict::Append
            } else {
                Verdict::Refuse(code::OUT_OF_ORDER_SEQUENCE)
            };
        }
        let same =
            |note: &&Note| note.first_sequence == batch.base_sequence && note.last_sequence == batch.last_sequence();
        if let Some(note) = producer.notes.iter().find(same) {
            return Verdict::Duplicate { base_offset: note.base_offset, last_offset: note.last_offset };
        }
        let next = producer.last().map_or(0, |note| note.last_sequence.checked_add(1).unwrap_or(0));
        if batch.base_sequence == next { Verdict::Append } else { Verdict::Refuse(code::OUT_OF_ORDER_SEQUENCE) }
    }

    /// Notes a batch that is now in the log, at offset `batch.base_offset`.
    pub(crate) fn note(&mut self, batch: &BatchHeader) {
        if !batch.is_idempotent() {
            return;
        }
        if !self.by_id.contains_key(&batch.producer_id) && self.by_id.len() >= self.count_max {
            self.forget_oldest();
        }
        let producer = self.by_id.entry(batch.producer_id).or_insert_with(|| Producer {
            epoch: batch.producer_epoch,
            last_timestamp: -1,
            notes: SmallVec::new(),
        });
        if producer.epoch != batch.producer_epoch {
            producer.epoch = batch.producer_epoch;
            producer.notes.clear();
        }
        producer.last_timestamp = batch.max_timestamp;
        if producer.notes.len() == WINDOW {
            producer.notes.remove(0);
        }
        producer.notes.push(Note {
            first_sequence: batch.base_sequence,
            last_sequence: batch.last_sequence(),
            base_offset: batch.base_offset,
            last_offset: batch.last_offset(),
        });
    }

    /// All producers, by id.
    pub(crate) fn active(&self) -> Vec<Active> {
        let active = |(id, producer): (&i64, &Producer)| {
            let last_sequence = producer.last()?.last_sequence;
            Some(Active { id: *id, epoch: producer.epoch, last_sequence, last_timestamp: producer.last_timestamp })
        };
        let mut all: Vec<_> = self.by_id.iter().filter_map(active).collect();
        all.sort_unstable_by_key(|active| active.id);
        all
    }

    fn forget_oldest(&mut self) {
        let last_offset = |producer: &Producer| producer.last().map_or(i64::MIN, |note| note.last_offset);
        let oldest = self.by_id.iter().min_by_key(|(_, producer)| last_offset(producer)).map(|(id, _)| *id);
        if let Some(id) = oldest {
            self.by_id.remove(&id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::support::header;

    /// Sends batches of ten records; the next free offset is the log end.
    struct Log {
        producers: Producers,
        next_offset: i64,
    }

    impl Log {
        fn new() -> Log {
            Log { producers: Producers::new(8), next_offset: 100 }
        }

        fn send(&mut self, id: i64, epoch: i16, sequence: i32, count: i32) -> Verdict {
            let batch = BatchHeader { base_offset: self.next_offset, ..header(id, epoch, sequence, count) };
            let verdict = self.producers.judge(&batch);
            if verdict == Verdict::Append {
                self.producers.note(&batch);
                self.next_offset += i64::from(count);
            }
            verdict
        }
    }

    fn six_sent() -> Log {
        let mut log = Log::new();
        for n in 0..6 {
            assert_eq!(log.send(7, 0, n * 10, 10), Verdict::Append);
        }
        log
    }

    #[test]
    fn any_of_the_last_five_again_gets_its_original_offset() {
        let mut log = six_sent();
        for n in 1..6 {
            let base_offset = 100 + i64::from(n) * 10;
            let expected = Verdict::Duplicate { base_offset, last_offset: base_offset + 9 };
            assert_eq!(log.send(7, 0, n * 10, 10), expected);
        }
    }

    #[test]
    fn the_sixth_last_again_is_out_of_order() {
        assert_eq!(six_sent().send(7, 0, 0, 10), Verdict::Refuse(code::OUT_OF_ORDER_SEQUENCE));
    }

    #[test]
    fn other_boundaries_are_out_of_order() {
        let mut log = six_sent();
        assert_eq!(log.send(7, 0, 50, 5), Verdict::Refuse(45));
        assert_eq!(log.send(7, 0, 55, 10), Verdict::Refuse(45));
        assert_eq!(log.send(7, 0, 40, 20), Verdict::Refuse(45));
    }

    #[test]
    fn a_gap_is_out_of_order() {
        let mut log = six_sent();
        assert_eq!(log.send(7, 0, 70, 10), Verdict::Refuse(45));
        assert_eq!(log.send(7, 0, 60, 10), Verdict::Append);
    }

    #[test]
    fn a_raised_epoch_starts_at_zero_and_shuts_out_the_old_one() {
        let mut log = six_sent();
        assert_eq!(log.send(7, 1, 60, 10), Verdict::Refuse(45));
        assert_eq!(log.send(7, 1, 0, 10), Verdict::Append);
        assert_eq!(log.send(7, 0, 60, 10), Verdict::Refuse(47));
        assert_eq!(log.send(7, 0, 50, 10), Verdict::Refuse(47));
        assert_eq!(log.send(7, 1, 10, 10), Verdict::Append);
    }

    #[test]
    fn an_unknown_producer_may_start_anywhere() {
        let mut log = Log::new();
        assert_eq!(log.send(987_654, 3, 4_321, 10), Verdict::Append);
        assert_eq!(log.send(987_654, 3, 4_331, 10), Verdict::Append);
    }

    #[test]
    fn sequences_wrap_to_zero() {
        let mut log = Log::new();
        assert_eq!(log.send(1, 0, i32::MAX - 9, 10), Verdict::Append);
        assert_eq!(log.send(1, 0, 0, 10), Verdict::Append);
        let mut log = Log::new();
        assert_eq!(log.send(1, 0, i32::MAX - 4, 10), Verdict::Append);
        assert_eq!(log.send(1, 0, 5, 10), Verdict::Append);
        assert_eq!(log.send(1, 0, i32::MAX - 4, 10), Verdict::Duplicate { base_offset: 100, last_offset: 109 });
    }

    #[test]
    fn batches_without_a_producer_id_are_not_looked_at() {
        let mut log = Log::new();
        assert_eq!(log.send(-1, -1, -1, 10), Verdict::Append);
        assert_eq!(log.send(-1, -1, -1, 10), Verdict::Append);
        assert!(log.producers.by_id.is_empty());
    }

    #[test]
    fn the_number_of_producers_is_bounded_and_the_oldest_goes_first() {
        let mut log = Log::new();
        for id in 0..20 {
            log.send(id, 0, 0, 1);
            log.send(5, 0, log.next_offset as i32, 1);
        }
        assert_eq!(log.producers.by_id.len(), 8);
        assert_eq!(log.send(19, 0, 5, 1), Verdict::Refuse(45));
        assert_eq!(log.send(1, 0, 5, 1), Verdict::Append);
    }
}
