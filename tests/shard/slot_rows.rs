//! Messages of QoS 2 for routes of `[broker]` are in the route's topic once, even if the process that has the log of their slot dies.

use std::time::Duration;

use forebay::metrics::spec::SinkMetric as S;
use forebay::mqtt::packet::Version;
use forebay::runtime::seam::ConnId;
use forebay::shard::mail::{Mail, Notice, ToShard, ToSlots};

use super::conformance::words;
use super::slots::{BROKER, TOPIC, client, heard, notice, parsed, started, started_with, taken, until};
use super::world::World;

/// The topic of all messages.
const MESSAGES: &str = "mqtt-messages";
/// Its sink.
const SINK: usize = 0;
/// REQUEST_TIMED_OUT: nothing was written, and the same batch comes again.
const TIMED_OUT: i16 = 7;
/// LEADER_NOT_AVAILABLE, of a topic.
const NO_LEADER: i16 = 5;

/// PUBLISH at QoS 2 (5.0).
fn publish(id: u16, dup: bool, topic: &str, payload: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    body.extend_from_slice(&(topic.len() as u16).to_be_bytes());
    body.extend_from_slice(topic.as_bytes());
    body.extend_from_slice(&id.to_be_bytes());
    body.push(0);
    body.extend_from_slice(payload);
    packet(if dup { 0x3C } else { 0x34 }, &body)
}

fn packet(first: u8, body: &[u8]) -> Vec<u8> {
    let (mut packet, mut left) = (vec![first], body.len());
    loop {
        let byte = (left % 128) as u8;
        left /= 128;
        packet.push(if left > 0 { byte | 0x80 } else { byte });
        if left == 0 {
            packet.extend_from_slice(body);
            return packet;
        }
    }
}

fn pubrel(id: u16) -> Vec<u8> {
    packet(0x62, &id.to_be_bytes())
}

/// A client of slot 0 that keeps its session.
fn connected(world: &mut World, is_present: bool) -> ConnId {
    let conn = world.connect_kept_v5(&client(0));
    let wanted = if is_present { "connack 1 0x00" } else { "connack 0 0x00" };
    assert_eq!(heard(world, conn)[0], wanted);
    // The log names the partitions that are read before anything is published.
    assert!(said(world, conn).is_empty());
    conn
}

/// The packets that a client gets within 200 ms.
fn said(world: &mut World, conn: ConnId) -> Vec<String> {
    for _ in 0..20 {
        world.advance(Duration::from_millis(10));
    }
    words(Version::V5, &world.sent(conn))
}

/// The values in the topic of messages.
fn values(world: &World) -> Vec<String> {
    let of_topic = world.broker.records.iter().filter(|(topic, ..)| topic == MESSAGES);
    of_topic.map(|(.., value)| String::from_utf8_lossy(value).into_owned()).collect()
}

/// How often each batch of that topic has come, by its identity.
fn sendings(world: &World) -> Vec<usize> {
    let mut all: Vec<_> = world.broker.batches.iter().filter(|batch| batch.0 == MESSAGES).collect();
    all.sort();
    all.chunk_by(|one, other| one == other).map(<[_]>::len).collect()
}

/// The process is killed, and another one takes slot 0 over, with this epoch.
fn killed(world: &mut World, epoch: i16) {
    killed_to(world, epoch, None);
}

/// The same with this configuration.
fn killed_to(world: &mut World, epoch: i16, text: Option<&str>) {
    world.restart_as(text.map(parsed));
    (world.table.posted, world.table.mailbox) = (Some(Vec::new()), 16);
    let log = taken(world, 0, epoch);
    world.mail(Mail::Slots(ToSlots::TakeOver(vec![log])));
    notice(world, |notice| matches!(notice, Notice::Started(0)));
    world.mail(Mail::Shard(ToShard::Accept));
}

/// The exchange of `id` goes on to its end, and the next one under that identifier is another message.
fn goes_on(world: &mut World, conn: ConnId, id: u16, mut before: Vec<&str>) {
    world.bytes(conn, &pubrel(id));
    assert_eq!(heard(world, conn), [format!("pubcomp {id} 0x00")]);
    world.bytes(conn, &publish(id, false, "t", b"next"));
    assert_eq!(heard(world, conn), [format!("pubrec {id} 0x00")]);
    before.push("next");
    until(world, |world| (values(world) == before).then_some(()));
    said(world, conn);
    assert_eq!(values(world), before);
    assert!(world.broker.records.iter().all(|(topic, ..)| topic == MESSAGES || topic == TOPIC));
}

#[test]
fn a_message_is_in_its_log_before_it_is_answered_and_once_in_its_topic() {
    let mut world = started(0..1);
    let conn = connected(&mut world, false);
    world.broker.silent_to.insert(TOPIC.to_owned());
    world.bytes(conn, &publish(5, false, "t", b"one"));
    assert!(said(&mut world, conn).is_empty() && values(&world).is_empty(), "its log has not said that it has it");
    world.broker.silent_to.clear();
    world.broker.unavailable.insert(MESSAGES.to_owned(), NO_LEADER);
    assert_eq!(heard(&mut world, conn), ["pubrec 5 0x00"]);
    // A repeat is no second message.
    world.bytes(conn, &publish(5, true, "t", b"one"));
    assert_eq!(heard(&mut world, conn), ["pubrec 5 0x00"]);
    world.broker.unavailable.clear();
    until(&mut world, |world| (values(world) == ["one"]).then_some(()));
    let place = world.broker.records.iter().position(|(topic, ..)| topic == MESSAGES).expect("it is there");
    let (_, _, key, _) = &world.broker.records[place];
    assert_eq!(key, b"t");
    let header = |name: &str| {
        let found = world.broker.headers[place].iter().find(|(of, _)| of == name);
        found.map(|(_, value)| value.clone()).unwrap_or_default()
    };
    let headers = ["mqtt-qos", "mqtt-retain", "mqtt-client-id"].map(header);
    assert_eq!(headers, ["2".to_owned(), "false".to_owned(), client(0)]);
    goes_on(&mut world, conn, 5, vec!["one"]);
    assert_eq!(sendings(&world), [1, 1]);
    let of = |metric| world.sink_number(SINK, metric);
    assert_eq!((of(S::Matched), of(S::Delivered), of(S::BufferedRows)), (2, 2, 0));
}

/// After PUBREC, and before the batch was sent.
#[test]
fn what_was_not_sent_is_sent_by_the_next_process() {
    let mut world = started(0..1);
    let conn = connected(&mut world, false);
    world.broker.unavailable.insert(MESSAGES.to_owned(), NO_LEADER);
    for (id, payload) in [(5, "one"), (6, "two"), (7, "three")] {
        world.bytes(conn, &publish(id, false, "t", payload.as_bytes()));
        assert_eq!(heard(&mut world, conn), [format!("pubrec {id} 0x00")]);
    }
    assert!(values(&world).is_empty());
    killed(&mut world, 2);
    world.broker.unavailable.clear();
    until(&mut world, |world| (values(world) == ["one", "two", "three"]).then_some(()));
    let conn = connected(&mut world, true);
    // The answer was lost, as far as the client knows.
    world.bytes(conn, &publish(6, true, "t", b"two"));
    assert_eq!(heard(&mut world, conn), ["pubrec 6 0x00"]);
    goes_on(&mut world, conn, 6, vec!["one", "two", "three"]);
    for id in [5, 7] {
        world.bytes(conn, &pubrel(id));
        assert_eq!(heard(&mut world, conn), [format!("pubcomp {id} 0x00")]);
    }
    let of = |metric| world.sink_number(SINK, metric);
    assert_eq!((of(S::Recovered), of(S::Matched), of(S::Delivered), of(S::OutcomeUnknown)), (3, 1, 4, 0));
}

/// After the batch was sent, and before its answer: the next process sends it again as it was.
#[test]
fn what_was_sent_is_repeated_as_it_was() {
    let mut world = started(0..1);
    let conn = connected(&mut world, false);
    world.broker.silent_to.insert(MESSAGES.to_owned());
    world.bytes(conn, &publish(5, false, "t", b"one"));
    assert_eq!(heard(&mut world, conn), ["pubrec 5 0x00"]);
    until(&mut world, |world| (values(world) == ["one"]).then_some(()));
    world.broker.silent_to.clear();
    killed(&mut world, 2);
    let conn = connected(&mut world, true);
    until(&mut world, |world| (sendings(world) == [2]).then_some(()));
    goes_on(&mut world, conn, 5, vec!["one"]);
    // Kafka has both; nothing is left to be sent by the one after it.
    killed(&mut world, 3);
    let conn = connected(&mut world, true);
    assert!(said(&mut world, conn).is_empty());
    assert_eq!((values(&world), sendings(&world)), (vec!["one".to_owned(), "next".to_owned()], vec![2, 1]));
}

/// The request of a process that is gone is carried out after the next process has repeated it, and has written more.
#[test]
fn a_late_request_of_the_earlier_owner_is_no_second_message() {
    let mut world = started(0..1);
    let conn = connected(&mut world, false);
    world.broker.holds.insert(MESSAGES.to_owned());
    world.bytes(conn, &publish(5, false, "t", b"one"));
    assert_eq!(heard(&mut world, conn), ["pubrec 5 0x00"]);
    assert!(said(&mut world, conn).is_empty() && values(&world).is_empty());
    let holds = std::mem::take(&mut world.broker.holds);
    killed(&mut world, 2);
    until(&mut world, |world| (values(world) == ["one"]).then_some(()));
    let conn = connected(&mut world, true);
    goes_on(&mut world, conn, 5, vec!["one"]);
    assert!(!holds.is_empty() && world.broker.late() == 1);
    assert_eq!((values(&world), sendings(&world)), (vec!["one".to_owned(), "next".to_owned()], vec![2, 1]));
}

/// Before PUBREC: the log has it or not, and the client repeats it in any case.
#[test]
fn what_was_not_answered_is_repeated_and_comes_once() {
    for has_it in [false, true] {
        let mut world = started(0..1);
        let conn = connected(&mut world, false);
        if has_it {
            world.broker.silent_to.insert(TOPIC.to_owned());
        } else {
            world.broker.refuses.insert(TOPIC.to_owned(), TIMED_OUT);
        }
        world.bytes(conn, &publish(5, false, "t", b"one"));
        assert!(said(&mut world, conn).is_empty() && values(&world).is_empty());
        (world.broker.silent_to, world.broker.refuses) = Default::default();
        killed(&mut world, 2);
        let conn = connected(&mut world, true);
        world.bytes(conn, &publish(5, true, "t", b"one"));
        assert_eq!(heard(&mut world, conn), ["pubrec 5 0x00"]);
        goes_on(&mut world, conn, 5, vec!["one"]);
        assert_eq!(world.sink_number(SINK, S::Recovered), u64::from(has_it));
    }
}

/// After PUBCOMP: the identifier is free, and stays it.
#[test]
fn an_exchange_that_is_over_is_over_for_the_next_process() {
    let mut world = started(0..1);
    let conn = connected(&mut world, false);
    world.broker.unavailable.insert(MESSAGES.to_owned(), NO_LEADER);
    world.bytes(conn, &publish(5, false, "t", b"one"));
    assert_eq!(heard(&mut world, conn), ["pubrec 5 0x00"]);
    world.bytes(conn, &pubrel(5));
    assert_eq!(heard(&mut world, conn), ["pubcomp 5 0x00"]);
    killed(&mut world, 2);
    world.broker.unavailable.clear();
    let conn = connected(&mut world, true);
    // Another message: it is no repeat.
    world.bytes(conn, &publish(5, false, "t", b"two"));
    assert_eq!(heard(&mut world, conn), ["pubrec 5 0x00"]);
    until(&mut world, |world| (values(world) == ["one", "two"]).then_some(()));
    goes_on(&mut world, conn, 5, vec!["one", "two"]);
}

/// A slot that leaves takes along what Kafka does not have, and what its clients have open. Answers to the requests of its producer are nobody's.
#[test]
fn a_slot_takes_its_rows_along() {
    let mut world = started(0..2);
    let conn = connected(&mut world, false);
    let staying = world.connect_kept_v5(&client(1));
    assert_eq!(heard(&mut world, staying)[0], "connack 0 0x00");
    world.broker.holds.insert(MESSAGES.to_owned());
    world.bytes(conn, &publish(5, false, "t", b"moves"));
    assert_eq!(heard(&mut world, conn), ["pubrec 5 0x00"]);
    said(&mut world, conn);
    world.broker.holds.clear();
    world.mail(Mail::Slots(ToSlots::Release(0)));
    notice(&mut world, |notice| matches!(notice, Notice::SlotReleased(0)));
    let of = |world: &World, metric| world.sink_number(SINK, metric);
    until(&mut world, |world| (of(world, S::Moved) == 1).then_some(()));
    assert_eq!((of(&world, S::Matched), of(&world, S::BufferedRows)), (1, 0));
    // Others go on.
    world.bytes(staying, &publish(5, false, "t", b"stays"));
    assert_eq!(heard(&mut world, staying), ["pubrec 5 0x00"]);
    until(&mut world, |world| (values(world) == ["stays"]).then_some(()));

    let log = taken(&mut world, 0, 2);
    world.mail(Mail::Slots(ToSlots::TakeOver(vec![log])));
    notice(&mut world, |notice| matches!(notice, Notice::SlotTaken(0)));
    until(&mut world, |world| (values(world) == ["stays", "moves"]).then_some(()));
    let conn = connected(&mut world, true);
    world.bytes(conn, &publish(5, true, "t", b"moves"));
    assert_eq!(heard(&mut world, conn), ["pubrec 5 0x00"]);
    world.broker.late();
    goes_on(&mut world, conn, 5, vec!["stays", "moves"]);
    assert_eq!((of(&world, S::Recovered), of(&world, S::BufferedRows)), (1, 0));
}

/// A message that the log never takes goes past it, in its place among those of its client.
#[test]
fn a_message_too_large_for_the_log_keeps_its_place() {
    let mut world = started(0..1);
    let conn = connected(&mut world, false);
    let large = vec![b'l'; 300_000];
    world.broker.unavailable.insert(MESSAGES.to_owned(), NO_LEADER);
    world.bytes(conn, &publish(5, false, "t", b"before"));
    assert_eq!(heard(&mut world, conn), ["pubrec 5 0x00"]);
    world.bytes(conn, &publish(6, false, "t", &large));
    world.bytes(conn, &publish(7, false, "t", b"after"));
    assert!(said(&mut world, conn).is_empty(), "it waits for what is before it");
    assert!(world.table.wire(conn).paused);
    world.broker.unavailable.clear();
    let mut answers = Vec::new();
    until(&mut world, |world| {
        answers.extend(words(Version::V5, &world.sent(conn)));
        (answers == ["pubrec 6 0x00", "pubrec 7 0x00"]).then_some(())
    });
    let first = |value: &str| value.chars().next().unwrap_or_default();
    until(&mut world, |world| (values(world).iter().map(|value| first(value)).eq(['b', 'l', 'a'])).then_some(()));
}

/// Rows that find no room wait, and hold up their own slot only.
#[test]
fn a_slot_without_room_holds_up_its_own_clients() {
    let mut world = started(0..2);
    let conn = connected(&mut world, false);
    let other = world.connect_kept_v5(&client(1));
    assert_eq!(heard(&mut world, other)[0], "connack 0 0x00");
    world.broker.unavailable.insert(MESSAGES.to_owned(), NO_LEADER);
    let mut sent = 1;
    loop {
        world.bytes(conn, &publish(sent, false, "t", &[b'x'; 100_000]));
        if world.table.wire(conn).paused {
            break;
        }
        assert!(sent < 1_000, "there is always room");
        said(&mut world, conn);
        world.bytes(conn, &pubrel(sent));
        said(&mut world, conn);
        sent += 1;
    }
    world.bytes(other, &publish(1, false, "t", b"other"));
    assert_eq!(heard(&mut world, other), ["pubrec 1 0x00"]);
    world.broker.unavailable.clear();
    until(&mut world, |world| (values(world).len() == usize::from(sent) + 1).then_some(()));
    assert!(!world.table.wire(conn).paused);
}

/// Records and bytes (keys and values) that have gone to the logs of sessions.
fn in_logs(world: &World) -> (usize, usize) {
    let of_logs = world.broker.records.iter().filter(|(topic, ..)| topic == TOPIC);
    of_logs.fold((0, 0), |(records, bytes), (_, _, key, value)| (records + 1, bytes + key.len() + value.len()))
}

/// What an exchange of 100 bytes costs the log, one at a time and fifty at a time: `docs/CLUSTER.md` has the figures.
#[test]
fn an_exchange_costs_the_log_so_much() {
    const EXCHANGES: u16 = 500;
    for (at_once, most) in [(1, (4.0, 700.0)), (50, (0.2, 260.0))] {
        let mut world = started(0..1);
        let conn = connected(&mut world, false);
        said(&mut world, conn);
        let before = in_logs(&world);
        for first in (1..=EXCHANGES).step_by(at_once) {
            let ids = first..first + at_once as u16;
            let all: Vec<u8> =
                ids.clone().flat_map(|id| publish(id, false, "place/7/device/lamp", &[b'x'; 100])).collect();
            world.bytes(conn, &all);
            until(&mut world, |world| (values(world).len() == usize::from(first) + at_once - 1).then_some(()));
            let all: Vec<u8> = ids.flat_map(pubrel).collect();
            world.bytes(conn, &all);
            said(&mut world, conn);
        }
        let (records, bytes) = in_logs(&world);
        let of_each = |sum: usize| sum as f64 / f64::from(EXCHANGES);
        let (records, bytes) = (of_each(records - before.0), of_each(bytes - before.1));
        assert!(records < most.0 && bytes < most.1, "{at_once} at once: {records} records, {bytes} bytes");
    }
}

/// The topic of a route for `x/#`.
const ROUTED: &str = "mqtt-x";

/// `[broker]` with that route.
fn with_route() -> String {
    format!("{BROKER}[[broker.route]]\nfilters = [\"x/#\"]\ntopic = \"{ROUTED}\"\n")
}

/// The topics that have this value, with how often.
fn topics_of(world: &World, value: &[u8]) -> Vec<String> {
    let of_value = world.broker.records.iter().filter(|(.., of)| of == value);
    of_value.map(|(topic, ..)| topic.clone()).filter(|topic| topic != TOPIC).collect()
}

/// Rows wait in the log of a slot while their route goes: the next owner of the slot, which does not know the route, sends them to its topic.
#[test]
fn finding_q59_rows_of_a_route_that_is_gone_go_to_their_topic() {
    let mut world = started_with(&with_route(), 0..1);
    let conn = connected(&mut world, false);
    world.broker.unavailable.insert(ROUTED.to_owned(), NO_LEADER);
    for (id, topic, payload) in [(5, "x/1", "one"), (6, "x/1", "two"), (7, "t", "three")] {
        world.bytes(conn, &publish(id, false, topic, payload.as_bytes()));
        assert_eq!(heard(&mut world, conn), [format!("pubrec {id} 0x00")]);
    }
    until(&mut world, |world| (topics_of(world, b"three") == [MESSAGES]).then_some(()));
    said(&mut world, conn);
    killed_to(&mut world, 2, Some(BROKER));
    world.broker.unavailable.clear();
    until(&mut world, |world| (topics_of(world, b"two") == [ROUTED]).then_some(()));
    assert_eq!(topics_of(&world, b"one"), [ROUTED]);
    let of = |metric| world.sink_number(0, metric);
    assert_eq!((of(S::Recovered), of(S::BufferedRows), of(S::Refused)), (2, 0, 0), "counted as those of no route");
    let conn = connected(&mut world, true);
    // The answer was lost, as far as the client knows.
    world.bytes(conn, &publish(6, true, "x/1", b"two"));
    assert_eq!(heard(&mut world, conn), ["pubrec 6 0x00"]);
    assert!(said(&mut world, conn).is_empty());
    assert_eq!(topics_of(&world, b"two"), [ROUTED]);
    for value in [&b"one"[..], b"three"] {
        assert_eq!(topics_of(&world, value).len(), 1);
    }
}

/// A client repeats a message of which its slot's earlier owner had other routes: it is in the topic of that time, and in no second one.
#[test]
fn finding_q5_a_repeat_goes_to_no_topic_of_other_routes() {
    let with_route = with_route();
    for (first, then, topic) in [(BROKER, &*with_route, MESSAGES), (&*with_route, BROKER, ROUTED)] {
        // Kafka has the message before the process ends, or gets it from the log after that.
        for is_late in [false, true] {
            let mut world = started_with(first, 0..1);
            let conn = connected(&mut world, false);
            if is_late {
                world.broker.unavailable.insert(topic.to_owned(), NO_LEADER);
            }
            world.bytes(conn, &publish(5, false, "x/1", b"one"));
            assert_eq!(heard(&mut world, conn), ["pubrec 5 0x00"]);
            if !is_late {
                until(&mut world, |world| (topics_of(world, b"one") == [topic]).then_some(()));
                said(&mut world, conn);
            }
            killed_to(&mut world, 2, Some(then));
            world.broker.unavailable.clear();
            let conn = connected(&mut world, true);
            world.bytes(conn, &publish(5, true, "x/1", b"one"));
            assert_eq!(heard(&mut world, conn), ["pubrec 5 0x00"]);
            until(&mut world, |world| (!topics_of(world, b"one").is_empty()).then_some(()));
            said(&mut world, conn);
            assert_eq!(topics_of(&world, b"one"), [topic], "late: {is_late}");
            world.bytes(conn, &pubrel(5));
            assert_eq!(heard(&mut world, conn), ["pubcomp 5 0x00"]);
        }
    }
}
