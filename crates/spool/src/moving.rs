//! Moves out of old segments. When segments run short, live data of an old segment is moved on, so that a topic that Kafka
//! does not take keeps only its rows on disk, and not whole segments.

use std::collections::BTreeSet;

use super::disk::{Disk, ReadError};
use super::entry::Entry;
use super::log::Log;
use super::read::Read;
use super::terms::SEGMENTS_RESERVED;
use forebay_base::limits::UNREADABLE_AGAIN;
use forebay_runtime::seam::Monotonic;

/// Moves start this many segments before rows would be refused.
const AHEAD: u64 = 2;
/// Bytes moved with a group, at most (and at most a sixteenth of a segment).
const GROUP_BYTES: u64 = 256 << 10;

/// The progress of moving.
#[derive(Debug, Default)]
pub(super) struct Moving {
    /// The segment being emptied, and the lane to continue with.
    at: (u64, u64),
    /// Segments that cannot be emptied because some of their data cannot be read. They are not tried again before the next
    /// segment begins.
    pub(super) stuck: BTreeSet<u64>,
    /// Whether the last pass found unreadable data, and whether it has to wait for the disk.
    unread: bool,
    waits: bool,
    /// Whether a read failed and the disk may be unavailable; and when all stuck segments are tried again, in a
    /// log that may take nothing before that.
    failed: bool,
    again_at: Option<Monotonic>,
}

impl Moving {
    /// Begins a pass: segments with reads that failed some time ago are tried again.
    pub(super) fn begin(&mut self, now: Monotonic) {
        if self.again_at.take_if(|at| *at <= now).is_some() {
            self.stuck.clear();
        }
    }

    /// Ends a pass.
    pub(super) fn end(&mut self, now: Monotonic) {
        if std::mem::take(&mut self.failed) {
            self.again_at.get_or_insert(now.after(UNREADABLE_AGAIN));
        }
    }
}

/// The amount that may be moved with the next group.
#[derive(Clone, Copy)]
struct Budget {
    /// Bytes after which no further move is begun.
    soft: usize,
    /// Bytes that the moves never exceed.
    hard: usize,
    /// Whether all live data of the segment must be moved, or none.
    whole: bool,
}

impl Log {
    /// Whether a segment that could not be emptied will be tried again even if nothing else is written.
    #[must_use]
    pub const fn moves_again(&self) -> bool {
        self.moving.again_at.is_some()
    }

    /// Copies some live data of the emptiest old segment into the group that is about to be written. The numbers stay, and
    /// so does the order.
    pub(super) fn moves(&mut self, disk: &impl Disk, out: &mut Vec<u8>) {
        // Rows keep to the bound as configured, whatever recovery found.
        let is_short = self.spare_of(self.bytes_wanted()) <= SEGMENTS_RESERVED + AHEAD;
        let short_of = || is_short.then(|| self.victim()).flatten();
        let Some(victim) = self.next_together().or_else(short_of) else { return };
        let Some(budget) = self.budget(victim) else { return };
        if self.moving.at.0 != victim || budget.whole {
            self.moving.at = (victim, 0);
        }
        (self.moving.unread, self.moving.waits) = (false, false);
        let all = self.move_rows(disk, victim, budget, out) && self.move_sessions(disk, victim, budget, out);
        // The pass found nothing, though something in the segment is live, or not all of what has to be moved at once.
        let in_part = budget.whole && (!all || self.moving.unread);
        if in_part {
            out.clear();
        }
        if (all || in_part) && out.is_empty() && !self.moving.waits {
            self.moving.stuck.insert(victim);
        }
    }

    /// The bytes that moves may take. After rows that the segment being written already has, moves cost nothing. Otherwise
    /// they need a new segment; if it is the last one available for that, the move must free a segment at once.
    fn budget(&self, victim: u64) -> Option<Budget> {
        let bytes = self.settings.segment_bytes;
        let soft = (bytes / 16).min(GROUP_BYTES) as usize;
        let hard = (bytes / 16 + bytes / 8 + 64) as usize;
        let rest = self.pinned_rest().unwrap_or(0) as usize;
        if rest > hard {
            return Some(Budget { soft, hard, whole: false });
        }
        match self.spare() {
            SEGMENTS_RESERVED.. => Some(Budget { soft, hard, whole: false }),
            spare if spare + 1 == SEGMENTS_RESERVED => {
                // The moves and the gathered entries have to fit into one segment.
                let head = self.state.account().min(bytes / 4);
                let fresh = bytes.saturating_sub(head + self.pending.len() as u64 + 512);
                let held = self.state.segments.get(&victim).map_or(0, |held| held.bytes);
                (held <= fresh).then_some(Budget { soft: usize::MAX, hard: fresh as usize, whole: true })
            }
            _ => None,
        }
    }

    /// Moves rows. Returns whether all rows that can be moved were.
    fn move_rows(&mut self, disk: &impl Disk, victim: u64, budget: Budget, out: &mut Vec<u8>) -> bool {
        while let Some((number, lane)) = self.state.lanes.range(self.moving.at.1..).next() {
            self.moving.at.1 = *number;
            let mut at = 0;
            while let Some(span) = lane.spans.range(at..).map(|(_, span)| *span).find(|span| span.segment == victim) {
                at = span.run.first;
                while at < span.run.end() {
                    if out.len() >= budget.soft {
                        return false;
                    }
                    match self.mover.rows(&self.state, disk, *number, at, span.run.end()) {
                        Ok(Read::Block(block)) if out.len() + block.len() > budget.hard => return false,
                        Ok(Read::Block(block)) => at = block.put(*number, out),
                        Err(ReadError::Later) => {
                            self.moving.waits = true;
                            return false;
                        }
                        // Unreadable rows stay, and are reported when they are drained.
                        Ok(Read::Rotten(run)) => (at, self.moving.unread) = (run.end(), true),
                        Ok(Read::Empty) => (at, self.moving.unread) = (span.run.end(), true),
                        Err(error) => {
                            self.moving.failed |= error == ReadError::Failed;
                            (at, self.moving.unread) = (span.run.end(), true);
                        }
                    }
                }
            }
            let Some(next) = number.checked_add(1) else { break };
            self.moving.at.1 = next;
        }
        true
    }

    fn move_sessions(&mut self, disk: &impl Disk, victim: u64, budget: Budget, out: &mut Vec<u8>) -> bool {
        for session in self.state.sessions.iter().filter(|(_, place)| place.0 == victim).map(|(session, _)| *session) {
            if out.len() >= budget.soft {
                return false;
            }
            match self.mover.session(&self.state, disk, session) {
                Ok(Some(payload)) if out.len() + payload.len() + 24 > budget.hard => return false,
                Ok(Some(payload)) => Entry::Session { session, payload }.put(out),
                Err(ReadError::Later) => {
                    self.moving.waits = true;
                    return false;
                }
                Ok(None) => {
                    self.moving.unread = true;
                    if !self.set_aside.contains(&victim) && self.damaged.insert(victim) {
                        self.unread.add(victim, 0);
                    }
                }
                Err(error) => {
                    self.moving.failed |= error == ReadError::Failed;
                    self.moving.unread = true;
                }
            }
        }
        // The next pass looks again at rows that were skipped.
        self.moving.at.1 = 0;
        true
    }

    /// The segment being emptied, or the next one to empty.
    fn victim(&self) -> Option<u64> {
        let begun = self.moving.at.0;
        let held = self.state.segments.get(&begun).filter(|held| held.things > 0 && held.bytes <= self.movable(begun));
        if held.is_some() && self.is_old(begun) && !self.moving.stuck.contains(&begun) {
            Some(begun)
        } else {
            self.emptiest()
        }
    }

    /// The most bytes that a segment may hold for its move to gain enough.
    fn movable(&self, segment: u64) -> u64 {
        let bytes = self.on_disk.get(&segment).copied().unwrap_or(self.settings.segment_bytes);
        (bytes - bytes / 16).saturating_sub(self.state.account().min(bytes / 4)) / 4 * 3
    }

    /// Whether no recovery reads the segment, so that it can be freed as soon as nothing in it is live.
    pub(super) fn is_old(&self, segment: u64) -> bool {
        self.last.is_some_and(|(last, _)| segment < last) && !self.chain.contains(segment)
    }

    /// The segment that gains most, except those kept for a recovery.
    fn emptiest(&self) -> Option<u64> {
        let old = self.state.segments.iter().filter(|(segment, held)| {
            held.things > 0 && self.is_old(**segment) && !self.moving.stuck.contains(segment)
        });
        let (segment, held) = old.min_by_key(|(_, held)| held.bytes)?;
        (held.bytes <= self.movable(*segment)).then_some(*segment)
    }
}
