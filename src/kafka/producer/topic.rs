//! One topic of one sink: its partitions, and its rows that have none yet.

use std::collections::VecDeque;
use std::rc::Rc;

use super::backlog::Backlog;
use super::batch::Batch;
use super::partition::Partition;
use super::row_log::Known;
use super::tickets::Cursor;
use crate::runtime::seam::Monotonic;

/// A topic of a sink.
#[derive(Debug)]
pub(super) struct Topic {
    pub(super) name: Rc<str>,
    /// Its sink's index.
    pub(super) sink: usize,
    /// Another sink has a topic of this name: their batches never share a request (P7).
    pub(super) shared: bool,
    /// Partitions that rows are spread over; 0: not known yet.
    pub(super) count: usize,
    /// Another count, which holds when all placed rows are done.
    pub(super) growth: Option<usize>,
    /// Its id by Kafka; 0: not known.
    pub(super) id: u128,
    /// How often it was found recreated.
    pub(super) life: u32,
    /// Partitions from this one on went when it was recreated.
    pub(super) gone_from: Option<usize>,
    /// At least `count`.
    pub(super) partitions: Vec<Partition>,
    /// When it was last given a row.
    pub(super) used_at: Monotonic,
    /// It has been forgotten; its place is free.
    pub(super) vacant: bool,
    /// Memory of its batches, placed and unplaced.
    pub(super) memory: usize,
    /// Memory of the tickets of its rows that are on the disk alone.
    pub(super) owed: usize,
    /// Where its rows without a partition stand in the log, once some do; and whether some wait to be staged.
    pub(super) lane: Option<u64>,
    /// The last rows that were written to the log: with a partition, without; what number they had at the least, and what
    /// is higher than those of all of its rows.
    pub(super) written: Option<bool>,
    pub(super) least: u64,
    pub(super) above: u64,
    pub(super) dirty: bool,
    /// Those of them that stand in the log alone, behind the others.
    pub(super) backlogs: VecDeque<Backlog>,
    /// They are on the list of what is to be read back.
    pub(super) listed: bool,
    /// Partitions with rows in the log alone.
    pub(super) backlogged: u32,
    /// Rows in partitions.
    pub(super) placed: u64,
    /// Rows of an earlier start have partitions, by how many there were then (`restore`).
    pub(super) restoring: bool,
    /// Whether those rows that are in the queues of partitions had them in that start already.
    pub(super) was_placed: bool,
    /// Rows without a partition, oldest first; none of these batches is ever cut.
    pub(super) unplaced: VecDeque<Batch>,
    /// How far the first of them has been placed.
    pub(super) place: Place,
    /// It stands in the list of topics whose rows can be placed.
    pub(super) placing: bool,
    /// Where rows without a key go, batch by batch.
    pub(super) sticky: usize,
    /// Since when Kafka has said that there is no such topic.
    pub(super) unknown_since: Option<Monotonic>,
    /// Why Kafka will take nothing here (17, 29; 3, if there has been no such topic for long), for a while.
    pub(super) refused: Option<i16>,
    /// When that ends.
    pub(super) refused_until: Monotonic,
    /// When the timer for that fires; one is set at most.
    pub(super) refused_timer: Monotonic,
    /// Kafka's word that records are too far from its clock, for a while.
    pub(super) timestamps_refused: Option<super::without_timestamp::Refused>,
    /// Metadata has been asked for, or failed: ask no sooner than this.
    pub(super) asked_until: Option<Monotonic>,
    /// Metadata errors in a row.
    pub(super) attempts: u32,
}

/// How far a batch of rows without a partition has been placed.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Place {
    pub(super) bytes: usize,
    pub(super) count: u32,
    pub(super) tickets: Cursor,
}

impl Topic {
    pub(super) fn new(name: &str, sink: usize) -> Self {
        Self {
            name: Rc::from(name),
            sink,
            shared: false,
            count: 0,
            growth: None,
            id: 0,
            life: 0,
            gone_from: None,
            partitions: Vec::new(),
            used_at: Monotonic(0),
            vacant: false,
            memory: 0,
            owed: 0,
            lane: None,
            written: None,
            least: 0,
            above: 0,
            dirty: false,
            backlogs: VecDeque::new(),
            listed: false,
            backlogged: 0,
            placed: 0,
            restoring: false,
            was_placed: false,
            unplaced: VecDeque::new(),
            place: Place::default(),
            placing: false,
            sticky: usize::MAX,
            unknown_since: None,
            refused: None,
            refused_until: Monotonic(0),
            refused_timer: Monotonic(0),
            timestamps_refused: None,
            asked_until: None,
            attempts: 0,
        }
    }

    /// From which number on rows go to the log, with a partition (`home` is that) or without one: numbers tell which of two
    /// lanes' rows are older, as long as these take turns.
    pub(super) fn least_of(&self, home: i32) -> u64 {
        if self.written == Some(home >= 0) { self.least } else { self.above }
    }

    /// Such rows have gone there, from `least` on and before `end`.
    pub(super) fn wrote(&mut self, home: i32, least: u64, end: u64) {
        self.above = self.above.max(end);
        (self.written, self.least) = (Some(home >= 0), least);
    }

    /// What its rows have their partitions by, if all have them by the same. While another count is to come, they do not: the
    /// id may be that of a recreated topic already, which never had so many.
    pub(super) fn incarnation<'a>(&self, cluster: &'a str) -> Known<'a> {
        let is_settled = !self.restoring && self.growth.is_none() && self.gone_from.is_none();
        let count = if is_settled { self.count } else { 0 };
        Known { cluster, topic_id: self.id, partitions: u32::try_from(count).unwrap_or(u32::MAX) }
    }

    /// Why its rows will not get partitions, if Kafka takes none of them and has never said how many there are.
    pub(super) fn refuses(&self) -> Option<i16> {
        self.refused.filter(|_| self.count == 0)
    }

    /// Whether a new row goes straight into a partition.
    pub(super) fn is_open(&self) -> bool {
        let waits = self.growth.is_some() || self.restoring;
        self.count > 0 && !waits && self.unplaced.is_empty() && self.backlogs.is_empty()
    }

    /// The partition of a row without a key: the same one as long as its batch grows.
    pub(super) fn sticky_partition(&mut self, fits: impl Fn(&Batch) -> bool, rng: &mut fastrand::Rng) -> usize {
        let growing = |partition: &Partition| {
            let work = partition.work.as_deref().filter(|work| work.queue.len() > partition.window.len());
            work.and_then(|work| work.queue.back()).is_some_and(&fits)
        };
        if self.sticky >= self.count || !self.partitions.get(self.sticky).is_some_and(growing) {
            let (a, b) = (rng.usize(..self.count), rng.usize(..self.count));
            self.sticky = if self.load(a) <= self.load(b) { a } else { b };
        }
        self.sticky
    }

    /// How much stands before a new row of a partition: without a leader more than anything.
    fn load(&self, partition: usize) -> usize {
        let partition = &self.partitions[partition];
        let queue = partition.work.as_ref().map_or(0, |work| work.queue.len());
        if partition.leader.is_some() { queue } else { usize::MAX }
    }

    /// The number of the oldest row without a partition, if it has one.
    pub(super) fn oldest_unplaced(&self) -> Option<u64> {
        match self.unplaced.front() {
            Some(batch) => Some(batch.in_log.numbers.of(self.place.count)?.number),
            None => self.backlogs.iter().filter_map(Backlog::oldest).min(),
        }
    }

    /// Whether fresh metadata would help: rows wait for a partition or for a leader.
    pub(super) fn wants_metadata(&self) -> bool {
        let waits = |partition: &Partition| partition.work.is_some() || partition.spooled.is_some();
        let unplaced = !self.unplaced.is_empty() || !self.backlogs.is_empty();
        (self.count == 0 && (unplaced || self.partitions.iter().any(waits)))
            || (self.partitions.iter().enumerate())
                .any(|(n, of)| of.leader.is_none() && (waits(of) || (unplaced && n < self.count)))
    }
}
