//! The shards that have subscribers for a topic: one table for the process, in which every shard writes for itself and which all
//! read, without a lock.
//!
//! Each entry is a filter's key and the shards that have the filter. A shard sets its bit before it answers SUBSCRIBE, so a publish
//! that begins after the answer finds it, on any shard. Keys are never searched for beyond one bucket of each level: a bucket is a
//! cache line of four entries, and a level is allocated when the previous ones have no room. An entry without a shard is reused for
//! the next key that needs one.
//!
//! A lookup may return too many shards, never too few: a key may have two entries at once, and a shard with a filter that found no
//! room at all is returned for every topic.

use std::array;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use super::shape::{Key, LEVELS_MAX, SMALL_SHAPES, Seed, Shape, Topic, bits};
use super::slot::{self, Slot, TAKEN};
use forebay_base::limits::SHARDS_MAX;

const _: () = assert!(TAKEN == 1 << SHARDS_MAX, "a bit for each shard, and one more");

/// The most shapes in use at a time, besides those with a place of their own: small ones and prefixes.
pub const SHAPES_MAX: usize = GROUP;
/// Places of shapes, with a mask of the places that were ever used.
const GROUP: usize = 64;
const SMALL: usize = 0;
const PREFIXES: usize = 1;
const OTHERS: usize = 2;
const _: () = assert!(SMALL_SHAPES <= GROUP && LEVELS_MAX < GROUP, "each has a place");

/// Buckets of each level. Five million filters find room, in 139 MB. The last levels are for keys that find no room in earlier
/// ones: in a single large level some bucket would be full long before the others.
const BUCKETS: [usize; 7] = [1 << 10, 1 << 13, 1 << 16, 1 << 19, 1 << 19, 1 << 19, 1 << 19];
const SLOTS: usize = 4;

#[derive(Debug, Default)]
#[repr(align(64))]
struct Bucket([Slot; SLOTS]);

/// The table of all shards' interest.
#[derive(Debug)]
pub struct Interest {
    seed: Seed,
    /// Each place: a shape, and above it the number of shards that use it.
    shapes: [[AtomicU64; GROUP]; 3],
    /// Places of `shapes` that were ever used.
    used: [AtomicU64; 3],
    levels: [OnceLock<Box<[Bucket]>>; BUCKETS.len()],
    /// Shards that get every topic.
    everywhere: AtomicU64,
    /// Grows when a message may find receivers that an earlier one did not find.
    grown: AtomicU64,
}

const ONE_SHARD: u64 = 1 << Shape::BITS;

fn unpack(packed: u64) -> (Shape, u64) {
    (Shape::from_bits(packed & (ONE_SHARD - 1)), packed >> Shape::BITS)
}

impl Default for Interest {
    fn default() -> Self {
        Self {
            seed: Seed::default(),
            shapes: array::from_fn(|_| array::from_fn(|_| AtomicU64::new(0))),
            used: array::from_fn(|_| AtomicU64::new(0)),
            levels: array::from_fn(|_| OnceLock::new()),
            everywhere: AtomicU64::new(0),
            grown: AtomicU64::new(0),
        }
    }
}

impl Interest {
    /// The seed of all keys.
    #[must_use]
    pub fn seed(&self) -> &Seed {
        &self.seed
    }

    /// Whether there may be any subscription.
    #[inline]
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.used.iter().chain([&self.everywhere]).all(|mask| mask.load(Ordering::Acquire) == 0)
    }

    /// Adds a use of a shape by a shard. False: [`SHAPES_MAX`] others are in use. Small shapes and prefixes always have their
    /// places.
    #[must_use]
    pub fn add_shape(&self, shape: Shape) -> bool {
        let add = |(group, at): (usize, usize), change: &dyn Fn(u64) -> Option<u64>| {
            self.used[group].fetch_or(1 << at, Ordering::AcqRel);
            self.shapes[group][at].fetch_update(Ordering::AcqRel, Ordering::Acquire, change).is_ok()
        };
        let more = |packed| (unpack(packed).0 == shape && packed >= ONE_SHARD).then(|| packed + ONE_SHARD);
        let fresh = |packed| (packed < ONE_SHARD).then_some(shape.to_bits() | ONE_SHARD);
        match own_place(shape) {
            Some(own) => add(own, &|packed| more(packed).or_else(|| fresh(packed))),
            None => {
                let known = self.place_of(shape).is_some_and(|at| add((OTHERS, at), &more));
                known || (0..GROUP).any(|at| add((OTHERS, at), &fresh))
            }
        }
    }

    /// Whether a shape has a place: its own, or that of a shard that uses it.
    #[must_use]
    pub fn has_shape(&self, shape: Shape) -> bool {
        own_place(shape).is_some() || self.place_of(shape).is_some()
    }

    fn place_of(&self, shape: Shape) -> Option<usize> {
        let mut all = self.shapes[OTHERS].iter().map(|place| unpack(place.load(Ordering::Acquire)));
        all.position(|(found, users)| found == shape && users > 0)
    }

    /// Removes a use of a shape that a shard has added, as its last filter of the shape is gone.
    pub fn remove_shape(&self, shape: Shape) {
        let (group, places) = own_place(shape).map_or((OTHERS, 0..GROUP), |(group, at)| (group, at..at + 1));
        for place in &self.shapes[group][places] {
            let less = |packed| (unpack(packed).0 == shape && packed >= ONE_SHARD).then(|| packed - ONE_SHARD);
            if place.fetch_update(Ordering::AcqRel, Ordering::Acquire, less).is_ok() {
                return;
            }
        }
    }

    /// Adds the shard to the receivers of publishes that match the filter of this key. False: there is no room, and the shard has
    /// to [`Interest::want_everything`].
    #[must_use]
    pub fn add(&self, key: Key, shard: usize) -> bool {
        let (bit, bits) = (1u64 << shard, key.to_bits());
        (0..BUCKETS.len()).any(|level| slot::enter(&self.made(level)[place(key, level)].0, bits, bit))
    }

    /// Notes a new subscription. The caller calls this before and after publishes can find the subscription, so that a publish that
    /// finds it sees the change.
    pub fn grows(&self) {
        self.grown.fetch_add(1, Ordering::AcqRel);
    }

    /// `grown` changes when a message that found no receivers may find some: messages of sources that wait for a subscriber look again.
    #[must_use]
    pub fn grown(&self) -> u64 {
        self.grown.load(Ordering::Acquire)
    }

    fn made(&self, level: usize) -> &[Bucket] {
        self.levels[level].get_or_init(|| (0..BUCKETS[level]).map(|_| Bucket::default()).collect())
    }

    /// The filter of this key is not for this shard any more.
    pub fn remove(&self, key: Key, shard: usize) {
        self.slots(key).for_each(|slot| slot.leave(key.to_bits(), 1 << shard));
    }

    /// Whether all publishes are for this shard.
    pub fn want_everything(&self, shard: usize, wanted: bool) {
        if wanted {
            self.everywhere.fetch_or(1 << shard, Ordering::AcqRel);
        } else {
            self.everywhere.fetch_and(!(1 << shard), Ordering::AcqRel);
        }
    }

    /// The shards that may have subscribers for a topic, as bits.
    #[must_use]
    pub fn shards(&self, topic: &Topic) -> u64 {
        let mut shards = self.everywhere.load(Ordering::Acquire);
        for (used, places) in self.used.iter().zip(&self.shapes) {
            for at in bits(used.load(Ordering::Acquire)) {
                let place = &places[at];
                let (shape, users) = unpack(place.load(Ordering::Acquire));
                let Some(key) = (users > 0).then(|| topic.key(shape)).flatten() else { continue };
                for slot in self.slots(key) {
                    shards |= slot.shards_of(key.to_bits());
                }
            }
        }
        shards & !TAKEN
    }

    fn slots(&self, key: Key) -> impl Iterator<Item = &Slot> {
        let levels = self.levels.iter().map_while(OnceLock::get).enumerate();
        levels.flat_map(move |(at, level)| &level[place(key, at)].0)
    }
}

fn own_place(shape: Shape) -> Option<(usize, usize)> {
    let prefix = || shape.is_prefix().then(|| (PREFIXES, shape.levels()));
    shape.small().map(|number| (SMALL, number)).or_else(prefix)
}

/// The bucket of a key in a level. Keys that share a bucket in one level do not share one in the next.
fn place(key: Key, level: usize) -> usize {
    let mixed = key.to_bits().rotate_left(9 * level as u32).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    (mixed >> (64 - BUCKETS[level].trailing_zeros())) as usize
}

#[cfg(test)]
impl Interest {
    /// Leaves no room for the filter of a key.
    pub(super) fn fill(&self, key: Key) {
        for level in 0..BUCKETS.len() {
            let bucket = &self.made(level)[place(key, level)].0;
            (1..)
                .map(|other| key.to_bits() ^ other)
                .take_while(|other| slot::enter(bucket, *other, TAKEN >> 1))
                .count();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    fn entered(interest: &Interest, filter: &str, shard: usize) -> Key {
        let shape = Shape::of(filter).expect("short");
        assert!(interest.add_shape(shape));
        let key = shape.key(filter, interest.seed());
        assert!(interest.add(key, shard));
        key
    }

    fn shards(interest: &Interest, topic: &str) -> u64 {
        interest.shards(&Topic::new(topic, interest.seed()))
    }

    #[test]
    fn shards_come_and_go() {
        let interest = Interest::default();
        assert!(interest.is_empty());
        let exact = entered(&interest, "a/b", 0);
        let wild = entered(&interest, "a/+", 2);
        entered(&interest, "a/b", 1);
        assert!(!interest.is_empty());
        assert_eq!([shards(&interest, "a/b"), shards(&interest, "a/c"), shards(&interest, "a")], [0b111, 0b100, 0]);
        interest.remove(exact, 0);
        interest.remove(wild, 2);
        assert_eq!(shards(&interest, "a/b"), 0b10);
        interest.want_everything(5, true);
        assert_eq!([shards(&interest, "a/b"), shards(&interest, "x")], [0b10_0010, 0b10_0000]);
        interest.want_everything(5, false);
        assert_eq!(shards(&interest, "x"), 0);
    }

    #[test]
    fn shapes_have_a_bound_and_are_used_again() {
        let interest = Interest::default();
        // The bits of the number are the levels that are `+`.
        let shape = |number: usize| {
            let levels = (0..7).map(|bit| if number >> bit & 1 == 1 { "+" } else { "a" });
            Shape::of(&levels.collect::<Vec<_>>().join("/")).expect("short")
        };
        for number in 0..SHAPES_MAX {
            assert!(!interest.has_shape(shape(number)));
            assert!(interest.add_shape(shape(number)), "there is room");
        }
        let next = shape(SHAPES_MAX);
        assert!(!interest.add_shape(next) && !interest.has_shape(next));
        assert!(interest.add_shape(shape(7)), "one that is there");
        interest.remove_shape(shape(7));
        assert!(!interest.add_shape(next), "it is used still");
        interest.remove_shape(shape(7));
        assert!(!interest.has_shape(shape(7)));
        assert!(interest.add_shape(next), "its place is free");
        for (filter, topic) in [("+/+/+/+", "a/b/c/d"), ("#", "x"), ("a/b/c/d/e/f/#", "a/b/c/d/e/f/g/h")] {
            let own = Shape::of(filter).expect("short");
            assert!(interest.has_shape(own) && interest.add_shape(own) && interest.add_shape(own), "always");
            let key = own.key(filter, interest.seed());
            assert!(interest.add(key, 3));
            assert_eq!(shards(&interest, topic), 0b1000);
            interest.remove_shape(own);
            assert_eq!(shards(&interest, topic), 0b1000);
            interest.remove_shape(own);
            assert_eq!(shards(&interest, topic), 0, "its shape is not looked for");
        }
    }

    #[test]
    fn many_filters_are_all_found_and_their_places_used_again() {
        let interest = Interest::default();
        for round in 0..3 {
            let filters: Vec<_> = (0..20_000).map(|number| format!("dev/{round}/{number}")).collect();
            let keys: Vec<_> = filters.iter().map(|filter| entered(&interest, filter, round)).collect();
            for filter in &filters {
                assert_eq!(shards(&interest, filter), 1 << round, "{filter}");
            }
            keys.iter().for_each(|key| interest.remove(*key, round));
            assert!(filters.iter().all(|filter| shards(&interest, filter) == 0));
            // The first two have 36,864 entries, though not each of their buckets has room.
            assert!(interest.levels[3].get().is_none(), "round {round}");
        }
    }

    fn add_numbered(interest: &Interest, numbers: std::ops::Range<u64>) {
        let shape = Shape::of("dev").expect("short");
        for number in numbers {
            assert!(interest.add(shape.key(&number.to_string(), interest.seed()), 0), "no room for {number}");
        }
    }

    #[test]
    fn a_million_filters_find_room() {
        add_numbered(&Interest::default(), 0..1_000_000);
    }

    #[test]
    #[ignore = "takes 140 MB, and a minute without optimization"]
    fn five_million_filters_find_room() {
        add_numbered(&Interest::default(), 0..5_000_000);
    }

    /// A shard finds its own entries at once, whatever other shards do with the same few buckets at the same time.
    #[test]
    fn none_is_missed_under_contention() {
        let interest = &Interest::default();
        let shape = Shape::of("a").expect("short");
        assert!((0..4).all(|_| interest.add_shape(shape)));
        // Keys of one bucket, more than it has slots.
        let names: Vec<String> = (0..)
            .map(|number| format!("n{number}"))
            .filter(|name| place(shape.key(name, interest.seed()), 0) == 7)
            .take(9)
            .collect();
        let names = &names;
        thread::scope(|scope| {
            let workers: Vec<_> = (0..4usize)
                .map(|shard| {
                    scope.spawn(move || {
                        let mut random = fastrand::Rng::with_seed(shard as u64);
                        for _ in 0..20_000 {
                            let name = &names[random.usize(..names.len())];
                            let key = shape.key(name, interest.seed());
                            assert!(interest.add(key, shard));
                            assert_ne!(shards(interest, name) & 1 << shard, 0, "{name} of {shard}");
                            interest.remove(key, shard);
                            assert_eq!(shards(interest, name) & 1 << shard, 0, "{name} of {shard}");
                        }
                    })
                })
                .collect();
            workers.into_iter().for_each(|worker| worker.join().expect("no shard missed one"));
        });
        assert!(names.iter().all(|name| shards(interest, name) == 0), "nothing is left");
    }
}
