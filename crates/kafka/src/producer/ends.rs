//! Ends that the log has not taken yet. Those of cuts are written first: they free room in the log, which the others may
//! wait for.

use std::collections::VecDeque;

use super::batch::Batch;
use super::numbers::{Number, Numbers};
use super::partition::Partition;
use super::pool::Pool;
use super::row_log::{Ended, Fate, RowLog, RowRun};

/// Ended rows, or an ended cut with its rows.
#[derive(Debug)]
struct Over {
    cut: Option<u64>,
    numbers: Numbers,
    /// The number of runs that the log has taken.
    next: usize,
    fate: Fate,
}

/// The ends that the log has not taken yet.
#[derive(Debug, Default)]
pub(super) struct Ends {
    cuts: VecDeque<Over>,
    /// Ends of rows without a cut.
    rows: VecDeque<Over>,
}

impl Ends {
    /// Voids a batch's cut; its rows live on.
    pub(super) fn void(&mut self, batch: &mut Batch) {
        if let Some(cut) = batch.in_log.cut.take() {
            let numbers = batch.in_log.numbers.clone();
            self.cuts.push_back(Over { cut: Some(cut.cut), numbers, next: 0, fate: Fate::Void });
        }
    }

    /// Voids all cuts from a place on, the youngest first: a crash in between leaves the older ones, which are sent first.
    pub(super) fn void_from(&mut self, partition: &mut Partition, place: usize) {
        let (undone, work) = (partition.window.len(), partition.work.iter_mut());
        let undone = work.flat_map(|work| work.queue.iter_mut().take(undone).skip(place).rev());
        undone.for_each(|batch| self.void(batch));
    }

    /// Adds ended rows, and their cut if they have one.
    pub(super) fn over(&mut self, cut: Option<u64>, numbers: Numbers, fate: Fate) {
        let ended = if cut.is_some() { &mut self.cuts } else { &mut self.rows };
        if cut.is_some() || !numbers.is_empty() {
            ended.push_back(Over { cut, numbers, next: 0, fate });
        }
    }

    /// Adds one ended row.
    pub(super) fn row_over(&mut self, Number { lane, number }: Number, fate: Fate) {
        if let Some(last) = self.rows.back_mut().filter(|last| last.fate == fate && last.next == 0) {
            return last.numbers.add(last.numbers.rows(), lane, number, 1);
        }
        let mut numbers = Numbers::default();
        numbers.add(0, lane, number, 1);
        self.over(None, numbers, fate);
    }

    /// Writes the ends to the log. `false`: it does not take all of them now.
    pub(super) fn tell(&mut self, runs: &mut Vec<RowRun>, pool: &mut Pool, log: &mut dyn RowLog) -> bool {
        for ended in [&mut self.cuts, &mut self.rows] {
            while let Some(over) = ended.front_mut() {
                while let Some((lane, next)) = over.numbers.runs_from(over.next, runs) {
                    if log.ended(&Ended { cut: over.cut, lane, rows: runs, fate: over.fate }).is_err() {
                        return false;
                    }
                    over.next = next;
                }
                if let Some(over) = ended.pop_front() {
                    pool.give_numbers(over.numbers);
                }
            }
        }
        true
    }
}
