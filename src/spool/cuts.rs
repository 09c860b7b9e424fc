//! The way into the log for cuts and for what becomes of rows.

use super::checkpoint::{CUT, CUT_RUN, SPAN};
use super::entry::{CutHead, Entry, Reason};
use super::lists::Runs;
use super::log::Log;
use super::state::Lane;
use super::terms::{CUTS_OPEN_MAX, NewCut, Refused};
use crate::record::stored::{NO_BATCH, RowRun};

/// Runs that one call of [`Log::drop_oldest`] drops, at most.
const DROPPED_MAX: usize = 256;

impl Log {
    /// Takes a cut. Returns its number, and the group that it stands in: its batch is sent when [`Log::durable`] has
    /// reached that.
    ///
    /// # Errors
    /// [`Refused::Window`] and [`Refused::Identity`]: the done or end that has to stand before it is missing.
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

    /// Kafka has a cut, and with it these rows, all that it has. `base_offset` −1: it is there, and nobody knows where.
    ///
    /// # Errors
    /// [`Refused::Unknown`], [`Refused::Busy`].
    pub fn done(&mut self, cut: u64, lane: u64, rows: &[RowRun], base_offset: i64) -> Result<(), Refused> {
        self.ahead.cuts.get(&cut).filter(|(of, _)| *of == lane).ok_or(Refused::Unknown)?;
        self.put(&Entry::Done { cut, lane, base_offset, rows: Runs::new(rows) }, 1)?;
        self.ahead.closed(cut);
        Ok(())
    }

    /// A cut is void: its rows, all of them, wait for another ([`Reason::Void`]) or end with it.
    ///
    /// # Errors
    /// [`Refused::Unknown`], [`Refused::Busy`].
    pub fn end_cut(&mut self, cut: u64, lane: u64, rows: &[RowRun], reason: Reason) -> Result<(), Refused> {
        self.ahead.cuts.get(&cut).filter(|(of, _)| *of == lane).ok_or(Refused::Unknown)?;
        self.put(&Entry::EndCut { cut, lane, reason, rows: Runs::new(rows) }, 1)?;
        self.ahead.closed(cut);
        Ok(())
    }

    /// Rows that will not go to Kafka as such. They are in no open cut: that is the caller's to know.
    ///
    /// # Errors
    /// [`Refused::Unknown`], [`Refused::Busy`].
    pub fn end_rows(&mut self, lane: u64, rows: &[RowRun], reason: Reason) -> Result<(), Refused> {
        if !self.ahead.lanes.contains_key(&lane) {
            return Err(Refused::Unknown);
        }
        // Each may leave a hole.
        let account = SPAN * rows.len() as u64;
        self.put(&Entry::EndRows { lane, reason, rows: Runs::new(rows) }, 1)?;
        self.waiting.account += account;
        Ok(())
    }

    /// Ends everything that a sink has here, cuts too: at a start, for sinks whose rows are not recovered.
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

    /// `drop-oldest`: ends rows of these sinks in the oldest segment that has any which `allowed` lets go (a lane's
    /// numbers that are only on the disk and in no cut). Returns what was dropped, by lane; nothing while what was
    /// dropped before is not durable. For the room to come back, what else is in that segment may have to be moved.
    ///
    /// # Errors
    /// [`Refused::Busy`], with nothing dropped.
    pub fn drop_oldest(
        &mut self,
        sinks: &[usize],
        mut allowed: impl FnMut(u64) -> Option<RowRun>,
    ) -> Result<Vec<(u64, RowRun)>, Refused> {
        if self.dropping > self.durable {
            return Ok(Vec::new());
        }
        // `allowed` looks far: no more lanes are asked about than are needed, those with the oldest rows first.
        let first = |lane: &Lane| lane.spans.values().map(|span| span.segment).min();
        let of_sinks = self.state.lanes().filter(|(_, lane)| sinks.contains(&lane.sink_index));
        let mut lanes: Vec<(u64, u64)> = of_sinks.filter_map(|(number, lane)| Some((first(lane)?, number))).collect();
        lanes.sort_unstable();
        // The lanes' parts in the oldest segment.
        let (mut oldest, mut found) = (u64::MAX, Vec::new());
        for (segment, number) in lanes {
            if segment > oldest || segment == oldest && found.len() >= DROPPED_MAX {
                break;
            }
            let (Some(lane), Some(range)) = (self.state.lane(number), allowed(number)) else { continue };
            for span in lane.spans.values() {
                let first = span.run.first.max(range.first);
                let end = span.run.end().min(range.end());
                if first >= end || span.segment > oldest {
                    continue;
                }
                if span.segment < oldest {
                    (oldest, found) = (span.segment, Vec::new());
                }
                found.push((number, RowRun { first, count: end - first }));
            }
        }
        found.truncate(DROPPED_MAX);
        let mut taken = 0;
        for (lane, run) in &found {
            if self.end_rows(*lane, &[*run], Reason::Dropped).is_err() {
                break;
            }
            (taken, self.dropping) = (taken + 1, self.gathering);
        }
        if taken == 0 && !found.is_empty() {
            return Err(Refused::Busy);
        }
        found.truncate(taken);
        Ok(found)
    }
}
