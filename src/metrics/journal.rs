//! Events on their way out: from a shard through a bounded queue, from there to the log and into a ring that
//! `/api/v1/events` reads.
//!
//! A shard pushes into a lock-free queue and never waits: when the queue is full the event is dropped and counted, and
//! of one kind no more than [`EVENTS_PER_KIND_PER_S`] leave a shard within a second, and of one client no more than one, where clients may
//! hide one another ([`Teller::tell_of`]). The ring's lock is taken by ordinary
//! threads only.

use std::collections::VecDeque;
use std::hash::BuildHasher as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::Thread;

use crossbeam_queue::ArrayQueue;
use foldhash::quality::RandomState;

use super::collector::{Extra, Number};
use super::event::{Event, Field, Kind, SeenBy};
use super::spec::{Kind as Shape, Spec};
use crate::limits::{EVENTS_KEPT_MAX, EVENTS_PER_KIND_PER_S, EVENTS_QUEUED_MAX};

/// Brokers with a series, at most.
const BROKERS_SHOWN_MAX: usize = 256;

/// See [`Journal::troubles`].
pub const BROKER_UNREACHABLE: Spec = Spec {
    name: "kafka_broker_unreachable",
    label: None,
    help: "1 for each broker that cannot be used, labels `kafka` and `broker`; others have no series. At most 256.",
    kind: Shape::Gauge,
};

/// The journal's own numbers.
pub const JOURNAL: [Spec; 3] = [
    Spec {
        name: "events",
        label: None,
        help: "Events written to the log and kept for `/api/v1/events`.",
        kind: Shape::Counter,
    },
    Spec {
        name: "events_dropped",
        label: None,
        help: "Events lost because their queue was full.",
        kind: Shape::Counter,
    },
    Spec { name: "events_stored", label: None, help: "Events that `/api/v1/events` can show.", kind: Shape::Gauge },
];

/// See the module.
#[derive(Debug)]
pub struct Journal {
    queue: ArrayQueue<Event>,
    dropped: AtomicU64,
    ring: Mutex<Ring>,
    /// Who calls [`Journal::collect`], and sleeps while there is nothing.
    collector: OnceLock<Thread>,
}

#[derive(Debug, Default)]
struct Ring {
    /// The number of the next event; the first is 1.
    next: u64,
    kept: VecDeque<Event>,
    of_all: OfAll,
}

/// What was said last of each thing that all shards see: a cluster, a topic.
#[derive(Debug, Default)]
struct OfAll {
    said: VecDeque<Event>,
}

impl OfAll {
    /// Whether an event says anything new.
    fn is_new(&mut self, of_all: SeenBy, event: &Event) -> bool {
        let about = |event: &Event| {
            let fields = [Field::Kafka, Field::Broker, Field::Sink, Field::Topic];
            fields.map(|field| event.text(field).map(str::to_owned))
        };
        let same_thing = |other: &Event| other.kind.seen_by_all() == Some(of_all) && about(other) == about(event);
        let before = self.said.iter().position(same_thing).and_then(|place| self.said.remove(place));
        if self.said.len() >= OF_ALL_MAX {
            self.said.pop_front();
        }
        let new = before.is_none_or(|before| {
            // A change may come again; shards find one within moments of each other.
            let again = of_all == SeenBy::Change && event.at_ms.saturating_sub(before.at_ms) > CHANGE_MS;
            again || before.kind != event.kind || !before.says_the_same(event)
        });
        self.said.push_back(event.clone());
        new
    }
}

/// Things that are remembered; what is forgotten is said again.
const OF_ALL_MAX: usize = 4_096;
/// How long shards take at most to find the same change.
const CHANGE_MS: u64 = 10_000;

/// A broker that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble {
    /// Name of the cluster.
    pub kafka: String,
    /// `host:port`.
    pub broker: String,
    /// Why, in words.
    pub reason: String,
}

/// What is asked of the ring. Everything that is `None` is passed.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Events with a greater number.
    pub since: u64,
    /// Of this kind.
    pub kind: Option<Kind>,
    /// With this sink.
    pub sink: Option<String>,
    /// At most so many, the oldest first.
    pub limit: Option<usize>,
}

/// A part of the ring.
#[derive(Clone, Debug)]
pub struct Page {
    /// Events with their numbers, oldest first.
    pub events: Vec<(u64, Event)>,
    /// What to ask `since` for next.
    pub last: u64,
    /// The number of the oldest event that is kept.
    pub oldest: u64,
}

impl Default for Journal {
    fn default() -> Self {
        let (queue, dropped) = (ArrayQueue::new(EVENTS_QUEUED_MAX), AtomicU64::new(0));
        Self { queue, dropped, ring: Mutex::default(), collector: OnceLock::new() }
    }
}

impl Journal {
    /// From a shard: queued, or dropped and counted. Wakes the collector, which is a system call if it sleeps.
    fn push(&self, event: Event) {
        if self.queue.push(event).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
        if let Some(collector) = self.collector.get() {
            collector.unpark();
        }
    }

    /// Names the thread that collects, and parks while there is nothing. The first one counts.
    pub fn collected_by(&self, thread: Thread) {
        // What was queued before nobody was woken for.
        self.collector.get_or_init(|| thread).unpark();
    }

    /// From an ordinary thread: at once.
    pub fn say(&self, event: Event) {
        event.log();
        let mut ring = self.ring();
        ring.next += 1;
        if ring.kept.len() >= EVENTS_KEPT_MAX {
            ring.kept.pop_front();
        }
        ring.kept.push_back(event);
    }

    /// Takes what the shards have queued. What is so for all shards is said once, by the first of them that finds it.
    pub fn collect(&self) {
        while let Some(event) = self.queue.pop() {
            match event.kind.seen_by_all() {
                None => self.say(event),
                Some(of_all) => {
                    if self.ring().of_all.is_new(of_all, &event) {
                        self.say(event.of_all_shards());
                    }
                }
            }
        }
    }

    /// Brokers that cannot be used, as was said last of each: what was said longest ago first.
    #[must_use]
    pub fn troubles(&self) -> Vec<Trouble> {
        let trouble = |event: &Event| {
            let (kafka, broker) = event.text(Field::Kafka).zip(event.text(Field::Broker))?;
            let is_over = event.kind == Kind::BrokerReachable;
            let reason = event.text(Field::Reason).unwrap_or_default();
            (!is_over).then(|| Trouble {
                kafka: kafka.to_owned(),
                broker: broker.to_owned(),
                reason: reason.to_owned(),
            })
        };
        self.ring().of_all.said.iter().filter_map(trouble).collect()
    }

    /// A part of what is kept.
    #[must_use]
    pub fn page(&self, filter: &Filter) -> Page {
        let ring = self.ring();
        let oldest = ring.next - ring.kept.len() as u64 + 1;
        let fits = |(id, event): &(u64, &Event)| {
            let sink = event.text(super::event::Field::Sink);
            *id > filter.since
                && filter.kind.is_none_or(|kind| kind == event.kind)
                && filter.sink.as_deref().is_none_or(|wanted| sink == Some(wanted))
        };
        let found = (oldest..).zip(&ring.kept).filter(fits).take(filter.limit.unwrap_or(usize::MAX));
        let events: Vec<_> = found.map(|(id, event)| (id, event.clone())).collect();
        let cut = filter.limit.is_some_and(|limit| events.len() == limit);
        let last = events.last().filter(|_| cut).map_or(ring.next, |(id, _)| *id);
        Page { events, last, oldest }
    }

    /// Events lost because the queue was full.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// Nothing that could panic runs under the lock, so a poisoned one is as good as another.
    fn ring(&self) -> MutexGuard<'_, Ring> {
        self.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Extra for Journal {
    fn read(&self) -> Vec<Number> {
        let (said, kept) = {
            let ring = self.ring();
            (ring.next, ring.kept.len() as u64)
        };
        let counts = JOURNAL.iter().zip([said, self.dropped(), kept]).map(|(spec, value)| Number::of(spec, value));
        let broker = |Trouble { kafka, broker, .. }: Trouble| {
            let labels = vec![("kafka", kafka), ("broker", broker)];
            Number { spec: BROKER_UNREACHABLE, labels, value: 1.0 }
        };
        counts.chain(self.troubles().into_iter().take(BROKERS_SHOWN_MAX).map(broker)).collect()
    }
}

/// A shard's end of the journal.
#[derive(Debug)]
pub struct Teller {
    journal: Arc<Journal>,
    shard: usize,
    /// The second that `said` is about.
    second: u64,
    said: [u8; Kind::COUNT],
    /// Hashes of those that were named in it, with the kind: no more than were told.
    named: Vec<u64>,
    hasher: RandomState,
    suppressed: u64,
}

impl Teller {
    /// Of this shard.
    #[must_use]
    pub fn new(journal: Arc<Journal>, shard: usize) -> Self {
        let (named, hasher) = (Vec::new(), RandomState::default());
        Self { journal, shard, second: 0, said: [0; Kind::COUNT], named, hasher, suppressed: 0 }
    }

    /// Tells of something, unless too much of its kind has been told in this second (of any clock that goes on): then
    /// `more`, which says the rest, is not even called.
    pub fn tell(&mut self, kind: Kind, second: u64, more: impl FnOnce(Event) -> Event) {
        self.begin(second);
        let said = &mut self.said[kind as usize];
        if *said >= EVENTS_PER_KIND_PER_S {
            self.suppressed += 1;
            return;
        }
        *said += 1;
        self.journal.push(more(Event::now(kind).on(self.shard)));
    }

    /// The same of something that one of many has to do with, by name: of each no more than one is told in a second, so that it does
    /// not hide the others.
    pub fn tell_of(&mut self, kind: Kind, second: u64, name: &str, more: impl FnOnce(Event) -> Event) {
        self.begin(second);
        let hash = self.hasher.hash_one((kind as usize, name));
        if self.named.contains(&hash) {
            self.suppressed += 1;
            return;
        }
        if self.said[kind as usize] < EVENTS_PER_KIND_PER_S {
            self.named.push(hash);
        }
        self.tell(kind, second, more);
    }

    fn begin(&mut self, second: u64) {
        if self.second != second {
            self.second = second;
            self.said = [0; Kind::COUNT];
            self.named.clear();
        }
    }

    /// How many were left out.
    #[must_use]
    pub const fn suppressed(&self) -> u64 {
        self.suppressed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unknown(teller: &mut Teller, second: u64, topic: &str) {
        let sink = if topic.len() > 1 { "long" } else { "short" };
        teller.tell(Kind::TopicUnknown, second, |event| event.with(Field::Sink, sink).with(Field::Topic, topic));
    }

    #[test]
    fn what_is_asked_for_is_found_and_the_ring_forgets_the_oldest() {
        let journal = Arc::new(Journal::default());
        let mut teller = Teller::new(Arc::clone(&journal), 3);
        journal.say(Event::now(Kind::Started));
        unknown(&mut teller, 1, "t");
        unknown(&mut teller, 1, "tt");
        assert_eq!(journal.page(&Filter::default()).events.len(), 1, "not before they are collected");
        journal.collect();
        let ids = |filter: &Filter| journal.page(filter).events.iter().map(|(id, _)| *id).collect::<Vec<_>>();
        assert_eq!(ids(&Filter::default()), [1, 2, 3]);
        assert_eq!(ids(&Filter { since: 1, ..Filter::default() }), [2, 3]);
        assert_eq!(ids(&Filter { kind: Some(Kind::Started), ..Filter::default() }), [1]);
        assert_eq!(ids(&Filter { sink: Some("long".into()), ..Filter::default() }), [3]);
        let page = journal.page(&Filter { limit: Some(2), ..Filter::default() });
        assert_eq!((page.last, page.oldest, page.events.len()), (2, 1, 2), "the next page begins behind it");
        assert_eq!((page.events[1].1.shard, page.events[1].1.text(Field::Topic)), (None, Some("t")));
        (0..EVENTS_KEPT_MAX).for_each(|_| journal.say(Event::now(Kind::Drained)));
        let page = journal.page(&Filter::default());
        assert_eq!((page.events.len(), page.oldest, page.last), (EVENTS_KEPT_MAX, 4, EVENTS_KEPT_MAX as u64 + 3));
    }

    #[test]
    fn what_all_shards_see_is_said_once() {
        let journal = Arc::new(Journal::default());
        let mut tellers = [0, 1].map(|shard| Teller::new(Arc::clone(&journal), shard));
        let mut all = |kind: Kind, code: u64| {
            for teller in &mut tellers {
                teller.tell(kind, code, |event| {
                    let event = event.with(Field::Sink, "s").with(Field::Topic, "t");
                    if kind == Kind::TopicKnown { event } else { event.with(Field::Code, code) }
                });
            }
            journal.collect();
        };
        all(Kind::TopicUnknown, 3);
        all(Kind::TopicKnown, 0);
        all(Kind::TopicUnknown, 3);
        all(Kind::TopicUnknown, 5);
        let said: Vec<_> = journal.page(&Filter::default()).events.into_iter().map(|(_, event)| event).collect();
        let kinds: Vec<_> = said.iter().map(|event| event.kind).collect();
        assert_eq!(kinds, [Kind::TopicUnknown, Kind::TopicKnown, Kind::TopicUnknown, Kind::TopicUnknown]);
        assert!(said.iter().all(|event| event.shard.is_none()), "of no shard alone: {said:?}");
        for teller in &mut tellers {
            teller.tell(Kind::SpoolFull, 9, |event| event.with(Field::Reason, "x"));
        }
        journal.collect();
        assert_eq!(journal.page(&Filter::default()).events.len(), 6, "each shard has a spool of its own");
    }

    #[test]
    fn many_of_a_kind_are_left_out_and_counted_and_so_is_what_finds_the_queue_full() {
        let journal = Arc::new(Journal::default());
        let mut teller = Teller::new(Arc::clone(&journal), 0);
        let quota = usize::from(EVENTS_PER_KIND_PER_S);
        let mut refused = |second| teller.tell(Kind::ConnectRefused, second, |event| event);
        (0..quota + 5).for_each(|_| refused(1));
        teller.tell(Kind::TopicKnown, 1, |event| event);
        assert_eq!((teller.suppressed(), journal.queue.len()), (5, quota + 1), "each kind has its own part");
        let seconds = 2..=2 + (EVENTS_QUEUED_MAX / quota) as u64;
        seconds.for_each(|second| (0..quota).for_each(|_| teller.tell(Kind::ConnectRefused, second, |event| event)));
        assert_eq!(teller.suppressed(), 5);
        assert_eq!(journal.queue.len(), EVENTS_QUEUED_MAX);
        assert!(journal.dropped() > 0);
        journal.collect();
        let numbers: Vec<u64> = journal.read().iter().map(|number| number.value as u64).collect();
        assert_eq!(numbers, [EVENTS_QUEUED_MAX as u64, journal.dropped(), EVENTS_KEPT_MAX as u64]);
    }
}
