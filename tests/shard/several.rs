//! Several shards in one thread: subscriptions and messages across them, with mail that is late, mailboxes that are full, and
//! clients that come and go. Judged for each copy: it was asked for, it comes once and in order, and none is missing. And of retained
//! messages: at rest whoever is subscribed has the last one of each topic (J8).

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use forebay::broker::router::owner;
use forebay::config::Wide;
use forebay::metrics::spec::ShardMetric;
use forebay::mqtt::packet::{Packet, Publish, QoS, Sender, Subscribe, SubscriptionOptions, Unsubscribe, Version};
use forebay::mqtt::property::Properties;
use forebay::mqtt::{FilterBuf, decode, encode, frame};
use forebay::rules::{KEPT, Rules};
use forebay::runtime::seam::{Closed, ConnId, ListenerId, Shard as _};

use super::process::{ONE_OF_MANY, Of, Process};
use super::subscribe::bytes_of;
use super::world::ONE_SINK;

const SHARDS: usize = 3;
const CLIENTS: usize = 9;
/// Topics with a retained message, each with one publisher.
const STATES: usize = 6;
const FILTERS: [&str; 7] = ["a/b", "a/+", "#", "c", "+/b", "state/+", "state/3"];
const TOPICS: [&str; 4] = ["a/b", "a/c", "c", "d/b"];

fn matches(filter: &str, topic: &str) -> bool {
    forebay::route::filter::matches(filter, topic)
}

/// What a client has asked for, as far as it knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asked {
    /// SUBSCRIBE is on its way.
    Subscribing,
    /// SUBACK was read: a publish from now on must come.
    Has,
    /// UNSUBSCRIBE is on its way.
    Leaving,
}

struct Client {
    name: String,
    shard: usize,
    conn: ConnId,
    filters: BTreeMap<&'static str, (QoS, Asked)>,
    /// Of the answers that it waits for, in order: the filter.
    waits: VecDeque<(&'static str, bool)>,
    /// What has to come: publisher and topic to numbers, in order.
    due: BTreeMap<(usize, usize), VecDeque<u32>>,
    last: BTreeMap<(usize, usize), u32>,
    /// Of the topics that have a retained message: the last that has come.
    state: BTreeMap<usize, u32>,
}

struct World {
    process: Process,
    clients: Vec<Client>,
    /// Messages of each publisher and topic.
    sent: BTreeMap<(usize, usize), u32>,
    /// What is retained: of each state topic, which has one publisher, the last number; 0: it was ended.
    retained: [u32; STATES],
    random: fastrand::Rng,
    /// Mailboxes have room for two letters of a turn at most, and often for none.
    is_tight: bool,
}

impl World {
    fn new(rules: &'static dyn Rules, seed: u64, wide: Wide) -> Self {
        let text = ONE_SINK.replace("\"#\"", "\"to/kafka/#\"");
        let process = Process::start_as(rules, &text, SHARDS, wide);
        let mut random = fastrand::Rng::with_seed(seed);
        let is_tight = random.bool();
        let mut world =
            Self { is_tight, process, clients: Vec::new(), sent: BTreeMap::new(), retained: [0; STATES], random };
        for number in 0..CLIENTS {
            let name = format!("client-{number}");
            let client = Client {
                shard: owner(&name, SHARDS),
                name,
                conn: ConnId { slot: 0, generation: 0 },
                filters: BTreeMap::new(),
                waits: VecDeque::new(),
                due: BTreeMap::new(),
                last: BTreeMap::new(),
                state: BTreeMap::new(),
            };
            world.clients.push(client);
            world.connect(number);
        }
        world
    }

    fn connect(&mut self, at: usize) {
        let client = &mut self.clients[at];
        let Of { core, table, .. } = &mut self.process.shards[client.shard];
        client.conn = table.open(None);
        core.on_accept(table, client.conn, ListenerId(0));
        let mut connect = vec![0x10, 0, 0, 4, b'M', b'Q', b'T', b'T', 5, 2, 0, 0, 0];
        connect.extend_from_slice(&u16::try_from(client.name.len()).expect("short").to_be_bytes());
        connect.extend_from_slice(client.name.as_bytes());
        connect[1] = u8::try_from(connect.len() - 2).expect("short");
        core.on_bytes(table, client.conn, &connect);
        let connack = std::mem::take(&mut table.wire(client.conn).out);
        assert_eq!((connack[0], connack[3]), (0x20, 0), "CONNACK");
    }

    fn bytes(&mut self, at: usize, bytes: &[u8]) {
        let client = &self.clients[at];
        let Of { core, table, .. } = &mut self.process.shards[client.shard];
        core.on_bytes(table, client.conn, bytes);
    }

    fn subscribe(&mut self, at: usize, filter: &'static str, qos: QoS) {
        let client = &mut self.clients[at];
        if client.waits.iter().any(|(of, _)| *of == filter) || client.filters.contains_key(filter) {
            return;
        }
        // What ended while nothing asked for it is not said.
        let has = |topic: &str| {
            let mut has = client.filters.iter().filter(|(_, (_, asked))| *asked == Asked::Has);
            has.any(|(filter, _)| matches(filter, topic))
        };
        client.state.retain(|state, _| has(&format!("state/{state}")));
        client.filters.insert(filter, (qos, Asked::Subscribing));
        client.waits.push_back((filter, true));
        let mut filters = FilterBuf::for_subscribe();
        assert!(filters.push(filter, SubscriptionOptions { qos, ..SubscriptionOptions::default() }));
        let properties = Properties::EMPTY;
        let packet = Packet::Subscribe(Subscribe { packet_id: 1, properties, filters: filters.as_filters() });
        self.bytes(at, &bytes_of(Version::V5, &packet));
    }

    fn unsubscribe(&mut self, at: usize, filter: &'static str) {
        let client = &mut self.clients[at];
        let Some((_, asked @ Asked::Has)) = client.filters.get_mut(filter) else { return };
        *asked = Asked::Leaving;
        client.waits.push_back((filter, false));
        // What was published and has not come need not come any more, unless another filter wants it.
        let keeps: Vec<_> =
            client.filters.iter().filter(|(_, (_, asked))| *asked == Asked::Has).map(|(filter, _)| *filter).collect();
        client.due.retain(|(_, topic), _| keeps.iter().any(|filter| matches(filter, TOPICS[*topic])));
        let mut filters = FilterBuf::for_unsubscribe();
        assert!(filters.push(filter, SubscriptionOptions::default()));
        let properties = Properties::EMPTY;
        let packet = Packet::Unsubscribe(Unsubscribe { packet_id: 1, properties, filters: filters.as_filters() });
        self.bytes(at, &bytes_of(Version::V5, &packet));
    }

    fn publish(&mut self, at: usize, topic: usize) {
        let Of { core, table, .. } = &mut self.process.shards[self.clients[at].shard];
        let _ = core;
        if table.wire(self.clients[at].conn).paused {
            return;
        }
        let number = self.sent.entry((at, topic)).or_default();
        *number += 1;
        let number = *number;
        for client in &mut self.clients {
            let mut has = client.filters.iter().filter(|(_, (_, asked))| *asked == Asked::Has);
            if has.any(|(filter, _)| matches(filter, TOPICS[topic])) {
                client.due.entry((at, topic)).or_default().push_back(number);
            }
        }
        let payload = format!("{at} {topic} {number}");
        let publish = Publish {
            dup: false,
            qos: QoS::AtLeastOnce,
            retain: false,
            topic: TOPICS[topic],
            packet_id: u16::try_from(number % 65_535 + 1).expect("small"),
            properties: Properties::EMPTY,
            payload: payload.as_bytes(),
        };
        self.bytes(at, &bytes_of(Version::V5, &Packet::Publish(publish)));
    }

    /// The connection breaks; the session ends with it.
    fn vanish(&mut self, at: usize) {
        let client = &mut self.clients[at];
        let Of { core, table, .. } = &mut self.process.shards[client.shard];
        core.on_close(table, client.conn, Closed::Peer);
        table.release(client.conn);
        (client.filters, client.due, client.waits, client.state) = Default::default();
        self.connect(at);
    }

    /// The publisher of a state topic retains a number, or ends what is retained.
    fn retain(&mut self, state: usize) {
        let at = state % CLIENTS;
        let Of { table, .. } = &mut self.process.shards[self.clients[at].shard];
        if table.wire(self.clients[at].conn).paused {
            return;
        }
        let number = self.retained[state].max(self.sent.get(&(at, TOPICS.len() + state)).copied().unwrap_or(0)) + 1;
        self.sent.insert((at, TOPICS.len() + state), number);
        let is_end = self.random.u8(..6) == 0;
        self.retained[state] = if is_end { 0 } else { number };
        let payload = if is_end { String::new() } else { number.to_string() };
        let publish = Publish {
            dup: false,
            qos: QoS::AtLeastOnce,
            retain: true,
            topic: &format!("state/{state}"),
            packet_id: u16::try_from(number % 30_000 + 30_001).expect("small"),
            properties: Properties::EMPTY,
            payload: payload.as_bytes(),
        };
        self.bytes(at, &bytes_of(Version::V5, &Packet::Publish(publish)));
    }

    /// What a client has been sent.
    fn read(&mut self, at: usize) {
        let client = &mut self.clients[at];
        let Of { table, .. } = &mut self.process.shards[client.shard];
        let bytes = std::mem::take(&mut table.wire(client.conn).out);
        let (mut rest, mut acks) = (&bytes[..], Vec::new());
        while let Some(frame) = frame::next(rest, u32::MAX).expect("well formed") {
            rest = &rest[frame.len..];
            match decode::decode(Version::V5, Sender::Server, frame).expect("well formed") {
                Packet::Publish(publish) => {
                    client.got(&publish);
                    if publish.qos == QoS::AtLeastOnce {
                        encode::ack(
                            Version::V5,
                            forebay::mqtt::packet::PacketType::PubAck,
                            publish.packet_id,
                            forebay::mqtt::reason::ReasonCode::SUCCESS,
                            &mut acks,
                        );
                    }
                }
                Packet::SubAck(_) | Packet::UnsubAck(_) => match client.waits.pop_front().expect("it has asked") {
                    (filter, true) => client.filters.get_mut(filter).expect("asked for").1 = Asked::Has,
                    (filter, false) => drop(client.filters.remove(filter)),
                },
                Packet::PubAck(_) => {}
                other => panic!("{other:?}"),
            }
        }
        if !acks.is_empty() {
            self.bytes(at, &acks);
        }
    }

    fn turn(&mut self, shard: usize) {
        self.process.shards[shard].table.mailbox = if self.is_tight { self.random.usize(..3) } else { 16 };
        self.process.turn(shard, Duration::from_millis(1));
    }

    fn step(&mut self) {
        let (at, shard) = (self.random.usize(..CLIENTS), self.random.usize(..SHARDS));
        let filter = FILTERS[self.random.usize(..FILTERS.len())];
        match self.random.u8(..46) {
            40.. => {
                let state = self.random.usize(..STATES);
                self.retain(state);
            }
            0..4 => {
                let qos = [QoS::AtMostOnce, QoS::AtLeastOnce][self.random.usize(..2)];
                self.subscribe(at, filter, qos);
            }
            4..6 => self.unsubscribe(at, filter),
            6..16 => {
                let topic = self.random.usize(..TOPICS.len());
                self.publish(at, topic);
            }
            16 => self.vanish(at),
            17..24 => self.read(at),
            24..32 => self.turn(shard),
            _ => {
                self.process.read_mail(shard, 1);
            }
        }
    }

    fn settle(&mut self) {
        self.is_tight = false;
        let mut quiet = 0;
        while quiet < 60 {
            let waits = self.process.number(ShardMetric::DeliveryLineBytes) > 0;
            quiet = if waits { 0 } else { quiet + 1 };
            (0..SHARDS).for_each(|shard| self.turn(shard));
            for to in 0..SHARDS {
                for _ in 0..12 {
                    self.process.read_mail(to, 1);
                }
            }
            (0..CLIENTS).for_each(|at| self.read(at));
        }
    }
}

impl Client {
    fn got(&mut self, publish: &Publish<'_>) {
        if let Some(state) = publish.topic.strip_prefix("state/") {
            let state = state.parse().expect("a number");
            let number = std::str::from_utf8(publish.payload).expect("text").parse().unwrap_or(0);
            self.state.insert(state, number);
            return;
        }
        let text = std::str::from_utf8(publish.payload).expect("text");
        let mut parts = text.split(' ').map(|part| part.parse::<u32>().expect("a number"));
        let mut next = || parts.next().expect("three numbers");
        let (publisher, topic, number) = (next() as usize, next() as usize, next());
        assert_eq!(publish.topic, TOPICS[topic]);
        let key = (publisher, topic);
        assert!(
            self.filters.keys().any(|filter| matches(filter, publish.topic)),
            "{}: {text} was not asked for (J5)",
            self.name
        );
        let due = self.due.entry(key).or_default();
        // What was published before it was subscribed, or while it leaves, may come as well.
        if due.front().is_some_and(|next| *next <= number) {
            assert_eq!(due.pop_front(), Some(number), "{}: {text} is not what comes next (J1)", self.name);
        }
        let last = self.last.insert(key, number);
        assert!(last.is_none_or(|last| last < number), "{}: {text} after {last:?} (J3)", self.name);
    }
}

/// A run under these rules. How many publishers and topics clients have got something of, and how many states were judged.
pub(crate) fn run(rules: &'static dyn Rules, seed: u64) -> (usize, usize) {
    run_as(rules, seed, Wide::default())
}

fn run_as(rules: &'static dyn Rules, seed: u64, wide: Wide) -> (usize, usize) {
    let mut world = World::new(rules, seed, wide);
    for _ in 0..600 {
        world.step();
    }
    world.settle();
    let (mut delivered, mut states) = (0, 0);
    for client in &world.clients {
        let missing: Vec<_> = client.due.iter().filter(|(_, due)| !due.is_empty()).collect();
        assert!(missing.is_empty(), "seed {seed}: {} has not got {missing:?} (J1, J6)", client.name);
        delivered += client.last.len();
        // One that has ended is not said to who subscribed later, and may have got the message before it from a late parcel.
        for (state, number) in world.retained.iter().enumerate().filter(|(_, number)| **number > 0) {
            let topic = format!("state/{state}");
            if client.filters.iter().any(|(filter, (_, asked))| *asked == Asked::Has && matches(filter, &topic)) {
                let has = client.state.get(&state).copied().unwrap_or(0);
                assert_eq!(has, *number, "seed {seed}: {} has another state of {topic} (J8)", client.name);
                states += 1;
            }
        }
    }
    assert!(world.process.has_read_all(), "seed {seed}: mail is left");
    (delivered, states)
}

#[test]
fn every_copy_comes_once_in_order_and_none_is_missing() {
    let runs = super::seeds(0..150).map(|seed| run(&KEPT, seed));
    let (delivered, states) = runs.fold((0, 0), |sum, of| (sum.0 + of.0, sum.1 + of.1));
    assert!(delivered > 3_750 && states > 375, "{delivered} {states}: little was tried");
}

/// Messages with many recipients wait, and others pass them.
#[test]
fn the_same_with_messages_for_many() {
    let runs = super::seeds(0..80).map(|seed| run_as(&KEPT, seed, ONE_OF_MANY));
    let (delivered, states) = runs.fold((0, 0), |sum, of| (sum.0 + of.0, sum.1 + of.1));
    assert!(delivered > 2_000 && states > 200, "{delivered} {states}: little was tried");
}
