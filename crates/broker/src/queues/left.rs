//! Copies of source records for offline clients that only memory has, because the client left while its queue or the log was full, or, with `[broker]`,
//! because the log of its slot was full when the copy was made. In the second case copies for connected clients are handled the same way: those of QoS 2 are
//! sent once the log has them, those of QoS 1 at once. The log gets the copies of a session as soon as it can, in order, and later ones wait: a crash would
//! have the earlier ones read again, and sent after them. Their records stay open until the copies are durable there. So an offline
//! client holds back no partition for longer than the log is full, and a crash loses nothing that its group has moved past.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::rc::Rc;
use std::time::Duration;

use smallvec::SmallVec;

use forebay_base::limits::LEFT_WRITES_PER_TURN;
use forebay_mqtt::packet::QoS;
use forebay_mqtt::route::shares::ShareNumber;
use forebay_runtime::seam::Monotonic;
use forebay_session::{Body, Claim, Copy, RecordPlace, Session, SessionKey, Sessions};

use super::super::Broker;
use super::super::given::Behind;
use super::{ForShare, Holder, MESSAGE_BYTES, Queues, Recipient, deadline_of, saved};
use crate::here::Here;
use crate::logs::{Lines, slot_of};
use crate::out::Out;

/// The time for which a log has no room before queues are shortened for it.
const SHORTEN_AFTER: Duration = Duration::from_secs(1);

/// Sessions with copies to be written to one log.
#[derive(Debug, Default)]
struct OfLog {
    /// Sessions, each with the number of the first copy that may be in memory alone.
    sessions: BTreeMap<SessionKey, u64>,
    /// The session after which the next turn begins.
    passed: Option<SessionKey>,
    /// The time at which queues are shortened, if the log had no room for a copy and some are not written yet.
    shorten_at: Option<Monotonic>,
    is_told: bool,
}

/// Sessions with copies to be written to a log, and claims of copies that were. The claims are at most as many as sessions and the records of windows.
#[derive(Debug, Default)]
pub(super) struct Left {
    /// The sessions by slot. 0: there is one log.
    logs: BTreeMap<u16, OfLog>,
    /// Sessions of slots with copies that only memory has, some of which may have none any more.
    behind: BTreeMap<u16, BTreeSet<SessionKey>>,
    /// Claims on the records of written copies, with the groups in which these are durable.
    written: Lines<Rc<Claim>>,
}

impl Left {
    /// Keeps a record open until its written copy is durable with this group.
    pub(super) fn hold(&mut self, group: u64, claim: Rc<Claim>) {
        self.written.push(group, claim);
    }

    /// Whether some copies have not been written yet.
    pub(super) fn is_waiting(&self) -> bool {
        !self.logs.is_empty()
    }

    /// Whether some copies have not been written to this log yet.
    pub(super) fn is_waiting_in(&self, log: u16) -> bool {
        self.logs.contains_key(&log)
    }

    /// Whether copies of this session wait for the log: later ones wait, too.
    pub(super) fn waits(&self, log: u16, key: SessionKey) -> bool {
        self.logs.get(&log).is_some_and(|of| of.sessions.contains_key(&key))
    }

    fn of(&mut self, log: u16) -> &mut BTreeMap<SessionKey, u64> {
        &mut self.logs.entry(log).or_default().sessions
    }

    /// The sessions that wait for this log.
    pub(super) fn waiting_for(&self, log: u16) -> impl Iterator<Item = SessionKey> {
        self.logs.get(&log).into_iter().flat_map(|of| of.sessions.keys().copied())
    }

    /// The first session after this one that waits for this log, and the number of its first copy.
    fn after(&self, log: u16, passed: Option<SessionKey>) -> Option<(SessionKey, u64)> {
        let from = passed.map_or(Bound::Unbounded, Bound::Excluded);
        self.logs.get(&log)?.sessions.range((from, Bound::Unbounded)).next().map(|(key, from)| (*key, *from))
    }

    fn goes_on(&mut self, log: u16, key: SessionKey, from: u64) {
        let of = self.logs.get_mut(&log).and_then(|of| of.sessions.get_mut(&key));
        of.into_iter().for_each(|number| *number = from);
    }

    fn is_done(&mut self, log: u16, key: SessionKey) {
        let Some(of) = self.logs.get_mut(&log) else { return };
        of.sessions.remove(&key);
        if of.sessions.is_empty() {
            self.logs.remove(&log);
        }
    }

    /// The number of logs without room for the next copy.
    pub(super) fn full(&self) -> usize {
        self.logs.values().filter(|of| of.shorten_at.is_some()).count()
    }

    /// Takes the session after which this turn begins.
    fn passed(&mut self, log: u16) -> Option<SessionKey> {
        self.logs.get_mut(&log)?.passed.take()
    }

    fn goes_on_after(&mut self, log: u16, passed: Option<SessionKey>) {
        self.logs.get_mut(&log).into_iter().for_each(|of| of.passed = passed);
    }

    /// Notes that no copy waits for room in this log.
    fn has_room(&mut self, log: u16) {
        if let Some(of) = self.logs.get_mut(&log) {
            (of.shorten_at, of.is_told) = (None, false);
        }
    }

    /// Whether queues have to be shortened for a log that has had no room for a while, in which moves and acknowledgements may have made some.
    pub(super) fn is_to_shorten(&mut self, log: u16, now: Monotonic) -> bool {
        let Some(of) = self.logs.get_mut(&log) else { return false };
        let is_due = of.shorten_at.is_some_and(|at| at <= now);
        if is_due || of.shorten_at.is_none() {
            of.shorten_at = Some(now.after(SHORTEN_AFTER));
        }
        is_due
    }

    /// Whether a log that has no room was not reported yet.
    pub(super) fn is_to_tell(&mut self, log: u16) -> bool {
        self.logs.get_mut(&log).is_some_and(|of| !std::mem::replace(&mut of.is_told, true))
    }
}

impl Queues {
    /// Whether only memory has copies for some sessions.
    pub(crate) fn has_behind(&self) -> bool {
        !self.left.behind.is_empty()
    }

    /// The records that only memory has for sessions of a slot.
    pub(crate) fn behind(&mut self, sessions: &Sessions, slot: u16) -> Behind {
        let mut all = Behind::new();
        let Some(keys) = self.left.behind.get_mut(&slot) else { return all };
        keys.retain(|key| {
            let session = sessions.get(*key).and_then(|session| Some((session, session.number()?)));
            let Some((session, number)) = session.filter(|(_, number)| slot_of(*number) == slot) else { return false };
            let mut has_some = false;
            for RecordPlace { of, offset } in session.unlogged_places() {
                has_some = true;
                let lowest = all.entry((of, number)).or_insert(offset);
                *lowest = offset.min(*lowest);
            }
            has_some
        });
        if keys.is_empty() {
            self.left.behind.remove(&slot);
        }
        all
    }
}

/// The outcome of writing a session's copies.
enum Written {
    /// A copy is written, or can never be; the number of the next one.
    Next(u64),
    /// The log has no room.
    NoRoom,
    /// The queue of a connected client is full: its records stay open until it has acknowledged some.
    Held,
    /// All copies are written, or, with a spool, the client is connected again.
    All,
}

impl Broker {
    /// Notes a session that has lost its connection, if it has copies to be written to the log.
    pub(crate) fn note_left(&mut self, key: SessionKey) {
        let Some(session) = self.sessions.get(key).filter(|session| session.conn().is_none()) else { return };
        if let Some(number) = session.number().filter(|_| session.next_unlogged(0).is_some()) {
            self.queues.left.of(slot_of(number)).insert(key, 0);
        }
    }

    /// Notes a copy that its log has no room for: its record stays open until the copy is written.
    pub(crate) fn note_unlogged(&mut self, key: SessionKey) {
        if let Some(copy) = self.sessions.get(key).map(Session::last_copy) {
            self.note_unlogged_at(key, copy);
        }
    }

    /// Like [`Broker::note_unlogged`], for the copy with this number.
    pub(super) fn note_unlogged_at(&mut self, key: SessionKey, copy: u64) {
        if let Some(number) = self.sessions.get(key).and_then(Session::number) {
            let left = &mut self.queues.left;
            let from = left.of(slot_of(number)).entry(key).or_insert(copy);
            *from = copy.min(*from);
            left.behind.entry(slot_of(number)).or_default().insert(key);
        }
    }

    /// Ends the claims of durable copies.
    pub(super) fn meet_written(&mut self, here: &Here) {
        let (rules, kept) = (here.rules, &self.logs.kept);
        let written = &mut self.queues.left.written;
        while let Some(claim) = written.pop(|group| rules.may_confirm(group, kept.durable(group))) {
            claim.meet();
        }
    }

    /// Forgets the written copies of a slot that leaves. Copies that its log has not acknowledged are in no log, or with its next owner: that instance reads
    /// records of routes again from the slot's positions, and shares' records are offered to other members.
    pub fn forget_written(&mut self, here: &Here, slot: u16) {
        self.queues.left.behind.remove(&slot);
        self.meet_written(here);
        for claim in self.queues.left.written.take_of(slot).filter(|claim| claim.place().is_some()) {
            claim.meet();
        }
    }

    /// Writes copies that clients have left to the log, as many as a turn may.
    pub(super) fn write_left(&mut self, io: &mut dyn Out, here: &mut Here) {
        let mut looks = LEFT_WRITES_PER_TURN;
        let logs: SmallVec<[u16; 4]> = self.queues.left.logs.keys().copied().collect();
        for log in logs {
            let (mut passed, mut held) = (self.queues.left.passed(log), 0);
            loop {
                let Some((key, from)) = self.queues.left.after(log, passed) else {
                    self.queues.left.has_room(log);
                    break;
                };
                if held == LEFT_WRITES_PER_TURN {
                    self.queues.left.goes_on_after(log, passed);
                    break;
                }
                if looks == 0 {
                    return self.delivery.want_turn(io);
                }
                looks -= 1;
                match self.write_one_left(io, here, key, from) {
                    Written::Next(from) => self.queues.left.goes_on(log, key, from),
                    Written::Held => {
                        passed = Some(key);
                        (held, looks) = (held + 1, looks + 1);
                    }
                    Written::NoRoom => {
                        self.shorten_for(here, log, io.now());
                        break;
                    }
                    Written::All => self.queues.left.is_done(log, key),
                }
            }
        }
    }

    /// Returns the body of a message that a share's members have left, as it waits for others: the log gets the message, if any member's session survives a
    /// crash and there is room.
    pub(crate) fn logged_for_share(&mut self, share: ShareNumber, body: Rc<Body>) -> Rc<Body> {
        let text = self.delivery.shares.kept(share).filter(|_| body.is_claiming());
        let Some((text, publish)) = text.as_deref().zip(body.publish()) else { return body };
        let bytes = ForShare::HEAD_BYTES + text.len() + body.packet().len();
        if bytes > self.queues.entry_max {
            // The log can never have the message.
            return body.released();
        }
        if !self.has_room_for_share(text.len(), body.packet().len()) {
            return body;
        }
        let of = ForShare { deadline: None, from: None, key: body.key(), text, packet: body.packet() };
        let own = body.unclaimed();
        let Some(group) = self.write_for_share(&own, &publish, of) else { return body };
        body.claim().into_iter().for_each(|claim| self.queues.left.hold(group, claim));
        own
    }

    /// Writes messages of a share to the log that wait for members and keep their records open because there was no room.
    pub(crate) fn write_left_for_share(&mut self, share: ShareNumber) {
        for _ in 0..LEFT_WRITES_PER_TURN {
            if self.delivery.shares.kept(share).is_none() {
                return;
            }
            let first = self.delivery.shares.part_mut(share).and_then(|part| part.first_claiming());
            let Some((member, at, body)) = first else { return };
            let logged = self.logged_for_share(share, body);
            if logged.is_claiming() {
                return;
            }
            self.delivery
                .shares
                .part_mut(share)
                .into_iter()
                .for_each(|part| part.replace(member, at, Rc::clone(&logged)));
        }
    }

    /// Writes the next copy of a connected client to the log, if the client is sent the copy after that. False: the log has no room.
    pub(crate) fn log_next(&mut self, here: &Here, now: Monotonic, key: SessionKey) -> bool {
        let next = self.sessions.get(key).and_then(Session::next_for_log);
        let Some((number, copy, body)) = next.map(|(number, copy, body)| (number, copy.clone(), Rc::clone(body)))
        else {
            return true;
        };
        if !self.can_be_logged(&body) {
            self.sends_from_memory(now, key);
            return true;
        }
        let Some((own, group)) = self.log_copy(here, key, number, &copy, &body) else { return false };
        self.sessions.get_mut(key).into_iter().for_each(|session| session.waits_as(number, Rc::clone(&own)));
        self.sessions.waits_for(key, here.rules.publish_waits_for(group));
        true
    }

    /// Has copies that wait for the log sent from memory, as the log can never have them.
    pub(super) fn sends_from_memory(&mut self, now: Monotonic, key: SessionKey) {
        self.sessions.get_mut(key).into_iter().for_each(Session::sends_from_memory);
        self.note_queue(now, key);
    }

    fn can_be_logged(&self, body: &Body) -> bool {
        body.packet().len() + MESSAGE_BYTES + Recipient::BYTES_MAX <= self.queues.entry_max
    }

    /// Writes the next copy of a connected client. Copies of QoS 2 that it was sent from memory are noted in the record of its queue.
    fn write_one_there(&mut self, io: &mut dyn Out, here: &mut Here, key: SessionKey, from: u64) -> Written {
        let bounds = self.queue_bounds(key);
        let Some(session) = self.sessions.get(key) else { return Written::All };
        let Some((number, copy, body)) = session.next_unlogged(from) else {
            return if self.pump_logged(io, here, key) { Written::NoRoom } else { Written::All };
        };
        let is_exact = copy.qos == QoS::ExactlyOnce;
        // A share's copy at QoS 1 stays with the share: another member may get the message.
        let is_others = if is_exact { !session.waits_unnoted(number) } else { copy.share.is_some() };
        if body.is_stored() || !self.can_be_logged(body) || is_others {
            return Written::Next(number + 1);
        }
        // The copy that the client is sent next needs no room in its queue.
        let is_next = session.next_for_log().is_some_and(|(next, ..)| next == number);
        if !is_next && session.is_queue_full(body.packet().len(), bounds) {
            self.pump(io, here, key);
            return Written::Held;
        }
        let (copy, body) = (copy.clone(), Rc::clone(body));
        let Some((own, group)) = self.log_copy(here, key, number, &copy, &body) else {
            // Its client makes room when it has acknowledged what the log has got.
            self.pump(io, here, key);
            return Written::NoRoom;
        };
        self.sessions.get_mut(key).into_iter().for_each(|session| session.is_logged_as(number, Rc::clone(&own)));
        if is_exact {
            self.sessions.waits_for(key, here.rules.publish_waits_for(group));
        }
        self.note_grown(key);
        Written::Next(number + 1)
    }

    fn write_one_left(&mut self, io: &mut dyn Out, here: &mut Here, key: SessionKey, from: u64) -> Written {
        if let Some(session) = self.sessions.get(key).filter(|session| session.conn().is_some()) {
            let is_of_slot = session.number().is_some_and(|number| self.logs.kept.part_of(number).is_some());
            return match is_of_slot {
                true => self.write_one_there(io, here, key, from),
                false if self.pump_logged(io, here, key) => Written::NoRoom,
                false => Written::All,
            };
        }
        let Some((number, copy, body)) = self.sessions.get(key).and_then(|session| session.next_unlogged(from)) else {
            return Written::All;
        };
        let (copy, body) = (copy.clone(), Rc::clone(body));
        if body.is_stored() {
            // The log has the message; its record stayed open for want of room in the queue.
            self.sessions.get_mut(key).into_iter().for_each(|session| session.waits_as(number, body.without_window()));
            self.note_grown(key);
            return Written::Next(number + 1);
        }
        if body.publish().is_none() {
            return Written::All;
        }
        let can_be_logged = self.can_be_logged(&body);
        let own = if can_be_logged {
            self.log_copy(here, key, number, &copy, &body).map(|(own, _)| own)
        } else {
            Some(body.released())
        };
        let Some(own) = own else { return Written::NoRoom };
        self.sessions.get_mut(key).into_iter().for_each(|session| session.waits_as(number, Rc::clone(&own)));
        if can_be_logged {
            self.note_grown(key);
        }
        Written::Next(number + 1)
    }

    /// Writes a copy that is in memory alone to the log of its session. Its record is over once the copy is durable there. Returns the message as the session
    /// has it from now on, and the group. `None`: there is no room.
    pub(crate) fn log_copy(
        &mut self,
        here: &Here,
        key: SessionKey,
        number: u64,
        copy: &Copy,
        body: &Body,
    ) -> Option<(Rc<Body>, u64)> {
        let of = self.stores_copy(key, body.packet().len()).ok()??;
        self.write_dropped(here, key);
        let (publish, buffer) = (body.publish()?, self.logs.kept.of_mut(of)?);
        let payload = &mut self.queues.payload;
        payload.clear();
        let to = Recipient::new(of, number, copy);
        let place = body.claim().and_then(|claim| claim.place()).map(|placed| placed.place);
        saved::encode(place, deadline_of(buffer, body, &publish), std::iter::once(&to), body.packet(), payload);
        let kept = buffer.keep_session(None, payload).ok()?;
        let own = body.unclaimed();
        own.stored_as(kept.number);
        self.queues.wrote = true;
        place.into_iter().for_each(|place| self.keeping.given.stored(kept.number, place, std::iter::once(of)));
        body.claim().into_iter().for_each(|claim| self.queues.left.hold(kept.group, claim));
        Some((own, kept.group))
    }

    fn note_grown(&mut self, key: SessionKey) {
        let bounds = self.queue_bounds(key);
        let level = self.sessions.get_mut(key).and_then(|session| session.grown(bounds));
        self.queues.fullest.note(level, Holder::Session(key));
    }
}
