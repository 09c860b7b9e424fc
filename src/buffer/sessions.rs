//! What is kept of sessions: each with its number, its end, and the packet ids that are free again. A record that the
//! group being gathered has no place for goes into the next one, in order; its group is known at once, so that who waits
//! for it need not ask again.

use std::collections::VecDeque;

use super::core::Buffer;
use super::room::SpoolFull;
use crate::kafka::producer::AnsweredOn;
use crate::kafka::producer::row_log::{Origin, RowRun};
use crate::kafka::types::Ticket;

/// A session that is kept from the moment its group is durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoredSession {
    /// The record's number.
    pub number: u64,
    /// The group it stands in.
    pub group: u64,
}

/// What is written of a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Record {
    Kept { number: u64, payload: Box<[u8]> },
    Ended { number: u64 },
    Released { number: u64, packet_id: u16 },
}

/// Bytes of a record, and more.
pub(super) const RECORD_BYTES: u64 = 64;

impl Record {
    fn bytes(&self) -> u64 {
        match self {
            Self::Kept { payload, .. } => RECORD_BYTES + payload.len() as u64,
            Self::Ended { .. } | Self::Released { .. } => RECORD_BYTES,
        }
    }
}

impl Record {
    /// What has to find room beside rows: sessions, and their bytes.
    fn session(&self) -> (u64, u64) {
        if matches!(self, Self::Kept { .. }) { (1, self.bytes()) } else { (0, 0) }
    }
}

/// Records that wait for a later group.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    records: VecDeque<(u64, Record)>,
    /// Bytes of those for the last group among them.
    bytes: u64,
    /// Sessions among them, and their bytes.
    sessions: (u64, u64),
    /// The next record waits for the group behind this one, whatever room there is.
    behind: u64,
    /// Records that found no room in their own group: the oldest of such groups, and the one that they stand in by now.
    late: Option<(u64, u64)>,
}

impl Waiting {
    /// Whether there is none.
    pub(super) fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// Sessions among them, and their bytes.
    pub(super) const fn sessions(&self) -> (u64, u64) {
        self.sessions
    }

    /// The oldest group that one of them was to stand in.
    pub(super) fn first(&self) -> Option<u64> {
        self.records.front().map(|(group, _)| *group)
    }

    /// Up to which group all is durable that was to be, if the log's is durable up to this one.
    pub(super) fn durable(&self, log: u64) -> u64 {
        let late = self.late.filter(|(_, stands_in)| *stands_in > log).map(|(group, _)| group);
        self.first().into_iter().chain(late).fold(log, |durable, missing| durable.min(missing - 1))
    }
}

impl Buffer {
    /// Keeps a session: a new one (`None`), or one that is there, with what is known of it now. It is kept when its
    /// group is durable.
    ///
    /// # Errors
    /// There is no room for one more; or it is larger than a group takes, and would hold up all later ones.
    pub fn keep_session(&mut self, number: Option<u64>, payload: &[u8]) -> Result<StoredSession, SpoolFull> {
        let is_too_large = self.log.has_place(RECORD_BYTES + payload.len() as u64).is_none();
        if is_too_large || payload.len() > self.session_room() {
            return Err(SpoolFull::Whole);
        }
        let number = number.unwrap_or_else(|| {
            let next = self.next_session;
            self.next_session += 1;
            next
        });
        let group = self.record(Record::Kept { number, payload: payload.into() });
        Ok(StoredSession { number, group })
    }

    /// A session has ended, and its open packet ids with it. The group in which that stands.
    pub fn end_session(&mut self, number: u64) -> u64 {
        let all = Origin { session: number, packet_id: 0 }..=Origin { session: number, packet_id: u16::MAX };
        while let Some((origin, _)) = self.awaited.range(all.clone()).next() {
            let origin = *origin;
            self.await_no_more(origin);
        }
        self.record(Record::Ended { number })
    }

    /// The group that is being gathered, which is written even if nothing else stands in it.
    pub fn beat(&mut self) -> u64 {
        self.log.beat()
    }

    /// Ends a record of an earlier process that cannot be read, or that belongs to nothing that can; a damaged one
    /// sets its segment aside.
    pub fn lose(&mut self, number: u64, is_damaged: bool) {
        if is_damaged {
            self.log.set_aside(number);
        }
        self.end_session(number);
    }

    /// The place of a record of an earlier process: segment and position.
    #[must_use]
    pub fn place_of(&self, number: u64) -> Option<(u64, u64)> {
        self.log.state().place_of(number)
    }

    /// A packet id of a session is free again: what tells the client so waits for this group.
    pub fn release(&mut self, number: u64, packet_id: u16) -> u64 {
        self.await_no_more(Origin { session: number, packet_id });
        self.record(Record::Released { number, packet_id })
    }

    /// Notes the ticket that waits for the rows of an open packet id that an earlier process has left
    /// ([`super::RestoredRow::is_live`]): they come back with it.
    pub fn await_row(&mut self, number: u64, packet_id: u16, ticket: Ticket) {
        let mut open = self.log.state().open_ids_of(number);
        let rows = open.find(|(id, _)| *id == packet_id).map_or(&[][..], |(_, rows)| rows);
        self.tickets.extend(rows.iter().map(|row| (*row, ticket)));
        self.awaited.insert(Origin { session: number, packet_id }, rows.into());
    }

    fn await_no_more(&mut self, origin: Origin) {
        for row in self.awaited.remove(&origin).into_iter().flatten() {
            self.tickets.remove(&row);
        }
    }

    /// Takes out the tickets that wait for such rows of a lane, of an earlier process, if its sink owes any answer.
    pub fn owed(&mut self, lane: u64, rows: RowRun) -> Vec<Ticket> {
        if !self.owes(lane) {
            return Vec::new();
        }
        let of: Vec<(u64, u64)> =
            self.tickets.range((lane, rows.first)..(lane, rows.end())).map(|(row, _)| *row).collect();
        of.iter().filter_map(|row| self.tickets.remove(row)).collect()
    }

    /// Whether rows of a lane owe an answer though they are in the log: not at its own level.
    pub(super) fn owes(&self, lane: u64) -> bool {
        let of = self.lanes.get(&lane).and_then(|(cluster, sink)| self.terms(*cluster, *sink));
        of.is_some_and(|terms| terms.answered_on == AnsweredOn::Replicated)
    }

    /// Puts the next `records` records, with `payloads` bytes of payload in total, into one group if a group has room
    /// for them: after a crash all of them are there, or none.
    pub fn keep_together(&mut self, records: usize, payloads: usize) {
        let (bytes, most) = (records as u64 * RECORD_BYTES + payloads as u64, self.settings.log.segment_bytes / 8);
        let Some(has_place) = self.log.has_place(bytes) else { return };
        if self.waiting.is_empty() {
            self.waiting.behind = if has_place { 0 } else { self.log.group() };
        } else if self.waiting.bytes + bytes > most {
            // The next one begins another group.
            self.waiting.bytes = most;
        }
    }

    fn record(&mut self, record: Record) -> u64 {
        let is_behind = std::mem::take(&mut self.waiting.behind) == self.log.group();
        if self.waiting.records.is_empty() && !is_behind && self.put_record(&record) {
            return self.log.group();
        }
        let (last, bytes) = (self.waiting.records.back().map(|(group, _)| *group), record.bytes());
        let group = match last {
            Some(last) if self.waiting.bytes + bytes <= self.settings.log.segment_bytes / 8 => {
                self.waiting.bytes += bytes;
                last
            }
            _ => {
                self.waiting.bytes = bytes;
                last.unwrap_or_else(|| self.log.group()) + 1
            }
        };
        let (sessions, bytes) = &mut self.waiting.sessions;
        (*sessions, *bytes) = (*sessions + record.session().0, *bytes + record.session().1);
        self.waiting.records.push_back((group, record));
        group
    }

    /// Puts the waiting records first into the new group that is being gathered.
    pub(super) fn put_waiting(&mut self) {
        while let Some((group, record)) = self.waiting.records.pop_front() {
            if group > self.log.group() || !self.put_record(&record) {
                self.waiting.records.push_front((group, record));
                return;
            }
            let (sessions, bytes) = &mut self.waiting.sessions;
            (*sessions, *bytes) = (*sessions - record.session().0, *bytes - record.session().1);
            let here = self.log.group();
            if group < here {
                let still = self.waiting.late.filter(|(_, stands_in)| *stands_in > self.log.durable());
                self.waiting.late = Some((still.map_or(group, |(oldest, _)| oldest.min(group)), here));
            }
        }
    }
}
