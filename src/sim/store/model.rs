//! A log that only keeps its promises: groups, durability, and the state after a crash. It has no bytes and no disk: its
//! failures are the producer's.

use std::collections::BTreeMap;
use std::time::Duration;

use super::Restored;
use crate::kafka::producer::row_log::{
    Ended, Fate, Known, LoggedRow, NewCut, NewRows, NotNow, ReadBack, RestoredCut, RestoredLane, RowLog, RowRun,
    TakenCut,
};
use crate::kafka::types::{SinkId, Ticket};
use crate::record::{BatchView, Builder, Records};
use crate::runtime::seam::Monotonic;
use crate::sim::row;

#[derive(Clone, Debug)]
struct Kept {
    /// A batch with this row alone.
    batch: Vec<u8>,
    expires: Monotonic,
    hash: Option<u32>,
    /// Order among all rows.
    order: u64,
}

#[derive(Clone, Debug)]
enum Item {
    Lane(u64, (SinkId, String, i32)),
    Rows(u64, u64, Vec<Kept>),
    Cut(RestoredCut),
    Ended(Option<u64>, u64, Vec<RowRun>, Fate),
}

/// The effect of a group's items.
#[derive(Clone, Debug, Default)]
struct State {
    lanes: BTreeMap<u64, (SinkId, String, i32)>,
    next: BTreeMap<u64, u64>,
    rows: BTreeMap<(u64, u64), Kept>,
    cuts: BTreeMap<u64, RestoredCut>,
    next_cut: u64,
    written: u64,
}

impl State {
    fn apply(&mut self, item: Item) {
        match item {
            Item::Lane(lane, name) => drop(self.lanes.insert(lane, name)),
            Item::Rows(lane, first, rows) => {
                self.next.insert(lane, first + rows.len() as u64);
                self.written += rows.len() as u64;
                self.rows.extend((first..).zip(rows).map(|(number, row)| ((lane, number), row)));
            }
            Item::Cut(cut) => {
                self.next_cut = cut.cut + 1;
                self.cuts.insert(cut.cut, cut);
            }
            Item::Ended(cut, lane, rows, fate) => {
                cut.map(|cut| self.cuts.remove(&cut));
                for number in rows.iter().flat_map(|run| run.first..run.end()).filter(|_| fate != Fate::Void) {
                    self.rows.remove(&(lane, number));
                }
            }
        }
    }
}

/// A log that only keeps its promises.
#[derive(Debug, Default)]
pub(in crate::sim) struct Model {
    durable: State,
    /// The state with all items that were taken.
    ahead: State,
    gathering: Vec<Item>,
    group: u64,
    under_way: Option<(Monotonic, Vec<Item>)>,
    group_max: usize,
}

impl Model {
    pub(super) fn new(group_max: usize) -> Self {
        Self { group: 1, group_max, ..Self::default() }
    }

    fn put(&mut self, item: Item) -> Result<(), NotNow> {
        if self.gathering.len() >= self.group_max {
            return Err(NotNow);
        }
        self.ahead.apply(item.clone());
        self.gathering.push(item);
        Ok(())
    }

    pub(super) fn flush(&mut self, now: Monotonic, takes: Duration) {
        if self.under_way.is_none() && !self.gathering.is_empty() {
            self.under_way = Some((now.after(takes), std::mem::take(&mut self.gathering)));
            self.group += 1;
        }
    }

    pub(super) fn answer(&mut self, now: Monotonic) -> bool {
        let Some((_, items)) = self.under_way.take_if(|(at, _)| *at <= now) else { return false };
        items.into_iter().for_each(|item| self.durable.apply(item));
        true
    }

    pub(super) fn next_deadline(&self) -> Option<Monotonic> {
        self.under_way.as_ref().map(|(at, _)| *at)
    }

    pub(super) fn is_idle(&self) -> bool {
        self.under_way.is_none() && self.gathering.is_empty()
    }

    /// Rows that are durable, by lane and number.
    pub(super) fn found(&self) -> BTreeMap<(u64, u64), u32> {
        let row = |kept: &Kept| {
            let view = BatchView::parse(&kept.batch).expect("a batch").0;
            let record = view.records().expect("records").next().expect("one").expect("whole");
            row::read(record.key, record.value).expect("a row, whole").0
        };
        self.durable.rows.iter().map(|(place, kept)| (*place, row(kept))).collect()
    }

    pub(super) fn crash(&mut self, rng: &mut fastrand::Rng) -> Restored {
        let under_way = self.under_way.take();
        if let Some((_, items)) = under_way.filter(|_| rng.bool()) {
            items.into_iter().for_each(|item| self.durable.apply(item));
        }
        let durable = std::mem::take(&mut self.durable);
        let restored = restored(&durable);
        *self = Self { ahead: durable.clone(), durable, group: 1, group_max: self.group_max, ..Self::default() };
        restored
    }
}

fn restored(state: &State) -> Restored {
    let mut lanes: BTreeMap<u64, RestoredLane> = BTreeMap::new();
    for ((lane, number), row) in &state.rows {
        let (lane, number) = (*lane, *number);
        let (sink, topic, partition) = state.lanes[&lane].clone();
        let fresh = RestoredLane {
            sink,
            topic,
            partition,
            cluster: String::new(),
            topic_id: 0,
            partitions: 0,
            landed: None,
            lane,
            first: number,
            end: 0,
            rows: 0,
            order: row.order,
        };
        let at = lanes.entry(lane).or_insert(fresh);
        (at.end, at.rows) = (number + 1, at.rows + 1);
    }
    Restored {
        lanes: lanes.into_values().collect(),
        cuts: state.cuts.values().cloned().collect(),
        sessions: Vec::new(),
    }
}

impl RowLog for Model {
    fn lane(&mut self, sink: SinkId, topic: &str, partition: i32, _: Known<'_>) -> Result<u64, NotNow> {
        let name = (sink, topic.to_owned(), partition);
        if let Some((lane, _)) = self.ahead.lanes.iter().find(|(_, of)| **of == name) {
            return Ok(*lane);
        }
        let lane = self.ahead.lanes.last_key_value().map_or(0, |(last, _)| last + 1);
        self.put(Item::Lane(lane, name)).map(|()| lane)
    }

    fn rows(&mut self, new: &NewRows<'_>) -> Result<u64, NotNow> {
        let first = self.ahead.next.get(&new.lane).copied().unwrap_or(0).max(new.from);
        let records = Records::new(new.records, new.count as i32, new.base_timestamp);
        let of = |index: u32, (at, _): &(u32, Monotonic)| *at == index;
        let written = self.ahead.written;
        let kept = |(index, record): (u32, crate::record::Record<'_>)| {
            let mut builder = Builder::new(Vec::new());
            builder.append_tail(record.timestamp, record.tail);
            Kept {
                batch: builder.close(None),
                expires: new.deadlines.iter().find(|at| of(index, at)).map_or(Monotonic::NEVER, |(_, at)| *at),
                order: written + u64::from(index),
                hash: new.hashes.iter().find(|(at, _)| *at == index).map(|(_, hash)| *hash),
            }
        };
        let rows: Vec<Kept> = (0..).zip(records.map(|record| record.expect("a record"))).map(kept).collect();
        assert_eq!(rows.len(), new.count as usize, "rows of a lane");
        self.put(Item::Rows(new.lane, first, rows)).map(|()| first)
    }

    fn all_written(&mut self) {}

    fn cut(&mut self, new: &NewCut<'_>) -> Result<TakenCut, NotNow> {
        let cut = self.ahead.next_cut;
        let NewCut { of, partition, producer_id, epoch, sequence, timeless, lane, .. } = *new;
        let rows = new.rows.to_vec();
        let kept = RestoredCut {
            cut,
            cluster: String::new(),
            topic_id: of.topic_id,
            partition,
            producer_id,
            epoch,
            sequence,
            timeless,
            lane,
            rows,
        };
        self.put(Item::Cut(kept)).map(|()| TakenCut { cut, group: self.group })
    }

    fn ended(&mut self, ended: &Ended<'_>) -> Result<(), NotNow> {
        self.put(Item::Ended(ended.cut, ended.lane, ended.rows.to_vec(), ended.fate))
    }

    fn group(&self) -> u64 {
        self.group
    }

    fn durable(&self) -> u64 {
        // Neither the group that is being gathered nor the one under way is durable.
        self.group - 1 - u64::from(self.under_way.is_some())
    }

    fn read(&mut self, lane: u64, from: u64, end: u64, take: &mut dyn FnMut(LoggedRow<'_>) -> bool) -> ReadBack {
        let Some(((_, mut next), _)) = self.ahead.rows.range((lane, from)..(lane, end)).next().map(|(k, v)| (*k, v))
        else {
            return ReadBack::Empty;
        };
        if !self.durable.rows.contains_key(&(lane, next)) {
            return ReadBack::Later;
        }
        while let Some(row) = self.durable.rows.get(&(lane, next)).filter(|_| next < end) {
            let view = BatchView::parse(&row.batch).expect("a batch").0;
            let record = view.records().expect("records").next().expect("one").expect("whole");
            let logged = LoggedRow { number: next, record, expires: row.expires, hash: row.hash, ticket: None };
            if !take(logged) {
                break;
            }
            next += 1;
        }
        ReadBack::Rows
    }

    fn owed(&mut self, _: u64, _: RowRun, _: &mut dyn FnMut(Ticket)) {}
}
