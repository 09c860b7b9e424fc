//! Finding S3: what a connection, a session or a timer asks for is done in pieces that keep their place, and others come in between.

use std::time::Duration;

use forebay::limits::{COMPARED_TEXTS_MAX, DEEP_FILTERS_OF_SESSION_MAX};
use forebay::metrics::spec::ShardMetric as M;
use forebay::mqtt::FilterBuf;
use forebay::mqtt::packet::{Packet, Publish, QoS, Unsubscribe, Version};
use forebay::mqtt::property::Properties;
use forebay::runtime::seam::{Closed, ConnId, Shard as _};

use super::subscribe::{PLAIN, bytes_of, heard, in_words, message, publish, subscribe, subscribe_packet, world};
use super::world::World;

/// Packets of a connection in a turn.
const QUANTUM: u32 = 100;

fn short_turns() -> World {
    let mut world = world();
    world.table.quantum = Some(QUANTUM);
    world
}

/// Gives a connection a quantum in each turn until the shard has taken all of these bytes. How many turns that took; between them `others` happens.
fn in_turns(world: &mut World, conn: ConnId, bytes: &[u8], mut others: impl FnMut(&mut World)) -> usize {
    let mut rest = bytes;
    for turn in 1..1_000 {
        world.table.serve_next();
        let taken = world.core.on_bytes(&mut world.table, conn, rest);
        rest = &rest[taken..];
        world.turn();
        if rest.is_empty() {
            return turn;
        }
        others(world);
    }
    panic!("{} bytes are never taken", rest.len());
}

fn names(count: usize) -> Vec<String> {
    (0..count).map(|number| format!("f/{number}")).collect()
}

fn subscribe_to(names: &[String]) -> Vec<u8> {
    let list: Vec<_> = names.iter().map(|name| (name.as_str(), PLAIN)).collect();
    subscribe_packet(Version::V5, 0, &list)
}

fn unsubscribe_from(names: &[String]) -> Vec<u8> {
    let mut filters = FilterBuf::for_unsubscribe();
    names.iter().for_each(|name| assert!(filters.push(name, PLAIN)));
    let packet = Unsubscribe { packet_id: 9, properties: Properties::EMPTY, filters: filters.as_filters() };
    bytes_of(Version::V5, &Packet::Unsubscribe(packet))
}

fn at_qos_1(topic: &str, packet_id: u16) -> Vec<u8> {
    bytes_of(Version::V5, &Packet::Publish(Publish { qos: QoS::AtLeastOnce, packet_id, ..message(topic, "x") }))
}

#[test]
fn finding_s3_subscribe_and_unsubscribe_of_many_filters_keep_their_place() {
    let mut world = short_turns();
    let (conn, other) = (world.device_v5("many"), world.device_v5("other"));
    subscribe(&mut world, other, Version::V5, 0, &[("o", PLAIN)]);
    let names = names(350);
    for (packet, first, subscriptions) in [(subscribe_to(&names), 0x90, 351), (unsubscribe_from(&names), 0xB0, 1)] {
        // Behind it a message on one of its topics, and one in the next bytes.
        let bytes = [packet, at_qos_1("f/349", 1)].concat();
        let (mut between, mut answered_early) = (0, false);
        let turns = in_turns(&mut world, conn, &bytes, |world| {
            answered_early |= !world.sent(conn).is_empty();
            publish(world, other, Version::V5, message("o", "between"));
            between += heard(world, other, Version::V5).len();
        });
        assert!(turns >= 4, "{turns} turns");
        assert_eq!((between, answered_early), (turns - 1, false), "others are served, and nothing of it is answered");
        let out = world.sent(conn);
        assert_eq!(out[0], first);
        let words = in_words(&out, Version::V5);
        let copies = words.iter().filter(|word| *word == "f/349 x").count();
        assert_eq!((words.len(), copies), if first == 0x90 { (3, 1) } else { (2, 0) }, "{words:?}");
        assert_eq!(world.number(M::Subscriptions), subscriptions);
    }
}

/// Its next connection begins from the start, and what the first part has entered is the session's.
#[test]
fn finding_s3_a_connection_that_ends_within_a_subscribe_leaves_no_trace() {
    let mut world = short_turns();
    let names = names(350);
    let bytes = subscribe_to(&names);
    let (first, _) = world.kept_v5("many");
    world.table.serve_next();
    assert_eq!(world.core.on_bytes(&mut world.table, first, &bytes), 0);
    world.turn();
    assert_eq!(world.number(M::Subscriptions), u64::from(QUANTUM));
    world.table.wire(first).closed = true;
    world.core.on_close(&mut world.table, first, Closed::Peer);
    world.turn();
    world.table.release(first);
    let (second, _) = world.kept_v5("many");
    in_turns(&mut world, second, &unsubscribe_from(&names[..5]), |_| {});
    let codes = world.sent(second);
    assert_eq!((codes[0], &codes[codes.len() - 5..]), (0xB0, &[0; 5][..]), "it had them");
    in_turns(&mut world, second, &bytes, |_| {});
    assert_eq!((world.sent(second)[0], world.number(M::Subscriptions)), (0x90, 350));
}

/// In the pieces in which they come: half packets as well.
#[test]
fn finding_s3_a_flood_is_taken_in_quanta_and_in_order() {
    let mut world = short_turns();
    let (conn, other) = (world.device_v5("flood"), world.device_v5("other"));
    subscribe(&mut world, other, Version::V5, 0, &[("f/#", PLAIN)]);
    let packet = |number: usize| bytes_of(Version::V5, &Packet::Publish(message(&format!("f/{number}"), "x")));
    let bytes: Vec<u8> = (0..1_000).flat_map(packet).collect();
    let mut got = Vec::new();
    let (mut turns, mut most) = (0, 0);
    for piece in bytes.chunks(4_093) {
        turns += in_turns(&mut world, conn, piece, |world| {
            let some = heard(world, other, Version::V5);
            most = most.max(some.len());
            got.extend(some);
        });
        got.extend(heard(&mut world, other, Version::V5));
    }
    assert!((10..=20).contains(&turns) && most <= QUANTUM as usize, "{turns} turns, {most} packets in one");
    assert!(got.into_iter().eq((0..1_000).map(|number| format!("f/{number} x"))));
}

/// They are with the shard, and nothing brings them again.
#[test]
fn finding_s3_what_comes_with_a_connect_is_taken_in_quanta() {
    let mut world = short_turns();
    let other = world.device_v5("other");
    subscribe(&mut world, other, Version::V5, 0, &[("f/#", PLAIN)]);
    let mut bytes = vec![0x10, 14, 0, 4, b'M', b'Q', b'T', b'T', 5, 2, 0, 0, 0, 0, 1, b'c'];
    bytes.extend(
        (0..350).flat_map(|number| bytes_of(Version::V5, &Packet::Publish(message(&format!("f/{number}"), "x")))),
    );
    let conn = world.accept();
    world.table.serve_next();
    assert_eq!(world.core.on_bytes(&mut world.table, conn, &bytes), bytes.len());
    let mut got = Vec::new();
    for turn in 0..4 {
        assert!(turn == 0 || std::mem::take(&mut world.table.goes_on), "the next turn waits for nothing");
        world.core.on_turn_end(&mut world.table);
        let some = heard(&mut world, other, Version::V5);
        assert!((1..=2 * QUANTUM as usize).contains(&some.len()), "{} in turn {turn}", some.len());
        got.extend(some);
        if got.len() == 350 {
            break;
        }
    }
    assert!(got.into_iter().eq((0..350).map(|number| format!("f/{number} x"))));
    assert!(!world.table.wire(conn).paused, "it is read again");
}

fn with_will(world: &mut World, name: &str) -> ConnId {
    let mut bytes = vec![0x10, 0, 0, 4, b'M', b'Q', b'T', b'T', 5, 6, 0, 0, 0];
    bytes.extend([0, name.len() as u8]);
    bytes.extend(name.as_bytes());
    bytes.extend([0, 0, 1, b'w', 0, 1, b'x']);
    bytes[1] = u8::try_from(bytes.len() - 2).expect("short");
    let conn = world.accept();
    world.bytes(conn, &bytes);
    world.sent(conn);
    conn
}

#[test]
fn finding_s3_wills_leave_a_turn_its_time() {
    const WILLS: usize = 100;
    let mut world = world();
    let other = world.device_v5("other");
    subscribe(&mut world, other, Version::V5, 0, &[("w", PLAIN)]);
    let all: Vec<_> = (0..WILLS).map(|number| with_will(&mut world, &format!("c{number}"))).collect();
    for conn in all {
        world.table.wire(conn).closed = true;
        world.core.on_close(&mut world.table, conn, Closed::Peer);
    }
    world.table.is_over = true;
    // First the sessions end, some in each turn, then the wills go.
    let mut turns = 0;
    while world.number(M::Wills) == 0 {
        world.core.on_turn_end(&mut world.table);
        turns += 1;
        assert!(turns < WILLS && std::mem::take(&mut world.table.goes_on), "turn {turns}");
    }
    let first = world.number(M::Wills);
    assert!((1..20).contains(&first) && turns > 1, "{first} in turn {turns}");
    // One who is back hears of its own will before what it publishes, wherever it stands.
    let conn = world.accept();
    let mut bytes = vec![0x10, 0, 0, 4, b'M', b'Q', b'T', b'T', 5, 2, 0, 0, 0, 0, 3, b'c', b'9', b'9'];
    bytes[1] = u8::try_from(bytes.len() - 2).expect("short");
    bytes.extend(bytes_of(Version::V5, &Packet::Publish(message("w", "back"))));
    world.core.on_bytes(&mut world.table, conn, &bytes);
    world.turn();
    let got = heard(&mut world, other, Version::V5);
    assert_eq!((world.number(M::Wills), got.len()), (WILLS as u64, WILLS + 1));
    assert_eq!(got.iter().position(|word| word == "w back"), Some(first as usize + 1));
}

/// At QoS 1 and with what waits for it: it is said that nothing is lost, and nothing more is held.
#[test]
fn finding_s3_sessions_that_end_together_leave_a_turn_its_time() {
    let mut world = world();
    let names = names(50);
    let all: Vec<_> = (0..20).map(|number| world.device_v5(&format!("c{number}"))).collect();
    for conn in &all {
        let list: Vec<_> = names.iter().map(|name| (name.as_str(), PLAIN)).collect();
        subscribe(&mut world, *conn, Version::V5, 0, &list);
    }
    assert_eq!(world.number(M::Subscriptions), 1_000);
    for conn in all {
        world.table.wire(conn).closed = true;
        world.core.on_close(&mut world.table, conn, Closed::Peer);
    }
    world.table.is_over = true;
    world.core.on_turn_end(&mut world.table);
    assert!(world.table.goes_on, "some are left");
    let publisher = world.device_v5("p");
    publish(&mut world, publisher, Version::V5, message("f/7", "x"));
    world.advance(Duration::from_millis(1));
    assert_eq!(world.number(M::Subscriptions), 0);
}

#[test]
fn finding_s3_filters_of_many_levels_are_few() {
    let mut world = world();
    let deep = |client: usize, number: usize| format!("x/+/{}{client}/{number}", "a/".repeat(32));
    let mut granted = 0;
    for client in 0..4 {
        let conn = world.device_v5(&format!("c{client}"));
        let filters: Vec<_> = (0..50).map(|number| deep(client, number)).collect();
        let list: Vec<_> = filters.iter().map(|filter| (filter.as_str(), PLAIN)).collect();
        let codes = subscribe(&mut world, conn, Version::V5, 0, &list);
        let some = codes.iter().filter(|code| **code == 0).count();
        assert!(some <= DEEP_FILTERS_OF_SESSION_MAX && codes.iter().all(|code| matches!(code, 0 | 0x97)), "{codes:?}");
        granted += some;
        // Those that it has it may ask for again, and for others below another prefix, and for all that are not as deep.
        if some > 0 {
            assert_eq!(subscribe(&mut world, conn, Version::V5, 0, &list[..1]), [0]);
        }
        if some == 0 {
            assert_eq!(
                subscribe(&mut world, conn, Version::V5, 0, &[(&deep(0, 0).replacen("x/", "y/", 1), PLAIN)]),
                [0]
            );
        }
        assert_eq!(subscribe(&mut world, conn, Version::V5, 0, &[("x/+/a/a/a/a/a/b", PLAIN)]), [0]);
    }
    assert_eq!(granted, COMPARED_TEXTS_MAX);
    let publisher = world.device_v5("p");
    let first = deep(0, 0).replace('+', "y");
    world.table.quantum = Some(1_000);
    world.table.serve_next();
    let flood: Vec<u8> = (0..100).flat_map(|_| bytes_of(Version::V5, &Packet::Publish(message(&first, "x")))).collect();
    let taken = world.core.on_bytes(&mut world.table, publisher, &flood);
    assert!(taken < flood.len() / 2, "a message that is compared with many filters counts as several");
}
