//! Types for stored rows that the producer and the spool share.

use std::collections::BTreeMap;

/// The partition of a lane of rows that have no partition yet.
pub const UNPLACED: i32 = -1;

/// Producer id of a cut that is no batch: its rows were sent under no identity, and go before all other rows of their
/// partition that are in no cut, whatever their numbers.
pub const NO_BATCH: i64 = -2;

/// Rows of a lane with consecutive numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RowRun {
    /// Number of the first row.
    pub first: u64,
    /// The number of rows.
    pub count: u64,
}

impl RowRun {
    /// The number after the last row.
    #[must_use]
    pub const fn end(&self) -> u64 {
        self.first.saturating_add(self.count)
    }
}

/// Rows of many lanes: for each lane, runs in order and not adjacent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RowSet(BTreeMap<u64, Vec<RowRun>>);

impl RowSet {
    /// Lanes and their runs.
    pub fn lanes(&self) -> impl Iterator<Item = (u64, &[RowRun])> {
        self.0.iter().map(|(lane, runs)| (*lane, runs.as_slice()))
    }

    /// The parts of a lane's run that are in the set.
    pub fn within(&self, lane: u64, run: RowRun) -> impl Iterator<Item = RowRun> + '_ {
        let runs = self.0.get(&lane).map_or(&[][..], Vec::as_slice);
        let runs = runs[runs.partition_point(|other| other.end() <= run.first)..].iter();
        runs.take_while(move |other| other.first < run.end()).map(move |other| {
            let first = other.first.max(run.first);
            RowRun { first, count: other.end().min(run.end()) - first }
        })
    }

    /// Whether a row is in the set.
    #[must_use]
    pub fn holds(&self, lane: u64, number: u64) -> bool {
        self.within(lane, RowRun { first: number, count: 1 }).next().is_some()
    }

    /// The number of rows in the set.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.0.values().flatten().map(|run| run.count).sum()
    }

    /// Whether the set is empty.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl FromIterator<(u64, RowRun)> for RowSet {
    fn from_iter<T: IntoIterator<Item = (u64, RowRun)>>(rows: T) -> Self {
        let mut set = Self::default();
        set.extend(rows);
        set
    }
}

impl Extend<(u64, RowRun)> for RowSet {
    fn extend<T: IntoIterator<Item = (u64, RowRun)>>(&mut self, rows: T) {
        for (lane, run) in rows.into_iter().filter(|(_, run)| run.count > 0) {
            self.0.entry(lane).or_default().push(run);
        }
        for runs in self.0.values_mut() {
            runs.sort_unstable();
            runs.dedup_by(|later, before| {
                let together = later.first <= before.end();
                if together {
                    before.count = before.count.max(later.end() - before.first);
                }
                together
            });
        }
    }
}

/// A message of QoS 2 with an open packet id: its session, by the number under which it is kept, and the id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Origin {
    /// The session's number, never used twice.
    pub session: u64,
    /// The packet identifier.
    pub packet_id: u16,
}

/// A topic as it is known when its rows get partitions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Known<'a> {
    /// The cluster's id; empty: not known.
    pub cluster: &'a str,
    /// Kafka's id of the topic; 0: not known.
    pub topic_id: u128,
    /// The number of partitions, by which rows are placed; 0: not known, or rows were placed by different numbers.
    pub partitions: u32,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_of_rows_joins_its_runs_and_finds_them() {
        let run = |first, count| RowRun { first, count };
        let mut set: RowSet =
            [(1, run(5, 2)), (1, run(0, 3)), (2, run(9, 1)), (1, run(3, 1)), (3, run(4, 0))].into_iter().collect();
        assert_eq!(set.lanes().collect::<Vec<_>>(), [(1, &[run(0, 4), run(5, 2)][..]), (2, &[run(9, 1)][..])]);
        assert_eq!(set.within(1, run(2, 4)).collect::<Vec<_>>(), [run(2, 2), run(5, 1)]);
        assert!(set.holds(1, 6) && !set.holds(1, 4) && !set.holds(1, 7) && !set.holds(3, 4));
        set.extend([(1, run(4, 1))]);
        assert_eq!((set.lanes().next(), set.count()), (Some((1, &[run(0, 7)][..])), 8));
    }
}
