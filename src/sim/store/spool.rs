//! The disk buffer as the shard has it, on a disk that loses, tears and fails.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{Crash, Restored, StorePlan};
use crate::buffer::{Buffer, Settings, SinkTerms};
use crate::kafka::producer::row_log::RowLog;
use crate::kafka::producer::{Settings as Producer, SinkSettings};
use crate::kafka::types::SinkId;
use crate::runtime::seam::{Monotonic, WallMs};
use crate::sim::plan::Fault;
use crate::sim::row;
use crate::spool::simulated::SimDisk;
use crate::spool::{self, Log, Read, recover};

const SHARD: u32 = 3;

/// See the module.
#[derive(Debug)]
pub(in crate::sim) struct Spool {
    disk: SimDisk,
    pub(super) buffer: Buffer,
    settings: Settings,
    bytes_max: u64,
}

fn terms((index, sink): (usize, &SinkSettings)) -> SinkTerms {
    SinkTerms { name: format!("sink {index}").into(), keep: sink.keep, answered_on: sink.answered_on }
}

impl Spool {
    pub(super) fn new(plan: &StorePlan, producer: &Producer) -> Self {
        let bytes_max = plan.segment_bytes * plan.segments_max;
        let log = spool::Settings {
            shard: SHARD,
            segment_bytes: plan.segment_bytes,
            segments_max: plan.segments_max,
            sink_bytes_max: bytes_max * plan.share / 100,
            seed: producer.seed,
        };
        let sinks = producer.sinks.iter().filter(|sink| !sink.hidden).enumerate().map(terms).collect();
        let settings = Settings { log, clusters: vec![sinks] };
        let disk = SimDisk::default();
        let opened = Buffer::open(&disk, settings.clone(), &BTreeMap::new(), Monotonic(1), WallMs(1));
        let (buffer, _) = opened.expect("an empty folder");
        Self { disk, buffer, settings, bytes_max }
    }

    pub(super) fn admit(&self, sink: SinkId, bytes: usize) -> bool {
        self.buffer.admit(0, sink, bytes).is_ok()
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
        // Rows that are asked for are there a little later.
        self.disk.reads_later.set(later);
        f(&mut self.buffer.view(&mut self.disk, 0, now, wall))
    }

    pub(super) fn flush(&mut self, (now, wall): (Monotonic, WallMs), takes: Duration) {
        self.disk.answers_at = now.after(takes);
        self.buffer.flush(&mut self.disk, now, wall);
    }

    pub(super) fn answer(&mut self, now: Monotonic) -> bool {
        let Some(completion) = self.disk.answer_by(now) else { return false };
        self.buffer.complete(&mut self.disk, completion, now);
        true
    }

    pub(super) fn next_deadline(&self) -> Option<Monotonic> {
        self.disk.next_deadline()
    }

    pub(super) fn is_idle(&self) -> bool {
        self.buffer.is_idle()
    }

    pub(super) fn fails(&mut self, fault: Fault) {
        match fault {
            Fault::SyncFails => self.disk.fail_syncs += 1,
            Fault::WriteFails => self.disk.fail_appends += 1,
            Fault::CreateFails => self.disk.fail_creates += 1,
            _ => {}
        }
    }

    pub(super) fn crash(&mut self, how: Crash, (now, wall): (Monotonic, WallMs), rng: &mut fastrand::Rng) -> Restored {
        match how {
            Crash::Power => self.disk.power_cut(rng),
            Crash::Kill => self.disk.kill(rng),
        }
        self.disk = std::mem::take(&mut self.disk).without_faults();
        self.disk.reads_later.set(0);
        self.settings.log.seed = rng.u64(..);
        let opened = Buffer::open(&self.disk, self.settings.clone(), &self.disk.found(), now, wall);
        let (buffer, mut restored) = opened.expect("a start");
        self.buffer = buffer;
        assert!(!restored.report.is_damaged(), "damage: {:?}", restored.report);
        let cluster = restored.clusters.pop().expect("a cluster");
        Restored { lanes: cluster.lanes, cuts: cluster.cuts, sessions: restored.sessions }
    }

    /// Rows that the disk has, read past the buffer.
    pub(super) fn found(&self) -> BTreeMap<(u32, u64), u32> {
        let recovered = recover(&self.disk, SHARD, &self.disk.found()).expect("a start");
        let mut log = Log::new(self.settings.log.clone(), recovered);
        let lanes: Vec<u32> = log.state().lanes().map(|(lane, _)| lane).collect();
        let mut found = BTreeMap::new();
        for lane in lanes {
            let mut at = 0;
            while let Read::Block(block) = log.read(&self.disk, lane, at, u64::MAX).expect("a read") {
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
        let taken = self.disk.bytes_taken();
        (taken > self.bytes_max).then(|| format!("{taken} bytes on the disk, of {} at the most", self.bytes_max))
    }

    /// Segments there are.
    pub(super) fn segments(&self) -> usize {
        self.disk.found().len()
    }
}
