//! Client id to owning shard. The hash is part of the product: it must give the same answer in every version, on every
//! machine, because other shards and other instances rely on it. The golden test below pins it.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use xxhash_rust::xxh3::xxh3_64;

use forebay_base::limits::SLOTS;
use forebay_config::Config;

/// The server of a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// This shard of this process.
    Here(usize),
    /// Another instance, by its index in the table of instances.
    Elsewhere(u16),
    /// No instance, for now.
    Nobody,
}

impl Place {
    /// The first place of another instance. Lower places are shards, the last number is no instance.
    const ELSEWHERE: u32 = 1 << 16;
    const NOBODY: u32 = u32::MAX;

    fn encode(self) -> u32 {
        match self {
            Self::Here(shard) => u32::try_from(shard).unwrap_or(Self::NOBODY),
            Self::Elsewhere(instance) => Self::ELSEWHERE | u32::from(instance),
            Self::Nobody => Self::NOBODY,
        }
    }

    const fn decode(place: u32) -> Self {
        match place {
            Self::NOBODY => Self::Nobody,
            shard if shard < Self::ELSEWHERE => Self::Here(shard as usize),
            instance => Self::Elsewhere(instance as u16),
        }
    }
}

/// The table of slots, which all shards and threads of a process read. With `[broker]` a client belongs to a slot for life, and a slot to a shard or an
/// instance. Without it each shard has its clients.
#[derive(Debug)]
pub struct Slots {
    shards: usize,
    /// A place for each slot. Empty: no `[broker]`.
    table: Box<[AtomicU32]>,
    /// Whether slots are acquired and released while the process runs.
    are_given_out: AtomicBool,
    /// Slots with a log that this process cannot take up, each with the reason.
    unreadable: Mutex<BTreeMap<u16, Arc<str>>>,
}

impl Slots {
    /// The table without `[broker]`: the hash of a client id names its shard.
    #[must_use]
    pub fn of_shards(shards: usize) -> Self {
        Self { shards, table: Box::default(), are_given_out: AtomicBool::new(false), unreadable: Mutex::default() }
    }

    /// The table for a configuration, with no slot owned yet.
    #[must_use]
    pub fn of(config: &Config) -> Self {
        let shards = config.service.shards;
        config.broker.as_ref().map_or_else(|| Self::of_shards(shards), |broker| Self::of_slots(shards, broker.slots()))
    }

    /// The table with `[broker]`: no slot is owned.
    #[must_use]
    pub fn of_broker(shards: usize) -> Self {
        Self::of_slots(shards, SLOTS)
    }

    /// Like [`Slots::of_broker`], with another number of slots.
    fn of_slots(shards: usize, slots: u16) -> Self {
        let table = (0..slots).map(|_| AtomicU32::new(Place::NOBODY)).collect();
        Self { shards, table, are_given_out: AtomicBool::new(false), unreadable: Mutex::default() }
    }

    /// Whether a group assigns slots: a process that loses one continues with the others. Without a group the process has all of them or ends.
    #[must_use]
    pub fn are_given_out(&self) -> bool {
        self.are_given_out.load(Ordering::Relaxed)
    }

    /// Notes that a group assigns slots from now on.
    pub fn set_given_out(&self) {
        self.are_given_out.store(true, Ordering::Relaxed);
    }

    /// The number of slots; 0 without `[broker]`.
    #[must_use]
    pub const fn count(&self) -> usize {
        self.table.len()
    }

    /// The slot of a client: xxh3 (64 bits, seed 0) of its client id, modulo the number of slots. `None`: no `[broker]`.
    #[must_use]
    pub fn slot(&self, client_id: &str) -> Option<u16> {
        let count = self.count();
        (count > 0).then(|| u16::try_from(owner(client_id, count)).unwrap_or(0))
    }

    /// The server of a client.
    #[must_use]
    pub fn place(&self, client_id: &str) -> Place {
        self.slot(client_id).map_or_else(|| Place::Here(owner(client_id, self.shards)), |slot| self.at(slot))
    }

    /// The place that names a client without an ID: the shard that has its connection, or another one if that has no slot.
    #[must_use]
    pub fn for_nameless(&self, shard: usize) -> Place {
        let is_own = |slot: &u16| self.at(*slot) == Place::Here(shard);
        let all = || 0..u16::try_from(self.count()).unwrap_or(u16::MAX);
        if self.table.is_empty() || all().any(|slot| is_own(&slot)) {
            return Place::Here(shard);
        }
        all().map(|slot| self.at(slot)).find(|place| matches!(place, Place::Here(_))).unwrap_or(Place::Nobody)
    }

    /// Names a client without an ID [MQTT-3.1.3-6], so that the shard that has its connection owns it: no socket moves for a name that Forebay chooses. 96
    /// random bits; after too many tries the last name is taken.
    pub fn name(&self, shard: usize, mut random: impl FnMut() -> u64) -> String {
        let mut name = String::new();
        for _ in 0..64 * self.shards.max(self.count()) {
            name = format!("forebay-{:016x}{:08x}", random(), random() & 0xffff_ffff);
            if self.place(&name) == Place::Here(shard) {
                break;
            }
        }
        name
    }

    /// The server of a slot.
    #[must_use]
    pub fn at(&self, slot: u16) -> Place {
        let place = self.table.get(usize::from(slot));
        place.map_or(Place::Nobody, |place| Place::decode(place.load(Ordering::Acquire)))
    }

    /// `leave` sets the server of a slot after this shard, unless another owner has been set meanwhile.
    pub fn leave(&self, slot: u16, shard: usize, to: Place) {
        if let Some(at) = self.table.get(usize::from(slot)) {
            let (from, to) = (Place::Here(shard).encode(), to.encode());
            let _ = at.compare_exchange(from, to, Ordering::AcqRel, Ordering::Acquire);
        }
    }

    /// Notes that this process cannot take up the log of a slot, which nobody serves then.
    pub fn cannot_take(&self, slot: u16, why: &str) {
        self.unreadable().insert(slot, why.into());
        self.set(slot, Place::Nobody);
    }

    /// Slots that nobody serves because this process cannot take up their logs, with the reasons.
    #[must_use]
    pub fn not_taken(&self) -> Vec<(u16, Arc<str>)> {
        let unreadable = self.unreadable();
        let all = unreadable.iter().filter(|(slot, _)| self.at(**slot) == Place::Nobody);
        all.map(|(slot, why)| (*slot, Arc::clone(why))).collect()
    }

    fn unreadable(&self) -> MutexGuard<'_, BTreeMap<u16, Arc<str>>> {
        self.unreadable.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sets the server of a slot. Without a table, or for a slot outside of it, does nothing.
    pub fn set(&self, slot: u16, place: Place) {
        if place != Place::Nobody {
            self.unreadable().remove(&slot);
        }
        let at = self.table.get(usize::from(slot));
        at.into_iter().for_each(|at| at.store(place.encode(), Ordering::Release));
    }
}

/// The shard that owns a client id: xxh3 (64 bits, seed 0) of its UTF-8 bytes, modulo the number of shards.
#[must_use]
pub fn owner(client_id: &str, shards: usize) -> usize {
    let shards = shards.max(1) as u64;
    usize::try_from(xxh3_64(client_id.as_bytes()) % shards).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_pinned() {
        // xxh3 of the empty input, as the algorithm's own documents give it.
        assert_eq!(xxh3_64(b""), 0x2d06_8005_38d3_94c2);
        let golden = [("", 4), ("a", 1), ("dev-1", 6), ("sensor/berlin/42", 3), ("Grüße", 1), ("forebay", 3)];
        let at_7: Vec<_> = golden.iter().map(|(id, _)| (*id, owner(id, 7))).collect();
        assert_eq!(at_7, golden.to_vec());
    }

    #[test]
    fn a_slot_has_the_place_that_was_noted_last() {
        let slots = Slots::of_broker(3);
        let slot = slots.slot("a").expect("there are slots");
        assert_eq!((slots.count(), usize::from(slot), slots.place("a")), (64, owner("a", 64), Place::Nobody));
        for place in
            [Place::Nobody, Place::Here(0), Place::Here(62), Place::Elsewhere(0), Place::Elsewhere(u16::MAX - 1)]
        {
            slots.set(slot, place);
            assert_eq!((slots.at(slot), slots.place("a")), (place, place));
        }
        assert_eq!(slots.at((slot + 1) % 64), Place::Nobody);
        slots.leave(slot, 1, Place::Nobody);
        assert_eq!(slots.at(slot), Place::Elsewhere(u16::MAX - 1), "it was noted after that");
        slots.set(slot, Place::Here(1));
        slots.leave(slot, 1, Place::Nobody);
        assert_eq!(slots.at(slot), Place::Nobody);
        let without = Slots::of_shards(7);
        without.set(slot, Place::Nobody);
        assert_eq!(without.place("dev-1"), Place::Here(owner("dev-1", 7)));
    }

    #[test]
    fn a_slot_that_cannot_be_taken_has_a_reason_until_somebody_serves_it() {
        let slots = Slots::of_broker(1);
        slots.set(3, Place::Here(0));
        slots.cannot_take(3, "why");
        assert_eq!((slots.at(3), slots.not_taken()), (Place::Nobody, vec![(3, "why".into())]));
        slots.set(3, Place::Elsewhere(1));
        slots.set(3, Place::Nobody);
        assert!(slots.not_taken().is_empty());
    }

    #[test]
    fn one_shard_owns_everything_and_many_share_evenly() {
        assert_eq!(owner("anything", 1), 0);
        let mut counts = [0u32; 8];
        for i in 0..80_000 {
            counts[owner(&format!("device-{i}"), 8)] += 1;
        }
        assert!(counts.iter().all(|c| (9_400..10_600).contains(c)), "{counts:?}");
    }

    #[test]
    fn a_name_we_choose_belongs_to_the_shard_that_chose_it() {
        let mut random = fastrand::Rng::with_seed(7);
        for shard in 0..5 {
            let name = Slots::of_shards(5).name(shard, || random.u64(..));
            assert_eq!(owner(&name, 5), shard);
            assert!(name.len() <= 40 && name.is_ascii());
        }
    }
}
