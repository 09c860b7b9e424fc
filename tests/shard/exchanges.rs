//! Publishers with kept sessions that repeat messages of QoS 2 after a crash: subscribers on all shards get each of them once.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use forebay::broker::router::owner;
use forebay::limits::COPIES_PER_TURN;
use forebay::metrics::spec::ShardMetric as M;
use forebay::mqtt::packet::{Packet, Publish, QoS, SubscriptionOptions, Version};
use forebay::rules::{KEPT, Rules};
use forebay::runtime::seam::{ConnId, Shard as _};

use super::process::{Of, Process, packets};
use super::queues;
use super::subscribe::{PLAIN, bytes_of, message, publish, subscribe, subscribe_packet};
use super::world::World as Shard;

const SHARDS: usize = 3;

type At = Option<(usize, ConnId)>;

/// What a publisher does next about a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Publish,
    Release,
}

/// A client that keeps what it has to.
struct Publisher {
    name: String,
    at: At,
    /// CONNACK has come.
    is_in: bool,
    /// It wants a new session, and has not been told that it has one.
    wants_new: bool,
    /// By packet identifier: the message, what it does next, whether it has on this connection, and whether it ever had.
    open: BTreeMap<u16, (u32, Step, bool, bool)>,
    /// Messages to be sent, and those that are done.
    next: u32,
    done: BTreeSet<u32>,
}

struct Subscriber {
    name: String,
    qos: QoS,
    at: At,
    is_in: bool,
    /// Packet identifiers of QoS 2 that it has not been told to release.
    has: BTreeSet<u16>,
    /// By publisher: its messages in the order in which they came, those of QoS 2 once.
    got: BTreeMap<String, Vec<u32>>,
    owes: VecDeque<(u8, u16)>,
}

struct World {
    process: Process,
    publishers: Vec<Publisher>,
    subscribers: Vec<Subscriber>,
    random: fastrand::Rng,
}

fn ack(kind: u8, id: u16) -> [u8; 4] {
    [kind << 4 | if kind == 6 { 2 } else { 0 }, 2, (id >> 8) as u8, id as u8]
}

impl World {
    fn over(mut process: Process, seed: u64) -> Self {
        let publishers = (0..4).map(|number| Publisher {
            name: format!("publisher-{number}"),
            at: None,
            is_in: false,
            wants_new: false,
            open: BTreeMap::new(),
            next: 1,
            done: BTreeSet::new(),
        });
        let publishers = publishers.collect();
        let mut subscribers = Vec::new();
        for number in 0..5 {
            let qos = if number == 0 { QoS::AtLeastOnce } else { QoS::ExactlyOnce };
            let name = format!("subscriber-{number}");
            let (shard, conn, _) = process.connect(&name);
            let options = SubscriptionOptions { qos, ..PLAIN };
            process.say(shard, conn, &subscribe_packet(Version::V5, 0, &[("t/#", options)]));
            assert_eq!(process.heard(shard, conn).last(), Some(&(qos as u8)));
            subscribers.push(Subscriber {
                name,
                qos,
                at: Some((shard, conn)),
                is_in: true,
                has: BTreeSet::new(),
                got: BTreeMap::new(),
                owes: VecDeque::new(),
            });
        }
        Self { process, publishers, subscribers, random: fastrand::Rng::with_seed(seed) }
    }

    /// What has come for everybody.
    fn hear(&mut self) {
        let process = &mut self.process;
        for publisher in &mut self.publishers {
            let Some((shard, conn)) = publisher.at else { continue };
            for packet in packets(&process.heard(shard, conn)) {
                publisher.take(&packet);
            }
        }
        for subscriber in &mut self.subscribers {
            let Some((shard, conn)) = subscriber.at else { continue };
            for packet in packets(&process.heard(shard, conn)) {
                subscriber.take(&packet);
            }
        }
    }

    /// A publisher says what it has not said on this connection: what is open, oldest first, then new messages.
    fn publish(&mut self, at: usize, new: u32) {
        let publisher = &mut self.publishers[at];
        let Some((shard, conn)) = publisher.at.filter(|_| publisher.is_in) else { return };
        for _ in 0..new {
            // The lowest one that is free: it is used again as soon as it may be.
            let id = (1..=4).find(|id| !publisher.open.contains_key(id));
            let Some(id) = id else { break };
            publisher.open.insert(id, (publisher.next, Step::Publish, false, false));
            publisher.next += 1;
        }
        let mut to_say: Vec<_> = publisher.open.iter_mut().filter(|(_, (_, _, is_said, _))| !*is_said).collect();
        to_say.sort_by_key(|(_, (number, ..))| *number);
        let mut bytes = Vec::new();
        for (id, (number, step, is_said, was_said)) in to_say {
            match step {
                Step::Publish => {
                    let (topic, payload) = (format!("t/{}", publisher.name), number.to_string());
                    let qos = QoS::ExactlyOnce;
                    let publish = Publish { qos, dup: *was_said, packet_id: *id, ..message(&topic, &payload) };
                    bytes.extend_from_slice(&bytes_of(Version::V5, &Packet::Publish(publish)));
                }
                Step::Release => bytes.extend_from_slice(&ack(6, *id)),
            }
            (*is_said, *was_said) = (true, true);
        }
        self.process.bytes(shard, conn, &bytes);
    }

    /// A subscriber answers some of what it has been sent.
    fn answer(&mut self, at: usize, most: usize) {
        let subscriber = &mut self.subscribers[at];
        let Some((shard, conn)) = subscriber.at else { return };
        for _ in 0..most.min(subscriber.owes.len()) {
            let (kind, id) = subscriber.owes.pop_front().expect("some");
            self.process.bytes(shard, conn, &ack(kind, id));
        }
    }

    fn lose_publisher(&mut self, at: usize) {
        let publisher = &mut self.publishers[at];
        publisher.is_in = false;
        publisher.open.values_mut().for_each(|(.., is_said, _)| *is_said = false);
        if let Some((shard, conn)) = publisher.at.take() {
            self.process.lose(shard, conn);
        }
    }

    fn lose_subscriber(&mut self, at: usize) {
        let subscriber = &mut self.subscribers[at];
        subscriber.is_in = false;
        subscriber.owes.clear();
        if let Some((shard, conn)) = subscriber.at.take() {
            self.process.lose(shard, conn);
        }
    }

    /// The power fails. What was on its way arrives, or does not.
    fn crash(&mut self) {
        if self.random.bool() {
            self.hear();
        }
        for publisher in &mut self.publishers {
            (publisher.at, publisher.is_in) = (None, false);
            publisher.open.values_mut().for_each(|(.., is_said, _)| *is_said = false);
        }
        for subscriber in &mut self.subscribers {
            (subscriber.at, subscriber.is_in) = (None, false);
            subscriber.owes.clear();
        }
        let late = self.random.u64(..1 << SHARDS);
        self.process.power_cut(late);
    }

    fn come_back(&mut self) {
        for publisher in &mut self.publishers {
            if publisher.at.is_none() {
                publisher.at = Some(self.process.open(&publisher.name, publisher.wants_new));
            }
        }
        for subscriber in &mut self.subscribers {
            if subscriber.at.is_none() {
                subscriber.at = Some(self.process.open(&subscriber.name, false));
            }
        }
    }

    /// A publisher begins with a new session: what it had not been answered is not said again.
    fn begin_again(&mut self, at: usize) {
        self.lose_publisher(at);
        let publisher = &mut self.publishers[at];
        publisher.open.clear();
        publisher.wants_new = true;
        publisher.at = Some(self.process.open(&publisher.name, true));
    }

    fn step(&mut self) {
        let shard = self.random.usize(..SHARDS);
        let later = Duration::from_millis(self.random.u64(0..20));
        match self.random.u8(0..200) {
            0..60 => self.process.turn(shard, later),
            60..110 => {
                let letters = self.random.usize(1..4);
                self.process.read_mail(shard, letters);
            }
            110..145 => {
                let (at, new) = (self.random.usize(..self.publishers.len()), self.random.u32(0..3));
                self.publish(at, new);
            }
            145..175 => {
                let (at, most) = (self.random.usize(..self.subscribers.len()), self.random.usize(0..5));
                self.answer(at, most);
            }
            175..180 => {
                let disk = &mut self.process.shards[shard].table.disk;
                disk.slow = !disk.slow;
            }
            180..185 => self.come_back(),
            185..190 => {
                let at = self.random.usize(..self.publishers.len());
                self.lose_publisher(at);
            }
            190..194 => {
                let at = self.random.usize(..self.subscribers.len());
                self.lose_subscriber(at);
            }
            194..196 => {
                let at = self.random.usize(..self.publishers.len());
                self.begin_again(at);
            }
            _ => self.crash(),
        }
        self.hear();
    }

    /// All are there, and everything is answered.
    fn settle(&mut self) {
        self.process.shards.iter_mut().for_each(|of| of.table.disk.slow = false);
        for _ in 0..40 {
            self.come_back();
            self.process.settle();
            self.hear();
            (0..self.publishers.len()).for_each(|at| self.publish(at, 0));
            (0..self.subscribers.len()).for_each(|at| self.answer(at, usize::MAX));
            self.process.settle();
            self.hear();
        }
    }
}

impl Publisher {
    fn take(&mut self, packet: &Packet<'_>) {
        match packet {
            Packet::ConnAck(connack) => {
                assert!(!connack.reason.is_error(), "{}", self.name);
                (self.is_in, self.wants_new) = (true, false);
            }
            Packet::PubRec(ack) => {
                assert!(!ack.reason.is_error(), "{}: {ack:?}", self.name);
                let (_, step, is_said, was_said) = self.open.get_mut(&ack.packet_id).expect("it is open");
                // One more for a repeat says nothing.
                if *step == Step::Publish {
                    (*step, *is_said, *was_said) = (Step::Release, false, false);
                }
            }
            Packet::PubComp(ack) => {
                let (number, step, is_said, _) = self.open.remove(&ack.packet_id).expect("it is open");
                assert_eq!((step, is_said), (Step::Release, true), "{}: PUBCOMP comes where PUBREL went", self.name);
                assert!(self.done.insert(number));
            }
            other => panic!("{}: {other:?}", self.name),
        }
    }
}

impl Subscriber {
    fn take(&mut self, packet: &Packet<'_>) {
        match packet {
            Packet::ConnAck(connack) => {
                assert!(connack.session_present, "{}: {connack:?}", self.name);
                self.is_in = true;
            }
            Packet::Publish(publish) => {
                let id = publish.packet_id;
                let number: u32 =
                    std::str::from_utf8(publish.payload).ok().and_then(|text| text.parse().ok()).expect("a number");
                self.owes.push_back((if publish.qos == QoS::AtLeastOnce { 4 } else { 5 }, id));
                if publish.qos == QoS::ExactlyOnce && !self.has.insert(id) {
                    return;
                }
                let publisher = publish.topic.strip_prefix("t/").expect("a publisher").to_owned();
                let got = self.got.entry(publisher).or_default();
                let is_known = got.contains(&number);
                assert!(!is_known || self.qos == QoS::AtLeastOnce, "{}: {publish:?} again", self.name);
                if !is_known {
                    got.push(number);
                }
            }
            Packet::PubRel(ack) => {
                self.has.remove(&ack.packet_id);
                self.owes.push_back((7, ack.packet_id));
            }
            other => panic!("{}: {other:?}", self.name),
        }
    }
}

/// A run under these rules. How many messages were done.
pub(crate) fn run(rules: &'static dyn Rules, seed: u64) -> usize {
    run_over(Process::spooled(rules, SHARDS), seed)
}

fn run_over(process: Process, seed: u64) -> usize {
    println!("seed {seed}");
    let mut world = World::over(process, seed);
    world.come_back();
    world.process.settle();
    world.hear();
    for _ in 0..world.random.usize(100..800) {
        world.step();
    }
    if world.random.bool() {
        world.crash();
    }
    world.settle();
    let mut done = 0;
    for publisher in &world.publishers {
        assert!(publisher.open.is_empty(), "seed {seed}: {} waits: {:?}", publisher.name, publisher.open);
        done += publisher.done.len();
        for subscriber in &world.subscribers {
            let got = subscriber.got.get(&publisher.name).map_or(&[][..], |got| got);
            let missing: Vec<_> = publisher.done.iter().filter(|number| !got.contains(number)).collect();
            assert!(missing.is_empty(), "seed {seed}: {} of {}: {missing:?}", subscriber.name, publisher.name);
            assert!(got.is_sorted(), "seed {seed}: {} of {}: {got:?}", subscriber.name, publisher.name);
        }
    }
    let left = [M::Exchanges, M::StoredMessages].map(|metric| world.process.number(metric));
    assert_eq!(left, [0, 0], "seed {seed}: exchanges and messages at rest");
    done
}

/// A session ended while its repeat was under way to a shard that told only then that it knew the exchange, and forgot it before the repeat.
const CURED: [u64; 1] = [565];

#[test]
fn a_message_that_is_repeated_after_a_crash_comes_once() {
    let done: usize = super::seeds(0..12).chain(CURED).map(|seed| run(&KEPT, seed)).sum();
    assert!(done > 100, "{done}");
}

/// Groups of the log wait for others (`sync_interval`).
#[test]
fn the_same_with_groups_that_wait() {
    let done: usize = super::seeds(0..12).map(|seed| run_over(Process::gathering("7ms", &KEPT, SHARDS), seed)).sum();
    assert!(done > 100, "{done}");
}

/// Messages with many recipients wait, and others pass them.
#[test]
fn the_same_with_messages_for_many() {
    let done: usize = super::seeds(0..12).map(|seed| run_over(Process::of_many(&KEPT, SHARDS), seed)).sum();
    assert!(done > 100, "{done}");
}

/// A refusal frees the packet identifier: its next message is one of its own, through a crash as well.
#[test]
fn a_refusal_is_told_when_the_exchange_is_forgotten() {
    let mut world = Shard::new(&super::spooled("", "acknowledge = \"replicated\""));
    let (subscriber, _) = world.kept_v5("s");
    let options = SubscriptionOptions { qos: QoS::ExactlyOnce, ..PLAIN };
    assert_eq!(subscribe(&mut world, subscriber, Version::V5, 0, &[("#", options)]), [2]);
    let (publisher, _) = world.kept_v5("p");
    let send = |world: &mut Shard, payload: &str| {
        let of = Publish { qos: QoS::ExactlyOnce, packet_id: 1, ..message("t", payload) };
        publish(world, publisher, Version::V5, of);
    };
    world.kafka_down();
    world.broker.error = 87;
    send(&mut world, "refused");
    world.advance(Duration::from_millis(10));
    assert_eq!(world.number(M::Exchanges), 1);
    world.kafka_up = true;
    world.advance(Duration::from_secs(5));
    let pubrec = world.sent(publisher);
    assert_eq!((pubrec[0], pubrec[3]), (0x50, 1));
    assert!(pubrec[4] >= 0x80, "{pubrec:?}");
    assert_eq!(world.number(M::Exchanges), 0);
    world.broker.error = 0;
    send(&mut world, "taken");
    world.advance(Duration::from_secs(1));
    assert_eq!(world.sent(publisher), [0x50, 2, 0, 1]);
    let sent = world.sent(subscriber);
    let payload = |packet: Packet<'_>| match packet {
        Packet::Publish(publish) => Some(String::from_utf8_lossy(publish.payload).into_owned()),
        _ => None,
    };
    let payloads: Vec<_> = packets(&sent).filter_map(payload).collect();
    assert_eq!(payloads, ["refused", "taken"]);
}

/// A publisher of the first shard and a subscriber of the second, which has its first message, under packet identifier 1. Then the power
/// fails; the publisher is back before the second shard has told which exchanges it knows.
fn back_early(filter: &str) -> (Process, ConnId) {
    let mut process = Process::spooled(&KEPT, 2);
    let (shard, conn, _) = process.connect(&name_on(1));
    let options = SubscriptionOptions { qos: QoS::ExactlyOnce, ..PLAIN };
    process.say(shard, conn, &subscribe_packet(Version::V5, 0, &[(filter, options)]));
    process.lose(shard, conn);
    let (shard, conn, _) = process.connect(&name_on(0));
    process.say(shard, conn, &exactly_once(1, "t", "first"));
    assert_eq!(process.heard(shard, conn), [0x50, 2, 0, 1]);
    process.power_cut(0);
    let (shard, conn) = process.open(&name_on(0), false);
    let mut connack = Vec::new();
    while connack.is_empty() {
        process.turn(shard, Duration::from_millis(1));
        connack = process.heard(shard, conn);
    }
    assert_eq!((connack[0], connack[2]), (0x20, 1), "its session is there");
    (process, conn)
}

/// The client of that shard.
fn name_on(shard: usize) -> String {
    (0..).map(|number| format!("c-{number}")).find(|name| owner(name, 2) == shard).expect("one of them")
}

/// PUBLISH at QoS 2.
fn exactly_once(packet_id: u16, topic: &str, payload: &str) -> Vec<u8> {
    let of = Publish { qos: QoS::ExactlyOnce, packet_id, ..message(topic, payload) };
    bytes_of(Version::V5, &Packet::Publish(of))
}

/// What the subscriber gets when it is back.
fn got(process: &mut Process) -> Vec<String> {
    let (_, _, sent) = process.connect(&name_on(1));
    let payload = |packet: Packet<'_>| match packet {
        Packet::Publish(publish) => Some(String::from_utf8_lossy(publish.payload).into_owned()),
        _ => None,
    };
    packets(&sent).filter_map(payload).collect()
}

/// What a packet identifier is used for when it has been released is another message, also where another shard tells late of the one before.
#[test]
fn an_exchange_that_is_told_of_late_is_not_the_next_one() {
    for filter in ["t", "$share/g/t"] {
        let (mut process, conn) = back_early(filter);
        process.bytes(0, conn, &ack(6, 1));
        process.turn(0, Duration::ZERO);
        process.settle();
        assert_eq!(process.heard(0, conn)[..1], [0x70], "PUBCOMP");
        process.say(0, conn, &exactly_once(1, "t", "second"));
        assert_eq!(process.heard(0, conn), [0x50, 2, 0, 1]);
        assert_eq!(got(&mut process), ["first", "second"], "{filter}");
    }
}

/// A refusal frees the packet identifier, too.
#[test]
fn nor_is_it_where_a_refusal_came_between() {
    for filter in ["t", "$share/g/t"] {
        let (mut process, conn) = back_early(filter);
        process.bytes(0, conn, &exactly_once(1, "$SYS/broker/uptime", "not allowed"));
        process.turn(0, Duration::ZERO);
        process.settle();
        let refused = process.heard(0, conn);
        assert_eq!((refused[0], refused[4]), (0x50, 0x87), "PUBREC, not authorized");
        process.say(0, conn, &exactly_once(1, "t", "second"));
        assert_eq!(process.heard(0, conn), [0x50, 2, 0, 1]);
        assert_eq!(got(&mut process), ["first", "second"], "{filter}");
    }
}

/// The power fails between two groups, the first of which was full: a message that is in it has its exchange there.
#[test]
fn a_full_group_does_not_part_a_message_and_its_exchange() {
    const MESSAGES: u16 = 300;
    for bytes in 430..446 {
        let mut world = Shard::new(&queues::config());
        let subscriber = queues::kept(&mut world, "s", queues::QOS_2);
        queues::lose(&mut world, subscriber);
        let (publisher, _) = world.kept_v5("p");
        let payload = |id| format!("{id:0bytes$}");
        world.table.disk.slow = true;
        (1..=MESSAGES).for_each(|id| queues::say(&mut world, publisher, QoS::ExactlyOnce, id, &payload(id)));
        // The first message's group, and the one that was gathered meanwhile.
        for _ in 0..2 {
            world.table.disk.slow = false;
            let event = world.table.disk.event().expect("a group is on its way");
            world.table.disk.slow = true;
            world.core.on_segment(&mut world.table, event);
            world.core.on_turn_end(&mut world.table);
        }
        world.power_cut();
        let kept = world.number(M::StoredMessages);
        assert!((100..u64::from(MESSAGES)).contains(&kept), "{kept}: one group is full");
        let (publisher, _) = world.kept_v5("p");
        (1..=MESSAGES).for_each(|id| queues::say(&mut world, publisher, QoS::ExactlyOnce, id, &payload(id)));
        queues::rest(&mut world);
        assert_eq!(world.number(M::StoredMessages), u64::from(MESSAGES), "{bytes}: each once, {kept} were there");
    }
}

/// A turn has a copy left of what it may make when a message comes for three sessions. The power fails behind that turn's group.
#[test]
fn a_turn_does_not_part_a_message_and_its_exchange() {
    let mut process = Process::spooled(&KEPT, 1);
    let options = SubscriptionOptions { qos: QoS::ExactlyOnce, ..PLAIN };
    let names = ["s-1", "s-2", "s-3"];
    for name in names {
        let (_, conn, _) = process.connect(name);
        process.say(0, conn, &subscribe_packet(Version::V5, 0, &[("t", options)]));
        process.heard(0, conn);
    }
    let filler = fillers(&mut process);
    let (_, publisher, _) = process.connect("p");
    process.shards[0].table.disk.slow = true;
    process.bytes(0, publisher, &filler);
    process.bytes(0, publisher, &exactly_once(1, "t", "once"));
    process.turn(0, Duration::ZERO);
    let Of { core, table, .. } = &mut process.shards[0];
    table.disk.slow = false;
    let event = table.disk.event().expect("a group is on its way");
    table.disk.slow = true;
    core.on_segment(table, event);
    core.on_turn_end(table);
    process.power_cut(0);
    let (_, publisher, _) = process.connect("p");
    process.say(0, publisher, &exactly_once(1, "t", "once"));
    assert_eq!(process.heard(0, publisher), [0x50, 2, 0, 1]);
    for name in names {
        let (_, conn, mut sent) = process.connect(name);
        sent.extend(process.heard(0, conn));
        let messages = packets(&sent).filter(|packet| matches!(packet, Packet::Publish(_)));
        let ids: BTreeSet<u16> =
            messages.map(|packet| if let Packet::Publish(of) = packet { of.packet_id } else { 0 }).collect();
        assert_eq!(ids.len(), 1, "{name}: {ids:?}");
    }
}

/// The same with a repeat that goes to two shares, since neither had it.
#[test]
fn a_repeat_reaches_all_shares_that_have_not_had_it() {
    let mut process = Process::spooled(&KEPT, 1);
    let options = SubscriptionOptions { qos: QoS::ExactlyOnce, ..PLAIN };
    let (_, conn, _) = process.connect("s");
    process.say(0, conn, &subscribe_packet(Version::V5, 0, &[("t", options)]));
    let (_, publisher, _) = process.connect("p");
    process.say(0, publisher, &exactly_once(1, "t", "once"));
    process.power_cut(0);
    let members = [1, 2].map(|number| {
        let (_, conn, _) = process.connect(&format!("m-{number}"));
        let of = SubscriptionOptions { qos: QoS::AtLeastOnce, ..PLAIN };
        process.say(0, conn, &subscribe_packet(Version::V5, 0, &[(&format!("$share/{number}/t"), of)]));
        process.heard(0, conn);
        conn
    });
    let filler = fillers(&mut process);
    let (_, publisher, _) = process.connect("p");
    process.bytes(0, publisher, &filler);
    process.bytes(0, publisher, &exactly_once(1, "t", "once"));
    process.settle();
    assert_eq!(process.heard(0, publisher), [0x50, 2, 0, 1]);
    let got = members.map(|conn| packets(&process.heard(0, conn)).count());
    assert_eq!(got, [1, 1]);
}

/// A message of which copies leave the turn one more.
fn fillers(process: &mut Process) -> Vec<u8> {
    const CLIENTS: usize = 31;
    let bytes = (COPIES_PER_TURN / CLIENTS - 16) * 256;
    for number in 0..CLIENTS {
        let (_, conn, _) = process.connect(&format!("f-{number}"));
        process.say(0, conn, &subscribe_packet(Version::V5, 0, &[("fill", PLAIN)]));
        process.heard(0, conn);
    }
    bytes_of(Version::V5, &Packet::Publish(message("fill", &"x".repeat(bytes))))
}
