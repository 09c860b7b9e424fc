//! Shared subscriptions through crashes (J1, J9): shards that are killed or lose their power while messages wait for members, are with them
//! or are on their way from shard to shard. What was answered reaches a member of each share, one of QoS 2 not two of them.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use forebay::broker::router::owner;
use forebay::metrics::spec::ShardMetric as M;
use forebay::mqtt::FilterBuf;
use forebay::mqtt::packet::{Packet, PacketType, Publish, QoS, SubscriptionOptions, Version};
use forebay::mqtt::reason::ReasonCode;
use forebay::mqtt::{encode, packet::Subscribe, property::Property, property::PropertyBuf};
use forebay::rules::{KEPT, Rules};
use forebay::runtime::seam::{ConnId, ListenerId, Shard as _};

use super::process::{Of, Process, packets};
use super::shares_several::connect_packet;
use super::subscribe::{bytes_of, message};

const SHARDS: usize = 3;
const MEMBERS: usize = 6;
/// Both match what is published.
const SHARES: [&str; 2] = ["$share/g/t/+", "$share/h/#"];

/// A message for a share.
type ForShare = (usize, u32);

type At = Option<(usize, ConnId)>;

struct Member {
    name: String,
    at: At,
    /// CONNACK has come.
    is_in: bool,
    /// Its session outlives its connection. The first one's does.
    is_kept: bool,
    /// Of which of its sessions it is.
    session: u32,
    qos: QoS,
    /// Shares of which it is a member for certain.
    is_member: bool,
    /// What it has not acknowledged over this connection, by packet identifier.
    open: BTreeMap<u16, (QoS, ForShare)>,
    /// Packet identifiers of QoS 2 that it has not been told to release.
    has: BTreeSet<u16>,
    releases: Vec<u16>,
}

struct Publisher {
    name: String,
    at: At,
    is_in: bool,
    /// Its session outlives its connection: it repeats what it was not answered at QoS 2.
    is_kept: bool,
    /// Messages that wait for an answer, by packet identifier.
    open: BTreeMap<u16, Message>,
}

#[derive(Clone)]
struct Message {
    number: u32,
    qos: QoS,
    topic: String,
    /// PUBREC has come.
    is_received: bool,
    /// It was said on this connection.
    is_said: bool,
}

struct World {
    process: Process,
    members: Vec<Member>,
    publishers: Vec<Publisher>,
    sent: Vec<QoS>,
    answered: BTreeSet<u32>,
    acknowledged: BTreeSet<ForShare>,
    had: BTreeSet<ForShare>,
    /// Who was sent it at QoS 2: client and session.
    bound: BTreeMap<ForShare, (usize, u32)>,
    /// QoS 2, and the session that had it has ended, or may have been to get it [MQTT-4.8.2-5].
    ended: BTreeSet<ForShare>,
    random: fastrand::Rng,
    /// Mailboxes are full at times.
    tight: Option<fastrand::Rng>,
    crashes: usize,
    /// Messages that waited when the process ended.
    waited: u64,
}

fn ack(kind: PacketType, id: u16) -> Vec<u8> {
    let mut bytes = Vec::new();
    encode::ack(Version::V5, kind, id, ReasonCode::SUCCESS, &mut bytes);
    bytes
}

impl World {
    fn new(rules: &'static dyn Rules, strategy: &str, seed: u64) -> Self {
        let mut random = fastrand::Rng::with_seed(seed);
        let more = format!("[delivery]\nshare_strategy = \"{strategy}\"\n");
        let interval = ["0ms", "7ms"][random.usize(..2)];
        let process = Process::spooled_as(interval, &more, rules, SHARDS);
        // What a session that is not kept had at QoS 2 ends with it: few seeds have such.
        let others = if random.u8(..4) == 0 { QoS::ExactlyOnce } else { QoS::AtLeastOnce };
        let member = |number: usize| Member {
            name: format!("client-{number}"),
            at: None,
            is_in: false,
            is_kept: number.is_multiple_of(2),
            session: 0,
            qos: if number.is_multiple_of(2) { QoS::ExactlyOnce } else { others },
            is_member: false,
            open: BTreeMap::new(),
            has: BTreeSet::new(),
            releases: Vec::new(),
        };
        let publisher = |shard: usize| {
            let name = (0..).map(|number| format!("publisher-{number}")).find(|name| owner(name, SHARDS) == shard);
            // What a member without a kept session was sent at QoS 2 may come again to another one.
            let is_kept = shard < 2 && others == QoS::AtLeastOnce;
            Publisher { name: name.expect("one of them"), at: None, is_in: false, is_kept, open: BTreeMap::new() }
        };
        let mut world = Self {
            process,
            members: (0..MEMBERS).map(member).collect(),
            publishers: (0..SHARDS).map(publisher).collect(),
            sent: Vec::new(),
            answered: BTreeSet::new(),
            acknowledged: BTreeSet::new(),
            had: BTreeSet::new(),
            bound: BTreeMap::new(),
            ended: BTreeSet::new(),
            random,
            tight: None,
            crashes: 0,
            waited: 0,
        };
        world.come(0);
        (0..4).for_each(|_| world.settle_once());
        assert!(world.members[0].is_member);
        world
    }

    fn open(&mut self, name: &str, is_kept: bool, receive_maximum: u16) -> At {
        let shard = owner(name, SHARDS);
        let Of { core, table, .. } = &mut self.process.shards[shard];
        let conn = table.open(None);
        core.on_accept(table, conn, ListenerId(0));
        core.on_bytes(table, conn, &connect_packet(name, is_kept, receive_maximum));
        Some((shard, conn))
    }

    fn come(&mut self, at: usize) {
        if self.members[at].at.is_none() {
            let receive_maximum = self.random.u16(1..4);
            let member = &mut self.members[at];
            member.session += u32::from(!member.is_kept);
            let (name, is_kept) = (member.name.clone(), member.is_kept);
            self.members[at].at = self.open(&name, is_kept, receive_maximum);
        }
    }

    fn publisher_comes(&mut self, at: usize) {
        if self.publishers[at].at.is_none() {
            let (name, is_kept) = (self.publishers[at].name.clone(), self.publishers[at].is_kept);
            self.publishers[at].at = self.open(&name, is_kept, 100);
        }
    }

    /// A member has no connection any more.
    fn is_gone(&mut self, at: usize) {
        let member = &mut self.members[at];
        member.is_in = false;
        member.releases.clear();
        let open = std::mem::take(&mut member.open);
        if member.is_kept {
            return;
        }
        member.is_member = false;
        member.has.clear();
        let lost = open.into_values().filter(|(qos, _)| *qos == QoS::ExactlyOnce);
        self.ended.extend(lost.map(|(_, message)| message));
        if member.qos == QoS::ExactlyOnce {
            let unseen = (0..).zip(&self.sent).filter(|(_, qos)| **qos == QoS::ExactlyOnce);
            let unseen = unseen.flat_map(|(number, _)| (0..SHARES.len()).map(move |share| (share, number)));
            self.ended.extend(unseen.filter(|message| !self.had.contains(message)));
        }
    }

    fn vanish(&mut self, at: usize) {
        self.hear();
        if let Some((shard, conn)) = self.members[at].at.take() {
            self.process.lose(shard, conn);
            self.is_gone(at);
        }
    }

    fn crash(&mut self) {
        if self.random.bool() {
            self.hear();
        }
        self.crashes += 1;
        self.waited += self.process.number(M::ShareQueuedMessages);
        for at in 0..MEMBERS {
            if self.members[at].at.take().is_some() {
                self.is_gone(at);
            }
        }
        for publisher in &mut self.publishers {
            (publisher.at, publisher.is_in) = (None, false);
            let is_kept = publisher.is_kept;
            publisher.open.retain(|_, message| is_kept && message.qos == QoS::ExactlyOnce);
            publisher.open.values_mut().for_each(|message| message.is_said = false);
        }
        let late = self.random.u64(..1 << SHARDS);
        if self.random.bool() { self.process.power_cut(late) } else { self.process.kill(late) }
    }

    fn publish(&mut self, at: usize) {
        let qos = [QoS::AtLeastOnce, QoS::ExactlyOnce][self.random.usize(..2)];
        let topic = format!("t/{}", self.random.u8(..8));
        let publisher = &mut self.publishers[at];
        let Some((shard, conn)) = publisher.at.filter(|_| publisher.is_in) else { return };
        if self.process.shards[shard].table.wire(conn).paused {
            return;
        }
        let number = u32::try_from(self.sent.len()).expect("few");
        // The lowest one that is free: it is used again as soon as it may be.
        let id = (1..).find(|id| !publisher.open.contains_key(id)).expect("few");
        self.sent.push(qos);
        publisher.open.insert(id, Message { number, qos, topic, is_received: false, is_said: false });
        self.say(at);
    }

    /// A publisher says what it has not said on this connection, oldest first.
    fn say(&mut self, at: usize) {
        let publisher = &mut self.publishers[at];
        let Some((shard, conn)) = publisher.at.filter(|_| publisher.is_in) else { return };
        let mut unsaid: Vec<_> = publisher.open.iter_mut().filter(|(_, message)| !message.is_said).collect();
        unsaid.sort_by_key(|(_, message)| message.number);
        let mut bytes = Vec::new();
        for (id, of) in unsaid {
            of.is_said = true;
            if of.is_received {
                bytes.extend_from_slice(&ack(PacketType::PubRel, *id));
            } else {
                let payload = of.number.to_string();
                let publish = Publish { qos: of.qos, packet_id: *id, ..message(&of.topic, &payload) };
                bytes.extend_from_slice(&bytes_of(Version::V5, &Packet::Publish(publish)));
            }
        }
        self.process.bytes(shard, conn, &bytes);
    }

    fn subscribe(&mut self, at: usize) {
        let member = &self.members[at];
        let Some((shard, conn)) = member.at else { return };
        let mut bytes = Vec::new();
        for (share, filter) in SHARES.iter().enumerate() {
            let mut filters = FilterBuf::for_subscribe();
            assert!(filters.push(filter, SubscriptionOptions { qos: member.qos, ..SubscriptionOptions::default() }));
            let mut properties = PropertyBuf::new();
            properties.push(Property::SubscriptionIdentifier(u32::try_from(share).expect("few") + 1));
            let properties = properties.as_properties();
            let id = u16::try_from(share).expect("few") + 1;
            let packet = Packet::Subscribe(Subscribe { packet_id: id, properties, filters: filters.as_filters() });
            bytes.extend_from_slice(&bytes_of(Version::V5, &packet));
        }
        self.process.bytes(shard, conn, &bytes);
    }

    /// What has come for everybody.
    fn hear(&mut self) {
        for at in 0..self.publishers.len() {
            let Some((shard, conn)) = self.publishers[at].at else { continue };
            let bytes = self.process.heard(shard, conn);
            let publisher = &mut self.publishers[at];
            for packet in packets(&bytes) {
                match packet {
                    Packet::ConnAck(connack) => publisher.is_in = !connack.reason.is_error(),
                    Packet::PubAck(of) => {
                        assert_eq!(of.reason, ReasonCode::SUCCESS, "the first is a member all the time");
                        self.answered.extend(publisher.open.remove(&of.packet_id).map(|message| message.number));
                    }
                    Packet::PubRec(of) => {
                        assert_eq!(of.reason, ReasonCode::SUCCESS, "the first is a member all the time");
                        let message = publisher.open.get_mut(&of.packet_id).expect("it is open");
                        self.answered.insert(message.number);
                        if !message.is_received {
                            (message.is_received, message.is_said) = (true, false);
                        }
                    }
                    Packet::PubComp(of) => drop(publisher.open.remove(&of.packet_id)),
                    other => panic!("{other:?}"),
                }
            }
            self.say(at);
        }
        (0..MEMBERS).for_each(|at| self.member_hears(at));
    }

    fn member_hears(&mut self, at: usize) {
        let Some((shard, conn)) = self.members[at].at else { return };
        let bytes = self.process.heard(shard, conn);
        let mut subscribes = false;
        for packet in packets(&bytes) {
            let member = &mut self.members[at];
            match packet {
                Packet::ConnAck(connack) => {
                    assert!(!connack.reason.is_error(), "{}", member.name);
                    assert!(connack.session_present || !member.is_member, "{}: its session is gone", member.name);
                    member.is_in = true;
                    subscribes = !member.is_member;
                }
                Packet::SubAck(suback) => {
                    assert_eq!(suback.codes, [member.qos as u8]);
                    member.is_member |= usize::from(suback.packet_id) == SHARES.len();
                }
                Packet::Publish(publish) => {
                    let number = std::str::from_utf8(publish.payload).expect("text").parse().expect("a number");
                    let identifier = publish.properties.iter().find_map(|property| match property {
                        Property::SubscriptionIdentifier(identifier) => Some(identifier as usize - 1),
                        _ => None,
                    });
                    let message = (identifier.expect("that of a share"), number);
                    member.open.insert(publish.packet_id, (publish.qos, message));
                    self.had.insert(message);
                    let (who, bound) = ((at, member.session), self.bound.get(&message));
                    if publish.qos == QoS::ExactlyOnce && member.has.insert(publish.packet_id) {
                        assert!(bound.is_none(), "{message:?} went to {bound:?} and {who:?} (J9)");
                        self.bound.insert(message, who);
                    } else {
                        assert!(bound.is_none_or(|to| *to == who), "{message:?} went to {bound:?} and {who:?} (J9)");
                    }
                }
                Packet::PubRel(ack) => {
                    member.has.remove(&ack.packet_id);
                    member.releases.push(ack.packet_id);
                }
                other => panic!("{other:?}"),
            }
        }
        if subscribes {
            self.subscribe(at);
        }
    }

    /// A member acknowledges some of what it has been sent, or all.
    fn answer(&mut self, at: usize, all: bool) {
        let (member, random) = (&mut self.members[at], &mut self.random);
        let Some((shard, conn)) = member.at else { return };
        let mut bytes = Vec::new();
        for id in member.releases.drain(..) {
            bytes.extend_from_slice(&ack(PacketType::PubComp, id));
        }
        let acknowledged = &mut self.acknowledged;
        member.open.retain(|id, (qos, message)| {
            if !all && random.u8(..3) == 0 {
                return true;
            }
            let kind = if *qos == QoS::AtLeastOnce { PacketType::PubAck } else { PacketType::PubRec };
            bytes.extend_from_slice(&ack(kind, *id));
            acknowledged.insert(*message);
            false
        });
        self.process.bytes(shard, conn, &bytes);
    }

    fn step(&mut self) {
        let (at, shard) = (self.random.usize(..MEMBERS), self.random.usize(..SHARDS));
        let later = Duration::from_millis(self.random.u64(0..40));
        match self.random.u8(..200) {
            0..60 => {
                if let Some(tight) = &mut self.tight {
                    self.process.shards[shard].table.mailbox = tight.usize(..3);
                }
                self.process.turn(shard, later);
            }
            60..100 => {
                let letters = self.random.usize(1..4);
                self.process.read_mail(shard, letters);
            }
            100..140 => self.publish(shard),
            140..155 => self.publisher_comes(shard),
            155..165 => self.come(at),
            165..172 => self.vanish(at),
            172..190 => self.answer(at, false),
            190..195 => {
                let disk = &mut self.process.shards[shard].table.disk;
                disk.slow = !disk.slow;
            }
            195..197 => (0..SHARDS).for_each(|shard| self.process.turn(shard, Duration::from_millis(600))),
            _ => self.crash(),
        }
        self.hear();
    }

    fn settle_once(&mut self) {
        self.process.settle();
        self.hear();
        (0..MEMBERS).for_each(|at| self.answer(at, true));
    }

    /// All members are there, and everything is acknowledged.
    fn settle(&mut self) {
        self.process.shards.iter_mut().for_each(|of| (of.table.disk.slow, of.table.mailbox) = (false, 16));
        (0..MEMBERS).for_each(|at| self.come(at));
        (0..SHARDS).for_each(|at| self.publisher_comes(at));
        let mut quiet = 0;
        for _ in 0..1_000 {
            self.settle_once();
            let is_open = self.members.iter().any(|member| !member.open.is_empty() || !member.releases.is_empty());
            let left = [M::StoredMessages, M::ShareStoredMessages, M::ShareQueuedMessages];
            let left: u64 = left.map(|metric| self.process.number(metric)).iter().sum();
            let is_open = is_open || self.publishers.iter().any(|publisher| !publisher.open.is_empty());
            quiet = if is_open || left > 0 { 0 } else { quiet + 1 };
            if quiet == 5 {
                return;
            }
        }
        let left = [M::StoredMessages, M::ShareStoredMessages, M::ShareQueuedMessages];
        panic!(
            "{:?} in the log, of shares and waiting though all members are there (J9, J11)",
            left.map(|metric| self.process.number(metric))
        );
    }
}

/// A run under these rules: messages that were judged, and those that waited when a process ended.
pub(crate) fn run(rules: &'static dyn Rules, strategy: &'static str, seed: u64) -> (usize, u64) {
    run_as(rules, (strategy, false), seed)
}

/// The same, mailboxes being full at times or not.
fn run_as(rules: &'static dyn Rules, (strategy, is_tight): (&'static str, bool), seed: u64) -> (usize, u64) {
    println!("seed {seed}");
    let mut world = World::new(rules, strategy, seed);
    world.tight = is_tight.then(|| fastrand::Rng::with_seed(seed));
    for _ in 0..world.random.usize(200..900) {
        world.step();
    }
    world.crash();
    world.settle();
    world.process.power_cut(0);
    world.process.settle();
    let left = [M::StoredMessages, M::ShareQueuedMessages].map(|metric| world.process.number(metric));
    assert_eq!(left, [0, 0], "seed {seed}: messages in the log at rest (J11)");
    let mut judged = 0;
    for number in &world.answered {
        for share in 0..SHARES.len() {
            let message = (share, *number);
            let is_over = world.acknowledged.contains(&message) || world.ended.contains(&message);
            let (qos, bound) = (world.sent[*number as usize], world.bound.get(&message));
            assert!(is_over, "seed {seed}: {message:?} at {qos:?} reached no member, was bound to {bound:?} (J9)");
            judged += usize::from(world.acknowledged.contains(&message));
        }
    }
    (judged, world.waited)
}

/// Two shards had a message that a third one had handed over to the first: it was not looked for there.
const CURED: [u64; 2] = [44, 57];

/// With mailboxes that are full: the next batch came before the letter that gave the one before away; a packet identifier was taken for
/// the one that a shard told of late.
const CURED_TIGHT: [u64; 3] = [138, 181, 1512];

fn judge(strategy: &'static str) {
    judge_as((strategy, false), &CURED);
}

fn judge_as((strategy, is_tight): (&'static str, bool), cured: &[u64]) {
    let (mut judged, mut waited, mut seeds) = (0, 0, 0);
    for seed in super::seeds(0..10).chain(cured.iter().copied()) {
        let of = run_as(&KEPT, (strategy, is_tight), seed);
        (judged, waited, seeds) = (judged + of.0, waited + of.1, seeds + 1);
    }
    assert!(judged > 30 * seeds && waited > 5 * seeds as u64, "{judged} {waited} in {seeds}: little was tried");
}

#[test]
fn what_was_answered_reaches_a_member_through_crashes() {
    judge("round-robin");
}

#[test]
fn the_same_with_mailboxes_that_are_full() {
    judge_as(("round-robin", true), &CURED_TIGHT);
}

#[test]
fn the_same_with_the_least_busy_member_first() {
    judge("least-inflight");
}

#[test]
fn the_same_by_topic() {
    judge("hash-topic");
}

#[test]
fn the_same_by_publisher() {
    judge("hash-client");
}
