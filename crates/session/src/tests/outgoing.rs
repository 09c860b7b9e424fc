//! Messages of QoS 1 and 2 to a client: order, identifiers, its send quota, and repeats.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU32;
use std::rc::Rc;

use proptest::prelude::*;

use super::*;
use crate::item::LOOKS;
use forebay_mqtt::encode;
use forebay_mqtt::packet::PacketType;

/// A session, its client's end of the connection, and the messages for it.
struct World {
    shard: Shard,
    client: Client,
    version: Version,
    quota: u16,
    held: Rc<Remembered>,
    bounds: QueueBounds,
    /// Bytes that have not been read.
    wire: Vec<u8>,
}

impl World {
    fn new(version: Version, quota: u16) -> Self {
        let mut shard = Shard::default();
        let client = connected(&mut shard, version, quota);
        Self { shard, client, version, quota, held: Rc::default(), bounds: QueueBounds::default(), wire: Vec::new() }
    }

    fn session(&mut self) -> &mut Session {
        self.shard.sessions.get_mut(self.client.key).expect("it is kept")
    }

    fn message(&self, topic: &str, properties: Properties<'_>) -> Rc<Body> {
        let publish = Publish {
            dup: false,
            qos: QoS::ExactlyOnce,
            retain: false,
            topic,
            packet_id: 1,
            properties,
            payload: b"x",
        };
        let mut packet = Vec::new();
        encode::publish(Version::V5, &publish, &mut packet).expect("small");
        Body::new(packet, self.shard.now, 0, &self.held)
    }

    /// Hands over a message, and writes it if it must be written at once, as the shard does.
    fn hand(&mut self, qos: QoS, topic: &str) -> Handed {
        let (body, bounds, held) = (self.message(topic, Properties::EMPTY), self.bounds, Rc::clone(&self.held));
        let copy = Copy { qos, retain: false, identifiers: Box::default(), share: None };
        let handed = self.session().hand(copy, (0, Monotonic(0)), (false, false), (bounds, &held), || body);
        if let Handed::Now(packet_id) = handed {
            let properties = Properties::EMPTY;
            let publish = Publish { dup: false, qos, retain: false, topic, packet_id, properties, payload: b"x" };
            encode::publish(self.version, &publish, &mut self.wire).expect("small");
        }
        handed
    }

    fn pump(&mut self) -> Pumped {
        let (now, unsent) = (self.shard.now, self.wire.len());
        let mut wire = std::mem::take(&mut self.wire);
        let pumped = self.session().pump(now, unsent, &mut wire, None);
        self.wire = wire;
        pumped
    }

    /// The client acknowledges.
    fn say(&mut self, kind: PacketType, id: u16, reason: ReasonCode) {
        let ack = Ack { packet_id: id, reason, properties: Properties::EMPTY };
        let packet = match kind {
            PacketType::PubAck => Packet::PubAck(ack),
            PacketType::PubRec => Packet::PubRec(ack),
            _ => Packet::PubComp(ack),
        };
        let mut wire = std::mem::take(&mut self.wire);
        assert_eq!(self.session().packet(&packet, &mut wire), Next::Go);
        self.wire = wire;
        self.pump();
    }

    fn acknowledge(&mut self, kind: PacketType, id: u16) {
        self.say(kind, id, ReasonCode::SUCCESS);
    }

    /// The connection breaks, and the client is back.
    fn reconnect(&mut self, quota: u16) {
        self.wire.clear();
        let (key, conn, now) = (self.client.key, self.client.conn, self.shard.now);
        self.shard.sessions.disconnected(key, conn, End::Lost, now);
        self.quota = quota;
        self.client = connected(&mut self.shard, self.version, quota);
        assert_eq!(self.client.key, key, "its session is there");
        self.pump();
    }

    /// The packets to the client: packet type, identifier, DUP, topic.
    fn heard(&mut self) -> Vec<(PacketType, u16, bool, String)> {
        let wire = std::mem::take(&mut self.wire);
        let (mut rest, mut all) = (&wire[..], Vec::new());
        while let Some(frame) = frame::next(rest, u32::MAX).expect("well formed") {
            rest = &rest[frame.len..];
            all.push(match decode(self.version, Sender::Server, frame).expect("well formed") {
                Packet::Publish(publish) => {
                    (PacketType::Publish, publish.packet_id, publish.dup, publish.topic.to_owned())
                }
                Packet::PubRel(ack) => (PacketType::PubRel, ack.packet_id, false, String::new()),
                other => panic!("{other:?}"),
            });
        }
        assert!(rest.is_empty());
        all
    }

    /// The same packets in short: `1 a`, `dup 1 a`, `rel 1`.
    fn words(&mut self) -> Vec<String> {
        let word = |(kind, id, dup, topic)| match kind {
            PacketType::PubRel => format!("rel {id}"),
            _ => format!("{}{id} {topic}", if dup { "dup " } else { "" }),
        };
        self.heard().into_iter().map(word).collect()
    }
}

fn connected(shard: &mut Shard, version: Version, quota: u16) -> Client {
    let asked = properties(&[Property::ReceiveMaximum(quota), Property::SessionExpiryInterval(3600)]);
    let properties = if version == Version::V5 { asked.as_properties() } else { Properties::EMPTY };
    let client = shard.connect(&Connect { properties, ..connect(version, "c", false) });
    shard.heard(client.conn);
    client
}

use PacketType::{PubAck, PubComp, PubRec};
use QoS::{AtLeastOnce, ExactlyOnce};

/// [MQTT-4.9.0-1] [MQTT-4.9.0-2] [MQTT-4.3.2-3]
#[test]
fn a_client_is_sent_no_more_than_its_receive_maximum_and_the_rest_in_order() {
    let mut world = World::new(Version::V5, 2);
    for topic in ["a", "b", "c", "d"] {
        world.hand(AtLeastOnce, topic);
    }
    assert_eq!(world.pump().sent, 0, "[MQTT-3.3.4-9]");
    assert_eq!(world.words(), ["1 a", "2 b"]);
    assert_eq!(world.session().copies(), (2, 2));
    world.acknowledge(PubAck, 2);
    assert_eq!(world.words(), ["3 c"], "an answer out of order counts as any other");
    world.acknowledge(PubAck, 7);
    world.acknowledge(PubComp, 3);
    assert!(world.words().is_empty(), "what was not sent, and what is of another QoS, cannot be acknowledged");
    world.acknowledge(PubAck, 1);
    world.acknowledge(PubAck, 3);
    assert_eq!(world.words(), ["4 d"]);
    world.acknowledge(PubAck, 4);
    assert_eq!(world.session().copies(), (0, 0));
    assert_eq!(world.hand(AtLeastOnce, "e"), Handed::Now(5));
}

/// B3: with quota and room again, new messages go after those that wait.
#[test]
fn nothing_overtakes_what_waits_for_a_client_that_is_slow_to_read() {
    let mut world = World::new(Version::V5, 10);
    assert_eq!(world.hand(AtLeastOnce, "first"), Handed::Now(1));
    let (body, bounds, held) = (world.message("second", Properties::EMPTY), world.bounds, Rc::clone(&world.held));
    let copy = Copy { qos: AtLeastOnce, retain: false, identifiers: Box::default(), share: None };
    assert_eq!(
        world.session().hand(copy, (1 << 20, Monotonic(0)), (false, false), (bounds, &held), || body),
        Handed::Queued,
        "too much is unsent"
    );
    assert_eq!(world.hand(AtLeastOnce, "third"), Handed::Queued);
    world.pump();
    assert_eq!(world.words(), ["1 first", "2 second", "3 third"]);
}

/// B5: copies that are over may still be in the log, so those after them have later numbers.
#[test]
fn numbers_go_on_when_a_client_with_a_session_in_the_log_comes_back() {
    let mut world = World::new(Version::V5, 10);
    world.shard.sessions.keep();
    world.shard.sessions.set_room(usize::MAX);
    world.reconnect(10);
    let sessions = &mut world.shard.sessions;
    let Some(Note::Kept(key)) = sessions.next_note() else { panic!("the session is to be kept") };
    sessions.kept(key, 7, 1);
    assert_eq!(world.hand(AtLeastOnce, "a"), Handed::Now(1));
    world.acknowledge(PubAck, 1);
    world.reconnect(10);
    assert_eq!(world.hand(AtLeastOnce, "b"), Handed::Now(2));
}

/// [MQTT-4.3.3-3] [MQTT-4.3.3-4] [MQTT-4.3.3-5]
#[test]
fn the_exchange_of_qos_2() {
    let mut world = World::new(Version::V5, 2);
    for topic in ["a", "b", "c"] {
        world.hand(ExactlyOnce, topic);
    }
    assert_eq!(world.words(), ["1 a", "2 b"]);
    world.acknowledge(PubRec, 1);
    assert_eq!(world.words(), ["rel 1"], "it counts until PUBCOMP");
    world.acknowledge(PubRec, 1);
    assert_eq!(world.words(), ["rel 1"], "[MQTT-4.3.3-8]");
    world.acknowledge(PubAck, 2);
    world.acknowledge(PubComp, 2);
    assert!(world.words().is_empty(), "neither ends it");
    world.acknowledge(PubComp, 1);
    assert_eq!(world.words(), ["3 c"]);
    world.say(PubRec, 2, ReasonCode::QUOTA_EXCEEDED);
    world.acknowledge(PubRec, 2);
    let mut unknown = Vec::new();
    encode::ack(Version::V5, PacketType::PubRel, 2, ReasonCode::PACKET_IDENTIFIER_NOT_FOUND, &mut unknown);
    assert_eq!(world.wire, unknown, "a refusal has ended it");
}

/// [MQTT-3.3.1-1] [MQTT-4.3.3-6] [3.1.1 MQTT-3.3.1-1] [3.1.1 MQTT-4.4.0-1] [3.1.1 MQTT-4.6.0-1]
#[test]
fn what_is_open_is_sent_again_when_the_client_returns() {
    for version in [Version::V311, Version::V5] {
        let mut world = World::new(version, 4);
        world.hand(AtLeastOnce, "a");
        world.hand(ExactlyOnce, "b");
        world.hand(ExactlyOnce, "c");
        world.acknowledge(PubRec, 2);
        world.heard();
        world.reconnect(4);
        assert_eq!(world.words(), ["dup 1 a", "rel 2", "dup 3 c"], "[MQTT-4.4.0-1] [MQTT-4.6.0-1]");
        world.hand(AtLeastOnce, "d");
        world.acknowledge(PubAck, 1);
        world.acknowledge(PubComp, 2);
        assert_eq!(world.words(), ["4 d"]);
    }
    // A smaller quota than before applies to repeats, too.
    let mut world = World::new(Version::V5, 3);
    for topic in ["a", "b", "c", "d"] {
        world.hand(AtLeastOnce, topic);
    }
    world.reconnect(1);
    assert_eq!(world.words(), ["dup 1 a"]);
    world.acknowledge(PubAck, 2);
    assert!(world.words().is_empty(), "it has not been sent over this connection");
    world.acknowledge(PubAck, 1);
    assert_eq!(world.words(), ["dup 2 b"]);
    // PUBREL does not wait for the quota [MQTT-3.3.4-10].
    let mut world = World::new(Version::V5, 3);
    for topic in ["a", "b", "c", "d"] {
        world.hand(ExactlyOnce, topic);
    }
    (1..=3).for_each(|id| world.acknowledge(PubRec, id));
    world.reconnect(1);
    assert_eq!(world.words(), ["rel 1", "rel 2", "rel 3"]);
    (1..=2).for_each(|id| world.acknowledge(PubComp, id));
    assert!(world.words().is_empty());
    world.acknowledge(PubComp, 3);
    assert_eq!(world.words(), ["4 d"]);
}

#[test]
fn what_waits_has_bounds_and_the_oldest_goes() {
    let mut world = World::new(Version::V5, 1);
    assert_eq!(world.hand(AtLeastOnce, "sent"), Handed::Now(1));
    for number in 0..world.bounds.messages {
        assert_eq!(world.hand(AtLeastOnce, &number.to_string()), Handed::Queued);
    }
    assert_eq!(world.hand(AtLeastOnce, "one more"), Handed::DroppedOldest(1));
    assert_eq!(world.session().copies(), (1, world.bounds.messages));
    world.heard();
    world.acknowledge(PubAck, 1);
    assert_eq!(world.words(), ["3 1"], "the oldest was dropped, and what had been sent was not");

    let mut world = World::new(Version::V5, 1);
    world.hand(AtLeastOnce, "sent");
    let long = "x".repeat(60_000);
    let fit = world.bounds.bytes / 60_010;
    for _ in 0..fit {
        assert_eq!(world.hand(AtLeastOnce, &long), Handed::Queued);
    }
    assert_eq!(world.hand(AtLeastOnce, &long), Handed::DroppedOldest(1));
    assert_eq!(world.session().copies(), (1, fit));
    assert!(world.held.bytes() <= world.bounds.bytes + 60_010);
    let now = world.shard.now;
    world.shard.sessions.disconnected(world.client.key, world.client.conn, End::Lost, now);
    world.shard.sessions.forget(world.client.key);
    let discarded: Vec<_> = world.shard.sessions.take_discarded().into_iter().map(|(_, gone)| gone.count).collect();
    assert_eq!(discarded, [1 + fit as u64]);
    assert_eq!(world.held.bytes(), 0, "nothing is remembered for a session that has ended");
    assert_eq!([Place::Queued, Place::InFlight].map(|place| world.held.copies(place)), [0, 0]);
}

#[test]
fn the_newest_may_be_dropped_instead() {
    let mut world = World::new(Version::V5, 1);
    world.bounds = QueueBounds { messages: 2, drops_newest: true, ..world.bounds };
    for (topic, handed) in [("1", Handed::Now(1)), ("2", Handed::Queued), ("3", Handed::Queued), ("4", Handed::Dropped)]
    {
        assert_eq!(world.hand(AtLeastOnce, topic), handed, "{topic}");
    }
    world.heard();
    world.acknowledge(PubAck, 1);
    assert_eq!(world.words(), ["2 2"]);
    assert_eq!(world.hand(AtLeastOnce, "5"), Handed::Queued);
}

#[test]
fn what_has_expired_or_is_too_large_is_not_sent() {
    let mut world = World::new(Version::V5, 1);
    world.hand(AtLeastOnce, "sent");
    let expiry = properties(&[Property::MessageExpiryInterval(5)]);
    for topic in ["expires", "expires, too"] {
        let (body, held) = (world.message(topic, expiry.as_properties()), Rc::clone(&world.held));
        world.session().hand(
            Copy { qos: AtLeastOnce, retain: false, identifiers: Box::default(), share: None },
            (0, Monotonic(0)),
            (false, false),
            (QueueBounds::default(), &held),
            || body,
        );
    }
    world.hand(AtLeastOnce, "stays");
    world.shard.now = world.shard.now.after(Duration::from_secs(4));
    world.heard();
    world.acknowledge(PubAck, 1);
    let left = frame::next(&world.wire, u32::MAX).expect("well formed").expect("a packet");
    match decode(Version::V5, Sender::Server, left).expect("well formed") {
        Packet::Publish(publish) => {
            assert_eq!(publish.properties.message_expiry_interval_s(), Some(1), "[MQTT-3.3.2-6]")
        }
        other => panic!("{other:?}"),
    }
    world.heard();
    world.shard.now = world.shard.now.after(Duration::from_secs(1));
    world.acknowledge(PubAck, 2);
    assert_eq!(world.words(), ["4 stays"], "[MQTT-3.3.2-5]");
    // A message that was sent once does not expire.
    let (body, held) = (world.message("sent again", expiry.as_properties()), Rc::clone(&world.held));
    world.session().hand(
        Copy { qos: AtLeastOnce, retain: false, identifiers: Box::default(), share: None },
        (0, Monotonic(0)),
        (false, false),
        (QueueBounds::default(), &held),
        || body,
    );
    world.acknowledge(PubAck, 4);
    world.shard.now = world.shard.now.after(Duration::from_secs(60));
    world.reconnect(1);
    assert_eq!(world.words(), ["dup 5 sent again"]);
}

/// [MQTT-2.2.1-4] [MQTT-4.3.2-1]
#[test]
fn a_packet_identifier_is_not_used_again_while_its_message_is_open() {
    let mut world = World::new(Version::V5, 2);
    world.hand(AtLeastOnce, "never acknowledged");
    world.heard();
    for number in 0..70_000_u32 {
        match world.hand(AtLeastOnce, "t") {
            Handed::Now(id) => {
                assert_ne!(id, 1, "it is open");
                world.heard();
                world.acknowledge(PubAck, id);
            }
            handed => {
                assert_eq!((number, handed), (65_533, Handed::Queued), "all others were used that copies have");
                assert_eq!(world.pump().sent, 0);
                world.acknowledge(PubAck, 1);
                assert_eq!(world.words(), ["1 t"]);
                return;
            }
        }
    }
    panic!("it was never held up");
}

#[derive(Clone, Debug)]
enum Step {
    Hand(QoS),
    /// The client reads this many packets and keeps those that it has to answer.
    Read(usize),
    /// The client answers one of those.
    Answer(usize),
    Reconnect(u16),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => prop_oneof![Just(AtLeastOnce), Just(ExactlyOnce)].prop_map(Step::Hand),
        3 => (1usize..5).prop_map(Step::Read),
        5 => (0usize..8).prop_map(Step::Answer),
        1 => (1u16..5).prop_map(Step::Reconnect),
    ]
}

/// A client that keeps to the standard, its answers late and in any order.
#[derive(Default)]
struct Model {
    /// Packets sent on this connection and not ended: the answer that each needs.
    open: BTreeMap<u16, PacketType>,
    /// Answers under way.
    owed: Vec<(PacketType, u16)>,
    /// QoS 2 identifiers with a message that the client has.
    known: BTreeSet<u16>,
    /// Messages handed on, by QoS.
    got: [Vec<u32>; 2],
    /// Copies of QoS 1 that the client may get once more.
    seen: BTreeSet<u32>,
}

impl Model {
    fn hear(&mut self, kind: PacketType, id: u16, dup: bool, topic: &str, quota: u16) {
        if kind == PacketType::PubRel {
            self.known.remove(&id);
            self.open.insert(id, PubComp);
            self.owed.push((PubComp, id));
            return;
        }
        let (of, number) = topic.split_once('/').expect("as it was handed over");
        let number: u32 = number.parse().expect("a number");
        assert!(!self.open.contains_key(&id), "J4: identifier {id} is open");
        assert!(self.open.len() < usize::from(quota), "J4: more than Receive Maximum");
        let answer = if of == "1" { PubAck } else { PubRec };
        self.open.insert(id, answer);
        self.owed.push((answer, id));
        if of == "1" {
            assert!(dup || !self.seen.contains(&number), "J4: a repeat without DUP");
            if self.seen.insert(number) {
                self.got[0].push(number);
            }
        } else if self.known.insert(id) {
            self.got[1].push(number);
        } else {
            assert!(dup, "J4: a repeat without DUP");
        }
    }
}

proptest! {
    #[test]
    fn every_message_arrives_in_order_whatever_breaks(steps in prop::collection::vec(step(), 1..200)) {
        let mut world = World::new(Version::V5, 3);
        let mut model = Model::default();
        let mut handed = [0u32; 2];
        let mut unread: std::collections::VecDeque<(PacketType, u16, bool, String)> = Default::default();
        let last = [Step::Read(10_000), Step::Answer(0)].into_iter().cycle().take(4_000);
        for step in steps.into_iter().chain(last) {
            unread.extend(world.heard());
            match step {
                Step::Hand(qos) => {
                    let of = usize::from(qos as u8) - 1;
                    world.hand(qos, &format!("{}/{}", of + 1, handed[of]));
                    handed[of] += 1;
                }
                Step::Read(count) => {
                    for (kind, id, dup, topic) in unread.drain(..count.min(unread.len())) {
                        model.hear(kind, id, dup, &topic, world.quota);
                    }
                }
                Step::Answer(which) if which < model.owed.len() => {
                    let (kind, id) = model.owed.remove(which);
                    if kind != PubRec {
                        model.open.remove(&id);
                    }
                    world.acknowledge(kind, id);
                }
                Step::Answer(_) => {}
                Step::Reconnect(quota) => {
                    unread.clear();
                    model.open.clear();
                    model.owed.clear();
                    world.reconnect(quota);
                }
            }
            let open = [Place::Queued, Place::InFlight].map(|place| world.held.copies(place)).iter().sum::<usize>();
            let all = u64::from(handed[0] + handed[1]);
            prop_assert_eq!(open as u64 + world.held.acknowledged(), all, "each is in one place (B15)");
        }
        for (got, handed) in model.got.iter().zip(handed) {
            prop_assert_eq!(got, &(0..handed).collect::<Vec<_>>());
        }
        prop_assert_eq!(world.session().copies(), (0, 0));
        prop_assert_eq!(world.held.bytes(), 0);
        prop_assert_eq!(world.held.acknowledged(), u64::from(handed[0] + handed[1]));
    }
}

#[test]
fn the_age_of_the_oldest_and_the_counts_follow_what_a_session_holds() {
    let mut world = World::new(Version::V5, 1);
    let start = world.shard.now;
    let later = |s| start.after(Duration::from_secs(s));
    let counts = |world: &World| [Place::Queued, Place::InFlight].map(|place| world.held.copies(place));
    world.hand(AtLeastOnce, "first");
    world.shard.now = later(10);
    world.hand(AtLeastOnce, "second");
    world.hand(AtLeastOnce, "third");
    assert_eq!(counts(&world), [2, 1]);
    assert_eq!(world.session().oldest_copies(), (Some(start), Some(later(10))));
    let bytes = ["second", "third"].map(|topic| world.message(topic, Properties::EMPTY).packet().len());
    assert_eq!(world.session().queued_bytes(), bytes.iter().sum::<usize>());
    world.shard.now = later(20);
    world.acknowledge(PubAck, 1);
    assert_eq!((world.held.oldest(), counts(&world)), (Some(later(10)), [1, 1]));
    let (key, conn, now) = (world.client.key, world.client.conn, world.shard.now);
    world.shard.sessions.disconnected(key, conn, End::Lost, now);
    assert_eq!((counts(&world), world.session().oldest_copies()), ([1, 1], (None, Some(later(10)))));
    assert_eq!(world.shard.sessions.forget(key), None);
    drop(world.shard.sessions.take_discarded());
    assert_eq!((world.held.oldest(), counts(&world)), (None, [0, 0]), "its session has ended");
}

/// The messages remembered until they are acknowledged have a bound in bytes, too, whatever Receive Maximum is.
#[test]
fn large_messages_wait_for_acknowledgements() {
    let topic = "x".repeat(60_000);
    let (most, all) = ((4 << 20) / 60_000 + 1, 100);
    for qos in [AtLeastOnce, ExactlyOnce] {
        let mut world = World::new(Version::V5, 1_000);
        let handed: Vec<_> = (0..all).map(|_| world.hand(qos, &topic)).collect();
        let sent = handed.iter().filter(|handed| matches!(handed, Handed::Now(_))).count();
        assert!((most..=most + 1).contains(&sent), "{sent}");
        world.wire.clear();
        assert_eq!(world.pump().sent, 0);
        // PUBREC is an acknowledgement: its message is forgotten.
        let kind = if qos == AtLeastOnce { PubAck } else { PubRec };
        for id in 1..=all {
            world.wire.clear();
            world.acknowledge(kind, id as u16);
            let (open, _) = world.session().copies();
            let open = if qos == AtLeastOnce { open } else { open - id };
            assert_eq!(open, sent.min(all - id), "after {id}");
        }
        // The bound also applies to copies that are sent again.
        (0..all).for_each(|_| assert_ne!(world.hand(qos, &topic), Handed::Dropped));
        world.reconnect(1_000);
        for _ in 0..all {
            world.wire.clear();
            world.pump();
        }
        let (open, _) = world.session().copies();
        let open = if qos == AtLeastOnce { open } else { open - all };
        assert_eq!(open, sent);
    }
}

/// The number of copies that `work` looked at.
fn looks(work: impl FnOnce()) -> usize {
    let before = LOOKS.get();
    work();
    LOOKS.get() - before
}

/// A session with this many restored copies at QoS 2, which may not be dropped.
fn full_since_a_start(copies: u64) -> World {
    let mut world = World::new(Version::V5, 10);
    let (key, conn, now, held) = (world.client.key, world.client.conn, world.shard.now, Rc::clone(&world.held));
    world.shard.sessions.disconnected(key, conn, End::Lost, now);
    let copy = Copy { qos: ExactlyOnce, retain: false, identifiers: Box::default(), share: None };
    let copies = (0..copies).map(|number| (number, copy.clone(), world.message("t", Properties::EMPTY)));
    let copies: Vec<_> = copies.collect();
    world.bounds = QueueBounds { messages: copies.len(), ..world.bounds };
    world.shard.sessions.restore_queue(key, copies, None, &held);
    world
}

/// However many of those there are, a new message looks at few of them.
#[test]
fn what_may_not_be_dropped_is_looked_at_once() {
    let mut world = full_since_a_start(5_000);
    assert_eq!(world.hand(AtLeastOnce, "first"), Handed::Queued, "nothing may go for it");
    let looks =
        looks(|| (0..1_000).for_each(|_| assert_eq!(world.hand(AtLeastOnce, "more"), Handed::DroppedOldest(1))));
    assert!(looks < 5_000, "{looks}");
}

/// The record of a queue takes time in proportion to its contents, however long the queue is.
#[test]
fn a_long_queue_is_written_down_fast() {
    let mut world = full_since_a_start(5_000);
    let looked = looks(|| assert!(world.session().save_queue().is_none(), "it is in no log"));
    assert_eq!(looked, 0);
    let outgoing = world.session().outgoing.as_deref().expect("it has copies");
    let looked = looks(|| assert_eq!(outgoing.run_from(0), 5_000));
    assert!(looked < 20, "{looked}");
}

/// A client without checked permissions is sent the waiting copies without a look at them.
#[test]
fn where_nothing_is_checked_nothing_is_looked_at() {
    let mut world = full_since_a_start(5_000);
    assert_eq!(looks(|| world.session().check_what_waits()), 0);
}

/// Decision 0199: a record is open while a copy that is in no log may be lost with the process, and is met when its client has the
/// copy.
#[test]
fn a_record_is_open_until_its_client_has_it() {
    let record = |number| Claimed { shard: 1, reader: 2, number };
    let mut world = World::new(Version::V5, 3);
    let hand = |world: &mut World, qos, number| {
        let held = Rc::clone(&world.held);
        let packet = world.message("t", Properties::EMPTY).packet().to_vec();
        let body = Body::claiming(packet, world.shard.now, 0, Claim::new(record(number), None, &held));
        let copy = Copy { qos, retain: false, identifiers: Box::default(), share: None };
        world.session().hand(copy, (0, Monotonic(0)), (false, true), (QueueBounds::default(), &held), || body)
    };
    let met = |number| Settled { record: record(number), is_met: true };
    assert_eq!(hand(&mut world, AtLeastOnce, 1), Handed::Now(1));
    assert_eq!(hand(&mut world, ExactlyOnce, 2), Handed::Now(2));
    assert_eq!(world.held.take_settled(), []);
    world.acknowledge(PubAck, 1);
    assert_eq!(world.held.take_settled(), [met(1)]);
    world.acknowledge(PubRec, 2);
    assert_eq!(world.held.take_settled(), [met(2)], "PUBREC: the client has it");
    // A kept session has the copy when its client is away, and sends it again.
    assert_eq!(hand(&mut world, AtLeastOnce, 3), Handed::Now(3));
    world.acknowledge(PubComp, 2);
    world.heard();
    world.reconnect(3);
    assert_eq!(world.held.take_settled(), [met(3)]);
    assert_eq!(world.words(), ["dup 3 t"]);
    // A refusal is an answer, too.
    assert_eq!(hand(&mut world, AtLeastOnce, 4), Handed::Now(4));
    world.say(PubAck, 4, ReasonCode::UNSPECIFIED_ERROR);
    drop(world.session().take_dropped());
    assert_eq!(world.held.take_settled(), [met(4)]);
    // A session that ends with its connection does not have it either.
    let clean = world.shard.connect(&connect(Version::V5, "clean", true));
    let held = Rc::clone(&world.held);
    let body = Body::claiming(vec![1], world.shard.now, 0, Claim::new(record(5), None, &held));
    let copy = Copy { qos: AtLeastOnce, retain: false, identifiers: Box::default(), share: None };
    let session = world.shard.sessions.get_mut(clean.key).expect("it is there");
    session.hand(copy, (0, Monotonic(0)), (false, true), (QueueBounds::default(), &held), || body);
    world.shard.sessions.disconnected(clean.key, clean.conn, End::Lost, world.shard.now);
    drop(world.shard.sessions.take_discarded());
    assert_eq!(world.held.take_settled(), [Settled { record: record(5), is_met: false }]);
}

/// A session that moves to another instance takes along the copies in its log: the record of a message of a share that only memory
/// has goes to another member. A session that ends with its connection has ended, and no other gets its messages [MQTT-4.8.2-5].
#[test]
fn the_record_of_a_message_that_only_memory_has_goes_to_another_member_when_its_session_moves() {
    for ends in [false, true] {
        let mut world = World::new(Version::V5, 3);
        let clean = world.shard.connect(&connect(Version::V5, "clean", true));
        let key = if ends { clean.key } else { world.client.key };
        let (record, held) = (Claimed { shard: 1, reader: 2, number: 3 }, Rc::clone(&world.held));
        let body = Body::claiming(vec![1], world.shard.now, 0, Claim::new(record, None, &held));
        let copy = Copy { qos: ExactlyOnce, retain: false, identifiers: Box::default(), share: Some(NonZeroU32::MIN) };
        let session = world.shard.sessions.get_mut(key).expect("it is there");
        session.hand(copy, (0, Monotonic(0)), (false, true), (QueueBounds::default(), &held), || body);
        assert_eq!(world.shard.sessions.let_go(key), 1);
        assert_eq!(world.held.take_settled(), [Settled { record, is_met: ends }]);
    }
}
