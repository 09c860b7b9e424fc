//! Takes over the rows and cuts that an earlier process left in the log: registered before the first poll, loaded once Kafka is
//! reachable. Cuts first, each under its identity, as batches that may be in Kafka already (P4 to P6 settle them); then the
//! other rows.

use std::collections::VecDeque;
use std::rc::Rc;

use foldhash::fast::RandomState;
use hashbrown::HashMap;

use super::backlog::{Backlog, Loaded, Spooled};
use super::batch::{Bounds, push};
use super::in_log::{Kind, Notes};
use super::numbers::Numbers;
use super::partition::Work;
use super::row_log::{
    Fate, LoggedRow, NO_BATCH, ReadBack, RestoredCut, RestoredLane, RowLog, RowRun, TakenCut, UNPLACED,
};
use super::settings::Keep;
use super::window::{Identity, NewBatch, WINDOW};
use super::without_timestamp::push_without_timestamp;
use super::{Key, Producer};
use crate::types::SinkId;
use forebay_record::Stamp;
use forebay_runtime::seam::Monotonic;

impl Producer {
    /// Takes over the rows and cuts that an earlier process left in the log; before the first poll, and before rows are taken. The
    /// cuts are sent again under their own identities, before anything else of their partitions; all other live rows
    /// are sent under this process's. Lanes of sinks that no longer exist are left alone.
    pub fn restore(&mut self, lanes: Vec<RestoredLane>, mut cuts: Vec<RestoredCut>) {
        let mut homes: HashMap<u64, (u32, i32), RandomState> = HashMap::default();
        let mut newest: HashMap<(u32, i32), u64, RandomState> = HashMap::default();
        for lane in &lanes {
            let sink = usize::from(lane.sink.0);
            if sink >= self.sinks.len() {
                continue;
            }
            let home = (self.topic_index(sink, &lane.topic), lane.partition.max(UNPLACED));
            homes.insert(lane.lane, home);
            let number = newest.entry(home).or_insert(lane.lane);
            *number = lane.lane.max(*number);
            self.topics[home.0].turns.found(lane.end);
        }
        // `is_older`: the log had forgotten the lane before it created the newest one of the same name, and damage destroyed the entry
        // that says so. Its rows are placed again, before those of the newest lane.
        let is_older = |lane: u64, home: (u32, i32)| newest.get(&home).is_some_and(|newest| lane < *newest);
        for lane in &lanes {
            let Some((index, partition)) = homes.get(&lane.lane).copied() else { continue };
            let stats = &mut self.sinks[usize::from(lane.sink.0)].stats;
            stats.recovered += lane.rows;
            stats.buffered_rows += lane.rows;
            if !lane.cluster.is_empty() {
                self.cluster.elsewhere.push((index, Rc::from(&*lane.cluster)));
            }
            let landed = lane.landed;
            let (lane, next, end, rows) = (lane.lane, lane.first, lane.end, lane.rows);
            let backlog = Backlog { lane, next, end, rows, ..Backlog::default() };
            if is_older(lane, (index, partition)) {
                self.topics[index].unplaced.put_void(Backlog { void: true, turn: Some(0), ..backlog });
                self.note_spooled(index, UNPLACED);
                continue;
            }
            self.put_backlog(index, partition, backlog);
            if let Ok(number) = usize::try_from(partition) {
                // An answer with a lower offset comes from another log: the topic was recreated since.
                let place = &mut self.topics[index].partitions[number];
                place.log_next = place.log_next.max(landed);
            }
        }
        cuts.sort_unstable_by_key(|cut| cut.cut);
        for cut in cuts {
            let Some((index, home)) = homes.get(&cut.lane).copied() else { continue };
            let rows = rows_of(&cut.rows);
            let home = if is_older(cut.lane, (index, home)) { UNPLACED } else { home };
            let topic = &mut self.topics[index];
            let backlog = match usize::try_from(home) {
                Ok(number) => topic.partitions[number].backlog_mut(),
                Err(_) => topic.unplaced.backlogs.iter_mut().find(|backlog| backlog.lane == cut.lane),
            };
            backlog.into_iter().for_each(|backlog| backlog.leave_out(&cut.rows));
            topic.placed += if home < 0 { rows } else { 0 };
            topic.turns.begin(self.settings.rules);
            topic.view.id = if cut.topic_id == 0 { topic.view.id } else { cut.topic_id };
            let number = usize::try_from(cut.partition).unwrap_or(0);
            self.topics[index].with_partitions(number + 1);
            let key = Key { topic: index, partition: number as u32 };
            if !cut.is_batch() {
                self.logging.ends.over(Some(cut.cut), numbers_of(&cut), Fate::Void);
            }
            self.topics[key].spooled.get_or_insert_default().add_cut(cut);
            self.note_spooled(index, number as i32);
        }
        self.cluster.elsewhere.sort_unstable();
        self.cluster.elsewhere.dedup();
        for lane in lanes {
            // Rows saved at a stop are written after younger ones (`hybrid-saved`): such rows take turns by their numbers.
            if let Some((index, 0..)) = homes.get(&lane.lane).copied()
                && self.sinks[self.topics[index].sink].settings.keep == Keep::Disk
            {
                self.topics[index].as_placed_before(lane.topic_id, lane.partitions as usize);
            }
        }
    }

    /// Counts restored rows of a sink that may be in Kafka already, though no cut records it any more. They are sent again.
    pub fn outcome_unknown(&mut self, sink: SinkId, rows: u64) {
        if let Some(sink) = self.sinks.get_mut(usize::from(sink.0)) {
            sink.stats.outcome_unknown += rows;
        }
    }

    /// Counts rows of a sink that an earlier process left and that are lost with their segment.
    pub fn lost_before(&mut self, sink: SinkId, rows: u64) {
        if let Some(sink) = self.sinks.get_mut(usize::from(sink.0)) {
            sink.stats.recovered += rows;
            sink.stats.rotten += rows;
        }
    }

    fn put_backlog(&mut self, index: u32, partition: i32, mut backlog: Backlog) {
        if let Ok(number) = usize::try_from(partition) {
            let topic = &mut self.topics[index];
            topic.with_partitions(number + 1);
            topic.placed += backlog.rows;
            topic.backlogged += 1;
            topic.turns.restoring = self.settings.rules.takes_turns();
            backlog.placed = true;
            let place = &mut topic.partitions[number];
            place.lane.number = Some(backlog.lane);
            place.spooled.get_or_insert_default().backlog = Some(backlog);
        } else {
            let topic = &mut self.topics[index];
            topic.unplaced.lane.number = Some(backlog.lane);
            topic.unplaced.backlogs.push_back(backlog);
        }
        self.note_spooled(index, partition);
    }

    /// Loads a partition's cuts, one after the other, whole. [`Loaded::All`]: none is left.
    pub(super) fn load_cuts(&mut self, key: Key, budget: &mut usize, log: &mut dyn RowLog) -> Loaded {
        loop {
            let partition = &mut self.topics[key];
            let (undone, identity) = (partition.window.len(), partition.window.identity());
            let Some(cut) = partition.spooled.as_ref().and_then(|spooled| spooled.cuts.front()) else {
                return Loaded::All;
            };
            let own = Identity { id: cut.producer_id, epoch: cut.epoch };
            let is_batch = cut.is_batch();
            if is_batch && !self.settings.rules.keeps_identity() {
                self.void_restored(key, false);
                continue;
            }
            // One at a time: many partly read cuts might fill the memory.
            if self.loader.loading.is_some_and(|other| other != key)
                || is_batch && (undone >= WINDOW || (undone > 0 && identity != Some(own)))
            {
                return Loaded::Wait;
            }
            if *budget == 0 {
                return Loaded::Enough;
            }
            let Some(mut spooled) = self.topics[key].spooled.take() else { return Loaded::All };
            self.loader.loading = Some(key);
            let read = self.read_cut(key.topic, &mut spooled, budget, log);
            self.topics[key].spooled = Some(spooled);
            match read {
                Some(Loaded::All) => self.loaded_cut(key),
                Some(other) => {
                    let spooled = self.topics[key].spooled.as_ref();
                    // Nothing of the cut is in memory, so it delays no other.
                    if spooled.is_some_and(|spooled| spooled.part.is_empty()) {
                        self.loader.loading = None;
                    }
                    return other;
                }
                None => self.void_restored(key, true),
            }
        }
    }

    /// Reads more of a partition's first cut. `None`: the cut cannot be read as it was.
    fn read_cut(
        &mut self,
        index: u32,
        spooled: &mut Spooled,
        budget: &mut usize,
        log: &mut dyn RowLog,
    ) -> Option<Loaded> {
        let Spooled { cuts, part, run, next, .. } = spooled;
        let cut = cuts.front()?;
        let sink = self.topics[index].sink;
        let (lane, timeless, keeps_time) = (cut.lane, cut.timeless, self.settings.rules.keeps_time());
        let hint = (self.sinks[sink].settings.batch_bytes, 0);
        let bounds = Bounds { batch_bytes: usize::MAX, ceiling: usize::MAX, hint, kind: Kind::Logged(lane) };
        while let Some(rows) = cut.rows.get(*run) {
            *next = (*next).max(rows.first);
            if *next >= rows.end() {
                (*run, *next) = (*run + 1, 0);
                continue;
            }
            let (mut short, mut gap) = (false, false);
            let (mut len, mut memory) = (0, 0);
            let before = *next;
            let back = log.read(lane, *next, rows.end(), &mut |row: LoggedRow<'_>| {
                gap = row.number != *next;
                // Without room for a batch of any size none is begun: new rows leave that much free.
                short = part.is_empty() && !self.memory.may_place(self.memory.ceilings.batch);
                if gap || short {
                    return false;
                }
                let (pool, notes) = (&mut self.memory.pool, Notes::of_logged(lane, &row));
                // The batch is rebuilt as it was sent: with timestamps, Kafka would be assumed to remember its writer.
                let pushed = if timeless {
                    let new = (&row.record, row.ticket, notes, keeps_time);
                    push_without_timestamp(part, pool, bounds, new, Monotonic(0))
                } else {
                    push(part, 0, pool, bounds, (&row.record, row.ticket, notes), Monotonic(0))
                };
                len += pushed.len;
                memory += pushed.memory;
                *budget = budget.saturating_sub(pushed.len);
                *next += 1;
                true
            });
            self.resized(index, 0, memory);
            self.sinks[sink].stats.buffered_bytes += len as u64;
            match back {
                _ if gap => return None,
                _ if short => return Some(Loaded::Wait),
                ReadBack::Rows if *next > before => {}
                ReadBack::Rows | ReadBack::Later => return Some(Loaded::Wait),
                ReadBack::Rotten(_) | ReadBack::Empty => return None,
            }
        }
        Some(Loaded::All)
    }

    /// Ends the loading of a cut: all of it is in the queue, after the cuts before it.
    fn loaded_cut(&mut self, key: Key) {
        self.loader.loading = None;
        let wall = self.wall;
        let topic = &mut self.topics[key.topic];
        let sink = &self.sinks[topic.sink];
        let partition = &mut topic.partitions[key.partition as usize];
        let Some(spooled) = partition.spooled.as_deref_mut() else { return };
        let (Some(cut), Some(mut batch)) = (spooled.cuts.pop_front(), spooled.part.pop_front()) else { return };
        (spooled.run, spooled.next) = (0, 0);
        let any_more = !spooled.cuts.is_empty();
        let before = batch.memory();
        batch.close(self.memory.codecs.encoder(sink.settings.compression, sink.settings.compression_level));
        if !cut.is_batch() {
            // These rows go after the batches that were cut before them and are taken back, and before all others.
            let work = Work::begin(&mut partition.work, &mut partition.window, &mut self.memory.spare);
            batch.in_log.old = true;
            let (after, undone) = (batch.memory(), partition.window.len());
            let place = undone + work.queue.range(undone..).take_while(|other| other.in_log.old).count();
            work.queue.insert(place, batch);
            self.resized(key.topic, before, after);
            return self.make_ready(key);
        }
        let stamp = Stamp { producer_id: cut.producer_id, epoch: cut.epoch, sequence: cut.sequence };
        batch.stamp(stamp, &mut self.memory.pool);
        let taken = TakenCut { cut: cut.cut, group: 0 };
        let (serial, count, newest) = (batch.serial, batch.count, batch.max_timestamp);
        let new = NewBatch { serial, count, newest, old: true, group: Some(taken.group) };
        let work = Work::begin(&mut partition.work, &mut partition.window, &mut self.memory.spare);
        let place = partition.window.len();
        // The batch may have been sent, and may be there.
        let follows = partition.window.restored(new, stamp, self.settings.rules.is_forgettable(newest, wall.0));
        batch.in_log.cut = Some(taken);
        (batch.in_log.old, batch.in_log.begins) = (true, !follows);
        let after = batch.memory();
        work.queue.insert(place, batch);
        // The topic has been recreated since: its log may have taken a younger batch and never seen this one (P4 does not hold).
        let is_recreated = cut.topic_id != 0 && cut.topic_id != topic.view.id;
        if is_recreated && (place > 0 || any_more) {
            partition.window.goes_apart();
        }
        if is_recreated && partition.acked.last.is_none() {
            // The end of the log that an earlier process saw may have been the old log's: this batch may be before that offset in
            // the new one.
            partition.log_next = Some(0);
        }
        self.resized(key.topic, before, after);
        self.make_ready(key);
    }

    /// Voids a cut that is not in memory and cannot be sent as it was: its readable rows are cut again. `unclear`: Kafka
    /// may or may not have them.
    fn void_restored(&mut self, key: Key, unclear: bool) {
        self.unload(key);
        let cut = self.topics[key].spooled.as_deref_mut().and_then(|spooled| spooled.cuts.pop_front());
        if let Some(cut) = cut {
            self.void_cut(key, &cut, unclear);
            self.take_back(key, &cut);
        }
    }

    /// Drops the loaded part of a partition's first cut.
    fn unload(&mut self, key: Key) {
        self.loader.loading = self.loader.loading.filter(|other| *other != key);
        let Some(spooled) = self.topics[key].spooled.as_deref_mut() else { return };
        (spooled.run, spooled.next) = (0, 0);
        for batch in std::mem::take(&mut spooled.part) {
            let sink = self.topics[key.topic].sink;
            self.sinks[sink].stats.buffered_bytes -= batch.plain_len as u64;
            self.resized(key.topic, batch.memory(), 0);
            batch.discard(&mut self.memory.pool);
        }
    }

    fn void_cut(&mut self, key: Key, cut: &RestoredCut, unclear: bool) {
        // A cut that is no batch is void from the start, and in no log of Kafka's.
        if !cut.is_batch() {
            return;
        }
        self.logging.ends.over(Some(cut.cut), numbers_of(cut), Fate::Void);
        if unclear {
            self.unknown(key, rows_of(&cut.rows));
        }
    }

    /// Returns the rows of a void cut to their origin.
    fn take_back(&mut self, key: Key, cut: &RestoredCut) {
        let topic = &mut self.topics[key.topic];
        let partition = &mut topic.partitions[key.partition as usize];
        if partition.lane.number == Some(cut.lane) {
            let spooled = partition.spooled.get_or_insert_default();
            topic.backlogged += u32::from(spooled.backlog.is_none());
            let blank = || Backlog { lane: cut.lane, placed: true, ..Backlog::default() };
            spooled.backlog.get_or_insert_with(blank).take_in(&cut.rows);
            return self.note_spooled(key.topic, key.partition as i32);
        }
        topic.placed = topic.placed.saturating_sub(rows_of(&cut.rows));
        let void = Backlog::of_void(cut.lane, &cut.rows);
        topic.unplaced.put_void(void);
        self.note_spooled(key.topic, UNPLACED);
    }

    /// Voids a partition's cuts that were never loaded, the youngest first as for loaded ones (`void_from`), since the batches before
    /// them are cut again. Their rows return to their origin, unless rows that follow them have lower numbers.
    pub(super) fn void_all_restored(&mut self, key: Key, unclear: bool) {
        let batches = |spooled: &Spooled| spooled.cuts.iter().filter(|cut| cut.is_batch()).count();
        while let Some(place) = self.topics[key].spooled.as_deref().and_then(|spooled| batches(spooled).checked_sub(1))
        {
            if place == 0 {
                self.unload(key);
            }
            let Some(cut) = self.topics[key].spooled.as_deref_mut().and_then(|spooled| spooled.cuts.remove(place))
            else {
                return;
            };
            self.void_cut(key, &cut, unclear);
            let partition = &mut self.topics[key];
            let own = partition.lane.number == Some(cut.lane);
            let spooled = partition.spooled.as_deref_mut().filter(|spooled| own && spooled.has_before(place, &cut));
            if let Some(spooled) = spooled {
                spooled.cuts.insert(place, RestoredCut { producer_id: NO_BATCH, ..cut });
            } else {
                self.take_back(key, &cut);
            }
        }
    }

    /// Voids all cuts of a gone partition that were never loaded; their rows return to their origin.
    /// Returned are, in order, those that precede others of their lane with lower numbers.
    pub(super) fn void_for_good(&mut self, key: Key, unclear: bool) -> VecDeque<Backlog> {
        self.unload(key);
        let mut first = VecDeque::new();
        while let Some(cut) = self.topics[key].spooled.as_deref_mut().and_then(|spooled| spooled.cuts.pop_back()) {
            self.void_cut(key, &cut, unclear);
            let partition = &self.topics[key];
            let own = partition.lane.number == Some(cut.lane);
            let spooled =
                partition.spooled.as_deref().filter(|spooled| own && spooled.has_before(spooled.cuts.len(), &cut));
            match spooled.and_then(|spooled| spooled.backlog.as_ref()?.first_uncut()) {
                Some(turn) => {
                    first.push_front(Backlog { turn: Some(turn), ..Backlog::of_void(cut.lane, &cut.rows) });
                }
                None => self.take_back(key, &cut),
            }
        }
        first
    }
}

/// The numbers of a cut's rows.
fn numbers_of(cut: &RestoredCut) -> Numbers {
    let (mut numbers, mut row) = (Numbers::default(), 0u32);
    for run in &cut.rows {
        let count = u32::try_from(run.count).unwrap_or(u32::MAX);
        numbers.add(row, cut.lane, run.first, count);
        row = row.saturating_add(count);
    }
    numbers
}

pub(super) fn rows_of(runs: &[RowRun]) -> u64 {
    runs.iter().map(|run| run.count).sum()
}
