//! The spool of a shard: its segments behind the ring, its buffer between them and the producers, and what an operator is
//! told of both.
//!
//! In a turn: completions of the disk first ([`Core::segment_event`]), which make the clusters busy, so that cuts that are
//! durable are sent and stored answers given in the same turn; then everybody works and writes down what it must; then
//! one flush ([`Core::flush_spool`]).

use std::collections::BTreeMap;
use std::io;

use crate::buffer::{Buffer, Report, RestoredSession};
use crate::kafka::types::SinkId;
use crate::metrics::event::{Field, Kind};
use crate::metrics::spec::{ShardMetric as M, SinkMetric};
use crate::runtime::seam::{Append, SegmentEvent, SegmentSettings, Segments};
use crate::spool::{AppendError, Completion, Disk, ReadError};

use super::events::second;
use super::{Core, Ring, settings};

/// The ring's segments as the log asks for them.
pub(super) struct Files<'a>(pub(super) &'a mut dyn Segments);

impl Disk for Files<'_> {
    fn create(&mut self, segment: u64, bytes: u64) {
        self.0.create(segment, bytes);
    }

    fn append(&mut self, segment: u64, at: u64, bytes: &[u8]) -> Result<(), AppendError> {
        self.0.append(segment, at, bytes).map_err(|error| match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => AppendError::Full,
            _ => AppendError::Gone,
        })
    }

    fn sync(&mut self, token: u64, segments: &[u64]) {
        self.0.sync(token, segments);
    }

    fn free(&mut self, segment: u64) {
        self.0.free(segment);
    }

    fn read(&self, segment: u64, at: u64, into: &mut [u8]) -> Result<(), ReadError> {
        self.0.read(segment, at, into).map_err(|error| match error.kind() {
            io::ErrorKind::WouldBlock => ReadError::Later,
            io::ErrorKind::NotFound | io::ErrorKind::UnexpectedEof | io::ErrorKind::InvalidInput => ReadError::Missing,
            _ => ReadError::Failed,
        })
    }
}

impl Core {
    /// Opens the segments and takes up what is in them, before anybody is accepted.
    ///
    /// # Errors
    /// Why the shard cannot start, in words for a person.
    pub(super) fn open_spool(&mut self, io: &mut Ring<'_>) -> Result<(), String> {
        let config = &self.around.config;
        let Some(wanted) = settings::buffer(config, self.index, self.random.u64(..)) else { return Ok(()) };
        let folder = config.spool_dir().join(self.index.to_string());
        let shown = folder.display().to_string();
        let failed = |what: String| format!("the spool of shard in {shown} cannot be taken up: {what}");
        let (now, wall) = (io.now(), io.wall());
        let files = SegmentSettings { folder, append: Append::Written, zeroed: false, faults: None };
        io.open_segments(files)
            .map_err(|error| failed(format!("{error}; `service.data_dir` (or --data-dir) says where it lies")))?;
        let segments = io.segments().ok_or_else(|| failed("no segments".into()))?;
        let found: BTreeMap<u64, u64> = segments.existing().into_iter().collect();
        let (buffer, restored) = Buffer::open(&mut Files(segments), wanted, &found, now, wall).map_err(|error| {
            failed(format!("{error}. `forebay spool inspect {shown}` shows what is there; nothing was changed"))
        })?;
        self.outlets.buffer = Some(buffer);
        for (cluster, restored) in restored.clusters.into_iter().enumerate() {
            self.outlets.upstreams[cluster].producer.restore(&restored.lanes, &restored.cuts);
        }
        self.restore_sessions(restored.sessions);
        self.tell_recovered(&restored.report, io);
        self.flush_spool(io);
        Ok(())
    }

    /// The kept sessions of an earlier start.
    fn restore_sessions(&mut self, _sessions: Vec<RestoredSession>) {}

    /// The disk has done something, or could not.
    pub(super) fn segment_event(&mut self, io: &mut Ring<'_>, event: SegmentEvent) {
        let now = io.now();
        let (completion, error) = match event {
            SegmentEvent::Created { segment, result } => {
                (Completion::Created { segment, ok: result.is_ok() }, result.err())
            }
            SegmentEvent::Synced { token, result } => (Completion::Synced { token, ok: result.is_ok() }, result.err()),
            SegmentEvent::Freed { segment, result } => (Completion::Freed { segment, ok: result.is_ok() }, result.err()),
            SegmentEvent::Read { .. } => return self.busy_clusters(),
        };
        if let Some(error) = error {
            let what = match completion {
                Completion::Created { .. } => "a segment cannot be made",
                Completion::Synced { .. } => "a sync failed; its messages are written again, to another segment",
                Completion::Freed { .. } => "a segment cannot be deleted",
            };
            self.teller.tell(Kind::SpoolFailed, second(now), |event| event.with(Field::Reason, format!("{what}: {error}")));
        }
        let (Some(buffer), Some(segments)) = (&mut self.outlets.buffer, io.segments()) else { return };
        buffer.complete(&mut Files(segments), completion, now);
        self.busy_clusters();
    }

    /// Cuts may be sent, answers are due, rows may be read or taken: every producer looks.
    fn busy_clusters(&mut self) {
        self.outlets.upstreams.iter_mut().for_each(|upstream| upstream.busy = true);
    }

    /// All that this turn has written down goes to the disk as one group, if none is under way.
    pub(super) fn flush_spool(&mut self, io: &mut Ring<'_>) {
        let (now, wall) = (io.now(), io.wall());
        let (Some(buffer), Some(segments)) = (&mut self.outlets.buffer, io.segments()) else { return };
        buffer.flush(&mut Files(segments), now, wall);
        let numbers = buffer.numbers();
        let values = [
            (M::SpoolBytes, numbers.bytes),
            (M::SpoolBytesMax, numbers.bytes_max),
            (M::SpoolSegments, numbers.segments),
            (M::SpoolSyncs, numbers.syncs),
            (M::SpoolSyncUs, numbers.sync_us),
            (M::SpoolGroupBytes, numbers.group_bytes),
            (M::SpoolFailures, numbers.failures),
            (M::SpoolStuck, numbers.stuck),
            (M::SpoolMovedBytes, numbers.moved_bytes),
        ];
        values.into_iter().for_each(|(metric, value)| self.numbers.set(metric, value));
        for (cluster, upstream) in self.outlets.upstreams.iter().enumerate() {
            for (number, sink) in (0u16..).zip(&upstream.sinks) {
                self.numbers.set_sink(*sink, SinkMetric::SpoolBytes, buffer.sink_bytes(cluster, SinkId(number)));
            }
        }
    }

    fn tell_recovered(&mut self, report: &Report, io: &Ring<'_>) {
        let second = second(io.now());
        if report.rows + report.cuts > 0 {
            self.teller.tell(Kind::SpoolRecovered, second, |event| {
                event.with(Field::Records, report.rows).with(Field::Cuts, report.cuts)
            });
        }
        if report.is_damaged() {
            self.teller.tell(Kind::SpoolDamaged, second, |event| event.with(Field::Reason, report.to_string()));
        }
    }
}
