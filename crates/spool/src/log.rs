//! The log of one shard: its fields, and the entry points for lanes and rows. Cuts and their ends are in `cuts`, kept sessions in
//! `sessions`, free room in `room`, the writing of groups in `group`, moves out of old segments in `moving`.

use forebay_record::stored::RowRun;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::checkpoint::{LANE, OPENED, SPAN, Writing};
use super::damage::Unreadable;
use super::disk::{Disk, ReadError};
use super::entry::{Entry, Rows};
use super::format::entry_len;
use super::group::{Flight, Trouble};
use super::lists::Listed;
use super::moving::Moving;
use super::newest::Noted;
use super::payload::ROWS_HEAD_BYTES;
use super::read::{Read, Reader};
use super::recovery::Recovered;
use super::room::Waiting;
use super::segments::Chain;
use super::state::State;
use super::terms::{Ahead, LaneAhead, NewRows, Refused, SEGMENTS_RESERVED, Settings};
use super::together::Together;
use forebay_runtime::seam::Monotonic;

/// The log.
#[derive(Debug)]
pub struct Log {
    pub(super) settings: Settings,
    /// Bytes of a segment as configured. If recovery finds larger segments, new ones are made that large until the old ones have
    /// drained, since their rows fit in no smaller segment.
    pub(super) segment_bytes_wanted: u64,
    pub(super) state: State,
    pub(super) ahead: Ahead,
    /// The group that is being gathered, and its number.
    pub(super) pending: Vec<u8>,
    pub(super) gathering: u64,
    /// The group in flight.
    pub(super) in_flight: Vec<u8>,
    pub(super) flight: Option<Flight>,
    /// Minimum interval between the starts of groups that are not full; 0 (initially): a group starts as soon as no other is in
    /// flight.
    pub(super) sync_interval: Duration,
    /// When the last group began, and when the next one does if it waits for the sync interval.
    pub(super) began_at: Option<Monotonic>,
    pub(super) begins_at: Option<Monotonic>,
    /// What the gathered group and the one in flight will add to the state.
    pub(super) waiting: Waiting,
    /// All groups up to this one are on the disk.
    pub(super) durable: u64,
    /// End of the last durable group, and whether the next group may follow it there.
    pub(super) last: Option<(u64, u64)>,
    pub(super) writable: bool,
    /// The part of the log that a recovery may read.
    pub(super) chain: Chain,
    /// The checkpoint that is being written.
    pub(super) writing: Option<Writing>,
    /// Bytes of the last complete checkpoint, and of the groups that had been written when it began.
    pub(super) checkpoint: (u64, u64),
    /// The group that began the segment of `last`: a lane not used since may be retired with the next segment.
    pub(super) begun: u64,
    pub(super) next_segment: u64,
    pub(super) creating: Option<u64>,
    pub(super) ready: Option<u64>,
    /// Every segment that takes space, with its bytes, including those being created or deleted.
    pub(super) on_disk: BTreeMap<u64, u64>,
    /// The most bytes that the segments may take: the configured bound or, until the log has drained, what recovery found plus the
    /// reserve.
    pub(super) bytes_max: u64,
    /// The group that recovery found unproven, until it is durable. Until then nothing is freed that the group may be the only proof
    /// of. Blank segments may be freed.
    pub(super) rewriting: Option<u64>,
    pub(super) blank: BTreeSet<u64>,
    pub(super) freeing: BTreeSet<u64>,
    /// The group that was gathered at the last search for lanes that nothing needs.
    pub(super) looked: u64,
    /// Whether a segment may have become empty since the last check.
    pub(super) emptied: bool,
    /// Segments with unreadable bytes: those not yet set aside, and those already set aside.
    pub(super) damaged: BTreeSet<u64>,
    pub(super) set_aside: BTreeSet<u64>,
    /// Damage found since startup, by segment, that is not reported yet.
    pub(super) unread: Unreadable,
    /// Segments that the log left early after a failed sync.
    pub(super) burned: BTreeSet<u64>,
    /// Whether recovery found everything whole, or a checkpoint was completed since. Until then no recovered segment is freed.
    pub(super) sure: bool,
    /// Segments below this number were there at startup.
    pub(super) first_own: u64,
    pub(super) next_token: u64,
    pub(super) random: fastrand::Rng,
    pub(super) trouble: Trouble,
    /// Readers for drains and for moves: each keeps its own position in a lane.
    pub(super) reader: Reader,
    pub(super) mover: Reader,
    pub(super) moving: Moving,
    pub(super) together: Together,
    /// The group in which rows were last dropped.
    pub(super) dropping: u64,
    /// Retired lanes that callers do not know of yet.
    pub(super) retired: Vec<u64>,
    /// Bytes of the groups written since startup, and the moved bytes among them.
    pub(super) written_bytes: u64,
    pub(super) moved_bytes: u64,
    /// By sink, the share that it keeps while it holds more than the current share; 0: none.
    pub(super) shares_kept: Vec<u64>,
    /// The contents of the note beside the segments.
    pub(super) noted: Noted,
    /// Kept for its capacity.
    pub(super) scratch: Vec<u8>,
}

impl Log {
    /// A log that continues from what recovery found (nothing in an empty folder). It writes to a new segment.
    #[must_use]
    pub fn new(settings: Settings, recovered: Recovered) -> Self {
        let ahead = Ahead::new(&recovered, recovered.group + 1);
        let mut waiting = Waiting::default();
        let Recovered {
            mut state,
            on_disk,
            blank,
            mut last,
            newest,
            chain,
            fate_open,
            group,
            unproven,
            settling,
            data_dir_id,
            damage,
            ..
        } = recovered;
        let noted = Noted::found(newest, &damage);
        let damaged = damage.iter().filter(|damage| damage.is_of_segment()).map(|damage| damage.segment);
        let damaged = damaged.filter(|segment| on_disk.contains_key(segment)).collect();
        let segment_bytes_wanted = settings.segment_bytes;
        let found_max = on_disk.iter().filter(|(segment, _)| !blank.contains(*segment)).map(|(_, bytes)| *bytes).max();
        let settings = Settings {
            segment_bytes: found_max.filter(|_| !state.is_empty()).unwrap_or(0).max(settings.segment_bytes),
            data_dir_id: if settings.data_dir_id == 0 { data_dir_id } else { settings.data_dir_id },
            ..settings
        };
        let (mut durable, mut in_flight, mut rewriting) = (group, Vec::new(), None);
        if let Some(mut found) = unproven {
            found.entries.extend_from_slice(&settling);
            if !found.entries.is_empty() {
                waiting.rewrites(&found.state, &state);
                (durable, rewriting) = (group.saturating_sub(1), Some(group));
            }
            // Sinks have the same numbers in both.
            let known = found.state.sinks.len();
            found.state.sinks.extend(state.sinks.iter().skip(known).map(|(name, ..)| (name.clone(), 0, 0)));
            (state, last, in_flight) = (found.state, found.last, found.entries);
        }
        // The salts found go into the seed, so that the same seed twice gives different salts.
        let salts = state.segments.values().fold(0, |sum: u64, held| sum.rotate_left(7) ^ held.salt);
        let next_segment = on_disk.last_key_value().map_or(0, |(last, _)| last + 1);
        let mut log = Self {
            random: fastrand::Rng::with_seed(settings.seed ^ salts ^ next_segment.rotate_left(32)),
            waiting,
            bytes_max: u64::MAX,
            segment_bytes_wanted,
            rewriting,
            blank,
            settings,
            ahead,
            pending: Vec::new(),
            gathering: group + 1,
            sync_interval: Duration::ZERO,
            began_at: None,
            begins_at: None,
            in_flight,
            flight: None,
            durable,
            last,
            writable: false,
            chain,
            writing: None,
            checkpoint: (0, 0),
            begun: group,
            next_segment,
            creating: None,
            ready: None,
            on_disk,
            freeing: BTreeSet::new(),
            looked: 0,
            emptied: true,
            damaged,
            unread: Unreadable::default(),
            set_aside: BTreeSet::new(),
            burned: BTreeSet::new(),
            sure: !fate_open,
            first_own: next_segment,
            next_token: 0,
            trouble: Trouble::default(),
            reader: Reader::default(),
            mover: Reader::default(),
            moving: Moving::default(),
            together: Together::of_a_start(),
            dropping: 0,
            retired: Vec::new(),
            written_bytes: 0,
            moved_bytes: 0,
            shares_kept: Vec::new(),
            noted,
            scratch: Vec::new(),
            state,
        };
        log.fit();
        log
    }

    /// Makes the groups of an empty log count from after `group`, so that the groups of several logs differ. Call it before anything
    /// is gathered.
    pub fn begin_at(&mut self, group: u64) {
        if self.rewriting.is_none() && self.gathering <= group {
            (self.gathering, self.durable, self.begun) = (group + 1, group, group);
        }
    }

    /// Whether the group that recovery found is durable: nothing recovered may be acted on before.
    #[must_use]
    pub const fn is_open(&self) -> bool {
        self.rewriting.is_none()
    }

    /// The durable state.
    #[must_use]
    pub const fn state(&self) -> &State {
        &self.state
    }

    /// The group that is being gathered: new entries go into it.
    #[must_use]
    pub const fn group(&self) -> u64 {
        self.gathering
    }

    /// All groups up to this one are on the disk.
    #[must_use]
    pub const fn durable(&self) -> u64 {
        self.durable
    }

    /// Bytes of the groups written since startup.
    #[must_use]
    pub const fn written_bytes(&self) -> u64 {
        self.written_bytes
    }

    /// Bytes among [`Log::written_bytes`] that were moved out of old segments.
    #[must_use]
    pub const fn moved_bytes(&self) -> u64 {
        self.moved_bytes
    }

    /// Number of segments with unreadable data found since startup.
    #[must_use]
    pub fn segments_damaged(&self) -> usize {
        self.set_aside.len()
    }

    /// Whether nothing waits for the disk.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.pending.is_empty() && self.in_flight.is_empty()
    }

    /// Number of segments that take space.
    #[must_use]
    pub fn segments(&self) -> usize {
        self.on_disk.len()
    }

    /// Bytes of all segments.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.on_disk.values().sum()
    }

    /// The most bytes that the segments may take: the configured bound or, until the log has drained, what recovery found plus a
    /// reserve.
    #[must_use]
    pub const fn bytes_max(&self) -> u64 {
        self.bytes_max
    }

    /// A sink's number in this log, valid while the log runs; a new sink gets one.
    pub fn sink(&mut self, name: &str) -> usize {
        self.state.sink(name)
    }

    /// The lane of a sink, topic and partition, created if there is none. Recovery ends a `volatile` lane. While a lane that is not
    /// volatile holds rows, later rows go to it as well, since order holds only within one lane. A lane without live rows, open cuts
    /// and open packet ids is forgotten after a segment or two without use, and its number with it: call this again for each batch.
    ///
    /// # Errors
    /// [`Refused::TooMany`], [`Refused::Busy`].
    pub fn lane(&mut self, sink: usize, topic: &str, partition: i32, volatile: bool) -> Result<u64, Refused> {
        let volatile = volatile && !self.holds(sink, topic, partition);
        if let Some(lane) = self.ahead.find(sink, topic, partition, volatile) {
            if let Some(lane) = self.ahead.lanes.get_mut(&lane) {
                lane.touched = self.gathering;
            }
            return Ok(lane);
        }
        self.new_lane(sink, topic, partition, 0, volatile)
    }

    /// A new lane; its first row gets the number `next`.
    pub(super) fn new_lane(
        &mut self,
        sink: usize,
        topic: &str,
        partition: i32,
        next: u64,
        volatile: bool,
    ) -> Result<u64, Refused> {
        let name = self.state.sinks.get(sink).ok_or(Refused::Unknown)?.0.clone();
        let lane = self.ahead.next_lane;
        let account = LANE + (name.len() + topic.len()) as u64;
        self.account_for(account, 4)?;
        self.put(&Entry::Lane { lane, partition, next, open_below: 0, landed: -1, volatile, sink: &name, topic }, 2)?;
        self.waiting.account += account;
        let (topic, touched) = (topic.into(), self.gathering);
        self.ahead.add(lane, LaneAhead { sink, topic, partition, next, volatile, incarnation: None, touched });
        Ok(lane)
    }

    /// Whether the non-volatile lane of this name holds or awaits anything.
    fn holds(&self, sink: usize, topic: &str, partition: i32) -> bool {
        let lane = self.ahead.find(sink, topic, partition, false);
        lane.is_some_and(|number| {
            let next = self.ahead.lanes.get(&number).map_or(0, |lane| lane.next);
            self.state.lane(number).is_none_or(|lane| !lane.spans.is_empty() || lane.named > 0 || lane.next < next)
        })
    }

    /// Takes rows, all or none. Returns the number of the first row; the rows are in [`Log::group`].
    ///
    /// # Errors
    /// [`Refused`], but not [`Refused::Full`] or [`Refused::SinkFull`] if the rows of a turn stay within [`Log::room`] and
    /// [`Log::sink_room`] as they were at the turn's beginning.
    pub fn rows(&mut self, rows: &NewRows<'_>) -> Result<u64, Refused> {
        let lane = self.ahead.lanes.get_mut(&rows.lane).ok_or(Refused::Unknown)?;
        let (first, sink) = (lane.next.max(rows.from), lane.sink);
        if rows.count == 0 || i32::try_from(rows.count).is_err() {
            return Err(Refused::Unknown);
        }
        lane.touched = self.gathering;
        let run = RowRun { first, count: u64::from(rows.count) };
        let lists = 14 * rows.origins.len() + 20 * rows.deadlines.len() + 8 * rows.hashes.len();
        let len = entry_len(ROWS_HEAD_BYTES + lists + rows.records.len()) as u64;
        let account = SPAN + OPENED * rows.origins.len() as u64;
        let group_max = self.settings.segment_bytes / 8;
        if len > group_max {
            return Err(Refused::TooLarge);
        }
        if self.pending.len() as u64 + len > group_max {
            return Err(Refused::Busy);
        }
        self.account_for(account, 5)?;
        if len > self.capacity(SEGMENTS_RESERVED) {
            return Err(Refused::Full);
        }
        if len > self.sink_left(sink) {
            return Err(Refused::SinkFull);
        }
        Entry::Rows(Rows {
            lane: rows.lane,
            run,
            base_timestamp: rows.base_timestamp,
            origins: Listed::new(rows.origins),
            deadlines: Listed::new(rows.deadlines),
            hashes: Listed::new(rows.hashes),
            records: rows.records,
        })
        .put(&mut self.pending);
        self.waiting.account += account;
        self.waiting.pins = true;
        self.waiting.sink(sink, len);
        if let Some(lane) = self.ahead.lanes.get_mut(&rows.lane) {
            lane.next = run.end();
        }
        Ok(first)
    }

    /// Takes the lanes that were forgotten since the last call.
    pub fn take_retired(&mut self) -> Vec<u64> {
        std::mem::take(&mut self.retired)
    }

    /// The first live rows of a lane from `from` on, below `end`, that are contiguous.
    ///
    /// # Errors
    /// [`ReadError::Later`]: the disk has been asked. Any other error: the disk cannot read them now.
    pub fn read(&mut self, disk: &impl Disk, lane: u64, from: u64, end: u64) -> Result<Read<'_>, ReadError> {
        let segment = self.state.lane(lane).and_then(|lane| lane.seek(from)).map(|span| span.segment);
        let read = self.reader.rows(&self.state, disk, lane, from, end)?;
        if matches!(read, Read::Rotten(_)) {
            self.damaged.extend(segment);
        }
        Ok(read)
    }

    /// Counts rows that could not be read; their reader has just ended them.
    pub fn note_unreadable(&mut self, lane: u64, run: RowRun) {
        if let Some(span) = self.state.lane(lane).and_then(|lane| lane.seek(run.first)) {
            self.unread.add(span.segment, run.count);
        }
    }

    /// Number of damaged places found since startup.
    #[must_use]
    pub const fn places_unreadable(&self) -> u64 {
        self.unread.places
    }

    /// Takes the damage found since the last call: the number of rows, by segment. A segment without rows has records of sessions
    /// that cannot be read but are still in memory.
    pub fn take_unreadable(&mut self) -> BTreeMap<u64, u64> {
        std::mem::take(&mut self.unread.untold)
    }

    /// A kept session's bytes; `None`: damaged, or no such session.
    ///
    /// # Errors
    /// Like [`Log::read`].
    pub fn read_session(&mut self, disk: &impl Disk, session: u64) -> Result<Option<&[u8]>, ReadError> {
        self.reader.session(&self.state, disk, session)
    }

    /// Puts an entry into the group that is being gathered, which may grow to a `part`th of a quarter of a segment.
    pub(super) fn put(&mut self, entry: &Entry<'_>, part: u64) -> Result<(), Refused> {
        let before = self.pending.len();
        entry.put(&mut self.pending);
        let (len, quarter) = ((self.pending.len() - before) as u64, self.settings.segment_bytes / 4);
        if self.pending.len() as u64 <= quarter / part {
            return Ok(());
        }
        self.pending.truncate(before);
        Err(if len > quarter / part { Refused::TooLarge } else { Refused::Busy })
    }
}
