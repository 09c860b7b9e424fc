//! Positions of a slot in the partitions of routes, as bytes in its log: partitions u32, then for each the topic u64, the partition u32, the position i64,
//! the number of records above it that all sessions have been given u32, the offset of each i64, the number of those that one session has been given u32, and
//! for each the offset i64 and the session's number in the log u64. All big-endian.

use std::collections::{BTreeMap, BTreeSet};

use forebay_session::PartitionKey;

/// The position in one partition in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SavedPosition {
    /// The offset below which all records have been given to the slot's sessions.
    pub(super) below: i64,
    /// Records above `below` that have been given to all of them, too.
    pub(super) above: BTreeSet<i64>,
    /// Records above `below` that have been given to some of them: the offset and the session's number.
    pub(super) by: BTreeSet<(i64, u64)>,
}

impl SavedPosition {
    /// Whether these sessions have the record at this offset.
    pub(super) fn has(&self, offset: i64, sessions: &[u64]) -> bool {
        let is_by_all = offset < self.below || self.above.contains(&offset);
        is_by_all || !sessions.is_empty() && sessions.iter().all(|session| self.by.contains(&(offset, *session)))
    }
}

impl Default for SavedPosition {
    /// The position in a log that does not name the partition: it is below any other.
    fn default() -> Self {
        Self { below: -1, above: BTreeSet::new(), by: BTreeSet::new() }
    }
}

/// The positions in all partitions in the log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SavedPositions(pub(super) BTreeMap<PartitionKey, SavedPosition>);

impl SavedPositions {
    /// Appends the positions.
    pub(in super::super) fn encode(&self, out: &mut Vec<u8>) {
        let count = |len: usize| u32::try_from(len).unwrap_or(u32::MAX).to_be_bytes();
        out.extend_from_slice(&count(self.0.len()));
        for (PartitionKey { topic, partition }, SavedPosition { below, above, by }) in &self.0 {
            out.extend_from_slice(&topic.to_be_bytes());
            out.extend_from_slice(&partition.to_be_bytes());
            out.extend_from_slice(&below.to_be_bytes());
            out.extend_from_slice(&count(above.len()));
            above.iter().for_each(|offset| out.extend_from_slice(&offset.to_be_bytes()));
            out.extend_from_slice(&count(by.len()));
            for (offset, session) in by {
                out.extend_from_slice(&offset.to_be_bytes());
                out.extend_from_slice(&session.to_be_bytes());
            }
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
            let (count, behind) = behind.split_first_chunk()?;
            let count = usize::try_from(u32::from_be_bytes(*count)).ok()?;
            let (by, behind) = behind.split_at_checked(count.checked_mul(16)?)?;
            rest = behind;
            let key = PartitionKey { topic: word(0), partition: half(8) };
            let words = |bytes: &[u8]| bytes.as_chunks::<8>().0.iter().map(|word| u64::from_be_bytes(*word)).collect();
            let (above, by): (Vec<u64>, Vec<u64>) = (words(above), words(by));
            let above = above.into_iter().map(u64::cast_signed).collect();
            let by = by.as_chunks::<2>().0.iter().map(|[offset, session]| (offset.cast_signed(), *session)).collect();
            all.insert(key, SavedPosition { below: word(12).cast_signed(), above, by });
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
            all in prop::collection::btree_map(
                any::<(u64, u32)>(),
                (any::<i64>(), prop::collection::btree_set(any::<i64>(), 0..4), prop::collection::btree_set(any::<(i64, u64)>(), 0..4)),
                0..6,
            ),
            cut in any::<prop::sample::Index>(),
        ) {
            let all = all.into_iter().map(|((topic, partition), (below, above, by))| (PartitionKey { topic, partition }, SavedPosition { below, above, by }));
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
