//! The purpose of each segment. It determines which segments may be deleted or moved, and how many may still be begun.

use std::collections::VecDeque;

use smallvec::SmallVec;

use super::disk::Disk;
use super::log::Log;

/// The segments that recovery may read: a chain of successive groups, from the beginning of the last complete checkpoint
/// but one to the segment being written.
#[derive(Clone, Debug, Default)]
pub(super) struct Chain {
    segments: VecDeque<u64>,
    /// Where the last complete checkpoint begins, and the previous one, which replaces it if it is damaged.
    pub(super) complete: [Option<u64>; 2],
}

/// The reason to keep a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Need {
    /// Rows or sessions live in the segment, or will with the group in flight.
    Rows,
    /// Recovery may read the segment. It is no longer needed once further checkpoints are complete.
    Start,
    /// Recovery found the segment, and may have to be repeated from it if the process ends now.
    Found,
    /// The segment is created, or being created, for the next groups.
    Ahead,
    /// The segment is being deleted.
    Freeing,
    /// Nothing needs the segment.
    Nothing,
}

impl Chain {
    /// A chain of these segments, in order; the newest is the one being written.
    pub(super) fn new(segments: impl Iterator<Item = u64>, complete: [Option<u64>; 2]) -> Self {
        Self { segments: segments.collect(), complete }
    }

    pub(super) fn contains(&self, segment: u64) -> bool {
        self.segments.binary_search(&segment).is_ok()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = u64> + '_ {
        self.segments.iter().copied()
    }

    /// Appends a segment: its first group is durable.
    pub(super) fn goes_on(&mut self, segment: u64) {
        self.segments.push_back(segment);
    }

    /// Records that the checkpoint that begins in this segment is durable.
    pub(super) fn completed(&mut self, begun: u64) {
        self.complete = [Some(begun), self.complete[0]];
        let from = self.complete[1].unwrap_or(0);
        while self.segments.pop_front_if(|segment| *segment < from).is_some() {}
    }
}

impl Log {
    pub(super) fn need(&self, segment: u64) -> Need {
        let under_way = self.flight.as_ref().is_some_and(|flight| flight.segment == segment);
        let found = segment < self.first_own && !self.blank.contains(&segment);
        let lives = || self.state.segments.get(&segment).is_some_and(|held| held.things > 0);
        if self.freeing.contains(&segment) {
            Need::Freeing
        } else if [self.ready, self.creating].contains(&Some(segment)) {
            Need::Ahead
        } else if under_way && self.waiting.pins_under_way || lives() {
            Need::Rows
        } else if under_way || self.chain.contains(segment) {
            Need::Start
        } else if found && !(self.is_open() && self.sure) {
            Need::Found
        } else {
            Need::Nothing
        }
    }

    /// Deletes segments that nothing needs.
    pub(super) fn free_empty(&mut self, disk: &mut impl Disk) {
        if !std::mem::take(&mut self.emptied) {
            return;
        }
        let free: Vec<u64> =
            self.on_disk.keys().copied().filter(|segment| self.need(*segment) == Need::Nothing).collect();
        for segment in free {
            self.state.segments.remove(&segment);
            self.freeing.insert(segment);
            disk.free(segment);
        }
    }

    /// Segments in which nothing lives but which a recovery may read, with their bytes.
    pub(super) fn kept_empty(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        let begun = self.flight.as_ref().filter(|flight| flight.begins.is_some()).map(|flight| flight.segment);
        let bytes = |segment| self.on_disk.get(&segment).map(|bytes| (segment, *bytes));
        let kept = self.chain.iter().chain(begun).filter_map(bytes);
        kept.filter(|(segment, _)| self.need(*segment) == Need::Start)
    }

    /// Number of segments that could be begun if the log may have `bytes_max` bytes; with `later`, once those kept only for
    /// recovery are gone.
    pub(super) fn left_of(&self, bytes_max: u64, later: bool) -> u64 {
        let bytes = |segment: &u64| self.on_disk.get(segment).copied().unwrap_or(0);
        let ahead: u64 = self.ready.iter().chain(&self.creating).map(bytes).sum();
        let going: SmallVec<[u64; 8]> =
            if later { self.kept_empty().map(|(segment, _)| segment).collect() } else { SmallVec::new() };
        // Segments left early after failed syncs do not count against those that need a segment now.
        let left_early = self.burned.iter().filter(|segment| !going.contains(segment)).take(2);
        let left_early: u64 = left_early.map(bytes).sum();
        // `going` counts a larger segment as one: before that one is freed, the log may have to begin as many segments as usual.
        let going: u64 = going.iter().map(|segment| bytes(segment).min(self.settings.segment_bytes)).sum();
        (bytes_max + ahead + going + left_early).saturating_sub(self.bytes()) / self.settings.segment_bytes
    }
}
