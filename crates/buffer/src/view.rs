//! The buffer as the producer of one cluster uses it.

use super::core::Buffer;
use forebay_kafka::producer::Keep;
use forebay_kafka::producer::row_log::{
    Ended, Fate, Known, LoggedRow, NO_BATCH, NewCut, NewRows, NotNow, ReadBack, RowLog, RowRun, TakenCut,
};
use forebay_kafka::types::{SinkId, Ticket};
use forebay_runtime::seam::Monotonic;
use forebay_spool::{self as spool, Deadline, Disk, Read, ReadError, Reason, Refused};

/// The buffer of one cluster's producer.
#[derive(Debug)]
pub struct View<'a, D> {
    pub(super) buffer: &'a mut Buffer,
    pub(super) disk: &'a mut D,
    pub(super) cluster: usize,
}

/// Lists in the log's format, reused.
#[derive(Debug, Default)]
pub(super) struct Lists {
    deadlines: Vec<(u32, Deadline)>,
}

/// Converts a refusal by the log. A producer that keeps its rules is only refused for now: whether there is room at all
/// was checked before the row was taken.
fn not_now(refused: Refused) -> NotNow {
    debug_assert!(!matches!(refused, Refused::Unknown | Refused::TooLarge), "{refused}");
    NotNow
}

impl<D: Disk> RowLog for View<'_, D> {
    fn lane(&mut self, sink: SinkId, topic: &str, partition: i32, of: Known<'_>) -> Result<u64, NotNow> {
        let buffer = &mut *self.buffer;
        let place = usize::from(sink.0);
        let logged = buffer.logged.get(self.cluster).and_then(|sinks| sinks.get(place));
        let terms = buffer.settings.clusters.get(self.cluster).and_then(|sinks| sinks.get(place));
        let volatile = terms.is_some_and(|terms| terms.keep == Keep::Hybrid);
        let lane = buffer.log.lane(*logged.ok_or(NotNow)?, topic, partition, volatile).map_err(not_now)?;
        buffer.lanes.insert(lane, (self.cluster, sink));
        // Rows without a partition have no incarnation.
        if partition >= 0 {
            buffer.log.incarnation(lane, &of).map_err(not_now)?;
        }
        Ok(lane)
    }

    fn rows(&mut self, rows: &NewRows<'_>) -> Result<u64, NotNow> {
        let buffer = &mut *self.buffer;
        // A session's row must follow the session's record, and a row with a packet id must follow the last release of
        // the id.
        if !buffer.waiting.is_empty() {
            return Err(NotNow);
        }
        let lists = &mut buffer.lists;
        lists.deadlines.clear();
        for (row, expires) in rows.deadlines {
            let (wall_ms, left_ms) = buffer.clock.written(*expires);
            lists.deadlines.push((*row, Deadline { wall_ms, left_ms }));
        }
        let new = spool::NewRows {
            lane: rows.lane,
            records: rows.records,
            base_timestamp: rows.base_timestamp,
            count: rows.count,
            origins: rows.origins,
            deadlines: &lists.deadlines,
            hashes: rows.hashes,
            from: rows.from,
        };
        let first = buffer.log.rows(&new);
        buffer.room.too_many = matches!(first, Err(Refused::TooMany)).then_some(self.cluster);
        let first = first.map_err(not_now)?;
        buffer.kept(rows.lane, u64::from(rows.count), rows.records.len() as u64);
        Ok(first)
    }

    fn all_written(&mut self) {
        self.buffer.room.all_written(self.cluster);
    }

    fn cut(&mut self, cut: &NewCut<'_>) -> Result<TakenCut, NotNow> {
        let buffer = &mut *self.buffer;
        let sink = buffer.logged_of(cut.lane).ok_or(NotNow)?;
        let rows = cut.rows.iter().map(|run| run.count).sum();
        if !buffer.may_cut(sink, cut.producer_id, rows) {
            return Err(NotNow);
        }
        let new = spool::NewCut {
            lane: cut.lane,
            incarnation: buffer.log.incarnation(cut.lane, &cut.of).map_err(not_now)?,
            partition: cut.partition,
            producer_id: cut.producer_id,
            epoch: cut.epoch,
            sequence: cut.sequence,
            timeless: cut.timeless,
            rows: cut.rows,
        };
        let (number, group) = buffer.log.cut(&new).map_err(not_now)?;
        if cut.producer_id != NO_BATCH {
            buffer.cut_rows.opened(number, sink, rows);
        }
        Ok(TakenCut { cut: number, group })
    }

    fn ended(&mut self, ended: &Ended<'_>) -> Result<(), NotNow> {
        let buffer = &mut *self.buffer;
        let reason = match ended.fate {
            Fate::Done { .. } => Reason::Placed,
            Fate::Refused => Reason::Refused,
            Fate::DeadLettered => Reason::DeadLettered,
            Fate::Expired => Reason::Expired,
            Fate::Rotten => Reason::Rotten,
            Fate::Void => Reason::Void,
        };
        let (lane, rows) = (ended.lane, ended.rows);
        // The reader of the rows found the damage, and reports it only here.
        if ended.cut.is_none() && ended.fate == Fate::Rotten {
            buffer.log.end_rows(lane, rows, reason).map_err(not_now)?;
            rows.iter().for_each(|run| buffer.log.note_unreadable(lane, *run));
            return Ok(());
        }
        let taken = match (ended.cut, ended.fate) {
            (Some(cut), Fate::Done { base_offset }) => buffer.log.done(cut, lane, rows, base_offset),
            (Some(cut), _) => buffer.log.end_cut(cut, lane, rows, reason),
            (None, _) => buffer.log.end_rows(lane, rows, reason),
        };
        taken.map_err(not_now)?;
        ended.cut.into_iter().for_each(|cut| buffer.cut_rows.closed(cut));
        Ok(())
    }

    fn group(&self) -> u64 {
        self.buffer.group()
    }

    fn durable(&self) -> u64 {
        self.buffer.durable()
    }

    fn read(&mut self, lane: u64, from: u64, end: u64, take: &mut dyn FnMut(LoggedRow<'_>) -> bool) -> ReadBack {
        let owes = self.buffer.owes(lane);
        let Buffer { log, clock, tickets, wants_turn, .. } = &mut *self.buffer;
        // Rows that are not on disk yet are not gone; rows of a forgotten lane are.
        let gone = if log.state().was_lane(lane) { u64::MAX } else { 0 };
        let synced = log.state().lane(lane).map_or(gone, |lane| lane.next);
        // The row that a failed read is about: lower numbers may be unused.
        let first = log.state().lane(lane).and_then(|lane| lane.seek(from)).map_or(from, |span| span.run.first);
        let read = match log.read(self.disk, lane, from, end.min(synced)) {
            Err(ReadError::Later) => return ReadBack::Later,
            // The disk is unavailable, for an unknown time: no rows are given up for that.
            Err(ReadError::Failed) if first < end => {
                *wants_turn = true;
                return ReadBack::Later;
            }
            Err(_) => return ReadBack::Rotten(RowRun { first, count: 1 }),
            Ok(read) => read,
        };
        match read {
            Read::Empty if synced < end => ReadBack::Later,
            Read::Empty => ReadBack::Empty,
            Read::Rotten(run) => ReadBack::Rotten(run),
            Read::Block(block) => {
                for row in block.rows() {
                    let expires = row.deadline.map_or(Monotonic::NEVER, |at| clock.read(at.wall_ms, at.left_ms));
                    let ticket = row.origin.filter(|_| owes).and_then(|_| tickets.get(&(lane, row.number)).copied());
                    let row = LoggedRow { number: row.number, record: row.record, expires, hash: row.hash, ticket };
                    if !take(row) {
                        break;
                    }
                }
                ReadBack::Rows
            }
        }
    }

    fn owed(&mut self, lane: u64, rows: RowRun, take: &mut dyn FnMut(Ticket)) {
        self.buffer.owed(lane, rows).into_iter().for_each(take);
    }
}

impl Buffer {
    /// Accounts for rows of a lane that were written, with `bytes` bytes of records.
    fn kept(&mut self, lane: u64, rows: u64, bytes: u64) {
        let group = self.group();
        self.numbers.rows += rows;
        match self.unsynced.back_mut() {
            Some((last, count)) if *last == group => *count += rows,
            _ => self.unsynced.push_back((group, rows)),
        }
        if let Some((cluster, sink)) = self.lanes.get(&lane) {
            self.room.kept(*cluster, usize::from(sink.0), rows, bytes);
        }
    }
}
