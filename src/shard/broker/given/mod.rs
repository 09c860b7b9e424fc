//! How far the slots of a shard have been given the partitions of `[broker]`'s routes.
//!
//! A copy for a kept session stands in the log of its slot with the place of its record: partition and offset. Beside the copies the log has one record with
//! *positions*: for each partition all records below one have been given to the slot's sessions, or there was nothing to give. So a process that takes up the
//! log knows which records the sessions have: those below the positions, and those of the copies; and reading goes back to the lowest position. Records come to
//! a shard in the order of their partition, and a message for many receivers is given out later than others after it: the position stays below it.
//!
//! A copy that is over ends in the log no earlier than the log has a position beyond its record, or names the record among those above: otherwise the record
//! would be new to the next process.
//!
//! A log names each partition as soon as it is read, and its slot is here: of one that it does not name the next owner's reader would be all that is known.
//!
//! A partition is read again from the lowest position of slots that have come ([`Reads::Again`]). What sessions of other slots have had by then does not come to
//! them a second time (the *floors*). A slot that has come waits for that, if the partition is read further on: earlier messages will come again.

mod saved;
#[cfg(test)]
mod tests;
mod write;

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use smallvec::SmallVec;

use super::logs::slot_of;
use crate::runtime::seam::Monotonic;
use crate::session::{PartitionKey, Placed, RecordPlace};

use self::saved::SavedPosition;
pub(crate) use self::saved::SavedPositions;

/// The records above positions that a log names at most. Copies of more records end when the positions have passed them.
const ABOVE_MAX: usize = 1_024;

/// How long a copy that is over may wait to be written down with others.
const WRITE_WITHIN: Duration = Duration::from_millis(50);

/// When copies that could not end are tried again.
const TRY_AGAIN: Duration = Duration::from_secs(1);

/// Floors of a partition that are known for messages which have come before the last one.
const FLOORS_MAX: usize = 16;

/// `Reads` says how a partition is read from a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::shard) enum Reads {
    /// On: all records below have come.
    On,
    /// Again: what the shard's slots have had does not come to them a second time, and nothing below this offset to those of which the log has no position.
    Again(i64),
    /// For all slots: the log has other records there, or an operator wants them sent again.
    Anew,
}

/// A record of `[broker]` at hand.
#[derive(Clone, Copy, Debug)]
pub(in crate::shard) struct AtHand {
    pub(in crate::shard) place: RecordPlace,
    /// The topic, by its index among those of the source.
    pub(in crate::shard) topic: u16,
    /// It was read before: kept sessions of slots that have come may need it, and nobody else.
    pub(in crate::shard) is_again: bool,
    /// Its retained message is in Kafka, or a newer one of its MQTT topic: no other one is made of it. Its reader alone knows that.
    pub(in crate::shard) is_retained: bool,
}

impl AtHand {
    /// Its bytes.
    pub(in crate::shard) const BYTES: usize = RecordPlace::BYTES + 3;

    pub(in crate::shard) fn to_bytes(self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        bytes[..RecordPlace::BYTES].copy_from_slice(&self.place.to_bytes());
        bytes[RecordPlace::BYTES..][..2].copy_from_slice(&self.topic.to_be_bytes());
        bytes[RecordPlace::BYTES + 2] = u8::from(self.is_again);
        bytes
    }

    pub(in crate::shard) fn of_bytes(bytes: &[u8; Self::BYTES]) -> Self {
        let place = RecordPlace::of_bytes(&std::array::from_fn(|at| bytes[at]));
        let topic = u16::from_be_bytes(std::array::from_fn(|at| bytes[RecordPlace::BYTES + at]));
        Self { place, topic, is_again: bytes[RecordPlace::BYTES + 2] != 0, is_retained: false }
    }
}

/// A partition as it comes to this shard.
#[derive(Debug, Default)]
struct Reading {
    /// All below has come that will come, as far as is known.
    next: i64,
    /// Records that some slot may not have yet, and how many messages of each.
    open: BTreeMap<i64, u32>,
    /// No slot has been given a record at this offset or a later one.
    floor: i64,
    /// Messages that come at this time or later are for all slots.
    since: u64,
}

impl Reading {
    /// All below is with the slots that get everything.
    fn low(&self) -> i64 {
        self.open.first_key_value().map_or(self.next, |(first, _)| self.next.min(*first))
    }
}

/// Who has been given a record above a position.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Had {
    /// All sessions of the slot that were to get it.
    ByAll,
    /// These, by their numbers in the log.
    By(SmallVec<[u64; 2]>),
}

/// How far a slot has been given a partition.
#[derive(Clone, Debug, Default)]
struct Position {
    /// All below has been given.
    below: i64,
    /// Messages that came at this time or later are for its sessions; [`WAITS`]: the partition has to be read again first.
    since: u64,
    /// Times ([`Given::time`]) with offsets: of messages that come at such a time or later, those below its offset are passed over. Both ascend.
    floors: SmallVec<[(u64, i64); 1]>,
    /// Records above that sessions had when the log was taken up.
    above: BTreeMap<i64, Had>,
    /// What the log says.
    saved: SavedPosition,
}

/// The time of nothing.
const WAITS: u64 = u64::MAX;

impl Position {
    const fn waits(&self) -> bool {
        self.since == WAITS
    }

    /// The floor for a message that came at this time.
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

    /// No session has been given a record at this offset or a later one.
    fn end(&self) -> i64 {
        let above = self.above.last_key_value().map_or(i64::MIN, |(last, _)| last + 1);
        self.floors.last().map_or(i64::MIN, |(_, floor)| *floor).max(above)
    }
}

/// A slot.
#[derive(Debug, Default)]
struct OfSlot {
    /// The number of the positions in the log.
    record: Option<u64>,
    positions: BTreeMap<PartitionKey, Position>,
    /// Copies in the log, by number, of records that the positions in the log do not name yet.
    placed: HashMap<u64, RecordPlace>,
    /// Copies among `placed` that are over.
    over: Vec<u64>,
}

impl OfSlot {
    /// Whether the log says that its sessions have this record.
    fn has(&self, place: RecordPlace) -> bool {
        let position = self.positions.get(&place.of);
        position.is_some_and(|of| place.offset < of.saved.below || of.saved.above.contains(&place.offset))
    }
}

/// See the module.
#[derive(Debug, Default)]
pub(in crate::shard) struct Given {
    readings: BTreeMap<PartitionKey, Reading>,
    slots: BTreeMap<u16, OfSlot>,
    /// Slots that have come, and of which the readers were not told yet.
    news: Vec<u16>,
    /// Counts changes of what is read.
    time: u64,
    /// When copies that are over are tried next.
    try_at: Option<Monotonic>,
    /// When positions are written next that have moved, and whether some may have.
    write_at: Monotonic,
    has_moved: bool,
}

impl Given {
    /// A message of this record has come.
    pub(in crate::shard) fn begins(&mut self, AtHand { place, topic, is_again, .. }: AtHand) -> Placed {
        if !self.readings.contains_key(&place.of) {
            self.reads(place, Reads::Again(i64::MIN));
        }
        if let Some(reading) = self.readings.get_mut(&place.of) {
            reading.next = reading.next.max(place.offset + 1);
            *reading.open.entry(place.offset).or_default() += 1;
            self.has_moved = true;
        }
        Placed { place, topic, time: self.time, is_again }
    }

    /// The slots have a message of this record.
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

    /// Notes how a partition is read from this place. Later messages are from there.
    pub(in crate::shard) fn reads(&mut self, at: RecordPlace, how: Reads) {
        let RecordPlace { of, offset } = at;
        let known = self.readings.get(&of).map(|reading| (reading.next, reading.low()));
        self.has_moved = true;
        if known.is_none() {
            self.write_at = Monotonic::default();
        }
        self.time += 1;
        let reading = self.readings.entry(of).or_default();
        reading.next = if how == Reads::On { reading.next.max(offset) } else { offset };
        for slot in self.slots.values_mut() {
            match how {
                Reads::On => {}
                Reads::Again(rest) => {
                    let (next, low) = known.unwrap_or((i64::MIN, 0));
                    // A slot with a position may be in the middle of its gap: it has had what was read here, and not the rest.
                    let (position, had) = match slot.positions.entry(of) {
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
                    slot.positions.entry(of).and_modify(|position| {
                        // What its sessions have not been given yet of the records before is in the log still.
                        let below = offset.min(position.below.max(low));
                        *position = Position { below, ..Position::default() };
                    });
                }
            }
            // A slot that has come waits for this: records read from here are for it.
            let ends_wait = |position: &&mut Position| position.waits() && offset <= position.below;
            slot.positions.get_mut(&of).filter(ends_wait).into_iter().for_each(|position| position.since = self.time);
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

    /// Whether some session may have had this record, or have to wait for it until its partition is read again.
    pub(in crate::shard) fn may_pass_over(&self, Placed { place, time, is_again, .. }: Placed) -> bool {
        let reading = self.readings.get(&place.of);
        is_again || reading.is_some_and(|reading| time < reading.since || place.offset < reading.floor)
    }

    /// Whether a session of this slot has had this record, or gets it when its partition is read again. `session`: its number in the log.
    pub(in crate::shard) fn passes_over(&self, placed: Placed, slot: u16, session: Option<u64>) -> bool {
        let Placed { place, time, .. } = placed;
        // Sessions get all messages of a partition that the log does not name.
        let Some(position) = self.slots.get(&slot).and_then(|slot| slot.positions.get(&place.of)) else {
            return false;
        };
        time < position.since
            || place.offset < position.floor(time)
            || position.above.get(&place.offset).is_some_and(|had| match had {
                Had::ByAll => true,
                Had::By(sessions) => session.is_some_and(|session| sessions.contains(&session)),
            })
    }

    /// The log of its slot has a copy of this record under this number.
    pub(in crate::shard) fn stored(&mut self, number: u64, place: RecordPlace) {
        if let Some(slot) = self.slots.get_mut(&slot_of(number))
            && !slot.has(place)
        {
            slot.placed.insert(number, place);
        }
    }

    /// A record in the log is over. True: it may end there; otherwise it ends when positions are written.
    pub(in crate::shard) fn ends(&mut self, number: u64, now: Monotonic) -> bool {
        let Some(slot) = self.slots.get_mut(&slot_of(number)) else { return true };
        let Some(place) = slot.placed.get(&number).copied() else { return true };
        if slot.has(place) {
            slot.placed.remove(&number);
            return true;
        }
        slot.over.push(number);
        let at = now.after(WRITE_WITHIN);
        self.try_at = Some(self.try_at.map_or(at, |before| before.min(at)));
        false
    }

    /// A slot leaves.
    pub(in crate::shard) fn leaves(&mut self, slot: u16) {
        if self.slots.remove(&slot).is_some() {
            self.news.retain(|of| *of != slot);
            let keys: Vec<PartitionKey> = self.readings.keys().copied().collect();
            keys.into_iter().for_each(|of| self.set_floor(of));
        }
    }

    /// Moves a slot's positions as far as its sessions have been given all.
    fn settle(&mut self, slot: u16) {
        let Some(of_slot) = self.slots.get_mut(&slot) else { return };
        for (of, reading) in &self.readings {
            let position = of_slot.positions.entry(*of).or_default();
            if !position.waits() {
                position.below = position.below.max(reading.low());
            }
        }
    }

    /// What the log is to say of a slot. `None`: there is nothing new; or, if it is for copies that are over, none of them could end then.
    fn unsaved(&mut self, slot: u16, is_for_over: bool) -> Option<SavedPositions> {
        self.settle(slot);
        let readings = &self.readings;
        let of_slot = self.slots.get(&slot)?;
        let (mut all, mut count, mut has_moved, mut frees) = (BTreeMap::new(), 0, false, false);
        for (of, position) in &of_slot.positions {
            let by_all = position.above.iter().filter(|(_, had)| **had == Had::ByAll).map(|(offset, _)| offset);
            let known = position.saved.above.iter().chain(by_all).copied();
            let above: BTreeSet<i64> = known.filter(|offset| *offset >= position.below).collect();
            count += above.len();
            has_moved |= position.below > position.saved.below;
            all.insert(*of, SavedPosition { below: position.below, above });
        }
        for place in of_slot.over.iter().filter_map(|number| of_slot.placed.get(number)) {
            let Some(saved) = all.get_mut(&place.of) else { continue };
            // All copies of it are made.
            let is_given = |reading: &Reading| place.offset < reading.next && !reading.open.contains_key(&place.offset);
            let waits = of_slot.positions[&place.of].waits();
            if place.offset < saved.below {
                frees = true;
            } else if count < ABOVE_MAX && !waits && readings.get(&place.of).is_some_and(is_given) {
                count += usize::from(saved.above.insert(place.offset));
                frees = true;
            }
        }
        let is_wanted = if is_for_over { frees } else { has_moved };
        is_wanted.then_some(SavedPositions(all))
    }

    /// The log says so, under this number. Returns the copies that end.
    fn saved(&mut self, slot: u16, number: u64, said: SavedPositions) -> Vec<u64> {
        let Some(of_slot) = self.slots.get_mut(&slot) else { return Vec::new() };
        of_slot.record = Some(number);
        for (of, saved) in said.0 {
            let position = of_slot.positions.entry(of).or_default();
            position.above = position.above.split_off(&saved.below);
            position.saved = saved;
        }
        let (mut placed, over) = (std::mem::take(&mut of_slot.placed), std::mem::take(&mut of_slot.over));
        let stays = |number: &u64| placed.get(number).is_some_and(|place| !of_slot.has(*place));
        let (over, ends): (Vec<u64>, Vec<u64>) = over.into_iter().partition(stays);
        placed.retain(|_, place| !of_slot.has(*place));
        (of_slot.placed, of_slot.over) = (placed, over);
        ends
    }

    /// Gives up waiting for positions: the copies of a slot that are over.
    fn take_over(&mut self, slot: u16) -> Vec<u64> {
        self.slots.get_mut(&slot).map(|slot| std::mem::take(&mut slot.over)).unwrap_or_default()
    }
}
