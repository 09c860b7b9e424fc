//! Trunks between instances: the protocol as the owner takes it, and clients that share them.

use std::time::Duration;

use forebay::link::{ANSWER_LEN, Header};
use forebay::metrics::event::Kind as EventKind;
use forebay::metrics::spec::ShardMetric as M;
use forebay::mqtt::packet::Version;
use forebay::trunk::{Preface, since_stamp};

use super::world::World;
use super::{DISCONNECT, connect, packets, publish, subscribe, text};

fn preface(front: &str, shard: u16) -> Vec<u8> {
    let mut bytes = Vec::new();
    Preface { front: front.into(), shard }.write(&mut bytes);
    bytes
}

/// The header of a stream.
fn header(front: &str) -> Vec<u8> {
    let header = Header {
        source: None,
        front: front.into(),
        generation: 1,
        listener: "127.0.0.1:1883".into(),
        waited: Duration::ZERO,
        stood_still: Duration::ZERO,
        stamp: None,
        owner: "".into(),
        client: None,
    };
    let mut bytes = Vec::new();
    assert!(header.write(&mut bytes));
    bytes
}

/// A frame that opens a stream, and one with these bytes of it.
fn opened(stream: u8, bytes: &[u8]) -> Vec<u8> {
    [&[1, 0, 0, 0, 0, 0, 0, stream][..], &frame(stream, bytes)].concat()
}

fn frame(stream: u8, bytes: &[u8]) -> Vec<u8> {
    let length = u16::try_from(bytes.len()).expect("short").to_be_bytes();
    [&[2, 0, length[0], length[1], 0, 0, 0, stream][..], bytes].concat()
}

const CLOSED: [u8; 4] = [4, 0, 0, 0];
const RESET: [u8; 4] = [5, 1, 0, 0];

#[test]
fn strangers_at_the_port_for_other_instances_get_nothing() {
    let mut world = World::new(2, 1, &text());
    world.give("a", Some(1));
    // From an address that no instance has it is not even read.
    let stranger = world.knock(1, [10, 0, 1, 99]);
    world.say(stranger, &[preface("eu-0", 0), opened(0, &[header("eu-0"), connect("a")].concat())].concat());
    assert!(world.clients[stranger].is_over && world.heard(stranger).is_empty());
    let own = [10, 0, 0, 1];
    let mut of_later_version = preface("eu-0", 0);
    of_later_version[14] += 1;
    let refused: [Vec<u8>; 7] = [
        connect("a"),
        header("eu-0"),
        preface("eu-7", 0),
        of_later_version,
        b"GET / HTTP/1.1\r\n\r\n".to_vec(),
        vec![0; 100],
        // No frame.
        [&preface("eu-0", 0)[..], &[9; 8]].concat(),
    ];
    for bytes in &refused {
        let stranger = world.knock(1, own);
        world.say(stranger, &[&bytes[..], &opened(0, &connect("a"))].concat());
        assert!(world.clients[stranger].is_over && world.heard(stranger).is_empty(), "{bytes:?}");
    }
    assert_eq!(world.number(1, M::LinksRefused), 8);
    assert!(world.told(1, EventKind::LinkRefused) > 0);
    // Silence, and a preface without its end, last as long as a CONNECT may take; and so does a stream.
    let silent = [world.knock(1, own), world.knock(1, own)];
    world.say(silent[1], &preface("eu-0", 0)[..20]);
    let front = world.knock(1, own);
    world.say(front, &[preface("eu-0", 0), opened(3, &header("eu-0")[..20]), opened(4, &header("eu-0"))].concat());
    world.advance(Duration::from_secs(9));
    assert!(silent.iter().all(|client| !world.clients[*client].is_over));
    // Stamps: credit of no stream, twice a second.
    let stamps = world.heard(front);
    assert!(stamps.len() >= 18 * 8 && stamps.chunks(8).all(|stamp| stamp[0] == 3 && stamp[4..] == [0xff; 4]));
    assert_eq!(world.number(1, M::Unauthenticated), 4);
    world.advance(Duration::from_secs(2));
    assert!(silent.iter().all(|client| world.clients[*client].is_over) && !world.clients[front].is_over);
    let said = [[&CLOSED[..], &[0, 0, 0, 3]].concat(), [&CLOSED[..], &[0, 0, 0, 4]].concat()].concat();
    let heard = world.heard(front);
    let of_streams = heard.chunks(8).filter(|frame| frame[4..] != [0xff; 4]);
    assert_eq!(of_streams.collect::<Vec<_>>().concat(), said);
    assert_eq!(world.number(1, M::Sessions), 0);
    // A stream is refused alone: its client is of an instance that is none.
    let begin = |stream, front: &str, id: &str| opened(stream, &[header(front), connect(id)].concat());
    world.say(front, &begin(5, "eu-7", "a"));
    assert_eq!(world.heard(front), [&CLOSED[..], &[0, 0, 0, 5]].concat());
    // Streams of other instances are taken.
    world.say(front, &begin(6, "eu-0", "a"));
    let said = world.heard(front);
    assert_eq!((said[0], &said[4..8]), (2, &[0, 0, 0, 6][..]));
    let (process, said) = said[8..].split_at(ANSWER_LEN);
    assert_eq!((process, packets(Version::V5, said)), (&1_u128.to_be_bytes()[..], vec!["CONNACK 0x00".to_owned()]));
    // And their clients are not served elsewhere.
    world.give("b", Some(0));
    world.say(front, &begin(7, "eu-0", "b"));
    assert_eq!(world.heard(front), [&CLOSED[..], &[0, 0, 0, 7]].concat());
    // An instance that has left the table opens nothing more over the trunk that it has.
    world.move_link(0, "192.0.2.1:1885");
    world.say(front, &begin(8, "eu-0", "a"));
    assert_eq!(world.heard(front), [&RESET[..], &[0, 0, 0, 8]].concat());
    assert_eq!(world.number(1, M::LinksRefused), 10);
    world.leave(front, &[]);
    assert_eq!((world.number(1, M::Trunks), world.number(1, M::Sessions)), (0, 0));
    assert!(world.is_at_rest());
}

/// Clients of one slot share a connection, whatever shard of the owner has them.
#[test]
fn many_clients_share_a_trunk() {
    let mut world = World::new(2, 3, &text());
    let ids: Vec<String> = (0..60).map(|number| format!("c{number}")).collect();
    ids.iter().for_each(|id| world.give(id, Some(1)));
    let clients: Vec<usize> = ids.iter().map(|id| world.connected(0, id)).collect();
    assert_eq!((world.number(0, M::Trunks), world.number(1, M::Trunks)), (3, 3));
    assert_eq!((world.number(1, M::Sessions), world.number(1, M::RelayedHere)), (60, 60));
    assert_eq!((world.number(0, M::RelaysFailed), world.number(1, M::LinksMisrouted)), (0, 0));
    // The front knows the shard of each slot by now.
    let opened = world.number(1, M::ConnectionsAccepted);
    clients.iter().for_each(|client| world.leave(*client, DISCONNECT));
    assert!(world.is_at_rest());
    let clients: Vec<usize> = ids.iter().map(|id| world.connected(0, id)).collect();
    assert_eq!(world.number(1, M::ConnectionsAccepted), opened + 60);
    // A client that reads nothing holds up nobody.
    world.say(clients[0], &subscribe("t"));
    world.words(clients[0]);
    world.clients[clients[0]].is_deaf = true;
    let big = publish("t", &"x".repeat(8_000));
    for _ in 0..100 {
        world.say(clients[1], &big);
    }
    for client in &clients[2..] {
        world.say(*client, &[0xC0, 0]);
        assert_eq!(world.words(*client), ["PINGRESP"]);
    }
    world.clients[clients[0]].is_deaf = false;
    world.settle();
    assert!(world.words(clients[0]).len() > 10);
    clients.iter().for_each(|client| world.leave(*client, DISCONNECT));
    world.advance(Duration::from_secs(11));
    assert_eq!((world.number(0, M::Trunks), world.number(1, M::Trunks)), (0, 0), "nobody needs them any more");
    assert!(world.is_at_rest());
}

/// An owner that goes without a word is not waited for by those that come later.
#[test]
fn a_trunk_that_does_not_answer_gets_no_more_clients() {
    let mut world = World::new(2, 1, &text());
    world.give("a", Some(1));
    let first = world.connected(0, "a");
    world.instances[1].is_still = true;
    let second = world.open(0);
    world.say(second, &connect("a"));
    world.advance(Duration::from_secs(1));
    let third = world.open(0);
    world.say(third, &connect("a"));
    assert_eq!(world.number(0, M::Trunks), 1);
    world.advance(Duration::from_secs(2));
    let fourth = world.open(0);
    world.say(fourth, &connect("a"));
    assert_eq!(world.number(0, M::Trunks), 2);
    world.instances[1].is_still = false;
    world.settle();
    let words: Vec<_> = [first, second, third, fourth].iter().flat_map(|client| world.words(*client)).collect();
    assert_eq!(words.iter().filter(|word| *word == "CONNACK 0x00").count(), 3);
    assert_eq!(world.number(1, M::Sessions), 1);
}

/// A CONNECT that has waited for its trunk says so: its client may have connected elsewhere meanwhile.
#[test]
fn a_connect_tells_how_long_it_has_waited_for_its_trunk() {
    let mut world = World::new(2, 1, &text());
    world.give("a", Some(1));
    (world.instances[1].is_far, world.instances[1].is_still) = (true, true);
    let client = world.open(0);
    world.say(client, &connect("a"));
    world.advance(Duration::from_millis(1_500));
    world.say(client, &subscribe("t"));
    assert!(world.on_the_way_to(1).is_empty());
    world.instances[1].is_far = false;
    world.settle();
    let said = world.on_the_way_to(1);
    let (_, preface) = Preface::read(&said).expect("well formed").expect("whole");
    // OPEN, and the head of the bytes.
    let (header, _) = Header::read(&said[preface + 16..]).expect("well formed").expect("whole");
    assert_eq!(header.waited, Duration::from_millis(1_500));
    world.instances[1].is_still = false;
    world.settle();
    assert_eq!(world.words(client), ["CONNACK 0x00", "SUBACK"]);
}

/// A CONNECT that has not waited may have been on its way to the owner for seconds: its header names the last stamp of the owner.
#[test]
fn a_connect_names_the_last_stamp() {
    let mut world = World::new(2, 1, &text());
    ["a", "b"].iter().for_each(|id| world.give(id, Some(1)));
    world.connected(0, "b");
    let stamped = world.instances[1].shards[0].table.now;
    world.advance(Duration::from_millis(1_200));
    world.instances[1].is_still = true;
    let client = world.open(0);
    world.say(client, &connect("a"));
    let said = world.on_the_way_to(1);
    let (header, _) = Header::read(&said[16..]).expect("well formed").expect("whole");
    // The first stamp comes with the trunk, and one each 500 ms after that.
    let age = since_stamp(header.stamp.expect("a stamp"), stamped.after(Duration::from_millis(1_200)));
    assert!((Duration::from_millis(150)..=Duration::from_millis(250)).contains(&age), "{age:?}");
    world.instances[1].is_still = false;
    world.settle();
    assert_eq!(world.words(client), ["CONNACK 0x00"]);
}
