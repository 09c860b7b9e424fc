//! What lives in an old segment is moved on when segments run short, so that a topic that Kafka does not take holds its
//! rows and not the disk.

use std::collections::BTreeSet;

use super::disk::{Disk, ReadError};
use super::entry::Entry;
use super::log::Log;
use super::read::Read;
use super::state::Held;
use super::terms::SEGMENTS_RESERVED;

/// Moves start this many segments before rows would be refused.
const AHEAD: u64 = 2;
/// Bytes that are moved with a group, at most (and no more than a sixteenth of a segment).
const GROUP_BYTES: u64 = 256 << 10;

/// Where moving stands.
#[derive(Debug, Default)]
pub(super) struct Moving {
    /// The segment that is being emptied, and the lane to go on with.
    at: (u64, u32),
    /// Segments with what cannot be read: they stay until it is drained.
    stuck: BTreeSet<u64>,
}

impl Log {
    /// Copies some of what lives in the emptiest old segment into the group that is about to be written. Numbers stay,
    /// so order does.
    pub(super) fn moves(&mut self, disk: &impl Disk, out: &mut Vec<u8>) {
        if self.spare() > SEGMENTS_RESERVED + AHEAD || !self.writable {
            return;
        }
        let Some((victim, held)) = self.emptiest() else { return };
        // Only if it can be emptied: it gives a segment back then.
        if self.capacity(SEGMENTS_RESERVED - 1) < held.bytes + self.settings.segment_bytes / 8 {
            return;
        }
        if self.moving.at.0 != victim {
            self.moving.at = (victim, 0);
        }
        let budget = (self.settings.segment_bytes / 16).min(GROUP_BYTES) as usize;
        if self.move_rows(disk, victim, budget, out) && self.move_sessions(disk, victim, budget, out) && out.is_empty()
        {
            self.moving.stuck.insert(victim);
        }
    }

    /// Returns whether all that can be moved was.
    fn move_rows(&mut self, disk: &impl Disk, victim: u64, budget: usize, out: &mut Vec<u8>) -> bool {
        while let Some((number, lane)) = self.state.lanes.range(self.moving.at.1..).next() {
            self.moving.at.1 = *number;
            let mut at = 0;
            while let Some(span) = lane.spans.range(at..).map(|(_, span)| *span).find(|span| span.segment == victim) {
                at = span.run.first;
                while at < span.run.end() {
                    if out.len() >= budget {
                        return false;
                    }
                    match self.reader.rows(&self.state, disk, *number, at, span.run.end()) {
                        Ok(Read::Block(block)) => at = block.put(*number, out),
                        // What cannot be read stays, and is reported when it is drained.
                        Ok(Read::Rotten(run)) => at = run.end(),
                        Err(ReadError::Later) => return false,
                        Ok(Read::Empty) | Err(_) => at = span.run.end(),
                    }
                }
            }
            let Some(next) = number.checked_add(1) else { break };
            self.moving.at.1 = next;
        }
        true
    }

    fn move_sessions(&mut self, disk: &impl Disk, victim: u64, budget: usize, out: &mut Vec<u8>) -> bool {
        for session in self.state.sessions.iter().filter(|(_, place)| place.0 == victim).map(|(session, _)| *session) {
            if out.len() >= budget {
                return false;
            }
            match self.reader.session(&self.state, disk, session) {
                Ok(Some(payload)) => Entry::Session { session, payload }.put(out),
                Err(ReadError::Later) => return false,
                Ok(None) | Err(_) => {}
            }
        }
        // What was passed over because its rows were on the way is looked at again.
        self.moving.at.1 = 0;
        true
    }

    /// The segment that gains most: at most three quarters of what a segment takes, and it is not one of the last two.
    fn emptiest(&self) -> Option<(u64, Held)> {
        let (last, _) = self.last?;
        let old = self.state.segments.iter().filter(|(segment, held)| {
            **segment < last
                && Some(**segment) != self.before_last
                && held.things > 0
                && !self.moving.stuck.contains(segment)
        });
        let least = old.min_by_key(|(_, held)| held.bytes)?;
        (least.1.bytes <= self.usable() / 4 * 3).then_some((*least.0, *least.1))
    }
}
