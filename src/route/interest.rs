//! Which shards have subscribers for a topic: one table for the process, written by every shard for itself and read by all,
//! without a lock.
//!
//! Each entry is a filter's key and the shards that have it. A shard sets its bit before it answers SUBSCRIBE, so a publish that
//! begins after the answer finds it, whichever shard it is on. Keys are never searched for beyond one bucket of each level: a bucket
//! is a cache line of four entries, and a level is eight times as large as the one before, made when that has no room. An entry
//! without a shard is taken by the next key that needs one.
//!
//! What is found may be too much, never too little: a key may be in two places at once, and a shard for which there was no room
//! at all is asked for every topic.

use std::array;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use super::shape::{Key, Seed, Shape, Topic};
use super::slot::{self, Slot, TAKEN};
use crate::limits::SHARDS_MAX;

const _: () = assert!(TAKEN == 1 << SHARDS_MAX, "a bit for each shard, and one more");

/// Shapes of filters in use at a time, besides those of [`Shape::prefix_of`], which always have room.
pub const SHAPES_MAX: usize = 64;
const PREFIXES: usize = super::shape::LEVELS_MAX + 1;

/// Buckets of each level. All of them: 2.3 million filters, 37 MB.
const BUCKETS: [usize; 4] = [1 << 10, 1 << 13, 1 << 16, 1 << 19];
const SLOTS: usize = 4;

#[derive(Debug, Default)]
#[repr(align(64))]
struct Bucket([Slot; SLOTS]);

/// See the module.
#[derive(Debug)]
pub struct Interest {
    seed: Seed,
    /// A shape, above it how many shards use it.
    shapes: [AtomicU64; SHAPES_MAX + PREFIXES],
    /// Places of `shapes` that were ever used, prefixes apart.
    shapes_used: AtomicUsize,
    /// Whether any prefix was ever used.
    prefixes_used: AtomicUsize,
    levels: [OnceLock<Box<[Bucket]>>; BUCKETS.len()],
    /// Shards that are asked for every topic.
    everywhere: AtomicU64,
}

/// There are as many shapes as there may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooManyShapes;

const ONE_SHARD: u64 = 1 << Shape::BITS;

fn unpack(packed: u64) -> (Shape, u64) {
    (Shape::from_bits(packed & (ONE_SHARD - 1)), packed >> Shape::BITS)
}

impl Default for Interest {
    fn default() -> Self {
        Self {
            seed: Seed::default(),
            shapes: array::from_fn(|_| AtomicU64::new(0)),
            shapes_used: AtomicUsize::new(0),
            prefixes_used: AtomicUsize::new(0),
            levels: array::from_fn(|_| OnceLock::new()),
            everywhere: AtomicU64::new(0),
        }
    }
}

impl Interest {
    /// What all keys are made with.
    #[must_use]
    pub fn seed(&self) -> &Seed {
        &self.seed
    }

    /// Whether there may be any subscription.
    #[inline]
    #[must_use]
    pub fn is_empty(&self) -> bool {
        let used = self.shapes_used.load(Ordering::Acquire) + self.prefixes_used.load(Ordering::Acquire);
        used == 0 && self.everywhere.load(Ordering::Acquire) == 0
    }

    /// A shard begins to use a shape.
    ///
    /// # Errors
    /// There are [`SHAPES_MAX`] others. A prefix always has its place.
    pub fn add_shape(&self, shape: Shape, is_prefix: bool) -> Result<(), TooManyShapes> {
        if is_prefix {
            self.prefixes_used.store(PREFIXES, Ordering::Release);
            let place = &self.shapes[SHAPES_MAX + shape.levels()];
            // The place is of this shape alone.
            let _ = place.fetch_update(Ordering::AcqRel, Ordering::Acquire, |packed| {
                Some(if packed == 0 { shape.to_bits() | ONE_SHARD } else { packed + ONE_SHARD })
            });
            return Ok(());
        }
        let own = &self.shapes[..SHAPES_MAX];
        for place in own {
            let more = |packed| {
                let (found, users) = unpack(packed);
                (found == shape && users > 0).then_some(packed + ONE_SHARD)
            };
            if place.fetch_update(Ordering::AcqRel, Ordering::Acquire, more).is_ok() {
                return Ok(());
            }
        }
        for (at, place) in own.iter().enumerate() {
            self.shapes_used.fetch_max(at + 1, Ordering::AcqRel);
            let fresh = |packed| (unpack(packed).1 == 0).then_some(shape.to_bits() | ONE_SHARD);
            if place.fetch_update(Ordering::AcqRel, Ordering::Acquire, fresh).is_ok() {
                return Ok(());
            }
        }
        Err(TooManyShapes)
    }

    /// A shard has no filter of this shape any more, which it has added.
    pub fn remove_shape(&self, shape: Shape, is_prefix: bool) {
        let places =
            if is_prefix { &self.shapes[SHAPES_MAX + shape.levels()..][..1] } else { &self.shapes[..SHAPES_MAX] };
        for place in places {
            let less = |packed| {
                let (found, users) = unpack(packed);
                (found == shape && users > 0).then(|| packed - ONE_SHARD)
            };
            if place.fetch_update(Ordering::AcqRel, Ordering::Acquire, less).is_ok() {
                return;
            }
        }
    }

    /// From now on publishes that match the filter of this key are for this shard, too. False: there is no room, and the shard
    /// has to [`Interest::want_everything`].
    #[must_use]
    pub fn add(&self, key: Key, shard: usize) -> bool {
        let (bit, bits) = (1u64 << shard, key.to_bits());
        for (level, buckets) in self.levels.iter().zip(BUCKETS) {
            let level = level.get_or_init(|| (0..buckets).map(|_| Bucket::default()).collect());
            if slot::enter(&level[place(key, buckets)].0, bits, bit) {
                return true;
            }
        }
        false
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
        let used = self.shapes_used.load(Ordering::Acquire);
        let prefixes = self.prefixes_used.load(Ordering::Acquire);
        for place in self.shapes[..used].iter().chain(&self.shapes[SHAPES_MAX..][..prefixes]) {
            let (shape, users) = unpack(place.load(Ordering::Acquire));
            let Some(key) = (users > 0).then(|| topic.key(shape)).flatten() else { continue };
            for slot in self.slots(key) {
                shards |= slot.shards_of(key.to_bits());
            }
        }
        shards & !TAKEN
    }

    fn slots(&self, key: Key) -> impl Iterator<Item = &Slot> {
        let levels = self.levels.iter().zip(BUCKETS).map_while(move |(level, buckets)| Some((level.get()?, buckets)));
        levels.flat_map(move |(level, buckets)| &level[place(key, buckets)].0)
    }
}

/// The bucket of a key in a level of so many, a power of two. Other bits for each: what shares a bucket in one level does not in the
/// next.
fn place(key: Key, buckets: usize) -> usize {
    let bits = buckets.trailing_zeros();
    (key.to_bits() >> (2 * (bits - BUCKETS[0].trailing_zeros()))) as usize & (buckets - 1)
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    fn entered(interest: &Interest, filter: &str, shard: usize) -> Key {
        let shape = Shape::of(filter).expect("short");
        interest.add_shape(shape, false).expect("there is room");
        let key = shape.key(filter, interest.seed());
        assert!(interest.add(key, shard));
        key
    }

    fn has_shape(interest: &Interest, shape: Shape) -> bool {
        let used = interest.shapes[..SHAPES_MAX].iter().map(|place| unpack(place.load(Ordering::Acquire)));
        used.into_iter().any(|(found, users)| found == shape && users > 0)
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
        let shape = |number: usize| {
            Shape::of(&vec!["a"; number / 8 + 1].join("/").replacen('a', "+", number % 8)).expect("short")
        };
        let mut all: Vec<Shape> = Vec::new();
        for number in 0.. {
            let next = shape(number);
            if all.contains(&next) {
                continue;
            }
            if all.len() == SHAPES_MAX {
                assert_eq!(interest.add_shape(next, false), Err(TooManyShapes));
                assert!(!has_shape(&interest, next));
                interest.add_shape(all[7], false).expect("one that is there");
                interest.remove_shape(all[7], false);
                assert_eq!(interest.add_shape(next, false), Err(TooManyShapes), "it is used still");
                interest.remove_shape(all[7], false);
                assert!(!has_shape(&interest, all[7]));
                interest.add_shape(next, false).expect("its place is free");
                break;
            }
            interest.add_shape(next, false).expect("there is room");
            all.push(next);
        }
        let prefix = Shape::prefix_of("a/b/+");
        interest.add_shape(prefix, true).expect("always");
        assert!(interest.add(prefix.key("a/b/+", interest.seed()), 3));
        assert_eq!(shards(&interest, "a/b/c/d"), 0b1000);
        interest.remove_shape(prefix, true);
        assert_eq!(shards(&interest, "a/b/c/d"), 0, "its shape is not looked for");
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

    /// What a shard has added it finds at once, whatever the others do with the same few buckets meanwhile.
    #[test]
    fn none_is_missed_under_contention() {
        let interest = &Interest::default();
        let shape = Shape::of("a").expect("short");
        (0..4).for_each(|_| interest.add_shape(shape, false).expect("there is room"));
        // Keys of one bucket, more than it has slots.
        let names: Vec<String> = (0..)
            .map(|number| format!("n{number}"))
            .filter(|name| place(shape.key(name, interest.seed()), BUCKETS[0]) == 7)
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
