//! Positions: how far the slots of a shard have been given the partitions of `[broker]`'s routes.
//!
//! A copy for a kept session is in the log of its slot with the place of its record: partition and offset. Besides the copies the log has one record with
//! *positions*: for each partition, the offset below which all records have been given to the slot's sessions, or had no session to go to. So a process that
//! takes up the log knows which records the sessions have: those below the positions, and those of the copies; reading goes back to the lowest position.
//! Records reach a shard in the order of their partition. A message with many receivers is given out after later ones: the position stays below it.
//! A copy that is over ends in the log only when the log has a position beyond its record, or names the record among those above, for all sessions or for
//! those of the copy: otherwise the next process would take the record for a new one.
//!
//! A log names each partition as soon as the slot is here, with the offset that was committed for it when the process began, and one that is added later as
//! soon as it is read: for a partition that the log does not name, the next owner would know only its reader's offset. A process that stood still may have
//! committed a higher one meanwhile.
//!
//! A partition is read again from the lowest position of new slots ([`Reads::Again`]). Records that sessions of other slots have had by then are not
//! delivered to them a second time (the *floors*). A new slot waits for that, if the partition is read further on: earlier messages will be read again.
//! Its wait ends with a report that the reader made after it had heard of the slot: before, the reader may have passed over records for which the shard had
//! no subscriber.

mod saved;
#[cfg(test)]
mod tests;
mod write;

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use smallvec::SmallVec;

use crate::logs::slot_of;
use forebay_base::rules::Rules;
use forebay_runtime::seam::Monotonic;
use forebay_session::{PartitionKey, Placed, RecordPlace};

use self::saved::SavedPosition;
pub(crate) use self::saved::SavedPositions;

/// The records above positions that the smallest logs name, each for all sessions or for one. Larger ones name more ([`Given::naming`]). Copies of more records
/// end when the positions have passed them.
const ABOVE_MAX: usize = 1_024;

/// The most bytes of a name.
const NAME_BYTES: usize = 16;

/// The most dropped copies that a slot remembers.
const DROPPED_MAX: usize = ABOVE_MAX / 4;

/// The longest time for which a copy that is over waits to be written down with others.
const WRITE_WITHIN: Duration = Duration::from_millis(50);

/// The delay before copies that could not end are tried again.
const TRY_AGAIN: Duration = Duration::from_secs(1);

/// The longest time for which new subscriptions wait for their retained messages after a slot has come: a partition may not be readable.
const CATCHES_UP_WITHIN: Duration = Duration::from_secs(10);

/// The number of floors kept per partition for messages received before the last one.
const FLOORS_MAX: usize = 16;

/// `Reads` is the way in which a partition is read from a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reads {
    /// On: all records below were received.
    On,
    /// Again: records that the shard's slots have had are not delivered to them a second time. Slots without a position in the log get nothing below this
    /// offset.
    Again(i64),
    /// Anew, for all slots: the log has other records there, or an operator wants them sent again.
    Anew,
}

/// A record of `[broker]` at hand.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AtHand {
    pub(crate) place: RecordPlace,
    /// The topic, by its index among those of the source.
    pub(crate) topic: u16,
    /// The record was read before: only kept sessions of new slots may need it.
    pub(crate) is_again: bool,
    /// The parts that a record with the retain flag still needs. Only the record's reader sets this.
    pub(crate) retains: Retains,
}

/// `Retains` names the parts that a record with the retain flag still needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Retains {
    /// The message in memory, and its copy in Kafka.
    Message,
    /// The copy alone: the message, or a newer one of its MQTT topic, is in memory.
    Copy,
    /// Nothing: Kafka has the copy, or that of a newer message of its MQTT topic.
    Nothing,
}

impl AtHand {
    /// The size of the encoded value in bytes.
    pub(crate) const BYTES: usize = RecordPlace::BYTES + 3;

    pub(crate) fn to_bytes(self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        bytes[..RecordPlace::BYTES].copy_from_slice(&self.place.to_bytes());
        bytes[RecordPlace::BYTES..][..2].copy_from_slice(&self.topic.to_be_bytes());
        bytes[RecordPlace::BYTES + 2] = u8::from(self.is_again);
        bytes
    }

    pub(crate) fn of_bytes(bytes: &[u8; Self::BYTES]) -> Self {
        let place = RecordPlace::of_bytes(&std::array::from_fn(|at| bytes[at]));
        let topic = u16::from_be_bytes(std::array::from_fn(|at| bytes[RecordPlace::BYTES + at]));
        Self { place, topic, is_again: bytes[RecordPlace::BYTES + 2] != 0, retains: Retains::Nothing }
    }
}

/// The state of a partition that this shard receives.
#[derive(Debug, Default)]
struct Reading {
    /// The offset below which every record that this shard will get was received, as far as is known.
    next: i64,
    /// Records that some slot may not have yet, with the number of messages of each.
    open: BTreeMap<i64, u32>,
    /// No slot has been given a record at this offset or a later one.
    floor: i64,
    /// The time ([`Given::time`]) from which on received messages are for all slots.
    since: u64,
}

impl Reading {
    /// The offset below which slots that get everything have every record.
    fn low(&self) -> i64 {
        self.open.first_key_value().map_or(self.next, |(first, _)| self.next.min(*first))
    }
}

/// The sessions that have been given a record above a position.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Had {
    /// All sessions of the slot that should get it.
    ByAll,
    /// These sessions, by their numbers in the log.
    By(SmallVec<[u64; 2]>),
}

/// A slot's position in a partition.
#[derive(Clone, Debug, Default)]
struct Position {
    /// The offset below which every record has been given.
    below: i64,
    /// The time from which on received messages are for the slot's sessions. [`WAITS`]: the partition has to be read again first.
    since: u64,
    /// The number of the request ([`Given::ask`]) with which its shard asks for that.
    asked: u64,
    /// Times ([`Given::time`]) with offsets: messages received at such a time or later are passed over below its offset. Both ascend.
    floors: SmallVec<[(u64, i64); 1]>,
    /// Records above that sessions had when the log was taken up.
    above: BTreeMap<i64, Had>,
    /// The position in the log.
    saved: SavedPosition,
}

/// A time that no message has.
const WAITS: u64 = u64::MAX;

impl Position {
    const fn waits(&self) -> bool {
        self.since == WAITS
    }

    /// The floor for a message received at this time.
    fn floor(&self, time: u64) -> i64 {
        let earlier = self.floors.iter().rev().find(|(since, _)| *since <= time);
        earlier.map_or(i64::MIN, |(_, floor)| *floor)
    }

    fn raise_floor(&mut self, time: u64, to: i64) {
        if self.floors.last().is_none_or(|(_, floor)| *floor < to) {
            if self.floors.len() == FLOORS_MAX {
                self.floors.remove(0);
            }
            self.floors.push((time, to));
        }
    }

    /// The offset from which on no session has been given a record.
    fn end(&self) -> i64 {
        let above = self.above.last_key_value().map_or(i64::MIN, |(last, _)| last + 1);
        self.floors.last().map_or(i64::MIN, |(_, floor)| *floor).max(above)
    }
}

/// A copy in the log: its record, and the sessions that it is for, by their numbers.
#[derive(Clone, Debug)]
struct Stored {
    place: RecordPlace,
    sessions: SmallVec<[u64; 2]>,
}

/// A slot.
#[derive(Debug, Default)]
struct OfSlot {
    /// The number of the positions in the log.
    record: Option<u64>,
    positions: BTreeMap<PartitionKey, Position>,
    /// Copies in the log, by number, of records that the positions in the log do not name yet.
    placed: HashMap<u64, Stored>,
    /// Copies among `placed` that are over.
    over: Vec<u64>,
    /// The number of records above positions that the log names.
    named: usize,
    /// Records of copies that a session's queue had no room for, if the positions in the log do not name them yet: the session's number and the place.
    dropped: Vec<(u64, RecordPlace)>,
}

impl OfSlot {
    /// Whether all sessions of a copy have its record by the positions in the log.
    fn has(&self, Stored { place, sessions }: &Stored) -> bool {
        let position = self.positions.get(&place.of);
        position.is_some_and(|of| of.saved.has(place.offset, sessions))
    }
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Given {
    readings: BTreeMap<PartitionKey, Reading>,
    /// The committed offsets of partitions when the process began: the positions of slots with logs that do not name them.
    begins: Arc<BTreeMap<PartitionKey, i64>>,
    /// The offsets below which records have copies that were retained when the process began.
    copied_to: Arc<BTreeMap<PartitionKey, i64>>,
    slots: BTreeMap<u16, OfSlot>,
    /// New slots that were not reported to the readers yet.
    news: Vec<u16>,
    /// The end of the time for which [`Given::behind_until`] looks whether reading is behind slots.
    behind_until: Option<Monotonic>,
    /// The number of requests to the readers.
    asked: u64,
    /// The number of changes in reading.
    time: u64,
    /// The time at which copies that are over are tried next.
    try_at: Option<Monotonic>,
    /// The time at which moved positions are written next, and whether some may have moved.
    write_at: Monotonic,
    has_moved: bool,
    /// The most records above positions that a log names.
    above_max: usize,
}

impl Given {
    /// For logs of which a record may have this many bytes. One record names what is above the positions: half of its bytes are for that.
    pub(crate) fn naming(record_bytes: usize, rules: &dyn Rules) -> Self {
        let room = (record_bytes / 2 / NAME_BYTES).max(ABOVE_MAX);
        Self { above_max: rules.names_above(room), ..Self::default() }
    }

    /// Notes that a message of this record was received.
    pub(crate) fn begins(&mut self, AtHand { place, topic, is_again, .. }: AtHand) -> Placed {
        if !self.readings.contains_key(&place.of) {
            self.reads(place, Reads::Again(i64::MIN), 0);
        }
        if let Some(reading) = self.readings.get_mut(&place.of) {
            reading.next = reading.next.max(place.offset + 1);
            *reading.open.entry(place.offset).or_default() += 1;
            self.has_moved = true;
        }
        Placed { place, topic, time: self.time, is_again }
    }

    /// Notes that the slots have a message of this record.
    fn is_over(&mut self, place: RecordPlace) {
        let Some(reading) = self.readings.get_mut(&place.of) else { return };
        if let Some(count) = reading.open.get_mut(&place.offset) {
            *count -= 1;
            if *count == 0 {
                reading.open.remove(&place.offset);
                self.has_moved = true;
            }
        }
    }

    /// Notes how a partition is read from this place, for later messages. `heard`: the number of this shard's last request that the reader had by then.
    pub(crate) fn reads(&mut self, at: RecordPlace, how: Reads, heard: u64) {
        let RecordPlace { of, offset } = at;
        let known = self.readings.get(&of).map(|reading| (reading.next, reading.low()));
        self.has_moved = true;
        if known.is_none() {
            self.write_at = Monotonic::default();
        }
        self.time += 1;
        let reading = self.readings.entry(of).or_default();
        reading.next = if how == Reads::On { reading.next.max(offset) } else { offset };
        for (slot, of_slot) in &mut self.slots {
            match how {
                Reads::On => {}
                Reads::Again(rest) => {
                    let (next, low) = known.unwrap_or((i64::MIN, 0));
                    // A slot with a position may be in the middle of its gap: it has had the records that were read here, but not the rest.
                    let (position, had) = match of_slot.positions.entry(of) {
                        Entry::Occupied(named) => (named.into_mut(), next),
                        Entry::Vacant(vacant) => (vacant.insert(Position::default()), next.max(rest)),
                    };
                    if !position.waits() {
                        position.below = position.below.max(low);
                        position.raise_floor(self.time, had);
                    }
                }
                Reads::Anew => {
                    let low = known.map_or(offset, |(_, low)| low);
                    of_slot.positions.entry(of).and_modify(|position| {
                        // Earlier records that the slot's sessions have not been given yet are still in the log.
                        let below = offset.min(position.below.max(low));
                        let is_unheard = position.waits() && heard < position.asked;
                        *position = Position { below, ..Position::default() };
                        if is_unheard {
                            // The reader has heard of another place, or will.
                            (position.since, position.asked) = (WAITS, self.asked + 1);
                            self.news.push(*slot);
                        }
                    });
                }
            }
            // A new slot waits for this: records read from here are for it.
            let ends_wait =
                |position: &&mut Position| position.waits() && offset <= position.below && heard >= position.asked;
            of_slot
                .positions
                .get_mut(&of)
                .filter(ends_wait)
                .into_iter()
                .for_each(|position| position.since = self.time);
        }
        self.set_floor(of);
    }

    fn set_floor(&mut self, of: PartitionKey) {
        let of_slots = || self.slots.values().filter_map(|slot| slot.positions.get(&of));
        let floor = of_slots().map(Position::end).max().unwrap_or(i64::MIN);
        let since = of_slots().map(|position| position.since).max().unwrap_or(0);
        if let Some(reading) = self.readings.get_mut(&of) {
            (reading.floor, reading.since) = (floor, since);
        }
    }

    /// Notes up to which records messages were retained when the process began.
    pub(crate) fn has_copies_to(&mut self, copied_to: Arc<BTreeMap<PartitionKey, i64>>) {
        self.copied_to = copied_to;
    }

    /// The time until which new subscriptions wait for their retained messages. `None`: reading has reached all records that sessions of the slots have had by
    /// their logs, and those that are retained, or a slot's time is over. Earlier, a record that sessions have had may be retained nowhere, and is passed over
    /// when it is read: a new subscription would never get it. A message that is retained by then would come before older ones that are yet to be read.
    pub(crate) fn behind_until(&mut self, now: Monotonic) -> Option<Monotonic> {
        let until = self.behind_until.take().filter(|until| *until > now)?;
        // Logs go on naming partitions of routes that are gone.
        let is_behind = |of: &PartitionKey, to: i64| match self.readings.get(of) {
            Some(reading) => reading.next < to,
            None => self.begins.contains_key(of),
        };
        let mut of_slots = self.slots.values().flat_map(|slot| &slot.positions);
        if of_slots.any(|(of, position)| is_behind(of, position.end()))
            || self.copied_to.iter().any(|(of, to)| is_behind(of, *to))
        {
            self.behind_until = Some(until);
        }
        self.behind_until
    }

    /// Whether some session may have had this record, or have to wait for it until its partition is read again.
    pub(crate) fn may_pass_over(&self, Placed { place, time, is_again, .. }: Placed) -> bool {
        let reading = self.readings.get(&place.of);
        is_again || reading.is_some_and(|reading| time < reading.since || place.offset < reading.floor)
    }

    /// Whether a session of this slot has had this record, or gets it when its partition is read again. `session`: its number in the log. `None`: the log
    /// gets no copy for it, so the session gets nothing when the partition is read again, and does not wait for that.
    pub(crate) fn passes_over(&self, placed: Placed, slot: u16, session: Option<u64>) -> bool {
        let Placed { place, time, .. } = placed;
        // Sessions get all messages of a partition that the log does not name.
        let Some(position) = self.slots.get(&slot).and_then(|slot| slot.positions.get(&place.of)) else {
            return false;
        };
        session.is_some() && time < position.since
            || place.offset < position.floor(time)
            || position.above.get(&place.offset).is_some_and(|had| match had {
                Had::ByAll => true,
                Had::By(sessions) => session.is_some_and(|session| sessions.contains(&session)),
            })
    }

    /// Notes that the log of its slot has a copy of this record under this number, for these sessions.
    pub(crate) fn stored(&mut self, number: u64, place: RecordPlace, sessions: impl Iterator<Item = u64>) {
        let Some(slot) = self.slots.get_mut(&slot_of(number)) else { return };
        let stored = Stored { place, sessions: sessions.collect() };
        if !slot.has(&stored) {
            slot.placed.insert(number, stored);
        }
    }

    /// Notes that a record in the log is over. True: it may end at once; otherwise it ends when positions are written.
    pub(crate) fn ends(&mut self, number: u64, now: Monotonic) -> bool {
        let Some(slot) = self.slots.get_mut(&slot_of(number)) else { return true };
        let Some(stored) = slot.placed.get(&number) else { return true };
        if slot.has(stored) {
            slot.placed.remove(&number);
            return true;
        }
        slot.over.push(number);
        // Many names are written less often.
        let more = u32::try_from(slot.named / ABOVE_MAX).unwrap_or(u32::MAX);
        let at = now.after(WRITE_WITHIN.saturating_mul(1 + more));
        self.try_at = Some(self.try_at.map_or(at, |before| before.min(at)));
        false
    }

    /// Notes that the queue of a session has no room for its copy of this record. The log names the record before it gets a later copy for that session:
    /// the next process must not give the record out after it. True: positions should be written, as there are many.
    pub(crate) fn drops(&mut self, session: u64, place: RecordPlace) -> bool {
        let Some(slot) = self.slots.get_mut(&slot_of(session)) else { return false };
        if slot.dropped.len() < DROPPED_MAX {
            slot.dropped.push((session, place));
        }
        slot.dropped.len() == DROPPED_MAX
    }

    /// Forgets the dropped copies of a session's slot: its log names them, or has no room for more names.
    fn forgets_dropped(&mut self, session: u64) {
        self.slots.get_mut(&slot_of(session)).into_iter().for_each(|slot| slot.dropped.clear());
    }

    /// Whether the log of its slot has yet to name a dropped copy of this session.
    pub(crate) fn has_dropped(&self, session: u64) -> bool {
        let slot = self.slots.get(&slot_of(session)).filter(|slot| !slot.dropped.is_empty());
        slot.is_some_and(|slot| slot.dropped.iter().any(|(of, _)| *of == session))
    }

    /// Whether some slots were not reported to the readers yet.
    fn has_news(&self) -> bool {
        !self.news.is_empty()
    }

    /// Forgets a slot that leaves.
    pub(crate) fn leaves(&mut self, slot: u16) {
        if self.slots.remove(&slot).is_some() {
            self.news.retain(|of| *of != slot);
            let keys: Vec<PartitionKey> = self.readings.keys().copied().collect();
            keys.into_iter().for_each(|of| self.set_floor(of));
        }
    }

    /// Moves a slot's positions up to the first record that its sessions have not been given.
    fn settle(&mut self, slot: u16) {
        let Some(of_slot) = self.slots.get_mut(&slot) else { return };
        for (of, reading) in &self.readings {
            let position = of_slot.positions.entry(*of).or_default();
            if !position.waits() {
                position.below = position.below.max(reading.low());
            }
        }
    }

    /// The positions to write to a slot's log. `None`: nothing has changed, or, with `is_for_over`, none of the copies that are over could end then.
    fn unsaved(&mut self, slot: u16, is_for_over: bool) -> Option<SavedPositions> {
        self.settle(slot);
        let (readings, above_max) = (&self.readings, self.above_max);
        let of_slot = self.slots.get(&slot)?;
        let (mut all, mut count, mut has_moved, mut frees) = (BTreeMap::new(), 0, false, false);
        for (of, position) in &of_slot.positions {
            let by_all = position.above.iter().filter(|(_, had)| **had == Had::ByAll).map(|(offset, _)| offset);
            let known = position.saved.above.iter().chain(by_all).copied();
            let above: BTreeSet<i64> = known.filter(|offset| *offset >= position.below).collect();
            let is_above = |(offset, _): &&(i64, u64)| *offset >= position.below && !above.contains(offset);
            let by: BTreeSet<(i64, u64)> = position.saved.by.iter().filter(is_above).copied().collect();
            count += above.len() + by.len();
            has_moved |= position.below > position.saved.below;
            all.insert(*of, SavedPosition { below: position.below, above, by });
        }
        for Stored { place, sessions } in of_slot.over.iter().filter_map(|number| of_slot.placed.get(number)) {
            let Some(saved) = all.get_mut(&place.of) else { continue };
            // All copies of the record are made, and the log has them.
            let is_given = |reading: &Reading| place.offset < reading.next && !reading.open.contains_key(&place.offset);
            let waits = of_slot.positions[&place.of].waits();
            if !saved.has(place.offset, sessions) {
                if count >= above_max {
                    continue;
                }
                count += if !waits && readings.get(&place.of).is_some_and(is_given) {
                    usize::from(saved.above.insert(place.offset))
                } else {
                    let had = sessions.iter().map(|session| (place.offset, *session));
                    had.map(|had| usize::from(saved.by.insert(had))).sum()
                };
            }
            frees = true;
        }
        for (session, place) in &of_slot.dropped {
            let Some(saved) = all.get_mut(&place.of) else { continue };
            if !saved.has(place.offset, &[*session]) && count < above_max / 4 {
                count += 1;
                has_moved |= saved.by.insert((place.offset, *session));
            }
        }
        let is_wanted = if is_for_over { frees } else { has_moved };
        is_wanted.then_some(SavedPositions(all))
    }

    /// Notes positions written to the log under this number. Returns the copies that end.
    fn saved(&mut self, slot: u16, number: u64, said: SavedPositions) -> Vec<u64> {
        let Some(of_slot) = self.slots.get_mut(&slot) else { return Vec::new() };
        of_slot.record = Some(number);
        of_slot.dropped.clear();
        of_slot.named = said.0.values().map(|saved| saved.above.len() + saved.by.len()).sum();
        for (of, saved) in said.0 {
            let position = of_slot.positions.entry(of).or_default();
            position.above = position.above.split_off(&saved.below);
            position.saved = saved;
        }
        let (mut placed, over) = (std::mem::take(&mut of_slot.placed), std::mem::take(&mut of_slot.over));
        let stays = |number: &u64| placed.get(number).is_some_and(|stored| !of_slot.has(stored));
        let (over, ends): (Vec<u64>, Vec<u64>) = over.into_iter().partition(stays);
        placed.retain(|_, stored| !of_slot.has(stored));
        (of_slot.placed, of_slot.over) = (placed, over);
        ends
    }

    /// Takes a slot's copies that are over, without waiting for positions.
    fn take_over(&mut self, slot: u16) -> Vec<u64> {
        self.slots.get_mut(&slot).map(|slot| std::mem::take(&mut slot.over)).unwrap_or_default()
    }
}
