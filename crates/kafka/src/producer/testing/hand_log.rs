//! A log in memory: groups become durable under the test's control, a crash keeps the durable ones. It checks the producer's part:
//! rows of a cut live and are in no other; no sixth cut of a partition, none of another identity beside an open one; every row and
//! every cut ends once.

use std::collections::BTreeMap;
use std::rc::Rc;

use crate::producer::row_log::{
    Ended, Fate, Known, LoggedRow, NO_BATCH, NewCut, NewRows, NotNow, ReadBack, RestoredCut, RestoredLane, RowLog,
    RowRun, TakenCut,
};
use crate::types::{SinkId, Ticket};
use forebay_record::{Builder, Records};
use forebay_runtime::seam::Monotonic;

#[derive(Clone, Debug)]
pub struct Kept {
    pub bytes: Rc<[u8]>,
    pub expires: Monotonic,
    pub hash: Option<u32>,
    /// The row's cut.
    pub cut: Option<u64>,
    pub order: u64,
}

#[derive(Clone, Debug, Default)]
pub struct State {
    pub lanes: Vec<(SinkId, String, i32)>,
    pub next: Vec<u64>,
    /// Cluster, topic id and partitions of each topic, if they are kept.
    pub known: BTreeMap<(SinkId, String), (String, u128, u32)>,
    pub live: BTreeMap<(u64, u64), Kept>,
    pub cuts: BTreeMap<u64, (RestoredCut, SinkId, String)>,
    pub ended: BTreeMap<(u64, u64), Fate>,
    pub taken: u64,
    next_cut: u64,
}

#[derive(Clone, Debug, Default)]
pub struct HandLog {
    pub state: State,
    /// The state at the end of each group that is not durable yet.
    groups: BTreeMap<u64, State>,
    synced: State,
    gathering: u64,
    pub durable: u64,
    /// Number of calls that are still taken; `None`: all.
    pub takes: Option<u32>,
    /// Whether ends of rows without a cut are refused.
    pub no_row_ends: bool,
    /// Number of reads that are postponed.
    pub later: u32,
    /// Number of reads that are still answered; `None`: all.
    pub reads: Option<u32>,
    /// Rows with unreadable bytes.
    pub rotten: Vec<(u64, u64)>,
    /// Number of rows read back.
    pub read: u64,
    pub dones: Vec<(u64, i64)>,
    /// Whether the next process finds the offset of the last acknowledged batch.
    pub keeps_landed: bool,
    /// Maximum number of live rows; more are refused. And sinks for which all rows are refused.
    pub rows_max: Option<usize>,
    pub full_of: Vec<SinkId>,
    /// Pending tickets of an earlier process's rows.
    pub tickets: BTreeMap<(u64, u64), Ticket>,
    /// Whether the next process finds the known incarnations of topics.
    pub keeps_known: bool,
    /// The largest total of bytes of rows in one call.
    pub largest: usize,
}

impl HandLog {
    pub fn new() -> Self {
        Self { gathering: 1, ..Self::default() }
    }

    /// Makes everything taken so far durable.
    pub fn sync(&mut self) {
        self.end_group();
        self.durable = self.gathering - 1;
        self.synced = self.state.clone();
        self.groups.clear();
    }

    /// Ends a group with everything taken so far, which is not durable yet.
    pub fn end_group(&mut self) {
        self.groups.insert(self.gathering, self.state.clone());
        self.gathering += 1;
    }

    /// Makes the oldest group durable that is not yet.
    pub fn sync_one(&mut self) {
        if let Some((group, state)) = self.groups.pop_first() {
            (self.durable, self.synced) = (group, state);
        }
    }

    /// The state that the next process finds.
    pub fn crash(self) -> (Self, Vec<RestoredLane>, Vec<RestoredCut>) {
        let state = self.synced;
        let lanes = (0u64..).zip(&state.lanes).filter_map(|(lane, (sink, topic, partition))| {
            let mut live = state.live.range((lane, 0)..=(lane, u64::MAX));
            let rows = live.clone().count() as u64;
            let order = live.clone().map(|(_, kept)| kept.order).min()?;
            let (first, end) = (live.next()?.0.1, live.next_back().map_or(0, |((_, number), _)| number + 1));
            let end = end.max(first + 1);
            let (sink, topic, partition) = (*sink, topic.clone(), *partition);
            let known = state.known.get(&(sink, topic.clone())).filter(|_| partition >= 0 && self.keeps_known).cloned();
            let (cluster, topic_id, partitions) = known.unwrap_or_default();
            let landed =
                self.dones.last().map(|(_, offset)| offset + 1).filter(|_| partition >= 0 && self.keeps_landed);
            Some(RestoredLane {
                sink,
                topic,
                partition,
                cluster,
                topic_id,
                partitions,
                landed,
                lane,
                first,
                end,
                rows,
                order,
            })
        });
        let lanes = lanes.collect();
        let cuts = state.cuts.values().map(|(cut, ..)| cut.clone()).collect();
        (Self { state: state.clone(), synced: state, rotten: self.rotten, ..Self::new() }, lanes, cuts)
    }

    fn take(&mut self) -> Result<(), NotNow> {
        match self.takes.as_mut() {
            Some(0) => Err(NotNow),
            Some(left) => {
                *left -= 1;
                Ok(())
            }
            None => Ok(()),
        }
    }
}

impl RowLog for HandLog {
    fn lane(&mut self, sink: SinkId, topic: &str, partition: i32, of: Known<'_>) -> Result<u64, NotNow> {
        self.take()?;
        if partition >= 0 && of.partitions > 0 {
            let known = (of.cluster.to_owned(), of.topic_id, of.partitions);
            self.state.known.insert((sink, topic.to_owned()), known);
        }
        let name = (sink, topic.to_owned(), partition);
        let known = self.state.lanes.iter().position(|lane| *lane == name);
        Ok(known.unwrap_or_else(|| {
            self.state.lanes.push(name);
            self.state.next.push(0);
            self.state.lanes.len() - 1
        }) as u64)
    }

    fn rows(&mut self, rows: &NewRows<'_>) -> Result<u64, NotNow> {
        self.take()?;
        assert!(rows.count > 0);
        let live = self.state.live.len() + rows.count as usize;
        if self.rows_max.is_some_and(|max| live > max) || self.full_of.contains(&self.state.lanes[rows.lane as usize].0)
        {
            return Err(NotNow);
        }
        let lists = 14 * rows.origins.len() + 20 * rows.deadlines.len() + 8 * rows.hashes.len();
        self.largest = self.largest.max(rows.records.len() + lists);
        let first = self.state.next[rows.lane as usize].max(rows.from);
        let records = Records::new(rows.records, rows.count as i32, rows.base_timestamp);
        let records: Vec<_> = records.map(|record| record.expect("a record")).collect();
        assert_eq!(records.len(), rows.count as usize);
        for (index, record) in (0u32..).zip(records) {
            let mut builder = Builder::new(Vec::new());
            builder.append_tail(record.timestamp, record.tail);
            let at = |list: &[(u32, u32)]| list.iter().find(|(row, _)| *row == index).map(|(_, hash)| *hash);
            self.state.taken += 1;
            let kept = Kept {
                bytes: builder.close(None).into(),
                expires: rows.deadlines.iter().find(|(row, _)| *row == index).map_or(Monotonic::NEVER, |(_, at)| *at),
                hash: at(rows.hashes),
                cut: None,
                order: self.state.taken,
            };
            self.state.live.insert((rows.lane, first + u64::from(index)), kept);
        }
        self.state.next[rows.lane as usize] = first + u64::from(rows.count);
        Ok(first)
    }

    fn all_written(&mut self) {}

    fn cut(&mut self, cut: &NewCut<'_>) -> Result<TakenCut, NotNow> {
        self.take()?;
        let number = self.state.next_cut;
        self.state.next_cut += 1;
        let same = |other: &&(RestoredCut, SinkId, String)| {
            (other.0.partition, other.1, &*other.2) == (cut.partition, cut.sink, cut.topic) && other.0.is_batch()
        };
        let is_batch = cut.producer_id != NO_BATCH;
        let open: Vec<_> = self.state.cuts.values().filter(same).filter(|_| is_batch).collect();
        assert!(open.len() < 5, "a sixth cut");
        for (other, ..) in open {
            assert_eq!((other.producer_id, other.epoch), (cut.producer_id, cut.epoch), "two identities");
        }
        for row in cut.rows.iter().flat_map(|run| run.first..run.end()) {
            let kept = self.state.live.get_mut(&(cut.lane, row)).expect("a row that lives");
            assert_eq!(kept.cut.replace(number), None, "row {row} in two cuts");
        }
        let rows = cut.rows.to_vec();
        let restored = RestoredCut {
            cut: number,
            cluster: cut.of.cluster.to_owned(),
            topic_id: cut.of.topic_id,
            partition: cut.partition,
            producer_id: cut.producer_id,
            epoch: cut.epoch,
            sequence: cut.sequence,
            timeless: cut.timeless,
            lane: cut.lane,
            rows,
        };
        self.state.cuts.insert(number, (restored, cut.sink, cut.topic.to_owned()));
        Ok(TakenCut { cut: number, group: self.gathering })
    }

    fn ended(&mut self, ended: &Ended<'_>) -> Result<(), NotNow> {
        self.take()?;
        if ended.cut.is_none() && self.no_row_ends {
            return Err(NotNow);
        }
        if let Some(cut) = ended.cut {
            let (cut, ..) = self.state.cuts.remove(&cut).expect("an open cut");
            assert_eq!((cut.lane, &*cut.rows), (ended.lane, ended.rows));
            if let Fate::Done { base_offset } = ended.fate {
                self.dones.push((cut.cut, base_offset));
            }
        }
        for row in ended.rows.iter().flat_map(|run| run.first..run.end()) {
            let kept = self.state.live.get_mut(&(ended.lane, row)).expect("a row that lives");
            assert_eq!(kept.cut, ended.cut, "row {row} of lane {} {ended:?}", ended.lane);
            kept.cut = None;
            if ended.fate != Fate::Void {
                self.state.live.remove(&(ended.lane, row));
                self.state.ended.insert((ended.lane, row), ended.fate);
            }
        }
        Ok(())
    }

    fn group(&self) -> u64 {
        self.gathering
    }

    fn durable(&self) -> u64 {
        self.durable
    }

    fn read(&mut self, lane: u64, from: u64, end: u64, take: &mut dyn FnMut(LoggedRow<'_>) -> bool) -> ReadBack {
        if self.later > 0 {
            self.later -= 1;
            return ReadBack::Later;
        }
        match self.reads.as_mut() {
            Some(0) => return ReadBack::Later,
            Some(left) => *left -= 1,
            None => {}
        }
        let mut any = false;
        // A few rows at a time, as with blocks.
        for ((_, number), kept) in self.state.live.range((lane, from)..(lane, end)).take(7) {
            if self.rotten.contains(&(lane, *number)) {
                let rotten = ReadBack::Rotten(RowRun { first: *number, count: 1 });
                return if any { ReadBack::Rows } else { rotten };
            }
            let (view, _) = forebay_record::BatchView::parse(&kept.bytes).expect("a batch");
            let record = view.records().expect("records").next().expect("one").expect("a record");
            let ticket = self.tickets.get(&(lane, *number)).copied();
            let row = LoggedRow { number: *number, record, expires: kept.expires, hash: kept.hash, ticket };
            any = true;
            if !take(row) {
                break;
            }
            self.read += 1;
        }
        if any { ReadBack::Rows } else { ReadBack::Empty }
    }

    fn owed(&mut self, lane: u64, rows: RowRun, take: &mut dyn FnMut(Ticket)) {
        self.tickets.range((lane, rows.first)..(lane, rows.end())).for_each(|(_, ticket)| take(*ticket));
    }
}
