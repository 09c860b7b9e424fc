//! Sets of slots.

use std::fmt;

/// The most slots that a broker has.
pub(super) const SLOTS_MAX: u16 = 256;

/// A set of slots.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct SlotSet([u64; SLOTS_MAX as usize / 64]);

impl SlotSet {
    /// Whether the set contains a slot.
    #[must_use]
    pub fn contains(&self, slot: u16) -> bool {
        self.0.get(usize::from(slot / 64)).is_some_and(|word| word & (1 << (slot % 64)) != 0)
    }

    /// Adds a slot; one beyond `SLOTS_MAX` is ignored.
    pub fn insert(&mut self, slot: u16) {
        if let Some(word) = self.0.get_mut(usize::from(slot / 64)) {
            *word |= 1 << (slot % 64);
        }
    }

    /// Whether the set is empty.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0 == Self::default().0
    }

    /// The number of slots in the set.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.iter().map(|word| word.count_ones() as usize).sum()
    }

    /// The slots, in order.
    pub fn iter(&self) -> impl Iterator<Item = u16> {
        let set = *self;
        (0..SLOTS_MAX).filter(move |slot| set.contains(*slot))
    }

    /// The slots of this set that are not in the other one.
    #[must_use]
    pub fn without(&self, other: &Self) -> Self {
        Self(std::array::from_fn(|i| self.0[i] & !other.0[i]))
    }

    /// The slots that are in this set, in the other one, or in both.
    #[must_use]
    pub fn with(&self, other: &Self) -> Self {
        Self(std::array::from_fn(|i| self.0[i] | other.0[i]))
    }

    /// Appends the set as bytes, words in order, big-endian.
    pub(super) fn encode(self, bytes: &mut Vec<u8>) {
        self.0.iter().for_each(|word| bytes.extend_from_slice(&word.to_be_bytes()));
    }

    pub(super) const fn of_words(words: [u64; SLOTS_MAX as usize / 64]) -> Self {
        Self(words)
    }
}

impl FromIterator<u16> for SlotSet {
    fn from_iter<I: IntoIterator<Item = u16>>(slots: I) -> Self {
        let mut set = Self::default();
        slots.into_iter().for_each(|slot| set.insert(slot));
        set
    }
}

impl fmt::Debug for SlotSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}
