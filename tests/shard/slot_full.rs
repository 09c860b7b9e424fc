//! The log of a slot is full: no session loses a copy because others have filled it.

use std::collections::BTreeMap;
use std::time::Duration;

use forebay::broker::router::owner;
use forebay::metrics::event::Kind;
use forebay::metrics::spec::{ShardMetric as M, SourceMetric};
use forebay::mqtt::packet::Version;
use forebay::rules::{KEPT, Rules};
use forebay::runtime::seam::ConnId;

use super::conformance::words;
use super::positions::{connect, crash, started, started_under, subscribe};
use super::slot_full_qos2::turn;
use super::slots::{heard, until};
use super::world::World;

const MESSAGES: &str = "mqtt-messages";

/// Bytes of a record: a queue may have some thirty of them, and the log of a slot a hundred at most.
const RECORD: usize = 60_000;

/// Passes the time for which a full log waits for clients that have left.
pub(crate) fn long_away(world: &mut World) {
    (0..60).for_each(|_| world.advance(Duration::from_secs(1)));
}

/// Clients of slot 0.
pub(crate) fn clients() -> impl Iterator<Item = String> {
    (0..).map(|number| format!("c-{number}")).filter(|id| owner(id, 64) == 0)
}

/// Writes records of these topics, with their places among all as payloads.
pub(crate) fn write(world: &mut World, topics: impl IntoIterator<Item = u8>) {
    let all = world.broker.readable.entry((MESSAGES.to_owned(), 0)).or_default();
    for topic in topics {
        world.broker.keys.insert(all.len() as i64, vec![topic]);
        all.push(format!("{:0>RECORD$}", all.len()).into_bytes());
    }
}

pub(crate) fn is_read(world: &World) -> bool {
    let written = world.broker.readable[&(MESSAGES.to_owned(), 0)].len() as u64;
    world.source_number(0, SourceMetric::Records) == written
}

/// A kept session of a client that subscribes to this topic and leaves.
pub(crate) fn absent(world: &mut World, id: &str, topic: u8) {
    let (conn, ..) = connect(world, id);
    subscribe(world, conn, topic, 1);
    world.bytes(conn, &[0xE0, 1, 0]);
}

/// Acknowledges all that comes until nothing does any more: the places of records, each once, in the order of first copies.
pub(crate) fn take_all(world: &mut World, (conn, mut came): (ConnId, Vec<String>)) -> Vec<usize> {
    let (mut got, mut quiet) = (Vec::new(), 0);
    while quiet < 30 {
        quiet += 1;
        for packet in std::mem::take(&mut came) {
            let parts: Vec<&str> = packet.split(' ').collect();
            let [_, payload, "q1", "id", id, ..] = parts[..] else { panic!("{packet}") };
            let place = payload.parse().expect("a place");
            if !got.contains(&place) {
                got.push(place);
            }
            let id = id.parse::<u16>().expect("an identifier").to_be_bytes();
            world.bytes(conn, &[0x40, 2, id[0], id[1]]);
            quiet = 0;
        }
        let mut looks = 0;
        until(world, |_| {
            looks += 1;
            (looks > 1).then_some(())
        });
        came.extend(words(Version::V5, &world.sent(conn)));
    }
    got
}

fn comes_back(world: &mut World, id: &str) -> Vec<usize> {
    let (conn, was_there, came) = connect(world, id);
    assert!(was_there, "the session is there");
    take_all(world, (conn, came))
}

/// The places of the records of a topic.
fn places(topics: &[u8], of: u8) -> Vec<usize> {
    (0..topics.len()).filter(|at| topics[*at] == of).collect()
}

/// Clients that are away have the log filled by now, each within the bounds of its queue, and one more, with a short queue, comes behind them: all of them, and the
/// topics of records.
fn filled(rules: &'static dyn Rules) -> (World, Vec<String>, Vec<u8>) {
    let mut world = started_under(rules, 0..1, "");
    let ids: Vec<String> = clients().take(5).collect();
    ids.iter().zip(b"abcdt").for_each(|(id, topic)| absent(&mut world, id, *topic));
    let long = b"abcd".iter().flat_map(|topic| [*topic; 28]);
    let topics: Vec<u8> = long.chain([b't'; 10]).collect();
    write(&mut world, topics.clone());
    until(&mut world, |world| is_read(world).then_some(()));
    (world, ids, topics)
}

/// Clients that are away have filled the log: another one loses nothing for that, in a crash neither.
#[test]
fn a_short_queue_loses_nothing_to_long_ones_of_clients_that_are_away() {
    for crashes in [false, true] {
        let (mut world, ids, topics) = filled(&KEPT);
        long_away(&mut world);
        if crashes {
            crash(&mut world, 0..1, 2);
            long_away(&mut world);
        }
        assert_eq!(comes_back(&mut world, &ids[4]), places(&topics, b't'), "crashes: {crashes}");
        let mut lost = 0;
        for (id, topic) in ids.iter().zip(b"abcd") {
            let (got, all) = (comes_back(&mut world, id), places(&topics, *topic));
            lost += all.len() - got.len();
            assert!(all.ends_with(&got), "{id}: the oldest went, and nothing else: {got:?}");
        }
        assert!(lost > 0, "the log was full");
        if !crashes {
            assert_eq!((world.number(M::CopiesQueueFull), world.told(Kind::SlotFull)), (lost as u64, 1));
        }
        assert_eq!((world.number(M::SlotsFull), world.number(M::StoredMessages)), (0, 0));
    }
}

/// A full log waits for clients that have left a moment ago: one after the other comes back, also after a crash, and nothing is dropped.
#[test]
fn finding_q8_a_full_log_waits_for_clients_that_come_back_soon() {
    for crashes in [false, true] {
        let (mut world, ids, topics) = filled(&KEPT);
        for _ in 0..100 {
            world.advance(Duration::from_millis(100));
        }
        assert_eq!((world.number(M::SlotsFull), world.number(M::CopiesQueueFull)), (1, 0));
        if crashes {
            crash(&mut world, 0..1, 2);
        }
        for (id, topic) in ids.iter().zip(b"abcdt") {
            assert_eq!(comes_back(&mut world, id), places(&topics, *topic), "{id}, crashes: {crashes}");
        }
        assert_eq!((world.number(M::SlotsFull), world.number(M::CopiesQueueFull)), (0, 0));
    }
}

#[derive(Debug)]
struct NamesNoneBehind;
impl Rules for NamesNoneBehind {
    fn names_behind(&self) -> bool {
        false
    }
}

/// Without the rule the log does not name the sessions that it has no room for, and a crash loses their messages.
#[test]
fn without_its_rule_a_crash_loses_what_waits_for_room() {
    for (rules, is_lost) in [(&KEPT as &'static dyn Rules, false), (&NamesNoneBehind, true)] {
        let (mut world, ids, topics) = filled(rules);
        for _ in 0..30 {
            world.advance(Duration::from_millis(100));
        }
        crash(&mut world, 0..1, 2);
        assert_eq!(comes_back(&mut world, &ids[4]) != places(&topics, b't'), is_lost, "{rules:?}");
    }
}

#[derive(Debug)]
struct HandedOnIsHad;
impl Rules for HandedOnIsHad {
    fn keeps_open(&self, _: bool) -> bool {
        false
    }
}

/// The rule is needed: where no record stays open for what the log has no room for, it is lost.
#[test]
fn without_its_rule_a_short_queue_loses_messages() {
    let (mut world, ids, topics) = filled(&HandedOnIsHad);
    let got = comes_back(&mut world, &ids[4]);
    assert!(got.len() < places(&topics, b't').len(), "{got:?}");
}

/// A client that is connected and acknowledges nothing holds its partition back. What waits for it does not fill the log: another one, which is away, loses
/// nothing, and it neither.
#[test]
fn a_short_queue_loses_nothing_to_a_client_that_acknowledges_late() {
    let mut world = started(0..1, "");
    let ids: Vec<String> = clients().take(2).collect();
    absent(&mut world, &ids[0], b't');
    // It is sent one message at a time.
    let slow = world.connect_v5(&ids[1], &[0, 0, 0, 8, 0x11, 0, 0, 0x0E, 0x10, 0x21, 0, 1]);
    assert!(heard(&mut world, slow)[0].starts_with("connack"));
    subscribe(&mut world, slow, b's', 1);
    let topics: Vec<u8> = (0..150).map(|number| if number % 10 == 9 { b't' } else { b's' }).collect();
    write(&mut world, topics.clone());
    let came = heard(&mut world, slow);
    for _ in 0..50 {
        world.advance(std::time::Duration::from_millis(100));
    }
    assert_eq!(world.number(M::CopiesQueueFull), 0);
    assert_eq!(take_all(&mut world, (slow, came)), places(&topics, b's'));
    assert!(is_read(&world));
    assert_eq!(comes_back(&mut world, &ids[0]), places(&topics, b't'));
    assert_eq!(world.number(M::CopiesQueueFull), 0);
}

/// What a client was sent and has not acknowledged takes room in the log: it counts among what its queue may hold.
#[test]
fn what_was_sent_counts_in_the_bounds_of_a_queue() {
    let mut world = started(0..1, "");
    let ids: Vec<String> = clients().take(1).collect();
    let (conn, ..) = connect(&mut world, &ids[0]);
    subscribe(&mut world, conn, b's', 1);
    write(&mut world, [b's'; 60]);
    // It reads all that it is sent, and acknowledges nothing.
    let mut came = Vec::new();
    until(&mut world, |world| {
        came.extend(words(Version::V5, &world.sent(conn)));
        is_read(world).then_some(())
    });
    let in_log = world.number(M::StoredMessages);
    assert!((30..=50).contains(&in_log), "{in_log}");
    assert_eq!(take_all(&mut world, (conn, came)), (0..60).collect::<Vec<_>>());
}

/// Sessions alone fill the log, and no queue can make room: messages for a client that is away are dropped and counted, and their partition is read on.
#[test]
fn a_log_full_of_sessions_holds_no_partition_back() {
    let (mut world, ()) = full_of_sessions(|world, id| absent(world, id, b't'));
    write(&mut world, [b't'; 3]);
    until(&mut world, |world| (world.number(M::CopiesQueueFull) == 3).then_some(()));
    until(&mut world, |world| (world.source_number(0, SourceMetric::Open) == 0).then_some(()));
    assert_eq!(world.number(M::SlotsFull), 0);
}

/// As before, and the process ends a moment after messages were dropped and counted: they do not come after newer ones.
#[test]
fn finding_q8_what_a_full_log_has_dropped_stays_dropped() {
    let (mut world, id) = full_of_sessions(|world, id| {
        absent(world, id, b't');
        id.to_owned()
    });
    write(&mut world, [b't'; 3]);
    until(&mut world, |world| (world.number(M::CopiesQueueFull) == 3).then_some(()));
    (0..3).for_each(|_| turn(&mut world));
    crash(&mut world, 0..1, 2);
    assert_eq!(comes_back(&mut world, &id), [0; 0]);
    assert_eq!(world.number(M::CopiesQueueFull), 0);
}

/// A shard with a log that sessions have taken; `first`: what the first client does before that.
pub(crate) fn full_of_sessions<T>(first: impl FnOnce(&mut World, &str) -> T) -> (World, T) {
    let mut world = started(0..1, "");
    let ids: BTreeMap<usize, String> = clients().take(400).enumerate().collect();
    let done = first(&mut world, &ids[&0]);
    let is_full = (1..ids.len()).find(|at| {
        let conn = with_will(&mut world, &ids[at]);
        !heard(&mut world, conn)[0].starts_with("connack 0 0x00")
    });
    assert!(is_full.is_some(), "the log is full");
    (world, done)
}

/// A client with a kept session that has a large will.
fn with_will(world: &mut World, id: &str) -> ConnId {
    let conn = world.accept();
    let mut body = vec![0, 4, b'M', b'Q', b'T', b'T', 5, 0x04, 0, 0, 5, 0x11, 0, 0, 0x0E, 0x10];
    let short = |text: &[u8]| [&u16::try_from(text.len()).expect("short").to_be_bytes()[..], text].concat();
    body.extend(short(id.as_bytes()));
    body.push(0);
    body.extend(short(b"w"));
    body.extend(short(&[b'w'; RECORD]));
    let len = body.len();
    let length = [0x80 | (len & 0x7F) as u8, 0x80 | (len >> 7 & 0x7F) as u8, (len >> 14) as u8];
    world.bytes(conn, &[&[0x10], &length[..], &body].concat());
    conn
}
