//! What lives in an old segment is moved on when segments run short, so that a topic that Kafka does not take holds its
//! rows and not the disk.

use super::disk::Disk;
use super::entry::Entry;
use super::log::Log;
use super::read::{self, Read};
use super::terms::SEGMENTS_RESERVED;

impl Log {
    /// Copies some of what lives in the emptiest old segment into the group that is about to be written. Numbers stay,
    /// so order does.
    pub(super) fn moves(&self, disk: &impl Disk, out: &mut Vec<u8>) {
        if self.segments_left() > SEGMENTS_RESERVED || !self.writable {
            return;
        }
        let Some(victim) = self.emptiest() else { return };
        let budget = self.settings.segment_bytes as usize / 16;
        for (number, lane) in self.state.lanes() {
            let spans = lane.spans().filter(|span| span.segment == victim).copied();
            for span in spans {
                let mut at = span.run.first;
                while at < span.run.end() {
                    if out.len() >= budget {
                        return;
                    }
                    // What cannot be read stays, and is reported when it is drained.
                    let Ok(Read::Block(block)) = read::rows(&self.state, disk, number, at) else { break };
                    at = block.first + block.rows.len() as u64;
                    block.put(number, out);
                }
            }
        }
        for (session, _, _) in self.state.sessions().filter(|(_, segment, _)| *segment == victim) {
            if out.len() >= budget {
                return;
            }
            if let Ok(Some(payload)) = read::session(&self.state, disk, session) {
                Entry::Session { session, payload: &payload }.put(out);
            }
        }
    }

    /// The segment that gains most: at most three quarters of it live, and it is not one of the last two.
    fn emptiest(&self) -> Option<u64> {
        let (last, _) = self.last?;
        let old = self
            .state
            .segments
            .iter()
            .filter(|(segment, held)| **segment < last && Some(**segment) != self.before_last && held.things > 0);
        let least = old.min_by_key(|(_, held)| held.bytes)?;
        (least.1.bytes <= self.settings.segment_bytes / 4 * 3).then_some(*least.0)
    }
}
