//! The most frequent names: a Space-Saving sketch (Metwally, Agrawal, El Abbadi: "Efficient Computation of Frequent and Top-k
//! Elements in Data Streams", 2005) over samples, and the distance between samples.

use std::collections::HashMap;

use forebay_base::limits::{TOP_ENTRIES_MAX, TOP_NAME_BYTES_MAX, TOP_SAMPLES_EVERY_MAX};

/// The bound on the time for samples: each sample is followed by this time without one, in microseconds for each message in it,
/// so that a shard spends less than half a percent of its time on samples.
const REST_US: u64 = 256;

/// A name with its weight.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Entry {
    name: Box<str>,
    weight: u64,
    /// The part of the weight that may be of another name, which had the place before.
    over: u64,
}

/// A name of a sketch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Weighed {
    /// The name. One longer than [`TOP_NAME_BYTES_MAX`] is cut.
    pub name: String,
    /// The weight: never less than was added, but for halving.
    pub weight: u64,
    /// The part of the weight that may be of other names.
    pub over: u64,
}

/// The heaviest names, in [`TOP_ENTRIES_MAX`] places: each name with more than a place's share of the whole weight is among them.
#[derive(Debug, Default)]
pub struct Sketch {
    entries: Vec<Entry>,
    places: HashMap<Box<str>, usize>,
}

impl Sketch {
    /// Adds weight to a name. If there is no free place, the lightest name loses its own.
    pub fn add(&mut self, name: &str, weight: u64) {
        let name = &name[..name.floor_char_boundary(TOP_NAME_BYTES_MAX)];
        if let Some(place) = self.places.get(name) {
            self.entries[*place].weight += weight;
            return;
        }
        if self.entries.len() < TOP_ENTRIES_MAX {
            self.places.insert(name.into(), self.entries.len());
            self.entries.push(Entry { name: name.into(), weight, over: 0 });
            return;
        }
        let Some((place, lightest)) = self.entries.iter_mut().enumerate().min_by_key(|(_, entry)| entry.weight) else {
            return;
        };
        self.places.remove(&lightest.name);
        self.places.insert(name.into(), place);
        let over = lightest.weight;
        *lightest = Entry { name: name.into(), weight: over + weight, over };
    }

    /// Halves all weights. Names without any weight are removed.
    pub fn halve(&mut self) {
        self.entries.retain_mut(|entry| {
            (entry.weight, entry.over) = (entry.weight / 2, entry.over / 2);
            entry.weight > 0
        });
        self.places = self.entries.iter().enumerate().map(|(place, entry)| (entry.name.clone(), place)).collect();
    }

    /// Whether there are no names.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The names, the heaviest first.
    #[must_use]
    pub fn heaviest(&self) -> Vec<Weighed> {
        let weighed = |entry: &Entry| Weighed { name: entry.name.to_string(), weight: entry.weight, over: entry.over };
        let mut all: Vec<_> = self.entries.iter().map(weighed).collect();
        all.sort_by(|one, other| other.weight.cmp(&one.weight).then_with(|| one.name.cmp(&other.name)));
        all
    }
}

/// Selects the samples among many things. Their distance is random around a mean that follows the load: at low load each thing is
/// one. So no pattern of the load stands out, and samples cost a bounded part of the time.
#[derive(Debug)]
pub struct Sampler {
    /// The number of things up to the next sample, inclusive.
    left: u32,
    /// The number of things that the next sample stands for.
    gap: u32,
    /// The mean of that.
    every: u32,
    /// When the last sample was taken, in microseconds of some clock.
    last_us: u64,
    random: fastrand::Rng,
}

impl Default for Sampler {
    fn default() -> Self {
        Self { left: 1, gap: 1, every: 1, last_us: 0, random: fastrand::Rng::with_seed(14) }
    }
}

impl Sampler {
    /// Counts one thing. Returns whether it is a sample, and [`Sampler::taken`] follows.
    #[inline]
    pub fn is_due(&mut self) -> bool {
        self.left -= 1;
        self.left == 0
    }

    /// The number of things that the current sample stands for.
    #[must_use]
    pub fn stands_for(&self) -> u64 {
        self.gap.into()
    }

    /// Things to a sample at present.
    #[must_use]
    pub fn every(&self) -> u32 {
        self.every
    }

    /// Notes that a sample of this many messages was taken.
    pub fn taken(&mut self, messages: u64, now_us: u64) {
        let (since, rest) = (now_us.saturating_sub(self.last_us), REST_US * messages.max(1));
        self.last_us = now_us;
        if since < rest {
            self.every = (self.every * 2).min(TOP_SAMPLES_EVERY_MAX);
        } else if since > 4 * rest {
            self.every = (self.every / 2).max(1);
        }
        self.gap = self.random.u32(1..2 * self.every);
        self.left = self.gap;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_heaviest_names_are_there_whatever_else_comes() {
        let mut sketch = Sketch::default();
        let mut random = fastrand::Rng::with_seed(46);
        let mut exact: HashMap<String, u64> = HashMap::new();
        let mut all = 0;
        for n in 0..200_000 {
            // A third of the names are one of ten, the others occur once or twice.
            let name = if n % 3 == 0 {
                format!("hot/{}", random.u32(..10))
            } else {
                format!("cold/{}", random.u32(..100_000))
            };
            let weight = random.u64(1..4);
            sketch.add(&name, weight);
            *exact.entry(name).or_default() += weight;
            all += weight;
        }
        assert_eq!(sketch.entries.len(), TOP_ENTRIES_MAX);
        let heaviest = sketch.heaviest();
        assert!(heaviest[..10].iter().all(|of| of.name.starts_with("hot/")), "{:?}", &heaviest[..12]);
        for of in &heaviest {
            let exact = exact.get(&of.name).copied().unwrap_or(0);
            assert!(of.weight >= exact && of.weight - of.over <= exact, "{of:?}: {exact}");
            assert!(of.over <= all / TOP_ENTRIES_MAX as u64, "{of:?}");
        }
        assert_eq!(sketch.heaviest().iter().map(|of| of.weight).sum::<u64>(), all, "no weight is lost");
    }

    #[test]
    fn halving_forgets_what_is_over() {
        let mut sketch = Sketch::default();
        for _ in 0..8 {
            sketch.add("a", 1);
        }
        sketch.add("b", 1);
        sketch.halve();
        assert_eq!(sketch.heaviest(), [Weighed { name: "a".into(), weight: 4, over: 0 }]);
        sketch.add("b", 3);
        sketch.add("a", 1);
        let shown: Vec<_> = sketch.heaviest().into_iter().map(|of| (of.name, of.weight)).collect();
        assert_eq!(shown, [("a".to_owned(), 5), ("b".to_owned(), 3)]);
        (0..3).for_each(|_| sketch.halve());
        assert!(sketch.heaviest().is_empty() && sketch.places.is_empty());
    }

    #[test]
    fn a_name_takes_a_bounded_room() {
        let mut sketch = Sketch::default();
        let long = "ü".repeat(TOP_NAME_BYTES_MAX);
        sketch.add(&long, 1);
        sketch.add(&long, 1);
        let [of] = &sketch.heaviest()[..] else { panic!("one") };
        assert_eq!((of.name.len(), of.weight), (TOP_NAME_BYTES_MAX, 2));
    }

    /// Two clients take turns: whatever the distance of samples, both are counted alike.
    #[test]
    fn samples_follow_the_load_and_no_pattern() {
        let mut sampler = Sampler::default();
        let (mut now_us, mut weights, mut taken) = (1_000_000, [0; 2], 0);
        for n in 0..1_000_000u64 {
            now_us += 5;
            if sampler.is_due() {
                weights[(n % 2) as usize] += sampler.stands_for();
                taken += 1;
                sampler.taken(16, now_us);
            }
        }
        assert!((250..1_500).contains(&taken), "{taken} in 5 s: a rest of 4 ms after each");
        let all: u64 = weights.iter().sum();
        assert!(all.abs_diff(1_000_000) <= 2 * u64::from(TOP_SAMPLES_EVERY_MAX), "{all}");
        assert!(weights[0].abs_diff(weights[1]) < all / 8, "{weights:?}");
        // At low load each thing is a sample.
        for _ in 0..100 {
            now_us += 100_000;
            if sampler.is_due() {
                sampler.taken(1, now_us);
            }
        }
        (0..2 * TOP_SAMPLES_EVERY_MAX).for_each(|_| {
            now_us += 100_000;
            if sampler.is_due() {
                sampler.taken(1, now_us);
            }
        });
        assert!(sampler.every() == 1 && sampler.is_due());
        sampler.taken(1, now_us + 100_000);
    }
}
