//! When a segment or a checkpoint begins although no group needs it.

use super::entry::Entry;
use super::incarnations::Retired;
use super::lists::Runs;
use super::log::Log;
use forebay_record::stored::RowRun;

/// Approximate bytes that a forgotten number takes in an entry; and the fraction of a segment that these numbers may take.
const FORGOTTEN_BYTES: u64 = 12;
const FORGOTTEN_PART: u64 = 16;

/// A checkpoint that does not fit at the head of a segment begins once this many times its bytes have been written
/// since the last one began.
const CHECKPOINT_EVERY: u64 = 4;

impl Log {
    /// Whether a checkpoint begins with the next segment.
    pub(super) fn is_due(&self) -> bool {
        let (bytes, since) = self.checkpoint;
        let small = self.state.account() <= self.settings.segment_bytes / 4;
        let old = self.written_bytes - since >= CHECKPOINT_EVERY * bytes;
        small || !self.sure || old || self.together.is_on() || self.is_short() || self.keeps_larger()
    }

    /// Whether segments run short: a checkpoint must begin or, if it has begun, be complete before anything else is written, so
    /// that segments kept for earlier checkpoints are freed.
    pub(super) fn is_short(&self) -> bool {
        self.segments_left() <= 1 + 2 * self.checkpoint_segments()
    }

    /// Whether a checkpoint would free segments that are needed.
    pub(super) fn wants_checkpoint(&self) -> bool {
        let two = 2 * self.checkpoint.0 + 3 * self.settings.segment_bytes;
        let kept: u64 = self.kept_empty().map(|(_, bytes)| bytes).sum();
        kept > two && self.is_short()
    }

    /// Takes lanes that nothing needs and that were not used since the last segment began: from now on a request makes a new
    /// lane. Takes incarnations that nothing needs, too.
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

    /// Forgets, at startup, lanes that nothing needs: they are from earlier processes.
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

    /// Whether lanes that nothing needs are about to keep the log from taking rows: they are forgotten with the next segments,
    /// and there may be no more rows to fill the current one. Checked once a group, because only groups make lanes idle.
    pub(super) fn is_crowded(&mut self) -> bool {
        if self.account_for(0, 3).is_ok() || self.looked == self.gathering {
            return false;
        }
        self.looked = self.gathering;
        let asked = |lane: &u64| self.ahead.lanes.get(lane).is_some_and(|lane| lane.touched >= self.gathering);
        self.state.lanes.keys().any(|lane| self.state.is_idle(*lane) && !asked(lane))
    }

    /// Whether segments of an outdated size keep rows or messages out though no rows live in them: other live data in them is
    /// moved once recovery no longer reads them. Checked once a group.
    pub(super) fn is_oversized(&mut self) -> bool {
        if std::mem::replace(&mut self.looked, self.gathering) == self.gathering {
            return false;
        }
        self.fit();
        // A message of any size must find room, and one for kept sessions leaves a segment free.
        let bytes = self.settings.segment_bytes;
        self.keeps_larger() && (self.space() < bytes / 8 || self.room_of_session(0) < bytes + bytes / 4)
    }

    /// Whether a segment larger than wanted is kept for a recovery.
    fn keeps_larger(&self) -> bool {
        let wanted = self.segment_bytes_wanted;
        let larger = |segment| self.on_disk.get(&segment) > Some(&wanted);
        self.settings.segment_bytes == wanted && self.chain.iter().any(larger)
    }
}

impl Retired {
    /// Appends them as entries.
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
