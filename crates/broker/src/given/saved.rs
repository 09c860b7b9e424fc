//! Positions of a slot in the partitions of routes, as bytes in its log: partitions u32, then for each the topic u64, the partition u32, the position i64,
//! the number of sessions that are behind u32, for each the offset of its own position i64 and its number in the log u64, the number of records that single sessions
//! have been given beyond their position u32, and for each the offset i64 and the session's number u64. Where no session is behind in any partition, the first
//! number is that of records which earlier versions named for all sessions, with the offset of each i64. All big-endian.

use std::collections::{BTreeMap, BTreeSet};

use forebay_session::PartitionKey;

/// In the place of a session's number, all sessions of the slot: earlier versions named records for them.
pub(super) const ALL: u64 = u64::MAX;

/// The position in one partition in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SavedPosition {
    /// The offset below which all records have been given to the slot's sessions.
    pub(super) below: i64,
    /// Sessions that are behind: the offset below which each has been given all records, by the session's number.
    pub(super) behind: BTreeMap<u64, i64>,
    /// Records that have been given to single sessions beyond that: the offset and the session's number.
    pub(super) by: BTreeSet<(i64, u64)>,
}

impl SavedPosition {
    /// Whether the position of this session is beyond this offset.
    pub(super) fn is_below(&self, offset: i64, session: u64) -> bool {
        offset < self.behind.get(&session).map_or(self.below, |own| self.below.min(*own))
    }

    /// Whether these sessions have the record at this offset.
    pub(super) fn has(&self, offset: i64, sessions: &[u64]) -> bool {
        let is_named = |session: u64| self.by.contains(&(offset, session)) || self.by.contains(&(offset, ALL));
        let has = |session: &u64| self.is_below(offset, *session) || is_named(*session);
        offset < self.below && sessions.is_empty() || !sessions.is_empty() && sessions.iter().all(has)
    }

    /// The offset below which all sessions have been given all records.
    pub(super) fn lowest(&self) -> i64 {
        self.behind.values().copied().fold(self.below, i64::min)
    }
}

impl Default for SavedPosition {
    /// The position in a log that does not name the partition: it is below any other.
    fn default() -> Self {
        Self { below: -1, behind: BTreeMap::new(), by: BTreeSet::new() }
    }
}

/// The positions in all partitions in the log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SavedPositions(pub(super) BTreeMap<PartitionKey, SavedPosition>);

impl SavedPositions {
    /// Appends the positions.
    pub(in super::super) fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&u32::try_from(self.0.len()).unwrap_or(u32::MAX).to_be_bytes());
        for (PartitionKey { topic, partition }, SavedPosition { below, behind, by }) in &self.0 {
            out.extend_from_slice(&topic.to_be_bytes());
            out.extend_from_slice(&partition.to_be_bytes());
            out.extend_from_slice(&below.to_be_bytes());
            put_names(behind.iter().map(|(session, offset)| (*offset, *session)), out);
            put_names(by.iter().copied(), out);
        }
    }

    /// Whether some sessions are behind.
    pub(in super::super) fn has_behind(&self) -> bool {
        self.0.values().any(|position| !position.behind.is_empty())
    }

    /// Reads positions, which take up all of `bytes`. `has_behind`: some sessions are behind. `None`: the bytes are damaged.
    pub(crate) fn decode(bytes: &[u8], has_behind: bool) -> Option<Self> {
        let (count, mut rest) = bytes.split_first_chunk()?;
        let mut all = BTreeMap::new();
        for _ in 0..u32::from_be_bytes(*count) {
            let (head, after) = rest.split_first_chunk::<20>()?;
            let word = |at: usize| u64::from_be_bytes(std::array::from_fn(|byte| head[at + byte]));
            let partition = u32::from_be_bytes(std::array::from_fn(|byte| head[8 + byte]));
            let (first, after) = if has_behind { take_names::<2>(after)? } else { take_names::<1>(after)? };
            let (by, after) = take_names::<2>(after)?;
            rest = after;
            let mut position = SavedPosition {
                below: word(12).cast_signed(),
                by: by.into_iter().collect(),
                ..SavedPosition::default()
            };
            if has_behind {
                position.behind = first.into_iter().map(|(offset, session)| (session, offset)).collect();
            } else {
                position.by.extend(first);
            }
            all.insert(PartitionKey { topic: word(0), partition }, position);
        }
        rest.is_empty().then_some(Self(all))
    }
}

/// Appends a number of names, and these: offsets with the numbers of sessions.
fn put_names(names: impl ExactSizeIterator<Item = (i64, u64)>, out: &mut Vec<u8>) {
    out.extend_from_slice(&u32::try_from(names.len()).unwrap_or(u32::MAX).to_be_bytes());
    for (offset, session) in names {
        out.extend_from_slice(&offset.to_be_bytes());
        out.extend_from_slice(&session.to_be_bytes());
    }
}

/// Offsets with the numbers of sessions.
type Names = Vec<(i64, u64)>;

/// Reads names of this many words: an offset, and the number of a session or none for [`ALL`]. Returns them and the bytes after them.
fn take_names<const WORDS: usize>(bytes: &[u8]) -> Option<(Names, &[u8])> {
    let (count, rest) = bytes.split_first_chunk()?;
    let count = usize::try_from(u32::from_be_bytes(*count)).ok()?;
    let (names, rest) = rest.split_at_checked(count.checked_mul(8 * WORDS)?)?;
    let names = names.as_chunks::<8>().0.as_chunks::<WORDS>().0.iter();
    let name = |words: &[[u8; 8]; WORDS]| {
        (i64::from_be_bytes(words[0]), words.get(1).map_or(ALL, |word| u64::from_be_bytes(*word)))
    };
    Some((names.map(name).collect(), rest))
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
                (any::<i64>(), prop::collection::btree_map(any::<u64>(), any::<i64>(), 0..4), prop::collection::btree_set(any::<(i64, u64)>(), 0..4)),
                0..6,
            ),
            cut in any::<prop::sample::Index>(),
        ) {
            let all = all.into_iter().map(|((topic, partition), (below, behind, by))| (PartitionKey { topic, partition }, SavedPosition { below, behind, by }));
            let all = SavedPositions(all.collect());
            let mut bytes = Vec::new();
            all.encode(&mut bytes);
            prop_assert_eq!(SavedPositions::decode(&bytes, true), Some(all));
            prop_assert_eq!(SavedPositions::decode(&bytes[..cut.index(bytes.len())], true), None);
        }

        /// Any bytes of a log are read or refused.
        #[test]
        fn other_bytes_are_read_or_refused(bytes: Vec<u8>, has_behind: bool) {
            let _ = SavedPositions::decode(&bytes, has_behind);
        }
    }

    /// One partition, with a record that all sessions had and one that a single session had.
    #[test]
    fn positions_of_an_earlier_version_are_read() {
        let mut bytes = Vec::new();
        [0, 1].iter().for_each(|half: &u16| bytes.extend_from_slice(&half.to_be_bytes()));
        bytes.extend_from_slice(&7_u64.to_be_bytes());
        bytes.extend_from_slice(&3_u32.to_be_bytes());
        bytes.extend_from_slice(&5_i64.to_be_bytes());
        for (count, words) in [(1_u32, &[6_u64][..]), (1, &[8, 9])] {
            bytes.extend_from_slice(&count.to_be_bytes());
            words.iter().for_each(|word| bytes.extend_from_slice(&word.to_be_bytes()));
        }
        let all = SavedPositions::decode(&bytes, false).expect("they can be read");
        let position = &all.0[&PartitionKey { topic: 7, partition: 3 }];
        let has = |session| (4..10).filter(|offset| position.has(*offset, &[session])).collect::<Vec<_>>();
        assert_eq!((has(1), has(9)), (vec![4, 6], vec![4, 6, 8]));
    }
}
