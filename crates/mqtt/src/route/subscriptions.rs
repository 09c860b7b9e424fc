//! The subscriptions of one shard: filters by key, and the subscribers of each.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;

use hashbrown::HashTable;
use slab::Slab;
use smallvec::SmallVec;

use super::filter;
use super::interest::Interest;
use super::shape::{Key, Shape, Topic};
use crate::packet::SubscriptionOptions;
use forebay_base::limits::{COMPARED_MAX, COMPARED_TEXTS_MAX, SHAPES_OF_SESSION_MAX};

/// A filter of [`Subscriptions`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FilterId(u32);

/// A session's subscription to a filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subscriber<S> {
    /// The session that has subscribed.
    pub session: S,
    /// The options as granted.
    pub options: SubscriptionOptions,
    /// Subscription Identifier; 0: none.
    pub identifier: u32,
    /// The filter also matches topics that the session may not read: each message is checked.
    pub is_checked: bool,
    /// The gate that decides which live messages are delivered while messages of the past are sent to the subscription, and for a
    /// while after; 0: all are.
    pub gate: u32,
}

/// The position of a subscription: its filter, and its index among those of the filter. The places of a session are in the order of
/// their filters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place {
    filter: u32,
    at: u32,
}

/// The index of the place of a filter among those of a session, or where it would be.
fn of_filter(places: &[Place], filter: u32) -> Result<usize, usize> {
    places.binary_search_by_key(&filter, |place| place.filter)
}

/// The number of filters that room is kept for.
const GIVES_BACK_FROM: usize = 4_096;
/// The most filters that are moved to give back memory: a millisecond or two.
const MOVED_MAX: usize = 8_192;

/// A comparison of texts of many levels takes as long as that many of keys.
pub const LOOKS_OF_TEXT: usize = 16;

#[derive(Debug)]
struct Filter<S> {
    key: Key,
    /// The filter's own shape, or that of its prefix if there was no room for its own.
    shape: Shape,
    /// The filter's own shape and key, which compare faster than texts, if `shape` is that of its prefix.
    own: Option<Box<(Shape, Key)>>,
    /// The filter has no more levels than a shape can have.
    has_shape: bool,
    /// The filter found room in [`Interest`].
    has_room: bool,
    text: Arc<str>,
    subscribers: Vec<Subscriber<S>>,
}

/// Filters under the same prefix that have no places of their own.
#[derive(Clone, Copy, Debug, Default)]
struct Compared {
    all: usize,
    /// The filters among them that have no shape.
    texts: usize,
}

impl<S> Filter<S> {
    /// Whether the filter is under its prefix, and every topic below that is compared with it.
    fn is_compared(&self) -> bool {
        !self.has_shape || self.own.is_some()
    }
}

/// The subscriptions of one shard.
#[derive(Debug)]
pub struct Subscriptions<S> {
    shard: usize,
    interest: Arc<Interest>,
    filters: Slab<Filter<S>>,
    by_key: HashTable<u32>,
    /// The shapes in use, each with its number of filters.
    shapes: Vec<(Shape, usize)>,
    /// The places of each session, so that one of 100,000 subscribers leaves as fast as one of ten.
    places: HashMap<S, Vec<Place>>,
    subscriptions: usize,
    /// Counts of filters that are compared with every topic below their prefix, by the prefix's key.
    compared: HashMap<Key, Compared>,
    /// Filters that found no room in [`Interest`].
    without_room: usize,
    /// The number of changes: subscriptions added, replaced or removed.
    changes: u64,
}

impl<S: Copy + Eq + Hash> Subscriptions<S> {
    /// An empty set for a shard. `interest`: the table that all shards look in.
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
            compared: HashMap::new(),
            without_room: 0,
            changes: 0,
        }
    }

    /// The table that all shards look in.
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

    /// Filters that are compared with every topic: they begin with a wildcard, and there was no room for their shapes.
    #[must_use]
    pub fn compared(&self) -> usize {
        self.compared_below(Shape::prefix_of("#").key("#", self.interest.seed())).all
    }

    fn compared_below(&self, prefix: Key) -> Compared {
        self.compared.get(&prefix).copied().unwrap_or_default()
    }

    /// Filters that found no room in [`Interest`]: while there are any, the shard gets every message.
    #[must_use]
    pub fn without_room(&self) -> usize {
        self.without_room
    }

    /// Whether there is room for a new filter. If not, [`Subscriptions::subscribe`] still accepts it, for a subscription that was
    /// granted before a restart.
    #[must_use]
    pub fn has_room(&self, text: &str) -> bool {
        let shape = Shape::of(text);
        if shape.is_some_and(|shape| self.interest.has_shape(shape)) || self.find(text).is_some() {
            return true;
        }
        let below = self.compared_below(Shape::prefix_of(text).key(text, self.interest.seed()));
        below.all < COMPARED_MAX && (shape.is_some() || below.texts < COMPARED_TEXTS_MAX)
    }

    /// A counter that changes with every subscription that is added, replaced or removed.
    #[must_use]
    pub fn changes(&self) -> u64 {
        self.changes
    }

    /// Adds a subscription to a valid filter. A subscription of the same session to the same filter is replaced [MQTT-3.8.4-3].
    /// Publishes on any shard find it from now on. Returns the filter's text, which all its subscribers share.
    pub fn subscribe(&mut self, text: &str, subscriber: Subscriber<S>) -> Arc<str> {
        self.interest.grows();
        let id = self.find(text).unwrap_or_else(|| self.add_filter(text, subscriber.session));
        let filter = &mut self.filters[id as usize];
        let places = self.places.entry(subscriber.session).or_default();
        self.changes += 1;
        self.interest.grows();
        match of_filter(places, id) {
            Ok(place) => filter.subscribers[places[place].at as usize] = subscriber,
            Err(place) => {
                let at = u32::try_from(filter.subscribers.len()).unwrap_or(u32::MAX);
                places.insert(place, Place { filter: id, at });
                filter.subscribers.push(subscriber);
                self.subscriptions += 1;
            }
        }
        Arc::clone(&filter.text)
    }

    /// Removes a subscription of a session. False: the session had no such subscription.
    pub fn unsubscribe(&mut self, session: S, text: &str) -> bool {
        let Some(id) = self.find(text) else { return false };
        let Some(places) = self.places.get_mut(&session) else { return false };
        let Ok(at) = of_filter(places, id) else { return false };
        let place = places.remove(at);
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

    /// Removes a subscription; the last one of its filter takes its place.
    fn leave(&mut self, place: Place) {
        let subscribers = &mut self.filters[place.filter as usize].subscribers;
        let last = subscribers.len() - 1;
        subscribers.swap_remove(place.at as usize);
        self.subscriptions -= 1;
        self.changes += 1;
        if let Some(moved) = subscribers.get(place.at as usize) {
            let places = self.places.get_mut(&moved.session);
            if let Some(places) = places
                && let Ok(other) = of_filter(places, place.filter)
            {
                debug_assert_eq!(places[other].at as usize, last);
                places[other].at = place.at;
            }
        }
        if subscribers.capacity() / 4 > subscribers.len().max(16) {
            subscribers.shrink_to(subscribers.len() * 2);
        }
        if subscribers.is_empty() {
            self.remove_filter(place.filter);
        }
    }

    /// Gives memory back after a burst, when few of many filters are left: these are moved, which takes about as long as a lookup
    /// of each. Every earlier [`FilterId`] becomes invalid. Called between two turns: once the filters are few, all are moved in
    /// one call.
    pub fn give_back(&mut self) {
        let (capacity, live) = (self.filters.capacity(), self.filters.len());
        if capacity > GIVES_BACK_FROM && capacity / 8 >= live && live <= MOVED_MAX {
            self.compact();
        }
    }

    fn compact(&mut self) {
        let Self { filters, by_key, places, .. } = self;
        filters.compact(|filter, from, to| {
            let (from, to) = (from as u32, to as u32);
            for Subscriber { session, .. } in &filter.subscribers {
                // Sorted again below: until then each is looked for.
                let of =
                    places.get_mut(session).and_then(|places| places.iter_mut().find(|place| place.filter == from));
                of.into_iter().for_each(|place| place.filter = to);
            }
            by_key.find_mut(filter.key.to_bits(), |id| *id == from).into_iter().for_each(|id| *id = to);
            true
        });
        places.values_mut().for_each(|places| places.sort_unstable_by_key(|place| place.filter));
        places.shrink_to(2 * places.len());
        by_key.shrink_to(2 * by_key.len(), |&id| filters[id as usize].key.to_bits());
        self.changes += 1;
    }

    /// Appends the filters that match a topic to `found`. `cut`: the same topic. Returns the cost of the look, in
    /// [`LOOKS_OF_TEXT`]: the number of compared filters that have no places of their own.
    pub fn matching(&self, topic: &str, cut: &Topic, found: &mut SmallVec<[FilterId; 4]>) -> usize {
        let mut looks = 0;
        for (shape, _) in &self.shapes {
            let Some(key) = cut.key(*shape) else { continue };
            for &id in self.by_key.iter_hash(key.to_bits()) {
                let filter = &self.filters[id as usize];
                let is_of_shape = filter.key == key && filter.shape == *shape;
                if !is_of_shape {
                    continue;
                }
                let is_own = match filter.own.as_deref() {
                    Some((own, key)) => {
                        looks += 1;
                        cut.key(*own) == Some(*key)
                    }
                    None => true,
                };
                looks += if filter.has_shape { 0 } else { LOOKS_OF_TEXT };
                if is_own && filter::matches(&filter.text, topic) {
                    found.push(FilterId(id));
                }
            }
        }
        looks
    }

    /// The filter with this text.
    #[must_use]
    pub fn filter(&self, text: &str) -> Option<FilterId> {
        self.find(text).map(FilterId)
    }

    /// The subscribers of a filter.
    #[must_use]
    pub fn subscribers(&self, filter: FilterId) -> &[Subscriber<S>] {
        self.filters.get(filter.0 as usize).map_or(&[], |filter| &filter.subscribers)
    }

    fn find(&self, text: &str) -> Option<u32> {
        // The filter is under its own shape, or under its prefix if there was no room for that.
        let shapes = [Shape::of(text), Some(Shape::prefix_of(text))];
        shapes.into_iter().flatten().find_map(|shape| {
            let key = shape.key(text, self.interest.seed());
            let is_it = |id: &u32| *self.filters[*id as usize].text == *text;
            self.by_key.find(key.to_bits(), is_it).copied()
        })
    }

    fn add_filter(&mut self, text: &str, session: S) -> u32 {
        let own = Shape::of(text);
        let placed = own.filter(|shape| self.may_use(*shape, session) && self.use_shape(*shape));
        let shape = placed.unwrap_or_else(|| {
            let prefix = Shape::prefix_of(text);
            // A prefix always has its place.
            let _ = self.use_shape(prefix);
            prefix
        });
        let has_shape = own.is_some();
        let key_of = |shape: Shape| shape.key(text, self.interest.seed());
        let key = key_of(shape);
        let own = own.filter(|own| *own != shape).map(|own| Box::new((own, key_of(own))));
        let has_room = self.interest.add(key, self.shard);
        let filter = Filter { key, shape, own, has_shape, has_room, text: text.into(), subscribers: Vec::new() };
        self.count_compared(&filter, 1);
        let id = u32::try_from(self.filters.insert(filter)).unwrap_or(u32::MAX);
        let filters = &self.filters;
        self.by_key.insert_unique(key.to_bits(), id, |&id| filters[id as usize].key.to_bits());
        if !has_room {
            self.without_room += 1;
            self.interest.want_everything(self.shard, true);
        }
        id
    }

    fn count_compared(&mut self, filter: &Filter<S>, change: isize) {
        if !filter.is_compared() {
            return;
        }
        let below = self.compared.entry(filter.key).or_default();
        below.all = below.all.wrapping_add_signed(change);
        below.texts = below.texts.wrapping_add_signed(change * isize::from(!filter.has_shape));
        if below.all == 0 {
            self.compared.remove(&filter.key);
        }
    }

    /// Whether a shape has its place already, or the session has used fewer than [`SHAPES_OF_SESSION_MAX`] that need
    /// one.
    fn may_use(&self, shape: Shape, session: S) -> bool {
        if self.interest.has_shape(shape) {
            return true;
        }
        let mut brought: SmallVec<[Shape; SHAPES_OF_SESSION_MAX]> = SmallVec::new();
        for place in self.places.get(&session).into_iter().flatten() {
            let used = self.filters[place.filter as usize].shape;
            if !used.has_own_place() && !brought.contains(&used) {
                brought.push(used);
                if brought.len() == SHAPES_OF_SESSION_MAX {
                    return false;
                }
            }
        }
        true
    }

    fn use_shape(&mut self, shape: Shape) -> bool {
        if let Some((_, filters)) = self.shapes.iter_mut().find(|(used, _)| *used == shape) {
            *filters += 1;
            return true;
        }
        let is_added = self.interest.add_shape(shape);
        self.shapes.extend(is_added.then_some((shape, 1)));
        is_added
    }

    fn remove_filter(&mut self, id: u32) {
        let filter = self.filters.remove(id as usize);
        self.count_compared(&filter, -1);
        let Filter { key, shape, has_room, .. } = filter;
        if let Ok(entry) = self.by_key.find_entry(key.to_bits(), |&other| other == id) {
            entry.remove();
        }
        if !self.by_key.iter_hash(key.to_bits()).any(|&other| self.filters[other as usize].key == key) {
            self.interest.remove(key, self.shard);
        }
        if let Some(at) = self.shapes.iter().position(|(used, _)| *used == shape) {
            self.shapes[at].1 -= 1;
            if self.shapes[at].1 == 0 {
                self.shapes.swap_remove(at);
                self.interest.remove_shape(shape);
            }
        }
        if !has_room {
            self.without_room -= 1;
            if self.without_room == 0 {
                self.interest.want_everything(self.shard, false);
            }
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
        Subscriber { session, options: SubscriptionOptions::default(), identifier, is_checked: false, gate: 0 }
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

        fn subscribe(&mut self, session: usize, filter: &str, identifier: u32) {
            let text = self.index.subscribe(filter, subscriber(session, identifier));
            assert_eq!(&*text, filter);
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
        let filters: Vec<_> = (3..40).map(|depth| format!("{}+/x", "a/".repeat(depth))).collect();
        let shapes: std::collections::BTreeSet<_> = (1..=SHAPES_MAX).map(|n| Shape::of(&pluses(n))).collect();
        assert_eq!(shapes.len(), SHAPES_MAX);
        (1..=SHAPES_MAX).for_each(|n| world.subscribe(100 + n / 8, &pluses(n), 1));
        for filter in &filters {
            world.subscribe(0, filter, 2);
        }
        assert_eq!(world.found("a/a/a/b/x"), [(0, 2)]);
        assert_eq!(world.found("a/a/a/b/y"), [], "the prefix matches, the filter does not");
        // A filter that is just that prefix.
        world.subscribe(1, "a/a/a/#", 3);
        assert_eq!(world.found("a/a/a/b/x"), [(0, 2), (1, 3)], "each once");
        assert!(world.unsubscribe(1, "a/a/a/#"));
        let wild = "+/+/+/+/+/+/+/+";
        assert_eq!((world.index.compared(), world.interest.shards(&Topic::new("b", world.interest.seed()))), (0, 0));
        world.subscribe(0, wild, 4);
        assert_eq!((world.index.compared(), world.found("1/2/3/4/5/6/7/8")), (1, vec![(0, 4)]));
        assert_eq!((world.found("$1/2/3/4/5/6/7/8"), world.found("b")), (vec![], vec![]));
        assert!(world.unsubscribe(0, wild));
        assert_eq!((world.index.compared(), world.found("1/2/3/4/5/6/7/8")), (0, vec![]));
        assert!(filters.iter().all(|filter| world.unsubscribe(0, filter)));
        assert_eq!(world.found("a/a/a/b/x"), []);
        assert!(world.unsubscribe(100, &pluses(5)));
        world.subscribe(0, wild, 4);
        assert_eq!((world.index.compared(), world.found("1/2/3/4/5/6/7/8")), (0, vec![(0, 4)]), "there is room");
    }

    #[test]
    fn a_session_leaves_room_for_the_shapes_of_others() {
        let mut world = World::new();
        let used = |world: &World| {
            let shapes: std::collections::BTreeSet<_> = (1..128).filter_map(|n| Shape::of(&pluses(n))).collect();
            shapes.into_iter().filter(|shape| world.interest.has_shape(*shape)).count()
        };
        (1..128).for_each(|n| world.subscribe(0, &pluses(n), 1));
        assert_eq!((used(&world), world.index.compared()), (SHAPES_OF_SESSION_MAX, 60), "it begins with its last");
        // A shape that is in use is not counted for a session.
        world.subscribe(1, &pluses(1).replace('l', "m"), 2);
        assert_eq!(world.index.compared(), 60);
        (1..128).rev().for_each(|n| world.subscribe(1, &pluses(n).replace('l', "k"), 1));
        assert_eq!(used(&world), 2 * SHAPES_OF_SESSION_MAX - 1);
        for n in 1..128 {
            let topic = pluses(n).replace('+', "x");
            let matching = |text: &str| (1..128).filter(|n| filter::matches(&pluses(*n), text)).count();
            assert_eq!(world.found(&topic).len(), matching(&topic) + 1, "and the one without a literal level: {topic}");
        }
    }

    #[test]
    fn few_filters_are_compared_with_every_topic_and_those_from_before_a_restart_are_taken() {
        let mut world = World::new();
        // 64 shapes for each number of levels.
        let deep = |number: usize| format!("{}{}/{number}", pluses(number % 64 * 2 + 1), "/a".repeat(number / 64));
        let mut numbers = 0..5_000;
        while world.index.has_room("+/a/a/a/a/+/new") && numbers.start < numbers.end {
            numbers.by_ref().take(1).for_each(|number| world.subscribe(number, &deep(number), 0));
        }
        assert_eq!(world.index.compared(), COMPARED_MAX);
        // The shape of the first one has its place.
        for filter in ["#", "+/+/+/+", "a/+/+/+/+/+/+/+/a", "+/l/l/l/l/l/l/new"] {
            assert!(world.index.has_room(filter), "{filter}");
        }
        world.subscribe(1, "+/a/a/a/a/+/restored", 7);
        assert_eq!(
            (world.index.compared(), world.found("x/a/a/a/a/x/restored").contains(&(1, 7))),
            (COMPARED_MAX + 1, true)
        );
    }

    /// A filter of seven levels with the bits of a number as its `+`, so that each has a shape of its own.
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

    /// Filters of fewer levels than this.
    fn filter_text(levels: usize) -> impl Strategy<Value = String> {
        let level = prop_oneof![3 => Just("a"), 3 => Just("b"), 2 + levels as u32 / 4 => Just("+"), 1 => Just("")];
        (prop::collection::vec(level, levels / 2..levels), prop::bool::weighted(0.3)).prop_map(|(mut levels, rest)| {
            levels.extend(rest.then_some("#"));
            levels.join("/")
        })
    }

    /// A step of one of `sessions` sessions, with filters of fewer levels than `levels`.
    fn step(sessions: usize, levels: usize) -> impl Strategy<Value = Step> {
        let filter = move || filter_text(levels).prop_filter("not empty", |filter| !filter.is_empty());
        let topic = prop::collection::vec(prop_oneof![Just("a"), Just("b"), Just("")], levels / 2..levels + 1);
        prop_oneof![
            1 => (0..sessions).prop_map(Step::Forget),
            2 + levels as u32 => (0..sessions, filter(), 0u32..3)
                .prop_map(|(session, filter, id)| Step::Subscribe(session, filter, id)),
            3 => (0..sessions, filter()).prop_map(|(session, filter)| Step::Unsubscribe(session, filter)),
            5 => topic.prop_map(|levels| Step::Look(levels.join("/"))),
        ]
    }

    /// Does these steps with the index and with a list; how many filters were compared with every topic at most.
    fn agree(steps: Vec<Step>) -> Result<usize, TestCaseError> {
        let (mut world, mut compared) = (World::new(), 0);
        let mut model: BTreeMap<(usize, String), u32> = BTreeMap::new();
        for step in steps {
            match step {
                Step::Forget(session) => {
                    world.index.forget(session);
                    model.retain(|(of, _), _| *of != session);
                }
                Step::Subscribe(session, text, identifier) => {
                    world.subscribe(session, &text, identifier);
                    model.insert((session, text), identifier);
                }
                Step::Unsubscribe(session, text) => {
                    let had = world.unsubscribe(session, &text);
                    prop_assert_eq!(had, model.remove(&(session, text)).is_some());
                }
                Step::Look(topic) => {
                    let matching = model.iter().filter(|((_, text), _)| filter::matches(text, &topic));
                    let mut wanted: Vec<_> =
                        matching.map(|((session, _), identifier)| (*session, *identifier)).collect();
                    wanted.sort_unstable();
                    prop_assert_eq!(world.found(&topic), wanted, "{}", topic);
                }
            }
            compared = compared.max(world.index.compared());
            prop_assert_eq!(world.index.len(), model.len());
        }
        for ((session, text), _) in model {
            world.unsubscribe(session, &text);
        }
        prop_assert!(world.index.is_empty() && world.index.filters() == 0 && world.index.compared.is_empty());
        prop_assert!(world.index.shapes.is_empty() && world.index.places.is_empty());
        for topic in ["a", "b", "a/b", "a/a/a", "a/b/a/b/a/b/a"] {
            prop_assert_eq!(world.interest.shards(&Topic::new(topic, world.interest.seed())), 0, "{}", topic);
        }
        Ok(compared)
    }

    proptest! {
        #[test]
        fn it_finds_what_a_list_of_all_would(steps in prop::collection::vec(step(5, 4), 1..120)) {
            agree(steps)?;
        }

    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn with_more_shapes_than_there_may_be_it_finds_the_same(steps in prop::collection::vec(step(8, 9), 400..600)) {
            prop_assert!(agree(steps)? > 0, "too few shapes");
        }
    }

    #[test]
    fn a_shard_asks_for_everything_while_a_filter_has_no_room_and_no_longer() {
        let mut world = World::new();
        let key = |filter: &str| Shape::of(filter).expect("short").key(filter, world.interest.seed());
        ["full/1", "full/2"].into_iter().for_each(|filter| world.interest.fill(key(filter)));
        for filter in ["full/1", "full/2", "other"] {
            world.subscribe(0, filter, 1);
        }
        let wants_everything = |world: &World| world.interest.shards(&Topic::new("x/y", world.interest.seed())) != 0;
        assert_eq!(world.found("full/1"), [(0, 1)]);
        assert!(wants_everything(&world));
        assert!(world.unsubscribe(0, "full/1"));
        assert!(wants_everything(&world), "another one has no room");
        assert!(world.unsubscribe(0, "full/2"));
        assert!(!wants_everything(&world), "all that are left have room");
    }

    #[test]
    fn finding_u4_the_memory_of_a_burst_goes_back() {
        let mut world = World::new();
        for (session, filter) in [(1, "stays"), (2, "stays/+"), (3, "#")] {
            world.subscribe(session, filter, 7);
        }
        for round in 0..2 {
            for number in 0..30_000 {
                world.subscribe(number % 100, &format!("dev/{number}"), 1);
            }
            // The last subscriptions have free places before them.
            world.subscribe(1, "last/1", 8);
            world.subscribe(2, "last/1", 8);
            assert!(world.index.filters.capacity() >= 30_000);
            world.index.give_back();
            assert!(world.index.filters.capacity() >= 30_000, "they are in use");
            for number in 0..30_000 {
                assert!(world.unsubscribe(number % 100, &format!("dev/{number}")));
                world.index.give_back();
            }
            assert!(world.index.filters.capacity() <= GIVES_BACK_FROM, "{}", world.index.filters.capacity());
            assert!(world.index.by_key.capacity() < 16_384, "{}", world.index.by_key.capacity());
            assert_eq!(world.found("stays/1"), [(2, 7), (3, 7)], "{round}");
            assert_eq!(world.found("last/1"), [(1, 8), (2, 8), (3, 7)]);
            assert!(world.unsubscribe(1, "last/1") && world.unsubscribe(2, "last/1"));
            assert_eq!(world.found("last/1"), [(3, 7)]);
        }
        for session in [1, 2, 3] {
            world.index.forget(session);
        }
        assert!(world.index.is_empty() && world.found("stays").is_empty());
    }

    #[test]
    fn a_second_subscription_to_a_filter_replaces_the_first() {
        let mut world = World::new();
        world.subscribe(0, "a/+", 1);
        world.subscribe(1, "a/+", 2);
        let before = world.index.changes();
        world.subscribe(0, "a/+", 3);
        assert_eq!((world.found("a/b"), world.index.len()), (vec![(0, 3), (1, 2)], 2));
        assert!(world.index.changes() > before);
    }
}
