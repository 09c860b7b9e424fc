//! Shared subscriptions over several shards (J9): members that come, go, are slow and are cut off, with mail that is late and
//! mailboxes that are full. A message of QoS 2 goes to one member of each share, one of QoS 1 is acknowledged by at least one, and
//! at rest none waits while a member has room; where the strategy goes by a hash, while its own member has. While members stay the same,
//! those give all messages of a topic, or of a publisher, to one of them, in order.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use forebay::broker::router::owner;
use forebay::metrics::spec::ShardMetric as M;
use forebay::mqtt::packet::{
    Packet, PacketType, Publish, QoS, Sender, Subscribe, SubscriptionOptions, Unsubscribe, Version,
};
use forebay::mqtt::property::{Properties, Property, PropertyBuf};
use forebay::mqtt::reason::ReasonCode;
use forebay::mqtt::{FilterBuf, decode, encode, frame};
use forebay::rules::{KEPT, Rules};
use forebay::runtime::seam::{Closed, ConnId, ListenerId, Shard as _};

use super::process::{Of, Process};
use super::subscribe::bytes_of;
use super::world::ONE_SINK;

const SHARDS: usize = 3;
const CLIENTS: usize = 8;
const TOPICS: usize = 12;
/// Both match what is published.
const SHARES: [&str; 2] = ["$share/g/a/+", "$share/h/#"];

/// A message for a share.
type ForShare = (usize, u32);

struct Client {
    name: String,
    shard: usize,
    conn: Option<ConnId>,
    /// Its session outlives its connection.
    is_kept: bool,
    /// Of which of its sessions it is.
    session: u32,
    /// Shares that it is a member of, and whether it is leaving.
    member_of: BTreeMap<usize, bool>,
    /// Of the answers that it waits for: the share.
    waits: VecDeque<(usize, bool)>,
    /// What it has not acknowledged, by packet identifier.
    open: BTreeMap<u16, (QoS, ForShare)>,
    /// It acknowledges nothing.
    is_deaf: bool,
}

/// What was published.
#[derive(Clone, Copy)]
struct Sent {
    qos: QoS,
    publisher: usize,
    topic: usize,
}

struct World {
    process: Process,
    strategy: &'static str,
    clients: Vec<Client>,
    /// One on each shard.
    publishers: Vec<(usize, ConnId)>,
    sent: Vec<Sent>,
    /// What clients were sent for the first time, and who.
    first: Vec<(usize, ForShare)>,
    /// Who was sent it at QoS 2: client and session.
    bound: BTreeMap<ForShare, (usize, u32)>,
    /// Who was sent it.
    had: BTreeMap<ForShare, BTreeSet<(usize, u32)>>,
    acknowledged: BTreeSet<ForShare>,
    /// QoS 2, and the session that had it has ended [MQTT-4.8.2-5].
    ended: BTreeSet<ForShare>,
    random: fastrand::Rng,
    is_tight: bool,
    tick: Duration,
}

pub(crate) fn connect_packet(name: &str, is_kept: bool, receive_maximum: u16) -> Vec<u8> {
    let mut properties = PropertyBuf::new();
    properties.extend(is_kept.then_some(Property::SessionExpiryInterval(3_600)));
    properties.push(Property::ReceiveMaximum(receive_maximum));
    let raw = properties.as_properties().raw();
    let flags = if is_kept { 0 } else { 2 };
    let mut connect =
        vec![0x10, 0, 0, 4, b'M', b'Q', b'T', b'T', 5, flags, 0, 0, u8::try_from(raw.len()).expect("few")];
    connect.extend_from_slice(raw);
    connect.extend_from_slice(&u16::try_from(name.len()).expect("short").to_be_bytes());
    connect.extend_from_slice(name.as_bytes());
    connect[1] = u8::try_from(connect.len() - 2).expect("short");
    connect
}

impl World {
    fn new(rules: &'static dyn Rules, strategy: &'static str, seed: u64) -> Self {
        let text = ONE_SINK.replace("\"#\"", "\"to/kafka/#\"");
        let text = format!("{text}\n[delivery]\nshare_strategy = \"{strategy}\"\n");
        let process = Process::start(rules, &text, SHARDS);
        let mut random = fastrand::Rng::with_seed(seed);
        let client = |number: usize| {
            let name = format!("client-{number}");
            Client {
                shard: owner(&name, SHARDS),
                name,
                conn: None,
                // The first is a member all the time, so that no share ends.
                is_kept: number.is_multiple_of(2),
                session: 0,
                member_of: BTreeMap::new(),
                waits: VecDeque::new(),
                open: BTreeMap::new(),
                is_deaf: false,
            }
        };
        let mut world = Self {
            is_tight: random.bool(),
            process,
            strategy,
            clients: (0..CLIENTS).map(client).collect(),
            publishers: Vec::new(),
            sent: Vec::new(),
            first: Vec::new(),
            bound: BTreeMap::new(),
            had: BTreeMap::new(),
            acknowledged: BTreeSet::new(),
            ended: BTreeSet::new(),
            random,
            tick: Duration::from_millis(1),
        };
        for shard in 0..SHARDS {
            let name = (0..).map(|number| format!("publisher-{number}")).find(|name| owner(name, SHARDS) == shard);
            let conn = world.open(shard, &connect_packet(&name.expect("one of them"), false, 100));
            world.publishers.push((shard, conn));
        }
        world.connect(0);
        (0..SHARES.len()).for_each(|share| world.subscribe(0, share, QoS::ExactlyOnce));
        world.turn(world.clients[0].shard);
        world.read(0);
        assert!(world.clients[0].waits.is_empty(), "SUBACK");
        world
    }

    fn open(&mut self, shard: usize, connect: &[u8]) -> ConnId {
        let Of { core, table, .. } = &mut self.process.shards[shard];
        let conn = table.open(None);
        core.on_accept(table, conn, ListenerId(0));
        core.on_bytes(table, conn, connect);
        let out = &mut table.wire(conn).out;
        assert_eq!((out[0], out[3]), (0x20, 0), "CONNACK");
        out.drain(..2 + usize::from(out[1]));
        conn
    }

    fn connect(&mut self, at: usize) {
        let client = &mut self.clients[at];
        if client.conn.is_some() {
            return;
        }
        client.session += u32::from(!client.is_kept);
        let (shard, packet) = (client.shard, connect_packet(&client.name, client.is_kept, self.random.u16(1..4)));
        self.clients[at].conn = Some(self.open(shard, &packet));
        self.read(at);
    }

    /// The connection breaks. What it was sent until then it may have.
    fn vanish(&mut self, at: usize) {
        self.look(at);
        let client = &mut self.clients[at];
        let Some(conn) = client.conn.take() else { return };
        let Of { core, table, .. } = &mut self.process.shards[client.shard];
        core.on_close(table, conn, Closed::Peer);
        table.release(conn);
        client.waits.clear();
        let open = std::mem::take(&mut client.open);
        if client.is_kept {
            // What was asked for and not answered may be so or not: it asks again.
            client.member_of.retain(|_, is_leaving| !*is_leaving);
        } else {
            client.member_of.clear();
            let lost = open.into_values().filter(|(qos, _)| *qos == QoS::ExactlyOnce);
            self.ended.extend(lost.map(|(_, message)| message));
        }
    }

    fn bytes(&mut self, at: usize, bytes: &[u8]) {
        let client = &self.clients[at];
        let Some(conn) = client.conn else { return };
        let Of { core, table, .. } = &mut self.process.shards[client.shard];
        core.on_bytes(table, conn, bytes);
    }

    fn subscribe(&mut self, at: usize, share: usize, qos: QoS) {
        let client = &mut self.clients[at];
        if client.conn.is_none() || client.member_of.contains_key(&share) {
            return;
        }
        client.member_of.insert(share, false);
        client.waits.push_back((share, true));
        let mut filters = FilterBuf::for_subscribe();
        assert!(filters.push(SHARES[share], SubscriptionOptions { qos, ..SubscriptionOptions::default() }));
        let mut properties = PropertyBuf::new();
        properties.push(Property::SubscriptionIdentifier(u32::try_from(share).expect("few") + 1));
        let properties = properties.as_properties();
        let packet = Packet::Subscribe(Subscribe { packet_id: 9, properties, filters: filters.as_filters() });
        self.bytes(at, &bytes_of(Version::V5, &packet));
    }

    fn unsubscribe(&mut self, at: usize, share: usize) {
        let client = &mut self.clients[at];
        let is_asked = client.waits.iter().any(|(of, _)| *of == share);
        if at == 0 || client.conn.is_none() || is_asked || client.member_of.get(&share) != Some(&false) {
            return;
        }
        client.member_of.insert(share, true);
        client.waits.push_back((share, false));
        let mut filters = FilterBuf::for_unsubscribe();
        assert!(filters.push(SHARES[share], SubscriptionOptions::default()));
        let properties = Properties::EMPTY;
        self.bytes(
            at,
            &bytes_of(
                Version::V5,
                &Packet::Unsubscribe(Unsubscribe { packet_id: 9, properties, filters: filters.as_filters() }),
            ),
        );
    }

    fn publish(&mut self, at: usize, qos: QoS) {
        let (shard, conn) = self.publishers[at];
        let Of { core, table, .. } = &mut self.process.shards[shard];
        if table.wire(conn).paused {
            return;
        }
        let number = u32::try_from(self.sent.len()).expect("few");
        let topic = self.random.usize(..TOPICS);
        self.sent.push(Sent { qos, publisher: at, topic });
        let (payload, topic) = (number.to_string(), format!("a/{topic}"));
        let publish = Publish {
            dup: false,
            qos,
            retain: false,
            topic: &topic,
            packet_id: u16::try_from(number + 1).expect("few"),
            properties: Properties::EMPTY,
            payload: payload.as_bytes(),
        };
        core.on_bytes(table, conn, &bytes_of(Version::V5, &Packet::Publish(publish)));
        if qos == QoS::ExactlyOnce {
            core.on_turn_end(table);
            let mut release = Vec::new();
            let id = u16::try_from(number + 1).expect("few");
            encode::ack(Version::V5, PacketType::PubRel, id, ReasonCode::SUCCESS, &mut release);
            core.on_bytes(table, conn, &release);
        }
        table.wire(conn).out.clear();
    }

    /// What a client has been sent.
    fn look(&mut self, at: usize) -> Vec<u8> {
        let client = &mut self.clients[at];
        let Some(conn) = client.conn else { return Vec::new() };
        let Of { table, .. } = &mut self.process.shards[client.shard];
        let bytes = std::mem::take(&mut table.wire(conn).out);
        let (mut rest, mut acks) = (&bytes[..], Vec::new());
        while let Some(frame) = frame::next(rest, u32::MAX).expect("well formed") {
            rest = &rest[frame.len..];
            match decode::decode(Version::V5, Sender::Server, frame).expect("well formed") {
                Packet::Publish(publish) => {
                    let number = std::str::from_utf8(publish.payload).expect("text").parse().expect("a number");
                    let identifier = publish.properties.iter().find_map(|property| match property {
                        Property::SubscriptionIdentifier(identifier) => Some(identifier as usize - 1),
                        _ => None,
                    });
                    let message = (identifier.expect("that of a share"), number);
                    let is_for_it = publish.dup || client.member_of.contains_key(&message.0);
                    assert!(is_for_it, "{} got {message:?} and is no member (J9)", client.name);
                    client.open.insert(publish.packet_id, (publish.qos, message));
                    let who = (at, client.session);
                    if self.had.entry(message).or_default().insert(who) {
                        self.first.push((at, message));
                    }
                    let bound = self.bound.get(&message);
                    assert!(bound.is_none_or(|to| *to == who), "{message:?} went to {bound:?} and {who:?} (J9)");
                    if publish.qos == QoS::ExactlyOnce {
                        self.bound.insert(message, who);
                    }
                }
                Packet::PubRel(ack) => {
                    encode::ack(Version::V5, PacketType::PubComp, ack.packet_id, ReasonCode::SUCCESS, &mut acks);
                }
                Packet::SubAck(_) | Packet::UnsubAck(_) => {
                    if let Some((share, false)) = client.waits.pop_front() {
                        client.member_of.remove(&share);
                    }
                }
                other => panic!("{other:?}"),
            }
        }
        acks
    }

    /// The same, and it acknowledges some of it.
    fn read(&mut self, at: usize) {
        let mut acks = self.look(at);
        let client = &mut self.clients[at];
        let random = &mut self.random;
        let acknowledged = &mut self.acknowledged;
        let is_deaf = client.is_deaf;
        client.open.retain(|id, (qos, message)| {
            if is_deaf || random.u8(..3) == 0 {
                return true;
            }
            let what = if *qos == QoS::AtLeastOnce { PacketType::PubAck } else { PacketType::PubRec };
            encode::ack(Version::V5, what, *id, ReasonCode::SUCCESS, &mut acks);
            acknowledged.insert(*message);
            false
        });
        self.bytes(at, &acks);
    }

    fn turn(&mut self, shard: usize) {
        self.process.shards[shard].table.mailbox = if self.is_tight { self.random.usize(..3) } else { 16 };
        self.process.turn(shard, self.tick);
    }

    fn step(&mut self) {
        let (at, shard) = (self.random.usize(..CLIENTS), self.random.usize(..SHARDS));
        let qos = [QoS::AtLeastOnce, QoS::ExactlyOnce][self.random.usize(..2)];
        let share = self.random.usize(..SHARES.len());
        match self.random.u8(..50) {
            0..3 => self.connect(at),
            3 => self.vanish(at),
            4..8 => self.subscribe(at, share, qos),
            8 => self.unsubscribe(at, share),
            9..20 => self.publish(shard, qos),
            20..30 => self.read(at),
            30..40 => self.turn(shard),
            _ => self.process.read_mail(shard, 1),
        }
    }

    fn settle(&mut self, rounds: usize) {
        for _ in 0..rounds {
            (0..SHARDS).for_each(|shard| self.turn(shard));
            for to in 0..SHARDS {
                (0..12).for_each(|_| self.process.read_mail(to, 1));
            }
            (0..CLIENTS).for_each(|at| self.read(at));
        }
    }

    fn waiting(&mut self) -> u64 {
        self.settle(1);
        self.process.number(M::ShareQueuedMessages)
    }

    /// Until nothing is under way.
    fn rest(&mut self) {
        let mut quiet = 0;
        for _ in 0..10_000 {
            let is_busy = self.waiting() > 0 || self.clients.iter().any(|client| !client.open.is_empty());
            quiet = if is_busy { 0 } else { quiet + 1 };
            if quiet == 10 {
                return;
            }
        }
        panic!("{} messages wait though all members have room (J9)", self.waiting());
    }

    /// Half of those that are there acknowledge nothing more, until they are cut off. The first does.
    fn go_deaf(&mut self) {
        self.connect(0);
        for at in 1..CLIENTS {
            self.clients[at].is_deaf = self.random.bool();
        }
        let mut waiting = if self.is_keyed() { 0 } else { u64::MAX };
        while waiting > 0 {
            self.settle(100);
            let before = std::mem::replace(&mut waiting, self.waiting());
            assert!(waiting < before, "{waiting} wait for two seconds though a member has room (J9)");
        }
        self.settle(if self.is_keyed() { 20 } else { 0 });
        for at in 1..CLIENTS {
            if self.clients[at].is_deaf {
                self.vanish(at);
                self.clients[at].is_deaf = false;
                // One that is kept comes back, for what it has of QoS 2.
                self.connect(at);
            }
        }
        (1..CLIENTS).for_each(|at| self.connect(at));
    }

    fn is_keyed(&self) -> bool {
        self.strategy.starts_with("hash")
    }

    /// Members stay as they are. How many messages were published meanwhile.
    fn stay(&mut self) -> usize {
        let (sent, first) = (self.sent.len(), self.first.len());
        for _ in 0..300 {
            let (at, shard) = (self.random.usize(..CLIENTS), self.random.usize(..SHARDS));
            let qos = [QoS::AtLeastOnce, QoS::ExactlyOnce][self.random.usize(..2)];
            match self.random.u8(..5) {
                0 => self.publish(shard, qos),
                1 => self.read(at),
                2 => self.turn(shard),
                _ => self.process.read_mail(shard, 1),
            }
        }
        self.rest();
        if self.is_keyed() {
            self.judge_order(first);
        }
        self.sent.len() - sent
    }

    /// Each topic, or publisher, has had one member since then, and each publisher's messages on a topic came in order.
    fn judge_order(&self, since: usize) {
        let (mut members, mut latest) = (BTreeMap::new(), BTreeMap::new());
        for (at, (share, number)) in self.first[since..].iter().copied() {
            let Sent { publisher, topic, .. } = self.sent[number as usize];
            let key = if self.strategy == "hash-topic" { topic } else { publisher };
            let member = *members.entry((share, key)).or_insert(at);
            assert_eq!(at, member, "{number} of {key} went to another member");
            let before = latest.insert((share, publisher, topic), number);
            assert!(before.is_none_or(|before| before < number), "{number} came behind {before:?}");
        }
    }
}

/// What was tried in a run.
#[derive(Default)]
pub(crate) struct Tried {
    /// Messages for shares that were judged.
    judged: usize,
    /// Messages that waited in its middle.
    waited: u64,
    /// Sets of members that had one.
    shared: usize,
    /// Messages that were sent while the members stayed.
    stayed: usize,
}

/// A run under these rules.
pub(crate) fn run(rules: &'static dyn Rules, strategy: &'static str, seed: u64) -> Tried {
    let mut world = World::new(rules, strategy, seed);
    for _ in 0..800 {
        world.step();
    }
    let waited = world.waiting();
    world.is_tight = false;
    world.tick = Duration::from_millis(20);
    world.go_deaf();
    world.rest();
    let stayed = world.stay();
    let mut judged = 0;
    for (number, sent) in (0..).zip(&world.sent) {
        for share in 0..SHARES.len() {
            let message = (share, number);
            let is_over = world.acknowledged.contains(&message) || world.ended.contains(&message);
            assert!(is_over, "{message:?} at {:?} reached no member (J9)", sent.qos);
            judged += 1;
        }
    }
    assert!(world.process.has_read_all(), "mail is left");
    let shared = world.had.values().map(|had| had.iter().map(|(at, _)| at).max()).collect::<BTreeSet<_>>().len();
    Tried { judged, waited, shared, stayed }
}

fn judge(strategy: &'static str) {
    let (mut judged, mut waited, mut shared, mut stayed, mut seeds) = (0, 0, 0, 0, 0);
    for seed in super::seeds(0..60) {
        println!("seed {seed}");
        let of = run(&KEPT, strategy, seed);
        (judged, waited, shared, stayed) =
            (judged + of.judged, waited + of.waited, shared + of.shared, stayed + of.stayed);
        seeds += 1;
    }
    let is_much = judged > 166 * seeds && waited > seeds as u64 && shared > 3 * seeds && stayed > 30 * seeds;
    assert!(is_much, "{judged} {waited} {shared} {stayed} in {seeds}: little was tried");
}

#[test]
fn each_message_goes_to_a_member_of_each_share_and_none_waits_while_one_has_room() {
    judge("round-robin");
}

#[test]
fn the_same_with_the_least_busy_member_first() {
    judge("least-inflight");
}

#[test]
fn each_topic_has_one_member_while_members_stay_and_nothing_is_lost_when_they_do_not() {
    judge("hash-topic");
}

#[test]
fn each_publisher_has_one_member_while_members_stay_and_nothing_is_lost_when_they_do_not() {
    judge("hash-client");
}

/// What waits where no member is online goes where its topic's next messages go.
#[test]
fn what_is_handed_over_goes_to_the_member_that_the_hash_names() {
    let mut world = World::new(&KEPT, "hash-topic", 7);
    (world.is_tight, world.tick) = (false, Duration::from_millis(20));
    let first = world.clients[0].shard;
    world.vanish(0);
    world.settle(1);
    for number in 0..60 {
        world.publish(number % SHARDS, QoS::AtLeastOnce);
    }
    world.settle(10);
    assert_eq!(world.process.number(M::ShareQueuedMessages), 120);
    for at in (0..CLIENTS).filter(|at| world.clients[*at].shard != first).collect::<Vec<_>>() {
        world.connect(at);
        (0..SHARES.len()).for_each(|share| world.subscribe(at, share, QoS::AtLeastOnce));
    }
    world.rest();
    let handed_over = world.first.len();
    assert_eq!(handed_over, 120);
    assert!(world.stay() > 30);
    world.judge_order(0);
    let members = world.first[..handed_over].iter().map(|(at, _)| at);
    assert!(members.collect::<BTreeSet<_>>().len() > 2, "several on a shard");
}
