//! The log of a slot is full, and a client is connected that asked for QoS 2.

use std::time::Duration;

use forebay::metrics::spec::ShardMetric as M;
use forebay::mqtt::packet::Version;
use forebay::rules::{KEPT, Rules};
use forebay::runtime::seam::ConnId;

use super::conformance::words;
use super::positions::{connect, crash, started, started_under, step, subscribe, until_quiet};
use super::slot_full::{absent, clients, full_of_sessions, long_away, write};
use super::slots::{heard, until};
use super::world::World;

const MESSAGES: &str = "mqtt-messages";

/// Places of records, as their payloads are.
pub(crate) fn places(has: &[String]) -> Vec<usize> {
    has.iter().map(|payload| payload.parse().expect("a place")).collect()
}

/// A shard with four clients that are away, and a fifth one.
pub(crate) fn begun() -> (World, String) {
    let mut world = started(0..1, "");
    let ids: Vec<String> = clients().take(5).collect();
    ids.iter().zip(b"abcd").for_each(|(id, topic)| absent(&mut world, id, *topic));
    long_away(&mut world);
    (world, ids[4].clone())
}

/// Records that take more than the log has.
pub(crate) fn many() -> impl Iterator<Item = u8> {
    b"abcd".iter().flat_map(|topic| [*topic; 28])
}

pub(crate) fn turn(world: &mut World) {
    world.advance(Duration::from_millis(20));
    let letters = world.table.posted.replace(Vec::new()).unwrap_or_default();
    letters.into_iter().for_each(|(_, letter)| world.mail(letter));
}

/// A message waits until the log has it, with all behind it: a crash at any moment gives it once.
#[test]
fn a_client_that_is_connected_gets_a_message_once_through_a_crash() {
    for turns in (0..100).step_by(5) {
        let (mut world, id) = begun();
        let (conn, ..) = connect(&mut world, &id);
        subscribe(&mut world, conn, b't', 2);
        once_through_a_crash(world, (&id, conn), turns);
    }
}

/// Others of the slot, which are away, get the same messages: their copies wait for room, and the records are open, when the client has had its copies.
#[test]
fn it_gets_a_message_once_if_others_wait_for_the_same_message() {
    for turns in (0..300).step_by(10) {
        let mut world = started(0..1, "");
        let ids: Vec<String> = clients().take(5).collect();
        // Its copies are the first to get room.
        let (conn, ..) = connect(&mut world, &ids[4]);
        subscribe(&mut world, conn, b't', 2);
        for (away, topic) in ids.iter().zip(*b"abcd") {
            let (conn, ..) = connect(&mut world, away);
            subscribe(&mut world, conn, topic, 1);
            subscribe(&mut world, conn, b't', 1);
            world.bytes(conn, &[0xE0, 1, 0]);
        }
        long_away(&mut world);
        once_through_a_crash(world, (&ids[4], conn), turns);
    }
}

/// The process crashes this many turns after the log is full.
fn once_through_a_crash(mut world: World, (id, conn): (&str, ConnId), turns: u32) {
    let first = many().count();
    write(&mut world, many().chain([b't'; 3]).chain(*b"abcdabcd"));
    let (mut has, mut held, mut left) = (Vec::new(), Vec::new(), None);
    while left != Some(0) {
        turn(&mut world);
        let said = words(Version::V5, &world.sent(conn));
        step(&mut world, conn, said, (&mut has, &mut held));
        let is_full = world.number(M::SlotsFull) == 1;
        left = left.map(|left: u32| left - 1).or_else(|| is_full.then_some(turns));
    }
    crash(&mut world, 0..1, 2);
    let (conn, _, mut said) = connect(&mut world, id);
    for quiet in 0..400 {
        step(&mut world, conn, said, (&mut has, &mut held));
        if has.len() >= 3 && quiet >= 30 {
            break;
        }
        said = words(Version::V5, &until_quiet(&mut world, conn));
    }
    assert_eq!(places(&has), [first, first + 1, first + 2], "after {turns} turns");
}

/// Sessions have taken the log, and nothing can make room: the client gets messages from memory.
#[test]
fn a_log_full_of_sessions_keeps_no_message_from_a_client_that_is_connected() {
    let (mut world, conn) = full_of_sessions(|world, id| {
        let (conn, ..) = connect(world, id);
        subscribe(world, conn, b't', 2);
        conn
    });
    write(&mut world, [b't'; 3]);
    let (mut has, mut held) = (Vec::new(), Vec::new());
    until(&mut world, |world| {
        let said = words(Version::V5, &world.sent(conn));
        step(world, conn, said, (&mut has, &mut held));
        (has.len() == 3 && held.is_empty()).then_some(())
    });
    assert_eq!(places(&has), [0, 1, 2]);
    until(&mut world, |world| (world.number(M::SlotsFull) == 0).then_some(()));
}

/// What was retained before the client has subscribed comes at QoS 2, too.
#[test]
fn a_retained_message_is_not_dropped() {
    let (mut world, id) = begun();
    let (conn, ..) = connect(&mut world, &id);
    world.broker.retains.insert(0);
    write(&mut world, [b'r'].into_iter().chain(many()));
    until(&mut world, |world| (world.number(M::SlotsFull) == 1).then_some(()));
    let dropped = world.number(M::CopiesQueueFull);
    world.bytes(conn, &[0x82, 7, 0, 9, 0, 0, 1, b'r', 2]);
    let mut said = Vec::new();
    until(&mut world, |world| {
        said.extend(words(Version::V5, &world.sent(conn)));
        (said.len() == 2).then_some(())
    });
    assert!(said[1].ends_with("0 q2 id 1 retain"), "{}", &said[1][said[1].len() - 30..]);
    assert_eq!(world.number(M::CopiesQueueFull), dropped);
    world.bytes(conn, &[0x50, 2, 0, 1]);
    assert_eq!(heard(&mut world, conn), ["pubrel 1 0x00"]);
}

/// Writes that many records of a topic with their places among all as payloads, and nothing else.
fn write_short(world: &mut World, topic: u8, count: usize) {
    let all = world.broker.readable.entry((MESSAGES.to_owned(), 0)).or_default();
    for _ in 0..count {
        world.broker.keys.insert(all.len() as i64, vec![topic]);
        all.push(all.len().to_string().into_bytes());
    }
}

/// A client that acknowledges nothing is behind its slot, while another one completes thousands of messages at QoS 2. Then the log is full. A
/// crash gives none of them a second time.
#[test]
fn finding_q8_a_full_log_forgets_no_message_of_qos_2_that_is_over() {
    let has = above_an_open_record(&KEPT);
    assert_eq!(places(&has), (SLOW..SLOW + MANY).collect::<Vec<_>>());
}

/// Records for the client that acknowledges nothing, more than its queue may have, and for the other one.
const SLOW: usize = 40;
const MANY: usize = 3_000;

/// What the other client has handed on, over the crash as well.
fn above_an_open_record(rules: &'static dyn Rules) -> Vec<String> {
    let mut world = started_under(rules, 0..1, "");
    let ids: Vec<String> = clients().take(6).collect();
    ids.iter().zip(b"abcd").for_each(|(id, topic)| absent(&mut world, id, *topic));
    long_away(&mut world);
    let (slow, ..) = connect(&mut world, &ids[4]);
    subscribe(&mut world, slow, b'y', 1);
    let (conn, ..) = connect(&mut world, &ids[5]);
    subscribe(&mut world, conn, b't', 2);
    write(&mut world, [b'y'; SLOW]);
    write_short(&mut world, b't', MANY);
    let (mut has, mut held) = (Vec::new(), Vec::new());
    while has.len() < MANY || !held.is_empty() {
        turn(&mut world);
        let said = words(Version::V5, &world.sent(conn));
        step(&mut world, conn, said, (&mut has, &mut held));
    }
    write(&mut world, many());
    until(&mut world, |world| (world.number(M::SlotsFull) == 1).then_some(()));
    (0..300).for_each(|_| turn(&mut world));
    crash(&mut world, 0..1, 2);
    let (conn, _, mut said) = connect(&mut world, &ids[5]);
    for _ in 0..40 {
        step(&mut world, conn, said, (&mut has, &mut held));
        said = words(Version::V5, &until_quiet(&mut world, conn));
    }
    has
}

/// Short messages fill what the log of a slot may name, not its bytes. A client that is back gets all of them: what it has received is written down, though the log has
/// room for nothing else.
#[test]
fn finding_q8_a_client_that_is_back_empties_a_log_of_short_messages() {
    const SHORT: usize = 5_600;
    for crashes in [false, true] {
        let mut world = started(0..1, "sessions_bytes_max = \"512MiB\"\n[delivery]\nqueue_messages_max = 1000000\n");
        let id = clients().next().expect("a client");
        let (conn, ..) = connect(&mut world, &id);
        subscribe(&mut world, conn, b't', 2);
        world.bytes(conn, &[0xE0, 1, 0]);
        write_short(&mut world, b't', SHORT);
        until(&mut world, |world| (world.number(M::SlotsFull) == 1).then_some(()));
        if crashes {
            crash(&mut world, 0..1, 2);
        }
        let (conn, _, mut said) = connect(&mut world, &id);
        let (mut has, mut held, mut turns) = (Vec::new(), Vec::new(), 0);
        while has.len() < SHORT || !held.is_empty() {
            step(&mut world, conn, std::mem::take(&mut said), (&mut has, &mut held));
            turn(&mut world);
            said = words(Version::V5, &world.sent(conn));
            turns += 1;
            assert!(turns < 10_000, "crashes: {crashes}: {} copies, {} of them open", has.len(), held.len());
        }
        assert_eq!(places(&has), (0..SHORT).collect::<Vec<_>>());
        until(&mut world, |world| {
            ((world.number(M::SlotsFull), world.number(M::StoredMessages)) == (0, 0)).then_some(())
        });
        assert_eq!(world.number(M::CopiesQueueFull), 0);
    }
}
