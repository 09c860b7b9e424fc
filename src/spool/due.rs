//! When a segment or a checkpoint begins though no group needs it.

use super::entry::Entry;
use super::incarnations::Retired;
use super::lists::Runs;
use super::log::Log;
use crate::record::stored::RowRun;

/// Bytes of an entry that a number in it takes, about, that is forgotten; and the part of a segment that they may take.
const FORGOTTEN_BYTES: u64 = 12;
const FORGOTTEN_PART: u64 = 16;

/// A checkpoint that does not fit at the head of a segment begins once this many times its bytes have been written
/// since the last one began.
const CHECKPOINT_EVERY: u64 = 4;

impl Log {
    /// Whether a checkpoint begins with the segment that does.
    pub(super) fn is_due(&self) -> bool {
        let (bytes, since) = self.checkpoint;
        let small = self.state.account() <= self.settings.segment_bytes / 4;
        let old = self.written_bytes - since >= CHECKPOINT_EVERY * bytes;
        small || !self.sure || old || self.is_short() || self.keeps_larger()
    }

    /// Whether segments run short: a checkpoint is to begin, and one that has begun to be complete before anything else is
    /// written, so that those that are kept for the ones before it go.
    pub(super) fn is_short(&self) -> bool {
        self.segments_left() <= 1 + 2 * self.checkpoint_segments()
    }

    /// Whether a checkpoint would free segments that are needed.
    pub(super) fn wants_checkpoint(&self) -> bool {
        let two = 2 * self.checkpoint.0 + 3 * self.settings.segment_bytes;
        let kept: u64 = self.kept_empty().map(|(_, bytes)| bytes).sum();
        kept > two && self.is_short()
    }

    /// Lanes that nothing needs, and that were not used since the last segment began: from now on a new one is made on request.
    /// And incarnations that nothing needs.
    pub(super) fn retire(&mut self) -> Retired {
        let old = |number: &u64| self.ahead.lanes.get(number).is_none_or(|lane| lane.touched < self.begun);
        let idle = |number: &u64| self.state.is_idle(*number) && old(number);
        let most = (self.settings.segment_bytes / FORGOTTEN_PART / FORGOTTEN_BYTES) as usize / 2;
        let lanes: Vec<u64> = self.state.lanes.keys().copied().filter(idle).take(most).collect();
        lanes.iter().for_each(|lane| self.ahead.remove(*lane));
        let mut incarnations = self.retire_incarnations();
        incarnations.truncate(most);
        Retired { lanes, incarnations }
    }

    /// At a start: lanes that nothing needs were those of earlier processes, and go at once.
    pub fn forget_idle_lanes(&mut self) {
        let most = (self.settings.segment_bytes / FORGOTTEN_PART / FORGOTTEN_BYTES) as usize / 2;
        let idle = |number: &u64| self.state.is_idle(*number);
        let lanes: Vec<u64> = self.state.lanes.keys().copied().filter(idle).take(most).collect();
        let runs: Vec<RowRun> = lanes.iter().map(|first| RowRun { first: *first, count: 1 }).collect();
        if runs.is_empty() || self.put(&Entry::LanesForgotten { lanes: Runs::new(&runs) }, 1).is_err() {
            return;
        }
        for lane in lanes {
            self.ahead.remove(lane);
            self.reader.forget(lane);
            self.mover.forget(lane);
            self.retired.push(lane);
        }
    }

    /// Whether lanes that nothing needs are about to keep the log from taking rows: they go with the segments that come
    /// next, and there may be no more rows to fill the one that is written. Looks once a group, which alone makes lanes idle.
    pub(super) fn is_crowded(&mut self) -> bool {
        if self.account_for(0, 3).is_ok() || self.looked == self.gathering {
            return false;
        }
        self.looked = self.gathering;
        let asked = |lane: &u64| self.ahead.lanes.get(lane).is_some_and(|lane| lane.touched >= self.gathering);
        self.state.lanes.keys().any(|lane| self.state.is_idle(*lane) && !asked(lane))
    }

    /// Whether segments of a size that is no longer wanted keep rows or messages out though none live in them: what else does is
    /// moved when a start reads others. Looks once a group.
    pub(super) fn is_oversized(&mut self) -> bool {
        if std::mem::replace(&mut self.looked, self.gathering) == self.gathering {
            return false;
        }
        self.fit();
        // A message of any size has to find room, and one for kept sessions leaves a segment free.
        let bytes = self.settings.segment_bytes;
        self.keeps_larger() && (self.space() < bytes / 8 || self.room_of_session(0) < bytes + bytes / 4)
    }

    /// Whether a larger segment than is wanted is kept for a start.
    fn keeps_larger(&self) -> bool {
        let wanted = self.segment_bytes_wanted;
        let larger = |segment| self.on_disk.get(&segment) > Some(&wanted);
        self.settings.segment_bytes == wanted && self.chain.iter().any(larger)
    }
}

impl Retired {
    /// As entries.
    pub(super) fn put(&self, out: &mut Vec<u8>) {
        let runs = |numbers: &[u64]| numbers.iter().map(|first| RowRun { first: *first, count: 1 }).collect::<Vec<_>>();
        if !self.lanes.is_empty() {
            Entry::LanesForgotten { lanes: Runs::new(&runs(&self.lanes)) }.put(out);
        }
        if !self.incarnations.is_empty() {
            Entry::IncarnationsForgotten { numbers: Runs::new(&runs(&self.incarnations)) }.put(out);
        }
    }
}
