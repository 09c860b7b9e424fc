//! The whole state as entries: what each segment begins with.

use super::entry::{Entry, Span};
use super::lists::{Listed, Runs, Spans};
use super::state::State;

/// Bytes that each thing takes in a checkpoint. Of a span the most that there is, numbers of any size.
const BASE: u64 = 192;
pub(super) const LANE: u64 = 88;
pub(super) const SPAN: u64 = 40;
const SEGMENT: u64 = 40;
pub(super) const SESSION: u64 = 48;
pub(super) const OPENED: u64 = 40;
pub(super) const CUT: u64 = 88;
/// A run of an open cut, with the span that its end may break its lane's rows into.
pub(super) const CUT_RUN: u64 = 20 + SPAN;

impl State {
    /// All of it but the lanes of `retired`, which are in order.
    pub(super) fn checkpoint(&self, retired: &[u64], out: &mut Vec<u8>) {
        let (next_lane, next_cut, next_session) = (self.next_lane, self.next_cut, self.next_session);
        Entry::Checkpoint { next_lane, next_cut, next_session }.put(out);
        for (segment, held) in self.segments.iter().filter(|(_, held)| held.things > 0) {
            Entry::Segment { segment: *segment, salt: held.salt, end: held.end }.put(out);
        }
        let mut spans: Vec<Span> = Vec::new();
        for (number, lane) in self.lanes.iter().filter(|(number, _)| retired.binary_search(number).is_err()) {
            let (partition, next) = (lane.partition, lane.next);
            Entry::Lane { lane: *number, partition, next, sink: &lane.sink, topic: &lane.topic }.put(out);
            spans.clear();
            spans.extend(lane.spans());
            for some in spans.chunks(1_000) {
                Entry::Spans { lane: *number, spans: Spans::new(some) }.put(out);
            }
        }
        for cut in self.cuts.values() {
            Entry::Cut { cut: cut.head, rows: Runs::new(&cut.rows) }.put(out);
        }
        for (session, (segment, position, bytes)) in &self.sessions {
            Entry::SessionAt { session: *session, segment: *segment, position: *position, bytes: *bytes }.put(out);
        }
        for ((session, packet_id), rows) in &self.open {
            Entry::Opened { session: *session, packet_id: *packet_id, rows: Listed::new(rows) }.put(out);
        }
        Entry::CheckpointEnd.put(out);
    }

    /// Bytes that a checkpoint takes, not less; and what the ends of open cuts may make of it.
    pub(super) fn account(&self) -> u64 {
        BASE + LANE * self.lanes.len() as u64
            + self.size.names
            + SPAN * self.size.spans
            + SEGMENT * self.segments.len() as u64
            + SESSION * self.sessions.len() as u64
            + OPENED * self.size.opened
            + CUT * self.cuts.len() as u64
            + CUT_RUN * self.size.cut_runs
    }
}
