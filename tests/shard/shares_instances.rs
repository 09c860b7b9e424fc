//! Shares of several instances, at one of them: what becomes of a record when the log of its member's slot goes, when a client does not acknowledge, when Kafka
//! refuses the share's group, and when the process goes before a share has its place.

use std::time::Duration;

use forebay::broker::mail::{HandedOver, KeptBy, ToBroker};
use forebay::config;
use forebay::membership::SlotSet;
use forebay::metrics::event::Kind as EventKind;
use forebay::metrics::spec::ShardMetric as M;
use forebay::mqtt::packet::PacketType;
use forebay::runtime::seam::{ConnId, Monotonic};
use forebay::session::Claimed;
use forebay::shard::mail::{Mail, Notice, ToSlots};
use kafka_protocol::messages::ApiKey;

use super::conformance::words;
use super::slots::{TOPIC, begin, client, heard, notice, taken, until};
use super::world::World;
use forebay::mqtt::packet::Version;

const SHARE: &str = "$share/g/t";
const MESSAGES: &str = "mqtt-messages";
/// The groups of shares.
const GROUPS: &str = "forebay-share-";
/// GROUP_AUTHORIZATION_FAILED, COORDINATOR_LOAD_IN_PROGRESS and UNKNOWN_MEMBER_ID.
const FORBIDDEN: i16 = 30;
const LOADING: i16 = 14;
const UNKNOWN_MEMBER: i16 = 25;

/// An instance with the slots 0 and 1; records have this QoS, and members two seconds.
fn started(qos: u8) -> World {
    let text = format!(
        "[kafka.main]\nbootstrap = \"127.0.0.1:9092\"\n[broker]\nname = \"a\"\nqos = {qos}\n[broker.link]\nbind = \"127.0.0.1:0\"\n\
         [delivery]\nshare_ack_timeout = \"2s\"\n"
    );
    let mut config = config::parse(&text, "test.toml").unwrap_or_else(|problems| panic!("{problems}"));
    // The source of routes needs none here.
    config.sources[0].group = String::new();
    config.sources[0].window_messages = 4;
    let mut world = World::of(config);
    begin(&mut world, 0..2, 1);
    world.slots.set_given_out();
    world.broker.key = Some(b"t".to_vec());
    world
}

fn about_share(kind: u8, qos: Option<u8>) -> Vec<u8> {
    let mut packet = vec![kind, 0, 0, 9, 0, 0, u8::try_from(SHARE.len()).expect("short")];
    packet.extend_from_slice(SHARE.as_bytes());
    packet.extend(qos);
    packet[1] = u8::try_from(packet.len() - 2).expect("short");
    packet
}

fn subscribe(world: &mut World, conn: ConnId, qos: u8) {
    world.bytes(conn, &about_share(0x82, Some(qos)));
    assert_eq!(heard(world, conn), [format!("suback 9 [{qos}]")]);
}

/// A member with a session that is kept.
fn kept(world: &mut World, slot: usize, qos: u8) -> ConnId {
    let conn = world.connect_kept_v5(&client(slot));
    assert!(heard(world, conn)[0].starts_with("connack 0 0x00"));
    subscribe(world, conn, qos);
    conn
}

/// A member with a session that ends with its connection.
fn passing(world: &mut World, slot: usize, qos: u8) -> ConnId {
    let conn = world.connect_v5(&client(slot), &[2, 0, 0, 0]);
    assert!(heard(world, conn)[0].starts_with("connack 0 0x00"));
    subscribe(world, conn, qos);
    conn
}

/// The group has given its partitions to this instance.
fn until_given(world: &mut World) {
    until(world, |world| (world.number(M::SharePartitions) > 0).then_some(()));
}

fn publish(world: &mut World, payloads: &[&str]) {
    let records = world.broker.readable.entry((MESSAGES.to_owned(), 0)).or_default();
    records.extend(payloads.iter().map(|payload| payload.as_bytes().to_vec()));
}

/// Where the group of the share is in the partition with the records.
fn committed(world: &World) -> Option<i64> {
    let groups = world.broker.groups.as_ref().expect("it has groups");
    let mut of = groups
        .committed
        .iter()
        .filter(|((group, topic, partition), _)| group.starts_with(GROUPS) && topic == MESSAGES && *partition == 0);
    of.next().map(|(_, offset)| *offset)
}

fn refuse(world: &mut World, key: ApiKey, code: i16) {
    world.broker.groups.as_mut().expect("it has groups").refuses = vec![(key, GROUPS, code)];
}

fn ack(world: &mut World, conn: ConnId, kind: PacketType, id: u16) {
    let first = if kind == PacketType::PubRel { 2 } else { 0 } | (kind as u8) << 4;
    let [high, low] = id.to_be_bytes();
    world.bytes(conn, &[first, 2, high, low]);
}

/// Lets this time pass, and says what a client has heard meanwhile.
fn hears_within(world: &mut World, conn: ConnId, time: Duration) -> Vec<String> {
    let until: Monotonic = world.table.now.after(time);
    let mut bytes = Vec::new();
    while world.table.now < until {
        world.advance(Duration::from_millis(50));
        while let Some(letters) = world.table.posted.replace(Vec::new()).filter(|letters| !letters.is_empty()) {
            letters.into_iter().for_each(|(_, letter)| world.mail(letter));
        }
        bytes.extend(world.sent(conn));
    }
    words(Version::V5, &bytes)
}

/// A message of QoS 2 is on its way to the log of its member's slot, and was not sent, when the slot goes: another member gets it.
#[test]
fn what_the_log_of_a_slot_that_goes_has_not_acknowledged_goes_to_another_member() {
    let mut world = started(2);
    let [_going, staying] = [0, 1].map(|slot| kept(&mut world, slot, 2));
    until_given(&mut world);
    world.broker.silent_to.insert(TOPIC.to_owned());
    publish(&mut world, &["one", "two"]);
    until(&mut world, |world| (world.number(M::ShareOpen) == 2).then_some(()));
    assert!(hears_within(&mut world, staying, Duration::from_secs(1)).is_empty(), "no log has them");
    let mut slots = SlotSet::default();
    slots.insert(0);
    world.mail(Mail::Slots(ToSlots::Drop(slots)));
    world.broker.silent_to.clear();
    let mut had = Vec::new();
    until(&mut world, |world| {
        let bytes = world.sent(staying);
        had.extend(words(Version::V5, &bytes));
        (had.len() == 2).then_some(())
    });
    had.sort();
    assert!(had[0].starts_with("t one q2") && had[1].starts_with("t two q2"), "{had:?}");
    assert!(hears_within(&mut world, staying, Duration::from_secs(2)).is_empty(), "each came once");
}

/// What was durable goes with the slot, and nobody else gets it.
#[test]
fn what_the_log_of_a_slot_that_goes_has_goes_along() {
    let mut world = started(2);
    let going = kept(&mut world, 0, 2);
    until_given(&mut world);
    publish(&mut world, &["one"]);
    assert_eq!(heard(&mut world, going), ["t one q2 id 1"]);
    until(&mut world, |world| (committed(world) == Some(1)).then_some(()));
    let staying = kept(&mut world, 1, 2);
    let mut slots = SlotSet::default();
    slots.insert(0);
    world.mail(Mail::Slots(ToSlots::Drop(slots)));
    assert!(hears_within(&mut world, staying, Duration::from_secs(3)).is_empty());
}

/// A message of QoS 2 that has waited for a member goes to that one alone.
#[test]
fn what_has_waited_for_a_member_is_over_when_it_has_it() {
    let mut world = started(2);
    // Receive Maximum 1.
    let conn = world.connect_v5(&client(0), &[0, 0, 0, 8, 0x11, 0, 0, 0x0E, 0x10, 0x21, 0, 1]);
    assert!(heard(&mut world, conn)[0].starts_with("connack 0 0x00"));
    subscribe(&mut world, conn, 2);
    until_given(&mut world);
    publish(&mut world, &["one", "two"]);
    assert_eq!(heard(&mut world, conn), ["t one q2 id 1"]);
    assert!(hears_within(&mut world, conn, Duration::from_secs(1)).is_empty(), "one at a time");
    for (id, next) in [(1, vec!["t two q2 id 2".to_owned()]), (2, Vec::new())] {
        ack(&mut world, conn, PacketType::PubRec, id);
        let said = heard(&mut world, conn);
        assert!(said[0].starts_with(&format!("pubrel {id}")), "{said:?}");
        ack(&mut world, conn, PacketType::PubComp, id);
        assert_eq!(hears_within(&mut world, conn, Duration::from_secs(2)), next);
    }
    until(&mut world, |world| (committed(world) == Some(2)).then_some(()));
    assert_eq!(world.number(M::ShareOpen), 0);
}

/// The same for a member with a lower QoS than the message.
#[test]
fn what_has_waited_for_a_member_of_qos_0_is_over_when_it_was_sent() {
    let mut world = started(1);
    let conn = world.connect_v5(&client(0), &[2, 0, 0, 3, 0x21, 0, 1]);
    assert!(heard(&mut world, conn)[0].starts_with("connack 0 0x00"));
    subscribe(&mut world, conn, 1);
    until_given(&mut world);
    publish(&mut world, &["one", "two"]);
    assert_eq!(heard(&mut world, conn), ["t one q1 id 1"]);
    until(&mut world, |world| (world.number(M::ShareQueuedMessages) == 1).then_some(()));
    let other = world.connect_v5(&client(1), &[2, 0, 0, 0]);
    assert!(heard(&mut world, other)[0].starts_with("connack 0 0x00"));
    world.bytes(other, &about_share(0x82, Some(0)));
    assert_eq!(hears_within(&mut world, other, Duration::from_secs(1)), ["suback 9 [0]", "t two q0"]);
    assert!(hears_within(&mut world, other, Duration::from_secs(1)).is_empty(), "it came once");
    ack(&mut world, conn, PacketType::PubAck, 1);
    assert!(hears_within(&mut world, conn, Duration::from_secs(1)).is_empty(), "nobody else gets it");
    until(&mut world, |world| (committed(world) == Some(2)).then_some(()));
}

/// A client that has unsubscribed and does not acknowledge holds its partition up no longer than a member.
#[test]
fn what_a_client_that_has_left_does_not_acknowledge_goes_to_another_member() {
    for is_kept in [false, true] {
        let mut world = started(1);
        let leaver = if is_kept { kept(&mut world, 0, 1) } else { passing(&mut world, 0, 1) };
        until_given(&mut world);
        publish(&mut world, &["one"]);
        assert_eq!(heard(&mut world, leaver), ["t one q1 id 1"]);
        let member = passing(&mut world, 1, 1);
        world.bytes(leaver, &about_share(0xA2, None));
        assert!(heard(&mut world, leaver)[0].starts_with("unsuback"));
        let said = hears_within(&mut world, member, Duration::from_secs(5));
        if is_kept {
            // It is the client's own [MQTT-3.10.4-3], and the log of its slot has it.
            assert!(said.is_empty(), "{said:?}");
        } else {
            assert_eq!(said, ["t one q1 id 1"]);
            ack(&mut world, member, PacketType::PubAck, 1);
        }
        until(&mut world, |world| (committed(world) == Some(1)).then_some(()));
        assert_eq!(world.number(M::ShareOpen), 0);
        ack(&mut world, leaver, PacketType::PubAck, 1);
    }
}

/// Nobody else may have what a client was sent at QoS 2, and a session that ends with its connection is gone with its instance: no record waits for it.
#[test]
fn a_client_that_does_not_answer_at_qos_2_holds_nothing_up() {
    let mut world = started(2);
    let conn = passing(&mut world, 0, 2);
    until_given(&mut world);
    publish(&mut world, &["one"]);
    assert_eq!(heard(&mut world, conn), ["t one q2 id 1"]);
    until(&mut world, |world| (world.number(M::ShareOpen) == 1).then_some(()));
    assert!(hears_within(&mut world, conn, Duration::from_secs(1)).is_empty());
    assert_eq!(world.number(M::ShareOpen), 1, "not yet");
    until(&mut world, |world| (committed(world) == Some(1)).then_some(()));
    assert_eq!((world.number(M::ShareReleased), world.told(EventKind::ShareAckTimeout)), (1, 1));
    // It may answer still.
    ack(&mut world, conn, PacketType::PubRec, 1);
    assert!(heard(&mut world, conn)[0].starts_with("pubrel 1"));
}

/// A partition that is read no further says so, and when it is read on.
#[test]
fn a_partition_that_members_hold_up_is_told() {
    let mut world = started(1);
    let conn = passing(&mut world, 0, 1);
    until_given(&mut world);
    publish(&mut world, &["1", "2", "3", "4", "5", "6"]);
    until(&mut world, |world| (world.number(M::SharePartitionsHeld) == 1).then_some(()));
    assert_eq!(world.told(EventKind::ShareTrouble), 1);
    let mut had = 0;
    until(&mut world, |world| {
        let bytes = world.sent(conn);
        for _ in words(Version::V5, &bytes) {
            had += 1;
            ack(world, conn, PacketType::PubAck, had);
        }
        (had == 6 && committed(world) == Some(6)).then_some(())
    });
    assert_eq!((world.number(M::SharePartitionsHeld), world.told(EventKind::ShareTroubleOver)), (0, 1));
}

/// Without the right to the groups of shares a SUBSCRIBE is refused in words, and with it the next one is not.
#[test]
fn a_share_is_refused_where_kafka_refuses_its_group() {
    for key in [ApiKey::OffsetFetch, ApiKey::OffsetCommit] {
        let mut world = started(1);
        refuse(&mut world, key, FORBIDDEN);
        let conn = world.connect_kept_v5(&client(0));
        assert!(heard(&mut world, conn)[0].starts_with("connack 0 0x00"));
        world.bytes(conn, &about_share(0x82, Some(1)));
        assert_eq!(heard(&mut world, conn), ["suback 9 [131]"], "{key:?}");
        assert_eq!((world.told(EventKind::ShareTrouble), world.told(EventKind::SubscribeRefused)), (1, 1));
        assert_eq!((world.number(M::Subscriptions), world.number(M::Shares)), (0, 0));
        world.broker.groups.as_mut().expect("it has groups").refuses.clear();
        subscribe(&mut world, conn, 1);
        until_given(&mut world);
    }
}

/// A group that may not be deleted is told.
#[test]
fn a_group_that_may_not_be_deleted_is_told() {
    let mut world = started(1);
    let conn = passing(&mut world, 0, 1);
    until_given(&mut world);
    refuse(&mut world, ApiKey::DeleteGroups, FORBIDDEN);
    world.bytes(conn, &about_share(0xA2, None));
    assert!(heard(&mut world, conn)[0].starts_with("unsuback"));
    until(&mut world, |world| (world.told(EventKind::ShareTrouble) == 1).then_some(()));
    until(&mut world, |world| (world.number(M::ShareGroups) == 0).then_some(()));
}

/// A membership that was not answered is nowhere: with it the next owner of its slot would give out all that Kafka has.
#[test]
fn a_membership_is_kept_once_its_share_has_its_place() {
    let mut world = started(1);
    refuse(&mut world, ApiKey::OffsetFetch, LOADING);
    let conn = world.connect_kept_v5(&client(0));
    assert!(heard(&mut world, conn)[0].starts_with("connack 0 0x00"));
    world.bytes(conn, &about_share(0x82, Some(1)));
    assert!(hears_within(&mut world, conn, Duration::from_secs(2)).is_empty(), "it has no place");
    assert_eq!(world.number(M::Subscriptions), 1);
    let again = |world: &mut World, epoch: i16| {
        let mut slots = SlotSet::default();
        slots.insert(0);
        world.mail(Mail::Slots(ToSlots::Drop(slots)));
        world.notices();
        let log = taken(world, 0, epoch);
        world.mail(Mail::Slots(ToSlots::TakeOver(vec![log])));
        notice(world, |notice| matches!(notice, Notice::SlotTaken(0)));
        let conn = world.connect_kept_v5(&client(0));
        assert!(heard(world, conn)[0].starts_with("connack 1 0x00"), "its session is there");
        conn
    };
    let conn = again(&mut world, 2);
    assert_eq!(world.number(M::Subscriptions), 0);
    world.broker.groups.as_mut().expect("it has groups").refuses.clear();
    subscribe(&mut world, conn, 1);
    again(&mut world, 3);
    assert_eq!(world.number(M::Subscriptions), 1);
}

/// A message that another shard has handed over comes when the share's partitions are other instances' already: it was taken and has moved, and the ledger
/// has as many ends as beginnings.
#[test]
fn what_is_handed_over_after_its_partition_went_has_moved() {
    let mut world = started(1);
    let conn = kept(&mut world, 0, 1);
    until_given(&mut world);
    refuse(&mut world, ApiKey::Heartbeat, UNKNOWN_MEMBER);
    until(&mut world, |world| (world.number(M::SharePartitions) == 0).then_some(()));
    let message = HandedOver {
        packet: vec![0x30, 5, 0, 1, b't', 0, b'x'],
        since: world.table.now,
        key: 0,
        kept_by: KeptBy::Record(Claimed { shard: 0, reader: 0, number: 0 }),
    };
    let share = std::num::NonZeroU32::MIN;
    world.mail(Mail::Broker(ToBroker::SharedMessages { from: 0, share, messages: vec![message] }));
    assert_eq!((world.number(M::CopiesTaken), world.number(M::CopiesMoved)), (1, 1));
    assert!(hears_within(&mut world, conn, Duration::from_millis(100)).is_empty());
}
