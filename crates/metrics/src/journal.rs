//! Events on their way out: from a shard through a bounded queue, from there to the log and into the rings of `/api/v1/events`,
//! one for each [`Class`].
//!
//! A shard pushes into a lock-free queue and never waits: when the queue is full the event is dropped and counted. At most
//! [`EVENTS_PER_KIND_PER_S`] of a kind leave a shard within a second, and at most as many are taken from all shards. Of one
//! subject, a client or an address or a sink, at most [`EVENTS_PER_SUBJECT_PER_MIN`] are reported within a minute, for kinds with
//! many subjects ([`Teller::tell_of`]).
//!
//! Clients that come and go are all reported ([`Teller::tell_connection`]), however many at once: they have a queue of their own,
//! where the oldest event makes room, and events that are not needed any more lend their memory to the next.
//!
//! The lock of the rings is taken by ordinary threads only.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher as _, Hash};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::Thread;

use crossbeam_queue::ArrayQueue;
use foldhash::quality::RandomState;

use super::collector::{Extra, Number};
use super::event::{Class, Event, Field, Kind, SeenBy, Severity, are_connections_logged};
use super::spec::{Kind as Shape, Spec};
use forebay_base::limits::{
    CONNECTION_EVENTS_QUEUED_MAX, EVENT_SUBJECTS_MAX, EVENTS_PER_KIND_PER_S, EVENTS_PER_SUBJECT_PER_MIN,
    EVENTS_QUEUED_MAX,
};

/// Brokers with a series, at most.
const BROKERS_SHOWN_MAX: usize = 256;

/// The metric of [`Journal::troubles`].
pub const BROKER_UNREACHABLE: Spec = Spec {
    name: "kafka_broker_unreachable",
    label: None,
    help: "1 for each broker that cannot be used, labels `kafka` and `broker`; others have no series. At most 256.",
    kind: Shape::Gauge,
};

/// The journal's own numbers.
pub const JOURNAL: [Spec; 5] = [
    Spec { name: "events", label: None, help: "Events kept for `/api/v1/events`.", kind: Shape::Counter },
    Spec {
        name: "events_dropped",
        label: None,
        help: "Events lost because their queue was full.",
        kind: Shape::Counter,
    },
    Spec {
        name: "events_left_out",
        label: None,
        help: "Events left out because all shards together told of too many of their kind within a second, or of one client, address or sink within a minute.",
        kind: Shape::Counter,
    },
    Spec { name: "events_stored", label: None, help: "Events that `/api/v1/events` can show.", kind: Shape::Gauge },
    Spec {
        name: "reload_failures",
        label: None,
        help: "Events `reload_failed`: the configuration, or a file that it names, has changed and cannot be used.",
        kind: Shape::Counter,
    },
];

/// The journal of events: queues of the shards, the log, and rings for the API.
#[derive(Debug)]
pub struct Journal {
    queue: ArrayQueue<Event>,
    connections: ArrayQueue<Event>,
    /// Events that are over, for their memory.
    over: ArrayQueue<Event>,
    dropped: AtomicU64,
    failed_reloads: AtomicU64,
    kept: Mutex<Kept>,
    /// The thread that calls [`Journal::collect`], and sleeps while there is nothing.
    collector: OnceLock<Thread>,
    /// The hasher of subjects; its seed is new in each process.
    hasher: RandomState,
}

#[derive(Debug, Default)]
struct Kept {
    /// The number of the last event; the first event has 1.
    last: u64,
    rings: [Ring; Class::COUNT],
    of_all: OfAll,
    /// The bounds by the shards' clock, and those by the other threads' clock.
    of_shards: Bounds,
    of_others: Bounds,
    left_out: u64,
}

/// The newest events of a class.
#[derive(Debug, Default)]
struct Ring {
    events: VecDeque<(u64, Event)>,
    /// The number of the last event that has made room.
    gone: u64,
}

impl Kept {
    /// Adds an event. Returns the one that had to make room for it.
    fn add(&mut self, event: Event) -> Option<Event> {
        self.last += 1;
        let class = event.kind.spec().class;
        let ring = &mut self.rings[class as usize];
        let over = (ring.events.len() >= class.kept_max()).then(|| ring.events.pop_front()).flatten();
        ring.events.push_back((self.last, event));
        over.map(|(number, event)| {
            ring.gone = number;
            event
        })
    }

    fn stored(&self) -> usize {
        self.rings.iter().map(|ring| ring.events.len()).sum()
    }
}

/// Counts of reported events: of each kind within a second, of each subject within a minute.
#[derive(Debug)]
struct Bounds {
    second: u64,
    said: [u8; Kind::COUNT],
    minute: u64,
    of: HashMap<u64, u8, RandomState>,
}

impl Default for Bounds {
    fn default() -> Self {
        Self { second: 0, said: [0; Kind::COUNT], minute: 0, of: HashMap::default() }
    }
}

impl Bounds {
    /// Whether one more event may be reported. The subject is checked first: one with frequent events does not use up the second of others.
    fn admit(&mut self, kind: Kind, subject: Option<u64>, second: u64) -> bool {
        // One shard's clock may be slightly later than another's.
        if second > self.second {
            (self.second, self.said) = (second, [0; Kind::COUNT]);
        }
        if second / 60 > self.minute {
            self.minute = second / 60;
            self.of.clear();
        }
        let is_known = |subject: u64| self.of.get(&subject).is_some_and(|said| *said >= EVENTS_PER_SUBJECT_PER_MIN);
        if subject.is_some_and(is_known) || self.said[kind as usize] >= EVENTS_PER_KIND_PER_S {
            return false;
        }
        self.said[kind as usize] += 1;
        if let Some(subject) = subject {
            if self.of.len() >= EVENT_SUBJECTS_MAX {
                self.of.clear();
            }
            *self.of.entry(subject).or_default() += 1;
        }
        true
    }
}

/// The last event of each thing that all shards see: a cluster, a topic.
#[derive(Debug, Default)]
struct OfAll {
    said: VecDeque<Event>,
}

impl OfAll {
    /// Whether an event reports something new.
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
            // A change may happen again; shards find the same one within moments of each other.
            let again = of_all == SeenBy::Change && event.at_ms.saturating_sub(before.at_ms) > CHANGE_MS;
            again || before.kind != event.kind || !before.says_the_same(event)
        });
        self.said.push_back(event.clone());
        new
    }
}

/// The most things that are remembered; a forgotten one is reported again.
const OF_ALL_MAX: usize = 4_096;
/// The longest time in which shards find the same change, in ms.
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

/// A query of the rings. `None`: any.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// Events with a greater number.
    pub since: u64,
    /// Events with a smaller number.
    pub before: Option<u64>,
    /// Only events from this time on, in milliseconds since 1970.
    pub from_ms: Option<u64>,
    /// Only events before this time.
    pub until_ms: Option<u64>,
    /// Only this kind.
    pub kind: Option<Kind>,
    /// Only this class; `None`: all but connections, unless a kind or a client is given.
    pub class: Option<Class>,
    /// Only this severity and higher ones.
    pub severity: Option<Severity>,
    /// Only events with this sink.
    pub sink: Option<String>,
    /// Only events with this source.
    pub source: Option<String>,
    /// Only events with this client.
    pub client: Option<String>,
    /// Only events with this auth; empty: without one.
    pub auth: Option<String>,
    /// The newest first, up to `limit`; otherwise the oldest.
    pub newest_first: bool,
    /// The most events to return.
    pub limit: Option<usize>,
}

impl Filter {
    fn has_class(&self, class: Class) -> bool {
        let is_rare = self.kind.is_none() && self.client.is_none() && class == Class::Connection;
        self.class.map_or(!is_rare, |wanted| wanted == class) && self.kind.is_none_or(|kind| kind.spec().class == class)
    }

    fn fits(&self, number: u64, event: &Event) -> bool {
        let has = |field, wanted: &Option<String>| wanted.as_deref().is_none_or(|text| event.text(field) == Some(text));
        let auth = self.auth.as_deref();
        number > self.since
            && self.before.is_none_or(|before| number < before)
            && self.from_ms.is_none_or(|from| event.at_ms >= from)
            && self.until_ms.is_none_or(|until| event.at_ms < until)
            && self.kind.is_none_or(|kind| kind == event.kind)
            && self.severity.is_none_or(|least| event.kind.spec().severity >= least)
            && has(Field::Sink, &self.sink)
            && has(Field::Source, &self.source)
            && has(Field::Client, &self.client)
            && auth.is_none_or(|auth| event.text(Field::Auth).unwrap_or_default() == auth)
    }
}

/// An excerpt of the rings.
#[derive(Clone, Debug)]
pub struct Page {
    /// Events with their numbers, in the order that was asked for.
    pub events: Vec<(u64, Event)>,
    /// The `since` of the next query.
    pub last: u64,
    /// The first number from which on no event of the wanted classes is missing.
    pub oldest: u64,
    /// Whether `limit` has cut matching events off.
    pub is_cut: bool,
}

impl Default for Journal {
    fn default() -> Self {
        let queue = || ArrayQueue::new(CONNECTION_EVENTS_QUEUED_MAX);
        Self {
            queue: ArrayQueue::new(EVENTS_QUEUED_MAX),
            connections: queue(),
            over: queue(),
            dropped: AtomicU64::new(0),
            failed_reloads: AtomicU64::new(0),
            kept: Mutex::default(),
            collector: OnceLock::new(),
            hasher: RandomState::default(),
        }
    }
}

impl Journal {
    /// Queues an event of a shard, or drops and counts it. Wakes the collector, which is a system call if it sleeps.
    fn push(&self, event: Event) {
        if self.queue.push(event).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
        self.wake();
    }

    /// Queues a connection event of a shard; the oldest of these makes room. The collector looks once a second, and is woken
    /// where that would be too late, or if connections are logged.
    fn push_connection(&self, event: Event) {
        if let Some(oldest) = self.connections.force_push(event) {
            self.dropped.fetch_add(1, Ordering::Relaxed);
            self.is_over(oldest);
        }
        if self.connections.len() >= CONNECTION_EVENTS_QUEUED_MAX / 2 || are_connections_logged() {
            self.wake();
        }
    }

    fn wake(&self) {
        if let Some(collector) = self.collector.get() {
            collector.unpark();
        }
    }

    /// Offers an event's memory to the next connection event.
    fn is_over(&self, event: Event) {
        let _ = self.over.push(event);
    }

    /// An event of the present moment, without fields.
    fn blank(&self, kind: Kind) -> Event {
        self.over.pop().map_or_else(|| Event::now(kind), |over| over.again(kind))
    }

    /// A hash of an event's subject.
    fn subject(&self, kind: Kind, of: impl Hash) -> u64 {
        self.hasher.hash_one((kind as usize, of))
    }

    /// Sets the thread that collects, and parks while there is nothing. The first call counts.
    pub fn collected_by(&self, thread: Thread) {
        // Earlier events were queued without a thread to wake.
        self.collector.get_or_init(|| thread).unpark();
    }

    /// Reports an event of an ordinary thread at once.
    pub fn say(&self, event: Event) {
        event.log();
        if event.kind == Kind::ReloadFailed {
            self.failed_reloads.fetch_add(1, Ordering::Relaxed);
        }
        let over = self.kept().add(event);
        if let Some(over) = over.filter(|over| over.kind.spec().class == Class::Connection) {
            self.is_over(over);
        }
    }

    /// Reports an event that outsiders can cause, within the bounds that shards have.
    pub fn say_of(&self, event: Event, of: impl Hash) {
        let (subject, second) = (self.subject(event.kind, of), event.at_ms / 1_000);
        self.say_bounded(event.about(Some(subject), second), |kept| &mut kept.of_others);
    }

    /// Reports an event if these bounds admit it.
    fn say_bounded(&self, event: Event, bounds: impl FnOnce(&mut Kept) -> &mut Bounds) {
        let is_admitted = {
            let mut kept = self.kept();
            let is_admitted = bounds(&mut kept).admit(event.kind, event.subject, event.second);
            kept.left_out += u64::from(!is_admitted);
            is_admitted
        };
        if is_admitted {
            self.say(event);
        }
    }

    /// Takes the queued events of the shards. An event that is the same for all shards is reported once, by the first of them
    /// that finds it.
    pub fn collect(&self) {
        // Later events are for the next call.
        for _ in 0..CONNECTION_EVENTS_QUEUED_MAX {
            let Some(event) = self.connections.pop() else { break };
            self.say(event);
        }
        while let Some(event) = self.queue.pop() {
            match event.kind.seen_by_all() {
                None => self.say_bounded(event, |kept| &mut kept.of_shards),
                Some(of_all) => {
                    if self.kept().of_all.is_new(of_all, &event) {
                        self.say_bounded(event.of_all_shards(), |kept| &mut kept.of_shards);
                    }
                }
            }
        }
    }

    /// Brokers that cannot be used, by the last report about each: the oldest report first.
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
        self.kept().of_all.said.iter().filter_map(trouble).collect()
    }

    /// An excerpt of the stored events.
    #[must_use]
    pub fn page(&self, filter: &Filter) -> Page {
        let kept = self.kept();
        let classes = Class::ALL.into_iter().filter(|class| filter.has_class(*class));
        let rings: Vec<&Ring> = classes.map(|class| &kept.rings[class as usize]).collect();
        // One more event than wanted tells whether there are more.
        let wanted = filter.limit.map_or(usize::MAX, |limit| limit + 1);
        let fits = |(number, event): &&(u64, Event)| filter.fits(*number, event);
        let mut found: Vec<&(u64, Event)> = Vec::new();
        for ring in &rings {
            if filter.newest_first {
                found.extend(ring.events.iter().rev().filter(fits).take(wanted));
            } else {
                found.extend(ring.events.iter().filter(fits).take(wanted));
            }
        }
        found.sort_unstable_by_key(|(number, _)| *number);
        if filter.newest_first {
            found.reverse();
        }
        let limit = filter.limit.unwrap_or(usize::MAX);
        let is_cut = found.len() > limit;
        found.truncate(limit);
        let events: Vec<_> = found.into_iter().cloned().collect();
        let follows = is_cut && !filter.newest_first;
        let last = events.last().filter(|_| follows).map_or(kept.last, |(number, _)| *number);
        let oldest = rings.iter().map(|ring| ring.gone).max().unwrap_or_default() + 1;
        Page { events, last, oldest, is_cut }
    }

    /// Events lost because the queue was full.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// Locks the rings. No code that could panic runs under the lock, so a poisoned one is as good as another.
    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Extra for Journal {
    fn read(&self) -> Vec<Number> {
        let (said, left_out, stored) = {
            let kept = self.kept();
            (kept.last, kept.left_out, kept.stored() as u64)
        };
        let failed = self.failed_reloads.load(Ordering::Relaxed);
        let values = [said, self.dropped(), left_out, stored, failed];
        let counts = JOURNAL.iter().zip(values).map(|(spec, value)| Number::of(spec, value));
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
    bounds: Bounds,
    suppressed: u64,
}

impl Teller {
    /// The teller of this shard.
    #[must_use]
    pub fn new(journal: Arc<Journal>, shard: usize) -> Self {
        Self { journal, shard, bounds: Bounds::default(), suppressed: 0 }
    }

    /// Reports an event, unless too many of its kind have been reported in this second (of any monotonic clock): then `more`,
    /// which adds the fields, is not even called.
    pub fn tell(&mut self, kind: Kind, second: u64, more: impl FnOnce(Event) -> Event) {
        self.tell_bounded(kind, second, None, more);
    }

    /// Like [`Teller::tell`], for an event of one subject among many, a client or an address or a sink: so that it does not hide
    /// the others.
    pub fn tell_of(&mut self, kind: Kind, second: u64, of: impl Hash, more: impl FnOnce(Event) -> Event) {
        let subject = self.journal.subject(kind, of);
        self.tell_bounded(kind, second, Some(subject), more);
    }

    fn tell_bounded(&mut self, kind: Kind, second: u64, subject: Option<u64>, more: impl FnOnce(Event) -> Event) {
        if !self.bounds.admit(kind, subject, second) {
            self.suppressed += 1;
            return;
        }
        self.journal.push(more(Event::now(kind).on(self.shard).about(subject, second)));
    }

    /// Reports that a client has come or gone.
    pub fn tell_connection(&self, kind: Kind, more: impl FnOnce(Event) -> Event) {
        self.journal.push_connection(more(self.journal.blank(kind).on(self.shard)));
    }

    /// The number of events that were left out.
    #[must_use]
    pub const fn suppressed(&self) -> u64 {
        self.suppressed
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use forebay_base::limits::EVENTS_KEPT_MAX;

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
        assert_eq!((page.events.len(), page.oldest, page.last), (EVENTS_KEPT_MAX + 2, 2, EVENTS_KEPT_MAX as u64 + 3));
    }

    #[test]
    fn finding_f9_the_newest_come_first_and_a_page_says_what_is_behind_it() {
        let journal = Journal::default();
        let at = |kind, at_ms| {
            let mut event = Event::now(kind);
            event.at_ms = at_ms;
            journal.say(event);
        };
        at(Kind::Started, 1_000);
        at(Kind::SpoolFailed, 2_000);
        at(Kind::AdminAction, 3_000);
        journal.say(Event::now(Kind::AccessExpired).with(Field::Client, "c").with(Field::Auth, "a"));
        journal.say(Event::now(Kind::AccessExpired).with(Field::Client, "c"));
        let ids = |filter: Filter| journal.page(&filter).events.iter().map(|(id, _)| *id).collect::<Vec<_>>();
        let newest = |limit| Filter { newest_first: true, limit: Some(limit), ..Filter::default() };
        let page = journal.page(&newest(2));
        assert_eq!((page.events[0].0, page.events[1].0, page.is_cut, page.last), (5, 4, true, 5));
        assert_eq!(ids(Filter { before: Some(4), ..newest(2) }), [3, 2]);
        assert!(!journal.page(&Filter { before: Some(4), ..newest(3) }).is_cut);
        assert_eq!(ids(Filter { severity: Some(Severity::Error), ..Filter::default() }), [2]);
        assert_eq!(ids(Filter { class: Some(Class::Administration), ..Filter::default() }), [3]);
        assert_eq!(ids(Filter { client: Some("c".into()), ..Filter::default() }), [4, 5]);
        let of = |auth: &str| Filter { client: Some("c".into()), auth: Some(auth.into()), ..Filter::default() };
        assert_eq!((ids(of("a")), ids(of("")), ids(of("b"))), (vec![4], vec![5], vec![]));
        assert_eq!(ids(Filter { from_ms: Some(2_000), until_ms: Some(3_000), ..Filter::default() }), [2]);
    }

    /// Frequent events of one device take the place neither of an administrator's events nor of other devices'.
    #[test]
    fn finding_f9_one_that_is_misconfigured_hides_nothing() {
        let journal = Arc::new(Journal::default());
        let mut tellers: Vec<_> = (0..4).map(|shard| Teller::new(Arc::clone(&journal), shard)).collect();
        journal.say(Event::now(Kind::AdminAction));
        let mut denied = |client: usize, second| {
            tellers[client % 4]
                .tell_of(Kind::AclDenied, second, client, |event| event.with(Field::Client, client.to_string()));
        };
        denied(99, 0);
        for second in 0..60 {
            for _ in 0..1_000 {
                (0..6).for_each(|client| denied(client, second));
            }
            // This device comes after six faster ones.
            if second == 30 {
                denied(98, second);
            }
            journal.collect();
        }
        let page = |filter| journal.page(&filter).events;
        let of = |client: &str| page(Filter { client: Some(client.into()), ..Filter::default() }).len();
        assert_eq!(page(Filter { class: Some(Class::Administration), ..Filter::default() }).len(), 1);
        assert_eq!((of("99"), of("98")), (1, 1));
        let told: Vec<_> = (0..6).map(|client| of(&client.to_string())).collect();
        assert!(told.iter().all(|told| (1..=usize::from(EVENTS_PER_SUBJECT_PER_MIN)).contains(told)), "{told:?}");
    }

    #[test]
    fn finding_f9_all_shards_together_have_one_bound() {
        let journal = Arc::new(Journal::default());
        for shard in 0..8 {
            let mut teller = Teller::new(Arc::clone(&journal), shard);
            (0..10).for_each(|client| {
                teller.tell_of(Kind::AclDenied, 1, (shard, client), |event| event);
            });
        }
        journal.collect();
        let (kept, quota) = (journal.page(&Filter::default()).events.len(), usize::from(EVENTS_PER_KIND_PER_S));
        assert_eq!(kept, quota);
        assert_eq!(journal.read()[2].value as usize, 80 - quota, "the others are counted");
    }

    /// 50,000 clients come back at once: the newest of them are there, and no other event is gone.
    #[test]
    fn finding_r5_clients_that_come_and_go_take_no_room_of_others() {
        let journal = Arc::new(Journal::default());
        let teller = Teller::new(Arc::clone(&journal), 0);
        journal.say(Event::now(Kind::Started));
        let mut come = |client: usize| {
            teller.tell_connection(Kind::ClientConnected, |event| event.shown(Field::Client, Some(client)));
        };
        (0..50_000).for_each(&mut come);
        assert_eq!(journal.connections.len(), CONNECTION_EVENTS_QUEUED_MAX, "nobody collects");
        assert_eq!(journal.dropped(), (50_000 - CONNECTION_EVENTS_QUEUED_MAX) as u64);
        for client in 50_000..100_000 {
            come(client);
            if client % 1_000 == 999 {
                journal.collect();
            }
        }
        let of = |filter| journal.page(&filter).events;
        assert_eq!(of(Filter::default()).len(), 1, "they are shown where they are asked for");
        let connections = of(Filter { class: Some(Class::Connection), ..Filter::default() });
        assert_eq!(connections.len(), Class::Connection.kept_max());
        assert_eq!(connections.last().and_then(|(_, event)| event.text(Field::Client)), Some("99999"));
        assert_eq!(of(Filter { client: Some("99999".into()), ..Filter::default() }).len(), 1);
        assert!(!journal.over.is_empty(), "those that are over lend their memory");
        assert_eq!(journal.blank(Kind::ClientConnected).text(Field::Client), None);
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
        let mut failed = |second| teller.tell(Kind::SpoolFailed, second, |event| event);
        (0..quota + 5).for_each(|_| failed(1));
        teller.tell(Kind::TopicKnown, 1, |event| event);
        assert_eq!((teller.suppressed(), journal.queue.len()), (5, quota + 1), "each kind has its own part");
        let seconds = 2..=2 + (EVENTS_QUEUED_MAX / quota) as u64;
        seconds.for_each(|second| (0..quota).for_each(|_| teller.tell(Kind::SpoolFailed, second, |event| event)));
        assert_eq!(teller.suppressed(), 5);
        assert_eq!(journal.queue.len(), EVENTS_QUEUED_MAX);
        assert!(journal.dropped() > 0);
        journal.collect();
        let numbers: Vec<u64> = journal.read().iter().map(|number| number.value as u64).collect();
        let [said, dropped, left_out, stored, failed] = numbers[..] else { panic!("{numbers:?}") };
        assert_eq!((said + left_out, dropped, stored, failed), (EVENTS_QUEUED_MAX as u64, journal.dropped(), said, 0));
        // Finding F14: the number that an alert watches.
        [Kind::ReloadFailed, Kind::Reloaded].into_iter().for_each(|kind| journal.say(Event::now(kind)));
        assert_eq!(journal.read()[4].value as u64, 1);
    }
}
