//! Shutdown: rows in memory alone of sinks that are saved go to the log.

use std::collections::VecDeque;

use super::batch::{Batch, Scratch};
use super::in_log::Kind;
use super::partition::Partition;
use super::resolve::records_of;
use super::row_log::{Fate, NO_BATCH, NewRows, NotNow, RowLog, UNPLACED};
use super::unwritten::Dirty;
use super::{Keep, Key, Producer};
use forebay_record::compression::Codecs;
use forebay_record::{BatchHeader, BatchView, Stamp};

impl Producer {
    /// Writes the rows in memory alone of sinks with [`Keep::HybridSaved`] to the log, cut ones with their
    /// cut. For an orderly stop, after the last poll that sends. `false`: the log does not take all
    /// of it now; the caller repeats it when it may.
    pub fn save(&mut self, log: &mut dyn RowLog) -> bool {
        if !self.flush_ended(log) || !self.save_rejected(log) {
            return false;
        }
        for index in self.topics.places() {
            if self.sinks[self.topics[index].sink].settings.keep == Keep::HybridSaved
                && self.save_topic(index, log).is_err()
            {
                return false;
            }
        }
        self.stage(log) && self.logging.unwritten.none_aside()
    }

    /// Saves rejected rows in memory alone as rows of their sink: the next process sends them once more, and they
    /// are refused again. Rows are written in one piece, so those among them that have ended are ended in the log as
    /// well.
    fn save_rejected(&mut self, log: &mut dyn RowLog) -> bool {
        let mut rejected = std::mem::take(&mut self.rejected);
        let saved: Result<(), NotNow> = rejected.all().try_for_each(|of| {
            let from = of.batch.in_log.numbers.rows();
            let keep = self.sinks[self.topics[of.topic].sink].settings.keep;
            if of.unwritten() == 0 || !keep.outlives() {
                return Ok(());
            }
            let home = of.partition.and_then(|number| i32::try_from(number).ok()).unwrap_or(UNPLACED);
            self.save_rows(of.topic, home, &mut of.batch, from, log)?;
            let ended = (from..of.batch.count).filter(|row| of.has_ended(*row));
            let ended = ended.filter_map(|row| of.batch.in_log.numbers.of(row));
            ended.for_each(|number| self.logging.ends.row_over(number, Fate::DeadLettered));
            Ok(())
        });
        self.rejected = rejected;
        saved.is_ok() && self.flush_ended(log)
    }

    fn save_topic(&mut self, index: u32, log: &mut dyn RowLog) -> Result<(), NotNow> {
        for key in self.topics.keys(index) {
            self.save_place(index, key.partition as i32, log)?;
            self.save_overtaken(key, log)?;
        }
        self.end_half_placed(index);
        self.save_place(index, UNPLACED, log)
    }

    /// Saves batches that younger rows of their partition have overtaken on their way to the log: the batches were undone then, and
    /// were taken back since. By their numbers they are the youngest, so for each a cut that is no batch records that it goes first;
    /// the same is repeated for those that the previous stop recorded.
    fn save_overtaken(&mut self, key: Key, log: &mut dyn RowLog) -> Result<(), NotNow> {
        let stamp = Stamp { producer_id: NO_BATCH, epoch: 0, sequence: 0 };
        for place in self.topics[key].window.len()..self.overtaken_end(key) {
            let topic = &self.topics[key.topic];
            let work = topic.partitions[key.partition as usize].work.as_ref();
            let Some(batch) = work.and_then(|work| work.queue.get(place)).filter(|batch| batch.in_log.cut.is_none())
            else {
                continue;
            };
            let runs = &mut self.logging.runs;
            let Some((lane, _)) = batch.in_log.numbers.runs_from(0, runs) else { continue };
            let terms = (batch.is_timeless(), stamp);
            let taken = log.cut(&topic.new_cut(&self.cluster.id, key.partition as i32, terms, (lane, runs)))?;
            if let Some(batch) = self.topics[key].work.as_mut().and_then(|work| work.queue.get_mut(place)) {
                batch.in_log.cut = Some(taken);
            }
        }
        loop {
            let topic = &self.topics[key.topic];
            let Some(spooled) = &topic.partitions[key.partition as usize].spooled else { return Ok(()) };
            let mut unsent = spooled.cuts.iter().filter(|cut| !cut.is_batch());
            let Some(cut) = unsent.nth(spooled.saved) else { return Ok(()) };
            let terms = (cut.timeless, stamp);
            let _ = log.cut(&topic.new_cut(&self.cluster.id, key.partition as i32, terms, (cut.lane, &cut.rows)))?;
            if let Some(spooled) = &mut self.topics[key].spooled {
                spooled.saved += 1;
            }
        }
    }

    /// The end, in a partition's queue, of the uncut batches that come before others with lower numbers.
    fn overtaken_end(&self, key: Key) -> usize {
        let partition = &self.topics[key];
        let (undone, Some(work)) = (partition.window.len(), &partition.work) else { return 0 };
        let backlog = partition.backlog();
        let first = |batches: &VecDeque<Batch>| batches.front().and_then(|batch| batch.in_log.first());
        let uncut = backlog.and_then(|backlog| backlog.first_uncut().or_else(|| first(&backlog.tail)));
        let unsent = partition.spooled.iter().flat_map(|spooled| &spooled.cuts).any(|cut| !cut.is_batch());
        let mut behind = if unsent { 0 } else { uncut.unwrap_or(u64::MAX) };
        for (place, batch) in work.queue.iter().enumerate().skip(undone).rev() {
            let last = batch.count.checked_sub(1).and_then(|row| batch.in_log.numbers.of(row));
            if last.is_some_and(|last| last.number > behind) {
                return place + 1;
            }
            behind = behind.min(batch.in_log.first().unwrap_or(u64::MAX));
        }
        undone
    }

    /// Saves the rows of a place. Rows queued after rows in the log alone are not always on their way there: partitions that are gone
    /// leave some.
    fn save_place(&mut self, index: u32, partition: i32, log: &mut dyn RowLog) -> Result<(), NotNow> {
        let place = Dirty { topic: index, partition, anywhere: true };
        let of = usize::try_from(partition).ok().and_then(|number| self.topics[index].partitions.get(number));
        let cut = of.map_or(0, |partition| partition.window.len());
        for which in 0.. {
            let Some(queue) = self.queue_mut(place, which) else { break };
            let mut queue = std::mem::take(queue);
            let mut saved = (0..).zip(&mut queue);
            let saved =
                saved.try_for_each(|(at, batch)| self.save_batch(index, partition, batch, which == 0 && at < cut, log));
            if let Some(place) = self.queue_mut(place, which) {
                *place = queue;
            }
            if which == 0 {
                self.note_groups(place);
            }
            saved?;
        }
        Ok(())
    }

    /// Notes the groups of the undone batches' new cuts: they are sent when their cuts are durable.
    fn note_groups(&mut self, Dirty { topic, partition, .. }: Dirty) {
        let topic = &mut self.topics[topic];
        let partition = usize::try_from(partition).ok().and_then(|number| topic.partitions.get_mut(number));
        let Some(Partition { work: Some(work), window, .. }) = partition else { return };
        for place in 0..window.len() {
            if let Some(cut) = work.queue[place].in_log.cut {
                window.logged(place, cut.group);
            }
        }
    }

    /// Saves the rows of a batch from `from` on; the batch may be closed.
    pub(super) fn save_rows(
        &mut self,
        index: u32,
        home: i32,
        batch: &mut Batch,
        from: u32,
        log: &mut dyn RowLog,
    ) -> Result<(), NotNow> {
        let lane = self.lane(index, home, log)?;
        let topic = &mut self.topics[index];
        let least = topic.turns.least_of(home);
        // The producer's own bytes can always be read.
        let Some(rows) = rows_from(batch, (from, lane, least), &mut self.logging.scratch, &mut self.memory.codecs)
        else {
            return Ok(());
        };
        let taken = log.rows(&rows).map(|first| (first, first + u64::from(rows.count)));
        self.memory.codecs.forget_plain();
        let (first, end) = taken?;
        self.logging.wrote = log.group();
        topic.turns.wrote(home, least, end);
        let before = batch.memory();
        batch.staged_from(from, &mut self.memory.pool, lane, first);
        self.resized(index, before, batch.memory());
        Ok(())
    }

    fn save_batch(
        &mut self,
        index: u32,
        home: i32,
        batch: &mut Batch,
        cut: bool,
        log: &mut dyn RowLog,
    ) -> Result<(), NotNow> {
        if batch.in_log.kind == Kind::Memory {
            batch.in_log.kind = Kind::Fresh(home);
        }
        if !batch.in_log.is_staged(batch.count) {
            let Kind::Fresh(home) = batch.in_log.kind else { return Ok(()) };
            self.save_rows(index, home, batch, batch.in_log.numbers.rows(), log)?;
        }
        if cut && batch.in_log.cut.is_none() {
            let topic = &self.topics[index];
            let Some((view, _)) = batch.bytes().and_then(|bytes| BatchView::parse(bytes).ok()) else { return Ok(()) };
            let runs = &mut self.logging.runs;
            let Some((lane, _)) = batch.in_log.numbers.runs_from(0, runs) else { return Ok(()) };
            let BatchHeader { producer_id, producer_epoch: epoch, base_sequence: sequence, .. } = *view.header();
            let stamp = Stamp { producer_id, epoch, sequence };
            let terms = (batch.is_timeless(), stamp);
            let taken = log.cut(&topic.new_cut(&self.cluster.id, home, terms, (lane, runs)))?;
            batch.in_log.cut = Some(taken);
        }
        Ok(())
    }
}

/// The rows of a batch from one on, as new rows for the log.
fn rows_from<'a>(
    batch: &'a Batch,
    (row, lane, least): (u32, u64, u64),
    scratch: &'a mut Scratch,
    codecs: &'a mut Codecs,
) -> Option<NewRows<'a>> {
    batch.note_rows(row, scratch);
    let mut records = records_of(batch, codecs)?;
    for _ in 0..row {
        records.next()?.ok()?;
    }
    let Scratch { origins, deadlines, hashes } = scratch;
    let (records, base_timestamp) = (records.rest(), records.base_timestamp());
    Some(NewRows { lane, records, base_timestamp, count: batch.count - row, origins, deadlines, hashes, from: least })
}
