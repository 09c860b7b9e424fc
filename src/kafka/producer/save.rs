//! The way out: what memory alone has of sinks that are saved goes to the log.

use std::collections::VecDeque;

use super::batch::{Batch, Scratch};
use super::kept::Kind;
use super::row_log::{NewCut, NewRows, NotNow, RowLog, UNPLACED};
use super::{Keep, Producer};
use crate::kafka::batch::BatchView;
use crate::kafka::compression::{Codec, Codecs};
use crate::kafka::types::SinkId;

impl Producer {
    /// Writes what memory alone has of sinks that keep their rows as [`Keep::HybridSaved`] to the log, what is cut with
    /// its cut. For an orderly stop, after the last poll that was to send something. `false`: the log does not take all
    /// of it now; again when it may.
    pub fn save(&mut self, log: &mut dyn RowLog) -> bool {
        if !self.flush_ended(log) {
            return false;
        }
        for index in 0..self.topics.len() {
            if self.sinks[self.topics[index].sink].settings.keep == Keep::HybridSaved
                && self.save_topic(index as u32, log).is_err()
            {
                return false;
            }
        }
        self.stage(log) && self.logging.aside.iter().all(VecDeque::is_empty)
    }

    fn save_topic(&mut self, index: u32, log: &mut dyn RowLog) -> Result<(), NotNow> {
        for number in 0..self.topics[index as usize].partitions.len() {
            let Some(work) = self.topics[index as usize].partitions[number].work.as_mut() else { continue };
            let (mut queue, cut) = (std::mem::take(&mut work.queue), work.cut);
            let mut place = 0;
            let saved = queue.iter_mut().try_for_each(|batch| {
                place += 1;
                self.save_batch(index, number as i32, batch, place <= cut, log)
            });
            if let Some(work) = self.topics[index as usize].partitions[number].work.as_mut() {
                work.queue = queue;
            }
            saved?;
        }
        self.end_half_placed(index);
        let mut queue = std::mem::take(&mut self.topics[index as usize].unplaced);
        let saved = queue.iter_mut().try_for_each(|batch| self.save_batch(index, UNPLACED, batch, false, log));
        self.topics[index as usize].unplaced = queue;
        saved
    }

    fn save_batch(
        &mut self,
        index: u32,
        home: i32,
        batch: &mut Batch,
        cut: bool,
        log: &mut dyn RowLog,
    ) -> Result<(), NotNow> {
        if batch.kept.kind == Kind::Memory {
            batch.kept.kind = Kind::Fresh(home);
        }
        if !batch.kept.is_staged(batch.count) {
            let Kind::Fresh(home) = batch.kept.kind else { return Ok(()) };
            let lane = self.lane(index, home, log)?;
            let topic = &mut self.topics[index as usize];
            let placed = home >= 0;
            let least = if topic.written == Some(placed) { topic.least } else { topic.above };
            let scratch = &mut self.logging.scratch;
            let rows = match batch.builder() {
                Some(_) => batch.unstaged(lane, least, scratch),
                None => closed_rows(batch, lane, least, scratch, &mut self.codecs),
            };
            // Our own bytes: they can be read.
            let Some(rows) = rows else { return Ok(()) };
            let first = log.rows(&rows)?;
            topic.above = topic.above.max(first + u64::from(rows.count));
            (topic.written, topic.least) = (Some(placed), least);
            self.codecs.forget_plain();
            let before = batch.memory();
            batch.staged(&mut self.pool, lane, first);
            self.resized(index, before, batch.memory());
        }
        if cut && batch.kept.cut.is_none() {
            let topic = &self.topics[index as usize];
            let Some((view, _)) = batch.bytes().and_then(|bytes| BatchView::parse(bytes).ok()) else { return Ok(()) };
            let runs = &mut self.logging.runs;
            let Some((lane, _)) = batch.kept.numbers.runs_from(0, runs) else { return Ok(()) };
            let taken = log.cut(&NewCut {
                sink: SinkId(u16::try_from(topic.sink).unwrap_or(u16::MAX)),
                topic: &topic.name,
                topic_id: topic.id,
                partition: home,
                producer_id: view.header().producer_id,
                epoch: view.header().producer_epoch,
                sequence: view.header().base_sequence,
                timeless: batch.max_timestamp < 0,
                lane,
                rows: runs,
            })?;
            batch.kept.cut = Some(taken);
        }
        Ok(())
    }
}

/// All rows of a closed batch, to be written down.
fn closed_rows<'a>(
    batch: &'a Batch,
    lane: u32,
    from: u64,
    scratch: &'a mut Scratch,
    codecs: &'a mut Codecs,
) -> Option<NewRows<'a>> {
    let (view, _) = BatchView::parse(batch.bytes()?).ok()?;
    let records = match view.codec().ok()? {
        Codec::None => view.body(),
        codec => codecs.decompress(codec, view.body(), batch.plain_len)?,
    };
    batch.note_rows(0, scratch);
    let base_timestamp = view.header().base_timestamp;
    let Scratch { origins, deadlines, hashes } = scratch;
    Some(NewRows { lane, records, base_timestamp, count: batch.count, origins, deadlines, hashes, from })
}
