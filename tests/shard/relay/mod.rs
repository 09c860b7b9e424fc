//! Clients whose slot another instance has: relayed, redirected, left waiting. Two instances or more, with links between them.

mod answers;
mod real;
mod rights;
mod trunks;
mod world;

use std::time::Duration;

use forebay::limits::{SENT_AHEAD_BYTES_MAX, STREAM_WINDOW_BYTES};
use forebay::metrics::event::Kind as EventKind;
use forebay::metrics::spec::ShardMetric as M;
use forebay::mqtt::packet::{ConnAck, Connect, Disconnect, Packet, Publish, QoS, Sender, Version, Will};
use forebay::mqtt::property::{Properties, Property, PropertyBuf};
use forebay::mqtt::{decode, frame};
use forebay::shard::mail::{Mail, ToShard};

use self::world::World;
use super::subscribe::{PLAIN, bytes_of, message, subscribe_packet};
use super::world::ONE_SINK;

const DISCONNECT: &[u8] = &[0xE0, 0];

fn text() -> String {
    ONE_SINK.replace("\"#\"", "\"to/kafka/#\"")
}

fn hello(client_id: &str) -> Connect<'_> {
    crate::hello::hello(Version::V5, client_id)
}

fn connect(client_id: &str) -> Vec<u8> {
    bytes_of(Version::V5, &Packet::Connect(hello(client_id)))
}

/// The packets in these bytes, in words; the last one may not be whole.
fn packets(version: Version, bytes: &[u8]) -> Vec<String> {
    let (mut rest, mut all) = (bytes, Vec::new());
    while let Some(frame) = frame::next(rest, u32::MAX).expect("well formed") {
        rest = &rest[frame.len..];
        all.push(match decode::decode(version, Sender::Server, frame).expect("well formed") {
            Packet::ConnAck(ConnAck { reason, properties, .. }) => {
                let server = properties.server_reference().map(|server| format!(" {server}")).unwrap_or_default();
                format!("CONNACK {:#04x}{server}", reason.0)
            }
            Packet::Publish(publish) => format!("{} {}", publish.topic, String::from_utf8_lossy(publish.payload)),
            Packet::Disconnect(Disconnect { reason, .. }) => format!("DISCONNECT {:#04x}", reason.0),
            Packet::SubAck(_) => "SUBACK".to_owned(),
            Packet::PubAck(_) => "PUBACK".to_owned(),
            Packet::PingResp => "PINGRESP".to_owned(),
            other => format!("{other:?}"),
        });
    }
    assert!(rest.is_empty(), "{rest:?}");
    all
}

impl World {
    /// What a client of 5.0 has been sent.
    fn words(&mut self, client: usize) -> Vec<String> {
        packets(Version::V5, &self.heard(client))
    }

    /// A client of 5.0 that is connected by an instance.
    fn connected(&mut self, front: usize, client_id: &str) -> usize {
        let client = self.open(front);
        self.say(client, &connect(client_id));
        assert_eq!(self.words(client), ["CONNACK 0x00"], "{client_id}");
        client
    }
}

fn publish(topic: &str, payload: &str) -> Vec<u8> {
    bytes_of(Version::V5, &Packet::Publish(message(topic, payload)))
}

fn subscribe(filter: &str) -> Vec<u8> {
    subscribe_packet(Version::V5, 0, &[(filter, PLAIN)])
}

#[test]
fn a_client_is_served_by_the_owner_of_its_slot_wherever_it_connects() {
    for shards in [1, 3] {
        let mut world = World::new(3, shards, &text());
        for id in ["a", "b"] {
            world.give(id, Some(1));
        }
        let (a, b) = (world.connected(0, "a"), world.connected(2, "b"));
        world.say(a, &subscribe("t/#"));
        world.say(b, &publish("t/1", "x"));
        assert_eq!(world.words(a), ["SUBACK", "t/1 x"]);
        world.say(a, &[0xC0, 0]);
        assert_eq!(world.words(a), ["PINGRESP"]);
        let sessions = |world: &World| [0, 1, 2].map(|instance| world.number(instance, M::Sessions));
        assert_eq!(sessions(&world), [0, 2, 0]);
        // The front counts them at its listener, and the owner does not.
        assert_eq!([0, 1, 2].map(|instance| world.of_listener(instance)), [1, 0, 1]);
        assert_eq!([0, 1, 2].map(|instance| world.number(instance, M::Relayed)), [1, 0, 1]);
        assert_eq!([0, 1, 2].map(|instance| world.number(instance, M::RelayedHere)), [0, 2, 0]);
        // The owner knows the client's address and its front.
        let shown = world.shown(1, "a").and_then(|client| client.connection).expect("connected");
        assert_eq!(shown.peer, "203.0.113.7:4000".parse().ok());
        assert_eq!(shown.front.as_deref(), Some("eu-0"));
        assert!(world.shown(0, "a").is_none());
        world.leave(a, DISCONNECT);
        world.leave(b, &[]);
        assert_eq!(sessions(&world), [0, 0, 0]);
        assert!(world.clients.iter().all(|client| client.is_over) && world.is_at_rest());
    }
}

#[test]
fn a_client_whose_slot_is_here_is_not_relayed() {
    let mut world = World::new(2, 2, &text());
    world.give("a", Some(0));
    let a = world.connected(0, "a");
    assert_eq!((world.number(0, M::Relayed), world.number(0, M::RelaysMade), world.of_listener(0)), (0, 0, 1));
    assert!(world.shown(0, "a").and_then(|client| client.connection).expect("connected").front.is_none());
    world.leave(a, &[]);
    assert!(world.is_at_rest());
}

/// What follows CONNECT in the same bytes, and comes while the owner has not answered, is passed on in order.
#[test]
fn what_follows_connect_is_not_lost() {
    for cut in 0..60 {
        let mut world = World::new(2, 1, &text());
        world.give("a", Some(1));
        let a = world.open(0);
        let numbers: Vec<String> = (0..5).map(|n| n.to_string()).collect();
        let publishes: Vec<Vec<u8>> = numbers.iter().map(|n| publish("t", n)).collect();
        let all = [connect("a"), subscribe("t"), publishes.concat()].concat();
        let (first, second) = all.split_at(cut.min(all.len()));
        world.say(a, first);
        world.say(a, second);
        let told: Vec<String> = numbers.iter().map(|n| format!("t {n}")).collect();
        assert_eq!(world.words(a), [vec!["CONNACK 0x00".to_owned(), "SUBACK".to_owned()], told].concat(), "{cut}");
    }
}

#[test]
fn a_second_connection_takes_over_through_another_front() {
    for (first, second) in [(0, 2), (2, 2), (0, 1), (1, 0)] {
        let mut world = World::new(3, 2, &text());
        world.give("a", Some(1));
        let old = world.connected(first, "a");
        let new = world.connected(second, "a");
        assert_eq!((world.words(old), world.clients[old].is_over), (vec!["DISCONNECT 0x8e".to_owned()], true));
        assert_eq!((world.number(1, M::Takeovers), world.number(1, M::Sessions)), (1, 1));
        world.say(new, &[0xC0, 0]);
        assert_eq!(world.words(new), ["PINGRESP"]);
        world.leave(new, DISCONNECT);
        assert!(world.is_at_rest());
    }
}

/// However bytes are cut and delayed: the owner hears the DISCONNECT before the end of the connection, so that no will is sent; and a client
/// hears why it is disconnected before its connection ends.
#[test]
fn a_disconnect_is_not_overtaken_by_the_end_of_its_connection() {
    for seed in super::seeds(0..50) {
        let mut world = World::with(2, 2, &text(), "", Some(seed));
        let (a, b) = ("a", "listener");
        world.give(a, Some(1));
        world.give(b, Some(1));
        let listener = world.connected(1, b);
        world.say(listener, &subscribe("#"));
        let will = Will {
            qos: QoS::AtMostOnce,
            retain: false,
            topic: "will",
            payload: b"gone",
            properties: Properties::EMPTY,
        };
        let with_will = bytes_of(Version::V5, &Packet::Connect(Connect { will: Some(will), ..hello(a) }));
        let numbers: Vec<String> = (0..40).map(|n| format!("number {n}")).collect();
        let publishes: Vec<u8> = numbers.iter().flat_map(|n| publish("t", n)).collect();
        let client = world.open(0);
        let is_told = seed % 2 == 0;
        world.leave(client, &[&with_will[..], &publishes, if is_told { DISCONNECT } else { &[] }].concat());
        let mut expected: Vec<String> = numbers.iter().map(|n| format!("t {n}")).collect();
        expected.insert(0, "SUBACK".to_owned());
        expected.extend((!is_told).then(|| "will gone".to_owned()));
        assert_eq!(world.words(listener), expected, "seed {seed}");

        // The other direction: what the owner says last.
        let client = world.open(0);
        world.say(client, &[connect(a), subscribe("t")].concat());
        world.words(client);
        world.clients[listener].is_deaf = true;
        world.say(listener, &publishes);
        // A second CONNECT is a violation.
        world.say(client, &connect(a));
        let words = world.words(client);
        assert_eq!((words.len(), words.last().map(String::as_str)), (41, Some("DISCONNECT 0x82")), "seed {seed}");
        assert!(world.clients[client].is_over);
    }
}

/// Whatever comes between, a relayed client hears what one that is connected to the owner does.
#[test]
fn a_relayed_client_hears_what_a_direct_one_does() {
    for seed in super::seeds(0..30) {
        let mut random = fastrand::Rng::with_seed(seed);
        let script: Vec<Vec<u8>> = (0..random.u16(1..30))
            .map(|n| match random.u8(..6) {
                0 => subscribe("t/#"),
                1 => vec![0xC0, 0],
                2 => publish("t/a", &"x".repeat(random.usize(..3_000))),
                3 => bytes_of(
                    Version::V5,
                    &Packet::Publish(Publish { qos: QoS::AtLeastOnce, packet_id: n + 1, ..message("t/b", "y") }),
                ),
                4 => publish("elsewhere", "z"),
                _ if random.u8(..10) == 0 => b"\xff\xff".to_vec(),
                _ => publish("t/c", &n.to_string()),
            })
            .collect();
        let ends = random.bool();
        let mut heard = [0, 1].map(|front| {
            let mut world = World::with(2, 2, &text(), "", Some(seed));
            world.give("a", Some(1));
            let client = world.open(front);
            world.say(client, &connect("a"));
            for bytes in &script {
                world.say(client, bytes);
            }
            if ends {
                world.leave(client, DISCONNECT);
            }
            (world.heard(client), world.clients[client].is_over)
        });
        // The CONNACK of a direct client is the same, and all that follows.
        assert!(heard[0].0.len() > 3, "seed {seed}");
        let relayed = std::mem::take(&mut heard[0]);
        assert!(relayed == heard[1], "seed {seed}");
    }
}

#[test]
fn a_client_waits_for_an_owner_as_long_as_a_connect_may_take() {
    for version in [Version::V5, Version::V311] {
        let connect = bytes_of(version, &Packet::Connect(Connect { version, ..hello("a") }));
        let mut world = World::new(2, 1, &text());
        let clients = [world.open(0), world.open(0)];
        world.say(clients[0], &connect);
        world.advance(Duration::from_secs(9));
        assert_eq!((world.number(0, M::RelaysWaiting), world.number(0, M::Unauthenticated)), (1, 2));
        assert!(world.heard(clients[0]).is_empty());
        world.advance(Duration::from_secs(2));
        // Before 5.0 its code is 3, which means the same.
        assert_eq!(packets(version, &world.heard(clients[0])), ["CONNACK 0x88"]);
        assert!(world.clients.iter().all(|client| client.is_over), "the other one has sent nothing");
        assert_eq!((world.number(0, M::RelaysTimedOut), world.number(0, M::ConnectTimeouts)), (1, 1));
        assert!(world.is_at_rest());
        // As soon as there is one, wherever it is.
        for owner in [1, 0] {
            world.give("a", None);
            let client = world.open(0);
            world.say(client, &connect);
            world.advance(Duration::from_secs(5));
            assert!(world.heard(client).is_empty());
            world.give("a", Some(owner));
            world.advance(Duration::from_millis(40));
            assert_eq!(packets(version, &world.heard(client)), ["CONNACK 0x00"], "owner {owner}");
            world.say(client, &[0xC0, 0]);
            assert_eq!(world.heard(client), [0xD0, 0]);
            world.leave(client, DISCONNECT);
            assert!(world.is_at_rest());
        }
    }
}

#[test]
fn an_owner_that_cannot_be_reached_is_tried_again_and_another_one_is_taken() {
    let mut world = World::new(3, 1, &text());
    world.give("a", Some(1));
    world.kill(1);
    let client = world.open(0);
    world.say(client, &connect("a"));
    world.advance(Duration::from_secs(1));
    let failed = world.number(0, M::RelaysFailed);
    assert!((5..=11).contains(&failed), "{failed} attempts within a second");
    assert!(world.told(0, EventKind::LinkFailed) > 0 && world.heard(client).is_empty());
    world.give("a", Some(2));
    world.advance(Duration::from_millis(200));
    assert_eq!(world.words(client), ["CONNACK 0x00"]);
    assert_eq!((world.number(0, M::Relayed), world.number(0, M::RelaysMade)), (1, 1));
    world.kill(2);
    assert!(world.clients[client].is_over, "its session is gone with the instance");
    assert!(world.is_at_rest());
}

/// An instance has given others the address of another one: both sides say so, and clients are served as soon as it is right.
#[test]
fn finding_q65_a_link_that_leads_to_another_instance_is_told() {
    let mut world = World::new(3, 1, &text());
    world.give("a", Some(1));
    let address = world.instances[0].peers.table().instances[1].link.to_string();
    let other = world.instances[0].peers.table().instances[2].link.to_string();
    world.move_link(1, &other);
    let client = world.open(0);
    world.say(client, &connect("a"));
    world.advance(Duration::from_secs(1));
    assert!(world.heard(client).is_empty() && world.number(0, M::RelaysFailed) > 1);
    assert!(world.told(0, EventKind::LinkFailed) > 0 && world.told(2, EventKind::LinkRefused) > 0);
    assert!(world.number(2, M::LinksRefused) > 1 && world.number(2, M::LinksMisrouted) == 0);
    world.move_link(1, &address);
    world.advance(Duration::from_millis(300));
    assert_eq!(world.words(client), ["CONNACK 0x00"]);
    world.leave(client, DISCONNECT);
    world.advance(Duration::from_secs(20));
    assert!(world.is_at_rest());
}

/// An owner that has gone without a word, or stands still, has lost the slot to another one.
#[test]
fn a_relayed_client_whose_slot_has_moved_is_closed() {
    let mut world = World::new(3, 1, &text());
    // All three have slots of their own.
    let ids: Vec<String> = (0..64).map(|number| format!("c{number}")).collect();
    ids.iter().for_each(|id| world.give(id, Some(1)));
    let (moved, other) = ("c0", ids.iter().find(|id| !world.is_same_slot("c0", id)).expect("another slot"));
    let clients = [moved, other].map(|id| world.connected(0, id));
    world.instances[1].is_still = true;
    // Nobody has it while it moves: the owner may still say why it ends.
    world.give(moved, None);
    world.advance(Duration::from_secs(2));
    assert!(clients.iter().all(|client| !world.clients[*client].is_over));
    world.give(moved, Some(2));
    world.advance(Duration::from_secs(1));
    assert_eq!(clients.map(|client| world.clients[client].is_over), [true, false]);
    assert_eq!((world.number(0, M::RelaysMoved), world.number(0, M::Relayed)), (1, 1));
    let again = world.connected(0, moved);
    world.leave(again, DISCONNECT);
    // The process that has it is another one: it was started again.
    world.restart_of(1);
    world.advance(Duration::from_secs(1));
    assert!(world.clients[clients[1]].is_over && world.number(0, M::Relayed) == 0);
}

#[test]
fn a_connect_that_a_still_owner_has_goes_to_the_next_one() {
    let mut world = World::new(3, 1, &text());
    world.give("a", Some(1));
    world.instances[1].is_still = true;
    let client = world.open(0);
    world.say(client, &connect("a"));
    world.advance(Duration::from_secs(3));
    assert_eq!((world.number(0, M::RelaysWaiting), world.number(0, M::RelaysFailed)), (1, 0));
    world.give("a", Some(2));
    world.advance(Duration::from_secs(1));
    assert_eq!(world.words(client), ["CONNACK 0x00"]);
    world.say(client, &[0xC0, 0]);
    assert_eq!(world.words(client), ["PINGRESP"]);
    // The one that stood still goes on, and finds that it is too late.
    world.instances[1].is_still = false;
    world.advance(Duration::from_secs(1));
    assert_eq!((world.number(1, M::Sessions), world.number(1, M::ConnectionsOpen)), (0, 0));
    world.leave(client, DISCONNECT);
    assert!(world.is_at_rest());
}

#[test]
fn one_hop_and_no_more() {
    let mut world = World::new(3, 1, &text());
    // The front has an old table: it sends the client to one that does not have the slot any more.
    world.tell(0, "a", Some(1));
    world.tell(1, "a", Some(2));
    world.tell(2, "a", Some(2));
    let client = world.open(0);
    world.say(client, &connect("a"));
    assert_eq!((world.number(1, M::LinksMisrouted), world.number(1, M::Relayed)), (1, 0));
    assert_eq!((world.heard(client), world.number(0, M::RelaysWaiting)), (vec![], 1));
    // Nobody has it: that is the same.
    world.tell(1, "a", None);
    world.advance(Duration::from_millis(150));
    assert!(world.number(1, M::LinksMisrouted) > 1 && !world.clients[client].is_over);
    assert_eq!(world.number(1, M::RelaysWaiting), 0, "the front waits, and not the owner that was");
    world.tell(0, "a", Some(2));
    world.advance(Duration::from_millis(150));
    assert_eq!(world.words(client), ["CONNACK 0x00"]);
    assert_eq!(world.told(0, EventKind::LinkFailed), 0, "nothing is wrong");
    world.leave(client, &[]);
    assert!(world.is_at_rest());
}

#[test]
fn a_client_that_goes_while_it_waits_leaves_nothing() {
    for (owner, is_up) in [(None, true), (Some(1), true), (Some(1), false)] {
        let mut world = World::new(2, 1, &text());
        world.give("a", owner);
        if !is_up {
            world.kill(1);
        }
        let client = world.open(0);
        world.say(client, &connect("a"));
        world.leave(client, &[]);
        world.advance(Duration::from_secs(11));
        assert!(world.clients[client].is_over && world.is_at_rest(), "{owner:?}");
    }
}

/// The end of a client that waits for an owner is noticed: its CONNECT, and what it has sent after it, are not processed once there is an owner. The client may
/// have completed that elsewhere.
#[test]
fn a_client_that_has_gone_is_not_served_later() {
    for shards in [1, 3] {
        for owner in [0, 1] {
            let mut world = World::new(2, shards, &text());
            world.give("a", None);
            let client = world.open(0);
            world.say(client, &[connect("a"), publish("t", "1")].concat());
            assert_eq!(world.number(0, M::RelaysWaiting), 1);
            world.leave(client, &publish("t", "2"));
            assert_eq!((world.number(0, M::RelaysWaiting), world.clients[client].is_over), (0, true));
            world.give("a", Some(owner));
            world.advance(Duration::from_secs(1));
            let served = (0..2).map(|instance| world.number(instance, M::Sessions)).sum::<u64>();
            assert_eq!(served, 0, "{shards} shards, owner {owner}");
            assert!(world.is_at_rest());
        }
    }
}

/// A client that waits is read only up to a bound.
#[test]
fn a_client_that_waits_is_read_up_to_a_bound() {
    let mut world = World::new(2, 1, &text());
    world.give("a", None);
    let client = world.open(0);
    world.say(client, &connect("a"));
    let payload = "p".repeat(1_000);
    world.say(client, &subscribe("t"));
    (0..200).for_each(|_| world.say(client, &publish("t", &payload)));
    let held = world.number(0, M::PartialBytes);
    assert!((64 << 10..=66 << 10).contains(&held), "{held}");
    world.give("a", Some(1));
    world.advance(Duration::from_millis(100));
    assert_eq!((world.words(client).len(), world.number(0, M::PartialBytes)), (202, 0));
}

#[test]
fn a_client_is_redirected_once_and_then_relayed() {
    let mut world = World::with(2, 1, &text(), "mqtt-{}.example:1883", None);
    world.give("a", Some(1));
    let client = world.open(0);
    world.say(client, &connect("a"));
    assert_eq!(world.words(client), ["CONNACK 0x9c mqtt-1.example:1883"]);
    assert!(world.clients[client].is_over);
    // It does not follow.
    world.advance(Duration::from_secs(30));
    let client = world.connected(0, "a");
    world.leave(client, DISCONNECT);
    // A minute later it is told again.
    world.advance(Duration::from_secs(31));
    let client = world.open(0);
    world.say(client, &connect("a"));
    assert_eq!(world.words(client), ["CONNACK 0x9c mqtt-1.example:1883"]);
    assert_eq!((world.number(0, M::Redirected), world.number(0, M::RelaysMade)), (2, 1));
    assert!(world.is_at_rest());
}

#[test]
fn who_cannot_be_redirected_is_relayed() {
    let mut world = World::with(2, 1, &text(), "mqtt-{}.example:1883", None);
    world.give("a", Some(1));
    // Before 5.0 there is no word for it.
    for version in [Version::V311, Version::V31] {
        let client = world.open(0);
        world.say(client, &bytes_of(version, &Packet::Connect(Connect { version, ..hello("a") })));
        assert_eq!(packets(version, &world.heard(client)), ["CONNACK 0x00"]);
        world.leave(client, DISCONNECT);
    }
    // The CONNACK would be too large for it.
    let mut properties = PropertyBuf::new();
    properties.push(Property::MaximumPacketSize(20));
    let small = Connect { properties: properties.as_properties(), ..hello("a") };
    let client = world.open(0);
    world.say(client, &bytes_of(Version::V5, &Packet::Connect(small)));
    let told = world.words(client);
    assert!(told.iter().all(|told| !told.contains("0x9c")), "{told:?}");
    world.leave(client, &[]);
    // The front's own clients stay.
    world.give("a", Some(0));
    world.connected(0, "a");
    assert_eq!(world.number(0, M::Redirected), 0);
    // An instance without a Server Reference gets them relayed.
    let mut world = World::new(2, 1, &text());
    world.give("a", Some(1));
    world.connected(0, "a");
}

/// A client that does not read holds its own publisher back, as it would at the owner, and the front keeps little of it.
#[test]
fn a_side_that_does_not_read_holds_the_other_one_back() {
    let mut world = World::new(2, 1, &text());
    world.give("a", Some(1));
    let client = world.connected(0, "a");
    world.say(client, &subscribe("t"));
    world.words(client);
    world.clients[client].is_deaf = true;
    let big = publish("t", &"x".repeat(8_000));
    for _ in 0..200 {
        world.say(client, &big);
    }
    let front = &world.instances[0].shards[0].table;
    let most = front.wires.iter().map(|wire| wire.out.len()).max().unwrap_or(0);
    assert!(most <= 2 * SENT_AHEAD_BYTES_MAX, "{most} bytes in the front");
    assert!(!front.wires.iter().any(|wire| wire.outgoing.is_some() && wire.paused), "the trunk is read for others");
    let (held, window) = (world.number(0, M::TrunkHeldBytes), STREAM_WINDOW_BYTES as u64);
    assert!((window / 2..=window).contains(&held), "{held} bytes wait for the client");
    world.clients[client].is_deaf = false;
    world.settle();
    let (heard, sent) = (world.words(client), 200);
    assert!(!heard.is_empty() && heard.len() <= sent && heard.iter().all(|told| told.starts_with("t x")));
    assert_eq!(world.number(0, M::TrunkHeldBytes), 0);
    assert!(!world.instances[0].shards[0].table.wires.iter().any(|wire| wire.paused));
    world.say(client, &[0xC0, 0]);
    assert_eq!(world.words(client).last().map(String::as_str), Some("PINGRESP"), "it goes on");
    world.leave(client, DISCONNECT);
    assert!(world.is_at_rest());
}

#[test]
fn an_end_of_the_front_ends_its_relays() {
    let mut world = World::new(2, 1, &text());
    world.give("a", Some(1));
    let client = world.connected(0, "a");
    world.give("b", None);
    let waiting = world.open(0);
    world.say(waiting, &connect("b"));
    world.mail(0, || Mail::Shard(ToShard::Drain { grace: Duration::from_secs(5) }));
    world.advance(Duration::from_secs(1));
    assert!(world.clients[client].is_over && world.clients[waiting].is_over);
    assert!(world.instances[0].shards[0].table.stopped);
    assert_eq!((world.number(1, M::Sessions), world.number(1, M::RelayedHere)), (0, 0));
}

#[test]
fn as_many_wait_as_may() {
    let text = format!("{}\n[mqtt]\nunauthenticated_max = 100\n", text());
    let mut world = World::new(2, 1, &text);
    for number in 0..150 {
        let client = world.open(0);
        world.say(client, &connect(&format!("c{number}")));
    }
    assert_eq!((world.number(0, M::RelaysWaiting), world.number(0, M::DoorFull)), (100, 50));
    (0..200).for_each(|number| world.give(&format!("c{number}"), Some(1)));
    world.advance(Duration::from_millis(50));
    assert_eq!((world.number(0, M::RelaysWaiting), world.number(0, M::Relayed)), (0, 100));
    assert_eq!(world.number(1, M::Sessions), 100);
}
