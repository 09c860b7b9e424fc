//! The entries of [`super::interest`]: keys, each with the shards that have it, in a bucket of a few. Every shard adds and removes
//! itself, all read, without a lock.
//!
//! `tests/loom.rs` runs this file under every order that the memory model allows, so its atomics come from `super`.

use super::atomic::{AtomicU64, Ordering};

/// The highest bit of a mask of shards: the entry is being taken.
pub const TAKEN: u64 = 1 << 63;

/// A key and the shards that have it.
#[derive(Debug, Default)]
pub struct Slot {
    /// 0: never used.
    key: AtomicU64,
    shards: AtomicU64,
}

/// Enters a key for the shard of this bit: every later read of the bucket finds the bit. False: there is no room.
pub fn enter(bucket: &[Slot], key: u64, bit: u64) -> bool {
    bucket.iter().any(|slot| slot.join(key, bit)) || bucket.iter().any(|slot| slot.take(key, bit))
}

impl Slot {
    /// The shards of a key, maybe with [`TAKEN`], if the slot is of this key.
    #[inline]
    pub fn shards_of(&self, key: u64) -> u64 {
        if self.key.load(Ordering::Acquire) == key { self.shards.load(Ordering::Acquire) } else { 0 }
    }

    /// Takes a shard's bit away, if the slot is of this key.
    pub fn leave(&self, key: u64, bit: u64) {
        if self.key.load(Ordering::Acquire) == key {
            self.shards.fetch_and(!bit, Ordering::AcqRel);
        }
    }

    /// Sets a bit, if the slot is of this key.
    fn join(&self, key: u64, bit: u64) -> bool {
        if self.key.load(Ordering::Acquire) != key {
            return false;
        }
        // An entry without a shard may belong to another key at any time: it is treated as an empty one.
        let more = |shards| (shards != 0 && shards & TAKEN == 0).then_some(shards | bit);
        if self.shards.fetch_update(Ordering::AcqRel, Ordering::Acquire, more).is_err() {
            return false;
        }
        // The key stays while a bit is set. If it was another key by then, that one has a shard too many for a moment.
        if self.key.load(Ordering::Acquire) == key {
            return true;
        }
        self.shards.fetch_and(!bit, Ordering::AcqRel);
        false
    }

    /// Takes a slot that no shard uses.
    fn take(&self, key: u64, bit: u64) -> bool {
        if self.shards.compare_exchange(0, TAKEN, Ordering::AcqRel, Ordering::Acquire).is_err() {
            return false;
        }
        self.key.store(key, Ordering::Release);
        // A swap, not a store: loom would order a store before the write of another shard's `leave` since the entry was taken.
        self.shards.swap(bit, Ordering::AcqRel);
        true
    }
}
