//! The world of a run: producer, network, cluster and clock, stepped by the seed. A step takes some rows, advances one part of the world,
//! and may bring a fault; then the producer has its turn, and the judge checks it.

use std::cell::Cell;
use std::time::Duration;

use super::clients::Clients;
use super::clock::Clock;
use super::judge::{Failure, Judge, What};
use super::kafka::Cluster;
use super::network::{Back, Network, Place, WAYS, way};
use super::plan::{DEAD, Fault, NODES, Plan, SINKS, Scope, TOPICS, routes};
use super::row::{self, Kind};
use super::store::{Store, Told};
use super::trace::Trace;
use crate::kafka::producer::row_log::Origin;
use crate::kafka::producer::{Partitioner, Producer, Promise, Row, Target, Terms, Want, row_bytes_max};
use crate::kafka::types::{LogSays, ProduceRequest, Question, SinkId, Ticket, TopicMetadata};
use crate::record::murmur2::murmur2;
use crate::runtime::seam::{Monotonic, WallMs};
use crate::shard::dead_letters::DeadLetterQueue;

/// Rounds within which everything must come to rest once faults have ended.
const ROUNDS_MAX: u32 = 20_000;

/// The world of a run.
pub(super) struct World {
    pub(super) scope: Scope,
    pub(super) rng: fastrand::Rng,
    pub(super) plan: Plan,
    pub(super) clock: Clock,
    pub(super) producer: Producer,
    pub(super) letters: DeadLetterQueue,
    pub(super) kafka: Cluster,
    pub(super) network: Network,
    pub(super) judge: Judge,
    pub(super) trace: Trace,
    /// Whether faults happen.
    pub(super) rough: bool,
    /// Whether Kafka answers nothing.
    pub(super) frozen: bool,
    /// Metadata on its way, as of the request.
    pub(super) topics_asked: Vec<TopicMetadata>,
    pub(super) ids_asked: Vec<u64>,
    pub(super) questions: Vec<Question>,
    ids_given: i64,
    /// Memory reserved for rows that are about to be taken.
    pub(super) promise: Cell<Promise>,
    pub(super) requests: Vec<ProduceRequest>,
    /// The log and its disk, in runs with a disk. Its draws leave the other runs unchanged.
    pub(super) store: Option<Store>,
    pub(super) told: Told,
    /// The clients that rows come from, in some of the runs with a disk.
    pub(super) clients: Option<Clients>,
    pub(super) disk_rng: fastrand::Rng,
}

impl World {
    pub(super) fn new(scope: Scope, traced: bool) -> Self {
        let mut rng = fastrand::Rng::with_seed(scope.seed);
        let mut plan = Plan::new(&scope, &mut rng);
        plan.settings.rules = scope.rules;
        let producer = Producer::new(plan.settings.clone());
        let letters = DeadLetterQueue::new(0, vec![routes(&plan.settings.sinks)], Vec::new());
        let judge = Judge::new(producer.buffer_bytes_max(), &plan.settings.sinks);
        let mut disk_rng = fastrand::Rng::with_seed(scope.seed ^ 0xd15c);
        let clients = plan.store.as_ref().filter(|store| store.clients).map(|_| Clients::new(&mut disk_rng));
        Self {
            clients,
            store: plan.store.as_ref().map(|store| Store::new(store, &plan.settings)),
            told: super::crash::told(&plan),
            disk_rng,
            kafka: Cluster::new(&TOPICS, &plan.leaders, plan.by_id),
            network: Network::new(),
            clock: Clock::new(),
            trace: Trace::new(traced),
            rough: true,
            frozen: false,
            topics_asked: Vec::new(),
            ids_asked: Vec::new(),
            questions: Vec::new(),
            // Some runs begin near the last epoch: the producer soon has to get a new id.
            ids_given: rng.i64(0..1000),
            promise: Cell::default(),
            requests: Vec::new(),
            producer,
            letters,
            judge,
            plan,
            rng,
            scope,
        }
    }

    pub(super) fn note(&mut self, line: impl FnOnce() -> String) {
        self.trace.note(self.clock.now(), line);
    }

    /// Runs to the end, and returns the totals.
    ///
    /// # Errors
    /// The first failure.
    pub(super) fn run(&mut self) -> Result<(), Failure> {
        self.told.notes = self.trace.on.then(Vec::new);
        let plan = &self.plan;
        self.trace.note(self.clock.now(), || format!("by id: {}; {:?}", plan.by_id, plan.settings.sinks));
        for step in 0..self.scope.steps {
            self.trace.step = step;
            for _ in 0..self.rng.u32(..=self.plan.rows_max) {
                match self.clients {
                    None => self.append(),
                    Some(_) => self.clients_go_on(true),
                }
            }
            self.go_on();
            self.answers();
            self.faults();
            self.turn();
            self.judge.verdict()?;
        }
        self.rough = false;
        self.note(|| "faults end".into());
        self.faults_end();
        for round in 0..ROUNDS_MAX {
            self.trace.step = self.scope.steps + round;
            if self.producer.buffered_rows() == 0 && self.clients_rest() && self.log_rests() {
                break;
            }
            self.settle();
            self.judge.verdict()?;
        }
        // Segments get the time to be freed.
        (0..20).for_each(|_| self.settle());
        if !self.log_rests() || !self.clients_rest() {
            let text = format!("{} rows of the log live; clients at rest: {}", self.told.live(), self.clients_rest());
            let open = self.clients.as_ref().map(Clients::open).unwrap_or_default();
            let spool = self.store.as_ref().map(Store::standing).unwrap_or_default();
            let standing = format!("{open}; {spool}; {}", self.producer.standing());
            self.note(|| standing);
            self.judge.fails(What::Progress, text);
        }
        if let Some(text) = self.store.as_ref().and_then(|store| store.wrong(true)) {
            self.judge.fails(What::Log, text);
        }
        let messages = self.clients.as_ref().map_or(&[][..], |clients| &clients.messages);
        self.judge.at_the_end(&self.producer, &self.kafka, &self.plan, (&self.told, messages))
    }

    /// Takes a row, if there is room.
    fn append(&mut self) {
        let number = self.judge.rows.len() as u32;
        let (sink, topic) = ((number / row::KEYS) as usize % SINKS, (number / 3) as usize % DEAD);
        let kind = self.kind(number);
        let (key, value) = (row::key(number), row::value(number, kind));
        let headers = self.rng.usize(..3);
        let bytes = row_bytes_max(2, value.len(), 4, 2);
        if !self.admits((sink, topic), key.as_ref().map(|key| &key[..]), bytes) {
            self.judge.sums.no_room += 1;
            return;
        }
        let ticket = Ticket { session: row::session(number), number };
        self.take_row((sink, topic), (kind, headers), ticket, None);
    }

    fn admits(&self, (sink, topic): (usize, usize), key: Option<&[u8]>, bytes: usize) -> bool {
        let id = SinkId(sink as u16);
        let Ok(topic_id) = self.producer.check(id, TOPICS[topic], bytes) else { return false };
        let has_partition =
            !matches!(self.plan.settings.sinks[sink].partitioner, Partitioner::Sticky | Partitioner::Random);
        let hash = key.filter(|_| has_partition).map(|key| murmur2(key).cast_unsigned());
        self.has_memory(bytes)
            && self.producer.share(id, topic_id, bytes).is_ok()
            && self.producer.share_of_partition(topic_id, hash, bytes).is_ok()
            && self.store.as_ref().is_none_or(|store| store.admit(id, bytes))
    }

    /// Whether there is memory for rows. If so, it is reserved for the following ones.
    fn has_memory(&self, bytes: usize) -> bool {
        let promise = self.producer.promise(bytes);
        self.promise.set(promise.unwrap_or_default());
        promise.is_some()
    }

    /// Whether all sinks of a client's message have room for it, however large its row.
    pub(super) fn has_room(&self, sinks: &[usize], topic: usize) -> bool {
        const LARGEST: usize = 2_500;
        sinks.iter().all(|sink| self.admits((*sink, topic), None, LARGEST))
            && self.has_memory(LARGEST * sinks.len())
            && self.store.as_ref().is_none_or(|store| store.has_room(LARGEST * sinks.len()))
    }

    /// Takes a row of a client's message.
    pub(super) fn take(&mut self, sink: usize, topic: usize, ticket: Ticket, origin: Option<Origin>) -> u32 {
        let number = self.judge.rows.len() as u32;
        let kind = self.kind(number);
        let headers = self.rng.usize(..3);
        self.take_row((sink, topic), (kind, headers), ticket, origin);
        self.judge.adopt();
        number
    }

    fn take_row(&mut self, at: (usize, usize), (kind, headers): (Kind, usize), ticket: Ticket, origin: Option<Origin>) {
        let (number, (sink, topic)) = (self.judge.rows.len() as u32, at);
        let (key, value) = (row::key(number), row::value(number, kind));
        let timestamp = kind.timestamp(self.clock.wall().0);
        let row = Row {
            key: key.as_ref().map(|key| &key[..]),
            value: Some(&value),
            headers: [(&b"n"[..], &b"1"[..]), (b"n", b"2")].into_iter().take(headers),
            timestamp: WallMs(timestamp),
        };
        let (id, bytes, now) = (SinkId(sink as u16), row_bytes_max(2, value.len(), 4, 2), self.clock.now());
        let expires = match self.rng.u32(..30) {
            0 => now.after(Duration::from_millis(self.rng.u64(..30))),
            _ => Monotonic::NEVER,
        };
        // The key is the client's name where the partitioner uses it, as in the shard.
        let by_client = self.plan.settings.sinks[sink].partitioner == Partitioner::Hash;
        let hash = by_client.then(|| murmur2(&row::session(number).to_be_bytes()).cast_unsigned());
        let terms = Terms { expires, hash, origin };
        let age = self.plan.settings.sinks[sink].expire_after;
        let expires = age.map_or(expires, |age| expires.min(now.after(age)));
        let hash = match self.plan.settings.sinks[sink].partitioner {
            Partitioner::Key => row.key.map(|key| murmur2(key).cast_unsigned()),
            _ => hash,
        };
        let target = Target { sink: id, topic: TOPICS[topic], known: None, hash };
        let mut promise = self.promise.take();
        self.producer.take(&target, row, Some(ticket), terms, (&mut promise, now));
        self.promise.set(promise);
        self.store.iter_mut().for_each(|store| store.promise(id, bytes));
        self.judge.rows.push(row::Row {
            sink,
            topic,
            kind,
            timestamp,
            expires,
            outcome: None,
            orphan: false,
            adrift: false,
        });
    }

    fn kind(&mut self, number: u32) -> Kind {
        if self.plan.old && number % 40 < 20 {
            return if number % 80 < 40 { Kind::Old } else { Kind::Timeless };
        }
        match self.rng.u32(..self.plan.special) {
            0 => Kind::Poison,
            1 => Kind::Ahead,
            2 | 3 => Kind::Large,
            _ => Kind::Plain,
        }
    }

    /// Advances one part of the world.
    pub(super) fn go_on(&mut self) {
        let way = way(self.rng.usize(..NODES), self.rng.u32(..4) == 0);
        if self.rng.u32(..100) < self.plan.eager {
            if self.rng.bool() {
                self.handle(way)
            } else {
                self.receive(way)
            }
            return;
        }
        match self.rng.u32(..100) {
            0..20 => self.handle(way),
            20..40 => self.receive(way),
            40..70 => self.clock.pass(Duration::from_micros(self.rng.u64(..4_000))),
            70..80 => self.learn(),
            80..88 => self.carry_out_late(),
            88..97 => self.clock.pass_until(self.producer.next_deadline()),
            _ => self.clock.pass(Duration::from_millis(self.rng.u64(..300))),
        }
    }

    /// Advances all of the world, without faults, until nothing is pending.
    fn settle(&mut self) {
        if self.rng.u32(..4) == 0 {
            self.carry_out_late();
        }
        self.learn();
        (0..WAYS).for_each(|way| self.handle(way));
        (0..WAYS).for_each(|way| self.receive(way));
        self.answers();
        (0..20).for_each(|_| self.clients_go_on(false));
        if let Some(at) = self.store.as_ref().and_then(Store::next_deadline) {
            self.clock.pass_until(at);
        } else if self.network.is_quiet() {
            self.clock.pass_until(self.producer.next_deadline());
        } else if let Some(at) = self.network.next_deadline() {
            self.clock.pass_until(at);
        }
        self.clock.pass(Duration::from_micros(100));
        // A failed disk is tried again after a while, which only the clock knows.
        if self.store.as_ref().is_some_and(|store| store.next_deadline().is_none() && !store.is_idle()) {
            self.clock.pass(Duration::from_millis(10));
        }
        self.turn();
    }

    fn place(&mut self) -> (&mut Network, Place<'_>) {
        let (now, wall_ms, rough) = (self.clock.now(), self.clock.wall().0, self.rough);
        let (kafka, plan, rng) = (&mut self.kafka, &self.plan, &mut self.rng);
        (&mut self.network, Place { kafka, plan, rng, now, wall_ms, rough })
    }

    fn handle(&mut self, way: usize) {
        if self.frozen {
            return;
        }
        let (network, mut place) = self.place();
        network.handle(way, &mut place);
    }

    fn carry_out_late(&mut self) {
        if self.frozen {
            return;
        }
        let (network, mut place) = self.place();
        if let Some(id) = network.carry_out_late(&mut place) {
            self.note(|| format!("request {id} of an old connection is carried out"));
        }
    }

    fn receive(&mut self, way: usize) {
        if let Some(back) = self.network.receive(way) {
            self.back(back);
        }
    }

    pub(super) fn cut(&mut self, way: usize) {
        for back in self.network.cut(way, &mut self.rng) {
            self.back(back);
        }
    }

    fn back(&mut self, back: Back) {
        self.note(|| match &back {
            Back::Produced(id, results, throttle_ms) => {
                let parts = results.iter().map(|part| format!("{}-{}:{}", part.topic, part.partition, part.error));
                format!("request {id} answered: {} throttle {throttle_ms} ms", parts.collect::<Vec<_>>().join(" "))
            }
            Back::Failed(id, sent) => format!("request {id} failed, sent: {sent}"),
        });
        let now = self.clock.now();
        match back {
            Back::Produced(id, results, throttle_ms) => {
                self.judge.answered(id, &results);
                self.producer.on_produced(id, &results, throttle_ms, now);
            }
            Back::Failed(id, sent) => self.producer.on_failed(id, sent, now),
        }
    }

    /// Delivers the metadata and ids that were asked for.
    fn learn(&mut self) {
        if self.frozen {
            return;
        }
        let now = self.clock.now();
        if !self.topics_asked.is_empty() {
            let mut topics = std::mem::take(&mut self.topics_asked);
            let stale = self.rough && self.plan.draws(Fault::Stale, &mut self.rng);
            if !stale {
                for metadata in &mut topics {
                    *metadata = self.kafka.metadata(self.kafka.find(&metadata.name));
                }
            } else if self.rng.bool() {
                topics.iter_mut().for_each(|metadata| (metadata.error, metadata.leaders) = (5, Vec::new()));
            }
            self.note(|| format!("metadata: {topics:?}"));
            self.producer.on_metadata(&topics, now);
        }
        for token in std::mem::take(&mut self.ids_asked) {
            self.ids_given += 1;
            let epoch = if self.ids_given % 4 == 0 { i16::MAX - 2 } else { 0 };
            self.judge.id_given(self.ids_given, token);
            self.producer.on_producer_id(token, self.ids_given, epoch);
        }
        for question in std::mem::take(&mut self.questions) {
            let unasked = self.rough && self.plan.draws(Fault::Unasked, &mut self.rng);
            let says = if unasked { LogSays::Again } else { self.kafka.says(&question) };
            self.note(|| format!("{question:?}: {says:?}"));
            self.judge.said(&question, says, self.kafka.appended());
            self.producer.on_asked(question.token, says, now);
        }
    }

    /// Runs the producer's turn.
    pub(super) fn turn(&mut self) {
        let now = self.clock.now();
        self.poll();
        let mut requests = std::mem::take(&mut self.requests);
        for request in requests.drain(..) {
            self.trace.note(now, || super::judge::described(&request));
            super::digest::request(&request, now);
            self.judge.sent(&request, &self.told);
            self.network.send(request);
        }
        self.requests = requests;
        let (topics, ids, questions) = (&mut self.topics_asked, &mut self.ids_asked, &mut self.questions);
        let (kafka, judge) = (&self.kafka, &mut self.judge);
        self.producer.drain_wants(|want| match want {
            Want::Metadata(name) => topics.push(kafka.metadata(kafka.find(&name))),
            Want::Forget(_) => {}
            Want::Refresh => topics.extend((0..TOPICS.len()).map(|index| kafka.metadata(index))),
            Want::ProducerId(token) => ids.push(token),
            Want::Ask(question) => {
                judge.asked(&question);
                questions.push(question);
            }
        });
        self.look();
        self.answer_clients();
        if let Some(text) = self.clients.as_mut().and_then(Clients::wrong) {
            self.judge.fails(What::Session, text);
        }
        if let Some(text) = self.wrong_with_log() {
            self.judge.fails(What::Log, text);
        }
    }

    /// Has the judge check the producer.
    pub(super) fn look(&mut self) {
        let now = self.clock.now();
        self.judge.turn(
            (&mut self.producer, &mut self.letters),
            self.clients.as_mut(),
            &mut self.trace,
            now,
            &self.told,
        );
    }
}
