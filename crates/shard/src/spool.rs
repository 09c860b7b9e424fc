//! The spool of a shard: its segments on the ring, its buffer between them and the producers, and its events for an operator.
//!
//! In a turn: completions of the disk first ([`Core::segment_event`]), which make the clusters busy, so that cuts that are
//! durable are sent and stored answers given in the same turn; then everybody works and writes down what it must; then
//! one flush ([`Core::flush_spool`]).

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use forebay_base::rules::Rules;
use forebay_broker::Broker;
use forebay_broker::logs::Kept;
use forebay_broker::sorted::Sorter;
use forebay_broker::words::second;
use forebay_buffer::{Buffer, OpenError, RecordKind, Report, Restored};
use forebay_metrics::event::{Event, Field, Kind};
use forebay_metrics::spec::{ShardMetric as M, SinkMetric};
use forebay_runtime::seam::{Append, Monotonic, SegmentEvent, SegmentSettings, WallMs};
use forebay_runtime::{note_path, segment_path};
use forebay_session::SessionKey;
use forebay_spool::{Completion, Damage, Disk, RecoverError, What};

use super::disks::Files;
use super::given_up::GivenUp;
use super::instances::Instances;
use super::mail::Notice;
use super::ring::Ring;
use super::session_log::KafkaLogs;
use super::words::Timer;
use super::{Core, settings};

/// The progress of a shard in taking up its logs.
#[derive(Default)]
pub(super) struct Log {
    /// Whether rows in the log are taken up: before that only its disk works.
    pub(super) is_taken_up: bool,
    /// Whether session state is taken up.
    pub(super) has_sessions: bool,
    /// Whether the log has changed since its numbers were read.
    pub(super) has_moved: bool,
    /// The disks of the logs of sessions, with `[broker]`.
    pub(super) kafka: Option<Box<KafkaLogs>>,
    /// On the first shard of an instance among others, its part in their group, which gives out the logs.
    pub(super) instances: Option<Box<Instances>>,
    /// The number of the last loss of slots that this shard has heard of.
    pub(super) losses: u64,
    /// Messages of the spool that were given up, as told.
    pub(super) given_up: GivenUp,
}

/// The log on this machine's disk, and the disk.
pub(super) fn on_disk<'a>(broker: &'a mut Broker, io: &'a mut Ring<'_>) -> Option<(&'a mut Buffer, Files<'a>)> {
    Some((broker.logs.on_disk_mut()?, Files(io.segments()?)))
}

/// The work left for a log after the end of a turn.
#[derive(Default)]
pub(super) struct Flushed {
    /// Whether a group has begun.
    pub(super) has_begun: bool,
    pub(super) tries_again: bool,
    pub(super) next_group_at: Option<Monotonic>,
    pub(super) look_due: Option<Monotonic>,
}

impl Flushed {
    /// Sends a log's group to its disk, if none is in flight. `None`: the disk refuses requests, and is not asked again.
    pub(super) fn of(
        (buffer, disk): (&mut Buffer, &mut impl Disk),
        rules: &dyn Rules,
        (now, wall): (Monotonic, WallMs),
    ) -> Option<Self> {
        if buffer.is_stuck() && !rules.tries_again() {
            return None;
        }
        let group = buffer.group();
        buffer.flush(disk, now, wall);
        Some(Self {
            has_begun: buffer.group() != group,
            tries_again: buffer.is_stuck() || buffer.wants_turn(),
            next_group_at: buffer.next_group_at(),
            look_due: buffer.look_due(),
        })
    }
}

impl Core {
    /// Opens the segments and reads them. Nothing in them takes effect before [`Core::take_up`].
    ///
    /// # Errors
    /// The reason why the shard cannot start, in words for a person.
    pub(super) fn open_spool(&mut self, io: &mut Ring<'_>) -> Result<(), String> {
        let config = &self.here.config;
        let Some(wanted) = settings::buffer(config, self.here.index, self.here.rules, self.random.u64(..)) else {
            return Ok(());
        };
        let append = match config.spool.as_ref().map(|spool| spool.append) {
            Some(forebay_config::Append::Mapped) => Append::Mapped,
            _ => Append::Written,
        };
        let folder = self.spool_folder();
        let (now, wall) = (io.now(), io.wall());
        let files = SegmentSettings { folder, append, zeroed: false, faults: None };
        io.open_segments(files).map_err(|error| {
            self.cannot_take_up(&format!("{error}; `service.data_dir` (or --data-dir) sets the directory"))
        })?;
        let segments = io.segments().ok_or_else(|| self.cannot_take_up("no segments"))?;
        let found: BTreeMap<u64, u64> = segments.existing().into_iter().collect();
        let mut buffer = Buffer::open(&Files(segments), wanted, &found, now, wall).map_err(|error| match error {
            OpenError::Unreadable(error) => refusal(&self.spool_folder(), &error, ""),
            error => self.cannot_take_up(&format!("{error}; nothing was changed")),
        })?;
        config.spool.iter().for_each(|spool| settings::set_spool(&mut buffer, spool, self.here.rules));
        self.outlets.clock_set_after = buffer.clock_set_after();
        if config.broker.is_some() {
            self.broker.logs.rows = Some(Box::new(buffer));
        } else {
            self.broker.logs.kept = Kept::One(buffer);
        }
        self.flush_spool(io);
        Ok(())
    }

    /// Takes up the contents of the logs, once they are certainly durable, and reports that the shard has started. Until then the last group found might
    /// vanish in a power failure: no client is accepted, nothing goes to Kafka. With `[broker]` rows come first: the contents of the log of sessions are
    /// durable when Kafka has its next group.
    pub(super) fn take_up(&mut self, io: &mut Ring<'_>) {
        if !self.log.is_taken_up && !self.take_up_rows(io) || self.log.has_sessions {
            return;
        }
        if self.log.kafka.is_some() && !self.take_up_slots(io) {
            return;
        }
        self.take_up_bridges(io);
        self.log.has_sessions = true;
        self.join_instances(io);
        self.tell_clock(io);
        // The receiver is gone only when the process ends.
        let _ = self.around.notices.send(Notice::Started(self.here.index));
    }

    /// Takes up the rows of the spool, and session state there. `false`: that has to wait.
    fn take_up_rows(&mut self, io: &mut Ring<'_>) -> bool {
        let has_broker = self.here.config.broker.is_some();
        if has_broker && self.log.kafka.is_none() {
            return false;
        }
        if let Some(buffer) = self.broker.logs.on_disk_mut() {
            let Some(mut found) = buffer.opened() else { return false };
            for (cluster, found) in std::mem::take(&mut found.clusters).into_iter().enumerate() {
                let producer = &mut self.outlets.upstreams[cluster].producer;
                producer.restore(found.lanes, found.cuts);
                found.lost.into_iter().for_each(|(sink, rows)| producer.lost_before(sink, rows));
                found.unknown.into_iter().for_each(|(sink, rows)| producer.outcome_unknown(sink, rows));
            }
            let report =
                if has_broker { self.end_sessions_of_spool(found) } else { self.take_up_spool(&found, io.now()) };
            self.tell_recovered(&report, io);
        }
        for upstream in &mut self.outlets.upstreams {
            upstream.client.start(io.now());
            upstream.busy = true;
        }
        self.log.is_taken_up = true;
        true
    }

    /// Takes up session state in the spool. Returns the report on records taken up and not.
    fn take_up_spool(&mut self, found: &Restored, now: Monotonic) -> Report {
        let mut taken = Vec::new();
        let (report, by_number) = self.take_up_log(found, &mut taken, now);
        self.broker.tell_exchanges(&mut self.here, now, &by_number);
        self.broker.sessions_restored(&mut self.here, taken, now);
        report
    }

    /// Takes up session state in a log. Returns the report on records taken up and not, and the sessions by their numbers.
    pub(super) fn take_up_log(
        &mut self,
        found: &Restored,
        taken: &mut Vec<SessionKey>,
        now: Monotonic,
    ) -> (Report, HashMap<u64, SessionKey>) {
        let Restored { sessions, lost, report, .. } = found;
        let mut report = report.clone();
        let mut sorter = Sorter::default();
        lost.iter().for_each(|lost| sorter.add(lost.number, Err(*lost), None));
        for kept in sessions {
            let log = self.broker.logs.kept.of(kept.number);
            sorter.add(kept.number, Ok(&kept.payload), log.and_then(|log| log.place_of(kept.number)));
        }
        let mut sorted = sorter.sorted(report.fate_open);
        report.add_records(sorted.kept, std::mem::take(&mut sorted.unread));
        let by_number = self.broker.restore_sessions(
            &mut self.here,
            |cluster, sink| self.outlets.sink_of_row(cluster, sink),
            (sessions, &sorted),
            taken,
            now,
        );
        (report, by_number)
    }

    /// Ends session state in the spool from before there was `[broker]`.
    fn end_sessions_of_spool(&mut self, found: Restored) -> Report {
        let Restored { sessions, lost, report, .. } = found;
        if let Some(rows) = &mut self.broker.logs.rows {
            sessions.iter().for_each(|kept| _ = rows.end_session(kept.number));
            lost.iter().for_each(|lost| rows.lose(lost.number, true));
        }
        report
    }

    fn spool_folder(&self) -> PathBuf {
        self.here.config.spool_dir().join(self.here.index.to_string())
    }

    fn cannot_take_up(&self, why: &str) -> String {
        format!("cannot open the spool of a shard in {}: {why}", self.spool_folder().display())
    }

    /// Handles a completion or failure of the disk.
    pub(super) fn segment_event(&mut self, io: &mut Ring<'_>, event: SegmentEvent) {
        let now = io.now();
        self.log.has_moved = true;
        let (completion, error) = match event {
            SegmentEvent::Created { segment, result } => {
                (Completion::Created { segment, ok: result.is_ok() }, result.err())
            }
            SegmentEvent::Synced { token, result } => {
                (Completion::Synced { token, ok: self.here.rules.is_synced(result.is_ok()) }, result.err())
            }
            SegmentEvent::Freed { segment, result: Ok(()) } => (Completion::Freed { segment }, None),
            // The segment keeps its room until the process ends: to the log it is not free.
            SegmentEvent::Freed { result: Err(error), .. } => {
                return self.tell_failed("cannot delete a segment", &error, now);
            }
            SegmentEvent::Read { .. } => return self.busy_clusters(),
        };
        if let Some(error) = error {
            let made = matches!(completion, Completion::Created { .. });
            let what = if made { "cannot create a segment" } else { "written data may not be on the disk" };
            self.tell_failed(what, &error, now);
        }
        let Some((buffer, mut files)) = on_disk(&mut self.broker, io) else { return };
        buffer.complete(&mut files, completion, now);
        self.busy_clusters();
        if !self.log.has_sessions {
            self.take_up(io);
        }
    }

    /// Records a failure of the disk. A lasting failure is an event every ten seconds, not at every attempt.
    fn tell_failed(&mut self, what: &'static str, error: &io::Error, now: Monotonic) {
        let told = &mut self.outlets.full.failure_told;
        if told.is_some_and(|(before, at)| before == what && now.since(at) < FAILED_AGAIN) {
            return;
        }
        *told = Some((what, now));
        self.here
            .teller
            .tell(Kind::SpoolFailed, second(now), |event| event.with(Field::Reason, format!("{what}: {error}")));
    }

    /// Has every producer polled: cuts may be sent, answers are due, rows may be read or taken.
    pub(super) fn busy_clusters(&mut self) {
        self.outlets.upstreams.iter_mut().for_each(|upstream| upstream.busy = true);
    }

    /// Has the spool checked again by the end of the turn.
    pub(super) fn spool_time(&mut self) {
        self.timers.spool = None;
        self.busy_clusters();
    }

    /// Lets the end of the turn begin the next group.
    pub(super) const fn group_time(&mut self) {
        self.timers.group = None;
    }

    /// Lets the end of the turn write the note beside the segments, put a quiet log together, or wait for the next time.
    pub(super) const fn note_time(&mut self) {
        self.timers.note = None;
    }

    /// Sends the writes of this turn to the disk as one group, if none is in flight.
    pub(super) fn flush_spool(&mut self, io: &mut Ring<'_>) {
        let (now, wall) = (io.now(), io.wall());
        if self.outlets.make_room(&mut self.broker.logs, now) {
            // The ends of dropped rows may be durable before the next turn, and the process may end then: they count in this one.
            (0..self.outlets.upstreams.len()).for_each(|cluster| self.read_stats(cluster, now));
        }
        let due = self.log.given_up.is_due(second(now));
        let rules = self.here.rules;
        let on_disk = on_disk(&mut self.broker, io);
        let of_disk = on_disk.and_then(|(log, mut files)| Flushed::of((log, &mut files), rules, (now, wall)));
        let of_kafka = self.flush_slots(io);
        // Trouble of a log is over with its slot, so a shard without one looks, too.
        self.look_for_trouble(io);
        if of_disk.is_none() && of_kafka.is_none() {
            if due {
                self.tell_given_up(second(now));
            }
            return;
        }
        for flushed in [of_disk, of_kafka].into_iter().flatten() {
            self.log.has_moved |= flushed.has_begun;
            // A request that the disk refuses is tried again, whether or not anything else happens.
            if (flushed.tries_again || !self.outlets.full.wanted.is_empty()) && self.timers.spool.is_none() {
                self.timers.spool = Some(io.set_timer(now.after(TRY_AGAIN), Timer::Spool.token()));
            }
            if let Some(at) = flushed.next_group_at
                && self.timers.group.is_none()
            {
                self.timers.group = Some(io.set_timer(at, Timer::Group.token()));
            }
            if let Some(at) = flushed.look_due
                && self.timers.note.is_none()
            {
                self.timers.note = Some(io.set_timer(at, Timer::Note.token()));
            }
        }
        if self.log.kafka.is_some() {
            // Kafka's segments are created at once.
            if self.complete_session_logs(io) {
                self.flush_slots(io);
            }
            self.send_session_logs(io);
            self.look_for_silence(io);
        }
        if std::mem::take(&mut self.log.has_moved) || due {
            self.set_spool_numbers(now);
        }
        self.tell_full(now);
        if due {
            self.tell_given_up(second(now));
            self.tell_unreadable(second(now));
        }
    }

    /// Records damage that was found in this process when records were read back: an event for each segment, once a second.
    fn tell_unreadable(&mut self, second: u64) {
        let Some(buffer) = self.broker.logs.on_disk_mut() else { return };
        let found = buffer.take_unreadable();
        if found.is_empty() {
            return;
        }
        let folder = self.spool_folder();
        for (segment, rows) in found {
            self.here.teller.tell(Kind::SpoolDamaged, second, |event| {
                let event = event.with(Field::File, segment_path(&folder, segment).display().to_string());
                let what = if rows > 0 { "records read back from" } else { "what sessions keep, moved out of" };
                event.with(Field::Records, rows).with(Field::Reason, format!("{what} segment {segment} cannot be read"))
            });
        }
    }

    fn set_spool_numbers(&mut self, now: Monotonic) {
        let logs = &self.broker.logs;
        let kept_records = logs.kept.each().map(|kept| kept.numbers().kept_records).sum();
        let sessions = [(M::SessionsKept, self.broker.stored_sessions()), (M::KeptRecords, kept_records)];
        sessions.into_iter().for_each(|(metric, value)| self.here.numbers.set(metric, value));
        if self.log.kafka.is_some() {
            self.set_session_log_numbers(now);
        }
        let Some(buffer) = self.broker.logs.rows() else { return };
        let numbers = buffer.numbers();
        let values = [
            (M::SpoolBytes, numbers.bytes),
            (M::SpoolBytesMax, numbers.bytes_max),
            (M::SpoolLiveBytes, numbers.live_bytes),
            (M::SpoolSegments, numbers.segments),
            (M::SpoolRowsWritten, numbers.rows),
            (M::SpoolGroupBytes, numbers.group_bytes),
            (M::SpoolMovedBytes, numbers.moved_bytes),
            (M::SpoolGroups, numbers.groups),
            (M::SpoolSyncs, numbers.syncs),
            (M::SpoolSyncUs, numbers.sync_us),
            (M::SpoolFailures, numbers.failures),
            (M::SpoolStuck, u64::from(numbers.stuck)),
            (M::SpoolRot, numbers.rot),
            (M::SpoolDamaged, numbers.segments_damaged),
            (M::SpoolTornBytes, numbers.torn_bytes),
        ];
        values.into_iter().for_each(|(metric, value)| self.here.numbers.set(metric, value));
        for (cluster, upstream) in self.outlets.upstreams.iter().enumerate() {
            for (number, sink) in upstream.members.own() {
                self.here.numbers.set_sink(sink, SinkMetric::SpoolBytes, buffer.sink_bytes(cluster, number));
                self.here.numbers.set_sink(sink, SinkMetric::SpooledRows, buffer.sink_rows(cluster, number));
                self.here.numbers.set_sink(sink, SinkMetric::SpoolBytesMax, buffer.sink_bytes_max(cluster, number));
            }
        }
    }

    pub(super) fn tell_recovered(&mut self, report: &Report, io: &Ring<'_>) {
        let second = second(io.now());
        if self.here.index == 0 {
            self.around.lost_before.iter().for_each(|(kind, count)| self.here.numbers.raise(lost_metric(kind), count));
        }
        if report.rows + report.cuts + report.kept.total() > 0 {
            let of = |kind| report.kept.of(kind);
            let queued = self.broker.delivery.remembered().stored() as u64;
            self.here.teller.tell(Kind::SpoolRecovered, second, |event| {
                let event = event.with(Field::Records, report.rows).with(Field::Cuts, report.cuts);
                let event = event.with(Field::Sessions, of(RecordKind::Session));
                event.with(Field::Retained, of(RecordKind::Retained)).with(Field::Queued, queued)
            });
        }
        if report.is_damaged() {
            self.tell_damaged(report, None, io);
        }
    }

    /// Reports damage. `slot`: that of the log. `None`: the log is on this machine's disk.
    pub(super) fn tell_damaged(&mut self, report: &Report, slot: Option<u16>, io: &Ring<'_>) {
        for (kind, count) in report.lost.iter() {
            self.here.numbers.raise(lost_metric(kind), count);
        }
        self.here.numbers.raise(M::LostRows, report.lost_rows());
        let name = slot.and_then(|slot| self.session_log_name(slot));
        let folder = name.map_or_else(|| self.spool_folder(), PathBuf::from);
        self.here.teller.tell(Kind::SpoolDamaged, second(io.now()), |event| damaged(event, report, &folder));
    }
}

/// The counter of lost records of a kind.
const fn lost_metric(kind: RecordKind) -> M {
    match kind {
        RecordKind::Session => M::LostSessions,
        RecordKind::Retained => M::LostRetained,
        RecordKind::Queued => M::LostQueued,
        RecordKind::Shared => M::LostShared,
        RecordKind::Queue => M::LostQueues,
        RecordKind::Exchange => M::LostExchanges,
        RecordKind::Unknown => M::LostUnknown,
    }
}

/// Adds damage and losses in a folder of segments to an event.
pub fn damaged(event: Event, report: &Report, folder: &Path) -> Event {
    let of = |kind| report.lost.of(kind);
    let file = match report.damage.first() {
        Some(Damage { what: What::Note, .. }) => Some(note_path(folder)),
        _ => report.first_segment().map(|segment| segment_path(folder, segment)),
    };
    let file = file.map(|file| file.display().to_string());
    let event = event.maybe(Field::File, file).with(Field::Records, report.lost_rows());
    let event = event.with(Field::Sessions, of(RecordKind::Session)).with(Field::Retained, of(RecordKind::Retained));
    let event = event.with(Field::Queued, of(RecordKind::Queued)).with(Field::Shared, of(RecordKind::Shared));
    event.with(Field::Reason, report.to_string())
}

/// The reason why a shard's part of the spool is not taken up, and the remedy. `why`: the system's reason, if it gives one.
pub fn refusal(folder: &Path, error: &RecoverError, why: &str) -> String {
    let (path, cure) = (segment_path(folder, error.segment()), error.cure());
    format!(
        "{}: {error}{why}; nothing was changed. Cure: {cure}. `forebay spool inspect {}` shows what is there",
        path.display(),
        folder.display()
    )
}

impl Core {
    /// Reports a wall clock that is not set.
    fn tell_clock(&mut self, io: &Ring<'_>) {
        let (wall, set_after) = (io.wall(), self.outlets.clock_set_after);
        if wall < set_after {
            let hours = set_after.0.abs_diff(wall.0) / 3_600_000;
            let reason = format!("it is {hours} hours and more behind this release or the records in the spool");
            self.here.teller.tell(Kind::ClockNotSet, second(io.now()), |event| event.with(Field::Reason, reason));
        }
    }
}

/// The interval at which a disk that refuses requests is checked.
const TRY_AGAIN: Duration = Duration::from_millis(100);

/// The interval at which a failure of the disk is reported again.
const FAILED_AGAIN: Duration = Duration::from_secs(10);
