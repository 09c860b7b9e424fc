//! Putting together moves live data out of all segments though the log has room, on a disk where dead bytes cost something: the log begins two segments, so
//! that no recovery reads the older ones, and moves live data out of these, which frees them. The log writes about as many bytes as live, and does so only
//! where at least half as many dead ones go.

use std::time::Duration;

use super::disk::Disk;
use super::log::Log;
use super::terms::SEGMENTS_RESERVED;
use forebay_runtime::seam::Monotonic;

/// The time without a new entry after which a log is quiet. No longer than the note lags: both are due at the same timer.
const QUIET: Duration = super::newest::LAGS_MAX;
/// Bytes of a segment beside its checkpoint and its live data, about: its headers, a commit, and what a disk adds to each append.
const SEGMENT_BYTES: u64 = 768;
/// The fraction of a segment that has to be dead, beyond as much as is written again, in a log that is not quiet.
const BUSY_PART: u64 = 2;

/// The progress of putting together.
#[derive(Debug, Default)]
pub(super) struct Together {
    /// Segments below this number are being emptied. 0: nothing is put together.
    below: u64,
    /// Segments below this number were emptied before. Data that could not be moved out of them counts no more.
    from: u64,
    /// Whether a group had new entries since the time below was set.
    has_more: bool,
    /// When the log is quiet.
    due: Option<Monotonic>,
    /// Whether nothing is put together any more.
    is_over: bool,
    /// The number of times that live data was put together.
    times: u64,
}

impl Together {
    /// A log that was found is looked at once it is quiet.
    pub(super) fn of_a_start() -> Self {
        Self { has_more: true, ..Self::default() }
    }

    /// Notes that a group has entries that are not moves.
    pub(super) const fn has_more(&mut self) {
        self.has_more = true;
    }

    /// Whether it is under way.
    pub(super) const fn is_on(&self) -> bool {
        self.below > 0
    }
}

impl Log {
    /// When [`Log::flush`] must be called to see whether putting together is worth it, if nothing else happens.
    #[must_use]
    pub const fn quiet_at(&self) -> Option<Monotonic> {
        self.together.due
    }

    /// The number of times since startup that live data was put together.
    #[must_use]
    pub const fn put_together(&self) -> u64 {
        self.together.times
    }

    /// Leaves the segments as they are from now on: the log is about to be closed.
    pub const fn leave_apart(&mut self) {
        (self.together.is_over, self.together.below, self.together.due) = (true, 0, None);
    }

    /// Begins to put live data together, if the gain is large enough, or ends it.
    pub(super) fn keep_together(&mut self, disk: &impl Disk, now: Monotonic) {
        if self.together.is_on() {
            return self.end_together();
        }
        let Some(taken) = disk.taken(self.together.from).filter(|_| !self.together.is_over) else { return };
        if std::mem::take(&mut self.together.has_more) {
            self.together.due = Some(now.after(QUIET));
        }
        let is_quiet = self.together.due.take_if(|at| *at <= now).is_some();
        let Some((last, _)) = self.last.filter(|_| self.is_open() && self.sure) else { return };
        let live: u64 = self.state.segments.range(self.together.from..).map(|(_, held)| held.bytes).sum();
        // A recovery may read two segments: each has a checkpoint.
        let after = live + 2 * (self.state.account() + SEGMENT_BYTES);
        let bytes = self.settings.segment_bytes;
        let most = if is_quiet { after + after / 2 } else { 2 * after + bytes / BUSY_PART };
        if taken > most && self.capacity(SEGMENTS_RESERVED) >= live + bytes {
            (self.together.below, self.together.due) = (last + 1, None);
        }
    }

    /// Stops when no live data is left to move, or segments run short.
    fn end_together(&mut self) {
        if self.spare_of(self.bytes_wanted()) < SEGMENTS_RESERVED {
            self.together.below = 0;
        } else if self.flight.is_none()
            && self.in_flight.is_empty()
            && !self.reads_older()
            && self.next_together().is_none()
        {
            (self.together.from, self.together.below) = (self.together.below, 0);
            self.together.times += 1;
        }
    }

    /// Whether a recovery may read one of the older segments.
    fn reads_older(&self) -> bool {
        let is_older = |segment| segment < self.together.below;
        self.last.is_some_and(|(last, _)| is_older(last)) || self.chain.iter().any(is_older)
    }

    /// Whether the next group begins a segment, so that older ones can be emptied. A checkpoint that is being written is completed first.
    pub(super) fn begins_for_moves(&self) -> bool {
        self.together.is_on() && self.writing.is_none() && self.ready.is_some() && self.reads_older()
    }

    /// The segment to empty, while live data is put together.
    pub(super) fn next_together(&self) -> Option<u64> {
        let segments = self.state.segments.range(self.together.from..);
        let mut older = segments.take_while(|(segment, _)| **segment < self.together.below);
        let victim = older
            .find(|(segment, held)| held.things > 0 && self.is_old(**segment) && !self.moving.stuck.contains(segment));
        victim.map(|(segment, _)| *segment)
    }
}
