//! The subscriptions of one shard: filters by key, and who has subscribed to each.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;

use hashbrown::HashTable;
use slab::Slab;
use smallvec::SmallVec;

use super::filter;
use super::interest::{Interest, TooManyShapes};
use super::shape::{Key, Shape, Topic};
use crate::mqtt::packet::SubscriptionOptions;

/// A filter of [`Subscriptions`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FilterId(u32);

/// One session's subscription to a filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subscriber<S> {
    /// Whose.
    pub session: S,
    /// As granted.
    pub options: SubscriptionOptions,
    /// Subscription Identifier; 0: none.
    pub identifier: u32,
    /// Not every topic that the filter matches may be read: each message is asked for.
    pub is_checked: bool,
}

/// Where a subscription is: its filter, and its place among those of the filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place {
    filter: u32,
    at: u32,
}

#[derive(Debug)]
struct Filter<S> {
    key: Key,
    shape: Shape,
    is_prefix: bool,
    text: Arc<str>,
    subscribers: Vec<Subscriber<S>>,
}

/// See the module.
#[derive(Debug)]
pub struct Subscriptions<S> {
    shard: usize,
    interest: Arc<Interest>,
    filters: Slab<Filter<S>>,
    by_key: HashTable<u32>,
    /// Those in use, whether each is a prefix, and how many filters have it.
    shapes: Vec<(Shape, bool, usize)>,
    /// Of each session, so that one of 100,000 subscribers leaves as fast as one of ten.
    places: HashMap<S, Vec<Place>>,
    subscriptions: usize,
    /// Filters that found no room in [`Interest`].
    homeless: usize,
    /// How often any has come, changed or gone.
    changes: u64,
}

impl<S: Copy + Eq + Hash> Subscriptions<S> {
    /// None, on a shard. `interest`: where all shards look.
    #[must_use]
    pub fn new(shard: usize, interest: Arc<Interest>) -> Self {
        Self {
            shard,
            interest,
            filters: Slab::new(),
            by_key: HashTable::new(),
            shapes: Vec::new(),
            places: HashMap::new(),
            subscriptions: 0,
            homeless: 0,
            changes: 0,
        }
    }

    /// Where all shards look.
    #[must_use]
    pub fn interest(&self) -> &Interest {
        &self.interest
    }

    /// Subscriptions of all sessions.
    #[must_use]
    pub fn len(&self) -> usize {
        self.subscriptions
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.subscriptions == 0
    }

    /// Different filters.
    #[must_use]
    pub fn filters(&self) -> usize {
        self.filters.len()
    }

    /// Changes with every subscription that comes, changes or goes.
    #[must_use]
    pub fn changes(&self) -> u64 {
        self.changes
    }

    /// A subscription to a valid filter. One of the same session to the same filter is replaced [MQTT-3.8.4-3]. Publishes on any
    /// shard find it from now on. Returns the filter's text, which all its subscribers share.
    ///
    /// # Errors
    /// The filter begins with a wildcard, and its shape would be one too many.
    pub fn subscribe(&mut self, text: &str, subscriber: Subscriber<S>) -> Result<Arc<str>, TooManyShapes> {
        let id = match self.find(text) {
            Some(id) => id,
            None => self.add_filter(text)?,
        };
        let filter = &mut self.filters[id as usize];
        let places = self.places.entry(subscriber.session).or_default();
        self.changes += 1;
        match places.iter().find(|place| place.filter == id) {
            Some(place) => filter.subscribers[place.at as usize] = subscriber,
            None => {
                places.push(Place { filter: id, at: u32::try_from(filter.subscribers.len()).unwrap_or(u32::MAX) });
                filter.subscribers.push(subscriber);
                self.subscriptions += 1;
            }
        }
        Ok(Arc::clone(&filter.text))
    }

    /// A session unsubscribes. False: it had no such subscription.
    pub fn unsubscribe(&mut self, session: S, text: &str) -> bool {
        let Some(id) = self.find(text) else { return false };
        let Some(places) = self.places.get_mut(&session) else { return false };
        let Some(at) = places.iter().position(|place| place.filter == id) else { return false };
        let place = places.swap_remove(at);
        if places.is_empty() {
            self.places.remove(&session);
        }
        self.leave(place);
        true
    }

    /// A session has ended.
    pub fn forget(&mut self, session: S) {
        for place in self.places.remove(&session).unwrap_or_default() {
            self.leave(place);
        }
    }

    /// A subscription goes, and the last of its filter takes its place.
    fn leave(&mut self, place: Place) {
        let subscribers = &mut self.filters[place.filter as usize].subscribers;
        let last = subscribers.len() - 1;
        subscribers.swap_remove(place.at as usize);
        self.subscriptions -= 1;
        self.changes += 1;
        if let Some(moved) = subscribers.get(place.at as usize) {
            let places = self.places.get_mut(&moved.session).into_iter().flatten();
            for other in places.filter(|other| other.filter == place.filter && other.at as usize == last) {
                other.at = place.at;
            }
        }
        if subscribers.capacity() / 4 > subscribers.len().max(16) {
            subscribers.shrink_to(subscribers.len() * 2);
        }
        if subscribers.is_empty() {
            self.remove_filter(place.filter);
        }
    }

    /// The filters that match a topic, appended to `found`. `cut`: the same topic.
    pub fn matching(&self, topic: &str, cut: &Topic, found: &mut SmallVec<[FilterId; 4]>) {
        for (shape, is_prefix, _) in &self.shapes {
            let Some(key) = cut.key(*shape) else { continue };
            for &id in self.by_key.iter_hash(key.to_bits()) {
                let filter = &self.filters[id as usize];
                let is_of_shape = filter.key == key && filter.is_prefix == *is_prefix;
                if is_of_shape && filter::matches(&filter.text, topic) {
                    found.push(FilterId(id));
                }
            }
        }
    }

    /// Who has subscribed to a filter.
    #[must_use]
    pub fn subscribers(&self, filter: FilterId) -> &[Subscriber<S>] {
        self.filters.get(filter.0 as usize).map_or(&[], |filter| &filter.subscribers)
    }

    fn find(&self, text: &str) -> Option<u32> {
        // By its own shape, or by a prefix where there was no room for that.
        let shapes = [Shape::of(text), Some(Shape::prefix_of(text))];
        shapes.into_iter().flatten().find_map(|shape| {
            let key = shape.key(text, self.interest.seed());
            let is_it = |id: &u32| *self.filters[*id as usize].text == *text;
            self.by_key.find(key.to_bits(), is_it).copied()
        })
    }

    fn add_filter(&mut self, text: &str) -> Result<u32, TooManyShapes> {
        let (shape, is_prefix) = match Shape::of(text) {
            Some(shape) if self.use_shape(shape, false).is_ok() => (shape, false),
            _ => {
                let prefix = Shape::prefix_of(text);
                // It would be found by every topic, and compared with it.
                if prefix.begins_with_wildcard() {
                    return Err(TooManyShapes);
                }
                self.use_shape(prefix, true)?;
                (prefix, true)
            }
        };
        let key = shape.key(text, self.interest.seed());
        let filter = Filter { key, shape, is_prefix, text: text.into(), subscribers: Vec::new() };
        let id = u32::try_from(self.filters.insert(filter)).unwrap_or(u32::MAX);
        let filters = &self.filters;
        self.by_key.insert_unique(key.to_bits(), id, |&id| filters[id as usize].key.to_bits());
        if !self.interest.add(key, self.shard) {
            self.homeless += 1;
            self.interest.want_everything(self.shard, true);
        }
        Ok(id)
    }

    fn use_shape(&mut self, shape: Shape, is_prefix: bool) -> Result<(), TooManyShapes> {
        match self.shapes.iter_mut().find(|(used, of, _)| (*used, *of) == (shape, is_prefix)) {
            Some((_, _, filters)) => *filters += 1,
            None => {
                self.interest.add_shape(shape, is_prefix)?;
                self.shapes.push((shape, is_prefix, 1));
            }
        }
        Ok(())
    }

    fn remove_filter(&mut self, id: u32) {
        let Filter { key, shape, is_prefix, .. } = self.filters.remove(id as usize);
        if let Ok(entry) = self.by_key.find_entry(key.to_bits(), |&other| other == id) {
            entry.remove();
        }
        if !self.by_key.iter_hash(key.to_bits()).any(|&other| self.filters[other as usize].key == key) {
            self.interest.remove(key, self.shard);
        }
        if let Some(at) = self.shapes.iter().position(|(used, of, _)| (*used, *of) == (shape, is_prefix)) {
            self.shapes[at].2 -= 1;
            if self.shapes[at].2 == 0 {
                self.shapes.swap_remove(at);
                self.interest.remove_shape(shape, is_prefix);
            }
        }
        if self.filters.is_empty() && std::mem::take(&mut self.homeless) > 0 {
            self.interest.want_everything(self.shard, false);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;
    use crate::route::interest::SHAPES_MAX;

    fn subscriber(session: usize, identifier: u32) -> Subscriber<usize> {
        Subscriber { session, options: SubscriptionOptions::default(), identifier, is_checked: false }
    }

    struct World {
        interest: Arc<Interest>,
        index: Subscriptions<usize>,
    }

    impl World {
        fn new() -> Self {
            let interest = Arc::<Interest>::default();
            Self { index: Subscriptions::new(3, Arc::clone(&interest)), interest }
        }

        fn subscribe(&mut self, session: usize, filter: &str, identifier: u32) -> Result<(), TooManyShapes> {
            let text = self.index.subscribe(filter, subscriber(session, identifier))?;
            assert_eq!(&*text, filter);
            Ok(())
        }

        fn unsubscribe(&mut self, session: usize, filter: &str) -> bool {
            self.index.unsubscribe(session, filter)
        }

        /// Sessions and identifiers that a topic finds.
        fn found(&self, topic: &str) -> Vec<(usize, u32)> {
            let cut = Topic::new(topic, self.interest.seed());
            let mut filters = SmallVec::new();
            self.index.matching(topic, &cut, &mut filters);
            let subscribers = filters.iter().flat_map(|filter| self.index.subscribers(*filter));
            let mut found: Vec<_> = subscribers.map(|found| (found.session, found.identifier)).collect();
            found.sort_unstable();
            assert!(found.is_empty() || self.interest.shards(&cut) == 1 << 3, "other shards do not find {topic}");
            found
        }
    }

    #[test]
    fn filters_beyond_the_shapes_are_entered_by_their_prefix() {
        let mut world = World::new();
        let filters: Vec<_> = (1..40).map(|depth| format!("{}+/x", "a/".repeat(depth))).collect();
        let shapes: std::collections::BTreeSet<_> = (1..=SHAPES_MAX).map(|n| Shape::of(&pluses(n))).collect();
        assert_eq!(shapes.len(), SHAPES_MAX);
        (1..=SHAPES_MAX).for_each(|n| world.subscribe(0, &pluses(n), 1).expect("there is room"));
        assert_eq!(world.subscribe(0, "+/+/+/+/+/+/+/+", 1), Err(TooManyShapes));
        for filter in &filters {
            world.subscribe(0, filter, 2).expect("by its prefix");
        }
        assert_eq!(world.found("a/b/x"), [(0, 2)]);
        assert_eq!(world.found("a/b/y"), [], "the prefix matches, the filter does not");
        // One that is just that prefix.
        assert!(world.unsubscribe(0, &pluses(7)));
        world.subscribe(0, "a/#", 3).expect("there is room");
        assert_eq!(world.found("a/b/x"), [(0, 2), (0, 3)], "each once");
        assert!(world.unsubscribe(0, "a/#"));
        world.subscribe(0, &pluses(7), 1).expect("there is room");
        assert!(filters.iter().all(|filter| world.unsubscribe(0, filter)));
        assert_eq!(world.found("a/b/x"), []);
        assert!(world.unsubscribe(0, &pluses(5)));
        world.subscribe(0, "+/+/+/+/+/+/+/+", 1).expect("there is room again");
    }

    /// A filter of seven levels whose `+` are the bits of a number, so that each has a shape of its own.
    fn pluses(n: usize) -> String {
        (0..7).map(|bit| if n >> bit & 1 == 1 { "+" } else { "l" }).collect::<Vec<_>>().join("/")
    }

    #[derive(Clone, Debug)]
    enum Step {
        Forget(usize),
        Subscribe(usize, String, u32),
        Unsubscribe(usize, String),
        Look(String),
    }

    fn filter_text() -> impl Strategy<Value = String> {
        let level = prop_oneof![3 => Just("a"), 3 => Just("b"), 2 => Just("+"), 1 => Just("")];
        (prop::collection::vec(level, 1..4), prop::bool::weighted(0.3)).prop_map(|(mut levels, rest)| {
            levels.extend(rest.then_some("#"));
            levels.join("/")
        })
    }

    fn step() -> impl Strategy<Value = Step> {
        let filter = || filter_text().prop_filter("not empty", |filter| !filter.is_empty());
        let topic = prop::collection::vec(prop_oneof![Just("a"), Just("b"), Just("")], 1..5);
        prop_oneof![
            1 => (0usize..5).prop_map(Step::Forget),
            6 => (0usize..5, filter(), 0u32..3).prop_map(|(session, filter, id)| Step::Subscribe(session, filter, id)),
            3 => (0usize..5, filter()).prop_map(|(session, filter)| Step::Unsubscribe(session, filter)),
            5 => topic.prop_map(|levels| Step::Look(levels.join("/"))),
        ]
    }

    proptest! {
        #[test]
        fn it_finds_what_a_list_of_all_would(steps in prop::collection::vec(step(), 1..120)) {
            let mut world = World::new();
            let mut model: BTreeMap<(usize, String), u32> = BTreeMap::new();
            for step in steps {
                match step {
                    Step::Forget(session) => {
                        world.index.forget(session);
                        model.retain(|(of, _), _| *of != session);
                    }
                    Step::Subscribe(session, text, identifier) => {
                        world.subscribe(session, &text, identifier).expect("few shapes");
                        model.insert((session, text), identifier);
                    }
                    Step::Unsubscribe(session, text) => {
                        let had = world.unsubscribe(session, &text);
                        prop_assert_eq!(had, model.remove(&(session, text)).is_some());
                    }
                    Step::Look(topic) => {
                        let matching = model.iter().filter(|((_, text), _)| filter::matches(text, &topic));
                        let mut wanted: Vec<_> = matching.map(|((session, _), identifier)| (*session, *identifier)).collect();
                        wanted.sort_unstable();
                        prop_assert_eq!(world.found(&topic), wanted, "{}", topic);
                    }
                }
                prop_assert_eq!(world.index.len(), model.len());
            }
            for ((session, text), _) in model {
                world.unsubscribe(session, &text);
            }
            prop_assert!(world.index.is_empty() && world.index.filters() == 0);
            prop_assert!(world.index.shapes.is_empty() && world.index.places.is_empty());
            for topic in ["a", "b", "a/b", "a/a/a"] {
                prop_assert_eq!(world.interest.shards(&Topic::new(topic, world.interest.seed())), 0, "{}", topic);
            }
        }
    }

    #[test]
    fn a_second_subscription_to_a_filter_replaces_the_first() {
        let mut world = World::new();
        world.subscribe(0, "a/+", 1).expect("few shapes");
        world.subscribe(1, "a/+", 2).expect("few shapes");
        let before = world.index.changes();
        world.subscribe(0, "a/+", 3).expect("few shapes");
        assert_eq!((world.found("a/b"), world.index.len()), (vec![(0, 3), (1, 2)], 2));
        assert!(world.index.changes() > before);
    }
}
