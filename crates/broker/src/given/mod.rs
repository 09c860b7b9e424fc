//! Positions: how far the slots of a shard have been given the partitions of `[broker]`'s routes.
//!
//! A copy for a kept session is in the log of its slot with the place of its record: partition and offset. Besides the copies the log has one record with
//! *positions*: for each partition, the offset below which all records have been given to the slot's sessions, or had no session to go to. So a process that
//! takes up the log knows which records the sessions have: those below the positions, and those of the copies; reading goes back to the lowest position.
//! Records reach a shard in the order of their partition. A message with many receivers is given out after later ones: the position stays below it.
//! A session with copies that only memory has, as its log is full, has a position of its own, at the first of them: it is *behind* its slot, which goes on.
//! A copy that is over ends in the log only when the log has a position of its sessions beyond its record, or names the record for them: otherwise the next
//! process would take the record for a new one.
//!
//! A log names each partition as soon as the slot is here, with the offset that was committed for it when the process began, and one that is added later as
//! soon as it is read: for a partition that the log does not name, the next owner would know only its reader's offset. A process that stood still may have
//! committed a higher one meanwhile.
//!
//! A partition is read again from the lowest position of new slots ([`Reads::Again`]). Records that sessions of other slots have had by then are not
//! delivered to them a second time (the *floors*). A new slot waits for that, if the partition is read further on: earlier messages will be read again.
//! Its wait ends with a report that the reader made after it had heard of the slot: before, the reader may have passed over records for which the shard had
//! no subscriber.

mod position;
mod saved;
#[cfg(test)]
mod tests;
mod write;

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, HashMap};
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use smallvec::SmallVec;

use crate::logs::slot_of;
use forebay_runtime::seam::Monotonic;
use forebay_session::{PartitionKey, Placed, RecordPlace};

use self::position::Position;
pub(crate) use self::saved::SavedPositions;
use self::saved::{ALL, SavedPosition};

/// The records above positions that the smallest logs name for sessions, and the sessions behind. Larger logs name more ([`Given::naming`]). Copies of more
/// records end when the positions have passed them.
const NAMES_MAX: usize = 1_024;

/// The most bytes of a name.
const NAME_BYTES: usize = 16;

/// The most dropped copies that a slot remembers.
const DROPPED_MAX: usize = NAMES_MAX / 4;

/// The longest time for which a copy that is over waits to be written down with others.
const WRITE_WITHIN: Duration = Duration::from_millis(50);

/// The delay before copies that could not end are tried again.
const TRY_AGAIN: Duration = Duration::from_secs(1);

/// The longest time for which new subscriptions wait for their retained messages after a slot has come: a partition may not be readable.
const CATCHES_UP_WITHIN: Duration = Duration::from_secs(10);

/// `Reads` is the way in which a partition is read from a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reads {
    /// On: all records below were received.
    On,
    /// Again: records that the shard's slots have had are not delivered to them a second time. Slots without a position in the log get nothing below this
    /// offset.
    Again(i64),
    /// Anew, for all slots: the log has other records there, or an operator wants them sent again.
    Anew,
}

/// `RouteRecord` is a record of a route of `[broker]`, and what its reader knows of it.
#[derive(Clone, Copy, Debug)]
pub struct RouteRecord {
    /// The record's place.
    pub place: RecordPlace,
    /// The topic, by its index among those of the source.
    pub topic: u16,
    /// The record was read before: only kept sessions of new slots may need it.
    pub is_again: bool,
    /// The parts that a record with the retain flag still needs. Only the record's reader sets this.
    pub retains: Retains,
}

/// `Retains` names the parts that a record with the retain flag still needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retains {
    /// The message in memory, and its copy in Kafka.
    Message,
    /// The copy alone: the message, or a newer one of its MQTT topic, is in memory.
    Copy,
    /// Nothing: Kafka has the copy, or that of a newer message of its MQTT topic.
    Nothing,
}

impl RouteRecord {
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

/// Sessions by their numbers in the log.
type Numbers = SmallVec<[u64; 2]>;

/// The records that only memory has for sessions of a slot: the lowest offset in each partition for each session, by its number in the log.
pub(crate) type Behind = BTreeMap<(PartitionKey, u64), i64>;

/// The keys of all sessions in a partition.
const fn all_of(of: PartitionKey) -> RangeInclusive<(PartitionKey, u64)> {
    (of, 0)..=(of, u64::MAX)
}

/// A copy in the log: its record, and the sessions that it is for, by their numbers.
#[derive(Clone, Debug)]
struct Stored {
    place: RecordPlace,
    sessions: Numbers,
}

/// A slot.
#[derive(Debug, Default)]
struct OfSlot {
    /// The number of the positions in the log.
    record: Option<u64>,
    positions: BTreeMap<PartitionKey, Position>,
    /// Positions of sessions that were behind the slot when the log was taken up, until they are not.
    behind: BTreeMap<(PartitionKey, u64), Position>,
    /// Copies in the log, by number, of records that the positions in the log do not name yet.
    placed: HashMap<u64, Stored>,
    /// Copies among `placed` that are over.
    over: Vec<u64>,
    /// The number of names in the log.
    named: usize,
    /// Records of copies that a session's queue had no room for, if the positions in the log do not name them yet: the session's number and the place.
    dropped: Vec<(u64, RecordPlace)>,
}

impl OfSlot {
    /// The positions of the slot and of sessions that are behind, in a partition.
    fn positions_in(&mut self, of: PartitionKey) -> impl Iterator<Item = &mut Position> {
        let behind = self.behind.range_mut(all_of(of)).map(|(_, position)| position);
        self.positions.get_mut(&of).into_iter().chain(behind)
    }

    /// Whether all sessions of a copy have its record by the positions in the log.
    fn has(&self, Stored { place, sessions }: &Stored) -> bool {
        let position = self.positions.get(&place.of);
        position.is_some_and(|of| of.saved.has(place.offset, sessions))
    }
}

/// See the module.
#[derive(Debug, Default)]
pub struct Given {
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
    /// The most names in a log.
    names_max: usize,
}

impl Given {
    /// For logs of which a record may have this many bytes. One record has the positions: half of its bytes are for names.
    pub(crate) fn naming(record_bytes: usize) -> Self {
        Self { names_max: (record_bytes / 2 / NAME_BYTES).max(NAMES_MAX), ..Self::default() }
    }

    /// Notes that a message of this record was received.
    pub(crate) fn begins(&mut self, RouteRecord { place, topic, is_again, .. }: RouteRecord) -> Placed {
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
        let (time, asked) = (self.time, self.asked + 1);
        let (next, low) = known.unwrap_or((i64::MIN, 0));
        for (slot, of_slot) in &mut self.slots {
            let mut is_unheard = false;
            if let (Reads::Again(rest), Entry::Vacant(vacant)) = (how, of_slot.positions.entry(of)) {
                vacant.insert(Position::default()).reads_again(time, (next.max(rest), low));
            }
            for position in of_slot.positions_in(of) {
                match how {
                    Reads::On => {}
                    // A slot with a position may be in the middle of its gap: it has had the records that were read here, but not the rest.
                    Reads::Again(_) => position.reads_again(time, (next, low)),
                    Reads::Anew => {
                        let low = known.map_or(offset, |(_, low)| low);
                        is_unheard |= position.reads_anew(offset, low, (heard, asked));
                    }
                }
                position.ends_wait(time, offset, heard);
            }
            if is_unheard {
                self.news.push(*slot);
            }
        }
        self.set_floor(of);
    }

    fn set_floor(&mut self, of: PartitionKey) {
        let (mut floor, mut since) = (i64::MIN, 0);
        for position in self.slots.values_mut().flat_map(|slot| slot.positions_in(of)) {
            (floor, since) = (floor.max(position.end()), since.max(position.since));
        }
        if let Some(reading) = self.readings.get_mut(&of) {
            (reading.floor, reading.since) = (floor, since);
        }
    }

    /// Notes up to which records messages were retained when the process began.
    pub fn has_copies_to(&mut self, copied_to: Arc<BTreeMap<PartitionKey, i64>>) {
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
        let of_slot = self.slots.get(&slot);
        let Some((of_slot, position)) = of_slot.and_then(|slot| Some((slot, slot.positions.get(&place.of)?))) else {
            return false;
        };
        let own = session.and_then(|session| of_slot.behind.get(&(place.of, session))).unwrap_or(position);
        let had = || position.above.get(&place.offset);
        let has = |session| had().is_some_and(|had| had.contains(&session) || had.contains(&ALL));
        session.is_some() && time < own.since || place.offset < own.floor(time) || session.is_some_and(has)
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
        let more = u32::try_from(slot.named / NAMES_MAX).unwrap_or(u32::MAX);
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
    pub fn leaves(&mut self, slot: u16) {
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
            of_slot.positions.entry(*of).or_default();
            for position in of_slot.positions_in(*of).filter(|position| !position.waits()) {
                position.below = position.below.max(reading.low());
            }
        }
        let OfSlot { positions, behind, .. } = of_slot;
        behind.retain(|(of, _), own| own.waits() || positions.get(of).is_none_or(|of_all| own.below < of_all.below));
    }

    /// The sessions behind their slot in each partition, the lowest first. `memory`: what only memory has for sessions.
    fn behind(of_slot: &OfSlot, memory: &Behind) -> BTreeMap<PartitionKey, Vec<(i64, u64)>> {
        let mut all: Behind = of_slot.behind.iter().map(|(key, position)| (*key, position.below)).collect();
        for (key, offset) in memory {
            all.entry(*key).and_modify(|known| *known = *offset.min(known)).or_insert(*offset);
        }
        let mut behind: BTreeMap<PartitionKey, Vec<(i64, u64)>> = BTreeMap::new();
        for ((of, session), offset) in all {
            if of_slot.positions.get(&of).is_some_and(|position| offset < position.below) {
                behind.entry(of).or_default().push((offset, session));
            }
        }
        behind.values_mut().for_each(|sessions| sessions.sort_unstable());
        behind
    }

    /// The positions to write to a slot's log. `None`: nothing has changed, or, with `is_for_over`, none of the copies that are over could end then. `memory`:
    /// what only memory has for sessions of the slot.
    fn unsaved(&mut self, slot: u16, is_for_over: bool, memory: &Behind) -> Option<SavedPositions> {
        self.settle(slot);
        let names_max = self.names_max;
        let of_slot = self.slots.get(&slot)?;
        let behind = Self::behind(of_slot, memory);
        let saved = |of: &PartitionKey| &of_slot.positions[of].saved;
        // The log has passed what these have not been given: they are named in any case.
        let named =
            |of: &PartitionKey, all: &[(i64, u64)]| all.partition_point(|(offset, _)| *offset < saved(of).below);
        let mut count: usize = behind.iter().map(|(of, all)| named(of, all)).sum();
        let (mut all, mut has_moved, mut frees) = (BTreeMap::new(), false, false);
        for (of, position) in &of_slot.positions {
            let mut now = SavedPosition { below: position.below, ..SavedPosition::default() };
            for (offset, session) in behind.get(of).into_iter().flatten() {
                if *offset >= position.saved.below {
                    if count >= names_max {
                        now.below = *offset;
                        break;
                    }
                    count += 1;
                }
                now.behind.insert(*session, *offset);
            }
            now.by = position
                .saved
                .by
                .iter()
                .filter(|(offset, session)| !now.is_below(*offset, *session))
                .copied()
                .collect();
            count += now.by.len();
            has_moved |= now.below > position.saved.below || now.behind != position.saved.behind;
            all.insert(*of, now);
        }
        for Stored { place, sessions } in of_slot.over.iter().filter_map(|number| of_slot.placed.get(number)) {
            let Some(saved) = all.get_mut(&place.of) else { continue };
            if !saved.has(place.offset, sessions) {
                if count >= names_max {
                    continue;
                }
                let had = sessions.iter().map(|session| (place.offset, *session));
                count += had.map(|had| usize::from(saved.by.insert(had))).sum::<usize>();
            }
            frees = true;
        }
        for (session, place) in &of_slot.dropped {
            let Some(saved) = all.get_mut(&place.of) else { continue };
            if !saved.has(place.offset, &[*session]) && count < names_max {
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
        of_slot.named = said.0.values().map(|saved| saved.behind.len() + saved.by.len()).sum();
        for (of, saved) in said.0 {
            let position = of_slot.positions.entry(of).or_default();
            position.above = position.above.split_off(&saved.lowest());
            position.saved = saved;
        }
        let (mut placed, over) = (std::mem::take(&mut of_slot.placed), std::mem::take(&mut of_slot.over));
        let stays = |number: &u64| placed.get(number).is_some_and(|stored| !of_slot.has(stored));
        let (over, ends): (Vec<u64>, Vec<u64>) = over.into_iter().partition(stays);
        placed.retain(|_, stored| !of_slot.has(stored));
        (of_slot.placed, of_slot.over) = (placed, over);
        ends
    }
}
