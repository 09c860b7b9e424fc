//! An instance among others that has not heard of its group for too long (C4): it welcomes nobody and sends no rows of routes until it has.

use std::time::Duration;

use forebay::broker::router::{Place, owner};
use forebay::membership::SlotSet;
use forebay::metrics::event::{Field, Kind as EventKind};
use forebay::metrics::journal::Filter;
use forebay::mqtt::encode;
use forebay::mqtt::packet::{Connect, Packet, QoS, Version, Will};
use forebay::mqtt::property::Properties;
use forebay::rules::{KEPT, Rules};
use forebay::runtime::seam::{Closed, ConnId, Monotonic, Shard};
use forebay::shard::mail::{Mail, Notice, ToSlots};

use super::slots::{BROKER, client, heard, notice, started, started_under, taken, two_connected};
use super::world::{World, publish};

const MESSAGES: &str = "mqtt-messages";

/// A PUBLISH of 5.0 to `t` at QoS 2.
const EXACTLY_ONCE: &[u8] = &[0x34, 7, 0, 1, b't', 0, 2, 0, b'x'];

/// Ends a connection as its client's end of it.
fn lose(world: &mut World, conn: ConnId) {
    world.table.wire(conn).closed = true;
    world.core.on_close(&mut world.table, conn, Closed::Peer);
    world.turn();
}

/// A PUBLISH of 5.0 to `t`, at QoS 1; without a packet identifier at QoS 0.
fn publish_v5(packet_id: Option<u16>) -> Vec<u8> {
    let Some(packet_id) = packet_id else { return vec![0x30, 5, 0, 1, b't', 0, b'x'] };
    let mut packet = Vec::new();
    publish("t", packet_id, b"x", &mut packet);
    // No properties, after topic and packet identifier.
    packet.insert(2 + 2 + 1 + 2, 0);
    packet[1] += 1;
    packet
}

/// A CONNECT that has waited is older than one that the client has sent since, and is refused if that was served first: nobody may be at its other end.
#[test]
fn a_connect_that_has_waited_does_not_take_over_from_a_later_one() {
    let mut world = started(0..2);
    world.slots.set_given_out();
    let [twice, once] = [client(0), client(1)];
    world.peers.speak_until(Monotonic(1));
    let [old, other] = [&twice, &once].map(|id| world.connect_kept_v5(id));
    for _ in 0..20 {
        world.advance(Duration::from_millis(100));
    }
    assert!(world.sent(old).is_empty() && world.sent(other).is_empty());
    world.peers.speak_until(Monotonic::NEVER);
    let new = world.connect_kept_v5(&twice);
    assert!(heard(&mut world, new)[0].starts_with("connack 0 0x00"));
    assert_eq!(heard(&mut world, old), ["connack 0 0x88"]);
    assert!(!world.table.wire(new).closed);
    assert!(heard(&mut world, other)[0].starts_with("connack 0 0x00"), "nobody else has its name");
}

/// A CONNECT that a process reads after it has stood still may have come at any time since it heard of its group: it is older than one that was served since.
#[test]
fn a_connect_that_a_still_process_finds_does_not_take_over_from_a_later_one() {
    let mut world = started(0..2);
    world.slots.set_given_out();
    let [twice, once] = [client(0), client(1)];
    world.peers.speak_until(Monotonic::NEVER);
    for _ in 0..200 {
        world.advance(Duration::from_millis(100));
    }
    let before = world.connect_kept_v5(&once);
    assert!(heard(&mut world, before)[0].starts_with("connack 0 0x00"));
    for _ in 0..200 {
        world.advance(Duration::from_millis(100));
    }
    let until = world.table.now;
    for _ in 0..20 {
        world.advance(Duration::from_millis(100));
    }
    let new = world.connect_kept_v5(&twice);
    assert!(heard(&mut world, new)[0].starts_with("connack 0 0x00"));
    world.peers.speak_until(until);
    let [old, again] = [&twice, &once].map(|id| world.connect_kept_v5(id));
    assert!(world.sent(old).is_empty() && world.sent(again).is_empty());
    world.peers.speak_until(Monotonic::NEVER);
    for _ in 0..2 {
        world.advance(Duration::from_millis(100));
    }
    assert_eq!(heard(&mut world, old), ["connack 0 0x88"]);
    assert!(!world.table.wire(new).closed);
    assert!(heard(&mut world, again)[0].starts_with("connack 1 0x00"), "its client was here long before");
}

/// The same where the process is heard of by its group again at once: it has stood still for less than `session_timeout`.
#[test]
fn a_connect_that_a_process_finds_after_a_short_stop_does_not_take_over_from_a_later_one() {
    for is_still in [true, false] {
        let mut world = started(0..2);
        world.slots.set_given_out();
        world.peers.speak_until(Monotonic::NEVER);
        world.peers.ran(world.table.now);
        world.advance(Duration::from_secs(2));
        world.peers.ran(world.table.now);
        let new = world.connect_kept_v5(&client(0));
        assert!(heard(&mut world, new)[0].starts_with("connack 0 0x00"));
        world.advance(Duration::from_millis(1_500));
        if !is_still {
            [1, 2].iter().for_each(|_| world.peers.ran(world.table.now));
            world.advance(Duration::from_millis(900));
            world.peers.ran(world.table.now);
            world.advance(Duration::from_millis(900));
        }
        let here = world.slots.at(0);
        world.slots.set(0, Place::Nobody);
        let old = world.connect_kept_v5(&client(0));
        assert!(world.sent(old).is_empty());
        world.peers.ran(world.table.now);
        world.slots.set(0, here);
        (0..5).for_each(|_| world.advance(Duration::from_millis(100)));
        let said = heard(&mut world, old);
        assert_eq!(
            (said[0].starts_with("connack 0 0x88"), world.table.wire(new).closed),
            (is_still, !is_still),
            "{said:?}"
        );
    }
}

#[derive(Debug)]
struct SpeaksUnheard;
impl Rules for SpeaksUnheard {
    fn is_silent(&self, _: bool) -> bool {
        false
    }
}

/// The rows in the topic of messages.
fn rows(world: &World) -> usize {
    world.broker.records.iter().filter(|(topic, ..)| topic == MESSAGES).count()
}

/// An instance that has not heard of its group for two seconds, with the clients of two slots, which have published, and one that has connected since.
fn unheard(rules: &'static dyn Rules) -> (World, [ConnId; 2], ConnId) {
    let mut world = started_under(rules, BROKER, 0..2);
    world.slots.set_given_out();
    let [lost, staying] = [client(0), client(1)];
    let conns = two_connected(&mut world, [&lost, &staying]);
    world.peers.speak_until(Monotonic(1));
    // It may be another instance's client by now: it waits, as for a slot of nobody.
    let other = (0..).map(|number| format!("late-{number}")).find(|id| owner(id, 64) == 1).expect("there is one");
    let late = world.connect_v5(&other, &[2, 0, 0, 0]);
    for conn in &conns {
        world.bytes(*conn, &publish_v5(Some(1)));
        world.bytes(*conn, &publish_v5(None));
    }
    for _ in 0..20 {
        world.advance(Duration::from_millis(100));
    }
    (world, conns, late)
}

/// Another shard has heard of the group again, before this one has heard that a slot was lost: it sends nothing of that slot.
#[test]
fn a_shard_is_silent_until_it_has_dropped_what_was_lost() {
    let (mut world, conns, late) = unheard(&KEPT);
    let loss = world.peers.has_lost();
    world.peers.speak_until(Monotonic::NEVER);
    for _ in 0..20 {
        world.advance(Duration::from_millis(100));
    }
    assert_eq!((rows(&world), world.sent(late).len()), (0, 0));
    world.mail(Mail::Slots(ToSlots::Lost { slots: SlotSet::from_iter([0]), at: world.table.now, loss }));
    assert!(world.table.wire(conns[0]).closed && world.sent(conns[0]).is_empty());
    assert_eq!(heard(&mut world, conns[1]), ["puback 1 0x00"]);
    assert_eq!((rows(&world), heard(&mut world, late)), (2, vec!["connack 0 0x00".to_owned()]));
}

/// The first shard has had no turn for a second: the process may have stood still, and another one of its name may have its slots. Another shard sends nothing
/// until the first one has had a turn.
#[test]
fn a_shard_of_a_process_that_stood_still_is_silent() {
    let mut world = started(0..2);
    world.slots.set_given_out();
    let conns = two_connected(&mut world, [&client(0), &client(1)]);
    world.peers.speak_until(Monotonic::NEVER);
    world.peers.ran(world.table.now);
    world.advance(Duration::from_secs(1));
    world.bytes(conns[0], &publish_v5(None));
    (0..5).for_each(|_| world.advance(Duration::from_millis(100)));
    assert_eq!(rows(&world), 0);
    world.peers.ran(world.table.now);
    (0..5).for_each(|_| world.advance(Duration::from_millis(100)));
    assert_eq!(rows(&world), 1);
}

/// The rule is needed: without it both are seen.
#[test]
fn an_instance_that_speaks_unheard_is_noticed() {
    let (mut world, _, late) = unheard(&SpeaksUnheard);
    assert!(rows(&world) > 0 && !world.sent(late).is_empty());
}

#[test]
fn a_silent_instance_welcomes_nobody_and_what_it_has_of_lost_slots_is_not_sent() {
    let (mut world, conns, late) = unheard(&KEPT);
    assert!(world.sent(late).is_empty(), "a CONNACK of a process that may be none of the instances any more");
    assert_eq!(rows(&world), 0, "rows of a process that may be none of the instances any more");
    // A letter from before the slot was taken up says nothing of it.
    world.mail(Mail::Slots(ToSlots::Lost { slots: SlotSet::from_iter([0]), at: Monotonic(0), loss: 0 }));
    assert!(!world.table.wire(conns[0]).closed);
    // The group has gone on without it, with the other slot left to it.
    world.mail(Mail::Slots(ToSlots::Drop(SlotSet::from_iter([0]))));
    assert!(world.table.wire(conns[0]).closed && world.sent(conns[0]).is_empty(), "not a word");
    world.peers.speak_until(Monotonic::NEVER);
    assert_eq!(heard(&mut world, conns[1]), ["puback 1 0x00"]);
    assert_eq!(heard(&mut world, late), ["connack 0 0x00"]);
    for _ in 0..20 {
        world.advance(Duration::from_millis(100));
    }
    assert_eq!(
        rows(&world),
        2,
        "what the client of the lost slot had published, it publishes again elsewhere, or it is older than what it has published there"
    );
    world.journal.collect();
    let events = world.journal.page(&Filter::default()).events;
    let reasons: Vec<_> = events
        .iter()
        .filter(|(_, event)| event.kind == EventKind::RowsDropped)
        .map(|(_, event)| event.text(Field::Reason))
        .collect();
    assert_eq!(
        reasons,
        [Some("another instance serves their publishers now, which publish them again there")],
        "no spool was full"
    );
}

#[derive(Debug)]
struct SendsForOthers;
impl Rules for SendsForOthers {
    fn withdraws_rows(&self) -> bool {
        false
    }
}

#[derive(Debug)]
struct SendsForEnded;
impl Rules for SendsForEnded {
    fn withdraws_ended(&self) -> bool {
        false
    }
}

/// What a process that stood still reads first: the messages of two clients whose sessions end with their connections, and the ends of these. Then it hears that
/// it has lost one of their slots. Returns the rows that it sends.
fn thawed(rules: &'static dyn Rules) -> usize {
    let mut world = started_under(rules, BROKER, 0..2);
    world.slots.set_given_out();
    let conns = [client(0), client(1)].map(|id| world.device_v5(&id));
    world.peers.speak_until(Monotonic(1));
    for conn in conns {
        for packet in [publish_v5(Some(1)), publish_v5(None), EXACTLY_ONCE.to_vec()] {
            world.feed(conn, &packet);
        }
        lose(&mut world, conn);
    }
    for _ in 0..20 {
        world.advance(Duration::from_millis(100));
    }
    assert_eq!(rows(&world), 0, "it is silent");
    world.mail(Mail::Slots(ToSlots::Drop(SlotSet::from_iter([0]))));
    world.peers.speak_until(Monotonic::NEVER);
    for _ in 0..20 {
        world.advance(Duration::from_millis(100));
    }
    rows(&world)
}

/// Their clients have connected elsewhere since, and may have published later messages there.
#[test]
fn finding_q3_what_sessions_that_have_ended_had_published_is_not_sent_when_their_slot_is_lost() {
    assert_eq!(thawed(&KEPT), 3, "the rows of the client whose slot has stayed");
}

/// The rule is needed: without it messages at QoS 1 and 2 come after those that their client has published elsewhere.
#[test]
fn rows_of_ended_sessions_are_noticed() {
    assert_eq!(thawed(&SendsForEnded), 5);
}

/// The rule K12 is needed: without it all rows of the lost slot are sent.
#[test]
fn rows_of_a_lost_slot_are_noticed() {
    assert_eq!(thawed(&SendsForOthers), 6);
}

/// A client of 5.0 with a will, whose session ends with its connection.
fn with_will(world: &mut World, client_id: &str) -> ConnId {
    let (payload, properties) = (&b"gone"[..], Properties::EMPTY);
    let will = Will { qos: QoS::AtLeastOnce, retain: false, topic: "w", payload, properties };
    let connect = Connect { will: Some(will), clean_start: true, ..crate::hello::hello(Version::V5, client_id) };
    let mut bytes = Vec::new();
    encode::packet(Version::V5, &Packet::Connect(connect), &mut bytes).expect("encoded");
    let conn = world.accept();
    world.bytes(conn, &bytes);
    assert!(heard(world, conn)[0].starts_with("connack 0 0x00"));
    conn
}

fn pass(world: &mut World) {
    for _ in 0..20 {
        world.advance(Duration::from_millis(100));
    }
}

/// The first slot goes to the next owner of its log, in this case to the same shard, which has lost it before that.
fn slot_is_taken_again(world: &mut World, epoch: i16) {
    world.mail(Mail::Slots(ToSlots::Drop(SlotSet::from_iter([0]))));
    let log = taken(world, 0, epoch);
    world.notices();
    world.mail(Mail::Slots(ToSlots::TakeOver(vec![log])));
    notice(world, |notice| matches!(notice, Notice::SlotTaken(0)));
    pass(world);
}

/// The next owner publishes it, once, and not that of a client that has taken its leave.
#[test]
fn finding_q45_a_will_of_a_session_that_ends_with_its_connection_is_in_the_log_of_its_slot() {
    for is_gone in [false, true] {
        let mut world = started(0..2);
        world.slots.set_given_out();
        let conn = with_will(&mut world, &client(0));
        pass(&mut world);
        if is_gone {
            // DISCONNECT, 0x00.
            world.bytes(conn, &[0xE0, 0]);
            pass(&mut world);
        }
        slot_is_taken_again(&mut world, 2);
        assert_eq!(rows(&world), usize::from(!is_gone));
        slot_is_taken_again(&mut world, 3);
        assert_eq!(rows(&world), usize::from(!is_gone), "once");
    }
}

/// A living process publishes the will and removes it from the log.
#[test]
fn finding_q45_a_will_that_was_published_is_not_found_by_the_next_owner() {
    let mut world = started(0..2);
    world.slots.set_given_out();
    let conn = with_will(&mut world, &client(0));
    pass(&mut world);
    lose(&mut world, conn);
    pass(&mut world);
    assert_eq!(rows(&world), 1);
    slot_is_taken_again(&mut world, 2);
    assert_eq!(rows(&world), 1);
}

/// A process that stood still reads the end of a client's connection first, and has lost its slot: the next owner has published the will, and the client may have
/// said since that it is there again.
#[test]
fn finding_q3_a_silent_instance_publishes_no_will_of_a_slot_that_it_has_lost() {
    let mut world = started(0..2);
    world.slots.set_given_out();
    let conns = [client(0), client(1)].map(|id| with_will(&mut world, &id));
    pass(&mut world);
    world.peers.speak_until(Monotonic(1));
    conns.into_iter().for_each(|conn| lose(&mut world, conn));
    pass(&mut world);
    world.mail(Mail::Slots(ToSlots::Drop(SlotSet::from_iter([0]))));
    world.peers.speak_until(Monotonic::NEVER);
    pass(&mut world);
    assert_eq!(rows(&world), 1, "that of the slot that has stayed");
}
