//! The whole state as entries: what each segment begins with.

use super::entry::{Entry, Span};
use super::incarnations::Retired;
use super::lists::{Listed, Runs, Spans};
use super::state::State;

/// Bytes that each thing takes in a checkpoint. Of a span the most that there is, numbers of any size.
const BASE: u64 = 200;
pub(super) const LANE: u64 = 88;
pub(super) const INCARNATION: u64 = 64;
pub(super) const SPAN: u64 = 40;
const SEGMENT: u64 = 40;
pub(super) const SESSION: u64 = 48;
pub(super) const OPENED: u64 = 40;
pub(super) const CUT: u64 = 88;
/// A run of an open cut, with the span that its end may break its lane's rows into.
pub(super) const CUT_RUN: u64 = 20 + SPAN;

impl State {
    /// All of it but what is retired.
    pub(super) fn checkpoint(&self, retired: &Retired, out: &mut Vec<u8>) {
        let (next_incarnation, next_lane) = (self.next_incarnation, self.next_lane);
        let (next_cut, next_session) = (self.next_cut, self.next_session);
        Entry::Checkpoint { next_incarnation, next_lane, next_cut, next_session }.put(out);
        let is_live = |retired: &[u64], number: &u64| retired.binary_search(number).is_err();
        for (number, known) in self.incarnations.iter().filter(|(number, _)| is_live(&retired.incarnations, number)) {
            let (number, topic_id, partitions, sink) = (*number, known.topic_id, known.partitions, known.sink);
            let (sink, topic, cluster) = (&*self.sinks[sink].0, &*known.topic, &*known.cluster);
            Entry::Incarnation { number, topic_id, partitions, sink, topic, cluster }.put(out);
        }
        for (segment, held) in self.segments.iter().filter(|(_, held)| held.things > 0) {
            Entry::Segment { segment: *segment, salt: held.salt, end: held.end }.put(out);
        }
        let mut spans: Vec<Span> = Vec::new();
        for (number, lane) in self.lanes.iter().filter(|(number, _)| is_live(&retired.lanes, number)) {
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
            + INCARNATION * self.incarnations.len() as u64
            + self.size.names
            + SPAN * self.size.spans
            + SEGMENT * self.segments.len() as u64
            + SESSION * self.sessions.len() as u64
            + OPENED * self.size.opened
            + CUT * self.cuts.len() as u64
            + CUT_RUN * self.size.cut_runs
    }
}
