//! Replay: makes the state of the segments that recovery has read, entry by entry, except for the last group, which is held back;
//! and ends rows and cuts that cannot be completed.

use forebay_record::stored::{NO_BATCH, RowRun};
use std::collections::BTreeSet;

use super::codec::NUMBER_MAX;
use super::damage::{Damage, What};
use super::entry::{Cut, Entry, Span};
use super::format::{ALIGN, HEADER_BYTES, NONE, claim};
use super::lists::Runs;
use super::look::Looked;
use super::parts::FoundPart;
use super::recovery::{LostRecord, Recovered, Unproven, record_head};
use super::segment::{Rot, entry_at};
use super::state::Lane;
use forebay_base::limits::PARTITIONS_OF_TOPIC_MAX;

/// The most rows of a gap in a lane's numbers after damage. A larger gap was a skip of numbers.
const LOST_MAX: u64 = 1 << 16;

impl Recovered {
    /// Builds the state from the segments read, newest first: the checkpoint that the oldest begins with, if `base` has its parts,
    /// and all entries after it. Without `base` the first segment of a log begins with an empty state, and any other segment with
    /// what can be read of its checkpoint.
    pub(super) fn fold(&mut self, chain: &[(u64, Looked)], base: Option<&[(usize, usize)]>) {
        let mends = base.is_none() || self.fate_open || chain.iter().any(|(_, looked)| !looked.scan.rot.is_empty());
        match base {
            Some(base) => {
                for (place, part) in base {
                    let (segment, looked) = &chain[*place];
                    self.take_up(*segment, looked, &looked.parts[*part]);
                }
            }
            None => self.begin_with_the_rest(chain),
        }
        for (segment, looked) in chain.iter().rev() {
            // Entries lost to damage in an older segment may be in the checkpoint that this one begins with.
            for part in looked.parts.iter().filter(|part| mends && part.begins(*segment)) {
                self.mend(looked, part);
            }
            self.replay(*segment, looked);
        }
        // A checkpoint may list a lost record: reading it then reports it missing, and any later entry replaces it.
        let place = |lost: &LostRecord| self.state.place_of(lost.number);
        for lost in self.lost.values_mut() {
            lost.has_older = place(lost).is_some_and(|place| place < (lost.segment, lost.position));
        }
        self.lost.retain(|_, lost| lost.has_older || place(lost).is_none());
        let entries = self.rot.iter().map(|rot| Damage {
            segment: rot.segment,
            position: rot.position,
            bytes: rot.bytes,
            what: What::Entries,
        });
        self.damage.extend(entries);
    }

    fn begin_with_the_rest(&mut self, chain: &[(u64, Looked)]) {
        let Some((begun, _)) = chain.last().filter(|(_, oldest)| oldest.header.previous != NONE) else { return };
        self.fate_open = true;
        self.damage.push(Damage { segment: *begun, position: HEADER_BYTES as u64, bytes: 0, what: What::Checkpoint });
        let mut of = *begun;
        for (_, looked) in chain.iter().rev() {
            for part in &looked.parts {
                of = part.begun().unwrap_or(of);
                if of == *begun {
                    self.mend(looked, part);
                }
            }
        }
    }

    fn mend(&mut self, looked: &Looked, part: &FoundPart) {
        for position in &part.entries {
            if let Some((entry, _)) = entry_at(&looked.bytes, looked.header.salt, *position) {
                self.state.mend(&entry);
            }
        }
    }

    /// Applies a part of the checkpoint that the replay begins with.
    fn take_up(&mut self, segment: u64, looked: &Looked, part: &FoundPart) {
        for position in &part.entries {
            if let Some((entry, len)) = entry_at(&looked.bytes, looked.header.salt, *position) {
                self.state.apply(segment, *position, len, &entry);
            }
        }
    }

    /// Applies all other entries of a segment.
    fn replay(&mut self, segment: u64, looked: &Looked) {
        let salt = looked.header.salt;
        let held = self.state.segments.entry(segment).or_default();
        (held.salt, held.end) = (salt, looked.scan.end.min(looked.bytes.len() as u64));
        let (mut gap, mut rot) = (None, looked.scan.rot.iter().peekable());
        let mut of_checkpoints = looked.of_checkpoints.iter().peekable();
        for position in &looked.scan.entries {
            while let Some(passed) = rot.next_if(|rot| rot.position < *position) {
                gap = Some((segment, passed.position));
                self.lost_records(looked, passed);
            }
            if of_checkpoints.next_if_eq(&position).is_some() {
                continue;
            }
            let Some((entry, len)) = entry_at(&looked.bytes, salt, *position) else { continue };
            // The entry is left over from a damaged part.
            if is_account(&entry) && !matches!(entry, Entry::Opened { .. }) {
                continue;
            }
            let is_unproven = looked.scan.unproven.is_some_and(|start| *position >= start);
            match entry {
                Entry::Commit { group, wall_ms, .. } if group >= self.group => {
                    (self.group, self.written_ms) = (group, self.written_ms.max(wall_ms));
                    // A group with nothing but a checkpoint is held back, too: the log goes on from the group before it.
                    if is_unproven {
                        self.hold_back(segment, looked);
                    }
                }
                _ if is_unproven => {
                    let bytes = &looked.bytes[*position as usize..(*position + len) as usize];
                    self.hold_back(segment, looked).extend_from_slice(bytes);
                }
                _ => {}
            }
            if let Some(gap) = gap {
                self.lost_rows(&entry, gap);
            }
            if let Entry::Session { session, .. } | Entry::SessionEnded { session } = entry {
                self.lost.remove(&session);
            }
            self.state.apply(segment, *position, len, &entry);
        }
        rot.for_each(|passed| self.lost_records(looked, passed));
        self.fate_open |= !looked.scan.rot.is_empty();
        self.rot.extend_from_slice(&looked.scan.rot);
        self.torn_bytes += looked.scan.torn_bytes;
    }

    /// Notes the records that seem to begin in damaged bytes. A later entry with the same number counts instead.
    fn lost_records(&mut self, looked: &Looked, rot: &Rot) {
        let end = (rot.position + rot.bytes).min(looked.bytes.len() as u64);
        for position in (rot.position..end).step_by(ALIGN) {
            let head = &looked.bytes[position as usize..];
            if claim(head, looked.header.salt).is_some()
                && let Some((number, format)) = record_head(head).filter(|(number, _)| *number < NUMBER_MAX)
            {
                let segment = rot.segment;
                let lost = LostRecord { number, segment, position, format: Some(format), has_older: false };
                self.lost.insert(number, lost);
            }
        }
    }

    /// Adds numbers missing in a lane after damage, as rows that live and cannot be read. A drain finds them unreadable and counts
    /// them. A gap of more than a few blocks was a skip of numbers.
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
        let span = Span { run: RowRun { first, count }, segment, position, bytes: 0 };
        let held_back = self.unproven.as_mut().map(|unproven| &mut unproven.state);
        for state in std::iter::once(&mut self.state).chain(held_back).filter(|state| state.lane(lane).is_some()) {
            state.insert(lane, span);
        }
    }

    /// The entries that are held back; the state is saved before the first of them.
    fn hold_back(&mut self, segment: u64, looked: &Looked) -> &mut Vec<u8> {
        let start = looked.scan.unproven.unwrap_or_default();
        let begins = start == HEADER_BYTES as u64;
        let last = if begins { looked.header.goes_on_from() } else { Some((segment, start)) };
        let state = &self.state;
        let note = || {
            let mut state = state.clone();
            if begins {
                state.segments.remove(&segment);
            } else if let Some(held) = state.segments.get_mut(&segment) {
                held.end = start;
            }
            Unproven { state, last, entries: Vec::new() }
        };
        &mut self.unproven.get_or_insert_with(note).entries
    }

    /// Notes that fates are open, and ends what cannot be finished: rows without a segment, rows of a lane without a
    /// name, cuts that hold such rows, and cuts of a partition that no Kafka has.
    pub(super) fn settle(&mut self) {
        self.note_gone();
        if self.fate_open {
            self.end(&Entry::FateOpen);
        }
        let is_gone = |lane: &Lane, span: &Span| lane.is_nameless() || !self.on_disk.contains_key(&span.segment);
        let gone = |(number, lane): (u64, &Lane)| {
            let spans = lane.spans().filter(|span| is_gone(lane, span));
            spans.map(|span| (number, span.run)).collect::<Vec<_>>()
        };
        self.missing = self.state.lanes().flat_map(gone).collect();
        for (lane, run) in self.missing.clone() {
            let (reason, rows) = (super::Reason::Rotten, Runs::new(std::slice::from_ref(&run)));
            self.end(&Entry::EndRows { lane, reason, rows });
        }
        let lost = |cut: &&Cut| {
            usize::try_from(cut.head.partition).is_ok_and(|partition| partition >= PARTITIONS_OF_TOPIC_MAX)
                || cut.rows.iter().any(|run| self.live_rows(cut.head.lane, *run) < run.count)
        };
        let void: Vec<Cut> = self.state.cuts().filter(lost).cloned().collect();
        // Youngest first, in the order in which the producer takes cuts back.
        for Cut { head, rows } in void.iter().rev() {
            let live = rows.iter().map(|run| self.live_rows(head.lane, *run)).sum();
            let sink = self.state.lane(head.lane).map(|lane| lane.sink.clone()).unwrap_or_default();
            if head.producer_id != NO_BATCH {
                self.voided.push((sink, live));
            }
            let reason = super::Reason::Void;
            self.end(&Entry::EndCut { cut: head.cut, lane: head.lane, reason, rows: Runs::new(rows) });
        }
    }

    /// Reports segments that are missing though something in them is live, and limits each segment to its file's length.
    fn note_gone(&mut self) {
        let unproven = self.unproven.as_mut().map(|unproven| &mut unproven.state);
        for state in std::iter::once(&mut self.state).chain(unproven) {
            for (segment, held) in &mut state.segments {
                let bytes = self.on_disk.get(segment).copied();
                held.end = held.end.min(bytes.unwrap_or(u64::MAX));
            }
        }
        let spans = self.state.lanes().flat_map(|(_, lane)| lane.spans().map(|span| span.segment));
        let sessions = self.state.sessions.values().map(|(segment, ..)| *segment);
        let gone: BTreeSet<u64> = spans.chain(sessions).filter(|segment| !self.on_disk.contains_key(segment)).collect();
        let is_told = |segment: &u64| self.damage.iter().any(|damage| damage.segment == *segment);
        let untold: Vec<_> = gone.into_iter().filter(|segment| !is_told(segment)).collect();
        self.damage.extend(untold.into_iter().map(|segment| Damage::of(segment, What::Gone)));
    }

    fn end(&mut self, entry: &Entry<'_>) {
        self.state.apply(0, 0, 0, entry);
        entry.put(&mut self.settling);
    }

    fn live_rows(&self, lane: u64, run: RowRun) -> u64 {
        let Some(lane) = self.state.lane(lane) else { return 0 };
        let spans = std::iter::successors(lane.seek(run.first), |span| lane.seek(span.run.end()));
        let inside = spans.take_while(|span| span.run.first < run.end());
        inside.map(|span| span.run.end().min(run.end()) - span.run.first).sum()
    }
}

/// Whether only checkpoints have this entry.
pub(super) fn is_account(entry: &Entry<'_>) -> bool {
    use Entry::{CheckpointEnd, Opened, Segment, SessionAt, Spans};
    matches!(entry, Spans { .. } | Segment { .. } | SessionAt { .. } | Opened { .. } | CheckpointEnd { .. })
}
