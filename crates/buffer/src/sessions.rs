//! Records of sessions: each session with its number, its end, and the released packet ids. A record that does not fit
//! into the group being gathered goes into the next one, in order; its group is known at once, so that callers waiting
//! for it need not ask again.

use std::collections::VecDeque;

use super::core::Buffer;
use super::room::SpoolFull;
use forebay_kafka::producer::AnsweredOn;
use forebay_kafka::producer::row_log::{Origin, RowRun};
use forebay_kafka::types::Ticket;

/// A session that is kept once its group is durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoredSession {
    /// The record's number.
    pub number: u64,
    /// The group that contains the record.
    pub group: u64,
}

/// A record of a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Record {
    Kept { number: u64, payload: Box<[u8]> },
    Ended { number: u64 },
    Released { number: u64, packet_id: u16 },
}

/// An upper bound of a record's bytes, without payload.
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
    /// The record's share of the room that is needed besides rows: sessions, and their bytes.
    fn session(&self) -> (u64, u64) {
        if matches!(self, Self::Kept { .. }) { (1, self.bytes()) } else { (0, 0) }
    }
}

/// Records that wait for a later group.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    records: VecDeque<(u64, Record)>,
    /// Bytes of the records for the last of their groups.
    bytes: u64,
    /// Sessions among the records, and their bytes.
    sessions: (u64, u64),
    /// The next record waits for the group after this one, whatever room there is.
    behind: u64,
    /// Records that found no room in their own group: the oldest of such groups, and the group that they are in now.
    late: Option<(u64, u64)>,
}

impl Waiting {
    /// Whether no record waits.
    pub(super) fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// Sessions among the waiting records, and their bytes.
    pub(super) const fn sessions(&self) -> (u64, u64) {
        self.sessions
    }

    /// The oldest group for which a waiting record was intended.
    pub(super) fn first(&self) -> Option<u64> {
        self.records.front().map(|(group, _)| *group)
    }

    /// The last group up to which all records are durable, if the log is durable up to `log`.
    pub(super) fn durable(&self, log: u64) -> u64 {
        let late = self.late.filter(|(_, stands_in)| *stands_in > log).map(|(group, _)| group);
        self.first().into_iter().chain(late).fold(log, |durable, missing| durable.min(missing - 1))
    }
}

impl Buffer {
    /// Keeps a session: a new one (`None`), or an existing one with its current state. The session is kept when its
    /// group is durable.
    ///
    /// # Errors
    /// There is no room for another session, or the session is larger than a group takes and would delay all later ones.
    pub fn keep_session(&mut self, number: Option<u64>, payload: &[u8]) -> Result<StoredSession, SpoolFull> {
        self.keep(number, payload, self.session_room())
    }

    /// Keeps the state of copies in the log: positions, the progress of a queue. Sessions leave a part of the log's account to it, and a change of it may use a
    /// segment that is reserved for moves: a full log still gets the ends of copies.
    ///
    /// # Errors
    /// There is no room, or the state is larger than a group takes.
    pub fn keep_state(&mut self, number: Option<u64>, payload: &[u8]) -> Result<StoredSession, SpoolFull> {
        let room = if number.is_some() { self.change_room() } else { self.progress_room() };
        self.keep(number, payload, room)
    }

    fn keep(&mut self, number: Option<u64>, payload: &[u8], room: usize) -> Result<StoredSession, SpoolFull> {
        let is_too_large = self.log.has_place(RECORD_BYTES + payload.len() as u64).is_none();
        if is_too_large || payload.len() > room {
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

    /// Ends a session with its open packet ids. Returns the group of that record.
    pub fn end_session(&mut self, number: u64) -> u64 {
        let all = Origin { session: number, packet_id: 0 }..=Origin { session: number, packet_id: u16::MAX };
        while let Some((origin, _)) = self.awaited.range(all.clone()).next() {
            let origin = *origin;
            self.await_no_more(origin);
        }
        self.record(Record::Ended { number })
    }

    /// Has the group being gathered written even if it contains nothing else. Returns its number.
    pub fn beat(&mut self) -> u64 {
        self.log.beat()
    }

    /// Ends a record of an earlier process that cannot be read, or that belongs to an unreadable one; a damaged record
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

    /// Releases a packet id of a session. The packet that reports this to the client waits for the returned group.
    pub fn release(&mut self, number: u64, packet_id: u16) -> u64 {
        self.await_no_more(Origin { session: number, packet_id });
        self.record(Record::Released { number, packet_id })
    }

    /// Notes the ticket that waits for the rows of an open packet id that an earlier process wrote
    /// ([`super::RestoredRow::is_live`]): [`Buffer::owed`] returns it with those rows.
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

    /// Takes the tickets that wait for these rows of a lane, from an earlier process, if its sink has yet to acknowledge
    /// them.
    pub fn owed(&mut self, lane: u64, rows: RowRun) -> Vec<Ticket> {
        if !self.owes(lane) {
            return Vec::new();
        }
        let of: Vec<(u64, u64)> =
            self.tickets.range((lane, rows.first)..(lane, rows.end())).map(|(row, _)| *row).collect();
        of.iter().filter_map(|row| self.tickets.remove(row)).collect()
    }

    /// Whether rows of a lane are unacknowledged while they are in the log, because their sink acknowledges at Kafka's
    /// level.
    pub(super) fn owes(&self, lane: u64) -> bool {
        let of = self.lanes.get(&lane).and_then(|(cluster, sink)| self.terms(*cluster, *sink));
        of.is_some_and(|terms| terms.answered_on == AnsweredOn::Replicated)
    }

    /// Puts the next `records` records, with `payloads` bytes of payload in total, into one group if a group has room
    /// for them: after a crash either all of them exist, or none.
    pub fn keep_together(&mut self, records: usize, payloads: usize) {
        let (bytes, most) = (records as u64 * RECORD_BYTES + payloads as u64, self.settings.log.segment_bytes / 8);
        let Some(has_place) = self.log.has_place(bytes) else { return };
        if self.waiting.is_empty() {
            self.waiting.behind = if has_place { 0 } else { self.log.group() };
        } else if self.waiting.bytes + bytes > most {
            // The next record begins another group.
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

    /// Puts the waiting records first into the new group being gathered.
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
