//! The log's state, as a fold over its durable entries. The running log and recovery use the same fold, so recovery finds what the log
//! knew: the tests compare the two. The places of rows are in `spans`, the writing of the whole state in `checkpoint`.

use forebay_record::stored::{NO_BATCH, RowRun};
use std::collections::BTreeMap;
use std::sync::Arc;

use smallvec::SmallVec;

use super::entry::{Cut, Entry, Reason, Rows, Span};
use super::incarnations::Incarnation;
use super::lists::Runs;
use super::spans::part;

/// A lane: one sink, topic and partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lane {
    /// Sink.
    pub sink: Arc<str>,
    /// Topic.
    pub topic: Arc<str>,
    /// Partition, or [`forebay_record::stored::UNPLACED`].
    pub partition: i32,
    /// The number of the lane's next row.
    pub next: u64,
    /// Rows with lower numbers may be in Kafka, though no entry says so: damage may have hit that entry.
    pub open_below: u64,
    /// Offset after the last batch of the lane's rows that Kafka has acknowledged, in the lane's own partition; −1: not known.
    pub landed: i64,
    /// Whether the rows belong only to the process that wrote them: recovery ends the rows of earlier processes.
    pub volatile: bool,
    /// The sink's index in [`State::sinks`].
    pub(super) sink_index: usize,
    /// Number of open cuts and open packet ids that refer to the lane.
    pub(super) named: u64,
    /// Live rows (neither done nor ended), by the first number of each span.
    pub(super) spans: BTreeMap<u64, Span>,
}

impl Lane {
    /// Whether the entry that had the lane's names is damaged: the destination of its rows is not known.
    pub(super) fn is_nameless(&self) -> bool {
        self.sink.is_empty() && self.topic.is_empty()
    }

    /// Number of live rows that may be in Kafka, though no cut says so.
    #[must_use]
    pub fn open_rows(&self) -> u64 {
        let open = self.spans().take_while(|span| span.run.first < self.open_below);
        open.map(|span| span.run.end().min(self.open_below) - span.run.first).sum()
    }
}

/// A lane's attributes in an entry, without its names.
struct NewLane {
    partition: i32,
    next: u64,
    open_below: u64,
    landed: i64,
    volatile: bool,
}

/// A segment that holds live data.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Held {
    /// The salt of the segment's checksums.
    pub salt: u64,
    /// Position at which the segment's last durable group ends.
    pub end: u64,
    /// Number of live spans and sessions in the segment.
    pub things: u64,
    /// Approximate bytes of those.
    pub bytes: u64,
}

/// Rows of an open packet id, by lane and number.
pub(super) type Opened = SmallVec<[(u64, u64); 2]>;

/// Number of things that a checkpoint has to write.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Size {
    pub(super) names: u64,
    pub(super) spans: u64,
    pub(super) cut_runs: u64,
    pub(super) opened: u64,
}

/// Everything that the log holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State {
    pub(super) next_incarnation: u64,
    pub(super) next_lane: u64,
    pub(super) next_cut: u64,
    pub(super) next_session: u64,
    pub(super) incarnations: BTreeMap<u64, Incarnation>,
    pub(super) lanes: BTreeMap<u64, Lane>,
    pub(super) cuts: BTreeMap<u64, Cut>,
    /// Segment, position and bytes of each kept session.
    pub(super) sessions: BTreeMap<u64, (u64, u64, u64)>,
    pub(super) open: BTreeMap<(u64, u16), Opened>,
    pub(super) segments: BTreeMap<u64, Held>,
    /// For each sink: name, live bytes, live rows.
    pub(super) sinks: Vec<(Arc<str>, u64, u64)>,
    pub(super) size: Size,
}

impl State {
    /// Whether it holds nothing: no live row, no open cut, no session.
    pub(super) fn is_empty(&self) -> bool {
        self.size.spans == 0 && self.cuts.is_empty() && self.sessions.is_empty()
    }

    /// Lanes by number.
    pub fn lanes(&self) -> impl Iterator<Item = (u64, &Lane)> {
        self.lanes.iter().map(|(number, lane)| (*number, lane))
    }

    /// Lanes that outlive the process that wrote them: all except the volatile ones.
    pub fn lasting_lanes(&self) -> impl Iterator<Item = (u64, &Lane)> {
        self.lanes().filter(|(_, lane)| !lane.volatile)
    }

    /// A lane.
    #[must_use]
    pub fn lane(&self, lane: u64) -> Option<&Lane> {
        self.lanes.get(&lane)
    }

    /// Whether a lane of this number existed and was forgotten because nothing in it was live.
    #[must_use]
    pub fn was_lane(&self, lane: u64) -> bool {
        lane < self.next_lane && !self.lanes.contains_key(&lane)
    }

    /// Cuts that are neither done nor ended, oldest first.
    pub fn cuts(&self) -> impl Iterator<Item = &Cut> {
        self.cuts.values()
    }

    /// The open cuts that are batches: number, index of the sink, and number of rows.
    pub fn cut_rows(&self) -> impl Iterator<Item = (u64, usize, u64)> {
        self.cuts.values().filter(|cut| cut.head.producer_id != NO_BATCH).filter_map(|cut| {
            let lane = self.lanes.get(&cut.head.lane)?;
            Some((cut.head.cut, lane.sink_index, cut.rows.iter().map(|run| run.count).sum()))
        })
    }

    /// Live bytes and rows of a sink, by its index.
    #[must_use]
    pub fn held_by(&self, sink: usize) -> (u64, u64) {
        self.sinks.get(sink).map_or((0, 0), |(_, bytes, rows)| (*bytes, *rows))
    }

    /// Number of sinks with live rows.
    #[must_use]
    pub fn sinks_with_rows(&self) -> usize {
        self.sinks.iter().filter(|(.., rows)| *rows > 0).count()
    }

    /// Numbers of the kept sessions.
    pub fn sessions(&self) -> impl Iterator<Item = u64> {
        self.sessions.keys().copied()
    }

    /// Where a session is written: segment and position.
    #[must_use]
    pub fn place_of(&self, session: u64) -> Option<(u64, u64)> {
        self.sessions.get(&session).map(|(segment, position, _)| (*segment, *position))
    }

    /// The number of sessions.
    #[must_use]
    pub fn sessions_count(&self) -> usize {
        self.sessions.len()
    }

    /// Open packet ids: session, ID, and its rows by lane and number. The rows may have ended meanwhile.
    pub fn open_ids(&self) -> impl Iterator<Item = (u64, u16, &[(u64, u64)])> {
        self.open.iter().map(|((session, id), rows)| (*session, *id, rows.as_slice()))
    }

    /// Open packet ids of one session.
    pub fn open_ids_of(&self, session: u64) -> impl Iterator<Item = (u16, &[(u64, u64)])> {
        self.open.range((session, 0)..=(session, u16::MAX)).map(|((_, id), rows)| (*id, rows.as_slice()))
    }

    /// Approximate live bytes of a sink.
    #[must_use]
    pub fn sink_bytes(&self, sink: &str) -> u64 {
        self.sinks.iter().find(|(name, ..)| **name == *sink).map_or(0, |(_, bytes, _)| *bytes)
    }

    /// Live rows of a sink.
    #[must_use]
    pub fn sink_rows(&self, sink: &str) -> u64 {
        self.sinks.iter().find(|(name, ..)| **name == *sink).map_or(0, |(.., rows)| *rows)
    }

    /// Approximate live bytes of all sinks.
    #[must_use]
    pub fn live_bytes(&self) -> u64 {
        self.sinks.iter().map(|(_, bytes, _)| bytes).sum()
    }

    /// Live rows of all sinks.
    #[must_use]
    pub fn live_rows(&self) -> u64 {
        self.sinks.iter().map(|(.., rows)| rows).sum()
    }

    /// A sink's index; a new sink gets one.
    pub(super) fn sink(&mut self, name: &str) -> usize {
        if let Some(index) = self.sinks.iter().position(|(known, ..)| **known == *name) {
            return index;
        }
        self.sinks.push((Arc::from(name), 0, 0));
        self.sinks.len() - 1
    }

    /// Applies one durable entry at this place.
    pub(super) fn apply(&mut self, segment: u64, position: u64, len: u64, entry: &Entry<'_>) {
        match entry {
            Entry::Rows(rows) => self.rows(segment, position, len, rows),
            Entry::Cut { cut, rows } => {
                self.next_cut = self.next_cut.max(cut.cut + 1);
                self.drop_cut(cut.cut);
                let taken = Cut { head: *cut, rows: rows.iter().collect() };
                self.passed(cut.lane, *rows);
                self.size.cut_runs += taken.rows.len() as u64;
                self.name(cut.lane, 1);
                self.cuts.insert(cut.cut, taken);
            }
            Entry::Done { cut, lane, base_offset, rows } => {
                self.landed(*cut, *lane, *base_offset, *rows);
                self.end(Some(*cut), *lane, *rows, true);
            }
            Entry::EndRows { lane, reason, rows } => {
                self.refused(*lane, *rows, *reason);
                self.end(None, *lane, *rows, true);
            }
            Entry::EndCut { cut, lane, reason, rows } => {
                self.refused(*lane, *rows, *reason);
                self.end(Some(*cut), *lane, *rows, *reason != Reason::Void);
            }
            Entry::Incarnation { number, topic_id, partitions, sink, topic, cluster } => {
                let (topic, cluster) = (Arc::from(*topic), Arc::from(*cluster));
                let (topic_id, partitions, sink) = (*topic_id, *partitions, self.sink(sink));
                self.note_incarnation(*number, Incarnation { sink, topic, cluster, topic_id, partitions });
            }
            Entry::Session { session, .. } => {
                self.next_session = self.next_session.max(session + 1);
                self.session_at(*session, (segment, position, len));
            }
            Entry::SessionEnded { session } => self.session_ended(*session),
            Entry::Opened { session, packet_id, rows } => {
                rows.iter().for_each(|row| self.opened(*session, *packet_id, row));
            }
            Entry::Released { session, packet_id } => self.released(*session, *packet_id),
            // Every part of a checkpoint is of the same state.
            Entry::Checkpoint { next_incarnation, next_lane, next_cut, next_session, .. } => {
                (self.next_incarnation, self.next_lane) = (*next_incarnation, *next_lane);
                (self.next_cut, self.next_session) = (*next_cut, *next_session);
            }
            Entry::LanesForgotten { lanes } => {
                let there = |run: RowRun| self.lanes.range(run.first..run.end()).map(|(number, _)| *number);
                let idle: Vec<u64> = lanes.iter().flat_map(there).filter(|lane| self.is_idle(*lane)).collect();
                idle.into_iter().for_each(|lane| self.retire(lane));
            }
            Entry::IncarnationsForgotten { numbers } => {
                let there = |run: RowRun| self.incarnations.range(run.first..run.end()).map(|(number, _)| *number);
                let numbers: Vec<u64> = numbers.iter().flat_map(there).collect();
                numbers.into_iter().for_each(|number| self.retire_incarnation(number));
            }
            Entry::Lane { lane, partition, next, open_below, landed, volatile, sink, topic } => {
                let (partition, next, open_below) = (*partition, *next, *open_below);
                let new = NewLane { partition, next, open_below, landed: *landed, volatile: *volatile };
                self.named_lane(*lane, new, sink, topic);
            }
            Entry::Spans { lane, spans } => spans.iter().for_each(|span| self.insert(*lane, span)),
            Entry::Segment { segment, salt, end } => {
                let held = self.segments.entry(*segment).or_default();
                (held.salt, held.end) = (*salt, *end);
            }
            Entry::SessionAt { session, segment, position, bytes } => {
                self.session_at(*session, (*segment, *position, *bytes));
            }
            Entry::SinkEnded { sink } => self.end_lanes(|lane| *lane.sink == **sink),
            Entry::VolatileEnded => self.end_lanes(|lane| lane.volatile),
            Entry::FateOpen => self.lanes.values_mut().for_each(|lane| lane.open_below = lane.next),
            Entry::Commit { .. } | Entry::CheckpointEnd { .. } | Entry::Batch { .. } => {}
        }
    }

    /// Applies an entry of a checkpoint that is not whole, or is not the one that the fold begins with: the entry is valid at the point
    /// that the fold has reached, and may be known already.
    pub(super) fn mend(&mut self, entry: &Entry<'_>) {
        match entry {
            Entry::Checkpoint { next_incarnation, next_lane, next_cut, next_session, .. } => {
                self.next_incarnation = self.next_incarnation.max(*next_incarnation);
                self.next_lane = self.next_lane.max(*next_lane);
                self.next_cut = self.next_cut.max(*next_cut);
                self.next_session = self.next_session.max(*next_session);
            }
            Entry::Spans { lane, spans } => {
                for span in spans.iter() {
                    let known = self.known_lane(*lane);
                    known.next = known.next.max(span.run.end());
                    drop(self.take(*lane, span.run, span.run.end()));
                    self.insert(*lane, span);
                }
            }
            other => self.apply(0, 0, 0, other),
        }
    }

    /// Adds new rows, or moves rows: those of them that still live are here from now on.
    fn rows(&mut self, segment: u64, position: u64, len: u64, rows: &Rows<'_>) {
        let lane = self.known_lane(rows.lane);
        let (first, next, end) = (rows.run.first, lane.next, rows.run.end());
        lane.next = next.max(end);
        let whole = Span { run: rows.run, segment, position, bytes: len };
        if first < next {
            for old in self.take(rows.lane, rows.run, end.min(next)) {
                self.insert(rows.lane, part(whole, old.run.first, old.run.end()));
            }
        }
        if end > next {
            self.insert(rows.lane, part(whole, next.max(first), end));
        }
        for (index, origin) in rows.origins.iter() {
            let number = first + u64::from(index);
            // Rows that were moved do not open an id again.
            if number >= next {
                self.opened(origin.session, origin.packet_id, (rows.lane, number));
            }
        }
    }

    /// Opens a packet id. IDs of sessions that are not kept (any more) are ignored.
    fn opened(&mut self, session: u64, packet_id: u16, row: (u64, u64)) {
        if !self.sessions.contains_key(&session) {
            return;
        }
        let rows = self.open.entry((session, packet_id)).or_default();
        if !rows.contains(&row) {
            rows.push(row);
            self.size.opened += 1;
            self.name(row.0, 1);
        }
    }

    fn released(&mut self, session: u64, packet_id: u16) {
        for (lane, _) in self.open.remove(&(session, packet_id)).into_iter().flatten() {
            self.size.opened -= 1;
            self.name(lane, -1);
        }
    }

    /// Removes refused rows from their open packet ids: they were not taken, so a repeat under the same ID is a new message.
    fn refused(&mut self, lane: u64, rows: Runs<'_>, reason: Reason) {
        if reason != Reason::Refused || self.open.is_empty() {
            return;
        }
        let mut gone = 0;
        for had in self.open.values_mut() {
            let before = had.len();
            had.retain(|(of, number)| *of != lane || !rows.iter().any(|run| (run.first..run.end()).contains(number)));
            gone += before - had.len();
        }
        self.size.opened -= gone as u64;
        self.name(lane, -(gone as i64));
    }

    fn drop_cut(&mut self, cut: u64) {
        if let Some(cut) = self.cuts.remove(&cut) {
            self.size.cut_runs -= cut.rows.len() as u64;
            self.name(cut.head.lane, -1);
        }
    }

    /// Notes the offset at which Kafka has a cut, if the lane is of the cut's partition: its next batch follows there.
    fn landed(&mut self, cut: u64, lane: u64, base_offset: i64, rows: Runs<'_>) {
        let partition = self.cuts.get(&cut).map(|cut| cut.head.partition);
        let lane = self.lanes.get_mut(&lane).filter(|lane| Some(lane.partition) == partition);
        if let (Some(lane), 0..) = (lane, base_offset) {
            lane.landed = base_offset.saturating_add_unsigned(rows.iter().map(|run| run.count).sum());
        }
    }

    fn end(&mut self, cut: Option<u64>, lane: u64, rows: Runs<'_>, settled: bool) {
        if let Some(cut) = cut {
            self.next_cut = self.next_cut.max(cut + 1);
            self.drop_cut(cut);
        }
        self.passed(lane, rows);
        if settled {
            rows.iter().for_each(|run| drop(self.take(lane, run, run.end())));
        }
    }

    /// Notes that these numbers were assigned, even if the entry that did so is lost.
    fn passed(&mut self, lane: u64, rows: Runs<'_>) {
        if let Some(lane) = self.lanes.get_mut(&lane) {
            lane.next = rows.iter().fold(lane.next, |next, run| next.max(run.end()));
        }
    }

    fn session_at(&mut self, session: u64, place: (u64, u64, u64)) {
        if let Some((old, _, bytes)) = self.sessions.insert(session, place) {
            self.hold(old, -1, -(bytes as i64));
        }
        self.hold(place.0, 1, place.2 as i64);
    }

    fn session_ended(&mut self, session: u64) {
        self.next_session = self.next_session.max(session + 1);
        if let Some((segment, _, bytes)) = self.sessions.remove(&session) {
            self.hold(segment, -1, -(bytes as i64));
        }
        while let Some((&(_, id), _)) = self.open.range((session, 0)..=(session, u16::MAX)).next() {
            self.released(session, id);
        }
    }

    /// Ends all rows and cuts of the matching lanes.
    fn end_lanes(&mut self, which: impl Fn(&Lane) -> bool) {
        let lanes: Vec<u64> = self.lanes.iter().filter(|(_, lane)| which(lane)).map(|(number, _)| *number).collect();
        let cuts: Vec<u64> =
            self.cuts.values().map(|cut| cut.head).filter(|cut| lanes.contains(&cut.lane)).map(|cut| cut.cut).collect();
        cuts.into_iter().for_each(|cut| self.drop_cut(cut));
        for lane in lanes {
            drop(self.take(lane, RowRun { first: 0, count: u64::MAX }, u64::MAX));
        }
    }

    /// A lane, created without names if the entry that had its names is damaged.
    fn known_lane(&mut self, lane: u64) -> &mut Lane {
        if !self.lanes.contains_key(&lane) {
            let new = NewLane {
                partition: forebay_record::stored::UNPLACED,
                next: 0,
                open_below: 0,
                landed: -1,
                volatile: false,
            };
            self.named_lane(lane, new, "", "");
        }
        self.lanes.get_mut(&lane).expect("made above")
    }

    fn named_lane(&mut self, number: u64, new: NewLane, sink: &str, topic: &str) {
        self.next_lane = self.next_lane.max(number + 1);
        let sink_index = self.sink(sink);
        let sink = self.sinks[sink_index].0.clone();
        let spans = BTreeMap::new();
        let topic: Arc<str> = Arc::from(topic);
        self.size.names += (sink.len() + topic.len()) as u64;
        let NewLane { partition, next, open_below, landed, volatile } = new;
        let new = Lane { sink, topic, partition, next, open_below, landed, volatile, sink_index, named: 0, spans };
        if let Some(mut old) = self.lanes.insert(number, new) {
            self.size.names -= (old.sink.len() + old.topic.len()) as u64;
            let bytes: u64 = old.spans.values().map(|span| span.bytes).sum();
            let rows = old.rows();
            self.sinks[old.sink_index].1 -= bytes;
            self.sinks[old.sink_index].2 -= rows;
            self.sinks[sink_index].1 += bytes;
            self.sinks[sink_index].2 += rows;
            if let Some(lane) = self.lanes.get_mut(&number) {
                lane.next = next.max(old.next);
                lane.open_below = open_below.max(old.open_below);
                lane.landed = landed.max(old.landed);
                lane.named = old.named;
                lane.spans.append(&mut old.spans);
            }
        }
    }

    fn name(&mut self, lane: u64, by: i64) {
        if let Some(lane) = self.lanes.get_mut(&lane) {
            lane.named = lane.named.saturating_add_signed(by);
        }
    }

    /// Whether the state does not need the lane.
    pub(super) fn is_idle(&self, lane: u64) -> bool {
        self.lanes.get(&lane).is_none_or(|lane| lane.spans.is_empty() && lane.named == 0)
    }

    /// Forgets a lane that nothing needs. Its number stays used.
    pub(super) fn retire(&mut self, lane: u64) {
        if let Some(lane) = self.lanes.remove(&lane) {
            self.size.names -= (lane.sink.len() + lane.topic.len()) as u64;
        }
    }
}
