//! What each segment is there for. What may be deleted, what is moved and how many may still be begun all follow from this.

use std::collections::VecDeque;

use smallvec::SmallVec;

use super::disk::Disk;
use super::log::Log;

/// The segments that recovery may read: those in which groups follow one another, from the beginning of the last
/// complete checkpoint but one to the segment that is written.
#[derive(Clone, Debug, Default)]
pub(super) struct Chain {
    segments: VecDeque<u64>,
    /// Where the last complete checkpoint begins, and the one before, which replaces it if it is damaged.
    pub(super) complete: [Option<u64>; 2],
}

/// What keeps a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Need {
    /// Rows or sessions that live in it, or will with the group under way.
    Rows,
    /// A start may read it: it goes by itself when checkpoints have been completed.
    Start,
    /// Recovery found it, and may have to be repeated from it if the process ends now.
    Found,
    /// It is made, or being made, for the next groups.
    Ahead,
    /// It is being deleted.
    Freeing,
    /// Nothing.
    Nothing,
}

impl Chain {
    /// Segments in order; the newest is the one that is written.
    pub(super) fn new(segments: impl Iterator<Item = u64>, complete: [Option<u64>; 2]) -> Self {
        Self { segments: segments.collect(), complete }
    }

    pub(super) fn contains(&self, segment: u64) -> bool {
        self.segments.binary_search(&segment).is_ok()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = u64> + '_ {
        self.segments.iter().copied()
    }

    /// The first group of a segment is durable.
    pub(super) fn goes_on(&mut self, segment: u64) {
        self.segments.push_back(segment);
    }

    /// The checkpoint that begins in this segment is durable.
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

    /// Deletes what nothing needs.
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

    /// Segments that a start may read and nothing lives in, with their bytes.
    pub(super) fn kept_empty(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        let begun = self.flight.as_ref().filter(|flight| flight.begins.is_some()).map(|flight| flight.segment);
        let bytes = |segment| self.on_disk.get(&segment).map(|bytes| (segment, *bytes));
        let kept = self.chain.iter().chain(begun).filter_map(bytes);
        kept.filter(|(segment, _)| self.need(*segment) == Need::Start)
    }

    /// Segments that could be begun if the log may have `bytes_max` bytes; `later`: when those kept for recovery
    /// alone are gone.
    pub(super) fn left_of(&self, bytes_max: u64, later: bool) -> u64 {
        let bytes = |segment: &u64| self.on_disk.get(segment).copied().unwrap_or(0);
        let ahead: u64 = self.ready.iter().chain(&self.creating).map(bytes).sum();
        let going: SmallVec<[u64; 8]> =
            if later { self.kept_empty().map(|(segment, _)| segment).collect() } else { SmallVec::new() };
        // What failed syncs left early is not held against those that need a segment now.
        let left_early = self.burned.iter().filter(|segment| !going.contains(segment)).take(2);
        let left_early: u64 = left_early.map(bytes).sum();
        let going: u64 = going.iter().map(bytes).sum();
        (bytes_max + ahead + going + left_early).saturating_sub(self.bytes()) / self.settings.segment_bytes
    }
}
