//! The disk buffer as in the shard, on a disk that loses, tears and fails.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::time::Duration;

use super::{Crash, Restored, StorePlan};
use crate::buffer::{self, Buffer, Settings, SinkTerms, SpoolFull};
use crate::kafka::producer::row_log::{RowLog, RowSet};
use crate::kafka::producer::{self, Producer, SinkSettings};
use crate::kafka::types::SinkId;
use crate::rules::Rules;
use crate::runtime::seam::{Monotonic, WallMs};
use crate::sim::plan::Fault;
use crate::sim::row;
use crate::spool::simulated::SimDisk;
use crate::spool::{self, Completion, Read, recover};

const SHARD: u32 = 3;

/// Time until the oldest rows are dropped again, if the drop has made no room. (Longer in the service: time is short
/// here.)
const DROP_AGAIN: Duration = Duration::from_millis(20);

/// The disk buffer on a simulated disk.
#[derive(Debug)]
pub(in crate::sim) struct Spool {
    disk: SimDisk,
    pub(super) buffer: Buffer,
    settings: Settings,
    rules: &'static dyn Rules,
    bytes_max: u64,
    sink_bytes_max: u64,
    /// Lasting faults: syncs, writes, new segments.
    sick: [bool; 3],
    /// Whether the sinks use `drop-oldest`. The next fields: the row that found no room; the time of the last drop and
    /// the bytes freed until then.
    drops: bool,
    wanted: Cell<Option<(SpoolFull, SinkId, usize)>>,
    dropped: Option<(Monotonic, u64)>,
}

fn terms((index, sink): (usize, &SinkSettings)) -> SinkTerms {
    SinkTerms { name: format!("sink {index}").into(), keep: sink.keep, answered_on: sink.answered_on }
}

impl Spool {
    pub(super) fn new(plan: &StorePlan, producer: &producer::Settings) -> Self {
        let bytes_max = plan.segment_bytes * plan.segments_max;
        let sink_bytes_max = bytes_max * plan.share / 100;
        let log = spool::Settings {
            shard: SHARD,
            segment_bytes: plan.segment_bytes,
            segments_max: plan.segments_max,
            sink_bytes_max: producer.rules.share_of_sink(sink_bytes_max, bytes_max),
            data_dir_id: 0,
            seed: producer.seed,
        };
        let sinks = producer.sinks.iter().filter(|sink| !sink.reserved).enumerate().map(terms).collect();
        let settings = Settings { log, clusters: vec![sinks], takes_up_others: false };
        let disk = SimDisk::default();
        let opened = Buffer::open(&disk, settings.clone(), &BTreeMap::new(), Monotonic(1), WallMs(1));
        let mut buffer = opened.expect("an empty folder");
        buffer.opened().expect("nothing to wait for");
        buffer.drop_oldest_when_full(plan.drops);
        let (sick, drops) = ([false; 3], plan.drops);
        let rules = producer.rules;
        Self {
            disk,
            buffer,
            settings,
            rules,
            bytes_max,
            sink_bytes_max,
            sick,
            drops,
            wanted: Cell::default(),
            dropped: None,
        }
    }

    pub(super) fn admit(&self, sink: SinkId, bytes: usize) -> bool {
        let room = self.buffer.admit(0, sink, bytes);
        if let Err(full @ (SpoolFull::Whole | SpoolFull::Sink)) = room {
            self.wanted.set(Some((full, sink, bytes)));
        }
        room.is_ok()
    }

    /// Makes room as the shard does.
    pub(super) fn make_room(&mut self, now: Monotonic, producer: &mut Producer) -> RowSet {
        let Some((full, sink, bytes)) = self.wanted.get().filter(|_| self.drops) else { return RowSet::default() };
        if self.buffer.admit(0, sink, bytes).is_ok() {
            self.wanted.set(None);
            return RowSet::default();
        }
        let freed = self.buffer.freed();
        let is_coming = |before: u64| before == freed || self.buffer.is_freeing();
        if self.dropped.is_some_and(|(at, before)| is_coming(before) && now.since(at) < DROP_AGAIN) {
            return RowSet::default();
        }
        self.dropped = Some((now, freed));
        let allowed = producer.droppable(|of| full == SpoolFull::Whole || of == sink);
        let dropped = self.buffer.drop_oldest(&allowed);
        producer.dropped(&dropped, &mut |lane, run| self.buffer.owed(lane, run));
        dropped
    }

    pub(super) fn has_room(&self, bytes: usize) -> bool {
        self.buffer.admit(0, SinkId(0), bytes).is_ok()
    }

    pub(super) fn promise(&mut self, sink: SinkId, bytes: usize) {
        self.buffer.promise(0, sink, bytes);
    }

    pub(super) fn with<T>(
        &mut self,
        (now, wall): (Monotonic, WallMs),
        later: u32,
        f: impl FnOnce(&mut dyn RowLog) -> T,
    ) -> T {
        // Rows that are asked for arrive a little later.
        self.disk.reads_later.set(later);
        f(&mut self.buffer.view(&mut self.disk, 0, now, wall))
    }

    pub(super) fn flush(&mut self, (now, wall): (Monotonic, WallMs), takes: Duration) {
        if self.buffer.numbers().stuck && !self.rules.tries_again() {
            return;
        }
        self.disk.answers_at = now.after(takes);
        self.buffer.flush(&mut self.disk, now, wall);
    }

    pub(super) fn answer(&mut self, now: Monotonic) -> bool {
        let Some(mut completion) = self.disk.answer_by(now) else { return false };
        if let Completion::Synced { ok, .. } = &mut completion {
            *ok = self.rules.is_synced(*ok);
        }
        self.buffer.complete(&mut self.disk, completion, now);
        true
    }

    pub(super) fn next_deadline(&self) -> Option<Monotonic> {
        self.disk.next_deadline()
    }

    pub(super) fn is_idle(&self) -> bool {
        self.buffer.is_idle()
    }

    pub(super) fn fails(&mut self, fault: Fault, rng: &mut fastrand::Rng) {
        let SimDisk { fail_syncs, fail_appends, fail_creates, room, .. } = &mut self.disk;
        match fault {
            Fault::SyncFails => *fail_syncs = fail_syncs.saturating_add(1),
            Fault::WriteFails => *fail_appends = fail_appends.saturating_add(1),
            Fault::CreateFails => *fail_creates = fail_creates.saturating_add(1),
            Fault::SickDisk if self.sick == [false; 3] => {
                self.sick = [rng.bool(), rng.bool(), true];
                rng.shuffle(&mut self.sick);
                self.goes_on_failing();
            }
            Fault::SickDisk => {
                self.sick = [false; 3];
                self.goes_on_failing();
            }
            Fault::FullDisk if room.is_some() => *room = None,
            Fault::FullDisk => {
                let left = rng.u64(..4 * self.settings.log.segment_bytes);
                self.disk.room = Some(self.disk.bytes_taken() + left);
            }
            _ => {}
        }
    }

    fn goes_on_failing(&mut self) {
        let times = self.sick.map(|is_sick| if is_sick { u32::MAX } else { 0 });
        [self.disk.fail_syncs, self.disk.fail_appends, self.disk.fail_creates] = times;
    }

    pub(super) fn is_well(&mut self) {
        (self.sick, self.disk.room) = ([false; 3], None);
        self.goes_on_failing();
    }

    pub(super) fn crash(&mut self, how: Crash, at: (Monotonic, WallMs), rng: &mut fastrand::Rng) -> Restored {
        let (mut how, mut starts) = (how, 0);
        let mut restored = loop {
            // A start waits while there is no room for a segment; after some attempts room is made.
            starts += 1;
            self.disk.room = self.disk.room.filter(|_| starts < 8);
            match how {
                Crash::Power => self.disk.power_cut(rng),
                Crash::Kill => self.disk.kill(rng),
            }
            self.disk = std::mem::take(&mut self.disk).without_faults();
            self.disk.reads_later.set(0);
            self.wanted.set(None);
            self.settings.log.seed = rng.u64(..);
            let opened = Buffer::open(&self.disk, self.settings.clone(), &self.disk.found(), at.0, at.1);
            self.buffer = opened.expect("a start");
            self.buffer.drop_oldest_when_full(self.drops);
            // The process may end before its start is complete, and more than once.
            let steps = if rng.u32(..4) == 0 { rng.u32(..6) } else { u32::MAX };
            if let Some(restored) = self.opened(steps, at) {
                break restored;
            }
            how = if rng.bool() { Crash::Power } else { Crash::Kill };
        };
        // The next process finds the lasting faults unchanged.
        self.goes_on_failing();
        assert!(!restored.report.is_damaged(), "damage: {:?}", restored.report);
        let cluster = restored.clusters.pop().expect("a cluster");
        Restored { lanes: cluster.lanes, cuts: cluster.cuts, sessions: restored.sessions }
    }

    /// Runs the steps of a start, at most `steps`, until its findings may be acted on.
    fn opened(&mut self, steps: u32, (from, wall): (Monotonic, WallMs)) -> Option<buffer::Restored> {
        self.disk.answers_at = from;
        for step in 0..steps.min(100) {
            let now = from.after(Duration::from_secs(u64::from(step)));
            let opened = self.buffer.opened();
            if opened.is_some() {
                return opened;
            }
            self.buffer.flush(&mut self.disk, now, wall);
            let completion = self.disk.answer()?;
            self.buffer.complete(&mut self.disk, completion, now);
        }
        None
    }

    /// Rows on the disk, read without the buffer.
    pub(super) fn found(&self) -> BTreeMap<(u64, u64), u32> {
        let recovered = recover(&self.disk, SHARD, &self.disk.found()).expect("a start");
        let mut log = recovered.reader();
        let lanes: Vec<u64> = recovered.state.lanes().map(|(lane, _)| lane).collect();
        let mut found = BTreeMap::new();
        for lane in lanes {
            let mut at = 0;
            while let Read::Block(block) = log.rows(&self.disk, lane, at, u64::MAX).expect("a read") {
                at = block.run.end();
                for back in block.rows() {
                    let (row, _) = row::read(back.record.key, back.record.value).expect("a row, whole");
                    found.insert((lane, back.number), row);
                }
            }
        }
        found
    }

    pub(super) fn wrong(&self) -> Option<String> {
        let (taken, most) = (self.disk.bytes_taken(), self.bytes_max.max(self.buffer.numbers().bytes_max));
        if taken > most {
            return Some(format!("{taken} bytes on the disk, of {most} at the most"));
        }
        let shares = (0..self.settings.clusters[0].len() as u16).map(|sink| self.buffer.sink_bytes(0, SinkId(sink)));
        // No row is taken beyond the share. The rest of a block counts by its part of the rows, but in full, with a
        // head of its own, once it has been moved: about one block more.
        let (held, most) = (shares.max().unwrap_or(0), self.sink_bytes_max + self.settings.log.segment_bytes / 8);
        (held > most).then(|| format!("{held} bytes of one sink, of {most} at the most"))
    }

    /// Number of segments.
    pub(super) fn segments(&self) -> usize {
        self.disk.found().len()
    }

    /// Number of kept sessions.
    pub(super) fn sessions(&self) -> usize {
        self.buffer.numbers().kept_records as usize
    }
}
