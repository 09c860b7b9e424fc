//! The log's interface types: its settings, its refusals, and what callers know ahead of the durable state.

use forebay_record::stored::{NO_BATCH, Origin, RowRun, UNPLACED};
use std::collections::BTreeMap;
use std::sync::Arc;

use foldhash::fast::RandomState;
use hashbrown::{HashMap, HashTable};

use super::entry::Deadline;
use super::incarnations::Incarnation;
use super::recovery::Recovered;

/// Batches of a partition that may be in flight.
pub const CUTS_OPEN_MAX: u32 = 5;

/// Segments that rows and new sessions leave free: the one being written, the one before it, the next one, and one to
/// move into. Cuts, dones, ends and releases hold no segment, so with these four they can always go on.
pub const SEGMENTS_RESERVED: u64 = 4;

/// Bytes that a block of rows takes besides its records, at most; each origin, deadline or hash takes 20 more.
pub const ROWS_OVERHEAD: u64 = 64;

/// The settings of a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The shard.
    pub shard: u32,
    /// Bytes of a segment.
    pub segment_bytes: u64,
    /// The most segments that there may be: more than [`SEGMENTS_RESERVED`].
    pub segments_max: u64,
    /// The most bytes that one sink may hold of the log (`spool_share`); see [`super::Log::share_of_all`].
    pub sink_bytes_max: u64,
    /// The data directory, noted in each segment; 0: not known.
    pub data_dir_id: u128,
    /// Seed of the segments' salts, which no publisher may guess: random in each process. (Recovered salts are mixed in.)
    pub seed: u64,
}

/// Why the log refused a request. No part of it was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The spool is full: `when_full` applies, for all sinks.
    #[error("the spool is full")]
    Full,
    /// This sink has used its share: its own `when_full` applies.
    #[error("the sink has used its share of the spool")]
    SinkFull,
    /// More entries wait for a sync than a group may hold: try again after the sync.
    #[error("a group is full and waits for its sync")]
    Busy,
    /// The entry would not fit in any group.
    #[error("too large for a segment")]
    TooLarge,
    /// There are too many lanes, sessions, open packet ids and holes among the rows for the segment size. Cuts and ends
    /// can be tried again after others are done.
    #[error("too much to keep account of")]
    TooMany,
    /// Five batches of that partition are open: the oldest must be done or ended first.
    #[error("the window of five is full")]
    Window,
    /// A batch of an earlier producer id or epoch is open.
    #[error("a batch of an earlier identity is open")]
    Identity,
    /// The request names something that does not exist.
    #[error("it names what is not there")]
    Unknown,
}

/// Rows to write to the log.
#[derive(Clone, Copy, Debug)]
pub struct NewRows<'a> {
    /// The lane of the rows.
    pub lane: u64,
    /// Records, format v2, end to end. Their offset deltas have no meaning here.
    pub records: &'a [u8],
    /// The timestamp that the records' timestamp deltas count from.
    pub base_timestamp: i64,
    /// The number of rows.
    pub count: u32,
    /// Open packet ids, by index of the row (0: the first of these), ascending.
    pub origins: &'a [(u32, Origin)],
    /// Rows that expire, by index as well.
    pub deadlines: &'a [(u32, Deadline)],
    /// Values used instead of a key's hash, by index as well.
    pub hashes: &'a [(u32, u32)],
    /// The lowest number that the first row may get. Numbers that are left out belong to no row.
    pub from: u64,
}

/// A cut as the caller gives it; the log assigns the number.
#[derive(Clone, Copy, Debug)]
pub struct NewCut<'a> {
    /// Lane of the rows.
    pub lane: u64,
    /// The incarnation of the topic ([`super::Log::incarnation`]); 0: not known.
    pub incarnation: u64,
    /// The partition that the batch goes to; the rows' lane may be of another partition, or of none.
    pub partition: i32,
    /// Producer id.
    pub producer_id: i64,
    /// Producer epoch.
    pub epoch: i16,
    /// Sequence of the first record.
    pub sequence: i32,
    /// Whether the records are sent without their timestamps.
    pub timeless: bool,
    /// The rows, in the order of the batch.
    pub rows: &'a [RowRun],
}

/// A lane as callers know it.
#[derive(Debug)]
pub(super) struct LaneAhead {
    pub(super) sink: usize,
    pub(super) topic: Arc<str>,
    pub(super) partition: i32,
    pub(super) next: u64,
    pub(super) volatile: bool,
    /// The incarnation by which the lane's rows were last placed.
    pub(super) incarnation: Option<(u64, Arc<Incarnation>)>,
    /// The group that was being gathered when the lane was last requested or used.
    pub(super) touched: u64,
}

/// Open cuts of a sink's topic and partition.
#[derive(Debug)]
pub(super) struct Window {
    sink: usize,
    topic: Arc<str>,
    partition: i32,
    pub(super) identity: (i64, i16),
    pub(super) cuts: u32,
}

/// Entries taken, durable or not, as callers may ask about them.
#[derive(Debug, Default)]
pub(super) struct Ahead {
    pub(super) lanes: HashMap<u64, LaneAhead, RandomState>,
    by_name: HashTable<u64>,
    windows: HashTable<Window>,
    hasher: RandomState,
    /// Lane and partition of each open cut.
    pub(super) cuts: HashMap<u64, (u64, i32), RandomState>,
    /// The newest incarnation of each sink's topic.
    pub(super) incarnations: BTreeMap<(usize, Arc<str>), (u64, Arc<Incarnation>)>,
    pub(super) next_incarnation: u64,
    pub(super) next_lane: u64,
    pub(super) next_cut: u64,
    pub(super) next_session: u64,
}

impl Ahead {
    pub(super) fn new(recovered: &Recovered, group: u64) -> Self {
        let (state, left_out) = (&recovered.state, recovered.left_out());
        let mut ahead = Self {
            next_incarnation: state.next_incarnation.max(1) + left_out,
            next_lane: state.next_lane + left_out,
            next_cut: state.next_cut + left_out,
            next_session: recovered.next_session(),
            ..Self::default()
        };
        for (number, known) in &state.incarnations {
            let newest = (*number, Arc::new(known.clone()));
            ahead.incarnations.insert((known.sink, known.topic.clone()), newest);
        }
        for (number, lane) in state.lanes() {
            let (sink, topic, partition) = (lane.sink_index, lane.topic.clone(), lane.partition);
            let (next, volatile) = (lane.next + left_out, lane.volatile);
            ahead.add(number, LaneAhead { sink, topic, partition, next, volatile, incarnation: None, touched: group });
        }
        for cut in state.cuts() {
            let head = &cut.head;
            ahead.opened(head.cut, head.lane, head.partition, (head.producer_id, head.epoch));
        }
        ahead
    }

    fn hash(hasher: &RandomState, sink: usize, topic: &str, partition: i32) -> u64 {
        std::hash::BuildHasher::hash_one(hasher, (sink, topic, partition))
    }

    /// The lane with this name.
    pub(super) fn find(&self, sink: usize, topic: &str, partition: i32, volatile: bool) -> Option<u64> {
        let wanted = (sink, topic, partition, volatile);
        let same = |number: &u64| {
            let lane = self.lanes.get(number);
            lane.is_some_and(|lane| (lane.sink, &*lane.topic, lane.partition, lane.volatile) == wanted)
        };
        self.by_name.find(Self::hash(&self.hasher, sink, topic, partition), same).copied()
    }

    pub(super) fn add(&mut self, number: u64, lane: LaneAhead) {
        let (lanes, hasher) = (&mut self.lanes, &self.hasher);
        let hash = Self::hash(hasher, lane.sink, &lane.topic, lane.partition);
        lanes.insert(number, lane);
        let rehash = |number: &u64| {
            lanes.get(number).map_or(0, |lane| Self::hash(hasher, lane.sink, &lane.topic, lane.partition))
        };
        self.by_name.insert_unique(hash, number, rehash);
        self.next_lane = self.next_lane.max(number + 1);
    }

    pub(super) fn remove(&mut self, number: u64) {
        let Some(lane) = self.lanes.get(&number) else { return };
        let hash = Self::hash(&self.hasher, lane.sink, &lane.topic, lane.partition);
        if let Ok(found) = self.by_name.find_entry(hash, |other| *other == number) {
            found.remove();
        }
        self.lanes.remove(&number);
    }

    /// The window that a cut of this lane to this partition falls into, if a cut is open there.
    pub(super) fn window(&self, lane: u64, partition: i32) -> Option<&Window> {
        let lane = self.lanes.get(&lane)?;
        let hash = Self::hash(&self.hasher, lane.sink, &lane.topic, partition);
        self.windows.find(hash, |window| window.is(lane, partition))
    }

    pub(super) fn opened(&mut self, cut: u64, lane: u64, partition: i32, identity: (i64, i16)) {
        if identity.0 == NO_BATCH {
            // A cut that is no batch is in no window: closing it finds none.
            self.cuts.insert(cut, (lane, UNPLACED));
            return;
        }
        self.cuts.insert(cut, (lane, partition));
        let Some(lane) = self.lanes.get(&lane) else { return };
        let (hasher, topic) = (&self.hasher, &lane.topic);
        let hash = Self::hash(hasher, lane.sink, topic, partition);
        let rehash = |window: &Window| Self::hash(hasher, window.sink, &window.topic, window.partition);
        let entry = self.windows.entry(hash, |window| window.is(lane, partition), rehash);
        let window =
            entry.or_insert_with(|| Window { sink: lane.sink, topic: topic.clone(), partition, identity, cuts: 0 });
        window.into_mut().cuts += 1;
    }

    /// Closes all open cuts of the matching lanes.
    pub(super) fn close_all(&mut self, which: impl Fn(&LaneAhead) -> bool) {
        let of = |lane: &u64| self.lanes.get(lane).is_some_and(&which);
        let cuts: Vec<u64> = self.cuts.iter().filter(|(_, (lane, _))| of(lane)).map(|(cut, _)| *cut).collect();
        cuts.into_iter().for_each(|cut| self.closed(cut));
    }

    pub(super) fn closed(&mut self, cut: u64) {
        let Some((lane, partition)) = self.cuts.remove(&cut) else { return };
        let Some(lane) = self.lanes.get(&lane) else { return };
        let hash = Self::hash(&self.hasher, lane.sink, &lane.topic, partition);
        if let Ok(mut found) = self.windows.find_entry(hash, |window| window.is(lane, partition)) {
            found.get_mut().cuts -= 1;
            if found.get().cuts == 0 {
                found.remove();
            }
        }
    }
}

impl Window {
    fn is(&self, lane: &LaneAhead, partition: i32) -> bool {
        (self.sink, &*self.topic, self.partition) == (lane.sink, &*lane.topic, partition)
    }
}
