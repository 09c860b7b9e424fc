//! The buffer of one shard: the log, and what is known beside it.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::time::Duration;

use smallvec::SmallVec;

use super::clock::Clock;
use super::cuts::CutRows;
use super::report::Report;
use super::restore::{OpenError, Restored};
use super::room::Room;
use super::sessions::{Record, Waiting};
use super::settings::{Settings, SinkTerms};
use super::view::{Lists, View};
use crate::kafka::producer::row_log::Origin;
use crate::kafka::types::{SinkId, Ticket};
use crate::runtime::seam::{Monotonic, WallMs};
use crate::spool::{Completion, Disk, Log, recover};

/// The buffer of one shard.
#[derive(Debug)]
pub struct Buffer {
    pub(super) settings: Settings,
    pub(super) log: Log,
    pub(super) clock: Clock,
    pub(super) room: Room,
    pub(super) waiting: Waiting,
    pub(super) next_session: u64,
    /// The log's numbers of the sinks, by cluster and sink.
    pub(super) logged: Vec<Vec<usize>>,
    /// Whose each lane is: cluster and sink.
    pub(super) lanes: HashMap<u64, (usize, SinkId)>,
    pub(super) lists: Lists,
    /// Tickets that wait for rows of an earlier process, by lane and number; and those rows by their packet id, which
    /// may be another message's later.
    pub(super) tickets: BTreeMap<(u64, u64), Ticket>,
    pub(super) awaited: BTreeMap<Origin, SmallVec<[(u64, u64); 2]>>,
    pub(super) numbers: Numbers,
    /// Rows of open cuts.
    pub(super) cut_rows: CutRows,
    /// Rows in groups that are not durable, by group.
    pub(super) unsynced: VecDeque<(u64, u64)>,
    /// Whether the disk must be asked again without anything else happening.
    pub(super) wants_turn: bool,
    /// Whether the disk has done something since the last flush.
    has_moved: bool,
    /// What the start has found and nobody may know yet.
    opening: Option<Box<Restored>>,
    /// When the group under way was handed to the disk.
    flying: Option<Monotonic>,
}

/// Numbers of a buffer. Counters begin with the process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Numbers {
    /// Bytes on the disk: segments there are.
    pub bytes: u64,
    /// The bound of that.
    pub bytes_max: u64,
    /// Bytes of live rows in them, about.
    pub live_bytes: u64,
    /// Segments there are.
    pub segments: u64,
    /// Syncs that succeeded.
    pub syncs: u64,
    /// What they took, together, in microseconds.
    pub sync_us: u64,
    /// The longest of them.
    pub sync_max_us: u64,
    /// Groups that are durable.
    pub groups: u64,
    /// Bytes in them.
    pub group_bytes: u64,
    /// Writes and syncs that failed.
    pub failures: u64,
    /// Nothing can be written: a group waits, and no segment can be made for it.
    pub stuck: bool,
    /// Bytes copied out of old segments.
    pub moved_bytes: u64,
    /// Rows written.
    pub rows: u64,
    /// Records of sessions, their queues, queued and retained messages.
    pub kept_records: u64,
    /// Damaged places found, at the start and since.
    pub rot: u64,
    /// Bytes behind the last whole group at the start.
    pub torn_bytes: u64,
    /// Segments in which something could not be read, since the start.
    pub segments_damaged: u64,
}

impl Buffer {
    /// Takes up what lies on the disk: segments by number, with their bytes. Reads, and changes nothing. What was found is
    /// given by [`Buffer::opened`], once it is known to be durable.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn open<D: Disk>(
        disk: &D,
        settings: Settings,
        found: &BTreeMap<u64, u64>,
        now: Monotonic,
        wall: WallMs,
    ) -> Result<Self, OpenError> {
        let recovered = recover(disk, settings.log.shard, found)?;
        settings.check(&recovered.state)?;
        let mut report = Report::of(&recovered);
        let mut restored = settings.restored(&recovered, &mut report);
        settings.lost(&recovered, &mut restored);
        settings.sessions(disk, &recovered, &mut restored)?;
        let next_session = recovered.next_session();
        let volatile = recovered.state.lanes().filter(|(_, lane)| lane.volatile);
        report.given_up = volatile.map(|(_, lane)| lane.rows()).sum();
        let written_ms = recovered.written_ms;
        let cut_rows = CutRows::new(recovered.state.cut_rows());
        let mut log = Log::new(settings.log.clone(), recovered);
        let logged = settings.clusters.iter().map(|sinks| sinks.iter().map(|terms| log.sink(&terms.name)).collect());
        let mut buffer = Self {
            logged: logged.collect(),
            room: Room::new(settings.clusters.iter().map(Vec::len)),
            clock: Clock::new(now, wall, written_ms),
            waiting: Waiting::default(),
            next_session,
            tickets: BTreeMap::new(),
            awaited: BTreeMap::new(),
            lanes: HashMap::new(),
            lists: Lists::default(),
            cut_rows,
            numbers: Numbers { rot: report.damage.len() as u64, torn_bytes: report.torn_bytes, ..Numbers::default() },
            unsynced: VecDeque::new(),
            flying: None,
            wants_turn: false,
            has_moved: true,
            opening: None,
            log,
            settings,
        };
        for (cluster, restored) in restored.clusters.iter().enumerate() {
            buffer.lanes.extend(restored.lanes.iter().map(|lane| (lane.lane, (cluster, lane.sink))));
        }
        if report.given_up > 0 {
            // The group is empty: it has a place.
            buffer.log.discard_volatile().map_err(|_| OpenError::Discard)?;
        }
        buffer.opening = Some(Box::new(Restored { report, ..restored }));
        buffer.look_at_room();
        Ok(buffer)
    }

    /// Has numbers and groups of a log count from after `first` on, so that those of several logs differ. Right after [`Buffer::open`].
    #[must_use]
    pub fn beginning_at(mut self, first: u64) -> Self {
        self.log.begin_at(first);
        self.next_session = self.next_session.max(first + 1);
        self
    }

    /// What the start has found, once: when the last group that it found is on the disk for certain. Before that nothing of
    /// it may be acted on, and nobody be accepted: a power cut might still take it back.
    pub fn opened(&mut self) -> Option<Restored> {
        let opened = self.opening.take_if(|_| self.log.is_open())?;
        self.log.forget_idle_lanes();
        Some(*opened)
    }

    /// The buffer as a cluster's producer sees it, for one poll.
    pub fn view<'a, D: Disk>(
        &'a mut self,
        disk: &'a mut D,
        cluster: usize,
        now: Monotonic,
        wall: WallMs,
    ) -> View<'a, D> {
        self.clock.turn(now, wall);
        View { buffer: self, disk, cluster }
    }

    /// Once a turn, after all that it has to keep: starts a group, if there is one and none is under way.
    pub fn flush<D: Disk>(&mut self, disk: &mut D, now: Monotonic, wall: WallMs) {
        self.clock.turn(now, wall);
        self.has_moved = self.wants_turn;
        let group = self.group();
        self.log.flush(disk, now, wall);
        if self.group() != group {
            self.flying = Some(now);
        }
        // Also what has found no room in its own group.
        if self.waiting.first().is_some_and(|first| first <= self.group()) {
            self.put_waiting();
        }
        self.look_at_room();
    }

    /// Takes what the disk reports. Whether something has become durable: answers and cuts may be due.
    pub fn complete<D: Disk>(&mut self, disk: &mut D, completion: Completion, now: Monotonic) -> bool {
        let before = self.durable();
        self.has_moved = true;
        self.log.complete(disk, completion);
        if let Completion::Synced { ok, .. } = completion {
            let took = self.flying.map_or(0, |begun| u64::try_from(now.since(begun).as_micros()).unwrap_or(u64::MAX));
            self.numbers.syncs += 1;
            self.numbers.sync_us += took;
            // The same group again.
            self.flying = if ok { None } else { Some(now) };
        }
        for lane in self.log.take_retired() {
            self.lanes.remove(&lane);
        }
        let durable = self.durable();
        while self.unsynced.pop_front_if(|(group, _)| *group <= durable).is_some() {}
        self.numbers.groups += durable.saturating_sub(before);
        self.look_at_room();
        durable != before
    }

    /// A wall clock before this is not set.
    #[must_use]
    pub const fn clock_set_after(&self) -> WallMs {
        self.clock.set_after()
    }

    /// A deadline as the log keeps it: until when on the wall, and how long from now, in milliseconds.
    #[must_use]
    pub fn deadline(&self, until: Monotonic) -> (i64, u64) {
        self.clock.written(until)
    }

    /// The deadline again, from what the log has kept.
    #[must_use]
    pub fn until(&self, wall_ms: i64, left_ms: u64) -> Monotonic {
        self.clock.read(wall_ms, left_ms)
    }

    /// The group that is being gathered: what is kept now is in it.
    #[must_use]
    pub const fn group(&self) -> u64 {
        self.log.group()
    }

    /// Whether something must be tried again soon, whatever else happens.
    pub fn wants_turn(&mut self) -> bool {
        std::mem::take(&mut self.wants_turn) | self.log.moves_again()
    }

    /// When the group that is being gathered begins, if it waits for that alone ([`crate::spool::Log::next_group_at`]).
    #[must_use]
    pub const fn next_group_at(&self) -> Option<Monotonic> {
        self.log.next_group_at()
    }

    /// When [`Buffer::flush`] must be called to write the note ([`crate::spool::Log::note_due`]).
    #[must_use]
    pub const fn note_due(&self) -> Option<Monotonic> {
        self.log.note_due()
    }

    /// Before it is put away ([`crate::spool::Log::write_note`]).
    pub fn write_note(&mut self, disk: &mut impl Disk) {
        self.log.write_note(disk);
    }

    /// All groups up to this one are durable.
    #[must_use]
    pub fn durable(&self) -> u64 {
        self.waiting.durable(self.log.durable())
    }

    /// Whether [`Buffer::flush`] has anything to do.
    #[must_use]
    pub fn has_to_flush(&self, now: Monotonic) -> bool {
        let is_due = |at: Option<Monotonic>| at.is_some_and(|at| at <= now);
        self.has_moved
            || self.log.moves_again()
            || !self.is_idle()
            || is_due(self.next_group_at())
            || is_due(self.note_due())
    }

    /// Whether everything that was kept is durable.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.log.is_idle() && self.waiting.is_empty()
    }

    /// Whether the disk refuses what it is asked.
    #[must_use]
    pub const fn is_stuck(&self) -> bool {
        self.log.trouble().in_a_row > 0
    }

    /// The numbers. But for [`Numbers::rows`] they change when a group begins or the disk reports something.
    #[must_use]
    pub fn numbers(&self) -> Numbers {
        let trouble = self.log.trouble();
        Numbers {
            failures: trouble.failures,
            stuck: self.is_stuck(),
            segments: self.log.segments() as u64,
            bytes: self.log.bytes(),
            bytes_max: self.log.bytes_max(),
            live_bytes: self.log.state().live_bytes(),
            group_bytes: self.log.written_bytes(),
            moved_bytes: self.log.moved_bytes(),
            rot: self.numbers.rot + self.log.places_unreadable(),
            segments_damaged: self.log.segments_damaged() as u64,
            kept_records: self.log.state().sessions_count() as u64,
            ..self.numbers
        }
    }

    /// Rows that could not be read back since this was last asked, by segment ([`Log::take_unreadable`]).
    pub fn take_unreadable(&mut self) -> BTreeMap<u64, u64> {
        self.log.take_unreadable()
    }

    /// Live bytes of a sink.
    #[must_use]
    pub fn sink_bytes(&self, cluster: usize, sink: SinkId) -> u64 {
        self.terms(cluster, sink).map_or(0, |terms| self.log.state().sink_bytes(&terms.name))
    }

    /// Live rows of a sink.
    #[must_use]
    pub fn sink_rows(&self, cluster: usize, sink: SinkId) -> u64 {
        self.terms(cluster, sink).map_or(0, |terms| self.log.state().sink_rows(&terms.name))
    }

    /// The most bytes that a sink may hold.
    #[must_use]
    pub fn sink_bytes_max(&self, cluster: usize, sink: SinkId) -> u64 {
        if self.keeps(cluster, sink) { self.log.share_of(self.logged[cluster][usize::from(sink.0)]) } else { 0 }
    }

    /// Rows that were written and are not durable yet.
    #[must_use]
    pub fn rows_not_durable(&self) -> u64 {
        self.unsynced.iter().map(|(_, rows)| rows).sum()
    }

    /// Adds a sink, by its number in its cluster's producer. Numbers before it without a sink here are those of
    /// dead-letter topics, which keep their rows in memory. It has room from the next look at the log's figures on.
    pub fn add_sink(&mut self, cluster: usize, sink: SinkId, terms: SinkTerms) {
        if self.settings.clusters.len() <= cluster {
            self.settings.clusters.resize_with(cluster + 1, Vec::new);
            self.logged.resize_with(cluster + 1, Vec::new);
        }
        let (sinks, logged) = (&mut self.settings.clusters[cluster], &mut self.logged[cluster]);
        while sinks.len() < usize::from(sink.0) {
            sinks.push(SinkTerms::of_dead_letters());
            logged.push(usize::MAX);
        }
        logged.push(self.log.sink(&terms.name));
        sinks.push(terms);
        self.room.grow(cluster, usize::from(sink.0) + 1);
    }

    /// Another share of the room for each sink, bytes ([`crate::spool::Log::share_of_all`]). At a start what it has been until now is not
    /// known, and one that has used it up holds a little more.
    pub fn set_share(&mut self, bytes: u64, keeps: bool) {
        let slack = if self.opening.is_some() { self.settings.log.segment_bytes } else { 0 };
        self.settings.log.sink_bytes_max = bytes;
        self.log.share_of_all(bytes, bytes + slack, keeps);
        self.look_at_room();
    }

    /// How far apart groups begin that are not full yet.
    pub const fn set_sync_interval(&mut self, interval: Duration) {
        self.log.set_sync_interval(interval);
    }

    pub(super) fn terms(&self, cluster: usize, sink: SinkId) -> Option<&SinkTerms> {
        self.settings.clusters.get(cluster)?.get(usize::from(sink.0))
    }

    pub(super) fn put_record(&mut self, record: &Record) -> bool {
        let put = match record {
            Record::Kept { number, payload } => self.log.session(Some(*number), payload).map(drop),
            Record::Ended { number } => self.log.session_ended(*number),
            Record::Released { number, packet_id } => self.log.released(*number, *packet_id),
        };
        put.is_ok()
    }
}
