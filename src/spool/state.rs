//! What the log holds, as a fold over its durable entries. The running log and recovery use the same fold, so what
//! recovery finds is what the log knew: the tests compare the two.

use std::collections::BTreeMap;

use super::entry::{Cut, Entry, Reason, Rows, Run, Span};

/// A lane: one sink, topic and partition.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lane {
    /// Sink.
    pub sink: String,
    /// Topic.
    pub topic: String,
    /// Partition, or [`super::UNPLACED`].
    pub partition: i32,
    /// The number that its next row gets.
    pub next: u64,
    /// Live rows (neither done nor ended), by the first number of each span.
    spans: BTreeMap<u64, Span>,
}

impl Lane {
    /// Where its live rows stand, in the order of their numbers.
    pub fn spans(&self) -> impl Iterator<Item = &Span> {
        self.spans.values()
    }

    /// The first live row from this number on: its span, cut to begin there.
    #[must_use]
    pub fn seek(&self, number: u64) -> Option<Span> {
        let before = self.spans.range(..number).next_back().map(|(_, span)| *span);
        let span = before.filter(|span| span.run.end() > number);
        span.map(|span| part(span, number, span.run.end())).or_else(|| self.spans.range(number..).next().map(|s| *s.1))
    }
}

/// The part of a span from `first` up to `end`; bytes by its share of the rows.
fn part(span: Span, first: u64, end: u64) -> Span {
    let count = end - first;
    let bytes = (u128::from(span.bytes) * u128::from(count)).div_ceil(u128::from(span.run.count.max(1))) as u64;
    Span { run: Run { first, count }, bytes, ..span }
}

/// A segment that holds something.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Held {
    /// Its salt.
    pub salt: u64,
    /// Where its last durable group ends.
    pub end: u64,
    /// Live spans and sessions in it.
    pub things: u64,
    /// Their bytes, about.
    pub bytes: u64,
}

/// Everything that the log holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State {
    pub(super) next_lane: u32,
    pub(super) next_cut: u64,
    pub(super) next_session: u64,
    pub(super) lanes: BTreeMap<u32, Lane>,
    pub(super) cuts: BTreeMap<u64, Cut>,
    pub(super) sessions: BTreeMap<u64, (u64, u64)>,
    pub(super) open: BTreeMap<(u64, u16), Vec<u32>>,
    pub(super) segments: BTreeMap<u64, Held>,
    pub(super) sink_bytes: BTreeMap<String, u64>,
}

impl State {
    /// Lanes by number.
    pub fn lanes(&self) -> impl Iterator<Item = (u32, &Lane)> {
        self.lanes.iter().map(|(number, lane)| (*number, lane))
    }

    /// A lane.
    #[must_use]
    pub fn lane(&self, lane: u32) -> Option<&Lane> {
        self.lanes.get(&lane)
    }

    /// Cuts that are neither done nor ended, oldest first.
    pub fn cuts(&self) -> impl Iterator<Item = &Cut> {
        self.cuts.values()
    }

    /// Kept sessions: number, segment and position of the entry.
    pub fn sessions(&self) -> impl Iterator<Item = (u64, u64, u64)> {
        self.sessions.iter().map(|(session, (segment, position))| (*session, *segment, *position))
    }

    /// Open packet ids: session, id, and the lanes that have the row.
    pub fn open_ids(&self) -> impl Iterator<Item = (u64, u16, &[u32])> {
        self.open.iter().map(|((session, id), lanes)| (*session, *id, lanes.as_slice()))
    }

    /// Live bytes of a sink, about.
    #[must_use]
    pub fn sink_bytes(&self, sink: &str) -> u64 {
        self.sink_bytes.get(sink).copied().unwrap_or(0)
    }

    /// Takes one durable entry that stands at this place.
    pub(super) fn apply(&mut self, segment: u64, position: u64, len: u64, entry: &Entry<'_>) {
        match entry {
            Entry::Rows(rows) => self.rows(segment, position, len, rows),
            Entry::Cut(cut) => {
                self.next_cut = self.next_cut.max(cut.cut + 1);
                self.cuts.insert(cut.cut, cut.clone());
            }
            Entry::Done { cut, lane, rows, .. } => self.end(Some(*cut), *lane, rows, true),
            Entry::EndRows { lane, rows, .. } => self.end(None, *lane, rows, true),
            Entry::EndCut { cut, lane, reason, rows } => self.end(Some(*cut), *lane, rows, *reason != Reason::CutAnew),
            Entry::Session { session, .. } => {
                self.next_session = self.next_session.max(session + 1);
                self.session_at(*session, segment, position);
            }
            Entry::SessionEnded { session } => self.session_ended(*session),
            Entry::Opened { session, packet_id, lanes } => {
                lanes.iter().for_each(|lane| self.opened(*session, *packet_id, *lane));
            }
            Entry::Released { session, packet_id } => drop(self.open.remove(&(*session, *packet_id))),
            Entry::Checkpoint { next_lane, next_cut, next_session } => {
                let here = self.segments.get(&segment).copied();
                *self = Self { next_lane: *next_lane, next_cut: *next_cut, ..Self::default() };
                self.next_session = *next_session;
                self.segments.extend(here.map(|held| (segment, Held { things: 0, bytes: 0, ..held })));
            }
            Entry::Lane { lane, partition, next, sink, topic } => {
                self.next_lane = self.next_lane.max(lane + 1);
                let found = self.lanes.entry(*lane).or_default();
                (found.sink, found.topic) = ((*sink).to_owned(), (*topic).to_owned());
                (found.partition, found.next) = (*partition, found.next.max(*next));
            }
            Entry::Spans { lane, spans } => spans.iter().for_each(|span| self.insert(*lane, *span)),
            Entry::Segment { segment, salt, end } => {
                let held = self.segments.entry(*segment).or_default();
                (held.salt, held.end) = (*salt, *end);
            }
            Entry::SessionAt { session, segment, position } => self.session_at(*session, *segment, *position),
            Entry::Commit { .. } | Entry::CheckpointEnd | Entry::Batch { .. } => {}
        }
    }

    /// New rows; or rows that were moved: of these only what still lives, and it lives here from now on.
    fn rows(&mut self, segment: u64, position: u64, len: u64, rows: &Rows<'_>) {
        let lane = self.lanes.entry(rows.lane).or_default();
        let (next, end) = (lane.next, rows.run.end());
        lane.next = next.max(end);
        let whole = Span { run: rows.run, segment, position, bytes: len };
        for old in self.take(rows.lane, Run { first: rows.run.first, count: next.saturating_sub(rows.run.first) }, end)
        {
            self.insert(rows.lane, part(whole, old.run.first, old.run.end()));
        }
        if end > next {
            self.insert(rows.lane, part(whole, next.max(rows.run.first), end));
        }
        for origin in &rows.origins {
            self.opened(origin.session, origin.packet_id, rows.lane);
        }
    }

    fn opened(&mut self, session: u64, packet_id: u16, lane: u32) {
        self.next_session = self.next_session.max(session + 1);
        let lanes = self.open.entry((session, packet_id)).or_default();
        if !lanes.contains(&lane) {
            lanes.push(lane);
        }
    }

    fn end(&mut self, cut: Option<u64>, lane: u32, rows: &[Run], settled: bool) {
        if let Some(cut) = cut {
            self.next_cut = self.next_cut.max(cut + 1);
            self.cuts.remove(&cut);
        }
        if settled {
            rows.iter().for_each(|run| drop(self.take(lane, *run, run.end())));
        }
    }

    fn session_at(&mut self, session: u64, segment: u64, position: u64) {
        if let Some((old, _)) = self.sessions.insert(session, (segment, position)) {
            self.hold(old, -1, 0);
        }
        self.hold(segment, 1, 0);
    }

    fn session_ended(&mut self, session: u64) {
        if let Some((segment, _)) = self.sessions.remove(&session) {
            self.hold(segment, -1, 0);
        }
        self.open.retain(|(of, _), _| *of != session);
    }

    /// Takes out what lives of a run, below `end`.
    fn take(&mut self, lane: u32, run: Run, end: u64) -> Vec<Span> {
        let (mut taken, end) = (Vec::new(), end.min(run.end()));
        while let Some(span) = self.lanes.get(&lane).and_then(|lane| lane.seek(run.first)) {
            if span.run.first >= end {
                break;
            }
            self.remove_from(lane, span.run.first, end, &mut taken);
        }
        taken
    }

    /// Takes `first..end` out of the span that `first` lies in.
    fn remove_from(&mut self, lane: u32, first: u64, end: u64, taken: &mut Vec<Span>) {
        let Some(spans) = self.lanes.get_mut(&lane).map(|lane| &mut lane.spans) else { return };
        let Some(key) = spans.range(..=first).next_back().map(|(key, _)| *key) else { return };
        let Some(whole) = spans.remove(&key) else { return };
        let middle = part(whole, first, end.min(whole.run.end()));
        let before = (first > key).then(|| part(whole, key, first));
        let after = (middle.run.end() < whole.run.end()).then(|| part(whole, middle.run.end(), whole.run.end()));
        taken.push(middle);
        self.held(lane, &whole, false);
        for rest in [before, after].into_iter().flatten() {
            self.insert(lane, rest);
        }
    }

    /// Adds a span; joins it to the one before where that stands in the same segment.
    fn insert(&mut self, lane: u32, span: Span) {
        self.held(lane, &span, true);
        let Some(spans) = self.lanes.get_mut(&lane).map(|lane| &mut lane.spans) else { return };
        let before = spans.range_mut(..span.run.first).next_back().map(|(_, before)| before);
        match before {
            Some(before)
                if before.run.end() == span.run.first
                    && before.segment == span.segment
                    && before.position <= span.position =>
            {
                before.run.count += span.run.count;
                before.bytes += span.bytes;
                self.hold(span.segment, -1, 0);
            }
            _ => drop(spans.insert(span.run.first, span)),
        }
    }

    fn held(&mut self, lane: u32, span: &Span, more: bool) {
        let bytes = if more { span.bytes as i64 } else { -(span.bytes as i64) };
        self.hold(span.segment, if more { 1 } else { -1 }, bytes);
        let Some(lane) = self.lanes.get(&lane) else { return };
        if !self.sink_bytes.contains_key(&lane.sink) {
            self.sink_bytes.insert(lane.sink.clone(), 0);
        }
        if let Some(sum) = self.sink_bytes.get_mut(&lane.sink) {
            *sum = sum.saturating_add_signed(bytes);
        }
    }

    fn hold(&mut self, segment: u64, things: i64, bytes: i64) {
        let held = self.segments.entry(segment).or_default();
        held.things = held.things.saturating_add_signed(things);
        held.bytes = held.bytes.saturating_add_signed(bytes);
    }

    /// All of it as entries: a checkpoint. `keep` says which lanes go on.
    pub(super) fn checkpoint(&self, out: &mut Vec<u8>) {
        let (next_lane, next_cut, next_session) = (self.next_lane, self.next_cut, self.next_session);
        Entry::Checkpoint { next_lane, next_cut, next_session }.put(out);
        for (segment, held) in self.segments.iter().filter(|(_, held)| held.things > 0) {
            Entry::Segment { segment: *segment, salt: held.salt, end: held.end }.put(out);
        }
        for (number, lane) in &self.lanes {
            let (partition, next) = (lane.partition, lane.next);
            Entry::Lane { lane: *number, partition, next, sink: &lane.sink, topic: &lane.topic }.put(out);
            let spans: Vec<Span> = lane.spans.values().copied().collect();
            for some in spans.chunks(1_000) {
                Entry::Spans { lane: *number, spans: some.to_vec() }.put(out);
            }
        }
        self.cuts.values().for_each(|cut| Entry::Cut(cut.clone()).put(out));
        for (session, (segment, position)) in &self.sessions {
            Entry::SessionAt { session: *session, segment: *segment, position: *position }.put(out);
        }
        for ((session, packet_id), lanes) in &self.open {
            Entry::Opened { session: *session, packet_id: *packet_id, lanes: lanes.clone() }.put(out);
        }
        Entry::CheckpointEnd.put(out);
    }

    /// Bytes that a checkpoint takes, about and not less.
    pub(super) fn checkpoint_bytes(&self) -> u64 {
        let spans: u64 = self.lanes.values().map(|lane| lane.spans.len() as u64).sum();
        let names: u64 = self.lanes.values().map(|lane| (lane.sink.len() + lane.topic.len()) as u64 + 80).sum();
        let cuts: u64 = self.cuts.values().map(|cut| 80 + 16 * cut.rows.len() as u64).sum();
        let open: u64 = self.open.values().map(|lanes| 40 + 4 * lanes.len() as u64).sum();
        128 + names + 40 * spans + cuts + open + 40 * (self.sessions.len() + self.segments.len()) as u64
    }
}
