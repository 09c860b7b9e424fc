//! Positions to the log of a slot and from it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use smallvec::SmallVec;

use forebay_buffer::RestoredSession;
use forebay_runtime::seam::Monotonic;
use forebay_session::{PartitionKey, RecordPlace, SessionKey};

use super::super::Broker;
use super::super::queues::{self, Kept};
use super::{Behind, CATCHES_UP_WITHIN, Given, Numbers, OfSlot, Position, Stored, TRY_AGAIN};
use crate::here::Here;
use crate::logs::{first_of, slot_of};
use crate::mail::{Letter, ToReaders};
use crate::out::Out;

/// The interval at which moved positions are written, unless a copy that is over needs them earlier.
const WRITE_EVERY: Duration = Duration::from_secs(2);

impl Given {
    /// Takes up the positions in the log of a slot. [`Broker::ask_to_go_back`] follows.
    pub(super) fn restore(&mut self, slot: u16, found: &[RestoredSession], now: Monotonic) {
        let mut of_slot = OfSlot::default();
        let mut positions: BTreeMap<PartitionKey, Position> = BTreeMap::new();
        let mut had: BTreeMap<RecordPlace, Numbers> = BTreeMap::new();
        let asked = self.asked + 1;
        for RestoredSession { number, payload, .. } in found {
            match Kept::decode(payload) {
                Some(Ok(Kept::Positions(said))) => {
                    of_slot.record = Some(*number);
                    for (of, saved) in said.0 {
                        for (offset, session) in &saved.by {
                            had.entry(RecordPlace { of, offset: *offset }).or_default().push(*session);
                        }
                        let behind = saved.behind.iter();
                        let behind = behind.map(|(session, below)| ((of, *session), Position::restored(*below, asked)));
                        of_slot.behind.extend(behind);
                        positions
                            .insert(of, Position { saved: saved.clone(), ..Position::restored(saved.below, asked) });
                    }
                }
                Some(Ok(Kept::Message { place: Some(place), to, .. })) => {
                    let sessions: Numbers = to.iter().map(|of| of.session).collect();
                    had.entry(place).or_default().extend(sessions.iter().copied());
                    of_slot.placed.insert(*number, Stored { place, sessions });
                }
                _ => {}
            }
        }
        for (RecordPlace { of, offset }, sessions) in had {
            // A partition without a position in the log has its first copy as one.
            let position = positions.entry(of).or_insert_with(|| Position::restored(offset, asked));
            let known = |session: &u64| position.saved.is_below(offset, *session);
            if offset >= position.below || !sessions.iter().all(known) {
                position.above.insert(offset, sessions);
            }
        }
        for (of, begin) in &*self.begins {
            positions.entry(*of).or_insert_with(|| Position::restored(*begin, asked));
        }
        let keys: Vec<PartitionKey> = positions.keys().copied().collect();
        of_slot.positions = positions;
        let mut placed = std::mem::take(&mut of_slot.placed);
        placed.retain(|_, stored| !of_slot.has(stored));
        of_slot.placed = placed;
        self.slots.insert(slot, of_slot);
        self.news.push(slot);
        self.behind_until = Some(now.after(CATCHES_UP_WITHIN));
        (self.has_moved, self.write_at) = (true, Monotonic::default());
        keys.into_iter().for_each(|of| self.set_floor(of));
    }

    /// Takes the lowest position in each partition of the slots that have come since the last call, and the number of the request.
    pub(super) fn ask(&mut self) -> (Vec<RecordPlace>, u64) {
        let mut lowest: BTreeMap<PartitionKey, i64> = BTreeMap::new();
        for slot in std::mem::take(&mut self.news).iter().filter_map(|slot| self.slots.get(slot)) {
            let behind = slot.behind.iter().map(|((of, _), position)| (of, position));
            for (of, position) in slot.positions.iter().chain(behind) {
                let low = lowest.entry(*of).or_insert(position.below);
                *low = position.below.min(*low);
            }
        }
        self.asked += 1;
        (lowest.into_iter().map(|(of, offset)| RecordPlace { of, offset }).collect(), self.asked)
    }
}

impl Broker {
    /// Notes the committed offsets of the partitions of routes.
    pub fn routes_begin(&mut self, begins: Arc<BTreeMap<PartitionKey, i64>>) {
        self.keeping.given.begins = begins;
    }

    /// Writes the positions of a slot with a log that has yet to name some of them, before the log has sessions that need them.
    pub fn write_first_positions(&mut self, here: &Here, slot: u16) {
        self.write_positions_of(here, slot, false);
    }

    /// Takes up the records that sessions have by the log of a slot, before the sessions are taken up.
    pub fn restore_positions(&mut self, slot: u16, found: &[RestoredSession], now: Monotonic) {
        self.keeping.given.restore(slot, found, now);
    }

    /// Has all partitions read from the positions of new slots.
    pub fn ask_to_go_back(&mut self, here: &Here) {
        let (needs, number) = self.keeping.given.ask();
        let needs: Arc<[RecordPlace]> = needs.into();
        for shard in 0..here.config.service.shards {
            let letter = ToReaders::Needs { by: here.index, number, needs: Arc::clone(&needs) };
            self.letters.push_back((shard, Letter::Readers(letter)));
        }
    }

    /// Ends a record in its log, now or when the log has the position of its message.
    pub(crate) fn end_kept(&mut self, here: &Here, number: u64, now: Monotonic) {
        let may_end = self.keeping.given.ends(number, now);
        if here.rules.may_end_copy(may_end) {
            self.logs.kept.end(number);
        }
    }

    /// Writes moved positions, and those that copies wait for that are over; these end then.
    pub(crate) fn write_positions(&mut self, io: &mut dyn Out, here: &Here, is_draining: bool) {
        let now = io.now();
        if self.keeping.given.has_news() {
            self.ask_to_go_back(here);
        }
        let given = &mut self.keeping.given;
        if given.slots.is_empty() {
            return;
        }
        self.take_given();
        let given = &mut self.keeping.given;
        given.has_moved |= self.queues.has_behind();
        let has_moved = given.has_moved && (given.write_at <= now || is_draining);
        let is_due = given.try_at.is_some_and(|at| at <= now || is_draining);
        if has_moved || is_due {
            let slots: SmallVec<[u16; 64]> = given.slots.keys().copied().collect();
            for slot in slots {
                if has_moved {
                    self.write_positions_of(here, slot, false);
                }
                if is_due && self.keeping.given.slots.get(&slot).is_some_and(|slot| !slot.over.is_empty()) {
                    self.write_positions_of(here, slot, true);
                }
            }
            let given = &mut self.keeping.given;
            if has_moved {
                (given.write_at, given.has_moved) = (now.after(WRITE_EVERY), false);
            }
            if is_due {
                let is_waiting = given.slots.values().any(|slot| !slot.over.is_empty());
                given.try_at = is_waiting.then(|| now.after(TRY_AGAIN));
            }
        }
        let given = &self.keeping.given;
        let moved_at = Some(given.write_at).filter(|_| given.has_moved);
        if let Some(at) = given.try_at.into_iter().chain(moved_at).min() {
            self.want_queues_turn_at(io, at);
        }
    }

    /// Notes the records of which all copies have been made since the last call.
    fn take_given(&mut self) {
        let given = &mut self.keeping.given;
        self.delivery.remembered().take_given().into_iter().for_each(|place| given.is_over(place));
    }

    /// Notes a copy of the record at hand that the queue of a session has no room for.
    pub(crate) fn note_dropped_copy(&mut self, here: &Here, key: SessionKey) {
        self.delivery.copies.place.into_iter().for_each(|place| self.note_dropped_at(here, key, place));
    }

    /// Like [`Broker::note_dropped_copy`], for a copy of the record at this place, and those of later records that were dropped with it.
    pub(crate) fn note_dropped_at(&mut self, here: &Here, key: SessionKey, place: RecordPlace) {
        let session = self.sessions.get(key).and_then(|session| session.number());
        if session.is_some_and(|session| self.keeping.given.drops(session, place)) {
            self.write_dropped(here, key);
        }
    }

    /// Says by the positions in the log that copies of a session were dropped, before the log gets a later copy for it. The client of the session is sent
    /// nothing before that is durable.
    pub fn write_dropped(&mut self, here: &Here, key: SessionKey) {
        let Some(session) = self.sessions.get(key).and_then(|session| session.number()) else { return };
        if !self.keeping.given.has_dropped(session) {
            return;
        }
        self.take_given();
        let group = self.write_positions_of(here, slot_of(session), false);
        self.keeping.given.forgets_dropped(session);
        self.sessions.waits_for(key, group.map_or(0, |group| here.rules.publish_waits_for(group)));
    }

    /// Writes the positions of a slot that leaves. True: some had changed.
    pub fn write_last_positions(&mut self, here: &Here, slot: u16) -> bool {
        self.take_given();
        let has_moved = self.write_positions_of(here, slot, false).is_some();
        self.write_positions_of(here, slot, true).is_some() || has_moved
    }

    /// Writes a slot's positions, if there is a reason. Returns the group in which they are durable.
    fn write_positions_of(&mut self, here: &Here, slot: u16, is_for_over: bool) -> Option<u64> {
        let given = &mut self.keeping.given;
        let log = self.logs.kept.of_mut(first_of(slot))?;
        let memory = if here.rules.names_behind() { self.queues.behind(&self.sessions, slot) } else { Behind::new() };
        let said = given.unsaved(slot, is_for_over, &memory)?;
        let mut payload = Vec::new();
        queues::encode_positions(&said, &mut payload);
        let record = given.slots.get(&slot).and_then(|slot| slot.record);
        let kept = log.keep_state(record, &payload).ok()?;
        given.saved(slot, kept.number, said).into_iter().for_each(|number| _ = log.end_session(number));
        Some(kept.group)
    }
}
