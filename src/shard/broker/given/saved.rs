//! Positions of a slot in the partitions of routes, as bytes in its log: partitions u32, then for each the topic u64, the partition u32, the position i64,
//! the number of records above it that have been given u32, and the offset of each i64. All big-endian.

use std::collections::{BTreeMap, BTreeSet};

use crate::session::PartitionKey;

/// The position in one partition in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SavedPosition {
    /// The offset below which all records have been given to the slot's sessions.
    pub(super) below: i64,
    /// Records above `below` that have been given, too.
    pub(super) above: BTreeSet<i64>,
}

impl Default for SavedPosition {
    /// The position in a log that does not name the partition: it is below any other.
    fn default() -> Self {
        Self { below: -1, above: BTreeSet::new() }
    }
}

/// The positions in all partitions in the log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct SavedPositions(pub(super) BTreeMap<PartitionKey, SavedPosition>);

impl SavedPositions {
    /// Appends the positions.
    pub(in super::super) fn encode(&self, out: &mut Vec<u8>) {
        let count = |len: usize| u32::try_from(len).unwrap_or(u32::MAX).to_be_bytes();
        out.extend_from_slice(&count(self.0.len()));
        for (PartitionKey { topic, partition }, SavedPosition { below, above }) in &self.0 {
            out.extend_from_slice(&topic.to_be_bytes());
            out.extend_from_slice(&partition.to_be_bytes());
            out.extend_from_slice(&below.to_be_bytes());
            out.extend_from_slice(&count(above.len()));
            above.iter().for_each(|offset| out.extend_from_slice(&offset.to_be_bytes()));
        }
    }

    /// Reads positions, which take up all of `bytes`. `None`: the bytes are damaged.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let (count, mut rest) = bytes.split_first_chunk()?;
        let mut all = BTreeMap::new();
        for _ in 0..u32::from_be_bytes(*count) {
            let (head, behind) = rest.split_first_chunk::<24>()?;
            let word = |at: usize| u64::from_be_bytes(std::array::from_fn(|byte| head[at + byte]));
            let half = |at: usize| u32::from_be_bytes(std::array::from_fn(|byte| head[at + byte]));
            let (above, behind) = behind.split_at_checked(usize::try_from(half(20)).ok()?.checked_mul(8)?)?;
            rest = behind;
            let key = PartitionKey { topic: word(0), partition: half(8) };
            let above = above.as_chunks::<8>().0.iter().map(|offset| i64::from_be_bytes(*offset)).collect();
            all.insert(key, SavedPosition { below: word(12).cast_signed(), above });
        }
        rest.is_empty().then_some(Self(all))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn positions_come_back_as_they_went(
            all in prop::collection::btree_map(any::<(u64, u32)>(), (any::<i64>(), prop::collection::btree_set(any::<i64>(), 0..4)), 0..6),
            cut in any::<prop::sample::Index>(),
        ) {
            let all = all.into_iter().map(|((topic, partition), (below, above))| (PartitionKey { topic, partition }, SavedPosition { below, above }));
            let all = SavedPositions(all.collect());
            let mut bytes = Vec::new();
            all.encode(&mut bytes);
            prop_assert_eq!(SavedPositions::decode(&bytes), Some(all));
            prop_assert_eq!(SavedPositions::decode(&bytes[..cut.index(bytes.len())]), None);
        }

        /// Any bytes of a log are read or refused.
        #[test]
        fn other_bytes_are_read_or_refused(bytes: Vec<u8>) {
            let _ = SavedPositions::decode(&bytes);
        }
    }
}
