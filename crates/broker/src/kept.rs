//! Sessions that survive a crash: their records go to the buffer, answers are held until these are durable, and a process takes up the
//! sessions of the previous one.

use std::collections::HashMap;

use smallvec::SmallVec;

use forebay_buffer::{Buffer, RestoredSession};
use forebay_kafka::types::SinkId;
use forebay_metrics::spec::ShardMetric as M;
use forebay_runtime::seam::{ConnId, Monotonic};
use forebay_session::{HadBy, Note, OpenId, SessionKey, Settings};

use super::Broker;
use super::given::Given;
use super::holds::Holds;
use super::queues::is_queue;
use super::retained::is_retained;
use crate::here::Here;
use crate::logs::{Groups, Kept, first_of};
use crate::out::Out;
use crate::sorted::Sorted;
use crate::words::Owner;

/// The limits of sessions, and the state that a shard with a spool keeps for them.
#[derive(Debug)]
pub struct Keeping {
    /// The settings of sessions.
    pub settings: Settings,
    /// Answers held until what they promise is durable.
    pub holds: Holds,
    /// The groups that hold the newest end of a session, of each log. A client that connects next may be that session's: it gets no CONNACK before the group
    /// is durable, as a session reported absent must be absent after a crash, too.
    ended: Groups,
    /// [`forebay_buffer::Buffer::freed`] when records that found no room were last tried again.
    tried: u64,
    /// The count of freed room when waiting wills were last offered again.
    pub wills_offered_at: u64,
    payload: Vec<u8>,
    /// The number of sessions with a record.
    stored: u64,
    /// The positions of each slot's sessions in the partitions of routes.
    pub given: Given,
}

impl Keeping {
    /// `record_bytes`: how large a record of a log of sessions may be.
    pub(crate) fn new(settings: Settings, record_bytes: usize) -> Self {
        Self {
            settings,
            holds: Holds::default(),
            ended: Groups::default(),
            tried: 0,
            wills_offered_at: 0,
            payload: Vec::new(),
            stored: 0,
            given: Given::naming(record_bytes),
        }
    }
}

impl Broker {
    /// Writes down the changes of a session after a packet of its client or answers to it, and the changes of all other sessions since the last call.
    #[inline]
    pub fn write_down(&mut self, here: &mut Here, key: SessionKey) {
        if self.logs.kept.is_there() {
            self.sessions.collect(key);
            self.write_notes(here);
        }
    }

    /// The number of sessions that survive a restart.
    pub const fn stored_sessions(&self) -> u64 {
        self.keeping.stored
    }

    /// Writes down changes of sessions, in order.
    pub fn write_notes(&mut self, here: &mut Here) {
        while let Some(note) = self.sessions.next_note() {
            match note {
                Note::Kept(key) => {
                    let (shares, payload) = (&self.delivery.shares, &mut self.keeping.payload);
                    payload.clear();
                    let has = |filter: &str| shares.are_kept_with(filter);
                    let Some(number) = self.sessions.payload(key, has, payload) else { continue };
                    let log = number.or_else(|| self.log_of(here, self.sessions.get(key)?.client_id()));
                    let log = log.and_then(|log| self.logs.kept.of_mut(log));
                    // A client that is back must be so in a full log, too.
                    let has_only_returned = self.sessions.has_only_returned(key);
                    let payload = &self.keeping.payload;
                    match log.map(|log| match has_only_returned {
                        true => log.keep_state(number, payload),
                        false => log.keep_session(number, payload),
                    }) {
                        Some(Ok(kept)) => {
                            self.sessions.kept(key, kept.number, kept.group);
                            let is_session = self.sessions.get(key).is_some_and(|session| session.number().is_some());
                            self.keeping.stored += u64::from(number.is_none() && is_session);
                        }
                        Some(Err(_)) | None => {
                            if self.sessions.not_kept(key) {
                                here.numbers.count(M::WillsNotStored);
                            }
                        }
                    }
                }
                Note::Ended { number, known_to } => {
                    self.keeping.stored -= 1;
                    self.keeping.ended.add(self.logs.kept.end(number).unwrap_or(0));
                    self.forget_exchanges_of(here, number, known_to);
                }
                Note::WillOver { number } => _ = self.logs.kept.end(number),
                Note::Released { session, number, packet_id } => {
                    let log = self.logs.kept.of_mut(number);
                    self.sessions.waits_for(session, log.map_or(0, |log| log.release(number, packet_id)));
                }
            }
        }
    }

    /// A number that names the log of a client's session. `None`: there is no table of slots.
    fn log_of(&self, here: &Here, client_id: &str) -> Option<u64> {
        match &self.logs.kept {
            Kept::OfSlots(_) => here.slots.slot(client_id).map(first_of),
            Kept::Nowhere | Kept::One(_) => Some(0),
        }
    }

    /// Sends held bytes with durable records, and tries again to write records that found no room. Called once a turn, before anything else.
    pub fn release_held(&mut self, io: &mut dyn Out, here: &mut Here) {
        let kept = &self.logs.kept;
        if !kept.is_there() {
            return;
        }
        self.keeping.holds.release(io, kept);
        if self.sessions.has_unwritten() {
            let freed = kept.freed();
            if std::mem::replace(&mut self.keeping.tried, freed) != freed {
                self.sessions.try_again();
            }
        }
        self.write_notes(here);
    }

    /// Holds the bytes in the out-buffer from `from` on, for the client of this session, until the session's records are durable.
    #[inline]
    pub fn hold(&mut self, io: &mut dyn Out, here: &Here, conn: ConnId, key: SessionKey, from: usize) {
        let kept = &self.logs.kept;
        if !kept.is_there() {
            return;
        }
        let group = self.sessions.written(key);
        if !here.rules.may_tell(group, kept.durable(group)) {
            self.keeping.holds.hold(io, conn, group, from, None);
        } else if !self.keeping.holds.is_empty() {
            self.keeping.holds.wrote(conn, from);
        }
    }

    /// Holds a CONNACK until the session's records and the ends of sessions are durable. A log in Kafka may be another process's by now: a CONNACK that
    /// reports a session present (`asks_for_kept`) or absent waits for a group that is written after CONNECT was received, for at most `connect_timeout`.
    pub fn hold_connack(
        &mut self,
        io: &mut dyn Out,
        here: &Here,
        (conn, key): (ConnId, SessionKey),
        from: usize,
        asks_for_kept: bool,
    ) {
        if !self.logs.kept.is_there() {
            return;
        }
        let log = self.sessions.get(key).and_then(|session| self.log_of(here, session.client_id())).unwrap_or(0);
        let mut group = self.sessions.written(key).max(self.keeping.ended.of(log));
        let (kept, mut due) = (&mut self.logs.kept, Monotonic::NEVER);
        if here.config.broker.is_some() {
            due = io.now().after(here.config.mqtt.connect_timeout);
            let beat = kept.of_mut(log).filter(|_| asks_for_kept).map(Buffer::beat);
            group = group.max(beat.unwrap_or(0));
        }
        if group > kept.durable(group) {
            self.keeping.holds.hold(io, conn, group, from, Some(due));
        }
    }

    /// Measures the room for a session's requests.
    pub fn measure_room_of(&mut self, here: &mut Here, key: SessionKey) {
        self.write_notes(here);
        self.set_session_room(self.sessions.get(key).and_then(|session| self.log_of(here, session.client_id())));
    }

    /// Measures the room for the session of this client's CONNECT, before that is handled.
    pub fn measure_session_room(&mut self, here: &mut Here, client_id: &str) {
        self.write_notes(here);
        self.set_session_room(self.log_of(here, client_id));
    }

    /// Sets the room to that of the log that has this number.
    fn set_session_room(&mut self, number: Option<u64>) {
        let kept = &self.logs.kept;
        if kept.is_there() {
            let log = number.and_then(|number| kept.of(number));
            self.sessions.set_room(log.map_or(0, Buffer::session_room));
        }
    }

    /// Takes up the kept sessions and their messages that the previous process left in a log, before their clients are accepted. `sink_of`: the sink that has a
    /// row. Records that cannot be taken
    /// up end. The sessions are in `taken`, and by their numbers in the log. [`Broker::sessions_restored`] follows.
    pub fn restore_sessions(
        &mut self,
        here: &mut Here,
        sink_of: impl Fn(usize, SinkId) -> Option<usize>,
        (found, sorted): (&[RestoredSession], &Sorted),
        taken: &mut Vec<SessionKey>,
        now: Monotonic,
    ) -> HashMap<u64, SessionKey> {
        for (number, is_damaged) in sorted.ends() {
            if !is_damaged {
                self.end_kept(here, number, now);
            } else if let Some(log) = self.logs.kept.of_mut(number) {
                log.lose(number, true);
            }
        }
        let mut by_number = HashMap::new();
        self.sessions.keep();
        let rules = here.rules;
        let whole = found.iter().filter(|kept| sorted.takes_up(kept.number));
        let (retained, others): (Vec<_>, Vec<_>) = whole.partition(|kept| is_retained(&kept.payload));
        let (queues, sessions): (Vec<_>, Vec<_>) = others.into_iter().partition(|kept| is_queue(&kept.payload));
        for RestoredSession { number, payload, open } in sessions.into_iter().filter(|_| rules.restores_sessions()) {
            let already_taken_by: Vec<(u16, SmallVec<[HadBy; 4]>)> = open
                .iter()
                .filter(|_| rules.restores_packet_ids())
                .map(|id| {
                    let already_taken_by = id.rows.iter().filter_map(|row| {
                        let sink = sink_of(row.cluster, row.sink)?;
                        Some(HadBy { sink: u16::try_from(sink).ok()?, owes: row.is_live && row.is_owed })
                    });
                    (id.packet_id, already_taken_by.collect())
                })
                .collect();
            let open: Vec<OpenId<'_>> = already_taken_by
                .iter()
                .map(|(packet_id, already_taken_by)| OpenId { packet_id: *packet_id, already_taken_by })
                .collect();
            let mut owed = Vec::new();
            let settings = &self.keeping.settings;
            let restored =
                self.sessions.restore(*number, payload, &open, settings, now, |id, row| owed.push((id, row)));
            // Records that are no session were sorted out before. A session that has ended has left its will alone.
            let Ok(Some(key)) = restored else { continue };
            taken.push(key);
            self.keeping.stored += 1;
            by_number.insert(*number, key);
            for (packet_id, row) in owed {
                let log = self.logs.kept.of_mut(*number);
                log.into_iter().for_each(|log| log.await_row(*number, packet_id, Owner::Session(key).ticket(row)));
            }
        }
        for RestoredSession { number, payload, .. } in retained {
            self.restore_retained(here, *number, payload, now);
        }
        self.restore_queues(here, &queues, &by_number, now);
        by_number
    }

    /// Enters sessions that were taken up into what messages are looked up in.
    pub fn sessions_restored(&mut self, here: &mut Here, taken: Vec<SessionKey>, now: Monotonic) {
        let rules = here.rules;
        self.end_without_users(here, now);
        self.count_kept_sessions(here);
        taken.into_iter().filter(|_| rules.enters_restored()).for_each(|key| self.enter_again(here, key, now));
        self.write_notes(here);
    }
}
