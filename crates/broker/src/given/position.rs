//! `Position` is how far a slot, or a session that is behind its slot, has been given a partition.

use std::collections::BTreeMap;

use smallvec::SmallVec;

use super::Numbers;
use super::saved::SavedPosition;

/// The number of floors kept per partition for messages received before the last one.
const FLOORS_MAX: usize = 16;

/// A position in a partition: of a slot, or of a session that is behind its slot.
#[derive(Clone, Debug, Default)]
pub(super) struct Position {
    /// The offset below which every record has been given.
    pub(super) below: i64,
    /// The time from which on received messages are for the slot's sessions. [`WAITS`]: the partition has to be read again first.
    pub(super) since: u64,
    /// The number of the request ([`super::Given::ask`]) with which its shard asks for that.
    pub(super) asked: u64,
    /// Times ([`super::Given::time`]) with offsets: messages received at such a time or later are passed over below its offset. Both ascend.
    pub(super) floors: SmallVec<[(u64, i64); 1]>,
    /// Records above that sessions had when the log was taken up. Only a slot's position has some.
    pub(super) above: BTreeMap<i64, Numbers>,
    /// The position in the log. Only a slot's position has it.
    pub(super) saved: SavedPosition,
}

/// A time that no message has.
pub(super) const WAITS: u64 = u64::MAX;

impl Position {
    /// A position in a log that was taken up: the partition has to be read from there first.
    pub(super) fn restored(below: i64, asked: u64) -> Self {
        Self { below, since: WAITS, asked, floors: SmallVec::from_slice(&[(0, below)]), ..Self::default() }
    }

    /// Notes that the partition is read again: records below these offsets were read, or given to slots that get everything.
    pub(super) fn reads_again(&mut self, time: u64, (next, low): (i64, i64)) {
        if !self.waits() {
            self.below = self.below.max(low);
            self.raise_floor(time, next);
        }
    }

    /// Notes that the partition is read anew from this offset. `low`: the offset below which slots that get everything have every record. Returns
    /// whether the reader must be asked again, as it has heard of another place or will.
    pub(super) fn reads_anew(&mut self, offset: i64, low: i64, (heard, asked): (u64, u64)) -> bool {
        // Earlier records that the slot's sessions have not been given yet are still in the log.
        let below = offset.min(self.below.max(low));
        let is_unheard = self.waits() && heard < self.asked;
        *self = Self { below, ..Self::default() };
        if is_unheard {
            (self.since, self.asked) = (WAITS, asked);
        }
        is_unheard
    }

    /// Ends the wait of a new slot: records read from this offset are for it.
    pub(super) fn ends_wait(&mut self, time: u64, offset: i64, heard: u64) {
        if self.waits() && offset <= self.below && heard >= self.asked {
            self.since = time;
        }
    }

    pub(super) const fn waits(&self) -> bool {
        self.since == WAITS
    }

    /// The floor for a message received at this time.
    pub(super) fn floor(&self, time: u64) -> i64 {
        let earlier = self.floors.iter().rev().find(|(since, _)| *since <= time);
        earlier.map_or(i64::MIN, |(_, floor)| *floor)
    }

    fn raise_floor(&mut self, time: u64, to: i64) {
        if self.floors.last().is_none_or(|(_, floor)| *floor < to) {
            if self.floors.len() == FLOORS_MAX {
                self.floors.remove(0);
            }
            self.floors.push((time, to));
        }
    }

    /// The offset from which on no session has been given a record.
    pub(super) fn end(&self) -> i64 {
        let above = self.above.last_key_value().map_or(i64::MIN, |(last, _)| last + 1);
        self.floors.last().map_or(i64::MIN, |(_, floor)| *floor).max(above)
    }
}
