//! Shared subscriptions over several shards (J9): members that come, go, are slow and are cut off, with mail that is late and
//! mailboxes that are full. A message of QoS 2 goes to one member of each share, one of QoS 1 is acknowledged by at least one, and
//! at rest none waits while a member has room.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use forebay::metrics::spec::ShardMetric as M;
use forebay::mqtt::packet::{
    Packet, PacketType, Publish, QoS, Sender, Subscribe, SubscriptionOptions, Unsubscribe, Version,
};
use forebay::mqtt::property::{Properties, Property, PropertyBuf};
use forebay::mqtt::reason::ReasonCode;
use forebay::mqtt::{FilterBuf, decode, encode, frame};
use forebay::rules::{KEPT, Rules};
use forebay::runtime::seam::{Closed, ConnId, ListenerId, Shard as _};
use forebay::shard::router::owner;

use super::process::{Of, Process};
use super::subscribe::bytes_of;
use super::world::ONE_SINK;

const SHARDS: usize = 3;
const CLIENTS: usize = 8;
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

struct World {
    process: Process,
    clients: Vec<Client>,
    /// One on each shard.
    publishers: Vec<(usize, ConnId)>,
    sent: Vec<QoS>,
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

fn connect_packet(name: &str, is_kept: bool, receive_maximum: u16) -> Vec<u8> {
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
    fn new(rules: &'static dyn Rules, seed: u64) -> Self {
        let text = ONE_SINK.replace("\"#\"", "\"to/kafka/#\"");
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
            clients: (0..CLIENTS).map(client).collect(),
            publishers: Vec::new(),
            sent: Vec::new(),
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
        self.sent.push(qos);
        let payload = number.to_string();
        let publish = Publish {
            dup: false,
            qos,
            retain: false,
            topic: "a/b",
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
                    self.had.entry(message).or_default().insert(who);
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
}

/// A run under these rules. How many messages for shares were judged, how many waited in its middle, and how many sets of members had one.
pub(crate) fn run(rules: &'static dyn Rules, seed: u64) -> (usize, u64, usize) {
    let mut world = World::new(rules, seed);
    for _ in 0..800 {
        world.step();
    }
    let waited = world.waiting();
    // Half of those that are there acknowledge nothing more. The first does.
    world.is_tight = false;
    world.tick = Duration::from_millis(20);
    world.connect(0);
    for at in 1..CLIENTS {
        world.clients[at].is_deaf = world.random.bool();
    }
    let mut waiting = u64::MAX;
    while waiting > 0 {
        world.settle(100);
        let before = std::mem::replace(&mut waiting, world.waiting());
        assert!(waiting < before, "seed {seed}: {waiting} wait for two seconds though a member has room (J9)");
    }
    for at in 1..CLIENTS {
        if world.clients[at].is_deaf {
            world.vanish(at);
            world.clients[at].is_deaf = false;
            // One that is kept comes back, for what it has of QoS 2.
            world.connect(at);
        }
    }
    (1..CLIENTS).for_each(|at| world.connect(at));
    let mut quiet = 0;
    while quiet < 10 {
        let is_busy = world.waiting() > 0 || world.clients.iter().any(|client| !client.open.is_empty());
        quiet = if is_busy { 0 } else { quiet + 1 };
    }
    let mut judged = 0;
    for (number, qos) in (0..).zip(&world.sent) {
        for share in 0..SHARES.len() {
            let message = (share, number);
            let is_over = world.acknowledged.contains(&message) || world.ended.contains(&message);
            assert!(is_over, "seed {seed}: {message:?} at {qos:?} reached no member (J9)");
            judged += 1;
        }
    }
    assert!(world.process.has_read_all(), "seed {seed}: mail is left");
    let shared = world.had.values().map(|had| had.iter().map(|(at, _)| at).max()).collect::<BTreeSet<_>>().len();
    (judged, waited, shared)
}

#[test]
fn each_message_goes_to_a_member_of_each_share_and_none_waits_while_one_has_room() {
    let (mut judged, mut waited, mut shared) = (0, 0, 0);
    for seed in super::seeds(0..150) {
        let of = run(&KEPT, seed);
        (judged, waited, shared) = (judged + of.0, waited + of.1, shared + of.2);
    }
    assert!(judged > 25_000 && waited > 200 && shared > 500, "{judged} {waited} {shared}: little was tried");
}
