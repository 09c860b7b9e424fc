//! Order of a connected client's messages after a crash, if the log of its slot had no room for some of them and then has room for later ones.

use std::time::Duration;

use forebay::metrics::spec::ShardMetric as M;
use forebay::mqtt::packet::Version;
use forebay::runtime::seam::ConnId;

use super::conformance::words;
use super::positions::{connect, crash, step, subscribe, until_quiet};
use super::slot_full::{is_read, take_all, write};
use super::slot_full_qos2::{begun, many, places, turn};
use super::slots::{heard, until};
use super::world::World;

/// Records for a client that acknowledges nothing: one before the log is full, some while it is, and some after that. `one_by_one`: it is sent one message at a
/// time.
fn some_without_room(qos: u8, one_by_one: bool) -> (World, String, Vec<usize>) {
    let (mut world, id) = begun();
    let conn = if one_by_one { is_sent_one(&mut world, &id) } else { connect(&mut world, &id).0 };
    subscribe(&mut world, conn, b't', qos);
    let full: Vec<u8> = [b't'].into_iter().chain(many()).chain([b't'; 4]).collect();
    write(&mut world, full.clone());
    until(&mut world, |world| (world.number(M::SlotsFull) == 1).then_some(()));
    until(&mut world, |world| (world.number(M::SlotsFull) == 0 && is_read(world)).then_some(()));
    write(&mut world, [b't'; 4]);
    until(&mut world, |world| is_read(world).then_some(()));
    let last = full.len() + 4;
    (world, id, [0].into_iter().chain(last - 8..last).collect())
}

fn is_sent_one(world: &mut World, id: &str) -> ConnId {
    let conn = world.connect_v5(id, &[0, 0, 0, 8, 0x11, 0, 0, 0x0E, 0x10, 0x21, 0, 1]);
    assert!(heard(world, conn)[0].starts_with("connack"));
    conn
}

#[test]
fn at_qos_1_a_client_gets_messages_in_order_after_a_crash() {
    for one_by_one in [false, true] {
        for turns in (0..60).step_by(4) {
            let (mut world, id, all) = some_without_room(1, one_by_one);
            (0..turns).for_each(|_| turn(&mut world));
            crash(&mut world, 0..1, 2);
            let (conn, was_there, came) = connect(&mut world, &id);
            assert!(was_there, "the session is there");
            assert_eq!(take_all(&mut world, (conn, came)), all, "after {turns} turns, one by one: {one_by_one}");
        }
    }
}

#[test]
fn at_qos_2_a_client_gets_messages_in_order_after_a_crash() {
    for turns in (0..60).step_by(4) {
        let (mut world, id, all) = some_without_room(2, true);
        (0..turns).for_each(|_| turn(&mut world));
        crash(&mut world, 0..1, 2);
        let (conn, _, mut said) = connect(&mut world, &id);
        let (mut has, mut held) = (Vec::new(), Vec::new());
        for quiet in 0..200 {
            step(&mut world, conn, said, (&mut has, &mut held));
            if has.len() >= all.len() && quiet >= 30 {
                break;
            }
            said = words(Version::V5, &until_quiet(&mut world, conn));
        }
        assert_eq!(places(&has), all, "after {turns} turns");
    }
}

/// More copies wait for room than the queue of their client may hold. It acknowledges each at once, and has nothing to acknowledge when there is room.
#[test]
fn a_client_with_a_full_queue_gets_what_waited_for_room() {
    for qos in [1, 2] {
        let (mut world, id) = begun();
        let (conn, ..) = connect(&mut world, &id);
        subscribe(&mut world, conn, b't', qos);
        let first = many().count();
        write(&mut world, many().chain([b't'; 40]));
        let wrote = world.table.now;
        let all: Vec<usize> = (first..first + 40).collect();
        if qos == 1 {
            let mut came = Vec::new();
            let first = until(&mut world, |world| {
                came.extend(words(Version::V5, &world.sent(conn)));
                (!came.is_empty()).then_some(world.table.now)
            });
            assert!(first.since(wrote) < Duration::from_secs(10), "{:?}", first.since(wrote));
            assert_eq!(take_all(&mut world, (conn, came)), all);
            continue;
        }
        let (mut has, mut held) = (Vec::new(), Vec::new());
        until(&mut world, |world| {
            let said = words(Version::V5, &world.sent(conn));
            step(world, conn, said, (&mut has, &mut held));
            (has.len() >= all.len()).then_some(())
        });
        assert_eq!(places(&has), all);
    }
}
