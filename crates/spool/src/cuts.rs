//! The log's entry points for cuts and for the ends of rows.

use super::checkpoint::{CUT, CUT_RUN, SPAN};
use super::entry::{CutHead, Entry, Reason, Span};
use super::lists::Runs;
use super::log::Log;
use super::segments::Need;
use super::state::Lane;
use super::terms::{CUTS_OPEN_MAX, NewCut, Refused};
use forebay_record::stored::{NO_BATCH, RowRun, RowSet};

/// The most runs in one entry of [`Log::drop_oldest`]: many such entries fit into a group of the smallest segment.
const RUNS_AT_ONCE: usize = 256;

impl Log {
    /// Takes a cut. Returns its number and its group: the batch is sent when [`Log::durable`] has reached the group.
    ///
    /// # Errors
    /// [`Refused::Window`] and [`Refused::Identity`]: a done or end that must precede the cut is missing.
    pub fn cut(&mut self, cut: &NewCut<'_>) -> Result<(u64, u64), Refused> {
        let lane = self.ahead.lanes.get_mut(&cut.lane).ok_or(Refused::Unknown)?;
        if cut.rows.is_empty() || cut.partition < 0 || cut.rows.iter().any(|run| run.end() > lane.next) {
            return Err(Refused::Unknown);
        }
        lane.touched = self.gathering;
        let identity = (cut.producer_id, cut.epoch);
        if cut.producer_id != NO_BATCH
            && let Some(window) = self.ahead.window(cut.lane, cut.partition)
        {
            if window.identity != identity {
                return Err(Refused::Identity);
            }
            if window.cuts >= CUTS_OPEN_MAX {
                return Err(Refused::Window);
            }
        }
        let account = CUT + CUT_RUN * cut.rows.len() as u64;
        let (number, rows) = (self.ahead.next_cut, Runs::new(cut.rows));
        let NewCut { lane, incarnation, partition, producer_id, epoch, sequence, timeless, .. } = *cut;
        let head = CutHead { cut: number, lane, incarnation, partition, producer_id, epoch, sequence, timeless };
        self.put(&Entry::Cut { cut: head, rows }, 1)?;
        self.waiting.account += account;
        self.ahead.opened(number, lane, partition, identity);
        self.ahead.next_cut += 1;
        Ok((number, self.gathering))
    }

    /// Records that Kafka has a cut with these rows, all of its rows. `base_offset` −1: the offset is not known.
    ///
    /// # Errors
    /// [`Refused::Unknown`], [`Refused::Busy`].
    pub fn done(&mut self, cut: u64, lane: u64, rows: &[RowRun], base_offset: i64) -> Result<(), Refused> {
        self.ahead.cuts.get(&cut).filter(|(of, _)| *of == lane).ok_or(Refused::Unknown)?;
        self.put(&Entry::Done { cut, lane, base_offset, rows: Runs::new(rows) }, 1)?;
        self.ahead.closed(cut);
        Ok(())
    }

    /// Records that a cut is void: all of its rows, given here, wait for another cut ([`Reason::Void`]) or end with it.
    ///
    /// # Errors
    /// [`Refused::Unknown`], [`Refused::Busy`].
    pub fn end_cut(&mut self, cut: u64, lane: u64, rows: &[RowRun], reason: Reason) -> Result<(), Refused> {
        self.ahead.cuts.get(&cut).filter(|(of, _)| *of == lane).ok_or(Refused::Unknown)?;
        self.put(&Entry::EndCut { cut, lane, reason, rows: Runs::new(rows) }, 1)?;
        self.ahead.closed(cut);
        Ok(())
    }

    /// Ends rows that will not go to Kafka as they are. The caller ensures that no open cut has them.
    ///
    /// # Errors
    /// [`Refused::Unknown`], [`Refused::Busy`].
    pub fn end_rows(&mut self, lane: u64, rows: &[RowRun], reason: Reason) -> Result<(), Refused> {
        if !self.ahead.lanes.contains_key(&lane) {
            return Err(Refused::Unknown);
        }
        // Each run may leave a hole.
        let account = SPAN * rows.len() as u64;
        self.put(&Entry::EndRows { lane, reason, rows: Runs::new(rows) }, 1)?;
        self.waiting.account += account;
        Ok(())
    }

    /// Ends all rows and cuts that a sink has in the log, before the service starts.
    ///
    /// # Errors
    /// [`Refused::Unknown`], [`Refused::Busy`].
    pub fn discard_sink(&mut self, sink: usize) -> Result<(), Refused> {
        let name = self.state.sinks.get(sink).ok_or(Refused::Unknown)?.0.clone();
        self.put(&Entry::SinkEnded { sink: &name }, 1)?;
        self.ahead.close_all(|lane| lane.sink == sink);
        Ok(())
    }

    /// Ends all rows and cuts of volatile lanes, which only an earlier process needed.
    ///
    /// # Errors
    /// [`Refused::Busy`].
    pub fn discard_volatile(&mut self) -> Result<(), Refused> {
        self.put(&Entry::VolatileEnded, 1)?;
        self.ahead.close_all(|lane| lane.volatile);
        Ok(())
    }

    /// Whether more room will come: drops are not durable yet, or segments in which nothing lives are not deleted yet.
    #[must_use]
    pub fn is_freeing(&self) -> bool {
        let goes = |segment: &u64| self.need(*segment) == Need::Nothing;
        self.dropping > self.durable || !self.freeing.is_empty() || self.emptied && self.on_disk.keys().any(goes)
    }

    /// `drop-oldest`: of these rows, ends those in the oldest segment that has any, and rows of the same lanes with lower numbers that
    /// were moved out of it. Returns the dropped rows; none while an earlier drop is not durable, and none that do not fit into the group.
    /// To free the room, other data in that segment may have to be moved.
    ///
    /// # Errors
    /// [`Refused::Busy`], with nothing dropped.
    pub fn drop_oldest(&mut self, allowed: &RowSet) -> Result<RowSet, Refused> {
        if self.dropping > self.durable {
            return Ok(RowSet::default());
        }
        let live = |(number, runs)| {
            let lane: Option<&Lane> = self.state.lane(number);
            lane.into_iter().flat_map(move |lane| lane.live(runs))
        };
        let oldest = allowed.lanes().flat_map(live).map(|span: Span| span.segment).min();
        let mut found = Vec::new();
        for (number, runs) in allowed.lanes() {
            let there = |span: &Span| Some(span.segment) == oldest;
            let last = live((number, runs)).filter(there).map(|span| span.run.first).max();
            let rows = live((number, runs)).filter(|span| Some(span.run.first) <= last);
            let rows: Vec<RowRun> = rows.map(|span| span.run).collect();
            found.extend(rows.chunks(RUNS_AT_ONCE).map(|runs| (number, runs.to_vec())));
        }
        let mut dropped = Vec::new();
        for (lane, runs) in &found {
            match self.end_rows(*lane, runs, Reason::Dropped) {
                Ok(()) => dropped.extend(runs.iter().map(|run| (*lane, *run))),
                Err(_) if dropped.is_empty() => return Err(Refused::Busy),
                Err(_) => break,
            }
            self.dropping = self.gathering;
        }
        Ok(dropped.into_iter().collect())
    }
}
