//! The places of live rows: spans of consecutive numbers of a lane in one segment, and the resulting totals of each
//! segment and each sink.

use forebay_record::stored::RowRun;
use smallvec::SmallVec;

use super::entry::Span;
use super::state::{Lane, State};

/// Spans that were removed: nearly always one.
pub(super) type Taken = SmallVec<[Span; 2]>;

impl Lane {
    /// The places of the lane's live rows, in the order of their numbers.
    pub fn spans(&self) -> impl Iterator<Item = &Span> {
        self.spans.values()
    }

    /// The number of live rows.
    #[must_use]
    pub fn rows(&self) -> u64 {
        self.spans.values().map(|span| span.run.count).sum()
    }

    /// Number of the first live row, and the number after the last.
    #[must_use]
    pub fn bounds(&self) -> Option<(u64, u64)> {
        Some((*self.spans.first_key_value()?.0, self.spans.last_key_value()?.1.run.end()))
    }

    /// Whether the row with this number is live.
    #[must_use]
    pub fn lives(&self, number: u64) -> bool {
        self.seek(number).is_some_and(|span| span.run.first == number)
    }

    /// The live rows of the given runs, which are in order: spans, in the order of their numbers.
    pub(super) fn live<'a>(&'a self, runs: &'a [RowRun]) -> impl Iterator<Item = Span> + 'a {
        runs.iter().flat_map(move |run| {
            let mut at = run.first;
            std::iter::from_fn(move || {
                let span = self.seek(at).filter(|span| span.run.first < run.end())?;
                at = span.run.end().min(run.end());
                Some(part(span, span.run.first, at))
            })
        })
    }

    /// The first live row from this number on, as its span, cut to begin there.
    #[must_use]
    pub fn seek(&self, number: u64) -> Option<Span> {
        let before = self.spans.range(..=number).next_back().map(|(_, span)| *span);
        let span = before.filter(|span| span.run.end() > number);
        span.map(|span| part(span, number, span.run.end())).or_else(|| self.spans.range(number..).next().map(|s| *s.1))
    }
}

/// The part of a span from `first` up to `end`, with its bytes in proportion to its rows.
pub(super) fn part(span: Span, first: u64, end: u64) -> Span {
    let count = end - first;
    if count == span.run.count {
        return span;
    }
    let bytes = (u128::from(span.bytes) * u128::from(count)).div_ceil(u128::from(span.run.count.max(1))) as u64;
    Span { run: RowRun { first, count }, bytes, ..span }
}

impl State {
    /// Removes the live rows of a run, below `end`.
    pub(super) fn take(&mut self, lane: u64, run: RowRun, end: u64) -> Taken {
        let (mut taken, end) = (Taken::new(), end.min(run.end()));
        while let Some(span) = self.lanes.get(&lane).and_then(|lane| lane.seek(run.first)) {
            if span.run.first >= end {
                break;
            }
            taken.extend(self.remove_from(lane, span.run.first, end));
        }
        taken
    }

    /// Removes `first..end` from the span that contains `first`.
    fn remove_from(&mut self, lane: u64, first: u64, end: u64) -> Option<Span> {
        let spans = &mut self.lanes.get_mut(&lane)?.spans;
        let key = *spans.range(..=first).next_back()?.0;
        let whole = spans.remove(&key)?;
        self.size.spans -= 1;
        let middle = part(whole, first, end.min(whole.run.end()));
        let before = (first > key).then(|| part(whole, key, first));
        let after = (middle.run.end() < whole.run.end()).then(|| part(whole, middle.run.end(), whole.run.end()));
        self.held(lane, &whole, false);
        for rest in [before, after].into_iter().flatten() {
            self.insert(lane, rest);
        }
        Some(middle)
    }

    /// Adds a span, joined to the previous one if that is contiguous in the same segment.
    pub(super) fn insert(&mut self, lane: u64, span: Span) {
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
            _ => {
                spans.insert(span.run.first, span);
                self.size.spans += 1;
            }
        }
    }

    fn held(&mut self, lane: u64, span: &Span, more: bool) {
        let bytes = if more { span.bytes as i64 } else { -(span.bytes as i64) };
        self.hold(span.segment, if more { 1 } else { -1 }, bytes);
        if let Some(lane) = self.lanes.get(&lane)
            && let Some((_, sum, rows)) = self.sinks.get_mut(lane.sink_index)
        {
            *sum = sum.saturating_add_signed(bytes);
            let count = span.run.count;
            *rows = if more { *rows + count } else { rows.saturating_sub(count) };
        }
    }

    pub(super) fn hold(&mut self, segment: u64, things: i64, bytes: i64) {
        let held = self.segments.entry(segment).or_default();
        held.things = held.things.saturating_add_signed(things);
        held.bytes = held.bytes.saturating_add_signed(bytes);
    }
}
