//! Topic filters as shapes and hashes, so that a topic is looked up once for each shape in use (tuple space search).
//!
//! A [`Shape`] is the number of levels of a filter, the levels that are `+`, and whether `#` ends it. Together with a hash over the
//! literal levels, each mixed with its index, it is a filter's [`Key`]. A topic is split and hashed once ([`Topic`]); its key for a
//! shape is a sum over its levels.

use std::hash::BuildHasher as _;

use smallvec::SmallVec;

/// Levels that a shape can tell apart. A deeper filter is entered by its first literal levels and `#`, which match more: its owner
/// compares the text.
pub const LEVELS_MAX: usize = 32;

/// Shapes of at most this many levels have a number below [`SMALL_SHAPES`].
const LEVELS_SMALL: usize = 4;
/// See [`Shape::small`].
pub const SMALL_SHAPES: usize = 4 << LEVELS_SMALL;

/// Seeded for each process, so that no client can choose filters that collide.
#[derive(Clone, Debug, Default)]
pub struct Seed(foldhash::quality::RandomState);

/// See the module. Never 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(u64);

impl Key {
    /// The key as a number, never 0.
    #[must_use]
    pub const fn to_bits(self) -> u64 {
        self.0
    }

    fn of(shape: Shape, sum: u64) -> Self {
        let mixed = (sum ^ shape.0.wrapping_mul(0x9E37_79B9_7F4A_7C15)).wrapping_mul(0xD6E8_FEB8_6659_FD93);
        Self((mixed ^ (mixed >> 32)).max(1))
    }
}

/// See the module: one bit for each level that is `+`, above them the number of levels before `#`, and whether `#` ends the filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Shape(u64);

impl Shape {
    /// Bits of a shape.
    pub const BITS: u32 = 39;

    const fn new(levels: usize, plus: u32, rest: bool) -> Self {
        Self(plus as u64 | (levels as u64) << 32 | (rest as u64) << 38)
    }

    /// The shape as a number of [`Shape::BITS`] bits, never 0.
    #[must_use]
    pub const fn to_bits(self) -> u64 {
        self.0
    }

    /// The shape of a number from [`Shape::to_bits`].
    #[must_use]
    pub const fn from_bits(bits: u64) -> Self {
        Self(bits)
    }

    /// The shape of a valid filter; `None`: the filter has too many levels.
    #[must_use]
    pub fn of(filter: &str) -> Option<Self> {
        let (mut levels, mut plus) = (0, 0);
        for level in filter.split('/') {
            if level == "#" {
                return Some(Self::new(levels, plus, true));
            }
            if levels == LEVELS_MAX {
                return None;
            }
            plus |= u32::from(level == "+") << levels;
            levels += 1;
        }
        Some(Self::new(levels, plus, false))
    }

    /// The literal levels that a filter begins with, and `#`: matches all that the filter does, and more.
    #[must_use]
    pub fn prefix_of(filter: &str) -> Self {
        let literal = filter.split('/').take(LEVELS_MAX).take_while(|level| !matches!(*level, "+" | "#"));
        Self::new(literal.count(), 0, true)
    }

    /// Levels before `#`, or all.
    #[must_use]
    pub const fn levels(self) -> usize {
        (self.0 >> 32 & 0x3F) as usize
    }

    const fn plus(self) -> u32 {
        (self.0 & u32::MAX as u64) as u32
    }

    const fn has_rest(self) -> bool {
        self.0 >> 38 & 1 == 1
    }

    /// The number of a shape of at most four levels, below [`SMALL_SHAPES`]: fleets mostly use these.
    #[must_use]
    pub const fn small(self) -> Option<usize> {
        if self.levels() > LEVELS_SMALL {
            return None;
        }
        Some((1 << self.levels() | self.plus() as usize) << 1 | self.has_rest() as usize)
    }

    /// Whether this is the shape of a prefix ([`Shape::prefix_of`]).
    #[must_use]
    pub const fn is_prefix(self) -> bool {
        self.plus() == 0 && self.has_rest()
    }

    /// Whether there is always room for the shape: it is small, or that of a prefix.
    #[must_use]
    pub const fn has_own_place(self) -> bool {
        self.small().is_some() || self.is_prefix()
    }

    /// Whether a filter has to be compared with every message if there is no room for its shape: it begins with a wildcard, and has
    /// more than four levels before `#`.
    #[must_use]
    pub fn needs_place(filter: &str) -> bool {
        filter.starts_with(['+', '#']) && Self::of(filter).is_none_or(|shape| !shape.has_own_place())
    }

    /// Whether its first level is a wildcard.
    #[must_use]
    pub const fn begins_with_wildcard(self) -> bool {
        self.plus() & 1 == 1 || self.levels() == 0
    }

    /// The key of a filter of this shape.
    #[must_use]
    pub fn key(self, filter: &str, seed: &Seed) -> Key {
        let levels = filter.split('/').take(self.levels()).enumerate();
        let literal = levels.filter(|(at, _)| self.plus() >> at & 1 == 0);
        Key::of(self, literal.fold(0, |sum: u64, (at, level)| sum.wrapping_add(hash(at, level, seed))))
    }
}

fn hash(at: usize, level: &str, seed: &Seed) -> u64 {
    seed.0.hash_one((at as u64, level.as_bytes()))
}

/// A topic name, cut and hashed.
#[derive(Clone, Debug, Default)]
pub struct Topic {
    /// Hashes of the first [`LEVELS_MAX`] levels.
    hashes: SmallVec<[u64; 8]>,
    /// Sums of the hashes: of none, of the first, of the first two, …
    sums: SmallVec<[u64; 9]>,
    /// The topic has more than [`LEVELS_MAX`] levels.
    is_deeper: bool,
    /// The topic begins with `$`: no wildcard matches its first level [MQTT-4.7.2-1].
    is_of_system: bool,
}

impl Topic {
    /// Cuts a topic name.
    #[must_use]
    pub fn new(topic: &str, seed: &Seed) -> Self {
        let mut cut = Self { is_of_system: topic.starts_with('$'), ..Self::default() };
        let mut sum = 0u64;
        cut.sums.push(sum);
        for (at, level) in topic.split('/').enumerate() {
            if at == LEVELS_MAX {
                cut.is_deeper = true;
                break;
            }
            let hash = hash(at, level, seed);
            sum = sum.wrapping_add(hash);
            cut.hashes.push(hash);
            cut.sums.push(sum);
        }
        cut
    }

    /// The topic's key for a shape; `None`: no filter of the shape matches it.
    #[must_use]
    pub fn key(&self, shape: Shape) -> Option<Key> {
        let (own, levels) = (self.hashes.len(), shape.levels());
        // `a/#` matches `a`, too [4.7.1.2].
        let fits = if shape.has_rest() { own >= levels } else { own == levels && !self.is_deeper };
        if !fits || (self.is_of_system && shape.begins_with_wildcard()) {
            return None;
        }
        let sum = bits(shape.plus().into()).fold(self.sums[levels], |sum, at| sum.wrapping_sub(self.hashes[at]));
        Some(Key::of(shape, sum))
    }
}

/// The bits that are set.
pub fn bits(mut mask: u64) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let next = (mask != 0).then(|| mask.trailing_zeros() as usize);
        mask &= mask.wrapping_sub(1);
        next
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::route::filter;

    #[test]
    fn shapes() {
        for (text, levels, plus, rest) in [
            ("a", 1, 0, false),
            ("#", 0, 0, true),
            ("+", 1, 1, false),
            ("a/+/c/#", 3, 0b10, true),
            ("/", 2, 0, false),
            ("$SYS/#", 1, 0, true),
        ] {
            assert_eq!(Shape::of(text), Some(Shape::new(levels, plus, rest)), "{text}");
        }
        assert_eq!(Shape::prefix_of("a/b/+/c"), Shape::new(2, 0, true));
        assert_eq!(Shape::prefix_of("+/a"), Shape::of("#").expect("short"));
        let deepest = vec!["+"; LEVELS_MAX].join("/");
        assert_eq!(Shape::of(&deepest), Some(Shape::new(LEVELS_MAX, u32::MAX, false)));
        assert_eq!(Shape::of(&format!("{deepest}/#")), Some(Shape::new(LEVELS_MAX, u32::MAX, true)));
        assert_eq!(Shape::of(&format!("{deepest}/a")), None);
        assert_eq!(Shape::prefix_of(&vec!["a"; 100].join("/")), Shape::new(LEVELS_MAX, 0, true));
        assert!(Shape::new(LEVELS_MAX, u32::MAX, true).to_bits() < 1 << Shape::BITS);
    }

    #[test]
    fn small_shapes_have_numbers_of_their_own() {
        let shapes = (0..=LEVELS_SMALL).flat_map(|levels| (0..1 << levels).map(move |plus| (levels, plus)));
        let shapes = shapes.flat_map(|(levels, plus)| [false, true].map(|rest| Shape::new(levels, plus, rest)));
        let numbers: std::collections::BTreeSet<_> = shapes.clone().filter_map(Shape::small).collect();
        assert_eq!(numbers.len(), shapes.count());
        assert!(numbers.iter().all(|number| *number < SMALL_SHAPES));
        for (filter, needs_place) in
            [("#", false), ("+/a/+/b", false), ("+/a/b/c/#", false), ("a/+/c/d/e/f", false), ("+/b/c/d/e", true)]
        {
            assert_eq!(Shape::needs_place(filter), needs_place, "{filter}");
        }
        assert!(Shape::needs_place(&format!("+{}", "/a".repeat(LEVELS_MAX))));
    }

    fn topics() -> impl Strategy<Value = String> {
        let level = prop_oneof![Just(""), Just("a"), Just("b"), Just("$x")];
        prop::collection::vec(level, 1..40)
            .prop_map(|levels| levels.join("/"))
            .prop_filter("a topic", |t| !t.is_empty())
    }

    fn filters() -> impl Strategy<Value = String> {
        let level = prop_oneof![Just(""), Just("a"), Just("b"), Just("$x"), Just("+"), Just("+")];
        (prop::collection::vec(level, 0..40), any::<bool>())
            .prop_map(|(mut levels, rest)| {
                levels.extend(rest.then_some("#"));
                levels.join("/")
            })
            .prop_filter("a filter", |filter| !filter.is_empty())
    }

    /// A filter that the topic is likely to match: some of its levels replaced.
    fn likely(topic: &str, picks: &[bool], cut: Option<usize>) -> String {
        let levels = topic.split('/').zip(picks.iter().cycle());
        let levels = levels.map(|(level, plus)| if *plus { "+" } else { level });
        match cut {
            Some(at) => levels.take(at).chain(["#"]).collect::<Vec<_>>().join("/"),
            None => levels.collect::<Vec<_>>().join("/"),
        }
    }

    fn agree(topic: &str, text: &str) -> Result<(), TestCaseError> {
        let seed = Seed::default();
        let cut = Topic::new(topic, &seed);
        if let Some(shape) = Shape::of(text) {
            let found = cut.key(shape) == Some(shape.key(text, &seed));
            prop_assert_eq!(found, filter::matches(text, topic), "{} on {}", text, topic);
        }
        if filter::matches(text, topic) {
            let shape = Shape::prefix_of(text);
            prop_assert_eq!(cut.key(shape), Some(shape.key(text, &seed)), "the prefix of {} on {}", text, topic);
        }
        Ok(())
    }

    proptest! {
        #[test]
        fn a_key_is_found_where_the_standard_says(topic in topics(), text in filters()) {
            agree(&topic, &text)?;
        }

        #[test]
        fn likely_ones_too(topic in topics(), picks in prop::collection::vec(any::<bool>(), 1..9), cut in prop::option::of(0usize..34)) {
            agree(&topic, &likely(&topic, &picks, cut))?;
        }
    }
}
