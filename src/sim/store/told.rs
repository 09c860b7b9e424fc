//! Checks the producer's log against the calls that it got: which rows and cuts must survive a crash, which must not
//! come back, and which batches may be on the wire.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::Restored;
use crate::kafka::producer::row_log::{
    Ended, Fate, Known, LoggedRow, NO_BATCH, NewCut, NewRows, NotNow, ReadBack, RestoredCut, RowLog, RowRun, TakenCut,
};
use crate::kafka::producer::{Keep, SinkSettings};
use crate::kafka::types::{SinkId, Ticket};
use crate::record::Records;
use crate::runtime::seam::Monotonic;
use crate::sim::{digest, row};

/// Bound on the cuts of a partition that are neither done nor ended.
const UNCERTAIN_MAX: usize = 5;

/// Lane and number.
type Place = (u64, u64);
/// Producer id, epoch, topic, partition, first sequence.
type Identity = (i64, i16, String, i32, i32);

#[derive(Clone, Copy, Debug)]
struct Kept {
    /// The row's number in the run.
    row: u32,
    sink: usize,
    group: u64,
    ended: Option<(Fate, u64)>,
    cut: Option<u64>,
    was_cut: bool,
}

#[derive(Clone, Debug)]
struct Cut {
    sink: usize,
    topic: String,
    said: RestoredCut,
    group: u64,
    ended: Option<u64>,
}

/// The calls that the log got, and what follows from them.
#[derive(Debug, Default)]
pub(in crate::sim) struct Told {
    keeps: Vec<Keep>,
    /// Whether a sink has dead letters, by sink.
    letters: Vec<bool>,
    /// Rows that need not keep their order.
    pub(in crate::sim) loose: BTreeSet<u32>,
    lanes: HashMap<u64, (usize, String, i32)>,
    rows: BTreeMap<Place, Kept>,
    places: HashMap<u32, Place>,
    /// Rows that a start has given up. They may be found again until that is durable.
    given_up: BTreeMap<Place, u32>,
    cuts: BTreeMap<u64, Cut>,
    identities: HashMap<Identity, u64>,
    /// How each row ended, and when that was reported.
    pub(in crate::sim) fates: HashMap<u32, (Fate, Monotonic)>,
    /// Rows that were dropped to make room. The next field: number of such drops, by sink.
    pub(in crate::sim) dropped: BTreeSet<u32>,
    pub(in crate::sim) drops: HashMap<usize, u64>,
    /// The last durable group.
    durable: u64,
    wrong: Option<String>,
    /// The calls in words, for the trace; `None`: not recorded.
    pub(in crate::sim) notes: Option<Vec<String>>,
}

impl Told {
    pub(in crate::sim) fn new(sinks: &[SinkSettings]) -> Self {
        let keeps = sinks.iter().map(|sink| sink.keep).collect();
        Self { keeps, letters: sinks.iter().map(|sink| sink.keep_rejected).collect(), ..Self::default() }
    }

    fn note(&mut self, line: impl FnOnce() -> String) {
        if let Some(notes) = &mut self.notes {
            notes.push(line());
        }
    }

    fn fails(&mut self, text: impl FnOnce() -> String) {
        self.wrong.get_or_insert_with(text);
    }

    /// The first failure.
    pub(in crate::sim) fn wrong(&mut self) -> Option<String> {
        self.wrong.take()
    }

    /// Whether a row is durable, or has ended.
    pub(in crate::sim) fn is_safe(&self, row: u32) -> bool {
        self.fates.contains_key(&row)
            || self
                .places
                .get(&row)
                .and_then(|place| self.rows.get(place))
                .is_some_and(|kept| kept.group <= self.durable)
    }

    /// Notes the last durable group, as the log reports it.
    pub(in crate::sim) fn durable_up_to(&mut self, group: u64) {
        if self.durable != group {
            self.note(|| format!("log: durable up to {group}"));
        }
        self.durable = group;
    }

    /// Rows in the log that have not ended.
    pub(in crate::sim) fn live(&self) -> usize {
        self.rows.values().filter(|kept| kept.ended.is_none()).count()
    }

    /// Checks a batch of a sink that is on the wire. Returns what is wrong with it.
    pub(in crate::sim) fn sent(
        &self,
        sink: usize,
        identity: Identity,
        rows: impl FnOnce() -> Option<Vec<u32>>,
    ) -> Option<String> {
        if self.keeps[sink] != Keep::Disk {
            return None;
        }
        let Some(cut) = self.identities.get(&identity).and_then(|cut| self.cuts.get(cut)) else {
            return Some(format!("{identity:?} is sent and was never cut"));
        };
        if cut.group > self.durable {
            return Some(format!("{identity:?} is sent, its cut waits for group {}", cut.group));
        }
        let numbers = cut.said.rows.iter().flat_map(|run| run.first..run.end());
        let cut_rows: Vec<u32> = numbers.map(|number| self.rows[&(cut.said.lane, number)].row).collect();
        // The rows of a compressed batch are not checked.
        let rows = rows()?;
        (cut_rows != rows).then(|| format!("{identity:?} is sent with {rows:?}, cut with {cut_rows:?}"))
    }

    fn keep(&mut self, lane: u64, first: u64, group: u64, new: &NewRows<'_>) {
        let sink = self.lanes.get(&lane).map_or(usize::MAX, |(sink, ..)| *sink);
        let mut rows = Vec::new();
        let records = Records::new(new.records, new.count as i32, new.base_timestamp);
        for (number, record) in (first..).zip(records) {
            let record = record.expect("a record");
            let (row, _) = row::read(record.key, record.value).expect("a row, whole");
            if let Some(place) = self.places.get(&row).filter(|place| self.rows[*place].ended.is_none()) {
                let text = format!("row {row} is written at {:?}, and stands at {place:?}", (lane, number));
                self.fails(|| text);
            }
            self.places.insert(row, (lane, number));
            rows.push(row);
            let before =
                self.rows.insert((lane, number), Kept { row, sink, group, ended: None, cut: None, was_cut: false });
            if before.is_some() {
                self.fails(|| format!("number {number} of lane {lane} is given twice"));
            }
        }
        let of = self.lanes.get(&lane).cloned();
        self.note(|| format!("log: rows {rows:?} in lane {lane} {of:?} from {first}, group {group}"));
    }

    fn cut(&mut self, new: &NewCut<'_>, taken: TakenCut) {
        self.note(|| format!("log: {new:?} {taken:?}"));
        let TakenCut { cut, group } = taken;
        let sink = usize::from(new.sink.0);
        let (topic, partition) = (new.topic.to_owned(), new.partition);
        let open: Vec<&Cut> = self
            .cuts
            .values()
            .filter(|open| open.ended.is_none() && open.sink == sink && open.topic == topic)
            .filter(|open| open.said.partition == partition && open.said.is_batch())
            .collect();
        let identity = (new.producer_id, new.epoch);
        let text = if open.len() >= UNCERTAIN_MAX {
            Some(format!("{} cuts of {topic}-{partition} are open, and another is taken", open.len()))
        } else {
            let other = open.iter().find(|open| (open.said.producer_id, open.said.epoch) != identity);
            other.map(|other| format!("{topic}-{partition}: a cut of {identity:?} while {other:?} is open"))
        };
        let is_batch = new.producer_id != NO_BATCH;
        if let Some(text) = text.filter(|_| is_batch) {
            self.fails(|| text);
        }
        for number in new.rows.iter().flat_map(|run| run.first..run.end()) {
            let kept = self.rows.get_mut(&(new.lane, number));
            match kept {
                Some(kept) if kept.ended.is_none() && kept.cut.is_none() => {
                    (kept.cut, kept.was_cut) = (Some(cut), kept.was_cut || is_batch);
                }
                other => {
                    let text = format!("cut {cut} has number {number} of lane {}: {other:?}", new.lane);
                    self.fails(|| text);
                }
            }
        }
        self.identities.insert((new.producer_id, new.epoch, topic.clone(), partition, new.sequence), cut);
        let NewCut { of, producer_id, epoch, sequence, timeless, lane, .. } = *new;
        let rows = new.rows.to_vec();
        let said = RestoredCut {
            cut,
            cluster: of.cluster.to_owned(),
            topic_id: of.topic_id,
            partition,
            producer_id,
            epoch,
            sequence,
            timeless,
            lane,
            rows,
        };
        self.cuts.insert(cut, Cut { sink, topic, said, group, ended: None });
    }

    fn ended(&mut self, ended: &Ended<'_>, group: u64, now: Monotonic) {
        self.note(|| format!("log: {ended:?}, group {group}"));
        if let Some(number) = ended.cut {
            match self.cuts.get_mut(&number) {
                Some(cut) if cut.ended.is_none() && cut.said.rows == ended.rows && cut.said.lane == ended.lane => {
                    cut.ended = Some(group);
                }
                other => {
                    let text = format!("{ended:?} ends {other:?}");
                    self.fails(|| text);
                }
            }
        }
        for number in ended.rows.iter().flat_map(|run| run.first..run.end()) {
            let Some(kept) = self.rows.get_mut(&(ended.lane, number)).filter(|kept| kept.ended.is_none()) else {
                self.fails(|| format!("{ended:?}: number {number} is not there, or over"));
                continue;
            };
            let cut = kept.cut;
            if ended.fate == Fate::Void {
                kept.cut = None;
            } else {
                kept.ended = Some((ended.fate, group));
                self.fates.insert(kept.row, (ended.fate, now));
            }
            if cut != ended.cut {
                self.fails(|| format!("{ended:?}: number {number} is in cut {cut:?}"));
            }
        }
    }

    /// Notes rows that were dropped to make room.
    pub(in crate::sim) fn dropped(&mut self, lane: u64, run: RowRun, group: u64, now: Monotonic) {
        self.note(|| format!("log: dropped {run:?} of lane {lane}, group {group}"));
        for number in run.first..run.end() {
            match self.rows.get_mut(&(lane, number)) {
                Some(kept) if kept.ended.is_none() && kept.cut.is_none() => {
                    kept.ended = Some((Fate::Expired, group));
                    self.fates.insert(kept.row, (Fate::Expired, now));
                    self.dropped.insert(kept.row);
                    *self.drops.entry(kept.sink).or_default() += 1;
                }
                other => {
                    let text = format!("number {number} of lane {lane} is dropped, and is {other:?}");
                    self.fails(|| text);
                }
            }
        }
    }

    /// Whether a sink's durable rows are there after a start.
    fn outlive(&self, sink: usize, saved: bool) -> bool {
        let keep = self.keeps.get(sink);
        keep == Some(&Keep::Disk) || saved && keep == Some(&Keep::HybridSaved)
    }

    /// Checks a row that is read back from the log.
    fn read(&mut self, lane: u64, at_least: u64, read: &LoggedRow<'_>) {
        let said = row::read(read.record.key, read.record.value).map(|(row, _)| row);
        let kept = self.rows.get(&(lane, read.number)).copied();
        let over = |kept: &Kept| kept.ended.is_some_and(|(_, group)| group <= self.durable);
        if read.number < at_least || kept.is_none_or(|kept| Some(kept.row) != said || over(&kept)) {
            self.fails(|| format!("number {} of lane {lane} is read as {said:?}, and is {kept:?}", read.number));
        }
    }

    /// Notes an end of the process while these rows are on their way to the dead letters and other rows of their keys
    /// have gone on: the next process sends them once more, if the log has them.
    pub(in crate::sim) fn being_dead_lettered(&mut self, places: Vec<Place>) {
        self.loose.extend(places.iter().filter_map(|place| self.rows.get(place)).map(|kept| kept.row));
    }

    /// Checks a crash. `found`: the rows that the log has, by lane and number. Returns the rows that are gone with nothing known of
    /// their end. `saved`: the process had stopped in order.
    pub(in crate::sim) fn crashed(
        &mut self,
        restored: &Restored,
        found: &BTreeMap<Place, u32>,
        saved: bool,
    ) -> BTreeSet<u32> {
        let (durable, mut gone) = (self.durable, BTreeSet::new());
        for (place, row) in found {
            let known = self.rows.get(place).map(|kept| kept.row).or_else(|| self.given_up.get(place).copied());
            if known != Some(*row) {
                self.fails(|| format!("{place:?} is row {row} after the crash, and was none"));
            }
        }
        for (place, mut kept) in std::mem::take(&mut self.rows) {
            let outlives = self.outlive(kept.sink, saved);
            let over = kept.ended.is_some_and(|(_, group)| group <= durable);
            match found.contains_key(&place) {
                // Rows of this sink do not outlive the process.
                true if self.keeps.get(kept.sink) == Some(&Keep::Hybrid) && !restored.has(place.0) => {
                    self.given_up.insert(place, kept.row);
                    gone.insert(kept.row);
                }
                true if over => self.fails(|| format!("{place:?} was over, and is back: {kept:?}")),
                true => {
                    // The row may have been refused and on its way to the dead letters: other rows of its key went on.
                    if kept.was_cut && kept.cut.is_none() && self.letters[kept.sink] {
                        self.loose.insert(kept.row);
                    }
                    (kept.group, kept.ended, kept.cut) = (0, None, None);
                    self.fates.remove(&kept.row);
                    self.dropped.remove(&kept.row);
                    self.places.insert(kept.row, place);
                    self.rows.insert(place, kept);
                }
                false if kept.ended.is_some() => {
                    // The row expired or was dead-lettered before it was durable: its existence is forgotten, and its
                    // repeat counts as the first.
                    if kept.group > durable && matches!(kept.ended, Some((Fate::Expired | Fate::DeadLettered, _))) {
                        self.fates.remove(&kept.row);
                    }
                }
                false if outlives && kept.group <= durable => {
                    self.fails(|| format!("{place:?} was durable, and is gone: {kept:?}"));
                }
                false => drop(gone.insert(kept.row)),
            }
        }
        let rows = &self.rows;
        self.places.retain(|_, place| rows.contains_key(place));
        self.cuts_after(restored, saved);
        // The number of a lane that nothing durable names may be reused.
        self.lanes.retain(|number, _| restored.lanes.iter().any(|lane| lane.lane == *number));
        self.durable = 0;
        gone
    }

    fn cuts_after(&mut self, restored: &Restored, saved: bool) {
        let durable = self.durable;
        for cut in &restored.cuts {
            if self.cuts.get(&cut.cut).is_none_or(|other| other.said != *cut) {
                self.fails(|| format!("{cut:?} was never taken"));
            }
        }
        for (number, mut cut) in std::mem::take(&mut self.cuts) {
            let back = restored.cuts.iter().any(|other| other.cut == number);
            let over = cut.ended.is_some_and(|group| group <= durable);
            let must = cut.ended.is_none() && cut.group <= durable && self.outlive(cut.sink, saved);
            if back && over || !back && must {
                self.fails(|| format!("back: {back}, over: {over}: {cut:?}"));
            }
            if back {
                (cut.group, cut.ended) = (0, None);
                for number in cut.said.rows.iter().flat_map(|run| run.first..run.end()) {
                    if let Some(kept) = self.rows.get_mut(&(cut.said.lane, number)) {
                        kept.cut = Some(cut.said.cut);
                    }
                }
                self.cuts.insert(number, cut);
            }
        }
        let cuts = &self.cuts;
        self.identities.retain(|_, cut| cuts.contains_key(cut));
    }
}

/// A watched log.
pub(in crate::sim) struct Watched<'a> {
    pub(in crate::sim) log: &'a mut dyn RowLog,
    pub(in crate::sim) told: &'a mut Told,
    pub(in crate::sim) now: Monotonic,
}

impl RowLog for Watched<'_> {
    fn lane(&mut self, sink: SinkId, topic: &str, partition: i32, of: Known<'_>) -> Result<u64, NotNow> {
        let lane = self.log.lane(sink, topic, partition, of)?;
        let name = (usize::from(sink.0), topic.to_owned(), partition);
        let before = self.told.lanes.insert(lane, name.clone());
        if before.as_ref().is_some_and(|before| *before != name) {
            self.told.fails(|| format!("lane {lane} is {before:?} and {name:?}"));
        }
        Ok(lane)
    }

    fn rows(&mut self, rows: &NewRows<'_>) -> Result<u64, NotNow> {
        let first = self.log.rows(rows)?;
        digest::rows(rows, self.now);
        self.told.keep(rows.lane, first, self.log.group(), rows);
        Ok(first)
    }

    fn all_written(&mut self) {
        self.log.all_written();
    }

    fn cut(&mut self, cut: &NewCut<'_>) -> Result<TakenCut, NotNow> {
        let taken = self.log.cut(cut)?;
        digest::cut(cut, self.now);
        self.told.cut(cut, taken);
        Ok(taken)
    }

    fn ended(&mut self, ended: &Ended<'_>) -> Result<(), NotNow> {
        self.log.ended(ended)?;
        digest::ended(ended, self.now);
        self.told.ended(ended, self.log.group(), self.now);
        Ok(())
    }

    fn group(&self) -> u64 {
        self.log.group()
    }

    fn durable(&self) -> u64 {
        self.log.durable()
    }

    fn read(&mut self, lane: u64, from: u64, end: u64, take: &mut dyn FnMut(LoggedRow<'_>) -> bool) -> ReadBack {
        let (told, mut at_least) = (&mut *self.told, from);
        let read = self.log.read(lane, from, end, &mut |row| {
            told.read(lane, at_least, &row);
            at_least = row.number + 1;
            take(row)
        });
        if let ReadBack::Rotten(run) = read {
            self.told.fails(|| format!("{run:?} of lane {lane} cannot be read"));
        }
        read
    }

    fn owed(&mut self, lane: u64, rows: RowRun, take: &mut dyn FnMut(Ticket)) {
        self.log.owed(lane, rows, take);
    }
}
