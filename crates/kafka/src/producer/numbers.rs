//! The numbers of a batch's rows in the log: runs of a lane, by the first row of the batch that has them. Rows
//! that are not in the log have none.

use super::row_log::RowRun;

/// A row of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Number {
    pub(super) lane: u64,
    pub(super) number: u64,
}

/// Adjacent rows with consecutive numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Span {
    lane: u64,
    row: u32,
    count: u32,
    first: u64,
}

/// Bytes of a span on the memory account.
pub(super) const NUMBER_BYTES: usize = std::mem::size_of::<Span>();

/// The numbers of a batch's rows.
#[derive(Clone, Debug, Default)]
pub(super) struct Numbers(Vec<Span>);

impl Numbers {
    pub(super) const EMPTY: Self = Self(Vec::new());

    /// Adds the number of a row; rows are added in order.
    pub(super) fn push(&mut self, row: u32, Number { lane, number }: Number) {
        self.add(row, lane, number, 1);
    }

    /// Adds the consecutive numbers of several rows.
    pub(super) fn add(&mut self, row: u32, lane: u64, first: u64, count: u32) {
        if let Some(last) = self.0.last_mut()
            && (last.lane, last.row + last.count, last.first + u64::from(last.count)) == (lane, row, first)
            && last.count.checked_add(count).is_some()
        {
            last.count += count;
            return;
        }
        self.0.push(Span { lane, row, count, first });
    }

    /// A row's number, if it has one.
    pub(super) fn of(&self, row: u32) -> Option<Number> {
        let behind = self.0.partition_point(|span| span.row <= row);
        let span = self.0[behind.checked_sub(1)?];
        let within = row - span.row;
        (within < span.count).then(|| Number { lane: span.lane, number: span.first + u64::from(within) })
    }

    /// Lanes and runs of all numbers.
    pub(super) fn runs(&self) -> impl Iterator<Item = (u64, RowRun)> + '_ {
        self.0.iter().map(|span| (span.lane, RowRun { first: span.first, count: u64::from(span.count) }))
    }

    /// One past the last row with a number.
    pub(super) fn rows(&self) -> u32 {
        self.0.last().map_or(0, |span| span.row + span.count)
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The runs of one lane from a place on; returns that lane and the place where the next lane's begin.
    pub(super) fn runs_from(&self, place: usize, runs: &mut Vec<RowRun>) -> Option<(u64, usize)> {
        runs.clear();
        let lane = self.0.get(place)?.lane;
        let mut next = place;
        for span in self.0[place..].iter().take_while(|span| span.lane == lane) {
            next += 1;
            let count = u64::from(span.count);
            match runs.last_mut() {
                Some(last) if last.end() == span.first => last.count += count,
                _ => runs.push(RowRun { first: span.first, count }),
            }
        }
        Some((lane, next))
    }

    pub(super) fn capacity(&self) -> usize {
        self.0.capacity()
    }

    /// Empties the list; its memory stays.
    pub(super) fn clear(&mut self) {
        self.0.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_keep_their_numbers_with_gaps_and_lanes() {
        let mut numbers = Numbers::default();
        let rows = [None, Some((1, 5)), Some((1, 6)), Some((1, 9)), None, Some((2, 0)), Some((1, 10))];
        let number = |(lane, number)| Number { lane, number };
        (0u32..).zip(rows).for_each(|(row, at)| at.into_iter().for_each(|at| numbers.push(row, number(at))));
        assert!((0u32..).zip(rows).all(|(row, at)| numbers.of(row) == at.map(number)));
        assert_eq!((numbers.of(7), numbers.rows()), (None, 7));
        let run = |first, count| RowRun { first, count };
        let mut runs = Vec::new();
        assert_eq!(numbers.runs_from(0, &mut runs), Some((1, 2)));
        assert_eq!(runs, [run(5, 2), run(9, 1)]);
        assert_eq!(numbers.runs_from(2, &mut runs), Some((2, 3)));
        assert_eq!(numbers.runs_from(3, &mut runs), Some((1, 4)));
        assert_eq!(runs, [run(10, 1)]);
        assert_eq!(numbers.runs_from(4, &mut runs), None);
    }
}
