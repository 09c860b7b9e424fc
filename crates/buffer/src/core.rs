//! The buffer of one shard: the log, and state besides it.

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
use forebay_kafka::producer::row_log::Origin;
use forebay_kafka::types::{SinkId, Ticket};
use forebay_runtime::seam::{Monotonic, WallMs};
use forebay_spool::{Completion, Disk, Log, recover};

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
    /// The owner of each lane: cluster and sink.
    pub(super) lanes: HashMap<u64, (usize, SinkId)>,
    pub(super) lists: Lists,
    /// Tickets that wait for rows of an earlier process, by lane and number; and those rows by packet id, which may belong to another
    /// message later.
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
    /// The recovered state, not yet handed out.
    opening: Option<Box<Restored>>,
    /// When the group in flight was handed to the disk.
    flying: Option<Monotonic>,
}

/// Numbers of a buffer. Counters begin with the process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Numbers {
    /// Bytes of all segments on disk.
    pub bytes: u64,
    /// The bound on `bytes`.
    pub bytes_max: u64,
    /// Approximate bytes of live rows in the segments.
    pub live_bytes: u64,
    /// Number of segments.
    pub segments: u64,
    /// Syncs that succeeded.
    pub syncs: u64,
    /// Total duration of the syncs, in microseconds.
    pub sync_us: u64,
    /// Duration of the longest sync, in microseconds.
    pub sync_max_us: u64,
    /// Groups that are durable.
    pub groups: u64,
    /// Bytes in durable groups.
    pub group_bytes: u64,
    /// Writes and syncs that failed.
    pub failures: u64,
    /// Whether nothing can be written: a group waits, and no segment can be created for it.
    pub stuck: bool,
    /// Bytes copied out of old segments.
    pub moved_bytes: u64,
    /// The number of times that what lives was put together.
    pub put_together: u64,
    /// Rows written.
    pub rows: u64,
    /// Records of sessions, their queues, queued and retained messages.
    pub kept_records: u64,
    /// Damaged places found, at startup and since.
    pub rot: u64,
    /// Bytes after the last whole group at startup.
    pub torn_bytes: u64,
    /// Segments with unreadable data, since startup.
    pub segments_damaged: u64,
}

impl Buffer {
    /// Recovers the segments on disk, given by number with their bytes. Reads, and changes nothing. [`Buffer::opened`] returns what was
    /// found, once it is known to be durable.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn open<D: Disk>(
        disk: &D,
        mut settings: Settings,
        found: &BTreeMap<u64, u64>,
        now: Monotonic,
        wall: WallMs,
    ) -> Result<Self, OpenError> {
        let recovered = recover(disk, settings.log.shard, found)?;
        if settings.takes_up_others {
            settings.take_up_others(&recovered.state);
        }
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
            // The group is empty, so the entry fits.
            buffer.log.discard_volatile().map_err(|_| OpenError::Discard)?;
        }
        buffer.opening = Some(Box::new(Restored { report, ..restored }));
        buffer.look_at_room();
        Ok(buffer)
    }

    /// Makes numbers and groups of a log count from after `first`, so that those of several logs differ. Call it right after
    /// [`Buffer::open`].
    #[must_use]
    pub fn beginning_at(mut self, first: u64) -> Self {
        self.log.begin_at(first);
        self.next_session = self.next_session.max(first + 1);
        self
    }

    /// Returns the recovered state, once: when the last group found is on the disk for certain. Before that none of it may be acted on,
    /// and no client may be accepted: a power cut might still undo it.
    pub fn opened(&mut self) -> Option<Restored> {
        let opened = self.opening.take_if(|_| self.log.is_open())?;
        self.log.forget_idle_lanes();
        Some(*opened)
    }

    /// The buffer for a cluster's producer, for one poll.
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

    /// Starts a group, if there is one and none is in flight. Called once a turn, after everything that the turn keeps.
    pub fn flush<D: Disk>(&mut self, disk: &mut D, now: Monotonic, wall: WallMs) {
        self.clock.turn(now, wall);
        self.has_moved = self.wants_turn;
        let group = self.group();
        self.log.flush(disk, now, wall);
        if self.group() != group {
            self.flying = Some(now);
        }
        // Includes records that found no room in their own group.
        if self.waiting.first().is_some_and(|first| first <= self.group()) {
            self.put_waiting();
        }
        self.look_at_room();
    }

    /// Handles a completion that the disk reports. Returns whether something has become durable: acknowledgements and cuts may be due.
    pub fn complete<D: Disk>(&mut self, disk: &mut D, completion: Completion, now: Monotonic) -> bool {
        let before = self.durable();
        self.has_moved = true;
        self.log.complete(disk, completion);
        if let Completion::Synced { ok, .. } = completion {
            let took = self.flying.map_or(0, |begun| u64::try_from(now.since(begun).as_micros()).unwrap_or(u64::MAX));
            self.numbers.syncs += 1;
            self.numbers.sync_us += took;
            // The same group is written again.
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

    /// The earliest plausible wall-clock time: an earlier one means that the clock is not set.
    #[must_use]
    pub const fn clock_set_after(&self) -> WallMs {
        self.clock.set_after()
    }

    /// A deadline in the log's form: the wall-clock time, and the time left from now, in milliseconds.
    #[must_use]
    pub fn deadline(&self, until: Monotonic) -> (i64, u64) {
        self.clock.written(until)
    }

    /// The deadline from the log's form.
    #[must_use]
    pub fn until(&self, wall_ms: i64, left_ms: u64) -> Monotonic {
        self.clock.read(wall_ms, left_ms)
    }

    /// The group being gathered: new rows and records go into it.
    #[must_use]
    pub const fn group(&self) -> u64 {
        self.log.group()
    }

    /// Whether something must be tried again soon, even if nothing else happens.
    pub fn wants_turn(&mut self) -> bool {
        std::mem::take(&mut self.wants_turn) | self.log.moves_again()
    }

    /// When the group being gathered begins, if it waits only for that ([`forebay_spool::Log::next_group_at`]).
    #[must_use]
    pub const fn next_group_at(&self) -> Option<Monotonic> {
        self.log.next_group_at()
    }

    /// When [`Buffer::flush`] must be called to write the note, or since the log is quiet ([`forebay_spool::Log::note_due`],
    /// [`forebay_spool::Log::quiet_at`]).
    #[must_use]
    pub fn look_due(&self) -> Option<Monotonic> {
        self.log.note_due().into_iter().chain(self.log.quiet_at()).min()
    }

    /// Leaves the segments as they are from now on ([`forebay_spool::Log::leave_apart`]).
    pub const fn leave_apart(&mut self) {
        self.log.leave_apart();
    }

    /// Writes the note before the buffer is closed ([`forebay_spool::Log::write_note`]).
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
            || is_due(self.look_due())
    }

    /// Whether everything that was kept is durable.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.log.is_idle() && self.waiting.is_empty()
    }

    /// Whether the disk fails now.
    #[must_use]
    pub const fn is_stuck(&self) -> bool {
        self.log.trouble().in_a_row > 0
    }

    /// The numbers. Except for [`Numbers::rows`] they change only when a group begins or the disk reports a completion.
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
            put_together: self.log.put_together(),
            rot: self.numbers.rot + self.log.places_unreadable(),
            segments_damaged: self.log.segments_damaged() as u64,
            kept_records: self.log.state().sessions_count() as u64,
            ..self.numbers
        }
    }

    /// Takes the rows that could not be read back since the last call, by segment ([`Log::take_unreadable`]).
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

    /// Adds a sink, by its number in its cluster's producer. Lower numbers without a sink here are those of dead-letter topics, which
    /// keep their rows in memory. The sink has room from the next look at the log's figures on.
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

    /// Sets another share of the room for each sink, in bytes ([`forebay_spool::Log::share_of_all`]). At startup the previous share is not
    /// known, and a sink that has used it up holds a little more.
    pub fn set_share(&mut self, bytes: u64, keeps: bool) {
        let slack = if self.opening.is_some() { self.settings.log.segment_bytes } else { 0 };
        self.settings.log.sink_bytes_max = bytes;
        self.log.share_of_all(bytes, bytes + slack, keeps);
        self.look_at_room();
    }

    /// Sets the minimum interval between the starts of groups that are not full.
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
