//! Sessions that survive a crash: the records that have to be written for them, and their order. The caller writes.
//!
//! After each call that may have changed a session, [`Sessions::next_note`] returns the records to write. Each record gets a place
//! in a log, in groups that become durable one after the other; everything that a session sends its client waits until the group of
//! its latest record is durable ([`Sessions::written`]). No other order is needed: a session is kept before its CONNACK, an id free
//! before its PUBCOMP, also if the record was made on an earlier connection.

use super::connect::Plan;
use super::state::Session;
use super::store::{SessionKey, Sessions};
use forebay_guard::auth::Access;
use forebay_mqtt::packet::Connect;
use forebay_runtime::seam::{Came, ConnId, Monotonic, WallMs};
use std::collections::VecDeque;
use std::time::Duration;

/// The part of its interval after which the record of a session says when its client left.
const PART_AWAY: u32 = 10;

/// A record that has to be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Note {
    /// A session is kept, or differs from its record: [`Sessions::payload`], then [`Sessions::kept`], or [`Sessions::not_kept`].
    Kept(SessionKey),
    /// The session of this number has ended. The next client of its name gets no answer before that is durable.
    Ended {
        /// The session's number in the log.
        number: u64,
        /// The shards that may know exchanges of the session ([`Session::known_to_shards`]).
        known_to: u64,
    },
    /// The will of a session that ended with its connection was published or discarded: the record of this number is over. No client waits for that.
    WillOver {
        /// The will's number in the log.
        number: u64,
    },
    /// A QoS 2 packet id is free again: then [`Sessions::waits_for`].
    Released {
        /// The session.
        session: SessionKey,
        /// The session's number in the log.
        number: u64,
        /// The id.
        packet_id: u16,
    },
}

/// The relation between a session and its record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// The record is up to date.
    Written,
    /// A note for writing the record exists.
    Noted,
    /// A note for writing the record exists, for the time of leaving alone.
    Absence,
    /// There was no room to write the record.
    Later,
}

/// The record of a session.
#[derive(Clone, Debug)]
pub(super) struct SessionRecord {
    /// The session's number in the log.
    number: Option<u64>,
    /// The group of the latest record.
    written: u64,
    state: State,
    /// The record is that of the will alone: the session ends with its connection.
    is_of_will: bool,
    /// The client has changed its session expiry in DISCONNECT.
    pub(super) changed: bool,
    /// The number of the session's next copy, while it has no queue.
    pub(super) next_copy: u64,
    /// The time by which the last CONNECT had come, to another instance if it was relayed; of a restored session the time of that.
    came_by: Monotonic,
    /// Of a restored session, until its first CONNECT: the time until which an earlier owner has served its slot, if that is known, or else 0.
    restored: Option<Monotonic>,
    /// When the client left, once the record has to say so.
    pub(super) left: Option<WallMs>,
    /// The time at which the record gets that; [`Monotonic::NEVER`]: it does not, or has it.
    pub(super) leaves: Monotonic,
    /// Of a restored session, until its first CONNECT: the time for which it had been away before.
    pub(super) away_before: Duration,
}

impl SessionRecord {
    fn new(number: Option<u64>) -> Box<Self> {
        let (state, came_by) = (State::Written, Monotonic::default());
        Box::new(Self {
            number,
            written: 0,
            state,
            is_of_will: false,
            changed: false,
            next_copy: 0,
            came_by,
            restored: None,
            left: None,
            leaves: Monotonic::NEVER,
            away_before: Duration::ZERO,
        })
    }

    /// The record of a restored session: its client left then, this long ago.
    pub(super) fn restored(number: u64, left: Option<WallMs>, away_before: Duration, now: Monotonic) -> Box<Self> {
        let restored = Some(Monotonic::default());
        Box::new(Self { came_by: now, restored, left, away_before, ..*Self::new(Some(number)) })
    }

    /// Whether a CONNECT may have come before the last one. The last one of a restored session came to another process, at a time that is not known: a CONNECT
    /// that has waited since before that is served if it is known when it came, as clients wait for a slot that nobody has, and if nobody had the slot then.
    pub(super) fn is_after(&self, came: Came) -> bool {
        let may_be_late = |served_until: Monotonic| came.earliest < came.latest || came.earliest < served_until;
        self.came_by > came.earliest && self.restored.is_none_or(may_be_late)
    }

    /// Notes a CONNECT of the session.
    pub(super) fn connected(&mut self, came: Came) {
        (self.came_by, self.restored, self.away_before) = (came.latest, None, Duration::ZERO);
    }
}

/// The records to write.
#[derive(Debug, Default)]
pub(super) struct Keeping {
    notes: VecDeque<Note>,
    /// Sessions without a connection that found no room.
    later: Vec<SessionKey>,
    /// The largest payload that there is room for.
    room: usize,
    /// Both clocks, if records say when clients left.
    clocks: Option<(Monotonic, WallMs)>,
}

impl Keeping {
    /// Notes that a record differs in the time of leaving.
    fn note_absence(&mut self, key: SessionKey, kept: &mut SessionRecord) {
        if kept.state == State::Written {
            kept.state = State::Absence;
            self.notes.push_back(Note::Kept(key));
        }
    }
}

impl Session {
    /// The session's number in the log, if it is kept there.
    #[must_use]
    pub fn number(&self) -> Option<u64> {
        self.kept.as_ref().filter(|kept| !kept.is_of_will)?.number
    }
}

impl Sessions {
    /// Notes of a restored session that an earlier owner has served its slot until this time: it may have had a CONNECT that is later than one that has
    /// waited since before then.
    pub fn served_until(&mut self, key: SessionKey, at: Monotonic) {
        let kept = self.sessions.get_mut(key).and_then(|session| session.kept.as_mut());
        if let Some(until) = kept.and_then(|kept| kept.restored.as_mut()) {
            *until = at;
        }
    }

    /// Lets sessions survive a crash from now on.
    pub fn keep(&mut self) {
        self.keeping.get_or_insert_default();
    }

    /// Sets the clocks: from now on records say when clients left. `None`: the wall clock is not set.
    pub fn set_clocks(&mut self, clocks: Option<(Monotonic, WallMs)>) {
        if let Some(keeping) = &mut self.keeping {
            keeping.clocks = clocks;
        }
    }

    /// The time for which a client has been away that left then.
    pub(super) fn away_for(&self, left: WallMs) -> Option<Duration> {
        let (_, wall) = self.keeping.as_ref()?.clocks?;
        Some(Duration::from_millis(u64::try_from(wall.0.saturating_sub(left.0)).unwrap_or(0)))
    }

    /// The time at which the record of a session without a connection gets the time of leaving: after a tenth of the rest of its interval, or of its
    /// will's delay. Most clients are back by then, and cost no record.
    pub(super) fn leaves(&mut self, key: SessionKey, now: Monotonic) -> Option<Monotonic> {
        self.keeping.as_ref()?.clocks?;
        let session = self.sessions.get_mut(key)?;
        let will_due = session.will.as_ref().map(|will| will.due).filter(|due| *due > now);
        let first = session.expires().min(will_due.unwrap_or(Monotonic::NEVER));
        let kept = session.kept.as_mut().filter(|kept| kept.left.is_none() && !kept.is_of_will)?;
        if first == Monotonic::NEVER || kept.number.is_none() {
            return None;
        }
        kept.leaves = now.after(first.since(now) / PART_AWAY);
        Some(kept.leaves)
    }

    /// Notes that the record of a session has to say when its client left.
    pub(super) fn note_left(&mut self, key: SessionKey, now: Monotonic) {
        let Some(keeping) = &mut self.keeping else { return };
        let Some(session) = self.sessions.get_mut(key) else { return };
        let away_since = session.away_since;
        let Some(kept) = &mut session.kept else { return };
        kept.leaves = Monotonic::NEVER;
        let Some((at, wall)) = keeping.clocks.filter(|_| away_since != Monotonic::NEVER) else { return };
        let away_ms = i64::try_from(now.since(away_since).as_millis()).unwrap_or(i64::MAX);
        let read_ms = i64::try_from(now.since(at).as_millis()).unwrap_or(i64::MAX);
        kept.left = Some(WallMs(wall.0.saturating_add(read_ms).saturating_sub(away_ms)));
        keeping.note_absence(key, kept);
    }

    /// Whether the record of a session differs only in that its client is back.
    #[must_use]
    pub fn has_only_returned(&self, key: SessionKey) -> bool {
        let kept = self.sessions.get(key).and_then(|session| session.kept.as_ref());
        kept.is_some_and(|kept| kept.state == State::Absence && kept.left.is_none())
    }

    /// Sets the bound of a session's payload that is written now. A CONNECT that needs more is refused.
    pub fn set_room(&mut self, bytes: usize) {
        if let Some(keeping) = &mut self.keeping {
            keeping.room = bytes;
        }
    }

    /// The next record to write. The order matters for each session.
    pub fn next_note(&mut self) -> Option<Note> {
        self.keeping.as_mut()?.notes.pop_front()
    }

    /// Appends the record of a session. Returns its number if it has one already; `None`: the session has ended, or is no longer
    /// kept. `has`: whether a subscription to this filter is in the record.
    pub fn payload(&self, key: SessionKey, has: impl Fn(&str) -> bool, out: &mut Vec<u8>) -> Option<Option<u64>> {
        let session = self.sessions.get(key)?;
        let kept = session.kept.as_ref()?;
        let is_wanted = if kept.is_of_will { session.will.is_some() } else { session.expiry_s > 0 };
        if !is_wanted {
            return None;
        }
        session.save(|filter| !kept.is_of_will && has(filter), out);
        Some(kept.number)
    }

    /// A session was written down, under this number, in this group. Its client waits for that, unless the record is that of its will alone.
    pub fn kept(&mut self, key: SessionKey, number: u64, group: u64) {
        if let Some(kept) = self.sessions.get_mut(key).and_then(|session| session.kept.as_mut()) {
            (kept.number, kept.state, kept.changed) = (Some(number), State::Written, false);
            if !kept.is_of_will {
                kept.written = kept.written.max(group);
            }
        }
    }

    /// Notes that there was no room for a session: [`Sessions::try_again`]. If its connection waits for that, it is
    /// [`Sessions::withdraw`]n. True: the record is that of a will, which memory alone has now.
    pub fn not_kept(&mut self, key: SessionKey) -> bool {
        let Some(session) = self.sessions.get_mut(key) else { return false };
        let Some(kept) = &mut session.kept else { return false };
        if kept.is_of_will {
            let number = kept.number;
            session.kept = None;
            self.will_is_over(None, number);
            return true;
        }
        if kept.state == State::Absence && kept.left.take().is_some() {
            // The next owner of the session starts its interval over.
            kept.state = State::Written;
            return false;
        }
        kept.state = State::Later;
        self.keeping.iter_mut().for_each(|keeping| keeping.later.push(key));
        false
    }

    /// Takes back a CONNECT that failed because the session could not be written down; the client has got no answer to it.
    pub fn withdraw(&mut self, key: SessionKey, conn: ConnId, now: Monotonic) {
        let Some(session) = self.sessions.get_mut(key) else { return };
        if session.number().is_none() {
            session.expiry_s = 0;
        }
        self.disconnected(key, conn, super::End::Left, now);
    }

    /// Whether there was no room to write the present state of a session.
    #[must_use]
    pub fn is_unwritten(&self, key: SessionKey) -> bool {
        let kept = self.sessions.get(key).and_then(|session| session.kept.as_ref());
        kept.is_some_and(|kept| kept.state == State::Later)
    }

    /// Notes the sessions that found no room, as there may be room again.
    pub fn try_again(&mut self) {
        let Some(keeping) = &mut self.keeping else { return };
        for key in std::mem::take(&mut keeping.later) {
            if self.is_unwritten(key) {
                self.note_kept(key);
            }
        }
    }

    /// Whether sessions wait for [`Sessions::try_again`].
    #[must_use]
    pub fn has_unwritten(&self) -> bool {
        self.keeping.as_ref().is_some_and(|keeping| !keeping.later.is_empty())
    }

    /// Makes answers to the session's client wait for this group from now on.
    pub fn waits_for(&mut self, key: SessionKey, group: u64) {
        if let Some(kept) = self.sessions.get_mut(key).and_then(|session| session.kept.as_mut()) {
            kept.written = kept.written.max(group);
        }
    }

    /// The group that answers to a session's client have to wait for; 0: none.
    #[must_use]
    #[inline]
    pub fn written(&self, key: SessionKey) -> u64 {
        self.sessions.get(key).and_then(|session| session.kept.as_ref()).map_or(0, |kept| kept.written)
    }

    /// Notes the ids that a session has released since the last call. Due after every packet, every [`Session::drain_answers`] and
    /// every [`Session::complete`].
    #[inline]
    pub fn collect(&mut self, key: SessionKey) {
        let (Some(keeping), Some(session)) = (&mut self.keeping, self.sessions.get_mut(key)) else { return };
        let Some(number) = session.number() else { return };
        while let Some(packet_id) = session.inflight.take_freed() {
            keeping.notes.push_back(Note::Released { session: key, number, packet_id });
        }
    }

    /// Notes that a session differs from its record.
    pub fn note_kept(&mut self, key: SessionKey) {
        let Some(keeping) = &mut self.keeping else { return };
        let Some(kept) = self.sessions.get_mut(key).and_then(|session| session.kept.as_mut()) else { return };
        match std::mem::replace(&mut kept.state, State::Noted) {
            State::Noted | State::Absence => {}
            State::Written | State::Later => keeping.notes.push_back(Note::Kept(key)),
        }
    }

    /// A session that is about to go, or to be kept no more.
    pub(super) fn note_ended(&mut self, key: SessionKey) {
        let Some(session) = self.sessions.get_mut(key) else { return };
        let Some(kept) = session.kept.take() else { return };
        if let (Some(number), Some(keeping)) = (kept.number, &mut self.keeping) {
            let known_to = session.known_to_shards();
            let note = if kept.is_of_will { Note::WillOver { number } } else { Note::Ended { number, known_to } };
            keeping.notes.push_back(note);
        }
    }

    /// Takes the record of a will from a session that ends with its connection: the record ends with the will.
    pub(super) fn take_record_of_will(&mut self, key: SessionKey) -> Option<u64> {
        let session = self.sessions.get_mut(key).filter(|session| session.will.is_some())?;
        session.kept.take_if(|kept| kept.is_of_will)?.number
    }

    /// Notes that a due will was published, or refused: the next process must not find it any more. `session` and `record` as in [`super::DueWill`].
    pub fn will_is_over(&mut self, session: Option<SessionKey>, record: Option<u64>) {
        session.into_iter().for_each(|key| self.note_kept(key));
        if let (Some(number), Some(keeping)) = (record, &mut self.keeping) {
            keeping.notes.push_back(Note::WillOver { number });
        }
    }

    /// Notes that a session has its connection: it is kept from here on, or not.
    pub(super) fn note_connected(&mut self, key: SessionKey, is_written: bool) {
        let session = &mut self.sessions[key];
        if session.expiry_s == 0 {
            // The will is all that is left of the session if the process dies.
            self.note_ended(key);
            let session = &mut self.sessions[key];
            if self.keeping.is_some() && session.will.is_some() {
                session.kept = Some(Box::new(SessionRecord { is_of_will: true, ..*SessionRecord::new(None) }));
                self.note_kept(key);
            }
            return;
        }
        let Some(keeping) = &mut self.keeping else { return };
        if !is_written {
            session.kept.get_or_insert_with(|| SessionRecord::new(None)).left = None;
            self.note_kept(key);
        } else if let Some(kept) = session.kept.as_mut().filter(|kept| kept.left.is_some()) {
            // A process that takes the session up must not take it for one that is away.
            kept.left = None;
            keeping.note_absence(key, kept);
        }
    }

    /// Whether a CONNECT that resumes this session changes nothing of its record.
    pub(super) fn is_written(&self, key: SessionKey, connect: &Connect<'_>, plan: &Plan<'_>) -> bool {
        let session = &self.sessions[key];
        session.kept.as_ref().is_some_and(|kept| kept.state == State::Written && kept.number.is_some())
            && (session.expiry_s, session.terms.version) == (plan.expiry_s, plan.terms.version)
            && session.username.as_deref() == plan.username
            && session.access().map(Access::auth) == plan.auth
            && session.will.is_none()
            && connect.will.is_none()
    }

    /// Whether the log has room for a session of this size that is not written yet, or was written smaller.
    pub(super) fn has_room(&self, bytes: usize) -> bool {
        self.keeping.as_ref().is_none_or(|keeping| super::saved::bytes_max(bytes) <= keeping.room)
    }
}
