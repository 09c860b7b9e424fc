//! Sessions that survive a crash: their records go to the buffer, answers are held until these are durable, and a process takes up the
//! sessions of the previous one.

use std::collections::HashMap;

use smallvec::SmallVec;

use crate::buffer::RestoredSession;
use crate::runtime::seam::{ConnId, Monotonic};
use crate::session::{HadBy, Note, OpenId, SessionKey, Settings};

use super::holds::Holds;
use super::owner::Owner;
use super::queues::is_queue;
use super::retained::is_retained;
use super::sorted::Sorted;
use super::{Broker, Ring};

/// What sessions are allowed, and what a shard with a spool keeps of them.
#[derive(Debug)]
pub(in crate::shard) struct Keeping {
    pub(in crate::shard) settings: Settings,
    pub(in crate::shard) holds: Holds,
    /// The group that holds the youngest end of a session. A client that comes next may be that session's, and hears nothing before the
    /// group is durable: told that there is no session, it must find none after a crash either.
    ended: u64,
    /// [`crate::buffer::Buffer::freed`] when records that found no room were last tried again.
    tried: u64,
    /// The count of freed room when waiting wills were last offered again.
    pub(in crate::shard) wills_offered_at: u64,
    payload: Vec<u8>,
    /// How many sessions have a record.
    stored: u64,
}

impl Keeping {
    pub(in crate::shard) fn new(settings: Settings) -> Self {
        Self {
            settings,
            holds: Holds::default(),
            ended: 0,
            tried: 0,
            wills_offered_at: 0,
            payload: Vec::new(),
            stored: 0,
        }
    }
}

impl Broker {
    /// Writes down the changes of a session after a packet of its client or answers to it, and those of all others that have changed
    /// meanwhile.
    #[inline]
    pub(in crate::shard) fn write_down(&mut self, key: SessionKey) {
        if self.outlets.logs.kept.is_some() {
            self.sessions.collect(key);
            self.write_notes();
        }
    }

    /// Sessions that survive a restart.
    pub(in crate::shard) const fn stored_sessions(&self) -> u64 {
        self.keeping.stored
    }

    /// Writes down changes of sessions, in order.
    pub(in crate::shard) fn write_notes(&mut self) {
        while let Some(note) = self.sessions.next_note() {
            let Some(buffer) = &mut self.outlets.logs.kept else { return };
            match note {
                Note::Kept(key) => {
                    self.keeping.payload.clear();
                    let Some(number) = self.sessions.payload(key, &mut self.keeping.payload) else { continue };
                    match buffer.keep_session(number, &self.keeping.payload) {
                        Ok(kept) => {
                            self.keeping.stored += u64::from(number.is_none());
                            self.sessions.kept(key, kept.number, kept.group);
                        }
                        Err(_full) => self.sessions.not_kept(key),
                    }
                }
                Note::Ended { number, known_to } => {
                    self.keeping.stored -= 1;
                    self.keeping.ended = buffer.end_session(number);
                    self.forget_exchanges_of(number, known_to);
                }
                Note::Released { session, number, packet_id } => {
                    let group = buffer.release(number, packet_id);
                    self.sessions.waits_for(session, group);
                }
            }
        }
    }

    /// Sends held bytes that are durable and tries again to write what found no room; once a turn, before anything else.
    pub(in crate::shard) fn release_held(&mut self, io: &mut Ring<'_>) {
        let Some(buffer) = &self.outlets.logs.kept else { return };
        self.keeping.holds.release(io, buffer.durable());
        let freed = buffer.freed();
        if self.sessions.has_unwritten() && std::mem::replace(&mut self.keeping.tried, freed) != freed {
            self.sessions.try_again();
        }
        self.write_notes();
    }

    /// Holds what was written to the out-buffer from `from` on, to the client of this session, until the session's records are durable.
    #[inline]
    pub(in crate::shard) fn hold(&mut self, io: &mut Ring<'_>, conn: ConnId, key: SessionKey, from: usize) {
        let Some(buffer) = &self.outlets.logs.kept else { return };
        let group = self.sessions.written(key);
        if !self.around.rules.may_tell(group, buffer.durable()) {
            self.keeping.holds.hold(io, conn, group, from, true);
        } else if !self.keeping.holds.is_empty() {
            self.keeping.holds.wrote(conn, from);
        }
    }

    /// Holds a CONNACK until the session's records and the ends of sessions are durable.
    pub(in crate::shard) fn hold_connack(&mut self, io: &mut Ring<'_>, conn: ConnId, key: SessionKey, from: usize) {
        let Some(buffer) = &self.outlets.logs.kept else { return };
        let group = self.sessions.written(key).max(self.keeping.ended);
        if group > buffer.durable() {
            self.keeping.holds.hold(io, conn, group, from, false);
        }
    }

    /// Measures the room for the session of a CONNECT, before that.
    pub(in crate::shard) fn measure_session_room(&mut self) {
        self.write_notes();
        if let Some(buffer) = &self.outlets.logs.kept {
            self.sessions.set_room(buffer.session_room());
        }
    }

    /// Takes up the kept sessions of the previous process, and what is kept like them, before anybody is accepted. What cannot be taken up
    /// ends.
    pub(in crate::shard) fn restore_sessions(&mut self, found: &[RestoredSession], sorted: &Sorted, now: Monotonic) {
        let Some(buffer) = &mut self.outlets.logs.kept else { return };
        sorted.ends().for_each(|(number, is_damaged)| buffer.lose(number, is_damaged));
        let (mut keys, mut by_number) = (Vec::new(), HashMap::new());
        self.sessions.keep();
        let rules = self.around.rules;
        let taken = found.iter().filter(|kept| sorted.takes_up(kept.number));
        let (retained, others): (Vec<_>, Vec<_>) = taken.partition(|kept| is_retained(&kept.payload));
        let (queues, sessions): (Vec<_>, Vec<_>) = others.into_iter().partition(|kept| is_queue(&kept.payload));
        for RestoredSession { number, payload, open } in sessions.into_iter().filter(|_| rules.restores_sessions()) {
            let already_taken_by: Vec<(u16, SmallVec<[HadBy; 4]>)> = open
                .iter()
                .filter(|_| rules.restores_packet_ids())
                .map(|id| {
                    let already_taken_by = id.rows.iter().filter_map(|row| {
                        let sink = self.outlets.upstreams.get(row.cluster)?.members.index_of(row.sink)?;
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
            // A record that is no session was sorted out before.
            let Ok(key) = restored else { continue };
            keys.push(key);
            self.keeping.stored += 1;
            by_number.insert(*number, key);
            for (packet_id, row) in owed {
                buffer.await_row(*number, packet_id, Owner::Session(key).ticket(row));
            }
        }
        for RestoredSession { number, payload, .. } in retained {
            self.restore_retained(*number, payload, now);
        }
        self.restore_queues(&queues, &by_number, now);
        self.end_without_users(now);
        self.count_kept_sessions();
        keys.into_iter().filter(|_| rules.enters_restored()).for_each(|key| self.enter_again(key, now));
        self.write_notes();
    }
}
