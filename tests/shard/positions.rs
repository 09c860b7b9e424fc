//! What the log of a slot knows of the records that its sessions have: over crashes, and when the slot goes to another process.

use std::time::Duration;

use forebay::config;
use forebay::config::Wide;
use forebay::metrics::spec::ShardMetric as M;
use forebay::mqtt::packet::Version;
use forebay::rules::{KEPT, Rules};
use forebay::runtime::seam::{ConnId, Shard as _};
use forebay::shard::mail::{Mail, Notice, ToSlots};

use super::conformance::words;
use super::slots::{BROKER, TOPIC, begin, client, heard, notice, taken, until};
use super::world::World;

const MESSAGES: &str = "mqtt-messages";

/// A shard with these slots. `text`: of its configuration beside `[broker]`.
pub(crate) fn started(slots: std::ops::Range<u16>, text: &str) -> World {
    started_under(&KEPT, slots, text)
}

pub(crate) fn started_under(rules: &'static dyn Rules, slots: std::ops::Range<u16>, text: &str) -> World {
    let mut config = config::parse(&format!("{BROKER}qos = 2\n{text}"), "test.toml").expect("a configuration");
    // A group is more than this Kafka knows: each process reads from the beginning.
    config.sources[0].group = String::new();
    config.delivery.wide = Wide { recipients: 3, copies: 1, copies_alone: 1 };
    let mut world = World::of_under(rules, config);
    world.broker.key = Some(b"t".to_vec());
    begin(&mut world, slots, 1);
    world
}

/// The process ends, and another one takes these slots over.
pub(crate) fn crash(world: &mut World, slots: std::ops::Range<u16>, epoch: i16) {
    world.restart(None);
    begin(world, slots, epoch);
}

/// Records that are written.
fn write(world: &mut World, values: &[&str]) {
    let all = world.broker.readable.entry((MESSAGES.to_owned(), 0)).or_default();
    all.extend(values.iter().map(|value| value.as_bytes().to_vec()));
}

/// A client with a kept session that is connected, and whether its session was there; what came with CONNACK.
pub(crate) fn connect(world: &mut World, id: &str) -> (ConnId, bool, Vec<String>) {
    let conn = world.connect_kept_v5(id);
    let mut said = heard(world, conn);
    let connack = said.remove(0);
    assert!(connack.ends_with("0x00"), "{connack}");
    (conn, connack == "connack 1 0x00", said)
}

pub(crate) fn subscribe(world: &mut World, conn: ConnId, topic: u8, qos: u8) {
    world.bytes(conn, &[0x82, 7, 0, 9, 0, 0, 1, topic, qos]);
    let said = heard(world, conn);
    assert!(said[0].starts_with("suback"), "{said:?}");
}

/// A kept session with a subscription at QoS 2 to `t`.
fn subscriber(world: &mut World, id: &str) -> ConnId {
    let (conn, ..) = connect(world, id);
    subscribe(world, conn, b't', 2);
    conn
}

/// Takes all messages of the next moments and acknowledges them: payloads, with `+` where DUP is set.
fn take(world: &mut World, conn: ConnId, came: Vec<String>) -> Vec<String> {
    let (mut got, mut rest) = (Vec::new(), came);
    for _ in 0..40 {
        for packet in std::mem::take(&mut rest) {
            let parts: Vec<&str> = packet.split(' ').collect();
            let id = |text: &str| text.parse::<u16>().expect("an identifier").to_be_bytes();
            match parts[..] {
                ["pubrel", of, ..] => world.bytes(conn, &[0x70, 2, id(of)[0], id(of)[1]]),
                [_, payload, "q1", "id", of, ref dup @ ..] => {
                    got.push(format!("{payload}{}", if dup.contains(&"dup") { "+" } else { "" }));
                    world.bytes(conn, &[0x40, 2, id(of)[0], id(of)[1]]);
                }
                [_, payload, "q2", "id", of, ref dup @ ..] => {
                    got.push(format!("{payload}{}", if dup.contains(&"dup") { "+" } else { "" }));
                    world.bytes(conn, &[0x50, 2, id(of)[0], id(of)[1]]);
                }
                _ => panic!("{packet}"),
            }
        }
        let bytes = until_quiet(world, conn);
        rest.extend(words(Version::V5, &bytes));
    }
    got
}

/// The messages of the next moments.
pub(crate) fn until_quiet(world: &mut World, conn: ConnId) -> Vec<u8> {
    let mut bytes = Vec::new();
    for _ in 0..3 {
        let mut looks = 0;
        until(world, |_| {
            looks += 1;
            (looks > 1).then_some(())
        });
        bytes.extend(world.sent(conn));
    }
    bytes
}

/// What a client gets that comes back with its session.
fn comes_back(world: &mut World, id: &str) -> Vec<String> {
    let (conn, was_there, came) = connect(world, id);
    assert!(was_there, "the session is there");
    take(world, conn, came)
}

/// Slot 0 comes to a process from another one, with what Kafka has of it.
fn takes_over(second: &mut World, first: &World) {
    let place = (TOPIC.to_owned(), 0);
    second.broker.logs.insert(place.clone(), first.broker.logs[&place].clone());
    second.broker.offsets.insert(place.clone(), first.broker.offsets[&place]);
    let log = taken(second, 0, 2);
    second.mail(Mail::Slots(ToSlots::TakeOver(vec![log])));
    notice(second, |notice| matches!(notice, Notice::SlotTaken(0)));
}

/// A record that was acknowledged does not come again after a crash, though it is read again, and one that was not comes with DUP, once.
#[test]
fn what_a_session_has_does_not_come_again_after_a_crash() {
    let mut world = started(0..2, "");
    let id = client(0);
    let conn = subscriber(&mut world, &id);
    write(&mut world, &["one", "two"]);
    assert_eq!(take(&mut world, conn, Vec::new()), ["one", "two"]);
    write(&mut world, &["three"]);
    assert_eq!(heard(&mut world, conn), ["t three q2 id 3"]);
    crash(&mut world, 0..2, 2);
    assert_eq!(comes_back(&mut world, &id), ["three+"]);
    write(&mut world, &["four"]);
    crash(&mut world, 0..2, 3);
    assert_eq!(comes_back(&mut world, &id), ["four"]);
    crash(&mut world, 0..2, 4);
    assert_eq!(comes_back(&mut world, &id), [""; 0]);
}

/// A client that has acknowledged all leaves. What is over is still in the log.
#[test]
fn what_comes_after_all_was_acknowledged_is_not_taken_for_what_is_over() {
    let mut world = started(0..1, "");
    let id = client(0);
    let (conn, ..) = connect(&mut world, &id);
    subscribe(&mut world, conn, b't', 1);
    write(&mut world, &["one"]);
    assert_eq!(heard(&mut world, conn), ["t one q1 id 1"]);
    world.bytes(conn, &[0x40, 2, 0, 1]);
    world.bytes(conn, &[0xE0, 1, 0]);
    write(&mut world, &["two"]);
    world.turn();
    crash(&mut world, 0..1, 2);
    let got = comes_back(&mut world, &id);
    assert!(got.iter().any(|payload| payload.starts_with("two")), "{got:?}");
}

/// The crash comes at each moment in which the client has been told something.
#[test]
fn a_crash_at_any_moment_gives_a_message_once_at_qos_2() {
    for turns in 0..12 {
        let mut world = started(0..1, "");
        let id = client(0);
        let conn = subscriber(&mut world, &id);
        write(&mut world, &["one", "two", "three"]);
        let (mut has, mut steps) = (Vec::new(), 0);
        // The client remembers what it has under which identifier.
        let mut held: Vec<(String, String)> = Vec::new();
        while steps < turns {
            steps += 1;
            world.advance(Duration::from_millis(20));
            let letters = world.table.posted.replace(Vec::new()).unwrap_or_default();
            letters.into_iter().for_each(|(_, letter)| world.mail(letter));
            let said = words(Version::V5, &world.sent(conn));
            step(&mut world, conn, said, (&mut has, &mut held));
        }
        crash(&mut world, 0..1, 2);
        let (conn, _, mut said) = connect(&mut world, &id);
        for _ in 0..20 {
            step(&mut world, conn, said, (&mut has, &mut held));
            let bytes = until_quiet(&mut world, conn);
            said = words(Version::V5, &bytes);
        }
        assert_eq!(has, ["one", "two", "three"], "after {turns} turns");
    }
}

/// What a client does at QoS 2 that keeps its state: hands on what it does not hold under its identifier.
pub(crate) fn step(
    world: &mut World,
    conn: ConnId,
    said: Vec<String>,
    (has, held): (&mut Vec<String>, &mut Vec<(String, String)>),
) {
    for packet in said {
        let parts: Vec<&str> = packet.split(' ').collect();
        let id = |text: &str| text.parse::<u16>().expect("an identifier").to_be_bytes();
        match parts[..] {
            ["pubrel", of, ..] => {
                held.retain(|(known, _)| known != of);
                world.bytes(conn, &[0x70, 2, id(of)[0], id(of)[1]]);
            }
            [_, payload, "q2", "id", of, ..] => {
                if !held.iter().any(|(known, _)| known == of) {
                    held.push((of.to_owned(), payload.to_owned()));
                    has.push(payload.to_owned());
                }
                world.bytes(conn, &[0x50, 2, id(of)[0], id(of)[1]]);
            }
            _ => panic!("{packet}"),
        }
    }
}

/// A slot goes to a process whose reader is further on: nothing is missing, and nothing comes twice to anybody.
#[test]
fn a_slot_that_moves_is_given_what_lies_between() {
    for is_orderly in [true, false] {
        let [moving, staying] = [client(0), client(2)];
        let mut first = started(0..2, "");
        let conn = subscriber(&mut first, &moving);
        write(&mut first, &["one", "two"]);
        assert_eq!(take(&mut first, conn, Vec::new()), ["one", "two"]);
        if is_orderly {
            first.mail(Mail::Slots(ToSlots::Release(0)));
            notice(&mut first, |notice| matches!(notice, Notice::SlotReleased(0)));
        }
        let mut second = started(2..4, "");
        second.slots.set_given_out();
        let stays = subscriber(&mut second, &staying);
        write(&mut second, &["one", "two", "three", "four", "five"]);
        assert_eq!(take(&mut second, stays, Vec::new()), ["one", "two", "three", "four", "five"]);
        takes_over(&mut second, &first);
        assert_eq!(comes_back(&mut second, &moving), ["three", "four", "five"], "orderly: {is_orderly}");
        write(&mut second, &["six"]);
        assert_eq!(take(&mut second, stays, Vec::new()), ["six"], "orderly: {is_orderly}");
        assert_eq!(comes_back(&mut second, &moving), ["six+"], "its connection before has had it");
        crash(&mut second, 2..4, 2);
        assert_eq!(comes_back(&mut second, &staying), [""; 0]);
    }
}

/// A message for many receivers is given out later than one after it. A crash in between: who has either does not get it again, and the others get it.
#[test]
fn a_message_for_many_that_others_have_passed_comes_once() {
    let mut world = started(0..1, "");
    let many: Vec<String> = (0..)
        .map(|number| format!("many-{number}"))
        .filter(|id| forebay::broker::router::owner(id, 64) == 0)
        .take(40)
        .collect();
    let conns: Vec<ConnId> = many
        .iter()
        .map(|id| {
            let (conn, ..) = connect(&mut world, id);
            subscribe(&mut world, conn, b'w', 2);
            conn
        })
        .collect();
    let quick = client(0);
    let conn = subscriber(&mut world, &quick);
    world.broker.keys.insert(0, b"w".to_vec());
    write(&mut world, &["wide", "after"]);
    // Each turn makes one copy of the first message.
    let mut after = Vec::new();
    for _ in 0..2_000 {
        let now = world.table.now;
        if let Some(token) = world.table.next_timer(now) {
            world.core.on_timer(&mut world.table, token);
        } else {
            world.table.now = now.after(Duration::from_millis(1));
        }
        world.turns(1);
        let said = words(Version::V5, &world.sent(conn));
        after.extend(said.into_iter().filter(|packet| packet.contains("after")));
        if !after.is_empty() {
            break;
        }
    }
    assert_eq!(after, ["t after q2 id 1"]);
    let mut had: Vec<bool> = conns.iter().map(|conn| !world.sent(*conn).is_empty()).collect();
    assert!(had.contains(&false), "it is given out later");
    crash(&mut world, 0..1, 2);
    for (id, had) in many.iter().zip(&mut had) {
        let got = comes_back(&mut world, id);
        assert!(got == ["wide"] || got == ["wide+"], "{id}, had {had}: {got:?}");
    }
    assert_eq!(comes_back(&mut world, &quick), ["after+"]);
    crash(&mut world, 0..1, 3);
    for id in many.iter().chain([&quick]) {
        assert_eq!(comes_back(&mut world, id), [""; 0], "{id}");
    }
}

/// What a queue has no place for holds its partition back, and is in the log all the same.
#[test]
fn what_a_queue_has_no_place_for_comes_once_after_a_crash() {
    let mut world = started(0..1, "[delivery]\nqueue_messages_max = 2\n");
    let [slow, quick] = [
        client(0),
        (0..).map(|n| format!("quick-{n}")).find(|id| forebay::broker::router::owner(id, 64) == 0).expect("one"),
    ];
    // The slow client takes one message at a time, and acknowledges none.
    let (conn, ..) = {
        let conn = world.connect_v5(&slow, &[0, 0, 0, 8, 0x11, 0, 0, 0x0E, 0x10, 0x21, 0, 1]);
        assert!(heard(&mut world, conn)[0].starts_with("connack"));
        (conn,)
    };
    subscribe(&mut world, conn, b't', 2);
    let fast = subscriber(&mut world, &quick);
    let all: Vec<String> = (0..8).map(|number| number.to_string()).collect();
    write(&mut world, &all.iter().map(String::as_str).collect::<Vec<_>>());
    assert_eq!(take(&mut world, fast, Vec::new()), all);
    crash(&mut world, 0..1, 2);
    let got = comes_back(&mut world, &slow);
    let got: Vec<String> = got.iter().map(|payload| payload.trim_end_matches('+').to_owned()).collect();
    assert_eq!(got, all, "in order, and once");
    assert_eq!(comes_back(&mut world, &quick), [""; 0]);
}

/// What a full queue has dropped does not come behind later messages after a crash, though its record is read again.
#[test]
fn what_was_dropped_does_not_come_behind_later_messages() {
    // Positions are written now and then.
    for delay in (0..2_400).step_by(300) {
        let mut world = started(0..1, "[delivery]\nqueue_messages_max = 2\nwhen_full = \"drop-newest\"\n");
        let id = client(0);
        let (conn, ..) = connect(&mut world, &id);
        subscribe(&mut world, conn, b't', 1);
        world.advance(Duration::from_millis(delay));
        world.bytes(conn, &[0xE0, 1, 0]);
        write(&mut world, &["one", "two", "three"]);
        until(&mut world, |world| (world.number(M::CopiesQueueFull) == 1).then_some(()));
        let (conn, _, mut said) = connect(&mut world, &id);
        write(&mut world, &["four"]);
        while !said.iter().any(|packet| packet.contains("four")) {
            said.extend(heard(&mut world, conn));
        }
        assert!(!said.iter().any(|packet| packet.contains("three")), "{said:?}");
        crash(&mut world, 0..1, 2);
        let got = comes_back(&mut world, &id);
        assert_eq!(got, ["one+", "two+", "four+"], "after {delay} ms");
    }
}

#[derive(Debug)]
struct EndsAtOnce;
impl Rules for EndsAtOnce {
    fn may_end_copy(&self, _: bool) -> bool {
        true
    }
}

#[derive(Debug)]
struct GivesAgain;
impl Rules for GivesAgain {
    fn passes_over(&self, _: bool) -> bool {
        false
    }
}

#[derive(Debug)]
struct StaysWhereItIs;
impl Rules for StaysWhereItIs {
    fn reads_from(&self, committed: Option<i64>, needed: Option<i64>) -> Option<i64> {
        committed.or(needed)
    }
}

/// Each rule is needed: without it one of the cases above is seen.
#[test]
fn without_its_rules_a_message_comes_twice_or_never() {
    for rules in [&KEPT as &'static dyn Rules, &EndsAtOnce, &GivesAgain] {
        // Positions are written now and then without a copy that is over, too.
        let delays = [0, 1_700, 3_400];
        let doubled = delays.map(|delay| {
            let mut world = started_under(rules, 0..1, "");
            let id = client(0);
            let conn = subscriber(&mut world, &id);
            world.advance(Duration::from_millis(delay));
            write(&mut world, &["one"]);
            assert_eq!(heard(&mut world, conn), ["t one q2 id 1"]);
            world.bytes(conn, &[0x50, 2, 0, 1]);
            assert!(heard(&mut world, conn)[0].starts_with("pubrel"));
            world.bytes(conn, &[0x70, 2, 0, 1]);
            crash(&mut world, 0..1, 2);
            let got = comes_back(&mut world, &id);
            assert!(got.is_empty() || got == ["one"], "{rules:?}: {got:?}");
            !got.is_empty()
        });
        assert_eq!(doubled.contains(&true), !std::ptr::addr_eq(rules, &KEPT), "{rules:?}: {doubled:?}");
    }
    let mut first = started(0..1, "");
    let conn = subscriber(&mut first, &client(0));
    write(&mut first, &["one"]);
    assert_eq!(take(&mut first, conn, Vec::new()), ["one"]);
    let mut second = started_under(&StaysWhereItIs, 2..3, "");
    let stays = subscriber(&mut second, &client(2));
    write(&mut second, &["one", "two"]);
    assert_eq!(take(&mut second, stays, Vec::new()), ["one", "two"]);
    takes_over(&mut second, &first);
    assert_eq!(comes_back(&mut second, &client(0)), [""; 0], "it is lost");
}
