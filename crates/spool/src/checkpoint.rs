//! Checkpoints: the whole state as entries, in one or more parts. A small checkpoint is at the head of each segment; of
//! a large one, a part is at the head of the segment and others at the front of the following groups, until it is
//! complete. A replay takes the parts for the state before the first of them, and all other entries from there on.

use super::entry::{Entry, Span};
use super::format::{entry_len, first_len};
use super::lists::{Listed, Runs, Spans};
use super::state::{Lane, State};

/// Bytes that each thing takes in a checkpoint. For a span, the most possible, with numbers of any size.
const BASE: u64 = 200;
pub(super) const LANE: u64 = 88;
pub(super) const INCARNATION: u64 = 64;
pub(super) const SPAN: u64 = 40;
const SEGMENT: u64 = 40;
pub(super) const SESSION: u64 = 48;
pub(super) const OPENED: u64 = 40;
pub(super) const CUT: u64 = 88;
/// A run of an open cut, with the extra span that its end may split off in the lane.
pub(super) const CUT_RUN: u64 = 20 + SPAN;

/// Spans of one entry, at most, so that parts can be small.
const SPANS_MAX: usize = 64;
/// Bytes of a part besides its entries of the state.
const PART_BYTES: u64 = (entry_len(44) + entry_len(1)) as u64;

/// A checkpoint being written: the state as it was before its first group, and how much of it is durable.
#[derive(Debug)]
pub(super) struct Writing {
    /// The segment in which the checkpoint begins.
    pub(super) begun: u64,
    next: [u64; 4],
    entries: Vec<u8>,
    at: usize,
    part: u32,
    /// Bytes of groups that had been written when the checkpoint began.
    pub(super) since: u64,
}

/// A part of a checkpoint, at the front of a group.
#[derive(Clone, Copy, Debug)]
pub(super) struct Part {
    to: usize,
    /// Whether the part completes the checkpoint.
    pub(super) last: bool,
}

impl Writing {
    pub(super) fn new(state: &State, begun: u64, since: u64) -> Self {
        let next = [state.next_incarnation, state.next_lane, state.next_cut, state.next_session];
        let mut entries = Vec::new();
        state.entries(&mut entries);
        Self { begun, next, entries, at: 0, part: 0, since }
    }

    /// Whether no part is durable yet: the checkpoint may begin elsewhere instead.
    pub(super) const fn is_fresh(&self) -> bool {
        self.part == 0
    }

    /// Bytes of the whole checkpoint.
    pub(super) const fn bytes(&self) -> u64 {
        self.entries.len() as u64
    }

    /// The next part, of `most` bytes at most; with `at_least_one`, one entry even if it is larger. `None`: nothing
    /// fits.
    pub(super) fn next_part(&self, most: u64, at_least_one: bool) -> Option<Part> {
        let mut to = self.at;
        while let Some(len) = self.entries.get(to..).and_then(first_len) {
            let fits = (to + len - self.at) as u64 + PART_BYTES <= most;
            if !(fits || at_least_one && to == self.at) {
                break;
            }
            to += len;
        }
        let last = to == self.entries.len();
        if to == self.at && !(last && (at_least_one || PART_BYTES <= most)) {
            return None;
        }
        Some(Part { to, last })
    }

    /// Appends the entries of a part.
    pub(super) fn put(&self, of: Part, out: &mut Vec<u8>) {
        let ([next_incarnation, next_lane, next_cut, next_session], begun, part) = (self.next, self.begun, self.part);
        Entry::Checkpoint { begun, part, next_incarnation, next_lane, next_cut, next_session }.put(out);
        out.extend_from_slice(&self.entries[self.at..of.to]);
        Entry::CheckpointEnd { last: of.last }.put(out);
    }

    /// Records that a part is durable.
    pub(super) fn written(&mut self, part: Part) {
        (self.at, self.part) = (part.to, self.part + 1);
    }
}

impl State {
    /// Appends the whole state as entries.
    fn entries(&self, out: &mut Vec<u8>) {
        for (number, known) in &self.incarnations {
            let (number, topic_id, partitions, sink) = (*number, known.topic_id, known.partitions, known.sink);
            let (sink, topic, cluster) = (&*self.sinks[sink].0, &*known.topic, &*known.cluster);
            Entry::Incarnation { number, topic_id, partitions, sink, topic, cluster }.put(out);
        }
        for (segment, held) in self.segments.iter().filter(|(_, held)| held.things > 0) {
            Entry::Segment { segment: *segment, salt: held.salt, end: held.end }.put(out);
        }
        let mut spans: Vec<Span> = Vec::new();
        for (number, lane) in &self.lanes {
            let Lane { partition, next, open_below, landed, volatile, .. } = *lane;
            let (sink, topic) = (&*lane.sink, &*lane.topic);
            Entry::Lane { lane: *number, partition, next, open_below, landed, volatile, sink, topic }.put(out);
            spans.clear();
            spans.extend(lane.spans());
            for some in spans.chunks(SPANS_MAX) {
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
    }

    /// Bytes that a checkpoint takes, rounded up, including what the ends of open cuts may add.
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
