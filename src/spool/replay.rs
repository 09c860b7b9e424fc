//! What a start makes of the segments that it has read: entry by entry, but for the last group, which is held back; and what
//! is ended because it cannot be.

use std::collections::BTreeMap;

use super::entry::{Cut, Entry, Run, Span};
use super::format::HEADER_BYTES;
use super::lists::Runs;
use super::recovery::{Looked, Recovered, Unproven};
use super::segment::entry_at;

/// Rows of a gap in a lane's numbers behind damage, at most: a larger one was left out.
const LOST_MAX: u64 = 1 << 16;

impl Recovered {
    pub(super) fn replay(&mut self, segment: u64, looked: &Looked) {
        let salt = looked.header.salt;
        let held = self.state.segments.entry(segment).or_default();
        (held.salt, held.end) = (salt, looked.scan.end);
        let (mut in_checkpoint, mut gap, mut rot) = (false, None, looked.scan.rot.iter().peekable());
        for position in &looked.scan.entries {
            while let Some(passed) = rot.next_if(|rot| rot.position < *position) {
                gap = Some((segment, passed.position));
            }
            let Some((entry, len)) = entry_at(&looked.bytes, salt, *position) else { continue };
            match entry {
                Entry::Checkpoint { .. } => in_checkpoint = true,
                Entry::CheckpointEnd => {
                    in_checkpoint = false;
                    continue;
                }
                Entry::Commit { group, wall_ms, .. } if group >= self.group => {
                    (self.group, self.written_ms) = (group, wall_ms);
                }
                _ if !in_checkpoint && looked.scan.unproven.is_some_and(|start| *position >= start) => {
                    let bytes = &looked.bytes[*position as usize..(*position + len) as usize];
                    self.hold_back(segment, looked).extend_from_slice(bytes);
                }
                _ => {}
            }
            if let Some(gap) = gap {
                self.lost_rows(&entry, gap);
            }
            // What is left of a damaged checkpoint adds nothing to the one before it.
            if looked.whole || !(in_checkpoint || is_account(&entry)) {
                self.state.apply(segment, *position, len, &entry);
            }
        }
        self.fate_open |= !looked.scan.rot.is_empty();
        self.rot.extend_from_slice(&looked.scan.rot);
        self.torn_bytes += looked.scan.torn_bytes;
    }

    /// Numbers that a lane lacks behind damage: rows that live and cannot be read. A drain finds that out and counts them. More
    /// than a few blocks have were left out.
    fn lost_rows(&mut self, entry: &Entry<'_>, (segment, position): (u64, u64)) {
        let (lane, end) = match entry {
            Entry::Rows(rows) => (rows.lane, rows.run.first),
            Entry::Cut { cut, rows } => (cut.lane, rows.iter().map(|run| run.end()).max().unwrap_or(0)),
            _ => return,
        };
        let Some(first) = self.state.lane(lane).map(|lane| lane.next) else { return };
        let count = end.saturating_sub(first);
        if !(1..=LOST_MAX).contains(&count) {
            return;
        }
        let span = Span { run: Run { first, count }, segment, position, bytes: 0 };
        let held_back = self.unproven.as_mut().map(|unproven| &mut unproven.state);
        for state in std::iter::once(&mut self.state).chain(held_back).filter(|state| state.lane(lane).is_some()) {
            state.insert(lane, span);
        }
    }

    /// The entries that are held back; before the first of them the state is noted.
    fn hold_back(&mut self, segment: u64, looked: &Looked) -> &mut Vec<u8> {
        let start = looked.scan.unproven.unwrap_or_default();
        let begins = start == HEADER_BYTES as u64;
        let last = if begins { looked.header.goes_on_from() } else { Some((segment, start)) };
        let before = if begins { None } else { self.before };
        let state = &self.state;
        let note = || {
            let mut state = state.clone();
            if begins {
                state.segments.remove(&segment);
            } else if let Some(held) = state.segments.get_mut(&segment) {
                held.end = start;
            }
            Unproven { state, last, before, entries: Vec::new() }
        };
        &mut self.unproven.get_or_insert_with(note).entries
    }

    /// Ends what cannot be: rows whose segment is gone, and cuts of which some rows are.
    pub(super) fn settle(&mut self, found: &BTreeMap<u64, u64>) {
        let gone = |(lane, span): (u64, Span)| (!found.contains_key(&span.segment)).then_some((lane, span.run));
        let lanes = self.state.lanes().flat_map(|(number, lane)| lane.spans().map(move |span| (number, *span)));
        self.missing = lanes.filter_map(gone).collect();
        for (lane, run) in self.missing.clone() {
            let (reason, rows) = (super::Reason::Rotten, Runs::new(std::slice::from_ref(&run)));
            self.end(&Entry::EndRows { lane, reason, rows });
        }
        let lost = |cut: &&Cut| cut.rows.iter().any(|run| self.live_rows(cut.head.lane, *run) < run.count);
        let void: Vec<Cut> = self.state.cuts().filter(lost).cloned().collect();
        // The youngest first, as the producer takes them back.
        for Cut { head, rows } in void.iter().rev() {
            let live = rows.iter().map(|run| self.live_rows(head.lane, *run)).sum();
            let sink = self.state.lane(head.lane).map(|lane| lane.sink.clone()).unwrap_or_default();
            self.voided.push((sink, live));
            let reason = super::Reason::CutAnew;
            self.end(&Entry::EndCut { cut: head.cut, lane: head.lane, reason, rows: Runs::new(rows) });
        }
    }

    fn end(&mut self, entry: &Entry<'_>) {
        self.state.apply(0, 0, 0, entry);
        entry.put(&mut self.settling);
    }

    fn live_rows(&self, lane: u64, run: Run) -> u64 {
        let Some(lane) = self.state.lane(lane) else { return 0 };
        let spans = std::iter::successors(lane.seek(run.first), |span| lane.seek(span.run.end()));
        let inside = spans.take_while(|span| span.run.first < run.end());
        inside.map(|span| span.run.end().min(run.end()) - span.run.first).sum()
    }
}

fn is_account(entry: &Entry<'_>) -> bool {
    matches!(entry, Entry::Spans { .. } | Entry::Segment { .. } | Entry::SessionAt { .. } | Entry::Opened { .. })
}
